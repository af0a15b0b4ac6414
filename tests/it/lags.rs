//! Keys that lag behind an owner that was suspended or resumed: nobody sees a difference
//! between them and those that were brought up.

mod revoked;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gatekey::extension::ExtensionTx;
use gatekey::fleet::{Freshness, MemoryLog, Settings};
use gatekey::proof::lagging;
use gatekey::{
    AuditEvent, Credential, Denial, Engine, ForeignHash, ForeignKey, Issued, KeyCounts, KeyFilter,
    KeyState, ManualClock, NewImport, NewKey, NewKeyspace, Options, Pepper, Permissions, Reason,
    Requirements, Rotation, Verdict,
};

use crate::audit::last_event;
use crate::common::{PATIENCE, at, code};
use crate::durability::tampering::{edit, raw};

/// How many keys the owner has.
const KEYS: usize = 12;

/// More than one transaction brings up.
const AT_ONCE: usize = 4;

struct World {
    dir: tempfile::TempDir,
    clock: ManualClock,
    resident_bytes: usize,
    engine: Engine,
    issued: Vec<Issued>,
}

impl World {
    /// An owner with keys at it and below it, and one beside it, whose key is the last.
    fn new(resident_bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(at(0));
        let options = Options::new().resident_bytes(resident_bytes);
        let options = lagging(options.clock(clock.clone()), AT_ONCE, false);
        let engine = options.create(dir.path().join("keys.redb")).unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let owner = |number: usize| match number {
            KEYS => "acme2".to_owned(),
            _ => format!("acme{}", ["", "/etl", "/etl/bot", "/web"][number % 4]),
        };
        let issue = |number| engine.issue(NewKey::new("acme_live", owner(number)).unwrap());
        let issued = (0..=KEYS).map(|number| issue(number).unwrap()).collect();
        Self {
            dir,
            clock,
            resident_bytes,
            engine,
            issued,
        }
    }

    fn open(&self, path: &Path, by_itself: bool) -> Engine {
        let options = Options::new().resident_bytes(self.resident_bytes);
        let options = options.clock(self.clock.clone());
        lagging(options, AT_ONCE, by_itself).open(path).unwrap()
    }

    /// What every verification says of the keys, once by each way.
    fn verdicts(&self, engine: &Engine) -> Vec<&'static str> {
        let extension = engine.extension("vouching").unwrap();
        let vouch = |issued: &Issued| {
            let asked = Requirements::new();
            let verdict = extension.vouch(issued.key.id, Permissions::ALL, &asked);
            code(&verdict.unwrap())
        };
        // A way that reads the file mends what memory has: each goes first for some keys.
        let (first, rest) = self.issued.split_at(self.issued.len() / 2);
        let mut vouched: Vec<&str> = first.iter().map(vouch).collect();
        let tokens: Vec<&str> = self.issued.iter().map(|it| it.token.expose()).collect();
        let verify = |token: &&str| code(&engine.verify(token).unwrap());
        let each: Vec<&str> = tokens.iter().map(verify).collect();
        let again: Vec<&str> = tokens.iter().map(verify).collect();
        let many = engine.verify_many(&tokens, &Requirements::new());
        let many: Vec<&str> = many.iter().map(|it| code(it.as_ref().unwrap())).collect();
        vouched.extend(rest.iter().map(vouch));
        assert_eq!(each, again);
        assert_eq!(each, many);
        assert_eq!(each, vouched);
        each
    }

    /// Asserts what all that an engine tells says of the owner's keys, of which `lag` are
    /// behind in the file.
    fn assert_told(&self, engine: &Engine, state: KeyState, lag: usize) {
        let word = match state {
            KeyState::Suspended => "suspended",
            _ => "granted",
        };
        let mut wanted = vec![word; KEYS];
        wanted.push("granted");
        assert_eq!(self.verdicts(engine), wanted);
        for (number, issued) in self.issued.iter().enumerate() {
            let key = engine.key(issued.key.id).unwrap();
            let state = if number == KEYS {
                KeyState::Active
            } else {
                state
            };
            assert_eq!(key.state, state, "{number}");
            assert_eq!(key.suspended, state == KeyState::Suspended);
            let (looked, id) = (engine.extension("vouching").unwrap(), key.id);
            let looked = looked.change(move |tx: &mut ExtensionTx<'_, '_>| tx.find_key(id));
            assert_eq!(looked.unwrap().unwrap(), key);
        }
        for asked in [KeyState::Suspended, KeyState::Active] {
            let filter = KeyFilter::new().state(asked);
            let count = engine.keys(filter).map(Result::unwrap).count();
            let below = if asked == state { KEYS } else { 0 };
            assert_eq!(count, below + usize::from(asked == KeyState::Active));
        }
        let counts = counts(engine);
        let suspended = if word == "suspended" { KEYS } else { 0 } as u64;
        assert_eq!(counts.suspended, suspended);
        assert_eq!(counts.active, KEYS as u64 + 1 - suspended);
        let report = engine.check().unwrap();
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!(self.behind(engine, state == KeyState::Suspended), lag);
    }

    /// How many of the owner's records in the file do not say that they are suspended, or
    /// say so.
    fn behind(&self, engine: &Engine, is_suspended: bool) -> usize {
        self.count_records(engine, |record| (record[5] & 1 != 0) != is_suspended)
    }

    /// How many of the owner's records in the file are so.
    fn count_records(&self, engine: &Engine, is_so: impl Fn(&[u8]) -> bool) -> usize {
        let copy = self.dir.path().join("copy.redb");
        let _ = std::fs::remove_file(&copy);
        engine.backup(&copy).unwrap();
        let db = redb::Database::open(&copy).unwrap();
        let keys = redb::TableDefinition::<u64, &[u8]>::new("keys");
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        let keys = txn.open_table(keys).unwrap();
        let of_owner = self.issued.iter().take(KEYS);
        of_owner
            .filter(|issued| {
                let record = keys.get(raw(issued.key.id)).unwrap().unwrap();
                is_so(record.value())
            })
            .count()
    }
}

fn counts(engine: &Engine) -> KeyCounts {
    engine.stats().unwrap().keyspaces[&"acme_live".parse().unwrap()]
}

fn everywhere(test: impl Fn(World)) {
    for resident_bytes in [0, 4096, Options::RESIDENT_BYTES] {
        test(World::new(resident_bytes));
    }
}

#[test]
fn a_suspension_and_a_resumption_are_seen_by_all_before_the_records_follow() {
    everywhere(|world| {
        let engine = &world.engine;
        // From memory, where there is some.
        world.assert_told(engine, KeyState::Active, 0);
        let entries = engine.audit_span().unwrap().last.seq;
        engine.suspend("acme", "unpaid").unwrap();
        world.assert_told(engine, KeyState::Suspended, KEYS);
        let told = AuditEvent::OwnerSuspended {
            owner: "acme".parse().unwrap(),
            keys: AuditEvent::KEYS_COUNTED_MAX + 1,
            note: Some("unpaid".to_owned()),
        };
        assert_eq!(last_event(engine), told);
        assert!(
            last_event(engine)
                .to_string()
                .contains("more than 256 keys")
        );
        engine.flush().unwrap();
        world.assert_told(engine, KeyState::Suspended, 0);
        // The trail says it once.
        assert_eq!(engine.audit_span().unwrap().last.seq, entries + 1);
        engine.resume("acme").unwrap();
        world.assert_told(engine, KeyState::Active, KEYS);
        engine.flush().unwrap();
        world.assert_told(engine, KeyState::Active, 0);
        assert_eq!(engine.audit_span().unwrap().last.seq, entries + 2);
    });
}

#[test]
fn a_resumption_takes_the_place_of_a_suspension_that_the_records_do_not_follow_yet() {
    everywhere(|world| {
        let engine = &world.engine;
        world.assert_told(engine, KeyState::Active, 0);
        for _ in 0..20 {
            engine.suspend("acme", None).unwrap();
            engine.suspend("acme", None).unwrap();
            world.assert_told(engine, KeyState::Suspended, KEYS);
            engine.resume("acme").unwrap();
            world.assert_told(engine, KeyState::Active, 0);
        }
        engine.flush().unwrap();
        world.assert_told(engine, KeyState::Active, 0);
    });
}

#[test]
fn what_lags_when_the_process_ends_is_brought_up_after_the_next_opening() {
    everywhere(|world| {
        world.engine.suspend("acme", None).unwrap();
        world.assert_told(&world.engine, KeyState::Suspended, KEYS);
        // As a kill leaves it, and as a backup has it.
        let (file, killed) = (world.dir.path().join("keys.redb"), "killed.redb");
        let [killed, backup] = [killed, "backup.redb"].map(|name| world.dir.path().join(name));
        std::fs::copy(&file, &killed).unwrap();
        world.engine.backup(&backup).unwrap();
        for path in [&killed, &backup] {
            let engine = world.open(path, false);
            world.assert_told(&engine, KeyState::Suspended, KEYS);
            engine.close().unwrap();
            let engine = world.open(path, true);
            assert_eq!(world.verdicts(&engine)[..KEYS], ["suspended"; KEYS]);
            let begun = std::time::Instant::now();
            while world.behind(&engine, true) > 0 {
                assert!(begun.elapsed() < PATIENCE, "nobody brings them up");
            }
            world.assert_told(&engine, KeyState::Suspended, 0);
            engine.close().unwrap();
        }
        // Closing takes no longer for it.
        world.engine.clone().close().unwrap();
        let engine = world.open(&file, false);
        world.assert_told(&engine, KeyState::Suspended, KEYS);
    });
}

#[test]
fn without_a_thread_of_the_engines_own_the_call_brings_the_records_up() {
    let world = World::new(Options::RESIDENT_BYTES);
    world.engine.clone().close().unwrap();
    let options = Options::new().clock(world.clock.clone());
    let options = lagging(options, AT_ONCE, true).usage_interval(None);
    let engine = options.open(world.dir.path().join("keys.redb")).unwrap();
    engine.suspend("acme", None).unwrap();
    world.assert_told(&engine, KeyState::Suspended, 0);
    engine.resume("acme").unwrap();
    world.assert_told(&engine, KeyState::Active, 0);
}

/// What is done to single keys while they lag stays, and is not undone as they are brought
/// up.
#[test]
fn a_key_that_lags_is_changed_as_what_it_is() {
    everywhere(|world| {
        let engine = &world.engine;
        engine.suspend("acme/etl", None).unwrap();
        engine.suspend("acme", None).unwrap();
        let id = |number: usize| world.issued[number].key.id;
        engine.revoke(id(1), Reason::KeyCompromise).unwrap();
        engine.disable(id(2)).unwrap();
        let rotation = Rotation::with_grace(std::time::Duration::from_secs(60));
        let rotated = engine.rotate(id(3), rotation).unwrap();
        assert!(rotated.key.suspended);
        let new = engine.issue(NewKey::new("acme_live", "acme/new").unwrap());
        let new = new.unwrap();
        assert!(new.key.suspended);
        let states = |engine: &Engine| {
            let ids = [id(0), id(1), id(2), id(3), rotated.key.id, new.key.id];
            let told = ids.map(|id| engine.key(id).unwrap());
            assert!(engine.check().unwrap().is_sound());
            (told.map(|key| key.state), counts(engine))
        };
        use KeyState::{Active, Disabled, Retiring, Revoked, Suspended};
        let suspended = [
            Suspended, Revoked, Suspended, Suspended, Suspended, Suspended,
        ];
        let before = states(engine);
        assert_eq!(before.0, suspended);
        engine.flush().unwrap();
        assert_eq!(states(engine), before);

        engine.resume("acme").unwrap();
        let purged = engine.purge(std::time::Duration::ZERO).unwrap();
        assert_eq!(purged.keys, 0, "none is over for a millisecond");
        world.clock.advance(std::time::Duration::from_millis(2));
        engine.purge(std::time::Duration::ZERO).unwrap();
        assert!(engine.find_key(id(1)).unwrap().is_none());
        // Those below the owner that is suspended yet are so.
        let denied = engine.verify(world.issued[5].token.expose()).unwrap();
        let Verdict::Denied(Denial::Suspended { owner, .. }) = denied else {
            panic!("{denied:?}");
        };
        assert_eq!(owner.as_str(), "acme/etl");
        engine.resume("acme/etl").unwrap();
        let states = |engine: &Engine| {
            let ids = [id(0), id(2), id(3), rotated.key.id, new.key.id];
            let told = ids.map(|id| engine.key(id).unwrap());
            assert!(engine.check().unwrap().is_sound());
            (told.map(|key| key.state), counts(engine))
        };
        let before = states(engine);
        assert_eq!(before.0, [Active, Disabled, Retiring, Active, Active]);
        engine.flush().unwrap();
        assert_eq!(states(engine), before);
    });
}

#[test]
fn more_owners_than_may_lag_are_suspended_all_the_same() {
    let world = World::new(4096);
    let engine = &world.engine;
    let owner = |number: usize| format!("org{number}");
    let mut tokens = Vec::new();
    for number in 0..20 {
        let new = vec![NewKey::new("acme_live", owner(number)).unwrap(); AT_ONCE + 1];
        let issued = engine.issue_batch(new).unwrap();
        tokens.extend(issued.iter().map(|it| it.token.expose().to_owned()));
    }
    let all = |wanted: &str| {
        for token in &tokens {
            assert_eq!(code(&engine.verify(token).unwrap()), wanted);
        }
        assert!(engine.check().unwrap().is_sound());
    };
    all("granted");
    for number in 0..20 {
        engine.suspend(owner(number), None).unwrap();
    }
    all("suspended");
    for number in 0..20 {
        engine.resume(owner(number)).unwrap();
    }
    all("granted");
    engine.flush().unwrap();
    all("granted");
}

#[test]
fn a_repair_finds_nothing_to_do_about_keys_that_lag() {
    let world = World::new(4096);
    world.engine.suspend("acme", None).unwrap();
    let report = world.engine.repair().unwrap();
    assert_eq!(report.repairs, []);
    assert!(report.left.is_sound());
    world.assert_told(&world.engine, KeyState::Suspended, 0);
}

/// What their imports count of them is no damage either.
#[test]
fn a_repair_finds_nothing_to_do_about_imported_keys_that_lag() {
    let engine = lagging(Options::new(), AT_ONCE, false)
        .open_in_memory()
        .unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    engine.create_keyspace(keyspace).unwrap();
    let import = NewImport::new("old", ForeignHash::Plain);
    engine.begin_import(import).unwrap();
    let key = |at: usize| {
        let new = NewKey::new("acme_live", "acme/etl").unwrap();
        ForeignKey::new(new, Credential::token(format!("uk_{at:0>30}")))
    };
    engine
        .import_keys("old", (0..KEYS).map(key).collect())
        .unwrap();
    engine.revoke_owner("acme", Reason::Cessation).unwrap();
    let report = engine.repair().unwrap();
    assert_eq!(report.repairs, []);
    assert!(report.left.is_sound());
    assert_eq!(engine.imports().unwrap()[0].unseen, 0);
}

/// A key that the index of its owner does not name is brought up all the same, and is not
/// taken for an old copy of a record.
#[test]
fn a_repair_keeps_keys_that_lag_and_that_their_owners_index_does_not_name() {
    let world = World::new(4096);
    world.engine.suspend("acme", None).unwrap();
    world.engine.clone().close().unwrap();
    let path = world.dir.path().join("keys.redb");
    edit(&path, |txn| {
        let by_owner = redb::TableDefinition::<&[u8], u8>::new("by_owner");
        let mut by_owner = txn.open_table(by_owner).unwrap();
        by_owner.retain(|_, _| false).unwrap();
    });
    let engine = world.open(&path, false);
    let report = engine.repair().unwrap();
    let tables: Vec<&str> = report.repairs.iter().map(|it| it.table.as_str()).collect();
    assert_eq!(tables, ["by_owner"; KEYS + 1]);
    assert!(report.left.is_sound());
    world.assert_told(&engine, KeyState::Suspended, 0);
}

/// Readers ask for keys in memory without a pause, while the engine's thread brings them up.
#[test]
fn no_verification_after_the_call_sees_the_state_of_before_it() {
    for resident_bytes in [1500, Options::RESIDENT_BYTES] {
        let options = Options::new().resident_bytes(resident_bytes);
        let engine = lagging(options, 1, true).open_in_memory().unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let new = vec![NewKey::new("acme_live", "acme/etl").unwrap(); KEYS];
        let issued = engine.issue_batch(new).unwrap();
        // How many calls have returned; each other one leaves the owner suspended.
        let returned = AtomicUsize::new(0);
        let begun = AtomicUsize::new(0);
        let done = AtomicBool::new(false);
        let compared = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        for issued in &issued {
                            let before = returned.load(Ordering::SeqCst);
                            let verdict = engine.verify(issued.token.expose()).unwrap();
                            // Only where no call was under way.
                            if begun.load(Ordering::SeqCst) == before {
                                assert_eq!(
                                    verdict.is_granted(),
                                    before.is_multiple_of(2),
                                    "{before}"
                                );
                                compared.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for call in 1..=300 {
                    begun.store(call, Ordering::SeqCst);
                    match call % 2 {
                        1 => engine.suspend("acme", None).unwrap(),
                        _ => engine.resume("acme").unwrap(),
                    };
                    returned.store(call, Ordering::SeqCst);
                    // Some calls find the records behind, and some find them brought up.
                    let until = compared.load(Ordering::Relaxed) + (call % 7) * 10;
                    let patience = std::time::Instant::now();
                    while compared.load(Ordering::Relaxed) < until {
                        assert!(patience.elapsed() < PATIENCE, "no reader goes on");
                        std::thread::yield_now();
                    }
                }
            }));
            done.store(true, Ordering::SeqCst);
            failed.unwrap();
        });
        assert!(compared.into_inner() > 1000);
        engine.flush().unwrap();
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
    }
}

/// In a fleet all servers deny at once, and what the one that made the change leaves behind,
/// another brings up: at the second flush that finds it as it was.
#[test]
fn keys_that_lag_are_denied_and_brought_up_by_any_server_of_a_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let log = Arc::new(MemoryLog::new());
    let options = || {
        let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
        let options = Options::new().pepper(pepper).usage_interval(None);
        lagging(options, 2, false)
    };
    let server = |node: &str| {
        let settings = Settings::new(log.clone(), node);
        options().fleet(settings.freshness(Freshness::FailClosed(PATIENCE)))
    };
    options().create(at("one.redb")).unwrap().close().unwrap();
    let one = server("one").found_fleet(at("one.redb")).unwrap();
    let two = server("two").join_fleet(at("two.redb")).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    one.create_keyspace(keyspace).unwrap();
    let new = vec![NewKey::new("acme_live", "acme/etl").unwrap(); 9];
    let issued = one.issue_batch(new).unwrap();
    let position = |engine: &Engine| engine.fleet_status().unwrap().position;
    let settle = || {
        let begun = std::time::Instant::now();
        while position(&one) != position(&two) {
            assert!(begun.elapsed() < PATIENCE, "they stay apart");
        }
    };
    let granted = |engine: &Engine| {
        let verify = |issued: &&Issued| engine.verify(issued.token.expose()).unwrap();
        issued.iter().filter(|it| verify(it).is_granted()).count()
    };
    settle();
    assert_eq!((granted(&one), granted(&two)), (9, 9));
    for _ in 0..20 {
        one.suspend("acme", None).unwrap();
        assert_eq!((granted(&two), granted(&one)), (0, 0));
        one.resume("acme").unwrap();
        settle();
        assert_eq!((granted(&two), granted(&one)), (9, 9));
    }
    one.suspend("acme", None).unwrap();
    settle();
    let before = position(&one);
    two.flush().unwrap();
    settle();
    assert_eq!(position(&one), before, "the first may be at it");
    two.flush().unwrap();
    settle();
    assert_eq!(position(&one), before + 5, "nine keys, two at a time");
    assert_eq!((granted(&two), granted(&one)), (0, 0));
    assert_eq!(counts(&one).suspended, 9);

    one.resume("acme").unwrap();
    one.flush().unwrap();
    one.flush().unwrap();
    settle();
    assert_eq!((granted(&two), granted(&one)), (9, 9));
    let many = one.revoke_owner("acme", Reason::Cessation).unwrap();
    assert_eq!(AuditEvent::keys_counted(many.keys), None);
    assert_eq!((granted(&two), granted(&one)), (0, 0));
    let new = NewKey::new("acme_live", "acme/etl").unwrap();
    let later = one.issue(new).unwrap();
    settle();
    let before = position(&one);
    two.flush().unwrap();
    two.flush().unwrap();
    settle();
    // Of the ten keys, the last was issued since.
    assert_eq!(position(&one), before + 5, "ten keys, two at a time");
    for engine in [one, two] {
        assert_eq!(granted(&engine), 0);
        assert!(engine.verify(later.token.expose()).unwrap().is_granted());
        assert_eq!(counts(&engine).revoked, 9);
        assert!(engine.check().unwrap().is_sound());
        engine.close().unwrap();
    }
}
