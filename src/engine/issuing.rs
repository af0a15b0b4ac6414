//! Issuing and changing keys.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::error::{Error, Result};
use crate::model::id::KeyId;
use crate::model::key::{Issued, Key, KeyUpdate, NewKey, Rotated, Rotation};

/// # Issuing and changing keys
impl Engine {
    /// Issues a key and gives its token, which cannot be seen again.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`](crate::NotFound::Keyspace);
    /// [`Conflict::OwnerHasKey`](crate::Conflict::OwnerHasKey) and
    /// [`Conflict::OwnerAtCap`](crate::Conflict::OwnerAtCap) as the keyspace says;
    /// [`Error::Invalid`] for what the request holds.
    pub fn issue(&self, new: NewKey) -> Result<Issued> {
        only(self.issue_batch(vec![new]))
    }

    /// Issues up to [`bounds::BATCH_MAX`](crate::bounds::BATCH_MAX) keys in one transaction, all or none,
    /// and gives them in the same order.
    ///
    /// # Errors
    /// [`Error::Batch`] names the item that was refused, and why. An owner may
    /// not stand twice in a batch for a single-active keyspace.
    pub fn issue_batch(&self, new: Vec<NewKey>) -> Result<Vec<Issued>> {
        self.change(move |tx, actor| change::issue::issue(tx, &new, actor))
    }

    /// Changes a key: wider or narrower, from the instant that the call returns.
    /// A change that changes nothing is not written.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key); [`Conflict::Revoked`](crate::Conflict::Revoked) and
    /// [`Conflict::Expired`](crate::Conflict::Expired), which are final;
    /// [`Error::Invalid`] for what the update holds.
    pub fn update(&self, key: KeyId, update: KeyUpdate) -> Result<Key> {
        self.change(move |tx, actor| change::update::update(tx, key, &update, actor))
    }

    /// Replaces a key by a new one of the same owner.
    ///
    /// The old key is accepted until the rotation's grace ends, and never past
    /// its own expiry. If it had itself replaced a key that is still in its
    /// grace, that one is revoked now.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key); [`Conflict::Revoked`](crate::Conflict::Revoked),
    /// [`Conflict::Expired`](crate::Conflict::Expired),
    /// [`Conflict::Disabled`](crate::Conflict::Disabled) and
    /// [`Conflict::AlreadyRotated`](crate::Conflict::AlreadyRotated);
    /// [`Error::Invalid`] for what the rotation changes.
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
    pub fn disable(&self, key: KeyId) -> Result<Key> {
        self.change(move |tx, actor| change::update::set_disabled(tx, key, true, actor))
    }

    /// Enables a key that was disabled.
    ///
    /// # Errors
    /// As [`disable`](Engine::disable): what was revoked stays revoked.
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
