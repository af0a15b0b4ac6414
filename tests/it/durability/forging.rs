//! An attacker who can write the file but does not have the pepper: whatever
//! they bring from a store of their own, or change in this one, mints nothing.

use std::path::{Path, PathBuf};

use gatekey::{Error, NewKey, NewKeyspace, OpenError, Options, Pepper, Reason, Rotation};
use redb::{ReadableDatabase, ReadableTable};

use super::tampering::{
    AUDIT, COLD, KEYS, META, assert_corrupted, assert_found, edit, get, put, raw, tampered,
};
use crate::common::{Store, code};
use crate::opening::small;

fn with_pepper(fill: u8) -> Options {
    small().pepper(Pepper::new(1, [fill; 32]).unwrap())
}

struct Closed {
    _dir: tempfile::TempDir,
    path: PathBuf,
    /// The token of a key that is good, and its number in the file.
    good: (String, u64),
    revoked: (String, u64),
}

fn closed(options: Options) -> Closed {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options.create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issue = || {
        let issued = engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap();
        (issued.token.expose().to_owned(), issued.key.id)
    };
    let (good, revoked) = (issue(), issue());
    engine.revoke(revoked.1, Reason::KeyCompromise).unwrap();
    engine.close().unwrap();
    Closed {
        _dir: dir,
        path,
        good: (good.0, raw(good.1)),
        revoked: (revoked.0, raw(revoked.1)),
    }
}

fn meta_of(path: &Path) -> Vec<(String, Vec<u8>)> {
    let db = redb::Database::open(path).unwrap();
    let table = db.begin_read().unwrap().open_table(META).unwrap();
    let entries = table.iter().unwrap().map(|entry| {
        let (name, value) = entry.unwrap();
        (name.value().to_owned(), value.value().to_vec())
    });
    entries.collect()
}

#[test]
fn a_file_in_the_place_of_ours_is_not_taken_for_it() {
    let ours = with_pepper(1);
    let without = closed(small());
    let opened = ours.open(&without.path);
    assert!(matches!(
        opened,
        Err(Error::Open {
            reason: OpenError::PepperNotExpected,
            ..
        })
    ));
    let another = closed(with_pepper(2));
    let opened = with_pepper(1).open(&another.path);
    assert!(matches!(
        opened,
        Err(Error::Open {
            reason: OpenError::WrongPepper { id: 1 },
            ..
        })
    ));
}

#[test]
fn a_record_edited_without_the_pepper_is_corrupted() {
    let store = closed(with_pepper(1));
    let sound = edit(&store.path, |txn| get(txn, KEYS, store.revoked.1));
    // The flags are the third byte: nothing is left of the revocation.
    assert_eq!(sound[2], 4);
    let mut unrevoked = sound.clone();
    unrevoked[2] = 0;
    let mut widened = edit(&store.path, |txn| get(txn, KEYS, store.good.1));
    widened[24..40].fill(0xff);
    edit(&store.path, |txn| {
        put(txn, KEYS, store.revoked.1, &unrevoked);
        put(txn, KEYS, store.good.1, &widened);
    });
    let engine = with_pepper(1).open(&store.path).unwrap();
    assert_corrupted(engine.verify(&store.revoked.0), "keys");
    assert_corrupted(engine.verify(&store.good.0), "keys");
    assert_eq!(engine.check().unwrap().findings[0].table, "keys");
}

#[test]
fn a_key_minted_elsewhere_is_corrupted_here() {
    for forged in [small(), with_pepper(2)] {
        let (ours, theirs) = (closed(with_pepper(1)), closed(forged));
        let key = theirs.good.1;
        let (hot, cold) = edit(&theirs.path, |txn| {
            (get(txn, KEYS, key), get(txn, COLD, key))
        });
        edit(&ours.path, |txn| {
            put(txn, KEYS, key, &hot);
            put(txn, COLD, key, &cold);
        });
        let engine = with_pepper(1).open(&ours.path).unwrap();
        assert_corrupted(engine.verify(&theirs.good.0), "keys");
        assert_eq!(code(&engine.verify(&ours.good.0).unwrap()), "granted");
        assert!(!engine.check().unwrap().is_sound());
    }
}

#[test]
fn the_identity_of_a_store_with_a_pepper_cannot_be_changed_in_any_byte() {
    let store = closed(with_pepper(1));
    let meta = meta_of(&store.path);
    // Nothing depends on the counts of keys.
    let is_needed = |name: &str| name != "format" && !name.starts_with("counts/");
    let sound: Vec<_> = meta.iter().filter(|(name, _)| is_needed(name)).collect();
    assert_eq!(sound.len(), 2, "the identity and the state");
    let whole = std::fs::read(&store.path).unwrap();
    for (name, value) in sound {
        // The newest copy, and those that older commits have left behind.
        let places: Vec<usize> = whole
            .windows(value.len())
            .enumerate()
            .filter(|(_, window)| window == value)
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in 0..value.len() {
            let mut bad = whole.clone();
            places
                .iter()
                .for_each(|place| bad[place + at] ^= 1 << (at % 8));
            std::fs::write(&store.path, &bad).unwrap();
            let opened = with_pepper(1).open(&store.path);
            assert!(
                matches!(opened, Err(Error::Open { .. })),
                "byte {at} of {name}"
            );
        }
    }
    std::fs::write(&store.path, &whole).unwrap();
    let engine = with_pepper(1).open(&store.path).unwrap();
    assert_eq!(code(&engine.verify(&store.good.0).unwrap()), "granted");
}

#[test]
fn the_identity_of_another_store_does_not_fit() {
    for forged in [small(), with_pepper(1), with_pepper(2)] {
        let (ours, theirs) = (closed(with_pepper(1)), closed(forged));
        let meta = meta_of(&theirs.path);
        for names in [&["identity"][..], &["state"], &["identity", "state"]] {
            let path = ours.path.with_extension("copy");
            std::fs::copy(&ours.path, &path).unwrap();
            edit(&path, |txn| {
                let mut table = txn.open_table(META).unwrap();
                for (name, value) in meta
                    .iter()
                    .filter(|(name, _)| names.contains(&name.as_str()))
                {
                    table.insert(name.as_str(), value.as_slice()).unwrap();
                }
            });
            // Where the identity is one that our pepper opens, nothing that
            // hangs from it is right.
            match with_pepper(1).open(&path) {
                Err(error) => assert!(matches!(error, Error::Open { .. }), "{error:?}"),
                Ok(engine) => {
                    for token in [&ours.good.0, &ours.revoked.0, &theirs.good.0] {
                        let verdict = engine.verify(token);
                        let granted = verdict.is_ok_and(|verdict| verdict.is_granted());
                        assert!(!granted, "{names:?}");
                    }
                }
            }
        }
    }
}

/// Takes the audit trail as its stored bytes.
fn trail(txn: &redb::WriteTransaction) -> Vec<Vec<u8>> {
    let table = txn.open_table(AUDIT).unwrap();
    let entries = table
        .iter()
        .unwrap()
        .map(|entry| entry.unwrap().1.value().to_vec());
    entries.collect()
}

#[test]
fn the_first_broken_link_of_the_audit_trail_is_named() {
    let store = &mut Store::new(1 << 20, true);
    store.keyspace("acme_live");
    for _ in 0..5 {
        let issued = store.issue("acme_live", "acme");
        store
            .engine
            .rotate(issued.key.id, Rotation::at_once())
            .unwrap();
    }
    let sound = tampered(store, trail);
    assert_eq!(sound.len(), 11);
    let restore = |txn: &redb::WriteTransaction| {
        let mut table = txn.open_table(AUDIT).unwrap();
        table.retain(|_, _| false).unwrap();
        for (seq, entry) in (1..).zip(&sound) {
            table.insert(seq, entry.as_slice()).unwrap();
        }
    };
    for (seq, index) in [(1_u64, 0_usize), (6, 5), (11, 10)] {
        let len = sound[index].len();
        for at in [0, 1, len / 2, len - 33, len - 32, len - 1] {
            let mut bad = sound[index].clone();
            bad[at] ^= 1;
            tampered(store, |txn| put(txn, AUDIT, seq, &bad));
            assert_broken_at(store, seq, "a byte changed");
        }
        tampered(store, |txn| {
            drop(txn.open_table(AUDIT).unwrap().remove(seq).unwrap());
        });
        assert_broken_at(store, seq, "an entry removed");
        tampered(store, restore);
        store.assert_sound();
    }
    tampered(store, |txn| {
        put(txn, AUDIT, 6, &sound[6]);
        put(txn, AUDIT, 7, &sound[5]);
    });
    assert_broken_at(store, 6, "two entries swapped");
    tampered(store, |txn| {
        restore(txn);
        put(txn, AUDIT, 12, &sound[10]);
    });
    assert_found(store, "audit");
    tampered(store, restore);
    store.assert_sound();
}

fn assert_broken_at(store: &Store, seq: u64, what: &str) {
    let read = store.engine.audit_page(1, 100);
    assert!(
        matches!(
            &read,
            Err(Error::Corrupted(found))
                if found.table == "audit" && found.record == seq.to_string()
        ),
        "{what}: {read:?}"
    );
    assert_found(store, "audit");
    // What stands before it can still be read.
    let before = usize::try_from(seq - 1).unwrap();
    if before > 0 {
        assert_eq!(
            store.engine.audit_page(1, before).unwrap().entries.len(),
            before
        );
    }
}

#[test]
fn a_store_without_its_state_or_identity_does_not_open() {
    for missing in ["state", "identity"] {
        let store = closed(small());
        edit(&store.path, |txn| {
            assert!(
                txn.open_table(META)
                    .unwrap()
                    .remove(missing)
                    .unwrap()
                    .is_some()
            );
        });
        let opened = small().open(&store.path);
        assert!(
            matches!(
                opened,
                Err(Error::Open {
                    reason: OpenError::Corrupted(_),
                    ..
                })
            ),
            "{missing}: {opened:?}"
        );
    }
}
