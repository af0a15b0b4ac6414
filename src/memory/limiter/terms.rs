//! The limits that hold at a level, and a server's share of those that are for the fleet.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::model::bounds::LIMITS_PER_PLAN_MAX;
use crate::model::limit::Limit;

/// The limits that hold at a level.
#[derive(Debug)]
pub(crate) struct Terms {
    /// What this server admits.
    pub(crate) limits: Box<[Limit]>,
    /// What they were given as, where one of them is for the fleet.
    for_fleet: Option<Box<[Limit]>>,
}

impl Terms {
    /// Those of one of so many servers.
    pub(crate) fn new(limits: &[Limit], servers: u64) -> Arc<Self> {
        let is_for_fleet = limits.iter().any(|limit| limit.is_for_fleet());
        Arc::new(Self {
            limits: limits.iter().map(|limit| limit.share(servers)).collect(),
            for_fleet: is_for_fleet.then(|| limits.into()),
        })
    }

    /// The same, of one of so many servers; `None` where they stay as they are.
    pub(crate) fn divided(&self, servers: u64) -> Option<Arc<Self>> {
        let new = Self::new(self.for_fleet.as_deref()?, servers);
        (new.limits != self.limits).then_some(new)
    }

    /// Whether they are these limits.
    pub(crate) fn are(&self, limits: &[Limit]) -> bool {
        **self.for_fleet.as_ref().unwrap_or(&self.limits) == *limits
    }

    /// A number of the kinds of its limits, in whichever order they are: what is counted of one
    /// is counted of another only where they have the same.
    pub(crate) fn kinds(&self) -> u64 {
        let kind = |limit: &Limit| (limit.algorithm() as u64) << 32 | u64::from(limit.window_s());
        let mix = |mixed: u64, kind: u64| (mixed ^ kind).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut kinds: ArrayVec<u64, LIMITS_PER_PLAN_MAX> = self.limits.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.into_iter().fold(1, mix)
    }
}
