//! How keys, owners and keyspaces were used, by the day and by the hour.

use crate::model::clock::Timestamp;
use crate::model::outcome::OutcomeCounts;

/// What verifications came to within a day or an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct UsageBin {
    /// When the day or the hour begins, in UTC.
    pub begins_at: Timestamp,
    /// What they came to.
    pub counts: OutcomeCounts,
}

/// For how long the hours of keyspaces are kept.
pub(crate) const HOURS_KEPT: u32 = 400 * 24;
/// For how many days the days of keys and owners are kept.
pub(crate) const DAYS_KEPT: u32 = 90;
