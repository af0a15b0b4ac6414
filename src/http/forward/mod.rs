//! Answers to a reverse proxy that asks, before it passes a request on, whether it may.

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

/// What every header of ours begins with.
const OURS: &str = "x-gatekey";
const RESULT: HeaderName = HeaderName::from_static("x-gatekey-result");
const OWNER: HeaderName = HeaderName::from_static("x-gatekey-owner");
const KEY: HeaderName = HeaderName::from_static("x-gatekey-key");
const KEYSPACE: HeaderName = HeaderName::from_static("x-gatekey-keyspace");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-gatekey-permissions");
const STATUS: HeaderName = HeaderName::from_static("x-gatekey-status");

/// The handler that a reverse proxy asks before it passes a request on: nginx by
/// `auth_request`, Traefik by `forwardAuth`, Caddy by `forward_auth`, Envoy by
/// `ext_authz`. `docs/FORWARD_AUTH.md` has the configuration of each.
///
/// A request may pass with 200 and, on every pass and never empty, the headers
///
/// | header | says |
/// |---|---|
/// | `X-Gatekey-Result` | `granted` or `anonymous` |
/// | `X-Gatekey-Owner` | the owner's path, or `-` |
/// | `X-Gatekey-Key` | the key's id, or `-` |
/// | `X-Gatekey-Keyspace` | the keyspace's prefix, or `-` |
/// | `X-Gatekey-Permissions` | the names of the key's permissions with spaces between, or `-` |
///
/// which the proxy copies to the request that it passes on, so that none that a client
/// sent is left. A request that brings such a header itself, or one that an application
/// may take for it (`X_Gatekey_Owner`, `x.gatekey.owner`), is refused with 400.
///
/// A refusal is the dialect's. `X-Gatekey-Status` has its status, also where the proxy
/// needs another: nginx makes a 500 of what is neither 401 nor 403, and is told 403.
///
/// Nothing is believed, and nobody answered, but the peers that are
/// [trusted](Self::trusting): what a request says of the one that it asks for is as
/// good as its sender.
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

/// Who asks, and so where it says for what.
#[derive(Debug, Clone)]
enum Asker {
    /// `X-Original-Method` and `X-Original-URI`, which its configuration sets.
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

    /// For nginx's `auth_request`. What is asked for is in `X-Original-Method` and
    /// `X-Original-URI`, which the configuration must set; refusals are 401 or 403.
    #[must_use]
    pub fn nginx(engine: Engine, dialect: Dialect) -> Self {
        Self::new(engine, dialect, Asker::Nginx)
    }

    /// For Traefik's `forwardAuth`, Caddy's `forward_auth` and others that send
    /// `X-Forwarded-Method` and `X-Forwarded-Uri` and relay any refusal.
    #[must_use]
    pub fn forwarded(engine: Engine, dialect: Dialect) -> Self {
        Self::new(engine, dialect, Asker::Forwarded)
    }

    /// For Envoy's `ext_authz` over HTTP, which asks with the method of the request and
    /// its path behind `path_prefix`, and relays any refusal.
    ///
    /// Serve all paths behind the prefix, the empty one among them. The prefix is that of
    /// the request which [`answer`](Self::answer) is given: a nested router of axum takes
    /// its own path away before.
    #[must_use]
    pub fn envoy(engine: Engine, dialect: Dialect, path_prefix: &str) -> Self {
        let path_prefix = path_prefix.into();
        Self::new(engine, dialect, Asker::Envoy { path_prefix })
    }

    /// The networks of the proxies, instead of the loopback. Whoever else asks is
    /// refused with 403.
    #[must_use]
    pub fn trusting(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = trusted(proxies);
        self
    }

    /// Takes keys of this keyspace only; those of others read as unknown.
    #[must_use]
    pub fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Lets who presents no credential pass, or not, whatever the dialect does. Whoever
    /// presents one that is not good is refused.
    #[must_use]
    pub fn anonymous(mut self, allowed: bool) -> Self {
        self.anonymous = Some(allowed);
        self
    }

    /// Lets preflights of browsers pass as anonymous: they never present a key. Without
    /// this they are refused like any request without one.
    #[must_use]
    pub fn preflights(mut self, allowed: bool) -> Self {
        self.preflights = allowed;
        self
    }

    /// The permissions that a request needs. A request for which any are named is not
    /// let through as anonymous.
    ///
    /// With it, a request of which the proxy did not say what is asked for, whose path
    /// reads in more than one way (`..`, `//`, an encoded slash, a `#`), or that has a header
    /// for another method or path (`X-HTTP-Method-Override`, `X-Original-URL`), is refused
    /// with 400: the application may read it as another. An application that takes the
    /// method from the query or the body (`_method`) must not do so.
    #[must_use]
    pub fn permissions_for(
        mut self,
        permissions: impl Fn(&OriginalRequest<'_>) -> &'static [&'static str] + Send + Sync + 'static,
    ) -> Self {
        self.permissions = Some(Arc::new(permissions));
        self
    }

    /// Is called with every refusal, for the server's log: see
    /// [`RejectionLog`](super::RejectionLog). The headers that carried the token are marked as
    /// sensitive by then, so that `Debug` does not show them.
    #[must_use]
    pub fn on_rejected(
        mut self,
        hook: impl Fn(&Rejection, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.on_rejected = Some(Arc::new(hook));
        self
    }

    /// The answer to a proxy, whose address is `peer`; on a unix socket, the loopback's.
    /// A request that may pass is charged to the limits and quota of its key.
    ///
    /// Where the request is from, `X-Forwarded-For` says: see [`Proxies`](super::Proxies). A
    /// request with a credential is refused with 400 where the header holds no address.
    /// Where the header is not there, keys that are bound to networks are refused, and
    /// failed attempts are not counted.
    ///
    /// Serve it at the exact path that the proxy asks, with 404 elsewhere: a stray 200
    /// lets requests pass.
    #[must_use]
    pub fn answer(&self, peer: IpAddr, request: &Parts) -> Response<Vec<u8>> {
        match self.decide(peer, request) {
            Ok(authenticated) => self.passed(authenticated.grant()),
            Err(refused) => {
                if let Some(hook) = &self.on_rejected {
                    let mut shown = request.clone();
                    self.dialect.mark_sensitive(&mut shown.headers, false);
                    super::hook::call_hook(|| hook(&refused, &shown));
                }
                self.refused(&refused)
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
        let asked = self.asked(request);
        let names = match &self.permissions {
            Some(_) if headers.keys().any(overrides_the_target) => {
                return Err(reject(RejectionReason::UnclearTarget));
            }
            Some(permissions) => match asked.as_ref().filter(|asked| asked.reads_one_way()) {
                Some(asked) => permissions(asked),
                None => return Err(reject(RejectionReason::UnclearTarget)),
            },
            None => &[],
        };
        if self.preflights && asked.is_some_and(|asked| asked.is_preflight(headers)) {
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
        let mut requirements = Requirements::new().permission_names(names);
        if let Some(keyspace) = self.keyspace {
            requirements = requirements.keyspace(keyspace);
        }
        match self.proxies.source(Peer::Address(peer), headers) {
            Ok(Some(source)) => requirements = requirements.source(source),
            // The proxy's configuration does not send the header.
            Ok(None) | Err(SourceFault::Missing) => {}
            Err(fault) => return Err(self.dialect.source_unknown(fault, &presented)),
        }
        let grant = self
            .dialect
            .verify(&self.engine, &presented, &requirements)?;
        Ok(Authenticated::Granted(grant))
    }

    /// What is asked for, where the proxy said it once.
    fn asked<'r>(&self, request: &'r Parts) -> Option<OriginalRequest<'r>> {
        let headers = &request.headers;
        match &self.asker {
            Asker::Nginx => OriginalRequest::told(headers, "x-original-method", "x-original-uri"),
            Asker::Forwarded => {
                OriginalRequest::told(headers, "x-forwarded-method", "x-forwarded-uri")
            }
            Asker::Envoy { path_prefix } => {
                let path = request.uri.path().strip_prefix(&**path_prefix)?;
                Some(OriginalRequest::new(request.method.as_str(), path))
            }
        }
    }

    /// The answer to a request that may pass.
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
        let said = grant.map(|grant| {
            let known = self.engine.keyspace(grant.keyspace());
            let names = known.map(|keyspace| keyspace.names(grant.permissions()).join(" "));
            [
                grant.owner().to_owned(),
                grant.key_id().to_string(),
                grant.keyspace().to_string(),
                names.unwrap_or_default(),
            ]
        });
        let said = said.unwrap_or_default();
        for (name, text) in [OWNER, KEY, KEYSPACE, PERMISSIONS].into_iter().zip(said) {
            // Never left out: the client's own would stay in its place.
            let value = HeaderValue::try_from(text).ok();
            let value = value.filter(|value| !value.is_empty());
            headers.insert(name, value.unwrap_or(HeaderValue::from_static("-")));
        }
        if let Some(grant) = grant {
            headers.extend(self.dialect.limit_headers(grant, self.engine.now()));
        }
        response
    }

    fn refused(&self, refused: &Rejection) -> Response<Vec<u8>> {
        let mut response = refused.response();
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

/// A name as an application may read it: CGI and its heirs make one character of all that
/// are no letters and digits.
fn folded(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str()
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => byte.to_ascii_lowercase(),
            false => b'-',
        })
}

/// Whether an application may take a header for one of ours.
fn folds_onto_ours(name: &HeaderName) -> bool {
    let mut folded = folded(name);
    let begins = OURS.bytes().all(|byte| folded.next() == Some(byte));
    begins && folded.next().is_none_or(|byte| byte == b'-')
}

/// Whether an application may take another method or path from a header.
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
