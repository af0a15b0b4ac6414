//! Making a dialect of one's own.

use std::fmt;
use std::sync::Arc;

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION};
use ::http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::answer::{Answer, AnswerKind};
use super::caching::vary_of;
use super::challenge::Challenge;
use super::credential::Carrier;
use super::dialect::Dialect;
use super::limit_fields::{LimitFields, ReportedLimit};
use super::settings::{Bodies, Settings, challenge_of};
use crate::model::error::{Error, Invalid};

impl Dialect {
    /// A builder with the settings of [`Dialect::problem_details`].
    ///
    /// ```
    /// use gatekey::http::{Challenge, Dialect};
    ///
    /// let dialect = Dialect::builder()
    ///     .challenges([Challenge::bearer_in("reports")?])
    ///     .build()?;
    /// let response = dialect.missing().response();
    /// assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="reports""#);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn builder() -> DialectBuilder {
        Self::problem_details().to_builder()
    }

    /// A builder with the settings of this dialect.
    ///
    /// ```
    /// use gatekey::http::presets;
    ///
    /// let dialect = presets::one_codex().to_builder().anonymous(false).build()?;
    /// assert!(!dialect.accepts_anonymous());
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn to_builder(&self) -> DialectBuilder {
        DialectBuilder {
            settings: Settings::clone(self.settings()),
        }
    }
}

/// Makes a [`Dialect`]. [`Dialect::builder`] gives one.
///
/// ```
/// use gatekey::http::{Carrier, Dialect};
/// use http::HeaderName;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Oops {
///     oops: &'static str,
///     status: u16,
/// }
///
/// let dialect = Dialect::builder()
///     .carriers([Carrier::Header(HeaderName::from_static("x-acme-key"))])
///     .json_bodies(|answer| Oops {
///         oops: answer.kind().code(),
///         status: answer.status().as_u16(),
///     })
///     .build()?;
/// let response = dialect.missing().response();
/// assert_eq!(response.body(), br#"{"oops":"missing_api_key","status":401}"#);
/// assert_eq!(response.headers()["www-authenticate"], r#"ApiKey header="x-acme-key""#);
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct DialectBuilder {
    settings: Settings,
}

impl fmt::Debug for DialectBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialectBuilder")
            .field("carriers", &self.settings.carriers)
            .finish_non_exhaustive()
    }
}

impl DialectBuilder {
    /// Sets where the token may be. Also sets the challenges that belong to these
    /// carriers: call [`challenges`](Self::challenges) afterwards to change them.
    pub fn carriers(mut self, carriers: impl IntoIterator<Item = Carrier>) -> Self {
        self.settings.carriers = carriers.into_iter().collect();
        self.settings.vary = vary_of(&self.settings.carriers);
        self.settings.challenges = self.settings.carriers.iter().map(challenge_of).collect();
        self
    }

    /// Whether a request without a credential passes, as anonymous. False by default.
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.settings.anonymous = allowed;
        self
    }

    /// Whether [`Dialect::foreign`] answers 404, as if the thing did not exist, rather
    /// than 403. False by default.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// let dialect = Dialect::builder().hide_foreign(true).build()?;
    /// assert_eq!(dialect.foreign().status(), 404);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn hide_foreign(mut self, hide: bool) -> Self {
        self.settings.hide_foreign = hide;
        self
    }

    /// Whether the holder of an expired key learns that it has expired. If not, the key
    /// reads as invalid. False by default.
    pub fn reveal_expiry(mut self, reveal: bool) -> Self {
        self.settings.reveal_expiry = reveal;
        self
    }

    /// Whether the holder of a key that is bound to other networks learns that. If not,
    /// the key reads as invalid. True by default.
    ///
    /// ```
    /// # use gatekey::{Denial, KeyId};
    /// use gatekey::http::{AnswerKind, Dialect};
    ///
    /// let key: KeyId = "01ABcdEFgh".parse()?;
    /// let denial = Denial::NetworkNotAllowed { key, source: None };
    /// let dialect = Dialect::builder().reveal_network(false).build()?;
    /// assert_eq!(dialect.denied(denial).answer().kind(), AnswerKind::Invalid);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn reveal_network(mut self, reveal: bool) -> Self {
        self.settings.reveal_network = reveal;
        self
    }

    /// Sets the status of a kind of answer.
    pub fn status(mut self, kind: AnswerKind, status: StatusCode) -> Self {
        self.settings.statuses.retain(|(of, _)| *of != kind);
        self.settings.statuses.push((kind, status));
        self
    }

    /// Sets what `WWW-Authenticate` says. Call it after [`carriers`](Self::carriers),
    /// which sets it too.
    pub fn challenges(mut self, challenges: impl IntoIterator<Item = Challenge>) -> Self {
        self.settings.challenges = challenges.into_iter().collect();
        self
    }

    /// Sets JSON bodies. `body` makes a value to serialize; a value that cannot be
    /// serialized gives an empty body.
    pub fn json_bodies<T: Serialize>(
        mut self,
        body: impl Fn(&Answer<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        self.settings.bodies = Some(Bodies::json("application/json", body));
        self
    }

    /// Sets bodies of another content type. A `body` that panics gives an empty body.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    /// use http::HeaderValue;
    ///
    /// let text = HeaderValue::from_static("text/plain");
    /// let dialect = Dialect::builder()
    ///     .bodies(text, |answer| answer.message().into())
    ///     .build()?;
    /// assert_eq!(dialect.missing().response().body(), b"An API key is required.");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn bodies(
        mut self,
        content_type: HeaderValue,
        body: impl Fn(&Answer<'_>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.settings.bodies = Some(Bodies {
            content_type,
            write: Arc::new(body),
        });
        self
    }

    /// Sets problem details (RFC 9457) with the additional member `code`: the default.
    ///
    /// ```
    /// use gatekey::http::presets;
    ///
    /// let dialect = presets::pixxel().to_builder().problem_bodies().build()?;
    /// let response = dialect.missing().response();
    /// assert_eq!(response.headers()["content-type"], "application/problem+json");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn problem_bodies(mut self) -> Self {
        self.settings.bodies = Some(Bodies::problem());
        self
    }

    /// Sets no bodies and no `Content-Type`.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// let dialect = Dialect::builder().empty_bodies().build()?;
    /// let response = dialect.missing().response();
    /// assert!(response.body().is_empty());
    /// assert!(!response.headers().contains_key("content-type"));
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn empty_bodies(mut self) -> Self {
        self.settings.bodies = None;
        self
    }

    /// Sets the headers that report a limit to clients, and which limit they report.
    pub fn limit_fields(mut self, fields: LimitFields, reported: ReportedLimit) -> Self {
        self.settings.limit_fields = fields;
        self.settings.reported_limit = reported;
        self
    }

    /// The dialect.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for settings that cannot work:
    /// - no carrier, the same carrier twice, or a carrier that one before it makes
    ///   unreachable;
    /// - `Authorization` as a [`Carrier::Header`];
    /// - a status that is not 4xx, or for [`AnswerKind::Unavailable`] and
    ///   [`AnswerKind::Failed`] not 5xx;
    /// - an answer with 401 and no challenge.
    ///
    /// ```
    /// use gatekey::http::{AnswerKind, Carrier, Dialect};
    /// use http::StatusCode;
    ///
    /// let unreachable = [Carrier::RawAuthorization, Carrier::Bearer];
    /// assert!(Dialect::builder().carriers(unreachable).build().is_err());
    /// // A store that failed has denied nobody.
    /// let builder = Dialect::builder().status(AnswerKind::Unavailable, StatusCode::UNAUTHORIZED);
    /// assert!(builder.build().is_err());
    /// ```
    pub fn build(self) -> Result<Dialect, Error> {
        match self.fault() {
            None => Ok(Dialect::of(self.settings)),
            Some((value, why)) => Err(Invalid::malformed("dialect", &value, why).into()),
        }
    }

    fn fault(&self) -> Option<(String, &'static str)> {
        let settings = &self.settings;
        if settings.carriers.is_empty() {
            return Some((String::new(), "it has no carrier"));
        }
        for (at, carrier) in settings.carriers.iter().enumerate() {
            let before = settings.carriers.get(..at).unwrap_or(&[]);
            let why = if before.contains(carrier) {
                "a carrier is there twice"
            } else if [COOKIE, HOST, CONTENT_LENGTH, PROXY_AUTHORIZATION].contains(carrier.name()) {
                "that header has a meaning of its own"
            } else if *carrier == Carrier::Header(AUTHORIZATION) {
                "Authorization as a header of its own is RawAuthorization"
            } else if carrier.name() == AUTHORIZATION && before.contains(&Carrier::RawAuthorization)
            {
                "RawAuthorization before it accepts everything"
            } else {
                continue;
            };
            return Some((format!("{carrier:?}"), why));
        }
        for kind in AnswerKind::ALL {
            let status = settings.status(kind);
            let is_fit = match kind {
                AnswerKind::Unavailable | AnswerKind::Failed => status.is_server_error(),
                _ => status.is_client_error(),
            };
            if !is_fit {
                let why = "a rejection is 4xx, and a failed engine is 5xx";
                return Some((format!("{kind:?} {}", status.as_u16()), why));
            }
            if status == StatusCode::UNAUTHORIZED && settings.challenges.is_empty() {
                return Some((format!("{kind:?} 401"), "a 401 must have a challenge"));
            }
        }
        None
    }
}
