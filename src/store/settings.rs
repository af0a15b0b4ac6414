//! The settings with which a store is opened.

use crate::model::secret::Pepper;

/// How a store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The signing pepper first.
    pub(crate) peppers: Vec<Pepper>,
    /// Memory for the pages of the file, in bytes.
    pub(crate) cache_bytes: usize,
    pub(crate) intent: Intent,
    /// Whether the whole file is read and its checksums verified.
    pub(crate) verify_file: bool,
    /// Whether a file that was not closed is read before it is repaired. Somebody must then
    /// repair it.
    pub(crate) reads_first: bool,
}

/// What is to be done about a store that exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// It must exist.
    Open,
    /// It must not exist.
    Create,
    OpenOrCreate,
}
