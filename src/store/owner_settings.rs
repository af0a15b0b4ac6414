//! What the store has of the settings of owners.

use std::ops::Bound;

use redb::ReadableTable;

use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::filter::{Cursor, Order, bad_cursor};
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::{OwnerSettings, OwnerSettingsPage, Setting};
use crate::model::quota::{Quota, QuotaStatus};
use crate::store::failure::OrStore;
use crate::store::quota::QuotaRecord;
use crate::store::read;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{
    Bytes, KEYSPACES, OWNER_QUOTAS, OWNER_SETTINGS, QUOTAS, Stored, Tagged, unseal,
};

/// An owner in a keyspace, by the number of the keyspace.
pub(crate) type OwnerName = (u32, OwnerPath);

/// What an owner has of its own in a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerSettingsRecord {
    /// The number of its plan, counted from 1; 0: none.
    pub(crate) plan: u16,
    /// Limits in the place of the plan's.
    pub(crate) limits: Option<Vec<Limit>>,
    /// Its quota. What is left of it, [`OwnerQuota`] leads to.
    pub(crate) quota: Setting<Quota>,
    pub(crate) cap: Setting<u32>,
    /// The position of the last audit entry about it.
    pub(crate) revision: u64,
    pub(crate) updated_at: Timestamp,
    pub(crate) updated_by: Option<String>,
}

/// The number of the quota that an owner has in a keyspace, be it of its own or of the
/// defaults of its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerQuota {
    pub(crate) number: u64,
}

impl OwnerSettingsRecord {
    pub(crate) fn nothing() -> Self {
        Self {
            plan: 0,
            limits: None,
            quota: Setting::Default,
            cap: Setting::Default,
            revision: 0,
            updated_at: Timestamp::MIN,
            updated_by: None,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.plan == 0 && self.limits.is_none() && self.quota.is_default() && self.cap.is_default()
    }
}

/// What the records of an owner in a keyspace are bound to.
pub(crate) fn tag_key(keyspace: u32, path: &str) -> Vec<u8> {
    [&keyspace.to_le_bytes(), path.as_bytes()].concat()
}

/// A record of an owner in a keyspace, as messages name it.
pub(crate) fn shown(keyspace: u32, path: &str) -> String {
    format!("{keyspace} {}", path.escape_debug())
}

fn find<T: Stored>(
    table: &impl ReadableTable<(u32, &'static str), Bytes>,
    ring: &Keyring,
    tagged: Tagged,
    keyspace: u32,
    path: &str,
) -> Result<Option<T>, Error> {
    match table.get((keyspace, path)).or_store()? {
        Some(record) => unseal(ring, tagged, &tag_key(keyspace, path), record.value()).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn find_settings(
    table: &impl ReadableTable<(u32, &'static str), Bytes>,
    ring: &Keyring,
    keyspace: u32,
    path: &str,
) -> Result<Option<OwnerSettingsRecord>, Error> {
    find(table, ring, Tagged::OwnerSettings, keyspace, path)
}

pub(crate) fn find_quota(
    table: &impl ReadableTable<(u32, &'static str), Bytes>,
    ring: &Keyring,
    keyspace: u32,
    path: &str,
) -> Result<Option<OwnerQuota>, Error> {
    find(table, ring, Tagged::OwnerQuota, keyspace, path)
}

/// Settings as callers see them; without a record, those of an owner that has none.
pub(crate) fn assemble(
    keyspace: &Keyspace,
    owner: &OwnerPath,
    record: Option<OwnerSettingsRecord>,
    quota: Setting<QuotaStatus>,
) -> OwnerSettings {
    let updated_at = record.as_ref().map(|record| record.updated_at);
    let record = record.unwrap_or_else(OwnerSettingsRecord::nothing);
    OwnerSettings {
        keyspace: keyspace.prefix,
        owner: owner.clone(),
        plan: keyspace
            .plan_numbered(record.plan)
            .map(|plan| plan.name.clone()),
        limits: record.limits,
        quota,
        cap: record.cap,
        updated_at,
        updated_by: record.updated_by,
    }
}

/// What an owner has of its own for a quota, with what is left of one.
pub(crate) fn status_of(
    record: Option<&OwnerSettingsRecord>,
    left: impl FnOnce() -> Result<QuotaStatus, Error>,
) -> Result<Setting<QuotaStatus>, Error> {
    Ok(
        match record.map_or(Setting::Default, |record| record.quota) {
            Setting::Default => Setting::Default,
            Setting::Unlimited => Setting::Unlimited,
            Setting::Own(_) => Setting::Own(left()?),
        },
    )
}

/// What is left of an owner's own quota.
pub(crate) fn quota_status(
    owner_quotas: &impl ReadableTable<(u32, &'static str), Bytes>,
    quotas: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    (keyspace, path): (u32, &str),
    now: Timestamp,
) -> Result<QuotaStatus, Error> {
    let found = find_quota(owner_quotas, ring, keyspace, path)?.ok_or_else(|| {
        let record = shown(keyspace, path);
        Error::corrupted(
            "owner_quotas",
            record,
            "it is missing, and its owner has one",
        )
    })?;
    Ok(read::quota(quotas, ring, found.number)?.status(now))
}

impl Snapshot {
    /// What an owner has of its own in a keyspace.
    pub(crate) fn owner_settings(
        &self,
        prefix: Prefix,
        owner: &OwnerPath,
        now: Timestamp,
    ) -> Result<OwnerSettings, Error> {
        let number = self.keyspace_number(prefix)?;
        let keyspace = read::keyspace(&self.table(KEYSPACES)?, self.ring(), number)?;
        self.describe_owner(&keyspace, owner, now)
    }

    /// The quota that an owner's requests are charged to, of its own or of the defaults of its
    /// level, as it stands at an instant of the clock: full, and without a number, where
    /// nothing was spent of it yet. `None`: there is none.
    pub(crate) fn owner_quota(
        &self,
        number: u32,
        owner: &OwnerPath,
        clock: Timestamp,
    ) -> Result<Option<(Option<u64>, QuotaRecord)>, Error> {
        let keyspace = read::keyspace(&self.table(KEYSPACES)?, self.ring(), number)?;
        let settings = self.find_owner_settings(number, owner.as_str())?;
        let own = settings.map_or(Setting::Default, |settings| settings.quota);
        let Some(quota) = own.or_default(keyspace.default_quota(owner.depth())) else {
            return Ok(None);
        };
        let known = self.table(OWNER_QUOTAS)?;
        if let Some(found) = find_quota(&known, self.ring(), number, owner.as_str())? {
            let record = read::quota(&self.table(QUOTAS)?, self.ring(), found.number)?;
            if record.quota == quota {
                return Ok(Some((Some(found.number), record.at(clock))));
            }
        }
        Ok(Some((None, QuotaRecord::new(quota, 1, 0, clock))))
    }

    fn describe_owner(
        &self,
        keyspace: &Keyspace,
        owner: &OwnerPath,
        now: Timestamp,
    ) -> Result<OwnerSettings, Error> {
        let name = (keyspace.id, owner.as_str());
        let record = self.find_owner_settings(keyspace.id, owner.as_str())?;
        let quota = status_of(record.as_ref(), || {
            let (owner_quotas, quotas) = (self.table(OWNER_QUOTAS)?, self.table(QUOTAS)?);
            quota_status(&owner_quotas, &quotas, self.ring(), name, now)
        })?;
        Ok(assemble(keyspace, owner, record, quota))
    }

    /// The record of an owner in a keyspace, by the number of the keyspace.
    pub(crate) fn find_owner_settings(
        &self,
        keyspace: u32,
        path: &str,
    ) -> Result<Option<OwnerSettingsRecord>, Error> {
        find_settings(&self.table(OWNER_SETTINGS)?, self.ring(), keyspace, path)
    }

    /// Calls `each` with every owner that has settings, and with them, or with what is
    /// wrong with their record.
    pub(crate) fn each_owner_settings(
        &self,
        mut each: impl FnMut(OwnerName, Result<OwnerSettingsRecord, Corruption>),
    ) -> Result<(), Error> {
        let table = self.table(OWNER_SETTINGS)?;
        for entry in ReadableTable::iter(&table).or_store()? {
            let (name, record) = entry.or_store()?;
            let (keyspace, path) = name.value();
            // One that is no path is no owner's.
            let Ok(owner) = path.parse() else { continue };
            let key = tag_key(keyspace, path);
            let read = unseal(self.ring(), Tagged::OwnerSettings, &key, record.value());
            each((keyspace, owner), Error::or_damaged(read)?);
        }
        Ok(())
    }

    /// A page of the owners of a keyspace that have settings.
    pub(crate) fn owner_settings_page(
        &self,
        prefix: Prefix,
        after: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<OwnerSettingsPage, Error> {
        let number = self.keyspace_number(prefix)?;
        let keyspace = read::keyspace(&self.table(KEYSPACES)?, self.ring(), number)?;
        let start = match after {
            Some(cursor) => Bound::Excluded((number, path_of(cursor, number)?)),
            None => Bound::Included((number, "")),
        };
        let end = Bound::Excluded((number.saturating_add(1), ""));
        let mut page = OwnerSettingsPage {
            owners: Vec::new(),
            damaged: Vec::new(),
            next: None,
        };
        let table = self.table(OWNER_SETTINGS)?;
        for entry in ReadableTable::range::<(u32, &str)>(&table, (start, end)).or_store()? {
            let name = entry.or_store()?.0;
            let (_, path) = name.value();
            let read = match path.parse::<OwnerPath>() {
                Ok(owner) => self.describe_owner(&keyspace, &owner, now),
                Err(_) => {
                    let record = shown(number, path);
                    Err(Error::corrupted(
                        "owner_settings",
                        record,
                        "it is not a path",
                    ))
                }
            };
            match Error::or_damaged(read)? {
                Ok(settings) => page.owners.push(settings),
                Err(damage) => page.damaged.push(damage),
            }
            if page.owners.len() + page.damaged.len() >= limit {
                page.next = Some(Cursor {
                    order: Order::Settings,
                    position: [&number.to_be_bytes(), path.as_bytes()].concat(),
                });
                break;
            }
        }
        Ok(page)
    }
}

/// The path that a page ended with, of the same keyspace.
fn path_of(cursor: &Cursor, keyspace: u32) -> Result<&str, Error> {
    if cursor.order != Order::Settings {
        let why = "it comes from a listing of another order";
        return Err(bad_cursor(why).into());
    }
    let path = match cursor.position.split_first_chunk() {
        Some((number, path)) if u32::from_be_bytes(*number) == keyspace => path,
        _ => return Err(bad_cursor("it comes from a listing of another keyspace").into()),
    };
    let path = std::str::from_utf8(path);
    path.map_err(|_| bad_cursor("it is not one that a page ended with").into())
}
