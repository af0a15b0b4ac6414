//! The promises of docs/DESIGN.md under power loss, failing disks, races, forged
//! bytes and hostile traffic. docs/PROOF.md lists each with its figure.
//!
//! `GATEKEY_PROOF=long` runs the long form of what has one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod allocations;
mod calls;
mod canary;
#[cfg(feature = "axum")]
mod canary_http;
mod charging;
mod clocks;
mod compaction;
mod corpus;
mod counted;
mod disk;
mod entropy;
mod failing_disk;
mod fleet_disk;
mod flood;
mod formats;
mod history;
mod killed;
#[cfg(target_os = "linux")]
mod leftovers;
mod levels;
mod linear;
mod memory;
mod panics;
mod power;
mod power_mending;
mod power_quotas;
mod power_threads;
mod real_disk;
mod recovery;
mod turns;
mod uses;
mod workload;
mod written;

/// How much to do: so much in the test command, so much in the long form.
pub(crate) fn rounds(short: u64, long: u64) -> u64 {
    match std::env::var("GATEKEY_PROOF") {
        Ok(form) if form == "long" => long,
        Ok(form) => panic!("GATEKEY_PROOF is {form:?}; the one value that it knows is \"long\""),
        Err(_) => short,
    }
}
