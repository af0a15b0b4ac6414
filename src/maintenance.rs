//! The thread that writes, now and then, what verifications have noted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::core::Core;
use crate::error::Error;

/// The thread that flushes now and then.
pub(crate) struct Maintenance {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Maintenance {
    pub(crate) fn start(core: Weak<Core>, interval: Duration) -> Result<Self, Error> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = std::thread::Builder::new()
            .name("gatekey-flush".to_owned())
            .spawn({
                let stop = stop.clone();
                move || Self::run(&stop, &core, interval)
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn run(stop: &(Mutex<bool>, Condvar), core: &Weak<Core>, interval: Duration) {
        let (stopped, changed) = stop;
        loop {
            let wait = changed.wait_timeout_while(taken(stopped), interval, |stopped| !*stopped);
            if *wait.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            let Some(core) = core.upgrade() else { return };
            // What could not be written stays noted, and the next change that
            // a caller makes meets the same error and reports it.
            let _ = core.flush();
        }
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(&self) {
        let (stopped, changed) = &*self.stop;
        *taken(stopped) = true;
        changed.notify_all();
        if let Some(thread) = taken(&self.thread).take() {
            // It cannot have panicked with a lock that matters.
            let _ = thread.join();
        }
    }
}

/// Takes a lock of this thread's own: no model checker stands in for it.
fn taken<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
