//! The thread that gathers what verifications have noted and periodically writes it, and
//! that makes a failed store recover.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::crypto::stack::clear_stack;
use crate::engine::shared::Core;
use crate::model::error::{Error, StoreFailure};
use crate::model::health::{Alarm, Failure, Hook, Waited};

/// How long it waits between attempts while the store has failed.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The thread that flushes periodically.
pub(crate) struct Maintenance {
    alarm: Arc<Alarm>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Maintenance {
    /// Without an interval, it only waits for failures.
    pub(crate) fn start(
        core: &Arc<Core>,
        interval: Option<Duration>,
        hook: Option<Hook>,
    ) -> Result<Self, Error> {
        let alarm = core.alarm().clone();
        let thread = std::thread::Builder::new()
            .name("gatekey-flush".to_owned())
            .spawn({
                let (alarm, core) = (alarm.clone(), Arc::downgrade(core));
                let interval = interval.unwrap_or(Duration::MAX);
                move || Self::run(&alarm, &core, interval, hook.as_ref())
            })
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        Ok(Self {
            alarm,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn run(alarm: &Alarm, core: &Weak<Core>, interval: Duration, hook: Option<&Hook>) {
        let tell = |failure: &Failure| {
            if let Some(hook) = hook {
                hook.call(failure);
            }
        };
        if let Some(core) = core.upgrade() {
            // A failure is noted, and met again below.
            let _ = catch_unwind(AssertUnwindSafe(|| core.repair_opened()));
        }
        let mut wait = FIRST_WAIT;
        let mut flushed_at = Instant::now();
        loop {
            let before = alarm.health();
            let to_flush = interval.saturating_sub(flushed_at.elapsed());
            let time = match before.is_well() {
                true => to_flush,
                false => to_flush.min(wait),
            };
            let begun = Instant::now();
            let core = loop {
                let rest = time.saturating_sub(begun.elapsed());
                let waited = alarm.wait(rest, !before.is_well());
                if matches!(waited, Waited::Over) {
                    return;
                }
                let Some(core) = core.upgrade() else { return };
                match waited {
                    Waited::Called => {
                        core.gather_uses();
                        // A panic in a caller's clock must not end this thread.
                        let bring = || core.bring_wanted_up();
                        match catch_unwind(AssertUnwindSafe(bring)) {
                            Ok(Ok(true)) => alarm.wake(),
                            // That the store has failed is told below.
                            Ok(Err(error)) if alarm.health().is_well() => {
                                let cause = StoreFailure::new(error.to_string(), None);
                                tell(&alarm.failure_of(&cause));
                            }
                            Ok(_) | Err(_) => {}
                        }
                        if rest.is_zero() {
                            break core;
                        }
                    }
                    _ => break core,
                }
            };
            let found = alarm.health();
            if let (true, Some(failure)) = (before.is_well(), found.failure()) {
                tell(failure);
            }
            let is_due = flushed_at.elapsed() >= interval;
            if is_due {
                flushed_at = Instant::now();
            }
            // Notes that could not be written are kept. A panic in a caller's clock
            // must not end this thread: nothing would be flushed any more.
            let write = || match is_due {
                true => core.flush_by_thread(),
                false => core.recover(),
            };
            let written = catch_unwind(AssertUnwindSafe(write));
            let written = written.unwrap_or(Err(Error::Internal("a flush panicked")));
            clear_stack();
            let after = alarm.health();
            match (written, after.failure()) {
                (_, Some(failure)) => {
                    tell(failure);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                (Err(error), None) => {
                    let cause = StoreFailure::new(error.to_string(), None);
                    tell(&alarm.failure_of(&cause));
                }
                (Ok(()), None) => {
                    wait = FIRST_WAIT;
                    if core.is_bringing_up_wanted() {
                        alarm.wake();
                    }
                }
            }
        }
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.alarm.end();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // If it panicked, it held no lock that matters.
            let _ = thread.join();
        }
    }
}
