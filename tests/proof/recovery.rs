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

use gatekey::proof::{lagging, open_on, reading_first};
use gatekey::{Engine, Error, Issued, NewKey, NewKeyspace, Options, Reason};

use crate::disk::{Call, Disk, Fault, How};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

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
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
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

/// What a kill leaves of a store in which the first key was revoked last.
fn killed() -> (Vec<u8>, Vec<Issued>) {
    let disk = Disk::default();
    let (engine, issued) = begin(options(), &disk);
    engine
        .revoke(issued[0].key.id, Reason::KeyCompromise)
        .unwrap();
    (disk.live(), issued)
}

#[test]
fn a_file_that_was_not_closed_is_read_while_it_cannot_be_repaired_and_then_takes_changes() {
    let (image, issued) = killed();
    for call in [Call::Write, Call::Sync] {
        let disk = Disk::of(image.clone());
        let engine = open_on(reading_first(options(), true), disk.clone()).unwrap();
        disk.set_fault(Some(fault(call, How::Broken)));
        for _ in 0..2 {
            let refused = engine.revoke(issued[1].key.id, Reason::KeyCompromise);
            assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
            assert!(!is_granted(&engine, &issued[0]));
            assert!(issued[1..].iter().all(|issued| is_granted(&engine, issued)));
            assert!(!engine.health().is_well());
        }
        disk.set_fault(None);
        until("it is repaired", || {
            engine
                .revoke(issued[1].key.id, Reason::KeyCompromise)
                .is_ok()
        });
        assert!(engine.health().is_well() && engine.check().unwrap().is_sound());
        for (at, issued) in issued.iter().enumerate() {
            assert_eq!(is_granted(&engine, issued), at > 1, "{at}");
        }
    }
}

/// A page of it is damaged, which checksums tell: as in a copy that another program made.
#[test]
fn a_file_of_which_a_repair_finds_that_it_does_not_hold_together_is_read_no_more() {
    let (image, issued) = killed();
    let (mut refused, mut found) = (0, 0);
    let places = (1..image.len() / 4096).flat_map(|page| [60, 300].map(|at| page * 4096 + at));
    for place in places.filter(|place| image[*place] != 0) {
        let mut image = image.clone();
        image[place] ^= 1;
        let Ok(engine) = open_on(reading_first(options(), true), Disk::of(image)) else {
            refused += 1;
            continue;
        };
        if let Err(error) = engine.flush() {
            found += 1;
            assert!(matches!(error, Error::Corrupted(_)), "{error}");
            assert!(
                issued
                    .iter()
                    .all(|it| engine.verify(it.token.expose()).is_err())
            );
            assert!(!engine.health().is_well());
        }
    }
    assert!(
        found > 3,
        "{found} found by a repair, {refused} refused at once"
    );
}

/// As a copy is that ended too early.
#[test]
fn a_file_that_was_not_closed_and_is_cut_off_is_refused_or_read_no_more() {
    // Where the newest roots stand is up to the keys' ids: of a file that has them at its end,
    // everything is refused at once.
    let found = (0..32).any(|_| {
        let disk = Disk::default();
        let (engine, issued) = begin(options(), &disk);
        for batch in 0..8 {
            let key = |at| NewKey::new("acme", format!("customer-{batch}/bot-{at}")).unwrap();
            engine.issue_batch((0..500).map(key).collect()).unwrap();
        }
        engine
            .revoke(issued[0].key.id, Reason::KeyCompromise)
            .unwrap();
        is_read_no_more_once_cut(&disk.live(), &issued)
    });
    assert!(found);
}

/// Cuts a file off at each eighth page. Whether some of what is left was opened, and what is
/// missing found later.
fn is_read_no_more_once_cut(image: &[u8], issued: &[Issued]) -> bool {
    let mut opened = 0;
    for pages in (1..image.len() / 4096).step_by(8) {
        let image = image[..pages * 4096].to_vec();
        let Ok(engine) = open_on(reading_first(options(), true), Disk::of(image)) else {
            continue;
        };
        let Err(error) = engine.flush() else {
            // What was cut off was free.
            assert!(engine.check().unwrap().is_sound());
            continue;
        };
        opened += 1;
        assert!(matches!(error, Error::Corrupted(_)), "{pages}: {error}");
        let is_error = |it: &Issued| engine.verify(it.token.expose()).is_err();
        assert!(issued.iter().all(is_error), "{pages}");
    }
    opened > 0
}

/// A failed sync has the store written to a new file, which a damaged one must not be.
#[test]
fn a_file_that_does_not_hold_together_is_not_written_anew_after_a_failed_sync() {
    let (image, issued) = killed();
    let mut found = 0;
    let places = (1..image.len() / 4096).map(|page| page * 4096 + 300);
    for place in places.filter(|place| image[*place] != 0) {
        let mut image = image.clone();
        image[place] ^= 1;
        let disk = Disk::of(image);
        let Ok(engine) = open_on(reading_first(options(), true), disk.clone()) else {
            continue;
        };
        disk.set_fault(Some(fault(Call::Sync, How::Broken)));
        let first = engine.flush();
        disk.set_fault(None);
        if first.is_ok() {
            continue;
        }
        let mut last = first;
        until("it is found out", || {
            last = engine.flush();
            !matches!(last, Err(Error::Store(_)))
        });
        if let Err(error) = last {
            found += 1;
            assert!(matches!(error, Error::Corrupted(_)), "{place}: {error}");
            let is_error = |it: &Issued| engine.verify(it.token.expose()).is_err();
            assert!(issued.iter().all(is_error), "{place}");
        }
    }
    assert!(found > 0);
}

/// How many records of keys say, in a file, that the key is suspended.
fn suspended(image: &[u8]) -> usize {
    const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    let db = Database::open(file.path()).unwrap();
    let keys = db.begin_read().unwrap().open_table(KEYS).unwrap();
    let records = keys.iter().unwrap();
    records
        .filter(|record| record.as_ref().unwrap().1.value()[5] != 0)
        .count()
}

/// An engine that writes no usage, whose thread watches the store alone.
#[test]
fn keys_that_lag_as_the_store_fails_are_brought_up_once_it_has_recovered() {
    let disk = Disk::default();
    disk.set_sync_time(Duration::from_millis(1));
    let options = lagging(options(), 2, true).on_failure(|_| {});
    let engine = open_on(options, disk.clone()).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let keys = vec![NewKey::new("acme", "acme").unwrap(); 600];
    engine.issue_batch(keys).unwrap();
    engine.suspend("acme", None).unwrap();
    disk.set_fault(Some(fault(Call::Write, How::Broken)));
    until("it fails", || !engine.health().is_well());
    let behind = suspended(&disk.live());
    assert!(behind < 600, "they were brought up before the disk failed");
    disk.set_fault(None);
    until("it recovers and goes on", || {
        engine.health().is_well() && suspended(&disk.live()) == 600
    });
}
