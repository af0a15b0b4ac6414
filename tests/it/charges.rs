//! What is charged to limits and quotas, beside changes that race, clocks that step
//! back, a file that fails, and tables that are full.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use gatekey::{
    Clock, Engine, Error, KeyUpdate, KeyspaceUpdate, Limit, ManualClock, NewKey, NewKeyspace,
    Options, Plan, Quota, Refill, Requirements, Rotation, Timestamp,
};

use crate::common::{DAY, Store, at, code, granted};

fn issue(store: &Store, quota: Quota) -> gatekey::Issued {
    let spec = NewKey::new("acme_live", "acme").unwrap().quota(quota);
    store.engine.issue(spec).unwrap()
}

#[test]
fn a_key_that_gets_another_quota_leaves_the_one_that_is_shared_alone() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let first = issue(&store, Quota::new(20));
    let second = store
        .engine
        .rotate(first.key.id, Rotation::with_grace(DAY))
        .unwrap();
    store
        .engine
        .update(first.key.id, KeyUpdate::new().quota(None))
        .unwrap();
    store
        .engine
        .update(first.key.id, KeyUpdate::new().quota(Quota::new(500)))
        .unwrap();
    let q = store.engine.key(second.key.id).unwrap().quota.unwrap();
    store
        .engine
        .update(first.key.id, KeyUpdate::new().quota(None))
        .unwrap();
    let v = store.engine.verify(second.token.expose());
    assert_eq!(q.quota.requests(), 20);
    assert!(v.unwrap().is_granted());
    store.assert_sound();
}

#[test]
fn a_successor_with_a_quota_of_its_own_spends_that() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let first = issue(&store, Quota::new(20));
    let second = store
        .engine
        .rotate(first.key.id, Rotation::with_grace(DAY))
        .unwrap();
    let token = second.token.expose();
    assert_eq!(granted(&store.engine, token, 3), 3);
    store
        .engine
        .update(second.key.id, KeyUpdate::new().quota(None))
        .unwrap();
    store
        .engine
        .update(second.key.id, KeyUpdate::new().quota(Quota::new(4)))
        .unwrap();
    let (b, a) = (
        granted(&store.engine, token, 99),
        granted(&store.engine, first.token.expose(), 99),
    );
    assert_eq!((b, a), (4, 17));
}

#[test]
fn a_refused_dear_request_takes_nothing_out_of_the_store() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(100_000));
    let v = store
        .engine
        .verify_with(issued.token.expose(), &Requirements::new().cost(200_000))
        .unwrap();
    assert_eq!(code(&v), "quota_exhausted");
    // A crash now:
    let copy = store.dir().join("crash.redb");
    std::fs::copy(store.path.as_ref().unwrap(), &copy).unwrap();
    let engine = Options::new()
        .clock(store.clock.clone())
        .open(&copy)
        .unwrap();
    let left = engine.key(issued.key.id).unwrap().quota.unwrap().remaining;
    assert!(left >= 99_000, "a crash lost {}", 100_000 - left);
}

#[test]
fn a_rotation_checks_its_quota() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(100));
    for requests in [0, u64::MAX] {
        let own = Rotation::with_grace(DAY).changing(KeyUpdate::new().quota(Quota::new(requests)));
        let r = store.engine.rotate(issued.key.id, own);
        assert!(
            matches!(r, Err(Error::Invalid(_))),
            "{:?}",
            r.map(|r| r.key.quota)
        );
    }
}

#[test]
fn a_verification_beside_a_change_of_the_quota_is_no_error() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(100));
    let done = AtomicBool::new(false);
    let errors = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut errors = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        if let Err(e) = store.engine.verify(issued.token.expose()) {
                            errors.push(e.to_string());
                        }
                    }
                    errors
                })
            })
            .collect();
        for _ in 0..200 {
            store
                .engine
                .update(issued.key.id, KeyUpdate::new().quota(None))
                .unwrap();
            store
                .engine
                .update(issued.key.id, KeyUpdate::new().quota(Quota::new(20)))
                .unwrap();
        }
        done.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(errors.is_empty(), "{} {}", errors.len(), errors[0]);
}

#[test]
fn a_changed_quota_is_exact_beside_verifications() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let (mut less, mut more) = (0, 0);
    for _ in 0..40 {
        let issued = issue(&store, Quota::new(30));
        let token = issued.token.expose();
        let done = AtomicBool::new(false);
        let barrier = Barrier::new(4);
        // (began, granted) of each verification
        let updated = std::sync::OnceLock::new();
        let (after, all) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut after, mut all) = (0, 0);
                        barrier.wait();
                        while !done.load(Ordering::Relaxed) {
                            let late = updated.get().is_some();
                            let g = u32::from(store.engine.verify(token).unwrap().is_granted());
                            all += g;
                            if late {
                                after += g;
                            }
                        }
                        (after, all)
                    })
                })
                .collect();
            barrier.wait();
            store
                .engine
                .update(issued.key.id, KeyUpdate::new().quota(Quota::new(10)))
                .unwrap();
            updated.set(()).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            done.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
        });
        let rest = granted(&store.engine, token, 20);
        let (after, all) = (after + rest, all + rest);
        if all < 10 {
            less += 1;
        }
        if after > 10 {
            more += 1;
        }
    }
    assert_eq!((less, more), (0, 0));
}

#[derive(Debug)]
struct Script {
    armed: AtomicBool,
    first: Timestamp,
    then: AtomicU64,
}
#[derive(Debug, Clone)]
struct Scripted(Arc<Script>);
impl Clock for Scripted {
    fn now(&self) -> Timestamp {
        if self.0.armed.swap(false, Ordering::SeqCst) {
            return self.0.first;
        }
        Timestamp::from_unix_ms(self.0.then.load(Ordering::SeqCst)).unwrap()
    }
}

fn returns(engine: &Engine, token: &str) -> bool {
    let (send, receive) = std::sync::mpsc::channel();
    let (engine, token) = (engine.clone(), token.to_owned());
    std::thread::spawn(move || {
        let _ = send.send(engine.verify(&token).map(|_| ()));
    });
    receive.recv_timeout(Duration::from_secs(5)).is_ok()
}

#[test]
fn a_clock_that_steps_back_over_a_refill_does_not_spin() {
    let clock = Scripted(Arc::new(Script {
        armed: AtomicBool::new(false),
        first: at(86_400_000 + 100),
        then: AtomicU64::new(at(86_400_000 - 100).unix_ms()),
    }));
    let engine = Options::new()
        .clock(clock.clone())
        .usage_interval(None)
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(
            NewKey::new("acme_live", "acme")
                .unwrap()
                .quota(Quota::new(50).refilled(Refill::Daily)),
        )
        .unwrap();
    assert_eq!(granted(&engine, issued.token.expose(), 1), 1);
    clock.0.armed.store(true, Ordering::SeqCst);
    let ok = returns(&engine, issued.token.expose());
    let left = engine.key(issued.key.id).unwrap().quota;
    assert!(ok, "spins; {left:?}");
}

#[test]
fn a_quota_at_the_end_of_time_does_not_spin() {
    let engine = Options::new()
        .clock(ManualClock::at(Timestamp::MAX))
        .usage_interval(None)
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(
            NewKey::new("acme_live", "acme")
                .unwrap()
                .quota(Quota::new(50)),
        )
        .unwrap();
    assert!(returns(&engine, issued.token.expose()), "spins");
}

#[test]
fn a_shared_plan_that_is_changed_and_changed_back_stays_shared() {
    let store = Store::on_file();
    let team = |n| {
        Plan::new("team")
            .limit(Limit::per_hour(n))
            .shared_by_owner()
    };
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(team(10))
                .default_plan("team"),
        )
        .unwrap();
    let [one, two] = [0, 1].map(|_| {
        store
            .engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap()
    });
    assert_eq!(granted(&store.engine, one.token.expose(), 1), 1);
    assert_eq!(granted(&store.engine, two.token.expose(), 1), 1);
    for n in [5, 10] {
        store
            .engine
            .update_keyspace("acme_live", KeyspaceUpdate::new().plan(team(n)))
            .unwrap();
        assert_eq!(granted(&store.engine, one.token.expose(), 1), 1);
    }
    let sum = granted(&store.engine, one.token.expose(), 99)
        + granted(&store.engine, two.token.expose(), 99);
    assert_eq!(sum, 6, "what was counted before the changes counts");
}

#[test]
fn a_charge_is_given_back_after_the_clock_stepped_back() {
    let store = Store::on_file();
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(Plan::new("p").limit(Limit::per_second(5)))
                .default_plan("p"),
        )
        .unwrap();
    let issued = issue(&store, Quota::new(1));
    let token = issued.token.expose();
    assert_eq!(granted(&store.engine, token, 2), 1);
    store.clock.set(at(5_000));
    assert_eq!(granted(&store.engine, token, 1), 0);
    store.clock.set(at(2_000));
    let codes: Vec<_> = (0..8)
        .map(|_| code(&store.engine.verify(token).unwrap()))
        .collect();
    assert_eq!(codes, ["quota_exhausted"; 8]);
}

#[test]
fn a_source_that_is_counted_stays_so_at_a_full_table() {
    let clock = ManualClock::at(at(0));
    let engine = Options::new()
        .clock(clock.clone())
        .usage_interval(None)
        .failed_attempts(Limit::per_hour(10))
        .open_in_memory()
        .unwrap();
    let from = |raw: u32| {
        let asked = Requirements::new().source(std::net::Ipv4Addr::from_bits(raw).into());
        code(&engine.verify_with("x", &asked).unwrap()).to_owned()
    };
    for raw in 0..65_536 {
        from(raw);
    }
    for _ in 0..20 {
        from(7);
    }
    let last = from(7);
    assert_eq!(
        last, "too_many_attempts",
        "a source that is counted already"
    );
}

#[test]
fn threads_that_come_at_once_take_one_slice() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(100_000));
    let barrier = Barrier::new(64);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                barrier.wait();
                assert!(
                    store
                        .engine
                        .verify(issued.token.expose())
                        .unwrap()
                        .is_granted()
                );
            });
        }
    });
    let left = store
        .engine
        .key(issued.key.id)
        .unwrap()
        .quota
        .unwrap()
        .remaining;
    assert_eq!(left, 99_000, "a slice of 1,000 is out");
}

#[test]
fn closing_beside_verifications_puts_all_back() {
    let mut lost = Vec::new();
    for _ in 0..10 {
        let store = Store::on_file();
        store.keyspace("acme_live");
        let issued = issue(&store, Quota::new(100_000));
        let token = issued.token.expose();
        let sum: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let engine = store.engine.clone();
                    scope.spawn(move || {
                        let mut sum = 0;
                        while let Ok(v) = engine.verify(token) {
                            sum += u32::from(v.is_granted());
                        }
                        sum
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(20));
            store.engine.clone().close().unwrap();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        let engine = Options::new()
            .clock(store.clock.clone())
            .open(store.path.as_ref().unwrap())
            .unwrap();
        let left = engine.key(issued.key.id).unwrap().quota.unwrap().remaining;
        if left + u64::from(sum) != 100_000 {
            lost.push((left, sum));
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_change_of_the_quota_beside_verifications_loses_nothing() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let mut less = Vec::new();
    for round in 0..40 {
        let issued = issue(&store, Quota::new(1));
        let token = issued.token.expose();
        let done = AtomicBool::new(false);
        let all: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut all = 0;
                        while !done.load(Ordering::Relaxed) {
                            all += u32::from(store.engine.verify(token).unwrap().is_granted());
                        }
                        all
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(round * 20));
            store
                .engine
                .update(issued.key.id, KeyUpdate::new().quota(Quota::new(10)))
                .unwrap();
            std::thread::sleep(Duration::from_millis(5));
            done.store(true, Ordering::Relaxed);
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        // What the threads did not come to spend in their time is still there.
        let all = all + granted(&store.engine, token, 20);
        if all < 10 {
            less.push(all);
        }
    }
    assert!(less.is_empty(), "{less:?}");
}

#[test]
fn a_changed_plan_is_exact_beside_verifications() {
    let store = Store::on_file();
    let plan = |name: &str, n| Plan::new(name).limit(Limit::per_hour(n));
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(plan("a", 4_000_000))
                .plan(plan("b", 3))
                .default_plan("a"),
        )
        .unwrap();
    let mut more = Vec::new();
    for _ in 0..60 {
        let issued = store
            .engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap();
        let token = issued.token.expose();
        let done = AtomicBool::new(false);
        let updated = AtomicBool::new(false);
        let after: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut after = 0;
                        while !done.load(Ordering::Relaxed) {
                            let late = updated.load(Ordering::SeqCst);
                            let g = u32::from(store.engine.verify(token).unwrap().is_granted());
                            if late {
                                after += g;
                            }
                        }
                        after
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(1));
            store
                .engine
                .update(issued.key.id, KeyUpdate::new().plan("b"))
                .unwrap();
            updated.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            done.store(true, Ordering::Relaxed);
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        if after > 3 {
            more.push(after);
        }
    }
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_window_does_not_end_after_time() {
    let engine = Options::new()
        .clock(ManualClock::at(Timestamp::MAX))
        .usage_interval(None)
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(Plan::new("p").limit(Limit::new(5, Limit::WINDOW_MAX).unwrap()))
                .default_plan("p"),
        )
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let grant = engine
        .verify(issued.token.expose())
        .unwrap()
        .into_result()
        .unwrap();
    let at = grant.tightest_limit().unwrap().resets_at();
    assert!(at <= Timestamp::MAX, "{at}");
}

#[test]
fn random_changes_of_quotas_leave_the_store_sound() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let mut seed = 7_u64;
    let mut rng = move |n: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let new = |q| {
        let i = issue(&store, q);
        (i.key.id, i.token)
    };
    let mut keys = vec![new(Quota::new(30))];
    for step in 0..400 {
        let at = usize::try_from(rng(keys.len() as u64)).unwrap();
        let id = keys[at].0;
        match rng(7) {
            0 if keys.len() < 60 => keys.push(new(Quota::new(1 + rng(40)))),
            1 | 2 => {
                let rotation = match rng(3) {
                    0 => Rotation::with_grace(DAY * 90),
                    1 => Rotation::with_grace(DAY)
                        .changing(KeyUpdate::new().quota(Quota::new(1 + rng(40)))),
                    _ => Rotation::at_once().changing(KeyUpdate::new().quota(None)),
                };
                if let Ok(r) = store.engine.rotate(id, rotation) {
                    keys.push((r.key.id, r.token));
                }
            }
            3 => {
                let _ = store
                    .engine
                    .update(id, KeyUpdate::new().quota(Quota::new(1 + rng(40))));
            }
            4 => {
                let _ = store.engine.update(id, KeyUpdate::new().quota(None));
            }
            5 => {
                store.clock.advance(DAY / 2);
                let _ = store.engine.purge(DAY);
            }
            _ => {
                let _ = store.engine.verify(keys[at].1.expose()).unwrap();
            }
        }
        let report = store.engine.check().unwrap();
        assert!(report.is_sound(), "{step} {report:#?}");
    }
}

#[test]
fn a_key_that_moves_to_a_shared_plan_of_equal_limits_is_counted_with_the_others() {
    let store = Store::on_file();
    let plan = |name: &str| Plan::new(name).limit(Limit::per_hour(10)).shared_by_owner();
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(plan("x"))
                .plan(plan("y")),
        )
        .unwrap();
    let [one, two] = ["x", "y"].map(|p| {
        store
            .engine
            .issue(NewKey::new("acme_live", "acme").unwrap().plan(p))
            .unwrap()
    });
    assert_eq!(granted(&store.engine, one.token.expose(), 1), 1);
    store
        .engine
        .update(one.key.id, KeyUpdate::new().plan("y"))
        .unwrap();
    let sum = granted(&store.engine, two.token.expose(), 99)
        + granted(&store.engine, one.token.expose(), 99);
    assert_eq!(sum, 10);
}

#[test]
fn an_error_of_the_store_is_not_charged_to_the_plan() {
    let store = Store::on_file();
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(Plan::new("p").limit(Limit::per_hour(5)))
                .default_plan("p"),
        )
        .unwrap();
    let first = issue(&store, Quota::new(20));
    store.engine.clone().close().unwrap();
    let path = store.path.clone().unwrap();
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let name = redb::TableDefinition::<u64, &[u8]>::new("quotas");
        let mut quotas = txn.open_table(name).unwrap();
        let (key, mut bytes) = {
            let (key, left) = redb::ReadableTable::first(&quotas).unwrap().unwrap();
            (key.value(), left.value().to_vec())
        };
        bytes[0] ^= 1;
        quotas.insert(key, bytes.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(db);
    let engine = Options::new()
        .clock(store.clock.clone())
        .open(&path)
        .unwrap();
    let token = first.token.expose();
    for _ in 0..9 {
        assert!(engine.verify(token).is_err());
    }
}
