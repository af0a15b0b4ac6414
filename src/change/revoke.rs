//! Revoking keys: one, or all of an owner or a keyspace.

use crate::model::audit::{AuditEvent, NAMED_MAX};
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{Revocation, Revoked, RevokedMany};
use crate::model::owner::OwnerPath;
use crate::store::lags::{Became, Whose};
use crate::store::life::Life;
use crate::store::record::{KeyRecord, Phase};
use crate::store::tx::Tx;

pub(crate) fn revoke(
    tx: &mut Tx<'_>,
    id: KeyId,
    revocation: &Revocation,
    actor: Option<&str>,
) -> Result<Revoked, Error> {
    match tx.key_unless_damaged(id)? {
        Some(key) => {
            if let Some(revoked) = tx.revoked(&key)? {
                tx.hold_time(&key);
                return Ok(revoked);
            }
            let seq = tx.next_seq();
            write(tx, &key, revocation, seq)?;
        }
        // The file no longer grants this key, and the copy in memory is dropped. The
        // entry outlives the damage: if a good copy of the record is put back, it is
        // older than the entry.
        None => tx.forget(id),
    }
    tx.audit(
        actor,
        AuditEvent::KeyRevoked {
            key: id,
            reason: revocation.reason,
            note: revocation.note.clone(),
        },
    )?;
    Ok(Revoked {
        key: id,
        at: tx.now(),
        reason: revocation.reason,
        note: revocation.note.clone(),
        by: actor.map(str::to_owned),
    })
}

/// Revokes all keys of an owner and of all owners below it. The records of more than
/// `at_once` follow in later transactions: see [`crate::store::lags`].
pub(crate) fn revoke_owner(
    tx: &mut Tx<'_>,
    owner: &OwnerPath,
    revocation: &Revocation,
    at_once: usize,
    actor: Option<&str>,
) -> Result<RevokedMany, Error> {
    let whose = Whose::Owner(owner.clone());
    revoke_many(tx, whose, revocation, at_once, actor)
}

/// Revokes all keys of a keyspace. The records of more than `at_once` follow.
pub(crate) fn revoke_keyspace(
    tx: &mut Tx<'_>,
    prefix: Prefix,
    revocation: &Revocation,
    at_once: usize,
    actor: Option<&str>,
) -> Result<RevokedMany, Error> {
    let whose = Whose::Keyspace(tx.keyspace(prefix)?.id, prefix);
    revoke_many(tx, whose, revocation, at_once, actor)
}

fn revoke_many(
    tx: &mut Tx<'_>,
    whose: Whose,
    revocation: &Revocation,
    at_once: usize,
    actor: Option<&str>,
) -> Result<RevokedMany, Error> {
    let scope = whose.scope();
    let became = Became::Revoked {
        at: tx.now(),
        reason: revocation.reason,
        actor: actor.map(str::to_owned),
    };
    let Some(mut ids) = tx.ids_or_lag(whose, became, at_once)? else {
        let keys = AuditEvent::KEYS_COUNTED_MAX + 1;
        let event = AuditEvent::KeysRevokedUnnamed {
            scope,
            keys,
            reason: revocation.reason,
            note: revocation.note.clone(),
        };
        tx.audit(actor, event)?;
        return Ok(RevokedMany {
            keys,
            newly: keys,
            damaged: 0,
        });
    };
    let mut many = RevokedMany {
        keys: 0,
        newly: 0,
        damaged: 0,
    };
    let mut named = Vec::new();
    let event = |keys: Vec<KeyId>| AuditEvent::KeysRevoked {
        scope: scope.clone(),
        keys,
        reason: revocation.reason,
        note: revocation.note.clone(),
    };
    // In the order of the table, so that each page is visited once.
    ids.sort_unstable();
    for id in ids {
        let Some(key) = tx.key_or_forget(id)? else {
            many.damaged += 1;
            continue;
        };
        many.keys += 1;
        if Life::from(&key).revoked(tx.now()).is_some() {
            tx.hold_time(&key);
        } else {
            many.newly += 1;
            // The entry that will name it.
            write(tx, &key, revocation, tx.next_seq())?;
            named.push(id);
            if named.len() == NAMED_MAX {
                tx.audit(actor, event(std::mem::take(&mut named)))?;
            }
        }
    }
    if !named.is_empty() {
        tx.audit(actor, event(named))?;
    }
    Ok(many)
}

fn write(tx: &mut Tx<'_>, key: &KeyRecord, revocation: &Revocation, seq: u64) -> Result<(), Error> {
    let revoked = KeyRecord {
        phase: Phase::Revoked {
            at: tx.now(),
            reason: revocation.reason,
        },
        revision: seq,
        ..key.clone()
    };
    tx.replace_key(key, &revoked)
}
