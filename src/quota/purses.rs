//! What is in memory of quotas: slices that are out.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::Slice;
use super::record::is_due;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::KeyId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::usage::IdHasher;

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
    use super::super::{Quota, QuotaRecord};
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
