//! A caller's clock that panics: its panic reaches whoever called, on every path alike,
//! and the engine goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatekey::{
    Clock, Engine, Error, Limit, NewKey, NewKeyspace, Options, Plan, Quota, Reason, Requirements,
    Timestamp, Token,
};

/// A clock that stands, and panics where it is told to.
#[derive(Debug, Clone, Default)]
struct Broken(Arc<AtomicBool>);

impl Broken {
    fn set(&self, panics: bool) {
        self.0.store(panics, Ordering::SeqCst);
    }
}

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn coarse_now(&self) -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }
}

/// An engine with four keys, for whose verification the exact clock is asked, and whose
/// records are read from memory or from the file.
fn engine(resident_bytes: usize) -> (Engine, Broken, Vec<Token>) {
    let clock = Broken::default();
    let options = Options::new().clock(clock.clone());
    let engine = options
        .resident_bytes(resident_bytes)
        .usage_interval(None)
        .open_in_memory()
        .unwrap();
    let limit = Limit::new(100, Duration::from_secs(60)).unwrap();
    let plan = Plan::new("small").limit(limit);
    let keyspace = NewKeyspace::new("acme").unwrap().plan(plan);
    engine.create_keyspace(keyspace).unwrap();
    let new = || NewKey::new("acme", "acme").unwrap();
    let tokens = [
        new().expires_in(Duration::from_secs(60)),
        new().plan("small"),
        new().quota(Quota::new(100)),
        new().quota(Quota::new(100)).plan("small"),
    ]
    .map(|new| engine.issue(new).unwrap().token);
    (engine, clock, tokens.into())
}

/// What the panic says that a call ends with, if it ends with one.
fn panic_of<T>(call: impl FnOnce() -> T) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(call)).err()?;
    Some((*panic.downcast::<&str>().unwrap()).to_owned())
}

#[test]
fn a_panic_in_the_clock_reaches_who_verifies_from_memory_and_from_the_file() {
    // The coarse clock admits none of it, and refuses nothing.
    let dear = Requirements::new().cost(101);
    for resident_bytes in [0, 1 << 16] {
        let (engine, clock, tokens) = engine(resident_bytes);
        for token in &tokens {
            let token = token.expose();
            assert!(engine.verify(token).unwrap().is_granted());
            clock.set(true);
            let one = panic_of(|| engine.verify_with(token, &dear));
            let many = panic_of(|| engine.verify_many(&[token, "?"], &dear));
            clock.set(false);
            for told in [one, many] {
                assert_eq!(told.as_deref(), Some("the clock is broken"));
            }
            assert!(engine.verify(token).unwrap().is_granted());
        }
        assert!(engine.health().is_well());
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
    }
}

/// That clock is slow. What does not turn within a minute is decided by the coarse one.
#[test]
fn the_exact_clock_is_asked_only_shortly_before_a_key_turns_or_where_it_is_charged() {
    let (engine, clock, tokens) = engine(1 << 16);
    let new = || NewKey::new("acme", "acme").unwrap();
    let issue = |new| engine.issue(new).unwrap().token;
    let after = |ms: u64| clock.now().saturating_add(Duration::from_millis(ms));
    let far = [
        issue(new()),
        issue(new().expires_at(after(60_001))),
        issue(new().not_before(after(60_001))),
    ];
    let near = [
        issue(new().expires_at(after(1))),
        issue(new().expires_at(after(60_000))),
        issue(new().not_before(after(1))),
        issue(new().not_before(after(60_000))),
    ];
    clock.set(true);
    for token in &far {
        assert_eq!(panic_of(|| engine.verify(token.expose())), None);
    }
    for token in near.iter().chain(&tokens) {
        let told = panic_of(|| engine.verify(token.expose()));
        assert_eq!(told.as_deref(), Some("the clock is broken"));
    }
    clock.set(false);
    let charged = &tokens[1..];
    for token in charged {
        assert!(engine.verify(token.expose()).unwrap().is_granted());
    }
    // Their window is open, for a minute, and no quota is refilled.
    clock.set(true);
    for token in charged {
        assert_eq!(panic_of(|| engine.verify(token.expose())), None);
    }
    clock.set(false);
    engine.close().unwrap();
}

#[test]
fn a_change_whose_clock_panics_is_not_applied_and_the_next_one_is() {
    let (engine, clock, tokens) = engine(1 << 16);
    let (token, key) = (tokens[0].expose(), tokens[0].key_id());
    assert!(engine.verify(token).unwrap().is_granted());
    clock.set(true);
    let many: Vec<_> = std::thread::scope(|scope| {
        let revoke = || engine.revoke(key, Reason::KeyCompromise);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(revoke)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    clock.set(false);
    for result in many {
        assert!(matches!(result, Err(Error::Store(_))), "{result:?}");
    }
    assert!(engine.verify(token).unwrap().is_granted());
    engine.revoke(key, Reason::KeyCompromise).unwrap();
    assert!(!engine.verify(token).unwrap().is_granted());
    assert!(engine.health().is_well() && engine.check().unwrap().is_sound());
    engine.close().unwrap();
}

#[test]
fn uses_are_written_once_a_clock_that_panicked_is_well_again() {
    let clock = Broken::default();
    let options = Options::new().clock(clock.clone());
    let interval = Duration::from_millis(5);
    let engine = options.usage_interval(interval).open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    clock.set(true);
    assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    // The engine's own thread meets the panic, many times.
    std::thread::sleep(Duration::from_millis(200));
    clock.set(false);
    let written = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        engine.key(issued.key.id).unwrap().usage.count == 1
    });
    assert!(written);
    // And a close, whatever the clock does, lets go of the store.
    clock.set(true);
    engine.clone().close().unwrap_err();
    clock.set(false);
    assert!(matches!(engine.verify("?"), Err(Error::Closed)));
}
