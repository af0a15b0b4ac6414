//! Revoking and purging keys.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::error::{Error, NotFound, Result};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{Purged, Revocation, Revoked, RevokedMany};
use crate::model::owner::OwnerPath;
use std::time::Duration;

/// # Revoking and purging
impl Engine {
    /// Revokes a key, for good. No verification that starts after the call has
    /// returned grants it.
    ///
    /// Revoked again, it gives the same answer as the first time, and changes
    /// nothing. A key that it has replaced, and that is still in its grace, stays
    /// accepted: revoke that one too, or the owner.
    ///
    /// # Errors
    /// [`NotFound::Key`], and [`Invalid::Malformed`](crate::Invalid::Malformed) for the note.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Reason, Revocation};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let leaked = Revocation::new(Reason::KeyCompromise).note("seen in a public repository");
    /// engine.revoke(issued.key.id, leaked)?;
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn revoke(&self, key: KeyId, revocation: impl Into<Revocation>) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| change::revoke::revoke(tx, key, &revocation, actor))
    }

    /// Revokes the key whose token is at hand, whatever its state: for a leak
    /// report, or a client that gives its key back.
    ///
    /// # Errors
    /// [`NotFound::Token`] where the secret is not right; nothing is told of
    /// whether the id exists.
    pub fn revoke_token(
        &self,
        token: impl AsRef<[u8]>,
        revocation: impl Into<Revocation>,
    ) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.check()?;
        // Outside the writers' line, so that nobody without a token can stand in it. What
        // is proven stays true: an id has one secret for ever.
        let (key, _) = self.core.find_by_token(token.as_ref())?;
        let revoked =
            self.change(move |tx, actor| change::revoke::revoke(tx, key, &revocation, actor));
        revoked.map_err(|error| match error {
            // Purged meanwhile.
            Error::NotFound(NotFound::Key(_)) => NotFound::Token.into(),
            error => error,
        })
    }

    /// Revokes all keys of an owner and of all below it, in one transaction.
    /// Keys issued to it later are not touched. The audit trail names each key that was
    /// revoked, a thousand an entry.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path or the note. An owner without keys is
    /// not an error.
    pub fn revoke_owner(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let owner = owner.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| change::revoke::revoke_owner(tx, &owner, &revocation, actor))
    }

    /// Revokes all keys of a keyspace, in one transaction. Keys issued in it
    /// later are not touched. The audit trail names each key that was revoked, a
    /// thousand an entry.
    ///
    /// # Errors
    /// [`NotFound::Keyspace`], and [`Error::Invalid`] for the note.
    pub fn revoke_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.check()?;
        self.change(move |tx, actor| {
            change::revoke::revoke_keyspace(tx, prefix, &revocation, actor)
        })
    }

    /// Removes the keys that were revoked or expired more than `age` ago, and
    /// says how many. Their tokens are unknown from then on, their audit
    /// entries stay. What is damaged is passed over and counted.
    ///
    /// With an age of zero, keys that ended in the current millisecond are kept.
    ///
    /// Removes a thousand keys a transaction, so that other changes are not
    /// kept waiting; after an error, what was removed so far stays removed.
    ///
    /// # Errors
    /// See [`Engine`].
    pub fn purge(&self, age: Duration) -> Result<Purged> {
        let over_before = self.core.now().saturating_sub(age);
        let mut purged = Purged::default();
        let mut after = None;
        loop {
            let step =
                self.change(move |tx, actor| change::purge::purge(tx, over_before, after, actor))?;
            purged.keys += step.purged.keys;
            purged.damaged += step.purged.damaged;
            after = step.reached;
            if after.is_none() {
                return Ok(purged);
            }
        }
    }
}
