//! How long a durable change takes, from one thread, on a real file: each call
//! but the batch pays for a commit of its own.
//!
//! `cargo bench --bench write`. What is measured is as much the disk of the
//! temporary directory (`TMPDIR`) as gatekey; on a memory file system the
//! figures mean nothing. Under `cargo test`, with `--test` and in a debug
//! build, everything runs once on few keys, to see that it works.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench that fails should stop"
)]

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use gatekey::{Engine, KeyId, KeyState, NewKey, Options, Reason, Rotation, bounds};
use support::Home;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (stored, batch) = match support::is_test() {
        true => (100, 10),
        false => (100_000, bounds::BATCH_MAX),
    };
    let home = Home::new();
    let engine = home.open(Options::new());
    support::issue(&engine, stored, |n| format!("acme/bot-{n}"), |_, _| {});

    bench_issue(&mut criterion, &engine);
    bench_issue_batch(&mut criterion, &engine, batch);
    bench_revoke(&mut criterion, &engine);
    bench_rotate(&mut criterion, &engine);

    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
    criterion.final_summary();
}

fn bench_issue(criterion: &mut Criterion, engine: &Engine) {
    let new = support::new_key("acme/one-by-one");
    criterion.bench_function("write/issue", |bencher| {
        bencher.iter(|| {
            let issued = engine.issue(black_box(new.clone())).unwrap();
            assert_eq!(issued.key.state, KeyState::Active);
            issued
        });
    });
}

fn bench_issue_batch(criterion: &mut Criterion, engine: &Engine, size: usize) {
    let new: Vec<NewKey> = (0..size)
        .map(|n| support::new_key(&format!("acme/batch-{n}")))
        .collect();
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(size as u64));
    group.sample_size(10);
    group.bench_function(format!("issue_batch/{size}"), |bencher| {
        bencher.iter_batched(
            || new.clone(),
            |new| {
                let issued = engine.issue_batch(black_box(new)).unwrap();
                assert_eq!(issued.len(), size);
                issued
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn bench_revoke(criterion: &mut Criterion, engine: &Engine) {
    criterion.bench_function("write/revoke", |bencher| {
        bencher.iter_custom(|count| {
            let keys = issue_some(engine, count, "acme/to-be-revoked");
            timed(&keys, |key| {
                let revoked = engine.revoke(key, Reason::Cessation).unwrap();
                assert_eq!(revoked.reason, Reason::Cessation);
            })
        });
    });
}

fn bench_rotate(criterion: &mut Criterion, engine: &Engine) {
    let grace = Rotation::with_grace(Duration::from_secs(3600));
    criterion.bench_function("write/rotate", |bencher| {
        bencher.iter_custom(|count| {
            let keys = issue_some(engine, count, "acme/to-be-rotated");
            timed(&keys, |key| {
                let rotated = engine.rotate(key, grace.clone()).unwrap();
                assert_eq!(rotated.old.state, KeyState::Retiring);
            })
        });
    });
}

/// Keys of one owner each, whose issue is not measured.
fn issue_some(engine: &Engine, count: u64, owner: &str) -> Vec<KeyId> {
    let mut keys = Vec::new();
    let count = usize::try_from(count).unwrap();
    let owner = |n| format!("{owner}/{n}");
    support::issue(engine, count, owner, |_, token| keys.push(token.key_id()));
    support::shuffle(&mut keys);
    keys
}

fn timed(keys: &[KeyId], mut change: impl FnMut(KeyId)) -> Duration {
    let started = Instant::now();
    for key in keys {
        change(black_box(*key));
    }
    started.elapsed()
}
