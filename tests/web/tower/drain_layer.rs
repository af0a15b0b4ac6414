//! Bodies that nobody reads, whoever responds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use gatekey::http::Dialect;
use gatekey::tower::{AuthLayer, DrainBody, DrainLayer};
use http::{HeaderMap, Request, Response, Version};
use http_body::Body;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::draining::{ENDED, LONG, Sent, Step};
use crate::store;

const LIMIT: u64 = 100_000;

type Held = DrainBody<Sent>;

/// The next data of a body, if any.
async fn read(body: &mut Held) -> Option<usize> {
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context))
        .await
        .map(|frame| frame.unwrap().into_data().unwrap().len())
}

/// What comes of a request with such a body: the headers, and how much of it was read.
async fn ask<S, B>(
    inner: S,
    time: Duration,
    request: http::request::Builder,
    steps: &[Step],
) -> (Response<B>, u64)
where
    S: Service<Request<Held>, Response = Response<B>, Error = Infallible>,
{
    let read = Arc::new(AtomicU64::new(0));
    let body = Sent {
        steps: steps.iter().copied().collect::<VecDeque<_>>(),
        declared: None,
        read: read.clone(),
    };
    let service = DrainLayer::new(LIMIT, time).layer(inner);
    let response = service.oneshot(request.body(body).unwrap()).await.unwrap();
    (response, read.load(Ordering::Relaxed))
}

fn closes(headers: &HeaderMap) -> bool {
    headers
        .get("connection")
        .is_some_and(|value| value == "close")
}

#[tokio::test]
async fn a_body_that_a_handler_leaves_is_read_before_the_response() {
    use Step::{Bytes, Fails, Later, Stalls};
    for reads in [0, 1, 2] {
        let inner = || {
            service_fn(move |mut request: Request<Held>| async move {
                for _ in 0..reads {
                    read(request.body_mut()).await;
                }
                Ok(Response::new(()))
            })
        };
        for (steps, expected, close) in [
            (
                &[Bytes(10), Later, Bytes(10), Bytes(10)][..],
                30 | ENDED,
                false,
            ),
            (
                &[Bytes(10), Bytes(10), Bytes(1 << 20), Bytes(10)],
                20 + (1 << 20),
                true,
            ),
            (&[Bytes(10), Bytes(10), Fails], 20, true),
        ] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let request = Request::post("/").version(version);
                let (response, found) = ask(inner(), LONG, request, steps).await;
                assert_eq!(found, expected, "{reads} {version:?}");
                let expected = close && version == Version::HTTP_11;
                assert_eq!(closes(response.headers()), expected, "{reads} {version:?}");
            }
        }
        // A client that sends no more holds up the response for so long and no longer.
        let request = Request::post("/");
        let steps = &[Bytes(10), Bytes(10), Stalls];
        let (response, found) = ask(inner(), Duration::from_millis(20), request, steps).await;
        assert_eq!((found, closes(response.headers())), (20, true));
    }
}

#[tokio::test]
async fn a_client_that_asks_first_goes_on_only_if_somebody_reads() {
    for reads in [0, 1] {
        let inner = service_fn(move |mut request: Request<Held>| async move {
            for _ in 0..reads {
                read(request.body_mut()).await;
            }
            Ok(Response::new(()))
        });
        let request = Request::post("/").header("expect", "100-continue");
        let steps = &[Step::Bytes(10), Step::Bytes(10)];
        let (response, found) = ask(inner, LONG, request, steps).await;
        let expected = if reads == 0 { 0 } else { 20 | ENDED };
        assert_eq!((found, closes(response.headers())), (expected, reads == 0));
    }
}

#[tokio::test]
async fn a_body_that_somebody_holds_is_theirs() {
    // In the response, as an echo does.
    let inner =
        service_fn(|request: Request<Held>| async { Ok(Response::new(request.into_body())) });
    let steps = &[Step::Bytes(10), Step::Bytes(10)];
    let (response, found) = ask(inner, LONG, Request::post("/"), steps).await;
    assert_eq!((found, closes(response.headers())), (0, false));
    let mut body = response.into_body();
    assert_eq!(read(&mut body).await, Some(10));
    assert_eq!(read(&mut body).await, Some(10));
    assert_eq!(read(&mut body).await, None);
}

#[tokio::test]
async fn what_a_layer_inside_has_drained_is_not_waited_for_again() {
    let (engine, _) = store();
    let auth = AuthLayer::new(engine, Dialect::default()).drain(15, LONG);
    let handler = service_fn(|_: Request<Held>| async { Ok(Response::new(Vec::new())) });
    let steps = &[Step::Bytes(10), Step::Bytes(10), Step::Bytes(10)];
    let (response, found) = ask(auth.layer(handler), LONG, Request::post("/"), steps).await;
    assert_eq!(response.status(), 401);
    assert_eq!((found, closes(response.headers())), (20, true));
}

/// A future that still holds the request when it is ready.
struct Holding(#[expect(dead_code, reason = "held")] Request<Held>);

impl Future for Holding {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

#[tokio::test]
async fn a_body_that_the_inner_future_still_holds_is_read_too() {
    let inner = service_fn(Holding);
    let steps = &[Step::Bytes(10)];
    let (response, found) = ask(inner, LONG, Request::post("/"), steps).await;
    assert_eq!((found, closes(response.headers())), (10 | ENDED, false));
}

#[tokio::test]
async fn the_answers_of_an_axum_router_drain() {
    let upload = |body: Bytes| async move { body.len().to_string() };
    let app = Router::new()
        .route("/upload", post(upload))
        .layer(DefaultBodyLimit::max(15))
        .layer(DrainLayer::default());
    for (method, path, status) in [
        ("POST", "/nowhere", 404),
        ("PUT", "/upload", 405),
        ("POST", "/upload", 413),
    ] {
        let read = Arc::new(AtomicU64::new(0));
        let body = Sent {
            steps: VecDeque::from([
                Step::Bytes(10),
                Step::Later,
                Step::Bytes(10),
                Step::Bytes(10),
            ]),
            declared: None,
            read: read.clone(),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.body(axum::body::Body::new(body)).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(read.load(Ordering::Relaxed), 30 | ENDED, "{status}");
        assert!(!closes(response.headers()));
    }
}
