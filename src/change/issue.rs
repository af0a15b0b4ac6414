//! Issuing keys, one or a batch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::caps::{self, Cap};
use crate::crypto::digest::{DIGEST_LEN, Digest, Keyring};
use crate::crypto::token::{self, Entropy};
use crate::model::audit::AuditEvent;
use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error, Invalid};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{ColdRecord, Issued, NewKey, validate_life};
use crate::model::keyspace::{KeysPerOwner, Keyspace};
use crate::model::owner::OwnerPath;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::model::secret::Token;
use crate::store::pipe;
use crate::store::quota::QuotaRecord;
use crate::store::record::{KeyRecord, Phase, Scheme};
use crate::store::tx::Tx;
use crate::store::tx::held::{Accuracy, Holdings, Lapsed, Tally, weigh};
use crate::store::tx::rows::{APART_MIN, NewEntries, NewRows};

/// Issues keys, all or none. The answers are in the order of the specs.
pub(crate) fn issue(
    tx: &mut Tx<'_>,
    specs: &[NewKey],
    actor: Option<&str>,
) -> Result<Vec<Issued>, Error> {
    bounds::validate_count("keys in a batch", specs.len(), bounds::BATCH_MAX)?;
    let mut batch = Batch::default();
    let mut planned = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let plan = batch
            .plan(tx, spec, actor)
            .map_err(|source| match source.is_retryable() {
                // A failure of the disk does not concern the spec at hand.
                true => source,
                false => Error::Batch {
                    index,
                    source: Box::new(source),
                },
            })?;
        planned.push(plan);
    }

    // By id, so that a batch is written to the end of the tables in order.
    let ids = planned.iter().map(|plan| plan.record.id);
    let mut order: Vec<(KeyId, usize)> = ids.zip(0..).collect();
    order.sort_unstable();
    let tokens = draw_tokens(tx.ring(), &mut planned)?;
    for ((_, at), seq) in order.iter().zip(tx.next_seq()..) {
        if let Some(plan) = planned.get_mut(*at) {
            plan.admit(tx, seq)?;
        }
    }
    let (ring, apart) = (tx.ring(), planned.len() >= APART_MIN);
    let mut in_order = order.iter().filter_map(|(_, at)| planned.get(*at));
    let (mut rows, mut entries) = (NewRows::default(), NewEntries::default());
    let add = |plan: &Plan| rows.add(ring, &plan.record, &plan.cold);
    let chain = |plan: &Plan| tx.gather_audit(&mut entries, actor, plan.event());
    let mut same = in_order.clone();
    pipe::beside(
        apart,
        || in_order.try_for_each(add),
        || same.try_for_each(chain),
    )?;
    tx.write_rows(rows, entries)?;
    planned
        .into_iter()
        .zip(tokens)
        .map(|(plan, token)| {
            let keyspace = batch
                .keyspaces
                .get(&plan.keyspace)
                .ok_or(Error::Internal("a planned key has no keyspace"))?;
            Ok(Issued {
                key: tx.describe_new(
                    plan.record,
                    plan.cold,
                    keyspace,
                    plan.quota
                        .map(|quota| QuotaRecord::new(quota, 1, 0, tx.now()).status(tx.now())),
                ),
                token,
            })
        })
        .collect()
}

/// A token with a fresh id, and its digest in a record.
pub(crate) struct Drawn {
    pub(crate) id: KeyId,
    pub(crate) token: Token,
    pub(crate) pepper: u8,
    pub(crate) digest: Digest,
}

/// Draws an id that is not taken, and a secret.
pub(crate) fn draw(
    tx: &Tx<'_>,
    prefix: &Prefix,
    entropy: &mut Entropy,
    is_taken: impl Fn(KeyId) -> Result<bool, Error>,
) -> Result<Drawn, Error> {
    let id = draw_id(tx, entropy, is_taken)?;
    draw_token(tx.ring(), prefix, id, entropy)
}

/// Draws an id that is not taken.
fn draw_id(
    tx: &Tx<'_>,
    entropy: &mut Entropy,
    is_taken: impl Fn(KeyId) -> Result<bool, Error>,
) -> Result<KeyId, Error> {
    // A millisecond has 2^18 ids. Where it is crowded, the next ones serve.
    let mut at_ms = tx.now().unix_ms().max(KeyId::FIRST_MS);
    loop {
        let id = KeyId::from_time(at_ms, entropy.u32()?);
        if !is_taken(id)? {
            return Ok(id);
        }
        at_ms = at_ms.saturating_add(1);
    }
}

/// Draws the tokens of keys that passed all checks, and puts their digests into the records; half
/// of many on a thread of its own.
fn draw_tokens(ring: &Keyring, plans: &mut [Plan]) -> Result<Vec<Token>, Error> {
    let draw = |plans: &mut [Plan], into: &mut Vec<Token>| {
        let mut entropy = Entropy::new();
        plans.iter_mut().try_for_each(|plan| {
            let record = &mut plan.record;
            let drawn = draw_token(ring, &plan.keyspace, record.id, &mut entropy)?;
            (record.pepper, record.digest) = (drawn.pepper, drawn.digest);
            into.push(drawn.token);
            Ok(())
        })
    };
    let apart = plans.len() >= APART_MIN;
    let (mut tokens, mut behind) = (Vec::with_capacity(plans.len()), Vec::new());
    let (first, second) = plans.split_at_mut(if apart { plans.len() / 2 } else { plans.len() });
    pipe::beside(
        apart,
        || draw(second, &mut behind),
        || draw(first, &mut tokens),
    )?;
    tokens.append(&mut behind);
    Ok(tokens)
}

/// Draws the secret of a key's token.
fn draw_token(
    ring: &Keyring,
    prefix: &Prefix,
    id: KeyId,
    entropy: &mut Entropy,
) -> Result<Drawn, Error> {
    let secret = token::draw_secret(entropy)?;
    let text = token::print(prefix, id, &secret)?;
    let parts = token::split(text.as_bytes())
        .ok_or(Error::Internal("a token just printed does not parse"))?;
    debug_assert!(parts.is_token(), "each digit, and the checksum");
    let (pepper, digest) = ring.sign(parts.signed);
    Ok(Drawn {
        id,
        pepper,
        digest,
        token: Token::new(id, text),
    })
}

/// A key that passed all checks, but for its token: what makes the digest is the caller's.
pub(super) struct Plan {
    keyspace: Prefix,
    pub(super) record: KeyRecord,
    pub(super) cold: ColdRecord,
    pub(super) quota: Option<Quota>,
    /// The keys to revoke for it.
    pub(super) superseded: Vec<KeyRecord>,
    /// Keys of the owner that time has ended.
    pub(super) lapsed: Vec<Lapsed>,
    /// Keys of the owner that cannot be read.
    pub(super) damaged: Vec<KeyId>,
}

impl Plan {
    /// Takes the key in with what goes for it; its rows are still to be written. `seq`: the position
    /// of its audit entry.
    fn admit(&mut self, tx: &mut Tx<'_>, seq: u64) -> Result<(), Error> {
        for old in &self.superseded {
            supersede(tx, old, seq)?;
        }
        tx.forget_lapsed(&self.lapsed)?;
        for id in &self.damaged {
            tx.forget(*id);
        }
        self.record.revision = seq;
        if let Some(quota) = self.quota {
            self.cold.quota = Some(tx.new_quota_at(seq, quota)?);
        }
        tx.admit_key(&self.record, &self.cold)
    }

    fn event(&self) -> AuditEvent {
        AuditEvent::KeyIssued {
            key: self.record.id,
            keyspace: self.keyspace,
            owner: self.record.owner.clone(),
            superseded: self.superseded.iter().map(|key| key.id).collect(),
        }
    }
}

/// Revokes a key because another replaces it.
pub(crate) fn supersede(tx: &mut Tx<'_>, old: &KeyRecord, seq: u64) -> Result<(), Error> {
    let revoked = KeyRecord {
        phase: Phase::Revoked {
            at: tx.now(),
            reason: Reason::Superseded,
        },
        revision: seq,
        ..old.clone()
    };
    tx.replace_key(old, &revoked)?;
    // Its row is beside that of the key which takes its place.
    tx.forget_lapsed(&[Lapsed::of(old)])
}

/// Whether a key counts among those that its owner holds.
pub(crate) fn is_current(key: &KeyRecord) -> bool {
    matches!(key.phase, Phase::Current)
}

/// How many keys count towards a cap, as a batch goes on.
struct Held {
    /// What the store counted before the batch.
    stored: u64,
    accuracy: Accuracy,
    /// What the items of the batch add.
    added: u64,
    /// What the items of the batch end, all of it counted in the store.
    freed: u64,
}

impl Held {
    fn count(&self) -> u64 {
        (self.stored + self.added).saturating_sub(self.freed)
    }

    /// Whether the cap has no room for another key, as far as is known; `None` where that
    /// has to be counted first.
    fn is_full(&self, cap: u64) -> Option<bool> {
        let is_full = self.count() >= cap;
        match (self.accuracy, is_full) {
            (Accuracy::AtMost, true) | (Accuracy::AtLeast, false) => None,
            _ => Some(is_full),
        }
    }
}

/// What the items of a batch share, so that none breaks a rule together with another.
#[derive(Default)]
pub(super) struct Batch {
    keyspaces: BTreeMap<Prefix, Arc<Keyspace>>,
    suspended: BTreeMap<OwnerPath, u8>,
    ids: BTreeSet<KeyId>,
    /// The highest id of the store, once that was asked.
    newest: Option<KeyId>,
    /// Who has a key of the batch in a single-active keyspace.
    single: BTreeSet<(OwnerPath, u32)>,
    /// The caps that bound the keys of an owner in a keyspace.
    caps: BTreeMap<(OwnerPath, u32), Vec<Cap>>,
    /// How many keys count towards a cap in a keyspace.
    held: BTreeMap<(Cap, u32), Held>,
    entropy: Option<Entropy>,
    /// Whether a key that an owner has already refuses another where it may have one.
    supersedes_none: bool,
}

impl Batch {
    /// One that takes nothing away.
    pub(super) fn that_supersedes_none() -> Self {
        Self {
            supersedes_none: true,
            ..Self::default()
        }
    }

    pub(super) fn plan(
        &mut self,
        tx: &Tx<'_>,
        spec: &NewKey,
        actor: Option<&str>,
    ) -> Result<Plan, Error> {
        spec.validate()?;
        let keyspace = match self.keyspaces.get(&spec.keyspace) {
            Some(keyspace) => keyspace.clone(),
            None => {
                let keyspace = Arc::new(tx.keyspace(spec.keyspace)?);
                self.keyspaces.insert(spec.keyspace, keyspace.clone());
                keyspace
            }
        };
        let permissions = keyspace.resolve(&spec.permission_names, spec.permission_bits)?;
        let now = tx.now();
        let expires_at = spec.expiry.resolve(&keyspace, now, now)?;
        let not_before = spec.not_before.unwrap_or(Timestamp::MIN);
        validate_life(not_before, expires_at)?;
        let plan = keyspace.plan_for(spec.plan.as_deref())?;
        let holdings = self.make_room(tx, &keyspace, &spec.owner)?;
        let suspended = self.suspended_mask(tx, &spec.owner)?;

        let entropy = self.entropy.get_or_insert_with(Entropy::new);
        let newest = match self.newest {
            Some(newest) => newest,
            None => *self.newest.insert(tx.newest_id()?),
        };
        // None above the newest of the store is taken in it.
        let is_taken = |id| match self.ids.contains(&id) {
            true => Ok(true),
            false => Ok(id <= newest && tx.id_is_taken(id)?),
        };
        let id = draw_id(tx, entropy, is_taken)?;
        self.ids.insert(id);
        Ok(Plan {
            keyspace: spec.keyspace,
            record: KeyRecord {
                id,
                lineage: id,
                keyspace: keyspace.id,
                plan,
                has_quota: spec.quota.is_some(),
                has_own_limits: spec.limits.is_some(),
                phase: Phase::Current,
                disabled: false,
                suspended,
                permissions,
                not_before,
                expires_at,
                revision: 0,
                pepper: tx.ring().signing_pepper(),
                scheme: Scheme::Native,
                import: 0,
                digest: [0; DIGEST_LEN],
                owner: spec.owner.clone(),
                networks: spec.networks.clone(),
            },
            cold: ColdRecord {
                name: spec.name.clone(),
                description: spec.description.clone(),
                labels: spec.labels.clone(),
                created_at: now,
                created_by: actor.map(str::to_owned),
                predecessor: None,
                successor: None,
                quota: None,
                limits: spec.limits.clone(),
                foreign_id: None,
            },
            quota: spec.quota,
            superseded: holdings.good,
            lapsed: holdings.lapsed,
            damaged: holdings.damaged,
        })
    }

    fn suspended_mask(&mut self, tx: &Tx<'_>, owner: &OwnerPath) -> Result<u8, Error> {
        if tx.nobody_is_suspended()? {
            return Ok(0);
        }
        if let Some(mask) = self.suspended.get(owner) {
            return Ok(*mask);
        }
        let mask = tx.suspended_mask(owner)?;
        self.suspended.insert(owner.clone(), mask);
        Ok(mask)
    }

    /// Refuses if the owner may not hold another key; otherwise returns the keys that
    /// must go.
    fn make_room(
        &mut self,
        tx: &Tx<'_>,
        keyspace: &Keyspace,
        owner: &OwnerPath,
    ) -> Result<Holdings, Error> {
        let mut room = Holdings::default();
        if keyspace.keys_per_owner.is_single() {
            if !self.single.insert((owner.clone(), keyspace.id)) {
                // The second would revoke the first before anybody has it.
                return Err(Invalid::Duplicate {
                    what: "owner in a batch for a single-active keyspace",
                    value: owner.to_string(),
                }
                .into());
            }
            room = tx.holdings(owner, keyspace.id)?;
        }
        let is_refusing = keyspace.keys_per_owner == KeysPerOwner::SingleRefusing;
        let is_held = |key: &&KeyRecord| keyspace.count_retiring || is_current(key);
        let refusing = match (is_refusing, self.supersedes_none) {
            (true, _) => room.good.iter().find(is_held),
            (false, true) => room.good.first(),
            (false, false) => None,
        };
        // Before it is counted: of a key that is refused, nothing is.
        if let Some(key) = refusing {
            return Err(Conflict::OwnerHasKey {
                owner: owner.clone(),
                key: key.id,
            }
            .into());
        }
        if is_refusing {
            room.good.clear();
        }
        let freed = weigh(keyspace, room.good.iter().map(|key| key.lineage));
        self.count(tx, keyspace, owner, freed, &mut room)?;
        Ok(room)
    }

    /// Counts a further key of an owner, for which so many go, towards each of its caps.
    fn count(
        &mut self,
        tx: &Tx<'_>,
        keyspace: &Keyspace,
        owner: &OwnerPath,
        freed: u64,
        room: &mut Holdings,
    ) -> Result<(), Error> {
        if !caps::may_be(tx, keyspace)? {
            return Ok(());
        }
        let caps = match self.caps.entry((owner.clone(), keyspace.id)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(caps::of(tx, keyspace, owner)?),
        };
        let mut refusing = Vec::new();
        let mut note = |tally: Tally| {
            room.lapsed.extend(tally.lapsed);
            room.damaged.extend(tally.damaged);
            (tally.count, tally.accuracy)
        };
        for cap in &*caps {
            let held = match self.held.entry((cap.clone(), keyspace.id)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let (stored, accuracy) =
                        note(tx.tally(keyspace, &cap.owner, cap.below, cap.cap)?);
                    place.insert(Held {
                        stored,
                        accuracy,
                        added: 0,
                        freed: 0,
                    })
                }
            };
            // What takes the place of another adds none.
            if freed > 0 {
                continue;
            }
            if held.is_full(cap.cap.into()).is_none() {
                let tally = tx.tally_all(keyspace, &cap.owner, cap.below)?;
                (held.stored, held.accuracy) = note(tally);
            }
            if held.is_full(cap.cap.into()) != Some(false) {
                refusing.push((cap.clone(), held.count()));
            }
        }
        if let Some((cap, held)) = caps::tightest(refusing) {
            return Err(Conflict::OwnerAtCap {
                owner: cap.owner,
                held,
                cap: cap.cap,
            }
            .into());
        }
        for cap in &*caps {
            if let Some(held) = self.held.get_mut(&(cap.clone(), keyspace.id)) {
                held.added += 1;
                held.freed += freed;
            }
        }
        Ok(())
    }
}
