//! A dialect: how an API carries the token and words its rejections.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::http::header::AUTHORIZATION;
use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::credential::{self, Carrier, Presented};
use super::limit_fields::Report;
use super::proxies::SourceFault;
use super::reason::RejectionReason;
use super::rejection::Rejection;
use super::settings::{Bodies, Settings};
use crate::engine::handle::Engine;
use crate::model::allowances::Allowances;
use crate::model::clock::{Clock, SystemClock};
use crate::model::error::Error;
use crate::model::permissions::Permissions;
use crate::model::requirements::{Requirements, Told};
use crate::model::verdict::{Denial, Grant, Verdict};

/// How an HTTP API carries the token and words its rejections. Cheap to clone.
///
/// [`problem_details`](Self::problem_details) is the default, [`presets`](super::presets)
/// has the dialects of real systems, [`builder`](Self::builder) makes a new one, and
/// [`to_builder`](Self::to_builder) changes one.
///
/// ```
/// use gatekey::http::{AnswerKind, Dialect};
/// use http::StatusCode;
///
/// let dialect = Dialect::builder()
///     .reveal_expiry(true)
///     .status(AnswerKind::PermissionMissing, StatusCode::NOT_FOUND)
///     .build()?;
/// # let _ = dialect;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Dialect(Arc<Settings>);

/// The caller of a request that was not rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an anonymous caller has not shown a key"]
// Nearly all requests are granted. A boxed grant would cost each of them an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Authenticated {
    /// The holder of a good key.
    Granted(Grant),
    /// A caller without a credential, whom the dialect accepts.
    Anonymous,
}

impl Authenticated {
    /// The grant; `None` for an anonymous caller.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Anonymous => None,
        }
    }

    /// The grant; `None` for an anonymous caller.
    ///
    /// ```
    /// use gatekey::http::{Authenticated, presets};
    /// use gatekey::{Engine, Requirements};
    /// use http::HeaderMap;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let dialect = presets::one_codex(); // which accepts anonymous callers
    /// let caller = dialect.authenticate(&engine, &HeaderMap::new(), &Requirements::new()).unwrap();
    /// assert_eq!(caller, Authenticated::Anonymous);
    /// assert_eq!(caller.into_grant(), None);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn into_grant(self) -> Option<Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Anonymous => None,
        }
    }
}

impl Default for Dialect {
    /// [`Dialect::problem_details`].
    fn default() -> Self {
        Self::problem_details()
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialect")
            .field("carriers", &self.0.carriers)
            .field("anonymous", &self.0.anonymous)
            .field("challenges", &self.0.challenges)
            .finish_non_exhaustive()
    }
}

impl Dialect {
    /// The dialect for a new API: Bearer (RFC 6750), problem details (RFC 9457), and the
    /// fields `RateLimit` and `RateLimit-Policy`.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// let response = Dialect::problem_details().missing().response();
    /// assert_eq!(response.headers()["content-type"], "application/problem+json");
    /// let body = std::str::from_utf8(response.body()).unwrap();
    /// assert!(body.contains(r#""title":"Unauthorized","status":401"#));
    /// ```
    #[must_use]
    pub fn problem_details() -> Self {
        Self::of(Settings::new(vec![Carrier::Bearer], Bodies::problem()))
    }

    pub(super) fn of(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0
    }

    /// A rejection in the words of this dialect.
    pub(super) fn reject(&self, reason: RejectionReason) -> Rejection {
        Rejection::new(self.0.clone(), reason)
    }

    /// Whether a request without a credential passes, as anonymous.
    #[must_use]
    pub fn accepts_anonymous(&self) -> bool {
        self.0.anonymous
    }

    /// The token that a request presents; `None` where it has no credential. Verifies
    /// nothing.
    ///
    /// Linear in the length of the headers that the carriers name. Only Basic allocates,
    /// less than that length.
    ///
    /// # Errors
    /// [`Rejection`] for more than one credential, or for one that is not in the format
    /// of its header.
    ///
    /// ```
    /// use gatekey::http::{RejectionReason, presets};
    /// use http::{HeaderMap, HeaderValue};
    ///
    /// let dialect = presets::one_codex();
    /// let mut headers = HeaderMap::new();
    /// assert!(dialect.credential(&headers).unwrap().is_none());
    /// headers.insert("x-api-key", HeaderValue::from_static("abc"));
    /// assert_eq!(dialect.credential(&headers).unwrap().unwrap().expose(), b"abc");
    /// headers.insert("authorization", HeaderValue::from_static("Basic YWJjOg=="));
    /// assert!(matches!(
    ///     dialect.credential(&headers).unwrap_err().reason(),
    ///     RejectionReason::SeveralCredentials,
    /// ));
    /// ```
    pub fn credential<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<Presented<'h>>, Rejection> {
        credential::find(&self.0.carriers, headers).map_err(|reason| self.reject(reason))
    }

    /// Finds the token of a request and verifies it.
    ///
    /// A request without a credential passes as anonymous where the dialect accepts that
    /// and no permission is required. A request with a bad credential is rejected; it
    /// never passes as anonymous.
    ///
    /// # Errors
    /// [`Rejection`]: no credential where one is needed, an unreadable credential, a
    /// denial, or an engine that failed.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Requirements;
    /// use gatekey::http::{Authenticated, Dialect};
    /// use http::HeaderMap;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let mut headers = HeaderMap::new();
    /// let credential = format!("Bearer {}", issued.token.expose());
    /// headers.insert("authorization", credential.parse().unwrap());
    /// match Dialect::default().authenticate(&engine, &headers, &Requirements::new()) {
    ///     Ok(Authenticated::Granted(grant)) => assert_eq!(grant.owner(), "acme"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn authenticate(
        &self,
        engine: &Engine,
        headers: &HeaderMap,
        requirements: &Requirements<'_>,
    ) -> Result<Authenticated, Rejection> {
        // Anonymous callers hold no permissions.
        let anonymous = self.0.anonymous
            && requirements.permissions == Permissions::NONE
            && requirements.permission_names.is_empty();
        match self.credential(headers)? {
            Some(presented) => {
                let grant = self.verify(engine, &presented, requirements)?;
                Ok(Authenticated::Granted(grant))
            }
            None if anonymous => Ok(Authenticated::Anonymous),
            None => Err(self.missing()),
        }
    }

    /// Verifies what a request presents as a token.
    pub(crate) fn verify(
        &self,
        engine: &Engine,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Grant, Rejection> {
        let verify = |text: &[u8], telling: &Requirements<'_>| engine.verify_with(text, telling);
        self.verify_by(engine, presented, requirements, verify)
    }

    /// Verifies what a request presents in the way that it is given: with the requirements, which
    /// say also where to tell what the request was charged to.
    pub(crate) fn verify_by(
        &self,
        engine: &Engine,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
        verify: impl FnOnce(&[u8], &Requirements<'_>) -> Result<Verdict, Error>,
    ) -> Result<Grant, Rejection> {
        let told = Told {
            of_grants: self.0.limit_fields.tells_all(),
            found: OnceLock::new(),
        };
        let telling = Requirements {
            told: Some(&told),
            ..*requirements
        };
        match verify(presented.expose(), &telling) {
            Ok(Verdict::Granted(mut grant)) => {
                grant.allowances = told.found.into_inner().map(Arc::new);
                Ok(grant)
            }
            Ok(Verdict::Denied(denial)) => {
                let found = told.found.into_inner();
                Err(self.deny(engine, denial, found, presented, requirements))
            }
            Err(error) => Err(self.unavailable(error).of(presented.key_id())),
        }
    }

    #[cold]
    fn deny(
        &self,
        engine: &Engine,
        denial: Denial,
        found: Option<Allowances>,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
    ) -> Rejection {
        let scope = scope(&denial, requirements);
        let at = found.as_ref().map(|found| found.at);
        let rejection = self
            .reject(RejectionReason::Denied(denial))
            .of(presented.key_id())
            .requiring(scope)
            .at(at.unwrap_or_else(|| engine.clock_now()));
        match rejection.key_id() {
            Some(key) if rejection.shows_key_is_good() => {
                let found = found.or_else(|| engine.allowances_of(key));
                rejection.allowed(found.map(Arc::new))
            }
            _ => rejection,
        }
    }

    /// The rejection of a request with a token whose source a proxy did not name.
    #[cold]
    pub(crate) fn source_unknown(
        &self,
        fault: SourceFault,
        presented: &Presented<'_>,
    ) -> Rejection {
        self.reject(RejectionReason::SourceUnknown(fault))
            .of(presented.key_id())
    }

    /// Marks the headers that carry a credential as sensitive, so that `Debug` does not
    /// show them: the first of each name, or all.
    pub(crate) fn mark_sensitive(&self, headers: &mut HeaderMap, first_only: bool) {
        if first_only {
            for carrier in &self.0.carriers {
                if let Some(value) = headers.get_mut(carrier.name()) {
                    value.set_sensitive(true);
                }
            }
            return;
        }
        for (name, value) in headers.iter_mut() {
            let carries = |carrier: &Carrier| carrier.name() == name;
            if name == AUTHORIZATION || self.0.carriers.iter().any(carries) {
                value.set_sensitive(true);
            }
        }
    }

    /// The rejection of a request without a credential, for a handler that also serves
    /// anonymous callers.
    ///
    /// ```
    /// assert_eq!(gatekey::http::Dialect::default().missing().status(), 401);
    /// ```
    pub fn missing(&self) -> Rejection {
        self.reject(RejectionReason::Missing)
    }

    /// The rejection of a request for something of another owner, from an anonymous
    /// caller or from one with a good key. 403, or 404 where the dialect hides that the
    /// thing exists.
    ///
    /// ```
    /// use gatekey::http::{Dialect, presets};
    ///
    /// assert_eq!(Dialect::default().foreign().status(), 403);
    /// assert_eq!(presets::one_codex().foreign().status(), 404);
    /// ```
    pub fn foreign(&self) -> Rejection {
        self.reject(RejectionReason::Foreign)
    }

    /// The rejection of a denied token, for a server that calls the engine itself. Waits
    /// for a refill ([`Denial::QuotaExhausted`]) begin at the system's present time.
    ///
    /// ```
    /// use gatekey::Denial;
    /// use gatekey::http::{Dialect, presets};
    ///
    /// assert_eq!(Dialect::default().denied(Denial::Unknown).status(), 401);
    /// assert_eq!(presets::pixxel().denied(Denial::Unknown).status(), 403);
    /// ```
    pub fn denied(&self, denial: Denial) -> Rejection {
        let at = match &denial {
            // The instant at which the engine denied it, so that all that is told agrees.
            Denial::RateLimited {
                status,
                retry_after: Some(wait),
                ..
            } => status.resets_at().saturating_sub(*wait),
            _ => SystemClock.now(),
        };
        self.reject(RejectionReason::Denied(denial)).at(at)
    }

    /// The rejection where the engine failed, for a server that calls it itself: 503,
    /// with no detail for the client.
    ///
    /// ```
    /// use gatekey::{Engine, http::Dialect};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// engine.clone().close()?;
    /// let error = engine.verify("acme_live_..").unwrap_err();
    /// assert_eq!(Dialect::default().unavailable(error).status(), 503);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn unavailable(&self, error: Error) -> Rejection {
        self.reject(RejectionReason::Unavailable(Arc::new(error)))
    }

    /// The answer where the engine failed after the request was let through: 503 or 500, as
    /// [`Error::status`] says, with no detail for the client. An
    /// [`AuthLayer`](crate::tower::AuthLayer) answers so by itself where a handler of axum returns
    /// the error.
    ///
    /// ```
    /// use gatekey::{Engine, KeyId, http::presets};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let unknown: KeyId = "01ABcdEFgh".parse()?;
    /// let error = engine.key(unknown).unwrap_err();
    /// let response = presets::one_codex().failed(error).response();
    /// assert_eq!(
    ///     std::str::from_utf8(response.body()).unwrap(),
    ///     r#"{"message":"The service failed to do this.","status":500}"#,
    /// );
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn failed(&self, error: impl Into<Arc<Error>>) -> Rejection {
        self.reject(RejectionReason::Failed(error.into()))
    }

    /// The headers that tell the holder of a grant how much of its limits and quotas
    /// remains. None where there are no limits and no quotas, or where the dialect reports
    /// none. `engine` is the one that granted.
    ///
    /// A grant of [`authenticate`](Self::authenticate) or of a layer tells all that
    /// [`LimitFields`](super::LimitFields) names. A grant of
    /// [`Engine::verify_with`](crate::Engine::verify_with) tells one limit, and no
    /// `RateLimit-Policy`.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::http::Dialect;
    /// use http::Response;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let dialect = Dialect::default();
    /// # let grant = engine.verify(issued.token.expose())?.into_result().unwrap();
    /// let mut response = Response::new("hello");
    /// response.headers_mut().extend(dialect.limit_headers(&engine, &grant));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn limit_headers(
        &self,
        engine: &Engine,
        grant: &Grant,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let now = engine.clock_now();
        let report = self.report_of(grant);
        report
            .map(|report| report.headers(now))
            .into_iter()
            .flatten()
    }

    /// What this dialect reports of a grant.
    pub(crate) fn report_of(&self, grant: &Grant) -> Option<Report> {
        self.0.limit_fields.of_grant(self.0.reported_limit, grant)
    }

    /// Adds the headers that this dialect reads to `Vary`, unless it has them already.
    ///
    /// Every response needs it: a grant, a rejection, and the answer to an anonymous
    /// caller (RFC 9110, 12.5.5).
    ///
    /// ```
    /// use gatekey::http::presets;
    /// use http::HeaderMap;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert("vary", "Accept-Encoding".parse().unwrap());
    /// presets::one_codex().vary(&mut headers);
    /// assert_eq!(headers["vary"], "Accept-Encoding, authorization, x-api-key");
    /// ```
    pub fn vary(&self, headers: &mut HeaderMap) {
        self.0.vary(headers);
    }

    /// Marks a response as meant for its caller alone, in `Cache-Control` and `Vary`:
    /// what the holder of a key receives.
    ///
    /// A handler may say who may store the response, with `public`, `s-maxage`,
    /// `private` or `no-store`. Where it says none of them, this adds `private`. A cache
    /// gives a `public` response only to callers who present the same token (by `Vary`),
    /// but while the response is fresh also after that key is revoked.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    /// use http::HeaderMap;
    ///
    /// let mut headers = HeaderMap::new();
    /// Dialect::default().keep_private(&mut headers);
    /// assert_eq!(headers["cache-control"], "private");
    /// assert_eq!(headers["vary"], "authorization");
    /// ```
    pub fn keep_private(&self, headers: &mut HeaderMap) {
        super::caching::add_private(headers);
        self.vary(headers);
    }

    #[cfg(feature = "tower")]
    pub(crate) fn vary_value(&self) -> HeaderValue {
        self.0.vary.clone()
    }
}

/// The permissions to name to a client: the ones required by name, and those required
/// by mask that its key lacks.
fn scope(denial: &Denial, requirements: &Requirements<'_>) -> Option<Box<str>> {
    let Denial::PermissionMissing { names, .. } = denial else {
        return None;
    };
    // The characters of a scope (RFC 6749, 3.3), which need no quoting.
    let is_plain = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    };
    let required = requirements.permission_names;
    let lacking = names.iter().map(String::as_str);
    let all: Vec<&str> = required
        .iter()
        .copied()
        .chain(lacking.filter(|name| !required.contains(name)))
        .filter(is_plain)
        .collect();
    (!all.is_empty()).then(|| all.join(" ").into())
}
