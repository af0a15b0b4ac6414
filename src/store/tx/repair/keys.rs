//! Hot records that are damaged or older than the audit trail says.

use redb::ReadableTable;

use super::trail::Trail;
use super::{Mender, PER_ENTRY, repair_of};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::life::Life;
use crate::store::record::{KeyRecord, View};

impl Mender<'_, '_> {
    /// Removes keys that cannot be read, and old copies of records: what came after may
    /// have taken their rights away. Their index entries go with [`Self::indexes`].
    pub(super) fn keys(&mut self, trail: &Trail) -> Result<(), Error> {
        let mut removed = Vec::new();
        for entry in self.tx.keys.iter().or_store()? {
            let (id, bytes) = entry.or_store()?;
            let id = KeyId::from_raw(id.value());
            let read = View::open(bytes.value(), id, self.tx.ring)
                .and_then(|(view, _)| KeyRecord::from_view(&view));
            match Error::or_damaged(read)? {
                Ok(key) if self.is_stale(&key, trail)? => {
                    let why = "it is older than the audit trail says".to_owned();
                    removed.push((id, why));
                }
                Ok(_) => {}
                Err(damage) => removed.push((id, damage.why)),
            }
        }
        for (id, why) in removed {
            self.tx.forget(id);
            self.tx.remove_hot(id)?;
            self.tx.remove_cold(id)?;
            self.tx.usage.remove(id.raw()).or_store()?;
            self.tx.remove_networks(id)?;
            let repair = repair_of("keys", &id.to_string(), &format!("{why}: removed"));
            self.unwritten.push((Some(id), repair));
        }
        Ok(())
    }

    /// Changes keys whose records can be read.
    pub(super) fn mend_keys<T>(
        &mut self,
        wrong: &[(KeyId, T)],
        done: &str,
        mend: impl Fn(&mut KeyRecord, &T),
    ) -> Result<(), Error> {
        for keys in wrong.chunks(PER_ENTRY) {
            // Each key's revision names the entry that changed it.
            self.write()?;
            let seq = self.tx.next_seq();
            for (id, right) in keys {
                let old = self.tx.find_key(*id)?.ok_or_else(|| {
                    // Its tree is damaged, which no repair of records mends.
                    Error::corrupted("keys", id, "a walk finds it, and a look-up does not")
                })?;
                let mut new = KeyRecord {
                    revision: seq,
                    ..old.clone()
                };
                mend(&mut new, right);
                self.tx.replace_key(&old, &new)?;
                let repair = repair_of("keys", &id.to_string(), done);
                self.unwritten.push((Some(*id), repair));
            }
            self.write()?;
        }
        Ok(())
    }

    fn is_stale(&self, key: &KeyRecord, trail: &Trail) -> Result<bool, Error> {
        if trail.stale.contains(&key.id) {
            return Ok(true);
        }
        if Life::from(key).revoked(self.tx.now).is_some() {
            return Ok(false);
        }
        let levels = || key.owner.levels();
        let is_older = |seq: &u64| key.revision < *seq;
        let mut reached = levels().filter_map(|path| trail.reached_owner.get(path));
        if reached.any(is_older) {
            return Ok(true);
        }
        let mut revoked: Vec<_> = levels()
            .filter_map(|path| trail.revoked_owner.get(path))
            .collect();
        if let Ok(keyspace) = Error::or_damaged(self.tx.keyspace_numbered(key.keyspace))? {
            revoked.extend(trail.revoked_keyspace.get(&keyspace.prefix));
        }
        // One whose grace was over then is as it was, also where time was set back since.
        let was_good = |at: &Timestamp| Life::from(key).revoked(*at).is_none();
        let mut revoked = revoked.into_iter();
        Ok(revoked.any(|(seq, at)| is_older(seq) && was_good(at)))
    }
}
