//! Whether this is still the process that opened the engine. A child of a fork has
//! a copy of the engine's memory and none of its threads, so that its locks may never
//! be given back, and shares the file with its parent: it must write nothing.

// The standard library's, also under a model checker: nothing is ordered by them.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::sync::{Mutex, MutexGuard, lock, try_lock};

/// The process that opened an engine.
pub(crate) struct Home(AtomicU32);

impl Home {
    /// This process.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(std::process::id()))
    }

    /// Whether this is the process. A system call.
    pub(crate) fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed) == std::process::id()
    }

    /// [`Error::Forked`] in every other process.
    pub(crate) fn refuse_fork(&self) -> Result<(), Error> {
        match self.is_here() {
            true => Ok(()),
            false => Err(Error::Forked),
        }
    }

    /// Lets this process be another from now on, as for a child of a fork.
    #[cfg(test)]
    pub(crate) fn leave(&self) {
        // No process that forks has this id.
        self.0.store(0, Ordering::Relaxed);
    }
}

/// How often a lock that another thread holds is tried before it is waited for.
#[cfg(not(gatekey_shuttle))]
pub(crate) const TRIES: usize = 64;
#[cfg(gatekey_shuttle)]
pub(crate) const TRIES: usize = 1;

/// Takes a lock that is held for a moment only. Where another thread holds it for longer,
/// asks first whether this is the process: in a child of a fork, a lock may be held by a
/// thread that is not there, for ever.
#[inline(always)]
pub(crate) fn lock_at_home<'a, T>(
    mutex: &'a Mutex<T>,
    home: &Home,
) -> Result<MutexGuard<'a, T>, Error> {
    match try_lock(mutex) {
        Some(guard) => Ok(guard),
        None => wait_at_home(mutex, home),
    }
}

#[cold]
fn wait_at_home<'a, T>(mutex: &'a Mutex<T>, home: &Home) -> Result<MutexGuard<'a, T>, Error> {
    for _ in 0..TRIES {
        std::hint::spin_loop();
        if let Some(guard) = try_lock(mutex) {
            return Ok(guard);
        }
    }
    home.refuse_fork()?;
    Ok(lock(mutex))
}

/// A stretch of the clock of 1,024 ms, in which a thread asks at most once, for all of
/// its verifications, whether it is in the engine's process.
#[derive(Clone, Copy)]
pub(crate) struct Step(u64);

impl Step {
    /// The one that an instant lies in.
    pub(crate) fn of(instant: Timestamp) -> Self {
        Self(instant.unix_ms() >> 10)
    }
}

/// How many verifications of a thread pass before it asks again.
const LOOKS_MAX: u64 = 1024;

/// When a thread last asked whether it is in the engine's process. No other thread
/// writes to it.
pub(crate) struct Asked {
    step: AtomicU64,
    looks: AtomicU64,
}

impl Asked {
    pub(crate) fn never() -> Self {
        Self {
            // No instant lies in this step.
            step: AtomicU64::new(u64::MAX),
            looks: AtomicU64::new(0),
        }
    }

    /// Whether it was in this step of the clock.
    pub(crate) fn is_in(&self, step: Step) -> bool {
        self.step.load(Ordering::Relaxed) == step.0
    }

    /// Whether it was in this step, and few verifications ago; counts one.
    pub(crate) fn is_recent(&self, step: Step) -> bool {
        let looks = self.looks.load(Ordering::Relaxed);
        let is_recent = looks < LOOKS_MAX && self.is_in(step);
        if is_recent {
            self.looks.store(looks + 1, Ordering::Relaxed);
        }
        is_recent
    }

    pub(crate) fn note(&self, step: Step) {
        self.looks.store(0, Ordering::Relaxed);
        self.step.store(step.0, Ordering::Relaxed);
    }
}
