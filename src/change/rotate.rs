//! Replacing a key with a new one of the same owner.

use super::issue::{draw, is_current, supersede};
use super::{caps, refuse_if_over, update};
use crate::crypto::token::Entropy;
use crate::model::audit::AuditEvent;
use crate::model::error::{Conflict, Error};
use crate::model::id::KeyId;
use crate::model::key::{ColdRecord, Rotated, Rotation, validate_life};
use crate::model::keyspace::Keyspace;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::store::life::Life;
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tx::Tx;
use crate::store::tx::held::{Holdings, Lapsed, weigh};

pub(crate) fn rotate(
    tx: &mut Tx<'_>,
    id: KeyId,
    rotation: &Rotation,
    actor: Option<&str>,
) -> Result<Rotated, Error> {
    replace(tx, id, rotation, actor, Replacing::Rotation)
}

/// As [`rotate`], also where the key has expired: then the rotation says when the new one
/// does.
pub(crate) fn renew(
    tx: &mut Tx<'_>,
    id: KeyId,
    rotation: &Rotation,
    actor: Option<&str>,
) -> Result<Rotated, Error> {
    replace(tx, id, rotation, actor, Replacing::Renewal)
}

/// What the old key has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacing {
    /// A key that is good.
    Rotation,
    /// A key that has expired.
    Renewal,
}

fn replace(
    tx: &mut Tx<'_>,
    id: KeyId,
    rotation: &Rotation,
    actor: Option<&str>,
    how: Replacing,
) -> Result<Rotated, Error> {
    let now = tx.now();
    let old = tx.key(id)?;
    let old_cold = tx.cold(id)?;
    let has_expired = Life::from(&old).is_over_by_expiry(now);
    let how = match how {
        Replacing::Renewal if has_expired && rotation.changes.expiry.is_some() => how,
        _ => Replacing::Rotation,
    };
    let renews = how == Replacing::Renewal;
    if renews {
        tx.tell_over();
    }
    let replaced = refuse_unless_rotatable(tx, &old, &old_cold, how)?;
    rotation
        .changes
        .quota
        .flatten()
        .map_or(Ok(()), Quota::validate)?;
    let keyspace = tx.keyspace_numbered(old.keyspace)?;
    let (mut new, mut new_cold) = update::amended(&old, &old_cold, &rotation.changes, &keyspace)?;
    // A new key does not get a retired permission.
    new.permissions = new.permissions & keyspace.active_mask();
    new.expires_at = match rotation.changes.expiry {
        Some(expiry) => expiry.resolve(&keyspace, now, now)?,
        // A maximum lifetime set since applies to the new key.
        None => {
            let latest = keyspace.max_lifetime.map(|max| now.saturating_add(max));
            [old.expires_at, latest].into_iter().flatten().min()
        }
    };
    validate_life(new.not_before, new.expires_at)?;
    rotation.validate_grace(&keyspace)?;
    if (renews || matches!(old.phase, Phase::Retiring { .. }))
        && keyspace.keys_per_owner.is_single()
    {
        refuse_without_room(tx, &old, &keyspace)?;
    }
    let older = older_retiring(tx, &old, &old_cold, &keyspace)?;
    // A grace that runs already is not lengthened.
    let grace_end = now.saturating_add(rotation.grace);
    let until = old.ends_at().map_or(grace_end, |at| at.min(grace_end));
    let ended = older.good.iter().map(|key| key.lineage);
    // One that has expired was not counted.
    let counted = (!renews).then_some(old.lineage);
    let before = weigh(&keyspace, ended.chain(counted));
    let kept = (until > now).then_some(old.lineage);
    let after = weigh(&keyspace, kept.into_iter().chain([old.lineage]));
    if after > before {
        let refused = caps::refuse_grace(tx, &keyspace, &old, after - before);
        match refused {
            Err(Error::Conflict(Conflict::NoRoomForGrace {
                owner, held, cap, ..
            })) if renews => return Err(Conflict::OwnerAtCap { owner, held, cap }.into()),
            refused => refused?,
        }
    }
    let drawn = draw(tx, &keyspace.prefix, &mut Entropy::new(), |id| {
        tx.id_is_taken(id)
    })?;

    let seq = tx.next_seq();
    new.id = drawn.id;
    new.phase = Phase::Current;
    new.revision = seq;
    new.pepper = drawn.pepper;
    new.digest = drawn.digest;
    // Its token is gatekey's own.
    (new.scheme, new.import) = (Scheme::Native, 0);
    new_cold.foreign_id = None;
    new_cold.created_at = now;
    new_cold.created_by = actor.map(str::to_owned);
    new_cold.predecessor = Some(old.id);
    new_cold.successor = None;
    let own_quota = rotation.changes.quota.flatten();
    new.has_quota =
        own_quota.is_some() || (rotation.changes.quota.is_none() && old_cold.quota.is_some());

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

    for key in &older.good {
        supersede(tx, key, seq)?;
    }
    tx.forget_lapsed(&older.lapsed)?;
    for id in &older.damaged {
        tx.forget(*id);
    }
    tx.replace_key(&old, &retired)?;
    if until <= now {
        tx.forget_lapsed(&[Lapsed::of(&old)])?;
    }
    tx.put_cold(old.id, &retired_cold)?;
    match replaced {
        Replaced::Over(id, cold) => tx.put_cold(
            id,
            &ColdRecord {
                successor: Some(new.id),
                ..*cold
            },
        )?,
        Replaced::Damaged(id) => tx.forget(id),
        Replaced::Nothing => {}
    }
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
            superseded: older.good.iter().map(|key| key.id).collect(),
        },
    )?;
    Ok(Rotated {
        key: tx.describe(&new, new_cold)?,
        token: drawn.token,
        old: tx.describe(&retired, retired_cold)?,
    })
}

/// The earlier successor of a key, if that successor is over.
enum Replaced {
    /// There is none, or it was purged.
    Nothing,
    /// Its record will name its replacement.
    Over(KeyId, Box<ColdRecord>),
    /// It cannot be read and grants nothing; a copy in memory must not grant either.
    Damaged(KeyId),
}

/// A key in its grace can be rotated again once its successor is over. Otherwise its
/// owner would have a key that ends and cannot be replaced. A key that expired, and that
/// another then replaced, can be renewed where that one has expired as well: so a lineage has
/// one key at most that is good and in no grace, and ends with the last that is revoked.
fn refuse_unless_rotatable(
    tx: &Tx<'_>,
    key: &KeyRecord,
    cold: &ColdRecord,
    how: Replacing,
) -> Result<Replaced, Error> {
    let renews = how == Replacing::Renewal;
    if !renews {
        refuse_if_over(tx, key)?;
    }
    // A renewal leaves the new key disabled too.
    if key.disabled && !renews {
        return Err(Conflict::Disabled(key.id).into());
    }
    let Some(successor) = cold.successor else {
        return Ok(Replaced::Nothing);
    };
    let record = match tx.find_key(successor) {
        Err(Error::Corrupted(_)) => return Ok(Replaced::Damaged(successor)),
        Ok(None) => return Ok(Replaced::Nothing),
        found => found?,
    };
    let has_grace = matches!(key.phase, Phase::Retiring { .. });
    let is_last = |record: &KeyRecord| {
        let life = Life::from(record);
        !life.is_over(tx.now()) || !has_grace && life.revoked(tx.now()).is_some()
    };
    if record.as_ref().is_some_and(is_last) {
        return Err(Conflict::AlreadyRotated {
            key: key.id,
            successor,
        }
        .into());
    }
    match tx.cold(successor) {
        Ok(cold) => Ok(Replaced::Over(successor, Box::new(cold))),
        Err(Error::Corrupted(_)) => Ok(Replaced::Nothing),
        Err(error) => Err(error),
    }
}

/// Where an owner may have one active key, a key in its grace is not one, and what it is
/// rotated to is: refuses where the owner has another.
fn refuse_without_room(tx: &Tx<'_>, key: &KeyRecord, keyspace: &Keyspace) -> Result<(), Error> {
    let holdings = tx.holdings(&key.owner, keyspace.id)?;
    match holdings.good.iter().find(|key| is_current(key)) {
        Some(held) => Err(Conflict::OwnerHasKey {
            owner: key.owner.clone(),
            key: held.id,
        }
        .into()),
        None => Ok(()),
    }
}

/// The keys whose grace this rotation ends, so that at most one predecessor
/// retires, those whose grace is over, and those that cannot be read. In a single-active keyspace an owner
/// has at most one retiring key of any lineage.
fn older_retiring(
    tx: &Tx<'_>,
    old: &KeyRecord,
    cold: &ColdRecord,
    keyspace: &Keyspace,
) -> Result<Holdings, Error> {
    let is_retiring =
        |key: &KeyRecord| key.id != old.id && matches!(key.phase, Phase::Retiring { .. });
    if keyspace.keys_per_owner.is_single() {
        let mut holdings = tx.holdings(&old.owner, keyspace.id)?;
        holdings.good.retain(is_retiring);
        return Ok(holdings);
    }
    // It may have been purged.
    let mut older = Holdings::default();
    let Some(id) = cold.predecessor else {
        return Ok(older);
    };
    match Error::or_damaged(tx.find_key(id))? {
        Ok(Some(key)) if is_retiring(&key) => match Life::from(&key).is_over(tx.now()) {
            true => older.lapsed.push(Lapsed::of(&key)),
            false => older.good.push(key),
        },
        Ok(_) => {}
        Err(_) => older.damaged.push(id),
    }
    Ok(older)
}
