//! The command line, as a program: on a file, over the socket of a server, over TCP.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod completing;
mod containers;
mod exits;
mod guide;
mod importing;
mod killed;
mod output;
mod program;
mod questions;
mod terminal;
mod tls;
mod ways;
