//! The usage history: every row can be read, and its bytes are what is said of them.

use redb::ReadableTable;

use super::Walk;
use crate::model::error::Error;
use crate::store::failure::OrStore;
use crate::store::tables::{META, Tagged, USAGE_DAYS, USAGE_HOURS, USAGE_OWNERS, unseal};
use crate::store::usage_history::{
    HistoryRow, HistoryState, META_HISTORY, NO_KEYSPACE, days_key, hours_key, owners_parts, state,
};

impl Walk<'_> {
    pub(super) fn usage_history(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        let ring = snapshot.ring();
        let mut found = HistoryState::default();
        for entry in snapshot.table(USAGE_HOURS)?.iter().or_store()? {
            let (key, row) = entry.or_store()?;
            let (number, hour) = key.value();
            let key = hours_key((number, hour));
            self.sound(unseal::<HistoryRow>(
                ring,
                Tagged::UsageHours,
                &key,
                row.value(),
            ))?;
            if number != NO_KEYSPACE && !self.known.contains_key(&number) {
                let record = format!("{number} {hour}");
                self.find("usage_hours", record, "its keyspace does not exist");
            }
            found.hours += (key.len() + row.value().len()) as u64;
        }
        for entry in snapshot.table(USAGE_DAYS)?.iter().or_store()? {
            let (key, row) = entry.or_store()?;
            let key = days_key(key.value());
            self.sound(unseal::<HistoryRow>(
                ring,
                Tagged::UsageDays,
                &key,
                row.value(),
            ))?;
            found.days += (key.len() + row.value().len()) as u64;
        }
        for entry in snapshot.table(USAGE_OWNERS)?.iter().or_store()? {
            let (key, row) = entry.or_store()?;
            let key = key.value();
            self.sound(unseal::<HistoryRow>(
                ring,
                Tagged::UsageOwners,
                key,
                row.value(),
            ))?;
            if owners_parts(key).is_none() {
                self.find("usage_owners", key.escape_ascii(), "it names no owner");
            }
            found.owners += (key.len() + row.value().len()) as u64;
        }
        let told = self.sound(state(&snapshot.table(META)?, ring))?;
        let told = told.filter(|told| {
            HistoryState {
                skipped: told.skipped,
                ..found
            } != *told
        });
        if let Some(told) = told {
            let problem = format!("the history is {found:?}, it says {told:?}");
            self.find("gatekey", META_HISTORY, problem);
        }
        Ok(())
    }
}
