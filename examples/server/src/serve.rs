//! Accepting connections, and an end to each of them: of a client that sends its
//! headers too slowly, of a request that takes too long, and of all at a signal.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use gatekey::tower::DrainLayer;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service as _;
use tower_http::timeout::TimeoutLayer;

/// How long a client may take for the head of a request, and be idle before it.
const HEAD: Duration = Duration::from_secs(10);
/// How long a request may take, its body and its handler together.
const REQUEST: Duration = Duration::from_secs(30);
/// How long requests that are under way are waited for at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;

/// Resolves when the process is told to stop. Signals count from the call on.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminated = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate())?
    };
    #[cfg(unix)]
    let mut interrupted = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::interrupt())?
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Serves until told to stop, and then answers what is under way, up to a time.
pub(crate) async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>) {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST);
    let mut app = app
        .layer(timeout)
        // Around all that may respond before a client has sent its body.
        .layer(DrainLayer::default())
        .into_make_service_with_connect_info::<SocketAddr>();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let under_way = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // Never closed, so that there is always a permit at last.
            let permit = connections.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, for the most part: some will be free again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = match app.call(peer).await {
            Ok(service) => TowerToHyperService::new(service),
            Err(never) => match never {},
        };
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
