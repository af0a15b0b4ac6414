//! Taking locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, also one under which a thread has panicked: no invariant of
/// this crate spans a panic under a lock. What a panic inside a transaction
/// leaves behind, the store tells by a flag of its own.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
