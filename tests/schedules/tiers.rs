//! Levels under shuttle: requests of quotas at three levels and of a limit at the first, and a
//! change of that limit between them.
//!
//! Whatever the order of the steps: no level is over, what was admitted is what is counted,
//! and what one level refuses is charged to none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gatekey::{Engine, Limit, NewKey, NewKeyspace, Options, OwnerUpdate, Quota, Requirements};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

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

fn explore(name: &str, scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    shuttle::Runner::new(scheduler, config).run(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        requests_beside_a_change();
    });
    println!("{name}: {} schedules", count.load(Ordering::Relaxed));
}

#[test]
fn random_schedules_charge_all_levels_or_none_beside_a_change() {
    explore(
        "random",
        RandomScheduler::new_from_seed(5, super::schedules()),
    );
}

#[test]
fn schedules_of_few_preemptions_charge_all_levels_or_none_beside_a_change() {
    explore(
        "few preemptions",
        PctScheduler::new_from_seed(6, 3, super::schedules()),
    );
}
