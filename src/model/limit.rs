//! Limits: so many requests a window. Pure arithmetic; where the counters live
//! is [`crate::memory::limiter`]'s matter.
//!
//! A counter is a *sliding window counter*: the requests of the window of the
//! clock that runs now, and of the one before, which counts for as much as of it
//! a window that ends now would still cover. A request of cost `c` is admitted at
//! `e` into a window of length `w` if
//!
//! ```text
//! previous * (w - e) + current * w + c * w  <=  requests * w
//! ```
//!
//! in whole milliseconds, so that nothing is rounded. Hence the bound: in any
//! interval of a length `t` up to `w`, at most `requests * (1 + t / w)` are
//! admitted: at the edge of a window, where `t` is small, no more than `requests`,
//! not twice as many.
//! (Let an edge be in the interval, `x` requests before it and `y` after, the last
//! at `e`, so that `e <= t`. The rule says `x * (w - e) + y * w <= requests * w`,
//! since the window before had at least `x`; and `x <= requests`. Hence
//! `x + y <= requests + x * e / w <= requests * (1 + t / w)`.)

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};

/// So many requests a window of the clock, counted so that they slide: what was
/// requested in the window before counts for as much as of it a window that ends now
/// would cover. So no edge lets twice the limit through.
///
/// ```
/// use std::time::Duration;
/// use gatekey::Limit;
///
/// let limit = Limit::per_hour(1_000);
/// assert_eq!(limit.requests(), 1_000);
/// assert_eq!(limit.window(), Duration::from_secs(3_600));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Given", into = "Given")
)]
pub struct Limit {
    requests: u32,
    /// Not zero, so that an optional limit takes no more room.
    window_s: NonZeroU32,
}

/// A limit as it is written, and as it is read, which need not be one.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    requests: u32,
    #[serde(with = "crate::model::serialized::duration")]
    window: Duration,
}

#[cfg(feature = "serde")]
impl TryFrom<Given> for Limit {
    type Error = Error;

    fn try_from(given: Given) -> Result<Self, Error> {
        Self::new(given.requests, given.window)
    }
}

#[cfg(feature = "serde")]
impl From<Limit> for Given {
    fn from(limit: Limit) -> Self {
        Self {
            requests: limit.requests(),
            window: limit.window(),
        }
    }
}

impl Limit {
    /// The most requests that a limit can allow in a window.
    pub const REQUESTS_MAX: u32 = (1 << COUNT_BITS) - 2;
    /// The longest window: 31 days.
    pub const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);

    /// So many requests a window.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for requests that are not 1 to
    /// [`REQUESTS_MAX`](Self::REQUESTS_MAX), or a window that is not whole seconds,
    /// 1 to those of [`WINDOW_MAX`](Self::WINDOW_MAX).
    pub fn new(requests: u32, window: Duration) -> Result<Self, Error> {
        let malformed = |why: &str| {
            let value = format!("{requests} in {window:?}");
            Error::from(Invalid::malformed("limit", &value, why))
        };
        let window_s = u32::try_from(window.as_secs())
            .ok()
            .and_then(NonZeroU32::new);
        match window_s {
            Some(window_s) if window.subsec_nanos() == 0 && window <= Self::WINDOW_MAX => {
                let limit = Self { requests, window_s };
                limit.validate().map_err(malformed)?;
                Ok(limit)
            }
            _ => Err(malformed(
                "the window is not whole seconds, from 1 second to 31 days",
            )),
        }
    }

    /// So many requests a second. Checked where it is used.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::of(requests, NonZeroU32::MIN)
    }

    /// So many requests a minute. Checked where it is used.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::of(requests, MINUTE)
    }

    /// So many requests an hour. Checked where it is used.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::of(requests, HOUR)
    }

    /// So many requests a day of UTC. Checked where it is used.
    #[must_use]
    pub const fn per_day(requests: u32) -> Self {
        Self::of(requests, DAY)
    }

    const fn of(requests: u32, window_s: NonZeroU32) -> Self {
        Self { requests, window_s }
    }

    pub(crate) fn validate(self) -> Result<(), &'static str> {
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            return Err("the requests are not 1 to 4194302");
        }
        Ok(())
    }

    /// How many requests.
    #[must_use]
    pub const fn requests(self) -> u32 {
        self.requests
    }

    /// In how long a window. Windows begin at multiples of their length since
    /// the Unix epoch.
    #[must_use]
    pub const fn window(self) -> Duration {
        Duration::from_secs(self.window_s.get() as u64)
    }

    pub(crate) const fn window_s(self) -> u32 {
        self.window_s.get()
    }

    fn window_ms(self) -> u64 {
        u64::from(self.window_s.get()) * 1000
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.window_s.get() {
            1 => write!(f, "{} a second", self.requests),
            60 => write!(f, "{} a minute", self.requests),
            3_600 => write!(f, "{} an hour", self.requests),
            86_400 => write!(f, "{} a day", self.requests),
            seconds => write!(f, "{} in {seconds} s", self.requests),
        }
    }
}

/// How much of a limit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LimitStatus {
    limit: Limit,
    remaining: u32,
    resets_at: Timestamp,
}

impl LimitStatus {
    /// The limit.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// How many requests of cost 1 it would admit now.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The same, with a reset no earlier than a time after an instant.
    #[cfg(feature = "http")]
    pub(crate) fn resetting_at_least_at(self, now: Timestamp, wait: Duration) -> Self {
        Self {
            resets_at: self.resets_at.max(now.saturating_add(wait)),
            ..self
        }
    }

    /// The same with nothing left.
    pub(crate) fn exhausted(self) -> Self {
        Self {
            remaining: 0,
            ..self
        }
    }

    /// When its window of the clock ends. From then on, what was requested in
    /// that window counts for less and less. Where an answer tells of the limit that
    /// refused a request: when that would be admitted, if it is later.
    #[must_use]
    pub fn resets_at(&self) -> Timestamp {
        self.resets_at
    }
}

const MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
const HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3_599);
const DAY: NonZeroU32 = NonZeroU32::MIN.saturating_add(86_399);

const COUNT_BITS: u32 = 22;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_BITS: u32 = 64 - 2 * COUNT_BITS;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// A counter, packed into a word: the number of its window, modulo 2^20, and the
/// requests of the window before and of that one. 0 is one that never counted.
///
/// Modulo 2^20: what was not used for about so many windows may be taken for
/// current, and refuse too much for a while. A clock that steps back by up to 64
/// windows is noticed; one that steps back by more begins to count anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counter(pub(crate) u64);

/// How many windows a counter may be ahead of a clock that stepped back.
const AHEAD_MAX: u64 = 64;

/// Whether a window number that is so many behind is rather ahead.
fn is_ahead(behind: u64) -> bool {
    behind > NUMBER_MASK - AHEAD_MAX
}

/// A counter as it reads at an instant.
struct Reading {
    /// How far the window has run, and its length, in milliseconds.
    elapsed: u64,
    window: u64,
    ends_at: u64,
    number: u64,
    previous: u64,
    current: u64,
}

/// What charging a counter comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charged {
    Admitted(Counter, LimitStatus),
    /// Refused, with the time after which the request would be admitted if no
    /// other came; `None`: it costs more than the limit ever allows.
    Refused(LimitStatus, Option<Duration>),
}

impl Counter {
    fn read(self, limit: Limit, now: Timestamp) -> Reading {
        let window = limit.window_ms();
        let number = now.unix_ms() / window;
        let previous = self.0 >> COUNT_BITS & COUNT_MASK;
        let current = self.0 & COUNT_MASK;
        let mut reading = Reading {
            elapsed: now.unix_ms() % window,
            window,
            ends_at: (number + 1)
                .saturating_mul(window)
                .min(Timestamp::MAX.unix_ms()),
            number: number & NUMBER_MASK,
            previous: 0,
            current: 0,
        };
        let behind = number.wrapping_sub(self.number()) & NUMBER_MASK;
        match behind {
            0 => (reading.previous, reading.current) = (previous, current),
            1 => reading.previous = current,
            // The clock stepped back: all counts as if the window had just begun.
            _ if is_ahead(behind) && self != Self::default() => {
                reading.number = self.number();
                reading.elapsed = 0;
                (reading.previous, reading.current) = (previous, current);
            }
            _ => {}
        }
        reading
    }

    /// Charges a request of a cost.
    pub(crate) fn charge(self, limit: Limit, cost: u32, now: Timestamp) -> Charged {
        let mut reading = self.read(limit, now);
        if u64::from(cost) * reading.window <= reading.room(limit) {
            reading.current += u64::from(cost);
            return Charged::Admitted(reading.counter(), reading.status(limit));
        }
        Charged::Refused(reading.status(limit), reading.wait(limit, cost))
    }

    /// The number of its window.
    fn number(self) -> u64 {
        self.0 >> (2 * COUNT_BITS)
    }

    /// Takes a charge back, given what the counter was right after it.
    pub(crate) fn give_back(self, cost: u32, charged: Self) -> Self {
        let cost = u64::from(cost);
        let previous = self.0 >> COUNT_BITS & COUNT_MASK;
        let current = self.0 & COUNT_MASK;
        let (previous, current) = match self.number().wrapping_sub(charged.number()) & NUMBER_MASK {
            0 => (previous, current.saturating_sub(cost)),
            1 => (previous.saturating_sub(cost), current),
            // Later, the charge counts no more.
            _ => (previous, current),
        };
        Self(self.number() << (2 * COUNT_BITS) | previous << COUNT_BITS | current)
    }

    /// Whether nothing in it counts any more.
    pub(crate) fn is_idle(self, limit: Limit, now: Timestamp) -> bool {
        let reading = self.read(limit, now);
        reading.previous == 0 && reading.current == 0
    }
}

impl Reading {
    /// The requests that count, times the window's length.
    fn weight(&self) -> u64 {
        self.previous * (self.window - self.elapsed) + self.current * self.window
    }

    /// What is free, times the window's length.
    fn room(&self, limit: Limit) -> u64 {
        (u64::from(limit.requests) * self.window).saturating_sub(self.weight())
    }

    fn counter(&self) -> Counter {
        Counter(self.number << (2 * COUNT_BITS) | self.previous << COUNT_BITS | self.current)
    }

    fn status(&self, limit: Limit) -> LimitStatus {
        LimitStatus {
            limit,
            remaining: u32::try_from(self.room(limit) / self.window).unwrap_or(u32::MAX),
            resets_at: Timestamp::from_raw(self.ends_at),
        }
    }

    fn wait(&self, limit: Limit, cost: u32) -> Option<Duration> {
        let free = u64::from(limit.requests).checked_sub(u64::from(cost))?;
        // In this window `current` stays, and `previous` counts for less: at
        // `e`, previous * (w - e) <= (free - current) * w.
        let wait_ms = match free.checked_sub(self.current) {
            Some(free) if self.previous > 0 => {
                let covered = (free * self.window / self.previous).min(self.window);
                (self.window - covered).saturating_sub(self.elapsed)
            }
            Some(_) => 0,
            // In the next, what is current now is the window before.
            None => {
                let covered = (free * self.window / self.current).min(self.window);
                (self.window - self.elapsed) + (self.window - covered)
            }
        };
        Some(Duration::from_millis(wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_raw(1_767_225_600_000 + ms)
    }

    fn admits(counter: Counter, limit: Limit, cost: u32, now: Timestamp) -> bool {
        matches!(counter.charge(limit, cost, now), Charged::Admitted(..))
    }

    fn limits() -> impl Strategy<Value = Limit> {
        let windows = prop_oneof![Just(1), Just(2), Just(7), Just(60), Just(3_600)];
        (1_u32..200, windows).prop_map(|(requests, window)| {
            Limit::new(requests, Duration::from_secs(window)).unwrap()
        })
    }

    /// Steps of a part of a window, or of several windows, and costs.
    fn requests() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let step = prop_oneof![4 => 0_u64..50, 4 => 50_u64..1_100, 1 => 1_100_u64..4_000];
        proptest::collection::vec((step, 0_u32..40), 1..200)
    }

    proptest! {
        /// The bound of the module's documentation, over every interval.
        #[test]
        fn no_interval_admits_more_than_the_bound(limit in limits(), requests in requests()) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (step, cost) in requests {
                now += step * window / 1000;
                if let Charged::Admitted(new, _) = counter.charge(limit, cost, at(now)) {
                    counter = new;
                    admitted.push((now, u64::from(cost)));
                }
            }
            for (from, (start, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (end, cost) in admitted.iter().skip(from) {
                    sum += cost;
                    let length = end - start;
                    if length <= window {
                        let bound = u64::from(limit.requests()) * (window + length);
                        prop_assert!(sum * window <= bound, "{sum} in {length} ms");
                    }
                }
            }
        }

        /// The time to wait is exact, and what is said to remain is.
        #[test]
        fn the_wait_and_the_rest_are_exact(limit in limits(), requests in requests()) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                match counter.charge(limit, cost, at(now)) {
                    Charged::Admitted(new, status) => {
                        counter = new;
                        prop_assert!(admits(counter, limit, status.remaining(), at(now)));
                        prop_assert!(!admits(counter, limit, status.remaining() + 1, at(now)));
                        prop_assert!(status.resets_at() > at(now));
                    }
                    Charged::Refused(_, None) => prop_assert!(cost > limit.requests()),
                    Charged::Refused(_, Some(wait)) => {
                        let wait = u64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(wait > 0);
                        prop_assert!(admits(counter, limit, cost, at(now + wait)));
                        prop_assert!(!admits(counter, limit, cost, at(now + wait - 1)));
                    }
                }
            }
        }

        /// A charge that is taken back leaves no trace.
        #[test]
        fn what_is_given_back_was_never_charged(
            limit in limits(), requests in requests(), later in 0_u64..3_000,
        ) {
            let window = limit.window_ms();
            let mut counter = Counter::default();
            let mut now = 0;
            for (step, cost) in requests {
                now += step * window / 1000;
                let Charged::Admitted(charged, _) = counter.charge(limit, cost, at(now)) else {
                    continue;
                };
                // Somebody else's request of no cost moves the window on.
                let then = at(now + later * window / 1000);
                let Charged::Admitted(moved, _) = charged.charge(limit, 0, then) else {
                    return Err(TestCaseError::fail("nothing is always admitted"));
                };
                let back = moved.give_back(cost, charged);
                let Charged::Admitted(expected, _) = counter.charge(limit, 0, then) else {
                    return Err(TestCaseError::fail("nothing is always admitted"));
                };
                prop_assert_eq!(back, expected);
                counter = charged;
            }
        }
    }

    #[test]
    fn the_largest_limit_and_window_do_not_overflow() {
        let limit = Limit::new(Limit::REQUESTS_MAX, Limit::WINDOW_MAX).unwrap();
        let Charged::Admitted(full, status) =
            Counter::default().charge(limit, Limit::REQUESTS_MAX, Timestamp::MAX)
        else {
            panic!("refused");
        };
        assert_eq!(status.remaining(), 0);
        assert_ne!(full.0, u64::MAX);
        assert!(!admits(full, limit, 1, Timestamp::MAX));
        assert!(!admits(full, limit, u32::MAX, Timestamp::MAX));
        assert!(admits(full, limit, 0, Timestamp::MAX));
    }

    fn charged(counter: Counter, limit: Limit, cost: u32, now: Timestamp) -> Counter {
        match counter.charge(limit, cost, now) {
            Charged::Admitted(new, _) => new,
            Charged::Refused(..) => panic!("refused"),
        }
    }

    #[test]
    fn a_clock_that_steps_back_by_64_windows_lends_nothing_and_further_begins_anew() {
        let limit = Limit::per_second(5);
        let full = charged(Counter::default(), limit, 5, at(100_900));
        for back in 1..=64 {
            assert!(!admits(full, limit, 1, at(100_999 - back * 1000)), "{back}");
        }
        // Past that, it is taken for one of long ago.
        assert!(admits(full, limit, 5, at(100_999 - 65 * 1000)));
        // When the clock has caught up, they count for what they would have.
        assert!(!admits(full, limit, 1, at(101_199)));
        assert!(admits(full, limit, 1, at(101_200)));
    }

    #[test]
    fn a_counter_that_never_counted_is_of_no_window_that_is_yet_to_come() {
        let limit = Limit::per_second(5);
        // Windows whose numbers are just before a multiple of 2^20.
        let before = (1_u64 << NUMBER_BITS) * 2_000;
        for ahead in 1..=64 {
            let now = Timestamp::from_raw((before - ahead) * 1000);
            let full = charged(Counter::default(), limit, 5, now);
            assert!(!admits(full, limit, 1, now));
            let later = now.saturating_add(Duration::from_millis(1_200));
            assert!(admits(full, limit, 1, later), "{ahead} before");
            assert!(!admits(full, limit, 2, later), "{ahead} before");
        }
    }
}
