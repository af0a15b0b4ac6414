//! The settings of owners, in a transaction. Their tables are opened by those that change
//! or ask for them, and by no other.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{Replaced, Tx};
use crate::crypto::digest::Keyring;
use crate::model::audit::AuditEvent;
use crate::model::error::Error;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::{OwnerSettings, Setting};
use crate::model::quota::Quota;
use crate::store::failure::OrStore;
use crate::store::journal::Noted;
use crate::store::owner_settings::{
    OwnerQuota, OwnerSettingsRecord, assemble, find_quota, find_settings, quota_status, status_of,
    tag_key,
};
use crate::store::quota::QuotaRecord;
use crate::store::tables::{self, Bytes, OWNER_QUOTAS, OWNER_SETTINGS, Stored, Tagged};

type OwnerTable<'t> = Noted<'t, (u32, &'static str), Bytes>;

impl<'t> Tx<'t> {
    pub(super) fn open_owner_settings(&self) -> Result<OwnerTable<'t>, Error> {
        self.open_table(OWNER_SETTINGS)
    }

    pub(super) fn open_owner_quotas(&self) -> Result<OwnerTable<'t>, Error> {
        self.open_table(OWNER_QUOTAS)
    }
}

impl Tx<'_> {
    pub(crate) fn find_owner_settings(
        &self,
        keyspace: u32,
        owner: &OwnerPath,
    ) -> Result<Option<OwnerSettingsRecord>, Error> {
        let table = self.open_owner_settings()?;
        find_settings(&table, self.ring, keyspace, owner.as_str())
    }

    /// How many owners have settings, an owner counted once for each keyspace.
    pub(crate) fn owner_settings_count(&self) -> Result<u64, Error> {
        if let Some(known) = self.owner_settings_count.get() {
            return Ok(known);
        }
        let count = self.open_owner_settings()?.len().or_store()?;
        self.owner_settings_count.set(Some(count));
        Ok(count)
    }

    /// Writes the settings of an owner; without any, their record goes.
    pub(crate) fn put_owner_settings(
        &mut self,
        keyspace: u32,
        owner: &OwnerPath,
        record: &OwnerSettingsRecord,
    ) -> Result<(), Error> {
        self.writing();
        self.owner_settings_count.set(None);
        let new = (!record.is_nothing()).then_some(record);
        let mut table = self.open_owner_settings()?;
        let tagged = Tagged::OwnerSettings;
        let old = replace(&mut table, self.ring, tagged, (keyspace, owner), new)?;
        self.taken += 1;
        self.delta
            .owner_settings
            .note((keyspace, owner.clone()), old, new.cloned());
        Ok(())
    }

    /// The number of the quota that an owner has in a keyspace, if it ever had one.
    pub(crate) fn find_owner_quota(
        &self,
        keyspace: u32,
        owner: &OwnerPath,
    ) -> Result<Option<u64>, Error> {
        let found = find_quota(
            &self.open_owner_quotas()?,
            self.ring,
            keyspace,
            owner.as_str(),
        )?;
        Ok(found.map(|found| found.number))
    }

    /// The numbers of the quotas that owners have, as far as they can be read.
    pub(super) fn quotas_of_owners(&self) -> Result<Vec<u64>, Error> {
        let table = self.open_owner_quotas()?;
        let mut numbers = Vec::new();
        for entry in table.iter().or_store()? {
            let name = entry.or_store()?.0;
            let (keyspace, path) = name.value();
            let read = find_quota(&table, self.ring, keyspace, path);
            if let Ok(Some(found)) = Error::or_damaged(read)? {
                numbers.push(found.number);
            }
        }
        Ok(numbers)
    }

    pub(super) fn put_owner_quota(
        &mut self,
        keyspace: u32,
        owner: &OwnerPath,
        number: Option<u64>,
    ) -> Result<(), Error> {
        self.writing();
        let new = number.map(|number| OwnerQuota { number });
        let mut table = self.open_owner_quotas()?;
        let tagged = Tagged::OwnerQuota;
        let old = replace(
            &mut table,
            self.ring,
            tagged,
            (keyspace, owner),
            new.as_ref(),
        )?;
        let old = old.map(|old| old.map(|old: OwnerQuota| old.number));
        self.delta
            .owner_quota_of
            .note((keyspace, owner.clone()), old, number);
        Ok(())
    }

    /// Gives an owner a quota, full, in the place of the one that it has. The mutation
    /// writes an audit entry, which the quota has its revision and perhaps its number of.
    pub(crate) fn set_owner_quota(
        &mut self,
        keyspace: u32,
        owner: &OwnerPath,
        quota: Quota,
    ) -> Result<u64, Error> {
        if let Some(number) = self.find_owner_quota(keyspace, owner)? {
            let record = QuotaRecord::new(quota, 1, self.next_seq(), self.clock);
            self.put_quota(number, &record)?;
            return Ok(number);
        }
        let number = self.new_quota(quota)?;
        self.put_owner_quota(keyspace, owner, Some(number))?;
        Ok(number)
    }

    /// Takes an owner's quota away, if it has one.
    pub(crate) fn remove_owner_quota(
        &mut self,
        keyspace: u32,
        owner: &OwnerPath,
    ) -> Result<(), Error> {
        if let Some(number) = self.find_owner_quota(keyspace, owner)? {
            self.leave_quota(number)?;
            self.put_owner_quota(keyspace, owner, None)?;
        }
        Ok(())
    }

    /// The number of the quota that a request of an owner is charged to: of the owner's
    /// own, or of the defaults of its level. One of the defaults is made here, full, where
    /// the owner has not spent of it yet, or where the defaults have changed since.
    pub(crate) fn owner_quota(
        &mut self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
    ) -> Result<Option<u64>, Error> {
        let settings = self.find_owner_settings(keyspace.id, owner)?;
        let own = settings.map_or(Setting::Default, |settings| settings.quota);
        let Some(quota) = own.or_default(keyspace.default_quota(owner.depth())) else {
            return Ok(None);
        };
        if let Some(number) = self.find_owner_quota(keyspace.id, owner)?
            && self.quota(number)?.quota == quota
        {
            return Ok(Some(number));
        }
        let number = self.set_owner_quota(keyspace.id, owner, quota)?;
        let event = AuditEvent::OwnerQuotaBegun {
            keyspace: keyspace.prefix,
            owner: owner.clone(),
        };
        self.audit(None, event)?;
        Ok(Some(number))
    }

    /// The settings of an owner as callers see them, after what this transaction has
    /// written.
    pub(crate) fn describe_owner(
        &self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
    ) -> Result<OwnerSettings, Error> {
        let record = self.find_owner_settings(keyspace.id, owner)?;
        let quota = status_of(record.as_ref(), || {
            let owner_quotas = self.open_owner_quotas()?;
            let name = (keyspace.id, owner.as_str());
            quota_status(&owner_quotas, &self.quotas, self.ring, name, self.clock)
        })?;
        Ok(assemble(keyspace, owner, record, quota))
    }
}

/// Puts a record in the place of one, or removes it, and says what was there.
fn replace<T: Stored>(
    table: &mut OwnerTable<'_>,
    ring: &Keyring,
    tagged: Tagged,
    (keyspace, owner): (u32, &OwnerPath),
    new: Option<&T>,
) -> Result<Result<Option<T>, Error>, Error> {
    let key = tag_key(keyspace, owner.as_str());
    let name = (keyspace, owner.as_str());
    let old: Replaced<'_> = match new {
        Some(new) => {
            let bytes = tables::seal(ring, tagged, &key, new)?;
            table.insert(name, bytes.as_slice()).or_store()?
        }
        None => table.remove(name).or_store()?,
    };
    let old = old.map(|old| tables::unseal(ring, tagged, &key, old.value()));
    Ok(old.transpose())
}
