//! Where an open store is found.

use std::sync::Arc;

use crate::store::file::NamedFile;

/// Behind a store's name: that of the file that is to take its place.
pub(super) const SUFFIX: &str = ".gatekey-rewrite";

/// Where a store is found.
#[derive(Clone)]
pub(super) enum Home {
    Memory,
    File(Arc<NamedFile>),
    /// For the project's own proofs.
    #[cfg(feature = "proof")]
    Medium(Arc<dyn super::medium::Medium>),
}
