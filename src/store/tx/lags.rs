//! Keys that lag behind their owner: see [`crate::store::lags`].

use super::Tx;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;
use crate::store::lags::{Lag, PER_STEP};
use crate::store::record::KeyRecord;

impl Tx<'_> {
    /// The keys of an owner, to be changed with it; or `None` where there are more than
    /// `at_once`, and they lag behind it from the next audit entry on.
    pub(crate) fn ids_or_lag(
        &mut self,
        owner: &OwnerPath,
        is_suspended: bool,
        at_once: usize,
    ) -> Result<Option<Vec<KeyId>>, Error> {
        // An earlier change that the keys lag behind is undone by this one.
        self.state.lags.remove(owner);
        let (ids, last) = self.ids_below(owner, None, at_once.saturating_add(1))?;
        // A damaged row of the index names no key.
        if ids.len() <= at_once && !self.is_more_below(owner, last.as_deref())? {
            return Ok(Some(ids));
        }
        self.writing();
        while self.state.lags.is_full() {
            self.bring_up(PER_STEP)?;
        }
        self.taken += 1;
        self.state.lags.push(Lag {
            owner: owner.clone(),
            is_suspended,
            seq: self.next_seq(),
            after: None,
        });
        Ok(None)
    }

    /// Whether the index of an owner goes on after a row; after none it does not.
    fn is_more_below(&self, owner: &OwnerPath, after: Option<&[u8]>) -> Result<bool, Error> {
        match after {
            Some(after) => Ok(self.ids_below(owner, Some(after), 1)?.1.is_some()),
            None => Ok(false),
        }
    }

    /// Brings up to so many keys up to their owner, and says whether there are more that
    /// lag.
    pub(crate) fn bring_up(&mut self, count: usize) -> Result<bool, Error> {
        let Some(lag) = self.state.lags.first().cloned() else {
            return Ok(false);
        };
        self.writing();
        let (mut ids, last) = self.ids_below(&lag.owner, lag.after.as_deref(), count)?;
        // In the order of the table, so that each page is visited once.
        ids.sort_unstable();
        for id in ids {
            // As it stands, and as all that lag say of it.
            let Some(key) = self.key_or_forget(id)? else {
                continue;
            };
            self.put_brought_up(&key)?;
        }
        let is_more = self.is_more_below(&lag.owner, last.as_deref())?;
        self.state.lags.reached(last.filter(|_| is_more));
        Ok(!self.state.lags.is_empty())
    }

    /// Writes a key as all that lag say of it.
    pub(super) fn put_brought_up(&mut self, key: &KeyRecord) -> Result<(), Error> {
        match self.as_it_stands(key)? {
            Some(stands) if stands != *key => self.rewrite_key(&stands, key),
            _ => Ok(()),
        }
    }
}
