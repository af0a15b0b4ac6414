//! What a snapshot tells of the keys that lag: see [`crate::store::lags`].

use std::ops::Bound;

use redb::ReadableTable;

use crate::model::audit::Scope;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::failure::OrStore;
use crate::store::lags::{Whose, place};
use crate::store::record::KeyRecord;
use crate::store::snapshot::Snapshot;
use crate::store::tables::{BY_KEYSPACE, BY_OWNER, owner_index_parts, owner_index_range};

impl Snapshot {
    /// Whether a change of many keys would lag, and as many do as may. A suspension takes the
    /// place of another of its owner.
    pub(crate) fn lacks_room_for(
        &self,
        scope: &Scope,
        suspends: bool,
        at_once: usize,
    ) -> Result<bool, Error> {
        let has_place = match scope {
            Scope::Owner(owner) => suspends && self.lags().has_suspension(owner),
            Scope::Keyspace(_) => false,
        };
        if !self.lags().is_full() || has_place {
            return Ok(false);
        }
        match scope {
            Scope::Owner(owner) => {
                let (from, to) = owner_index_range(owner, true);
                let by_owner = self.table(BY_OWNER)?;
                let rows = by_owner.range::<&[u8]>(from.as_slice()..to.as_slice());
                Ok(rows.or_store()?.nth(at_once).is_some())
            }
            Scope::Keyspace(prefix) => {
                let number = self.keyspace_number(*prefix)?;
                let by_keyspace = self.table(BY_KEYSPACE)?;
                let rows = by_keyspace.range((number, 0)..=(number, u64::MAX));
                Ok(rows.or_store()?.nth(at_once).is_some())
            }
        }
    }

    /// Calls `each` with every key that lags, as it is before a change and after it, for each
    /// change that it lags behind.
    pub(super) fn each_difference(
        &self,
        mut each: impl FnMut(&KeyRecord, &KeyRecord),
    ) -> Result<(), Error> {
        for (at, lag) in self.lags().iter().enumerate() {
            let mut look = |id| {
                let read = Error::or_damaged(self.record_as_it_stands(id))?;
                // A key may lag behind several.
                if let Ok(Some(mut key)) = read
                    && let Some(next) = self.lags().difference(at, &mut key)
                {
                    each(&key, &next);
                }
                Ok::<_, Error>(())
            };
            match &lag.whose {
                Whose::Owner(owner) => {
                    let (from, to) = owner_index_range(owner, true);
                    let start = match &lag.after {
                        Some(after) => Bound::Excluded(after.as_slice()),
                        None => Bound::Included(from.as_slice()),
                    };
                    let range = (start, Bound::Excluded(to.as_slice()));
                    let table = self.table(BY_OWNER)?;
                    for row in ReadableTable::range::<&[u8]>(&table, range).or_store()? {
                        let row = row.or_store()?.0;
                        if let Some((_, _, id)) = owner_index_parts(row.value()) {
                            look(id)?;
                        }
                    }
                }
                Whose::Keyspace(number, _) => {
                    let start = match lag.after.as_deref().and_then(place) {
                        Some(after) => Bound::Excluded((*number, after.raw())),
                        None => Bound::Included((*number, 0)),
                    };
                    let range = (start, Bound::Included((*number, u64::MAX)));
                    let table = self.table(BY_KEYSPACE)?;
                    for row in ReadableTable::range::<(u32, u64)>(&table, range).or_store()? {
                        look(KeyId::from_raw(row.or_store()?.0.value().1))?;
                    }
                }
            }
        }
        Ok(())
    }
}
