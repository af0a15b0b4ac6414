//! Fleets in one process: several engines over a log in memory that fails on request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod freshness;
mod histories;
mod hostile;
mod large;
mod members;
mod outcomes;
mod peppers;
mod shares;
mod together;

use std::sync::Arc;

use gatekey::fleet::MemoryLog;

#[test]
fn a_log_in_memory_keeps_every_promise_of_a_log() {
    gatekey_logkit::conformance::run(|| Arc::new(MemoryLog::new()));
}
