//! From one file to a fleet, into a fleet, and out of it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::crypto::token::fill_random;
use crate::engine::fleet::settings::Settings;
use crate::engine::fleet::state::Fleet;
use crate::engine::fleet::thread::FollowerThread;
use crate::engine::handle::Engine;
use crate::engine::options::Options;
use crate::engine::shared::Core;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, OpenError, Result};
use crate::model::log::{Log, LogError, SnapshotInfo};
use crate::steps::reached;
use crate::store::entry::{self, FleetId, Place};
use crate::store::file::{end_of_links, rename_to_new};
use crate::store::leftovers::creating_name;

/// # Founding, joining and leaving a fleet
impl Options {
    /// Founds a fleet with the store at `path`, which must exist, and opens it as its first
    /// server. The log gets its first entry and a first snapshot, for other servers to
    /// begin with. The call can be repeated where it was interrupted.
    ///
    /// # Errors
    /// [`OpenError::NotInFleet`](crate::OpenError::NotInFleet) where the log has a fleet
    /// already, of which the store is not. [`OpenError::Options`](crate::OpenError::Options)
    /// without a pepper: who can read the log could mint keys. [`Error::Log`] where the
    /// log does not answer. Those of [`open`](Options::open).
    ///
    /// See [`fleet`](crate::fleet) for an example.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use gatekey::fleet::{MemoryLog, Settings};
    /// # use gatekey::Options;
    /// # let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// let engine = Options::new().fleet(settings).found_fleet("keys.redb")?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn found_fleet(self, path: impl AsRef<Path>) -> Result<Engine> {
        let path = path.as_ref();
        let settings = self.fleet_settings(path)?;
        let alone = self.clone().without_fleet().open(path)?;
        alone.core.found_fleet(&settings, path)?;
        reached("founded");
        if settings.log.snapshots().map_err(Error::Log)?.is_empty() {
            alone.put_snapshot(&*settings.log)?;
        }
        alone.close()?;
        reached("begun");
        self.open(path)
    }

    /// Opens the store at `path` as a server of the fleet. Where there is no file, it takes
    /// the newest snapshot of the fleet first, and checks all of it.
    ///
    /// # Errors
    /// [`Error::Log`] where the log does not answer, or has no snapshot that can be used.
    /// [`OpenError::WrongPepper`](crate::OpenError::WrongPepper) and the like where the
    /// peppers are not the fleet's. Those of [`open`](Options::open).
    ///
    /// See [`fleet`](crate::fleet) for an example.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use gatekey::fleet::{MemoryLog, Settings};
    /// # use gatekey::Options;
    /// # let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-2");
    /// let engine = Options::new().fleet(settings).join_fleet("keys.redb")?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn join_fleet(self, path: impl AsRef<Path>) -> Result<Engine> {
        let path = path.as_ref();
        let settings = self.fleet_settings(path)?;
        let is_there = path.metadata().is_ok_and(|found| found.len() > 0);
        if !is_there {
            let joining = creating_name(&end_of_links(path));
            let taken = self.take_snapshot(&*settings.log, &joining, path);
            if taken.is_err() {
                let _ = std::fs::remove_file(&joining);
            }
            taken?;
        }
        self.open(path)
    }

    /// Takes the store at `path` out of its fleet, and opens it alone. The fleet goes on
    /// without it. What the store has not applied of the log, it never will. Where its server was
    /// killed, that can be the last seconds of what it had applied: open it once as a server of the
    /// fleet before, and close it.
    ///
    /// # Errors
    /// Those of [`open`](Options::open).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use gatekey::fleet::{MemoryLog, Settings};
    /// # use gatekey::{Engine, Options, Pepper};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// let options = || Ok::<_, gatekey::Error>(Options::new()
    ///     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?));
    /// options()?.create(&path)?.close()?;
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// options()?.fleet(settings).found_fleet(&path)?.close()?;
    /// assert!(options()?.open(&path).is_err());
    /// options()?.leave_fleet(&path)?.close()?;
    /// options()?.open(&path)?.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn leave_fleet(self, path: impl AsRef<Path>) -> Result<Engine> {
        let path = path.as_ref();
        let alone = self.clone().without_fleet().open(path)?;
        let core = &alone.core;
        core.store.set_place(None, core.present(), &**core)?;
        alone.close()?;
        Self {
            fleet: None,
            ..self
        }
        .open(path)
    }

    fn fleet_settings(&self, path: &Path) -> Result<Settings> {
        let refuse = |why: &str| Error::open(Some(path), OpenError::Options(why.to_owned()));
        if self.store.peppers.is_empty() {
            return Err(refuse(
                "a fleet needs a pepper, since its log is kept elsewhere",
            ));
        }
        let settings = self.fleet.clone();
        settings.ok_or_else(|| refuse("a fleet needs a log: call Options::fleet"))
    }

    fn without_fleet(self) -> Self {
        Self {
            fleet: None,
            ignores_fleet: true,
            hook: None,
            ..self
        }
    }

    /// Writes the newest snapshot to a file, and lets it take a name once it was found whole.
    fn take_snapshot(&self, log: &dyn Log, joining: &Path, path: &Path) -> Result<()> {
        let snapshots = log.snapshots().map_err(Error::Log)?;
        let newest = snapshots.last().copied();
        let newest = newest.ok_or_else(|| no_snapshot("it has no snapshot: found the fleet"))?;
        write_parts(log, newest, joining).map_err(|error| match error {
            Failed::Log(error) => Error::Log(error),
            Failed::Io(error) => Error::open(Some(joining), OpenError::io(error)),
        })?;
        reached("taken");
        let alone = self.clone().without_fleet().open(joining)?;
        let report = alone.check()?;
        let place = alone.core.snapshot()?.place()?;
        alone.close()?;
        let is_of_place = place.is_some_and(|place| place.position == newest.position);
        if !report.is_sound() || !is_of_place {
            return Err(no_snapshot(
                "its newest snapshot is not what it was as it was taken",
            ));
        }
        reached("checked");
        let named = std::fs::File::open(joining)
            .and_then(|file| rename_to_new(joining, &file, &end_of_links(path)));
        named.map_err(|error| Error::open(Some(path), OpenError::io(error)))?;
        reached("named");
        Ok(())
    }
}

fn no_snapshot(why: &str) -> Error {
    Error::Log(LogError::new(why))
}

enum Failed {
    Log(LogError),
    Io(std::io::Error),
}

fn write_parts(log: &dyn Log, snapshot: SnapshotInfo, to: &Path) -> Result<(), Failed> {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(to).map_err(Failed::Io)?;
    // While it is locked, no other opening takes it for what a crash has left.
    file.lock().map_err(Failed::Io)?;
    for part in 0..snapshot.parts {
        let bytes = log.part(snapshot.position, part).map_err(Failed::Log)?;
        let gone = || {
            Failed::Log(LogError::new(
                "its snapshot was replaced meanwhile; try again",
            ))
        };
        file.write_all(&bytes.ok_or_else(gone)?)
            .map_err(Failed::Io)?;
        reached("part");
    }
    file.sync_all().map_err(Failed::Io)
}

impl Core {
    /// Lets the file be of a fleet, and founds the log with it. What was begun before is
    /// completed.
    fn found_fleet(&self, settings: &Settings, path: &Path) -> Result<()> {
        let ring = self.store.ring_of_log();
        let fleet = match self.snapshot()?.place()? {
            Some(place) => place.fleet,
            None => {
                if settings.log.founding().map_err(Error::Log)?.is_some() {
                    return Err(Error::open(Some(path), OpenError::NotInFleet));
                }
                let mut fleet = FleetId::default();
                fill_random(&mut fleet)?;
                let (_, place) = entry::found(ring, fleet, Timestamp::MIN)?;
                self.store.set_place(Some(&place), self.present(), self)?;
                reached("placed");
                fleet
            }
        };
        let (first, _) = entry::found(ring, fleet, Timestamp::MIN)?;
        if settings.log.found(&first).map_err(Error::Log)? {
            return Ok(());
        }
        match settings.log.founding().map_err(Error::Log)? {
            Some(founding) if founding == first => Ok(()),
            _ => Err(Error::open(Some(path), OpenError::NotInFleet)),
        }
    }

    /// Begins to follow the log. A log that does not answer is waited for; one of another
    /// fleet is refused.
    pub(in crate::engine) fn start_following(
        self: &Arc<Self>,
        fleet: &Arc<Fleet>,
        path: Option<&Path>,
    ) -> Result<FollowerThread> {
        match fleet.log.founding() {
            Ok(Some(founding)) => {
                let founded = entry::founded(self.store.ring_of_log(), &founding);
                let is_same = |place: Place| place.fleet == fleet.place().fleet;
                if !founded.is_ok_and(is_same) {
                    return Err(Error::open(path, OpenError::NotInFleet));
                }
                if let Err(error) = self.beat(fleet) {
                    fleet.failed(&error);
                }
            }
            Ok(None) => return Err(Error::open(path, OpenError::NotInFleet)),
            Err(error) => fleet.failed(&Error::Log(error)),
        }
        FollowerThread::start(self, fleet)
    }
}

impl Fleet {
    /// Lets the others know that this server is closed, so that nobody waits for it.
    pub(in crate::engine) fn take_leave(&self) {
        // Where the log does not answer, they wait until its lease is over.
        let _ = self.log.forget(&self.node);
    }
}
