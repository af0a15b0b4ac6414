//! What the engine has to reach, measured: a line `name value unit` for each
//! figure. All but memory and the bulk load are medians; names end with the
//! size of the storage engine's cache in MiB, where there are several.
//!
//! `cargo bench --bench reaches`. Under `cargo test`, with `--test` and in a
//! debug build, it runs on few keys, prints nothing, and fails where a result
//! is wrong.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

mod support;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

use gatekey::{Denial, Engine, KeyFilter, Options, Verdict};
use gatekey_testkit::forge::{SIGNED_LEN, number_in};
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use support::{Home, Text, memory_mib, report};

/// The hot records, as gatekey's own file has them.
const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");
/// Of a tenth of the keys: an owner of 100,000, where there are a million.
const LARGE: &str = "large";

/// How much of everything.
struct Scale {
    keys: usize,
    rounds: usize,
    per_round: usize,
    suspensions: usize,
}

fn main() {
    let scale = match support::is_test() {
        true => Scale {
            keys: 2000,
            rounds: 3,
            per_round: 100,
            suspensions: 1,
        },
        false => Scale {
            keys: 1_000_000,
            rounds: 41,
            per_round: 20_000,
            suspensions: 5,
        },
    };
    let home = Home::new();
    // Memory first: it is the process's peak, and the tokens that are verified
    // later would count. They wait in a file.
    let tokens_file = home.file().with_extension("tokens");
    issue_and_list(&home, &scale, &tokens_file);
    let tokens = read_tokens(&tokens_file, scale.keys);
    for cache_bytes in [Options::CACHE_BYTES, 2 << 30] {
        verify_beside_bare(&home, &scale, &tokens, cache_bytes);
    }
    suspend_large(&home, &scale, &tokens);
}

/// Issues all keys and lists them, with nothing kept in memory but the pages
/// that the cache may hold.
fn issue_and_list(home: &Home, scale: &Scale, tokens_file: &Path) {
    let engine = home.open(Options::new().resident_bytes(0));
    let mut tokens = BufWriter::new(File::create(tokens_file).unwrap());
    report("memory_at_start", memory_mib("VmHWM"), "MiB");

    let owner = |n: usize| match n % 10 {
        0 => format!("{LARGE}/bot-{n}"),
        _ => format!("acme/team-{}/bot-{n}", n % 97),
    };
    let started = Instant::now();
    support::issue(&engine, scale.keys, owner, |n, token| {
        tokens.write_all(&support::text(token)).unwrap();
        if n + 1 == scale.keys / 10 {
            report("memory_peak_a_tenth_issued", memory_mib("VmHWM"), "MiB");
        }
    });
    let issue_s = started.elapsed().as_secs_f64();
    tokens.flush().unwrap();
    report("keys_issued", scale.keys as f64, "keys");
    report("batch_issue", issue_s, "s");
    report("memory_peak_all_issued", memory_mib("VmHWM"), "MiB");

    let started = Instant::now();
    let mut listed = 0;
    for key in engine.keys(KeyFilter::new()) {
        black_box(key.unwrap());
        listed += 1;
    }
    assert_eq!(listed, scale.keys);
    report("list", started.elapsed().as_secs_f64(), "s");
    report("memory_peak_all_listed", memory_mib("VmHWM"), "MiB");
    let file_bytes = engine.stats().unwrap().file_bytes;
    report("file", file_bytes as f64 / f64::from(1 << 20), "MiB");
    engine.close().unwrap();
}

/// In a random order, as requests come.
fn read_tokens(file: &Path, count: usize) -> Vec<Text> {
    let mut reader = BufReader::new(File::open(file).unwrap());
    let mut tokens = Vec::with_capacity(count);
    let mut token = [0; support::TOKEN_LEN];
    while reader.read_exact(&mut token).is_ok() {
        tokens.push(token);
    }
    assert_eq!(tokens.len(), count);
    support::shuffle(&mut tokens);
    tokens
}

/// A bare look-up: no more than redb's own `get` of the same record, and one
/// hash of the same 60 bytes. Where `tag` is asked for, also the hash of the
/// record that shows it unaltered.
struct Bare {
    table: ReadOnlyTable<u64, &'static [u8]>,
    key: [u8; 32],
    /// Closes when it is dropped.
    _db: redb::Database,
}

impl Bare {
    fn open(file: &Path, cache_bytes: usize) -> Self {
        let mut builder = redb::Builder::new();
        let db = builder.set_cache_size(cache_bytes).open(file).unwrap();
        let table = db.begin_read().unwrap().open_table(KEYS).unwrap();
        Self {
            table,
            key: [7; 32],
            _db: db,
        }
    }

    fn look_up(&self, id: u64, signed: &[u8], with_tag: bool) {
        let record = ReadableTable::get(&self.table, id).unwrap().unwrap();
        let record = record.value();
        assert_eq!(record.get(8..16), Some(id.to_le_bytes().as_slice()));
        black_box(blake3::keyed_hash(&self.key, signed));
        if with_tag {
            black_box(blake3::keyed_hash(&self.key, record));
        }
    }
}

/// Runs verifications and bare look-ups of the same keys in turns: of the two
/// files, which hold the same pages, each has a cache of the same size.
fn verify_beside_bare(home: &Home, scale: &Scale, tokens: &[Text], cache_bytes: usize) {
    let copy = home.file().with_extension("copy");
    fs::copy(home.file(), &copy).unwrap();
    let bare = &Bare::open(&copy, cache_bytes);
    let options = Options::new().resident_bytes(0).cache_bytes(cache_bytes);
    let engine = home.open(options);
    // Parsed beforehand, beside each other: the bare look-up does not parse.
    let parsed: Vec<(u64, [u8; SIGNED_LEN])> = tokens
        .iter()
        .map(|token| (number_in(token), *token.last_chunk().unwrap()))
        .collect();

    let verify = |token: &Text| {
        let verdict = engine.verify(black_box(token)).unwrap();
        assert!(black_box(&verdict).is_granted());
    };
    tokens.iter().for_each(verify);
    for (id, signed) in &parsed {
        bare.look_up(*id, signed, false);
    }

    let mut rounds = Rounds::default();
    let windows: Vec<&[Text]> = tokens.chunks(scale.per_round).collect();
    let parsed: Vec<&[_]> = parsed.chunks(scale.per_round).collect();
    for round in 0..scale.rounds {
        // Keys that none of the three has looked up for long.
        let at = round % windows.len();
        let across = (at + windows.len() / 2) % windows.len();
        let look_up = |with_tag| {
            move |(id, signed): &(u64, [u8; SIGNED_LEN])| {
                bare.look_up(black_box(*id), black_box(signed), with_tag);
            }
        };
        rounds.verify.push(ns_each(windows[at], verify));
        let times = ns_each(parsed[at], look_up(false));
        rounds.get_and_hash.push(times);
        let times = ns_each(parsed[across], look_up(true));
        rounds.get_and_both_hashes.push(times);
    }
    rounds.report(cache_bytes >> 20);
    engine.close().unwrap();
    fs::remove_file(copy).unwrap();
}

/// Nanoseconds a look-up, round by round.
#[derive(Default)]
struct Rounds {
    verify: Vec<f64>,
    get_and_hash: Vec<f64>,
    get_and_both_hashes: Vec<f64>,
}

impl Rounds {
    fn report(&self, cache_mib: usize) {
        let named = |name: &str| format!("{name}_cache_{cache_mib}");
        for (name, times) in [
            ("verify", &self.verify),
            ("get_and_hash", &self.get_and_hash),
            ("get_and_both_hashes", &self.get_and_both_hashes),
        ] {
            report(&named(name), median(times.clone()), "ns");
        }
        // Of the two times of each round, so that a round in which the machine
        // was busy with something else counts for no more than another.
        for (name, bare) in [
            ("verify_over_get_and_hash", &self.get_and_hash),
            ("verify_over_get_and_both_hashes", &self.get_and_both_hashes),
        ] {
            let pairs = self.verify.iter().zip(bare);
            let ratios = pairs.map(|(verify, bare)| verify / bare).collect();
            report(&named(name), median(ratios), "times");
        }
    }
}

fn ns_each<T>(items: &[T], work: impl Fn(&T)) -> f64 {
    let started = Instant::now();
    items.iter().for_each(work);
    started.elapsed().as_nanos() as f64 / items.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Suspends an owner of a tenth of the keys, and resumes it, some times over.
fn suspend_large(home: &Home, scale: &Scale, tokens: &[Text]) {
    let engine = home.open(Options::new());
    let (mut suspend_s, mut resume_s) = (Vec::new(), Vec::new());
    let mut follow_s = Vec::new();
    for _ in 0..scale.suspensions {
        let started = Instant::now();
        let state = engine.suspend(LARGE, None).unwrap();
        suspend_s.push(started.elapsed().as_secs_f64());
        assert!(state.is_suspended());
        engine.flush().unwrap();
        follow_s.push(started.elapsed().as_secs_f64());
        assert_eq!(count_suspended(&engine, tokens), scale.keys / 10);

        let started = Instant::now();
        let state = engine.resume(LARGE).unwrap();
        resume_s.push(started.elapsed().as_secs_f64());
        assert!(!state.is_suspended());
        assert_eq!(count_suspended(&engine, tokens), 0);
    }
    report("suspended_keys", scale.keys as f64 / 10.0, "keys");
    report("suspend", median(suspend_s) * 1e3, "ms");
    report("suspend_and_records_follow", median(follow_s), "s");
    report("resume", median(resume_s) * 1e3, "ms");
    engine.close().unwrap();
}

fn count_suspended(engine: &Engine, tokens: &[Text]) -> usize {
    let is_suspended = |token: &&Text| match engine.verify(token).unwrap() {
        Verdict::Granted(_) => false,
        Verdict::Denied(Denial::Suspended { .. }) => true,
        Verdict::Denied(denial) => unreachable!("{denial}"),
    };
    tokens.iter().filter(is_suspended).count()
}
