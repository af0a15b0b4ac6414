//! Slices of quotas: taken to be spent from memory, and put back.
//!
//! Like usage, they write no audit entry, since no right changes.

use std::collections::BTreeMap;
use std::sync::Weak;

use crate::memory::quota::{Name, Quotas};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;
use crate::model::quota::Period;
use crate::store::quota::{Asked, Left, QuotaEvent, ahead_max};
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
    let Some(number) = number_of(tx, key)? else {
        return Ok(false);
    };
    make_room(tx, quotas, key.raw(), number)?;
    take_slice_of(tx, quotas, (key.raw(), number), cost, clock, asked)?;
    Ok(true)
}

/// The number of the quota that a key has, if it has one.
fn number_of(tx: &Tx<'_>, key: KeyId) -> Result<Option<u64>, Error> {
    if !tx.find_key(key)?.is_some_and(|key| key.has_quota) {
        return Ok(None);
    }
    let number = tx.cold(key)?.quota;
    let why = "its key has a quota, and it names none";
    number
        .map(Some)
        .ok_or_else(|| Error::corrupted("cold", key, why))
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
    make_room(tx, quotas, name, number)?;
    take_slice_of(tx, quotas, (name, number), cost, clock, asked)?;
    Ok(true)
}

/// A few quotas that were not used lately make room in memory for a name of another.
fn make_room(tx: &mut Tx<'_>, quotas: &Quotas, name: Name, number: u64) -> Result<(), Error> {
    put_back(tx, quotas, &quotas.make_room(name, number))
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
    if old.has_misplaced_refill(clock) || old.owed > 0 {
        // What is in memory is of the period that the wrong clock said, or pays what is
        // owed.
        put_back(tx, quotas, &[number])?;
        old = tx.quota(number)?;
    }
    // The later of the two readings: a refill that is due for the request is due here.
    let mut new = old.at(clock);
    let in_memory = quotas.in_memory(number, &new);
    let slice = new.take_slice(number, cost, in_memory, quotas.servers());
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

/// Takes slices of quotas before a request needs them, of those that memory still has little
/// of. `false`: there was nothing to take.
pub(crate) fn take_ahead(tx: &mut Tx<'_>, quotas: &Quotas, numbers: &[u64]) -> Result<bool, Error> {
    let mut has_taken = false;
    for number in numbers.iter().copied() {
        let Ok(Some(mut record)) = Error::or_damaged(tx.find_quota(number))? else {
            continue;
        };
        // A refill that is due, and what is owed, are for the request that finds it so.
        let is_settled = record.owed == 0 && record.at(tx.clock()) == record;
        if is_settled && quotas.is_low(number, &record, tx.clock()) {
            let slice = record.take_ahead(number, quotas.servers());
            if slice.requests > 0 {
                tx.put_quota(number, &record)?;
                has_taken = true;
            }
            // Also where nothing is left: memory then knows so.
            tx.note_slice(QuotaEvent::Ahead(slice));
        }
    }
    Ok(has_taken)
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
        let Some((period, requests)) = quotas.call_in(number) else {
            continue;
        };
        let mut left = Left::default();
        if let Some(old) = old {
            let mut new = old.clone();
            new.put_back(period, requests);
            let new = new.at(tx.clock());
            left = new.left();
            if new != old {
                tx.put_quota(number, &new)?;
            }
        }
        tx.note_slice(QuotaEvent::Returned { number, left });
    }
    Ok(())
}

/// Takes slices of some quotas, each for a request of a cost that will come, for as many as there
/// is room. One that is gone or damaged is left for that request to find so. `clock`: what the
/// clock said.
pub(crate) fn take_slices(
    tx: &mut Tx<'_>,
    quotas: &Quotas,
    of: &BTreeMap<Name, Of>,
    cost: u64,
    clock: Timestamp,
) -> Result<(), Error> {
    for (name, of) in of.iter().take(quotas.room()) {
        // What is damaged is read before anything is written.
        let taken = of.number(tx).and_then(|number| match number {
            Some(number) => take_slice_of(tx, quotas, (*name, number), cost, clock, &Weak::new()),
            None => Ok(()),
        });
        let _ = Error::or_damaged(taken)?;
    }
    Ok(())
}

/// A quota that a request is charged to.
#[derive(Clone)]
pub(crate) struct Charged {
    /// Under which its purse is found.
    pub(crate) name: Name,
    pub(crate) of: Of,
}

/// Whose quota it is.
#[derive(Clone)]
pub(crate) enum Of {
    Key(KeyId),
    /// An owner's, in a keyspace.
    Owner(u32, OwnerPath),
}

impl Of {
    /// The number of the quota, if there still is one.
    fn number(&self, tx: &mut Tx<'_>) -> Result<Option<u64>, Error> {
        match self {
            Self::Key(key) => number_of(tx, *key),
            Self::Owner(keyspace, owner) => {
                let keyspace = tx.keyspace_numbered(*keyspace)?;
                tx.owner_quota(&keyspace, owner)
            }
        }
    }
}

/// Uses up so much of some quotas, of all in one transaction, and owes what they do not
/// have. Says of what it was taken.
pub(crate) fn use_up(
    tx: &mut Tx<'_>,
    quotas: &Quotas,
    of: &[Charged],
    requests: u64,
    clock: Timestamp,
) -> Result<Vec<(Name, Period)>, Error> {
    let mut periods = Vec::new();
    for charged in of {
        let name = charged.name;
        // It was taken away meanwhile.
        let Some(number) = charged.of.number(tx)? else {
            continue;
        };
        make_room(tx, quotas, name, number)?;
        // What is in memory is used first.
        put_back(tx, quotas, &[number])?;
        let old = tx.quota(number)?;
        let mut new = old.at(clock.max(tx.clock()));
        new.use_up(requests);
        // The next is likely to use as much.
        let servers = quotas.servers();
        let ahead = requests.min(ahead_max(new.remaining, servers));
        let slice = new.take_slice(number, ahead, 0, servers);
        if new != old {
            tx.put_quota(number, &new)?;
        }
        let asked = Weak::new();
        tx.note_slice(QuotaEvent::Taken { name, slice, asked });
        periods.push((name, new.period(number)));
    }
    Ok(periods)
}

/// Gives back what was taken of quotas in a period and was not used. What was refilled or
/// replaced since, or is gone or damaged, is left as it is.
pub(crate) fn give_back(
    tx: &mut Tx<'_>,
    periods: &[Period],
    requests: u64,
    clock: Timestamp,
) -> Result<(), Error> {
    for period in periods.iter().copied() {
        let found = Error::or_damaged(tx.find_quota(period.number))?;
        let Ok(Some(old)) = found else { continue };
        let mut new = old.clone();
        new.put_back(period, requests);
        let new = new.at(clock.max(tx.clock()));
        if new != old {
            tx.put_quota(period.number, &new)?;
            tx.note_slice(QuotaEvent::Returned {
                number: period.number,
                left: new.left(),
            });
        }
    }
    Ok(())
}
