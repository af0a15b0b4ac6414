//! The service that the layer puts in front of another.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::{AuthLayer, Respond, Route};
use crate::limit::LimitStatus;

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
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = AuthFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let step = match self.layer.route.admit(&mut request) {
            Ok(limit) => Step::Admitted {
                future: self.inner.call(request),
                told: limit.map(|limit| Told {
                    limit,
                    route: self.layer.route.clone(),
                }),
            },
            Err(refused) => {
                let (parts, _body) = request.into_parts();
                self.layer.route.refused(&refused, &parts);
                Step::Refused {
                    response: Some(self.layer.respond.respond(&refused)),
                }
            }
        };
        AuthFuture { step }
    }
}

/// What a caller is to be told on the way out.
struct Told {
    limit: LimitStatus,
    route: Arc<Route>,
}

impl Told {
    fn tell<B>(&self, response: &mut Response<B>) {
        let now = self.route.now();
        for (name, value) in self.route.dialect.limit_status_headers(&self.limit, now) {
            // What an inner layer or the handler said is nearer to the truth.
            response.headers_mut().entry(name).or_insert(value);
        }
    }
}

pin_project! {
    /// The response of an [`AuthService`].
    pub struct AuthFuture<F, B> {
        #[pin]
        step: Step<F, B>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, B> {
        Admitted {
            #[pin]
            future: F,
            told: Option<Told>,
        },
        Refused {
            response: Option<Response<B>>,
        },
    }
}

impl<F, B> fmt::Debug for AuthFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for AuthFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProjection::Admitted { future, told } => {
                let mut response = ready!(future.poll(context))?;
                if let Some(told) = told {
                    told.tell(&mut response);
                }
                Poll::Ready(Ok(response))
            }
            // Nobody may poll again what was ready; who does waits for nothing.
            StepProjection::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;
    use crate::http::Dialect;
    use crate::limit::{Charged, Counter};
    use crate::{Engine, Limit};

    #[test]
    fn a_granted_response_tells_what_is_left_unless_the_handler_did() {
        let engine = Engine::open_in_memory().unwrap();
        let charged = Counter::default().charge(Limit::per_hour(1_000), 1, engine.now());
        let Charged::Admitted(_, limit) = charged else {
            panic!("refused");
        };
        let layer = AuthLayer::new(engine, Dialect::tiered_bearer());
        let answer = |response: Response<()>| {
            let mut future = std::pin::pin!(AuthFuture {
                step: Step::Admitted {
                    future: std::future::ready(Ok::<_, Infallible>(response)),
                    told: Some(Told {
                        limit,
                        route: layer.route.clone(),
                    }),
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
        assert_eq!(
            told.headers()
                .get_all("x-ratelimit-remaining")
                .iter()
                .count(),
            1
        );
        assert_eq!(told.headers()["x-ratelimit-remaining"], "7");
    }

    #[test]
    fn a_refusal_that_is_polled_again_does_not_panic() {
        let mut future = std::pin::pin!(AuthFuture {
            step: Step::<std::future::Ready<Result<Response<()>, Infallible>>, ()>::Refused {
                response: Some(Response::new(())),
            },
        });
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_ready());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
}
