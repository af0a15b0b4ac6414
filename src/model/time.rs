//! The engine's time: the later of the clock and the newest instant that counted. And
//! how the engine notices a wrong clock.

use std::time::Duration;

use crate::model::clock::{Clock, Timestamp};
use crate::model::error::Error;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// How many bits of [`Time`]'s word are the instant: enough for the year 9999.
const INSTANT_BITS: u32 = 48;
const INSTANT_MASK: u64 = (1 << INSTANT_BITS) - 1;
const ERA_MAX: u64 = u64::MAX >> INSTANT_BITS;

/// The newest instant that was committed, or at which the engine said that a key is
/// over. Time never runs behind it, until a call sets time back, which begins a new
/// *era*.
///
/// One word, the era above the instant, that only grows: a thread that read the time in
/// an earlier era cannot hold time in a later one.
pub(crate) struct Time(AtomicU64);

/// The time when it was read.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    pub(crate) at: Timestamp,
    /// What the clock said. For what is counted in windows: a clock that was ahead and is
    /// corrected must not hold up callers until it has caught up.
    pub(crate) clock: Timestamp,
    era: u64,
}

/// The present by the coarse clock.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) present: Present,
    /// What the clock said.
    pub(crate) clock: Timestamp,
}

/// How much later than the coarse clock the exact one is taken to be at most: ten times
/// what it may be, for a machine that was held up.
const COARSE: Duration = Duration::from_millis(100);

/// The instant of a charge: one that is known, or any of a few, of which the first is
/// known. Of those a charge takes the first where all of them come to the same.
#[derive(Clone, Copy)]
pub(crate) struct When {
    pub(crate) first: Timestamp,
    /// Where there are several.
    pub(crate) last: Option<Timestamp>,
}

impl When {
    /// What the clock said.
    pub(crate) fn exact(now: Timestamp) -> Self {
        Self {
            first: now,
            last: None,
        }
    }

    /// What the clock may have said where this is of the coarse one.
    pub(crate) fn coarse(now: Timestamp) -> Self {
        Self {
            first: now,
            last: Some(now.saturating_add(COARSE)),
        }
    }
}

impl Present {
    /// The same, at another instant.
    pub(crate) fn moved_to(self, at: Timestamp) -> Self {
        Self { at, ..self }
    }

    fn word(self) -> u64 {
        self.era << INSTANT_BITS | self.at.unix_ms()
    }
}

impl Time {
    pub(crate) fn new(committed: Timestamp) -> Self {
        Self(AtomicU64::new(committed.unix_ms()))
    }

    fn read(&self) -> Present {
        let word = self.0.load(Ordering::Acquire);
        let at = Timestamp::from_raw(word & INSTANT_MASK);
        Present {
            at,
            clock: at,
            era: word >> INSTANT_BITS,
        }
    }

    /// The present.
    pub(crate) fn now(&self, clock: &dyn Clock) -> Present {
        // The clock is read after the era, so that nobody holds what it said before
        // time was set back.
        let latest = self.read();
        let clock = clock.now();
        Present {
            at: latest.at.max(clock),
            clock,
            ..latest
        }
    }

    /// The present, or an instant shortly before it.
    pub(crate) fn coarse(&self, clock: &dyn Clock) -> Now {
        let latest = self.read();
        let clock = clock.coarse_now();
        Now {
            present: latest.moved_to(latest.at.max(clock)),
            clock,
        }
    }

    /// Keeps time from running behind an instant.
    pub(crate) fn hold(&self, present: Present) {
        self.0.fetch_max(present.word(), Ordering::AcqRel);
    }

    /// As [`hold`](Self::hold), for the instant of a commit. Only one commits at a time.
    pub(crate) fn hold_commit(&self, at: Timestamp) {
        self.hold(self.read().moved_to(at));
    }

    /// Sets time back, once that is committed.
    pub(crate) fn set_back(&self, to: Timestamp) {
        let era = self.read().era.saturating_add(1).min(ERA_MAX);
        self.hold(Present {
            at: to,
            clock: to,
            era,
        });
    }

    /// Whether time can be set back once more without opening the store again.
    pub(crate) fn can_be_set_back(&self) -> bool {
        self.read().era < ERA_MAX
    }
}

/// A leap of the clock, from where it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClockLeap {
    /// What the clock should have said, given what it said before and how much time has
    /// passed since.
    pub expected: Timestamp,
    /// What it said.
    pub found: Timestamp,
}

/// What an engine knows of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClockStatus {
    /// What the clock says.
    pub clock: Timestamp,
    /// The engine's present: the later of the clock and the newest instant that
    /// counted.
    pub now: Timestamp,
    /// The newest instant that the store has committed.
    pub committed: Timestamp,
    /// How far the clock lags behind the engine's present, which stands still
    /// meanwhile.
    #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
    pub behind: Duration,
    /// How many leaps the engine has noticed since it was opened, forward and back.
    pub leaps: u64,
    /// The last of them.
    pub last_leap: Option<ClockLeap>,
    /// How far a clock may be off without a report:
    /// [`Options::clock_leap`](crate::Options::clock_leap).
    #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
    pub allowed: Duration,
}

impl ClockStatus {
    /// Whether an operator should look at the host's clock: it lags behind the engine's
    /// present by more than is allowed, or it has leapt since the engine was opened.
    /// [`Engine::set_time_back`](crate::Engine::set_time_back) helps where the present
    /// is wrong.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.behind > self.allowed || self.leaps > 0
    }
}

/// Compares the clock with one that cannot be set.
pub(crate) struct Watch {
    allowed: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What both clocks said, with slow adjustments of the settable one followed.
    last: Option<(Timestamp, Duration)>,
    leaps: u64,
    last_leap: Option<ClockLeap>,
}

impl Watch {
    pub(crate) fn new(allowed: Duration) -> Self {
        Self {
            allowed,
            seen: Mutex::default(),
        }
    }

    /// Looks at the clock.
    pub(crate) fn look(&self, clock: &dyn Clock) {
        let Some(steady) = clock.steady() else {
            return;
        };
        let found = clock.now();
        let mut seen = lock(&self.seen);
        let Some((at, then)) = seen.last else {
            seen.last = Some((found, steady));
            return;
        };
        let passed = steady.saturating_sub(then);
        let expected = at.saturating_add(passed);
        let off = apart(expected, found);
        if off > self.allowed {
            seen.leaps += 1;
            seen.last_leap = Some(ClockLeap { expected, found });
            seen.last = Some((found, steady));
            return;
        }
        // Follows a clock that is adjusted slowly, at a rate of a thousandth: frequent
        // small steps still add up to a leap.
        let follow = off.min(passed / 1000);
        let near = match found >= expected {
            true => expected.saturating_add(follow),
            false => expected.saturating_sub(follow),
        };
        seen.last = Some((near, steady));
    }

    pub(crate) fn status(
        &self,
        clock: &dyn Clock,
        time: &Time,
        committed: Timestamp,
    ) -> ClockStatus {
        self.look(clock);
        let now = time.now(clock).at;
        let reads = clock.now();
        let seen = lock(&self.seen);
        ClockStatus {
            clock: reads,
            now,
            committed,
            behind: now.saturating_since(reads),
            leaps: seen.leaps,
            last_leap: seen.last_leap,
            allowed: self.allowed,
        }
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.saturating_since(other).max(other.saturating_since(one))
}

/// The error of an engine whose time was set back too often.
pub(crate) fn no_more_eras() -> Error {
    Error::Internal("time was set back 65,535 times since the store was opened")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_raw(ms)
    }

    /// A clock that is set, beside one that is not, both by hand.
    #[derive(Debug, Clone, Default)]
    struct Hands(Arc<[AtomicU64; 2]>);

    impl Hands {
        fn pass(&self, by: Duration) {
            self.step(by);
            let by = u64::try_from(by.as_millis()).unwrap();
            self.0[1].fetch_add(by, Ordering::SeqCst);
        }

        fn step(&self, by: Duration) {
            let by = u64::try_from(by.as_millis()).unwrap();
            self.0[0].fetch_add(by, Ordering::SeqCst);
        }

        fn step_back(&self, by: Duration) {
            let by = u64::try_from(by.as_millis()).unwrap();
            self.0[0].fetch_sub(by, Ordering::SeqCst);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            ms(self.0[0].load(Ordering::SeqCst))
        }

        fn steady(&self) -> Option<Duration> {
            Some(Duration::from_millis(self.0[1].load(Ordering::SeqCst)))
        }
    }

    fn leaps(watch: &Watch, hands: &Hands) -> u64 {
        let time = Time::new(Timestamp::MIN);
        watch.status(hands, &time, Timestamp::MIN).leaps
    }

    #[test]
    fn a_leap_is_noticed_forward_and_back_and_time_that_passes_is_none() {
        let (watch, hands) = (Watch::new(5 * MINUTE), Hands::default());
        hands.step(600 * MINUTE);
        assert_eq!(leaps(&watch, &hands), 0);
        hands.pass(100_000 * MINUTE);
        assert_eq!(leaps(&watch, &hands), 0, "a long time is no leap");
        hands.step(5 * MINUTE);
        assert_eq!(leaps(&watch, &hands), 0, "within what is allowed");
        hands.step(MINUTE);
        assert_eq!(leaps(&watch, &hands), 1);
        let at = hands.now();
        let leap = lock(&watch.seen).last_leap.unwrap();
        assert_eq!(leap.found, at);
        assert_eq!(leap.expected, at.saturating_sub(6 * MINUTE));
        hands.step_back(6 * MINUTE);
        assert_eq!(leaps(&watch, &hands), 2);
        assert_eq!(leaps(&watch, &hands), 2, "told once");
    }

    #[test]
    fn small_steps_add_up_to_a_leap_and_a_clock_that_is_slewed_does_not() {
        let (watch, hands) = (Watch::new(5 * MINUTE), Hands::default());
        leaps(&watch, &hands);
        for _ in 0..6 {
            hands.pass(MINUTE);
            hands.step(MINUTE);
            leaps(&watch, &hands);
        }
        assert_eq!(leaps(&watch, &hands), 1);
        for _ in 0..100 {
            // Half a second in 1,000: what adjtime does at most.
            hands.pass(1000 * MINUTE);
            hands.step(MINUTE / 2);
            assert_eq!(leaps(&watch, &hands), 1);
        }
    }

    #[test]
    fn a_clock_beside_which_there_is_no_other_leaps_unnoticed() {
        let clock = crate::ManualClock::at(ms(0));
        let (watch, time) = (Watch::new(MINUTE), Time::new(ms(0)));
        watch.look(&clock);
        clock.advance(1000 * MINUTE);
        assert_eq!(watch.status(&clock, &time, ms(0)).leaps, 0);
    }

    #[test]
    fn the_clock_of_the_system_does_not_leap_by_itself() {
        let (watch, time) = (Watch::new(MINUTE), Time::new(ms(0)));
        for _ in 0..3 {
            assert_eq!(watch.status(&crate::SystemClock, &time, ms(0)).leaps, 0);
        }
        assert!(crate::SystemClock.steady().is_some());
    }

    #[test]
    fn what_was_read_before_time_was_set_back_holds_nothing_after() {
        let clock = crate::ManualClock::at(ms(9_000));
        let time = Time::new(ms(1_000));
        let early = time.now(&clock);
        clock.set(ms(2_000));
        time.set_back(ms(2_000));
        time.hold(early);
        assert_eq!(time.read().at, ms(2_000));
        time.hold(time.now(&clock).moved_to(ms(3_000)));
        assert_eq!(time.read().at, ms(3_000));
        time.hold_commit(ms(2_500));
        assert_eq!(time.read().at, ms(3_000));
        time.hold_commit(Timestamp::MAX);
        assert_eq!(time.read().at, Timestamp::MAX);
    }
}
