//! Limits of plans, counted in memory, at the exact instants of a manual clock.

use std::cell::Cell;
use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    Clock, Denial, Engine, Error, Invalid, KeyUpdate, KeyspaceUpdate, Limit, ManualClock, NewKey,
    NewKeyspace, Options, Plan, Quota, Requirements, Rotation, Timestamp, Verdict,
};

use crate::common::{Store, at, code, everywhere, granted};

const SECOND: u64 = 1000;
const HOUR: u64 = 3_600_000;

/// The tiers of a public API: 1,000 an hour and 50 a second; 10,000 and 200;
/// no limit an hour and 1,000 a second.
fn tiers(store: &Store) {
    let tier = |name: &str, hour: u32, second| {
        Plan::new(name)
            .limit(Limit::per_hour(hour))
            .limit(Limit::per_second(second))
    };
    store
        .engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .permissions(["read"])
                .plan(tier("free", 1_000, 50))
                .plan(tier("pro", 10_000, 200))
                .plan(Plan::new("enterprise").limit(Limit::per_second(1_000)))
                .default_plan("free"),
        )
        .unwrap();
}

fn key(store: &Store, owner: &str, plan: Option<&str>) -> gatekey::Issued {
    let mut key = NewKey::new("acme_live", owner)
        .unwrap()
        .permissions(["read"]);
    if let Some(plan) = plan {
        key = key.plan(plan);
    }
    store.engine.issue(key).unwrap()
}

fn wait(engine: &Engine, token: &str) -> Duration {
    match engine.verify(token).unwrap() {
        Verdict::Denied(Denial::RateLimited { retry_after, .. }) => retry_after.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_tiers_admit_their_burst_and_their_hour() {
    everywhere(|store| {
        tiers(store);
        for (plan, burst, hour) in [
            ("free", 50, Some(1_000)),
            ("pro", 200, Some(10_000)),
            ("enterprise", 1_000, None),
        ] {
            store.clock.set(at(24 * HOUR));
            let issued = key(store, plan, Some(plan));
            let token = issued.token.expose();
            assert_eq!(issued.key.plan.as_deref(), Some(plan));
            let mut sum = 0;
            for second in 0..60 {
                // Two seconds apart, so that no second counts for the next.
                store.clock.set(at(24 * HOUR + second * 2 * SECOND));
                sum += granted(&store.engine, token, burst + 1);
            }
            assert_eq!(
                sum,
                hour.map_or(60 * burst, |hour: u32| hour.min(60 * burst)),
                "{plan}"
            );
        }
    });
}

#[test]
fn a_window_resets_when_it_says() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", None);
    let token = issued.token.expose();
    assert_eq!(issued.key.plan.as_deref(), Some("free"), "the default");
    store.clock.set(at(HOUR / 2));
    let grant = store.engine.verify(token).unwrap().into_result().unwrap();
    let hour = grant.longest_limit().unwrap();
    assert_eq!(
        (hour.limit(), hour.remaining()),
        (Limit::per_hour(1_000), 999)
    );
    // One request in this hour counts as one to the end of the next.
    assert_eq!(hour.resets_at(), at(2 * HOUR));
    let second = grant.tightest_limit().unwrap();
    assert_eq!(
        (second.limit(), second.remaining()),
        (Limit::per_second(50), 49)
    );
    assert_eq!(second.resets_at(), at(HOUR / 2 + 2 * SECOND));
}

#[test]
fn a_denial_says_how_long_to_wait_to_the_millisecond() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", None);
    let token = issued.token.expose();
    store.clock.set(at(HOUR + 400));
    assert_eq!(granted(&store.engine, token, 60), 50);
    // At 400 ms 50 are current. In the next second they count for 50 * (1000 - e),
    // and one fits as soon as that is at most 49 * 1000: 20 ms into it.
    let patience = wait(&store.engine, token);
    assert_eq!(patience, Duration::from_millis(620));
    store.clock.set(at(HOUR + 400 + 619));
    assert_eq!(granted(&store.engine, token, 2), 0);
    store.clock.set(at(HOUR + 400 + 620));
    assert_eq!(granted(&store.engine, token, 2), 1);
}

#[test]
fn the_edge_of_a_window_does_not_let_twice_the_limit_through() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", None);
    let token = issued.token.expose();
    store.clock.set(at(HOUR + 999));
    let before = granted(&store.engine, token, 100);
    store.clock.set(at(HOUR + 1000));
    let after = granted(&store.engine, token, 100);
    assert_eq!((before, after), (50, 0));
    // Half a window later half the limit is free.
    store.clock.set(at(HOUR + 1500));
    assert_eq!(granted(&store.engine, token, 100), 25);
}

#[test]
fn a_request_is_charged_to_all_limits_or_to_none() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", None);
    let token = issued.token.expose();
    store.clock.set(at(HOUR));
    // The second refuses 150 of 200; they must not count for the hour.
    assert_eq!(granted(&store.engine, token, 200), 50);
    store.clock.set(at(HOUR + 2 * SECOND));
    let grant = store.engine.verify(token).unwrap().into_result().unwrap();
    assert_eq!(grant.longest_limit().unwrap().remaining(), 949);
    // A request of cost 60 never fits a second of 50.
    let dear = Requirements::new().cost(60);
    let verdict = store.engine.verify_with(token, &dear).unwrap();
    assert!(matches!(
        verdict,
        Verdict::Denied(Denial::RateLimited {
            retry_after: None,
            ..
        })
    ));
    // One that costs nothing is granted, and tells where the key stands.
    let free = Requirements::new().cost(0);
    let grant = store
        .engine
        .verify_with(token, &free)
        .unwrap()
        .into_result()
        .unwrap();
    assert_eq!(grant.longest_limit().unwrap().remaining(), 949);
}

#[test]
fn what_is_refused_for_another_reason_is_not_charged() {
    everywhere(|store| {
        tiers(store);
        let issued = key(store, "acme", None);
        let token = issued.token.expose();
        store.clock.set(at(HOUR));
        let write = Requirements::new().permissions(&["write"]);
        store.engine.disable(issued.key.id).unwrap();
        for _ in 0..30 {
            assert_eq!(code(&store.engine.verify(token).unwrap()), "disabled");
        }
        store.engine.enable(issued.key.id).unwrap();
        for _ in 0..30 {
            let verdict = store.engine.verify_with(token, &write).unwrap();
            assert_eq!(code(&verdict), "permission_missing");
        }
        assert_eq!(granted(&store.engine, token, 60), 50);
    });
}

#[test]
fn a_changed_plan_holds_at_once() {
    everywhere(|store| {
        tiers(store);
        let issued = key(store, "acme", None);
        let token = issued.token.expose();
        store.clock.set(at(HOUR));
        assert_eq!(granted(&store.engine, token, 60), 50);
        let update = |update| store.engine.update(issued.key.id, update).unwrap();
        assert_eq!(
            update(KeyUpdate::new().plan("pro")).plan.as_deref(),
            Some("pro")
        );
        assert_eq!(granted(&store.engine, token, 300), 200);
        update(KeyUpdate::new().plan(None));
        assert_eq!(granted(&store.engine, token, 300), 300);
        update(KeyUpdate::new().plan("pro"));
        // The plan itself is changed, for all that follow it.
        let narrow = Plan::new("pro").limit(Limit::per_second(3));
        let change = KeyspaceUpdate::new().plan(narrow);
        store.engine.update_keyspace("acme_live", change).unwrap();
        // What was counted of its second counts on.
        assert_eq!(granted(&store.engine, token, 300), 0);
        store.clock.set(at(HOUR + 2 * SECOND));
        assert_eq!(granted(&store.engine, token, 300), 3);
    });
}

#[test]
fn a_rotated_key_keeps_its_plan() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", Some("pro"));
    let rotated = store
        .engine
        .rotate(issued.key.id, Rotation::at_once())
        .unwrap();
    assert_eq!(rotated.key.plan.as_deref(), Some("pro"));
}

#[test]
fn keys_of_an_owner_can_share_a_plan() {
    everywhere(|store| {
        let shared = Plan::new("team")
            .limit(Limit::per_minute(10))
            .shared_by_owner();
        store
            .engine
            .create_keyspace(
                NewKeyspace::new("acme_live")
                    .unwrap()
                    .permissions(["read"])
                    .plan(shared),
            )
            .unwrap();
        let [one, two, other] =
            ["acme", "acme", "umbrella"].map(|owner| key(store, owner, Some("team")));
        assert_eq!(granted(&store.engine, one.token.expose(), 6), 6);
        assert_eq!(granted(&store.engine, two.token.expose(), 6), 4);
        assert_eq!(granted(&store.engine, one.token.expose(), 6), 0);
        assert_eq!(granted(&store.engine, other.token.expose(), 20), 10);
    });
}

#[test]
fn sixty_four_threads_on_one_key_admit_exactly_the_limit() {
    let plans = [
        Plan::new("one").limit(Limit::per_hour(5_000)),
        Plan::new("several")
            .limit(Limit::per_hour(6_000))
            .limit(Limit::per_hour(5_000))
            .limit(Limit::per_minute(5_500)),
        Plan::new("shared")
            .limit(Limit::per_hour(5_000))
            .shared_by_owner(),
    ];
    for plan in plans {
        let engine = Options::new()
            .clock(ManualClock::at(at(HOUR)))
            .open_in_memory()
            .unwrap();
        let keyspace = NewKeyspace::new("acme_live")
            .unwrap()
            .plan(plan.clone())
            .default_plan(&plan.name);
        engine.create_keyspace(keyspace).unwrap();
        let issued = engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap();
        let barrier = Barrier::new(64);
        let sum: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        granted(&engine, issued.token.expose(), 200)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(sum, 5_000, "{plan}");
    }
}

#[test]
fn counters_are_bounded_and_idle_ones_go() {
    let clock = ManualClock::at(at(HOUR));
    let engine = Options::new()
        .clock(clock.clone())
        .limited_keys(2_000)
        .open_in_memory()
        .unwrap();
    let plan = Plan::new("p").limit(Limit::per_minute(5));
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .plan(plan)
        .default_plan("p");
    engine.create_keyspace(keyspace).unwrap();
    let keys = (0..3_000)
        .map(|at| NewKey::new("acme_live", format!("o{at}")).unwrap())
        .collect();
    let keys = engine.issue_batch(keys).unwrap();
    let grants = |engine: &Engine| {
        keys.iter()
            .filter(|key| engine.verify(key.token.expose()).unwrap().is_granted())
            .count()
    };
    // What cannot be counted is refused, and what is counted goes on.
    assert_eq!(grants(&engine), 2_000);
    assert_eq!(engine.stats().unwrap().limited_keys, 2_000);
    assert_eq!(grants(&engine), 2_000);
    // Two windows later, nothing of the old counts: others get their place.
    clock.advance(Duration::from_secs(120));
    let late: Vec<_> = keys.iter().rev().take(1_000).collect();
    let late = late
        .iter()
        .filter(|key| engine.verify(key.token.expose()).unwrap().is_granted())
        .count();
    assert_eq!(late, 1_000);
    assert!(engine.stats().unwrap().limited_keys <= 2_000);
}

#[test]
fn a_clock_that_steps_back_lends_nothing() {
    let store = Store::on_file();
    tiers(&store);
    let issued = key(&store, "acme", None);
    let token = issued.token.expose();
    store.clock.set(at(HOUR + 5 * SECOND));
    assert_eq!(granted(&store.engine, token, 60), 50);
    store.clock.set(at(HOUR + 3 * SECOND));
    assert_eq!(granted(&store.engine, token, 60), 0);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let store = Store::on_file();
    let refused = |keyspace: NewKeyspace| match store.engine.create_keyspace(keyspace) {
        Err(Error::Invalid(invalid)) => invalid.to_string(),
        other => panic!("{other:?}"),
    };
    let new = || NewKeyspace::new("acme_live").unwrap();
    let of = |limit| new().plan(Plan::new("p").limit(limit));
    assert!(refused(of(Limit::per_hour(0))).contains("requests"));
    assert!(refused(of(Limit::per_hour(1).bucket(0))).contains("burst"));
    assert!(refused(new().plan(Plan::new(""))).contains("empty"));
    assert!(refused(new().plan(Plan::new("a b"))).contains("\"a b\""));
    assert!(refused(new().plan(Plan::new("p")).plan(Plan::new("p"))).contains("\"p\""));
    assert!(refused(new().default_plan("gold")).contains("gold"));
    let five = (1..=5).fold(Plan::new("p"), |plan, at| plan.limit(Limit::per_hour(at)));
    assert!(refused(new().plan(five)).contains('5'));
    for (window, why) in [
        (Duration::ZERO, "under a second"),
        (Duration::from_millis(999), "under a second"),
        (Duration::from_millis(1500), "not whole seconds"),
        (Duration::from_secs(3_601), "longer than an hour"),
        (Duration::from_secs(32 * 86_400), "longer than an hour"),
    ] {
        let error = Limit::new(5, window).unwrap_err();
        assert!(matches!(error, Error::Invalid(Invalid::Malformed(_))));
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(Limit::new(5, Duration::from_secs(3_600)).is_ok());
    tiers(&store);
    let gold = NewKey::new("acme_live", "acme").unwrap().plan("gold");
    let error = store.engine.issue(gold).unwrap_err().to_string();
    assert!(
        error.contains("gold") && error.contains("free, pro, enterprise"),
        "{error}"
    );
}

#[test]
fn failed_attempts_are_throttled_by_source_and_a_success_resets_nothing() {
    let clock = ManualClock::at(at(HOUR));
    let engine = Options::new()
        .clock(clock.clone())
        .failed_attempts(Limit::per_minute(10))
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let good = issued.token.expose();
    let from = |source: &str, token: &str| {
        let asked = Requirements::new().source(source.parse().unwrap());
        code(&engine.verify_with(token, &asked).unwrap()).to_owned()
    };
    for _ in 0..10 {
        assert_eq!(from("2001:db8::2", good), "granted");
        assert_eq!(from("2001:db8::1", "rubbish"), "malformed");
    }
    // The whole network of 64 bits waits, with a good token too.
    assert_eq!(from("2001:db8::ffff:1", "rubbish"), "too_many_attempts");
    assert_eq!(from("2001:db8::2", good), "too_many_attempts");
    assert_eq!(from("2001:db8:0:1::2", good), "granted");
    assert_eq!(from("192.0.2.7", good), "granted");
    for _ in 0..10 {
        from("::ffff:192.0.2.7", "rubbish");
    }
    assert_eq!(
        from("192.0.2.7", good),
        "too_many_attempts",
        "mapped addresses are the same"
    );
    // In a batch, each may be the one too many; without a source nothing counts.
    let asked = Requirements::new().source("192.0.2.9".parse().unwrap());
    let batch = engine.verify_many(&["x"; 12], &asked);
    let codes: Vec<_> = batch
        .iter()
        .map(|result| code(result.as_ref().unwrap()))
        .collect();
    assert_eq!(
        codes[9..],
        ["malformed", "too_many_attempts", "too_many_attempts"]
    );
    assert_eq!(code(&engine.verify(good).unwrap()), "granted");
    clock.advance(Duration::from_secs(120));
    assert_eq!(from("2001:db8::2", good), "granted");
}

#[test]
fn a_charge_is_given_back_where_the_quota_refuses() {
    let store = Store::on_file();
    tiers(&store);
    let spec = NewKey::new("acme_live", "acme")
        .unwrap()
        .quota(Quota::new(5));
    let issued = store.engine.issue(spec).unwrap();
    let token = issued.token.expose();
    store.clock.set(at(HOUR));
    assert_eq!(granted(&store.engine, token, 40), 5);
    store
        .engine
        .update(issued.key.id, KeyUpdate::new().quota(Quota::new(100)))
        .unwrap();
    assert_eq!(
        granted(&store.engine, token, 60),
        45,
        "50 a second, 5 of them spent"
    );
}

thread_local! {
    /// How often a thread has asked for the exact time.
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Counting(ManualClock);

impl Clock for Counting {
    fn now(&self) -> Timestamp {
        ASKED.set(ASKED.get() + 1);
        self.0.now()
    }

    fn coarse_now(&self) -> Timestamp {
        self.0.now()
    }
}

/// Where a request goes the long way it asks for the exact time.
#[test]
fn a_plan_that_changes_keeps_its_keys_on_the_short_way() {
    let clock = Counting(ManualClock::at(at(HOUR)));
    let options = Options::new().clock(clock).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let plan = || Plan::new("team").limit(Limit::per_hour(1_000));
    let new = NewKeyspace::new("acme_live").unwrap().plan(plan());
    engine.create_keyspace(new.default_plan("team")).unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let ask = |what: &str, first: u32| {
        // The first makes the meter of the key, or of its owner.
        assert_eq!(granted(&engine, issued.token.expose(), first), first);
        let before = ASKED.get();
        assert_eq!(granted(&engine, issued.token.expose(), 20), 20);
        assert_eq!(ASKED.get(), before, "{what}");
    };
    let update = |update| drop(engine.update_keyspace("acme_live", update).unwrap());
    ask("a plan", 2);
    update(KeyspaceUpdate::new().description("for all"));
    ask("a keyspace that says the same of it", 1);
    let before = engine.limits_left(issued.key.id).unwrap()[0].remaining();
    assert_eq!(before, 1_000 - 43);
    update(KeyspaceUpdate::new().plan(plan().shared_by_owner()));
    ask("one that is shared", 2);
    update(KeyspaceUpdate::new().plan(Plan::new("team")));
    ask("one without limits", 1);
    update(KeyspaceUpdate::new().plan(plan()));
    ask("one with limits again", 2);
    let left = engine.limits_left(issued.key.id).unwrap()[0].remaining();
    assert_eq!(
        left,
        before - 22,
        "what was counted of the key itself counts on"
    );
}
