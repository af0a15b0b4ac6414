//! Locks and atomics: the one seam at which a model checker takes their place.
//!
//! `--cfg gatekey_loom` has loom stand in for what the resident table and
//! the purses of quotas use, and explores every order of a few steps, and every value that a weak memory may give.
//! `--cfg gatekey_shuttle` has shuttle stand in for what the engine uses, and draws
//! orders of many steps at random. What is lock-free inside a dependency (the swap of
//! the snapshot, the maps of counters) is one step to both. docs/PROOF.md has the
//! commands.

#[cfg(gatekey_shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(gatekey_shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

use std::sync::{PoisonError, TryLockError};

/// What the resident table and the purses of quotas use.
pub(crate) mod table {
    #[cfg(not(gatekey_loom))]
    pub(crate) use super::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering, fence},
    };
    #[cfg(gatekey_loom)]
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering, fence},
    };

    /// As [`lock`](super::lock).
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// So many zeros, which take up memory once they are touched.
pub(crate) fn zeros(count: usize) -> Box<[atomic::AtomicU64]> {
    #[cfg(not(gatekey_shuttle))]
    return bytemuck::zeroed_slice_box(count);
    #[cfg(gatekey_shuttle)]
    return (0..count).map(|_| atomic::AtomicU64::new(0)).collect();
}

/// Takes a lock, even if a thread has panicked under it: no invariant of this crate
/// depends on finishing the code under a lock. For a panic inside a transaction, the
/// store has a flag of its own.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, unless somebody has it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
