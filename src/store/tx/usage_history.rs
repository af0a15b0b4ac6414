//! Adding to the usage history, and keeping it within its age and its bytes.
//!
//! Where a row would take the history over its bytes, the oldest rows go: days of keys
//! first, then days of owners, then hours of keyspaces. Where only those of the present day
//! are left, further keys and owners get no row, and are counted.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::Tx;
use super::uses::{Hour, Note};
use crate::crypto::digest::Keyring;
use crate::model::error::Error;
use crate::model::outcome::OutcomeCounts;
use crate::model::usage_history::{DAYS_KEPT, HOURS_KEPT};
use crate::store::failure::OrStore;
use crate::store::journal::Noted;
use crate::store::tables::{self, Bytes, Tagged, USAGE_DAYS, USAGE_HOURS, USAGE_OWNERS};
use crate::store::usage_history::{
    HistoryRow, HistoryState, META_HISTORY, NO_KEYSPACE, days_key, hours_key, owners_key,
    owners_parts, state,
};

/// How many rows one transaction removes of each table, at most.
const REMOVED_MAX: usize = 16_384;

/// What a flush adds, by row.
#[derive(Default)]
struct Added {
    hours: BTreeMap<(u32, u32), OutcomeCounts>,
    days: BTreeMap<(u32, u64), OutcomeCounts>,
    owners: BTreeMap<(u32, String), OutcomeCounts>,
}

struct History<'a, 't> {
    ring: &'a Keyring,
    hours: Noted<'t, (u32, u32), Bytes>,
    days: Noted<'t, (u32, u64), Bytes>,
    owners: Noted<'t, Bytes, Bytes>,
    state: HistoryState,
    bytes_max: u64,
    /// The present day.
    today: u32,
}

impl Tx<'_> {
    /// Adds notes to the history. What is of a key that is gone is left out.
    pub(super) fn add_history(&mut self, notes: &[Note], bytes_max: u64) -> Result<(), Error> {
        let mut added = Added::default();
        for note in notes {
            // An instant that is yet to come is from before time was set back.
            let hour = Hour::of(note.used.last_used.min(self.now));
            let (outcome, count) = (note.outcome, note.used.count);
            let keyspace = match note.key {
                None => NO_KEYSPACE,
                Some(id) => {
                    let Ok(Some(key)) = Error::or_damaged(self.find_key(id))? else {
                        continue;
                    };
                    let of_key = added.days.entry((hour.day(), id.raw())).or_default();
                    of_key.add(outcome, count);
                    let owner = key.owner.as_str().to_owned();
                    let of_owner = added.owners.entry((hour.day(), owner)).or_default();
                    of_owner.add(outcome, count);
                    key.keyspace
                }
            };
            let of_keyspace = added.hours.entry((keyspace, hour.0)).or_default();
            of_keyspace.add(outcome, count);
        }
        let before = match state(&self.meta, self.ring) {
            // Counted anew by a repair; until then, from nothing.
            Err(Error::Corrupted(_)) => HistoryState::default(),
            state => state?,
        };
        self.writing();
        let mut history = History {
            ring: self.ring,
            hours: self.open_table(USAGE_HOURS)?,
            days: self.open_table(USAGE_DAYS)?,
            owners: self.open_table(USAGE_OWNERS)?,
            state: before,
            bytes_max,
            today: Hour::of(self.now).day(),
        };
        history.forget_old(Hour::of(self.now))?;
        history.add(&added)?;
        let state = history.state;
        drop(history);
        self.put_history_state(&state)
    }

    pub(super) fn put_history_state(&mut self, state: &HistoryState) -> Result<(), Error> {
        let key = META_HISTORY.as_bytes();
        let sealed = tables::seal(self.ring, Tagged::HistoryState, key, state)?;
        self.put_meta(META_HISTORY, &sealed)
    }
}

/// Adds to a row, and gives how many bytes the row had and has. `None`: it is not there,
/// and there is no room for it.
fn add_to<K: redb::Key + 'static>(
    table: &mut Noted<'_, K, Bytes>,
    ring: &Keyring,
    (tagged, key): (Tagged, &[u8]),
    stored_key: &K::SelfType<'_>,
    added: &OutcomeCounts,
    has_room: bool,
) -> Result<Option<(u64, u64)>, Error> {
    let of = |value: &[u8]| (key.len() + value.len()) as u64;
    let (mut row, old) = match table.get(stored_key).or_store()? {
        Some(old) => {
            // One that is damaged begins anew.
            let read =
                Error::or_damaged(tables::unseal::<HistoryRow>(ring, tagged, key, old.value()))?;
            (read.unwrap_or_default(), of(old.value()))
        }
        None if has_room => (HistoryRow::default(), 0),
        None => return Ok(None),
    };
    row.0.add_all(added);
    let sealed = tables::seal(ring, tagged, key, &row)?;
    table.insert(stored_key, sealed.as_slice()).or_store()?;
    Ok(Some((old, of(&sealed))))
}

fn count(bytes: &mut u64, (old, new): (u64, u64)) {
    *bytes = bytes.saturating_sub(old).saturating_add(new);
}

impl History<'_, '_> {
    fn add(&mut self, added: &Added) -> Result<(), Error> {
        for (key, counts) in &added.hours {
            self.make_room()?;
            let bytes = hours_key(*key);
            let tagged = (Tagged::UsageHours, bytes.as_slice());
            let done = add_to(&mut self.hours, self.ring, tagged, key, counts, true)?;
            done.into_iter()
                .for_each(|done| count(&mut self.state.hours, done));
        }
        for ((day, owner), counts) in &added.owners {
            let has_room = self.make_room()?;
            let bytes = owners_key(*day, owner);
            let tagged = (Tagged::UsageOwners, bytes.as_slice());
            let key = &bytes.as_slice();
            match add_to(&mut self.owners, self.ring, tagged, key, counts, has_room)? {
                Some(done) => count(&mut self.state.owners, done),
                None => self.state.skipped += 1,
            }
        }
        for (key, counts) in &added.days {
            let has_room = self.make_room()?;
            let bytes = days_key(*key);
            let tagged = (Tagged::UsageDays, bytes.as_slice());
            match add_to(&mut self.days, self.ring, tagged, key, counts, has_room)? {
                Some(done) => count(&mut self.state.days, done),
                None => self.state.skipped += 1,
            }
        }
        Ok(())
    }

    /// Removes what is older than it is kept.
    fn forget_old(&mut self, now: Hour) -> Result<(), Error> {
        let day = self.today.saturating_sub(DAYS_KEPT);
        for _ in 0..REMOVED_MAX {
            if !self.pop_day(day)? {
                break;
            }
        }
        for _ in 0..REMOVED_MAX {
            if !self.pop_owner(day)? {
                break;
            }
        }
        let hour = now.0.saturating_sub(HOURS_KEPT);
        for _ in 0..REMOVED_MAX {
            if !self.pop_hour(hour)? {
                break;
            }
        }
        Ok(())
    }

    /// Removes the oldest rows while the history is full, and says whether it has room then.
    fn make_room(&mut self) -> Result<bool, Error> {
        while self.state.bytes() >= self.bytes_max {
            let is_removed = self.pop_day(self.today)?
                || self.pop_owner(self.today)?
                || self.pop_hour(self.today.saturating_mul(24))?;
            if !is_removed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the oldest row of a key, if it is of before a day.
    fn pop_day(&mut self, before: u32) -> Result<bool, Error> {
        let first = self.days.first().or_store()?.map(|(key, _)| key.value());
        let Some(first) = first.filter(|(day, _)| *day < before) else {
            return Ok(false);
        };
        let removed = self.days.remove(first).or_store()?;
        let len = removed.map_or(0, |removed| removed.value().len()) + days_key(first).len();
        count(&mut self.state.days, (len as u64, 0));
        Ok(true)
    }

    /// The same, of an owner.
    fn pop_owner(&mut self, before: u32) -> Result<bool, Error> {
        let first = self.owners.first().or_store()?;
        let first = first.map(|(key, _)| key.value().to_vec());
        let is_before = |key: &Vec<u8>| owners_parts(key).is_none_or(|(day, _)| day < before);
        let Some(first) = first.filter(is_before) else {
            return Ok(false);
        };
        let removed = self.owners.remove(first.as_slice()).or_store()?;
        let len = removed.map_or(0, |removed| removed.value().len()) + first.len();
        count(&mut self.state.owners, (len as u64, 0));
        Ok(true)
    }

    /// Removes the oldest hour of the first keyspace that has one of before an hour.
    fn pop_hour(&mut self, before: u32) -> Result<bool, Error> {
        let mut from = (0, 0);
        loop {
            let next = self.hours.range(from..).or_store()?.next();
            let Some((keyspace, hour)) = next.transpose().or_store()?.map(|(key, _)| key.value())
            else {
                return Ok(false);
            };
            if hour < before {
                let key = (keyspace, hour);
                let removed = self.hours.remove(key).or_store()?;
                let len = removed.map_or(0, |removed| removed.value().len()) + hours_key(key).len();
                count(&mut self.state.hours, (len as u64, 0));
                return Ok(true);
            }
            let Some(next) = keyspace.checked_add(1) else {
                return Ok(false);
            };
            from = (next, 0);
        }
    }
}

impl Tx<'_> {
    /// Removes rows that cannot be read, counts the bytes again, and says what it did.
    pub(super) fn repair_history(&mut self) -> Result<Vec<(&'static str, String)>, Error> {
        let mut done = Vec::new();
        let mut state = HistoryState {
            skipped: Error::or_damaged(state(&self.meta, self.ring))?.map_or(0, |it| it.skipped),
            ..HistoryState::default()
        };
        let ring = self.ring;
        let mut hours = self.open_table(USAGE_HOURS)?;
        let tag = Tagged::UsageHours;
        for key in sift(
            &hours,
            ring,
            tag,
            |key| (*key, hours_key(*key)),
            &mut state.hours,
        )? {
            hours.remove(key).or_store()?;
            done.push(("usage_hours", format!("{} {}", key.0, key.1)));
        }
        let mut days = self.open_table(USAGE_DAYS)?;
        let tag = Tagged::UsageDays;
        for key in sift(
            &days,
            ring,
            tag,
            |key| (*key, days_key(*key)),
            &mut state.days,
        )? {
            days.remove(key).or_store()?;
            done.push(("usage_days", format!("{} {}", key.0, key.1)));
        }
        let mut owners = self.open_table(USAGE_OWNERS)?;
        let tag = Tagged::UsageOwners;
        let own = |key: &&[u8]| (key.to_vec(), key.to_vec());
        for key in sift(&owners, ring, tag, own, &mut state.owners)? {
            owners.remove(key.as_slice()).or_store()?;
            done.push(("usage_owners", key.escape_ascii().to_string()));
        }
        drop((hours, days, owners));
        let kept = Error::or_damaged(self::state(&self.meta, self.ring))?;
        if kept.ok() != Some(state) {
            self.put_history_state(&state)?;
            done.push(("gatekey", META_HISTORY.to_owned()));
        }
        if !done.is_empty() {
            self.writing();
        }
        Ok(done)
    }
}

/// The keys of the rows that cannot be read. Counts the bytes of the others.
fn sift<K: redb::Key + 'static, O>(
    table: &impl ReadableTable<K, Bytes>,
    ring: &Keyring,
    tagged: Tagged,
    key_of: impl Fn(&K::SelfType<'_>) -> (O, Vec<u8>),
    bytes: &mut u64,
) -> Result<Vec<O>, Error> {
    let mut damaged = Vec::new();
    for entry in table.iter().or_store()? {
        let (key, row) = entry.or_store()?;
        let (owned, key) = key_of(&key.value());
        let read = tables::unseal::<HistoryRow>(ring, tagged, &key, row.value());
        match Error::or_damaged(read)? {
            Ok(_) => *bytes += (key.len() + row.value().len()) as u64,
            Err(_) => damaged.push(owned),
        }
    }
    Ok(damaged)
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use super::*;
    use crate::model::outcome::Outcome;
    use crate::{Engine, NewKey, NewKeyspace, Timestamp};

    #[test]
    fn damaged_rows_and_wrong_bytes_are_found_and_repaired() {
        let engine = Engine::open_in_memory().unwrap();
        engine
            .create_keyspace(NewKeyspace::new("acme").unwrap())
            .unwrap();
        let issued = engine.issue(NewKey::new("acme", "a").unwrap()).unwrap();
        let _ = engine.verify(issued.token.expose()).unwrap();
        engine.flush().unwrap();
        assert!(engine.check().unwrap().is_sound());
        engine
            .change(|tx, _| {
                tx.writing();
                let mut days = tx.open_table(USAGE_DAYS)?;
                days.insert((7, 8), &b"a forged row"[..]).or_store()?;
                let mut owners = tx.open_table(USAGE_OWNERS)?;
                let key = owners_key(7, "a");
                // A good row of another place.
                let row = HistoryRow([(Outcome::Granted, 5)].into_iter().collect());
                let elsewhere = owners_key(8, "a");
                let sealed = tables::seal(tx.ring, Tagged::UsageOwners, &elsewhere, &row)?;
                owners
                    .insert(key.as_slice(), sealed.as_slice())
                    .or_store()?;
                let mut hours = tx.open_table(USAGE_HOURS)?;
                hours.insert((0, 7), &b""[..]).or_store()?;
                Ok(())
            })
            .unwrap();
        let report = engine.check().unwrap();
        let found: Vec<_> = report.findings.iter().map(|found| found.table).collect();
        assert_eq!(
            found,
            ["usage_hours", "usage_days", "usage_owners", "gatekey"]
        );
        let read = engine.usage_of_owner("a", Timestamp::MIN, Timestamp::MAX);
        assert!(matches!(read, Err(Error::Corrupted(_))));
        engine.repair().unwrap();
        assert!(engine.check().unwrap().is_sound());
        let days = engine
            .usage_of_owner("a", Timestamp::MIN, Timestamp::MAX)
            .unwrap();
        assert_eq!(days.len(), 1);
        assert_eq!(days[0].counts.granted(), 1);
    }
}
