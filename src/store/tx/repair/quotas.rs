//! Quotas of which it is not known what is left.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Mender;
use crate::model::error::Error;
use crate::model::key::ColdRecord;
use crate::model::quota::Quota;
use crate::store::failure::OrStore;
use crate::store::quota::QuotaRecord;

impl Mender<'_, '_> {
    /// A quota of which it is not known what is left is used up.
    pub(super) fn quotas(&mut self) -> Result<(), Error> {
        let mut sharing: BTreeMap<u64, u32> = BTreeMap::new();
        let (mut without, mut unnamed) = (Vec::new(), Vec::new());
        self.tx.each_key(|key| {
            match (key.has_quota, self.tx.cold(key.id)?.quota) {
                (true, Some(number)) => *sharing.entry(number).or_default() += 1,
                (true, None) => without.push(key.id),
                (false, Some(_)) => unnamed.push(key.id),
                (false, None) => {}
            }
            Ok(())
        })?;
        for number in self.tx.quotas_of_owners()? {
            *sharing.entry(number).or_default() += 1;
        }
        for id in unnamed {
            let cold = ColdRecord {
                quota: None,
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
            self.note("cold", id, "its key has no quota: forgotten");
        }
        for id in without {
            // The number is that of an audit entry which names the key, as always.
            self.write()?;
            let number = self.tx.next_seq();
            self.use_up(number, 1)?;
            let cold = ColdRecord {
                quota: Some(number),
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
            self.note(
                "quotas",
                number,
                &format!("key {id} has lost its own: used up"),
            );
            self.write()?;
            sharing.insert(number, 1);
        }
        let mut all: BTreeSet<u64> = sharing.keys().copied().collect();
        for entry in self.tx.quotas.iter().or_store()? {
            all.insert(entry.or_store()?.0.value());
        }
        for number in all {
            let keys = sharing.get(&number).copied().unwrap_or(0);
            match Error::or_damaged(self.tx.find_quota(number))? {
                _ if keys == 0 => {
                    self.tx.writing();
                    self.tx.remove_quota(number)?;
                    self.note(
                        "quotas",
                        number,
                        "neither a key nor an owner has it: removed",
                    );
                }
                Ok(Some(quota)) if quota.adds_up() => {
                    if quota.keys != keys {
                        self.tx.put_quota(number, &QuotaRecord { keys, ..quota })?;
                        self.note("quotas", number, "its keys are counted anew");
                    }
                }
                Ok(_) => {
                    self.use_up(number, keys)?;
                    self.note("quotas", number, "it was missing: used up");
                }
                Err(damage) => {
                    self.use_up(number, keys)?;
                    self.note("quotas", number, &format!("{}: used up", damage.why));
                }
            }
        }
        Ok(())
    }

    fn use_up(&mut self, number: u64, keys: u32) -> Result<(), Error> {
        let revision = self.tx.next_seq();
        let record = QuotaRecord {
            remaining: 0,
            ..QuotaRecord::new(Quota::new(1), keys, revision, self.tx.now)
        };
        self.tx.put_quota(number, &record)?;
        Ok(())
    }
}
