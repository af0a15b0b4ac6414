//! What the fuzz targets run, and the replay of their corpora in the ordinary
//! tests: each function takes any bytes, and panics where an invariant that it
//! states does not hold.

// A claim that does not hold is told by a panic, which is what a fuzzer and a
// test wait for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod entry;
#[cfg(feature = "http")]
mod headers;
mod image;
mod record;
mod store;
mod token;

pub use entry::{entry, entry_bytes_max};
#[cfg(feature = "http")]
pub use headers::headers;
pub use record::record;
pub use store::{store, written_store};
pub use token::token;
