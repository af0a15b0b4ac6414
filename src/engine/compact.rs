//! Compaction.

use std::ops::ControlFlow;

use crate::engine::backup::telling;
use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::store::backup::BackupProgress;

/// What a compaction came to: see [`Engine::compact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Compacted {
    /// The length of the file before, in bytes; 0 for a store in memory.
    pub file_bytes_before: u64,
    /// Its length after.
    pub file_bytes: u64,
}

/// # Compaction
impl Engine {
    /// Makes the file as small as what it holds: a file grows and never shrinks by
    /// itself, whatever is purged or trimmed.
    ///
    /// The store is written to a new file beside its own (`.gatekey-rewrite` behind its
    /// name), read back and compared, and synced; then the new file takes the name of the
    /// old one. Verifications go on all the time. Changes wait, and so do verifications
    /// of keys with quotas that need a new slice, for as long as a backup takes:
    /// some seconds for 1M keys. It needs room for the new file beside the old one, and
    /// the right to write to the directory.
    ///
    /// The file stays locked throughout. A crash at any moment leaves the old file or the
    /// new one under the name, each with everything that was acknowledged; the next
    /// opening removes what is left of the other. Owner, group and permissions are those
    /// of the old file, as far as the process may set them. The disk gets the old file's
    /// room back once the last reader of an older state is done: a listing or a backup.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) where the new file cannot be written or does
    /// not read back as what was written. The old file is as it was then, and takes
    /// changes. Where the directory cannot be synced at last, the new file is used, and
    /// [`Engine::health`] tells of it until it is durable.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// # let engine = Engine::create(&path)?;
    /// engine.purge(std::time::Duration::from_secs(90 * 86_400))?;
    /// let compacted = engine.compact()?;
    /// assert!(compacted.file_bytes <= compacted.file_bytes_before);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn compact(&self) -> Result<Compacted> {
        self.compact_with(|_| ControlFlow::Continue(()))
    }

    /// As [`compact`](Engine::compact), and tells of the progress every few thousand
    /// records. `Break` ends the compaction and leaves the file as it was. Changes wait
    /// for it, so that `progress` must make none.
    ///
    /// # Errors
    /// As [`compact`](Engine::compact);
    /// [`Conflict::BackupStopped`](crate::Conflict::BackupStopped) after a `Break`.
    ///
    /// # Panics
    /// Where `progress` does, after what was written is removed.
    pub fn compact_with(
        &self,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Compacted> {
        let file_bytes_before = self.core.file_bytes();
        telling(&mut progress, |on_progress| self.core.compact(on_progress))?;
        Ok(Compacted {
            file_bytes_before,
            file_bytes: self.core.file_bytes(),
        })
    }
}
