//! Keys that lag behind their owner or keyspace: see [`crate::store::lags`].

use std::collections::BTreeMap;

use super::Tx;
use crate::model::audit::{AuditEvent, NAMED_MAX};
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::owner::OwnerPath;
use crate::store::lags::{Became, Lag, PER_STEP, Whose, place, place_of};
use crate::store::record::{KeyRecord, Phase};

impl Tx<'_> {
    /// The keys of an owner, to be suspended or resumed with it; or `None` where there are
    /// more than `at_once`, and they lag behind it from the next audit entry on.
    pub(crate) fn ids_or_suspension(
        &mut self,
        owner: &OwnerPath,
        is_suspended: bool,
        at_once: usize,
    ) -> Result<Option<Vec<KeyId>>, Error> {
        // An earlier change that the keys lag behind is undone by this one.
        self.state.lags.forget_suspension(owner);
        let became = match is_suspended {
            true => Became::Suspended,
            false => Became::Resumed,
        };
        self.ids_or_lag(Whose::Owner(owner.clone()), became, at_once)
    }

    /// The keys that are to be changed; or `None` where there are more than `at_once`, and
    /// they lag from the next audit entry on.
    pub(crate) fn ids_or_lag(
        &mut self,
        whose: Whose,
        became: Became,
        at_once: usize,
    ) -> Result<Option<Vec<KeyId>>, Error> {
        let (ids, last) = self.ids_of(&whose, None, at_once.saturating_add(1))?;
        // A damaged row of the index names no key.
        if ids.len() <= at_once && !self.is_more_of(&whose, last.as_deref())? {
            return Ok(Some(ids));
        }
        self.writing();
        while self.state.lags.is_full() {
            self.bring_up(PER_STEP)?;
        }
        self.taken += 1;
        self.state.lags.push(Lag {
            whose,
            became,
            seq: self.next_seq(),
            after: None,
        });
        Ok(None)
    }

    /// Up to so many keys by the index of their owner or keyspace, from after a place in it,
    /// and the place reached.
    fn ids_of(
        &self,
        whose: &Whose,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<(Vec<KeyId>, Option<Vec<u8>>), Error> {
        match whose {
            Whose::Owner(owner) => self.ids_below(owner, after, count),
            Whose::Keyspace(number, _) => {
                let ids = self.ids_of_keyspace(*number, after.and_then(place), count)?;
                let last = ids.last().copied().map(place_of);
                Ok((ids, last))
            }
        }
    }

    /// Whether the index goes on after a place; after none it does not.
    fn is_more_of(&self, whose: &Whose, after: Option<&[u8]>) -> Result<bool, Error> {
        match after {
            Some(after) => Ok(self.ids_of(whose, Some(after), 1)?.1.is_some()),
            None => Ok(false),
        }
    }

    /// Brings up to so many keys up, and says whether there are more that lag.
    pub(crate) fn bring_up(&mut self, count: usize) -> Result<bool, Error> {
        let Some(lag) = self.state.lags.first().cloned() else {
            return Ok(false);
        };
        self.writing();
        let (mut ids, last) = self.ids_of(&lag.whose, lag.after.as_deref(), count)?;
        // In the order of the table, so that each page is visited once.
        ids.sort_unstable();
        self.bring_keys_up(ids)?;
        let is_more = self.is_more_of(&lag.whose, last.as_deref())?;
        self.state.lags.reached(last.filter(|_| is_more));
        Ok(!self.state.lags.is_empty())
    }

    /// Writes keys as all that they lag behind says of them. Those that this revokes are
    /// named in the audit trail.
    pub(crate) fn bring_keys_up(
        &mut self,
        ids: impl IntoIterator<Item = KeyId>,
    ) -> Result<(), Error> {
        let mut revoked: BTreeMap<u64, Vec<KeyId>> = BTreeMap::new();
        for id in ids {
            let Some(key) = self.key_or_forget(id)? else {
                continue;
            };
            let Some(stands) = self.as_it_stands(&key)?.filter(|stands| *stands != key) else {
                continue;
            };
            self.rewrite_key(&stands, &key)?;
            if is_revoked(&key) && !is_revoked(&stands) {
                revoked.entry(key.revision).or_default().push(id);
            }
        }
        for (entry, keys) in revoked {
            let Some(lag) = self.state.lags.revocation(entry).cloned() else {
                continue;
            };
            let Became::Revoked { actor, .. } = &lag.became else {
                continue;
            };
            for keys in keys.chunks(NAMED_MAX) {
                let event = AuditEvent::RevokedKeysNamed {
                    entry,
                    scope: lag.whose.scope(),
                    keys: keys.to_vec(),
                };
                self.audit(actor.as_deref(), event)?;
            }
        }
        Ok(())
    }

    /// Whether a key that was found by its end has another one, behind which its record lags.
    pub(crate) fn end_lags(&self, key: &KeyRecord) -> Result<bool, Error> {
        let stands = self.as_it_stands(key)?;
        Ok(stands.is_some_and(|stands| stands.ends_at() != key.ends_at()))
    }
}

fn is_revoked(key: &KeyRecord) -> bool {
    matches!(key.phase, Phase::Revoked { .. })
}
