//! Slices of quotas: taken to be spent from memory, and put back.
//!
//! Like usage, they leave no audit entry: nobody's rights change.

use crate::error::Error;
use crate::id::KeyId;
use crate::quota::Slice;
use crate::store::tx::Tx;

/// Takes a slice of a key's quota, of at least `wanted` requests or of none. `None`:
/// the key has no quota by now, or is gone.
pub(crate) fn take_slice(tx: &mut Tx<'_>, key: KeyId, wanted: u64) -> Result<Option<Slice>, Error> {
    if !tx.find_key(key)?.is_some_and(|key| key.has_quota) {
        return Ok(None);
    }
    let number = tx
        .cold(key)?
        .quota
        .ok_or_else(|| Error::corrupted("cold", key, "its key has a quota, and it names none"))?;
    let old = tx.quota(number)?;
    let mut new = old.at(tx.now());
    let slice = new.take_slice(number, wanted);
    if new != old {
        tx.put_quota(number, &new)?;
    }
    Ok(Some(slice))
}

/// Puts the rest of slices back. A quota that is gone since is passed over, and so is
/// one that is damaged: the others must not suffer for it.
pub(crate) fn put_back(tx: &mut Tx<'_>, slices: &[Slice]) -> Result<(), Error> {
    for slice in slices.iter().filter(|slice| slice.requests > 0) {
        let old = match tx.find_quota(slice.number) {
            Ok(Some(old)) => old,
            Ok(None) | Err(Error::Corrupted(_)) => continue,
            Err(error) => return Err(error),
        };
        let mut new = old.at(tx.now());
        new.put_back(*slice);
        if new != old {
            tx.put_quota(slice.number, &new)?;
        }
    }
    Ok(())
}
