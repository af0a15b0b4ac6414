//! Opening a store, or creating one. A file that is refused stays as it was.

use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, RepairSession, StorageError,
    TransactionError,
};

use crate::crypto::digest::Keyring;
use crate::model::error::{Error, OpenError};
use crate::store::access::Access;
use crate::store::base::Base;
use crate::store::failure::failure;
use crate::store::file::{
    Directory, NamedFile, directory_of, end_of_links, ends_in_a_name, name_with,
};
use crate::store::ground::Ground;
use crate::store::home::{Home, SUFFIX};
use crate::store::identity::{Found, identify, make_ready, ready};
use crate::store::leftovers::{REDB_MAGIC, clear_copy, clear_creations, creating_name, head};
use crate::store::partial::Partial;
use crate::store::place::Place;
use crate::store::settings::{Intent, Settings};
use crate::store::view;

/// How often a file is looked at anew that others make, remove or replace meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// How often, of these, one that is in use: another may only look at it, or be closing
/// it. With waits of 1, 2, 4, 8 and 16 milliseconds.
const WAITS_MAX: u32 = 5;

/// An open store.
pub(crate) struct Opened {
    pub(super) base: Arc<Base>,
    pub(super) ring: Keyring,
    pub(super) home: Home,
}

/// Opens or creates the store at a place.
#[cfg_attr(
    not(feature = "proof"),
    expect(clippy::needless_pass_by_value, reason = "a medium is consumed")
)]
pub(super) fn open(settings: &Settings, place: Place<'_>) -> Result<Opened, Error> {
    let path = place.path();
    let refuse = |reason| Error::open(path, reason);
    let opened = match place {
        Place::File(path) => open_file(settings, path),
        Place::Memory => {
            let ground = Ground::new(redb::backends::InMemoryBackend::new());
            open_ground(settings, ground, || Home::Memory)
        }
        #[cfg(feature = "proof")]
        Place::Medium(medium) => {
            let ground = Ground::new(super::medium::Backend(medium.clone()));
            open_ground(settings, ground, || Home::Medium(medium))
        }
    };
    opened.map_err(refuse)
}

fn builder(settings: &Settings) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(settings.cache_bytes);
    builder.set_check_integrity_on_open(settings.verify_file);
    builder
}

fn open_ground(
    settings: &Settings,
    ground: Ground,
    home: impl FnOnce() -> Home,
) -> Result<Opened, OpenError> {
    let ground = Arc::new(ground);
    let access = Access::direct(ground.clone());
    let db = match settings.reads_first && !settings.verify_file {
        true => guarded(|| open_unless_repaired(settings, access.clone()))?,
        false => None,
    };
    let db = match db {
        Some(db) => db,
        None => match view_of(settings, &ground) {
            Some((base, ring)) => {
                return Ok(Opened {
                    base: Arc::new(base),
                    ring,
                    home: home(),
                });
            }
            None => guarded(|| builder(settings).create_with_backend(access.clone()))?,
        },
    };
    match guarded_any(|| make_ready(settings, &db)) {
        Ok(ring) => Ok(Opened {
            base: Arc::new(Base::new(db, access)),
            ring,
            home: home(),
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

/// Opens what can be opened without reading it whole.
fn open_unless_repaired(
    settings: &Settings,
    access: Access,
) -> Result<Option<Database>, DatabaseError> {
    let mut builder = builder(settings);
    builder.set_repair_callback(RepairSession::abort);
    match builder.create_with_backend(access) {
        Err(DatabaseError::RepairAborted) => Ok(None),
        opened => opened.map(Some),
    }
}

/// A file that was not closed, to be read before it is repaired. `None` where it must be
/// repaired, or written to, first: an error is then that of the repair.
fn view_of(settings: &Settings, ground: &Arc<Ground>) -> Option<(Base, Keyring)> {
    if !settings.reads_first || settings.verify_file {
        return None;
    }
    let viewed = guarded_any(|| {
        let opened = view::open(ground, settings.cache_bytes).map_err(database_error)?;
        let Some((db, access)) = opened else {
            return Ok(None);
        };
        let ready = ready(settings, &db.begin_read().map_err(no_transaction)?)?;
        Ok(ready.map(|ring| (Base::view(db, access), ring)))
    });
    viewed.ok().flatten()
}

/// A caller that loses a race against others that create, remove or replace the file
/// looks again.
fn open_file(settings: &Settings, path: &Path) -> Result<Opened, OpenError> {
    for attempt in 0..ATTEMPTS_MAX {
        match try_to_open(settings, path) {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => {}
            Err(OpenError::InUse) if attempt < WAITS_MAX => {
                std::thread::sleep(Duration::from_millis(1 << attempt));
            }
            Err(refused) => return Err(refused),
        }
    }
    Err(OpenError::io(io::Error::other(
        "it was replaced or removed each time that it was to be opened",
    )))
}

/// Refuses a path that cannot name a file, before anything is created.
fn refuse_unnamed(path: &Path) -> Result<(), OpenError> {
    if ends_in_a_name(path) {
        return Ok(());
    }
    let why = "its path names no file: it is empty, or ends in a separator, `.` or `..`";
    let why = io::Error::new(io::ErrorKind::InvalidInput, why);
    Err(OpenError::io(why))
}

/// `None`: look again.
fn try_to_open(settings: &Settings, path: &Path) -> Result<Option<Opened>, OpenError> {
    refuse_unnamed(path)?;
    match what_is_at(settings, path)? {
        AtPath::Nothing | AtPath::Empty if settings.intent == Intent::Open => {
            Err(OpenError::Missing)
        }
        AtPath::Nothing => create_file(settings, path),
        // What was made for the store in advance is filled where it is: it may have
        // an owner of its own, or be all that may be written in its directory.
        AtPath::Empty => open_existing(settings, path),
        AtPath::Something => match look_without_writing(settings, path)? {
            true => open_existing(settings, path),
            false => Ok(None),
        },
    }
}

/// What a store's path leads to.
enum AtPath {
    Nothing,
    Empty,
    Something,
}

fn what_is_at(settings: &Settings, path: &Path) -> Result<AtPath, OpenError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(OpenError::not_a_store("it is a directory")),
        Ok(metadata) if !metadata.is_file() => Err(OpenError::not_a_store("it is not a file")),
        Ok(metadata) if settings.intent == Intent::Create && metadata.len() > 0 => {
            Err(OpenError::Exists)
        }
        Ok(metadata) if metadata.permissions().readonly() => Err(OpenError::ReadOnly),
        Ok(metadata) if metadata.len() > 0 => Ok(AtPath::Something),
        Ok(_) => Ok(AtPath::Empty),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AtPath::Nothing),
        Err(error) => Err(OpenError::io(error)),
    }
}

/// Opens an existing file; `None` if its name leads elsewhere by now.
fn open_existing(settings: &Settings, path: &Path) -> Result<Option<Opened>, OpenError> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io_error)?,
    };
    let opened = open_on_file(settings, &file)?;
    // Who made it, or gave it its name, may have been cut off before that was durable.
    // Where the directory may not be looked into, it was made in advance.
    if let Ok(end) = std::fs::canonicalize(path) {
        // Nobody else writes the store anew while this engine has it.
        let _ = clear_copy(&name_with(&end, SUFFIX));
        clear_creations(&end);
        let _ = Directory::open(&directory_of(&end)).and_then(|directory| directory.sync());
    }
    named(opened, file, path)
}

/// What was opened, with its file, or `None` where the name leads elsewhere by now.
fn named(opened: Opened, file: File, path: &Path) -> Result<Option<Opened>, OpenError> {
    match NamedFile::new(file, path).map_err(OpenError::io)? {
        Some(file) => Ok(Some(Opened {
            home: Home::File(Arc::new(file)),
            ..opened
        })),
        None => {
            let _ = opened.base.close();
            Ok(None)
        }
    }
}

/// Opens a file that is open already, so that what the storage engine opens is what was
/// looked at, whatever becomes of the name. It has no home before it is [`named`].
fn open_on_file(settings: &Settings, file: &File) -> Result<Opened, OpenError> {
    open_ground(settings, ground_on(file)?, || Home::Memory)
}

fn ground_on(file: &File) -> Result<Ground, OpenError> {
    let file = file.try_clone().map_err(OpenError::io)?;
    let file = FileBackend::new(file).map_err(database_error)?;
    Ok(Ground::new(file))
}

/// Creates a store under a temporary name that nobody else uses, and renames it once it
/// is complete and durable: a crash meanwhile leaves nothing under the final name.
/// `None`: look again.
fn create_file(settings: &Settings, path: &Path) -> Result<Option<Opened>, OpenError> {
    let end = end_of_links(path);
    refuse_unnamed(&end)?;
    let directory = directory_of(&end);
    if !directory.is_dir() {
        return Err(OpenError::MissingDirectory(directory));
    }
    let beside = creating_name(&end);
    let mut partial = Partial::create(end, beside.clone()).map_err(|error| at(&beside, &error))?;
    let opened = open_on_file(settings, partial.file())?;
    match partial.take_name() {
        // Another creation was quicker, or the temporary name is gone.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
            ) =>
        {
            return Ok(None);
        }
        taken => taken.map_err(OpenError::io)?,
    }
    clear_creations(partial.target());
    let file = partial.file().try_clone().map_err(OpenError::io)?;
    named(opened, file, path)
}

/// An error that concerns another path than the store's.
fn at(path: &Path, error: &io::Error) -> OpenError {
    OpenError::io(io::Error::new(
        error.kind(),
        format!("{}: {error}", path.display()),
    ))
}

/// The storage engine keeps a whole file locked as long as it has it open for writing.
pub(super) fn locked(lock: Result<(), TryLockError>) -> Result<(), OpenError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
        // Nor can the storage engine lock it then.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(OpenError::io(error)),
    }
}

/// Looks at an existing file without writing to it, so that one that is not ours, or
/// not for these peppers, stays as it was to the byte. `false`: look again.
fn look_without_writing(settings: &Settings, path: &Path) -> Result<bool, OpenError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(OpenError::io)?,
    };
    // Whoever has it open for writing, or begins to, would change it meanwhile.
    locked(file.try_lock_shared())?;
    let found = match file.metadata().map_err(OpenError::io)?.len() {
        0 => Ok(false),
        _ => identify_apart(settings, &file).map(|()| true),
    };
    let _ = file.unlock();
    found
}

fn identify_apart(settings: &Settings, file: &File) -> Result<(), OpenError> {
    check_magic(file)?;
    guarded_any(|| {
        let ground = Arc::new(ground_on(file)?);
        let look = |txn: &ReadTransaction| match identify(&settings.peppers, txn)? {
            Found::Blank if settings.intent == Intent::Open => Err(OpenError::Missing),
            _ => Ok(()),
        };
        match look_at_view(settings, &ground, look) {
            Some(Ok(found)) => Ok(found),
            // What a view does not find, a repair may, or it says what is wrong.
            None | Some(Err(_)) => look_apart(settings, ground, look),
        }
    })
}

/// `None`: the file must be repaired first. That is so wherever nobody repairs it later: what
/// is damaged is then found before anything is written to it.
fn look_at_view<T>(
    settings: &Settings,
    ground: &Arc<Ground>,
    look: impl FnOnce(&ReadTransaction) -> Result<T, OpenError>,
) -> Option<Result<T, OpenError>> {
    if !settings.reads_first || settings.verify_file {
        return None;
    }
    let looked = guarded_any(|| {
        let opened = view::open(ground, settings.cache_bytes).map_err(database_error)?;
        let Some((db, _)) = opened else {
            return Ok(None);
        };
        look(&db.begin_read().map_err(no_transaction)?).map(Some)
    });
    looked.transpose()
}

/// Repairs a file in memory, and looks at it as it then is.
fn look_apart<T>(
    settings: &Settings,
    ground: Arc<Ground>,
    look: impl FnOnce(&ReadTransaction) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let access = Access::apart(ground).map_err(OpenError::io)?;
    let mut builder = Database::builder();
    builder.set_cache_size(settings.cache_bytes);
    let mut db = builder
        .create_with_backend(access.clone())
        .map_err(database_error)?;
    let found = db
        .begin_read()
        .map_err(no_transaction)
        .and_then(|txn| look(&txn));
    // redb writes as it closes, unless it knows of an error; on pages that
    // are damaged it may panic there in a way that ends the process.
    access.end();
    let _ = db.check_integrity();
    found
}

fn no_transaction(error: TransactionError) -> OpenError {
    OpenError::Store(failure(error))
}

fn check_magic(file: &File) -> Result<(), OpenError> {
    let head = head(file).map_err(OpenError::io)?;
    match head.len() == REDB_MAGIC.len() {
        true if head == REDB_MAGIC => Ok(()),
        // The storage engine writes the first bytes of a file last.
        true if head.iter().all(|byte| *byte == 0) => Err(OpenError::not_a_store(
            "it begins with zeros, as a store that was being made and was not finished: if it is \
             one, empty or remove it",
        )),
        true => Err(OpenError::not_a_store(
            "its first bytes are not those of one",
        )),
        false => Err(OpenError::not_a_store("it is too short")),
    }
}

fn panicked() -> OpenError {
    OpenError::Corrupted("the storage engine gave up on it".to_owned())
}

/// redb may panic on a file that was damaged from outside.
fn guarded<T>(open: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, OpenError> {
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
        DatabaseError::Storage(StorageError::Io(error)) => io_error(error),
        DatabaseError::Storage(StorageError::Corrupted(why)) => OpenError::Corrupted(why),
        other => OpenError::Store(failure(other)),
    }
}

fn io_error(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly,
        io::ErrorKind::InvalidData => OpenError::NotAStore(error.to_string()),
        io::ErrorKind::UnexpectedEof => OpenError::Corrupted(error.to_string()),
        _ => OpenError::io(error),
    }
}
