//! What an engine counts besides its verifications.

// The standard library's, also under a model checker: nothing is ordered by them.
use std::sync::atomic::AtomicU64;

use crate::model::timings::Recorder;

/// What happens seldom enough for all threads to count in one place.
#[derive(Default)]
pub(super) struct Counters {
    /// Verifications that ended in one.
    pub(super) errors: AtomicU64,
    pub(super) commits: Recorder,
    pub(super) commits_failed: AtomicU64,
    /// How often the store was asked for a slice of a quota.
    pub(super) quota_slices: AtomicU64,
    /// One more than the instant of the last backup; 0: there was none.
    pub(super) backed_up_ms: AtomicU64,
}
