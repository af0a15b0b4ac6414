//! Hostile input, over every endpoint: it is answered with a 4xx as the document says,
//! and changes nothing. What holds a token is not shown again.

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::api::{Api, Reply, request, send};
use crate::document::{document, operations};
use crate::tour::Tour;
use crate::valid;

/// A body that an endpoint takes.
pub(crate) fn example(operation: &str, token: &str) -> Value {
    match operation {
        "createKeyspace" => json!({"prefix": "other"}),
        "issueKey" => json!({"keyspace": "acme_live", "owner": "acme"}),
        "issueKeys" => json!({"keys": [{"keyspace": "acme_live", "owner": "acme"}]}),
        "findKey" | "revokeToken" | "verifyToken" => json!({"token": token}),
        "suspendOwner" | "resumeOwner" | "revokeOwner" => json!({"owner": "acme"}),
        "updateOwnerSettings" => json!({"keyspace": "acme_live", "owner": "acme"}),
        "purgeKeys" => json!({"age": "P30D"}),
        "beginImport" => json!({"name": "old", "hash": "plain"}),
        "importKeys" => json!({"import": "old", "keys": []}),
        "tryImport" => json!({"import": {"name": "old", "hash": "plain"}, "keys": []}),
        "setSunset" => json!({"import": "old", "sunset": null}),
        "claimKey" => json!({"import": "old", "id": "1", "token": "a-token-of-old"}),
        "trimAudit" => json!({"through": 0}),
        _ => json!({}),
    }
}

/// The requests of an endpoint, with a body, if it takes one.
struct Target {
    method: String,
    path: String,
    body: Option<Value>,
    required: Vec<String>,
}

fn targets(id: &str, token: &str) -> Vec<Target> {
    let all = operations(&document()).into_iter();
    all.map(|(method, path, operation)| {
        let name = operation["operationId"].as_str().unwrap();
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let required = parameters
            .iter()
            .filter(|of| of["in"] == "query" && of["required"] == true)
            .map(|of| of["name"].as_str().unwrap().to_owned())
            .collect();
        Target {
            path: path.replace("{id}", id).replace("{prefix}", "acme_live"),
            body: operation["requestBody"]
                .is_object()
                .then(|| example(name, token)),
            method,
            required,
        }
    })
    .collect()
}

fn raw(method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request
        .header("content-type", kind)
        .body(body.into())
        .unwrap()
}

fn is_refused(reply: &Reply, what: &str) {
    assert!(
        reply.status.is_client_error(),
        "{what}: {} {}",
        reply.status,
        reply.text()
    );
    assert_eq!(
        reply.headers["content-type"], "application/problem+json",
        "{what}"
    );
    assert!(reply.bytes.len() < 4_096, "{what}: {}", reply.text());
}

#[test]
fn bodies_that_are_not_of_their_form_are_refused_and_change_nothing() {
    let (api, id, token) = Api::with_key();
    let tour = Tour::of(api);
    let api = &tour.api;
    let deep = "[".repeat(100_000);
    let wide = format!(r#"{{"owner": "{}"}}"#, "a".repeat(100_000));
    let before = api.state();
    for target in targets(&id, &token) {
        let Some(body) = &target.body else { continue };
        let text = body.to_string();
        let mut more = body.clone();
        more["expiresIn"] = json!(60);
        let twice = format!(
            r#"{{"reason": "cessation", "reason": "cessation", {}"#,
            &text[1..]
        );
        let mut bodies: Vec<Vec<u8>> = vec![
            b"null".to_vec(),
            b"[]".to_vec(),
            b"7".to_vec(),
            b"\"text\"".to_vec(),
            format!("{text}{text}").into_bytes(),
            more.to_string().into_bytes(),
            twice.into_bytes(),
            deep.clone().into_bytes(),
            wide.clone().into_bytes(),
            vec![0; 1_000],
            vec![0xff; 1_000],
            format!("\u{feff}{text}").into_bytes(),
        ];
        // Cut off anywhere. Where nothing is left, some endpoints ask for nothing.
        bodies.extend((1..text.len()).map(|len| text.as_bytes()[..len].to_vec()));
        for bytes in bodies {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            let is_wide = bytes == wide.as_bytes();
            let reply = send(
                &api.router,
                raw(&target.method, &target.path, "application/json", bytes),
            );
            let what = format!("{} {} with {shown:?}", target.method, target.path);
            if is_wide && reply.status.is_success() {
                panic!("{what}");
            }
            is_refused(&reply, &what);
            tour.hold(&target.method, &target.path, &reply);
        }
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonp",
        ] {
            let reply = send(
                &api.router,
                raw(&target.method, &target.path, kind, text.clone()),
            );
            assert_eq!(reply.status, 415, "{} as {kind}", target.path);
        }
        let large = format!(r#"{{"x": "{}"}}"#, "a".repeat(9 << 20));
        let reply = send(
            &api.router,
            raw(&target.method, &target.path, "application/json", large),
        );
        assert_eq!(reply.status, 413, "{}", target.path);
        tour.hold(&target.method, &target.path, &reply);
    }
    assert_eq!(api.state(), before);
}

/// The members of a body, with the way to each and its form, as the document has them.
fn members(
    document: &Value,
    schema: &Value,
    at: &str,
    depth: usize,
    found: &mut Vec<(String, Value)>,
) {
    let schema = resolved(document, schema);
    let none = Map::new();
    for (name, form) in schema["properties"].as_object().unwrap_or(&none) {
        let at = format!("{at}/{name}");
        found.push((at.clone(), form.clone()));
        if depth > 0 {
            let form = resolved(document, form);
            members(document, form, &at, depth - 1, found);
            if form["items"].is_object() {
                members(
                    document,
                    &form["items"],
                    &format!("{at}/0"),
                    depth - 1,
                    found,
                );
            }
        }
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(link) => document.pointer(link.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Puts a value where a pointer leads, and makes what is not there on the way.
fn put(body: &mut Value, pointer: &str, value: &Value) {
    let mut place = body;
    for name in pointer.split('/').skip(1) {
        place = match name.parse::<usize>() {
            Ok(at) => {
                if place.as_array().is_none_or(|items| items.len() <= at) {
                    *place = json!([{}]);
                }
                &mut place[at]
            }
            Err(_) => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[name]
            }
        };
    }
    *place = value.clone();
}

/// Each member of each request, also of the keys of a batch and of an import, with a value of
/// each type that the document does not allow there.
#[test]
fn members_of_a_wrong_type_are_refused_and_change_nothing() {
    let (api, id, token) = Api::with_key();
    let document = document();
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!("text"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"no": {"such": "form"}}),
    ];
    let before = api.state();
    let mut asked = 0;
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_object() {
            continue;
        }
        let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        let body = example(operation["operationId"].as_str().unwrap(), &token);
        let mut found = Vec::new();
        members(&document, schema, "", 3, &mut found);
        for (pointer, form) in found {
            for value in &values {
                if valid::check(&document, &form, value).is_ok() {
                    continue;
                }
                let mut wrong = body.clone();
                put(&mut wrong, &pointer, value);
                let reply = api.ask(&method, &concrete, &wrong);
                is_refused(
                    &reply,
                    &format!("{method} {path} with {value} at {pointer}"),
                );
                asked += 1;
            }
        }
        assert_eq!(api.state(), before, "{method} {path} changed something");
    }
    assert!(asked > 1_000, "{asked}");
}

/// Of depths that are written in two ways, one would be lost.
#[test]
fn a_depth_is_written_as_one_digit_alone_and_an_error_says_which_was_given() {
    let (api, ..) = Api::with_key();
    let before = api.state();
    let made = |defaults: &str| {
        let body = format!(r#"{{"prefix": "other", "owner_defaults": {defaults}}}"#);
        let create = raw("POST", "/v1/keyspaces", "application/json", body);
        let body = format!(r#"{{"owner_defaults": {defaults}}}"#);
        let path = "/v1/keyspaces/acme_live";
        let change = raw("PATCH", path, "application/json", body);
        [create, change].map(|request| send(&api.router, request))
    };
    for depth in [
        "",
        "0",
        "9",
        "01",
        "+1",
        "-1",
        " 1",
        "1 ",
        "1.0",
        "1e0",
        "x",
        "18446744073709551617",
    ] {
        for reply in made(&format!(
            r#"{{"1": {{"cap": 5}}, "{depth}": {{"cap": 9}}}}"#
        )) {
            is_refused(&reply, depth);
            let told = format!(r#"\"{depth}\" is not a valid depth"#);
            assert!(reply.text().contains(&told), "{}", reply.text());
        }
    }
    for reply in made(r#"{"1": {"cap": 5}, "1": {"cap": 9}}"#) {
        is_refused(&reply, "twice");
    }
    assert_eq!(api.state(), before);
    for reply in made(r#"{"1": {"cap": 5}, "8": {"cap": 9}}"#) {
        assert!(reply.status.is_success(), "{}", reply.text());
        let made = reply.json();
        assert_eq!(made["owner_defaults"]["1"]["cap"], 5);
        assert_eq!(made["owner_defaults"]["8"]["cap"], 9);
    }
}

#[test]
fn of_a_number_that_is_no_cap_is_told_which_there_may_be() {
    let (api, ..) = Api::with_key();
    let before = api.state();
    let settings = |cap: Value| {
        let body = json!({"keyspace": "acme_live", "owner": "acme", "cap": cap});
        api.ask("PATCH", "/v1/owners/settings", &body)
    };
    for cap in [-1, i64::MIN, 1 << 32, i64::MAX] {
        let reply = settings(json!(cap));
        is_refused(&reply, "a cap");
        let told = "a whole number, 1 to 4,294,967,295";
        assert!(reply.text().contains(told), "{}", reply.text());
    }
    is_refused(&settings(json!(0)), "no key");
    is_refused(&settings(json!("5")), "a text");
    assert_eq!(api.state(), before);
    let reply = settings(json!(u32::MAX));
    assert_eq!(reply.json()["cap"], u32::MAX);
}

#[test]
fn paths_and_queries_that_are_not_of_their_form_are_refused_and_change_nothing() {
    let (api, id, token) = Api::with_key();
    let tour = Tour::of(api);
    let api = &tour.api;
    let before = api.state();
    let long = "a".repeat(5_000);
    let parts = [
        "%00",
        "%ff",
        "%2e%2e",
        "%2F",
        "..%2f",
        "a%20b",
        "%0d%0aX:1",
        &long,
        "%F0%9F%94%91",
        "-1",
        "0x",
        "*",
    ];
    for target in targets(&id, &token) {
        let body = target.body.clone().unwrap_or(Value::Null);
        for part in parts {
            for known in [&id[..], "acme_live"] {
                let path = target.path.replace(known, part);
                if path != target.path {
                    let reply = api.ask(&target.method, &path, &body);
                    is_refused(&reply, &format!("{} {path}", target.method));
                }
            }
            let with = |query: &str| {
                let path = format!("{}?{query}", target.path);
                let reply = api.ask(&target.method, &path, &body);
                let what = format!("{} {path}", target.method);
                is_refused(&reply, &what);
                tour.hold(&target.method, &path, &reply);
            };
            with(&format!("nothing={part}"));
            with(&format!("{part}=1"));
            for name in [
                "limit",
                "from",
                "after",
                "state",
                "expired",
                "pepper",
                "expires_within",
                "keyspace",
            ] {
                with(&format!("{name}={part}"));
            }
            with("limit=1&limit=2");
            with("limit=0");
            with("limit=1001");
            with("limit=+7");
            with("from=18446744073709551616");
        }
        if !target.required.is_empty() {
            is_refused(&api.ask(&target.method, &target.path, &body), &target.path);
        }
    }
    assert_eq!(api.state(), before);
}

/// A token in the wrong place is not shown again, neither by the answer to who asks nor to
/// whoever keeps answers.
#[test]
fn a_token_in_the_wrong_place_is_not_shown_again() {
    let (api, id, token) = Api::with_key();
    let secret = token.split('_').next_back().unwrap();
    for target in targets(&id, &token) {
        let mut asks = vec![(format!("{}?{token}=1", target.path), target.body.clone())];
        asks.push((
            format!("{}?keyspace={token}", target.path),
            target.body.clone(),
        ));
        asks.push((target.path.replace(&id, &token), target.body.clone()));
        if let Some(body) = &target.body {
            let mut unknown = body.clone();
            unknown[token.as_str()] = json!(1);
            asks.push((target.path.clone(), Some(unknown)));
            for name in [
                "keyspace",
                "owner",
                "reason",
                "expiry",
                "age",
                "through",
                "plan",
                "permissions",
                "name",
            ] {
                let mut wrong = body.clone();
                wrong[name] = json!([token]);
                asks.push((target.path.clone(), Some(wrong)));
                let mut wrong = body.clone();
                wrong[name] = json!(token);
                asks.push((target.path.clone(), Some(wrong)));
            }
        }
        for (path, body) in asks {
            let reply = api.ask(&target.method, &path, &body.unwrap_or(Value::Null));
            if reply.status.is_client_error() {
                let text = reply.text();
                assert!(!text.contains(secret), "{} {path}: {text}", target.method);
                assert!(
                    !text.contains(&secret[..20]),
                    "{} {path}: {text}",
                    target.method
                );
            }
        }
    }
}

/// A value of any form.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("P1D")),
        Just(json!("acme_live")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,10}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 96 }))]
    /// Members that the document names, with any values: never a failure of the server,
    /// and always an answer of the document's.
    #[test]
    fn no_request_makes_the_server_fail(
        values in prop::collection::vec(any_json(), 1..6),
        seed in any::<prop::sample::Index>(),
        query in "[ -~]{0,30}",
    ) {
        let (api, id, token) = Api::with_key();
        let tour = Tour::of(api);
        let document = document();
        let all = operations(&document);
        // Each case asks a third of the endpoints: all would take their time.
        for (at, (method, path, operation)) in all.iter().enumerate() {
            if at % 3 != seed.index(3) {
                continue;
            }
            let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let mut body = Value::Null;
            if let Some(link) = schema["$ref"].as_str() {
                let schema = document.pointer(link.trim_start_matches('#')).unwrap();
                let none = Map::new();
                let names: Vec<_> = schema["properties"].as_object().unwrap_or(&none).keys().collect();
                body = example(operation["operationId"].as_str().unwrap(), &token);
                for (value, name) in values.iter().zip(names.iter().cycle().skip(seed.index(names.len().max(1)))) {
                    body[name.as_str()] = value.clone();
                }
            }
            let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
            for path in [concrete.clone(), format!("{concrete}?{query}")] {
                let before = tour.api.state();
                let reply = send(&tour.api.router, request(method, &path, &body, None));
                if reply.status.is_client_error() {
                    prop_assert_eq!(tour.api.state(), before, "{} {}", method, path);
                }
                prop_assert!(!reply.status.is_server_error(), "{} {}: {}", method, path, reply.text());
                tour.hold(method, &path, &reply);
            }
        }
    }
}
