//! What a request would come to, without making it.

use std::time::Duration;

use gatekey::{
    Denial, Engine, KeyUpdate, Level, LevelDefaults, Limit, ManualClock, NewKey, NewKeyspace,
    Options, OwnerUpdate, Plan, Quota, Reason, Refill, Requirements,
};
use proptest::prelude::*;

use crate::common::{at, granted};

const DAY: u64 = 86_400_000;

fn engine() -> (Engine, ManualClock) {
    let clock = ManualClock::at(at(DAY));
    let options = Options::new().clock(clock.clone()).usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    let plan = Plan::new("key").limit(Limit::per_minute(30).bucket(9));
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .permissions(["read"])
        .plan(plan);
    let daily = Quota::new(40).refilled(Refill::Daily);
    let keyspace = keyspace.owner_defaults(2, LevelDefaults::new().quota(daily));
    engine.create_keyspace(keyspace).unwrap();
    let tier = OwnerUpdate::new()
        .limits([Limit::per_minute(20).fixed(), Limit::per_hour(60)])
        .quota(Quota::new(70));
    engine.update_owner("acme_live", "acme", tier).unwrap();
    (engine, clock)
}

/// Every denial but of limits and quotas is told as a verification tells it.
#[test]
fn a_dry_run_denies_as_a_verification_does_and_changes_nothing() {
    let (engine, _) = engine();
    let spec = NewKey::new("acme_live", "acme/a").unwrap();
    let key = engine.issue(spec.permissions(["read"])).unwrap();
    let token = key.token.expose();
    let write = Requirements::new().permissions(&["write"]);
    let elsewhere = Requirements::new().keyspace("other".parse().unwrap());
    let check = |token: &str, requirements: &Requirements<'_>| {
        let dry = engine.dry_run(token, requirements).unwrap();
        let verdict = engine.verify_with(token, requirements).unwrap();
        assert_eq!(dry.denial.as_ref(), verdict.denial());
        assert!(dry.limits.is_empty() && dry.quotas.is_empty());
    };
    check(token, &write);
    check(token, &elsewhere);
    check("acme_live_nonsense", &Requirements::new());
    check(&token.replace(&token[15..18], "000"), &Requirements::new());
    engine.disable(key.key.id).unwrap();
    check(token, &Requirements::new());
    engine.enable(key.key.id).unwrap();
    for _ in 0..100 {
        assert!(
            engine
                .dry_run(token, &Requirements::new())
                .unwrap()
                .is_granted()
        );
    }
    assert_eq!(granted(&engine, token, 100), 20, "nothing was charged");
    assert_eq!(engine.key(key.key.id).unwrap().usage.count, 0);
    engine.revoke(key.key.id, Reason::KeyCompromise).unwrap();
    check(token, &Requirements::new());
}

#[test]
fn what_is_left_of_quotas_counts_what_is_in_memory_and_what_has_not_begun() {
    let (engine, clock) = engine();
    let spec = NewKey::new("acme_live", "acme/a").unwrap();
    let key = engine.issue(spec.quota(Quota::new(50))).unwrap();
    let left = || {
        let left = engine.quotas_left(key.key.id).unwrap();
        left.iter()
            .map(|left| (left.level(), left.status().remaining))
            .collect::<Vec<_>>()
    };
    let levels = [Level::Owner(1), Level::Owner(2), Level::Key];
    let are = |remaining: [u64; 3]| levels.into_iter().zip(remaining).collect::<Vec<_>>();
    assert_eq!(left(), are([70, 40, 50]), "none has begun");
    assert_eq!(granted(&engine, key.token.expose(), 3), 3);
    assert_eq!(left(), are([67, 37, 47]));
    clock.advance(Duration::from_millis(DAY));
    assert_eq!(left(), are([67, 40, 47]), "one is refilled");
    engine
        .update(key.key.id, KeyUpdate::new().quota(Quota::new(5)))
        .unwrap();
    assert_eq!(left(), are([67, 40, 5]));
    let dear = Requirements::new().cost(6);
    let dry = engine.dry_run(key.token.expose(), &dear).unwrap();
    assert!(matches!(
        dry.denial,
        Some(Denial::QuotaExhausted {
            level: Level::Key,
            refills_at: None,
            ..
        })
    ));
    assert_eq!(dry.quotas, engine.quotas_left(key.key.id).unwrap());
    assert_eq!(dry.limits, engine.limits_left(key.key.id).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// A dry run says what the verification after it does, at every level and of every
    /// cost, and what it says is left is what the verification finds.
    #[test]
    fn a_dry_run_says_what_a_verification_does(
        steps in proptest::collection::vec((0_usize..3, 0_u32..12, 0_u64..40_000), 1..80),
    ) {
        let (engine, clock) = engine();
        let keys = ["acme/a", "acme/b", "umbrella/c"].map(|owner| {
            let spec = NewKey::new("acme_live", owner).unwrap().plan("key");
            engine.issue(spec.quota(Quota::new(30).refilled(Refill::Daily))).unwrap()
        });
        for (key, cost, later) in steps {
            let key = &keys[key];
            let step = if later > 39_000 { DAY } else { later };
            clock.advance(Duration::from_millis(step));
            let asked = Requirements::new().cost(cost);
            let dry = engine.dry_run(key.token.expose(), &asked).unwrap();
            let verdict = engine.verify_with(key.token.expose(), &asked).unwrap();
            prop_assert_eq!(&dry.denial, &verdict.denial().cloned());
            let charged = if verdict.is_granted() { u64::from(cost) } else { 0 };
            let before = dry.quotas.iter().map(|left| left.status().remaining - charged);
            let after = engine.quotas_left(key.key.id).unwrap();
            let after = after.iter().map(|left| left.status().remaining);
            prop_assert!(before.eq(after));
        }
    }
}
