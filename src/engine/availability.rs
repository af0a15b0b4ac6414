//! Whether the engine can answer a verification at all.

use std::time::Duration;

use crate::engine::shared::Core;
use crate::memory::process::Step;
use crate::model::error::Error;
use crate::sync::atomic::Ordering;

impl Core {
    /// Fails where no verification can be answered. For answers that need no snapshot.
    pub(super) fn must_be_open(&self) -> Result<(), Error> {
        match self.dark.load(Ordering::Acquire) {
            true => Err(self.unavailable()),
            false => Ok(()),
        }
    }

    /// Fails where the store has taken no changes for longer than the options allow, or where
    /// a server of a fleet may not know what was taken away. Gives the steady clock at the
    /// moment of which such a server knows everything.
    pub(super) fn require_health(&self) -> Result<Option<Duration>, Error> {
        match self.store.alarm().is_raised() {
            true => self.require_recent_health(),
            false => Ok(None),
        }
    }

    #[cold]
    fn require_recent_health(&self) -> Result<Option<Duration>, Error> {
        let fleet = self.fleet.as_ref();
        let known_at = fleet
            .map(|fleet| fleet.require_fresh(&*self.clock))
            .transpose()?;
        let lasts = self.store.alarm().lasts();
        match (self.fails_closed_after, lasts, self.health().failure()) {
            (Some(allowed), Some(lasts), Some(failure)) if lasts >= allowed => {
                Err(Error::FailedClosed {
                    since: failure.since(),
                })
            }
            _ => Ok(known_at),
        }
    }

    /// Asks periodically whether this is the engine's process: a system call each time
    /// would cost more than a verification from memory. See docs/INTERNALS.md.
    pub(super) fn look_home(&self) -> Result<(), Error> {
        let step = Step::of(self.clock.coarse_now());
        self.notes.look(None, step, || self.home.refuse_fork())
    }
}
