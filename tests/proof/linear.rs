//! The engine under threads of the operating system.
//!
//! Invariants checked:
//! - 2, 4: what verifications and changes tell can be explained by one order of them, in
//!   which each takes effect between its beginning and its end ([`crate::history`]);
//! - 2: a key that is revoked while others fill the table from the file is never granted
//!   after, and is not left there.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::proof::open_on;
use gatekey::{
    Engine, Error, KeyId, KeyUpdate, NewKey, NewKeyspace, Options, Reason, Refusal, Requirements,
    Rotation, Verdict,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Disk;
use crate::history::{Call, KEYS, Key, Owner, Told, Verb, is_linearizable};
use crate::rounds;

const THREADS: u64 = 4;
const CALLS: usize = 12;
const OWNER: &str = "acme/etl";

/// A sync takes its time: while one waits for it, the others get on.
fn engine(resident_bytes: usize, sync_time: Duration) -> Engine {
    let disk = Disk::default();
    disk.set_sync_time(sync_time);
    let options = Options::new().resident_bytes(resident_bytes);
    let engine = open_on(options, disk).unwrap();
    let keyspace = NewKeyspace::new("acme").unwrap();
    engine
        .create_keyspace(keyspace.permissions(["read", "write"]))
        .unwrap();
    engine
}

fn new_key() -> NewKey {
    let key = NewKey::new("acme", OWNER).unwrap();
    key.permissions(["read", "write"])
}

/// Two keys of an owner, and room for what they are rotated to.
struct Keys {
    known: [std::sync::OnceLock<(KeyId, String)>; KEYS],
    /// How many places are given away.
    taken: AtomicUsize,
    ticks: AtomicU64,
}

impl Keys {
    fn new(engine: &Engine) -> Self {
        let keys = Self {
            known: Default::default(),
            taken: AtomicUsize::new(2),
            ticks: AtomicU64::new(0),
        };
        let issued = engine.issue_batch(vec![new_key(); 2]).unwrap();
        for (place, issued) in keys.known.iter().zip(issued) {
            let token = issued.token.expose().to_owned();
            place.set((issued.key.id, token)).unwrap();
        }
        keys
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Draws a call on keys that are known.
    fn draw(&self, random: &mut StdRng) -> Verb {
        let known: Vec<usize> = (0..KEYS)
            .filter(|at| self.known[*at].get().is_some())
            .collect();
        let key = known[random.random_range(0..known.len())];
        match random.random_range(0..20) {
            0 => Verb::Revoke(key),
            1 => match self.taken.fetch_add(1, Ordering::SeqCst) {
                place if place < KEYS => Verb::Rotate(key, place),
                _ => Verb::Revoke(key),
            },
            2 | 3 => Verb::Disable(key),
            4 | 5 => Verb::Enable(key),
            6 => Verb::Narrow(key),
            7 => Verb::Widen(key),
            8 => Verb::Suspend,
            9 => Verb::Resume,
            other => Verb::Verify {
                key,
                to_write: other % 2 == 0,
            },
        }
    }

    fn call(&self, engine: &Engine, verb: Verb) -> Call {
        let key = |at: usize| self.known[at].get().unwrap();
        let id = |at: usize| key(at).0;
        let begun = self.tick();
        let told = match verb {
            Verb::Verify { key: at, to_write } => {
                let names: &[&str] = if to_write { &["write"] } else { &[] };
                let asked = Requirements::new().permission_names(names);
                let verdict = engine.verify_with(&key(at).1, &asked).unwrap();
                Told::Verdict(match verdict {
                    Verdict::Granted(_) => "granted",
                    Verdict::Denied(denial) => denial.code(),
                })
            }
            Verb::Revoke(at) => told(engine.revoke(id(at), Reason::KeyCompromise)),
            Verb::Rotate(at, new) => {
                let rotated = engine.rotate(id(at), Rotation::at_once());
                if let Ok(rotated) = &rotated {
                    let token = rotated.token.expose().to_owned();
                    self.known[new].set((rotated.key.id, token)).unwrap();
                }
                told(rotated)
            }
            Verb::Disable(at) => told(engine.disable(id(at))),
            Verb::Enable(at) => told(engine.enable(id(at))),
            Verb::Narrow(at) => {
                let narrow = KeyUpdate::new().withdraw_permissions(["write"]);
                told(engine.update(id(at), narrow))
            }
            Verb::Widen(at) => {
                let widen = KeyUpdate::new().add_permissions(["write"]);
                told(engine.update(id(at), widen))
            }
            Verb::Suspend => told(engine.suspend(OWNER, None)),
            Verb::Resume => told(engine.resume(OWNER)),
        };
        Call {
            verb,
            told,
            begun,
            ended: self.tick(),
        }
    }
}

fn told<T>(result: Result<T, Error>) -> Told {
    match result {
        Ok(_) => Told::Done,
        Err(Error::Refused(Refusal::Revoked { .. } | Refusal::Disabled(_))) => Told::Refused,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn what_overlapping_calls_tell_is_explained_by_one_order_of_them() {
    let histories = rounds(120, 4000);
    let mut overlapping = 0;
    for resident_bytes in [0, 4096, Options::RESIDENT_BYTES] {
        let engine = engine(resident_bytes, Duration::from_micros(20));
        for history in 0..histories {
            let keys = Keys::new(&engine);
            let start = Barrier::new(usize::try_from(THREADS).unwrap());
            let mut calls: Vec<Call> = std::thread::scope(|scope| {
                let run = |thread: u64| {
                    let mut random = StdRng::seed_from_u64(history * THREADS + thread);
                    start.wait();
                    let mut calls = Vec::new();
                    for _ in 0..CALLS {
                        let verb = keys.draw(&mut random);
                        calls.push(keys.call(&engine, verb));
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
            calls.sort_by_key(|call| call.begun);
            overlapping += calls
                .windows(2)
                .filter(|pair| pair[1].begun < pair[0].ended)
                .count();
            let good = Key::Good {
                disabled: false,
                may_write: true,
            };
            let begin = Owner {
                suspended: false,
                keys: [good, good, Key::Absent, Key::Absent],
            };
            assert!(
                is_linearizable(begin, &calls),
                "resident {resident_bytes}, history {history}: {calls:#?}"
            );
            engine.resume(OWNER).unwrap();
        }
        assert!(engine.check().unwrap().is_sound());
    }
    println!(
        "{} histories of {} calls, {overlapping} that overlapped the next",
        3 * histories,
        THREADS as usize * CALLS
    );
    assert!(overlapping > 1000, "they did not race: {overlapping}");
}

/// The table has room for one set of eight keys, and the readers ask for so many others
/// that nearly every look at the key is a fill.
#[test]
fn a_key_revoked_while_others_fill_the_table_with_it_is_never_granted_after() {
    const BATCH: usize = 500;
    let revocations = usize::try_from(rounds(10_000, 1_000_000)).unwrap();
    let engine = engine(1500, Duration::ZERO);
    let others: Vec<String> = engine
        .issue_batch(vec![new_key(); 16])
        .unwrap()
        .iter()
        .map(|issued| issued.token.expose().to_owned())
        .collect();
    let mut raced = 0;
    for _ in 0..revocations.div_ceil(BATCH) {
        let issued = engine.issue_batch(vec![new_key(); BATCH]).unwrap();
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
