//! Quotas: durable, exact, and spent from memory.

use std::sync::Barrier;

use gatekey::{
    Denial, Error, KeyUpdate, NewKey, Options, Quota, Refill, Requirements, Rotation, Timestamp,
    Verdict,
};

use crate::common::{DAY, Store, code, everywhere, granted};

fn issue(store: &Store, quota: Quota) -> gatekey::Issued {
    let spec = NewKey::new("acme_live", "acme").unwrap().quota(quota);
    store.engine.issue(spec).unwrap()
}

fn remaining(store: &Store, issued: &gatekey::Issued) -> u64 {
    let key = store.engine.key(issued.key.id).unwrap();
    key.quota.unwrap().remaining
}

#[test]
fn a_quota_is_good_for_so_many_requests_and_no_more() {
    everywhere(|store| {
        store.keyspace("acme_live");
        for requests in [1, 9, 10, 11, 137] {
            let issued = issue(store, Quota::new(u64::from(requests)));
            let token = issued.token.expose();
            assert_eq!(granted(&store.engine, token, requests + 20), requests);
            let denial = store.denial(token);
            assert!(matches!(
                denial,
                Denial::QuotaExhausted {
                    refills_at: None,
                    ..
                }
            ));
            assert_eq!(denial.key_id(), Some(issued.key.id));
        }
    });
}

#[test]
fn what_is_not_spent_is_put_back_at_closing() {
    let mut store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(1_000));
    let token = issued.token.expose().to_owned();
    assert_eq!(issued.key.quota.unwrap().remaining, 1_000);
    assert_eq!(granted(&store.engine, &token, 7), 7);
    assert_eq!(remaining(&store, &issued), 990, "a slice of ten is out");
    store.reopen();
    assert_eq!(remaining(&store, &issued), 993);
    assert_eq!(granted(&store.engine, &token, 2_000), 993);
    store.reopen();
    assert_eq!(granted(&store.engine, &token, 1), 0);
    store.assert_sound();
}

#[test]
fn a_crash_loses_at_most_the_slice_and_never_overspends() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(100));
    let token = issued.token.expose().to_owned();
    let mut sum = 0;
    let mut path = store.path.clone().unwrap();
    let mut engine = store.engine.clone();
    for crash in 0..30 {
        sum += granted(&engine, &token, 3);
        // A copy of the file as it is on the disk: what a crash leaves.
        let copy = store.dir().join(format!("crash-{crash}.redb"));
        std::fs::copy(&path, &copy).unwrap();
        engine = Options::new()
            .clock(store.clock.clone())
            .open(&copy)
            .unwrap();
        path = copy;
    }
    // Each crash loses what was left of a slice of ten.
    assert_eq!(sum, 30, "ten slices of ten, three spent of each");
}

#[test]
fn sixty_four_threads_on_one_remaining_credit_have_one_success() {
    for (quota, each) in [(1, 1), (1_000, 100)] {
        let store = Store::on_file();
        store.keyspace("acme_live");
        let issued = issue(&store, Quota::new(quota));
        let barrier = Barrier::new(64);
        let sum: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        granted(&store.engine, issued.token.expose(), each)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(u64::from(sum), quota);
    }
}

#[test]
fn a_refill_replaces_what_is_left_at_midnight_of_utc() {
    let at_text = |text: &str| text.parse::<Timestamp>().unwrap();
    everywhere(|store| {
        store.keyspace("acme_live");
        let daily = issue(store, Quota::new(5).refilled(Refill::Daily));
        let monthly = issue(store, Quota::new(50).refilled(Refill::Monthly));
        assert_eq!(
            daily.key.quota.unwrap().refills_at,
            Some(at_text("2026-01-02T00:00:00Z"))
        );
        assert_eq!(
            monthly.key.quota.unwrap().refills_at,
            Some(at_text("2026-02-01T00:00:00Z"))
        );
        let (daily_token, monthly_token) = (daily.token.expose(), monthly.token.expose());
        assert_eq!(granted(&store.engine, daily_token, 3), 3);
        assert_eq!(granted(&store.engine, monthly_token, 30), 30);
        store.clock.set(at_text("2026-01-01T23:59:59.999Z"));
        assert_eq!(granted(&store.engine, daily_token, 9), 2);
        let denial = store.denial(daily_token);
        let next = Some(at_text("2026-01-02T00:00:00Z"));
        assert!(matches!(denial, Denial::QuotaExhausted { refills_at, .. } if refills_at == next));
        store.clock.set(at_text("2026-01-02T00:00:00Z"));
        assert_eq!(granted(&store.engine, daily_token, 9), 5);
        store.clock.set(at_text("2026-01-31T23:59:59Z"));
        assert_eq!(granted(&store.engine, monthly_token, 5), 5);
        // What was left is not carried over.
        store.clock.set(at_text("2026-02-01T00:00:00Z"));
        assert_eq!(granted(&store.engine, monthly_token, 99), 50);
        // Months without a request are passed over.
        store.clock.set(at_text("2028-02-29T12:00:00Z"));
        assert_eq!(granted(&store.engine, monthly_token, 99), 50);
        let key = store.engine.key(monthly.key.id).unwrap();
        assert_eq!(
            key.quota.unwrap().refills_at,
            Some(at_text("2028-03-01T00:00:00Z"))
        );
    });
}

#[test]
fn a_changed_quota_holds_at_once_and_voids_what_was_out() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = issue(store, Quota::new(5_000));
        let token = issued.token.expose();
        assert_eq!(granted(&store.engine, token, 3), 3);
        let update = |update| store.engine.update(issued.key.id, update).unwrap();
        update(KeyUpdate::new().quota(Quota::new(2)));
        assert_eq!(granted(&store.engine, token, 9), 2);
        update(KeyUpdate::new().quota(Quota::new(2)));
        assert_eq!(
            granted(&store.engine, token, 9),
            2,
            "the same again is a full one"
        );
        update(KeyUpdate::new().quota(None));
        assert_eq!(granted(&store.engine, token, 99), 99);
        update(KeyUpdate::new().quota(Quota::new(4)));
        assert_eq!(granted(&store.engine, token, 9), 4);
        store.reopen();
        assert_eq!(granted(&store.engine, token, 9), 0);
    });
}

#[test]
fn a_key_and_what_it_is_rotated_to_share_a_quota() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = issue(store, Quota::new(20));
        let first = issued.token.expose();
        assert_eq!(granted(&store.engine, first, 3), 3);
        let rotated = store
            .engine
            .rotate(issued.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let second = rotated.token.expose();
        assert_eq!(granted(&store.engine, second, 4), 4);
        assert_eq!(granted(&store.engine, first, 4), 4);
        assert_eq!(granted(&store.engine, second, 99), 9);
        assert_eq!(granted(&store.engine, first, 9), 0);
        // When the old one is purged, the quota stays with the new one.
        store.clock.advance(2 * DAY);
        let again = store
            .engine
            .rotate(rotated.key.id, Rotation::at_once())
            .unwrap();
        let change = KeyUpdate::new().quota(Quota::new(2));
        store.engine.update(again.key.id, change).unwrap();
        store.clock.advance(DAY);
        assert_eq!(
            store.engine.purge(std::time::Duration::ZERO).unwrap().keys,
            2
        );
        store.assert_sound();
        assert_eq!(granted(&store.engine, again.token.expose(), 9), 2);
        // A rotation can give the new key one of its own.
        let own = Rotation::with_grace(DAY).changing(KeyUpdate::new().quota(Quota::new(3)));
        let last = store.engine.rotate(again.key.id, own).unwrap();
        assert_eq!(granted(&store.engine, last.token.expose(), 9), 3);
        assert_eq!(granted(&store.engine, again.token.expose(), 9), 0);
    });
}

/// The key that takes over has a quota where the rotation says so, or where the old one had.
#[test]
fn a_rotation_gives_a_quota_to_a_key_that_had_none_and_takes_it_from_one_that_had() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let quotas: [(Option<Quota>, Option<Option<Quota>>, u32); 4] = [
            (None, None, 30),
            (None, Some(Some(Quota::new(3))), 3),
            (Some(Quota::new(5)), None, 5),
            (Some(Quota::new(5)), Some(None), 30),
        ];
        for (had, changed, expected) in quotas {
            let new = NewKey::new("acme_live", "acme").unwrap();
            let new = had.into_iter().fold(new, NewKey::quota);
            let old = store.engine.issue(new).unwrap();
            let changes = changed.into_iter().fold(KeyUpdate::new(), KeyUpdate::quota);
            let rotation = Rotation::at_once().changing(changes);
            let rotated = store.engine.rotate(old.key.id, rotation).unwrap();
            let admitted = granted(&store.engine, rotated.token.expose(), 30);
            assert_eq!(admitted, expected, "{had:?}, {changed:?}");
            store.engine.flush().unwrap();
        }
        store.assert_sound();
    });
}

#[test]
fn a_dear_request_spends_more_and_a_free_one_nothing() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(50));
    let token = issued.token.expose();
    let with = |cost| {
        code(
            &store
                .engine
                .verify_with(token, &Requirements::new().cost(cost))
                .unwrap(),
        )
        .to_owned()
    };
    assert_eq!(with(0), "granted");
    // More than a slice: several are taken.
    assert_eq!(with(35), "granted");
    assert_eq!(with(16), "quota_exhausted");
    assert_eq!(with(15), "granted");
    assert_eq!(with(1), "quota_exhausted");
    assert_eq!(with(0), "granted");
}

#[test]
fn a_store_that_fails_is_an_error_and_not_an_exhausted_quota() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    let issued = issue(&store, Quota::new(50));
    store.engine.clone().close().unwrap();
    let error = store.engine.verify(issued.token.expose()).unwrap_err();
    assert!(matches!(error, Error::Closed));
}

#[test]
fn a_quota_that_makes_no_sense_is_refused() {
    let store = Store::on_file();
    store.keyspace("acme_live");
    for quota in [Quota::new(0), Quota::new(u64::MAX)] {
        let spec = NewKey::new("acme_live", "acme").unwrap().quota(quota);
        let error = store.engine.issue(spec).unwrap_err();
        assert!(
            error.to_string().contains(&quota.requests().to_string()),
            "{error}"
        );
    }
    let issued = issue(&store, Quota::new(50));
    let change = KeyUpdate::new().quota(Quota::new(0));
    assert!(matches!(
        store.engine.update(issued.key.id, change),
        Err(Error::Invalid(_))
    ));
    let verdict = store.engine.verify(issued.token.expose()).unwrap();
    assert!(matches!(verdict, Verdict::Granted(_)));
}

#[test]
fn a_request_that_costs_nothing_takes_nothing_of_a_quota() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = issue(store, Quota::new(10));
        let free = Requirements::new().cost(0);
        let ask = || {
            let verdict = store.engine.verify_with(issued.token.expose(), &free);
            code(&verdict.unwrap())
        };
        assert_eq!(ask(), "granted");
        assert_eq!(remaining(store, &issued), 10, "no slice is out");
        assert_eq!(granted(&store.engine, issued.token.expose(), 20), 10);
        assert_eq!(ask(), "granted", "exhausted, and nothing is asked of it");
    });
}
