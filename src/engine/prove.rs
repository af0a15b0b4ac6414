//! The proof that a token is that of a key: by the digest of the key's record, or, where memory
//! has the record, by the MAC of the token that was proven when it was put there. No other file
//! decides it.

use crate::crypto::mac::{Mac, macs_equal};
use crate::crypto::token::{self, Parts};
use crate::engine::shared::Core;
use crate::memory::registry::Entry;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::model::permissions::Permissions;
use crate::store::hot::HotCopy;
use crate::store::record::View;
use crate::store::snapshot::Snapshot;

/// A record whose token was proven.
pub(super) struct Proven<'a> {
    pub(super) view: View<'a>,
    /// Its keyspace.
    pub(super) entry: &'a Entry,
    /// Of its key's permissions those that the proof stands for and that are not retired.
    pub(super) held: Permissions,
}

impl<'a> Proven<'a> {
    /// `within`: what the proof stands for of the key's permissions.
    #[inline(always)]
    pub(super) fn new(view: View<'a>, entry: &'a Entry, within: Permissions) -> Self {
        let held = view.permissions() & entry.active() & within;
        Self { view, entry, held }
    }
}

impl Core {
    /// The key of a token, in any state, and the snapshot that it was found in;
    /// [`NotFound::Token`] if no key has this token.
    pub(crate) fn find_by_token(
        &self,
        text: &[u8],
    ) -> Result<(KeyId, std::sync::Arc<Snapshot>), Error> {
        loop {
            let snapshot = self.snapshot()?;
            match self.find_by_token_in(text, &snapshot) {
                Err(_) if self.is_replaced(&snapshot) => {}
                found => return found.map(|id| (id, snapshot)),
            }
        }
    }

    fn find_by_token_in(&self, text: &[u8], snapshot: &Snapshot) -> Result<KeyId, Error> {
        let mut copy = HotCopy::new();
        let Some(parts) = token::parse(text) else {
            return self.find_foreign(text, snapshot);
        };
        snapshot.hot(parts.id, &mut copy)?;
        match self.prove_copy(&copy, &parts)? {
            Some(_) => Ok(parts.id),
            None => Err(NotFound::Token.into()),
        }
    }

    /// Proves that a token is that of a record from the file. Without a record it does
    /// the same work, and proves nothing.
    pub(super) fn prove_copy<'a>(
        &'a self,
        copy: &'a HotCopy,
        parts: &Parts<'_>,
    ) -> Result<Option<Proven<'a>>, Error> {
        match copy.view() {
            Some(view) => self.prove(view, parts),
            None => {
                self.ring().refuse_unknown(parts.signed);
                Ok(None)
            }
        }
    }

    /// Proves that a token is that of a record, by its digest.
    fn prove<'a>(&'a self, view: View<'a>, parts: &Parts<'_>) -> Result<Option<Proven<'a>>, Error> {
        match (self.ring()).proves(parts.signed, view.pepper(), view.digest()) {
            true => self.with_prefix(view, parts),
            false => Ok(None),
        }
    }

    /// Proves that a token is that of a record from memory, by its MAC: the same token was proven
    /// by its digest when the record was put there.
    #[inline(always)]
    pub(super) fn prove_again<'a>(
        &'a self,
        view: View<'a>,
        parts: &Parts<'_>,
        mac: &Mac,
    ) -> Result<Option<Proven<'a>>, Error> {
        match macs_equal(mac, view.resident_mac()) {
            true => self.with_prefix(view, parts),
            false => Ok(None),
        }
    }

    /// What is proven of a token that has the secret of a record, if it has the prefix of its
    /// keyspace.
    #[inline(always)]
    fn with_prefix<'a>(
        &'a self,
        view: View<'a>,
        parts: &Parts<'_>,
    ) -> Result<Option<Proven<'a>>, Error> {
        let entry = self.entry_of(&view)?;
        let is_its_prefix = entry.prefix.as_bytes() == parts.prefix;
        Ok(is_its_prefix.then(|| Proven::new(view, entry, Permissions::ALL)))
    }

    /// The keyspace of a key.
    #[inline]
    pub(super) fn entry_of(&self, view: &View<'_>) -> Result<&Entry, Error> {
        self.registry
            .get(view.keyspace())
            .ok_or_else(|| Error::corrupted("keys", view.id(), "its keyspace does not exist"))
    }
}
