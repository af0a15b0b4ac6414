//! The index of the audit trail, made again from the entries.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata};

use super::Mender;
use crate::model::error::Error;
use crate::store::failure::OrStore;
use crate::store::history::{self, Indexed};
use crate::store::read::{self, Links};
use crate::store::tables::{META_INDEXED, Tagged, seal};

impl Mender<'_, '_> {
    /// Makes rows that are missing, and removes those that no entry stands for: also those
    /// of entries that cannot be read, since nobody knows which they had.
    pub(super) fn rows(&mut self) -> Result<(), Error> {
        let through = self.indexed()?;
        let mut by_key = self.tx.open_by_key()?;
        let mut missing = Vec::new();
        let mut expected = 0;
        let mut links = Links::new(&self.tx.state);
        for entry in self.tx.audit.range(..=through).or_store()? {
            let (seq, bytes) = entry.or_store()?;
            let seq = seq.value();
            if !links.is_due(seq) {
                continue;
            }
            links.missing_before(seq).for_each(drop);
            let Ok(entry) = links.read(self.tx.ring, seq, bytes.value()) else {
                continue;
            };
            for subject in history::subjects(&entry.event) {
                expected += 1;
                if by_key.get((subject, seq)).or_store()?.is_none() {
                    missing.push((subject, seq));
                }
            }
        }
        for row in &missing {
            by_key.insert(*row, ()).or_store()?;
        }
        let mut wrong = Vec::new();
        if by_key.len().or_store()? > expected {
            let mut read = (0, BTreeSet::new());
            for row in by_key.iter().or_store()? {
                let row = row.or_store()?.0.value();
                if row.1 != read.0 {
                    let is_within = row.1 > self.tx.state.audit_floor_seq && row.1 <= through;
                    let entry =
                        read::audit_entry(&self.tx.audit, self.tx.ring, &self.tx.state, row.1);
                    let entry = Error::or_damaged(entry)?;
                    let subjects = entry.map(|entry| history::subjects(&entry.event));
                    read = (row.1, subjects.unwrap_or_default());
                    if !is_within {
                        read.1.clear();
                    }
                }
                if !read.1.contains(&row.0) {
                    wrong.push(row);
                }
            }
        }
        for row in &wrong {
            by_key.remove(*row).or_store()?;
        }
        drop(by_key);
        for (_, seq) in missing {
            self.note_index(
                "by_key",
                seq,
                "an entry had not all of its rows: made again",
            );
        }
        for (_, seq) in wrong {
            self.note_index("by_key", seq, "a row is of no entry: removed");
        }
        Ok(())
    }

    /// Up to where there are rows. Where that cannot be read, there are none from here on,
    /// and flushes add them.
    fn indexed(&mut self) -> Result<u64, Error> {
        match Error::or_damaged(history::indexed(self.tx.meta(), self.tx.ring))? {
            Ok(through) => Ok(through),
            Err(damage) => {
                let none = Indexed::default();
                let key = META_INDEXED.as_bytes();
                let sealed = seal(self.tx.ring, Tagged::Indexed, key, &none)?;
                self.tx.writing();
                self.tx.put_meta(META_INDEXED, &sealed)?;
                self.note_damage(&damage, "no entry has rows, until a flush adds them");
                Ok(none.through)
            }
        }
    }
}
