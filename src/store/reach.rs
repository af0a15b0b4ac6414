//! How far the counts of keys have followed time.

use crate::model::clock::Timestamp;
use crate::model::id::KeyId;

/// A place among the instants at which time changes the state of keys, which are in the
/// order of the instants, and of the keys' ids within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reach {
    pub(super) at: Timestamp,
    pub(super) id: u64,
}

impl Reach {
    /// Behind all that an instant changes.
    pub(crate) const fn through(at: Timestamp) -> Self {
        Self { at, id: u64::MAX }
    }

    /// The instant as of which a key is counted. No key's instant is 0.
    pub(crate) fn instant_of(self, id: KeyId) -> Timestamp {
        match id.raw() <= self.id {
            true => self.at,
            false => Timestamp::from_raw(self.at.unix_ms().saturating_sub(1)),
        }
    }
}
