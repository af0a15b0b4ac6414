//! Writing a store anew: into another file, which then takes the place of the first.
//!
//! It is done where a sync failed, since what reads back well then need not be on the
//! disk, and to make a file smaller.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use redb::backends::FileBackend;

use crate::model::error::{Error, StoreFailure};
use crate::store::access::Access;
use crate::store::backup::{Meter, OnProgress, copy_into, read_back};
use crate::store::base::Base;
use crate::store::base::reopen;
use crate::store::failure::io_failure;
use crate::store::failure::{OrStore, guarded};
use crate::store::file::{
    Directory, NamedFile, create_private, directory_of, leads_to, name_with, remove_own, take_place,
};
use crate::store::ground::Ground;
use crate::store::home::{Home, SUFFIX};
use crate::store::open::clear_copy;
use crate::store::snapshot::Snapshot;

/// A store that has been written anew, and has taken the place of the one before.
pub(super) struct Rewritten {
    pub(super) base: Base,
    pub(super) home: Home,
    /// Why it may be that after a loss of power the one before is found again.
    pub(super) is_not_durable: Option<StoreFailure>,
}

/// Writes a snapshot to a new file beside a store's, checks it, and lets it take the
/// store's place. Until then, what fails leaves the store as it is.
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
    let begun = Begun::new(named).map_err(|error| failed(&error))?;
    let written = begun
        .file
        .try_clone()
        .and_then(|file| {
            let file = FileBackend::new(file).map_err(io::Error::other)?;
            Ok(Ground::new(file))
        })
        .map_err(|error| failed(&error))
        .and_then(|ground| write(ground, snapshot, cache_bytes, on_progress));
    let base = match written {
        Ok(base) => base,
        Err(error) => {
            let _ = remove_own(&begun.partial, &begun.file);
            return Err(error);
        }
    };
    begun.take_place(named, base)
}

fn failed(error: &io::Error) -> Error {
    let text = format!("writing the store anew: {error}");
    Error::Store(StoreFailure::new(text, Some(error.kind())))
}

/// A file that is to take a store's place.
struct Begun {
    directory: Directory,
    file: File,
    partial: PathBuf,
    /// The store's own name, behind all links.
    end: PathBuf,
}

impl Begun {
    fn new(named: &NamedFile) -> io::Result<Self> {
        let end = std::fs::canonicalize(named.path())?;
        if !leads_to(&end, named.file())? {
            return Err(not_its_name());
        }
        let directory = Directory::open(&directory_of(&end))?;
        let partial = name_with(&end, SUFFIX);
        let file = match create_private(&partial) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                clear_copy(&partial)?;
                create_private(&partial)?
            }
            file => file?,
        };
        let begun = Self {
            directory,
            file,
            partial,
            end,
        };
        match begun.take_after(named.file()) {
            Ok(()) => Ok(begun),
            Err(error) => {
                let _ = remove_own(&begun.partial, &begun.file);
                Err(error)
            }
        }
    }

    /// Gives it the owner, where that may be done, and the permissions of a file.
    fn take_after(&self, other: &File) -> io::Result<()> {
        let metadata = other.metadata()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, fchown};
            let own = self.file.metadata()?;
            let (uid, gid) = (metadata.uid(), metadata.gid());
            if (own.uid(), own.gid()) != (uid, gid) {
                // Whoever may not give files away keeps the group at the least.
                let _ = fchown(&self.file, Some(uid), Some(gid))
                    .or_else(|_| fchown(&self.file, None, Some(gid)));
            }
        }
        self.file.set_permissions(metadata.permissions())
    }

    /// Gives the new file the name of the store. It is locked already, so that whoever
    /// opens it by that name finds it in use.
    fn take_place(self, named: &NamedFile, base: Base) -> Result<Rewritten, Error> {
        let taken = self
            .file
            .sync_all()
            .and_then(|()| take_place(&self.partial, &self.file, named.file(), &self.end));
        match taken {
            Ok(true) => {}
            Ok(false) => {
                let _ = remove_own(&self.partial, &self.file);
                return Err(failed(&not_its_name()));
            }
            Err(error) => {
                let _ = remove_own(&self.partial, &self.file);
                return Err(failed(&error));
            }
        }
        let durable = self.directory.sync();
        let home = NamedFile::new(self.file, named.path());
        match home {
            Ok(Some(home)) => Ok(Rewritten {
                base,
                home: Home::File(Arc::new(home)),
                is_not_durable: durable.err().map(|error| io_failure(&error)),
            }),
            // Somebody has replaced it at once.
            Ok(None) => Err(failed(&not_its_name())),
            Err(error) => Err(failed(&error)),
        }
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
        let mark = copy_into(&db, snapshot, &state, &mut meter, None)?;
        db.close().or_store()?;
        meter.begin(true)?;
        let found = read_back(&ground, &state, cache_bytes, &mut meter)?;
        match mark.difference(&found) {
            None => reopen(&ground, cache_bytes),
            Some(why) => {
                let text = format!("writing the store anew: as it was read back, {why}");
                Err(Error::Store(StoreFailure::new(text, None)))
            }
        }
    })
}
