//! A revocation of many names each key in the audit trail.

use gatekey::{AuditEvent, NewKey, NewKeyspace, Reason, Revocation, Scope};

use crate::audit::trail;
use crate::common::Store;

/// More than an entry names, and not a multiple of it.
const KEYS: usize = 2_500;

#[test]
fn every_key_that_a_revocation_of_many_reached_is_named_once() {
    let mut store = Store::on_file();
    let engine = store.engine.clone();
    store.keyspace("acme");
    engine
        .create_keyspace(NewKeyspace::new("other").unwrap())
        .unwrap();
    let issue = |prefix: &str, count| {
        let new = vec![NewKey::new(prefix, "acme/bot").unwrap(); count];
        let issued = engine.issue_batch(new).unwrap();
        issued
            .iter()
            .map(|issued| issued.key.id)
            .collect::<Vec<_>>()
    };
    let keys = [issue("acme", KEYS / 2), issue("other", KEYS - KEYS / 2)].concat();
    // Revoked before, it is not named again.
    let before = keys[7];
    engine.revoke(before, Reason::Superseded).unwrap();
    let from = trail(&engine).len();
    let leaked = Revocation::new(Reason::KeyCompromise).note("on a forum");
    let many = engine
        .acting_as("alice")
        .unwrap()
        .revoke_owner("acme", leaked)
        .unwrap();
    let not_counted = AuditEvent::KEYS_COUNTED_MAX + 1;
    assert_eq!((many.keys, many.newly), (not_counted, not_counted));
    engine.flush().unwrap();

    let mut entries = trail(&engine).split_off(from);
    let mut named = Vec::new();
    let scope = Scope::Owner("acme".parse().unwrap());
    let entry = entries.remove(0);
    assert_eq!(entry.actor.as_deref(), Some("alice"));
    let revocation = AuditEvent::KeysRevokedUnnamed {
        scope: scope.clone(),
        keys: not_counted,
        reason: Reason::KeyCompromise,
        note: Some("on a forum".to_owned()),
    };
    assert_eq!(entry.event, revocation);
    let first = entry.seq;
    for entry in &entries {
        assert_eq!(entry.actor.as_deref(), Some("alice"));
        let AuditEvent::RevokedKeysNamed {
            entry: revoked_by,
            scope: told,
            keys,
        } = &entry.event
        else {
            panic!("{entry:?}");
        };
        assert_eq!((*revoked_by, told), (first, &scope));
        assert!(keys.len() <= 1000);
        assert_eq!(entry.event.keys(), *keys);
        named.extend(keys.iter().copied());
    }
    assert_eq!(entries.len(), 3);
    named.sort_unstable();
    let mut expected = keys.clone();
    expected.retain(|key| *key != before);
    expected.sort_unstable();
    assert_eq!(named, expected);
    // Who and why is told of each, also of those in a later entry.
    for key in [keys[0], keys[1001], keys[KEYS - 1]] {
        let revoked = engine.key(key).unwrap().revoked.unwrap();
        assert_eq!(revoked.by.as_deref(), Some("alice"));
        assert_eq!(revoked.note.as_deref(), Some("on a forum"));
    }
    drop(engine);
    store.reopen();
    store.assert_sound();
}

#[test]
fn a_keyspace_that_is_revoked_names_its_keys() {
    let store = Store::new(0, false);
    store.keyspace("acme");
    let new = vec![NewKey::new("acme", "acme").unwrap(); 1_000];
    store.engine.issue_batch(new).unwrap();
    let from = trail(&store.engine).len();
    let revoke = || {
        let many = store.engine.revoke_keyspace("acme", Reason::Cessation);
        assert_eq!(AuditEvent::keys_counted(many.unwrap().newly), None);
        store.engine.flush().unwrap();
    };
    revoke();
    // Nobody is left for another entry.
    let entries = trail(&store.engine).split_off(from);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].event.keys(), []);
    assert_eq!(entries[1].event.keys().len(), 1_000);
    revoke();
    // Nothing was newly revoked.
    assert_eq!(trail(&store.engine).len(), from + 3);
    store.assert_sound();
}

#[test]
fn of_few_keys_a_revocation_names_each_at_once() {
    let store = Store::new(0, false);
    store.keyspace("acme");
    let new = vec![NewKey::new("acme", "acme").unwrap(); 256];
    store.engine.issue_batch(new).unwrap();
    let from = trail(&store.engine).len();
    let revoke = || store.engine.revoke_keyspace("acme", Reason::Cessation);
    let many = revoke().unwrap();
    assert_eq!((many.keys, many.newly), (256, 256));
    let entries = trail(&store.engine).split_off(from);
    assert_eq!(entries.len(), 1);
    assert!(matches!(entries[0].event, AuditEvent::KeysRevoked { .. }));
    assert_eq!(entries[0].event.keys().len(), 256);
    let again = revoke().unwrap();
    assert_eq!((again.keys, again.newly), (256, 0));
    assert_eq!(trail(&store.engine).len(), from + 1);
    store.assert_sound();
}
