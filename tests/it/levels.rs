//! Levels against a model of them: settings that change, costs that are settled, stops,
//! and damage.

use std::collections::BTreeMap;

use gatekey::{
    Charge, Denial, Engine, Error, Level, Limit, ManualClock, NewKey, NewKeyspace, Options,
    OwnerUpdate, Quota, Requirements, Verdict,
};
use proptest::prelude::*;
use redb::{ReadableTable as _, TableDefinition};

use crate::common::{Store, at, granted};
use crate::durability::tampering::tampered;

const SETTINGS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("owner_settings");
/// The owners with settings, and the keys below them.
const OWNERS: [&str; 3] = ["acme", "acme/a", "acme/b"];
const KEYS: [&str; 3] = ["acme/a/x", "acme/a/y", "acme/b/z"];

#[derive(Debug, Clone)]
enum Step {
    /// A request of a key.
    Ask(usize, u32),
    /// A request of a key that is settled later.
    Begin(usize, u32),
    /// Settles the newest that is not, or the last once more.
    Settle(u32),
    /// An owner's limit, by a rate that is over within no test.
    Limit(usize, Option<u32>),
    Quota(usize, Option<u64>),
    DryRun(usize, u32),
    Reopen,
    /// Goes on with the file as it is.
    Crash,
}

/// What is counted at a level: of its limit, and what is left of its quota, which is below
/// zero where it owes.
#[derive(Debug, Clone, Default)]
struct Counted {
    limit: Option<u32>,
    used: i64,
    quota: Option<u64>,
    left: i64,
    /// Of which quota of the level it is.
    generation: u32,
    /// Whether the limit was there when a request was charged.
    begun: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..3, 0_u32..9).prop_map(|(key, cost)| Step::Ask(key, cost)),
        5 => (0_usize..3, 0_u32..9).prop_map(|(key, cost)| Step::Begin(key, cost)),
        5 => (0_u32..30).prop_map(Step::Settle),
        2 => (0_usize..3, proptest::option::weighted(0.8, 1_u32..60))
            .prop_map(|(owner, limit)| Step::Limit(owner, limit)),
        2 => (0_usize..3, proptest::option::weighted(0.8, 1_u64..60))
            .prop_map(|(owner, quota)| Step::Quota(owner, quota)),
        3 => (0_usize..3, 0_u32..12).prop_map(|(key, cost)| Step::DryRun(key, cost)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The indexes of the owners of a key.
fn above(key: usize) -> [usize; 2] {
    [0, if key < 2 { 1 } else { 2 }]
}

fn refusing(levels: &[Counted; 3], key: usize, cost: u32) -> Option<(&'static str, usize)> {
    let cost = i64::from(cost);
    let limited = above(key).into_iter().find(|at| {
        let level = &levels[*at];
        level
            .limit
            .is_some_and(|limit| cost > (i64::from(limit) - level.used).max(0))
    });
    let exhausted = above(key)
        .into_iter()
        .find(|at| levels[*at].quota.is_some() && cost > levels[*at].left.max(0));
    match (limited, exhausted) {
        (Some(at), _) => Some(("rate_limited", at)),
        (None, Some(at)) => Some(("quota_exhausted", at)),
        (None, None) => None,
    }
}

fn denial_of(denial: Option<&Denial>) -> Option<&'static str> {
    denial.map(|denial| match denial {
        Denial::RateLimited { .. } => "rate_limited",
        Denial::QuotaExhausted { .. } => "quota_exhausted",
        other => panic!("{other:?}"),
    })
}

/// Of each level, the limit and the quota that had begun.
type Begun = BTreeMap<usize, (Option<u32>, Option<u32>)>;

/// A charge that can still be settled: its key, the parts of it, latest last.
struct Open {
    charge: Charge,
    key: usize,
    parts: Vec<(i64, Begun)>,
}

/// What of the levels a part was charged to: the limit that had begun, and the quota.
fn charged(levels: &[Counted; 3], key: usize) -> Begun {
    let of = |at: usize| {
        let level = &levels[at];
        let limit = level.limit.map(|_| level.begun);
        (at, (limit, level.quota.map(|_| level.generation)))
    };
    above(key).into_iter().map(of).collect()
}

fn count(levels: &mut [Counted; 3], key: usize, cost: i64) {
    for at in above(key) {
        let level = &mut levels[at];
        if level.limit.is_some() {
            level.used += cost;
        }
        if level.quota.is_some() {
            level.left -= cost;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// No level ever admits more than it has, what one refuses is charged to none, what is
    /// settled is charged and given back exactly, and no stop enlarges a quota.
    #[test]
    fn levels_do_what_their_model_says(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().join("keys.redb");
        let clock = ManualClock::at(at(3_600_000));
        let options = || Options::new().clock(clock.clone()).usage_interval(None);
        let mut engine: Engine = options().create(&path).unwrap();
        engine.create_keyspace(NewKeyspace::new("acme_live").unwrap()).unwrap();
        let keys = KEYS.map(|owner| engine.issue(NewKey::new("acme_live", owner).unwrap()).unwrap());
        let mut levels: [Counted; 3] = Default::default();
        let mut open: Vec<Open> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Ask(key, cost) | Step::Begin(key, cost) => {
                    let later = matches!(step, Step::Begin(..));
                    let mut asked = Requirements::new().cost(cost);
                    if later {
                        asked = asked.settled_later();
                    }
                    let expected = refusing(&levels, key, cost);
                    let verdict = engine.verify_with(keys[key].token.expose(), &asked).unwrap();
                    prop_assert_eq!(
                        denial_of(verdict.denial()), expected.map(|(why, _)| why),
                        "{:?} of {:?}", verdict, levels
                    );
                    if let Verdict::Granted(grant) = verdict {
                        count(&mut levels, key, cost.into());
                        if let Some(charge) = grant.charge() {
                            let parts = vec![(i64::from(cost), charged(&levels, key))];
                            open.push(Open { charge: charge.clone(), key, parts });
                        }
                    }
                }
                Step::Settle(cost) => {
                    let Some(last) = open.last_mut() else { continue };
                    engine.settle(&last.charge, cost).unwrap();
                    prop_assert_eq!(last.charge.cost(), cost);
                    let before: i64 = last.parts.iter().map(|part| part.0).sum();
                    let mut less = before - i64::from(cost);
                    if less < 0 {
                        count(&mut levels, last.key, -less);
                        last.parts.push((-less, charged(&levels, last.key)));
                    }
                    for (cost, of) in last.parts.iter_mut().rev() {
                        let back = less.clamp(0, *cost);
                        *cost -= back;
                        less -= back;
                        for (at, (limit, quota)) in of {
                            let level = &mut levels[*at];
                            if limit.is_some() && *limit == Some(level.begun) {
                                level.used = (level.used - back).max(0);
                            }
                            if level.quota.is_some() && *quota == Some(level.generation) {
                                level.left += back;
                            }
                        }
                    }
                }
                Step::Limit(owner, limit) => {
                    let update = match limit {
                        Some(limit) => OwnerUpdate::new().limits([Limit::per_hour(limit).fixed()]),
                        None => OwnerUpdate::new().limits_of_plan(),
                    };
                    engine.update_owner("acme_live", OWNERS[owner], update).unwrap();
                    levels[owner].limit = limit;
                }
                Step::Quota(owner, quota) => {
                    let update = OwnerUpdate::new().quota(quota.map(Quota::new));
                    engine.update_owner("acme_live", OWNERS[owner], update).unwrap();
                    let level = &mut levels[owner];
                    if quota.is_some() || level.quota.is_some() {
                        level.generation += 1;
                    }
                    (level.quota, level.left) = (quota, quota.unwrap_or(0).try_into().unwrap());
                }
                Step::DryRun(key, cost) => {
                    let asked = Requirements::new().cost(cost);
                    let dry = engine.dry_run(keys[key].token.expose(), &asked).unwrap();
                    let expected = refusing(&levels, key, cost).map(|(why, _)| why);
                    prop_assert_eq!(denial_of(dry.denial.as_ref()), expected);
                    for left in &dry.quotas {
                        let Level::Owner(depth) = left.level() else { panic!() };
                        let level = &levels[above(key)[usize::from(depth) - 1]];
                        let told = left.status();
                        let told = (told.remaining.cast_signed(), told.owed.cast_signed());
                        prop_assert_eq!(told, (level.left.max(0), (-level.left).max(0)));
                    }
                }
                Step::Reopen | Step::Crash => {
                    if matches!(step, Step::Reopen) {
                        engine.close().unwrap();
                    } else {
                        let copy = dir.path().join(format!("crash-{number}.redb"));
                        std::fs::copy(&path, &copy).unwrap();
                        path = copy;
                    }
                    engine = options().open(&path).unwrap();
                    open.clear();
                    for (owner, level) in OWNERS.iter().zip(&mut levels) {
                        (level.used, level.begun) = (0, level.begun + 1);
                        let settings = engine.owner_settings("acme_live", *owner).unwrap();
                        let Some(told) = settings.quota.own() else { continue };
                        let told = told.remaining.cast_signed() - told.owed.cast_signed();
                        prop_assert!(told <= level.left, "a stop enlarged {:?}: {}", level, told);
                        if matches!(step, Step::Reopen) {
                            prop_assert_eq!(told, level.left);
                        }
                        level.left = told;
                    }
                }
            }
        }
        prop_assert!(engine.check().unwrap().is_sound());
    }
}

/// What a level has is not known: nothing below it is admitted, and all else is.
#[test]
fn damaged_settings_of_an_owner_admit_nothing_below_it() {
    let mut store = Store::on_file();
    store.keyspace("acme_live");
    let limits = OwnerUpdate::new().limits([Limit::per_hour(9).fixed()]);
    for owner in ["acme/a", "umbrella"] {
        store
            .engine
            .update_owner("acme_live", owner, limits.clone())
            .unwrap();
    }
    let keys = ["acme/a/x", "acme/b", "umbrella/x"].map(|owner| {
        let spec = NewKey::new("acme_live", owner).unwrap();
        store.engine.issue(spec).unwrap()
    });
    tampered(&mut store, |txn| {
        let mut table = txn.open_table(SETTINGS).unwrap();
        let old = table.get((0, "acme/a")).unwrap().unwrap().value().to_vec();
        let mut bytes = old;
        bytes[2] ^= 1;
        table.insert((0, "acme/a"), bytes.as_slice()).unwrap();
    });
    let engine = &store.engine;
    let verify = |at: usize| engine.verify(keys[at].token.expose());
    for _ in 0..2 {
        assert!(
            matches!(verify(0), Err(Error::Corrupted(damage)) if damage.table == "owner_settings")
        );
    }
    assert!(engine.limits_left(keys[0].key.id).is_err());
    let dry = engine.dry_run(keys[0].token.expose(), &Requirements::new());
    assert!(matches!(dry, Err(Error::Corrupted(_))));
    assert_eq!(granted(engine, keys[1].token.expose(), 20), 20);
    assert_eq!(granted(engine, keys[2].token.expose(), 20), 9);
    // Settings that are given anew hold.
    assert!(!engine.check().unwrap().is_sound());
    engine.repair().unwrap();
    assert!(engine.check().unwrap().is_sound());
    assert!(verify(0).is_ok());
}
