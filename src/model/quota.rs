//! Quotas: how many requests a key is good for, with an optional refill each day or
//! month.

use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};

/// When a quota is refilled, in UTC. A refill replaces the remainder; nothing is
/// carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
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

/// How many requests a key is good for. A key and its successors by rotation share one.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Given")
)]
pub struct Quota {
    pub(crate) requests: u64,
    pub(crate) refill: Option<Refill>,
}

/// A quota as it is deserialised, before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    requests: u64,
    #[serde(default)]
    refill: Option<Refill>,
}

#[cfg(feature = "serde")]
impl TryFrom<Given> for Quota {
    type Error = Error;

    fn try_from(given: Given) -> Result<Self, Error> {
        let quota = Self {
            requests: given.requests,
            refill: given.refill,
        };
        quota.validate()?;
        Ok(quota)
    }
}

impl Quota {
    /// The most requests of a quota.
    pub const REQUESTS_MAX: u64 = 1 << 53;

    /// A number of requests, without a refill. The engine checks it when it is used: 1
    /// to [`REQUESTS_MAX`](Self::REQUESTS_MAX).
    #[must_use]
    pub const fn new(requests: u64) -> Self {
        Self {
            requests,
            refill: None,
        }
    }

    /// A number of requests a day or a month.
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

    /// When the quota is refilled; `None` for never.
    #[must_use]
    pub const fn refill(self) -> Option<Refill> {
        self.refill
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            let why = "the requests are not 1 to 2^53";
            return Err(Invalid::malformed("quota", &self.to_string(), why).into());
        }
        Ok(())
    }

    /// How far ahead the refill after the next can be.
    pub(crate) fn reach(self) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        match self.refill {
            Some(Refill::Daily) => DAY * 2,
            Some(Refill::Monthly) => DAY * 62,
            None => Duration::MAX,
        }
    }

    /// How much of it is taken into memory at a time.
    pub(crate) fn slice(self) -> u64 {
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// What is left in the store. The engine may hold a slice more in memory, and puts
    /// it back when it closes.
    pub remaining: u64,
    /// The next refill; `None` for never.
    pub refills_at: Option<Timestamp>,
}
