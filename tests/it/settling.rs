//! Costs that are known only after the answer.

use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    Charge, Denial, Engine, Error, Issued, KeyId, KeyUpdate, KeyspaceUpdate, Level, LevelDefaults,
    Limit, ManualClock, NewKey, NewKeyspace, Options, OwnerUpdate, Plan, Quota, Reason, Refill,
    Requirements, Rotation, Timestamp, Verdict,
};

use crate::common::{at, granted};

const HOUR: u64 = 3_600_000;

fn engine() -> (Engine, ManualClock) {
    let clock = ManualClock::at(at(HOUR));
    let options = Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .plan(Plan::new("hundred").limit(Limit::per_hour(100).fixed()))
        .plan(Plan::new("more").limit(Limit::per_hour(150).fixed()))
        .plan(Plan::new("other").limit(Limit::per_minute(100)))
        .plan(
            Plan::new("apart")
                .limit(Limit::per_hour(100).fixed())
                .replaces_levels_above(),
        );
    engine.create_keyspace(keyspace).unwrap();
    (engine, clock)
}

fn issue(engine: &Engine, owner: &str) -> Issued {
    let spec = NewKey::new("acme_live", owner).unwrap();
    engine.issue(spec).unwrap()
}

fn update(engine: &Engine, owner: &str, update: OwnerUpdate) {
    engine.update_owner("acme_live", owner, update).unwrap();
}

/// Verifies a request of an estimated cost.
fn begin(engine: &Engine, issued: &Issued, estimate: u32) -> Charge {
    begin_of(engine, issued.token.expose(), estimate)
}

fn begin_of(engine: &Engine, token: &str, estimate: u32) -> Charge {
    let estimate = Requirements::new().cost(estimate).settled_later();
    let verdict = engine.verify_with(token, &estimate);
    let grant = verdict.unwrap().into_result().unwrap();
    grant.charge().unwrap().clone()
}

fn ask(engine: &Engine, issued: &Issued, times: u32) -> u32 {
    granted(engine, issued.token.expose(), times)
}

/// What is left of the limits, in the order of the levels.
fn left(engine: &Engine, issued: &Issued) -> Vec<u32> {
    left_of(engine, issued.key.id)
}

fn left_of(engine: &Engine, key: KeyId) -> Vec<u32> {
    let left = engine.limits_left(key).unwrap();
    left.iter().map(gatekey::LimitStatus::remaining).collect()
}

fn quota_of(engine: &Engine, owner: &str) -> (u64, u64) {
    let settings = engine.owner_settings("acme_live", owner).unwrap();
    let quota = settings.quota.own().unwrap();
    (quota.remaining, quota.owed)
}

#[test]
fn a_settlement_charges_every_level_and_can_push_each_below_zero() {
    for limit in [
        Limit::per_hour(100).fixed(),
        Limit::per_hour(100),
        Limit::per_hour(100).bucket(100),
    ] {
        let (engine, clock) = engine();
        update(&engine, "acme", OwnerUpdate::new().limits([limit]));
        update(&engine, "acme/a", OwnerUpdate::new().limits([limit]));
        let key = issue(&engine, "acme/a");
        let other = issue(&engine, "acme/b");
        engine
            .update(key.key.id, KeyUpdate::new().limits([limit]))
            .unwrap();
        let charge = begin(&engine, &key, 10);
        assert_eq!((charge.cost(), charge.key_id()), (10, key.key.id));
        assert_eq!(left(&engine, &key), [90, 90, 90]);
        engine.settle(&charge, 4).unwrap();
        assert_eq!(left(&engine, &key), [96, 96, 96]);
        // The cost in all: what was said last is not charged a second time.
        engine.settle(&charge, 4).unwrap();
        engine.settle(&charge, 30).unwrap();
        assert_eq!(left(&engine, &key), [70, 70, 70]);
        assert_eq!(ask(&engine, &other, 70), 70);
        engine.settle(&charge, 130).unwrap();
        assert_eq!(charge.cost(), 130);
        assert_eq!(left(&engine, &key), [0, 0, 0]);
        let verdict = engine.verify(key.token.expose()).unwrap();
        let Verdict::Denied(Denial::RateLimited {
            status,
            retry_after,
            ..
        }) = verdict
        else {
            panic!("{verdict:?}");
        };
        // What is owed is waited for, and the told instant is right.
        assert_eq!(status.level(), Level::Owner(1), "which owes the most");
        let wait = retry_after.unwrap();
        clock.advance(wait.saturating_sub(Duration::from_millis(1)));
        assert_eq!(ask(&engine, &key, 1), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(ask(&engine, &key, 1), 1);
    }
}

#[test]
fn what_is_given_back_is_what_was_charged_there() {
    let (engine, clock) = engine();
    update(&engine, "acme", OwnerUpdate::new().plan("hundred"));
    let key = issue(&engine, "acme/a");
    let other = issue(&engine, "acme/b");
    // The window has passed, and what others used in the next is not given away.
    let charge = begin(&engine, &key, 50);
    clock.advance(Duration::from_millis(HOUR));
    assert_eq!(ask(&engine, &other, 60), 60);
    engine.settle(&charge, 0).unwrap();
    assert_eq!(left(&engine, &key), [40]);
    // A limit of the same kind has counted it, one of another has not.
    let charge = begin(&engine, &key, 20);
    update(&engine, "acme", OwnerUpdate::new().plan("more"));
    engine.settle(&charge, 5).unwrap();
    assert_eq!(left(&engine, &key), [150 - 60 - 5]);
    let charge = begin(&engine, &key, 20);
    update(&engine, "acme", OwnerUpdate::new().plan("other"));
    assert_eq!(ask(&engine, &other, 30), 30);
    engine.settle(&charge, 0).unwrap();
    assert_eq!(left(&engine, &key), [70]);
    // A level that was not charged is given nothing.
    let charge = begin(&engine, &key, 10);
    update(&engine, "acme/a", OwnerUpdate::new().plan("hundred"));
    let third = issue(&engine, "acme/a");
    assert_eq!(ask(&engine, &third, 10), 10);
    assert_eq!(left(&engine, &key), [50, 90]);
    engine.settle(&charge, 0).unwrap();
    assert_eq!(left(&engine, &key), [60, 90]);
    update(&engine, "acme/a", OwnerUpdate::new().plan("apart"));
    let charge = begin(&engine, &key, 10);
    assert_eq!(
        left(&engine, &key),
        [80],
        "the levels above are not charged"
    );
    update(&engine, "acme/a", OwnerUpdate::nothing());
    engine.settle(&charge, 0).unwrap();
    assert_eq!(left(&engine, &key), [60]);
    // What is more is charged to what holds now.
    let charge = begin(&engine, &key, 10);
    update(
        &engine,
        "acme",
        OwnerUpdate::new().limits([Limit::per_hour(90).bucket(90)]),
    );
    engine.settle(&charge, 30).unwrap();
    assert_eq!(left(&engine, &key), [70]);
    engine.settle(&charge, 25).unwrap();
    assert_eq!(left(&engine, &key), [75], "the latest part first");
    engine.settle(&charge, 0).unwrap();
    assert_eq!(
        left(&engine, &key),
        [90],
        "10 of what was charged before are not in it"
    );
}

#[test]
fn a_key_that_is_rotated_revoked_or_purged_settles_what_it_used() {
    let (engine, clock) = engine();
    let tier = OwnerUpdate::new().plan("hundred").quota(Quota::new(1_000));
    update(&engine, "acme", tier);
    let spec = NewKey::new("acme_live", "acme/a").unwrap().plan("more");
    let key = engine.issue(spec.quota(Quota::new(500))).unwrap();
    let quota = |id| {
        let key = engine.key(id).unwrap();
        let own = engine.quotas_left(key.id).unwrap();
        own.iter()
            .map(|left| left.status().remaining)
            .collect::<Vec<_>>()
    };
    let charge = begin(&engine, &key, 10);
    let new = engine.rotate(key.key.id, Rotation::at_once()).unwrap();
    engine.settle(&charge, 30).unwrap();
    assert_eq!(
        left_of(&engine, new.key.id),
        [70, 120],
        "they count together"
    );
    assert_eq!(quota(new.key.id), [970, 470]);
    engine.settle(&charge, 20).unwrap();
    assert_eq!(left_of(&engine, new.key.id), [80, 130]);
    assert_eq!(quota(new.key.id), [980, 480]);
    let charge = begin_of(&engine, new.token.expose(), 10);
    engine.revoke(new.key.id, Reason::KeyCompromise).unwrap();
    engine.settle(&charge, 40).unwrap();
    let other = issue(&engine, "acme/b");
    assert_eq!(left(&engine, &other), [40]);
    engine.settle(&charge, 30).unwrap();
    assert_eq!(left(&engine, &other), [50]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 2);
    engine.settle(&charge, 35).unwrap();
    assert_eq!(left(&engine, &other), [45]);
    engine.settle(&charge, 0).unwrap();
    assert_eq!(left(&engine, &other), [80]);
    assert_eq!(quota(other.key.id), [980]);
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn a_quota_owes_what_was_used_beyond_it_through_restarts_and_refills_pay_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at("2026-01-20T09:00:00Z".parse().unwrap());
    let options = || Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options().create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    let month = Quota::new(100).refilled(Refill::monthly_from(15).unwrap());
    let defaults = LevelDefaults::new().quota(Quota::new(500).refilled(Refill::Monthly));
    engine
        .create_keyspace(keyspace.owner_defaults(2, defaults))
        .unwrap();
    update(&engine, "acme", OwnerUpdate::new().quota(month));
    let spec = NewKey::new("acme_live", "acme/a").unwrap();
    let key = engine.issue(spec.quota(Quota::new(1_000))).unwrap();
    let charge = begin(&engine, &key, 1);
    engine.settle(&charge, 330).unwrap();
    assert_eq!(quota_of(&engine, "acme"), (0, 230));
    // What another stop leaves is the file as it is.
    let copy = dir.path().join("crashed.redb");
    std::fs::copy(&path, &copy).unwrap();
    let crashed = options().open(&copy).unwrap();
    assert_eq!(quota_of(&crashed, "acme"), (0, 230));
    assert_eq!(ask(&crashed, &key, 3), 0);
    crashed.close().unwrap();
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert_eq!(quota_of(&engine, "acme"), (0, 230));
    assert!(engine.check().unwrap().is_sound());
    let told = |verdict| match verdict {
        Verdict::Denied(Denial::QuotaExhausted {
            level, refills_at, ..
        }) => (level, refills_at),
        other => panic!("{other:?}"),
    };
    let in_april: Timestamp = "2026-04-15T00:00:00Z".parse().unwrap();
    for _ in 0..3 {
        // Asked of the store, and then known in memory.
        let verdict = engine.verify(key.token.expose()).unwrap();
        assert_eq!(told(verdict), (Level::Owner(1), Some(in_april)));
    }
    // 230 are owed: two refills pay 200, and of the third 70 are left. A request of the
    // whole quota waits for the fourth.
    let whole = Requirements::new().cost(100);
    let verdict = engine.verify_with(key.token.expose(), &whole).unwrap();
    assert_eq!(
        told(verdict).1,
        Some("2026-05-15T00:00:00Z".parse().unwrap())
    );
    clock.set("2026-02-15T00:00:00Z".parse().unwrap());
    assert_eq!(ask(&engine, &key, 1), 0);
    clock.set(Timestamp::from_unix_ms(in_april.unix_ms() - 1).unwrap());
    assert_eq!(ask(&engine, &key, 1), 0);
    clock.set(in_april);
    assert_eq!(
        ask(&engine, &key, 400),
        70,
        "of 670 that the key itself has"
    );
    // Also where nobody saw the refills come.
    let crashed = options().open(&copy).unwrap();
    assert_eq!(ask(&crashed, &key, 400), 70);
    crashed.close().unwrap();
    assert_eq!(quota_of(&engine, "acme").1, 0);
    clock.set("2026-12-15T00:00:00Z".parse().unwrap());
    assert_eq!(ask(&engine, &issue(&engine, "acme/b"), 400), 100);
    // Another quota in its place owes nothing.
    let charge = begin(&engine, &issue(&engine, "umbrella/a"), 1);
    update(&engine, "umbrella", OwnerUpdate::new().quota(month));
    engine.settle(&charge, 501).unwrap();
    assert_eq!(quota_of(&engine, "umbrella"), (0, 400));
    update(&engine, "umbrella", OwnerUpdate::new().quota(month));
    assert_eq!(quota_of(&engine, "umbrella"), (100, 0));
    assert_eq!(ask(&engine, &issue(&engine, "umbrella/b"), 10), 10);
    engine.settle(&charge, 1).unwrap();
    assert_eq!(
        quota_of(&engine, "umbrella"),
        (90, 0),
        "it is of the one before"
    );
    engine.close().unwrap();
}

#[test]
fn what_a_quota_is_given_back_is_there_for_others_and_pays_what_is_owed_first() {
    let (engine, _) = engine();
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(100)));
    let key = issue(&engine, "acme/a");
    let charge = begin(&engine, &key, 100);
    assert_eq!(ask(&engine, &key, 1), 0);
    engine.settle(&charge, 60).unwrap();
    assert_eq!(ask(&engine, &key, 100), 40);
    engine.settle(&charge, 90).unwrap();
    assert_eq!(quota_of(&engine, "acme"), (0, 30));
    assert_eq!(ask(&engine, &key, 1), 0, "in memory it is known to owe");
    engine.settle(&charge, 70).unwrap();
    assert_eq!(quota_of(&engine, "acme"), (0, 10));
    assert_eq!(ask(&engine, &key, 1), 0);
    engine.settle(&charge, 55).unwrap();
    assert_eq!(ask(&engine, &key, 100), 5);
    assert!(engine.check().unwrap().is_sound());
    // A cost of nothing passes, and is settled like any other.
    let free = begin(&engine, &key, 0);
    engine.settle(&free, 1).unwrap();
    assert_eq!(quota_of(&engine, "acme"), (0, 1));
    let none = begin(&engine, &issue(&engine, "umbrella"), 7);
    engine.settle(&none, 1_000_000).unwrap();
    assert_eq!(none.cost(), 1_000_000);
}

#[test]
fn threads_that_settle_lose_nothing_and_charge_nothing_twice() {
    let (engine, _) = engine();
    let tier = OwnerUpdate::new()
        .limits([Limit::per_hour(1_000_000).fixed()])
        .quota(Quota::new(100_000));
    update(&engine, "acme", tier);
    let keys: Vec<_> = (0..8)
        .map(|at| issue(&engine, &format!("acme/{}", at % 3)))
        .collect();
    for depth in ["acme/0", "acme/1", "acme/2"] {
        update(&engine, depth, OwnerUpdate::new().quota(Quota::new(50_000)));
    }
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for (thread, key) in keys.iter().enumerate() {
            let (engine, barrier) = (&engine, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..60_u32 {
                    let estimate = (round * 7) % 40;
                    let charge = begin(engine, key, estimate);
                    // Each request costs 50 in all, said in steps by two at once.
                    std::thread::scope(|scope| {
                        let other = charge.clone();
                        scope.spawn(move || engine.settle(&other, 120).unwrap());
                        let cost = u32::try_from(thread).unwrap();
                        engine.settle(&charge, cost).unwrap();
                    });
                    engine.settle(&charge, 50).unwrap();
                }
            });
        }
    });
    let used = 8 * 60 * 50;
    assert_eq!(left(&engine, &keys[0]), [1_000_000 - used]);
    let quotas = engine.quotas_left(keys[0].key.id).unwrap();
    let remaining: Vec<_> = quotas.iter().map(|left| left.status().remaining).collect();
    assert_eq!(remaining, [100_000 - u64::from(used), 50_000 - 3 * 60 * 50]);
    assert!(engine.check().unwrap().is_sound());
}

#[test]
fn all_that_was_charged_is_given_back_however_often_it_was_said() {
    for (limit, step, left_later) in [
        (Limit::per_hour(1_000_000).fixed(), 10, 1_000_000),
        (Limit::per_hour(1_000_000), 10, 1_000_000),
        (Limit::per_hour(1_000_000).bucket(1_000_000), 0, 1_000_000),
    ] {
        let (engine, clock) = engine();
        let tier = OwnerUpdate::new().limits([limit]);
        update(&engine, "acme", tier.quota(Quota::new(1_000_000)));
        let key = issue(&engine, "acme/a");
        let first = begin(&engine, &key, 4_000);
        let second = begin(&engine, &key, 4_000);
        for round in 1..=500 {
            clock.advance(Duration::from_millis(step));
            // A long answer, chunk by chunk.
            engine.settle(&first, 4_000 + round).unwrap();
            // One that is estimated again and again.
            engine.settle(&second, 3_000 + (round % 2) * 2_000).unwrap();
        }
        assert_eq!((first.cost(), second.cost()), (4_500, 3_000));
        assert_eq!(left(&engine, &key), [1_000_000 - 7_500]);
        engine.settle(&first, 100).unwrap();
        engine.settle(&second, 0).unwrap();
        assert_eq!(left(&engine, &key), [left_later - 100], "{limit:?}");
        engine.settle(&first, 0).unwrap();
        assert_eq!(left(&engine, &key), [left_later], "{limit:?}");
        let quota = &engine.quotas_left(key.key.id).unwrap()[0];
        assert_eq!(quota.status().remaining, 1_000_000);
    }
}

#[test]
fn a_settlement_without_a_store_is_an_error_and_can_be_repeated() {
    let (engine, _) = engine();
    let charge = begin(&engine, &issue(&engine, "acme"), 1);
    let (other, _) = self::engine();
    assert!(matches!(other.settle(&charge, 2), Err(Error::Invalid(_))));
    let handle = engine.clone();
    engine.close().unwrap();
    assert!(matches!(handle.settle(&charge, 2), Err(Error::Closed)));
    assert_eq!(charge.cost(), 1);
}

#[test]
fn only_a_request_that_is_settled_later_has_a_charge() {
    let (engine, _) = engine();
    let key = issue(&engine, "acme");
    let verdict = engine.verify(key.token.expose()).unwrap();
    assert!(verdict.grant().unwrap().charge().is_none());
    let plans = KeyspaceUpdate::new().owner_defaults(1, LevelDefaults::new().plan("hundred"));
    engine.update_keyspace("acme_live", plans).unwrap();
    let verdict = engine.verify(key.token.expose()).unwrap();
    assert!(verdict.grant().unwrap().charge().is_none());
    let many = engine.verify_many(
        &[key.token.expose()],
        &Requirements::new().cost(40).settled_later(),
    );
    let grant = many
        .into_iter()
        .next()
        .unwrap()
        .unwrap()
        .into_result()
        .unwrap();
    engine.settle(grant.charge().unwrap(), 1).unwrap();
    assert_eq!(left(&engine, &key), [98]);
}
