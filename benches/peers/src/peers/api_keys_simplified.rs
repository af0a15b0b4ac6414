//! `api-keys-simplified` with SQLite: the crate makes and checks keys of its own
//! format by Argon2id, its user stores the hashes.
//!
//! It hashes at the issue what it makes, for tens of milliseconds a key: a
//! million would take half a day. So a few keys are real, and those are
//! verified; the other rows carry one of their hashes under ids of the world's
//! tokens, so that the table has its full size, and those are revoked.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use api_keys_simplified::{ApiKeyManagerV0, Environment, ExposeSecret, KeyStatus, SecureString};
use rusqlite::{Connection, OptionalExtension};

use super::sqlite::{self, connect, settle};
use crate::peer::{About, Peer, Place, Session};
use crate::record::Record;
use crate::world::{Tokens, World};

const POOL: usize = 48;
const TRIALS: usize = 8;

pub(crate) struct Simplified {
    path: PathBuf,
    manager: ApiKeyManagerV0,
    tokens: Tokens,
}

impl Peer for Simplified {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let manager = ApiKeyManagerV0::init_default_config("acme")?;
        let path = place.dir.join("simplified.sqlite");
        let mut connection = connect(&path)?;
        connection.execute_batch(
            "CREATE TABLE keys (
                key_id TEXT PRIMARY KEY NOT NULL,
                hash TEXT NOT NULL,
                expires_at_ms INTEGER NOT NULL,
                revoked INTEGER NOT NULL,
                owner TEXT NOT NULL
            ) WITHOUT ROWID",
        )?;
        let record = &world.seeds.first().context("no keys")?.record;
        let transaction = connection.transaction()?;
        let mut real = Vec::new();
        {
            let mut insert = transaction.prepare("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let mut insert = |id: &str, hash: &str, record: &Record| {
                let expires_at_ms = record.expires_at_ms as i64;
                insert.execute((id, hash, expires_at_ms, record.revoked, &record.owner))
            };
            let mut hashes = Vec::new();
            for _ in 0..POOL + TRIALS {
                let key = manager.generate(Environment::production())?;
                let hash = key.expose_hash().hash().to_owned();
                insert(&manager.extract_key_id(key.key()), &hash, record)?;
                real.push(key.key().expose_secret().to_owned());
                hashes.push(hash);
            }
            for (seed, hash) in world.seeds.iter().zip(hashes.iter().cycle()) {
                let id = manager.extract_key_id(&seed.token.clone().into());
                insert(&id, hash, &seed.record)?;
            }
        }
        transaction.commit()?;
        settle(&connection)?;
        let trials = real.split_off(POOL);
        Ok(Self {
            path,
            manager,
            tokens: Tokens {
                pool: real,
                trials,
                victims: world.tokens.victims.clone(),
            },
        })
    }

    fn about(&self) -> About {
        About {
            name: "api-keys-simplified + SQLite",
            how: "Argon2id by its default (46 MiB, 1 pass), prepared select by its key id; \
                its own tokens, 48 of them in the pool (hashing all would take hours)",
            memory: "256 MiB of pages for each connection",
            constant_time: "yes",
            durable: sqlite::DURABLE,
            lacks: "it makes and checks keys; storage, revocation, policy, audit: \
                the user's code",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Rows {
            connection: connect(&self.path)?,
            manager: &self.manager,
        }))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }

    fn tokens<'a>(&'a self, _: &'a World) -> &'a Tokens {
        &self.tokens
    }
}

struct Rows<'a> {
    connection: Connection,
    manager: &'a ApiKeyManagerV0,
}

impl Session for Rows<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let key = SecureString::from(token.to_owned());
        let mut select = self.connection.prepare_cached(
            "SELECT hash, expires_at_ms, revoked, owner FROM keys WHERE key_id = ?1",
        )?;
        let row = select.query_row([self.manager.extract_key_id(&key)], |row| {
            let record: Record = Record {
                expires_at_ms: row.get::<_, i64>(1)? as u64,
                revoked: row.get(2)?,
                owner: row.get(3)?,
            };
            Ok((row.get::<_, String>(0)?, record))
        });
        let Some((hash, record)) = row.optional()? else {
            return Ok(false);
        };
        // The revoked flag first, as its manual has it.
        Ok(record.grants() && self.manager.verify(&key, hash)? == KeyStatus::Valid)
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let id = self.manager.extract_key_id(&token.to_owned().into());
        let mut update = self
            .connection
            .prepare_cached("UPDATE keys SET revoked = 1 WHERE key_id = ?1")?;
        let changed = update.execute([id])?;
        ensure!(changed == 1, "no such key");
        Ok(())
    }
}
