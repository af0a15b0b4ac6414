//! The headers that tell a client how much of its limit remains. Pure: a limit's status
//! in, headers out.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue};

use crate::model::clock::Timestamp;
use crate::model::limit::LimitStatus;
use crate::model::verdict::{Grant, Standing};

/// The headers in which a dialect reports a limit. Set by
/// [`DialectBuilder::limit_fields`](super::DialectBuilder::limit_fields).
///
/// ```
/// use gatekey::http::{Dialect, LimitFields, ReportedLimit};
///
/// let dialect = Dialect::builder()
///     .limit_fields(LimitFields::Both, ReportedLimit::Longest)
///     .build()?;
/// # let _ = dialect;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitFields {
    /// No headers.
    None,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`. The reset
    /// is in seconds since the Unix epoch, rounded up.
    XRateLimit,
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    RateLimit,
    /// Both of these.
    Both,
}

/// Which of a key's limits a dialect reports. See [`LimitFields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportedLimit {
    /// The limit of which the least remains: [`Grant::tightest_limit`](crate::Grant::tightest_limit).
    Tightest,
    /// The limit with the longest window: [`Grant::longest_limit`].
    Longest,
}

impl LimitFields {
    /// The limit of a grant to report.
    pub(super) fn of_grant(self, reported: ReportedLimit, grant: &Grant) -> Option<LimitStatus> {
        match (self, reported) {
            (Self::None, _) => None,
            (_, ReportedLimit::Tightest) => grant.tightest_limit(),
            (_, ReportedLimit::Longest) => grant.longest_limit(),
        }
    }

    /// The limit of a rejected key to report.
    pub(super) fn of_standing(
        self,
        reported: ReportedLimit,
        standing: &Standing,
    ) -> Option<LimitStatus> {
        match (self, reported) {
            (Self::None, _) => None,
            (_, ReportedLimit::Tightest) => Some(standing.tightest),
            (_, ReportedLimit::Longest) => Some(standing.longest),
        }
    }

    pub(super) fn headers(
        self,
        status: &LimitStatus,
        now: Timestamp,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let (x, ietf) = match self {
            Self::None => (false, false),
            Self::XRateLimit => (true, false),
            Self::RateLimit => (false, true),
            Self::Both => (true, true),
        };
        let x = x.then(|| x_fields(status)).into_iter().flatten();
        let ietf = ietf.then(|| ietf_fields(status, now)).into_iter().flatten();
        x.chain(ietf.flatten())
    }
}

/// A duration in whole seconds, rounded up.
pub(super) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn x_fields(status: &LimitStatus) -> [(HeaderName, HeaderValue); 3] {
    let reset = status.resets_at().unix_ms().div_ceil(1000);
    [
        (
            HeaderName::from_static("x-ratelimit-limit"),
            HeaderValue::from(status.limit().requests()),
        ),
        (
            HeaderName::from_static("x-ratelimit-remaining"),
            HeaderValue::from(status.remaining()),
        ),
        (
            HeaderName::from_static("x-ratelimit-reset"),
            HeaderValue::from(reset),
        ),
    ]
}

fn ietf_fields(status: &LimitStatus, now: Timestamp) -> [Option<(HeaderName, HeaderValue)>; 2] {
    let window_s = status.limit().window().as_secs();
    let policy = match window_s {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        seconds => format!("{seconds}s"),
    };
    // Until the end of the window or, on a rejection, of the wait. A wait is at most two windows:
    // the value is never longer, even if `now` is of another clock.
    let reset = seconds_rounded_up(status.resets_at().saturating_since(now)).min(2 * window_s);
    let field = |name, text: String| {
        let value = HeaderValue::try_from(text).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    [
        field(
            "ratelimit-policy",
            format!("\"{policy}\";q={};w={window_s}", status.limit().requests()),
        ),
        field(
            "ratelimit",
            format!("\"{policy}\";r={};t={reset}", status.remaining()),
        ),
    ]
}
