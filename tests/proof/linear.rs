//! The engine under threads of the operating system.
//!
//! Invariants checked:
//! - 2, 4: what verifications, listings and changes tell can be explained by one order of them, in
//!   which each takes effect between its beginning and its end ([`crate::history`]);
//! - 2: a key that is revoked while others fill the table from the file is never granted
//!   after, and is not left there.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::proof::{lagging, open_on};
use gatekey::{Engine, KeyId, Options, Reason};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::calls::{Keys, create_keyspaces, new_key};
use crate::disk::Disk;
use crate::history::is_linearizable;
use crate::rounds;

const THREADS: usize = 4;
const CALLS: usize = 12;

/// A sync takes its time: while one waits for it, the others get on.
fn engine(resident_bytes: usize, sync_time: Duration, at_once: usize) -> Engine {
    let disk = Disk::default();
    disk.set_sync_time(sync_time);
    let options = Options::new().resident_bytes(resident_bytes);
    let options = lagging(options, at_once, true);
    let engine = open_on(options, disk).unwrap();
    create_keyspaces(&engine);
    engine
}

#[test]
fn what_overlapping_calls_tell_is_explained_by_one_order_of_them() {
    let histories = rounds(120, 4000);
    let mut overlapping = 0;
    // Where an owner may have no key, all keys lag behind its suspension for a while.
    let settings = [
        (0, 0),
        (4096, 256),
        (Options::RESIDENT_BYTES, 256),
        (Options::RESIDENT_BYTES, 0),
    ];
    for (resident_bytes, at_once) in settings {
        let engine = engine(resident_bytes, Duration::from_micros(20), at_once);
        for history in 0..histories {
            // In every other one, a new key takes the place of the owner's others.
            let keys = Keys::new(&engine, history, history % 2 == 1);
            let begin = keys.begin();
            let start = Barrier::new(THREADS);
            let made = std::thread::scope(|scope| {
                let run = |thread: usize| {
                    let mut random = StdRng::seed_from_u64(history * 100 + thread as u64);
                    start.wait();
                    let mut calls = Vec::new();
                    for _ in 0..CALLS {
                        let verb = keys.draw(&mut random);
                        calls.push(keys.ask(&engine, 0, verb).unwrap());
                    }
                    calls
                };
                let threads: Vec<_> = (0..THREADS)
                    .map(|thread| scope.spawn(move || run(thread)))
                    .collect();
                threads
                    .into_iter()
                    .flat_map(|thread| thread.join().unwrap())
                    .collect()
            });
            let calls = keys.history(made);
            overlapping += calls
                .windows(2)
                .filter(|pair| pair[1].begun < pair[0].ended)
                .count();
            assert!(
                is_linearizable(begin, &calls),
                "resident {resident_bytes}, history {history}: {calls:#?}"
            );
        }
        assert!(engine.check().unwrap().is_sound());
    }
    println!(
        "{} histories of {} calls, {overlapping} that overlapped the next",
        settings.len() as u64 * histories,
        THREADS * CALLS
    );
    assert!(overlapping > 1000, "they did not race: {overlapping}");
}

/// The table has room for one set of eight keys, and the readers ask for so many others
/// that nearly every look at the key is a fill.
#[test]
fn a_key_revoked_while_others_fill_the_table_with_it_is_never_granted_after() {
    const BATCH: usize = 500;
    let revocations = usize::try_from(rounds(10_000, 1_000_000)).unwrap();
    let engine = engine(1500, Duration::ZERO, 256);
    let others: Vec<String> = engine
        .issue_batch(vec![new_key("many", "acme/etl"); 16])
        .unwrap()
        .iter()
        .map(|issued| issued.token.expose().to_owned())
        .collect();
    let mut raced = 0;
    for _ in 0..revocations.div_ceil(BATCH) {
        let issued = engine
            .issue_batch(vec![new_key("many", "acme/etl"); BATCH])
            .unwrap();
        let keys: Vec<(KeyId, &str)> = issued
            .iter()
            .map(|issued| (issued.key.id, issued.token.expose()))
            .collect();
        // The key that is about to be revoked; all before it are.
        let (current, revoked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (done, during) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let read = |thread: usize| {
                let mut other = thread;
                while !done.load(Ordering::SeqCst) {
                    let at = current.load(Ordering::SeqCst).min(BATCH - 1);
                    let _ = engine.verify(keys[at].1).unwrap();
                    let ended_before = at < revoked.load(Ordering::SeqCst);
                    during.fetch_add(usize::from(!ended_before), Ordering::Relaxed);
                    // Of those that were revoked before this began, none is granted.
                    let gone = revoked.load(Ordering::SeqCst);
                    if gone > 0 {
                        let verdict = engine.verify(keys[gone - 1].1).unwrap();
                        assert!(!verdict.is_granted(), "a stale grant");
                    }
                    for _ in 0..3 {
                        other = (other + 5) % others.len();
                        assert!(engine.verify(&others[other]).unwrap().is_granted());
                    }
                }
            };
            let readers = [0, 1].map(|thread| scope.spawn(move || read(thread)));
            for (at, (key, token)) in keys.iter().enumerate() {
                current.store(at, Ordering::SeqCst);
                engine.revoke(*key, Reason::KeyCompromise).unwrap();
                revoked.store(at + 1, Ordering::SeqCst);
                assert!(!engine.verify(token).unwrap().is_granted(), "a stale grant");
            }
            done.store(true, Ordering::SeqCst);
            for reader in readers {
                reader.join().unwrap();
            }
        });
        raced += during.into_inner();
        // A late reader would have left the old record in the table.
        for (_, token) in &keys {
            assert!(
                !engine.verify(token).unwrap().is_granted(),
                "a stale record"
            );
        }
    }
    println!("{revocations} revocations, {raced} verifications of a key while it was revoked");
    assert!(raced > revocations / 10, "they did not race: {raced}");
}
