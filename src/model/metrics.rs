//! What an engine counts of its own work.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::fleet::Status;
use crate::model::id::Prefix;
use crate::model::outcome::OutcomeCounts;
use crate::model::timings::Timings;

/// What an engine has done since it was opened, from
/// [`Engine::metrics`](crate::Engine::metrics). No key and no owner is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Metrics {
    /// Verifications of tokens that were proven, by the keyspace of the key. Each call
    /// counts, and each token of a batch. All keyspaces are there.
    pub verifications: BTreeMap<Prefix, OutcomeCounts>,
    /// Verifications of what belongs to no keyspace: malformed, unknown, or from a source
    /// with too many failed attempts.
    pub unattributed: OutcomeCounts,
    /// Verifications that ended in an error.
    pub errors: u64,
    /// Of the verifications in [`verifications`](Self::verifications), those whose key
    /// was in memory.
    pub resident_hits: u64,
    /// Those whose key was read from the file.
    pub resident_misses: u64,
    /// How long verifications took that were answered from memory, of a sample: at least one in
    /// 1,024, and at least one a second of each thread that verifies. Batches are not timed.
    /// A time has in it what it waited for a slice of a quota.
    pub memory_times: Timings,
    /// How long verifications took for which the file was read: each of them.
    pub file_times: Timings,
    /// How many changes there were, by how long each waited for the transaction that it
    /// shared.
    pub queue_waits: Timings,
    /// How many transactions were committed, by how long that took: writing, syncing
    /// twice, and publishing.
    pub commits: Timings,
    /// How many times the file was synced, by how long that took.
    pub syncs: Timings,
    /// How many transactions failed, in any step.
    pub commits_failed: u64,
    /// How many times a slice of a quota was asked of the store: each waits for a commit, which
    /// those of one [`verify_many`](crate::Engine::verify_many) share.
    pub quota_slices: u64,
    /// How many uses of keys were not counted, for want of room between two flushes.
    pub uses_lost: u64,
    /// How many denials of keys are not in the usage history, for the same reason.
    pub denials_lost: u64,
    /// How many bytes the usage history has.
    pub history_bytes: u64,
    /// How many rows of the usage history there was no room for, ever.
    pub history_skipped: u64,
    /// The minute of the oldest use or denial that is not in the file yet; `None` if all
    /// are. It stays within two intervals of the present
    /// ([`Options::usage_interval`](crate::Options::usage_interval)) while the store takes
    /// changes.
    pub oldest_unflushed: Option<Timestamp>,
    /// How many good keys expire, or end their grace, within 7 days.
    pub expiring_7d: u64,
    /// The same, within 30 days.
    pub expiring_30d: u64,
    /// The instant of the copy that the last backup made; `None` if this engine has made
    /// none since it was opened.
    pub last_backup: Option<Timestamp>,
    /// What the server knows of its fleet; `None` where the engine is alone.
    pub fleet: Option<Status>,
}

impl Metrics {
    /// The share of proven tokens whose key was in memory, 0 to 1; `None` if there were
    /// none.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// for _ in 0..4 {
    ///     engine.verify(issued.token.expose())?; // the first reads the file
    /// }
    /// assert_eq!(engine.metrics()?.resident_hit_rate(), Some(0.75));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn resident_hit_rate(&self) -> Option<f64> {
        let all = self.resident_hits.saturating_add(self.resident_misses);
        // Counts beyond 2^52 lose their last digits, which do not matter here.
        #[allow(clippy::cast_precision_loss)]
        (all > 0).then(|| self.resident_hits as f64 / all as f64)
    }

    /// How old the oldest use or denial is that is not in the file yet; zero if all are.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use std::time::Duration;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let metrics = engine.metrics()?;
    /// assert_eq!(metrics.unflushed_for(engine.now()), Duration::ZERO);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn unflushed_for(&self, now: Timestamp) -> Duration {
        let age = |oldest: Timestamp| now.unix_ms().saturating_sub(oldest.unix_ms());
        Duration::from_millis(self.oldest_unflushed.map_or(0, age))
    }
}
