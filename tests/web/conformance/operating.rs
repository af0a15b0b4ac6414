//! How the server is begun, ended and kept up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::client::{Ask, ureq};
use crate::server::Server;

/// Requests that a quota's slice covers are in memory: a server that is stopped and not
/// killed puts the rest of the slice back.
#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_stop_loses_nothing_of_a_quota() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.redb");
    let file = file.to_str().unwrap();
    let server = Server::start_with(&[file], Stdio::null());
    let key = server.issue("pixxel", "org", &json!({ "quota": 100_000 }));
    for _ in 0..3 {
        let ask = Ask::get("/pixxel/account").header("Authorization", &key.token);
        assert_eq!(ureq(&server.url, &ask).status, 200);
    }
    // Whoever is connected and says nothing, or half of something, holds up nothing.
    let idle = TcpStream::connect(server.address()).unwrap();
    let mut slow = TcpStream::connect(server.address()).unwrap();
    slow.write_all(b"GET /pixxel/account HTTP/1.1\r\nHo")
        .unwrap();
    let status = server.terminate();
    assert!(status.success(), "{status}");
    drop((idle, slow));

    let server = Server::start_with(&[file], Stdio::null());
    let shown = server.show(&key);
    assert_eq!(shown["quota_remaining"], 99_997);
    assert_eq!(shown["used"], 3);
}

/// botiverse/hands#311: `expiresIn` made a key that never expires.
#[test]
fn a_member_that_is_not_known_is_refused() {
    let server = Server::start();
    let key = server.issue("ai_live", "acme", &json!({}));
    let rotate = format!("/admin/keys/{}/rotate", key.id);
    let issue = |more: &str| format!(r#"{{"keyspace": "pixxel", "owner": "acme", {more}}}"#);
    for (path, body) in [
        ("/admin/keys", issue(r#""expiresIn": 60"#)),
        ("/admin/keys", issue(r#""Expires_In": 60"#)),
        ("/admin/keys", issue(r#""expires_in ": 60"#)),
        (
            "/admin/keys",
            issue(r#""expires_in": 60, "expires_in": null"#),
        ),
        ("/admin/keys", issue(r#""expires_in": -1"#)),
        ("/admin/keys", issue(r#""expires_in": 0"#)),
        ("/admin/keys", issue(r#""expires_in": "60""#)),
        ("/admin/keys", issue(r#""permission": ["read"]"#)),
        (&rotate, r#"{"gracePeriod": 60}"#.to_owned()),
    ] {
        let ask = Ask {
            body: Some(body.clone()),
            ..Ask::post(path).header("Content-Type", "application/json")
        };
        let reply = server.try_to_administer(ask);
        assert!((400..500).contains(&reply.status), "{body}: {reply:?}");
    }
    assert_eq!(server.show(&key)["state"], "active", "it was not rotated");
    let ask = Ask::post("/admin/keys")
        .json(&json!({ "keyspace": "pixxel", "owner": "acme", "expires_in": 60 }));
    assert!(server.try_to_administer(ask).json()["expires_at"].is_string());
}

/// Slowloris: a connection is closed whose head does not come to an end.
#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let server = Server::start();
    let mut slow: Vec<TcpStream> = [
        "",
        "GET /tiered/public HTTP/1.1\r\n",
        "GET /tiered/public HTTP/1.1\r\nX-A: b",
    ]
    .into_iter()
    .map(|head| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        stream
    })
    .collect();
    for stream in &mut slow {
        // A time is no part of what is shown: it ends, or the read fails after two minutes.
        let mut told = Vec::new();
        match stream.read_to_end(&mut told) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    assert_eq!(ureq(&server.url, &Ask::get("/tiered/public")).status, 200);
}

#[test]
fn answers_that_hold_a_token_are_not_stored() {
    let server = Server::start();
    let asked = json!({ "keyspace": "tiered", "owner": "acme" });
    let issued = server.try_to_administer(Ask::post("/admin/keys").json(&asked));
    assert_eq!(issued.status, 201);
    assert_eq!(issued.header("cache-control"), Some("no-store"));
    let rotate = format!(
        "/admin/keys/{}/rotate",
        issued.json()["id"].as_str().unwrap()
    );
    let rotated = server.try_to_administer(Ask::post(&rotate).json(&json!({ "grace": 60 })));
    assert_eq!(rotated.status, 200);
    assert!(rotated.json()["token"].is_string());
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
}

/// A proxy that is misspelt would be no proxy, and all callers behind it one source.
#[test]
fn proxies_that_cannot_be_read_end_the_server() {
    let mut server = std::process::Command::new(crate::server::BINARY)
        .env("TRUSTED_PROXIES", "10.0.0.1, 10.0.0.256")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It prints its address, or ends.
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let _ = server.kill();
    let output = server.wait_with_output().unwrap();
    assert_eq!(line, "");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("10.0.0.256"), "{told}");
}
