//! Events of `tracing`: what was asked by whom, and nothing that a request held.

use gatekey_testkit::events::Lines;
use serde_json::{Value, json};

use crate::api::Api;
use crate::document::{document, operations};
use crate::hostile::example;

/// A token, a name and a note that would be found if an event had them.
#[test]
fn events_say_who_did_what_and_hold_nothing_of_a_request() {
    // Alone in a process: what is logged at all is decided once for all threads.
    const ALONE: &str = "GATEKEY_EVENTS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "events::events_say_who_did_what_and_hold_nothing_of_a_request";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let status = alone
            .args(["--exact", name])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let (api, id, token) = Api::with_key();
    let (key_id, key) = api.admin_key(&["read", "revoke"]);
    let log = Lines::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let mut secrets = vec![token.clone(), key.clone(), "canary".to_owned()];
    for (method, path, operation) in operations(&document()) {
        let concrete = path.replace("{id}", &id).replace("{prefix}", "acme_live");
        let body = match operation["requestBody"].is_object() {
            true => example(operation["operationId"].as_str().unwrap(), &token),
            false => Value::Null,
        };
        for path in [concrete.clone(), format!("{concrete}?{token}=canary")] {
            let reply = api.ask_with(&key, &method, &path, &body);
            let answer = reply.json();
            secrets.extend(answer["token"].as_str().map(str::to_owned));
            api.ask(&method, &path, &body);
        }
        let reply = api.ask_with(&token, &method, &concrete, &body);
        assert_eq!(reply.status, 401);
    }
    let canary = json!({"reason": "cessation", "note": "canary"});
    api.ask_with(&key, "POST", &format!("/v1/keys/{id}/revoke"), &canary);
    drop(guard);
    let log = log.text();
    for line in [
        format!("INFO gatekey_admin message=done operation=\"revokeKey\" actor=\"key:{key_id}\""),
        format!("DEBUG gatekey_admin message=read operation=\"listKeys\" actor=\"key:{key_id}\""),
        format!(
            "WARN gatekey_admin message=refused operation=\"issueKey\" actor=\"key:{key_id}\" status=403 code=\"forbidden\""
        ),
    ] {
        assert!(log.contains(&line), "{line} is not in\n{log}");
    }
    for secret in secrets {
        let hidden = &secret[secret.len().saturating_sub(49)..];
        assert!(!log.contains(hidden), "{log}");
    }
}
