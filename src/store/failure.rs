//! Converts failures of redb and of the file into the crate's errors: no redb error is
//! public, and no panic of redb leaves the store.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::model::error::{Error, StoreFailure};

/// Converts redb's errors into the crate's own.
pub(crate) trait OrStore<T> {
    fn or_store(self) -> Result<T, Error>;
}

impl<T, E: Into<redb::Error>> OrStore<T> for Result<T, E> {
    fn or_store(self) -> Result<T, Error> {
        self.map_err(|error| match error.into() {
            redb::Error::Corrupted(why) => Error::corrupted("file", "-", why),
            // Of rows that were put in order: those that are there are not.
            redb::Error::UnorderedKey => {
                Error::corrupted("file", "-", "a table of it is not in order")
            }
            redb::Error::DatabaseClosed => Error::Closed,
            redb::Error::PreviousIo => Error::Store(StoreFailure::new(
                "the file could not be read or written before; the engine recovers by itself",
                None,
            )),
            other => Error::Store(failure(other)),
        })
    }
}

/// Runs what reads the file. redb does not verify checksums as it reads, and
/// may panic on a page that was damaged from outside: that is an error too.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What is read is behind shared references, and redb's own locks hold a
    // cache: nothing half-changed is left behind.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::corrupted(
            "file",
            "-",
            "the storage engine gave up on a page of it",
        ))
    })
}

pub(crate) fn failure(error: impl Into<redb::Error>) -> StoreFailure {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(io) => Some(io.kind()),
        _ => None,
    };
    StoreFailure::new(error.to_string(), kind)
}

pub(super) fn guarded_any<T>(run: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(run)).map_err(drop)
}

pub(super) fn panicked() -> StoreFailure {
    StoreFailure::new("the transaction panicked", None)
}

/// What is told of an error as the health of a store.
pub(super) fn failure_of(error: &Error) -> StoreFailure {
    match error {
        Error::Store(failure) | Error::OutcomeUnknown(failure) => failure.clone(),
        other => StoreFailure::new(other.to_string(), None),
    }
}

pub(super) fn io_failure(error: &io::Error) -> StoreFailure {
    StoreFailure::new(error.to_string(), Some(error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_kind_of_the_error_below() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failed: Result<(), _> = Err(redb::StorageError::Io(full()));
        let failure = failure(redb::StorageError::Io(full()));
        assert_eq!(failure.io_kind(), Some(io::ErrorKind::StorageFull));
        assert!(matches!(
            failed.or_store(),
            Err(Error::Store(failure)) if failure.io_kind() == Some(io::ErrorKind::StorageFull)
        ));
    }
}
