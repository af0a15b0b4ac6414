//! When a key was last used and how often: noted in memory by a verification,
//! written later in batches.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatekey::{
    Engine, KeyFilter, KeyId, ManualClock, NewKey, NewKeyspace, Options, Reason, Requirements,
    Rotation, Timestamp, Usage,
};

use crate::common::{DAY, Store, at, code, everywhere};
use crate::opening::small;

const HOUR: Duration = Duration::from_secs(3600);

fn usage(engine: &Engine, key: KeyId) -> (Option<Timestamp>, u64) {
    let Usage {
        last_used, count, ..
    } = engine.key(key).unwrap().usage;
    (last_used, count)
}

/// An engine that writes no usage by itself, on a file, with one key.
struct Quiet {
    dir: tempfile::TempDir,
    clock: ManualClock,
    engine: Engine,
    key: KeyId,
    token: String,
}

impl Quiet {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(at(0));
        let engine = Self::open(&dir, &clock, "keys.redb");
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let issued = engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap();
        Self {
            dir,
            clock,
            engine,
            key: issued.key.id,
            token: issued.token.expose().to_owned(),
        }
    }

    fn open(dir: &tempfile::TempDir, clock: &ManualClock, file: &str) -> Engine {
        let options = small().clock(clock.clone()).usage_interval(HOUR);
        options.open_or_create(dir.path().join(file)).unwrap()
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("keys.redb")).unwrap()
    }

    fn use_it(&self, times: usize) {
        for _ in 0..times {
            assert_eq!(code(&self.engine.verify(&self.token).unwrap()), "granted");
        }
    }
}

#[test]
fn the_last_use_is_kept_by_the_minute_and_every_use_counts() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let (key, token) = (issued.key.id, issued.token.expose());
        let mut count = 0;
        for (ms, minute) in [
            (0, 0),
            (1, 0),
            (59_999, 0),
            (60_000, 60_000),
            (61_000, 60_000),
            (3_600_000, 3_600_000),
        ] {
            store.clock.set(at(ms));
            assert!(store.engine.verify(token).unwrap().is_granted());
            count += 1;
            store.engine.flush().unwrap();
            assert_eq!(usage(&store.engine, key), (Some(at(minute)), count), "{ms}");
        }
        // Several between two flushes.
        store.clock.set(at(7_200_001));
        for _ in 0..100 {
            assert!(store.engine.verify(token).unwrap().is_granted());
        }
        store.engine.flush().unwrap();
        assert_eq!(usage(&store.engine, key), (Some(at(7_200_000)), 106));
        store.engine.flush().unwrap();
        assert_eq!(usage(&store.engine, key), (Some(at(7_200_000)), 106));
    });
}

#[test]
fn a_clock_that_steps_back_does_not_take_the_last_use_back() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        store.clock.set(at(3_600_000));
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store.engine.flush().unwrap();
        store.clock.set(at(0));
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store.engine.flush().unwrap();
        assert_eq!(
            usage(&store.engine, issued.key.id),
            (Some(at(3_600_000)), 4)
        );
    });
}

#[test]
fn a_verification_writes_nothing() {
    let quiet = Quiet::new();
    let before = quiet.file();
    quiet.clock.advance(DAY);
    quiet.use_it(1000);
    assert_eq!(code(&quiet.engine.verify("x").unwrap()), "malformed");
    assert!(quiet.file() == before, "the file is as it was");
    assert_eq!(usage(&quiet.engine, quiet.key), (None, 0));
    quiet.engine.flush().unwrap();
    assert!(quiet.file() != before, "now it is written");
    let minute = at(86_400_000);
    assert_eq!(usage(&quiet.engine, quiet.key), (Some(minute), 1000));
}

#[test]
fn a_flush_with_nothing_to_write_writes_nothing() {
    let quiet = Quiet::new();
    quiet.use_it(1);
    quiet.engine.flush().unwrap();
    let before = quiet.file();
    quiet.engine.flush().unwrap();
    assert!(quiet.file() == before);
}

#[test]
fn usage_is_no_change_and_leaves_no_audit_entry() {
    let quiet = Quiet::new();
    let before = quiet.engine.audit_page(1, 100).unwrap().entries;
    quiet.use_it(10);
    quiet.engine.flush().unwrap();
    assert_eq!(quiet.engine.audit_page(1, 100).unwrap().entries, before);
    assert!(quiet.engine.check().unwrap().is_sound());
}

#[test]
fn closing_writes_the_usage_and_so_does_dropping_the_last_handle() {
    let Quiet {
        dir,
        clock,
        mut engine,
        key,
        token,
    } = Quiet::new();
    for round in 1..=4 {
        assert!(engine.verify(&token).unwrap().is_granted());
        match round % 2 {
            0 => engine.close().unwrap(),
            _ => drop(engine),
        }
        engine = Quiet::open(&dir, &clock, "keys.redb");
        assert_eq!(usage(&engine, key), (Some(at(0)), round));
    }
}

#[test]
fn a_crash_loses_the_usage_since_the_last_flush_and_nothing_else() {
    let quiet = Quiet::new();
    quiet.use_it(5);
    quiet.engine.flush().unwrap();
    quiet.use_it(7);
    fs::write(quiet.dir.path().join("crashed.redb"), quiet.file()).unwrap();
    let after = Quiet::open(&quiet.dir, &quiet.clock, "crashed.redb");
    assert_eq!(usage(&after, quiet.key), (Some(at(0)), 5));
    assert!(after.verify(&quiet.token).unwrap().is_granted());
    assert!(after.check().unwrap().is_sound());
}

#[test]
fn a_change_of_a_key_keeps_its_usage_and_a_rotation_begins_anew() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store.engine.flush().unwrap();
        store.engine.disable(issued.key.id).unwrap();
        store.engine.enable(issued.key.id).unwrap();
        let rotated = store
            .engine
            .rotate(issued.key.id, Rotation::with_grace(DAY))
            .unwrap();
        assert_eq!(rotated.old.usage.count, 2);
        assert_eq!(rotated.key.usage, Usage::default());
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store.engine.flush().unwrap();
        assert_eq!(usage(&store.engine, issued.key.id), (Some(at(0)), 4));
        assert_eq!(usage(&store.engine, rotated.key.id), (None, 0));
        let listed: u64 = store
            .engine
            .keys(KeyFilter::new())
            .map(|key| key.unwrap().usage.count)
            .sum();
        assert_eq!(listed, 4);
    });
}

#[test]
fn what_is_denied_does_not_count_as_a_use() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let new = || {
            NewKey::new("acme_live", "acme")
                .unwrap()
                .permissions(["read"])
        };
        let bound = new().allow_network("192.0.2.0/24".parse().unwrap());
        let issue = |key: NewKey| store.engine.issue(key).unwrap();
        let revoked = issue(new());
        let disabled = issue(new());
        let early = issue(new().not_before(at(10 * 86_400_000)));
        let expired = issue(new().expires_in(Duration::from_secs(1)));
        let bound = issue(bound);
        let suspended = store.issue("acme_live", "other");
        store
            .engine
            .revoke(revoked.key.id, Reason::Cessation)
            .unwrap();
        store.engine.disable(disabled.key.id).unwrap();
        store.engine.suspend("other", None).unwrap();
        store.clock.advance(DAY);
        let all = [&revoked, &disabled, &early, &expired, &bound, &suspended];
        for issued in all {
            assert_ne!(store.verdict(issued.token.expose()), "granted");
        }
        let write = Requirements::new()
            .permissions(&["write"])
            .source("192.0.2.1".parse().unwrap());
        let verdict = store
            .engine
            .verify_with(bound.token.expose(), &write)
            .unwrap();
        assert_eq!(code(&verdict), "permission_missing");
        store.engine.flush().unwrap();
        for issued in all {
            assert_eq!(usage(&store.engine, issued.key.id), (None, 0));
        }
    });
}

#[test]
fn uses_on_many_threads_add_up_while_others_flush() {
    let store = Store::new(1 << 20, false);
    store.keyspace("acme_live");
    let issued: Vec<_> = (0..3).map(|_| store.issue("acme_live", "acme")).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for at in 0..3000 {
                        let verdict = store.engine.verify(issued[at % 3].token.expose());
                        assert!(verdict.unwrap().is_granted());
                    }
                })
            })
            .collect();
        let flusher = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.engine.flush().unwrap();
            }
        });
        let users: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        done.store(true, Ordering::SeqCst);
        flusher.join().unwrap();
        assert!(users.iter().all(Result::is_ok));
    });
    store.engine.flush().unwrap();
    for issued in &issued {
        assert_eq!(usage(&store.engine, issued.key.id).1, 4000);
    }
    assert_eq!(store.engine.stats().unwrap().usage_lost, 0);
    store.assert_sound();
}

#[test]
fn verifying_many_at_once_counts_each() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let other = store.issue("acme_live", "acme");
        let mut tokens = vec![issued.token.expose(); 100];
        tokens.extend([other.token.expose(), "nonsense"]);
        for _ in 0..2 {
            let verdicts = store.engine.verify_many(&tokens, &Requirements::new());
            assert_eq!(
                verdicts
                    .iter()
                    .filter(|verdict| verdict.as_ref().unwrap().is_granted())
                    .count(),
                101
            );
        }
        store.engine.flush().unwrap();
        assert_eq!(usage(&store.engine, issued.key.id).1, 200);
        assert_eq!(usage(&store.engine, other.key.id).1, 2);
    });
}

#[test]
fn without_an_interval_no_usage_is_kept() {
    let options = small().usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    engine.flush().unwrap();
    assert_eq!(usage(&engine, issued.key.id), (None, 0));
}

#[test]
fn the_engine_writes_the_usage_by_itself() {
    let options = Options::new()
        .resident_bytes(1 << 20)
        .usage_interval(Duration::from_millis(5));
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    // Nobody flushes: it is seen sooner or later, or this never ends.
    while usage(&engine, issued.key.id).1 == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(usage(&engine, issued.key.id).1, 1);
}
