//! A copy of a store in the making: a backup, or a store that is restored.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::model::error::{Conflict, Error, OpenError, StoreFailure};
use crate::store::file::{ends_in_a_name, name_with};
use crate::store::open::locked;
use crate::store::partial::Partial;

/// A copy that has its name once it is whole and durable, with words for errors.
pub(crate) struct Aside {
    /// What is made: `backup`, as in "the backup to ..."
    what: &'static str,
    partial: Partial,
}

impl Aside {
    /// Begins a copy for a name that nothing has yet. `under_way` words that another is
    /// being made for it, or was left behind.
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
        // A link is a name as well, also one that leads to nothing.
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

    /// Fills it with the bytes of a store that nobody has open.
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
        // Whoever has it open for writing would change it meanwhile.
        locked(from.try_lock_shared()).map_err(refuse)?;
        let copied = io::copy(&mut from, &mut self.partial.file())
            .and_then(|_| self.partial.file().sync_all());
        let _ = from.unlock();
        copied.map_err(|error| self.failed(&error))
    }

    /// Gives the file its name, durably. It is to be whole and durable itself.
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
