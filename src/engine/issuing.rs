//! Issuing and changing keys.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::error::{Error, Result};
use crate::model::id::KeyId;
use crate::model::key::{Issued, Key, KeyUpdate, NewKey, Rotated, Rotation};

/// # Issuing and changing keys
impl Engine {
    /// Issues a key and returns it with its token, which cannot be read again.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace);
    /// [`Conflict::OwnerHasKey`](crate::Conflict::OwnerHasKey) and
    /// [`Conflict::OwnerAtCap`](crate::Conflict::OwnerAtCap) as the keyspace and the caps of
    /// the owner and of those above it say;
    /// [`Error::Invalid`] for a field of the request.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let new = NewKey::new("acme_live", "acme/ingest")?.permissions(["read"]);
    /// let issued = engine.issue(new)?;
    /// // Show the token to its owner now: the engine does not store it.
    /// assert!(issued.token.expose().starts_with("acme_live_"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn issue(&self, new: NewKey) -> Result<Issued> {
        only(self.issue_batch(vec![new]))
    }

    /// Issues up to [`bounds::BATCH_MAX`](crate::bounds::BATCH_MAX) keys in one
    /// transaction, all or none, and returns them in the same order.
    ///
    /// # Errors
    /// [`Error::Batch`] says which item was refused, and why. A batch for a
    /// single-active keyspace must not name an owner twice.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// let new = (0..3).map(|n| Ok(NewKey::new("acme_live", format!("acme/device-{n}"))?));
    /// let issued = engine.issue_batch(new.collect::<gatekey::Result<_>>()?)?;
    /// assert_eq!(issued[2].key.owner.as_str(), "acme/device-2");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn issue_batch(&self, new: Vec<NewKey>) -> Result<Vec<Issued>> {
        self.change(move |tx, actor| change::issue::issue(tx, &new, actor))
    }

    /// Changes a key, for every verification that starts after the call has returned.
    /// An update without a difference writes nothing.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key);
    /// [`Conflict::Revoked`](crate::Conflict::Revoked) and
    /// [`Conflict::Expired`](crate::Conflict::Expired), which are final;
    /// [`Error::Invalid`] for a field of the update.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::KeyUpdate;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// let update = KeyUpdate::new().add_permissions(["write"]).name("nightly import");
    /// let key = engine.update(issued.key.id, update)?;
    /// assert_eq!(key.name.as_deref(), Some("nightly import"));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn update(&self, key: KeyId, update: KeyUpdate) -> Result<Key> {
        self.take_away(move |tx, actor| change::update::update(tx, key, &update, actor))
    }

    /// Replaces a key with a new one of the same owner.
    ///
    /// The old key is accepted until the rotation's grace ends, and never past its own
    /// expiry. If the old key had itself replaced a key that is still in its grace, the
    /// call revokes that one.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key);
    /// [`Conflict::Revoked`](crate::Conflict::Revoked),
    /// [`Conflict::Expired`](crate::Conflict::Expired),
    /// [`Conflict::Disabled`](crate::Conflict::Disabled) and
    /// [`Conflict::AlreadyRotated`](crate::Conflict::AlreadyRotated);
    /// [`Conflict::NoRoomForGrace`](crate::Conflict::NoRoomForGrace) where the keyspace counts
    /// a key in its grace;
    /// [`Error::Invalid`] for what the rotation changes, and a grace that is too long.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use std::time::Duration;
    /// use gatekey::Rotation;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let day = Duration::from_secs(86_400);
    /// let rotated = engine.rotate(issued.key.id, Rotation::with_grace(day))?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// assert!(engine.verify(rotated.token.expose())?.is_granted());
    /// assert_eq!(rotated.old.successor, Some(rotated.key.id));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn rotate(&self, key: KeyId, rotation: Rotation) -> Result<Rotated> {
        self.change(move |tx, actor| change::rotate::rotate(tx, key, &rotation, actor))
    }

    /// Disables a key until it is enabled again.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key); [`Conflict::Revoked`](crate::Conflict::Revoked) and
    /// [`Conflict::Expired`](crate::Conflict::Expired).
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.disable(issued.key.id)?;
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn disable(&self, key: KeyId) -> Result<Key> {
        self.take_away(move |tx, actor| change::update::set_disabled(tx, key, true, actor))
    }

    /// Enables a key that was disabled.
    ///
    /// # Errors
    /// As [`disable`](Engine::disable): a revoked key stays revoked.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.disable(issued.key.id)?;
    /// engine.enable(issued.key.id)?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn enable(&self, key: KeyId) -> Result<Key> {
        self.change(move |tx, actor| change::update::set_disabled(tx, key, false, actor))
    }
}

/// The answer of a batch of one.
pub(super) fn only(issued: Result<Vec<Issued>>) -> Result<Issued> {
    let issued = issued.map_err(|error| match error {
        Error::Batch { source, .. } => *source,
        other => other,
    })?;
    issued
        .into_iter()
        .next()
        .ok_or(Error::Internal("an issue gave no key"))
}
