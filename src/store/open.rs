//! Finding a store, or making one. What is refused is left as it was.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableError, TransactionError,
};
use zeroize::Zeroizing;

use super::overlay::Overlay;
use super::tables::{
    self, AUDIT, BY_END, BY_KEYSPACE, BY_OWNER, COLD, FORMAT, KEYS, KEYSPACES, META, META_FORMAT,
    META_IDENTITY, META_STATE, OWNERS, PREFIXES, QUOTAS, State, Tagged, USAGE,
};
use super::{OrStore, Place, failure, read};
use crate::codec;
use crate::digest::{Keyring, NO_PEPPER, Seal, SecretKey};
use crate::error::{Error, OpenError};
use crate::options::Options;
use crate::secret::Pepper;
use crate::token::fill_random;

/// The bytes with which a redb file begins.
const REDB_MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];

/// An open store.
pub(crate) struct Opened {
    pub(crate) db: Database,
    pub(crate) ring: Keyring,
    /// A second handle to its file, where it is one: to see whether it still has a name.
    pub(crate) file: Option<File>,
}

/// Who the store is, and how its key is kept.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Identity {
    store_id: [u8; 16],
    key: StoredKey,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
enum StoredKey {
    /// No pepper: the key stands in the file.
    Plain([u8; 32]),
    /// Sealed under each pepper.
    Sealed(Vec<Seal>),
}

/// What a file that could be opened turned out to be.
enum Found {
    /// A database without a table: one that was created and never finished.
    Blank,
    Store {
        identity: Identity,
        store_key: SecretKey,
        ring: Keyring,
    },
}

/// Opens or creates the store at a place.
#[cfg_attr(
    not(feature = "proof"),
    expect(clippy::needless_pass_by_value, reason = "a medium is consumed")
)]
pub(crate) fn open(options: &Options, place: Place<'_>) -> Result<Opened, Error> {
    let path = place.path();
    let refuse = |reason| Error::open(path, reason);
    let opened = match place {
        Place::File(path) => open_file(options, path).and_then(|opened| {
            let file = File::open(path).map_err(OpenError::Io)?;
            Ok(Opened {
                file: Some(file),
                ..opened
            })
        }),
        Place::Memory => open_backend(options, redb::backends::InMemoryBackend::new()),
        #[cfg(feature = "proof")]
        Place::Medium(medium) => open_backend(options, super::medium::Backend(medium)),
    };
    opened.map_err(refuse)
}

fn open_backend(
    options: &Options,
    backend: impl redb::StorageBackend,
) -> Result<Opened, OpenError> {
    let db = guarded(|| builder(options).create_with_backend(backend))?;
    prepare(options, db)
}

fn builder(options: &Options) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.verify_file);
    builder
}

fn open_file(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    match what_is_at(path)? {
        AtPath::Nothing | AtPath::Empty(_) if !options.create => Err(OpenError::Missing),
        AtPath::Nothing => create_file(options, path),
        // The file itself, and not a link to it, gets another in its place.
        AtPath::Empty(file) => create_file(options, &file),
        AtPath::Something => open_existing(options, path),
    }
}

fn open_existing(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    inspect_read_only(options, path)?;
    let db = guarded(|| builder(options).create(path))?;
    prepare(options, db)
}

/// What a store's path leads to.
enum AtPath {
    Nothing,
    /// An empty file, with the path that leads to it without links.
    Empty(PathBuf),
    Something,
}

fn what_is_at(path: &Path) -> Result<AtPath, OpenError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Err(OpenError::NotAStore("it is a directory".to_owned()))
        }
        Ok(metadata) if metadata.permissions().readonly() => Err(OpenError::ReadOnly),
        Ok(metadata) if metadata.len() > 0 => Ok(AtPath::Something),
        Ok(_) => path
            .canonicalize()
            .map(AtPath::Empty)
            .map_err(OpenError::Io),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(AtPath::Nothing),
        Err(error) => Err(OpenError::Io(error)),
    }
}

/// Makes a store under another name, and gives it its own once it is whole and durable:
/// a crash on the way leaves nothing under that name which is not a store.
fn create_file(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    let directory = directory_of(path);
    if !directory.is_dir() {
        return Err(OpenError::MissingDirectory(directory));
    }
    let partial = partial_name(path);
    match begin_partial(options, &partial) {
        // Another has made it, and given it its name, since we looked.
        Err(OpenError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return open_file(options, path);
        }
        begun => begun?,
    }
    // From here to the end its lock keeps others, who would make the same store, away.
    let db = guarded(|| builder(options).create(&partial))?;
    let named = prepare(options, db).and_then(|opened| {
        match what_is_at(path)? {
            AtPath::Nothing => {}
            // It keeps the mode that it has.
            AtPath::Empty(_) => std::fs::metadata(path)
                .and_then(|old| std::fs::set_permissions(&partial, old.permissions()))
                .map_err(OpenError::Io)?,
            // Another was quicker.
            AtPath::Something => return Ok(None),
        }
        std::fs::rename(&partial, path)
            .and_then(|()| sync_directory(&directory))
            .map_err(OpenError::Io)?;
        Ok(Some(opened))
    });
    match named {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => {
            std::fs::remove_file(&partial).map_err(OpenError::Io)?;
            open_existing(options, path)
        }
        Err(error) => {
            // It is told why; what is left behind, the next opening takes over.
            let _ = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

/// An empty file under the other name; one that a crash has left there is emptied.
fn begin_partial(options: &Options, partial: &Path) -> Result<(), OpenError> {
    match create_private(partial) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if !is_unfinished(partial).map_err(OpenError::Io)? {
                let why = format!("{} is in the way, and is not gatekey's", partial.display());
                return Err(OpenError::Io(std::io::Error::new(error.kind(), why)));
            }
            let left = guarded(|| builder(options).create(partial));
            if matches!(left, Err(OpenError::InUse)) {
                return Err(OpenError::InUse);
            }
            drop(left);
            let file = File::options().write(true).open(partial);
            file.and_then(|file| file.set_len(0)).map_err(OpenError::Io)
        }
        Err(error) => Err(OpenError::Io(error)),
    }
}

/// Whether a file is one that the storage engine has begun: it writes its first bytes
/// last.
fn is_unfinished(partial: &Path) -> std::io::Result<bool> {
    let mut first = Vec::new();
    File::open(partial)?
        .take(REDB_MAGIC.len() as u64)
        .read_to_end(&mut first)?;
    Ok(first == REDB_MAGIC || first.iter().all(|byte| *byte == 0))
}

/// The name of a file that is not whole yet.
pub(crate) fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Creates an empty file that its owner alone may read and write, where the
/// system knows of that: without a pepper it holds the store's key.
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the name of a new file durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(windows) {
        // A directory cannot be opened as a file there, and its entries are
        // journaled.
        return Ok(());
    }
    File::open(directory)?.sync_all()
}

/// Looks at an existing file without writing to it, so that one that is not
/// ours, or not for these peppers, stays as it was to the byte. One that was
/// not closed is repaired in memory for this.
fn inspect_read_only(options: &Options, path: &Path) -> Result<(), OpenError> {
    let mut magic = [0; REDB_MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if magic == REDB_MAGIC => {}
        Ok(()) => return Err(not_a_store("its first bytes are not those of one")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(not_a_store("it is too short"));
        }
        Err(error) => return Err(OpenError::Io(error)),
    }
    guarded_any(|| {
        let identified = |db: &dyn Fn() -> Result<ReadTransaction, TransactionError>| {
            let txn = db().map_err(|error| OpenError::Store(failure(error)))?;
            identify(&options.peppers, &txn).map(|_| ())
        };
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        match builder.open_read_only(path) {
            Ok(db) => identified(&|| db.begin_read()),
            // It was not closed, and must be repaired before it can be read.
            Err(DatabaseError::RepairAborted) => {
                let overlay = Overlay::new(File::open(path).map_err(OpenError::Io)?)
                    .map_err(OpenError::Io)?;
                let mut db = builder
                    .create_with_backend(overlay.clone())
                    .map_err(database_error)?;
                let found = identified(&|| db.begin_read());
                // redb writes as it closes, unless it knows of an error; on pages that
                // are damaged it may panic there in a way that ends the process.
                overlay.end();
                let _ = db.check_integrity();
                found
            }
            Err(error) => Err(database_error(error)),
        }
    })
}

fn not_a_store(why: &str) -> OpenError {
    OpenError::NotAStore(why.to_owned())
}

fn panicked() -> OpenError {
    OpenError::Corrupted("the storage engine gave up on it".to_owned())
}

/// redb may panic on a file that was damaged from outside.
fn guarded(open: impl FnOnce() -> Result<Database, DatabaseError>) -> Result<Database, OpenError> {
    guarded_any(|| open().map_err(database_error))
}

fn guarded_any<T>(run: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(panicked()))
}

fn database_error(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse,
        DatabaseError::UpgradeRequired(version) => {
            OpenError::NotAStore(format!("a redb file of the old format {version}"))
        }
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::ReadOnly
            }
            std::io::ErrorKind::InvalidData => OpenError::NotAStore(error.to_string()),
            std::io::ErrorKind::UnexpectedEof => OpenError::Corrupted(error.to_string()),
            _ => OpenError::Io(error),
        },
        DatabaseError::Storage(StorageError::Corrupted(why)) => OpenError::Corrupted(why),
        other => OpenError::Store(failure(other)),
    }
}

/// An error of reading the store, as one of opening it.
pub(crate) fn open_error(error: Error) -> OpenError {
    match error {
        Error::Corrupted(corruption) => OpenError::Corrupted(corruption.to_string()),
        Error::Store(failure) | Error::OutcomeUnknown(failure) => OpenError::Store(failure),
        other => OpenError::Corrupted(other.to_string()),
    }
}

/// Reads who the store is, and opens its key with the peppers given.
fn identify(peppers: &[Pepper], txn: &ReadTransaction) -> Result<Found, OpenError> {
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            let tables = txn.list_tables().or_store().map_err(open_error)?.count();
            let multimaps = txn
                .list_multimap_tables()
                .or_store()
                .map_err(open_error)?
                .count();
            return match tables + multimaps {
                0 => Ok(Found::Blank),
                _ => Err(not_a_store("it is the database of another program")),
            };
        }
        Err(TableError::Storage(error)) => {
            return Err(open_error(Error::Store(failure(error))));
        }
        Err(_) => return Err(not_a_store("it is the database of another program")),
    };
    let get = |name| {
        let value = ReadableTable::get(&meta, name)
            .or_store()
            .map_err(open_error)?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    let format: Vec<u8> =
        get(META_FORMAT)?.ok_or_else(|| not_a_store("it does not say its format"))?;
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
    let state = super::read_state(&meta, &ring).map_err(open_error)?;
    require_peppers(peppers, &identity, &state)?;
    look_at_tables(txn, &ring).map_err(open_error)?;
    Ok(Found::Store {
        identity,
        store_key,
        ring,
    })
}

/// Opens every table, and reads what there is in memory once the store is open. What
/// is damaged of these is better found before the file is open for writing: redb
/// writes as it closes, and where it panics in a transaction, it may panic again as
/// it unwinds, which ends the process.
fn look_at_tables(txn: &ReadTransaction, ring: &Keyring) -> Result<(), Error> {
    txn.open_table(KEYS).or_store()?;
    txn.open_table(COLD).or_store()?;
    txn.open_table(PREFIXES).or_store()?;
    txn.open_table(OWNERS).or_store()?;
    txn.open_table(BY_OWNER).or_store()?;
    txn.open_table(BY_KEYSPACE).or_store()?;
    txn.open_table(BY_END).or_store()?;
    txn.open_table(AUDIT).or_store()?;
    txn.open_table(USAGE).or_store()?;
    txn.open_table(QUOTAS).or_store()?;
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
    let identity: Identity = codec::decode(stored)
        .ok_or_else(|| OpenError::Corrupted("its identity does not decode".to_owned()))?;
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

/// Makes a blank database into a store, and brings the seals up to date.
fn prepare(options: &Options, db: Database) -> Result<Opened, OpenError> {
    match guarded_any(|| make_ready(options, &db)) {
        Ok(ring) => Ok(Opened {
            db,
            ring,
            file: None,
        }),
        Err(error) => {
            // It is closed as it is dropped, for which it is read once more.
            let _ = guarded_any(|| {
                drop(db);
                Ok(())
            });
            Err(error)
        }
    }
}

fn make_ready(options: &Options, db: &Database) -> Result<Keyring, OpenError> {
    let txn = db
        .begin_read()
        .map_err(|error| OpenError::Store(failure(error)))?;
    match identify(&options.peppers, &txn)? {
        Found::Blank if !options.create => Err(OpenError::Missing),
        Found::Blank => initialise(&options.peppers, db).map_err(open_error),
        Found::Store {
            identity,
            store_key,
            ring,
        } => {
            if let Some(renewed) = renew_seals(&options.peppers, &identity, &store_key) {
                write_identity(db, &renewed).map_err(open_error)?;
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
        txn.open_table(KEYS).or_store()?;
        txn.open_table(COLD).or_store()?;
        txn.open_table(KEYSPACES).or_store()?;
        txn.open_table(PREFIXES).or_store()?;
        txn.open_table(OWNERS).or_store()?;
        txn.open_table(BY_OWNER).or_store()?;
        txn.open_table(BY_KEYSPACE).or_store()?;
        txn.open_table(BY_END).or_store()?;
        txn.open_table(AUDIT).or_store()?;
        txn.open_table(USAGE).or_store()?;
        txn.open_table(QUOTAS).or_store()?;
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

fn encode_identity(identity: &Identity) -> Result<Vec<u8>, Error> {
    codec::encode(identity).ok_or(Error::Internal("the store's identity is over its limit"))
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
