//! Where a store is, and as what it is to be opened.

use std::path::Path;
#[cfg(feature = "proof")]
use std::sync::Arc;

/// What a store's bytes are on.
pub(crate) enum Place<'a> {
    Memory,
    File(&'a Path),
    /// For the project's own proofs.
    #[cfg(feature = "proof")]
    Medium(Arc<dyn super::medium::Medium>),
}

impl<'a> Place<'a> {
    /// The file, where it is one.
    pub(crate) fn path(&self) -> Option<&'a Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_its_path_where_it_is_a_file() {
        let path = Path::new("keys.redb");
        assert_eq!(Place::File(path).path(), Some(path));
        assert_eq!(Place::Memory.path(), None);
    }
}
