//! Removing the beginning of the audit trail.

use crate::model::audit::AuditEvent;
use crate::model::audit::link::{Link, Trimmed};
use crate::model::error::Error;
use crate::store::trail::Pointed;
use crate::store::tx::Tx;

/// The most entries that one transaction removes, from the trail and of those kept.
const PER_TRANSACTION: u64 = 10_000;

/// The result of one transaction of a trim.
pub(crate) struct Step {
    pub(crate) trimmed: Trimmed,
    /// Nothing is left to trim: another transaction would do nothing.
    pub(crate) is_last: bool,
}

/// Trims as many entries as one transaction takes, through a position; `None` where
/// there is nothing to trim.
pub(crate) fn trim(
    tx: &mut Tx<'_>,
    through: u64,
    pointed: &Pointed,
    actor: Option<&str>,
) -> Result<Option<Step>, Error> {
    let before: Link = tx.floor();
    let kept = tx.trim(through, PER_TRANSACTION, pointed)?;
    let dropped = tx.drop_kept(PER_TRANSACTION, pointed)?;
    let floor = tx.floor();
    if floor == before && dropped == 0 {
        return Ok(None);
    }
    tx.audit(
        actor,
        AuditEvent::AuditTrimmed {
            through: floor,
            kept,
            dropped,
        },
    )?;
    Ok(Some(Step {
        trimmed: Trimmed {
            removed: floor.seq - before.seq,
            kept,
            through: floor,
        },
        is_last: floor.seq >= through && dropped < PER_TRANSACTION,
    }))
}
