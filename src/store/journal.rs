//! The records that a transaction put and removed, in all tables, as bytes: what a fleet's
//! log carries to the other servers.
//!
//! Every table of a transaction is opened through here ([`Noted`]), so that no write can
//! pass the journal by. Without a log, a journal notes nothing.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeBounds;

use redb::{
    AccessGuard, Key, Range, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, TableHandle, TableStats, Value, WriteTransaction,
};

use crate::model::error::Error;
use crate::store::failure::OrStore;

/// The changed records of a table, by their keys; `None` where it was removed.
pub(crate) type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// The changed records of all tables, by the tables' names.
pub(crate) type Records = BTreeMap<String, Rows>;

/// What a transaction wrote.
pub(crate) struct Journal(Option<RefCell<Records>>);

impl Journal {
    /// One that notes nothing.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on() -> Self {
        Self(Some(RefCell::new(Records::new())))
    }

    #[cold]
    fn note(records: &RefCell<Records>, table: &str, key: &[u8], value: Option<&[u8]>) {
        let mut records = records.borrow_mut();
        if !records.contains_key(table) {
            records.insert(table.to_owned(), Rows::new());
        }
        if let Some(rows) = records.get_mut(table) {
            rows.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    pub(crate) fn into_records(self) -> Records {
        self.0.map(RefCell::into_inner).unwrap_or_default()
    }
}

/// A table whose writes are noted.
pub(crate) struct Noted<'t, K: Key + 'static, V: Value + 'static> {
    table: Table<'t, K, V>,
    journal: &'t Journal,
}

impl<'t, K: Key + 'static, V: Value + 'static> Noted<'t, K, V> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        definition: TableDefinition<'_, K, V>,
        journal: &'t Journal,
    ) -> Result<Self, Error> {
        let table = txn.open_table(definition).or_store()?;
        Ok(Self { table, journal })
    }

    pub(super) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        if let Some(records) = &self.journal.0 {
            let (key, value) = (K::as_bytes(key.borrow()), V::as_bytes(value.borrow()));
            let value = Some(value.as_ref());
            Journal::note(records, self.table.name(), key.as_ref(), value);
        }
        self.table.insert(key, value)
    }

    pub(super) fn remove<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        if let Some(records) = &self.journal.0 {
            let key = K::as_bytes(key.borrow());
            Journal::note(records, self.table.name(), key.as_ref(), None);
        }
        self.table.remove(key)
    }

    /// Removes all records of a range.
    pub(super) fn remove_in<'k, KR>(
        &mut self,
        range: impl RangeBounds<KR> + 'k,
    ) -> Result<(), StorageError>
    where
        KR: Borrow<K::SelfType<'k>> + 'k,
    {
        let mut keys = Vec::new();
        for entry in self.table.range(range)? {
            keys.push(K::as_bytes(&entry?.0.value()).as_ref().to_vec());
        }
        for key in keys {
            self.remove(K::from_bytes(&key))?;
        }
        Ok(())
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadableTableMetadata for Noted<'_, K, V> {
    fn stats(&self) -> Result<TableStats, StorageError> {
        self.table.stats()
    }

    fn len(&self) -> Result<u64, StorageError> {
        self.table.len()
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadableTable<K, V> for Noted<'_, K, V> {
    fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        self.table.get(key)
    }

    fn range<'a, KR>(
        &self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<Range<'_, K, V>, StorageError>
    where
        KR: Borrow<K::SelfType<'a>> + 'a,
    {
        self.table.range(range)
    }

    #[allow(clippy::type_complexity, reason = "the trait's")]
    fn first(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>, StorageError> {
        self.table.first()
    }

    #[allow(clippy::type_complexity, reason = "the trait's")]
    fn last(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>, StorageError> {
        self.table.last()
    }
}
