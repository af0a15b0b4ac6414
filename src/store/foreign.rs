//! Finding the key of a foreign token.
//!
//! A key is found by the digest of its token, in the index `foreign`. The index has no tags:
//! what it names is proven by the digest in the key's own record, which has one.

use crate::crypto::digest::Digest;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::{OrStore, guarded};
use crate::store::hot::HotCopy;
use crate::store::import::{Imports, imports, tries};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{FOREIGN, IMPORTS};

/// What a text is that is no token of gatekey's own.
pub(crate) enum Foreign<'t> {
    /// No import has tokens of this shape.
    Shapeless,
    /// It may be a token of another system, and no key has it.
    Unknown,
    /// It is the token of a key.
    Found(Found<'t>),
}

/// The key of a token of another system.
pub(crate) struct Found<'t> {
    pub(crate) id: KeyId,
    /// The part of the token that is hashed.
    pub(crate) part: &'t [u8],
    /// The digest that its record is to have.
    pub(crate) digest: Digest,
    pub(crate) pepper: u8,
    /// From when on it is revoked if it was not used before.
    pub(crate) sunset: Option<Timestamp>,
}

impl Snapshot {
    /// The imports as of this commit: read once, where a text asks for them.
    pub(crate) fn imports(&self) -> Result<&Imports, Error> {
        let read = || guarded(|| imports(&self.table(IMPORTS)?, self.ring()));
        self.imports
            .get_or_init(read)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Whether a text of another form may be the token of a key: an import has keys, or it
    /// cannot be read which ones there are.
    pub(crate) fn may_have_foreign(&self) -> bool {
        let has_keys = |imports: &Imports| imports.values().any(|it| it.counts.keys > 0);
        self.imports().map_or(true, has_keys)
    }

    /// Finds the key of a token of another system and copies its record, whose digest the
    /// caller compares with that of the token. `begin` is asked first, where the text has the
    /// shape of an import.
    pub(crate) fn foreign<'t>(
        &self,
        text: &'t [u8],
        into: &mut HotCopy,
        begin: &mut impl FnMut() -> Result<(), Error>,
    ) -> Result<Foreign<'t>, Error> {
        let imports = self.imports()?;
        let tries = tries(imports, text);
        if tries.is_empty() {
            return Ok(Foreign::Shapeless);
        }
        begin()?;
        let ring = self.ring();
        for (part, known) in tries {
            for pepper in ring.peppers() {
                let Some(digest) = known.digest(ring, pepper) else {
                    continue;
                };
                let id = guarded(|| {
                    let found = self.table(FOREIGN)?.get(&digest).or_store()?;
                    Ok(found.map(|id| KeyId::from_raw(id.value())))
                })?;
                let Some(id) = id else { continue };
                self.hot(id, into)?;
                let Some(view) = into.view() else { continue };
                // The text may have the shape of another import only.
                let Some(import) = imports.get(&view.import()) else {
                    continue;
                };
                if import.shape.part_of(text) != Some(part) {
                    continue;
                }
                let sunset = import.sunset.filter(|_| view.scheme().is_unseen());
                return Ok(Foreign::Found(Found {
                    id,
                    part,
                    digest,
                    pepper,
                    sunset,
                }));
            }
        }
        Ok(Foreign::Unknown)
    }
}
