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

/// A snapshot for new servers of the fleet.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Remove the entries up to the snapshot before this one. A server that was away since
    /// before then must join anew.
    #[serde(default)]
    pub trim: bool,
}

/// A removal of audit entries from the beginning.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrimRequest {
    /// The position of the last entry to remove.
    pub through: u64,
}
