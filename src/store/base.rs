//! A database on its ground: what the snapshots of it keep alive.

use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use super::access::Access;
use super::snapshot::Snapshot;
use super::{OrStore, guarded};
use crate::crypto::digest::Keyring;
use crate::model::error::Error;
use crate::sync::{Mutex, lock};

/// An open database. A store that recovers opens another one beneath its engine; the
/// former lives as long as a snapshot of it is read.
pub(super) struct Base {
    /// `None` once it is closed.
    db: Mutex<Option<Database>>,
    access: Access,
}

impl Base {
    pub(super) fn new(db: Database, access: Access) -> Self {
        Self {
            db: Mutex::new(Some(db)),
            access,
        }
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match &*lock(&self.db) {
            Some(db) => run(db),
            None => Err(Error::Closed),
        }
    }

    pub(super) fn snapshot(self: &Arc<Self>, ring: &Arc<Keyring>) -> Result<Snapshot, Error> {
        let txn = self.with(|db| db.begin_read().or_store())?;
        Snapshot::new(txn, ring.clone(), self.clone())
    }

    /// Closes it. What still reads from a snapshot of it fails.
    pub(super) fn close(&self) -> Result<(), Error> {
        match lock(&self.db).take() {
            Some(db) => guarded(|| db.close().or_store()),
            None => Ok(()),
        }
    }
}

/// What is not closed has been replaced by another, or could not be opened to the end,
/// and must not write.
impl Drop for Base {
    fn drop(&mut self) {
        let Some(mut db) = lock(&self.db).take() else {
            return;
        };
        self.access.end();
        let _ = guarded(|| {
            // redb writes as it closes, unless it knows of an error; on pages that are
            // damaged it may panic there in a way that ends the process.
            let _ = db.check_integrity();
            drop(db);
            Ok(())
        });
    }
}
