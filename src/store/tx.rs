//! A write transaction: the verbs of [`crate::change`] read and write through
//! it. It keeps the indexes in step with the records, appends to the audit
//! trail, and notes its delta, which the engine publishes.

mod counts;
mod repair;
pub(crate) mod requests;
mod set_back;
pub(crate) mod uses;

use std::cell::{Cell, RefCell};

use redb::{AccessGuard, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use crate::crypto::digest::Keyring;
use crate::model::audit::{AuditBody, AuditEvent};
use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{ColdRecord, Key, Revoked};
use crate::model::keyspace::Keyspace;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::model::quota::{Quota, QuotaStatus};
use crate::store::delta::{Delta, tag_of};
use crate::store::failure::OrStore;
use crate::store::life::Life;
use crate::store::quota::{QuotaEvent, QuotaRecord};
use crate::store::read;
use crate::store::record::{KeyRecord, Phase};
use crate::store::tables::{
    self, AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, Bytes, COLD, HELD, KEYS, KEYSPACES, META,
    META_STATE, OVER, OWNERS, OwnerRecord, PREFIXES, QUOTAS, State, Tagged, USAGE,
};

/// The keys that an owner has in a keyspace and that are not known to be over.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) good: Vec<KeyRecord>,
    /// Those that time has ended: expired, or out of grace.
    pub(crate) lapsed: Vec<KeyRecord>,
    /// Those whose record is damaged or missing. They are not counted: the file grants
    /// them to nobody, and whoever issues or rotates has the copy in memory forgotten.
    pub(crate) damaged: Vec<KeyId>,
}

pub(crate) struct Tx<'t> {
    pub(super) txn: &'t WriteTransaction,
    pub(super) ring: &'t Keyring,
    now: Timestamp,
    keys: Table<'t, u64, Bytes>,
    cold: Table<'t, u64, Bytes>,
    keyspaces: Table<'t, u32, Bytes>,
    prefixes: Table<'t, &'static str, u32>,
    owners: Table<'t, &'static str, Bytes>,
    by_owner: Table<'t, Bytes, u8>,
    by_keyspace: Table<'t, (u32, u64), ()>,
    by_end: Table<'t, (u64, u64), ()>,
    by_turn: Table<'t, (u64, u64), ()>,
    pub(super) audit: Table<'t, u64, Bytes>,
    usage: Table<'t, u64, Bytes>,
    quotas: Table<'t, u64, Bytes>,
    meta: Table<'t, &'static str, Bytes>,
    pub(super) state: State,
    kept: counts::Kept,
    pub(super) delta: Delta,
    /// Whether the mutation that runs has written yet.
    wrote: bool,
    wrote_ever: bool,
    /// The latest instant at which a caller is told that a key is over which time
    /// has ended.
    told_over: Cell<Timestamp>,
    /// Keys that were asked for, and whose record is damaged or missing.
    unreadable: RefCell<Vec<KeyId>>,
}

impl<'t> Tx<'t> {
    pub(crate) fn open(
        txn: &'t WriteTransaction,
        ring: &'t Keyring,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let meta = txn.open_table(META).or_store()?;
        let state = read::state(&meta, ring)?;
        let now = now.max(state.clock);
        Ok(Self {
            txn,
            ring,
            now,
            keys: txn.open_table(KEYS).or_store()?,
            cold: txn.open_table(COLD).or_store()?,
            keyspaces: txn.open_table(KEYSPACES).or_store()?,
            prefixes: txn.open_table(PREFIXES).or_store()?,
            owners: txn.open_table(OWNERS).or_store()?,
            by_owner: txn.open_table(BY_OWNER).or_store()?,
            by_keyspace: txn.open_table(BY_KEYSPACE).or_store()?,
            by_end: txn.open_table(BY_END).or_store()?,
            by_turn: txn.open_table(BY_TURN).or_store()?,
            audit: txn.open_table(AUDIT).or_store()?,
            usage: txn.open_table(USAGE).or_store()?,
            quotas: txn.open_table(QUOTAS).or_store()?,
            meta,
            state,
            kept: counts::Kept::default(),
            delta: Delta {
                at: now,
                ..Delta::nothing(0)
            },
            wrote: false,
            wrote_ever: false,
            told_over: Cell::new(Timestamp::MIN),
            unreadable: RefCell::new(Vec::new()),
        })
    }

    pub(super) fn meta(&self) -> &Table<'t, &'static str, Bytes> {
        &self.meta
    }

    pub(super) fn put_meta(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), Error> {
        self.meta.insert(name, bytes).or_store()?;
        Ok(())
    }

    pub(super) fn open_by_key(&self) -> Result<Table<'t, (u64, u64), ()>, Error> {
        self.txn.open_table(tables::BY_KEY).or_store()
    }

    /// Marks the beginning of a mutation. A mutation validates first and writes
    /// after, so that one that is refused leaves no trace;
    /// [`wrote`](Self::wrote) tells whether it kept to that.
    pub(crate) fn begin_mutation(&mut self) {
        self.wrote = false;
    }

    pub(crate) fn wrote(&self) -> bool {
        self.wrote
    }

    pub(super) fn writing(&mut self) {
        self.wrote = true;
        self.wrote_ever = true;
    }

    /// Writes the state and gives the delta, or `None` where nothing was
    /// written and nothing need be committed.
    pub(crate) fn finish(mut self) -> Result<Option<Delta>, Error> {
        if !self.wrote_ever {
            return Ok(None);
        }
        self.write_counts()?;
        self.state.clock = self.now;
        self.state.commits += 1;
        self.delta.commits = self.state.commits;
        self.delta.settle();
        let bytes = tables::seal(self.ring, Tagged::State, META_STATE.as_bytes(), &self.state)?;
        self.meta.insert(META_STATE, bytes.as_slice()).or_store()?;
        Ok(Some(self.delta))
    }

    /// The present, the same for the whole transaction.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Notes that a caller is told that a key is over, so that time must not run
    /// behind the present, also where nothing is committed.
    pub(crate) fn tell_over(&self) {
        self.told_over.set(self.told_over.get().max(self.now));
    }

    /// The latest instant at which that was told.
    pub(crate) fn told_over(&self) -> Timestamp {
        self.told_over.get()
    }

    pub(crate) fn ring(&self) -> &'t Keyring {
        self.ring
    }

    // Keyspaces

    pub(crate) fn keyspace_count(&self) -> Result<u64, Error> {
        self.keyspaces.len().or_store()
    }

    pub(crate) fn find_keyspace(&self, prefix: Prefix) -> Result<Option<Keyspace>, Error> {
        let number = match self.prefixes.get(prefix.as_str()).or_store()? {
            Some(number) => number.value(),
            None => return Ok(None),
        };
        let keyspace = self.keyspace_numbered(number)?;
        if keyspace.prefix != prefix {
            return Err(Error::corrupted(
                "prefixes",
                prefix,
                "it names another keyspace",
            ));
        }
        Ok(Some(keyspace))
    }

    pub(crate) fn keyspace(&self, prefix: Prefix) -> Result<Keyspace, Error> {
        self.find_keyspace(prefix)?
            .ok_or_else(|| NotFound::Keyspace(prefix).into())
    }

    pub(crate) fn keyspace_numbered(&self, number: u32) -> Result<Keyspace, Error> {
        read::keyspace(&self.keyspaces, self.ring, number)
    }

    /// The number for the next keyspace; numbers are not used twice.
    pub(crate) fn next_keyspace_number(&self) -> u32 {
        self.state.next_keyspace
    }

    pub(crate) fn put_keyspace(&mut self, keyspace: &Keyspace) -> Result<(), Error> {
        self.writing();
        let key = keyspace.id.to_le_bytes();
        let bytes = tables::seal(self.ring, Tagged::Keyspace, &key, keyspace)?;
        let old = self.keyspaces.insert(keyspace.id, bytes.as_slice());
        let old = old.or_store()?.map(|old| {
            let bytes = old.value();
            tables::unseal(self.ring, Tagged::Keyspace, &key, bytes)
        });
        self.delta
            .keyspaces
            .note(keyspace.id, old.transpose(), Some(keyspace.clone()));
        self.prefixes
            .insert(keyspace.prefix.as_str(), keyspace.id)
            .or_store()?;
        if keyspace.id >= self.state.next_keyspace {
            self.begin_counts(keyspace.id);
        }
        self.state.next_keyspace = self.state.next_keyspace.max(keyspace.id + 1);
        Ok(())
    }

    // Keys

    pub(crate) fn find_key(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        let found = read::key(&self.keys, self.ring, id);
        if matches!(found, Ok(None) | Err(Error::Corrupted(_))) {
            self.unreadable.borrow_mut().push(id);
        }
        found
    }

    /// Keys that were found to be damaged or missing, for their copies in memory to be
    /// forgotten, also where nothing is committed. Asked again, it names none of them.
    pub(crate) fn take_unreadable(&self) -> Vec<KeyId> {
        self.unreadable.take()
    }

    /// The key, or `None` where its record is damaged, or is missing and was not purged.
    pub(crate) fn key_unless_damaged(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        match Error::or_damaged(self.find_key(id))? {
            Ok(Some(key)) => Ok(Some(key)),
            Ok(None) if self.cold.get(id.raw()).or_store()?.is_none() => {
                Err(NotFound::Key(id).into())
            }
            Ok(None) | Err(_) => Ok(None),
        }
    }

    pub(crate) fn key(&self, id: KeyId) -> Result<KeyRecord, Error> {
        self.find_key(id)?.ok_or_else(|| NotFound::Key(id).into())
    }

    /// The key, or `None` where its record is damaged or missing: for verbs that
    /// take access away from many, and that one damaged record must not stop.
    /// A copy in memory from before the damage is forgotten with the commit.
    pub(crate) fn key_or_forget(&mut self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        match self.find_key(id) {
            Ok(Some(key)) => Ok(Some(key)),
            Ok(None) | Err(Error::Corrupted(_)) => {
                self.forget(id);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Drops the copy in memory, with the commit, of a key that cannot be read.
    pub(crate) fn forget(&mut self, id: KeyId) {
        self.writing();
        self.delta.unreadable.push(id);
    }

    /// Makes the present durable where a key is revoked only because its grace
    /// is over, so that it stays revoked if the clock steps back.
    pub(crate) fn hold_time(&mut self, key: &KeyRecord) {
        if matches!(key.phase, Phase::Retiring { .. }) {
            self.writing();
        }
    }

    pub(crate) fn id_is_taken(&self, id: KeyId) -> Result<bool, Error> {
        Ok(self.keys.get(id.raw()).or_store()?.is_some())
    }

    pub(crate) fn cold(&self, id: KeyId) -> Result<ColdRecord, Error> {
        read::cold(&self.cold, self.ring, id)
    }

    pub(crate) fn put_cold(&mut self, id: KeyId, cold: &ColdRecord) -> Result<(), Error> {
        self.writing();
        let bytes = tables::seal(self.ring, Tagged::Cold, &id.raw().to_le_bytes(), cold)?;
        let old = self.cold.insert(id.raw(), bytes.as_slice()).or_store()?;
        let old = quota_of(self.ring, id, old);
        self.delta.quota_of.note(id, old, cold.quota);
        Ok(())
    }

    pub(super) fn remove_cold(&mut self, id: KeyId) -> Result<(), Error> {
        self.writing();
        let old = self.cold.remove(id.raw()).or_store()?;
        let old = quota_of(self.ring, id, old);
        self.delta.quota_of.note(id, old, None);
        Ok(())
    }

    pub(super) fn remove_hot(&mut self, id: KeyId) -> Result<(), Error> {
        self.writing();
        let old = self.keys.remove(id.raw()).or_store()?;
        let old = old.map(|old| tag_of(old.value()));
        self.delta.keys.note(id, Ok(old), None);
        Ok(())
    }

    pub(crate) fn insert_key(&mut self, key: &KeyRecord, cold: &ColdRecord) -> Result<(), Error> {
        self.writing();
        self.recount(None, Some(key))?;
        self.put_hot(key)?;
        self.put_cold(key.id, cold)?;
        let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
        self.by_owner.insert(index.as_slice(), HELD).or_store()?;
        self.by_keyspace
            .insert((key.keyspace, key.id.raw()), ())
            .or_store()?;
        if let Some(end) = key.ends_at() {
            self.by_end
                .insert((end.unix_ms(), key.id.raw()), ())
                .or_store()?;
        }
        self.move_turns(None, Some(key))?;
        self.state.count_digest(key.pepper, 1);
        Ok(())
    }

    /// Writes a changed key, and moves it in the indexes where they differ.
    pub(crate) fn replace_key(&mut self, old: &KeyRecord, new: &KeyRecord) -> Result<(), Error> {
        self.writing();
        self.recount(Some(old), Some(new))?;
        self.put_hot(new)?;
        let (old_end, new_end) = (old.ends_at(), new.ends_at());
        if old_end != new_end {
            if let Some(end) = old_end {
                self.by_end
                    .remove((end.unix_ms(), old.id.raw()))
                    .or_store()?;
            }
            if let Some(end) = new_end {
                self.by_end
                    .insert((end.unix_ms(), new.id.raw()), ())
                    .or_store()?;
            }
        }
        self.move_turns(Some(old), Some(new))?;
        let is_revoked = |key: &KeyRecord| matches!(key.phase, Phase::Revoked { .. });
        if !is_revoked(old) {
            self.state.count_digest(old.pepper, -1);
        }
        if !is_revoked(new) {
            self.state.count_digest(new.pepper, 1);
        }
        Ok(())
    }

    fn put_hot(&mut self, key: &KeyRecord) -> Result<(), Error> {
        let bytes = key.encode(self.ring)?;
        let old = self.keys.insert(key.id.raw(), bytes.as_slice());
        let old = old.or_store()?.map(|old| tag_of(old.value()));
        self.delta.keys.note(key.id, Ok(old), Some(tag_of(&bytes)));
        Ok(())
    }

    /// Notes in the owner's index that a key is over for good, so that it need
    /// not be looked at when the owner's keys are counted.
    pub(crate) fn set_over(&mut self, key: &KeyRecord) -> Result<(), Error> {
        self.writing();
        let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
        self.by_owner.insert(index.as_slice(), OVER).or_store()?;
        Ok(())
    }

    /// Removes every trace of a key but its audit entries.
    pub(crate) fn remove_key(&mut self, key: &KeyRecord) -> Result<(), Error> {
        // Where that is damaged, the quota stays until a repair.
        let quota = match key.has_quota {
            true => Error::or_damaged(self.cold(key.id))?.map_or(None, |cold| cold.quota),
            false => None,
        };
        self.writing();
        self.recount(Some(key), None)?;
        self.remove_hot(key.id)?;
        self.remove_cold(key.id)?;
        self.usage.remove(key.id.raw()).or_store()?;
        if let Some(number) = quota {
            self.leave_quota(number)?;
        }
        let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
        self.by_owner.remove(index.as_slice()).or_store()?;
        self.by_keyspace
            .remove((key.keyspace, key.id.raw()))
            .or_store()?;
        if let Some(end) = key.ends_at() {
            self.by_end
                .remove((end.unix_ms(), key.id.raw()))
                .or_store()?;
        }
        self.move_turns(Some(key), None)?;
        if !matches!(key.phase, Phase::Revoked { .. }) {
            self.state.count_digest(key.pepper, -1);
        }
        Ok(())
    }

    /// The keys of an owner in a keyspace.
    ///
    /// Passes over every key that the owner ever had there and that is not
    /// purged, but reads the records only of those not known to be over. What is
    /// damaged is kept apart: it must not bar its owner from a new key for ever.
    pub(crate) fn holdings(&self, owner: &OwnerPath, keyspace: u32) -> Result<Holdings, Error> {
        let (from, to) = tables::holdings_range(owner, keyspace);
        let mut holdings = Holdings::default();
        let range = self
            .by_owner
            .range::<&[u8]>(from.as_slice()..=to.as_slice())
            .or_store()?;
        for entry in range {
            let (index, standing) = entry.or_store()?;
            if standing.value() == OVER {
                continue;
            }
            let Some((_, _, id)) = tables::owner_index_parts(index.value()) else {
                continue;
            };
            let Ok(Some(key)) = Error::or_damaged(self.find_key(id))? else {
                holdings.damaged.push(id);
                continue;
            };
            if Life::from(&key).is_over(self.now) {
                // The answer does not count it.
                self.tell_over();
                holdings.lapsed.push(key);
            } else {
                holdings.good.push(key);
            }
        }
        Ok(holdings)
    }

    /// Up to `count` ids of keys of an owner and of all below it, from after a
    /// position in the owner's index, and the position reached.
    pub(crate) fn ids_below(
        &self,
        owner: &OwnerPath,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<(Vec<KeyId>, Option<Vec<u8>>), Error> {
        let (from, to) = tables::owner_index_range(owner, true);
        let start = match after {
            Some(after) => std::ops::Bound::Excluded(after),
            None => std::ops::Bound::Included(from.as_slice()),
        };
        let end = std::ops::Bound::Excluded(to.as_slice());
        let mut ids = Vec::new();
        let mut last = None;
        for entry in self
            .by_owner
            .range::<&[u8]>((start, end))
            .or_store()?
            .take(count)
        {
            let (index, _) = entry.or_store()?;
            // One without parts names no key.
            if let Some((_, _, id)) = tables::owner_index_parts(index.value()) {
                ids.push(id);
            }
            last = Some(index.value().to_vec());
        }
        Ok((ids, last))
    }

    /// Up to `count` ids of keys of a keyspace, from after one.
    pub(crate) fn ids_of_keyspace(
        &self,
        keyspace: u32,
        after: Option<KeyId>,
        count: usize,
    ) -> Result<Vec<KeyId>, Error> {
        let start = match after {
            Some(after) => std::ops::Bound::Excluded((keyspace, after.raw())),
            None => std::ops::Bound::Included((keyspace, 0)),
        };
        let end = std::ops::Bound::Included((keyspace, u64::MAX));
        self.by_keyspace
            .range::<(u32, u64)>((start, end))
            .or_store()?
            .take(count)
            .map(|entry| Ok(KeyId::from_raw(entry.or_store()?.0.value().1)))
            .collect()
    }

    /// Up to `count` ids of keys that were over before an instant, the oldest
    /// first, from after a place in the index, each with its place.
    pub(crate) fn ends_before(
        &self,
        instant: Timestamp,
        after: Option<(Timestamp, KeyId)>,
        count: usize,
    ) -> Result<Vec<(Timestamp, KeyId)>, Error> {
        let start = match after {
            Some((end, id)) => std::ops::Bound::Excluded((end.unix_ms(), id.raw())),
            None => std::ops::Bound::Included((0, 0)),
        };
        let end = (instant.unix_ms(), 0);
        if matches!(start, std::ops::Bound::Excluded(start) if start >= end) {
            return Ok(Vec::new());
        }
        self.by_end
            .range::<(u64, u64)>((start, std::ops::Bound::Excluded(end)))
            .or_store()?
            .take(count)
            .map(|entry| {
                let (end, id) = entry.or_store()?.0.value();
                Ok((Timestamp::from_raw(end), KeyId::from_raw(id)))
            })
            .collect()
    }

    /// The first owner, if there is one, that could not hold what it holds if
    /// the keyspace were single-active.
    /// Keys that are damaged are given too.
    pub(crate) fn owner_with_several(
        &self,
        keyspace: u32,
    ) -> Result<(Option<OwnerPath>, Vec<KeyId>), Error> {
        let (mut found, mut damaged) = (None, Vec::new());
        read::each_crowded_owner(
            &self.by_owner,
            &self.keys,
            self.ring,
            self.now,
            |number| number == keyspace,
            |owner| found = found.take().or(Some(owner)),
            |id| damaged.push(id),
        )?;
        Ok((found, damaged))
    }

    // Owners

    pub(crate) fn owner(&self, path: &str) -> Result<Option<OwnerRecord>, Error> {
        read::owner(&self.owners, self.ring, path)
    }

    /// Whether an owner has a record of its suspension, be it damaged.
    pub(crate) fn is_suspended(&self, path: &str) -> Result<bool, Error> {
        Ok(self.owners.get(path).or_store()?.is_some())
    }

    /// Sets or takes away an owner's suspension.
    pub(crate) fn set_owner(
        &mut self,
        path: &OwnerPath,
        record: Option<&OwnerRecord>,
    ) -> Result<(), Error> {
        self.writing();
        let path = path.as_str();
        match record {
            Some(record) => {
                let bytes = tables::seal(self.ring, Tagged::Owner, path.as_bytes(), record)?;
                self.owners.insert(path, bytes.as_slice()).or_store()?;
            }
            None => {
                self.owners.remove(path).or_store()?;
            }
        }
        Ok(())
    }

    /// Which of an owner's path and its ancestors are suspended.
    pub(crate) fn suspended_mask(&self, owner: &OwnerPath) -> Result<u8, Error> {
        read::suspended_mask(&self.owners, self.ring, owner)
    }

    pub(crate) fn owner_state(&self, owner: &OwnerPath) -> Result<OwnerState, Error> {
        read::owner_state(&self.owners, self.ring, owner)
    }

    // Quotas

    pub(crate) fn find_quota(&self, number: u64) -> Result<Option<QuotaRecord>, Error> {
        read::find_quota(&self.quotas, self.ring, number)
    }

    pub(crate) fn quota(&self, number: u64) -> Result<QuotaRecord, Error> {
        read::quota(&self.quotas, self.ring, number)
    }

    /// Writes what is left of a quota.
    pub(crate) fn put_quota(&mut self, number: u64, record: &QuotaRecord) -> Result<(), Error> {
        self.writing();
        let bytes = tables::seal(self.ring, Tagged::Quota, &number.to_le_bytes(), record)?;
        let old = self.quotas.insert(number, bytes.as_slice()).or_store()?;
        let old = quota_from(self.ring, number, old);
        self.delta.quotas.note(number, old, Some(record.clone()));
        Ok(())
    }

    pub(super) fn remove_quota(&mut self, number: u64) -> Result<(), Error> {
        self.writing();
        let old = self.quotas.remove(number).or_store()?;
        let old = quota_from(self.ring, number, old);
        self.delta.quotas.note(number, old, None);
        Ok(())
    }

    /// Makes a quota for a key, under the number of the mutation's audit entry.
    pub(crate) fn new_quota(&mut self, quota: Quota) -> Result<u64, Error> {
        let number = self.next_seq();
        let record = QuotaRecord::new(quota, 1, number, self.now);
        self.put_quota(number, &record)?;
        Ok(number)
    }

    /// Puts another quota in the place of one, for all who share it. What is in
    /// memory of the old one becomes void.
    pub(crate) fn replace_quota(&mut self, number: u64, quota: Quota) -> Result<(), Error> {
        let keys = self.quota(number)?.keys;
        let record = QuotaRecord::new(quota, keys, self.next_seq(), self.now);
        self.put_quota(number, &record)
    }

    /// Notes that a request waits for a slice, or that a purse was called in.
    pub(crate) fn note_slice(&mut self, event: QuotaEvent) {
        self.delta.waiting.slices.push(event);
    }

    /// What was found of slices, where nothing was written and nothing is committed.
    pub(crate) fn unwritten_slices(&mut self) -> Vec<QuotaEvent> {
        match self.wrote_ever {
            true => Vec::new(),
            false => std::mem::take(&mut self.delta.waiting.slices),
        }
    }

    /// Lets one more key share a quota.
    pub(crate) fn join_quota(&mut self, number: u64) -> Result<(), Error> {
        let mut record = self.quota(number)?;
        record.keys = record.keys.saturating_add(1);
        self.put_quota(number, &record)
    }

    /// Takes a key from those that share a quota, and the quota away with the
    /// last.
    pub(crate) fn leave_quota(&mut self, number: u64) -> Result<(), Error> {
        // One that is damaged stays until a repair.
        let Ok(Some(mut record)) = Error::or_damaged(self.find_quota(number))? else {
            return Ok(());
        };
        if record.keys > 1 {
            record.keys -= 1;
            return self.put_quota(number, &record);
        }
        self.remove_quota(number)
    }

    // Audit and usage

    /// The position that the next audit entry will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.state.audit_seq + 1
    }

    pub(crate) fn audit(&mut self, actor: Option<&str>, event: AuditEvent) -> Result<(), Error> {
        self.writing();
        let seq = self.next_seq();
        let body = AuditBody {
            at: self.now,
            actor: actor.map(str::to_owned),
            event,
        };
        let (bytes, hash) = read::encode_audit(self.ring, &self.state.audit_hash, seq, &body)?;
        self.audit.insert(seq, bytes.as_slice()).or_store()?;
        self.state.audit_seq = seq;
        self.state.audit_hash = hash;
        Ok(())
    }

    /// Whether a flush has noted a use of a key, or its usage cannot be read.
    pub(crate) fn was_used(&self, id: KeyId) -> Result<bool, Error> {
        let usage = Error::or_damaged(read::usage(&self.usage, self.ring, id))?;
        Ok(usage.map_or(true, |usage| usage.count > 0 || usage.last_used.is_some()))
    }

    pub(crate) fn revoked(&self, key: &KeyRecord) -> Result<Option<Revoked>, Error> {
        read::revoked(|seq| self.entry(seq), key, self.now)
    }

    /// A key as callers see it, after what this transaction has written.
    pub(crate) fn describe(&self, key: &KeyRecord, cold: ColdRecord) -> Result<Key, Error> {
        let keyspace = self.keyspace_numbered(key.keyspace)?;
        let revoked = self.revoked(key)?;
        let usage = read::usage(&self.usage, self.ring, key.id)?;
        let quota = match cold.quota {
            Some(number) => Some(self.quota(number)?.status(self.now)),
            None => None,
        };
        Ok(read::assemble(
            key, cold, &keyspace, revoked, usage, quota, self.now,
        ))
    }

    /// As [`describe`](Self::describe), for a key that is just issued.
    pub(crate) fn describe_new(
        &self,
        key: &KeyRecord,
        cold: ColdRecord,
        keyspace: &Keyspace,
        quota: Option<QuotaStatus>,
    ) -> Key {
        read::assemble(
            key,
            cold,
            keyspace,
            None,
            read::UsageRecord::default(),
            quota,
            self.now,
        )
    }
}

/// A record that was replaced or removed.
type Replaced<'a> = Option<AccessGuard<'a, Bytes>>;

/// The number of the quota in a cold record that was replaced.
fn quota_of(ring: &Keyring, id: KeyId, old: Replaced<'_>) -> Result<Option<u64>, Error> {
    let Some(old) = old else {
        return Ok(None);
    };
    let key = id.raw().to_le_bytes();
    let old: ColdRecord = tables::unseal(ring, Tagged::Cold, &key, old.value())?;
    Ok(old.quota)
}

fn quota_from(
    ring: &Keyring,
    number: u64,
    old: Replaced<'_>,
) -> Result<Option<QuotaRecord>, Error> {
    let old = old.map(|old| {
        let key = number.to_le_bytes();
        tables::unseal(ring, Tagged::Quota, &key, old.value())
    });
    old.transpose()
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
