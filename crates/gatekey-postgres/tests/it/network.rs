//! Servers whose network to the database fails: what was revoked is granted nowhere beyond the
//! bound, and what was acknowledged is there.
//!
//! A *trial* is a verification of a revoked key that begins after the bound, on a server that had
//! not yet applied the revocation then: only its lease keeps it from granting. A revocation
//! that returned at T is bound from T on, or from T + n with `Settings::locally`. Verifications on servers that
//! know of it are counted too, and may not grant either.
//!
//! `GATEKEY_FLEET_SECONDS` and `GATEKEY_FLEET_TRIALS` let it run for longer than the gate does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use gatekey::fleet::{Freshness, Settings, Status};
use gatekey::{Engine, Error, Issued, KeyState, NewKey, NewKeyspace, Reason};
use gatekey_postgres::Config;
use gatekey_testkit::until;

use crate::fleet::options;
use crate::proxy::{Network, Proxy};
use crate::server::Postgres;

const SERVERS: usize = 3;
const LEASE: Duration = Duration::from_millis(500);
/// How many of the newest keys are verified again and again.
const WATCHED: usize = 512;
/// How long a test runs at most, if there are few trials.
const SECONDS_MAX: u64 = 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// A revocation was called, and its outcome is not known, or not yet.
    Doubtful,
    /// A revocation has returned, and the server that made it had applied so much.
    Revoked {
        at: Instant,
        position: u64,
    },
}

#[derive(Debug)]
struct Line {
    issued: Issued,
    fate: Mutex<Fate>,
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    revoked: AtomicU64,
    unknown: AtomicU64,
    partitions: AtomicU64,
    trials: AtomicU64,
    /// Beyond the bound, by servers that knew.
    knowing: AtomicU64,
    /// Grants of a key after its revocation had returned, within the bound, and the latest of them.
    stale: AtomicU64,
    latest_ms: AtomicU64,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

pub(crate) fn given(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

fn position(server: &Engine) -> u64 {
    server.fleet_status().unwrap().position
}

fn open(port: u16, path: &std::path::Path, node: usize, waits_everywhere: bool) -> Engine {
    let address = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    let config = Config::new(&address).unwrap();
    let log = config
        .deadline(Duration::from_millis(400))
        .open("keys")
        .unwrap();
    let settings = Settings::new(Arc::new(log), format!("server-{node}"))
        .freshness(Freshness::FailClosed(LEASE));
    let settings = match waits_everywhere {
        true => settings,
        false => settings.locally(),
    };
    let options = || options().fleet(settings.clone());
    if node == 0 {
        return options().found_fleet(path).unwrap();
    }
    // Its deadline is short, and other tests may have the processors.
    let mut joined = None;
    until("it joins", || {
        joined = options().join_fleet(path).ok();
        joined.is_some()
    });
    joined.unwrap()
}

/// Each kind of fault in turn, at a server that is drawn; then it is open for a while.
fn trouble(proxies: &[Proxy], counts: &Counts, is_over: &AtomicBool) {
    let mut random = Random(7);
    let kinds = [Network::Cut, Network::Silent, Network::Deaf];
    for turn in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let proxy = &proxies[random.index(SERVERS)];
        if turn % 2 == 0 {
            // What it hears last is old as it arrives.
            proxy.delay(20 + random.below(60));
            std::thread::sleep(Duration::from_millis(400 + random.below(400)));
        }
        proxy.set(kinds[turn % kinds.len()]);
        add(&counts.partitions);
        std::thread::sleep(Duration::from_millis(200 + random.below(1_000)));
        proxy.set(Network::Open);
        proxy.delay(0);
        std::thread::sleep(Duration::from_millis(random.below(300)));
    }
}

fn watched(keys: &RwLock<Vec<Arc<Line>>>) -> Vec<Arc<Line>> {
    let keys = keys.read().unwrap();
    keys.iter().rev().take(WATCHED).cloned().collect()
}

/// Issues a key, or revokes one of the newest.
fn change(server: &Engine, keys: &RwLock<Vec<Arc<Line>>>, random: &mut Random, counts: &Counts) {
    if keys.read().unwrap().len() < 8 || random.below(2) == 0 {
        match server.issue(NewKey::new("acme_live", "acme").unwrap()) {
            Ok(issued) => {
                add(&counts.acknowledged);
                let fate = Mutex::new(Fate::Good);
                keys.write().unwrap().push(Arc::new(Line { issued, fate }));
            }
            Err(Error::OutcomeUnknown(_)) => add(&counts.unknown),
            Err(_) => {}
        }
        return;
    }
    // No lock is held while a call waits: it would keep others from verifying.
    let line = {
        let keys = keys.read().unwrap();
        keys[keys.len() - 1 - random.index(keys.len().min(16))].clone()
    };
    {
        let mut fate = line.fate.lock().unwrap();
        if *fate != Fate::Good {
            return;
        }
        *fate = Fate::Doubtful;
    }
    if server
        .revoke(line.issued.key.id, Reason::KeyCompromise)
        .is_ok()
    {
        let (at, position) = (Instant::now(), position(server));
        *line.fate.lock().unwrap() = Fate::Revoked { at, position };
        add(&counts.revoked);
    }
}

/// Verifies a key, and fails where it is granted beyond the bound.
fn verify(server: &Engine, line: &Line, waits_everywhere: bool, counts: &Counts) {
    let fate = *line.fate.lock().unwrap();
    let knows = match fate {
        Fate::Revoked { position, .. } => self::position(server) >= position,
        _ => false,
    };
    let begun = Instant::now();
    let answer = server.verify(line.issued.token.expose());
    let Fate::Revoked { at, .. } = fate else {
        return;
    };
    let is_granted = answer.is_ok_and(|verdict| verdict.is_granted());
    let late = begun.duration_since(at);
    if waits_everywhere || late > LEASE {
        let name = server.fleet_status().unwrap().node;
        assert!(!is_granted, "{name} granted {late:?} after the revocation");
        add(if knows {
            &counts.knowing
        } else {
            &counts.trials
        });
    } else if is_granted {
        add(&counts.stale);
        let ms = u64::try_from(late.as_millis()).unwrap();
        counts.latest_ms.fetch_max(ms, Ordering::Relaxed);
    }
}

/// Runs a fleet under faults, and gives what it came to.
fn run(waits_everywhere: bool) -> Option<String> {
    let postgres = Postgres::start(&[])?;
    let dir = tempfile::tempdir().unwrap();
    let path = |node: usize| dir.path().join(format!("{node}.redb"));
    options().create(path(0)).unwrap().close().unwrap();
    let proxies: Vec<_> = (0..SERVERS)
        .map(|_| Proxy::before(postgres.port()))
        .collect();
    let servers: Vec<_> = (0..SERVERS)
        .map(|node| open(proxies[node].port, &path(node), node, waits_everywhere))
        .collect();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    servers[0].create_keyspace(keyspace).unwrap();

    let (seconds, trials) = (
        given("GATEKEY_FLEET_SECONDS", 6),
        given("GATEKEY_FLEET_TRIALS", 100),
    );
    let (keys, counts) = (RwLock::<Vec<Arc<Line>>>::default(), Counts::default());
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (keys, counts, is_over) = (&keys, &counts, &is_over);
        scope.spawn(|| trouble(&proxies, counts, is_over));
        let goes_on = || !is_over.load(Ordering::SeqCst);
        for (node, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                let mut random = Random(node as u64 + 11);
                while goes_on() {
                    change(server, keys, &mut random, counts);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            scope.spawn(move || {
                // A failure here ends the others too.
                let _ends = Ends(is_over);
                while goes_on() {
                    for line in watched(keys) {
                        verify(server, &line, waits_everywhere, counts);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let elapsed = || begun.elapsed().as_secs();
        while goes_on()
            && (elapsed() < seconds
                || counts.trials.load(Ordering::Relaxed) < trials && elapsed() < SECONDS_MAX)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let seconds = begun.elapsed().as_secs();

    // A change of each settles what was in doubt.
    let last = |server: &Engine| {
        server
            .issue(NewKey::new("acme_live", "last").unwrap())
            .is_ok()
    };
    servers
        .iter()
        .for_each(|server| until("it takes changes", || last(server)));
    until("all have applied everything", || {
        servers
            .iter()
            .all(|server| position(server) == position(&servers[SERVERS - 1]))
    });
    check_end(&servers, &keys.into_inner().unwrap(), &counts);
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let status: Vec<_> = servers.iter().filter_map(Engine::fleet_status).collect();
    let sum = |of: fn(&Status) -> u64| status.iter().map(of).sum::<u64>();
    let bound = match waits_everywhere {
        true => "its return",
        false => "its lease after its return",
    };
    let told = format!(
        "bound: {bound}; {seconds} s, {} partitions, {} keys issued, {} revoked, {} outcomes unknown; {} trials, {} verifications by servers that knew, 0 grants beyond the bound; {} grants within it, the latest after {} of {} ms; {} appends overtaken, {} without an answer, {} calls failed",
        of(&counts.partitions),
        of(&counts.acknowledged),
        of(&counts.revoked),
        of(&counts.unknown),
        of(&counts.trials),
        of(&counts.knowing),
        of(&counts.stale),
        of(&counts.latest_ms),
        LEASE.as_millis(),
        sum(|it| it.overtaken),
        sum(|it| it.unknown),
        sum(|it| it.failures),
    );
    assert!(of(&counts.trials) >= trials, "too few trials");
    assert!(sum(|it| it.failures) > 0, "the network did not fail");
    assert!(
        waits_everywhere || of(&counts.stale) > 0,
        "the bound was never needed"
    );
    servers
        .into_iter()
        .for_each(|server| server.close().unwrap());
    Some(told)
}

/// Ends the run with its thread.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// All servers agree, and every answer held.
fn check_end(servers: &[Engine], keys: &[Arc<Line>], counts: &Counts) {
    let told = |server: &Engine| {
        let keys = server.keys(gatekey::KeyFilter::new());
        let all = keys.map(|key| key.map(|key| (key.id, key.state))).collect();
        let all: BTreeMap<_, _> = Result::unwrap(all);
        all
    };
    let all = told(&servers[0]);
    let acknowledged = counts.acknowledged.load(Ordering::SeqCst);
    assert!(
        all.len() as u64 >= acknowledged + SERVERS as u64,
        "an acknowledged change is lost"
    );
    for line in keys {
        let state = all[&line.issued.key.id];
        match *line.fate.lock().unwrap() {
            Fate::Good => assert_eq!(state, KeyState::Active),
            Fate::Revoked { .. } => assert_eq!(state, KeyState::Revoked),
            Fate::Doubtful => {}
        }
    }
    for server in servers {
        assert!(told(server) == all, "servers differ");
        assert!(server.check().unwrap().is_sound());
    }
}

#[test]
fn what_was_revoked_is_granted_nowhere_whatever_the_network_to_the_database_does() {
    if let Some(told) = run(true) {
        println!("{told}");
    }
}

#[test]
fn what_was_revoked_is_granted_nowhere_a_lease_later_whatever_the_network_to_the_database_does() {
    if let Some(told) = run(false) {
        println!("{told}");
    }
}
