//! The indexes of keys, made again from their records.

use redb::ReadableTable;

use super::Mender;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::counts;
use crate::store::failure::OrStore;
use crate::store::held;
use crate::store::life::Life;
use crate::store::tables::{self, NAMED, NAMED_OVER};

impl Mender<'_, '_> {
    /// Makes the indexes from the records.
    pub(super) fn indexes(&mut self) -> Result<(), Error> {
        self.remove_index_entries()?;
        let (mut owners, mut held, mut keyspaces) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ends, mut turns) = (Vec::new(), Vec::new());
        self.tx.each_key(|key| {
            let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
            let is_over = Life::from(&key).is_over(self.tx.now);
            let standing = self.tx.by_owner.get(index.as_slice()).or_store()?;
            match standing.map(|standing| standing.value()) {
                Some(NAMED) => {}
                Some(NAMED_OVER) if is_over => {}
                _ => owners.push((key.id, index)),
            }
            let place = tables::held_key(key.keyspace, &key.owner, key.id);
            let row = self.tx.held.get(place.as_slice()).or_store()?;
            if let Some(right) = held::row_of(&key).filter(|_| !is_over)
                && row.map(|row| row.value()) != Some(right)
            {
                held.push((key.id, place, right));
            }
            let place = (key.keyspace, key.id.raw());
            if self.tx.by_keyspace.get(place).or_store()?.is_none() {
                keyspaces.push(place);
            }
            if let Some(end) = key.ends_at() {
                let place = (end.unix_ms(), key.id.raw());
                if self.tx.by_end.get(place).or_store()?.is_none() {
                    ends.push(place);
                }
            }
            for place in counts::turn_rows(&key) {
                if self.tx.by_turn.get(place).or_store()?.is_none() {
                    turns.push(place);
                }
            }
            Ok(())
        })?;
        const DONE: &str = "its entry was missing or wrong: made again";
        for (id, index) in owners {
            let by_owner = &mut self.tx.by_owner;
            by_owner.insert(index.as_slice(), NAMED).or_store()?;
            self.note_index("by_owner", id, DONE);
        }
        for (id, place, row) in held {
            self.tx.held.insert(place.as_slice(), row).or_store()?;
            self.note_index("held", id, DONE);
        }
        for place in keyspaces {
            self.tx.by_keyspace.insert(place, ()).or_store()?;
            self.note_index("by_keyspace", KeyId::from_raw(place.1), DONE);
        }
        for place in ends {
            self.tx.by_end.insert(place, ()).or_store()?;
            self.note_index("by_end", KeyId::from_raw(place.1), DONE);
        }
        for place in turns {
            self.tx.by_turn.insert(place, ()).or_store()?;
            self.note_index("by_turn", KeyId::from_raw(place.1), DONE);
        }
        Ok(())
    }

    /// Removes entries that agree with no record.
    fn remove_index_entries(&mut self) -> Result<(), Error> {
        const DONE: &str = "it agrees with no record: removed";
        let mut wrong = Vec::new();
        for entry in self.tx.by_owner.iter().or_store()? {
            let index = entry.or_store()?.0;
            let index = index.value();
            let key = match tables::owner_index_parts(index) {
                Some((_, _, id)) => self.tx.readable(id)?,
                None => None,
            };
            let is_right = key.is_some_and(|key| {
                tables::owner_index_key(&key.owner, key.keyspace, key.id) == index
            });
            if !is_right {
                wrong.push(index.to_vec());
            }
        }
        for index in wrong {
            self.tx.by_owner.remove(index.as_slice()).or_store()?;
            self.note_index("by_owner", index.escape_ascii(), DONE);
        }
        let mut wrong = Vec::new();
        for entry in self.tx.held.iter().or_store()? {
            let (place, row) = entry.or_store()?;
            let key = match tables::held_parts(place.value()) {
                Some((_, _, id)) => self.tx.readable(id)?,
                None => None,
            };
            let is_right = key.is_some_and(|key| {
                let right = tables::held_key(key.keyspace, &key.owner, key.id);
                right == place.value()
                    && held::row_of(&key).is_none_or(|right| right == row.value())
            });
            if !is_right {
                wrong.push(place.value().to_vec());
            }
        }
        for place in wrong {
            self.tx.held.remove(place.as_slice()).or_store()?;
            self.note_index("held", place.escape_ascii(), DONE);
        }
        let mut wrong = Vec::new();
        for entry in self.tx.by_keyspace.iter().or_store()? {
            let place = entry.or_store()?.0.value();
            let key = self.tx.readable(KeyId::from_raw(place.1))?;
            if key.is_none_or(|key| key.keyspace != place.0) {
                wrong.push(place);
            }
        }
        for place in wrong {
            self.tx.by_keyspace.remove(place).or_store()?;
            self.note_index("by_keyspace", KeyId::from_raw(place.1), DONE);
        }
        let mut wrong = Vec::new();
        for entry in self.tx.by_end.iter().or_store()? {
            let place = entry.or_store()?.0.value();
            let key = self.tx.readable(KeyId::from_raw(place.1))?;
            if key.and_then(|key| key.ends_at()).map(Timestamp::unix_ms) != Some(place.0) {
                wrong.push(place);
            }
        }
        for place in wrong {
            self.tx.by_end.remove(place).or_store()?;
            self.note_index("by_end", KeyId::from_raw(place.1), DONE);
        }
        let mut wrong = Vec::new();
        for entry in self.tx.by_turn.iter().or_store()? {
            let place = entry.or_store()?.0.value();
            let key = self.tx.readable(KeyId::from_raw(place.1))?;
            if !key.is_some_and(|key| counts::turn_rows(&key).any(|row| row == place)) {
                wrong.push(place);
            }
        }
        for place in wrong {
            self.tx.by_turn.remove(place).or_store()?;
            self.note_index("by_turn", KeyId::from_raw(place.1), DONE);
        }
        Ok(())
    }
}
