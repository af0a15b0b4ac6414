//! What the handles of an engine share. The ways through it are in `verify` (with
//! `charge`), in `commit`, and in `flush`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::crypto::digest::Keyring;
use crate::crypto::mac::MacKey;
use crate::engine::counters::Counters;
use crate::engine::fleet::Fleet;
use crate::engine::follower::Followers;
use crate::engine::options::Options;
use crate::memory::attempts::Attempts;
use crate::memory::lagging::Lagging;
use crate::memory::limiter::Limiter;
use crate::memory::networks::Networks;
use crate::memory::owner_terms::{OwnLimits, OwnerTerms};
use crate::memory::process::Home;
use crate::memory::quota::Quotas;
use crate::memory::registry::Registry;
use crate::memory::resident::Resident;
use crate::memory::usage::Notes;
use crate::model::clock::{Clock, Timestamp};
use crate::model::error::{Error, OpenError, StoreFailure};
use crate::model::expiring::Notices;
use crate::model::health::{Alarm, Health};
use crate::model::time::{self, ClockStatus, Present, Time, Watch};
use crate::store::failure::guarded;
use crate::store::place::Place;
use crate::store::queue::Queue;
use crate::store::snapshot::Snapshot;
use crate::store::tx::uses::OnTheWay;
use crate::store::writer::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
type PublishedDelta = (Arc<Snapshot>, crate::store::delta::Delta, Arc<Snapshot>);

pub(crate) struct Core {
    pub(super) home: Home,
    pub(super) store: Store,
    pub(super) queue: Queue,
    /// The newest snapshot; `None` once the engine is closed, or where a commit
    /// could not be read back.
    pub(super) published: ArcSwapOption<Snapshot>,
    pub(super) resident: Option<Resident>,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache_bytes: usize,
    pub(super) time: Time,
    pub(super) watch: Watch,
    pub(super) closed: AtomicBool,
    /// Whether there is no snapshot: then the engine answers nothing, not even what
    /// needs no snapshot.
    pub(super) dark: AtomicBool,
    /// Whether a snapshot that was shown has keys of an import, or cannot say. Until then a
    /// text of another form is no token, and nothing is read to say so.
    pub(super) has_foreign: AtomicBool,
    pub(super) lagging: Lagging,
    pub(super) notes: Notes,
    pub(super) networks: Networks,
    pub(super) limiter: Limiter,
    pub(super) owner_terms: OwnerTerms,
    pub(super) own_limits: OwnLimits,
    pub(crate) quotas: Arc<Quotas>,
    pub(super) attempts: Option<Attempts>,
    pub(super) tracks_usage: bool,
    pub(super) usage_history_bytes: u64,
    pub(super) idempotency_window: Duration,
    /// Held while a flush writes notes to the file. It contains the uses of a flush
    /// whose outcome was unknown.
    pub(super) flushing: Mutex<Option<Arc<OnTheWay>>>,
    pub(super) fails_closed_after: Option<Duration>,
    pub(super) counters: Counters,
    pub(super) notices: Option<Notices>,
    followers: Followers,
    /// Where the server is one of a fleet.
    pub(super) fleet: Option<Arc<Fleet>>,
    /// For a test: what was published, and between which snapshots.
    #[cfg(test)]
    pub(crate) published_deltas: Mutex<Option<Vec<PublishedDelta>>>,
}

impl Core {
    /// Identifies an open engine in this process. A count of references would be one on which
    /// all threads contend, on every request.
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn open(options: &Options, at: Place<'_>) -> Result<Self, Error> {
        let path = at.path();
        let no_memory = |bytes| {
            let why = format!("there is no memory for {bytes} resident bytes");
            Error::open(path, OpenError::Options(why))
        };
        let resident = match options.resident_bytes {
            0 => None,
            bytes => Resident::new(bytes, MacKey::draw()?).map_err(|_| no_memory(bytes))?,
        };
        let alarm = Arc::new(Alarm::new(options.clock.clone()));
        let store = Store::open(&options.store, at, alarm)?;
        let registry = Registry::new();
        let limiter = Limiter::new(options.limited_keys);
        let owner_terms = OwnerTerms::default();
        let loaded = guarded(|| {
            let snapshot = store.snapshot()?;
            let state = snapshot.state()?;
            for keyspace in snapshot.keyspaces()? {
                registry.publish(keyspace)?;
            }
            let names = limiter.names();
            snapshot.each_owner_settings(|owner, read| {
                let read = read.as_ref().map(Some).map_err(Clone::clone);
                owner_terms.publish(&registry, names, &owner, read);
            })?;
            let place = snapshot.place()?;
            Ok((snapshot, state, place))
        });
        let (snapshot, state, place) =
            loaded.map_err(|error| Error::open(path, OpenError::reading(error)))?;
        let fleet = match (&options.fleet, place, options.ignores_fleet) {
            (Some(settings), Some(place), _) => {
                Some(Arc::new(Fleet::new(settings, place, &*options.clock)))
            }
            (None, None, _) | (None, _, true) => None,
            (None, Some(_), false) => return Err(Error::open(path, OpenError::InFleet)),
            (Some(_), None, _) => return Err(Error::open(path, OpenError::NotInFleet)),
        };
        if fleet.is_some() {
            store.alarm().always_ask();
        }
        Ok(Self {
            home: Home::new(),
            time: Time::new(state.clock),
            watch: Watch::new(options.clock_leap),
            closed: AtomicBool::new(false),
            dark: AtomicBool::new(false),
            has_foreign: AtomicBool::new(snapshot.may_have_foreign()),
            lagging: Lagging::new(options.at_once, options.brings_up, &snapshot),
            store,
            queue: Queue::default(),
            published: ArcSwapOption::new(Some(snapshot)),
            resident,
            registry,
            clock: options.clock.clone(),
            cache_bytes: options.store.cache_bytes,
            notes: Notes::new(),
            networks: Networks::new(options.note_networks && options.usage_interval.is_some()),
            limiter,
            owner_terms,
            own_limits: OwnLimits::default(),
            quotas: Arc::new(Quotas::new(options.limited_keys.max(Quotas::KEYS_MIN))),
            attempts: options.failed_attempts.map(Attempts::new),
            usage_history_bytes: options.usage_history_bytes,
            tracks_usage: options.usage_interval.is_some(),
            idempotency_window: options.idempotency_window,
            flushing: Mutex::new(None),
            fails_closed_after: options.fails_closed_after,
            counters: Counters::default(),
            notices: (options.on_expiring.as_ref()).map(|on| Notices::new(on, state.clock)),
            followers: Followers::default(),
            fleet,
            #[cfg(test)]
            published_deltas: Mutex::new(None),
        })
    }

    /// The present: the clock's, or the newest instant that counted where that
    /// is later.
    pub(crate) fn now(&self) -> Timestamp {
        self.present().at
    }

    /// Lets time not run behind an instant from now on.
    pub(crate) fn hold_at(&self, instant: Timestamp) {
        self.time.hold_commit(instant);
    }

    /// The same, to be held where a key is told to be over at it.
    pub(crate) fn present(&self) -> Present {
        self.time.now(&*self.clock)
    }

    /// Keeps time from running behind a present at which it was told that a key is
    /// over, so that it stays over if the clock steps back.
    pub(crate) fn hold(&self, present: Present) {
        self.time.hold(present);
    }

    /// Runs what tells the states of keys, or leaves out those that are over.
    pub(crate) fn tell<T>(
        &self,
        mut look: impl FnMut(&Snapshot, Timestamp) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let present = self.present();
        let told = self.read(|snapshot| look(snapshot, present.at))?;
        self.hold(present);
        Ok(told)
    }

    /// What the clock says by itself.
    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn clock_status(&self) -> Result<ClockStatus, Error> {
        let committed = self.read(Snapshot::state)?.clock;
        Ok(self.watch.status(&*self.clock, &self.time, committed))
    }

    /// Whether time can be set back once more.
    pub(crate) fn can_be_set_back(&self) -> Result<(), Error> {
        match self.time.can_be_set_back() {
            true => Ok(()),
            false => Err(time::no_more_eras()),
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn ring(&self) -> &Keyring {
        self.store.ring()
    }

    pub(crate) fn idempotency_window(&self) -> Duration {
        self.idempotency_window
    }

    pub(crate) fn tracks_usage(&self) -> bool {
        self.tracks_usage
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn resident(&self) -> Option<&Resident> {
        self.resident.as_ref()
    }

    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.store.file_bytes()
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(crate) fn signing_pepper(&self) -> u8 {
        self.store.ring().signing_pepper()
    }

    pub(crate) fn followers(&self) -> &Followers {
        &self.followers
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        self.home.refuse_fork()?;
        self.published.load_full().ok_or_else(|| self.unavailable())
    }

    /// The newest snapshot, for what reads it for long. That of a file that waits for its
    /// repair is no such.
    pub(crate) fn lasting_snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.snapshot()?;
        match snapshot.is_view() {
            false => Ok(snapshot),
            true => {
                self.repair_opened()?;
                self.snapshot()
            }
        }
    }

    /// Why there is no snapshot.
    #[cold]
    pub(super) fn unavailable(&self) -> Error {
        match self.closed.load(Ordering::Acquire) {
            true => Error::Closed,
            false => Error::Store(StoreFailure::new(
                "what was committed last cannot be read; the engine tries again by itself",
                None,
            )),
        }
    }

    /// Reads from the newest snapshot; from the next where the store was opened again
    /// beneath it.
    pub(crate) fn read<T>(
        &self,
        mut read: impl FnMut(&Snapshot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let snapshot = self.snapshot()?;
            match guarded(|| read(&snapshot)) {
                Err(_) if self.is_replaced(&snapshot) => {}
                done => return done,
            }
        }
    }

    /// Whether a snapshot can be read no more, and there is another.
    #[cold]
    pub(super) fn is_replaced(&self, snapshot: &Arc<Snapshot>) -> bool {
        let newest = self.published.load();
        let is_newest = newest.as_ref().is_none_or(|it| Arc::ptr_eq(it, snapshot));
        !is_newest && snapshot.is_over()
    }

    pub(crate) fn health(&self) -> Health {
        let health = self.alarm().health();
        match &self.fleet {
            Some(fleet) => {
                // One that is dark has to catch up, and answers nothing before.
                let is_dark = self.dark.load(Ordering::Acquire);
                health.of_server(!is_dark && fleet.require_fresh(&*self.clock).is_ok())
            }
            None => health,
        }
    }

    pub(crate) fn alarm(&self) -> &Arc<Alarm> {
        self.store.alarm()
    }

    /// Answers nothing from memory any more: every verification fails.
    pub(super) fn go_dark(&self) {
        if let Some(resident) = &self.resident {
            resident.shut();
        }
        self.show(None);
    }

    /// Lets verifications see a snapshot, or none.
    pub(super) fn show(&self, snapshot: Option<Arc<Snapshot>>) {
        // Before it is seen: whoever begins after the import must find its keys.
        if let Some(snapshot) = &snapshot
            && !self.has_foreign.load(Ordering::Relaxed)
            && snapshot.may_have_foreign()
        {
            self.has_foreign.store(true, Ordering::Release);
        }
        self.dark.store(snapshot.is_none(), Ordering::Release);
        let lags = snapshot.as_ref().is_none_or(|it| !it.lags().is_empty());
        if lags {
            // Before it is seen, as well.
            self.lagging.set(true);
        }
        self.published.store(snapshot);
        if !lags {
            self.lagging.set(false);
        }
    }

    /// Flushes and closes the file. Calls that come after fail.
    pub(crate) fn close(&self) -> Result<(), Error> {
        if let Some(fleet) = &self.fleet {
            let _ = catch_unwind(AssertUnwindSafe(|| self.try_to_catch_up(fleet)));
        }
        let flushed = match self.published.load().is_some() {
            true => {
                let flush = || {
                    let put_back = self.quotas.close(|numbers| self.put_back(numbers));
                    self.write_notes().and(put_back)
                };
                // A panic in a caller's clock must not keep the file open.
                let flushed = catch_unwind(AssertUnwindSafe(flush));
                flushed.unwrap_or(Err(Error::Internal("the last flush panicked")))
            }
            false => Ok(()),
        };
        let closed = self.store.close(|| {
            self.closed.store(true, Ordering::Release);
            self.go_dark();
            // Before another process can open the file, and say that it is there.
            if let Some(fleet) = &self.fleet {
                fleet.take_leave();
            }
        });
        closed.and(flushed)
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
