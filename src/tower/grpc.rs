//! The layer for gRPC, whose refusals are no HTTP statuses and whose routes are methods.

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
use super::layer::{AuthLayer, Respond};
use super::service::AuthService;
use crate::http::{AnswerKind, Refused};

/// A layer for gRPC servers, as tonic's: [`AuthLayer`] by method, with refusals that
/// gRPC clients understand.
///
/// It goes around all services of a server (`tonic::transport::Server::layer`). Every
/// method asks for what the [`AuthLayer`] does that it is made of, unless a rule of its
/// own or of its service says otherwise. Names are those of the protocol,
/// `package.Service` and `package.Service/Method`.
///
/// A refusal is a response of trailers alone, with 16 (unauthenticated), 7 (permission
/// denied), 8 (resource exhausted: limits, quotas, failed attempts) or 14 (unavailable:
/// the engine could not answer).
///
/// ```
/// use gatekey::Engine;
/// use gatekey::http::Dialect;
/// use gatekey::tower::{AuthLayer, GrpcLayer};
///
/// # let engine = Engine::open_in_memory()?;
/// let auth = GrpcLayer::new(AuthLayer::new(engine, Dialect::default()).required())
///     .method("acme.v1.Things/Create", |auth| auth.require(["write"]).cost(5))
///     .service("acme.v1.Admin", |auth| auth.require(["admin"]))
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
    /// What has a rule of its own, without the slash in front; the newest of equal ones
    /// counts.
    named: Vec<(Box<str>, Rule)>,
}

#[derive(Clone)]
enum Rule {
    Exempt,
    Asks(AuthLayer<GrpcStatus>),
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
    /// A layer whose methods all ask for what `auth` does. Of a request that is refused,
    /// what comes within 0.1 s is read: a client that streams may go on until it is told.
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

    /// What a method asks for, made of what the layer does: `package.Service/Method`. It
    /// counts before the rule of its service.
    #[must_use]
    pub fn method(
        self,
        name: &str,
        rule: impl FnOnce(AuthLayer<GrpcStatus>) -> AuthLayer<GrpcStatus>,
    ) -> Self {
        let asks = rule(self.rules.base.clone());
        self.with(name, Rule::Asks(asks))
    }

    /// What all methods of a service ask for: `package.Service`.
    #[must_use]
    pub fn service(
        self,
        name: &str,
        rule: impl FnOnce(AuthLayer<GrpcStatus>) -> AuthLayer<GrpcStatus>,
    ) -> Self {
        self.method(name, rule)
    }

    /// Lets all callers of a service or a method through, unseen: for health checks and
    /// reflection. There is no grant then, even where a caller has a key; for a method
    /// that wants to know, make it [`optional`](AuthLayer::optional).
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
    /// What the method of a path asks for; `None`: nothing.
    fn of(&self, path: &str) -> Option<&AuthLayer<GrpcStatus>> {
        // As it is: what is written otherwise is another method, which no server has.
        let method = path.strip_prefix('/').unwrap_or(path);
        let service = method.split('/').next().unwrap_or("");
        let named = |wanted: &str| {
            let mut newest = self.named.iter().rev();
            newest.find(|(name, _)| &**name == wanted)
        };
        match named(method).or_else(|| named(service)) {
            Some((_, Rule::Exempt)) => None,
            Some((_, Rule::Asks(auth))) => Some(auth),
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
    /// With the layer of the method that was called last.
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
                // All threads count references to it: not more often than need be.
                if !Arc::ptr_eq(&auth.route, &self.service.layer.route) {
                    self.service.layer = auth.clone();
                }
                GrpcStep::Asked {
                    future: self.service.call(request),
                }
            }
        };
        GrpcFuture { step }
    }
}

pin_project! {
    /// The response of a [`GrpcService`].
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
        Asked {
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
            GrpcStepProjection::Asked { future } => future.poll(context),
        }
    }
}

/// Makes a refusal a response of gRPC: 200, trailers alone, an empty body.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcStatus;

impl GrpcStatus {
    /// The status code of a refusal, for a handler that refuses by itself:
    /// `tonic::Status::new(Code::from(code), refused.answer().message())`.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    /// use gatekey::tower::GrpcStatus;
    ///
    /// assert_eq!(GrpcStatus::code(&Dialect::default().missing()), 16);
    /// assert_eq!(GrpcStatus::code(&Dialect::default().foreign()), 7);
    /// // Where the dialect hides what belongs to somebody else.
    /// assert_eq!(GrpcStatus::code(&Dialect::one_codex().foreign()), 5);
    /// ```
    #[must_use]
    pub fn code(refused: &Refused) -> i32 {
        let answer = refused.answer();
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
        }
    }
}

impl<B: Default> Respond<B> for GrpcStatus {
    fn respond(&self, refused: &Refused) -> Response<B> {
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let status = HeaderName::from_static("grpc-status");
        headers.insert(status, HeaderValue::from(Self::code(refused)));
        // Messages are ASCII without a percent sign, so that they need no encoding.
        if let Ok(message) = HeaderValue::try_from(refused.answer().message()) {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        if let Some(seconds) = refused.answer().retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            // What retries by itself waits as long (gRFC A6).
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
                auth.require(["watch"])
            })
            .service("acme.v1.Admin", |auth| auth.require(["admin"]))
            .exempt("acme.v1.Admin/Ping");
        let asks = |path: &str| layer.rules.of(path).map(|auth| format!("{auth:?}"));
        let base = Some(format!("{:?}", layer.rules.base));
        assert_eq!(asks("/grpc.health.v1.Health/Check"), None);
        assert_eq!(asks("/acme.v1.Admin/Ping"), None);
        for (path, permission) in [
            ("/grpc.health.v1.Health/Watch", "watch"),
            ("/acme.v1.Admin/Pong", "admin"),
            ("/acme.v1.Admin/Ping/", "admin"),
            ("/acme.v1.Admin", "admin"),
        ] {
            assert!(asks(path).unwrap().contains(permission), "{path}");
        }
        // What only looks like an exempt one is none.
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
            assert_eq!(asks(path), base, "{path}");
        }
    }

    #[test]
    fn a_refusal_is_trailers_alone() {
        let refused = Dialect::default().missing();
        let response: Response<String> = GrpcStatus.respond(&refused);
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
