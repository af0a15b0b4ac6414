//! Copying a snapshot to another file, while the engine is in use.
//!
//! The copy is written, read back from the file and compared, and only then gets its
//! name.

use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Corruption, Error, StoreFailure};
use crate::store::access::Access;
use crate::store::aside::Aside;
use crate::store::damage::Damage;
use crate::store::extension;
use crate::store::failure::{OrStore, failure, guarded};
use crate::store::ground::Ground;
use crate::store::leftovers::BACKUP;
use crate::store::mark::{Cuts, Mark, Marking, UNFINISHED};
use crate::store::pipe::{PER_CHUNK, in_turns, next_chunk};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{self, META, META_COPY, State, Tagged, each_table};

/// After how many records progress is reported.
const PER_REPORT: u64 = 4096;

/// The result of a backup: see [`Engine::backup`](crate::Engine::backup).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Backup {
    /// The newest committed instant in it.
    pub at: Timestamp,
    /// The position of its last audit entry; 0 for none.
    pub audit_seq: u64,
    /// How many records it has, of every kind.
    pub records: u64,
    /// The length of its file, in bytes.
    pub file_bytes: u64,
    /// The damaged records that it has, as the store has them: the first hundred. They
    /// grant nothing. [`Engine::repair`](crate::Engine::repair) removes or rebuilds
    /// them, in the store or in the copy; [`Engine::check`](crate::Engine::check) also
    /// finds records that can be read but are inconsistent.
    pub damaged: Vec<Corruption>,
    /// How many damaged records there are in all.
    pub damaged_total: u64,
}

/// The progress of a backup or a compaction: see
/// [`Engine::backup_with`](crate::Engine::backup_with) and
/// [`Engine::compact_with`](crate::Engine::compact_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupProgress {
    /// How many records were copied; in the second phase, how many were read back.
    pub records: u64,
    /// How many records each phase processes.
    pub records_total: u64,
    /// Whether the copy is written and is being read back: the second phase.
    pub is_verifying: bool,
}

/// Gets the progress; `Break` stops the backup.
pub(crate) type OnProgress<'a> = &'a mut dyn FnMut(BackupProgress) -> ControlFlow<()>;

/// Copies a snapshot to a new file, which has another name until it is complete and
/// durable.
pub(crate) fn backup(
    snapshot: Arc<Snapshot>,
    target: &Path,
    cache_bytes: usize,
    on_progress: OnProgress<'_>,
) -> Result<Backup, Error> {
    let aside = Aside::begin("backup", target, BACKUP, Conflict::BackupUnderWay)?;
    let made = guarded(|| copy_and_compare(snapshot, &aside, target, cache_bytes, on_progress))?;
    aside.finish()?;
    Ok(made)
}

fn copy_and_compare(
    snapshot: Arc<Snapshot>,
    aside: &Aside,
    target: &Path,
    cache_bytes: usize,
    on_progress: OnProgress<'_>,
) -> Result<Backup, Error> {
    let state = snapshot.state()?;
    let mut meter = Meter::new(on_progress);
    let mut damage = Damage::new(snapshot.ring(), &state);
    let file = aside.file()?;
    let copied = copy(
        &snapshot,
        &state,
        file,
        cache_bytes,
        &mut meter,
        &mut damage,
    )?;
    let (damaged, damaged_total) = damage.finish();
    // From here on, the store's file may reuse the pages of the snapshot.
    drop(snapshot);
    meter.begin(true)?;
    let file = aside.file()?;
    compare(&copied, &state, file, target, cache_bytes, &mut meter)?;
    let (mark, _) = copied;
    Ok(Backup {
        at: state.clock,
        audit_seq: state.audit_seq,
        records: mark.records(),
        file_bytes: aside.len()?,
        damaged,
        damaged_total,
    })
}

/// Copies everything in one transaction: each page is written once, and a crash leaves
/// no store. Returns what was to be copied, and where it can be cut to be read back.
fn copy(
    snapshot: &Snapshot,
    state: &State,
    file: File,
    cache_bytes: usize,
    meter: &mut Meter<'_>,
    damage: &mut Damage<'_>,
) -> Result<(Mark, Cuts), Error> {
    let db = FileBackend::new(file)
        .and_then(|backend| {
            Database::builder()
                .set_cache_size(cache_bytes)
                .create_with_backend(backend)
        })
        .map_err(|error| Error::Store(failure(error)))?;
    let copied = copy_into(&db, snapshot, state, meter, Some(damage))?;
    db.close().or_store()?;
    Ok(copied)
}

/// Copies everything into an empty database, in one transaction.
pub(super) fn copy_into(
    db: &Database,
    snapshot: &Snapshot,
    state: &State,
    meter: &mut Meter<'_>,
    mut damage: Option<&mut Damage<'_>>,
) -> Result<(Mark, Cuts), Error> {
    // Of a database without a table, an opening would make a store.
    let begun = db.begin_write().or_store()?;
    begun
        .open_table(META)
        .or_store()?
        .insert(META_COPY, UNFINISHED)
        .or_store()?;
    begun.commit().or_store()?;

    each_table!(|table| meter.total += snapshot.table(table)?.len().or_store()?);
    let extensions = extension::names(snapshot.txn())?;
    for name in &extensions {
        let table = snapshot.table(extension::definition(name))?;
        meter.total += table.len().or_store()?;
    }
    meter.begin(false)?;
    let txn = db.begin_write().or_store()?;
    let mut marking = Marking::new(state);
    let mut cuts = Cuts::default();
    each_table!(|table| {
        let damage = damage.as_deref_mut();
        let (marking, cuts) = (&mut marking, &mut cuts);
        copy_table(snapshot, &txn, table, marking, cuts, meter, damage)?;
    });
    for name in &extensions {
        let table = extension::definition(name);
        let damage = damage.as_deref_mut();
        let (marking, cuts) = (&mut marking, &mut cuts);
        copy_table(snapshot, &txn, table, marking, cuts, meter, damage)?;
    }
    let mark = marking.finish();
    {
        let mut meta = txn.open_table(META).or_store()?;
        for entry in ReadableTable::iter(&snapshot.table(META)?).or_store()? {
            let (name, value) = entry.or_store()?;
            meta.insert(name.value(), value.value()).or_store()?;
            if let Some(damage) = &mut damage {
                damage.look("gatekey", name.value().as_bytes(), value.value());
            }
        }
        let bytes = tables::seal(snapshot.ring(), Tagged::Copy, META_COPY.as_bytes(), &mark)?;
        meta.insert(META_COPY, bytes.as_slice()).or_store()?;
    }
    txn.commit().or_store()?;
    Ok((mark, cuts))
}

fn copy_table<K: redb::Key + Send + 'static, V: redb::Value + Send + 'static>(
    snapshot: &Snapshot,
    txn: &redb::WriteTransaction,
    definition: TableDefinition<'_, K, V>,
    marking: &mut Marking,
    cuts: &mut Cuts,
    meter: &mut Meter<'_>,
    mut damage: Option<&mut Damage<'_>>,
) -> Result<(), Error> {
    let from = snapshot.table(definition)?;
    // The count that the table keeps, not one made here: the two are compared.
    let count = from.len().or_store()?;
    let name = redb::TableHandle::name(&definition).to_owned();
    marking.table(&name, count);
    let mut to = txn.open_table(definition).or_store()?;
    // Rows that come in order are written a page at a time, without a search for each.
    let end = Bound::Unbounded::<K::SelfType<'_>>;
    let mut to = to.upper_bound_mut(end).or_store()?;

    let mut rows = ReadableTable::iter(&from).or_store()?;
    let read = || {
        next_chunk(&mut rows, |key, value| {
            if let Some(damage) = &mut damage {
                damage.look(&name, key, value);
            }
        })
    };
    let mut firsts = Vec::new();
    in_turns([read], count > PER_CHUNK, |chunk| {
        marking.records(&chunk);
        if let Some((first, _)) = chunk.iter().next() {
            firsts.push(first.to_vec());
        }
        for (key, value) in chunk.iter() {
            to.insert_before(K::from_bytes(key), V::from_bytes(value))
                .or_store()?;
        }
        meter.add(chunk.records)
    })?;
    // No piece ends before the first.
    cuts.0.insert(name, firsts.split_off(1.min(firsts.len())));
    to.close().or_store()
}

/// Reads a copy back from its file, and compares it with what was to be copied.
fn compare(
    (mark, cuts): &(Mark, Cuts),
    state: &State,
    file: File,
    target: &Path,
    cache_bytes: usize,
    meter: &mut Meter<'_>,
) -> Result<(), Error> {
    let file = FileBackend::new(file).map_err(|error| Error::Store(failure(error)))?;
    let found = read_back(
        &Arc::new(Ground::new(file)),
        state,
        cuts,
        cache_bytes,
        meter,
    )?;
    match mark.difference(&found) {
        None => Ok(()),
        Some(why) => {
            let target = target.display();
            let text = format!("the backup to {target}: as it was read back, {why}");
            Err(Error::Store(StoreFailure::new(text, None)))
        }
    }
}

/// Reads the mark of the store on a ground that is no longer written to.
pub(super) fn read_back(
    ground: &Arc<Ground>,
    state: &State,
    cuts: &Cuts,
    cache_bytes: usize,
    meter: &mut Meter<'_>,
) -> Result<Mark, Error> {
    // It was closed: a database that only reads has no lock around each page.
    let db = Database::builder()
        .set_cache_size(cache_bytes)
        .open_read_only_with_backend(Access::view(ground.clone()))
        .map_err(|error| Error::Store(failure(error)))?;
    let found = {
        let txn = db.begin_read().or_store()?;
        Mark::of(&txn, state, cuts, |records| meter.add(records))?
    };
    db.close().or_store()?;
    Ok(found)
}

/// Counts records and reports progress.
pub(super) struct Meter<'a> {
    records: u64,
    total: u64,
    is_verifying: bool,
    on_progress: OnProgress<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(on_progress: OnProgress<'a>) -> Self {
        Self {
            records: 0,
            total: 0,
            is_verifying: false,
            on_progress,
        }
    }

    /// Tells of every few thousand records, and of the last.
    fn add(&mut self, records: u64) -> Result<(), Error> {
        let end = self.records + records;
        while self.records < end {
            let next = (self.records / PER_REPORT + 1) * PER_REPORT;
            self.records = next.min(end);
            if self.records == next || self.records == self.total {
                self.tell()?;
            }
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, is_verifying: bool) -> Result<(), Error> {
        (self.records, self.is_verifying) = (0, is_verifying);
        self.tell()
    }

    fn tell(&mut self) -> Result<(), Error> {
        let told = (self.on_progress)(BackupProgress {
            records: self.records,
            records_total: self.total,
            is_verifying: self.is_verifying,
        });
        match told {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Conflict::BackupStopped.into()),
        }
    }
}
