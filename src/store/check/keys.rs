//! The keys, each with what follows from it and what the audit trail says of it.

use std::collections::BTreeMap;

use redb::{ReadOnlyTable, ReadableTable, ReadableTableMetadata};

use super::{AT_ONCE, Walk};
use crate::model::audit::{AuditEvent, Scope};
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::store::counts::{self, Counted};
use crate::store::failure::OrStore;
use crate::store::held;
use crate::store::life::Life;
use crate::store::pipe::in_turns;
use crate::store::read;
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::tables::{self, COLD, KEYS, META, NAMED, NAMED_OVER};

impl Walk<'_> {
    pub(super) fn keys(&mut self) -> Result<(), Error> {
        let mut digests: BTreeMap<u8, u64> = BTreeMap::new();
        let mut counted: BTreeMap<u32, Counted> = BTreeMap::new();
        let keys = self.snapshot.table(KEYS)?;
        let (snapshot, cold) = (self.snapshot, self.snapshot.table(COLD)?);
        let mut rows = keys.iter().or_store()?;
        // Another thread reads the records.
        let next = || {
            let mut some = Vec::new();
            while some.len() < AT_ONCE
                && let Some(row) = rows.next()
            {
                let (id, bytes) = row.or_store()?;
                let id = KeyId::from_raw(id.value());
                let read = View::open(bytes.value(), id, snapshot.ring())
                    .and_then(|(view, _)| KeyRecord::from_view(&view));
                let read = read.map(|key| (key, read::cold(&cold, snapshot.ring(), id)));
                some.push(read);
            }
            Ok((!some.is_empty()).then_some(some))
        };
        in_turns([next], keys.len().or_store()? > AT_ONCE as u64, |some| {
            let looked_at = some.len();
            for read in some {
                self.report.keys += 1;
                let Some((stands, cold)) = self.sound(read)? else {
                    continue;
                };
                if !matches!(stands.phase, Phase::Revoked { .. }) {
                    *digests.entry(stands.pepper).or_default() += 1;
                }
                let reach = self.state.reach;
                let counted = counted.entry(stands.keyspace).or_default();
                counted.count(&stands, reach.instant_of(stands.id), 1);
                let lags = &self.state.lags;
                let brought_up = (!lags.is_empty()).then(|| {
                    let mut key = stands.clone();
                    lags.bring_up(&mut key);
                    key
                });
                let key = brought_up.as_ref().unwrap_or(&stands);
                self.key(key, &stands, cold)?;
            }
            self.advance(looked_at)
        })?;
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

    /// Compares the stored counts of keys by state with what the walk has counted.
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

    /// Looks at a key as its readers see it, and at its rows in the indexes, which are of its
    /// record as it stands.
    fn key(
        &mut self,
        key: &KeyRecord,
        stands: &KeyRecord,
        cold: Result<ColdRecord, Error>,
    ) -> Result<(), Error> {
        let id = key.id;
        let ring = self.snapshot.ring();
        let is_revoked = matches!(key.phase, Phase::Revoked { .. });

        let index = tables::owner_index_key(&key.owner, key.keyspace, id);
        let standing = ReadableTable::get(&self.by_owner, index.as_slice())
            .or_store()?
            .map(|standing| standing.value());
        self.seen.by_owner += u64::from(standing.is_some());
        match standing {
            Some(NAMED_OVER) if !Life::from(key).is_over(self.now) => {
                self.find("by_owner", id, "it says that a good key is over");
            }
            Some(NAMED | NAMED_OVER) => {}
            _ => self.find("by_owner", id, "it does not name the key"),
        }
        let place = tables::held_key(key.keyspace, &key.owner, id);
        let row = ReadableTable::get(&self.held, place.as_slice())
            .or_store()?
            .map(|row| row.value());
        self.seen.held += u64::from(row.is_some());
        // One that is over leaves the index when it is met.
        let right = held::row_of(stands);
        if row.is_none() && !Life::from(key).is_over(self.now) {
            self.find("held", id, "it does not name a key that is held");
        }
        if row.is_some() && right.is_some() && row != right {
            self.find("held", id, "it does not agree with the key");
        }
        match has(&self.by_keyspace, (key.keyspace, id.raw()))? {
            true => self.seen.by_keyspace += 1,
            false => self.find("by_keyspace", id, "it does not name the key"),
        }
        if let Some(end) = stands.ends_at() {
            match has(&self.by_end, (end.unix_ms(), id.raw()))? {
                true => self.seen.by_end += 1,
                false => self.find("by_end", id, "it does not name the key"),
            }
        }
        for row in counts::turn_rows(stands) {
            match has(&self.by_turn, row)? {
                true => self.seen.by_turn += 1,
                false => self.find("by_turn", id, "it does not name the key"),
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
        self.cold(key, stands, cold)?;
        self.revision(key, is_revoked)
    }

    fn cold(
        &mut self,
        key: &KeyRecord,
        stands: &KeyRecord,
        read: Result<ColdRecord, Error>,
    ) -> Result<(), Error> {
        let ring = self.snapshot.ring();
        let Some(cold) = self.sound(read)? else {
            return self.imported(stands, None);
        };
        self.seen.cold += 1;
        self.imported(stands, cold.foreign_id.as_deref())?;
        if key.has_quota != cold.quota.is_some() {
            self.find("cold", key.id, "it does not agree with its key on a quota");
        }
        if key.has_own_limits != cold.limits.is_some() {
            let problem = "it does not agree with its key on limits of the key's own";
            self.find("cold", key.id, problem);
        }
        if let Some(number) = cold.quota {
            *self.sharing.entry(number).or_insert(0) += 1;
        }
        let is_over = Life::from(key).is_over(self.now);
        for (relative, is_successor) in [(cold.successor, true), (cold.predecessor, false)] {
            let Some(relative) = relative else { continue };
            // It may be purged; if it is corrupt, another step finds it.
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
        // A key that was rotated before there were lineages has its own id for one.
        if let Some(old) = cold.predecessor.filter(|_| key.lineage != key.id)
            && let Ok(Some(old)) = read::key(&self.keys, ring, old)
            && key.lineage != old.lineage
        {
            let problem = "its lineage is not that of the key that was rotated to it";
            self.find("keys", key.id, problem);
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
            .levels()
            .filter_map(|path| self.reached_owner.get(path))
            .max()
            .copied();
        let revoked = key
            .owner
            .levels()
            .filter_map(|path| self.revoked_owner.get(path))
            .chain(self.revoked_keyspace.get(&keyspace.prefix))
            // One whose grace was over then is as it was, also where time was set back since.
            .filter(|(_, at)| Life::from(key).revoked(*at).is_none())
            .map(|(seq, _)| *seq)
            .max();
        let reached = reached.max(revoked);
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
            // That entry cannot be read.
            return Ok(());
        }
        let entry = match key.revision > self.state.audit_floor_seq {
            // The walk over the trail has followed its links.
            true if key.revision <= self.state.audit_seq => {
                read::linked_entry(&self.audit, key.revision)
            }
            true => read::audit_entry(&self.audit, ring, &self.state, key.revision),
            false if matches!(key.phase, Phase::Revoked { .. }) => {
                read::kept(&self.kept, ring, key.revision)
            }
            // Its entry was trimmed away.
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
}

/// Whether an index has a row.
fn has<K: redb::Key + 'static>(
    index: &ReadOnlyTable<K, ()>,
    row: K::SelfType<'_>,
) -> Result<bool, Error> {
    Ok(ReadableTable::get(index, row).or_store()?.is_some())
}
