//! The file: the only place that names redb.
//!
//! [`open`] finds or makes the file of a store ([`overlay`] lets it look without a touch,
//! [`file`] keeps a file and its name together), [`identity`] says who it is and opens
//! its key, [`tx`] is a write transaction, [`snapshot`] a consistent view for readers,
//! [`queue`] lets writers that wait together share a commit, [`check`] walks everything,
//! [`backup`] copies it, and [`mark`] says whether a copy is whole.

pub(crate) mod backup;
pub(crate) mod check;
mod file;
pub(crate) mod identity;
mod mark;
#[cfg(feature = "proof")]
pub(crate) mod medium;
pub(crate) mod open;
mod overlay;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod snapshot;
pub(crate) mod tables;
pub(crate) mod trail;
pub(crate) mod tx;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::clock::Timestamp;
use crate::digest::Keyring;
use crate::error::{Error, StoreFailure};
use crate::options::Options;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use file::NamedFile;
use snapshot::Snapshot;
use tables::{Bytes, META_STATE, State, Tagged};
use tx::{Touched, Tx};

/// Turns redb's errors into the crate's own, so that none of them is public.
pub(crate) trait OrStore<T> {
    fn or_store(self) -> Result<T, Error>;
}

impl<T, E: Into<redb::Error>> OrStore<T> for Result<T, E> {
    fn or_store(self) -> Result<T, Error> {
        self.map_err(|error| match error.into() {
            redb::Error::Corrupted(why) => Error::corrupted("file", "-", why),
            redb::Error::DatabaseClosed => Error::Closed,
            redb::Error::PreviousIo => Error::NeedsReopen,
            other => Error::Store(failure(other)),
        })
    }
}

/// Runs what reads the file. redb does not verify checksums as it reads, and
/// may panic on a page that was damaged from outside: that is an error too.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What is read is behind shared references, and redb's own locks hold a
    // cache: nothing half-changed is left behind.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::corrupted(
            "file",
            "-",
            "the storage engine gave up on a page of it",
        ))
    })
}

pub(crate) fn failure(error: impl Into<redb::Error>) -> StoreFailure {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(io) => Some(io.kind()),
        _ => None,
    };
    StoreFailure::new(error.to_string(), kind)
}

pub(crate) fn read_state(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
) -> Result<State, Error> {
    match meta.get(META_STATE).or_store()? {
        Some(bytes) => tables::unseal(ring, Tagged::State, META_STATE.as_bytes(), bytes.value()),
        None => Err(Error::corrupted("gatekey", META_STATE, "it is missing")),
    }
}

/// What a batch of mutations came to.
pub(crate) enum Outcome {
    /// Nothing was written.
    Unchanged,
    /// Committed, durable and published.
    Committed,
    /// Nothing was committed: what failed did so before the commit.
    Failed(Error),
    /// The commit itself failed; it may or may not be durable.
    Unknown(StoreFailure),
    /// Committed and durable, but not published: no snapshot of it can be had.
    Unreadable,
}

/// Whether a batch is to be run again from the start, in a new transaction.
pub(crate) enum Progress {
    Done,
    Again,
}

/// What a store's bytes are on.
pub(crate) enum Place<'a> {
    Memory,
    File(&'a Path),
    /// For the project's own proofs.
    #[cfg(feature = "proof")]
    Medium(Box<dyn medium::Medium>),
}

impl<'a> Place<'a> {
    /// The file, where it is one.
    pub(crate) fn path(&self) -> Option<&'a Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

/// An open store.
pub(crate) struct Store {
    /// `None` once it is closed.
    db: Mutex<Option<Database>>,
    file: Option<NamedFile>,
    ring: Arc<Keyring>,
    /// Set while a transaction runs, and left set where its commit failed or
    /// panicked: nothing more is written until the store is opened again.
    broken: AtomicBool,
}

impl Store {
    /// Opens or creates the store at a place.
    pub(crate) fn open(options: &Options, place: Place<'_>) -> Result<Self, Error> {
        let opened = open::open(options, place)?;
        Ok(Self {
            db: Mutex::new(Some(opened.db)),
            file: opened.file,
            ring: Arc::new(opened.ring),
            broken: AtomicBool::new(false),
        })
    }

    pub(crate) fn ring(&self) -> &Arc<Keyring> {
        &self.ring
    }

    /// The length of the file; 0 where there is none.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, NamedFile::len)
    }

    fn db(&self) -> MutexGuard<'_, Option<Database>> {
        // What a panic leaves behind under this lock, `broken` tells.
        lock(&self.db)
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        match &*self.db() {
            Some(db) => snapshot(db, &self.ring),
            None => Err(Error::Closed),
        }
    }

    /// Runs mutations in one durable transaction, and publishes what it came to
    /// before another can begin or the store can close. `run` is called again,
    /// in a new transaction, while it asks for that.
    pub(crate) fn write(
        &self,
        now: Timestamp,
        run: impl FnMut(&mut Tx<'_>) -> Progress,
        publish: impl FnOnce(Touched, Arc<Snapshot>) -> Result<(), Error>,
    ) -> Outcome {
        let db = self.db();
        let Some(db) = &*db else {
            return Outcome::Failed(Error::Closed);
        };
        if self.broken.swap(true, Ordering::AcqRel) {
            return Outcome::Failed(Error::NeedsReopen);
        }
        let outcome = write(db, self.file.as_ref(), &self.ring, now, run, publish);
        if !matches!(outcome, Outcome::Unknown(_) | Outcome::Unreadable) {
            self.broken.store(false, Ordering::Release);
        }
        outcome
    }

    /// Closes the file, after `before`, which runs while nobody writes. What
    /// still reads from an old snapshot fails.
    pub(crate) fn close(&self, before: impl FnOnce()) -> Result<(), Error> {
        let mut db = self.db();
        before();
        match db.take() {
            Some(db) => guarded(|| db.close().or_store()),
            None => Ok(()),
        }
    }
}

/// redb reads and writes as it closes, and closes what is dropped.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.close(|| {});
    }
}

fn write(
    db: &Database,
    file: Option<&NamedFile>,
    ring: &Arc<Keyring>,
    now: Timestamp,
    mut run: impl FnMut(&mut Tx<'_>) -> Progress,
    publish: impl FnOnce(Touched, Arc<Snapshot>) -> Result<(), Error>,
) -> Outcome {
    loop {
        let mut txn = match db.begin_write().or_store() {
            Ok(txn) => txn,
            Err(error) => return Outcome::Failed(error),
        };
        // Immediate durability is the default. Two phases: whoever can crash
        // the process while it commits cannot choose what is recovered.
        txn.set_two_phase_commit(true);
        let touched = {
            let mut tx = match Tx::open(&txn, ring, now) {
                Ok(tx) => tx,
                Err(error) => return Outcome::Failed(error),
            };
            match run(&mut tx) {
                Progress::Again => continue,
                Progress::Done => match tx.finish() {
                    Ok(touched) => touched,
                    Err(error) => return Outcome::Failed(error),
                },
            }
        };
        let Some(touched) = touched else {
            return Outcome::Unchanged;
        };
        return match txn.commit() {
            // Poisoned by a failure before the commit: rolled back.
            Err(error @ redb::CommitError::TransactionPoisoned) => {
                Outcome::Failed(Error::Store(failure(error)))
            }
            Err(error) => Outcome::Unknown(failure(error)),
            Ok(()) if file.is_some_and(NamedFile::is_lost) => Outcome::Unknown(StoreFailure::new(
                "its file was removed or replaced while it was open, and with it goes this change",
                Some(std::io::ErrorKind::NotFound),
            )),
            Ok(()) => {
                let snapshot = snapshot(db, ring);
                match snapshot.and_then(|snapshot| publish(touched, Arc::new(snapshot))) {
                    Ok(()) => Outcome::Committed,
                    Err(_) => Outcome::Unreadable,
                }
            }
        };
    }
}

fn snapshot(db: &Database, ring: &Arc<Keyring>) -> Result<Snapshot, Error> {
    Snapshot::new(db.begin_read().or_store()?, ring.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_kind_of_the_error_below() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let failed: Result<(), _> = Err(redb::StorageError::Io(full()));
        let failure = failure(redb::StorageError::Io(full()));
        assert_eq!(failure.io_kind(), Some(std::io::ErrorKind::StorageFull));
        assert!(matches!(
            failed.or_store(),
            Err(Error::Store(failure)) if failure.io_kind() == Some(std::io::ErrorKind::StorageFull)
        ));
    }

    #[test]
    fn a_place_says_its_path_where_it_is_a_file() {
        let path = Path::new("keys.redb");
        assert_eq!(Place::File(path).path(), Some(path));
        assert_eq!(Place::Memory.path(), None);
    }

    /// A disk whose every call panics from some moment on.
    #[cfg(feature = "proof")]
    #[derive(Debug, Clone, Default)]
    struct Panicking {
        bytes: Arc<Mutex<Vec<u8>>>,
        panics: Arc<AtomicBool>,
    }

    #[cfg(feature = "proof")]
    impl Panicking {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            assert!(!self.panics.load(Ordering::SeqCst), "a fault");
            lock(&self.bytes)
        }
    }

    #[cfg(feature = "proof")]
    impl medium::Medium for Panicking {
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.bytes().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            out.copy_from_slice(&self.bytes()[at..at + out.len()]);
            Ok(())
        }

        fn set_size(&self, size: u64) -> std::io::Result<()> {
            self.bytes().resize(usize::try_from(size).unwrap(), 0);
            Ok(())
        }

        fn sync(&self) -> std::io::Result<()> {
            drop(self.bytes());
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            self.bytes()[at..at + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    #[cfg(feature = "proof")]
    #[test]
    fn a_panic_as_a_dropped_store_is_closed_goes_no_further() {
        let disk = Panicking::default();
        let place = Place::Medium(Box::new(disk.clone()));
        let store = Store::open(&Options::new(), place).unwrap();
        disk.panics.store(true, Ordering::SeqCst);
        drop(store);
    }
}
