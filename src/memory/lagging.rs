//! What memory knows of owners whose keys lag behind them: see [`crate::store::lags`].

use std::sync::Arc;

use crate::store::lags::{AT_ONCE, Lags, PER_STEP};
use crate::store::record::View;
use crate::store::snapshot::Snapshot;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What the engine knows of owners that lag.
pub(crate) struct Lagging {
    /// Whether there are any. Never false while a snapshot that has some can be seen, or a
    /// record in memory is from before one that had.
    pub(crate) is_any: AtomicBool,
    /// Whether the engine's own thread is to bring keys up.
    pub(crate) is_wanted: AtomicBool,
    /// Whether there is such a thread.
    pub(crate) has_thread: AtomicBool,
    /// What the last flush of a server of a fleet found.
    pub(crate) found: Mutex<Lags>,
    /// How many keys of an owner change with it.
    pub(crate) at_once: usize,
    /// How many keys that lag one transaction brings up.
    pub(crate) per_step: usize,
    /// Whether that is done without a flush.
    pub(crate) brings_up: bool,
}

/// The snapshot whose lags a look in memory has to heed; `None` inside where there is none.
pub(crate) type Heeded = Option<Arc<Snapshot>>;

/// Whether a copy of a record that was made in memory may be behind its owner.
#[inline(always)]
pub(crate) fn is_behind(heeded: Option<&Heeded>, copy: &[u8]) -> bool {
    heeded.is_some_and(|heeded| is_behind_one(heeded, copy))
}

#[cold]
fn is_behind_one(heeded: &Heeded, copy: &[u8]) -> bool {
    match (heeded.as_ref(), View::parse(copy)) {
        (Some(snapshot), Some(view)) => snapshot.lags().covers(view.owner(), view.keyspace()),
        _ => true,
    }
}

impl Lagging {
    pub(crate) fn new(at_once: usize, brings_up: bool, snapshot: &Snapshot) -> Self {
        Self {
            is_any: AtomicBool::new(!snapshot.lags().is_empty()),
            is_wanted: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            found: Mutex::new(Lags::default()),
            at_once,
            per_step: match at_once {
                AT_ONCE => PER_STEP,
                // Of a proof, which wants to see what is between.
                at_once => at_once.max(1),
            },
            brings_up,
        }
    }

    /// Says whether owners lag: before a snapshot is shown where some do, and after one is
    /// where none does.
    pub(crate) fn set(&self, is_any: bool) {
        self.is_any.store(is_any, Ordering::Release);
    }
}
