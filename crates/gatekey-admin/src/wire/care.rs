//! The care of the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// A removal of keys that ended long ago.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// How long ago the keys must have ended.
    pub age: Span,
    /// Only count the keys that would be removed.
    #[serde(default)]
    pub dry_run: bool,
}

/// A removal of audit entries from the beginning.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrimRequest {
    /// The position of the last entry to remove.
    pub through: u64,
}
