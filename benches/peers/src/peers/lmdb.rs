//! LMDB by heed: a read transaction a check, records by SHA-256.

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest, revoked};
use crate::world::World;

/// Address space, not memory: what the store may grow to.
const MAP_BYTES: usize = 8 << 30;

type Keys = Database<'static, Bytes, Bytes>;

pub(crate) struct Lmdb {
    env: Env,
    keys: Keys,
}

impl Peer for Lmdb {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let dir = place.dir.join("lmdb");
        std::fs::create_dir_all(&dir)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        // SAFETY: the directory is this run's own, on a local disk, and nothing
        // else opens or changes its files; no flag weakens LMDB's locking.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(&dir)? };
        let keys = env
            .create_databases_and_commit(env.write_txn()?, |opener, tx| {
                let keys = opener.create_database::<Bytes, Bytes>(tx, None)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(keys))
            })?
            .unwrap_commit();
        let mut tx = env.write_txn()?;
        for seed in &world.seeds {
            let record = seed.record.encode();
            keys.put_with_flags(&mut tx, PutFlags::APPEND, &seed.digest, &record)?;
        }
        tx.commit()?;
        Ok(Self { env, keys })
    }

    fn about(&self) -> About {
        About {
            name: "LMDB (heed)",
            how: "SHA-256, read transaction and get by it; default flags",
            memory: "what the system's page cache holds of the file",
            constant_time: "no: tree search",
            durable: "default flags: data and meta page synced at each commit",
            lacks: "policy, limits on input, audit, checksums and tamper checks; \
                a map size to choose; opening it is unsafe Rust",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self)))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }
}

struct Handle<'a>(&'a Lmdb);

impl Session for Handle<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let Lmdb { env, keys } = self.0;
        let tx = env.read_txn()?;
        match keys.get(&tx, &digest(token))? {
            Some(bytes) => Ok(Record::decode(bytes)?.grants()),
            None => Ok(false),
        }
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let Lmdb { env, keys } = self.0;
        let digest = digest(token);
        let mut tx = env.write_txn()?;
        let record = revoked(keys.get(&tx, &digest)?.context("no such key")?);
        keys.put(&mut tx, &digest, &record)?;
        tx.commit()?;
        Ok(())
    }
}
