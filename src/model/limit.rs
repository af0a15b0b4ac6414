//! Limits: so many requests a window, by one of three algorithms. What of them is
//! counted is in [`crate::model::counter`].

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
#[cfg(feature = "serde")]
use crate::model::serialized::Object;

/// How a [`Limit`] counts.
///
/// | algorithm | counts | admits at most |
/// |---|---|---|
/// | fixed | in a window that the first request opens, and that resets as a whole | `requests` in each window, so up to twice that around a reset |
/// | sliding | in windows of the clock, of which the one before counts for as much as a window that ends now would still cover | `requests * (1 + t / window)` in any interval `t` up to a window |
/// | bucket | a level that each request raises by one, and that drains at `requests` a window | `burst + requests * t / window` in any interval `t` |
///
/// The bounds are proven where the arithmetic is, and tested as properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Algorithm {
    /// A window that the first request opens. Its reset is exact: what a client that
    /// waits for a reset expects.
    Fixed,
    /// Windows of the clock that slide. No edge lets twice the limit through.
    Sliding,
    /// A bucket that drains evenly (GCRA): a rate with a burst.
    Bucket,
}

/// So many requests a window, counted by an [`Algorithm`].
///
/// ```
/// use std::time::Duration;
/// use gatekey::{Algorithm, Limit};
///
/// // A window that the first request opens.
/// let hourly = Limit::per_hour(1_000).fixed();
/// assert_eq!(hourly.algorithm(), Algorithm::Fixed);
/// assert_eq!(hourly.window(), Duration::from_secs(3_600));
/// // Ten a second on average, and up to fifty at once.
/// let steady = Limit::per_second(10).bucket(50);
/// assert_eq!((steady.requests(), steady.capacity()), (10, 50));
/// ```
///
/// A day and longer are [`Quota`](crate::Quota)s: those are durable, so that a restart
/// hands nothing out twice. In a [fleet](crate::fleet), the numbers are those of each server,
/// unless they are [for the fleet](Limit::for_fleet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Object<Given>", into = "Given")
)]
pub struct Limit {
    requests: u32,
    /// Not zero, so that an optional limit takes no more room.
    window_s: NonZeroU32,
    algorithm: Algorithm,
    for_fleet: bool,
    /// The most at once. As many as `requests`, but for a bucket.
    capacity: u32,
}

/// A limit as it is written, and as it is read, which need not be one.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(deserialize_with = "crate::model::serialized::count")]
    requests: u32,
    #[serde(with = "crate::model::serialized::duration")]
    window: Duration,
    /// Where it is left out: sliding.
    #[serde(default = "sliding")]
    algorithm: Algorithm,
    /// A bucket's alone.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::model::serialized::maybe_count"
    )]
    burst: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    for_fleet: bool,
}

#[cfg(feature = "serde")]
fn sliding() -> Algorithm {
    Algorithm::Sliding
}

#[cfg(feature = "serde")]
impl TryFrom<Object<Given>> for Limit {
    type Error = Error;

    fn try_from(Object(given): Object<Given>) -> Result<Self, Error> {
        let limit = Self::new(given.requests, given.window)?;
        let limit = match (given.algorithm, given.burst) {
            (Algorithm::Fixed, None) => limit.fixed(),
            (Algorithm::Sliding, None) => limit,
            (Algorithm::Bucket, Some(burst)) => limit.bucket(burst),
            (algorithm, _) => {
                let why = "a bucket has a burst, and no other algorithm has one";
                let value = format!("{algorithm:?}");
                return Err(Invalid::malformed("limit", &value, why).into());
            }
        };
        limit.validate()?;
        Ok(Self {
            for_fleet: given.for_fleet,
            ..limit
        })
    }
}

#[cfg(feature = "serde")]
impl From<Limit> for Given {
    fn from(limit: Limit) -> Self {
        Self {
            requests: limit.requests(),
            window: limit.window(),
            algorithm: limit.algorithm,
            burst: (limit.algorithm == Algorithm::Bucket).then_some(limit.capacity),
            for_fleet: limit.for_fleet,
        }
    }
}

impl Limit {
    /// The longest window: an hour.
    pub const WINDOW_MAX: Duration = Duration::from_secs(3_600);

    /// So many requests a window, which slides.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for no requests, or a window that is not whole seconds, is
    /// under a second or longer than [`WINDOW_MAX`](Self::WINDOW_MAX).
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::Limit;
    ///
    /// let limit = Limit::new(500, Duration::from_secs(15 * 60))?;
    /// assert_eq!(limit.to_string(), "500 in 900 s");
    /// assert!(Limit::new(500, Duration::from_secs(86_400)).is_err(), "a quota, not a limit");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn new(requests: u32, window: Duration) -> Result<Self, Error> {
        let seconds = u32::try_from(window.as_secs());
        match seconds.ok().and_then(NonZeroU32::new) {
            Some(window_s) if window.subsec_nanos() == 0 => {
                let limit = Self::of(requests, window_s);
                limit.validate()?;
                Ok(limit)
            }
            _ => {
                let value = format!("{requests} in {window:?}");
                let why = match window.as_secs() {
                    0 => "the window is under a second",
                    _ if window > Self::WINDOW_MAX => WINDOW_TOO_LONG,
                    _ => "the window is not whole seconds",
                };
                Err(Invalid::malformed("limit", &value, why).into())
            }
        }
    }

    /// So many requests a second, in a window that slides. Checked where it is used.
    #[must_use]
    pub const fn per_second(requests: u32) -> Self {
        Self::of(requests, NonZeroU32::MIN)
    }

    /// So many requests a minute, in a window that slides. Checked where it is used.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self::of(requests, MINUTE)
    }

    /// So many requests an hour, in a window that slides. Checked where it is used.
    #[must_use]
    pub const fn per_hour(requests: u32) -> Self {
        Self::of(requests, HOUR)
    }

    /// The same requests, in a window that the first request opens.
    #[must_use]
    pub const fn fixed(self) -> Self {
        Self {
            algorithm: Algorithm::Fixed,
            capacity: self.requests,
            ..self
        }
    }

    /// The same requests as a rate, up to `burst` of them at once.
    #[must_use]
    pub const fn bucket(self, burst: u32) -> Self {
        Self {
            algorithm: Algorithm::Bucket,
            capacity: burst,
            ..self
        }
    }

    /// The same numbers for all servers of a [fleet](crate::fleet) together. Each takes an
    /// equal share, rounded down, of at least one: a limit of 1,000 is one of 333 at each of
    /// three servers. The share is what a server tells of the limit, and changes as servers
    /// come and go. An engine that is in no fleet takes all of it.
    ///
    /// A request that costs more than a share is never admitted, and a client that always
    /// reaches the same server has a share alone. `docs/FLEET.md` says what all servers
    /// together admit at most.
    ///
    /// ```
    /// use gatekey::Limit;
    ///
    /// let limit = Limit::per_minute(1_000).fixed().for_fleet();
    /// assert!(limit.is_for_fleet());
    /// assert_eq!(limit.to_string(), "1000 a minute, fixed, for the fleet");
    /// ```
    #[must_use]
    pub const fn for_fleet(self) -> Self {
        Self {
            for_fleet: true,
            ..self
        }
    }

    const fn of(requests: u32, window_s: NonZeroU32) -> Self {
        Self {
            requests,
            window_s,
            algorithm: Algorithm::Sliding,
            for_fleet: false,
            capacity: requests,
        }
    }

    /// One that was stored, by whatever rule held then.
    pub(crate) fn stored(
        requests: u32,
        window_s: u32,
        algorithm: Algorithm,
        capacity: u32,
    ) -> Option<Self> {
        let limit = Self {
            requests,
            window_s: NonZeroU32::new(window_s)?,
            algorithm,
            for_fleet: false,
            capacity,
        };
        (requests > 0 && capacity > 0).then_some(limit)
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        let why = if self.requests == 0 {
            "it allows no requests"
        } else if self.capacity == 0 {
            "its burst is 0, and no request would be admitted"
        } else if self.window() > Self::WINDOW_MAX {
            WINDOW_TOO_LONG
        } else {
            return Ok(());
        };
        Err(Invalid::malformed("limit", &self.to_string(), why).into())
    }

    /// How many requests.
    #[must_use]
    pub const fn requests(self) -> u32 {
        self.requests
    }

    /// In how long a window.
    #[must_use]
    pub const fn window(self) -> Duration {
        Duration::from_secs(self.window_s.get() as u64)
    }

    /// How it counts.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// The most that it admits at once: a bucket's burst, and else its requests. A
    /// request that costs more is never admitted.
    #[must_use]
    pub const fn capacity(self) -> u32 {
        self.capacity
    }

    /// Whether its numbers are [for the fleet](Self::for_fleet), and not for each server.
    #[must_use]
    pub const fn is_for_fleet(self) -> bool {
        self.for_fleet
    }

    /// What one of so many servers admits of it: a limit of that server's own.
    pub(crate) fn share(self, servers: u64) -> Self {
        if !self.for_fleet {
            return self;
        }
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let share = |of: u32| (of / servers).max(1);
        Self {
            requests: share(self.requests),
            capacity: share(self.capacity),
            for_fleet: false,
            ..self
        }
    }

    pub(crate) const fn window_s(self) -> u32 {
        self.window_s.get()
    }

    pub(crate) fn window_ms(self) -> u64 {
        u64::from(self.window_s.get()) * 1000
    }

    /// Whether what is counted of one is counted of the other: where a limit is replaced
    /// by another of the same kind, the counts carry over.
    pub(crate) fn counts_as(self, other: Self) -> bool {
        (self.algorithm, self.window_s) == (other.algorithm, other.window_s)
    }

    /// Whether it is a bucket that drains slower than another.
    pub(crate) fn drains_slower_than(self, other: Self) -> bool {
        self.algorithm == Algorithm::Bucket && self.requests < other.requests
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.window_s.get() {
            1 => write!(f, "{} a second", self.requests)?,
            60 => write!(f, "{} a minute", self.requests)?,
            3_600 => write!(f, "{} an hour", self.requests)?,
            seconds => write!(f, "{} in {seconds} s", self.requests)?,
        }
        match self.algorithm {
            Algorithm::Fixed => f.write_str(", fixed"),
            Algorithm::Sliding => Ok(()),
            Algorithm::Bucket => write!(f, ", burst {}", self.capacity),
        }?;
        match self.for_fleet {
            true => f.write_str(", for the fleet"),
            false => Ok(()),
        }
    }
}

/// What is limited: one key with those that it is rotated to, or all keys of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Level {
    /// All keys of the owner whose path is so many of the first segments of the key's
    /// owner's, 1 to 8, in the keyspace.
    Owner(u8),
    /// The key.
    Key,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner(depth) => write!(f, "owner {depth}"),
            Self::Key => f.write_str("key"),
        }
    }
}

/// How much of a limit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LimitStatus {
    pub(crate) limit: Limit,
    pub(crate) level: Level,
    pub(crate) remaining: u32,
    pub(crate) resets_at: Timestamp,
}

impl LimitStatus {
    /// The limit; of one that is [for the fleet](Limit::for_fleet), this server's share.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// What it limits.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// How many requests of cost 1 it would admit now.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The first instant at which more is left than now, if no request comes before. Of
    /// the limit in a [`Denial::RateLimited`](crate::Denial::RateLimited): the instant at which
    /// the request is admitted, by its quotas too, where waiting helps at all.
    ///
    /// ```
    /// # use gatekey::{Clock, ManualClock, NewKey, NewKeyspace, Options};
    /// use std::time::Duration;
    /// use gatekey::Limit;
    ///
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let limits = [Limit::per_minute(10).fixed()];
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.limits(limits))?;
    /// let verdict = engine.verify(issued.token.expose())?;
    /// let left = verdict.grant().and_then(|grant| grant.longest_limit());
    /// // The first request opened the window.
    /// let end = clock.now().saturating_add(Duration::from_secs(60));
    /// assert_eq!(left.map(|left| left.resets_at()), Some(end));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn resets_at(&self) -> Timestamp {
        self.resets_at
    }
}

/// How much of a limit is left.
pub(crate) trait Left: Copy {
    fn limit(&self) -> Limit;

    fn level(&self) -> Level;

    /// How many requests of cost 1 it would admit.
    fn remaining(&self) -> u32;

    fn status(&self) -> LimitStatus;

    fn resets_later_than(&self, other: &Self) -> bool {
        self.status().resets_at > other.status().resets_at
    }
}

impl Left for LimitStatus {
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
        *self
    }
}

const WINDOW_TOO_LONG: &str = "the window is longer than an hour; take a limit of an hour, or a \
                               quota that is refilled each day or month";

const MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
const HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3_599);
