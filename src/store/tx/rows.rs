//! The rows of new keys, and the entries of their issue, which are gathered and then written
//! table by table, each in the order of its keys.

use super::{Replaced, Tx};
use crate::crypto::digest::Tag;
use crate::model::audit::AuditEvent;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::limit::Limit;
use crate::store::delta::tag_of;
use crate::store::held;
use crate::store::record::KeyRecord;
use crate::store::tables::{self, NAMED, Tagged};
use crate::store::{counts, read};

/// What is gathered. Nothing of it can be read before [`Tx::write_rows`].
#[derive(Default)]
pub(crate) struct NewRows {
    keys: Vec<(KeyId, Vec<u8>)>,
    cold: Vec<(KeyId, Cold)>,
    by_owner: Vec<(Vec<u8>, Held)>,
    by_keyspace: Vec<((u32, u64), ())>,
    by_end: Vec<((u64, u64), ())>,
    by_turn: Vec<((u64, u64), ())>,
    audit: Vec<(u64, Vec<u8>)>,
}

/// The row in the index of held keys, if there is one.
type Held = Option<(Vec<u8>, held::Row)>;

/// A cold record, and what something in memory depends on of it.
struct Cold {
    bytes: Vec<u8>,
    quota: Option<u64>,
    limits: Option<Vec<Limit>>,
}

impl Tx<'_> {
    /// Writes a new key.
    pub(crate) fn insert_key(&mut self, key: &KeyRecord, cold: &ColdRecord) -> Result<(), Error> {
        let mut rows = NewRows::default();
        self.gather_key(&mut rows, key, cold)?;
        self.write_rows(rows)
    }

    /// Gathers the rows of a new key. What finds imported keys is written at once.
    pub(crate) fn gather_key(
        &mut self,
        rows: &mut NewRows,
        key: &KeyRecord,
        cold: &ColdRecord,
    ) -> Result<(), Error> {
        self.writing();
        self.recount(None, Some(key))?;
        let id = key.id.raw();
        rows.keys.push((key.id, key.encode(self.ring)?));
        let bytes = tables::seal(self.ring, Tagged::Cold, &id.to_le_bytes(), cold)?;
        let (quota, limits) = (cold.quota, cold.limits.clone());
        let cold_row = Cold {
            bytes,
            quota,
            limits,
        };
        rows.cold.push((key.id, cold_row));
        let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
        let held = held::row_of(key).map(|row| {
            let place = tables::held_key(key.keyspace, &key.owner, key.id);
            (place, row)
        });
        rows.by_owner.push((index, held));
        rows.by_keyspace.push(((key.keyspace, id), ()));
        let end = key.ends_at().map(|end| ((end.unix_ms(), id), ()));
        rows.by_end.extend(end);
        (rows.by_turn).extend(counts::turn_rows(key).map(|row| (row, ())));
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
        rows: &mut NewRows,
        actor: Option<&str>,
        event: AuditEvent,
    ) -> Result<(), Error> {
        rows.audit.push(self.chain(actor, event)?);
        Ok(())
    }

    /// Writes what was gathered.
    pub(crate) fn write_rows(&mut self, rows: NewRows) -> Result<(), Error> {
        let NewRows {
            mut keys,
            mut cold,
            mut by_owner,
            mut by_keyspace,
            mut by_end,
            mut by_turn,
            audit,
        } = rows;
        keys.sort_unstable();
        cold.sort_unstable_by_key(|(id, _)| *id);
        by_owner.sort_unstable();
        // In one keyspace they are in order now.
        let held = by_owner.iter_mut().filter_map(|(_, held)| held.take());
        let mut held: Vec<_> = held.collect();
        held.sort_unstable();
        by_keyspace.sort_unstable();
        by_end.sort_unstable();
        by_turn.sort_unstable();

        let (taken, changed) = (&mut self.taken, &mut self.delta.keys);
        let mut note = |(id, bytes): &(KeyId, Vec<u8>), old: Replaced<'_>| {
            let old: Option<Tag> = old.map(|old| tag_of(old.value()));
            *taken += u64::from(old.is_some());
            changed.note(*id, Ok(old), Some(tag_of(bytes)));
        };
        self.keys
            .insert_in_order(&keys, |(id, bytes)| (id.raw(), bytes.as_slice()), &mut note)?;

        let (ring, delta) = (self.ring, &mut self.delta);
        let mut note = |(id, new): &(KeyId, Cold), old: Replaced<'_>| {
            // Nothing in memory depends on most.
            if old.is_some() || new.quota.is_some() || new.limits.is_some() {
                let (quota, limits) = super::keys::of_replaced_cold(ring, *id, &old);
                delta.quota_of.note(*id, quota, new.quota);
                delta.limits_of.note(*id, limits, new.limits.clone());
            }
        };
        self.cold.insert_in_order(
            &cold,
            |(id, new)| (id.raw(), new.bytes.as_slice()),
            &mut note,
        )?;

        (self.by_owner).insert_in_order(
            &by_owner,
            |(row, _)| (row.as_slice(), NAMED),
            |_, _| {},
        )?;
        (self.held).insert_in_order(&held, |(place, row)| (place.as_slice(), *row), |_, _| {})?;
        (self.by_keyspace).insert_in_order(&by_keyspace, |row| *row, |_, _| {})?;
        (self.by_end).insert_in_order(&by_end, |row| *row, |_, _| {})?;
        (self.by_turn).insert_in_order(&by_turn, |row| *row, |_, _| {})?;
        (self.audit).insert_in_order(&audit, |(seq, bytes)| (*seq, bytes.as_slice()), |_, _| {})
    }

    /// Encodes the next entry of the trail, which is to be written to its position.
    pub(super) fn chain(
        &mut self,
        actor: Option<&str>,
        event: AuditEvent,
    ) -> Result<(u64, Vec<u8>), Error> {
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
        let (bytes, hash) = read::encode_audit(self.ring, &self.state.audit_hash, seq, &body)?;
        self.state.audit_seq = seq;
        self.state.audit_hash = hash;
        Ok((seq, bytes))
    }
}
