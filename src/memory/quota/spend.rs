//! Spending a key's quota from memory, and from the store where that is not enough.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::front::Front;
use super::purses::{Index, Purse, Purses};
use crate::memory::hash::IdHasher;
use crate::memory::hints::Hints;
use crate::memory::levels::{LEVELS_MAX, PerLevel};
use crate::memory::slab::Slab;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::quota::{Period, QuotaStatus};
use crate::model::time::When;
use crate::store::quota::{Answer, Asked, Decide, QuotaEvent, QuotaRecord, Spent};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{self, table};

/// Requests of so many keys wait for a commit at a time; of one key, one. Of 64 threads, few
/// meet in a lane.
const LANES: usize = 256;
/// The most quotas that one transaction of a closing puts back.
const PER_TRANSACTION: usize = 1000;

/// Under what a purse is found: the raw id of a key.
pub(crate) type Name = u64;

/// What the store had of a quota for a request.
pub(crate) enum Fetched {
    /// Memory has enough now, for whoever is first, or may have.
    InMemory,
    /// So much is the request's: for it to decide what becomes of it.
    Taken(Taken),
    Exhausted {
        refills_at: Option<Timestamp>,
    },
    /// There is no such quota any more: look at the key again.
    Gone,
}

/// What was taken of a quota for a request. Given back where that is not granted.
#[must_use]
pub(crate) struct Taken {
    purse: Arc<dyn Decide>,
    cost: u64,
}

impl Taken {
    pub(crate) fn decide(self, is_spent: bool) {
        self.purse.decide(self.cost, is_spent);
    }

    /// What it was taken of.
    pub(crate) fn period(&self) -> Period {
        self.purse.period()
    }
}

/// The purses by their names, found without a lock.
struct ByName {
    map: papaya::HashMap<Name, Arc<Purse>, BuildHasherDefault<IdHasher>>,
    /// In which place a purse has its front, as a rule.
    hints: Hints,
    fronts: Arc<Slab<Front>>,
}

impl ByName {
    fn front(&self, name: Name) -> Option<&Front> {
        self.fronts.get(self.hints.get(name)?)
    }
}

impl Index for ByName {
    fn find(&self, name: Name) -> Option<Arc<Purse>> {
        self.map.pin().get(&name).cloned()
    }

    fn insert(&self, name: u64, purse: Arc<Purse>) {
        purse.name(name);
        self.map.pin().insert(name, purse);
    }

    fn remove(&self, name: u64) {
        if let Some(purse) = self.map.pin().remove(&name) {
            purse.unname(name);
        }
    }
}

/// The quotas of an engine, as they are in memory.
pub(crate) struct Quotas {
    by_name: ByName,
    purses: table::Mutex<Purses>,
    lanes: [sync::Mutex<()>; LANES],
    /// Held by who takes slices ahead of the requests of one call.
    ahead: sync::Mutex<()>,
    is_closing: AtomicBool,
    /// How many servers the fleet has; 0: it is none.
    servers: AtomicU64,
    /// The most keys that are found here at a time, and the most quotas; but for as
    /// many as there are lanes.
    keys_max: usize,
}

impl Quotas {
    /// The fewest keys for which there has to be room: all levels of as many requests as
    /// wait for a commit at a time. With less, requests of several quotas would call in,
    /// turn by turn, what the others have just taken.
    pub(crate) const KEYS_MIN: usize = LANES * LEVELS_MAX;

    pub(crate) fn new(keys_max: usize) -> Self {
        // Some are let go of a little later than others are made.
        let fronts = Arc::new(Slab::new(keys_max.saturating_mul(2)));
        Self {
            by_name: ByName {
                map: papaya::HashMap::with_hasher(BuildHasherDefault::default()),
                hints: Hints::new(),
                fronts: fronts.clone(),
            },
            purses: table::Mutex::new(Purses::new(fronts)),
            lanes: std::array::from_fn(|_| sync::Mutex::default()),
            ahead: sync::Mutex::default(),
            is_closing: AtomicBool::new(false),
            servers: AtomicU64::new(0),
            keys_max: keys_max.max(1),
        }
    }

    /// Has the store asked for `cost` of a quota, of which memory had too little. `take`
    /// asks it in a transaction, whose publication answers; it says `false` where there
    /// is no such quota. `takes`: what is found is the request's, to be decided on. Only for
    /// a request that waits for nothing else while it has it.
    pub(crate) fn fetch(
        &self,
        name: Name,
        cost: u64,
        takes: bool,
        now: Timestamp,
        take: impl Fn(&Arc<Asked>) -> Result<bool, Error>,
    ) -> Result<Fetched, Error> {
        let _lane = self.lane(name);
        // Another may have taken a slice meanwhile.
        if self.covers(name, cost, now) {
            return Ok(Fetched::InMemory);
        }
        if self.is_closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let asked = Arc::new(Asked::new(cost, takes));
        if !take(&asked)? {
            return Ok(Fetched::Gone);
        }
        Ok(match asked.take_answer() {
            Some(Answer {
                spent: Spent::Exhausted { refills_at },
                ..
            }) => Fetched::Exhausted { refills_at },
            Some(Answer {
                taken_from: Some(purse),
                ..
            }) => Fetched::Taken(Taken { purse, cost }),
            // It is there for whoever is first, or another decides on it yet: look again,
            // and without the lane, which those who decide may need.
            Some(_) | None => Fetched::InMemory,
        })
    }

    /// Whether memory has enough of a quota for a request.
    pub(crate) fn covers(&self, name: Name, cost: u64, now: Timestamp) -> bool {
        let known = self.by_name.map.pin();
        let purse = known.get(&name);
        purse.is_some_and(|purse| purse.look(cost, now) == Some(Spent::Covered))
    }

    /// Whether the store may have what memory lacks for some requests.
    pub(crate) fn lacks(&self, name: Name, requests: u64, now: Timestamp) -> bool {
        let known = self.by_name.map.pin();
        let looked = (known.get(&name)).and_then(|purse| purse.look(requests, now));
        looked.is_none()
    }

    /// Has slices taken for requests that will come, unless another does so. `take` does it in
    /// a transaction.
    pub(crate) fn fetch_ahead(
        &self,
        take: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Closing waits for it, as for the lanes.
        let Some(_ahead) = sync::try_lock(&self.ahead) else {
            return Ok(());
        };
        match self.is_closing.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => take(),
        }
    }

    /// For how many names more there is room.
    pub(crate) fn room(&self) -> usize {
        let len = table::lock(&self.purses).len().max(self.by_name.map.len());
        self.keys_max.saturating_sub(len)
    }

    /// Spends of all of some quotas, or of none. Fails with the place of the first that
    /// does not cover it, and with what spending came to there, or with `None` where the
    /// store must be asked.
    ///
    /// `note` is told what each was spent of, for whoever may give it back.
    ///
    /// Who spends of several does so one after the other: under the locks of their levels.
    pub(crate) fn spend(
        &self,
        names: &[Name],
        cost: u64,
        now: Timestamp,
        mut note: impl FnMut(Name, Period),
    ) -> Result<(), (usize, Option<Spent>)> {
        let known = self.by_name.map.pin();
        if let [name] = names {
            let purse = known.get(name).ok_or((0, None))?;
            return match purse.spend(cost, now) {
                Some(Spent::Covered) => {
                    note(*name, purse.period());
                    Ok(())
                }
                other => Err((0, other)),
            };
        }
        let mut purses = PerLevel::default();
        for (at, name) in names.iter().enumerate() {
            let purse = known.get(name).ok_or((at, None))?;
            match purse.look(cost, now) {
                Some(Spent::Covered) => purses.push(purse),
                other => return Err((at, other)),
            }
        }
        // So that none is voided before it is known whether the cost comes back.
        purses.iter().for_each(|purse| purse.begin_several(cost));
        let mut spent = Ok(());
        for (at, purse) in purses.iter().enumerate() {
            match purse.spend(cost, now) {
                Some(Spent::Covered) => {}
                // It was called in meanwhile.
                other => {
                    let spent_of = purses.iter().take(at);
                    spent_of.for_each(|purse| purse.put_in(cost));
                    spent = Err((at, other));
                    break;
                }
            }
        }
        purses.iter().for_each(|purse| purse.end_several(cost));
        if spent.is_ok() {
            for (name, purse) in names.iter().zip(purses.iter()) {
                note(*name, purse.period());
            }
        }
        spent
    }

    /// Has what [`spend_one`](Self::spend_one) will need of a name fetched from memory, and
    /// does not wait for it.
    #[inline(always)]
    pub(crate) fn touch(&self, name: Name) {
        if let Some(front) = self.by_name.front(name) {
            front.touch();
        }
    }

    /// Spends of one quota, where memory covers that at whichever of some instants: without a
    /// lock, also beside requests that spend of it with others.
    #[inline(always)]
    pub(crate) fn spend_one(&self, name: Name, cost: u64, when: When) -> bool {
        let front = self.by_name.front(name);
        front.is_some_and(|front| front.spends(name, cost, when))
            || self.spend_unhinted(name, cost, when)
    }

    /// The same where no hint leads to the purse.
    #[cold]
    fn spend_unhinted(&self, name: Name, cost: u64, when: When) -> bool {
        let known = self.by_name.map.pin();
        let Some(purse) = known.get(&name) else {
            return false;
        };
        if let Some(place) = purse.place_of(name) {
            self.by_name.hints.set(name, place, self.by_name.map.len());
        }
        purse.spends(cost, when)
    }

    /// How much is left of a quota, in memory and in the store; `None` where the store
    /// must be asked.
    pub(crate) fn status(&self, name: Name, now: Timestamp) -> Option<QuotaStatus> {
        self.by_name.map.pin().get(&name)?.status(now)
    }

    /// The same, by the quota's number: a key that was not used yet shares the purse of its
    /// predecessor.
    pub(crate) fn status_numbered(&self, number: u64, now: Timestamp) -> Option<QuotaStatus> {
        table::lock(&self.purses).status(number, now)
    }

    /// Gives back what was spent in a period of a quota; `false` where that is for the
    /// store to do.
    pub(crate) fn give_back(&self, name: Name, period: Period, requests: u64) -> bool {
        let known = self.by_name.map.pin();
        let purse = known.get(&name).filter(|purse| purse.is_of(period));
        purse.is_some_and(|purse| purse.give_back(requests))
    }

    fn lane(&self, name: Name) -> sync::MutexGuard<'_, ()> {
        // Ids end in random bits. The remainder is below the number of lanes.
        let at = usize::try_from(name % LANES as u64).unwrap_or(0);
        sync::lock(&self.lanes[at])
    }

    #[cfg(test)]
    #[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
    pub(crate) fn finds(&self, key: u64) -> bool {
        self.by_name.find(key).is_some()
    }

    /// Puts in what a request spent that another level refused.
    #[cfg(test)]
    pub(crate) fn put_in(&self, name: Name, requests: u64) {
        if let Some(purse) = self.by_name.find(name) {
            purse.put_in(requests);
        }
    }

    #[cfg(test)]
    #[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
    pub(super) fn by_name_of(&self, name: Name) -> Arc<Purse> {
        self.by_name.find(name).unwrap()
    }

    /// Takes slices as one of so many servers of a fleet from now on.
    pub(crate) fn divide(&self, servers: u64) {
        self.servers.store(servers, Ordering::Relaxed);
    }

    /// Some of the quotas of which memory has little, and the store has more: others at each
    /// call, so that all have their turn.
    pub(crate) fn low(&self, now: Timestamp) -> Vec<u64> {
        table::lock(&self.purses).low(self.servers(), now)
    }

    // For the transaction that runs

    /// Whether memory has little of a quota as it now is.
    pub(crate) fn is_low(&self, number: u64, record: &QuotaRecord, now: Timestamp) -> bool {
        table::lock(&self.purses).is_low((number, record), self.servers(), now)
    }

    /// How many servers the fleet has; 0: it is none.
    pub(crate) fn servers(&self) -> u64 {
        self.servers.load(Ordering::Relaxed)
    }

    /// What is in memory of a quota as it now is.
    pub(crate) fn in_memory(&self, number: u64, record: &QuotaRecord) -> u64 {
        table::lock(&self.purses).in_memory(number, record)
    }

    /// Which quotas the transaction must call in for there to be room for a name of a
    /// quota: a few, and none mostly.
    pub(crate) fn make_room(&self, name: Name, number: u64) -> Vec<u64> {
        let mut purses = table::lock(&self.purses);
        let len = purses.len().max(self.by_name.map.len());
        match len < self.keys_max || self.by_name.find(name).is_some() {
            true => Vec::new(),
            false => purses.choose(number, &self.by_name),
        }
    }

    /// Takes out what is in memory of a quota, for the transaction to put it back.
    pub(crate) fn call_in(&self, number: u64) -> Option<(Period, u64)> {
        table::lock(&self.purses).call_in(number)
    }

    // For who commits it

    /// Lets a commit, or a transaction that had nothing to commit, take effect.
    pub(crate) fn publish(&self, events: &[QuotaEvent]) {
        if !events.is_empty() {
            table::lock(&self.purses).publish(events, &self.by_name);
        }
    }

    /// As a transaction begins: what those before took out and did not commit is in
    /// memory again.
    pub(crate) fn undo(&self) {
        table::lock(&self.purses).undo();
    }

    /// Puts all slices back, and takes none any more.
    pub(crate) fn close(
        &self,
        put_back: impl Fn(Vec<u64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.is_closing.store(true, Ordering::Release);
        // Whoever takes one now is waited for.
        let _lanes = self.lanes.each_ref().map(|lane| sync::lock(lane));
        let _ahead = sync::lock(&self.ahead);
        let filled = table::lock(&self.purses).filled();
        let mut parts = filled.chunks(PER_TRANSACTION);
        parts.try_for_each(|numbers| put_back(numbers.to_vec()))
    }
}
