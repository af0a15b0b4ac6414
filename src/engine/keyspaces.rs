//! Making and changing keyspaces.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::error::{Error, NotFound, Result};
use crate::model::id::Prefix;
use crate::model::keyspace::{Keyspace, KeyspaceUpdate, NewKeyspace};
use crate::store::snapshot::Snapshot;

/// # Keyspaces
impl Engine {
    /// Creates a keyspace.
    ///
    /// # Errors
    /// [`Refusal::PrefixTaken`](crate::Refusal::PrefixTaken),
    /// [`Refusal::TooManyKeyspaces`](crate::Refusal::TooManyKeyspaces), and
    /// [`Error::Invalid`] for what the builder was given.
    pub fn create_keyspace(&self, new: NewKeyspace) -> Result<Keyspace> {
        self.change(move |tx, actor| change::keyspace::create(tx, &new, actor))
    }

    /// The keyspace with a prefix.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`].
    pub fn keyspace(&self, prefix: impl TryInto<Prefix, Error: Into<Error>>) -> Result<Keyspace> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        self.core.snapshot()?;
        match self.core.registry().find(prefix) {
            Some(keyspace) => Ok(Keyspace::clone(&keyspace)),
            None => Err(NotFound::Keyspace(prefix).into()),
        }
    }

    /// All keyspaces, the oldest first; at most [`bounds::KEYSPACES_MAX`].
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn keyspaces(&self) -> Result<Vec<Keyspace>> {
        self.core.read(Snapshot::keyspaces)
    }

    /// Changes a keyspace. A change that changes nothing is not written.
    ///
    /// Costs a walk over all keys where it becomes single-active.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`],
    /// [`Refusal::OwnerHoldsSeveral`](crate::Refusal::OwnerHoldsSeveral), and
    /// [`Error::Invalid`] for what the update was given.
    pub fn update_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        update: KeyspaceUpdate,
    ) -> Result<Keyspace> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        self.change(move |tx, actor| change::keyspace::update(tx, prefix, &update, actor))
    }
}
