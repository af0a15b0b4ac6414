//! Owners and keyspaces whose keys lag behind them: many keys were suspended, resumed or
//! revoked together, and not all of their records say so yet.
//!
//! A record of such a key from before the change is read as the change left it: see
//! docs/DESIGN.md. So nobody sees a difference between a key that was brought up and one that
//! was not, but for the counts and indexes, which are of the records as they stand in the file.

use crate::model::audit::{AuditEvent, NAMED_MAX, Scope};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, Prefix};
use crate::model::owner::OwnerPath;
use crate::model::reason::Reason;
use crate::store::life::Life;
use crate::store::record::{KeyRecord, Phase};

/// The most changes that keys lag behind at a time. The state has them all, and is written
/// with every commit.
pub(crate) const LAGS_MAX: usize = 16;

/// How many keys one transaction may suspend, resume or revoke together with their owner or
/// keyspace.
pub(crate) const AT_ONCE: usize = 256;
const _: () = assert!(AT_ONCE as u64 == AuditEvent::KEYS_COUNTED_MAX);

/// How many keys that lag one transaction brings up: as many as an audit entry names.
pub(crate) const PER_STEP: usize = NAMED_MAX;

/// Whose keys lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of an owner, and of all owners below it.
    Owner(OwnerPath),
    /// Those of a keyspace, with its number.
    Keyspace(u32, Prefix),
}

/// What became of keys that lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Became {
    /// Of an owner's.
    Suspended,
    /// Of an owner's.
    Resumed,
    Revoked {
        at: Timestamp,
        reason: Reason,
        actor: Option<String>,
    },
}

/// A change of many keys that do not all say so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) whose: Whose,
    pub(crate) became: Became,
    /// The position of the audit entry of the change, before which no record knows of it.
    pub(crate) seq: u64,
    /// Up to where in the index of the owner or the keyspace the keys are brought up; `None`:
    /// none is.
    pub(crate) after: Option<Vec<u8>>,
}

/// The changes that keys lag behind, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lags(Vec<Lag>);

impl Whose {
    fn covers(&self, owner: &[u8], keyspace: u32) -> bool {
        match self {
            Self::Owner(path) => match owner.strip_prefix(path.as_str().as_bytes()) {
                Some(rest) => rest.first().is_none_or(|next| *next == b'/'),
                None => false,
            },
            Self::Keyspace(number, _) => *number == keyspace,
        }
    }

    /// As the audit trail says it.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Owner(owner) => Scope::Owner(owner.clone()),
            Self::Keyspace(_, prefix) => Scope::Keyspace(*prefix),
        }
    }
}

impl Lag {
    /// Lets a record be as the change left it, unless it is later.
    fn bring_up(&self, key: &mut KeyRecord) {
        let is_revoked = matches!(key.phase, Phase::Revoked { .. });
        let owner = key.owner.as_str().as_bytes();
        if is_revoked || key.revision >= self.seq || !self.whose.covers(owner, key.keyspace) {
            return;
        }
        let bit = match &self.whose {
            Whose::Owner(owner) => 1_u8 << (owner.depth() - 1),
            Whose::Keyspace(..) => 0,
        };
        match self.became {
            Became::Suspended => key.suspended |= bit,
            Became::Resumed => key.suspended &= !bit,
            // Its grace was over: it was revoked before.
            Became::Revoked { at, .. } if Life::from(&*key).revoked(at).is_some() => return,
            Became::Revoked { at, reason, .. } => key.phase = Phase::Revoked { at, reason },
        }
        key.revision = self.seq;
    }

    /// Whether it is a suspension or a resumption of an owner.
    fn is_suspension_of(&self, owner: &OwnerPath) -> bool {
        !self.is_revocation() && matches!(&self.whose, Whose::Owner(of) if of == owner)
    }

    /// Whether it suspends keys, or else resumes them; `None`: it is a revocation.
    pub(super) fn is_suspension(&self) -> Option<bool> {
        match self.became {
            Became::Suspended => Some(true),
            Became::Resumed => Some(false),
            Became::Revoked { .. } => None,
        }
    }

    fn is_revocation(&self) -> bool {
        matches!(self.became, Became::Revoked { .. })
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

    /// What keys have lagged behind for the longest.
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

    /// Removes the suspension or resumption of an owner, which another takes the place of. A
    /// revocation is for good.
    pub(crate) fn forget_suspension(&mut self, owner: &OwnerPath) {
        self.0.retain(|lag| !lag.is_suspension_of(owner));
    }

    /// Whether a suspension or resumption of an owner is among them.
    pub(crate) fn has_suspension(&self, owner: &OwnerPath) -> bool {
        self.0.iter().any(|lag| lag.is_suspension_of(owner))
    }

    /// Whether a revocation is among them.
    pub(crate) fn has_revocation(&self) -> bool {
        self.0.iter().any(Lag::is_revocation)
    }

    /// The revocation with an audit entry.
    pub(crate) fn revocation(&self, seq: u64) -> Option<&Lag> {
        (self.0.iter()).find(|lag| lag.is_revocation() && lag.seq == seq)
    }

    /// Whether a key lags, by its owner's path and its keyspace, unless it is later.
    pub(crate) fn covers(&self, owner: &[u8], keyspace: u32) -> bool {
        self.0.iter().any(|lag| lag.whose.covers(owner, keyspace))
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

/// The key that a place in the index of a keyspace is of.
pub(super) fn place(after: &[u8]) -> Option<KeyId> {
    let bytes = after.first_chunk()?;
    Some(KeyId::from_raw(u64::from_be_bytes(*bytes)))
}

/// The place of a key in the index of a keyspace.
pub(super) fn place_of(id: KeyId) -> Vec<u8> {
    id.raw().to_be_bytes().to_vec()
}
