//! redb as its first example has it: a read transaction and an opened table a
//! check, records by SHA-256.

use anyhow::{Context, Result};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest, revoked};
use crate::world::World;

const KEYS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("keys");

pub(crate) struct Redb(Database);

impl Peer for Redb {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let db = Database::create(place.dir.join("naive.redb"))?;
        let tx = db.begin_write()?;
        {
            let mut keys = tx.open_table(KEYS)?;
            for seed in &world.seeds {
                keys.insert(&seed.digest, seed.record.encode().as_slice())?;
            }
        }
        tx.commit()?;
        Ok(Self(db))
    }

    fn about(&self) -> About {
        About {
            name: "redb, a transaction a check",
            how: "SHA-256, read transaction, table opened, get by it; default options",
            memory: "1 GiB of pages, its default",
            constant_time: "no: tree search",
            durable: "Durability::Immediate, in one phase: fsync at each commit",
            lacks: "policy, limits on input, audit, tamper checks; a second process",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(&self.0)))
    }
}

struct Handle<'a>(&'a Database);

impl Session for Handle<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let keys = self.0.begin_read()?.open_table(KEYS)?;
        match ReadableTable::get(&keys, &digest(token))? {
            Some(bytes) => Ok(Record::decode(bytes.value())?.grants()),
            None => Ok(false),
        }
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let digest = digest(token);
        let tx = self.0.begin_write()?;
        {
            let mut keys = tx.open_table(KEYS)?;
            let record = revoked(keys.get(&digest)?.context("no such key")?.value());
            keys.insert(&digest, record.as_slice())?;
        }
        tx.commit()?;
        Ok(())
    }
}
