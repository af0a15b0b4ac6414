//! Removing keys that have long been over.

use crate::audit::{AuditEvent, NAMED_MAX};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::store::tx::Tx;

/// The most keys that one transaction removes: its audit entry names them all.
const PER_TRANSACTION: usize = NAMED_MAX;

/// Removes keys that were over before an instant, as many as one transaction
/// takes, and says how many. Their tokens are unknown from then on.
pub(crate) fn purge(
    tx: &mut Tx<'_>,
    over_before: Timestamp,
    actor: Option<&str>,
) -> Result<u64, Error> {
    // Nothing that is still good ends before now.
    let over_before = over_before.min(tx.now());
    let mut keys = tx.ids_over_before(over_before, PER_TRANSACTION)?;
    keys.sort_unstable();
    for id in &keys {
        let key = tx.key(*id)?;
        if key.ends_at().is_none_or(|end| end >= over_before) {
            return Err(Error::corrupted(
                "by_end",
                id,
                "it says that a key is over which is not",
            ));
        }
        tx.remove_key(&key)?;
    }
    let count = keys.len() as u64;
    if count > 0 {
        tx.audit(actor, AuditEvent::KeysPurged { keys })?;
    }
    Ok(count)
}
