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
        (Call::Sync, &[How::Broken, How::Full, How::Dropped]),
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

/// What the runs with faults came to.
#[derive(Default)]
struct Tally {
    runs: AtomicU64,
    /// Reads that failed, and that no verb needed.
    passed_over: AtomicU64,
    /// Verifications that were an error.
    unverified: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    met: Mutex<BTreeMap<String, u64>>,
}

type Begin = fn(Disk) -> Result<World, Error>;

/// Every so manieth of the faults that the script can meet, in a run of its own.
fn run_with_faults(begin: Begin, stride: u64, looks: &[Look]) -> Tally {
    let disk = Disk::default();
    let mut world = begin(disk.clone()).unwrap();
    disk.set_fault(None);
    for (at, verb) in SCRIPT.iter().enumerate() {
        world.run(at, *verb).unwrap();
    }
    let faults = faults(|call| disk.calls(call));
    let tally = Tally::default();
    each_fault(&faults, stride, |fault| {
        run_with_fault(begin, fault, looks, &tally);
    });
    println!(
        "{} faults, {} runs, {} passed over: {:?}; {} verifications without an answer",
        faults.len(),
        tally.runs.load(Ordering::Relaxed),
        tally.passed_over.load(Ordering::Relaxed),
        tally.errors.lock().unwrap(),
        tally.unverified.load(Ordering::Relaxed)
    );
    tally
}

fn run_with_fault(begin: Begin, fault: Fault, looks: &[Look], tally: &Tally) {
    let disk = Disk::default();
    let mut world = begin(disk.clone()).unwrap();
    disk.set_fault(Some(fault));
    tally.runs.fetch_add(1, Ordering::Relaxed);
    let failed = SCRIPT
        .iter()
        .enumerate()
        .find_map(|(at, verb)| world.run(at, *verb).err().map(|error| (at, *verb, error)));
    let Some((at, verb, error)) = failed else {
        // One read may fail of those that only look whether something is to be done.
        let is_passed_over = fault.call == Call::Read && !fault.lasts;
        assert!(is_passed_over, "{fault:?} was met, and no verb failed");
        let seen = look_at_copy(&world, SCRIPT.len());
        assert_eq!(seen.difference(&looks[SCRIPT.len()]), None, "{fault:?}");
        tally.passed_over.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let place = format!("{fault:?}, in {}", verb.0);
    assert_tells(&error, &place);
    assert!(disk.failed() > 0, "{place}: {error:?}, and nothing failed");
    let count = |counts: &Mutex<BTreeMap<String, u64>>, name: String| {
        *counts.lock().unwrap().entry(name).or_default() += 1;
    };
    let mut name = format!("{error:?}");
    name.truncate(name.find(['(', ' ']).unwrap_or(name.len()));
    count(&tally.errors, name);
    count(&tally.met, format!("{:?} {:?}", fault.call, fault.how));
    let is_several = is_of_several_commits(verb.0);
    // What is not unknown was not applied, and what is unknown is not seen before the
    // store is opened again.
    let meanwhile = &looks[at..=at + usize::from(is_several)];
    let is_unknown = matches!(error, Error::OutcomeUnknown(_) | Error::Open { .. });
    let allowed = &looks[at..=at + usize::from(is_unknown || is_several)];
    for (number, (_, token)) in world.tokens.iter().enumerate() {
        match verdict(&world.engine, token) {
            Ok(told) => assert!(
                meanwhile
                    .iter()
                    .any(|look| look.verdicts.get(number) == Some(&told)),
                "{place}: token {number} is {told}, and is {:?}",
                looks[at].verdicts.get(number)
            ),
            Err(Error::Closed) if verb.0.starts_with("close") => {}
            Err(error) => {
                tally.unverified.fetch_add(1, Ordering::Relaxed);
                assert_tells(&error, &place);
            }
        }
    }
    let images = [("crash", disk.live()), ("loss of power", disk.durable())];
    if matches!(error, Error::OutcomeUnknown(_)) {
        let later = world
            .engine
            .create_keyspace(NewKeyspace::new("later").unwrap());
        assert!(
            matches!(later, Err(Error::NeedsReopen)),
            "{place}: {later:?}"
        );
    }
    drop(world.engine);
    let dropped = ("close", disk.live());
    for (what, image) in images.into_iter().chain([dropped]) {
        let place = format!("{place}, after a {what}");
        let engine = open(&Disk::of(image), at).expect(&place);
        assert_sound(&engine, &place);
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
}

#[test]
fn on_a_disk_that_fails_nothing_acknowledged_is_lost_and_no_verdict_is_wrong() {
    let tally = run_with_faults(World::begin, rounds(5, 1), &reference());
    assert_eq!(tally.passed_over.into_inner(), 0);
    let met = tally.met.into_inner().unwrap();
    for call in [
        "Write Broken",
        "Write Full",
        "Write Short",
        "Sync Broken",
        "Sync Full",
        "Sync Dropped",
    ] {
        assert!(met.contains_key(call), "no fault {call} was met: {met:?}");
    }
}

/// With nothing kept in memory, so that verifications meet the disk too.
#[test]
fn on_a_disk_that_fails_a_verification_that_reads_it_is_right_or_an_error() {
    let tally = run_with_faults(World::begin_cold, rounds(40, 4), &reference());
    let unverified = tally.unverified.into_inner();
    assert!(unverified > 100, "{unverified} without an answer");
    assert!(tally.met.into_inner().unwrap().contains_key("Read Broken"));
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
