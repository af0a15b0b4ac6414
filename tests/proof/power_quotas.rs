//! Quotas of two owners and of a key, spent together: what a loss of power at any call and a
//! killed process leave of them.
//!
//! Invariants checked:
//! - 3: nothing that was granted, or settled, before is good for another request after it,
//!   at any level, and what is owed stays owed;
//! - a stop loses no more than the slices in memory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gatekey::proof::open_on;
use gatekey::{
    Engine, Issued, KeyId, Level, LevelDefaults, ManualClock, NewKey, NewKeyspace, Options,
    OwnerUpdate, Quota, Requirements,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Disk;
use crate::power::{crashes, each_point};
use crate::rounds;
use crate::workload::{instant, open, options};

/// Of the organisation, of each team below it, and of each key.
const QUOTAS: [i64; 3] = [400, 250, 160];
/// The dearest request, after it was settled.
const COST_MAX: u32 = 24;
/// The most of a level that memory has: a slice, or the cost of a request where that is more,
/// and beside it what was just taken for another request.
const IN_MEMORY_MAX: i64 = 2 * COST_MAX as i64;
const OWNERS: [&str; 3] = ["acme/a", "acme/a", "acme/b"];

fn quota(level: usize) -> Quota {
    Quota::new(QUOTAS[level].cast_unsigned())
}

/// A store whose organisation has a quota of its own, and its teams that of their level.
fn begin(engine: &Engine) -> Vec<Issued> {
    let teams = LevelDefaults::new().quota(quota(1));
    let keyspace = NewKeyspace::new("many").unwrap().owner_defaults(2, teams);
    engine.create_keyspace(keyspace).unwrap();
    let organisation = OwnerUpdate::new().quota(quota(0));
    engine.update_owner("many", "acme", organisation).unwrap();
    let new = OWNERS.map(|owner| NewKey::new("many", owner).unwrap().quota(quota(2)));
    new.map(|new| engine.issue(new).unwrap()).into()
}

/// What is left of the organisation, the two teams, and the three keys.
type Left = [i64; 6];

const FULL: Left = [
    QUOTAS[0], QUOTAS[1], QUOTAS[1], QUOTAS[2], QUOTAS[2], QUOTAS[2],
];

/// Where the levels of a key stand among all.
fn levels(key: usize) -> [usize; 3] {
    [0, 1 + key / 2, 3 + key]
}

fn spend(left: &mut Left, key: usize, cost: u32) {
    for at in levels(key) {
        left[at] -= i64::from(cost);
    }
}

/// What a store says is left.
fn left_in(engine: &Engine, keys: &[KeyId]) -> Left {
    let mut left = [0; 6];
    for (key, id) in keys.iter().enumerate() {
        let told = engine.quotas_left(*id).unwrap();
        assert_eq!(told.len(), 3);
        assert_eq!(told[2].level(), Level::Key);
        for (at, told) in levels(key).into_iter().zip(told) {
            let told = told.status();
            left[at] = told.remaining.cast_signed() - told.owed.cast_signed();
        }
    }
    left
}

/// Has each key make requests until none is granted, and says what they cost at each level.
fn drain(engine: &Engine, tokens: &[String]) -> Left {
    let mut spent = [0; 6];
    loop {
        let before = spent;
        for (key, token) in tokens.iter().enumerate() {
            if engine.verify(token).unwrap().is_granted() {
                spend(&mut spent, key, 1);
            }
        }
        if spent == before {
            // It counts down.
            return spent.map(|spent| -spent);
        }
    }
}

/// Makes a request that is settled at what it cost, where that is not its estimate; says
/// what it was charged after each step.
fn ask(
    engine: &Engine,
    token: &str,
    (estimate, cost): (u32, u32),
    mut charged: impl FnMut(i64),
) -> bool {
    let asked = Requirements::new().cost(estimate).settled_later();
    let verdict = engine.verify_with(token, &asked).unwrap();
    let Some(grant) = verdict.grant() else {
        return false;
    };
    charged(estimate.into());
    if cost > estimate {
        engine.settle(grant.charge().unwrap(), cost).unwrap();
        charged(i64::from(cost) - i64::from(estimate));
    }
    true
}

#[test]
fn a_loss_of_power_enlarges_no_quota_of_any_level() {
    let disk = Disk::default();
    let clock = ManualClock::at(instant(0));
    let engine = open_on(options(&clock, 2), disk.clone()).unwrap();
    let issued = begin(&engine);
    let keys: Vec<KeyId> = issued.iter().map(|issued| issued.key.id).collect();
    let tokens: Vec<String> = issued
        .iter()
        .map(|issued| issued.token.expose().to_owned())
        .collect();
    let image = disk.live();
    disk.keep_journal();
    // How many calls had been made, and what was left.
    let mut acks = vec![(0, FULL)];
    let mut left = FULL;
    let mut random = StdRng::seed_from_u64(17);
    for round in 0..90 {
        let key = round % 3;
        let estimate = random.random_range(0..5);
        let cost = match round % 9 {
            0 => COST_MAX,
            _ => estimate,
        };
        ask(&engine, &tokens[key], (estimate, cost), |charged| {
            for at in levels(key) {
                left[at] -= charged;
            }
            acks.push((disk.journal_len(), left));
        });
        if round == 60 {
            // Full again, which the organisation may be from the call on.
            let full = OwnerUpdate::new().quota(quota(0));
            engine.update_owner("many", "acme", full).unwrap();
            left[0] = QUOTAS[0];
            acks.push((disk.journal_len(), left));
        }
    }
    assert_eq!(left_in(&engine, &keys), left);
    engine.close().unwrap();
    acks.push((disk.journal_len(), left));
    let journal = disk.take_journal();

    let subsets = usize::try_from(rounds(2, 24)).unwrap();
    let (mut images, mut drained, mut lost) = (0, 0, 0);
    each_point(image, &journal, |at, durable, since| {
        let known = acks.iter().rposition(|ack| ack.0 <= at).unwrap();
        // What the call in flight may have made of it.
        let next = acks.get(known + 1).unwrap_or(&acks[known]).1;
        for crash in crashes(since, subsets) {
            let place = format!("call {at} of {}", journal.len());
            let image = crash.image(durable, since, &mut random);
            let engine = open(&Disk::of(image), 1).unwrap();
            let told = left_in(&engine, &keys);
            for ((told, known), next) in told.into_iter().zip(acks[known].1).zip(next) {
                assert!(told <= known.max(next), "{place}: {told} of {known}");
                assert!(
                    told + IN_MEMORY_MAX >= known.min(next),
                    "{place}: {told} of {known} is more than memory had"
                );
                lost += u64::from(told < known.min(next));
            }
            images += 1;
            if images % 16 == 0 {
                // What is told is what is granted.
                let after = drain(&engine, &tokens);
                for (told, spent) in told.into_iter().zip(after) {
                    assert!(spent <= told.max(0), "{place}: {spent} of {told}");
                }
                drained += 1;
                assert!(engine.check().unwrap().is_sound(), "{place}");
            }
        }
    });
    println!("{images} images, {drained} spent to the end, {lost} levels lost a part of a slice");
    assert!(images > 200 && drained > 10 && lost > 0);
}

/// Tells the child its file and its tokens.
const FILE: &str = "GATEKEY_PROOF_QUOTAS_FILE";
const TOKENS: &str = "GATEKEY_PROOF_QUOTAS_TOKENS";
const LIFE: &str = "GATEKEY_PROOF_QUOTAS_LIFE";
/// How many lives spend of the same quotas.
const LIVES_OF_A_FILE: u64 = 8;

/// What the child does until it is killed. Without its variables this is no test.
#[test]
fn the_child() {
    let (Some(path), Ok(tokens), Ok(life)) = (
        std::env::var_os(FILE),
        std::env::var(TOKENS),
        std::env::var(LIFE),
    ) else {
        return;
    };
    let engine = Options::new().usage_interval(None).open(path).unwrap();
    // One line, one write: a kill leaves no half of one in front of another.
    let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    say("\nopen:\n".to_owned());
    let life: u64 = life.parse().unwrap();
    std::thread::scope(|scope| {
        for (key, token) in tokens.split(' ').enumerate() {
            let (engine, say) = (&engine, &say);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(life * 10 + key as u64);
                loop {
                    let estimate = random.random_range(1..3);
                    let cost = estimate + random.random_range(0..2);
                    let is_granted = ask(engine, token, (estimate, cost), |charged| {
                        say(format!("charged:{key}:{charged}\n"));
                    });
                    if !is_granted {
                        // All is spent.
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
        }
    });
}

/// One life of the child: started, killed, and heard to the end.
fn live_and_die(path: &Path, tokens: &[String], life: u64, left: &mut Left, random: &mut StdRng) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "power_quotas::the_child"])
        .env(FILE, path)
        .env(TOKENS, tokens.join(" "))
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = 0;
    let mut hear = |line: String| {
        let mut parts = line.split(':');
        if parts.next() != Some("charged") {
            return;
        }
        let mut number = || parts.next().unwrap().parse::<u32>().unwrap();
        spend(left, number() as usize, number());
        heard += 1;
    };
    let is_open = |line: std::io::Result<String>| line.unwrap() == "open:";
    assert!(
        lines.by_ref().any(is_open),
        "the child does not open its file"
    );
    // At its work, or where all is spent.
    for line in lines.by_ref().take(random.random_range(1..12)) {
        hear(line.unwrap());
    }
    std::thread::sleep(Duration::from_micros(random.random_range(0..2_000)));
    child.kill().unwrap();
    for line in lines {
        hear(line.unwrap());
    }
    child.wait().unwrap();
}

#[test]
fn a_process_that_is_killed_enlarges_no_quota_of_any_level() {
    let lives = rounds(24, 400);
    let mut random = StdRng::seed_from_u64(23);
    let (mut spent, mut lost) = (0, 0);
    let files = lives / LIVES_OF_A_FILE;
    for file in 0..files {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.redb");
        let options = || Options::new().usage_interval(None);
        let engine = options().create(&path).unwrap();
        let issued = begin(&engine);
        engine.close().unwrap();
        let keys: Vec<KeyId> = issued.iter().map(|issued| issued.key.id).collect();
        let tokens = issued.iter().map(|issued| issued.token.expose().to_owned());
        let tokens: Vec<String> = tokens.collect();
        let mut left = FULL;
        for life in 0..LIVES_OF_A_FILE {
            live_and_die(
                &path,
                &tokens,
                file * LIVES_OF_A_FILE + life,
                &mut left,
                &mut random,
            );
            let engine = options().open(&path).unwrap();
            let told = left_in(&engine, &keys);
            for (told, left) in told.into_iter().zip(&mut left) {
                assert!(told <= *left, "life {life}: {told} of {left}");
                lost += u64::from(told < *left);
                // What was lost stays lost.
                *left = told;
            }
            assert!(engine.check().unwrap().is_sound());
            // Killed as well: nothing is put back.
            std::mem::forget(engine);
            let copy = dir.path().join("copy.redb");
            std::fs::copy(&path, &copy).unwrap();
            std::fs::rename(&copy, &path).unwrap();
        }
        spent += QUOTAS[0] - left[0];
        // What is told is what is granted.
        let engine = options().open(&path).unwrap();
        let after = drain(&engine, &tokens);
        for (left, spent) in left.into_iter().zip(after) {
            assert!(spent <= left.max(0), "{spent} of {left}");
        }
    }
    println!("{lives} kills, {spent} spent, {lost} levels lost a part of a slice");
    assert!(spent > files.cast_signed() * 20 && lost > 0);
}
