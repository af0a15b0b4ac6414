//! The example of docs/SELF_SERVICE.md, attacked by callers that want more than is theirs.

#[path = "../../examples/self_service.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod example;

use example::{Caller, Declined};
use gatekey::{
    Engine, Grant, Issued, KeyUpdate, KeysPerOwner, KeyspaceUpdate, Limit, NewKey, NewKeyspace,
    Plan, Quota, Requirements, Rotation,
};

use crate::common::{DAY, Store};

fn key(engine: &Engine, prefix: &str, owner: &str, permissions: &[&'static str]) -> Issued {
    let new = NewKey::new(prefix, owner).unwrap();
    let permissions = permissions.iter().copied();
    engine.issue(new.permissions(permissions)).unwrap()
}

fn grant(engine: &Engine, issued: &Issued) -> Grant {
    let verdict = engine.verify(issued.token.expose()).unwrap();
    verdict.into_result().unwrap()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given what a call gave"
)]
fn is_not_yours<T>(result: Result<T, Declined>) -> bool {
    matches!(result, Err(Declined::NotYours))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given what a call gave"
)]
fn is_more<T>(result: Result<T, Declined>) -> bool {
    matches!(result, Err(Declined::MoreThanYours))
}

#[test]
fn a_reader_cannot_have_lists_tokens_or_the_end_of_what_may_more() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    store.keyspace("acme");
    store.keyspace("other");
    let reader = key(engine, "acme", "acme/team", &["read"]);
    // The same owner's, with more; one above; beside; whose name begins alike; of another
    // keyspace; and one that nobody has.
    let admin = key(engine, "acme", "acme/team", &["read", "write"]);
    let writer = key(engine, "acme", "acme/team/ci", &["write"]);
    let above = key(engine, "acme", "acme", &["read"]);
    let beside = key(engine, "acme", "acme/other", &["read"]);
    let alike = key(engine, "acme", "acme/team2", &["read"]);
    let elsewhere = key(engine, "other", "acme/team", &["read"]);
    let out_of_reach = [admin, writer, above, beside, alike, elsewhere];
    let grant_of_reader = grant(engine, &reader);
    let caller = Caller::new(engine, &grant_of_reader).unwrap();
    for issued in &out_of_reach {
        assert!(
            is_not_yours(caller.rotate(issued.key.id)),
            "{:?}",
            issued.key
        );
        assert!(
            is_not_yours(caller.revoke(issued.key.id)),
            "{:?}",
            issued.key
        );
        assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    }
    // The same answer as for what does not exist.
    assert!(is_not_yours(caller.rotate("zzzzzzzzz0".parse().unwrap())));
    let team = || "acme/team".parse().unwrap();
    assert!(is_more(caller.issue(team(), &["write"])));
    assert!(is_more(caller.issue(team(), &["read", "write"])));
    for owner in ["acme", "acme/other", "acme/team2"] {
        assert!(
            is_more(caller.issue(owner.parse().unwrap(), &["read"])),
            "{owner}"
        );
    }

    // What is the caller's, it has.
    let bot = caller
        .issue("acme/team/bot".parse().unwrap(), &["read"])
        .unwrap();
    let none = caller.issue(team(), &[]).unwrap();
    let mut mine = [reader.key.id, bot.key.id, none.key.id];
    mine.sort_unstable();
    let mut listed: Vec<_> = caller.list().unwrap().iter().map(|key| key.id).collect();
    listed.sort_unstable();
    assert_eq!(listed, mine);
    let rotated = caller.rotate(bot.key.id).unwrap();
    assert_eq!(rotated.key.permissions, reader.key.permissions);
    caller.revoke(none.key.id).unwrap();
    let by = engine
        .key(none.key.id)
        .unwrap()
        .revoked
        .unwrap()
        .by
        .unwrap();
    assert!(by.contains(&reader.key.id.to_string()), "{by}");
    store.assert_sound();
}

#[test]
fn what_a_caller_issues_outlives_and_outdoes_nothing_of_its_own() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    store.keyspace("acme");
    let new = NewKey::new("acme", "acme").unwrap();
    let network = "10.0.0.0/8".parse().unwrap();
    let bound = new
        .clone()
        .permissions(["read"])
        .allow_network(network)
        .expires_in(DAY);
    let bound = engine.issue(bound).unwrap();
    let requirements = Requirements::new().source("10.0.0.1".parse().unwrap());
    let verdict = engine
        .verify_with(bound.token.expose(), &requirements)
        .unwrap();
    let grant_of_bound = verdict.into_result().unwrap();
    let caller = Caller::new(engine, &grant_of_bound).unwrap();
    let issued = caller
        .issue("acme/bot".parse().unwrap(), &["read"])
        .unwrap();
    assert_eq!(issued.key.networks, [network]);
    assert_eq!(issued.key.expires_at, bound.key.expires_at);

    // One that never expires is rotated to one that ends with the caller's.
    let lasting = new.clone().permissions(["read"]).allow_network(network);
    let lasting = engine.issue(lasting).unwrap();
    let rotated = caller.rotate(lasting.key.id).unwrap();
    assert_eq!(rotated.key.expires_at, bound.key.expires_at);

    // A quota is not multiplied.
    let metered = engine.issue(new.quota(Quota::new(9))).unwrap();
    let grant_of_metered = grant(engine, &metered);
    let caller = Caller::new(engine, &grant_of_metered).unwrap();
    assert!(is_more(caller.issue("acme".parse().unwrap(), &[])));
}

#[test]
fn a_reader_does_not_end_its_admin_by_a_new_key_in_a_single_active_keyspace() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    let single = NewKeyspace::new("solo")
        .unwrap()
        .permissions(["read", "admin"]);
    let single = single.keys_per_owner(KeysPerOwner::SingleSuperseding);
    engine.create_keyspace(single).unwrap();
    let reader = key(engine, "solo", "acme", &["read"]);
    let admin = key(engine, "solo", "acme/admin", &["admin"]);
    let grant_of_reader = grant(engine, &reader);
    let caller = Caller::new(engine, &grant_of_reader).unwrap();
    assert!(is_more(
        caller.issue("acme/admin".parse().unwrap(), &["read"])
    ));
    assert!(engine.verify(admin.token.expose()).unwrap().is_granted());
    assert!(caller.rotate(reader.key.id).is_ok());
}

/// A permission that is retired is nobody's, and stands in no one's way.
#[test]
fn a_retired_permission_does_not_keep_a_caller_from_its_own_keys() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    store.keyspace("acme");
    let both = key(engine, "acme", "acme", &["read", "write"]);
    let retire = KeyspaceUpdate::new().retire_permissions(["write"]);
    engine.update_keyspace("acme", retire).unwrap();
    let grant_of_both = grant(engine, &both);
    let caller = Caller::new(engine, &grant_of_both).unwrap();
    assert_eq!(caller.list().unwrap().len(), 1);
    let rotated = caller.rotate(both.key.id).unwrap();
    assert_eq!(rotated.key.permissions.bits(), 1);
    // Wider than the caller again, it is out of its reach.
    let wider = KeyUpdate::new();
    let more = KeyspaceUpdate::new().add_permissions(["admin"]);
    engine.update_keyspace("acme", more).unwrap();
    engine
        .update(rotated.key.id, wider.add_permissions(["admin"]))
        .unwrap();
    assert!(is_not_yours(caller.rotate(rotated.key.id)));
}

/// A keyspace with a plan, in which a key has the limits and the plan given.
fn limited(engine: &Engine, owner: &str, plan: Option<&str>, limits: Option<Limit>) -> Issued {
    let mut new = NewKey::new("tiers", owner).unwrap().permissions(["read"]);
    if let Some(plan) = plan {
        new = new.plan(plan);
    }
    if let Some(limit) = limits {
        new = new.limits([limit]);
    }
    engine.issue(new).unwrap()
}

fn tiers(engine: &Engine) {
    let pro = Plan::new("pro").limit(Limit::per_minute(1_000));
    let tiers = NewKeyspace::new("tiers").unwrap().permissions(["read"]);
    engine.create_keyspace(tiers.plan(pro)).unwrap();
}

#[test]
fn what_a_caller_issues_has_its_limits_beside_its_plan() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    tiers(engine);
    let two = Limit::per_hour(2).fixed();
    for (plan, limits) in [
        (None, Some(two)),
        (Some("pro"), Some(two)),
        (Some("pro"), None),
    ] {
        let own = limited(engine, "acme", plan, limits);
        let grant_of_own = grant(engine, &own);
        let caller = Caller::new(engine, &grant_of_own).unwrap();
        let issued = caller.issue("acme".parse().unwrap(), &["read"]).unwrap();
        assert_eq!(issued.key.plan, own.key.plan);
        assert_eq!(issued.key.limits, own.key.limits);
        if limits.is_some() {
            let ask = |_: &i32| engine.verify(issued.token.expose()).unwrap().is_granted();
            assert_eq!((0..9).filter(ask).count(), 2);
            // Nor has its next token a fresh hour.
            let rotated = caller.rotate(issued.key.id).unwrap();
            let verdict = engine.verify(rotated.token.expose()).unwrap();
            assert!(!verdict.is_granted());
        }
    }
}

/// A rotation gives its caller a token, as an issue does.
#[test]
fn a_caller_has_no_token_with_fewer_bounds_by_a_rotation() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    tiers(engine);
    let two = Limit::per_minute(2);
    let free = || limited(engine, "acme", None, None);
    let network = "10.0.0.0/8".parse().unwrap();
    let other = "192.0.2.0/24".parse().unwrap();
    let with = |change| {
        let issued = free();
        engine.update(issued.key.id, change).unwrap();
        issued
    };
    let update = KeyUpdate::new;
    let inside = update().networks([network]);
    let both = update().networks([network, other]);
    let quota = update().quota(Quota::new(9));
    // The caller's bound, what it may rotate with it, and what it may not.
    let cases = [
        (inside.clone(), vec![inside], vec![update(), both]),
        (
            update().limits([two]),
            vec![update().limits([two])],
            vec![
                update(),
                update().plan("pro"),
                update().limits([]),
                update().limits([Limit::per_minute(3)]),
            ],
        ),
        (
            update().plan("pro"),
            vec![update().plan("pro")],
            vec![update(), update().plan("pro").limits([])],
        ),
        (quota.clone(), vec![quota], vec![update()]),
        (
            update(),
            vec![update(), update().plan("pro"), update().limits([two])],
            vec![],
        ),
        (
            update().limits([]),
            vec![update(), update().plan("pro")],
            vec![],
        ),
    ];
    let requirements = Requirements::new().source("10.0.0.1".parse().unwrap());
    for (bound, within, beyond) in cases {
        let own = with(bound.clone());
        let verdict = engine.verify_with(own.token.expose(), &requirements);
        let grant_of_own = verdict.unwrap().into_result().unwrap();
        let caller = Caller::new(engine, &grant_of_own).unwrap();
        for change in beyond {
            let issued = with(change.clone());
            let rotated = caller.rotate(issued.key.id);
            assert!(is_more(rotated), "{bound:?}, {change:?}");
            let verdict = engine.verify_with(issued.token.expose(), &requirements);
            assert!(verdict.unwrap().is_granted());
        }
        for change in within {
            let issued = with(change.clone());
            let before = engine.key(issued.key.id).unwrap();
            let rotated = caller.rotate(issued.key.id).unwrap();
            let key = rotated.key;
            assert_eq!(
                (key.networks, key.plan, key.limits),
                (before.networks, before.plan, before.limits),
                "{bound:?}, {change:?}"
            );
        }
        // Its own key it may rotate, whatever its bounds are.
        caller.rotate(own.key.id).unwrap();
    }
}

#[test]
fn with_a_key_the_token_before_its_rotation_ends_unless_it_may_more() {
    let store = Store::new(0, false);
    let engine = &store.engine;
    store.keyspace("acme");
    let reader = key(engine, "acme", "acme", &["read"]);
    let grant_of_reader = grant(engine, &reader);
    let caller = Caller::new(engine, &grant_of_reader).unwrap();
    for (permissions, ends) in [(&["read"][..], true), (&["read", "write"][..], false)] {
        let old = key(engine, "acme", "acme/bot", permissions);
        let narrow = KeyUpdate::new().set_permissions(["read"]);
        let rotation = Rotation::with_grace(DAY).changing(narrow);
        let new = engine.rotate(old.key.id, rotation).unwrap();
        caller.revoke(new.key.id).unwrap();
        let works = |token: &str| engine.verify(token).unwrap().is_granted();
        assert!(!works(new.token.expose()));
        assert_eq!(works(old.token.expose()), !ends);
    }
}
