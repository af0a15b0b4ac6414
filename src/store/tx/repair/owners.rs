//! The suspensions of owners, in the records of the owners and of their keys.

use std::collections::BTreeSet;

use redb::ReadableTable;

use super::Mender;
use super::trail::Trail;
use crate::model::error::Error;
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::read;
use crate::store::record::Phase;
use crate::store::tables::OwnerRecord;

impl Mender<'_, '_> {
    /// An owner whose record is damaged, or missing by the audit trail, is suspended.
    pub(super) fn owners(&mut self, trail: &Trail) -> Result<(), Error> {
        let mut damaged = Vec::new();
        let mut found = BTreeSet::new();
        for entry in self.tx.owners.iter().or_store()? {
            let path = entry.or_store()?.0;
            let path = path.value();
            let read = read::owner(&self.tx.owners, self.tx.ring, path);
            match (Error::or_damaged(read)?, path.parse::<OwnerPath>()) {
                (Ok(_), Ok(owner)) => {
                    found.insert(owner);
                }
                (Err(damage), Ok(owner)) => {
                    found.insert(owner.clone());
                    damaged.push((path.to_owned(), Some(owner), damage.why));
                }
                (_, Err(_)) => damaged.push((path.to_owned(), None, "it is no path".to_owned())),
            }
        }
        for (path, owner, why) in damaged {
            let Some(owner) = owner else {
                self.tx.writing();
                self.tx.owners.remove(path.as_str()).or_store()?;
                self.note("owners", path.escape_debug(), "it is no path: removed");
                continue;
            };
            let said = trail
                .suspensions
                .get(&owner)
                .and_then(|(_, said)| said.clone());
            self.suspend(&owner, said)?;
            self.note("owners", path, &format!("{why}: suspended again"));
        }
        for (owner, (seq, said)) in &trail.suspensions {
            let is_known = trail.broken.range(seq..).next().is_none();
            if said.is_some() && is_known && !found.contains(owner) {
                self.suspend(owner, said.clone())?;
                self.note("owners", owner, "it was missing: suspended again");
            }
        }
        Ok(())
    }

    fn suspend(&mut self, owner: &OwnerPath, said: Option<OwnerRecord>) -> Result<(), Error> {
        let record = said.unwrap_or(OwnerRecord {
            suspended_at: self.tx.now,
            suspended_by: None,
            note: None,
        });
        self.tx.set_owner(owner, Some(&record))
    }

    /// Brings keys and owners to agree on suspensions: where one of them says so, both do.
    pub(super) fn suspensions(&mut self) -> Result<(), Error> {
        let mut unsaid = BTreeSet::new();
        self.tx.each_key(|key| {
            let mask = self.tx.suspended_mask(&key.owner)?;
            if matches!(key.phase, Phase::Revoked { .. }) || key.suspended & !mask == 0 {
                return Ok(());
            }
            for (at, path) in key.owner.levels().enumerate() {
                if key.suspended & !mask & (1 << at) != 0 {
                    unsaid.insert(path.to_owned());
                }
            }
            Ok(())
        })?;
        for path in unsaid {
            let owner: OwnerPath = path.parse()?;
            self.suspend(&owner, None)?;
            let done = "its keys are suspended with it, and it was missing: suspended again";
            self.note("owners", owner, done);
        }
        let mut unmarked = Vec::new();
        self.tx.each_key(|key| {
            let mask = self.tx.suspended_mask(&key.owner)?;
            if !matches!(key.phase, Phase::Revoked { .. }) && key.suspended != mask {
                unmarked.push((key.id, mask));
            }
            Ok(())
        })?;
        let done = "it did not agree with its owner's suspension: suspended";
        self.mend_keys(&unmarked, done, |key, mask| key.suspended = *mask)
    }
}
