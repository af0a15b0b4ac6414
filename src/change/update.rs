//! Changing keys: updating fields and rights, disabling and enabling, renewing digests.

use std::collections::BTreeMap;

use super::refuse_if_over;
use crate::crypto::digest::digests_equal;
use crate::memory::usage::Renewal;
use crate::model::audit::{AuditEvent, Change, quoted, quoted_or_none};
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::KeyId;
use crate::model::key::{
    ColdRecord, Key, KeyUpdate, validate_descriptive, validate_life, validate_networks,
    validate_own_limits,
};
use crate::model::keyspace::Keyspace;
use crate::model::permissions::Permissions;
use crate::model::plan::own_limits_text;
use crate::model::quota::Quota;
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tx::Tx;

pub(crate) fn update(
    tx: &mut Tx<'_>,
    id: KeyId,
    changes: &KeyUpdate,
    actor: Option<&str>,
) -> Result<Key, Error> {
    let old = tx.key(id)?;
    refuse_if_over(tx, &old)?;
    let old_cold = tx.cold(id)?;
    let keyspace = tx.keyspace_numbered(old.keyspace)?;
    let (mut new, new_cold) = amended(&old, &old_cold, changes, &keyspace)?;
    if let Some(expiry) = changes.expiry {
        new.expires_at = expiry.resolve(&keyspace, old_cold.created_at, tx.now())?;
        validate_life(new.not_before, new.expires_at)?;
    }
    let mut noted = noted(&old, &old_cold, &new, &new_cold, &keyspace);
    let mut new_cold = new_cold;
    if let Some(quota) = changes.quota {
        quota.map_or(Ok(()), Quota::validate)?;
        let before = match old_cold.quota {
            Some(number) => Some(tx.quota(number)?.quota),
            None => None,
        };
        Change::note(&mut noted, "quota", &before, &quota, |quota| {
            quota.map_or("none".to_owned(), |quota| quota.to_string())
        });
        // Setting the same quota again refills it: a change without a difference.
        if quota.is_some() && before == quota {
            noted.push(Change {
                field: "quota".to_owned(),
                before: "in use".to_owned(),
                after: "full".to_owned(),
            });
        }
        new.has_quota = quota.is_some();
    }
    if noted.is_empty() {
        return tx.describe(&old, old_cold);
    }

    new.revision = tx.next_seq();
    tx.replace_key(&old, &new)?;
    if let Some(quota) = changes.quota {
        new_cold.quota = change_quota(tx, old_cold.quota, quota)?;
    }
    if new_cold != old_cold {
        tx.put_cold(id, &new_cold)?;
    }
    tx.audit(
        actor,
        AuditEvent::KeyUpdated {
            key: id,
            changes: noted,
        },
    )?;
    tx.describe(&new, new_cold)
}

/// Gives a key and those that share its quota another quota, or removes this key from
/// those that share it. Returns the number of the key's quota.
fn change_quota(
    tx: &mut Tx<'_>,
    number: Option<u64>,
    quota: Option<Quota>,
) -> Result<Option<u64>, Error> {
    match (number, quota) {
        (Some(number), Some(quota)) => {
            tx.replace_quota(number, quota)?;
            Ok(Some(number))
        }
        (None, Some(quota)) => tx.new_quota(quota).map(Some),
        (Some(number), None) => {
            tx.leave_quota(number)?;
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// The records with all changes but those of expiry and quota, checked.
pub(super) fn amended(
    record: &KeyRecord,
    cold: &ColdRecord,
    changes: &KeyUpdate,
    keyspace: &Keyspace,
) -> Result<(KeyRecord, ColdRecord), Error> {
    let mut record = record.clone();
    let mut cold = cold.clone();
    if let Some(name) = &changes.name {
        cold.name.clone_from(name);
    }
    if let Some(description) = &changes.description {
        cold.description.clone_from(description);
    }
    for (name, value) in &changes.labels {
        match value {
            Some(value) => cold.labels.insert(name.clone(), value.clone()),
            None => cold.labels.remove(name),
        };
    }
    if let Some((names, bits)) = &changes.replace {
        record.permissions = keyspace.resolve(names, *bits)?;
    }
    record.permissions = record.permissions | keyspace.mask(&changes.add)?;
    record.permissions = record.permissions - withdrawn(&changes.withdraw, keyspace)?;
    if let Some(networks) = &changes.networks {
        record.networks.clone_from(networks);
    }
    if let Some(plan) = &changes.plan {
        record.plan = match plan {
            Some(name) => keyspace.plan_number(name)?,
            None => 0,
        };
    }
    if let Some(limits) = &changes.limits {
        validate_own_limits(limits.as_deref())?;
        cold.limits.clone_from(limits);
        record.has_own_limits = limits.is_some();
    }
    // Only what the caller gives: the rule for text may have become stricter, and a
    // stored text must not stop other changes.
    validate_descriptive(
        changes.name.as_ref().and_then(Option::as_deref),
        changes.description.as_ref().and_then(Option::as_deref),
    )?;
    bounds::validate_count("labels", cold.labels.len(), bounds::LABELS_MAX)?;
    for (name, value) in &changes.labels {
        if let Some(value) = value {
            bounds::validate_label(name, value)?;
        }
    }
    validate_networks(&record.networks)?;
    Ok((record, cold))
}

/// The mask of names to remove, which may be retired.
fn withdrawn(names: &[String], keyspace: &Keyspace) -> Result<Permissions, Error> {
    let mut mask = Permissions::NONE;
    for name in names {
        match keyspace.mask([name]) {
            Ok(bit) => mask = mask | bit,
            Err(Error::Invalid(Invalid::RetiredPermission { .. })) => {
                let at = keyspace.permissions.iter().position(|p| p.name == *name);
                mask = mask | at.map_or(Permissions::NONE, Permissions::bit);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(mask)
}

/// What differs, as text, for the audit trail.
fn noted(
    old: &KeyRecord,
    old_cold: &ColdRecord,
    new: &KeyRecord,
    new_cold: &ColdRecord,
    keyspace: &Keyspace,
) -> Vec<Change> {
    let text = |text: &Option<String>| quoted_or_none(text.as_deref());
    let mut changes = Vec::new();
    let all = &mut changes;
    Change::note(all, "name", &old_cold.name, &new_cold.name, text);
    Change::note(
        all,
        "description",
        &old_cold.description,
        &new_cold.description,
        text,
    );
    Change::note(
        all,
        "labels",
        &old_cold.labels,
        &new_cold.labels,
        |labels| {
            let pairs: Vec<_> = labels
                .iter()
                .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
                .collect();
            pairs.join(", ")
        },
    );
    Change::note(
        all,
        "permissions",
        &old.permissions,
        &new.permissions,
        |mask| keyspace.names(*mask).join(", "),
    );
    Change::note(
        all,
        super::time::EXPIRES_AT,
        &old.expires_at,
        &new.expires_at,
        |expiry: &Option<Timestamp>| expiry.map_or("never".to_owned(), |at| at.to_string()),
    );
    Change::note(all, "networks", &old.networks, &new.networks, |networks| {
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        networks.join(", ")
    });
    Change::note(all, "plan", &old.plan, &new.plan, |number| {
        keyspace
            .plan_numbered(*number)
            .map_or("none".to_owned(), |plan| quoted(&plan.name))
    });
    Change::note(
        all,
        "limits",
        &old_cold.limits,
        &new_cold.limits,
        |limits| own_limits_text(limits.as_deref()),
    );
    changes
}

/// Disables or enables a key. Without a difference, it writes nothing.
pub(crate) fn set_disabled(
    tx: &mut Tx<'_>,
    id: KeyId,
    disabled: bool,
    actor: Option<&str>,
) -> Result<Key, Error> {
    let old = tx.key(id)?;
    refuse_if_over(tx, &old)?;
    let cold = tx.cold(id)?;
    if old.disabled == disabled {
        return tx.describe(&old, cold);
    }
    let new = KeyRecord {
        disabled,
        revision: tx.next_seq(),
        ..old.clone()
    };
    tx.replace_key(&old, &new)?;
    let event = match disabled {
        true => AuditEvent::KeyDisabled { key: id },
        false => AuditEvent::KeyEnabled { key: id },
    };
    tx.audit(actor, event)?;
    tx.describe(&new, cold)
}

/// Puts digests under the pepper that signs, where they are still what they were when the
/// token was seen. In a fleet, another one may sign by now: then they are seen again, but for
/// a key that was not seen before, whose use must not be lost.
pub(crate) fn renew_digests(tx: &mut Tx<'_>, renewals: &[Renewal]) -> Result<(), Error> {
    let mut by_pepper: BTreeMap<u8, Vec<&Renewal>> = BTreeMap::new();
    for renewal in renewals {
        by_pepper.entry(renewal.pepper).or_default().push(renewal);
    }
    for (pepper, renewals) in by_pepper {
        renew_under(tx, pepper, renewals)?;
    }
    Ok(())
}

fn renew_under(tx: &mut Tx<'_>, pepper: u8, renewals: Vec<&Renewal>) -> Result<(), Error> {
    let signs = pepper == tx.ring().signing_pepper();
    let seq = tx.next_seq();
    let mut keys = Vec::new();
    for renewal in renewals {
        let Some(old) = tx.find_key(renewal.id)? else {
            continue;
        };
        let is_revoked = matches!(old.phase, Phase::Revoked { .. });
        let is_of_it = old.pepper == pepper;
        let is_due = match old.scheme.is_unseen() {
            // Every server has the pepper that the key had before.
            true => signs || is_of_it,
            false => signs && !is_of_it,
        };
        if is_revoked || !is_due || !digests_equal(&old.digest, &renewal.old) {
            continue;
        }
        let scheme = match old.scheme {
            Scheme::Unseen => Scheme::Seen,
            same => same,
        };
        // The same token may have been imported twice, by hashes of two kinds.
        let taken = match scheme.is_foreign() {
            true => tx.key_of_digest(&renewal.new)?,
            false => None,
        };
        if taken.is_some_and(|taken| taken != old.id) {
            continue;
        }
        let new = KeyRecord {
            pepper,
            scheme,
            digest: renewal.new,
            revision: seq,
            ..old.clone()
        };
        tx.replace_key(&old, &new)?;
        keys.push(renewal.id);
    }
    match keys.is_empty() {
        true => Ok(()),
        false => tx.audit(None, AuditEvent::DigestsRenewed { pepper, keys }),
    }
}
