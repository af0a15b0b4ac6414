//! The audit entries about one key, found without reading the whole trail.
//!
//! An index names the entries about each key. It follows the trail at a distance: a row
//! stands on another page than all else that a change writes, and would make a durable
//! revocation half as dear again. So a flush adds rows for a thousand entries at a time,
//! once [`LAG`] entries wait, and whoever asks reads the entries that wait.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable, ReadableTableMetadata};

use crate::crypto::digest::Keyring;
use crate::model::audit::{AuditEntry, AuditEvent, Scope};
use crate::model::error::{Corruption, Error};
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::journal::Noted;
use crate::store::read;
use crate::store::record::{KeyRecord, Phase};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{AUDIT, BY_KEY, Bytes, KEPT, META, META_INDEXED, Tagged, seal, unseal};
use crate::store::tx::Tx;

/// How many entries wait before a flush adds rows for them.
pub(crate) const LAG: u64 = 4096;
/// For how many entries one transaction adds rows.
pub(crate) const PER_TRANSACTION: u64 = 1000;

/// Up to which position the index follows the trail.
#[derive(Clone, Copy, Default)]
pub(crate) struct Indexed {
    pub(crate) through: u64,
}

/// The position up to which there are rows; a store that never had any has none.
pub(super) fn indexed(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
) -> Result<u64, Error> {
    let key = META_INDEXED.as_bytes();
    match meta.get(META_INDEXED).or_store()? {
        Some(bytes) => {
            unseal::<Indexed>(ring, Tagged::Indexed, key, bytes.value()).map(|at| at.through)
        }
        None => Ok(0),
    }
}

/// An id has fewer bits: see [`KeyId`].
const SCOPE_BIT: u64 = 1 << 63;

/// An owner or a keyspace as the subject of rows: FNV-1a. Two that come to the same cost
/// a look at an entry of the other.
fn scope(kind: u8, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = std::iter::once(kind).chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, step) | SCOPE_BIT
}

fn of_owner(path: &str) -> u64 {
    scope(b'o', path)
}

fn of_keyspace(prefix: &Prefix) -> u64 {
    scope(b'k', prefix.as_str())
}

/// Whom an entry is about: the keys that it names, or the owner or the keyspace whose keys
/// it reached without naming them.
pub(super) fn subjects(event: &AuditEvent) -> BTreeSet<u64> {
    let mut subjects: BTreeSet<u64> = event.keys().iter().map(|key| key.raw()).collect();
    match event {
        AuditEvent::OwnerSuspended { owner, .. }
        | AuditEvent::OwnerResumed { owner, .. }
        | AuditEvent::KeysRevokedUnnamed {
            scope: Scope::Owner(owner),
            ..
        } => {
            subjects.insert(of_owner(owner.as_str()));
        }
        AuditEvent::KeysRevokedUnnamed {
            scope: Scope::Keyspace(prefix),
            ..
        } => {
            subjects.insert(of_keyspace(prefix));
        }
        _ => {}
    }
    subjects
}

impl Tx<'_> {
    /// Adds rows for up to [`PER_TRANSACTION`] entries.
    pub(crate) fn follow_trail(&mut self) -> Result<(), Error> {
        let floor = self.floor();
        let from = indexed(self.meta(), self.ring())?.max(floor.seq) + 1;
        let through = self.state.audit_seq.min(from - 1 + PER_TRANSACTION);
        if through < from {
            return Ok(());
        }
        self.writing();
        let before = read::audit_hash(&self.audit, &self.state, from - 1);
        let mut links = read::Links::after(from - 1, through, Error::or_damaged(before)?.ok());
        let mut rows = Vec::new();
        for entry in self.audit.range(from..=through).or_store()? {
            let (seq, bytes) = entry.or_store()?;
            links.missing_before(seq.value()).for_each(drop);
            // One that is damaged must not keep the others from having rows.
            if let Ok(entry) = links.read(self.ring(), seq.value(), bytes.value()) {
                let subjects = subjects(&entry.event).into_iter();
                rows.extend(subjects.map(|whom| (whom, entry.seq)));
            }
        }
        rows.sort_unstable();
        let mut by_key = self.open_by_key()?;
        by_key.insert_in_order(&rows, |row| (*row, ()), |_, _| {})?;
        let key = META_INDEXED.as_bytes();
        let sealed = seal(self.ring(), Tagged::Indexed, key, &Indexed { through })?;
        self.put_meta(META_INDEXED, &sealed)
    }

    /// Removes the rows of an entry that is trimmed away.
    pub(super) fn forget_rows(
        by_key: &mut Noted<'_, (u64, u64), ()>,
        entry: &AuditEntry,
    ) -> Result<(), Error> {
        for subject in subjects(&entry.event) {
            by_key.remove((subject, entry.seq)).or_store()?;
        }
        Ok(())
    }
}

/// What is looked for in the entries.
struct About {
    key: KeyId,
    /// Who holds the key, and its keyspace, where that is known.
    held: Option<(OwnerPath, Prefix)>,
}

impl About {
    fn is_about(&self, event: &AuditEvent) -> bool {
        if event.keys().contains(&self.key) {
            return true;
        }
        let Some((holder, keyspace)) = &self.held else {
            return false;
        };
        match event {
            AuditEvent::OwnerSuspended { owner, .. }
            | AuditEvent::OwnerResumed { owner, .. }
            | AuditEvent::KeysRevokedUnnamed {
                scope: Scope::Owner(owner),
                ..
            } => owner.covers(holder),
            AuditEvent::KeysRevokedUnnamed {
                scope: Scope::Keyspace(prefix),
                ..
            } => prefix == keyspace,
            _ => false,
        }
    }

    fn subjects(&self) -> Vec<u64> {
        let mut subjects = vec![self.key.raw()];
        if let Some((owner, keyspace)) = &self.held {
            subjects.extend(owner.levels().map(of_owner));
            subjects.push(of_keyspace(keyspace));
        }
        subjects
    }
}

/// Whether an entry is the first about a key: its issue, its import, or what it came of.
fn is_birth(event: &AuditEvent, key: KeyId) -> bool {
    match event {
        AuditEvent::KeyIssued { key: born, .. } => *born == key,
        AuditEvent::KeyRotated { new, .. } | AuditEvent::KeyReissued { new, .. } => *new == key,
        AuditEvent::KeysImported { keys, .. } => keys.contains(&key),
        _ => false,
    }
}

/// Whether a key that lived was revoked by an entry about it, for good: nothing reaches it
/// after that.
fn is_end(event: &AuditEvent, key: KeyId) -> bool {
    match event {
        AuditEvent::KeyRevoked { .. }
        | AuditEvent::KeysRevoked { .. }
        | AuditEvent::KeysRevokedUnnamed { .. } => true,
        AuditEvent::KeyReissued { old, .. } => *old == key,
        AuditEvent::ImportEnded { .. } => true,
        AuditEvent::KeyIssued { superseded, .. } => superseded.contains(&key),
        AuditEvent::KeyRotated {
            old,
            retiring_until,
            superseded,
            ..
        } => superseded.contains(&key) || (*old == key && retiring_until.is_none()),
        _ => false,
    }
}

impl Snapshot {
    /// How many entries wait for rows.
    pub(crate) fn unindexed(&self) -> Result<u64, Error> {
        let state = self.state()?;
        // Damaged: none are added until a repair, and everything else goes on.
        let Ok(through) = Error::or_damaged(indexed(&self.table(META)?, self.ring()))? else {
            return Ok(0);
        };
        Ok(state.audit_seq - through.max(state.audit_floor_seq).min(state.audit_seq))
    }

    /// Up to `limit` entries about a key, from a position on.
    pub(crate) fn history(
        &self,
        key: KeyId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Error> {
        let record = self.record(key)?;
        let held = match &record {
            Some(record) => {
                let keyspaces = self.table(super::tables::KEYSPACES)?;
                let keyspace = read::keyspace(&keyspaces, self.ring(), record.keyspace)?;
                Some((record.owner.clone(), keyspace.prefix))
            }
            None => self.held_once(key)?,
        };
        let about = About { key, held };
        let mut entries = self.entries(&about)?;

        let state = self.state()?;
        let is_revoked = |record: &KeyRecord| matches!(record.phase, Phase::Revoked { .. });
        // A key whose grace was over, such an entry does not revoke.
        let ends_unnamed = record.as_ref().is_none_or(is_revoked);
        if let Some(record) = record
            && is_revoked(&record)
            && record.revision <= state.audit_floor_seq
        {
            let entry = read::kept(&self.table(KEPT)?, self.ring(), record.revision)?;
            entries.insert(entry.seq, entry);
        }
        let named = |entry: &AuditEntry| entry.event.keys().contains(&key);
        let born = entries.values().find(|entry| is_birth(&entry.event, key));
        let born = born.map_or(0, |entry| entry.seq);
        let is_over = |entry: &&AuditEntry| {
            let is_unnamed = matches!(entry.event, AuditEvent::KeysRevokedUnnamed { .. });
            let counts = entry.seq >= born && (ends_unnamed || !is_unnamed);
            counts && is_end(&entry.event, key)
        };
        let over = entries
            .values()
            .find(is_over)
            .map_or(u64::MAX, |entry| entry.seq);
        let reached = |entry: &AuditEntry| named(entry) || (born..=over).contains(&entry.seq);
        let found = entries.into_values().filter(reached);
        Ok(found
            .filter(|entry| entry.seq >= from)
            .take(limit)
            .collect())
    }

    /// Who held a key that is purged: as it was issued, or the key that it came of.
    fn held_once(&self, key: KeyId) -> Result<Option<(OwnerPath, Prefix)>, Error> {
        let mut key = key;
        loop {
            let entries = self.entries(&About { key, held: None })?;
            let birth = entries
                .into_values()
                .find(|entry| is_birth(&entry.event, key));
            match birth.map(|entry| entry.event) {
                Some(AuditEvent::KeyIssued {
                    owner, keyspace, ..
                }) => {
                    return Ok(Some((owner, keyspace)));
                }
                Some(AuditEvent::KeyRotated { old, .. } | AuditEvent::KeyReissued { old, .. }) => {
                    key = old;
                }
                _ => return Ok(None),
            }
        }
    }

    /// All entries of the trail that are about a key, by the index and, where it has no
    /// rows yet, by reading them.
    fn entries(&self, about: &About) -> Result<BTreeMap<u64, AuditEntry>, Error> {
        let state = self.state()?;
        let audit = self.table(AUDIT)?;
        let by_key = self.table(BY_KEY)?;
        let floor = state.audit_floor_seq;
        let mut positions = BTreeSet::new();
        for subject in about.subjects() {
            let range = (subject, floor + 1)..=(subject, u64::MAX);
            for row in ReadableTable::range::<(u64, u64)>(&by_key, range).or_store()? {
                positions.insert(row.or_store()?.0.value().1);
            }
        }
        let mut entries = BTreeMap::new();
        // Damaged: all entries are read.
        let through = Error::or_damaged(indexed(&self.table(META)?, self.ring()))?;
        let through = through.unwrap_or(0).max(floor);
        positions.extend(through + 1..=state.audit_seq);
        for seq in positions {
            // One that is damaged tells nothing: `check` names it.
            let read = read::audit_entry(&audit, self.ring(), &state, seq);
            if let Ok(entry) = Error::or_damaged(read)?
                && about.is_about(&entry.event)
            {
                entries.insert(seq, entry);
            }
        }
        Ok(entries)
    }
}

/// The index beside the trail, as a walk of the whole store compares them.
pub(super) struct Rows {
    by_key: redb::ReadOnlyTable<(u64, u64), ()>,
    through: u64,
    damage: Option<Corruption>,
    expected: u64,
}

impl Rows {
    pub(super) fn new(snapshot: &Snapshot) -> Result<Self, Error> {
        let through = indexed(&snapshot.table(META)?, snapshot.ring());
        let (through, damage) = match Error::or_damaged(through)? {
            Ok(through) => (through, None),
            Err(damage) => (0, Some(damage)),
        };
        Ok(Self {
            by_key: snapshot.table(BY_KEY)?,
            through,
            damage,
            expected: 0,
        })
    }

    /// Why it is not known up to where there are rows, if it is not.
    pub(super) fn damage(&mut self) -> Option<Corruption> {
        self.damage.take()
    }

    /// Whether an entry of the trail has the rows that it should have.
    pub(super) fn has(&mut self, entry: &AuditEntry) -> Result<bool, Error> {
        if entry.seq > self.through {
            return Ok(true);
        }
        let mut all = true;
        for subject in subjects(&entry.event) {
            self.expected += 1;
            let row = ReadableTable::get(&self.by_key, (subject, entry.seq)).or_store()?;
            all &= row.is_some();
        }
        Ok(all)
    }

    /// How many rows there are that no entry stands for, after all were seen.
    pub(super) fn surplus(&self) -> Result<u64, Error> {
        Ok(self.by_key.len().or_store()?.saturating_sub(self.expected))
    }
}
