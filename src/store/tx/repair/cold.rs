//! What describes a key: its cold record, its line of rotations, its usage.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Mender;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::store::failure::OrStore;
use crate::store::life::Life;
use crate::store::read;

impl Mender<'_, '_> {
    /// Begins cold records anew that are damaged or missing; removes those of no key.
    pub(super) fn colds(&mut self) -> Result<BTreeSet<KeyId>, Error> {
        let mut rebuilt = BTreeMap::new();
        self.tx.each_key(|key| {
            if let Err(damage) = Error::or_damaged(self.tx.cold(key.id))? {
                rebuilt.insert(key.id, damage.why);
            }
            Ok(())
        })?;
        let mut orphans = Vec::new();
        for entry in self.tx.cold.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            if !self.tx.id_is_taken(id)? {
                orphans.push(id);
            }
        }
        for id in orphans {
            self.tx.writing();
            self.tx.remove_cold(id)?;
            self.note("cold", id, "it belongs to no key: removed");
        }
        for (id, why) in &rebuilt {
            self.tx.put_cold(
                *id,
                &ColdRecord {
                    name: None,
                    description: None,
                    labels: BTreeMap::new(),
                    // Its id says when it was issued.
                    created_at: Timestamp::from_raw(id.unix_ms()),
                    created_by: None,
                    predecessor: None,
                    successor: None,
                    quota: None,
                    limits: None,
                    foreign_id: None,
                },
            )?;
            self.note(
                "cold",
                id,
                &format!("{why}: begun anew, without what it said"),
            );
        }
        Ok(rebuilt.into_keys().collect())
    }

    /// Finds the line of keys again whose cold records were rebuilt, and removes links
    /// that are not named back.
    pub(super) fn lines(&mut self, rebuilt: &BTreeSet<KeyId>) -> Result<(), Error> {
        let mut found: BTreeMap<KeyId, (Option<KeyId>, Option<KeyId>)> = BTreeMap::new();
        if !rebuilt.is_empty() {
            // In the order of age: the oldest that names a key as its successor was
            // rotated to it, and the youngest that names it as its predecessor counts.
            self.tx.each_key(|key| {
                let cold = self.tx.cold(key.id)?;
                if let Some(next) = cold.successor.filter(|next| rebuilt.contains(next)) {
                    found.entry(next).or_default().0.get_or_insert(key.id);
                }
                if let Some(old) = cold.predecessor.filter(|old| rebuilt.contains(old)) {
                    found.entry(old).or_default().1 = Some(key.id);
                }
                Ok(())
            })?;
        }
        for (id, (predecessor, successor)) in found {
            let cold = ColdRecord {
                predecessor,
                successor,
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
        }
        let mut changed = Vec::new();
        self.tx.each_key(|key| {
            let is_over = Life::from(&key).is_over(self.tx.now);
            let cold = self.tx.cold(key.id)?;
            let is_named = |relative: Option<KeyId>, is_successor| -> Result<bool, Error> {
                let Some(relative) = relative else {
                    return Ok(true);
                };
                // It may be purged.
                let other = Error::or_damaged(self.tx.cold(relative))?;
                Ok(other.map_or(true, |other| {
                    read::is_named_back(key.id, &cold, &other, is_successor, is_over)
                }))
            };
            let keeps = (
                is_named(cold.predecessor, false)?,
                is_named(cold.successor, true)?,
            );
            if keeps != (true, true) {
                changed.push((key.id, keeps));
            }
            Ok(())
        })?;
        for (id, (keeps_predecessor, keeps_successor)) in changed {
            let cold = self.tx.cold(id)?;
            let cold = ColdRecord {
                predecessor: cold.predecessor.filter(|_| keeps_predecessor),
                successor: cold.successor.filter(|_| keeps_successor),
                ..cold
            };
            self.tx.put_cold(id, &cold)?;
            self.note(
                "cold",
                id,
                "a key of its line does not name it back: forgotten",
            );
        }
        Ok(())
    }

    /// Removes rows of the usage history that cannot be read.
    pub(super) fn usage_history(&mut self) -> Result<(), Error> {
        for (table, record) in self.tx.repair_history()? {
            let done = match table {
                "gatekey" => "its bytes were others: counted again",
                _ => "it could not be read: removed",
            };
            self.note(table, record, done);
        }
        Ok(())
    }

    /// Removes usage that cannot be read or is of no key, and networks: they are noted anew.
    pub(super) fn usages(&mut self) -> Result<(), Error> {
        let mut removed = Vec::new();
        for entry in self.tx.usage.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            let read = read::usage(&self.tx.usage, self.tx.ring, id);
            match Error::or_damaged(read)? {
                Ok(_) if self.tx.id_is_taken(id)? => {}
                Ok(_) => removed.push((id, "it belongs to no key".to_owned())),
                Err(damage) => removed.push((id, damage.why)),
            }
        }
        for (id, why) in removed {
            self.tx.writing();
            self.tx.usage.remove(id.raw()).or_store()?;
            self.note("usage", id, &format!("{why}: removed"));
        }
        for (id, why) in self.tx.unsound_networks()? {
            self.tx.remove_networks(id)?;
            self.note("usage_networks", id, &format!("{why}: removed"));
        }
        Ok(())
    }
}
