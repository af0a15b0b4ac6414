//! Quotas: a key good for so many requests, perhaps refilled each day or month.
//!
//! What is left stands in the store. The engine takes a *slice* of it in one
//! durable commit, spends that from memory, and puts the rest back when it closes.
//! So a quota is never overspent, not even after a crash, which loses at most the
//! slices that were out: a hundredth of a quota each, at least ten requests and at
//! most 1,000, or what one request costs where that is more.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Invalid};
use crate::id::KeyId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::usage::IdHasher;

/// When a quota is refilled, in UTC. A refill replaces what is left; nothing is
/// carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refill {
    /// At midnight.
    Daily,
    /// At midnight before the first of a month.
    Monthly,
}

impl Refill {
    /// The first refill after an instant; never, past the end of time.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        self.checked_after(now).unwrap_or(Timestamp::MAX)
    }

    fn checked_after(self, now: Timestamp) -> Option<Timestamp> {
        let ms = i64::try_from(now.unix_ms()).ok()?;
        let now = jiff::Timestamp::from_millisecond(ms).ok()?;
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let next = match self {
            Self::Daily => today.tomorrow().ok()?,
            Self::Monthly => today.last_of_month().tomorrow().ok()?,
        };
        let next = next.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Timestamp::from_raw(
            u64::try_from(next.as_millisecond()).ok()?,
        ))
    }
}

impl std::fmt::Display for Refill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Daily => "daily",
            Self::Monthly => "monthly",
        })
    }
}

/// How many requests a key is good for. A key and those that it is rotated to
/// share one.
///
/// ```
/// use gatekey::{Denial, Engine, NewKey, NewKeyspace, Quota, Verdict};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme")?.quota(Quota::new(2)))?;
/// let token = issued.token.expose();
/// assert!(engine.verify(token)?.is_granted());
/// assert!(engine.verify(token)?.is_granted());
/// let third = engine.verify(token)?;
/// assert!(matches!(third, Verdict::Denied(Denial::QuotaExhausted { .. })));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quota {
    requests: u64,
    refill: Option<Refill>,
}

impl Quota {
    /// The most requests of a quota.
    pub const REQUESTS_MAX: u64 = 1 << 53;

    /// So many requests, once. Checked where it is used: 1 to
    /// [`REQUESTS_MAX`](Self::REQUESTS_MAX).
    #[must_use]
    pub const fn new(requests: u64) -> Self {
        Self {
            requests,
            refill: None,
        }
    }

    /// So many requests a day or a month.
    #[must_use]
    pub const fn refilled(mut self, refill: Refill) -> Self {
        self.refill = Some(refill);
        self
    }

    /// How many requests.
    #[must_use]
    pub const fn requests(self) -> u64 {
        self.requests
    }

    /// When it is refilled; `None`: never.
    #[must_use]
    pub const fn refill(self) -> Option<Refill> {
        self.refill
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            let why = "the requests are not 1 to 2^53";
            return Err(Invalid::malformed("quota", &self.to_string(), why).into());
        }
        Ok(())
    }

    fn slice(self) -> u64 {
        (self.requests / 100).clamp(10, 1000)
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.refill {
            Some(refill) => write!(f, "{} {refill}", self.requests),
            None => write!(f, "{} in all", self.requests),
        }
    }
}

/// How much of a quota is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// What is left in the store. The engine may hold a little more in memory,
    /// which it puts back when it closes.
    pub remaining: u64,
    /// When it is refilled next; `None`: never.
    pub refills_at: Option<Timestamp>,
}

/// A quota in the store, under its number: the position of the audit entry about
/// the change that first made it, which no other has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuotaRecord {
    pub(crate) quota: Quota,
    pub(crate) remaining: u64,
    /// [`Timestamp::MAX`] for never.
    pub(crate) refills_at: Timestamp,
    /// How many keys share it.
    pub(crate) keys: u32,
    /// The position of the last audit entry about it: another quota in its place
    /// has another.
    pub(crate) revision: u64,
}

/// A slice that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) number: u64,
    pub(crate) requests: u64,
    /// Until when it may be spent.
    pub(crate) refills_at: Timestamp,
    /// The revision of the quota that it is of.
    pub(crate) revision: u64,
    /// What the store has left.
    pub(crate) left: u64,
}

impl QuotaRecord {
    pub(crate) fn new(quota: Quota, keys: u32, revision: u64, now: Timestamp) -> Self {
        Self {
            quota,
            remaining: quota.requests,
            refills_at: quota
                .refill
                .map_or(Timestamp::MAX, |refill| refill.after(now)),
            keys,
            revision,
        }
    }

    /// As it reads at an instant: refilled, where that is due.
    pub(crate) fn at(&self, now: Timestamp) -> Self {
        match is_due(self.refills_at, now) {
            true => Self::new(self.quota, self.keys, self.revision, now),
            false => self.clone(),
        }
    }

    /// Takes a slice, or as much as is wanted where that is more; nothing where
    /// there is not so much.
    pub(crate) fn take_slice(&mut self, number: u64, wanted: u64) -> Slice {
        let requests = match wanted > self.remaining {
            true => 0,
            false => self.quota.slice().max(wanted).min(self.remaining),
        };
        self.remaining -= requests;
        Slice {
            number,
            requests,
            refills_at: self.refills_at,
            revision: self.revision,
            left: self.remaining,
        }
    }

    /// Puts the rest of a slice back, unless it was refilled or replaced since.
    pub(crate) fn put_back(&mut self, slice: Slice) {
        if (slice.refills_at, slice.revision) == (self.refills_at, self.revision) {
            let sum = self.remaining.saturating_add(slice.requests);
            self.remaining = sum.min(self.quota.requests);
        }
    }

    pub(crate) fn status(&self, now: Timestamp) -> QuotaStatus {
        let record = self.at(now);
        QuotaStatus {
            quota: record.quota,
            remaining: record.remaining,
            refills_at: (record.refills_at < Timestamp::MAX).then_some(record.refills_at),
        }
    }
}

fn is_due(refills_at: Timestamp, now: Timestamp) -> bool {
    refills_at < Timestamp::MAX && now >= refills_at
}

/// What is in memory of a quota, in one period of it.
struct Purse {
    slice: Slice,
    requests: AtomicU64,
    /// The store had nothing left.
    store_is_empty: AtomicBool,
    /// The quota was changed, or its slices are called in: what is here counts
    /// no more.
    is_void: AtomicBool,
}

/// What spending came to.
pub(crate) enum Spent {
    Covered,
    Exhausted {
        refills_at: Option<Timestamp>,
    },
    /// The key has no quota any more, or is gone: look at it again.
    Gone,
}

/// The slices that are out.
///
/// A purse is found by key without a lock. Slices are taken one at a time for a key
/// (its lane), and settled under the lock of the purses: where quotas were changed or
/// called in since before the take, the slice goes back and another is taken.
pub(crate) struct Quotas {
    by_key: papaya::HashMap<u64, Arc<Purse>, BuildHasherDefault<IdHasher>>,
    purses: Mutex<Purses>,
    lanes: [Mutex<()>; LANES],
    is_closing: AtomicBool,
    /// The most keys with a slice at a time.
    keys_max: usize,
}

const LANES: usize = 64;

#[derive(Default)]
struct Purses {
    by_number: HashMap<u64, Arc<Purse>>,
    /// Raised by whatever makes a slice that is being taken doubtful.
    generation: u64,
}

impl Quotas {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            by_key: papaya::HashMap::with_hasher(BuildHasherDefault::default()),
            purses: Mutex::default(),
            lanes: std::array::from_fn(|_| Mutex::default()),
            is_closing: AtomicBool::new(false),
            keys_max: keys_max.max(1),
        }
    }

    /// Spends `cost` of a key's quota, taking a slice where need be: `take` gets
    /// one of at least so many requests from the store, or `None` where the key has
    /// no quota, and `put_back` returns some to it.
    pub(crate) fn spend(
        &self,
        key: KeyId,
        cost: u64,
        now: Timestamp,
        take: impl Fn(u64) -> Result<Option<Slice>, Error>,
        put_back: impl Fn(Vec<Slice>) -> Result<(), Error>,
    ) -> Result<Spent, Error> {
        if let Some(spent) = self.spend_from_memory(key, cost, now) {
            return Ok(spent);
        }
        if self.by_key.len() >= self.keys_max {
            self.restore(self.call_in(), &put_back)?;
        }
        let _lane = self.lane(key);
        loop {
            // Another may have taken one meanwhile.
            if let Some(spent) = self.spend_from_memory(key, cost, now) {
                return Ok(spent);
            }
            if self.is_closing.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            let generation = lock(&self.purses).generation;
            let in_memory =
                self.by_key
                    .pin()
                    .get(&key.raw())
                    .map_or(0, |purse| match purse.is_good(now) {
                        true => purse.requests.load(Ordering::Acquire),
                        false => 0,
                    });
            let Some(slice) = take(cost.saturating_sub(in_memory).max(1))? else {
                return Ok(Spent::Gone);
            };
            if !self.settle(key, slice, generation) {
                self.restore(vec![slice], &put_back)?;
                continue;
            }
            if slice.requests == 0 {
                let spent = self.spend_from_memory(key, cost, now);
                return Ok(spent.unwrap_or(exhausted(slice.refills_at)));
            }
        }
    }

    pub(crate) fn spend_from_memory(&self, key: KeyId, cost: u64, now: Timestamp) -> Option<Spent> {
        self.by_key.pin().get(&key.raw())?.spend(cost, now)
    }

    fn lane(&self, key: KeyId) -> MutexGuard<'_, ()> {
        // Ids end in random bits. The remainder is below the number of lanes.
        let at = usize::try_from(key.raw() % LANES as u64).unwrap_or(0);
        lock(&self.lanes[at])
    }

    /// Puts a slice into the purse of its quota, unless it is doubtful by now.
    fn settle(&self, key: KeyId, slice: Slice, generation: u64) -> bool {
        let mut purses = lock(&self.purses);
        if purses.generation != generation {
            return false;
        }
        let known = purses.by_number.get(&slice.number).filter(|known| {
            (known.slice.revision, known.slice.refills_at) == (slice.revision, slice.refills_at)
        });
        let purse = match known {
            Some(known) => {
                known.requests.fetch_add(slice.requests, Ordering::AcqRel);
                known.clone()
            }
            None => {
                let new = Arc::new(Purse {
                    slice,
                    requests: AtomicU64::new(slice.requests),
                    store_is_empty: AtomicBool::new(false),
                    is_void: AtomicBool::new(false),
                });
                if let Some(old) = purses.by_number.insert(slice.number, new.clone()) {
                    // Of an earlier period: it was refilled since.
                    old.void();
                }
                new
            }
        };
        purse
            .store_is_empty
            .store(slice.left == 0, Ordering::Release);
        self.by_key.pin().insert(key.raw(), purse);
        true
    }

    /// Lets a change of quotas take effect: slices of what they were are void, and
    /// keys whose quota is another find it anew.
    pub(crate) fn publish(&self, numbers: &[u64], keys: &[KeyId]) {
        if numbers.is_empty() && keys.is_empty() {
            return;
        }
        let mut purses = lock(&self.purses);
        purses.generation += 1;
        for number in numbers {
            if let Some(purse) = purses.by_number.remove(number) {
                purse.void();
            }
        }
        let by_key = self.by_key.pin();
        for key in keys {
            by_key.remove(&key.raw());
        }
    }

    /// Takes all slices out of memory.
    fn call_in(&self) -> Vec<Slice> {
        let mut purses = lock(&self.purses);
        purses.generation += 1;
        self.by_key.pin().clear();
        let all = std::mem::take(&mut purses.by_number);
        all.into_values().map(|purse| purse.void()).collect()
    }

    /// Puts slices back into the store. Who found it empty meanwhile looks again.
    fn restore(
        &self,
        slices: Vec<Slice>,
        put_back: impl Fn(Vec<Slice>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let result = put_back(slices);
        let mut purses = lock(&self.purses);
        purses.generation += 1;
        for purse in purses.by_number.values() {
            purse.store_is_empty.store(false, Ordering::Release);
        }
        result
    }

    /// Puts all slices back, and takes none any more.
    pub(crate) fn close(
        &self,
        put_back: impl Fn(Vec<Slice>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.is_closing.store(true, Ordering::Release);
        // Whoever takes one now is waited for.
        let _lanes = self.lanes.each_ref().map(|lane| lock(lane));
        self.restore(self.call_in(), put_back)
    }
}

fn exhausted(refills_at: Timestamp) -> Spent {
    Spent::Exhausted {
        refills_at: (refills_at < Timestamp::MAX).then_some(refills_at),
    }
}

impl Purse {
    fn is_good(&self, now: Timestamp) -> bool {
        !self.is_void.load(Ordering::Acquire) && !is_due(self.slice.refills_at, now)
    }

    /// `None` where a slice must be taken.
    fn spend(&self, cost: u64, now: Timestamp) -> Option<Spent> {
        if !self.is_good(now) {
            return None;
        }
        let spent = self
            .requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(cost)
            });
        match spent {
            Ok(_) => Some(Spent::Covered),
            Err(_) if self.store_is_empty.load(Ordering::Acquire) && self.is_good(now) => {
                Some(exhausted(self.slice.refills_at))
            }
            Err(_) => None,
        }
    }

    /// Makes it worth nothing, and gives what was in it.
    fn void(&self) -> Slice {
        self.is_void.store(true, Ordering::Release);
        Slice {
            requests: self.requests.swap(0, Ordering::AcqRel),
            ..self.slice
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_raw(1_767_225_600_000 + ms)
    }

    /// A store in which the quota of a key stands under the key's number.
    struct Store(RefCell<BTreeMap<u64, QuotaRecord>>);

    impl Store {
        fn new(quotas: &[(u64, u64)]) -> Self {
            let record = |requests| QuotaRecord::new(Quota::new(requests), 1, 7, at(0));
            let quotas = quotas.iter();
            Self(RefCell::new(
                quotas
                    .map(|(number, requests)| (*number, record(*requests)))
                    .collect(),
            ))
        }

        fn take(&self, number: u64, wanted: u64) -> Slice {
            let mut quotas = self.0.borrow_mut();
            quotas.get_mut(&number).unwrap().take_slice(number, wanted)
        }

        fn put_back(&self, slices: &[Slice]) {
            let mut quotas = self.0.borrow_mut();
            for slice in slices {
                quotas.get_mut(&slice.number).unwrap().put_back(*slice);
            }
        }

        fn spend(&self, quotas: &Quotas, number: u64, meanwhile: &dyn Fn()) -> bool {
            let take = |wanted| Ok(Some(self.take(number, wanted)));
            let put_back = |slices: Vec<Slice>| {
                meanwhile();
                self.put_back(&slices);
                Ok(())
            };
            let spent = quotas.spend(KeyId::from_raw(number), 1, at(0), take, put_back);
            matches!(spent.unwrap(), Spent::Covered)
        }
    }

    #[test]
    fn who_found_the_store_empty_before_slices_came_back_looks_again() {
        let quotas = Quotas::new(1);
        let store = Store::new(&[(1, 10), (2, 10)]);
        assert!(store.spend(&quotas, 1, &|| {}));
        // There is room for one key: the slice of the first is called in, and before
        // it is back the first asks again, and finds nothing.
        let early = RefCell::new(None);
        let meanwhile = || {
            if early.borrow().is_none() {
                *early.borrow_mut() = Some(true);
                *early.borrow_mut() = Some(store.spend(&quotas, 1, &|| {}));
            }
        };
        assert!(store.spend(&quotas, 2, &meanwhile));
        assert_eq!(early.into_inner(), Some(false));
        let granted = (0..20).filter(|_| store.spend(&quotas, 1, &|| {})).count();
        assert_eq!(granted, 9);
    }

    #[test]
    fn a_slice_of_a_quota_that_was_changed_meanwhile_is_not_spent() {
        let quotas = Quotas::new(10);
        let store = Store::new(&[(1, 30)]);
        let changed = RefCell::new(false);
        let take = |wanted| {
            let slice = store.take(1, wanted);
            if !changed.replace(true) {
                let new = QuotaRecord::new(Quota::new(2), 1, 8, at(0));
                store.0.borrow_mut().insert(1, new);
                quotas.publish(&[1], &[KeyId::from_raw(1)]);
            }
            Ok(Some(slice))
        };
        let put_back = |slices: Vec<Slice>| {
            store.put_back(&slices);
            Ok(())
        };
        let spend = || quotas.spend(KeyId::from_raw(1), 1, at(0), take, put_back);
        let granted = (0..50)
            .filter(|_| matches!(spend().unwrap(), Spent::Covered))
            .count();
        assert_eq!(granted, 2, "those of the new quota");
    }
}
