//! The rows of new keys, and the entries of their issue, which are gathered and then written
//! table by table, each in the order of its keys.

use super::{Replaced, Tx};
use crate::crypto::digest::{Keyring, Tag};
use crate::model::audit::AuditEvent;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::limit::Limit;
use crate::store::delta::tag_of;
use crate::store::held;
use crate::store::record::KeyRecord;
use crate::store::tables::{self, NAMED, Tagged};
use crate::store::{counts, pipe, read};

/// For how many keys it is worth starting a thread that draws their tokens, or writes their
/// indexes.
pub(crate) const APART_MIN: usize = 1000;

/// What is gathered of keys. Nothing of it can be read before [`Tx::write_rows`].
#[derive(Default)]
pub(crate) struct NewRows {
    packed: Packed,
    keys: Vec<(KeyId, Span)>,
    cold: Vec<(KeyId, Cold)>,
    by_owner: Vec<Span>,
    held: Vec<(Span, held::Row)>,
    by_keyspace: Vec<((u32, u64), ())>,
    by_end: Vec<((u64, u64), ())>,
    by_turn: Vec<((u64, u64), ())>,
}

/// Audit entries that are gathered, by their positions.
#[derive(Default)]
pub(crate) struct NewEntries {
    packed: Packed,
    entries: Vec<(u64, Span)>,
}

/// Keys and values of rows, one behind the other: an allocation for each would take as long as
/// to encode them.
#[derive(Default)]
struct Packed(Vec<u8>);

/// Where one of them is.
#[derive(Clone, Copy)]
struct Span(usize, usize);

impl Packed {
    /// Adds what is written, and gives what the writing gave and where it is.
    fn add<T>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, Error>,
    ) -> Result<(T, Span), Error> {
        let start = self.0.len();
        let wrote = write(&mut self.0)?;
        Ok((wrote, Span(start, self.0.len())))
    }

    fn of(&self, span: Span) -> &[u8] {
        self.0.get(span.0..span.1).unwrap_or_default()
    }
}

/// A cold record, and what something in memory depends on of it.
struct Cold {
    bytes: Span,
    quota: Option<u64>,
    limits: Option<Vec<Limit>>,
}

impl NewRows {
    /// Gathers the rows of a new key.
    pub(crate) fn add(
        &mut self,
        ring: &Keyring,
        key: &KeyRecord,
        cold: &ColdRecord,
    ) -> Result<(), Error> {
        let id = key.id.raw();
        let packed = &mut self.packed;
        let ((), bytes) = packed.add(|packed| key.encode_onto(ring, packed))?;
        self.keys.push((key.id, bytes));
        let ((), bytes) = packed
            .add(|packed| tables::seal_onto(ring, Tagged::Cold, &id.to_le_bytes(), cold, packed))?;
        let (quota, limits) = (cold.quota, cold.limits.clone());
        let cold_row = Cold {
            bytes,
            quota,
            limits,
        };
        self.cold.push((key.id, cold_row));
        let ((), index) = packed.add(|packed| {
            tables::push_owner_index_key(packed, &key.owner, key.keyspace, key.id);
            Ok(())
        })?;
        self.by_owner.push(index);
        if let Some(row) = held::row_of(key) {
            let ((), place) = packed.add(|packed| {
                tables::push_held_key(packed, key.keyspace, &key.owner, key.id);
                Ok(())
            })?;
            self.held.push((place, row));
        }
        self.by_keyspace.push(((key.keyspace, id), ()));
        let end = key.ends_at().map(|end| ((end.unix_ms(), id), ()));
        self.by_end.extend(end);
        (self.by_turn).extend(counts::turn_rows(key).map(|row| (row, ())));
        Ok(())
    }
}

impl Tx<'_> {
    /// Writes a new key.
    pub(crate) fn insert_key(&mut self, key: &KeyRecord, cold: &ColdRecord) -> Result<(), Error> {
        self.admit_key(key, cold)?;
        let mut rows = NewRows::default();
        rows.add(self.ring, key, cold)?;
        self.write_rows(rows, NewEntries::default())
    }

    /// Counts a new key whose rows are to be written, and writes what finds imported keys.
    pub(crate) fn admit_key(&mut self, key: &KeyRecord, cold: &ColdRecord) -> Result<(), Error> {
        self.writing();
        self.recount(None, Some(key))?;
        self.move_foreign(None, Some(key))?;
        if let Some(foreign_id) = &cold.foreign_id {
            self.put_foreign_id(key, foreign_id)?;
        }
        self.state.count_digest(key.pepper, 1);
        Ok(())
    }

    /// Gathers the audit entry of a change. Each later entry follows on it.
    pub(crate) fn gather_audit(
        &mut self,
        entries: &mut NewEntries,
        actor: Option<&str>,
        event: AuditEvent,
    ) -> Result<(), Error> {
        let add = |bytes: &mut Vec<u8>| self.chain(actor, event, bytes);
        let (seq, bytes) = entries.packed.add(add)?;
        entries.entries.push((seq, bytes));
        Ok(())
    }

    /// Writes what was gathered.
    pub(crate) fn write_rows(&mut self, rows: NewRows, entries: NewEntries) -> Result<(), Error> {
        let NewRows {
            packed,
            mut keys,
            mut cold,
            by_owner,
            held,
            mut by_keyspace,
            mut by_end,
            mut by_turn,
        } = rows;
        // Each table is one thread's. The two take about as long: most of it is the rows that go to
        // pages all over a table, by owner and of what is held.
        let apart = keys.len() >= APART_MIN;
        let packed = &packed;
        let (in_by_owner, in_by_keyspace) = (&mut self.by_owner, &mut self.by_keyspace);
        let (in_by_end, in_by_turn) = (&mut self.by_end, &mut self.by_turn);
        let write_by_owner = move || {
            let mut by_owner: Vec<_> = by_owner.iter().map(|row| packed.of(*row)).collect();
            by_owner.sort_unstable();
            by_keyspace.sort_unstable();
            by_end.sort_unstable();
            by_turn.sort_unstable();
            in_by_owner.insert_in_order(&by_owner, |row| (*row, NAMED), |_, _| {})?;
            in_by_keyspace.insert_in_order(&by_keyspace, |row| *row, |_, _| {})?;
            in_by_end.insert_in_order(&by_end, |row| *row, |_, _| {})?;
            in_by_turn.insert_in_order(&by_turn, |row| *row, |_, _| {})
        };

        let (ring, taken, delta) = (self.ring, &mut self.taken, &mut self.delta);
        let (in_keys, in_cold, in_audit) = (&mut self.keys, &mut self.cold, &mut self.audit);
        let in_held = &mut self.held;
        let write_records = move || {
            keys.sort_unstable_by_key(|(id, _)| *id);
            cold.sort_unstable_by_key(|(id, _)| *id);
            let unpack = |(id, bytes): &(KeyId, Span)| (*id, packed.of(*bytes));
            let keys: Vec<_> = keys.iter().map(unpack).collect();
            let unpack = |(id, cold): (KeyId, Cold)| (id, packed.of(cold.bytes), cold);
            let cold: Vec<_> = cold.into_iter().map(unpack).collect();
            let unpack = |(seq, bytes): &(u64, Span)| (*seq, entries.packed.of(*bytes));
            let audit: Vec<_> = entries.entries.iter().map(unpack).collect();
            let changed = &mut delta.keys;
            let note = |(id, bytes): &(KeyId, &[u8]), old: Replaced<'_>| {
                let old: Option<Tag> = old.map(|old| tag_of(old.value()));
                *taken += u64::from(old.is_some());
                changed.note(*id, Ok(old), Some(tag_of(bytes)));
            };
            in_keys.insert_in_order(&keys, |(id, bytes)| (id.raw(), *bytes), note)?;

            let note = |(id, _, new): &(KeyId, &[u8], Cold), old: Replaced<'_>| {
                // Nothing in memory depends on most.
                if old.is_some() || new.quota.is_some() || new.limits.is_some() {
                    let (quota, limits) = super::keys::of_replaced_cold(ring, *id, &old);
                    delta.quota_of.note(*id, quota, new.quota);
                    delta.limits_of.note(*id, limits, new.limits.clone());
                }
            };
            in_cold.insert_in_order(&cold, |(id, bytes, _)| (id.raw(), *bytes), note)?;
            in_audit.insert_in_order(&audit, |(seq, bytes)| (*seq, *bytes), |_, _| {})?;

            let unpack = |(place, row): &(Span, held::Row)| (packed.of(*place), *row);
            let mut held: Vec<_> = held.iter().map(unpack).collect();
            held.sort_unstable();
            in_held.insert_in_order(&held, |row| *row, |_, _| {})
        };
        pipe::beside(apart, write_by_owner, write_records)
    }

    /// Adds the next entry of the trail to some bytes, and says to which position it is to be
    /// written.
    pub(super) fn chain(
        &mut self,
        actor: Option<&str>,
        event: AuditEvent,
        bytes: &mut Vec<u8>,
    ) -> Result<u64, Error> {
        self.writing();
        let seq = self.next_seq();
        #[cfg(feature = "tracing")]
        {
            let told = crate::store::delta::Audited::of(seq, actor, &event);
            self.delta.waiting.audited.push(told);
        }
        let body = crate::model::audit::AuditBody {
            at: self.now,
            actor: actor.map(str::to_owned),
            event,
        };
        let previous = &self.state.audit_hash;
        let hash = read::encode_audit_onto(self.ring, previous, seq, &body, bytes)?;
        self.state.audit_seq = seq;
        self.state.audit_hash = hash;
        Ok(seq)
    }
}
