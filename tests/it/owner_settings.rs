//! What owners have of their own in a keyspace, and what keys have in the place of their
//! plan's limits.

use gatekey::{
    AuditEvent, Conflict, Engine, Error, Invalid, KeyFilter, KeyUpdate, KeyspaceUpdate,
    LevelDefaults, Limit, NewKey, NewKeyspace, NotFound, OwnerSettings, OwnerUpdate, Plan, Quota,
    Refill, Restore, Rotation, Setting, bounds,
};
use redb::{ReadableTable as _, TableDefinition};

use crate::common::{DAY, Store, everywhere};

const SETTINGS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("owner_settings");
const QUOTAS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("owner_quotas");

fn monthly(requests: u64) -> Quota {
    Quota::new(requests).refilled(Refill::Monthly)
}

fn keyspace(prefix: &str) -> NewKeyspace {
    NewKeyspace::new(prefix)
        .unwrap()
        .plan(Plan::new("free").limit(Limit::per_minute(60)))
        .plan(Plan::new("pro").limit(Limit::per_second(50)))
}

fn set(engine: &Engine, owner: &str, update: OwnerUpdate) -> OwnerSettings {
    engine.update_owner("acme_live", owner, update).unwrap()
}

fn settings(engine: &Engine, owner: &str) -> OwnerSettings {
    engine.owner_settings("acme_live", owner).unwrap()
}

fn full() -> OwnerUpdate {
    OwnerUpdate::new()
        .plan("pro")
        .limits([Limit::per_second(80), Limit::per_hour(9_000)])
        .quota(monthly(1_000))
        .cap(7)
}

#[test]
fn settings_are_what_was_said_last_and_what_is_not_named_stays() {
    everywhere(|store| {
        let engine = &store.engine;
        engine.create_keyspace(keyspace("acme_live")).unwrap();
        engine.create_keyspace(keyspace("acme_test")).unwrap();
        assert!(settings(engine, "acme/ingest").is_empty());
        assert_eq!(settings(engine, "acme/ingest").updated_at, None);

        let by_ops = engine.acting_as("ops").unwrap();
        let said = by_ops
            .update_owner("acme_live", "acme/ingest", full())
            .unwrap();
        assert_eq!(said.plan.as_deref(), Some("pro"));
        assert_eq!(
            said.limits.as_deref(),
            Some(&[Limit::per_second(80), Limit::per_hour(9_000)][..])
        );
        let quota = said.quota.own().unwrap();
        assert_eq!((quota.quota, quota.remaining), (monthly(1_000), 1_000));
        assert!(quota.refills_at.is_some());
        assert_eq!(said.cap, Setting::Own(7));
        assert_eq!(said.updated_by.as_deref(), Some("ops"));
        assert_eq!(settings(engine, "acme/ingest"), said);

        store.clock.advance(DAY);
        let changed = set(engine, "acme/ingest", OwnerUpdate::new().plan("free"));
        assert_eq!(changed.plan.as_deref(), Some("free"));
        assert_eq!(
            (changed.limits.clone(), changed.quota, changed.cap),
            (said.limits.clone(), said.quota, said.cap)
        );
        assert!(changed.updated_at > said.updated_at);
        assert_eq!(changed.updated_by, None);

        // Those of another owner, above, below or beside, and of another keyspace.
        for other in ["acme", "acme/ingest/bot", "acme/ingest2", "acme/in"] {
            assert!(settings(engine, other).is_empty(), "{other}");
        }
        let other = engine.owner_settings("acme_test", "acme/ingest").unwrap();
        assert!(other.is_empty());
        set(engine, "acme", OwnerUpdate::new().limits([]));
        assert_eq!(settings(engine, "acme").limits, Some(Vec::new()));
        assert!(!settings(engine, "acme").is_empty());

        if store.reopen() {
            assert_eq!(settings(&store.engine, "acme/ingest"), changed);
        }
        store.assert_sound();
    });
}

#[test]
fn a_record_goes_with_the_last_of_its_settings() {
    everywhere(|store| {
        let engine = &store.engine;
        engine.create_keyspace(keyspace("acme_live")).unwrap();
        set(engine, "acme", full());
        let left = set(
            engine,
            "acme",
            OwnerUpdate::new().limits_of_plan().plan(None),
        );
        assert_eq!((left.plan.as_deref(), left.limits), (None, None));
        let left = set(engine, "acme", OwnerUpdate::new().quota(None));
        assert_eq!((left.quota, left.cap), (Setting::Default, Setting::Own(7)));
        let left = set(engine, "acme", OwnerUpdate::new().cap(None));
        assert!(left.is_empty() && left.updated_at.is_none());
        set(engine, "globex", full());
        assert!(set(engine, "globex", OwnerUpdate::nothing()).is_empty());
        let page = engine.owner_settings_page("acme_live", None, 10).unwrap();
        assert!(page.owners.is_empty() && page.damaged.is_empty());
        store.assert_sound();
    });
}

#[test]
fn an_update_touches_no_key_and_settings_outlive_the_keys() {
    let store = Store::on_file();
    let engine = &store.engine;
    engine.create_keyspace(keyspace("acme_live")).unwrap();
    let new = NewKey::new("acme_live", "acme/ingest").unwrap();
    let issued = engine.issue(new.expires_in(DAY)).unwrap();
    let before = engine.key(issued.key.id).unwrap();
    let last = engine.audit_span().unwrap().last.seq;
    set(engine, "acme", full());
    assert_eq!(engine.audit_span().unwrap().last.seq, last + 1);
    assert_eq!(engine.key(issued.key.id).unwrap(), before);
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());

    store.clock.advance(2 * DAY);
    assert_eq!(engine.purge(DAY / 2).unwrap().keys, 1);
    assert_eq!(settings(engine, "acme").cap, Setting::Own(7));
    // The verification took a slice of a hundredth.
    assert_eq!(settings(engine, "acme").quota.own().unwrap().remaining, 990);
    store.assert_sound();
}

#[test]
fn what_is_not_acceptable_is_refused_and_leaves_nothing() {
    everywhere(|store| {
        let engine = &store.engine;
        engine.create_keyspace(keyspace("acme_live")).unwrap();
        let last = engine.audit_span().unwrap().last.seq;
        let refused = |update: OwnerUpdate| {
            let answer = engine.update_owner("acme_live", "acme", update);
            match answer.unwrap_err() {
                Error::Invalid(invalid) => invalid,
                other => panic!("{other}"),
            }
        };
        assert!(matches!(
            refused(full().plan("gold")),
            Invalid::UnknownPlan { .. }
        ));
        let many = [Limit::per_second(1); bounds::LIMITS_PER_PLAN_MAX + 1];
        assert!(matches!(
            refused(full().limits(many)),
            Invalid::TooMany { .. }
        ));
        for update in [
            full().limits([Limit::per_second(0)]),
            full().quota(Quota::new(0)),
            full().cap(0),
        ] {
            assert!(matches!(refused(update), Invalid::Malformed(_)));
        }
        assert!(matches!(
            engine.update_owner("acme_other", "acme", full()),
            Err(Error::NotFound(NotFound::Keyspace(_)))
        ));
        assert!(matches!(
            engine.owner_settings("acme_other", "acme"),
            Err(Error::NotFound(NotFound::Keyspace(_)))
        ));
        assert!(engine.update_owner("acme_live", "acme//x", full()).is_err());
        assert!(settings(engine, "acme").is_empty());
        assert_eq!(engine.audit_span().unwrap().last.seq, last);
    });
}

#[test]
fn each_change_is_in_the_audit_trail_and_no_change_is_not_written() {
    let store = Store::on_file();
    let engine = &store.engine;
    engine.create_keyspace(keyspace("acme_live")).unwrap();
    let told = |update: OwnerUpdate| -> Option<String> {
        let next = engine.audit_span().unwrap().last.seq + 1;
        let by_ops = engine.acting_as("ops").unwrap();
        by_ops.update_owner("acme_live", "acme", update).unwrap();
        let page = engine.audit_page(next, 10).unwrap();
        let [entry] = page.entries.as_slice() else {
            assert!(page.entries.is_empty());
            return None;
        };
        assert_eq!(entry.actor.as_deref(), Some("ops"));
        assert!(entry.event.keys().is_empty());
        assert!(matches!(
            &entry.event,
            AuditEvent::OwnerUpdated { keyspace, owner, .. }
                if keyspace.as_str() == "acme_live" && owner.as_str() == "acme"
        ));
        Some(entry.event.to_string())
    };
    assert_eq!(
        told(full()).unwrap(),
        "owner acme updated in acme_live: plan [none] -> [\"pro\"], \
         limits [none] -> [80 a second, 9000 an hour], \
         quota [none] -> [1000 monthly], cap [none] -> [7]"
    );
    assert_eq!(told(OwnerUpdate::new()), None);
    assert_eq!(told(OwnerUpdate::new().plan("pro").cap(7)), None);
    assert_eq!(
        told(OwnerUpdate::new().quota(monthly(1_000))).unwrap(),
        "owner acme updated in acme_live: quota [in use] -> [full]"
    );
    assert_eq!(
        told(OwnerUpdate::new().limits([])).unwrap(),
        "owner acme updated in acme_live: \
         limits [80 a second, 9000 an hour] -> [no limit]"
    );
    assert_eq!(
        told(OwnerUpdate::nothing()).unwrap(),
        "owner acme updated in acme_live: plan [\"pro\"] -> [none], \
         limits [no limit] -> [none], quota [1000 monthly] -> [none], cap [7] -> [none]"
    );
    assert_eq!(told(OwnerUpdate::nothing()), None);
    store.assert_sound();
}

#[test]
fn owners_with_settings_are_listed_by_keyspace_page_by_page() {
    everywhere(|store| {
        let engine = &store.engine;
        engine.create_keyspace(keyspace("acme_live")).unwrap();
        engine.create_keyspace(keyspace("acme_test")).unwrap();
        let mut owners = [
            "globex",
            "acme",
            "acme/ingest",
            "acme-x",
            "zeta",
            "acme/a/b",
        ];
        for owner in owners {
            set(engine, owner, OwnerUpdate::new().cap(3));
        }
        engine
            .update_owner("acme_test", "bolt", OwnerUpdate::new().cap(3))
            .unwrap();
        owners.sort_unstable();
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = engine
                .owner_settings_page("acme_live", after.as_ref(), 2)
                .unwrap();
            assert!(page.owners.len() <= 2);
            found.extend(page.owners.iter().map(|it| it.owner.to_string()));
            pages += 1;
            // As a client sends it back.
            after = page.next.map(|next| next.to_string().parse().unwrap());
            if after.is_none() {
                break;
            }
            if pages == 1 {
                // Neither repeated nor skipped, whatever changes behind it.
                set(engine, "acme", OwnerUpdate::nothing());
                set(engine, "acme", OwnerUpdate::new().cap(1));
            }
        }
        assert_eq!(
            (found.as_slice(), pages > 2),
            (owners.map(String::from).as_slice(), true)
        );
        let all = engine.owners_with_settings("acme_live".parse().unwrap());
        assert_eq!(
            all.map(|it| it.unwrap().owner.to_string())
                .collect::<Vec<_>>(),
            owners
        );

        let page = engine.owner_settings_page("acme_live", None, 1).unwrap();
        let cursor = page.next.unwrap();
        for refused in [
            engine.owner_settings_page("acme_test", Some(&cursor), 1),
            engine.owner_settings_page("acme_live", None, 0),
            engine.owner_settings_page("acme_live", None, bounds::PAGE_MAX + 1),
        ] {
            assert!(matches!(refused, Err(Error::Invalid(_))));
        }
        assert!(
            engine
                .keys_page(&KeyFilter::new(), Some(&cursor), 1)
                .is_err()
        );
        // Of an owner without a cap.
        let spec = NewKey::new("acme_live", "nobody").unwrap();
        engine.issue_batch(vec![spec; 3]).unwrap();
        let keys = engine.keys_page(&KeyFilter::new(), None, 1).unwrap();
        let of_keys = keys.next.unwrap();
        assert!(
            engine
                .owner_settings_page("acme_live", Some(&of_keys), 1)
                .is_err()
        );
    });
}

#[test]
fn a_keyspace_keeps_the_defaults_of_its_levels() {
    everywhere(|store| {
        let engine = &store.engine;
        let defaults = LevelDefaults::new().plan("free").quota(monthly(50)).cap(4);
        let new = || {
            keyspace("acme_live")
                .owner_defaults(1, defaults.clone())
                .owner_defaults(8, LevelDefaults::new().cap(1))
                .owner_defaults(3, LevelDefaults::new())
        };
        let created = engine.ensure_keyspace(new()).unwrap();
        assert_eq!(
            created.owner_defaults.keys().copied().collect::<Vec<_>>(),
            [1, 8]
        );
        assert_eq!(created.owner_defaults[&1], defaults);
        assert_eq!(engine.ensure_keyspace(new()).unwrap(), created);
        let other = new().owner_defaults(1, LevelDefaults::new().plan("pro"));
        match engine.ensure_keyspace(other) {
            Err(Error::Conflict(Conflict::KeyspaceDiffers { differences, .. })) => {
                assert_eq!(differences[0].field, "owner defaults");
                assert_eq!(
                    differences[0].found,
                    "1: plan \"free\", quota 50 monthly, cap 4; 8: cap 1"
                );
            }
            other => panic!("{other:?}"),
        }
        let update = KeyspaceUpdate::new()
            .owner_defaults(8, None)
            .owner_defaults(2, LevelDefaults::new().quota(Quota::new(5)));
        let updated = engine.update_keyspace("acme_live", update).unwrap();
        assert_eq!(
            updated.owner_defaults.keys().copied().collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(updated.owner_defaults[&1], defaults);

        let none = LevelDefaults::new;
        for (depth, defaults) in [
            (0, none().cap(1)),
            (9, none().cap(1)),
            (9, none()),
            (1, none().cap(0)),
            (1, none().quota(Quota::new(0))),
            (1, none().plan("gold")),
        ] {
            let update = KeyspaceUpdate::new().owner_defaults(depth, defaults.clone());
            let refused = engine.update_keyspace("acme_live", update);
            assert!(
                matches!(refused, Err(Error::Invalid(_))),
                "{depth} {defaults}"
            );
            let new = keyspace("acme_more").owner_defaults(depth, defaults.clone());
            let refused = engine.create_keyspace(new);
            assert!(
                matches!(refused, Err(Error::Invalid(_))),
                "{depth} {defaults}"
            );
        }
        if store.reopen() {
            assert_eq!(store.engine.keyspace("acme_live").unwrap(), updated);
        }
        // A default is not a setting of an owner.
        assert!(settings(&store.engine, "acme").is_empty());
        store.assert_sound();
    });
}

/// Where no owner has settings, only the keyspace can say so.
#[test]
fn the_cap_of_a_level_holds_where_no_owner_has_settings() {
    everywhere(|store| {
        let engine = &store.engine;
        let two = LevelDefaults::new().cap(2);
        let new = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(new.owner_defaults(1, two)).unwrap();
        let issue = |owner| engine.issue(NewKey::new("acme_live", owner).unwrap());
        issue("acme/a").unwrap();
        issue("acme/b").unwrap();
        let third = issue("acme/c");
        assert!(
            matches!(third, Err(Error::Conflict(Conflict::OwnerAtCap { .. }))),
            "{third:?}"
        );
        issue("other").unwrap();
    });
}

#[test]
fn a_plan_says_whether_it_replaces_those_above() {
    let mut store = Store::on_file();
    let plan = Plan::new("batch").replaces_levels_above();
    let new = NewKeyspace::new("acme_live").unwrap().plan(plan.clone());
    store.engine.create_keyspace(new).unwrap();
    store.reopen();
    let kept = store.engine.keyspace("acme_live").unwrap();
    assert_eq!(kept.plans, std::slice::from_ref(&plan));
    assert_eq!(
        plan.to_string(),
        "batch: no limit (replaces the levels above)"
    );
    let both = plan.limit(Limit::per_second(5)).shared_by_owner();
    assert_eq!(
        both.to_string(),
        "batch: 5 a second (shared by an owner's keys; replaces the levels above)"
    );
}

#[test]
fn a_key_can_have_limits_of_its_own() {
    everywhere(|store| {
        let engine = &store.engine;
        engine.create_keyspace(keyspace("acme_live")).unwrap();
        let own = [Limit::per_second(7)];
        let new = NewKey::new("acme_live", "acme").unwrap().plan("free");
        let issued = engine.issue(new.clone().limits(own)).unwrap();
        let id = issued.key.id;
        assert_eq!(issued.key.limits.as_deref(), Some(&own[..]));
        assert_eq!(issued.key.plan.as_deref(), Some("free"));
        assert_eq!(engine.key(id).unwrap(), issued.key);
        assert_eq!(engine.issue(new.clone()).unwrap().key.limits, None);

        let rotated = engine.rotate(id, Rotation::with_grace(DAY)).unwrap();
        assert_eq!(rotated.key.limits.as_deref(), Some(&own[..]));
        assert_eq!(rotated.old.limits.as_deref(), Some(&own[..]));
        let changes = KeyUpdate::new().limits([]);
        let rotation = Rotation::at_once().changing(changes);
        let rotated = engine.rotate(rotated.key.id, rotation).unwrap();
        assert_eq!(rotated.key.limits, Some(Vec::new()));

        let next = engine.audit_span().unwrap().last.seq + 1;
        let update = |update| engine.update(rotated.key.id, update).unwrap();
        let faster = update(
            KeyUpdate::new()
                .limits([Limit::per_minute(90)])
                .name("fast"),
        );
        assert_eq!(faster.limits, Some(vec![Limit::per_minute(90)]));
        assert_eq!(update(KeyUpdate::new().name("still")).limits, faster.limits);
        assert_eq!(update(KeyUpdate::new().limits_of_plan()).limits, None);
        update(KeyUpdate::new().limits_of_plan());
        let entries = engine.audit_page(next, 10).unwrap().entries;
        assert_eq!(entries.len(), 3);
        let told = entries[2].event.to_string();
        assert!(told.ends_with("limits [90 a minute] -> [none]"), "{told}");

        let many = [Limit::per_second(1); bounds::LIMITS_PER_PLAN_MAX + 1];
        assert!(engine.issue(new.clone().limits(many)).is_err());
        let zero = [Limit::per_second(0)];
        assert!(engine.issue(new.limits(zero)).is_err());
        let refused = engine.update(rotated.key.id, KeyUpdate::new().limits(many));
        assert!(refused.is_err());
        let rotation = Rotation::at_once().changing(KeyUpdate::new().limits(zero));
        assert!(engine.rotate(rotated.key.id, rotation).is_err());
        if store.reopen() {
            assert_eq!(
                store.engine.key(id).unwrap().limits.as_deref(),
                Some(&own[..])
            );
        }
        store.assert_sound();
    });
}

#[test]
fn a_backup_and_a_restore_carry_settings() {
    let store = Store::on_file();
    let engine = &store.engine;
    engine.create_keyspace(keyspace("acme_live")).unwrap();
    set(engine, "acme", full());
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = engine.issue(new.limits([Limit::per_second(3)])).unwrap();
    let copy = store.dir().join("copy.redb");
    engine.backup(&copy).unwrap();
    let limits = KeyUpdate::new().limits([Limit::per_second(9)]);
    engine.update(issued.key.id, limits).unwrap();
    // The trail goes on; what it tells of settings is left as the backup has it.
    set(engine, "acme", OwnerUpdate::new().cap(2));
    set(engine, "globex", OwnerUpdate::new().cap(2));
    let target = store.dir().join("restored.redb");
    let mut trail = Vec::new();
    engine.export_audit(0, &mut trail).unwrap();
    let options = || gatekey::Options::new().clock(store.clock.clone());
    Restore::new(&copy, options())
        .trail(trail.as_slice())
        .to(&target)
        .unwrap();
    let options = options();
    let restored = options.open(&target).unwrap();
    assert_eq!(settings(&restored, "acme").cap, Setting::Own(7));
    assert_eq!(
        settings(&restored, "acme").quota.own().unwrap().remaining,
        1_000
    );
    assert!(settings(&restored, "globex").is_empty());
    // A change of its limits takes nothing away: the key is not disabled for it.
    let key = restored.key(issued.key.id).unwrap();
    assert_eq!(key.limits, Some(vec![Limit::per_second(3)]));
    assert!(restored.verify(issued.token.expose()).unwrap().is_granted());
    let report = restored.check().unwrap();
    assert!(report.is_sound(), "{report:#?}");
    restored.close().unwrap();
}

/// What a table holds of an owner.
fn row(
    store: &mut Store,
    table: TableDefinition<'_, (u32, &'static str), &'static [u8]>,
    path: &'static str,
) -> Vec<u8> {
    store.edit(|txn| {
        let table = txn.open_table(table).unwrap();
        let found = table.get((0, path)).unwrap();
        found.unwrap().value().to_vec()
    })
}

fn put(store: &mut Store, is_quota: bool, path: &str, bytes: Option<&[u8]>) {
    store.edit(|txn| {
        let table = if is_quota { QUOTAS } else { SETTINGS };
        let mut table = txn.open_table(table).unwrap();
        match bytes {
            Some(bytes) => drop(table.insert((0, path), bytes).unwrap()),
            None => drop(table.remove((0, path)).unwrap()),
        }
    });
}

/// What a check finds, and what is found once it is repaired.
fn repaired(store: &Store, table: &str) -> OwnerSettings {
    repaired_as(store, table, table)
}

fn repaired_as(store: &Store, table: &str, named: &str) -> OwnerSettings {
    let report = store.engine.check().unwrap();
    let tables: Vec<_> = report.findings.iter().map(|it| it.table).collect();
    assert!(tables.contains(&table), "{report:#?}");
    let done = store.engine.repair().unwrap();
    assert!(done.repairs.iter().any(|it| it.table == named), "{done:#?}");
    store.assert_sound();
    assert!(store.engine.repair().unwrap().repairs.is_empty());
    settings(&store.engine, "acme")
}

fn with_settings() -> Store {
    let store = Store::on_file();
    store.engine.create_keyspace(keyspace("acme_live")).unwrap();
    set(&store.engine, "acme", full());
    set(&store.engine, "globex", full());
    store
}

fn assert_narrow(found: &OwnerSettings) {
    assert_eq!(found.plan, None);
    assert_eq!(found.limits, Some(vec![Limit::per_hour(1)]));
    assert_eq!(found.cap, Setting::Own(1));
}

#[test]
fn settings_that_are_damaged_missing_or_old_become_the_narrowest() {
    // Damaged.
    let mut store = with_settings();
    let mut bytes = row(&mut store, SETTINGS, "acme");
    bytes[3] ^= 1;
    put(&mut store, false, "acme", Some(&bytes));
    let read = store.engine.owner_settings("acme_live", "acme");
    assert!(matches!(read, Err(Error::Corrupted(_))));
    let update = OwnerUpdate::new().cap(9);
    let updated = store.engine.update_owner("acme_live", "acme", update);
    assert!(matches!(updated, Err(Error::Corrupted(_))));
    let page = store
        .engine
        .owner_settings_page("acme_live", None, 9)
        .unwrap();
    assert_eq!((page.owners.len(), page.damaged.len()), (1, 1));
    let found = repaired(&store, "owner_settings");
    assert_narrow(&found);
    // What is left of the quota is known, and stays.
    assert_eq!(found.quota.own().unwrap().quota, monthly(1_000));
    assert_eq!(settings(&store.engine, "globex").cap, Setting::Own(7));

    // Missing.
    let mut store = with_settings();
    put(&mut store, false, "acme", None);
    assert_narrow(&repaired(&store, "owner_settings"));

    // An old copy, which has a right tag.
    let mut store = with_settings();
    let old = row(&mut store, SETTINGS, "acme");
    set(&store.engine, "acme", OwnerUpdate::new().cap(2));
    put(&mut store, false, "acme", Some(&old));
    assert_narrow(&repaired(&store, "owner_settings"));

    // One that was taken away, and is back.
    let mut store = with_settings();
    let old = row(&mut store, SETTINGS, "acme");
    set(&store.engine, "acme", OwnerUpdate::nothing());
    put(&mut store, false, "acme", Some(&old));
    assert_narrow(&repaired(&store, "owner_settings"));

    // Of another owner.
    let mut store = with_settings();
    put(&mut store, false, "bolt", Some(&old));
    repaired(&store, "owner_settings");
    assert_narrow(&settings(&store.engine, "bolt"));
    assert_eq!(settings(&store.engine, "acme").cap, Setting::Own(7));
    // Of no owner.
    put(&mut store, false, "a//b", Some(&old));
    assert_eq!(repaired(&store, "owner_settings").cap, Setting::Own(7));
}

#[test]
fn a_quota_of_an_owner_that_is_lost_is_used_up() {
    for (is_damaged, of_number) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut store = with_settings();
        let bytes = row(&mut store, QUOTAS, "acme");
        // The number after the version, below 251.
        let number = u64::from(bytes[1]);
        if of_number {
            let mut bad = bytes.clone();
            bad[1] ^= 1;
            put(&mut store, true, "acme", is_damaged.then_some(&bad));
        } else {
            store.edit(|txn| {
                let table = TableDefinition::<u64, &[u8]>::new("quotas");
                let mut table = txn.open_table(table).unwrap();
                let old = table.remove(number).unwrap().unwrap().value().to_vec();
                if is_damaged {
                    let mut bad = old;
                    bad[2] ^= 1;
                    table.insert(number, bad.as_slice()).unwrap();
                }
            });
        }
        assert!(store.engine.owner_settings("acme_live", "acme").is_err());
        let table = if of_number { "owner_quotas" } else { "quotas" };
        let found = repaired_as(&store, table, "owner_quotas");
        let quota = found.quota.own().unwrap();
        assert_eq!((quota.quota, quota.remaining), (monthly(1_000), 0));
        assert_eq!(found.cap, Setting::Own(7));
        let other = settings(&store.engine, "globex").quota.own().unwrap();
        assert_eq!(other.remaining, 1_000);
        // It is refilled when it is due.
        store.clock.advance(31 * DAY);
        let quota = settings(&store.engine, "acme").quota.own().unwrap();
        assert_eq!(quota.remaining, 1_000);
    }
}

#[test]
fn a_quota_of_its_level_that_an_owner_went_back_to_is_missed_where_it_is_lost() {
    for before in [Setting::Own(monthly(50)), Setting::Unlimited] {
        let mut store = Store::on_file();
        let engine = &store.engine;
        let defaults = LevelDefaults::new().quota(monthly(20));
        let keyspace = keyspace("acme_live").owner_defaults(1, defaults);
        engine.create_keyspace(keyspace).unwrap();
        let issued = engine.issue(NewKey::new("acme_live", "acme/a").unwrap());
        let issued = issued.unwrap();
        set(engine, "acme", OwnerUpdate::new().quota(before));
        assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
        set(engine, "acme", OwnerUpdate::new().quota(None));
        let left = |engine: &Engine| {
            let left = engine.quotas_left(issued.key.id).unwrap();
            left[0].status().remaining
        };
        assert_eq!(left(engine), 20);
        store.assert_sound();
        for _ in 0..5 {
            let verdict = store.engine.verify(issued.token.expose()).unwrap();
            assert!(verdict.is_granted());
        }
        assert_eq!(left(&store.engine), 15);
        put(&mut store, true, "acme", None);
        repaired(&store, "owner_quotas");
        assert_eq!(left(&store.engine), 0);
    }
}

#[test]
fn an_old_number_of_an_owners_quota_is_found_and_its_quota_used_up() {
    let mut store = with_settings();
    let old = row(&mut store, QUOTAS, "acme");
    set(&store.engine, "acme", OwnerUpdate::new().quota(None));
    set(
        &store.engine,
        "acme",
        OwnerUpdate::new().quota(monthly(1_000)),
    );
    put(&mut store, true, "acme", Some(&old));
    let found = repaired_as(&store, "quotas", "owner_quotas");
    assert_eq!(found.quota.own().unwrap().remaining, 0);
}

#[test]
fn a_trimmed_trail_leaves_settings_sound() {
    let store = Store::on_file();
    let engine = &store.engine;
    engine.create_keyspace(keyspace("acme_live")).unwrap();
    set(engine, "acme", full());
    for owner in ["globex", "bolt", "zeta"] {
        set(engine, owner, OwnerUpdate::new().cap(2));
    }
    let last = engine.audit_span().unwrap().last.seq;
    engine.trim_audit(last - 1).unwrap();
    store.assert_sound();
    // What is told of it now is a part of what it has.
    set(engine, "acme", OwnerUpdate::new().quota(None));
    store.assert_sound();
    set(engine, "acme", OwnerUpdate::nothing());
    store.assert_sound();
    // A repair leaves what it has, its quota too.
    set(engine, "acme", full());
    assert!(engine.repair().unwrap().repairs.is_empty());
}

#[test]
fn limits_of_a_key_that_are_lost_become_one_request_an_hour() {
    let mut store = Store::on_file();
    store.engine.create_keyspace(keyspace("acme_live")).unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = store
        .engine
        .issue(new.limits([Limit::per_second(9)]))
        .unwrap();
    let id = issued.key.id;
    store.edit(|txn| {
        let table = TableDefinition::<u64, &[u8]>::new("cold");
        let mut table = txn.open_table(table).unwrap();
        let all: Vec<u64> = table
            .iter()
            .unwrap()
            .map(|entry| entry.unwrap().0.value())
            .collect();
        for id in all {
            table.insert(id, [1_u8, 2, 3].as_slice()).unwrap();
        }
    });
    assert!(!store.engine.check().unwrap().is_sound());
    store.engine.repair().unwrap();
    store.assert_sound();
    let key = store.engine.key(id).unwrap();
    assert_eq!(key.limits, Some(vec![Limit::per_hour(1)]));
}
