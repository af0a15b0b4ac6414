//! What an operator may do. SECURITY.md has the table; each of its rows is a test here.

use serde_json::{Value, json};

use crate::api::{ADMIN, Api};
use crate::document::{document, operations};
use crate::hostile::example;

const RIGHTS: [&str; 4] = ["read", "issue", "revoke", "administer"];

/// Each endpoint, for each right: refused with 403 for every right but its own, and
/// without a key with 401; nothing is changed by what is refused.
#[test]
fn each_endpoint_takes_its_right_and_no_other() {
    let (api, id, token) = Api::with_key();
    let keys: Vec<String> = RIGHTS
        .iter()
        .map(|right| api.admin_key(&[right]).1)
        .collect();
    let (_, without) = api.admin_key(&[]);
    for (method, path, operation) in operations(&document()) {
        let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        let right = operation["x-right"].as_str().unwrap();
        let body = match operation["requestBody"].is_object() {
            true => example(operation["operationId"].as_str().unwrap(), &token),
            false => Value::Null,
        };
        let before = api.state();
        for (has, key) in RIGHTS.iter().zip(&keys) {
            if *has == right {
                continue;
            }
            let reply = api.ask_with(key, &method, &concrete, &body);
            let found = (reply.status.as_u16(), reply.code());
            assert_eq!(
                found,
                (403, "forbidden".to_owned()),
                "{method} {path} with {has}"
            );
            // Nothing is read of what somebody sends who may not.
            let wrong = json!([[7, {"no": "such form"}], "a".repeat(200_000)]);
            let reply = api.ask_with(key, &method, &format!("{concrete}?nothing=7"), &wrong);
            assert_eq!(reply.status, 403, "{method} {path} with {has}");
        }
        let reply = api.ask_with(&without, &method, &concrete, &body);
        assert_eq!(reply.status, 403, "{method} {path} with no right");
        for bad in ["", "no token", &token] {
            let reply = api.ask_with(bad, &method, &concrete, &body);
            assert_eq!(reply.status, 401, "{method} {path} with {bad:?}");
            assert!(reply.headers.contains_key("www-authenticate"));
        }
        assert_eq!(api.state(), before, "{method} {path} changed something");
    }
    for path in ["/", "/v1/nothing"] {
        let reply = api.ask_with("", "GET", path, &Value::Null);
        assert_eq!(reply.status, 401, "{path} is told apart without a key");
    }
}

/// Each endpoint is served to whoever has its right alone.
#[test]
fn each_endpoint_serves_who_has_its_right() {
    for (method, path, operation) in operations(&document()) {
        let (api, id, token) = Api::with_key();
        let (_, key) = api.admin_key(&[operation["x-right"].as_str().unwrap()]);
        let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        let body = match operation["requestBody"].is_object() {
            true => example(operation["operationId"].as_str().unwrap(), &token),
            false => Value::Null,
        };
        let status = api
            .ask_with(&key, &method, &concrete, &body)
            .status
            .as_u16();
        assert!(!matches!(status, 401 | 403), "{method} {path}: {status}");
    }
}

const SECURITY: &str = include_str!("../../../../SECURITY.md");

/// The cells of the rows of the table whose head begins with some cells.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = SECURITY.split_once(head).unwrap();
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What a cell has between backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// SECURITY.md has each operation of the document under its right, and no other, and a test
/// that is here for each right.
#[test]
fn the_table_of_what_an_operator_may_do_has_every_operation() {
    let rights = table("| right | allows | does not allow | test |");
    let found: Vec<&str> = rights.iter().flat_map(|row| names(row[0])).collect();
    assert_eq!(found, RIGHTS);
    let source = include_str!("rights.rs");
    for row in &rights {
        let [test] = names(row[3])[..] else {
            panic!("{row:?} names no test");
        };
        let name = test.strip_prefix("rights::").unwrap();
        assert!(source.contains(&format!("#[test]\nfn {name}()")), "{test}");
    }
    let mut documented: Vec<(String, String)> = operations(&document())
        .iter()
        .map(|(_, _, operation)| {
            let text = |name: &str| operation[name].as_str().unwrap().to_owned();
            (text("x-right"), text("operationId"))
        })
        .collect();
    let mut written = Vec::new();
    for row in table("| right | operations |") {
        let [right] = names(row[0])[..] else {
            panic!("{row:?} names no right");
        };
        let operations = names(row[1]).into_iter();
        written.extend(operations.map(|operation| (right.to_owned(), operation.to_owned())));
    }
    documented.sort();
    written.sort();
    assert_eq!(written, documented);
}

fn allowed(right: &str, method: &str, path: &str, body: &Value) {
    let (api, id, token) = Api::with_key();
    let (key_id, key) = api.admin_key(&[right]);
    let path = path.replace("{id}", &id);
    let text = body.to_string().replace("{token}", &token);
    let reply = api.ask_with(&key, method, &path, &text.parse().unwrap());
    assert!(reply.status.is_success(), "{path}: {}", reply.text());
    if method != "GET" && !path.ends_with("/find") && !path.ends_with("/verify") {
        let last = api.engine.audit(0).last().unwrap().unwrap();
        assert_eq!(
            last.actor.as_deref(),
            Some(format!("key:{key_id}").as_str())
        );
    }
}

#[test]
fn who_may_read_sees_keys_and_the_trail_and_verifies() {
    for path in [
        "/v1/keys",
        "/v1/keys/{id}",
        "/v1/audit",
        "/v1/stats",
        "/metrics",
        "/v1/keyspaces",
    ] {
        allowed("read", "GET", path, &Value::Null);
    }
    allowed(
        "read",
        "POST",
        "/v1/keys/find",
        &json!({"token": "{token}"}),
    );
    allowed("read", "POST", "/v1/verify", &json!({"token": "{token}"}));
}

#[test]
fn who_may_issue_gives_access() {
    let new = json!({"keyspace": "acme_live", "owner": "a"});
    allowed("issue", "POST", "/v1/keys", &new);
    allowed("issue", "POST", "/v1/keys/batch", &json!({"keys": [new]}));
    allowed("issue", "POST", "/v1/keys/{id}/rotate", &Value::Null);
    allowed("issue", "PATCH", "/v1/keys/{id}", &json!({"name": "x"}));
}

#[test]
fn who_may_revoke_takes_access_away() {
    allowed(
        "revoke",
        "POST",
        "/v1/keys/{id}/revoke",
        &json!({"reason": "cessation"}),
    );
    allowed(
        "revoke",
        "POST",
        "/v1/keys/revoke",
        &json!({"token": "{token}"}),
    );
    allowed("revoke", "POST", "/v1/keys/{id}/disable", &Value::Null);
    allowed(
        "revoke",
        "POST",
        "/v1/owners/suspend",
        &json!({"owner": "acme"}),
    );
    allowed(
        "revoke",
        "POST",
        "/v1/owners/revoke",
        &json!({"owner": "acme"}),
    );
    allowed(
        "revoke",
        "POST",
        "/v1/keyspaces/acme_live/revoke",
        &json!({}),
    );
}

#[test]
fn who_may_administer_cares_for_the_store() {
    allowed(
        "administer",
        "POST",
        "/v1/keyspaces",
        &json!({"prefix": "b"}),
    );
    allowed(
        "administer",
        "PATCH",
        "/v1/keyspaces/acme_live",
        &json!({"description": "x"}),
    );
    let settings = json!({"keyspace": "acme_live", "owner": "acme", "cap": 2});
    allowed("administer", "PATCH", "/v1/owners/settings", &settings);
    let import = json!({"name": "old", "hash": "plain"});
    allowed("administer", "POST", "/v1/imports", &import);
    let (api, _, _) = Api::with_key();
    let (_, key) = api.admin_key(&["administer"]);
    // Alone, there is no log to put it into; the right was enough to learn that.
    let snapshot = api.ask_with(&key, "POST", "/v1/fleet/snapshot", &Value::Null);
    assert_eq!(
        (snapshot.status.as_u16(), snapshot.code()),
        (409, "alone".to_owned())
    );
    for path in ["/v1/check", "/v1/purge"] {
        let body = json!({"age": "P1D"});
        let body = if path == "/v1/purge" {
            body
        } else {
            Value::Null
        };
        assert_eq!(
            api.ask_with(&key, "POST", path, &body).status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        api.ask_with(&key, "GET", "/v1/backup", &Value::Null).status,
        200
    );
}

/// Whoever may issue could issue an admin key for themselves, and whoever may revoke could
/// lock the administrators out.
#[test]
fn whatever_touches_admin_keys_takes_the_right_to_administer() {
    let (api, _, _) = Api::with_key();
    let (_, few) = api.admin_key(&["read", "issue", "revoke"]);
    let (victim, token) = api.admin_key(&["administer"]);
    let new = json!({"keyspace": ADMIN, "owner": "eve", "permissions": ["administer"]});
    let plain = json!({"keyspace": "acme_live", "owner": "eve"});
    let asks = [
        ("POST", "/v1/keys".to_owned(), new.clone()),
        (
            "POST",
            "/v1/keys/batch".to_owned(),
            json!({"keys": [plain, new]}),
        ),
        (
            "PATCH",
            format!("/v1/keys/{victim}"),
            json!({"add_permissions": ["issue"]}),
        ),
        ("POST", format!("/v1/keys/{victim}/rotate"), Value::Null),
        ("POST", format!("/v1/keys/{victim}/disable"), Value::Null),
        ("POST", format!("/v1/keys/{victim}/enable"), Value::Null),
        ("POST", format!("/v1/keys/{victim}/revoke"), Value::Null),
        (
            "POST",
            "/v1/keys/revoke".to_owned(),
            json!({"token": token}),
        ),
        (
            "POST",
            "/v1/owners/suspend".to_owned(),
            json!({"owner": "ops"}),
        ),
        (
            "POST",
            "/v1/owners/suspend".to_owned(),
            json!({"owner": "ops/robot"}),
        ),
        (
            "POST",
            "/v1/owners/resume".to_owned(),
            json!({"owner": "ops"}),
        ),
        (
            "POST",
            "/v1/owners/revoke".to_owned(),
            json!({"owner": "ops"}),
        ),
        ("POST", format!("/v1/keyspaces/{ADMIN}/revoke"), json!({})),
    ];
    let before = api.state();
    for (method, path, body) in &asks {
        let reply = api.ask_with(&few, method, path, body);
        assert_eq!(reply.status, 403, "{method} {path}: {}", reply.text());
    }
    assert_eq!(api.state(), before);
    let (_, all) = api.admin_key(&RIGHTS);
    let reply = api.ask_with(&all, "POST", "/v1/keys", &asks[0].2);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let reply = api.ask_with(
        &few,
        "POST",
        "/v1/owners/suspend",
        &json!({"owner": "acme"}),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// A keyspace of customers whose permissions happen to be named `read` and `administer`
/// does not become one of admin keys.
#[test]
fn a_keyspace_of_another_kind_is_not_taken_for_one_of_admin_keys() {
    let engine = gatekey::Engine::open_in_memory().unwrap();
    let new = |names: &[&str]| {
        let prefix = format!("k{}", engine.keyspaces().unwrap().len());
        let new = gatekey::NewKeyspace::new(prefix).unwrap();
        let made = engine.create_keyspace(new.permissions(names.iter().copied()));
        made.unwrap().prefix
    };
    for names in [
        &[][..],
        &["read"],
        &["read", "issue", "revoke", "administer", "more"],
    ] {
        let prefix = new(names);
        let admin = gatekey_admin::Admin::new(engine.clone()).admin_keyspace(prefix);
        assert!(admin.is_err(), "{names:?}");
    }
    let prefix = new(&["administer", "read", "revoke", "issue"]);
    gatekey_admin::ensure_admin_keyspace(&engine, prefix).unwrap();
    engine.close().unwrap();
}

#[test]
fn an_admin_key_that_is_revoked_or_bound_elsewhere_is_refused() {
    let (api, _, _) = Api::with_key();
    let (id, key) = api.admin_key(&["read"]);
    assert_eq!(
        api.ask_with(&key, "GET", "/v1/stats", &Value::Null).status,
        200
    );
    api.done(
        "PATCH",
        &format!("/v1/keys/{id}"),
        &json!({"networks": ["192.0.2.0/24"]}),
    );
    // No address is known here.
    assert_eq!(
        api.ask_with(&key, "GET", "/v1/stats", &Value::Null).status,
        403
    );
    api.done("PATCH", &format!("/v1/keys/{id}"), &json!({"networks": []}));
    assert_eq!(
        api.ask_with(&key, "GET", "/v1/stats", &Value::Null).status,
        200
    );
    api.done("POST", &format!("/v1/keys/{id}/revoke"), &Value::Null);
    assert_eq!(
        api.ask_with(&key, "GET", "/v1/stats", &Value::Null).status,
        401
    );
}
