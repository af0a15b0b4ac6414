//! The verbs that change the store. Each runs inside a given transaction.
//!
//! A verb reads and validates first, and writes only when nothing but a failure of the
//! store can stop it.

mod caps;
pub(crate) mod import;
pub(crate) mod issue;
pub(crate) mod keyspace;
pub(crate) mod once;
pub(crate) mod owner;
pub(crate) mod owner_settings;
pub(crate) mod purge;
pub(crate) mod quota;
mod request;
pub(crate) mod restore;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod time;
pub(crate) mod trim;
pub(crate) mod update;

use crate::model::error::Conflict;
use crate::store::life::Life;
use crate::store::record::KeyRecord;
use crate::store::tx::Tx;

/// Refuses a key that is over, and keeps time from running behind that instant.
pub(crate) fn refuse_if_over(tx: &Tx<'_>, key: &KeyRecord) -> Result<(), Conflict> {
    let life = Life::from(key);
    let now = tx.now();
    if life.is_over(now) {
        tx.tell_over();
    }
    if let Some((at, _)) = life.revoked(now) {
        return Err(Conflict::Revoked { key: key.id, at });
    }
    if let Some(expired_at) = life.expired(now) {
        return Err(Conflict::Expired {
            key: key.id,
            expired_at,
        });
    }
    Ok(())
}
