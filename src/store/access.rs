//! A database's access to its ground, which the store can revoke.
//!
//! An access is usually *direct*. It is *apart* when it keeps writes in memory, by
//! blocks. A look is apart from the start, so that a file that was not closed can be
//! repaired and read without changing it. Any other access becomes apart with the first
//! call that fails: the current transaction can end and older snapshots stay readable,
//! but nothing more reaches the ground. An access of a *view* reads alone. Once it is
//! *over*, every call fails.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use redb::{BackendError, StorageBackend};

use crate::model::error::StoreFailure;
use crate::model::health::Alarm;
use crate::store::ground::Ground;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

const BLOCK_LEN: usize = 4096;
const BLOCK: u64 = BLOCK_LEN as u64;

type Block = [u8; BLOCK_LEN];

const DIRECT: u8 = 0;
const APART: u8 = 1;
const OVER: u8 = 2;
const VIEW: u8 = 3;

/// Clones are the same access.
#[derive(Debug, Clone)]
pub(super) struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ground: Arc<Ground>,
    /// Changed under the lock of the layers.
    mode: AtomicU8,
    layers: Mutex<Layers>,
    fault: OnceLock<Fault>,
    reads_fail: AtomicBool,
    syncs: AtomicU64,
    /// Raised by a call that fails, which sets the access apart. Without it, as while a
    /// store opens, the call just fails.
    alarm: OnceLock<Arc<Alarm>>,
}

/// The first call that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) failure: StoreFailure,
    redo: Redo,
}

/// What shows whether there is room again.
#[derive(Debug)]
enum Redo {
    Nothing,
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// What was written apart, in front of the ground.
#[derive(Debug, Default)]
struct Layers {
    /// How much of the ground still shows.
    shown: u64,
    len: u64,
    written: BTreeMap<u64, Box<Block>>,
    /// The blocks that were written to the ground since it was synced last.
    unsynced: Vec<Range<u64>>,
    /// Of the ground's blocks, those that hold anything or nothing of what was written to
    /// them.
    lost: Vec<Range<u64>>,
}

impl Access {
    /// Direct: for a database that is to be written to.
    pub(super) fn direct(ground: Arc<Ground>) -> Self {
        Self::new(ground, DIRECT, Layers::default())
    }

    /// Apart from the start: for a look.
    pub(super) fn apart(ground: Arc<Ground>) -> io::Result<Self> {
        let len = ground.len()?;
        let layers = Layers {
            shown: len,
            len,
            ..Layers::default()
        };
        Ok(Self::new(ground, APART, layers))
    }

    /// For a view: see `view.rs`.
    pub(super) fn view(ground: Arc<Ground>) -> Self {
        Self::new(ground, VIEW, Layers::default())
    }

    fn new(ground: Arc<Ground>, mode: u8, layers: Layers) -> Self {
        Self(Arc::new(Shared {
            ground,
            mode: AtomicU8::new(mode),
            layers: Mutex::new(layers),
            fault: OnceLock::new(),
            reads_fail: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            alarm: OnceLock::new(),
        }))
    }

    pub(super) fn ground(&self) -> &Arc<Ground> {
        &self.0.ground
    }

    /// From now on, the first call that fails raises the alarm and sets the access apart.
    pub(super) fn absorb(&self, alarm: &Arc<Alarm>) {
        // It is done once.
        let _ = self.0.alarm.set(alarm.clone());
    }

    /// Lets every call fail from now on.
    pub(super) fn end(&self) {
        let _layers = lock(&self.0.layers);
        self.0.mode.store(OVER, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.mode() == OVER
    }

    /// The first call that failed, if one did.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.0.fault.get()
    }

    /// Whether a read has failed: the storage engine reads nothing more from the ground.
    pub(super) fn reads_fail(&self) -> bool {
        self.0.reads_fail.load(Ordering::Acquire)
    }

    /// How many syncs have succeeded.
    pub(super) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Acquire)
    }

    /// Retries the failed call where that can do no harm: writing a page that only the
    /// failed transaction used, or making room for one.
    pub(super) fn redo(&self) -> io::Result<()> {
        let ground = &self.0.ground;
        match self.fault().map(|fault| &fault.redo) {
            Some(Redo::Write(offset, data)) if *offset >= BLOCK => ground.write(*offset, data),
            Some(Redo::SetLen(len)) if *len > ground.len()? => ground.set_len(*len),
            _ => Ok(()),
        }
    }

    fn mode(&self) -> u8 {
        self.0.mode.load(Ordering::Acquire)
    }

    /// Calls `direct`, or `apart` where the access is apart, or becomes it by the
    /// failure of the first.
    fn call<T>(
        &self,
        redo: impl FnOnce() -> Redo,
        direct: impl FnOnce(&mut Layers, &Ground) -> io::Result<T>,
        apart: impl FnOnce(&mut Layers, &Ground) -> io::Result<T>,
    ) -> io::Result<T> {
        let shared = &*self.0;
        let mut layers = lock(&shared.layers);
        match self.mode() {
            OVER => return Err(io::ErrorKind::NotConnected.into()),
            VIEW => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            DIRECT => match direct(&mut layers, &shared.ground) {
                Err(error) if shared.alarm.get().is_some() => {
                    self.note(&error, redo());
                    let len = shared.ground.len()?;
                    layers.shown = len;
                    layers.len = len;
                    shared.mode.store(APART, Ordering::Release);
                }
                done => return done,
            },
            _ => {}
        }
        apart(&mut layers, &shared.ground)
    }

    fn note(&self, error: &io::Error, redo: Redo) {
        let failure = StoreFailure::new(error.to_string(), Some(error.kind()));
        if let Some(alarm) = self.0.alarm.get() {
            alarm.raise(&failure);
        }
        // Later ones follow from it.
        let _ = self.0.fault.set(Fault { failure, redo });
    }

    /// What could be read; a failure is noted.
    fn noting<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && self.0.alarm.get().is_some()
        {
            self.0.reads_fail.store(true, Ordering::Release);
            self.note(error, Redo::Nothing);
        }
        done
    }
}

impl Layers {
    /// Notes what is written to the ground.
    fn wrote(&mut self, offset: u64, len: usize) {
        let end = (offset + len as u64).div_ceil(BLOCK);
        let start = offset / BLOCK;
        match self.unsynced.last_mut() {
            Some(last) if (last.start..=last.end).contains(&start) => last.end = last.end.max(end),
            _ => self.unsynced.push(start..end),
        }
    }

    /// Notes what became of a sync of the ground. After one that fails, Linux has dropped
    /// what it could not write, and later shows what stood there before.
    fn synced<T>(&mut self, done: &io::Result<T>) {
        match done {
            Ok(_) => self.unsynced.clear(),
            Err(_) => self.lost.append(&mut self.unsynced),
        }
    }

    fn is_lost(&self, number: u64) -> bool {
        !self.written.contains_key(&number) && self.lost.iter().any(|lost| lost.contains(&number))
    }

    /// The content of a block; zeros past the end.
    fn block(&self, ground: &Ground, number: u64) -> io::Result<Box<Block>> {
        if let Some(block) = self.written.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK_LEN]);
        let start = number * BLOCK;
        let shows = self.shown.saturating_sub(start).min(BLOCK);
        let shows = usize::try_from(shows).unwrap_or(0);
        if let Some(shown) = block.get_mut(..shows).filter(|shown| !shown.is_empty()) {
            ground.read(start, shown)?;
        }
        Ok(block)
    }

    /// Calls `each` with every block that a range touches, the part of it that
    /// the range covers, and that part's place in the range.
    fn each_block(
        &mut self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(&mut Self, u64, Range<usize>, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let from = usize::try_from(at % BLOCK).unwrap_or(0);
            let to = (from + len - done).min(BLOCK_LEN);
            each(self, at / BLOCK, from..to, done)?;
            done += to - from;
        }
        Ok(())
    }

    fn read(&mut self, ground: &Ground, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.each_block(offset, out.len(), |layers, number, part, place| {
            if layers.is_lost(number) {
                let why = "it was written before a sync that failed, and may be lost";
                return Err(io::Error::other(why));
            }
            let block = layers.block(ground, number)?;
            let to = place + part.len();
            if let (Some(out), Some(block)) = (out.get_mut(place..to), block.get(part)) {
                out.copy_from_slice(block);
            }
            Ok(())
        })
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.shown = self.shown.min(len);
        self.written.retain(|number, _| number * BLOCK < len);
        if let Some(block) = self.written.get_mut(&(len / BLOCK)) {
            let kept = usize::try_from(len % BLOCK).unwrap_or(0);
            block.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        }
    }

    fn write(&mut self, ground: &Ground, offset: u64, data: &[u8]) -> io::Result<()> {
        self.len = self.len.max(offset + data.len() as u64);
        self.each_block(offset, data.len(), |layers, number, part, place| {
            let is_whole = part.len() == BLOCK_LEN;
            let mut block = match is_whole {
                // What is there need not be read.
                true => Box::new([0; BLOCK_LEN]),
                false => layers.block(ground, number)?,
            };
            let to = place + part.len();
            if let (Some(block), Some(data)) = (block.get_mut(part), data.get(place..to)) {
                block.copy_from_slice(data);
            }
            layers.written.insert(number, block);
            Ok(())
        })
    }
}

impl StorageBackend for Access {
    fn len(&self) -> io::Result<u64> {
        match self.mode() {
            DIRECT | VIEW => self.noting(self.0.ground.len()),
            OVER => Err(io::ErrorKind::NotConnected.into()),
            _ => Ok(lock(&self.0.layers).len),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mode = self.mode();
        let read = match mode {
            DIRECT => self.0.ground.read(offset, out),
            VIEW => self.0.ground.read_as_closed(offset, out),
            OVER => Err(io::ErrorKind::NotConnected.into()),
            _ => lock(&self.0.layers).read(&self.0.ground, offset, out),
        };
        // Once it is over, another database may have written meanwhile to where this has read.
        match self.mode() {
            OVER => Err(io::ErrorKind::NotConnected.into()),
            // What was lost meanwhile may have been read.
            APART if mode == DIRECT => {
                self.noting(lock(&self.0.layers).read(&self.0.ground, offset, out))
            }
            _ => self.noting(read),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(
            || Redo::SetLen(len),
            |_, ground| ground.set_len(len),
            |layers, _| {
                layers.set_len(len);
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(
            || Redo::Nothing,
            |layers, ground| {
                let begun = Instant::now();
                let synced = ground.sync();
                layers.synced(&synced);
                synced?;
                if let Some(alarm) = self.0.alarm.get() {
                    alarm.syncs().note(begun.elapsed());
                }
                self.0.syncs.fetch_add(1, Ordering::AcqRel);
                Ok(())
            },
            |_, _| Ok(()),
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(
            || Redo::Write(offset, data.to_vec()),
            |layers, ground| {
                layers.wrote(offset, data.len());
                ground.write(offset, data)
            },
            |layers, ground| layers.write(ground, offset, data),
        )
    }

    // A look takes no lock of its own: its caller has the file locked meanwhile.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match self.mode() {
            DIRECT => self.0.ground.try_lock(start, end),
            _ => Err(BackendError::Unsupported),
        }
    }

    // A view is opened by whoever has the file locked.
    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        match self.mode() {
            VIEW => Ok(true),
            _ => Err(BackendError::Unsupported),
        }
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        match self.mode() {
            VIEW => Ok(()),
            _ => Err(BackendError::Unsupported),
        }
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        match self.mode() {
            VIEW => Ok(false),
            _ => Err(BackendError::Unsupported),
        }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        match self.mode() {
            DIRECT => self.0.ground.unlock(start, end),
            _ => Ok(()),
        }
    }

    /// The ground stays locked: see [`Ground::release`].
    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::SystemClock;

    /// Memory of which calls fail while it is told to.
    #[derive(Debug, Default, Clone)]
    struct Failing {
        bytes: Arc<Mutex<Vec<u8>>>,
        fails: Arc<AtomicBool>,
    }

    impl Failing {
        fn check(&self) -> io::Result<()> {
            match self.fails.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            Ok(lock(&self.bytes).len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            out.copy_from_slice(&lock(&self.bytes)[at..at + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            lock(&self.bytes).resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            let at = usize::try_from(offset).unwrap();
            lock(&self.bytes)[at..at + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    #[test]
    fn after_a_call_that_failed_nothing_more_reaches_the_ground() {
        type Fails = fn(&Access) -> io::Result<()>;
        let calls: [(Fails, bool); 3] = [
            (|access| access.write(4096, &[2; 4096]), false),
            (|access| access.set_len(16_384), false),
            (Access::sync_data, true),
        ];
        for (call, is_doubtful) in calls {
            let failing = Failing::default();
            lock(&failing.bytes).resize(8192, 1);
            let ground = Arc::new(Ground::new(failing.clone()));
            let access = Access::direct(ground.clone());
            let alarm = Arc::new(Alarm::new(Arc::new(SystemClock)));
            failing.fails.store(true, Ordering::SeqCst);
            // While a store opens, an error is one.
            assert!(call(&access).is_err() && access.fault().is_none());
            access.absorb(&alarm);
            call(&access).unwrap();
            assert!(access.fault().is_some() && alarm.is_raised());
            assert_eq!(ground.is_doubtful(), is_doubtful);
            failing.fails.store(false, Ordering::SeqCst);
            // It is well again, and the access stays apart.
            access.write(0, &[3; 10]).unwrap();
            access.set_len(20_000).unwrap();
            access.sync_data().unwrap();
            assert_eq!(access.syncs(), 0);
            let mut read = [0; 20];
            access.read(0, &mut read).unwrap();
            assert_eq!(read, [[3; 10], [1; 10]].concat()[..]);
            assert_eq!(access.len().unwrap(), 20_000);
            assert_eq!(*lock(&failing.bytes), [1; 8192]);
            access.end();
            assert!(access.read(0, &mut read).is_err() && access.write(0, &read).is_err());
        }
    }

    #[test]
    fn what_a_sync_that_failed_may_have_lost_is_not_read() {
        let failing = Failing::default();
        lock(&failing.bytes).resize(8 * BLOCK_LEN, 1);
        let access = Access::direct(Arc::new(Ground::new(failing.clone())));
        access.absorb(&Arc::new(Alarm::new(Arc::new(SystemClock))));
        let page = |number: u64, count: usize, byte: u8| {
            let bytes = vec![byte; count * BLOCK_LEN];
            access.write(number * BLOCK, &bytes).unwrap();
        };
        let read = |number: u64| {
            let mut read = [0; BLOCK_LEN];
            let done = access.read(number * BLOCK, &mut read);
            done.map(|()| read[0]).ok()
        };
        page(1, 1, 2);
        access.sync_data().unwrap();
        page(2, 2, 3);
        page(4, 1, 3);
        page(6, 1, 3);
        assert_eq!([1, 3, 6].map(read), [Some(2), Some(3), Some(3)]);
        failing.fails.store(true, Ordering::SeqCst);
        access.sync_data().unwrap();
        // As the disk shows it once the system has dropped what it could not write.
        lock(&failing.bytes)[2 * BLOCK_LEN..].fill(1);
        let found = [0, 1, 2, 3, 4, 5, 6, 7].map(read);
        let (old, synced) = (Some(1), Some(2));
        assert_eq!(found, [old, synced, None, None, None, old, None, old]);
        // What is written since is there.
        page(3, 1, 4);
        assert_eq!([2, 3, 4].map(read), [None, Some(4), None]);
    }

    use std::io::{Read, Seek, Write};

    #[test]
    fn writes_show_and_the_file_stays_as_it_was() {
        let mut file = tempfile::tempfile().unwrap();
        let original: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        file.write_all(&original).unwrap();
        let ground =
            Ground::new(redb::backends::FileBackend::new(file.try_clone().unwrap()).unwrap());
        let access = Access::apart(Arc::new(ground)).unwrap();
        let mut expected = original.clone();

        access.write(4090, &[7; 5000]).unwrap();
        expected[4090..9090].fill(7);
        access.set_len(9500).unwrap();
        access.set_len(12_000).unwrap();
        expected.truncate(9500);
        expected.resize(12_000, 0);

        let mut read = vec![0; 12_000];
        access.read(0, &mut read).unwrap();
        assert!(read == expected);
        assert!(access.read(1, &mut read).is_err());
        let mut kept = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut kept).unwrap();
        assert!(kept == original);
    }
}
