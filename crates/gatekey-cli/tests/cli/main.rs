//! The command line, as a program: on a file, over the socket of a server, over TCP.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod completing;
mod containers;
mod exits;
#[cfg(feature = "postgres")]
mod fleet;
mod guide;
mod importing;
mod killed;
mod output;
#[cfg(feature = "postgres")]
#[allow(dead_code)]
#[path = "../../../gatekey-postgres/tests/it/server.rs"]
mod postgres;
mod program;
mod questions;
mod terminal;
mod tls;
mod ways;
