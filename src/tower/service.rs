//! The service that the layer puts in front of another.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::header::CACHE_CONTROL;
use ::http::{HeaderValue, Request, Response};
use ::http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::drain::Drain;
use super::layer::{AuthLayer, Passed, Respond, Route};
use crate::http::{Refused, add_private, add_vary, is_shared, no_store};
use crate::model::limit::LimitStatus;

/// A service behind an [`AuthLayer`].
#[derive(Clone)]
pub struct AuthService<S, R = super::ByDialect> {
    pub(super) inner: S,
    pub(super) layer: AuthLayer<R>,
}

impl<S: fmt::Debug, R> fmt::Debug for AuthService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for AuthService<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: Respond<ResBody>,
    ReqBody: Body,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = AuthFuture<S::Future, ResBody, ReqBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let step = match self.layer.route.admit(&mut request) {
            Ok(passed) => {
                let request = self.layer.route.granted(&passed, request);
                Step::Admitted {
                    told: Told::new(&self.layer.route, &passed),
                    future: self.inner.call(request),
                }
            }
            Err(refused) => self.refuse(&refused, request),
        };
        AuthFuture { step }
    }
}

impl<S, R> AuthService<S, R> {
    #[cold]
    fn refuse<F, ReqBody, ResBody>(
        &self,
        refused: &Refused,
        request: Request<ReqBody>,
    ) -> Step<F, ResBody, ReqBody>
    where
        R: Respond<ResBody>,
        ReqBody: Body,
    {
        let (parts, body) = request.into_parts();
        self.layer.route.refused(refused, &parts);
        let mut response = self.layer.respond.respond(refused);
        let headers = response.headers_mut();
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        self.layer.route.dialect.vary(headers);
        let drain = Drain::new(&parts, body, self.layer.route.drain);
        Step::Refused {
            response: Some(response),
            drain,
        }
    }
}

/// What the caller and the caches in between are to be told on the way out.
struct Told {
    vary: HeaderValue,
    /// Whether the answer is for the caller alone.
    is_private: bool,
    no_store: bool,
    /// To count a reference to the route makes threads wait for one another: only where
    /// there is a limit.
    limit: Option<(LimitStatus, Arc<Route>)>,
}

impl Told {
    fn new(route: &Arc<Route>, passed: &Passed) -> Self {
        Self {
            vary: route.vary(),
            is_private: !matches!(passed, Passed::Anonymous),
            no_store: route.no_store,
            limit: match passed {
                Passed::Granted(Some(limit)) => Some((*limit, route.clone())),
                _ => None,
            },
        }
    }

    fn tell<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        if self.no_store {
            for (name, value) in no_store() {
                headers.insert(name, value);
            }
        } else if self.is_private {
            add_private(headers);
        }
        add_vary(headers, &self.vary);
        // A cache would give the figures of one request to many.
        if let Some((limit, route)) = &self.limit
            && !is_shared(headers)
        {
            let now = route.now();
            for (name, value) in route.dialect.limit_status_headers(limit, now) {
                // What an inner layer or the handler said is nearer to the truth.
                headers.entry(name).or_insert(value);
            }
        }
    }
}

pin_project! {
    /// The response of an [`AuthService`].
    pub struct AuthFuture<F, ResBody, ReqBody> {
        #[pin]
        step: Step<F, ResBody, ReqBody>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, ResBody, ReqBody> {
        Admitted {
            #[pin]
            future: F,
            told: Told,
        },
        Refused {
            response: Option<Response<ResBody>>,
            #[pin]
            drain: Drain<ReqBody>,
        },
    }
}

impl<F, ResBody, ReqBody> fmt::Debug for AuthFuture<F, ResBody, ReqBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

impl<F, ResBody, ReqBody, E> Future for AuthFuture<F, ResBody, ReqBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ReqBody: Body,
{
    type Output = Result<Response<ResBody>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProjection::Admitted { future, told } => {
                let mut response = ready!(future.poll(context))?;
                told.tell(&mut response);
                Poll::Ready(Ok(response))
            }
            StepProjection::Refused {
                response,
                mut drain,
            } => {
                ready!(drain.as_mut().poll(context));
                // Nobody may poll again what was ready; who does waits for nothing.
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
    use crate::http::Dialect;
    use crate::model::limit::{Charged, Counter};
    use crate::{Engine, Limit};

    type Answered = std::future::Ready<Result<Response<()>, Infallible>>;

    #[test]
    fn a_granted_response_tells_what_is_left_unless_the_handler_did_or_shares_it() {
        let engine = Engine::open_in_memory().unwrap();
        let charged = Counter::default().charge(Limit::per_hour(1_000), 1, engine.now());
        let Charged::Admitted(_, limit) = charged else {
            panic!("refused");
        };
        let layer = AuthLayer::new(engine, Dialect::tiered_bearer());
        let answer = |response: Response<()>| {
            let mut future = std::pin::pin!(AuthFuture::<Answered, (), String> {
                step: Step::Admitted {
                    future: std::future::ready(Ok(response)),
                    told: Told::new(&layer.route, &Passed::Granted(Some(limit))),
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
        let layer = AuthLayer::new(engine, Dialect::default());
        let (parts, body) = Request::new(String::from("sent")).into_parts();
        let mut future = std::pin::pin!(AuthFuture::<Answered, (), String> {
            step: Step::Refused {
                response: Some(Response::new(())),
                drain: Drain::new(&parts, body, layer.route.drain),
            },
        });
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_ready());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
}
