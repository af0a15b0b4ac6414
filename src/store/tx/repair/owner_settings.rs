//! The settings of owners, and limits of a key's own.
//!
//! Settings that cannot be read become the narrowest that they may have been: one request
//! an hour and one key. A quota of which it is not known what is left is used up, until
//! its next refill. So an owner keeps neither more nor longer than it had.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Mender;
use super::trail::Trail;
use crate::model::error::Error;
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::Setting;
use crate::model::quota::Quota;
use crate::store::failure::OrStore;
use crate::store::owner_settings::{
    OwnerName, OwnerSettingsRecord, find_quota, find_settings, shown,
};
use crate::store::owner_told::OwnerTold;
use crate::store::quota::QuotaRecord;

const NARROWEST: &str = "it becomes one request an hour and one key";

/// The limits that stand for any that are lost.
fn narrowest() -> Vec<Limit> {
    vec![Limit::per_hour(1)]
}

/// The keyspaces by their numbers; `None` for one that cannot be read.
type Known = BTreeMap<u32, Option<Keyspace>>;

/// A record that is about a keyspace and an owner, or about none.
enum About<'k> {
    Owner(&'k Keyspace, OwnerPath),
    /// The keyspace cannot be read, and the record is left as it is.
    Unknown,
    Nobody(&'static str),
}

fn about<'k>(known: &'k Known, number: u32, path: &str) -> About<'k> {
    match (known.get(&number), path.parse()) {
        (None, _) => About::Nobody("its keyspace does not exist: removed"),
        (Some(None), _) => About::Unknown,
        (Some(Some(keyspace)), Ok(owner)) => About::Owner(keyspace, owner),
        (Some(Some(_)), Err(_)) => About::Nobody("it is not a path: removed"),
    }
}

impl Mender<'_, '_> {
    fn known(&self) -> Result<Known, Error> {
        let mut known = Known::new();
        for entry in self.tx.keyspaces.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let keyspace = Error::or_damaged(self.tx.keyspace_numbered(number))?;
            known.insert(number, keyspace.ok());
        }
        Ok(known)
    }

    pub(super) fn owner_settings(&mut self, trail: &Trail) -> Result<(), Error> {
        let floor = self.tx.state.audit_floor_seq;
        let known = self.known()?;
        let mut wrong: Vec<(OwnerName, u64, String)> = Vec::new();
        let (mut of_nobody, mut found) = (Vec::new(), BTreeSet::new());
        let table = self.tx.open_owner_settings()?;
        for entry in table.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (number, path) = name.value();
            let (keyspace, owner) = match about(&known, number, path) {
                About::Owner(keyspace, owner) => (keyspace, owner),
                About::Unknown => continue,
                About::Nobody(why) => {
                    of_nobody.push((number, path.to_owned(), why));
                    continue;
                }
            };
            found.insert((keyspace.prefix, owner.clone()));
            let told = trail.settings.of(keyspace.prefix, &owner);
            let is_broken = |seq: u64| trail.broken.contains(&seq);
            let read = find_settings(&table, self.tx.ring, number, path);
            let why = match Error::or_damaged(read)? {
                Ok(Some(record)) => {
                    let has_plan =
                        record.plan == 0 || keyspace.plan_numbered(record.plan).is_some();
                    let agrees = OwnerTold::agrees(told, record.revision, floor, is_broken);
                    match has_plan && agrees && !record.is_nothing() {
                        true => continue,
                        false => "it is not as the audit trail left it".to_owned(),
                    }
                }
                Ok(None) => continue,
                Err(damage) => damage.why,
            };
            wrong.push(((number, owner), told.map_or(0, |told| told.seq), why));
        }
        drop(table);
        for (prefix, owner, told) in trail.settings.iter() {
            let is_known = trail.broken.range(told.seq..).next().is_none();
            if told.has_settings() && is_known && !found.contains(&(prefix, owner.clone())) {
                let keyspace = Error::or_damaged(self.tx.find_keyspace(prefix))?;
                if let Ok(Some(keyspace)) = keyspace {
                    let name = (keyspace.id, owner.clone());
                    wrong.push((name, told.seq, "it was missing".to_owned()));
                }
            }
        }
        for (number, path, why) in of_nobody {
            self.tx.writing();
            match path.parse() {
                Ok(owner) => {
                    let nothing = OwnerSettingsRecord::nothing();
                    self.tx.put_owner_settings(number, &owner, &nothing)?;
                }
                Err(_) => {
                    self.tx.owner_settings_count.set(None);
                    let mut table = self.tx.open_owner_settings()?;
                    table.remove((number, path.as_str())).or_store()?;
                }
            }
            self.note("owner_settings", shown(number, &path), why);
        }
        for ((number, owner), seq, why) in wrong {
            let record = OwnerSettingsRecord {
                plan: 0,
                limits: Some(narrowest()),
                quota: self.quota_of_owner(number, &owner)?.into(),
                cap: Setting::Own(1),
                revision: seq,
                updated_at: self.tx.now,
                updated_by: self.actor.map(str::to_owned),
            };
            self.tx.put_owner_settings(number, &owner, &record)?;
            let done = format!("{why}: {NARROWEST}");
            self.note("owner_settings", shown(number, owner.as_str()), &done);
        }
        Ok(())
    }

    /// The quota that an owner spends, where that can be read.
    fn quota_of_owner(&self, keyspace: u32, owner: &OwnerPath) -> Result<Option<Quota>, Error> {
        let found = Error::or_damaged(self.tx.find_owner_quota(keyspace, owner))?;
        let Ok(Some(number)) = found else {
            return Ok(None);
        };
        let quota = Error::or_damaged(self.tx.find_quota(number))?;
        Ok(quota.ok().flatten().map(|record| record.quota))
    }

    /// The numbers of owners' quotas: each that is lost is made again, used up.
    pub(super) fn owner_quotas(&mut self, trail: &Trail) -> Result<(), Error> {
        let known = self.known()?;
        let mut lost: Vec<(Keyspace, OwnerPath, String)> = Vec::new();
        let (mut of_nobody, mut found) = (Vec::new(), BTreeSet::new());
        let table = self.tx.open_owner_quotas()?;
        for entry in table.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (number, path) = name.value();
            let (keyspace, owner) = match about(&known, number, path) {
                About::Owner(keyspace, owner) => (keyspace, owner),
                About::Unknown => continue,
                About::Nobody(why) => {
                    of_nobody.push((number, path.to_owned(), why));
                    continue;
                }
            };
            found.insert((number, owner.clone()));
            let read = Error::or_damaged(find_quota(&table, self.tx.ring, number, path))?;
            let why = match read {
                Ok(Some(named)) => match Error::or_damaged(self.tx.find_quota(named.number))? {
                    Ok(Some(quota)) if quota.adds_up() => continue,
                    Ok(_) => "its quota was missing".to_owned(),
                    Err(damage) => damage.why,
                },
                Ok(None) => continue,
                Err(damage) => damage.why,
            };
            lost.push((keyspace.clone(), owner, why));
        }
        drop(table);
        let table = self.tx.open_owner_settings()?;
        for entry in table.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (number, path) = name.value();
            let About::Owner(keyspace, owner) = about(&known, number, path) else {
                continue;
            };
            let read = find_settings(&table, self.tx.ring, number, path);
            let has_quota = Error::or_damaged(read)?
                .is_ok_and(|record| record.is_some_and(|record| record.quota.own().is_some()));
            if has_quota && found.insert((number, owner.clone())) {
                lost.push((keyspace.clone(), owner, "it was missing".to_owned()));
            }
        }
        drop(table);
        for (prefix, owner, told) in trail.settings.iter() {
            let Some(seq) = told.quota_since else {
                continue;
            };
            let is_known = trail.broken.range(seq..).next().is_none();
            let keyspace = Error::or_damaged(self.tx.find_keyspace(prefix))?;
            if let Ok(Some(keyspace)) = keyspace
                && is_known
                && found.insert((keyspace.id, owner.clone()))
            {
                lost.push((keyspace, owner.clone(), "it was missing".to_owned()));
            }
        }
        for (number, path, why) in of_nobody {
            self.tx.writing();
            match path.parse() {
                Ok(owner) => self.tx.put_owner_quota(number, &owner, None)?,
                Err(_) => {
                    let mut table = self.tx.open_owner_quotas()?;
                    table.remove((number, path.as_str())).or_store()?;
                }
            }
            self.note("owner_quotas", shown(number, &path), why);
        }
        for (keyspace, owner, why) in lost {
            self.use_up_owner_quota(&keyspace, &owner, &why)?;
        }
        Ok(())
    }

    /// Gives an owner the quota that it has by its settings or its level, used up.
    fn use_up_owner_quota(
        &mut self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
        why: &str,
    ) -> Result<(), Error> {
        let name = shown(keyspace.id, owner.as_str());
        let settings = self.tx.find_owner_settings(keyspace.id, owner)?;
        let own = settings.map_or(Setting::Default, |settings| settings.quota);
        let Some(quota) = own.or_default(keyspace.default_quota(owner.depth())) else {
            // It has none any more.
            if Error::or_damaged(self.tx.find_owner_quota(keyspace.id, owner))? != Ok(None) {
                self.tx.put_owner_quota(keyspace.id, owner, None)?;
                self.note("owner_quotas", name, &format!("{why}: removed"));
            }
            return Ok(());
        };
        // The number is that of an audit entry, as always.
        self.write()?;
        let number = self.tx.next_seq();
        let record = QuotaRecord {
            remaining: 0,
            ..QuotaRecord::new(quota, 1, number, self.tx.now)
        };
        self.tx.put_quota(number, &record)?;
        self.tx.put_owner_quota(keyspace.id, owner, Some(number))?;
        self.note("owner_quotas", name, &format!("{why}: used up"));
        self.write()
    }

    /// Brings keys and their cold records to agree on limits of a key's own.
    pub(super) fn own_limits(&mut self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        self.tx.each_key(|key| {
            if key.has_own_limits != self.tx.cold(key.id)?.limits.is_some() {
                wrong.push((key.id, key.has_own_limits));
            }
            Ok(())
        })?;
        for (id, has_own_limits) in wrong {
            let mut cold = self.tx.cold(id)?;
            cold.limits = has_own_limits.then(narrowest);
            self.tx.put_cold(id, &cold)?;
            let done = match has_own_limits {
                true => "its key has lost limits of its own: one request an hour",
                false => "its key has no limits of its own: forgotten",
            };
            self.note("cold", id, done);
        }
        Ok(())
    }
}
