//! A file under a layer in memory that takes all writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use redb::StorageBackend;

use crate::sync::{Mutex, MutexGuard, lock};

const BLOCK_LEN: usize = 4096;
const BLOCK: u64 = BLOCK_LEN as u64;

type Block = [u8; BLOCK_LEN];

/// Reads through to a file, and keeps what is written in memory, by blocks: a
/// file that was not closed can be repaired and read without being changed.
#[derive(Debug, Clone)]
pub(super) struct Overlay(Arc<Mutex<Layers>>);

#[derive(Debug)]
struct Layers {
    file: File,
    /// How much of the file still shows.
    file_len: u64,
    len: u64,
    written: BTreeMap<u64, Box<Block>>,
    is_over: bool,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Layers {
            file,
            file_len: len,
            len,
            written: BTreeMap::new(),
            is_over: false,
        }))))
    }

    /// Lets every call fail from now on.
    pub(super) fn end(&self) {
        lock(&self.0).is_over = true;
    }

    fn layers(&self) -> io::Result<MutexGuard<'_, Layers>> {
        let layers = lock(&self.0);
        match layers.is_over {
            true => Err(io::ErrorKind::NotConnected.into()),
            false => Ok(layers),
        }
    }
}

impl Layers {
    /// The content of a block; zeros past the end.
    fn block(&mut self, number: u64) -> io::Result<Box<Block>> {
        if let Some(block) = self.written.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK_LEN]);
        let start = number * BLOCK;
        let shows = self.file_len.saturating_sub(start).min(BLOCK);
        let shows = usize::try_from(shows).unwrap_or(0);
        if let Some(shown) = block.get_mut(..shows).filter(|shown| !shown.is_empty()) {
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(shown)?;
        }
        Ok(block)
    }

    /// Calls `each` with every block that a range touches, the part of it that
    /// the range covers, and that part's place in the range.
    fn each_block(
        &mut self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(&mut Self, u64, std::ops::Range<usize>, usize) -> io::Result<()>,
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
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.layers()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut layers = self.layers()?;
        if offset.saturating_add(out.len() as u64) > layers.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        layers.each_block(offset, out.len(), |layers, number, part, place| {
            let block = layers.block(number)?;
            let to = place + part.len();
            if let (Some(out), Some(block)) = (out.get_mut(place..to), block.get(part)) {
                out.copy_from_slice(block);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut layers = self.layers()?;
        layers.len = len;
        layers.file_len = layers.file_len.min(len);
        layers.written.retain(|number, _| number * BLOCK < len);
        if let Some(block) = layers.written.get_mut(&(len / BLOCK)) {
            let kept = usize::try_from(len % BLOCK).unwrap_or(0);
            block.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.layers().map(drop)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut layers = self.layers()?;
        layers.len = layers.len.max(offset + data.len() as u64);
        layers.each_block(offset, data.len(), |layers, number, part, place| {
            let mut block = layers.block(number)?;
            let to = place + part.len();
            if let (Some(block), Some(data)) = (block.get_mut(part), data.get(place..to)) {
                block.copy_from_slice(data);
            }
            layers.written.insert(number, block);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writes_show_and_the_file_stays_as_it_was() {
        let mut file = tempfile::tempfile().unwrap();
        let original: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        file.write_all(&original).unwrap();
        let overlay = Overlay::new(file.try_clone().unwrap()).unwrap();
        let mut expected = original.clone();

        overlay.write(4090, &[7; 5000]).unwrap();
        expected[4090..9090].fill(7);
        overlay.set_len(9500).unwrap();
        overlay.set_len(12_000).unwrap();
        expected.truncate(9500);
        expected.resize(12_000, 0);

        let mut read = vec![0; 12_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read == expected);
        assert!(overlay.read(1, &mut read).is_err());
        let mut kept = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut kept).unwrap();
        assert!(kept == original);
    }
}
