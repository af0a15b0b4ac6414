//! A process that is killed at random moments, again and again, on one file.
//!
//! Invariants checked:
//! - 3: every change whose acknowledgement came over the pipe is there, and one in
//!   flight whole or not at all;
//! - 2, 4: what was revoked is revoked, and no owner has two active keys;
//! - 6, 8: records, indexes and the chain of the audit trail agree;
//! - the file opens after every kill, also one in the middle of its creation or of a
//!   recovery.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gatekey::{Error, NewKeyspace, Options, Refusal};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::rounds;
use crate::turns::{self, TURNS, is_explained};
use crate::workload::{assert_sound, verdict};

/// Tells the child its file, and the number of its life.
const FILE: &str = "GATEKEY_PROOF_KILLED_FILE";
const LIFE: &str = "GATEKEY_PROOF_KILLED_LIFE";
const THREADS: usize = 3;

fn options() -> Options {
    Options::new().resident_bytes(1 << 16).cache_bytes(1 << 20)
}

/// What the child does until it is killed. Without its variables this is no test.
#[test]
fn the_child() {
    let (Some(path), Ok(life)) = (std::env::var_os(FILE), std::env::var(LIFE)) else {
        return;
    };
    let flushes = options().usage_interval(Duration::from_millis(3));
    let engine = flushes.open(path).unwrap();
    match engine.create_keyspace(NewKeyspace::new("one").unwrap().single_active()) {
        Ok(_) | Err(Error::Refused(Refusal::PrefixTaken(_))) => {}
        Err(error) => panic!("{error}"),
    }
    // One line, one write: a kill leaves no half of one in front of another.
    let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    say("\nopen:\n".to_owned());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, life) = (&engine, &life);
            scope.spawn(move || {
                let owner = format!("life{life}/thread{thread}");
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
}

/// One life of the child: started, killed, and heard to the end.
fn live_and_die(path: &Path, life: u64, random: &mut StdRng) -> BTreeMap<usize, Heard> {
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
    // Every third dies as it starts, opens or recovers; the others at their work.
    if !life.is_multiple_of(3) {
        let is_open = |line: std::io::Result<String>| line.unwrap() == "open:";
        assert!(
            lines.by_ref().any(is_open),
            "the child does not open its file"
        );
    }
    std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
    child.kill().unwrap();
    for line in lines {
        let line = line.unwrap();
        let mut parts = line.split(':');
        let (what, thread) = (
            parts.next(),
            parts.next().and_then(|text| text.parse().ok()),
        );
        let (Some(what), Some(thread), Some(token)) = (what, thread, parts.next()) else {
            continue;
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
    }
    child.wait().unwrap();
    heard
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    let lives = rounds(200, 2000);
    let mut random = StdRng::seed_from_u64(5);
    let (mut kills, mut acknowledged, mut in_flight) = (0, 0, 0);
    let mut dir = tempfile::tempdir().unwrap();
    for life in 0..lives {
        // Now and then a file is made anew, so that it dies at that too.
        if life.is_multiple_of(50) {
            dir = tempfile::tempdir().unwrap();
        }
        let path = dir.path().join("keys.redb");
        let heard = live_and_die(&path, life, &mut random);
        kills += 1;
        let quiet = options().usage_interval(None);
        let engine = quiet
            .open(&path)
            .unwrap_or_else(|error| panic!("life {life}: {error}"));
        assert_sound(&engine, &format!("life {life}"));
        for (thread, heard) in &heard {
            acknowledged += heard.done;
            in_flight += heard.begun - heard.done;
            let tokens = heard.tokens.iter();
            let seen: Vec<_> = tokens
                .map(|token| verdict(&engine, token).unwrap())
                .collect();
            assert!(
                is_explained(&seen, heard.done, heard.begun),
                "life {life}, thread {thread}: {} acknowledged, {} begun: {seen:?}",
                heard.done,
                heard.begun
            );
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
    assert!(acknowledged > kills && in_flight > kills / 4);
}
