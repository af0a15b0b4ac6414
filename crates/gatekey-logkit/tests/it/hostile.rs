//! A log that was tampered with, that went back, and clocks that are wrong.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gatekey::fleet::{
    Appended, Beat, Beaten, BodyId, Entries, Head, Log, LogResult, MemoryLog, Node, SnapshotInfo,
};
use gatekey::{Engine, Error, Issued, NewKey, NewKeyspace, Reason, SystemClock};

use crate::common::{
    Ahead, LONG, MANY, Servers, granted, keys_of, options, position, settings, until,
};

/// Lies to one server.
#[derive(Debug)]
struct Liar {
    log: Arc<dyn Log>,
    /// What it lies about.
    lie: AtomicU8,
    ahead_ms: AtomicU64,
    /// How often it was asked for entries.
    reads: AtomicU64,
    pace: Mutex<Pace>,
    seen: Mutex<Vec<Vec<u8>>>,
}

/// How soon a server reads again.
#[derive(Debug, Default)]
struct Pace {
    /// When it last read, of what it read since its last heartbeat where it had waited.
    read_at: Option<Instant>,
    /// Whether it has waited and not read since.
    has_waited: bool,
    /// How often it had waited and then read, and how often of these at once.
    readings: u64,
    hasty: u64,
}

impl Pace {
    fn beats(&mut self) {
        (self.read_at, self.has_waited) = (None, false);
    }

    fn waits(&mut self) {
        self.has_waited = true;
    }

    fn reads(&mut self) {
        let has_waited = std::mem::take(&mut self.has_waited);
        if has_waited {
            let is_hasty = |read_at: Instant| read_at.elapsed() < Duration::from_millis(4);
            self.hasty += u64::from(self.read_at.is_some_and(is_hasty));
            self.readings += 1;
        }
        if has_waited || self.read_at.is_some() {
            self.read_at = Some(Instant::now());
        }
    }
}

const TRUTH: u8 = 0;
const FLIP: u8 = 1;
const SWAP: u8 = 2;
const CUT: u8 = 3;
const REPLAY: u8 = 4;
const BACK: u8 = 5;
const HIDE: u8 = 6;
/// Of bodies.
const FLIP_BODY: u8 = 7;
const SWAP_PARTS: u8 = 8;
const LOSE_PART: u8 = 9;
const CUT_PART: u8 = 10;
const LENGTHEN_PART: u8 = 11;
const OTHER_BODY: u8 = 12;

impl Liar {
    fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self {
            log,
            lie: AtomicU8::new(TRUTH),
            ahead_ms: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            pace: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    fn is(&self, lie: u8) -> bool {
        self.lie.load(Ordering::SeqCst) == lie
    }
}

/// A server that is lied to, and a key that it grants.
fn fooled(servers: &Servers, lease: Duration) -> (Arc<Liar>, Engine, Issued) {
    let liar = Liar::new(servers.log.clone());
    let options = options().fleet(settings(liar.clone(), 1, lease));
    let fooled = options.join_fleet(servers.path(1)).unwrap();
    let issued = servers.issue(0, "acme").unwrap();
    until("it grants", || granted(&fooled, &issued) == Some(true));
    (liar, fooled, issued)
}

impl Log for Liar {
    fn found(&self, first: &[u8]) -> LogResult<bool> {
        self.log.found(first)
    }
    fn founding(&self) -> LogResult<Option<Vec<u8>>> {
        self.log.founding()
    }
    fn append(&self, after: &Head, entry: &[u8]) -> Appended {
        self.log.append(after, entry)
    }
    fn put_body(&self, after: u64, id: &BodyId, part: u32, bytes: &[u8]) -> LogResult<()> {
        self.log.put_body(after, id, part, bytes)
    }
    fn body(&self, after: u64, id: &BodyId, part: u32) -> LogResult<Option<Vec<u8>>> {
        let lie = self.lie.load(Ordering::SeqCst);
        let asked = match lie {
            SWAP_PARTS if part < 2 => 1 - part,
            LOSE_PART if part == 1 => return Ok(None),
            _ => part,
        };
        let found = self.log.body(after, id, asked)?;
        Ok(found.map(|mut bytes| {
            match lie {
                FLIP_BODY => bytes[100] ^= 1,
                CUT_PART => bytes.truncate(bytes.len() - 1),
                LENGTHEN_PART => bytes.push(0),
                OTHER_BODY => bytes.fill(0),
                _ => {}
            }
            bytes
        }))
    }
    fn fence(&self) -> LogResult<Head> {
        self.log.fence()
    }
    fn read(&self, after: u64, at_most: usize) -> LogResult<Entries> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.pace.lock().unwrap().reads();
        let Entries::Found(mut found) = self.log.read(after, at_most)? else {
            panic!("trimmed");
        };
        if !found.is_empty() {
            match self.lie.load(Ordering::SeqCst) {
                FLIP => found[0][100] ^= 1,
                SWAP if found.len() > 1 => found.swap(0, 1),
                SWAP => found.clear(),
                CUT => found[0].truncate(120),
                REPLAY => found = self.seen.lock().unwrap().clone(),
                HIDE => found.clear(),
                _ => self.seen.lock().unwrap().extend(found.clone()),
            }
        }
        Ok(Entries::Found(found))
    }
    fn wait(&self, after: u64, timeout: Duration) -> LogResult<()> {
        self.pace.lock().unwrap().waits();
        self.log.wait(after, timeout)
    }
    fn beat(&self, beat: &Beat) -> LogResult<Beaten> {
        self.pace.lock().unwrap().beats();
        let mut beaten = self.log.beat(beat)?;
        if self.is(BACK) {
            beaten.head.position -= 1;
        }
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        beaten.at = beaten.at.saturating_add(ahead);
        Ok(beaten)
    }
    fn nodes(&self) -> LogResult<Vec<Node>> {
        self.log.nodes()
    }
    fn forget(&self, node: &str) -> LogResult<()> {
        self.log.forget(node)
    }
    fn put_part(&self, position: u64, part: u32, bytes: &[u8]) -> LogResult<()> {
        self.log.put_part(position, part, bytes)
    }
    fn seal_snapshot(&self, snapshot: &SnapshotInfo) -> LogResult<()> {
        self.log.seal_snapshot(snapshot)
    }
    fn snapshots(&self) -> LogResult<Vec<SnapshotInfo>> {
        self.log.snapshots()
    }
    fn part(&self, position: u64, part: u32) -> LogResult<Option<Vec<u8>>> {
        let found = self.log.part(position, part)?;
        Ok(found.map(|mut bytes| {
            if self.is(FLIP) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            bytes
        }))
    }
    fn trim(&self, through: u64) -> LogResult<()> {
        self.log.trim(through)
    }
}

#[test]
fn entries_that_were_tampered_with_grant_nothing_and_end_the_lease() {
    let lease = Duration::from_millis(400);
    for lie in [FLIP, SWAP, CUT, REPLAY, HIDE, BACK] {
        let servers = Servers::new(1, lease);
        let (liar, fooled, issued) = fooled(&servers, lease);
        liar.lie.store(lie, Ordering::SeqCst);
        servers.engines[0]
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        let later = servers.issue(0, "acme").unwrap();
        assert_ne!(granted(&fooled, &issued), Some(true), "lie {lie}");
        until("its lease is over", || granted(&fooled, &later).is_none());
        let error = fooled.verify(later.token.expose()).unwrap_err();
        assert!(
            matches!(&error, Error::NotFresh { why: Some(_) }),
            "lie {lie}: {error}"
        );
        // It was refused, and did no harm: the truth is applied.
        liar.lie.store(TRUTH, Ordering::SeqCst);
        until("it grants again", || granted(&fooled, &later) == Some(true));
        assert_eq!(granted(&fooled, &issued), Some(false), "lie {lie}");
        assert!(fooled.check().unwrap().is_sound());
        fooled.close().unwrap();
        servers.close_equal();
    }
}

/// Nothing of what it is of is applied, and all that came before it.
#[test]
fn a_body_that_was_tampered_with_grants_nothing_and_ends_the_lease() {
    let lease = Duration::from_millis(400);
    let lies = [
        FLIP_BODY,
        SWAP_PARTS,
        LOSE_PART,
        CUT_PART,
        LENGTHEN_PART,
        OTHER_BODY,
    ];
    for lie in lies {
        let servers = Servers::new(1, lease);
        let (liar, fooled, issued) = fooled(&servers, lease);
        // So that it reads both at once.
        liar.lie.store(HIDE, Ordering::SeqCst);
        let mut before = position(&fooled);
        servers.engines[0]
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        let many = servers.issue_many(0, "many").unwrap();
        liar.lie.store(lie, Ordering::SeqCst);
        before += 1;
        until("it has the entry before", || position(&fooled) == before);
        until("its lease is over", || granted(&fooled, &issued).is_none());
        until("it says why", || {
            let error = fooled.verify("").unwrap_err().to_string();
            error.contains("its body was changed") || error.contains("of its body")
        });
        assert_eq!(position(&fooled), before);
        assert_eq!(keys_of(&fooled).len(), 1, "lie {lie}");
        assert!(fooled.check().unwrap().is_sound());
        // It was refused, and did no harm: the truth is applied.
        liar.lie.store(TRUTH, Ordering::SeqCst);
        let last = &many[MANY - 1];
        until("it grants again", || granted(&fooled, last) == Some(true));
        assert_eq!(granted(&fooled, &issued), Some(false), "lie {lie}");
        assert_eq!(keys_of(&fooled), keys_of(&servers.engines[0]));
        assert!(fooled.check().unwrap().is_sound());
        fooled.close().unwrap();
        servers.close_equal();
    }
}

/// It is in the log then, and decided: its server has it, and needs no answer.
#[test]
fn a_server_asks_for_no_body_of_its_own() {
    let servers = Servers::new(1, LONG);
    let liar = Liar::new(servers.log.clone());
    liar.lie.store(FLIP_BODY, Ordering::SeqCst);
    let own = options().fleet(settings(liar, 1, LONG));
    let own = own.join_fleet(servers.path(1)).unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let many = vec![new.description("x".repeat(1_000)); MANY];
    until("it has the keyspace", || position(&own) == 1);
    let issued = own.issue_batch(many).unwrap();
    assert!(issued.iter().all(|key| granted(&own, key) == Some(true)));
    own.close().unwrap();
    servers.close_equal();
}

#[test]
fn a_server_does_not_read_again_what_it_appends() {
    let servers = Servers::new(1, LONG);
    let (liar, own, _) = fooled(&servers, LONG);
    let reads_a_second = || {
        let begun = Instant::now();
        let before = liar.reads.load(Ordering::SeqCst);
        for _ in 0..300 {
            own.issue(NewKey::new("acme_live", "acme").unwrap())
                .unwrap();
        }
        let reads = u128::from(liar.reads.load(Ordering::SeqCst) - before);
        reads * 1_000_000 / begun.elapsed().as_micros()
    };
    // It looks for those of others where a wait ends just after an append, and every 5 ms at the
    // most: 200 to 330 a second were read where it always does.
    let fewest = (0..10).map(|_| reads_a_second()).min().unwrap();
    assert!(fewest < 150, "{fewest} reads a second");
    own.close().unwrap();
    servers.close_equal();
}

/// Where much is written, a reading then has several entries.
#[test]
fn a_server_that_follows_rests_between_its_readings() {
    let servers = Servers::new(1, LONG);
    let (liar, follower, _) = fooled(&servers, LONG);
    let issues = 1_000;
    for _ in 0..issues {
        servers.issue(0, "acme").unwrap();
    }
    until("it has them", || position(&follower) > issues);
    let pace = liar.pace.lock().unwrap();
    assert!(pace.readings > 0);
    assert_eq!(pace.hasty, 0);
    drop(pace);
    follower.close().unwrap();
    servers.close_equal();
}

/// As where its connection for changes hangs, and that for reading does not.
#[test]
fn a_server_whose_append_hangs_hears_of_what_others_take_away() {
    let settings = |settings: gatekey::fleet::Settings| settings.locally();
    let servers = Servers::with(2, LONG, |options| options, settings);
    let issued: Vec<_> = (0..3).map(|_| servers.issue(0, "acme").unwrap()).collect();
    servers.settle();
    let (let_go, goes) = std::sync::mpsc::channel::<()>();
    let (hang, hangs) = std::sync::mpsc::channel();
    let goes = Mutex::new(goes);
    servers.logs[1].before_appends(move || {
        let _ = hang.send(());
        // Not any more, once the other end is gone.
        let _ = goes.lock().unwrap().recv();
    });
    std::thread::scope(|scope| {
        let changed = scope.spawn(|| servers.issue(1, "acme"));
        hangs.recv().unwrap();
        for issued in &issued {
            (servers.engines[0].revoke(issued.key.id, Reason::KeyCompromise)).unwrap();
            let is_denied = || granted(&servers.engines[1], issued) == Some(false);
            until("it is denied", is_denied);
        }
        drop(let_go);
        changed.join().unwrap().unwrap();
    });
    servers.close_equal();
}

#[test]
fn a_log_that_went_back_is_an_error_that_names_both_positions() {
    let servers = Servers::new(1, LONG);
    let (liar, fooled, issued) = fooled(&servers, LONG);
    liar.lie.store(BACK, Ordering::SeqCst);
    // At once, though its lease is long.
    until("it grants nothing", || granted(&fooled, &issued).is_none());
    let error = fooled.verify("").unwrap_err().to_string();
    assert!(
        error.contains("ends with 1, and this server has applied 2"),
        "{error}"
    );
    liar.lie.store(TRUTH, Ordering::SeqCst);
    fooled.close().unwrap();
    servers.close_equal();
}

#[test]
fn a_snapshot_that_was_tampered_with_is_refused() {
    let servers = Servers::new(1, LONG);
    for _ in 0..200 {
        servers.issue(0, "acme").unwrap();
    }
    servers.engines[0].put_fleet_snapshot().unwrap();
    let liar = Liar::new(servers.log.clone());
    liar.lie.store(FLIP, Ordering::SeqCst);
    let options = options().fleet(settings(liar, 1, LONG));
    options.join_fleet(servers.path(1)).unwrap_err();
    assert!(!servers.path(1).exists());
    servers.close_equal();
}

#[test]
fn a_server_whose_clock_is_wrong_does_not_append() {
    let servers = Servers::new(1, LONG);
    let clock = Ahead(Duration::from_secs(3_600));
    let settings = settings(servers.log.clone(), 1, LONG);
    let wrong = options().clock(clock).fleet(settings);
    let wrong = wrong.join_fleet(servers.path(1)).unwrap();
    let new = || NewKey::new("acme_live", "acme").unwrap();
    let error = wrong.issue(new()).unwrap_err().to_string();
    assert!(error.contains("set the clock right"), "{error}");
    wrong.close().unwrap();
    servers.close_equal();
}

/// Two servers that agree on a wrong time, against one that knows the log's.
#[test]
fn an_entry_from_a_clock_an_hour_ahead_is_not_applied() {
    let lease = Duration::from_millis(400);
    let servers = Servers::new(1, lease);
    let issued = servers.issue(0, "acme").unwrap();
    let liar = Liar::new(servers.log.clone());
    liar.ahead_ms.store(3_600_000, Ordering::SeqCst);
    let clock = Ahead(Duration::from_secs(3_600));
    let wrong = options().clock(clock).fleet(settings(liar, 1, lease));
    let wrong = wrong.join_fleet(servers.path(1)).unwrap();
    wrong
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let right = &servers.engines[0];
    until("it grants nothing", || granted(right, &issued).is_none());
    let error = right.verify("").unwrap_err().to_string();
    assert!(error.contains("ahead of the log's clock"), "{error}");
    let ahead = gatekey::Clock::now(&SystemClock).saturating_add(Duration::from_secs(60));
    assert!(right.now() < ahead);
    wrong.close().unwrap();
    for engine in servers.engines {
        engine.close().unwrap();
    }
}

#[test]
fn the_log_of_another_store_with_the_same_pepper_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::new());
    let with = |node| options().fleet(settings(log.clone(), node, LONG));
    for name in ["a", "b"] {
        options()
            .create(dir.path().join(name))
            .unwrap()
            .close()
            .unwrap();
    }
    let a = with(0).found_fleet(dir.path().join("a")).unwrap();
    a.create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    assert!(with(1).found_fleet(dir.path().join("b")).is_err());
    a.close().unwrap();
}
