//! Random sequences of all verbs against a plain model of them.
//!
//! Invariants checked (docs/DESIGN.md numbers them):
//! - 2: after every step that takes access away, every token ever issued gives
//!   the verdict that the model gives, resident, with room for a few, and not;
//! - 3: closing and opening again changes nothing, and a crash loses nothing but
//!   the notes of use since the last flush;
//! - 4: at most one active and one retiring key in a single-active keyspace;
//! - 7: expiry to the millisecond, and time that does not run back;
//! - what is charged to plans and quotas, of a key and of those that it is rotated to:
//!   what is left, how long to wait, and when it is refilled;
//! - 8: every change has its audit entry, and what changes nothing has none.
//!
//! [`plain`] is written from the specification, not from the engine: maps, no
//! indexes, no masks, no caches. Where the specification leaves open which of
//! two faults of a request is told, the model names both and takes either.
//!
//! `GATEKEY_MODEL_CASES` sets how many sequences run (in release,
//! `cargo test --release --test it model::` does thousands a minute), and
//! `GATEKEY_MODEL_SEED` from which number they are drawn. But for ids and
//! secrets, the same two numbers give the same run.

mod compare;
mod limits;
mod op;
mod plain;
mod text;
mod verbs;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use op::Case;
use world::{Tally, World};

/// About 15 seconds in debug mode.
const CASES: u64 = 240;

/// What the run must have met, or it shows nothing: all of the verdicts, and
/// each way for a change to be refused that a sequence of verbs can come to.
const MET: &[&str] = &[
    "crashed",
    "granted",
    "malformed",
    "unknown",
    "revoked",
    "suspended",
    "disabled",
    "not_yet_valid",
    "expired",
    "network_not_allowed",
    "permission_missing",
    "rate_limited",
    "quota_exhausted",
    "a crash lost a slice",
    "Duplicate",
    "ExpiryInPast",
    "LifetimeTooLong",
    "Malformed",
    "NotBeforeAfterExpiry",
    "RetiredPermission",
    "UnknownBits",
    "UnknownPermission",
    "UnknownPlan",
    "not found: key",
    "not found: keyspace",
    "not found: token",
    "refused: already rotated",
    "refused: disabled",
    "refused: expired",
    "refused: owner at cap",
    "refused: owner has key",
    "refused: owner holds several",
    "refused: prefix taken",
    "refused: revoked",
];

#[test]
fn the_engine_does_what_a_plain_map_does() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let cases = number("GATEKEY_MODEL_CASES", CASES);
    let mut runner = TestRunner::new(Config {
        cases: u32::try_from(cases).unwrap(),
        rng_seed: RngSeed::Fixed(number("GATEKEY_MODEL_SEED", 1)),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 60_000,
        ..Config::default()
    });
    let tally = RefCell::new(Tally::new());
    let run = |case: &Case| World::new(&case.setting, &tally).run(case);
    match runner.run(&op::case(), |case| run(&case)) {
        Ok(()) => {}
        Err(TestError::Fail(_, case)) => {
            let (reason, case) = without_idle_steps(case, run);
            panic!("{reason}\nin the sequence\n{case:?}");
        }
        Err(other) => panic!("{other}"),
    }
    let tally = tally.into_inner();
    {
        println!("{tally:#?}");
    }
    for name in MET {
        assert!(
            cases < CASES || tally.contains_key(*name),
            "no sequence came to {name:?}: {tally:#?}"
        );
    }
}

/// Takes out of a failing sequence, again and again, what it fails without:
/// shrinking does so once, before it makes the steps small.
fn without_idle_steps(
    mut case: Case,
    run: impl Fn(&Case) -> Result<(), TestCaseError>,
) -> (String, Case) {
    let failure = |case: &Case| match catch_unwind(AssertUnwindSafe(|| run(case))) {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(reason.to_string()),
        Err(_) => Some("it panicked".to_owned()),
    };
    let mut told = failure(&case).unwrap_or("it fails now and then".to_owned());
    let mut at = 0;
    while at < case.ops.len() {
        let mut shorter = case.clone();
        shorter.ops.remove(at);
        match failure(&shorter) {
            Some(reason) => (told, case, at) = (reason, shorter, 0),
            None => at += 1,
        }
    }
    (told, case)
}
