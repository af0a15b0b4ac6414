//! The verbs that change the store, each inside a transaction that is given.
//!
//! A verb reads and validates first, and writes only when nothing can refuse
//! it any more: only the store itself can fail from there on.

pub(crate) mod issue;
pub(crate) mod keyspace;
pub(crate) mod owner;
pub(crate) mod purge;
pub(crate) mod quota;
pub(crate) mod restore;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod trim;
pub(crate) mod update;

use crate::clock::Timestamp;
use crate::error::Refusal;
use crate::policy::Life;
use crate::record::KeyRecord;

/// Refuses a key that is over for good.
pub(crate) fn refuse_if_over(key: &KeyRecord, now: Timestamp) -> Result<(), Refusal> {
    let life = Life::from(key);
    if let Some((at, _)) = life.revoked(now) {
        return Err(Refusal::Revoked { key: key.id, at });
    }
    if let Some(expired_at) = life.expired(now) {
        return Err(Refusal::Expired {
            key: key.id,
            expired_at,
        });
    }
    Ok(())
}
