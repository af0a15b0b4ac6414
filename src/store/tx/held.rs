//! What owners hold, by the index of held keys.

use redb::ReadableTable;

use super::Tx;
use crate::model::error::Error;
use crate::model::id::KeyId;
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
}
