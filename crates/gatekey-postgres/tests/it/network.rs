//! Servers whose network to the database fails: what was revoked is granted nowhere, and what
//! was acknowledged is there.
//!
//! `GATEKEY_FLEET_SECONDS` lets it run for longer than the gate does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use gatekey::fleet::{Freshness, Settings};
use gatekey::{Engine, Error, Issued, KeyState, NewKey, NewKeyspace, Reason};
use gatekey_postgres::Config;
use gatekey_testkit::until;

use crate::fleet::options;
use crate::proxy::{Network, Proxy};
use crate::server::Postgres;

const SERVERS: usize = 3;
const LEASE: Duration = Duration::from_millis(1_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// A revocation was called, and its outcome is not known, or not yet.
    Doubtful,
    Revoked,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }
}

fn seconds() -> u64 {
    let given = std::env::var("GATEKEY_FLEET_SECONDS").ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(8)
}

fn open(port: u16, path: &std::path::Path, node: usize) -> Engine {
    let address = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    let config = Config::new(&address).unwrap();
    let log = config
        .deadline(Duration::from_millis(400))
        .open("keys")
        .unwrap();
    let settings = Settings::new(Arc::new(log), format!("server-{node}"))
        .freshness(Freshness::FailClosed(LEASE));
    let options = options().fleet(settings);
    match node {
        0 => options.found_fleet(path).unwrap(),
        _ => options.join_fleet(path).unwrap(),
    }
}

/// Each kind of fault at each server in turn, drawn; then it is open for a while.
fn trouble(proxies: &[Proxy], is_over: &AtomicBool) {
    let mut random = Random(7);
    while !is_over.load(Ordering::SeqCst) {
        let proxy = &proxies[usize::try_from(random.below(SERVERS as u64)).unwrap()];
        match random.below(5) {
            0 => proxy.set(Network::Cut),
            1 => proxy.set(Network::Silent),
            2 => proxy.set(Network::Deaf),
            3 => proxy.delay(random.below(80)),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(900)));
        proxy.set(Network::Open);
        proxy.delay(0);
        std::thread::sleep(Duration::from_millis(random.below(200)));
    }
    for proxy in proxies {
        proxy.set(Network::Open);
        proxy.delay(0);
    }
}

#[test]
fn what_was_revoked_is_granted_nowhere_whatever_the_network_to_the_database_does() {
    let Some(postgres) = Postgres::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |node: usize| dir.path().join(format!("{node}.redb"));
    options().create(path(0)).unwrap().close().unwrap();
    let proxies: Vec<_> = (0..SERVERS)
        .map(|_| Proxy::before(postgres.port()))
        .collect();
    let servers: Vec<_> = (0..SERVERS)
        .map(|node| open(proxies[node].port, &path(node), node))
        .collect();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    servers[0].create_keyspace(keyspace).unwrap();

    let keys: RwLock<Vec<(Issued, Mutex<Fate>)>> = RwLock::default();
    let (of_revoked, acknowledged, unknown) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| trouble(&proxies, &is_over));
        for (node, server) in servers.iter().enumerate() {
            let (keys, is_over) = (&keys, &is_over);
            let (acknowledged, unknown, of_revoked) = (&acknowledged, &unknown, &of_revoked);
            scope.spawn(move || {
                let mut random = Random(node as u64 + 11);
                while !is_over.load(Ordering::SeqCst) {
                    if keys.read().unwrap().len() < 8 || random.below(2) == 0 {
                        match server.issue(NewKey::new("acme_live", "acme").unwrap()) {
                            Ok(issued) => {
                                acknowledged.fetch_add(1, Ordering::SeqCst);
                                keys.write().unwrap().push((issued, Mutex::new(Fate::Good)));
                            }
                            Err(Error::OutcomeUnknown(_)) => {
                                unknown.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(_) => std::thread::sleep(Duration::from_millis(5)),
                        }
                        continue;
                    }
                    let keys = keys.read().unwrap();
                    let newest = usize::try_from(random.below(keys.len().min(16) as u64)).unwrap();
                    let (issued, fate) = &keys[keys.len() - 1 - newest];
                    if std::mem::replace(&mut *fate.lock().unwrap(), Fate::Doubtful) != Fate::Good {
                        // Another has it, or had it.
                        continue;
                    }
                    if server.revoke(issued.key.id, Reason::KeyCompromise).is_ok() {
                        *fate.lock().unwrap() = Fate::Revoked;
                    }
                }
            });
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    for (issued, fate) in keys.read().unwrap().iter().rev().take(64) {
                        let before = *fate.lock().unwrap();
                        let answer = server.verify(issued.token.expose());
                        if before == Fate::Revoked {
                            of_revoked.fetch_add(1, Ordering::Relaxed);
                            let is_granted = answer.is_ok_and(|verdict| verdict.is_granted());
                            assert!(!is_granted, "server {node} granted a revoked key");
                        }
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(seconds()));
        is_over.store(true, Ordering::SeqCst);
    });

    // A change of each settles what was in doubt.
    let last = |server: &Engine| {
        server
            .issue(NewKey::new("acme_live", "last").unwrap())
            .is_ok()
    };
    servers
        .iter()
        .for_each(|server| until("it takes changes", || last(server)));
    let position = |server: &Engine| server.fleet_status().unwrap().position;
    until("all have applied everything", || {
        servers
            .iter()
            .all(|server| position(server) == position(&servers[SERVERS - 1]))
    });
    let told = |server: &Engine| {
        let keys = server.keys(gatekey::KeyFilter::new());
        let all = keys.map(|key| key.map(|key| (key.id, key.state))).collect();
        let all: BTreeMap<_, _> = Result::unwrap(all);
        all
    };
    let all = told(&servers[0]);
    let (acknowledged, unknown) = (acknowledged.into_inner(), unknown.into_inner());
    let issued = all.len() as u64;
    assert!(
        issued >= acknowledged + SERVERS as u64,
        "an acknowledged change is lost"
    );
    for (key, fate) in &keys.into_inner().unwrap() {
        match *fate.lock().unwrap() {
            Fate::Good => assert_eq!(all[&key.key.id], KeyState::Active),
            Fate::Revoked => assert_eq!(all[&key.key.id], KeyState::Revoked),
            Fate::Doubtful => {}
        }
    }
    for server in &servers {
        assert!(told(server) == all, "servers differ");
        assert!(server.check().unwrap().is_sound());
    }
    let of_revoked = of_revoked.into_inner();
    assert!(of_revoked > 100, "{of_revoked}");
    let status: Vec<_> = servers.iter().filter_map(Engine::fleet_status).collect();
    let sum = |of: fn(&gatekey::fleet::Status) -> u64| status.iter().map(of).sum::<u64>();
    println!(
        "{} s: {acknowledged} keys issued, {unknown} outcomes unknown, {of_revoked} verifications of revoked keys, {} appends overtaken, {} without an answer, {} calls failed",
        seconds(),
        sum(|it| it.overtaken),
        sum(|it| it.unknown),
        sum(|it| it.failures),
    );
    assert!(sum(|it| it.failures) > 0, "the network did not fail");
    servers
        .into_iter()
        .for_each(|server| server.close().unwrap());
}
