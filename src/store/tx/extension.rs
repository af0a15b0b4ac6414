//! Records of extensions, in a transaction.

use redb::ReadableTable;

use super::Tx;
use crate::model::bounds;
use crate::model::error::{Error, Invalid};
use crate::store::extension::{
    self, Damaged, ExtensionRecord, KEY_LEN_MAX, Page, RECORD_LEN_MAX, definition,
};
use crate::store::failure::OrStore;
use crate::store::journal::Noted;
use crate::store::tables::Bytes;

impl<'t> Tx<'t> {
    fn open_extension(&self, name: &str) -> Result<Noted<'t, Bytes, Bytes>, Error> {
        self.open_table(definition(name))
    }

    /// A record of a table, by the table's name in the file.
    pub(crate) fn extension_record(
        &self,
        name: &str,
        key: &[u8],
    ) -> Result<Option<ExtensionRecord>, Error> {
        let table = self.open_extension(name)?;
        let stored = table.get(key).or_store()?;
        let read =
            |stored: redb::AccessGuard<'_, Bytes>| self.read_extension(name, key, stored.value());
        stored.map(read).transpose()
    }

    pub(crate) fn extension_page(
        &self,
        name: &str,
        (from, before): (&[u8], Option<&[u8]>),
        limit: usize,
    ) -> Result<Page, Error> {
        let table = self.open_extension(name)?;
        let page = (from, before, limit);
        extension::page(&table, self.ring, name, page, Damaged::Refused)
    }

    pub(crate) fn extension_keys(
        &self,
        name: &str,
        range: (&[u8], Option<&[u8]>, usize),
    ) -> Result<Vec<Vec<u8>>, Error> {
        let table = self.open_extension(name)?;
        extension::keys(&table, range)
    }

    /// Puts a record in the place of what is there, damaged or not.
    pub(crate) fn put_extension(
        &mut self,
        name: &str,
        key: &[u8],
        record: ExtensionRecord,
    ) -> Result<(), Error> {
        bounds::validate_count("bytes in a record's key", key.len(), KEY_LEN_MAX)?;
        bounds::validate_count("bytes in a record", record.bytes.len(), RECORD_LEN_MAX)?;
        if key.is_empty() {
            return Err(Invalid::malformed("key of a record", "", "it is empty").into());
        }
        self.writing();
        let bytes = extension::seal(self.ring, name, key, &record);
        let mut table = self.open_extension(name)?;
        let old = table.insert(key, bytes.as_slice()).or_store()?;
        let old = old.map(|old| self.read_extension(name, key, old.value()));
        self.taken += u64::from(old.is_some());
        let place = (name.to_owned(), key.to_vec());
        self.delta
            .extensions
            .note(place, old.transpose(), Some(record));
        Ok(())
    }

    /// Removes a record, and says whether there was one, damaged or not.
    pub(crate) fn remove_extension(&mut self, name: &str, key: &[u8]) -> Result<bool, Error> {
        let mut table = self.open_extension(name)?;
        let old = table.remove(key).or_store()?;
        let Some(old) = old.map(|old| self.read_extension(name, key, old.value())) else {
            return Ok(false);
        };
        self.writing();
        self.taken += 1;
        let place = (name.to_owned(), key.to_vec());
        self.delta.extensions.note(place, old.map(Some), None);
        Ok(true)
    }

    fn read_extension(
        &self,
        name: &str,
        key: &[u8],
        stored: &[u8],
    ) -> Result<ExtensionRecord, Error> {
        extension::unseal(self.ring, name, key, stored)
    }
}
