//! Rewriting a store into another file, which then replaces the first.
//!
//! The store is rewritten after a failed sync, since data that reads back correctly
//! need not be on the disk then, and to make the file smaller.

use std::fs::File;
use std::io;
use std::sync::Arc;

use redb::backends::FileBackend;

use crate::model::error::{Error, StoreFailure};
use crate::store::access::Access;
use crate::store::backup::{Meter, OnProgress, copy_into, read_back};
use crate::store::base::Base;
use crate::store::base::reopen;
use crate::store::failure::io_failure;
use crate::store::failure::{OrStore, guarded};
use crate::store::file::{NamedFile, leads_to, name_with};
use crate::store::ground::Ground;
use crate::store::home::{Home, SUFFIX};
use crate::store::leftovers::clear_copy;
use crate::store::partial::Partial;
use crate::store::snapshot::Snapshot;

/// A rewritten store, which has replaced the old one.
pub(super) struct Rewritten {
    pub(super) base: Base,
    pub(super) home: Home,
    /// Why it may be that after a loss of power the one before is found again.
    pub(super) is_not_durable: Option<StoreFailure>,
}

/// Writes a snapshot to a new file beside the store's, checks it, and renames it over
/// the old one. A failure before that leaves the store as it is.
pub(super) fn rewrite(
    home: &Home,
    snapshot: &Snapshot,
    cache_bytes: usize,
    on_progress: OnProgress<'_>,
) -> Result<Rewritten, Error> {
    match home {
        Home::Memory => {
            let ground = Ground::new(redb::backends::InMemoryBackend::new());
            Ok(Rewritten {
                base: write(ground, snapshot, cache_bytes, on_progress)?,
                home: Home::Memory,
                is_not_durable: None,
            })
        }
        Home::File(named) => rewrite_file(named, snapshot, cache_bytes, on_progress),
        #[cfg(feature = "proof")]
        Home::Medium(medium) => {
            let failed = |error: io::Error| Error::Store(io_failure(&error));
            let copy = medium.begin_copy().map_err(failed)?;
            let ground = Ground::new(super::medium::Backend(copy.clone()));
            let base = write(ground, snapshot, cache_bytes, on_progress)?;
            medium.take_place().map_err(failed)?;
            let durable = medium.sync_place();
            Ok(Rewritten {
                base,
                home: Home::Medium(copy),
                is_not_durable: durable.err().map(|error| io_failure(&error)),
            })
        }
    }
}

fn rewrite_file(
    named: &NamedFile,
    snapshot: &Snapshot,
    cache_bytes: usize,
    on_progress: OnProgress<'_>,
) -> Result<Rewritten, Error> {
    let partial = begin(named).map_err(|error| failed(&error))?;
    let ground = partial
        .file()
        .try_clone()
        .and_then(|file| FileBackend::new(file).map_err(io::Error::other))
        .map_err(|error| failed(&error))?;
    let base = write(Ground::new(ground), snapshot, cache_bytes, on_progress)?;
    take_place(partial, named, base)
}

fn failed(error: &io::Error) -> Error {
    let text = format!("writing the store anew: {error}");
    Error::Store(StoreFailure::new(text, Some(error.kind())))
}

/// Begins a file that is to take a store's place.
fn begin(named: &NamedFile) -> io::Result<Partial> {
    // The store's own name, behind all links.
    let end = std::fs::canonicalize(named.path())?;
    if !leads_to(&end, named.file())? {
        return Err(not_its_name());
    }
    let path = name_with(&end, SUFFIX);
    let partial = match Partial::create(end.clone(), path.clone()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            clear_copy(&path)?;
            Partial::create(end, path)?
        }
        partial => partial?,
    };
    take_after(partial.file(), named.file())?;
    Ok(partial)
}

/// Gives a file the owner of another, where that may be done, and its permissions.
fn take_after(file: &File, other: &File) -> io::Result<()> {
    let metadata = other.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let own = file.metadata()?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        if (own.uid(), own.gid()) != (uid, gid) {
            // Whoever may not give files away keeps the group at the least.
            let _ = fchown(file, Some(uid), Some(gid)).or_else(|_| fchown(file, None, Some(gid)));
        }
    }
    file.set_permissions(metadata.permissions())
}

/// Gives the new file the name of the store. It is locked already, so that whoever
/// opens it by that name finds it in use.
fn take_place(mut partial: Partial, named: &NamedFile, base: Base) -> Result<Rewritten, Error> {
    let failed = |error| failed(&error);
    partial.file().sync_all().map_err(failed)?;
    if !partial.take_place_of(named.file()).map_err(failed)? {
        return Err(failed(not_its_name()));
    }
    let durable = partial.sync_directory();
    let file = partial.file().try_clone().map_err(failed)?;
    match NamedFile::new(file, named.path()).map_err(failed)? {
        Some(home) => Ok(Rewritten {
            base,
            home: Home::File(Arc::new(home)),
            is_not_durable: durable.err().map(|error| io_failure(&error)),
        }),
        // Somebody has replaced it at once.
        None => Err(failed(not_its_name())),
    }
}

fn not_its_name() -> io::Error {
    let why = "the store's name does not lead to its file any more";
    io::Error::new(io::ErrorKind::NotFound, why)
}

/// Writes a snapshot to an empty ground, reads it back from there and compares.
fn write(
    ground: Ground,
    snapshot: &Snapshot,
    cache_bytes: usize,
    on_progress: OnProgress<'_>,
) -> Result<Base, Error> {
    let ground = Arc::new(ground);
    let mut meter = Meter::new(on_progress);
    let state = snapshot.state()?;
    guarded(|| {
        let access = Access::direct(ground.clone());
        let db = redb::Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(access)
            .or_store()?;
        let (mark, cuts) = copy_into(&db, snapshot, &state, &mut meter, None)?;
        db.close().or_store()?;
        meter.begin(true)?;
        let found = read_back(&ground, &state, &cuts, cache_bytes, &mut meter)?;
        match mark.difference(&found) {
            None => reopen(&ground, cache_bytes),
            Some(why) => {
                let text = format!("writing the store anew: as it was read back, {why}");
                Err(Error::Store(StoreFailure::new(text, None)))
            }
        }
    })
}
