//! Changing what an owner has of its own in a keyspace.
//!
//! One record is written, and no key is touched, however many there are below the owner.

use crate::model::audit::{AuditEvent, Change, quoted};
use crate::model::bounds;
use crate::model::error::{Conflict, Error};
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::{OwnerSettings, OwnerUpdate, Setting};
use crate::model::plan::own_limits_text;
use crate::store::owner_settings::OwnerSettingsRecord;
use crate::store::tx::Tx;

pub(crate) fn update(
    tx: &mut Tx<'_>,
    prefix: Prefix,
    owner: &OwnerPath,
    update: &OwnerUpdate,
    actor: Option<&str>,
) -> Result<OwnerSettings, Error> {
    update.validate()?;
    let keyspace = tx.keyspace(prefix)?;
    // What cannot be read is found here, before anything is written.
    let before = tx.describe_owner(&keyspace, owner)?;
    let found = tx.find_owner_settings(keyspace.id, owner)?;
    let _ = tx.find_owner_quota(keyspace.id, owner)?;
    let is_new = found.is_none();
    let old = found.unwrap_or_else(OwnerSettingsRecord::nothing);
    let mut new = amended(&old, update, &keyspace)?;
    let mut changes = noted(&old, &new, &keyspace);
    // The same quota again is a full one: a change where nothing differs.
    if new.quota.own().is_some() && update.quota.is_some() && old.quota == new.quota {
        changes.push(Change {
            field: "quota".to_owned(),
            before: "in use".to_owned(),
            after: "full".to_owned(),
        });
    }
    if changes.is_empty() {
        return Ok(before);
    }
    if is_new {
        refuse_at_bound(tx.owner_settings_count()?)?;
    }

    new.revision = tx.next_seq();
    new.updated_at = tx.now();
    new.updated_by = actor.map(str::to_owned);
    tx.put_owner_settings(keyspace.id, owner, &new)?;
    if changes.iter().any(|change| change.field == "quota") {
        match new.quota.own() {
            Some(quota) => drop(tx.set_owner_quota(keyspace.id, owner, quota)?),
            // That of its level is begun, full, by the first request that spends of it: with an
            // entry in the trail, by which it is missed if it is lost.
            None => tx.remove_owner_quota(keyspace.id, owner)?,
        }
    }
    tx.audit(
        actor,
        AuditEvent::OwnerUpdated {
            keyspace: prefix,
            owner: owner.clone(),
            changes,
        },
    )?;
    tx.describe_owner(&keyspace, owner)
}

fn amended(
    old: &OwnerSettingsRecord,
    update: &OwnerUpdate,
    keyspace: &Keyspace,
) -> Result<OwnerSettingsRecord, Error> {
    let mut new = old.clone();
    if let Some(plan) = &update.plan {
        new.plan = match plan {
            Some(name) => keyspace.plan_number(name)?,
            None => 0,
        };
    }
    if let Some(limits) = &update.limits {
        new.limits.clone_from(limits);
    }
    new.quota = update.quota.unwrap_or(old.quota);
    new.cap = update.cap.unwrap_or(old.cap);
    Ok(new)
}

/// What differs, as text, for the audit trail.
fn noted(old: &OwnerSettingsRecord, new: &OwnerSettingsRecord, keyspace: &Keyspace) -> Vec<Change> {
    let mut changes = Vec::new();
    let all = &mut changes;
    Change::note(all, "plan", &old.plan, &new.plan, |number| {
        keyspace
            .plan_numbered(*number)
            .map_or("none".to_owned(), |plan| quoted(&plan.name))
    });
    Change::note(all, "limits", &old.limits, &new.limits, |limits| {
        own_limits_text(limits.as_deref())
    });
    Change::note(all, "quota", &old.quota, &new.quota, Setting::to_string);
    Change::note(all, "cap", &old.cap, &new.cap, Setting::to_string);
    changes
}

/// Settings are in memory, all of them.
fn refuse_at_bound(count: u64) -> Result<(), Conflict> {
    match count < bounds::OWNER_SETTINGS_MAX {
        true => Ok(()),
        false => Err(Conflict::TooManyOwnerSettings(bounds::OWNER_SETTINGS_MAX)),
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
