//! The usage history: by keyspace and hour, by key and day, by owner and day.
//!
//! A flush adds to it in the transaction that writes the uses. Its bytes, keys and values
//! together, are counted with each row that comes and goes, so that they can be bounded
//! without a walk: see [`super::tx::usage_history`].

use redb::ReadableTable;

use crate::crypto::digest::Keyring;
use crate::model::error::Error;
use crate::model::id::{KeyId, Prefix};
use crate::model::outcome::OutcomeCounts;
use crate::model::owner::OwnerPath;
use crate::model::usage_history::UsageBin;
use crate::store::failure::OrStore;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{Bytes, META, Tagged, USAGE_DAYS, USAGE_HOURS, USAGE_OWNERS, unseal};
use crate::store::tx::uses::Hour;

/// The number of no keyspace: of what is malformed or unknown.
pub(super) const NO_KEYSPACE: u32 = u32::MAX;

/// In [`META`]: the [`HistoryState`].
pub(super) const META_HISTORY: &str = "usage_history";

/// A row of the history: what verifications came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HistoryRow(pub(crate) OutcomeCounts);

/// How many bytes the history has, by table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HistoryState {
    pub(crate) hours: u64,
    pub(crate) days: u64,
    pub(crate) owners: u64,
    /// How many rows there was no room for, ever.
    pub(crate) skipped: u64,
}

impl HistoryState {
    pub(crate) fn bytes(&self) -> u64 {
        self.hours
            .saturating_add(self.days)
            .saturating_add(self.owners)
    }
}

/// The bytes of a key that are in the tag of its row, which are those that the storage
/// engine has.
pub(super) fn hours_key((keyspace, hour): (u32, u32)) -> Vec<u8> {
    [keyspace.to_le_bytes(), hour.to_le_bytes()].concat()
}

pub(super) fn days_key((day, id): (u32, u64)) -> Vec<u8> {
    [&day.to_le_bytes()[..], &id.to_le_bytes()].concat()
}

/// The key of an owner's day: the days in their order.
pub(super) fn owners_key(day: u32, owner: &str) -> Vec<u8> {
    [&day.to_be_bytes()[..], owner.as_bytes()].concat()
}

/// The day and the owner of a key.
pub(super) fn owners_parts(key: &[u8]) -> Option<(u32, &str)> {
    let (day, owner) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*day), std::str::from_utf8(owner).ok()?))
}

pub(super) fn state(
    meta: &impl ReadableTable<&'static str, Bytes>,
    ring: &Keyring,
) -> Result<HistoryState, Error> {
    match meta.get(META_HISTORY).or_store()? {
        Some(bytes) => {
            let key = META_HISTORY.as_bytes();
            unseal(ring, Tagged::HistoryState, key, bytes.value())
        }
        None => Ok(HistoryState::default()),
    }
}

/// Reads a row; one that is not there counts nothing.
fn row<K: redb::Key + 'static>(
    table: &impl ReadableTable<K, Bytes>,
    ring: &Keyring,
    tagged: Tagged,
    key: K::SelfType<'_>,
    bytes: &[u8],
) -> Result<OutcomeCounts, Error> {
    match table.get(key).or_store()? {
        Some(row) => unseal::<HistoryRow>(ring, tagged, bytes, row.value()).map(|row| row.0),
        None => Ok(OutcomeCounts::default()),
    }
}

/// A span of days or hours, since the epoch; the second is not in it.
pub(crate) type Span = (u32, u32);

/// Of the days in a span, those between the first and the last that a table has.
fn days_between(first: Option<u32>, last: Option<u32>, (from, to): Span) -> std::ops::Range<u32> {
    match (first, last) {
        (Some(first), Some(last)) => from.max(first)..to.min(last.saturating_add(1)),
        _ => 0..0,
    }
}

fn bin(begins_at: Hour, counts: OutcomeCounts) -> UsageBin {
    UsageBin {
        begins_at: begins_at.begins_at(),
        counts,
    }
}

fn bin_of_day(day: u32, counts: OutcomeCounts) -> UsageBin {
    bin(Hour(day.saturating_mul(24)), counts)
}

impl Snapshot {
    /// The hours of a keyspace, or of what belongs to none.
    pub(crate) fn usage_hours(
        &self,
        keyspace: Option<Prefix>,
        (from, to): Span,
    ) -> Result<Vec<UsageBin>, Error> {
        let number = match keyspace {
            Some(prefix) => self.keyspace_number(prefix)?,
            None => NO_KEYSPACE,
        };
        let mut bins = Vec::new();
        let range = (number, from)..(number, to.max(from));
        for entry in
            ReadableTable::range::<(u32, u32)>(&self.table(USAGE_HOURS)?, range).or_store()?
        {
            let (key, row) = entry.or_store()?;
            let bytes = hours_key(key.value());
            let row: HistoryRow = unseal(self.ring(), Tagged::UsageHours, &bytes, row.value())?;
            bins.push(bin(Hour(key.value().1), row.0));
        }
        Ok(bins)
    }

    /// The days of a key.
    pub(crate) fn usage_days(&self, id: KeyId, (from, to): Span) -> Result<Vec<UsageBin>, Error> {
        let table = self.table(USAGE_DAYS)?;
        let days = {
            let first = ReadableTable::first(&table).or_store()?;
            let last = ReadableTable::last(&table).or_store()?;
            days_between(
                first.map(|(key, _)| key.value().0),
                last.map(|(key, _)| key.value().0),
                (from, to),
            )
        };
        let mut bins = Vec::new();
        for day in days {
            let key = (day, id.raw());
            let bytes = days_key(key);
            let counts = row(&table, self.ring(), Tagged::UsageDays, key, &bytes)?;
            if counts.total() > 0 {
                bins.push(bin_of_day(day, counts));
            }
        }
        Ok(bins)
    }

    /// The days of an owner and of all below it, together.
    pub(crate) fn usage_owner_days(
        &self,
        owner: &OwnerPath,
        (from, to): Span,
    ) -> Result<Vec<UsageBin>, Error> {
        let table = self.table(USAGE_OWNERS)?;
        let ring = self.ring();
        let day_of = |key: &[u8]| owners_parts(key).map_or(0, |(day, _)| day);
        let days = {
            let first = ReadableTable::first(&table).or_store()?;
            let last = ReadableTable::last(&table).or_store()?;
            days_between(
                first.map(|(key, _)| day_of(key.value())),
                last.map(|(key, _)| day_of(key.value())),
                (from, to),
            )
        };
        let mut bins = Vec::new();
        for day in days {
            let exact = owners_key(day, owner.as_str());
            let tagged = Tagged::UsageOwners;
            let mut counts = row(&table, ring, tagged, exact.as_slice(), &exact)?;
            // `0` follows on `/`.
            let below = owners_key(day, &format!("{owner}/"));
            let end = owners_key(day, &format!("{owner}0"));
            let range = below.as_slice()..end.as_slice();
            for entry in ReadableTable::range::<&[u8]>(&table, range).or_store()? {
                let (key, row) = entry.or_store()?;
                let row: HistoryRow = unseal(ring, tagged, key.value(), row.value())?;
                counts.add_all(&row.0);
            }
            if counts.total() > 0 {
                bins.push(bin_of_day(day, counts));
            }
        }
        Ok(bins)
    }

    /// How many bytes the history has.
    pub(crate) fn history_state(&self) -> Result<HistoryState, Error> {
        state(&self.table(META)?, self.ring())
    }
}
