//! What is made again of indexes and requests, and what is said of what is damaged.

use std::collections::BTreeSet;

use gatekey::{
    AuditEvent, AuditKey, Error, Issued, KeyId, NewKey, NewKeyspace, Options, Reason, Rotation,
    verify_audit_export,
};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};

use super::repair::{REQUESTS, REQUESTS_BY_TIME, flip, repaired};
use super::tampering::{
    AUDIT, COLD, KEYS, META, OWNERS, USAGE, assert_found, get, put, raw, tampered,
};
use crate::common::{DAY, Store};

const BY_KEY: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_key");
const QUOTAS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quotas");

/// A store whose trail is longer than its index may lag behind it.
fn indexed_store() -> (Store, Vec<KeyId>) {
    let store = Store::on_file();
    store.keyspace("acme");
    let mut keys = Vec::new();
    for owner in ["acme/a", "acme/b"] {
        let new = vec![NewKey::new("acme", owner).unwrap(); 2500];
        let issued = store.engine.issue_batch(new).unwrap();
        keys.extend(issued.iter().map(|issued| issued.key.id));
    }
    store.engine.flush().unwrap();
    (store, keys)
}

fn rows(store: &mut Store) -> BTreeSet<(u64, u64)> {
    tampered(store, |txn| {
        let by_key = txn.open_table(BY_KEY).unwrap();
        by_key
            .iter()
            .unwrap()
            .map(|row| row.unwrap().0.value())
            .collect()
    })
}

#[test]
fn the_index_of_the_trail_is_made_again_from_the_entries() {
    let (mut store, keys) = indexed_store();
    let before = rows(&mut store);
    assert!(before.len() > 900);
    let key = keys[17];
    let told = store.engine.history(key, 0, 10).unwrap();
    tampered(&mut store, |txn| {
        let mut by_key = txn.open_table(BY_KEY).unwrap();
        by_key.retain(|(_, seq), ()| seq % 7 != 0).unwrap();
        for forged in [(raw(key), 2), (5, 3), (raw(key), 1 << 40), (9, 0)] {
            by_key.insert(forged, ()).unwrap();
        }
    });
    assert_found(&store, "by_key");
    let report = repaired(&store);
    assert!(report.repairs_total > 100);
    assert_eq!(rows(&mut store), before);
    assert_eq!(store.engine.history(key, 0, 10).unwrap(), told);
    assert_eq!(repaired(&store).repairs_total, 0);

    // Rows of an entry that is broken are of no use, and in the way of a trimming.
    tampered(&mut store, |txn| flip(txn, AUDIT, 40));
    repaired(&store);
    let left = rows(&mut store);
    assert!(left.iter().all(|(_, seq)| *seq != 40));
    assert_eq!(
        left.len(),
        before.iter().filter(|(_, seq)| *seq != 40).count()
    );
    store.engine.trim_audit(100).unwrap();
    store.assert_sound();
}

#[test]
fn where_it_is_not_known_up_to_where_there_are_rows_all_goes_on_and_a_repair_begins_anew() {
    let (mut store, keys) = indexed_store();
    let before = rows(&mut store);
    let told = store.engine.history(keys[3000], 0, 10).unwrap();
    tampered(&mut store, |txn| {
        let mut meta = txn.open_table(META).unwrap();
        meta.insert("indexed", b"?".as_slice()).unwrap();
    });
    assert_found(&store, "gatekey");
    assert_eq!(store.engine.history(keys[3000], 0, 10).unwrap(), told);
    store.engine.flush().unwrap();
    store.engine.stats().unwrap();
    let backup = store.engine.backup(store.dir().join("copy.redb")).unwrap();
    assert_eq!(backup.damaged_total, 1, "{:?}", backup.damaged);

    repaired(&store);
    store.engine.flush().unwrap();
    store.assert_sound();
    assert!(rows(&mut store).is_superset(&before));
    assert_eq!(store.engine.history(keys[3000], 0, 10).unwrap(), told);
}

#[test]
fn a_request_that_is_damaged_is_found_and_asked_again_is_a_new_one_after_a_repair() {
    for harm in [
        "a part",
        "a part is missing",
        "the index",
        "another count",
        "too many",
    ] {
        let mut store = Store::on_file();
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme/bot").unwrap();
        let issue = |store: &Store, key: &str| {
            let once = store.engine.idempotent(key).unwrap();
            once.issue_batch(vec![new.clone(); 300])
        };
        let (_, other) = (issue(&store, "one").unwrap(), store.issue("acme", "acme"));
        tampered(&mut store, |txn| {
            let mut parts = txn.open_table(REQUESTS).unwrap();
            let mut by_time = txn.open_table(REQUESTS_BY_TIME).unwrap();
            let name = *parts.first().unwrap().unwrap().0.value().0;
            let at = by_time.first().unwrap().unwrap().0.value().0;
            assert_eq!((parts.len().unwrap(), by_time.len().unwrap()), (3, 1));
            match harm {
                "a part" => drop(parts.insert((&name, 1), b"?".as_slice()).unwrap()),
                "a part is missing" => drop(parts.remove((&name, 2)).unwrap()),
                "the index" => drop(by_time.remove((at, &name)).unwrap()),
                "another count" => drop(by_time.insert((at, &name), 2).unwrap()),
                _ => drop(by_time.insert((at, &[7; 32]), 1).unwrap()),
            }
        });
        assert!(!store.engine.check().unwrap().is_sound(), "{harm}");
        assert_eq!(store.verdict(other.token.expose()), "granted");
        let is_in_parts = harm.starts_with("a part");
        let copy = store.dir().join("copy.redb");
        let expected = u64::from(harm == "a part");
        assert_eq!(store.engine.backup(copy).unwrap().damaged_total, expected);
        if is_in_parts {
            let asked = issue(&store, "one");
            assert!(
                matches!(asked, Err(Error::Corrupted(_))),
                "{harm}: {asked:?}"
            );
        }
        let report = repaired(&store);
        assert!(report.repairs_total > 0, "{harm}");
        let keys = |issued: &[Issued]| {
            issued
                .iter()
                .map(|it| it.key.predecessor)
                .collect::<Vec<_>>()
        };
        let again = issue(&store, "one").unwrap();
        // One that is forgotten replaces nothing; one that is not, does.
        let replaced = keys(&again).iter().filter(|key| key.is_some()).count();
        assert_eq!(replaced, if is_in_parts { 0 } else { 300 }, "{harm}");
        store.assert_sound();
        assert_eq!(repaired(&store).repairs_total, 0, "{harm}");
    }
}

#[test]
fn a_backup_says_what_of_it_is_damaged_and_holds_it_as_it_was() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    let quota = gatekey::Quota::new(100);
    let new = NewKey::new("acme", "acme").unwrap().quota(quota);
    let issued = store.engine.issue(new).unwrap();
    let other = store.issue("acme", "acme");
    let once = store.engine.idempotent("one").unwrap();
    once.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    drop(once);
    store.engine.suspend("held", None).unwrap();
    assert_eq!(store.verdict(other.token.expose()), "granted");
    store.engine.flush().unwrap();
    let at = |store: &Store, name: &str| store.dir().join(name);
    let backup = store.engine.backup(at(&store, "whole")).unwrap();
    assert_eq!((backup.damaged_total, backup.damaged), (0, vec![]));

    let key = raw(issued.key.id);
    tampered(&mut store, |txn| {
        flip(txn, KEYS, key);
        flip(txn, COLD, key);
        flip(txn, USAGE, raw(other.key.id));
        flip(txn, AUDIT, 2);
        let number = txn
            .open_table(QUOTAS)
            .unwrap()
            .first()
            .unwrap()
            .unwrap()
            .0
            .value();
        flip(txn, QUOTAS, number);
        let mut owners = txn.open_table(OWNERS).unwrap();
        owners.insert("held", b"?".as_slice()).unwrap();
        let mut requests = txn.open_table(REQUESTS).unwrap();
        let name = *requests.first().unwrap().unwrap().0.value().0;
        requests.insert((&name, 0), b"?".as_slice()).unwrap();
    });
    let backup = store.engine.backup(at(&store, "damaged")).unwrap();
    let named: BTreeSet<_> = backup.damaged.iter().map(|damage| damage.table).collect();
    let all = [
        "audit", "cold", "keys", "owners", "quotas", "requests", "usage",
    ];
    assert_eq!(named, BTreeSet::from(all));
    assert_eq!(backup.damaged_total, 7);
    let id = issued.key.id.to_string();
    for table in ["keys", "cold"] {
        let is_named = |damage: &gatekey::Corruption| damage.table == table && damage.record == id;
        assert!(backup.damaged.iter().any(is_named), "{table}: {backup:?}");
    }
    let options = || Options::new().clock(store.clock.clone());
    let copy = options().open(at(&store, "damaged")).unwrap();
    assert!(copy.verify(issued.token.expose()).is_err());
    assert!(copy.repair().unwrap().left.is_sound());
    // What a repair has marked is told no more.
    let backup = copy.backup(at(&store, "repaired")).unwrap();
    assert_eq!((backup.damaged_total, backup.damaged), (0, vec![]));
    copy.close().unwrap();

    // Listed are a hundred.
    let new = vec![NewKey::new("acme", "many").unwrap(); 150];
    let many = store.engine.issue_batch(new).unwrap();
    tampered(&mut store, |txn| {
        many.iter().for_each(|it| flip(txn, KEYS, raw(it.key.id)));
    });
    let backup = store.engine.backup(at(&store, "many")).unwrap();
    assert_eq!((backup.damaged.len(), backup.damaged_total), (100, 157));
}

/// The export of a store that begins after nothing, verified, and its text.
fn exported(store: &Store, key: &AuditKey) -> Result<(Vec<u64>, String), Error> {
    let mut out = Vec::new();
    store.engine.export_audit(0, &mut out)?;
    let mut seen = Vec::new();
    verify_audit_export(out.as_slice(), key, |entry| {
        seen.push(entry.seq);
        Ok(())
    })?;
    Ok((seen, String::from_utf8(out).unwrap()))
}

#[test]
fn a_trail_with_broken_entries_is_exported_and_trimmed_once_a_repair_has_marked_them() {
    // The third revokes a key: what is kept of it goes with it.
    for hit in [vec![3], vec![3, 4], vec![2, 8]] {
        for harm in ["a byte", "the hash", "missing"] {
            let case = format!("{hit:?}, {harm}");
            let mut store = Store::on_file();
            store.keyspace("acme"); // 1
            let revoked = store.issue("acme", "acme"); // 2
            let key = revoked.key.id;
            store.engine.revoke(key, Reason::KeyCompromise).unwrap(); // 3
            for _ in 0..5 {
                store.issue("acme", "acme"); // 4 to 8
            }
            let verifies = store.engine.audit_key();
            tampered(&mut store, |txn| {
                for seq in &hit {
                    let mut bytes = get(txn, AUDIT, *seq);
                    let last = bytes.len() - 1;
                    bytes[if harm == "the hash" { last } else { 3 }] ^= 1;
                    put(txn, AUDIT, *seq, &bytes);
                    if harm == "missing" {
                        drop(txn.open_table(AUDIT).unwrap().remove(*seq).unwrap());
                    }
                }
            });
            // Neither passes them, and both say what to do.
            let refused = [
                store.engine.trim_audit(8).map(drop),
                exported(&store, &verifies).map(drop),
            ];
            for refused in refused {
                let Err(Error::Corrupted(damage)) = refused else {
                    panic!("{case}: {refused:?}");
                };
                assert!(damage.why.contains("Engine::repair"), "{case}: {damage}");
            }
            assert_eq!(store.engine.audit_span().unwrap().after.seq, 0, "{case}");

            repaired(&store);
            store.issue("acme", "acme");
            let (seen, text) = exported(&store, &verifies).unwrap();
            let broken: Vec<u64> = (1..=8).filter(|seq| !seen.contains(seq)).collect();
            assert!(
                hit.iter().all(|seq| broken.contains(seq)),
                "{case}: {broken:?}"
            );
            assert!(broken.len() <= 2 * hit.len(), "{case}: {broken:?}");
            // Nobody passes an entry off as broken: none marks it.
            let forged: String = text
                .lines()
                .map(|line| match line.strip_prefix("5 ") {
                    Some(bytes) if !broken.contains(&5) => {
                        format!("broken 5:{}\n", &bytes[bytes.len() - 64..])
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            let verified = verify_audit_export(forged.as_bytes(), &verifies, |_| Ok(()));
            match broken.contains(&5) {
                true => assert!(verified.is_ok(), "{case}"),
                false => assert!(
                    matches!(&verified, Err(Error::Corrupted(damage)) if damage.record == "5"),
                    "{case}: {verified:?}"
                ),
            }

            for through in [hit[0], 8] {
                let trimmed = store.engine.trim_audit(through).unwrap();
                assert_eq!(trimmed.through.seq, through, "{case}");
                store.assert_sound();
                let (seen, _) = exported(&store, &verifies).unwrap();
                assert!(seen.iter().all(|seq| *seq > through), "{case}");
            }
            // What is left is one chain, after a reopen too.
            store.reopen();
            store.assert_sound();
            let told = store.engine.key(key).unwrap().revoked.unwrap();
            assert_eq!(told.reason, Reason::KeyCompromise, "{case}");
            let entries = store.engine.audit_page(0, 1000).unwrap().entries;
            let marked = |event: &AuditEvent| matches!(event, AuditEvent::AuditBroken { .. });
            assert!(entries.iter().any(|entry| marked(&entry.event)), "{case}");
        }
    }
}

#[test]
fn a_damaged_key_is_revoked_and_other_verbs_say_that_it_is_damaged() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    let one = NewKeyspace::new("one").unwrap().single_active();
    store.engine.create_keyspace(one).unwrap();
    let issued = store.issue("acme", "acme");
    let missing = store.issue("acme", "acme");
    let (id, lost) = (issued.key.id, missing.key.id);
    let good = tampered(&mut store, |txn| {
        let good = get(txn, KEYS, raw(id));
        flip(txn, KEYS, raw(id));
        drop(txn.open_table(KEYS).unwrap().remove(raw(lost)).unwrap());
        good
    });
    let engine = store.engine.acting_as("alice").unwrap();
    let rotated = engine.rotate(id, Rotation::with_grace(DAY)).map(drop);
    for refused in [
        engine.disable(id).map(drop),
        engine.enable(id).map(drop),
        rotated,
    ] {
        assert!(matches!(refused, Err(Error::Corrupted(_))), "{refused:?}");
    }
    for key in [id, lost] {
        let revoked = engine.revoke(key, Reason::KeyCompromise).unwrap();
        assert_eq!((revoked.key, revoked.reason), (key, Reason::KeyCompromise));
        assert_eq!(revoked.by.as_deref(), Some("alice"));
        let last = engine.audit_page(0, 1000).unwrap().entries.pop().unwrap();
        assert!(matches!(last.event, AuditEvent::KeyRevoked { key: named, .. } if named == key));
    }
    drop(engine);
    // The entry stays: a good copy that is put back is found, and goes with a repair.
    tampered(&mut store, |txn| put(txn, KEYS, raw(id), &good));
    assert_found(&store, "keys");
    repaired(&store);
    assert_eq!(store.verdict(issued.token.expose()), "unknown");
    assert_eq!(store.verdict(missing.token.expose()), "unknown");
}
