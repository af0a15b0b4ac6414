//! A process that is killed at random moments, again and again, on one file.
//!
//! Invariants checked:
//! - 3: every change whose acknowledgement came over the pipe is there, and one in
//!   flight whole or not at all, as it was first seen;
//! - 2, 4: what was revoked is revoked, also in an earlier life, and no owner has two
//!   active keys;
//! - 6, 8: records, indexes and the chain of the audit trail agree;
//! - the file opens after every kill, also one in the middle of its creation or of a
//!   recovery.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gatekey::{Engine, KeyFilter, KeyState, NewKeyspace, Options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::rounds;
use crate::turns::{self, Seen, TURNS};
use crate::workload::assert_sound;

/// Tells the child its file, and the number of its life.
const FILE: &str = "GATEKEY_PROOF_KILLED_FILE";
const LIFE: &str = "GATEKEY_PROOF_KILLED_LIFE";
const THREADS: usize = 3;
/// How many lives one file has. The first of them dies as it makes the file.
const LIVES_OF_A_FILE: u64 = 10;

fn owner(life: u64, thread: usize) -> String {
    format!("life{life}/thread{thread}")
}

fn options() -> Options {
    Options::new().resident_bytes(1 << 16).cache_bytes(1 << 20)
}

/// What the child does until it is killed. Without its variables this is no test.
#[test]
fn the_child() {
    let (Some(path), Ok(life)) = (std::env::var_os(FILE), std::env::var(LIFE)) else {
        return;
    };
    let life: u64 = life.parse().unwrap();
    let flushes = options().usage_interval(Duration::from_millis(3));
    let engine = flushes.open_or_create(path).unwrap();
    let one = NewKeyspace::new("one").unwrap().single_active();
    engine.ensure_keyspace(one).unwrap();
    // One line, one write: a kill leaves no half of one in front of another.
    let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    say("\nopen:\n".to_owned());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || {
                let owner = owner(life, thread);
                let mut current = None;
                for turn in TURNS.into_iter().cycle() {
                    say(format!("begun:{thread}:\n"));
                    let token = turns::take(engine, &owner, turn, &mut current);
                    say(format!("done:{thread}:{}\n", token.unwrap_or_default()));
                }
            });
        }
    });
}

/// What the parent heard of a thread of the child.
#[derive(Default)]
struct Heard {
    begun: usize,
    done: usize,
    tokens: Vec<String>,
    /// How many turns were found to be taken when the file was first opened after: those
    /// that were done, or one more, which was in flight. So it must be ever after.
    settled: Option<usize>,
}

/// Notes a line of the child, and says whether it acknowledges a turn.
fn hear(line: &str, heard: &mut BTreeMap<usize, Heard>) -> bool {
    let mut parts = line.split(':');
    let (what, thread) = (
        parts.next(),
        parts.next().and_then(|text| text.parse().ok()),
    );
    let (Some(what), Some(thread), Some(token)) = (what, thread, parts.next()) else {
        return false;
    };
    let heard = heard.entry(thread).or_default();
    match what {
        "begun" => heard.begun += 1,
        "done" => {
            heard.done += 1;
            if !token.is_empty() {
                heard.tokens.push(token.to_owned());
            }
        }
        other => panic!("{other}"),
    }
    what == "done"
}

/// One life of the child: started, killed, and heard to the end. With it, how many
/// acknowledgements were waited for before the kill.
fn live_and_die(path: &Path, life: u64, random: &mut StdRng) -> (usize, BTreeMap<usize, Heard>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "killed::the_child"])
        .env(FILE, path)
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard: BTreeMap<usize, Heard> = BTreeMap::new();
    let mut waited = 0;
    // Every third dies as it starts, opens or recovers, and the first of a file as it
    // makes it; the others at their work, however long the disk takes for that.
    let mut delay = 20_000;
    if !life.is_multiple_of(3) && !life.is_multiple_of(LIVES_OF_A_FILE) {
        let is_open = |line: std::io::Result<String>| line.unwrap() == "open:";
        assert!(
            lines.by_ref().any(is_open),
            "the child does not open its file"
        );
        let enough = random.random_range(0..20);
        while waited < enough {
            let line = lines.next().expect("the child ended by itself").unwrap();
            waited += usize::from(hear(&line, &mut heard));
        }
        delay = 2_000;
    }
    std::thread::sleep(Duration::from_micros(random.random_range(0..delay)));
    child.kill().unwrap();
    for line in lines {
        hear(&line.unwrap(), &mut heard);
    }
    child.wait().unwrap();
    (waited, heard)
}

/// Asserts that each owner of a life has one active key at most, and one retiring.
fn assert_single_active(engine: &Engine, life: u64) {
    for thread in 0..THREADS {
        let owner = owner(life, thread);
        for state in [KeyState::Active, KeyState::Retiring] {
            let filter = KeyFilter::new().owner(owner.parse().unwrap()).state(state);
            let keys: Vec<_> = engine.keys(filter).map(Result::unwrap).collect();
            assert!(keys.len() <= 1, "{owner}: {state:?}: {keys:?}");
        }
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    let lives = rounds(200, 2000);
    let mut random = StdRng::seed_from_u64(5);
    let (mut kills, mut acknowledged, mut waited) = (0, 0, 0);
    let mut in_flight = 0;
    // Of the file as it is now, life by life.
    let mut lives_heard = Vec::new();
    let mut dir = tempfile::tempdir().unwrap();
    for life in 0..lives {
        // Now and then a file is made anew, so that it dies at that too.
        if life.is_multiple_of(LIVES_OF_A_FILE) {
            dir = tempfile::tempdir().unwrap();
            lives_heard.clear();
        }
        let path = dir.path().join("keys.redb");
        let (waited_for, heard) = live_and_die(&path, life, &mut random);
        kills += 1;
        waited += waited_for;
        for heard in heard.values() {
            acknowledged += heard.done;
            in_flight += heard.begun - heard.done;
        }
        lives_heard.push((life, heard));
        let quiet = options().usage_interval(None);
        let engine = quiet
            .open_or_create(&path)
            .unwrap_or_else(|error| panic!("life {life}: {error}"));
        assert_sound(&engine, &format!("life {life}"));
        assert_single_active(&engine, life);
        // Those of earlier lives too: no later recovery may bring back what was revoked,
        // and a change in flight that was seen done, or not done, stays as it was seen.
        for (born, heard) in &mut lives_heard {
            for (thread, heard) in heard {
                let seen = Seen::of(&engine, &owner(*born, *thread), &heard.tokens);
                let (fewest, most) = match heard.settled {
                    None => (heard.done, heard.begun),
                    Some(turns) => (turns, turns),
                };
                heard.settled = seen.turns(fewest, most);
                assert!(
                    heard.settled.is_some(),
                    "life {life}, thread {thread} of life {born}: of {fewest} to {most} turns \
                     none leaves {seen:?}"
                );
            }
        }
        // Not closed either: the next life begins with a recovery as well.
        if life.is_multiple_of(2) {
            std::mem::forget(engine);
            let crashed = dir.path().join("crashed.redb");
            std::fs::copy(&path, &crashed).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::rename(&crashed, &path).unwrap();
        }
    }
    println!("{kills} kills, {acknowledged} acknowledgements, {in_flight} in flight");
    // Six lives in ten wait for 9.5 acknowledgements each, on the average.
    assert!(waited > 3 * kills && acknowledged >= waited);
    assert!(in_flight > kills / 4);
}
