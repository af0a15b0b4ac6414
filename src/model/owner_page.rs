//! Listing owners, page by page.

use crate::model::error::Corruption;
use crate::model::filter::Cursor;
use crate::model::owner::OwnerState;

/// A page of owners that are suspended themselves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OwnerPage {
    /// The owners, each with its suspension.
    pub owners: Vec<OwnerState>,
    /// Records that could not be read. They suspend all the same;
    /// [`Engine::repair`](crate::Engine::repair) removes or rebuilds them.
    pub damaged: Vec<Corruption>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Cursor>,
}
