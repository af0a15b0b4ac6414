//! The keys of a lineage: a key, and those that it was rotated from and to.

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::store::life::Life;
use crate::store::read;
use crate::store::record::KeyRecord;
use crate::store::snapshot::Snapshot;
use crate::store::tables::COLD;

/// How many keys of a lineage are looked at.
const LOOKED_AT_MAX: usize = 64;

impl Snapshot {
    /// The keys of a key's lineage where all of them are revoked. `None` where one is not (one
    /// that has expired can be renewed), or where that is not known: one of them was purged,
    /// or there are too many.
    pub(crate) fn lineage_over(
        &self,
        key: KeyRecord,
        now: Timestamp,
    ) -> Result<Option<Vec<KeyRecord>>, Error> {
        let is_revoked = |key: &KeyRecord| Life::from(key).revoked(now).is_some();
        if !is_revoked(&key) {
            return Ok(None);
        }
        let (id, lineage) = (key.id, key.lineage);
        let table = self.table(COLD)?;
        let cold = |id| read::cold(&table, self.ring(), id);
        let mut all = vec![key];
        // How a key leads to another.
        type Link = fn(&ColdRecord) -> Option<KeyId>;
        let (newer, older): (Link, Link) = (|cold| cold.successor, |cold| cold.predecessor);
        for next in [newer, older] {
            let mut links = cold(id)?;
            while let Some(id) = next(&links) {
                let known = self.record(id)?.filter(|_| all.len() < LOOKED_AT_MAX);
                let Some(key) = known else { return Ok(None) };
                if key.lineage != lineage {
                    // It was rotated before there were lineages.
                    break;
                }
                if !is_revoked(&key) {
                    return Ok(None);
                }
                links = cold(id)?;
                all.push(key);
            }
        }
        Ok(Some(all))
    }
}
