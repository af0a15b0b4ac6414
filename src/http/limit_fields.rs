//! The headers that tell a caller what is left of its limit.

use ::http::{HeaderName, HeaderValue};

use super::dialect::Dialect;
use super::refused::seconds_rounded_up;
use crate::model::clock::Timestamp;
use crate::model::limit::LimitStatus;
use crate::model::verdict::{Grant, Standing};

/// In which headers a dialect tells what is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitFields {
    /// In none.
    None,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, which
    /// is a second since the Unix epoch, rounded up.
    XRateLimit,
    /// `RateLimit-Policy` and `RateLimit`, of draft-ietf-httpapi-ratelimit-headers.
    RateLimit,
    /// Both.
    Both,
}

/// Of which limit of a grant a dialect tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitTold {
    /// Of the one of which the least is left: [`Grant::limit`].
    Tightest,
    /// Of the one with the longest window: [`Grant::longest_limit`].
    Longest,
}

impl Dialect {
    /// The headers that tell the holder of a grant what is left of its limit; none
    /// where it has no limit. `now` is [`Engine::now`](crate::Engine::now).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::http::Dialect;
    /// use http::Response;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let dialect = Dialect::tiered_bearer();
    /// # let grant = engine.verify(issued.token.expose())?.into_result().unwrap();
    /// let mut response = Response::new("hello");
    /// response.headers_mut().extend(dialect.limit_headers(&grant, engine.now()));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn limit_headers(
        &self,
        grant: &Grant,
        now: Timestamp,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        self.limit_of(grant)
            .map(|status| self.limit_status_headers(&status, now))
            .into_iter()
            .flatten()
    }

    /// The limit of a grant that this dialect tells of.
    pub(crate) fn limit_of(&self, grant: &Grant) -> Option<LimitStatus> {
        match (self.settings().limit_fields, self.settings().limit_told) {
            (LimitFields::None, _) => None,
            (_, LimitTold::Tightest) => grant.limit(),
            (_, LimitTold::Longest) => grant.longest_limit(),
        }
    }

    /// The limit of a refused key that this dialect tells of.
    pub(super) fn limit_of_standing(&self, standing: &Standing) -> Option<LimitStatus> {
        match (self.settings().limit_fields, self.settings().limit_told) {
            (LimitFields::None, _) => None,
            (_, LimitTold::Tightest) => Some(standing.tightest),
            (_, LimitTold::Longest) => Some(standing.longest),
        }
    }

    pub(crate) fn limit_status_headers(
        &self,
        status: &LimitStatus,
        now: Timestamp,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let (x, ietf) = match self.settings().limit_fields {
            LimitFields::None => (false, false),
            LimitFields::XRateLimit => (true, false),
            LimitFields::RateLimit => (false, true),
            LimitFields::Both => (true, true),
        };
        let x = x.then(|| x_fields(status)).into_iter().flatten();
        let ietf = ietf.then(|| ietf_fields(status, now)).into_iter().flatten();
        x.chain(ietf.flatten())
    }
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
    // To the end of the window or, on a refusal, of the wait, which is at most two windows:
    // never longer, even if `now` is of another clock.
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
