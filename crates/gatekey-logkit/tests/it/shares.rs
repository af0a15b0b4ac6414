//! Limits that are for the fleet: each server takes its share, by how many servers beat.

use std::time::Instant;

use gatekey::{
    Denial, Engine, Issued, KeyUpdate, KeyspaceUpdate, LevelDefaults, Limit, NewKey, NewKeyspace,
    OpenError, OwnerUpdate, Plan, Quota, Reason, Requirements, Rotation, Token,
};

use crate::common::{LONG, Servers, granted, options, position, settings, until};

/// How many requests of a cost a server admits in a row.
fn admits(engine: &Engine, issued: &Issued, cost: u32) -> u32 {
    let requirements = Requirements::new().cost(cost);
    let mut admitted = 0;
    loop {
        let verdict = engine
            .verify_with(issued.token.expose(), &requirements)
            .unwrap();
        match verdict.denial() {
            None => admitted += 1,
            Some(Denial::RateLimited { .. }) => return admitted,
            Some(other) => panic!("{other:?}"),
        }
        assert!(admitted < 10_000);
    }
}

impl Servers {
    /// Waits until all divide by so many servers.
    fn count(&self, servers: u64) {
        until("all have heard how many there are", || {
            let heard = |engine: &Engine| engine.fleet_status().unwrap().servers == servers;
            self.engines.iter().all(heard)
        });
    }

    fn join(&mut self, node: usize) {
        let settings = settings(self.log.clone(), node, LONG);
        let joined = options().fleet(settings).join_fleet(self.path(node));
        self.engines.push(joined.unwrap());
    }

    /// Lets every server know a key.
    fn known(&self, issued: &Issued) {
        self.settle();
        for engine in &self.engines {
            assert!(engine.key(issued.key.id).is_ok());
        }
    }
}

fn fleet_of(requests: u32) -> Limit {
    Limit::per_hour(requests).fixed().for_fleet()
}

/// Whichever level has the limit, and wherever that is kept: each server is told of another
/// number of servers and counts on.
#[test]
fn servers_share_a_limit_of_every_level_and_share_it_anew_as_servers_come_and_go() {
    let mut servers = Servers::new(3, LONG);
    servers.count(3);
    let first = servers.engines[0].clone();
    let plans = KeyspaceUpdate::new()
        .plan(Plan::new("own").limit(fleet_of(90)))
        .plan(Plan::new("shared").limit(fleet_of(90)).shared_by_owner())
        .plan(Plan::new("servers").limit(Limit::per_hour(90).fixed()))
        .owner_defaults(2, LevelDefaults::new().plan("own"));
    first.update_keyspace("acme_live", plans).unwrap();
    let own = OwnerUpdate::new().limits([fleet_of(90)]);
    first.update_owner("acme_live", "limits", own).unwrap();
    let plan = OwnerUpdate::new().plan("own");
    first.update_owner("acme_live", "plan", plan).unwrap();
    // Where no plan is for the fleet.
    let keyspace = NewKeyspace::new("other_live").unwrap();
    first.create_keyspace(keyspace).unwrap();
    let own = OwnerUpdate::new().limits([fleet_of(90)]);
    first.update_owner("other_live", "limits", own).unwrap();
    let issue = |new: NewKey| first.issue(new).unwrap();
    let new = |owner: &str| NewKey::new("acme_live", owner).unwrap();
    let kinds = [
        ("the key's plan", issue(new("a").plan("own"))),
        ("a shared plan", issue(new("b").plan("shared"))),
        (
            "limits of the key's own",
            issue(new("c").limits([fleet_of(90)])),
        ),
        ("limits of the owner's own", issue(new("limits"))),
        (
            "the same",
            issue(NewKey::new("other_live", "limits").unwrap()),
        ),
        ("the owner's plan", issue(new("plan"))),
        ("a level's default", issue(new("d/e"))),
    ];
    let of_each = issue(new("each").plan("servers"));
    servers.known(&of_each);
    for (kind, issued) in &kinds {
        let mut total = 0;
        for engine in &servers.engines {
            // Before the first request, and after it.
            let left = engine.limits_left(issued.key.id).unwrap();
            assert_eq!(
                (left[0].limit(), left[0].remaining()),
                (Limit::per_hour(30).fixed(), 30)
            );
            total += admits(engine, issued, 2) + admits(engine, issued, 1);
            let left = engine.limits_left(issued.key.id).unwrap();
            assert_eq!(
                (left[0].limit(), left[0].remaining()),
                (Limit::per_hour(30).fixed(), 0)
            );
        }
        assert_eq!(total, 45, "{kind}");
    }
    for engine in &servers.engines {
        assert_eq!(admits(engine, &of_each, 1), 90);
    }
    servers.engines.pop().unwrap().close().unwrap();
    servers.count(2);
    for (kind, issued) in &kinds {
        for engine in &servers.engines {
            // Half of the limit is 45, of which 30 are used.
            assert_eq!(admits(engine, issued, 1), 15, "{kind}");
        }
    }
    servers.join(3);
    servers.count(3);
    servers.settle();
    for (kind, issued) in &kinds {
        let counts = servers
            .engines
            .iter()
            .map(|engine| admits(engine, issued, 1));
        assert_eq!(counts.collect::<Vec<_>>(), [0, 0, 30], "{kind}");
    }
    servers.close_equal();
}

/// The bound of `docs/FLEET.md`: as many of the largest share as servers have served, also
/// where they come and go in the middle of a window.
#[test]
fn a_fleet_of_servers_that_come_and_go_admits_no_more_than_the_bound() {
    let begun = Instant::now();
    let mut servers = Servers::new(3, LONG);
    let limits = [
        Limit::per_hour(300).fixed().for_fleet(),
        Limit::per_hour(300).for_fleet(),
        Limit::per_hour(300).bucket(200).for_fleet(),
    ];
    let new = |limit: Limit| NewKey::new("acme_live", "acme").unwrap().limits([limit]);
    let keys = limits.map(|limit| servers.engines[0].issue(new(limit)).unwrap());
    servers.settle();
    servers.count(3);
    let mut totals = [0_u64; 3];
    let (mut there, mut fewest, mut random) = (3_u64, 3_u64, 7_u64);
    for round in 0..40 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round);
        let open = servers.engines.len();
        match random >> 60 {
            0..3 if open < 5 => {
                servers.join(10 + usize::try_from(round).unwrap());
                there += 1;
            }
            3..6 if open > 2 => servers.engines.remove(0).close().unwrap(),
            // Some are asked before they have heard of it, and some after.
            6..9 => servers.count(open as u64),
            _ => {}
        }
        fewest = fewest.min(servers.engines.len() as u64);
        for engine in &servers.engines {
            for (issued, total) in keys.iter().zip(&mut totals) {
                let cost = u32::try_from(random >> 50 & 7).unwrap();
                for _ in 0..5 {
                    let requirements = Requirements::new().cost(cost);
                    let verdict = engine.verify_with(issued.token.expose(), &requirements);
                    if verdict.unwrap().is_granted() {
                        *total += u64::from(cost);
                    }
                }
            }
        }
    }
    let elapsed = begun.elapsed().as_secs() + 1;
    assert!(elapsed < 3_600);
    let drained = |requests: u64| requests * elapsed / 3_600 + 1;
    let share = |of: u64| of / fewest;
    let bounds = [
        // The window of each server is opened by its first request, and does not end here.
        there * share(300),
        there * (share(300) + drained(share(300))),
        there * (share(200) + drained(share(300))),
    ];
    for ((total, bound), limit) in totals.into_iter().zip(bounds).zip(limits) {
        assert!(
            total <= bound,
            "{total} of {bound} by {there} servers: {limit}"
        );
    }
    assert!(totals.iter().all(|total| *total > 200), "{totals:?}");
    servers.close_equal();
}

#[test]
fn a_share_is_one_at_least_and_what_costs_more_is_never_admitted() {
    let servers = Servers::new(3, LONG);
    servers.count(3);
    let issue = |limit: Limit| {
        let new = NewKey::new("acme_live", "acme").unwrap().limits([limit]);
        let issued = servers.engines[0].issue(new).unwrap();
        servers.known(&issued);
        issued
    };
    let few = issue(fleet_of(2));
    for engine in &servers.engines {
        assert_eq!(admits(engine, &few, 1), 1);
    }
    let bucket = issue(Limit::per_hour(9).bucket(2).for_fleet());
    let [first, second, _] = &servers.engines[..] else {
        panic!("three servers");
    };
    let left = first.limits_left(bucket.key.id).unwrap();
    assert_eq!(left[0].limit(), Limit::per_hour(3).bucket(1));
    let dear = issue(fleet_of(30));
    let requirements = Requirements::new().cost(11);
    let standing = first.dry_run(dear.token.expose(), &requirements).unwrap();
    let verdict = second
        .verify_with(dear.token.expose(), &requirements)
        .unwrap();
    for denial in [standing.denial.as_ref(), verdict.denial()] {
        let Some(Denial::RateLimited {
            status,
            retry_after,
            ..
        }) = denial
        else {
            panic!("{denial:?}");
        };
        assert_eq!(status.limit(), Limit::per_hour(10).fixed());
        assert_eq!(*retry_after, None);
    }
    servers.close_equal();
}

/// However small it is, and whoever was asked first.
#[test]
fn no_server_takes_most_of_a_quota_and_all_of_it_can_be_used() {
    let servers = Servers::new(3, LONG);
    servers.count(3);
    for quota in [1, 2, 10, 100, 300] {
        let new = NewKey::new("acme_live", "acme").unwrap();
        let new = new.quota(Quota::new(quota));
        let issued = servers.engines[0].issue(new).unwrap();
        servers.known(&issued);
        let spends = |engine: &Engine, at_most: u64| {
            let grants = |_: &u64| granted(engine, &issued) == Some(true);
            (0..at_most).take_while(grants).count() as u64
        };
        let [first, second, third] = &servers.engines[..] else {
            panic!("three servers");
        };
        assert_eq!(spends(first, 1), 1);
        // The first has no more of it now than one in twelve, or one that it has taken ahead.
        let others = spends(second, quota) + spends(third, quota);
        let first_has = (quota / 12).saturating_sub(1).max(1);
        assert!(others + 1 + first_has >= quota, "{others} of {quota}");
        let rest = spends(first, quota);
        assert_eq!(1 + others + rest, quota);
    }
    servers.close_equal();
}

/// However long the log takes: whoever waits here, waits until the next slice is there.
#[test]
fn requests_find_the_slice_that_was_taken_ahead() {
    let mut servers = Servers::new(2, LONG);
    servers.count(2);
    let new = NewKey::new("acme_live", "acme").unwrap();
    let new = new.quota(Quota::new(100_000));
    let issued = servers.engines[0].issue(new).unwrap();
    servers.known(&issued);
    let engine = servers.engines.remove(0);
    let spend = |cost: u32| {
        let requirements = Requirements::new().cost(cost);
        let verdict = engine.verify_with(issued.token.expose(), &requirements);
        assert!(verdict.unwrap().is_granted());
    };
    let waited = || engine.metrics().unwrap().quota_slices;
    spend(1);
    assert_eq!(waited(), 1);
    // Half of a slice of 1,000, then one each time.
    let mut spent = 1;
    for costs in [5, 10, 10, 10, 10, 10] {
        let before = position(&engine);
        for _ in 0..costs {
            spend(100);
            spent += 100;
        }
        until("a slice was taken ahead", || position(&engine) > before);
    }
    assert_eq!(waited(), 1);
    let left = engine.quotas_left(issued.key.id).unwrap();
    assert_eq!(left[0].status().remaining, 100_000 - spent);
    // What is not used goes back.
    engine.close().unwrap();
    servers.settle();
    let quota = || {
        servers.engines[0]
            .key(issued.key.id)
            .unwrap()
            .quota
            .unwrap()
    };
    assert_eq!(quota().remaining, 100_000 - spent);
    // Nothing is taken of a quota that nobody spends.
    let before = position(&servers.engines[0]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(position(&servers.engines[0]), before);
    servers.close_equal();
}

/// Memory knows that a quota is used up, until it hears that another server has put some back.
#[test]
fn what_a_server_puts_back_is_granted_by_one_that_found_a_quota_used_up() {
    let mut servers = Servers::new(2, LONG);
    servers.count(2);
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = servers.engines[0]
        .issue(new.quota(Quota::new(100)))
        .unwrap();
    servers.known(&issued);
    let first = servers.engines.remove(0);
    assert_eq!(granted(&first, &issued), Some(true));
    let second = servers.engines[0].clone();
    let spends = || {
        (0..100)
            .filter(|_| granted(&second, &issued) == Some(true))
            .count()
    };
    let spent = spends();
    assert!((80..99).contains(&spent), "{spent}");
    assert_eq!(granted(&second, &issued), Some(false));
    first.close().unwrap();
    servers.settle();
    let quota = second.key(issued.key.id).unwrap().quota.unwrap();
    // A slice that was taken ahead meanwhile is not counted there.
    let left = 1..=99 - spent as u64;
    assert!(left.contains(&quota.remaining), "{}", quota.remaining);
    assert_eq!(spends(), 99 - spent);
    servers.close_equal();
}

/// A settlement takes no more ahead than a request does.
#[test]
fn what_is_settled_leaves_the_rest_of_a_quota_to_other_servers() {
    let servers = Servers::new(2, LONG);
    servers.count(2);
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = servers.engines[0]
        .issue(new.quota(Quota::new(1_000)))
        .unwrap();
    servers.known(&issued);
    let [first, second] = &servers.engines[..] else {
        panic!("two servers");
    };
    let later = Requirements::new().settled_later();
    let verdict = first.verify_with(issued.token.expose(), &later).unwrap();
    let grant = verdict.into_result().unwrap();
    first.settle(grant.charge().unwrap(), 500).unwrap();
    servers.settle();
    let dear = Requirements::new().cost(430);
    let verdict = second.verify_with(issued.token.expose(), &dear).unwrap();
    assert!(verdict.is_granted(), "{verdict:?}");
    servers.close_equal();
}

/// What the numbers of a limit are of can be changed, and what was counted counts on.
#[test]
fn a_limit_that_becomes_the_fleets_counts_on() {
    let servers = Servers::new(2, LONG);
    servers.count(2);
    let first = &servers.engines[0];
    let limit = Limit::per_hour(40).fixed();
    let new = NewKey::new("acme_live", "acme").unwrap().limits([limit]);
    let issued = first.issue(new).unwrap();
    for _ in 0..15 {
        assert_eq!(granted(first, &issued), Some(true));
    }
    let update = KeyUpdate::new().limits([limit.for_fleet()]);
    let key = first.update(issued.key.id, update).unwrap();
    assert_eq!(key.limits, Some(vec![limit.for_fleet()]));
    assert_eq!(admits(first, &issued, 1), 5);
    let update = KeyUpdate::new().limits([limit]);
    first.update(issued.key.id, update).unwrap();
    assert_eq!(admits(first, &issued, 1), 20);
    servers.close_equal();
}

/// Alone, a server has all of it; and what counts failed attempts is no limit of a fleet.
#[test]
fn an_engine_without_a_fleet_takes_all_of_a_limit() {
    let engine = options().open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = NewKey::new("acme_live", "acme")
        .unwrap()
        .limits([fleet_of(9)]);
    let issued = engine.issue(new).unwrap();
    assert_eq!(admits(&engine, &issued, 1), 9);
    engine.close().unwrap();
    let refused = options().failed_attempts(fleet_of(9)).open_in_memory();
    assert!(matches!(
        refused,
        Err(gatekey::Error::Open {
            reason: OpenError::Options(_),
            ..
        })
    ));
}

/// A server frees the counter of what another has revoked.
#[test]
fn every_server_gives_a_place_back_with_the_last_key_of_its_lineage() {
    let servers = Servers::with(2, LONG, |with| with.limited_keys(50), |with| with);
    let [one, other] = [0, 1].map(|node| &servers.engines[node]);
    let limited = KeyspaceUpdate::new()
        .plan(Plan::new("p").limit(Limit::per_hour(9).fixed()))
        .default_plan("p");
    one.update_keyspace("acme_live", limited).unwrap();
    let used = |token: &Token| {
        servers.settle();
        for engine in &servers.engines {
            assert!(engine.verify(token.expose()).unwrap().is_granted());
        }
    };
    let counted = |expected: usize| {
        servers.settle();
        until("the counters of each server are as many", || {
            let of = |engine: &Engine| engine.stats().unwrap().limited_keys == expected;
            servers.engines.iter().all(of)
        });
    };
    let stays = servers.issue(1, "stays").unwrap();
    used(&stays.token);
    let old = servers.issue(0, "acme").unwrap();
    used(&old.token);
    let grace = Rotation::with_grace(LONG);
    let new = other.rotate(old.key.id, grace).unwrap();
    used(&new.token);
    counted(2);
    one.revoke(old.key.id, Reason::Superseded).unwrap();
    counted(2);
    used(&new.token);
    one.revoke(new.key.id, Reason::Cessation).unwrap();
    counted(1);
    // Of many at once: they are brought up by each server for itself.
    let many: Vec<_> = (0..20).map(|_| servers.issue(1, "acme").unwrap()).collect();
    many.iter().for_each(|issued| used(&issued.token));
    counted(21);
    other.revoke_owner("acme", Reason::Cessation).unwrap();
    counted(1);
    used(&stays.token);
    servers.close_equal();
}
