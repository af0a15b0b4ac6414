//! Walking the whole store, to find what does not agree.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadOnlyTable, ReadableTable, ReadableTableMetadata};

use crate::model::audit::{AuditEntry, AuditEvent, Scope};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::store::counts::{self, Counted};
use crate::store::extension;
use crate::store::failure::OrStore;
use crate::store::history::Rows;
use crate::store::life::Life;
use crate::store::mark::{self, Mark};
use crate::store::read;
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::snapshot::Snapshot;
use crate::store::tables::{
    self, AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, Bytes, COLD, HELD, KEPT, KEYS, KEYSPACES,
    META, META_COPY, OVER, OWNERS, PREFIXES, QUOTAS, REQUESTS, REQUESTS_BY_TIME, State, USAGE,
};
use crate::store::tx::requests;

/// How many findings a report lists; the rest is counted.
const LISTED_MAX: usize = 1000;

/// What a walk of the whole store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckReport {
    /// How many keys were looked at.
    pub keys: u64,
    /// How many audit entries were looked at.
    pub audit_entries: u64,
    /// What does not agree, the first thousand.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub findings_total: u64,
}

impl CheckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings_total == 0
    }
}

/// Something in the store that does not agree with the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The table.
    pub table: &'static str,
    /// The key of the record, in a readable form.
    pub record: String,
    /// What does not agree.
    pub problem: String,
}

pub(crate) fn check(snapshot: &Snapshot, now: Timestamp) -> Result<CheckReport, Error> {
    let mut walk = Walk::new(snapshot, now)?;
    walk.copy()?;
    walk.audit()?;
    walk.keyspaces()?;
    walk.owners()?;
    walk.keys()?;
    walk.indexes()?;
    walk.quotas()?;
    walk.requests()?;
    extension::check(snapshot.txn(), snapshot.ring(), |looked| {
        walk.sound(looked).map(drop)
    })?;
    walk.single_active()?;
    Ok(walk.report)
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    state: State,
    keys: ReadOnlyTable<u64, Bytes>,
    cold: ReadOnlyTable<u64, Bytes>,
    audit: ReadOnlyTable<u64, Bytes>,
    kept: ReadOnlyTable<u64, Bytes>,
    owners: ReadOnlyTable<&'static str, Bytes>,
    by_owner: ReadOnlyTable<Bytes, u8>,
    by_keyspace: ReadOnlyTable<(u32, u64), ()>,
    by_end: ReadOnlyTable<(u64, u64), ()>,
    by_turn: ReadOnlyTable<(u64, u64), ()>,
    known: BTreeMap<u32, Keyspace>,
    /// The last audit entry that reached for all keys of an owner or keyspace.
    reached_owner: BTreeMap<OwnerPath, u64>,
    reached_keyspace: BTreeMap<Prefix, u64>,
    /// Whether an owner is suspended, by the audit trail, and since which entry.
    suspended: BTreeMap<OwnerPath, (bool, u64)>,
    /// Entries of the trail that are missing or do not follow, and why; what they said
    /// cannot be asked for.
    broken: BTreeMap<u64, String>,
    /// The last audit entry about each keyspace.
    keyspace_revisions: BTreeMap<Prefix, u64>,
    /// How many keys name each quota.
    sharing: BTreeMap<u64, u32>,
    rows: Rows,
    report: CheckReport,
}

impl<'a> Walk<'a> {
    fn new(snapshot: &'a Snapshot, now: Timestamp) -> Result<Self, Error> {
        Ok(Self {
            now,
            state: snapshot.state()?,
            keys: snapshot.table(KEYS)?,
            cold: snapshot.table(COLD)?,
            audit: snapshot.table(AUDIT)?,
            kept: snapshot.table(KEPT)?,
            owners: snapshot.table(OWNERS)?,
            by_owner: snapshot.table(BY_OWNER)?,
            by_keyspace: snapshot.table(BY_KEYSPACE)?,
            by_end: snapshot.table(BY_END)?,
            by_turn: snapshot.table(BY_TURN)?,
            rows: Rows::new(snapshot)?,
            snapshot,
            known: BTreeMap::new(),
            reached_owner: BTreeMap::new(),
            reached_keyspace: BTreeMap::new(),
            suspended: BTreeMap::new(),
            broken: BTreeMap::new(),
            keyspace_revisions: BTreeMap::new(),
            sharing: BTreeMap::new(),
            report: CheckReport::default(),
        })
    }

    fn find(
        &mut self,
        table: &'static str,
        record: impl std::fmt::Display,
        problem: impl Into<String>,
    ) {
        self.report.findings_total += 1;
        if self.report.findings.len() < LISTED_MAX {
            self.report.findings.push(Finding {
                table,
                record: record.to_string(),
                problem: problem.into(),
            });
        }
    }

    /// Takes a corrupt record down as a finding, and passes other errors on.
    fn sound<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupted(corruption)) => {
                self.find(corruption.table, corruption.record, corruption.why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A copy to which nothing was done is what was copied.
    fn copy(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let mark = mark::read(&snapshot.table(META)?, snapshot.ring(), &self.state);
        let Some(mark) = self.sound(mark)?.flatten() else {
            return Ok(());
        };
        let found = Mark::of(snapshot.txn(), &self.state, || Ok(()))?;
        if let Some(why) = mark.difference(&found) {
            self.find("gatekey", META_COPY, mark::not_whole(&why));
        }
        Ok(())
    }

    fn keyspaces(&mut self) -> Result<(), Error> {
        let keyspaces = self.snapshot.table(KEYSPACES)?;
        let prefixes = self.snapshot.table(PREFIXES)?;
        for entry in keyspaces.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let read = read::keyspace(&keyspaces, self.snapshot.ring(), number);
            let Some(keyspace) = self.sound(read)? else {
                continue;
            };
            let named = ReadableTable::get(&prefixes, keyspace.prefix.as_str())
                .or_store()?
                .map(|named| named.value());
            if named != Some(number) || keyspace.id != number {
                self.find("keyspaces", number, "its prefix does not name it");
            }
            let told = self.keyspace_revisions.remove(&keyspace.prefix);
            let is_untold = told.is_none() && keyspace.revision <= self.state.audit_floor_seq;
            let is_broken = self.broken.contains_key(&keyspace.revision);
            if told != Some(keyspace.revision) && !is_untold && !is_broken {
                self.find("keyspaces", number, "it is not as the audit trail left it");
            }
            if number >= self.state.next_keyspace {
                self.find("keyspaces", number, "its number is yet to be given");
            }
            self.known.insert(number, keyspace);
        }
        for prefix in std::mem::take(&mut self.keyspace_revisions).into_keys() {
            self.find("keyspaces", prefix, "it is missing");
        }
        if prefixes.len().or_store()? != keyspaces.len().or_store()? {
            self.find("prefixes", "*", "there are not as many as keyspaces");
        }
        Ok(())
    }

    fn owners(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let owners = snapshot.table(OWNERS)?;
        for entry in owners.iter().or_store()? {
            let path = entry.or_store()?.0;
            let read = read::owner(&owners, snapshot.ring(), path.value());
            self.sound(read)?;
            let is_trimmed = self.state.audit_floor_seq > 0;
            match path.value().parse::<OwnerPath>() {
                // What is left of the trail need not tell of it, and what cannot be read
                // of it may have.
                Ok(owner) => match self.suspended.remove(&owner) {
                    Some((true, _)) => {}
                    None if is_trimmed => {}
                    found if self.is_broken_after(found.map_or(0, |(_, seq)| seq)) => {}
                    _ => self.find("owners", path.value(), "the audit trail has it resumed"),
                },
                Err(_) => self.find("owners", path.value(), "it is not a path"),
            }
        }
        for (owner, (suspended, seq)) in std::mem::take(&mut self.suspended) {
            if suspended && !self.is_broken_after(seq) {
                self.find("owners", owner, "the audit trail has it suspended");
            }
        }
        Ok(())
    }

    /// Whether an entry behind another cannot be read.
    fn is_broken_after(&self, seq: u64) -> bool {
        self.broken.range(seq..).next().is_some()
    }

    fn audit(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let table = snapshot.table(AUDIT)?;
        self.kept()?;
        let mut acknowledged = BTreeSet::new();
        let mut links = read::Links::new(&self.state);
        for entry in table.iter().or_store()? {
            let (seq, bytes) = entry.or_store()?;
            let (seq, bytes) = (seq.value(), bytes.value());
            if !links.is_due(seq) {
                self.find("audit", seq, "it is outside of the trail");
                continue;
            }
            self.broken.extend(links.missing_before(seq));
            let entry = match links.read(snapshot.ring(), seq, bytes) {
                Ok(entry) => entry,
                Err(why) => {
                    self.broken.insert(seq, why);
                    continue;
                }
            };
            self.report.audit_entries += 1;
            if let AuditEvent::AuditBroken { entries } = &entry.event {
                acknowledged.extend(entries.iter().copied());
            }
            self.follow(&entry);
            if !self.rows.has(&entry)? {
                self.find(
                    "by_key",
                    seq,
                    "an entry of the trail has not all of its rows",
                );
            }
        }
        self.broken.extend(links.missing_before(u64::MAX));
        // Of an entry that cannot be read, nobody knows which rows it had.
        let damage = self.rows.damage();
        let is_known = damage.is_none();
        if let Some(damage) = damage {
            self.find(damage.table, damage.record, damage.why);
        }
        match self.rows.surplus()? {
            rows if is_known && rows > 0 && self.broken.is_empty() => {
                self.find("by_key", "*", format!("{rows} rows are of no entry"));
            }
            _ => {}
        }
        if links.last() != Some(self.state.audit_hash) {
            self.find(
                "audit",
                self.state.audit_seq,
                "the trail does not end where the store says",
            );
        }
        for (seq, why) in self.broken.clone() {
            if !acknowledged.contains(&seq) {
                self.find("audit", seq, why);
            }
        }
        Ok(())
    }

    /// The entries that were trimmed away and kept: they tell of revocations, as those
    /// of the trail do.
    fn kept(&mut self) -> Result<(), Error> {
        let kept = self.snapshot.table(KEPT)?;
        for entry in kept.iter().or_store()? {
            let seq = entry.or_store()?.0.value();
            if seq > self.state.audit_floor_seq {
                self.find("kept", seq, "it was not trimmed away");
            }
            let read = read::kept(&kept, self.snapshot.ring(), seq);
            if let Some(entry) = self.sound(read)? {
                self.follow(&entry);
            }
        }
        Ok(())
    }

    /// Takes down what an audit entry tells of the records.
    fn follow(&mut self, entry: &AuditEntry) {
        let seq = entry.seq;
        match &entry.event {
            AuditEvent::KeysRevokedUnnamed { scope, .. } => match scope {
                Scope::Owner(owner) => {
                    self.reached_owner.insert(owner.clone(), seq);
                }
                Scope::Keyspace(prefix) => {
                    self.reached_keyspace.insert(*prefix, seq);
                }
            },
            AuditEvent::OwnerSuspended { owner, .. } | AuditEvent::OwnerResumed { owner, .. } => {
                let suspended = matches!(entry.event, AuditEvent::OwnerSuspended { .. });
                self.suspended.insert(owner.clone(), (suspended, seq));
                self.reached_owner.insert(owner.clone(), seq);
            }
            AuditEvent::KeyspaceCreated { keyspace }
            | AuditEvent::KeyspaceUpdated { keyspace, .. } => {
                self.keyspace_revisions.insert(*keyspace, seq);
            }
            _ => {}
        }
        for id in entry.event.keys() {
            let read = read::key(&self.keys, self.snapshot.ring(), id);
            // A record that is corrupt is found when the keys are walked.
            if let Ok(Some(key)) = read
                && key.revision < seq
            {
                self.find("keys", id, format!("it is older than audit entry {seq}"));
            }
        }
    }

    fn keys(&mut self) -> Result<(), Error> {
        let mut digests: BTreeMap<u8, u64> = BTreeMap::new();
        let mut counted: BTreeMap<u32, Counted> = BTreeMap::new();
        let keys = self.snapshot.table(KEYS)?;
        for entry in keys.iter().or_store()? {
            let (id, bytes) = entry.or_store()?;
            let id = KeyId::from_raw(id.value());
            self.report.keys += 1;
            let read = View::open(bytes.value(), id, self.snapshot.ring())
                .and_then(|(view, _)| KeyRecord::from_view(&view));
            if let Some(key) = self.sound(read)? {
                if !matches!(key.phase, Phase::Revoked { .. }) {
                    *digests.entry(key.pepper).or_default() += 1;
                }
                let reach = self.state.reach;
                let counted = counted.entry(key.keyspace).or_default();
                counted.count(&key, reach.instant_of(id), 1);
                self.key(&key)?;
            }
        }
        self.counts(counted)?;
        let mut counted: Vec<(u8, u64)> = digests.into_iter().collect();
        let mut stored: Vec<(u8, u64)> = self.state.digests.clone();
        stored.retain(|(_, count)| *count > 0);
        stored.sort_unstable();
        counted.sort_unstable();
        if stored != counted {
            self.find(
                "gatekey",
                "state",
                format!("keys by pepper are {counted:?}, it says {stored:?}"),
            );
        }
        Ok(())
    }

    /// The counts of keys by state, beside what was counted now.
    fn counts(&mut self, mut counted: BTreeMap<u32, Counted>) -> Result<(), Error> {
        let meta = self.snapshot.table(META)?;
        for number in self.known.keys() {
            counted.entry(*number).or_default();
        }
        for (number, counted) in counted {
            let kept = self.sound(counts::stored(&meta, self.snapshot.ring(), number))?;
            if let Some(kept) = kept.filter(|kept| *kept != counted) {
                let record = counts::name_of(number);
                let problem = format!("the keys are {counted:?}, it says {kept:?}");
                self.find("gatekey", record, problem);
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &KeyRecord) -> Result<(), Error> {
        let id = key.id;
        let ring = self.snapshot.ring();
        let is_revoked = matches!(key.phase, Phase::Revoked { .. });

        let index = tables::owner_index_key(&key.owner, key.keyspace, id);
        let standing = ReadableTable::get(&self.by_owner, index.as_slice())
            .or_store()?
            .map(|standing| standing.value());
        match standing {
            Some(OVER) if !Life::from(key).is_over(self.now) => {
                self.find("by_owner", id, "it says that a good key is over");
            }
            Some(HELD | OVER) => {}
            _ => self.find("by_owner", id, "it does not name the key"),
        }
        if ReadableTable::get(&self.by_keyspace, (key.keyspace, id.raw()))
            .or_store()?
            .is_none()
        {
            self.find("by_keyspace", id, "it does not name the key");
        }
        if let Some(end) = key.ends_at()
            && ReadableTable::get(&self.by_end, (end.unix_ms(), id.raw()))
                .or_store()?
                .is_none()
        {
            self.find("by_end", id, "it does not name the key");
        }
        for row in counts::turn_rows(key) {
            if ReadableTable::get(&self.by_turn, row).or_store()?.is_none() {
                self.find("by_turn", id, "it does not name the key");
            }
        }

        if !is_revoked {
            let mask = read::suspended_mask(&self.owners, ring, &key.owner);
            if let Some(mask) = self.sound(mask)?
                && mask != key.suspended
            {
                self.find("keys", id, "it does not agree with its owner's suspension");
            }
        }
        self.cold(key)?;
        self.revision(key, is_revoked)
    }

    fn cold(&mut self, key: &KeyRecord) -> Result<(), Error> {
        let ring = self.snapshot.ring();
        let read = read::cold(&self.cold, ring, key.id);
        let Some(cold) = self.sound(read)? else {
            return Ok(());
        };
        if key.has_quota != cold.quota.is_some() {
            self.find("cold", key.id, "it does not agree with its key on a quota");
        }
        if let Some(number) = cold.quota {
            *self.sharing.entry(number).or_insert(0) += 1;
        }
        let is_over = Life::from(key).is_over(self.now);
        for (relative, is_successor) in [(cold.successor, true), (cold.predecessor, false)] {
            let Some(relative) = relative else { continue };
            // It may be purged, or corrupt and found by itself.
            if let Ok(other) = read::cold(&self.cold, ring, relative)
                && !read::is_named_back(key.id, &cold, &other, is_successor, is_over)
            {
                self.find(
                    "cold",
                    key.id,
                    format!("key {relative} does not name it back"),
                );
            }
        }
        Ok(())
    }

    /// Whether the record is as new as the audit trail says: an old copy of a
    /// record has a right tag, but an old revision.
    fn revision(&mut self, key: &KeyRecord, is_revoked: bool) -> Result<(), Error> {
        let ring = self.snapshot.ring();
        let Some(keyspace) = self.known.get(&key.keyspace) else {
            self.find("keys", key.id, "its keyspace does not exist");
            return Ok(());
        };
        let plan_is_known = key.plan == 0 || keyspace.plan_numbered(key.plan).is_some();
        let reached = key
            .owner
            .lineage()
            .filter_map(|path| self.reached_owner.get(path))
            .chain(self.reached_keyspace.get(&keyspace.prefix))
            .max()
            .copied();
        if !plan_is_known {
            self.find("keys", key.id, "its plan does not exist");
        }
        let is_revoked = is_revoked || Life::from(key).revoked(self.now).is_some();
        if let Some(seq) = reached
            && key.revision < seq
            && !is_revoked
        {
            self.find(
                "keys",
                key.id,
                format!("it is older than audit entry {seq}"),
            );
        }
        if self.broken.contains_key(&key.revision) {
            // What that entry said cannot be asked for.
            return Ok(());
        }
        let entry = match key.revision > self.state.audit_floor_seq {
            true => read::audit_entry(&self.audit, ring, &self.state, key.revision),
            false if matches!(key.phase, Phase::Revoked { .. }) => {
                read::kept(&self.kept, ring, key.revision)
            }
            // The entry that tells of it was trimmed away.
            false => return Ok(()),
        };
        let Some(entry) = self.sound(entry)? else {
            return Ok(());
        };
        let concerns = match &entry.event {
            AuditEvent::KeysRevokedUnnamed {
                scope: Scope::Keyspace(prefix),
                ..
            } => self
                .known
                .get(&key.keyspace)
                .is_some_and(|k| k.prefix == *prefix),
            AuditEvent::KeysRevokedUnnamed {
                scope: Scope::Owner(owner),
                ..
            }
            | AuditEvent::OwnerSuspended { owner, .. }
            | AuditEvent::OwnerResumed { owner, .. } => owner.covers(&key.owner),
            named => named.keys().contains(&key.id),
        };
        if !concerns {
            self.find(
                "keys",
                key.id,
                format!("its revision {} is another key's audit entry", key.revision),
            );
        }
        Ok(())
    }

    /// Each key has its entries, or was found not to: what is left to look for
    /// are entries without a key.
    fn indexes(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        for entry in snapshot.table(COLD)?.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            self.must_exist("cold", id)?;
        }
        let usages = snapshot.table(USAGE)?;
        for entry in usages.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            self.must_exist("usage", id)?;
            let usage = read::usage(&usages, snapshot.ring(), id);
            self.sound(usage)?;
        }
        for entry in snapshot.table(BY_OWNER)?.iter().or_store()? {
            let (index, _) = entry.or_store()?;
            let found = match tables::owner_index_parts(index.value()) {
                Some((_, number, id)) => read::key(&self.keys, snapshot.ring(), id)
                    .ok()
                    .flatten()
                    .is_some_and(|key| {
                        tables::owner_index_key(&key.owner, number, id) == index.value()
                            && key.keyspace == number
                    }),
                None => false,
            };
            if !found {
                self.find(
                    "by_owner",
                    index.value().escape_ascii(),
                    "it names no key of that owner",
                );
            }
        }
        for entry in snapshot.table(BY_KEYSPACE)?.iter().or_store()? {
            let (number, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.is_none_or(|key| key.keyspace != number) {
                self.find("by_keyspace", id, "it names no key of that keyspace");
            }
        }
        for entry in snapshot.table(BY_END)?.iter().or_store()? {
            let (end, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.and_then(|key| key.ends_at()).map(Timestamp::unix_ms) != Some(end) {
                self.find("by_end", id, "it names no key that ends then");
            }
        }
        for entry in snapshot.table(BY_TURN)?.iter().or_store()? {
            let row = entry.or_store()?.0.value();
            let id = KeyId::from_raw(row.1);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if !key.is_some_and(|key| counts::turn_rows(&key).any(|of_key| of_key == row)) {
                self.find("by_turn", id, "it names no key whose state changes then");
            }
        }
        Ok(())
    }

    fn quotas(&mut self) -> Result<(), Error> {
        let quotas = self.snapshot.table(QUOTAS)?;
        let mut sharing = std::mem::take(&mut self.sharing);
        for entry in quotas.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let read = read::quota(&quotas, self.snapshot.ring(), number);
            let named = sharing.remove(&number).unwrap_or(0);
            if let Some(quota) = self.sound(read)?
                && (quota.keys != named || quota.remaining > quota.quota.requests())
            {
                let problem = format!(
                    "{named} keys name it, and it says {}; {} of {} are left",
                    quota.keys, quota.remaining, quota.quota
                );
                self.find("quotas", number, problem);
            }
        }
        for number in sharing.into_keys() {
            self.find("quotas", number, "keys name it, and it is missing");
        }
        Ok(())
    }

    /// Requests under idempotency keys: each part can be read and is in its place, and the
    /// index by time names each once. Keys that they name may be purged.
    fn requests(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let requests = snapshot.table(REQUESTS)?;
        let by_time = snapshot.table(REQUESTS_BY_TIME)?;
        let mut named = 0;
        for entry in requests.iter().or_store()? {
            let place = entry.or_store()?.0;
            let (name, number) = place.value();
            let read = requests::read_part(&requests, snapshot.ring(), name, number);
            let Some(Some(part)) = self.sound(read)? else {
                continue;
            };
            let indexed = ReadableTable::get(&by_time, (part.at.unix_ms(), name))
                .or_store()?
                .map(|parts| parts.value());
            let is_last = number + 1 == part.parts;
            let follows = is_last
                || ReadableTable::get(&requests, (name, number + 1))
                    .or_store()?
                    .is_some();
            if indexed != Some(part.parts) || number >= part.parts || !follows {
                let record = requests::shown(name, number);
                self.find("requests", record, "its parts and the index do not agree");
            }
            named += u64::from(number == 0);
        }
        if by_time.len().or_store()? != named {
            self.find("requests_by_time", "*", "there are not as many as requests");
        }
        Ok(())
    }

    fn must_exist(&mut self, table: &'static str, id: KeyId) -> Result<(), Error> {
        if ReadableTable::get(&self.keys, id.raw())
            .or_store()?
            .is_none()
        {
            self.find(table, id, "it belongs to no key");
        }
        Ok(())
    }

    fn single_active(&mut self) -> Result<(), Error> {
        let mut crowded = Vec::new();
        let walked = read::each_crowded_owner(
            &self.by_owner,
            &self.keys,
            self.snapshot.ring(),
            self.now,
            |number| {
                self.known
                    .get(&number)
                    .is_some_and(|keyspace| keyspace.keys_per_owner.is_single())
            },
            |owner| crowded.push(owner),
            |_| {},
        );
        self.sound(walked)?;
        for owner in crowded {
            self.find(
                "by_owner",
                owner,
                "it holds several keys in a single-active keyspace",
            );
        }
        Ok(())
    }
}
