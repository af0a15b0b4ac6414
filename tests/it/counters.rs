//! The counters of limits: which wait a refusal tells, and when a counter may go.

use std::time::Duration;

use gatekey::{
    Denial, Engine, Issued, KeyspaceUpdate, Limit, ManualClock, NewKey, NewKeyspace, Options, Plan,
    Requirements, Verdict,
};

use crate::common::{at, granted};

const HOUR: u64 = 3_600_000;

/// An engine at an hour of its clock, with a keyspace of one plan.
fn engine_with(plan: Plan, options: Options) -> (Engine, ManualClock) {
    let clock = ManualClock::at(at(HOUR));
    let options = options
        .clock(clock.clone())
        .resident_bytes(1 << 16)
        .usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let name = plan.name.clone();
    let keyspace = NewKeyspace::new("acme_live").unwrap().plan(plan);
    engine.create_keyspace(keyspace.default_plan(name)).unwrap();
    (engine, clock)
}

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
        Limit::per_day(50),
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
    for limits in orders(&[small, Limit::per_day(10), Limit::per_hour(10)]) {
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
            let no_room = (Limit::per_minute(6), Some(Duration::from_secs(1)));
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
    let (engine, clock) = engine_with(plan, Options::new().limited_keys(3));
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
fn keys_that_share_a_plan_share_it_after_it_was_changed_there_and_back() {
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
    assert_eq!([ask(&one, 9), ask(&two, 9), ask(&one, 1)], [9, 1, 0]);
}
