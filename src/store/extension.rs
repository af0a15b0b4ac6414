//! Tables of crates that stand on the engine, which the engine carries along unread.
//!
//! Such a table is named `ext/NAME/TABLE`, after the crate and the table; its keys and its
//! values are bytes. A value is `version, bytes, tag`, and the tag covers the table's name
//! and the key. So an engine that does not know the extension can still say whether a record
//! is the one that was written there, and opening, copying, checking and writing a store
//! anew take such tables along.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle,
};

use crate::crypto::digest::{Keyring, TAG_LEN};
use crate::model::error::{Error, Invalid};
use crate::store::failure::{OrStore, guarded};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{Bytes, Tagged};

/// The longest name of an extension, and of one of its tables.
pub(crate) const NAME_LEN_MAX: usize = 32;
/// The longest key of a record.
pub(crate) const KEY_LEN_MAX: usize = 255;
/// The longest record, without its version.
pub(crate) const RECORD_LEN_MAX: usize = 32 * 1024;
/// The most records that one page has.
pub(crate) const PAGE_MAX: usize = 1000;

/// What the names of extensions' tables begin with, and no other name does.
const PREFIX: &str = "ext/";
/// The table that damage in an extension's table is reported under.
pub(crate) const REPORTED: &str = "extension";

/// A record of an extension, without its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtensionRecord {
    pub(crate) version: u8,
    pub(crate) bytes: Vec<u8>,
}

/// Records of a table with their keys, in the order of the keys.
pub(crate) type Page = Vec<(Vec<u8>, ExtensionRecord)>;

/// Refuses a name that is none of 1 to 32 of `a-z 0-9 _`.
pub(crate) fn validate_name(what: &'static str, name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    match (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => {
            let why = "it is not 1 to 32 of a-z 0-9 _";
            Err(Invalid::malformed(what, name, why).into())
        }
    }
}

/// The name in the file of an extension's table.
pub(crate) fn table_name(extension: &str, table: &str) -> Result<String, Error> {
    validate_name("table of an extension", table)?;
    Ok(format!("{PREFIX}{extension}/{table}"))
}

/// The extension and the table of a name in the file.
pub(crate) fn parts_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PREFIX)?.split_once('/')
}

pub(super) fn is_name(table: &str) -> bool {
    table.starts_with(PREFIX)
}

pub(super) fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// The names of the tables of every extension that a store has, in their order. A table
/// that is none of keys and values is refused, since a copy would be without it.
pub(super) fn names(txn: &ReadTransaction) -> Result<Vec<String>, Error> {
    let refused = |name: &str| Error::corrupted(REPORTED, name, "it is not a table of bytes");
    for table in txn.list_multimap_tables().or_store()? {
        if is_name(redb::MultimapTableHandle::name(&table)) {
            return Err(refused(redb::MultimapTableHandle::name(&table)));
        }
    }
    let mut names = Vec::new();
    for table in txn.list_tables().or_store()? {
        if !is_name(table.name()) {
            continue;
        }
        match txn.open_table(definition(table.name())) {
            Err(TableError::TableTypeMismatch { .. }) => return Err(refused(table.name())),
            opened => drop(opened.or_store()?),
        }
        names.push(table.name().to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// What binds a record to its place. No table's name has a byte 0.
fn place(name: &str, key: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], key].concat()
}

/// Whether a record is one that was written to this place; what it says is the extension's
/// matter.
pub(super) fn look(ring: &Keyring, name: &str, key: &[u8], value: &[u8]) -> Result<(), Error> {
    let corrupted = |why| {
        let record = format!("{name} {}", key.escape_ascii());
        Err(Error::corrupted(REPORTED, record, why))
    };
    match value.split_last_chunk::<TAG_LEN>() {
        None | Some(([], _)) => corrupted("it is too short"),
        Some((body, tag)) => {
            match ring.tag_is_right(Tagged::Extension as u8, &place(name, key), body, tag) {
                true => Ok(()),
                false => corrupted("its tag is wrong"),
            }
        }
    }
}

/// A record as it is stored.
pub(super) fn seal(ring: &Keyring, name: &str, key: &[u8], record: &ExtensionRecord) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + record.bytes.len() + TAG_LEN);
    value.push(record.version);
    value.extend_from_slice(&record.bytes);
    let tag = ring.tag(Tagged::Extension as u8, &place(name, key), &value);
    value.extend(tag);
    value
}

/// Reads a record, after its tag was found to be right.
pub(super) fn unseal(
    ring: &Keyring,
    name: &str,
    key: &[u8],
    value: &[u8],
) -> Result<ExtensionRecord, Error> {
    look(ring, name, key, value)?;
    let body = value.split_last_chunk::<TAG_LEN>().map(|(body, _)| body);
    let parts = body.and_then(<[u8]>::split_first);
    let (version, bytes) = parts.ok_or(Error::Internal("a record that was looked at is short"))?;
    Ok(ExtensionRecord {
        version: *version,
        bytes: bytes.to_vec(),
    })
}

/// What to do with a damaged record among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damaged {
    Refused,
    LeftOut,
}

/// Up to `limit` records of a table from a key on, and before another.
pub(super) fn page(
    table: &impl ReadableTable<Bytes, Bytes>,
    ring: &Keyring,
    name: &str,
    range: (&[u8], Option<&[u8]>, usize),
    damaged: Damaged,
) -> Result<Page, Error> {
    read_range(table, range, |key, value| {
        match unseal(ring, name, key, value) {
            Err(Error::Corrupted(_)) if damaged == Damaged::LeftOut => Ok(None),
            record => Ok(Some((key.to_vec(), record?))),
        }
    })
}

/// Up to `limit` keys of a table's records from a key on, and before another: also those of
/// records that are damaged.
pub(super) fn keys(
    table: &impl ReadableTable<Bytes, Bytes>,
    range: (&[u8], Option<&[u8]>, usize),
) -> Result<Vec<Vec<u8>>, Error> {
    read_range(table, range, |key, _| Ok(Some(key.to_vec())))
}

/// What `read` makes of the records in a range, without those that it leaves out.
fn read_range<T>(
    table: &impl ReadableTable<Bytes, Bytes>,
    (from, before, limit): (&[u8], Option<&[u8]>, usize),
    read: impl Fn(&[u8], &[u8]) -> Result<Option<T>, Error>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    for entry in table.range::<&[u8]>(from..).or_store()? {
        let (key, value) = entry.or_store()?;
        let is_over = before.is_some_and(|before| key.value() >= before);
        if is_over || found.len() >= limit.min(PAGE_MAX) {
            break;
        }
        found.extend(read(key.value(), value.value())?);
    }
    Ok(found)
}

/// # Records of extensions
impl Snapshot {
    /// A record of an extension's table, which need not exist.
    pub(crate) fn extension_record(
        &self,
        name: &str,
        key: &[u8],
    ) -> Result<Option<ExtensionRecord>, Error> {
        guarded(|| {
            let Some(table) = self.extension_table(name)? else {
                return Ok(None);
            };
            let stored = ReadableTable::get(&table, key).or_store()?;
            let read = |stored: redb::AccessGuard<'_, Bytes>| {
                unseal(self.ring(), name, key, stored.value())
            };
            stored.map(read).transpose()
        })
    }

    pub(crate) fn extension_page(
        &self,
        name: &str,
        range: (&[u8], Option<&[u8]>, usize),
        damaged: Damaged,
    ) -> Result<Page, Error> {
        guarded(|| match self.extension_table(name)? {
            Some(table) => page(&table, self.ring(), name, range, damaged),
            None => Ok(Page::new()),
        })
    }

    pub(crate) fn extension_keys(
        &self,
        name: &str,
        range: (&[u8], Option<&[u8]>, usize),
    ) -> Result<Vec<Vec<u8>>, Error> {
        guarded(|| match self.extension_table(name)? {
            Some(table) => keys(&table, range),
            None => Ok(Vec::new()),
        })
    }

    fn extension_table(&self, name: &str) -> Result<Option<ReadOnlyTable<Bytes, Bytes>>, Error> {
        match self.txn().open_table(definition(name)) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            opened => opened.or_store().map(Some),
        }
    }
}

/// Looks at every record of every extension, and hands each answer on.
pub(super) fn check(
    txn: &ReadTransaction,
    ring: &Keyring,
    mut each: impl FnMut(Result<(), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    for name in names(txn)? {
        let table: ReadOnlyTable<Bytes, Bytes> = txn.open_table(definition(&name)).or_store()?;
        for entry in ReadableTable::iter(&table).or_store()? {
            let (key, value) = entry.or_store()?;
            each(look(ring, &name, key.value(), value.value()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use redb::{Database, ReadableDatabase};
    use zeroize::Zeroizing;

    use super::*;
    use crate::store::identity::unlock_stored;
    use crate::store::tables::{META, META_IDENTITY};
    use crate::{Engine, Error, NewKey, NewKeyspace, OpenError};

    const TABLE: &str = "ext/oauth/clients";

    /// A record as an extension writes it.
    fn seal(ring: &Keyring, name: &str, key: &[u8], version: u8, bytes: &[u8]) -> Vec<u8> {
        let bytes = bytes.to_vec();
        super::seal(ring, name, key, &ExtensionRecord { version, bytes })
    }

    fn ring_of(db: &Database) -> Keyring {
        let txn = db.begin_read().unwrap();
        let meta = txn.open_table(META).unwrap();
        let identity = ReadableTable::get(&meta, META_IDENTITY).unwrap().unwrap();
        let (_, key) = unlock_stored(&[], identity.value()).unwrap();
        Keyring::new(&key, &[])
    }

    /// A store with a key, and with two records of an extension.
    fn store(path: &Path) -> String {
        let engine = Engine::create(path).unwrap();
        engine
            .create_keyspace(NewKeyspace::new("acme_live").unwrap())
            .unwrap();
        let issued = engine.issue(NewKey::new("acme_live", "acme").unwrap());
        let token = issued.unwrap().token.expose().to_owned();
        engine.close().unwrap();
        write(path, |table, ring| {
            for (key, bytes) in [(b"a", b"first"), (b"b", b"other")] {
                let value = seal(ring, TABLE, key, 9, bytes);
                table.insert(key.as_slice(), value.as_slice()).unwrap();
            }
        });
        token
    }

    fn write(path: &Path, does: impl FnOnce(&mut redb::Table<'_, Bytes, Bytes>, &Keyring)) {
        let db = Database::open(path).unwrap();
        let ring = ring_of(&db);
        let txn = db.begin_write().unwrap();
        does(&mut txn.open_table(definition(TABLE)).unwrap(), &ring);
        txn.commit().unwrap();
    }

    fn values(path: &Path) -> Vec<Vec<u8>> {
        let db = Database::open(path).unwrap();
        let txn = db.begin_read().unwrap();
        let table = txn.open_table(definition(TABLE)).unwrap();
        let entries = ReadableTable::iter(&table).unwrap();
        entries
            .map(|entry| entry.unwrap().1.value().to_vec())
            .collect()
    }

    #[test]
    fn a_store_with_a_table_of_an_extension_is_opened_checked_copied_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
        let token = store(&path);
        let written = values(&path);
        assert_eq!(written.len(), 2);

        let engine = Engine::open(&path).unwrap();
        assert!(engine.check().unwrap().is_sound());
        let with = engine.backup(&copy).unwrap();
        assert_eq!(with.damaged_total, 0);
        engine.compact().unwrap();
        assert!(engine.verify(&token).unwrap().is_granted());
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
        assert_eq!(values(&path), written);
        assert_eq!(values(&copy), written);

        let engine = Engine::open(&copy).unwrap();
        assert!(engine.verify(&token).unwrap().is_granted());
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
    }

    #[test]
    fn a_record_of_an_extension_that_is_damaged_or_moved_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
        store(&path);
        let [first, other] = <[_; 2]>::try_from(values(&path)).unwrap();
        write(&path, |table, ring| {
            let mut put = |key: &[u8], value: &[u8]| drop(table.insert(key, value).unwrap());
            // Another record's, another table's, one without a version, one bit.
            put(b"a", &other);
            put(b"c", &seal(ring, "ext/oauth/codes", b"c", 9, b"first"));
            put(b"d", &first[first.len() - TAG_LEN..]);
            let mut flipped = seal(ring, TABLE, b"e", 9, b"first");
            flipped[1] ^= 1;
            put(b"e", &flipped);
        });
        let engine = Engine::open(&path).unwrap();
        let report = engine.check().unwrap();
        let found: Vec<&str> = report.findings.iter().map(|found| &*found.record).collect();
        let expected = ["a", "c", "d", "e"].map(|key| format!("{TABLE} {key}"));
        assert_eq!(found, expected);
        assert!(report.findings.iter().all(|found| found.table == REPORTED));
        let backup = engine.backup(&copy).unwrap();
        assert_eq!(backup.damaged_total, 4, "{:?}", backup.damaged);
        engine.close().unwrap();
    }

    #[test]
    fn a_copy_that_lost_a_record_of_an_extension_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
        store(&path);
        let engine = Engine::open(&path).unwrap();
        engine.backup(&copy).unwrap();
        engine.close().unwrap();
        write(&copy, |table, _| {
            table.remove(b"a".as_slice()).unwrap();
        });
        assert!(Engine::open(&copy).is_err());
    }

    #[test]
    fn a_table_of_an_extension_that_could_not_be_copied_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for is_multimap in [false, true] {
            let path = dir.path().join(format!("{is_multimap}"));
            store(&path);
            let db = Database::open(&path).unwrap();
            let txn = db.begin_write().unwrap();
            match is_multimap {
                true => drop(txn.open_multimap_table(
                    redb::MultimapTableDefinition::<u64, u64>::new("ext/oauth/other"),
                )),
                false => drop(txn.open_table(TableDefinition::<u64, u64>::new("ext/oauth/other"))),
            }
            txn.commit().unwrap();
            drop(db);
            let refused = Engine::open(&path).unwrap_err();
            let Error::Open { reason, .. } = &refused else {
                panic!("{refused:?}");
            };
            assert!(matches!(reason, OpenError::Corrupted(_)), "{refused:?}");
            assert!(refused.to_string().contains("ext/oauth/other"), "{refused}");
        }
    }

    #[test]
    fn a_record_is_bound_to_its_table_and_its_key() {
        let ring = Keyring::new(&Zeroizing::new([7; 32]), &[]);
        let value = seal(&ring, TABLE, b"key", 1, b"");
        assert!(look(&ring, TABLE, b"key", &value).is_ok());
        for (name, key) in [
            ("ext/oauth/client", "skey"),
            (TABLE, "ke"),
            (TABLE, "key\0"),
        ] {
            assert!(look(&ring, name, key.as_bytes(), &value).is_err());
        }
    }
}
