//! What a flood of hostile tokens does to the verifications of who is honest: a line
//! `name value unit` for each figure.
//!
//! One thread verifies good tokens, and times each call; beside it run 0, 1 or 64
//! threads that present hostile ones: ids that nobody has, known ids with a wrong
//! secret, typos, and 1 MB of text. As the control, threads that only compute: what
//! they do to the honest thread, the operating system does by taking its processor
//! away. The conditions take turns, and a ratio is the median of those of one turn.
//!
//! `cargo bench --bench flood`. Under `cargo test`, with `--test` and in a debug
//! build, it runs for a moment, prints nothing, and fails where a verdict is wrong.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gatekey::{Engine, Options};
use gatekey_testkit::forge::{self, BASE62};
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Home, Text, report};

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];

/// Who runs beside the honest thread.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nobody,
    /// Threads that only compute.
    Busy(usize),
    Hostile(usize),
}

const CONDITIONS: [(&str, Beside); 5] = [
    ("alone", Beside::Nobody),
    ("1_busy", Beside::Busy(1)),
    ("1_hostile", Beside::Hostile(1)),
    ("64_busy", Beside::Busy(64)),
    ("64_hostile", Beside::Hostile(64)),
];

fn main() {
    let (keys, rounds, time) = match support::is_test() {
        true => (500, 1, Duration::from_millis(5)),
        false => (100_000, 25, Duration::from_millis(400)),
    };
    let home = Home::new();
    let engine = home.open(Options::new());
    let mut tokens: Vec<Text> = Vec::new();
    let owner = |n| format!("acme/{n}");
    support::issue(&engine, keys, owner, |_, token| {
        tokens.push(support::text(token));
    });
    support::shuffle(&mut tokens);
    // The honest ones use a tenth of the keys, so that the rest is for the file.
    let (honest, rest) = tokens.split_at(keys / 10);
    for token in honest {
        assert!(engine.verify(token).unwrap().is_granted());
    }
    let new = || Histogram::<u64>::new(3).unwrap();
    let mut all = CONDITIONS.map(|_| new());
    let mut turns: Vec<[Histogram<u64>; CONDITIONS.len()]> = Vec::new();
    let refused = AtomicU64::new(0);
    for round in 0..rounds {
        let mut turn = CONDITIONS.map(|_| new());
        for step in 0..CONDITIONS.len() {
            let at = (round + step) % CONDITIONS.len();
            let seed = (round * CONDITIONS.len() + at) as u64;
            measure(
                &engine,
                honest,
                rest,
                CONDITIONS[at].1,
                (seed, time),
                &mut turn[at],
                &refused,
            );
            all[at].add(&turn[at]).unwrap();
        }
        turns.push(turn);
    }
    assert!(refused.into_inner() > 0);
    for ((name, _), histogram) in CONDITIONS.iter().zip(&all) {
        for (quantile, part) in QUANTILES {
            let ns = histogram.value_at_quantile(part) as f64;
            report(&format!("honest_{quantile}_{name}"), ns, "ns");
        }
    }
    for (name, one, other) in [("1", 2, 1), ("64", 4, 3)] {
        for (quantile, part) in QUANTILES {
            let ratio = |turn: &[Histogram<u64>; CONDITIONS.len()]| {
                turn[one].value_at_quantile(part) as f64
                    / turn[other].value_at_quantile(part) as f64
            };
            let mut ratios: Vec<f64> = turns.iter().map(ratio).collect();
            ratios.sort_by(f64::total_cmp);
            report(
                &format!("honest_{quantile}_{name}_hostile_over_busy"),
                ratios[ratios.len() / 2],
                "ratio",
            );
        }
    }
    engine.close().unwrap();
}

/// Times the honest calls of one condition into a histogram, in nanoseconds.
fn measure(
    engine: &Engine,
    honest: &[Text],
    rest: &[Text],
    beside: Beside,
    (seed, time): (u64, Duration),
    histogram: &mut Histogram<u64>,
    refused: &AtomicU64,
) {
    let is_over = AtomicBool::new(false);
    let giant = vec![b'a'; 1 << 20];
    std::thread::scope(|scope| {
        let (count, is_hostile) = match beside {
            Beside::Nobody => (0, false),
            Beside::Busy(count) => (count, false),
            Beside::Hostile(count) => (count, true),
        };
        for thread in 0..count as u64 {
            let (is_over, giant) = (&is_over, &giant);
            let mut random = StdRng::seed_from_u64(seed << 8 | thread);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if is_hostile {
                        present(engine, rest, giant, &mut random);
                        refused.fetch_add(1, Ordering::Relaxed);
                    } else {
                        black_box(random.random::<u64>());
                    }
                }
            });
        }
        let started = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        while started.elapsed() < time {
            let token = &honest[random.random_range(0..honest.len())];
            let began = Instant::now();
            let verdict = engine.verify(black_box(token)).unwrap();
            let ns = began.elapsed().as_nanos();
            assert!(verdict.is_granted());
            histogram.record(u64::try_from(ns).unwrap()).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Presents one hostile token.
fn present(engine: &Engine, rest: &[Text], giant: &[u8], random: &mut StdRng) {
    let mut text = rest[random.random_range(0..rest.len())];
    let verdict = match random.random_range(0..16) {
        0 => engine.verify(giant),
        1..4 => engine.verify(support::with_a_typo(&text)),
        4..8 => engine.verify(support::with_wrong_secret(&text)),
        _ => {
            let from = text.len() - forge::SIGNED_LEN;
            for digit in &mut text[from..from + 10] {
                *digit = BASE62[random.random_range(0..62)];
            }
            forge::reseal(&mut text);
            engine.verify(text)
        }
    };
    assert!(!verdict.unwrap().is_granted());
}
