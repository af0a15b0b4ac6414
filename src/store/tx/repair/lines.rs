//! The lineages of keys.

use std::collections::{BTreeMap, BTreeSet};

use super::Mender;
use crate::model::error::Error;
use crate::model::id::KeyId;

impl Mender<'_, '_> {
    /// Gives each key the lineage of the key that was rotated to it. Where it has its own
    /// id for one, it was rotated before there were lineages, and keeps it.
    pub(super) fn lineages(&mut self) -> Result<(), Error> {
        // Of each key that takes its lineage from another: that one, and what it has.
        let mut rotated: BTreeMap<KeyId, (KeyId, KeyId)> = BTreeMap::new();
        self.tx.each_key(|key| {
            let old = self.tx.cold(key.id)?.predecessor;
            if let Some(old) = old.filter(|_| key.lineage != key.id)
                // It may be purged.
                && self.tx.readable(old)?.is_some()
            {
                rotated.insert(key.id, (old, key.lineage));
            }
            Ok(())
        })?;
        let mut right: BTreeMap<KeyId, KeyId> = BTreeMap::new();
        for id in rotated.keys() {
            let (mut at, mut line) = (*id, BTreeSet::new());
            let lineage = loop {
                match (right.get(&at), rotated.get(&at)) {
                    (Some(lineage), _) => break Some(*lineage),
                    (None, Some((old, _))) if line.insert(at) => at = *old,
                    (None, _) => break self.tx.readable(at)?.map(|key| key.lineage),
                }
            };
            right.extend(line.into_iter().zip(lineage.into_iter().cycle()));
        }
        let is_wrong = |id: &KeyId, lineage: &KeyId| {
            let stored = rotated.get(id);
            stored.is_some_and(|(_, stored)| stored != lineage)
        };
        right.retain(|id, lineage| is_wrong(id, lineage));
        let wrong: Vec<(KeyId, KeyId)> = right.into_iter().collect();
        let done = "its lineage was not that of the key that was rotated to it: set";
        self.mend_keys(&wrong, done, |key, lineage| key.lineage = *lineage)
    }
}
