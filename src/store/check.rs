//! Walking the whole store to find inconsistencies.

mod imports;
mod indexes;
mod keys;
mod owner_settings;
mod trail;
mod usage_history;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use redb::{ReadOnlyTable, ReadableTable, ReadableTableMetadata};

use crate::model::clock::Timestamp;
use crate::model::error::{Conflict, Error};
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::model::owner::OwnerPath;
use crate::store::failure::OrStore;
use crate::store::history::Rows;
use crate::store::mark::{self, Cuts, Mark};
use crate::store::owner_told::Told;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{
    AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, Bytes, COLD, HELD, KEPT, KEYS, KEYSPACES, META,
    META_COPY, OWNERS, PREFIXES, QUOTAS, REQUESTS, REQUESTS_BY_TIME, State,
};
use crate::store::tx::requests;
use crate::store::{extension, read};

/// How many findings a report lists; the rest is counted.
const LISTED_MAX: usize = 1000;

/// How many records one thread hands to the other at once.
const AT_ONCE: usize = 1024;

/// The result of [`Engine::check`](crate::Engine::check).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckReport {
    /// How many keys were looked at.
    pub keys: u64,
    /// How many audit entries were looked at.
    pub audit_entries: u64,
    /// The inconsistencies, the first thousand.
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

    /// Adds a finding.
    pub(crate) fn find(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        }
    }
}

/// An inconsistency in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The table.
    pub table: &'static str,
    /// The key of the record, in readable form.
    pub record: String,
    /// What is wrong with the record.
    pub problem: String,
}

/// The progress of a check: see [`Engine::check_with`](crate::Engine::check_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckProgress {
    /// How many keys and entries of the audit trail were looked at.
    pub records: u64,
    /// How many there are.
    pub records_total: u64,
}

/// Gets the progress; `Break` stops the check.
pub(crate) type OnProgress<'a> = &'a mut dyn FnMut(CheckProgress) -> ControlFlow<()>;

#[cfg(test)]
pub(crate) fn check(snapshot: &Snapshot, now: Timestamp) -> Result<CheckReport, Error> {
    check_with(snapshot, now, &mut |_| ControlFlow::Continue(()))
}

pub(crate) fn check_with(
    snapshot: &Snapshot,
    now: Timestamp,
    on_progress: OnProgress<'_>,
) -> Result<CheckReport, Error> {
    let mut walk = Walk::new(snapshot, now, on_progress)?;
    walk.advance(0)?;
    walk.copy()?;
    walk.audit()?;
    walk.keyspaces()?;
    walk.owners()?;
    walk.owner_settings()?;
    walk.keys()?;
    walk.indexes()?;
    walk.imports()?;
    walk.quotas()?;
    walk.requests()?;
    walk.usage_history()?;
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
    held: ReadOnlyTable<Bytes, (u64, u64)>,
    by_keyspace: ReadOnlyTable<(u32, u64), ()>,
    by_end: ReadOnlyTable<(u64, u64), ()>,
    by_turn: ReadOnlyTable<(u64, u64), ()>,
    known: BTreeMap<u32, Keyspace>,
    /// The last audit entry that suspended or resumed all keys of an owner.
    reached_owner: BTreeMap<OwnerPath, u64>,
    /// The last that revoked all keys of an owner or a keyspace, and when.
    revoked_owner: BTreeMap<OwnerPath, (u64, Timestamp)>,
    revoked_keyspace: BTreeMap<Prefix, (u64, Timestamp)>,
    /// Whether an owner is suspended, by the audit trail, and since which entry.
    suspended: BTreeMap<OwnerPath, (bool, u64)>,
    settings_told: Told,
    /// Entries of the trail that are missing or do not follow, and why. Nothing can be
    /// checked against them.
    broken: BTreeMap<u64, String>,
    /// The last audit entry about each keyspace.
    keyspace_revisions: BTreeMap<Prefix, u64>,
    /// How many keys and owners name each quota.
    sharing: BTreeMap<u64, u32>,
    rows: Rows,
    imported: imports::Imported,
    seen: indexes::Seen,
    report: CheckReport,
    progress: CheckProgress,
    on_progress: OnProgress<'a>,
}

impl<'a> Walk<'a> {
    fn new(
        snapshot: &'a Snapshot,
        now: Timestamp,
        on_progress: OnProgress<'a>,
    ) -> Result<Self, Error> {
        let (keys, audit) = (snapshot.table(KEYS)?, snapshot.table(AUDIT)?);
        Ok(Self {
            now,
            state: snapshot.state()?,
            progress: CheckProgress {
                records: 0,
                records_total: keys.len().or_store()? + audit.len().or_store()?,
            },
            on_progress,
            keys,
            cold: snapshot.table(COLD)?,
            audit,
            kept: snapshot.table(KEPT)?,
            owners: snapshot.table(OWNERS)?,
            by_owner: snapshot.table(BY_OWNER)?,
            held: snapshot.table(HELD)?,
            by_keyspace: snapshot.table(BY_KEYSPACE)?,
            by_end: snapshot.table(BY_END)?,
            by_turn: snapshot.table(BY_TURN)?,
            rows: Rows::new(snapshot)?,
            imported: imports::Imported::new(snapshot)?,
            snapshot,
            known: BTreeMap::new(),
            reached_owner: BTreeMap::new(),
            revoked_owner: BTreeMap::new(),
            revoked_keyspace: BTreeMap::new(),
            suspended: BTreeMap::new(),
            settings_told: Told::default(),
            broken: BTreeMap::new(),
            keyspace_revisions: BTreeMap::new(),
            sharing: BTreeMap::new(),
            seen: indexes::Seen::default(),
            report: CheckReport::default(),
        })
    }

    fn find(
        &mut self,
        table: &'static str,
        record: impl std::fmt::Display,
        problem: impl Into<String>,
    ) {
        self.report.find(Finding {
            table,
            record: record.to_string(),
            problem: problem.into(),
        });
    }

    /// Tells that so many more keys or entries were looked at.
    fn advance(&mut self, records: usize) -> Result<(), Error> {
        // Where a table does not have as many records as it says, it is a finding.
        let records = self.progress.records.saturating_add(records as u64);
        self.progress.records = records.min(self.progress.records_total);
        match (self.on_progress)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Conflict::CheckStopped.into()),
        }
    }

    /// Records a corrupt record as a finding, and returns other errors.
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

    /// Compares an unchanged copy with its mark.
    fn copy(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let mark = mark::read(&snapshot.table(META)?, snapshot.ring(), &self.state);
        let Some(mark) = self.sound(mark)?.flatten() else {
            return Ok(());
        };
        let state = self.state.clone();
        let found = Mark::of(snapshot.txn(), &state, &Cuts::default(), |_| {
            self.advance(0)
        })?;
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
                // The entry may have been trimmed, or may be one that cannot be read.
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

    /// Whether an entry after another cannot be read.
    fn is_broken_after(&self, seq: u64) -> bool {
        self.broken.range(seq..).next().is_some()
    }

    fn quotas(&mut self) -> Result<(), Error> {
        let quotas = self.snapshot.table(QUOTAS)?;
        let mut sharing = std::mem::take(&mut self.sharing);
        for entry in quotas.iter().or_store()? {
            let number = entry.or_store()?.0.value();
            let read = read::quota(&quotas, self.snapshot.ring(), number);
            let named = sharing.remove(&number).unwrap_or(0);
            if let Some(quota) = self.sound(read)?
                && (quota.keys != named || !quota.adds_up())
            {
                let problem = format!(
                    "{named} keys and owners name it, and it says {}; {} of {} are left, \
                     and {} are owed",
                    quota.keys, quota.remaining, quota.quota, quota.owed
                );
                self.find("quotas", number, problem);
            }
        }
        for number in sharing.into_keys() {
            self.find(
                "quotas",
                number,
                "keys or owners name it, and it is missing",
            );
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
}
