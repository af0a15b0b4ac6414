//! A file that is made under another name, and gets its own once it is whole and durable.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::model::error::{Error, OpenError, Refusal, StoreFailure};
use crate::store::file::{
    Directory, create_private, directory_of, ends_in_a_name, leads_to, name_with, remove_own,
    rename_to_new,
};
use crate::store::open::locked;

/// A file in the making. It is removed where it is dropped before it has its name.
pub(crate) struct Aside {
    /// What is made, for errors: `backup`, as in "the backup to ..."
    what: &'static str,
    target: PathBuf,
    partial: PathBuf,
    file: File,
    directory: Directory,
    is_finished: bool,
}

impl Aside {
    /// Begins a file for a name that nothing has yet. `under_way` words that another is
    /// being made for it, or was left behind.
    pub(crate) fn begin(
        what: &'static str,
        target: &Path,
        suffix: &str,
        under_way: fn(PathBuf) -> Refusal,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| failed(what, target, &error);
        if !ends_in_a_name(target) {
            let why = "the path names no file: it is empty, or ends in a separator, `.` or `..`";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        // A link is a name as well, also one that leads to nothing.
        match target.symlink_metadata() {
            Ok(_) => return Err(Refusal::TargetExists(target.to_owned()).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let directory = Directory::open(&directory_of(target)).map_err(failed)?;
        let partial = name_with(target, suffix);
        // Whoever makes this file is the one who may remove it.
        let file = match create_private(&partial) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(under_way(partial).into());
            }
            file => file.map_err(failed)?,
        };
        Ok(Self {
            what,
            target: target.to_owned(),
            partial,
            file,
            directory,
            is_finished: false,
        })
    }

    /// The name that it has until it is finished.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Another handle of the file.
    pub(super) fn file(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|error| self.failed(&error))
    }

    pub(super) fn len(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &io::Error) -> Error {
        failed(self.what, &self.target, error)
    }

    /// Fills it with the bytes of a store that nobody has open.
    pub(crate) fn fill_from(&mut self, source: &Path) -> Result<(), Error> {
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
        let copied = io::copy(&mut from, &mut self.file).and_then(|_| self.file.sync_all());
        let _ = from.unlock();
        copied.map_err(|error| self.failed(&error))
    }

    /// Gives the file its name, durably. It is to be whole and durable itself.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.is_finished = true;
        let finished = self.rename();
        if finished.is_err() {
            let _ = remove_own(&self.partial, &self.file);
            let _ = remove_own(&self.target, &self.file);
        }
        finished
    }

    fn rename(&self) -> Result<(), Error> {
        let failed = |error: io::Error| self.failed(&error);
        match rename_to_new(&self.partial, &self.file, &self.target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Refusal::TargetExists(self.target.clone()).into());
            }
            renamed => renamed.map_err(failed)?,
        }
        // Its name was another's in the moment between.
        if !leads_to(&self.target, &self.file).map_err(failed)? {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        self.directory.sync().map_err(failed)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = remove_own(&self.partial, &self.file);
        }
    }
}

fn failed(what: &str, target: &Path, error: &io::Error) -> Error {
    let text = format!("the {what} to {}: {error}", target.display());
    Error::Store(StoreFailure::new(text, Some(error.kind())))
}
