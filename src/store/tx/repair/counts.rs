//! How many keys there are, by state and by pepper.

use std::collections::BTreeMap;

use super::Mender;
use crate::model::error::Error;
use crate::store::counts;
use crate::store::record::Phase;

impl Mender<'_, '_> {
    /// Counts the keys by state again.
    pub(super) fn counts(&mut self) -> Result<(), Error> {
        let wrong = self.tx.count_again()?;
        if !wrong.is_empty() {
            self.tx.writing();
        }
        // Where keys were removed, that is why.
        if self.unwritten.is_empty() {
            for keyspace in wrong {
                let done = "its keys are counted again";
                self.note("gatekey", counts::name_of(keyspace), done);
            }
        }
        Ok(())
    }

    /// Counts the keys by pepper again.
    pub(super) fn digests(&mut self) -> Result<(), Error> {
        let mut counted: BTreeMap<u8, u64> = BTreeMap::new();
        self.tx.each_key(|key| {
            if !matches!(key.phase, Phase::Revoked { .. }) {
                *counted.entry(key.pepper).or_default() += 1;
            }
            Ok(())
        })?;
        let stored: BTreeMap<u8, u64> = self.tx.state.digests.iter().copied().collect();
        let stored = stored.into_iter().filter(|(_, count)| *count > 0);
        if !stored.eq(counted.iter().map(|(pepper, count)| (*pepper, *count))) {
            self.tx.writing();
            self.tx.state.digests = counted.into_iter().collect();
            // Where keys were removed, that is why.
            if self.unwritten.is_empty() {
                self.note("gatekey", "state", "keys by pepper are counted again");
            }
        }
        Ok(())
    }
}
