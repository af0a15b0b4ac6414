//! The networks that keys are used from, where the options have them noted.
//!
//! A flush writes them, as it does the uses; see [`super::tx::usage_networks`] for which
//! are dropped.

use redb::ReadableTable;

use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::used_from::{DAYS_KEPT, SourceNet};
use crate::store::failure::OrStore;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{Bytes, Tagged, USAGE_NETWORKS, unseal};

/// A network that a key was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedNet {
    pub(crate) net: SourceNet,
    /// When it was first.
    pub(crate) first: Timestamp,
    /// The last day on which it was, since the epoch.
    pub(crate) last_day: u32,
}

impl UsedNet {
    /// Whether it is not kept any more.
    pub(crate) fn is_old(&self, today: u32) -> bool {
        self.last_day.saturating_add(DAYS_KEPT) < today
    }
}

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworksRecord {
    /// When its first network was noted, of those that are kept and of those that were
    /// dropped while there were others.
    pub(crate) since: Timestamp,
    /// In the order of what is dropped last.
    pub(crate) nets: Vec<UsedNet>,
}

impl Default for NetworksRecord {
    fn default() -> Self {
        Self {
            since: Timestamp::MIN,
            nets: Vec::new(),
        }
    }
}

/// The networks of a key; none, where none was noted.
pub(crate) fn networks(
    table: &impl ReadableTable<u64, Bytes>,
    ring: &Keyring,
    id: KeyId,
) -> Result<NetworksRecord, Error> {
    match table.get(id.raw()).or_store()? {
        Some(record) => {
            let key = id.raw().to_le_bytes();
            unseal(ring, Tagged::UsageNetworks, &key, record.value())
        }
        None => Ok(NetworksRecord::default()),
    }
}

/// Keys of which some networks are too old to be kept, and the number from which to look on.
pub(crate) type Outdated = (Vec<KeyId>, Option<u64>);

impl Snapshot {
    /// The networks of a key that are not too old.
    pub(crate) fn used_networks(&self, id: KeyId, today: u32) -> Result<NetworksRecord, Error> {
        let mut record = networks(&self.table(USAGE_NETWORKS)?, self.ring(), id)?;
        record.nets.retain(|net| !net.is_old(today));
        Ok(record)
    }

    /// Looks at so many records from a number on.
    pub(crate) fn outdated_networks(
        &self,
        from: u64,
        today: u32,
        records: usize,
    ) -> Result<Outdated, Error> {
        let table = self.table(USAGE_NETWORKS)?;
        let mut outdated = Vec::new();
        let mut rows = ReadableTable::range::<u64>(&table, from..).or_store()?;
        for row in rows.by_ref().take(records) {
            let id = KeyId::from_raw(row.or_store()?.0.value());
            // A check tells of one that is damaged.
            let read = Error::or_damaged(networks(&table, self.ring(), id))?;
            if read.is_ok_and(|record| record.nets.iter().any(|net| net.is_old(today))) {
                outdated.push(id);
            }
        }
        let next = rows.next().transpose().or_store()?;
        Ok((outdated, next.map(|(id, _)| id.value())))
    }
}
