//! A database on its ground: what the snapshots of it keep alive.

use std::sync::Arc;

use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use crate::model::error::Error;
use crate::store::access::Access;
use crate::store::failure::{OrStore, guarded, io_failure};
use crate::store::ground::Ground;
use crate::sync::{Mutex, lock};

/// An open database. A store that recovers opens another one beneath its engine; the
/// old one lives as long as a snapshot of it is in use.
pub(super) struct Base {
    /// `None` once it is closed.
    db: Mutex<Option<Db>>,
    is_view: bool,
    access: Access,
}

enum Db {
    Whole(Database),
    /// See [`crate::store::view`].
    View(ReadOnlyDatabase),
}

impl Base {
    pub(super) fn new(db: Database, access: Access) -> Self {
        Self {
            db: Mutex::new(Some(Db::Whole(db))),
            is_view: false,
            access,
        }
    }

    /// A view, which is to be replaced before a change is made.
    pub(super) fn view(db: ReadOnlyDatabase, access: Access) -> Self {
        Self {
            db: Mutex::new(Some(Db::View(db))),
            is_view: true,
            access,
        }
    }

    pub(super) fn is_view(&self) -> bool {
        self.is_view
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match &*lock(&self.db) {
            Some(Db::Whole(db)) => run(db),
            Some(Db::View(_)) => Err(Error::Internal("a view is not written to")),
            None => Err(Error::Closed),
        }
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        match &*lock(&self.db) {
            Some(Db::Whole(db)) => db.begin_read().or_store(),
            Some(Db::View(db)) => db.begin_read().or_store(),
            None => Err(Error::Closed),
        }
    }

    /// Closes it. Reads from its snapshots fail from then on.
    pub(super) fn close(&self) -> Result<(), Error> {
        match lock(&self.db).take() {
            Some(Db::Whole(db)) => guarded(|| db.close().or_store()),
            Some(Db::View(db)) => guarded(|| db.close().or_store()),
            None => Ok(()),
        }
    }
}

/// A database that was not closed was replaced by another, or its opening failed
/// half-way: it must not write.
impl Drop for Base {
    fn drop(&mut self) {
        let Some(db) = lock(&self.db).take() else {
            return;
        };
        self.access.end();
        let Db::Whole(mut db) = db else {
            return;
        };
        let _ = guarded(|| {
            // redb writes as it closes, unless it knows of an error; on pages that are
            // damaged it may panic there in a way that ends the process.
            let _ = db.check_integrity();
            drop(db);
            Ok(())
        });
    }
}

/// Opens another database on the ground of a store that is open, for writing.
pub(super) fn reopen(ground: &Arc<Ground>, cache_bytes: usize) -> Result<Base, Error> {
    open_again(Access::direct(ground.clone()), cache_bytes)
}

/// Opens another database on the ground of a store that is open, for reading alone:
/// nothing is written to it.
pub(super) fn reopen_apart(ground: &Arc<Ground>, cache_bytes: usize) -> Result<Base, Error> {
    let access = Access::apart(ground.clone()).map_err(|error| Error::Store(io_failure(&error)))?;
    open_again(access, cache_bytes)
}

fn open_again(access: Access, cache_bytes: usize) -> Result<Base, Error> {
    let len = access.ground().len();
    if len.map_err(|error| Error::Store(io_failure(&error)))? == 0 {
        // A new database would be made in it.
        return Err(Error::corrupted("file", "-", "it is empty"));
    }
    guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let db = builder.create_with_backend(access.clone()).or_store()?;
        Ok(Base::new(db, access))
    })
}
