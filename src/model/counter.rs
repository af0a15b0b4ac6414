//! What is counted of a limit: pure arithmetic, in whole milliseconds and whole
//! requests, so that nothing is rounded. Where counters live is
//! [`crate::memory::limiter`]'s matter.
//!
//! # Bounds
//! Let `n` be the requests of a limit, `w` its window, and `b` a bucket's burst.
//!
//! **Fixed.** A window is opened at `s` by the first request, and ends at `s + w`. In it,
//! at most `n` are admitted. (Each is admitted only if the count with it is at most `n`.)
//! An interval of a length up to `w` meets at most two windows: at most `2 n`.
//!
//! **Sliding.** Windows begin at multiples of `w`. A request of cost `c` is admitted at
//! `e` into a window if
//! ```text
//! previous * (w - e) + current * w + c * w  <=  n * w
//! ```
//! In any interval of a length `t` up to `w`, at most `n * (1 + t / w)` are admitted: at the
//! edge of a window, where `t` is small, no more than `n`. (Let an edge be in the interval,
//! `x` requests before it and `y` after, the last at `e`, so that `e <= t`. The rule says
//! `x * (w - e) + y * w <= n * w`, since the window before had at least `x`; and `x <= n`.
//! Hence `x + y <= n + x * e / w <= n * (1 + t / w)`.)
//!
//! **Bucket.** The level is counted in parts of a request, `w` of which are one. Each
//! millisecond drains `n` parts. A request of cost `c` is admitted if `level + c * w <=
//! b * w`. In any interval of a length `t` at most `b + n * t / w` are admitted. (The level
//! is never below 0, so that it begins at 0 at least and ends at `b * w` at most; it was
//! raised by what was admitted, times `w`, and lowered by `n * t` at most.)
//!
//! # Changes of a limit
//! A limit may be replaced by one of the same algorithm and window: its numbers are changed,
//! or it is a share of the fleet's and servers come or go. What was counted counts on. The bounds
//! then hold with the largest `n` and `b` that held in the interval, since each request was
//! admitted under one of them, and nothing is ever counted off.
//!
//! # Settlements
//! What a request cost beyond what it was charged is counted without asking, so that the
//! bounds hold of what is admitted, and not of what is used: after it, as much less is
//! admitted. What is taken back never makes room for more than if it had not been counted.
//!
//! # Clocks
//! Counters use what the clock says, and not the engine's time, which never runs
//! backwards: a clock that was wrong and is corrected must not block callers until it
//! has caught up. Where a counter is ahead of the clock by up to [`SKEW_MS`], it stands
//! still; threads read the clock a little apart. Where it is further ahead, the clock was
//! corrected, and what was counted counts as if it had been counted now: so a wait is
//! never longer than the counter's windows, or than its bucket takes to drain, whatever the
//! clock said before.

use crate::model::clock::Timestamp;
use crate::model::limit::{Algorithm, Left, Level, Limit, LimitStatus};
use crate::model::time::When;

/// How far a counter may be ahead of the clock before it is moved back, in milliseconds.
const SKEW_MS: u64 = 1_000;

/// A counter. All zeros: nothing counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counter {
    /// Fixed: when the window was opened. Sliding: when the window began. Bucket: of when
    /// the level is. In milliseconds.
    at: u64,
    /// Fixed: the requests. Sliding: those of the window before, and in the lower half
    /// those of this one. Bucket: the level, in parts.
    count: u64,
}

/// The requests of two windows.
fn halves(count: u64) -> (u64, u64) {
    (count >> 32, count & u64::from(u32::MAX))
}

fn joined(previous: u64, current: u64) -> u64 {
    let half = |count: u64| count.min(u64::from(u32::MAX));
    half(previous) << 32 | half(current)
}

impl Counter {
    /// The same at an instant: what no longer counts is dropped.
    #[must_use]
    pub(crate) fn moved_to(self, limit: Limit, now: Timestamp) -> Self {
        let now = now.unix_ms();
        if self.count == 0 {
            return Self::default();
        }
        let is_ahead = self.at > now.saturating_add(SKEW_MS);
        let window = limit.window_ms();
        match limit.algorithm() {
            Algorithm::Fixed if is_ahead => Self { at: now, ..self },
            Algorithm::Fixed if now >= self.at.saturating_add(window) => Self::default(),
            Algorithm::Fixed => self,
            // Mostly, and without a division: windows begin at multiples of their length.
            Algorithm::Sliding if now.checked_sub(self.at).is_some_and(|ago| ago < window) => self,
            Algorithm::Sliding => {
                let start = now - now % window;
                let (_, current) = halves(self.count);
                if self.at > now && !is_ahead {
                    self
                } else if is_ahead {
                    Self { at: start, ..self }
                } else if start == self.at.saturating_add(window) {
                    Self {
                        at: start,
                        count: joined(current, 0),
                    }
                } else {
                    Self::default()
                }
            }
            Algorithm::Bucket if is_ahead => Self { at: now, ..self },
            Algorithm::Bucket => {
                let drained = now.saturating_sub(self.at);
                let drained = drained.saturating_mul(limit.requests().into());
                Self {
                    at: self.at.max(now),
                    count: self.count.saturating_sub(drained),
                }
            }
        }
    }

    /// Whether a request that is admitted at the first of some instants, the earliest, leaves
    /// the same counter at whichever of them it comes, and would be admitted there: it opens
    /// no window and reaches no edge of one, and no bucket runs empty.
    pub(crate) fn is_steady(self, limit: Limit, first: Timestamp, last: Timestamp) -> bool {
        let (first, last) = (first.unix_ms(), last.unix_ms());
        if self.count == 0 || first < self.at {
            return false;
        }
        let passed = last.saturating_sub(self.at);
        match limit.algorithm() {
            Algorithm::Fixed | Algorithm::Sliding => passed < limit.window_ms(),
            Algorithm::Bucket => passed.saturating_mul(limit.requests().into()) < self.count,
        }
    }

    /// The same after a request, where it admits that, and the same whichever of some instants
    /// is the request's; else `None`.
    #[inline(always)]
    pub(crate) fn charged(self, limit: Limit, cost: u32, when: When) -> Option<Self> {
        let When { first, last } = when;
        let is_steady = last.is_none_or(|last| self.is_steady(limit, first, last));
        if !is_steady {
            return None;
        }
        let count = self.count.saturating_add(cost.into());
        match limit.algorithm() {
            // Mostly: the window goes on, and in a sliding one nothing of the one before counts.
            Algorithm::Fixed | Algorithm::Sliding
                if last.is_some() && cost > 0 && self.count <= u64::from(u32::MAX) =>
            {
                (count <= u64::from(limit.capacity())).then_some(Self { count, ..self })
            }
            _ => self.charged_in_steps(limit, cost, first),
        }
    }

    fn charged_in_steps(self, limit: Limit, cost: u32, now: Timestamp) -> Option<Self> {
        let mut moved = self.moved_to(limit, now);
        let is_admitted = moved.admits(limit, cost, now);
        moved.add(limit, cost.into(), now);
        is_admitted.then_some(moved)
    }

    /// How many requests would be admitted now. This and what follows asks a counter that
    /// was moved to the instant.
    pub(crate) fn room(self, limit: Limit, now: Timestamp) -> u32 {
        let window = limit.window_ms();
        let capacity = u64::from(limit.capacity());
        let room = match limit.algorithm() {
            Algorithm::Fixed => capacity.saturating_sub(self.count),
            Algorithm::Sliding => {
                let (_, current) = halves(self.count);
                let weight = self.weight(window, now);
                let taken = match u64::try_from(weight) {
                    Ok(0) => 0,
                    Ok(weight) => weight.div_ceil(window),
                    Err(_) => u64::try_from(weight.div_ceil(window.into())).unwrap_or(u64::MAX),
                };
                capacity.saturating_sub(taken.saturating_add(current))
            }
            Algorithm::Bucket => (capacity * window).saturating_sub(self.count) / window,
        };
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// Whether a request is admitted now: whether it costs no more than there is
    /// [room](Self::room) for, without a division.
    pub(crate) fn admits(self, limit: Limit, cost: u32, now: Timestamp) -> bool {
        if cost == 0 {
            return true;
        }
        let (cost, window) = (u64::from(cost), limit.window_ms());
        let capacity = u64::from(limit.capacity());
        match limit.algorithm() {
            Algorithm::Fixed => self.count.saturating_add(cost) <= capacity,
            Algorithm::Sliding => {
                let (_, current) = halves(self.count);
                let taken = u128::from(current + cost) * u128::from(window);
                taken + self.weight(window, now) <= u128::from(capacity) * u128::from(window)
            }
            Algorithm::Bucket => self.count.saturating_add(cost * window) <= capacity * window,
        }
    }

    /// What the requests of the window before count for, times the window.
    fn weight(self, window: u64, now: Timestamp) -> u128 {
        let (previous, _) = halves(self.count);
        let elapsed = now.unix_ms().saturating_sub(self.at).min(window);
        // In two words: a window of an older store may be a month.
        u128::from(previous) * u128::from(window - elapsed)
    }

    /// Counts requests, whether or not there is room for them.
    pub(crate) fn add(&mut self, limit: Limit, requests: u64, now: Timestamp) {
        if requests == 0 {
            return;
        }
        let (now, window) = (now.unix_ms(), limit.window_ms());
        let is_new = self.count == 0;
        match limit.algorithm() {
            Algorithm::Fixed => {
                self.at = if is_new { now } else { self.at };
                self.count = self.count.saturating_add(requests);
            }
            Algorithm::Sliding => {
                let (previous, current) = halves(self.count);
                self.at = if is_new { now - now % window } else { self.at };
                self.count = joined(previous, current.saturating_add(requests));
            }
            Algorithm::Bucket => {
                self.at = self.at.max(now);
                self.count = self.count.saturating_add(requests.saturating_mul(window));
            }
        }
    }

    /// Takes back requests that were counted at an instant and were not used. What counts
    /// no more of them is not taken back a second time. This asks a counter that was
    /// moved to the present.
    pub(crate) fn take_back(&mut self, limit: Limit, requests: u64, counted_at: Timestamp) {
        let (then, window) = (counted_at.unix_ms(), limit.window_ms());
        match limit.algorithm() {
            Algorithm::Fixed => {
                if self.at <= then && then < self.at.saturating_add(window) {
                    self.count = self.count.saturating_sub(requests);
                }
            }
            Algorithm::Sliding => {
                let (previous, current) = halves(self.count);
                let start = then - then % window;
                if start == self.at {
                    self.count = joined(previous, current.saturating_sub(requests));
                } else if start.saturating_add(window) == self.at {
                    self.count = joined(previous.saturating_sub(requests), current);
                }
            }
            Algorithm::Bucket => {
                // As if what drained since had been these: so it is never too much.
                let drained = self.at.saturating_sub(then);
                let drained = drained.saturating_mul(limit.requests().into());
                let parts = requests.saturating_mul(window).saturating_sub(drained);
                self.count = self.count.saturating_sub(parts);
            }
        }
    }

    /// The first instant at which a request would be admitted if no other came before;
    /// `None`: never.
    pub(crate) fn admits_at(self, limit: Limit, cost: u64, now: Timestamp) -> Option<Timestamp> {
        let window = limit.window_ms();
        let free = u64::from(limit.capacity()).checked_sub(cost)?;
        if cost <= u64::from(self.room(limit, now)) {
            return Some(now);
        }
        let at = match limit.algorithm() {
            Algorithm::Fixed => self.at.saturating_add(window),
            Algorithm::Sliding => {
                let (previous, current) = halves(self.count);
                // Of a window with so many in it, `covered` may still be covered: the
                // most for which `count * covered <= free * window`.
                let covered = |free: u64, count: u64| match count {
                    0 => window,
                    _ => (free * window / count).min(window),
                };
                match free.checked_sub(current) {
                    Some(free) => self.at + (window - covered(free, previous)),
                    // In the next window, what is current now is the one before.
                    None => self.at + window + (window - covered(free, current)),
                }
            }
            Algorithm::Bucket => {
                let over = self.count.saturating_sub(free * window);
                self.at
                    .saturating_add(over.div_ceil(limit.requests().into()))
            }
        };
        let at = at.min(Timestamp::MAX.unix_ms());
        Some(Timestamp::from_raw(at).max(now))
    }

    /// How much is left, and when there will be more.
    pub(crate) fn status(self, limit: Limit, level: Level, now: Timestamp) -> LimitStatus {
        self.counted(limit, level, now).status()
    }

    fn status_of(self, limit: Limit, level: Level, remaining: u32, now: Timestamp) -> LimitStatus {
        let more = u64::from(remaining) + 1;
        LimitStatus {
            limit,
            level,
            remaining,
            // Nothing counts: there will not be more.
            resets_at: self.admits_at(limit, more, now).unwrap_or(now),
        }
    }

    /// What is left of it after a request that it counted.
    #[inline(always)]
    pub(crate) fn counted(self, limit: Limit, level: Level, now: Timestamp) -> Counted {
        Counted {
            limit,
            level,
            remaining: self.room(limit, now),
            counter: self,
            at: now,
        }
    }

    /// Whether nothing counts any more.
    pub(crate) fn is_idle(self, limit: Limit, now: Timestamp) -> bool {
        let moved = self.moved_to(limit, now);
        moved.count == 0
            || limit.algorithm() == Algorithm::Sliding && {
                let (previous, current) = halves(moved.count);
                let elapsed = now.unix_ms().saturating_sub(moved.at);
                current == 0 && (previous == 0 || elapsed >= limit.window_ms())
            }
    }
}

/// What was left of a limit at an instant. When there will be more is computed where it
/// is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) limit: Limit,
    pub(crate) level: Level,
    remaining: u32,
    pub(crate) counter: Counter,
    pub(crate) at: Timestamp,
}

impl Left for Counted {
    fn limit(&self) -> Limit {
        self.limit
    }

    fn level(&self) -> Level {
        self.level
    }

    fn remaining(&self) -> u32 {
        self.remaining
    }

    fn status(&self) -> LimitStatus {
        let Self { limit, level, .. } = *self;
        (self.counter).status_of(limit, level, self.remaining, self.at)
    }

    fn resets_later_than(&self, other: &Self) -> bool {
        // A key's and its owner's, mostly: nothing to compute.
        let is_same = (self.limit, self.counter) == (other.limit, other.counter);
        !is_same && self.status().resets_at > other.status().resets_at
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_raw(1_767_225_600_000 + ms)
    }

    /// Charges a request that is admitted.
    fn charge(counter: Counter, limit: Limit, cost: u32, now: Timestamp) -> Option<Counter> {
        let mut moved = counter.moved_to(limit, now);
        if cost > moved.room(limit, now) {
            return None;
        }
        moved.add(limit, cost.into(), now);
        Some(moved)
    }

    pub(crate) fn limits() -> impl Strategy<Value = Limit> {
        let windows = prop_oneof![Just(1), Just(2), Just(7), Just(60), Just(3_600)];
        (1_u32..200, windows, 0_u8..3, 1_u32..100).prop_map(|(requests, window, which, burst)| {
            let limit = Limit::new(requests, Duration::from_secs(window)).unwrap();
            match which {
                0 => limit.fixed(),
                1 => limit,
                _ => limit.bucket(burst),
            }
        })
    }

    /// Steps of a part of a window, or of several windows, and costs.
    pub(crate) fn requests() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let step = prop_oneof![4 => 0_u64..50, 4 => 50_u64..1_100, 1 => 1_100_u64..4_000];
        proptest::collection::vec((step, 0_u32..40), 1..200)
    }

    /// The most that an interval of a length may admit, times the window.
    pub(crate) fn bound(limit: Limit, length: u64) -> Option<u64> {
        let (requests, window) = (u64::from(limit.requests()), limit.window_ms());
        match limit.algorithm() {
            Algorithm::Fixed => (length < window).then_some(2 * requests * window),
            Algorithm::Sliding => (length <= window).then_some(requests * (window + length)),
            Algorithm::Bucket => Some(u64::from(limit.capacity()) * window + requests * length),
        }
    }

    proptest! {
        /// The bounds of the module's documentation, over every interval.
        #[test]
        fn no_interval_admits_more_than_the_bound(limit in limits(), requests in requests()) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (step, cost) in requests {
                now += step * window / 1000;
                if let Some(new) = charge(counter, limit, cost, at(now)) {
                    counter = new;
                    admitted.push((now, u64::from(cost)));
                }
            }
            for (from, (start, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (end, cost) in admitted.iter().skip(from) {
                    sum += cost;
                    if let Some(bound) = bound(limit, end - start) {
                        prop_assert!(sum * window <= bound, "{sum} in {} ms", end - start);
                    }
                }
            }
        }

        /// That a request is admitted is what the room says, which is told.
        #[test]
        fn a_request_is_admitted_where_there_is_room(
            limit in limits(), requests in requests(), old in 0_u8..2,
        ) {
            // A window of an older store may be a month.
            let limit = match old {
                0 => limit,
                _ => Limit::stored(
                    u32::MAX, 2_678_400, limit.algorithm(), limit.capacity().max(u32::MAX - 9),
                ).unwrap(),
            };
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                counter = counter.moved_to(limit, at(now));
                let room = counter.room(limit, at(now));
                for cost in [cost, 0, 1, room, room.saturating_add(1), u32::MAX] {
                    prop_assert_eq!(counter.admits(limit, cost, at(now)), cost <= room);
                }
                // Also beyond its limit, as a settlement charges.
                counter.add(limit, u64::from(cost) * u64::from(limit.requests()) / 20, at(now));
            }
        }

        /// A fixed window admits its requests from when it was opened to when it ends, and
        /// no more, whatever came before.
        #[test]
        fn a_fixed_window_admits_its_requests_and_no_more(
            limit in limits().prop_map(Limit::fixed), requests in requests(),
        ) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let (mut now, mut opened, mut sum) = (0, None, 0);
            for (step, cost) in requests {
                now += step * window / 1000;
                if opened.is_some_and(|opened| now >= opened + window) {
                    (opened, sum) = (None, 0);
                }
                let fits = sum + cost <= limit.requests();
                let charged = charge(counter, limit, cost, at(now));
                prop_assert_eq!(charged.is_some(), fits);
                if let Some(new) = charged {
                    counter = new;
                    sum += cost;
                    if sum > 0 {
                        opened = opened.or(Some(now));
                    }
                }
            }
        }

        /// The instant that is told is the first at which the request is admitted, and
        /// what is said to remain remains.
        #[test]
        fn the_told_instant_and_the_rest_are_exact(limit in limits(), requests in requests()) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                if let Some(new) = charge(counter, limit, cost, at(now)) {
                    counter = new;
                }
                let moved = counter.moved_to(limit, at(now));
                let status = moved.status(limit, Level::Key, at(now));
                let remaining = status.remaining();
                prop_assert!(charge(counter, limit, remaining, at(now)).is_some());
                prop_assert!(charge(counter, limit, remaining + 1, at(now)).is_none());
                for cost in [1, cost, remaining + 1, limit.capacity(), limit.capacity() + 1] {
                    let Some(instant) = moved.admits_at(limit, cost.into(), at(now)) else {
                        prop_assert!(cost > limit.capacity());
                        continue;
                    };
                    prop_assert!(charge(counter, limit, cost, instant).is_some());
                    if instant > at(now) {
                        let before = Timestamp::from_raw(instant.unix_ms() - 1);
                        prop_assert!(charge(counter, limit, cost, before).is_none());
                    }
                }
                let more = moved.admits_at(limit, u64::from(remaining) + 1, at(now));
                prop_assert_eq!(status.resets_at(), more.unwrap_or(at(now)));
            }
        }

        /// A charge that is taken back is worth no more than it was, and exactly that
        /// where nothing else came between.
        #[test]
        fn what_is_taken_back_is_what_was_charged(
            limit in limits(), requests in requests(), later in 0_u64..3_000,
        ) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                let Some(charged) = charge(counter, limit, cost, at(now)) else {
                    continue;
                };
                let mut at_once = charged;
                at_once.take_back(limit, cost.into(), at(now));
                let was = counter.moved_to(limit, at(now));
                prop_assert_eq!(at_once.room(limit, at(now)), was.room(limit, at(now)));
                let then = at(now + later * window / 1000);
                let mut back = charged.moved_to(limit, then);
                back.take_back(limit, cost.into(), at(now));
                let never = counter.moved_to(limit, then);
                prop_assert!(back.room(limit, then) <= never.room(limit, then));
                if limit.algorithm() == Algorithm::Sliding {
                    prop_assert_eq!(back.room(limit, then), never.room(limit, then));
                }
                counter = charged;
            }
        }

        /// What a settlement puts over the limit is waited for, and never overflows.
        #[test]
        fn a_counter_that_is_over_its_limit_recovers(limit in limits(), over in 0_u32..10_000_000) {
            let mut counter = Counter::default();
            counter.add(limit, over.into(), at(0));
            let told = counter.admits_at(limit, 1, at(0)).unwrap();
            prop_assert!(charge(counter, limit, 1, told).is_some());
        }

        /// A clock that was ahead and is corrected makes nobody wait for longer than the
        /// counter's windows, and a wait that is obeyed is the last.
        #[test]
        fn a_corrected_clock_makes_nobody_wait_for_long(
            limit in limits(), ahead in 1_100_u64..100_000_000, spent in 1_u32..100,
        ) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            for _ in 0..spent {
                counter = charge(counter, limit, 1, at(ahead)).unwrap_or(counter);
            }
            let moved = counter.moved_to(limit, at(0));
            let told = moved.admits_at(limit, 1, at(0)).unwrap();
            let drains = u64::from(limit.capacity()) * window / u64::from(limit.requests());
            prop_assert!(told.unix_ms() <= at(0).unix_ms() + (2 * window).max(drains + 1));
            prop_assert!(charge(moved, limit, 1, told).is_some());
        }

        /// Where it is all the same which of some instants a request comes at, it is.
        #[test]
        fn a_steady_counter_comes_to_the_same_at_each_instant(
            limit in limits(), requests in requests(), cost in 1_u32..100,
            ago in 0_u64..3_000, last in 0_u64..1_000, later in 0_u64..=1_000,
        ) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                counter = charge(counter, limit, cost, at(now)).unwrap_or(counter);
                if cost % 8 == 0 {
                    counter.take_back(limit, cost.into(), at(now));
                }
            }
            let first = now + ago * window / 3_000;
            let last = first + last * window / 1000;
            let exact = first + (last - first) * later / 1000;
            let is_steady = counter.is_steady(limit, at(first), at(last));
            let when = When { first: at(first), last: Some(at(last)) };
            let expected = charge(counter, limit, cost, at(first)).filter(|_| is_steady);
            prop_assert_eq!(counter.charged(limit, cost, when), expected);
            let expected = charge(counter, limit, cost, at(first));
            prop_assert_eq!(counter.charged(limit, cost, When::exact(at(first))), expected);
            if counter.is_steady(limit, at(first), at(last))
                && let Some(coarse) = charge(counter, limit, cost, at(first))
            {
                let charged = charge(counter, limit, cost, at(exact));
                prop_assert_eq!(charged, Some(coarse.moved_to(limit, at(exact))));
            }
        }

        /// An idle counter is one that counts nothing, at that instant and after.
        #[test]
        fn an_idle_counter_is_like_a_new_one(limit in limits(), requests in requests()) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                if counter.is_idle(limit, at(now)) {
                    let moved = counter.moved_to(limit, at(now));
                    prop_assert_eq!(moved.room(limit, at(now)), limit.capacity());
                }
                counter = charge(counter, limit, cost, at(now)).unwrap_or(counter);
                let again = at(now + 2 * window + 3_600_000_000);
                prop_assert!(counter.is_idle(limit, again));
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let hour = Limit::WINDOW_MAX;
        let largest = Limit::new(u32::MAX, hour).unwrap();
        // A limit of an older store may have a longer window.
        let old = Limit::stored(4_194_302, 31 * 86_400, Algorithm::Sliding, 4_194_302).unwrap();
        for limit in [largest.fixed(), largest, largest.bucket(u32::MAX), old] {
            for now in [Timestamp::MIN, at(0), Timestamp::MAX] {
                let full = charge(Counter::default(), limit, limit.capacity(), now).unwrap();
                assert_eq!(full.status(limit, Level::Key, now).remaining(), 0);
                assert!(charge(full, limit, 1, now).is_none());
                assert!(charge(full, limit, 0, now).is_some());
                assert!(full.admits_at(limit, 1, now).is_some());
                let mut over = full;
                over.add(limit, u64::MAX, now);
                assert_eq!(over.room(limit, now), 0);
                assert!(over.admits_at(limit, 1, now).is_some());
                over.take_back(limit, u64::MAX, now);
                let mut over = full;
                over.add(limit, u64::MAX, now);
                assert_eq!(over.room(limit, now), 0);
            }
        }
    }

    #[test]
    fn what_has_drained_of_a_bucket_is_not_taken_back_from_what_came_since() {
        let limit = Limit::per_minute(60).bucket(60);
        let first = charge(Counter::default(), limit, 10, at(0)).unwrap();
        let mut both = charge(first, limit, 10, at(10_000)).unwrap();
        both.take_back(limit, 10, at(0));
        assert_eq!(both.room(limit, at(10_000)), 50);
    }

    #[test]
    fn one_bucket_of_the_second_system_drains_one_request_in_3_6_seconds() {
        let limit = Limit::per_hour(1_000).bucket(50);
        let mut counter = Counter::default();
        for _ in 0..50 {
            counter = charge(counter, limit, 1, at(0)).unwrap();
        }
        assert!(charge(counter, limit, 1, at(3_599)).is_none());
        assert!(charge(counter, limit, 1, at(3_600)).is_some());
    }
}
