//! Keyspaces, and the index of their prefixes.

use redb::{ReadableTable, ReadableTableMetadata};

use super::Tx;
use crate::model::error::{Error, NotFound};
use crate::model::id::Prefix;
use crate::model::keyspace::Keyspace;
use crate::store::failure::OrStore;
use crate::store::read;
use crate::store::tables::{self, Tagged};

impl Tx<'_> {
    pub(crate) fn keyspace_count(&self) -> Result<u64, Error> {
        self.keyspaces.len().or_store()
    }

    pub(crate) fn find_keyspace(&self, prefix: Prefix) -> Result<Option<Keyspace>, Error> {
        let number = match self.prefixes.get(prefix.as_str()).or_store()? {
            Some(number) => number.value(),
            None => return Ok(None),
        };
        let keyspace = self.keyspace_numbered(number)?;
        if keyspace.prefix != prefix {
            return Err(Error::corrupted(
                "prefixes",
                prefix,
                "it names another keyspace",
            ));
        }
        Ok(Some(keyspace))
    }

    pub(crate) fn keyspace(&self, prefix: Prefix) -> Result<Keyspace, Error> {
        self.find_keyspace(prefix)?
            .ok_or_else(|| NotFound::Keyspace(prefix).into())
    }

    pub(crate) fn keyspace_numbered(&self, number: u32) -> Result<Keyspace, Error> {
        read::keyspace(&self.keyspaces, self.ring, number)
    }

    /// The number for the next keyspace; numbers are not used twice.
    pub(crate) fn next_keyspace_number(&self) -> u32 {
        self.state.next_keyspace
    }

    pub(crate) fn put_keyspace(&mut self, keyspace: &Keyspace) -> Result<(), Error> {
        self.writing();
        let key = keyspace.id.to_le_bytes();
        let bytes = tables::seal(self.ring, Tagged::Keyspace, &key, keyspace)?;
        let old = self.keyspaces.insert(keyspace.id, bytes.as_slice());
        let old = old.or_store()?.map(|old| {
            let bytes = old.value();
            tables::unseal(self.ring, Tagged::Keyspace, &key, bytes)
        });
        let old = old.transpose();
        self.taken += u64::from(!matches!(old, Ok(None)));
        self.delta
            .keyspaces
            .note(keyspace.id, old, Some(keyspace.clone()));
        self.prefixes
            .insert(keyspace.prefix.as_str(), keyspace.id)
            .or_store()?;
        if keyspace.id >= self.state.next_keyspace {
            self.begin_counts(keyspace.id);
        }
        self.state.next_keyspace = self.state.next_keyspace.max(keyspace.id + 1);
        Ok(())
    }
}
