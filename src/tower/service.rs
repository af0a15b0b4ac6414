//! The service that a layer wraps around another.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderValue, Request, Response};
use ::http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::drain::{Client, Drain};
use super::respond::{ByDialect, Respond};
use super::route::{Passed, Route};
use crate::http::{Rejection, Report, add_private, add_vary, is_shared, no_store};
use crate::model::error::Error;

/// A service behind an [`AuthLayer`](super::AuthLayer).
#[derive(Clone)]
pub struct AuthService<S, R = ByDialect> {
    pub(super) inner: S,
    pub(super) route: Arc<Route>,
    pub(super) respond: R,
}

impl<S: fmt::Debug, R> fmt::Debug for AuthService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService")
            .field("inner", &self.inner)
            .field("layer", &self.route)
            .finish()
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for AuthService<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: Respond<ResBody> + Clone,
    ReqBody: Body,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = AuthFuture<S::Future, R, ResBody, ReqBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let step = match self.route.admit(&mut request) {
            Ok(passed) => {
                let request = self.route.report_granted(&passed, request);
                Step::Admitted {
                    outgoing: Outgoing::new(&self.route, passed, &self.respond),
                    future: self.inner.call(request),
                }
            }
            Err(rejection) => self.reject(&rejection, request),
        };
        AuthFuture { step }
    }
}

impl<S, R> AuthService<S, R> {
    #[cold]
    fn reject<F, ReqBody, ResBody>(
        &self,
        rejection: &Rejection,
        request: Request<ReqBody>,
    ) -> Step<F, R, ResBody, ReqBody>
    where
        R: Respond<ResBody>,
        ReqBody: Body,
    {
        let (parts, body) = request.into_parts();
        self.route.report_rejected(rejection, &parts);
        let mut response = self.respond.respond(rejection);
        let headers = response.headers_mut();
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        self.route.dialect.vary(headers);
        let client = Client::of(parts.version, &parts.headers);
        let drain = Drain::new(client, body, self.route.drain);
        Step::Rejected {
            response: Some(response),
            drain,
        }
    }
}

/// What to add to the inner service's response.
struct Outgoing<R> {
    vary: HeaderValue,
    /// Whether the response is for the caller alone.
    is_private: bool,
    no_store: bool,
    report: Option<Report>,
    /// Only where something asks for it: threads contend on its reference count. A handler of
    /// axum may, which returns an [`Error`]; axum itself clones a layer for each request.
    route: Option<Arc<Route>>,
    respond: R,
}

impl<R: Clone> Outgoing<R> {
    fn new(route: &Arc<Route>, passed: Passed, respond: &R) -> Self {
        let is_private = !matches!(passed, Passed::Anonymous);
        let report = match passed {
            Passed::Granted(report) => report,
            _ => None,
        };
        Self {
            vary: route.vary(),
            is_private,
            no_store: route.no_store,
            route: (cfg!(feature = "axum") || report.is_some()).then(|| route.clone()),
            report,
            respond: respond.clone(),
        }
    }

    fn apply<B>(&self, response: &mut Response<B>)
    where
        R: Respond<B>,
    {
        self.word(response);
        let headers = response.headers_mut();
        if self.no_store {
            for (name, value) in no_store() {
                headers.insert(name, value);
            }
        } else if self.is_private {
            add_private(headers);
        }
        add_vary(headers, &self.vary);
        // A shared cache would give the figures of one caller to others.
        if let (Some(report), Some(route)) = (&self.report, &self.route)
            && !is_shared(headers)
        {
            for (name, value) in report.headers(route.clock_now()) {
                // An inner layer or the handler knows better.
                headers.entry(name).or_insert(value);
            }
        }
    }

    /// Words an error of the engine that a handler returned, unless somebody has: a layer
    /// further in, or the handler itself.
    fn word<B>(&self, response: &mut Response<B>)
    where
        R: Respond<B>,
    {
        let error = response.extensions().get::<Arc<Error>>();
        let (Some(error), Some(route)) = (error, &self.route) else {
            return;
        };
        if response.headers().contains_key(CONTENT_TYPE) {
            return;
        }
        let worded = self.respond.respond(&route.dialect.failed(error.clone()));
        let (parts, body) = worded.into_parts();
        *response.body_mut() = body;
        *response.status_mut() = parts.status;
        for (name, value) in &parts.headers {
            response.headers_mut().entry(name).or_insert(value.clone());
        }
    }
}

pin_project! {
    /// The future of an [`AuthService`].
    pub struct AuthFuture<F, R, ResBody, ReqBody> {
        #[pin]
        step: Step<F, R, ResBody, ReqBody>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, R, ResBody, ReqBody> {
        Admitted {
            #[pin]
            future: F,
            outgoing: Outgoing<R>,
        },
        Rejected {
            response: Option<Response<ResBody>>,
            #[pin]
            drain: Drain<ReqBody>,
        },
    }
}

impl<F, R, ResBody, ReqBody> fmt::Debug for AuthFuture<F, R, ResBody, ReqBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

impl<F, R, ResBody, ReqBody, E> Future for AuthFuture<F, R, ResBody, ReqBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    R: Respond<ResBody> + Clone,
    ReqBody: Body,
{
    type Output = Result<Response<ResBody>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProjection::Admitted { future, outgoing } => {
                let mut response = ready!(future.poll(context))?;
                outgoing.apply(&mut response);
                Poll::Ready(Ok(response))
            }
            StepProjection::Rejected {
                response,
                mut drain,
            } => {
                ready!(drain.as_mut().poll(context));
                // A future must not be polled again once it was ready. It stays pending.
                let Some(mut response) = response.take() else {
                    return Poll::Pending;
                };
                drain.announce(&mut response);
                Poll::Ready(Ok(response))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;
    use crate::http::presets;
    use crate::model::counter::Counter;
    use crate::model::limit::Level;
    use crate::model::verdict::{Standing, Stands};
    use crate::tower::{AuthLayer, RespondWith};
    use crate::{Engine, Grant, Limit, NewKey, NewKeyspace};

    type Answered = std::future::Ready<Result<Response<()>, Infallible>>;
    type Empty = RespondWith<fn(&Rejection) -> Response<()>>;

    #[test]
    fn a_granted_response_tells_what_is_left_unless_the_handler_did_or_shares_it() {
        let engine = Engine::open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let (limit, now) = (Limit::per_hour(1_000), engine.now());
        let mut counter = Counter::default();
        counter.add(limit, 1, now);
        let limit = counter.counted(limit, Level::Key, now);
        let issued = engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
        let verdict = engine.verify(issued.token.expose()).unwrap();
        let grant = Grant {
            limits: Stands::from(Some(Standing::of(limit))),
            ..verdict.into_result().unwrap()
        };
        let layer = AuthLayer::new(engine, presets::tiered_bearer());
        let answer = |response: Response<()>| {
            let mut future = std::pin::pin!(AuthFuture::<Answered, Empty, (), String> {
                step: Step::Admitted {
                    future: std::future::ready(Ok(response)),
                    outgoing: Outgoing::new(
                        &layer.route,
                        Passed::Granted(layer.route.dialect.report_of(&grant)),
                        &RespondWith(|_| Response::new(())),
                    ),
                },
            });
            let mut context = Context::from_waker(Waker::noop());
            match future.as_mut().poll(&mut context) {
                Poll::Ready(Ok(response)) => response,
                Poll::Pending => panic!("pending"),
            }
        };
        let told = answer(Response::new(()));
        assert_eq!(told.headers()["x-ratelimit-limit"], "1000");
        assert_eq!(told.headers()["x-ratelimit-remaining"], "999");
        let own = Response::builder().header("x-ratelimit-remaining", "7");
        let told = answer(own.body(()).unwrap());
        let all = told.headers().get_all("x-ratelimit-remaining");
        assert_eq!(all.iter().collect::<Vec<_>>(), ["7"]);
        for shared in ["public", "s-maxage=60"] {
            let shared = Response::builder().header("cache-control", shared);
            let told = answer(shared.body(()).unwrap());
            assert!(!told.headers().contains_key("x-ratelimit-remaining"));
            assert_eq!(told.headers()["vary"], "authorization");
        }
    }

    #[test]
    fn a_refusal_that_is_polled_again_does_not_panic() {
        let engine = Engine::open_in_memory().unwrap();
        let layer = AuthLayer::new(engine, crate::http::Dialect::default());
        let (parts, body) = Request::new(String::from("sent")).into_parts();
        let client = Client::of(parts.version, &parts.headers);
        let mut future = std::pin::pin!(AuthFuture::<Answered, Empty, (), String> {
            step: Step::Rejected {
                response: Some(Response::new(())),
                drain: Drain::new(client, body, layer.route.drain),
            },
        });
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_ready());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
}
