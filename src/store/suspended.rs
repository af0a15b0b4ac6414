//! The owners that are suspended, listed.

use std::ops::Bound;

use redb::ReadableTable;

use crate::model::error::Error;
use crate::model::filter::{Cursor, Order, bad_cursor};
use crate::model::owner::OwnerPath;
use crate::model::owner_page::OwnerPage;
use crate::store::failure::OrStore;
use crate::store::read;
use crate::store::snapshot::Snapshot;
use crate::store::tables::OWNERS;

impl Snapshot {
    /// A page of the owners that are suspended themselves, in the order of their paths as
    /// text.
    pub(crate) fn suspended_page(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<OwnerPage, Error> {
        let start = match after {
            Some(cursor) => Bound::Excluded(path_of(cursor)?),
            None => Bound::Unbounded,
        };
        let table = self.table(OWNERS)?;
        let mut page = OwnerPage {
            owners: Vec::new(),
            damaged: Vec::new(),
            next: None,
        };
        let range = (start, Bound::Unbounded);
        for entry in ReadableTable::range::<&str>(&table, range).or_store()? {
            let name = entry.or_store()?.0;
            let path = name.value();
            let read = match path.parse::<OwnerPath>() {
                Ok(owner) => read::owner_state(&table, self.ring(), &owner),
                Err(_) => Err(Error::corrupted("owners", path, "it is not a path")),
            };
            match Error::or_damaged(read)? {
                Ok(owner) => page.owners.push(owner),
                Err(damage) => page.damaged.push(damage),
            }
            if page.owners.len() + page.damaged.len() >= limit {
                page.next = Some(Cursor {
                    order: Order::Suspended,
                    position: path.as_bytes().to_vec(),
                });
                break;
            }
        }
        Ok(page)
    }
}

/// The path that a page ended with.
fn path_of(cursor: &Cursor) -> Result<&str, Error> {
    if cursor.order != Order::Suspended {
        let why = "it comes from a listing of another order";
        return Err(bad_cursor(why).into());
    }
    let path = std::str::from_utf8(&cursor.position);
    path.map_err(|_| bad_cursor("it is not one that a page ended with").into())
}
