//! Logs in a PostgreSQL that the tests start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod deposed;
mod fleet;
mod killed;
mod log;
mod network;
mod proxy;
mod restored;
mod server;
mod standby;
