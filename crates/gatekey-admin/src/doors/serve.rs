//! Accepting connections, with an end to each: of a client that sends its head too slowly,
//! of more than a number of them, and of all when the door is closed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use gatekey::tower::DrainLayer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tower::ServiceExt as _;

/// How long a client may take for the head of a request, and be idle before it.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests that are under way are waited for at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// The most requests that run at a time.
const THREADS_MAX: usize = 16;

/// A stream of bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// What a door listens on.
pub(crate) trait Listen: Send + 'static {
    type Stream: Stream;
    /// What is known of who has connected; it is among the extensions of requests.
    type Peer: Clone + Send + Sync + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// An open door. It closes when it is dropped.
#[must_use = "a door that is dropped is closed"]
pub struct Door {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: Option<PathBuf>,
    address: Option<SocketAddr>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("path", &self.path)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Serves on a thread of its own, so that a host need not be asynchronous.
    pub(crate) fn spawn<L: Listen>(
        path: Option<PathBuf>,
        address: Option<SocketAddr>,
        router: Router,
        listen: impl FnOnce() -> io::Result<L> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(THREADS_MAX)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        // A listener belongs to the runtime that it is made in.
        let listener = {
            let _inside = runtime.enter();
            listen()?
        };
        let thread = std::thread::Builder::new()
            .name("gatekey-admin".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, router, stopped));
                // A check that runs goes on to its end, without its client.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            path,
            address,
        })
    }

    /// The path of its socket, where it is one.
    #[must_use]
    pub fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref()
    }

    /// Its address, where it is one of TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Closes the door, after the requests that are under way, or 10 seconds. Close it
    /// before the engine.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve<L: Listen>(listener: L, router: Router, stopped: oneshot::Receiver<()>) {
    // Around all that may answer before a client has sent its body.
    let router = router.layer(DrainLayer::default());
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let under_way = GracefulShutdown::new();
    let mut stopped = pin!(stopped);
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            _ = &mut stopped => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, for the most part: some will be free again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let connection = under_way.watch(connection);
        tokio::spawn(async move {
            // A client that went away is no matter of the server's.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_REQUESTS, under_way.shutdown()).await;
}
