//! What the project's own proofs reach into: tests, benches and fuzz targets.
//!
//! With the feature `proof` alone. Nothing here is part of the interface that
//! versions speak of; do not build on it. See docs/PROOF.md.

pub mod fuzz;

use crate::engine::Engine;
use crate::error::Error;
use crate::options::Options;
use crate::store::Place;

pub use crate::store::medium::Medium;

/// Opens or creates a store on a medium of the caller's: a disk that is
/// simulated, and may fail or lose its power.
///
/// It is [`Options::open`] but for what concerns a file's name: the look at a
/// file before it is opened for writing, its mode, its lock and its directory.
///
/// # Errors
/// As [`Options::open`].
pub fn open_on(options: Options, medium: impl Medium) -> Result<Engine, Error> {
    Engine::open_with(options, Place::Medium(Box::new(medium)))
}
