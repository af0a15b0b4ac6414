//! `prefixed-api-key` with SQLite: the crate parses and hashes, its user stores.
//!
//! As its README has it: the row by the short token, then `check_hash` of the
//! long one. It takes gatekey's tokens: prefix, id and secret for its prefix,
//! short and long token.

use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use prefixed_api_key::rand::rngs::OsRng;
use prefixed_api_key::sha2::Sha256;
use prefixed_api_key::{PrefixedApiKey, PrefixedApiKeyController};
use rusqlite::{Connection, OptionalExtension};

use super::sqlite::{self, connect, settle};
use crate::peer::{About, Peer, Place, Session};
use crate::record::Record;
use crate::world::World;

type Controller = PrefixedApiKeyController<OsRng, Sha256>;

pub(crate) struct Prefixed {
    path: PathBuf,
    controller: Controller,
}

fn parse(token: &str) -> Result<PrefixedApiKey> {
    PrefixedApiKey::from_string(token).map_err(|error| anyhow!("{error}"))
}

impl Peer for Prefixed {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let controller = Controller::configure()
            .prefix("acme".to_owned())
            .seam_defaults()
            .finalize()
            .map_err(|error| anyhow!("{error}"))?;
        let path = place.dir.join("prefixed.sqlite");
        let mut connection = connect(&path)?;
        connection.execute_batch(
            "CREATE TABLE keys (
                short_token TEXT PRIMARY KEY NOT NULL,
                hash TEXT NOT NULL,
                expires_at_ms INTEGER NOT NULL,
                revoked INTEGER NOT NULL,
                owner TEXT NOT NULL
            ) WITHOUT ROWID",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for seed in &world.seeds {
                let key = parse(&seed.token)?;
                let Record {
                    expires_at_ms,
                    revoked,
                    owner,
                } = &seed.record;
                let hash = controller.long_token_hashed(&key);
                let expires_at_ms = *expires_at_ms as i64;
                insert.execute((key.short_token(), hash, expires_at_ms, revoked, owner))?;
            }
        }
        transaction.commit()?;
        settle(&connection)?;
        Ok(Self { path, controller })
    }

    fn about(&self) -> About {
        About {
            name: "prefixed-api-key + SQLite",
            how: "SHA-256 of the secret (no password hash), prepared select by its short token",
            memory: "256 MiB of pages for each connection",
            constant_time: "yes",
            durable: sqlite::DURABLE,
            lacks: "it parses and hashes; storage, revocation, expiry, policy, audit: \
                the user's code",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Rows {
            connection: connect(&self.path)?,
            controller: &self.controller,
        }))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }
}

struct Rows<'a> {
    connection: Connection,
    controller: &'a Controller,
}

impl Session for Rows<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let Ok(key) = PrefixedApiKey::from_string(token) else {
            return Ok(false);
        };
        let mut select = self.connection.prepare_cached(
            "SELECT hash, expires_at_ms, revoked, owner FROM keys WHERE short_token = ?1",
        )?;
        let row = select.query_row([key.short_token()], |row| {
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
        Ok(self.controller.check_hash(&key, &hash) && record.grants())
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let mut update = self
            .connection
            .prepare_cached("UPDATE keys SET revoked = 1 WHERE short_token = ?1")?;
        let changed = update.execute([parse(token)?.short_token()])?;
        ensure!(changed == 1, "no such key");
        Ok(())
    }
}
