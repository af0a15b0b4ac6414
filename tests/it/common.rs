//! A store in each of the configurations that must behave the same.

use std::path::PathBuf;
use std::time::Duration;

use gatekey::{
    Clock, Denial, Engine, Issued, ManualClock, NewKey, NewKeyspace, Options, Plan, Timestamp,
    Verdict,
};

/// 2026-01-01T00:00:00Z, where every manual clock starts.
pub(crate) const START_MS: u64 = 1_767_225_600_000;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// How long a test waits for work that is done in a few seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn at(ms_after_start: u64) -> Timestamp {
    Timestamp::from_unix_ms(START_MS + ms_after_start).unwrap()
}

/// A clock whose coarse reading is late.
#[derive(Debug)]
pub(crate) struct Late(pub(crate) ManualClock, pub(crate) Duration);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn coarse_now(&self) -> Timestamp {
        self.0.now().saturating_sub(self.1)
    }
}

/// A store under test: its engine, its clock, and how to open it again.
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) clock: ManualClock,
    pub(crate) path: Option<PathBuf>,
    pub(crate) resident_bytes: usize,
    dir: Option<tempfile::TempDir>,
}

impl Store {
    /// A store on a file, with the default resident memory.
    pub(crate) fn on_file() -> Self {
        Self::new(Options::RESIDENT_BYTES, true)
    }

    pub(crate) fn new(resident_bytes: usize, on_file: bool) -> Self {
        let clock = ManualClock::at(at(0));
        let dir = on_file.then(|| tempfile::tempdir().unwrap());
        let path = dir.as_ref().map(|dir| dir.path().join("keys.redb"));
        let options = options(resident_bytes, &clock);
        let engine = match &path {
            Some(path) => options.create(path),
            None => options.open_in_memory(),
        };
        Self {
            engine: engine.unwrap(),
            clock,
            path,
            resident_bytes,
            dir,
        }
    }

    /// Closes and opens again, where there is a file; every other handle to the
    /// engine is dead after. Says whether it did.
    pub(crate) fn reopen(&mut self) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        self.engine.clone().close().unwrap();
        self.engine = options(self.resident_bytes, &self.clock)
            .open(path)
            .unwrap();
        true
    }

    /// Closes, edits the file behind the engine's back, and opens again.
    pub(crate) fn edit<T>(&mut self, edit: impl FnOnce(&redb::WriteTransaction) -> T) -> T {
        let path = self.path.clone().unwrap();
        self.engine.clone().close().unwrap();
        let db = redb::Database::open(&path).unwrap();
        let txn = db.begin_write().unwrap();
        let edited = edit(&txn);
        txn.commit().unwrap();
        drop(db);
        self.engine = options(self.resident_bytes, &self.clock)
            .open(path)
            .unwrap();
        edited
    }

    /// The directory of the file.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.as_ref().unwrap().path()
    }

    /// A keyspace with the permissions read and write, and any number of keys.
    pub(crate) fn keyspace(&self, prefix: &str) {
        let keyspace = NewKeyspace::new(prefix)
            .unwrap()
            .permissions(["read", "write"]);
        self.engine.create_keyspace(keyspace).unwrap();
    }

    /// A key with the permission read.
    pub(crate) fn issue(&self, prefix: &str, owner: &str) -> Issued {
        let key = NewKey::new(prefix, owner).unwrap().permissions(["read"]);
        self.engine.issue(key).unwrap()
    }

    /// `"granted"`, or the code of the denial. Asked twice: the second time, a
    /// key that may be resident is.
    pub(crate) fn verdict(&self, token: &str) -> &'static str {
        let first = self.engine.verify(token).unwrap();
        let second = self.engine.verify(token).unwrap();
        assert_eq!(first, second, "the same question, the same answer");
        code(&first)
    }

    pub(crate) fn denial(&self, token: &str) -> Denial {
        match self.engine.verify(token).unwrap() {
            Verdict::Denied(denial) => denial,
            Verdict::Granted(grant) => panic!("granted: {grant:?}"),
        }
    }

    /// Asserts that the walk of the whole store finds nothing.
    pub(crate) fn assert_sound(&self) {
        let report = self.engine.check().unwrap();
        assert!(report.is_sound(), "{report:#?}");
    }
}

fn options(resident_bytes: usize, clock: &ManualClock) -> Options {
    Options::new()
        .resident_bytes(resident_bytes)
        .clock(clock.clone())
}

pub(crate) fn code(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Granted(_) => "granted",
        Verdict::Denied(denial) => denial.code(),
    }
}

/// An engine at an hour of its clock, with a keyspace of one plan.
pub(crate) fn engine_with(plan: Plan, options: Options) -> (Engine, ManualClock) {
    let clock = ManualClock::at(at(3_600_000));
    let options = options
        .clock(Late(clock.clone(), Duration::from_millis(10)))
        .resident_bytes(1 << 16)
        .usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let name = plan.name.clone();
    let keyspace = NewKeyspace::new("acme_live").unwrap().plan(plan);
    engine.create_keyspace(keyspace.default_plan(name)).unwrap();
    (engine, clock)
}

/// How many of `count` requests are granted.
pub(crate) fn granted(engine: &Engine, token: &str, count: u32) -> u32 {
    (0..count)
        .map(|_| u32::from(engine.verify(token).unwrap().is_granted()))
        .sum()
}

/// Runs a test resident and not, with room for all and for few keys, in memory
/// and on a file; and checks after each that the store is sound.
pub(crate) fn everywhere(test: impl Fn(&mut Store)) {
    for resident_bytes in [0, 4096, Options::RESIDENT_BYTES] {
        for on_file in [false, true] {
            let mut store = Store::new(resident_bytes, on_file);
            test(&mut store);
            store.assert_sound();
        }
    }
}
