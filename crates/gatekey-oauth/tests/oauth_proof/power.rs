//! Loss of power at every call that changes the disk, in the midst of an approval, an
//! exchange, a refresh, a replay and a rotation of signing keys; and disks that fail at
//! each such call.
//!
//! What must hold, whatever of the change in flight has reached the disk:
//! - a ticket gives one code, and a code is exchanged once: whoever presents it again
//!   takes away what came of it before;
//! - a refresh token that was current gives one head, however often it is presented, and
//!   its authorization lives on;
//! - what was acknowledged is there: tokens, replays, revocations;
//! - the store is sound.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gatekey::proof::open_on;
use gatekey::{Clock as _, ManualClock, Options, Pepper, SystemClock, Timestamp};
use gatekey_oauth::JwtOptions;
use gatekey_oauth::server::ServerOptions;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::{Call, Crash, Disk, Fault, How, Step};
use crate::rounds;
use crate::world::{ISSUER, LATER, Pair, Registered, WRITE, World};

/// The changes, in their order.
const PHASES: [&str; 10] = [
    "approve", "exchange", "refresh", "replay", "again", "revoke", "hold", "disable", "enable",
    "signing",
];

/// What one run of all changes left behind.
struct Run {
    is_jwt: bool,
    app: Registered,
    /// The store before the first change.
    base: Vec<u8>,
    journal: Vec<Step>,
    /// How many calls had been made after each change, and when it was made.
    acks: Vec<(usize, Timestamp)>,
    ticket: String,
    code: String,
    /// Of the exchange, and of the refresh.
    first: Pair,
    second: Pair,
    /// Of a code that was presented again later.
    replayed_code: String,
    replayed: Pair,
    /// Of an authorization that its client revoked, and of one whose client was disabled.
    revoked: Pair,
    held: Pair,
}

fn jwt_options(is_jwt: bool) -> Option<JwtOptions> {
    is_jwt.then(|| JwtOptions::new(ISSUER, ISSUER))
}

fn open(disk: &Disk, at: Timestamp, is_jwt: bool, app: &Registered) -> World {
    let clock = ManualClock::at(at);
    let options = Options::new()
        .pepper(Pepper::new(1, [1; 32]).unwrap())
        .clock(clock.clone())
        .usage_interval(None);
    let engine = open_on(options, disk.clone()).unwrap();
    let (jwts, server) = (jwt_options(is_jwt), ServerOptions::new(ISSUER));
    match app.id.is_empty() {
        true => World::begin(engine, clock, jwts, server),
        false => World::again(engine, clock, jwts, server, app.clone()).unwrap(),
    }
}

fn nobody() -> Registered {
    Registered {
        id: String::new(),
        secret: None,
    }
}

/// All changes on one disk, which notes each call.
fn run(is_jwt: bool) -> Run {
    let disk = Disk::default();
    let w = open(&disk, SystemClock.now(), is_jwt, &nobody());
    let (ticket, base) = (w.ticket(), disk.live());
    disk.keep_journal();
    let mut acks = Vec::new();
    let done = |acks: &mut Vec<_>| acks.push((disk.journal_len(), w.clock.now()));

    let code = w.approve(&ticket).unwrap().unwrap();
    done(&mut acks);
    let first = w.redeem(&code).unwrap().unwrap();
    done(&mut acks);
    w.clock.advance(LATER);
    let second = w.refresh(&first.refresh).unwrap().unwrap();
    done(&mut acks);
    // The one before, after the window.
    w.clock.advance(LATER);
    assert_eq!(
        w.refresh(&first.refresh).unwrap().unwrap_err(),
        "invalid_grant"
    );
    done(&mut acks);
    // Another authorization, whose code is presented again.
    let replayed_code = w.code();
    let replayed = w.redeem(&replayed_code).unwrap().unwrap();
    assert!(w.redeem(&replayed_code).unwrap().is_err());
    done(&mut acks);
    let revoked = w.tokens();
    assert_eq!(w.revoke(&revoked.refresh).unwrap(), 200);
    done(&mut acks);
    let held = w.tokens();
    done(&mut acks);
    w.server.disable_client(&w.app.id).unwrap().unwrap();
    done(&mut acks);
    w.server.enable_client(&w.app.id).unwrap().unwrap();
    done(&mut acks);
    if let Some(jwts) = &w.jwts {
        jwts.rotate_signing_keys().unwrap();
    }
    done(&mut acks);
    let app = w.app.clone();
    drop(w);
    Run {
        is_jwt,
        app,
        base,
        journal: disk.take_journal(),
        acks,
        ticket,
        code,
        first,
        second,
        replayed_code,
        replayed,
        revoked,
        held,
    }
}

/// Opens an image as it is after so many acknowledged changes, presents anew what the
/// client had in hand, and gives the journal of all that.
fn assert_holds(run: &Run, image: Vec<u8>, acknowledged: usize, name: &str) -> Vec<Step> {
    let disk = Disk::of(image);
    disk.keep_journal();
    let at = run.acks[acknowledged.min(run.acks.len() - 1)].1;
    let w = open(&disk, at, run.is_jwt, &run.app);
    let sound = |w: &World| {
        let report = w.engine.check().unwrap();
        assert!(report.is_sound(), "{name}: {report:?}");
    };
    sound(&w);
    let refused = |said: crate::world::Said, what: &str| {
        assert_eq!(said.unwrap_err(), "invalid_grant", "{name}: {what}");
    };
    let in_flight = PHASES.get(acknowledged).copied().unwrap_or("the end");
    match in_flight {
        "approve" => {
            // Whether the ticket was used or not: there is one code.
            let again = w.approve(&run.ticket).unwrap();
            assert_eq!(w.approve(&run.ticket).unwrap(), None, "{name}");
            let earlier = w.redeem(&run.code).unwrap();
            let later = again.as_ref().map(|code| w.redeem(code).unwrap().unwrap());
            assert!(
                earlier.is_ok() != later.is_some(),
                "{name}: two codes, or none"
            );
        }
        "exchange" => {
            assert_eq!(w.approve(&run.ticket).unwrap(), None, "{name}");
            let again = w.redeem(&run.code).unwrap();
            // Nobody was told of the first exchange: it is nothing, or was taken back.
            assert!(
                !w.is_granted(&run.first.access),
                "{name}: a code is good twice"
            );
            let granted = w.keys();
            assert!(granted <= 1, "{name}: {granted} keys");
            if let Ok(pair) = &again {
                assert!(w.is_granted(&pair.access), "{name}");
                assert_eq!(w.refresh(&pair.refresh).unwrap().unwrap(), *pair, "{name}");
            }
            if again.is_ok() != w.refresh(&run.first.refresh).unwrap().is_err() {
                // It was refused as a replay: the first refresh token is dead as well.
                refused(
                    w.refresh(&run.first.refresh).unwrap(),
                    "a refresh after a replay",
                );
            }
            refused(w.redeem(&run.code).unwrap(), "a code for the third time");
            assert!(again.is_ok_and(|pair| !w.is_granted(&pair.access)) || w.keys() <= 1);
        }
        "refresh" => {
            refreshed(run, &w, &run.first.refresh, name);
        }
        "replay" => {
            // Before the replay is made: the head is there, and stays.
            let said = w.refresh(&run.second.refresh).unwrap();
            if let Ok(pair) = said {
                assert!(w.is_granted(&pair.access), "{name}");
                refused(w.refresh(&run.first.refresh).unwrap(), "a replay");
                assert!(!w.is_granted(&pair.access), "{name}");
            }
            assert!(!w.is_granted(&run.second.access), "{name}");
        }
        "disable" | "enable" => {
            let client = w.server.client(&run.app.id).unwrap().unwrap();
            let is_granted = w.is_granted(&run.held.access);
            assert_eq!(is_granted, !client.disabled, "{name}");
            w.server.enable_client(&run.app.id).unwrap();
        }
        _ => {}
    }
    let is_after = |phase: &str| {
        PHASES
            .iter()
            .position(|known| *known == phase)
            .is_some_and(|at| acknowledged > at)
    };
    if is_after("replay") {
        for pair in [&run.first, &run.second] {
            assert!(!w.is_granted(&pair.access), "{name}");
            refused(w.refresh(&pair.refresh).unwrap(), "a dead family");
        }
    }
    if is_after("again") {
        assert!(!w.is_granted(&run.replayed.access), "{name}");
        refused(w.refresh(&run.replayed.refresh).unwrap(), "replayed");
        refused(w.redeem(&run.replayed_code).unwrap(), "a replayed code");
    }
    if is_after("revoke") {
        assert!(!w.is_granted(&run.revoked.access), "{name}");
        refused(w.refresh(&run.revoked.refresh).unwrap(), "revoked");
    }
    if is_after("hold") {
        assert!(w.is_granted(&run.held.access), "{name}");
        assert_eq!(w.refresh(&run.held.refresh).unwrap().unwrap(), run.held);
    }
    sound(&w);
    disk.take_journal()
}

/// Presents a refresh token that was current as the power went, several times.
fn refreshed(run: &Run, w: &World, token: &str, name: &str) {
    let pair = w.refresh(token).unwrap();
    let pair = pair.unwrap_or_else(|error| panic!("{name}: the family is dead: {error}"));
    assert!(w.is_granted(&pair.access), "{name}");
    assert!(w.denial_of(&pair.access, &WRITE).is_none(), "{name}");
    assert_eq!(w.refresh(token).unwrap().unwrap(), pair, "{name}: a fork");
    assert_eq!(w.refresh(&pair.refresh).unwrap().unwrap(), pair, "{name}");
    assert!(w.keys() <= 2, "{name}: {} keys", w.keys());
    if pair != run.second {
        // That one was never told of, and is nothing.
        let lost = w.refresh(&run.second.refresh).unwrap();
        assert_eq!(lost.unwrap_err(), "invalid_grant", "{name}");
        assert!(!w.is_granted(&run.second.access), "{name}: a fork");
        assert!(w.is_granted(&pair.access), "{name}: a lost head kills");
    }
    // The family goes on.
    w.clock.advance(LATER);
    let next = w.refresh(&pair.refresh).unwrap().unwrap();
    assert!(
        next.refresh != pair.refresh && w.is_granted(&next.access),
        "{name}"
    );
}

/// Calls `each` with every point of a journal, from an image on.
fn each_point<'a>(
    image: Vec<u8>,
    journal: &'a [Step],
    mut each: impl FnMut(usize, Vec<u8>, &'a [Step]),
) {
    let mut durable = image;
    let mut synced = 0;
    for at in 1..=journal.len() {
        if let Step::Sync = journal[at - 1] {
            for step in &journal[synced..at] {
                step.apply(&mut durable);
            }
            synced = at;
        }
        each(at, durable.clone(), &journal[synced..at]);
    }
}

/// The ways to lose power at a point: after a sync there is one.
fn crashes(since: &[Step], subsets: u64) -> Vec<Crash> {
    if since.is_empty() {
        return vec![Crash::Nothing];
    }
    let mut crashes = vec![Crash::Nothing, Crash::All, Crash::Torn, Crash::Scattered];
    crashes.extend((0..subsets).map(|_| Crash::Some));
    crashes
}

/// Loses power at every call, and in the client's next attempt once more.
fn lose_power_everywhere(is_jwt: bool) {
    let run = run(is_jwt);
    let (subsets, stride) = (rounds(1, 6), rounds(24, 8));
    let mut points = Vec::new();
    each_point(run.base.clone(), &run.journal, |at, durable, since| {
        let acknowledged = run.acks.iter().filter(|(calls, _)| *calls <= at).count();
        // In the short form, not every point of what is no exchange and no refresh.
        let is_left_out = !(1..3).contains(&acknowledged) && !at.is_multiple_of(4);
        if rounds(0, 1) == 1 || !is_left_out && (!is_jwt || at.is_multiple_of(2)) {
            points.push((at, acknowledged, durable, since));
        }
    });
    let count = points.len();
    let (images, nested) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let points = Mutex::new(points.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = points.lock().unwrap().next();
                    let Some((at, acknowledged, durable, since)) = next else {
                        return;
                    };
                    let mut random = StdRng::seed_from_u64(at as u64);
                    let phase = PHASES.get(acknowledged).copied().unwrap_or("the end");
                    let name = format!("call {at} of {count}, in {phase}");
                    for crash in crashes(since, subsets) {
                        let image = crash.image(&durable, since, &mut random);
                        let more = assert_holds(&run, image.clone(), acknowledged, &name);
                        let number = images.fetch_add(1, Ordering::Relaxed) as u64;
                        // Only what began from nothing acknowledged may begin again.
                        if !number.is_multiple_of(stride) || acknowledged > 2 {
                            continue;
                        }
                        let whole = more.len() as u64;
                        let every = rounds(6, 2);
                        each_point(image, &more, |call, durable, since| {
                            if (call as u64 + number).is_multiple_of(every) {
                                let name = format!("{name}, call {call} of {whole} after it");
                                let image = Crash::Scattered.image(&durable, since, &mut random);
                                assert_opens(&run, image, acknowledged, &name);
                                nested.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                }
            });
        }
    });
    let (images, nested) = (images.into_inner(), nested.into_inner());
    println!("{count} points, {images} images, {nested} of a second loss");
    assert!(
        count > 35 && images > 150 && nested > 5,
        "{count} {images} {nested}"
    );
}

/// After a second loss, in the midst of the attempts after the first: the code and the
/// refresh token have given at most one that is good.
fn assert_opens(run: &Run, image: Vec<u8>, acknowledged: usize, name: &str) {
    let at = run.acks[acknowledged].1;
    let w = open(&Disk::of(image), at, run.is_jwt, &run.app);
    assert!(w.engine.check().unwrap().is_sound(), "{name}");
    match PHASES[acknowledged] {
        "refresh" => {
            // The attempts went on after the window: there the token may be one that
            // was replaced. Else it gives the head, again and again.
            if let Ok(pair) = w.refresh(&run.first.refresh).unwrap() {
                assert!(w.is_granted(&pair.access), "{name}");
                let again = w.refresh(&run.first.refresh).unwrap().unwrap();
                assert!(again == pair && w.keys() <= 2, "{name}: a fork");
            }
        }
        _ => {
            let _ = w.redeem(&run.code).unwrap();
            assert!(w.redeem(&run.code).unwrap().is_err(), "{name}");
            // Two at most: of the code that was in flight, and of another of its ticket.
            assert!(!w.is_granted(&run.first.access), "{name}");
        }
    }
    assert!(w.engine.check().unwrap().is_sound(), "{name}");
}

#[test]
fn a_loss_of_power_makes_no_code_good_twice_and_neither_forks_nor_kills_a_family() {
    lose_power_everywhere(false);
}

#[test]
fn with_jwts_a_loss_of_power_does_no_more() {
    lose_power_everywhere(true);
}

/// Each call of an exchange and of a refresh fails once, in each way; the client tries
/// again, and then the process is started anew on what the disk has.
#[test]
fn a_disk_that_fails_in_an_exchange_or_a_refresh_makes_nothing_good_twice() {
    let disk = Disk::default();
    let start = SystemClock.now();
    let w = open(&disk, start, false, &nobody());
    let (app, code) = (w.app.clone(), w.code());
    drop(w);
    let fresh = disk.durable();
    let disk = Disk::of(fresh.clone());
    let w = open(&disk, start, false, &app);
    let first = w.redeem(&code).unwrap().unwrap();
    drop(w);
    let exchanged = disk.durable();
    let mut failed = 0;
    for call in [Call::Write, Call::SetSize, Call::Sync] {
        for how in [How::Broken, How::Full, How::Short, How::Dropped] {
            for nth in 0.. {
                let fault = |disk: &Disk| {
                    disk.set_fault(Some(Fault {
                        call,
                        nth,
                        how,
                        lasts: false,
                    }));
                };
                let name = format!("{call:?} {nth} {how:?}");
                let mut was_reached = false;
                // An exchange.
                let disk = Disk::of(fresh.clone());
                let w = open(&disk, start, false, &app);
                fault(&disk);
                let mut told: Vec<Pair> = Vec::new();
                for _ in 0..2 {
                    if let Ok(Ok(pair)) = w.redeem(&code) {
                        told.push(pair);
                    }
                }
                assert!(told.len() <= 1, "{name}");
                was_reached |= disk.failed() > 0;
                for image in [disk.durable(), disk.live()] {
                    let w = open(&Disk::of(image), start, false, &app);
                    assert!(w.engine.check().unwrap().is_sound(), "{name}");
                    let again = w.redeem(&code).unwrap();
                    assert!(told.is_empty() || again.is_err(), "{name}: good twice");
                    assert!(w.keys() <= 1 && w.redeem(&code).unwrap().is_err(), "{name}");
                }
                drop(w);
                // A refresh.
                let disk = Disk::of(exchanged.clone());
                let later = start.saturating_add(LATER);
                let w = open(&disk, later, false, &app);
                fault(&disk);
                let mut told: Vec<Pair> = Vec::new();
                for _ in 0..2 {
                    match w.refresh(&first.refresh) {
                        Ok(Ok(pair)) => told.push(pair),
                        Ok(Err(error)) => panic!("{name}: the family is dead: {error}"),
                        Err(_) => {}
                    }
                }
                was_reached |= disk.failed() > 0;
                for image in [disk.durable(), disk.live()] {
                    let w = open(&Disk::of(image), later, false, &app);
                    assert!(w.engine.check().unwrap().is_sound(), "{name}");
                    let pair = w.refresh(&first.refresh).unwrap().unwrap();
                    assert!(told.iter().all(|told| *told == pair), "{name}: a fork");
                    assert!(w.is_granted(&pair.access) && w.keys() <= 2, "{name}");
                }
                if !was_reached {
                    break;
                }
                failed += 1;
            }
        }
    }
    println!("{failed} calls that failed");
    assert!(failed > 30, "{failed}");
}
