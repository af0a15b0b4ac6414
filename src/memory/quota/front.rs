//! What a request needs of a purse that it spends of alone, in one place: half a cache
//! line, which a hint finds without a lock, and without counting who has the purse.
//!
//! Places are used again, for other purses. So the word of a purse has the place's *age*,
//! which grows with each purse that ends there. Whoever has a place by a hint reads the
//! word, then whose it is and until when, and replaces the word last: that succeeds only
//! where it is as it was read, and so of that purse, and all that was read between too. (An
//! age comes again after a million purses in one place. They come after one another, each
//! by a commit of its own, while one request is between its two steps.)

use crate::model::clock::Timestamp;
use crate::model::quota::{Period, Quota};
use crate::model::time::When;
use crate::sync::table::{AtomicU64, Ordering};

/// The store had nothing left when it was last written.
pub(super) const STORE_IS_EMPTY: u64 = 1 << 63;
/// What is here counts no more.
pub(super) const IS_VOID: u64 = 1 << 62;
/// It was asked since the hand last came by.
pub(super) const IS_USED: u64 = 1 << 61;
/// More was used than the quota: what is given back pays that first, in the store.
pub(super) const IS_OWING: u64 = 1 << 60;
/// The age of the place.
pub(super) const AGE: u64 = IS_OWING - ONE_OLDER;
const ONE_OLDER: u64 = 1 << 40;
pub(super) const REQUESTS: u64 = ONE_OLDER - 1;
/// No more is given back to memory than this: so there is room for what the requests of one
/// commit take, 127 of the greatest cost for one purse.
pub(super) const GIVEN_BACK_MAX: u64 = 1 << 39;

/// No name: keys' are smaller, and those of owners' quotas are hashes.
const NO_NAME: u64 = u64::MAX;

#[derive(Default)]
#[repr(align(32))]
pub(super) struct Front {
    /// How many requests are in the purse, with its age and the flags above.
    pub(super) word: AtomicU64,
    /// The name that was last given to the purse.
    name: AtomicU64,
    /// The instants at which the purse is of the present period, from and until.
    from: AtomicU64,
    until: AtomicU64,
}

impl Front {
    /// Begins a purse, with nothing in it. Nobody else has the place, but by a hint.
    pub(super) fn begin(&self, period: &Period, quota: Quota) {
        let refills_at = period.refills_at;
        // One that is further away than it can be was set by a clock that was ahead.
        let from = match refills_at < Timestamp::MAX {
            true => refills_at.saturating_sub(quota.reach()),
            false => Timestamp::MIN,
        };
        self.name.store(NO_NAME, Ordering::Release);
        self.from.store(from.unix_ms(), Ordering::Release);
        self.until.store(refills_at.unix_ms(), Ordering::Release);
        let age = self.word.load(Ordering::Relaxed) & AGE;
        self.word.store(age, Ordering::Release);
    }

    /// Ends it: whoever has the place by a hint finds so.
    pub(super) fn end(&self) {
        let word = self.word.load(Ordering::Relaxed);
        let age = (word & AGE).wrapping_add(ONE_OLDER) & AGE;
        // After whoever has replaced the word last, which a store need not be for loom.
        self.word.swap(age | IS_VOID, Ordering::AcqRel);
        self.name.store(NO_NAME, Ordering::Release);
    }

    /// Lets requests find the purse here by a name. This and [`unname`](Self::unname) are
    /// for whoever publishes a commit.
    pub(super) fn name(&self, name: u64) {
        self.name.store(name, Ordering::Release);
    }

    pub(super) fn is_named(&self, name: u64) -> bool {
        self.name.load(Ordering::Acquire) == name
    }

    /// Lets none find it here by a name any more.
    pub(super) fn unname(&self, name: u64) {
        if self.is_named(name) {
            self.name.store(NO_NAME, Ordering::Release);
        }
    }

    /// Has it fetched from memory, and does not wait for it.
    #[inline(always)]
    pub(super) fn touch(&self) {
        std::hint::black_box(self.word.load(Ordering::Relaxed));
    }

    /// Spends of the purse of a name, where it is here and covers the cost at whichever of
    /// some instants.
    #[inline(always)]
    pub(super) fn spends(&self, name: u64, cost: u64, When { first, last }: When) -> bool {
        let (first, last) = (first.unix_ms(), last.unwrap_or(first).unix_ms());
        let read = |word: &AtomicU64| word.load(Ordering::Acquire);
        let mut word = read(&self.word);
        loop {
            let is_its = read(&self.name) == name;
            let is_present = read(&self.from) <= first && last < read(&self.until);
            let covers = word & (IS_VOID | IS_OWING) == 0 && word & REQUESTS >= cost;
            if !(is_its && is_present && covers) {
                return false;
            }
            let spent = (word - cost) | IS_USED;
            let (old, new) = (Ordering::AcqRel, Ordering::Acquire);
            match self.word.compare_exchange_weak(word, spent, old, new) {
                Ok(_) => return true,
                Err(newer) => word = newer,
            }
        }
    }
}
