//! Files that a crash has left beside a store, and their removal.
//!
//! A creation or a rewrite keeps its file locked from its first byte until the file has
//! its name. So a file with content that can be locked belongs to nobody.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::file::{directory_of, is_plain, name_with, remove_own};

/// The bytes with which a redb file begins.
pub(super) const REDB_MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];

/// Behind a store's name, a dot and 16 hexadecimal digits: the suffix of a store that is
/// being created.
const CREATING: &str = ".gatekey-create";

/// Behind the name that a backup is to have: the suffix of one that is being written.
pub(super) const BACKUP: &str = ".backup";

/// How old an empty file must be to be a leftover. A creation locks its file right after
/// it has created it: until then the file is empty and not locked.
const EMPTY_FOR: Duration = Duration::from_secs(60);

/// A temporary name for the creation of a store, or for a copy of it, which no other uses. Once
/// nobody has it locked, the next opening of the store removes it.
pub(crate) fn creating_name(target: &Path) -> PathBuf {
    // Another number each time, without a draw from the system's generator.
    let number = RandomState::new().build_hasher().finish();
    name_with(target, &format!(".{number:016x}{CREATING}"))
}

/// Removes the files that crashes during creations of a store have left. A file of a
/// creation that is under way stays, and so does any file that is not a store's.
pub(super) fn clear_creations(target: &Path) {
    let Some(name) = target.file_name() else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(directory_of(target)) else {
        return;
    };
    for entry in entries.flatten() {
        if is_creating_name(&entry.file_name(), name) && !is_just_created(&entry.path()) {
            let _ = clear_copy(&entry.path());
        }
    }
}

/// Whether a name is one that [`creating_name`] gives to a store, or of a backup to there.
fn is_creating_name(name: &OsStr, store: &OsStr) -> bool {
    let number = name
        .as_encoded_bytes()
        .strip_prefix(store.as_encoded_bytes())
        .and_then(|rest| rest.strip_prefix(b"."))
        .map(|rest| rest.strip_suffix(BACKUP.as_bytes()).unwrap_or(rest))
        .and_then(|rest| rest.strip_suffix(CREATING.as_bytes()));
    number.is_some_and(|number| {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        number.len() == 16 && number.iter().all(is_digit)
    })
}

/// Whether a creation may have created a file and not locked it yet. A file whose age
/// is not known counts as new.
fn is_just_created(path: &Path) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return true;
    };
    let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
    metadata.len() == 0 && age.is_none_or(|age| age < EMPTY_FOR)
}

/// Removes a file that a crash has left, unless it is locked, is a link, or is not a
/// store's.
pub(super) fn clear_copy(partial: &Path) -> io::Result<()> {
    if !is_plain(partial)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let file = File::open(partial)?;
    file.try_lock()?;
    let head = head(&file)?;
    let removed = match head == REDB_MAGIC || head.iter().all(|byte| *byte == 0) {
        true => remove_own(partial, &file),
        false => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is in the way: move it away", partial.display()),
        )),
    };
    let _ = file.unlock();
    removed
}

/// The first bytes of a file, as many as say that it is the storage engine's.
pub(super) fn head(mut file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.rewind()?;
    file.take(REDB_MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head)
}
