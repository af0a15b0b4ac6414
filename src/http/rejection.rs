//! A rejected request: the reason for the server, the response for the client.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderValue, Response, StatusCode};

use super::answer::{Answer, AnswerKind};
use super::reason::RejectionReason;
use super::settings::Settings;
use crate::model::allowances::Allowances;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::verdict::Denial;
use crate::model::withheld::withheld;

/// A rejected request: the [`reason`](Self::reason), for the server's log, and the
/// [`response`](Self::response), which reveals to the client as much as the dialect
/// allows.
///
/// `Display` gives the precise reason and holds no token: everything that looks like
/// one is [`withheld`](crate::withheld()).
///
/// ```
/// use gatekey::http::{AnswerKind, Dialect};
/// use gatekey::{Engine, Requirements};
/// use http::HeaderMap;
///
/// # let engine = Engine::open_in_memory()?;
/// let dialect = Dialect::default();
/// let rejection = dialect
///     .authenticate(&engine, &HeaderMap::new(), &Requirements::new())
///     .unwrap_err();
/// assert_eq!(rejection.to_string(), "401: no credential was presented");
/// assert_eq!(rejection.answer().kind(), AnswerKind::Missing);
///
/// let response = rejection.response();
/// assert_eq!(response.status(), 401);
/// assert_eq!(response.headers()["www-authenticate"], "Bearer");
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "send its response, or the request passes"]
pub struct Rejection {
    settings: Arc<Settings>,
    reason: RejectionReason,
    presented: Option<KeyId>,
    /// Boxed: every function returns rejections, and few have any of it.
    more: Option<Box<More>>,
    at: Timestamp,
}

/// What some rejections tell besides.
#[derive(Clone, Default)]
struct More {
    /// The required permissions, separated by spaces.
    scope: Option<Box<str>>,
    /// What the key has left, where its holder may learn that it is good.
    allowances: Option<Arc<Allowances>>,
}

impl Rejection {
    pub(super) fn new(settings: Arc<Settings>, reason: RejectionReason) -> Self {
        Self {
            settings,
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

    pub(super) fn requiring(mut self, scope: Option<Box<str>>) -> Self {
        if scope.is_some() {
            self.more.get_or_insert_default().scope = scope;
        }
        self
    }

    pub(super) fn allowed(mut self, allowances: Option<Arc<Allowances>>) -> Self {
        if allowances.is_some() {
            self.more.get_or_insert_default().allowances = allowances;
        }
        self
    }

    /// Whether the client may see that its key is good. It may not where the response
    /// would read like that to an unknown key, or where a 404 hides the route.
    pub(super) fn shows_key_is_good(&self) -> bool {
        let answer = self.answer();
        let is_good = matches!(
            answer.kind,
            AnswerKind::NetworkNotAllowed
                | AnswerKind::PermissionMissing
                | AnswerKind::RateLimited
                | AnswerKind::QuotaExhausted
        );
        is_good
            && answer.status != StatusCode::NOT_FOUND
            && answer.status != self.settings.status(AnswerKind::Invalid)
    }

    /// The instant at which the client's wait begins.
    pub(super) fn at(mut self, now: Timestamp) -> Self {
        self.at = now;
        self
    }

    /// Why the request was rejected, in full.
    #[must_use]
    pub fn reason(&self) -> &RejectionReason {
        &self.reason
    }

    /// The denial, where the engine denied the token.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match &self.reason {
            RejectionReason::Denied(denial) => Some(denial),
            _ => None,
        }
    }

    /// The key, where the client proved that it holds the key's secret.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.denial().and_then(Denial::key_id)
    }

    /// The key id that the presented token names. It proves nothing: anybody can write
    /// any id into a token.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Requirements};
    /// use gatekey::http::Dialect;
    /// use http::HeaderMap;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let other = Engine::open_in_memory()?;
    /// let mut headers = HeaderMap::new();
    /// let credential = format!("Bearer {}", issued.token.expose());
    /// headers.insert("authorization", credential.parse().unwrap());
    /// // A server of another store does not know the key, and logs which one it was said to be.
    /// let asked = Dialect::default().authenticate(&other, &headers, &Requirements::new());
    /// let rejection = asked.unwrap_err();
    /// assert_eq!(rejection.presented_key_id(), Some(issued.key.id));
    /// assert_eq!(rejection.key_id(), None, "nothing is proven");
    /// # other.close()?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn presented_key_id(&self) -> Option<KeyId> {
        self.presented
    }

    /// What the client learns.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        let more = self.more.as_ref();
        let kind = self.kind();
        Answer {
            reason: &self.reason,
            kind,
            status: self.settings.status(kind),
            header: self.settings.header(),
            presented: self.presented,
            scope: more.and_then(|more| more.scope.as_deref()),
            allowances: more.and_then(|more| more.allowances.as_ref()),
            reported: self.settings.reported_limit,
            at: self.at,
        }
    }

    fn kind(&self) -> AnswerKind {
        let settings = &self.settings;
        match &self.reason {
            RejectionReason::Missing | RejectionReason::Empty | RejectionReason::UnknownScheme => {
                AnswerKind::Missing
            }
            RejectionReason::SeveralCredentials | RejectionReason::RepeatedHeader(_) => {
                AnswerKind::Ambiguous
            }
            RejectionReason::NotAscii | RejectionReason::NotBase64 | RejectionReason::NoColon => {
                AnswerKind::Unreadable
            }
            RejectionReason::IdentityHeader(_) | RejectionReason::UnclearTarget => {
                AnswerKind::BadRequest
            }
            RejectionReason::SourceUnknown(_) => AnswerKind::SourceUnknown,
            RejectionReason::PasswordGiven => AnswerKind::Invalid,
            RejectionReason::Foreign => AnswerKind::Foreign,
            RejectionReason::UntrustedPeer(_) => AnswerKind::NotForYou,
            RejectionReason::Unavailable(_) => AnswerKind::Unavailable,
            RejectionReason::Failed(error) => match error.status() {
                StatusCode::SERVICE_UNAVAILABLE => AnswerKind::Unavailable,
                _ => AnswerKind::Failed,
            },
            RejectionReason::Denied(denial) => match denial {
                Denial::Expired { .. } if settings.reveal_expiry => AnswerKind::Expired,
                Denial::NetworkNotAllowed { .. } if settings.reveal_network => {
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
        }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.settings.status(self.kind())
    }

    /// The response: status, challenge, waiting time, limit and body.
    ///
    /// Its `Cache-Control` is `no-store`, and its `Vary` names the headers that the
    /// dialect reads: the next request with another key may get another answer.
    #[must_use]
    pub fn response(&self) -> Response<Vec<u8>> {
        let answer = self.answer();
        let (content_type, body) = match &self.settings.bodies {
            Some(bodies) => {
                // The closure may panic. The client gets its rejection all the same.
                let write = || (bodies.write)(&answer);
                let body = catch_unwind(AssertUnwindSafe(write)).unwrap_or_default();
                (Some(bodies.content_type.clone()), body)
            }
            None => (None, Vec::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.settings.vary(headers);
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        for challenge in self.settings.challenges(&answer) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = answer.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.shows_key_is_good() {
            let (fields, reported) = (self.settings.limit_fields, self.settings.reported_limit);
            let report = fields.of_rejection(reported, self.denial(), answer.allowances, self.at);
            headers.extend(
                report
                    .into_iter()
                    .flat_map(|report| report.headers(self.at)),
            );
        }
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.to_string();
        write!(f, "{}: {}", self.status().as_u16(), withheld(&reason))?;
        match self.presented {
            Some(id) if self.key_id().is_none() => write!(f, " (the token names key {id})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = format!("{:?}", self.reason);
        f.debug_struct("Rejection")
            .field("status", &self.status().as_u16())
            .field("reason", &format_args!("{}", withheld(&reason)))
            .field("presented", &self.presented)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            RejectionReason::Unavailable(error) | RejectionReason::Failed(error) => {
                Some(error.as_ref())
            }
            _ => None,
        }
    }
}
