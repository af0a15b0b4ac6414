//! Counting what a store holds.

use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::stats::Stats;
use crate::store::snapshot::Snapshot;

/// # Counting
impl Engine {
    /// Counts what the store holds. Every change keeps the counts up to date, so this
    /// takes the same time for a thousand keys and for millions, except while keys lag: the
    /// records of a large owner or keyspace follow its [suspension](Engine::suspend) or
    /// revocation for seconds, and meanwhile the call reads one by one the keys whose records are
    /// still to follow. With 100,000 of them it took thousands of times as long: 0.2 to 0.9 s (a
    /// test build on a busy machine).
    ///
    /// The call reads one by one the keys whose state time alone has changed since the
    /// last change or [`flush`](Engine::flush): keys that expired, became valid or
    /// reached the end of their grace. Each costs some microseconds. They are usually a
    /// few hundred at most, since changes and flushes count them. There are more where
    /// many thousands of keys end at once, or where nothing is changed and no usage is
    /// kept ([`Options::usage_interval`](crate::Options::usage_interval)).
    ///
    /// A key whose record is damaged counts as it did before; [`check`](Engine::check)
    /// names it, and compares the counts. Where the counts themselves are damaged, the
    /// call reads every key, until a [`repair`](Engine::repair).
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let counts = engine.stats()?.keyspaces[&"acme_live".parse()?];
    /// assert_eq!((counts.active, counts.total()), (1, 1));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.core.tell(kept)?;
        stats.usage_lost = self.core.notes().lost();
        let limiter = self.core.limiter();
        stats.limited_keys = limiter.len();
        (stats.limits_refused_for_room, stats.limits_evicted) = limiter.crowding();
        stats.file_bytes = self.core.file_bytes();
        stats.health = self.core.health();
        if let Some(resident) = self.core.resident() {
            (stats.resident_keys, stats.resident_capacity) = resident.occupancy();
        }
        Ok(stats)
    }
}

/// The statistics that come from the file.
fn kept(snapshot: &Snapshot, now: Timestamp) -> Result<Stats> {
    let state = snapshot.state()?;
    Ok(Stats {
        keyspaces: snapshot.key_counts(now)?,
        audit_entries: state.audit_seq - state.audit_floor_seq,
        ..Stats::default()
    })
}
