//! Answering a reverse proxy that asks whether it may pass a request on.

mod original;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ::http::header::CACHE_CONTROL;
use ::http::request::Parts;
use ::http::{HeaderName, HeaderValue, Response, StatusCode};

pub use original::OriginalRequest;

use super::dialect::{Authenticated, Dialect};
use super::proxies::{Peer, Proxies, SourceFault, SourceHeader};
use super::reason::RejectionReason;
use super::rejection::Rejection;
use crate::engine::handle::Engine;
use crate::model::id::Prefix;
use crate::model::network::Network;
use crate::model::requirements::Requirements;
use crate::model::verdict::Grant;

/// The beginning of all identity headers.
const OURS: &str = "x-gatekey";
const RESULT: HeaderName = HeaderName::from_static("x-gatekey-result");
const OWNER: HeaderName = HeaderName::from_static("x-gatekey-owner");
const KEY: HeaderName = HeaderName::from_static("x-gatekey-key");
const KEYSPACE: HeaderName = HeaderName::from_static("x-gatekey-keyspace");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-gatekey-permissions");
const STATUS: HeaderName = HeaderName::from_static("x-gatekey-status");

/// Answers a reverse proxy that asks before it passes a request on: nginx with
/// `auth_request`, Traefik with `forwardAuth`, Caddy with `forward_auth`, Envoy with
/// `ext_authz`. `docs/FORWARD_AUTH.md` has the configuration of each.
///
/// For a request that may pass, the answer is 200 with these headers, each set and never
/// empty:
///
/// | header | says |
/// |---|---|
/// | `X-Gatekey-Result` | `granted` or `anonymous` |
/// | `X-Gatekey-Owner` | the owner's path, or `-` |
/// | `X-Gatekey-Key` | the key's id, or `-` |
/// | `X-Gatekey-Keyspace` | the keyspace's prefix, or `-` |
/// | `X-Gatekey-Permissions` | the names of the key's permissions, separated by spaces, or `-` |
///
/// The proxy must copy them all to the request that it passes on: a header that it does not
/// set is the client's own. A request that already has such a header, or one that an
/// application may read as it (`X_Gatekey_Owner`, `x.gatekey.owner`), is rejected with 400.
///
/// A rejection is the dialect's. `X-Gatekey-Status` has its status. nginx turns every status
/// but 401 and 403 into a 500, and so gets 403 in place of others.
///
/// Only [trusted](Self::trusting) peers get an answer: anybody else could claim to ask about
/// any request.
///
/// ```
/// use gatekey::http::{Dialect, ForwardAuth};
/// # use gatekey::{Engine, NewKey, NewKeyspace};
/// use http::Request;
///
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// # let issued = engine.issue(NewKey::new("acme_live", "acme")?.permissions(["read"]))?;
/// let forward = ForwardAuth::nginx(engine, Dialect::default()).permissions_for(|original| {
///     match original.method() {
///         "GET" | "HEAD" => &["read"],
///         _ => &["write"],
///     }
/// });
///
/// let asked = |method: &str| {
///     let request = Request::get("/check")
///         .header("X-Original-Method", method)
///         .header("X-Original-URI", "/things?page=2")
///         .header("Authorization", format!("Bearer {}", issued.token.expose()));
///     request.body(()).unwrap().into_parts().0
/// };
/// let proxy = "127.0.0.1".parse().unwrap();
/// let passed = forward.answer(proxy, &asked("GET"));
/// assert_eq!(passed.status(), 200);
/// assert_eq!(passed.headers()["x-gatekey-owner"], "acme");
/// assert_eq!(forward.answer(proxy, &asked("POST")).status(), 403);
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct ForwardAuth {
    engine: Engine,
    dialect: Dialect,
    asker: Asker,
    proxies: Proxies,
    keyspace: Option<Prefix>,
    anonymous: Option<bool>,
    preflights: bool,
    permissions: Option<Arc<Permissions>>,
    on_rejected: Option<Arc<OnRejected>>,
}

type Permissions = dyn Fn(&OriginalRequest<'_>) -> &'static [&'static str] + Send + Sync;
type OnRejected = dyn Fn(&Rejection, &Parts) + Send + Sync;

/// Which proxy asks, and so which headers name the original request.
#[derive(Debug, Clone)]
enum Asker {
    /// `X-Original-Method` and `X-Original-URI`, set by its configuration.
    Nginx,
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`: Traefik, Caddy and others.
    Forwarded,
    /// The request's own method, and its path behind a prefix.
    Envoy { path_prefix: Arc<str> },
}

impl fmt::Debug for ForwardAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardAuth")
            .field("dialect", &self.dialect)
            .field("asker", &self.asker)
            .field("proxies", &self.proxies)
            .field("keyspace", &self.keyspace)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

impl ForwardAuth {
    fn new(engine: Engine, dialect: Dialect, asker: Asker) -> Self {
        let loopback = ["127.0.0.0/8", "::1"];
        Self {
            engine,
            dialect,
            asker,
            proxies: trusted(loopback.iter().filter_map(|net| net.parse().ok())),
            keyspace: None,
            anonymous: None,
            preflights: false,
            permissions: None,
            on_rejected: None,
        }
    }

    /// For nginx's `auth_request`. Its configuration must set `X-Original-Method` and
    /// `X-Original-URI`. Rejections are 401 or 403.
    #[must_use]
    pub fn nginx(engine: Engine, dialect: Dialect) -> Self {
        Self::new(engine, dialect, Asker::Nginx)
    }

    /// For Traefik's `forwardAuth`, Caddy's `forward_auth` and others that send
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`, and relay every rejection.
    #[must_use]
    pub fn forwarded(engine: Engine, dialect: Dialect) -> Self {
        Self::new(engine, dialect, Asker::Forwarded)
    }

    /// For Envoy's `ext_authz` over HTTP, which asks with the method of the original request
    /// and its path behind `path_prefix`, and relays every rejection.
    ///
    /// Serve all paths behind the prefix, including the empty one. A nested router of axum
    /// removes its own path before [`answer`](Self::answer) sees the request.
    #[must_use]
    pub fn envoy(engine: Engine, dialect: Dialect, path_prefix: &str) -> Self {
        let path_prefix = path_prefix.into();
        Self::new(engine, dialect, Asker::Envoy { path_prefix })
    }

    /// Sets the networks of the proxies. The loopback by default. Other peers are rejected
    /// with 403.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use gatekey::http::{Dialect, ForwardAuth};
    /// use http::Request;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let forward = ForwardAuth::nginx(engine, Dialect::default()).trusting(["10.0.0.2/32".parse()?]);
    /// let (request, ()) = Request::get("/check").body(()).unwrap().into_parts();
    /// // The proxy learns that the request has no key; anybody else, that it is no proxy.
    /// assert_eq!(forward.answer("10.0.0.2".parse().unwrap(), &request).status(), 401);
    /// assert_eq!(forward.answer("10.0.0.3".parse().unwrap(), &request).status(), 403);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn trusting(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = trusted(proxies);
        self
    }

    /// Accepts only keys of this keyspace. Keys of others read as unknown.
    #[must_use]
    pub fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Whether callers without a credential pass, whatever the dialect does. A caller with a
    /// bad credential is still rejected.
    #[must_use]
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.anonymous = Some(allowed);
        self
    }

    /// Whether preflights of browsers pass as anonymous: they never present a key. False by
    /// default, so that they are rejected like other requests without a key.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use gatekey::http::{Dialect, ForwardAuth};
    /// use http::Request;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let forward = ForwardAuth::nginx(engine, Dialect::default()).preflights(true);
    /// let preflight = Request::get("/check")
    ///     .header("X-Original-Method", "OPTIONS")
    ///     .header("X-Original-URI", "/things")
    ///     .header("Origin", "https://acme.example")
    ///     .header("Access-Control-Request-Method", "POST");
    /// let (request, ()) = preflight.body(()).unwrap().into_parts();
    /// let passed = forward.answer("127.0.0.1".parse().unwrap(), &request);
    /// assert_eq!(passed.headers()["x-gatekey-result"], "anonymous");
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn preflights(mut self, allowed: bool) -> Self {
        self.preflights = allowed;
        self
    }

    /// Sets the permissions that each original request requires. A request that requires any
    /// does not pass as anonymous.
    ///
    /// The application may read a request differently from this closure. So a request is
    /// rejected with 400 if
    /// - the proxy did not name its method and path;
    /// - its path is ambiguous (`..`, `//`, an encoded slash, a `#`);
    /// - a header names another method or path (`X-HTTP-Method-Override`,
    ///   `X-Original-URL`).
    ///
    /// The application must not take the method from the query or the body (`_method`).
    #[must_use]
    pub fn permissions_for(
        mut self,
        permissions: impl Fn(&OriginalRequest<'_>) -> &'static [&'static str] + Send + Sync + 'static,
    ) -> Self {
        self.permissions = Some(Arc::new(permissions));
        self
    }

    /// Sets a hook that is called with every rejection, for the server's log: see
    /// [`RejectionLog`](super::RejectionLog).
    ///
    /// Its request has the method and the path of the original request, where a trusted
    /// proxy named them. The headers that carried the token are marked as sensitive, so that
    /// `Debug` does not show them.
    #[must_use]
    pub fn on_rejected(
        mut self,
        hook: impl Fn(&Rejection, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.on_rejected = Some(Arc::new(hook));
        self
    }

    /// The answer to a proxy. `peer` is the proxy's address; for a Unix socket, pass the
    /// loopback. A request that may pass is charged to the limits and the quota of its key.
    ///
    /// `X-Forwarded-For` has the client's address: see [`Proxies`](super::Proxies). A request
    /// with a credential is rejected with 400 where the header holds no address. Without the
    /// header, keys that are bound to networks are denied, and failed attempts are not
    /// counted.
    ///
    /// Serve it at the exact path that the proxy asks, and 404 elsewhere: a stray 200 lets
    /// requests pass.
    #[must_use]
    pub fn answer(&self, peer: IpAddr, request: &Parts) -> Response<Vec<u8>> {
        match self.decide(peer, request) {
            Ok(authenticated) => self.passed(authenticated.grant()),
            Err(rejection) => {
                if let Some(hook) = &self.on_rejected {
                    let mut shown = request.clone();
                    self.dialect.mark_sensitive(&mut shown.headers, false);
                    if self.proxies.trusts(peer)
                        && let Some(original) = self.original(request)
                    {
                        original.name(&mut shown);
                    }
                    super::hook::call_hook(|| hook(&rejection, &shown));
                }
                self.rejected(&rejection)
            }
        }
    }

    fn decide(&self, peer: IpAddr, request: &Parts) -> Result<Authenticated, Rejection> {
        let reject = |reason| self.dialect.reject(reason);
        if !self.proxies.trusts(peer) {
            return Err(reject(RejectionReason::UntrustedPeer(peer)));
        }
        let headers = &request.headers;
        if let Some(name) = headers.keys().find(|name| folds_onto_ours(name)) {
            return Err(reject(RejectionReason::IdentityHeader(name.clone())));
        }
        let original = self.original(request);
        let names = match &self.permissions {
            Some(_) if headers.keys().any(overrides_the_target) => {
                return Err(reject(RejectionReason::UnclearTarget));
            }
            Some(permissions) => match original.as_ref().filter(|one| one.reads_one_way()) {
                Some(original) => permissions(original),
                None => return Err(reject(RejectionReason::UnclearTarget)),
            },
            None => &[],
        };
        if self.preflights && original.is_some_and(|original| original.is_preflight(headers)) {
            return Ok(Authenticated::Anonymous);
        }
        let anonymous = names.is_empty()
            && self
                .anonymous
                .unwrap_or_else(|| self.dialect.accepts_anonymous());
        let Some(presented) = self.dialect.credential(headers)? else {
            return match anonymous {
                true => Ok(Authenticated::Anonymous),
                false => Err(self.dialect.missing()),
            };
        };
        let mut requirements = Requirements::new().permissions(names);
        if let Some(keyspace) = self.keyspace {
            requirements = requirements.keyspace(keyspace);
        }
        match self.proxies.source(Peer::Address(peer), headers) {
            Ok(Some(source)) => requirements = requirements.source(source),
            // The proxy is not configured to send the header.
            Ok(None) | Err(SourceFault::Missing) => {}
            Err(fault) => return Err(self.dialect.source_unknown(fault, &presented)),
        }
        let grant = self
            .dialect
            .verify(&self.engine, &presented, &requirements)?;
        Ok(Authenticated::Granted(grant))
    }

    /// The original request, where the proxy named it once.
    fn original<'r>(&self, request: &'r Parts) -> Option<OriginalRequest<'r>> {
        let headers = &request.headers;
        match &self.asker {
            Asker::Nginx => OriginalRequest::named(headers, "x-original-method", "x-original-uri"),
            Asker::Forwarded => {
                OriginalRequest::named(headers, "x-forwarded-method", "x-forwarded-uri")
            }
            Asker::Envoy { path_prefix } => {
                let path = request.uri.path().strip_prefix(&**path_prefix)?;
                Some(OriginalRequest::new(request.method.as_str(), path))
            }
        }
    }

    /// The answer for a request that may pass.
    fn passed(&self, grant: Option<&Grant>) -> Response<Vec<u8>> {
        let mut response = Response::new(Vec::new());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let result = if grant.is_some() {
            "granted"
        } else {
            "anonymous"
        };
        headers.insert(RESULT, HeaderValue::from_static(result));
        let identity = grant.map(|grant| {
            let known = self.engine.keyspace(grant.keyspace());
            let names = known.map(|keyspace| keyspace.names(grant.permissions()).join(" "));
            [
                grant.owner().to_owned(),
                grant.key_id().to_string(),
                grant.keyspace().to_string(),
                names.unwrap_or_default(),
            ]
        });
        let identity = identity.unwrap_or_default();
        for (name, text) in [OWNER, KEY, KEYSPACE, PERMISSIONS]
            .into_iter()
            .zip(identity)
        {
            // Never left out: the client's own header would stay in its place.
            let value = HeaderValue::try_from(text).ok();
            let value = value.filter(|value| !value.is_empty());
            headers.insert(name, value.unwrap_or(HeaderValue::from_static("-")));
        }
        if let Some(grant) = grant {
            headers.extend(self.dialect.limit_headers(&self.engine, grant));
        }
        response
    }

    fn rejected(&self, rejection: &Rejection) -> Response<Vec<u8>> {
        let mut response = rejection.response();
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(STATUS, HeaderValue::from(status.as_u16()));
        headers.insert(RESULT, HeaderValue::from_static("refused"));
        if matches!(self.asker, Asker::Nginx)
            && status.is_client_error()
            && status != StatusCode::UNAUTHORIZED
        {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        response
    }
}

/// A name as an application may read it: CGI and its heirs replace every character that is
/// no letter or digit by the same one.
fn folded(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str()
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => byte.to_ascii_lowercase(),
            false => b'-',
        })
}

/// Whether an application may read a header as one of the identity headers.
fn folds_onto_ours(name: &HeaderName) -> bool {
    let mut folded = folded(name);
    let begins = OURS.bytes().all(|byte| folded.next() == Some(byte));
    begins && folded.next().is_none_or(|byte| byte == b'-')
}

/// Whether a header may give the application another method or path.
fn overrides_the_target(name: &HeaderName) -> bool {
    let known = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        // Of IIS, and of frameworks that read what it writes.
        "x-original-url",
        "x-rewrite-url",
    ];
    known.iter().any(|known| folded(name).eq(known.bytes()))
}

fn trusted(networks: impl IntoIterator<Item = Network>) -> Proxies {
    Proxies::new(SourceHeader::XForwardedFor).trust(networks)
}

#[cfg(test)]
mod tests;
