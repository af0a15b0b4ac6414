//! The layer: what a route asks of its callers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ::http::request::Parts;
use ::http::{Extensions, HeaderMap, Request, Response};
use tower_layer::Layer;

use super::service::AuthService;
use crate::engine::Engine;
use crate::http::{Authenticated, Dialect, Refused, call_hook};
use crate::id::Prefix;
use crate::limit::LimitStatus;
use crate::outcome::Grant;
use crate::policy::Requirements;

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
    /// One for a layer and all its clones, by which they know each other.
    engine: Arc<Engine>,
    pub(super) dialect: Dialect,
    permissions: Vec<&'static str>,
    keyspace: Option<Prefix>,
    /// Where the route says so; else as the dialect has it.
    anonymous: Option<bool>,
    cost: u32,
    source: Option<Arc<Source>>,
    on_refused: Option<Arc<OnRefused>>,
}

type Source = dyn Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync;
type OnRefused = dyn Fn(&Refused, &Parts) + Send + Sync;

/// What a layer has charged a request's key, for the layers behind it. The engine is
/// known by its address: to count a reference to it would make all threads wait for
/// one another, on every request.
#[derive(Clone, Copy)]
struct Charged {
    engine: usize,
    cost: u32,
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
            .field("anonymous", &self.anonymous)
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
                engine: Arc::new(engine),
                dialect,
                permissions: Vec::new(),
                keyspace: None,
                anonymous: None,
                cost: 1,
                source: None,
                on_refused: None,
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

    /// Asks for all of these permissions too, and lets nobody anonymous through. A
    /// name that a key's keyspace does not have denies every key:
    /// [`Keyspace::mask`](crate::Keyspace::mask) tells, at start.
    #[must_use]
    pub fn require(self, permissions: impl IntoIterator<Item = &'static str>) -> Self {
        self.with(|route| {
            route.permissions.extend(permissions);
            route.anonymous = Some(false);
        })
    }

    /// Asks for a key, whatever the dialect does with anonymous callers.
    #[must_use]
    pub fn required(self) -> Self {
        self.with(|route| route.anonymous = Some(false))
    }

    /// Lets who presents no credential through, whatever the dialect does. Whoever
    /// presents one that is not good, or lacks what is required, is refused.
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|route| route.anonymous = Some(true))
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
    /// Behind a proxy, it is in a header that the proxy writes: be sure that nobody
    /// else can.
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
        self.with(|route| route.source = Some(Arc::new(source)))
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
    /// Lets a request through, with what it is to be told of its limit, or not.
    pub(super) fn admit<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
    ) -> Result<Option<LimitStatus>, Refused> {
        let engine = Arc::as_ptr(&self.engine) as usize;
        let charged = match request.extensions().get::<Charged>() {
            Some(before) if before.engine == engine => before.cost,
            _ => 0,
        };
        let authenticated = self.authenticate(request, charged);
        self.dialect
            .mark_sensitive(request.headers_mut(), authenticated.is_ok());
        let extensions = request.extensions_mut();
        match authenticated? {
            Authenticated::Granted(grant) => {
                let told = self.dialect.limit_of(&grant);
                extensions.insert(grant);
                let cost = charged.max(self.cost);
                extensions.insert(Charged { engine, cost });
                Ok(told)
            }
            Authenticated::Anonymous => {
                // One from a layer in front that reads other headers is not this one's.
                extensions.remove::<Grant>();
                let route = self.clone();
                extensions.insert(Anonymous { route });
                Ok(None)
            }
        }
    }

    fn authenticate<B>(
        &self,
        request: &Request<B>,
        charged: u32,
    ) -> Result<Authenticated, Refused> {
        let mut requirements = Requirements::new().permission_names(&self.permissions);
        if let Some(keyspace) = self.keyspace {
            requirements = requirements.keyspace(keyspace);
        }
        if let Some(source) = &self.source
            && let Some(address) = source(request.headers(), request.extensions())
        {
            requirements = requirements.source(address);
        }
        let requirements = requirements.cost(self.cost.saturating_sub(charged));
        let anonymous = self
            .anonymous
            .unwrap_or_else(|| self.dialect.lets_anonymous_through());
        let (engine, headers) = (&self.engine, request.headers());
        self.dialect
            .authenticate_or(engine, headers, &requirements, anonymous)
    }

    /// Tells the server of a refusal.
    pub(super) fn refused(&self, refused: &Refused, parts: &Parts) {
        if let Some(hook) = &self.on_refused {
            call_hook(|| hook(refused, parts));
        }
    }

    pub(super) fn now(&self) -> crate::Timestamp {
        self.engine.now()
    }
}
