//! Creating and changing keyspaces.

use std::time::Duration;

use crate::model::audit::{AuditEvent, Change, quoted, quoted_or_none};
use crate::model::bounds;
use crate::model::error::{Conflict, Difference, Error};
use crate::model::id::Prefix;
use crate::model::keyspace::{Keyspace, KeyspaceUpdate, NewKeyspace};
use crate::store::tx::Tx;

pub(crate) fn create(
    tx: &mut Tx<'_>,
    new: &NewKeyspace,
    actor: Option<&str>,
) -> Result<Keyspace, Error> {
    match tx.find_keyspace(new.prefix)? {
        Some(_) => Err(Conflict::PrefixTaken(new.prefix).into()),
        None => put_new(tx, new, actor),
    }
}

/// Creates a keyspace, or returns an existing one that is equal, without a write.
pub(crate) fn ensure(
    tx: &mut Tx<'_>,
    new: &NewKeyspace,
    actor: Option<&str>,
) -> Result<Keyspace, Error> {
    let Some(found) = tx.find_keyspace(new.prefix)? else {
        return put_new(tx, new, actor);
    };
    let asked = new.build(found.id, found.revision, found.created_at)?;
    let differences: Vec<_> = changes(&declared(&found), &declared(&asked))
        .into_iter()
        .map(|change| Difference::new(change.field, &change.before, &change.after))
        .collect();
    match differences.is_empty() {
        true => Ok(found),
        false => Err(Conflict::KeyspaceDiffers {
            keyspace: new.prefix,
            differences,
        }
        .into()),
    }
}

/// The part of a keyspace that a [`NewKeyspace`] sets: without retired names, and with
/// plans in no order.
fn declared(keyspace: &Keyspace) -> Keyspace {
    let mut declared = keyspace.clone();
    declared.permissions.retain(|known| !known.retired);
    declared
        .plans
        .sort_by(|one, other| one.name.cmp(&other.name));
    declared
}

fn put_new(tx: &mut Tx<'_>, new: &NewKeyspace, actor: Option<&str>) -> Result<Keyspace, Error> {
    if tx.keyspace_count()? >= bounds::KEYSPACES_MAX as u64 {
        return Err(Conflict::TooManyKeyspaces(bounds::KEYSPACES_MAX).into());
    }
    let keyspace = new.build(tx.next_keyspace_number(), tx.next_seq(), tx.now())?;
    tx.put_keyspace(&keyspace)?;
    tx.audit(
        actor,
        AuditEvent::KeyspaceCreated {
            keyspace: new.prefix,
        },
    )?;
    Ok(keyspace)
}

pub(crate) fn update(
    tx: &mut Tx<'_>,
    prefix: Prefix,
    update: &KeyspaceUpdate,
    actor: Option<&str>,
) -> Result<Keyspace, Error> {
    let old = tx.keyspace(prefix)?;
    let mut new = update.apply(&old, tx.now())?;
    if new == old {
        return Ok(old);
    }
    let mut damaged = Vec::new();
    if new.keys_per_owner.is_single() && !old.keys_per_owner.is_single() {
        let (crowded, unread) = tx.owner_with_several(old.id)?;
        if let Some(owner) = crowded {
            return Err(Conflict::OwnerHoldsSeveral {
                keyspace: prefix,
                owner,
            }
            .into());
        }
        damaged = unread;
    }

    // These keys were not counted, so a copy in memory must not grant either.
    for id in damaged {
        tx.forget(id);
    }
    new.revision = tx.next_seq();
    tx.put_keyspace(&new)?;
    let changes = changes(&old, &new);
    tx.audit(
        actor,
        AuditEvent::KeyspaceUpdated {
            keyspace: prefix,
            changes,
        },
    )?;
    Ok(new)
}

fn changes(old: &Keyspace, new: &Keyspace) -> Vec<Change> {
    let mut changes = Vec::new();
    Change::note(
        &mut changes,
        "description",
        &old.description,
        &new.description,
        |text| quoted(text),
    );
    Change::note(
        &mut changes,
        "permissions",
        &old.permissions,
        &new.permissions,
        |names| {
            names
                .iter()
                .map(|known| match known.retired {
                    true => format!("{} (retired)", known.name),
                    false => known.name.clone(),
                })
                .collect::<Vec<_>>()
                .join(", ")
        },
    );
    Change::note(
        &mut changes,
        "keys per owner",
        &old.keys_per_owner,
        &new.keys_per_owner,
        |policy| format!("{policy:?}"),
    );
    let lifetime = |lifetime: &Option<Duration>| match lifetime {
        Some(lifetime) => format!("{lifetime:?}"),
        None => "none".to_owned(),
    };
    Change::note(
        &mut changes,
        "default lifetime",
        &old.default_lifetime,
        &new.default_lifetime,
        lifetime,
    );
    Change::note(
        &mut changes,
        "maximum lifetime",
        &old.max_lifetime,
        &new.max_lifetime,
        lifetime,
    );
    let grace = (&old.max_grace, &new.max_grace);
    Change::note(&mut changes, "maximum grace", grace.0, grace.1, lifetime);
    Change::note(
        &mut changes,
        "count retiring",
        &old.count_retiring,
        &new.count_retiring,
        ToString::to_string,
    );
    Change::note(&mut changes, "plans", &old.plans, &new.plans, |plans| {
        let plans: Vec<_> = plans.iter().map(ToString::to_string).collect();
        plans.join("; ")
    });
    Change::note(
        &mut changes,
        "default plan",
        &old.default_plan,
        &new.default_plan,
        |name| quoted_or_none(name.as_deref()),
    );
    Change::note(
        &mut changes,
        "owner defaults",
        &old.owner_defaults,
        &new.owner_defaults,
        |levels| {
            let levels: Vec<_> = levels
                .iter()
                .map(|(depth, defaults)| format!("{depth}: {defaults}"))
                .collect();
            levels.join("; ")
        },
    );
    changes
}
