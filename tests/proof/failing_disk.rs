//! A disk on which calls fail: the nth of each kind, once or from then on.
//!
//! Invariants checked:
//! - 3: what was acknowledged is there when the disk is well again, after a crash of the
//!   process and after a loss of power; what failed is there whole or not at all, and
//!   where the error says that it was not applied, not at all;
//! - 10: a verification meanwhile is right, or an error; never a panic;
//! - an error says what to do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use gatekey::{Error, NewKeyspace, OpenError};

use crate::disk::{Call, Disk, Fault, How};
use crate::rounds;
use crate::workload::{Look, SCRIPT, World, assert_sound, look, look_at_copy, open, verdict};

/// What the store says after each verb on a disk that is well.
fn reference() -> Vec<Look> {
    let mut world = World::begin(Disk::default()).unwrap();
    let mut looks = vec![look_at_copy(&world, 0)];
    for (at, verb) in SCRIPT.iter().enumerate() {
        world.run(at, *verb).unwrap();
        looks.push(look_at_copy(&world, at + 1));
    }
    looks
}

/// Every fault that the script can meet: of each kind of call, as many as a run on a
/// disk that is well makes.
fn faults(calls: impl Fn(Call) -> u64) -> Vec<Fault> {
    let kinds: [(Call, &[How]); 4] = [
        (Call::Read, &[How::Broken]),
        (Call::Write, &[How::Broken, How::Full, How::Short]),
        (Call::SetSize, &[How::Broken, How::Full]),
        (Call::Sync, &[How::Broken, How::Full]),
    ];
    let mut faults = Vec::new();
    for (call, hows) in kinds {
        for nth in 0..calls(call) {
            for how in hows {
                for lasts in [false, true] {
                    faults.push(Fault {
                        call,
                        nth,
                        how: *how,
                        lasts,
                    });
                }
            }
        }
    }
    faults
}

/// Runs `each` with every so manieth fault, on two threads.
fn each_fault(faults: &[Fault], stride: u64, each: impl Fn(Fault) + Sync) {
    let chosen = faults.iter().step_by(usize::try_from(stride).unwrap());
    let chosen = Mutex::new(chosen);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = chosen.lock().unwrap().next();
                    let Some(fault) = next else { return };
                    each(*fault);
                }
            });
        }
    });
}

/// Whether an error is one of the disk's, and says what became of the change.
fn assert_tells(error: &Error, place: &str) {
    let text = error.to_string();
    let tells = match error {
        Error::OutcomeUnknown(_) => text.contains("outcome") && text.contains("open it again"),
        Error::NeedsReopen => text.contains("open the store again"),
        Error::Store(_) => text.contains("the store failed"),
        Error::Open { reason, .. } => matches!(
            reason,
            OpenError::Io(_) | OpenError::Store(_) | OpenError::Corrupted(_)
        ),
        _ => false,
    };
    assert!(tells, "{place}: {error:?}: {text}");
}

/// Verbs of more than one commit, of which the first may be there without the last.
fn is_of_several_commits(name: &str) -> bool {
    ["flush uses", "renew digests", "purge", "spend of a quota"].contains(&name)
        || name.starts_with("close")
}

#[test]
fn on_a_disk_that_fails_nothing_acknowledged_is_lost_and_no_verdict_is_wrong() {
    let looks = reference();
    let disk = Disk::default();
    let mut world = World::begin(disk.clone()).unwrap();
    disk.set_fault(None);
    for (at, verb) in SCRIPT.iter().enumerate() {
        world.run(at, *verb).unwrap();
    }
    let faults = faults(|call| disk.calls(call));
    let met = AtomicU64::new(0);
    let errors = Mutex::new(BTreeMap::<String, u64>::new());
    let runs = AtomicU64::new(0);
    each_fault(&faults, rounds(5, 1), |fault| {
        let disk = Disk::default();
        let mut world = World::begin(disk.clone()).unwrap();
        disk.set_fault(Some(fault));
        runs.fetch_add(1, Ordering::Relaxed);
        let failed = SCRIPT
            .iter()
            .enumerate()
            .find_map(|(at, verb)| world.run(at, *verb).err().map(|error| (at, *verb, error)));
        let Some((at, verb, error)) = failed else {
            // It was met by what need not succeed, as the growth of a cache's file.
            return;
        };
        met.fetch_add(1, Ordering::Relaxed);
        let place = format!("{fault:?}, in {}", verb.0);
        assert_tells(&error, &place);
        assert!(disk.failed() > 0, "{place}: {error:?}, and nothing failed");
        let is_unknown = !matches!(error, Error::Store(_)) || is_of_several_commits(verb.0);
        let mut name = format!("{error:?}");
        name.truncate(name.find(['(', ' ']).unwrap_or(name.len()));
        *errors.lock().unwrap().entry(name).or_default() += 1;
        let allowed = match is_unknown {
            true => &looks[at..at + 2],
            false => &looks[at..=at],
        };
        for (number, (_, token)) in world.tokens.iter().enumerate() {
            match verdict(&world.engine, token) {
                Ok(told) => assert!(
                    allowed
                        .iter()
                        .any(|look| look.verdicts.get(number) == Some(&told)),
                    "{place}: token {number} is {told}, and is {:?}",
                    looks[at].verdicts.get(number)
                ),
                Err(Error::Closed) if verb.0.starts_with("close") => {}
                Err(error) => assert_tells(&error, &place),
            }
        }
        // It may take a further change, and then it keeps it.
        let later = NewKeyspace::new("later").unwrap();
        let later = world.engine.create_keyspace(later);
        drop(world.engine);
        disk.set_fault(None);
        for (what, image) in [("crash", disk.live()), ("loss of power", disk.durable())] {
            let place = format!("{place}, after a {what}");
            let engine = open(&Disk::of(image), at).expect(&place);
            assert_sound(&engine, &place);
            let is_there = engine.keyspace("later").is_ok();
            match &later {
                Ok(_) => {
                    assert!(is_there, "{place}: a later change is lost");
                    continue;
                }
                Err(Error::Closed) => {}
                Err(error) => assert_tells(error, &place),
            }
            if is_there {
                continue;
            }
            let seen = look(&engine, &world.tokens).expect(&place);
            let differences: Vec<_> = allowed.iter().map(|look| seen.difference(look)).collect();
            assert!(
                differences.iter().any(Option::is_none),
                "{place}: {error:?}: {differences:#?}"
            );
            engine
                .create_keyspace(NewKeyspace::new("well").unwrap())
                .expect("it takes changes again");
        }
    });
    println!(
        "{} faults, {} runs, {} met: {:?}",
        faults.len(),
        runs.into_inner(),
        met.load(Ordering::Relaxed),
        errors.into_inner().unwrap()
    );
    assert!(met.into_inner() > 50);
}

#[test]
fn a_store_whose_disk_fails_while_it_opens_opens_when_the_disk_is_well() {
    let disk = Disk::default();
    let mut world = World::begin(disk.clone()).unwrap();
    for (at, verb) in SCRIPT.iter().enumerate() {
        world.run(at, *verb).unwrap();
    }
    let at = SCRIPT.len();
    let expected = look_at_copy(&world, at);
    // One that was not closed, whose recovery writes, and one that was.
    let unclosed = disk.live();
    drop(world.engine);
    let mut met = 0;
    for image in [unclosed, disk.live()] {
        let disk = Disk::of(image.clone());
        disk.set_fault(None);
        drop(open(&disk, at).unwrap());
        for fault in faults(|call| disk.calls(call)) {
            let disk = Disk::of(image.clone());
            disk.set_fault(Some(fault));
            match open(&disk, at) {
                Ok(engine) => drop(engine),
                Err(error) => {
                    met += 1;
                    assert_tells(&error, &format!("{fault:?}"));
                }
            }
            disk.set_fault(None);
            for image in [disk.live(), disk.durable()] {
                let engine = open(&Disk::of(image), at).expect("the disk is well");
                let seen = look(&engine, &world.tokens).unwrap();
                assert_eq!(seen.difference(&expected), None, "{fault:?}");
            }
        }
    }
    assert!(met > 20, "{met}");
}
