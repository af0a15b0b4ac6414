//! The counts of keys by state are kept, and are at every instant what a walk over all keys
//! comes to.

use std::time::Duration;

use gatekey::{
    Engine, Expiry, KeyFilter, KeyId, KeyState, KeyUpdate, KeysPerOwner, NewKey, NewKeyspace,
    Options, Reason, Restore, Rotation, Timestamp,
};
use redb::{ReadableTable, TableDefinition};

use crate::common::{START_MS, Store, at};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("gatekey");
const PREFIXES: [&str; 3] = ["acme", "one", "other"];
const OWNERS: [&str; 5] = ["a", "a/b", "a/b/c", "d", "d/e"];
const HOUR: Duration = Duration::from_secs(3600);

/// Of each keyspace, how many keys are in each state, and how many over by their expiry.
fn walked(engine: &Engine) -> Vec<(String, [u64; 8])> {
    let keys: Vec<_> = engine
        .keys(KeyFilter::new())
        .map(|key| key.unwrap())
        .collect();
    let mut counts = Vec::new();
    for keyspace in engine.keyspaces().unwrap() {
        let of_it = || keys.iter().filter(|key| key.keyspace == keyspace.prefix);
        let count = |state| of_it().filter(|key| key.state == state).count() as u64;
        let counted = [
            count(KeyState::Active),
            count(KeyState::Retiring),
            count(KeyState::NotYetValid),
            count(KeyState::Disabled),
            count(KeyState::Suspended),
            count(KeyState::Expired),
            count(KeyState::Revoked),
            of_it().filter(|key| key.expired).count() as u64,
        ];
        counts.push((keyspace.prefix.to_string(), counted));
    }
    counts.sort();
    counts
}

fn kept(engine: &Engine) -> Vec<(String, [u64; 8])> {
    let stats = engine.stats().unwrap();
    let told = stats.keyspaces.into_iter().map(|(prefix, counts)| {
        let counted = [
            counts.active,
            counts.retiring,
            counts.not_yet_valid,
            counts.disabled,
            counts.suspended,
            counts.expired,
            counts.revoked,
            counts.over_by_expiry,
        ];
        assert_eq!(counts.total(), counted[..7].iter().sum::<u64>());
        (prefix.to_string(), counted)
    });
    told.collect()
}

fn assert_kept(engine: &Engine, place: &str) {
    assert_eq!(kept(engine), walked(engine), "{place}");
    let report = engine.check().unwrap();
    assert!(report.is_sound(), "{place}: {report:#?}");
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Up to an hour in whole minutes, so that instants coincide.
    fn minutes(&mut self) -> Duration {
        Duration::from_secs(60 * self.below(60))
    }
}

fn options(store: &Store) -> Options {
    Options::new()
        .clock(store.clock.clone())
        .cache_bytes(1 << 20)
}

/// A store, the keys that it was given, and its present.
struct World {
    store: Store,
    dice: Dice,
    keys: Vec<KeyId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let store = Store::new(4096, true);
        let of = |at: usize, policy| {
            let new = NewKeyspace::new(PREFIXES[at]).unwrap();
            store.engine.create_keyspace(new.keys_per_owner(policy))
        };
        of(0, KeysPerOwner::Many { cap: None }).unwrap();
        of(1, KeysPerOwner::SingleSuperseding).unwrap();
        of(2, KeysPerOwner::Many { cap: None }).unwrap();
        Self {
            store,
            dice: Dice(seed * 2 + 1),
            keys: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        self.store.engine.now()
    }

    fn spec(&mut self) -> NewKey {
        let (prefix, owner) = (self.dice.of(&PREFIXES), self.dice.of(&OWNERS));
        let mut new = NewKey::new(prefix, owner).unwrap();
        let start = self.now().saturating_add(self.dice.minutes());
        if self.dice.below(4) == 0 {
            new = new.not_before(start);
        }
        match self.dice.below(3) {
            0 => new.never_expires(),
            _ => {
                let lifetime = self.dice.minutes() + Duration::from_millis(1);
                new.expires_at(start.saturating_add(lifetime))
            }
        }
    }

    fn key(&mut self) -> Option<KeyId> {
        (!self.keys.is_empty()).then(|| self.dice.of(&self.keys))
    }

    /// One step; what is refused changes nothing, which is a case too.
    fn step(&mut self) -> &'static str {
        let engine = self.store.engine.clone();
        let key = self.key();
        match (self.dice.below(22), key) {
            (0..4, _) | (_, None) => {
                if let Ok(issued) = engine.issue(self.spec()) {
                    self.keys.push(issued.key.id);
                }
                "issue"
            }
            (4, _) => {
                let specs: Vec<NewKey> = (0..5).map(|_| self.spec()).collect();
                if let Ok(issued) = engine.issue_batch(specs) {
                    self.keys.extend(issued.iter().map(|issued| issued.key.id));
                }
                "a batch"
            }
            (5..8, Some(key)) => {
                let rotation = Rotation::with_grace(self.dice.minutes());
                if let Ok(rotated) = engine.rotate(key, rotation) {
                    self.keys.push(rotated.key.id);
                }
                "rotate"
            }
            (8 | 9, Some(key)) => {
                let end = self.now().saturating_add(self.dice.minutes());
                let expiry = match self.dice.below(4) {
                    0 => Expiry::Never,
                    _ => Expiry::At(end),
                };
                let _ = engine.update(key, KeyUpdate::new().expiry(expiry));
                "update"
            }
            (10, Some(key)) => {
                let _ = engine.disable(key);
                "disable"
            }
            (11, Some(key)) => {
                let _ = engine.enable(key);
                "enable"
            }
            (12, Some(key)) => {
                let _ = engine.revoke(key, Reason::Cessation);
                "revoke"
            }
            (13, _) => {
                let owner = self.dice.of(&OWNERS);
                engine.suspend(owner, None).unwrap();
                "suspend"
            }
            (14, _) => {
                engine.resume(self.dice.of(&OWNERS)).unwrap();
                "resume"
            }
            (15, _) => {
                if self.dice.below(8) == 0 {
                    let owner = self.dice.of(&OWNERS);
                    engine.revoke_owner(owner, Reason::Cessation).unwrap();
                }
                "revoke an owner"
            }
            (16, _) => {
                engine.purge(self.dice.minutes() * 2).unwrap();
                "purge"
            }
            (17, _) => {
                // Ahead, and then back to some instant in between.
                let before = self.now();
                self.store.clock.advance(HOUR * 2);
                let _ = engine.issue(self.spec()).unwrap();
                let end = before.saturating_add(self.dice.minutes());
                self.store.clock.set(end);
                engine.set_time_back(end).unwrap();
                "set time back"
            }
            (18, _) => {
                engine.flush().unwrap();
                "flush"
            }
            (19, _) => {
                self.store.reopen();
                "reopen"
            }
            _ => {
                let minutes = self.dice.minutes();
                self.store.clock.advance(minutes);
                "time"
            }
        }
    }
}

#[test]
fn the_counts_are_those_of_a_walk_after_every_step_of_random_histories() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        for at in 0..60 {
            let verb = world.step();
            assert_kept(
                &world.store.engine,
                &format!("seed {seed}, step {at}: {verb}"),
            );
        }
        // Nothing time does is left out, also where nothing is changed meanwhile.
        for _ in 0..4 {
            world.store.clock.advance(HOUR / 2);
            assert_kept(&world.store.engine, &format!("seed {seed}, later"));
        }
        let backup = world.store.dir().join("backup.redb");
        world.store.engine.backup(&backup).unwrap();
        world.store.engine.compact().unwrap();
        assert_kept(&world.store.engine, "compacted");
        let key = world.dice.of(&world.keys);
        let _ = world.store.engine.revoke(key, Reason::KeyCompromise);
        world.store.engine.suspend("d", None).unwrap();
        let mut trail = Vec::new();
        world.store.engine.export_audit(0, &mut trail).unwrap();
        let restored = world.store.dir().join("restored.redb");
        Restore::new(&backup, options(&world.store))
            .trail(trail.as_slice())
            .to(&restored)
            .unwrap();
        let restored = options(&world.store).open(&restored).unwrap();
        assert_kept(&restored, "restored");
        restored.close().unwrap();
    }
}

/// Thousands of keys that end in one instant, and in instants one after the other: more
/// than a change, a step of a reader and a flush pass over.
#[test]
fn many_keys_that_end_at_once_are_counted_before_and_after_the_reach_has_come_there() {
    const KEYS: u64 = 4500;
    let store = Store::new(0, false);
    store.keyspace("acme");
    let ends = |spread: u64| {
        let new = |n: u64| {
            let new = NewKey::new("acme", "acme").unwrap();
            let new = new.not_before(at(500 + n % spread));
            new.expires_at(at(1000 + n % spread))
        };
        (0..KEYS).map(new).collect::<Vec<_>>()
    };
    store.engine.issue_batch(ends(1)).unwrap();
    store.engine.issue_batch(ends(1500)).unwrap();
    let far = store.issue("acme", "acme").key.id;
    for (ms, changes) in [(1, 0), (700, 0), (1000, 2), (1700, 1), (9000, 1)] {
        store.clock.set(at(ms));
        assert_kept(&store.engine, &format!("at {ms}"));
        for change in 0..changes {
            // Rows pass behind the reach, a few hundred a change.
            for _ in 0..3 {
                store.engine.disable(far).unwrap();
                store.engine.enable(far).unwrap();
            }
            assert_kept(&store.engine, &format!("at {ms}, change {change}"));
        }
    }
    store.engine.flush().unwrap();
    assert_kept(&store.engine, "after a flush");
    let counts = store.engine.stats().unwrap().keyspaces[&"acme".parse().unwrap()];
    assert_eq!((counts.expired, counts.active), (2 * KEYS, 1));
    // All of it backwards.
    store.clock.set(at(800));
    store.engine.set_time_back(at(800)).unwrap();
    assert_kept(&store.engine, "after time was set back");
    assert_eq!(START_MS + 800, store.engine.now().unix_ms());
}

/// Time is set back over more instants than one step takes, and keys were in a state in
/// between in which none is before or after.
#[test]
fn keys_that_pass_through_a_state_on_the_way_back_are_counted_once() {
    let store = Store::new(0, false);
    store.keyspace("acme");
    let issue = |count: usize, start: u64, end: u64| {
        let new = NewKey::new("acme", "acme").unwrap();
        let new = new.not_before(at(start)).expires_at(at(end));
        store.engine.issue_batch(vec![new; count]).unwrap();
    };
    // The ids of these are the first.
    issue(600, 850, 2000);
    store.clock.set(at(1));
    issue(4500, 500, 1000);
    store.clock.set(at(9000));
    store.engine.flush().unwrap();
    assert_kept(&store.engine, "at the end");
    store.clock.set(at(800));
    store.engine.set_time_back(at(800)).unwrap();
    assert_kept(&store.engine, "after time was set back");
}

/// A key that is in its grace and given an earlier expiry is expired first, and revoked
/// once the grace is over.
#[test]
fn a_key_that_expires_in_its_grace_counts_as_expired_and_then_as_revoked() {
    let store = Store::on_file();
    store.keyspace("acme");
    let old = store.issue("acme", "acme").key.id;
    let rotation = Rotation::with_grace(HOUR);
    store.engine.rotate(old, rotation).unwrap();
    let update = KeyUpdate::new().expires_in(HOUR / 2);
    store.engine.update(old, update).unwrap();
    let state = || {
        assert_kept(&store.engine, "");
        let counts = store.engine.stats().unwrap().keyspaces[&"acme".parse().unwrap()];
        (counts.retiring, counts.expired, counts.revoked)
    };
    assert_eq!(state(), (1, 0, 0));
    store.clock.advance(HOUR / 2);
    assert_eq!(state(), (0, 1, 0));
    store.engine.suspend("elsewhere", None).unwrap();
    store.issue("acme", "other");
    assert_eq!(state(), (0, 1, 0));
    store.clock.advance(HOUR / 2);
    assert_eq!(state(), (0, 0, 1));
    store.issue("acme", "other");
    assert_eq!(state(), (0, 0, 1));
}

/// A store of format 2 has neither counts nor the index of what time changes.
#[test]
fn a_store_of_an_older_format_gets_its_counts_as_it_is_opened() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    store.keyspace("empty");
    let held = store.issue("acme", "held/one").key.id;
    let later = NewKey::new("acme", "acme").unwrap().not_before(at(60_000));
    let later = later.expires_at(at(120_000));
    store.engine.issue(later).unwrap();
    store.engine.suspend("held", None).unwrap();
    store.clock.advance(Duration::from_secs(1));
    let rotation = Rotation::with_grace(HOUR);
    let old = store.issue("acme", "acme").key.id;
    store.engine.rotate(old, rotation).unwrap();
    store.edit(|txn| {
        let by_turn: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("by_turn");
        assert!(txn.delete_table(by_turn).unwrap());
        let mut meta = txn.open_table(META).unwrap();
        for name in ["counts/0", "counts/1"] {
            assert!(meta.remove(name).unwrap().is_some());
        }
        meta.insert("format", 2_u32.to_le_bytes().as_slice())
            .unwrap();
    });
    assert_kept(&store.engine, "opened");
    store.engine.revoke(held, Reason::Cessation).unwrap();
    for minutes in [0, 1, 2, 60] {
        store.clock.set(at(minutes * 60_000 + 1000));
        assert_kept(&store.engine, &format!("after {minutes} minutes"));
    }
    assert!(store.reopen());
    assert_kept(&store.engine, "opened again");
}

/// Counts that are damaged are found by the check, and nothing depends on them.
#[test]
fn damaged_counts_are_told_and_nothing_depends_on_them() {
    for damage in ["flipped", "missing", "another's", "an old copy"] {
        let mut store = Store::on_file();
        store.keyspace("acme");
        store.keyspace("other");
        for _ in 0..3 {
            store.issue("acme", "acme");
        }
        let key = store.issue("acme", "acme").key.id;
        let read = |txn: &redb::WriteTransaction, name: &str| {
            let meta = txn.open_table(META).unwrap();
            meta.get(name).unwrap().unwrap().value().to_vec()
        };
        let old = store.edit(|txn| read(txn, "counts/0"));
        store.issue("acme", "acme");
        store.edit(|txn| {
            let mut bytes = match damage {
                "an old copy" => old.clone(),
                "another's" => read(txn, "counts/1"),
                _ => read(txn, "counts/0"),
            };
            let mut meta = txn.open_table(META).unwrap();
            if damage == "flipped" {
                bytes[2] ^= 1;
            }
            if damage == "missing" {
                meta.remove("counts/0").unwrap();
            } else {
                meta.insert("counts/0", bytes.as_slice()).unwrap();
            }
        });
        let report = store.engine.check().unwrap();
        assert_eq!(report.findings_total, 1, "{damage}: {report:#?}");
        assert_eq!(report.findings[0].record, "counts/0");
        // An old copy has a right tag: it is believed until the check.
        if damage != "an old copy" {
            assert_eq!(kept(&store.engine), walked(&store.engine), "{damage}");
        }
        store.engine.revoke(key, Reason::Cessation).unwrap();
        store.clock.advance(HOUR);
        if damage != "an old copy" {
            assert_eq!(kept(&store.engine), walked(&store.engine), "{damage}");
        }
        let report = store.engine.repair().unwrap();
        assert_eq!(report.repairs_total, 1, "{damage}: {report:#?}");
        assert_eq!(report.repairs[0].record, "counts/0");
        assert_kept(&store.engine, damage);
        store.issue("acme", "acme");
        assert_kept(&store.engine, damage);
    }
}
