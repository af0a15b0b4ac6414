//! An open store: runs changes in transactions, one after the other, and publishes what
//! they came to.

mod recovery;

use std::sync::Arc;
use std::time::Instant;

use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, OpenError, StoreFailure};
use crate::model::health::Alarm;
use crate::store::base::Base;
use crate::store::failure::{OrStore, failure, failure_of, guarded, guarded_any, panicked};
use crate::store::home::Home;
use crate::store::open;
use crate::store::place::Place;
use crate::store::queue::Progress;
use crate::store::settings::Settings;
use crate::store::snapshot::Snapshot;
use crate::store::tx::{Touched, Tx};
use crate::sync::{Mutex, MutexGuard, lock};

/// What a batch of mutations came to.
pub(crate) enum Outcome {
    /// Nothing was written.
    Unchanged,
    /// Committed, durable and published.
    Committed,
    /// Nothing was committed.
    Failed(Error),
    /// The commit failed, and it could not be found out whether it is durable.
    Unknown(StoreFailure),
    /// Committed and durable, but not published: no snapshot of it can be had.
    Unreadable,
}

/// Lets a commit take effect for all readers. `Touched` is empty where the snapshot
/// only stands on another database than the one before.
pub(crate) type Publish<'a> = &'a dyn Fn(&Touched, Arc<Snapshot>) -> Result<(), Error>;

/// An open store.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    /// Where it is found; by itself, so that nobody waits for a commit who asks.
    home: Mutex<Home>,
    ring: Arc<Keyring>,
    alarm: Arc<Alarm>,
    cache_bytes: usize,
}

/// Where a store stands that has failed.
#[derive(Default)]
struct Recovery {
    /// Whether it must recover before it takes a change.
    is_due: bool,
    /// What a commit touched of which it is not known whether it is durable.
    pending: Option<Pending>,
    /// When the next attempt may begin.
    rests_until: Option<Instant>,
    last: Option<StoreFailure>,
}

struct Pending(Touched);

/// What changes go through, one after the other.
struct Inner {
    /// `None` once it is closed.
    base: Option<Arc<Base>>,
    /// What was published last, and how many commits it has.
    published: Option<Arc<Snapshot>>,
    commits: u64,
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
        Ok(Self {
            inner: Mutex::new(Inner {
                base: Some(opened.base),
                published: Some(Arc::new(snapshot)),
                commits,
                recovery: Recovery::default(),
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

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic leaves behind under this lock, `Recovery` tells.
        lock(&self.inner)
    }

    /// The snapshot that was published last.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        self.inner().published.clone().ok_or(Error::Closed)
    }

    /// Runs mutations in one durable transaction, and publishes what it came to
    /// before another can begin or the store can close. `run` is called again,
    /// in a new transaction, while it asks for that.
    ///
    /// A store that has failed recovers first, and once more after a commit of which it
    /// is not known what became of it.
    pub(crate) fn write(
        &self,
        now: Timestamp,
        run: &mut dyn FnMut(&mut Tx<'_>) -> Progress,
        publish: Publish<'_>,
    ) -> Outcome {
        let mut inner = self.inner();
        if let Err(error) = self.recover_if_due(&mut inner, publish) {
            return Outcome::Failed(error);
        }
        let Some(base) = inner.base.clone() else {
            return Outcome::Failed(Error::Closed);
        };
        let syncs = base.access().syncs();
        let ran = guarded_any(|| self.run(&base, now, run));
        let fault = base.access().fault().map(|fault| fault.failure.clone());
        // What a panic or a failure leaves of a database, is not written to again.
        inner.recovery.is_due = ran.is_err() || fault.is_some();
        match ran {
            Ok(Ran::Unchanged) => Outcome::Unchanged,
            // Its commit had not begun.
            Err(()) => {
                self.alarm.raise(&panicked());
                Outcome::Failed(Error::Store(panicked()))
            }
            // The storage engine knows of failures only that there was one.
            Ok(Ran::Failed(error)) => Outcome::Failed(fault.map_or(error, Error::Store)),
            Ok(Ran::Committed(_) | Ran::Unsure(..) | Ran::Lost(_))
                if fault.is_some() && base.access().syncs() == syncs =>
            {
                // Of the two phases of a commit, the first ends with a sync.
                Outcome::Failed(Error::Store(fault.unwrap_or_else(panicked)))
            }
            Ok(Ran::Committed(touched)) => match fault {
                None => self.show_or_recover(&mut inner, &base, touched, publish),
                Some(failure) => self.resolve(&mut inner, touched, failure, publish),
            },
            Ok(Ran::Unsure(touched, failure)) => {
                self.resolve(&mut inner, touched, fault.unwrap_or(failure), publish)
            }
            Ok(Ran::Lost(touched)) => {
                let failure = lost();
                self.alarm.raise_lost(&failure);
                self.resolve(&mut inner, touched, failure, publish)
            }
        }
    }

    /// Publishes a commit that is durable.
    fn show_or_recover(
        &self,
        inner: &mut Inner,
        base: &Arc<Base>,
        touched: Touched,
        publish: Publish<'_>,
    ) -> Outcome {
        let shown = guarded(|| {
            let snapshot = Snapshot::new(base, &self.ring)?;
            inner.show(&touched, snapshot, publish)
        });
        match shown {
            Ok(()) => Outcome::Committed,
            Err(error) => match self.resolve(inner, touched, failure_of(&error), publish) {
                Outcome::Committed => Outcome::Committed,
                _ => Outcome::Unreadable,
            },
        }
    }

    /// Finds out what became of a commit that failed.
    fn resolve(
        &self,
        inner: &mut Inner,
        touched: Touched,
        failure: StoreFailure,
        publish: Publish<'_>,
    ) -> Outcome {
        inner.recovery.pending = Some(Pending(touched));
        inner.recovery.is_due = true;
        self.alarm.raise(&failure);
        match self.recover(inner, publish) {
            Ok(true) => Outcome::Committed,
            Ok(false) => Outcome::Failed(Error::Store(failure)),
            Err(_) => Outcome::Unknown(failure),
        }
    }

    /// Runs mutations in a transaction, and commits it.
    fn run(
        &self,
        base: &Base,
        now: Timestamp,
        run: &mut dyn FnMut(&mut Tx<'_>) -> Progress,
    ) -> Ran {
        loop {
            let mut txn = match base.with(|db| db.begin_write().or_store()) {
                Ok(txn) => txn,
                Err(error) => return Ran::Failed(error),
            };
            // Immediate durability is the default. Two phases: whoever can crash
            // the process while it commits cannot choose what is recovered.
            txn.set_two_phase_commit(true);
            let touched = {
                let mut tx = match Tx::open(&txn, &self.ring, now) {
                    Ok(tx) => tx,
                    Err(error) => return Ran::Failed(error),
                };
                match run(&mut tx) {
                    Progress::Again => continue,
                    Progress::Done => match tx.finish() {
                        Ok(touched) => touched,
                        Err(error) => return Ran::Failed(error),
                    },
                }
            };
            let Some(touched) = touched else {
                return Ran::Unchanged;
            };
            if let Some(fault) = base.access().fault() {
                return Ran::Failed(Error::Store(fault.failure.clone()));
            }
            let committed = guarded_any(|| txn.commit());
            return match committed {
                // Poisoned by a failure before the commit: rolled back.
                Ok(Err(error @ redb::CommitError::TransactionPoisoned)) => {
                    Ran::Failed(Error::Store(failure(error)))
                }
                Ok(Err(error)) => Ran::Unsure(touched, failure(error)),
                Ok(Ok(())) => match self.home() {
                    Home::File(file) if file.is_lost() => Ran::Lost(touched),
                    _ => Ran::Committed(touched),
                },
                Err(()) => Ran::Unsure(touched, panicked()),
            };
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
                let closed = base.close();
                base.access().ground().release();
                closed
            }
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Publishes a snapshot.
    fn show(
        &mut self,
        touched: &Touched,
        snapshot: Snapshot,
        publish: Publish<'_>,
    ) -> Result<(), Error> {
        let snapshot = Arc::new(snapshot);
        publish(touched, snapshot.clone())?;
        self.published = Some(snapshot);
        self.commits = touched.commits;
        Ok(())
    }
}

/// redb reads and writes as it closes, and closes what is dropped.
impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.close(|| {});
    }
}

/// What a transaction came to, as the storage engine tells it.
enum Ran {
    Unchanged,
    /// It failed before its commit.
    Failed(Error),
    Committed(Touched),
    /// It was committed to a file that has lost its name.
    Lost(Touched),
    Unsure(Touched, StoreFailure),
}

fn lost() -> StoreFailure {
    StoreFailure::new(
        "its file was removed or replaced while it was open, and with it goes this change",
        Some(std::io::ErrorKind::NotFound),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "proof")]
    use crate::sync::atomic::{AtomicBool, Ordering};

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

    #[cfg(feature = "proof")]
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
