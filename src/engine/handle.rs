//! The public handle: opening, closing and verifying. The other verbs are in files
//! beside this one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::engine::fleet::FollowerThread;
use crate::engine::maintenance::Maintenance;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::health::Health;
use crate::model::requirements::Requirements;
use crate::model::verdict::Verdict;
use crate::store::place::Place;

/// An open store of keys: issues, verifies, rotates and revokes.
///
/// A handle is cheap to clone and may be used from any number of threads at
/// once; all clones are the same engine. It closes when the last one is gone,
/// or at [`close`](Engine::close).
///
/// # Reading and writing
/// [`verify`](Engine::verify) takes no lock that a writer holds and opens no
/// transaction. Every call that changes something returns once the change is durable
/// and every later verification sees it. Calls that wait at the same time share one
/// write to the disk.
///
/// # Forking
/// An engine belongs to the process that opened it: open it after the process has
/// forked or daemonized, and in one process alone. In a child of a fork, every call
/// that changes or lists something, [`flush`](Engine::flush) and
/// [`close`](Engine::close) fail with [`Error::Forked`] at once. A verification does so
/// at the latest when 1,024 ms of the engine's [`Clock`](crate::Clock) have passed
/// since the fork, or, where that clock stands still, when the thread has verified
/// 1,024 tokens; until then it may still answer as of the fork. A malformed token stays
/// denied. The child writes nothing, not even when it drops the engine. It keeps the
/// file open until it exits or executes another program: if the parent dies without
/// closing the engine, the file is in use until then.
///
/// # Errors
/// Every call can fail with [`Error::Closed`] after `close`, with [`Error::Forked`] in
/// a child of a fork, and with [`Error::Store`] or [`Error::Corrupted`] where the file
/// fails. A change that fails with one of these was not applied. The next change, or
/// the engine's own thread, makes the store recover, without a restart: see
/// [`Engine::health`]. Where a commit failed in its last step and the disk cannot say
/// whether it happened, the error is [`Error::OutcomeUnknown`]. [`Error::NeedsReopen`]
/// comes after the file was removed or replaced. The methods below do not repeat these
/// errors.
///
/// # Example
/// ```
/// use gatekey::{Engine, NewKey, NewKeyspace, Verdict};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("keys.redb");
/// let engine = Engine::create(&path)?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?.permissions(["read"]))?;
///
/// match engine.verify(issued.token.expose())? {
///     Verdict::Granted(grant) => assert_eq!(grant.owner(), "acme/ingest"),
///     Verdict::Denied(denial) => panic!("{denial}"),
/// }
/// engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(super) core: Arc<Core>,
    pub(super) closer: Arc<Closer>,
    pub(super) actor: Option<Arc<str>>,
}

/// Closes the engine when the last handle is gone.
pub(super) struct Closer {
    core: Arc<Core>,
    pub(super) path: Option<PathBuf>,
    maintenance: Option<Maintenance>,
    follower: Option<FollowerThread>,
    closed: OnceLock<()>,
}

impl Closer {
    fn close(&self) -> Result<()> {
        self.core.home().refuse_fork()?;
        if self.closed.set(()).is_err() {
            return Err(Error::Closed);
        }
        if let Some(maintenance) = &self.maintenance {
            maintenance.stop();
        }
        if let Some(follower) = &self.follower {
            follower.stop();
        }
        self.core.close()
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if !self.core.home().is_here() {
            // The thread is not in this process, only the parent may write the file,
            // and a lock may be held for ever: touch none of it.
            std::mem::forget(self.core.clone());
            std::mem::forget(self.maintenance.take());
            std::mem::forget(self.follower.take());
            return;
        }
        // No caller is left to get an error. Acknowledged changes are durable already, in the file
        // or in the log; `close` reports whether the usage was written.
        let _ = self.close();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.closer.path)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

/// # Opening and closing
impl Engine {
    /// Opens the store at `path`, which must exist, with the defaults of [`Options`]:
    /// see [`Options::open`].
    ///
    /// A file that another program copied while the store was open may not open, or be read
    /// until its repair ends: see [`backup`](Engine::backup) for copies that do.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    /// [`OpenError::Missing`](crate::OpenError::Missing) where there is no file: this
    /// call never creates a store.
    ///
    /// ```
    /// use gatekey::{Engine, Error, OpenError};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let opened = Engine::open(&path);
    /// assert!(matches!(opened, Err(Error::Open { reason: OpenError::Missing, .. })));
    /// assert!(!path.exists());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// Creates a store at `path`, and opens it with the defaults of [`Options`]: see
    /// [`Options::create`].
    ///
    /// # Errors
    /// [`Error::Open`]; [`OpenError::Exists`](crate::OpenError::Exists) where a file
    /// exists that is not empty. The call leaves it as it is.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// Engine::create(&path)?.close()?;
    /// assert!(Engine::create(&path).is_err());
    /// Engine::open(&path)?.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().create(path)
    }

    /// Opens the store at `path`, or creates it, with the defaults of [`Options`]: see
    /// [`Options::open_or_create`].
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// Engine::open_or_create(&path)?.close()?;
    /// Engine::open_or_create(&path)?.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open_or_create(path)
    }

    /// Opens a store in memory, for tests and examples.
    ///
    /// # Errors
    /// Only those of the operating system, such as [`Error::Entropy`].
    pub fn open_in_memory() -> Result<Self> {
        Options::new().open_in_memory()
    }

    pub(crate) fn open_with(mut options: Options, place: Place<'_>) -> Result<Self> {
        let path = place.path();
        options
            .validate()
            .map_err(|reason| Error::open(path, reason))?;
        // A server of a fleet applies entries before it answers, for which it must write.
        let can_read_first =
            options.fleet.is_none() && (options.usage_interval.is_some() || options.hook.is_some());
        options.store.reads_first = options.reads_first.unwrap_or(can_read_first);
        let core = Arc::new(Core::open(&options, place)?);
        let follower = match &core.fleet {
            Some(fleet) => Some(core.start_following(fleet, path)?),
            None => None,
        };
        let maintenance = match (options.usage_interval, options.hook) {
            (None, None) => None,
            (interval, hook) => {
                let maintenance = Maintenance::start(&core, interval, hook)?;
                core.note_thread();
                Some(maintenance)
            }
        };
        Ok(Self {
            closer: Arc::new(Closer {
                core: core.clone(),
                path: path.map(Path::to_owned),
                maintenance,
                follower,
                closed: OnceLock::new(),
            }),
            core,
            actor: None,
        })
    }

    /// A handle to the same engine that makes its changes in the name of `actor`: a
    /// person, a service, a request id. The audit trail and the keys that it issues
    /// record the name.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for an empty name, one of more than
    /// [`bounds::ACTOR_LEN_MAX`] bytes, or one with control characters.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.acting_as("alice@example.com")?.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// assert_eq!(engine.audit_page(1, 10)?.entries[0].actor.as_deref(), Some("alice@example.com"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn acting_as(&self, actor: impl AsRef<str>) -> Result<Self> {
        let actor = actor.as_ref();
        bounds::validate_name("actor", actor, bounds::ACTOR_LEN_MAX)?;
        Ok(Self {
            actor: Some(actor.into()),
            ..self.clone()
        })
    }

    /// Identifies an open engine; its clones have the same identity.
    #[cfg(feature = "tower")]
    pub(crate) fn identity(&self) -> usize {
        self.core.identity()
    }

    /// Whether a text begins as the tokens of a keyspace do, ignoring case and leading
    /// characters that are not letters or digits; or is the token of a key that was imported.
    #[cfg(feature = "tower")]
    pub(crate) fn begins_as_a_token(&self, text: &[u8]) -> bool {
        let start = text.iter().position(u8::is_ascii_alphanumeric);
        let from_start = start.and_then(|at| text.get(at..)).unwrap_or(&[]);
        let has_prefix = self.core.registry().iter().any(|entry| {
            let prefix = entry.prefix.as_bytes();
            let (head, rest) = from_start
                .split_at_checked(prefix.len())
                .unwrap_or_default();
            head.eq_ignore_ascii_case(prefix) && rest.first() == Some(&b'_')
        });
        has_prefix || self.core.is_foreign_token(text)
    }

    /// Writes what verifications have noted since the last flush: the use of keys, and
    /// digests renewed under a new pepper. The engine flushes by itself every
    /// [`Options::usage_interval`], and when it closes.
    ///
    /// # Errors
    /// See [`Engine`]. A store that takes no changes is an error even if there is
    /// nothing to write. The next flush retries what this one could not write.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.flush()?;
    /// assert_eq!(engine.key(issued.key.id)?.usage.count, 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn flush(&self) -> Result<()> {
        self.core.flush()
    }

    /// Flushes and closes the engine. Calls on other handles to it fail from then on.
    ///
    /// # Errors
    /// The error that kept the usage from being written. The file is closed even so.
    ///
    /// ```
    /// use gatekey::{Engine, Error};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// let other = engine.clone();
    /// engine.close()?;
    /// assert!(matches!(other.verify("a token"), Err(Error::Closed)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        self.closer.close()
    }
}

/// # Verifying
impl Engine {
    /// Verifies a token, given as text or as bytes, without further requirements.
    ///
    /// The engine takes the token as it is: it does not trim, fold or normalise it. It
    /// denies a text that does not have the form of a token before any hash or lookup,
    /// in time proportional to the text's length, at most 255 bytes.
    ///
    /// # Errors
    /// See [`Engine`]. An error says nothing about the token: answer the request with
    /// an error of your service, not of the caller.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Denial, Verdict};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// match engine.verify(issued.token.expose())? {
    ///     Verdict::Granted(grant) => assert_eq!(grant.owner(), "acme/ingest"),
    ///     Verdict::Denied(denial) => println!("401: {}", denial.code()),
    /// }
    /// let verdict = engine.verify("not a token")?;
    /// assert!(matches!(verdict, Verdict::Denied(Denial::Malformed)));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn verify(&self, token: impl AsRef<[u8]>) -> Result<Verdict> {
        self.verify_with(token, &Requirements::new())
    }

    /// Verifies a token against requirements: a keyspace, permissions, a source
    /// address, a cost.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Denial, Requirements};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?.permissions(["read"]))?;
    /// const WRITE: Requirements = Requirements::new().permissions(&["write"]);
    /// let verdict = engine.verify_with(issued.token.expose(), &WRITE)?;
    /// assert!(matches!(
    ///     verdict.denial(),
    ///     Some(Denial::PermissionMissing { names, .. }) if names == &["write"],
    /// ));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn verify_with(
        &self,
        token: impl AsRef<[u8]>,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict> {
        let token = token.as_ref();
        #[cfg(feature = "tower")]
        if requirements.credit.is_some() {
            return self.core.verify_on_credit(token, requirements);
        }
        self.core.verify_text(token, requirements)
    }

    /// Verifies several tokens against the same requirements, and returns a result for
    /// each, in their order. It is faster than one call for each, since their cache
    /// misses overlap, and since what they need of quotas beyond what is in memory is taken in
    /// some commits together. The tokens are not verified at one instant: a change may take
    /// effect in between.
    ///
    /// An error on one token leaves the verdicts of the others, and what was charged
    /// for them. Collect into a `Result` if one error should fail all.
    ///
    /// # Errors
    /// See [`Engine`], for each token.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Requirements};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let results = engine.verify_many(&[issued.token.expose(), "?"], &Requirements::new());
    /// let verdicts = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert!(verdicts[0].is_granted() && !verdicts[1].is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn verify_many<T: AsRef<[u8]>>(
        &self,
        tokens: &[T],
        requirements: &Requirements<'_>,
    ) -> Vec<Result<Verdict>> {
        #[cfg(feature = "tower")]
        if requirements.credit.is_some() {
            let verify = |token: &T| self.core.verify_on_credit(token.as_ref(), requirements);
            return tokens.iter().map(verify).collect();
        }
        self.core.verify_many(tokens, requirements)
    }
}

/// # Caring for the store
impl Engine {
    /// Reports whether the store can be written to and, if not, what is wrong, since
    /// when, and what to do; of a server of a fleet, also whether it is fresh.
    ///
    /// A store that has failed recovers by itself once its disk works: at the next
    /// change, and in the background (see [`Options::usage_interval`]). Until then
    /// verifications answer from the acknowledged state, unless
    /// [`Options::fail_closed_after`] says otherwise. The call does not touch the disk.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// if let Some(failure) = engine.health().failure() {
    ///     eprintln!("{failure}; {}", failure.advice());
    /// }
    /// assert!(engine.health().is_well());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// The engine's present: the later of what its clock says and the newest instant
    /// that it has committed.
    ///
    /// ```
    /// use gatekey::{Clock, ManualClock, Options, SystemClock};
    ///
    /// let clock = ManualClock::at(SystemClock.now());
    /// let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// assert_eq!(engine.now(), clock.now());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.now()
    }

    /// What is left of the limits and quotas that a request of a key would be charged to.
    #[cfg(feature = "http")]
    pub(crate) fn allowances_of(
        &self,
        key: crate::model::id::KeyId,
    ) -> Option<crate::model::allowances::Allowances> {
        self.core.allowances_of(key)
    }

    /// What the clock says by itself: the instant that limits and quotas are counted by.
    #[cfg(feature = "http")]
    pub(crate) fn clock_now(&self) -> Timestamp {
        self.core.clock_now()
    }

    /// The actor of this handle.
    pub(crate) fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    pub(crate) fn hold_time(&self, instant: Timestamp) {
        self.core.hold_at(instant);
    }

    pub(crate) fn change<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut crate::store::tx::Tx<'_>, Option<&str>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let actor = self.actor.clone();
        self.core.mutate(move |tx| work(tx, actor.as_deref()))
    }

    /// A change that takes access away, also where another call is found to have done so: that
    /// one may still wait for other servers, and so must this one.
    pub(crate) fn take_away<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut crate::store::tx::Tx<'_>, Option<&str>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.change(move |tx, actor| {
            let done = work(tx, actor)?;
            tx.take_away();
            Ok(done)
        })
    }
}
