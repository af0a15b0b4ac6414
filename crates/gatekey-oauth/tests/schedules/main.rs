//! Codes and refresh tokens under shuttle, which draws the order of the threads' steps at
//! random: on schedules that the operating system would hardly come upon, a code is good
//! once, and a refresh neither forks an authorization nor kills it.
//!
//! `RUSTC_WORKSPACE_WRAPPER=$PWD/proof/rustc_shuttle cargo test -p gatekey-oauth
//! --all-features --test schedules`; without that there is nothing here.
//! `GATEKEY_PROOF=long` draws more.

#![cfg(gatekey_shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[allow(dead_code)]
#[path = "../walk/mod.rs"]
mod walk;
#[allow(dead_code)]
#[path = "../oauth_proof/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gatekey::{ManualClock, Options, Timestamp};
use gatekey_oauth::JwtOptions;
use gatekey_oauth::server::ServerOptions;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};

use world::{ISSUER, LATER, Said, World};

/// Every eighth history is of JWTs, whose keys take their time to make.
fn world(seed: u64) -> Arc<World> {
    let start: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
    let clock = ManualClock::at(start);
    let options = Options::new()
        .clock(clock.clone())
        .resident_bytes(1 << 14)
        .cache_bytes(1 << 20)
        .usage_interval(None);
    let jwts = (seed % 8 == 7).then(|| JwtOptions::new(ISSUER, ISSUER));
    let engine = options.open_in_memory().unwrap();
    Arc::new(World::begin(
        engine,
        clock,
        jwts,
        ServerOptions::new(ISSUER),
    ))
}

fn start<T: Send + 'static>(
    w: &Arc<World>,
    work: impl FnOnce(&World) -> T + Send + 'static,
) -> JoinHandle<T> {
    let w = w.clone();
    thread::spawn(move || work(&w))
}

fn is_refused(said: &Said) -> bool {
    said.as_ref().is_err_and(|error| error == "invalid_grant")
}

/// One code in the hands of several, one of whom has not the verifier.
fn a_code_is_presented_by_several(seed: u64) {
    let w = world(seed);
    let code = w.code();
    let rivals = 1 + seed % 3;
    let wrong = {
        let code = code.clone();
        start(&w, move |w| {
            w.redeem_with(&code, "b".repeat(43).as_str()).unwrap()
        })
    };
    let right: Vec<_> = (0..rivals)
        .map(|_| {
            let code = code.clone();
            start(&w, move |w| w.redeem(&code).unwrap())
        })
        .collect();
    assert!(is_refused(&wrong.join().unwrap()), "a wrong verifier");
    let said: Vec<Said> = right.into_iter().map(|it| it.join().unwrap()).collect();
    let won: Vec<_> = said.iter().flatten().collect();
    assert_eq!(won.len(), 1, "seed {seed}: a code is good once");
    assert!(said.iter().all(|said| said.is_ok() || is_refused(said)));
    // All others presented it again; the one with the wrong verifier did nothing.
    let is_alone = rivals == 1;
    assert_eq!(w.is_granted(&won[0].access), is_alone, "seed {seed}");
    let again = w.refresh(&won[0].refresh).unwrap();
    assert_eq!(again.is_ok(), is_alone, "seed {seed}");
    assert!(w.keys() <= 1 && w.engine.check().unwrap().is_sound());
}

/// One refresh token in the hands of several, while one of them goes on, beyond the
/// window and with the next.
fn a_token_is_refreshed_by_several(seed: u64) {
    let w = world(seed);
    let first = w.tokens();
    w.clock.advance(LATER);
    let goes_on = seed % 2 == 1;
    let others: Vec<_> = (0..2)
        .map(|_| {
            let token = first.refresh.clone();
            start(&w, move |w| w.refresh(&token).unwrap())
        })
        .collect();
    let head = w.refresh(&first.refresh).unwrap();
    let next = match (&head, goes_on) {
        (Ok(head), true) => {
            w.clock.advance(LATER);
            Some(w.refresh(&head.refresh).unwrap())
        }
        _ => None,
    };
    let mut said: Vec<Said> = others.into_iter().map(|it| it.join().unwrap()).collect();
    said.push(head);
    // Whoever got one, got the same.
    let got: Vec<_> = said.iter().flatten().collect();
    assert!(!got.is_empty(), "seed {seed}: it was current");
    assert!(
        got.iter().all(|pair| *pair == got[0]),
        "seed {seed}: a fork"
    );
    // Within the window it is everybody's; after it, whoever comes with it is one too
    // many, and none of them has access any more.
    let is_replayed = got.len() < said.len();
    assert!(goes_on || !is_replayed, "seed {seed}: {said:?}");
    let newest = match &next {
        Some(Ok(next)) => next,
        _ => got[0],
    };
    assert_eq!(w.is_granted(&newest.access), !is_replayed, "seed {seed}");
    let again = w.refresh(&newest.refresh).unwrap();
    match (&again, is_replayed) {
        (Ok(again), false) => assert_eq!(again, newest, "seed {seed}"),
        (said, true) => assert!(is_refused(said), "seed {seed}"),
        (said, false) => panic!("seed {seed}: killed: {said:?}"),
    }
    assert!(w.keys() <= 2 && w.engine.check().unwrap().is_sound());
}

/// An authorization is taken away while its code is exchanged, its token refreshed and
/// another code of the client's exchanged.
fn access_is_taken_away_from_several(seed: u64) {
    let w = world(seed);
    let first = w.tokens();
    w.clock.advance(LATER);
    let code = w.code();
    let (token, is_client) = (first.refresh.clone(), seed % 2 == 1);
    let refresh = start(&w, move |w| w.refresh(&token).unwrap());
    let exchange = start(&w, move |w| w.redeem(&code).unwrap());
    if is_client {
        w.server.disable_client(&w.app.id).unwrap().unwrap();
    } else {
        assert_eq!(w.revoke(&first.access).unwrap(), 200);
    }
    // From here on.
    let is_over = |access: &str| assert!(!w.is_granted(access), "seed {seed}");
    is_over(&first.access);
    let late = w.refresh(&first.refresh).unwrap();
    assert!(late.is_err(), "seed {seed}: after the return");
    if let Ok(pair) = refresh.join().unwrap() {
        is_over(&pair.access);
        assert!(w.refresh(&pair.refresh).unwrap().is_err(), "seed {seed}");
    }
    let other = exchange.join().unwrap();
    if let Ok(pair) = &other {
        // Of another authorization: revoking the first is nothing to it.
        assert_eq!(w.is_granted(&pair.access), !is_client, "seed {seed}");
    }
    assert!(is_client || other.is_ok(), "seed {seed}: {other:?}");
    assert!(w.engine.check().unwrap().is_sound());
}

fn run(scheduler: impl Scheduler + 'static, model: fn(u64)) -> u64 {
    let mut config = shuttle::Config::new();
    // The storage engine's calls are deep.
    config.stack_size = 1 << 20;
    let histories = Arc::new(AtomicU64::new(0));
    let counted = histories.clone();
    shuttle::Runner::new(scheduler, config).run(move || {
        model(counted.fetch_add(1, Ordering::Relaxed));
    });
    histories.load(Ordering::Relaxed)
}

fn explore(name: &str, model: fn(u64), seed: u64) {
    let count = match std::env::var("GATEKEY_PROOF") {
        Ok(form) if form == "long" => 4_000,
        _ => 40,
    };
    let random = run(RandomScheduler::new_from_seed(seed, count), model);
    let few = run(PctScheduler::new_from_seed(seed, 3, count), model);
    println!("{name}: {random} random schedules, {few} of few preemptions");
}

#[test]
fn a_code_is_good_once_in_every_schedule() {
    explore("codes", a_code_is_presented_by_several, 11);
}

#[test]
fn a_refresh_neither_forks_nor_kills_in_any_schedule() {
    explore("refreshes", a_token_is_refreshed_by_several, 12);
}

#[test]
fn what_is_taken_away_grants_in_no_schedule() {
    explore("taken away", access_is_taken_away_from_several, 13);
}
