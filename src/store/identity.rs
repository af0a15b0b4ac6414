//! The identity of a store: its format, its key and the peppers that seal the key.

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableError};
use zeroize::Zeroizing;

use crate::crypto::digest::{Keyring, NO_PEPPER, Seal, SecretKey};
use crate::crypto::token::fill_random;
use crate::model::error::{Error, OpenError};
use crate::model::secret::Pepper;
use crate::store::counts;
use crate::store::extension;
use crate::store::failure::{OrStore, failure};
use crate::store::held;
use crate::store::mark;
use crate::store::read;
use crate::store::settings::{Intent, Settings};
use crate::store::tables::{
    self, FORMAT, KEYSPACES, META, META_COPY, META_FORMAT, META_IDENTITY, META_STATE, State,
    Stored, Tagged, each_table,
};

/// The store's identity, and how its key is kept.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(super) store_id: [u8; 16],
    pub(super) key: StoredKey,
}

#[derive(Clone)]
pub(super) enum StoredKey {
    /// No pepper: the key stands in the file.
    Plain([u8; 32]),
    /// Sealed under each pepper.
    Sealed(Vec<Seal>),
}

/// What opening a file found.
// One at a time, while a store is opened.
#[allow(clippy::large_enum_variant)]
pub(super) enum Found {
    /// A database without a table: one that was created and never finished.
    Blank,
    Store {
        identity: Identity,
        store_key: SecretKey,
        ring: Keyring,
        format: u32,
    },
}

/// Reads the store's identity, and opens its key with the given peppers.
pub(super) fn identify(peppers: &[Pepper], txn: &ReadTransaction) -> Result<Found, OpenError> {
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            let tables = txn
                .list_tables()
                .or_store()
                .map_err(OpenError::reading)?
                .count();
            let multimaps = txn
                .list_multimap_tables()
                .or_store()
                .map_err(OpenError::reading)?
                .count();
            return match tables + multimaps {
                0 => Ok(Found::Blank),
                _ => Err(OpenError::not_a_store(
                    "it is the database of another program",
                )),
            };
        }
        Err(TableError::Storage(error)) => {
            return Err(OpenError::reading(Error::Store(failure(error))));
        }
        Err(_) => {
            return Err(OpenError::not_a_store(
                "it is the database of another program",
            ));
        }
    };
    let get = |name| {
        let value = ReadableTable::get(&meta, name)
            .or_store()
            .map_err(OpenError::reading)?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    if get(META_COPY)?.is_some_and(|mark| mark == mark::UNFINISHED) {
        let why = "it is a backup that was not finished: remove it, and make another";
        return Err(OpenError::not_a_store(why));
    }
    let format: Vec<u8> =
        get(META_FORMAT)?.ok_or_else(|| OpenError::not_a_store("it does not say its format"))?;
    let format = <[u8; 4]>::try_from(format.as_slice())
        .map(u32::from_le_bytes)
        .map_err(|_| OpenError::Corrupted("its format is not a number".to_owned()))?;
    if format == 0 {
        return Err(OpenError::Corrupted(
            "there was never a format 0".to_owned(),
        ));
    }
    if format > FORMAT {
        return Err(OpenError::NewerFormat {
            found: format,
            supported: FORMAT,
        });
    }
    let identity: Vec<u8> = get(META_IDENTITY)?
        .ok_or_else(|| OpenError::Corrupted("it does not say who it is".to_owned()))?;
    let (identity, store_key) = unlock_stored(peppers, &identity)?;
    let ring = Keyring::new(&store_key, peppers);
    let state = read::state(&meta, &ring).map_err(OpenError::reading)?;
    require_peppers(peppers, &identity, &state)?;
    look_at_tables(txn, &ring, format).map_err(OpenError::reading)?;
    mark::require_counts(txn, &meta, &ring, &state).map_err(OpenError::reading)?;
    Ok(Found::Store {
        identity,
        store_key,
        ring,
        format,
    })
}

/// Opens every table, and reads what there is in memory once the store is open. What
/// is damaged of these is better found before the file is open for writing: redb
/// writes as it closes, and where it panics in a transaction, it may panic again as
/// it unwinds, which ends the process. Of an older format, some tables are not there yet.
fn look_at_tables(txn: &ReadTransaction, ring: &Keyring, format: u32) -> Result<(), Error> {
    each_table!(|table| match txn.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) if format < FORMAT => {}
        opened => drop(opened.or_store()?),
    });
    // Those of extensions are opened as they are named.
    extension::names(txn)?;
    let keyspaces = txn.open_table(KEYSPACES).or_store()?;
    for entry in ReadableTable::iter(&keyspaces).or_store()? {
        read::keyspace(&keyspaces, ring, entry.or_store()?.0.value())?;
    }
    Ok(())
}

/// Reads a stored identity, which no tag covers, and opens the key in it.
pub(crate) fn unlock_stored(
    peppers: &[Pepper],
    stored: &[u8],
) -> Result<(Identity, SecretKey), OpenError> {
    let identity = Identity::decode(Identity::VERSION, stored)
        .map_err(|_| OpenError::Corrupted("its identity does not decode".to_owned()))?;
    let store_key = unlock(peppers, &identity)?;
    Ok((identity, store_key))
}

fn unlock(peppers: &[Pepper], identity: &Identity) -> Result<SecretKey, OpenError> {
    let seals = match &identity.key {
        StoredKey::Plain(_) if !peppers.is_empty() => return Err(OpenError::PepperNotExpected),
        StoredKey::Plain(key) => return Ok(Zeroizing::new(*key)),
        StoredKey::Sealed(seals) => seals,
    };
    let known = || seals.iter().map(|seal| seal.pepper).collect();
    if peppers.is_empty() {
        return Err(OpenError::PepperRequired { known: known() });
    }
    // Every pepper that the store knows must be the right one, so that a wrong
    // old pepper is noticed now and not when a key under it is used.
    let mut key = None;
    for pepper in peppers {
        if let Some(seal) = seals.iter().find(|seal| seal.pepper == pepper.id()) {
            let opened = seal.open(pepper, &identity.store_id);
            key = Some(opened.ok_or(OpenError::WrongPepper { id: pepper.id() })?);
        }
    }
    key.ok_or_else(|| OpenError::UnknownPepper {
        given: peppers.iter().map(Pepper::id).collect(),
        known: known(),
    })
}

/// Refuses to go without a pepper under which keys are still hashed.
fn require_peppers(
    peppers: &[Pepper],
    identity: &Identity,
    state: &State,
) -> Result<(), OpenError> {
    if let StoredKey::Sealed(_) = identity.key {
        for &(id, keys) in &state.digests {
            if keys > 0 && !peppers.iter().any(|pepper| pepper.id() == id) {
                return Err(OpenError::MissingPepper { id, keys });
            }
        }
    }
    Ok(())
}

/// The keys of a store that can be opened as it is, with nothing to be written to it.
pub(super) fn ready(
    settings: &Settings,
    txn: &ReadTransaction,
) -> Result<Option<Keyring>, OpenError> {
    Ok(match identify(&settings.peppers, txn)? {
        Found::Store {
            identity,
            store_key,
            ring,
            format,
        } if settings.intent != Intent::Create
            && format == FORMAT
            && renew_seals(&settings.peppers, &identity, &store_key).is_none() =>
        {
            Some(ring)
        }
        _ => None,
    })
}

/// Makes a blank database into a store, and brings the seals up to date.
pub(super) fn make_ready(settings: &Settings, db: &Database) -> Result<Keyring, OpenError> {
    let txn = db
        .begin_read()
        .map_err(|error| OpenError::Store(failure(error)))?;
    match identify(&settings.peppers, &txn)? {
        Found::Blank if settings.intent == Intent::Open => Err(OpenError::Missing),
        // It was made since the file was looked at.
        Found::Store { .. } if settings.intent == Intent::Create => Err(OpenError::Exists),
        Found::Blank => initialise(&settings.peppers, db).map_err(OpenError::reading),
        Found::Store {
            identity,
            store_key,
            ring,
            format,
        } => {
            if format < FORMAT {
                upgrade(db, &ring).map_err(OpenError::reading)?;
            }
            if let Some(renewed) = renew_seals(&settings.peppers, &identity, &store_key) {
                write_identity(db, &renewed).map_err(OpenError::reading)?;
            }
            Ok(ring)
        }
    }
}

/// The identity with a seal for exactly the peppers given, where it differs.
/// A pepper not given has no key under it, or opening would have been refused.
fn renew_seals(peppers: &[Pepper], identity: &Identity, store_key: &SecretKey) -> Option<Identity> {
    let StoredKey::Sealed(seals) = &identity.key else {
        return None;
    };
    let same = seals.len() == peppers.len()
        && peppers
            .iter()
            .all(|pepper| seals.iter().any(|seal| seal.pepper == pepper.id()));
    if same {
        return None;
    }
    let seals = peppers
        .iter()
        .map(|pepper| Seal::new(pepper, &identity.store_id, store_key))
        .collect();
    Some(Identity {
        store_id: identity.store_id,
        key: StoredKey::Sealed(seals),
    })
}

fn initialise(peppers: &[Pepper], db: &Database) -> Result<Keyring, Error> {
    let mut store_id = [0; 16];
    fill_random(&mut store_id)?;
    let mut store_key = Zeroizing::new([0; 32]);
    fill_random(store_key.as_mut_slice())?;
    let key = if peppers.is_empty() {
        StoredKey::Plain(*store_key)
    } else {
        let seal = |pepper| Seal::new(pepper, &store_id, &store_key);
        StoredKey::Sealed(peppers.iter().map(seal).collect())
    };
    let ring = Keyring::new(&store_key, peppers);
    debug_assert!(!peppers.is_empty() || ring.signing_pepper() == NO_PEPPER);
    let identity = encode_identity(&Identity { store_id, key })?;
    let sealed_state = tables::seal(&ring, Tagged::State, META_STATE.as_bytes(), &State::new())?;

    let mut txn = db.begin_write().or_store()?;
    txn.set_two_phase_commit(true);
    {
        each_table!(|table| txn.open_table(table).or_store()?);
        let mut meta = txn.open_table(META).or_store()?;
        meta.insert(META_FORMAT, FORMAT.to_le_bytes().as_slice())
            .or_store()?;
        meta.insert(META_IDENTITY, identity.as_slice()).or_store()?;
        meta.insert(META_STATE, sealed_state.as_slice())
            .or_store()?;
    }
    txn.commit().or_store()?;
    Ok(ring)
}

/// Brings a store of an older format up to date, in one transaction, for which every key is
/// read twice. Records are written
/// in their newest version whenever they change; only the state is at once, so that an
/// older version of this crate is told of the format before anything else.
fn upgrade(db: &Database, ring: &Keyring) -> Result<(), Error> {
    let mut txn = db.begin_write().or_store()?;
    txn.set_two_phase_commit(true);
    {
        each_table!(|table| txn.open_table(table).or_store()?);
        let mut state = read::state(&txn.open_table(META).or_store()?, ring)?;
        counts::build(&txn, ring, &mut state)?;
        held::build(&txn, ring, state.clock)?;
        // A copy is no longer what was copied.
        state.commits += 1;
        let mut meta = txn.open_table(META).or_store()?;
        let sealed = tables::seal(ring, Tagged::State, META_STATE.as_bytes(), &state)?;
        meta.insert(META_FORMAT, FORMAT.to_le_bytes().as_slice())
            .or_store()?;
        meta.insert(META_STATE, sealed.as_slice()).or_store()?;
    }
    txn.commit().or_store()
}

fn encode_identity(identity: &Identity) -> Result<Vec<u8>, Error> {
    let encoded = identity.encode();
    encoded.ok_or(Error::Internal("the store's identity is over its limit"))
}

fn write_identity(db: &Database, identity: &Identity) -> Result<(), Error> {
    let bytes = encode_identity(identity)?;
    let mut txn = db.begin_write().or_store()?;
    txn.set_two_phase_commit(true);
    {
        let mut meta = txn.open_table(META).or_store()?;
        meta.insert(META_IDENTITY, bytes.as_slice()).or_store()?;
    }
    txn.commit().or_store()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tables::{AUDIT, BY_END};

    #[test]
    fn a_store_of_an_older_format_is_brought_up_to_date_and_one_of_this_format_is_not_mended() {
        let db = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        initialise(&[], &db).unwrap();
        let format = || {
            let txn = db.begin_read().unwrap();
            let meta = txn.open_table(META).unwrap();
            let stored = ReadableTable::get(&meta, META_FORMAT).unwrap().unwrap();
            u32::from_le_bytes(stored.value().try_into().unwrap())
        };
        let lose_tables_of = |format: u32| {
            let txn = db.begin_write().unwrap();
            {
                let mut meta = txn.open_table(META).unwrap();
                meta.insert(META_FORMAT, format.to_le_bytes().as_slice())
                    .unwrap();
                assert!(txn.delete_table(BY_END).unwrap());
                assert!(txn.delete_table(AUDIT).unwrap());
            }
            txn.commit().unwrap();
        };
        let settings = crate::engine::options::Options::new().store;
        lose_tables_of(1);
        make_ready(&settings, &db).unwrap();
        assert_eq!(format(), FORMAT);
        let txn = db.begin_read().unwrap();
        each_table!(|table| drop(txn.open_table(table).unwrap()));
        drop(txn);
        lose_tables_of(FORMAT);
        assert!(make_ready(&settings, &db).is_err());
    }

    /// The file was blank, or was none, as it was looked at.
    #[test]
    fn create_does_not_take_over_and_open_does_not_make_what_appeared_meanwhile() {
        let blank = || {
            let memory = redb::backends::InMemoryBackend::new();
            Database::builder().create_with_backend(memory).unwrap()
        };
        let mut settings = crate::engine::options::Options::new().store;
        let mut make_ready = |intent, db: &Database| {
            settings.intent = intent;
            make_ready(&settings, db)
        };
        let db = blank();
        make_ready(Intent::Create, &db).unwrap();
        let again = make_ready(Intent::Create, &db);
        assert!(matches!(again, Err(OpenError::Exists)));
        make_ready(Intent::Open, &db).unwrap();
        let db = blank();
        let opened = make_ready(Intent::Open, &db);
        assert!(matches!(opened, Err(OpenError::Missing)));
        make_ready(Intent::OpenOrCreate, &db).unwrap();
    }

    #[test]
    fn a_copy_of_an_older_format_is_no_longer_what_was_copied_once_it_is_brought_up_to_date() {
        let db = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        let ring = initialise(&[], &db).unwrap();
        let marked = || {
            let txn = db.begin_read().unwrap();
            let meta = txn.open_table(META).unwrap();
            let state = read::state(&meta, &ring).unwrap();
            mark::read(&meta, &ring, &state).unwrap()
        };
        let mark = {
            let txn = db.begin_read().unwrap();
            let meta = txn.open_table(META).unwrap();
            let state = read::state(&meta, &ring).unwrap();
            mark::Mark::of(&txn, &state, &mark::Cuts::default(), |_| Ok(())).unwrap()
        };
        let sealed = tables::seal(&ring, Tagged::Copy, META_COPY.as_bytes(), &mark).unwrap();
        let txn = db.begin_write().unwrap();
        {
            let mut meta = txn.open_table(META).unwrap();
            meta.insert(META_COPY, sealed.as_slice()).unwrap();
            let older = (FORMAT - 1).to_le_bytes();
            meta.insert(META_FORMAT, older.as_slice()).unwrap();
        }
        txn.commit().unwrap();
        assert!(marked().is_some());
        make_ready(&crate::engine::options::Options::new().store, &db).unwrap();
        assert!(marked().is_none());
    }
}
