//! Requests of keys whose organisations, owners and plans have limits and quotas, drawn at
//! random, beside changes of these; and what each told, by limit and by quota.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gatekey::{
    Algorithm, Charge, Denial, Engine, KeyId, KeyUpdate, KeyspaceUpdate, Level, Limit, ManualClock,
    NewKey, NewKeyspace, Options, OwnerUpdate, Plan, Quota, Requirements, Timestamp, Verdict,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::counted::{CHARGES, Call, Counted, Step, is_explained};

/// The owners, each with itself and those above it: places in this list.
const OWNERS: [(&str, &[usize]); 4] = [
    ("acme", &[0]),
    ("acme/a", &[0, 1]),
    ("acme/b", &[0, 2]),
    ("umbrella", &[3]),
];
/// Whose the keys are. The first has a limit of its own that refuses most that it asks.
const KEYS: [usize; 4] = [1, 1, 2, 3];
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Fixed, Algorithm::Sliding, Algorithm::Bucket];

/// Where something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Owner(usize),
    Key(usize),
}

/// What is counted there. Where limits are switched, a level has one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Limit(usize),
    Quota,
}

type Place = (At, Of);

/// What is changed in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The numbers of an owner's limits: what was counted counts on.
    Limits,
    /// Those of the plan that an organisation and the keys below it follow.
    Plan,
    /// Which plan a key follows: each counts apart.
    KeyPlan,
    /// The algorithm of an owner's limit: nothing carries over.
    Algorithm,
    /// An organisation's quota, which is full then.
    Quota,
}

const CHANGES: [Change; 5] = [
    Change::Limits,
    Change::Plan,
    Change::KeyPlan,
    Change::Algorithm,
    Change::Quota,
];

/// What a call told.
#[derive(Debug)]
pub(crate) struct Made {
    told: Told,
    begun: u64,
    ended: u64,
}

#[derive(Debug)]
enum Told {
    Admitted {
        key: usize,
        cost: u32,
        charge: Option<usize>,
    },
    Refused {
        by: Place,
        cost: u32,
    },
    Settled {
        key: usize,
        charge: usize,
        cost: u32,
    },
    Changed(Vec<(Place, Step)>),
}

/// What a history is of.
pub(crate) struct World {
    engine: Engine,
    keys: Vec<(KeyId, String)>,
    change: Change,
    /// What each place has before the first call.
    begin: BTreeMap<Place, Counted>,
    /// How many requests are to be settled later, and those that can be.
    later: AtomicUsize,
    charges: Mutex<[Option<(Charge, usize)>; CHARGES]>,
    ticks: AtomicU64,
}

/// A limit of a kind: an algorithm, of an hour or of a minute.
fn limit(kind: usize, number: u32) -> Limit {
    let window = Duration::from_secs(if kind < ALGORITHMS.len() { 3_600 } else { 60 });
    let limit = |requests| Limit::new(requests, window).unwrap();
    match ALGORITHMS[kind % ALGORITHMS.len()] {
        Algorithm::Fixed => limit(number).fixed(),
        Algorithm::Bucket => limit(1_000).bucket(number),
        _ => limit(number),
    }
}

fn kind_of(limit: Limit) -> usize {
    let algorithm = ALGORITHMS.iter().position(|at| *at == limit.algorithm());
    let is_of_a_minute = limit.window() < Duration::from_secs(3_600);
    algorithm.unwrap() + usize::from(is_of_a_minute) * ALGORITHMS.len()
}

impl World {
    /// The options of an engine in which no window ends.
    pub(crate) fn options() -> Options {
        // The beginning of an hour.
        let instant = Timestamp::from_unix_ms(1_767_225_600_000).unwrap();
        Options::new()
            .clock(ManualClock::at(instant))
            .resident_bytes(1 << 14)
            .cache_bytes(1 << 20)
            .usage_interval(None)
    }

    pub(crate) fn new(engine: Engine, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let change = CHANGES[usize::try_from(seed).unwrap() % CHANGES.len()];
        let mut world = Self {
            engine,
            keys: Vec::new(),
            change,
            begin: BTreeMap::new(),
            later: AtomicUsize::new(if change.leaves_charges() { 0 } else { CHARGES }),
            charges: Mutex::default(),
            ticks: AtomicU64::new(0),
        };
        let plan = |name: &str, limits: &[Limit]| {
            let plan = Plan::new(name);
            limits.iter().fold(plan, |plan, limit| plan.limit(*limit))
        };
        // The same numbers hold at its level and at those of keys: so it is wide.
        let tier = world.draw_limits(&mut random, 8..16);
        let tiny = [limit(random.random_range(0..3), 2)];
        let other = [limit(random.random_range(0..3), 5)];
        let new = NewKeyspace::new("acme").unwrap();
        let new = new
            .plan(plan("tier", &tier))
            .plan(plan("tiny", &tiny))
            .plan(plan("other", &other));
        world.engine.create_keyspace(new).unwrap();
        for (at, (owner, path)) in OWNERS.iter().enumerate() {
            let mut update = OwnerUpdate::new();
            let follows = at == 0 && change == Change::Plan;
            let limits = match follows {
                true => tier.clone(),
                false => {
                    world.draw_limits(&mut random, if path.len() == 1 { 9..24 } else { 7..14 })
                }
            };
            world.begin_with(At::Owner(at), &limits);
            update = match follows {
                true => update.plan("tier"),
                false => update.limits(limits),
            };
            if random.random_bool(0.4) || at == 0 && change == Change::Quota {
                let quota = random.random_range(7..20);
                world
                    .begin
                    .insert((At::Owner(at), Of::Quota), Counted::new(quota));
                update = update.quota(Quota::new(quota.into()));
            }
            world.engine.update_owner("acme", *owner, update).unwrap();
        }
        for (at, owner) in KEYS.iter().enumerate() {
            let (plan, limits) = match at {
                0 => ("tiny", &tiny[..]),
                _ => ("tier", &tier[..]),
            };
            world.begin_with(At::Key(at), limits);
            let mut new = NewKey::new("acme", OWNERS[*owner].0).unwrap().plan(plan);
            if random.random_bool(0.3) {
                let quota = random.random_range(3..12);
                world
                    .begin
                    .insert((At::Key(at), Of::Quota), Counted::new(quota));
                new = new.quota(Quota::new(quota.into()));
            }
            let issued = world.engine.issue(new).unwrap();
            world
                .keys
                .push((issued.key.id, issued.token.expose().to_owned()));
        }
        world
    }

    fn begin_with(&mut self, at: At, limits: &[Limit]) {
        for limit in limits {
            let place = (at, self.of(*limit));
            self.begin.insert(place, Counted::new(limit.capacity()));
        }
    }

    /// Limits of one algorithm or of several.
    fn draw_limits(&self, random: &mut StdRng, numbers: std::ops::Range<u32>) -> Vec<Limit> {
        let first = random.random_range(0..3);
        let count = match self.change {
            Change::KeyPlan | Change::Algorithm => 1,
            _ => random.random_range(1..3),
        };
        let algorithms = (first..first + count).map(|at| at % 3);
        algorithms
            .map(|at| limit(at, random.random_range(numbers.clone())))
            .collect()
    }

    fn of(&self, limit: Limit) -> Of {
        Of::Limit(match self.change {
            Change::KeyPlan | Change::Algorithm => 0,
            _ => kind_of(limit),
        })
    }

    fn at(&self, key: usize, level: Level) -> At {
        match level {
            Level::Owner(depth) => At::Owner(OWNERS[KEYS[key]].1[usize::from(depth) - 1]),
            _ => At::Key(key),
        }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn make(&self, call: impl FnOnce() -> Told) -> Made {
        let begun = self.tick();
        let told = call();
        let ended = self.tick();
        Made { told, begun, ended }
    }

    /// A request, or a settlement of one.
    pub(crate) fn ask(&self, random: &mut StdRng) -> Made {
        let charges = self.charges.lock().unwrap().clone();
        let open: Vec<usize> = (0..CHARGES).filter(|at| charges[*at].is_some()).collect();
        if !open.is_empty() && random.random_bool(0.6) {
            // Mostly the first, which others settle too.
            let at = match random.random_bool(0.5) {
                true => open[0],
                false => open[random.random_range(0..open.len())],
            };
            let cost = random.random_range(0..9);
            let (charge, key) = charges[at].as_ref().unwrap();
            return self.make(|| {
                self.engine.settle(charge, cost).unwrap();
                let (key, charge) = (*key, at);
                Told::Settled { key, charge, cost }
            });
        }
        let key = random.random_range(0..KEYS.len());
        let cost = match key {
            0 => random.random_range(1..9),
            _ => random.random_range(1..5),
        };
        let mut asked = Requirements::new().cost(cost);
        let mut later = None;
        if random.random_bool(0.6) {
            let place = self.later.fetch_add(1, Ordering::SeqCst);
            later = Some(place).filter(|place| *place < CHARGES);
        }
        if later.is_some() {
            asked = asked.settled_later();
        }
        self.make(|| {
            let verdict = self.engine.verify_with(&self.keys[key].1, &asked).unwrap();
            let by = match verdict {
                Verdict::Granted(grant) => {
                    let charge = later.zip(grant.charge());
                    if let Some((place, charge)) = charge {
                        self.charges.lock().unwrap()[place] = Some((charge.clone(), key));
                    }
                    let charge = charge.map(|(place, _)| place);
                    return Told::Admitted { key, cost, charge };
                }
                Verdict::Denied(Denial::RateLimited { status, .. }) => {
                    (self.at(key, status.level()), self.of(status.limit()))
                }
                Verdict::Denied(Denial::QuotaExhausted { level, .. }) => {
                    (self.at(key, level), Of::Quota)
                }
                other => panic!("{other:?}"),
            };
            Told::Refused { by, cost }
        })
    }

    /// A change of what is charged.
    pub(crate) fn change(&self, random: &mut StdRng) -> Made {
        let numbers = 4..24;
        match self.change {
            Change::Limits => {
                let owner = random.random_range(0..2);
                let number = random.random_range(numbers);
                self.make(|| Told::Changed(self.set_owner(owner, number)))
            }
            Change::Plan => {
                let number = random.random_range(numbers);
                self.make(|| Told::Changed(self.set_plan(number)))
            }
            Change::KeyPlan => {
                let key = random.random_range(1..KEYS.len());
                let to = random.random_range(0..2);
                let name = ["tier", "other"][to];
                let keyspace = self.engine.keyspace("acme").unwrap();
                let plans = keyspace.plans.iter();
                let plan = plans.into_iter().find(|plan| plan.name == name).unwrap();
                let of = plan.limits[0].capacity();
                let update = KeyUpdate::new().plan(name);
                self.make(|| {
                    self.engine.update(self.keys[key].0, update).unwrap();
                    let anew = false;
                    let step = Step::Switched { to, of, anew };
                    Told::Changed(vec![((At::Key(key), Of::Limit(0)), step)])
                })
            }
            Change::Algorithm => {
                let owner = random.random_range(0..2);
                // Another than any before: one that comes back before a request met the one
                // between has what it had counted.
                let next = (kind_of(self.limits_of(owner)[0]) + 1) % (2 * ALGORITHMS.len());
                let new = limit(next, random.random_range(numbers));
                let update = OwnerUpdate::new().limits([new]);
                self.make(|| {
                    self.engine
                        .update_owner("acme", OWNERS[owner].0, update)
                        .unwrap();
                    let (of, anew) = (new.capacity(), true);
                    let step = Step::Switched { to: 0, of, anew };
                    Told::Changed(vec![((At::Owner(owner), Of::Limit(0)), step)])
                })
            }
            Change::Quota => {
                let of = random.random_range(numbers);
                let update = OwnerUpdate::new().quota(Quota::new(of.into()));
                self.make(|| {
                    self.engine
                        .update_owner("acme", OWNERS[0].0, update)
                        .unwrap();
                    let anew = true;
                    let step = Step::Switched { to: 0, of, anew };
                    Told::Changed(vec![((At::Owner(0), Of::Quota), step)])
                })
            }
        }
    }

    fn limits_of(&self, owner: usize) -> Vec<Limit> {
        let settings = self.engine.owner_settings("acme", OWNERS[owner].0).unwrap();
        settings.limits.unwrap_or_default()
    }

    /// Gives the limits of an owner other numbers.
    fn set_owner(&self, owner: usize, number: u32) -> Vec<(Place, Step)> {
        let had = self.limits_of(owner);
        let limits = had.iter().map(|had| limit(kind_of(*had), number));
        let update = OwnerUpdate::new().limits(limits);
        self.engine
            .update_owner("acme", OWNERS[owner].0, update)
            .unwrap();
        let step = Step::Changed { of: number };
        let places = had.iter().map(|limit| (At::Owner(owner), self.of(*limit)));
        places.map(|place| (place, step)).collect()
    }

    /// Gives the limits of the plan of most keys other numbers.
    fn set_plan(&self, number: u32) -> Vec<(Place, Step)> {
        let keyspace = self.engine.keyspace("acme").unwrap();
        let had = keyspace
            .plans
            .iter()
            .find(|plan| plan.name == "tier")
            .unwrap();
        let mut plan = Plan::new("tier");
        for had in &had.limits {
            plan = plan.limit(limit(kind_of(*had), number));
        }
        let update = KeyspaceUpdate::new().plan(plan);
        self.engine.update_keyspace("acme", update).unwrap();
        let mut follow: Vec<At> = (1..KEYS.len()).map(At::Key).collect();
        if self.change == Change::Plan {
            follow.push(At::Owner(0));
        }
        let step = Step::Changed { of: number };
        let of = |at| {
            had.limits
                .iter()
                .map(move |limit| ((at, self.of(*limit)), step))
        };
        follow.into_iter().flat_map(of).collect()
    }

    /// Checks what was told of each limit and each quota, and what is left of it. Says how
    /// many requests were refused.
    pub(crate) fn check(&self, mut made: Vec<Made>) -> usize {
        if self.change.leaves_charges() {
            // So that what was charged beyond a limit is seen in what is left of it.
            made.push(self.make(|| {
                let owners = (0..OWNERS.len()).filter(|at| !self.limits_of(*at).is_empty());
                let changed = owners.flat_map(|owner| self.set_owner(owner, 500));
                Told::Changed(changed.collect())
            }));
            made.push(self.make(|| Told::Changed(self.set_plan(500))));
        }
        made.sort_by_key(|made| made.begun);
        let mut calls: BTreeMap<Place, Vec<Call>> = BTreeMap::new();
        let mut refusals = 0;
        for Made { told, begun, ended } in &made {
            let mut add = |place, step| {
                let (begun, ended) = (*begun, *ended);
                let calls = calls.entry(place).or_default();
                calls.push(Call { step, begun, ended });
            };
            let places = |key| self.places(key);
            match *told {
                Told::Admitted { key, cost, charge } => {
                    places(key).for_each(|at| add(at, Step::Admitted { cost, charge }));
                }
                Told::Settled { key, charge, cost } => {
                    places(key).for_each(|at| add(at, Step::Settled { charge, cost }));
                }
                Told::Refused { by, cost } => {
                    refusals += 1;
                    add(by, Step::Refused { cost });
                }
                Told::Changed(ref steps) => steps.iter().for_each(|(at, step)| add(*at, *step)),
            }
        }
        let left = self.left();
        let charges = self.charges.lock().unwrap().clone();
        for (place, begin) in &self.begin {
            let calls = calls.get(place).map_or(&[][..], Vec::as_slice);
            let left = left[place];
            let is_end = |end: &Counted| {
                let is_charged = |(at, (charge, key)): (usize, &(Charge, usize))| {
                    let is_its = self.places(*key).any(|other| other == *place);
                    !is_its || end.charged(at) == charge.cost()
                };
                let charges = charges.iter().enumerate();
                let mut charges = charges.filter_map(|(at, charge)| Some((at, charge.as_ref()?)));
                let end_left = match place.1 {
                    Of::Limit(_) => end.left().max(0),
                    Of::Quota => end.left(),
                };
                end_left == left && charges.all(is_charged)
            };
            assert!(
                is_explained(*begin, calls, is_end),
                "{:?}: {place:?} begins as {begin:?}, and {left} are left: {calls:#?}",
                self.change
            );
        }
        refusals
    }

    /// To what a key is charged.
    fn places(&self, key: usize) -> impl Iterator<Item = Place> {
        let is_of = move |at: At| match at {
            At::Owner(owner) => OWNERS[KEYS[key]].1.contains(&owner),
            At::Key(other) => other == key,
        };
        let places = self.begin.keys().copied();
        places.filter(move |(at, _)| is_of(*at))
    }

    /// What is left of each limit and each quota.
    fn left(&self) -> BTreeMap<Place, i64> {
        let mut left = BTreeMap::new();
        for (key, (id, _)) in self.keys.iter().enumerate() {
            for told in self.engine.limits_left(*id).unwrap() {
                let place = (self.at(key, told.level()), self.of(told.limit()));
                left.insert(place, i64::from(told.remaining()));
            }
            for told in self.engine.quotas_left(*id).unwrap() {
                let of = told.status();
                let remaining = of.remaining.cast_signed() - of.owed.cast_signed();
                left.insert((self.at(key, told.level()), Of::Quota), remaining);
            }
        }
        left
    }
}

impl Change {
    /// Whether it leaves what was charged where it was: only then is anything settled.
    fn leaves_charges(self) -> bool {
        matches!(self, Self::Limits | Self::Plan)
    }
}
