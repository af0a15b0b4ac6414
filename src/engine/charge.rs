//! Charging a verification to the limits and quotas of all its levels, to all of them or
//! to none.

mod ahead;
mod coarse;
mod look;

pub(super) use coarse::Coarsely;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::change::quota;
use crate::engine::shared::Core;
use crate::memory::levels::PerLevel;
use crate::memory::limiter::{Ask, Charged as OfLimits, Known, Terms};
use crate::memory::owner_names::{self, Name};
use crate::memory::owner_terms::{Own, Pinned};
use crate::memory::quota::{Fetched, Name as PurseName, Taken};
use crate::memory::registry::{Entry, Once};
#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::charge::{Charge, Part};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::limit::{Level, LimitStatus};
use crate::model::owner::OwnerPath;
use crate::model::owner_settings::Setting;
use crate::model::quota::Period;
use crate::model::requirements::Requirements;
use crate::model::time::{Present, When};
use crate::model::verdict::{Denial, Stands};
use crate::store::quota::{Asked, Spent};
use crate::store::record::View;

/// What charging a request came to.
pub(super) enum Charged {
    Admitted,
    /// Charged to nothing.
    OverLimit(Denial),
    /// Charged to nothing: a quota was changed since the key's record was read.
    Gone,
}

/// What a request that is admitted was charged.
#[derive(Default)]
pub(super) struct Receipt {
    /// Where its levels stand in their limits, if they have any.
    pub(super) standing: Stands,
    /// What was charged, if that is to be settled later.
    pub(super) part: Option<Part>,
    /// By what that is settled.
    pub(super) charge: Option<Charge>,
}

/// Whose request it is.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) keyspace: u32,
    pub(super) owner: &'a [u8],
    /// `None`: the key is gone, and its owners are not.
    pub(super) key: Option<View<'a>>,
}

impl<'a> Who<'a> {
    pub(super) fn has(view: &View<'a>) -> Self {
        Self {
            keyspace: view.keyspace(),
            owner: view.owner(),
            key: Some(*view),
        }
    }
}

/// The owners at whose levels a request is charged, as they were found.
struct Owners<'a> {
    /// How often settings had been shown before.
    shown: u64,
    /// The stamp of an owner without settings.
    stamp_of_none: u64,
    /// The name of each level, the shortest path first, and what its owner has of its own.
    each: PerLevel<(Name, Option<&'a Own>)>,
}

/// What a request is charged to.
#[derive(Default)]
pub(super) struct Levels<'a> {
    pub(super) limits: PerLevel<Ask<'a>>,
    pub(super) quotas: PerLevel<Quota>,
    /// The names of the levels that have quotas.
    pub(super) quota_names: PerLevel<Name>,
}

/// A quota that a request is charged to.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) level: Level,
    /// How many segments the owner's path has; 0: it is the key's.
    pub(super) depth: usize,
    pub(super) purse: PurseName,
}

/// Why quotas do not cover a request that no limit refuses.
pub(super) enum NotSpent {
    Exhausted {
        level: Level,
        refills_at: Option<Timestamp>,
    },
    /// Too little of the quota is in memory.
    AskStore(Quota),
}

impl Core {
    /// Charges a request that nothing else refuses to the limits and quotas of all its
    /// levels, and fills in its receipt.
    #[inline(never)]
    pub(super) fn charge(
        &self,
        view: &View<'_>,
        entry: &Entry,
        requirements: &Requirements<'_>,
        present: Present,
        receipt: &mut Receipt,
    ) -> Result<Charged, Error> {
        let Requirements {
            cost,
            is_settled_later,
            ..
        } = *requirements;
        let now = When::exact(present.clock);
        if self.charge_key_alone(view, entry, requirements, now, receipt)? {
            return Ok(Charged::Admitted);
        }
        if is_settled_later {
            receipt.part = Some(Part {
                cost,
                ..Part::nothing(present.clock)
            });
        }
        self.with_levels(Who::has(view), entry, |levels| {
            self.charge_and_tell(view, levels, requirements, receipt, present)
        })
    }

    /// Charges a request to its levels, and tells what it came to where it is to be told.
    fn charge_and_tell(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        requirements: &Requirements<'_>,
        receipt: &mut Receipt,
        present: Present,
    ) -> Result<Charged, Error> {
        let cost = requirements.cost;
        let charged = self.charge_levels(view, levels, cost, receipt, present)?;
        #[cfg(feature = "http")]
        if let Some(told) = requirements.told {
            self.tell_charged(view, levels, cost, present.clock, &charged, told);
        }
        Ok(charged)
    }

    /// Charges a request that has the level of its key alone, where memory admits it: what
    /// most requests are. `false`: nothing was charged, and [`charge`](Self::charge) goes the
    /// way of all others.
    #[inline(always)]
    fn charge_key_alone(
        &self,
        view: &View<'_>,
        entry: &Entry,
        requirements: &Requirements<'_>,
        when: When,
        receipt: &mut Receipt,
    ) -> Result<bool, Error> {
        if requirements.asks_for_more() || entry.charges_owners() {
            return Ok(false);
        }
        let cost = requirements.cost;
        let is_spent = || self.quotas.spend_one(view.id().raw(), cost.into(), when);
        let spend = || !view.has_quota() || cost == 0 || is_spent();
        let has_own = view.has_own_limits();
        if !has_own && view.plan() == 0 {
            // One word tells what is left: nothing else is held meanwhile.
            return Ok(spend());
        }
        let mut charge = |known: &Known<'_>| {
            let at = (when, &self.home);
            (self.limiter).charge_one(known, cost, at, &mut receipt.standing, spend)
        };
        // What the keyspace says need not be looked up where the meter knows it. One that does
        // not may be of a plan that is shared since, or has no limits any more: then nothing is
        // counted there, and it says so until a sweep takes it.
        if !has_own {
            let known = Known {
                name: owner_names::of_key(view.lineage(), view.plan()),
                level: Level::Key,
                stamp: entry.charging().stamp(),
                terms: None,
            };
            if let Some(is_charged) = charge(&known)? {
                return Ok(is_charged);
            }
        }
        let keyspace = Once::new(entry);
        let own = self.own_limits(view)?;
        let ask = self.ask_of_key(view, &keyspace, own.as_ref())?;
        match ask.filter(|ask| !ask.terms.limits.is_empty()) {
            Some(ask) => Ok(charge(&ask.known())? == Some(true)),
            None => Ok(spend()),
        }
    }

    /// Has what a key is charged to, if it is, fetched from memory, and does not wait for it:
    /// before its record is known.
    #[inline(always)]
    pub(super) fn touch_charges(&self, id: KeyId) {
        // A key that was never rotated has its own id as that of its lineage.
        self.limiter.touch(id.raw());
        self.quotas.touch(id.raw());
    }

    /// Where the levels of a key stand in their limits, with nothing charged.
    pub(super) fn look_at_limits(
        &self,
        view: &View<'_>,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<Vec<LimitStatus>, Error> {
        self.with_levels(Who::has(view), entry, |levels| {
            let found = self.limiter.look(&levels.limits, 0, now, &self.home)?;
            Ok(found.into_iter().map(|found| found.status).collect())
        })
    }

    /// What a request of a key would be charged to.
    #[cfg(feature = "http")]
    pub(super) fn look_at_levels(
        &self,
        view: &View<'_>,
        entry: &Entry,
        clock: Timestamp,
    ) -> Result<Allowances, Error> {
        self.with_levels(Who::has(view), entry, |levels| {
            self.allowances(view, levels, 0, clock)
        })
    }

    /// Looks up what a request of a key is charged to, and lends it.
    #[inline]
    pub(super) fn with_levels<T>(
        &self,
        who: Who<'_>,
        entry: &Entry,
        run: impl FnOnce(&Levels<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let settings;
        let mut owners = self.no_owners();
        settings = entry.has_owner_settings().then(|| self.owner_terms.pin());
        if entry.charges_owners() {
            self.find_owners(&mut owners, &who, settings.as_ref());
        }
        self.with_levels_of(who, entry, &owners, run)
    }

    /// The same, where owners were looked for.
    #[inline]
    fn with_levels_of<T>(
        &self,
        who: Who<'_>,
        entry: &Entry,
        owners: &Owners<'_>,
        run: impl FnOnce(&Levels<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let of_key = match &who.key {
            Some(view) => self.own_limits(view)?,
            None => None,
        };
        let keyspace = Once::new(entry);
        // Large: filled where it is, and not moved.
        let mut levels = Levels::default();
        self.fill_levels(&mut levels, who, &keyspace, owners, of_key.as_ref())?;
        // Else settings that went before the keyspace was loaded might be taken for later ones
        // than none, by their stamp.
        if self.owner_terms.shown() != owners.shown {
            return self.with_levels(who, entry, run);
        }
        run(&levels)
    }

    /// None yet: to be asked for before it is known who has settings.
    #[inline(always)]
    fn no_owners<'a>(&self) -> Owners<'a> {
        Owners {
            shown: self.owner_terms.shown(),
            stamp_of_none: self.owner_terms.stamp_of_none(),
            each: PerLevel::default(),
        }
    }

    /// Finds the owners of a path: before the keyspace is loaded, so that the plans which their
    /// settings name are there.
    #[inline(always)]
    fn find_owners<'a>(
        &self,
        owners: &mut Owners<'a>,
        who: &Who<'_>,
        settings: Option<&'a Pinned<'a>>,
    ) {
        let names = self.limiter.names();
        names.levels(who.keyspace, who.owner, |name| {
            let own = settings.and_then(|settings| settings.get(&name));
            owners.each.push((name, own));
        });
    }

    fn charge_levels(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        cost: u32,
        receipt: &mut Receipt,
        present: Present,
    ) -> Result<Charged, Error> {
        let Receipt { standing, part, .. } = receipt;
        let mut counted = None;
        let key = view.id();
        // A request that needs one quota has what it waited for as its own. One that needs
        // several holds none while it waits for another: two that held what the other
        // needs would wait for ever.
        let takes = levels.quotas.len() == 1;
        let mut taken: Option<Taken> = None;
        let exhausted = |level: Level, refills_at| {
            let known = (level, refills_at);
            let longest = self.longest_refill(view, levels, cost, present.clock, known);
            let (level, refills_at) = longest;
            Denial::QuotaExhausted {
                key,
                level,
                refills_at,
            }
        };
        let charged = loop {
            let charged = self.limiter.charge(
                (&levels.limits, &levels.quota_names),
                cost,
                (present.clock, &self.home),
                &mut counted,
                // What costs nothing takes no slice either, and waits for no commit.
                || {
                    if cost > 0 && taken.is_none() && !levels.quotas.is_empty() {
                        self.spend(levels, cost, present.clock, |name, period| {
                            if let Some(part) = part.as_mut() {
                                part.quotas.push((name, period));
                            }
                        })?;
                    }
                    if let Some(part) = part.as_mut() {
                        self.note_meters(part, levels);
                    }
                    Ok(())
                },
            )?;
            match charged {
                OfLimits::Admitted => {
                    if let (Some(part), Some(taken), [quota]) =
                        (part.as_mut(), &taken, &levels.quotas[..])
                    {
                        part.quotas.push((quota.purse, taken.period()));
                    }
                    break Charged::Admitted;
                }
                OfLimits::OverLimit(refused) => {
                    let limits = (refused.status, refused.retry_after);
                    let denial = self.over_limit(view, levels, cost, present.clock, limits);
                    break Charged::OverLimit(denial);
                }
                OfLimits::Failed(NotSpent::Exhausted { level, refills_at }) => {
                    break Charged::OverLimit(exhausted(level, refills_at));
                }
                OfLimits::Failed(NotSpent::AskStore(quota)) => {
                    match self.fetch(view, quota, cost, takes, present)? {
                        Fetched::InMemory => {}
                        Fetched::Taken(slice) => taken = Some(slice),
                        Fetched::Exhausted { refills_at } => {
                            break Charged::OverLimit(exhausted(quota.level, refills_at));
                        }
                        Fetched::Gone => break Charged::Gone,
                    }
                }
            }
        };
        *standing = counted.into();
        if let Some(taken) = taken {
            taken.decide(matches!(charged, Charged::Admitted));
        }
        Ok(charged)
    }

    /// Notes which meters count a request, while they are held.
    pub(super) fn note_meters(&self, part: &mut Part, levels: &Levels<'_>) {
        part.counters = self.limiter.begun();
        let names = levels.limits.iter().map(|ask| ask.name);
        part.meters = names.map(|Name(first, second)| (first, second)).collect();
    }

    /// Adds what a request of a key is charged to: the shortest path first, the key last.
    #[inline]
    fn fill_levels<'a>(
        &self,
        levels: &mut Levels<'a>,
        who: Who<'a>,
        keyspace: &'a Once<'_>,
        owners: &Owners<'a>,
        of_key: Option<&'a Arc<Terms>>,
    ) -> Result<(), Error> {
        let owner = who.owner;
        for (depth, (name, own)) in (1..).zip(owners.each.iter().copied()) {
            let level = Level::Owner(u8::try_from(depth).unwrap_or(u8::MAX));
            let defaults = keyspace.defaults(depth);
            let (stamp, plan, limits, quota) = match own {
                None => (owners.stamp_of_none, defaults.plan, None, Setting::Default),
                Some(Own::Damaged(damage)) => return Err(Error::Corrupted(damage.clone())),
                Some(Own::Settings {
                    stamp,
                    plan,
                    limits,
                    quota,
                }) => {
                    let plan = if *plan == 0 { defaults.plan } else { *plan };
                    (*stamp, plan, limits.as_ref(), *quota)
                }
            };
            // Of which revision of the keyspace the quota is; its own is of none.
            let of_revision = quota.map(|()| None).or_default(defaults.quota.map(Some));
            if let Some(of_revision) = of_revision {
                levels.quota_names.push(name);
                levels.quotas.push(Quota {
                    level,
                    depth,
                    purse: name.purse(of_revision),
                });
            }
            if let Some(terms) = terms_of(keyspace, plan, limits)? {
                let stamp = stamp + keyspace.stamp();
                let ask = Ask {
                    name,
                    level,
                    terms,
                    stamp,
                    owner,
                };
                levels.add(keyspace, plan, ask);
            }
        }
        let Some(view) = &who.key else {
            return Ok(());
        };
        if let Some(ask) = self.ask_of_key(view, keyspace, of_key)? {
            levels.add(keyspace, view.plan(), ask);
        }
        if view.has_quota() {
            let name = owner_names::of_key(view.lineage(), 0);
            levels.quota_names.push(name);
            levels.quotas.push(Quota {
                level: Level::Key,
                depth: 0,
                purse: view.id().raw(),
            });
        }
        Ok(())
    }

    /// What a request is charged to at the level of its key, if that has limits.
    #[inline(always)]
    fn ask_of_key<'a>(
        &self,
        view: &View<'a>,
        keyspace: &'a Once<'_>,
        own: Option<&'a Arc<Terms>>,
    ) -> Result<Option<Ask<'a>>, Error> {
        let (plan, owner) = (view.plan(), view.owner());
        let Some(terms) = terms_of(keyspace, plan, own)? else {
            return Ok(None);
        };
        let is_shared =
            || (keyspace.get().plan_numbered(plan)).is_some_and(|plan| plan.shared_by_owner);
        let (name, stamp) = match own {
            Some(own) => {
                let name = owner_names::of_own_limits(view.lineage(), own.kinds());
                (name, Ask::IS_OF_ONE_KIND)
            }
            None if is_shared() => {
                let name = self.limiter.names().shared(view.keyspace(), plan, owner);
                (name, keyspace.stamp())
            }
            None => (owner_names::of_key(view.lineage(), plan), keyspace.stamp()),
        };
        Ok(Some(Ask {
            name,
            level: Level::Key,
            terms,
            stamp,
            owner,
        }))
    }

    /// The limits that a key has of its own, if it has any.
    fn own_limits(&self, view: &View<'_>) -> Result<Option<Arc<Terms>>, Error> {
        if !view.has_own_limits() {
            return Ok(None);
        }
        let key = view.id();
        if let Some(known) = self.own_limits.get(key) {
            return Ok(Some(known));
        }
        let changes = self.own_limits.changes();
        let limits = self.read(|snapshot| snapshot.own_limits(key))?;
        limits
            .map(|limits| self.own_limits.keep(key, &limits, changes, &self.home))
            .transpose()
    }

    /// Spends a request's cost of all its quotas from memory, or of none.
    pub(super) fn spend(
        &self,
        levels: &Levels<'_>,
        cost: u32,
        now: Timestamp,
        note: impl FnMut(PurseName, Period),
    ) -> Result<(), NotSpent> {
        let mut purses = PerLevel::default();
        levels
            .quotas
            .iter()
            .for_each(|quota| purses.push(quota.purse));
        let spent = self.quotas.spend(&purses, cost.into(), now, note);
        spent.map_err(|(at, spent)| {
            let quota = levels.quotas.get(at).copied();
            match (spent, quota) {
                (Some(Spent::Exhausted { refills_at }), Some(quota)) => NotSpent::Exhausted {
                    level: quota.level,
                    refills_at,
                },
                (_, Some(quota)) => NotSpent::AskStore(quota),
                // Places are those that were given.
                (_, None) => NotSpent::Exhausted {
                    level: Level::Key,
                    refills_at: None,
                },
            }
        })
    }

    /// Has the store asked for what memory lacks of a quota: waits for a durable commit.
    fn fetch(
        &self,
        view: &View<'_>,
        quota: Quota,
        cost: u32,
        takes: bool,
        present: Present,
    ) -> Result<Fetched, Error> {
        // Before any lock: a thread that is not in a fork may have it there for ever.
        self.home.refuse_fork()?;
        let (key, cost, clock) = (view.id(), u64::from(cost), present.clock);
        let owner = match quota.depth {
            0 => None,
            depth => Some(path_of(view.owner(), depth)?),
        };
        let (keyspace, purse) = (view.keyspace(), quota.purse);
        let take = |asked: &Arc<Asked>| {
            let (quotas, asked) = (self.quotas.clone(), Arc::downgrade(asked));
            let owner = owner.clone();
            self.mutate(move |tx| match &owner {
                None => quota::take_slice(tx, &quotas, key, cost, clock, &asked),
                Some(owner) => {
                    let owner = (keyspace, owner, purse);
                    quota::take_slice_of_owner(tx, &quotas, owner, cost, clock, &asked)
                }
            })
        };
        self.counters.quota_slices.fetch_add(1, Relaxed);
        ahead::WAITED.set(true);
        if let Some(fleet) = &self.fleet {
            fleet.waits_for_slice();
        }
        self.quotas.fetch(quota.purse, cost, takes, clock, take)
    }

    pub(super) fn put_back(&self, numbers: Vec<u64>) -> Result<(), Error> {
        let quotas = self.quotas.clone();
        self.mutate(move |tx| quota::put_back(tx, &quotas, &numbers))
    }
}

impl<'a> Levels<'a> {
    /// Adds the limits of a level, which may be those of its plan.
    fn add(&mut self, keyspace: &Once<'_>, plan: u16, ask: Ask<'a>) {
        let plan = keyspace.get().plan_numbered(plan);
        if plan.is_some_and(|plan| plan.replaces_levels_above) {
            self.limits.clear();
        }
        if !ask.terms.limits.is_empty() {
            self.limits.push(ask);
        }
    }
}

/// The limits that hold at a level: its own, or those of its plan; `None`: it has neither.
#[inline(always)]
fn terms_of<'a>(
    keyspace: &'a Once<'_>,
    plan: u16,
    own: Option<&'a Arc<Terms>>,
) -> Result<Option<&'a Arc<Terms>>, Error> {
    match own {
        Some(_) => Ok(own),
        None if plan == 0 => Ok(None),
        None => keyspace.terms(plan).map(Some).ok_or_else(|| {
            Error::corrupted("keyspaces", plan, "a plan that is followed does not exist")
        }),
    }
}

/// The first segments of the path of a key's owner.
pub(super) fn path_of(owner: &[u8], depth: usize) -> Result<OwnerPath, Error> {
    let owner = std::str::from_utf8(owner).unwrap_or_default();
    let end = owner.match_indices('/').nth(depth - 1);
    let path = end.map_or(owner, |(at, _)| owner.get(..at).unwrap_or(owner));
    path.parse()
        .map_err(|_| Error::corrupted("keys", owner, "the owner of a key is no path"))
}
