//! Requests that a caller can repeat under an idempotency key.

use crate::change::once::{Attempt, Once, issue_once, rotate_once};
use crate::engine::handle::Engine;
use crate::engine::issuing;
use crate::model::error::{Error, Result};
use crate::model::id::KeyId;
use crate::model::idempotency::IdempotencyKey;
use crate::model::key::{Issued, NewKey, Rotated, Rotation};
use crate::store::tx::Tx;

/// The verbs that a caller can repeat under an idempotency key: see
/// [`Engine::idempotent`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Idempotent {
    engine: Engine,
    key: IdempotencyKey,
}

impl Engine {
    /// Makes one request repeatable, for a caller that may lose the answer: on the
    /// network, or with a process that exits.
    ///
    /// The engine stores no token, so it cannot repeat a lost answer. Instead it
    /// replaces the key of that answer, whose token nobody has: in one transaction it
    /// revokes that key as superseded, and issues a new key with the same rights,
    /// expiry, limits and quota. A key that was rotated keeps the grace that the first
    /// call gave it.
    ///
    /// - The key may be in use if it was granted, changed, disabled, revoked or purged
    ///   since. Then the call does nothing, and
    ///   [`Conflict::AlreadyAnswered`](crate::Conflict::AlreadyAnswered) names the key.
    ///   The same holds where the engine keeps no usage
    ///   ([`Options::usage_interval`](crate::Options::usage_interval)), and cannot
    ///   know.
    /// - The same idempotency key with a different request is
    ///   [`Conflict::AnotherRequest`](crate::Conflict::AnotherRequest). Each actor
    ///   ([`Engine::acting_as`]) has idempotency keys of its own.
    /// - The engine does not remember a request that it refused.
    ///
    /// A caller can repeat a request within
    /// [`Options::idempotency_window`](crate::Options::idempotency_window) of the first
    /// answer; after that it is a new request. The store remembers at most
    /// [`bounds::REQUESTS_MAX`](crate::model::bounds::REQUESTS_MAX) requests, the
    /// newest; a batch counts as one for each 128 keys. It stores only keyed hashes of
    /// the idempotency key and of the request.
    ///
    /// Notes of use are in memory until the next flush: a crash right after a key's
    /// first use may make the key look unused.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a malformed
    /// [`IdempotencyKey`].
    ///
    /// ```
    /// # use gatekey::{Engine, Error, NewKey, NewKeyspace, Conflict, Rotation};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # let day = std::time::Duration::from_secs(86_400);
    /// let rotate = || {
    ///     let request = engine.acting_as("alice")?.idempotent("8e03978e-40d5-43dd-bc93")?;
    ///     request.rotate(issued.key.id, Rotation::with_grace(day))
    /// };
    /// let lost = rotate()?;
    /// let again = rotate()?;
    /// assert!(!engine.verify(lost.token.expose())?.is_granted());
    /// assert!(engine.verify(again.token.expose())?.is_granted());
    /// // It arrived, and is in use.
    /// assert!(matches!(rotate(), Err(Error::Conflict(Conflict::AlreadyAnswered { .. }))));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn idempotent(
        &self,
        key: impl TryInto<IdempotencyKey, Error: Into<Error>>,
    ) -> Result<Idempotent> {
        Ok(Idempotent {
            engine: self.clone(),
            key: key.try_into().map_err(Into::into)?,
        })
    }
}

impl Idempotent {
    /// As [`Engine::issue`].
    ///
    /// # Errors
    /// As [`Engine::issue`], and those of [`Engine::idempotent`].
    pub fn issue(&self, new: NewKey) -> Result<Issued> {
        issuing::only(self.issue_batch(vec![new]))
    }

    /// As [`Engine::issue_batch`]. A repeated call replaces all keys of the batch, or
    /// none.
    ///
    /// # Errors
    /// As [`Engine::issue_batch`], and those of [`Engine::idempotent`], in an
    /// [`Error::Batch`] where they concern one key. The engine does not remember an
    /// empty batch.
    pub fn issue_batch(&self, new: Vec<NewKey>) -> Result<Vec<Issued>> {
        if new.is_empty() {
            return self.engine.issue_batch(new);
        }
        self.run(move |tx, once, actor| issue_once(tx, once, &new, actor))
    }

    /// As [`Engine::rotate`]. A repeated call returns the rotated key as it is by then.
    ///
    /// # Errors
    /// As [`Engine::rotate`], and those of [`Engine::idempotent`].
    pub fn rotate(&self, key: KeyId, rotation: Rotation) -> Result<Rotated> {
        self.run(move |tx, once, actor| rotate_once(tx, once, key, &rotation, actor))
    }

    /// Retries a call until the known use of its keys is as new as they are. Each retry
    /// means that another call under the same idempotency key has succeeded.
    fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx<'_>, &Once, Option<&str>) -> Result<Attempt<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        let core = &self.engine.core;
        let work = std::sync::Arc::new(work);
        let mut once = Once {
            key: self.key.clone(),
            window: core.idempotency_window(),
            knows_uses: core.tracks_usage(),
            uses_written: None,
        };
        loop {
            let attempt = self.engine.change({
                let (work, once) = (work.clone(), once.clone());
                move |tx, actor| work(tx, &once, actor)
            })?;
            match attempt {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::WriteUses(seq) => {
                    core.flush()?;
                    once.uses_written = Some(seq);
                }
            }
        }
    }
}
