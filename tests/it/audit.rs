//! The audit trail: every change, who made it, what it was before and after.

mod chain;
mod trim;

use std::collections::BTreeSet;

use gatekey::{
    AuditEntry, AuditEvent, Conflict, Engine, Error, Invalid, KeyUpdate, KeyspaceUpdate, NewKey,
    NewKeyspace, Plan, Reason, Revocation, Rotation, Scope, bounds,
};

use crate::common::{DAY, Store, at, everywhere};

/// The whole trail, read page by page.
pub(crate) fn trail(engine: &Engine) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    loop {
        let from = entries.len() as u64 + 1;
        let page = engine.audit_page(from, bounds::PAGE_MAX).unwrap().entries;
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

pub(crate) fn last_event(engine: &Engine) -> AuditEvent {
    trail(engine).pop().unwrap().event
}

/// Asserts that a call changes nothing that the audit trail would tell of.
pub(crate) fn assert_unwritten<T>(engine: &Engine, call: impl FnOnce() -> T) -> T {
    let before = engine.stats().unwrap().audit_entries;
    let result = call();
    assert_eq!(engine.stats().unwrap().audit_entries, before);
    result
}

/// The changes of an entry as `(field, before, after)`.
fn changes(event: &AuditEvent) -> Vec<(&str, &str, &str)> {
    let (AuditEvent::KeyUpdated { changes, .. } | AuditEvent::KeyspaceUpdated { changes, .. }) =
        event
    else {
        panic!("no changes: {event:?}");
    };
    changes
        .iter()
        .map(|change| {
            (
                change.field.as_str(),
                change.before.as_str(),
                change.after.as_str(),
            )
        })
        .collect()
}

#[test]
fn every_verb_writes_one_entry_that_says_what_was_done() {
    everywhere(|store| {
        let engine = store.engine.clone();
        let mut expected = Vec::new();
        let prefix = "acme".parse().unwrap();
        let acme: gatekey::OwnerPath = "acme".parse().unwrap();

        store.keyspace("acme");
        expected.push(AuditEvent::KeyspaceCreated { keyspace: prefix });

        let old = store.issue("acme", "acme/a").key.id;
        expected.push(AuditEvent::KeyIssued {
            key: old,
            keyspace: prefix,
            owner: "acme/a".parse().unwrap(),
            superseded: vec![],
        });

        engine.disable(old).unwrap();
        expected.push(AuditEvent::KeyDisabled { key: old });
        engine.enable(old).unwrap();
        expected.push(AuditEvent::KeyEnabled { key: old });

        let new = engine.rotate(old, Rotation::with_grace(DAY)).unwrap();
        expected.push(AuditEvent::KeyRotated {
            old,
            new: new.key.id,
            retiring_until: Some(at(86_400_000)),
            superseded: vec![],
        });

        let newest = engine.rotate(new.key.id, Rotation::at_once()).unwrap();
        expected.push(AuditEvent::KeyRotated {
            old: new.key.id,
            new: newest.key.id,
            retiring_until: None,
            superseded: vec![old],
        });

        engine.suspend("acme", Some("unpaid")).unwrap();
        expected.push(AuditEvent::OwnerSuspended {
            owner: acme.clone(),
            keys: 1,
            note: Some("unpaid".to_owned()),
        });
        engine.resume("acme").unwrap();
        expected.push(AuditEvent::OwnerResumed {
            owner: acme.clone(),
            keys: 1,
        });

        let leaked = Revocation::new(Reason::KeyCompromise).note("on a forum");
        engine.revoke(newest.key.id, leaked).unwrap();
        expected.push(AuditEvent::KeyRevoked {
            key: newest.key.id,
            reason: Reason::KeyCompromise,
            note: Some("on a forum".to_owned()),
        });

        let many: Vec<_> = (0..3)
            .map(|_| store.issue("acme", "acme/b").key.id)
            .collect();
        expected.extend(many.iter().map(|key| AuditEvent::KeyIssued {
            key: *key,
            keyspace: prefix,
            owner: "acme/b".parse().unwrap(),
            superseded: vec![],
        }));
        engine.revoke(many[0], Reason::Cessation).unwrap();
        expected.push(AuditEvent::KeyRevoked {
            key: many[0],
            reason: Reason::Cessation,
            note: None,
        });
        let gone = Revocation::new(Reason::AffiliationChanged).note("left");
        engine.revoke_owner("acme/b", gone).unwrap();
        expected.push(AuditEvent::KeysRevoked {
            scope: Scope::Owner("acme/b".parse().unwrap()),
            keys: BTreeSet::from([many[1], many[2]]).into_iter().collect(),
            reason: Reason::AffiliationChanged,
            note: Some("left".to_owned()),
        });

        let last = store.issue("acme", "acme/c").key.id;
        expected.push(AuditEvent::KeyIssued {
            key: last,
            keyspace: prefix,
            owner: "acme/c".parse().unwrap(),
            superseded: vec![],
        });
        engine
            .revoke_keyspace("acme", Reason::PrivilegeWithdrawn)
            .unwrap();
        expected.push(AuditEvent::KeysRevoked {
            scope: Scope::Keyspace(prefix),
            keys: vec![last],
            reason: Reason::PrivilegeWithdrawn,
            note: None,
        });

        store.clock.advance(DAY * 2);
        engine.purge(DAY).unwrap();
        let mut purged = vec![old, new.key.id, newest.key.id, last];
        purged.extend(many);
        purged.sort_unstable();
        expected.push(AuditEvent::KeysPurged { keys: purged });

        let found: Vec<_> = trail(&engine)
            .into_iter()
            .map(|entry| entry.event)
            .collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn an_entry_says_when_and_who() {
    everywhere(|store| {
        let engine = store.engine.acting_as("alice@example.com").unwrap();
        let new = NewKeyspace::new("acme").unwrap();
        engine.create_keyspace(new).unwrap();
        store.clock.advance(DAY);
        let bob = engine.acting_as("bob").unwrap();
        let key = bob.issue(NewKey::new("acme", "acme").unwrap()).unwrap().key;
        store.engine.disable(key.id).unwrap();

        let who: Vec<_> = trail(&store.engine)
            .into_iter()
            .map(|entry| (entry.seq, entry.at, entry.actor))
            .collect();
        let day = at(86_400_000);
        assert_eq!(
            who,
            [
                (1, at(0), Some("alice@example.com".to_owned())),
                (2, day, Some("bob".to_owned())),
                (3, day, None),
            ]
        );
        assert_eq!(key.created_by.as_deref(), Some("bob"));
        assert_eq!(key.created_at, day);
    });
}

#[test]
fn a_changed_key_is_noted_with_before_and_after() {
    everywhere(|store| {
        store.keyspace("acme");
        let key = store.issue("acme", "acme").key.id;
        let update = KeyUpdate::new()
            .name("nightly")
            .label("env", "prod")
            .label("team", "etl")
            .add_permissions(["write"])
            .expires_in(DAY)
            .networks(["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
        store.engine.update(key, update).unwrap();
        let event = last_event(&store.engine);
        assert_eq!(event.keys(), [key]);
        assert_eq!(
            changes(&event),
            [
                ("name", "none", r#""nightly""#),
                ("labels", "", r#""env"="prod", "team"="etl""#),
                ("permissions", "read", "read, write"),
                ("expires at", "never", "2026-01-02T00:00:00Z"),
                ("networks", "", "10.0.0.0/8, ::1/128"),
            ]
        );

        let update = KeyUpdate::new()
            .name("nightly")
            .description("what it is for")
            .remove_label("env")
            .remove_permissions(["read"]);
        store.engine.update(key, update).unwrap();
        assert_eq!(
            changes(&last_event(&store.engine)),
            [
                ("description", "none", r#""what it is for""#),
                ("labels", r#""env"="prod", "team"="etl""#, r#""team"="etl""#),
                ("permissions", "read, write", "write"),
            ]
        );
    });
}

/// Texts that read as others, where nothing tells where they end.
#[test]
fn what_people_write_has_one_reading_in_the_trail() {
    everywhere(|store| {
        store.keyspace("acme");
        let text = |update: KeyUpdate| {
            let key = store.issue("acme", "acme").key.id;
            store.engine.update(key, update).unwrap();
            let event = last_event(&store.engine);
            let line = event.to_string();
            assert!(line.starts_with(&format!("key {key} updated: ")), "{line}");
            let [change] = changes(&event)[..] else {
                panic!("{event:?}");
            };
            (change.2.to_owned(), line.replace(&key.to_string(), ""))
        };
        let label = |name, value| KeyUpdate::new().label(name, value);
        for (one, other) in [
            (
                label("env", "dev, role=admin"),
                label("env", "dev").label("role", "admin"),
            ),
            (
                label("env", r#"dev", "role"="admin"#),
                label("env", "dev").label("role", "admin"),
            ),
            (label("a=b", "c"), label("a", "b=c")),
            (label("a", r#"b\"#), label("a", r"b\\")),
            (KeyUpdate::new().name(""), KeyUpdate::new().name("none")),
        ] {
            let (one, other) = (text(one), text(other));
            assert_ne!(one.0, other.0);
            assert_ne!(one.1, other.1);
        }
        assert_eq!(text(KeyUpdate::new().name("none")).0, r#""none""#);
        // A plan called none is no plan's absence.
        let plans = KeyspaceUpdate::new()
            .plan(Plan::new("none"))
            .default_plan("none");
        store.engine.update_keyspace("acme", plans).unwrap();
        let event = last_event(&store.engine);
        assert_eq!(changes(&event)[1], ("default plan", "none", r#""none""#));
        let shared = KeyspaceUpdate::new().plan(Plan::new("none").shared_by_owner());
        store.engine.update_keyspace("acme", shared).unwrap();
        let event = last_event(&store.engine);
        let (_, before, after) = changes(&event)[0];
        assert_ne!(before, after);
    });
}

#[test]
fn a_changed_keyspace_is_noted_with_before_and_after() {
    everywhere(|store| {
        store.keyspace("acme");
        let update = KeyspaceUpdate::new()
            .description("production")
            .add_permissions(["admin"])
            .retire_permissions(["read"])
            .default_lifetime(DAY)
            .max_grace(DAY * 2)
            .count_retiring(true);
        store.engine.update_keyspace("acme", update).unwrap();
        let event = last_event(&store.engine);
        assert!(matches!(
            &event,
            AuditEvent::KeyspaceUpdated { keyspace, .. } if keyspace.as_str() == "acme"
        ));
        assert_eq!(
            changes(&event),
            [
                ("description", r#""""#, r#""production""#),
                ("permissions", "read, write", "read (retired), write, admin"),
                ("default lifetime", "none", "86400s"),
                ("maximum grace", "none", "172800s"),
                ("count retiring", "false", "true"),
            ]
        );
    });
}

#[test]
fn what_is_refused_writes_no_entry() {
    everywhere(|store| {
        store.keyspace("acme");
        let key = store.issue("acme", "acme").key.id;
        let revoked = store.issue("acme", "acme").key.id;
        let engine = &store.engine;
        engine.revoke(revoked, Reason::Cessation).unwrap();
        assert_unwritten(engine, || {
            let taken = engine.create_keyspace(NewKeyspace::new("acme").unwrap());
            assert!(matches!(
                taken,
                Err(Error::Conflict(Conflict::PrefixTaken(_)))
            ));
            let unknown = NewKey::new("acme", "acme").unwrap().permissions(["fly"]);
            assert!(matches!(
                engine.issue(unknown),
                Err(Error::Invalid(Invalid::UnknownPermission { .. }))
            ));
            let over = engine.update(revoked, KeyUpdate::new().name("x"));
            assert!(matches!(
                over,
                Err(Error::Conflict(Conflict::Revoked { .. }))
            ));
            let over = engine.rotate(revoked, Rotation::at_once());
            assert!(matches!(
                over,
                Err(Error::Conflict(Conflict::Revoked { .. }))
            ));
            let late = engine.update(key, KeyUpdate::new().name("x").expires_at(at(0)));
            assert!(matches!(
                late,
                Err(Error::Invalid(Invalid::ExpiryInPast { .. }))
            ));
            let long = Revocation::default().note("x".repeat(bounds::NOTE_LEN_MAX + 1));
            assert!(matches!(
                engine.revoke(key, long),
                Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                    what: "note",
                    ..
                })))
            ));
        });
        assert_eq!(engine.key(key).unwrap().name, None);
    });
}

#[test]
fn the_trail_is_read_from_a_position_on_and_goes_on_after_a_reopen() {
    everywhere(|store| {
        store.keyspace("acme");
        for _ in 0..5 {
            store.issue("acme", "acme");
        }
        let all = trail(&store.engine);
        assert!(all.iter().map(|entry| entry.seq).eq(1..=6));
        assert_eq!(store.engine.audit_page(3, 2).unwrap().entries, all[2..4]);
        assert_eq!(store.engine.audit_page(5, 100).unwrap().entries, all[4..]);
        assert_eq!(store.engine.audit_page(0, 1).unwrap().entries, all[..1]);
        assert_eq!(store.engine.audit_page(7, 10).unwrap().entries, []);
        assert_eq!(store.engine.audit_page(u64::MAX, 10).unwrap().entries, []);

        if store.reopen() {
            assert_eq!(trail(&store.engine), all);
        }
        store.issue("acme", "acme");
        let page = store.engine.audit_page(7, 10).unwrap().entries;
        assert!(page.iter().map(|entry| entry.seq).eq([7]));
        assert_eq!(store.engine.stats().unwrap().audit_entries, 7);
    });
}

#[test]
fn a_page_of_no_entries_or_of_too_many_is_refused() {
    let store = Store::new(0, false);
    assert!(matches!(
        store.engine.audit_page(1, 0),
        Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
            what: "limit",
            ..
        })))
    ));
    assert!(matches!(
        store.engine.audit_page(1, bounds::PAGE_MAX + 1),
        Err(Error::Invalid(Invalid::TooMany {
            count: 1001,
            max: 1000,
            ..
        }))
    ));
}

#[test]
fn a_name_that_could_forge_a_log_line_is_no_actor() {
    let store = Store::new(0, false);
    let long = "x".repeat(bounds::ACTOR_LEN_MAX + 1);
    for actor in ["", "a\nb", "a\u{7f}", &long] {
        let refused = store.engine.acting_as(actor).map(drop);
        assert!(
            matches!(
                refused,
                Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                    what: "actor",
                    ..
                })))
            ),
            "{actor:?}"
        );
    }
    assert!(
        store
            .engine
            .acting_as("x".repeat(bounds::ACTOR_LEN_MAX))
            .is_ok()
    );
}

#[test]
fn a_batch_writes_an_entry_for_each_of_its_keys() {
    everywhere(|store| {
        store.keyspace("acme");
        let batch = (0..10)
            .map(|_| NewKey::new("acme", "acme").unwrap())
            .collect();
        let issued = store.engine.issue_batch(batch).unwrap();
        let mut ids: Vec<_> = issued.iter().map(|issued| issued.key.id).collect();
        ids.sort_unstable();
        let entries = store.engine.audit_page(2, 100).unwrap().entries;
        let named: Vec<_> = entries
            .iter()
            .flat_map(|entry| entry.event.keys())
            .collect();
        assert_eq!(named, ids);
    });
}
