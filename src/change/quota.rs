//! Slices of quotas: taken to be spent from memory, and put back.
//!
//! Like usage, they write no audit entry, since no right changes.

use std::sync::Weak;

use crate::memory::quota::{Name, Quotas};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;
use crate::store::quota::{Asked, QuotaEvent};
use crate::store::tx::Tx;

/// Takes a slice of a key's quota for a request whose cost memory does not cover, or finds
/// that it covers it now. `clock`: what the clock said for the request. Publishing the change
/// answers it. `false`: the key has no quota any more, or is gone.
pub(crate) fn take_slice(
    tx: &mut Tx<'_>,
    quotas: &Quotas,
    key: KeyId,
    cost: u64,
    clock: Timestamp,
    asked: &Weak<Asked>,
) -> Result<bool, Error> {
    if !tx.find_key(key)?.is_some_and(|key| key.has_quota) {
        return Ok(false);
    }
    let number = tx
        .cold(key)?
        .quota
        .ok_or_else(|| Error::corrupted("cold", key, "its key has a quota, and it names none"))?;
    take_slice_of(tx, quotas, (key.raw(), number), cost, clock, asked)?;
    Ok(true)
}

/// The same, of the quota that an owner has in a keyspace, of its own or by the defaults
/// of its level. `name`: under which its purse is found.
pub(crate) fn take_slice_of_owner(
    tx: &mut Tx<'_>,
    quotas: &Quotas,
    (keyspace, owner, name): (u32, &OwnerPath, Name),
    cost: u64,
    clock: Timestamp,
    asked: &Weak<Asked>,
) -> Result<bool, Error> {
    let keyspace = tx.keyspace_numbered(keyspace)?;
    let Some(number) = tx.owner_quota(&keyspace, owner)? else {
        return Ok(false);
    };
    take_slice_of(tx, quotas, (name, number), cost, clock, asked)?;
    Ok(true)
}

fn take_slice_of(
    tx: &mut Tx<'_>,
    quotas: &Quotas,
    (name, number): (Name, u64),
    cost: u64,
    clock: Timestamp,
    asked: &Weak<Asked>,
) -> Result<(), Error> {
    let mut old = tx.quota(number)?;
    let clock = clock.max(tx.clock());
    if old.is_too_far_ahead(clock) {
        // What is in memory is of the period that the wrong clock said.
        put_back(tx, quotas, &[number])?;
        old = tx.quota(number)?;
    }
    // A few of those that were not used lately make room for it.
    put_back(tx, quotas, &quotas.make_room(name, number))?;
    // The later of the two readings: a refill that is due for the request is due here.
    let mut new = old.at(clock);
    let slice = new.take_slice(number, cost, quotas.in_memory(number, &new));
    if new != old {
        tx.put_quota(number, &new)?;
    }
    tx.note_slice(QuotaEvent::Taken {
        name,
        slice,
        asked: asked.clone(),
    });
    Ok(())
}

/// Puts the slices in memory back. Skips a quota that is gone or damaged, so that the
/// others are not affected.
pub(crate) fn put_back(tx: &mut Tx<'_>, quotas: &Quotas, numbers: &[u64]) -> Result<(), Error> {
    for number in numbers.iter().copied() {
        let old = match tx.find_quota(number) {
            Ok(old) => old,
            Err(Error::Corrupted(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(slice) = quotas.call_in(number) else {
            continue;
        };
        let mut left = 0;
        if let Some(old) = old {
            let mut new = old.clone();
            new.put_back(slice);
            let new = new.at(tx.clock());
            left = new.remaining;
            if new != old {
                tx.put_quota(number, &new)?;
            }
        }
        tx.note_slice(QuotaEvent::Returned { number, left });
    }
    Ok(())
}
