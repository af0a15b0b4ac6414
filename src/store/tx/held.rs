//! What owners hold, by the index of held keys.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::Tx;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::held::{is_over, row_of};
use crate::store::life::Life;
use crate::store::record::KeyRecord;
use crate::store::tables::{self, held_key};

/// A row of the index of held keys of a key that is over: its place.
pub(crate) struct Lapsed(Vec<u8>);

impl Lapsed {
    pub(crate) fn of(key: &KeyRecord) -> Self {
        Self(held_key(key.keyspace, &key.owner, key.id))
    }
}

/// The keys that an owner has in a keyspace and that are not known to be over.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) good: Vec<KeyRecord>,
    /// Those that are over: expired, out of grace, or revoked.
    pub(crate) lapsed: Vec<Lapsed>,
    /// Those whose record is damaged or missing. They are not counted: the file grants
    /// them to nobody, and whoever issues or rotates has the copy in memory forgotten.
    pub(crate) damaged: Vec<KeyId>,
}

/// How many rows of keys that are over one change takes away.
const LAPSED_MAX: usize = 1024;

/// How a tally compares with what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Accuracy {
    #[default]
    Exact,
    /// No more than these: records were not read, and keys that were revoked count yet.
    AtMost,
    /// No fewer than these: the rest were not counted.
    AtLeast,
}

/// How many keys count at an owner, or at it and below it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) accuracy: Accuracy,
    /// Rows of keys that are over, as far as they were met.
    pub(crate) lapsed: Vec<Lapsed>,
    /// Keys that cannot be read, and are not counted.
    pub(crate) damaged: Vec<KeyId>,
}

impl Tx<'_> {
    /// Moves a key in the index of held keys, or into it or out of it.
    pub(super) fn move_held(
        &mut self,
        old: Option<&KeyRecord>,
        new: Option<&KeyRecord>,
    ) -> Result<(), Error> {
        match (old, new) {
            (Some(key), None) => {
                let Lapsed(place) = Lapsed::of(key);
                self.held.remove(place.as_slice()).or_store()?;
            }
            // What is revoked is left: see `store::held`.
            (_, Some(key)) if row_of(key) != old.and_then(row_of) => {
                if let Some(row) = row_of(key) {
                    let Lapsed(place) = Lapsed::of(key);
                    self.held.insert(place.as_slice(), row).or_store()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes rows of keys that are over out of the index, so that no count meets them again.
    pub(crate) fn forget_lapsed(&mut self, lapsed: &[Lapsed]) -> Result<(), Error> {
        for Lapsed(place) in lapsed {
            self.writing();
            self.held.remove(place.as_slice()).or_store()?;
        }
        Ok(())
    }

    /// Puts a key into the index again that is not over after all.
    pub(crate) fn set_held(&mut self, key: &KeyRecord) -> Result<(), Error> {
        self.writing();
        self.move_held(None, Some(key))
    }

    /// The keys of an owner in a keyspace, of which it reads the records. What is damaged
    /// is kept apart: it must not bar its owner from a new key for ever.
    pub(crate) fn holdings(&self, owner: &OwnerPath, keyspace: u32) -> Result<Holdings, Error> {
        let (from, to) = tables::held_range(keyspace, owner.as_str(), false);
        let mut holdings = Holdings::default();
        let range = self
            .held
            .range::<&[u8]>(from.as_slice()..to.as_slice())
            .or_store()?;
        for entry in range {
            let (place, row) = entry.or_store()?;
            let Some((_, _, id)) = tables::held_parts(place.value()) else {
                continue;
            };
            if is_over(row.value(), self.now) {
                // The answer does not count it.
                self.tell_over();
                holdings.lapsed.push(Lapsed(place.value().to_vec()));
                continue;
            }
            match Error::or_damaged(self.find_key(id))? {
                Ok(Some(key)) if Life::from(&key).is_over(self.now) => {
                    holdings.lapsed.push(Lapsed::of(&key));
                }
                Ok(Some(key)) => holdings.good.push(key),
                Ok(None) | Err(_) => holdings.damaged.push(id),
            }
        }
        Ok(holdings)
    }

    /// Counts the keys of an owner in a keyspace, and those of all below it where `below`,
    /// no further than one above the cap.
    ///
    /// It reads no record unless the count reaches the cap.
    pub(crate) fn tally(
        &self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
        below: bool,
        cap: u32,
    ) -> Result<Tally, Error> {
        let range = tables::held_range(keyspace.id, owner.as_str(), below);
        let cap = u64::from(cap);
        let tally = self.tally_rows(&range, keyspace, cap, false)?;
        match tally.count < cap {
            true => Ok(tally),
            // Among them are keys that were revoked since, or are damaged.
            false => self.tally_rows(&range, keyspace, cap, true),
        }
    }

    /// Counts the keys of an owner in a keyspace, and those of all below it where `below`,
    /// by reading every record.
    pub(crate) fn tally_all(
        &self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
        below: bool,
    ) -> Result<Tally, Error> {
        let range = tables::held_range(keyspace.id, owner.as_str(), below);
        self.tally_rows(&range, keyspace, u64::MAX, true)
    }

    fn tally_rows(
        &self,
        (from, to): &(Vec<u8>, Vec<u8>),
        keyspace: &Keyspace,
        cap: u64,
        reads: bool,
    ) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        if !reads {
            tally.accuracy = Accuracy::AtMost;
        }
        let mut lines: BTreeMap<u64, u64> = BTreeMap::new();
        let range = self.held.range::<&[u8]>(from.as_slice()..to.as_slice());
        for entry in range.or_store()? {
            let (place, row) = entry.or_store()?;
            let Some((_, _, id)) = tables::held_parts(place.value()) else {
                continue;
            };
            let mut is_over = is_over(row.value(), self.now);
            if reads && !is_over {
                match Error::or_damaged(self.find_key(id))? {
                    Ok(Some(key)) => is_over = Life::from(&key).is_over(self.now),
                    Ok(None) | Err(_) => {
                        tally.damaged.push(id);
                        continue;
                    }
                }
            }
            if is_over {
                // The answer does not count it.
                self.tell_over();
                if tally.lapsed.len() < LAPSED_MAX {
                    tally.lapsed.push(Lapsed(place.value().to_vec()));
                }
                continue;
            }
            let keys = lines.entry(row.value().1).or_insert(0);
            *keys += 1;
            tally.count += counts_for(keyspace, *keys);
            if tally.count > cap {
                tally.accuracy = Accuracy::AtLeast;
                break;
            }
        }
        Ok(tally)
    }
}

/// How much a further key of a lineage counts, of which there are so many with it: a key
/// in its grace and the one that it was rotated to are one, where the keyspace says so.
fn counts_for(keyspace: &Keyspace, keys: u64) -> u64 {
    u64::from(keyspace.count_retiring || keys != 2)
}

/// How much keys of some lineages count together.
pub(crate) fn weigh(keyspace: &Keyspace, lineages: impl IntoIterator<Item = KeyId>) -> u64 {
    let mut lines: BTreeMap<KeyId, u64> = BTreeMap::new();
    let counted = lineages.into_iter().map(|lineage| {
        let keys = lines.entry(lineage).or_insert(0);
        *keys += 1;
        counts_for(keyspace, *keys)
    });
    counted.sum()
}
