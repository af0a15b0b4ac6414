//! A meter: what is counted of the limits of one level.

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::{Ask, Known, Terms};
use crate::memory::owner_names::Name;
use crate::model::bounds::LIMITS_PER_PLAN_MAX;
use crate::model::clock::Timestamp;
use crate::model::counter::{Counted, Counter};
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::time::When;
use crate::model::verdict::{Few, Standing, Stands};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Where a meter stands. Two cache lines, of which the first has the lock and all that is
/// counted of two limits.
#[derive(Default)]
#[repr(C, align(128))]
pub(super) struct Line {
    /// The first number of the meter's name, and at the end the second. Written under the
    /// lock, and read without it by who fetches the line before it is needed.
    first: AtomicU64,
    pub(super) meter: Mutex<Option<Meter>>,
    second: AtomicU64,
}

// As the documentation of `Options::limited_keys` says.
#[cfg(all(target_pointer_width = "64", target_os = "linux"))]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(size_of::<Line>() == 128);

impl Line {
    /// Whether its meter has a name: for certain under its lock.
    #[inline(always)]
    pub(super) fn is(&self, Name(first, second): Name) -> bool {
        self.first.load(Ordering::Relaxed) == first && self.second.load(Ordering::Relaxed) == second
    }

    /// Lets it have a name. Under its lock.
    pub(super) fn name(&self, Name(first, second): Name) {
        self.first.store(first, Ordering::Relaxed);
        self.second.store(second, Ordering::Relaxed);
    }

    /// Lets it be no meter's. Under its lock, and its shard's.
    pub(super) fn clear(&self, meter: &mut Option<Meter>) {
        *meter = None;
        self.name(Name(0, 0));
    }

    /// Has both of its cache lines fetched, and does not wait for them.
    #[inline(always)]
    pub(super) fn touch(&self) {
        let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
        std::hint::black_box((word(&self.first), word(&self.second)));
    }
}

/// What is counted of each limit of a meter.
pub(super) type Counters = [Counter; LIMITS_PER_PLAN_MAX];

#[derive(Clone)]
#[repr(C)]
pub(super) struct Meter {
    pub(super) terms: Arc<Terms>,
    /// That of its terms.
    stamp: u64,
    counters: Counters,
    /// How many counters were begun before each of them, in all meters.
    begun: [Begun; LIMITS_PER_PLAN_MAX],
}

/// How many counters were begun: a number of 48 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Begun([u16; 3]);

impl Begun {
    fn of(count: u64) -> Self {
        let part = |at: u32| u16::try_from(count >> at & 0xFFFF).unwrap_or(0);
        Self([part(32), part(16), part(0)])
    }

    pub(super) fn count(self) -> u64 {
        self.0
            .iter()
            .fold(0, |high, low| high << 16 | u64::from(*low))
    }
}

/// Why a request is not admitted.
#[derive(Debug)]
pub(crate) struct OverLimit {
    pub(crate) status: LimitStatus,
    pub(crate) retry_after: Option<Duration>,
}

impl OverLimit {
    /// `opens_at`: from when on there is room; `None`: never.
    pub(super) fn for_want_of_room(
        ask: &Ask<'_>,
        opens_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let longest = ask.terms.limits.iter().max_by_key(|limit| limit.window());
        Self {
            status: LimitStatus {
                limit: longest.copied().unwrap_or(Limit::per_hour(1)),
                level: ask.level,
                remaining: 0,
                resets_at: opens_at.unwrap_or(now),
            },
            retry_after: opens_at.map(|at| at.saturating_since(now)),
        }
    }

    pub(super) fn or_longer(self, other: Self) -> Self {
        let wait = |refused: &Self| refused.retry_after.unwrap_or(Duration::MAX);
        match wait(&other) > wait(&self) {
            true => other,
            false => self,
        }
    }
}

impl Meter {
    pub(super) fn new(ask: &Ask<'_>, begun: &AtomicU64) -> Self {
        let begins_now = Begun::of(begun.fetch_add(1, Ordering::AcqRel));
        Self {
            begun: [begins_now; LIMITS_PER_PLAN_MAX],
            ..Self::unused(ask)
        }
    }

    /// One that counts nothing, to look at.
    pub(super) fn unused(ask: &Ask<'_>) -> Self {
        Self {
            terms: ask.terms.clone(),
            stamp: ask.stamp,
            counters: Default::default(),
            begun: Default::default(),
        }
    }

    /// Brings it to an instant, and to the terms of a request unless it knows newer ones.
    /// What was counted of a limit is counted of the one of its kind that takes its place.
    pub(super) fn move_to(&mut self, ask: &Ask<'_>, now: Timestamp, begun: &AtomicU64) {
        let is_newer = ask.stamp > self.stamp || ask.stamp == Ask::IS_OF_ONE_KIND;
        if is_newer && !Arc::ptr_eq(&self.terms, ask.terms) {
            let begins_now = Begun::of(begun.fetch_add(1, Ordering::AcqRel));
            let old = self.counters.into_iter().zip(self.begun);
            let terms = self.terms.clone();
            let known: ArrayVec<_, LIMITS_PER_PLAN_MAX> = terms.limits.iter().zip(old).collect();
            let new = &ask.terms.limits;
            let places = self.counters.iter_mut().zip(&mut self.begun);
            for ((at, limit), (counter, begun)) in new.iter().enumerate().zip(places) {
                // Of several of a kind, the second takes the place of the second: buckets of
                // different rates count differently.
                let earlier = new.iter().take(at).filter(|other| other.counts_as(*limit));
                let of_kind = known.iter().filter(|(known, _)| known.counts_as(*limit));
                let its = of_kind.clone().nth(earlier.count());
                (*counter, *begun) = match its.or(of_kind.clone().next()) {
                    None => (Counter::default(), begins_now),
                    // What drained faster so far would be taken back as if it had not.
                    Some((known, (counted, _))) if limit.drains_slower_than(**known) => {
                        (*counted, begins_now)
                    }
                    Some((_, counted)) => *counted,
                };
            }
            self.terms = ask.terms.clone();
        }
        self.note_stamp(ask.stamp);
        self.advance(now);
    }

    /// Notes that the terms of a stamp are those that it has, or older ones.
    #[inline(always)]
    fn note_stamp(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// The same of a level that has its terms: its keyspace has changed, and they have not.
    #[inline(always)]
    pub(super) fn note_stamp_of(&mut self, known: &Known<'_>) {
        if known.terms.is_some() {
            self.note_stamp(known.stamp);
        }
    }

    /// Whether it counts what a request is to be counted under.
    #[inline(always)]
    pub(super) fn is_for(&self, known: &Known<'_>) -> bool {
        match known.terms {
            Some(terms) => Arc::ptr_eq(&self.terms, terms),
            None => self.stamp == known.stamp,
        }
    }

    /// What it counts after a request, where all its limits admit that, and it comes to the
    /// same at all instants that may be the request's.
    #[inline(always)]
    pub(super) fn charged(&self, cost: u32, when: When) -> Option<Counters> {
        let mut counters = self.counters;
        for (limit, counter) in self.terms.limits.iter().zip(&mut counters) {
            *counter = counter.charged(*limit, cost, when)?;
        }
        Some(counters)
    }

    /// Lets it count what it [comes to](Self::charged).
    #[inline(always)]
    pub(super) fn put(&mut self, counters: Counters) {
        self.counters = counters;
    }

    /// Its limits, and what is counted of each.
    #[inline(always)]
    pub(super) fn each(&self) -> impl Iterator<Item = (&Limit, Counter)> {
        self.terms.limits.iter().zip(self.counters.iter().copied())
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, now: Timestamp) {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            *counter = counter.moved_to(*limit, now);
        }
    }

    /// Of the limits that refuse a request, the one to wait longest for.
    pub(super) fn longest_wait(
        &self,
        level: Level,
        cost: u32,
        now: Timestamp,
    ) -> Option<OverLimit> {
        let mut longest: Option<OverLimit> = None;
        for (limit, counter) in self.terms.limits.iter().zip(self.counters) {
            if cost <= counter.room(*limit, now) {
                continue;
            }
            let status = counter.status(*limit, level, now);
            let admits_at = counter.admits_at(*limit, cost.into(), now);
            let refused = OverLimit {
                status: LimitStatus {
                    resets_at: admits_at.unwrap_or(status.resets_at),
                    ..status
                },
                retry_after: admits_at.map(|at| at.saturating_since(now)),
            };
            longest = Some(match longest {
                Some(first) => first.or_longer(refused),
                None => refused,
            });
        }
        longest
    }

    /// Whether all its limits admit a request.
    pub(super) fn admits(&self, cost: u32, now: Timestamp) -> bool {
        self.each()
            .all(|(limit, counter)| counter.admits(*limit, cost, now))
    }

    #[inline(always)]
    pub(super) fn count(&mut self, cost: u32, now: Timestamp) {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            counter.add(*limit, cost.into(), now);
        }
    }

    /// Counts a request, and takes in where that leaves its limits.
    #[inline(always)]
    pub(super) fn count_into(
        &mut self,
        level: Level,
        cost: u32,
        now: Timestamp,
        standing: &mut Option<Standing<Counted>>,
    ) {
        self.count(cost, now);
        self.stand_into(level, now, standing);
    }

    /// Takes in where its limits stand.
    #[inline(always)]
    pub(super) fn stand_into(
        &self,
        level: Level,
        now: Timestamp,
        standing: &mut Option<Standing<Counted>>,
    ) {
        for (limit, counter) in self.each() {
            let left = counter.counted(*limit, level, now);
            match standing {
                Some(standing) => standing.take_in(left),
                None => *standing = Some(Standing::of(left)),
            }
        }
    }

    /// Where a request that it has just counted leaves its limits.
    #[inline(always)]
    pub(super) fn stands(&self, level: Level, now: Timestamp) -> Stands {
        Few::of(self.each(), level, now).map_or_else(|| self.stands_in_many(level, now), Stands::In)
    }

    #[cold]
    fn stands_in_many(&self, level: Level, now: Timestamp) -> Stands {
        let mut standing = None;
        self.stand_into(level, now, &mut standing);
        standing.into()
    }

    /// Of counters that were begun since it was counted, nothing is taken back.
    pub(super) fn take_back(&mut self, cost: u32, counted_at: Timestamp, begun: u64) {
        let counters = self.counters.iter_mut().zip(self.begun);
        for (limit, (counter, begun_at)) in self.terms.limits.iter().zip(counters) {
            if begun_at.count() < begun {
                counter.take_back(*limit, cost.into(), counted_at);
            }
        }
    }

    /// When it is idle if nothing more is counted: when each limit would admit all that it ever
    /// does.
    pub(super) fn idle_at(&self, now: Timestamp) -> Timestamp {
        let idle_at = self.each().map(|(limit, counter)| {
            let counter = counter.moved_to(*limit, now);
            let all = u64::from(limit.capacity());
            counter.admits_at(*limit, all, now).unwrap_or(now)
        });
        idle_at.max().unwrap_or(now)
    }

    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        self.each()
            .all(|(limit, counter)| counter.is_idle(*limit, now))
    }
}
