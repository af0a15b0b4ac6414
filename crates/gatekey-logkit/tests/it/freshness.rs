//! Servers that hear nothing of the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gatekey::fleet::{Beat, Freshness, Log as _};
use gatekey::{Engine, Error, Issued, Permissions, Reason, Requirements, Result, Verdict};

use crate::common::{LONG, Servers, granted, options, position, settings, until};

const LEASE: Duration = Duration::from_millis(400);

#[test]
fn a_server_that_is_cut_off_grants_nothing_after_its_lease_and_denies_nothing_either() {
    let servers = Servers::new(2, LEASE);
    let issued = servers.issue(0, "acme").unwrap();
    servers.settle();
    let cut = &servers.engines[1];
    until("it grants", || granted(cut, &issued) == Some(true));
    servers.logs[1].cut(true);
    until("it grants nothing", || granted(cut, &issued).is_none());
    // Neither a denial nor a grant, whatever is asked.
    for token in [issued.token.expose(), "no token"] {
        let error = cut.verify(token).unwrap_err();
        assert!(
            matches!(&error, Error::NotFresh { why: Some(_) }),
            "{error}"
        );
        let many = cut.verify_many(&[token], &Requirements::new());
        assert!(matches!(many[..], [Err(Error::NotFresh { .. })]));
    }
    assert!(!cut.fleet_status().unwrap().is_fresh);
    assert_eq!(
        (cut.health().is_fresh(), cut.health().is_ready()),
        (Some(false), false)
    );
    assert!(servers.engines[0].health().is_ready());
    let refused = servers.issue(1, "acme").unwrap_err();
    assert!(matches!(refused, Error::Log(_)), "{refused}");
    servers.logs[1].cut(false);
    until("it grants again", || granted(cut, &issued) == Some(true));
    servers.close_equal();
}

/// A revocation waits until a server that it cannot reach grants nothing any more.
#[test]
fn a_revocation_waits_for_the_lease_of_a_server_that_is_cut_off() {
    let servers = Servers::new(3, LEASE);
    for round in 0..6 {
        let issued = servers.issue(0, "acme").unwrap();
        servers.settle();
        let cut = &servers.engines[1];
        until("it grants", || granted(cut, &issued) == Some(true));
        servers.logs[1].cut(true);
        servers.engines[0]
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        assert_ne!(granted(cut, &issued), Some(true), "round {round}");
        assert_eq!(granted(&servers.engines[2], &issued), Some(false));
        servers.logs[1].cut(false);
    }
    servers.close_equal();
}

/// The lease counts from before the question: an answer that is late renews nothing.
#[test]
fn an_answer_that_comes_after_the_lease_renews_nothing() {
    let servers = Servers::new(2, LEASE);
    let issued = servers.issue(0, "acme").unwrap();
    servers.settle();
    let slow = &servers.engines[1];
    until("it grants", || granted(slow, &issued) == Some(true));
    // Half of it before the log is reached, half after.
    servers.logs[1].delay(LEASE * 3 / 4);
    until("it grants nothing", || granted(slow, &issued).is_none());
    let begun = Instant::now();
    while begun.elapsed() < LEASE * 6 {
        assert_eq!(granted(slow, &issued), None);
        std::thread::sleep(Duration::from_millis(1));
    }
    servers.logs[1].delay(Duration::ZERO);
    until("it grants again", || granted(slow, &issued) == Some(true));
    servers.close_equal();
}

/// A server that reaches the log and cannot apply what it has is not fresh.
#[test]
fn a_server_serves_stale_as_long_as_it_was_told_to() {
    let stale = |settings: gatekey::fleet::Settings| {
        settings.freshness(Freshness::ServeStale(LONG)).locally()
    };
    let servers = Servers::with(2, LONG, |options| options, stale);
    let issued = servers.issue(0, "acme").unwrap();
    servers.settle();
    servers.logs[1].cut(true);
    servers.engines[0]
        .revoke(issued.key.id, Reason::KeyCompromise)
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let cut = &servers.engines[1];
    assert_eq!(granted(cut, &issued), Some(true));
    let status = cut.fleet_status().unwrap();
    assert!(status.is_fresh && status.age.unwrap() >= Duration::from_millis(150));
    let at_least = status.age.unwrap();
    let ages = ages(cut, &issued);
    for age in &ages {
        assert!(age.is_some_and(|age| age >= at_least), "{ages:?}");
    }
    servers.logs[1].cut(false);
    until("it is denied", || granted(cut, &issued) == Some(false));
    let issued = servers.issue(1, "acme").unwrap();
    let two = &servers.engines[1];
    until("what it knows is new again", || {
        let mut ages = self::ages(two, &issued).into_iter();
        ages.all(|age| age.is_some_and(|age| age < at_least))
    });
    servers.close_equal();
}

/// How old the knowledge is by which a server grants a token, by each way of asking.
fn ages(engine: &Engine, issued: &Issued) -> Vec<Option<Duration>> {
    let (token, all) = (issued.token.expose(), Permissions::ALL);
    let any = Requirements::new();
    let extension = engine.extension("proofs").unwrap();
    let mut verdicts = vec![
        engine.verify(token).unwrap(),
        extension.vouch(issued.key.id, all, &any).unwrap(),
    ];
    let many = engine.verify_many(&[token, token], &any);
    verdicts.extend(many.into_iter().map(Result::unwrap));
    let age = |verdict: &Verdict| verdict.grant().unwrap().knowledge_age();
    verdicts.iter().map(age).collect()
}

#[test]
fn a_server_that_was_closed_is_not_waited_for() {
    let mut servers = Servers::new(2, LONG);
    let issued = servers.issue(0, "acme").unwrap();
    servers.engines.pop().unwrap().close().unwrap();
    let begun = Instant::now();
    servers.engines[0]
        .revoke(issued.key.id, Reason::KeyCompromise)
        .unwrap();
    assert!(begun.elapsed() < LONG / 2);
    let others = servers.engines[0].fleet_servers().unwrap();
    assert_eq!(others.len(), 1);
    assert!(position(&servers.engines[0]) > 0);
    servers.close_equal();
}

/// The database takes the answer of a heartbeat, and lets others see it later: who takes access
/// away meanwhile does not wait for the server.
#[test]
fn what_was_revoked_while_a_first_heartbeat_was_on_its_way_is_not_granted() {
    let mut servers = Servers::new(2, LONG);
    let issued = servers.issue(0, "acme").unwrap();
    servers.engines.pop().unwrap().close().unwrap();
    let (one, log) = (servers.engines[0].clone(), servers.logs[1].clone());
    let (key, slow) = (issued.key.id, log.clone());
    log.before_it_is_seen(move || {
        one.revoke(key, Reason::KeyCompromise).unwrap();
        slow.delay(Duration::from_millis(50));
    });
    let opened = options().fleet(settings(log.clone(), 1, LONG));
    let two = opened.join_fleet(servers.path(1)).unwrap();
    let verdict = two.verify(issued.token.expose()).unwrap();
    assert!(!verdict.is_granted());
    log.delay(Duration::ZERO);
    servers.engines.push(two);
    servers.close_equal();
}

/// Who finds a key revoked by a call that still waits for a server, waits for it as well.
#[test]
fn a_call_that_finds_a_key_revoked_waits_as_the_one_that_revoked_it() {
    let servers = Servers::new(3, LEASE);
    let calls: [fn(&Engine, &Issued) -> Result<()>; 4] = [
        |engine, issued| engine.revoke(issued.key.id, Reason::Cessation).map(drop),
        |engine, issued| {
            let token = issued.token.expose();
            engine.revoke_token(token, Reason::Cessation).map(drop)
        },
        |engine, _| engine.revoke_owner("acme", Reason::Cessation).map(drop),
        |engine, _| engine.suspend("acme", None).map(drop),
    ];
    for (round, call) in calls.iter().enumerate() {
        let issued = servers.issue(0, "acme").unwrap();
        servers.settle();
        let [one, other, slow] = &servers.engines[..] else {
            panic!("three");
        };
        until("it grants", || granted(slow, &issued) == Some(true));
        servers.logs[2].cut(true);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| one.revoke(issued.key.id, Reason::KeyCompromise));
            until("it is denied", || granted(other, &issued) == Some(false));
            call(other, &issued).unwrap();
            assert_ne!(granted(slow, &issued), Some(true), "round {round}");
            first.join().unwrap().unwrap();
        });
        servers.logs[2].cut(false);
    }
    servers.close_equal();
}

/// A server beats, and applies nothing any more.
#[test]
fn a_call_that_finds_a_key_revoked_long_ago_does_not_wait_for_a_server_that_is_stuck() {
    const LEASE: Duration = Duration::from_secs(2);
    let servers = Servers::new(1, LEASE);
    let issued = servers.issue(0, "acme").unwrap();
    let stuck = Beat {
        node: "stuck".to_owned(),
        position: 0,
        ..servers.log.nodes().unwrap().remove(0).beat
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                servers.log.beat(&stuck).unwrap();
                std::thread::sleep(LEASE / 20);
            }
        });
        until("it beats", || servers.log.nodes().unwrap().len() == 2);
        let revoke = || {
            let begun = Instant::now();
            let revoked = servers.engines[0].revoke(issued.key.id, Reason::Cessation);
            revoked.map(|_| begun.elapsed())
        };
        let (first, second) = (revoke(), revoke());
        is_over.store(true, Ordering::SeqCst);
        assert!(first.unwrap() >= LEASE);
        assert!(second.unwrap() < LEASE / 2);
    });
    servers.log.forget("stuck").unwrap();
    servers.close_equal();
}
