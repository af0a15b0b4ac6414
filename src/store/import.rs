//! Imports: whose tokens a text may be that is none of gatekey's own.

use std::collections::BTreeMap;

use redb::ReadableTable;

use crate::crypto::digest::Keyring;
use crate::crypto::foreign::Known;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::import::{ForeignHash, Import, NewImport, Shape};
use crate::store::failure::OrStore;
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tables::{Bytes, Tagged, unseal};

/// An import, as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ImportRecord {
    pub(crate) name: String,
    pub(crate) hash: ForeignHash,
    pub(crate) shape: Shape,
    pub(crate) sunset: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: Option<String>,
    pub(crate) counts: ImportCounts,
}

/// What an import counts of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImportCounts {
    /// All.
    pub(crate) keys: u64,
    /// Those that were not used yet, and may be.
    pub(crate) unseen: u64,
    /// Those in any state that are found by what the source keeps of their tokens.
    pub(crate) hashed: u64,
}

impl ImportCounts {
    /// Counts a key so many times more.
    pub(crate) fn count(&mut self, key: &KeyRecord, by: i64) {
        let add = |count: &mut u64, counts: bool| {
            *count = count.saturating_add_signed(by * i64::from(counts));
        };
        let is_current = matches!(key.phase, Phase::Current);
        add(&mut self.keys, true);
        add(&mut self.unseen, key.scheme.is_unseen() && is_current);
        add(&mut self.hashed, key.scheme == Scheme::Unseen);
    }
}

impl ImportRecord {
    pub(crate) fn describe(&self) -> Import {
        Import {
            name: self.name.clone(),
            hash: self.hash,
            after_bar: self.shape.after_bar,
            starts_with: self.shape.starts_with.clone(),
            len_min: self.shape.len_min,
            len_max: self.shape.len_max,
            sunset: self.sunset,
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            keys: self.counts.keys,
            unseen: self.counts.unseen,
        }
    }

    /// Whether it says of its tokens what a new import says.
    pub(crate) fn is_as(&self, new: &NewImport) -> bool {
        let (own, other) = ((self.hash, &self.shape), (new.hash, &new.shape));
        own == other
    }

    /// Whether its keys that were never used are no longer good.
    pub(crate) fn is_past(&self, now: Timestamp) -> bool {
        self.sunset.is_some_and(|sunset| sunset <= now)
    }
}

pub(crate) fn import(
    table: &impl ReadableTable<u8, Bytes>,
    ring: &Keyring,
    number: u8,
) -> Result<Option<ImportRecord>, Error> {
    match table.get(number).or_store()? {
        Some(record) => unseal(ring, Tagged::Import, &[number], record.value()).map(Some),
        None => Ok(None),
    }
}

/// All imports, by their numbers.
pub(crate) type Imports = BTreeMap<u8, ImportRecord>;

pub(crate) fn imports(
    table: &impl ReadableTable<u8, Bytes>,
    ring: &Keyring,
) -> Result<Imports, Error> {
    let numbers = table.iter().or_store()?;
    numbers
        .map(|entry| {
            let number = entry.or_store()?.0.value();
            let record = import(table, ring, number)?;
            let missing = || Error::corrupted("imports", number, "it is missing");
            Ok((number, record.ok_or_else(missing)?))
        })
        .collect()
}

/// The part of a text that is hashed, and what the imports whose shape the text has know of
/// it. Each part, and each thing known of one, is there once.
pub(super) fn tries<'t>(imports: &Imports, text: &'t [u8]) -> Vec<(&'t [u8], Known)> {
    let mut tried: Vec<(&[u8], ForeignHash)> = Vec::new();
    for import in imports.values().filter(|import| import.counts.keys > 0) {
        let Some(part) = import.shape.part_of(text) else {
            continue;
        };
        let ImportCounts { keys, hashed, .. } = import.counts;
        // What was seen is known by its text.
        let seen = (keys > hashed).then_some(ForeignHash::Plain);
        let unseen = (hashed > 0).then_some(import.hash);
        for one in seen.into_iter().chain(unseen) {
            let is_new = |tried: &(&[u8], _)| (tried.0.len(), tried.1) != (part.len(), one);
            if tried.iter().all(is_new) {
                tried.push((part, one));
            }
        }
    }
    let known = |(part, hash)| Known::of(hash, part).map(|known| (part, known));
    tried.into_iter().filter_map(known).collect()
}
