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
    /// [`Error::Invalid`] for the path, or for a note of more than
    /// [`bounds::NOTE_LEN_MAX`](crate::bounds::NOTE_LEN_MAX) bytes.
    ///
    /// ```
    /// # use gatekey::{Denial, Engine, NewKey, NewKeyspace, Verdict};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.suspend("acme", "unpaid since May")?;
    /// let verdict = engine.verify(issued.token.expose())?;
    /// assert!(matches!(verdict, Verdict::Denied(Denial::Suspended { .. })));
    ///
    /// engine.resume("acme")?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn suspend<'n>(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        note: impl Into<Option<&'n str>>,
    ) -> Result<OwnerState> {
        let owner = owner.try_into().map_err(Into::into)?;
        let note = note.into().map(str::to_owned);
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
