//! The headers that tell a client how much of its limits and quotas remains. Pure: what is
//! left in, headers out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};

use crate::model::allowances::{Allowances, LimitAllowance, QuotaAllowance};
use crate::model::clock::Timestamp;
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::quota::Refill;
use crate::model::verdict::{Denial, Grant, Standing};

/// The headers in which a dialect reports limits. Set by
/// [`DialectBuilder::limit_fields`](super::DialectBuilder::limit_fields).
///
/// All that a refusal tells of limits is of one instant of the engine's clock: a request of
/// the same cost that comes at `X-RateLimit-Reset`, or after `Retry-After` or the longest `t`
/// of what has too little left, is granted if no other came before. Where no waiting helps,
/// there is neither of the first two. A grant tells where each limit stands by itself: when
/// the one that `X-RateLimit-*` are of has more left, another may have nothing.
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
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, of one limit,
    /// or of the quota that refuses a request. The reset is in seconds since the Unix
    /// epoch, rounded up; a quota that is never refilled has none, and nor has a refusal
    /// for which no waiting helps.
    XRateLimit,
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), with an
    /// item for every limit and quota that the request was charged to: the owners' first,
    /// from the shortest path, the key's last. Names are like `"owner1-hour"`, `"hour"` of
    /// the key itself, or `"monthly"` of a quota. The policies are the same in every
    /// response to a key, until its limits or quotas are changed. Each field has at most
    /// 1,800 bytes: 36 limits and 9 quotas. A quota of 10^15 requests or more is told as one
    /// fewer than that, since a number in such a field has at most 15 digits.
    RateLimit,
    /// Both of these.
    Both,
}

/// Which of a key's limits `X-RateLimit-*` reports, and
/// [`Answer::limit`](super::Answer::limit). See [`LimitFields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportedLimit {
    /// The limit of which the least remains: [`Grant::tightest_limit`](crate::Grant::tightest_limit).
    Tightest,
    /// The limit with the longest window: [`Grant::longest_limit`].
    Longest,
}

/// What a response tells of limits and quotas.
pub(crate) struct Report {
    x: Option<X>,
    draft: Option<Draft>,
}

/// What `X-RateLimit-*` tell.
struct X {
    limit: u64,
    remaining: u64,
    /// `None`: never.
    resets_at: Option<Timestamp>,
}

/// What `RateLimit` and `RateLimit-Policy` tell.
enum Draft {
    All(Arc<Allowances>),
    /// All that is known of a verdict that the server asked the engine for itself: without
    /// the list of policies, which would not be the whole.
    One(LimitStatus),
}

impl ReportedLimit {
    pub(super) fn of(self, standing: &Standing) -> LimitStatus {
        match self {
            Self::Tightest => standing.tightest,
            Self::Longest => standing.longest,
        }
    }
}

impl LimitFields {
    /// Whether a grant must come with all that it was charged to.
    pub(super) fn tells_all(self) -> bool {
        matches!(self, Self::RateLimit | Self::Both)
    }

    fn tells_one(self) -> bool {
        matches!(self, Self::XRateLimit | Self::Both)
    }

    fn report(self, x: Option<X>, draft: Option<Draft>) -> Option<Report> {
        let x = x.filter(|_| self.tells_one());
        let draft = draft.filter(|_| self.tells_all());
        (x.is_some() || draft.is_some()).then_some(Report { x, draft })
    }

    pub(super) fn of_grant(self, reported: ReportedLimit, grant: &Grant) -> Option<Report> {
        let limit = grant.limits.told().map(|standing| reported.of(&standing));
        let all = grant.allowances.clone().map(Draft::All);
        self.report(limit.map(X::of), all.or(limit.map(Draft::One)))
    }

    /// What the rejection of a good key tells: of what refused it, or of where it stands.
    pub(super) fn of_rejection(
        self,
        reported: ReportedLimit,
        denial: Option<&Denial>,
        allowances: Option<&Arc<Allowances>>,
        at: Timestamp,
    ) -> Option<Report> {
        let standing = allowances.and_then(|all| standing_of(all));
        let limit = standing.map(|standing| reported.of(&standing));
        let (x, one) = match denial {
            Some(Denial::RateLimited {
                status,
                retry_after,
                ..
            }) => {
                let x = X {
                    resets_at: retry_after.map(|wait| at.saturating_add(wait)),
                    ..X::of(*status)
                };
                (Some(x), Some(*status))
            }
            Some(Denial::QuotaExhausted {
                level, refills_at, ..
            }) => {
                let mut quotas = allowances.iter().flat_map(|all| &all.quotas);
                let quota = quotas.find(|quota| quota.level == *level);
                let x = quota.map(X::of_quota).or(limit.map(X::of));
                let resets_at = *refills_at;
                (x.map(|x| X { resets_at, ..x }), None)
            }
            _ => (limit.map(X::of), limit),
        };
        let all = allowances.cloned().map(Draft::All);
        self.report(x, all.or(one.map(Draft::One)))
    }
}

/// Where the limits stand of which there are any.
pub(super) fn standing_of(all: &Allowances) -> Option<Standing> {
    Standing::of_all(all.limits.iter().map(|limit| limit.status))
}

impl X {
    fn of(status: LimitStatus) -> Self {
        Self {
            limit: status.limit().requests().into(),
            remaining: status.remaining().into(),
            resets_at: Some(status.resets_at()),
        }
    }

    fn of_quota(quota: &QuotaAllowance) -> Self {
        Self {
            limit: quota.quota.requests(),
            remaining: quota.remaining,
            resets_at: quota.refills_at,
        }
    }

    fn fields(&self) -> [Option<(HeaderName, HeaderValue)>; 3] {
        let field = |name, value: u64| (HeaderName::from_static(name), HeaderValue::from(value));
        let reset = |at: Timestamp| field("x-ratelimit-reset", at.unix_ms().div_ceil(1000));
        [
            Some(field("x-ratelimit-limit", self.limit)),
            Some(field("x-ratelimit-remaining", self.remaining)),
            self.resets_at.map(reset),
        ]
    }
}

impl Report {
    /// The headers, at an instant of the engine's clock.
    pub(crate) fn headers(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let x = self.x.as_ref().map(X::fields).unwrap_or_default();
        let (policies, limits) = match &self.draft {
            None => (None, None),
            Some(Draft::One(status)) => {
                let mut limits = String::new();
                write_limit(&mut limits, &Name::of(&[], status), status, now);
                (None, Some(limits))
            }
            Some(Draft::All(all)) => {
                // Of no earlier instant than it is, where the clock was set back since.
                let limits = service_limits(all, now.max(all.at));
                let policies = policies(all);
                (Some(policies), Some(limits))
            }
        };
        let field = |name, text: Option<String>| {
            let text = text.filter(|text| !text.is_empty())?;
            let value = HeaderValue::try_from(text).ok()?;
            Some((HeaderName::from_static(name), value))
        };
        let draft = [
            field("ratelimit-policy", policies),
            field("ratelimit", limits),
        ];
        x.into_iter().chain(draft).flatten()
    }
}

/// The names of the policies that refuse a request.
pub(super) fn violated(all: &Allowances) -> Vec<String> {
    let limits = all.limits.iter().enumerate();
    let limits = limits.filter(|(_, limit)| limit.refuses);
    let limits = limits.map(|(at, limit)| name_of(all, at, limit).to_string());
    let quotas = all.quotas.iter().filter(|quota| all.is_short(quota));
    limits
        .chain(quotas.map(|quota| Name::of_quota(quota).to_string()))
        .collect()
}

/// The name of the policy that a limit is, where no other is known.
pub(super) fn name_alone(status: &LimitStatus) -> String {
    Name::of(&[], status).to_string()
}

/// A duration in whole seconds, rounded up.
pub(super) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The name of a policy: whose it is, over what, and which of several such.
struct Name {
    level: Level,
    over: Over,
    number: usize,
}

enum Over {
    Window(u64),
    Refill(Option<Refill>),
}

impl Name {
    /// `before`: the limits that stand before it.
    fn of(before: &[LimitAllowance], status: &LimitStatus) -> Self {
        let kind = |of: &LimitStatus| (of.level(), of.limit().window());
        let alike = before
            .iter()
            .filter(|other| kind(&other.status) == kind(status));
        Self {
            level: status.level(),
            over: Over::Window(status.limit().window().as_secs()),
            number: alike.count() + 1,
        }
    }

    fn of_quota(quota: &QuotaAllowance) -> Self {
        Self {
            level: quota.level,
            over: Over::Refill(quota.quota.refill()),
            number: 1,
        }
    }
}

fn name_of(all: &Allowances, at: usize, limit: &LimitAllowance) -> Name {
    Name::of(all.limits.get(..at).unwrap_or_default(), &limit.status)
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Level::Owner(depth) = self.level {
            write!(f, "owner{depth}-")?;
        }
        match self.over {
            Over::Window(1) => f.write_str("second")?,
            Over::Window(60) => f.write_str("minute")?,
            Over::Window(3_600) => f.write_str("hour")?,
            Over::Window(86_400) => f.write_str("day")?,
            Over::Window(seconds) => write!(f, "{seconds}s")?,
            Over::Refill(Some(Refill::Daily)) => f.write_str("daily")?,
            // From whichever day of the month.
            Over::Refill(Some(_)) => f.write_str("monthly")?,
            Over::Refill(None) => f.write_str("total")?,
        }
        match self.number {
            1 => Ok(()),
            number => write!(f, "-{number}"),
        }
    }
}

/// Writes an item of a list. To write to a string never fails.
macro_rules! item {
    ($list:expr, $($text:tt)*) => {{
        if !$list.is_empty() {
            $list.push_str(", ");
        }
        let _ = write!($list, $($text)*);
    }};
}

/// A number as an Integer of a structured field (RFC 9651, 3.3.1), which has at most 15 digits.
fn integer(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}

fn policies(all: &Allowances) -> String {
    let mut list = String::new();
    for (at, limit) in all.limits.iter().enumerate() {
        let name = name_of(all, at, limit);
        let limit: Limit = limit.status.limit();
        let window_s = limit.window().as_secs();
        item!(list, "\"{name}\";q={};w={window_s}", limit.requests());
    }
    for quota in &all.quotas {
        let name = Name::of_quota(quota);
        item!(list, "\"{name}\";q={}", integer(quota.quota.requests()));
        // Months differ, and what is never refilled has no window.
        if quota.quota.refill() == Some(Refill::Daily) {
            list.push_str(";w=86400");
        }
    }
    list
}

fn service_limits(all: &Allowances, now: Timestamp) -> String {
    let mut list = String::new();
    for (at, limit) in all.limits.iter().enumerate() {
        write_limit(&mut list, &name_of(all, at, limit), &limit.status, now);
    }
    for quota in &all.quotas {
        let name = Name::of_quota(quota);
        item!(list, "\"{name}\";r={}", integer(quota.remaining));
        if let Some(at) = quota.resets_at(all.cost) {
            write_seconds(&mut list, at.saturating_since(now));
        }
    }
    list
}

fn write_limit(list: &mut String, name: &Name, status: &LimitStatus, now: Timestamp) {
    let limit = status.limit();
    item!(list, "\"{name}\";r={}", status.remaining());
    // Of what is whole, there will not be more.
    if status.remaining() < limit.capacity() {
        write_seconds(list, status.resets_at().saturating_since(now));
    }
}

fn write_seconds(list: &mut String, wait: Duration) {
    let _ = write!(list, ";t={}", seconds_rounded_up(wait));
}
