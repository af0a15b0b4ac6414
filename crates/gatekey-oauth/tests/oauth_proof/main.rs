//! Codes, refresh tokens and JWTs under power loss, failing disks, races and floods, and
//! their secrets looked for. docs/PROOF.md tells of each.
//!
//! `GATEKEY_PROOF=long` runs the long form of what has one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod canary;
#[allow(dead_code)]
#[path = "../../../../tests/proof/disk.rs"]
mod disk;
mod flood;
#[allow(dead_code)]
#[cfg(target_os = "linux")]
#[path = "../../../../tests/proof/leftovers.rs"]
mod leftovers;
mod memory;
mod power;
mod seen;
mod taken;
#[allow(dead_code)]
#[path = "../walk/mod.rs"]
mod walk;
mod world;

/// How much to do: so much in the test command, so much in the long form.
pub(crate) fn rounds(short: u64, long: u64) -> u64 {
    match std::env::var("GATEKEY_PROOF") {
        Ok(form) if form == "long" => long,
        Ok(form) => panic!("GATEKEY_PROOF is {form:?}; the one value that it knows is \"long\""),
        Err(_) => short,
    }
}
