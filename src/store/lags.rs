//! Owners whose keys lag behind them: an owner of many keys was suspended or resumed, and
//! not all records of its keys say so yet.
//!
//! A record of a key below such an owner, from before the change, is read as the change
//! left it: see docs/DESIGN.md. So nobody sees a difference between a key that was brought
//! up and one that was not, but for the counts and indexes, which are of the records as they
//! stand in the file.

use crate::model::audit::AuditEvent;
use crate::model::owner::OwnerPath;
use crate::store::record::{KeyRecord, Phase};

/// The most owners that lag at a time. The state has them all, and is written with every
/// commit.
pub(crate) const LAGS_MAX: usize = 16;

/// How many keys an owner may have for its suspension to change their records in its own
/// transaction.
pub(crate) const AT_ONCE: usize = 256;
const _: () = assert!(AT_ONCE as u64 == AuditEvent::KEYS_COUNTED_MAX);

/// How many keys of an owner that lags one transaction brings up.
pub(crate) const PER_STEP: usize = 1024;

/// An owner that was suspended or resumed, and whose keys do not all say so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) owner: OwnerPath,
    pub(crate) is_suspended: bool,
    /// The position of the audit entry of the change, before which no record knows of it.
    pub(crate) seq: u64,
    /// Up to where in the owner's index the keys are brought up; `None`: none is.
    pub(crate) after: Option<Vec<u8>>,
}

/// The owners that lag, in the order in which they were changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lags(Vec<Lag>);

impl Lag {
    /// Lets a record be as the change left it, unless it is later.
    fn bring_up(&self, key: &mut KeyRecord) {
        let is_revoked = matches!(key.phase, Phase::Revoked { .. });
        if is_revoked || key.revision >= self.seq || !self.owner.covers(&key.owner) {
            return;
        }
        let bit = 1_u8 << (self.owner.depth() - 1);
        match self.is_suspended {
            true => key.suspended |= bit,
            false => key.suspended &= !bit,
        }
        key.revision = self.seq;
    }

    fn covers(&self, owner: &[u8]) -> bool {
        match owner.strip_prefix(self.owner.as_str().as_bytes()) {
            Some(rest) => rest.first().is_none_or(|next| *next == b'/'),
            None => false,
        }
    }
}

impl Lags {
    /// Those that a state has. The order is what they were written in.
    pub(crate) fn new(lags: Vec<Lag>) -> Self {
        Self(lags)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= LAGS_MAX
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lag> {
        self.0.iter()
    }

    /// The owner that has lagged for the longest.
    pub(crate) fn first(&self) -> Option<&Lag> {
        self.0.first()
    }

    /// Notes how far the keys of the first are brought up; `None`: all are.
    pub(crate) fn reached(&mut self, after: Option<Vec<u8>>) {
        match (after, self.0.first_mut()) {
            (Some(after), Some(first)) => first.after = Some(after),
            _ => drop(self.0.drain(..self.0.len().min(1))),
        }
    }

    /// Adds one, behind all others.
    pub(crate) fn push(&mut self, lag: Lag) {
        self.0.push(lag);
    }

    /// Removes that of an owner.
    pub(crate) fn remove(&mut self, owner: &OwnerPath) {
        self.0.retain(|lag| lag.owner != *owner);
    }

    /// Whether an owner is among them.
    pub(crate) fn names(&self, owner: &OwnerPath) -> bool {
        self.0.iter().any(|lag| lag.owner == *owner)
    }

    /// Whether the keys of an owner lag, by its path.
    pub(crate) fn covers(&self, owner: &[u8]) -> bool {
        self.0.iter().any(|lag| lag.covers(owner))
    }

    /// Lets a record be as all changes left it.
    pub(crate) fn bring_up(&self, key: &mut KeyRecord) {
        self.0.iter().for_each(|lag| lag.bring_up(key));
    }

    /// Lets a record be as the first so many changes left it, and gives a copy that is as
    /// the next one left it; `None` where that makes no difference.
    pub(crate) fn difference(&self, at: usize, key: &mut KeyRecord) -> Option<KeyRecord> {
        let (before, rest) = self.0.split_at_checked(at)?;
        before.iter().for_each(|lag| lag.bring_up(key));
        let mut next = key.clone();
        rest.first()?.bring_up(&mut next);
        (next != *key).then_some(next)
    }
}
