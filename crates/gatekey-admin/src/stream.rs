//! Bodies that a thread writes while the client reads.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::call::Stream;

/// How long a client may read nothing.
const STALL: Duration = Duration::from_secs(60);
/// How many bytes are put into one piece.
const PIECE: usize = 1 << 16;

type Piece = io::Result<Bytes>;

/// A body that a thread writes. With a number of bytes, the client sees whether it got
/// all of them.
pub(crate) fn body(bytes: Option<u64>, write: Stream) -> Body {
    let (sender, receiver) = channel::<Piece>(4);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Out {
            runtime,
            sender,
            piece: Vec::with_capacity(PIECE),
        };
        // A failure is the last piece: it ends the connection, so that the client knows.
        let done = write(&mut out).and_then(|()| out.flush());
        if let Err(error) = done {
            let _ = out.send(Err(error));
        }
    });
    Body::new(Pieces {
        receiver,
        left: bytes,
    })
}

struct Out {
    runtime: Handle,
    sender: Sender<Piece>,
    piece: Vec<u8>,
}

impl Out {
    fn send(&self, piece: Piece) -> io::Result<()> {
        // The timeout is made inside of the runtime, which has the clock.
        let _inside = self.runtime.enter();
        let sent = tokio::time::timeout(STALL, self.sender.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
                self.send(Ok(piece.into()))
            }
        }
    }
}

struct Pieces {
    receiver: Receiver<Piece>,
    left: Option<u64>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.receiver.poll_recv(context).map(|piece| {
            let piece = piece?;
            if let (Ok(bytes), Some(left)) = (&piece, &mut self.left) {
                *left = left.saturating_sub(bytes.len() as u64);
            }
            Some(piece.map(Frame::data))
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}
