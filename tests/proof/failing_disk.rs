//! A disk on which calls fail: the nth of each kind, once or from then on.
//!
//! Invariants checked:
//! - 3: what was acknowledged is there when the disk is well again, after a crash of the
//!   process and after a loss of power; what failed is there whole or not at all, and
//!   where the error says that it was not applied, not at all;
//! - 10: a verification meanwhile is right, or an error; never a panic;
//! - once the disk is well, the engine goes on without being opened anew, and whatever
//!   failed was applied whole or not at all;
//! - an error says what to do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatekey::{Engine, Error, OpenError};

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
fn each_fault<T: Copy + Send + Sync>(faults: &[T], stride: u64, each: impl Fn(T) + Sync) {
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
        Error::OutcomeUnknown(_) => {
            text.contains("outcome") && text.contains("read the state again")
        }
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
    /// Verbs that failed, and of which the engine knew when it had recovered that they
    /// were not applied, or were.
    recovered: AtomicU64,
    applied: AtomicU64,
    /// Verifications that were an error.
    unverified: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    met: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn count(&self, error: &Error, fault: Fault) {
        let count = |counts: &Mutex<BTreeMap<String, u64>>, name: String| {
            *counts.lock().unwrap().entry(name).or_default() += 1;
        };
        // `Debug` of an error is its sentence.
        let name = match error {
            Error::OutcomeUnknown(_) => "OutcomeUnknown",
            Error::Store(_) => "Store",
            _ => "other",
        };
        count(&self.errors, name.to_owned());
        count(&self.met, format!("{:?} {:?}", fault.call, fault.how));
    }

    fn tell(&self, faults: usize) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        println!(
            "{faults} faults, {} runs, {} passed over: {:?}; recovered: {} not applied, {} \
             applied; {} verifications without an answer",
            count(&self.runs),
            count(&self.passed_over),
            self.errors.lock().unwrap(),
            count(&self.recovered),
            count(&self.applied),
            count(&self.unverified)
        );
    }
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
        run_with_fault(begin, &[fault], looks, &tally);
    });
    tally.tell(faults.len());
    tally
}

fn run_with_fault(begin: Begin, faults: &[Fault], looks: &[Look], tally: &Tally) {
    let disk = Disk::default();
    let mut world = begin(disk.clone()).unwrap();
    disk.set_faults(faults);
    tally.runs.fetch_add(1, Ordering::Relaxed);
    let mut at = 0;
    let mut has_failed = false;
    while let Some(verb) = SCRIPT.get(at) {
        let Err(error) = world.run(at, *verb) else {
            at += 1;
            continue;
        };
        has_failed = true;
        let place = format!("{faults:?}, in {}", verb.0);
        assert!(disk.failed() > 0, "{place}: {error:?}, and nothing failed");
        tally.count(&error, faults[0]);
        match go_on(&mut world, at, &error, &place, looks, tally) {
            // Its answer was lost, and the rest of the script builds on that.
            GoesOn::After => return,
            GoesOn::With => {}
        }
    }
    if !has_failed {
        // Either the read of something that only looks whether there is something to be
        // done, or of a commit that was found to be durable.
        tally.passed_over.fetch_add(1, Ordering::Relaxed);
    }
    let seen = look_at_copy(&world, at);
    assert_eq!(seen.difference(&looks[at]), None, "{faults:?}");
}

/// How a run goes on after a verb has failed.
enum GoesOn {
    /// With the verb, once more.
    With,
    /// It ends, after the verb.
    After,
}

/// Asserts what holds while the disk fails, after a crash then, and once it is well.
fn go_on(
    world: &mut World,
    at: usize,
    error: &Error,
    place: &str,
    looks: &[Look],
    tally: &Tally,
) -> GoesOn {
    let verb = SCRIPT[at].0;
    let disk = world.disk.clone();
    assert_tells(error, place);
    let is_several = is_of_several_commits(verb);
    // What is not unknown was not applied, and what is unknown is not seen before it is
    // known.
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
            Err(Error::Closed) if verb.starts_with("close") => {}
            Err(error) => {
                tally.unverified.fetch_add(1, Ordering::Relaxed);
                assert_tells(&error, place);
            }
        }
    }
    let images = [("crash", disk.live()), ("loss of power", disk.durable())];
    for (what, image) in images {
        let place = format!("{place}, after a {what}");
        let engine = open(&Disk::of(image), at).expect(&place);
        assert_sound(&engine, &place);
        let seen = look(&engine, &world.tokens).expect(&place);
        let differences: Vec<_> = allowed.iter().map(|look| seen.difference(look)).collect();
        assert!(
            differences.iter().any(Option::is_none),
            "{place}: {error:?}: {differences:#?}"
        );
    }
    // It is well again, and the engine goes on without being opened anew.
    disk.set_fault(None);
    if verb.starts_with("close") {
        let engine = open(&disk.found(), at).expect(place);
        assert_sound(&engine, place);
        return GoesOn::After;
    }
    recover(&world.engine, place);
    assert_sound(&world.engine, place);
    let copied = look_at_copy(world, at);
    let seen = look(&world.engine, &world.tokens).expect(place);
    assert_eq!(seen.difference(&copied), None, "{place}: the file differs");
    if seen.difference(&looks[at]).is_none() {
        tally.recovered.fetch_add(1, Ordering::Relaxed);
        // With a newer pepper, what was asked on the way leaves notes that are written.
        let renews = SCRIPT[..at].iter().any(|verb| verb.0.starts_with("close"));
        return match renews {
            true => GoesOn::After,
            false => GoesOn::With,
        };
    }
    let differences: Vec<_> = allowed.iter().map(|look| seen.difference(look)).collect();
    assert!(
        differences.iter().any(Option::is_none),
        "{place}, recovered: {error:?}: {differences:#?}"
    );
    tally.applied.fetch_add(1, Ordering::Relaxed);
    GoesOn::After
}

/// Waits for an engine whose disk is well to be well.
fn recover(engine: &Engine, place: &str) {
    // A change that finds nothing to do: a flush would write what was asked on the way.
    let change = || engine.purge(Duration::from_secs(1 << 40));
    for _ in 0..10_000 {
        match change() {
            Ok(purged) => {
                assert_eq!(purged.keys, 0);
                assert!(engine.health().is_well(), "{place}");
                return;
            }
            Err(error) => assert_tells(&error, place),
        }
        assert!(!engine.health().is_well(), "{place}");
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{place}: {:?}", change());
}

#[test]
fn on_a_disk_that_fails_nothing_acknowledged_is_lost_and_no_verdict_is_wrong() {
    let tally = run_with_faults(World::begin, rounds(23, 1), &reference());
    assert!(tally.recovered.into_inner() > 100);
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
    let tally = run_with_faults(World::begin_cold, rounds(80, 4), &reference());
    let unverified = tally.unverified.into_inner();
    assert!(unverified > 20, "{unverified} without an answer");
    assert!(tally.met.into_inner().unwrap().contains_key("Read Broken"));
}

/// The disk fails a second time, and goes on to, while the engine recovers: what
/// became of the change may then not be known before the disk is well.
#[test]
fn on_a_disk_that_fails_again_while_the_engine_recovers_nothing_is_lost() {
    let disk = Disk::default();
    let mut world = World::begin(disk.clone()).unwrap();
    disk.set_fault(None);
    for (at, verb) in SCRIPT.iter().enumerate() {
        world.run(at, *verb).unwrap();
    }
    let syncs = disk.calls(Call::Sync);
    let writes = disk.calls(Call::Write);
    let mut pairs = Vec::new();
    let first = (0..syncs).map(|nth| (Call::Sync, nth, How::Dropped));
    let other = (0..writes)
        .step_by(7)
        .map(|nth| (Call::Write, nth, How::Broken));
    for (call, nth, how) in first.chain(other) {
        let fault = |call, nth, how, lasts| Fault {
            call,
            nth,
            how,
            lasts,
        };
        let one = fault(call, nth, how, false);
        for (call, last) in [
            (Call::Read, 3),
            (Call::Write, 9),
            (Call::SetSize, 1),
            (Call::Sync, 3),
            (Call::TakePlace, 0),
            (Call::SyncPlace, 0),
        ] {
            // Of those that last, one after the other of the calls begins it.
            pairs.push([one, fault(call, nth % (last + 1), How::Broken, true)]);
        }
    }
    let (looks, tally) = (reference(), Tally::default());
    each_fault(&pairs, rounds(19, 1), |pair| {
        run_with_fault(World::begin, &pair, &looks, &tally);
    });
    tally.tell(pairs.len());
    let errors = tally.errors.lock().unwrap();
    assert!(errors.contains_key("OutcomeUnknown"), "{errors:?}");
    assert!(tally.recovered.into_inner() > 20);
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
