//! The storage beneath a store, as tests replace it: to stop it, to cut its power or to
//! make it fail.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A medium for a store other than a file: bytes that are durable once synced.
///
/// Only with the feature `proof`, and not part of the stable interface: the project's
/// own tests put a simulated disk behind it.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// How many bytes there are.
    ///
    /// # Errors
    /// Those of the medium, as for all that follow.
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on; past the end, this is an error.
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Makes it `size` bytes long, with zeros where it grows.
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes durable what was written so far.
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn sync(&self) -> io::Result<()>;

    /// Writes `data` at `offset`; it need not be durable before the next sync.
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Begins a second medium beside this one, empty.
    ///
    /// # Errors
    /// See [`size`](Self::size); by default there is none.
    fn begin_copy(&self) -> io::Result<Arc<dyn Medium>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Puts the copy begun last in the place of this one, as a rename does: at once,
    /// and durable after [`sync_place`](Self::sync_place).
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn take_place(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes durable which one is found.
    ///
    /// # Errors
    /// See [`size`](Self::size).
    fn sync_place(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A medium as the storage engine wants it.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn Medium>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
