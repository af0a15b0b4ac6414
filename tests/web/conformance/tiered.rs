//! The API with tiers.

use std::time::{Duration, SystemTime};

use gatekey_testkit::tools;
use serde_json::json;

use crate::client::{Ask, clients, curl_often};
use crate::server::Server;

#[test]
fn the_key_is_a_bearer_token() {
    let server = Server::start();
    let key = server.issue("tiered", "acme", &json!({}));
    for (name, client) in clients() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let value = format!("{scheme} {}", key.token);
            let ask = Ask::get("/tiered/account").header("Authorization", value);
            assert_eq!(client(&server.url, &ask).status, 200, "{name} {scheme}");
        }
    }
}

#[test]
fn the_bodies_of_errors_are_those_of_the_text() {
    let server = Server::start();
    let expired = server.issue("tiered", "acme", &json!({ "expires_in": 1 }));
    let revoked = server.issue("tiered", "acme", &json!({}));
    server.revoke(&revoked);
    std::thread::sleep(Duration::from_millis(1100));
    let invalid = json!({
        "error": "invalid_api_key",
        "message": "The API key provided is invalid.",
    });
    for (name, client) in clients() {
        let missing = client(&server.url, &Ask::get("/tiered/account"));
        assert_eq!(missing.status, 401, "{name}");
        assert_eq!(
            missing.header("www-authenticate"),
            Some("Bearer"),
            "no error code"
        );
        assert_eq!(
            missing.json(),
            json!({
                "error": "missing_api_key",
                "message": "No API key provided in the Authorization header.",
            })
        );
        for token in ["nonsense", &revoked.token] {
            let reply = client(&server.url, &Ask::get("/tiered/account").bearer(token));
            assert_eq!(reply.status, 401, "{name}");
            assert_eq!(reply.json(), invalid, "{name}");
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.contains("invalid_token"), "{challenge}");
        }
        let reply = client(
            &server.url,
            &Ask::get("/tiered/account").bearer(&expired.token),
        );
        assert_eq!(reply.status, 401, "{name}");
        assert_eq!(
            reply.json(),
            json!({ "error": "token_expired", "message": "The access token has expired." })
        );
    }
}

#[test]
fn every_response_says_what_is_left_of_the_hour() {
    let server = Server::start();
    for (name, client) in clients() {
        for (plan, limit) in [("free", 1_000), ("pro", 10_000)] {
            let owner = format!("{name}-{plan}");
            let key = server.issue("tiered", &format!("{owner}/etl"), &json!({}));
            server.sell("tiered", &owner, &json!({ "plan": plan }));
            let mut resets = Vec::new();
            for used in 1..4 {
                let reply = client(&server.url, &Ask::get("/tiered/account").bearer(&key.token));
                assert_eq!(reply.status, 200, "{name}");
                assert_eq!(reply.number("x-ratelimit-limit"), limit);
                assert_eq!(reply.number("x-ratelimit-remaining"), limit - used);
                let now = SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap();
                let reset = reply.number("x-ratelimit-reset");
                // Rounded up to a second.
                let hour = now.as_secs() + 3_601;
                assert!(reset > hour - 300 && reset <= hour, "{name}: {reset}");
                resets.push(reset);
            }
            // An hour after the first request, whatever came after it.
            resets.dedup();
            assert_eq!(resets.len(), 1, "{name}");
        }
    }
}

/// "Every response": on each to whom the key is known to be good, and on none else.
#[test]
fn refusals_to_a_good_key_say_what_is_left_too() {
    let server = Server::start();
    for (name, client) in clients() {
        let key = server.issue("tiered", name, &json!({ "quota": 1 }));
        let ask = |ask: Ask<'_>| client(&server.url, &ask.bearer(&key.token));
        // Neither is charged: nothing was served.
        for _ in 0..2 {
            let forbidden = ask(Ask::post("/tiered/items"));
            assert_eq!(forbidden.status, 403, "{name}");
            assert_eq!(forbidden.number("x-ratelimit-limit"), 1_000, "{name}");
            assert_eq!(forbidden.number("x-ratelimit-remaining"), 1_000, "{name}");
            assert!(forbidden.number("x-ratelimit-reset") > 0);
        }
        let foreign = ask(Ask::get("/tiered/owners/other"));
        assert_eq!(foreign.status, 403, "{name}");
        assert_eq!(foreign.number("x-ratelimit-limit"), 1_000, "{name}");
        let exhausted = ask(Ask::get("/tiered/account"));
        assert_eq!(exhausted.status, 429, "{name}");
        assert_eq!(exhausted.json()["error"], "quota_exceeded");
        // Of what refused it, and not of the hour, of which there is all: its quota of one,
        // which is never refilled.
        let exhausted = match exhausted.number("x-ratelimit-remaining") {
            0 => exhausted,
            left => panic!("{name}: {left} left, and refused"),
        };
        assert_eq!(exhausted.number("x-ratelimit-limit"), 1, "{name}");
        assert!(exhausted.header("x-ratelimit-reset").is_none(), "{name}");
        // Whoever may not know that a key is good is told nothing.
        server.revoke(&key);
        let revoked = ask(Ask::get("/tiered/account"));
        let unknown = client(&server.url, &Ask::get("/tiered/account").bearer("nonsense"));
        for reply in [revoked, unknown] {
            assert_eq!(reply.status, 401, "{name}");
            assert!(reply.header("x-ratelimit-limit").is_none(), "{reply:?}");
        }
    }
}

#[test]
fn a_tier_has_its_burst_and_what_is_over_it_waits() {
    if tools::find("curl").is_none() {
        return;
    }
    let server = Server::start();
    for (plan, burst, asked) in [
        ("free", 50, 150),
        ("pro", 200, 600),
        ("enterprise", 1_000, 300),
    ] {
        let key = server.issue("tiered", &format!("{plan}/etl"), &json!({}));
        server.sell("tiered", plan, &json!({ "plan": plan }));
        let replies = curl_often(&server.url, "/tiered/account", &key.token, asked);
        let granted = replies.iter().filter(|reply| reply.status == 200).count();
        assert!(granted >= burst.min(asked), "{plan}: {granted}");
        if plan == "enterprise" {
            assert_eq!(granted, asked, "no limit an hour");
            continue;
        }
        let over: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        assert!(
            !over.is_empty(),
            "{plan}: none of {asked} was over {burst} a second"
        );
        for reply in over {
            assert_eq!(reply.status, 429);
            let wait = reply.number("retry-after");
            assert!((1..=2).contains(&wait), "{wait}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(
                reply.json(),
                json!({
                    "error": "rate_limit_exceeded",
                    "message": format!("Rate limit exceeded. Try again in {wait} seconds."),
                })
            );
        }
        // Having waited, the caller goes on.
        std::thread::sleep(Duration::from_secs(2));
        let replies = curl_often(&server.url, "/tiered/account", &key.token, 1);
        assert_eq!(replies[0].status, 200, "{plan}");
    }
}
