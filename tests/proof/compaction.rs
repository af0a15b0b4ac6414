//! A store that is made smaller while it serves.
//!
//! Invariants checked:
//! - 2, 3: every verdict and every acknowledged change is the same after, at whatever
//!   call the disk fails, the power goes or the process is killed;
//! - 8: the chain of the audit trail is the same;
//! - the file is locked throughout: nobody else opens it meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gatekey::{Engine, Error, NewKey, NewKeyspace, OpenError, Options, Reason};

use crate::disk::{Call, Disk, Fault, How};
use crate::rounds;
use crate::workload::{SCRIPT, World, assert_sound, look, look_at_copy, open};

const FILE: &str = "GATEKEY_PROOF_COMPACTION_FILE";

fn options() -> Options {
    Options::new().resident_bytes(1 << 16).usage_interval(None)
}

fn new_keys(count: usize) -> Vec<NewKey> {
    vec![NewKey::new("acme", "acme").unwrap(); count]
}

fn is_granted(engine: &Engine, token: &str) -> bool {
    engine.verify(token).unwrap().is_granted()
}

#[test]
fn a_file_whose_keys_were_purged_gets_smaller_and_all_that_it_says_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options().create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let mut issued = Vec::new();
    for _ in 0..4 {
        issued.extend(engine.issue_batch(new_keys(5000)).unwrap());
    }
    let kept = issued.split_off(19_900);
    let (over, revoked) = (&issued[..19_000], &issued[19_000..]);
    engine
        .revoke_owner("acme", Reason::Cessation)
        .unwrap_or_else(|error| panic!("{error}"));
    engine.purge(Duration::ZERO).unwrap();
    let kept_now = engine.issue_batch(new_keys(100)).unwrap();
    engine
        .revoke(kept_now[0].key.id, Reason::Superseded)
        .unwrap();
    let trail = |engine: &Engine| format!("{:?}", engine.audit_page(1, 1000).unwrap().entries);
    let (before, entries) = (trail(&engine), engine.stats().unwrap().audit_entries);
    let listed = |engine: &Engine| {
        let keys = engine.keys(gatekey::KeyFilter::new());
        keys.map(|key| format!("{:?}", key.unwrap()))
            .collect::<Vec<_>>()
    };
    let keys = listed(&engine);
    let mut told = Vec::new();
    let compacted = engine
        .compact_with(|progress| {
            told.push((progress.is_verifying, progress.records));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let (was, is) = (compacted.file_bytes_before, compacted.file_bytes);
    println!("{was} bytes before, {is} after");
    assert!(is * 3 < was * 2, "{was} bytes before, {is} after");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), is);
    assert!(told.is_sorted() && told.len() > 3, "{told:?}");
    let assert_the_same = |engine: &Engine| {
        assert_eq!(trail(engine), before);
        assert_eq!(engine.stats().unwrap().audit_entries, entries);
        assert_eq!(listed(engine), keys);
        for gone in over.iter().step_by(500).chain(revoked).chain(&kept) {
            assert!(!is_granted(engine, gone.token.expose()));
        }
        assert!(!is_granted(engine, kept_now[0].token.expose()));
        assert!(is_granted(engine, kept_now[1].token.expose()));
        assert!(engine.check().unwrap().is_sound());
    };
    assert_the_same(&engine);
    // Ended on the way, it leaves everything as it was; and so does a panic.
    let stopped = engine.compact_with(|_| std::ops::ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Conflict(_))), "{stopped:?}");
    let panics = std::panic::AssertUnwindSafe(|| engine.compact_with(|_| panic!("a fault")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_the_same(&engine);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    engine
        .revoke(kept_now[2].key.id, Reason::Superseded)
        .unwrap();
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert!(!is_granted(&engine, kept_now[2].token.expose()));
    assert!(is_granted(&engine, kept_now[1].token.expose()));
    // In memory, it changes nothing that anybody sees.
    let engine = options().open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = engine.issue_batch(new_keys(1)).unwrap();
    engine.compact().unwrap();
    assert!(is_granted(&engine, issued[0].token.expose()));
}

/// Verifications, listings, changes and openings by others, all while it is compacted
/// again and again.
#[test]
fn while_a_store_is_compacted_it_serves_and_nobody_else_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options().resident_bytes(0).create(&path).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = engine.issue_batch(new_keys(300)).unwrap();
    let ends = AtomicBool::new(false);
    let (openings, verified) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let opened = options().open(&path);
                let is_refused = matches!(
                    &opened,
                    Err(Error::Open {
                        reason: OpenError::InUse,
                        ..
                    })
                );
                assert!(is_refused, "{opened:?}");
                openings.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                for issued in &issued[200..] {
                    assert!(is_granted(&engine, issued.token.expose()));
                    verified.fetch_add(1, Ordering::SeqCst);
                }
                let count = engine.keys(gatekey::KeyFilter::new()).count();
                assert_eq!(count, 300);
            }
        });
        for issued in &issued[..rounds(20, 200).try_into().unwrap()] {
            engine.compact().unwrap();
            engine.revoke(issued.key.id, Reason::Superseded).unwrap();
            engine.compact().unwrap();
            assert!(!is_granted(&engine, issued.token.expose()));
        }
        while openings.load(Ordering::SeqCst) < 3 {
            engine.compact().unwrap();
        }
        ends.store(true, Ordering::SeqCst);
    });
    println!("{openings:?} openings were refused, {verified:?} verified");
    assert!(engine.check().unwrap().is_sound());
    engine.close().unwrap();
    let engine = options().open(&path).unwrap();
    assert!(!is_granted(&engine, issued[0].token.expose()));
    assert!(is_granted(&engine, issued[299].token.expose()));
}

/// At every so manieth call of a compaction, the disk fails, once or from then on.
#[test]
fn a_compaction_whose_disk_fails_leaves_the_old_file_or_the_new_one() {
    let world = || {
        let mut world = World::begin(Disk::default()).unwrap();
        for (at, verb) in SCRIPT.iter().enumerate() {
            world.run(at, *verb).unwrap();
        }
        world
    };
    let at = SCRIPT.len();
    let first = world();
    first.disk.set_fault(None);
    first.engine.compact().unwrap();
    let mut faults = Vec::new();
    for call in [
        Call::Read,
        Call::Write,
        Call::SetSize,
        Call::Sync,
        Call::TakePlace,
        Call::SyncPlace,
    ] {
        let calls = first.disk.calls(call);
        for nth in 0..calls {
            for lasts in [false, true] {
                let how = How::Broken;
                faults.push(Fault {
                    call,
                    nth,
                    how,
                    lasts,
                });
            }
        }
    }
    let stride = usize::try_from(rounds(5, 1)).unwrap();
    let (mut failed, mut swapped) = (0, 0);
    // The last of them, of the names, are few and are all tried.
    let names = faults.len() - 4;
    let chosen = (0..names).step_by(stride).chain(names..faults.len());
    for fault in chosen.map(|at| faults[at]) {
        let place = format!("{fault:?}");
        let world = world();
        let before = look_at_copy(&world, at);
        world.disk.set_fault(Some(fault));
        let compacted = world.engine.compact();
        failed += u64::from(compacted.is_err());
        swapped += u64::from(world.disk.found().number() > 0);
        for image in [world.disk.live(), world.disk.durable()] {
            let engine = open(&Disk::of(image), at).expect(&place);
            assert_sound(&engine, &place);
            let seen = look(&engine, &world.tokens).unwrap();
            assert_eq!(seen.difference(&before), None, "{place}");
        }
        world.disk.set_fault(None);
        let change = || world.engine.purge(Duration::from_secs(1 << 40));
        while change().is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(world.engine.health().is_well(), "{place}");
        let seen = look(&world.engine, &world.tokens).unwrap();
        assert_eq!(seen.difference(&before), None, "{place}");
        world
            .engine
            .create_keyspace(NewKeyspace::new("well").unwrap())
            .expect(&place);
        let engine = open(&Disk::of(world.disk.durable()), at).expect(&place);
        assert!(
            engine.find_keyspace("well").unwrap().is_some(),
            "{place}: a lost change"
        );
    }
    println!(
        "{} faults, {failed} failed, {swapped} swapped",
        faults.len()
    );
    assert!(failed > 10 && swapped >= 2);
}

/// What the child does until it is killed. Without its variable this is no test.
#[test]
fn the_child() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let engine = options().open_or_create(path).unwrap();
    engine
        .ensure_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    loop {
        let issued = engine.issue_batch(new_keys(20)).unwrap();
        engine.revoke(issued[0].key.id, Reason::Superseded).unwrap();
        let [revoked, good] = [0, 1].map(|at: usize| issued[at].token.expose());
        say(format!("\nkept:{revoked}:{good}:\n"));
        engine.compact().unwrap();
    }
}

fn heard(line: &str) -> Option<(String, String)> {
    let mut parts = line.strip_prefix("kept:")?.split(':');
    let (revoked, good) = (parts.next()?, parts.next()?);
    parts.next().map(|_| (revoked.to_owned(), good.to_owned()))
}

fn live_and_die(path: &Path, rounds: usize, wait: Duration) -> Vec<(String, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "compaction::the_child"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut kept = Vec::new();
    while kept.len() < rounds {
        kept.extend(heard(&lines.next().unwrap().unwrap()));
    }
    std::thread::sleep(wait);
    child.kill().unwrap();
    kept.extend(lines.map_while(Result::ok).filter_map(|line| heard(&line)));
    child.wait().unwrap();
    kept
}

#[test]
fn a_process_that_is_killed_as_it_compacts_leaves_a_store_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let (mut kept, mut left) = (Vec::new(), 0);
    for life in 0..rounds(12, 200) {
        let rounds = usize::try_from(life % 3).unwrap() + 1;
        let wait = Duration::from_millis(life * 7 % 60);
        kept.extend(live_and_die(&path, rounds, wait));
        let copy = dir.path().join("keys.redb.gatekey-rewrite");
        left += u64::from(copy.exists());
        let engine = options().open(&path).unwrap();
        assert!(!copy.exists(), "what a crash left is removed");
        assert!(engine.check().unwrap().is_sound(), "life {life}");
        for (revoked, good) in &kept {
            assert!(!is_granted(&engine, revoked), "life {life}: a stale grant");
            assert!(is_granted(&engine, good), "life {life}: a lost key");
        }
        engine.close().unwrap();
    }
    println!(
        "{} rounds acknowledged, {left} copies left behind",
        kept.len()
    );
    assert!(left > 0, "none was killed as it compacted");
}
