use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::change::purge;
use crate::model::clock::ManualClock;
use crate::store::lags::LAGS_MAX;
use crate::store::tx::Tx;
use crate::{
    Engine, KeyCounts, KeyFilter, KeyId, KeyState, KeyUpdate, NewKey, NewKeyspace, Options,
    Permissions, Reason, Requirements, Result, Revocation, Revoked, Rotation, Token,
};

/// An engine and the keys that it has issued, in their order.
struct Side {
    engine: Engine,
    tokens: Vec<Token>,
}

/// What is told of a key.
#[derive(Debug, PartialEq)]
struct Told {
    state: KeyState,
    is_disabled: bool,
    is_suspended: bool,
    revoked: Option<Revoked>,
    verdicts: [String; 4],
}

/// The records of one are longer than a slot of memory.
const OWNERS: [&str; 9] = [
    "acme",
    "acme/a",
    "acme/a/x",
    "acme/a/of-a-path-that-is-longer-than-a-slot-of-memory-has-room-for",
    "acme/b",
    "acme2",
    "acme2/a",
    "globex",
    "globex/a",
];

impl Side {
    fn new(path: &std::path::Path, at_once: usize, resident: usize, clock: &ManualClock) -> Self {
        let engine = Self::options(at_once, resident, clock).create(path);
        let engine = engine.unwrap();
        engine
            .create_keyspace(NewKeyspace::new("many").unwrap())
            .unwrap();
        let single = NewKeyspace::new("one").unwrap().single_active();
        engine.create_keyspace(single).unwrap();
        Self {
            engine,
            tokens: Vec::new(),
        }
    }

    fn options(at_once: usize, resident: usize, clock: &ManualClock) -> Options {
        let mut options = Options::new().resident_bytes(resident).clock(clock.clone());
        (options.at_once, options.brings_up) = (at_once, false);
        options.usage_interval(None)
    }

    fn new_key(&mut self, prefix: &str, owner: &str, ends: u64) -> bool {
        let mut new = NewKey::new(prefix, owner).unwrap();
        if ends > 0 {
            new = new.expires_in(Duration::from_millis(ends));
        }
        let issued = self.engine.issue(new);
        let is_issued = issued.is_ok();
        self.tokens.extend(issued.ok().map(|issued| issued.token));
        is_issued
    }

    /// The ids differ by chance.
    fn with_place(&self, revoked: Revoked) -> Revoked {
        let place = self.tokens.iter().position(|it| it.key_id() == revoked.key);
        Revoked {
            key: KeyId::from_raw(place.unwrap() as u64),
            ..revoked
        }
    }

    fn told(&self) -> Vec<Option<Told>> {
        let texts: Vec<&str> = self.tokens.iter().map(Token::expose).collect();
        let asked = Requirements::new();
        let many = self.engine.verify_many(&texts, &asked);
        let extension = self.engine.extension("vouching").unwrap();
        let told = self.tokens.iter().zip(many).map(|(token, of_many)| {
            let key = self.engine.find_key(token.key_id()).unwrap()?;
            // Without what differs by chance.
            let short = |verdict: Result<crate::Verdict>| match verdict.unwrap() {
                crate::Verdict::Granted(grant) => format!("granted {}", grant.owner()),
                crate::Verdict::Denied(denial) => match denial {
                    crate::Denial::Suspended { owner, .. } => format!("suspended {owner}"),
                    denial => denial.code().to_string(),
                },
            };
            let verify = || short(self.engine.verify(token.expose()));
            let vouched = extension.vouch(key.id, Permissions::ALL, &asked);
            Some(Told {
                state: key.state,
                is_disabled: key.disabled,
                is_suspended: key.suspended,
                revoked: key.revoked.map(|revoked| self.with_place(revoked)),
                verdicts: [verify(), verify(), short(of_many), short(vouched)],
            })
        });
        told.collect()
    }

    fn counts(&self) -> Vec<KeyCounts> {
        let counts = self.engine.stats().unwrap().keyspaces;
        counts.into_values().collect()
    }

    fn listed(&self, filter: KeyFilter) -> Vec<usize> {
        let ids = self.engine.keys(filter).map(|key| key.unwrap().id);
        let place = |id| self.tokens.iter().position(|it| it.key_id() == id).unwrap();
        let mut places: Vec<usize> = ids.map(place).collect();
        places.sort_unstable();
        places
    }
}

/// Whatever is done while records lag, and however many were brought up, all that is told is
/// what an engine tells whose records change with their owners.
#[test]
fn keys_that_lag_are_told_as_those_of_an_engine_without_lags() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 4096, Options::RESIDENT_BYTES];
    for (seed, resident) in (0..15).zip(sizes.into_iter().cycle()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
        let at_once = rng.random_range(0..4);
        let path = dir.path().join(format!("{seed}.redb"));
        let reference = dir.path().join(format!("{seed}.reference.redb"));
        let mut sides = [
            Side::new(&path, at_once, resident, &clock),
            Side::new(&reference, usize::MAX, resident, &clock),
        ];
        let mut done: Vec<String> = Vec::new();
        for step in 0..120 {
            let owner = OWNERS[rng.random_range(0..OWNERS.len())];
            let count = sides[0].tokens.len();
            let at = rng.random_range(0..count.max(1));
            let ends = [0, 0, 0, 30][rng.random_range(0..4)];
            let many = rng.random_range(0..3) > 0;
            let op = match count < 12 {
                true => 0,
                false => rng.random_range(0..29),
            };
            done.push(format!("{op} {owner} {at} {ends} {many}"));
            let what = |done: &[String]| format!("seed {seed}, step {step}: {done:#?}");
            if op == 20 {
                // As after the end of the process, or a restore of a backup.
                let copy = dir.path().join(format!("{seed}.{step}.redb"));
                sides[0].engine.backup(&copy).unwrap();
                sides[0].engine.clone().close().unwrap();
                let options = Side::options(at_once, resident, &clock);
                sides[0].engine = options.open(&copy).unwrap();
            } else if (17..20).contains(&op) {
                sides[0].engine.core.bring_some_up().unwrap();
            } else if op == 21 {
                let side = &sides[rng.random_range(0..2)];
                side.engine.compact().unwrap();
            } else if op == 22 {
                let repaired = sides[0].engine.repair().unwrap();
                assert_eq!(repaired.repairs, [], "{}", what(&done));
            } else {
                if op == 23 {
                    clock.advance(Duration::from_millis(7));
                }
                let ids = sides.each_ref().map(|side| {
                    let token = side.tokens.get(at);
                    token.map(Token::key_id)
                });
                let outcomes: Vec<String> = sides
                    .iter_mut()
                    .zip(ids)
                    .map(|(side, id)| {
                        let engine = side.engine.acting_as(format!("actor {step}")).unwrap();
                        let why = Revocation::new(Reason::Cessation).note(format!("{step}"));
                        let told = |is_ok: bool| is_ok.to_string();
                        match (op, id) {
                            (0..=2, _) => {
                                told(side.new_key(if many { "many" } else { "one" }, owner, ends))
                            }
                            (3..=6 | 24, _) => {
                                told(engine.suspend(owner, None).unwrap().suspended.is_some())
                            }
                            (7..=10 | 25, _) => {
                                told(engine.resume(owner).unwrap().suspended.is_some())
                            }
                            (11, Some(id)) => {
                                let revoked = engine.revoke(id, Reason::KeyCompromise);
                                format!("{:?}", revoked.ok().map(|it| side.with_place(it)))
                            }
                            // How many they are, a lag does not say.
                            (26 | 27, _) => {
                                told(engine.revoke_owner(owner, why).unwrap().damaged == 0)
                            }
                            (28, _) if ends > 0 => {
                                let prefix = if many { "many" } else { "one" };
                                told(engine.revoke_keyspace(prefix, why).unwrap().damaged == 0)
                            }
                            (12, Some(id)) => told(engine.disable(id).is_ok()),
                            (13, Some(id)) => told(engine.enable(id).is_ok()),
                            (14, Some(id)) => {
                                let rotation = match many {
                                    true => Rotation::with_grace(Duration::from_millis(20)),
                                    false => Rotation::at_once(),
                                };
                                let rotated = engine.rotate(id, rotation);
                                let is_ok = rotated.is_ok();
                                side.tokens.extend(rotated.ok().map(|it| it.token));
                                told(is_ok)
                            }
                            (15, Some(id)) => {
                                let update = match many {
                                    true => KeyUpdate::new().expires_in(Duration::from_secs(1)),
                                    false => KeyUpdate::new().name("another"),
                                };
                                told(engine.update(id, update).is_ok())
                            }
                            (16, _) => {
                                let purged = engine.purge(Duration::from_millis(1)).unwrap();
                                purged.keys.to_string()
                            }
                            _ => String::new(),
                        }
                    })
                    .collect();
                assert_eq!(outcomes[0], outcomes[1], "{}", what(&done));
            }
            let [lagging, reference] = &sides;
            assert_eq!(lagging.told(), reference.told(), "{}", what(&done));
            assert_eq!(lagging.counts(), reference.counts(), "{}", what(&done));
            let below = || KeyFilter::new().owner_and_below(owner.parse().unwrap());
            for filter in [
                below().state(KeyState::Active),
                below().state(KeyState::Suspended),
                below().state(KeyState::Revoked),
                KeyFilter::new().expires_within(Duration::from_millis(20)),
            ] {
                let listed = lagging.listed(filter.clone());
                assert_eq!(listed, reference.listed(filter), "{}", what(&done));
            }
            let expiring = |side: &Side| {
                let metrics = side.engine.metrics().unwrap();
                (metrics.expiring_7d, metrics.expiring_30d)
            };
            assert_eq!(expiring(lagging), expiring(reference), "{}", what(&done));
            let report = lagging.engine.check().unwrap();
            assert!(report.is_sound(), "{report:#?} {}", what(&done));
        }
        for side in sides {
            side.engine.close().unwrap();
        }
    }
}

/// The keys of a lag that must go are brought up before, in steps, and not with the change.
#[test]
fn the_owner_for_which_there_is_no_room_waits_for_steps_and_not_in_its_own_transaction() {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let engine = Side::options(2, 0, &clock).open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("many").unwrap())
        .unwrap();
    let owners: Vec<String> = (0..=LAGS_MAX).map(|at| format!("owner-{at}")).collect();
    for owner in &owners {
        let keys = vec![NewKey::new("many", owner.as_str()).unwrap(); 11];
        engine.issue_batch(keys).unwrap();
    }
    let commits = || engine.metrics().unwrap().commits.count();
    let (last, first) = owners.split_last().unwrap();
    for owner in first {
        engine.suspend(owner.as_str(), None).unwrap();
    }
    let lags = || engine.core.snapshot().unwrap().lags().clone();
    assert!(lags().is_full());
    // One that lags already, and one of few keys, need no room.
    let before = commits();
    engine.resume(first[3].as_str()).unwrap();
    engine.suspend("nobody", None).unwrap();
    assert_eq!(commits() - before, 2);
    // Six steps of two keys each, and the change.
    let before = commits();
    engine.suspend(last.as_str(), None).unwrap();
    assert_eq!(commits() - before, 7);
    let covers = |owner: &str| lags().covers(owner.as_bytes(), 1);
    assert!(covers(last) && !covers(&first[0]));
    engine.flush().unwrap();
    assert!(lags().is_empty() && engine.check().unwrap().is_sound());
}

/// A purge meets a key whose end lags where that was revoked since the purge began.
#[test]
fn a_purge_passes_over_a_key_whose_end_lags() {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let engine = Side::options(2, 0, &clock).open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("many").unwrap())
        .unwrap();
    let second = Duration::from_secs(1);
    let new = NewKey::new("many", "acme").unwrap().expires_in(second);
    engine.issue_batch(vec![new; 5]).unwrap();
    clock.advance(10 * second);
    engine.revoke_owner("acme", Reason::Cessation).unwrap();
    let now = engine.now();
    let purge = move |tx: &mut Tx<'_>| purge::purge(tx, now, None, None);
    let step = engine.core.mutate(purge).unwrap();
    assert_eq!((step.purged.keys, step.purged.damaged), (0, 0));
    clock.advance(second);
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 5);
}

/// The thread's flush leaves what lags to the thread's steps, so that nothing waits for all.
#[test]
fn a_flush_of_the_engines_thread_wants_keys_brought_up_and_does_not_wait_for_them() {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let engine = Side::options(2, 0, &clock).open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("many").unwrap())
        .unwrap();
    let keys = vec![NewKey::new("many", "acme").unwrap(); 11];
    engine.issue_batch(keys).unwrap();
    engine.suspend("acme", None).unwrap();
    let core = &engine.core;
    core.flush_by_thread().unwrap();
    assert!(!core.snapshot().unwrap().lags().is_empty());
    core.flush().unwrap();
    assert!(core.snapshot().unwrap().lags().is_empty());
}
