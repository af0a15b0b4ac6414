//! The chain of the entries, and what breaks it.

use gatekey::Error;

use crate::common::Store;

/// What is done to a stored trail of eight entries, and the first entry that
/// then does not follow.
type Tampering = (&'static str, fn(&mut redb::Table<'_, u64, &[u8]>), u64);

pub(super) fn flip_a_bit(table: &mut redb::Table<'_, u64, &[u8]>, seq: u64, byte: usize) {
    let mut bytes = table.remove(seq).unwrap().unwrap().value().to_vec();
    bytes[byte] ^= 1;
    table.insert(seq, bytes.as_slice()).unwrap();
}

fn put_in_place_of(table: &mut redb::Table<'_, u64, &[u8]>, seq: u64, other: u64) {
    use redb::ReadableTable;
    let bytes = table.get(other).unwrap().unwrap().value().to_vec();
    table.insert(seq, bytes.as_slice()).unwrap();
}

pub(super) const AUDIT: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("audit");

/// Each entry of the other history is right by itself: its hash is keyed by the same
/// store's key, and covers its position and its bytes. What betrays it is the entry
/// that comes after.
#[test]
fn an_entry_of_another_history_of_the_store_does_not_fit_in() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    store.issue("acme", "acme");
    store.engine.clone().close().unwrap();
    let other = store.dir().join("other.redb");
    std::fs::copy(store.path.as_ref().unwrap(), &other).unwrap();
    let history = |path: &std::path::Path, owner: &str| {
        let options = gatekey::Options::new().clock(store.clock.clone());
        let engine = options.open(path).unwrap();
        for _ in 0..2 {
            let key = gatekey::NewKey::new("acme", owner).unwrap();
            engine.issue(key).unwrap();
        }
        engine.close().unwrap();
    };
    let path = store.path.clone().unwrap();
    history(&path, "this");
    history(&other, "that");
    let from = redb::Database::open(&other).unwrap();
    let to = redb::Database::open(&path).unwrap();
    let entry = {
        use redb::{ReadableDatabase, ReadableTable};
        let table = from.begin_read().unwrap().open_table(AUDIT).unwrap();
        ReadableTable::get(&table, 3)
            .unwrap()
            .unwrap()
            .value()
            .to_vec()
    };
    let txn = to.begin_write().unwrap();
    txn.open_table(AUDIT)
        .unwrap()
        .insert(3, entry.as_slice())
        .unwrap();
    txn.commit().unwrap();
    drop((from, to));
    store.engine = gatekey::Options::new()
        .clock(store.clock.clone())
        .open(&path)
        .unwrap();
    match store.engine.audit_page(1, 100) {
        Err(Error::Corrupted(corruption)) => {
            assert_eq!(corruption.table, "audit");
            assert_eq!(corruption.record, "4", "the one after it");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_broken_link_of_the_chain_is_named() {
    let tamperings: [Tampering; 5] = [
        ("an altered entry", |table| flip_a_bit(table, 4, 5), 4),
        ("an altered version", |table| flip_a_bit(table, 4, 0), 4),
        (
            "two altered entries",
            |table| {
                flip_a_bit(table, 6, 5);
                flip_a_bit(table, 3, 5);
            },
            3,
        ),
        (
            "a removed entry",
            |table| {
                table.remove(5).unwrap();
            },
            5,
        ),
        (
            "an entry in the place of another",
            |table| {
                put_in_place_of(table, 4, 3);
            },
            4,
        ),
    ];
    for (what, tamper, broken) in tamperings {
        let mut store = Store::on_file();
        store.keyspace("acme");
        for _ in 0..7 {
            store.issue("acme", "acme");
        }
        store.assert_sound();
        store.engine.clone().close().unwrap();
        let file = redb::Database::open(store.path.as_ref().unwrap()).unwrap();
        let txn = file.begin_write().unwrap();
        tamper(&mut txn.open_table(AUDIT).unwrap());
        txn.commit().unwrap();
        drop(file);
        store.engine = gatekey::Options::new()
            .clock(store.clock.clone())
            .open(store.path.as_ref().unwrap())
            .unwrap();

        match store.engine.audit_page(1, 100) {
            Err(Error::Corrupted(corruption)) => {
                assert_eq!(corruption.table, "audit", "{what}");
                assert_eq!(corruption.record, broken.to_string(), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(
            store.engine.audit_page(1, 2).unwrap().entries.len(),
            2,
            "{what}"
        );
        let report = store.engine.check().unwrap();
        let first = report
            .findings
            .iter()
            .find(|finding| finding.table == "audit")
            .map(|finding| finding.record.clone());
        assert_eq!(first, Some(broken.to_string()), "{what}: {report:#?}");
    }
}
