//! A consistent view of the store, for verifications and listings.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};

use crate::crypto::digest::Keyring;
use crate::model::audit::{AuditEntry, AuditPage};
use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error, NotFound};
use crate::model::filter::{Cursor, KeyFilter, KeyPage, Order, bad_cursor};
use crate::model::id::{KeyId, Prefix};
use crate::model::key::{ColdRecord, Key};
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::store::base::Base;
use crate::store::entry::Place;
use crate::store::failure::{OrStore, guarded};
use crate::store::hot::HotCopy;
use crate::store::import::Imports;
use crate::store::lags::Lags;
use crate::store::life::is_asked_for;
use crate::store::quota::QuotaRecord;
use crate::store::read;
use crate::store::record::{KeyRecord, View};
use crate::store::tables::{
    self, AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, Bytes, COLD, KEPT, KEYS, KEYSPACES, META, OWNERS,
    PREFIXES, QUOTAS, State, USAGE,
};

/// The store as one commit left it. The table of hot records is opened once and
/// shared by all readers; the others are opened when asked for.
pub(crate) struct Snapshot {
    keys: ReadOnlyTable<u64, Bytes>,
    txn: ReadTransaction,
    ring: Arc<Keyring>,
    /// The changes that keys lag behind. Records are read as these left them.
    lags: Lags,
    /// Filled when it is first asked for.
    pub(super) imports: OnceLock<Result<Imports, Error>>,
    /// Last, so that it goes after what reads from it.
    base: Arc<Base>,
}

impl Snapshot {
    /// What a database holds now.
    pub(super) fn new(base: &Arc<Base>, ring: &Arc<Keyring>) -> Result<Self, Error> {
        let txn = base.begin_read()?;
        let meta = txn.open_table(META).or_store()?;
        Ok(Self {
            keys: txn.open_table(KEYS).or_store()?,
            lags: read::state(&meta, ring)?.lags,
            txn,
            ring: ring.clone(),
            imports: OnceLock::new(),
            base: base.clone(),
        })
    }

    pub(super) fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Error> {
        self.txn.open_table(definition).or_store()
    }

    pub(super) fn txn(&self) -> &ReadTransaction {
        &self.txn
    }

    pub(super) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// Whether its database was replaced by another on the same ground.
    pub(crate) fn is_over(&self) -> bool {
        self.base.access().is_over()
    }

    /// Whether its file waits for its repair, after which the snapshot can be read no more.
    pub(crate) fn is_view(&self) -> bool {
        self.base.is_view()
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    /// Copies a key's hot record out of the file and checks its tag; or notes that
    /// there is none. Verifications read the file this way: it opens no table, and
    /// holds no page once it returns.
    pub(crate) fn hot(&self, id: KeyId, into: &mut HotCopy) -> Result<(), Error> {
        guarded(|| {
            let record = ReadableTable::get(&self.keys, id.raw()).or_store()?;
            into.take(id, record.as_ref().map(|record| record.value()))
        })?;
        into.authenticate(id, &self.ring)?;
        match self.lags.is_empty() {
            true => Ok(()),
            false => into.bring_up(&self.lags, &self.ring),
        }
    }

    /// The changes that keys lag behind.
    pub(crate) fn lags(&self) -> &Lags {
        &self.lags
    }

    pub(crate) fn record(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        let mut record = self.record_as_it_stands(id)?;
        if let Some(record) = &mut record {
            self.lags.bring_up(record);
        }
        Ok(record)
    }

    /// The record of a key, behind its owner as it may be.
    pub(super) fn record_as_it_stands(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        read::key(&self.keys, &self.ring, id)
    }

    /// The limits that a key has of its own.
    pub(crate) fn own_limits(&self, id: KeyId) -> Result<Option<Vec<Limit>>, Error> {
        Ok(read::cold(&self.table(COLD)?, &self.ring, id)?.limits)
    }

    /// The quota of a key, with its number, as it stands at an instant of the clock;
    /// `None`: it has none.
    pub(crate) fn key_quota(
        &self,
        id: KeyId,
        clock: Timestamp,
    ) -> Result<Option<(u64, QuotaRecord)>, Error> {
        let number = read::cold(&self.table(COLD)?, &self.ring, id)?.quota;
        number
            .map(|number| {
                let record = read::quota(&self.table(QUOTAS)?, &self.ring, number)?;
                Ok((number, record.at(clock)))
            })
            .transpose()
    }

    pub(crate) fn state(&self) -> Result<State, Error> {
        read::state(&self.table(META)?, &self.ring)
    }

    /// Where in a fleet's log the file stands; `None`: it is in no fleet.
    pub(crate) fn place(&self) -> Result<Option<Place>, Error> {
        guarded(|| read::place(&self.table(META)?, &self.ring))
    }

    pub(crate) fn keyspaces(&self) -> Result<Vec<Keyspace>, Error> {
        let table = self.table(KEYSPACES)?;
        ReadableTable::iter(&table)
            .or_store()?
            .map(|entry| {
                let number = entry.or_store()?.0.value();
                read::keyspace(&table, &self.ring, number)
            })
            .collect()
    }

    pub(crate) fn owner(&self, path: &OwnerPath) -> Result<OwnerState, Error> {
        read::owner_state(&self.table(OWNERS)?, &self.ring, path)
    }

    pub(crate) fn key(&self, id: KeyId, now: Timestamp) -> Result<Key, Error> {
        let record = self.record(id)?.ok_or(NotFound::Key(id))?;
        Describer::new(self)?.describe(&record, now)
    }

    /// Audit entries from a position on (0: from the first), each checked to follow
    /// on the one before it.
    pub(crate) fn audit(&self, from: u64, limit: usize) -> Result<AuditPage, Error> {
        let table = self.table(AUDIT)?;
        let state = self.state()?;
        let from = match from {
            0 => state.audit_floor_seq + 1,
            from => from,
        };
        let last = state.audit_seq;
        if from > last {
            return Ok(AuditPage {
                entries: Vec::new(),
                next: None,
            });
        }
        let until = last.min(from.saturating_add(limit as u64) - 1);
        read::require_above(&state, from)?;
        let mut previous = read::audit_hash(&table, &state, from - 1)?;
        let mut entries = Vec::new();
        for seq in from..=until {
            let stored = ReadableTable::get(&table, seq)
                .or_store()?
                .ok_or_else(|| Error::corrupted("audit", seq, "it is missing"))?;
            let (entry, hash) = read::decode_audit(&self.ring, &previous, seq, stored.value())?;
            entries.push(entry);
            previous = hash;
        }
        let next = (until < last).then_some(until + 1);
        Ok(AuditPage { entries, next })
    }

    /// Calls `each` with every record of a key that can be read, in the order of the ids.
    pub(crate) fn each_sound_record(&self, mut each: impl FnMut(KeyRecord)) -> Result<(), Error> {
        for entry in ReadableTable::iter(&self.keys).or_store()? {
            let (id, record) = entry.or_store()?;
            let opened = View::open(record.value(), KeyId::from_raw(id.value()), &self.ring)
                .and_then(|(view, _)| KeyRecord::from_view(&view));
            match opened {
                Ok(mut record) => {
                    self.lags.bring_up(&mut record);
                    each(record);
                }
                Err(Error::Corrupted(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A page of the keys that a filter asks for.
    pub(crate) fn list(
        &self,
        filter: &KeyFilter,
        cursor: Option<&Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<KeyPage, Error> {
        let order = filter.order();
        if let Some(cursor) = cursor
            && cursor.order != order
        {
            let why = "it comes from a listing of another order";
            return Err(bad_cursor(why).into());
        }
        let keyspace = match filter.keyspace {
            Some(prefix) => Some(self.keyspace_number(prefix)?),
            None => None,
        };
        let mut page = Paging {
            describer: Describer::new(self)?,
            filter,
            limit,
            looked_at: 0,
            now,
            page: KeyPage {
                keys: Vec::new(),
                damaged: Vec::new(),
                next: None,
            },
        };
        match order {
            Order::Id => self.walk_ids(&mut page, cursor)?,
            Order::Keyspace => self.walk_keyspace(&mut page, keyspace, cursor)?,
            Order::Owner => self.walk_owner(&mut page, cursor)?,
            Order::End => self.walk_ends(&mut page, cursor)?,
            Order::Settings | Order::Suspended => {
                return Err(Error::Internal("no filter of keys is served by it"));
            }
        }
        Ok(page.page)
    }

    fn walk_ids(&self, page: &mut Paging<'_>, cursor: Option<&Cursor>) -> Result<(), Error> {
        let cursor = cursor.map(|cursor| u64_at(cursor, 0)).transpose()?;
        let Some(range) = page.range(cursor, Bound::Included(0), Bound::Included(u64::MAX)) else {
            return Ok(());
        };
        let entries = ReadableTable::range::<u64>(&self.keys, range).or_store()?;
        for entry in page.walk(entries) {
            let id = entry.or_store()?.0.value();
            if page.offer(id, || Cursor {
                order: Order::Id,
                position: id.to_be_bytes().to_vec(),
            })? {
                break;
            }
        }
        Ok(())
    }

    fn walk_keyspace(
        &self,
        page: &mut Paging<'_>,
        keyspace: Option<u32>,
        cursor: Option<&Cursor>,
    ) -> Result<(), Error> {
        let Some(number) = keyspace else {
            return Ok(());
        };
        let cursor = cursor.map(|cursor| u64_at(cursor, 0)).transpose()?;
        let cursor = cursor.map(|id| (number, id));
        let (first, last) = ((number, 0), (number, u64::MAX));
        let Some(range) = page.range(cursor, Bound::Included(first), Bound::Included(last)) else {
            return Ok(());
        };
        let table = self.table(BY_KEYSPACE)?;
        let entries = ReadableTable::range::<(u32, u64)>(&table, range).or_store()?;
        for entry in page.walk(entries) {
            let (_, id) = entry.or_store()?.0.value();
            if page.offer(id, || Cursor {
                order: Order::Keyspace,
                position: id.to_be_bytes().to_vec(),
            })? {
                break;
            }
        }
        Ok(())
    }

    fn walk_owner(&self, page: &mut Paging<'_>, cursor: Option<&Cursor>) -> Result<(), Error> {
        let Some((owner, below)) = &page.filter.owner else {
            return Ok(());
        };
        let (from, to) = tables::owner_index_range(owner, *below);
        let cursor = cursor.map(|cursor| cursor.position.as_slice());
        if cursor.is_some_and(|at| !(from.as_slice()..to.as_slice()).contains(&at)) {
            let why = "it comes from a listing of another owner";
            return Err(bad_cursor(why).into());
        }
        let (first, last) = (Bound::Included(&*from), Bound::Excluded(&*to));
        let Some(range) = page.range(cursor, first, last) else {
            return Ok(());
        };
        let table = self.table(BY_OWNER)?;
        let entries = ReadableTable::range::<&[u8]>(&table, range).or_store()?;
        for entry in page.walk(entries) {
            let (index, _) = entry.or_store()?;
            let cursor = || Cursor {
                order: Order::Owner,
                position: index.value().to_vec(),
            };
            let is_full = match tables::owner_index_parts(index.value()) {
                Some((_, _, id)) => page.offer(id.raw(), cursor)?,
                None => page.pass_over(tables::short_index_entry(index.value()), cursor),
            };
            if is_full {
                break;
            }
        }
        Ok(())
    }

    fn walk_ends(&self, page: &mut Paging<'_>, cursor: Option<&Cursor>) -> Result<(), Error> {
        let within = page.filter.expires_within.unwrap_or_default();
        let last = page.now.saturating_add(within).unix_ms();
        let cursor = match cursor {
            Some(cursor) => Some((u64_at(cursor, 0)?, u64_at(cursor, 8)?)),
            None => None,
        };
        let first = Bound::Included((page.now.unix_ms(), 0));
        let Some(range) = page.range(cursor, first, Bound::Included((last, u64::MAX))) else {
            return Ok(());
        };
        let table = self.table(BY_END)?;
        let entries = ReadableTable::range::<(u64, u64)>(&table, range).or_store()?;
        for entry in page.walk(entries) {
            let (end, id) = entry.or_store()?.0.value();
            if page.offer(id, || Cursor {
                order: Order::End,
                position: [end.to_be_bytes(), id.to_be_bytes()].concat(),
            })? {
                break;
            }
        }
        Ok(())
    }

    /// How many good keys end within each of two times, the shorter first: by their expiry
    /// or the end of their grace. What was revoked has ended before.
    pub(crate) fn ending_within(
        &self,
        now: Timestamp,
        [short, long]: [Duration; 2],
    ) -> Result<(u64, u64), Error> {
        let until = |within| now.saturating_add(within).unix_ms();
        let range = (now.unix_ms() + 1, 0)..=(until(long), u64::MAX);
        let (mut counted, mut all) = (0, 0);
        for row in ReadableTable::range::<(u64, u64)>(&self.table(BY_END)?, range).or_store()? {
            let (end, id) = row.or_store()?.0.value();
            if self.ends_then(KeyId::from_raw(id), end)? {
                counted += u64::from(end <= until(short));
                all += 1;
            }
        }
        Ok((counted, all))
    }

    /// The keys that end after one instant, and at the latest at another, in the order of
    /// their ends.
    pub(crate) fn ids_ending_within(
        &self,
        after: Timestamp,
        last: Timestamp,
    ) -> Result<Vec<KeyId>, Error> {
        let mut ids = read::ids_ending_within(&self.table(BY_END)?, after, last)?;
        if !self.lags.is_empty() {
            let mut ending = Vec::with_capacity(ids.len());
            for id in ids {
                let end = self.end_of(id)?;
                if end.is_none_or(|end| end > after && end <= last) {
                    ending.push(id);
                }
            }
            ids = ending;
        }
        Ok(ids)
    }

    /// Whether a key ends where the index has it: the index is of its record as it stands.
    fn ends_then(&self, id: KeyId, end: u64) -> Result<bool, Error> {
        if self.lags.is_empty() {
            return Ok(true);
        }
        let found = self.end_of(id)?;
        Ok(found.is_none_or(|found| found.unix_ms() == end))
    }

    /// When a key ends, where its record can be read.
    fn end_of(&self, id: KeyId) -> Result<Option<Timestamp>, Error> {
        let record = Error::or_damaged(self.record(id))?.ok().flatten();
        Ok(record.and_then(|record| record.ends_at()))
    }

    pub(super) fn keyspace_number(&self, prefix: Prefix) -> Result<u32, Error> {
        let number = ReadableTable::get(&self.table(PREFIXES)?, prefix.as_str())
            .or_store()?
            .map(|number| number.value());
        number.ok_or_else(|| NotFound::Keyspace(prefix).into())
    }
}

fn u64_at(cursor: &Cursor, at: usize) -> Result<u64, Error> {
    cursor
        .position
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| bad_cursor("it is too short").into())
}

/// A page being filled.
struct Paging<'a> {
    describer: Describer<'a>,
    filter: &'a KeyFilter,
    limit: usize,
    /// How many entries of the index were looked at.
    looked_at: usize,
    now: Timestamp,
    page: KeyPage,
}

impl Paging<'_> {
    /// What of an index is left behind a cursor, or before it where the walk is from the
    /// end; `None` where that is nothing.
    fn range<T: PartialOrd + Copy>(
        &self,
        cursor: Option<T>,
        first: Bound<T>,
        last: Bound<T>,
    ) -> Option<(Bound<T>, Bound<T>)> {
        let (from, to) = match (cursor, self.filter.newest_first) {
            (None, _) => (first, last),
            (Some(at), false) => (Bound::Excluded(at), last),
            (Some(at), true) => (first, Bound::Excluded(at)),
        };
        let value = |bound| match bound {
            Bound::Included(value) | Bound::Excluded(value) => Some(value),
            Bound::Unbounded => None,
        };
        // An index refuses a range that begins behind its end.
        let is_empty = matches!((value(from), value(to)), (Some(from), Some(to)) if from >= to);
        (!is_empty).then_some((from, to))
    }

    /// The entries of an index in the order that is asked for.
    fn walk<I: DoubleEndedIterator>(
        &self,
        mut entries: I,
    ) -> impl Iterator<Item = I::Item> + use<I> {
        let from_end = self.filter.newest_first;
        std::iter::from_fn(move || match from_end {
            true => entries.next_back(),
            false => entries.next(),
        })
    }

    /// Takes a key if it is asked for, and says whether the page is full. What cannot
    /// be read is taken as damaged, and the walk goes on.
    fn offer(&mut self, id: u64, cursor: impl FnOnce() -> Cursor) -> Result<bool, Error> {
        let id = KeyId::from_raw(id);
        match Error::or_damaged(self.asked_for(id))? {
            Ok(Some(key)) => self.page.keys.push(key),
            Ok(None) => {}
            Err(damage) => self.page.damaged.push(damage),
        }
        Ok(self.is_full(cursor))
    }

    /// Takes something that is damaged, and says whether the page is full.
    fn pass_over(&mut self, damage: Corruption, cursor: impl FnOnce() -> Cursor) -> bool {
        self.page.damaged.push(damage);
        self.is_full(cursor)
    }

    fn is_full(&mut self, cursor: impl FnOnce() -> Cursor) -> bool {
        self.looked_at += 1;
        let is_full = self.page.keys.len() + self.page.damaged.len() >= self.limit
            || self
                .filter
                .looked_at_max
                .is_some_and(|max| self.looked_at >= max);
        if is_full && self.page.next.is_none() {
            self.page.next = Some(cursor());
        }
        is_full
    }

    /// The key, if it is asked for.
    fn asked_for(&mut self, id: KeyId) -> Result<Option<Key>, Error> {
        let record =
            self.describer.snapshot.record(id)?.ok_or_else(|| {
                Error::corrupted("keys", id, "an index names it, and it is missing")
            })?;
        // The life is known without the cold record, which most keys of a
        // narrow listing then need not show.
        if !is_asked_for(self.filter, &record, self.now) {
            return Ok(None);
        }
        let cold = self.describer.cold(id)?;
        // So is what people call it, without what else a description is made of.
        if !self.filter.is_called(cold.name.as_deref(), &cold.labels) {
            return Ok(None);
        }
        let key = self.describer.describe_with(&record, cold, self.now)?;
        Ok(Some(key).filter(|key| self.filter.matches(key, self.now)))
    }
}

/// The tables that a key's description comes from, opened once.
pub(super) struct Describer<'a> {
    snapshot: &'a Snapshot,
    cold: ReadOnlyTable<u64, Bytes>,
    audit: ReadOnlyTable<u64, Bytes>,
    kept: ReadOnlyTable<u64, Bytes>,
    state: State,
    usage: ReadOnlyTable<u64, Bytes>,
    quotas: ReadOnlyTable<u64, Bytes>,
    keyspaces: ReadOnlyTable<u32, Bytes>,
    last_keyspace: Option<Arc<Keyspace>>,
}

impl<'a> Describer<'a> {
    fn new(snapshot: &'a Snapshot) -> Result<Self, Error> {
        Ok(Self {
            snapshot,
            cold: snapshot.table(COLD)?,
            audit: snapshot.table(AUDIT)?,
            kept: snapshot.table(KEPT)?,
            state: snapshot.state()?,
            usage: snapshot.table(USAGE)?,
            quotas: snapshot.table(QUOTAS)?,
            keyspaces: snapshot.table(KEYSPACES)?,
            last_keyspace: None,
        })
    }

    fn keyspace(&mut self, number: u32) -> Result<Arc<Keyspace>, Error> {
        match &self.last_keyspace {
            Some(last) if last.id == number => Ok(last.clone()),
            _ => {
                let keyspace = read::keyspace(&self.keyspaces, &self.snapshot.ring, number)?;
                Ok(self.last_keyspace.insert(Arc::new(keyspace)).clone())
            }
        }
    }

    /// An audit entry, which may have been trimmed away and kept.
    fn entry(&self, seq: u64) -> Result<AuditEntry, Error> {
        let ring = &self.snapshot.ring;
        match seq > self.state.audit_floor_seq {
            true => read::audit_entry(&self.audit, ring, &self.state, seq),
            false => read::kept(&self.kept, ring, seq),
        }
    }

    fn cold(&self, id: KeyId) -> Result<ColdRecord, Error> {
        read::cold(&self.cold, &self.snapshot.ring, id)
    }

    fn describe(&mut self, record: &KeyRecord, now: Timestamp) -> Result<Key, Error> {
        let cold = self.cold(record.id)?;
        self.describe_with(record, cold, now)
    }

    fn describe_with(
        &mut self,
        record: &KeyRecord,
        cold: ColdRecord,
        now: Timestamp,
    ) -> Result<Key, Error> {
        let ring = &self.snapshot.ring;
        let revoked = read::revoked(|seq| self.entry(seq), record, now)?;
        let usage = read::usage(&self.usage, ring, record.id)?;
        let quota = match cold.quota {
            Some(number) => Some(read::quota(&self.quotas, ring, number)?.status(now)),
            None => None,
        };
        let keyspace = self.keyspace(record.keyspace)?;
        Ok(read::assemble(
            record.clone(),
            cold,
            &keyspace,
            revoked,
            usage,
            quota,
            now,
        ))
    }
}
