//! What the admin API does: by its document, by rights, under hostile input, and through
//! its doors.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod api;
mod document;
mod doors;
#[cfg(feature = "tracing")]
mod events;
mod fleet;
mod hostile;
mod metrics;
mod repeats;
mod rights;
mod schemathesis;
mod tour;
mod valid;
