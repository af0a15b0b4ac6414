//! Bodies of entries that are too large to be appended whole.

use crate::engine::fleet::state::Fleet;
use crate::model::error::Error;
use crate::model::log::{BODY_LEN_MAX, BodyId, LogError};
use crate::steps::reached;
use crate::store::body;
use crate::sync::lock;

/// How many bodies as long as the longest a batch puts before its callers are told that others
/// were always quicker: what was overtaken stays in the log until it is trimmed.
const LONGEST_PER_BATCH: u64 = 4;

pub(super) fn others_were_quicker() -> Error {
    Error::Log(LogError::new(
        "other servers were quicker each time; try again",
    ))
}

/// How many bytes a batch may still put into bodies.
pub(super) struct Left(u64);

impl Left {
    pub(super) fn for_batch(fleet: &Fleet) -> Self {
        let longest = fleet.log.body_len_max().min(BODY_LEN_MAX) as u64;
        Self(longest * LONGEST_PER_BATCH)
    }
}

impl Fleet {
    /// Puts the body of the entry that is to come right behind a position. Gives the newest
    /// position that was heard of, where that is a later one: the entry would be overtaken.
    pub(super) fn put_body(
        &self,
        after: u64,
        id: &BodyId,
        body: &[u8],
        left: &mut Left,
    ) -> Result<Option<u64>, Error> {
        for (part, bytes) in body::parts(body) {
            let newest = self.newest();
            if newest > after {
                return Ok(Some(newest));
            }
            let taken = left.0.checked_sub(bytes.len() as u64);
            left.0 = taken.ok_or_else(others_were_quicker)?;
            let put = self.log.put_body(after, id, part, bytes);
            put.map_err(Error::Log)?;
            reached("body part");
        }
        reached("body put");
        Ok(None)
    }

    fn newest(&self) -> u64 {
        let known = lock(&self.known);
        known.newest.max(known.place.position)
    }
}
