//! The AI API.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::client::{Ask, clients, ureq};
use crate::server::Server;

fn error(code: &str, message: &str, details: &Value) -> Value {
    json!({
        "success": false,
        "error": { "code": code, "message": message, "details": details },
    })
}

#[test]
fn the_bodies_of_errors_are_those_of_the_text() {
    let server = Server::start();
    let asked = json!({ "expires_in": 1 });
    let expired = server.issue("ai_live", "acme", &asked);
    let revoked = server.issue("ai_live", "acme", &json!({}));
    server.revoke(&revoked);
    std::thread::sleep(Duration::from_millis(1100));
    let invalid = |details| {
        error(
            "INVALID_API_KEY",
            "The provided API key is invalid",
            &details,
        )
    };
    for (name, client) in clients() {
        let ask = |token: &str| client(&server.url, &Ask::get("/ai/account").bearer(token));

        let missing = client(&server.url, &Ask::get("/ai/account"));
        assert_eq!(missing.status, 401, "{name}");
        let details = json!({ "header": "Authorization" });
        assert_eq!(
            missing.json(),
            error("MISSING_API_KEY", "API key is required", &details)
        );

        let reply = ask(&revoked.token);
        assert_eq!(reply.status, 401, "{name}");
        assert_eq!(
            reply.json(),
            invalid(json!({ "key_id": format!("key_{}", revoked.id) }))
        );

        // The id is the presented one, whether there is such a key or not.
        let (head, tail) = revoked.token.split_at("ai_live_".len());
        let unknown = format!("{head}0000000001{}", &tail[10..]);
        for token in [
            unknown.as_str(),
            &format!("{head}{}", tail.replace(&tail[20..23], "zzz")),
        ] {
            let reply = ask(token);
            assert_eq!(reply.status, 401, "{name}");
            let id = &token[head.len()..head.len() + 10];
            assert_eq!(
                reply.json(),
                invalid(json!({ "key_id": format!("key_{id}") }))
            );
        }
        assert_eq!(ask("nonsense").json(), invalid(json!({})), "{name}");

        let reply = ask(&expired.token);
        assert_eq!(reply.status, 401, "{name}");
        let body = reply.json();
        let at = body["error"]["details"]["expired_at"]
            .as_str()
            .unwrap()
            .to_owned();
        // As the text has it: "2024-01-01T00:00:00Z", without a fraction.
        assert_eq!(at.len(), "2024-01-01T00:00:00Z".len(), "{at}");
        assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
        let details = json!({ "expired_at": at });
        assert_eq!(
            body,
            error("EXPIRED_API_KEY", "The API key has expired", &details)
        );
    }
}

#[test]
fn an_owner_may_have_several_keys_by_purpose() {
    let server = Server::start();
    let purposes = [
        ("read-only", json!({ "permissions": ["read"] }), 403),
        (
            "production",
            json!({ "permissions": ["read", "write"] }),
            201,
        ),
        (
            "admin",
            json!({ "permissions": ["read", "write", "admin", "webhook"] }),
            201,
        ),
    ];
    let keys = purposes
        .map(|(purpose, asked, status)| (purpose, server.issue("ai_live", "acme", &asked), status));
    for (name, client) in clients() {
        for (purpose, key, status) in &keys {
            let account = client(&server.url, &Ask::get("/ai/account").bearer(&key.token));
            assert_eq!(account.status, 200, "{name} {purpose}");
            let write = client(&server.url, &Ask::post("/ai/items").bearer(&key.token));
            assert_eq!(write.status, *status, "{name} {purpose}");
            if write.status == 403 {
                assert_eq!(
                    write.json()["error"]["details"],
                    json!({ "permissions": ["write"] })
                );
            }
        }
    }
}

#[test]
fn a_key_is_rotated_in_four_steps() {
    let server = Server::start();
    for (name, client) in clients() {
        let status =
            |token: &str| client(&server.url, &Ask::get("/ai/account").bearer(token)).status;
        let old = server.issue("ai_live", "acme", &json!({}));
        // Create the new one; while the application changes over, both are good.
        let new = server.rotate(&old, 3_600);
        assert_eq!(
            (status(&old.token), status(&new.token)),
            (200, 200),
            "{name}"
        );
        assert_eq!(server.show(&old)["state"], "retiring");
        // Test it, then delete the old one.
        server.revoke(&old);
        assert_eq!(
            (status(&old.token), status(&new.token)),
            (401, 200),
            "{name}"
        );
    }
}

#[test]
fn a_key_lives_ninety_days_at_most() {
    let server = Server::start();
    let key = server.issue("ai_live", "acme", &json!({}));
    let reply = ureq(&server.url, &Ask::get("/ai/account").bearer(&key.token));
    let expires_at: gatekey::Timestamp = reply.json()["expires_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let left_s = expires_at.unix_ms() / 1000 - now.as_secs();
    assert!(
        (90 * 86_400 - 60..=90 * 86_400).contains(&left_s),
        "{left_s}"
    );
}

#[test]
fn the_use_of_a_key_can_be_watched() {
    let server = Server::start();
    let key = server.issue("ai_live", "acme", &json!({}));
    for (name, client) in clients() {
        let before = server.show(&key)["used"].as_u64().unwrap();
        for _ in 0..3 {
            let reply = client(&server.url, &Ask::get("/ai/account").bearer(&key.token));
            assert_eq!(reply.status, 200, "{name}");
        }
        let shown = server.show(&key);
        assert_eq!(shown["used"].as_u64(), Some(before + 3), "{name}");
        assert!(shown["last_used"].is_string());
    }
}
