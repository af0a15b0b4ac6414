//! Imports, and what finds their keys.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::Tx;
use crate::crypto::digest::{DIGEST_LEN, Digest};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::import::{self, ImportCounts, ImportRecord, Imports};
use crate::store::journal::{Journal, Noted};
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tables::{self, Bytes, FOREIGN, FOREIGN_IDS, IMPORTS, Tagged, UNSEEN};

/// The tables of imports, and the counts of those whose keys have changed; `None` where they
/// cannot be read, and stay as they are until a repair.
pub(super) struct Tables<'t> {
    pub(super) imports: Noted<'t, u8, Bytes>,
    pub(super) foreign: Noted<'t, &'static [u8; DIGEST_LEN], u64>,
    pub(super) unseen: Noted<'t, (u8, u64), ()>,
    pub(super) foreign_ids: Noted<'t, (u8, &'static str), u64>,
    counts: BTreeMap<u8, Option<ImportCounts>>,
}

impl<'t> Tables<'t> {
    /// Once all keys were counted again.
    pub(super) fn forget_counts(&mut self) {
        self.counts.clear();
    }

    pub(super) fn open(txn: &'t WriteTransaction, journal: &'t Journal) -> Result<Self, Error> {
        Ok(Self {
            imports: Noted::open(txn, IMPORTS, journal)?,
            foreign: Noted::open(txn, FOREIGN, journal)?,
            unseen: Noted::open(txn, UNSEEN, journal)?,
            foreign_ids: Noted::open(txn, FOREIGN_IDS, journal)?,
            counts: BTreeMap::new(),
        })
    }
}

/// The digest by which a key is found, if it is found by one.
pub(in crate::store) fn digest_of(key: &KeyRecord) -> Option<Digest> {
    matches!(key.scheme, Scheme::Unseen | Scheme::Seen).then_some(key.digest)
}

/// Whether a key counts as one of its import that was not used yet.
pub(in crate::store) fn is_unseen(key: &KeyRecord) -> bool {
    key.scheme.is_unseen() && matches!(key.phase, Phase::Current)
}

impl Tx<'_> {
    pub(crate) fn imports(&self) -> Result<Imports, Error> {
        import::imports(&self.imports.imports, self.ring)
    }

    /// The import of a name, with its number.
    pub(crate) fn import(&self, name: &str) -> Result<(u8, ImportRecord), Error> {
        let mut imports = self.imports()?.into_iter();
        let found = imports.find(|(_, import)| import.name == name);
        found.ok_or_else(|| NotFound::Import(name.to_owned()).into())
    }

    pub(crate) fn import_numbered(&self, number: u8) -> Result<Option<ImportRecord>, Error> {
        import::import(&self.imports.imports, self.ring, number)
    }

    pub(crate) fn put_import(&mut self, number: u8, record: &ImportRecord) -> Result<(), Error> {
        self.writing();
        let before = Error::or_damaged(self.import_numbered(number))?;
        let ends = |import: &ImportRecord| import.sunset.unwrap_or(Timestamp::MAX);
        if let Ok(Some(before)) = before
            && ends(record) < ends(&before)
        {
            self.taken += 1;
        }
        let bytes = tables::seal(self.ring, Tagged::Import, &[number], record)?;
        let imports = &mut self.imports.imports;
        imports.insert(number, bytes.as_slice()).or_store()?;
        Ok(())
    }

    /// The key that a digest of a token finds.
    pub(crate) fn key_of_digest(&self, digest: &Digest) -> Result<Option<KeyId>, Error> {
        let found = self.imports.foreign.get(digest).or_store()?;
        Ok(found.map(|id| KeyId::from_raw(id.value())))
    }

    /// The key that an import has under an id of its source. The record of the key says so
    /// too: an index alone must not hand a key to a token.
    pub(crate) fn key_of_foreign_id(&self, import: u8, id: &str) -> Result<Option<KeyId>, Error> {
        let found = self.imports.foreign_ids.get((import, id)).or_store()?;
        let Some(key) = found.map(|found| KeyId::from_raw(found.value())) else {
            return Ok(None);
        };
        let says = |why| Err(Error::corrupted("foreign_ids", id, why));
        match self.find_key(key)? {
            Some(record) if record.import == import => {}
            _ => return says("it names no key of its import"),
        }
        match self.cold(key)?.foreign_id.as_deref() == Some(id) {
            true => Ok(Some(key)),
            false => says("it names a key of another id"),
        }
    }

    /// Up to `count` keys of an import that were not used yet.
    pub(crate) fn unseen(&self, import: u8, count: usize) -> Result<Vec<KeyId>, Error> {
        let rows = self.imports.unseen.range((import, 0)..=(import, u64::MAX));
        rows.or_store()?
            .take(count)
            .map(|row| Ok(KeyId::from_raw(row.or_store()?.0.value().1)))
            .collect()
    }

    /// Forgets that a key was not used yet, which cannot be read.
    pub(crate) fn forget_unseen(&mut self, import: u8, key: KeyId) -> Result<(), Error> {
        self.writing();
        self.imports.unseen.remove((import, key.raw())).or_store()?;
        Ok(())
    }

    pub(super) fn put_foreign_id(&mut self, key: &KeyRecord, id: &str) -> Result<(), Error> {
        let ids = &mut self.imports.foreign_ids;
        ids.insert((key.import, id), key.id.raw()).or_store()?;
        Ok(())
    }

    pub(super) fn remove_foreign_id(&mut self, key: &KeyRecord, id: &str) -> Result<(), Error> {
        let ids = &mut self.imports.foreign_ids;
        ids.remove((key.import, id)).or_store()?;
        Ok(())
    }

    /// Moves a key in what finds imported keys, and in the counts of its import.
    pub(super) fn move_foreign(
        &mut self,
        old: Option<&KeyRecord>,
        new: Option<&KeyRecord>,
    ) -> Result<(), Error> {
        let is_foreign = |key: &Option<&KeyRecord>| key.is_some_and(|key| key.scheme.is_foreign());
        if !is_foreign(&old) && !is_foreign(&new) {
            return Ok(());
        }
        let (from, to) = (old.and_then(digest_of), new.and_then(digest_of));
        if from != to {
            if let Some(digest) = &from {
                self.imports.foreign.remove(digest).or_store()?;
            }
            if let (Some(digest), Some(key)) = (&to, new) {
                let foreign = &mut self.imports.foreign;
                foreign.insert(digest, key.id.raw()).or_store()?;
            }
        }
        let places = [old, new].map(|key| key.filter(|key| is_unseen(key)));
        match places {
            [Some(key), None] => self.forget_unseen(key.import, key.id)?,
            [None, Some(key)] => {
                let unseen = &mut self.imports.unseen;
                unseen.insert((key.import, key.id.raw()), ()).or_store()?;
            }
            _ => {}
        }
        for (key, by) in [(old, -1), (new, 1)] {
            let Some(key) = key.filter(|key| key.scheme.is_foreign()) else {
                continue;
            };
            if !self.imports.counts.contains_key(&key.import) {
                let record = Error::or_damaged(self.import_numbered(key.import))?;
                let counts = record.ok().flatten().map(|record| record.counts);
                self.imports.counts.insert(key.import, counts);
            }
            if let Some(Some(counts)) = self.imports.counts.get_mut(&key.import) {
                counts.count(key, by);
            }
        }
        Ok(())
    }

    /// Writes the counts of imports that have changed.
    pub(super) fn write_imports(&mut self) -> Result<(), Error> {
        for (number, counts) in std::mem::take(&mut self.imports.counts) {
            let Some(counts) = counts else { continue };
            if let Ok(Some(record)) = Error::or_damaged(self.import_numbered(number))?
                && record.counts != counts
            {
                self.put_import(number, &ImportRecord { counts, ..record })?;
            }
        }
        Ok(())
    }
}
