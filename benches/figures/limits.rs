//! What limits and quotas cost a verification: over keys at random, each its own owner
//! below a thousand organisations, beside the same keys without any.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

use gatekey::{Engine, LevelDefaults, Limit, NewKey, NewKeyspace, Options, Plan, Quota, Refill};

use crate::world::{Floor, lay_out};
use crate::{BATCH, Run, compare, granted, median, print, throughput};

pub(crate) const KEYS: usize = 50_000;
const ORGANISATIONS: usize = 1_000;
/// So many requests that none is refused.
const MANY: u32 = 4_000_000_000;
/// Over the same keys without, and over the floor of the same tokens.
const LIMITED: [&str; 2] = ["verify_limited_over_plain", "verify_limited_over_floor"];
const THREE_LEVELS: [&str; 2] = [
    "verify_three_levels_over_plain",
    "verify_three_levels_over_floor",
];
const QUOTA: [&str; 2] = ["verify_quota_over_plain", "verify_quota_over_floor"];
const HOT_OWNER: [&str; 1] = ["verify_hot_owner_threads_2_speedup"];
const COUNTERS: [&str; 2] = [
    "verify_two_counters_over_plain",
    "verify_three_counters_over_plain",
];

/// The least that two limits of a level can be: two counts under a lock, in a cache line of
/// their own.
#[derive(Default)]
#[repr(align(64))]
struct Line(Mutex<[u64; 2]>);

impl Line {
    fn touch(&self) {
        black_box(self.0.is_poisoned());
    }

    fn count(&self) {
        let mut counts = self.0.lock().unwrap();
        assert!(counts.iter().all(|count| *count < u64::from(MANY)));
        counts.iter_mut().for_each(|count| *count += 1);
    }
}

/// An engine, and its tokens in a random order, the same for all.
pub(crate) struct Place {
    pub(crate) engine: Engine,
    all: Vec<String>,
    pool: Vec<&'static str>,
}

impl Place {
    pub(crate) fn new(
        organisations: usize,
        keyspace: impl FnOnce(NewKeyspace) -> NewKeyspace,
        key: impl Fn(NewKey) -> NewKey,
    ) -> Self {
        // Room for a meter of each level of each key.
        let options = Options::new().limited_keys(KEYS * 4);
        let engine = options.open_in_memory().unwrap();
        let new = NewKeyspace::new("acme_live").unwrap();
        let new = new.permissions(["read", "write"]);
        engine.create_keyspace(keyspace(new)).unwrap();
        let spec = |at: usize| {
            let owner = format!(
                "customer-{}/project-{}/etl-bot-{at}",
                at % organisations,
                at / organisations % 6,
            );
            key(NewKey::new("acme_live", owner)
                .unwrap()
                .permissions(["read"]))
        };
        let mut tokens = Vec::with_capacity(KEYS);
        for from in (0..KEYS).step_by(BATCH) {
            let batch = (from..KEYS.min(from + BATCH)).map(spec).collect();
            let issued = engine.issue_batch(batch).unwrap();
            tokens.extend(issued.iter().map(|key| key.token.expose().to_owned()));
        }
        let pool = lay_out(&tokens, 11);
        let place = Self {
            engine,
            all: tokens,
            pool,
        };
        // Twice: while its table grows, it forgets.
        (0..2 * KEYS).for_each(|at| place.verify(at));
        place
    }

    pub(crate) fn verify(&self, at: usize) {
        granted(&self.engine, self.pool[at % KEYS]);
    }
}

fn hourly() -> Limit {
    Limit::per_hour(MANY).fixed()
}

pub(crate) fn limits(run: &Run) {
    let all = [&LIMITED[..], &THREE_LEVELS, &QUOTA, &HOT_OWNER, &COUNTERS];
    if !run.wants(&all.concat()) {
        return;
    }
    let plain = Place::new(ORGANISATIONS, |new| new, |key| key);
    let floor = Floor::over(&plain.all, &plain.pool);
    let over_both = |names: &[&str; 2], place: &Place| {
        let verify = |at: usize| place.verify(at);
        let ratio = |name: &str, other: &mut dyn FnMut(usize)| {
            let (_, _, ratio) = compare(run.rounds(), 20_000, verify, other);
            print(name, ratio, "ratio");
        };
        ratio(names[0], &mut |at| plain.verify(at));
        ratio(names[1], &mut |at| floor.check(at));
    };
    if run.wants(&LIMITED) {
        let both = Plan::new("both")
            .limit(hourly())
            .limit(Limit::per_second(MANY));
        let of_key = |new: NewKeyspace| new.plan(both).default_plan("both");
        over_both(&LIMITED, &Place::new(ORGANISATIONS, of_key, |key| key));
    }
    if run.wants(&COUNTERS) {
        // Found by numbers: as the keys lie, they are no neighbours. A key's own, those of
        // projects and those of organisations.
        let lines = [KEYS, 6 * ORGANISATIONS, ORGANISATIONS]
            .map(|len| (0..len).map(|_| Line::default()).collect::<Vec<_>>());
        let line = |at: usize, of: &Vec<Line>| at % KEYS * 7_919 % KEYS % of.len();
        for (name, lines) in COUNTERS.iter().zip([&lines[..1], &lines]) {
            let (_, _, ratio) = compare(
                run.rounds(),
                20_000,
                |at| {
                    lines.iter().for_each(|of| of[line(at, of)].touch());
                    plain.verify(at);
                    lines.iter().for_each(|of| of[line(at, of)].count());
                },
                |at| plain.verify(at),
            );
            print(name, ratio, "ratio");
        }
    }
    if run.wants(&THREE_LEVELS) {
        let of_levels = |new: NewKeyspace| {
            let new = new.plan(Plan::new("tier").limit(hourly()));
            (1..=3).fold(new, |new, level| {
                new.owner_defaults(level, LevelDefaults::new().plan("tier"))
            })
        };
        over_both(
            &THREE_LEVELS,
            &Place::new(ORGANISATIONS, of_levels, |key| key),
        );
    }
    if run.wants(&QUOTA) {
        // A slice is a thousand requests, and no key is used as often.
        let quota = Quota::new(Quota::REQUESTS_MAX).refilled(Refill::Monthly);
        let of_key = |key: NewKey| key.quota(quota);
        over_both(&QUOTA, &Place::new(ORGANISATIONS, |new| new, of_key));
    }
    if run.wants(&HOT_OWNER) {
        let of_level = |new: NewKeyspace| {
            new.plan(Plan::new("tier").limit(hourly()))
                .owner_defaults(1, LevelDefaults::new().plan("tier"))
        };
        let hot = Place::new(1, of_level, |key| key);
        let time = Duration::from_millis(if run.quick { 150 } else { 500 });
        let work = |at: usize| hot.verify(at);
        let mut ratios: Vec<f64> = (0..if run.quick { 5 } else { 11 })
            .map(|_| {
                let one = throughput(1, time, work);
                throughput(2, time, work) / one
            })
            .collect();
        print(HOT_OWNER[0], median(&mut ratios), "ratio");
    }
}
