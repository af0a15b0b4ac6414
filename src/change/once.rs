//! Repeatable requests under an idempotency key. The first call is carried out and
//! remembered; a later one replaces the key of the answer, if nobody has used it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::issue::{Drawn, draw, issue, supersede};
use super::rotate::rotate;
use crate::change::request;
use crate::crypto::digest::Digest;
use crate::crypto::token::Entropy;
use crate::model::audit::AuditEvent;
use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error, NotFound};
use crate::model::id::KeyId;
use crate::model::idempotency::IdempotencyKey;
use crate::model::key::{ColdRecord, Issued, NewKey, Rotated, Rotation};
use crate::model::keyspace::Keyspace;
use crate::store::life::Life;
use crate::store::record::{KeyRecord, Phase};
use crate::store::tx::Tx;
use crate::store::tx::requests::Request;

/// One call under an idempotency key.
#[derive(Clone)]
pub(crate) struct Once {
    pub(crate) key: IdempotencyKey,
    pub(crate) window: Duration,
    /// Whether the engine notes the use of keys.
    pub(crate) knows_uses: bool,
    /// Every use of a key from an answer up to this audit entry is in the file. For
    /// later answers, the use is not known yet.
    pub(crate) uses_written: Option<u64>,
}

/// The result of one attempt at a call.
pub(crate) enum Attempt<T> {
    Done(T),
    /// Nothing was done: a flush must come first, for the answer that ends with this
    /// audit entry.
    WriteUses(u64),
}

#[cfg(test)]
impl<T> Attempt<T> {
    pub(crate) fn map<U>(self, of: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(done) => Attempt::Done(of(done)),
            Self::WriteUses(seq) => Attempt::WriteUses(seq),
        }
    }
}

/// The remembered request, or why it cannot be answered.
enum Remembered {
    Not,
    Request(Request),
    WriteUses(u64),
}

pub(crate) fn issue_once(
    tx: &mut Tx<'_>,
    once: &Once,
    specs: &[NewKey],
    actor: Option<&str>,
) -> Result<Attempt<Vec<Issued>>, Error> {
    let name = request::name(tx.ring(), actor, &once.key);
    let asked = request::of_issue(tx.ring(), specs);
    let (issued, at) = match once.look(tx, &name, &asked)? {
        Remembered::WriteUses(seq) => return Ok(Attempt::WriteUses(seq)),
        Remembered::Not => (issue(tx, specs, actor)?, tx.now()),
        Remembered::Request(request) => (issue_again(tx, &request, actor)?, request.at),
    };
    let keys = issued.iter().map(|issued| issued.key.id).collect();
    once.remember(tx, &name, asked, at, keys)?;
    Ok(Attempt::Done(issued))
}

pub(crate) fn rotate_once(
    tx: &mut Tx<'_>,
    once: &Once,
    id: KeyId,
    rotation: &Rotation,
    actor: Option<&str>,
) -> Result<Attempt<Rotated>, Error> {
    let name = request::name(tx.ring(), actor, &once.key);
    let asked = request::of_rotation(tx.ring(), id, rotation);
    let (rotated, at) = match once.look(tx, &name, &asked)? {
        Remembered::WriteUses(seq) => return Ok(Attempt::WriteUses(seq)),
        Remembered::Not => (rotate(tx, id, rotation, actor)?, tx.now()),
        Remembered::Request(request) => (rotate_again(tx, id, &request, actor)?, request.at),
    };
    once.remember(tx, &name, asked, at, vec![rotated.key.id])?;
    Ok(Attempt::Done(rotated))
}

impl Once {
    fn look(&self, tx: &Tx<'_>, name: &Digest, asked: &Digest) -> Result<Remembered, Error> {
        let Some(request) = tx.request(name)? else {
            return Ok(Remembered::Not);
        };
        if request.at.saturating_add(self.window) <= tx.now() {
            return Ok(Remembered::Not);
        }
        if request.asked != *asked {
            return Err(Conflict::AnotherRequest.into());
        }
        if !self.knows_uses {
            let key = request.keys.first();
            let key = *key.ok_or(Error::Internal("a request was answered with no key"))?;
            return Err(Conflict::AlreadyAnswered { key }.into());
        }
        if self.uses_written != Some(request.last_seq) {
            return Ok(Remembered::WriteUses(request.last_seq));
        }
        Ok(Remembered::Request(request))
    }

    fn remember(
        &self,
        tx: &mut Tx<'_>,
        name: &Digest,
        asked: Digest,
        at: Timestamp,
        keys: Vec<KeyId>,
    ) -> Result<(), Error> {
        let request = Request {
            at,
            asked,
            last_seq: tx.last_seq(),
            keys,
        };
        tx.put_request(name, &request, self.window)
    }
}

/// A key of an answer that nobody has used, and its replacement.
struct Replacement {
    old: KeyRecord,
    old_cold: ColdRecord,
    keyspace: Keyspace,
    drawn: Drawn,
}

/// Checks that a key of an answer may be replaced: it was neither used nor changed.
fn replaceable(
    tx: &Tx<'_>,
    request: &Request,
    id: KeyId,
    keyspaces: &mut BTreeMap<u32, Keyspace>,
    ids: &mut BTreeSet<KeyId>,
    entropy: &mut Entropy,
) -> Result<Replacement, Error> {
    let answered = || Error::from(Conflict::AlreadyAnswered { key: id });
    let old = tx.find_key(id)?.ok_or_else(answered)?;
    let is_untouched = old.revision <= request.last_seq
        && matches!(old.phase, Phase::Current)
        && !Life::from(&old).is_over(tx.now());
    if !is_untouched || tx.was_used(id)? {
        return Err(answered());
    }
    let keyspace = match keyspaces.get(&old.keyspace) {
        Some(keyspace) => keyspace.clone(),
        None => {
            let keyspace = tx.keyspace_numbered(old.keyspace)?;
            keyspaces.insert(old.keyspace, keyspace.clone());
            keyspace
        }
    };
    let old_cold = tx.cold(id)?;
    let drawn = draw(tx, &keyspace.prefix, entropy, |id| {
        Ok(ids.contains(&id) || tx.id_is_taken(id)?)
    })?;
    ids.insert(drawn.id);
    Ok(Replacement {
        old,
        old_cold,
        keyspace,
        drawn,
    })
}

/// Replaces a key with one that has the same fields and shares its quota, so that a
/// repeated request multiplies nothing.
fn replace(
    tx: &mut Tx<'_>,
    replacement: &Replacement,
    predecessor: KeyId,
    actor: Option<&str>,
) -> Result<(KeyRecord, ColdRecord), Error> {
    let Replacement {
        old,
        old_cold,
        keyspace,
        drawn,
    } = replacement;
    let seq = tx.next_seq();
    let new = KeyRecord {
        id: drawn.id,
        // A new key does not get a permission that was retired meanwhile.
        permissions: old.permissions & keyspace.active_mask(),
        revision: seq,
        pepper: drawn.pepper,
        digest: drawn.digest,
        ..old.clone()
    };
    let cold = ColdRecord {
        created_at: tx.now(),
        created_by: actor.map(str::to_owned),
        predecessor: Some(predecessor),
        ..old_cold.clone()
    };
    supersede(tx, old, seq)?;
    let replaced = ColdRecord {
        successor: Some(new.id),
        ..old_cold.clone()
    };
    tx.put_cold(old.id, &replaced)?;
    if let Some(number) = cold.quota {
        tx.join_quota(number)?;
    }
    tx.insert_key(&new, &cold)?;
    tx.audit(
        actor,
        AuditEvent::KeyReissued {
            old: old.id,
            new: new.id,
        },
    )?;
    Ok((new, cold))
}

fn issue_again(
    tx: &mut Tx<'_>,
    request: &Request,
    actor: Option<&str>,
) -> Result<Vec<Issued>, Error> {
    let mut keyspaces = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut entropy = Entropy::new();
    let mut replacements = Vec::with_capacity(request.keys.len());
    for (index, id) in request.keys.iter().enumerate() {
        let replacement = replaceable(tx, request, *id, &mut keyspaces, &mut ids, &mut entropy);
        replacements.push(replacement.map_err(|source| match source.is_retryable() {
            true => source,
            false => Error::Batch {
                index,
                source: Box::new(source),
            },
        })?);
    }
    let mut issued = Vec::with_capacity(replacements.len());
    for replacement in replacements {
        let (new, cold) = replace(tx, &replacement, replacement.old.id, actor)?;
        issued.push(Issued {
            key: tx.describe(&new, cold)?,
            token: replacement.drawn.token,
        });
    }
    Ok(issued)
}

/// Replaces the successor of a rotation. The rotated key stays as it is, in the grace
/// that the first call gave it.
fn rotate_again(
    tx: &mut Tx<'_>,
    id: KeyId,
    request: &Request,
    actor: Option<&str>,
) -> Result<Rotated, Error> {
    let successor = request.keys.first();
    let successor = *successor.ok_or(Error::Internal("a rotation was answered with no key"))?;
    let replacement = replaceable(
        tx,
        request,
        successor,
        &mut BTreeMap::new(),
        &mut BTreeSet::new(),
        &mut Entropy::new(),
    )?;
    let rotated = tx.find_key(id)?.ok_or(NotFound::Key(id))?;
    let rotated_cold = ColdRecord {
        successor: Some(replacement.drawn.id),
        ..tx.cold(id)?
    };
    let (new, cold) = replace(tx, &replacement, id, actor)?;
    tx.put_cold(id, &rotated_cold)?;
    Ok(Rotated {
        key: tx.describe(&new, cold)?,
        token: replacement.drawn.token,
        old: tx.describe(&rotated, rotated_cold)?,
    })
}
