//! The layer for gRPC: its errors are no HTTP statuses, and its routes are methods.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::drain::DrainLimits;
use super::layer::AuthLayer;
use super::respond::Respond;
use super::service::AuthService;
use crate::http::{AnswerKind, Rejection};

/// A layer for gRPC servers such as tonic: an [`AuthLayer`] for each method, with
/// rejections that gRPC clients understand.
///
/// Wrap it around all services of a server (`tonic::transport::Server::layer`). Every
/// method requires what the [`AuthLayer`] requires, unless the method or its service has
/// a rule of its own. Names are those of the protocol: `package.Service` and
/// `package.Service/Method`.
///
/// A rejection is a trailers-only response with one of these statuses:
///
/// | status | meaning |
/// |---|---|
/// | 16 | unauthenticated |
/// | 7 | permission denied |
/// | 5 | not found, where the dialect hides the thing |
/// | 8 | resource exhausted: limit, quota or failed attempts |
/// | 14 | unavailable: the engine failed |
///
/// ```
/// use gatekey::Engine;
/// use gatekey::http::Dialect;
/// use gatekey::tower::{AuthLayer, GrpcLayer};
///
/// # let engine = Engine::open_in_memory()?;
/// let auth = GrpcLayer::new(AuthLayer::new(engine, Dialect::default()).required())
///     .method("acme.v1.Things/Create", |auth| auth.permissions(["write"]).cost(5))
///     .service("acme.v1.Admin", |auth| auth.permissions(["admin"]))
///     .exempt("grpc.health.v1.Health")
///     .exempt("grpc.reflection.v1.ServerReflection");
/// // tonic::transport::Server::builder().layer(auth).add_service(..)
/// # let _ = auth;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct GrpcLayer {
    rules: Arc<Rules>,
}

#[derive(Clone)]
struct Rules {
    base: AuthLayer<GrpcStatus>,
    /// The rules by name, without a leading slash. The last rule of a name counts.
    named: Vec<(Box<str>, Rule)>,
}

#[derive(Clone)]
enum Rule {
    Exempt,
    Requires(AuthLayer<GrpcStatus>),
}

impl fmt::Debug for GrpcLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rules.named.iter().map(|(name, _)| name);
        f.debug_struct("GrpcLayer")
            .field("base", &self.rules.base)
            .field("named", &names.collect::<Vec<_>>())
            .finish()
    }
}

impl GrpcLayer {
    /// A layer whose methods all require what `auth` requires. It reads the body of a
    /// rejected request for at most 0.1 s, since a client may stream until it has its
    /// response.
    #[must_use]
    pub fn new<R>(auth: AuthLayer<R>) -> Self {
        let base = AuthLayer {
            route: auth.route,
            respond: GrpcStatus,
        };
        let base = base.drain(DrainLimits::STREAMS.bytes, DrainLimits::STREAMS.time);
        let named = Vec::new();
        Self {
            rules: Arc::new(Rules { base, named }),
        }
    }

    /// Sets what a method requires: `package.Service/Method`. `rule` receives a clone of
    /// the layer for all methods. The rule of a method precedes that of its service.
    #[must_use]
    pub fn method(
        self,
        name: &str,
        rule: impl FnOnce(AuthLayer<GrpcStatus>) -> AuthLayer<GrpcStatus>,
    ) -> Self {
        let requires = rule(self.rules.base.clone());
        self.with(name, Rule::Requires(requires))
    }

    /// Sets what all methods of a service require: `package.Service`.
    #[must_use]
    pub fn service(
        self,
        name: &str,
        rule: impl FnOnce(AuthLayer<GrpcStatus>) -> AuthLayer<GrpcStatus>,
    ) -> Self {
        self.method(name, rule)
    }

    /// Exempts a service or a method: the layer does not look at its requests. For health
    /// checks and reflection. There is no grant, even where the caller has a key. For a
    /// method that wants the grant of callers with a key, set a rule that is
    /// [`optional`](AuthLayer::optional).
    #[must_use]
    pub fn exempt(self, name: &str) -> Self {
        self.with(name, Rule::Exempt)
    }

    fn with(mut self, name: &str, rule: Rule) -> Self {
        let name = name.trim_matches('/').into();
        Arc::make_mut(&mut self.rules).named.push((name, rule));
        self
    }
}

impl Rules {
    /// The layer for the method of a path; `None` where it is exempt.
    fn of(&self, path: &str) -> Option<&AuthLayer<GrpcStatus>> {
        // Compared as it is: any other spelling is another method, which no server has.
        let method = path.strip_prefix('/').unwrap_or(path);
        let service = method.split('/').next().unwrap_or("");
        let named = |wanted: &str| {
            let mut newest = self.named.iter().rev();
            newest.find(|(name, _)| &**name == wanted)
        };
        match named(method).or_else(|| named(service)) {
            Some((_, Rule::Exempt)) => None,
            Some((_, Rule::Requires(auth))) => Some(auth),
            None => Some(&self.base),
        }
    }
}

impl<S> Layer<S> for GrpcLayer {
    type Service = GrpcService<S>;

    fn layer(&self, inner: S) -> GrpcService<S> {
        GrpcService {
            rules: self.rules.clone(),
            service: self.rules.base.layer(inner),
        }
    }
}

/// A service behind a [`GrpcLayer`].
#[derive(Clone)]
pub struct GrpcService<S> {
    rules: Arc<Rules>,
    /// With the route of the method that was called last.
    service: AuthService<S, GrpcStatus>,
}

impl<S: fmt::Debug> fmt::Debug for GrpcService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for GrpcService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    AuthService<S, GrpcStatus>:
        Service<Request<ReqBody>, Response = Response<ResBody>, Error = S::Error>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future =
        GrpcFuture<S::Future, <AuthService<S, GrpcStatus> as Service<Request<ReqBody>>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let step = match self.rules.of(request.uri().path()) {
            None => GrpcStep::Exempt {
                future: self.service.inner.call(request),
            },
            Some(auth) => {
                // Threads contend on its reference count: clone only when it changes.
                if !Arc::ptr_eq(&auth.route, &self.service.route) {
                    self.service.route = auth.route.clone();
                }
                GrpcStep::Checked {
                    future: self.service.call(request),
                }
            }
        };
        GrpcFuture { step }
    }
}

pin_project! {
    /// The future of a [`GrpcService`].
    pub struct GrpcFuture<E, A> {
        #[pin]
        step: GrpcStep<E, A>,
    }
}

pin_project! {
    #[project = GrpcStepProjection]
    enum GrpcStep<E, A> {
        Exempt {
            #[pin]
            future: E,
        },
        Checked {
            #[pin]
            future: A,
        },
    }
}

impl<E, A> fmt::Debug for GrpcFuture<E, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcFuture").finish_non_exhaustive()
    }
}

impl<E: Future, A: Future<Output = E::Output>> Future for GrpcFuture<E, A> {
    type Output = E::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<E::Output> {
        match self.project().step.project() {
            GrpcStepProjection::Exempt { future } => future.poll(context),
            GrpcStepProjection::Checked { future } => future.poll(context),
        }
    }
}

/// Responds as gRPC does: 200, trailers only, an empty body.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcStatus;

impl GrpcStatus {
    /// The gRPC status of a rejection, for a handler that rejects a request itself:
    /// `tonic::Status::new(Code::from(code), rejection.answer().message())`.
    ///
    /// ```
    /// use gatekey::http::{Dialect, presets};
    /// use gatekey::tower::GrpcStatus;
    ///
    /// assert_eq!(GrpcStatus::code(&Dialect::default().missing()), 16);
    /// assert_eq!(GrpcStatus::code(&Dialect::default().foreign()), 7);
    /// // This dialect hides things of other owners.
    /// assert_eq!(GrpcStatus::code(&presets::one_codex().foreign()), 5);
    /// ```
    #[must_use]
    pub fn code(rejection: &Rejection) -> i32 {
        let answer = rejection.answer();
        if answer.status() == StatusCode::NOT_FOUND {
            return 5;
        }
        match answer.kind() {
            AnswerKind::Missing
            | AnswerKind::Ambiguous
            | AnswerKind::Unreadable
            | AnswerKind::SourceUnknown
            | AnswerKind::Invalid
            | AnswerKind::Expired => 16,
            AnswerKind::NetworkNotAllowed
            | AnswerKind::PermissionMissing
            | AnswerKind::Foreign
            | AnswerKind::BadRequest
            | AnswerKind::NotForYou => 7,
            AnswerKind::RateLimited | AnswerKind::QuotaExhausted | AnswerKind::TooManyAttempts => 8,
            AnswerKind::Unavailable => 14,
            AnswerKind::Failed => 13,
        }
    }
}

impl<B: Default> Respond<B> for GrpcStatus {
    fn respond(&self, rejection: &Rejection) -> Response<B> {
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let status = HeaderName::from_static("grpc-status");
        headers.insert(status, HeaderValue::from(Self::code(rejection)));
        // Messages are ASCII without a percent sign, and so need no encoding.
        if let Ok(message) = HeaderValue::try_from(rejection.answer().message()) {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        if let Some(seconds) = rejection.answer().retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            // A client that retries by itself waits as long (gRFC A6).
            let wait = Duration::from_secs(seconds).as_millis();
            let wait = i32::try_from(wait).unwrap_or(i32::MAX);
            let pushback = HeaderName::from_static("grpc-retry-pushback-ms");
            headers.insert(pushback, HeaderValue::from(wait));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::http::Dialect;

    #[test]
    fn the_rule_of_a_method_is_the_nearest_that_names_it() {
        let engine = Engine::open_in_memory().unwrap();
        let layer = GrpcLayer::new(AuthLayer::new(engine, Dialect::default()))
            .exempt("grpc.health.v1.Health")
            .method("/grpc.health.v1.Health/Watch", |auth| {
                auth.permissions(["watch"])
            })
            .service("acme.v1.Admin", |auth| auth.permissions(["admin"]))
            .exempt("acme.v1.Admin/Ping");
        let required = |path: &str| layer.rules.of(path).map(|auth| format!("{auth:?}"));
        let base = Some(format!("{:?}", layer.rules.base));
        assert_eq!(required("/grpc.health.v1.Health/Check"), None);
        assert_eq!(required("/acme.v1.Admin/Ping"), None);
        for (path, permission) in [
            ("/grpc.health.v1.Health/Watch", "watch"),
            ("/acme.v1.Admin/Pong", "admin"),
            ("/acme.v1.Admin/Ping/", "admin"),
            ("/acme.v1.Admin", "admin"),
        ] {
            assert!(required(path).unwrap().contains(permission), "{path}");
        }
        // A name that only resembles an exempt one is not exempt.
        for path in [
            "/",
            "",
            "*",
            "//grpc.health.v1.Health/Check",
            "/grpc.health.v1.healtH/Check",
            "/grpc.health.v1.Health%2FCheck",
            "/grpc.health.v1.HealthX/Check",
            "/x/grpc.health.v1.Health/Check",
            "/grpc.health.v1/Health/Check",
        ] {
            assert_eq!(required(path), base, "{path}");
        }
    }

    #[test]
    fn a_rejection_is_trailers_only() {
        let rejection = Dialect::default().missing();
        let response: Response<String> = GrpcStatus.respond(&rejection);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(
            response.headers()["grpc-message"],
            "An API key is required."
        );
        assert!(response.body().is_empty());
    }
}
