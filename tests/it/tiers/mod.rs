//! Tiers against a model of them: plans, limits, quotas and caps of owners at three levels
//! and of keys, by default and of their own; costs, settlements, rotations, purges, changes,
//! stops, and the time that passes over windows and refills.

mod counted;
mod plain;

use std::time::Duration;

use gatekey::{
    Charge, Clock, Conflict, Denial, Engine, Error, KeyId, KeyUpdate, KeyspaceUpdate, Level,
    LevelDefaults, LimitStatus, ManualClock, NewKey, NewKeyspace, Options, OwnerUpdate, Plan,
    Quota, QuotaLeft, Reason, Refill, Requirements, Rotation, Setting, Verdict,
};
use proptest::option::weighted;
use proptest::prelude::*;

use crate::common::at;
use counted::Rate;
use plain::{At, Defaults, Model, OWNERS, Open, PLANS, Said, Sold, path};

const HOUR_MS: u64 = 3_600_000;

/// Whose keys are issued first and stay: owners of which all others are above.
const ANCHORS: [usize; 4] = [3, 4, 5, 8];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A request of a key; settled later, or not.
    Ask(usize, u32, bool),
    /// Settles one of the requests that are, or one of them once more.
    Settle(usize, u32),
    Plan(usize, Option<Rate>),
    /// What owners of a depth have by default. The quota stays unless another is given.
    Defaults(usize, Option<usize>, Option<Option<Sold>>, Option<u32>),
    OwnerPlan(usize, Option<usize>),
    OwnerLimits(usize, Option<Option<Rate>>),
    OwnerQuota(usize, Said<Sold>),
    OwnerCap(usize, Said<u32>),
    Key(usize, Option<usize>, Option<Sold>),
    Rotate(usize),
    Pass(u64),
    Issue(usize),
    Revoke(usize),
    Purge,
    Reopen,
    /// Goes on with the file as it is.
    Crash,
}

fn own<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Said<T>> {
    (0..5, value).prop_map(|(kind, value)| match kind {
        0 => Said::Default,
        1 => Said::Unlimited,
        _ => Said::Own(value),
    })
}

fn rate() -> impl Strategy<Value = Rate> {
    // Mostly of one kind: what was counted of others does not carry over.
    let kind = prop_oneof![0_usize..6, Just(0_usize), 0_usize..3];
    (kind, 1_u32..60).prop_map(|(kind, number)| Rate::new(kind, number))
}

fn sold(requests: std::ops::Range<u64>) -> impl Strategy<Value = Sold> {
    (requests, any::<bool>()).prop_map(|(requests, is_daily)| Sold { requests, is_daily })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = || 0..OWNERS.len();
    let plan = || weighted(0.7, 0..PLANS.len());
    let step = prop_oneof![
        16 => (any::<usize>(), 0_u32..9, any::<bool>())
            .prop_map(|(key, cost, later)| Step::Ask(key, cost, later)),
        6 => (any::<usize>(), prop_oneof![0_u32..9, 0_u32..30]).prop_map(|(charge, cost)| Step::Settle(charge, cost)),
        2 => (0..PLANS.len(), weighted(0.8, rate())).prop_map(|(plan, limit)| Step::Plan(plan, limit)),
        3 => (1_usize..4, plan(), weighted(0.6, weighted(0.7, sold(1..50))), weighted(0.3, 1_u32..6))
            .prop_map(|(depth, plan, quota, cap)| Step::Defaults(depth, plan, quota, cap)),
        2 => (owner(), plan()).prop_map(|(owner, plan)| Step::OwnerPlan(owner, plan)),
        2 => (owner(), weighted(0.7, weighted(0.8, rate())))
            .prop_map(|(owner, limits)| Step::OwnerLimits(owner, limits)),
        4 => (owner(), own(sold(1..60))).prop_map(|(owner, quota)| Step::OwnerQuota(owner, quota)),
        2 => (owner(), own(1_u32..6)).prop_map(|(owner, cap)| Step::OwnerCap(owner, cap)),
        2 => (any::<usize>(), plan(), weighted(0.5, sold(1..40)))
            .prop_map(|(key, plan, quota)| Step::Key(key, plan, quota)),
        2 => any::<usize>().prop_map(Step::Rotate),
        4 => (1_u64..70_000).prop_map(Step::Pass),
        2 => (1_u64..2 * HOUR_MS).prop_map(Step::Pass),
        1 => (1_u64..50 * HOUR_MS).prop_map(Step::Pass),
        3 => owner().prop_map(Step::Issue),
        2 => any::<usize>().prop_map(Step::Revoke),
        1 => Just(Step::Purge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    let steps = proptest::collection::vec(step, 1..80);
    (tiers(), steps).prop_map(|(tiers, steps)| [tiers, steps].concat())
}

/// Limits at all levels of some keys, of which most windows admit a few requests.
fn tiers() -> impl Strategy<Value = Vec<Step>> {
    let rate = || (0_usize..6, 10_u32..40).prop_map(|(kind, number)| Rate::new(kind, number));
    let plan = (0..PLANS.len(), rate()).prop_map(|(plan, rate)| Step::Plan(plan, Some(rate)));
    let owner = (0..OWNERS.len(), rate())
        .prop_map(|(owner, rate)| Step::OwnerLimits(owner, Some(Some(rate))));
    let key =
        (0..ANCHORS.len(), 0..PLANS.len()).prop_map(|(key, plan)| Step::Key(key, Some(plan), None));
    proptest::collection::vec(prop_oneof![plan, owner, key], 0..8)
}

fn quota(sold: Sold) -> Quota {
    let quota = Quota::new(sold.requests);
    match sold.is_daily {
        true => quota.refilled(Refill::Daily),
        false => quota,
    }
}

fn plan_of(plan: usize, rate: Option<Rate>) -> Plan {
    let new = Plan::new(PLANS[plan]);
    let new = match PLANS[plan] {
        "apart" => new.replaces_levels_above(),
        _ => new,
    };
    rate.map_or(new.clone(), |rate| new.limit(rate.limit()))
}

fn setting<T, U>(own: Said<T>, of: impl Fn(T) -> U) -> Setting<U> {
    match own {
        Said::Default => Setting::Default,
        Said::Unlimited => Setting::Unlimited,
        Said::Own(own) => Setting::Own(of(own)),
    }
}

struct World {
    dir: tempfile::TempDir,
    path: std::path::PathBuf,
    clock: ManualClock,
    options: Options,
    engine: Engine,
    model: Model,
    /// The id and the token of each, as it was rotated last, and its owner.
    keys: Vec<(KeyId, String, usize)>,
    open: Vec<(Charge, Open)>,
    /// The quotas that a level has had by default: another is one that it has not had.
    defaults: [(Defaults, Vec<Sold>); 3],
}

type Checked = Result<(), TestCaseError>;

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.redb");
        let clock = ManualClock::at(at(HOUR_MS));
        let options = Options::new().clock(clock.clone()).usage_interval(None);
        let engine = options.clone().create(&path).unwrap();
        let new = NewKeyspace::new("acme_live").unwrap();
        let plans = 0..PLANS.len();
        let new = plans.fold(new, |new, plan| new.plan(plan_of(plan, None)));
        engine.create_keyspace(new).unwrap();
        let mut world = Self {
            dir,
            path,
            clock,
            options,
            engine,
            model: Model::at(at(HOUR_MS).unix_ms()),
            keys: Vec::new(),
            open: Vec::new(),
            defaults: Default::default(),
        };
        for owner in ANCHORS {
            world.issue(owner).unwrap();
        }
        world
    }

    fn token(&self, key: usize) -> &str {
        &self.keys[key].1
    }

    fn level(&self, key: usize, at: At) -> Level {
        match at {
            At::Owner(owner) => {
                let mut path = path(self.keys[key].2);
                let depth = path.position(|above| above == owner).unwrap() + 1;
                Level::Owner(u8::try_from(depth).unwrap())
            }
            At::Key(..) => Level::Key,
        }
    }

    /// A key that is not revoked.
    fn living(&self, pick: usize) -> usize {
        let living = (0..self.keys.len()).filter(|key| self.model.is_alive(*key));
        let living: Vec<usize> = living.collect();
        living[pick % living.len()]
    }

    fn check_left(&self, key: usize, limits: &[LimitStatus], quotas: &[QuotaLeft]) -> Checked {
        let charged = self.model.charged(key);
        let expected = charged.limits.iter().map(|limit| {
            let left = self.model.left_of(*limit).max(0);
            (self.level(key, limit.0), limit.1.limit(), left)
        });
        let told = limits
            .iter()
            .map(|left| (left.level(), left.limit(), i64::from(left.remaining())));
        prop_assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let expected = charged.quotas.iter().map(|(at, _)| {
            let left = self.model.quota(*at).left;
            (self.level(key, *at), left.max(0), (-left).max(0))
        });
        let told = quotas.iter().map(|left| {
            let of = left.status();
            let (left_of_it, owed) = (of.remaining.cast_signed(), of.owed.cast_signed());
            (left.level(), left_of_it, owed)
        });
        prop_assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        Ok(())
    }

    fn check_denial(
        &self,
        key: usize,
        denial: Option<&Denial>,
        expected: Option<&(&'static str, Vec<At>)>,
        cost: u32,
    ) -> Checked {
        let code = denial.map(Denial::code);
        prop_assert_eq!(code, expected.map(|expected| expected.0));
        let told = match denial {
            Some(Denial::RateLimited { status, .. }) => status.level(),
            Some(Denial::QuotaExhausted { level, .. }) => *level,
            _ => return Ok(()),
        };
        let refusing = expected.map_or(&[][..], |expected| &expected.1);
        let mut refusing = refusing.iter().map(|at| self.level(key, *at));
        prop_assert!(refusing.any(|level| level == told), "{:?}", told);
        self.check_wait(key, cost, denial)
    }

    /// A request at the instant that a denial tells is granted, and none is before.
    fn check_wait(&self, key: usize, cost: u32, denial: Option<&Denial>) -> Checked {
        let now = self.clock.now();
        let wait = match denial {
            Some(Denial::RateLimited { retry_after, .. }) => *retry_after,
            Some(Denial::QuotaExhausted { refills_at, .. }) => {
                refills_at.map(|at| at.saturating_since(now))
            }
            _ => return Ok(()),
        };
        let is_granted = |after: u64| {
            let mut then = self.model.clone();
            then.pass(after);
            then.refusing(key, cost).is_none()
        };
        match wait.map(|wait| u64::try_from(wait.as_millis()).unwrap()) {
            Some(wait) => {
                prop_assert!(is_granted(wait), "{denial:?}");
                prop_assert!(!is_granted(wait - 1), "{denial:?}");
            }
            // A month later than ever.
            None => prop_assert!(!is_granted(31 * 24 * HOUR_MS), "{denial:?}"),
        }
        Ok(())
    }

    fn ask(&mut self, pick: usize, cost: u32, later: bool) -> Checked {
        let key = self.living(pick);
        let mut asked = Requirements::new().cost(cost);
        if later {
            asked = asked.settled_later();
        }
        self.model.meet(key);
        let expected = self.model.refusing(key, cost);
        // The dry run says what the verification does.
        let dry = self.engine.dry_run(self.token(key), &asked).unwrap();
        self.check_denial(key, dry.denial.as_ref(), expected.as_ref(), cost)?;
        self.check_left(key, &dry.limits, &dry.quotas)?;
        let verdict = self.engine.verify_with(self.token(key), &asked).unwrap();
        self.check_denial(key, verdict.denial(), expected.as_ref(), cost)?;
        if let Verdict::Granted(grant) = verdict {
            let open = self.model.charge(key, cost);
            prop_assert_eq!(grant.charge().is_some(), later);
            self.open
                .extend(grant.charge().map(|charge| (charge.clone(), open)));
        }
        // Of a request that was refused, nothing is charged at any level.
        let id = self.keys[key].0;
        let limits = self.engine.limits_left(id).unwrap();
        let quotas = self.engine.quotas_left(id).unwrap();
        self.check_left(key, &limits, &quotas)
    }

    fn update(&self, owner: usize, update: OwnerUpdate) {
        let owner = OWNERS[owner].0;
        self.engine
            .update_owner("acme_live", owner, update)
            .unwrap();
    }

    fn issue(&mut self, owner: usize) -> Checked {
        let new = NewKey::new("acme_live", OWNERS[owner].0).unwrap();
        match (self.engine.issue(new), self.model.has_room(owner)) {
            (Ok(issued), true) => {
                let token = issued.token.expose().to_owned();
                self.keys.push((issued.key.id, token, owner));
                self.model.issue(owner);
            }
            (Err(Error::Conflict(Conflict::OwnerAtCap { .. })), false) => {}
            (other, has_room) => prop_assert!(false, "{has_room}: {other:?}"),
        }
        Ok(())
    }

    fn set_defaults(
        &mut self,
        depth: usize,
        plan: Option<usize>,
        quota: Option<Option<Sold>>,
        cap: Option<u32>,
    ) {
        let (known, had) = &mut self.defaults[depth - 1];
        let quota = match quota {
            None => known.quota,
            // A quota that a level had before is the one that it had, where nobody has
            // spent since.
            Some(quota) => quota.map(|quota| {
                let had = |requests| had.iter().any(|had| had.requests == requests);
                let requests = (quota.requests..).find(|requests| !had(*requests));
                Sold {
                    requests: requests.unwrap(),
                    ..quota
                }
            }),
        };
        had.extend(quota);
        *known = Defaults { plan, quota, cap };
        let mut defaults = LevelDefaults::new();
        if let Some(plan) = plan {
            defaults = defaults.plan(PLANS[plan]);
        }
        if let Some(sold) = quota {
            defaults = defaults.quota(self::quota(sold));
        }
        if let Some(cap) = cap {
            defaults = defaults.cap(cap);
        }
        let update = KeyspaceUpdate::new().owner_defaults(depth, defaults);
        self.engine.update_keyspace("acme_live", update).unwrap();
        self.model.set_defaults(depth, *known);
    }

    fn stop(&mut self, crash: bool) -> Checked {
        if crash {
            let copy = self.dir.path().join("crash.redb");
            std::fs::copy(&self.path, &copy).unwrap();
            std::fs::rename(&copy, &self.path).unwrap();
        } else {
            self.engine.clone().close().unwrap();
        }
        self.engine = self.options.clone().open(&self.path).unwrap();
        self.open.clear();
        self.model.stop();
        for key in 0..self.keys.len() {
            if !self.model.is_alive(key) {
                continue;
            }
            let told = self.engine.quotas_left(self.keys[key].0).unwrap();
            let charged = self.model.charged(key);
            prop_assert_eq!(told.len(), charged.quotas.len());
            for ((at, _), told) in charged.quotas.iter().zip(told) {
                let told = told.status();
                let told = told.remaining.cast_signed() - told.owed.cast_signed();
                let left = self.model.quota(*at).left;
                prop_assert!(
                    told <= left,
                    "a stop enlarged {:?}: {} of {}",
                    at,
                    told,
                    left
                );
                prop_assert!(crash || told == left, "{:?}: {} of {}", at, told, left);
                self.model.set_left(*at, told);
            }
        }
        Ok(())
    }

    /// Settles no more what was charged to a key that was rotated: where its successor has
    /// another plan or quota since, or it is purged, the two are no longer alike.
    fn drop_charges_of_rotated(&mut self, key: usize) {
        let id = self.keys[key].0;
        (self.open).retain(|(charge, open)| open.key != key || charge.key_id() == id);
    }

    fn take(&mut self, step: Step) -> Checked {
        match step {
            Step::Ask(key, cost, later) => return self.ask(key, cost, later),
            Step::Settle(charge, cost) => {
                let Some(at) = charge.checked_rem(self.open.len()) else {
                    return Ok(());
                };
                let (charge, open) = &mut self.open[at];
                self.engine.settle(charge, cost).unwrap();
                prop_assert_eq!(charge.cost(), cost);
                self.model.settle(open, cost);
            }
            Step::Plan(plan, limit) => {
                let update = KeyspaceUpdate::new().plan(plan_of(plan, limit));
                self.engine.update_keyspace("acme_live", update).unwrap();
                self.model.set_plan(plan, limit);
            }
            Step::Defaults(depth, plan, quota, cap) => self.set_defaults(depth, plan, quota, cap),
            Step::OwnerPlan(owner, plan) => {
                let plan_name = plan.map(|plan| PLANS[plan]);
                self.update(owner, OwnerUpdate::new().plan(plan_name));
                self.model.set_owner_plan(owner, plan);
            }
            Step::OwnerLimits(owner, limits) => {
                let update = match limits {
                    None => OwnerUpdate::new().limits_of_plan(),
                    Some(limit) => OwnerUpdate::new().limits(limit.map(Rate::limit)),
                };
                self.update(owner, update);
                self.model.set_owner_limits(owner, limits);
            }
            Step::OwnerQuota(owner, quota) => {
                let update = OwnerUpdate::new().quota(setting(quota, self::quota));
                self.update(owner, update);
                self.model.set_owner_quota(owner, quota);
            }
            Step::OwnerCap(owner, cap) => {
                self.update(owner, OwnerUpdate::new().cap(setting(cap, |cap| cap)));
                self.model.set_owner_cap(owner, cap);
            }
            Step::Key(key, plan, quota) => {
                let key = self.living(key);
                let update = KeyUpdate::new()
                    .plan(plan.map(|plan| PLANS[plan]))
                    .quota(quota.map(self::quota));
                self.engine.update(self.keys[key].0, update).unwrap();
                self.model.set_key(key, plan, quota);
                self.drop_charges_of_rotated(key);
            }
            Step::Rotate(key) => {
                let key = self.living(key);
                let (id, token, _) = &mut self.keys[key];
                let rotated = self.engine.rotate(*id, Rotation::at_once()).unwrap();
                (*id, *token) = (rotated.key.id, rotated.token.expose().to_owned());
                self.model.rotate(key);
            }
            Step::Pass(ms) => {
                self.clock.advance(Duration::from_millis(ms));
                self.model.pass(ms);
            }
            Step::Issue(owner) => return self.issue(owner),
            Step::Revoke(key) => {
                // Not one of those that stay.
                let others =
                    (ANCHORS.len()..self.keys.len()).filter(|key| self.model.is_alive(*key));
                let others: Vec<usize> = others.collect();
                if let Some(at) = key.checked_rem(others.len()) {
                    let key = others[at];
                    let id = self.keys[key].0;
                    self.engine.revoke(id, Reason::Cessation).unwrap();
                    self.model.revoke(key);
                }
            }
            Step::Purge => {
                self.take(Step::Pass(1_000))?;
                let purged = self.engine.purge(Duration::ZERO).unwrap();
                prop_assert_eq!(purged.keys, self.model.purge());
                (0..self.keys.len()).for_each(|key| self.drop_charges_of_rotated(key));
            }
            Step::Reopen => return self.stop(false),
            Step::Crash => return self.stop(true),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    /// No level is ever over, what one level refuses is charged to no other, a dry run says
    /// what a verification does, what is told to be left is left, and no stop enlarges a quota.
    #[test]
    fn tiers_do_what_their_model_says(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step)?;
        }
        for key in 0..ANCHORS.len() {
            let id = world.keys[key].0;
            let limits = world.engine.limits_left(id).unwrap();
            let quotas = world.engine.quotas_left(id).unwrap();
            world.check_left(key, &limits, &quotas)?;
        }
        prop_assert!(world.engine.check().unwrap().is_sound());
    }
}
