//! Limits and quotas on the pages: a key's own, and whose they are.

use gatekey::{KeyState, Limit, Quota, Refill};

use super::operators::Desk;
use super::*;

/// A form of limits and a quota, with what `more` says.
fn form<'a>(seen: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![("seen", seen), ("quota.refill", "monthly")];
    for at in 0..gatekey::bounds::LIMITS_PER_PLAN_MAX {
        let names = [
            ["limit0.window", "limit0.kind"],
            ["limit1.window", "limit1.kind"],
            ["limit2.window", "limit2.kind"],
            ["limit3.window", "limit3.kind"],
        ];
        pairs.extend([(names[at][0], "60"), (names[at][1], "sliding")]);
    }
    pairs.retain(|(name, _)| !more.iter().any(|(of, _)| of == name));
    pairs.extend(more);
    pairs
}

#[test]
fn a_key_gets_limits_and_a_quota_of_its_own() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let key = desk.house.key("acme", &["read"]);
    let id = key.key.id;
    let at = format!("/keys/{id}/limits");
    let now = || desk.house.engine.key(id).unwrap();
    let seen = || desk.get(&cookie, &at).hidden("seen");
    let page = desk.get(&cookie, &format!("/keys/{id}"));
    assert!(page.body.contains(&format!("href=\"/console{at}\"")));
    let own = [
        ("limits", "own"),
        ("limit1.requests", "5"),
        ("limit1.window", "1"),
        ("limit1.kind", "bucket"),
        ("limit1.burst", "50"),
        ("quota.requests", "1,000"),
    ];
    let first = seen();
    assert_eq!(desk.post(&cookie, &at, &form(&first, &own)).status, 303);
    assert_eq!(now().limits, Some(vec![Limit::per_second(5).bucket(50)]));
    let quota = Quota::new(1_000).refilled(Refill::Monthly);
    assert_eq!(now().quota.unwrap().quota, quota);
    let page = desk.get(&cookie, &format!("/keys/{id}")).body;
    for text in [
        "5 in 1 second, bucket with a burst of 50",
        "1,000, every month",
        "1,000 of 1,000 left",
        "50 of 50 left",
        "this key",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // Another form that was open meanwhile.
    let plan = [("limits", "plan")];
    assert_eq!(desk.post(&cookie, &at, &form(&first, &plan)).status, 409);
    // A use, and a change of the limits alone: the quota is not filled anew.
    let verdict = desk.house.engine.verify(key.token.expose()).unwrap();
    assert!(verdict.is_granted());
    let shown = desk.get(&cookie, &at).body;
    assert!(shown.contains("value=\"1000\"") && shown.contains("value=\"50\""));
    let none = [("limits", "own"), ("quota.requests", "1000")];
    assert_eq!(desk.post(&cookie, &at, &form(&seen(), &none)).status, 303);
    assert_eq!(now().limits, Some(Vec::new()));
    let left = desk.house.engine.quotas_left(id).unwrap();
    assert_eq!(left[0].status().remaining, 999);
    let page = desk.get(&cookie, &format!("/keys/{id}")).body;
    assert!(page.contains("No limit"), "{page}");
    // What cannot be comes back with a reason, and what was filled in.
    let before = desk.changes();
    let form_seen = seen();
    for wrong in [
        [("limits", "own"), ("limit0.requests", "0")],
        [("limits", "own"), ("limit0.burst", "5")],
        [("limits", "own"), ("quota.requests", "many")],
        [("limits", "own"), ("quota.day", "3")],
    ] {
        let mut more = vec![("limit3.requests", "77"), ("quota.requests", "1000")];
        more.retain(|(name, _)| !wrong.iter().any(|(of, _)| of == name));
        more.extend(wrong);
        let back = desk.post(&cookie, &at, &form(&form_seen, &more));
        assert_eq!(back.status, 400, "{wrong:?}");
        assert!(back.body.contains("role=\"alert\""), "{wrong:?}");
        assert!(back.body.contains("value=\"77\""), "{wrong:?}");
    }
    let strange = [("limits", "none")];
    let refused = desk.post(&cookie, &at, &form(&form_seen, &strange));
    assert_eq!(refused.status, 400);
    assert_eq!(desk.changes(), before);
    // As the plan says again, and any number of requests.
    assert_eq!(desk.post(&cookie, &at, &form(&seen(), &plan)).status, 303);
    assert_eq!((now().limits, now().quota), (None, None));
    // Limits beside "as the plan says" would be passed over: they are refused.
    let both = [("limits", "plan"), ("limit0.requests", "5")];
    assert_eq!(desk.post(&cookie, &at, &form(&seen(), &both)).status, 400);
}

/// Who may issue may change limits of customers' keys, and not of admin keys; who may only
/// revoke changes none. A key that is over has no form to send.
#[test]
fn limits_of_a_key_are_changed_by_who_may_issue_alone() {
    let desk = Desk::new();
    let key = desk.house.key("acme", &["read"]).key;
    let (admin, all) = desk.all();
    let at = |id: gatekey::KeyId| format!("/keys/{id}/limits");
    let own = [("limits", "own"), ("limit0.requests", "5")];
    let seen = desk.get(&all, &at(key.id)).hidden("seen");
    let of_admin = desk.get(&all, &at(admin.key.id)).hidden("seen");
    let before = desk.changes();
    for rights in [&["read"][..], &["read", "revoke"], &["read", "administer"]] {
        let cookie = desk.log_in(&desk.admin_key(rights));
        let page = desk.get(&cookie, &at(key.id));
        let refused = desk.post(&cookie, &at(key.id), &form(&seen, &own));
        assert_eq!((page.status.as_u16(), refused.status.as_u16()), (403, 403));
    }
    let cookie = desk.log_in(&desk.admin_key(&["read", "issue"]));
    let refused = desk.post(&cookie, &at(admin.key.id), &form(&of_admin, &own));
    assert_eq!(refused.status, 403);
    assert_eq!(desk.changes(), before + 4, "a key was changed");
    assert_eq!(desk.house.engine.key(key.id).unwrap().limits, None);
    let done = desk.post(&cookie, &at(key.id), &form(&seen, &own));
    assert_eq!(done.status, 303);
    let engine = &desk.house.engine;
    engine.revoke(key.id, gatekey::Reason::Cessation).unwrap();
    let page = desk.get(&all, &format!("/keys/{}", key.id));
    assert!(!page.body.contains("/limits\""), "{}", page.body);
    let seen = crate::desk::mark(&engine.key(key.id).unwrap());
    let refused = desk.post(&all, &at(key.id), &form(&seen, &[("limits", "plan")]));
    assert_eq!(refused.status, 409);
    assert_eq!(engine.key(key.id).unwrap().state, KeyState::Revoked);
}

/// A limit or a quota of a level is named by the path that shares it, on both sets of pages.
#[test]
fn a_shared_limit_is_named_by_its_owner() {
    let desk = Desk::new();
    let (_, cookie) = desk.all();
    let engine = &desk.house.engine;
    let key = desk.house.key("acme/etl/night", &["read"]).key;
    for (owner, quota) in [("acme", 700), ("acme/etl", 60)] {
        let update = gatekey::OwnerUpdate::new().quota(Quota::new(quota));
        engine.update_owner("acme_live", owner, update).unwrap();
    }
    let member = desk.house.pages("acme", House::ceiling());
    for page in [
        desk.get(&cookie, &format!("/keys/{}", key.id)),
        get(&member, &format!("/settings/keys/keys/{}", key.id)),
    ] {
        for text in ["Quota, all keys of acme<", "Quota, all keys of acme/etl<"] {
            assert!(page.body.contains(text), "{text}: {}", page.body);
        }
        assert!(!page.body.contains("level"), "{}", page.body);
    }
    let usage = get(&member, "/settings/keys/usage?keyspace=acme_live").body;
    assert!(usage.contains("Quota, all keys of acme<"), "{usage}");
    assert!(!usage.contains("acme/etl<"), "{usage}");
    // Where a level is chosen, a path shows what is meant.
    let levels = desk.get(&cookie, "/keyspaces/acme_live/level").body;
    assert!(
        levels.contains("Owners at level 2, as acme/ingest<"),
        "{levels}"
    );
}

/// A key that was revoked before its end shows when it was revoked.
#[test]
fn a_revoked_key_shows_no_end_in_the_future() {
    let clock = gatekey::ManualClock::at("2026-10-01T09:20:00Z".parse().unwrap());
    let options = gatekey::Options::new().clock(clock.clone());
    let desk = Desk::of(House::over(options.open_in_memory().unwrap()));
    let (_, cookie) = desk.all();
    let engine = &desk.house.engine;
    let key = |name: &str| {
        let new = NewKey::new("acme_live", "acme").unwrap().name(name);
        engine.issue(new.expires_in(30 * DAY)).unwrap().key.id
    };
    let (revoked, retiring) = (key("revoked"), key("retiring"));
    clock.set("2026-10-03T10:00:00Z".parse().unwrap());
    let rotation = gatekey::Rotation::with_grace(DAY);
    engine.rotate(retiring, rotation).unwrap();
    engine
        .revoke(revoked, gatekey::Reason::KeyCompromise)
        .unwrap();
    engine
        .revoke(retiring, gatekey::Reason::KeyCompromise)
        .unwrap();
    clock.set("2026-10-03T12:00:00Z".parse().unwrap());
    let member = desk.house.pages("acme", House::ceiling());
    for id in [revoked, retiring] {
        for page in [
            desk.get(&cookie, &format!("/keys/{id}")),
            get(&member, &format!("/settings/keys/keys/{id}")),
        ] {
            let at = page.body.find("<dt>Ends</dt>").unwrap();
            let end = page.body[at..].split("</div>").next().unwrap();
            assert!(end.contains("datetime=\"2026-10-03T10:00:00Z\""), "{end}");
            assert!(end.contains("2 hours ago"), "{end}");
        }
    }
    for list in [
        desk.get(&cookie, "/keys?state=revoked"),
        get(&member, "/settings/keys?show=all"),
    ] {
        let rows = list
            .body
            .split("<tr ")
            .filter(|row| row.contains("Revoked"));
        let ends: Vec<&str> = rows.filter(|row| row.contains("<time")).collect();
        assert_eq!(ends.len(), 2, "{}", list.body);
        for row in ends {
            assert!(row.contains("2 hours ago"), "{row}");
            assert!(!row.contains("2026-10-31"), "{row}");
        }
    }
    let csv = desk.get(&cookie, "/keys.csv?state=revoked").body;
    let ends = csv.lines().skip(1).map(|line| line.rsplit(',').next());
    let ends: Vec<_> = ends.map(Option::unwrap).collect();
    assert_eq!(
        ends,
        ["\"2026-10-03T10:00:00Z\"", "\"2026-10-03T10:00:00Z\""]
    );
}
