//! A primary that loses its synchronous standby and some of the servers, and runs on. Its standby
//! takes over for the others. Then the network heals.
//!
//! Four servers are processes, and reach either database through a network of their own. Two
//! are *left* with the former primary, which still takes their connections and answers what they
//! read. All make changes and verify all the while, and one of each side is killed and starts
//! again. A *trial* is a verification, by a server that is left, of a key that the other side has
//! revoked, which begins after the bound.
//!
//! With `GATEKEY_FLEET_SECONDS`, the databases change their parts and it happens again, for so long.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, Error, KeyState, NewKey, NewKeyspace, Options, Reason};
use gatekey_postgres::Config;
use gatekey_testkit::until;

use crate::fleet::options;
use crate::killed::told;
use crate::network::{Ends, Random, given};
use crate::proxy::{Network, Proxy};
use crate::server::Postgres;

const ADDRESS: &str = "GATEKEY_PROOF_DEPOSED_ADDRESS";
const FILE: &str = "GATEKEY_PROOF_DEPOSED_FILE";
const NODE: &str = "GATEKEY_PROOF_DEPOSED_NODE";
/// What a server answers that has panicked, and told why on stderr.
const PANICKED: &str = "panicked";

const SERVERS: usize = 4;
/// Servers 0 and 1.
const LEFT: usize = 2;
const LEASE: Duration = Duration::from_secs(1);
/// How many keys are verified again and again.
const WATCHED: usize = 64;
const TRIALS: u64 = 200;

/// Every second one does not wait for the others.
fn is_local(node: usize) -> bool {
    node.is_multiple_of(2)
}

fn server(address: &str, node: usize) -> Options {
    let config = Config::new(address).unwrap();
    let log = config.deadline(LEASE / 2).open("keys").unwrap();
    let settings = Settings::new(Arc::new(log), format!("server-{node}"))
        .freshness(Freshness::FailClosed(LEASE));
    options().fleet(match is_local(node) {
        true => settings.locally(),
        false => settings,
    })
}

/// What a server does: it answers lines until there are no more. Without its variables this is
/// no test.
#[test]
fn the_server() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let told = |name: &str| std::env::var(name).unwrap();
    let (node, path) = (told(NODE).parse().unwrap(), told(FILE));
    let opened = Arc::new(OnceLock::new());
    let opens = opened.clone();
    std::thread::spawn(move || {
        loop {
            if let Ok(engine) = server(&address, node).join_fleet(&path) {
                return drop(opens.set(engine));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    for line in std::io::stdin().lines() {
        let (line, opened) = (line.unwrap(), opened.clone());
        std::thread::spawn(move || {
            let (number, asked) = line.split_once(' ').unwrap();
            let answer = match opened.get() {
                Some(engine) => catch_unwind(AssertUnwindSafe(|| answer(engine, asked))),
                None => Ok("closed".to_owned()),
            };
            let answer = answer.unwrap_or_else(|_| PANICKED.to_owned());
            let answer = format!("\n{number} {answer}\n");
            std::io::stdout()
                .lock()
                .write_all(answer.as_bytes())
                .unwrap();
        });
    }
    std::process::exit(0);
}

fn answer(engine: &Engine, asked: &str) -> String {
    let changed = |changed: gatekey::Result<String>| match changed {
        Ok(answer) => format!("done {answer}"),
        Err(Error::OutcomeUnknown(_)) => "unknown".to_owned(),
        Err(_) => "failed".to_owned(),
    };
    let words: Vec<&str> = asked.split(' ').collect();
    match *words {
        ["issue", owner] => changed(
            engine
                .issue(NewKey::new("acme_live", owner).unwrap())
                .map(|issued| format!("{} {}", issued.key.id, issued.token.expose())),
        ),
        ["revoke", id] => changed(
            engine
                .revoke(id.parse().unwrap(), Reason::KeyCompromise)
                .map(|_| String::new()),
        ),
        // A letter for each: granted, denied, or an error.
        ["verify", ref tokens @ ..] => tokens
            .iter()
            .map(|token| match engine.verify(token) {
                Ok(verdict) if verdict.is_granted() => 'g',
                Ok(_) => 'd',
                Err(Error::NotFresh { .. }) => 'e',
                Err(error) => panic!("{error}"),
            })
            .collect(),
        ["position"] => engine.fleet_status().unwrap().position.to_string(),
        ["error"] => {
            let error = engine.fleet_status().unwrap().error;
            error.map_or(String::new(), |error| error.to_string())
        }
        ["close"] => format!("{:?}", engine.clone().close()),
        _ => panic!("{asked}"),
    }
}

/// Who waits for an answer; nothing once there are no more.
type Waiting = Mutex<Option<HashMap<u64, Sender<String>>>>;

/// A server that is a process.
struct Remote {
    child: Mutex<Child>,
    asks: Mutex<ChildStdin>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

impl Remote {
    fn start(address: &str, path: &Path, node: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "deposed::the_server"])
            .env(ADDRESS, address)
            .env(FILE, path)
            .env(NODE, node.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (answers, asked) = (child.stdout.take().unwrap(), waiting.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(answers).lines() {
                let line = line.unwrap_or_default();
                let answer = line.split_once(' ').unwrap_or_default();
                let number = answer.0.parse().unwrap_or(u64::MAX);
                let mut waiting = asked.lock().unwrap();
                if let Some(waits) = waiting.as_mut().unwrap().remove(&number) {
                    let _ = waits.send(answer.1.to_owned());
                }
            }
            // What is written to it from now on may still be taken.
            *asked.lock().unwrap() = None;
        });
        Self {
            asks: Mutex::new(child.stdin.take().unwrap()),
            child: Mutex::new(child),
            waiting,
            next: AtomicU64::new(0),
        }
    }

    /// What it answers; nothing where it was killed.
    fn ask(&self, words: &str) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let (answers, answered) = mpsc::channel();
        self.waiting
            .lock()
            .unwrap()
            .as_mut()?
            .insert(number, answers);
        let line = format!("{number} {words}\n");
        // Where it cannot be asked any more, its answers end, too.
        let _ = self.asks.lock().unwrap().write_all(line.as_bytes());
        let answer = answered.recv_timeout(Duration::from_secs(60));
        let is_over = answer == Err(RecvTimeoutError::Timeout);
        assert!(!is_over, "no answer within a minute: {words}");
        let answer = answer.ok();
        assert_ne!(answer.as_deref(), Some(PANICKED), "{words}");
        answer
    }

    /// SIGKILL.
    fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// A revocation was called, and its outcome is not known, or not yet.
    Doubtful,
    /// Revoked by a server: from then on nobody grants it.
    Revoked {
        by: usize,
        bound: Instant,
    },
}

struct Key {
    id: String,
    token: String,
    fate: Mutex<Fate>,
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    revoked: AtomicU64,
    unknown: AtomicU64,
    /// By those that were not left, while the others were.
    meanwhile: AtomicU64,
    trials: AtomicU64,
    /// Grants by those that were left of what the others had revoked, within the bound.
    stale: AtomicU64,
}

fn of(count: &AtomicU64) -> u64 {
    count.load(Ordering::SeqCst)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::SeqCst);
}

/// What became of the issue for an owner that no other issue is for.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done(String),
    Unknown,
    Failed,
}

struct World {
    dir: tempfile::TempDir,
    databases: [Postgres; 2],
    primary: usize,
    /// Before each database, for the other.
    replication: [Proxy; 2],
    /// Of each server, to each database.
    proxies: Vec<[Proxy; 2]>,
    servers: Vec<RwLock<Arc<Remote>>>,
    keys: RwLock<Vec<Arc<Key>>>,
    /// Those that are verified.
    watched: RwLock<Vec<Arc<Key>>>,
    outcomes: Mutex<BTreeMap<String, Outcome>>,
    /// Since when some servers are left.
    left_at: RwLock<Option<Instant>>,
    is_over: AtomicBool,
    counts: Counts,
}

fn be_synchronous(primary: &Postgres) {
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    primary.sql("SELECT pg_reload_conf()");
    let state = "SELECT sync_state FROM pg_stat_replication";
    until("it is synchronous", || primary.sql(state) == "sync");
}

impl World {
    fn start() -> Option<Self> {
        let primary = Postgres::start(&[])?;
        let port = crate::server::free_port();
        let replication = [Proxy::before(primary.port()), Proxy::before(port)];
        let standby = primary.standby_through(replication[0].port, port);
        be_synchronous(&primary);
        let ports = [primary.port(), standby.port()];
        let proxies: Vec<_> = (0..SERVERS).map(|_| ports.map(Proxy::before)).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        let alone = options().create(&path).unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        alone.create_keyspace(keyspace).unwrap();
        alone.close().unwrap();
        let first = server(&address(&proxies[0]), 0);
        first.found_fleet(&path).unwrap().close().unwrap();
        let mut world = Self {
            dir,
            databases: [primary, standby],
            primary: 0,
            replication,
            proxies,
            servers: Vec::new(),
            keys: RwLock::default(),
            watched: RwLock::default(),
            outcomes: Mutex::default(),
            left_at: RwLock::default(),
            is_over: AtomicBool::new(false),
            counts: Counts::default(),
        };
        let start = |node| RwLock::new(Arc::new(world.start_server(node)));
        world.servers = (0..SERVERS).map(start).collect();
        Some(world)
    }

    fn path(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn start_server(&self, node: usize) -> Remote {
        Remote::start(&address(&self.proxies[node]), &self.path(node), node)
    }

    fn server(&self, node: usize) -> Arc<Remote> {
        self.servers[node].read().unwrap().clone()
    }

    fn kill(&self, node: usize) {
        self.server(node).kill();
        *self.servers[node].write().unwrap() = Arc::new(self.start_server(node));
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }

    /// Sets the networks that lead over the rift.
    fn part(&self, network: Network) {
        self.replication[self.primary].set(network);
        for (node, proxies) in self.proxies.iter().enumerate() {
            let over = match node < LEFT {
                true => 1 - self.primary,
                false => self.primary,
            };
            proxies[over].set(network);
        }
    }

    /// Whether an answer is one that a former primary must have given.
    fn is_of_former(&self, node: usize, begun: Instant) -> bool {
        // What was on its way arrives a moment later.
        let moment = Duration::from_millis(100);
        let left_at = self.left_at.read().unwrap();
        node < LEFT && left_at.is_some_and(|at| begun > at + moment)
    }

    fn issue(&self, node: usize, owner: String) -> bool {
        let begun = Instant::now();
        let answer = self.server(node).ask(&format!("issue {owner}"));
        let words: Vec<_> = answer.iter().flat_map(|it| it.split(' ')).collect();
        let outcome = match *words {
            ["done", id, token] => {
                assert!(
                    !self.is_of_former(node, begun),
                    "server {node}: a former primary has acknowledged an append"
                );
                let (id, token) = (id.to_owned(), token.to_owned());
                let outcome = Outcome::Done(id.clone());
                let fate = Mutex::new(Fate::Good);
                let key = Arc::new(Key { id, token, fate });
                self.keys.write().unwrap().push(key);
                add(&self.counts.acknowledged);
                outcome
            }
            ["failed" | "closed"] => Outcome::Failed,
            _ => {
                add(&self.counts.unknown);
                Outcome::Unknown
            }
        };
        let is_done = matches!(outcome, Outcome::Done(_));
        let before = self.outcomes.lock().unwrap().insert(owner, outcome);
        assert_eq!(before, None);
        is_done
    }

    fn revoke(&self, node: usize, key: &Key) {
        {
            let mut fate = key.fate.lock().unwrap();
            if *fate != Fate::Good {
                return;
            }
            *fate = Fate::Doubtful;
        }
        let begun = Instant::now();
        let answer = self.server(node).ask(&format!("revoke {}", key.id));
        let returned = Instant::now();
        match answer.as_deref() {
            Some("done ") => {
                assert!(
                    !self.is_of_former(node, begun),
                    "server {node}: a former primary has acknowledged a revocation"
                );
                let waited = if is_local(node) {
                    LEASE
                } else {
                    Duration::ZERO
                };
                let bound = returned + waited;
                *key.fate.lock().unwrap() = Fate::Revoked { by: node, bound };
                add(&self.counts.revoked);
                if self.left_at.read().unwrap().is_some() {
                    add(&self.counts.meanwhile);
                }
            }
            Some("failed" | "closed") => *key.fate.lock().unwrap() = Fate::Good,
            _ => add(&self.counts.unknown),
        }
    }

    /// Changes by a server, until it is over.
    fn change(&self, node: usize, round: u64) {
        let mut random = Random(node as u64 + 11 + 4 * round);
        for turn in 0.. {
            if !self.goes_on() {
                return;
            }
            // Few revocations, so that enough are left for later.
            let is_early = self.left_at.read().unwrap().is_none() && random.below(8) != 0;
            if is_early || random.below(2) == 0 {
                self.issue(node, format!("acme/round-{round}/{node}-{turn}"));
            } else {
                let key = {
                    let watched = self.watched.read().unwrap();
                    let any = watched.len().max(1);
                    watched.get(random.index(any)).cloned()
                };
                if let Some(key) = key {
                    self.revoke(node, &key);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Verifications by a server, until it is over.
    fn verify(&self, node: usize) {
        while self.goes_on() {
            let left = self.left_at.read().unwrap().is_some();
            if !left {
                let keys = self.keys.read().unwrap();
                let is_good = |key: &&Arc<Key>| *key.fate.lock().unwrap() == Fate::Good;
                let newest = keys.iter().rev().filter(is_good).take(WATCHED);
                *self.watched.write().unwrap() = newest.cloned().collect();
            }
            let watched = self.watched.read().unwrap().clone();
            if !watched.is_empty() {
                self.verify_once(node, left, &watched);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn verify_once(&self, node: usize, left: bool, keys: &[Arc<Key>]) {
        let fates: Vec<_> = keys.iter().map(|key| *key.fate.lock().unwrap()).collect();
        let tokens: Vec<_> = keys.iter().map(|key| &*key.token).collect();
        let begun = Instant::now();
        let answer = self
            .server(node)
            .ask(&format!("verify {}", tokens.join(" ")));
        let Some(answer) = answer.filter(|it| it != "closed") else {
            return;
        };
        assert_eq!(answer.len(), keys.len());
        for (fate, answer) in fates.into_iter().zip(answer.chars()) {
            let Fate::Revoked { bound, by } = fate else {
                continue;
            };
            let late = begun.checked_duration_since(bound);
            let is_trial = left && node < LEFT && by >= LEFT;
            match (late, answer) {
                (Some(late), 'g') => panic!("server {node} grants {late:?} after the bound"),
                (Some(_), _) if is_trial => add(&self.counts.trials),
                (None, 'g') if is_trial => add(&self.counts.stale),
                _ => {}
            }
        }
    }

    /// The databases are parted, and the standby takes over; then all is well again.
    fn depose(&self, round: u64, is_cancelled: bool) {
        let [former, next] = [
            &self.databases[self.primary],
            &self.databases[1 - self.primary],
        ];
        until("there is something to verify", || {
            self.watched.read().unwrap().len() == WATCHED || !self.goes_on()
        });
        // Packets are lost, or connections refused.
        self.part(match (round + u64::from(is_cancelled)) % 2 {
            0 => Network::Silent,
            _ => Network::Cut,
        });
        *self.left_at.write().unwrap() = Some(Instant::now());
        let before = of(&self.counts.meanwhile);
        std::thread::sleep(Duration::from_millis(150));
        next.sql("SELECT pg_promote()");
        self.kill(0);
        // Whoever looks after the former primary may lose patience.
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
            WHERE wait_event = 'SyncRep'";
        let lasts = Instant::now();
        let trials = of(&self.counts.trials) + TRIALS;
        let (mut is_killed, mut is_warned) = (false, !is_cancelled);
        until("there were trials", || {
            // Once nobody reads there any more by a heartbeat of before.
            if is_cancelled && lasts.elapsed() > LEASE / 2 {
                former.sql(cancel);
                let error = self.server(LEFT - 1).ask("error").unwrap_or_default();
                is_warned |= error.contains("warned that its standby may not have it");
            }
            if !is_killed && of(&self.counts.meanwhile) > before + 8 {
                self.kill(SERVERS - 1);
                is_killed = true;
            }
            let are_enough = is_killed
                && is_warned
                && of(&self.counts.trials) >= trials
                && of(&self.counts.meanwhile) > before + 16
                && lasts.elapsed() > 2 * LEASE;
            std::thread::sleep(Duration::from_millis(20));
            are_enough || !self.goes_on()
        });
        *self.left_at.write().unwrap() = None;
        self.part(Network::Open);
    }

    fn takes_changes(&self, why: &str) {
        for node in 0..SERVERS {
            let begun = Instant::now();
            for turn in 0.. {
                if self.issue(node, format!("acme/{why}/{node}-{turn}")) {
                    break;
                }
                let error = self.server(node).ask("error");
                if (error.as_ref()).is_some_and(|error| error.contains("has another history")) {
                    // It read a commit whose wait was cancelled, and must join anew.
                    self.server(node).kill();
                    std::fs::remove_file(self.path(node)).unwrap();
                    self.kill(node);
                }
                let is_over = begun.elapsed() > Duration::from_secs(30);
                assert!(!is_over, "{why}: server {node} takes no changes: {error:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// A round, after which all agree.
    fn round(&self, round: u64, is_cancelled: bool) {
        self.is_over.store(false, Ordering::SeqCst);
        self.watched.write().unwrap().clear();
        std::thread::scope(|scope| {
            for node in 0..SERVERS {
                scope.spawn(move || {
                    let _ends = Ends(&self.is_over);
                    self.change(node, round);
                });
                scope.spawn(move || {
                    let _ends = Ends(&self.is_over);
                    self.verify(node);
                });
            }
            let _ends = Ends(&self.is_over);
            self.depose(round, is_cancelled);
        });
    }

    /// All servers agree, and have what was acknowledged, once.
    fn check(&self) {
        let positions = || -> Vec<_> {
            (0..SERVERS)
                .map(|node| self.server(node).ask("position"))
                .collect()
        };
        until("all have applied everything", || {
            let all = positions();
            all.iter().all(|it| it.is_some() && *it == all[0])
        });
        let keys = self.keys.read().unwrap();
        for node in 0..SERVERS {
            let server = self.server(node);
            for keys in keys.chunks(256) {
                let tokens: Vec<_> = keys.iter().map(|key| &*key.token).collect();
                let mut answer = String::new();
                until("it is fresh", || {
                    answer = server.ask(&format!("verify {}", tokens.join(" "))).unwrap();
                    !answer.contains('e')
                });
                for (key, answer) in keys.iter().zip(answer.chars()) {
                    match *key.fate.lock().unwrap() {
                        Fate::Good => assert_eq!(answer, 'g', "server {node}: {}", key.id),
                        Fate::Revoked { .. } => {
                            assert_eq!(answer, 'd', "server {node}: {}", key.id);
                        }
                        Fate::Doubtful => {}
                    }
                }
            }
        }
    }

    /// The files agree, too, and have nothing twice.
    fn check_files(self) {
        for server in &self.servers {
            let closed = server.read().unwrap().ask("close");
            assert_eq!(closed.as_deref(), Some("Ok(())"));
            server.read().unwrap().kill();
        }
        let mut first = None;
        for node in 0..SERVERS {
            let engine = server(&address(&self.proxies[node]), node).open(self.path(node));
            let engine = engine.unwrap();
            let report = engine.check().unwrap();
            assert!(report.is_sound(), "{:?}", report.findings);
            let told = told(&engine);
            assert!(
                first.get_or_insert_with(|| told.clone()) == &told,
                "they differ"
            );
            engine.close().unwrap();
        }
        let (mut owners, trail) = first.unwrap();
        assert!(!trail.is_empty());
        let keys = self.keys.into_inner().unwrap();
        let fates: HashMap<_, _> = keys.iter().map(|key| (&key.id, &key.fate)).collect();
        for (owner, outcome) in self.outcomes.into_inner().unwrap() {
            let found = owners.remove(&owner).unwrap_or_default();
            match (&outcome, &*found) {
                (Outcome::Done(id), [(found, state)]) => {
                    assert_eq!(id, found);
                    match *fates[id].lock().unwrap() {
                        Fate::Good => assert_eq!(*state, KeyState::Active, "{owner}"),
                        Fate::Revoked { .. } => assert_eq!(*state, KeyState::Revoked, "{owner}"),
                        Fate::Doubtful => {}
                    }
                }
                (Outcome::Unknown, [] | [_]) | (Outcome::Failed, []) => {}
                _ => panic!("{owner}: {outcome:?}, and there is {found:?}"),
            }
        }
        assert!(owners.is_empty(), "{owners:?}");
    }
}

fn address(proxies: &[Proxy; 2]) -> String {
    let [one, two] = proxies.each_ref().map(|proxy| proxy.port);
    format!(
        "host=127.0.0.1,127.0.0.1 port={one},{two} user=postgres dbname=postgres sslmode=disable"
    )
}

/// Runs rounds, and gives what they came to.
fn run(is_cancelled: bool) -> Option<String> {
    let mut world = World::start()?;
    world.takes_changes("first");
    let (begun, mut rounds) = (Instant::now(), 0);
    loop {
        world.round(rounds, is_cancelled);
        // The former primary runs still, and all reach it.
        world.takes_changes(&format!("round-{rounds}/healed"));
        world.databases[world.primary].stop();
        world.takes_changes(&format!("round-{rounds}/alone"));
        world.check();
        rounds += 1;
        if begun.elapsed().as_secs() >= given("GATEKEY_FLEET_SECONDS", 0) {
            break;
        }
        // It is the standby of the other now.
        let (former, next) = (world.primary, 1 - world.primary);
        let port = world.databases[former].port();
        let network = world.replication[next].port;
        world.databases[former] = world.databases[next].standby_through(network, port);
        be_synchronous(&world.databases[next]);
        world.primary = next;
    }
    let counts = &world.counts;
    let told = format!(
        "{rounds} primaries deposed in {} s: {} keys issued, {} revoked, {} of them meanwhile, {} outcomes unknown; {} trials, 0 grants beyond the bound; {} grants within it",
        begun.elapsed().as_secs(),
        of(&counts.acknowledged),
        of(&counts.revoked),
        of(&counts.meanwhile),
        of(&counts.unknown),
        of(&counts.trials),
        of(&counts.stale),
    );
    world.check_files();
    Some(told)
}

#[test]
fn a_deposed_primary_that_runs_on_lets_nothing_be_granted_and_acknowledges_nothing() {
    if let Some(told) = run(false) {
        println!("{told}");
    }
}

/// A commit that was told to wait no more is there, and on no standby.
#[test]
fn a_deposed_primary_whose_commits_stop_to_wait_lets_nothing_be_granted_and_acknowledges_nothing() {
    if let Some(told) = run(true) {
        println!("{told}");
    }
}
