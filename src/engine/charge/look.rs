//! What a request would be charged to, and what is left of it, with nothing charged.

use std::time::Duration;

use super::{Levels, Quota, path_of};
#[cfg(feature = "http")]
use crate::engine::charge::Charged;
use crate::engine::shared::Core;
#[cfg(feature = "http")]
use crate::model::allowances::{Allowances, LimitAllowance};
use crate::model::allowances::{QuotaAllowance, longer};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::limit::{Level, LimitStatus};
use crate::model::quota::QuotaStatus;
#[cfg(feature = "http")]
use crate::model::requirements::Told;
use crate::model::verdict::Denial;
use crate::store::record::View;

impl Core {
    /// The denial of a request that a limit refuses: it waits for the limit, or for a quota that
    /// does not cover it either, where that is longer.
    #[cold]
    pub(in crate::engine) fn over_limit(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        cost: u32,
        clock: Timestamp,
        (status, for_limits): (LimitStatus, Option<Duration>),
    ) -> Denial {
        let quotas = self.look_at_quotas(view, levels, clock).unwrap_or_default();
        let retry_after = quotas.iter().fold(for_limits, |wait, quota| {
            let covers_at = quota.covers_at(cost, clock);
            longer(wait, covers_at.map(|at| at.saturating_since(clock)))
        });
        let admitted_at = retry_after.map(|wait| clock.saturating_add(wait));
        Denial::RateLimited {
            key: view.id(),
            status: LimitStatus {
                resets_at: admitted_at.unwrap_or(status.resets_at),
                ..status
            },
            retry_after,
        }
    }

    /// Of the quotas that do not cover a request, the one to wait longest for, and when it
    /// is refilled. `known`: one of them.
    #[cold]
    pub(in crate::engine) fn longest_refill(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        cost: u32,
        clock: Timestamp,
        known: (Level, Option<Timestamp>),
    ) -> (Level, Option<Timestamp>) {
        if levels.quotas.len() == 1 {
            return known;
        }
        let quotas = self.look_at_quotas(view, levels, clock).unwrap_or_default();
        let instant = |at: Option<Timestamp>| at.unwrap_or(Timestamp::MAX);
        quotas.iter().fold(known, |longest, quota| {
            let covers_at = quota.covers_at(cost, clock);
            match instant(covers_at) > instant(longest.1) {
                true => (quota.level, covers_at),
                false => longest,
            }
        })
    }

    /// What is left of the quotas of a key's levels, in memory and in the store.
    pub(in crate::engine) fn look_at_quotas(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        clock: Timestamp,
    ) -> Result<Vec<QuotaAllowance>, Error> {
        let mut found = Vec::with_capacity(levels.quotas.len());
        for quota in levels.quotas.iter() {
            found.extend(self.look_at_quota(view, *quota, clock)?);
        }
        Ok(found)
    }

    fn look_at_quota(
        &self,
        view: &View<'_>,
        asked: Quota,
        clock: Timestamp,
    ) -> Result<Option<QuotaAllowance>, Error> {
        let left = match self.quotas.status(asked.purse, clock) {
            Some(left) => Some(left),
            None => self.look_in_store(view, asked, clock)?,
        };
        Ok(left.map(|left| QuotaAllowance {
            level: asked.level,
            quota: left.quota,
            remaining: left.remaining,
            owed: left.owed,
            refills_at: left.refills_at,
        }))
    }

    /// A quota that memory knows nothing of under the name that it is asked by.
    #[cold]
    fn look_in_store(
        &self,
        view: &View<'_>,
        asked: Quota,
        clock: Timestamp,
    ) -> Result<Option<QuotaStatus>, Error> {
        let found = match asked.depth {
            0 => {
                let found = self.read(|snapshot| snapshot.key_quota(view.id(), clock))?;
                found.map(|(number, record)| (Some(number), record))
            }
            depth => {
                let (keyspace, owner) = (view.keyspace(), path_of(view.owner(), depth)?);
                self.read(|snapshot| snapshot.owner_quota(keyspace, &owner, clock))?
            }
        };
        Ok(found.map(|(number, record)| {
            // Where there is a purse, it knows what was taken out of the store.
            let in_memory = number.and_then(|number| self.quotas.status_numbered(number, clock));
            in_memory.unwrap_or_else(|| record.status(clock))
        }))
    }
}

#[cfg(feature = "http")]
impl Core {
    /// Tells what a request was charged to, or what refused it, where that was asked for.
    /// Says nothing where that cannot be read: what was charged stays charged.
    pub(super) fn tell_charged(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        cost: u32,
        clock: Timestamp,
        charged: &Charged,
        told: &Told,
    ) {
        let (cost, denial) = match charged {
            Charged::Admitted if told.of_grants => (0, None),
            Charged::OverLimit(denial) => (cost, Some(denial)),
            Charged::Admitted | Charged::Gone => return,
        };
        if let Ok(mut found) = self.allowances(view, levels, cost, clock) {
            if let Some(denial) = denial {
                found.note(denial);
            }
            // A request is charged once.
            let _ = told.found.set(found);
        }
    }

    /// What a request of a cost would be charged to.
    pub(super) fn allowances(
        &self,
        view: &View<'_>,
        levels: &Levels<'_>,
        cost: u32,
        clock: Timestamp,
    ) -> Result<Allowances, Error> {
        Ok(Allowances {
            at: clock,
            cost,
            limits: self.limiter.look(&levels.limits, cost, clock, &self.home)?,
            quotas: self.look_at_quotas(view, levels, clock)?,
        })
    }
}

#[cfg(feature = "http")]
impl Allowances {
    /// Notes what refused a request: what is read a moment later may not show it any more.
    fn note(&mut self, denial: &Denial) {
        match denial {
            Denial::RateLimited {
                status,
                retry_after,
                ..
            } => {
                let is_it = |limit: &LimitStatus| {
                    (limit.limit(), limit.level()) == (status.limit(), status.level())
                };
                let mut limits = self.limits.iter_mut();
                if let Some(known) = limits.find(|known| is_it(&known.status) && !known.refuses) {
                    let admits_at = retry_after.map(|wait| self.at.saturating_add(wait));
                    *known = LimitAllowance::refusing(*status, admits_at);
                }
            }
            Denial::QuotaExhausted {
                level, refills_at, ..
            } => {
                let mut quotas = self.quotas.iter_mut();
                if let Some(known) = quotas.find(|known| known.level == *level) {
                    let too_few = u64::from(self.cost).saturating_sub(1);
                    known.remaining = known.remaining.min(too_few);
                    known.refills_at = known.refills_at.or(*refills_at);
                }
            }
            _ => {}
        }
    }
}

#[cfg(all(test, feature = "http"))]
mod tests;
