//! Limits and quotas at all levels under threads of the operating system.
//!
//! Checked: no limit and no quota of any level is ever over; each refusal was due where it
//! says that it was; a change holds at its return; what was settled is counted exactly; and a
//! request that one level refuses never makes another level refuse another request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::proof::open_on;
use gatekey::{Denial, Limit, NewKey, NewKeyspace, OwnerUpdate, Quota, Requirements};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::charging::World;
use crate::disk::Disk;
use crate::rounds;

const THREADS: usize = 4;
const CALLS: usize = 12;
const CHANGES: usize = 3;

/// Waits until so many are here, and not for the operating system to wake them: calls that
/// take less than that would not overlap.
fn meet(here: &AtomicUsize, all: usize) {
    here.fetch_add(1, Ordering::SeqCst);
    while here.load(Ordering::SeqCst) < all {
        std::thread::yield_now();
    }
}

#[test]
fn what_each_level_tells_overlapping_requests_is_explained_by_one_order_of_them() {
    let histories = rounds(200, 20_000);
    let mut refusals = 0;
    for history in 0..histories {
        let disk = Disk::default();
        disk.set_sync_time(Duration::from_micros(20));
        let world = World::new(open_on(World::options(), disk).unwrap(), history);
        let here = AtomicUsize::new(0);
        let made = std::thread::scope(|scope| {
            let (world, here) = (&world, &here);
            let run = move |thread: usize| {
                let mut random = StdRng::seed_from_u64(history * 100 + thread as u64);
                meet(here, THREADS);
                match thread {
                    0 => (0..CHANGES).map(|_| world.change(&mut random)).collect(),
                    _ => (0..CALLS)
                        .map(|_| world.ask(&mut random))
                        .collect::<Vec<_>>(),
                }
            };
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || run(thread)))
                .collect();
            let made = threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap());
            made.collect()
        });
        refusals += world.check(made);
    }
    println!("{histories} histories, {refusals} requests refused");
    assert!(refusals > 1000, "little was refused: {refusals}");
}

/// What refuses the key that asks for more than it has.
const REFUSING: [&str; 4] = [
    "its limit",
    "its owner's limit",
    "its quota",
    "its owner's quota",
];

/// An organisation that has just what its honest keys ask for. The other key asks for all of
/// it at once, again and again: whatever of that were charged to the organisation, for however
/// short a time, would have it refuse them.
fn hammer(refusing: &str, limit: impl Fn(u32) -> Limit, requests: u32) -> usize {
    let engine = World::options().open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let all = requests * 2;
    let mut organisation = OwnerUpdate::new().limits([limit(all)]);
    if refusing.ends_with("quota") {
        organisation = organisation.quota(Quota::new(all.into()));
    }
    engine.update_owner("acme", "acme", organisation).unwrap();
    let mut bad = NewKey::new("acme", "acme/b").unwrap();
    let owner = OwnerUpdate::new();
    match refusing {
        "its limit" => bad = bad.limits([limit(1)]),
        "its quota" => bad = bad.quota(Quota::new(1)),
        "its owner's limit" => {
            engine
                .update_owner("acme", "acme/b", owner.limits([limit(1)]))
                .unwrap();
        }
        _ => {
            engine
                .update_owner("acme", "acme/b", owner.quota(Quota::new(1)))
                .unwrap();
        }
    }
    let bad = engine.issue(bad).unwrap();
    let honest = ["acme/a", "acme/b"].map(|owner| NewKey::new("acme", owner).unwrap());
    // Below an owner that has nothing left, nobody is honest.
    let honest = match refusing {
        "its owner's limit" | "its owner's quota" => [honest[0].clone(), honest[0].clone()],
        _ => honest,
    };
    let honest = honest.map(|new| engine.issue(new).unwrap());
    let done = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (engine, bad, done, refused) = (&engine, &bad, &done, &refused);
        let hammer = move || {
            let asked = Requirements::new().cost(all);
            while done.load(Ordering::SeqCst) < 2 {
                let verdict = engine.verify_with(bad.token.expose(), &asked).unwrap();
                let denial = verdict.denial().map(Denial::code);
                let due = ["rate_limited", "quota_exhausted"];
                assert!(
                    denial.is_some_and(|code| due.contains(&code)),
                    "{verdict:?}"
                );
                refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        for _ in 0..2 {
            scope.spawn(hammer);
        }
        for key in &honest {
            scope.spawn(move || {
                let all = (0..requests).filter(|_| {
                    let verdict = engine.verify(key.token.expose()).unwrap();
                    !verdict.is_granted()
                });
                let denied = all.count();
                done.fetch_add(1, Ordering::SeqCst);
                assert_eq!(denied, 0, "{refusing} made the organisation refuse others");
            });
        }
    });
    let left = engine.limits_left(honest[0].key.id).unwrap();
    assert_eq!(left[0].remaining(), 0);
    refused.into_inner()
}

#[test]
fn a_key_that_is_refused_never_makes_its_organisation_refuse_another() {
    let requests = u32::try_from(rounds(4_000, 400_000)).unwrap();
    let mut refused = 0;
    for refusing in REFUSING {
        refused += hammer(refusing, |of| Limit::per_hour(of).fixed(), requests);
        refused += hammer(refusing, Limit::per_hour, requests);
        refused += hammer(refusing, |of| Limit::per_hour(1).bucket(of), requests);
    }
    println!(
        "{refused} requests refused beside {} that were not",
        24 * requests
    );
    assert!(refused > 1000, "they did not race: {refused}");
}
