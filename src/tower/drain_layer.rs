//! A layer that reads the rest of a request's body before any response.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::header::CONNECTION;
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use ::http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::drain::{Client, Drain, DrainLimits};

/// Reads and discards the rest of a request's body before each response, within bounds.
///
/// A client that is still sending when the server closes the connection sees a reset in
/// place of the response. An [`AuthLayer`](super::AuthLayer) prevents that for the requests
/// that it rejects itself. This layer prevents it for all others: a 404, 405 or 413 of the
/// router, a rejection by a handler, and every handler that reads no body. Put it outside
/// of all layers that respond themselves.
///
/// It waits only for a body that nobody holds any more. A handler that still reads, in the
/// response's body or in a task, keeps the body. Where the body does not end within the
/// bounds, or the client asks first (`Expect: 100-continue`) and nobody read, the response
/// says `Connection: close`, as with [`AuthLayer::drain`](super::AuthLayer::drain). Costs
/// two allocations for a request with a body, and nothing for one without.
///
#[cfg_attr(feature = "axum", doc = "```")]
#[cfg_attr(not(feature = "axum"), doc = "```ignore")]
/// use axum::Router;
/// use axum::routing::get;
/// use gatekey::tower::DrainLayer;
///
/// let app: Router = Router::new()
///     .route("/things", get(|| async { "things" }))
///     .layer(DrainLayer::default()); // A POST to /things is a 405, and no reset.
/// # let _ = app;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DrainLayer {
    limits: DrainLimits,
}

impl Default for DrainLayer {
    /// At most 16 MiB, for at most 5 seconds.
    fn default() -> Self {
        Self {
            limits: DrainLimits::DEFAULT,
        }
    }
}

impl DrainLayer {
    /// A layer that reads at most so many bytes, for at most so long.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::tower::DrainLayer;
    ///
    /// let layer = DrainLayer::new(1 << 20, Duration::from_secs(1));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn new(bytes: u64, time: Duration) -> Self {
        Self {
            limits: DrainLimits { bytes, time },
        }
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = DrainService<S>;

    fn layer(&self, inner: S) -> DrainService<S> {
        DrainService {
            inner,
            limits: self.limits,
        }
    }
}

/// A service behind a [`DrainLayer`].
#[derive(Debug, Clone)]
pub struct DrainService<S> {
    inner: S,
    limits: DrainLimits,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for DrainService<S>
where
    S: Service<Request<DrainBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = DrainFuture<S::Future, ResBody, ReqBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let client = Client::of(request.version(), request.headers());
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        // The bytes of a tunnel are no body to read here.
        let left = (has_body && parts.method != Method::CONNECT).then(Left::default);
        let body = DrainBody {
            body: has_body.then(|| Box::pin(body)),
            is_begun: false,
            left: left.clone(),
        };
        DrainFuture {
            step: Step::Called {
                future: self.inner.call(Request::from_parts(parts, body)),
                left,
                client,
                limits: self.limits,
            },
        }
    }
}

/// A body that was dropped before its end, and whether anybody read of it.
type Dropped<B> = (Pin<Box<B>>, bool);

/// Where a body goes that is dropped before its end.
struct Left<B>(Arc<Mutex<Option<Dropped<B>>>>);

impl<B> Default for Left<B> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<B> Clone for Left<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Left<B> {
    fn replace(&self, body: Option<Dropped<B>>) -> Option<Dropped<B>> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *left, body)
    }
}

/// The body of a request behind a [`DrainLayer`]. Dropped before its end, it goes back to
/// the layer.
pub struct DrainBody<B> {
    /// `None` once it has ended or failed.
    body: Option<Pin<Box<B>>>,
    is_begun: bool,
    left: Option<Left<B>>,
}

impl<B> fmt::Debug for DrainBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainBody").finish_non_exhaustive()
    }
}

impl<B: Body> Body for DrainBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.is_begun = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<B> Drop for DrainBody<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(left)) = (self.body.take(), &self.left) {
            left.replace(Some((body, self.is_begun)));
        }
    }
}

pin_project! {
    /// The future of a [`DrainService`].
    pub struct DrainFuture<F, ResBody, ReqBody> {
        #[pin]
        step: Step<F, ResBody, ReqBody>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, ResBody, ReqBody> {
        Called {
            #[pin]
            future: F,
            left: Option<Left<ReqBody>>,
            client: Client,
            limits: DrainLimits,
        },
        Answered {
            response: Option<Response<ResBody>>,
            #[pin]
            drain: Option<Drain<Pin<Box<ReqBody>>>>,
        },
    }
}

impl<F, ResBody, ReqBody> fmt::Debug for DrainFuture<F, ResBody, ReqBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainFuture").finish_non_exhaustive()
    }
}

impl<F, ResBody, ReqBody, E> Future for DrainFuture<F, ResBody, ReqBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ReqBody: Body,
{
    type Output = Result<Response<ResBody>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        if let StepProjection::Called {
            future,
            left,
            client,
            limits,
        } = step.as_mut().project()
        {
            let response = ready!(future.poll(context))?;
            let (left, mut client, limits) = (left.take(), *client, *limits);
            let is_over =
                response.status() == StatusCode::SWITCHING_PROTOCOLS || closes(response.headers());
            // Drops the inner future, which may have held the body until now.
            step.set(Step::Answered {
                response: Some(response),
                drain: None,
            });
            let body = left
                .filter(|_| !is_over)
                .and_then(|left| left.replace(None));
            if let (Some((body, is_begun)), StepProjection::Answered { mut drain, .. }) =
                (body, step.as_mut().project())
            {
                // The server has told a client to send as soon as somebody reads.
                client.asks_first &= !is_begun;
                drain.set(Some(Drain::new(client, body, limits)));
            }
        }
        let StepProjection::Answered {
            response,
            mut drain,
        } = step.project()
        else {
            return Poll::Pending;
        };
        if let Some(drain) = drain.as_mut().as_pin_mut() {
            ready!(drain.poll(context));
        }
        // A future must not be polled again once it was ready. It stays pending.
        let Some(mut response) = response.take() else {
            return Poll::Pending;
        };
        if let Some(drain) = drain.as_pin_mut() {
            drain.announce(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

/// Whether a response says that its connection closes: what is inside has seen to the body.
fn closes(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}
