//! Imports, and what finds their keys, made again from the records of keys.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Mender;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::import::{ForeignHash, Shape};
use crate::store::failure::OrStore;
use crate::store::import::{ImportCounts, ImportRecord};
use crate::store::tx::import::{digest_of, is_unseen};

impl Mender<'_, '_> {
    pub(super) fn imports(&mut self) -> Result<(), Error> {
        let mut counted: BTreeMap<u8, ImportCounts> = BTreeMap::new();
        let (mut foreign, mut unseen) = (BTreeMap::new(), BTreeSet::new());
        let mut ids = BTreeMap::new();
        self.tx.each_key(|key| {
            if !key.scheme.is_foreign() {
                return Ok(());
            }
            counted.entry(key.import).or_default().count(&key, 1);
            if let Some(digest) = digest_of(&key) {
                foreign.insert(digest, key.id.raw());
            }
            if is_unseen(&key) {
                unseen.insert((key.import, key.id.raw()));
            }
            // The cold records were mended before.
            if let Some(id) = self.tx.cold(key.id)?.foreign_id {
                ids.insert((key.import, id), key.id.raw());
            }
            Ok(())
        })?;
        self.import_records(counted)?;
        self.foreign(foreign)?;
        self.unseen(unseen)?;
        self.foreign_ids(ids)
    }

    /// An import that cannot be read becomes one that has no token: what its tokens look like
    /// is not known any more, and its keys are not found by them.
    fn import_records(&mut self, mut counted: BTreeMap<u8, ImportCounts>) -> Result<(), Error> {
        let mut numbers: BTreeSet<u8> = counted.keys().copied().collect();
        for entry in self.tx.imports.imports.iter().or_store()? {
            numbers.insert(entry.or_store()?.0.value());
        }
        for number in numbers {
            let counts = counted.remove(&number).unwrap_or_default();
            let (record, done) = match Error::or_damaged(self.tx.import_numbered(number))? {
                Ok(Some(record)) if record.counts == counts => continue,
                Ok(Some(record)) => (record, "its keys are counted again"),
                Ok(None) | Err(_) => (
                    ImportRecord {
                        name: format!("lost-{number}"),
                        hash: ForeignHash::Other,
                        shape: Shape {
                            after_bar: false,
                            starts_with: String::new(),
                            len_min: 0,
                            len_max: 0,
                        },
                        sunset: None,
                        created_at: Timestamp::MIN,
                        created_by: None,
                        counts,
                    },
                    "it cannot be read: begun anew, and finds no key by its token",
                ),
            };
            let record = ImportRecord { counts, ..record };
            self.tx.put_import(number, &record)?;
            self.note("imports", number, done);
        }
        // The counts are right now, whatever this repair has done before.
        self.tx.imports.forget_counts();
        Ok(())
    }

    fn foreign(&mut self, mut right: BTreeMap<[u8; 32], u64>) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for entry in self.tx.imports.foreign.iter().or_store()? {
            let (digest, id) = entry.or_store()?;
            match right.remove(digest.value()) {
                Some(own) if own == id.value() => {}
                own => wrong.push((*digest.value(), own)),
            }
        }
        let missing = right.into_iter().map(|(digest, id)| (digest, Some(id)));
        for (digest, own) in wrong.into_iter().chain(missing) {
            let foreign = &mut self.tx.imports.foreign;
            match own {
                Some(id) => drop(foreign.insert(&digest, id).or_store()?),
                None => drop(foreign.remove(&digest).or_store()?),
            }
            let record = own.map_or("-".to_owned(), |id| KeyId::from_raw(id).to_string());
            self.note_index(
                "foreign",
                record,
                "it did not agree with the keys: made again",
            );
        }
        Ok(())
    }

    fn unseen(&mut self, mut right: BTreeSet<(u8, u64)>) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for entry in self.tx.imports.unseen.iter().or_store()? {
            let place = entry.or_store()?.0.value();
            if !right.remove(&place) {
                wrong.push(place);
            }
        }
        for place in wrong {
            self.tx.imports.unseen.remove(place).or_store()?;
            self.note_index(
                "unseen",
                KeyId::from_raw(place.1),
                "it names no such key: removed",
            );
        }
        for place in right {
            self.tx.imports.unseen.insert(place, ()).or_store()?;
            self.note_index(
                "unseen",
                KeyId::from_raw(place.1),
                "it was missing: made again",
            );
        }
        Ok(())
    }

    fn foreign_ids(&mut self, mut right: BTreeMap<(u8, String), u64>) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for entry in self.tx.imports.foreign_ids.iter().or_store()? {
            let (place, id) = entry.or_store()?;
            let (number, foreign_id) = place.value();
            let place = (number, foreign_id.to_owned());
            match right.remove(&place) {
                Some(own) if own == id.value() => {}
                own => wrong.push((place, own)),
            }
        }
        let missing = right.into_iter().map(|(place, id)| (place, Some(id)));
        for ((number, foreign_id), own) in wrong.into_iter().chain(missing) {
            let ids = &mut self.tx.imports.foreign_ids;
            let place = (number, foreign_id.as_str());
            match own {
                Some(id) => drop(ids.insert(place, id).or_store()?),
                None => drop(ids.remove(place).or_store()?),
            }
            let record = format!("{number}/{foreign_id}");
            self.note_index(
                "foreign_ids",
                record,
                "it did not agree with the keys: made again",
            );
        }
        Ok(())
    }
}
