//! The log-in of operators: sessions, their ends, and what takes the admin key again.

use std::time::Duration;

use super::operators::{Desk, borrowed, concrete, cookie, form};
use super::*;
use crate::Console;

#[test]
fn without_a_log_in_every_page_leads_to_it_and_changes_nothing() {
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]);
    let form = form(&key);
    let before = desk.changes();
    for (method, path) in crate::operator::paths() {
        if path == "/login" {
            continue;
        }
        let at = concrete(path, &key);
        for cookie in [
            "",
            "__Host-gatekey=0000",
            "__Host-gatekey=a; __Host-gatekey=b",
        ] {
            let seen = match method.as_str() {
                "POST" => desk.post(cookie, &at, &borrowed(&form)),
                _ => desk.get(cookie, at.trim_end_matches('/')),
            };
            assert_eq!(seen.status, 303, "{method} {path}");
            assert!(
                seen.location().starts_with("/console/login"),
                "{}",
                seen.location()
            );
            assert!(seen.body.is_empty());
        }
    }
    assert_eq!(desk.changes(), before);
    // A host that names nobody, and no keyspace of admin keys: nobody gets in.
    let closed = Console::new(desk.house.engine.clone()).router();
    for (method, path) in crate::operator::paths() {
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => post(&closed, &at, &borrowed(&form)),
            _ => get(&closed, &at),
        };
        assert_eq!(seen.status, 401, "{method} {path}");
    }
    assert_eq!(desk.changes(), before);
}

#[test]
fn a_session_is_not_the_one_that_was_brought_along() {
    let desk = Desk::new();
    let key = desk.admin_key(&["read"]);
    // An attacker's cookie, known to them, in the victim's browser.
    let fixed = "__Host-gatekey=1234567890abcdef";
    let seen = desk.post(fixed, "/login", &[("admin_key", key.token.expose())]);
    let given = cookie(&seen);
    assert_ne!(given, fixed);
    assert_eq!(desk.get(fixed, "/keys").status, 303);
    assert_eq!(desk.get(&given, "/keys").status, 200);
    // Also a session of the attacker's own does not become the victim's; it ends.
    let again = desk.post(&given, "/login", &[("admin_key", key.token.expose())]);
    let newer = cookie(&again);
    assert_ne!(newer, given);
    assert_eq!(desk.get(&given, "/keys").status, 303);
    // Logged out, it is gone at the server.
    let out = desk.post(&newer, "/logout", &[]);
    assert!(
        out.headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert_eq!(desk.get(&newer, "/keys").status, 303);
}

#[test]
fn a_log_in_takes_a_good_admin_key_and_tells_nothing_of_others() {
    let desk = Desk::new();
    let customer = desk.house.key("acme", &["read"]);
    let gone = desk.admin_key(&["read"]);
    desk.house
        .engine
        .revoke(gone.key.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    let mut bodies = std::collections::BTreeSet::new();
    for token in [
        "",
        "x",
        "ops_0000000000_1",
        customer.token.expose(),
        gone.token.expose(),
    ] {
        let seen = post(&desk.pages, "/console/login", &[("admin_key", token)]);
        assert_eq!(seen.status, 401);
        assert!(!seen.headers.contains_key("set-cookie"));
        assert!(token.len() < 10 || !seen.body.contains(token));
        bodies.insert(seen.body);
    }
    assert_eq!(bodies.len(), 1, "the answers differ");
    // The way back leads to these pages alone.
    let key = desk.admin_key(&["read"]);
    for (next, wanted) in [
        ("/keys?owner=acme", "/console/keys?owner=acme"),
        ("//evil.example", "/console"),
    ] {
        let pairs = [("admin_key", key.token.expose()), ("next", next)];
        assert_eq!(
            post(&desk.pages, "/console/login", &pairs).location(),
            wanted
        );
    }
}

#[test]
fn a_session_ends_with_its_key_and_by_itself() {
    let desk = Desk::new();
    let (key, cookie) = desk.all();
    assert_eq!(desk.get(&cookie, "/keys").status, 200);
    desk.house.engine.disable(key.key.id).unwrap();
    assert_eq!(desk.get(&cookie, "/keys").status, 303);
    desk.house.engine.enable(key.key.id).unwrap();
    assert_eq!(desk.get(&cookie, "/keys").status, 303, "it is back");
    let cookie = desk.log_in(&key);
    desk.console.age(Duration::from_secs(29 * 60));
    assert_eq!(desk.get(&cookie, "/keys").status, 200);
    desk.console.age(Duration::from_secs(31 * 60));
    assert_eq!(desk.get(&cookie, "/keys").status, 303);
    let cookie = desk.log_in(&key);
    for _ in 0..24 {
        desk.console.age(Duration::from_secs(29 * 60));
        desk.get(&cookie, "/keys");
    }
    desk.console.age(Duration::from_secs(29 * 60));
    assert_eq!(
        desk.get(&cookie, "/keys").status,
        303,
        "it lasts by being used"
    );
    // A right that is taken away is gone from the session too.
    let cookie = desk.log_in(&key);
    let update = gatekey::KeyUpdate::new().set_permissions(["issue"]);
    desk.house.engine.update(key.key.id, update).unwrap();
    assert_eq!(desk.get(&cookie, "/keys").status, 403);
}

#[test]
fn what_is_grave_takes_the_admin_key_again() {
    let desk = Desk::new();
    let (admin, cookie) = desk.all();
    let other = desk.admin_key(&["read", "issue"]);
    let key = desk.house.key("acme", &["read"]);
    desk.console.age(Duration::from_secs(6 * 60));
    let id = key.key.id.to_string();
    let rotate = format!("/keys/{id}/rotate");
    let page = desk.get(&cookie, &rotate);
    assert!(page.body.contains("admin_key"));
    let (seen, number) = (page.hidden("seen"), page.hidden("number"));
    let before = desk.changes();
    let with = |given: &str| {
        let pairs = [
            ("seen", &*seen),
            ("number", &*number),
            ("grace", "0"),
            ("admin_key", given),
        ];
        desk.post(&cookie, &rotate, &pairs)
    };
    for wrong in ["", "x", other.token.expose()] {
        let back = with(wrong);
        assert_eq!(back.status, 403);
        assert!(!back.shows_a_token());
        let mut pairs = borrowed(&[]);
        pairs.extend([("keyspace", "acme_live"), ("number", "0123456789abcdef")]);
        pairs.extend([("owner", "acme"), ("life", "default"), ("admin_key", wrong)]);
        assert_eq!(desk.post(&cookie, "/keys/new", &pairs).status, 403);
        let pairs = [
            ("owner", "acme"),
            ("typed", "acme"),
            ("reason", "cessation"),
            ("admin_key", wrong),
        ];
        assert_eq!(desk.post(&cookie, "/owners/revoke", &pairs).status, 403);
        let pairs = [
            ("what", "revoke"),
            ("pick", &*id),
            ("typed", "revoke 1"),
            ("reason", "cessation"),
            ("admin_key", wrong),
        ];
        assert_eq!(desk.post(&cookie, "/keys/bulk/do", &pairs).status, 403);
        assert_eq!(
            desk.post(&cookie, "/store/backup", &[("admin_key", wrong)])
                .status,
            403
        );
    }
    assert_eq!(desk.changes(), before);
    assert!(with(admin.token.expose()).shows_a_token());
    // For a while it is not asked again. What takes access away by one key never asks.
    assert!(
        !desk
            .get(&cookie, "/keys/new?keyspace=acme_live")
            .body
            .contains("admin_key")
    );
}
