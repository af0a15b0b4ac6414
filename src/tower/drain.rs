//! Reading the body of a request that nobody else reads.
//!
//! A server that responds and closes while the client is still sending makes the system
//! reset the connection, and the client sees that in place of the response (RFC 9112, 9.6).
//! So the body is read and discarded before the response, up to a number of bytes and a
//! time. Where it does not end within them, the response says that the connection closes. A
//! client that asks first whether it may send (`Expect: 100-continue`) gets its response at
//! once: reading its body would tell it to go on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::bytes::Buf as _;
use ::http::header::{CONNECTION, EXPECT};
use ::http::{HeaderMap, HeaderValue, Response, Version};
use ::http_body::Body;
use pin_project_lite::pin_project;

use super::deadline::Deadline;

/// How many frames of a body are read before other tasks run.
const PIECES_AT_ONCE: usize = 32;

/// How much of a body is read, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DrainLimits {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl DrainLimits {
    pub(super) const DEFAULT: Self = Self {
        bytes: 16 << 20,
        time: Duration::from_secs(5),
    };
    /// For streams that a client may end only once it has its response.
    pub(super) const STREAMS: Self = Self {
        bytes: 16 << 20,
        time: Duration::from_millis(100),
    };
}

pin_project! {
    /// A body that is read to its end, as far as it may be.
    pub(super) struct Drain<B> {
        #[pin]
        body: Option<B>,
        bytes_left: u64,
        deadline: Deadline,
        closes: Option<Closes>,
    }
}

/// The connection's close is to be announced. Only HTTP/1 has that; streams of HTTP/2 end
/// one by one.
struct Closes;

/// How the client of a request sends its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// HTTP/1, or older.
    may_close: bool,
    /// It asks first whether it may send.
    pub(super) asks_first: bool,
}

impl Client {
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Self {
        Self {
            may_close: version <= Version::HTTP_11,
            asks_first: expects_continue(headers),
        }
    }
}

impl<B: Body> Drain<B> {
    pub(super) fn new(client: Client, body: B, limits: DrainLimits) -> Self {
        let is_whole = body.is_end_stream();
        let is_too_long = limits.bytes == 0 || body.size_hint().lower() > limits.bytes;
        let is_read = !is_whole && !is_too_long && !client.asks_first;
        let may_close = client.may_close && !is_whole;
        Self {
            body: is_read.then_some(body),
            bytes_left: limits.bytes,
            deadline: Deadline::after(limits.time),
            closes: may_close.then_some(Closes),
        }
    }

    /// Reads on. Ready once there is nothing more to read.
    pub(super) fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        for _ in 0..PIECES_AT_ONCE {
            let Some(body) = this.body.as_mut().as_pin_mut() else {
                return Poll::Ready(());
            };
            let is_done = match body.poll_frame(context) {
                Poll::Pending if this.deadline.poll(context).is_pending() => return Poll::Pending,
                Poll::Pending | Poll::Ready(Some(Err(_))) => true,
                Poll::Ready(None) => {
                    *this.closes = None;
                    true
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let len = frame.data_ref().map_or(0, |data| data.remaining());
                    let len = u64::try_from(len).unwrap_or(u64::MAX);
                    let left = this.bytes_left.checked_sub(len);
                    *this.bytes_left = left.unwrap_or(0);
                    left.is_none() || this.deadline.is_over()
                }
            };
            if is_done {
                this.body.set(None);
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Adds `Connection: close` where the client could not finish.
    pub(super) fn announce<R>(self: Pin<&mut Self>, response: &mut Response<R>) {
        if self.project().closes.is_some() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    // A list (RFC 9110, 10.1.1).
    let lines = headers.get_all(EXPECT).iter();
    let mut expected = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    expected.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}
