//! What names keys: the indexes, the cold records, usage and the owners' holdings.

use redb::ReadableTable;

use super::Walk;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::tables::{
    self, BY_END, BY_KEYSPACE, BY_OWNER, BY_TURN, COLD, HELD, USAGE, USAGE_NETWORKS,
};
use crate::store::{counts, read, usage_networks};

impl Walk<'_> {
    /// The walk over the keys has found missing entries: this looks for entries without
    /// a key.
    pub(super) fn indexes(&mut self) -> Result<(), Error> {
        let snapshot = self.snapshot;
        for entry in snapshot.table(COLD)?.iter().or_store()? {
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
        for entry in snapshot.table(BY_OWNER)?.iter().or_store()? {
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
        for entry in snapshot.table(HELD)?.iter().or_store()? {
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
        for entry in snapshot.table(BY_KEYSPACE)?.iter().or_store()? {
            let (number, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.is_none_or(|key| key.keyspace != number) {
                self.find("by_keyspace", id, "it names no key of that keyspace");
            }
        }
        for entry in snapshot.table(BY_END)?.iter().or_store()? {
            let (end, raw) = entry.or_store()?.0.value();
            let id = KeyId::from_raw(raw);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if key.and_then(|key| key.ends_at()).map(Timestamp::unix_ms) != Some(end) {
                self.find("by_end", id, "it names no key that ends then");
            }
        }
        for entry in snapshot.table(BY_TURN)?.iter().or_store()? {
            let row = entry.or_store()?.0.value();
            let id = KeyId::from_raw(row.1);
            let key = read::key(&self.keys, snapshot.ring(), id).ok().flatten();
            if !key.is_some_and(|key| counts::turn_rows(&key).any(|of_key| of_key == row)) {
                self.find("by_turn", id, "it names no key whose state changes then");
            }
        }
        Ok(())
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
                &self.keys,
                self.snapshot.ring(),
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
