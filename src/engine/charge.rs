//! Charging a verification to the limits and quotas of all its levels, to all of them or
//! to none.

use std::sync::Arc;

use crate::change::quota;
use crate::engine::shared::Core;
use crate::memory::levels::{LEVELS_MAX, PerLevel};
use crate::memory::limiter::{Ask, Charged as Counted};
use crate::memory::owner_names;
use crate::memory::quota::{Fetched, Name as PurseName, Taken};
use crate::memory::registry::Once;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::limit::{Level, LimitStatus};
use crate::model::time::Present;
use crate::model::verdict::{Denial, Standing};
use crate::store::quota::{Asked, Spent};
use crate::store::record::View;

/// What charging a request came to.
pub(super) enum Charged {
    /// With where its levels stand in their limits, if they have any.
    Admitted(Option<Standing>),
    /// Charged to nothing.
    OverLimit(Denial),
    /// Charged to nothing: a quota was changed since the key's record was read.
    Gone,
}

/// What a request is charged to.
#[derive(Default)]
struct Levels<'a> {
    limits: PerLevel<Ask<'a>>,
    quotas: PerLevel<Quota>,
}

/// A quota that a request is charged to.
#[derive(Clone, Copy)]
struct Quota {
    level: Level,
    purse: PurseName,
}

/// Why quotas do not cover a request that no limit refuses.
enum NotSpent {
    Exhausted {
        level: Level,
        refills_at: Option<Timestamp>,
    },
    /// Too little of the quota at this place is in memory.
    AskStore(usize),
}

impl Core {
    /// Charges a request that nothing else refuses to the limits and quotas of all its
    /// levels.
    pub(super) fn charge(
        &self,
        view: &View<'_>,
        keyspace: &Once<'_>,
        cost: u32,
        present: Present,
    ) -> Result<Charged, Error> {
        let levels = self.levels(view, keyspace)?;
        let key = view.id();
        // What was taken of quotas for this request while it waited for the store.
        let mut taken = [const { None::<Taken> }; LEVELS_MAX];
        let charged = loop {
            let charged = self.limiter.charge(
                &levels.limits,
                cost,
                present.clock,
                &self.home,
                // What costs nothing takes no slice either, and waits for no commit.
                || match cost {
                    0 => Ok(()),
                    cost => self.spend(&levels, &taken, cost, present.clock),
                },
            )?;
            match charged {
                Counted::Admitted(standing) => break Charged::Admitted(standing),
                Counted::OverLimit(refused) => {
                    break Charged::OverLimit(Denial::RateLimited {
                        key,
                        status: refused.status,
                        retry_after: refused.retry_after,
                    });
                }
                Counted::Failed(NotSpent::Exhausted { level, refills_at }) => {
                    break Charged::OverLimit(Denial::QuotaExhausted {
                        key,
                        level,
                        refills_at,
                    });
                }
                Counted::Failed(NotSpent::AskStore(at)) => {
                    let Some(quota) = levels.quotas.get(at) else {
                        return Err(Error::Internal("a quota that was asked is not there"));
                    };
                    match self.fetch(view, quota, cost, present) {
                        Ok(Fetched::InMemory) => {}
                        Ok(Fetched::Taken(slice)) => {
                            if let Some(place) = taken.get_mut(at) {
                                *place = Some(slice);
                            }
                        }
                        Ok(Fetched::Exhausted { refills_at }) => {
                            break Charged::OverLimit(Denial::QuotaExhausted {
                                key,
                                level: quota.level,
                                refills_at,
                            });
                        }
                        Ok(Fetched::Gone) => break Charged::Gone,
                        Err(error) => {
                            decide(taken, false);
                            return Err(error);
                        }
                    }
                }
            }
        };
        decide(taken, matches!(charged, Charged::Admitted(_)));
        Ok(charged)
    }

    /// Where the levels of a key stand in their limits, with nothing charged.
    pub(super) fn look_at_limits(
        &self,
        view: &View<'_>,
        keyspace: &Once<'_>,
        now: Timestamp,
    ) -> Result<Vec<LimitStatus>, Error> {
        let levels = self.levels(view, keyspace)?;
        self.limiter.look(&levels.limits, now, &self.home)
    }

    /// What a request of a key is charged to.
    fn levels<'a>(&self, view: &View<'a>, keyspace: &'a Once<'_>) -> Result<Levels<'a>, Error> {
        let mut levels = Levels::default();
        let owner = view.owner();
        match view.plan() {
            0 => {}
            plan => {
                let terms = keyspace.terms(plan);
                let terms = terms.ok_or_else(|| {
                    Error::corrupted("keys", view.id(), "its plan does not exist")
                })?;
                let is_shared =
                    (keyspace.get().plan_numbered(plan)).is_some_and(|plan| plan.shared_by_owner);
                let name = match is_shared {
                    true => self.limiter.names().shared(view.keyspace(), plan, owner),
                    false => owner_names::of_key(view.lineage(), plan),
                };
                levels.limits.push(Ask {
                    name,
                    level: Level::Key,
                    terms,
                    owner,
                });
            }
        }
        if view.has_quota() {
            levels.quotas.push(Quota {
                level: Level::Key,
                purse: view.id().raw(),
            });
        }
        Ok(levels)
    }

    /// Spends a request's cost of all its quotas from memory, or of none: but of those of
    /// which it was taken for the request before.
    fn spend(
        &self,
        levels: &Levels<'_>,
        taken: &[Option<Taken>; LEVELS_MAX],
        cost: u32,
        now: Timestamp,
    ) -> Result<(), NotSpent> {
        let cost = u64::from(cost);
        let due = || {
            let each = levels.quotas.iter().zip(taken).enumerate();
            each.filter(|(_, (_, taken))| taken.is_none())
                .map(|(at, (quota, _))| (at, quota))
        };
        for (at, quota) in due() {
            let failed = match self.quotas.spend(quota.purse, cost, now) {
                Some(Spent::Covered) => continue,
                Some(Spent::Exhausted { refills_at }) => NotSpent::Exhausted {
                    level: quota.level,
                    refills_at,
                },
                None => NotSpent::AskStore(at),
            };
            for (_, spent) in due().take_while(|(before, _)| *before < at) {
                self.quotas.put_back(spent.purse, cost);
            }
            return Err(failed);
        }
        Ok(())
    }

    /// Has the store asked for what memory lacks of a quota: waits for a durable commit.
    fn fetch(
        &self,
        view: &View<'_>,
        quota: Quota,
        cost: u32,
        present: Present,
    ) -> Result<Fetched, Error> {
        // Before any lock: a thread that is not in a fork may have it there for ever.
        self.home.check()?;
        let (key, cost, clock) = (view.id(), u64::from(cost), present.clock);
        let take = |asked: &Arc<Asked>| {
            let (quotas, asked) = (self.quotas.clone(), Arc::downgrade(asked));
            self.mutate(move |tx| quota::take_slice(tx, &quotas, key, cost, clock, &asked))
        };
        self.quotas.fetch(quota.purse, cost, clock, take)
    }

    pub(super) fn put_back(&self, numbers: Vec<u64>) -> Result<(), Error> {
        let quotas = self.quotas.clone();
        self.mutate(move |tx| quota::put_back(tx, &quotas, &numbers))
    }
}

/// Decides on what was taken of quotas for a request.
fn decide(taken: [Option<Taken>; LEVELS_MAX], is_spent: bool) {
    for taken in taken.into_iter().flatten() {
        taken.decide(is_spent);
    }
}
