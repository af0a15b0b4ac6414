//! The layer: what a route asks of its callers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use std::time::Duration;

use ::http::request::Parts;
use ::http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use tower_layer::Layer;

use super::charge::Charges;
use super::drain::DrainLimits;
use super::service::AuthService;
use crate::engine::Engine;
use crate::engine::policy::Requirements;
use crate::http::{
    Dialect, Peer, Presented, Proxies, Refused, RefusedReason, SourceFault, call_hook,
};
use crate::model::id::{KeyId, Prefix};
use crate::model::limit::LimitStatus;
use crate::model::verdict::Grant;

/// A layer that lets through who may pass. Cheap to clone: a route that asks for
/// more is a clone that [`require`](AuthLayer::require)s it.
///
/// ```
/// use gatekey::Engine;
/// use gatekey::http::Dialect;
/// use gatekey::tower::AuthLayer;
///
/// # let engine = Engine::open_in_memory()?;
/// let auth = AuthLayer::new(engine, Dialect::default());
/// let may_write = auth.clone().require(["write"]);
/// let anyone = auth.optional();
/// # let _ = (may_write, anyone);
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthLayer<R = ByDialect> {
    pub(super) route: Arc<Route>,
    pub(super) respond: R,
}

/// What a layer and its services share.
#[derive(Clone)]
pub(super) struct Route {
    engine: Engine,
    pub(super) dialect: Dialect,
    permissions: Vec<&'static str>,
    keyspace: Option<Prefix>,
    /// Whether a key is needed, and else whether none is, whatever the dialect does.
    required: bool,
    optional: bool,
    passes_foreign: bool,
    vouched: Option<Arc<Vouched>>,
    cost: u32,
    source: Option<Arc<Source>>,
    on_refused: Option<Arc<OnRefused>>,
    pub(super) drain: DrainLimits,
    pub(super) no_store: bool,
    on_granted: Option<Arc<OnGranted>>,
}

type Source = dyn Fn(&HeaderMap, &Extensions) -> Result<Option<IpAddr>, SourceFault> + Send + Sync;
type Vouched = dyn Fn(&Extensions) -> bool + Send + Sync;
type OnRefused = dyn Fn(&Refused, &Parts) + Send + Sync;
type OnGranted = dyn Fn(&Grant, &Parts) + Send + Sync;

/// Who makes a request that is let through.
pub(super) enum Passed {
    /// The holder of a key, who is to be told of this limit.
    Granted(Option<LimitStatus>),
    /// Nobody, as far as this layer knows.
    Anonymous,
    /// Somebody whom another scheme knows, or has yet to judge.
    Elsewhere,
}

/// What a layer finds of a request.
// Nearly all requests are granted: a grant in a box would be an allocation for each.
#[allow(clippy::large_enum_variant)]
enum Found {
    Granted(Grant, u32),
    Anonymous,
    /// A credential of another scheme, which a layer behind is to judge.
    Foreign,
    /// Another scheme knows the caller.
    Vouched,
}

/// That a layer let an anonymous caller through, for the handlers behind it.
#[derive(Clone)]
pub(super) struct Anonymous {
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "for the extractor"))]
    pub(super) route: Arc<Route>,
}

impl<R> fmt::Debug for AuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.route.fmt(f)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("dialect", &self.dialect)
            .field("permissions", &self.permissions)
            .field("keyspace", &self.keyspace)
            .field("required", &self.required)
            .field("optional", &self.optional)
            .field("passes_foreign", &self.passes_foreign)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl AuthLayer {
    /// A layer that asks for a good key, or lets anonymous callers through where the
    /// dialect does.
    #[must_use]
    pub fn new(engine: Engine, dialect: Dialect) -> Self {
        Self {
            route: Arc::new(Route {
                engine,
                dialect,
                permissions: Vec::new(),
                keyspace: None,
                required: false,
                optional: false,
                passes_foreign: false,
                vouched: None,
                cost: 1,
                source: None,
                on_refused: None,
                drain: DrainLimits::DEFAULT,
                no_store: false,
                on_granted: None,
            }),
            respond: ByDialect,
        }
    }
}

impl<R> AuthLayer<R> {
    fn with(mut self, change: impl FnOnce(&mut Route)) -> Self {
        change(Arc::make_mut(&mut self.route));
        self
    }

    /// Asks for all of these permissions too, and so for a key: what nobody has been
    /// given, nobody in particular does not have. A name that a key's keyspace does not
    /// have denies every key: [`Keyspace::mask`](crate::Keyspace::mask) tells, at start.
    #[must_use]
    pub fn require(self, permissions: impl IntoIterator<Item = &'static str>) -> Self {
        self.with(|route| {
            route.permissions.extend(permissions);
            route.required = true;
        })
    }

    /// Asks for a key, whatever the dialect does with anonymous callers.
    #[must_use]
    pub fn required(self) -> Self {
        self.with(|route| route.required = true)
    }

    /// Lets who presents no credential through, whatever the dialect does. Whoever
    /// presents one that is not good is refused.
    ///
    /// A layer of which a key is asked, before or after, goes on asking for it: take a
    /// clone from before, for a route that asks for less.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let may_write = auth.clone().require(["write"]); // needs a key
    /// let needs_one_too = may_write.clone().optional();
    /// let anyone = auth.optional();
    /// # let _ = (needs_one_too, anyone);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|route| route.optional = true)
    }

    /// Lets pass, beside the holders of keys, callers whom a layer in front knows by
    /// another scheme and has marked in the request's extensions. A request that presents
    /// a token of this engine's is judged by it all the same, and one that is not good is
    /// refused. A route that requires permissions goes on asking for a key: the other
    /// scheme's are not known here.
    ///
    /// What is no token of this engine's, and is not vouched for, is refused.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// /// What the layer in front found in a JWT.
    /// #[derive(Clone)]
    /// struct Claims;
    ///
    /// let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default())
    ///     .or_vouched(|extensions| extensions.get::<Claims>().is_some());
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn or_vouched(self, vouched: impl Fn(&Extensions) -> bool + Send + Sync + 'static) -> Self {
        self.with(|route| route.vouched = Some(Arc::new(vouched)))
    }

    /// Passes on what is no token of this engine's, for a layer or a handler behind to
    /// judge: `Authorization` with a scheme that the dialect does not have, or a credential
    /// that does not begin with a keyspace's prefix, as a JWT. Only where anonymous callers
    /// pass, as one of whom such a request goes on: it has no grant, and whoever is behind
    /// must not take it for anonymous without having judged it.
    #[must_use]
    pub fn pass_foreign(self) -> Self {
        self.with(|route| route.passes_foreign = true)
    }

    /// Takes keys of this keyspace only; those of others read as unknown.
    #[must_use]
    pub fn keyspace(self, prefix: Prefix) -> Self {
        self.with(|route| route.keyspace = Some(prefix))
    }

    /// What a request costs of the limits and quota of its key; 1, if not said.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        self.with(|route| route.cost = cost)
    }

    /// Where the address of a request's sender is to be found. Without it, keys that
    /// are bound to networks are refused, and failed attempts are not counted.
    ///
    /// Behind a proxy, the peer is the proxy: see [`behind`](Self::behind).
    ///
    #[cfg_attr(feature = "axum", doc = "```")]
    #[cfg_attr(not(feature = "axum"), doc = "```ignore")]
    /// use axum::extract::ConnectInfo;
    /// use std::net::SocketAddr;
    ///
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let auth = auth.source(|_headers, extensions| {
    ///     let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(address.ip())
    /// });
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn source(
        self,
        source: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.with(|route| {
            route.source = Some(Arc::new(move |headers, extensions| {
                Ok(source(headers, extensions))
            }));
        })
    }

    /// Finds the address of a request's sender behind proxies. Without them, or where the
    /// peer is none of them, it is the peer's. A request of which a proxy does not say where
    /// it comes from is refused if it presents a credential: 400. See [`Proxies`].
    ///
    #[cfg_attr(feature = "axum", doc = "```")]
    #[cfg_attr(not(feature = "axum"), doc = "```ignore")]
    /// use axum::extract::ConnectInfo;
    /// use gatekey::http::{Peer, Proxies, SourceHeader};
    /// use std::net::SocketAddr;
    ///
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let nginx = Proxies::new(SourceHeader::XForwardedFor).trust(["127.0.0.1".parse()?]);
    /// let auth = auth.behind(nginx, |extensions| {
    ///     let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(Peer::from(*address))
    /// });
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn behind(
        self,
        proxies: Proxies,
        peer: impl Fn(&Extensions) -> Option<Peer> + Send + Sync + 'static,
    ) -> Self {
        self.with(|route| {
            route.source = Some(Arc::new(move |headers, extensions| {
                match peer(extensions) {
                    Some(peer) => proxies.source(peer, headers),
                    None => Ok(None),
                }
            }));
        })
    }

    /// How much of a refused request's body is read and thrown away before the answer, in
    /// bytes, and for how long; 16 MiB and 5 seconds, if not said.
    ///
    /// A client that is still sending when the connection is closed sees it reset, in place
    /// of the answer. Where the body does not end within the bounds, or is said to be
    /// longer, the answer says `Connection: close`, and such a client may see a reset. The
    /// same is said, and nothing read, where the client asks first (`Expect:
    /// 100-continue`), and with 0 bytes. No answer waits for longer than the time, whatever
    /// the client does.
    #[must_use]
    pub fn drain(self, bytes: u64, time: Duration) -> Self {
        self.with(|route| route.drain = DrainLimits { bytes, time })
    }

    /// Tells caches to store no answer of this route, whatever its handlers say: for routes
    /// whose answers hold tokens. For one answer, [`no_store`](crate::http::no_store).
    #[must_use]
    pub fn no_store(self) -> Self {
        self.with(|route| route.no_store = true)
    }

    /// Is called with every refusal, for the server's log. The headers that carried
    /// the token are marked as sensitive by then, so that `Debug` does not show them. A
    /// path may hold a token too: a [`RefusalLog`](crate::http::RefusalLog) withholds
    /// it, and so does [`withheld`](crate::withheld()). The caller is answered even if
    /// the hook panics, as `eprintln!` does where stderr is closed.
    #[must_use]
    pub fn on_refused(self, hook: impl Fn(&Refused, &Parts) + Send + Sync + 'static) -> Self {
        self.with(|route| route.on_refused = Some(Arc::new(hook)))
    }

    /// Is called with every grant, before the inner service sees the request: for a log of
    /// who did what, or a span. Not for an anonymous caller, who has none. Where several
    /// layers stand behind each other, each calls its own. The headers that carried the
    /// token are marked as sensitive by then. A hook that panics changes nothing.
    ///
    /// It runs in the call, ahead of the service: one that waits makes the request wait.
    #[must_use]
    pub fn on_granted(self, hook: impl Fn(&Grant, &Parts) + Send + Sync + 'static) -> Self {
        self.with(|route| route.on_granted = Some(Arc::new(hook)))
    }

    /// Answers refusals by a closure rather than by the dialect: for bodies that are
    /// not made of bytes, and for protocols whose refusals are no HTTP statuses.
    ///
    /// ```
    /// use gatekey::Engine;
    /// use gatekey::http::{AnswerKind, Dialect, Refused};
    /// use gatekey::tower::AuthLayer;
    /// use http::Response;
    ///
    /// // As gRPC has it; with tonic, `Status::unauthenticated("..").into_http()`.
    /// fn grpc<B: Default>(refused: &Refused) -> Response<B> {
    ///     let mut response = Response::new(B::default());
    ///     let code = match refused.answer().kind() {
    ///         AnswerKind::PermissionMissing | AnswerKind::Foreign => 7,
    ///         AnswerKind::RateLimited | AnswerKind::QuotaExhausted => 8,
    ///         AnswerKind::Unavailable => 14,
    ///         _ => 16,
    ///     };
    ///     let headers = response.headers_mut();
    ///     headers.insert("content-type", "application/grpc".parse().unwrap());
    ///     headers.insert("grpc-status", code.into());
    ///     response
    /// }
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let auth = AuthLayer::new(engine, Dialect::default()).respond_with(grpc::<String>);
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn respond_with<F>(self, respond: F) -> AuthLayer<RespondWith<F>> {
        AuthLayer {
            route: self.route,
            respond: RespondWith(respond),
        }
    }
}

impl<S, R: Clone> Layer<S> for AuthLayer<R> {
    type Service = AuthService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService {
            inner,
            layer: self.clone(),
        }
    }
}

/// What makes a refusal a response.
pub trait Respond<B> {
    /// The response to a refusal.
    fn respond(&self, refused: &Refused) -> Response<B>;
}

/// The response is the dialect's, with a body of bytes: for every body that can be
/// made from them, as those of axum and hyper.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByDialect;

impl<B: From<Vec<u8>>> Respond<B> for ByDialect {
    fn respond(&self, refused: &Refused) -> Response<B> {
        refused.response().map(B::from)
    }
}

/// The response is a closure's: see [`AuthLayer::respond_with`].
#[derive(Debug, Clone, Copy)]
pub struct RespondWith<F>(F);

impl<B, F: Fn(&Refused) -> Response<B>> Respond<B> for RespondWith<F> {
    fn respond(&self, refused: &Refused) -> Response<B> {
        (self.0)(refused)
    }
}

impl Route {
    /// Lets a request through, or not.
    pub(super) fn admit<B>(self: &Arc<Self>, request: &mut Request<B>) -> Result<Passed, Refused> {
        let found = self.judge(request.headers(), request.extensions());
        self.dialect
            .mark_sensitive(request.headers_mut(), found.is_ok());
        let extensions = request.extensions_mut();
        let found = found?;
        if let Found::Granted(grant, cost) = found {
            let told = self.dialect.limit_of(&grant);
            let before = extensions.remove::<Charges>();
            let charges = Charges::new(self.engine.identity(), grant.key_id(), cost, before);
            extensions.insert(charges);
            extensions.insert(grant);
            return Ok(Passed::Granted(told));
        }
        if !matches!(found, Found::Vouched) {
            // One from a layer in front that reads other headers is not this one's.
            extensions.remove::<Grant>();
        }
        let route = self.clone();
        extensions.insert(Anonymous { route });
        Ok(match found {
            Found::Anonymous => Passed::Anonymous,
            _ => Passed::Elsewhere,
        })
    }

    fn judge(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Found, Refused> {
        let presented = match self.dialect.credential(headers) {
            Ok(presented) => presented,
            Err(refused) => {
                let is_foreign = matches!(refused.reason(), RefusedReason::UnknownScheme);
                return match self.beside(extensions) {
                    Some(found) if is_foreign => Ok(found),
                    _ => Err(refused),
                };
            }
        };
        let Some(presented) = presented else {
            return match self.vouches(extensions) {
                true => Ok(Found::Vouched),
                false if self.lets_anonymous_through() => Ok(Found::Anonymous),
                false => Err(self.dialect.missing()),
            };
        };
        match self.beside(extensions) {
            Some(found) if !self.engine.begins_as_a_token(presented.expose()) => Ok(found),
            _ => self.verify(&presented, headers, extensions),
        }
    }

    /// Whether nobody in particular may pass. What permissions ask for, nobody in
    /// particular has.
    fn lets_anonymous_through(&self) -> bool {
        !self.required
            && self.permissions.is_empty()
            && (self.optional || self.dialect.lets_anonymous_through())
    }

    fn vouches(&self, extensions: &Extensions) -> bool {
        self.permissions.is_empty()
            && (self.vouched.as_ref()).is_some_and(|vouched| vouched(extensions))
    }

    /// What a credential of another scheme comes to, where one is let pass.
    fn beside(&self, extensions: &Extensions) -> Option<Found> {
        if self.vouches(extensions) {
            return Some(Found::Vouched);
        }
        (self.passes_foreign && self.lets_anonymous_through()).then_some(Found::Foreign)
    }

    /// Has a token verified, and charges what no layer in front has.
    fn verify(
        &self,
        presented: &Presented<'_>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Found, Refused> {
        let mut requirements = Requirements::new().permission_names(&self.permissions);
        if let Some(keyspace) = self.keyspace {
            requirements = requirements.keyspace(keyspace);
        }
        if let Some(source) = &self.source {
            match source(headers, extensions) {
                Ok(Some(address)) => requirements = requirements.source(address),
                Ok(None) => {}
                Err(fault) => return Err(self.dialect.source_unknown(fault, presented)),
            }
        }
        // Only a token that is proven to be that key's is granted.
        let charged = presented
            .key_id()
            .and_then(|key| self.take(extensions, key));
        requirements.is_counted = charged.is_some();
        let charged = charged.unwrap_or(0);
        let requirements = requirements.cost(self.cost.saturating_sub(charged));
        let grant = self
            .dialect
            .verify(&self.engine, presented, &requirements)?;
        Ok(Found::Granted(grant, charged.max(self.cost)))
    }

    fn take(&self, extensions: &Extensions, key: KeyId) -> Option<u32> {
        let charges = extensions.get::<Charges>()?;
        charges.take(self.engine.identity(), key)
    }

    /// Tells the server of a refusal.
    pub(super) fn refused(&self, refused: &Refused, parts: &Parts) {
        if let Some(hook) = &self.on_refused {
            call_hook(|| hook(refused, parts));
        }
    }

    pub(super) fn vary(&self) -> HeaderValue {
        self.dialect.vary_value()
    }

    /// Tells the server of a grant.
    pub(super) fn granted<B>(&self, passed: &Passed, request: Request<B>) -> Request<B> {
        // A grant that another layer has left is not this one's.
        let (Passed::Granted(_), Some(hook)) = (passed, &self.on_granted) else {
            return request;
        };
        let (parts, body) = request.into_parts();
        if let Some(grant) = parts.extensions.get::<Grant>() {
            call_hook(|| hook(grant, &parts));
        }
        Request::from_parts(parts, body)
    }

    pub(super) fn now(&self) -> crate::Timestamp {
        self.engine.now()
    }
}
