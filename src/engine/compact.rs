//! Compaction.

use std::ops::ControlFlow;

use crate::engine::backup::telling;
use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::store::backup::BackupProgress;

/// The result of a compaction: see [`Engine::compact`].
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
    /// Shrinks the file to the size of its contents. Without it the file only grows,
    /// whatever is purged or trimmed.
    ///
    /// The engine writes the store to a new file beside the old one (the same name with
    /// `.gatekey-rewrite` appended), reads it back, compares it, syncs it, and renames
    /// it over the old one. Verifications continue throughout. Changes wait, and so do
    /// verifications that need a new slice of a quota, for as long as a backup takes:
    /// some seconds for 1M keys. The disk needs room for both files, and the process
    /// the right to write to the directory.
    ///
    /// The file stays locked throughout. A crash at any moment leaves the old file or
    /// the new one under the name, each with every acknowledged change (in a fleet, but for
    /// the last seconds, which the log has). The next opening removes the other one. Owner,
    /// group and permissions are those of the old file, as far as the process may set them.
    /// The disk gets the old file's room back once the last reader of an older state is
    /// done: a listing or a backup.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) where the new file cannot be written or
    /// does not read back as what was written. The old file is as it was then, and
    /// takes changes. Where the last sync of the directory fails, the engine uses the
    /// new file, and [`Engine::health`] reports the failure until the rename is
    /// durable.
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

    /// As [`compact`](Engine::compact), and calls `progress` every few thousand
    /// records. `Break` stops the compaction and leaves the file as it was. `progress`
    /// must make no changes: they would wait for it for ever.
    ///
    /// # Errors
    /// As [`compact`](Engine::compact);
    /// [`Conflict::BackupStopped`](crate::Conflict::BackupStopped) after a `Break`.
    ///
    /// # Panics
    /// Where `progress` panics, after the engine has deleted what it wrote.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use std::ops::ControlFlow;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let compacted = engine.compact_with(|progress| {
    ///     println!("{} of {}", progress.records, progress.records_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// println!("{} bytes before, {} after", compacted.file_bytes_before, compacted.file_bytes);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
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
