//! Suspending and resuming owners.
//!
//! A suspension is written into the record of every key below the path, so that a
//! verification need look at nothing but the record. The records of an owner of many keys
//! follow in later transactions: see [`crate::store::lags`].

use crate::model::audit::AuditEvent;
use crate::model::bounds;
use crate::model::error::Error;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::store::record::{KeyRecord, Phase};
use crate::store::tables::OwnerRecord;
use crate::store::tx::Tx;

pub(crate) fn suspend(
    tx: &mut Tx<'_>,
    owner: &OwnerPath,
    note: Option<&str>,
    at_once: usize,
    actor: Option<&str>,
) -> Result<OwnerState, Error> {
    bounds::validate_text("note", note.unwrap_or(""), bounds::NOTE_LEN_MAX)?;
    // A damaged record is overwritten.
    if let Ok(Some(_)) = Error::or_damaged(tx.owner(owner.as_str()))? {
        return tx.owner_state(owner);
    }
    let record = OwnerRecord {
        suspended_at: tx.now(),
        suspended_by: actor.map(str::to_owned),
        note: note.map(str::to_owned),
    };
    tx.set_owner(owner, Some(&record))?;
    let keys = mark_all(tx, owner, true, at_once)?;
    tx.audit(
        actor,
        AuditEvent::OwnerSuspended {
            owner: owner.clone(),
            keys,
            note: record.note,
        },
    )?;
    tx.owner_state(owner)
}

pub(crate) fn resume(
    tx: &mut Tx<'_>,
    owner: &OwnerPath,
    at_once: usize,
    actor: Option<&str>,
) -> Result<OwnerState, Error> {
    // A damaged record is removed too.
    if !tx.is_suspended(owner.as_str())? {
        return tx.owner_state(owner);
    }
    tx.set_owner(owner, None)?;
    let keys = mark_all(tx, owner, false, at_once)?;
    tx.audit(
        actor,
        AuditEvent::OwnerResumed {
            owner: owner.clone(),
            keys,
        },
    )?;
    tx.owner_state(owner)
}

/// Sets or clears the path's bit in every key below it that is not revoked, and says how
/// many these are. More keys than `at_once` lag behind, and are not counted.
fn mark_all(
    tx: &mut Tx<'_>,
    owner: &OwnerPath,
    suspended: bool,
    at_once: usize,
) -> Result<u64, Error> {
    let Some(mut ids) = tx.ids_or_suspension(owner, suspended, at_once)? else {
        return Ok(AuditEvent::KEYS_COUNTED_MAX + 1);
    };
    let bit = 1_u8 << (owner.depth() - 1);
    let seq = tx.next_seq();
    let mut count = 0;
    // In the order of the table, so that each page is visited once.
    ids.sort_unstable();
    for id in ids {
        let key = match tx.key_or_forget(id)? {
            Some(key) if !matches!(key.phase, Phase::Revoked { .. }) => key,
            _ => continue,
        };
        let mask = if suspended {
            key.suspended | bit
        } else {
            key.suspended & !bit
        };
        let marked = KeyRecord {
            suspended: mask,
            revision: seq,
            ..key.clone()
        };
        tx.replace_key(&key, &marked)?;
        count += 1;
    }
    Ok(count)
}
