//! Small things at places that do not move: found by a number without a lock, and used
//! again.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::memory::process::{Home, TRIES};
use crate::model::error::Error;
use crate::sync::table::{Mutex, MutexGuard, lock};

/// How many are made at a time. A model checker makes few.
const CHUNK: usize = match (cfg!(gatekey_loom), cfg!(gatekey_shuttle)) {
    (true, _) => 2,
    (_, true) => 16,
    _ => 1_024,
};

pub(crate) struct Slab<T> {
    chunks: Box<[OnceLock<Arc<[T]>>]>,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    /// Of those that were given back, the first is the first to be taken again.
    numbers: VecDeque<usize>,
    /// How many were ever taken.
    taken: usize,
}

/// A place that was taken.
pub(crate) struct Place<T> {
    pub(crate) number: usize,
    chunk: Arc<[T]>,
}

impl<T> Place<T> {
    pub(crate) fn get(&self) -> &T {
        // A remainder by the length of what is not empty.
        &self.chunk[self.number % self.chunk.len()]
    }
}

impl<T: Default> Slab<T> {
    /// A slab of at least so many.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            chunks: (0..len.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            free: Mutex::default(),
        }
    }

    /// What stands at a number, which may have been given back, and taken by another.
    #[inline(always)]
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.chunks.get(number / CHUNK)?.get()?.get(number % CHUNK)
    }

    /// Takes a place; `None` where there is none. What stands there is as it was left.
    pub(crate) fn take(&self) -> Option<Place<T>> {
        self.take_of(&mut lock(&self.free))
    }

    /// The same, where this may be a child of a fork.
    pub(crate) fn take_at_home(&self, home: &Home) -> Result<Option<Place<T>>, Error> {
        Ok(self.take_of(&mut *self.lock_at_home(home)?))
    }

    fn take_of(&self, free: &mut Free) -> Option<Place<T>> {
        let number = free.numbers.pop_front().unwrap_or(free.taken);
        let chunk = self.chunks.get(number / CHUNK)?;
        free.taken = free.taken.max(number + 1);
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        Some(Place {
            number,
            chunk: chunk.clone(),
        })
    }

    /// Gives a place back that was taken, and that nobody has any more.
    pub(crate) fn give_back(&self, number: usize) {
        lock(&self.free).numbers.push_back(number);
    }

    /// The same, where this may be a child of a fork.
    pub(crate) fn give_back_at_home(&self, number: usize, home: &Home) -> Result<(), Error> {
        self.lock_at_home(home)?.numbers.push_back(number);
        Ok(())
    }

    /// As [`process::lock_at_home`](crate::memory::process::lock_at_home), of a lock that a
    /// model checker may stand in for.
    fn lock_at_home(&self, home: &Home) -> Result<MutexGuard<'_, Free>, Error> {
        for _ in 0..TRIES {
            if let Ok(free) = self.free.try_lock() {
                return Ok(free);
            }
            std::hint::spin_loop();
        }
        home.refuse_fork()?;
        Ok(lock(&self.free))
    }

    /// A place of its own, outside of any slab.
    pub(crate) fn apart() -> Place<T> {
        Place {
            number: 0,
            chunk: Arc::new([T::default()]),
        }
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::{CHUNK, Slab};

    #[test]
    fn places_are_taken_again_once_they_are_given_back() {
        let slab = Slab::<u8>::new(CHUNK);
        let take = || slab.take().map(|place| place.number);
        assert_eq!(
            Vec::from_iter((0..CHUNK).filter_map(|_| take())).len(),
            CHUNK
        );
        assert_eq!(take(), None);
        for number in [7, 3] {
            slab.give_back(number);
        }
        // The first is the first again.
        assert_eq!([take(), take(), take()], [Some(7), Some(3), None]);
    }
}
