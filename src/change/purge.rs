//! Removing keys that have been over for long.

use crate::model::audit::{AuditEvent, NAMED_MAX};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::Purged;
use crate::store::tx::Tx;

/// The most keys that one transaction removes: its audit entry names them all.
const PER_TRANSACTION: usize = NAMED_MAX;

/// The result of one transaction of a purge.
pub(crate) struct Step {
    pub(crate) purged: Purged,
    /// Where the next transaction continues in the index of ends; `None` at the end.
    pub(crate) reached: Option<(Timestamp, KeyId)>,
}

/// Removes a key that is over, and says whether there was one.
pub(crate) fn purge_one(tx: &mut Tx<'_>, key: KeyId, actor: Option<&str>) -> Result<bool, Error> {
    let Some(record) = tx.find_key(key)? else {
        return Ok(false);
    };
    let is_over = record.ends_at().is_some_and(|end| end <= tx.now());
    if is_over {
        tx.remove_key(&record)?;
        tx.audit(actor, AuditEvent::KeysPurged { keys: vec![key] })?;
    }
    Ok(is_over)
}

/// Removes keys that were over before an instant, as many as one transaction takes,
/// from after a place in the index of ends. Their tokens are unknown from then on.
/// Damaged keys stay and are counted, so that they do not stop the others.
pub(crate) fn purge(
    tx: &mut Tx<'_>,
    over_before: Timestamp,
    after: Option<(Timestamp, KeyId)>,
    actor: Option<&str>,
) -> Result<Step, Error> {
    // No key that is still good ends before now.
    let over_before = over_before.min(tx.now());
    let ends = tx.ends_before(over_before, after, PER_TRANSACTION)?;
    let reached = ends.last().copied();
    let mut ids: Vec<KeyId> = ends.into_iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    let mut keys = Vec::with_capacity(ids.len());
    let mut damaged = 0;
    for id in ids {
        // A damaged index may name a key that is not over, or name one twice.
        let key = Error::or_damaged(tx.find_key(id))?.ok().flatten();
        match key {
            Some(key) if key.ends_at().is_some_and(|end| end < over_before) => {
                tx.remove_key(&key)?;
                keys.push(id);
            }
            // It was revoked since, with its owner, and the index follows.
            Some(key) if tx.end_lags(&key)? => {}
            _ => damaged += 1,
        }
    }
    let purged = Purged {
        keys: keys.len() as u64,
        damaged,
    };
    if !keys.is_empty() {
        tx.audit(actor, AuditEvent::KeysPurged { keys })?;
    }
    Ok(Step { purged, reached })
}
