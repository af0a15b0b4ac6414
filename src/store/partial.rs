//! A file with a temporary name, which gets its final name once it is complete and
//! durable.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::file::{
    Directory, create_private, directory_of, leads_to, remove_own, rename_to_new, take_place,
};

/// A file that is being written. Dropping it before it has its final name removes it.
pub(super) struct Partial {
    /// The final name.
    target: PathBuf,
    /// The temporary name.
    path: PathBuf,
    file: File,
    directory: Directory,
    is_finished: bool,
}

impl Partial {
    /// Creates an empty file, readable and writable by its owner only. Its creator
    /// alone may remove it.
    pub(super) fn create(target: PathBuf, path: PathBuf) -> io::Result<Self> {
        let directory = Directory::open(&directory_of(&target))?;
        let file = create_private(&path)?;
        Ok(Self {
            target,
            path,
            file,
            directory,
            is_finished: false,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its final name, durably. An existing file of that name stays
    /// (`AlreadyExists`).
    pub(super) fn take_name(&mut self) -> io::Result<()> {
        let taken = self.rename().and_then(|()| self.directory.sync());
        self.is_finished = taken.is_ok();
        if taken.is_err() {
            let _ = remove_own(&self.target, &self.file);
        }
        taken
    }

    fn rename(&self) -> io::Result<()> {
        rename_to_new(&self.path, &self.file, &self.target)?;
        // Its name was another's in the moment between.
        match leads_to(&self.target, &self.file)? {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Gives the file the name of an old one, whose own it is to be; `false` where it is
    /// not, and stays as it is.
    pub(super) fn take_place_of(&mut self, old: &File) -> io::Result<bool> {
        self.is_finished = take_place(&self.path, &self.file, old, &self.target)?;
        Ok(self.is_finished)
    }

    /// Makes durable that it has its name.
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = remove_own(&self.path, &self.file);
        }
    }
}
