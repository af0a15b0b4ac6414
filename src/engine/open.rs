//! Opening an engine with options.

use std::path::Path;

use crate::engine::handle::Engine;
use crate::engine::options::Options;
use crate::model::error::Error;
use crate::store::place::Place;
use crate::store::settings::Intent;

/// # Opening
impl Options {
    /// Opens the store at `path`, which must exist. So an unmounted volume is an error,
    /// and does not become an empty store.
    ///
    /// The engine locks the file against other engines until the last handle is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    /// [`OpenError::Missing`](crate::OpenError::Missing) where there is no file, or an
    /// empty one.
    ///
    /// ```
    /// use gatekey::{Error, OpenError, Options};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let missing = Options::new().open(&path);
    /// assert!(matches!(missing, Err(Error::Open { reason: OpenError::Missing, .. })));
    /// Options::new().create(&path)?.close()?;
    /// let engine = Options::new().open(&path)?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<Engine, Error> {
        self.open_as(Intent::Open, path.as_ref())
    }

    /// Creates a store at `path`, and opens it.
    ///
    /// The file appears under its name once it is complete and durable, readable and
    /// writable by its owner only. An existing empty file becomes the store, and keeps
    /// its owner and mode.
    ///
    /// # Errors
    /// [`Error::Open`], with what is there as it was: see
    /// [`OpenError`](crate::OpenError). [`OpenError::Exists`](crate::OpenError::Exists)
    /// where a file exists that is not empty.
    ///
    /// ```
    /// use gatekey::{Error, OpenError, Options};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// Options::new().create(&path)?.close()?;
    /// let again = Options::new().create(&path);
    /// assert!(matches!(again, Err(Error::Open { reason: OpenError::Exists, .. })));
    /// Options::new().open(&path)?.close()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn create(self, path: impl AsRef<Path>) -> Result<Engine, Error> {
        self.open_as(Intent::Create, path.as_ref())
    }

    /// Opens the store at `path` as [`open`](Options::open) does, or creates it as
    /// [`create`](Options::create) does if there is no file, or an empty one.
    ///
    /// Of several concurrent callers, one gets the store, and the others get
    /// [`OpenError::InUse`](crate::OpenError::InUse). If the volume is not mounted, the
    /// call creates an empty store at the mount point.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`](crate::OpenError).
    ///
    /// ```
    /// use gatekey::Options;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let engine = Options::new().open_or_create(&path)?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn open_or_create(self, path: impl AsRef<Path>) -> Result<Engine, Error> {
        self.open_as(Intent::OpenOrCreate, path.as_ref())
    }

    fn open_as(mut self, intent: Intent, path: &Path) -> Result<Engine, Error> {
        self.store.intent = intent;
        Engine::open_with(self, Place::File(path))
    }

    /// Opens a store in memory, for tests. It is gone when the last handle is dropped.
    ///
    /// # Errors
    /// [`Error::Open`] for options that contradict each other.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::{Clock, ManualClock, Options, SystemClock};
    ///
    /// let clock = ManualClock::at(SystemClock.now());
    /// let engine = Options::new().clock(clock.clone()).open_in_memory()?;
    /// clock.advance(Duration::from_secs(3_600));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn open_in_memory(mut self) -> Result<Engine, Error> {
        self.store.intent = Intent::Create;
        Engine::open_with(self, Place::Memory)
    }
}
