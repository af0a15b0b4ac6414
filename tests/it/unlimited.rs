//! Owners without a quota, a cap or limits, where their level has some by default.

use gatekey::{
    AuditEvent, Conflict, Error, Issued, KeysPerOwner, LevelDefaults, Limit, NewKey, NewKeyspace,
    OwnerUpdate, Plan, Quota, Setting,
};

use crate::common::{Store, everywhere, granted};

/// Organisations have 5 requests and 2 keys, owners two levels below them 3 requests.
fn begin(store: &Store) {
    let plan = Plan::new("free").limit(Limit::per_hour(50).fixed());
    let organisation = LevelDefaults::new().quota(Quota::new(5)).plan("free");
    let new = NewKeyspace::new("acme_live").unwrap().plan(plan);
    let new = new
        .owner_defaults(1, organisation.cap(2))
        .owner_defaults(3, LevelDefaults::new().quota(Quota::new(3)));
    store.engine.create_keyspace(new).unwrap();
}

fn set(store: &Store, owner: &str, update: OwnerUpdate) {
    store
        .engine
        .update_owner("acme_live", owner, update)
        .unwrap();
}

fn issue(store: &Store, owner: &str) -> Result<Issued, Error> {
    store.engine.issue(NewKey::new("acme_live", owner).unwrap())
}

/// How many of some requests are granted, and of how many levels the quotas are left.
fn ask(store: &Store, key: &Issued, requests: u32) -> (u32, usize) {
    let left = store.engine.quotas_left(key.key.id).unwrap().len();
    (granted(&store.engine, key.token.expose(), requests), left)
}

#[test]
fn an_owner_that_is_unlimited_has_no_quota_whatever_its_level_has() {
    everywhere(|store| {
        begin(store);
        let [acme, other] = ["acme/a", "other/a"].map(|owner| issue(store, owner).unwrap());
        assert_eq!(ask(store, &acme, 3), (3, 1));
        set(store, "acme", OwnerUpdate::new().quota(Setting::Unlimited));
        store.assert_sound();
        assert_eq!(ask(store, &acme, 9), (9, 0));
        assert_eq!(ask(store, &other, 9), (5, 1));
        // The levels below have what they had.
        let below = issue(store, "acme/a/x").unwrap();
        assert_eq!(ask(store, &below, 9), (3, 1));
        store.reopen();
        let acme_has = store.engine.owner_settings("acme_live", "acme").unwrap();
        assert_eq!(acme_has.quota, Setting::Unlimited);
        assert!(!acme_has.is_empty());
        assert_eq!(ask(store, &acme, 9), (9, 0));
        store.assert_sound();
        assert!(store.engine.repair().unwrap().repairs.is_empty());
        // What is unlimited again is no change.
        let last = store.engine.audit_span().unwrap().last.seq;
        set(store, "acme", OwnerUpdate::new().quota(Setting::Unlimited));
        assert_eq!(store.engine.audit_span().unwrap().last.seq, last);
        // The default of the level again is a full one, and so is one of its own.
        set(store, "acme", OwnerUpdate::new().quota(None));
        assert_eq!(ask(store, &acme, 9), (5, 1));
        set(store, "acme", OwnerUpdate::new().quota(Setting::Unlimited));
        assert_eq!(ask(store, &acme, 9), (9, 0));
        set(store, "acme", OwnerUpdate::new().quota(Quota::new(2)));
        assert_eq!(ask(store, &acme, 9), (2, 1));
    });
}

#[test]
fn an_owner_that_is_unlimited_holds_as_many_keys_as_it_likes() {
    everywhere(|store| {
        begin(store);
        let no_cap = || OwnerUpdate::new().cap(Setting::Unlimited);
        set(store, "acme", no_cap());
        for at in 0..5 {
            issue(store, &format!("acme/{}", at % 2)).unwrap();
        }
        store.reopen();
        issue(store, "acme/0").unwrap();
        let refused = |owner: &str| {
            for _ in 0..2 {
                issue(store, owner).unwrap();
            }
            let third = issue(store, owner);
            assert!(
                matches!(third, Err(Error::Conflict(Conflict::OwnerAtCap { .. }))),
                "{third:?}"
            );
        };
        refused("other");
        // It takes the place of the keyspace's, too, for the owner itself.
        let new = NewKeyspace::new("single").unwrap();
        let one = KeysPerOwner::Many { cap: Some(1) };
        store
            .engine
            .create_keyspace(new.keys_per_owner(one))
            .unwrap();
        let single = |owner: &str| store.engine.issue(NewKey::new("single", owner).unwrap());
        store
            .engine
            .update_owner("single", "acme", no_cap())
            .unwrap();
        single("acme").unwrap();
        single("acme").unwrap();
        single("acme/a").unwrap();
        assert!(single("acme/a").is_err());
        // Back at the default, what is held is too much.
        set(store, "acme", OwnerUpdate::new().cap(None));
        assert!(issue(store, "acme/0").is_err());
    });
}

#[test]
fn an_owner_without_limits_is_not_counted_under_the_plan_of_its_level() {
    everywhere(|store| {
        begin(store);
        let update = OwnerUpdate::new().limits([]).quota(Setting::Unlimited);
        set(store, "acme", update);
        let [acme, other] = ["acme/a", "other/a"].map(|owner| issue(store, owner).unwrap());
        let left = |key: &Issued| store.engine.limits_left(key.key.id).unwrap().len();
        assert_eq!((left(&acme), left(&other)), (0, 1));
        assert_eq!(granted(&store.engine, acme.token.expose(), 60), 60);
    });
}

#[test]
fn the_audit_trail_tells_what_became_unlimited() {
    let store = Store::on_file();
    begin(&store);
    let without = OwnerUpdate::new()
        .quota(Setting::Unlimited)
        .cap(Setting::Unlimited);
    let last_of = |update| {
        set(&store, "acme", update);
        let last = store.engine.audit_span().unwrap().last.seq;
        let page = store.engine.audit_page(last, 1).unwrap();
        match &page.entries[0].event {
            AuditEvent::OwnerUpdated { changes, .. } => changes
                .iter()
                .map(|change| format!("{}: {} -> {}", change.field, change.before, change.after))
                .collect::<Vec<_>>(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        last_of(without),
        ["quota: none -> unlimited", "cap: none -> unlimited"]
    );
    assert_eq!(
        last_of(OwnerUpdate::new().quota(Quota::new(9)).cap(3)),
        ["quota: unlimited -> 9 in all", "cap: unlimited -> 3"]
    );
    store.assert_sound();
}
