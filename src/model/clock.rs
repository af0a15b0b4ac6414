//! Instants, and the clock that returns them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::parse::ParseError;

/// An instant, in milliseconds since 1970-01-01T00:00:00Z.
///
/// It prints and parses as RFC 3339, and converts from [`SystemTime`].
///
/// ```
/// use gatekey::Timestamp;
///
/// let instant: Timestamp = "2026-01-31T12:00:00Z".parse()?;
/// assert_eq!(instant.unix_seconds(), 1_769_860_800);
/// assert_eq!(instant.to_string(), "2026-01-31T12:00:00Z");
/// assert!(Timestamp::from_unix_seconds(-1).is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

const OUT_OF_RANGE: &str = "outside the instants that can be represented (1970 to 9999)";

fn out_of_range(value: &str) -> ParseError {
    ParseError::new("time", value, OUT_OF_RANGE)
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-30T22:00:00Z, the last instant that every UTC offset can print.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// An instant from milliseconds since the epoch.
    ///
    /// # Errors
    /// It is past [`Timestamp::MAX`].
    ///
    /// ```
    /// use gatekey::Timestamp;
    ///
    /// let instant = Timestamp::from_unix_ms(1_769_860_800_250)?;
    /// assert_eq!(instant.to_string(), "2026-01-31T12:00:00.25Z");
    /// assert!(Timestamp::from_unix_ms(u64::MAX).is_err());
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn from_unix_ms(ms: u64) -> Result<Self, ParseError> {
        if ms > Self::MAX.0 {
            return Err(out_of_range(&format!("{ms} ms")));
        }
        Ok(Self(ms))
    }

    /// An instant from seconds since the epoch.
    ///
    /// # Errors
    /// It is negative or past [`Timestamp::MAX`].
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, ParseError> {
        u64::try_from(seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1000))
            .filter(|ms| *ms <= Self::MAX.0)
            .map(Self)
            .ok_or_else(|| out_of_range(&format!("{seconds} s")))
    }

    /// Milliseconds since the epoch.
    ///
    /// ```
    /// use gatekey::Timestamp;
    ///
    /// let instant: Timestamp = "1970-01-01T00:00:01.5Z".parse()?;
    /// assert_eq!(instant.unix_ms(), 1_500);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The instant `duration` later, or `None` past [`Timestamp::MAX`].
    /// A part of a millisecond is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::Timestamp;
    ///
    /// let minute = Duration::from_secs(60);
    /// let later = Timestamp::MIN.checked_add(minute);
    /// assert_eq!(later, Timestamp::from_unix_seconds(60).ok());
    /// assert_eq!(Timestamp::MAX.checked_add(minute), None);
    /// ```
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let ms = u64::try_from(duration.as_millis()).ok()?;
        let sum = self.0.checked_add(ms)?;
        (sum <= Self::MAX.0).then_some(Self(sum))
    }

    /// The instant `duration` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::MAX)
    }

    /// The instant `duration` earlier, at least [`Timestamp::MIN`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ms))
    }

    /// How long it is from `earlier` to this instant; zero where it is not earlier.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::Timestamp;
    ///
    /// let (start, end) = (Timestamp::from_unix_seconds(10)?, Timestamp::from_unix_seconds(70)?);
    /// assert_eq!(end.saturating_since(start), Duration::from_secs(60));
    /// assert_eq!(start.saturating_since(end), Duration::ZERO);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// For what a record holds, where `u64::MAX` stands for "never".
    pub(crate) const fn from_raw(ms: u64) -> Self {
        Self(ms)
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = ParseError;

    fn try_from(time: SystemTime) -> Result<Self, ParseError> {
        time.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| Self::MIN.checked_add(since))
            .ok_or_else(|| ParseError::hidden("time", "a system time", OUT_OF_RANGE))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(instant: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(instant.0)
    }
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(Timestamp, "an instant as RFC 3339 has it");

impl FromStr for Timestamp {
    type Err = ParseError;

    /// Parses RFC 3339, and what RFC 9557 adds to it. A part of a millisecond is
    /// dropped.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| {
            ParseError::new("time", text, "not RFC 3339, as in 2026-01-31T12:00:00Z")
        })?;
        // Rounded down: towards zero would let in what is just before 1970.
        u64::try_from(parsed.as_nanosecond().div_euclid(1_000_000))
            .ok()
            .filter(|ms| *ms <= Self::MAX.0)
            .map(Self)
            .ok_or_else(|| out_of_range(text))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match instant {
            Some(instant) => instant.fmt(f),
            None => f.write_str("never"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The engine's source of time.
///
/// A clock may step back: the engine never lets time run behind the newest instant that
/// it has committed, so that an expired key stays expired. Most verifications read the
/// clock, so it should be fast.
///
/// ```
/// use std::time::Duration;
/// use gatekey::{Clock, NewKeyspace, Options, SystemClock, Timestamp};
///
/// /// For a rehearsal: the system's clock, some time ahead.
/// #[derive(Debug)]
/// struct Ahead(Duration);
///
/// impl Clock for Ahead {
///     fn now(&self) -> Timestamp {
///         SystemClock.now().saturating_add(self.0)
///     }
///     fn coarse_now(&self) -> Timestamp {
///         SystemClock.coarse_now().saturating_add(self.0)
///     }
///     fn steady(&self) -> Option<Duration> {
///         SystemClock.steady()
///     }
/// }
///
/// let year = Duration::from_secs(365 * 86_400);
/// let engine = Options::new().clock(Ahead(year)).open_in_memory()?;
/// let keyspace = engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// assert!(keyspace.created_at > SystemClock.now());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
///
/// # Panics
/// A panic in a clock propagates to the caller of a verification or a listing. In a
/// change whose transaction has not begun to commit, it makes the change fail,
/// unapplied, with [`Error::Store`](crate::Error::Store), as it does for all that share
/// the transaction.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present.
    fn now(&self) -> Timestamp;

    /// The present, or an instant at most 10 ms before it where that is cheaper
    /// to have: for notes of use, which are kept by the minute, for keys that neither
    /// become valid nor end within a minute of it, and for limits and quotas of a key in
    /// which no window opens or ends, and no refill is due, within a tenth of a second of
    /// it. Nearer to that the engine asks for [`now`](Clock::now).
    fn coarse_now(&self) -> Timestamp {
        self.now()
    }

    /// The time since a fixed instant, by a clock that cannot be set and that runs
    /// while the machine sleeps. The engine compares the present with it to notice
    /// leaps. `None`: the engine notices none.
    fn steady(&self) -> Option<Duration> {
        None
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 or after 9999 was never set. Before 1970 the newest
        // committed instant takes over; after 9999 every key that can expire has
        // expired.
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => {
                let ms = since.as_secs().saturating_mul(1000) + u64::from(since.subsec_millis());
                Timestamp(ms.min(Timestamp::MAX.0))
            }
            Err(_) => Timestamp::MIN,
        }
    }

    #[cfg(target_os = "linux")]
    fn coarse_now(&self) -> Timestamp {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        match (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec)) {
            (Ok(seconds), Ok(nanos)) => {
                let ms = seconds.saturating_mul(1000) + nanos / 1_000_000;
                Timestamp(ms.min(Timestamp::MAX.0))
            }
            _ => Timestamp::MIN,
        }
    }

    fn steady(&self) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        {
            // Goes on while the machine sleeps, which `Instant` does not.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            let seconds = u64::try_from(now.tv_sec).ok()?;
            Some(Duration::new(seconds, u32::try_from(now.tv_nsec).ok()?))
        }
        #[cfg(not(target_os = "linux"))]
        {
            static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
            Some(BEGUN.get_or_init(std::time::Instant::now).elapsed())
        }
    }
}

/// A clock for tests, which stands still until a test moves it.
///
/// Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use gatekey::{Clock, ManualClock};
///
/// let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
/// let hands = clock.clone();
/// hands.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:01:00Z");
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(std::sync::Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `instant`.
    #[must_use]
    pub fn at(instant: Timestamp) -> Self {
        Self(std::sync::Arc::new(AtomicU64::new(instant.0)))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.0, Ordering::SeqCst);
    }

    /// Moves the clock forward, at most to [`Timestamp::MAX`].
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }

    /// Moves the clock back, at least to [`Timestamp::MIN`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::{Clock, ManualClock};
    ///
    /// let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// clock.step_back(Duration::from_secs(60));
    /// assert_eq!(clock.now().to_string(), "2025-12-31T23:59:00Z");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn step_back(&self, by: Duration) {
        self.set(self.now().saturating_sub(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_print_and_parse() {
        for instant in [Timestamp::MIN, Timestamp::MAX] {
            let text = instant.to_string();
            assert_eq!(text.parse::<Timestamp>().unwrap(), instant, "{text}");
        }
        assert_eq!(Timestamp(u64::MAX).to_string(), "never");
    }

    #[test]
    fn instants_outside_the_range_are_refused() {
        assert!(Timestamp::from_unix_seconds(-1).is_err());
        assert!(Timestamp::from_unix_seconds(i64::MAX).is_err());
        assert!(Timestamp::from_unix_ms(u64::MAX).is_err());
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!("1969-12-31T23:59:59.9999Z".parse::<Timestamp>().is_err());
        assert!("9999-12-30T22:00:00.999Z".parse::<Timestamp>().is_err());
        assert!(Timestamp::try_from(UNIX_EPOCH - Duration::from_secs(1)).is_err());
        assert_eq!(Timestamp::MAX.checked_add(Duration::from_millis(1)), None);
        assert_eq!(Timestamp::MIN.checked_add(Duration::MAX), None);
    }
}
