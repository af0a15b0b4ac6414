//! The model: what the specification says of each verb, over plain maps.
//!
//! Instants are milliseconds after the start of the clock. A verb comes in two
//! halves: `whys_of_..` gives every fault for which it may be refused (none: it
//! must succeed), and the other applies it.

use std::collections::{BTreeMap, BTreeSet};

use gatekey::{Conflict, Denial, KeyId, KeyState, Level, NotFound, Permissions, Reason};

use super::limits::{Limit, Limited, Meters, Standings, Unpaid};
use super::op::{
    Ask, Filter, Life, NAMES, OWNERS, PREFIXES, Policy, Rights, SOURCES, Ticks, each_of,
};
use super::text::{is_shared, ts};

/// Three to a minute, the grain of the last use.
pub(crate) const TICK: i64 = 20_000;
const MINUTE: i64 = 60_000;

/// A fault for which a verb may be refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Why {
    /// The variant of [`Invalid`]; what it carries is text for people.
    Invalid(&'static str),
    NotFound(NotFound),
    Refused(Conflict),
}
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Space {
    /// The names with their bits, in order, and whether they are retired.
    pub(crate) names: Vec<(u8, bool)>,
    pub(crate) policy: Policy,
    pub(crate) default: Option<i64>,
    pub(crate) max: Option<i64>,
    /// Which of [`super::op::PLANS`] there are, with their limits.
    pub(crate) plans: BTreeMap<u8, Vec<Limit>>,
    pub(crate) default_plan: Option<u8>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl Space {
    pub(crate) fn bit(&self, name: u8) -> Option<u128> {
        let at = self.names.iter().position(|known| *known == (name, false));
        at.map(|at| 1 << at)
    }

    pub(crate) fn active_bits(&self) -> u128 {
        each_of(&NAMES)
            .filter_map(|name| self.bit(name))
            .fold(0, |mask, bit| mask | bit)
    }

    pub(crate) fn whys_of_name(&self, name: u8) -> Option<Why> {
        if self.names.contains(&(name, true)) {
            Some(Why::Invalid("RetiredPermission"))
        } else if self.bit(name).is_none() {
            Some(Why::Invalid("UnknownPermission"))
        } else {
            None
        }
    }

    pub(crate) fn whys_of_rights(&self, rights: Rights) -> Vec<Why> {
        match rights {
            Rights::Names(mask) => names_in(mask)
                .filter_map(|name| self.whys_of_name(name))
                .collect(),
            Rights::Mask(mask) if u128::from(mask) & !self.active_bits() != 0 => {
                vec![Why::Invalid("UnknownBits")]
            }
            Rights::Mask(_) => vec![],
        }
    }

    pub(crate) fn whys_of_plan(&self, plan: Option<u8>) -> Option<Why> {
        let is_unknown = plan.is_some_and(|plan| !self.plans.contains_key(&plan));
        is_unknown.then_some(Why::Invalid("UnknownPlan"))
    }

    pub(crate) fn resolve(&self, rights: Rights) -> u128 {
        match rights {
            Rights::Names(mask) => names_in(mask)
                .filter_map(|name| self.bit(name))
                .fold(0, |mask, bit| mask | bit),
            Rights::Mask(mask) => mask.into(),
        }
    }

    pub(crate) fn expiry(&self, life: Life, born: i64, now: i64) -> Option<i64> {
        match life {
            Life::Default => {
                let default = self.default.map(|lifetime| now + lifetime);
                let latest = self.max.map(|max| born + max);
                [default, latest].into_iter().flatten().min()
            }
            Life::Never => None,
            Life::At(ticks) => Some(now + i64::from(ticks) * TICK),
            Life::After(ticks) => Some(now + i64::from(ticks) * TICK),
        }
    }

    pub(crate) fn whys_of_life(
        &self,
        life: Life,
        born: i64,
        begin: Option<i64>,
        now: i64,
    ) -> Vec<Why> {
        let end = self.expiry(life, born, now);
        let mut whys = vec![];
        if end.is_some_and(|end| end <= now) {
            whys.push(Why::Invalid("ExpiryInPast"));
        }
        if let Some(max) = self.max
            && end.is_none_or(|end| end > born + max)
        {
            whys.push(Why::Invalid("LifetimeTooLong"));
        }
        whys.extend(whys_of_order(begin, end));
        whys
    }
}

pub(crate) fn whys_of_order(begin: Option<i64>, end: Option<i64>) -> Option<Why> {
    let is_wrong = begin.zip(end).is_some_and(|(begin, end)| begin >= end);
    is_wrong.then_some(Why::Invalid("NotBeforeAfterExpiry"))
}

pub(crate) fn names_in(mask: u8) -> impl Iterator<Item = u8> {
    each_of(&NAMES).filter(move |name| mask & (1 << name) != 0)
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revoked {
    pub(crate) at: i64,
    pub(crate) reason: Reason,
    pub(crate) note: Option<String>,
    pub(crate) by: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) keyspace: u8,
    pub(crate) owner: u8,
    pub(crate) permissions: u128,
    pub(crate) text: u8,
    pub(crate) network: u8,
    pub(crate) not_before: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    /// Where it was rotated with a grace.
    pub(crate) grace_end: Option<i64>,
    pub(crate) disabled: bool,
    /// By a call; not where its grace is over.
    pub(crate) revoked: Option<Revoked>,
    pub(crate) created_at: i64,
    pub(crate) created_by: Option<String>,
    pub(crate) predecessor: Option<KeyId>,
    /// The first of those that were rotated to it: they are counted together.
    pub(crate) lineage: KeyId,
    pub(crate) successor: Option<KeyId>,
    pub(crate) last_used: Option<i64>,
    pub(crate) uses: u64,
    pub(crate) pepper: u8,
    pub(crate) plan: Option<u8>,
    /// The number of its quota: a key and its successors share one.
    pub(crate) quota: Option<usize>,
}

impl Key {
    pub(crate) fn revoked(&self, now: i64) -> Option<Revoked> {
        self.revoked.clone().or_else(|| {
            let at = self.grace_end.filter(|end| now >= *end)?;
            Some(Revoked {
                at,
                reason: Reason::Superseded,
                note: None,
                by: None,
            })
        })
    }

    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.revoked(now).is_some() || self.is_expired(now)
    }

    pub(crate) fn is_current(&self, now: i64) -> bool {
        !self.is_over(now) && self.grace_end.is_none()
    }

    pub(crate) fn is_retiring(&self, now: i64) -> bool {
        !self.is_over(now) && self.grace_end.is_some()
    }

    /// When it is over, by what is known now.
    pub(crate) fn end(&self) -> Option<i64> {
        match &self.revoked {
            Some(revoked) => Some(revoked.at),
            None => [self.expires_at, self.grace_end]
                .into_iter()
                .flatten()
                .min(),
        }
    }
}

/// One line of the audit trail, as far as the model tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) what: &'static str,
    pub(crate) keys: BTreeSet<KeyId>,
    pub(crate) at: i64,
    pub(crate) actor: Option<String>,
}

/// What a grant tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Granted {
    pub(crate) key: KeyId,
    pub(crate) keyspace: &'static str,
    pub(crate) owner: &'static str,
    pub(crate) permissions: u128,
    pub(crate) expires_at: Option<i64>,
    pub(crate) retiring_until: Option<i64>,
    pub(crate) limits: Option<Standings>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) clock: i64,
    /// The latest that the clock ever showed.
    pub(crate) clock_max: i64,
    /// The present, as the engine tells it: between what the clock shows or
    /// time must not run behind, and the latest that the clock ever showed.
    pub(crate) now: i64,
    /// The newest instant committed, or at which a key was denied because its time
    /// was over: time does not run behind it.
    pub(crate) floor: i64,
    /// The newest instant committed, which is all that outlives the engine.
    pub(crate) committed: i64,
    pub(crate) actor: Option<String>,
    /// Keys that were revoked with many others, and that the trail does not name yet.
    pub(crate) unnamed: BTreeSet<KeyId>,
    pub(crate) spaces: BTreeMap<u8, Space>,
    pub(crate) keys: BTreeMap<KeyId, Key>,
    /// The owners that are suspended: since when, by whom.
    pub(crate) suspended: BTreeMap<&'static str, (i64, Option<String>)>,
    pub(crate) audit: Vec<Entry>,
    /// Uses that are not written yet: how many, and the last.
    pub(crate) used: BTreeMap<KeyId, (u64, i64)>,
    /// Keys seen under an old pepper since the last flush.
    pub(crate) renewals: BTreeSet<KeyId>,
    pub(crate) pepper: u8,
    pub(crate) meters: Meters<Counted>,
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted {
    Key(KeyId),
    /// All keys of an owner in a keyspace.
    Owner {
        keyspace: u8,
        owner: u8,
    },
}

/// Why a token is not granted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    Denied(Denial),
    Limited(Limited),
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Model {
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// What time must not run behind, from a commit on.
    fn commit(&mut self) {
        self.committed = self.now;
        self.floor = self.floor.max(self.now);
    }

    pub(crate) fn wrote(&mut self, what: &'static str, keys: impl IntoIterator<Item = KeyId>) {
        self.commit();
        self.audit.push(Entry {
            what,
            keys: keys.into_iter().collect(),
            at: self.now(),
            actor: self.actor.clone(),
        });
    }

    // Looking

    pub(crate) fn state(&self, key: &Key) -> KeyState {
        let now = self.now();
        if key.revoked(now).is_some() {
            KeyState::Revoked
        } else if self.suspended_path(key.owner).is_some() {
            KeyState::Suspended
        } else if key.disabled {
            KeyState::Disabled
        } else if key.not_before.is_some_and(|begin| now < begin) {
            KeyState::NotYetValid
        } else if key.is_expired(now) {
            KeyState::Expired
        } else if key.grace_end.is_some() {
            KeyState::Retiring
        } else {
            KeyState::Active
        }
    }

    /// The shortest suspended path that is the owner or above it.
    pub(crate) fn suspended_path(&self, owner: u8) -> Option<&'static str> {
        let suspended = self.suspended.keys().copied();
        suspended
            .filter(|path| covers(path, OWNERS[usize::from(owner)]))
            .min_by_key(|path| path.len())
    }

    /// The verdict on the true token of a key, or of one that was purged.
    pub(crate) fn verify(&mut self, id: KeyId, ask: &Ask) -> Result<Granted, Refused> {
        let verdict = self.decide(id, ask);
        // What time alone has ended stays so. A revocation by a call is not undone
        // by any clock.
        let by_call = self.keys.get(&id).is_some_and(|key| key.revoked.is_some());
        if let Err(Refused::Denied(Denial::Revoked { .. } | Denial::Expired { .. })) = verdict
            && !by_call
        {
            self.floor = self.floor.max(self.now);
        }
        verdict
    }

    fn decide(&mut self, id: KeyId, ask: &Ask) -> Result<Granted, Refused> {
        let now = self.now();
        let Some(key) = self.keys.get(&id) else {
            return Err(Denial::Unknown.into());
        };
        if ask.keyspace.is_some_and(|asked| asked != key.keyspace) {
            return Err(Denial::Unknown.into());
        }
        match self.state(key) {
            KeyState::Revoked => {
                let revoked = key.revoked(now).unwrap();
                return Err(Denial::Revoked {
                    key: id,
                    at: ts(revoked.at),
                    reason: revoked.reason,
                }
                .into());
            }
            KeyState::Suspended => {
                let owner = self.suspended_path(key.owner).unwrap();
                return Err(Denial::Suspended {
                    key: id,
                    owner: owner.parse().unwrap(),
                }
                .into());
            }
            KeyState::Disabled => return Err(Denial::Disabled { key: id }.into()),
            KeyState::NotYetValid => {
                return Err(Denial::NotYetValid {
                    key: id,
                    not_before: ts(key.not_before.unwrap()),
                }
                .into());
            }
            KeyState::Expired => {
                return Err(Denial::Expired {
                    key: id,
                    expired_at: ts(key.expires_at.unwrap()),
                }
                .into());
            }
            _ => {}
        }
        let allowed = |source: u8| SOURCES[usize::from(source)].1[usize::from(key.network)];
        if key.network != 0 && !ask.source.is_some_and(allowed) {
            return Err(Denial::NetworkNotAllowed {
                key: id,
                source: ask
                    .source
                    .map(|at| SOURCES[usize::from(at)].0.parse().unwrap()),
            }
            .into());
        }
        // What is retired, no key holds any more.
        let held = key.permissions & self.spaces[&key.keyspace].active_bits();
        self.lacks(id, key, held, ask)?;

        let key = key.clone();
        let limits = self.charge(id, &key, ask.cost.into())?;
        let granted = Granted {
            key: id,
            keyspace: PREFIXES[usize::from(key.keyspace)],
            owner: OWNERS[usize::from(key.owner)],
            permissions: held,
            expires_at: key.expires_at,
            retiring_until: key.grace_end,
            limits,
        };
        if key.pepper != self.pepper {
            self.renewals.insert(id);
        }
        let minute = now.div_euclid(MINUTE) * MINUTE;
        let (uses, last) = self.used.entry(id).or_insert((0, minute));
        (*uses, *last) = (*uses + 1, minute.max(*last));
        Ok(granted)
    }

    /// Charges a cost to the limits of a key's plan and to its quota, or to none.
    fn charge(&mut self, id: KeyId, key: &Key, cost: u32) -> Result<Option<Standings>, Refused> {
        // What the clock shows, also where it stepped back.
        let now = self.clock;
        let plans = &self.spaces[&key.keyspace].plans;
        let plan = key.plan.map(|plan| {
            let counted = match is_shared(plan) {
                false => Counted::Key(key.lineage),
                true => Counted::Owner {
                    keyspace: key.keyspace,
                    owner: key.owner,
                },
            };
            (counted, plan, plans[&plan].as_slice())
        });
        let charged = self.meters.charge(plan, key.quota, cost, now);
        charged.map_err(|unpaid| match unpaid {
            Unpaid::Limited(limited) => Refused::Limited(limited),
            Unpaid::Exhausted(refill) => Refused::Denied(Denial::QuotaExhausted {
                key: id,
                level: Level::Key,
                refills_at: refill.map(ts),
            }),
        })
    }

    fn lacks(&self, id: KeyId, key: &Key, held: u128, ask: &Ask) -> Result<(), Denial> {
        let space = &self.spaces[&key.keyspace];
        let mut missing = u128::from(ask.mask) & !held;
        let mut names: BTreeSet<u8> = BTreeSet::new();
        for (at, (name, _)) in space.names.iter().enumerate() {
            if missing & (1 << at) != 0 {
                names.insert(*name);
            }
        }
        let mut undefined = BTreeSet::new();
        for name in names_in(ask.names) {
            match space.bit(name) {
                Some(bit) if held & bit != 0 => {}
                Some(bit) => {
                    missing |= bit;
                    names.insert(name);
                }
                None => {
                    names.insert(name);
                    undefined.insert(name);
                }
            }
        }
        if missing == 0 && names.is_empty() {
            return Ok(());
        }
        Err(Denial::PermissionMissing {
            key: id,
            missing: Permissions::from_bits(missing),
            names: names
                .into_iter()
                .map(|name| NAMES[usize::from(name)].to_owned())
                .collect(),
            undefined: undefined.len(),
        })
    }

    pub(crate) fn is_listed(&self, key: &Key, filter: &Filter) -> bool {
        let now = self.now();
        let state = self.state(key);
        let owner = OWNERS[usize::from(key.owner)];
        let ends_within = |ticks: Ticks| {
            let good = !matches!(state, KeyState::Revoked | KeyState::Expired);
            let last = now + i64::from(ticks) * TICK;
            good && key.end().is_some_and(|end| now < end && end <= last)
        };
        filter.keyspace.is_none_or(|asked| asked == key.keyspace)
            && filter.owner.is_none_or(|(asked, below)| {
                let asked = OWNERS[usize::from(asked)];
                asked == owner || (below && covers(asked, owner))
            })
            && filter
                .state
                .is_none_or(|asked| STATES[usize::from(asked)] == state)
            && filter.text.is_none_or(|asked| asked == key.text)
            && filter.within.is_none_or(ends_within)
    }

    /// The next instant at which a key begins or ends.
    pub(crate) fn next_edge(&self) -> Option<i64> {
        let now = self.now();
        let keys = self.keys.values().filter(|key| key.revoked.is_none());
        let refill = |key: &Key| self.meters.quotas[key.quota?].refills_at;
        keys.flat_map(|key| [key.not_before, key.expires_at, key.grace_end, refill(key)])
            .flatten()
            .filter(|edge| *edge > now)
            .min()
    }

    // Time

    /// Forgets what was in memory alone: uses that were not written, and instants
    /// that were seen and not committed.
    pub(crate) fn crash(&mut self) {
        self.used.clear();
        self.renewals.clear();
        self.meters.crash();
        self.floor = self.committed;
    }

    /// Writes what verifications have noted; in nobody's name.
    pub(crate) fn flush(&mut self) {
        let actor = self.actor.take();
        let mut renewed = std::mem::take(&mut self.renewals);
        renewed.retain(|id| {
            let key = self.keys.get(id);
            key.is_some_and(|key| key.revoked.is_none() && key.pepper != self.pepper)
        });
        for id in &renewed {
            self.keys.get_mut(id).unwrap().pepper = self.pepper;
        }
        if !renewed.is_empty() {
            self.wrote("digests renewed", renewed);
        }
        let mut written = false;
        for (id, (uses, last)) in std::mem::take(&mut self.used) {
            if let Some(key) = self.keys.get_mut(&id) {
                key.uses += uses;
                // Neither is later than the commit, where the clock stepped back.
                let before = key.last_used.filter(|before| *before <= self.now);
                key.last_used = before.max(Some(last.min(self.now)));
                written = true;
            }
        }
        if written {
            self.commit();
        }
        self.actor = actor;
    }
}
/// In the order of precedence.
pub(crate) const STATES: [KeyState; 7] = [
    KeyState::Revoked,
    KeyState::Suspended,
    KeyState::Disabled,
    KeyState::NotYetValid,
    KeyState::Expired,
    KeyState::Retiring,
    KeyState::Active,
];

/// Whether a path is the other, or above it, segment by segment.
pub(crate) fn covers(above: &str, below: &str) -> bool {
    let (above, below): (Vec<_>, Vec<_>) = (above.split('/').collect(), below.split('/').collect());
    below.starts_with(&above)
}

pub(crate) fn is_single(policy: Policy) -> bool {
    matches!(policy, Policy::Superseding | Policy::Refusing)
}
