//! What must hold in every snapshot and for every verification, whoever else is
//! at work.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::{
    Conflict, Engine, Error, Issued, KeyFilter, KeyState, KeyUpdate, KeysPerOwner, NewKey,
    NewKeyspace, OwnerPath, Reason, Requirements, Rotation,
};

use crate::common::{DAY, Store, at, code};

/// Without resident memory, with room for few keys, with room for all.
const RESIDENT: [usize; 3] = [0, 4096, 1 << 20];

fn single_active(store: &Store, policy: KeysPerOwner) {
    let keyspace = NewKeyspace::new("single").unwrap().keys_per_owner(policy);
    store.engine.create_keyspace(keyspace).unwrap();
}

fn new_key(owner: &str) -> NewKey {
    NewKey::new("single", owner).unwrap()
}

/// Sets a flag when it goes, so that no thread waits for one that panicked.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Issues and rotates for one owner, and says how often it rotated with a
/// grace. Who loses a race is told so.
fn replace_keys(engine: &Engine, thread: usize) -> usize {
    let mut rotated = 0;
    let active = KeyFilter::new()
        .owner("acme".parse().unwrap())
        .state(KeyState::Active);
    for round in 0..25 {
        let current = engine
            .keys_page(&active, None, 1)
            .unwrap()
            .keys
            .first()
            .map(|key| key.id);
        let grace = if round % 4 == 0 { Duration::ZERO } else { DAY };
        let replaced = match current {
            Some(key) if !(round + thread).is_multiple_of(3) => {
                engine.rotate(key, Rotation::with_grace(grace)).map(drop)
            }
            _ => engine.issue(new_key("acme")).map(drop),
        };
        match replaced {
            Ok(()) => rotated += usize::from(grace == DAY),
            Err(Error::Conflict(Conflict::Revoked { .. } | Conflict::AlreadyRotated { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    rotated
}

#[test]
fn eight_threads_replacing_one_key_never_show_two_active_ones() {
    for (resident_bytes, on_file) in [(0, false), (1 << 20, true)] {
        let store = Store::new(resident_bytes, on_file);
        single_active(&store, KeysPerOwner::SingleSuperseding);
        store.engine.issue(new_key("acme")).unwrap();
        let owner: OwnerPath = "acme".parse().unwrap();
        let done = AtomicBool::new(false);
        let rotated: usize = std::thread::scope(|scope| {
            let _done = SetOnDrop(&done);
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        // One call, one snapshot.
                        let filter = KeyFilter::new().owner(owner.clone());
                        let keys = store.engine.keys_page(&filter, None, 1000).unwrap().keys;
                        let count = |state| keys.iter().filter(|key| key.state == state).count();
                        assert_eq!(count(KeyState::Active), 1);
                        assert!(count(KeyState::Retiring) <= 1);
                    }
                });
            }
            let writers: Vec<_> = (0..8)
                .map(|thread| {
                    let engine = &store.engine;
                    scope.spawn(move || replace_keys(engine, thread))
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .sum()
        });
        assert!(rotated > 8, "they did rotate: {rotated}");
        store.assert_sound();
    }
}

#[test]
fn of_rivals_for_the_one_key_of_an_owner_one_wins() {
    for on_file in [false, true] {
        let store = Store::new(1 << 20, on_file);
        single_active(&store, KeysPerOwner::SingleRefusing);
        for round in 0..10 {
            let owner = format!("acme/{round}");
            let start = Barrier::new(8);
            let results: Vec<Result<Issued, Error>> = std::thread::scope(|scope| {
                let rival = || {
                    start.wait();
                    store.engine.issue(new_key(&owner))
                };
                let rivals: Vec<_> = (0..8).map(|_| scope.spawn(rival)).collect();
                rivals
                    .into_iter()
                    .map(|rival| rival.join().unwrap())
                    .collect()
            });
            let won: Vec<_> = results.iter().flatten().collect();
            assert_eq!(won.len(), 1);
            let winner = won[0].key.id;
            assert!(results.iter().all(|result| match result {
                Err(Error::Conflict(Conflict::OwnerHasKey { key, .. })) => *key == winner,
                other => other.is_ok(),
            }));
            assert_eq!(store.verdict(won[0].token.expose()), "granted");
        }
        store.assert_sound();
    }
}

#[test]
fn a_cap_raced_by_sixteen_threads_is_never_exceeded() {
    const CAP: u32 = 5;
    for (resident_bytes, on_file) in [(0, false), (1 << 20, true)] {
        let store = Store::new(resident_bytes, on_file);
        single_active(&store, KeysPerOwner::Many { cap: Some(CAP) });
        let filter = KeyFilter::new().owner("acme".parse().unwrap());
        let done = AtomicBool::new(false);
        let race = |thread: usize| {
            let mut won = 0;
            for _ in 0..3 {
                // Some ask for two at once, which is all or none.
                let batch = vec![new_key("acme"); 1 + thread % 2];
                match store.engine.issue_batch(batch) {
                    Ok(issued) => won += issued.len(),
                    Err(Error::Batch { source, .. }) => assert!(
                        matches!(
                            *source,
                            Error::Conflict(Conflict::OwnerAtCap { cap: CAP, .. })
                        ),
                        "{source:?}"
                    ),
                    Err(error) => panic!("{error:?}"),
                }
            }
            won
        };
        let won: usize = std::thread::scope(|scope| {
            let _done = SetOnDrop(&done);
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let held = store
                        .engine
                        .keys_page(&filter, None, 1000)
                        .unwrap()
                        .keys
                        .len();
                    assert!(held <= 5, "{held}");
                }
            });
            let race = &race;
            let racers: Vec<_> = (0..16)
                .map(|thread| scope.spawn(move || race(thread)))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        // One who asked for two may have been refused with room for one.
        assert!((4..=5).contains(&won), "{won}");
        assert_eq!(store.engine.keys(filter).count(), won);
        store.assert_sound();
    }
}

#[test]
fn what_was_acknowledged_to_many_threads_is_there_after_a_reopening() {
    let mut store = Store::new(1 << 20, true);
    store.keyspace("acme_live");
    let issue = |thread: usize| {
        let issue = |at| store.issue("acme_live", &format!("acme/{thread}/{at}"));
        (0..40).map(issue).collect::<Vec<_>>()
    };
    let issued: Vec<Issued> = std::thread::scope(|scope| {
        let issue = &issue;
        let threads: Vec<_> = (0..8)
            .map(|thread| scope.spawn(move || issue(thread)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(store.reopen());
    for issued in &issued {
        assert_eq!(store.engine.key(issued.key.id).unwrap(), issued.key);
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    }
    let stats = store.engine.stats().unwrap();
    assert_eq!(stats.keyspaces[&"acme_live".parse().unwrap()].active, 320);
    assert_eq!(stats.audit_entries, 321);
    store.assert_sound();
}

/// Runs `take_away` while three threads verify a token, and asserts that none
/// of the verifications that start after it has returned grants. The token is
/// verified before, so that it is in memory, where keys are.
fn assert_gone_at_once(store: &Store, token: &str, asked: &Requirements<'_>, take_away: impl Fn()) {
    let returned = AtomicBool::new(false);
    let verifying = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let _returned = SetOnDrop(&returned);
        for _ in 0..3 {
            scope.spawn(|| {
                let mut after = 0;
                while after < 20 {
                    let is_over = returned.load(Ordering::SeqCst);
                    let verdict = store.engine.verify_with(token, asked).unwrap();
                    assert!(!(is_over && verdict.is_granted()), "{verdict:?}");
                    after += usize::from(is_over);
                    verifying.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while verifying.load(Ordering::SeqCst) < 10 {
            std::thread::yield_now();
        }
        take_away();
    });
}

#[test]
fn a_key_taken_away_while_others_verify_it_is_never_granted_after() {
    type TakeAway = fn(&Engine, &Issued);
    let ways: [(&str, TakeAway); 11] = [
        ("revoke", |engine, issued| {
            engine.revoke(issued.key.id, Reason::KeyCompromise).unwrap();
        }),
        ("revoke_token", |engine, issued| {
            let token = issued.token.expose();
            engine.revoke_token(token, Reason::KeyCompromise).unwrap();
        }),
        ("revoke_owner", |engine, issued| {
            let owner = issued.key.owner.clone();
            engine.revoke_owner(owner, Reason::Cessation).unwrap();
        }),
        ("disable", |engine, issued| {
            drop(engine.disable(issued.key.id).unwrap());
        }),
        ("suspend", |engine, issued| {
            engine.suspend(issued.key.owner.clone(), None).unwrap();
        }),
        ("narrow", |engine, issued| {
            let narrower = KeyUpdate::new().remove_permissions(["read"]);
            engine.update(issued.key.id, narrower).unwrap();
        }),
        ("bind to a network", |engine, issued| {
            let elsewhere = KeyUpdate::new().networks(["192.0.2.0/24".parse().unwrap()]);
            engine.update(issued.key.id, elsewhere).unwrap();
        }),
        ("rotate at once", |engine, issued| {
            engine.rotate(issued.key.id, Rotation::at_once()).unwrap();
        }),
        ("supersede", |engine, issued| {
            let new = NewKey::new("acme_live", issued.key.owner.clone()).unwrap();
            engine.issue(new).unwrap();
        }),
        ("flush and revoke", |engine, issued| {
            engine.flush().unwrap();
            engine.revoke(issued.key.id, Reason::KeyCompromise).unwrap();
            engine.flush().unwrap();
        }),
        ("revoke_keyspace", |engine, _| {
            engine
                .revoke_keyspace("acme_live", Reason::Cessation)
                .unwrap();
        }),
    ];
    for resident_bytes in RESIDENT {
        let store = Store::new(resident_bytes, false);
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        let keyspace = keyspace.permissions(["read", "write"]).single_active();
        store.engine.create_keyspace(keyspace).unwrap();
        let read = Requirements::new().permissions(&["read"]);
        for round in 0..6 {
            for (at, (_, take_away)) in ways.iter().enumerate() {
                let issued = store.issue("acme_live", &format!("acme/{round}/{at}"));
                assert_gone_at_once(&store, issued.token.expose(), &read, || {
                    take_away(&store.engine, &issued);
                });
            }
        }
        store.assert_sound();
    }
}

#[test]
fn a_key_purged_or_shortened_while_others_verify_it_is_never_granted_after() {
    for resident_bytes in RESIDENT {
        let store = Store::new(resident_bytes, false);
        store.keyspace("acme_live");
        let all = Requirements::new();
        for round in 0..10 {
            let short = Duration::from_millis(10);
            let lives = NewKey::new("acme_live", "acme").unwrap().expires_in(DAY);
            let issued = store.engine.issue(lives).unwrap();
            assert_gone_at_once(&store, issued.token.expose(), &all, || {
                let update = KeyUpdate::new().expires_in(short);
                store.engine.update(issued.key.id, update).unwrap();
                store.clock.advance(short);
            });
            let issued = store.issue("acme_live", "acme");
            assert_gone_at_once(&store, issued.token.expose(), &all, || {
                store
                    .engine
                    .revoke(issued.key.id, Reason::Cessation)
                    .unwrap();
                store.clock.advance(short);
                assert!(store.engine.purge(Duration::ZERO).unwrap().keys >= 1);
            });
            assert_eq!(store.verdict(issued.token.expose()), "unknown", "{round}");
        }
        assert!(store.engine.now() > at(0));
        store.assert_sound();
    }
}

#[test]
fn a_suspension_and_its_end_are_seen_for_all_keys_at_one_instant() {
    for resident_bytes in RESIDENT {
        let store = Store::new(resident_bytes, false);
        store.keyspace("acme_live");
        let batch = (0..100).map(|at| format!("acme/{at}"));
        let batch = batch
            .map(|owner| NewKey::new("acme_live", owner).unwrap())
            .collect();
        let issued = store.engine.issue_batch(batch).unwrap();
        for round in 0..16 {
            let (change, after): (fn(&Engine), &str) = match round % 2 {
                0 => (
                    |engine| drop(engine.suspend("acme", None).unwrap()),
                    "suspended",
                ),
                _ => (|engine| drop(engine.resume("acme").unwrap()), "granted"),
            };
            let seen = AtomicBool::new(false);
            let done = AtomicBool::new(false);
            let verifying = AtomicUsize::new(0);
            let verify_all = |first: usize| {
                let mut more = 200;
                for at in (first..).step_by(7) {
                    let was_seen = seen.load(Ordering::SeqCst);
                    let token = issued[at % issued.len()].token.expose();
                    let verdict = code(&store.engine.verify(token).unwrap());
                    if verdict == after {
                        seen.store(true, Ordering::SeqCst);
                    } else {
                        assert!(!was_seen, "{verdict}, and another is {after} already");
                    }
                    verifying.fetch_add(1, Ordering::SeqCst);
                    if done.load(Ordering::SeqCst) {
                        more -= 1;
                    }
                    if more == 0 {
                        break;
                    }
                }
            };
            std::thread::scope(|scope| {
                let _done = SetOnDrop(&done);
                for thread in 0..4 {
                    let verify_all = &verify_all;
                    scope.spawn(move || verify_all(thread * 25));
                }
                while verifying.load(Ordering::SeqCst) < 200 {
                    std::thread::yield_now();
                }
                change(&store.engine);
            });
            assert!(seen.load(Ordering::SeqCst));
        }
        store.assert_sound();
    }
}
