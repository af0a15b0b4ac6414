//! A copy of a store before it gets its name: a backup, or a restored store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::model::error::{Conflict, Error, OpenError, StoreFailure};
use crate::store::file::{ends_in_a_name, name_with};
use crate::store::open::locked;
use crate::store::partial::Partial;

/// A copy that gets its name once it is complete and durable, with texts for errors.
pub(crate) struct Aside {
    /// What is made: `backup`, as in "the backup to ..."
    what: &'static str,
    partial: Partial,
}

impl Aside {
    /// Begins a copy for a name that no file has. `under_way` makes the error for
    /// another copy under way, or left behind.
    pub(crate) fn begin(
        what: &'static str,
        target: &Path,
        suffix: &str,
        under_way: fn(PathBuf) -> Conflict,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| failed(what, target, &error);
        if !ends_in_a_name(target) {
            let why = "the path names no file: it is empty, or ends in a separator, `.` or `..`";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        // A symbolic link counts as a file, even if it leads nowhere.
        match target.symlink_metadata() {
            Ok(_) => return Err(Conflict::TargetExists(target.to_owned()).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let path = name_with(target, suffix);
        match Partial::create(target.to_owned(), path.clone()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(under_way(path).into())
            }
            partial => Ok(Self {
                what,
                partial: partial.map_err(failed)?,
            }),
        }
    }

    /// The name that it has until it is finished.
    pub(crate) fn partial(&self) -> &Path {
        self.partial.path()
    }

    /// Another handle of the file.
    pub(super) fn file(&self) -> Result<File, Error> {
        let file = self.partial.file().try_clone();
        file.map_err(|error| self.failed(&error))
    }

    pub(super) fn len(&self) -> Result<u64, Error> {
        let metadata = self.partial.file().metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &io::Error) -> Error {
        failed(self.what, self.partial.target(), error)
    }

    /// Fills it with the bytes of a store that no engine has open.
    pub(crate) fn fill_from(&self, source: &Path) -> Result<(), Error> {
        let refuse = |reason| Error::open(Some(source), reason);
        let mut from = match File::open(source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(OpenError::Missing));
            }
            from => from.map_err(|error| refuse(OpenError::io(error)))?,
        };
        if fs::metadata(source).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(refuse(OpenError::not_a_store("it is a directory")));
        }
        // An engine that has it open for writing would change it meanwhile.
        locked(from.try_lock_shared()).map_err(refuse)?;
        let copied = io::copy(&mut from, &mut self.partial.file())
            .and_then(|_| self.partial.file().sync_all());
        let _ = from.unlock();
        copied.map_err(|error| self.failed(&error))
    }

    /// Gives the file its name, durably. The file itself must be complete and durable.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        match self.partial.take_name() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Conflict::TargetExists(self.partial.target().to_owned()).into())
            }
            taken => taken.map_err(|error| self.failed(&error)),
        }
    }
}

fn failed(what: &str, target: &Path, error: &io::Error) -> Error {
    let text = format!("the {what} to {}: {error}", target.display());
    Error::Store(StoreFailure::new(text, Some(error.kind())))
}
