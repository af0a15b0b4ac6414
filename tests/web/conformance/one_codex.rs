//! One Codex.

use serde_json::json;

use crate::client::{Ask, clients};
use crate::server::Server;

#[test]
fn basic_with_an_empty_password_and_the_header_are_equivalent() {
    let server = Server::start();
    let key = server.issue("onecodex", "lab", &json!({}));
    for (name, client) in clients() {
        let basic = Ask::get("/one-codex/account").user(format!("{}:", key.token));
        let header = Ask::get("/one-codex/account").header("X-API-Key", &key.token);
        for ask in [basic, header] {
            let reply = client(&server.url, &ask);
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(reply.json()["owner"], "lab");
        }
        let both = Ask::get("/one-codex/account")
            .user(format!("{}:", key.token))
            .header("X-API-Key", &key.token);
        assert_eq!(
            client(&server.url, &both).status,
            400,
            "{name}: never a guess"
        );
        let password = Ask::get("/one-codex/account").user(format!("{}:secret", key.token));
        assert_eq!(client(&server.url, &password).status, 401, "{name}");
    }
}

#[test]
fn who_presents_no_key_sees_what_is_public() {
    let server = Server::start();
    for (name, client) in clients() {
        let reply = client(&server.url, &Ask::get("/one-codex/public"));
        assert_eq!(reply.status, 200, "{name}");
        assert_eq!(reply.json()["owner"], json!(null));
    }
}

#[test]
fn who_presents_no_key_at_a_protected_route_is_unauthorized() {
    let server = Server::start();
    for (name, client) in clients() {
        let reply = client(&server.url, &Ask::get("/one-codex/account"));
        assert_eq!(reply.status, 401, "{name}");
        assert!(
            reply
                .header("www-authenticate")
                .unwrap()
                .starts_with("Basic")
        );
        assert_eq!(
            reply.json(),
            json!({
                "message": "The server could not verify that you are authorized to access the \
                            URL requested.  You either supplied the wrong credentials (e.g. a \
                            bad password), or your browser doesn't understand how to supply the \
                            credentials required.",
                "status": 401,
            })
        );
    }
}

#[test]
fn who_may_not_is_forbidden_and_what_is_private_is_not_found() {
    let server = Server::start();
    let key = server.issue("onecodex", "lab", &json!({ "permissions": ["read"] }));
    for (name, client) in clients() {
        let ask = |ask: Ask<'_>| client(&server.url, &ask.header("X-API-Key", &key.token));
        assert_eq!(ask(Ask::post("/one-codex/items")).status, 403, "{name}");
        assert_eq!(ask(Ask::get("/one-codex/owners/lab")).status, 200, "{name}");
        assert_eq!(
            ask(Ask::get("/one-codex/owners/other")).status,
            404,
            "{name}"
        );
        let anonymous = client(&server.url, &Ask::get("/one-codex/owners/lab"));
        assert_eq!(
            anonymous.status, 404,
            "{name}: hidden from anonymous callers too"
        );
        // Where a thing does not exist, nothing else is said.
        assert_eq!(
            ask(Ask::get("/one-codex/owners/nobody")).status,
            404,
            "{name}"
        );
    }
}

#[test]
fn a_new_key_revokes_the_old_one() {
    let server = Server::start();
    for (name, client) in clients() {
        let status = |token: &str| {
            let ask = Ask::get("/one-codex/account").header("X-API-Key", token);
            client(&server.url, &ask).status
        };
        let old = server.issue("onecodex", "lab", &json!({}));
        assert_eq!(status(&old.token), 200, "{name}");
        let new = server.issue("onecodex", "lab", &json!({}));
        assert_eq!(status(&old.token), 401, "{name}");
        assert_eq!(status(&new.token), 200, "{name}");
        assert_eq!(server.show(&old)["state"], "revoked");
    }
}

#[test]
fn a_key_is_exchanged_for_a_jwt_whose_revocation_is_immediate() {
    let server = Server::start();
    for (name, client) in clients() {
        let key = server.issue("onecodex", "lab", &json!({ "permissions": ["read"] }));
        let exchange = Ask::post("/one-codex/jwt").user(format!("{}:", key.token));
        let exchanged = client(&server.url, &exchange);
        assert_eq!(exchanged.status, 200, "{name}");
        let jwt = exchanged.json()["token"].as_str().unwrap().to_owned();
        let status = |ask: Ask<'_>| client(&server.url, &ask).status;
        let account = |jwt: &str| status(Ask::get("/one-codex/account").bearer(jwt));
        for _ in 0..2 {
            let reply = client(&server.url, &Ask::get("/one-codex/account").bearer(&jwt));
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(reply.json()["owner"], "lab");
            assert_eq!(reply.json()["key"], key.id);
        }
        let in_the_keys_place = Ask::get("/one-codex/account").header("X-API-Key", &jwt);
        assert_eq!(status(in_the_keys_place), 200, "{name}");
        // It may do what its key may do.
        assert_eq!(status(Ask::post("/one-codex/items").bearer(&jwt)), 403);
        assert_eq!(status(Ask::get("/one-codex/owners/lab").bearer(&jwt)), 200);
        assert_eq!(
            status(Ask::get("/one-codex/owners/other").bearer(&jwt)),
            404
        );
        // It is good in no other system, and is not exchanged for a later one.
        assert_eq!(status(Ask::get("/tiered/account").bearer(&jwt)), 401);
        assert_eq!(status(Ask::post("/one-codex/jwt").bearer(&jwt)), 401);
        assert_eq!(status(Ask::post("/one-codex/jwt")), 401);
        let forged = format!("{}A", jwt);
        let refused = client(&server.url, &Ask::get("/one-codex/account").bearer(&forged));
        assert_eq!(refused.status, 401, "{name}");
        assert_eq!(refused.json()["status"], 401);

        server.issue("onecodex", "lab", &json!({}));
        assert_eq!(
            account(&jwt),
            401,
            "{name}: the new key revoked the old one"
        );
    }
}
