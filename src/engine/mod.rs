//! The public handle.

mod backup;
mod compact;
mod insight;
mod maintenance;
pub(crate) mod once;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod shared;
mod time;
mod trail;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::change;
use crate::crypto::token;
use crate::engine::maintenance::Maintenance;
use crate::engine::options::Options;
use crate::engine::policy::Requirements;
use crate::engine::shared::Core;
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid, NotFound, Result};
use crate::model::filter::{Cursor, KeyFilter, Page};
use crate::model::health::Health;
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{
    Issued, Key, KeyUpdate, NewKey, Purged, Revocation, Revoked, RevokedMany, Rotated, Rotation,
};
use crate::model::keyspace::{Keyspace, KeyspaceUpdate, NewKeyspace};
use crate::model::owner::{OwnerPath, OwnerState};
use crate::model::stats::Stats;
use crate::model::time::Present;
use crate::model::verdict::Verdict;
use crate::store::check::{self, CheckReport};
use crate::store::snapshot::Snapshot;
use crate::store::{Place, guarded};

pub use compact::Compacted;

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
/// let engine = Engine::open(&path)?;
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
    core: Arc<Core>,
    closer: Arc<Closer>,
    actor: Option<Arc<str>>,
}

/// Closes the engine when the last handle is gone.
struct Closer {
    core: Arc<Core>,
    path: Option<PathBuf>,
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
    /// Opens the store at `path` with the defaults of [`Options`], or creates it.
    ///
    /// A file that another program copied while the store was open may not open: see
    /// [`backup`](Engine::backup) for copies that do.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
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
    /// [`Invalid::Malformed`] for an empty name, one of more than
    /// [`bounds::ACTOR_LEN_MAX`] bytes, or one with control characters.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.by("alice@example.com")?.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// assert_eq!(engine.audit(1, 10)?[0].actor.as_deref(), Some("alice@example.com"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn by(&self, actor: impl AsRef<str>) -> Result<Self> {
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
    /// const WRITE: Requirements = Requirements::new().permission_names(&["write"]);
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

    /// Verifies several tokens against the same requirements, and gives the
    /// verdicts in their order: quicker than one by one where there are many,
    /// since their cache misses overlap. It is not one instant for all: a
    /// change may take effect in between.
    ///
    /// # Errors
    /// See [`Engine`]. An error on one token is an error for all.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Requirements};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let verdicts = engine.verify_many(&[issued.token.expose(), "?"], &Requirements::new())?;
    /// assert!(verdicts[0].is_granted() && !verdicts[1].is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn verify_many<T: AsRef<[u8]>>(
        &self,
        tokens: &[T],
        requirements: &Requirements<'_>,
    ) -> Result<Vec<Verdict>> {
        self.core.verify_many(tokens, requirements)
    }
}

/// # Keyspaces
impl Engine {
    /// Creates a keyspace.
    ///
    /// # Errors
    /// [`Refusal::PrefixTaken`](crate::Refusal::PrefixTaken),
    /// [`Refusal::TooManyKeyspaces`](crate::Refusal::TooManyKeyspaces), and
    /// [`Error::Invalid`] for what the builder was given.
    pub fn create_keyspace(&self, new: NewKeyspace) -> Result<Keyspace> {
        self.change(move |tx, actor| change::keyspace::create(tx, &new, actor))
    }

    /// The keyspace with a prefix.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`].
    pub fn keyspace(&self, prefix: impl TryInto<Prefix, Error: Into<Error>>) -> Result<Keyspace> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        self.core.snapshot()?;
        match self.core.registry().find(prefix) {
            Some(keyspace) => Ok(Keyspace::clone(&keyspace)),
            None => Err(NotFound::Keyspace(prefix).into()),
        }
    }

    /// All keyspaces, the oldest first; at most [`bounds::KEYSPACES_MAX`].
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn keyspaces(&self) -> Result<Vec<Keyspace>> {
        self.core.read(Snapshot::keyspaces)
    }

    /// Changes a keyspace. A change that changes nothing is not written.
    ///
    /// Costs a walk over all keys where it becomes single-active.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`],
    /// [`Refusal::OwnerHoldsSeveral`](crate::Refusal::OwnerHoldsSeveral), and
    /// [`Error::Invalid`] for what the update was given.
    pub fn update_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        update: KeyspaceUpdate,
    ) -> Result<Keyspace> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        self.change(move |tx, actor| change::keyspace::update(tx, prefix, &update, actor))
    }
}

/// # Issuing and changing keys
impl Engine {
    /// Issues a key and gives its token, which cannot be seen again.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`];
    /// [`Refusal::OwnerHasKey`](crate::Refusal::OwnerHasKey) and
    /// [`Refusal::OwnerAtCap`](crate::Refusal::OwnerAtCap) as the keyspace says;
    /// [`Error::Invalid`] for what the request holds.
    pub fn issue(&self, new: NewKey) -> Result<Issued> {
        only(self.issue_batch(vec![new]))
    }

    /// Issues up to [`bounds::BATCH_MAX`] keys in one transaction, all or none,
    /// and gives them in the same order.
    ///
    /// # Errors
    /// [`Error::Batch`] names the item that was refused, and why. An owner may
    /// not stand twice in a batch for a single-active keyspace.
    pub fn issue_batch(&self, new: Vec<NewKey>) -> Result<Vec<Issued>> {
        self.change(move |tx, actor| change::issue::issue(tx, &new, actor))
    }

    /// Changes a key: wider or narrower, from the instant that the call returns.
    /// A change that changes nothing is not written.
    ///
    /// # Errors
    /// [`NotFound::Key`]; [`Refusal::Revoked`](crate::Refusal::Revoked) and
    /// [`Refusal::Expired`](crate::Refusal::Expired), which are final;
    /// [`Error::Invalid`] for what the update holds.
    pub fn update(&self, key: KeyId, update: KeyUpdate) -> Result<Key> {
        self.change(move |tx, actor| change::update::update(tx, key, &update, actor))
    }

    /// Replaces a key by a new one of the same owner.
    ///
    /// The old key is accepted until the rotation's grace ends, and never past
    /// its own expiry. If it had itself replaced a key that is still in its
    /// grace, that one is revoked now.
    ///
    /// # Errors
    /// [`NotFound::Key`]; [`Refusal::Revoked`](crate::Refusal::Revoked),
    /// [`Refusal::Expired`](crate::Refusal::Expired),
    /// [`Refusal::Disabled`](crate::Refusal::Disabled) and
    /// [`Refusal::AlreadyRotated`](crate::Refusal::AlreadyRotated);
    /// [`Error::Invalid`] for what the rotation changes.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use std::time::Duration;
    /// use gatekey::Rotation;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let day = Duration::from_secs(86_400);
    /// let rotated = engine.rotate(issued.key.id, Rotation::with_grace(day))?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// assert!(engine.verify(rotated.token.expose())?.is_granted());
    /// assert_eq!(rotated.old.successor, Some(rotated.key.id));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn rotate(&self, key: KeyId, rotation: Rotation) -> Result<Rotated> {
        self.change(move |tx, actor| change::rotate::rotate(tx, key, &rotation, actor))
    }

    /// Disables a key until it is enabled again.
    ///
    /// # Errors
    /// [`NotFound::Key`]; [`Refusal::Revoked`](crate::Refusal::Revoked) and
    /// [`Refusal::Expired`](crate::Refusal::Expired).
    pub fn disable(&self, key: KeyId) -> Result<Key> {
        self.change(move |tx, actor| change::update::set_disabled(tx, key, true, actor))
    }

    /// Enables a key that was disabled.
    ///
    /// # Errors
    /// As [`disable`](Engine::disable): what was revoked stays revoked.
    pub fn enable(&self, key: KeyId) -> Result<Key> {
        self.change(move |tx, actor| change::update::set_disabled(tx, key, false, actor))
    }
}

/// # Revoking and purging
impl Engine {
    /// Revokes a key, for good. No verification that starts after the call has
    /// returned grants it.
    ///
    /// Revoked again, it gives the same answer as the first time, and changes
    /// nothing. A key that it has replaced, and that is still in its grace, stays
    /// accepted: revoke that one too, or the owner.
    ///
    /// # Errors
    /// [`NotFound::Key`], and [`Invalid::Malformed`] for the note.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Reason, Revocation};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let leaked = Revocation::new(Reason::KeyCompromise).note("seen in a public repository");
    /// engine.revoke(issued.key.id, leaked)?;
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn revoke(&self, key: KeyId, revocation: impl Into<Revocation>) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| change::revoke::revoke(tx, key, &revocation, actor))
    }

    /// Revokes the key whose token is at hand, whatever its state: for a leak
    /// report, or a client that gives its key back.
    ///
    /// # Errors
    /// [`NotFound::Token`] where the secret is not right; nothing is told of
    /// whether the id exists.
    pub fn revoke_token(
        &self,
        token: impl AsRef<[u8]>,
        revocation: impl Into<Revocation>,
    ) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.check()?;
        // Looked at first without the writers' line, so that whoever has no
        // token cannot stand in it.
        self.core.find_by_token(token.as_ref())?;
        let token = zeroize::Zeroizing::new(token.as_ref().to_vec());
        self.change(move |tx, actor| match token::parse(&token) {
            Some(parsed) => change::revoke::revoke_token(tx, &parsed, &revocation, actor),
            None => Err(NotFound::Token.into()),
        })
    }

    /// Revokes all keys of an owner and of all below it, in one transaction.
    /// Keys issued to it later are not touched. The audit trail names each key that was
    /// revoked, a thousand an entry.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path or the note. An owner without keys is
    /// not an error.
    pub fn revoke_owner(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let owner = owner.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| change::revoke::revoke_owner(tx, &owner, &revocation, actor))
    }

    /// Revokes all keys of a keyspace, in one transaction. Keys issued in it
    /// later are not touched. The audit trail names each key that was revoked, a
    /// thousand an entry.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`], and [`Error::Invalid`] for the note.
    pub fn revoke_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| {
            change::revoke::revoke_keyspace(tx, prefix, &revocation, actor)
        })
    }

    /// Removes the keys that were revoked or expired more than `age` ago, and
    /// says how many. Their tokens are unknown from then on, their audit
    /// entries stay. What is damaged is passed over and counted.
    ///
    /// With an age of zero, keys that ended in the current millisecond are kept.
    ///
    /// Removes a thousand keys a transaction, so that other changes are not
    /// kept waiting; after an error, what was removed so far stays removed.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn purge(&self, age: Duration) -> Result<Purged> {
        let over_before = self.core.now().saturating_sub(age);
        let mut purged = Purged::default();
        let mut after = None;
        loop {
            let step =
                self.change(move |tx, actor| change::purge::purge(tx, over_before, after, actor))?;
            purged.keys += step.purged.keys;
            purged.damaged += step.purged.damaged;
            after = step.reached;
            if after.is_none() {
                return Ok(purged);
            }
        }
    }
}

/// # Owners
impl Engine {
    /// Suspends an owner and all below it, segment by segment, at once; a
    /// suspended owner stays as it is. Keys issued below it meanwhile are
    /// suspended too.
    ///
    /// One transaction, whose time goes with the number of keys below the path.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path or a note over [`bounds::NOTE_LEN_MAX`].
    pub fn suspend(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        note: Option<&str>,
    ) -> Result<OwnerState> {
        let owner = owner.try_into().map_err(Into::into)?;
        let note = note.map(str::to_owned);
        self.change(move |tx, actor| change::owner::suspend(tx, &owner, note.as_deref(), actor))
    }

    /// Lifts an owner's suspension; one that is not suspended stays as it is.
    /// What is suspended below it by itself, or with a path above it, stays so.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    pub fn resume(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner = owner.try_into().map_err(Into::into)?;
        self.change(move |tx, actor| change::owner::resume(tx, &owner, actor))
    }

    /// Whether an owner is suspended, by itself or with a path above it. An
    /// owner need not have keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    pub fn owner(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        self.core.read(|snapshot| snapshot.owner(&owner))
    }
}

/// # Looking
impl Engine {
    /// A key, whatever its state.
    ///
    /// # Errors
    /// [`NotFound::Key`].
    pub fn key(&self, key: KeyId) -> Result<Key> {
        let present = self.core.present();
        let key = self.core.read(|snapshot| snapshot.key(key, present.at))?;
        self.hold_if_over(&key, present);
        Ok(key)
    }

    /// Where a key that is told is over, time does not run behind that.
    fn hold_if_over(&self, key: &Key, present: Present) {
        if time::is_over(key, present.at) {
            self.core.hold(present);
        }
    }

    /// The key whose token is at hand, whatever its state; `None` where there is none,
    /// or the secret is not right, which are not told apart. For a support desk that is
    /// shown a token, or a client that asks what it holds.
    ///
    /// This is no verification: it charges nothing, counts no failed attempt and notes
    /// no use, and a key is given that is revoked or expired. Do not let a caller in by it.
    ///
    /// Takes the same work for an unknown id as for a wrong secret; a token that is
    /// right costs a few reads of the file more.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Reason};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let token = issued.token.expose();
    /// engine.revoke(issued.key.id, Reason::Cessation)?;
    /// let found = engine.find_by_token(token)?;
    /// assert_eq!(found.map(|key| key.id), Some(issued.key.id));
    /// assert!(engine.find_by_token("acme_live_no_such_token")?.is_none());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn find_by_token(&self, token: impl AsRef<[u8]>) -> Result<Option<Key>> {
        match self.core.find_by_token(token.as_ref()) {
            Ok((id, snapshot)) => {
                let present = self.core.present();
                let key = guarded(|| snapshot.key(id, present.at))?;
                self.hold_if_over(&key, present);
                Ok(Some(key))
            }
            Err(Error::NotFound(NotFound::Token)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of up to `limit` keys, at most [`bounds::PAGE_MAX`], from where
    /// an earlier page ended.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for what is no cursor, for one of a listing in
    /// another order or of another owner, and for a limit of 0;
    /// [`Invalid::TooMany`] for a limit over the maximum;
    /// [`NotFound::Keyspace`]. The rest of the filter is not compared: go on
    /// with the same one.
    pub fn list(&self, filter: &KeyFilter, after: Option<&Cursor>, limit: usize) -> Result<Page> {
        check_limit(limit)?;
        self.core
            .tell(|snapshot, now| snapshot.list(filter, after, limit, now))
    }

    /// All keys that a filter asks for, fetched page by page, and an
    /// [`Error::Corrupted`] for each record that is damaged, behind the keys of its
    /// page. After any other error there is no more;
    /// `collect::<Result<Vec<_>, _>>()` overlooks neither.
    ///
    /// The iterator borrows nothing: it holds a handle of its own, and may be sent to
    /// another thread and outlive this one.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, KeyFilter};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// for key in engine.keys(KeyFilter::new().owner("acme".parse()?)) {
    ///     println!("{}", key?.id);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn keys(&self, filter: KeyFilter) -> impl Iterator<Item = Result<Key>> + Send + use<> {
        const PAGE: usize = 256;
        let engine = self.clone();
        let mut next = Some(None);
        std::iter::from_fn(move || {
            let cursor: Option<Cursor> = next.take()?;
            let page = engine.list(&filter, cursor.as_ref(), PAGE);
            Some(match page {
                Ok(page) => {
                    next = page.next.map(Some);
                    let damaged = page.damaged.into_iter();
                    let damaged = damaged.map(|damage| Err(Error::Corrupted(damage)));
                    page.keys.into_iter().map(Ok).chain(damaged).collect()
                }
                Err(error) => vec![Err(error)],
            })
        })
        .flatten()
    }

    /// What the store holds, by counts that every change keeps: it takes the same time for a
    /// thousand keys and for millions.
    ///
    /// The keys that time alone has brought into another state since the last change or
    /// [`flush`](Engine::flush) are read one by one: of those that expired, became valid or
    /// came to the end of their grace. Each costs some microseconds, and as a rule they are
    /// a few hundred at most, since changes and flushes count them. They are more where many
    /// thousands of keys end at once, or where nothing is changed and no usage is kept
    /// ([`Options::usage_interval`](crate::Options::usage_interval)).
    ///
    /// A key whose record is damaged counts as it did before;
    /// [`check`](Engine::check) names it, and compares the counts. Where the counts
    /// themselves are damaged, every key is read, until a [`repair`](Engine::repair).
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let counts = engine.stats()?.keyspaces[&"acme_live".parse()?];
    /// assert_eq!((counts.active, counts.total()), (1, 1));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.core.tell(kept)?;
        stats.usage_lost = self.core.notes().lost();
        stats.limited_keys = self.core.limiter().len();
        stats.file_bytes = self.core.file_bytes();
        stats.health = self.core.health();
        if let Some(resident) = self.core.resident() {
            (stats.resident_keys, stats.resident_capacity) = resident.occupancy();
        }
        Ok(stats)
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
    pub(crate) fn standing(&self, key: KeyId) -> Option<crate::model::verdict::Standing> {
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

/// What of the statistics the file has.
fn kept(snapshot: &Snapshot, now: Timestamp) -> Result<Stats> {
    let state = snapshot.state()?;
    Ok(Stats {
        keyspaces: snapshot.key_counts(now)?,
        audit_entries: state.audit_seq - state.audit_floor_seq,
        ..Stats::default()
    })
}

fn check_limit(limit: usize) -> Result<()> {
    match limit {
        0 => Err(Invalid::malformed("limit", "0", "a page holds at least one").into()),
        _ => bounds::check_count("items in a page", limit, bounds::PAGE_MAX),
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod forked;

/// The answer of a batch of one.
fn only(issued: Result<Vec<Issued>>) -> Result<Issued> {
    let issued = issued.map_err(|error| match error {
        Error::Batch { source, .. } => *source,
        other => other,
    })?;
    issued
        .into_iter()
        .next()
        .ok_or(Error::Internal("an issue gave no key"))
}
