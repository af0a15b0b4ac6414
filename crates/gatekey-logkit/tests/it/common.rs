//! Fleets of several engines in one process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Entries, Freshness, Log, MemoryLog, Settings};
use gatekey::{Clock, Engine, Error, Issued, NewKey, NewKeyspace, Options, Pepper, Result};
use gatekey_logkit::FaultyLog;
pub(crate) use gatekey_testkit::until;

/// Long enough that no server is ever late on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// How many keys a change has that is too large for an entry.
pub(crate) const MANY: usize = 1_200;

pub(crate) struct Servers {
    dir: tempfile::TempDir,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) logs: Vec<Arc<FaultyLog>>,
    pub(crate) engines: Vec<Engine>,
}

pub(crate) fn options() -> Options {
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    Options::new()
        .pepper(pepper)
        .resident_bytes(1 << 20)
        .usage_interval(None)
}

pub(crate) fn settings(log: Arc<dyn Log>, node: usize, lease: Duration) -> Settings {
    Settings::new(log, format!("server-{node}")).freshness(Freshness::FailClosed(lease))
}

impl Servers {
    /// So many servers, with a keyspace `acme_live`.
    pub(crate) fn new(count: usize, lease: Duration) -> Self {
        Self::with(count, lease, |options| options, |settings| settings)
    }

    pub(crate) fn with(
        count: usize,
        lease: Duration,
        options: impl Fn(Options) -> Options,
        settings: impl Fn(Settings) -> Settings,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = Self {
            dir,
            log: Arc::new(MemoryLog::new()),
            logs: Vec::new(),
            engines: Vec::new(),
        };
        let first = servers.path(0);
        options(self::options())
            .create(&first)
            .unwrap()
            .close()
            .unwrap();
        for node in 0..count {
            let log = FaultyLog::new(servers.log.clone());
            let settings = settings(self::settings(log.clone(), node, lease));
            let opened = options(self::options()).fleet(settings);
            let engine = match node {
                0 => opened.found_fleet(servers.path(0)),
                _ => opened.join_fleet(servers.path(node)),
            };
            servers.logs.push(log);
            servers.engines.push(engine.unwrap());
        }
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        servers.engines[0].create_keyspace(keyspace).unwrap();
        servers
    }

    pub(crate) fn path(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("{node}.redb"))
    }

    pub(crate) fn issue(&self, node: usize, owner: &str) -> Result<Issued> {
        self.engines[node].issue(NewKey::new("acme_live", owner)?)
    }

    /// Makes a change that is too large for an entry, and has a body in parts.
    pub(crate) fn issue_many(&self, node: usize, owner: &str) -> Result<Vec<Issued>> {
        let new = NewKey::new("acme_live", owner)?.description("x".repeat(1_000));
        self.engines[node].issue_batch(vec![new; MANY])
    }

    /// Waits until all have applied what the log has.
    pub(crate) fn settle(&self) {
        let newest = || self.engines.iter().map(position).max().unwrap();
        until("all have applied everything", || {
            let newest = newest();
            // A call may return before its own server says where it stands.
            let more = self.log.read(newest, 1).unwrap();
            matches!(more, Entries::Found(more) if more.is_empty())
                && self.engines.iter().all(|engine| position(engine) == newest)
        });
    }

    /// Closes all, and asserts that they hold the same.
    pub(crate) fn close_equal(self) {
        for log in &self.logs {
            log.cut(false);
            log.fail_at_random(0, 1);
        }
        self.settle();
        let told: Vec<String> = self.engines.iter().map(told).collect();
        for (node, other) in told.iter().enumerate() {
            assert!(*other == told[0], "server {node} differs from the first");
        }
        for engine in &self.engines {
            let report = engine.check().unwrap();
            assert!(report.is_sound(), "{:?}", report.findings);
        }
        for engine in self.engines {
            engine.close().unwrap();
        }
    }
}

/// All that an engine tells of its keys and imports, and its whole trail.
fn told(engine: &Engine) -> String {
    let mut told = String::new();
    let mut from = 1;
    loop {
        let page = engine.audit_page(from, 1000).unwrap();
        let Some(last) = page.entries.last() else {
            break;
        };
        from = last.seq + 1;
        for entry in &page.entries {
            told.push_str(&format!("{entry:?}\n"));
        }
    }
    for key in keys_of(engine) {
        told.push_str(&format!("{key:?}\n"));
    }
    told.push_str(&format!("{:?}\n", engine.imports().unwrap()));
    told
}

/// All keys, in the order of their ids.
pub(crate) fn keys_of(engine: &Engine) -> Vec<gatekey::Key> {
    let keys = engine.keys(gatekey::KeyFilter::new());
    let mut keys = keys.collect::<Result<Vec<_>>>().unwrap();
    keys.sort_by_key(|key| key.id);
    keys
}

pub(crate) fn position(engine: &Engine) -> u64 {
    engine.fleet_status().unwrap().position
}

/// Whether a token is granted; `None` where the server may not say.
pub(crate) fn granted(engine: &Engine, issued: &Issued) -> Option<bool> {
    match engine.verify(issued.token.expose()) {
        Ok(verdict) => Some(verdict.is_granted()),
        Err(Error::NotFresh { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The system's clock, and so much ahead of it.
#[derive(Debug)]
pub(crate) struct Ahead(pub(crate) Duration);

impl Clock for Ahead {
    fn now(&self) -> gatekey::Timestamp {
        gatekey::SystemClock.now().saturating_add(self.0)
    }
}
