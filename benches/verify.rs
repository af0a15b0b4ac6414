//! How long a verification takes, by what is presented, by how many keys there
//! are, and by whether the keys are resident.
//!
//! `cargo bench --bench verify`. Under `cargo test`, with `--test` and in a
//! debug build, everything runs on a thousand keys, to see that it works.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench that fails should stop"
)]

mod support;

use std::collections::HashSet;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use gatekey::{AuditEvent, Denial, Engine, Options, Reason, Verdict};
use gatekey_testkit::forge::number_in;
use support::{Home, Text};

/// Owners whose keys are revoked: every tenth key is.
const GONE: &str = "gone";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let sizes: &[usize] = match support::is_test() {
        true => &[1000],
        false => &[1000, 100_000, 1_000_000],
    };
    for size in sizes {
        bench_store(&mut criterion, *size);
    }
    criterion.final_summary();
}

/// Tokens in a random order, by what they should come to.
struct Pools {
    good: Vec<Text>,
    revoked: Vec<Text>,
    wrong_secret: Vec<Text>,
    unknown: Vec<Text>,
    malformed: Vec<Text>,
}

fn bench_store(criterion: &mut Criterion, size: usize) {
    let home = Home::new();
    let pools = fill(&home, size);
    // Twice what the keys take up, so that hardly any set of the table is full.
    let roomy_bytes = size * 2 * 98;
    for (kept, resident_bytes) in [("resident", roomy_bytes), ("file", 0)] {
        let engine = home.open(Options::new().resident_bytes(resident_bytes));
        for token in pools.good.iter().chain(&pools.revoked) {
            // Fills the table, or the caches of the file.
            let _ = black_box(engine.verify(token).unwrap());
        }
        let mut group = criterion.benchmark_group(format!("verify/{kept}"));
        let mut bench = |name: &str, pool: &[Text], expected: fn(&Verdict) -> bool| {
            group.bench_with_input(BenchmarkId::new(name, size), pool, |bencher, pool| {
                let mut tokens = pool.iter().cycle();
                bencher.iter(|| {
                    let token = black_box(tokens.next().unwrap());
                    let verdict = engine.verify(token).unwrap();
                    assert!(expected(&verdict));
                    verdict
                });
            });
        };
        bench("hit", &pools.good, Verdict::is_granted);
        bench("wrong_secret", &pools.wrong_secret, is_unknown);
        bench("unknown", &pools.unknown, is_unknown);
        bench("malformed", &pools.malformed, is_malformed);
        bench("revoked", &pools.revoked, is_revoked);
        group.finish();
        engine.close().unwrap();
    }
}

/// Fills a store, and makes the tokens to be presented to it.
fn fill(home: &Home, size: usize) -> Pools {
    let engine = home.open(Options::new().resident_bytes(0));
    let (mut good, mut revoked, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    let owner = |n: usize| match n % 10 {
        0 => format!("{GONE}/bot-{n}"),
        _ => format!("acme/team-{}/bot-{n}", n % 97),
    };
    support::issue(&engine, size, owner, |n, token| {
        let text = support::text(token);
        ids.insert(number_in(&text));
        match n % 10 {
            0 => revoked.push(text),
            _ => good.push(text),
        }
    });
    revoke_gone(&engine, revoked.len());
    engine.close().unwrap();

    support::shuffle(&mut good);
    support::shuffle(&mut revoked);
    let unknown = |token| support::with_unknown_id(token, |id| ids.contains(&id));
    Pools {
        wrong_secret: good.iter().map(support::with_wrong_secret).collect(),
        unknown: good.iter().map(unknown).collect(),
        malformed: good.iter().map(support::with_a_typo).collect(),
        good,
        revoked,
    }
}

fn revoke_gone(engine: &Engine, count: usize) {
    let many = engine.revoke_owner(GONE, Reason::Cessation).unwrap();
    let told = AuditEvent::keys_counted(many.newly);
    assert!(told.is_none_or(|told| usize::try_from(told) == Ok(count)));
    // With the records that follow.
    engine.flush().unwrap();
}

fn is_unknown(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Denied(Denial::Unknown))
}

fn is_malformed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Denied(Denial::Malformed))
}

fn is_revoked(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Denied(Denial::Revoked { .. }))
}
