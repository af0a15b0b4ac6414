//! Limits and quotas at the levels above a key: what a customer buys.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use gatekey::{
    Denial, Engine, Issued, KeyUpdate, KeyspaceUpdate, Level, LevelDefaults, Limit, ManualClock,
    NewKey, NewKeyspace, Options, OwnerUpdate, Plan, Quota, Requirements, Rotation, Verdict,
};

use crate::common::{PATIENCE, at, code, granted};

const HOUR: u64 = 3_600_000;

fn engine_of(keyspace: NewKeyspace) -> (Engine, ManualClock) {
    let clock = ManualClock::at(at(HOUR));
    let options = Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    engine.create_keyspace(keyspace).unwrap();
    (engine, clock)
}

fn keyspace() -> NewKeyspace {
    NewKeyspace::new("acme_live")
        .unwrap()
        .plan(Plan::new("free").limit(Limit::per_hour(50).fixed()))
        .plan(Plan::new("pro").limit(Limit::per_hour(500).fixed()))
        .plan(Plan::new("key").limit(Limit::per_hour(40).fixed()))
        .plan(
            Plan::new("apart")
                .limit(Limit::per_hour(20).fixed())
                .replaces_levels_above(),
        )
}

fn issue(engine: &Engine, owner: &str) -> Issued {
    engine
        .issue(NewKey::new("acme_live", owner).unwrap())
        .unwrap()
}

fn update(engine: &Engine, owner: &str, update: OwnerUpdate) {
    engine.update_owner("acme_live", owner, update).unwrap();
}

fn ask(engine: &Engine, issued: &Issued, times: u32) -> u32 {
    granted(engine, issued.token.expose(), times)
}

fn refusing_level(engine: &Engine, issued: &Issued) -> Level {
    match engine.verify(issued.token.expose()).unwrap() {
        Verdict::Denied(Denial::RateLimited { status, .. }) => status.level(),
        Verdict::Denied(Denial::QuotaExhausted { level, .. }) => level,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_service_accounts_below_an_owner_share_its_plan() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "alice", OwnerUpdate::new().plan("free"));
    let keys: Vec<_> = (0..5)
        .map(|at| issue(&engine, &format!("alice/p/{at}")))
        .collect();
    let sum: u32 = keys.iter().map(|key| ask(&engine, key, 15)).sum();
    assert_eq!(sum, 50);
    assert_eq!(refusing_level(&engine, &keys[0]), Level::Owner(1));
    // Neither a name that begins alike, nor the owner in another keyspace.
    assert_eq!(ask(&engine, &issue(&engine, "alice2/p"), 60), 60);
    engine
        .create_keyspace(NewKeyspace::new("acme_test").unwrap())
        .unwrap();
    let elsewhere = engine
        .issue(NewKey::new("acme_test", "alice").unwrap())
        .unwrap();
    assert_eq!(ask(&engine, &elsewhere, 60), 60);
}

/// Those are charged by the exact clock.
#[test]
fn keys_that_soon_end_are_charged_at_the_levels_of_their_owners() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "alice", OwnerUpdate::new().plan("free"));
    let keys = [(); 2].map(|()| {
        let spec = NewKey::new("acme_live", "alice/p").unwrap();
        let spec = spec.expires_in(Duration::from_secs(30));
        engine.issue(spec).unwrap()
    });
    let sum: u32 = keys.iter().map(|key| ask(&engine, key, 40)).sum();
    assert_eq!(sum, 50);
}

#[test]
fn a_request_is_charged_to_every_level_or_to_none() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().plan("pro"));
    update(
        &engine,
        "acme/ingest",
        OwnerUpdate::new().limits([Limit::per_hour(60).fixed()]),
    );
    let key = |owner| {
        let spec = NewKey::new("acme_live", owner).unwrap().plan("key");
        engine.issue(spec).unwrap()
    };
    let [one, two, other] = ["acme/ingest/a", "acme/ingest/b", "acme/billing"].map(key);
    assert_eq!(ask(&engine, &one, 100), 40);
    assert_eq!(refusing_level(&engine, &one), Level::Key);
    assert_eq!(ask(&engine, &two, 100), 20);
    assert_eq!(refusing_level(&engine, &two), Level::Owner(2));
    // What these levels refused, the organisation was not charged for.
    assert_eq!(ask(&engine, &other, 100), 40);
    let free = Requirements::new().cost(0);
    let verdict = engine.verify_with(other.token.expose(), &free).unwrap();
    let longest = verdict.grant().and_then(|grant| grant.longest_limit());
    // Of limits as long, the one with the least left.
    assert_eq!(longest.unwrap().level(), Level::Key);
    let left = engine.limits_left(other.key.id).unwrap();
    assert_eq!(
        (left[0].level(), left[0].remaining()),
        (Level::Owner(1), 400)
    );
}

#[test]
fn a_plan_that_replaces_is_not_charged_above() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().plan("free"));
    update(&engine, "acme/batch", OwnerUpdate::new().plan("apart"));
    let [batch, other] = ["acme/batch/x", "acme/web"].map(|owner| issue(&engine, owner));
    assert_eq!(ask(&engine, &batch, 100), 20);
    assert_eq!(ask(&engine, &other, 100), 50);
}

#[test]
fn threads_over_a_thousand_keys_of_an_organisation_admit_exactly_its_limit() {
    let (engine, _) = engine_of(keyspace());
    let limits = [Limit::per_hour(5_000).fixed(), Limit::per_minute(6_000)];
    update(&engine, "acme", OwnerUpdate::new().limits(limits));
    let specs = (0..1_000).map(|at| NewKey::new("acme_live", format!("acme/p{}/{at}", at % 10)));
    let keys = engine
        .issue_batch(specs.map(Result::unwrap).collect())
        .unwrap();
    let barrier = Barrier::new(64);
    let sum = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let (engine, keys, barrier, sum) = (&engine, &keys, &barrier, &sum);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..100 {
                    let key = &keys[(thread * 131 + round * 17) % keys.len()];
                    sum.fetch_add(ask(engine, key, 1), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 5_000);
}

#[test]
fn a_customer_that_is_upgraded_under_load_has_its_new_limit_at_the_return() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().plan("free"));
    let keys: Vec<_> = (0..50)
        .map(|at| issue(&engine, &format!("acme/{at}")))
        .collect();
    let (sum, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, keys, sum, is_over) = (&engine, &keys, &sum, &is_over);
            scope.spawn(move || {
                let mut at = thread;
                while !is_over.load(Ordering::Relaxed) {
                    at += 1;
                    sum.fetch_add(ask(engine, &keys[at % keys.len()], 1), Ordering::Relaxed);
                }
            });
        }
        while sum.load(Ordering::Relaxed) < 50 {
            std::thread::yield_now();
        }
        update(&engine, "acme", OwnerUpdate::new().plan("pro"));
        // 450 are left, and whoever asks now is not refused before they are spent.
        let verdict = engine.verify(keys[0].token.expose()).unwrap();
        if verdict.is_granted() {
            sum.fetch_add(1, Ordering::Relaxed);
        } else {
            let spent = Duration::from_secs(20);
            let begun = std::time::Instant::now();
            while sum.load(Ordering::Relaxed) < 500 && begun.elapsed() < spent {
                std::thread::yield_now();
            }
            assert_eq!(
                sum.load(Ordering::Relaxed),
                500,
                "refused before it was spent"
            );
        }
        while sum.load(Ordering::Relaxed) < 500 {
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        sum.into_inner(),
        500,
        "the 50 of the old plan are 50 of the new"
    );
    assert_eq!(ask(&engine, &keys[0], 5), 0);
    // And a downgrade refuses from its return on.
    update(
        &engine,
        "acme",
        OwnerUpdate::new().limits([Limit::per_hour(499).fixed()]),
    );
    assert_eq!(ask(&engine, &keys[1], 5), 0);
}

/// What a key is charged to is remembered from one of its requests to the next: until any of
/// the changes that may make it something else has returned.
#[test]
fn each_change_of_what_a_key_is_charged_to_holds_at_its_return() {
    let (engine, _) = engine_of(keyspace());
    let issued = issue(&engine, "acme/team");
    let key = issued.key.id;
    // The tightest limit, and at which level it is.
    let holds = |tightest: Option<(u32, Level)>| {
        for _ in 0..4 {
            let verdict = engine.verify(issued.token.expose()).unwrap();
            let grant = verdict.into_result().unwrap();
            let limit = grant.tightest_limit();
            let limit = limit.map(|limit| (limit.limit().requests(), limit.level()));
            assert_eq!(limit, tightest);
        }
    };
    holds(None);
    update(&engine, "acme", OwnerUpdate::new().plan("free"));
    holds(Some((50, Level::Owner(1))));
    update(&engine, "acme", OwnerUpdate::new().plan("pro"));
    holds(Some((500, Level::Owner(1))));
    let of_keyspace = |to| engine.update_keyspace("acme_live", to).unwrap();
    let pro = Plan::new("pro").limit(Limit::per_hour(300).fixed());
    of_keyspace(KeyspaceUpdate::new().plan(pro));
    holds(Some((300, Level::Owner(1))));
    let defaults = LevelDefaults::new().plan("free");
    of_keyspace(KeyspaceUpdate::new().owner_defaults(2, defaults));
    holds(Some((50, Level::Owner(2))));
    let of_key = |to| engine.update(key, to).unwrap();
    of_key(KeyUpdate::new().plan("key"));
    holds(Some((40, Level::Key)));
    for requests in [35, 36] {
        of_key(KeyUpdate::new().limits([Limit::per_hour(requests).fixed()]));
        holds(Some((requests, Level::Key)));
    }
    of_key(KeyUpdate::new().limits_of_plan().plan("apart"));
    holds(Some((20, Level::Key)));
    of_key(KeyUpdate::new().plan(None));
    holds(Some((50, Level::Owner(2))));
    of_key(KeyUpdate::new().limits([Limit::per_hour(33).fixed()]));
    holds(Some((33, Level::Key)));
    of_key(KeyUpdate::new().limits_of_plan());
    holds(Some((50, Level::Owner(2))));
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(4)));
    holds(Some((50, Level::Owner(2))));
    assert_eq!(refusing_level(&engine, &issued), Level::Owner(1));
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(9)));
    let own = [Limit::per_hour(9_000).fixed()];
    update(&engine, "acme/team", OwnerUpdate::new().limits(own));
    holds(Some((300, Level::Owner(1))));
    // The key's as well: one after the other.
    of_key(KeyUpdate::new().quota(Quota::new(4)));
    holds(Some((300, Level::Owner(1))));
    assert_eq!(refusing_level(&engine, &issued), Level::Key);
    of_key(KeyUpdate::new().quota(None));
    assert_eq!(ask(&engine, &issued, 4), 1);
    assert_eq!(refusing_level(&engine, &issued), Level::Owner(1));
    update(&engine, "acme", OwnerUpdate::nothing());
    holds(Some((9_000, Level::Owner(2))));
}

/// Of limits of other kinds nothing carries over: what was admitted since is what the new
/// ones count, and nobody is admitted by the old ones a second time.
#[test]
fn requests_beside_a_change_to_limits_of_other_kinds_are_all_counted() {
    let (engine, _) = engine_of(keyspace());
    let plans = [
        [Limit::per_hour(5).fixed(), Limit::per_minute(1_000_000)],
        [
            Limit::per_hour(1_000_000),
            Limit::per_minute(900_000).bucket(900_000),
        ],
    ];
    for round in 0..150 {
        let owner = format!("acme-{round}");
        let keys: Vec<_> = (0..3)
            .map(|at| issue(&engine, &format!("{owner}/{at}")))
            .collect();
        update(&engine, &owner, OwnerUpdate::new().limits(plans[0]));
        assert_eq!(ask(&engine, &keys[0], 9), 5);
        let is_over = AtomicBool::new(false);
        let granted = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for key in &keys {
                let (engine, granted, is_over) = (&engine, &granted, &is_over);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        granted.fetch_add(ask(engine, key, 1), Ordering::Relaxed);
                    }
                });
            }
            let change = match round % 2 {
                0 => OwnerUpdate::new().limits(plans[1]),
                // Gone, and there again.
                _ => {
                    update(&engine, &owner, OwnerUpdate::nothing().limits(plans[1]));
                    OwnerUpdate::new().plan("pro")
                }
            };
            update(&engine, &owner, change);
            is_over.store(true, Ordering::Relaxed);
        });
        let left = engine.limits_left(keys[0].key.id).unwrap();
        let counted = 1_000_000 - left[0].remaining();
        assert_eq!(counted, granted.into_inner(), "in round {round}");
    }
}

#[test]
fn every_owner_of_a_level_has_its_defaults_and_what_it_has_itself_wins() {
    let defaults = LevelDefaults::new().plan("free").quota(Quota::new(70));
    let (engine, clock) = engine_of(keyspace().owner_defaults(1, defaults));
    let [a, b, big] = ["a/x", "b/x", "big/x"].map(|owner| issue(&engine, owner));
    update(
        &engine,
        "big",
        OwnerUpdate::new().plan("pro").quota(Quota::new(300)),
    );
    assert_eq!([ask(&engine, &a, 60), ask(&engine, &b, 60)], [50, 50]);
    assert_eq!(ask(&engine, &big, 400), 300);
    assert_eq!(refusing_level(&engine, &big), Level::Owner(1));
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        [ask(&engine, &a, 60), ask(&engine, &b, 60)],
        [20, 20],
        "of 70 in all"
    );
    assert_eq!(
        code(&engine.verify(a.token.expose()).unwrap()),
        "quota_exhausted"
    );
    // Without the defaults, nothing is charged any more.
    let none = KeyspaceUpdate::new().owner_defaults(1, LevelDefaults::new());
    engine.update_keyspace("acme_live", none).unwrap();
    assert_eq!(ask(&engine, &a, 100), 100);
}

#[test]
fn quotas_at_three_levels_are_spent_together_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let clock = ManualClock::at(at(HOUR));
    let options = || Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options().create(&path).unwrap();
    engine.create_keyspace(keyspace()).unwrap();
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(100)));
    update(
        &engine,
        "acme/ingest",
        OwnerUpdate::new().quota(Quota::new(60)),
    );
    let key = |owner: &str| {
        let spec = NewKey::new("acme_live", owner)
            .unwrap()
            .quota(Quota::new(45));
        engine.issue(spec).unwrap()
    };
    let [one, two, other] = ["acme/ingest/a", "acme/ingest/b", "acme/web"].map(key);
    assert_eq!(ask(&engine, &one, 50), 45);
    assert_eq!(refusing_level(&engine, &one), Level::Key);
    assert_eq!(ask(&engine, &two, 5), 5);
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert_eq!(ask(&engine, &two, 50), 10);
    assert_eq!(refusing_level(&engine, &two), Level::Owner(2));
    // What a level below refused is not spent above.
    assert_eq!(ask(&engine, &other, 50), 40);
    assert_eq!(refusing_level(&engine, &other), Level::Owner(1));
    // A quota that is taken away, or given anew, holds at once.
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(3)));
    assert_eq!(ask(&engine, &other, 50), 3);
    update(&engine, "acme", OwnerUpdate::nothing());
    assert_eq!(ask(&engine, &other, 50), 2, "five of its own were left");
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
}

#[test]
fn a_limit_that_refuses_spends_no_quota_of_any_level() {
    let (engine, clock) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(25)));
    let limits = [Limit::per_minute(10).fixed()];
    let key = issue(&engine, "acme/x");
    engine
        .update(key.key.id, KeyUpdate::new().limits(limits))
        .unwrap();
    let mut sum = 0;
    for _ in 0..3 {
        sum += ask(&engine, &key, 30);
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(sum, 25);
    // And a quota that refuses counts for no limit.
    clock.advance(Duration::from_secs(60));
    assert_eq!(refusing_level(&engine, &key), Level::Owner(1));
    update(&engine, "acme", OwnerUpdate::new().quota(None));
    assert_eq!(ask(&engine, &key, 30), 10);
}

#[test]
fn a_key_has_limits_of_its_own_in_place_of_its_plans() {
    let (engine, clock) = engine_of(keyspace());
    let spec = NewKey::new("acme_live", "acme").unwrap().plan("free");
    let key = engine
        .issue(spec.limits([Limit::per_hour(7).fixed()]))
        .unwrap();
    assert_eq!(ask(&engine, &key, 100), 7);
    let change = |update| engine.update(key.key.id, update).unwrap();
    change(KeyUpdate::new().limits([Limit::per_hour(9).fixed()]));
    assert_eq!(ask(&engine, &key, 100), 2, "seven of nine were counted");
    let rotated = engine
        .rotate(key.key.id, Rotation::with_grace(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(
        granted(&engine, rotated.token.expose(), 9),
        0,
        "they count together"
    );
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(granted(&engine, rotated.token.expose(), 100), 9);
    engine
        .update(rotated.key.id, KeyUpdate::new().limits_of_plan())
        .unwrap();
    assert_eq!(granted(&engine, rotated.token.expose(), 100), 50);
}

#[test]
fn a_key_of_no_owner_with_settings_is_not_counted() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().plan("free"));
    let [counted, free] = ["acme/x", "umbrella/x"].map(|owner| issue(&engine, owner));
    assert_eq!([ask(&engine, &counted, 9), ask(&engine, &free, 9)], [9, 9]);
    assert_eq!(engine.stats().unwrap().limited_keys, 1);
    update(&engine, "acme", OwnerUpdate::nothing());
    assert_eq!(ask(&engine, &counted, 100), 100);
}

#[test]
fn a_setting_that_names_what_is_older_holds_at_once() {
    let (engine, _) = engine_of(keyspace().owner_defaults(1, LevelDefaults::new().plan("free")));
    let key = issue(&engine, "acme/x");
    update(&engine, "acme", OwnerUpdate::new().plan("pro"));
    // Of all plans, the newest.
    let newer = Plan::new("pro").limit(Limit::per_hour(600).fixed());
    engine
        .update_keyspace("acme_live", KeyspaceUpdate::new().plan(newer))
        .unwrap();
    assert_eq!(ask(&engine, &key, 60), 60);
    update(&engine, "acme", OwnerUpdate::new().plan("key"));
    assert_eq!(ask(&engine, &key, 1), 0, "60 of 40");
    update(&engine, "acme", OwnerUpdate::new().plan("pro"));
    assert_eq!(ask(&engine, &key, 1), 1);
    // By the defaults, of which there is no record.
    update(&engine, "acme", OwnerUpdate::nothing());
    assert_eq!(ask(&engine, &key, 1), 0, "61 of 50");
    let defaults = LevelDefaults::new().plan("apart");
    let change = KeyspaceUpdate::new().owner_defaults(1, defaults);
    engine.update_keyspace("acme_live", change).unwrap();
    assert_eq!(ask(&engine, &key, 1), 0, "61 of 20");
    let none = KeyspaceUpdate::new().owner_defaults(1, LevelDefaults::new());
    engine.update_keyspace("acme_live", none).unwrap();
    assert_eq!(ask(&engine, &key, 100), 100);
}

#[test]
fn a_default_quota_that_is_raised_is_raised_for_whoever_has_used_it_up() {
    let defaults = |requests| LevelDefaults::new().quota(Quota::new(requests));
    let (engine, _) = engine_of(keyspace().owner_defaults(1, defaults(5)));
    let [one, two] = ["a/x", "b/x"].map(|owner| issue(&engine, owner));
    assert_eq!([ask(&engine, &one, 9), ask(&engine, &two, 2)], [5, 2]);
    let change = KeyspaceUpdate::new().owner_defaults(1, defaults(8));
    engine.update_keyspace("acme_live", change).unwrap();
    assert_eq!(
        [ask(&engine, &one, 20), ask(&engine, &two, 20)],
        [8, 8],
        "they begin anew"
    );
    let change = KeyspaceUpdate::new().owner_defaults(1, defaults(1));
    engine.update_keyspace("acme_live", change).unwrap();
    assert_eq!([ask(&engine, &one, 20), ask(&engine, &two, 20)], [1, 1]);
}

#[test]
fn keys_of_one_lineage_with_limits_of_other_kinds_do_not_reset_each_other() {
    let (engine, _) = engine_of(keyspace());
    let spec = NewKey::new("acme_live", "acme").unwrap();
    let old = engine
        .issue(spec.limits([Limit::per_hour(5).fixed()]))
        .unwrap();
    let changed = KeyUpdate::new().limits([Limit::per_minute(5)]);
    let rotation = Rotation::with_grace(Duration::from_secs(600)).changing(changed);
    let rotated = engine.rotate(old.key.id, rotation).unwrap();
    let tokens = [old.token.expose(), rotated.token.expose()];
    let sum: u32 = (0..50)
        .map(|round| granted(&engine, tokens[round % 2], 1))
        .sum();
    assert_eq!(sum, 10);
}

#[test]
fn threads_that_need_quotas_of_several_owners_use_each_up_and_none_waits_for_ever() {
    let (engine, _) = engine_of(keyspace());
    update(&engine, "acme", OwnerUpdate::new().quota(Quota::new(700)));
    for project in 0..4 {
        let owner = format!("acme/p{project}");
        update(&engine, &owner, OwnerUpdate::new().quota(Quota::new(200)));
    }
    let keys: Vec<_> = (0..64)
        .map(|at| {
            let spec = NewKey::new("acme_live", format!("acme/p{}/{at}", at % 4)).unwrap();
            engine.issue(spec.quota(Quota::new(15))).unwrap()
        })
        .collect();
    let sum: u32 = std::thread::scope(|scope| {
        let ask = |key: &Issued| ask(&engine, key, 20);
        let threads: Vec<_> = keys
            .iter()
            .map(|key| scope.spawn(move || ask(key)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(
        sum, 700,
        "64 keys of 15 want 960, and their projects allow 800"
    );
    assert_eq!(
        engine
            .owner_settings("acme_live", "acme")
            .unwrap()
            .quota
            .own()
            .unwrap()
            .remaining,
        0
    );
}

/// Quotas that make room for one another, turn by turn, would never be done.
#[test]
fn requests_of_more_quotas_than_memory_is_given_room_for_are_all_answered() {
    for limited_keys in [1, 2, 3] {
        let options = Options::new()
            .limited_keys(limited_keys)
            .usage_interval(None);
        let engine = options.open_in_memory().unwrap();
        let quota = |requests| LevelDefaults::new().quota(Quota::new(requests));
        let new = keyspace()
            .owner_defaults(1, quota(1_000))
            .owner_defaults(2, quota(60));
        engine.create_keyspace(new).unwrap();
        let keys: Vec<Issued> = (0..6)
            .map(|number| {
                let owner = format!("acme/{}", number % 2);
                let new = NewKey::new("acme_live", owner).unwrap();
                engine.issue(new.quota(Quota::new(50))).unwrap()
            })
            .collect();
        let (done, all_done) = mpsc::channel();
        for issued in keys {
            let (engine, done) = (engine.clone(), done.clone());
            std::thread::spawn(move || done.send(ask(&engine, &issued, 40)));
        }
        // Not in a scope, which would wait for threads that never end.
        let by_one = |_| {
            let admitted: Result<u32, _> = all_done.recv_timeout(PATIENCE);
            admitted.expect("requests wait for ever")
        };
        let admitted: u32 = (0..6).map(by_one).sum();
        assert_eq!(admitted, 2 * 60, "{limited_keys}");
        assert!(engine.check().unwrap().is_sound());
    }
}
