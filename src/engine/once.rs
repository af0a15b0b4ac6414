//! Requests that can be asked again.

use crate::change::once::{Attempt, Once, issue_once, rotate_once};
use crate::engine::handle::Engine;
use crate::engine::issuing;
use crate::model::error::{Error, Result};
use crate::model::id::KeyId;
use crate::model::idempotency::IdempotencyKey;
use crate::model::key::{Issued, NewKey, Rotated, Rotation};
use crate::store::tx::Tx;

/// The verbs that can be asked again under an idempotency key: see
/// [`Engine::idempotent`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Idempotent {
    engine: Engine,
    key: IdempotencyKey,
}

impl Engine {
    /// The same engine, for one request that can be asked again where its answer was lost:
    /// on the network, or with a process that ended.
    ///
    /// A token is not stored, so that a lost answer cannot be told again. Instead the key
    /// that it held, which nobody has, is replaced: it is revoked as superseded, and a new
    /// key with the same rights, expiry, limits and quota takes its place, in one
    /// transaction. A key that was rotated stays in the grace that the first call gave it.
    ///
    /// - The key may be in use: it was verified with success, or changed, disabled,
    ///   revoked or purged since. Then nothing is done, and
    ///   [`Conflict::AlreadyAnswered`](crate::Conflict::AlreadyAnswered) names it. It is so
    ///   too where the engine keeps no usage
    ///   ([`Options::usage_interval`](crate::Options::usage_interval)), and cannot know.
    /// - The same idempotency key with another request is
    ///   [`Conflict::AnotherRequest`](crate::Conflict::AnotherRequest). Each actor
    ///   ([`Engine::acting_as`]) has idempotency keys of its own.
    /// - A request that was refused is not remembered.
    ///
    /// A request can be asked again within
    /// [`Options::idempotency_window`](crate::Options::idempotency_window) of the first
    /// answer; after that it is a new one. At most
    /// [`bounds::REQUESTS_MAX`](crate::model::bounds::REQUESTS_MAX) are remembered, the newest,
    /// of which a batch takes one for each 128 keys. Only keyed hashes of the idempotency
    /// key and of the request are stored.
    ///
    /// What is noted of a use lives in memory until the next flush: a crash that comes
    /// right after a key's first use may let it look unused.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for what is no
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

    /// As [`Engine::issue_batch`]. Asked again, all keys of the batch are replaced, or
    /// none.
    ///
    /// # Errors
    /// As [`Engine::issue_batch`], and those of [`Engine::idempotent`], in an
    /// [`Error::Batch`] where they concern one key. A batch of none is not remembered.
    pub fn issue_batch(&self, new: Vec<NewKey>) -> Result<Vec<Issued>> {
        if new.is_empty() {
            return self.engine.issue_batch(new);
        }
        self.run(move |tx, once, actor| issue_once(tx, once, &new, actor))
    }

    /// As [`Engine::rotate`]. Asked again, it gives the key that was rotated as it is by
    /// then.
    ///
    /// # Errors
    /// As [`Engine::rotate`], and those of [`Engine::idempotent`].
    pub fn rotate(&self, key: KeyId, rotation: Rotation) -> Result<Rotated> {
        self.run(move |tx, once, actor| rotate_once(tx, once, key, &rotation, actor))
    }

    /// Attempts a call until what is known of its keys' use is as new as they are. Each
    /// time that it is not, another call under the same key has succeeded.
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
