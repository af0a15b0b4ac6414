//! Suspending and resuming owners.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::error::{Error, Result};
use crate::model::owner::{OwnerPath, OwnerState};

/// # Owners
impl Engine {
    /// Suspends an owner and all below it, segment by segment, at once; a
    /// suspended owner stays as it is. Keys issued below it meanwhile are
    /// suspended too.
    ///
    /// One transaction, whose time goes with the number of keys below the path.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path or a note over [`bounds::NOTE_LEN_MAX`].
    pub fn suspend(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        note: Option<&str>,
    ) -> Result<OwnerState> {
        let owner = owner.try_into().map_err(Into::into)?;
        let note = note.map(str::to_owned);
        self.change(move |tx, actor| change::owner::suspend(tx, &owner, note.as_deref(), actor))
    }

    /// Lifts an owner's suspension; one that is not suspended stays as it is.
    /// What is suspended below it by itself, or with a path above it, stays so.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    pub fn resume(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner = owner.try_into().map_err(Into::into)?;
        self.change(move |tx, actor| change::owner::resume(tx, &owner, actor))
    }

    /// Whether an owner is suspended, by itself or with a path above it. An
    /// owner need not have keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path.
    pub fn owner(&self, owner: impl TryInto<OwnerPath, Error: Into<Error>>) -> Result<OwnerState> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        self.core.read(|snapshot| snapshot.owner(&owner))
    }
}
