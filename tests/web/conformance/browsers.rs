//! What a browser asks of the server before a page of another origin may read from it.

use gatekey_testkit::tools;
use serde_json::json;

use crate::client::{Ask, clients, curl};
use crate::server::Server;

const ORIGIN: &str = "https://console.example.com";

fn preflight<'a>(path: &'a str, method: &str, headers: &str) -> Ask<'a> {
    Ask {
        method: "OPTIONS",
        ..Ask::get(path)
    }
    .header("Origin", ORIGIN)
    .header("Access-Control-Request-Method", method)
    .header("Access-Control-Request-Headers", headers)
}

#[test]
fn a_preflight_needs_no_key_and_names_the_header_that_carries_one() {
    if tools::find("curl").is_none() {
        return;
    }
    let server = Server::start();
    for (path, method, header) in [
        ("/tiered/account", "GET", "authorization"),
        ("/tiered/items", "POST", "authorization"),
        ("/pixxel/account", "GET", "authorization"),
        ("/one-codex/account", "GET", "x-api-key"),
        ("/aurorax/account", "GET", "x-aurorax-api-key"),
        ("/ai/items", "POST", "authorization"),
    ] {
        let reply = curl(&server.url, &preflight(path, method, header));
        assert!(reply.status < 300, "{path}: {reply:?}");
        let told = |name: &str| reply.header(name).unwrap_or("").to_ascii_lowercase();
        assert_eq!(told("access-control-allow-origin"), "*", "{path}");
        let methods = told("access-control-allow-methods");
        assert!(methods.contains(&method.to_ascii_lowercase()), "{methods}");
        // `*` would not cover Authorization.
        let headers = told("access-control-allow-headers");
        assert!(
            headers.split(',').any(|name| name.trim() == header),
            "{headers}"
        );
    }
}

#[test]
fn a_page_may_read_a_refusal_and_what_is_left() {
    let server = Server::start();
    let key = server.issue("tiered", "acme", &json!({}));
    for (name, client) in clients() {
        let granted = Ask::get("/tiered/account").bearer(&key.token);
        let forbidden = Ask::post("/tiered/items").bearer(&key.token);
        for (ask, status) in [
            (granted, 200),
            (forbidden, 403),
            (Ask::get("/tiered/account"), 401),
            (Ask::get("/tiered/nothing"), 404),
        ] {
            let reply = client(&server.url, &ask.header("Origin", ORIGIN));
            assert_eq!(reply.status, status, "{name}");
            assert_eq!(
                reply.header("access-control-allow-origin"),
                Some("*"),
                "{name} {status}"
            );
            let exposed = reply.header("access-control-expose-headers").unwrap_or("");
            for header in [
                "retry-after",
                "www-authenticate",
                "x-ratelimit-remaining",
                "ratelimit",
            ] {
                assert!(exposed.contains(header), "{name} {status}: {exposed}");
            }
            assert!(reply.header("access-control-allow-credentials").is_none());
        }
    }
}

#[test]
fn no_page_of_another_origin_administers() {
    if tools::find("curl").is_none() {
        return;
    }
    let server = Server::start();
    let reply = curl(
        &server.url,
        &preflight("/admin/keys", "POST", "authorization,content-type"),
    );
    assert!(
        reply.header("access-control-allow-origin").is_none(),
        "{reply:?}"
    );
}
