//! Setting time back, after the clock was wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::issue::{is_current, supersede};
use crate::model::audit::{AuditEntry, AuditEvent, Change};
use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error};
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::owner::OwnerPath;
use crate::model::reason::Reason;
use crate::store::record::{KeyRecord, Phase};
use crate::store::tx::Tx;

/// The result of setting time back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimeSetBack {
    /// The engine's present before.
    pub from: Timestamp,
    /// The engine's present after.
    pub to: Timestamp,
    /// How many keys had expired, or reached the end of their grace, in between. They
    /// are good again, unless they are also disabled, suspended or the like.
    pub revived: u64,
    /// How many of these the call revoked instead, since their owner has a newer key in
    /// a single-active keyspace.
    pub superseded: u64,
    /// How many keys were issued, rotated or given an expiry by the wrong time, and
    /// end earlier now.
    pub shortened: u64,
}

/// The field of an audit entry that says an expiry.
pub(super) const EXPIRES_AT: &str = "expires at";
const RETIRING_UNTIL: &str = "retiring until";

/// Sets time back to an instant, or to the clock's where that is later.
pub(crate) fn set_back(
    tx: &mut Tx<'_>,
    to: Timestamp,
    actor: Option<&str>,
) -> Result<TimeSetBack, Error> {
    let from = tx.now();
    if to >= from {
        return Err(Conflict::TimeNotAhead { now: from, to }.into());
    }
    let since = tx.entries_since(to)?;
    let mut revived = Vec::new();
    for id in tx.ids_ending_within(to, from)? {
        // A damaged key grants nothing, and must not stop the call.
        match tx.find_key(id) {
            Ok(Some(key)) if !matches!(key.phase, Phase::Revoked { .. }) => revived.push(key),
            Ok(_) | Err(Error::Corrupted(_)) => {}
            Err(error) => return Err(error),
        }
    }

    tx.set_present(to);
    tx.set_reach_back()?;
    tx.audit(
        actor,
        AuditEvent::TimeSetBack {
            from,
            to,
            revived: revived.len() as u64,
        },
    )?;
    for key in &revived {
        tx.set_held(key)?;
    }
    let shortened = shorten(tx, &since, actor)?;
    let superseded = keep_single(tx, &revived, actor)?;
    tx.bring_refills_near()?;
    tx.forget_requests_after(to)?;
    Ok(TimeSetBack {
        from,
        to,
        revived: revived.len() as u64,
        superseded,
        shortened,
    })
}

/// The instant from which the ends of keys were computed while time was wrong.
#[derive(Default)]
struct Reckoned {
    /// Of keys whose expiry was given then.
    expiry: BTreeMap<KeyId, Timestamp>,
    /// Of keys whose grace began then.
    grace: BTreeMap<KeyId, Timestamp>,
    /// Keys that were made then.
    made: BTreeSet<KeyId>,
}

impl Reckoned {
    fn read(tx: &Tx<'_>, since: &[AuditEntry]) -> Result<Self, Error> {
        let mut reckoned = Self::default();
        for entry in since {
            match &entry.event {
                AuditEvent::KeyIssued { key, .. } => {
                    reckoned.expiry.insert(*key, entry.at);
                    reckoned.made.insert(*key);
                }
                AuditEvent::KeyRotated { old, new, .. } => {
                    reckoned.grace.insert(*old, entry.at);
                    reckoned.made.insert(*new);
                    // An inherited expiry was computed for the first key of the
                    // lineage.
                    let inherits = match (sound(tx.find_key(*old))?, sound(tx.find_key(*new))?) {
                        (Some(old), Some(new)) => old.expires_at == new.expires_at,
                        _ => false,
                    };
                    let at = match inherits {
                        true => reckoned.expiry.get(old).copied(),
                        false => Some(entry.at),
                    };
                    if let Some(at) = at {
                        reckoned.expiry.insert(*new, at);
                    }
                }
                AuditEvent::KeyUpdated { key, changes }
                    if changes.iter().any(|change| change.field == EXPIRES_AT) =>
                {
                    reckoned.expiry.insert(*key, entry.at);
                }
                _ => {}
            }
        }
        Ok(reckoned)
    }
}

/// A damaged key is skipped: it grants nothing.
fn sound<T>(found: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(Error::Corrupted(_)) => Ok(None),
        found => found,
    }
}

/// Moves the ends that keys got from the wrong time, so that each key has as long from
/// now on as it was given then. Returns how many.
fn shorten(tx: &mut Tx<'_>, since: &[AuditEntry], actor: Option<&str>) -> Result<u64, Error> {
    let now = tx.now();
    let reckoned = Reckoned::read(tx, since)?;
    let mut shortened = 0;
    let ids: BTreeSet<KeyId> = [&reckoned.expiry, &reckoned.grace]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .chain(&reckoned.made)
        .copied()
        .collect();
    for id in ids {
        let Some(old) = sound(tx.find_key(id))? else {
            continue;
        };
        if reckoned.made.contains(&id)
            && let Some(cold) = sound(tx.cold(id).map(Some))?
            && cold.created_at > now
        {
            // A maximum lifetime counts from here.
            let created_at = now;
            tx.put_cold(id, &ColdRecord { created_at, ..cold })?;
        }
        let nearer = |end: Timestamp, at: Option<&Timestamp>| match at {
            Some(at) => end.min(now.saturating_add(end.saturating_since(*at))),
            None => end,
        };
        let mut new = old.clone();
        new.expires_at = old
            .expires_at
            .map(|end| nearer(end, reckoned.expiry.get(&id)));
        new.phase = match old.phase {
            Phase::Retiring { until } => Phase::Retiring {
                until: nearer(until, reckoned.grace.get(&id))
                    .min(new.expires_at.unwrap_or(Timestamp::MAX)),
            },
            Phase::Revoked { .. } => continue,
            phase @ Phase::Current => phase,
        };
        let mut changes = Vec::new();
        let text = |end: &Option<Timestamp>| end.map_or("never".to_owned(), |end| end.to_string());
        Change::note(
            &mut changes,
            EXPIRES_AT,
            &old.expires_at,
            &new.expires_at,
            text,
        );
        Change::note(
            &mut changes,
            RETIRING_UNTIL,
            &grace_of(&old),
            &grace_of(&new),
            text,
        );
        if changes.is_empty() {
            continue;
        }
        new.revision = tx.next_seq();
        tx.replace_key(&old, &new)?;
        tx.audit(actor, AuditEvent::KeyUpdated { key: id, changes })?;
        shortened += 1;
    }
    Ok(shortened)
}

fn grace_of(key: &KeyRecord) -> Option<Timestamp> {
    match key.phase {
        Phase::Retiring { until } => Some(until),
        Phase::Current | Phase::Revoked { .. } => None,
    }
}

/// Revokes the revived keys of owners that may have one key and have a newer one, and
/// returns how many.
fn keep_single(tx: &mut Tx<'_>, revived: &[KeyRecord], actor: Option<&str>) -> Result<u64, Error> {
    // As they were before this transaction.
    let came_back: BTreeMap<KeyId, u64> =
        revived.iter().map(|key| (key.id, key.revision)).collect();
    let mut owners: BTreeSet<(u32, OwnerPath)> = BTreeSet::new();
    for key in revived {
        owners.insert((key.keyspace, key.owner.clone()));
    }
    let mut superseded = 0;
    for (number, owner) in owners {
        if !tx.keyspace_numbered(number)?.keys_per_owner.is_single() {
            continue;
        }
        let (current, retiring): (Vec<_>, Vec<_>) = tx
            .holdings(&owner, number)?
            .good
            .into_iter()
            .partition(is_current);
        for mut keys in [current, retiring] {
            // The newest last. Of two that one owner has in turn, the later one's first
            // entry in the trail comes after the last of the earlier one's.
            keys.sort_by_key(|key| came_back.get(&key.id).copied().unwrap_or(u64::MAX));
            keys.pop();
            for key in keys {
                supersede(tx, &key, tx.next_seq())?;
                tx.audit(
                    actor,
                    AuditEvent::KeyRevoked {
                        key: key.id,
                        reason: Reason::Superseded,
                        note: Some("time was set back, and its owner has a newer key".to_owned()),
                    },
                )?;
                superseded += 1;
            }
        }
    }
    Ok(superseded)
}
