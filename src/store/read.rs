//! Reading single records, from a snapshot or inside a transaction alike.

use std::ops::Bound;

use redb::ReadableTable;

use crate::crypto::digest::{ChainKey, DIGEST_LEN, Digest, Keyring, digests_equal};
use crate::model::audit::link::Link;
use crate::model::audit::{AuditBody, AuditEntry, AuditEvent};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::model::key::{ColdRecord, Key, Revoked, Usage};
use crate::model::keyspace::Keyspace;
use crate::model::owner::{OwnerPath, OwnerState, Suspension};
use crate::model::quota::QuotaStatus;
use crate::store::entry::Place;
use crate::store::failure::OrStore;
use crate::store::held::is_over;
use crate::store::lags::Lags;
use crate::store::life::Life;
use crate::store::quota::QuotaRecord;
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::tables::{
    Bytes, META_FLEET, META_STATE, OwnerRecord, State, Stored, Tagged, held_in, held_parts, unseal,
};

/// The state of the store.
pub(crate) fn state(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
) -> Result<State, Error> {
    match meta.get(META_STATE).or_store()? {
        Some(bytes) => unseal(ring, Tagged::State, META_STATE.as_bytes(), bytes.value()),
        None => Err(Error::corrupted("gatekey", META_STATE, "it is missing")),
    }
}

/// Where in a fleet's log the file stands; `None`: it is in no fleet.
pub(crate) fn place(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
) -> Result<Option<Place>, Error> {
    let stored = meta.get(META_FLEET).or_store()?;
    stored
        .map(|stored| Place::decode(ring, stored.value()))
        .transpose()
}

/// A key's usage as stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct UsageRecord {
    pub(crate) last_used: Option<Timestamp>,
    pub(crate) count: u64,
}

pub(crate) fn key(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    id: KeyId,
) -> Result<Option<KeyRecord>, Error> {
    match table.get(id.raw()).or_store()? {
        Some(record) => {
            let (view, _) = View::open(record.value(), id, ring)?;
            KeyRecord::from_view(&view).map(Some)
        }
        None => Ok(None),
    }
}

/// What a key's record says of its revision, whatever its tag says; `None` where there is no
/// record that can be read.
pub(super) fn revision(
    table: &impl ReadableTable<u64, Bytes>,
    id: KeyId,
) -> Result<Option<u64>, Error> {
    let record = table.get(id.raw()).or_store()?;
    let view = record
        .as_ref()
        .and_then(|record| View::parse(record.value()));
    Ok(view.map(|view| view.revision()))
}

/// The cold record of a key that exists; without one the store is corrupt.
pub(crate) fn cold(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    id: KeyId,
) -> Result<ColdRecord, Error> {
    match table.get(id.raw()).or_store()? {
        Some(record) => unseal(ring, Tagged::Cold, &id.raw().to_le_bytes(), record.value()),
        None => Err(Error::corrupted("cold", id, "it is missing")),
    }
}

pub(crate) fn keyspace(
    table: &impl ReadableTable<u32, Bytes>,
    ring: &Keyring,
    number: u32,
) -> Result<Keyspace, Error> {
    match table.get(number).or_store()? {
        Some(record) => unseal(
            ring,
            Tagged::Keyspace,
            &number.to_le_bytes(),
            record.value(),
        ),
        None => Err(Error::corrupted("keyspaces", number, "it is missing")),
    }
}

pub(crate) fn owner(
    table: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
    path: &str,
) -> Result<Option<OwnerRecord>, Error> {
    match table.get(path).or_store()? {
        Some(record) => unseal(ring, Tagged::Owner, path.as_bytes(), record.value()).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn usage(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    id: KeyId,
) -> Result<UsageRecord, Error> {
    match table.get(id.raw()).or_store()? {
        Some(record) => unseal(ring, Tagged::Usage, &id.raw().to_le_bytes(), record.value()),
        None => Ok(UsageRecord::default()),
    }
}

/// An audit entry as stored: `version, bincode, hash`.
/// It is added to what is there; what is given is its hash.
pub(crate) fn encode_audit_onto(
    ring: &Keyring,
    previous: &Digest,
    seq: u64,
    body: &AuditBody,
    bytes: &mut Vec<u8>,
) -> Result<Digest, Error> {
    let start = bytes.len();
    bytes.push(AuditBody::VERSION);
    let encoded = body.encode_onto(bytes);
    encoded.ok_or(Error::Internal("an audit entry is over its limit"))?;
    let hash = ring.chain(previous, seq, bytes.get(start..).unwrap_or_default());
    bytes.extend(hash);
    Ok(hash)
}

/// Reads an audit entry that follows on `previous`, and its hash.
pub(crate) fn decode_audit(
    ring: &Keyring,
    previous: &Digest,
    seq: u64,
    bytes: &[u8],
) -> Result<(AuditEntry, Digest), Error> {
    decode_audit_with(ring.chain_key(), previous, seq, bytes)
}

/// As [`decode_audit`], with nothing but the key of the chain.
pub(crate) fn decode_audit_with(
    key: &ChainKey,
    previous: &Digest,
    seq: u64,
    bytes: &[u8],
) -> Result<(AuditEntry, Digest), Error> {
    let corrupted = |why: &str| Error::corrupted("audit", seq, why);
    let (body, hash) = bytes
        .split_last_chunk::<DIGEST_LEN>()
        .ok_or_else(|| corrupted("it is too short"))?;
    if !digests_equal(&key.link(previous, seq, body), hash) {
        return Err(corrupted("it does not follow on the entry before it"));
    }
    Ok((audit_body(seq, body)?, *hash))
}

fn audit_body(seq: u64, body: &[u8]) -> Result<AuditEntry, Error> {
    let corrupted = |why: &str| Error::corrupted("audit", seq, why);
    let (version, encoded) = body.split_first().ok_or_else(|| corrupted("it is empty"))?;
    let body = AuditBody::decode(*version, encoded).map_err(corrupted)?;
    Ok(body.at_position(seq))
}

/// Reads an audit entry of which it is known that it follows on the one before it.
pub(super) fn linked_entry(
    table: &impl ReadableTable<u64, Bytes>,
    seq: u64,
) -> Result<AuditEntry, Error> {
    let entry = table.get(seq).or_store()?;
    let stored = entry.as_ref().map(|entry| entry.value());
    match stored.and_then(|stored| stored.split_last_chunk::<DIGEST_LEN>()) {
        Some((body, _)) => audit_body(seq, body),
        None => Err(Error::corrupted("audit", seq, "it is missing")),
    }
}

/// Follows the chain of the audit trail, and continues after a broken entry. That loses
/// no safety: without the key, nobody can make an entry that follows another, or move
/// an entry to another place.
pub(super) struct Links {
    /// The position of the next entry, and of the last.
    next: u64,
    last: u64,
    /// The hash that the next entry follows on, where it is known.
    previous: Option<Digest>,
}

impl Links {
    pub(super) fn new(state: &State) -> Self {
        Self {
            next: state.audit_floor_seq + 1,
            last: state.audit_seq,
            previous: Some(state.audit_floor_hash),
        }
    }

    /// For entries after a position, up to another, where the first of them follows on a hash.
    pub(super) fn after(seq: u64, last: u64, hash: Option<Digest>) -> Self {
        Self {
            next: seq + 1,
            last,
            previous: hash,
        }
    }

    /// Whether an entry can stand at a position, behind those read.
    pub(super) fn is_due(&self, seq: u64) -> bool {
        (self.next..=self.last).contains(&seq)
    }

    /// The hash that the store's next entry is to follow on, once all are read.
    pub(super) fn last(&self) -> Option<Digest> {
        self.previous
    }

    /// Passes over the entries that are missing before a position, or before the end.
    pub(super) fn missing_before(&mut self, seq: u64) -> impl Iterator<Item = (u64, String)> {
        let end = seq.min(self.last + 1);
        let missing = self.next..end.max(self.next);
        if !missing.is_empty() {
            self.next = end;
            self.previous = None;
        }
        missing.map(|seq| (seq, "it is missing".to_owned()))
    }

    /// Reads the entry at the next position, or says what is wrong with it.
    pub(super) fn read(
        &mut self,
        ring: &Keyring,
        seq: u64,
        bytes: &[u8],
    ) -> Result<AuditEntry, String> {
        self.next = seq + 1;
        let previous = self.previous;
        self.previous = bytes.last_chunk::<DIGEST_LEN>().copied();
        let Some(previous) = previous else {
            return Err("what it follows on is missing".to_owned());
        };
        match decode_audit(ring, &previous, seq, bytes) {
            Ok((entry, _)) => Ok(entry),
            Err(Error::Corrupted(damage)) => Err(damage.why),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The keys that end after one instant, and at the latest at another, in the order of
/// their ends.
pub(super) fn ids_ending_within(
    by_end: &impl ReadableTable<(u64, u64), ()>,
    after: Timestamp,
    last: Timestamp,
) -> Result<Vec<KeyId>, Error> {
    if after >= last {
        return Ok(Vec::new());
    }
    let range = (
        Bound::Excluded((after.unix_ms(), u64::MAX)),
        Bound::Included((last.unix_ms(), u64::MAX)),
    );
    by_end
        .range::<(u64, u64)>(range)
        .or_store()?
        .map(|entry| Ok(KeyId::from_raw(entry.or_store()?.0.value().1)))
        .collect()
}

/// Whether a key's link to another of its line is named back. A key that was replaced
/// when it was over, or before anybody had it, shares its predecessor with what took its
/// place.
pub(super) fn is_named_back(
    id: KeyId,
    cold: &ColdRecord,
    other: &ColdRecord,
    is_successor: bool,
    is_over: bool,
) -> bool {
    match is_successor {
        true => other.predecessor == Some(id) || (is_over && other.predecessor == cold.predecessor),
        false => other.successor == Some(id) || (is_over && cold.successor.is_some()),
    }
}

/// The hash of an audit entry, unchecked. Where the trail begins, the state has it.
pub(crate) fn audit_hash(
    table: &impl ReadableTable<u64, Bytes>,
    state: &State,
    seq: u64,
) -> Result<Digest, Error> {
    if seq == state.audit_floor_seq {
        return Ok(state.audit_floor_hash);
    }
    match table.get(seq).or_store()? {
        Some(entry) => match entry.value().last_chunk::<DIGEST_LEN>() {
            Some(hash) => Ok(*hash),
            None => Err(Error::corrupted("audit", seq, "it is too short")),
        },
        None => Err(Error::corrupted("audit", seq, "it is missing")),
    }
}

pub(crate) fn audit_entry(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    state: &State,
    seq: u64,
) -> Result<AuditEntry, Error> {
    let previous = audit_hash(table, state, seq.saturating_sub(1))?;
    match table.get(seq).or_store()? {
        Some(entry) => Ok(decode_audit(ring, &previous, seq, entry.value())?.0),
        None => Err(Error::corrupted("audit", seq, "it is missing")),
    }
}

/// Since when, why and by whom a key is revoked. Who and the note stand in the
/// audit entry that the record's revision names, and `entry` finds: nothing changes
/// a key after its revocation.
pub(crate) fn revoked(
    entry: impl FnOnce(u64) -> Result<AuditEntry, Error>,
    record: &KeyRecord,
    now: Timestamp,
) -> Result<Option<Revoked>, Error> {
    let Some((at, reason)) = Life::from(record).revoked(now) else {
        return Ok(None);
    };
    let (note, by) = match record.phase {
        Phase::Revoked { .. } => {
            // An entry that is damaged tells neither. That the key is revoked, and
            // why, its own record says.
            match Error::or_damaged(entry(record.revision))? {
                Ok(entry) => {
                    let note = match entry.event {
                        AuditEvent::KeyRevoked { note, .. }
                        | AuditEvent::KeysRevoked { note, .. }
                        | AuditEvent::KeysRevokedUnnamed { note, .. } => note,
                        _ => None,
                    };
                    (note, entry.actor)
                }
                Err(_) => (None, None),
            }
        }
        Phase::Retiring { .. } | Phase::Current => (None, None),
    };
    Ok(Some(Revoked {
        key: record.id,
        at,
        reason,
        note,
        by,
    }))
}

/// A key as callers see it.
pub(crate) fn assemble(
    record: KeyRecord,
    cold: ColdRecord,
    keyspace: &Keyspace,
    revoked: Option<Revoked>,
    usage: UsageRecord,
    quota: Option<QuotaStatus>,
    now: Timestamp,
) -> Key {
    let life = Life::from(&record);
    Key {
        id: record.id,
        keyspace: keyspace.prefix,
        owner: record.owner,
        state: life.state(now),
        disabled: life.is_disabled(now),
        suspended: life.is_suspended(now),
        expired: life.is_over_by_expiry(now),
        permissions: record.permissions,
        name: cold.name,
        description: cold.description,
        labels: cold.labels,
        networks: record.networks,
        plan: keyspace
            .plan_numbered(record.plan)
            .map(|plan| plan.name.clone()),
        limits: cold.limits,
        quota,
        not_before: (record.not_before > Timestamp::MIN).then_some(record.not_before),
        expires_at: record.expires_at,
        retiring_until: match record.phase {
            Phase::Retiring { until } => Some(until),
            Phase::Current | Phase::Revoked { .. } => None,
        },
        created_at: cold.created_at,
        created_by: cold.created_by,
        predecessor: cold.predecessor,
        successor: cold.successor,
        revoked,
        usage: Usage {
            last_used: usage.last_used,
            count: usage.count,
        },
    }
}

/// A quota, by its number.
pub(crate) fn find_quota(
    quotas: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    number: u64,
) -> Result<Option<QuotaRecord>, Error> {
    match quotas.get(number).or_store()? {
        Some(record) => {
            unseal(ring, Tagged::Quota, &number.to_le_bytes(), record.value()).map(Some)
        }
        None => Ok(None),
    }
}

/// As [`find_quota`], for a quota that a key names.
pub(crate) fn quota(
    quotas: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    number: u64,
) -> Result<QuotaRecord, Error> {
    find_quota(quotas, ring, number)?
        .ok_or_else(|| Error::corrupted("quotas", number, "a key names it, and it is missing"))
}

/// Whether an owner is suspended, by itself or with a path above it.
pub(crate) fn owner_state(
    owners: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
    path: &OwnerPath,
) -> Result<OwnerState, Error> {
    let mut state = OwnerState {
        owner: path.clone(),
        suspended: None,
        suspended_above: None,
    };
    for ancestor in path.levels() {
        let record = Error::or_damaged(owner(owners, ring, ancestor))?;
        if record == Ok(None) {
            continue;
        }
        if ancestor != path.as_str() {
            // A record that is damaged suspends all the same.
            if state.suspended_above.is_none() {
                state.suspended_above = Some(ancestor.parse()?);
            }
            continue;
        }
        state.suspended = record.map_err(Error::Corrupted)?.map(|record| Suspension {
            at: record.suspended_at,
            by: record.suspended_by,
            note: record.note,
        });
    }
    Ok(state)
}

/// Which of an owner's path and its ancestors are suspended: bit n for the path
/// of n + 1 segments.
pub(crate) fn suspended_mask(
    owners: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
    path: &OwnerPath,
) -> Result<u8, Error> {
    if owners.is_empty().or_store()? {
        return Ok(0);
    }
    let mut mask = 0;
    for (at, ancestor) in path.levels().enumerate() {
        // A record that is damaged suspends all the same.
        if Error::or_damaged(owner(owners, ring, ancestor))? != Ok(None) {
            mask |= 1 << at;
        }
    }
    Ok(mask)
}

/// Calls `each` with every owner that holds more than a single-active keyspace
/// lets it: more than one current key, or more than one retiring; and `damaged` with
/// every key that cannot be read.
pub(crate) fn each_crowded_owner(
    held: &impl ReadableTable<Bytes, (u64, u64)>,
    (keys, ring, lags): (&impl ReadableTable<u64, Bytes>, &Keyring, &Lags),
    now: Timestamp,
    keyspace: u32,
    mut each: impl FnMut(OwnerPath),
    mut damaged: impl FnMut(KeyId),
) -> Result<(), Error> {
    // The keys of one owner follow on each other.
    let mut group: Option<Vec<u8>> = None;
    let (mut current, mut retiring) = (0, 0);
    let (from, to) = held_in(keyspace);
    let range = from.as_slice()..=to.as_slice();
    for entry in held.range::<&[u8]>(range).or_store()? {
        let (place, row) = entry.or_store()?;
        let Some((_, path, id)) = held_parts(place.value()) else {
            continue;
        };
        if is_over(row.value(), now) {
            continue;
        }
        // One that is damaged is not counted: it grants nothing.
        let Ok(Some(mut record)) = Error::or_damaged(key(keys, ring, id))? else {
            damaged(id);
            continue;
        };
        lags.bring_up(&mut record);
        if Life::from(&record).is_over(now) {
            continue;
        }
        if group.as_ref().is_none_or(|last| last != path) {
            group = Some(path.to_vec());
            (current, retiring) = (0, 0);
        }
        let count = match record.phase {
            Phase::Retiring { .. } => &mut retiring,
            Phase::Current | Phase::Revoked { .. } => &mut current,
        };
        *count += 1;
        if *count == 2 {
            each(record.owner);
        }
    }
    Ok(())
}

impl State {
    /// The last audit entry.
    pub(crate) fn head(&self) -> Link {
        Link::new(self.audit_seq, self.audit_hash)
    }

    /// The last audit entry that was trimmed away.
    pub(crate) fn floor(&self) -> Link {
        Link::new(self.audit_floor_seq, self.audit_floor_hash)
    }
}

/// An entry that was trimmed away and kept.
pub(super) fn kept(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    seq: u64,
) -> Result<AuditEntry, Error> {
    match table.get(seq).or_store()? {
        Some(entry) => {
            let body: AuditBody = unseal(ring, Tagged::Kept, &seq.to_le_bytes(), entry.value())?;
            Ok(body.at_position(seq))
        }
        None => Err(Error::corrupted("kept", seq, "it is missing")),
    }
}

/// Refuses a position that was trimmed away.
pub(super) fn require_above(state: &State, seq: u64) -> Result<(), Error> {
    match seq > state.audit_floor_seq {
        true => Ok(()),
        false => Err(NotFound::AuditEntry {
            seq,
            first: state.audit_floor_seq + 1,
        }
        .into()),
    }
}
