//! What an engine counts of its own work.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::metrics::Metrics;

const DAY: Duration = Duration::from_secs(86_400);

/// # Metrics
impl Engine {
    /// What the engine has done since it was opened: verifications by keyspace and outcome,
    /// how long they, commits and syncs took, and what waits to be written.
    ///
    /// Counting costs a verification from memory a few instructions, and no lock: each
    /// thread has counts of its own, which this call adds up. The clock is read at the beginning
    /// and the end of a sample of the verifications from memory, and of all that read the file.
    /// The call reads the index of the keys that end within 30 days, 0.1 us each; nothing
    /// else of the file.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Outcome;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// engine.verify(issued.token.expose())?;
    /// engine.verify("not a token")?;
    /// let metrics = engine.metrics()?;
    /// assert_eq!(metrics.verifications[&"acme_live".parse()?].granted(), 1);
    /// assert_eq!(metrics.unattributed.get(Outcome::Malformed), 1);
    /// assert_eq!(metrics.commits.count(), 2);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn metrics(&self) -> Result<Metrics> {
        let core = &self.core;
        let now = core.now();
        let ((expiring_7d, expiring_30d), history) = core.read(|snapshot| {
            let expiring = snapshot.ending_within(now, [7 * DAY, 30 * DAY])?;
            Ok((expiring, snapshot.history_state()))
        })?;
        // A damaged record must not hide the rest; `check` names it.
        let history = history.unwrap_or_default();
        let tallied = core.notes().tallied();
        let mut metrics = Metrics {
            unattributed: tallied.unattributed,
            errors: core.counters.errors.load(Relaxed),
            resident_hits: tallied.hits,
            resident_misses: tallied.misses,
            memory_times: tallied.memory_times,
            file_times: tallied.file_times,
            queue_waits: core.queue.waits(),
            commits: core.counters.commits.read(),
            syncs: core.alarm().syncs().read(),
            commits_failed: core.counters.commits_failed.load(Relaxed),
            quota_slices: core.counters.quota_slices.load(Relaxed),
            uses_lost: core.notes().lost(),
            denials_lost: core.notes().denials_lost(),
            history_bytes: history.bytes(),
            history_skipped: history.skipped,
            oldest_unflushed: core.notes().waits_since(),
            expiring_7d,
            expiring_30d,
            last_backup: match core.counters.backed_up_ms.load(Relaxed) {
                0 => None,
                ms => Some(Timestamp::from_raw(ms - 1)),
            },
            fleet: self.fleet_status(),
            ..Metrics::default()
        };
        for (number, entry) in (0..).zip(core.registry().iter()) {
            let counted = tallied.keyspaces.iter().find(|(of, _)| *of == number);
            let counts = counted.map(|(_, counts)| *counts).unwrap_or_default();
            metrics.verifications.insert(entry.prefix, counts);
        }
        Ok(metrics)
    }
}
