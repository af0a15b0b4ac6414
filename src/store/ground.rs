//! The file or memory that has a store's bytes, with the locks on it. It outlives every
//! database that is opened on it, so that a store can be opened again beneath its
//! engine without another engine coming between.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

type Range = (Bound<u64>, Bound<u64>);

/// Where a file says how it was left: one byte, in the storage engine's third format.
const LEFT_AT: u64 = 9;
const NOT_CLOSED: u8 = 2;
const TWO_PHASES: u8 = 4;
/// Of a file that several processes write to, which the engine never allows.
const NOT_SYNCED: u8 = 8;

/// A file, memory, or a medium of the tests.
#[derive(Debug)]
pub(super) struct Ground {
    bytes: Box<dyn StorageBackend>,
    /// The ranges that are locked until the ground is released.
    locked: Mutex<Vec<Range>>,
    /// Whether a sync has failed: data that reads back correctly need not be durable
    /// then.
    is_doubtful: AtomicBool,
}

impl Ground {
    pub(super) fn new(bytes: impl StorageBackend) -> Self {
        Self {
            bytes: Box::new(bytes),
            locked: Mutex::default(),
            is_doubtful: AtomicBool::new(false),
        }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    /// Whether its last commit was made in two phases: then it is whole, whatever a crash left
    /// of the one after it.
    pub(super) fn is_left_whole(&self) -> io::Result<bool> {
        let mut left = [0];
        self.read(LEFT_AT, &mut left)?;
        Ok(left[0] & (TWO_PHASES | NOT_SYNCED) == TWO_PHASES)
    }

    /// Reads it as if it had been closed.
    pub(super) fn read_as_closed(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read(offset, out)?;
        let at = LEFT_AT.checked_sub(offset);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some(left) = at.and_then(|at| out.get_mut(at)) {
            *left &= !NOT_CLOSED;
        }
        Ok(())
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let synced = self.bytes.sync_data();
        if synced.is_err() {
            self.is_doubtful.store(true, Ordering::Release);
        }
        synced
    }

    /// Counts as if a sync had failed.
    pub(super) fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Release);
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Acquire)
    }

    /// Locks a range, unless it is locked by this ground already.
    pub(super) fn try_lock(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        let mut locked = lock(&self.locked);
        if locked.contains(&(start, end)) {
            return Ok(true);
        }
        let is_locked = self.bytes.try_lock_range(start, end)?;
        if is_locked {
            locked.push((start, end));
        }
        Ok(is_locked)
    }

    pub(super) fn unlock(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        let mut locked = lock(&self.locked);
        self.bytes.unlock_range(start, end)?;
        locked.retain(|range| *range != (start, end));
        Ok(())
    }

    /// Lets go of the locks. Nothing is written after.
    pub(super) fn release(&self) {
        let mut locked = lock(&self.locked);
        locked.clear();
        // What cannot be unlocked is, once the file is closed.
        let _ = self.bytes.close();
    }
}

/// Also where a store could not be opened.
impl Drop for Ground {
    fn drop(&mut self) {
        self.release();
    }
}
