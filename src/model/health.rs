//! Whether the store can be written to, and what to do if not.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::error::StoreFailure;
use crate::model::timings::Recorder;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Whether an engine can read and write its store, from
/// [`Engine::health`](crate::Engine::health).
///
/// ```
/// # use gatekey::Engine;
/// let engine = Engine::open_in_memory()?;
/// let health = engine.health();
/// if let Some(failure) = health.failure() {
///     println!("since {}: {failure}; {}", failure.since(), failure.advice());
/// }
/// assert!(health.is_well());
/// // For a probe of readiness:
/// assert!(health.is_ready());
/// assert_eq!(health.is_fresh(), None); // it is in no fleet
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    failure: Option<Failure>,
    is_fresh: Option<bool>,
}

#[cfg(feature = "serde")]
impl serde::Serialize for Health {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut health = serializer.serialize_struct("Health", 3)?;
        health.serialize_field("is_well", &self.is_well())?;
        health.serialize_field("failure", &self.failure)?;
        health.serialize_field("is_fresh", &self.is_fresh)?;
        health.end()
    }
}

impl Health {
    /// Whether the store takes changes, as far as the engine knows: it notices a
    /// failure with the first call that meets it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.failure.is_none()
    }

    /// The failure, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the server of a fleet knows enough to verify tokens; `None` where the engine is
    /// alone. [`Engine::fleet_status`](crate::Engine::fleet_status) says why it does not.
    #[must_use]
    pub const fn is_fresh(&self) -> Option<bool> {
        self.is_fresh
    }

    /// Whether requests should be sent here: the store takes changes, and the server of a
    /// fleet is fresh. What a probe of readiness asks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_well() && self.is_fresh != Some(false)
    }

    /// The same, of a server of a fleet.
    pub(crate) const fn of_server(mut self, is_fresh: bool) -> Self {
        self.is_fresh = Some(is_fresh);
        self
    }
}

/// A failure because of which the store takes no changes.
///
/// ```
/// use gatekey::{Engine, NewKeyspace};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("keys.redb");
/// let engine = Engine::create(&path)?;
/// std::fs::remove_file(&path).unwrap(); // an operator's mistake
/// assert!(engine.create_keyspace(NewKeyspace::new("acme_live")?).is_err());
/// let health = engine.health();
/// let failure = health.failure().expect("the change met it");
/// println!("{}; {} attempts to recover failed", failure.cause(), failure.attempts());
/// assert!(!failure.is_recoverable());
/// assert!(failure.advice().starts_with("put the file back"));
/// # let _ = engine.close();
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    since: Timestamp,
    cause: StoreFailure,
    attempts: u64,
    last: Option<StoreFailure>,
    is_lost: bool,
}

#[cfg(feature = "serde")]
impl serde::Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut failure = serializer.serialize_struct("Failure", 6)?;
        failure.serialize_field("since", &self.since)?;
        failure.serialize_field("cause", &self.cause)?;
        failure.serialize_field("attempts", &self.attempts)?;
        failure.serialize_field("last", &self.last)?;
        failure.serialize_field("is_recoverable", &self.is_recoverable())?;
        failure.serialize_field("advice", self.advice())?;
        failure.end()
    }
}

impl Failure {
    /// When the failure began, by the engine's clock.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The first error of the store.
    #[must_use]
    pub fn cause(&self) -> &StoreFailure {
        &self.cause
    }

    /// How many attempts to recover have failed since.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// The error of the last attempt to recover, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<&StoreFailure> {
        self.last.as_ref()
    }

    /// Whether the engine recovers by itself once the cause is gone. It does not if its
    /// file was removed or replaced.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        !self.is_lost
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        use std::io::ErrorKind::{
            PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        let kind = self.last.as_ref().unwrap_or(&self.cause).io_kind();
        match kind {
            _ if self.is_lost => {
                "put the file back under its name, or close the engine and open the right file"
            }
            Some(StorageFull | QuotaExceeded) => {
                "make room on the disk: the engine then recovers by itself"
            }
            Some(PermissionDenied | ReadOnlyFilesystem) => {
                "let the engine write to the file and to its directory: it then recovers by itself"
            }
            _ => {
                "check the disk and the system's log: once the disk works, the engine recovers by itself"
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store takes no changes: {}", self.cause)?;
        match &self.last {
            Some(last) if *last != self.cause => write!(f, "; now: {last}"),
            _ => Ok(()),
        }
    }
}

/// Calls back with a failure.
#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<dyn Fn(&Failure) + Send + Sync>);

impl Hook {
    /// Calls back, and catches a panic.
    pub(crate) fn call(&self, failure: &Failure) {
        let call = || (self.0)(failure);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What an engine knows of its store's health.
pub(crate) struct Alarm {
    clock: Arc<dyn Clock>,
    start: Instant,
    /// One more than the milliseconds from the start to the failure; 0: all is well.
    since_ms: AtomicU64,
    /// What a verification looks at first: whether there is a failure, and whether one is to
    /// be timed.
    attention: AtomicU8,
    watch: Mutex<Watch>,
    changed: Condvar,
    syncs: Recorder,
}

const FAILING: u8 = 1;
const TIMING: u8 = 2;
/// Whoever verifies has something else to look at.
const ALWAYS: u8 = 4;

/// How a wait ended.
pub(crate) enum Waited {
    /// The time is over, or a failure has begun.
    Ended,
    /// Somebody called.
    Called,
    /// All waits are over for good.
    Over,
}

#[derive(Default)]
struct Watch {
    failure: Option<Failure>,
    is_over: bool,
    is_called: bool,
}

impl Alarm {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            start: Instant::now(),
            since_ms: AtomicU64::new(0),
            attention: AtomicU8::new(0),
            watch: Mutex::default(),
            changed: Condvar::new(),
            syncs: Recorder::default(),
        }
    }

    /// How long syncs of the file took.
    pub(crate) fn syncs(&self) -> &Recorder {
        &self.syncs
    }

    /// No model checker stands in for this lock.
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure, unless one is noted.
    pub(crate) fn raise(&self, cause: &StoreFailure) {
        let mut watch = self.watch();
        if watch.failure.is_none() {
            watch.failure = Some(self.failure_of(cause));
            let since = self.elapsed_ms().saturating_add(1);
            self.since_ms.store(since, Ordering::Release);
            self.attention.fetch_or(FAILING, Ordering::Release);
            self.changed.notify_all();
        }
    }

    /// The present. A panic in the caller's clock must not hide a failure or stop a
    /// recovery: then this is the system's time.
    fn now(&self) -> Timestamp {
        let now = || self.clock.now();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(now))
            .unwrap_or_else(|_| SystemClock.now())
    }

    /// A failure that begins now.
    pub(crate) fn failure_of(&self, cause: &StoreFailure) -> Failure {
        Failure {
            since: self.now(),
            cause: cause.clone(),
            attempts: 0,
            last: None,
            is_lost: false,
        }
    }

    /// Notes that the file has lost its name.
    pub(crate) fn raise_lost(&self, cause: &StoreFailure) {
        self.raise(cause);
        if let Some(failure) = &mut self.watch().failure {
            failure.is_lost = true;
        }
    }

    /// Notes a failed attempt to recover.
    pub(crate) fn attempted(&self, error: &StoreFailure) {
        self.raise(error);
        if let Some(failure) = &mut self.watch().failure {
            failure.attempts += 1;
            failure.last = Some(error.clone());
        }
    }

    /// Notes that all is well.
    pub(crate) fn clear(&self) {
        let mut watch = self.watch();
        watch.failure = None;
        self.attention.fetch_and(!FAILING, Ordering::Release);
        self.since_ms.store(0, Ordering::Release);
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            failure: self.watch().failure.clone(),
            is_fresh: None,
        }
    }

    /// Lets [`is_raised`](Self::is_raised) say so always: whoever asks has something else to
    /// look at as well, and whoever has not pays nothing for it.
    pub(crate) fn always_ask(&self) {
        let watch = self.watch();
        self.attention.fetch_or(ALWAYS, Ordering::Release);
        drop(watch);
    }

    /// Whether there is a failure, or something else to look at. Costs one load.
    pub(crate) fn is_raised(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & (FAILING | ALWAYS) != 0
    }

    /// Whether there is a failure, or the next verification is to be timed. Costs one load.
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed) != 0
    }

    /// Has the next verification timed, of whatever thread.
    pub(crate) fn want_timing(&self) {
        self.attention.fetch_or(TIMING, Ordering::Relaxed);
    }

    /// Whether it is this one.
    pub(crate) fn takes_timing(&self) -> bool {
        self.attention.fetch_and(!TIMING, Ordering::Relaxed) & TIMING != 0
    }

    /// Waits for a time, and less where somebody calls, or there is a failure and was none.
    pub(crate) fn wait(&self, time: Duration, was_failing: bool) -> Waited {
        let watch = self.watch();
        let goes_on = |watch: &mut Watch| {
            !watch.is_over && !watch.is_called && watch.failure.is_some() <= was_failing
        };
        let waited = self.changed.wait_timeout_while(watch, time, goes_on);
        let (mut watch, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_called = std::mem::take(&mut watch.is_called);
        match is_called && watch.failure.is_some() <= was_failing {
            _ if watch.is_over => Waited::Over,
            true => Waited::Called,
            false => Waited::Ended,
        }
    }

    /// Ends a wait. Takes no lock that another holds: it may be that of a thread which is
    /// not in a fork. Whoever is called once too little does the work later.
    #[cold]
    pub(crate) fn call(&self) {
        if let Ok(mut watch) = self.watch.try_lock() {
            watch.is_called = true;
            self.changed.notify_all();
        }
    }

    /// Ends a wait for sure. Never on the way of a verification: it takes a lock.
    pub(crate) fn wake(&self) {
        self.watch().is_called = true;
        self.changed.notify_all();
    }

    /// Ends every wait.
    pub(crate) fn end(&self) {
        self.watch().is_over = true;
        self.changed.notify_all();
    }

    /// For how long it has lasted.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        match self.since_ms.load(Ordering::Acquire) {
            0 => None,
            since => Some(Duration::from_millis(
                self.elapsed_ms().saturating_sub(since - 1),
            )),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alarm({:?})", self.watch().failure)
    }
}
