//! Looks, byte by byte, for known secrets in the memory of another process: at what a core
//! dump would hold.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a child is told to do, and where it leaves its secrets, masked.
const TASK: &str = "GATEKEY_PROOF_MEMORY_TASK";
const MASK: u8 = 0xa5;
/// A run of a secret of fewer characters is not reported: 15 of them leave 166
/// bits to guess.
pub(crate) const RUN_MIN: usize = 16;
/// Every run of [`RUN_MIN`] has a whole block of these in it.
const BLOCK: usize = 8;

/// The part of the process that is looked into.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    masked: File,
}

impl Task {
    /// What this process is told to do; `None` in a test as others are.
    pub(crate) fn given() -> Option<Self> {
        let task = std::env::var(TASK).ok()?;
        let (name, dir) = task.split_once(' ').unwrap();
        let dir = PathBuf::from(dir);
        Some(Self {
            name: name.to_owned(),
            masked: File::create(dir.join("masked")).unwrap(),
            dir,
        })
    }

    /// Writes a secret down, masked.
    pub(crate) fn note(&mut self, secret: &[u8]) {
        let line: Vec<u8> = secret.iter().map(|byte| byte ^ MASK).collect();
        let len = u8::try_from(line.len()).unwrap();
        self.masked.write_all(&[len]).unwrap();
        self.masked.write_all(&line).unwrap();
        // What this process does for the test leaves nothing either.
        use_the_stack();
    }

    /// Waits to be looked at: at once, and after later calls have gone over the stack.
    pub(crate) fn be_looked_at(self) {
        let on_stack = 0;
        let wait = || {
            println!("\nready {}", black_box(&raw const on_stack).addr());
            let _ = std::io::stdin().read(&mut [0]);
        };
        wait();
        use_the_stack();
        wait();
    }
}

/// Goes over the stack that earlier calls have left.
#[inline(never)]
fn use_the_stack() {
    black_box(&mut [0x11_u8; 256 << 10]);
}

/// A run of a secret in memory.
#[derive(Debug)]
pub(crate) struct Found {
    /// The number of the secret, as they were written down.
    pub(crate) secret: usize,
    pub(crate) len: usize,
    /// In the stack of the thread that handled it, or elsewhere.
    pub(crate) on_stack: bool,
}

/// What is found in the memory of a process that did a task and dropped what is
/// secret, its engine still open: at once, and after later calls have gone over
/// the stack that it had used. `test` is the child's part.
pub(crate) fn look(test: &str, task: &str) -> [Vec<Found>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(test)
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
    let at_once = search(&child, on_stack, &secrets, |found| found.on_stack);
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    ready();
    let later = search(&child, on_stack, &secrets, |_| false);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    println!(
        "{task}: {} runs at once, {} later",
        at_once.len(),
        later.len()
    );
    [at_once, later]
}

/// Searches until all that is found may be there, or for 2 s: a thread of the engine may
/// just have answered, and clears its stack then.
fn search(
    child: &Child,
    stack: usize,
    secrets: &[Vec<u8>],
    may_be: impl Fn(&Found) -> bool,
) -> Vec<Found> {
    let begun = Instant::now();
    loop {
        let found = search_once(child, stack, secrets);
        if found.iter().all(&may_be) || begun.elapsed() > Duration::from_secs(2) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn search_once(child: &Child, stack: usize, secrets: &[Vec<u8>]) -> Vec<Found> {
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

/// Hashing leaves its input on the stack, where the next calls go over it; that
/// is said in SECURITY.md. Nothing else may be left, and nothing for long.
pub(crate) fn assert_nothing_is_left(test: &str, task: &str) {
    let [at_once, later] = look(test, task);
    assert!(at_once.iter().all(|found| found.on_stack), "{at_once:#?}");
    assert!(later.is_empty(), "{later:#?}");
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
