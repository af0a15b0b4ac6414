//! What a person should look at, and notices before a key ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatekey::{
    Engine, HintRule, Issued, ManualClock, NewKey, NewKeyspace, Options, Reason, Rotation,
};

const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    engine: Engine,
    clock: ManualClock,
}

impl Place {
    fn new() -> Self {
        let clock = ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap());
        let options = Options::new().usage_interval(1_000 * DAY);
        let engine = options.clock(clock.clone()).open_in_memory().unwrap();
        engine
            .create_keyspace(NewKeyspace::new("acme").unwrap())
            .unwrap();
        Self { engine, clock }
    }

    fn issue(&self) -> Issued {
        let new = NewKey::new("acme", "acme/ingest").unwrap();
        self.engine.issue(new).unwrap()
    }

    fn verify(&self, issued: &Issued, times: usize) {
        for _ in 0..times {
            let _ = self.engine.verify(issued.token.expose()).unwrap();
        }
        self.engine.flush().unwrap();
    }

    /// The rules that are true of a key, with how often and how often it is usual.
    fn hints(&self, issued: &Issued) -> Vec<(HintRule, u64, u64)> {
        let page = self.engine.hints(None, 1000).unwrap();
        assert_eq!(page.next, None);
        page.hints
            .into_iter()
            .filter(|hint| hint.key == issued.key.id)
            .map(|hint| (hint.rule, hint.count, hint.usual))
            .collect()
    }
}

#[test]
fn a_revoked_key_that_is_tried_is_told_for_two_days() {
    let place = Place::new();
    let (tried, quiet) = (place.issue(), place.issue());
    for issued in [&tried, &quiet] {
        place.verify(issued, 1);
        place
            .engine
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
    }
    assert_eq!(place.hints(&tried), []);
    place.verify(&tried, 3);
    assert_eq!(place.hints(&tried), [(HintRule::RevokedKeyTried, 3, 0)]);
    assert_eq!(place.hints(&quiet), []);
    place.clock.advance(DAY);
    assert_eq!(place.hints(&tried).len(), 1);
    place.clock.advance(DAY);
    assert_eq!(place.hints(&tried), []);
}

#[test]
fn a_key_that_wakes_after_thirty_days_is_told() {
    let place = Place::new();
    let (old, never, steady) = (place.issue(), place.issue(), place.issue());
    place.verify(&old, 1);
    for _ in 0..3 {
        place.verify(&steady, 1);
        place.clock.advance(10 * DAY);
    }
    // On the thirtieth day after, it is not dormant yet.
    place.verify(&old, 1);
    assert_eq!(place.hints(&old), []);
    place.clock.advance(31 * DAY);
    for issued in [&old, &never] {
        place.verify(issued, 2);
        assert_eq!(place.hints(issued), [(HintRule::DormantKeyUsed, 2, 0)]);
    }
    let fresh = place.issue();
    place.verify(&fresh, 1);
    assert_eq!(place.hints(&fresh), []);
    place.clock.advance(DAY);
    place.verify(&old, 5);
    // It still woke yesterday.
    assert_eq!(place.hints(&old), [(HintRule::DormantKeyUsed, 7, 0)]);
    place.clock.advance(DAY);
    place.verify(&old, 1);
    assert_eq!(place.hints(&old), []);
}

#[test]
fn a_rate_is_unusual_against_the_median_of_a_week_or_more() {
    let place = Place::new();
    let (few_days, key, small) = (place.issue(), place.issue(), place.issue());
    for day in 0..8 {
        place.verify(&key, if day == 3 { 200 } else { 20 });
        place.verify(&small, 1);
        if day > 4 {
            place.verify(&few_days, 20);
        }
        place.clock.advance(DAY);
    }
    place.verify(&key, 99);
    assert_eq!(
        place.hints(&key),
        [],
        "yesterday is no day of what is usual"
    );
    place.clock.advance(DAY);
    place.verify(&key, 99);
    assert_eq!(place.hints(&key), []);
    place.verify(&key, 1);
    place.verify(&small, 99);
    place.verify(&few_days, 500);
    assert_eq!(place.hints(&key), [(HintRule::UnusualRate, 100, 20)]);
    assert_eq!(place.hints(&small), []);
    assert_eq!(place.hints(&few_days), []);
}

#[test]
fn an_old_key_in_use_is_told_when_its_grace_is_nearly_over() {
    let place = Place::new();
    let old = place.issue();
    let rotation = Rotation::with_grace(10 * DAY);
    let new = place.engine.rotate(old.key.id, rotation).unwrap();
    place.verify(&old, 1);
    place.clock.advance(6 * DAY);
    place.verify(&old, 1);
    assert_eq!(place.hints(&old), []);
    place.clock.advance(DAY);
    assert_eq!(place.hints(&old), [(HintRule::OldKeyInUse, 1, 0)]);
    let page = place.engine.hints(None, 1000).unwrap();
    let until = place.engine.key(old.key.id).unwrap().retiring_until;
    assert_eq!(page.hints[0].since, until);
    assert!(page.hints.iter().all(|hint| hint.key != new.key.id));
    place.clock.advance(2 * DAY);
    assert_eq!(place.hints(&old), [], "it is used no more");
}

#[test]
fn a_key_that_nobody_used_for_ninety_days_is_told_and_pages_go_on() {
    let place = Place::new();
    let (used, never) = (place.issue(), place.issue());
    place.verify(&used, 1);
    place.clock.advance(90 * DAY - Duration::from_secs(1));
    assert_eq!(place.engine.hints(None, 1000).unwrap().hints, []);
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(place.hints(&used), [(HintRule::Unused, 1, 0)]);
    assert_eq!(place.hints(&never), [(HintRule::Unused, 0, 0)]);
    let first = place.engine.hints(None, 1).unwrap();
    let second = place.engine.hints(first.next.as_ref(), 1).unwrap();
    assert_eq!((first.hints.len(), second.hints.len()), (1, 1));
    assert_ne!(first.hints[0].key, second.hints[0].key);
    assert!(place.engine.hints(None, 0).is_err());
    // A disabled key is not expected to be used.
    place.engine.disable(never.key.id).unwrap();
    assert_eq!(place.hints(&never), []);
}

#[test]
fn notices_come_once_for_each_distance_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let told = Arc::new(Mutex::new(Vec::new()));
    let open = || {
        let told = told.clone();
        let hook = move |key: &gatekey::Key, ahead: Duration| {
            let days = ahead.as_secs() / 86_400;
            told.lock().unwrap().push((key.name.clone().unwrap(), days));
            assert!(
                key.name.as_deref() != Some("panics"),
                "a panic of the host's"
            );
        };
        let options = Options::new().clock(clock.clone());
        let options = options
            .usage_interval(1_000 * DAY)
            .on_expiring([7 * DAY, DAY], hook);
        options.open_or_create(&path).unwrap()
    };
    let take = || std::mem::take(&mut *told.lock().unwrap());
    let engine = open();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issue = |name: &str, days| {
        let new = NewKey::new("acme", "acme").unwrap().name(name);
        engine.issue(new.expires_in(days * DAY)).unwrap()
    };
    issue("first", 9);
    issue("panics", 9);
    issue("short", 3);
    let gone = issue("gone", 9);
    engine.flush().unwrap();
    assert_eq!(take(), []);
    engine.revoke(gone.key.id, Reason::Cessation).unwrap();
    clock.advance(3 * DAY - Duration::from_secs(1));
    engine.flush().unwrap();
    let mut found = take();
    found.sort();
    let named = |name: &str, days| (name.to_owned(), days);
    assert_eq!(
        found,
        [named("first", 7), named("panics", 7), named("short", 1)]
    );
    engine.flush().unwrap();
    assert_eq!(take(), []);
    engine.close().unwrap();
    // What falls due while nobody holds the store is told by the first flush.
    clock.advance(5 * DAY + Duration::from_secs(2));
    let engine = open();
    engine.flush().unwrap();
    let mut found = take();
    found.sort();
    assert_eq!(found, [named("first", 1), named("panics", 1)]);
    engine.flush().unwrap();
    assert_eq!(take(), []);
    engine.close().unwrap();
}
