//! The API with tiers.

use std::time::{Duration, SystemTime};

use gatekey_testkit::tools;
use serde_json::json;

use crate::client::{Ask, clients, curl, curl_often};
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

/// As the text says: no PKCE, no state, and a JSON body with the client's secret.
#[test]
fn an_application_gets_access_by_oauth_as_in_the_text() {
    if tools::find("curl").is_none() {
        return;
    }
    let server = Server::start();
    let cb = "https://app.example.com/cb";
    let key = server.issue(
        "tiered",
        "acme/alice",
        &json!({ "permissions": ["read", "write"] }),
    );
    let ask = Ask::post("/admin/clients").json(&json!({ "name": "<Reports>", "redirect_uri": cb }));
    let client = server.try_to_administer(ask).json();
    let id = client["client_id"].as_str().unwrap();
    let ask = |ask: Ask<'_>| curl(&server.url, &ask);

    // 1. The authorization code. The person logs in, with a key, and allows it on the page.
    let path = format!(
        "/tiered/oauth/authorize?client_id={id}\
         &redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb&response_type=code&scope=read%20write"
    );
    let login = ask(Ask::get(&path));
    assert_eq!(login.status, 303, "{login:?}");
    let login = login.header("location").unwrap().to_owned();
    let log_in = |key: &str| {
        let form = Ask {
            body: Some(format!("key={key}")),
            ..Ask::post(&login)
        };
        ask(form)
    };
    assert_eq!(log_in("tiered_no").status, 403);
    let logged_in = log_in(&key.token);
    assert_eq!(logged_in.header("location"), Some(path.as_str()));
    let cookie = logged_in.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let page = ask(Ask::get(&path).header("Cookie", cookie));
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("&lt;Reports&gt;") && page.body.contains("https://app.example.com"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let ticket = page.body.split("name=\"ticket\" value=\"").nth(1).unwrap();
    let ticket = ticket.split('"').next().unwrap();
    let allow = |cookie: &str| {
        let form = Ask {
            body: Some(format!("ticket={ticket}&s0=1&s1=1&answer=allow")),
            ..Ask::post("/tiered/oauth/authorize")
        };
        ask(form.header("Cookie", cookie))
    };
    assert_eq!(allow("session=another").status, 400);
    let another = log_in(&key.token);
    let another = another
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert_eq!(allow(another).status, 400);
    let redirect = allow(cookie);
    assert_eq!(redirect.status, 303, "{redirect:?}");
    let location = redirect.header("location").unwrap();
    let code = location.strip_prefix(&format!("{cb}?code=")).unwrap();
    let code = code.split('&').next().unwrap();
    assert_eq!(allow(cookie).status, 400, "a ticket is good once");
    // Whoever is not known is sent nowhere.
    let elsewhere = path.replace("app.example.com", "evil.example.com");
    let refused = ask(Ask::get(&elsewhere));
    assert_eq!((refused.status, refused.header("location")), (400, None));

    // 2. The exchange, of the members that the text has.
    let exchange = |code: &str| {
        ask(Ask::post("/tiered/oauth/token").json(&json!({
            "client_id": id,
            "client_secret": client["client_secret"],
            "code": code,
            "grant_type": "authorization_code",
            "redirect_uri": cb,
        })))
    };
    let refused = exchange("gkc_no");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"], "invalid_grant");
    assert!(refused.json()["message"].is_string());
    let tokens = exchange(code);
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(tokens.header("cache-control"), Some("no-store"));
    let tokens = tokens.json();

    // 3. The access token, which is limited as a key of the tier is.
    let account = |token: &str| ask(Ask::get("/tiered/account").bearer(token));
    let access = tokens["access_token"].as_str().unwrap();
    let reply = account(access);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["owner"], "acme/alice");
    assert_eq!(reply.number("x-ratelimit-limit"), 1000);
    // Refreshed, by a form.
    let form = format!(
        "grant_type=refresh_token&client_id={id}&client_secret={}&refresh_token={}",
        client["client_secret"].as_str().unwrap(),
        tokens["refresh_token"].as_str().unwrap()
    );
    let again = ask(Ask {
        body: Some(form),
        ..Ask::post("/tiered/oauth/token")
    });
    assert_eq!(
        again.json()["access_token"],
        tokens["access_token"],
        "within the window"
    );
    // A code that comes again takes away what came of it.
    assert_eq!(exchange(code).status, 400);
    let refused = account(access);
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (401, &json!("invalid_api_key"))
    );
    let metadata = ask(Ask::get("/.well-known/oauth-authorization-server/tiered")).json();
    assert_eq!(metadata["issuer"], format!("{}/tiered", server.url));
    assert_eq!(
        metadata["code_challenge_methods_supported"],
        json!(["S256"])
    );
}
