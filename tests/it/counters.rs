//! The counters of limits: which wait a refusal tells, and when a counter may go.

use std::time::Duration;

use gatekey::{
    Denial, Engine, Issued, KeyUpdate, KeyspaceUpdate, Limit, NewKey, NewKeyspace, Options,
    OwnerUpdate, Permissions, Plan, Quota, Refill, Requirements, Timestamp, Verdict,
};

use crate::common::{at, engine_with, granted};

const HOUR: u64 = 3_600_000;

fn issue(engine: &Engine, owner: &str) -> Issued {
    let spec = NewKey::new("acme_live", owner).unwrap();
    engine.issue(spec).unwrap()
}

fn refusal(engine: &Engine, token: &str, cost: u32) -> (Limit, Option<Duration>) {
    let asked = Requirements::new().cost(cost);
    match engine.verify_with(token, &asked).unwrap() {
        Verdict::Denied(Denial::RateLimited {
            status,
            retry_after,
            ..
        }) => (status.limit(), retry_after),
        other => panic!("{other:?}"),
    }
}

/// Every order of some limits.
fn orders(limits: &[Limit]) -> Vec<Vec<Limit>> {
    if limits.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for at in 0..limits.len() {
        let mut rest = limits.to_vec();
        let first = rest.remove(at);
        let orders = orders(&rest).into_iter();
        all.extend(orders.map(|rest| [vec![first], rest].concat()));
    }
    all
}

fn plan(limits: &[Limit]) -> Plan {
    let limits = limits.iter().copied();
    limits.fold(Plan::new("p"), Plan::limit)
}

#[test]
fn a_refusal_tells_the_longest_wait_in_whatever_order_the_limits_are() {
    let hour = Limit::per_hour(3);
    let all = [
        Limit::per_second(3),
        Limit::per_minute(3),
        hour,
        Limit::per_hour(50),
    ];
    // Three are spent 10 minutes into the hour: in the next, a third of it must be over
    // for one to be free.
    let wait = Duration::from_secs(50 * 60 + 20 * 60);
    for limits in orders(&all) {
        let (engine, clock) = engine_with(plan(&limits), Options::new());
        clock.set(at(HOUR + HOUR / 6));
        let issued = issue(&engine, "acme");
        let token = issued.token.expose();
        assert_eq!(granted(&engine, token, 3), 3);
        assert_eq!(refusal(&engine, token, 1), (hour, Some(wait)), "{limits:?}");
        clock.advance(wait - Duration::from_millis(1));
        assert_eq!(
            refusal(&engine, token, 1),
            (hour, Some(Duration::from_millis(1)))
        );
        clock.advance(Duration::from_millis(1));
        assert_eq!(granted(&engine, token, 9), 1, "no refusal was charged");
    }
}

#[test]
fn a_refusal_for_ever_is_longer_than_any_wait() {
    let small = Limit::per_second(5);
    for limits in orders(&[small, Limit::per_hour(10), Limit::per_hour(10)]) {
        let (engine, _) = engine_with(plan(&limits), Options::new());
        let issued = issue(&engine, "acme");
        let token = issued.token.expose();
        assert_eq!(granted(&engine, token, 5), 5);
        assert_eq!(refusal(&engine, token, 6), (small, None), "{limits:?}");
    }
}

#[test]
fn a_counter_whose_window_before_still_counts_makes_no_room() {
    for is_shared in [false, true] {
        let mut plan = Plan::new("p").limit(Limit::per_minute(6));
        if is_shared {
            plan = plan.shared_by_owner();
        }
        let (engine, clock) = engine_with(plan, Options::new().limited_keys(3));
        let keys = ["a", "b", "c", "d"].map(|owner| issue(&engine, owner));
        let ask = |at: usize, times| granted(&engine, keys[at].token.expose(), times);
        clock.set(at(HOUR + 59_999));
        assert_eq!([ask(0, 9), ask(1, 9), ask(2, 9)], [6; 3]);
        // The minute before counts whole, and then for a sixth less each 10 s.
        for (seconds, free) in [(0, 0), (10, 1), (50, 4)] {
            clock.set(at(HOUR + 60_000 + seconds * 1000));
            // Until b is idle, and a second more.
            let wait = Duration::from_secs(61 - seconds);
            let no_room = (Limit::per_minute(6), Some(wait));
            assert_eq!(refusal(&engine, keys[3].token.expose(), 1), no_room);
            assert_eq!(ask(0, 9), free, "{seconds} s after");
        }
        // a's five of this minute count on; of b and c nothing does.
        clock.set(at(HOUR + 120_000));
        assert_eq!(ask(3, 9), 6, "b and c are idle");
        assert_eq!(ask(0, 9), 1);
        assert_eq!(engine.stats().unwrap().limited_keys, 2);
        assert_eq!([ask(1, 9), ask(2, 9)], [6, 0], "and one of them finds room");
    }
}

#[test]
fn keys_that_share_a_counter_go_on_sharing_it_after_it_was_dropped() {
    let plan = Plan::new("team")
        .limit(Limit::per_minute(10))
        .shared_by_owner();
    let (engine, clock) = engine_with(plan, Options::new().limited_keys(2));
    let [one, two, other] = ["acme", "acme", "other"].map(|owner| issue(&engine, owner));
    let ask = |issued: &Issued, times| granted(&engine, issued.token.expose(), times);
    assert_eq!([ask(&one, 6), ask(&two, 6), ask(&other, 12)], [6, 4, 10]);
    for round in 1..5 {
        // Two minutes later all are idle, and one for which there is no room drops them.
        clock.set(at(HOUR + round * 120_000));
        let newcomer = issue(&engine, &format!("owner-{round}"));
        assert_eq!(ask(&newcomer, 1), 1);
        assert_eq!(engine.stats().unwrap().limited_keys, 1);
        assert_eq!([ask(&one, 6), ask(&two, 6), ask(&one, 6)], [6, 4, 0]);
    }
}

#[test]
fn keys_that_share_a_plan_share_it_and_its_counts_after_it_was_changed() {
    let team = |requests| {
        Plan::new("team")
            .limit(Limit::per_minute(requests))
            .shared_by_owner()
    };
    let (engine, _) = engine_with(team(10), Options::new());
    let [one, two] = ["acme", "acme"].map(|owner| issue(&engine, owner));
    let ask = |issued: &Issued, times| granted(&engine, issued.token.expose(), times);
    let change = |plan| {
        let change = KeyspaceUpdate::new().plan(plan);
        engine.update_keyspace("acme_live", change).unwrap();
    };
    assert_eq!([ask(&one, 2), ask(&two, 1)], [2, 1]);
    change(team(20));
    assert_eq!(ask(&one, 1), 1);
    change(team(10));
    assert_eq!([ask(&one, 4), ask(&two, 9), ask(&one, 1)], [4, 2, 0]);
}

/// Of a plan, and of the key's own; what was counted of the limit before counts.
#[test]
fn a_limit_that_is_lowered_holds_for_the_next_request() {
    let of = |requests| Limit::per_hour(requests).fixed();
    let (engine, _) = engine_with(plan(&[of(9)]), Options::new());
    let issued = issue(&engine, "acme");
    let ask = |times| granted(&engine, issued.token.expose(), times);
    assert_eq!(ask(3), 3);
    let change = KeyspaceUpdate::new().plan(plan(&[of(4)]));
    engine.update_keyspace("acme_live", change).unwrap();
    assert_eq!(ask(9), 1);
    let own = |limit| {
        let change = KeyUpdate::new().limits([limit]);
        engine.update(issued.key.id, change).unwrap();
    };
    own(of(20));
    assert_eq!(ask(6), 6);
    own(of(7));
    assert_eq!(ask(9), 1);
}

fn rate_limited_at(engine: &Engine, token: &str) -> Timestamp {
    match engine.verify(token).unwrap() {
        Verdict::Denied(Denial::RateLimited { status, .. }) => status.resets_at(),
        other => panic!("{other:?}"),
    }
}

/// Each algorithm, three times its limit, by a client that waits as it is told.
#[test]
fn a_request_at_the_told_instant_is_granted_and_one_before_is_not() {
    let limits = [
        Limit::per_minute(7).fixed(),
        Limit::per_minute(7),
        Limit::per_minute(7).bucket(3),
        Limit::per_second(3).bucket(1),
    ];
    for limit in limits {
        let (engine, clock) = engine_with(plan(&[limit]), Options::new());
        clock.set(at(HOUR + 12_345));
        let issued = issue(&engine, "acme");
        let token = issued.token.expose();
        let mut refused = 0;
        for _ in 0..3 * limit.requests() {
            let grant = loop {
                match engine.verify(token).unwrap() {
                    Verdict::Granted(grant) => break grant,
                    Verdict::Denied(_) => {
                        refused += 1;
                        let told = rate_limited_at(&engine, token);
                        clock.set(told);
                        clock.step_back(Duration::from_millis(1));
                        assert_eq!(rate_limited_at(&engine, token), told, "{limit}");
                        clock.set(told);
                    }
                }
            };
            // Whoever obeys what a grant tells is never refused.
            let left = grant.tightest_limit().unwrap();
            if left.remaining() == 0 && refused > 0 {
                clock.set(left.resets_at());
            }
        }
        assert_eq!(refused, 1, "{limit}");
    }
}

#[test]
fn a_fixed_window_is_opened_by_the_first_request_and_resets_as_a_whole() {
    let limit = Limit::per_hour(10).fixed();
    let (engine, clock) = engine_with(plan(&[limit]), Options::new());
    let issued = issue(&engine, "acme");
    let token = issued.token.expose();
    let opened = HOUR + 17 * 60_000 + 1;
    clock.set(at(opened));
    assert_eq!(granted(&engine, token, 4), 4);
    clock.set(at(opened + HOUR - 1));
    assert_eq!(granted(&engine, token, 20), 6);
    assert_eq!(rate_limited_at(&engine, token), at(opened + HOUR));
    clock.set(at(opened + HOUR));
    assert_eq!(granted(&engine, token, 20), 10);
}

#[test]
fn a_limit_can_be_of_four_billion_requests() {
    let limit = Limit::per_hour(u32::MAX);
    let (engine, _) = engine_with(plan(&[limit]), Options::new());
    let issued = issue(&engine, "acme");
    let all = Requirements::new().cost(u32::MAX - 1);
    let token = issued.token.expose();
    assert!(engine.verify_with(token, &all).unwrap().is_granted());
    assert_eq!(granted(&engine, token, 3), 1);
}

#[test]
fn counters_follow_a_key_through_its_rotations() {
    let (engine, clock) = engine_with(
        plan(&[Limit::per_hour(5).fixed()]),
        Options::new().limited_keys(3),
    );
    let Issued {
        mut key, mut token, ..
    } = issue(&engine, "acme");
    let mut sum = 0;
    for _ in 0..6 {
        sum += granted(&engine, token.expose(), 2);
        let rotation = gatekey::Rotation::with_grace(Duration::from_secs(600));
        let rotated = engine.rotate(key.id, rotation).unwrap();
        // In its grace, the old one counts with the new.
        sum += granted(&engine, token.expose(), 1);
        (key, token) = (rotated.key, rotated.token);
    }
    assert_eq!(sum, 5);
    assert_eq!(
        engine.stats().unwrap().limited_keys,
        1,
        "they have one place"
    );
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(granted(&engine, token.expose(), 9), 5);
}

/// Whoever looks at what is left, or is refused for another reason, has changed no limit: one
/// that is changed and changed back in between goes on.
#[test]
fn a_look_between_a_change_and_its_undoing_loses_no_count() {
    let hourly = || plan(&[Limit::per_hour(3).fixed()]);
    let brief = || plan(&[Limit::per_second(1_000)]);
    let (engine, _) = engine_with(hourly(), Options::new());
    let issued = issue(&engine, "acme/x");
    let token = issued.token.expose();
    let change = |plan| {
        let update = KeyspaceUpdate::new().plan(plan);
        engine.update_keyspace("acme_live", update).unwrap();
    };
    assert_eq!(granted(&engine, token, 9), 3);
    for look in 0..4 {
        change(brief());
        match look {
            0 => {}
            1 => drop(engine.limits_left(issued.key.id).unwrap()),
            2 => drop(engine.dry_run(token, &Requirements::new()).unwrap()),
            _ => {
                let asked = Requirements::new().permission_mask(Permissions::ALL);
                assert!(!engine.verify_with(token, &asked).unwrap().is_granted());
            }
        }
        change(hourly());
        assert_eq!(granted(&engine, token, 9), 0, "{look}");
    }
}

/// Which of a key's own limits stands first is no matter of how they count.
#[test]
fn limits_of_a_key_go_on_in_another_order() {
    let (engine, _) = engine_with(Plan::new("p"), Options::new());
    let limits = [
        Limit::per_hour(3).fixed(),
        Limit::per_second(100),
        Limit::per_minute(90),
    ];
    let spec = NewKey::new("acme_live", "acme").unwrap();
    let issued = engine.issue(spec.limits(limits)).unwrap();
    assert_eq!(granted(&engine, issued.token.expose(), 9), 3);
    for order in orders(&limits) {
        let update = KeyUpdate::new().limits(order);
        engine.update(issued.key.id, update).unwrap();
        assert_eq!(granted(&engine, issued.token.expose(), 9), 0);
    }
}

#[test]
fn an_owner_with_many_keys_refuses_nobody_else() {
    let (engine, _) = engine_with(
        plan(&[Limit::per_hour(5)]),
        Options::new().limited_keys(100),
    );
    for _ in 0..1_000 {
        let issued = issue(&engine, "busy/one");
        granted(&engine, issued.token.expose(), 1);
    }
    for owner in 0..50 {
        let issued = issue(&engine, &format!("other-{owner}"));
        assert_eq!(granted(&engine, issued.token.expose(), 9), 5);
    }
    let stats = engine.stats().unwrap();
    assert!(stats.limited_keys <= 100);
    assert!(stats.limits_refused_for_room > 800, "{stats:?}");
    assert!(stats.limits_evicted > 0, "{stats:?}");
}

#[test]
fn a_window_opens_and_ends_by_the_exact_clock() {
    let (engine, clock) = engine_with(plan(&[Limit::per_second(3).fixed()]), Options::new());
    let issued = issue(&engine, "acme");
    let token = issued.token.expose();
    assert_eq!(granted(&engine, token, 1), 1);
    // Far from its end, by the coarse clock.
    clock.set(at(HOUR + 500));
    assert_eq!(granted(&engine, token, 1), 1);
    // It ended, which the coarse clock does not say yet: what is left of it is nobody's.
    clock.set(at(HOUR + 1_005));
    assert_eq!(granted(&engine, token, 9), 3);
    assert_eq!(rate_limited_at(&engine, token), at(HOUR + 2_005));
}

#[test]
fn windows_of_owners_open_and_end_by_the_exact_clock() {
    let (engine, clock) = engine_with(plan(&[Limit::per_hour(100).fixed()]), Options::new());
    for (owner, limit) in [
        ("acme", Limit::per_second(3).fixed()),
        ("acme/x", Limit::per_minute(90).fixed()),
    ] {
        let update = OwnerUpdate::new().limits([limit]);
        engine.update_owner("acme_live", owner, update).unwrap();
    }
    let issued = issue(&engine, "acme/x");
    let token = issued.token.expose();
    assert_eq!(granted(&engine, token, 1), 1);
    clock.set(at(HOUR + 500));
    assert_eq!(granted(&engine, token, 9), 2);
    clock.set(at(HOUR + 1_005));
    assert_eq!(granted(&engine, token, 9), 3);
    assert_eq!(rate_limited_at(&engine, token), at(HOUR + 2_005));
    let left = engine.limits_left(issued.key.id).unwrap();
    let left: Vec<_> = left.iter().map(|left| left.remaining()).collect();
    assert_eq!(
        left,
        [0, 84, 94],
        "who is refused at one level is counted at none"
    );
}

/// It is worked out when it is asked for, from what was counted then.
#[test]
fn where_a_grant_stands_is_as_of_its_charge_whatever_comes_after() {
    let limits = [
        Limit::per_hour(10).fixed(),
        Limit::per_minute(9),
        Limit::per_second(8).bucket(8),
    ];
    for count in 1..=limits.len() {
        let (engine, clock) = engine_with(plan(&limits[..count]), Options::new());
        let issued = issue(&engine, "acme");
        let verify = || {
            let verdict = engine.verify(issued.token.expose()).unwrap();
            verdict.into_result().unwrap()
        };
        let first = verify();
        let second = verify();
        let told = |grant: &gatekey::Grant| {
            let each = [grant.tightest_limit(), grant.longest_limit()];
            each.map(|left| left.map(|left| (left.limit(), left.remaining(), left.resets_at())))
        };
        let (tightest, longest) = (limits[count - 1], limits[0]);
        let before = told(&second);
        let [tight, long] = before.map(Option::unwrap);
        assert_eq!(
            (tight.0, long.0),
            (if count == 1 { longest } else { tightest }, longest)
        );
        assert_eq!((long.1, long.2), (8, at(2 * HOUR)));
        assert_ne!(first, second);
        assert_eq!(second, second.clone());
        clock.advance(Duration::from_secs(7_200));
        verify();
        assert_eq!(told(&second), before);
    }
}

#[test]
fn a_quota_is_refilled_by_the_exact_clock() {
    const DAY: u64 = 24 * HOUR;
    let (engine, clock) = engine_with(plan(&[Limit::per_hour(100)]), Options::new());
    let without_plan = NewKeyspace::new("acme_test").unwrap();
    engine.create_keyspace(without_plan).unwrap();
    let quota = Quota::new(5).refilled(Refill::Daily);
    let spec = NewKey::new("acme_test", "acme").unwrap().quota(quota);
    let issued = engine.issue(spec).unwrap();
    let token = issued.token.expose();
    clock.set(at(DAY - 1_000));
    assert_eq!(granted(&engine, token, 2), 2);
    // The coarse clock has yesterday, of which three are left.
    clock.set(at(DAY + 5));
    assert_eq!(granted(&engine, token, 9), 5);
}

#[test]
fn a_clock_that_was_ahead_and_is_corrected_blocks_nobody() {
    for limit in [
        Limit::per_hour(100).fixed(),
        Limit::per_hour(100),
        Limit::per_hour(100).bucket(100),
    ] {
        let (engine, clock) = engine_with(
            plan(&[limit]),
            Options::new().failed_attempts(Limit::per_hour(3)),
        );
        let issued = issue(&engine, "acme");
        let token = issued.token.expose();
        clock.set(at(2 * HOUR));
        assert_eq!(granted(&engine, token, 4), 4);
        let source = Requirements::new().source("192.0.2.7".parse().unwrap());
        for _ in 0..2 {
            let _ = engine.verify_with("typo", &source).unwrap();
        }
        // A commit takes the wrong instant in.
        engine.disable(issue(&engine, "other").key.id).unwrap();
        clock.set(at(HOUR));
        assert_eq!(granted(&engine, token, 100), 96, "{limit}");
        assert!(
            engine
                .verify_with(token, &source)
                .unwrap()
                .denial()
                .is_some_and(|denial| denial.code() == "rate_limited"),
            "a source with typos is not blocked"
        );
        // A wait that is obeyed is the last one.
        let told = rate_limited_at(&engine, token);
        assert!(told <= at(3 * HOUR), "{limit}");
        clock.set(told);
        assert!(granted(&engine, token, 1) == 1, "{limit}");
    }
}

/// A key that has 5 requests a refill, or whose owner has.
fn issue_with_quota(engine: &Engine, refill: Refill, is_owner_s: bool) -> Issued {
    let quota = Quota::new(5).refilled(refill);
    let mut spec = NewKey::new("acme_live", "acme/ingest").unwrap();
    if is_owner_s {
        let update = OwnerUpdate::new().quota(quota);
        engine.update_owner("acme_live", "acme", update).unwrap();
    } else {
        spec = spec.quota(quota);
    }
    engine.issue(spec).unwrap()
}

/// The refill that a key is told to wait for.
fn exhausted_until(engine: &Engine, token: &str) -> Timestamp {
    match engine.verify(token).unwrap() {
        Verdict::Denied(Denial::QuotaExhausted { refills_at, .. }) => refills_at.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_quota_that_a_wrong_clock_refilled_is_refilled_again_soon() {
    const DAY: u64 = 24 * HOUR;
    // By the days from the first of January on, when it would have been refilled, and
    // when it is: the refill before that was given early.
    let refills = [
        (Refill::Daily, 1, 2),
        (Refill::Monthly, 31, 59),
        (Refill::monthly_from(15).unwrap(), 14, 45),
    ];
    for (refill, given_early, next) in refills {
        for is_owner_s in [false, true] {
            let case = format!("{refill:?}, of an owner: {is_owner_s}");
            let (engine, clock) = engine_with(Plan::new("p"), Options::new());
            let issued = issue_with_quota(&engine, refill, is_owner_s);
            let token = issued.token.expose();
            assert_eq!(granted(&engine, token, 9), 5, "{case}");
            clock.set(at(400 * DAY));
            assert_eq!(granted(&engine, token, 4), 4, "{case}: by the wrong clock");
            clock.set(at(2 * HOUR));
            assert_eq!(
                granted(&engine, token, 9),
                1,
                "{case}: what is left, is left"
            );
            let told = exhausted_until(&engine, token);
            assert_eq!(told, at(next * DAY), "{case}");
            clock.set(at(given_early * DAY));
            assert_eq!(granted(&engine, token, 9), 0, "{case}");
            clock.set(told);
            assert_eq!(granted(&engine, token, 9), 5, "{case}");
        }
    }
}

/// As on a machine that serves before it knows the time.
#[test]
fn a_quota_is_not_given_again_after_a_clock_was_behind() {
    const DAY: u64 = 24 * HOUR;
    let refills = [
        Refill::Daily,
        Refill::Monthly,
        Refill::monthly_from(15).unwrap(),
    ];
    // By days, of which the right one is 444: one clock, and one that steps back once more.
    let clocks_behind: [&[u64]; 4] = [&[0], &[380], &[3, 0], &[380, 3]];
    for (refill, days) in refills
        .into_iter()
        .flat_map(|refill| clocks_behind.map(|days| (refill, days)))
    {
        for is_owner_s in [false, true] {
            let case = format!("{refill:?} {days:?}, of an owner: {is_owner_s}");
            let (engine, clock) = engine_with(Plan::new("p"), Options::new());
            let now = 444 * DAY + HOUR;
            clock.set(at(now));
            let issued = issue_with_quota(&engine, refill, is_owner_s);
            let token = issued.token.expose();
            assert_eq!(granted(&engine, token, 9), 5, "{case}");
            for day in days {
                clock.set(at(day * DAY));
                assert_eq!(granted(&engine, token, 1), 0, "{case}");
            }
            clock.set(at(now + HOUR));
            assert_eq!(granted(&engine, token, 9), 0, "{case}: given twice");
            let told = exhausted_until(&engine, token);
            let behind = told.saturating_since(at(now + HOUR));
            assert!(behind < Duration::from_millis(31 * DAY), "{case}: {told}");
            clock.set(told);
            assert_eq!(granted(&engine, token, 9), 5, "{case}");
        }
    }
}

/// The refill after the next is given, and the one after that has not been brought near: it
/// would be found to be given when it is due, and the wait be wrong.
#[test]
fn a_wait_that_is_told_after_a_clock_was_ahead_is_right_however_far_it_was() {
    const DAY: u64 = 24 * HOUR;
    for ahead in 1..9 {
        let (engine, clock) = engine_with(Plan::new("p"), Options::new());
        let issued = issue_with_quota(&engine, Refill::Daily, false);
        let token = issued.token.expose();
        clock.set(at(ahead * DAY));
        assert_eq!(granted(&engine, token, 9), 5);
        clock.set(at(HOUR));
        let told = exhausted_until(&engine, token);
        assert!(told <= at(3 * DAY), "{ahead}: {told}");
        clock.set(told.saturating_sub(Duration::from_millis(1)));
        assert_eq!(granted(&engine, token, 9), 0, "{ahead}");
        clock.set(told);
        assert_eq!(granted(&engine, token, 9), 5, "{ahead}");
    }
}

/// Also where the clock stepped back by less than a second, which no commit tells of.
#[test]
fn a_source_that_a_wrong_clock_blocked_waits_no_longer_than_it_is_told() {
    for ahead_ms in [700, HOUR] {
        let options = Options::new().failed_attempts(Limit::per_minute(3));
        let (engine, clock) = engine_with(plan(&[Limit::per_hour(100)]), options);
        let issued = issue(&engine, "acme");
        let source = Requirements::new().source("192.0.2.7".parse().unwrap());
        let verify = |token: &str| engine.verify_with(token, &source).unwrap();
        clock.set(at(HOUR + ahead_ms));
        for _ in 0..3 {
            assert!(!verify("typo").is_granted());
        }
        // A commit takes the wrong instant in.
        engine.disable(issue(&engine, "other").key.id).unwrap();
        clock.set(at(HOUR));
        let wait = match verify(issued.token.expose()) {
            Verdict::Denied(Denial::TooManyAttempts { retry_after, .. }) => retry_after,
            other => panic!("{other:?}"),
        };
        assert!(wait <= Duration::from_secs(120), "{ahead_ms}: {wait:?}");
        clock.advance(wait);
        assert!(verify(issued.token.expose()).is_granted(), "{ahead_ms}");
    }
}

#[test]
fn what_costs_more_than_the_whole_quota_is_not_told_to_wait() {
    let (engine, _) = engine_with(Plan::new("p"), Options::new());
    let quota = Quota::new(5).refilled(Refill::Daily);
    let spec = NewKey::new("acme_live", "acme").unwrap().quota(quota);
    let issued = engine.issue(spec).unwrap();
    for (cost, waits) in [(6, false), (5, true), (6, false)] {
        let asked = Requirements::new().cost(cost);
        match engine.verify_with(issued.token.expose(), &asked).unwrap() {
            Verdict::Denied(Denial::QuotaExhausted { refills_at, .. }) => {
                assert_eq!(refills_at.is_some(), waits, "{cost}");
            }
            Verdict::Granted(_) => assert_eq!(cost, 5),
            other => panic!("{other:?}"),
        }
    }
}
