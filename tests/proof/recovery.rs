//! A store that fails and recovers beneath its engine: what is told of it, when it is
//! tried again, and that nothing is granted meanwhile that was taken away.
//!
//! Invariants checked:
//! - 2, 3: before, during and after, on the same engine;
//! - 10: where it is asked for, an engine that takes no changes verifies nothing;
//! - `health`, `stats` and `flush` tell of it; so does the hook, which may panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gatekey::proof::open_on;
use gatekey::{Engine, Error, Issued, NewKey, NewKeyspace, Options, Reason};

use crate::disk::{Call, Disk, Fault, How};

fn options() -> Options {
    Options::new().resident_bytes(1 << 16).usage_interval(None)
}

fn fault(call: Call, how: How) -> Fault {
    Fault {
        call,
        nth: 0,
        how,
        lasts: true,
    }
}

fn begin(options: Options, disk: &Disk) -> (Engine, Vec<Issued>) {
    let engine = open_on(options, disk.clone()).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let keys = vec![NewKey::new("acme", "acme").unwrap(); 20];
    let issued = engine.issue_batch(keys).unwrap();
    (engine, issued)
}

fn is_granted(engine: &Engine, issued: &Issued) -> bool {
    let verdict = engine.verify(issued.token.expose());
    verdict.unwrap().is_granted()
}

/// Waits for what happens in the background, for as long as a slow machine takes.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_ends_no_revocation() {
    for (call, how) in [
        (Call::Write, How::Full),
        (Call::Write, How::Short),
        (Call::Write, How::Broken),
        (Call::Sync, How::Full),
        (Call::Sync, How::Dropped),
    ] {
        let disk = Disk::default();
        let (engine, issued) = begin(options(), &disk);
        let [revoked, kept] = [&issued[0], &issued[1]];
        disk.set_fault(Some(fault(call, how)));
        for _ in 0..3 {
            let refused = engine.revoke(revoked.key.id, Reason::KeyCompromise);
            assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
            // From memory, and from the file.
            assert!(issued.iter().all(|issued| is_granted(&engine, issued)));
            assert!(engine.flush().is_err());
            let stats = engine.stats().unwrap();
            assert_eq!(stats.health, engine.health());
            let failure = stats.health.failure().expect("it takes no changes").clone();
            assert!(failure.is_recoverable());
            assert!(failure.advice().contains("recovers by itself"));
        }
        disk.set_fault(None);
        until("it recovers", || {
            engine.revoke(revoked.key.id, Reason::KeyCompromise).is_ok()
        });
        assert!(engine.health().is_well() && engine.stats().unwrap().health.is_well());
        assert!(!is_granted(&engine, revoked) && is_granted(&engine, kept));
        engine.flush().unwrap();
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
        for image in [disk.live(), disk.durable()] {
            let engine = open_on(options(), Disk::of(image)).unwrap();
            assert!(!is_granted(&engine, revoked) && is_granted(&engine, kept));
        }
    }
}

/// What was written since the last sync may be lost where a sync fails, whatever reads
/// back; where no sync has failed, the file is good, and there may be no room for another.
#[test]
fn a_store_is_written_anew_after_a_failed_sync_and_only_then() {
    for (call, is_anew) in [(Call::Sync, true), (Call::Write, false)] {
        let disk = Disk::default();
        let (engine, issued) = begin(options(), &disk);
        disk.set_fault(Some(fault(call, How::Broken)));
        engine.disable(issued[0].key.id).unwrap_err();
        disk.set_fault(None);
        until("it recovers", || engine.disable(issued[0].key.id).is_ok());
        assert_eq!(disk.found().number() > 0, is_anew, "{call:?}");
        assert!(engine.check().unwrap().is_sound());
    }
}

#[test]
fn the_engine_recovers_by_itself_and_tells_a_hook_that_may_panic() {
    let told = Arc::new(AtomicU64::new(0));
    let hook = {
        let told = told.clone();
        move |failure: &gatekey::Failure| {
            assert!(failure.to_string().contains("takes no changes"));
            told.fetch_add(1, Ordering::SeqCst);
            panic!("a fault of the caller's");
        }
    };
    let disk = Disk::default();
    let (engine, issued) = begin(options().on_failure(hook), &disk);
    disk.set_fault(Some(fault(Call::Write, How::Full)));
    engine.disable(issued[0].key.id).unwrap_err();
    until("the hook is called twice", || {
        told.load(Ordering::SeqCst) > 1
    });
    assert!(engine.health().failure().unwrap().attempts() > 0);
    disk.set_fault(None);
    until("it recovers", || engine.health().is_well());
    engine.disable(issued[0].key.id).unwrap();
    engine.close().unwrap();
}

#[test]
fn an_engine_that_takes_no_changes_fails_closed_when_it_is_told_to() {
    let hour = Duration::from_secs(3600);
    for (after, is_closed) in [
        (Some(Duration::ZERO), true),
        (Some(hour), false),
        (None, false),
    ] {
        let disk = Disk::default();
        let (engine, issued) = begin(options().fail_closed_after(after), &disk);
        assert!(is_granted(&engine, &issued[0]));
        disk.set_fault(Some(fault(Call::Write, How::Full)));
        engine.disable(issued[0].key.id).unwrap_err();
        let token = issued[1].token.expose();
        let one = engine.verify(token);
        let mut many = engine.verify_many(&[token], &gatekey::Requirements::new());
        for verdict in [one, many.remove(0)] {
            match verdict {
                Ok(verdict) => assert!(!is_closed && verdict.is_granted()),
                Err(error) => {
                    assert!(is_closed && matches!(error, Error::FailedClosed { .. }));
                }
            }
        }
        disk.set_fault(None);
        until("it recovers", || engine.flush().is_ok());
        assert!(is_granted(&engine, &issued[0]));
    }
}

/// Threads verify all the time, while the disk fails and recovers, and keys are revoked
/// in between: what was revoked, and acknowledged, is never granted again, and what was
/// not is never denied.
#[test]
fn verifications_under_way_see_no_stale_grant_and_no_error() {
    let disk = Disk::default();
    // Nothing is kept in memory: every verification reads the file.
    let (engine, issued) = begin(options().resident_bytes(0).cache_bytes(0), &disk);
    let revoked: Vec<AtomicBool> = issued.iter().map(|_| AtomicBool::new(false)).collect();
    let begun: Vec<AtomicBool> = issued.iter().map(|_| AtomicBool::new(false)).collect();
    let ends = AtomicBool::new(false);
    let verified = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ends.load(Ordering::SeqCst) {
                    for (at, issued) in issued.iter().enumerate() {
                        let was_revoked = revoked[at].load(Ordering::SeqCst);
                        let is_granted = is_granted(&engine, issued);
                        assert!(!(was_revoked && is_granted), "a stale grant");
                        assert!(is_granted || begun[at].load(Ordering::SeqCst));
                        verified.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for (at, issued) in issued.iter().enumerate().skip(1) {
            let (call, how) = match at % 4 {
                0 => (Call::Sync, How::Dropped),
                1 => (Call::Write, How::Full),
                2 => (Call::Write, How::Short),
                _ => (Call::Sync, How::Broken),
            };
            disk.set_fault(Some(Fault {
                nth: at as u64 % 6,
                ..fault(call, how)
            }));
            begun[at].store(true, Ordering::SeqCst);
            let failed = engine.revoke(issued.key.id, Reason::Superseded).is_err();
            disk.set_fault(None);
            until("it recovers", || {
                engine.revoke(issued.key.id, Reason::Superseded).is_ok()
            });
            revoked[at].store(true, Ordering::SeqCst);
            assert!(failed || at % 6 != 0);
            let seen = verified.load(Ordering::SeqCst);
            until("they go on", || verified.load(Ordering::SeqCst) > seen + 40);
        }
        ends.store(true, Ordering::SeqCst);
    });
    assert!(is_granted(&engine, &issued[0]));
    assert!(engine.check().unwrap().is_sound());
}
