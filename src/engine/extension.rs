//! What the engine gives to crates that stand on it: records of their own, in its file
//! and under its invariants.
//!
//! A crate that keeps more than keys (clients of OAuth, say, or a customer's settings) would
//! need a second store, and would have to keep the two in step through crashes, backups
//! and restores. Instead it keeps its records as an *extension*, in tables that the engine
//! carries along without reading what they say:
//!
//! | an extension gets | by |
//! |---|---|
//! | transactions, in which it changes its records and keys together | [`Extension::change`], [`ExtensionTx`] |
//! | records with a tag, so that a damaged or forged one is an error | [`ExtensionTx::put`] |
//! | entries in the audit trail | [`ExtensionTx::audit`] |
//! | backup, compaction, power-loss safety, [`Engine::check`] | nothing to do |
//! | room in [`Engine::check`] for what its records say | [`Follower::check`] |
//! | records in memory that are never older than an acknowledged change | [`Follower`] |
//! | secrets encrypted under the store's key, and so under its pepper | [`Extension::seal`] |
//! | keyed hashes, for secrets that it only compares | [`Extension::mac`] |
//! | the verdict on a key that another proof stands for | [`Extension::vouch`] |
//!
//! An extension has no part in a verification of a token: what must end with one of its
//! records, it revokes in the transaction that changes the record.
//!
//! ```
//! use gatekey::{Engine, NewKey, NewKeyspace, Reason};
//!
//! let engine = Engine::open_in_memory()?;
//! engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
//! let devices = engine.extension("devices")?;
//!
//! // A device and its key, both or neither.
//! let new = NewKey::new("acme_live", "acme/device-7")?;
//! let issued = devices.change(move |tx| {
//!     let issued = tx.issue(&new)?;
//!     tx.put("devices", b"7", 1, issued.key.id.to_string().as_bytes())?;
//!     tx.audit("device_added", "7", None)?;
//!     Ok(issued)
//! })?;
//! assert!(engine.verify(issued.token.expose())?.is_granted());
//!
//! // It is stolen: the record goes, and its key with it.
//! devices.change(|tx| {
//!     if let Some(record) = tx.get("devices", b"7")? {
//!         let key = String::from_utf8_lossy(&record.bytes).parse()?;
//!         tx.revoke(key, Reason::KeyCompromise)?;
//!         tx.remove("devices", b"7")?;
//!         tx.audit("device_stolen", "7", None)?;
//!     }
//!     Ok(())
//! })?;
//! assert!(!engine.verify(issued.token.expose())?.is_granted());
//! assert!(engine.check()?.is_sound());
//! # engine.close()?;
//! # Ok::<(), gatekey::Error>(())
//! ```

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::digest::DIGEST_LEN;
use crate::crypto::extension::ExtensionKeys;
use crate::crypto::token::fill_random;
pub use crate::engine::extension_tx::ExtensionTx;
pub use crate::engine::follower::{Changed, ExtensionView, Flaw, Follower, Record};
use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Result};
use crate::model::id::{KeyId, Prefix};
use crate::model::permissions::Permissions;
use crate::model::requirements::Requirements;
use crate::model::verdict::Verdict;
use crate::store::extension;

/// The longest name of an extension and of a table, in bytes.
pub const NAME_LEN_MAX: usize = extension::NAME_LEN_MAX;
/// The longest key of a record, in bytes.
pub const KEY_LEN_MAX: usize = extension::KEY_LEN_MAX;
/// The longest record, in bytes.
pub const RECORD_LEN_MAX: usize = extension::RECORD_LEN_MAX;
/// The most records that one page has.
pub const PAGE_MAX: usize = extension::PAGE_MAX;
/// By how many bytes a sealed secret is longer than the secret.
pub const SEAL_OVERHEAD: usize = crate::crypto::extension::SEAL_OVERHEAD;

/// An extension of a store: see the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Extension {
    engine: Engine,
    name: Arc<str>,
    keys: Arc<ExtensionKeys>,
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extension")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// # Extensions
impl Engine {
    /// The extension of a name, 1 to 32 of `a-z 0-9 _`, whose changes are made in the name
    /// of this handle's actor. It has its tables and its keys to itself: use the name of
    /// your crate. See [`extension`](crate::extension).
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for the name.
    pub fn extension(&self, name: &str) -> Result<Extension> {
        extension::validate_name("name of an extension", name)?;
        Ok(Extension {
            keys: Arc::new(ExtensionKeys::new(self.core.ring(), name)),
            engine: self.clone(),
            name: name.into(),
        })
    }
}

impl Extension {
    /// The engine that it extends.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The same extension, whose changes are made in the name of `actor`: see
    /// [`Engine::acting_as`].
    ///
    /// # Errors
    /// As [`Engine::acting_as`].
    pub fn acting_as(&self, actor: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            engine: self.engine.acting_as(actor)?,
            ..self.clone()
        })
    }

    /// Makes a change in one durable transaction, which other callers' changes may share,
    /// and returns what `work` returned once every reader sees the change.
    ///
    /// `work` sees what earlier transactions wrote and no part of later ones, so of two
    /// rivals for one record the second sees what the first did. It may run more than
    /// once, and only the last run counts: let it have no effect but on the transaction.
    /// Let it be brief, since others wait: derive, draw and sign before. Where it fails,
    /// nothing of it is applied; where it panics, the other changes of its transaction
    /// fail too.
    ///
    /// A refusal that must be written down (a replay, say, that revokes something) is an
    /// `Ok` of a type of the extension's own.
    ///
    /// # Errors
    /// Those of `work`, and see [`Engine`].
    pub fn change<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut ExtensionTx<'_, '_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.name.clone();
        self.engine
            .change(move |tx, actor| work(&mut ExtensionTx::new(tx, &name, actor)))
    }

    /// Reads from the newest commit. `read` may run more than once.
    ///
    /// # Errors
    /// Those of `read`, and see [`Engine`].
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// devices.change(|tx| tx.put("devices", b"7", 1, b"in the hall"))?;
    /// let record = devices.read(|view| view.get("devices", b"7"))?;
    /// assert_eq!(record.map(|record| record.bytes), Some(b"in the hall".to_vec()));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn read<T>(&self, mut read: impl FnMut(&ExtensionView<'_>) -> Result<T>) -> Result<T> {
        let core = &self.engine.core;
        loop {
            let snapshot = core.snapshot()?;
            let present = core.present();
            match read(&ExtensionView::new(&snapshot, &self.name, present.at)) {
                Err(_) if core.is_replaced(&snapshot) => {}
                done => {
                    core.hold(present);
                    return done;
                }
            }
        }
    }

    /// Has a follower read the extension's records, and told of each change from then on,
    /// for as long as the `Arc` lives. See [`Follower`].
    ///
    /// # Errors
    /// Those of [`Follower::begin`], and see [`Engine`].
    pub fn follow<F: Follower + 'static>(&self, follower: &Arc<F>) -> Result<()> {
        let core = &self.engine.core;
        core.home().refuse_fork()?;
        core.while_nobody_writes(|snapshot| {
            let view = ExtensionView::new(snapshot, &self.name, core.now());
            follower.begin(&view)?;
            let weak = Arc::downgrade(follower);
            core.followers().add(self.name.clone(), weak);
            Ok(())
        })
    }

    /// Fails where no verification is answered: the engine is closed, or cannot read its newest
    /// commit, or is of a fleet and does not know what the others have changed.
    ///
    /// For an extension that keeps in memory what a [`Follower`] tells it: what it reads there
    /// *after* this call is not older than any change whose call had returned before it. Costs
    /// a load or two.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::NotFresh`](crate::Error::NotFresh),
    /// [`Error::FailedClosed`](crate::Error::FailedClosed), and see [`Engine`].
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// assert!(devices.require_current().is_ok());
    /// engine.close()?;
    /// assert!(devices.require_current().is_err());
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn require_current(&self) -> Result<()> {
        let core = &self.engine.core;
        core.must_be_open()?;
        core.require_health().map(drop)
    }

    /// The verdict on a key as if its token had been presented: whether it is good, may do
    /// what is required, and is within its limits and quotas, which are charged. Its use
    /// is noted.
    ///
    /// The key has of its permissions those that are in `within`, which is what the proof
    /// stands for ([`Permissions::ALL`] for all of them): what it does not have, `within`
    /// does not add.
    ///
    /// The caller has another proof, such as a signature, that the request comes from
    /// whom the key stands for; the engine takes its word. An unknown id is
    /// [`Denial::Unknown`](crate::Denial::Unknown). The cost is that of
    /// [`Engine::verify`] without the hash of the token.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Permissions, Requirements};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let new = NewKey::new("acme_live", "acme/device-7")?.permissions(["read", "write"]);
    /// let key = engine.issue(new)?.key.id;
    /// let devices = engine.extension("devices")?;
    /// // The device signed the request, and its signature stands for reading alone.
    /// let read = engine.keyspace("acme_live")?.mask(["read"])?;
    /// let to_write = Requirements::new().permissions(&["write"]);
    /// assert!(devices.vouch(key, Permissions::ALL, &to_write)?.is_granted());
    /// assert!(!devices.vouch(key, read, &to_write)?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn vouch(
        &self,
        key: KeyId,
        within: Permissions,
        requirements: &Requirements<'_>,
    ) -> Result<Verdict> {
        self.engine.core.vouch(key, within, requirements)
    }

    /// The permissions of a keyspace that have some names, also those that are retired, which
    /// [`vouch`](Self::vouch) takes as held by no key; `None` where there is no such keyspace
    /// or name. For what a proof says of itself. It reads memory alone, and allocates nothing.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let devices = engine.extension("devices")?;
    /// let both = engine.keyspace("acme_live")?.mask(["read", "write"])?;
    /// assert_eq!(devices.permissions("acme_live".parse()?, ["write", "read"]), Some(both));
    /// assert_eq!(devices.permissions("acme_live".parse()?, ["read", "erase"]), None);
    /// # engine.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn permissions<'n>(
        &self,
        keyspace: Prefix,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Option<Permissions> {
        let entry = self.engine.core.registry().entry(keyspace)?;
        let mut names = names.into_iter();
        names.try_fold(Permissions::NONE, |mask, name| {
            Some(mask | entry.permission(name)?)
        })
    }

    /// The engine's present, behind which time never runs from now on: for an answer that
    /// something is over, which must stay over if the clock steps back.
    ///
    /// ```
    /// # use gatekey::{Clock, ManualClock, Options};
    /// # use std::time::Duration;
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let now = devices.hold_now();
    /// clock.step_back(Duration::from_secs(60));
    /// assert_eq!(devices.hold_now(), now);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn hold_now(&self) -> Timestamp {
        let present = self.engine.core.present();
        self.engine.core.hold(present);
        present.at
    }

    /// Whether an instant has come, by the engine's present. Cheap where it is further away
    /// than a minute, as [`Clock::coarse_now`](crate::Clock::coarse_now) is.
    ///
    /// ```
    /// # use gatekey::{Clock, ManualClock, Options};
    /// # use std::time::Duration;
    /// # let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
    /// # let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let soon = clock.now().saturating_add(Duration::from_secs(5));
    /// assert!(!devices.has_come(soon));
    /// clock.advance(Duration::from_secs(5));
    /// assert!(devices.has_come(soon));
    /// # engine.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn has_come(&self, instant: Timestamp) -> bool {
        self.engine.core.has_come(instant)
    }

    /// A keyed hash of 32 bytes over a purpose and parts, each with its length. The key
    /// depends on the store and on the extension. For secrets that are only compared:
    /// store their hash.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let other = engine.extension("doors")?;
    /// // Each part has its length, so that parts do not run into each other.
    /// assert_ne!(devices.mac("pin", &[b"7", b"4711"]), devices.mac("pin", &[b"74", b"711"]));
    /// assert_ne!(devices.mac("pin", &[b"4711"]), other.mac("pin", &[b"4711"]));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
        self.keys.mac(purpose, parts)
    }

    /// Whether [`mac`](Self::mac) of a purpose and parts is this one, compared in
    /// constant time.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let stored = devices.mac("pin", &[b"7", b"4711"]);
    /// assert!(devices.mac_is("pin", &[b"7", b"4711"], &stored));
    /// assert!(!devices.mac_is("pin", &[b"7", b"4712"], &stored));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn mac_is(&self, purpose: &str, parts: &[&[u8]], expected: &[u8]) -> bool {
        self.keys.mac_is(purpose, parts, expected)
    }

    /// Encrypts a secret that must be read again, such as a private key, under the store's
    /// key. What is sealed opens with the same purpose alone: name in it what the secret is
    /// of. With a [`Pepper`](crate::Pepper), the file alone does not open it; without one
    /// the store's key is in the file, and this hides the secret from no one who has all of
    /// it.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let sealed = devices.seal("pin 7", b"4711")?;
    /// assert_eq!(devices.unseal("pin 7", &sealed)?.as_slice(), b"4711");
    /// assert!(devices.unseal("pin 8", &sealed).is_err());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>> {
        self.keys.seal(purpose, secret)
    }

    /// The secret of a seal, in memory that is wiped.
    ///
    /// # Errors
    /// [`Error::Corrupted`] where it was not sealed for this purpose, by this extension, in
    /// this store.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let why = "its seal does not open";
        let opened = self.keys.unseal(purpose, sealed);
        opened.ok_or_else(|| {
            let record = format!("{} {purpose}", self.name);
            Error::corrupted(extension::REPORTED, record, why)
        })
    }

    /// Random bytes of the operating system.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let devices = engine.extension("devices")?;
    /// let nonce = devices.random::<16>()?;
    /// assert_ne!(*nonce, *devices.random::<16>()?);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn random<const N: usize>(&self) -> Result<Zeroizing<[u8; N]>> {
        let mut bytes = Zeroizing::new([0; N]);
        fill_random(bytes.as_mut_slice())?;
        Ok(bytes)
    }
}
