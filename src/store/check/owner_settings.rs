//! The settings of owners, beside what the audit trail tells of them.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::Walk;
use crate::model::error::Error;
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::owner_settings::{find_quota, find_settings, shown};
use crate::store::owner_told::OwnerTold;
use crate::store::tables::{OWNER_QUOTAS, OWNER_SETTINGS};

impl Walk<'_> {
    /// Each record can be read and is as the trail left it, what it names is there, and
    /// none is missing.
    pub(super) fn owner_settings(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let settings = snapshot.table(OWNER_SETTINGS)?;
        let quotas = snapshot.table(OWNER_QUOTAS)?;
        let told = std::mem::take(&mut self.settings_told);
        // Taken out, so that no owner costs a copy of its keyspace.
        let known = std::mem::take(&mut self.known);
        for entry in settings.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (number, path) = name.value();
            let Some((keyspace, owner)) = self.owner_named(&known, "owner_settings", number, path)
            else {
                continue;
            };
            let read = find_settings(&settings, snapshot.ring(), number, path);
            let Some(record) = self.sound(read)?.flatten() else {
                continue;
            };
            let record_name = shown(number, path);
            if record.plan > 0 && keyspace.plan_numbered(record.plan).is_none() {
                self.find("owner_settings", &record_name, "its plan does not exist");
            }
            let floor = self.state.audit_floor_seq;
            let of_owner = told.of(keyspace.prefix, &owner);
            let is_broken = |seq| self.broken.contains_key(&seq);
            let agrees = OwnerTold::agrees(of_owner, record.revision, floor, is_broken);
            if record.is_nothing() || !agrees {
                let problem = "it is not as the audit trail left it";
                self.find("owner_settings", &record_name, problem);
            }
            let has_quota = ReadableTable::get(&quotas, (number, path)).or_store()?;
            if record.quota.own().is_some() && has_quota.is_none() {
                let problem = "it is missing, and its owner has a quota";
                self.find("owner_quotas", &record_name, problem);
            }
        }
        for entry in quotas.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (number, path) = name.value();
            if self
                .owner_named(&known, "owner_quotas", number, path)
                .is_none()
            {
                continue;
            }
            let read = find_quota(&quotas, snapshot.ring(), number, path);
            if let Some(found) = self.sound(read)?.flatten() {
                *self.sharing.entry(found.number).or_insert(0) += 1;
            }
        }
        let by_prefix: BTreeMap<Prefix, &Keyspace> =
            known.values().map(|known| (known.prefix, known)).collect();
        for (prefix, owner, told) in told.iter() {
            let Some(keyspace) = by_prefix.get(&prefix) else {
                continue;
            };
            let name = (keyspace.id, owner.as_str());
            let record_name = shown(keyspace.id, owner.as_str());
            let has_record = ReadableTable::get(&settings, name).or_store()?.is_some();
            if told.has_settings() && !has_record && !self.is_broken_after(told.seq) {
                self.find("owner_settings", &record_name, "it is missing");
            }
            let has_quota = ReadableTable::get(&quotas, name).or_store()?.is_some();
            let by_default = keyspace.default_quota(owner.depth()).is_some();
            if let Some(seq) = told.quota_since
                && by_default
                && !has_quota
                && !told.has_own_quota()
                && !self.is_broken_after(seq)
            {
                self.find("owner_quotas", &record_name, "it is missing");
            }
        }
        self.known = known;
        Ok(())
    }

    /// The keyspace and the owner that a record is about.
    fn owner_named<'k>(
        &mut self,
        known: &'k BTreeMap<u32, Keyspace>,
        table: &'static str,
        number: u32,
        path: &str,
    ) -> Option<(&'k Keyspace, OwnerPath)> {
        let Some(keyspace) = known.get(&number) else {
            self.find(table, shown(number, path), "its keyspace does not exist");
            return None;
        };
        match path.parse() {
            Ok(owner) => Some((keyspace, owner)),
            Err(_) => {
                self.find(table, shown(number, path), "it is not a path");
                None
            }
        }
    }
}
