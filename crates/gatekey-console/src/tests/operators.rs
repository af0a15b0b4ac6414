//! The operators' console: what they do with keys.

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

pub(super) fn cookie(seen: &Seen) -> String {
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
        ("bare", "yes".to_owned()),
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

/// An admin key's id says little: its name and owner stand beside.
#[test]
fn an_operator_is_named_by_the_name_and_owner_of_their_key() {
    let desk = Desk::new();
    let (admin, cookie) = desk.all();
    let update = gatekey::KeyUpdate::new().name("Alice's laptop");
    desk.house.engine.update(admin.key.id, update).unwrap();
    let id = desk.house.key("acme", &["read"]).key.id;
    let at = format!("/keys/{id}");
    let seen = desk.get(&cookie, &format!("{at}/revoke")).hidden("seen");
    let pairs = [("seen", &*seen), ("reason", "cessation")];
    assert_eq!(
        desk.post(&cookie, &format!("{at}/revoke"), &pairs).status,
        303
    );
    let who = format!(
        "<a href=\"/console/keys/{0}\"><bdi>Alice&#39;s laptop, of ops/alice</bdi></a>\
         <span class=\"gk-below\"><bdi>key:{0}</bdi></span>",
        admin.key.id
    );
    // At the top of each page it is the owner.
    let top = "<p class=\"gk-who\"><bdi>ops/alice</bdi></p>";
    assert!(desk.get(&cookie, "/trail").body.contains(top));
    // In the trail, in the key's history and among its facts.
    assert_eq!(desk.get(&cookie, "/trail").body.matches(&who).count(), 1);
    assert_eq!(desk.get(&cookie, &at).body.matches(&who).count(), 2);
    // Whoever is no key of this store is told as the trail has them.
    let by = desk.house.engine.acting_as("key:0000000000").unwrap();
    by.disable(admin.key.id).unwrap();
    by.enable(admin.key.id).unwrap();
    let cookie = desk.log_in(&admin);
    let trail = desk.get(&cookie, "/trail").body;
    assert!(trail.contains("<bdi>key:0000000000</bdi>"), "{trail}");
}

#[test]
fn times_and_sizes_are_told_as_people_would() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    assert!(desk.get(&cookie, "/store").body.contains("In memory"));
    let keys = desk.get(&cookie, "/keys").body;
    assert!(keys.contains(">1 day</option>") && keys.contains(">7 days</option>"));
    let id = desk.house.key("acme", &["read"]).key.id;
    let page = desk.get(&cookie, &format!("/keys/{id}")).body;
    for text in ["No plan", "No limit", "No quota"] {
        assert!(
            page.contains(&format!("<bdi>{text}</bdi>")),
            "{text}: {page}"
        );
    }
}

/// The entry of a revocation of many names no key, and others follow that do.
#[test]
fn a_revocation_of_many_is_told_with_the_keys_that_it_revoked() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let engine = &desk.house.engine;
    let new = NewKey::new("acme_live", "acme/etl").unwrap();
    let issued = engine.issue_batch(vec![new; 257]).unwrap();
    let why = gatekey::Reason::Superseded;
    engine.revoke_owner("acme", why).unwrap();
    engine.flush().unwrap();
    let is_it = |event: &gatekey::AuditEvent| {
        matches!(event, gatekey::AuditEvent::KeysRevokedUnnamed { .. })
    };
    let mut entries = engine.audit(1).map(Result::unwrap);
    let entry = entries.find(|entry| is_it(&entry.event)).unwrap().seq;
    let trail = desk.get(&cookie, "/trail").body;
    let key = desk.get(&cookie, &format!("/keys/{}", issued[0].key.id));
    for (text, page) in [
        (
            "Keys revoked: &#62; 256. Why: Another key replaces it".to_owned(),
            &trail,
        ),
        (
            format!("Keys named that entry {entry} revoked: 257"),
            &trail,
        ),
        (
            "Revoked with others: Another key replaces it".to_owned(),
            &key.body,
        ),
        (format!("Revoked by entry {entry}"), &key.body),
    ] {
        assert!(page.contains(&text), "{text}: {page}");
    }
}

/// The trail is told in sentences: with times as people write them, and each id once.
#[test]
fn the_trail_is_told_as_people_would() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let engine = &desk.house.engine;
    let old = desk.house.key("acme/etl", &["read"]).key.id;
    let rotated = engine
        .rotate(old, gatekey::Rotation::with_grace(DAY))
        .unwrap();
    let new = rotated.key.id;
    let update = gatekey::KeyUpdate::new()
        .name(Some("nightly"))
        .expiry(gatekey::Expiry::After(3 * DAY));
    engine.update(new, update).unwrap();
    let plan = gatekey::Plan::new("gold").limit(gatekey::Limit::per_minute(7));
    let rules = gatekey::KeyspaceUpdate::new().plan(plan);
    engine.update_keyspace("acme_live", rules).unwrap();
    engine.suspend("acme", None).unwrap();
    let extension = engine.extension("oauth").unwrap();
    extension
        .change(|tx| tx.audit("signing_keys_made", "kid-1", None))
        .unwrap();
    engine.revoke(old, gatekey::Reason::Superseded).unwrap();
    let minute = |at: Option<gatekey::Timestamp>| crate::format::instant(at.unwrap());
    let grace = minute(rotated.old.retiring_until);
    let ends = minute(engine.key(new).unwrap().expires_at);
    let cells = |body: &str| -> Vec<String> {
        let rest = body.split("data-label=\"What\">").skip(1);
        rest.map(|cell| cell.split("</td>").next().unwrap().to_owned())
            .collect()
    };
    let trail = desk.get(&cookie, "/trail").body;
    for text in [
        "<bdi>Issued to acme/etl, in acme_live</bdi>",
        &format!("<bdi>Rotated to {new}; works until {grace}</bdi>"),
        &format!(
            "<bdi>Changed: name from none to &#34;nightly&#34;; expires at from never to {ends}</bdi>"
        ),
        "<bdi>Changed: plans from nothing to gold: 7 a minute</bdi>",
        "<bdi>Owner suspended. Keys: 2</bdi>",
        "<bdi>oauth: signing keys made (kid-1)</bdi>",
        "<bdi>Revoked: Another key replaces it</bdi>",
        "<bdi>Keyspace created</bdi>",
    ] {
        assert!(trail.contains(text), "{text}: {trail}");
    }
    for cell in cells(&trail) {
        // Of an instant as machines write it, and of an id that stands twice. An id may end in
        // Z, and none has a colon.
        let is_instant = |(at, _): (usize, &str)| {
            let before = cell.get(..at).unwrap_or_default();
            let seconds = before.rsplit(':').next().unwrap_or_default();
            let is_number = seconds.bytes().all(|it| it.is_ascii_digit() || it == b'.');
            before.contains(':') && !seconds.is_empty() && is_number
        };
        assert!(!cell.match_indices('Z').any(is_instant), "{cell}");
        for id in [old, new] {
            let shown = cell.matches(&format!(">{id}<")).count();
            let said = cell.matches(&format!(" {id}")).count();
            assert!(shown + said <= 1, "{cell}");
        }
    }
    // What it was for a key stands on the key's page.
    let history = desk.get(&cookie, &format!("/keys/{new}")).body;
    let made = format!("Issued by the rotation of {old}, which works until {grace}");
    assert!(cells(&history).last().unwrap().contains(&made), "{history}");
}
