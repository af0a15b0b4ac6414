//! What a transaction reads and puts right that sets time back.

use redb::ReadableTable;

use super::Tx;
use crate::model::audit::AuditEntry;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::quota::QuotaRecord;
use crate::store::read;
use crate::store::tables::{self, Tagged};

impl Tx<'_> {
    /// Makes another instant the present, for the rest of the transaction and, once it
    /// is committed, for all.
    pub(crate) fn set_present(&mut self, to: Timestamp) {
        self.writing();
        self.now = to;
        self.delta.at = to;
        self.delta.sets_time_back = true;
    }

    /// The audit entries at the end of the trail that were written after an instant,
    /// the oldest first. The instants of older ones are not looked at.
    pub(crate) fn entries_since(&self, instant: Timestamp) -> Result<Vec<AuditEntry>, Error> {
        let mut entries = Vec::new();
        let first = self.state.audit_floor_seq + 1;
        for seq in (first..=self.state.audit_seq).rev() {
            let entry = match read::audit_entry(&self.audit, self.ring, &self.state, seq) {
                // What it says cannot be known; those before it can.
                Err(Error::Corrupted(_)) => continue,
                entry => entry?,
            };
            if entry.at <= instant {
                break;
            }
            entries.push(entry);
        }
        entries.reverse();
        Ok(entries)
    }

    /// The keys that end after one instant, and at the latest at another.
    pub(crate) fn ids_ending_within(
        &self,
        after: Timestamp,
        last: Timestamp,
    ) -> Result<Vec<KeyId>, Error> {
        read::ids_ending_within(&self.by_end, after, last)
    }

    /// Lets no quota wait for its refill longer than it would if it had been made at
    /// the present.
    pub(crate) fn bring_refills_near(&mut self) -> Result<(), Error> {
        let mut late: Vec<(u64, QuotaRecord)> = Vec::new();
        for entry in self.quotas.iter().or_store()? {
            let (number, bytes) = entry.or_store()?;
            let key = number.value().to_le_bytes();
            let read = tables::unseal(self.ring, Tagged::Quota, &key, bytes.value());
            let record: QuotaRecord = match read {
                // Of no other's concern.
                Err(Error::Corrupted(_)) => continue,
                record => record?,
            };
            if let Some(next) = record.quota.refill().map(|refill| refill.after(self.now))
                && record.refills_at > next
            {
                let refills_at = next;
                late.push((
                    number.value(),
                    QuotaRecord {
                        refills_at,
                        given_until: None,
                        ..record
                    },
                ));
            }
        }
        for (number, record) in late {
            self.put_quota(number, &record)?;
        }
        Ok(())
    }
}
