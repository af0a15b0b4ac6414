//! The figures of the project, one line each: `name value unit`, below a line with the
//! command, the day and the machine, and above the goals that were missed.
//!
//! What is compared runs interleaved in this one process; a figure is the
//! median over rounds, and tokens come from a shuffled pool of the store's keys.
//! `cargo bench --bench figures -- [--quick] [NAME..]`

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic
)]

#[path = "figures/foreign.rs"]
mod foreign;
#[path = "figures/goals.rs"]
mod goals;
#[path = "figures/limits.rs"]
mod limits;
#[path = "figures/oauth.rs"]
mod oauth;
#[path = "figures/operations.rs"]
mod operations;
mod support;
#[path = "figures/tails.rs"]
mod tails;
#[path = "figures/world.rs"]
mod world;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatekey::{Clock, Engine, KeyId, Options, Reason, SystemClock, Verdict};
use gatekey_testkit::forge;
use hdrhistogram::Histogram;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use world::{Floor, READ, World, build, lay_out, options, spec, zipf};

const POOL: usize = 65_536;
const BATCH: usize = 10_000;
/// Enough for four million keys.
const ROOMY: usize = 400 << 20;
const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");

struct Run {
    quick: bool,
    wanted: Vec<String>,
    dir: tempfile::TempDir,
    world: OnceCell<World>,
}

impl Run {
    fn wants(&self, names: &[&str]) -> bool {
        self.wanted.is_empty()
            || names.iter().any(|name| {
                self.wanted
                    .iter()
                    .any(|wanted| name.contains(wanted.as_str()))
            })
    }

    fn rounds(&self) -> usize {
        if self.quick { 15 } else { 61 }
    }

    /// The store of a million keys, built when it is first asked for.
    fn world(&self) -> &World {
        self.world.get_or_init(|| {
            let start = Instant::now();
            let world = build(&self.path("1m.redb"), 1_000_000);
            eprintln!(
                "built 1,000,000 keys in {:.1} s",
                start.elapsed().as_secs_f64()
            );
            world
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// What the figures depend on: the command, the day and the machine.
fn print_head() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let command = match arguments.as_slice() {
        [] => "cargo bench --bench figures".to_owned(),
        some => format!("cargo bench --bench figures -- {}", some.join(" ")),
    };
    let now = SystemClock.now().to_string();
    let day = now.split('T').next().unwrap_or(&now);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("# {command}, {day}, {cpu}, {cores} cores");
}

fn print(name: &str, value: f64, unit: &str) {
    let digits = if value.abs() < 10.0 { 3 } else { 1 };
    println!("{name} {value:.digits$} {unit}");
    goals::note(name, value);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds a call of each, and the median of the ratios of the first to the
/// second in a round.
fn compare(
    rounds: usize,
    calls: usize,
    mut left: impl FnMut(usize),
    mut right: impl FnMut(usize),
) -> (f64, f64, f64) {
    let (mut lefts, mut rights, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The right goes through the pool a round and a half ahead, so that neither finds
    // warm what the other has just used.
    let ahead = calls + calls / 2;
    let time = |work: &mut dyn FnMut(usize), from: usize| {
        let start = Instant::now();
        for at in from..from + calls {
            work(at);
        }
        start.elapsed().as_nanos() as f64 / calls as f64
    };
    // Two rounds to warm up.
    for round in 0..rounds + 2 {
        let from = round * calls;
        let (l, r) = if round % 2 == 0 {
            let l = time(&mut left, from);
            (l, time(&mut right, from + ahead))
        } else {
            let r = time(&mut right, from + ahead);
            (time(&mut left, from), r)
        };
        if round >= 2 {
            lefts.push(l);
            rights.push(r);
            ratios.push(l / r);
        }
    }
    (median(&mut lefts), median(&mut rights), median(&mut ratios))
}

fn granted(engine: &Engine, token: &str) {
    let verdict = engine.verify_with(black_box(token), &READ).unwrap();
    assert!(black_box(&verdict).is_granted());
}

/// Brings all keys into memory, or all but one in ten thousand, or three, whose places are full: as
/// often as it takes, since the table forgets when it grows.
fn warm(engine: &Engine, world: &World) {
    for _ in 0..8 {
        let misses = || engine.metrics().unwrap().resident_misses;
        let before = misses();
        world.all.iter().for_each(|token| granted(engine, token));
        if misses() - before <= (world.all.len() as u64 / 10_000).max(3) {
            return;
        }
    }
    panic!("{} keys do not find room in memory", world.all.len());
}

fn refused(engine: &Engine, token: &[u8]) {
    let verdict = engine.verify(black_box(token)).unwrap();
    assert!(!black_box(&verdict).is_granted());
}

fn id_of(token: &str) -> KeyId {
    token[token.len() - 60..token.len() - 50].parse().unwrap()
}

/// The same token with an id that no key has.
fn with_unknown_id(token: &str, taken: &HashSet<u64>) -> String {
    let mut unknown = token.as_bytes().to_vec();
    forge::make_unknown(&mut unknown, |number| taken.contains(&number));
    String::from_utf8(unknown).unwrap()
}

fn hits(run: &Run) {
    let names = [
        "verify_floor_1m_ns",
        "verify_hit_1m_ns",
        "verify_hit_over_floor_1m",
        "verify_malformed_ns",
        "verify_1mb_token_ns",
        "verify_threads_2_speedup",
        "verify_same_key_threads_2_speedup",
        "hash_threads_2_speedup",
        "resident_bytes_per_key",
        "verify_many_over_hit_1m",
        "verify_zipf_over_floor_1m",
    ];
    if !run.wants(&names) {
        return;
    }
    let world = run.world();
    let engine = options(ROOMY).open(&world.path).unwrap();
    warm(&engine, world);
    if run.wants(&names[..3]) {
        let floor = Floor::new(world);
        let (hit, bare, ratio) = compare(
            run.rounds(),
            20_000,
            |at| granted(&engine, world.pool[at % POOL]),
            |at| floor.check(at),
        );
        print("verify_floor_1m_ns", bare, "ns");
        print("verify_hit_1m_ns", hit, "ns");
        print("verify_hit_over_floor_1m", ratio, "ratio");
    }
    if run.wants(&["verify_zipf_over_floor_1m"]) {
        let pool = zipf(&world.all);
        let floor = Floor::over(&world.all, &pool);
        let (_, _, ratio) = compare(
            run.rounds(),
            20_000,
            |at| granted(&engine, pool[at % POOL]),
            |at| floor.check(at),
        );
        print("verify_zipf_over_floor_1m", ratio, "ratio");
    }
    if run.wants(&["verify_many_over_hit_1m"]) {
        // A pool for each side: with one for both, each would find in the
        // processor's caches what the other has just had.
        let singles = lay_out(&world.all, 8);
        let (_, _, ratio) = compare(
            run.rounds(),
            300,
            |at| {
                let tokens = black_box(&world.pool[at % (POOL / 64) * 64..][..64]);
                let verdicts = engine.verify_many(tokens, &READ);
                let is_granted =
                    |verdict: &Result<Verdict, _>| verdict.as_ref().is_ok_and(Verdict::is_granted);
                assert!(black_box(&verdicts).iter().all(is_granted));
            },
            |at| {
                for token in &singles[at % (POOL / 64) * 64..][..64] {
                    granted(&engine, token);
                }
            },
        );
        print("verify_many_over_hit_1m", ratio, "ratio");
    }
    if run.wants(&names[3..5]) {
        let malformed: Vec<Vec<u8>> = world.pool[..1024]
            .iter()
            .map(|token| token[1..].replace('_', "-").into_bytes())
            .collect();
        let giant = vec![b'a'; 1 << 20];
        let (short, long, _) = compare(
            run.rounds(),
            20_000,
            |at| refused(&engine, &malformed[at % 1024]),
            |_| refused(&engine, &giant),
        );
        print("verify_malformed_ns", short, "ns");
        print("verify_1mb_token_ns", long, "ns");
    }
    if run.wants(&names[5..8]) {
        threads(run, &engine, world);
    }
    if run.wants(&names[8..9]) {
        let capacity = engine.stats().unwrap().resident_capacity;
        print(
            "resident_bytes_per_key",
            ROOMY as f64 / capacity as f64,
            "bytes",
        );
    }
    engine.close().unwrap();
}

/// What the default options hold of a million keys, and what memory the table takes for it.
fn memory(run: &Run) {
    let names = [
        "open_1m_memory_mib",
        "resident_100k_of_1m_mib",
        "resident_1m_mib",
        "resident_keys_of_1m",
    ];
    if !run.wants(&names) {
        return;
    }
    let world = run.world();
    // Of the file next to nothing stays in memory, so that the table is what grows.
    let little = 1 << 20;
    let before = support::memory_mib("VmRSS");
    let engine = Options::new()
        .cache_bytes(little)
        .open(&world.path)
        .unwrap();
    let grown = |name| print(name, support::memory_mib("VmRSS") - before, "MiB");
    granted(&engine, &world.all[0]);
    grown(names[0]);
    for token in &world.all[..100_000] {
        granted(&engine, token);
    }
    grown(names[1]);
    warm(&engine, world);
    grown(names[2]);
    let held = engine.stats().unwrap().resident_keys;
    print(names[3], held as f64, "keys");
    engine.close().unwrap();
}

/// Verifications a second of `count` threads, each on tokens of its own choice.
fn throughput(count: usize, time: Duration, work: impl Fn(usize) + Sync) -> f64 {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..count {
            let (stop, done, work) = (&stop, &done, &work);
            scope.spawn(move || {
                let mut at = thread * 30_011;
                let mut own = 0;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..512 {
                        work(at);
                        at += 1;
                    }
                    own += 512;
                }
                done.fetch_add(own, Ordering::Relaxed);
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn threads(run: &Run, engine: &Engine, world: &World) {
    let time = Duration::from_millis(if run.quick { 150 } else { 500 });
    let rounds = if run.quick { 5 } else { 11 };
    // The hash alone tells how much of a second processor there is: two virtual
    // ones may share one.
    let signed: [u8; 60] = world.pool[0].as_bytes()[..60].try_into().unwrap();
    let hash = |_| {
        black_box(blake3::keyed_hash(&[7; 32], black_box(&signed)));
    };
    let different = |at: usize| granted(engine, world.pool[at % POOL]);
    let same = |_| granted(engine, world.pool[0]);
    let works: [(&str, &(dyn Fn(usize) + Sync)); 3] = [
        ("verify_threads_2_speedup", &different),
        ("verify_same_key_threads_2_speedup", &same),
        ("hash_threads_2_speedup", &hash),
    ];
    let mut ratios = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for ((_, work), ratios) in works.iter().zip(&mut ratios) {
            let one = throughput(1, time, work);
            ratios.push(throughput(2, time, work) / one);
        }
    }
    for ((name, _), ratios) in works.iter().zip(&mut ratios) {
        print(name, median(ratios), "ratio");
    }
}

/// Hits in small stores, in a table that would hold four million.
fn small(run: &Run) {
    let names = |count: &str| {
        ["hit_over_floor_?", "hit_?_ns", "floor_?_ns"]
            .map(|name| format!("verify_{}", name.replace('?', count)))
    };
    for (count, names) in [
        (1_000, names("1k")),
        (10_000, names("10k")),
        (100_000, names("100k")),
    ] {
        let [name, hit_name, floor_name] = names.each_ref().map(String::as_str);
        let hot_name = "verify_hot_over_floor";
        let has_hot = count == 1_000;
        if !(run.wants(&[name]) || has_hot && run.wants(&[hot_name])) {
            continue;
        }
        let world = build(&run.path(&format!("{count}.redb")), count);
        let engine = options(ROOMY).open(&world.path).unwrap();
        warm(&engine, &world);
        let floor = Floor::new(&world);
        let in_pool = |at: usize| at % world.pool.len();
        if run.wants(&[name]) {
            let (hit, bare, ratio) = compare(
                run.rounds(),
                20_000,
                |at| granted(&engine, world.pool[in_pool(at)]),
                |at| floor.check(at),
            );
            print(floor_name, bare, "ns");
            print(hit_name, hit, "ns");
            print(name, ratio, "ratio");
        }
        if has_hot && run.wants(&[hot_name]) {
            let (_, _, ratio) = compare(
                run.rounds(),
                20_000,
                |_| granted(&engine, world.pool[0]),
                |_| floor.check(0),
            );
            print(hot_name, ratio, "ratio");
        }
        engine.close().unwrap();
    }
}

/// A bare lookup in a copy of the store, with the same cache, and the hash.
struct Bare {
    table: redb::ReadOnlyTable<u64, &'static [u8]>,
    ids: Vec<(u64, [u8; 60])>,
    _db: redb::Database,
}

impl Bare {
    fn new(path: &Path, pool: &[&str]) -> Self {
        let db = redb::Builder::new()
            .set_cache_size(Options::CACHE_BYTES)
            .open(path)
            .unwrap();
        let table = db.begin_read().unwrap().open_table(KEYS).unwrap();
        let ids = pool
            .iter()
            .map(|token| {
                let signed = token.as_bytes()[token.len() - 60..].try_into().unwrap();
                (forge::number_in(token.as_bytes()), signed)
            })
            .collect();
        Self {
            table,
            ids,
            _db: db,
        }
    }

    /// With the hash of the record, too, by which it is known to be unaltered, where that is wanted.
    fn get(&self, at: usize, with_tag: bool) {
        let (id, signed) = black_box(&self.ids[at % self.ids.len()]);
        let digest = blake3::keyed_hash(&[7; 32], signed);
        let record = ReadableTable::get(&self.table, id).unwrap().unwrap();
        assert!(!record.value().is_empty());
        if with_tag {
            black_box(blake3::keyed_hash(&[7; 32], record.value()));
        }
        black_box(digest);
    }
}

fn cold(run: &Run) {
    let names = [
        "verify_cold_1m_ns",
        "verify_cold_over_redb_get_1m",
        "verify_cold_over_get_hash_and_tag_1m",
        "verify_unknown_over_wrong_secret",
    ];
    if !run.wants(&names) {
        return;
    }
    let world = run.world();
    let engine = options(0).open(&world.path).unwrap();
    if run.wants(&names[..3]) {
        let copy = run.path("copy.redb");
        engine.backup(&copy).unwrap();
        let bare = Bare::new(&copy, &world.pool);
        let over_bare = |with_tag| {
            compare(
                run.rounds(),
                10_000,
                |at| granted(&engine, world.pool[at % POOL]),
                |at| bare.get(at, with_tag),
            )
        };
        let (ns, _, ratio) = over_bare(false);
        print(names[0], ns, "ns");
        print(names[1], ratio, "ratio");
        let (_, _, ratio) = over_bare(true);
        print(names[2], ratio, "ratio");
    }
    if run.wants(&names[3..]) {
        let taken = world
            .all
            .iter()
            .map(|token| forge::number_in(token.as_bytes()))
            .collect();
        let unknown: Vec<String> = world
            .pool
            .iter()
            .map(|token| with_unknown_id(token, &taken))
            .collect();
        let wrong: Vec<String> = world
            .pool
            .iter()
            .map(|token| forge::with_wrong_secret(token))
            .collect();
        let (_, _, ratio) = compare(
            run.rounds(),
            10_000,
            |at| refused(&engine, unknown[at % POOL].as_bytes()),
            |at| refused(&engine, wrong[at % POOL].as_bytes()),
        );
        print("verify_unknown_over_wrong_secret", ratio, "ratio");
    }
    engine.close().unwrap();
}

fn writes(run: &Run) {
    let names = [
        "batch_issue_per_s",
        "revoke_to_effect_us_p50",
        "revoke_to_effect_us_p999",
        "revoke_to_effect_grants",
        "issue_durable_1_thread_per_s",
        "issue_durable_64_threads_per_s",
        "revoke_durable_64_over_1",
        "redb_durable_64_over_1",
        "revoke_durable_1_thread_over_redb",
        "revoke_durable_scattered_64_over_1",
        "redb_durable_scattered_64_over_1",
        "revoke_durable_scattered_1_thread_over_redb",
    ];
    if !run.wants(&names) {
        return;
    }
    let world = run.world();
    let engine = Engine::open(&world.path).unwrap();
    if run.wants(&names[..1]) {
        let batches = if run.quick { 5 } else { 20 };
        let rate = operations::issued_per_s(&engine, world, batches);
        print("batch_issue_per_s", rate, "1/s");
    }
    if run.wants(&names[1..4]) {
        let count = if run.quick { 1000 } else { 5000 };
        let victims: Vec<_> = engine.issue_batch((0..count).map(spec).collect()).unwrap();
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        let mut grants = 0;
        for victim in &victims {
            granted(&engine, victim.token.expose());
            let start = Instant::now();
            engine.revoke(victim.key.id, Reason::KeyCompromise).unwrap();
            histogram
                .record(start.elapsed().as_micros() as u64)
                .unwrap();
            grants += u64::from(engine.verify(victim.token.expose()).unwrap().is_granted());
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        print("revoke_to_effect_us_p50", at(0.5), "us");
        print("revoke_to_effect_us_p999", at(0.999), "us");
        print("revoke_to_effect_grants", grants as f64, "count");
    }
    if run.wants(&names[4..6]) {
        let time = Duration::from_millis(if run.quick { 700 } else { 3000 });
        let one = durable_per_s(1, time, |at| {
            engine.issue(spec(at)).unwrap();
        });
        let many = durable_per_s(64, time, |at| {
            engine.issue(spec(at)).unwrap();
        });
        print("issue_durable_1_thread_per_s", one, "1/s");
        print("issue_durable_64_threads_per_s", many, "1/s");
    }
    if run.wants(&names[6..]) {
        let time = Duration::from_millis(if run.quick { 500 } else { 3000 });
        let newest: Vec<KeyId> = world.all.iter().rev().map(|token| id_of(token)).collect();
        let (newest, scattered) = newest.split_at(newest.len() / 2);
        let mut scattered = scattered.to_vec();
        scattered.shuffle(&mut StdRng::seed_from_u64(9));
        let copy = run.path("durable.redb");
        engine.backup(&copy).unwrap();
        let bare = redb::Database::open(copy).unwrap();
        for (name, bare_name, over_bare, ids) in [
            (names[6], names[7], names[8], newest),
            (names[9], names[10], names[11], scattered.as_slice()),
        ] {
            let next = AtomicU64::new(0);
            let revoke = |_| {
                let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                engine.revoke(ids[at], Reason::Cessation).unwrap();
            };
            let one = durable_per_s(1, time, revoke);
            let many = durable_per_s(64, time, revoke);
            print(name, many / one, "ratio");
            let bare_one = bare_durable_per_s(&bare, ids, 1, time);
            let many = bare_durable_per_s(&bare, ids, 64, time);
            print(bare_name, many / bare_one, "ratio");
            print(over_bare, one / bare_one, "ratio");
        }
    }
    engine.close().unwrap();
}

/// What `work` gives for each number below `count`, by many threads, and how long that took.
fn each_by<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> (Vec<T>, Duration) {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let numbers = std::iter::from_fn(|| {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        (number < count).then_some(number)
                    });
                    numbers.map(&work).collect::<Vec<T>>()
                })
            })
            .collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap());
        done.flatten().collect()
    });
    (done, start.elapsed())
}

fn durable_per_s(count: usize, time: Duration, work: impl Fn(usize) + Sync) -> f64 {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..count {
            let (stop, done, work) = (&stop, &done, &work);
            scope.spawn(move || {
                let mut at = thread;
                while !stop.load(Ordering::Relaxed) {
                    work(at);
                    at += count;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Records rewritten a second by redb alone, one table, so many a commit: what
/// sharing a commit can bring on the disk at hand.
fn bare_durable_per_s(db: &redb::Database, ids: &[KeyId], count: usize, time: Duration) -> f64 {
    let mut ids = ids
        .iter()
        .map(|id| forge::number_of(id.to_string().as_bytes()))
        .cycle();
    let mut done = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        let mut txn = db.begin_write().unwrap();
        txn.set_two_phase_commit(true);
        let mut table = txn.open_table(KEYS).unwrap();
        for id in ids.by_ref().take(count) {
            table.insert(id, [7; 140].as_slice()).unwrap();
        }
        drop(table);
        txn.commit().unwrap();
        done += count;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn opening(run: &Run) {
    if !run.wants(&["open_1m_to_first_verify_ms"]) {
        return;
    }
    let world = run.world();
    let mut times: Vec<f64> = (0..if run.quick { 5 } else { 15 })
        .map(|at| {
            let start = Instant::now();
            let engine = Engine::open(&world.path).unwrap();
            granted(&engine, world.pool[at]);
            let time = start.elapsed().as_secs_f64() * 1e3;
            engine.close().unwrap();
            time
        })
        .collect();
    print("open_1m_to_first_verify_ms", median(&mut times), "ms");
}

/// The counts of all keys by state, asked for while nothing else is done.
fn counts(run: &Run) {
    if !run.wants(&["stats_1m_ms"]) {
        return;
    }
    let engine = Engine::open(&run.world().path).unwrap();
    let counts = *engine.stats().unwrap().keyspaces.values().next().unwrap();
    // What was measured before has revoked others.
    assert!(counts.active == 1_000_000 && counts.total() >= 1_000_000);
    let time = operations::stats_ms(&engine, if run.quick { 100 } else { 1000 });
    print("stats_1m_ms", time, "ms");
    engine.close().unwrap();
}

fn main() {
    let mut run = Run {
        quick: false,
        wanted: Vec::new(),
        dir: tempfile::tempdir().unwrap(),
        world: OnceCell::new(),
    };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => run.quick = true,
            "--bench" => {}
            name => run.wanted.push(name.to_owned()),
        }
    }
    print_head();
    let start = Instant::now();
    small(&run);
    tails::tails(&run);
    hits(&run);
    memory(&run);
    cold(&run);
    opening(&run);
    counts(&run);
    limits::limits(&run);
    foreign::foreign(&run);
    oauth::oauth(&run);
    operations::operations(&run);
    operations::ten_millions(&run);
    // Last: it revokes keys of the store.
    writes(&run);
    goals::tell();
    eprintln!("took {:.1} s", start.elapsed().as_secs_f64());
}
