//! Why a request is refused, what its caller is told of it, and the response.

use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderName, HeaderValue, Response, StatusCode};

use super::dialect::Dialect;
use super::proxies::SourceFault;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::limit::LimitStatus;
use crate::model::verdict::Denial;
use crate::model::withheld::withheld;

/// Why a request is refused, for the server. What its caller is told is an
/// [`Answer`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RefusedReason {
    /// No credential, where one is needed.
    Missing,
    /// A credential's header, with nothing in it.
    Empty,
    /// `Authorization` with a scheme that the dialect does not have.
    UnknownScheme,
    /// Credentials in two headers at once.
    SeveralCredentials,
    /// A header that carries a credential, more than once.
    RepeatedHeader(HeaderName),
    /// A credential that is not ASCII.
    NotAscii,
    /// Basic, with what is not base64 (with padding, as RFC 7617 has it).
    NotBase64,
    /// Basic, without a colon.
    NoColon,
    /// Basic, with a password.
    PasswordGiven,
    /// The engine denied the token.
    Denied(Denial),
    /// What is asked for belongs to somebody else: see [`Dialect::foreign`].
    Foreign,
    /// Somebody who is no proxy asked what only proxies may: see
    /// [`ForwardAuth`](super::ForwardAuth).
    UntrustedPeer(IpAddr),
    /// A header that an application may take for one of a [`ForwardAuth`](super::ForwardAuth).
    IdentityHeader(HeaderName),
    /// A proxy did not say what it was asked for, or that reads in more than one way.
    UnclearTarget,
    /// Where the request comes from is not known, since a proxy did not say it: see
    /// [`Proxies`](super::Proxies).
    SourceUnknown(SourceFault),
    /// The engine failed. It says nothing about the token.
    Unavailable(Arc<Error>),
}

impl RefusedReason {
    /// A stable name of the variant, for logs and counters; of a denial, its
    /// [`code`](Denial::code).
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// assert_eq!(Dialect::default().missing().reason().code(), "missing");
    /// ```
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::UnknownScheme => "unknown_scheme",
            Self::SeveralCredentials => "several_credentials",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::NotAscii => "not_ascii",
            Self::NotBase64 => "not_base64",
            Self::NoColon => "no_colon",
            Self::PasswordGiven => "password_given",
            Self::Denied(denial) => denial.code(),
            Self::SourceUnknown(_) => "source_unknown",
            Self::Foreign => "foreign",
            Self::UntrustedPeer(_) => "untrusted_peer",
            Self::IdentityHeader(_) => "identity_header",
            Self::UnclearTarget => "unclear_target",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no credential was presented",
            Self::Empty => "the credential is empty",
            Self::UnknownScheme => "the scheme of Authorization is not accepted",
            Self::SeveralCredentials => "credentials were presented in more than one header",
            Self::RepeatedHeader(name) => return write!(f, "the header {name} is repeated"),
            Self::NotAscii => "the credential is not ASCII",
            Self::NotBase64 => "the Basic credential is not base64",
            Self::NoColon => "the Basic credential has no colon",
            Self::PasswordGiven => "the Basic credential has a password",
            Self::Denied(denial) => return denial.fmt(f),
            Self::SourceUnknown(fault) => return fault.fmt(f),
            Self::Foreign => "what was asked for belongs to somebody else",
            Self::UntrustedPeer(peer) => return write!(f, "{peer} is no trusted proxy"),
            Self::IdentityHeader(name) => {
                return write!(f, "the client sent the identity header {name}");
            }
            Self::UnclearTarget => "it is not clear what the proxy was asked for",
            Self::Unavailable(error) => {
                return write!(f, "the token could not be verified: {error}");
            }
        })
    }
}

/// What the caller of a refused request is told: coarser than a
/// [`RefusedReason`], so that what is nobody's business reads the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerKind {
    /// There is no credential that could be read. 401.
    Missing,
    /// There is more than one credential. 400.
    Ambiguous,
    /// The credential's header is not what its format asks for. 400.
    Unreadable,
    /// Where the request comes from is not known. 400.
    SourceUnknown,
    /// The key is malformed, unknown, revoked, suspended, disabled or not yet
    /// valid; expired, or used from another network, where the dialect does not
    /// tell that apart. 401.
    Invalid,
    /// The key has expired, where the dialect tells. 401.
    Expired,
    /// The key may not be used from where the request comes from, where the
    /// dialect tells. 403.
    NetworkNotAllowed,
    /// The key lacks a permission. 403.
    PermissionMissing,
    /// The thing belongs to somebody else. 403, or 404 where the dialect hides it.
    Foreign,
    /// A limit is reached. 429.
    RateLimited,
    /// The quota is used up. 429.
    QuotaExhausted,
    /// Too many attempts have failed. 429.
    TooManyAttempts,
    /// Behind a proxy that asks a [`ForwardAuth`](super::ForwardAuth): the request has a
    /// header or a path that must not be passed on. 400.
    BadRequest,
    /// Only trusted proxies are answered. 403.
    NotForYou,
    /// The server cannot verify now. 503.
    Unavailable,
}

impl AnswerKind {
    pub(super) const ALL: [Self; 15] = [
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
    ];

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
        }
    }

    /// The error code of RFC 6750, where it has one.
    fn bearer_error(self) -> Option<&'static str> {
        match self {
            Self::Ambiguous | Self::Unreadable | Self::SourceUnknown => Some("invalid_request"),
            Self::Invalid | Self::Expired => Some("invalid_token"),
            Self::PermissionMissing => Some("insufficient_scope"),
            _ => None,
        }
    }
}

/// A request that is refused: why, for the server's log, and the response that
/// tells its caller as much as the dialect lets it.
///
/// `Display` is precise and holds no token: what looks like one is
/// [`withheld`](crate::withheld()), whatever it came in by.
///
/// ```
/// use gatekey::http::{AnswerKind, Dialect};
/// use gatekey::{Engine, Requirements};
/// use http::HeaderMap;
///
/// # let engine = Engine::open_in_memory()?;
/// let dialect = Dialect::default();
/// let refused = dialect
///     .authenticate(&engine, &HeaderMap::new(), &Requirements::new())
///     .unwrap_err();
/// assert_eq!(refused.to_string(), "401: no credential was presented");
/// assert_eq!(refused.answer().kind(), AnswerKind::Missing);
///
/// let response = refused.response();
/// assert_eq!(response.status(), 401);
/// assert_eq!(response.headers()["www-authenticate"], "Bearer");
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a refusal that is not answered lets the request through"]
pub struct Refused {
    dialect: Dialect,
    reason: RefusedReason,
    presented: Option<KeyId>,
    /// In a box, since few refusals have any and all of them are returned.
    more: Option<Box<More>>,
    at: Timestamp,
}

/// What some refusals tell besides.
#[derive(Clone, Default)]
struct More {
    /// The permissions that were required, separated by spaces.
    scope: Option<Box<str>>,
    /// Where the key stands in its limits, which did not refuse it.
    standing: Option<LimitStatus>,
}

impl Refused {
    pub(super) fn new(dialect: &Dialect, reason: RefusedReason) -> Self {
        Self {
            dialect: dialect.clone(),
            reason,
            presented: None,
            more: None,
            at: Timestamp::MIN,
        }
    }

    pub(super) fn of(mut self, presented: Option<KeyId>) -> Self {
        self.presented = presented;
        self
    }

    pub(super) fn asking(mut self, scope: Option<Box<str>>) -> Self {
        if scope.is_some() {
            self.more.get_or_insert_default().scope = scope;
        }
        self
    }

    fn scope(&self) -> Option<&str> {
        self.more.as_ref()?.scope.as_deref()
    }

    pub(super) fn standing(mut self, limit: Option<LimitStatus>) -> Self {
        if limit.is_some() {
            self.more.get_or_insert_default().standing = limit;
        }
        self
    }

    /// Whether its caller may see that its key is good. Not where the answer reads as
    /// that to an unknown key, nor where it hides that there is such a route.
    pub(super) fn tells_key_is_good(&self) -> bool {
        let answer = self.answer();
        let is_good = matches!(
            answer.kind,
            AnswerKind::NetworkNotAllowed
                | AnswerKind::PermissionMissing
                | AnswerKind::RateLimited
                | AnswerKind::QuotaExhausted
        );
        let settings = self.dialect.settings();
        is_good
            && answer.status != StatusCode::NOT_FOUND
            && answer.status != settings.status(AnswerKind::Invalid)
    }

    /// The instant from which the caller's wait counts.
    pub(super) fn at(mut self, now: Timestamp) -> Self {
        self.at = now;
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &RefusedReason {
        &self.reason
    }

    /// The denial, where the engine denied the token.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match &self.reason {
            RefusedReason::Denied(denial) => Some(denial),
            _ => None,
        }
    }

    /// The key, where the secret was right.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.denial().and_then(Denial::key_id)
    }

    /// The key that the token says it is of. Nothing is proven: anybody can write
    /// any id into a token.
    #[must_use]
    pub fn presented_key_id(&self) -> Option<KeyId> {
        self.presented
    }

    /// What the caller is told.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        let settings = self.dialect.settings();
        let kind = match &self.reason {
            RefusedReason::Missing | RefusedReason::Empty | RefusedReason::UnknownScheme => {
                AnswerKind::Missing
            }
            RefusedReason::SeveralCredentials | RefusedReason::RepeatedHeader(_) => {
                AnswerKind::Ambiguous
            }
            RefusedReason::NotAscii | RefusedReason::NotBase64 | RefusedReason::NoColon => {
                AnswerKind::Unreadable
            }
            RefusedReason::IdentityHeader(_) | RefusedReason::UnclearTarget => {
                AnswerKind::BadRequest
            }
            RefusedReason::SourceUnknown(_) => AnswerKind::SourceUnknown,
            RefusedReason::PasswordGiven => AnswerKind::Invalid,
            RefusedReason::Foreign => AnswerKind::Foreign,
            RefusedReason::UntrustedPeer(_) => AnswerKind::NotForYou,
            RefusedReason::Unavailable(_) => AnswerKind::Unavailable,
            RefusedReason::Denied(denial) => match denial {
                Denial::Expired { .. } if settings.tell_expiry => AnswerKind::Expired,
                Denial::NetworkNotAllowed { .. } if settings.tell_network => {
                    AnswerKind::NetworkNotAllowed
                }
                Denial::Malformed
                | Denial::Unknown
                | Denial::Revoked { .. }
                | Denial::Suspended { .. }
                | Denial::Disabled { .. }
                | Denial::NotYetValid { .. }
                | Denial::Expired { .. }
                | Denial::NetworkNotAllowed { .. } => AnswerKind::Invalid,
                Denial::PermissionMissing { .. } => AnswerKind::PermissionMissing,
                Denial::RateLimited { .. } => AnswerKind::RateLimited,
                Denial::QuotaExhausted { .. } => AnswerKind::QuotaExhausted,
                Denial::TooManyAttempts { .. } => AnswerKind::TooManyAttempts,
            },
        };
        Answer {
            refused: self,
            kind,
            status: settings.status(kind),
        }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer().status
    }

    /// The response: status, challenge, how long to wait, and the body.
    ///
    /// It is never to be cached, and says in `Vary` on which headers it depends: who asks
    /// again with another key may be told otherwise.
    #[must_use]
    pub fn response(&self) -> Response<Vec<u8>> {
        let answer = self.answer();
        let settings = self.dialect.settings();
        let (content_type, body) = match &settings.bodies {
            Some(bodies) => {
                // Whoever words the bodies may panic; the caller is refused all the same.
                let make = || (bodies.make)(&answer);
                let body = catch_unwind(AssertUnwindSafe(make)).unwrap_or_default();
                (Some(bodies.content_type.clone()), body)
            }
            None => (None, Vec::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.dialect.vary(headers);
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        for challenge in answer.challenges() {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = answer.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(status) = answer.limit() {
            headers.extend(self.dialect.limit_status_headers(&status, self.at));
        }
        response
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.to_string();
        write!(f, "{}: {}", self.status().as_u16(), withheld(&reason))?;
        match self.presented {
            Some(id) if self.key_id().is_none() => write!(f, " (it says that it is of key {id})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = format!("{:?}", self.reason);
        f.debug_struct("Refused")
            .field("status", &self.status().as_u16())
            .field("reason", &format_args!("{}", withheld(&reason)))
            .field("presented", &self.presented)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            RefusedReason::Unavailable(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// What the caller of a refused request is told, for whoever words it: see
/// [`DialectBuilder::json_bodies`](super::DialectBuilder::json_bodies). What the
/// dialect does not tell cannot be had from it.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    refused: &'a Refused,
    kind: AnswerKind,
    status: StatusCode,
}

impl Answer<'_> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> AnswerKind {
        self.kind
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The id of the key that the token says it is of, where there is a token. It
    /// is the caller's own text, given alike whether there is such a key or not.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.refused.presented
    }

    /// Since when the key is expired, where the dialect tells.
    #[must_use]
    pub fn expired_at(&self) -> Option<Timestamp> {
        match (&self.refused.reason, self.kind) {
            (RefusedReason::Denied(Denial::Expired { expired_at, .. }), AnswerKind::Expired) => {
                Some(*expired_at)
            }
            _ => None,
        }
    }

    /// The permissions that are required, where one is missing.
    pub fn permissions(&self) -> impl Iterator<Item = &str> {
        self.refused
            .scope()
            .filter(|_| self.kind == AnswerKind::PermissionMissing)
            .unwrap_or("")
            .split_ascii_whitespace()
    }

    /// How many seconds to wait, rounded up, at least 1; `None` where waiting does
    /// not help, or it is not known how long.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        let wait = match self.refused.denial()? {
            Denial::RateLimited { retry_after, .. } => (*retry_after)?,
            Denial::TooManyAttempts { retry_after } => *retry_after,
            Denial::QuotaExhausted { refills_at, .. } => {
                (*refills_at)?.saturating_since(self.refused.at)
            }
            _ => return None,
        };
        Some(seconds_rounded_up(wait).max(1))
    }

    /// The limit that is reached, where one is; else where the key stands in its
    /// limits, if the answer shows that it is good.
    #[must_use]
    pub fn limit(&self) -> Option<LimitStatus> {
        match self.refused.denial()? {
            // It resets no earlier than the request would be granted: who waits for
            // the reset must not be refused again.
            Denial::RateLimited {
                status,
                retry_after,
                ..
            } => Some(match retry_after {
                Some(wait) => status.resetting_at_least_at(self.refused.at, *wait),
                None => *status,
            }),
            _ => self.refused.more.as_ref()?.standing,
        }
    }

    /// The name of the header that the dialect looks for first, as documentation
    /// would write it.
    #[must_use]
    pub fn header(&self) -> &str {
        match self.refused.dialect.settings().carriers.first() {
            Some(super::Carrier::Header(name)) => name.as_str(),
            _ => "Authorization",
        }
    }

    fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let error = self.kind.bearer_error();
        let unauthorized = self.status == StatusCode::UNAUTHORIZED;
        // Beside a 401, RFC 6750 asks for a challenge where it has a code for what
        // is wrong. A 404 that hides something must not show one.
        let told = matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
            && error.is_some();
        self.refused
            .dialect
            .settings()
            .challenges
            .iter()
            .filter(move |challenge| unauthorized || (told && challenge.is_bearer()))
            .filter_map(move |challenge| {
                let scope = self.refused.scope();
                challenge.value(error, scope.filter(|_| error == Some("insufficient_scope")))
            })
    }
}

/// Whole seconds that are not less than a duration.
pub(super) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
