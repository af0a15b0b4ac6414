//! Every limit and quota that a request is charged to, and what is left of each: what an
//! answer to the key's holder tells. At one instant of the clock, so that all that is told
//! of them agrees.

use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::counter::Counter;
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::quota::Quota;

/// What a request was charged to, or what refused it: the shortest path first, the key last.
#[cfg(feature = "http")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowances {
    pub(crate) at: Timestamp,
    /// What the request costs, where it was refused; 0: it was charged, or is none.
    pub(crate) cost: u32,
    pub(crate) limits: Vec<LimitAllowance>,
    pub(crate) quotas: Vec<QuotaAllowance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitAllowance {
    /// Of a limit that refuses the request, the reset is when that is admitted.
    pub(crate) status: LimitStatus,
    pub(crate) refuses: bool,
    /// When it admits the request; `None`: never.
    pub(crate) admits_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaAllowance {
    pub(crate) level: Level,
    pub(crate) quota: Quota,
    pub(crate) remaining: u64,
    /// What was used beyond it.
    pub(crate) owed: u64,
    /// `None`: never.
    pub(crate) refills_at: Option<Timestamp>,
}

#[cfg(feature = "http")]
impl Allowances {
    /// Whether a quota does not cover the request.
    pub(crate) fn is_short(&self, quota: &QuotaAllowance) -> bool {
        quota.remaining < self.cost.into()
    }
}

impl LimitAllowance {
    /// Of a counter that was moved to the instant.
    pub(crate) fn of(
        counter: Counter,
        limit: Limit,
        level: Level,
        cost: u32,
        now: Timestamp,
    ) -> Self {
        let status = counter.status(limit, level, now);
        let admits_at = counter.admits_at(limit, cost.into(), now);
        match status.remaining < cost {
            true => Self::refusing(status, admits_at),
            false => Self {
                status,
                refuses: false,
                admits_at,
            },
        }
    }

    /// Of a limit that refuses a request until an instant, or for ever.
    pub(crate) fn refusing(status: LimitStatus, admits_at: Option<Timestamp>) -> Self {
        Self {
            status: LimitStatus {
                resets_at: admits_at.unwrap_or(status.resets_at),
                ..status
            },
            refuses: true,
            admits_at,
        }
    }
}

impl QuotaAllowance {
    /// When it covers a cost; `None`: no waiting helps.
    pub(crate) fn covers_at(&self, cost: u32, now: Timestamp) -> Option<Timestamp> {
        match u64::from(cost) {
            cost if cost <= self.remaining => Some(now),
            cost => (self.refills_at).and_then(|at| self.quota.covers_at(at, self.owed, cost)),
        }
    }

    /// When a refill leaves enough for a cost, or more than there is where none does: one that
    /// owes pays that first. `None`: never.
    #[cfg(feature = "http")]
    pub(crate) fn resets_at(&self, cost: u32) -> Option<Timestamp> {
        let refills_at = self.refills_at?;
        let covers_at = |cost| self.quota.covers_at(refills_at, self.owed, cost);
        let covered = covers_at(cost.max(1).into()).or_else(|| covers_at(1));
        Some(covered.unwrap_or(refills_at))
    }
}

/// The longer of two waits, of which `None` is for ever.
pub(crate) fn longer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one?.max(other?))
}
