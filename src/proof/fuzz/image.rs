//! A medium in memory, whose bytes can be taken and made anew.

use std::io;
use std::sync::Arc;

use crate::proof::Medium;
use crate::sync::{Mutex, MutexGuard, lock};

/// What a file may grow to: far over what any store of a target needs.
const LEN_MAX: u64 = 64 << 20;

/// The bytes of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Image(Arc<Mutex<Vec<u8>>>);

impl Image {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    /// A copy of what is there.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.0)
    }
}

fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let from = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let to = from.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(from..to)
}

impl Medium for Image {
    fn size(&self) -> io::Result<u64> {
        Ok(self.all().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let all = self.all();
        let found = all.get(range(offset, out.len())?);
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        if size > LEN_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.all().resize(size, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        if range.end as u64 > LEN_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut all = self.all();
        if all.len() < range.end {
            all.resize(range.end, 0);
        }
        all[range].copy_from_slice(data);
        Ok(())
    }
}
