//! What `tracing` hears of the pages: who changed what, and neither token nor cookie.

use gatekey_testkit::events::Lines;

use super::operators::{Desk, borrowed, concrete, form};
use super::*;

#[test]
fn no_event_has_a_token_a_cookie_or_what_was_typed() {
    // Alone in a process: what is logged at all is decided once for all threads.
    const ALONE: &str = "GATEKEY_EVENTS_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "tests::events::no_event_has_a_token_a_cookie_or_what_was_typed";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let alone = alone.args(["--exact", name]).env(ALONE, "1");
        assert!(alone.status().unwrap().success());
        return;
    }
    let log = Lines::default();
    // For all threads: the pages ask the engine on others.
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let desk = Desk::new();
    let (admin, session) = desk.all();
    let key = desk.house.key("acme", &["read"]);
    let mut secrets = vec![admin.token.expose().to_owned()];
    secrets.push(key.token.expose().to_owned());
    secrets.push(session.split_once('=').unwrap().1.to_owned());
    // An operator finds a token that was pasted, also with what is not one, and asks for
    // every page and every change.
    for asked in [key.token.expose(), "canary", "acme_live_canary"] {
        desk.post(&session, "/find", &[("q", asked)]);
    }
    let mut filled = form(&key);
    filled.push(("note", "canary".to_owned()));
    for (method, path) in crate::operator::paths() {
        // The log-out comes last.
        if path.ends_with("logout") {
            continue;
        }
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => desk.post(&session, &at, &borrowed(&filled)),
            _ => desk.get(&session, &format!("{}?canary", at.trim_end_matches('/'))),
        };
        if seen.shows_a_token() {
            secrets.push(seen.token());
        }
    }
    // A customer makes a key and rotates it.
    let pages = desk.house.pages("umbrella", House::ceiling());
    let number = get(&pages, "/settings/keys/new?keyspace=acme_live").hidden("number");
    let made = post(&pages, "/settings/keys/new", &House::wish(&number)).token();
    let id = desk.house.engine.find_by_token(&made).unwrap().unwrap().id;
    let at = format!("/settings/keys/keys/{id}/rotate");
    let rotation = get(&pages, &at);
    let [seen, number] = [rotation.hidden("seen"), rotation.hidden("number")];
    let pairs = [("seen", seen.as_str()), ("number", &number), ("grace", "0")];
    let rotated = post(&pages, &at, &pairs);
    secrets.extend([made, rotated.token()]);
    post(&desk.pages, "/console/login", &[("admin_key", "canary")]);
    desk.post(&session, "/logout", &[]);
    let log = log.text();
    let operator = format!("key:{}", admin.key.id);
    for (change, actor) in [
        ("KeyIssued", operator.as_str()),
        ("OwnerSuspended", &operator),
        ("KeysRevoked", &operator),
        ("KeyRotated", "user of umbrella"),
    ] {
        let line = format!("change={change:?} actor={actor:?}");
        assert!(log.contains(&line), "{line} is not in\n{log}");
    }
    secrets.push("canary".to_owned());
    for secret in secrets {
        // Of a token what is no secret may be there: its prefix and its key's id.
        let hidden = &secret[secret.len().saturating_sub(49)..];
        assert!(!log.contains(hidden), "{log}");
    }
}
