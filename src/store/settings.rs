//! What the store is told by whoever opens it.

use crate::model::secret::Pepper;

/// How a store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The signing pepper first.
    pub(crate) peppers: Vec<Pepper>,
    /// Memory for the pages of the file, in bytes.
    pub(crate) cache_bytes: usize,
    /// Whether a file that does not exist is created.
    pub(crate) create: bool,
    /// Whether the whole file is read and its checksums verified.
    pub(crate) verify_file: bool,
}
