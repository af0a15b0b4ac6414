//! Copying a snapshot to another file, while the store serves.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableTable, TableDefinition};

use super::file::{
    Directory, create_private, directory_of, leads_to, name_with, remove_own, rename_to_new,
};
use super::snapshot::Snapshot;
use super::tables::{META, each_table};
use super::{OrStore, failure, guarded};
use crate::error::{Error, Refusal, StoreFailure};

/// How many records one transaction copies.
const PER_TRANSACTION: usize = 20_000;

/// Copies a snapshot to a file that does not exist yet. It is written under
/// another name, and gets its own once it is whole and durable.
pub(crate) fn backup(snapshot: &Snapshot, target: &Path, cache_bytes: usize) -> Result<(), Error> {
    let failed = |error: io::Error| {
        let text = format!("the backup to {}: {error}", target.display());
        Error::Store(StoreFailure::new(text, Some(error.kind())))
    };
    let exists = || Error::from(Refusal::TargetExists(target.to_owned()));
    // A link is a name as well, also one that leads to nothing.
    match target.symlink_metadata() {
        Ok(_) => return Err(exists()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let directory = Directory::open(&directory_of(target)).map_err(failed)?;
    let partial = name_with(target, ".backup");
    // Whoever makes this file is the one who may remove it.
    let file = match create_private(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Refusal::BackupUnderWay(partial).into());
        }
        file => file.map_err(failed)?,
    };
    let done = file
        .try_clone()
        .map_err(failed)
        .and_then(|file| guarded(|| copy(snapshot, file, cache_bytes)))
        .and_then(|()| match rename_to_new(&partial, &file, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
            // Its name was another's in the moment between.
            Ok(()) if !leads_to(target, &file).map_err(failed)? => {
                Err(failed(io::ErrorKind::NotFound.into()))
            }
            renamed => renamed.map_err(failed),
        })
        .and_then(|()| directory.sync().map_err(failed));
    if done.is_err() {
        let _ = remove_own(&partial, &file);
        let _ = remove_own(target, &file);
    }
    done
}

fn copy(snapshot: &Snapshot, file: File, cache_bytes: usize) -> Result<(), Error> {
    let db = FileBackend::new(file)
        .and_then(|backend| {
            Database::builder()
                .set_cache_size(cache_bytes)
                .create_with_backend(backend)
        })
        .map_err(|error| Error::Store(failure(error)))?;
    each_table!(|table| copy_table(snapshot, &db, table)?);
    copy_table(snapshot, &db, META)?;
    db.close().or_store()
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    snapshot: &Snapshot,
    db: &Database,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), Error> {
    let from = snapshot.table(definition)?;
    let mut entries = ReadableTable::iter(&from).or_store()?.peekable();
    loop {
        // The first transaction makes the table, even an empty one.
        let txn = db.begin_write().or_store()?;
        {
            let mut to = txn.open_table(definition).or_store()?;
            for entry in entries.by_ref().take(PER_TRANSACTION) {
                let (key, value) = entry.or_store()?;
                to.insert(key.value(), value.value()).or_store()?;
            }
        }
        txn.commit().or_store()?;
        if entries.peek().is_none() {
            return Ok(());
        }
    }
}
