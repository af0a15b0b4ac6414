//! What a limit, a plan and a quota mean: all that the model knows of them, and nothing
//! of keys, verbs and the engine.
//!
//! A request is charged to [`Meters`]: to all limits of a plan and to a quota, or to
//! nothing. Instants are milliseconds after the start of the clock, which is two minutes
//! before the first midnight of a February.

use std::collections::BTreeMap;

use super::op::{Period, QuotaSpec};

/// So many requests, in a window of so many milliseconds.
pub(crate) type Limit = (u32, i64);

const DAY: i64 = 86_400_000;
/// Midnight before the first of a month.
const MIDNIGHT: i64 = 120_000;
/// The months after it, in days: from the first of February on.
const MONTHS: [i64; 7] = [0, 28, 59, 89, 120, 150, 181];

/// The most of a quota that memory has: all that a crash loses.
pub(crate) const SLICE: u64 = 10;

/// Everything that is counted.
pub(crate) struct Meters<S> {
    /// By who is counted, and under which plan. Not durable.
    counters: BTreeMap<(S, u8), Counters>,
    /// By their number, which a key has, and its successors with it.
    pub(crate) quotas: Vec<Quota>,
}

/// Why a request is not charged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unpaid {
    Limited(Limited),
    /// The quota has too little left, until it is refilled.
    Exhausted(Option<i64>),
}

/// Where a request leaves a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    pub(crate) limit: Limit,
    pub(crate) remaining: i64,
    pub(crate) resets_at: i64,
}

/// Of the limits of a plan, the one with the least left, and that of the longest window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standings {
    pub(crate) tightest: Standing,
    pub(crate) longest: Standing,
}

/// Why a limit refuses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limited {
    pub(crate) standing: Standing,
    /// `None`: no waiting helps.
    pub(crate) wait: Option<i64>,
}

impl<S> Default for Meters<S> {
    fn default() -> Self {
        Self {
            counters: BTreeMap::new(),
            quotas: vec![],
        }
    }
}

impl<S: Ord + Copy> Meters<S> {
    /// Charges a request of a cost to all limits of a plan and to a quota, or to nothing.
    pub(crate) fn charge(
        &mut self,
        plan: Option<(S, u8, &[Limit])>,
        quota: Option<usize>,
        cost: u32,
        now: i64,
    ) -> Result<Option<Standings>, Unpaid> {
        let counted = plan.filter(|(_, _, limits)| !limits.is_empty());
        let mut standings = None;
        if let Some((who, plan, limits)) = counted {
            let counters = self.counters.entry((who, plan)).or_default();
            counters.follow(limits);
            let charged = counters.charge(cost, now).map_err(|limited| {
                // A quota that does not cover it either is waited for too.
                let quota = quota.and_then(|number| self.quotas[number].wait(cost.into(), now));
                let wait = match quota {
                    Some(refill) => limited.wait.zip(refill).map(|(one, other)| one.max(other)),
                    None => limited.wait,
                };
                let standing = Standing {
                    resets_at: wait.map_or(limited.standing.resets_at, |wait| now + wait),
                    ..limited.standing
                };
                Unpaid::Limited(Limited { standing, wait })
            });
            standings = Some(charged?);
        }
        if let (Some(number), true) = (quota, cost > 0)
            && let Err(refill) = self.quotas[number].spend(cost.into(), now)
        {
            if let Some((who, plan, _)) = counted {
                self.counters.get_mut(&(who, plan)).unwrap().give_back(cost);
            }
            return Err(Unpaid::Exhausted(refill));
        }
        Ok(standings)
    }

    pub(crate) fn new_quota(&mut self, spec: QuotaSpec, now: i64) -> usize {
        self.quotas.push(Quota::new(spec, now));
        self.quotas.len() - 1
    }

    /// Forgets what is not durable.
    pub(crate) fn crash(&mut self) {
        self.counters.clear();
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Quota {
    pub(crate) spec: QuotaSpec,
    pub(crate) remaining: u64,
    pub(crate) refills_at: Option<i64>,
    /// Until when what is left was given, where that is later: a clock was wrong.
    given_until: Option<i64>,
}

impl Quota {
    pub(crate) fn new(spec: QuotaSpec, now: i64) -> Self {
        let refills_at = spec.refill.map(|period| match period {
            Period::Day => MIDNIGHT + ((now - MIDNIGHT).div_euclid(DAY) + 1) * DAY,
            Period::Month => {
                let months = MONTHS.into_iter().map(|days| MIDNIGHT + days * DAY);
                let mut later = months.filter(|month| now < *month);
                later.next().expect("few months pass")
            }
        });
        Self {
            spec,
            remaining: spec.requests.into(),
            refills_at,
            given_until: None,
        }
    }

    /// As it reads at an instant: full again, where a refill is due, unless what is left was
    /// given until the next one. A refill that is further away than the second after the next
    /// is the one after the next.
    pub(crate) fn at(&self, now: i64) -> Self {
        let Some(at) = self.refills_at else {
            return self.clone();
        };
        let next = |now| Self::new(self.spec, now).refills_at;
        if now >= at {
            return match self.given_until {
                given if given.is_some() && given == next(now) => Self {
                    refills_at: given,
                    given_until: None,
                    ..self.clone()
                },
                _ => Self::new(self.spec, now),
            };
        }
        let near = next(now).and_then(next);
        match Some(at) > near.and_then(next) {
            true => Self {
                refills_at: near,
                given_until: self.given_until.max(Some(at)),
                ..self.clone()
            },
            false => self.clone(),
        }
    }

    /// How long a cost waits, perhaps for ever, that is not covered now.
    fn wait(&self, cost: u64, now: i64) -> Option<Option<i64>> {
        let refused = self.clone().spend(cost, now).err()?;
        Some(refused.map(|at| at - now))
    }

    /// Spends a cost, or says when there is more.
    fn spend(&mut self, cost: u64, now: i64) -> Result<(), Option<i64>> {
        *self = self.at(now);
        match self.remaining.checked_sub(cost) {
            Some(rest) => self.remaining = rest,
            // What costs more than the whole waits for no refill.
            None => {
                return Err(self
                    .refills_at
                    .filter(|_| cost <= self.spec.requests.into()));
            }
        }
        Ok(())
    }
}

/// The requests of a window of the clock, and of the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    number: i64,
    before: i64,
    current: i64,
}

impl Count {
    /// The same, as the window of this number has it, which is no earlier.
    fn moved_to(self, number: i64) -> Self {
        let (before, current) = match number - self.number {
            0 => (self.before, self.current),
            1 => (self.current, 0),
            _ => (0, 0),
        };
        Self {
            number,
            before,
            current,
        }
    }

    /// What counts at an instant, times the window: of the window before, as much as a
    /// window that ends then would cover.
    fn weight(self, window: i64, at: i64) -> i64 {
        let count = self.moved_to(at.div_euclid(window));
        count.before * (window - at.rem_euclid(window)) + count.current * window
    }
}

/// What is counted under the limits of a plan.
#[derive(Debug, Clone, Default)]
struct Counters {
    limits: Vec<Limit>,
    /// `None`: nothing was ever counted.
    counts: Vec<Option<Count>>,
}

/// How far a counter may be ahead of the clock, which threads read a little apart.
const SKEW: i64 = 1_000;

impl Counters {
    /// What was counted carries over to a limit of the same window.
    fn follow(&mut self, limits: &[Limit]) {
        if self.limits == limits {
            return;
        }
        let old: Vec<_> = self.limits.iter().zip(&self.counts).collect();
        let count = |limit: &Limit| {
            let of_kind = old.iter().find(|(known, _)| known.1 == limit.1);
            of_kind.and_then(|(_, count)| **count)
        };
        let counts = limits.iter().map(count).collect();
        *self = Self {
            limits: limits.to_vec(),
            counts,
        };
    }

    /// Charges a cost to all limits, or to none: then the longest wait is told.
    fn charge(&mut self, cost: u32, now: i64) -> Result<Standings, Limited> {
        let cost = i64::from(cost);
        let mut refused: Option<Limited> = None;
        let mut standings: Option<Standings> = None;
        for (limit, slot) in self.limits.iter().zip(&mut self.counts) {
            let (requests, window) = (i64::from(limit.0), limit.1);
            let number = now.div_euclid(window);
            let known = slot.filter(|count| count.before + count.current > 0);
            let (count, then) = match known {
                // The clock was ahead by more than it may be: what was counted counts now.
                Some(count) if count.number * window > now + SKEW => {
                    (Count { number, ..count }, now)
                }
                // A little ahead, its window counts as one that begins now.
                Some(count) if count.number > number => (count, count.number * window),
                count => (
                    count.map_or(
                        Count {
                            number,
                            ..Count::default()
                        },
                        |count| count.moved_to(number),
                    ),
                    now,
                ),
            };
            *slot = Some(count);
            let left = |paid: i64, at: i64| (requests - paid) * window - count.weight(window, at);
            // The first millisecond at which a cost fits beside what is paid: once it
            // does, it does from then on.
            let fits_at = |paid: i64, cost: i64| {
                let fits = |at: i64| {
                    let count = Count {
                        current: count.current + paid,
                        ..count
                    };
                    (requests - cost) * window - count.weight(window, at) >= 0
                };
                (cost <= requests).then(|| {
                    let (mut no, mut yes) = (then - 1, then + 2 * window);
                    while yes - no > 1 {
                        let middle = i64::midpoint(no, yes);
                        match fits(middle) {
                            true => yes = middle,
                            false => no = middle,
                        }
                    }
                    if yes == then { now } else { yes }
                })
            };
            let standing = |paid: i64| {
                let remaining = left(paid, then).max(0) / window;
                Standing {
                    limit: *limit,
                    remaining,
                    resets_at: fits_at(paid, remaining + 1).unwrap_or(now),
                }
            };
            if left(cost, then) >= 0 {
                let new = standing(cost);
                let all = standings.get_or_insert(Standings {
                    tightest: new,
                    longest: new,
                });
                // Of two alike, the one that resets later; of two as long, the tighter.
                let tightness = |of: &Standing| (of.remaining, -of.resets_at);
                if tightness(&new) < tightness(&all.tightest) {
                    all.tightest = new;
                }
                let length = |of: &Standing| (of.limit.1, -of.remaining, of.resets_at);
                if length(&new) > length(&all.longest) {
                    all.longest = new;
                }
                continue;
            }
            let at = fits_at(0, cost);
            let wait = at.map(|at| at - now);
            let is_longer = |old: &Limited| wait.unwrap_or(i64::MAX) > old.wait.unwrap_or(i64::MAX);
            if refused.as_ref().is_none_or(is_longer) {
                let standing = standing(0);
                let standing = Standing {
                    resets_at: at.unwrap_or(standing.resets_at),
                    ..standing
                };
                refused = Some(Limited { standing, wait });
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        self.add(cost);
        Ok(standings.expect("a plan with a limit"))
    }

    fn add(&mut self, cost: i64) {
        for count in self.counts.iter_mut().flatten() {
            count.current += cost;
        }
    }

    fn give_back(&mut self, cost: u32) {
        self.add(-i64::from(cost));
    }
}
