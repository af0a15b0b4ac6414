//! What a rejected client learns.

use std::fmt;
use std::sync::Arc;

use ::http::StatusCode;

use super::limit_fields::{ReportedLimit, name_alone, standing_of, violated};
use super::reason::RejectionReason;
use crate::model::allowances::Allowances;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::limit::LimitStatus;
use crate::model::verdict::Denial;

/// What a rejected client learns. Coarser than a [`RejectionReason`]: several reasons
/// read the same, so that an attacker cannot tell them apart.
///
/// ```
/// use gatekey::Denial;
/// use gatekey::http::{AnswerKind, Dialect};
///
/// let rejection = Dialect::default().denied(Denial::Unknown);
/// assert_eq!(rejection.answer().kind(), AnswerKind::Invalid);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerKind {
    /// The request has no readable credential. 401.
    Missing,
    /// The request has more than one credential. 400.
    Ambiguous,
    /// The credential is not in the format of its header. 400.
    Unreadable,
    /// The server does not know where the request comes from. 400.
    SourceUnknown,
    /// The key is malformed, unknown, revoked, suspended, disabled or not yet valid.
    /// Also an expired key, or one used from another network, unless the dialect
    /// reveals that. 401.
    Invalid,
    /// The key has expired, and the dialect reveals it. 401.
    Expired,
    /// The key is bound to other networks, and the dialect reveals it. 403.
    NetworkNotAllowed,
    /// The key lacks a permission. 403.
    PermissionMissing,
    /// The thing belongs to another owner. 403, or 404 where the dialect hides it.
    Foreign,
    /// A limit is reached. 429.
    RateLimited,
    /// The quota is used up. 429.
    QuotaExhausted,
    /// Too many attempts from this source have failed. 429.
    TooManyAttempts,
    /// Behind a proxy that asks a [`ForwardAuth`](super::ForwardAuth): the request has
    /// a header or a path that is unsafe to pass on. 400.
    BadRequest,
    /// The peer is not a trusted proxy. 403.
    NotForYou,
    /// The server cannot verify keys now, or cannot do what was asked for. 503.
    Unavailable,
    /// The server failed, and another attempt would not help. 500.
    Failed,
}

impl AnswerKind {
    pub(super) const ALL: [Self; 16] = [
        Self::Missing,
        Self::Ambiguous,
        Self::Unreadable,
        Self::SourceUnknown,
        Self::Invalid,
        Self::Expired,
        Self::NetworkNotAllowed,
        Self::PermissionMissing,
        Self::Foreign,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::TooManyAttempts,
        Self::BadRequest,
        Self::NotForYou,
        Self::Unavailable,
        Self::Failed,
    ];

    /// A stable name, as the bodies of [`Dialect::problem_details`] have it in `code`.
    ///
    /// ```
    /// assert_eq!(gatekey::http::AnswerKind::Invalid.code(), "invalid_api_key");
    /// ```
    ///
    /// [`Dialect::problem_details`]: super::Dialect::problem_details
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_api_key",
            Self::Ambiguous | Self::Unreadable | Self::SourceUnknown | Self::BadRequest => {
                "invalid_request"
            }
            Self::Invalid => "invalid_api_key",
            Self::Expired => "token_expired",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::PermissionMissing => "insufficient_scope",
            Self::Foreign | Self::NotForYou => "forbidden",
            Self::RateLimited => "rate_limit_exceeded",
            Self::QuotaExhausted => "quota_exceeded",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Unavailable => "service_unavailable",
            Self::Failed => "internal_error",
        }
    }

    pub(super) fn status(self, hide_foreign: bool) -> StatusCode {
        match self {
            Self::Ambiguous | Self::Unreadable | Self::SourceUnknown | Self::BadRequest => {
                StatusCode::BAD_REQUEST
            }
            Self::Missing | Self::Invalid | Self::Expired => StatusCode::UNAUTHORIZED,
            Self::Foreign if hide_foreign => StatusCode::NOT_FOUND,
            Self::NetworkNotAllowed | Self::PermissionMissing | Self::Foreign | Self::NotForYou => {
                StatusCode::FORBIDDEN
            }
            Self::RateLimited | Self::QuotaExhausted | Self::TooManyAttempts => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The error code of RFC 6750, where it has one.
    pub(super) fn bearer_error(self) -> Option<&'static str> {
        match self {
            Self::Ambiguous | Self::Unreadable | Self::SourceUnknown => Some("invalid_request"),
            Self::Invalid | Self::Expired => Some("invalid_token"),
            Self::PermissionMissing => Some("insufficient_scope"),
            _ => None,
        }
    }
}

/// All that a rejected client may learn: the input of a closure that writes bodies,
/// see [`DialectBuilder::json_bodies`](super::DialectBuilder::json_bodies).
///
/// It holds nothing that the dialect hides.
///
/// ```
/// use gatekey::Denial;
/// use gatekey::http::Dialect;
///
/// let rejection = Dialect::default().denied(Denial::Unknown);
/// let answer = rejection.answer();
/// assert_eq!(answer.status(), 401);
/// assert_eq!(answer.code(), "invalid_api_key");
/// assert_eq!(answer.message(), "The API key is invalid.");
/// assert_eq!(answer.header(), "Authorization");
/// ```
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub(super) reason: &'a RejectionReason,
    pub(super) kind: AnswerKind,
    pub(super) status: StatusCode,
    /// The header that the dialect reads first.
    pub(super) header: &'a str,
    pub(super) presented: Option<KeyId>,
    /// The required permissions, separated by spaces.
    pub(super) scope: Option<&'a str>,
    /// What the key has left, where the client may learn that it is good.
    pub(super) allowances: Option<&'a Arc<Allowances>>,
    pub(super) reported: ReportedLimit,
    /// When the client's wait begins.
    pub(super) at: Timestamp,
}

impl fmt::Debug for Answer<'_> {
    /// Without the reason, which the client must not learn.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("kind", &self.kind)
            .field("status", &self.status.as_u16())
            .finish_non_exhaustive()
    }
}

impl Answer<'_> {
    /// The kind of the answer.
    #[must_use]
    pub fn kind(&self) -> AnswerKind {
        self.kind
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The kind's [`code`](AnswerKind::code), or `not_found` where the status is 404.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "not_found",
            _ => self.kind.code(),
        }
    }

    /// A sentence for the client, in plain ASCII.
    #[must_use]
    pub fn message(&self) -> &'static str {
        if self.status == StatusCode::NOT_FOUND {
            return "There is no such thing.";
        }
        match self.kind {
            AnswerKind::Missing => "An API key is required.",
            AnswerKind::Ambiguous => "The request has more than one credential.",
            AnswerKind::Unreadable => {
                "The credential is not in the format that its header asks for."
            }
            AnswerKind::SourceUnknown => "Where the request comes from is not known.",
            AnswerKind::Invalid => "The API key is invalid.",
            AnswerKind::Expired => "The API key has expired.",
            AnswerKind::NetworkNotAllowed => "The API key may not be used from this network.",
            AnswerKind::PermissionMissing => "The API key lacks a permission that is required.",
            AnswerKind::Foreign => "The API key may not be used for this.",
            AnswerKind::BadRequest => "The request has a header or a path that is not passed on.",
            AnswerKind::NotForYou => "Only trusted proxies are answered here.",
            AnswerKind::RateLimited => "The rate limit is exceeded.",
            AnswerKind::QuotaExhausted => "The quota is used up.",
            AnswerKind::TooManyAttempts => "Too many attempts have failed.",
            AnswerKind::Unavailable => match self.reason {
                RejectionReason::Failed(_) => "The service cannot do this now.",
                _ => "The service cannot verify API keys now.",
            },
            AnswerKind::Failed => "The service failed to do this.",
        }
    }

    /// The key id that the presented token names. It is the client's own text: it is
    /// here whether or not such a key exists.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.presented
    }

    /// When the key expired. `None` unless the dialect reveals it.
    ///
    /// ```
    /// # use gatekey::{Denial, KeyId, Timestamp};
    /// use gatekey::http::Dialect;
    ///
    /// let key: KeyId = "01ABcdEFgh".parse()?;
    /// let expired_at: Timestamp = "2026-01-31T12:00:00Z".parse()?;
    /// let denial = Denial::Expired { key, expired_at };
    /// let open = Dialect::builder().reveal_expiry(true).build()?;
    /// assert_eq!(open.denied(denial.clone()).answer().expired_at(), Some(expired_at));
    /// assert_eq!(Dialect::default().denied(denial).answer().expired_at(), None);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn expired_at(&self) -> Option<Timestamp> {
        match (self.reason, self.kind) {
            (RejectionReason::Denied(Denial::Expired { expired_at, .. }), AnswerKind::Expired) => {
                Some(*expired_at)
            }
            _ => None,
        }
    }

    /// The required permissions, where the key lacks one. Empty otherwise, and where the
    /// status is 404.
    pub fn permissions(&self) -> impl Iterator<Item = &str> {
        let may_know =
            self.kind == AnswerKind::PermissionMissing && self.status != StatusCode::NOT_FOUND;
        self.scope
            .filter(|_| may_know)
            .unwrap_or("")
            .split_ascii_whitespace()
    }

    /// How long to wait, in seconds, rounded up, at least 1. `None` where waiting does
    /// not help, or where the time is unknown.
    ///
    /// ```
    /// use gatekey::Denial;
    /// use gatekey::http::Dialect;
    /// use std::time::Duration;
    ///
    /// let retry_after = Duration::from_millis(1_200);
    /// let rejection = Dialect::default().denied(Denial::TooManyAttempts { retry_after });
    /// assert_eq!(rejection.answer().retry_after_s(), Some(2));
    /// assert_eq!(rejection.response().headers()["retry-after"], "2");
    /// assert_eq!(Dialect::default().missing().answer().retry_after_s(), None);
    /// ```
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        let wait = match self.denial()? {
            Denial::RateLimited { retry_after, .. } => (*retry_after)?,
            Denial::TooManyAttempts { retry_after } => *retry_after,
            Denial::QuotaExhausted { refills_at, .. } => (*refills_at)?.saturating_since(self.at),
            _ => return None,
        };
        Some(super::limit_fields::seconds_rounded_up(wait).max(1))
    }

    /// The limit that the client has reached. For another rejection of a good key,
    /// where that key stands in its limits; `None` where the client must not learn
    /// that the key is good.
    #[must_use]
    pub fn limit(&self) -> Option<LimitStatus> {
        match self.denial()? {
            // Its reset is the instant at which it admits the request.
            Denial::RateLimited { status, .. } => Some(*status),
            _ => {
                let standing = self.allowances.and_then(|all| standing_of(all))?;
                Some(self.reported.of(&standing))
            }
        }
    }

    /// The names of the limits and quotas that refuse the request, as `RateLimit-Policy`
    /// has them: all of them, and not only the one that is waited for longest. Empty where
    /// no limit and no quota refuses it.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    /// use gatekey::{Engine, Limit, NewKey, NewKeyspace, Requirements};
    /// use http::HeaderMap;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let hourly = [Limit::per_hour(1).fixed()];
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.limits(hourly))?;
    /// let mut headers = HeaderMap::new();
    /// let credential = format!("Bearer {}", issued.token.expose());
    /// headers.insert("authorization", credential.parse().unwrap());
    /// let ask = || Dialect::default().authenticate(&engine, &headers, &Requirements::new());
    /// assert!(ask().is_ok());
    /// assert_eq!(ask().unwrap_err().answer().violated_policies(), ["hour"]);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn violated_policies(&self) -> Vec<String> {
        if self.status == StatusCode::NOT_FOUND {
            return Vec::new();
        }
        match (self.denial(), self.allowances) {
            (Some(Denial::RateLimited { .. } | Denial::QuotaExhausted { .. }), Some(all)) => {
                violated(all)
            }
            (Some(Denial::RateLimited { status, .. }), None) => vec![name_alone(status)],
            _ => Vec::new(),
        }
    }

    /// The name of the header that the dialect reads first.
    #[must_use]
    pub fn header(&self) -> &str {
        self.header
    }

    fn denial(&self) -> Option<&Denial> {
        match self.reason {
            RejectionReason::Denied(denial) => Some(denial),
            _ => None,
        }
    }
}
