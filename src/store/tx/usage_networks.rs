//! Writing the networks that keys are used from. Like usage, they are no change, and leave
//! no audit entry.
//!
//! A key has a bounded number. Those that are too old are dropped first; then the one that
//! was used least lately, by its day; of those of the same day the one that came last, so
//! that what is kept of a day does not depend on how many others come after.

use std::cmp::Reverse;

use redb::ReadableTable;

use super::Tx;
use super::uses::Hour;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::used_from::NETWORKS_MAX;
use crate::store::failure::OrStore;
use crate::store::tables::{self, Tagged, USAGE_NETWORKS};
use crate::store::usage_networks::{NetworksRecord, UsedNet, networks};

/// The networks that a key was used from since the last flush.
#[derive(Debug, Clone)]
pub(crate) struct UsedNets {
    pub(crate) key: KeyId,
    pub(crate) nets: Vec<UsedNet>,
}

impl NetworksRecord {
    fn add(&mut self, used: UsedNet) {
        if self.nets.is_empty() || used.first < self.since {
            self.since = used.first;
        }
        match self.nets.iter_mut().find(|known| known.net == used.net) {
            Some(known) => {
                known.first = known.first.min(used.first);
                known.last_day = known.last_day.max(used.last_day);
            }
            None => self.nets.push(used),
        }
    }

    fn drop_old(&mut self, today: u32) {
        self.nets.retain(|net| !net.is_old(today));
    }

    fn drop_what_is_too_many(&mut self) {
        self.nets
            .sort_by_key(|net| (Reverse(net.last_day), net.first));
        self.nets.truncate(NETWORKS_MAX);
    }
}

impl Tx<'_> {
    /// Adds to the networks of keys; a key that is gone has none.
    pub(crate) fn add_networks(&mut self, used: &[UsedNets]) -> Result<(), Error> {
        let (now, today) = (self.now, Hour::of(self.now).day());
        for used in used {
            if self.id_is_taken(used.key)? {
                self.change_networks(used.key, |record| {
                    record.drop_old(today);
                    for net in &used.nets {
                        // An instant that is yet to come is from before time was set back.
                        record.add(UsedNet {
                            first: net.first.min(now),
                            last_day: net.last_day.min(today),
                            ..*net
                        });
                    }
                    record.drop_what_is_too_many();
                })?;
            }
        }
        Ok(())
    }

    /// Drops what is too old of some keys.
    pub(crate) fn drop_old_networks(&mut self, keys: &[KeyId]) -> Result<(), Error> {
        let today = Hour::of(self.now).day();
        for key in keys {
            self.change_networks(*key, |record| record.drop_old(today))?;
        }
        Ok(())
    }

    fn change_networks(
        &mut self,
        key: KeyId,
        change: impl FnOnce(&mut NetworksRecord),
    ) -> Result<(), Error> {
        let mut table = self.open_table(USAGE_NETWORKS)?;
        // One that is damaged begins anew.
        let before = Error::or_damaged(networks(&table, self.ring, key))?.ok();
        let mut record = before.clone().unwrap_or_default();
        change(&mut record);
        if Some(&record) == before.as_ref() {
            return Ok(());
        }
        if record.nets.is_empty() {
            table.remove(key.raw()).or_store()?;
        } else {
            let bytes = key.raw().to_le_bytes();
            let sealed = tables::seal(self.ring, Tagged::UsageNetworks, &bytes, &record)?;
            table.insert(key.raw(), sealed.as_slice()).or_store()?;
        }
        drop(table);
        self.writing();
        Ok(())
    }

    pub(super) fn remove_networks(&mut self, key: KeyId) -> Result<(), Error> {
        let mut table = self.open_table(USAGE_NETWORKS)?;
        if table.remove(key.raw()).or_store()?.is_some() {
            drop(table);
            self.writing();
        }
        Ok(())
    }

    /// Those that cannot be read or are of no key, and why.
    pub(super) fn unsound_networks(&self) -> Result<Vec<(KeyId, String)>, Error> {
        let table = self.open_table(USAGE_NETWORKS)?;
        let mut unsound = Vec::new();
        for entry in table.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            match Error::or_damaged(networks(&table, self.ring, id))? {
                Ok(_) if self.id_is_taken(id)? => {}
                Ok(_) => unsound.push((id, "they belong to no key".to_owned())),
                Err(damage) => unsound.push((id, damage.why)),
            }
        }
        Ok(unsound)
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Engine, Issued, ManualClock, NewKey, NewKeyspace, Options, Requirements};

    const DAY: Duration = Duration::from_secs(86_400);

    fn place() -> (Engine, ManualClock, Vec<Issued>) {
        let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
        let options = Options::new().usage_interval(1_000 * DAY);
        let options = options.note_networks(true).clock(clock.clone());
        let engine = options.open_in_memory().unwrap();
        engine
            .create_keyspace(NewKeyspace::new("acme").unwrap())
            .unwrap();
        let issue = |_| engine.issue(NewKey::new("acme", "a").unwrap()).unwrap();
        let keys = (0..2).map(issue).collect();
        (engine, clock, keys)
    }

    fn used(engine: &Engine, issued: &Issued, from: &str) {
        let from = Requirements::new().source(from.parse().unwrap());
        let verdict = engine.verify_with(issued.token.expose(), &from).unwrap();
        assert!(verdict.is_granted());
    }

    /// How many networks the file has of each key.
    fn stored(engine: &Engine, keys: &[Issued]) -> Vec<Option<usize>> {
        let of = |tx: &Tx<'_>, id: KeyId| {
            let table = tx.open_table(USAGE_NETWORKS)?;
            let is_there = table.get(id.raw()).or_store()?.is_some();
            let record = networks(&table, tx.ring, id)?;
            Ok(is_there.then_some(record.nets.len()))
        };
        let ids: Vec<KeyId> = keys.iter().map(|issued| issued.key.id).collect();
        engine
            .change(move |tx, _| ids.iter().map(|id| of(tx, *id)).collect())
            .unwrap()
    }

    #[test]
    fn what_is_too_old_leaves_the_file_though_its_key_is_used_no_more() {
        let (engine, clock, keys) = place();
        used(&engine, &keys[0], "192.0.2.1");
        used(&engine, &keys[1], "192.0.2.1");
        engine.flush().unwrap();
        clock.advance(45 * DAY);
        used(&engine, &keys[1], "198.51.100.1");
        engine.flush().unwrap();
        clock.advance(45 * DAY);
        engine.flush().unwrap();
        assert_eq!(
            stored(&engine, &keys),
            [Some(1), Some(2)],
            "90 days are kept"
        );
        clock.advance(DAY);
        engine.flush().unwrap();
        assert_eq!(stored(&engine, &keys), [None, Some(1)]);
        assert!(engine.check().unwrap().is_sound());
    }

    #[test]
    fn a_verification_that_an_outer_layer_has_counted_is_not_noted_again() {
        let (engine, _, keys) = place();
        let inner = Requirements {
            is_counted: true,
            ..Requirements::new().source("192.0.2.1".parse().unwrap())
        };
        let token = keys[0].token.expose();
        assert!(engine.verify_with(token, &inner).unwrap().is_granted());
        engine.flush().unwrap();
        assert_eq!(stored(&engine, &keys), [None, None]);
    }

    #[test]
    fn damaged_networks_and_those_of_no_key_are_found_and_removed() {
        let (engine, _, keys) = place();
        used(&engine, &keys[0], "192.0.2.1");
        used(&engine, &keys[1], "192.0.2.1");
        engine.flush().unwrap();
        assert!(engine.check().unwrap().is_sound());
        let id = keys[0].key.id;
        engine
            .change(move |tx, _| {
                tx.writing();
                let mut table = tx.open_table(USAGE_NETWORKS)?;
                table.insert(id.raw(), &b"a forged row"[..]).or_store()?;
                let record = NetworksRecord::default();
                let sealed = tables::seal(
                    tx.ring,
                    Tagged::UsageNetworks,
                    &7_u64.to_le_bytes(),
                    &record,
                )?;
                table.insert(7, sealed.as_slice()).or_store()?;
                Ok(())
            })
            .unwrap();
        let report = engine.check().unwrap();
        let found: Vec<_> = report.findings.iter().map(|found| found.table).collect();
        assert_eq!(found, ["usage_networks", "usage_networks"]);
        assert!(engine.networks_of(id).is_err());
        engine.repair().unwrap();
        assert!(engine.check().unwrap().is_sound());
        assert_eq!(stored(&engine, &keys), [None, Some(1)]);
        // Noted anew, as soon as the key is used on another day or by another thread.
        std::thread::scope(|scope| {
            scope.spawn(|| used(&engine, &keys[0], "192.0.2.1"));
        });
        engine.flush().unwrap();
        assert_eq!(stored(&engine, &keys), [Some(1), Some(1)]);
    }
}
