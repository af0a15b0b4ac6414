//! Changes that are too large for an entry, whose records are in a body.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use gatekey::fleet::{ENTRY_LEN_MAX, Entries, Log as _, PART_LEN_MAX};
use gatekey::{Engine, Error, Issued, Reason};

use crate::common::{LONG, MANY, Servers, granted, keys_of, options, position, settings, until};

/// The body that the entry at a position names: its id, and how many parts it has.
fn named(servers: &Servers, position: u64) -> ([u8; 16], u32) {
    let Entries::Found(found) = servers.log.read(position - 1, 1).unwrap() else {
        panic!("trimmed");
    };
    let entry = &found[0];
    assert_eq!((entry[1], entry.len()), (2, 164), "it has no body");
    let len = u64::from_le_bytes(entry[88..96].try_into().unwrap());
    assert!(len > ENTRY_LEN_MAX as u64);
    let parts = u32::from_le_bytes(entry[96..100].try_into().unwrap());
    assert_eq!(u64::from(parts), len.div_ceil(PART_LEN_MAX as u64));
    (entry[72..88].try_into().unwrap(), parts)
}

fn all_granted(engine: &Engine, issued: &[Issued]) -> bool {
    issued.iter().all(|key| granted(engine, key) == Some(true))
}

#[test]
fn a_large_change_is_on_all_servers() {
    let servers = Servers::new(3, LONG);
    let issued = servers.issue_many(1, "acme").unwrap();
    servers.settle();
    let (_, parts) = named(&servers, position(&servers.engines[0]));
    assert!(parts > 1, "{parts}");
    for engine in &servers.engines {
        assert!(all_granted(engine, &issued));
    }
    // What is small has none, before and after.
    let one = servers.issue(2, "acme").unwrap();
    servers.engines[0]
        .revoke(one.key.id, Reason::KeyCompromise)
        .unwrap();
    for engine in &servers.engines {
        assert_eq!(granted(engine, &one), Some(false));
    }
    servers.engines[2]
        .revoke_owner("acme", Reason::KeyCompromise)
        .unwrap();
    for engine in &servers.engines {
        let is_denied = |key| granted(engine, key) == Some(false);
        assert!(issued.iter().all(is_denied));
    }
    servers.close_equal();
}

/// By the entries, and by a snapshot, after which the log has neither entry nor body.
#[test]
fn a_server_that_comes_later_has_a_large_change() {
    let mut servers = Servers::new(2, LONG);
    servers.engines.pop().unwrap().close().unwrap();
    let issued = servers.issue_many(0, "acme").unwrap();
    let at = position(&servers.engines[0]);
    let (id, parts) = named(&servers, at);
    let settings_of = |node| settings(servers.log.clone(), node, LONG);
    let back = options()
        .fleet(settings_of(1))
        .open(servers.path(1))
        .unwrap();
    assert!(all_granted(&back, &issued));
    servers.engines.push(back);

    servers.issue(0, "acme").unwrap();
    servers.engines[0].put_fleet_snapshot().unwrap();
    servers.issue(0, "acme").unwrap();
    let body = |part| servers.log.body(at - 1, &id, part).unwrap();
    assert!((0..parts).all(|part| body(part).is_some()));
    // Up to the entry before: it stays, and its body.
    servers.engines[0].trim_fleet_log(at - 1).unwrap();
    assert!((0..parts).all(|part| body(part).is_some()));
    servers.engines[0].trim_fleet_log(at).unwrap();
    assert!((0..parts).all(|part| body(part).is_none()));
    let settings_of = settings(servers.log.clone(), 2, LONG);
    let new = options()
        .fleet(settings_of)
        .join_fleet(servers.path(2))
        .unwrap();
    assert!(all_granted(&new, &issued));
    servers.engines.push(new);
    servers.close_equal();
}

/// Lets another server do something each time that it is asked to, and waits for it.
struct Other(Sender<()>, Receiver<()>);

impl Other {
    /// The other half has a thread do it.
    fn new() -> (Self, (Receiver<()>, Sender<()>)) {
        let (ask, asked) = channel();
        let (did, done) = channel();
        (Self(ask, done), (asked, did))
    }

    fn act(&self) {
        self.0.send(()).unwrap();
        self.1.recv().unwrap();
    }
}

#[test]
fn a_large_change_that_was_overtaken_runs_again() {
    let servers = Servers::new(2, LONG);
    let (other, (asked, did)) = Other::new();
    let turns = AtomicUsize::new(0);
    servers.logs[0].before_appends(move || {
        if turns.fetch_add(1, Ordering::SeqCst) < 2 {
            other.act();
        }
    });
    let issued = std::thread::scope(|scope| {
        let servers = &servers;
        scope.spawn(move || {
            for () in asked.iter().take(2) {
                servers.issue(1, "other").unwrap();
                did.send(()).unwrap();
            }
        });
        servers.issue_many(0, "acme").unwrap()
    });
    assert_eq!(servers.engines[0].fleet_status().unwrap().overtaken, 2);
    servers.settle();
    for engine in &servers.engines {
        assert_eq!(keys_of(engine).len(), MANY + 2);
        assert!(all_granted(engine, &issued));
    }
    servers.close_equal();
}

/// The rest of a body is not put once it is known that its entry comes too late.
#[test]
fn a_large_change_that_will_be_overtaken_puts_no_more_of_its_body() {
    let servers = Servers::new(2, LONG);
    servers.settle();
    let before = position(&servers.engines[0]);
    let (other, (asked, did)) = Other::new();
    let put = Arc::new(Mutex::new(Vec::new()));
    let notes = put.clone();
    servers.logs[0].before_bodies(move |part| {
        let mut notes = notes.lock().unwrap();
        if notes.is_empty() {
            other.act();
        }
        notes.push(part);
    });
    std::thread::scope(|scope| {
        let servers = &servers;
        scope.spawn(move || {
            asked.recv().unwrap();
            servers.issue(1, "other").unwrap();
            until("it is heard of", || {
                position(&servers.engines[0]) == before + 1
            });
            did.send(()).unwrap();
        });
        servers.issue_many(0, "acme").unwrap();
    });
    let put = put.lock().unwrap().clone();
    let (_, parts) = named(&servers, before + 2);
    let whole: Vec<u32> = (0..parts).collect();
    assert_eq!(put, [&[0], &whole[..]].concat());
    servers.close_equal();
}

/// What is overtaken each time stays in the log until a trim: there is a bound on it.
#[test]
fn a_large_change_that_is_always_overtaken_ends() {
    let servers = Servers::new(2, LONG);
    // Four of these.
    servers.logs[0].limit_bodies(4 * PART_LEN_MAX);
    let (other, (asked, did)) = Other::new();
    servers.logs[0].before_appends(move || other.act());
    let put = Arc::new(AtomicUsize::new(0));
    let count = put.clone();
    servers.logs[0].before_bodies(move |part| {
        if part == 0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let refused = std::thread::scope(|scope| {
        let servers = &servers;
        scope.spawn(move || {
            for () in &asked {
                servers.issue(1, "other").unwrap();
                did.send(()).unwrap();
            }
        });
        let refused = servers.issue_many(0, "acme");
        // Nobody asks the other any more.
        servers.logs[0].before_appends(|| {});
        refused
    });
    let why = refused.unwrap_err();
    assert!(matches!(why, Error::Log(_)), "{why}");
    assert!(
        why.to_string().contains("other servers were quicker"),
        "{why}"
    );
    let put = put.load(Ordering::SeqCst);
    assert!(
        (2..=16).contains(&put),
        "{put} bodies of a megabyte and more"
    );
    servers.settle();
    let keys = keys_of(&servers.engines[0]);
    assert!(keys.iter().all(|key| key.owner.to_string() == "other"));
    servers.issue_many(0, "acme").unwrap();
    servers.close_equal();
}

#[test]
fn a_change_that_is_larger_than_the_log_takes_is_refused_and_changes_nothing() {
    let servers = Servers::new(2, LONG);
    servers.settle();
    let before = position(&servers.engines[0]);
    servers.logs[0].limit_bodies(PART_LEN_MAX);
    let refused = servers.issue_many(0, "acme").unwrap_err();
    assert!(matches!(refused, Error::Log(_)), "{refused}");
    let why = refused.to_string();
    assert!(
        why.contains("too large for the log: make it in several steps"),
        "{why}"
    );
    assert_eq!(position(&servers.engines[0]), before);
    assert!(keys_of(&servers.engines[0]).is_empty());
    // It goes on with what is smaller, and takes it once it may.
    servers.issue(0, "acme").unwrap();
    servers.logs[0].limit_bodies(8 * PART_LEN_MAX);
    servers.issue_many(0, "acme").unwrap();
    servers.close_equal();
}

/// There is no entry whose body is not there: the others go on.
#[test]
fn a_large_change_whose_body_cannot_be_put_is_not_made() {
    let servers = Servers::new(2, LONG);
    servers.settle();
    let before = position(&servers.engines[0]);
    servers.logs[0].cut_bodies(true);
    let refused = servers.issue_many(0, "acme").unwrap_err();
    assert!(matches!(refused, Error::Log(_)), "{refused}");
    let issued = servers.issue(1, "acme").unwrap();
    servers.settle();
    assert_eq!(position(&servers.engines[1]), before + 1);
    for engine in &servers.engines {
        assert_eq!(granted(engine, &issued), Some(true));
        assert_eq!(keys_of(engine).len(), 1);
    }
    servers.logs[0].cut_bodies(false);
    servers.issue_many(0, "acme").unwrap();
    servers.close_equal();
}

/// All of it or nothing, and once, on all servers.
#[test]
fn large_changes_are_made_once_over_a_network_that_fails() {
    let servers = Servers::new(2, LONG);
    for (seed, log) in (1..).zip(&servers.logs) {
        log.fail_at_random(60, seed);
    }
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for node in 0..2 {
            let (servers, made) = (&servers, &made);
            scope.spawn(move || {
                for turn in 0..8 {
                    let owner = format!("acme/{node}-{turn}");
                    if servers.issue_many(node, &owner).is_ok() {
                        made.fetch_add(MANY, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    for log in &servers.logs {
        log.fail_at_random(0, 1);
        log.land();
    }
    for node in 0..2 {
        until("it takes changes", || servers.issue(node, "last").is_ok());
    }
    servers.settle();
    let mut of = std::collections::BTreeMap::new();
    for key in keys_of(&servers.engines[0]) {
        *of.entry(key.owner.to_string()).or_insert(0) += 1;
    }
    of.remove("last");
    assert!(of.values().all(|count| *count == MANY), "{of:?}");
    assert!(of.len() * MANY >= made.load(Ordering::SeqCst));
    assert!(!of.is_empty());
    servers.close_equal();
}
