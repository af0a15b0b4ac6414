//! A dialect: how an API carries the token and words its refusals.

use std::fmt;
use std::sync::Arc;

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::caching::vary_of;
use super::challenge::Challenge;
use super::credential::{self, Carrier, Presented};
use super::limit_fields::{LimitFields, LimitTold};
use super::proxies::SourceFault;
use super::refused::{Answer, AnswerKind, Refused, RefusedReason};
use super::systems;
use crate::engine::Engine;
use crate::engine::policy::Requirements;
use crate::model::error::{Error, Invalid};
use crate::model::permissions::Permissions;
use crate::model::verdict::{Denial, Grant, Verdict};

/// How an HTTP API carries the token and words its refusals. Cheap to clone.
///
/// There are ready-made ones, [`builder`](Dialect::builder) makes another, and
/// [`to_builder`](Dialect::to_builder) changes one.
///
/// ```
/// use gatekey::http::{AnswerKind, Dialect};
/// use http::StatusCode;
///
/// let dialect = Dialect::ai_platform()
///     .to_builder()
///     .status(AnswerKind::PermissionMissing, StatusCode::NOT_FOUND)
///     .build()?;
/// # let _ = dialect;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Dialect(Arc<Settings>);

/// What a dialect is made of.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) carriers: Vec<Carrier>,
    /// What `Vary` says of them.
    pub(super) vary: HeaderValue,
    pub(super) anonymous: bool,
    pub(super) hide_foreign: bool,
    pub(super) tell_expiry: bool,
    pub(super) tell_network: bool,
    pub(super) statuses: Vec<(AnswerKind, StatusCode)>,
    pub(super) challenges: Vec<Challenge>,
    pub(super) bodies: Option<Bodies>,
    pub(super) limit_fields: LimitFields,
    pub(super) limit_told: LimitTold,
}

/// What words an answer.
#[derive(Clone)]
pub(super) struct Bodies {
    pub(super) content_type: HeaderValue,
    pub(super) make: Arc<MakeBody>,
}

type MakeBody = dyn Fn(&Answer<'_>) -> Vec<u8> + Send + Sync;

impl Bodies {
    pub(super) fn json<T: Serialize>(
        content_type: &'static str,
        word: impl Fn(&Answer<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            // What cannot be serialized is left out: the status says enough, and a
            // refusal must not turn into anything else.
            make: Arc::new(move |answer| serde_json::to_vec(&word(answer)).unwrap_or_default()),
        }
    }
}

impl Settings {
    pub(super) fn status(&self, kind: AnswerKind) -> StatusCode {
        let chosen = self.statuses.iter().rev().find(|(of, _)| *of == kind);
        chosen.map_or_else(|| kind.status(self.hide_foreign), |(_, status)| *status)
    }
}

/// Who makes a request that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "whoever is anonymous has not shown a key"]
// Nearly all requests are granted: a grant in a box would be an allocation for each.
#[allow(clippy::large_enum_variant)]
pub enum Authenticated {
    /// The holder of a key.
    Granted(Grant),
    /// Somebody who presented no credential, where the dialect lets them.
    Anonymous,
}

impl Authenticated {
    /// The grant, if there is one.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Anonymous => None,
        }
    }

    /// The grant, if there is one.
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
    pub(super) fn of(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0
    }

    /// A builder that begins as [`Dialect::problem_details`].
    pub fn builder() -> DialectBuilder {
        Self::problem_details().to_builder()
    }

    /// A builder that begins as this dialect.
    pub fn to_builder(&self) -> DialectBuilder {
        DialectBuilder {
            settings: Settings::clone(&self.0),
        }
    }

    /// Whether a request without a credential is let through as anonymous.
    #[must_use]
    pub fn lets_anonymous_through(&self) -> bool {
        self.0.anonymous
    }

    /// The token that a request presents; `None` where it presents no credential.
    /// Nothing is verified.
    ///
    /// Linear in the length of the headers that the carriers name. Allocates for
    /// Basic alone, less than that length.
    ///
    /// # Errors
    /// [`Refused`], where there is more than one credential, or one that is not
    /// what its format asks for.
    ///
    /// ```
    /// use gatekey::http::{Dialect, RefusedReason};
    /// use http::{HeaderMap, HeaderValue};
    ///
    /// let dialect = Dialect::one_codex();
    /// let mut headers = HeaderMap::new();
    /// assert!(dialect.credential(&headers).unwrap().is_none());
    /// headers.insert("x-api-key", HeaderValue::from_static("abc"));
    /// assert_eq!(dialect.credential(&headers).unwrap().unwrap().expose(), b"abc");
    /// headers.insert("authorization", HeaderValue::from_static("Basic YWJjOg=="));
    /// assert!(matches!(
    ///     dialect.credential(&headers).unwrap_err().reason(),
    ///     RefusedReason::SeveralCredentials,
    /// ));
    /// ```
    pub fn credential<'h>(&self, headers: &'h HeaderMap) -> Result<Option<Presented<'h>>, Refused> {
        credential::find(&self.0.carriers, headers).map_err(|reason| Refused::new(self, reason))
    }

    /// Finds the token of a request and has it verified.
    ///
    /// Where anonymous callers are let through, they are where no permission is
    /// required; whoever presents a credential that is not good is refused, and not
    /// taken for anonymous.
    ///
    /// # Errors
    /// [`Refused`]: no credential where one is needed, one that cannot be read, a
    /// denial, or an engine that failed.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::http::{Authenticated, Dialect};
    /// use gatekey::Requirements;
    /// use http::HeaderMap;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("x-aurorax-api-key", issued.token.expose().parse().unwrap());
    /// let dialect = Dialect::aurorax();
    /// match dialect.authenticate(&engine, &headers, &Requirements::new()) {
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
    ) -> Result<Authenticated, Refused> {
        // What nobody has been given, nobody in particular does not have.
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

    /// Has a token verified that a request presents.
    pub(crate) fn verify(
        &self,
        engine: &Engine,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
    ) -> Result<Grant, Refused> {
        match engine.verify_with(presented.expose(), requirements) {
            Ok(Verdict::Granted(grant)) => Ok(grant),
            Ok(Verdict::Denied(denial)) => {
                Err(self.refuse(engine, denial, presented, requirements))
            }
            Err(error) => Err(self.unavailable(error).of(presented.key_id())),
        }
    }

    /// The answer where it is not known where a request comes from that presents a token.
    #[cold]
    pub(crate) fn source_unknown(&self, fault: SourceFault, presented: &Presented<'_>) -> Refused {
        Refused::new(self, RefusedReason::SourceUnknown(fault)).of(presented.key_id())
    }

    /// Marks the headers that carry a credential, so that `Debug` does not show
    /// them: of each the first, or every one that there is.
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

    #[cold]
    fn refuse(
        &self,
        engine: &Engine,
        denial: Denial,
        presented: &Presented<'_>,
        requirements: &Requirements<'_>,
    ) -> Refused {
        let scope = scope(&denial, requirements);
        let is_told = matches!(denial, Denial::RateLimited { .. });
        let refused = self
            .denied(denial)
            .of(presented.key_id())
            .asking(scope)
            .at(engine.now());
        match refused.key_id() {
            Some(key) if !is_told && refused.tells_key_is_good() => {
                let standing = engine.standing(key);
                let limit = standing.and_then(|standing| self.limit_of_standing(&standing));
                refused.standing(limit)
            }
            _ => refused,
        }
    }

    /// The answer to a caller who presented nothing, for a handler that lets
    /// anonymous callers see some things and not others.
    pub fn missing(&self) -> Refused {
        Refused::new(self, RefusedReason::Missing)
    }

    /// The answer to a caller whose key is good, or who is anonymous, and who asks
    /// for what belongs to somebody else: 403, or 404 where the dialect hides that
    /// there is such a thing.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// assert_eq!(Dialect::default().foreign().status(), 403);
    /// assert_eq!(Dialect::one_codex().foreign().status(), 404);
    /// ```
    pub fn foreign(&self) -> Refused {
        Refused::new(self, RefusedReason::Foreign)
    }

    /// The answer to a denial, for a server that calls the engine itself. Waits
    /// until an instant ([`Denial::QuotaExhausted`]) count from the system's present.
    ///
    /// ```
    /// use gatekey::Denial;
    /// use gatekey::http::Dialect;
    ///
    /// assert_eq!(Dialect::default().denied(Denial::Unknown).status(), 401);
    /// assert_eq!(Dialect::pixxel().denied(Denial::Unknown).status(), 403);
    /// ```
    pub fn denied(&self, denial: Denial) -> Refused {
        use crate::model::clock::{Clock, SystemClock};
        Refused::new(self, RefusedReason::Denied(denial)).at(SystemClock.now())
    }

    /// The answer where the engine failed, for a server that calls it itself.
    pub fn unavailable(&self, error: Error) -> Refused {
        Refused::new(self, RefusedReason::Unavailable(Arc::new(error)))
    }
}

/// The permissions to name to a caller: those that were required by name, and those
/// by mask that it lacks.
fn scope(denial: &Denial, requirements: &Requirements<'_>) -> Option<Box<str>> {
    let Denial::PermissionMissing { names, .. } = denial else {
        return None;
    };
    // The characters of a scope in RFC 6749, which need no quoting.
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

/// Makes a [`Dialect`].
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
    /// Where the token may be, instead of where it was. The challenges become those
    /// that go with it.
    pub fn carriers(mut self, carriers: impl IntoIterator<Item = Carrier>) -> Self {
        self.settings.carriers = carriers.into_iter().collect();
        self.settings.vary = vary_of(&self.settings.carriers);
        self.settings.challenges = self.settings.carriers.iter().map(challenge_of).collect();
        self
    }

    /// Whether a request without a credential is let through, as anonymous.
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.settings.anonymous = allowed;
        self
    }

    /// Whether [`Dialect::foreign`] is a 404, as if there were no such thing, rather
    /// than a 403.
    pub fn hide_foreign(mut self, hide: bool) -> Self {
        self.settings.hide_foreign = hide;
        self
    }

    /// Whether the holder of a key that has expired is told so. If not, it is
    /// invalid like any other.
    pub fn tell_expiry(mut self, tell: bool) -> Self {
        self.settings.tell_expiry = tell;
        self
    }

    /// Whether the holder of a key is told that it may not be used from their
    /// network. If not, it is invalid like any other.
    pub fn tell_network(mut self, tell: bool) -> Self {
        self.settings.tell_network = tell;
        self
    }

    /// The status of an answer, instead of its own.
    pub fn status(mut self, kind: AnswerKind, status: StatusCode) -> Self {
        self.settings.statuses.retain(|(of, _)| *of != kind);
        self.settings.statuses.push((kind, status));
        self
    }

    /// What `WWW-Authenticate` says, instead of what goes with the carriers: call it
    /// after [`carriers`](Self::carriers).
    pub fn challenges(mut self, challenges: impl IntoIterator<Item = Challenge>) -> Self {
        self.settings.challenges = challenges.into_iter().collect();
        self
    }

    /// Bodies of JSON, as something that can be serialized. What cannot be, in the
    /// event, is an empty body.
    pub fn json_bodies<T: Serialize>(
        mut self,
        word: impl Fn(&Answer<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        self.settings.bodies = Some(Bodies::json("application/json", word));
        self
    }

    /// Bodies of any kind.
    pub fn bodies(
        mut self,
        content_type: HeaderValue,
        word: impl Fn(&Answer<'_>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.settings.bodies = Some(Bodies {
            content_type,
            make: Arc::new(word),
        });
        self
    }

    /// Bodies as RFC 9457 has them, with the member `code` added.
    pub fn problem_bodies(mut self) -> Self {
        self.settings.bodies = Some(systems::problem_bodies());
        self
    }

    /// No bodies.
    pub fn empty_bodies(mut self) -> Self {
        self.settings.bodies = None;
        self
    }

    /// In which headers callers are told what is left of their limit, and of which.
    pub fn limit_fields(mut self, fields: LimitFields, told: LimitTold) -> Self {
        self.settings.limit_fields = fields;
        self.settings.limit_told = told;
        self
    }

    /// The dialect.
    ///
    /// # Errors
    /// [`Invalid::Malformed`]: no carrier, the same one twice, or one that another
    /// before it leaves nothing to; `Authorization` as a header of its own; a status
    /// that is not 4xx, or 5xx for [`AnswerKind::Unavailable`]; no challenge though
    /// there are answers with 401.
    ///
    /// ```
    /// use gatekey::http::{AnswerKind, Carrier, Dialect};
    /// use http::StatusCode;
    ///
    /// let never_reached = [Carrier::RawAuthorization, Carrier::Bearer];
    /// assert!(Dialect::builder().carriers(never_reached).build().is_err());
    /// // What the store could not say is no denial.
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
                "RawAuthorization before it takes everything"
            } else {
                continue;
            };
            return Some((format!("{carrier:?}"), why));
        }
        for kind in AnswerKind::ALL {
            let status = settings.status(kind);
            let is_fit = match kind {
                AnswerKind::Unavailable => status.is_server_error(),
                _ => status.is_client_error(),
            };
            if !is_fit {
                let why = "refusals are 4xx, and an engine that failed is 5xx";
                return Some((format!("{kind:?} {}", status.as_u16()), why));
            }
            if status == StatusCode::UNAUTHORIZED && settings.challenges.is_empty() {
                return Some((format!("{kind:?} 401"), "a 401 must have a challenge"));
            }
        }
        None
    }
}

/// The challenge that goes with a carrier.
pub(super) fn challenge_of(carrier: &Carrier) -> Challenge {
    match carrier {
        Carrier::Bearer => Challenge::bearer(),
        Carrier::Basic => Challenge::basic_of("api"),
        Carrier::RawAuthorization | Carrier::Header(_) => Challenge::api_key(carrier.name()),
    }
}
