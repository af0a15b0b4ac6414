//! The mark of a copy of a store: how many records each table has, and a digest over
//! all of them.
//!
//! The mark counts until the first change of the copy. Until then an opening compares the
//! counts, and a check compares the digest too.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::crypto::digest::{Contents, Digest, Keyring};
use crate::model::error::Error;
use crate::store::extension;
use crate::store::failure::OrStore;
use crate::store::pipe::{Chunk, PER_CHUNK, in_turns, next_chunk};
use crate::store::tables::{Bytes, META_COPY, State, Tagged, each_table, unseal};

/// In the place of a mark, while the copy is made.
pub(super) const UNFINISHED: &[u8] = b"unfinished";

/// What a copy holds, but for what there is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many transactions were committed to what it holds.
    pub(super) commits: u64,
    /// How many records each table has, by the table's name.
    pub(super) counts: Vec<(String, u64)>,
    /// Over every record of these tables, in their order.
    pub(super) contents: Digest,
}

/// Where tables are cut into pieces, which several threads read: the keys before which a piece
/// ends, by the names of the tables.
#[derive(Default)]
pub(super) struct Cuts(pub(super) BTreeMap<String, Vec<Vec<u8>>>);

/// A mark that is being made, table by table.
pub(super) struct Marking {
    commits: u64,
    counts: Vec<(String, u64)>,
    contents: Contents,
}

impl Marking {
    pub(super) fn new(state: &State) -> Self {
        Self {
            commits: state.commits,
            counts: Vec::new(),
            contents: Contents::new(),
        }
    }

    /// Begins a table, which has so many records.
    pub(super) fn table(&mut self, name: &str, count: u64) {
        self.contents.add(name.as_bytes());
        self.counts.push((name.to_owned(), count));
    }

    /// Takes records of the table that was begun last.
    pub(super) fn records(&mut self, chunk: &Chunk) {
        self.contents.add_parts(&chunk.bytes);
    }

    pub(super) fn finish(self) -> Mark {
        Mark {
            commits: self.commits,
            counts: self.counts,
            contents: self.contents.finish(),
        }
    }
}

impl Mark {
    /// How many records the copy has.
    pub(super) fn records(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Reads the mark of everything that is there. `each` is called with numbers of records.
    pub(super) fn of(
        txn: &ReadTransaction,
        state: &State,
        cuts: &Cuts,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut marking = Marking::new(state);
        each_table!(|table| read_table(&mut marking, txn, table, cuts, &mut each)?);
        for name in extension::names(txn)? {
            let table = extension::definition(&name);
            read_table(&mut marking, txn, table, cuts, &mut each)?;
        }
        Ok(marking.finish())
    }

    /// How what is found differs from this mark, if it does.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        differs(&self.counts, &found.counts).or_else(|| {
            (self.contents != found.contents).then(|| "a record differs from its original".into())
        })
    }
}

fn read_table<K: redb::Key + Send + Sync + 'static, V: redb::Value + Send + Sync + 'static>(
    marking: &mut Marking,
    txn: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
    cuts: &Cuts,
    each: &mut impl FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let table = txn.open_table(definition).or_store()?;
    let name = redb::TableHandle::name(&definition);
    let mut count = 0;
    marking.table(name, 0);
    // Of pieces that are read by turns, each is a chunk: so they come in order.
    let cuts = cuts.0.get(name).map_or(&[][..], Vec::as_slice);
    let take = |chunk: Chunk| {
        marking.records(&chunk);
        count += chunk.records;
        each(chunk.records)
    };
    if cuts.is_empty() {
        let mut rows = ReadableTable::iter(&table).or_store()?;
        let is_long = table.len().or_store()? > PER_CHUNK;
        in_turns([|| next_chunk(&mut rows, |_, _| {})], is_long, take)?;
    } else {
        let readers = [0, 1].map(|first| {
            let (mut at, table) = (first, &table);
            move || {
                let piece = (at <= cuts.len()).then(|| read_piece(table, cuts, at));
                at += 2;
                piece.transpose()
            }
        });
        in_turns(readers, true, take)?;
    }
    if let Some((_, counted)) = marking.counts.last_mut() {
        *counted = count;
    }
    Ok(())
}

/// All records from one cut on and before the next.
fn read_piece<K: redb::Key + Sync + 'static, V: redb::Value + Sync + 'static>(
    table: &ReadOnlyTable<K, V>,
    cuts: &[Vec<u8>],
    at: usize,
) -> Result<Chunk, Error> {
    let cut = |at: Option<usize>| at.and_then(|at| cuts.get(at)).map(|cut| K::from_bytes(cut));
    let from = cut(at.checked_sub(1)).map_or(Bound::Unbounded, Bound::Included);
    let to = cut(Some(at)).map_or(Bound::Unbounded, Bound::Excluded);
    let mut chunk = Chunk::default();
    for entry in ReadableTable::range::<K::SelfType<'_>>(table, (from, to)).or_store()? {
        let (key, value) = entry.or_store()?;
        let (key, value) = (key.value(), value.value());
        chunk.add(K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref());
    }
    Ok(chunk)
}

fn differs(expected: &[(String, u64)], found: &[(String, u64)]) -> Option<String> {
    expected.iter().find_map(|(name, count)| {
        let of_name = found.iter().find(|(found, _)| found == name);
        let found = of_name.map_or(0, |(_, count)| *count);
        (found != *count).then(|| format!("table {name} holds {found} of {count} records"))
    })
}

/// The mark of a store that is a copy to which nothing was done yet.
pub(super) fn read(
    meta: &ReadOnlyTable<&'static str, Bytes>,
    ring: &Keyring,
    state: &State,
) -> Result<Option<Mark>, Error> {
    let Some(mark) = ReadableTable::get(meta, META_COPY).or_store()? else {
        return Ok(None);
    };
    let mark: Mark = unseal(ring, Tagged::Copy, META_COPY.as_bytes(), mark.value())?;
    Ok((mark.commits == state.commits).then_some(mark))
}

/// Compares the number of records of each table with what the mark says. Each table
/// knows how many it has.
pub(super) fn require_counts(
    txn: &ReadTransaction,
    meta: &ReadOnlyTable<&'static str, Bytes>,
    ring: &Keyring,
    state: &State,
) -> Result<(), Error> {
    let Some(mark) = read(meta, ring, state)? else {
        return Ok(());
    };
    let mut found = Vec::new();
    each_table!(|table| {
        // A table that a later version added is not in the mark, nor may it be there.
        if let Ok(opened) = txn.open_table(table) {
            let name = redb::TableHandle::name(&table).to_owned();
            found.push((name, opened.len().or_store()?));
        }
    });
    for name in extension::names(txn)? {
        let table = txn.open_table(extension::definition(&name)).or_store()?;
        let count = table.len().or_store()?;
        found.push((name, count));
    }
    match differs(&mark.counts, &found) {
        Some(why) => Err(Error::corrupted("gatekey", META_COPY, not_whole(&why))),
        None => Ok(()),
    }
}

pub(super) fn not_whole(why: &str) -> String {
    format!("the backup is not whole: {why}")
}
