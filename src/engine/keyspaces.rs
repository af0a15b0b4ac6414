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
    /// [`Error::Invalid`] for a field of the builder.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// let new = NewKeyspace::new("acme_live")?.permissions(["read", "write"]);
    /// let keyspace = engine.create_keyspace(new)?;
    /// assert_eq!(keyspace.prefix.as_str(), "acme_live");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn create_keyspace(&self, new: NewKeyspace) -> Result<Keyspace> {
        self.change(move |tx, actor| change::keyspace::create(tx, &new, actor))
    }

    /// Returns the keyspace with the prefix of `new` if it exists and is as `new` asks,
    /// and creates it if there is none. Call it when a server starts.
    ///
    /// The call compares everything that [`NewKeyspace`] says, except retired names and
    /// the order of plans. It never changes a keyspace that exists.
    ///
    /// # Errors
    /// [`Conflict::KeyspaceDiffers`](crate::Conflict::KeyspaceDiffers) says which
    /// fields differ; [`update_keyspace`](Engine::update_keyspace) changes them.
    /// Otherwise as [`create_keyspace`](Engine::create_keyspace).
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

    /// Looks a keyspace up by its prefix; `None` if there is none.
    /// [`keyspace`](Engine::keyspace) makes that an error.
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

    /// Returns the keyspace with a prefix. [`find_keyspace`](Engine::find_keyspace)
    /// returns `None` where there is none.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// // Finds a misspelt permission when the server starts.
    /// let write = engine.keyspace("acme_live")?.mask(&["write"])?;
    /// assert_eq!(write.to_string(), "0x2");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// for keyspace in engine.keyspaces()? {
    ///     println!("{} {:?}", keyspace.prefix, keyspace.keys_per_owner);
    /// }
    /// assert_eq!(engine.keyspaces()?.len(), 1);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn keyspaces(&self) -> Result<Vec<Keyspace>> {
        self.core.read(Snapshot::keyspaces)
    }

    /// Changes a keyspace. An update without a difference writes nothing.
    ///
    /// Making it single-active costs a walk over all keys.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`],
    /// [`Conflict::OwnerHoldsSeveral`](crate::Conflict::OwnerHoldsSeveral), and
    /// [`Error::Invalid`] for a field of the update.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace};
    /// use gatekey::KeyspaceUpdate;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let update = KeyspaceUpdate::new().add_permissions(["admin"]).retire_permissions(["write"]);
    /// let keyspace = engine.update_keyspace("acme_live", update)?;
    /// assert!(keyspace.mask(&["admin"]).is_ok() && keyspace.mask(&["write"]).is_err());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn update_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        update: KeyspaceUpdate,
    ) -> Result<Keyspace> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        self.take_away(move |tx, actor| change::keyspace::update(tx, prefix, &update, actor))
    }
}
