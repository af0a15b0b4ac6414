//! What a request would come to, without making it.

use crate::model::limit::{Level, LimitStatus};
use crate::model::quota::QuotaStatus;
use crate::model::verdict::Denial;

/// What [`Engine::dry_run`](crate::Engine::dry_run) says of a request that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DryRun {
    /// Why it would be denied; `None`: it would be granted.
    pub denial: Option<Denial>,
    /// What is left of every limit that it would be charged to, the shortest path first
    /// and the key last. Empty where the token is denied for another reason.
    pub limits: Vec<LimitStatus>,
    /// The same of the quotas.
    pub quotas: Vec<QuotaLeft>,
}

impl DryRun {
    pub(crate) fn denied(denial: Denial) -> Self {
        Self {
            denial: Some(denial),
            limits: Vec::new(),
            quotas: Vec::new(),
        }
    }

    /// Whether the request would be granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.denial.is_none()
    }
}

/// How much is left of a quota of a level that a request is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QuotaLeft {
    pub(crate) level: Level,
    pub(crate) status: QuotaStatus,
}

impl QuotaLeft {
    /// Whose quota it is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What is left of it: in the store, and in memory, which
    /// [`QuotaStatus::remaining`] of a key does not tell.
    #[must_use]
    pub fn status(&self) -> QuotaStatus {
        self.status
    }
}
