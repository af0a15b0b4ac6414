//! Asking again where an answer was lost.

use serde_json::{Value, json};

use crate::api::{Api, Reply, request, send};

fn ask(api: &Api, path: &str, body: &Value, name: &str) -> Reply {
    let mut request = request("POST", path, body, None);
    let value = name.parse().unwrap();
    request.headers_mut().insert("idempotency-key", value);
    send(&api.router, request)
}

#[test]
fn an_issue_that_is_asked_again_leaves_one_key_and_a_token_that_works() {
    let (api, id, _) = Api::with_key();
    let new = json!({"keyspace": "acme_live", "owner": "b"});
    for (path, body) in [
        ("/v1/keys".to_owned(), new.clone()),
        ("/v1/keys/batch".to_owned(), json!({"keys": [new]})),
        (format!("/v1/keys/{id}/rotate"), json!({"grace": "PT1H"})),
    ] {
        let token = |reply: &Reply| {
            let answer = reply.json();
            let of_batch = answer["keys"][0]["token"].as_str().map(str::to_owned);
            of_batch.unwrap_or_else(|| answer["token"].as_str().unwrap().to_owned())
        };
        let name = format!("request-to-{path}");
        let (lost, again) = (
            ask(&api, &path, &body, &name),
            ask(&api, &path, &body, &name),
        );
        assert_eq!(
            (lost.status.as_u16(), again.status.as_u16()),
            (201, 201),
            "{path}: {}",
            again.text()
        );
        let granted = |reply: &Reply| api.engine.verify(token(reply)).unwrap().is_granted();
        assert!(!granted(&lost) && granted(&again), "{path}");
        let used = ask(&api, &path, &body, &name);
        assert_eq!(
            (used.status.as_u16(), used.code().as_str()),
            (409, "already_answered")
        );
        let mut other = body.clone();
        match other.get_mut("keys") {
            Some(keys) => keys[0]["name"] = json!("other"),
            None if path.ends_with("rotate") => other["grace"] = json!("PT2H"),
            None => other["name"] = json!("other"),
        }
        let other = ask(&api, &path, &other, &name);
        assert_eq!(
            (other.status.as_u16(), other.code().as_str()),
            (409, "another_request"),
            "{path}"
        );
    }
}

#[test]
fn a_name_of_a_request_that_is_not_of_its_form_is_refused() {
    let (api, _, _) = Api::with_key();
    let new = json!({"keyspace": "acme_live", "owner": "b"});
    let before = api.state();
    for bad in ["", "two words", &"k".repeat(256)] {
        assert_eq!(ask(&api, "/v1/keys", &new, bad).status, 400, "{bad:?}");
    }
    let mut twice = request("POST", "/v1/keys", &new, None);
    for name in ["a", "b"] {
        twice
            .headers_mut()
            .append("idempotency-key", name.parse().unwrap());
    }
    assert_eq!(send(&api.router, twice).status, 400);
    assert_eq!(api.state(), before);
}
