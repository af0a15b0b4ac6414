//! A write transaction: the verbs of [`crate::change`] read and write through
//! it. It keeps the indexes in step with the records, appends to the audit
//! trail, and notes its delta, which the engine publishes.

mod apply;
mod counts;
mod extension;
pub(crate) mod held;
pub(crate) mod import;
mod keys;
mod keyspaces;
mod lags;
mod owner_settings;
mod owners;
mod quotas;
mod repair;
pub(crate) mod requests;
pub(crate) mod rows;
mod set_back;
mod usage_history;
pub(crate) mod usage_networks;
pub(crate) mod uses;

use std::cell::{Cell, RefCell};

use redb::{AccessGuard, TableDefinition, WriteTransaction};

use crate::crypto::digest::Keyring;
use crate::model::audit::AuditEvent;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::time::Present;
use crate::store::delta::Delta;
use crate::store::failure::OrStore;
use crate::store::journal::{Journal, Noted};
use crate::store::read;
use crate::store::tables::{
    self, AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, Bytes, COLD, HELD, KEYS, KEYSPACES, META,
    META_STATE, OWNERS, PREFIXES, QUOTAS, State, Tagged, USAGE,
};

pub(crate) struct Tx<'t> {
    txn: &'t WriteTransaction,
    journal: &'t Journal,
    pub(super) ring: &'t Keyring,
    now: Timestamp,
    clock: Timestamp,
    keys: Noted<'t, u64, Bytes>,
    cold: Noted<'t, u64, Bytes>,
    keyspaces: Noted<'t, u32, Bytes>,
    prefixes: Noted<'t, &'static str, u32>,
    owners: Noted<'t, &'static str, Bytes>,
    by_owner: Noted<'t, Bytes, u8>,
    held: Noted<'t, Bytes, (u64, u64)>,
    by_keyspace: Noted<'t, (u32, u64), ()>,
    by_end: Noted<'t, (u64, u64), ()>,
    by_turn: Noted<'t, (u64, u64), ()>,
    pub(super) audit: Noted<'t, u64, Bytes>,
    usage: Noted<'t, u64, Bytes>,
    quotas: Noted<'t, u64, Bytes>,
    imports: import::Tables<'t>,
    meta: Noted<'t, &'static str, Bytes>,
    pub(super) state: State,
    kept: counts::Kept,
    /// How many owners have settings, once that was asked.
    owner_settings_count: Cell<Option<u64>>,
    pub(super) delta: Delta,
    /// Whether the mutation that runs has written yet.
    wrote: bool,
    wrote_ever: bool,
    /// How many records were changed that may grant less than before.
    taken: u64,
    /// The latest instant at which a caller is told that a key is over which time
    /// has ended.
    told_over: Cell<Timestamp>,
    /// Keys that were asked for, and whose record is damaged or missing.
    unreadable: RefCell<Vec<KeyId>>,
}

impl<'t> Tx<'t> {
    pub(crate) fn open(
        txn: &'t WriteTransaction,
        journal: &'t Journal,
        ring: &'t Keyring,
        present: Present,
    ) -> Result<Self, Error> {
        let meta = Noted::open(txn, META, journal)?;
        let state = read::state(&meta, ring)?;
        let now = present.at.max(state.clock);
        Ok(Self {
            txn,
            journal,
            ring,
            now,
            clock: present.clock,
            keys: Noted::open(txn, KEYS, journal)?,
            cold: Noted::open(txn, COLD, journal)?,
            keyspaces: Noted::open(txn, KEYSPACES, journal)?,
            prefixes: Noted::open(txn, PREFIXES, journal)?,
            owners: Noted::open(txn, OWNERS, journal)?,
            by_owner: Noted::open(txn, BY_OWNER, journal)?,
            held: Noted::open(txn, HELD, journal)?,
            by_keyspace: Noted::open(txn, BY_KEYSPACE, journal)?,
            by_end: Noted::open(txn, BY_END, journal)?,
            by_turn: Noted::open(txn, BY_TURN, journal)?,
            audit: Noted::open(txn, AUDIT, journal)?,
            usage: Noted::open(txn, USAGE, journal)?,
            quotas: Noted::open(txn, QUOTAS, journal)?,
            imports: import::Tables::open(txn, journal)?,
            meta,
            state,
            kept: counts::Kept::default(),
            owner_settings_count: Cell::new(None),
            delta: Delta {
                at: now,
                ..Delta::nothing(0)
            },
            wrote: false,
            wrote_ever: false,
            taken: 0,
            told_over: Cell::new(Timestamp::MIN),
            unreadable: RefCell::new(Vec::new()),
        })
    }

    pub(super) fn meta(&self) -> &Noted<'t, &'static str, Bytes> {
        &self.meta
    }

    pub(super) fn put_meta(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), Error> {
        self.meta.insert(name, bytes).or_store()?;
        Ok(())
    }

    pub(super) fn open_by_key(&self) -> Result<Noted<'t, (u64, u64), ()>, Error> {
        self.open_table(tables::BY_KEY)
    }

    /// Opens a table that few transactions need.
    pub(super) fn open_table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Noted<'t, K, V>, Error> {
        Noted::open(self.txn, definition, self.journal)
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
        self.write_imports()?;
        self.state.clock = self.now;
        self.state.commits += 1;
        self.delta.commits = self.state.commits;
        self.delta.settle();
        let bytes = tables::seal(self.ring, Tagged::State, META_STATE.as_bytes(), &self.state)?;
        self.meta.insert(META_STATE, bytes.as_slice()).or_store()?;
        Ok(Some(self.delta))
    }

    /// How often this transaction has changed or removed what may have granted, or a caller has
    /// found that done.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Notes that a caller is told that access is taken away, whoever did so.
    pub(crate) fn take_away(&mut self) {
        self.taken += 1;
    }

    /// The present, the same for the whole transaction.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// What the clock said as the transaction began, which may be behind the present. By
    /// this, quotas are refilled.
    pub(crate) fn clock(&self) -> Timestamp {
        self.clock
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

    /// The position that the next audit entry will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.state.audit_seq + 1
    }

    pub(crate) fn audit(&mut self, actor: Option<&str>, event: AuditEvent) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(128);
        let seq = self.chain(actor, event, &mut bytes)?;
        self.audit.insert(seq, bytes.as_slice()).or_store()?;
        Ok(())
    }
}

/// A record that was replaced or removed.
type Replaced<'a> = Option<AccessGuard<'a, Bytes>>;

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
