//! Counts of what a store holds.

use std::collections::BTreeMap;

use crate::model::health::Health;
use crate::model::id::Prefix;

/// What a store holds, and what its engine keeps in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// How many keys each keyspace has, by state.
    pub keyspaces: BTreeMap<Prefix, KeyCounts>,
    /// The length of the file, in bytes; 0 for a store in memory.
    pub file_bytes: u64,
    /// How many audit entries there are.
    pub audit_entries: u64,
    /// How many keys the resident table holds. One whose record is long counts up to four
    /// times: see [`Options::resident_bytes`](crate::Options::resident_bytes).
    pub resident_keys: usize,
    /// How many keys fit into the resident table.
    pub resident_capacity: usize,
    /// How many keys and owners are counted for limits: at most
    /// [`Options::limited_keys`](crate::Options::limited_keys).
    pub limited_keys: usize,
    /// How many requests were refused since the store was opened because their owner
    /// had more keys counted than its share, and there was no room for one more.
    pub limits_refused_for_room: u64,
    /// How many counters of organisations above their share were dropped since the store was
    /// opened, to make room for others, and began anew: of keys, of projects and below, and
    /// of plans that are shared by owner. While it grows, raise
    /// [`Options::limited_keys`](crate::Options::limited_keys).
    pub limits_evicted: u64,
    /// How many uses of keys were not counted, for want of room between two
    /// flushes.
    pub usage_lost: u64,
    /// Whether the store takes changes.
    pub health: Health,
}

/// How many keys are hashed under a pepper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PepperKeys {
    /// The pepper's id.
    pub pepper: u8,
    /// How many keys need it. A revoked key needs none.
    pub keys: u64,
    /// Whether new digests are made under it.
    pub is_signing: bool,
}

/// How many keys there are, by state. A key counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct KeyCounts {
    /// Good.
    pub active: u64,
    /// Rotated, and in their grace.
    pub retiring: u64,
    /// Not good yet.
    pub not_yet_valid: u64,
    /// Disabled.
    pub disabled: u64,
    /// Suspended with their owner.
    pub suspended: u64,
    /// Expired.
    pub expired: u64,
    /// Revoked.
    pub revoked: u64,
    /// Past their expiry: all of `expired`, and those of `disabled` and `suspended`
    /// that have expired. This is not a state of its own, so the [`total`](Self::total)
    /// does not add it.
    pub over_by_expiry: u64,
}

impl KeyCounts {
    /// The sum of all states.
    #[must_use]
    pub fn total(&self) -> u64 {
        let states = [
            self.active,
            self.retiring,
            self.not_yet_valid,
            self.disabled,
            self.suspended,
            self.expired,
            self.revoked,
        ];
        states.into_iter().fold(0, u64::saturating_add)
    }
}
