//! The engine's time: what was told to be over stays over; a clock that leaps is told
//! of; and time that is wrong can be set back.

mod set_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{DAY, Store, at, code};
use gatekey::{
    Clock, Conflict, Engine, Error, Issued, KeyFilter, KeyState, KeyUpdate, KeysPerOwner, NewKey,
    NewKeyspace, Options, Reason, Rotation, Timestamp,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A call that tells that a key is over, or leaves it out for that.
type Verb = fn(&Engine, &Issued);

fn is_refused_as_over<T>(result: &Result<T, Error>) -> bool {
    matches!(
        result,
        Err(Error::Conflict(
            Conflict::Expired { .. } | Conflict::Revoked { .. }
        ))
    )
}

const VERBS: [(&str, Verb); 13] = [
    ("verify", |engine, issued| {
        let verdict = engine.verify(issued.token.expose()).unwrap();
        assert!(!verdict.is_granted());
    }),
    ("rotate", |engine, issued| {
        let rotated = engine.rotate(issued.key.id, Rotation::at_once());
        assert!(is_refused_as_over(&rotated));
    }),
    ("update", |engine, issued| {
        let updated = engine.update(issued.key.id, KeyUpdate::new().name("a name"));
        assert!(is_refused_as_over(&updated));
    }),
    ("disable", |engine, issued| {
        assert!(is_refused_as_over(&engine.disable(issued.key.id)));
    }),
    ("enable", |engine, issued| {
        assert!(is_refused_as_over(&engine.enable(issued.key.id)));
    }),
    ("key", |engine, issued| {
        let state = engine.key(issued.key.id).unwrap().state;
        assert!(matches!(state, KeyState::Expired | KeyState::Revoked));
    }),
    ("find_by_token", |engine, issued| {
        let found = engine
            .find_by_token(issued.token.expose())
            .unwrap()
            .unwrap();
        assert!(matches!(found.state, KeyState::Expired | KeyState::Revoked));
    }),
    ("list", |engine, _| {
        let page = engine.keys_page(&KeyFilter::new(), None, 10).unwrap();
        let is_over = |state| matches!(state, KeyState::Expired | KeyState::Revoked);
        assert!(page.keys.iter().any(|key| is_over(key.state)));
    }),
    ("list of what is good", |engine, issued| {
        let good = KeyFilter::new().state(KeyState::Retiring);
        let page = engine.keys_page(&good, None, 10).unwrap();
        assert!(page.keys.iter().all(|key| key.id != issued.key.id));
    }),
    ("list of what ends soon", |engine, issued| {
        let soon = KeyFilter::new().expires_within(DAY);
        let page = engine.keys_page(&soon, None, 10).unwrap();
        assert!(page.keys.iter().all(|key| key.id != issued.key.id));
    }),
    ("keys", |engine, issued| {
        let key = engine.keys(KeyFilter::new()).find(|key| {
            let key = key.as_ref().unwrap();
            key.id == issued.key.id
        });
        assert_ne!(key.unwrap().unwrap().state, KeyState::Active);
    }),
    ("stats", |engine, _| {
        let stats = engine.stats().unwrap();
        let counts = stats.keyspaces.values().next().unwrap();
        assert_eq!(counts.expired + counts.revoked, 1);
    }),
    ("a batch that is refused", |engine, _| {
        // The first of the two would do, since the key that is over does not count.
        let new = || NewKey::new("acme", "acme").unwrap();
        let refused = engine.issue_batch(vec![new(), new(), new()]);
        assert!(matches!(refused, Err(Error::Batch { index: 1 | 2, .. })));
    }),
];

/// A key that ends in a minute: by its expiry, or by its grace.
fn ending(store: &Store, by_grace: bool) -> Issued {
    let new = NewKey::new("acme", "acme").unwrap();
    if by_grace {
        let issued = store.engine.issue(new).unwrap();
        let rotation = Rotation::with_grace(MINUTE);
        store.engine.rotate(issued.key.id, rotation).unwrap();
        return issued;
    }
    store.engine.issue(new.expires_in(MINUTE)).unwrap()
}

fn sample(resident_bytes: usize, by_grace: bool) -> (Store, Issued) {
    let store = Store::new(resident_bytes, false);
    let keyspace = NewKeyspace::new("acme").unwrap();
    let keyspace = keyspace.keys_per_owner(KeysPerOwner::Many { cap: Some(2) });
    store.engine.create_keyspace(keyspace).unwrap();
    let issued = ending(&store, by_grace);
    (store, issued)
}

#[test]
fn what_any_call_told_to_be_over_stays_over_when_the_clock_steps_back() {
    for (name, verb) in VERBS {
        for by_grace in [false, true] {
            for resident_bytes in [0, 1 << 16] {
                let (store, issued) = sample(resident_bytes, by_grace);
                store.clock.advance(MINUTE);
                verb(&store.engine, &issued);
                store.clock.step_back(MINUTE / 2);
                let verdict = store.engine.verify(issued.token.expose()).unwrap();
                let over = if by_grace { "revoked" } else { "expired" };
                assert_eq!(code(&verdict), over, "{name}");
                assert!(is_refused_as_over(&store.engine.enable(issued.key.id)));
                let rotated = store.engine.rotate(issued.key.id, Rotation::at_once());
                assert!(is_refused_as_over(&rotated), "{name}");
            }
        }
    }
}

/// There is nothing left to revoke, and nothing to write.
#[test]
fn a_revocation_that_finds_a_key_over_by_its_grace_holds_that() {
    let verbs: [Verb; 4] = [
        |engine, issued| {
            engine.revoke(issued.key.id, Reason::Cessation).unwrap();
        },
        |engine, issued| {
            let token = issued.token.expose();
            engine.revoke_token(token, Reason::Cessation).unwrap();
        },
        |engine, _| {
            let many = engine.revoke_owner("acme", Reason::Cessation).unwrap();
            assert_eq!(many.newly, 0);
        },
        |engine, _| {
            let many = engine.revoke_keyspace("acme", Reason::Cessation).unwrap();
            assert_eq!(many.newly, 0);
        },
    ];
    for verb in verbs {
        let (store, issued) = sample(1 << 16, true);
        let successor = store.engine.key(issued.key.id).unwrap().successor.unwrap();
        store.engine.revoke(successor, Reason::Cessation).unwrap();
        store.clock.advance(MINUTE);
        verb(&store.engine, &issued);
        store.clock.step_back(MINUTE / 2);
        let verdict = store.engine.verify(issued.token.expose()).unwrap();
        assert_eq!(code(&verdict), "revoked");
    }
}

/// What nobody was told need not stay so: a look at a good key holds nothing.
#[test]
fn a_key_that_was_not_told_to_be_over_is_good_when_the_clock_steps_back() {
    for by_grace in [false, true] {
        let (store, issued) = sample(0, by_grace);
        let new = NewKey::new("acme", "other").unwrap();
        let other = store.engine.issue(new).unwrap();
        store.clock.advance(MINUTE);
        assert_eq!(
            store.engine.key(other.key.id).unwrap().state,
            KeyState::Active
        );
        assert!(
            store
                .engine
                .verify(other.token.expose())
                .unwrap()
                .is_granted()
        );
        store.clock.step_back(MINUTE / 2);
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    }
}

/// A clock that is set, beside one that nobody sets.
#[derive(Debug, Clone)]
struct Clocks(Arc<[AtomicU64; 2]>);

impl Clocks {
    fn pass(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.0.iter().for_each(|clock| {
            clock.fetch_add(by, Ordering::SeqCst);
        });
    }

    fn set(&self, to: Timestamp) {
        self.0[0].store(to.unix_ms(), Ordering::SeqCst);
    }
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0[0].load(Ordering::SeqCst)).unwrap()
    }

    fn steady(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.0[1].load(Ordering::SeqCst)))
    }
}

#[test]
fn a_clock_that_leaps_is_told_of_and_so_is_one_that_is_behind_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clocks = Clocks(Arc::new([
        AtomicU64::new(at(0).unix_ms()),
        AtomicU64::new(0),
    ]));
    let open = || {
        Options::new()
            .clock(clocks.clone())
            .open_or_create(&path)
            .unwrap()
    };
    let engine = open();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    clocks.pass(100 * DAY);
    assert!(!engine.clock_status().unwrap().is_suspect());

    let should_be = clocks.now();
    clocks.set(should_be.saturating_add(60 * MINUTE));
    // A commit notices, also where the clock is right again when somebody asks.
    engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    clocks.set(should_be);
    let status = engine.clock_status().unwrap();
    assert!(status.is_suspect());
    assert_eq!((status.leaps, status.behind), (2, 60 * MINUTE));
    assert_eq!(status.last_leap.unwrap().found, should_be);
    assert_eq!(status.now, should_be.saturating_add(60 * MINUTE));
    assert_eq!((status.clock, status.committed), (should_be, status.now));
    engine.close().unwrap();

    // The store says an instant that is far from the clock's.
    let engine = open();
    let status = engine.clock_status().unwrap();
    assert!(status.is_suspect());
    assert_eq!((status.leaps, status.behind), (0, 60 * MINUTE));
    engine.set_time_back(should_be).unwrap();
    let status = engine.clock_status().unwrap();
    assert!(!status.is_suspect(), "{status:?}");
    assert_eq!((status.now, status.committed), (should_be, should_be));
    engine.close().unwrap();
}

#[test]
fn a_key_that_is_revoked_at_every_instant_holds_no_time() {
    let now = at(0);
    let clock = gatekey::ManualClock::at(now);
    let options = Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = engine.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    engine.revoke(issued.key.id, Reason::Cessation).unwrap();
    // A clock that leaps while somebody presents the token must not stop time.
    clock.advance(DAY);
    let verdict = engine.verify(issued.token.expose()).unwrap();
    assert_eq!(code(&verdict), "revoked");
    clock.set(now);
    assert_eq!(engine.clock_status().unwrap().behind, Duration::ZERO);
    engine.close().unwrap();
}
