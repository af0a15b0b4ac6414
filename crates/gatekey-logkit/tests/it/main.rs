//! Fleets in one process: several engines over a log in memory that fails on request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../../tests/proof/calls.rs"]
mod calls;
mod clocks;
mod common;
mod freshness;
mod histories;
#[path = "../../../../tests/proof/history.rs"]
mod history;
mod hostile;
mod large;
mod linear;
mod members;
mod outcomes;
mod peppers;
mod shares;
mod together;
mod usage;
mod wakes;

use std::sync::Arc;

use gatekey::fleet::MemoryLog;

#[test]
fn a_log_in_memory_keeps_every_promise_of_a_log() {
    gatekey_logkit::conformance::run(|| Arc::new(MemoryLog::new()));
}
