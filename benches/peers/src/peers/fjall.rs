//! fjall: records by SHA-256 in a keyspace of a transactional database.

use anyhow::{Result, ensure};
use fjall::{KeyspaceCreateOptions, PersistMode, SingleWriterTxDatabase, SingleWriterTxKeyspace};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest, revoked};
use crate::world::World;

/// Its manual advises a cache that holds all data where it fits in memory.
const CACHE_BYTES: u64 = 1 << 30;

pub(crate) struct Fjall {
    db: SingleWriterTxDatabase,
    keys: SingleWriterTxKeyspace,
}

impl Peer for Fjall {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        // Transactional, since a revoke reads before it writes; persisted by
        // each transaction itself, as its manual has it for ACID.
        let db = SingleWriterTxDatabase::builder(place.dir.join("fjall"))
            .cache_size(CACHE_BYTES)
            .manual_journal_persist(true)
            .open()?;
        // Most tokens presented to a server are of keys that exist.
        let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
        let keys = db.keyspace("keys", options)?;
        let mut ingestion = keys.inner().start_ingestion()?;
        for seed in &world.seeds {
            ingestion.write(seed.digest, seed.record.encode())?;
        }
        ingestion.finish()?;
        db.persist(PersistMode::SyncAll)?;
        Ok(Self { db, keys })
    }

    fn about(&self) -> About {
        About {
            name: "fjall",
            how: "SHA-256, get by it; 1 GiB of cache, expect_point_read_hits",
            memory: "1 GiB of cache",
            constant_time: "no: block search",
            durable: "transaction with PersistMode::SyncData: fdatasync of the journal",
            lacks: "policy, limits on input, audit, tamper checks; a second process",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self)))
    }
}

struct Handle<'a>(&'a Fjall);

impl Session for Handle<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        match self.0.keys.get(digest(token))? {
            Some(bytes) => Ok(Record::decode(&bytes)?.grants()),
            None => Ok(false),
        }
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let Fjall { db, keys } = self.0;
        let mut tx = db.write_tx().durability(Some(PersistMode::SyncData));
        let before = tx.fetch_update(keys, digest(token), |record| {
            record.map(|bytes| revoked(bytes).into())
        })?;
        ensure!(before.is_some(), "no such key");
        tx.commit()?;
        Ok(())
    }
}
