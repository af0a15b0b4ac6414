//! Backups.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::store::backup::{self, Backup, BackupProgress};

/// # Backups
impl Engine {
    /// Copies the store, as it is at the call, to a new file. Verifications and changes
    /// continue meanwhile. The copy opens with the same peppers.
    ///
    /// The engine reads the copy back and compares it, record by record, before the
    /// copy gets its name. This is the only safe way to copy an open store: `cp` mixes
    /// pages of several commits, and its copy may not open.
    ///
    /// It has up to two threads of its own read records, and keeps some 8 MiB of them in memory.
    ///
    /// A damaged record is copied as it is, and [`Backup::damaged`] names it: look at
    /// that list before you delete older backups.
    ///
    /// While it runs, the store's file cannot reuse the pages that the copy still
    /// needs, so it grows by the size of the changes made meanwhile.
    ///
    /// # Errors
    /// [`Conflict::TargetExists`](crate::Conflict::TargetExists), and
    /// [`Error::Store`](crate::Error::Store) where the target cannot be written or does
    /// not read back as it was written; nothing is left under its name then. The engine
    /// writes the copy under that name with `.backup` appended, and renames it when it
    /// is complete. A crash can leave that file;
    /// [`Conflict::BackupUnderWay`](crate::Conflict::BackupUnderWay) is the error until
    /// you remove it.
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

    /// As [`backup`](Engine::backup), and calls `progress` every few thousand records.
    /// `Break` stops the backup and deletes what it wrote.
    ///
    /// # Errors
    /// As [`backup`](Engine::backup);
    /// [`Conflict::BackupStopped`](crate::Conflict::BackupStopped) after a `Break`.
    ///
    /// # Panics
    /// Where `progress` panics, after the engine has deleted what it wrote.
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
        let snapshot = self.core.lasting_snapshot()?;
        let cache_bytes = self.core.cache_bytes();
        let backup = telling(&mut progress, |on_progress| {
            backup::backup(snapshot, target.as_ref(), cache_bytes, on_progress)
        })?;
        let counted = backup.at.unix_ms() + 1;
        (self.core.counters.backed_up_ms).fetch_max(counted, Ordering::Relaxed);
        Ok(backup)
    }
}

/// Runs an operation that reports its progress. A panic in the caller's function is not
/// taken for one of the storage engine: it resumes once the operation's files are
/// deleted.
pub(super) fn telling<P, T>(
    progress: &mut dyn FnMut(P) -> ControlFlow<()>,
    work: impl FnOnce(&mut dyn FnMut(P) -> ControlFlow<()>) -> Result<T>,
) -> Result<T> {
    let (mut panic, mut flow) = (None, ControlFlow::Continue(()));
    let done = work(&mut |now| {
        // Where the work began again, it is still stopped.
        if flow.is_continue() {
            flow = catch_unwind(AssertUnwindSafe(|| progress(now))).unwrap_or_else(|payload| {
                panic = Some(payload);
                ControlFlow::Break(())
            });
        }
        flow
    });
    match panic {
        Some(payload) => resume_unwind(payload),
        None => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_again_after_a_stop_stays_stopped() {
        let mut told = 0;
        let mut stop = |()| {
            told += 1;
            ControlFlow::Break(())
        };
        telling(&mut stop, |on_progress| {
            assert!(on_progress(()).is_break());
            assert!(on_progress(()).is_break());
            Ok(())
        })
        .unwrap();
        assert_eq!(told, 1);
    }
}
