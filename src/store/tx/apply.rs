//! Applying an entry of a fleet's log: its records go into the tables as they are, and the
//! delta names what in memory depends on them, as if the transaction had been made here.

use redb::{Key, Value};

use super::Tx;
use super::keys::cold_parts;
use crate::crypto::digest::Keyring;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::key::ColdRecord;
use crate::model::keyspace::Keyspace;
use crate::model::log::LogError;
use crate::store::delta::{Delta, tag_of};
use crate::store::entry::{Entry, Place};
use crate::store::extension;
use crate::store::failure::OrStore;
use crate::store::journal::{Noted, Rows};
use crate::store::owner_settings::{OwnerQuota, OwnerSettingsRecord, tag_key};
use crate::store::quota::QuotaRecord;
use crate::store::read;
use crate::store::tables::{
    self, KEPT, META, META_COPY, META_FLEET, META_FORMAT, META_IDENTITY, OWNER_QUOTAS,
    OWNER_SETTINGS, REQUESTS, REQUESTS_BY_TIME, Stored, Tagged, USAGE_DAYS, USAGE_HOURS,
    USAGE_NETWORKS, USAGE_OWNERS,
};

type Bytes = Option<Vec<u8>>;

/// A record that was put or removed: its key, what it was, and what it is.
struct Row<'r> {
    key: &'r [u8],
    old: Bytes,
    new: Option<&'r [u8]>,
}

impl Row<'_> {
    fn number(&self) -> Result<u64, Error> {
        self.key
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| bad())
    }

    fn owner(&self) -> Result<(u32, &str), Error> {
        let parts = self.key.split_first_chunk::<4>();
        let (keyspace, path) = parts.ok_or_else(bad)?;
        let path = std::str::from_utf8(path).map_err(|_| bad())?;
        Ok((u32::from_le_bytes(*keyspace), path))
    }

    /// What the record was and is. What was damaged here is replaced; what is new must be
    /// sound.
    #[allow(clippy::type_complexity, reason = "as a delta notes it")]
    fn read<T>(
        &self,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<(Result<Option<T>, Error>, Option<T>), Error> {
        let old = self.old.as_deref().map(&read).transpose();
        Ok((old, self.new.map(&read).transpose()?))
    }
}

fn bad() -> Error {
    Error::Log(LogError::new("an entry has a record that is none"))
}

/// Puts the records of a table, and hands each on with what it was.
fn put<K: Key + 'static, V: Value + 'static>(
    table: &mut Noted<'_, K, V>,
    rows: &Rows,
    mut each: impl FnMut(Row<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let is_sound = |width: Option<usize>, bytes: &[u8]| width.is_none_or(|it| it == bytes.len());
    for (key, value) in rows {
        let value_is_sound = |value: &Vec<u8>| is_sound(V::fixed_width(), value);
        if !is_sound(K::fixed_width(), key) || !value.as_ref().is_none_or(value_is_sound) {
            return Err(bad());
        }
        let old = match value {
            Some(value) => table.insert(K::from_bytes(key), V::from_bytes(value)),
            None => table.remove(K::from_bytes(key)),
        };
        let old = old.or_store()?;
        let old = old.map(|old| V::as_bytes(&old.value()).as_ref().to_vec());
        let new = value.as_deref();
        each(Row { key, old, new })?;
    }
    Ok(())
}

fn sealed<T: Stored>(
    ring: &Keyring,
    tagged: Tagged,
    key: &[u8],
) -> impl Fn(&[u8]) -> Result<T, Error> {
    move |bytes| tables::unseal(ring, tagged, key, bytes)
}

/// Refuses keys that are text and are not UTF-8, before redb takes them for it.
fn require_text(rows: &Rows, skip: usize) -> Result<(), Error> {
    let is_text = |key: &Vec<u8>| {
        key.get(skip..)
            .is_some_and(|it| std::str::from_utf8(it).is_ok())
    };
    match rows.keys().all(is_text) {
        true => Ok(()),
        false => Err(bad()),
    }
}

impl Tx<'_> {
    /// Applies the next entry of the log.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<(), Error> {
        self.writing();
        let commits = self.state.commits;
        for (name, rows) in &entry.records {
            self.apply_table(name, rows)?;
        }
        self.state = read::state(&self.meta, self.ring)?;
        if self.state.commits != commits + 1 {
            let why = "an entry is not of the commit that follows on this server's last";
            return Err(Error::Log(LogError::new(why)));
        }
        self.now = self.state.clock;
        self.delta.at = entry.at;
        self.delta.sets_time_back |= entry.sets_time_back;
        Ok(())
    }

    /// Ends a transaction that has applied entries up to a place, and gives its delta.
    pub(crate) fn finish_applied(mut self, place: &Place) -> Result<Delta, Error> {
        let bytes = place.encode(self.ring);
        self.put_meta(META_FLEET, &bytes)?;
        self.delta.commits = self.state.commits;
        self.delta.settle();
        Ok(self.delta)
    }

    /// Says where in a fleet's log the file stands, or that it is in none.
    pub(crate) fn set_place(&mut self, place: Option<&Place>) -> Result<(), Error> {
        self.writing();
        match place {
            Some(place) => {
                let bytes = place.encode(self.ring);
                self.put_meta(META_FLEET, &bytes)
            }
            None => {
                self.meta.remove(META_FLEET).or_store()?;
                Ok(())
            }
        }
    }

    /// Where the file stands.
    pub(crate) fn place(&self) -> Result<Option<Place>, Error> {
        read::place(&self.meta, self.ring)
    }

    fn apply_table(&mut self, name: &str, rows: &Rows) -> Result<(), Error> {
        let (ring, delta) = (self.ring, &mut self.delta);
        let plain = |_: Row<'_>| Ok(());
        match name {
            "keys" => put(&mut self.keys, rows, |row| {
                let id = KeyId::from_raw(row.number()?);
                let old = row.old.as_deref().map(tag_of);
                delta.keys.note(id, Ok(old), row.new.map(tag_of));
                Ok(())
            }),
            "cold" => put(&mut self.cold, rows, |row| {
                let id = KeyId::from_raw(row.number()?);
                let read = sealed::<ColdRecord>(ring, Tagged::Cold, row.key);
                let (quota, limits) = cold_parts(ring, id, row.old.as_deref());
                let new = row.new.map(read).transpose()?;
                let new_limits = new.as_ref().and_then(|cold| cold.limits.clone());
                delta
                    .quota_of
                    .note(id, quota, new.and_then(|cold| cold.quota));
                delta.limits_of.note(id, limits, new_limits);
                Ok(())
            }),
            "keyspaces" => put(&mut self.keyspaces, rows, |row| {
                let number = row.key.try_into().map(u32::from_le_bytes);
                let read = sealed::<Keyspace>(ring, Tagged::Keyspace, row.key);
                let (old, new) = row.read(read)?;
                delta.keyspaces.note(number.map_err(|_| bad())?, old, new);
                Ok(())
            }),
            "quotas" => put(&mut self.quotas, rows, |row| {
                let read = sealed::<QuotaRecord>(ring, Tagged::Quota, row.key);
                let (old, new) = row.read(read)?;
                delta.quotas.note(row.number()?, old, new);
                Ok(())
            }),
            "owner_settings" => {
                require_text(rows, 4)?;
                put(
                    &mut Noted::open(self.txn, OWNER_SETTINGS, self.journal)?,
                    rows,
                    |row| {
                        let (keyspace, path) = row.owner()?;
                        let key = tag_key(keyspace, path);
                        let read = sealed::<OwnerSettingsRecord>(ring, Tagged::OwnerSettings, &key);
                        let (old, new) = row.read(read)?;
                        let owner = path.parse().map_err(|_| bad())?;
                        delta.owner_settings.note((keyspace, owner), old, new);
                        Ok(())
                    },
                )
            }
            "owner_quotas" => {
                require_text(rows, 4)?;
                put(
                    &mut Noted::open(self.txn, OWNER_QUOTAS, self.journal)?,
                    rows,
                    |row| {
                        let (keyspace, path) = row.owner()?;
                        let key = tag_key(keyspace, path);
                        let read = sealed::<OwnerQuota>(ring, Tagged::OwnerQuota, &key);
                        let number = |bytes: &[u8]| read(bytes).map(|quota| quota.number);
                        let (old, new) = row.read(number)?;
                        let owner = path.parse().map_err(|_| bad())?;
                        delta.owner_quota_of.note((keyspace, owner), old, new);
                        Ok(())
                    },
                )
            }
            "prefixes" => {
                require_text(rows, 0)?;
                put(&mut self.prefixes, rows, plain)
            }
            "owners" => {
                require_text(rows, 0)?;
                put(&mut self.owners, rows, plain)
            }
            "by_owner" => put(&mut self.by_owner, rows, plain),
            "held" => put(&mut self.held, rows, plain),
            "by_keyspace" => put(&mut self.by_keyspace, rows, plain),
            "by_end" => put(&mut self.by_end, rows, plain),
            "by_turn" => put(&mut self.by_turn, rows, plain),
            "audit" => put(&mut self.audit, rows, plain),
            "usage" => put(&mut self.usage, rows, plain),
            "usage_hours" => put(&mut self.open_table(USAGE_HOURS)?, rows, plain),
            "usage_days" => put(&mut self.open_table(USAGE_DAYS)?, rows, plain),
            "usage_owners" => put(&mut self.open_table(USAGE_OWNERS)?, rows, plain),
            "usage_networks" => put(&mut self.open_table(USAGE_NETWORKS)?, rows, plain),
            // The snapshot reads these: nothing in memory depends on them.
            "imports" => put(&mut self.imports.imports, rows, plain),
            "foreign" => put(&mut self.imports.foreign, rows, plain),
            "unseen" => put(&mut self.imports.unseen, rows, plain),
            "foreign_ids" => {
                require_text(rows, 1)?;
                put(&mut self.imports.foreign_ids, rows, plain)
            }
            "kept" => put(&mut self.open_table(KEPT)?, rows, plain),
            "by_key" => put(&mut self.open_by_key()?, rows, plain),
            "requests" => put(&mut self.open_table(REQUESTS)?, rows, plain),
            "requests_by_time" => put(&mut self.open_table(REQUESTS_BY_TIME)?, rows, plain),
            name if name == redb::TableHandle::name(&META) => {
                require_text(rows, 0)?;
                // Each server's own.
                let own = [META_FLEET, META_FORMAT, META_IDENTITY, META_COPY];
                if own.iter().any(|own| rows.contains_key(own.as_bytes())) {
                    return Err(bad());
                }
                put(&mut self.meta, rows, plain)
            }
            name if extension::is_name(name) => {
                let definition = extension::definition(name);
                put(
                    &mut Noted::open(self.txn, definition, self.journal)?,
                    rows,
                    |row| {
                        let read = |bytes: &[u8]| extension::unseal(ring, name, row.key, bytes);
                        let (old, new) = row.read(read)?;
                        let place = (name.to_owned(), row.key.to_vec());
                        delta.extensions.note(place, old, new);
                        Ok(())
                    },
                )
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};
    use crate::model::time::Time;
    use crate::store::journal::{Journal, Records};
    use crate::store::tables::{META_STATE, State, each_table};

    /// A table that is added and not known here would make the servers of a fleet hold
    /// different things.
    #[test]
    fn every_table_is_known_and_gets_its_own_records() {
        let ring = Keyring::new(&Zeroizing::new([3; 32]), &[]);
        let memory = redb::Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        let txn = memory.begin_write().unwrap();
        let state = tables::seal(&ring, Tagged::State, META_STATE.as_bytes(), &State::new());
        let state = state.unwrap();
        let mut meta = txn.open_table(META).unwrap();
        meta.insert(META_STATE, state.as_slice()).unwrap();
        drop(meta);
        let journal = Journal::on();
        let present = Time::new(Timestamp::MIN).now(&ManualClock::at(Timestamp::MIN));
        let mut tx = Tx::open(&txn, &journal, &ring, present).unwrap();
        let mut sent = Records::new();
        let mut apply = |name: &str, width: Option<usize>| {
            // Every letter is a number, and text.
            let rows = Rows::from([(vec![b'a'; width.unwrap_or(40)], None)]);
            tx.apply_table(name, &rows).unwrap();
            sent.insert(name.to_owned(), rows);
        };
        fn described<K: Key, V: Value>(
            table: redb::TableDefinition<'_, K, V>,
        ) -> (String, Option<usize>) {
            let name = redb::TableHandle::name(&table).to_owned();
            (name, K::fixed_width())
        }
        each_table!(|table| {
            let (name, width) = described(table);
            apply(&name, width);
        });
        let (name, width) = described(META);
        apply(&name, width);
        assert!(tx.apply_table("of_later", &Rows::new()).is_err());
        drop(tx);
        assert!(sent.len() > 25, "{}", sent.len());
        assert_eq!(journal.into_records(), sent);
    }
}
