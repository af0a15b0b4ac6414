//! Doors: where requests come from, and how it is known who asks.

mod serve;
mod tcp;
#[cfg(unix)]
mod unix;

pub use serve::Door;

pub(crate) use tcp::{keyed, open as open_tcp};
#[cfg(unix)]
pub(crate) use unix::open as open_unix;
#[cfg(unix)]
pub use unix::socket_beside;
