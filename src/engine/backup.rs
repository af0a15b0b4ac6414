//! Backups.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::store::backup::{self, Backup, BackupProgress, OnProgress};

/// # Backups
impl Engine {
    /// Copies the store, as it is at the call, to a file that does not exist
    /// yet; verifications and changes go on meanwhile. The copy opens with the
    /// same peppers.
    ///
    /// The copy is read back and compared, record by record, before it gets its
    /// name. Copy a store that is open in this way alone: what `cp` makes of it holds
    /// pages of several commits and may not open.
    ///
    /// A record that is damaged is copied as it is, and named in [`Backup::damaged`]: look
    /// at it before you let older backups go.
    ///
    /// While it runs, the store's file does not use again the pages that the copy
    /// still needs, and grows by what is changed meanwhile.
    ///
    /// # Errors
    /// [`Conflict::TargetExists`](crate::Conflict::TargetExists), and
    /// [`Error::Store`](crate::Error::Store) where the target cannot be written or does
    /// not read back as what was written; nothing is left
    /// under its name then. Until it is whole, the copy is written under that name
    /// with `.backup` behind it; one that a crash has left there is
    /// [`Conflict::BackupUnderWay`](crate::Conflict::BackupUnderWay) until it is removed.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, target) = (dir.path().join("keys.redb"), dir.path().join("monday.redb"));
    /// let engine = Engine::create(&path)?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let backup = engine.backup(&target)?;
    /// assert_eq!(backup.audit_seq, 1);
    /// assert_eq!(backup.damaged_total, 0, "{:?}", backup.damaged);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(target, |_| ControlFlow::Continue(()))
    }

    /// As [`backup`](Engine::backup), and tells of the progress every few thousand
    /// records. `Break` ends the backup and leaves nothing of it.
    ///
    /// # Errors
    /// As [`backup`](Engine::backup);
    /// [`Conflict::BackupStopped`](crate::Conflict::BackupStopped) after a `Break`.
    ///
    /// # Panics
    /// Where `progress` does, after what was written is removed.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// use std::ops::ControlFlow;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let target = dir.path().join("monday.redb");
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.backup_with(&target, |progress| {
    ///     println!("{} of {}", progress.records, progress.records_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn backup_with(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        let snapshot = self.core.snapshot()?;
        let cache_bytes = self.core.cache_bytes();
        telling(&mut progress, |on_progress| {
            backup::backup(snapshot, target.as_ref(), cache_bytes, on_progress)
        })
    }
}

/// Does what tells of its progress. A panic of the caller's is not one of the storage
/// engine's: it goes on once what was begun is cleared away.
pub(super) fn telling<T>(
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
    work: impl FnOnce(OnProgress<'_>) -> Result<T>,
) -> Result<T> {
    let mut panic = None;
    let done = work(&mut |now| {
        catch_unwind(AssertUnwindSafe(|| progress(now))).unwrap_or_else(|payload| {
            panic = Some(payload);
            ControlFlow::Break(())
        })
    });
    match panic {
        Some(payload) => resume_unwind(payload),
        None => done,
    }
}
