//! The operators' console: what they do, and attacks on it.

use std::time::Duration;

use gatekey_admin::Operator;

use super::*;
use crate::Console;

/// A console with a log-in by admin keys, under `/console`.
pub(super) struct Desk {
    pub(super) house: House,
    pub(super) console: Console,
    pub(super) pages: Router,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::of(House::new())
    }

    pub(super) fn of(house: House) -> Self {
        let console = Console::new(house.engine.clone());
        let console = console.admin_keyspace("ops".parse().unwrap()).unwrap();
        let pages = Router::new().nest("/console", console.router());
        Self {
            house,
            console,
            pages,
        }
    }

    pub(super) fn admin_key(&self, rights: &[&'static str]) -> Issued {
        let new = NewKey::new("ops", "ops/alice").unwrap();
        self.house
            .engine
            .issue(new.permissions(rights.iter().copied()))
            .unwrap()
    }

    /// Logs in, and returns the cookie.
    pub(super) fn log_in(&self, key: &Issued) -> String {
        let seen = post(
            &self.pages,
            "/console/login",
            &[("admin_key", key.token.expose())],
        );
        assert_eq!(seen.status, 303, "{}", seen.body);
        cookie(&seen)
    }

    pub(super) fn all(&self) -> (Issued, String) {
        let key = self.admin_key(&["read", "issue", "revoke", "administer"]);
        let cookie = self.log_in(&key);
        (key, cookie)
    }

    pub(super) fn get(&self, cookie: &str, path: &str) -> Seen {
        let request = Request::get(format!("/console{path}")).header("cookie", cookie);
        send(&self.pages, request.body(Body::empty()).unwrap())
    }

    pub(super) fn post(&self, cookie: &str, path: &str, pairs: &[(&str, &str)]) -> Seen {
        let request = Request::post(format!("/console{path}"))
            .header("cookie", cookie)
            .header("host", "keys.example.com")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        send(
            &self.pages,
            request.body(Body::from(encoded(pairs))).unwrap(),
        )
    }

    pub(super) fn changes(&self) -> u64 {
        self.house.changes()
    }
}

fn cookie(seen: &Seen) -> String {
    let set = seen.headers["set-cookie"].to_str().unwrap();
    for part in [
        "__Host-gatekey=",
        "; Path=/;",
        " Secure;",
        " HttpOnly;",
        " SameSite=Strict",
    ] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain"));
    set.split(';').next().unwrap().to_owned()
}

/// A form that would be taken by any page.
pub(super) fn form(key: &Issued) -> Vec<(&'static str, String)> {
    let mark = crate::desk::mark(&key.key);
    vec![
        ("seen", mark),
        ("number", "0123456789abcdef".to_owned()),
        ("owner", key.key.owner.to_string()),
        ("typed", key.key.owner.to_string()),
        ("keyspace", "acme_live".to_owned()),
        ("reason", "cessation".to_owned()),
        ("what", "disable".to_owned()),
        ("pick", key.key.id.to_string()),
        ("grace", "0".to_owned()),
        ("life", "default".to_owned()),
        ("name", "taken".to_owned()),
        ("q", key.key.id.to_string()),
    ]
}

pub(super) fn borrowed<'a>(pairs: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    pairs
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

pub(super) fn concrete(path: &str, key: &Issued) -> String {
    path.replace("{id}", &key.key.id.to_string())
        .replace("{prefix}", "acme_live")
}

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

/// A customer is no operator, and an operator no customer.
#[test]
fn a_member_is_no_operator_and_an_operator_no_member() {
    let house = House::new();
    let key = house.key("acme", &["read"]);
    let form = form(&key);
    let before = house.changes();
    let member = Member::new("acme".parse().unwrap(), "alice").may(House::ceiling());
    let console = Console::new(house.engine.clone())
        .router()
        .layer(Extension(member));
    for (method, path) in crate::operator::paths() {
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => post(&console, &at, &borrowed(&form)),
            _ => get(&console, &at),
        };
        assert_eq!(seen.status, 401, "{method} {path}");
    }
    let operator = Operator::with_all_rights("root");
    let pages = SelfService::new(house.engine.clone())
        .router()
        .layer(Extension(operator));
    for (method, path) in crate::self_service::paths() {
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => post(&pages, &at, &borrowed(&form)),
            _ => get(&pages, &at),
        };
        assert_eq!(seen.status, 401, "{method} {path}");
    }
    assert_eq!(house.changes(), before);
}

#[test]
fn who_may_only_read_changes_nothing_on_any_page() {
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]);
    let form = form(&key);
    let admin = desk.admin_key(&["read"]);
    let cookie = desk.log_in(&admin);
    let before = desk.changes();
    for (method, path) in crate::operator::paths() {
        if matches!(path, "/login" | "/logout" | "/find") || method != "POST" {
            continue;
        }
        let seen = desk.post(&cookie, &concrete(path, &key), &borrowed(&form));
        assert_eq!(seen.status, 403, "{path}: {}", seen.body);
    }
    assert_eq!(desk.changes(), before);
    // Nor is offered to.
    let page = desk.get(&cookie, &format!("/keys/{}", key.key.id));
    assert_eq!(page.status, 200);
    for word in ["Rotate", "Revoke<", "Disable"] {
        assert!(!page.body.contains(word), "{word}");
    }
    // Who may not even read gets no page.
    let nothing = desk.admin_key(&["issue"]);
    let cookie = desk.log_in(&nothing);
    assert_eq!(desk.get(&cookie, "/keys").status, 403);
}

#[test]
fn who_may_issue_makes_no_admin_key() {
    let desk = Desk::new();
    let admin = desk.admin_key(&["read", "issue", "revoke"]);
    let cookie = desk.log_in(&admin);
    let before = desk.changes();
    let page = desk.get(&cookie, "/keys/new?keyspace=ops");
    let number = page.hidden("number");
    let pairs = [
        ("keyspace", "ops"),
        ("number", &*number),
        ("owner", "ops/mallory"),
        ("permission", "administer"),
        ("life", "default"),
    ];
    let seen = desk.post(&cookie, "/keys/new", &pairs);
    assert_eq!(seen.status, 403);
    assert!(!seen.shows_a_token());
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

#[test]
fn a_pasted_token_finds_its_key_and_is_in_no_address() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme/etl", &["read"]);
    let token = key.token.expose();
    let found = desk.post(&cookie, "/find", &[("q", &format!(" {token} "))]);
    assert_eq!(
        found.location(),
        format!("/console/keys/{}?done=by_token", key.key.id)
    );
    // Another secret, cut off, of another store: nothing, and nothing is shown again.
    let other = format!("{}{}", &token[..token.len() - 10], "0123456789");
    for asked in [&other, &token[..token.len() - 3], &format!("x{token}")] {
        let seen = desk.post(&cookie, "/find", &[("q", asked)]);
        assert_eq!(seen.status, 404, "{asked}");
        assert!(
            !seen.body.contains(&asked[asked.len() - 20..]),
            "{}",
            seen.body
        );
    }
    for (asked, to) in [
        (
            key.key.id.to_string(),
            format!("/console/keys/{}", key.key.id),
        ),
        ("acme".to_owned(), "/console/keys?owner=acme".to_owned()),
        (
            "acme/etl".to_owned(),
            "/console/keys?owner=acme%2Fetl".to_owned(),
        ),
    ] {
        assert_eq!(desk.post(&cookie, "/find", &[("q", &asked)]).location(), to);
    }
    // In the place of an owner, by mistake: it is not handed on to links.
    let page = desk.get(&cookie, &format!("/keys?owner={token}"));
    assert!(!page.body.contains(token));
}

#[test]
fn filters_stand_in_the_address_and_find_what_they_say() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let active = desk.house.key("acme", &["read"]).key;
    let disabled = desk.house.key("umbrella/x", &["read"]).key;
    desk.house.engine.disable(disabled.id).unwrap();
    let page = desk.get(&cookie, "/keys?state=disabled");
    assert!(page.body.contains(&disabled.id.to_string()));
    assert!(!page.body.contains(&active.id.to_string()));
    let page = desk.get(&cookie, "/keys?owner=umbrella&keyspace=acme_live");
    assert!(page.body.contains(&disabled.id.to_string()));
    assert!(
        page.body.contains("value=\"umbrella\""),
        "the filter is not shown"
    );
    assert_eq!(desk.get(&cookie, "/keys?owner=a//b").status, 400);
    assert_eq!(
        desk.get(&cookie, "/keys?state=none&keyspace=acme_live")
            .status,
        400
    );
    let csv = desk.get(&cookie, "/keys.csv?owner=umbrella");
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.body.lines().count(), 2);
}

#[test]
fn a_page_that_another_changed_meanwhile_says_so() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let id = desk.house.key("acme", &["read", "write"]).key.id;
    let old = desk
        .get(&cookie, &format!("/keys/{id}/edit"))
        .hidden("seen");
    let pairs = [("seen", &*old), ("name", "first"), ("permission", "read")];
    assert_eq!(
        desk.post(&cookie, &format!("/keys/{id}/edit"), &pairs)
            .status,
        303
    );
    let before = desk.changes();
    for page in ["edit", "limits", "disable", "revoke", "rotate"] {
        let pairs = [
            ("seen", &*old),
            ("name", "second"),
            ("reason", "cessation"),
            ("grace", "0"),
            ("number", "0123456789abcdef"),
        ];
        let seen = desk.post(&cookie, &format!("/keys/{id}/{page}"), &pairs);
        assert_eq!(seen.status, 409, "{page}");
    }
    let name = format!("seen.{id}");
    let pairs = [
        ("what", "disable"),
        ("pick", &*id.to_string()),
        (&*name, &*old),
    ];
    let seen = desk.post(&cookie, "/keys/bulk/do", &pairs);
    assert!(seen.body.contains("Not done"), "{}", seen.body);
    assert_eq!(desk.changes(), before);
    let key = desk.house.engine.key(id).unwrap();
    assert_eq!(key.name.as_deref(), Some("first"));
    assert_eq!(key.permissions.bits(), 1);
}

#[test]
fn several_keys_at_once_have_a_result_each_and_revoking_is_typed() {
    let desk = Desk::new();
    let (admin, cookie) = desk.all();
    let keys: Vec<_> = (0..3).map(|_| desk.house.key("acme", &["read"])).collect();
    let ids: Vec<String> = keys.iter().map(|key| key.key.id.to_string()).collect();
    let mut picks: Vec<(&str, &str)> = ids.iter().map(|id| ("pick", id.as_str())).collect();
    picks.push(("what", "revoke"));
    let page = desk.post(&cookie, "/keys/bulk", &picks);
    assert!(
        page.body.contains("Keys that this reaches: 3"),
        "{}",
        page.body
    );
    let marks: Vec<(String, String)> = ids
        .iter()
        .map(|id| (format!("seen.{id}"), page.hidden(&format!("seen.{id}"))))
        .collect();
    picks.extend(
        marks
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    picks.push(("reason", "key_compromise"));
    let before = desk.changes();
    for typed in ["", "revoke", "revoke 2", "Revoke 3"] {
        let mut pairs = picks.clone();
        pairs.push(("typed", typed));
        assert_eq!(
            desk.post(&cookie, "/keys/bulk/do", &pairs).status,
            400,
            "{typed}"
        );
    }
    assert_eq!(desk.changes(), before);
    // One of them was revoked meanwhile.
    desk.house
        .engine
        .revoke(keys[1].key.id, gatekey::Reason::Cessation)
        .unwrap();
    picks.push(("typed", "revoke 3"));
    let done = desk.post(&cookie, "/keys/bulk/do", &picks);
    assert_eq!(
        done.body.matches("The key is revoked.").count(),
        2,
        "{}",
        done.body
    );
    assert_eq!(done.body.matches("Not done").count(), 1);
    for key in &keys {
        assert!(
            !desk
                .house
                .engine
                .verify(key.token.expose())
                .unwrap()
                .is_granted()
        );
    }
    let entry = desk
        .house
        .engine
        .history(keys[0].key.id, 0, 10)
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(entry.actor, Some(format!("key:{}", admin.key.id)));
}

#[test]
fn an_owner_is_suspended_resumed_and_revoked_by_its_name() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme/etl", &["read"]);
    let granted = || {
        desk.house
            .engine
            .verify(key.token.expose())
            .unwrap()
            .is_granted()
    };
    let page = desk.get(&cookie, "/owners/suspend?owner=acme");
    assert!(page.body.contains("Keys that this reaches: 1"));
    let mistyped = [("owner", "acme"), ("typed", "acm"), ("note", "unpaid")];
    assert_eq!(desk.post(&cookie, "/owners/suspend", &mistyped).status, 400);
    assert!(granted());
    let typed = [("owner", "acme"), ("typed", "acme"), ("note", "unpaid")];
    let done = desk.post(&cookie, "/owners/suspend", &typed);
    assert_eq!(
        done.location(),
        "/console/owners/one?owner=acme&done=owner_suspend"
    );
    assert!(!granted());
    assert!(desk.get(&cookie, "/owners").body.contains("unpaid"));
    desk.post(&cookie, "/owners/resume", &[("owner", "acme")]);
    assert!(granted());
    let typed = [
        ("owner", "acme"),
        ("typed", "acme"),
        ("reason", "cessation"),
    ];
    desk.post(&cookie, "/owners/revoke", &typed);
    assert!(!granted());
    // A plan and a cap of its own.
    let page = desk.get(&cookie, "/owners/settings?owner=acme&keyspace=acme_live");
    let seen = page.hidden("seen");
    let pairs = [
        ("owner", "acme"),
        ("keyspace", "acme_live"),
        ("seen", &*seen),
        ("plan", "free"),
        ("limits", "plan"),
        ("cap", "7"),
    ];
    assert_eq!(desk.post(&cookie, "/owners/settings", &pairs).status, 303);
    let of = desk
        .house
        .engine
        .owner_settings("acme_live", "acme")
        .unwrap();
    assert_eq!((of.plan.as_deref(), of.cap), (Some("free"), Some(7)));
    assert_eq!(desk.post(&cookie, "/owners/settings", &pairs).status, 409);
}

#[test]
fn a_form_from_elsewhere_changes_nothing_in_the_console() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme", &["read"]);
    let form = form(&key);
    let before = desk.changes();
    for (method, path) in crate::operator::paths() {
        if method != "POST" {
            continue;
        }
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
            ("x-none", ""),
        ] {
            let request = Request::post(format!("/console{}", concrete(path, &key)))
                .header("cookie", &cookie)
                .header("host", "keys.example.com")
                .header(name, value)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from(encoded(&borrowed(&form))));
            let seen = send(&desk.pages, request.unwrap());
            assert_eq!(seen.status, 403, "{path} {name}");
            assert!(!seen.headers.contains_key("set-cookie"));
        }
    }
    assert_eq!(desk.changes(), before);
}

#[test]
fn every_page_of_the_console_has_its_headers_and_shows_text_as_text() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let evil = "<script>alert(1)</script>\"'><img src=x>";
    let owner = "<img/src=x>";
    let new = NewKey::new("acme_live", owner).unwrap();
    let new = new.name(evil).description(evil).label("team", evil);
    let by = desk.house.engine.acting_as("<b>").unwrap();
    let key = by.issue(new).unwrap();
    by.suspend("<img", "<script>alert(2)</script>").unwrap();
    let form = form(&key);
    for (method, path) in crate::operator::paths() {
        if path == "/logout" || path == "/store/backup" {
            continue;
        }
        let at = concrete(path, &key);
        let seen = match method.as_str() {
            "POST" => desk.post(&cookie, &at, &borrowed(&form)),
            _ => {
                let query = encoded(&[("owner", owner), ("keyspace", "acme_live")]);
                desk.get(&cookie, &format!("{}?{query}", at.trim_end_matches('/')))
            }
        };
        assert_ne!(seen.status, 500, "{method} {path}");
        assert_eq!(seen.headers["cache-control"], "no-store", "{path}");
        assert!(
            seen.headers.contains_key("content-security-policy"),
            "{path}"
        );
        if seen
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/html; charset=utf-8")
        {
            assert!(
                !seen.body.contains("<img") && !seen.body.contains("<script>"),
                "{path}"
            );
        }
    }
}

#[test]
fn the_store_is_checked_and_backed_up() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    desk.house.key("acme", &["read"]);
    let page = desk.post(&cookie, "/store/check", &[]);
    assert!(page.body.contains("The store is sound"), "{}", page.body);
    assert_eq!(desk.get(&cookie, "/store").status, 200);
    assert_eq!(desk.get(&cookie, "/keyspaces/acme_live").status, 200);
    assert!(desk.get(&cookie, "/trail").body.contains("acme"));
}

/// Every route, asked for by the member whose key it is, by another member, by an operator
/// and by nobody.
#[test]
fn every_route_is_for_whom_it_is_for_alone() {
    use axum::middleware::{Next, from_fn};
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]);
    let (_, cookie) = desk.all();
    // The host's log-in: who has a header is that customer.
    let named = from_fn(|mut request: Request<Body>, next: Next| async move {
        let owner = request.headers().get("x-customer").cloned();
        if let Some(owner) = owner {
            let owner = owner.to_str().unwrap();
            let member = Member::new(owner.parse().unwrap(), owner).may(House::ceiling());
            request.extensions_mut().insert(member);
        }
        next.run(request).await
    });
    let pages = SelfService::new(desk.house.engine.clone())
        .short_lived(|_| Ok(crate::ShortLived::new("jwt", gatekey::Timestamp::MAX)));
    let app = Router::new()
        .nest("/settings/keys", pages.router())
        .layer(named)
        .nest("/console", desk.console.router());
    let pairs = form(&key);
    let ask = |who: (&'static str, &str), method: &str, path: &str| {
        let query = "owner=acme&keyspace=acme_live&depth=1";
        let path = path.trim_end_matches('/');
        let request = match method {
            "POST" => Request::post(path)
                .header("sec-fetch-site", "same-origin")
                .header("content-type", "application/x-www-form-urlencoded"),
            _ => Request::get(format!("{path}?{query}")),
        };
        let body = match method {
            "POST" => {
                let mut pairs = borrowed(&pairs);
                // What either form calls the lifetime that is there.
                if path.starts_with("/settings") {
                    pairs.retain(|(name, _)| *name != "life");
                }
                Body::from(encoded(&pairs))
            }
            _ => Body::empty(),
        };
        send(&app, request.header(who.0, who.1).body(body).unwrap())
    };
    let (acme, umbrella) = (("x-customer", "acme"), ("x-customer", "umbrella"));
    let operator = ("cookie", cookie.as_str());
    let nobody = ("x-nobody", "");
    let before = desk.changes();
    let customers = crate::self_service::paths();
    let operators = crate::operator::paths();
    assert!(
        customers.len() >= 15 && operators.len() >= 51,
        "routes are missing"
    );
    // Those whom a route is not for, first: nothing changes, and nothing is told.
    for (method, path) in &customers {
        let at = format!("/settings/keys{}", concrete(path, &key));
        for who in [operator, nobody] {
            assert_eq!(ask(who, method, &at).status, 401, "{method} {path}");
        }
        if path.contains("{id}") {
            let seen = ask(umbrella, method, &at);
            let missing = at.replace(&key.key.id.to_string(), "0000000000");
            assert_eq!(seen.status, 404, "{method} {path}");
            assert_eq!(
                seen.body,
                ask(umbrella, method, &missing).body,
                "{method} {path}"
            );
        }
    }
    for (method, path) in &operators {
        let at = format!("/console{}", concrete(path, &key));
        if *path == "/login" {
            continue;
        }
        for who in [acme, umbrella, nobody] {
            let seen = ask(who, method, &at);
            assert_eq!(seen.status, 303, "{method} {path}");
            assert!(seen.location().starts_with("/console/login"));
            assert!(seen.body.is_empty());
        }
    }
    assert_eq!(desk.changes(), before);
    // Then those whom it is for. A form that does not fit is told so, and no more.
    let is_for = |seen: &Seen, place: &str| {
        let status = seen.status.as_u16();
        assert!(
            matches!(status, 200 | 303 | 400 | 409),
            "{place}: {status}: {}",
            seen.body
        );
    };
    for (method, path) in customers {
        // Those are about a rotation, of which there is none.
        if path.ends_with("/steps") || path.ends_with("/used") {
            continue;
        }
        let at = format!("/settings/keys{}", concrete(path, &key));
        is_for(&ask(acme, &method, &at), &format!("{method} {path}"));
    }
    for (method, path) in operators {
        // The log-in asks for a key, and the last of all ends the session.
        if matches!(path, "/login" | "/logout") {
            continue;
        }
        let at = format!("/console{}", concrete(path, &key));
        is_for(&ask(operator, &method, &at), &format!("{method} {path}"));
    }
}
