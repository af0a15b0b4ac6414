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
use gatekey::{Engine, ManualClock, NewKeyspace};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::Disk;
use crate::power::{crashes, each_point};
use crate::rounds;
use crate::turns::{self, Seen, TURNS};
use crate::workload::{assert_sound, instant, open, options};

const THREADS: usize = 4;

/// When a thread took a turn, in calls of the disk, and the token that it got.
struct Taken {
    begun: usize,
    acknowledged: usize,
    token: Option<String>,
}

fn owner(thread: usize) -> String {
    format!("owner{thread}")
}

fn run_thread(engine: &Engine, disk: &Disk, thread: usize, rounds: usize) -> Vec<Taken> {
    let owner = owner(thread);
    let mut current = None;
    let turns = TURNS.into_iter().cycle().take(rounds);
    let taken = turns.map(|turn| {
        let begun = disk.journal_len();
        let token = turns::take(engine, &owner, turn, &mut current);
        Taken {
            begun,
            token,
            acknowledged: disk.journal_len(),
        }
    });
    taken.collect()
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
    let taken: Vec<Vec<Taken>> = std::thread::scope(|scope| {
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
                        assert_holds(image, at, &taken);
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
fn assert_holds(image: Vec<u8>, at: usize, taken: &[Vec<Taken>]) {
    let engine = open(&Disk::of(image), 0).unwrap();
    assert_sound(&engine, &format!("call {at}"));
    for (thread, taken) in taken.iter().enumerate() {
        let told = taken.iter().filter(|turn| turn.acknowledged <= at).count();
        let begun = taken.iter().filter(|turn| turn.begun <= at).count();
        let tokens = taken.iter().filter_map(|turn| turn.token.as_ref());
        let seen = Seen::of(&engine, &owner(thread), tokens);
        // One turn of a thread is in flight at the most.
        assert!(begun <= told + 1);
        assert!(
            seen.turns(told, begun).is_some(),
            "call {at}: {told} acknowledged, {begun} begun: {seen:?}"
        );
    }
}
