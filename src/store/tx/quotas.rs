//! What is left of quotas, and how many keys share each.

use super::{Replaced, Tx};
use crate::crypto::digest::Keyring;
use crate::model::error::Error;
use crate::model::quota::Quota;
use crate::store::failure::OrStore;
use crate::store::quota::{QuotaEvent, QuotaRecord};
use crate::store::read;
use crate::store::tables::{self, Tagged};

impl Tx<'_> {
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
        let change = self.delta.quotas.get(&number);
        if change.is_some_and(|change| change.old.is_none()) {
            // This transaction made it: the delta says nothing of it.
            self.note_slice(QuotaEvent::Changed(number));
        }
        Ok(())
    }

    /// Makes a quota for a key, under the number of the mutation's audit entry.
    pub(crate) fn new_quota(&mut self, quota: Quota) -> Result<u64, Error> {
        self.new_quota_at(self.next_seq(), quota)
    }

    /// The same of a change whose audit entry will have a position.
    pub(crate) fn new_quota_at(&mut self, number: u64, quota: Quota) -> Result<u64, Error> {
        let record = QuotaRecord::new(quota, 1, number, self.clock);
        self.put_quota(number, &record)?;
        Ok(number)
    }

    /// Puts another quota in the place of one, for all who share it. What is in
    /// memory of the old one becomes void.
    pub(crate) fn replace_quota(&mut self, number: u64, quota: Quota) -> Result<(), Error> {
        let keys = self.quota(number)?.keys;
        let record = QuotaRecord::new(quota, keys, self.next_seq(), self.clock);
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
