//! Revoking and purging keys.

use crate::change;
use crate::engine::handle::Engine;
use crate::model::audit::Scope;
use crate::model::error::{Error, NotFound, Result};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{Purged, Revocation, Revoked, RevokedMany};
use crate::model::owner::OwnerPath;
use std::time::Duration;

/// # Revoking and purging
impl Engine {
    /// Revokes a key permanently. No verification that starts after the call has
    /// returned grants it.
    ///
    /// A second call changes nothing and returns the answer of the first. If the key
    /// has replaced one that is still in its grace, that one stays accepted: revoke it
    /// too, or revoke the owner.
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
        revocation.validate()?;
        self.take_away(move |tx, actor| change::revoke::revoke(tx, key, &revocation, actor))
    }

    /// Revokes the key of a token, in any state: for a leak report, or a client that
    /// returns its key.
    ///
    /// # Errors
    /// [`NotFound::Token`] for an unknown id or a wrong secret; the error does not
    /// reveal whether the id exists.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Reason;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// let leaked = issued.token.expose();
    /// let revoked = engine.revoke_token(leaked, Reason::KeyCompromise)?;
    /// assert_eq!(revoked.key, issued.key.id);
    /// assert!(!engine.verify(leaked)?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn revoke_token(
        &self,
        token: impl AsRef<[u8]>,
        revocation: impl Into<Revocation>,
    ) -> Result<Revoked> {
        let revocation = revocation.into();
        revocation.validate()?;
        // Before the queue of writers, so that a caller without a valid token cannot
        // fill it. The proof stays valid: an id has one secret for ever.
        let key = self.core.find_newest_by_token(token.as_ref())?;
        let revoked =
            self.take_away(move |tx, actor| change::revoke::revoke(tx, key, &revocation, actor));
        revoked.map_err(|error| match error {
            // Purged meanwhile.
            Error::NotFound(NotFound::Key(_)) => NotFound::Token.into(),
            error => error,
        })
    }

    /// Revokes all keys of an owner and of all owners below it, at once. Keys issued or
    /// imported later are not affected. The audit trail names each key that was revoked, a
    /// thousand an entry.
    ///
    /// One transaction, in which the records of up to 256 keys change. Those of more follow in
    /// later transactions, by the engine's own thread, with the audit entries that name the
    /// keys: the revocation takes effect for all keys with the call, which takes as long for a
    /// million keys as for 257, and does not count them (see [`RevokedMany`]). Other calls are
    /// slower meanwhile: see [`suspend`](Self::suspend). An engine without a thread of its own (see
    /// [`Options::usage_interval`](crate::Options::usage_interval)) does that work before the
    /// call returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the path or the note. An owner without keys is
    /// not an error.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Reason;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// // Also the keys of acme/ingest, which is below acme.
    /// let revoked = engine.revoke_owner("acme", Reason::Cessation)?;
    /// assert_eq!(revoked.newly, 1);
    /// assert!(!engine.verify(issued.token.expose())?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn revoke_owner(
        &self,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let owner: OwnerPath = owner.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.validate()?;
        let at_once = self.core.keys_at_once();
        self.change_many(&Scope::Owner(owner.clone()), false, move |tx, actor| {
            change::revoke::revoke_owner(tx, &owner, &revocation, at_once, actor)
        })
    }

    /// Revokes all keys of a keyspace, at once. Keys issued or imported later are not
    /// affected. The audit trail names each key that was revoked, a thousand an entry. The
    /// records of more than 256 keys follow, as those of an owner:
    /// see [`revoke_owner`](Self::revoke_owner).
    ///
    /// # Errors
    /// [`NotFound::Keyspace`], and [`Error::Invalid`] for the note.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Reason;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// let revoked = engine.revoke_keyspace("acme_live", Reason::KeyCompromise)?;
    /// assert_eq!((revoked.keys, revoked.newly, revoked.damaged), (1, 1, 0));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn revoke_keyspace(
        &self,
        prefix: impl TryInto<Prefix, Error: Into<Error>>,
        revocation: impl Into<Revocation>,
    ) -> Result<RevokedMany> {
        let prefix = prefix.try_into().map_err(Into::into)?;
        let revocation = revocation.into();
        revocation.validate()?;
        let at_once = self.core.keys_at_once();
        self.change_many(&Scope::Keyspace(prefix), false, move |tx, actor| {
            change::revoke::revoke_keyspace(tx, prefix, &revocation, at_once, actor)
        })
    }

    /// Removes the keys that were revoked or expired more than `age` ago, and returns
    /// how many. Their tokens are unknown from then on; their audit entries stay. The
    /// call skips and counts damaged records.
    ///
    /// An age of zero keeps keys that ended in the current millisecond.
    ///
    /// Each transaction removes a thousand keys, so that other changes need not wait.
    /// After an error, the keys removed so far stay removed.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use std::time::Duration;
    /// use gatekey::Reason;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// engine.revoke(issued.key.id, Reason::Cessation)?;
    /// let purged = engine.purge(Duration::from_secs(90 * 86_400))?;
    /// assert_eq!(purged.keys, 0, "it was revoked just now");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn purge(&self, age: Duration) -> Result<Purged> {
        self.core.bring_ends_up()?;
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
