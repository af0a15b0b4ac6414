//! The document, and the router against it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::Api;
use crate::{hostile, valid};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

pub(crate) fn document() -> Value {
    serde_json::from_str(&gatekey_admin::openapi()).unwrap()
}

/// `(method, path, operation)` of all of them.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

/// `GATEKEY_WRITE=1 cargo test -p gatekey-admin document` writes it anew.
#[test]
fn the_committed_document_is_that_of_the_router() {
    let document = gatekey_admin::openapi();
    if std::env::var_os("GATEKEY_WRITE").is_some() {
        std::fs::write(COMMITTED, &document).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    assert!(
        committed == document,
        "docs/openapi.json is not what the router is; see the comment of this test"
    );
}

#[test]
fn every_operation_of_the_document_is_there_and_no_other_method() {
    let (api, _, _) = Api::with_key();
    let document = document();
    let mut names = BTreeSet::new();
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let concrete = path
            .replace("{id}", "0000000000")
            .replace("{prefix}", "none");
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            let reply = api.ask(method, &concrete, &json!({}));
            let is_there = methods.get(method.to_lowercase()).is_some();
            assert_eq!(
                reply.code() != "method_not_allowed",
                is_there,
                "{method} {path}"
            );
            if !is_there {
                assert_eq!(reply.status, 405);
                assert!(reply.headers.contains_key("allow"), "{method} {path}");
            }
            assert_ne!(reply.code(), "no_such_path", "{method} {path}");
        }
        for operation in methods.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].to_string()));
        }
    }
    assert!(names.len() > 35, "{names:?}");
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/keys/",
        "/v2/keys",
        "/v1/keys/a/b/c",
        "/admin",
    ] {
        let reply = api.ask("GET", path, &Value::Null);
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (404, "no_such_path"),
            "{path}"
        );
    }
}

#[test]
fn every_link_of_the_document_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let mut links = 0;
    for part in text.split(r##""$ref":"#"##).skip(1) {
        let link = part.split('"').next().unwrap();
        assert!(document.pointer(link).is_some(), "{link}");
        links += 1;
    }
    assert!(links > 50, "{links}");
}

/// Every member of every request, as the document has it, is one that is read: with its
/// own example it is not refused as unknown, and one letter more is.
#[test]
fn what_the_document_says_of_requests_is_what_is_read() {
    let document = document();
    let (api, id, token) = Api::with_key();
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(link) = schema["$ref"].as_str() else {
            continue;
        };
        let schema = document.pointer(link.trim_start_matches('#')).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{link}");
        let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        let none = serde_json::Map::new();
        for name in schema["properties"].as_object().unwrap_or(&none).keys() {
            let example = hostile::example(operation["operationId"].as_str().unwrap(), &token);
            let mut body = example.clone();
            body.as_object_mut().unwrap().remove(name);
            body[format!("{name}_")] = json!(1);
            let reply = api.ask(&method, &concrete, &body);
            assert_eq!(reply.status, 400, "{path} {name}");
            assert!(reply.text().contains("unknown field"), "{}", reply.text());
            let mut body = example;
            body[name] = json!({"no": {"such": ["form"]}});
            let reply = api.ask(&method, &concrete, &body);
            assert_eq!(reply.status, 400, "{path} {name}");
            assert!(
                !reply.text().contains(&format!("unknown field `{name}`")),
                "{path} documents {name}, and does not read it"
            );
        }
        let example = hostile::example(operation["operationId"].as_str().unwrap(), &token);
        valid::check(&document, schema, &example).unwrap_or_else(|why| panic!("{path}: {why}"));
    }
}
