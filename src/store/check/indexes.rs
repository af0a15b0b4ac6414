//! What names keys: the indexes, the cold records, usage and the owners' holdings.

use redb::{AccessGuard, ReadableTable, StorageError, TableDefinition};

use super::Walk;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::tables::{
    self, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, COLD, HELD, USAGE, USAGE_NETWORKS,
};
use crate::store::{counts, read, usage_networks};

/// How many rows the walk over the keys has found in each table.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) cold: u64,
    pub(super) by_owner: u64,
    pub(super) held: u64,
    pub(super) by_keyspace: u64,
    pub(super) by_end: u64,
    pub(super) by_turn: u64,
}

type Row<K, V> = Result<(AccessGuard<'static, K>, AccessGuard<'static, V>), StorageError>;

impl Walk<'_> {
    /// The walk over the keys has found missing entries: this looks for entries without
    /// a key, in tables that have others than those that it has seen.
    pub(super) fn indexes(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        for entry in self.others(COLD, self.seen.cold)? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            self.must_exist("cold", id)?;
        }
        let usages = snapshot.table(USAGE)?;
        for entry in usages.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            self.must_exist("usage", id)?;
            let usage = read::usage(&usages, snapshot.ring(), id);
            self.sound(usage)?;
        }
        let networks = snapshot.table(USAGE_NETWORKS)?;
        for entry in networks.iter().or_store()? {
            let id = KeyId::from_raw(entry.or_store()?.0.value());
            self.must_exist("usage_networks", id)?;
            let noted = usage_networks::networks(&networks, snapshot.ring(), id);
            self.sound(noted)?;
        }
        for entry in self.others(BY_OWNER, self.seen.by_owner)? {
            let (index, _) = entry.or_store()?;
            let found = match tables::owner_index_parts(index.value()) {
                Some((_, number, id)) => read::key(&self.keys, snapshot.ring(), id)
                    .ok()
                    .flatten()
                    .is_some_and(|key| {
                        tables::owner_index_key(&key.owner, number, id) == index.value()
                            && key.keyspace == number
                    }),
                None => false,
            };
            if !found {
                self.find(
                    "by_owner",
                    index.value().escape_ascii(),
                    "it names no key of that owner",
                );
            }
        }
        for entry in self.others(HELD, self.seen.held)? {
            let (place, _) = entry.or_store()?;
            let found = match tables::held_parts(place.value()) {
                Some((number, _, id)) => read::key(&self.keys, snapshot.ring(), id)
                    .ok()
                    .flatten()
                    .is_some_and(|key| tables::held_key(number, &key.owner, id) == place.value()),
                None => false,
            };
            if !found {
                let record = place.value().escape_ascii();
                self.find("held", record, "it names no key of that owner");
            }
        }
        for entry in self.others(BY_KEYSPACE, self.seen.by_keyspace)? {
            let (number, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.is_none_or(|key| key.keyspace != number) {
                self.find("by_keyspace", id, "it names no key of that keyspace");
            }
        }
        for entry in self.others(BY_END, self.seen.by_end)? {
            let (end, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.and_then(|key| key.ends_at()).map(Timestamp::unix_ms) != Some(end) {
                self.find("by_end", id, "it names no key that ends then");
            }
        }
        for entry in self.others(BY_TURN, self.seen.by_turn)? {
            let row = entry.or_store()?.0.value();
            let id = KeyId::from_raw(row.1);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if !key.is_some_and(|key| counts::turn_rows(&key).any(|of_key| of_key == row)) {
                self.find("by_turn", id, "it names no key whose state changes then");
            }
        }
        Ok(())
    }

    /// The rows of a table, if there are others than those that the walk over the keys has
    /// found there: it has found each in its place, so that where there are as many, there
    /// are no others, and no key need be read for each again.
    fn others<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
        seen: u64,
    ) -> Result<impl Iterator<Item = Row<K, V>> + use<K, V>, Error> {
        let table = self.snapshot.table(definition)?;
        let mut count = 0;
        for row in table.iter().or_store()? {
            row.or_store()?;
            count += 1;
        }
        let rows = match count == seen {
            true => None,
            false => Some(table.range::<K::SelfType<'_>>(..).or_store()?),
        };
        Ok(rows.into_iter().flatten())
    }

    fn must_exist(&mut self, table: &'static str, id: KeyId) -> Result<(), Error> {
        if ReadableTable::get(&self.keys, id.raw())
            .or_store()?
            .is_none()
        {
            self.find(table, id, "it belongs to no key");
        }
        Ok(())
    }

    pub(super) fn single_active(&mut self) -> Result<(), Error> {
        let mut crowded = Vec::new();
        let known = self.known.values();
        let single = known.filter(|keyspace| keyspace.keys_per_owner.is_single());
        for number in single.map(|keyspace| keyspace.id).collect::<Vec<_>>() {
            let walked = read::each_crowded_owner(
                &self.held,
                (&self.keys, self.snapshot.ring(), self.snapshot.lags()),
                self.now,
                number,
                |owner| crowded.push(owner),
                |_| {},
            );
            self.sound(walked)?;
        }
        for owner in crowded {
            self.find(
                "held",
                owner,
                "it holds several keys in a single-active keyspace",
            );
        }
        Ok(())
    }
}
