//! What is left of an engine in a child of a fork. Here the process is said to be
//! another; `proof/fork` forks.

use std::time::Duration;

use crate::model::clock::ManualClock;
use crate::model::quota::Quota;
use crate::model::reason::Reason;
use crate::model::verdict::Denial;
use crate::{
    Engine, Error, Issued, KeyFilter, KeyUpdate, KeyspaceUpdate, NewKey, NewKeyspace, Options,
    Requirements, Result, Rotation, Verdict,
};

/// The most verifications that a thread answers where the clock stands still.
const ANSWERS_MAX: usize = 1024;

struct Sample {
    engine: Engine,
    clock: ManualClock,
    key: Issued,
    limited: Issued,
}

fn options() -> Options {
    Options::new()
        .resident_bytes(1 << 16)
        .cache_bytes(1 << 20)
        .usage_interval(Duration::from_secs(3600))
}

fn sample(options: Options) -> Sample {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let engine = options.clock(clock.clone()).open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    let new = |owner: &str| NewKey::new("acme", owner).unwrap();
    let limited = new("other").quota(Quota::new(100));
    Sample {
        key: engine.issue(new("acme")).unwrap(),
        limited: engine.issue(limited).unwrap(),
        engine,
        clock,
    }
}

fn is_forked<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Forked))
}

#[test]
fn in_a_fork_every_change_and_every_look_is_an_error_at_once() {
    let Sample { engine, key, .. } = sample(options());
    let (id, token) = (key.key.id, key.token.expose());
    let target = tempfile::tempdir().unwrap();
    engine.core.home().leave();
    let verbs: Vec<(&str, Result<()>)> = vec![
        (
            "create_keyspace",
            engine
                .create_keyspace(NewKeyspace::new("new").unwrap())
                .map(drop),
        ),
        (
            "update_keyspace",
            engine
                .update_keyspace("acme", KeyspaceUpdate::new())
                .map(drop),
        ),
        ("keyspace", engine.keyspace("acme").map(drop)),
        ("keyspaces", engine.keyspaces().map(drop)),
        (
            "issue",
            engine.issue(NewKey::new("acme", "a").unwrap()).map(drop),
        ),
        ("update", engine.update(id, KeyUpdate::new()).map(drop)),
        ("rotate", engine.rotate(id, Rotation::at_once()).map(drop)),
        ("disable", engine.disable(id).map(drop)),
        ("enable", engine.enable(id).map(drop)),
        ("revoke", engine.revoke(id, Reason::Unspecified).map(drop)),
        (
            "revoke_token",
            engine.revoke_token(token, Reason::Unspecified).map(drop),
        ),
        (
            "revoke_owner",
            engine.revoke_owner("acme", Reason::Unspecified).map(drop),
        ),
        (
            "revoke_keyspace",
            engine
                .revoke_keyspace("acme", Reason::Unspecified)
                .map(drop),
        ),
        ("purge", engine.purge(Duration::ZERO).map(drop)),
        ("suspend", engine.suspend("acme", None).map(drop)),
        ("resume", engine.resume("acme").map(drop)),
        ("owner", engine.owner("acme").map(drop)),
        ("key", engine.key(id).map(drop)),
        (
            "list",
            engine.keys_page(&KeyFilter::new(), None, 1).map(drop),
        ),
        (
            "keys",
            engine.keys(KeyFilter::new()).next().unwrap().map(drop),
        ),
        ("audit", engine.audit_page(1, 1).map(drop)),
        ("stats", engine.stats().map(drop)),
        ("check", engine.check().map(drop)),
        (
            "backup",
            engine.backup(target.path().join("copy")).map(drop),
        ),
        ("flush", engine.flush()),
        ("close", engine.clone().close()),
    ];
    for (name, result) in verbs {
        assert!(is_forked(&result), "{name}: {result:?}");
    }
}

/// Verifies until it is an error, and says how often it was none. It stays one.
fn answers_until_forked(sample: &Sample, token: &str) -> usize {
    let verify = || sample.engine.verify(token);
    let answers = (0..=ANSWERS_MAX).take_while(|_| verify().is_ok()).count();
    for _ in 0..3 {
        assert!(is_forked(&verify()), "{answers}");
    }
    answers
}

#[test]
fn in_a_fork_a_thread_answers_no_more_than_1024_verifications_where_the_clock_stands() {
    for usage in [Some(Duration::from_secs(3600)), None] {
        for resident in [0, 1 << 16] {
            let options = || options().usage_interval(usage).resident_bytes(resident);
            let good = sample(options());
            let token = good.key.token.expose().to_owned();
            assert!(good.engine.verify(&token).unwrap().is_granted());
            good.engine.core.home().leave();
            // Fewer by those before the fork.
            let answers = answers_until_forked(&good, &token);
            assert!((1..ANSWERS_MAX).contains(&answers), "{answers}");

            let denied = sample(options());
            denied.engine.disable(denied.key.key.id).unwrap();
            let token = denied.key.token.expose().to_owned();
            let denial = denied.engine.verify(&token).unwrap();
            assert!(matches!(denial, Verdict::Denied(Denial::Disabled { .. })));
            denied.engine.core.home().leave();
            let answers = answers_until_forked(&denied, &token);
            assert!((1..ANSWERS_MAX).contains(&answers), "{answers}");
        }
    }
}

#[test]
fn in_a_fork_no_verification_is_answered_once_the_clock_has_moved_by_1024_ms() {
    for usage in [Some(Duration::from_secs(3600)), None] {
        for resident in [0, 1 << 16] {
            let sample = sample(options().usage_interval(usage).resident_bytes(resident));
            let token = sample.key.token.expose();
            assert!(sample.engine.verify(token).unwrap().is_granted());
            sample.engine.core.home().leave();
            sample.clock.advance(Duration::from_millis(1024));
            assert!(is_forked(&sample.engine.verify(token)));
            let many = sample
                .engine
                .verify_many(&[token, token], &Requirements::new());
            assert!(many.len() == 2 && many.iter().all(is_forked));
        }
    }
}

/// The clock may also stand behind the engine's time, which then stands still.
#[test]
fn in_a_fork_whose_time_stands_still_the_clock_counts_that_moves() {
    let sample = sample(options());
    let token = sample.key.token.expose();
    sample.clock.advance(Duration::from_secs(3600));
    sample.engine.disable(sample.limited.key.id).unwrap();
    sample.clock.step_back(Duration::from_secs(3000));
    assert!(sample.engine.verify(token).unwrap().is_granted());
    sample.engine.core.home().leave();
    sample.clock.advance(Duration::from_millis(1024));
    assert!(is_forked(&sample.engine.verify(token)));
}

/// A thread that is new in the fork has never asked.
#[test]
fn in_a_fork_the_first_verification_of_a_thread_is_an_error() {
    let sample = sample(options());
    let token = sample.key.token.expose();
    assert!(sample.engine.verify(token).unwrap().is_granted());
    sample.engine.core.home().leave();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| sample.engine.verify(token));
        assert!(is_forked(&first.join().unwrap()));
    });
}

/// What is in memory of a quota is spent within the same bound; no more is taken.
#[test]
fn a_fork_takes_nothing_of_a_quota() {
    let sample = sample(options());
    let token = sample.limited.token.expose();
    assert!(sample.engine.verify(token).unwrap().is_granted());
    sample.engine.core.home().leave();
    let answers = answers_until_forked(&sample, token);
    assert!(answers < 10, "a slice has 10 requests: {answers}");
}

#[test]
fn a_fork_writes_nothing_when_it_drops_or_closes_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options().create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let new = NewKey::new("acme", "acme").unwrap().quota(Quota::new(100));
    let issued = engine.issue(new).unwrap();
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    let before = std::fs::read(&path).unwrap();
    engine.core.home().leave();
    assert!(is_forked(&engine.clone().close()));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(engine);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Nor is the lock given back, which is the parent's.
    let again = options().open(&path);
    assert!(matches!(
        again,
        Err(Error::Open {
            reason: crate::OpenError::InUse,
            ..
        })
    ));
}
