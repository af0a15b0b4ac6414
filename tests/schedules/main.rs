//! The real engine under shuttle, which draws the order of its threads' steps at random:
//! a history of each schedule is explained by one order of its calls.
//!
//! Invariants checked: 2 and 4, as in `tests/proof/linear.rs`, on schedules that the
//! operating system would hardly come upon.
//!
//! `RUSTC_WORKSPACE_WRAPPER=$PWD/proof/rustc_shuttle cargo test --all-features --test
//! schedules`; without that there is nothing here. `GATEKEY_PROOF=long` draws more.

#![cfg(gatekey_shuttle)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../proof/calls.rs"]
mod calls;
#[path = "../proof/charging.rs"]
mod charging;
#[path = "../proof/counted.rs"]
mod counted;
#[path = "../proof/history.rs"]
mod history;
mod tiers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gatekey::Options;
use rand::SeedableRng;
use rand::rngs::StdRng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use calls::{Keys, create_keyspaces};
use history::is_linearizable;

const THREADS: u64 = 3;
const CALLS: usize = 6;

/// One history of one schedule.
fn history(seed: u64, resident_bytes: usize) {
    let options = Options::new()
        .resident_bytes(resident_bytes)
        .cache_bytes(1 << 20)
        .usage_interval(None);
    // Every key lags behind its owner's suspension for a while, or none does.
    let at_once = [0, 256][usize::try_from(seed / 3 % 2).unwrap()];
    let options = gatekey::proof::lagging(options, at_once, true);
    let engine = Arc::new(options.open_in_memory().unwrap());
    create_keyspaces(&engine);
    let keys = Arc::new(Keys::new(&engine, seed, seed % 2 == 1));
    let begin = keys.begin();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (engine, keys) = (engine.clone(), keys.clone());
            shuttle::thread::spawn(move || {
                let mut random = StdRng::seed_from_u64(seed * THREADS + thread);
                let mut calls = Vec::new();
                for _ in 0..CALLS {
                    let verb = keys.draw(&mut random);
                    calls.push(keys.ask(&engine, 0, verb).unwrap());
                }
                calls
            })
        })
        .collect();
    let made = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let calls = keys.history(made);
    assert!(is_linearizable(begin, &calls), "seed {seed}: {calls:#?}");
}

fn explore(name: &str, scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    // The storage engine's calls are deep.
    config.stack_size = 1 << 20;
    let histories = Arc::new(AtomicU64::new(0));
    let count = histories.clone();
    shuttle::Runner::new(scheduler, config).run(move || {
        let seed = count.fetch_add(1, Ordering::Relaxed);
        // Without memory, with room for one set of keys, and with room for many.
        let resident_bytes = [0, 1500, 1 << 14][usize::try_from(seed % 3).unwrap()];
        history(seed, resident_bytes);
    });
    println!("{name}: {} schedules", histories.load(Ordering::Relaxed));
}

fn schedules() -> usize {
    match std::env::var("GATEKEY_PROOF") {
        Ok(form) if form == "long" => 20_000,
        _ => 400,
    }
}

#[test]
fn random_schedules_of_overlapping_calls_are_explained_by_one_order() {
    explore("random", RandomScheduler::new_from_seed(1, schedules()));
}

#[test]
fn schedules_of_few_preemptions_are_explained_by_one_order() {
    explore(
        "few preemptions",
        PctScheduler::new_from_seed(2, 3, schedules()),
    );
}
