//! Serves tonic's health service behind a `GrpcLayer`, and asks it by tonic's client and,
//! where its path is given, by Python's (`python3 -c 'import grpc'`):
//!
//! ```sh
//! cargo run --manifest-path tests/grpc/Cargo.toml [-- PYTHON]
//! ```
//! The service stands for any: it needs no compiler of its descriptions.

use std::net::SocketAddr;
use std::process::Command;

use gatekey::http::Dialect;
use gatekey::tower::{AuthLayer, GrpcLayer};
use gatekey::{Engine, Limit, NewKey, NewKeyspace, Options, Plan};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HEALTH: &str = "grpc.health.v1.Health";

/// Serves behind a layer, and says where.
async fn serve(layer: GrpcLayer) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}

fn asking(token: &str) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    if !token.is_empty() {
        let value = format!("Bearer {token}").parse().expect("it is ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn client(address: SocketAddr) -> Result<HealthClient<Channel>, Failure> {
    let endpoint = Channel::from_shared(format!("http://{address}"))?;
    Ok(HealthClient::new(endpoint.connect().await?))
}

fn code<T>(result: Result<T, Status>) -> (Code, String) {
    match result {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

fn keys(engine: &Engine) -> Result<[String; 3], gatekey::Error> {
    let once = Plan::new("once").limit(Limit::per_hour(1));
    let new = NewKeyspace::new("acme")?.permissions(["read", "watch"]);
    engine.create_keyspace(new.plan(once))?;
    let issue = |plan: Option<&str>, permissions: &[&'static str]| {
        let mut new = NewKey::new("acme", "acme")?.permissions(permissions.iter().copied());
        if let Some(plan) = plan {
            new = new.plan(plan);
        }
        let issued = engine.issue(new)?;
        Ok::<_, gatekey::Error>(issued.token.expose().to_owned())
    };
    Ok([
        issue(None, &["read"])?,
        issue(None, &["read", "watch"])?,
        issue(Some("once"), &["read"])?,
    ])
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // What the page shows of files is those that its program is built with.
    let page = include_str!("../../../docs/OTHER_SERVERS.md");
    for file in [include_str!("../build.rs"), include_str!("../proto/things.proto")] {
        assert!(page.contains(file), "the page shows another file than\n{file}");
    }

    let options = Options::new().failed_attempts(Limit::per_hour(3));
    let engine = options.open_in_memory()?;
    let [reader, watcher, limited] = keys(&engine)?;
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let by_method = GrpcLayer::new(auth.clone())
        .method("grpc.health.v1.Health/Watch", |auth| auth.permissions(["watch"]));

    // tonic's client, which says Internal of whatever it cannot read.
    let mut asks = client(serve(by_method.clone()).await?).await?;
    for (token, expected, message) in [
        (reader.as_str(), Code::Ok, ""),
        ("", Code::Unauthenticated, "An API key is required."),
        ("nonsense", Code::Unauthenticated, "The API key is invalid."),
        (&limited, Code::Ok, ""),
        (&limited, Code::ResourceExhausted, "The rate limit is exceeded."),
    ] {
        let told = code(asks.check(asking(token)).await);
        assert_eq!(told, (expected, message.to_owned()));
    }
    let refused = asks.check(asking(&limited)).await.expect_err("it is over its limit");
    let metadata = refused.metadata();
    assert!(metadata.contains_key("retry-after") && metadata.contains_key("grpc-retry-pushback-ms"));
    let watched = code(asks.watch(asking(&reader)).await);
    let lacks = "The API key lacks a permission that is required.";
    assert_eq!(watched, (Code::PermissionDenied, lacks.to_owned()));
    assert_eq!(code(asks.watch(asking(&watcher)).await).0, Code::Ok);

    // Whoever has failed too often waits, whatever they present.
    let from = |_: &_, _: &_| Some("192.0.2.1".parse().expect("an address"));
    let counted = serve(GrpcLayer::new(auth.clone().source(from))).await?;
    let mut counted = client(counted).await?;
    for _ in 0..3 {
        assert_eq!(code(counted.check(asking("nonsense")).await).0, Code::Unauthenticated);
    }
    let waits = code(counted.check(asking(&reader)).await);
    assert_eq!(waits.0, Code::ResourceExhausted);

    // Exempt: nobody is asked, and a key that is no good is not looked at.
    let exempt = serve(by_method.clone().exempt(HEALTH)).await?;
    let mut exempt = client(exempt).await?;
    assert_eq!(code(exempt.check(asking("")).await).0, Code::Ok);
    assert_eq!(code(exempt.check(asking("nonsense")).await).0, Code::Ok);
    // The rule of a method is nearer than that of its service.
    assert_eq!(code(exempt.watch(asking("")).await).0, Code::Unauthenticated);

    println!("tonic: as expected");
    match std::env::args().nth(1) {
        Some(python) => {
            let address = serve(by_method).await?.to_string();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/client.py");
            let (limited, again) = (reissue(&engine)?, watcher.clone());
            let run = move || {
                Command::new(python)
                    .args([script, &address, &reader, &again, &limited])
                    .status()
            };
            let status = tokio::task::spawn_blocking(run).await??;
            assert!(status.success(), "{status}");
        }
        None => println!("left out: Python's client, for want of its path"),
    }

    // An engine that cannot answer: not the caller's fault, and never a pass.
    engine.close()?;
    let told = code(asks.check(asking("")).await);
    assert_eq!(told.0, Code::Unauthenticated);
    let told = code(asks.check(asking(&watcher)).await);
    assert_eq!(told.0, Code::Unavailable, "{told:?}");
    println!("ok");
    Ok(())
}

/// Another key that is good for one request an hour.
fn reissue(engine: &Engine) -> Result<String, gatekey::Error> {
    let new = NewKey::new("acme", "acme")?.permissions(["read"]).plan("once");
    Ok(engine.issue(new)?.token.expose().to_owned())
}
