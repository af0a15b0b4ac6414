//! The index of the keys that are held: all whose tokens are accepted, or may come to
//! be. Caps are counted in it, past no key that is long over, and with a look at records
//! only where the count reaches the cap.
//!
//! A key leaves it when another supersedes it, or it is purged. One that is revoked, or
//! that time ends, stays until a count meets it that is followed by a change; what time
//! ended comes back where time is set back.

use redb::{ReadableTable, WriteTransaction};

use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::record::{KeyRecord, Phase, View};
use crate::store::tables::{HELD, KEYS, held_key};

/// The instant of a key that no instant ends.
const NEVER: u64 = u64::MAX;

/// What the index says of a key: from when on it is over, and its lineage.
pub(super) type Row = (u64, u64);

/// The row that a key must have as long as it is not over; a revoked one need have none.
pub(super) fn row_of(key: &KeyRecord) -> Option<Row> {
    let end = key.ends_at().map_or(NEVER, Timestamp::unix_ms);
    let is_revoked = matches!(key.phase, Phase::Revoked { .. });
    (!is_revoked).then_some((end, key.lineage.raw()))
}

/// Whether the row of a key says that it is over.
pub(super) fn is_over(row: Row, now: Timestamp) -> bool {
    row.0 != NEVER && row.0 <= now.unix_ms()
}

/// Makes the index of a store that has none.
pub(super) fn build(txn: &WriteTransaction, ring: &Keyring, now: Timestamp) -> Result<(), Error> {
    let keys = txn.open_table(KEYS).or_store()?;
    let mut held = txn.open_table(HELD).or_store()?;
    for entry in keys.iter().or_store()? {
        let (id, bytes) = entry.or_store()?;
        let id = KeyId::from_raw(id.value());
        let read =
            View::open(bytes.value(), id, ring).and_then(|(view, _)| KeyRecord::from_view(&view));
        // One that is damaged grants nothing.
        let Ok(key) = Error::or_damaged(read)? else {
            continue;
        };
        if let Some(row) = row_of(&key).filter(|row| !is_over(*row, now)) {
            let place = held_key(key.keyspace, &key.owner, id);
            held.insert(place.as_slice(), row).or_store()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_over_from_its_end_on_and_one_without_an_end_never() {
        let at = Timestamp::from_raw;
        assert!(!is_over((5, 1), at(4)));
        assert!(is_over((5, 1), at(5)));
        assert!(!is_over((NEVER, 1), Timestamp::MAX));
    }
}
