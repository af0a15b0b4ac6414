//! Removing and rebuilding what is damaged, so that nothing is granted that was not
//! before.
//!
//! What stands for a right goes where it cannot be read (a hot record), or becomes the
//! narrowest that it may have been (an owner is suspended, a quota is used up). What
//! describes begins anew, and what follows from other records is made from them again.

mod indexes;
mod requests;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use super::Tx;
use crate::crypto::digest::digests_equal;
use crate::model::audit::{AuditBody, AuditEntry, AuditEvent, NAMED_MAX, Repair, Scope};
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::ColdRecord;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::model::quota::Quota;
use crate::store::counts;
use crate::store::failure::OrStore;
use crate::store::life::Life;
use crate::store::quota::QuotaRecord;
use crate::store::read::{self, Links};
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::tables::{self, KEPT, OwnerRecord, Tagged};

/// How many repairs one audit entry names: it must stay below the limit of an encoding.
const PER_ENTRY: usize = 100;
/// How many positions one audit entry names.
const POSITIONS_PER_ENTRY: usize = 4096;
/// How many entries of the index tables are named; the rest is counted. They follow from
/// the records.
const INDEX_ENTRIES_MAX: u64 = 1000;
/// How much of a record's key an audit entry shows.
const RECORD_LEN_MAX: usize = 160;

/// What the audit trail says, as far as it can be read.
#[derive(Default)]
struct Trail {
    broken: BTreeSet<u64>,
    /// By owner: the entry that last suspended or resumed it, and the record that a
    /// suspension wrote.
    suspensions: BTreeMap<OwnerPath, (u64, Option<OwnerRecord>)>,
    /// The last entry that reached for all keys of an owner or a keyspace.
    reached_owner: BTreeMap<OwnerPath, u64>,
    reached_keyspace: BTreeMap<Prefix, u64>,
    /// Keys whose records are older than an entry about them.
    stale: BTreeSet<KeyId>,
}

/// The work of one repair.
struct Mender<'a, 't> {
    tx: &'a mut Tx<'t>,
    actor: Option<&'a str>,
    /// What is done and not yet in the audit trail.
    unwritten: Vec<(Option<KeyId>, Repair)>,
    done: Vec<Repair>,
    index_entries: u64,
}

impl Tx<'_> {
    /// Removes or rebuilds everything that is damaged, and says what it did. `known` are
    /// the keyspaces as the engine has them in memory.
    pub(crate) fn repair(
        &mut self,
        known: &[Keyspace],
        actor: Option<&str>,
    ) -> Result<Vec<Repair>, Error> {
        let mut mender = Mender {
            tx: self,
            actor,
            unwritten: Vec::new(),
            done: Vec::new(),
            index_entries: 0,
        };
        let trail = mender.trail()?;
        mender.keyspaces(known)?;
        mender.owners(&trail)?;
        mender.keys(&trail)?;
        mender.suspensions()?;
        let rebuilt = mender.colds()?;
        mender.lineage(&rebuilt)?;
        mender.usages()?;
        mender.quotas()?;
        mender.requests()?;
        mender.indexes()?;
        mender.rows()?;
        mender.digests()?;
        mender.counts()?;
        mender.note_more();
        mender.write()?;
        Ok(mender.done)
    }

    /// The record of a key where it can be read.
    fn readable(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(Error::or_damaged(self.find_key(id))?.ok().flatten())
    }

    /// The keys whose record says that they were revoked by an audit entry.
    pub(in crate::store) fn revoked_at(&self, seq: u64) -> Result<Vec<KeyId>, Error> {
        let mut keys = Vec::new();
        self.each_key(|key| {
            if key.revision == seq && matches!(key.phase, Phase::Revoked { .. }) {
                keys.push(key.id);
            }
            Ok(())
        })?;
        Ok(keys)
    }

    /// Calls `each` with every key that can be read.
    fn each_key(&self, mut each: impl FnMut(KeyRecord) -> Result<(), Error>) -> Result<(), Error> {
        for entry in self.keys.iter().or_store()? {
            let (id, bytes) = entry.or_store()?;
            let id = KeyId::from_raw(id.value());
            let read = View::open(bytes.value(), id, self.ring)
                .and_then(|(view, _)| KeyRecord::from_view(&view));
            if let Ok(key) = Error::or_damaged(read)? {
                each(key)?;
            }
        }
        Ok(())
    }
}

fn repair_of(table: &str, record: &str, done: &str) -> Repair {
    let mut end = record.len().min(RECORD_LEN_MAX);
    while !record.is_char_boundary(end) {
        end -= 1;
    }
    Repair {
        table: table.to_owned(),
        record: record.get(..end).unwrap_or_default().to_owned(),
        done: done.to_owned(),
    }
}

impl Mender<'_, '_> {
    fn note(&mut self, table: &str, record: impl std::fmt::Display, done: &str) {
        let repair = repair_of(table, &record.to_string(), done);
        self.unwritten.push((None, repair));
    }

    fn note_damage(&mut self, damage: &Corruption, done: &str) {
        let done = format!("{}: {done}", damage.why);
        self.note(damage.table, &damage.record, &done);
    }

    /// Notes an entry of an index; the tables may have lost as many as there are keys.
    fn note_index(&mut self, table: &str, record: impl std::fmt::Display, done: &str) {
        self.tx.writing();
        self.index_entries += 1;
        if self.index_entries <= INDEX_ENTRIES_MAX {
            self.note(table, record, done);
        }
    }

    /// Notes how many entries of indexes are not named.
    fn note_more(&mut self) {
        let more = self.index_entries.saturating_sub(INDEX_ENTRIES_MAX);
        if more > 0 {
            self.note("*", format!("{more} more"), "entries of indexes made again");
        }
    }

    /// Writes what is done into the audit trail.
    fn write(&mut self) -> Result<(), Error> {
        let unwritten = std::mem::take(&mut self.unwritten);
        for items in unwritten.chunks(PER_ENTRY) {
            let keys = items.iter().filter_map(|(key, _)| *key).collect();
            let repairs: Vec<Repair> = items.iter().map(|(_, repair)| repair.clone()).collect();
            self.done.extend(repairs.iter().cloned());
            let event = AuditEvent::StoreRepaired { keys, repairs };
            self.tx.audit(self.actor, event)?;
        }
        Ok(())
    }

    /// Walks the audit trail. Its chain cannot be mended: what is broken is said to be.
    fn trail(&mut self) -> Result<Trail, Error> {
        let mut trail = Trail::default();
        let mut acknowledged = BTreeSet::new();
        let mut outside = Vec::new();
        let state = &self.tx.state;
        let (last, hash) = (state.audit_seq, state.audit_hash);
        let mut links = Links::new(state);
        self.kept(&mut trail)?;
        for entry in self.tx.audit.iter().or_store()? {
            let (seq, bytes) = entry.or_store()?;
            let (seq, bytes) = (seq.value(), bytes.value());
            if !links.is_due(seq) {
                outside.push(seq);
                continue;
            }
            trail
                .broken
                .extend(links.missing_before(seq).map(|(seq, _)| seq));
            let Ok(entry) = links.read(self.tx.ring, seq, bytes) else {
                trail.broken.insert(seq);
                continue;
            };
            if let AuditEvent::AuditBroken { entries } = &entry.event {
                acknowledged.extend(entries.iter().copied());
            }
            self.follow(&mut trail, entry)?;
        }
        trail
            .broken
            .extend(links.missing_before(u64::MAX).map(|(seq, _)| seq));
        for seq in outside {
            self.tx.writing();
            self.tx.audit.remove(seq).or_store()?;
            self.note("audit", seq, "it is outside of the trail: removed");
        }
        if !links.last().is_some_and(|last| digests_equal(&last, &hash)) {
            // The next entry is to follow on what the store says was the last.
            self.tx.writing();
            let link = [&[0][..], &hash[..]].concat();
            self.tx.audit.insert(last, link.as_slice()).or_store()?;
            trail.broken.insert(last);
        }
        let fresh: Vec<u64> = trail.broken.difference(&acknowledged).copied().collect();
        for entries in fresh.chunks(POSITIONS_PER_ENTRY) {
            let event = AuditEvent::AuditBroken {
                entries: entries.to_vec(),
            };
            self.tx.audit(self.actor, event)?;
        }
        for seq in fresh {
            let why = "it cannot be read: marked as broken";
            self.done.push(repair_of("audit", &seq.to_string(), why));
        }
        Ok(trail)
    }

    /// Notes what an entry says of keys and owners.
    fn follow(&self, trail: &mut Trail, entry: AuditEntry) -> Result<(), Error> {
        for id in entry.event.keys() {
            let key = self.tx.readable(id)?;
            if key.is_some_and(|key| key.revision < entry.seq) {
                trail.stale.insert(id);
            }
        }
        trail.take(entry);
        Ok(())
    }

    /// Goes through the entries that were trimmed away and kept. One that cannot be read
    /// becomes one that names its keys and no more: that they are revoked, and why, their
    /// own records say.
    fn kept(&mut self, trail: &mut Trail) -> Result<(), Error> {
        let floor = self.tx.state.audit_floor_seq;
        let mut pointed: BTreeMap<u64, Vec<KeyId>> = BTreeMap::new();
        self.tx.each_key(|key| {
            if key.revision <= floor && matches!(key.phase, Phase::Revoked { .. }) {
                pointed.entry(key.revision).or_default().push(key.id);
            }
            Ok(())
        })?;
        let mut table = self.tx.txn.open_table(KEPT).or_store()?;
        let mut wrong = Vec::new();
        for entry in table.iter().or_store()? {
            let seq = entry.or_store()?.0.value();
            let read = Error::or_damaged(read::kept(&table, self.tx.ring, seq))?;
            match read {
                Ok(entry) if seq <= floor => {
                    pointed.remove(&seq);
                    self.follow(trail, entry)?;
                }
                _ => wrong.push(seq),
            }
        }
        for seq in wrong {
            table.remove(seq).or_store()?;
            self.note(
                "kept",
                seq,
                "it cannot be read, or was not trimmed away: removed",
            );
        }
        for (seq, keys) in pointed {
            let body = AuditBody {
                at: self.tx.now,
                actor: None,
                event: AuditEvent::StoreRepaired {
                    keys: keys.into_iter().take(NAMED_MAX).collect(),
                    repairs: Vec::new(),
                },
            };
            let key = seq.to_le_bytes();
            let bytes = tables::seal(self.tx.ring, Tagged::Kept, &key, &body)?;
            table.insert(seq, bytes.as_slice()).or_store()?;
            self.note(
                "kept",
                seq,
                "it was missing: made again, without what it said",
            );
        }
        Ok(())
    }

    /// Writes keyspaces from memory where they are damaged, and their prefixes anew. One
    /// that is not in memory is left: its permissions are nowhere else.
    fn keyspaces(&mut self, known: &[Keyspace]) -> Result<(), Error> {
        for keyspace in known {
            let read = read::keyspace(&self.tx.keyspaces, self.tx.ring, keyspace.id);
            if let Err(damage) = Error::or_damaged(read)? {
                self.tx.put_keyspace(keyspace)?;
                self.note_damage(&damage, "written again from memory");
            }
        }
        let mut numbers = BTreeMap::new();
        for entry in self.tx.keyspaces.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let read = read::keyspace(&self.tx.keyspaces, self.tx.ring, number);
            if let Ok(keyspace) = Error::or_damaged(read)? {
                numbers.insert(keyspace.prefix.as_str().to_owned(), number);
            }
        }
        let next = numbers.values().max().map_or(0, |number| number + 1);
        if self.tx.state.next_keyspace < next {
            self.tx.state.next_keyspace = next;
            self.note(
                "gatekey",
                "state",
                "it would give a keyspace's number again",
            );
        }
        let mut wrong = Vec::new();
        for entry in self.tx.prefixes.iter().or_store()? {
            let (prefix, number) = entry.or_store()?;
            let (prefix, number) = (prefix.value(), number.value());
            match numbers.get(prefix) {
                Some(found) if *found == number => {
                    numbers.remove(prefix);
                }
                // It may be that of a keyspace that cannot be read.
                None if self.tx.keyspaces.get(number).or_store()?.is_some()
                    && Error::or_damaged(self.tx.keyspace_numbered(number))?.is_err() => {}
                _ => wrong.push(prefix.to_owned()),
            }
        }
        for prefix in wrong {
            self.tx.prefixes.remove(prefix.as_str()).or_store()?;
            self.note_index("prefixes", &prefix, "it names another keyspace: removed");
        }
        for (prefix, number) in numbers {
            self.tx
                .prefixes
                .insert(prefix.as_str(), number)
                .or_store()?;
            self.note_index("prefixes", &prefix, "it was missing: made again");
        }
        Ok(())
    }

    /// An owner whose record is damaged, or missing by the audit trail, is suspended.
    fn owners(&mut self, trail: &Trail) -> Result<(), Error> {
        let mut damaged = Vec::new();
        let mut found = BTreeSet::new();
        for entry in self.tx.owners.iter().or_store()? {
            let path = entry.or_store()?.0;
            let path = path.value();
            let read = read::owner(&self.tx.owners, self.tx.ring, path);
            match (Error::or_damaged(read)?, path.parse::<OwnerPath>()) {
                (Ok(_), Ok(owner)) => {
                    found.insert(owner);
                }
                (Err(damage), Ok(owner)) => {
                    found.insert(owner.clone());
                    damaged.push((path.to_owned(), Some(owner), damage.why));
                }
                (_, Err(_)) => damaged.push((path.to_owned(), None, "it is no path".to_owned())),
            }
        }
        for (path, owner, why) in damaged {
            let Some(owner) = owner else {
                self.tx.writing();
                self.tx.owners.remove(path.as_str()).or_store()?;
                self.note("owners", path.escape_debug(), "it is no path: removed");
                continue;
            };
            let said = trail
                .suspensions
                .get(&owner)
                .and_then(|(_, said)| said.clone());
            self.suspend(&owner, said)?;
            self.note("owners", path, &format!("{why}: suspended again"));
        }
        for (owner, (seq, said)) in &trail.suspensions {
            let is_known = trail.broken.range(seq..).next().is_none();
            if said.is_some() && is_known && !found.contains(owner) {
                self.suspend(owner, said.clone())?;
                self.note("owners", owner, "it was missing: suspended again");
            }
        }
        Ok(())
    }

    fn suspend(&mut self, owner: &OwnerPath, said: Option<OwnerRecord>) -> Result<(), Error> {
        let record = said.unwrap_or(OwnerRecord {
            suspended_at: self.tx.now,
            suspended_by: None,
            note: None,
        });
        self.tx.set_owner(owner, Some(&record))
    }

    /// Removes keys that cannot be read, and old copies of records: what came after may
    /// have taken their rights away. Their index entries go with [`Self::indexes`].
    fn keys(&mut self, trail: &Trail) -> Result<(), Error> {
        let mut removed = Vec::new();
        for entry in self.tx.keys.iter().or_store()? {
            let (id, bytes) = entry.or_store()?;
            let id = KeyId::from_raw(id.value());
            let read = View::open(bytes.value(), id, self.tx.ring)
                .and_then(|(view, _)| KeyRecord::from_view(&view));
            match Error::or_damaged(read)? {
                Ok(key) if self.is_stale(&key, trail)? => {
                    let why = "it is older than the audit trail says".to_owned();
                    removed.push((id, why));
                }
                Ok(_) => {}
                Err(damage) => removed.push((id, damage.why)),
            }
        }
        for (id, why) in removed {
            self.tx.forget(id);
            self.tx.remove_hot(id)?;
            self.tx.remove_cold(id)?;
            self.tx.usage.remove(id.raw()).or_store()?;
            let repair = repair_of("keys", &id.to_string(), &format!("{why}: removed"));
            self.unwritten.push((Some(id), repair));
        }
        Ok(())
    }

    fn is_stale(&self, key: &KeyRecord, trail: &Trail) -> Result<bool, Error> {
        if trail.stale.contains(&key.id) {
            return Ok(true);
        }
        if Life::from(key).revoked(self.tx.now).is_some() {
            return Ok(false);
        }
        let mut reached: Vec<u64> = key
            .owner
            .lineage()
            .filter_map(|path| trail.reached_owner.get(path).copied())
            .collect();
        if let Ok(keyspace) = Error::or_damaged(self.tx.keyspace_numbered(key.keyspace))? {
            reached.extend(trail.reached_keyspace.get(&keyspace.prefix));
        }
        Ok(reached.into_iter().any(|seq| key.revision < seq))
    }

    /// Brings keys and owners to agree on suspensions: where one of them says so, both do.
    fn suspensions(&mut self) -> Result<(), Error> {
        let mut unsaid = BTreeSet::new();
        self.tx.each_key(|key| {
            let mask = self.tx.suspended_mask(&key.owner)?;
            if matches!(key.phase, Phase::Revoked { .. }) || key.suspended & !mask == 0 {
                return Ok(());
            }
            for (at, path) in key.owner.lineage().enumerate() {
                if key.suspended & !mask & (1 << at) != 0 {
                    unsaid.insert(path.to_owned());
                }
            }
            Ok(())
        })?;
        for path in unsaid {
            let owner: OwnerPath = path.parse()?;
            self.suspend(&owner, None)?;
            let done = "its keys are suspended with it, and it was missing: suspended again";
            self.note("owners", owner, done);
        }
        let mut unmarked = Vec::new();
        self.tx.each_key(|key| {
            let mask = self.tx.suspended_mask(&key.owner)?;
            if !matches!(key.phase, Phase::Revoked { .. }) && key.suspended != mask {
                unmarked.push((key.id, mask));
            }
            Ok(())
        })?;
        for keys in unmarked.chunks(PER_ENTRY) {
            // Each key's revision names the entry that changed it.
            self.write()?;
            let seq = self.tx.next_seq();
            for (id, suspended) in keys {
                let old = self.tx.find_key(*id)?.ok_or_else(|| {
                    // Its tree is damaged, which no repair of records mends.
                    Error::corrupted("keys", id, "a walk finds it, and a look-up does not")
                })?;
                let new = KeyRecord {
                    suspended: *suspended,
                    revision: seq,
                    ..old.clone()
                };
                self.tx.replace_key(&old, &new)?;
                let done = "it did not agree with its owner's suspension: suspended";
                let repair = repair_of("keys", &id.to_string(), done);
                self.unwritten.push((Some(*id), repair));
            }
            self.write()?;
        }
        Ok(())
    }

    /// Begins cold records anew that are damaged or missing; removes those of no key.
    fn colds(&mut self) -> Result<BTreeSet<KeyId>, Error> {
        let mut rebuilt = BTreeMap::new();
        self.tx.each_key(|key| {
            if let Err(damage) = Error::or_damaged(self.tx.cold(key.id))? {
                rebuilt.insert(key.id, damage.why);
            }
            Ok(())
        })?;
        let mut orphans = Vec::new();
        for entry in self.tx.cold.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            if !self.tx.id_is_taken(id)? {
                orphans.push(id);
            }
        }
        for id in orphans {
            self.tx.writing();
            self.tx.remove_cold(id)?;
            self.note("cold", id, "it belongs to no key: removed");
        }
        for (id, why) in &rebuilt {
            self.tx.put_cold(
                *id,
                &ColdRecord {
                    name: None,
                    description: None,
                    labels: BTreeMap::new(),
                    // Its id says when it was issued.
                    created_at: Timestamp::from_raw(id.unix_ms()),
                    created_by: None,
                    predecessor: None,
                    successor: None,
                    quota: None,
                },
            )?;
            self.note(
                "cold",
                id,
                &format!("{why}: begun anew, without what it said"),
            );
        }
        Ok(rebuilt.into_keys().collect())
    }

    /// Finds the line of keys again whose cold records were rebuilt, and removes links
    /// that are not named back.
    fn lineage(&mut self, rebuilt: &BTreeSet<KeyId>) -> Result<(), Error> {
        let mut found: BTreeMap<KeyId, (Option<KeyId>, Option<KeyId>)> = BTreeMap::new();
        if !rebuilt.is_empty() {
            // In the order of age: the oldest that names a key as its successor was
            // rotated to it, and the youngest that names it as its predecessor counts.
            self.tx.each_key(|key| {
                let cold = self.tx.cold(key.id)?;
                if let Some(next) = cold.successor.filter(|next| rebuilt.contains(next)) {
                    found.entry(next).or_default().0.get_or_insert(key.id);
                }
                if let Some(old) = cold.predecessor.filter(|old| rebuilt.contains(old)) {
                    found.entry(old).or_default().1 = Some(key.id);
                }
                Ok(())
            })?;
        }
        for (id, (predecessor, successor)) in found {
            let cold = ColdRecord {
                predecessor,
                successor,
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
        }
        let mut changed = Vec::new();
        self.tx.each_key(|key| {
            let is_over = Life::from(&key).is_over(self.tx.now);
            let cold = self.tx.cold(key.id)?;
            let is_named = |relative: Option<KeyId>, is_successor| -> Result<bool, Error> {
                let Some(relative) = relative else {
                    return Ok(true);
                };
                // It may be purged.
                let other = Error::or_damaged(self.tx.cold(relative))?;
                Ok(other.map_or(true, |other| {
                    read::is_named_back(key.id, &cold, &other, is_successor, is_over)
                }))
            };
            let keeps = (
                is_named(cold.predecessor, false)?,
                is_named(cold.successor, true)?,
            );
            if keeps != (true, true) {
                changed.push((key.id, keeps));
            }
            Ok(())
        })?;
        for (id, (keeps_predecessor, keeps_successor)) in changed {
            let cold = self.tx.cold(id)?;
            let cold = ColdRecord {
                predecessor: cold.predecessor.filter(|_| keeps_predecessor),
                successor: cold.successor.filter(|_| keeps_successor),
                ..cold
            };
            self.tx.put_cold(id, &cold)?;
            self.note(
                "cold",
                id,
                "a key of its line does not name it back: forgotten",
            );
        }
        Ok(())
    }

    /// Removes usage that cannot be read or is of no key: it is counted anew.
    fn usages(&mut self) -> Result<(), Error> {
        let mut removed = Vec::new();
        for entry in self.tx.usage.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            let read = read::usage(&self.tx.usage, self.tx.ring, id);
            match Error::or_damaged(read)? {
                Ok(_) if self.tx.id_is_taken(id)? => {}
                Ok(_) => removed.push((id, "it belongs to no key".to_owned())),
                Err(damage) => removed.push((id, damage.why)),
            }
        }
        for (id, why) in removed {
            self.tx.writing();
            self.tx.usage.remove(id.raw()).or_store()?;
            self.note("usage", id, &format!("{why}: removed"));
        }
        Ok(())
    }

    /// A quota of which it is not known what is left is used up.
    fn quotas(&mut self) -> Result<(), Error> {
        let mut sharing: BTreeMap<u64, u32> = BTreeMap::new();
        let (mut without, mut unnamed) = (Vec::new(), Vec::new());
        self.tx.each_key(|key| {
            match (key.has_quota, self.tx.cold(key.id)?.quota) {
                (true, Some(number)) => *sharing.entry(number).or_default() += 1,
                (true, None) => without.push(key.id),
                (false, Some(_)) => unnamed.push(key.id),
                (false, None) => {}
            }
            Ok(())
        })?;
        for id in unnamed {
            let cold = ColdRecord {
                quota: None,
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
            self.note("cold", id, "its key has no quota: forgotten");
        }
        for id in without {
            // The number is that of an audit entry which names the key, as always.
            self.write()?;
            let number = self.tx.next_seq();
            self.use_up(number, 1)?;
            let cold = ColdRecord {
                quota: Some(number),
                ..self.tx.cold(id)?
            };
            self.tx.put_cold(id, &cold)?;
            self.note(
                "quotas",
                number,
                &format!("key {id} has lost its own: used up"),
            );
            self.write()?;
            sharing.insert(number, 1);
        }
        let mut all: BTreeSet<u64> = sharing.keys().copied().collect();
        for entry in self.tx.quotas.iter().or_store()? {
            all.insert(entry.or_store()?.0.value());
        }
        for number in all {
            let keys = sharing.get(&number).copied().unwrap_or(0);
            match Error::or_damaged(self.tx.find_quota(number))? {
                _ if keys == 0 => {
                    self.tx.writing();
                    self.tx.remove_quota(number)?;
                    self.note("quotas", number, "no key has it: removed");
                }
                Ok(Some(quota)) if quota.remaining <= quota.quota.requests() => {
                    if quota.keys != keys {
                        self.tx.put_quota(number, &QuotaRecord { keys, ..quota })?;
                        self.note("quotas", number, "its keys are counted anew");
                    }
                }
                Ok(_) => {
                    self.use_up(number, keys)?;
                    self.note("quotas", number, "it was missing: used up");
                }
                Err(damage) => {
                    self.use_up(number, keys)?;
                    self.note("quotas", number, &format!("{}: used up", damage.why));
                }
            }
        }
        Ok(())
    }

    fn use_up(&mut self, number: u64, keys: u32) -> Result<(), Error> {
        let revision = self.tx.next_seq();
        let record = QuotaRecord {
            remaining: 0,
            ..QuotaRecord::new(Quota::new(1), keys, revision, self.tx.now)
        };
        self.tx.put_quota(number, &record)?;
        Ok(())
    }

    /// Counts the keys by state again.
    fn counts(&mut self) -> Result<(), Error> {
        let wrong = self.tx.count_again()?;
        if !wrong.is_empty() {
            self.tx.writing();
        }
        // Where keys were removed, that is why.
        if self.unwritten.is_empty() {
            for keyspace in wrong {
                let done = "its keys are counted again";
                self.note("gatekey", counts::name_of(keyspace), done);
            }
        }
        Ok(())
    }

    /// Counts the keys by pepper again.
    fn digests(&mut self) -> Result<(), Error> {
        let mut counted: BTreeMap<u8, u64> = BTreeMap::new();
        self.tx.each_key(|key| {
            if !matches!(key.phase, Phase::Revoked { .. }) {
                *counted.entry(key.pepper).or_default() += 1;
            }
            Ok(())
        })?;
        let stored: BTreeMap<u8, u64> = self.tx.state.digests.iter().copied().collect();
        let stored = stored.into_iter().filter(|(_, count)| *count > 0);
        if !stored.eq(counted.iter().map(|(pepper, count)| (*pepper, *count))) {
            self.tx.writing();
            self.tx.state.digests = counted.into_iter().collect();
            // Where keys were removed, that is why.
            if self.unwritten.is_empty() {
                self.note("gatekey", "state", "keys by pepper are counted again");
            }
        }
        Ok(())
    }
}

impl Trail {
    fn take(&mut self, entry: AuditEntry) {
        let AuditEntry { seq, at, actor, .. } = entry;
        match entry.event {
            AuditEvent::KeysRevokedUnnamed { scope, .. } => match scope {
                Scope::Owner(owner) => drop(self.reached_owner.insert(owner, seq)),
                Scope::Keyspace(prefix) => drop(self.reached_keyspace.insert(prefix, seq)),
            },
            AuditEvent::OwnerSuspended { owner, note, .. } => {
                let record = OwnerRecord {
                    suspended_at: at,
                    suspended_by: actor,
                    note,
                };
                self.reached_owner.insert(owner.clone(), seq);
                self.suspensions.insert(owner, (seq, Some(record)));
            }
            AuditEvent::OwnerResumed { owner, .. } => {
                self.reached_owner.insert(owner.clone(), seq);
                self.suspensions.insert(owner, (seq, None));
            }
            _ => {}
        }
    }
}
