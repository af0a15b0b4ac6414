//! AuroraX.

use serde_json::json;

use crate::client::{Ask, clients};
use crate::server::Server;

#[test]
fn many_routes_need_no_key() {
    let server = Server::start();
    for (name, client) in clients() {
        let reply = client(&server.url, &Ask::get("/aurorax/public"));
        assert_eq!(reply.status, 200, "{name}");
        assert_eq!(reply.json()["owner"], json!(null));
    }
}

#[test]
fn the_key_is_presented_in_its_own_header() {
    let server = Server::start();
    let key = server.issue("aurorax", "university", &json!({}));
    for (name, client) in clients() {
        for header in ["x-aurorax-api-key", "X-AuroraX-API-Key"] {
            for path in ["/aurorax/account", "/aurorax/public"] {
                let reply = client(&server.url, &Ask::get(path).header(header, &key.token));
                assert_eq!(reply.status, 200, "{name}");
                assert_eq!(reply.json()["owner"], "university");
            }
        }
        // Nowhere else.
        let elsewhere = client(
            &server.url,
            &Ask::get("/aurorax/account").bearer(&key.token),
        );
        assert_eq!(elsewhere.status, 401, "{name}");
        let path = format!("/aurorax/account?x-aurorax-api-key={}", key.token);
        assert_eq!(client(&server.url, &Ask::get(&path)).status, 401, "{name}");
    }
}

#[test]
fn some_routes_need_a_key() {
    let server = Server::start();
    for (name, client) in clients() {
        let reply = client(&server.url, &Ask::get("/aurorax/account"));
        assert_eq!(reply.status, 401, "{name}");
        assert!(reply.header("www-authenticate").is_some());
        let wrong = Ask::get("/aurorax/public").header("x-aurorax-api-key", "nonsense");
        assert_eq!(
            client(&server.url, &wrong).status,
            401,
            "{name}: not taken for anonymous"
        );
    }
}

#[test]
fn a_key_may_modify_only_where_it_was_permitted() {
    let server = Server::start();
    let reader = server.issue("aurorax", "reader", &json!({ "permissions": ["read"] }));
    let writer = server.issue(
        "aurorax",
        "writer",
        &json!({ "permissions": ["read", "write"] }),
    );
    for (name, client) in clients() {
        let ask = |token: &str| {
            client(
                &server.url,
                &Ask::post("/aurorax/items").header("x-aurorax-api-key", token),
            )
        };
        assert_eq!(ask(&reader.token).status, 403, "{name}");
        assert_eq!(ask(&writer.token).status, 201, "{name}");
    }
}

#[test]
fn only_one_key_at_a_time_is_valid() {
    let server = Server::start();
    for (name, client) in clients() {
        let status = |token: &str| {
            let ask = Ask::get("/aurorax/account").header("x-aurorax-api-key", token);
            client(&server.url, &ask).status
        };
        let first = server.issue("aurorax", "alice", &json!({}));
        let other = server.issue("aurorax", "bob", &json!({}));
        assert_eq!(status(&first.token), 200, "{name}");
        let second = server.issue("aurorax", "alice", &json!({}));
        assert_eq!(status(&first.token), 401, "{name}: at once");
        assert_eq!(status(&second.token), 200, "{name}");
        assert_eq!(status(&other.token), 200, "{name}: somebody else's stays");
    }
}

/// pyaurorax shows `error_message`, and takes its body for JSON by its type alone.
#[test]
fn its_own_client_shows_why_it_was_refused() {
    let Some(python) = gatekey_testkit::tools::find("pyaurorax-python") else {
        return;
    };
    let server = Server::start();
    let reader = server.issue("aurorax", "reader", &json!({ "permissions": ["read"] }));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/aurorax.py");
    let output = std::process::Command::new(python)
        .args([script, &server.url, &reader.token])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "reader",
            "AuroraXUnauthorizedError: API error code 401: An API key is required.",
            "AuroraXUnauthorizedError: API error code 401: The API key is invalid.",
            "AuroraXAPIError: API error code 404: There is no such thing.",
            "The API key lacks a permission that is required.",
        ]
    );
}
