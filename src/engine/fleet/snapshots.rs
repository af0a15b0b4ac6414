//! Snapshots, by which new servers begin and the log stays bounded.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;

use crate::engine::handle::Engine;
use crate::model::error::{Conflict, Error, OpenError, Result};
use crate::model::log::{Log, LogError, PART_LEN_MAX, SnapshotInfo};
use crate::steps::reached;
use crate::store::backup;
use crate::store::file::end_of_links;
use crate::store::leftovers::creating_name;

impl Engine {
    /// Puts a snapshot of the newest state, which is that of one position.
    pub(super) fn put_snapshot(&self, log: &dyn Log) -> Result<SnapshotInfo> {
        let snapshot = self.core.lasting_snapshot()?;
        let place = snapshot.place()?;
        let place = place.ok_or_else(|| Error::open(self.path(), OpenError::NotInFleet))?;
        // What a crash leaves of it, the next opening of the store removes.
        let target = match self.path() {
            Some(path) => creating_name(&end_of_links(path)),
            None => creating_name(&std::env::temp_dir().join("gatekey")),
        };
        let on_progress = &mut |_| {
            reached("copying");
            ControlFlow::Continue(())
        };
        let cache_bytes = self.core.cache_bytes();
        let put = backup::backup(snapshot, &target, cache_bytes, on_progress).and_then(|backup| {
            match backup.damaged_total {
                0 => {
                    reached("copied");
                    put_file(log, place.position, &target)
                }
                _ => {
                    let why = "this server's file is damaged: take the snapshot on another";
                    Err(Error::Log(LogError::new(why)))
                }
            }
        });
        let _ = std::fs::remove_file(&target);
        put
    }

    fn path(&self) -> Option<&Path> {
        self.closer.path.as_deref()
    }
}

fn put_file(log: &dyn Log, position: u64, path: &Path) -> Result<SnapshotInfo> {
    let failed = |error| Error::open(Some(path), OpenError::io(error));
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut parts = 0;
    loop {
        let mut bytes = Vec::new();
        let most = u64::try_from(PART_LEN_MAX).unwrap_or(u64::MAX);
        (&mut file)
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.is_empty() {
            break;
        }
        log.put_part(position, parts, &bytes).map_err(Error::Log)?;
        reached("put");
        parts += 1;
    }
    let snapshot = SnapshotInfo { position, parts };
    reached("all put");
    log.seal_snapshot(&snapshot).map_err(Error::Log)?;
    reached("sealed");
    Ok(snapshot)
}

/// # A fleet
impl Engine {
    /// Puts a snapshot of this server's state into the log, for new servers to begin with,
    /// and so that older entries can be [trimmed](Engine::trim_fleet_log). Changes
    /// continue meanwhile. It writes a copy of the file beside it first.
    ///
    /// # Errors
    /// [`Conflict::Alone`](crate::Conflict::Alone) where the engine is of no fleet;
    /// [`Error::Log`] where the log does not answer; those of [`backup`](Engine::backup).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use gatekey::fleet::{MemoryLog, Settings};
    /// # use gatekey::{Options, Pepper};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// # let options = || Ok::<_, gatekey::Error>(Options::new()
    /// #     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?));
    /// # options()?.create(&path)?.close()?;
    /// # let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1");
    /// # let engine = options()?.fleet(settings).found_fleet(&path)?;
    /// let snapshot = engine.put_fleet_snapshot()?;
    /// engine.trim_fleet_log(snapshot.position)?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn put_fleet_snapshot(&self) -> Result<SnapshotInfo> {
        self.put_snapshot(self.log()?)
    }

    /// The snapshots that the log has, in the order of their positions.
    ///
    /// # Errors
    /// [`Conflict::Alone`](crate::Conflict::Alone) where the engine is of no fleet;
    /// [`Error::Log`] where the log does not answer.
    ///
    /// ```
    /// # use gatekey::{Conflict, Engine, Error};
    /// let engine = Engine::open_in_memory()?;
    /// let alone = engine.fleet_snapshots();
    /// assert!(matches!(alone, Err(Error::Conflict(Conflict::Alone))));
    /// # engine.close()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fleet_snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.log()?.snapshots().map_err(Error::Log)
    }

    /// Removes what the log has up to a position, at most up to its newest snapshot. A
    /// server that has not applied it yet must join anew.
    ///
    /// # Errors
    /// [`Conflict::Alone`](crate::Conflict::Alone) where the engine is of no fleet;
    /// [`Error::Log`] where the log does not answer.
    ///
    /// See [`put_fleet_snapshot`](Engine::put_fleet_snapshot) for an example.
    pub fn trim_fleet_log(&self, through: u64) -> Result<()> {
        let log = self.log()?;
        let snapshots = log.snapshots().map_err(Error::Log)?;
        let newest = snapshots.last().map_or(0, |snapshot| snapshot.position);
        log.trim(through.min(newest)).map_err(Error::Log)
    }

    fn log(&self) -> Result<&dyn Log> {
        let fleet = self.core.fleet.as_deref();
        Ok(&*fleet.ok_or(Conflict::Alone)?.log)
    }
}
