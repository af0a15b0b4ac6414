//! Whether a secret can be told by how long it takes to be refused: dudect's
//! test (Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?",
//! 2016) on pairs of classes of tokens.
//!
//! Of each pair the two classes are measured in random order, one call at a time;
//! Welch's t-test says how sure it is that their means differ, and the effect
//! size (Cohen's d) by how much of their spread. As in dudect, the test is made of
//! all measurements and of those below several percentiles, and the largest |t|
//! counts: under 4.5 no difference was found, over 10 there is one. With enough
//! measurements, a difference of a fraction of a nanosecond gets there, so read
//! it beside the difference: an attacker must find that in the noise of a network.
//!
//! `cargo bench --bench timing`. Its figures decide nothing, but for the control:
//! an early-exit comparison of the same digests, which must show, or the rest says
//! nothing. Under `cargo test` it measures little and prints nothing.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

mod support;

use std::hint::black_box;
use std::time::Instant;

use gatekey::{Denial, Engine, KeyId, Options, Reason, Verdict, proof};
use gatekey_testkit::forge::{SIGNED_LEN, number_in, reseal};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Home, TOKEN_LEN, Text};

/// Under which |t| no difference was found, and over which there is one.
const T_NONE: f64 = 4.5;
const T_SURE: f64 = 10.0;

fn main() {
    let (keys, calls) = match support::is_test() {
        true => (200, 2_000),
        false => (20_000, 4_000_000),
    };
    println_if_bench(&format!(
        "|t| under {T_NONE}: no difference found; over {T_SURE}: there is one\n\
         {:52} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8}",
        "pair", "calls", "|t|", "d", "ns", "more", "%"
    ));
    let shown = compare_digests(calls);
    for (name, resident_bytes) in [("resident", Options::RESIDENT_BYTES), ("file", 0)] {
        verify_pairs(name, resident_bytes, keys, calls / 2);
    }
    // Of so few calls, the test command's, nothing can be said.
    if !support::is_test() && !shown {
        println!("THE CONTROL DID NOT SHOW: the figures above say nothing");
        std::process::exit(1);
    }
}

fn println_if_bench(line: &str) {
    if !support::is_test() {
        println!("{line}");
    }
}

/// Digests that differ in their first byte against such as differ in their last:
/// with the crate's comparison, and with one that stops at the first difference.
/// Gives back whether the latter showed.
fn compare_digests(calls: usize) -> bool {
    let mut random = StdRng::seed_from_u64(1);
    let stored: [u8; 32] = random.random();
    let differing = |at: usize| {
        let mut digest = stored;
        digest[at] ^= 0x55;
        digest
    };
    let classes = [differing(0), differing(31)];
    // Both classes are read from the same place: only their bytes differ.
    let mut presented = [0; 32];
    let mut run = |equal: fn(&[u8; 32], &[u8; 32]) -> bool| {
        measure(calls, |class| {
            presented = classes[class];
            let presented = black_box(&presented);
            let stored = black_box(&stored);
            time(|| {
                // Several a measurement: one takes less than the clock can tell.
                for _ in 0..16 {
                    assert!(!equal(black_box(presented), black_box(stored)));
                }
            })
        })
    };
    let ours = run(proof::digests_equal);
    report("digests_equal: first, last byte", &ours, 16);
    let early = run(equal_early_exit);
    report("control, early exit: first, last byte", &early, 16);
    early.t > T_SURE
}

/// What `==` is where the compiler does not make one wide comparison of it, as on
/// some processors it does of 32 bytes.
#[inline(never)]
fn equal_early_exit(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter()
        .zip(right)
        .all(|(left, right)| left == black_box(right))
}

/// What a stranger may present, in pairs.
fn verify_pairs(name: &str, resident_bytes: usize, keys: usize, calls: usize) {
    let home = Home::new();
    let engine = home.open(Options::new().resident_bytes(resident_bytes));
    let mut good: Vec<Text> = Vec::with_capacity(keys);
    support::issue(
        &engine,
        keys,
        |n| format!("acme/bot-{n}"),
        |_, token| good.push(support::text(token)),
    );
    let mut ids: Vec<u64> = good.iter().map(|token| number_in(token)).collect();
    ids.sort_unstable();
    let unknown =
        |token: &Text| support::with_unknown_id(token, |raw| ids.binary_search(&raw).is_ok());
    let first_wrong: Vec<Text> = good.iter().map(|token| wrong_at(token, 0)).collect();
    let last_wrong: Vec<Text> = good.iter().map(|token| wrong_at(token, 42)).collect();
    let unknown: Vec<Text> = good.iter().map(unknown).collect();
    // A tenth is revoked; of those the right token is presented, and a wrong one.
    let every_tenth =
        |from: usize| -> Vec<Text> { good.iter().skip(from).step_by(10).copied().collect() };
    let [revoked, live, other_live] = [0, 1, 2].map(every_tenth);
    for token in &revoked {
        engine.revoke(id_of(token), Reason::KeyCompromise).unwrap();
    }
    let wrong =
        |tokens: &Vec<Text>| -> Vec<Text> { tokens.iter().map(|t| wrong_at(t, 0)).collect() };
    let [revoked_wrong, live_wrong, other_live_wrong] = [&revoked, &live, &other_live].map(wrong);
    for token in &good {
        let _ = engine.verify(token).unwrap();
    }

    let pairs: [(&str, [&[Text]; 2]); 6] = [
        (
            "wrong secret: first, last byte",
            [&first_wrong, &last_wrong],
        ),
        ("wrong secret, unknown id", [&first_wrong, &unknown]),
        (
            "wrong secret: of a live, a revoked key",
            [&live_wrong, &revoked_wrong],
        ),
        // How much the places of some keys in memory differ from those of others, which
        // the pair above has as well.
        (
            "wrong secret: of a live, another live key",
            [&live_wrong, &other_live_wrong],
        ),
        ("revoked: right, wrong secret", [&revoked, &revoked_wrong]),
        // What there is by design, and cannot be otherwise.
        ("right, wrong secret", [&live, &live_wrong]),
    ];
    for (pair, classes) in pairs {
        let result = verify_classes(&engine, classes, calls);
        report(&format!("{name}: {pair}"), &result, 1);
    }
    engine.close().unwrap();
}

fn verify_classes(engine: &Engine, classes: [&[Text]; 2], calls: usize) -> Comparison {
    let mut random = StdRng::seed_from_u64(2);
    let mut presented: Text = [0; TOKEN_LEN];
    let mut verdicts = [None, None];
    measure(calls, |class| {
        let tokens = classes[class];
        presented = tokens[random.random_range(0..tokens.len())];
        let text = black_box(&presented);
        let mut verdict = None;
        let ns = time(|| verdict = Some(engine.verify(text).unwrap()));
        let told = kind(&verdict.unwrap());
        assert_eq!(*verdicts[class].get_or_insert(told), told);
        ns
    })
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Granted(_) => "granted",
        Verdict::Denied(Denial::Unknown) => "unknown",
        Verdict::Denied(Denial::Revoked { .. }) => "revoked",
        Verdict::Denied(denial) => unreachable!("{denial}"),
    }
}

fn id_of(token: &Text) -> KeyId {
    let id = &token[TOKEN_LEN - SIGNED_LEN..][..KeyId::LEN];
    std::str::from_utf8(id).unwrap().parse().unwrap()
}

/// The token with the secret's character `at` another one.
fn wrong_at(token: &Text, at: usize) -> Text {
    let mut wrong = *token;
    let byte = &mut wrong[TOKEN_LEN - SIGNED_LEN + KeyId::LEN + 1 + at];
    *byte = if *byte == b'x' { b'y' } else { b'x' };
    reseal(&mut wrong);
    wrong
}

fn time(work: impl FnOnce()) -> u64 {
    let started = Instant::now();
    work();
    u64::try_from(started.elapsed().as_nanos()).unwrap()
}

/// What a pair of classes came to.
struct Comparison {
    calls: usize,
    t: f64,
    effect: f64,
    /// The mean of the first class, and what the second takes more, without the
    /// slowest tenth: those are of whatever else the machine did.
    first_ns: f64,
    difference_ns: f64,
}

fn report(name: &str, result: &Comparison, per_call: u32) {
    let (first, difference) = (
        result.first_ns / f64::from(per_call),
        result.difference_ns / f64::from(per_call),
    );
    println_if_bench(&format!(
        "{name:52} {:>9} {:>9.2} {:>7.4} {first:>8.1} {difference:>+8.2} {:>+8.2}",
        result.calls,
        result.t,
        result.effect,
        100.0 * difference / first,
    ));
}

/// What Welch's test asks of the times of a class that are up to a limit.
struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: &[u64], limit: u64) -> Self {
        let kept = || times.iter().filter(|ns| **ns <= limit).map(|ns| *ns as f64);
        let count = kept().count() as f64;
        let mean = kept().sum::<f64>() / count;
        let squares: f64 = kept().map(|ns| (ns - mean).powi(2)).sum();
        Self {
            count,
            mean,
            variance: squares / (count - 1.0),
        }
    }

    /// Welch's |t|, and Cohen's d.
    fn against(&self, other: &Self) -> (f64, f64) {
        let difference = (self.mean - other.mean).abs();
        if difference == 0.0 {
            return (0.0, 0.0);
        }
        let error = (self.variance / self.count + other.variance / other.count).sqrt();
        let spread = f64::midpoint(self.variance, other.variance).sqrt();
        (difference / error, difference / spread)
    }
}

/// Measures the two classes, 0 and 1, in random order.
fn measure(calls: usize, mut call: impl FnMut(usize) -> u64) -> Comparison {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..calls / 20 {
        call(usize::from(random.random::<bool>()));
    }
    let mut times: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..calls {
        let class = usize::from(random.random::<bool>());
        let ns = call(class);
        times[class].push(ns);
    }
    let mut all: Vec<u64> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    let mut worst = (0.0, 0.0);
    // dudect's percentiles: the longest times say the most of the machine and the
    // least of the code.
    for step in 0..100_i32 {
        let share = 1.0 - 0.5_f64.powf(10.0 * f64::from(step + 1) / 100.0);
        let limit = all[quantile(all.len(), if step == 99 { 1.0 } else { share })];
        let [left, right] = times.each_ref().map(|times| Moments::of(times, limit));
        if left.count < 100.0 || right.count < 100.0 {
            continue;
        }
        let (t, effect) = left.against(&right);
        if t > worst.0 {
            worst = (t, effect);
        }
    }
    let limit = all[quantile(all.len(), 0.9)];
    let [first, second] = times.map(|times| Moments::of(&times, limit).mean);
    Comparison {
        calls,
        t: worst.0,
        effect: worst.1,
        first_ns: first,
        difference_ns: second - first,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to len"
)]
fn quantile(len: usize, share: f64) -> usize {
    ((len as f64 * share) as usize).min(len - 1)
}
