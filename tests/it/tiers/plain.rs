//! What tiers mean: all that the model knows of plans, levels, quotas and caps, and nothing
//! of meters, slices and the store.

use std::collections::BTreeMap;

use super::counted::{Counted, Rate};

const DAY_MS: u64 = 86_400_000;

/// The owners, each with its levels above: places in this list.
pub(crate) const OWNERS: [(&str, &[usize]); 9] = [
    ("acme", &[]),
    ("acme/a", &[0]),
    ("acme/b", &[0]),
    ("acme/a/x", &[0, 1]),
    ("acme/a/y", &[0, 1]),
    ("acme/b/x", &[0, 2]),
    ("beta", &[]),
    ("beta/a", &[6]),
    ("beta/a/x", &[6, 7]),
];
pub(crate) const PLANS: [&str; 3] = ["small", "wide", "apart"];
/// The plan that replaces the levels above.
const APART: usize = 2;

/// As the defaults of its level say, none, or its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Said<T> {
    #[default]
    Default,
    Unlimited,
    Own(T),
}

impl<T> Said<T> {
    fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Self::Default => default,
            Self::Unlimited => None,
            Self::Own(own) => Some(own),
        }
    }
}

/// How many requests, refilled at midnight or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sold {
    pub(crate) requests: u64,
    pub(crate) is_daily: bool,
}

/// A quota, of which so much is left; below zero where it owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Quota {
    pub(crate) sold: Option<Sold>,
    pub(crate) left: i64,
    /// Of which of the quotas of its level it is, and of which period.
    pub(crate) generation: u32,
}

impl Quota {
    fn set(&mut self, sold: Option<Sold>) {
        self.sold = sold;
        self.left = sold.map_or(0, |sold| sold.requests.cast_signed());
        self.generation += 1;
    }

    /// At a midnight. A refill pays what is owed first, and nothing is carried over.
    fn refill(&mut self) {
        if let Some(sold) = self.sold.filter(|sold| sold.is_daily) {
            self.left = self.left.min(0) + sold.requests.cast_signed();
            self.generation += 1;
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Defaults {
    pub(crate) plan: Option<usize>,
    pub(crate) quota: Option<Sold>,
    pub(crate) cap: Option<u32>,
}

#[derive(Debug, Clone, Default)]
struct Owner {
    plan: Option<usize>,
    /// Limits in the place of the plan's: one, or none at all.
    limits: Option<Option<Rate>>,
    own_quota: Said<Sold>,
    cap: Said<u32>,
    quota: Quota,
}

#[derive(Debug, Clone, Default)]
struct Key {
    owner: usize,
    plan: Option<usize>,
    quota: Quota,
    is_revoked: bool,
    is_purged: bool,
    /// How many keys it was rotated from that are not purged.
    rotated_from: u64,
}

/// Where something is counted: at an owner, or of a key, which is counted by its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    Owner(usize),
    Key(usize, usize),
}

/// What a request is charged to, the shortest path first and the key last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charged {
    pub(crate) limits: Vec<(At, Rate)>,
    /// With the generation of each.
    pub(crate) quotas: Vec<(At, u32)>,
}

/// A request that can still be settled: its key, and its parts with what each cost.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) key: usize,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// Which of all parts it is.
    number: u64,
    cost: i64,
    charged: Charged,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    now_ms: u64,
    parts: u64,
    /// What each plan admits; `None`: without limits.
    plans: [Option<Rate>; PLANS.len()],
    /// By depth, from 1.
    defaults: [Defaults; 3],
    owners: [Owner; OWNERS.len()],
    keys: Vec<Key>,
    /// What was counted since the engine was opened.
    counted: BTreeMap<At, Counted>,
}

pub(crate) fn depth(owner: usize) -> usize {
    OWNERS[owner].1.len() + 1
}

/// The owner and those above it, the shortest path first.
pub(crate) fn path(owner: usize) -> impl Iterator<Item = usize> {
    OWNERS[owner].1.iter().copied().chain([owner])
}

impl Model {
    pub(crate) fn at(now_ms: u64) -> Self {
        Self {
            now_ms,
            ..Self::default()
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let midnights = (self.now_ms + ms) / DAY_MS - self.now_ms / DAY_MS;
        self.now_ms += ms;
        for _ in 0..midnights {
            let owners = self.owners.iter_mut().map(|owner| &mut owner.quota);
            let keys = self.keys.iter_mut().map(|key| &mut key.quota);
            owners.chain(keys).for_each(Quota::refill);
        }
    }

    /// Lets the limits that a request of a key meets be those that hold: of others, nothing is
    /// counted any more.
    pub(crate) fn meet(&mut self, key: usize) {
        for (at, rate) in self.charged(key).limits {
            self.counted.entry(at).or_default().meet(rate.kind);
        }
    }

    fn default_of(&self, owner: usize) -> Defaults {
        self.defaults[depth(owner) - 1]
    }

    /// What a request of a key is charged to.
    pub(crate) fn charged(&self, key: usize) -> Charged {
        let of = &self.keys[key];
        let mut charged = Charged::default();
        let mut add = |at, plan: Option<usize>, own: Option<Option<Rate>>| {
            if plan == Some(APART) {
                charged.limits.clear();
            }
            let limit = own.unwrap_or_else(|| plan.and_then(|plan| self.plans[plan]));
            charged.limits.extend(limit.map(|limit| (at, limit)));
        };
        for at in path(of.owner) {
            let owner = &self.owners[at];
            let plan = owner.plan.or(self.default_of(at).plan);
            add(At::Owner(at), plan, owner.limits);
        }
        if !of.is_purged {
            add(At::Key(key, of.plan.unwrap_or(0)), of.plan, None);
        }
        let quotas = path(of.owner).map(At::Owner).chain([At::Key(key, 0)]);
        let quotas = quotas.filter_map(|at| {
            let quota = self.quota(at);
            let is_there = quota.sold.is_some();
            is_there.then_some((at, quota.generation))
        });
        charged.quotas = quotas.collect();
        charged
    }

    pub(crate) fn quota(&self, at: At) -> Quota {
        match at {
            At::Owner(owner) => self.owners[owner].quota,
            At::Key(key, _) => self.keys[key].quota,
        }
    }

    fn quota_mut(&mut self, at: At) -> &mut Quota {
        match at {
            At::Owner(owner) => &mut self.owners[owner].quota,
            At::Key(key, _) => &mut self.keys[key].quota,
        }
    }

    pub(crate) fn left_of(&self, (at, rate): (At, Rate)) -> i64 {
        let counted = self.counted.get(&at).cloned().unwrap_or_default();
        counted.left(rate, self.now_ms)
    }

    /// What refuses a request: the limits that do, or else the quotas.
    pub(crate) fn refusing(&self, key: usize, cost: u32) -> Option<(&'static str, Vec<At>)> {
        let charged = self.charged(key);
        let cost = i64::from(cost);
        let limits = charged.limits.iter();
        let limits = limits.filter(|limit| cost > self.left_of(**limit).max(0));
        let limits: Vec<At> = limits.map(|(at, _)| *at).collect();
        let quotas = charged.quotas.iter().map(|(at, _)| *at);
        let quotas = quotas.filter(|at| cost > self.quota(*at).left.max(0));
        let quotas: Vec<At> = quotas.collect();
        match (limits.is_empty(), quotas.is_empty()) {
            (false, _) => Some(("rate_limited", limits)),
            (true, false) => Some(("quota_exhausted", quotas)),
            (true, true) => None,
        }
    }

    /// Charges a key, whatever is left.
    pub(crate) fn charge(&mut self, key: usize, cost: u32) -> Open {
        let mut open = Open { key, parts: vec![] };
        self.add(&mut open, cost.into());
        open
    }

    fn add(&mut self, open: &mut Open, cost: i64) {
        self.meet(open.key);
        let charged = self.charged(open.key);
        self.parts += 1;
        let number = self.parts;
        for (at, _) in &charged.limits {
            let counted = self.counted.entry(*at).or_default();
            counted.add(number, cost, self.now_ms);
        }
        for (at, _) in &charged.quotas {
            self.quota_mut(*at).left -= cost;
        }
        open.parts.push(Part {
            number,
            cost,
            charged,
        });
    }

    /// Settles a request at what it cost in all. What is given back is of the last parts
    /// first, and of nothing that is another by now.
    pub(crate) fn settle(&mut self, open: &mut Open, cost: u32) {
        let before: i64 = open.parts.iter().map(|part| part.cost).sum();
        let mut less = before - i64::from(cost);
        if less < 0 {
            self.add(open, -less);
        }
        for part in open.parts.iter_mut().rev() {
            let back = less.clamp(0, part.cost);
            part.cost -= back;
            less -= back;
            for (at, _) in &part.charged.limits {
                let counted = self.counted.entry(*at).or_default();
                counted.take_back(part.number, back, self.now_ms);
            }
            for (at, generation) in &part.charged.quotas {
                let quota = self.quota_mut(*at);
                if quota.sold.is_some() && quota.generation == *generation {
                    quota.left += back;
                }
            }
        }
    }

    pub(crate) fn set_plan(&mut self, plan: usize, limit: Option<Rate>) {
        self.plans[plan] = limit;
    }

    /// The quota of a level that is new is another than any before.
    pub(crate) fn set_defaults(&mut self, depth: usize, defaults: Defaults) {
        let old = std::mem::replace(&mut self.defaults[depth - 1], defaults);
        for at in (0..OWNERS.len()).filter(|at| self::depth(*at) == depth) {
            let owner = &mut self.owners[at];
            if owner.own_quota == Said::Default && old.quota != defaults.quota {
                owner.quota.set(defaults.quota);
            }
        }
    }

    pub(crate) fn set_owner_plan(&mut self, owner: usize, plan: Option<usize>) {
        self.owners[owner].plan = plan;
    }

    pub(crate) fn set_owner_limits(&mut self, owner: usize, limits: Option<Option<Rate>>) {
        self.owners[owner].limits = limits;
    }

    pub(crate) fn set_owner_quota(&mut self, owner: usize, quota: Said<Sold>) {
        let default = self.default_of(owner).quota;
        let owner = &mut self.owners[owner];
        let was = std::mem::replace(&mut owner.own_quota, quota);
        // The same quota again is a full one; none of its own again is no change.
        if was != quota || matches!(quota, Said::Own(_)) {
            owner.quota.set(quota.or(default));
        }
    }

    pub(crate) fn set_owner_cap(&mut self, owner: usize, cap: Said<u32>) {
        self.owners[owner].cap = cap;
    }

    pub(crate) fn set_key(&mut self, key: usize, plan: Option<usize>, quota: Option<Sold>) {
        let key = &mut self.keys[key];
        key.plan = plan;
        if quota.is_some() || key.quota.sold.is_some() {
            key.quota.set(quota);
        }
    }

    /// Whether an owner may have another key.
    pub(crate) fn has_room(&self, owner: usize) -> bool {
        path(owner).all(|at| {
            let holds = |key: &&Key| !key.is_revoked && path(key.owner).any(|above| above == at);
            let held = self.keys.iter().filter(holds).count();
            let cap = self.owners[at].cap.or(self.default_of(at).cap);
            cap.is_none_or(|cap| held < cap as usize)
        })
    }

    pub(crate) fn issue(&mut self, owner: usize) {
        self.keys.push(Key {
            owner,
            ..Key::default()
        });
    }

    pub(crate) fn revoke(&mut self, key: usize) {
        self.keys[key].is_revoked = true;
    }

    pub(crate) fn rotate(&mut self, key: usize) {
        self.keys[key].rotated_from += 1;
    }

    /// Says how many keys go.
    pub(crate) fn purge(&mut self) -> u64 {
        let mut purged = 0;
        for key in &mut self.keys {
            purged += std::mem::take(&mut key.rotated_from);
            if key.is_revoked && !key.is_purged {
                key.is_purged = true;
                key.quota.set(None);
                purged += 1;
            }
        }
        purged
    }

    pub(crate) fn is_alive(&self, key: usize) -> bool {
        !self.keys[key].is_revoked
    }

    /// An engine that stops forgets what it counted, and what is left of a quota is what the
    /// store has.
    pub(crate) fn stop(&mut self) {
        self.counted.clear();
    }

    pub(crate) fn set_left(&mut self, at: At, left: i64) {
        self.quota_mut(at).left = left;
    }
}
