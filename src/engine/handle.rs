//! The public handle: opening, closing and verifying. The other verbs are in files
//! beside this one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::engine::maintenance::Maintenance;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::health::Health;
use crate::model::requirements::Requirements;
use crate::model::verdict::Verdict;
use crate::store::check::{self, CheckReport};
use crate::store::place::Place;

/// An open store of keys: issues, verifies, rotates and revokes.
///
/// A handle is cheap to clone and may be used from any number of threads at
/// once; all clones are the same engine. It closes when the last one is gone,
/// or at [`close`](Engine::close).
///
/// # Reading and writing
/// [`verify`](Engine::verify) takes no lock that a writer holds and opens no
/// transaction. Every call that changes something returns once the change is
/// durable and every verification that starts later sees it; calls that wait at
/// the same time share one write to the disk.
///
/// # Forking
/// An engine belongs to the process that opened it: open it after the process has
/// forked or daemonized, and in one process alone. In a child of a fork, every call
/// that changes or lists something, [`flush`](Engine::flush) and
/// [`close`](Engine::close) fail with [`Error::Forked`] at once. A verification does so
/// at the latest when 1,024 ms of the engine's [`Clock`](crate::Clock) have passed since
/// the fork, or, where that clock stands still, when the thread has verified 1,024
/// tokens; until then it may still say what held at the fork. A token that is malformed
/// stays denied. The child writes nothing, also when it drops the engine. It keeps the
/// file open until it ends or executes another program: where the parent dies without
/// closing the engine, the file is in use until then.
///
/// # Errors
/// Every call can fail with [`Error::Closed`] after `close`, with [`Error::Forked`] in
/// a child of a fork, and with
/// [`Error::Store`] or [`Error::Corrupted`] where the file fails. A change that fails
/// so was not applied. The next change, or the engine's own thread, lets the store
/// recover, which needs no restart: see [`Engine::health`]. Where a commit failed in its
/// last step and the disk does not tell what became of it, the error is
/// [`Error::OutcomeUnknown`]. [`Error::NeedsReopen`] comes after the file was removed or
/// replaced. Those are not repeated below.
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
    closed: OnceLock<()>,
}

impl Closer {
    fn close(&self) -> Result<()> {
        self.core.home().check()?;
        if self.closed.set(()).is_err() {
            return Err(Error::Closed);
        }
        if let Some(maintenance) = &self.maintenance {
            maintenance.stop();
        }
        self.core.close()
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if !self.core.home().is_here() {
            // The thread is not in this process, the file is its parent's to write,
            // and locks may be held for ever: all of it is left as it is.
            std::mem::forget(self.core.clone());
            std::mem::forget(self.maintenance.take());
            return;
        }
        // Nobody is left to be told. What was acknowledged is durable already;
        // `close` is there for those who want to know about the usage.
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
    /// A file that another program copied while the store was open may not open: see
    /// [`backup`](Engine::backup) for copies that do.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    /// [`OpenError::Missing`](crate::OpenError::Missing) where nothing is there: a missing
    /// file is never made into an empty store.
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
    /// [`Error::Open`]; [`OpenError::Exists`](crate::OpenError::Exists) where a file is
    /// there that is not empty. It is left as it is.
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
    /// None but those of the system, as [`Error::Entropy`].
    pub fn open_in_memory() -> Result<Self> {
        Options::new().open_in_memory()
    }

    pub(crate) fn open_with(mut options: Options, place: Place<'_>) -> Result<Self> {
        let path = place.path();
        options
            .check()
            .map_err(|reason| Error::open(path, reason))?;
        let core = Arc::new(Core::open(&options, place)?);
        let maintenance = match (options.usage_interval, options.hook) {
            (None, None) => None,
            (interval, hook) => Some(Maintenance::start(&core, interval, hook)?),
        };
        Ok(Self {
            closer: Arc::new(Closer {
                core: core.clone(),
                path: path.map(Path::to_owned),
                maintenance,
                closed: OnceLock::new(),
            }),
            core,
            actor: None,
        })
    }

    /// The same engine, for changes in the name of `actor`: a person, a service,
    /// a request id. It is recorded in the audit trail and in what is issued.
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
        bounds::check_name("actor", actor, bounds::ACTOR_LEN_MAX)?;
        Ok(Self {
            actor: Some(actor.into()),
            ..self.clone()
        })
    }

    /// What tells an open engine from others; its clones have the same.
    #[cfg(feature = "tower")]
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.core).addr()
    }

    /// Whether a text begins as the tokens of a keyspace do, in any case and behind
    /// whatever is no letter or digit.
    #[cfg(feature = "tower")]
    pub(crate) fn begins_as_a_token(&self, text: &[u8]) -> bool {
        let start = text.iter().position(u8::is_ascii_alphanumeric);
        let text = start.and_then(|at| text.get(at..)).unwrap_or(&[]);
        self.core.registry().iter().any(|entry| {
            let prefix = entry.prefix.as_bytes();
            let (head, rest) = text.split_at_checked(prefix.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(prefix) && rest.first() == Some(&b'_')
        })
    }

    /// Writes what verifications have noted since the last time: the use of
    /// keys, and digests renewed under a new pepper. The engine does so by
    /// itself every [`Options::usage_interval`], and when it closes.
    ///
    /// # Errors
    /// See [`Engine`]; also where there is nothing to write, and the store takes no
    /// changes. What could not be written is tried again.
    pub fn flush(&self) -> Result<()> {
        self.core.flush()
    }

    /// Flushes and closes the engine; other handles to it fail from then on.
    ///
    /// # Errors
    /// What kept the usage from being written; the file is closed all the same.
    pub fn close(self) -> Result<()> {
        self.closer.close()
    }
}

/// # Verifying
impl Engine {
    /// Verifies a token, as text or as bytes. Nothing is required but that it
    /// is good.
    ///
    /// The token is taken as it is: not trimmed, folded or normalised. Costs no
    /// more than its length, and one that does not have the form of a token is
    /// refused before any hash or lookup.
    ///
    /// # Errors
    /// See [`Engine`]. An error says nothing about the token: refuse the
    /// request as your service being at fault, not the caller.
    pub fn verify(&self, token: impl AsRef<[u8]>) -> Result<Verdict> {
        self.verify_with(token, &Requirements::new())
    }

    /// Verifies a token, and that it fulfils requirements.
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
        self.core.verify_text(token.as_ref(), requirements)
    }

    /// Verifies several tokens against the same requirements, and gives a result
    /// for each, in their order: quicker than one by one where there are many,
    /// since their cache misses overlap. It is not one instant for all: a
    /// change may take effect in between.
    ///
    /// An error on one token leaves the others' verdicts as they are: what was
    /// charged for them is not lost. Collect into a `Result` where any error
    /// is one for all.
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
        self.core.verify_many(tokens, requirements)
    }
}

/// # Caring for the store
impl Engine {
    /// Whether the store can be written to: what is wrong, since when, and what to do.
    ///
    /// A store that has failed recovers by itself once its disk is well: at the next
    /// change, and in the background (see [`Options::usage_interval`]). Verifications
    /// go on meanwhile with what was acknowledged, unless
    /// [`Options::fail_closed_after`] says otherwise. It asks nothing of the disk.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// Walks the whole store and reports everything that does not agree: tags,
    /// indexes, lineage, suspensions, the single-active rule, the audit chain,
    /// and records older than the audit trail says. Changes go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] where the file cannot be read. What is damaged is in
    /// the report, not an error.
    pub fn check(&self) -> Result<CheckReport> {
        self.core.tell(check::check)
    }

    /// The engine's present: its clock's, or the newest instant that it has
    /// committed where that is later.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.now()
    }

    /// Where a key stands in the limits of its plan, with nothing charged.
    #[cfg(feature = "http")]
    pub(crate) fn standing(
        &self,
        key: crate::model::id::KeyId,
    ) -> Option<crate::model::verdict::Standing> {
        self.core.standing(key)
    }

    /// Who acts with this handle.
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
}
