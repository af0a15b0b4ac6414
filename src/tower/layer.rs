//! The layer: a builder of what a route requires of its callers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::request::Parts;
use ::http::{Extensions, HeaderMap};
use tower_layer::Layer;

use super::drain::DrainLimits;
use super::respond::{ByDialect, RespondWith};
use super::route::Route;
use super::service::AuthService;
use crate::engine::handle::Engine;
use crate::http::{Dialect, Peer, Proxies, Rejection};
use crate::model::id::Prefix;
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::verdict::{Grant, Verdict};

/// Authenticates requests before the inner service sees them.
///
/// Cheap to clone: a route that requires more is a clone with
/// [`permissions`](AuthLayer::permissions).
///
/// ```
/// use gatekey::Engine;
/// use gatekey::http::Dialect;
/// use gatekey::tower::AuthLayer;
///
/// # let engine = Engine::open_in_memory()?;
/// let auth = AuthLayer::new(engine, Dialect::default());
/// let writers = auth.clone().permissions(["write"]);
/// let anyone = auth.optional();
/// # let _ = (writers, anyone);
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthLayer<R = ByDialect> {
    pub(super) route: Arc<Route>,
    pub(super) respond: R,
}

impl<R> fmt::Debug for AuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.route.fmt(f)
    }
}

impl AuthLayer {
    /// A layer that requires a good key, unless the dialect accepts anonymous callers.
    #[must_use]
    pub fn new(engine: Engine, dialect: Dialect) -> Self {
        Self {
            route: Arc::new(Route::new(engine, dialect)),
            respond: ByDialect,
        }
    }
}

impl<R> AuthLayer<R> {
    fn with(mut self, change: impl FnOnce(&mut Route)) -> Self {
        change(Arc::make_mut(&mut self.route));
        self
    }

    /// Requires all of these permissions, in addition to those that the layer requires
    /// already, and so requires a key: anonymous callers hold no permissions.
    ///
    /// A name that the key's keyspace does not have denies every key.
    /// [`Keyspace::mask`](crate::Keyspace::mask) finds a misspelt name at startup.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let admins = auth.clone().permissions(["read", "admin"]);
    /// let configured: Vec<String> = vec!["write".to_owned()];
    /// let writers = auth.permissions(configured);
    /// # let _ = (admins, writers);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn permissions<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|route| {
            route.permissions.extend(names.into_iter().map(Into::into));
            route.required = true;
        })
    }

    /// Requires all permissions of a mask, in addition to those that the layer requires
    /// already, and so requires a key.
    ///
    /// Each keyspace gives its own meaning to a bit: also call
    /// [`keyspace`](Self::keyspace).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace, http::Dialect, tower::AuthLayer};
    /// # let engine = Engine::open_in_memory()?;
    /// let keyspace = engine.create_keyspace(NewKeyspace::new("acme")?.permissions(["write"]))?;
    /// let auth = AuthLayer::new(engine, Dialect::default())
    ///     .keyspace(keyspace.prefix)
    ///     .permission_mask(keyspace.mask(["write"])?);
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn permission_mask(self, mask: Permissions) -> Self {
        self.with(|route| {
            route.permission_mask = route.permission_mask | mask;
            route.required = true;
        })
    }

    /// Requires a key, whatever the dialect does with anonymous callers.
    #[must_use]
    pub fn required(self) -> Self {
        self.with(|route| route.required = true)
    }

    /// Lets callers without a credential pass, whatever the dialect does. A caller with a
    /// bad credential is still rejected.
    ///
    /// A layer that requires a key, by an earlier or a later call, goes on requiring it.
    /// For a route that requires less, clone the layer before those calls.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let writers = auth.clone().permissions(["write"]); // requires a key
    /// let writers_too = writers.clone().optional(); // still does
    /// let anyone = auth.optional();
    /// # let _ = (writers_too, anyone);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|route| route.optional = true)
    }

    /// Also lets callers pass for whom another scheme vouches: an outer layer
    /// authenticates them and leaves a mark in the request's extensions, which `vouched`
    /// looks for.
    ///
    /// - A token of this engine is verified all the same, and a bad one is rejected.
    /// - A route that requires permissions still requires a key: the other scheme's
    ///   permissions are unknown here.
    /// - A credential that is no token of this engine is rejected unless `vouched` is
    ///   true.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// /// What the outer layer found in a JWT.
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

    /// Also accepts what another verifier knows: it is asked first for each credential, gets
    /// what the route requires, and returns `None` for what is not its own, which is then
    /// verified as a token. Such as a JWT, whose verifier asks the engine for the verdict on
    /// its key ([`Extension::vouch`](crate::extension::Extension::vouch)): then limits,
    /// permissions and refusals are those of the key.
    ///
    /// Hand on the requirements as they are: where a request passes several layers, they say what
    /// it was charged already. In one call of the verifier that counts for all verifications of
    /// the same key: each is charged what it costs beyond that, and one whose grant is not
    /// returned stays charged. What a verifier charges by requirements of its own, or to another
    /// engine, is beside what the layers charge: they settle it only where it is [settled
    /// later](crate::Requirements::settled_later) and of their engine.
    ///
    /// ```
    /// # use gatekey::{Denial, Engine, Verdict, http::Dialect, tower::AuthLayer};
    /// let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default())
    ///     .also_verified_by(|credential, _requirements| {
    ///         let is_jwt = credential.iter().filter(|byte| **byte == b'.').count() == 2;
    ///         // Here, none is good.
    ///         is_jwt.then(|| Ok(Verdict::Denied(Denial::Unknown)))
    ///     });
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn also_verified_by(
        self,
        verifier: impl Fn(&[u8], &Requirements<'_>) -> Option<crate::Result<Verdict>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.with(|route| route.verifier = Some(Arc::new(verifier)))
    }

    /// Passes on credentials that are no token of this engine, for an inner layer or a
    /// handler to judge: `Authorization` with a scheme that the dialect does not accept,
    /// or a credential without a keyspace's prefix, such as a JWT.
    ///
    /// Works only where anonymous callers pass. Such a request has no grant. The inner
    /// layer must judge its credential before it treats the caller as anonymous.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let before_jwt = auth.optional().pass_foreign();
    /// # let _ = before_jwt;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn pass_foreign(self) -> Self {
        self.with(|route| route.passes_foreign = true)
    }

    /// Accepts only keys of this keyspace. Keys of others read as unknown.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let auth = auth.keyspace("acme_live".parse()?);
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn keyspace(self, prefix: Prefix) -> Self {
        self.with(|route| route.keyspace = Some(prefix))
    }

    /// Sets what a request costs the limits and the quota of its key. 1 by default.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        self.with(|route| route.cost = cost)
    }

    /// Charges the [cost](Self::cost) as an estimate, and leaves a
    /// [`Settlement`](super::Settlement) in the request's extensions, by which a handler
    /// says what the request cost in the end: the tokens of an AI model.
    ///
    /// Estimate too high rather than too low: the estimate must be admitted, and what goes
    /// beyond it is charged afterwards and never refused. The figures in the response's
    /// headers are those with the estimate charged.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let chat = auth.cost(4_000).settled_later();
    /// # let _ = chat;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn settled_later(self) -> Self {
        self.with(|route| route.is_settled_later = true)
    }

    /// Sets where to find the client's address. Without one, keys that are bound to
    /// networks are denied, and failed attempts are not counted.
    ///
    /// Behind a proxy, the peer is the proxy: use [`behind`](Self::behind). The server puts the
    /// peer's address into the extensions; with axum it is a `ConnectInfo<SocketAddr>`.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let auth = auth.source(|_headers, extensions| {
    ///     extensions.get::<SocketAddr>().map(SocketAddr::ip)
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

    /// Finds the client's address behind proxies, which `peer` identifies. The address of
    /// a peer that is no proxy is the client's. A request with a credential is rejected
    /// with 400 where a proxy does not say where it comes from. See [`Proxies`].
    ///
    /// ```
    /// use gatekey::http::{Peer, Proxies, SourceHeader};
    /// use std::net::SocketAddr;
    ///
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let nginx = Proxies::new(SourceHeader::XForwardedFor).trust(["127.0.0.1".parse()?]);
    /// let auth = auth.behind(nginx, |extensions| {
    ///     extensions.get::<SocketAddr>().map(|address| Peer::from(*address))
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

    /// Sets how much of a rejected request's body the layer reads and discards before it
    /// responds: at most so many bytes, for at most so long. 16 MiB and 5 seconds by
    /// default.
    ///
    /// A client that is still sending when the server closes the connection sees a reset
    /// in place of the response. The layer answers `Connection: close`, and such a client
    /// may see a reset, in these cases:
    ///
    /// - The body does not end within the bounds, or announces that it is longer.
    /// - The client asks first (`Expect: 100-continue`): the layer reads nothing.
    /// - The bound is 0 bytes.
    ///
    /// No response waits longer than the time, whatever the client does.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// use std::time::Duration;
    ///
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// // A route for small documents: more than 64 KiB of a rejected one is not read.
    /// let auth = auth.permissions(["write"]).drain(64 << 10, Duration::from_secs(1));
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn drain(self, bytes: u64, time: Duration) -> Self {
        self.with(|route| route.drain = DrainLimits { bytes, time })
    }

    /// Forbids caches to store any response of this route, whatever its handlers say: for
    /// routes whose responses hold tokens. For a single response, use
    /// [`no_store`](crate::http::no_store).
    #[must_use]
    pub fn no_store(self) -> Self {
        self.with(|route| route.no_store = true)
    }

    /// Sets a hook that is called with every rejection, for the server's log.
    ///
    /// The headers that carried the token are marked as sensitive, so that `Debug` does
    /// not show them. A path may hold a token too: a
    /// [`RejectionLog`](crate::http::RejectionLog) withholds it, and so does
    /// [`withheld`](crate::withheld()). A hook that panics, as `eprintln!` does where
    /// stderr is closed, costs the client nothing.
    ///
    /// ```
    /// use gatekey::http::RejectionLog;
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let log = RejectionLog::to_stderr();
    /// let auth = auth.on_rejected(move |rejection, request| log.record(rejection, request));
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn on_rejected(self, hook: impl Fn(&Rejection, &Parts) + Send + Sync + 'static) -> Self {
        self.with(|route| route.on_rejected = Some(Arc::new(hook)))
    }

    /// Sets a hook that is called with every grant, before the inner service sees the
    /// request: for an access log, or a span.
    ///
    /// It is not called for anonymous callers. In a stack of layers, each calls its own.
    /// The headers that carried the token are marked as sensitive. A hook that panics
    /// changes nothing; a hook that blocks makes the request wait.
    ///
    /// ```
    /// # use gatekey::{Engine, http::Dialect, tower::AuthLayer};
    /// # let auth = AuthLayer::new(Engine::open_in_memory()?, Dialect::default());
    /// let auth = auth.on_granted(|grant, request| {
    ///     println!("{} {} by {}", request.method, request.uri.path(), grant.key_id());
    /// });
    /// # let _ = auth;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn on_granted(self, hook: impl Fn(&Grant, &Parts) + Send + Sync + 'static) -> Self {
        self.with(|route| route.on_granted = Some(Arc::new(hook)))
    }

    /// Responds to rejected requests by a closure rather than by the dialect: for body
    /// types that are not made of bytes, and for protocols whose errors are no HTTP
    /// statuses. For gRPC there is [`GrpcLayer`](super::GrpcLayer).
    ///
    /// ```
    /// use gatekey::Engine;
    /// use gatekey::http::{Dialect, Rejection};
    /// use gatekey::tower::AuthLayer;
    /// use http::Response;
    ///
    /// fn plain(rejection: &Rejection) -> Response<String> {
    ///     let text = rejection.answer().message().to_owned();
    ///     rejection.response().map(|_| text)
    /// }
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let auth = AuthLayer::new(engine, Dialect::default()).respond_with(plain);
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
            route: self.route.clone(),
            respond: self.respond.clone(),
        }
    }
}
