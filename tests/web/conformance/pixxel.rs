//! Pixxel.

use std::time::Duration;

use serde_json::json;

use crate::client::{Ask, Client, clients};
use crate::server::Server;

fn status(client: Client, server: &Server, value: &str) -> u16 {
    let ask = Ask::get("/pixxel/account").header("Authorization", value);
    client(&server.url, &ask).status
}

#[test]
fn the_authorization_header_holds_the_key_and_nothing_else() {
    let server = Server::start();
    let key = server.issue("pixxel", "org/project/bot", &json!({}));
    for (name, client) in clients() {
        assert_eq!(status(client, &server, &key.token), 200, "{name}");
        assert_eq!(
            status(client, &server, &format!("Bearer {}", key.token)),
            403,
            "{name}"
        );
    }
}

#[test]
fn a_service_account_may_have_several_keys() {
    let server = Server::start();
    let keys: Vec<_> = (0..3)
        .map(|_| server.issue("pixxel", "org/project/bot", &json!({})))
        .collect();
    for (name, client) in clients() {
        for key in &keys {
            let ask = Ask::get("/pixxel/account").header("Authorization", &key.token);
            let reply = client(&server.url, &ask);
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(
                reply.json()["owner"],
                "org/project/bot",
                "tied to its project"
            );
        }
    }
}

#[test]
fn missing_incorrect_not_permitted_expired_and_revoked_are_forbidden() {
    let server = Server::start();
    let expired = server.issue("pixxel", "bot", &json!({ "expires_in": 1 }));
    let revoked = server.issue("pixxel", "bot", &json!({}));
    let reader = server.issue("pixxel", "bot", &json!({ "permissions": ["read"] }));
    server.revoke(&revoked);
    std::thread::sleep(Duration::from_millis(1100));
    let (rest, last) = reader.token.split_at(reader.token.len() - 1);
    let incorrect = format!("{rest}{}", if last == "x" { "y" } else { "x" });
    for (name, client) in clients() {
        let missing = client(&server.url, &Ask::get("/pixxel/account"));
        assert_eq!(missing.status, 403, "{name}");
        for value in ["nonsense", &incorrect, &expired.token, &revoked.token] {
            assert_eq!(status(client, &server, value), 403, "{name}");
        }
        let ask = Ask::post("/pixxel/items").header("Authorization", &reader.token);
        let not_permitted = client(&server.url, &ask);
        assert_eq!(not_permitted.status, 403, "{name}");
        assert_eq!(not_permitted.json(), missing.json(), "they read the same");
    }
}
