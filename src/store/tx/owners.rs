//! The suspensions of owners.

use redb::{ReadableTable, ReadableTableMetadata};

use super::Tx;
use crate::model::error::Error;
use crate::model::owner::{OwnerPath, OwnerState};
use crate::store::failure::OrStore;
use crate::store::read;
use crate::store::tables::{self, OwnerRecord, Tagged};

impl Tx<'_> {
    pub(crate) fn owner(&self, path: &str) -> Result<Option<OwnerRecord>, Error> {
        read::owner(&self.owners, self.ring, path)
    }

    /// Whether an owner has a record of its suspension, be it damaged.
    pub(crate) fn is_suspended(&self, path: &str) -> Result<bool, Error> {
        Ok(self.owners.get(path).or_store()?.is_some())
    }

    /// Sets or takes away an owner's suspension.
    pub(crate) fn set_owner(
        &mut self,
        path: &OwnerPath,
        record: Option<&OwnerRecord>,
    ) -> Result<(), Error> {
        self.writing();
        let path = path.as_str();
        match record {
            Some(record) => {
                let bytes = tables::seal(self.ring, Tagged::Owner, path.as_bytes(), record)?;
                self.owners.insert(path, bytes.as_slice()).or_store()?;
            }
            None => {
                self.owners.remove(path).or_store()?;
            }
        }
        Ok(())
    }

    /// Whether no owner is suspended at all.
    pub(crate) fn nobody_is_suspended(&self) -> Result<bool, Error> {
        self.owners.is_empty().or_store()
    }

    /// Which of an owner's path and its ancestors are suspended.
    pub(crate) fn suspended_mask(&self, owner: &OwnerPath) -> Result<u8, Error> {
        read::suspended_mask(&self.owners, self.ring, owner)
    }

    pub(crate) fn owner_state(&self, owner: &OwnerPath) -> Result<OwnerState, Error> {
        read::owner_state(&self.owners, self.ring, owner)
    }
}
