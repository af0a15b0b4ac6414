//! When a bounded map of counters is walked for those that are idle: as it grows by
//! a quarter, and not over and over while it is full.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::model::clock::Timestamp;

/// How much a map grows, at least, between two walks.
const EVERY: usize = 1024;
/// How long a pause is, in milliseconds.
const PAUSE_MS: u64 = 1000;

pub(crate) struct Sweeps {
    len_max: usize,
    /// The length at which the map is walked next.
    at: AtomicUsize,
    /// Before this instant it is not walked.
    again_ms: AtomicU64,
}

impl Sweeps {
    /// How long a pause is: a full map must not be walked for every request.
    pub(crate) const PAUSE: Duration = Duration::from_millis(PAUSE_MS);

    /// For a map of at most so many counters.
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            len_max,
            at: AtomicUsize::new(EVERY.min(len_max)),
            again_ms: AtomicU64::new(0),
        }
    }

    /// Whether a map of this length has grown enough.
    pub(crate) fn is_due(&self, len: usize) -> bool {
        len >= self.at.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self, now: Timestamp) -> bool {
        let again_at = self.again_ms.load(Ordering::Relaxed);
        // One that is further ahead was set before the clock stepped back.
        now.unix_ms() < again_at && again_at <= now.unix_ms() + PAUSE_MS
    }

    pub(crate) fn pause(&self, now: Timestamp) {
        self.again_ms
            .store(now.unix_ms() + PAUSE_MS, Ordering::Relaxed);
    }

    /// Notes how many a walk has left.
    pub(crate) fn left(&self, len: usize) {
        let next = (len + EVERY.max(len / 4)).min(self.len_max);
        self.at.store(next, Ordering::Relaxed);
    }
}
