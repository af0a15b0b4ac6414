//! Imports, and what finds their keys.

use std::collections::BTreeMap;

use redb::{ReadOnlyTable, ReadableTable};

use super::Walk;
use crate::crypto::digest::{DIGEST_LEN, digests_equal};
use crate::model::error::Error;
use crate::model::hex::Hex;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::import::ImportCounts;
use crate::store::record::KeyRecord;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{FOREIGN, FOREIGN_IDS, IMPORTS, UNSEEN};
use crate::store::tx::import::{digest_of, is_unseen};
use crate::store::{import, read};

/// What the walk over the keys needs of imports, and what it counts for them.
pub(super) struct Imported {
    foreign: ReadOnlyTable<&'static [u8; DIGEST_LEN], u64>,
    unseen: ReadOnlyTable<(u8, u64), ()>,
    ids: ReadOnlyTable<(u8, &'static str), u64>,
    /// Of each import, the keys that name it.
    counted: BTreeMap<u8, ImportCounts>,
}

impl Imported {
    pub(super) fn new(snapshot: &Snapshot) -> Result<Self, Error> {
        Ok(Self {
            foreign: snapshot.table(FOREIGN)?,
            unseen: snapshot.table(UNSEEN)?,
            ids: snapshot.table(FOREIGN_IDS)?,
            counted: BTreeMap::new(),
        })
    }
}

/// A digest in a finding: enough of it to find it again, and not all.
fn shown(digest: &[u8; DIGEST_LEN]) -> String {
    let (start, _) = digest.split_at(8);
    format!("{}...", Hex(start))
}

impl Walk<'_> {
    /// What follows from the record of a key that was imported.
    pub(super) fn imported(
        &mut self,
        key: &KeyRecord,
        foreign_id: Option<&str>,
    ) -> Result<(), Error> {
        if !key.scheme.is_foreign() {
            if key.import != 0 || foreign_id.is_some() {
                self.find(
                    "keys",
                    key.id,
                    "it names an import, and has a token of its own",
                );
            }
            return Ok(());
        }
        let unseen = is_unseen(key);
        let counted = self.imported.counted.entry(key.import).or_default();
        counted.count(key, 1);
        if let Some(digest) = digest_of(key) {
            let named = self.imported.foreign.get(&digest).or_store()?;
            if named.map(|named| named.value()) != Some(key.id.raw()) {
                self.find("foreign", key.id, "it does not name the key");
            }
        }
        let place = (key.import, key.id.raw());
        if unseen && self.imported.unseen.get(place).or_store()?.is_none() {
            self.find("unseen", key.id, "it does not name the key");
        }
        if let Some(id) = foreign_id {
            let named = self.imported.ids.get((key.import, id)).or_store()?;
            if named.map(|named| named.value()) != Some(key.id.raw()) {
                self.find("foreign_ids", key.id, "it does not name the key");
            }
        }
        Ok(())
    }

    /// The imports, and rows without a key.
    pub(super) fn imports(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let imports = snapshot.table(IMPORTS)?;
        let mut counted = std::mem::take(&mut self.imported.counted);
        for entry in imports.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let found = counted.remove(&number).unwrap_or_default();
            let record = import::import(&imports, snapshot.ring(), number);
            if let Some(Some(record)) = self.sound(record)?
                && record.counts != found
            {
                let problem = format!("its keys are {found:?}, it says {:?}", record.counts);
                self.find("imports", number, problem);
            }
        }
        for number in counted.into_keys() {
            self.find("imports", number, "keys name it, and it is missing");
        }
        let key_of = |raw| read::key(&self.keys, snapshot.ring(), KeyId::from_raw(raw));
        let mut wrong = Vec::new();
        for entry in snapshot.table(FOREIGN)?.iter().or_store()? {
            let (digest, raw) = entry.or_store()?;
            let key = key_of(raw.value()).ok().flatten();
            let own = key.and_then(|key| digest_of(&key));
            if !own.is_some_and(|own| digests_equal(&own, digest.value())) {
                wrong.push(("foreign", shown(digest.value())));
            }
        }
        for entry in snapshot.table(UNSEEN)?.iter().or_store()? {
            let (number, raw) = entry.or_store()?.0.value();
            let key = key_of(raw).ok().flatten();
            if !key.is_some_and(|key| key.import == number && is_unseen(&key)) {
                wrong.push(("unseen", KeyId::from_raw(raw).to_string()));
            }
        }
        for entry in snapshot.table(FOREIGN_IDS)?.iter().or_store()? {
            let (place, raw) = entry.or_store()?;
            let (number, id) = place.value();
            let key = key_of(raw.value()).ok().flatten();
            let key = key.filter(|key| key.import == number);
            let cold = key.and_then(|key| read::cold(&self.cold, snapshot.ring(), key.id).ok());
            if cold.and_then(|cold| cold.foreign_id).as_deref() != Some(id) {
                wrong.push(("foreign_ids", format!("{number}/{}", id.escape_debug())));
            }
        }
        for (table, record) in wrong {
            self.find(table, record, "it names no key that agrees");
        }
        Ok(())
    }
}
