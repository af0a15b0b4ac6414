//! Loss of power while several threads change the store, and share commits.
//!
//! Invariants checked:
//! - 3: every change that was acknowledged to its thread is there, and one in flight
//!   whole or not at all;
//! - 2, 4: what was revoked is revoked, and no owner has two active keys;
//! - 6, 8: records, indexes and the chain of the audit trail agree.

use std::sync::Mutex;
use std::time::Duration;

use gatekey::proof::open_on;
use gatekey::{Engine, KeyId, ManualClock, NewKey, NewKeyspace, Reason, Rotation};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::Disk;
use crate::power::{crashes, each_point};
use crate::rounds;
use crate::workload::{assert_sound, instant, open, options, verdict};

const THREADS: usize = 4;

/// What a thread does to its own key, and when, in calls of the disk.
struct Act {
    what: What,
    begun: usize,
    acknowledged: usize,
}

enum What {
    Issued(KeyId, String),
    /// The key was rotated at once; this is the new one.
    Rotated(KeyId, String),
    Disabled,
    Enabled,
    Revoked,
}

/// A thread's owner goes through these again and again; after each there is one answer
/// on each of its tokens.
fn act(engine: &Engine, owner: &str, round: usize, current: Option<KeyId>) -> What {
    match (round % 5, current) {
        (1, Some(key)) => {
            let rotated = engine.rotate(key, Rotation::at_once()).unwrap();
            What::Rotated(rotated.key.id, rotated.token.expose().to_owned())
        }
        (2, Some(key)) => {
            engine.disable(key).unwrap();
            What::Disabled
        }
        (3, Some(key)) => {
            engine.enable(key).unwrap();
            What::Enabled
        }
        (4, Some(key)) => {
            engine.revoke(key, Reason::KeyCompromise).unwrap();
            What::Revoked
        }
        _ => {
            let issued = engine.issue(NewKey::new("one", owner).unwrap()).unwrap();
            What::Issued(issued.key.id, issued.token.expose().to_owned())
        }
    }
}

fn run_thread(engine: &Engine, disk: &Disk, thread: usize, rounds: usize) -> Vec<Act> {
    let owner = format!("owner{thread}");
    let mut acts: Vec<Act> = Vec::new();
    let mut current = None;
    for round in 0..rounds {
        let begun = disk.journal_len();
        let what = act(engine, &owner, round, current);
        let acknowledged = disk.journal_len();
        match &what {
            What::Issued(key, _) | What::Rotated(key, _) => current = Some(*key),
            What::Revoked => current = None,
            What::Disabled | What::Enabled => {}
        }
        acts.push(Act {
            what,
            begun,
            acknowledged,
        });
    }
    acts
}

/// The verdict on each token of a thread after so many of its acts; a token that is not
/// issued yet is unknown.
fn expected(acts: &[Act], done: usize) -> Vec<&'static str> {
    let mut verdicts = Vec::new();
    for (at, act) in acts.iter().enumerate() {
        let is_done = at < done;
        match (&act.what, verdicts.last_mut()) {
            (What::Issued(..), _) => verdicts.push(if is_done { "granted" } else { "unknown" }),
            (What::Rotated(..), Some(last)) => {
                if is_done {
                    *last = "revoked";
                }
                verdicts.push(if is_done { "granted" } else { "unknown" });
            }
            (What::Disabled, Some(last)) if is_done => *last = "disabled",
            (What::Enabled, Some(last)) if is_done => *last = "granted",
            (What::Revoked, Some(last)) if is_done => *last = "revoked",
            _ => {}
        }
    }
    verdicts
}

fn tokens(acts: &[Act]) -> impl Iterator<Item = &String> {
    acts.iter().filter_map(|act| match &act.what {
        What::Issued(_, token) | What::Rotated(_, token) => Some(token),
        _ => None,
    })
}

#[test]
fn what_was_acknowledged_to_several_threads_survives_a_loss_of_power() {
    let disk = Disk::default();
    disk.keep_journal();
    let clock = ManualClock::at(instant(0));
    let engine = open_on(options(&clock, 2), disk.clone()).unwrap();
    let one = NewKeyspace::new("one").unwrap().single_active();
    engine.create_keyspace(one).unwrap();
    disk.set_sync_time(Duration::from_micros(300));
    let from = disk.journal_len();
    let count = usize::try_from(rounds(15, 150)).unwrap();
    let acts: Vec<Vec<Act>> = std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|thread| {
            let (engine, disk) = (&engine, &disk);
            scope.spawn(move || run_thread(engine, disk, thread, count))
        });
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let journal = disk.take_journal();
    let commits = journal.len();
    drop(engine);

    let points = Mutex::new(Vec::new());
    each_point(Vec::new(), &journal, |at, durable, since| {
        if at >= from {
            let point = (at, durable.to_vec(), since);
            points.lock().unwrap().push(point);
        }
    });
    let images = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = points.lock().unwrap().pop();
                    let Some((at, durable, since)) = next else {
                        return;
                    };
                    let mut random = StdRng::seed_from_u64(at as u64);
                    for crash in crashes(since, 2) {
                        let image = crash.image(&durable, since, &mut random);
                        assert_holds(image, at, &acts);
                        *images.lock().unwrap() += 1;
                    }
                }
            });
        }
    });
    let images = images.into_inner().unwrap();
    let all = THREADS * count;
    println!("{all} changes, {commits} calls, {images} images");
    assert!(images > 300);
}

/// Asserts that a disk as the power left it at a call holds what each thread had been
/// told by then.
fn assert_holds(image: Vec<u8>, at: usize, acts: &[Vec<Act>]) {
    let engine = open(&Disk::of(image), 0).unwrap();
    assert_sound(&engine, &format!("call {at}"));
    for acts in acts {
        let told = acts.iter().filter(|act| act.acknowledged <= at).count();
        let begun = acts.iter().filter(|act| act.begun <= at).count();
        let seen: Vec<_> = tokens(acts)
            .map(|token| verdict(&engine, token).unwrap())
            .collect();
        // One change of a thread is in flight at the most.
        assert!(begun <= told + 1);
        assert!(
            (told..=begun).any(|done| seen == expected(acts, done)),
            "call {at}: {told} acknowledged, {begun} begun: {seen:?}, not {:?}",
            expected(acts, told)
        );
    }
}
