//! Removing and rebuilding damaged records, without widening a right.
//!
//! A record that stands for a right is removed if it cannot be read (a hot record), or
//! becomes the narrowest that it may have been (an owner is suspended, a quota is used
//! up). Descriptions start empty, and derived records are rebuilt.

mod cold;
mod counts;
mod imports;
mod indexes;
mod keys;
mod keyspaces;
mod lines;
mod owner_settings;
mod owners;
mod quotas;
mod requests;
mod rows;
mod trail;

use redb::ReadableTable;

use super::Tx;
use crate::model::audit::{AuditEvent, Repair};
use crate::model::error::{Corruption, Error};
use crate::model::id::KeyId;
use crate::model::keyspace::Keyspace;
use crate::store::failure::OrStore;
use crate::store::lags::Lags;
use crate::store::record::{KeyRecord, Phase, View};

/// How many repairs one audit entry names: it must stay below the limit of an encoding.
const PER_ENTRY: usize = 100;
/// How many entries of the index tables are named; the rest is counted. They follow from
/// the records.
const INDEX_ENTRIES_MAX: u64 = 1000;
/// How much of a record's key an audit entry shows.
const RECORD_LEN_MAX: usize = 160;

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
        self.bring_all_up()?;
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
        mender.owner_settings(&trail)?;
        mender.keys(&trail)?;
        mender.suspensions()?;
        let rebuilt = mender.colds()?;
        mender.lines(&rebuilt)?;
        mender.lineages()?;
        mender.own_limits()?;
        mender.usages()?;
        mender.usage_history()?;
        mender.owner_quotas(&trail)?;
        mender.quotas()?;
        mender.requests()?;
        mender.indexes()?;
        mender.imports()?;
        mender.rows()?;
        mender.digests()?;
        mender.counts()?;
        mender.note_more();
        mender.write()?;
        Ok(mender.done)
    }

    /// Brings up all keys that lag, so that records can be compared as they stand. It finds
    /// them by their records: the index of their owners may be damaged, and a key that it
    /// does not name would be taken for an old copy.
    fn bring_all_up(&mut self) -> Result<(), Error> {
        if self.state.lags.is_empty() {
            return Ok(());
        }
        let mut ids = Vec::new();
        self.each_key(|key| {
            let owner = key.owner.as_str().as_bytes();
            if self.state.lags.covers(owner, key.keyspace) {
                ids.push(key.id);
            }
            Ok(())
        })?;
        self.writing();
        self.bring_keys_up(ids)?;
        // As they are compared: what is only noted yet is in no record.
        self.write_imports()?;
        self.state.lags = Lags::default();
        Ok(())
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
}
