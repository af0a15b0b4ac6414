//! The records that a transaction put and removed, in all tables, as bytes: what a fleet's
//! log carries to the other servers.
//!
//! Every table of a transaction is opened through here ([`Noted`]), so that no write can
//! pass the journal by. Without a log, a journal notes nothing.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::PoisonError;

use redb::{
    AccessGuard, Key, Range, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, TableHandle, TableStats, Value, WriteTransaction,
};

use crate::model::error::Error;
use crate::store::failure::OrStore;
use crate::sync::{Mutex, lock};

/// The changed records of a table, by their keys; `None` where it was removed.
pub(crate) type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// The changed records of all tables, by the tables' names.
pub(crate) type Records = BTreeMap<String, Rows>;

/// What a transaction wrote. Two threads may write to it, each its own tables.
pub(crate) struct Journal(Option<Mutex<Records>>);

impl Journal {
    /// One that notes nothing.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on() -> Self {
        Self(Some(Mutex::new(Records::new())))
    }

    #[cold]
    fn note(records: &Mutex<Records>, table: &str, key: &[u8], value: Option<&[u8]>) {
        let mut records = lock(records);
        if !records.contains_key(table) {
            records.insert(table.to_owned(), Rows::new());
        }
        if let Some(rows) = records.get_mut(table) {
            rows.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    pub(crate) fn into_records(self) -> Records {
        let records = (self.0).map(|records| records.into_inner());
        let records = records.map(|records| records.unwrap_or_else(PoisonError::into_inner));
        records.unwrap_or_default()
    }
}

/// How many rows are worth being written together. redb fills pages to their end then, and
/// leaves what is over on a page of its own, of leaves and of branches: after many short runs a
/// table has twice the pages that rows one by one need, and each later change writes more.
const TOGETHER_MIN: usize = 16;
/// After how many rows that stand alone it is looked whether others do not, at most.
const SKIPPED_MAX: usize = 31;

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

    /// Puts rows that are in the order of their keys, and says of each what it replaced. Those of
    /// which none replaces another and that stand together, before the same row that was there or
    /// behind all, are written together, without a search for each.
    pub(super) fn insert_in_order<T>(
        &mut self,
        rows: &[T],
        row: impl for<'r> Fn(&'r T) -> (K::SelfType<'r>, V::SelfType<'r>),
        mut done: impl FnMut(&T, Option<AccessGuard<'_, V>>),
    ) -> Result<(), Error> {
        let (mut rest, mut skipped) = (rows, 0);
        while !rest.is_empty() {
            let together = match rest.len() >= TOGETHER_MIN {
                true => self.together(rest, &row).or_store()?,
                false => 0,
            };
            if together >= TOGETHER_MIN {
                let (run, behind) = rest.split_at(together);
                self.insert_together(run, &row)?;
                run.iter().for_each(|row| done(row, None));
                (rest, skipped) = (behind, 0);
                continue;
            }
            // The more there are that stand alone, the less often it is looked for others.
            skipped = (2 * skipped + 1).min(SKIPPED_MAX);
            let alone = rest.len().min(together.max(skipped));
            let (alone, behind) = rest.split_at(alone);
            for of in alone {
                let (key, value) = row(of);
                let old = self.insert(&key, &value).or_store()?;
                done(of, old);
            }
            rest = behind;
        }
        Ok(())
    }

    /// How many of some rows come before the first row of the table that is not before them.
    fn together<T>(
        &self,
        rows: &[T],
        row: &impl for<'r> Fn(&'r T) -> (K::SelfType<'r>, V::SelfType<'r>),
    ) -> Result<usize, StorageError> {
        let Some(first) = rows.first() else {
            return Ok(0);
        };
        let (key, _) = row(first);
        let next = self
            .table
            .range::<K::SelfType<'_>>(key..)?
            .next()
            .transpose()?;
        let Some((next, _)) = next else {
            return Ok(rows.len());
        };
        let next = next.value();
        let next = K::as_bytes(&next);
        let before = |of: &T| K::compare(K::as_bytes(&row(of).0).as_ref(), next.as_ref()).is_lt();
        Ok(rows.partition_point(before))
    }

    fn insert_together<T>(
        &mut self,
        rows: &[T],
        row: &impl for<'r> Fn(&'r T) -> (K::SelfType<'r>, V::SelfType<'r>),
    ) -> Result<(), Error> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        if let Some(records) = &self.journal.0 {
            for of in rows {
                let (key, value) = row(of);
                let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
                Journal::note(
                    records,
                    self.table.name(),
                    key.as_ref(),
                    Some(value.as_ref()),
                );
            }
        }
        let (key, _) = row(first);
        let mut cursor = self
            .table
            .lower_bound_mut(Bound::Included(&key))
            .or_store()?;
        for of in rows {
            let (key, value) = row(of);
            cursor.insert_before(&key, &value).or_store()?;
        }
        cursor.close().or_store()
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

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use redb::Database;
    use redb::backends::InMemoryBackend;

    use super::*;

    const TABLE: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("rows");

    /// Numbers that look random, and are the same each time.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    type Row = ((u32, u64), Vec<u8>);

    /// Rows in order: some alone, some side by side, some of keys that are there.
    fn draw(draws: &mut Draws, there: &BTreeMap<(u32, u64), Vec<u8>>) -> Vec<Row> {
        let mut keys = std::collections::BTreeSet::new();
        for _ in 0..draws.below(40) {
            let (part, start) = (u32::try_from(draws.below(3)).unwrap(), draws.below(5000));
            let beside = [1, 2, 15, 16, 17, 400][usize::try_from(draws.below(6)).unwrap()];
            keys.extend((start..start + beside).map(|at| (part, at)));
        }
        let at = usize::try_from(draws.below(1 + there.len() as u64)).unwrap();
        keys.extend(there.keys().skip(at).take(3));
        let value = |at| [7, 8, 9].repeat(1 + at % 60);
        keys.into_iter()
            .enumerate()
            .map(|(at, key)| (key, value(at)))
            .collect()
    }

    #[test]
    fn rows_in_order_come_to_what_they_come_to_one_by_one() {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let mut draws = Draws(7);
        for round in 0..60 {
            let txn = db.begin_write().unwrap();
            let journal = match round % 2 {
                0 => Journal::on(),
                _ => Journal::off(),
            };
            let mut table = Noted::open(&txn, TABLE, &journal).unwrap();
            let all = |table: &Noted<'_, (u32, u64), &'static [u8]>| {
                let rows = table.iter().unwrap().map(|row| {
                    let (key, value) = row.unwrap();
                    (key.value(), value.value().to_vec())
                });
                rows.collect::<BTreeMap<_, _>>()
            };
            let mut expected = all(&table);
            let rows = draw(&mut draws, &expected);
            let replaced: Vec<(Row, Option<Vec<u8>>)> = rows
                .iter()
                .map(|row| (row.clone(), expected.insert(row.0, row.1.clone())))
                .collect();

            let mut told = Vec::new();
            let note = |row: &Row, old: Option<AccessGuard<'_, &'static [u8]>>| {
                told.push((row.clone(), old.map(|old| old.value().to_vec())));
            };
            (table.insert_in_order(&rows, |(key, value)| (*key, value.as_slice()), note)).unwrap();
            assert!(told == replaced, "round {round}");
            assert!(all(&table) == expected, "round {round}");
            drop(table);
            let noted = journal.into_records().remove("rows").unwrap_or_default();
            let of_journal: Rows = (rows.iter().filter(|_| round % 2 == 0))
                .map(|(key, value)| {
                    let key = <(u32, u64) as Value>::as_bytes(key);
                    (AsRef::<[u8]>::as_ref(&key).to_vec(), Some(value.clone()))
                })
                .collect();
            assert!(noted == of_journal, "round {round}");
            txn.commit().unwrap();
        }
    }

    #[test]
    fn rows_that_are_not_in_order_are_an_error() {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let txn = db.begin_write().unwrap();
        let journal = Journal::off();
        let mut table = Noted::open(&txn, TABLE, &journal).unwrap();
        let rows: Vec<u64> = (0..40).map(|at| at % 20).collect();
        let done = table.insert_in_order(&rows, |at| ((1, *at), &[][..]), |_, _| {});
        assert!(matches!(done, Err(Error::Corrupted(_))));
    }
}
