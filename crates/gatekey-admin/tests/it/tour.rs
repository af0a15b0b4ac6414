//! A tour of all endpoints: each does what it says, and answers as the document says.

use std::cell::RefCell;
use std::collections::BTreeSet;

use gatekey::{Engine, Options, Pepper};
use serde_json::{Value, json};

use crate::api::{Api, Reply, request, send};
use crate::document::{document, operations};
use crate::valid;

/// Asks, and holds each answer against the document.
pub(crate) struct Tour {
    pub(crate) api: Api,
    document: Value,
    pub(crate) seen: RefCell<BTreeSet<String>>,
}

impl Tour {
    pub(crate) fn of(api: Api) -> Self {
        Self {
            api,
            document: document(),
            seen: RefCell::default(),
        }
    }

    fn operation(&self, method: &str, path: &str) -> Value {
        let path = path.split('?').next().unwrap();
        let fits = |known: &str| {
            let (known, path) = (known.split('/'), path.split('/'));
            known.clone().count() == path.clone().count()
                && known.zip(path).all(|(a, b)| a == b || a.starts_with('{'))
        };
        let all = operations(&self.document);
        let exact = all.iter().find(|of| of.0 == method && of.1 == path);
        let found = exact.or_else(|| all.iter().find(|of| of.0 == method && fits(&of.1)));
        found.unwrap_or_else(|| panic!("{method} {path}")).2.clone()
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        let reply = self.api.ask(method, path, body);
        self.hold(method, path, &reply);
        reply
    }

    /// Holds an answer against the document.
    pub(crate) fn hold(&self, method: &str, path: &str, reply: &Reply) {
        let operation = self.operation(method, path);
        let told = &operation["responses"][reply.status.as_str()];
        assert!(
            told.is_object(),
            "{method} {path}: {} is not documented",
            reply.status
        );
        let told = match told["$ref"].as_str() {
            Some(link) => self.document.pointer(link.trim_start_matches('#')).unwrap(),
            None => told,
        };
        let kind = reply.headers["content-type"].to_str().unwrap();
        let content = &told["content"][kind];
        assert!(
            content.is_object(),
            "{method} {path}: {kind} is not documented"
        );
        if kind.ends_with("json") {
            valid::check(&self.document, &content["schema"], &reply.json())
                .unwrap_or_else(|why| panic!("{method} {path}: {why}: {}", reply.text()));
        }
        assert_eq!(reply.headers["cache-control"], "no-store");
        let name = operation["operationId"].as_str().unwrap().to_owned();
        if reply.status.is_success() {
            self.seen.borrow_mut().insert(name);
        }
    }

    pub(crate) fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.ask(method, path, body);
        assert!(
            reply.status.is_success(),
            "{method} {path}: {}",
            reply.text()
        );
        reply.json()
    }

    pub(crate) fn refused(&self, status: u16, code: &str, method: &str, path: &str, body: &Value) {
        let reply = self.ask(method, path, body);
        let found = (reply.status.as_u16(), reply.code());
        assert_eq!(
            found,
            (status, code.to_owned()),
            "{method} {path}: {}",
            reply.text()
        );
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

fn engine() -> Engine {
    let pepper = Pepper::new(7, "a pepper for the tests of the API").unwrap();
    Options::new().pepper(pepper).open_in_memory().unwrap()
}

#[test]
fn every_endpoint_does_what_it_says_and_answers_as_documented() {
    let tour = Tour::of(Api::over(engine()));
    let none = Value::Null;

    // Keyspaces.
    let keyspace = json!({
        "prefix": "acme_live",
        "description": "the API",
        "permissions": ["read", "write"],
        "keys_per_owner": {"many": {"cap": 9}},
        "default_lifetime": "P90D",
        "max_lifetime": "P365D",
        "max_grace": "P7D",
        "plans": [{"name": "free", "limits": [{"requests": 60, "window": "PT1M"}]}],
        "default_plan": "free",
        "owner_defaults": {"1": {"quota": {"requests": 100, "refill": "daily"}}},
    });
    let made = tour.done("POST", "/v1/keyspaces", &keyspace);
    assert_eq!(made["owner_defaults"]["1"]["quota"]["requests"], 100);
    assert_eq!(made["max_grace"], "P7D");
    tour.refused(409, "prefix_taken", "POST", "/v1/keyspaces", &keyspace);
    let changes = json!({
        "add_permissions": ["admin"],
        "max_grace": null,
        "owner_defaults": {"1": null},
    });
    let changed = tour.done("PATCH", "/v1/keyspaces/acme_live", &changes);
    assert_eq!(changed["max_grace"], Value::Null);
    assert_eq!(
        changed["default_lifetime"], "P90D",
        "what is left out stays"
    );
    assert_eq!(changed["owner_defaults"], json!({}));
    let listed = tour.done("GET", "/v1/keyspaces", &none);
    assert_eq!(listed["keyspaces"].as_array().unwrap().len(), 2);
    assert_eq!(tour.done("GET", "/v1/keyspaces/acme_live", &none), changed);
    tour.refused(404, "not_found", "GET", "/v1/keyspaces/acme_test", &none);

    // Keys.
    let asked = json!({
        "keyspace": "acme_live",
        "owner": "acme/ingest",
        "permissions": ["read"],
        "name": "nightly",
        "labels": {"env": "prod"},
        "expiry": {"after": "P7D"},
        "networks": ["192.0.2.0/24"],
        "quota": {"requests": 5},
    });
    let issued = tour.done("POST", "/v1/keys", &asked);
    let (id, token) = (text(&issued["key"]["id"]), text(&issued["token"]));
    assert!(token.starts_with("acme_live_"));
    assert_eq!(issued["key"]["permission_names"], json!(["read"]));
    assert_eq!(issued["key"]["created_by"], "ops");
    let show = format!("/v1/keys/{id}");
    assert_eq!(tour.done("GET", &show, &none)["labels"]["env"], "prod");
    tour.refused(404, "not_found", "GET", "/v1/keys/0000000000", &none);
    let found = tour.done("POST", "/v1/keys/find", &json!({"token": token}));
    assert_eq!(found["owner"], "acme/ingest");
    tour.refused(
        404,
        "not_found",
        "POST",
        "/v1/keys/find",
        &json!({"token": "no"}),
    );

    // Verification, and what it leaves.
    let verify = json!({"token": token, "source": "192.0.2.9", "permissions": ["read"], "keyspace": "acme_live"});
    let verdict = tour.done("POST", "/v1/verify", &verify);
    assert_eq!(verdict["granted"]["owner"], "acme/ingest");
    let elsewhere = json!({"token": token, "source": "198.51.100.1"});
    let verdict = tour.done("POST", "/v1/verify", &elsewhere);
    assert_eq!(verdict["denied"]["code"], "network_not_allowed");
    let usage = tour.done("GET", &format!("{show}/usage"), &none);
    assert_eq!(usage["usage"]["count"], 1);
    // The engine has a slice of the quota in memory.
    assert!(usage["quota"]["remaining"].as_u64().unwrap() <= 4);
    assert_eq!(usage["limits"][0]["remaining"], 59);
    let totals = tour.done("GET", "/v1/usage?owner_and_below=acme", &none);
    assert_eq!((&totals["keys"], &totals["count"]), (&json!(1), &json!(1)));
    tour.refused(400, "invalid", "GET", "/v1/usage", &none);
    let history = format!("/v1/usage/history?key={id}");
    let days = tour.done("GET", &history, &none);
    let counts = json!({"granted": 1, "network_not_allowed": 1});
    assert_eq!(days["bins"][0]["counts"], counts);
    tour.refused(400, "invalid", "GET", "/v1/usage/history", &none);
    let chart = tour.ask("GET", &format!("/v1/usage/chart?key={id}"), &none);
    assert!(chart.text().contains("1 granted, 1 denied"));
    let missing = "/v1/usage/history?key=0000000000";
    tour.refused(404, "not_found", "GET", missing, &none);
    tour.refused(
        404,
        "not_found",
        "GET",
        "/v1/usage?keyspace=acme_test",
        &none,
    );

    // Changes.
    let changes = json!({"name": null, "labels": {"env": null, "team": "data"}, "add_permissions": ["write"], "quota": null, "networks": []});
    let changed = tour.done("PATCH", &show, &changes);
    assert_eq!(changed["name"], Value::Null);
    assert_eq!(changed["labels"], json!({"team": "data"}));
    assert_eq!(changed["permission_names"], json!(["read", "write"]));
    assert_eq!(changed["quota"], Value::Null);
    assert_eq!(changed["plan"], "free", "what is left out stays");
    tour.refused(
        400,
        "unknown_permission",
        "PATCH",
        &show,
        &json!({"add_permissions": ["fly"]}),
    );
    let disabled = tour.done("POST", &format!("{show}/disable"), &none);
    assert_eq!(disabled["state"], "disabled");
    tour.refused(409, "disabled", "POST", &format!("{show}/rotate"), &none);
    let enabled = tour.done("POST", &format!("{show}/enable"), &json!({}));
    assert_eq!(enabled["state"], "active");
    let rotate = json!({"grace": "P1D", "changes": {"name": "second"}});
    let rotated = tour.done("POST", &format!("{show}/rotate"), &rotate);
    assert_eq!(rotated["old"]["state"], "retiring");
    assert_eq!(rotated["key"]["name"], "second");
    let second = format!("/v1/keys/{}", text(&rotated["key"]["id"]));
    tour.refused(
        409,
        "already_rotated",
        "POST",
        &format!("{show}/rotate"),
        &none,
    );
    let why = json!({"reason": "key_compromise", "note": "seen on a pastebin"});
    let revoked = tour.done("POST", &format!("{show}/revoke"), &why);
    assert_eq!(
        (&revoked["by"], &revoked["reason"]),
        (&json!("ops"), &json!("key_compromise"))
    );
    let leaked = json!({"token": rotated["token"], "reason": "key_compromise"});
    tour.done("POST", "/v1/keys/revoke", &leaked);
    assert_eq!(tour.done("GET", &second, &none)["state"], "revoked");
    tour.refused(409, "revoked", "PATCH", &second, &json!({"name": "x"}));
    let tried = json!({"token": rotated["token"]});
    tour.done("POST", "/v1/verify", &tried);
    let hints = tour.done("GET", "/v1/hints?limit=1000", &none);
    assert_eq!(hints["hints"][0]["rule"], "revoked_key_tried");
    assert_eq!(hints["hints"][0]["key"], rotated["key"]["id"]);
    tour.refused(400, "invalid", "GET", "/v1/hints?limit=0", &none);
    let history = tour.done("GET", &format!("{show}/history?limit=3"), &none);
    assert_eq!(history["entries"].as_array().unwrap().len(), 3);
    let next = format!("{show}/history?from={}", history["next"]);
    let history = tour.done("GET", &next, &none);
    assert_eq!(history["next"], Value::Null);
    let last = history["entries"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(last["event"]["note"], "seen on a pastebin");

    // Batches, and lists with cursors.
    let one = |owner: &str, env: &str| json!({"keyspace": "acme_live", "owner": owner, "labels": {"env": env}, "expiry": {"after": "P3D"}});
    let keys: Vec<Value> = (0..5)
        .map(|at| one(&format!("org{at}/bot"), "test"))
        .collect();
    let batch = tour.done("POST", "/v1/keys/batch", &json!({"keys": keys}));
    assert_eq!(batch["keys"].as_array().unwrap().len(), 5);
    let bad = json!({"keys": [one("a", "b"), {"keyspace": "acme_live", "owner": "a//b"}]});
    let reply = tour.ask("POST", "/v1/keys/batch", &bad);
    assert_eq!(
        (reply.status.as_u16(), reply.json()["index"].clone()),
        (400, json!(1))
    );
    let mut seen = BTreeSet::new();
    let mut path = "/v1/keys?keyspace=acme_live&limit=2".to_owned();
    loop {
        let page = tour.done("GET", &path, &none);
        seen.extend(
            page["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| text(&key["id"]).to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/keys?keyspace=acme_live&limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    for (query, count) in [
        ("state=revoked", 2),
        ("state=active", 5),
        ("owner=org1/bot", 1),
        ("owner=org1", 0),
        ("owner_and_below=org1", 1),
        ("label=env", 5),
        ("label=env%3Dtest&label=team", 0),
        ("label=team=data", 2),
        ("name=SECOND", 1),
        ("name=nobody", 0),
        ("expires_within=P4D", 5),
        ("expires_within=P1D", 0),
        ("expired=true", 0),
        ("disabled=true", 0),
        ("suspended=false&state=active", 5),
        ("pepper=7&state=active", 5),
        ("keyspace=acme_admin", 0),
    ] {
        let page = tour.done("GET", &format!("/v1/keys?{query}"), &none);
        assert_eq!(page["keys"].as_array().unwrap().len(), count, "{query}");
    }

    // Keys of other systems.
    let unkey = json!({"name": "unkey", "hash": "sha256", "starts_with": "uk_", "sunset": "2099-01-01T00:00:00Z"});
    let key = |owner: &str| json!({"keyspace": "acme_live", "owner": owner});
    let digest = "5a".repeat(32);
    let row = json!({"id": "k1", "digest": digest, "key": key("moved/bot")});
    let bad = json!({"digest": "5", "key": key("moved/bot")});
    let dry = json!({"import": unkey, "keys": [row, bad]});
    let dry = tour.done("POST", "/v1/imports/dry-run", &dry);
    assert_eq!(
        (&dry["keys"][0]["outcome"], &dry["keys"][1]["outcome"]),
        (&json!("imported"), &json!("refused"))
    );
    assert_eq!(tour.done("GET", "/v1/imports", &none)["imports"], json!([]));
    tour.done("POST", "/v1/imports", &unkey);
    let other = json!({"name": "unkey", "hash": "sha512"});
    tour.refused(409, "import_differs", "POST", "/v1/imports", &other);
    let rows = json!({"import": "unkey", "keys": [row, row, bad]});
    let rows = tour.done("POST", "/v1/imports/keys", &rows);
    let outcomes: Vec<&str> = rows["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(&row["outcome"]))
        .collect();
    assert_eq!(outcomes, ["imported", "present", "refused"]);
    let slow = json!({"name": "slow", "hash": "other"});
    tour.done("POST", "/v1/imports", &slow);
    let row = json!({"id": "7", "disabled": true, "key": key("moved/slow")});
    tour.done(
        "POST",
        "/v1/imports/keys",
        &json!({"import": "slow", "keys": [row]}),
    );
    let claim = json!({"import": "slow", "id": "7", "token": "a-token-of-old"});
    assert_eq!(
        tour.done("POST", "/v1/imports/claim", &claim)["state"],
        "disabled"
    );
    let again = json!({"import": "slow", "id": "7", "token": "another-of-old"});
    tour.refused(409, "not_claimable", "POST", "/v1/imports/claim", &again);
    let sunset = json!({"import": "unkey", "sunset": null});
    assert_eq!(
        tour.done("POST", "/v1/imports/sunset", &sunset)["sunset"],
        Value::Null
    );
    tour.refused(
        400,
        "invalid",
        "POST",
        "/v1/imports/sunset",
        &json!({"import": "unkey"}),
    );
    let imports = tour.done("GET", "/v1/imports", &none);
    assert_eq!(
        (
            &imports["imports"][0]["unseen"],
            &imports["imports"][1]["unseen"]
        ),
        (&json!(1), &json!(0))
    );
    let why = json!({"owner": "moved", "reason": "cessation"});
    assert_eq!(tour.done("POST", "/v1/owners/revoke", &why)["newly"], 2);

    // Owners.
    let dry = json!({"owner": "org1", "dry_run": true});
    assert_eq!(tour.done("POST", "/v1/owners/suspend", &dry)["keys"], 1);
    assert_eq!(
        tour.done("GET", "/v1/owners?owner=org1", &none)["suspended"],
        Value::Null
    );
    tour.done(
        "POST",
        "/v1/owners/suspend",
        &json!({"owner": "org1", "note": "unpaid"}),
    );
    let owner = tour.done("GET", "/v1/owners?owner=org1/bot", &none);
    assert_eq!(
        (&owner["suspended_above"], &owner["keys"]),
        (&json!("org1"), &json!(1))
    );
    let resumed = tour.done("POST", "/v1/owners/resume", &json!({"owner": "org1"}));
    assert_eq!(resumed["suspended"], Value::Null);
    let settings = json!({"keyspace": "acme_live", "owner": "org1", "plan": "free", "quota": {"requests": 9, "refill": {"monthly_from": 15}}, "cap": 3});
    assert_eq!(
        tour.done("PATCH", "/v1/owners/settings", &settings)["cap"],
        3
    );
    let cleared = json!({"keyspace": "acme_live", "owner": "org1", "cap": null});
    assert_eq!(
        tour.done("PATCH", "/v1/owners/settings", &cleared)["plan"],
        "free"
    );
    let shown = tour.done(
        "GET",
        "/v1/owners/settings?keyspace=acme_live&owner=org1",
        &none,
    );
    assert_eq!(shown["cap"], Value::Null);
    let unlimited =
        json!({"keyspace": "acme_live", "owner": "org1", "quota": "unlimited", "cap": "unlimited"});
    let changed = tour.done("PATCH", "/v1/owners/settings", &unlimited);
    assert_eq!(
        (&changed["quota"], &changed["cap"]),
        (&json!("unlimited"), &json!("unlimited"))
    );
    let listed = tour.done("GET", "/v1/keyspaces/acme_live/owners", &none);
    assert_eq!(listed["owners"][0]["owner"], "org1");
    let dry = json!({"owner": "org2", "dry_run": true});
    assert_eq!(tour.done("POST", "/v1/owners/revoke", &dry)["newly"], 1);
    let gone = tour.done(
        "POST",
        "/v1/owners/revoke",
        &json!({"owner": "org2", "reason": "cessation"}),
    );
    assert_eq!(
        (&gone["newly"], &gone["dry_run"]),
        (&json!(1), &json!(false))
    );
    let dry = tour.done(
        "POST",
        "/v1/keyspaces/acme_live/revoke",
        &json!({"dry_run": true}),
    );
    assert_eq!((&dry["keys"], &dry["newly"]), (&json!(9), &json!(4)));
    let gone = tour.done("POST", "/v1/keyspaces/acme_live/revoke", &json!({}));
    assert_eq!(gone["newly"], 4);

    // Care.
    assert_eq!(tour.done("GET", "/v1/health", &none)["is_well"], true);
    let stats = tour.done("GET", "/v1/stats", &none);
    assert_eq!(stats["keyspaces"]["acme_live"]["revoked"], 9);
    assert_eq!(
        tour.done("GET", "/v1/peppers", &none)["peppers"][0]["pepper"],
        7
    );
    tour.done("GET", "/v1/clock", &none);
    assert_eq!(tour.done("POST", "/v1/check", &none)["is_sound"], true);
    tour.done("POST", "/v1/repair", &none);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let dry = tour.done(
        "POST",
        "/v1/purge",
        &json!({"age": "PT0S", "dry_run": true}),
    );
    let done = tour.done("POST", "/v1/purge", &json!({"age": "PT0S"}));
    assert_eq!((&dry["keys"], &done["keys"]), (&json!(9), &json!(9)));
    tour.done("POST", "/v1/compact", &none);
    let metrics = tour.ask("GET", "/metrics", &none).text();
    assert!(metrics.contains("gatekey_keys{keyspace=\"acme_live\",state=\"active\"} 0\n"));
    assert!(!metrics.contains("acme/ingest") && !metrics.contains(id));
    assert_eq!(tour.done("GET", "/v1/openapi.json", &none), document());

    // The audit trail.
    let page = tour.done("GET", "/v1/audit?from=1&limit=2", &none);
    assert_eq!(page["next"], 3);
    tour.done("GET", "/v1/audit/span", &none);
    let export = tour.ask("GET", "/v1/audit/export", &none);
    let key = tour.done("POST", "/v1/audit/key", &none);
    let bytes: Vec<u8> = text(&key["key"])
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let key = gatekey::AuditKey::new(bytes.try_into().unwrap());
    let mut entries = 0;
    gatekey::verify_audit_export(export.bytes.as_slice(), &key, |_| {
        entries += 1;
        Ok(())
    })
    .unwrap();
    assert!(entries > 15, "{entries}");
    let trimmed = tour.done("POST", "/v1/audit/trim", &json!({"through": 3}));
    assert!(trimmed["removed"].as_u64().unwrap() > 0);
    tour.refused(404, "not_found", "GET", "/v1/audit?from=1", &none);

    let backup = tour.ask("GET", "/v1/backup", &none);
    assert!(backup.bytes.len() > 4096);

    let seen = crate::fleet::tour_of_a_fleet().seen.take();
    tour.seen.borrow_mut().extend(seen);
    let all: BTreeSet<String> = operations(&document())
        .iter()
        .map(|of| text(&of.2["operationId"]).to_owned())
        .collect();
    assert_eq!(*tour.seen.borrow(), all, "each endpoint was asked");
    tour.api.engine.clone().close().unwrap();
    let reply = send(&tour.api.router, request("GET", "/v1/stats", &none, None));
    assert_eq!(
        (reply.status.as_u16(), reply.code().as_str()),
        (503, "closed")
    );
}

/// What a stream holds is a store: it opens, and has what was there.
#[test]
fn a_backup_that_was_sent_opens_and_nothing_of_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let room = folder.path().join("room");
    std::fs::create_dir(&room).unwrap();
    let engine = Engine::create(folder.path().join("keys.redb")).unwrap();
    let admin = gatekey_admin::Admin::new(engine.clone()).backup_dir(&room);
    let all = gatekey_admin::Operator::with_all_rights("ops");
    let router = admin.router().layer(axum::Extension(all));
    let ask =
        |method: &str, path: &str, body: &Value| send(&router, request(method, path, body, None));
    ask("POST", "/v1/keyspaces", &json!({"prefix": "acme"}));
    let issued = ask(
        "POST",
        "/v1/keys",
        &json!({"keyspace": "acme", "owner": "a"}),
    )
    .json();
    let sent = ask("GET", "/v1/backup", &Value::Null);
    assert_eq!(sent.status, 200);
    assert_eq!(std::fs::read_dir(&room).unwrap().count(), 0);
    let metrics = ask("GET", "/metrics", &Value::Null).text();
    assert!(
        !metrics.contains("gatekey_backup_last_timestamp_seconds 0\n"),
        "{metrics}"
    );
    engine.close().unwrap();
    let copy = folder.path().join("copy.redb");
    std::fs::write(&copy, &sent.bytes).unwrap();
    let copy = Engine::open(copy).unwrap();
    assert!(copy.verify(text(&issued["token"])).unwrap().is_granted());
    assert!(copy.check().unwrap().is_sound());
    copy.close().unwrap();
}
