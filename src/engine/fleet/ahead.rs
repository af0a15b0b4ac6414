//! Slices of quotas that are taken before a request needs them, so that it does not wait for
//! the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::time::Duration;

use crate::change::quota;
use crate::crypto::stack::clear_stack;
use crate::engine::fleet::state::Fleet;
use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::sync::atomic::Ordering;

/// How long the thread rests between two looks: after one that found something, and at most.
const SHORTEST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_millis(250);

impl Core {
    /// Takes slices of the quotas of which memory has little. `false`: there was none.
    fn fetch_ahead(&self) -> Result<bool, Error> {
        let numbers = self.quotas.low(self.now());
        if numbers.is_empty() {
            return Ok(false);
        }
        let quotas = self.quotas.clone();
        self.mutate(move |tx| quota::take_ahead(tx, &quotas, &numbers))
    }
}

/// Looks again soon where it has found something or a request has waited, and then more and
/// more seldom.
pub(super) fn run(core: &Weak<Core>, fleet: &Fleet) {
    let mut rest = SHORTEST_REST;
    while !fleet.stops.load(Ordering::Acquire) {
        let found = {
            let Some(core) = core.upgrade() else { return };
            // A panic in a caller's clock must not end this thread. A failure is told to
            // the requests that then wait.
            catch_unwind(AssertUnwindSafe(|| core.fetch_ahead()))
        };
        clear_stack();
        let has_waited = fleet.has_waited.swap(false, Ordering::AcqRel);
        rest = match found {
            Ok(Ok(true)) => SHORTEST_REST,
            Ok(Ok(false)) if has_waited => SHORTEST_REST,
            Ok(Ok(false)) => (rest + rest / 2).min(LONGEST_REST),
            Ok(Err(_)) | Err(_) => LONGEST_REST,
        };
        std::thread::park_timeout(rest);
    }
}

impl Fleet {
    /// Notes that a request waits for a slice: of this quota, the next are taken ahead.
    pub(in crate::engine) fn waits_for_slice(&self) {
        self.has_waited.store(true, Ordering::Release);
        if let Some(thread) = self.ahead.get() {
            thread.unpark();
        }
    }
}
