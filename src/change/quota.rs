//! Slices of quotas: taken to be spent from memory, and put back.
//!
//! Like usage, they leave no audit entry: nobody's rights change.

use crate::error::Error;
use crate::id::KeyId;
use crate::quota::Slice;
use crate::store::tx::Tx;

/// Takes a slice of a key's quota; one of no requests where nothing is left.
pub(crate) fn take_slice(tx: &mut Tx<'_>, key: KeyId) -> Result<Slice, Error> {
    let root = tx
        .cold(key)?
        .quota
        .ok_or_else(|| Error::corrupted("cold", key, "its key has a quota, and it names none"))?;
    let old = tx.quota(root)?;
    let mut new = old.at(tx.now());
    let slice = new.take_slice(root);
    if new != old {
        tx.put_quota(root, &new)?;
    }
    Ok(slice)
}

/// Puts the rest of slices back. A quota that is gone since is passed over.
pub(crate) fn put_back(tx: &mut Tx<'_>, slices: &[Slice]) -> Result<(), Error> {
    for slice in slices.iter().filter(|slice| slice.requests > 0) {
        let Some(old) = tx.find_quota(slice.root)? else {
            continue;
        };
        let mut new = old.at(tx.now());
        new.put_back(*slice);
        if new != old {
            tx.put_quota(slice.root, &new)?;
        }
    }
    Ok(())
}
