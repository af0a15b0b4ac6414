//! Levels under shuttle: requests that are charged at three levels, some of which are settled
//! later, beside changes of what holds there.
//!
//! Whatever the order of the steps: no limit and no quota of any level is over, each refusal was
//! due where it says so, a change holds at its return, what was settled is counted exactly, and
//! what one level refuses is charged to none ([`crate::counted`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gatekey::{Engine, Limit, NewKey, NewKeyspace, Options, OwnerUpdate, Quota, Requirements};
use rand::SeedableRng;
use rand::rngs::StdRng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use crate::charging::World;

const THREADS: u64 = 3;
const CALLS: usize = 4;
const CHANGES: usize = 2;

/// One history of one schedule, as `tests/proof/levels.rs` has them of threads: changes of an
/// owner's limits, of a plan, of a key's plan, of an algorithm and of a quota.
fn history(seed: u64) {
    let engine = World::options().open_in_memory().unwrap();
    let world = Arc::new(World::new(engine, seed));
    let random = |thread| StdRng::seed_from_u64(seed * (THREADS + 1) + thread);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (world, mut random) = (world.clone(), random(thread));
            shuttle::thread::spawn(move || {
                let calls = (0..CALLS).map(|_| world.ask(&mut random));
                calls.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut random = random(THREADS);
    let mut made: Vec<_> = (0..CHANGES).map(|_| world.change(&mut random)).collect();
    made.extend((threads.into_iter()).flat_map(|thread| thread.join().unwrap()));
    world.check(made);
}

fn spend(engine: &Engine, token: &str, cost: u32) -> u64 {
    let asked = Requirements::new().cost(cost);
    let verdict = engine.verify_with(token, &asked).unwrap();
    u64::from(cost) * u64::from(verdict.is_granted())
}

fn requests_beside_a_change() {
    let options = Options::new()
        .resident_bytes(1 << 14)
        .cache_bytes(1 << 20)
        .usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let tier = OwnerUpdate::new()
        .limits([Limit::per_hour(12).fixed()])
        .quota(Quota::new(60));
    engine.update_owner("acme", "org", tier).unwrap();
    let project = OwnerUpdate::new().quota(Quota::new(20));
    engine.update_owner("acme", "org/a", project).unwrap();
    let tokens = ["org/a/x", "org/a/y", "org/b"].map(|owner| {
        let spec = NewKey::new("acme", owner).unwrap().quota(Quota::new(15));
        let issued = engine.issue(spec).unwrap();
        (issued.key.id, issued.token.expose().to_owned())
    });
    let id = tokens[0].0;
    let threads = tokens.map(|(_, token)| {
        let engine = engine.clone();
        shuttle::thread::spawn(move || {
            [3, 9, 2]
                .map(|cost| spend(&engine, &token, cost))
                .iter()
                .sum::<u64>()
        })
    });
    // To limits of another kind, in which nothing of the old is counted.
    let wider = OwnerUpdate::new().limits([Limit::per_hour(1_000)]);
    engine.update_owner("acme", "org", wider).unwrap();
    let [x, y, b] = threads.map(|thread| thread.join().unwrap());
    assert!(x <= 15 && y <= 15 && b <= 15 && x + y <= 20, "{x} {y} {b}");
    let left = engine.quotas_left(id).unwrap();
    let left: Vec<_> = left.iter().map(|left| left.status().remaining).collect();
    assert_eq!(left, [60 - x - y - b, 20 - x - y, 15 - x]);
    let counted = 1_000 - u64::from(engine.limits_left(id).unwrap()[0].remaining());
    let by_the_old = (x + y + b) - counted;
    assert!(by_the_old <= 12, "the old limits admitted {by_the_old}");
}

/// One request that three threads settle at once, each at another cost: one of them is the
/// last, and what it said is counted at every level.
fn settlements_of_one_request() {
    let engine = World::options().open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let limits = [Limit::per_hour(50).fixed()];
    for owner in ["org", "org/a"] {
        let tier = OwnerUpdate::new().limits(limits).quota(Quota::new(50));
        engine.update_owner("acme", owner, tier).unwrap();
    }
    let key = NewKey::new("acme", "org/a").unwrap().limits(limits);
    let issued = engine.issue(key.quota(Quota::new(50))).unwrap();
    let asked = Requirements::new().cost(4).settled_later();
    let verdict = engine.verify_with(issued.token.expose(), &asked).unwrap();
    let charge = verdict.into_result().unwrap().charge().cloned().unwrap();
    let threads = [9, 1].map(|cost| {
        let (engine, charge) = (engine.clone(), charge.clone());
        shuttle::thread::spawn(move || engine.settle(&charge, cost).unwrap())
    });
    engine.settle(&charge, 6).unwrap();
    threads.map(|thread| thread.join().unwrap());
    let cost = charge.cost();
    assert!([9, 1, 6].contains(&cost), "{cost}");
    let limits = engine.limits_left(issued.key.id).unwrap();
    let left: Vec<u32> = limits.iter().map(|left| left.remaining()).collect();
    assert_eq!(left, [50 - cost; 3]);
    let quotas = engine.quotas_left(issued.key.id).unwrap();
    let left = quotas.iter().map(|left| left.status().remaining);
    assert_eq!(left.collect::<Vec<_>>(), [u64::from(50 - cost); 3]);
}

/// More steps than any schedule has in which everybody has their turn. A request that finds a
/// quota in another's hands asks again until that decides, and some schedules of few
/// preemptions never let the other go on: those are given up.
const STEPS_MAX: usize = 200_000;

fn explore(
    name: &str,
    scheduler: impl Scheduler + 'static,
    run: impl Fn(u64) + Send + Sync + 'static,
) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = shuttle::MaxSteps::ContinueAfter(STEPS_MAX);
    let (begun, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (beginning, ending) = (begun.clone(), ended.clone());
    shuttle::Runner::new(scheduler, config).run(move || {
        run(beginning.fetch_add(1, Ordering::Relaxed));
        ending.fetch_add(1, Ordering::Relaxed);
    });
    let (begun, ended) = (begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    println!("{name}: {ended} schedules, {} given up", begun - ended);
    assert!(ended >= begun - begun / 20, "{ended} of {begun}");
}

#[test]
fn random_schedules_charge_all_levels_or_none_beside_a_change() {
    let scheduler = RandomScheduler::new_from_seed(5, super::schedules());
    explore("random", scheduler, |_| requests_beside_a_change());
}

#[test]
fn schedules_of_few_preemptions_charge_all_levels_or_none_beside_a_change() {
    let scheduler = PctScheduler::new_from_seed(6, 3, super::schedules());
    explore("few preemptions", scheduler, |_| requests_beside_a_change());
}

#[test]
fn random_schedules_of_settlements_of_one_request_end_as_the_last_of_them() {
    let scheduler = RandomScheduler::new_from_seed(9, super::schedules());
    explore("random", scheduler, |_| settlements_of_one_request());
}

#[test]
fn random_schedules_of_requests_and_changes_are_explained_at_each_level() {
    let scheduler = RandomScheduler::new_from_seed(7, super::schedules() / 2);
    explore("random", scheduler, history);
}

#[test]
fn schedules_of_few_preemptions_and_changes_are_explained_at_each_level() {
    let scheduler = PctScheduler::new_from_seed(8, 3, super::schedules() / 2);
    explore("few preemptions", scheduler, history);
}
