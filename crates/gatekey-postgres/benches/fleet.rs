//! What a fleet costs over a PostgreSQL of this machine, which syncs: a line `name value unit`
//! for each figure.
//!
//! `cargo bench -p gatekey-postgres --bench fleet [-- PART ...]`, with `GATEKEY_KEYS` for the keys
//! that a new server starts with, 100,000 if not given. Parts: `denied`, `changes`, `reading`,
//! `starting`, `large`. Under `cargo test` it runs for a moment, prints nothing, and fails where a verdict is
//! wrong. All servers, the database and the callers share the machine.
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails should stop, and figures are for people"
)]

#[path = "../tests/it/proxy.rs"]
mod proxy;
#[path = "../tests/it/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, Issued, NewKey, NewKeyspace, Options, Pepper, Reason};

use gatekey_postgres::Config;
use proxy::{Network, Proxy};
use server::Postgres;

const KEYSPACE: &str = "acme_live";

/// It syncs, and has three connections for each of 32 servers.
const SETTINGS: [&str; 2] = ["fsync=on", "max_connections=120"];

/// As in the project's other benches: a debug build's times say nothing.
fn is_test() -> bool {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    cfg!(debug_assertions) || has("--test") || !has("--bench")
}

/// What is done in a bench, and what under `cargo test`.
fn count(bench: usize, test: usize) -> usize {
    if is_test() { test } else { bench }
}

fn report(name: &str, value: f64, unit: &str) {
    if !is_test() {
        println!("{name} {value:.3} {unit}");
    }
}

fn quantiles(name: &str, times: Vec<Duration>) -> f64 {
    quantiles_in(name, times, 1e3, "ms")
}

/// Reports quantiles, and gives the median.
fn quantiles_in(name: &str, mut times: Vec<Duration>, each_second: f64, unit: &str) -> f64 {
    times.sort();
    for (of, share) in [("p50", 500), ("p99", 990), ("p999", 999)] {
        let at = (times.len() * share / 1_000).min(times.len() - 1);
        let value = times[at].as_secs_f64() * each_second;
        report(&format!("{name}_{of}"), value, unit);
    }
    times[times.len() / 2].as_secs_f64() * each_second
}

fn options() -> Options {
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    Options::new().pepper(pepper).usage_interval(None)
}

fn new_key(at: usize) -> NewKey {
    let key = NewKey::new(KEYSPACE, format!("org-{}/service/key-{at}", at % 97)).unwrap();
    key.permissions(["read"])
}

/// A database, and servers of a fleet of its own.
struct World {
    postgres: Postgres,
    dir: tempfile::TempDir,
    fleets: usize,
}

impl World {
    fn path(&self, node: &str) -> PathBuf {
        self.dir.path().join(format!("{}-{node}.redb", self.fleets))
    }

    fn server(&self, node: &str) -> Options {
        self.server_by(self.postgres.config(), node)
    }

    fn server_by(&self, config: Config, node: &str) -> Options {
        let log = config.open(&format!("fleet-{}", self.fleets));
        let settings = Settings::new(Arc::new(log.unwrap()), node)
            .freshness(Freshness::FailClosed(Duration::from_secs(600)));
        options().fleet(settings)
    }

    /// A store with a keyspace, which is of no fleet.
    fn alone(&mut self) -> Engine {
        self.fleets += 1;
        let engine = options().create(self.path("0")).unwrap();
        let keyspace = NewKeyspace::new(KEYSPACE).unwrap().permissions(["read"]);
        engine.create_keyspace(keyspace).unwrap();
        engine
    }

    /// Closes such a store with so many keys, and gives the last of them.
    fn alone_with(&mut self, keys: usize) -> Issued {
        let alone = self.alone();
        let mut last = None;
        for from in (0..keys).step_by(10_000) {
            let new = (from..keys.min(from + 10_000)).map(new_key).collect();
            last = alone.issue_batch(new).unwrap().pop();
        }
        alone.close().unwrap();
        last.unwrap()
    }

    fn fleet(&mut self, servers: usize) -> Vec<Engine> {
        self.alone().close().unwrap();
        let open = |node: usize| match node {
            0 => self.server("0").found_fleet(self.path("0")),
            _ => self
                .server(&node.to_string())
                .join_fleet(self.path(&node.to_string())),
        };
        (0..servers).map(|node| open(node).unwrap()).collect()
    }
}

fn close(engines: Vec<Engine>) {
    engines
        .into_iter()
        .for_each(|engine| engine.close().unwrap());
}

fn is_granted(engine: &Engine, issued: &Issued) -> bool {
    engine.verify(issued.token.expose()).unwrap().is_granted()
}

fn position(engine: &Engine) -> u64 {
    engine.fleet_status().unwrap().position
}

fn settle(engines: &[Engine]) {
    let newest = engines.iter().map(position).max().unwrap();
    while engines.iter().any(|engine| position(engine) < newest) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// From the call of a revocation to its return: then all servers deny.
fn denied(world: &mut World) {
    for servers in [1, 2, 3, 8, count(32, 9)] {
        let engines = world.fleet(servers);
        let revocations = count(500, 3);
        let new = (0..revocations).map(new_key).collect();
        let issued = engines[0].issue_batch(new).unwrap();
        settle(&engines);
        let mut times = Vec::new();
        for (at, issued) in issued.iter().enumerate() {
            let other = &engines[at % servers];
            assert!(is_granted(other, issued));
            let begun = Instant::now();
            engines[0]
                .revoke(issued.key.id, Reason::KeyCompromise)
                .unwrap();
            times.push(begun.elapsed());
            for engine in &engines {
                assert!(!is_granted(engine, issued));
            }
        }
        quantiles(&format!("denied_everywhere_{servers}_servers"), times);
        close(engines);
    }
}

/// The database's own commit of as much as a change is, by one client.
struct Plain {
    client: postgres::Client,
    insert: postgres::Statement,
}

impl Plain {
    fn new(world: &World) -> Self {
        let address = world.postgres.address("postgres", "disable");
        let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
        let table =
            "CREATE TABLE IF NOT EXISTS plain (at bigserial PRIMARY KEY, body bytea NOT NULL)";
        client.batch_execute(table).unwrap();
        let insert = "INSERT INTO plain (body) VALUES ($1)";
        let insert = client.prepare(insert).unwrap();
        Self { client, insert }
    }

    fn commit(&mut self) {
        let body = vec![7_u8; 2_000];
        self.client.execute(&self.insert, &[&body]).unwrap();
    }
}

fn timed(does: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    does();
    begun.elapsed()
}

/// Issues by one thread on the first of the servers and commits to the database alone, in
/// turns of 50 each, since the disk's own time changes by the minute. While the database is
/// timed, no server has anything to follow.
fn issue_in_turns(engines: &[Engine], plain: &mut Plain) {
    let (mut issues, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..count(40, 1) {
        settle(engines);
        commits.extend((0..count(50, 3)).map(|_| timed(|| plain.commit())));
        let issue = |at| timed(|| drop(engines[0].issue(new_key(at)).unwrap()));
        issues.extend((0..count(50, 3)).map(issue));
    }
    let name = format!("change_by_one_writer_of_{}", engines.len());
    let issue = quantiles(&name, issues);
    let commit = quantiles(&format!("{name}_commit_of_the_database"), commits);
    report(&format!("{name}_to_commit"), issue / commit, "x");
}

/// Issues on each of the engines, from so many threads each: changes a second.
fn issue_for(engines: &[Engine], threads: usize, time: Duration) -> f64 {
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let issued: usize = std::thread::scope(|scope| {
        let issues = engines
            .iter()
            .flat_map(|engine| (0..threads).map(move |_| engine.clone()));
        let issues: Vec<_> = issues
            .map(|engine| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut issued = 0;
                    while !is_over.load(Ordering::Relaxed) || issued == 0 {
                        engine.issue(new_key(issued)).unwrap();
                        issued += 1;
                    }
                    issued
                })
            })
            .collect();
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        issues
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    issued as f64 / begun.elapsed().as_secs_f64()
}

fn changes(world: &mut World) {
    let time = Duration::from_millis(count(4_000, 5) as u64);
    let single = world.alone();
    let one = [single];
    report("changes_alone_1_thread", issue_for(&one, 1, time), "1/s");
    let grouped = issue_for(&one, 16, time);
    report("changes_alone_16_threads", grouped, "1/s");
    close(one.into());

    let mut plain = Plain::new(world);
    for servers in [1, 2] {
        let engines = world.fleet(servers);
        issue_in_turns(&engines, &mut plain);
        close(engines);
    }
    let engines = world.fleet(3);
    issue_in_turns(&engines, &mut plain);
    let by_one = issue_for(&engines[..1], 16, time);
    report("changes_of_3_servers_one_writing", by_one, "1/s");
    report(
        "changes_of_3_servers_one_writing_to_alone",
        by_one / grouped,
        "x",
    );
    let by_all = issue_for(&engines, 16, time);
    report("changes_of_3_servers_all_writing", by_all, "1/s");
    report(
        "changes_of_3_servers_all_writing_to_alone",
        by_all / grouped,
        "x",
    );
    settle(&engines);
    let keys = |engine: &Engine| engine.stats().unwrap().keyspaces[&KEYSPACE.parse().unwrap()];
    assert!(
        engines
            .iter()
            .all(|engine| keys(engine) == keys(&engines[0]))
    );
    close(engines);
}

/// Verifications on one thread for a time, each of which is timed.
fn verify_for(engine: &Engine, issued: &[Issued], time: Duration) -> Vec<Duration> {
    let begun = Instant::now();
    verify_while(engine, issued, || begun.elapsed() < time)
}

fn verify_while(engine: &Engine, issued: &[Issued], goes_on: impl Fn() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while goes_on() || times.is_empty() {
        for issued in issued {
            let begun = Instant::now();
            assert!(is_granted(engine, issued));
            times.push(begun.elapsed());
        }
    }
    times
}

/// Verifications on a server: idle, while it applies what another writes, while it catches up with what it
/// missed, without its database; and how fast a server that was away catches up.
fn reading(world: &mut World) {
    let time = Duration::from_millis(count(4_000, 5) as u64);
    let mut engines = world.fleet(2);
    let new = (0..count(1_000, 5)).map(new_key).collect();
    let issued = engines[0].issue_batch(new).unwrap();
    settle(&engines);
    let reader = &engines[1];
    verify_for(reader, &issued, Duration::ZERO);
    let micros = |name: &str, times| quantiles_in(name, times, 1e6, "us");
    micros("verification_idle", verify_for(reader, &issued, time));
    let before = position(reader);
    let busy = std::thread::scope(|scope| {
        let writes = scope.spawn(|| issue_for(&engines[..1], 8, time));
        let busy = verify_for(reader, &issued, time);
        writes.join().unwrap();
        busy
    });
    let applied = position(reader) - before;
    micros("verification_while_following", busy);
    report(
        "followed_meanwhile",
        applied as f64 / time.as_secs_f64(),
        "entries/s",
    );

    // Away, while others write: one is closed, and one has lost its network.
    let proxy = Proxy::before(world.postgres.port());
    let address = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        proxy.port
    );
    let config = Config::new(&address).unwrap();
    let cut = world
        .server_by(config, "2")
        .join_fleet(world.path("2"))
        .unwrap();
    settle(&[engines[0].clone(), cut.clone()]);
    verify_for(&cut, &issued, Duration::ZERO);
    proxy.set(Network::Cut);
    let missed = count(20_000, 5);
    engines.pop().unwrap().close().unwrap();
    for at in 0..missed {
        engines[0].issue(new_key(at)).unwrap();
    }
    let (from, to) = (position(&cut), position(&engines[0]));
    assert!(to >= from + missed as u64);
    proxy.set(Network::Open);
    while position(&cut) == from {}
    let begun = Instant::now();
    let busy = verify_while(&cut, &issued, || position(&cut) < to);
    report(
        "catching_up_while_verifying",
        missed as f64 / begun.elapsed().as_secs_f64(),
        "entries/s",
    );
    micros("verification_while_catching_up", busy);
    cut.close().unwrap();
    let begun = Instant::now();
    let back = world.server("1").open(world.path("1")).unwrap();
    settle(&[engines[0].clone(), back.clone()]);
    report(
        "catching_up",
        missed as f64 / begun.elapsed().as_secs_f64(),
        "entries/s",
    );
    world.postgres.stop();
    micros(
        "verification_without_the_database",
        verify_for(&back, &issued, time),
    );
    world.postgres.run(&SETTINGS);
    while back.issue(new_key(0)).is_err() || engines[0].issue(new_key(0)).is_err() {}
    engines.push(back);
    close(engines);
}

/// A server with an empty path, until it verifies.
fn starting(world: &mut World) {
    let keys = std::env::var("GATEKEY_KEYS").ok();
    let keys = keys.and_then(|keys| keys.parse().ok()).unwrap_or(100_000);
    for keys in [10_000, keys] {
        let keys = count(keys, 20);
        let last = world.alone_with(keys);
        let begun = Instant::now();
        let first = world.server("0").found_fleet(world.path("0")).unwrap();
        report(
            &format!("founding_with_{keys}_keys"),
            begun.elapsed().as_secs_f64(),
            "s",
        );
        let begun = Instant::now();
        let second = world.server("1").join_fleet(world.path("1")).unwrap();
        assert!(is_granted(&second, &last));
        report(
            &format!("joining_with_{keys}_keys"),
            begun.elapsed().as_secs_f64(),
            "s",
        );
        let bytes = std::fs::metadata(world.path("1")).unwrap().len();
        report(
            &format!("file_of_{keys}_keys"),
            bytes as f64 / f64::from(1 << 20),
            "MiB",
        );
        close(vec![first, second]);
    }
}

/// Keys that are issued at once, by an entry with a body, and granted on two servers.
fn large(world: &mut World) {
    let keys = count(10_000, 3_000);
    let engines = world.fleet(2);
    let before = peak_mib();
    let begun = Instant::now();
    let issued = engines[0].issue_batch((0..keys).map(new_key).collect());
    let issued = issued.unwrap();
    report(
        &format!("issuing_{keys}_keys"),
        begun.elapsed().as_secs_f64(),
        "s",
    );
    settle(&engines);
    report(
        &format!("issuing_{keys}_keys_everywhere"),
        begun.elapsed().as_secs_f64(),
        "s",
    );
    assert!(is_granted(&engines[1], &issued[keys - 1]));
    let put = "SELECT sum(octet_length(body)) FROM gatekey.body WHERE store = 'fleet-";
    let put = world.postgres.sql(&format!("{put}{}'", world.fleets));
    let put: f64 = put.parse().unwrap();
    report(
        &format!("body_of_{keys}_keys"),
        put / f64::from(1 << 20),
        "MiB",
    );
    report(
        &format!("memory_of_{keys}_keys"),
        peak_mib() - before,
        "MiB",
    );
    close(engines);
}

/// The most memory that this process has had.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0.0) / 1024.0
}

type Part = fn(&mut World);

fn main() {
    let Some(mut postgres) = Postgres::start(&[]) else {
        return;
    };
    postgres.stop();
    postgres.run(&SETTINGS);
    let mut world = World {
        postgres,
        dir: tempfile::tempdir().unwrap(),
        fleets: 0,
    };
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let parts: [(&str, Part); 5] = [
        ("denied", denied),
        ("changes", changes),
        ("reading", reading),
        ("starting", starting),
        ("large", large),
    ];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            part(&mut world);
        }
    }
}
