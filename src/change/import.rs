//! Importing keys whose tokens another system issued.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::issue::{Batch, Plan};
use super::refuse_if_over;
use crate::crypto::digest::{DIGEST_LEN, Digest, digests_equal};
use crate::crypto::foreign::Known;
use crate::crypto::token;
use crate::model::audit::{AuditEvent, Change, NAMED_MAX};
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error, Invalid, NotFound};
use crate::model::id::KeyId;
use crate::model::import::{ForeignHash, ForeignKey, Held, Import, ImportedKey, NewImport, Shape};
use crate::model::key::Key;
use crate::model::reason::Reason;
use crate::store::import::{ImportCounts, ImportRecord};
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tx::Tx;
use crate::store::tx::rows::{NewEntries, NewRows};

/// Begins an import. One that began already is given as it stands.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    new: &NewImport,
    actor: Option<&str>,
) -> Result<Import, Error> {
    new.validate()?;
    let imports = tx.imports()?;
    if let Some(import) = imports.values().find(|import| import.name == new.name) {
        return match import.is_as(new) {
            true => Ok(import.describe()),
            false => Err(Conflict::ImportDiffers(new.name.clone()).into()),
        };
    }
    // 0 stands for no import, and numbers are not used twice.
    let next = imports.keys().next_back().copied().unwrap_or(0);
    let Some(number) = next.checked_add(1) else {
        return Err(Conflict::TooManyImports(bounds::IMPORTS_MAX).into());
    };
    let record = ImportRecord {
        name: new.name.clone(),
        hash: new.hash,
        shape: new.shape.clone(),
        sunset: new.sunset,
        created_at: tx.now(),
        created_by: actor.map(str::to_owned),
        counts: ImportCounts::default(),
    };
    tx.put_import(number, &record)?;
    let event = AuditEvent::ImportChanged {
        import: record.name.clone(),
        changes: Vec::new(),
    };
    tx.audit(actor, event)?;
    Ok(record.describe())
}

/// Sets the sunset of an import, or takes it away. Keys that it has ended stay revoked.
pub(crate) fn set_sunset(
    tx: &mut Tx<'_>,
    name: &str,
    sunset: Option<Timestamp>,
    actor: Option<&str>,
) -> Result<Import, Error> {
    let (number, old) = tx.import(name)?;
    let mut changes = Vec::new();
    Change::note(&mut changes, "sunset", &old.sunset, &sunset, |sunset| {
        sunset.map_or("none".to_owned(), |at| at.to_string())
    });
    let new = ImportRecord { sunset, ..old };
    if !changes.is_empty() {
        tx.put_import(number, &new)?;
        let event = AuditEvent::ImportChanged {
            import: name.to_owned(),
            changes,
        };
        tx.audit(actor, event)?;
    }
    Ok(new.describe())
}

/// What a key of an import is to be.
enum Planned {
    New(Box<Plan>),
    Present(KeyId),
}

/// The keys of a call, so that none has what another has.
#[derive(Default)]
struct Together {
    batch: Batch,
    digests: BTreeMap<Digest, KeyId>,
    ids: BTreeMap<String, KeyId>,
}

/// Imports keys; those that are refused do not keep the others out. A dry run writes nothing.
pub(crate) fn import_keys(
    tx: &mut Tx<'_>,
    name: &str,
    keys: &[ForeignKey],
    actor: Option<&str>,
) -> Result<Vec<ImportedKey>, Error> {
    let (number, import) = tx.import(name)?;
    refuse_if_past(tx, &import)?;
    let (told, mut plans) = plan(tx, number, &import, keys, actor)?;
    // In the order of the tables.
    plans.sort_unstable_by_key(|plan| plan.record.id);
    let mut rows = NewRows::default();
    let mut rest = plans.as_mut_slice();
    while !rest.is_empty() {
        let (plans, behind) = rest.split_at_mut(in_one_entry(rest));
        rest = behind;
        let seq = tx.next_seq();
        let mut named = Vec::with_capacity(plans.len());
        for plan in plans {
            tx.forget_lapsed(&plan.lapsed)?;
            for id in &plan.damaged {
                tx.forget(*id);
            }
            plan.record.revision = seq;
            if let Some(quota) = plan.quota {
                plan.cold.quota = Some(tx.new_quota(quota)?);
            }
            tx.admit_key(&plan.record, &plan.cold)?;
            rows.add(tx.ring(), &plan.record, &plan.cold)?;
            named.push(plan.record.id);
        }
        let event = AuditEvent::KeysImported {
            import: name.to_owned(),
            keys: named,
        };
        tx.audit(actor, event)?;
    }
    tx.write_rows(rows, NewEntries::default())?;
    Ok(told)
}

/// How many of some keys one entry of the trail names. A quota has the number of its entry, so
/// that of two keys with a quota each has an entry of its own.
fn in_one_entry(plans: &[Plan]) -> usize {
    let first = plans.get(..NAMED_MAX).unwrap_or(plans);
    let mut with_quota = first
        .iter()
        .enumerate()
        .filter(|(_, plan)| plan.quota.is_some());
    with_quota.nth(1).map_or(first.len(), |(at, _)| at)
}

/// What an import of keys would come to.
pub(crate) fn dry_run(
    tx: &Tx<'_>,
    new: &NewImport,
    keys: &[ForeignKey],
) -> Result<Vec<ImportedKey>, Error> {
    new.validate()?;
    let (number, import) = match tx.import(&new.name) {
        Ok((_, import)) if !import.is_as(new) => {
            return Err(Conflict::ImportDiffers(new.name.clone()).into());
        }
        Ok(found) => found,
        Err(Error::NotFound(NotFound::Import(_))) => {
            let import = ImportRecord {
                name: new.name.clone(),
                hash: new.hash,
                shape: new.shape.clone(),
                sunset: new.sunset,
                created_at: tx.now(),
                created_by: None,
                counts: ImportCounts::default(),
            };
            (0, import)
        }
        Err(error) => return Err(error),
    };
    refuse_if_past(tx, &import)?;
    plan(tx, number, &import, keys, None).map(|(told, _)| told)
}

fn refuse_if_past(tx: &Tx<'_>, import: &ImportRecord) -> Result<(), Error> {
    match import.sunset {
        Some(sunset) if import.is_past(tx.now()) => Err(Conflict::ImportOver {
            import: import.name.clone(),
            sunset,
        }
        .into()),
        _ => Ok(()),
    }
}

fn plan(
    tx: &Tx<'_>,
    number: u8,
    import: &ImportRecord,
    keys: &[ForeignKey],
    actor: Option<&str>,
) -> Result<(Vec<ImportedKey>, Vec<Plan>), Error> {
    bounds::validate_count("keys in an import", keys.len(), bounds::BATCH_MAX)?;
    let mut together = Together {
        batch: Batch::that_supersedes_none(),
        ..Together::default()
    };
    let mut plans = Vec::with_capacity(keys.len());
    let mut told = Vec::with_capacity(keys.len());
    for key in keys {
        told.push(match together.plan(tx, number, import, key, actor) {
            Ok(Planned::Present(id)) => ImportedKey::Present(id),
            Ok(Planned::New(plan)) => {
                let id = plan.record.id;
                plans.push(*plan);
                ImportedKey::Imported(id)
            }
            // A failure of the disk, or a damaged record, does not concern the key at hand.
            Err(error) if error.is_retryable() || matches!(error, Error::Corrupted(_)) => {
                return Err(error);
            }
            Err(error) => ImportedKey::Refused(error),
        });
    }
    Ok((told, plans))
}

impl Together {
    fn plan(
        &mut self,
        tx: &Tx<'_>,
        number: u8,
        import: &ImportRecord,
        foreign: &ForeignKey,
        actor: Option<&str>,
    ) -> Result<Planned, Error> {
        foreign.validate_id()?;
        let ring = tx.ring();
        let known = known(import, foreign)?;
        let (scheme, digest) = match &known {
            Some(known) => (Scheme::Unseen, known.sign(ring).1),
            None => (Scheme::Unclaimed, [0; DIGEST_LEN]),
        };
        // By this an import that runs again knows a key whose digest was replaced.
        let id = (foreign.id.clone()).or_else(|| known.as_ref().map(|known| known.name(ring)));
        let id = id.ok_or(Error::Internal("a key of an import has no name"))?;
        // That of a key which waits for its token is nobody's.
        let with_digest = match self.digests.get(&digest) {
            Some(key) => Some(*key),
            None => key_of(tx, known.as_ref())?,
        };
        let with_id = match self.ids.get(&id) {
            Some(key) => Some(*key),
            None => tx.key_of_foreign_id(number, &id)?,
        };
        match (with_digest, with_id) {
            (Some(key), Some(same)) if key == same => return Ok(Planned::Present(key)),
            (Some(key), _) => return Err(Conflict::TokenTaken { key }.into()),
            (None, Some(key)) => {
                let record = tx.find_key(key)?;
                // Its token was seen or claimed since, so that the digest is another one.
                let is_same = scheme == Scheme::Unclaimed
                    || record.is_some_and(|record| record.scheme == Scheme::Seen);
                return match is_same {
                    true => Ok(Planned::Present(key)),
                    false => Err(Conflict::ForeignIdTaken { key }.into()),
                };
            }
            (None, None) => {}
        }
        let mut plan = self.batch.plan(tx, &foreign.key, actor)?;
        let record = &mut plan.record;
        (record.scheme, record.import, record.digest) = (scheme, number, digest);
        record.disabled = foreign.disabled;
        plan.cold.foreign_id = Some(id.clone());
        if scheme != Scheme::Unclaimed {
            self.digests.insert(digest, record.id);
        }
        self.ids.insert(id, record.id);
        Ok(Planned::New(Box::new(plan)))
    }
}

/// The key that has a token already, by what is known of it, under any pepper.
fn key_of(tx: &Tx<'_>, known: Option<&Known>) -> Result<Option<KeyId>, Error> {
    let ring = tx.ring();
    let Some(known) = known else {
        return Ok(None);
    };
    for pepper in ring.peppers() {
        if let Some(digest) = known.digest(ring, pepper)
            && let Some(key) = tx.key_of_digest(&digest)?
        {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// What an import knows of a key's token; `None` where it waits for it.
fn known(import: &ImportRecord, foreign: &ForeignKey) -> Result<Option<Known>, Error> {
    // No value is shown: it is a token, or nearly one.
    let refuse = |why: &str| Invalid::malformed("credential", "(withheld)", why);
    match (&foreign.credential.0, import.hash) {
        (Held::Token(text), ForeignHash::Plain) => {
            let part = token_part(&import.shape, text.as_bytes())?;
            Ok(Some(Known::text(part)))
        }
        (Held::Digest(bytes), ForeignHash::Sha256 | ForeignHash::Sha512) => {
            let known = Known::kept(import.hash, bytes);
            let why = "it has not the length of the import's hash";
            known.map(Some).ok_or_else(|| refuse(why).into())
        }
        (Held::Claimed, ForeignHash::Other) if foreign.id.is_some() => Ok(None),
        (Held::Claimed, ForeignHash::Other) => {
            Err(refuse("a key that is to be claimed has an id of its source").into())
        }
        _ => Err(refuse("it is not of the import's kind").into()),
    }
}

/// The part of a token that is hashed. Refuses a token that the import would not be asked for.
fn token_part<'t>(shape: &Shape, text: &'t [u8]) -> Result<&'t [u8], Error> {
    let refuse = |why: &str| Invalid::malformed("token", "(withheld)", why);
    if token::parse(text).is_some() {
        return Err(refuse("it has the form of a token of gatekey's own").into());
    }
    let part = shape.part_of(text);
    part.ok_or_else(|| refuse("it has not the shape that the import says").into())
}

/// Gives a key the token that its holder has, which the host has checked.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    name: &str,
    foreign_id: &str,
    text: &Zeroizing<Vec<u8>>,
    actor: Option<&str>,
) -> Result<Key, Error> {
    let (number, import) = tx.import(name)?;
    let id = tx.key_of_foreign_id(number, foreign_id)?;
    let id = id.ok_or_else(|| NotFound::ForeignId {
        import: name.to_owned(),
        id: foreign_id.to_owned(),
    })?;
    let old = tx.key(id)?;
    let known = Known::text(token_part(&import.shape, text)?);
    let ring = tx.ring();
    if old.scheme == Scheme::Seen {
        let own = known.digest(ring, old.pepper);
        return match own.is_some_and(|own| digests_equal(&own, &old.digest)) {
            true => tx.describe(&old, tx.cold(id)?),
            false => Err(Conflict::NotClaimable { key: id }.into()),
        };
    }
    if old.scheme != Scheme::Unclaimed {
        return Err(Conflict::NotClaimable { key: id }.into());
    }
    refuse_if_over(tx, &old)?;
    refuse_if_past(tx, &import)?;
    if let Some(key) = key_of(tx, Some(&known))? {
        return Err(Conflict::TokenTaken { key }.into());
    }
    let (pepper, digest) = known.sign(ring);
    let new = KeyRecord {
        scheme: Scheme::Seen,
        pepper,
        digest,
        revision: tx.next_seq(),
        ..old.clone()
    };
    tx.replace_key(&old, &new)?;
    let event = AuditEvent::KeyClaimed {
        import: name.to_owned(),
        key: id,
    };
    tx.audit(actor, event)?;
    tx.describe(&new, tx.cold(id)?)
}

/// Revokes keys of imports whose sunset is over and that were never used, as many as one
/// transaction takes. Says whether there may be more.
pub(crate) fn end(tx: &mut Tx<'_>) -> Result<bool, Error> {
    let past =
        |(_, import): &(u8, ImportRecord)| import.counts.unseen > 0 && import.is_past(tx.now());
    let Some((number, import)) = tx.imports()?.into_iter().find(past) else {
        return Ok(false);
    };
    let ids = tx.unseen(number, NAMED_MAX)?;
    let seq = tx.next_seq();
    let (mut named, mut lagging) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in &ids {
        let key = tx.key_or_forget(*id)?;
        let Some(old) = key.filter(|key| key.import == number && key.scheme.is_unseen()) else {
            // It cannot be read, and grants nothing.
            tx.forget_unseen(number, *id)?;
            continue;
        };
        if matches!(old.phase, Phase::Revoked { .. }) {
            // It was revoked with its owner, and its record does not say so yet.
            lagging.push(*id);
            continue;
        }
        let revoked = KeyRecord {
            phase: Phase::Revoked {
                at: tx.now(),
                reason: Reason::Cessation,
            },
            revision: seq,
            ..old.clone()
        };
        tx.replace_key(&old, &revoked)?;
        named.push(*id);
    }
    if !named.is_empty() {
        let event = AuditEvent::ImportEnded {
            import: import.name,
            keys: named,
        };
        tx.audit(None, event)?;
    }
    // Behind the entry that the other records point at.
    tx.bring_keys_up(lagging.iter().copied())?;
    for id in lagging {
        tx.forget_unseen(number, id)?;
    }
    // Where the index has lost rows, there is nothing more to end.
    Ok(!ids.is_empty())
}
