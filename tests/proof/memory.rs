//! What is left of secrets in a process's memory once they were dropped: another
//! process looks, byte by byte, at what a core dump would hold.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gatekey::{NewKey, NewKeyspace, Options, Pepper, Reason, Requirements, Rotation, Token};
use rand::TryRng;
use zeroize::Zeroizing;

/// What a child is told to do, and where it leaves its secrets, masked.
const TASK: &str = "GATEKEY_PROOF_MEMORY_TASK";
const MASK: u8 = 0xa5;
const PREFIX: &str = "acme_live";
const SECRET_LEN: usize = 43;
/// A run of a secret of fewer characters is not reported: 15 of them leave 166
/// bits to guess.
const RUN_MIN: usize = 16;
/// Every run of [`RUN_MIN`] has a whole block of these in it.
const BLOCK: usize = 8;

/// The child's part, in a process of its own: each secret that it handles it
/// writes down masked, drops everything, and waits to be looked at. Without its
/// variable this is no test.
#[test]
fn the_process_that_is_looked_into() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let (task, dir) = task.split_once(' ').unwrap();
    let mut masked = File::create(Path::new(dir).join("masked")).unwrap();
    let mut note = |secret: &[u8]| {
        let line: Vec<u8> = secret.iter().map(|byte| byte ^ MASK).collect();
        masked
            .write_all(&[u8::try_from(line.len()).unwrap()])
            .unwrap();
        masked.write_all(&line).unwrap();
    };
    let mut bytes = Zeroizing::new(vec![0; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).unwrap();
    note(&bytes);
    let options = || {
        Options::new()
            .pepper(Pepper::new(1, &bytes).unwrap())
            .resident_bytes(1 << 20)
            .cache_bytes(1 << 20)
    };
    let file = Path::new(dir).join("keys.redb");
    let engine = options().create(&file).unwrap();
    let keyspace = NewKeyspace::new(PREFIX).unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let new = || NewKey::new(PREFIX, "acme/bot").unwrap();
    let mut note = |token: &Token| note(secret_of(token));

    let issued = engine.issue(new()).unwrap();
    note(&issued.token);
    let id = issued.key.id;
    match task {
        "leak" => std::mem::forget(black_box(issued.token.expose().to_owned())),
        "leave" => leave_on_the_stack(secret_of(&issued.token)),
        "issue" => {
            for issued in engine.issue_batch(vec![new(); 3]).unwrap() {
                note(&issued.token);
            }
        }
        "verify" => {
            for _ in 0..3 {
                assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
            }
            let many = [issued.token.expose()];
            let verdicts = engine.verify_many(&many, &Requirements::new());
            assert!(verdicts.iter().all(Result::is_ok));
        }
        "change" => {
            let rotated = engine.rotate(id, Rotation::at_once()).unwrap();
            note(&rotated.token);
            let token = rotated.token.expose();
            engine.revoke_token(token, Reason::KeyCompromise).unwrap();
        }
        _ => unreachable!("{task}"),
    }
    drop(issued);
    drop(bytes);
    let on_stack = 0;
    let wait = || {
        println!("\nready {}", black_box(&raw const on_stack).addr());
        let _ = std::io::stdin().read(&mut [0]);
    };
    wait();
    use_the_stack();
    wait();
    engine.close().unwrap();
}

/// Goes over the stack that earlier calls have left.
#[inline(never)]
fn use_the_stack() {
    black_box(&mut [0x11_u8; 256 << 10]);
}

/// A copy that nobody wipes, in a frame that is gone.
#[inline(never)]
fn leave_on_the_stack(secret: &[u8]) {
    let mut copies = [[0; 64]; 32];
    for copy in &mut copies {
        copy[..SECRET_LEN].copy_from_slice(secret);
    }
    black_box(&copies);
}

fn secret_of(token: &Token) -> &[u8] {
    let text = token.expose().as_bytes();
    &text[text.len() - 6 - SECRET_LEN..text.len() - 6]
}

/// A run of a secret in memory.
#[derive(Debug)]
struct Found {
    secret: usize,
    len: usize,
    /// In the stack of the thread that handled it, or elsewhere.
    on_stack: bool,
}

/// What is found in the memory of a process that did a task and dropped what is
/// secret, its engine still open: at once, and after later calls have gone over
/// the stack that it had used.
fn look(task: &str) -> [Vec<Found>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("memory::the_process_that_is_looked_into")
        .env(TASK, format!("{task} {}", dir.path().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    // Where the child's stack is.
    let mut ready = || {
        let mut lines = said.by_ref().map(Result::unwrap);
        let line = lines.find_map(|line| Some(line.strip_prefix("ready ")?.parse().unwrap()));
        line.expect("the child failed")
    };
    let on_stack = ready();
    let mut secrets = Vec::new();
    let masked = fs::read(dir.path().join("masked")).unwrap();
    let mut rest = masked.as_slice();
    while let Some((len, after)) = rest.split_first() {
        let (line, after) = after.split_at(usize::from(*len));
        secrets.push(line.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>());
        rest = after;
    }
    assert!(secrets.len() >= 2);
    let at_once = search(&child, on_stack, &secrets);
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    ready();
    let later = search(&child, on_stack, &secrets);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    println!(
        "{task}: {} runs at once, {} later",
        at_once.len(),
        later.len()
    );
    [at_once, later]
}

fn search(child: &Child, stack: usize, secrets: &[Vec<u8>]) -> Vec<Found> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    let mut memory = File::open(format!("/proc/{}/mem", child.id())).unwrap();
    let mut found = Vec::new();
    let mut read = 0;
    for map in maps.lines() {
        let (range, rest) = map.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
        let (from, to) = (bound(from), bound(to));
        // What cannot be written to holds what its file holds.
        if !rest.starts_with("rw") || rest.contains("[v") {
            continue;
        }
        let mut bytes = vec![0; to - from];
        memory.seek(SeekFrom::Start(from as u64)).unwrap();
        memory.read_exact(&mut bytes).unwrap();
        read += bytes.len();
        for (secret, text) in secrets.iter().enumerate() {
            for (_, len) in runs(&bytes, text) {
                let on_stack = (from..to).contains(&stack);
                found.push(Found {
                    secret,
                    len,
                    on_stack,
                });
            }
        }
    }
    assert!(
        read > 1 << 20,
        "of the child's memory only {read} bytes were read"
    );
    found
}

/// Where in `memory` runs of a secret stand, and how long they are.
fn runs(memory: &[u8], secret: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (number, block) in secret.as_chunks::<BLOCK>().0.iter().enumerate() {
        let within = number * BLOCK;
        // By the standard library's search for a byte, which is fast in a debug
        // build too.
        let (mut end, mut rest) = (0, memory);
        loop {
            let passed = rest.skip_until(block[0]).unwrap();
            if passed == 0 {
                break;
            }
            end += passed;
            let at = end - 1;
            if memory.get(at..at + BLOCK) != Some(block) {
                continue;
            }
            let equal = |(left, right): &(&u8, &u8)| left == right;
            let before = memory[..at].iter().rev().zip(secret[..within].iter().rev());
            let before = before.take_while(equal).count();
            let after = memory[at..].iter().zip(&secret[within..]);
            let run = (at - before, before + after.take_while(equal).count());
            if run.1 >= RUN_MIN && !runs.contains(&run) {
                runs.push(run);
            }
        }
    }
    runs
}

#[test]
fn runs_of_a_secret_are_found_wherever_they_begin() {
    let secret: Vec<u8> = (100..143).collect();
    for from in 0..secret.len() {
        for to in from..=secret.len() {
            let mut memory = vec![0; 31];
            memory.extend(&secret[from..to]);
            memory.extend([0; 7]);
            let expected = match to - from >= RUN_MIN {
                true => vec![(31, to - from)],
                false => vec![],
            };
            assert_eq!(runs(&memory, &secret), expected, "{from}..{to}");
        }
    }
}

fn is_whole(found: &Found) -> bool {
    // The first is the pepper.
    found.secret == 1 && found.len == SECRET_LEN
}

#[test]
fn a_secret_that_is_left_in_memory_is_found() {
    let [at_once, later] = look("leak");
    let is_found = |found: &Found| is_whole(found) && !found.on_stack;
    assert!(at_once.iter().any(is_found), "{at_once:#?}");
    assert!(later.iter().any(is_found), "{later:#?}");
}

#[test]
fn a_secret_that_is_left_on_the_stack_is_found_until_the_stack_is_used() {
    let [at_once, later] = look("leave");
    let is_found = |found: &Found| is_whole(found) && found.on_stack;
    assert!(at_once.iter().any(is_found), "{at_once:#?}");
    assert!(later.is_empty(), "{later:#?}");
}

/// Hashing leaves its input on the stack, where the next calls go over it; that
/// is said in SECURITY.md. Nothing else may be left, and nothing for long.
fn assert_nothing_is_left(task: &str) {
    let [at_once, later] = look(task);
    assert!(at_once.iter().all(|found| found.on_stack), "{at_once:#?}");
    assert!(later.is_empty(), "{later:#?}");
}

#[test]
fn of_a_token_that_was_issued_nothing_is_left_in_memory() {
    assert_nothing_is_left("issue");
}

#[test]
fn of_a_token_that_was_verified_nothing_is_left_in_memory() {
    assert_nothing_is_left("verify");
}

#[test]
fn of_a_token_that_was_rotated_and_revoked_nothing_is_left_in_memory() {
    assert_nothing_is_left("change");
}
