//! A pepper that is given to one server after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gatekey::{Engine, Error, Issued, NewKey, OpenError, Options, Pepper, Reason};

use crate::common::{Servers, granted, keys_of, options, position, settings, until};

/// A new pepper waits for as long.
const LEASE: Duration = Duration::from_secs(2);

fn second() -> Pepper {
    Pepper::new(2, b"32 other bytes from that manager").unwrap()
}

fn with_both() -> Options {
    options().pepper(second())
}

/// Ends a server without a word to the others, and starts it anew.
fn restart(servers: &mut Servers, node: usize, options: Options) {
    let log = servers.logs[node].clone();
    log.cut(true);
    drop(servers.engines.remove(node));
    log.cut(false);
    let opened = options.fleet(settings(log, node, LEASE));
    let opened = opened.join_fleet(servers.path(node)).unwrap();
    servers.engines.insert(node, opened);
}

/// The pepper that signs, and how many keys have another one.
fn signing(engine: &Engine) -> (u8, u64) {
    let peppers = engine.peppers().unwrap();
    let signing = peppers.iter().find(|of| of.is_signing).unwrap();
    let others = peppers.iter().filter(|of| !of.is_signing);
    (signing.pepper, others.map(|of| of.keys).sum())
}

fn until_granted_by_all(servers: &Servers, issued: &Issued) {
    for engine in &servers.engines {
        until("it is granted", || granted(engine, issued) == Some(true));
    }
}

#[test]
fn a_new_pepper_signs_once_all_servers_have_it_and_the_old_one_goes_then() {
    let mut servers = Servers::new(3, LEASE);
    let old = servers.issue(1, "acme").unwrap();
    for node in 0..3 {
        assert_eq!(signing(&servers.engines[0]), (1, 0), "before {node} has it");
        restart(&mut servers, node, with_both());
        for by in 0..3 {
            let issued = servers.issue(by, "acme").unwrap();
            until_granted_by_all(&servers, &issued);
        }
        until_granted_by_all(&servers, &old);
    }
    for engine in &servers.engines {
        until("all sign with the new one", || signing(engine).0 == 2);
    }
    let told = servers.engines[0].fleet_servers().unwrap();
    let has_both = |it: &gatekey::fleet::Server| it.peppers.as_deref() == Some(&[2, 1][..]);
    assert!(told.iter().all(has_both), "{told:?}");
    let new = servers.issue(2, "acme").unwrap();
    until_granted_by_all(&servers, &new);

    // The old one is needed until no key has it.
    let without = || {
        let options = Options::new().pepper(second());
        options.resident_bytes(0).usage_interval(None)
    };
    drop(servers.engines.pop().unwrap());
    let settings = settings(servers.log.clone(), 2, LEASE);
    let refused = without().fleet(settings).join_fleet(servers.path(2));
    let missing = |error: &Error| {
        matches!(
            error,
            Error::Open {
                reason: OpenError::MissingPepper { id: 1, .. },
                ..
            }
        )
    };
    assert!(refused.as_ref().is_err_and(missing), "{refused:?}");
    let (one, two) = (&servers.engines[0], &servers.engines[1]);
    for key in keys_of(one) {
        if key.id != old.key.id && key.id != new.key.id {
            one.revoke(key.id, Reason::Cessation).unwrap();
        }
    }
    until("it is granted", || granted(one, &old) == Some(true));
    one.flush().unwrap();
    assert_eq!(signing(one), (2, 0));
    until("all is applied", || position(two) == position(one));
    let path = servers.path(2);
    let log = servers.logs[2].clone();
    let third = with_both().fleet(crate::common::settings(log, 2, LEASE));
    servers.engines.push(third.join_fleet(path).unwrap());
    servers.settle();
    for node in 0..3 {
        restart(&mut servers, node, without());
        let issued = servers.issue(node, "acme").unwrap();
        for token in [&issued, &new, &old] {
            until_granted_by_all(&servers, token);
        }
    }
    servers.close_equal();
}

/// One that has both begins again while others have the new one alone, and one that has only
/// the old one is there, though it cannot be fresh.
#[test]
fn nobody_signs_with_an_older_pepper_again() {
    let mut servers = Servers::new(3, LEASE);
    for node in 0..3 {
        restart(&mut servers, node, with_both());
    }
    let (one, late) = (&servers.engines[0], servers.path(2));
    until("the new one signs", || signing(one).0 == 2);
    servers.settle();
    // As it is before a key has the new one.
    let log = servers.logs[2].clone();
    log.cut(true);
    drop(servers.engines.pop().unwrap());
    log.cut(false);
    let issued = servers.issue(0, "acme").unwrap();
    let behind = options()
        .fleet(settings(log, 2, LEASE))
        .join_fleet(&late)
        .unwrap();
    until("it says why", || {
        behind.fleet_status().unwrap().error.is_some()
    });
    let why = behind.fleet_status().unwrap().error.unwrap().to_string();
    assert!(
        why.contains("pepper 2, which this one does not have"),
        "{why}"
    );
    assert_eq!(granted(&behind, &issued), None);
    for _ in 0..2 {
        restart(&mut servers, 0, with_both());
        let issued = servers.issue(0, "acme").unwrap();
        assert_eq!(signing(&servers.engines[0]).0, 2);
        until_granted_by_all(&servers, &issued);
    }
    drop(behind);
    let log = servers.logs[2].clone();
    let again = with_both()
        .fleet(settings(log, 2, LEASE))
        .join_fleet(&late)
        .unwrap();
    servers.engines.push(again);
    until_granted_by_all(&servers, &issued);
    servers.close_equal();
}

/// While one server gets it after the other, no key is issued that another cannot read.
#[test]
fn no_change_under_way_is_of_a_pepper_that_others_lack() {
    let mut servers = Servers::new(2, LEASE);
    restart(&mut servers, 0, with_both());
    let busy = servers.engines.remove(0);
    let is_over = AtomicBool::new(false);
    let issue = || {
        let mut issued = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let key = NewKey::new("acme_live", "acme").unwrap();
            issued.push(busy.issue(key).unwrap());
        }
        issued
    };
    std::thread::scope(|scope| {
        let issuing = [scope.spawn(issue), scope.spawn(issue)];
        let log = servers.logs[1].clone();
        log.cut(true);
        drop(servers.engines.pop().unwrap());
        log.cut(false);
        let other = with_both().fleet(settings(log, 1, LEASE));
        servers
            .engines
            .push(other.join_fleet(servers.path(1)).unwrap());
        until("the new one signs", || signing(&busy).0 == 2);
        std::thread::sleep(Duration::from_millis(50));
        is_over.store(true, Ordering::Relaxed);
        let issued = issuing.into_iter().flat_map(|it| it.join().unwrap());
        let issued: Vec<_> = issued.collect();
        let other = &servers.engines[0];
        until("the other has all", || position(other) >= position(&busy));
        for issued in &issued {
            for engine in [other, &busy] {
                until("it is granted", || granted(engine, issued) == Some(true));
            }
        }
    });
    servers.engines.insert(0, busy);
    servers.close_equal();
}

/// Not even its first change, whose heartbeat is the first that the log answers.
#[test]
fn a_server_that_opens_while_the_log_is_away_signs_with_what_the_others_have() {
    let mut servers = Servers::new(2, LEASE);
    let log = servers.logs[0].clone();
    drop(servers.engines.remove(0));
    log.cut(true);
    let opened = with_both().fleet(settings(log.clone(), 0, LEASE));
    servers
        .engines
        .insert(0, opened.join_fleet(servers.path(0)).unwrap());
    servers.issue(0, "acme").unwrap_err();
    log.cut(false);
    let issued = loop {
        // The heartbeats rest between two failures.
        match servers.issue(0, "acme") {
            Ok(issued) => break issued,
            Err(Error::Log(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(signing(&servers.engines[0]), (1, 0));
    until_granted_by_all(&servers, &issued);
    servers.close_equal();
}

/// Secrets that were drawn on each host, or a newline at the end of one.
#[test]
fn a_pepper_with_another_secret_elsewhere_does_not_sign() {
    let mut servers = Servers::new(2, LEASE);
    restart(&mut servers, 0, with_both());
    let other = Pepper::new(2, b"32 other bytes from that manager\n").unwrap();
    restart(&mut servers, 1, options().pepper(other));
    let begun = Instant::now();
    while begun.elapsed() < 2 * LEASE {
        for node in 0..2 {
            let issued = servers.issue(node, "acme").unwrap();
            until_granted_by_all(&servers, &issued);
            assert_eq!(signing(&servers.engines[node]), (1, 0));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    servers.close_equal();
}
