//! What the audit trail tells of one key.

use std::time::Duration;

use gatekey::{AuditEntry, Error, Invalid, KeyId, KeyUpdate, NewKey, Reason, Rotation};

use crate::audit::trail;
use crate::common::{DAY, Store, everywhere};
use crate::durability::tampering::{raw, tampered};

const BY_KEY: redb::TableDefinition<'_, (u64, u64), ()> = redb::TableDefinition::new("by_key");

fn positions(entries: &[AuditEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

fn history(store: &Store, key: KeyId) -> Vec<AuditEntry> {
    store.engine.history(key, 0, 1000).unwrap()
}

#[test]
fn a_history_has_what_was_done_to_a_key_by_name_or_with_its_owner_and_nothing_else() {
    everywhere(|store| {
        store.keyspace("acme"); // 1
        let other = store.issue("acme", "acme/in").key.id; // 2
        store.engine.suspend("acme", None).unwrap(); // 3, before its birth
        store.engine.resume("acme").unwrap(); // 4
        let key = store.issue("acme", "acme/in/bot").key.id; // 5
        let engine = store.engine.clone();
        engine.update(key, KeyUpdate::new().name("a")).unwrap(); // 6
        engine.update(other, KeyUpdate::new().name("b")).unwrap(); // 7
        engine.suspend("acme/in", Some("unpaid")).unwrap(); // 8, above it
        engine.suspend("acme/i", None).unwrap(); // 9, no segment of its path
        engine.suspend("acme/in/bot/deeper", None).unwrap(); // 10, below it
        engine.resume("acme/in").unwrap(); // 11
        let rotated = engine.rotate(key, Rotation::with_grace(DAY)).unwrap(); // 12
        engine.suspend("acme/in/bot", None).unwrap(); // 13
        engine.resume("acme/in/bot").unwrap(); // 14
        engine.revoke_owner("acme/in", Reason::Cessation).unwrap(); // 15
        engine.suspend("acme", None).unwrap(); // 16, when it is over
        drop(engine);
        let of_old = [5, 6, 8, 11, 12, 13, 14, 15];
        let of_new = [12, 13, 14, 15];
        let check = |store: &Store| {
            let all = trail(&store.engine);
            let old = history(store, key);
            assert_eq!(positions(&old), of_old);
            assert_eq!(old[0], all[4]);
            assert_eq!(positions(&history(store, rotated.key.id)), of_new);
            let page = store.engine.history(key, 6, 2).unwrap();
            assert_eq!(positions(&page), [6, 8]);
            let page = store.engine.history(key, 16, 2).unwrap();
            assert_eq!(page, []);
        };
        check(store);
        store.reopen();
        check(store);
        // A purge keeps it, and is in it.
        store.clock.advance(DAY * 2);
        store.engine.purge(Duration::ZERO).unwrap(); // 17
        assert_eq!(
            positions(&history(store, key)),
            [&of_old[..], &[17]].concat()
        );
        assert_eq!(
            positions(&history(store, rotated.key.id)),
            [&of_new[..], &[17]].concat()
        );
        let unknown: KeyId = "zzzzzzzzz0".parse().unwrap();
        assert_eq!(history(store, unknown), []);
        for limit in [0, 1001] {
            let refused = store.engine.history(key, 0, limit);
            assert!(matches!(
                refused,
                Err(Error::Invalid(
                    Invalid::Malformed(_) | Invalid::TooMany { .. }
                ))
            ));
        }
    });
}

/// A store whose trail is longer than the index may lag behind it: its first entries have
/// rows, the others are read.
fn indexed_store() -> (Store, Vec<KeyId>) {
    let store = Store::on_file();
    store.keyspace("acme");
    let mut keys = Vec::new();
    for owner in ["acme/a", "acme/b"] {
        let new = vec![NewKey::new("acme", owner).unwrap(); 3000];
        let issued = store.engine.issue_batch(new).unwrap();
        keys.extend(issued.iter().map(|issued| issued.key.id));
    }
    store.engine.suspend("acme/a", None).unwrap();
    store.engine.flush().unwrap();
    store.engine.resume("acme/a").unwrap();
    for key in [keys[0], keys[1], keys[2999], keys[5999]] {
        store.engine.disable(key).unwrap();
    }
    (store, keys)
}

#[test]
fn a_history_is_the_same_by_the_index_and_by_reading() {
    let (mut store, keys) = indexed_store();
    let check = |store: &Store, from: u64| {
        let mut all = Vec::new();
        loop {
            let next = all.last().map_or(from, |entry: &AuditEntry| entry.seq + 1);
            let page = store.engine.audit_page(next, 1000).unwrap().entries;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        let sample = keys
            .iter()
            .step_by(601)
            .copied()
            .chain([keys[0], keys[2999], keys[5999]]);
        for key in sample {
            let told = history(store, key);
            let mut named = told.clone();
            named.retain(|entry| entry.event.keys().contains(&key));
            let mut expected = all.clone();
            expected.retain(|entry| entry.event.keys().contains(&key));
            assert_eq!(named, expected);
            let is_of_a = store.engine.key(key).unwrap().owner.as_str() == "acme/a";
            assert_eq!(told.len() - named.len(), if is_of_a { 2 } else { 0 });
        }
        store.assert_sound();
    };
    check(&store, 1);
    store.reopen();
    check(&store, 1);
    // What is trimmed away has no rows any more.
    store.engine.trim_audit(900).unwrap();
    check(&store, 0);
    store.engine.trim_audit(2500).unwrap();
    check(&store, 0);
    // And from there on rows are added.
    for key in &keys[..1000] {
        store
            .engine
            .update(*key, KeyUpdate::new().name("x"))
            .unwrap();
    }
    store.engine.flush().unwrap();
    check(&store, 0);
}

#[test]
fn rows_that_are_missing_or_of_no_entry_are_found() {
    let found = |store: &Store| {
        let report = store.engine.check().unwrap();
        report
            .findings
            .iter()
            .any(|finding| finding.table == "by_key")
    };
    let (mut store, keys) = indexed_store();
    assert!(!found(&store));
    // The first batch is in the order of its ids, from position 2 on.
    let first = *keys.iter().take(3000).min().unwrap();
    let row = (raw(first), 2);
    let removed = tampered(&mut store, |txn| {
        let mut by_key = txn.open_table(BY_KEY).unwrap();
        by_key.remove(row).unwrap().is_some()
    });
    assert!(removed && found(&store));
    tampered(&mut store, |txn| {
        let mut by_key = txn.open_table(BY_KEY).unwrap();
        by_key.insert(row, ()).unwrap();
    });
    assert!(!found(&store));
    tampered(&mut store, |txn| {
        let mut by_key = txn.open_table(BY_KEY).unwrap();
        by_key.insert((raw(first), 3), ()).unwrap();
    });
    assert!(found(&store));
    // It is looked at, and not believed.
    assert_eq!(positions(&history(&store, first))[..1], [2]);
    assert!(!positions(&history(&store, first)).contains(&3));
}
