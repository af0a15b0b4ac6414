//! Whoever writes to the file past the engine: what they change is noticed, and
//! grants nothing.

use std::path::Path;

use gatekey::{
    Engine, Error, Issued, KeyId, KeyUpdate, KeyspaceUpdate, NewKey, Options, Reason, Rotation,
};
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use crate::common::{DAY, Store};

type Bytes = &'static [u8];

pub(crate) const KEYS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("keys");
pub(super) const COLD: TableDefinition<'_, u64, Bytes> = TableDefinition::new("cold");
pub(super) const KEYSPACES: TableDefinition<'_, u32, Bytes> = TableDefinition::new("keyspaces");
pub(super) const PREFIXES: TableDefinition<'_, &str, u32> = TableDefinition::new("prefixes");
pub(super) const OWNERS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("owners");
pub(super) const BY_OWNER: TableDefinition<'_, Bytes, u8> = TableDefinition::new("by_owner");
pub(super) const BY_KEYSPACE: TableDefinition<'_, (u32, u64), ()> =
    TableDefinition::new("by_keyspace");
pub(super) const BY_END: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_end");
pub(super) const BY_TURN: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_turn");
pub(super) const AUDIT: TableDefinition<'_, u64, Bytes> = TableDefinition::new("audit");
pub(super) const USAGE: TableDefinition<'_, u64, Bytes> = TableDefinition::new("usage");
pub(super) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("gatekey");

/// The number under which a key stands in the file.
pub(crate) fn raw(id: KeyId) -> u64 {
    gatekey_testkit::forge::number_of(id.to_string().as_bytes())
}

pub(crate) fn edit<T>(path: &Path, change: impl FnOnce(&WriteTransaction) -> T) -> T {
    let db = Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    let result = change(&txn);
    txn.commit().unwrap();
    result
}

/// Closes the store, edits its file past the engine, and opens it again.
pub(crate) fn tampered<T>(store: &mut Store, change: impl FnOnce(&WriteTransaction) -> T) -> T {
    store.engine.clone().close().unwrap();
    let path = store.path.clone().unwrap();
    let result = edit(&path, change);
    let options = Options::new()
        .resident_bytes(store.resident_bytes)
        .clock(store.clock.clone());
    store.engine = options.open(path).unwrap();
    result
}

pub(super) fn get(
    txn: &WriteTransaction,
    table: TableDefinition<'_, u64, Bytes>,
    key: u64,
) -> Vec<u8> {
    let table = txn.open_table(table).unwrap();
    table.get(key).unwrap().unwrap().value().to_vec()
}

pub(super) fn put(
    txn: &WriteTransaction,
    table: TableDefinition<'_, u64, Bytes>,
    key: u64,
    value: &[u8],
) {
    let mut table = txn.open_table(table).unwrap();
    table.insert(key, value).unwrap();
}

/// Changes the last byte of a key's record.
pub(crate) fn damage(txn: &WriteTransaction, id: KeyId) {
    let mut bytes = get(txn, KEYS, raw(id));
    *bytes.last_mut().unwrap() ^= 1;
    put(txn, KEYS, raw(id), &bytes);
}

/// Resident and not: the file is read in both cases, at least once.
pub(super) fn on_files(test: impl Fn(&mut Store)) {
    for resident_bytes in [0, 1 << 20] {
        let mut store = Store::new(resident_bytes, true);
        store.keyspace("acme_live");
        test(&mut store);
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given what a call gave"
)]
pub(super) fn assert_corrupted<T: std::fmt::Debug>(result: Result<T, Error>, table: &str) {
    assert!(
        matches!(&result, Err(Error::Corrupted(what)) if what.table == table),
        "{table}: {result:?}"
    );
}

/// Asserts that the walk of the whole store finds something in a table.
pub(super) fn assert_found(store: &Store, table: &str) {
    let report = store.engine.check().unwrap();
    assert!(
        report.findings.iter().any(|finding| finding.table == table),
        "{table}: {report:#?}"
    );
}

#[test]
fn a_record_with_any_byte_changed_is_corrupted_and_grants_nothing() {
    on_files(|store| {
        // A key for each byte, so that the file is edited once.
        let batch = vec![NewKey::new("acme_live", "acme").unwrap(); 140];
        let issued = store.engine.issue_batch(batch).unwrap();
        let lengths = tampered(store, |txn| {
            let break_one = |(at, issued): (usize, &Issued)| {
                let key = raw(issued.key.id);
                let sound = get(txn, KEYS, key);
                let bad = match at.checked_sub(sound.len()) {
                    None => {
                        let mut bad = sound.clone();
                        bad[at] ^= 1 << (at % 8);
                        bad
                    }
                    Some(0) => [sound.as_slice(), &[0]].concat(),
                    Some(cut) => sound[..(cut - 1) * 8].to_vec(),
                };
                put(txn, KEYS, key, &bad);
                sound.len()
            };
            issued.iter().enumerate().map(break_one).collect::<Vec<_>>()
        });
        assert!(lengths.iter().all(|len| *len == 124));
        for issued in &issued {
            for _ in 0..2 {
                assert_corrupted(store.engine.verify(issued.token.expose()), "keys");
            }
        }
        let key = issued[72].key.id;
        assert_corrupted(store.engine.key(key), "keys");
        assert_corrupted(store.engine.disable(key), "keys");
        assert_corrupted(store.engine.rotate(key, Rotation::at_once()), "keys");
        // What takes access away for good needs no more than the key's name.
        store.engine.revoke(key, Reason::Cessation).unwrap();
        assert_corrupted(store.engine.verify(issued[72].token.expose()), "keys");
        let report = store.engine.check().unwrap();
        let named = |issued: &Issued| {
            let id = issued.key.id.to_string();
            report
                .findings
                .iter()
                .any(|f| f.table == "keys" && f.record == id)
        };
        assert!(issued.iter().all(named));
        // Other keys are served on.
        let other = store.issue("acme_live", "other");
        assert_eq!(store.verdict(other.token.expose()), "granted");
    });
}

#[test]
fn a_record_put_in_another_keys_place_is_corrupted() {
    on_files(|store| {
        let (good, revoked) = (store.issue("acme_live", "a"), store.issue("acme_live", "b"));
        store
            .engine
            .revoke(revoked.key.id, Reason::KeyCompromise)
            .unwrap();
        let (first, second) = (raw(good.key.id), raw(revoked.key.id));
        tampered(store, |txn| {
            let (one, other) = (get(txn, KEYS, first), get(txn, KEYS, second));
            put(txn, KEYS, first, &other);
            put(txn, KEYS, second, &one);
        });
        assert_corrupted(store.engine.verify(revoked.token.expose()), "keys");
        assert_corrupted(store.engine.verify(good.token.expose()), "keys");
        let report = store.engine.check().unwrap();
        assert!(report.findings_total >= 2, "{report:#?}");
    });
}

#[test]
fn a_record_of_another_store_grants_nothing() {
    on_files(|store| {
        let mut forger = Store::new(1 << 20, true);
        forger.keyspace("acme_live");
        let minted = forger.issue("acme_live", "acme");
        let key = raw(minted.key.id);
        let (hot, cold) = tampered(&mut forger, |txn| {
            (get(txn, KEYS, key), get(txn, COLD, key))
        });
        tampered(store, |txn| {
            put(txn, KEYS, key, &hot);
            put(txn, COLD, key, &cold);
        });
        assert_corrupted(store.engine.verify(minted.token.expose()), "keys");
        assert_found(store, "keys");
    });
}

#[test]
fn an_old_copy_of_a_record_is_found_by_the_check() {
    type Change = fn(&Engine, KeyId);
    let changes: [(&str, Change); 8] = [
        ("revoked", |engine, key| {
            drop(engine.revoke(key, Reason::KeyCompromise).unwrap());
        }),
        ("revoked with its owner", |engine, _| {
            engine.revoke_owner("acme", Reason::KeyCompromise).unwrap();
        }),
        ("revoked with its keyspace", |engine, _| {
            engine
                .revoke_keyspace("acme_live", Reason::KeyCompromise)
                .unwrap();
        }),
        ("suspended", |engine, _| {
            drop(engine.suspend("acme", None).unwrap());
        }),
        ("disabled", |engine, key| drop(engine.disable(key).unwrap())),
        ("narrowed", |engine, key| {
            engine
                .update(key, KeyUpdate::new().set_permissions::<&str>([]))
                .unwrap();
        }),
        ("shortened", |engine, key| {
            engine
                .update(key, KeyUpdate::new().expires_in(DAY))
                .unwrap();
        }),
        ("rotated", |engine, key| {
            drop(engine.rotate(key, Rotation::at_once()).unwrap());
        }),
    ];
    for (what, change) in changes {
        on_files(|store| {
            let issued = store.issue("acme_live", "acme/bot");
            let key = raw(issued.key.id);
            let old = tampered(store, |txn| get(txn, KEYS, key));
            change(&store.engine, issued.key.id);
            store.assert_sound();
            tampered(store, |txn| put(txn, KEYS, key, &old));
            let report = store.engine.check().unwrap();
            let named = issued.key.id.to_string();
            assert!(
                report
                    .findings
                    .iter()
                    .any(|f| f.table == "keys" && f.record == named),
                "{what}: {report:#?}"
            );
        });
    }
}

#[test]
fn a_key_that_was_purged_and_put_back_is_found_by_the_check() {
    on_files(|store| {
        let issued = store.issue("acme_live", "acme");
        let key = raw(issued.key.id);
        let (hot, cold) = tampered(store, |txn| (get(txn, KEYS, key), get(txn, COLD, key)));
        store
            .engine
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        store.clock.advance(DAY);
        assert_eq!(store.engine.purge(DAY / 2).unwrap().keys, 1);
        tampered(store, |txn| {
            put(txn, KEYS, key, &hot);
            put(txn, COLD, key, &cold);
        });
        assert_found(store, "keys");
    });
}

#[test]
fn an_old_copy_of_a_keyspace_is_found_by_the_check() {
    on_files(|store| {
        let read = |txn: &WriteTransaction| {
            let table = txn.open_table(KEYSPACES).unwrap();
            table.get(0).unwrap().unwrap().value().to_vec()
        };
        let old = tampered(store, read);
        let retire = KeyspaceUpdate::new().retire_permissions(["read"]);
        store.engine.update_keyspace("acme_live", retire).unwrap();
        store.assert_sound();
        tampered(store, |txn| {
            let mut table = txn.open_table(KEYSPACES).unwrap();
            table.insert(0, old.as_slice()).unwrap();
        });
        assert_found(store, "keyspaces");
    });
}

#[test]
fn a_suspension_taken_out_of_the_file_is_found_by_the_check() {
    for has_keys in [true, false] {
        on_files(|store| {
            let issued = has_keys.then(|| store.issue("acme_live", "acme/bot"));
            store.engine.suspend("acme", None).unwrap();
            store.assert_sound();
            tampered(store, |txn| {
                let mut table = txn.open_table(OWNERS).unwrap();
                assert!(table.remove("acme").unwrap().is_some());
            });
            if let Some(issued) = issued {
                assert_eq!(store.verdict(issued.token.expose()), "suspended");
            }
            let report = store.engine.check().unwrap();
            assert!(!report.is_sound(), "has keys: {has_keys}");
        });
    }
}

#[test]
fn an_index_entry_that_is_missing_or_too_many_is_found_by_the_check() {
    on_files(|store| {
        let issued = store.issue("acme_live", "acme");
        let key = raw(issued.key.id);
        store
            .engine
            .update(issued.key.id, KeyUpdate::new().expires_in(DAY))
            .unwrap();
        let other = store.issue("acme_live", "other");
        store
            .engine
            .revoke(other.key.id, Reason::Cessation)
            .unwrap();
        store.assert_sound();

        let removed = |table: &mut redb::Table<'_, Bytes, u8>| {
            let first = table.pop_first().unwrap().unwrap();
            (first.0.value().to_vec(), first.1.value())
        };
        let (index, standing) =
            tampered(store, |txn| removed(&mut txn.open_table(BY_OWNER).unwrap()));
        assert_found(store, "by_owner");
        for wrong in [1 - standing, 2, 255] {
            tampered(store, |txn| {
                let mut table = txn.open_table(BY_OWNER).unwrap();
                table.insert(index.as_slice(), wrong).unwrap();
            });
            assert_found(store, "by_owner");
        }
        let forged = [b"zebra".as_slice(), &index[4..]].concat();
        tampered(store, |txn| {
            let mut table = txn.open_table(BY_OWNER).unwrap();
            table.insert(index.as_slice(), standing).unwrap();
            table.insert(forged.as_slice(), 0).unwrap();
        });
        assert_found(store, "by_owner");
        tampered(store, |txn| {
            let mut table = txn.open_table(BY_OWNER).unwrap();
            table.remove(forged.as_slice()).unwrap();
        });
        store.assert_sound();

        tampered(store, |txn| {
            let mut table = txn.open_table(BY_KEYSPACE).unwrap();
            assert!(table.remove((0, key)).unwrap().is_some());
            table.insert((7, key), ()).unwrap();
        });
        assert_found(store, "by_keyspace");
        tampered(store, |txn| {
            let mut table = txn.open_table(BY_END).unwrap();
            assert!(table.pop_first().unwrap().is_some());
            table.insert((1, key), ()).unwrap();
        });
        assert_found(store, "by_end");
        // A good key that an index says is over is not purged.
        let purged = store.engine.purge(std::time::Duration::ZERO).unwrap();
        assert_eq!((purged.keys, purged.damaged), (0, 1));
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    });
}

#[test]
fn what_belongs_to_no_key_or_is_changed_beside_it_is_found_by_the_check() {
    on_files(|store| {
        let issued = store.issue("acme_live", "acme");
        let key = raw(issued.key.id);
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        for (table, name) in [(COLD, "cold"), (USAGE, "usage")] {
            let sound = tampered(store, |txn| get(txn, table, key));
            let mut bad = sound.clone();
            bad[2] ^= 1;
            tampered(store, |txn| put(txn, table, key, &bad));
            assert_corrupted(store.engine.key(issued.key.id), name);
            assert_found(store, name);
            tampered(store, |txn| {
                put(txn, table, key, &sound);
                put(txn, table, key + 1, &sound);
            });
            assert_found(store, name);
            tampered(store, |txn| {
                drop(txn.open_table(table).unwrap().remove(key + 1).unwrap());
            });
            store.assert_sound();
        }
        tampered(store, |txn| {
            drop(txn.open_table(COLD).unwrap().remove(key).unwrap());
        });
        assert_corrupted(store.engine.key(issued.key.id), "cold");
        assert_found(store, "cold");
        tampered(store, |txn| {
            let mut table = txn.open_table(PREFIXES).unwrap();
            table.insert("acme_test", 0).unwrap();
        });
        let forged = NewKey::new("acme_test", "acme").unwrap();
        assert_corrupted(store.engine.issue(forged), "prefixes");
        assert_found(store, "prefixes");
    });
}
