//! Histories of many servers, with delays, cuts, partitions and lost answers drawn from a
//! seed: what was revoked is granted nowhere, and every change is made once.
//!
//! `GATEKEY_FLEET_SECONDS` lets them run for longer than the gate does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use gatekey::{Error, Issued, KeyState, Reason, Rotation};

use crate::common::{Servers, granted, keys_of, options};

const LEASE: Duration = Duration::from_millis(250);
const SERVERS: usize = 4;

/// What is known of a key from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// A revocation was called, and its outcome is not known, or not yet.
    Doubtful,
    /// A revocation has returned.
    Revoked(Instant),
}

struct Line {
    issued: Issued,
    fate: Mutex<Fate>,
}

pub(crate) fn seconds() -> Duration {
    let given = std::env::var("GATEKEY_FLEET_SECONDS").ok();
    Duration::from_secs(given.and_then(|it| it.parse().ok()).unwrap_or(4))
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Runs a fleet under faults, and gives how many verifications there were, and how many of
/// those of revoked keys.
fn run(seed: u64, waits_everywhere: bool) -> (u64, u64) {
    let settings = |settings: gatekey::fleet::Settings| match waits_everywhere {
        true => settings,
        false => settings.locally(),
    };
    let servers = Servers::with(SERVERS, LEASE, |options| options, settings);
    let keys: RwLock<Vec<Line>> = RwLock::new(Vec::new());
    let (asked, of_revoked) = (AtomicU64::new(0), AtomicU64::new(0));
    let acknowledged = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    for (node, log) in servers.logs.iter().enumerate() {
        log.fail_at_random(8, seed * 31 + node as u64);
    }
    std::thread::scope(|scope| {
        // Cuts and delays.
        scope.spawn(|| {
            let mut random = Random(seed | 1);
            while !is_over.load(Ordering::SeqCst) {
                let log = &servers.logs[random.below(SERVERS)];
                match random.below(4) {
                    0 => log.cut(true),
                    1 => log.delay(Duration::from_millis(random.below(60) as u64)),
                    2 => drop(log.land()),
                    _ => {
                        log.cut(false);
                        log.delay(Duration::ZERO);
                    }
                }
                std::thread::sleep(Duration::from_millis(20 + random.below(120) as u64));
            }
        });
        // Changes, on every server.
        for node in 0..SERVERS {
            let (servers, keys, is_over) = (&servers, &keys, &is_over);
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                let mut random = Random((seed + 1) * (node as u64 + 7));
                while !is_over.load(Ordering::SeqCst) {
                    change(servers, node, keys, &mut random, acknowledged);
                }
            });
        }
        // Verifications, of every key on every server.
        for node in 0..SERVERS {
            let (servers, keys, is_over) = (&servers, &keys, &is_over);
            let (asked, of_revoked) = (&asked, &of_revoked);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let keys = keys.read().unwrap();
                    for line in keys.iter().rev().take(64) {
                        let before = *line.fate.lock().unwrap();
                        let begun = Instant::now();
                        let answer = granted(&servers.engines[node], &line.issued);
                        asked.fetch_add(1, Ordering::Relaxed);
                        let Fate::Revoked(at) = before else { continue };
                        of_revoked.fetch_add(1, Ordering::Relaxed);
                        let late = begun.duration_since(at);
                        let is_bound = waits_everywhere || late > LEASE;
                        assert!(
                            answer != Some(true) || !is_bound,
                            "seed {seed}: server {node} granted {late:?} after the revocation"
                        );
                    }
                    drop(keys);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        std::thread::sleep(seconds());
        is_over.store(true, Ordering::SeqCst);
    });
    check_end(
        servers,
        &keys.into_inner().unwrap(),
        acknowledged.into_inner(),
    );
    (asked.into_inner(), of_revoked.into_inner())
}

fn change(
    servers: &Servers,
    node: usize,
    keys: &RwLock<Vec<Line>>,
    random: &mut Random,
    acknowledged: &AtomicU64,
) {
    let count = keys.read().unwrap().len();
    if count < 8 || random.below(2) == 0 {
        if let Ok(issued) = servers.issue(node, "acme") {
            acknowledged.fetch_add(1, Ordering::SeqCst);
            let fate = Mutex::new(Fate::Good);
            keys.write().unwrap().push(Line { issued, fate });
        }
        return;
    }
    let keys = keys.read().unwrap();
    let line = &keys[keys.len() - 1 - random.below(keys.len().min(16))];
    {
        let mut fate = line.fate.lock().unwrap();
        if *fate != Fate::Good {
            return;
        }
        *fate = Fate::Doubtful;
    }
    let engine = &servers.engines[node];
    let id = line.issued.key.id;
    let taken = match random.below(3) {
        0 => engine.rotate(id, Rotation::default()).map(drop),
        _ => engine.revoke(id, Reason::KeyCompromise).map(drop),
    };
    // The bound counts from here. One that failed stays in doubt: another server may know.
    if taken.is_ok() {
        *line.fate.lock().unwrap() = Fate::Revoked(Instant::now());
    }
}

/// All servers agree, no key was issued twice, and every answer held.
fn check_end(servers: Servers, keys: &[Line], acknowledged: u64) {
    for log in &servers.logs {
        log.fail_at_random(0, 1);
        log.cut(false);
        log.delay(Duration::ZERO);
        log.land();
    }
    // A change of each settles what was in doubt.
    for node in 0..SERVERS {
        crate::common::until("it takes changes", || {
            servers.issue(node, "acme/last").is_ok()
        });
    }
    servers.settle();
    let all = keys_of(&servers.engines[0]);
    let states: BTreeMap<_, _> = all.iter().map(|key| (key.id, key.state)).collect();
    assert!(
        states.len() as u64 >= acknowledged,
        "a change that was acknowledged is lost"
    );
    for line in keys {
        let state = states[&line.issued.key.id];
        match *line.fate.lock().unwrap() {
            Fate::Good => assert_eq!(state, KeyState::Active),
            Fate::Revoked(_) => assert_ne!(state, KeyState::Active),
            Fate::Doubtful => {}
        }
    }
    servers.close_equal();
}

#[test]
fn what_was_revoked_is_granted_nowhere_whatever_the_network_does() {
    let (asked, of_revoked) = run(1, true);
    assert!(of_revoked > 1_000, "{of_revoked} of {asked}");
    println!("{asked} verifications, {of_revoked} of them of revoked keys");
}

#[test]
fn what_was_revoked_is_granted_nowhere_beyond_the_bound() {
    let (asked, of_revoked) = run(2, false);
    assert!(of_revoked > 1_000, "{of_revoked} of {asked}");
    println!("{asked} verifications, {of_revoked} of them of revoked keys");
}

/// A change that failed for want of the log was not made.
#[test]
fn a_change_that_was_not_sent_is_not_made() {
    let servers = Servers::with(2, LEASE, |_| options(), |settings| settings);
    servers.logs[0].cut(true);
    for _ in 0..5 {
        let refused = servers.issue(0, "acme").unwrap_err();
        assert!(matches!(refused, Error::Log(_)), "{refused}");
    }
    servers.logs[0].cut(false);
    crate::common::until("it takes changes", || servers.issue(0, "acme").is_ok());
    servers.settle();
    assert_eq!(keys_of(&servers.engines[1]).len(), 1);
    servers.close_equal();
}
