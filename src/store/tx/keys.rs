//! Keys: their hot and cold records, and the indexes that follow from them.

use redb::ReadableTable;

use super::{Replaced, Tx};
use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, NotFound};
use crate::model::id::KeyId;
use crate::model::key::{ColdRecord, Key, Revoked};
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::owner::OwnerPath;
use crate::model::quota::QuotaStatus;
use crate::store::delta::tag_of;
use crate::store::failure::OrStore;
use crate::store::read;
use crate::store::record::{KeyRecord, Phase};
use crate::store::tables::{self, Tagged};

impl Tx<'_> {
    pub(crate) fn find_key(&self, id: KeyId) -> Result<Option<KeyRecord>, Error> {
        let mut found = read::key(&self.keys, self.ring, id);
        match &mut found {
            Ok(Some(key)) => self.state.lags.bring_up(key),
            Ok(None) | Err(Error::Corrupted(_)) => self.unreadable.borrow_mut().push(id),
            Err(_) => {}
        }
        found
    }

    /// The record of a key as it stands in the file, where it may be behind its owner: what
    /// the counts and indexes are of. `None`: it is not.
    pub(super) fn as_it_stands(&self, key: &KeyRecord) -> Result<Option<KeyRecord>, Error> {
        let owner = key.owner.as_str().as_bytes();
        match self.state.lags.covers(owner, key.keyspace) {
            true => read::key(&self.keys, self.ring, key.id),
            false => Ok(None),
        }
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

    /// The highest id that a key has; without a key, the lowest that there can be.
    pub(crate) fn newest_id(&self) -> Result<KeyId, Error> {
        let newest = self.keys.last().or_store()?;
        Ok(KeyId::from_raw(newest.map_or(0, |(id, _)| id.value())))
    }

    pub(crate) fn cold(&self, id: KeyId) -> Result<ColdRecord, Error> {
        read::cold(&self.cold, self.ring, id)
    }

    pub(crate) fn put_cold(&mut self, id: KeyId, cold: &ColdRecord) -> Result<(), Error> {
        self.writing();
        let bytes = tables::seal(self.ring, Tagged::Cold, &id.raw().to_le_bytes(), cold)?;
        let old = self.cold.insert(id.raw(), bytes.as_slice()).or_store()?;
        let (quota, limits) = of_replaced_cold(self.ring, id, &old);
        self.delta.quota_of.note(id, quota, cold.quota);
        self.delta.limits_of.note(id, limits, cold.limits.clone());
        Ok(())
    }

    pub(super) fn remove_cold(&mut self, id: KeyId) -> Result<(), Error> {
        self.writing();
        let old = self.cold.remove(id.raw()).or_store()?;
        let (quota, limits) = of_replaced_cold(self.ring, id, &old);
        self.delta.quota_of.note(id, quota, None);
        self.delta.limits_of.note(id, limits, None);
        Ok(())
    }

    pub(super) fn remove_hot(&mut self, id: KeyId) -> Result<(), Error> {
        self.writing();
        let old = self.keys.remove(id.raw()).or_store()?;
        let old = old.map(|old| tag_of(old.value()));
        self.taken += 1;
        self.delta.keys.note(id, Ok(old), None);
        Ok(())
    }

    /// Writes a changed key, and moves it in the indexes where they differ.
    pub(crate) fn replace_key(&mut self, old: &KeyRecord, new: &KeyRecord) -> Result<(), Error> {
        let stands = self.as_it_stands(old)?;
        self.rewrite_key(stands.as_ref().unwrap_or(old), new)
    }

    /// The same, of a record as it stands in the file.
    pub(super) fn rewrite_key(&mut self, old: &KeyRecord, new: &KeyRecord) -> Result<(), Error> {
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
        self.move_held(Some(old), Some(new))?;
        self.move_turns(Some(old), Some(new))?;
        self.move_foreign(Some(old), Some(new))?;
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
        self.taken += u64::from(old.is_some());
        self.delta.keys.note(key.id, Ok(old), Some(tag_of(&bytes)));
        Ok(())
    }

    /// Removes every trace of a key but its audit entries.
    pub(crate) fn remove_key(&mut self, key: &KeyRecord) -> Result<(), Error> {
        // Where that is damaged, the quota stays until a repair.
        let quota = match key.has_quota {
            true => Error::or_damaged(self.cold(key.id))?.map_or(None, |cold| cold.quota),
            false => None,
        };
        // Likewise.
        let foreign_id = match key.scheme.is_foreign() {
            true => Error::or_damaged(self.cold(key.id))?.map_or(None, |cold| cold.foreign_id),
            false => None,
        };
        self.writing();
        let stands = self.as_it_stands(key)?;
        let key = stands.as_ref().unwrap_or(key);
        self.recount(Some(key), None)?;
        self.move_foreign(Some(key), None)?;
        if let Some(foreign_id) = foreign_id {
            self.remove_foreign_id(key, &foreign_id)?;
        }
        self.remove_hot(key.id)?;
        self.remove_cold(key.id)?;
        self.usage.remove(key.id.raw()).or_store()?;
        self.remove_networks(key.id)?;
        if let Some(number) = quota {
            self.leave_quota(number)?;
        }
        let index = tables::owner_index_key(&key.owner, key.keyspace, key.id);
        self.by_owner.remove(index.as_slice()).or_store()?;
        self.move_held(Some(key), None)?;
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
            &self.held,
            (&self.keys, self.ring, &self.state.lags),
            self.now,
            keyspace,
            |owner| found = found.take().or(Some(owner)),
            |id| damaged.push(id),
        )?;
        Ok((found, damaged))
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
        let key = key.clone();
        Ok(read::assemble(
            key, cold, &keyspace, revoked, usage, quota, self.now,
        ))
    }

    /// As [`describe`](Self::describe), for a key that is just issued.
    pub(crate) fn describe_new(
        &self,
        key: KeyRecord,
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

/// What something in memory depends on of a cold record that was replaced: the number of
/// the quota, and the limits of the key's own.
#[allow(clippy::type_complexity)]
pub(super) fn of_replaced_cold(
    ring: &Keyring,
    id: KeyId,
    old: &Replaced<'_>,
) -> (
    Result<Option<u64>, Error>,
    Result<Option<Vec<Limit>>, Error>,
) {
    cold_parts(ring, id, old.as_ref().map(redb::AccessGuard::value))
}

#[allow(clippy::type_complexity)]
pub(super) fn cold_parts(
    ring: &Keyring,
    id: KeyId,
    old: Option<&[u8]>,
) -> (
    Result<Option<u64>, Error>,
    Result<Option<Vec<Limit>>, Error>,
) {
    let Some(old) = old else {
        return (Ok(None), Ok(None));
    };
    let key = id.raw().to_le_bytes();
    match tables::unseal::<ColdRecord>(ring, Tagged::Cold, &key, old) {
        Ok(old) => (Ok(old.quota), Ok(old.limits)),
        Err(error) => (Err(error.clone()), Err(error)),
    }
}
