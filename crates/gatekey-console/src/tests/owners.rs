//! Owners, as operators see them.

use super::operators::Desk;
use super::*;

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
    assert_eq!(
        (of.plan.as_deref(), of.cap),
        (Some("free"), gatekey::Setting::Own(7))
    );
    assert_eq!(desk.post(&cookie, "/owners/settings", &pairs).status, 409);
}

/// Keys that have ended are not reached, and what a revocation does not hold for is told.
#[test]
fn revoking_an_owners_keys_counts_the_living_and_tells_that_new_ones_may_come() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    desk.house.key("acme", &["read"]);
    let new = NewKey::new("acme_live", "acme/old").unwrap();
    let new = new.expires_in(std::time::Duration::from_millis(1));
    let expired = desk.house.engine.issue(new).unwrap().key.id;
    std::thread::sleep(std::time::Duration::from_millis(5));
    let key = desk.house.engine.key(expired).unwrap();
    assert_eq!(key.state, gatekey::KeyState::Expired);
    for page in ["suspend", "revoke"] {
        let seen = desk.get(&cookie, &format!("/owners/{page}?owner=acme"));
        assert!(
            seen.body.contains("Keys that this reaches: 1"),
            "{}",
            seen.body
        );
    }
    // As of a keyspace: the admin key is of another.
    let seen = desk.get(&cookie, "/keyspaces/acme_live/revoke");
    assert!(
        seen.body.contains("Keys that this reaches: 1"),
        "{}",
        seen.body
    );
    let typed = [
        ("owner", "acme"),
        ("typed", "acme"),
        ("reason", "cessation"),
    ];
    let done = desk.post(&cookie, "/owners/revoke", &typed);
    let page = desk.get(&cookie, done.location().strip_prefix("/console").unwrap());
    let suspend = "href=\"/console/owners/suspend?owner=acme\"";
    assert!(
        page.body.contains("may still get new keys"),
        "{}",
        page.body
    );
    assert!(page.body.contains(suspend));
    // There is nothing to do a second time.
    let form = desk.get(&cookie, "/owners/revoke?owner=acme");
    assert!(
        form.body.contains("No key of the owner is left"),
        "{}",
        form.body
    );
    assert!(form.body.contains(suspend) && !form.body.contains("name=\"typed\""));
    // Whoever is suspended gets no key that works.
    desk.house.engine.suspend("acme", None).unwrap();
    let page = desk.get(&cookie, "/owners/one?owner=acme&done=owner_revoke");
    assert!(!page.body.contains("may still get new keys"));
}

#[test]
fn an_owner_that_nobody_has_is_told_to_be_none() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let told = |owner: &str| {
        let page = desk.get(&cookie, &format!("/owners/one?owner={owner}"));
        assert_eq!(page.status, 200);
        page.body.contains(&format!("There is no owner {owner}"))
    };
    desk.house.key("acme/etl", &["read"]);
    assert!(told("acm") && told("acme/et") && told("acme/etl/x"));
    let page = desk.get(&cookie, "/owners/one?owner=acm").body;
    assert!(!page.contains("Suspend the owner") && !page.contains("Active"));
    // A key below, a setting, or a suspension: then there is one.
    assert!(!told("acme") && !told("acme/etl"));
    let settings = gatekey::OwnerUpdate::new().cap(3);
    desk.house
        .engine
        .update_owner("acme_live", "umbrella", settings)
        .unwrap();
    assert!(!told("umbrella"));
    desk.house.engine.suspend("hooli", None).unwrap();
    assert!(!told("hooli"));
}
