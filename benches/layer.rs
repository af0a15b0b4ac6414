//! What the tower layer costs a server: a line `name value unit` for each figure.
//!
//! axum on two threads, over loopback, with connections that are kept alive; rounds
//! with the layer and without take turns, and the ratio is the median of those of
//! neighbours. Then a call of the layer by itself, and what a verification that
//! reads the file costs beside handing it to another thread.
//!
//! `cargo bench --bench layer --features axum`. Under `cargo test`, with `--test`
//! and in a debug build, it runs on few requests, prints nothing, and fails where a
//! result is wrong.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use axum::Router;
use axum::routing::get;
use gatekey::http::Dialect;
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Grant, Options, Verdict};
use http::{Request, Response};
use support::{Home, Text, report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, Service as _};

/// How much of everything.
struct Scale {
    keys: usize,
    connections: usize,
    rounds: usize,
    per_round: usize,
    calls: usize,
}

fn main() {
    let scale = match support::is_test() {
        true => Scale {
            keys: 100,
            connections: 2,
            rounds: 2,
            per_round: 10,
            calls: 100,
        },
        false => Scale {
            keys: 50_000,
            connections: 32,
            rounds: 61,
            per_round: 400,
            calls: 200_000,
        },
    };
    let home = Home::new();
    let engine = home.open(Options::new());
    let mut tokens: Vec<Text> = Vec::new();
    let owner = |n| format!("acme/{n}");
    support::issue(&engine, scale.keys, owner, |_, token| {
        tokens.push(support::text(token));
    });
    support::shuffle(&mut tokens);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(&engine, &scale, &tokens));
    call(&engine, &scale, &tokens);
    engine.close().unwrap();
    let engine = home.open(Options::new().resident_bytes(0));
    runtime.block_on(hand_over(&engine, &scale, &tokens));
    engine.close().unwrap();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Requests a second, with the layer and without.
async fn serve(engine: &Engine, scale: &Scale, tokens: &[Text]) {
    let bare = Router::new().route("/", get(|| async { "ok" }));
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let empty = bare.clone().layer(tower::layer::util::Identity::new());
    let layered = bare.clone().layer(auth);
    let requests: Arc<[Vec<u8>]> = tokens
        .iter()
        .map(|token| {
            let token = std::str::from_utf8(token).unwrap();
            format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: bench\r\n\
                 Authorization: Bearer {token}\r\n\r\n"
            )
            .into_bytes()
        })
        .collect();
    let mut clients = Vec::new();
    for router in [bare, empty, layered] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        clients.push(Client::connect(address, scale, &requests).await);
    }
    let refused = b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n";
    assert_eq!(clients[0].status(refused).await, "200");
    assert_eq!(clients[2].status(refused).await, "401");
    let mut rates = [const { Vec::new() }; 3];
    let (mut over_bare, mut over_empty) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        let mut times = [0.0; 3];
        for turn in 0..3 {
            let which = (round + turn) % 3;
            times[which] = clients[which].round(scale.per_round).await;
            rates[which].push((scale.connections * scale.per_round) as f64 / times[which]);
        }
        over_bare.push(times[2] / times[0]);
        over_empty.push(times[2] / times[1]);
    }
    report("layer_requests_without", median(&mut rates[0]), "1/s");
    report("layer_requests_empty_layer", median(&mut rates[1]), "1/s");
    report("layer_requests_with", median(&mut rates[2]), "1/s");
    report("layer_time_over_without", median(&mut over_bare), "ratio");
    report(
        "layer_time_over_empty_layer",
        median(&mut over_empty),
        "ratio",
    );
}

/// Connections that are kept alive.
struct Client {
    streams: Vec<TcpStream>,
    requests: Arc<[Vec<u8>]>,
    next: usize,
}

impl Client {
    async fn connect(address: SocketAddr, scale: &Scale, requests: &Arc<[Vec<u8>]>) -> Self {
        let mut streams = Vec::new();
        for _ in 0..scale.connections {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        Self {
            streams,
            requests: requests.clone(),
            next: 0,
        }
    }

    /// One request at a time on each connection; gives the seconds that all took.
    async fn round(&mut self, per_connection: usize) -> f64 {
        let started = Instant::now();
        let mut tasks = Vec::new();
        for mut stream in self.streams.drain(..) {
            let requests = self.requests.clone();
            let first = self.next;
            self.next += per_connection;
            tasks.push(tokio::spawn(async move {
                let mut buffer = Vec::with_capacity(1024);
                for at in first..first + per_connection {
                    let request = &requests[at % requests.len()];
                    exchange(&mut stream, request, &mut buffer).await;
                    assert!(buffer.starts_with(b"HTTP/1.1 200") && buffer.ends_with(b"ok"));
                }
                stream
            }));
        }
        for task in tasks {
            self.streams.push(task.await.unwrap());
        }
        started.elapsed().as_secs_f64()
    }

    async fn status(&mut self, request: &[u8]) -> String {
        let mut buffer = Vec::new();
        exchange(&mut self.streams[0], request, &mut buffer).await;
        String::from_utf8(buffer[9..12].to_vec()).unwrap()
    }
}

/// Sends a request and reads the response, to the last byte.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    stream.write_all(request).await.unwrap();
    loop {
        assert_ne!(stream.read_buf(buffer).await.unwrap(), 0);
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        let (_, rest) = head.split_once("content-length: ").unwrap();
        let len: usize = rest.lines().next().unwrap().parse().unwrap();
        if buffer.len() == end + 4 + len {
            return;
        }
    }
}

/// A call of the layer by itself, over one of the service behind it.
fn call(engine: &Engine, scale: &Scale, tokens: &[Text]) {
    let inner = tower::service_fn(|request: Request<String>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(
            request.extensions().get::<Grant>().map(Grant::key_id),
        )))
    });
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let auth = auth.respond_with(|_: &gatekey::http::Rejection| Response::new(None));
    let mut bare = inner;
    let mut layered = auth.layer(inner);
    let mut costs = Vec::new();
    // Few at once, so that what was just read is in the cache, as it is in a server.
    let step = 50;
    for part in 0..scale.calls / step {
        let request = |n: usize| {
            let token = std::str::from_utf8(&tokens[n % tokens.len()]).unwrap();
            Request::builder()
                .header("authorization", format!("Bearer {token}"))
                .body(String::new())
                .unwrap()
        };
        let pool: Vec<_> = (0..2 * step).map(|n| request(part * step + n)).collect();
        let mut pool = pool.into_iter();
        let started = Instant::now();
        for request in pool.by_ref().take(step) {
            assert!(black_box(ready(bare.call(request))).body().is_none());
        }
        let without = started.elapsed();
        let started = Instant::now();
        for request in pool {
            assert!(black_box(ready(layered.call(request))).body().is_some());
        }
        let with = started.elapsed();
        costs.push((with.as_nanos() as f64 - without.as_nanos() as f64) / step as f64);
    }
    report("layer_call_ns", median(&mut costs), "ns");
}

fn ready<T>(future: impl Future<Output = Result<T, Infallible>>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(value)) => value,
        Poll::Pending => unreachable!("nothing waits"),
    }
}

/// A verification that reads the file, in place and on another thread.
async fn hand_over(engine: &Engine, scale: &Scale, tokens: &[Text]) {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for n in 0..scale.calls / 10 {
        let token = tokens[n % tokens.len()];
        let started = Instant::now();
        assert!(engine.verify(token).unwrap().is_granted());
        here.push(started.elapsed().as_nanos() as f64);
        let engine = engine.clone();
        let started = Instant::now();
        let verdict = tokio::task::spawn_blocking(move || engine.verify(token));
        assert!(matches!(verdict.await.unwrap(), Ok(Verdict::Granted(_))));
        there.push(started.elapsed().as_nanos() as f64);
    }
    report("layer_verify_from_file_ns", median(&mut here), "ns");
    report(
        "layer_verify_on_another_thread_ns",
        median(&mut there),
        "ns",
    );
}
