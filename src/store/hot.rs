//! A hot record, copied out of the file.

use crate::crypto::digest::{Keyring, TAG_LEN};
use crate::model::bounds::NETWORKS_MAX;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::store::lags::Lags;
use crate::store::record::{FIXED_LEN, KeyRecord, LINEAGE_LEN, View};

/// The longest hot record: 655 bytes, and its tag.
const LEN_MAX: usize =
    FIXED_LEN + OwnerPath::LEN_MAX + NETWORKS_MAX * Network::ENCODED_LEN + LINEAGE_LEN + TAG_LEN;

/// Room for a hot record. A reader copies the record here and releases the page of the
/// file before the decision, which may call the caller's clock, or wait for a commit.
pub(crate) struct HotCopy {
    bytes: [u8; LEN_MAX],
    /// `None` where there is no record.
    len: Option<usize>,
}

impl HotCopy {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; LEN_MAX],
            len: None,
        }
    }

    /// Takes a record, or that there is none. Its tag is still to be checked.
    pub(super) fn take(&mut self, id: KeyId, record: Option<&[u8]>) -> Result<(), Error> {
        self.len = None;
        let Some(record) = record else {
            return Ok(());
        };
        let room = self
            .bytes
            .get_mut(..record.len())
            .ok_or_else(|| Error::corrupted("keys", id, "it is too long"))?;
        room.copy_from_slice(record);
        self.len = Some(record.len());
        Ok(())
    }

    /// Checks the tag, the layout and the id of what was taken.
    pub(super) fn authenticate(&mut self, id: KeyId, ring: &Keyring) -> Result<(), Error> {
        let Some(len) = self.len else {
            return Ok(());
        };
        let record = self.bytes.get(..len).unwrap_or(&[]);
        let checked = View::open(record, id, ring).map(drop);
        if checked.is_err() {
            self.len = None;
        }
        checked
    }

    /// Lets what was taken and checked be as the changes that it lags behind say.
    pub(super) fn bring_up(&mut self, lags: &Lags, ring: &Keyring) -> Result<(), Error> {
        let lag = |view: &View<'_>| lags.covers(view.owner(), view.keyspace());
        let Some(view) = self.view().filter(lag) else {
            return Ok(());
        };
        let mut key = KeyRecord::from_view(&view)?;
        lags.bring_up(&mut key);
        let record = key.encode(ring)?;
        self.take(key.id, Some(&record))
    }

    /// The record without its tag, as memory keeps it; empty where there is none.
    pub(crate) fn body(&self) -> &[u8] {
        let len = self.len.map_or(0, |len| len.saturating_sub(TAG_LEN));
        self.bytes.get(..len).unwrap_or(&[])
    }

    /// The record, or `None` where there is none.
    pub(crate) fn view(&self) -> Option<View<'_>> {
        View::parse(self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_longer_than_any_or_empty_is_corrupt_and_gives_no_view() {
        let ring = Keyring::new(&zeroize::Zeroizing::new([7; 32]), &[]);
        let id = KeyId::from_raw(7);
        let mut copy = HotCopy::new();
        assert_eq!(LEN_MAX, 655 + TAG_LEN);
        let too_long = copy.take(id, Some(&[1; LEN_MAX + 1]));
        assert!(matches!(too_long, Err(Error::Corrupted(_))));
        assert!(copy.view().is_none());
        for len in [0, 1, LEN_MAX] {
            let taken = copy.take(id, Some(&vec![1; len]));
            let checked = taken.and_then(|()| copy.authenticate(id, &ring));
            assert!(matches!(checked, Err(Error::Corrupted(_))), "{len} bytes");
            assert!(copy.view().is_none());
        }
        copy.take(id, None).unwrap();
        copy.authenticate(id, &ring).unwrap();
        assert!(copy.view().is_none());
    }
}
