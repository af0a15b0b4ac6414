//! Opening an engine with options.

use std::path::Path;

use crate::engine::handle::Engine;
use crate::engine::options::Options;
use crate::model::error::Error;
use crate::store::place::Place;

/// # Opening
impl Options {
    /// Opens the store at `path`, or creates it.
    ///
    /// The file is locked against other engines until the last handle is gone.
    ///
    /// # Errors
    /// [`Error::Open`], with the file as it was: see [`OpenError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Engine, Error> {
        Engine::open_with(self, Place::File(path.as_ref()))
    }

    /// Opens a store in memory, which is gone when the last handle is: for tests.
    ///
    /// # Errors
    /// [`Error::Open`] for options that contradict each other.
    pub fn open_in_memory(self) -> Result<Engine, Error> {
        Engine::open_with(self, Place::Memory)
    }
}
