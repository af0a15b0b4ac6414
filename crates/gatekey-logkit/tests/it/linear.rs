//! Whether one order explains what the servers of a fleet tell of the same few keys, while
//! answers are lost, calls are late, and servers are cut off.
//!
//! Changes are linearizable. A verification reads its server's file, which may be behind: it
//! is of the state that some change left, no older than what its server has told before, and
//! no older than any call that has returned and takes access away.
//!
//! `GATEKEY_FLEET_SECONDS` lets it run for longer than the gate does.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gatekey::{Key, KeyState};
use gatekey_logkit::LostAppend;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::calls::{Keys, Made, create_keyspaces};
use crate::common::{Servers, keys_of, until};
use crate::histories::seconds;
use crate::history::{self, Call, Order, Owner, Told, Verb, is_explained};

const LEASE: Duration = Duration::from_millis(250);
const SERVERS: usize = 4;
/// How many owners' histories are made at once: their changes are in the same entries.
const OWNERS: u64 = 3;
/// Of each history, on each server.
const CHANGES: usize = 9;
const VERIFICATIONS: usize = 16;
/// How many calls of a history may have no outcome on each server.
const UNKNOWN_MAX: usize = 2;
/// How long a history may take on a server that is cut off.
const HISTORY_MAX: Duration = Duration::from_secs(3);

/// What the fleet promises of two calls.
fn order(one: &Call, other: &Call) -> Order {
    if one.ended >= other.begun {
        return Order::Any;
    }
    if !other.verb.is_read() || one.server == other.server {
        return Order::First;
    }
    match one.verb {
        _ if one.told != Told::Done => Order::Any,
        Verb::Revoke(_)
        | Verb::RevokeAll
        | Verb::Disable(_)
        | Verb::Narrow(_)
        | Verb::Suspend
        | Verb::Rotate { grace: false, .. } => Order::First,
        // An issue that found nothing to take the place of waits for nobody.
        Verb::Issue(_) | Verb::Rotate { grace: true, .. } => Order::FirstIfItTakes,
        Verb::Enable(_) | Verb::Widen(_) | Verb::Resume => Order::Any,
        // Of another server's file.
        Verb::Verify { .. } | Verb::List => Order::Any,
    }
}

/// What a key is in the end: `None` once it is revoked.
type End = Option<(bool, bool, bool)>;

fn end_of(key: &Key) -> End {
    // It can always read.
    let may_write = key.permissions.bits().count_ones() == 2;
    let is_over = key.state == KeyState::Revoked;
    (!is_over).then_some((key.disabled, may_write, key.retiring_until.is_some()))
}

/// The same of the search, of a key that was issued.
fn end_in(key: &history::Key) -> Option<End> {
    match *key {
        history::Key::Absent => None,
        history::Key::Revoked => Some(None),
        history::Key::Good {
            disabled,
            may_write,
            retiring,
            ..
        } => Some(Some((disabled, may_write, retiring))),
    }
}

/// Whether the search's owner is as all servers say. Keys whose calls told nobody of them are
/// as many, and in the same states.
fn is_as(owner: &Owner, keys: &Keys, found: &[Key]) -> bool {
    let mut unheard: Vec<End> = Vec::new();
    for key in found {
        match keys.place(key.id) {
            Some(at) if end_in(&owner.keys[at]) != Some(end_of(key)) => return false,
            Some(_) => {}
            None => unheard.push(end_of(key)),
        }
        if key.state != KeyState::Revoked && key.suspended != owner.suspended {
            return false;
        }
    }
    let places = owner.keys.iter().enumerate();
    let mut others: Vec<End> = places
        .filter(|(at, _)| keys.told_of().all(|(known, _)| known != *at))
        .filter_map(|(_, key)| end_in(key))
        .collect();
    unheard.sort_unstable();
    others.sort_unstable();
    unheard == others
}

/// Makes changes until there are enough, and gives those that may have been made.
fn change(servers: &Servers, node: usize, keys: &Keys, random: &mut StdRng) -> Vec<Made> {
    let mut made = Vec::new();
    let mut unknown = 0;
    let begun = Instant::now();
    while made.len() < CHANGES && unknown < UNKNOWN_MAX && begun.elapsed() < HISTORY_MAX {
        let verb = keys.draw(random);
        if verb.is_read() {
            continue;
        }
        match keys.ask(&servers.engines[node], node, verb) {
            Some(call) => {
                unknown += usize::from(call.call.told == Told::Unknown);
                made.push(call);
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    made
}

fn verify(servers: &Servers, node: usize, keys: &Keys, random: &mut StdRng) -> Vec<Made> {
    let mut made = Vec::new();
    let begun = Instant::now();
    while made.len() < VERIFICATIONS && begun.elapsed() < HISTORY_MAX {
        let known: Vec<usize> = keys.told_of().map(|(at, _)| at).collect();
        let verb = Verb::Verify {
            key: known[random.random_range(0..known.len())],
            to_write: random.random_range(0..4) == 0,
        };
        made.extend(keys.ask(&servers.engines[node], node, verb));
        std::thread::sleep(Duration::from_millis(random.random_range(0..12)));
    }
    made
}

/// Cuts and delays, and answers that are lost, until it is over.
fn disturb(servers: &Servers, random: &mut StdRng, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let log = &servers.logs[random.random_range(0..SERVERS)];
        match random.random_range(0..12) {
            0 => log.cut(true),
            1 => log.delay(Duration::from_millis(random.random_range(0..30))),
            2 => drop(log.land()),
            lost @ (3 | 4) => {
                log.lose_and_cut(match lost {
                    3 => LostAppend::After,
                    _ => LostAppend::Late,
                });
                // For so long that its callers are not told what became of their change.
                std::thread::sleep(LEASE * random.random_range(0..2));
            }
            5 => log.lose(LostAppend::Overdue),
            6..9 => log.lose(LostAppend::After),
            _ => {
                log.cut(false);
                log.delay(Duration::ZERO);
            }
        }
        std::thread::sleep(Duration::from_millis(random.random_range(5..80)));
    }
}

/// Lets all reach the log again, and settles what was in doubt.
fn heal(servers: &Servers) {
    for log in &servers.logs {
        log.fail_at_random(0, 1);
        log.lose_no_more();
        log.cut(false);
        log.delay(Duration::ZERO);
        log.land();
    }
    for node in 0..SERVERS {
        until("it takes changes", || {
            servers.issue(node, "acme/last").is_ok()
        });
    }
    servers.settle();
}

/// The histories of some owners at once: what each began with, and its calls.
fn histories(servers: &Servers, round: u64) -> Vec<(Owner, Keys, Vec<Made>)> {
    let new = |at| {
        // In every other one, a new key takes the place of the owner's others.
        let history = round * OWNERS + at;
        Keys::new(&servers.engines[0], history, history % 2 == 1)
    };
    let owners: Vec<Keys> = (0..OWNERS).map(new).collect();
    let begin: Vec<Owner> = owners.iter().map(Keys::begin).collect();
    servers.settle();
    for (node, log) in servers.logs.iter().enumerate() {
        log.fail_at_random(8, round * 31 + node as u64);
    }
    let is_over = AtomicBool::new(false);
    let start = Barrier::new(usize::try_from(OWNERS).unwrap() * SERVERS * 2);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| disturb(servers, &mut StdRng::seed_from_u64(round), &is_over));
        let mut threads = Vec::new();
        for (at, keys) in owners.iter().enumerate() {
            for (node, verifies) in (0..SERVERS).flat_map(|node| [(node, false), (node, true)]) {
                let start = &start;
                let seed = (round << 8) | (at << 4 | node << 1 | usize::from(verifies)) as u64;
                threads.push((
                    at,
                    scope.spawn(move || {
                        let mut random = StdRng::seed_from_u64(seed);
                        start.wait();
                        match verifies {
                            true => verify(servers, node, keys, &mut random),
                            false => change(servers, node, keys, &mut random),
                        }
                    }),
                ));
            }
        }
        let ended: Vec<_> = threads
            .into_iter()
            .map(|(at, thread)| (at, thread.join()))
            .collect();
        // Also where one of them panicked.
        is_over.store(true, Ordering::SeqCst);
        let mut made: Vec<Vec<Made>> = owners.iter().map(|_| Vec::new()).collect();
        for (at, ended) in ended {
            made[at].extend(ended.unwrap());
        }
        made
    });
    heal(servers);
    let owners = begin.into_iter().zip(owners).zip(made);
    owners
        .map(|((begin, keys), made)| (begin, keys, made))
        .collect()
}

#[test]
fn what_the_servers_of_a_fleet_tell_is_explained_by_one_order_of_their_changes() {
    let servers = Servers::new(SERVERS, LEASE);
    create_keyspaces(&servers.engines[0]);
    let begun = Instant::now();
    let (mut count, mut changes, mut verifications, mut unknown) = (0, 0, 0, 0);
    let mut round = 0;
    while begun.elapsed() < seconds() {
        for (begin, keys, made) in histories(&servers, round) {
            let found: Vec<Key> = keys_of(&servers.engines[0])
                .into_iter()
                .filter(|key| key.owner == keys.owner)
                .collect();
            let calls = keys.history(made);
            let is_end = |owner: &Owner| is_as(owner, &keys, &found);
            assert!(
                is_explained(begin, &calls, order, is_end),
                "round {round}, {found:#?}: {calls:#?}"
            );
            // What was given reaches all in the end.
            for engine in &servers.engines {
                until("it is fresh", || engine.verify("no token").is_ok());
                for (_, (id, token)) in keys.told_of() {
                    let key = found.iter().find(|key| key.id == *id).unwrap();
                    let is_good = matches!(key.state, KeyState::Active | KeyState::Retiring);
                    let verdict = engine.verify(token).unwrap();
                    assert_eq!(verdict.is_granted(), is_good, "round {round}, {key:?}");
                }
            }
            count += 1;
            for call in &calls {
                match call.verb.is_read() {
                    true => verifications += 1,
                    false => changes += 1,
                }
                unknown += usize::from(call.told == Told::Unknown);
            }
        }
        round += 1;
    }
    println!(
        "{count} histories of {changes} changes, {unknown} of them without an outcome, and of \
         {verifications} verifications"
    );
    assert!(count > 0 && changes > 10 * count && verifications > 10 * count);
    servers.close_equal();
}
