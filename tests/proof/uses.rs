//! Uses of keys on a disk that fails while they are written: whatever becomes of that
//! flush, each use is counted once when the disk is well again.
//!
//! Invariants checked: 3 and 10; and that no flush counts a use twice, or forgets one,
//! where there are more keys than one transaction writes the uses of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gatekey::proof::open_on;
use gatekey::{Engine, Error, Issued, KeyFilter, NewKey, NewKeyspace, Options};

use crate::disk::{Call, Disk, Fault, How};
use crate::rounds;

/// Of two transactions, the second is of few.
const KEYS: usize = 4096 + 50;

fn open(disk: &Disk) -> Engine {
    let options = Options::new()
        .resident_bytes(1 << 20)
        .usage_interval(Duration::from_secs(86_400));
    open_on(options, disk.clone()).unwrap()
}

/// How often each key is used in a round: the two transactions are of all sorts.
fn times(at: usize) -> u64 {
    1 + at as u64 % 2
}

fn use_all(engine: &Engine, issued: &[Issued]) {
    for (at, issued) in issued.iter().enumerate() {
        for _ in 0..times(at) {
            let verdict = engine.verify(issued.token.expose());
            assert!(verdict.unwrap().is_granted());
        }
    }
}

/// How many keys have been counted in so many rounds.
fn counted(engine: &Engine, issued: &[Issued]) -> BTreeMap<u64, usize> {
    let ats: BTreeMap<_, _> = (issued.iter().enumerate())
        .map(|(at, issued)| (issued.key.id, at))
        .collect();
    let mut rounds = BTreeMap::new();
    for key in engine.keys(KeyFilter::new()) {
        let key = key.unwrap();
        let times = times(ats[&key.id]);
        assert_eq!(key.usage.count % times, 0, "{key:?}");
        *rounds.entry(key.usage.count / times).or_default() += 1;
    }
    rounds
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A flush, with faults, of uses of all keys; and one when the disk is well. Says whether
/// the outcome of the first was unknown, and how many keys' uses it had written.
fn flush_twice(image: &[u8], issued: &[Issued], faults: &[Fault]) -> Option<(bool, usize)> {
    let disk = Disk::of(image.to_vec());
    let engine = open(&disk);
    use_all(&engine, issued);
    disk.set_faults(faults);
    let flushed = engine.flush();
    disk.set_fault(None);
    let is_unknown = match &flushed {
        Ok(()) => None,
        Err(Error::OutcomeUnknown(_)) => Some(true),
        Err(Error::Store(_)) => Some(false),
        Err(error) => panic!("{faults:?}: {error:?}"),
    };
    // A change that finds nothing to do waits for the store, and writes no uses.
    let change = || engine.purge(Duration::from_secs(1 << 40)).is_ok();
    wait_for("it recovers", change);
    let written = counted(&engine, issued);
    let written = written.get(&1).copied().unwrap_or(0);
    assert!(
        [0, 4096, KEYS].contains(&written),
        "{faults:?}: a transaction of {written}"
    );
    assert!(is_unknown.is_some() || written == KEYS, "{faults:?}");
    let all = |rounds| BTreeMap::from([(rounds, KEYS)]);
    engine.flush().unwrap();
    assert_eq!(counted(&engine, issued), all(1), "{faults:?}: {flushed:?}");
    use_all(&engine, issued);
    engine.flush().unwrap();
    assert_eq!(counted(&engine, issued), all(2), "{faults:?}");
    engine.flush().unwrap();
    let crashed = open(&Disk::of(disk.durable()));
    assert_eq!(counted(&crashed, issued), all(2), "{faults:?}");
    assert_eq!(engine.stats().unwrap().usage_lost, 0);
    is_unknown.map(|is_unknown| (is_unknown, written))
}

#[test]
fn a_flush_that_fails_counts_no_use_twice_and_forgets_none() {
    let disk = Disk::default();
    let engine = open(&disk);
    let keyspace = NewKeyspace::new("acme").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let keys = vec![NewKey::new("acme", "acme").unwrap(); KEYS];
    let issued = engine.issue_batch(keys).unwrap();
    engine.close().unwrap();
    let image = disk.durable();

    let engine = open(&disk);
    use_all(&engine, &issued);
    disk.set_fault(None);
    engine.flush().unwrap();
    let (writes, syncs) = (disk.calls(Call::Write), disk.calls(Call::Sync));
    drop(engine);

    let fault = |call, nth, how, lasts| Fault {
        call,
        nth,
        how,
        lasts,
    };
    let mut all: Vec<Vec<Fault>> = Vec::new();
    for nth in 0..syncs {
        all.push(vec![fault(Call::Sync, nth, How::Broken, false)]);
        all.push(vec![fault(Call::Sync, nth, How::Dropped, true)]);
        // The disk fails on while the engine recovers.
        let first = fault(Call::Sync, nth, How::Broken, false);
        for call in [Call::Read, Call::Write, Call::Sync] {
            all.push(vec![first, fault(call, 0, How::Broken, true)]);
        }
    }
    let stride = usize::try_from(rounds(writes / 2 + 1, 7)).unwrap();
    for nth in (0..writes).rev().step_by(stride) {
        for how in [How::Full, How::Short] {
            for lasts in [false, true] {
                all.push(vec![fault(Call::Write, nth, how, lasts)]);
            }
        }
    }
    let mut met: BTreeMap<(bool, usize), usize> = BTreeMap::new();
    for faults in &all {
        if let Some(came_to) = flush_twice(&image, &issued, faults) {
            *met.entry(came_to).or_default() += 1;
        }
    }
    println!(
        "{} faults of {writes} writes and {syncs} syncs; (unknown, written) {met:?}",
        all.len()
    );
    // What was unknown was there, and was not.
    for came_to in [(true, 0), (true, 4096), (false, 0), (false, 4096)] {
        assert!(met.contains_key(&came_to), "{came_to:?}: {met:?}");
    }
}
