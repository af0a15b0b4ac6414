//! Bodies of requests that are refused.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use gatekey::Engine;
use gatekey::http::Dialect;
use gatekey::tower::AuthLayer;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::store;

/// What a body does when it is asked for more.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Bytes(usize),
    Fails,
    /// Ready the next time, which follows at once.
    Later,
    /// Never again.
    Stalls,
}

pub(crate) struct Sent {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) declared: Option<u64>,
    /// The bytes that were asked for; whether it came to its end is the top bit.
    pub(crate) read: Arc<AtomicU64>,
}

pub(crate) const ENDED: u64 = 1 << 63;

impl Body for Sent {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.steps.front().copied() {
            Some(Step::Bytes(len)) => {
                self.steps.pop_front();
                self.read.fetch_add(len as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; len])))))
            }
            Some(Step::Fails) => Poll::Ready(Some(Err(Broken))),
            Some(Step::Later) => {
                self.steps.pop_front();
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Stalls) => Poll::Pending,
            None => {
                self.read.fetch_or(ENDED, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.declared == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// The error of a connection.
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

struct Case<'a> {
    steps: &'a [Step],
    declared: Option<u64>,
    version: Version,
    expect: Option<&'a str>,
    token: Option<&'a str>,
}

const LIMIT: u64 = 100_000;
/// Nobody waits for so long.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

async fn ask(
    engine: &Engine,
    case: &Case<'_>,
    limit: u64,
    time: Duration,
) -> (u16, HeaderMap, u64) {
    let auth = AuthLayer::new(engine.clone(), Dialect::default()).drain(limit, time);
    let read = Arc::new(AtomicU64::new(0));
    let mut request = Request::builder().version(case.version);
    if let Some(expect) = case.expect {
        request = request.header("expect", expect);
    }
    if let Some(token) = case.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = Sent {
        steps: case.steps.iter().copied().collect(),
        declared: case.declared,
        read: read.clone(),
    };
    let inner = service_fn(|_: Request<Sent>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let request = request.body(body).unwrap();
    let response = auth.layer(inner).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        response.headers().clone(),
        read.load(Ordering::Relaxed),
    )
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_or_the_close_is_announced() {
    use Step::{Bytes, Fails, Later};
    let (engine, _) = store();
    let len = usize::try_from(LIMIT).unwrap();
    let half = len / 2;
    for (steps, declared, read, closes) in [
        (&[][..], Some(0), 0, false),
        (&[][..], None, ENDED, false),
        (&[Bytes(len)], Some(LIMIT), LIMIT | ENDED, false),
        (
            &[Bytes(half), Later, Bytes(half)],
            None,
            LIMIT | ENDED,
            false,
        ),
        (&[Later; 100], None, ENDED, false),
        (&[Bytes(1); 1_000], None, 1_000 | ENDED, false),
        // Longer than is read: not one byte where that is said before.
        (&[Bytes(len)], Some(LIMIT + 1), 0, true),
        (
            &[Bytes(half), Bytes(half), Bytes(1), Bytes(1)],
            None,
            LIMIT + 1,
            true,
        ),
        (&[Bytes(10), Fails], None, 10, true),
    ] {
        let case = Case {
            steps,
            declared,
            version: Version::HTTP_11,
            expect: None,
            token: Some("bad"),
        };
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let case = Case { version, ..case };
            let (status, headers, found) = ask(&engine, &case, LIMIT, LONG).await;
            assert_eq!((status, found), (401, read), "{declared:?} {version:?}");
            let announced = headers.get("connection").map(|value| value == "close");
            // HTTP/2 has no such header (RFC 9113, 8.2.2).
            let expected = (closes && version != Version::HTTP_2).then_some(true);
            assert_eq!(announced, expected, "{declared:?} {version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_not_bidden_to() {
    let (engine, _) = store();
    for expect in ["100-continue", "100-Continue", "a=b, 100-continue"] {
        let case = Case {
            steps: &[Step::Bytes(10)],
            declared: Some(10),
            version: Version::HTTP_11,
            expect: Some(expect),
            token: None,
        };
        let (status, headers, read) = ask(&engine, &case, LIMIT, LONG).await;
        assert_eq!((status, read), (401, 0));
        assert_eq!(headers["connection"], "close");
    }
}

#[tokio::test]
async fn a_client_that_stalls_does_not_hold_the_answer() {
    let (engine, _) = store();
    let case = Case {
        steps: &[Step::Bytes(10), Step::Stalls],
        declared: Some(20),
        version: Version::HTTP_11,
        expect: None,
        token: None,
    };
    let asked = ask(&engine, &case, LIMIT, Duration::from_millis(50));
    // Without a clock of its own, it would be held for ever.
    let (status, headers, read) = asked.await;
    assert_eq!((status, read), (401, 10));
    assert_eq!(headers["connection"], "close");
}

#[tokio::test]
async fn with_nothing_to_be_read_nothing_is() {
    let (engine, _) = store();
    let case = Case {
        steps: &[Step::Bytes(10)],
        declared: None,
        version: Version::HTTP_11,
        expect: None,
        token: None,
    };
    let (status, headers, read) = ask(&engine, &case, 0, LONG).await;
    assert_eq!((status, read), (401, 0));
    assert_eq!(headers["connection"], "close");
}

#[tokio::test]
async fn the_body_of_a_request_that_is_let_through_is_the_handlers() {
    let (engine, issued) = store();
    let read = Arc::new(AtomicU64::new(0));
    let body = Sent {
        steps: VecDeque::from([Step::Bytes(10)]),
        declared: None,
        read: read.clone(),
    };
    let inner = service_fn(|_: Request<Sent>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let token = format!("Bearer {}", issued.token.expose());
    let request = Request::builder().header("authorization", token);
    let layer = AuthLayer::new(engine, Dialect::default());
    let request = request.body(body).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(read.load(Ordering::Relaxed), 0);
}
