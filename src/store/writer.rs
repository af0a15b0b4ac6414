//! An open store: runs changes in transactions, one after the other, and publishes
//! their deltas.
//!
//! A commit is on the disk before it is published, but for what a server of a fleet applies:
//! the log has that, and it follows every [`SYNC_EVERY`].

pub(crate) mod fleet;
mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::WriteTransaction;

use crate::crypto::digest::Keyring;
use crate::model::error::{Error, OpenError, StoreFailure};
use crate::model::health::Alarm;
use crate::model::time::Present;
use crate::steps::reached;
use crate::store::base::Base;
use crate::store::delta::{Delta, Publish};
use crate::store::failure::{OrStore, failure, failure_of, guarded, guarded_any, panicked};
use crate::store::home::Home;
use crate::store::journal::Journal;
use crate::store::open;
use crate::store::place::Place;
use crate::store::queue::Progress;
use crate::store::settings::Settings;
use crate::store::snapshot::Snapshot;
use crate::store::tx::Tx;
use crate::sync::{Mutex, MutexGuard, lock};

/// How long commits that the log of a fleet has stay in memory.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// An open store.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    /// Where it is found; by itself, so that nobody waits for a commit who asks.
    home: Mutex<Home>,
    ring: Arc<Keyring>,
    alarm: Arc<Alarm>,
    cache_bytes: usize,
}

/// The state of a store that has failed.
#[derive(Default)]
struct Recovery {
    /// Whether it must recover before it takes a change: also where its file was not closed,
    /// and is only read so far.
    is_due: bool,
    /// The delta of a commit of which it is not known whether it is durable.
    pending: Option<Delta>,
    /// When the next attempt may begin.
    rests_until: Option<Instant>,
    last: Option<StoreFailure>,
}

/// The part of the store that one change at a time uses.
struct Inner {
    /// `None` once it is closed.
    base: Option<Arc<Base>>,
    /// What was published last, and how many commits it has.
    published: Option<Arc<Snapshot>>,
    commits: u64,
    /// How many of them are on the disk for certain, and since when others may not be.
    synced: u64,
    unsynced_since: Option<Instant>,
    recovery: Recovery,
}

impl Store {
    /// Opens or creates the store at a place.
    pub(crate) fn open(
        settings: &Settings,
        place: Place<'_>,
        alarm: Arc<Alarm>,
    ) -> Result<Self, Error> {
        let path = place.path();
        let opened = open::open(settings, place)?;
        let ring = Arc::new(opened.ring);
        let read = guarded(|| {
            let snapshot = Snapshot::new(&opened.base, &ring)?;
            let commits = snapshot.state()?.commits;
            Ok((snapshot, commits))
        });
        let (snapshot, commits) =
            read.map_err(|error| Error::open(path, OpenError::reading(error)))?;
        opened.base.access().absorb(&alarm);
        let recovery = Recovery {
            is_due: opened.base.is_view(),
            ..Recovery::default()
        };
        Ok(Self {
            inner: Mutex::new(Inner {
                base: Some(opened.base),
                published: Some(Arc::new(snapshot)),
                commits,
                synced: commits,
                unsynced_since: None,
                recovery,
            }),
            home: Mutex::new(opened.home),
            ring,
            alarm,
            cache_bytes: settings.cache_bytes,
        })
    }

    pub(crate) fn ring(&self) -> &Arc<Keyring> {
        &self.ring
    }

    pub(crate) fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// The length of the file; 0 where there is none.
    pub(crate) fn file_bytes(&self) -> u64 {
        match self.home() {
            Home::File(file) => file.len(),
            _ => 0,
        }
    }

    fn home(&self) -> Home {
        lock(&self.home).clone()
    }

    /// Whether its file has lost its name.
    fn is_lost(&self) -> bool {
        matches!(self.home(), Home::File(file) if file.is_lost())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic leaves behind under this lock, `Recovery` tells.
        lock(&self.inner)
    }

    /// The snapshot that was published last.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        self.inner().published.clone().ok_or(Error::Closed)
    }

    /// Begins to write: nobody else writes, and the store does not close, while the writer
    /// lives. A store that has failed recovers first.
    pub(crate) fn writer<'s>(&'s self, publish: &'s dyn Publish) -> Result<Writer<'s>, Error> {
        let mut inner = self.inner();
        self.recover_if_due(&mut inner, publish)?;
        let base = inner.base.clone().ok_or(Error::Closed)?;
        Ok(Writer {
            store: self,
            inner,
            base,
            publish,
        })
    }

    /// Finds out what became of a commit that failed. `Ok` where it is durable and
    /// published.
    fn resolve(
        &self,
        inner: &mut Inner,
        delta: Delta,
        failure: StoreFailure,
        publish: &dyn Publish,
    ) -> Result<(), Error> {
        inner.recovery.pending = Some(delta);
        inner.recovery.is_due = true;
        self.alarm.raise(&failure);
        match self.recover(inner, publish) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Store(failure)),
            Err(_) => Err(Error::OutcomeUnknown(failure)),
        }
    }

    /// Closes the file, after `before`, which runs while nobody writes. What
    /// still reads from an old snapshot fails.
    pub(crate) fn close(&self, before: impl FnOnce()) -> Result<(), Error> {
        let mut inner = self.inner();
        before();
        inner.published = None;
        match inner.base.take() {
            Some(base) => {
                // All commits are on the disk with it.
                let closed = base.close();
                base.access().ground().release();
                closed
            }
            None => Ok(()),
        }
    }
}

/// Whoever writes, from the beginning of a transaction to its publication.
pub(crate) struct Writer<'s> {
    store: &'s Store,
    inner: MutexGuard<'s, Inner>,
    base: Arc<Base>,
    publish: &'s dyn Publish,
}

/// A transaction that has written and is not committed: its delta is known, and nothing
/// of it is durable. Dropped, it leaves nothing.
pub(crate) struct Written {
    txn: WriteTransaction,
    delta: Delta,
    /// Whether its commit waits for the disk.
    is_synced: bool,
}

/// How a commit ended in the storage engine.
enum Ended {
    Made,
    NotMade(Error),
    InDoubt(StoreFailure),
}

/// What a commit that was made came to for those who verify.
pub(crate) enum Shown {
    Published,
    /// No snapshot of it can be had: what it took away cannot be seen to be gone.
    Unreadable,
}

impl Writer<'_> {
    /// Begins a transaction, runs in it, and finishes it: the first three steps of a
    /// change. Run again, in a new transaction, while `run` asks for that. `None`: nothing
    /// was written.
    pub(crate) fn run(
        &mut self,
        present: Present,
        run: &mut dyn FnMut(&mut Tx<'_>) -> Progress,
    ) -> Result<Option<Written>, Error> {
        let (base, ring) = (&self.base, &self.store.ring);
        let ran = guarded_any(|| {
            loop {
                let mut txn = base.with(|db| db.begin_write().or_store())?;
                // Immediate durability is the default. Two phases: whoever can crash
                // the process while it commits cannot choose what is recovered.
                txn.set_two_phase_commit(true);
                let journal = Journal::off();
                let mut tx = Tx::open(&txn, &journal, ring, present)?;
                if let Progress::Again = run(&mut tx) {
                    continue;
                }
                let delta = tx.finish()?;
                if let Some(fault) = base.access().fault() {
                    return Err(Error::Store(fault.failure.clone()));
                }
                return Ok(delta.map(|delta| Written {
                    txn,
                    delta,
                    is_synced: true,
                }));
            }
        });
        self.ended(ran)
    }

    /// Commits what was written, and lets it take effect: the last two steps of a change.
    /// Where it fails, finds out what became of it: an error says that it is not applied,
    /// or that this is not known.
    pub(crate) fn commit(&mut self, written: Written) -> Result<Shown, Error> {
        let Written {
            txn,
            delta,
            is_synced,
        } = written;
        reached("written");
        match self.end(txn) {
            Ended::Made => {}
            Ended::NotMade(error) => return Err(error),
            Ended::InDoubt(failure) => return self.resolve(delta, failure),
        }
        match is_synced {
            true => self.inner.note_synced(delta.commits),
            false => {
                let now = Instant::now();
                self.inner.unsynced_since.get_or_insert(now);
            }
        }
        reached("committed");
        let shown = self.show(delta);
        reached("shown");
        shown
    }

    /// Commits a transaction.
    fn end(&mut self, txn: WriteTransaction) -> Ended {
        let syncs = self.base.access().syncs();
        let committed = guarded_any(|| txn.commit());
        let fault = self.fault();
        self.inner.recovery.is_due = fault.is_some();
        let failed = match committed {
            // Poisoned by a failure before the commit: rolled back.
            Ok(Err(error @ redb::CommitError::TransactionPoisoned)) => {
                let why = fault.unwrap_or_else(|| failure(error));
                return Ended::NotMade(Error::Store(why));
            }
            Ok(Err(error)) => Some(failure(error)),
            Ok(Ok(())) => None,
            Err(()) => Some(panicked()),
        };
        if let Some(fault) = &fault
            && self.base.access().syncs() == syncs
        {
            // Of the two phases of a commit, the first ends with a sync. Of one that does not
            // wait for the disk, the recovery finds nothing.
            return Ended::NotMade(Error::Store(fault.clone()));
        }
        if failed.is_none() && self.store.is_lost() {
            let failure = lost();
            self.store.alarm.raise_lost(&failure);
            return Ended::InDoubt(failure);
        }
        fault.or(failed).map_or(Ended::Made, Ended::InDoubt)
    }

    /// Publishes a commit.
    fn show(&mut self, delta: Delta) -> Result<Shown, Error> {
        let (base, ring, publish) = (&self.base, &self.store.ring, self.publish);
        let inner = &mut *self.inner;
        let shown = guarded(|| {
            let snapshot = Snapshot::new(base, ring)?;
            inner.show(&delta, snapshot, publish)
        });
        match shown {
            Ok(()) => Ok(Shown::Published),
            Err(error) => match self.resolve(delta, failure_of(&error)) {
                Ok(shown) => Ok(shown),
                // It was not on the disk, and the file is as it was before.
                Err(error @ Error::Store(_)) => Err(error),
                Err(_) => Ok(Shown::Unreadable),
            },
        }
    }

    fn resolve(&mut self, delta: Delta, failure: StoreFailure) -> Result<Shown, Error> {
        let (store, publish) = (self.store, self.publish);
        let resolved = store.resolve(&mut self.inner, delta, failure, publish);
        resolved.map(|()| Shown::Published)
    }

    fn fault(&self) -> Option<StoreFailure> {
        let fault = self.base.access().fault();
        fault.map(|fault| fault.failure.clone())
    }
}

impl Inner {
    /// Publishes a snapshot.
    fn show(
        &mut self,
        delta: &Delta,
        snapshot: Snapshot,
        publish: &dyn Publish,
    ) -> Result<(), Error> {
        let snapshot = Arc::new(snapshot);
        publish.publish(delta, snapshot.clone())?;
        self.published = Some(snapshot);
        self.commits = delta.commits;
        Ok(())
    }

    /// Notes that all commits up to one are on the disk.
    fn note_synced(&mut self, commits: u64) {
        self.synced = commits;
        self.unsynced_since = None;
    }
}

/// redb reads and writes as it closes, and closes what is dropped.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.close(|| {});
    }
}

fn lost() -> StoreFailure {
    StoreFailure::new(
        "its file was removed or replaced while it was open, and with it goes this change",
        Some(std::io::ErrorKind::NotFound),
    )
}

#[cfg(test)]
#[cfg(feature = "proof")]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicBool, Ordering};

    /// A disk whose every call panics from some moment on.
    #[derive(Debug, Clone, Default)]
    struct Panicking {
        bytes: Arc<Mutex<Vec<u8>>>,
        panics: Arc<AtomicBool>,
    }

    impl Panicking {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            assert!(!self.panics.load(Ordering::SeqCst), "a fault");
            lock(&self.bytes)
        }
    }

    impl crate::store::medium::Medium for Panicking {
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

    #[test]
    fn a_panic_as_a_dropped_store_is_closed_goes_no_further() {
        let disk = Panicking::default();
        let place = Place::Medium(Arc::new(disk.clone()));
        let settings = crate::engine::options::Options::new().store;
        let alarm = Arc::new(Alarm::new(Arc::new(crate::model::clock::SystemClock)));
        let store = Store::open(&settings, place, alarm).unwrap();
        disk.panics.store(true, Ordering::SeqCst);
        drop(store);
    }
}
