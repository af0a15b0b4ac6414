//! What the store holds as a whole.

use crate::crypto::digest::NO_PEPPER;
use crate::engine::handle::Engine;
use crate::engine::looking::validate_limit;
use crate::model::audit::AuditEntry;
use crate::model::error::Result;
use crate::model::id::KeyId;
use crate::model::stats::PepperKeys;
use crate::store::snapshot::Snapshot;

/// # Peppers
impl Engine {
    /// Lists the peppers under which keys are hashed, the newest first, with the number
    /// of keys of each. You can leave a pepper out of the options once its count is 0;
    /// before that, opening fails with
    /// [`OpenError::MissingPepper`](crate::OpenError::MissingPepper). The list has the
    /// pepper that signs even at a count of 0. It is empty for a store without a
    /// pepper.
    ///
    /// A revoked key needs no pepper and is not counted, from when its record says that it is
    /// revoked: see [`revoke_owner`](Engine::revoke_owner). A key that is expired or out
    /// of its grace counts until it is purged.
    /// [`KeyFilter::pepper`](crate::KeyFilter::pepper) lists the keys of one. The call
    /// reads one record.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{NewKey, NewKeyspace, Options, Pepper};
    /// use gatekey::KeyFilter;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// # let pepper = |id| Pepper::new(id, format!("pepper {id} from a secret manager"));
    /// # let engine = Options::new().pepper(pepper(1)?).create(&path)?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// # engine.close()?;
    /// let engine = Options::new().pepper(pepper(1)?).pepper(pepper(2)?).open(&path)?;
    /// let counts: Vec<_> = engine.peppers()?.iter().map(|of| (of.pepper, of.keys)).collect();
    /// assert_eq!(counts, [(2, 0), (1, 1)]);
    /// // Whose clients are to be asked to use, or to rotate, their key:
    /// for key in engine.keys(KeyFilter::new().pepper(1)) {
    ///     println!("{} of {}", key.as_ref().unwrap().id, key.as_ref().unwrap().owner);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn peppers(&self) -> Result<Vec<PepperKeys>> {
        let state = self.core.read(Snapshot::state)?;
        let signing = self.core.signing_pepper();
        let mut peppers: Vec<_> = state
            .digests
            .iter()
            .filter(|(id, keys)| *keys > 0 && *id != signing)
            .map(|(id, keys)| (*id, *keys))
            .collect();
        let of_signing = state.digests.iter().find(|(id, _)| *id == signing);
        peppers.push((signing, of_signing.map_or(0, |(_, keys)| *keys)));
        peppers.retain(|(id, _)| *id != NO_PEPPER);
        peppers.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let told = |(pepper, keys)| PepperKeys {
            pepper,
            keys,
            is_signing: pepper == signing,
        };
        Ok(peppers.into_iter().map(told).collect())
    }
}

/// # The history of a key
impl Engine {
    /// Returns up to `limit` audit entries about a key, at most
    /// [`bounds::PAGE_MAX`](crate::model::bounds::PAGE_MAX), from position `from` on
    /// (0: from the first), in their order: the entries that name it, and those that
    /// suspended, resumed or revoked its owner, or a path above, while it lived. To continue,
    /// ask from the position after the last. The list is empty for a key without
    /// entries.
    ///
    /// The call skips a damaged entry; [`check`](Engine::check) names it. A purge keeps
    /// the history. A trim removes entries from it, except the revocation of a key that
    /// is not purged yet.
    ///
    /// The call reads the key's entries by an index, and up to about five thousand of
    /// the newest entries of the trail, which the index may not have yet. A
    /// [`flush`](Engine::flush) adds them; the engine flushes by itself unless it keeps
    /// no usage. In a store of an earlier version, the first flushes build the index.
    ///
    /// # Errors
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a limit of 0,
    /// [`Invalid::TooMany`](crate::Invalid::TooMany) for one over the maximum.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace, Reason};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let key = engine.issue(NewKey::new("acme_live", "acme")?)?.key.id;
    /// engine.suspend("acme", Some("unpaid"))?;
    /// engine.revoke(key, Reason::Cessation)?;
    /// let history = engine.history(key, 0, 100)?;
    /// assert_eq!(history.len(), 3);
    /// assert!(history[1].to_string().ends_with(r#"suspended with 1 keys, note "unpaid""#));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn history(&self, key: KeyId, from: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        validate_limit(limit)?;
        self.core
            .read(|snapshot| snapshot.history(key, from, limit))
    }
}
