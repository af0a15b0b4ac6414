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
    /// [`Conflict::PrefixTaken`](crate::Conflict::PrefixTaken),
    /// [`Conflict::TooManyKeyspaces`](crate::Conflict::TooManyKeyspaces), and
    /// [`Error::Invalid`] for what the builder was given.
    pub fn create_keyspace(&self, new: NewKeyspace) -> Result<Keyspace> {
        self.change(move |tx, actor| change::keyspace::create(tx, &new, actor))
    }

    /// Creates a keyspace, or gives the one of that prefix that is there, where it is as
    /// `new` asks: for the start of a server.
    ///
    /// Compared is everything that [`NewKeyspace`] says, but for names that are retired
    /// and for the order of the plans. Where it is there, nothing is changed or written,
    /// however many call it.
    ///
    /// # Errors
    /// [`Conflict::KeyspaceDiffers`](crate::Conflict::KeyspaceDiffers) says in which points
    /// the keyspace is not as asked; [`update_keyspace`](Engine::update_keyspace) changes
    /// it. Else as [`create_keyspace`](Engine::create_keyspace).
    ///
    /// ```
    /// use gatekey::{Engine, Error, NewKeyspace, Conflict};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let new = NewKeyspace::new("acme_live")?.permissions(["read", "write"]);
    /// let created = engine.ensure_keyspace(new.clone())?;
    /// assert_eq!(engine.ensure_keyspace(new)?, created);
    ///
    /// let other = NewKeyspace::new("acme_live")?.permissions(["read"]);
    /// match engine.ensure_keyspace(other) {
    ///     Err(Error::Conflict(Conflict::KeyspaceDiffers { differences, .. })) => {
    ///         assert_eq!(differences[0].field, "permissions");
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn ensure_keyspace(&self, new: NewKeyspace) -> Result<Keyspace> {
        self.change(move |tx, actor| change::keyspace::ensure(tx, &new, actor))
    }

    /// The keyspace with a prefix, or `None`: see [`keyspace`](Engine::keyspace).
    ///
    /// # Errors
    /// See [`Engine`]. An error of the store is never `None`.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// assert!(engine.find_keyspace("acme_live")?.is_none());
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// assert!(engine.find_keyspace("acme_live")?.is_some());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn find_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
    ) -> Result<Option<Keyspace>> {
        match self.keyspace(prefix) {
            Err(Error::NotFound(NotFound::Keyspace(_))) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The keyspace with a prefix. [`find_keyspace`](Engine::find_keyspace) asks whether
    /// there is one.
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

    /// All keyspaces, the oldest first; at most [`bounds::KEYSPACES_MAX`](crate::bounds::KEYSPACES_MAX).
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
    /// [`Conflict::OwnerHoldsSeveral`](crate::Conflict::OwnerHoldsSeveral), and
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
