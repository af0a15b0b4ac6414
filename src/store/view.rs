//! Reading a file that was not closed before it is repaired, as its last commit left it.
//!
//! The storage engine opens such a file for writing only once it has read it whole: it
//! verifies all checksums, and finds out which pages are free. To read, neither is needed.
//! A commit in two phases is on the disk before it becomes the newest, so no crash leaves
//! half of one. Hence a view: a database that reads alone, beside one that may write, which
//! is to be opened while the view answers. The file's header is shown as that of a file that
//! was closed, and locks within the file are given, since its opener has the whole of it.

use std::sync::Arc;

use redb::{ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, StorageError};

use crate::store::access::Access;
use crate::store::ground::Ground;

/// Opens a view, or gives `None` where the last commit was not made in two phases: then only
/// checksums tell whether it is whole.
pub(super) fn open(
    ground: &Arc<Ground>,
    cache_bytes: usize,
) -> Result<Option<(ReadOnlyDatabase, Access)>, DatabaseError> {
    if !ground.is_left_whole().map_err(StorageError::Io)? {
        return Ok(None);
    }
    let access = Access::view(ground.clone());
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    // A reader in this mode looks for nothing but the newest commit.
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    let db = builder.open_read_only_with_backend(access.clone())?;
    Ok(Some((db, access)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use redb::backends::FileBackend;
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    /// What a kill leaves of a database, after commits of which each changed the one record.
    fn killed(in_two_phases: bool) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let db = Database::create(&path).unwrap();
        for value in 1..=3 {
            let mut txn = db.begin_write().unwrap();
            txn.set_two_phase_commit(in_two_phases);
            txn.open_table(TABLE).unwrap().insert(7, value).unwrap();
            txn.commit().unwrap();
        }
        std::fs::read(&path).unwrap()
    }

    /// A view of a file that cannot be written to.
    fn view_of(bytes: &[u8]) -> Option<(ReadOnlyDatabase, Access)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let file = FileBackend::new(File::open(file.path()).unwrap()).unwrap();
        open(&Arc::new(Ground::new(file)), 1 << 20).unwrap()
    }

    #[test]
    fn a_view_shows_the_last_commit_of_a_file_that_was_not_closed_and_writes_nothing() {
        let bytes = killed(true);
        // The storage engine's mark of a file that was not closed.
        assert_ne!(bytes[9] & 2, 0);
        let (db, _access) = view_of(&bytes).unwrap();
        let table = db.begin_read().unwrap().open_table(TABLE).unwrap();
        assert_eq!(table.get(7).unwrap().unwrap().value(), 3);
    }

    #[test]
    fn a_commit_in_one_phase_which_may_be_half_done_is_not_viewed() {
        assert!(view_of(&killed(false)).is_none());
    }
}
