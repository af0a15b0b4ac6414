//! Notices before a key ends: a hook of the host's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::engine::shared::Core;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::store::failure::guarded;

impl Core {
    /// Tells of the keys that have come so near to their end since the last call. No lock is
    /// held while the host's function runs.
    pub(super) fn tell_expiring(&self) -> Result<(), Error> {
        let Some(notices) = &self.notices else {
            return Ok(());
        };
        let now = self.now();
        let told = notices.take(now);
        // Of a store that was never told of anything: what ends from now on.
        let told = if told == Timestamp::MIN { now } else { told };
        // A key that has passed several distances since is told for the nearest alone.
        let mut nearer = Duration::ZERO;
        for ahead in &notices.on.ahead {
            let from = told.saturating_add(*ahead).max(now.saturating_add(nearer));
            nearer = *ahead;
            let to = now.saturating_add(*ahead);
            let found = self.read(|snapshot| snapshot.ids_ending_within(from, to));
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    // What was not told is told by the next.
                    notices.take(told);
                    return Err(error);
                }
            };
            for id in found {
                let key = guarded(|| self.snapshot()?.key(id, now));
                let Ok(key) = key else { continue };
                let call = || (notices.on.hook)(&key, *ahead);
                let _ = catch_unwind(AssertUnwindSafe(call));
            }
        }
        Ok(())
    }
}
