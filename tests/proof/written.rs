//! Damaged stores that are written to all the same: never a wrong grant. redb may
//! panic on a page, and again as it unwinds out of its transaction, or may follow
//! a page that names one above it until the stack is used up; that ends the
//! process, which no guard can stop. So each runs in a process of its own, until
//! that one ends, and how many do is counted.

use std::process::{Command, Stdio};

use gatekey::proof::fuzz;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rounds;

const FROM: &str = "GATEKEY_PROOF_WRITTEN_FROM";
const NAME: &str = "written::a_damaged_store_that_is_written_to_grants_nothing_that_was_not_due";
/// What Rust says before it ends a process: one that panics while it unwinds, and
/// one that has used up a stack.
const ENDS: [&str; 2] = [
    "panic in a destructor during cleanup",
    "has overflowed its stack",
];

/// How a store is damaged: one to three edits.
fn edits(number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number);
    // Without the checksums verified: then hardly any would be opened.
    let mut bytes = vec![random.random_range(0..4_u8)];
    for _ in 0..random.random_range(1..4) {
        bytes.extend(random.random::<[u8; 8]>());
    }
    bytes
}

#[test]
fn a_damaged_store_that_is_written_to_grants_nothing_that_was_not_due() {
    let count = rounds(150, 20_000);
    if let Ok(from) = std::env::var(FROM) {
        // The child.
        for number in from.parse().unwrap()..count {
            fuzz::written_store(&edits(number));
            println!("done:{number}");
        }
        return;
    }
    let (mut next, mut ended) = (0, [0; 2]);
    while next < count {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", NAME])
            .env(FROM, next.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        let mut done = said
            .lines()
            .filter_map(|line| line.strip_prefix("done:")?.parse::<u64>().ok());
        next = done.next_back().map_or(next, |last| last + 1);
        if child.status.success() {
            assert_eq!(next, count);
            break;
        }
        // It ended in the middle of the one that follows.
        let why = String::from_utf8_lossy(&child.stderr);
        let Some(end) = ENDS.iter().position(|end| why.contains(end)) else {
            panic!("store {next}: {}\n{why}", child.status);
        };
        println!("store {next}: {}", ENDS[end]);
        ended[end] += 1;
        next += 1;
    }
    println!(
        "{count} damaged stores were written to; {} ended the process by a panic \
         within a panic, {} by the end of a stack",
        ended[0], ended[1]
    );
}
