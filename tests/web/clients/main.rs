//! Real clients and nginx, in front of the layer: what caches keep, what a client sees
//! that is refused while it sends, and who is locked out behind a proxy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../nginx.rs"]
mod nginx;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::routing::{get, post};
use gatekey::http::{Peer, Proxies, SourceHeader, presets};
use gatekey::tower::AuthLayer;
use gatekey::{Grant, Limit, NewKey, NewKeyspace, Options};
use gatekey_testkit::tools;
use nginx::Nginx;

const SIZES: [usize; 4] = [100_000, 1_000_000, 4_000_000, 10_000_000];
const FAILED_MAX: u32 = 50;

struct Server {
    address: SocketAddr,
    keys: [String; 2],
    _runtime: tokio::runtime::Runtime,
}

/// A server with the layer; one that is behind a proxy asks it where requests come from.
fn server(behind_proxy: bool) -> Server {
    let limit = Limit::per_hour(FAILED_MAX);
    let engine = Options::new()
        .failed_attempts(limit)
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let keys = ["alice", "bob"].map(|owner| {
        let new = NewKey::new("acme_live", owner).unwrap();
        engine.issue(new).unwrap().token.expose().to_owned()
    });
    let mut auth = AuthLayer::new(engine, presets::one_codex());
    if behind_proxy {
        let proxies = Proxies::new(SourceHeader::XForwardedFor);
        let proxies = proxies.trust(["127.0.0.1".parse().unwrap()]);
        auth = auth.behind(proxies, |extensions| {
            let peer: &ConnectInfo<SocketAddr> = extensions.get()?;
            Some(Peer::from(peer.0))
        });
    }
    // Each answer is another, so that one from a cache is known.
    static ANSWERS: AtomicU64 = AtomicU64::new(0);
    let who = |grant: Option<Grant>| {
        let count = ANSWERS.fetch_add(1, Ordering::Relaxed);
        grant.map_or(format!("nobody {count}"), |grant| {
            format!("{} {count}", grant.owner())
        })
    };
    let silent = move |grant: Option<Grant>| async move { who(grant) };
    let aged =
        move |grant: Option<Grant>| async move { ([("cache-control", "max-age=600")], who(grant)) };
    let upload = |body: Bytes| async move { body.len().to_string() };
    let app = Router::new()
        .route("/silent", get(silent).layer(auth.clone().required()))
        .route("/aged", get(aged).layer(auth.clone().optional()))
        .route("/upload", post(upload).layer(auth.required()))
        .layer(DefaultBodyLimit::disable());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).await.unwrap();
    });
    Server {
        address,
        keys,
        _runtime: runtime,
    }
}

/// nginx in front of a server, with a cache.
fn caching(program: &Path, upstream: SocketAddr) -> Nginx {
    Nginx::start(
        program,
        &upstream.to_string(),
        "proxy_cache_path cache keys_zone=c:1m;",
        "proxy_cache c; proxy_cache_valid 200 401 10m;",
    )
}

/// What curl is told: the status, and the body.
fn curl(program: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new(program)
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    (format!("{status}{error}"), body.to_owned())
}

/// A file of so many bytes.
fn file(folder: &Path, bytes: usize) -> PathBuf {
    let path = folder.join(bytes.to_string());
    std::fs::write(&path, vec![0; bytes]).unwrap();
    path
}

#[test]
fn a_cache_of_nginx_gives_nobody_another_callers_answer() {
    let (Some(nginx), Some(program)) = (tools::find("nginx"), tools::find("curl")) else {
        return;
    };
    let server = server(true);
    let nginx = caching(&nginx, server.address);
    let ask = |path: &str, key: Option<&str>| {
        let url = format!("http://{}{path}", nginx.address);
        let key = key.map(|key| format!("X-API-Key: {key}"));
        match &key {
            Some(key) => curl(&program, &["--header", key, &url]),
            None => curl(&program, &[&url]),
        }
    };
    let [alice, bob] = &server.keys;
    for round in 0..3 {
        for path in ["/silent", "/aged"] {
            for (key, owner) in [(alice, "alice "), (bob, "bob ")] {
                let (status, body) = ask(path, Some(key));
                assert_eq!(status, "200", "{path} {round}");
                assert!(body.starts_with(owner), "{path} {round}: {body}");
            }
            let (status, body) = ask(path, None);
            match path {
                "/silent" => assert_eq!(status, "401", "{round}: {body}"),
                _ => assert!(body.starts_with("nobody "), "{round}: {body}"),
            }
            assert_eq!(ask(path, Some("bad")).0, "401");
        }
    }
    // The cache is at work: nobody in particular gets what others like them got.
    assert_eq!(ask("/aged", None).1, ask("/aged", None).1);
    assert_ne!(ask("/aged", Some(alice)).1, ask("/aged", Some(alice)).1);
}

#[test]
fn bad_keys_through_nginx_lock_out_their_sender_alone() {
    let (Some(nginx), Some(program)) = (tools::find("nginx"), tools::find("curl")) else {
        return;
    };
    let server = server(true);
    let nginx = caching(&nginx, server.address);
    let ask = |from: &str, forwarded: &str, key: &str| {
        let url = format!("http://{}/silent", nginx.address);
        let key = format!("X-API-Key: {key}");
        let forwarded = format!("X-Forwarded-For: {forwarded}");
        let headers = ["--header", &key, "--header", &forwarded];
        curl(
            &program,
            &[&headers[..], &["--interface", from, &url]].concat(),
        )
        .0
    };
    let good = &server.keys[0];
    for attempt in 0..FAILED_MAX + 5 {
        let status = ask("127.0.0.2", &format!("198.51.100.{attempt}"), "bad");
        let expected = if attempt < FAILED_MAX { "401" } else { "429" };
        assert_eq!(status, expected, "{attempt}");
    }
    assert_eq!(ask("127.0.0.2", "127.0.0.3", good), "429");
    assert_eq!(ask("127.0.0.3", "127.0.0.2", good), "200");
}

#[test]
fn curl_is_told_of_a_refusal_while_it_sends() {
    let Some(program) = tools::find("curl") else {
        return;
    };
    let server = server(false);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/upload", server.address);
    let [good, bad] = [&server.keys[0], "bad"].map(|key| format!("X-API-Key: {key}"));
    for size in SIZES {
        let file = file(folder.path(), size);
        let data = format!("@{}", file.display());
        for mode in [
            &["--header", "Expect:"][..],
            &["--header", "Expect: 100-continue"],
            &[
                "--header",
                "Expect:",
                "--header",
                "Transfer-Encoding: chunked",
            ],
            &["--http2-prior-knowledge"],
        ] {
            for (key, status) in [(&bad, "401"), (&good, "200")] {
                let sent = ["--header", key, "--data-binary", &data, &url];
                let found = curl(&program, &[mode, &sent[..]].concat()).0;
                assert_eq!(found, status, "{size} {mode:?}");
            }
        }
    }
}

#[test]
fn curl_is_told_of_a_refusal_through_nginx() {
    let (Some(nginx), Some(program)) = (tools::find("nginx"), tools::find("curl")) else {
        return;
    };
    let server = server(true);
    let nginx = caching(&nginx, server.address);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}/upload", nginx.address);
    for size in SIZES {
        let data = format!("@{}", file(folder.path(), size).display());
        let sent = ["--header", "X-API-Key: bad", "--data-binary", &data, &url];
        assert_eq!(curl(&program, &sent).0, "401", "{size}");
    }
}

#[test]
fn node_and_go_are_told_of_a_refusal_while_they_send() {
    let server = server(false);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let script = |name: &str| scripts.join(name);
    let axios = gatekey_testkit::root().join("target/tools");
    let mut clients: Vec<(Vec<PathBuf>, Vec<&str>)> = Vec::new();
    if let (Some(node), Some(_)) = (tools::find("node"), tools::find("axios")) {
        clients.push((vec![node, script("upload.js")], vec!["fetch", "axios"]));
    }
    if let Some(go) = tools::find("go") {
        clients.push((vec![go, "run".into(), script("upload.go")], vec!["go"; 3]));
    }
    for size in SIZES {
        for (command, names) in &clients {
            let output = Command::new(&command[0])
                .args(&command[1..])
                .arg(format!("http://{}/upload", server.address))
                .args(["bad", &size.to_string()])
                .arg(&axios)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let expected: String = names.iter().map(|name| format!("{name} 401\n")).collect();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, expected, "{size} {error}");
        }
    }
}
