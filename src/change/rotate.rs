//! Replacing a key by a new one of the same owner.

use super::issue::{draw, supersede};
use super::{refuse_if_over, update};
use crate::audit::AuditEvent;
use crate::error::{Error, Refusal};
use crate::id::KeyId;
use crate::key::{ColdRecord, Reason, Rotated, Rotation, check_life};
use crate::keyspace::Keyspace;
use crate::quota::Quota;
use crate::record::{KeyRecord, Phase};
use crate::store::tx::Tx;
use crate::token::Entropy;

pub(crate) fn rotate(
    tx: &mut Tx<'_>,
    id: KeyId,
    rotation: &Rotation,
    actor: Option<&str>,
) -> Result<Rotated, Error> {
    let now = tx.now();
    let old = tx.key(id)?;
    let old_cold = tx.cold(id)?;
    refuse_unless_rotatable(tx, &old, &old_cold)?;
    rotation
        .changes
        .quota
        .flatten()
        .map_or(Ok(()), Quota::check)?;
    let keyspace = tx.keyspace_numbered(old.keyspace)?;
    let (mut new, mut new_cold) = update::amended(&old, &old_cold, &rotation.changes, &keyspace)?;
    // A retired permission is not given to a new key.
    new.permissions = new.permissions & keyspace.active_mask();
    new.expires_at = match rotation.changes.expiry {
        Some(expiry) => expiry.resolve(&keyspace, now, now)?,
        // A maximum that the keyspace was given since holds for the new key.
        None => {
            let latest = keyspace.max_lifetime.map(|max| now.saturating_add(max));
            [old.expires_at, latest].into_iter().flatten().min()
        }
    };
    check_life(new.not_before, new.expires_at)?;
    let (ending, lapsed) = older_retiring(tx, &old, &old_cold, &keyspace)?;
    let drawn = draw(tx, &keyspace.prefix, &mut Entropy::new(), |_| false)?;

    let seq = tx.next_seq();
    new.id = drawn.id;
    new.phase = Phase::Current;
    new.revision = seq;
    new.pepper = drawn.pepper;
    new.digest = drawn.digest;
    new_cold.created_at = now;
    new_cold.created_by = actor.map(str::to_owned);
    new_cold.predecessor = Some(old.id);
    new_cold.successor = None;
    let own_quota = rotation.changes.quota.flatten();
    new.has_quota =
        own_quota.is_some() || (rotation.changes.quota.is_none() && old_cold.quota.is_some());

    let grace_end = now.saturating_add(rotation.grace);
    let until = old.expires_at.map_or(grace_end, |at| at.min(grace_end));
    let retired = KeyRecord {
        phase: if until > now {
            Phase::Retiring { until }
        } else {
            Phase::Revoked {
                at: now,
                reason: Reason::Superseded,
            }
        },
        revision: seq,
        ..old.clone()
    };
    let retired_cold = ColdRecord {
        successor: Some(new.id),
        ..old_cold
    };

    for key in &ending {
        supersede(tx, key, seq)?;
    }
    for key in &lapsed {
        tx.set_over(key)?;
    }
    tx.replace_key(&old, &retired)?;
    tx.put_cold(old.id, &retired_cold)?;
    match (rotation.changes.quota, new_cold.quota) {
        (Some(own), _) => new_cold.quota = own.map(|own| tx.new_quota(own)).transpose()?,
        (None, Some(number)) => tx.join_quota(number)?,
        (None, None) => {}
    }
    tx.insert_key(&new, &new_cold)?;
    tx.audit(
        actor,
        AuditEvent::KeyRotated {
            old: old.id,
            new: new.id,
            retiring_until: (until > now).then_some(until),
            superseded: ending.iter().map(|key| key.id).collect(),
        },
    )?;
    Ok(Rotated {
        key: tx.describe(&new, new_cold)?,
        token: drawn.token,
        old: tx.describe(&retired, retired_cold)?,
    })
}

fn refuse_unless_rotatable(tx: &Tx<'_>, key: &KeyRecord, cold: &ColdRecord) -> Result<(), Error> {
    refuse_if_over(key, tx.now())?;
    if key.disabled {
        return Err(Refusal::Disabled(key.id).into());
    }
    match (key.phase, cold.successor) {
        (Phase::Retiring { .. }, Some(successor)) => Err(Refusal::AlreadyRotated {
            key: key.id,
            successor,
        }
        .into()),
        (Phase::Retiring { .. }, None) => Err(Error::corrupted(
            "cold",
            key.id,
            "a retiring key has no successor",
        )),
        _ => Ok(()),
    }
}

/// The keys whose grace this rotation ends, so that at most one predecessor
/// retires, and those whose grace is over. In a single-active keyspace an owner
/// has at most one retiring key of any lineage.
fn older_retiring(
    tx: &Tx<'_>,
    old: &KeyRecord,
    cold: &ColdRecord,
    keyspace: &Keyspace,
) -> Result<(Vec<KeyRecord>, Vec<KeyRecord>), Error> {
    let is_retiring = |key: &KeyRecord| matches!(key.phase, Phase::Retiring { .. });
    if keyspace.keys_per_owner.is_single() {
        let holdings = tx.holdings(&old.owner, keyspace.id)?;
        let ending = holdings.good.into_iter().filter(is_retiring).collect();
        return Ok((ending, holdings.lapsed));
    }
    // It may be purged since.
    let predecessor = match cold.predecessor {
        Some(id) => tx.find_key(id)?.filter(is_retiring),
        None => None,
    };
    let (lapsed, ending) = predecessor
        .into_iter()
        .partition(|key| crate::policy::Life::from(key).is_over(tx.now()));
    Ok((ending, lapsed))
}
