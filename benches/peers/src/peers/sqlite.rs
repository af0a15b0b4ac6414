//! SQLite by rusqlite: a prepared select on an indexed SHA-256 of the token.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rusqlite::{Connection, OptionalExtension};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest};
use crate::world::World;

pub(crate) const DURABLE: &str = "WAL with synchronous=FULL: fsync of the log at each commit";

const SELECT: &str = "SELECT expires_at_ms, revoked, owner FROM keys WHERE digest = ?1";
const REVOKE: &str = "UPDATE keys SET revoked = 1 WHERE digest = ?1";

pub(crate) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    /// A database file of all keys, for this peer and the caches before it.
    pub(crate) fn create(path: PathBuf, world: &World) -> Result<Self> {
        let mut connection = connect(&path)?;
        // Its manual advises WITHOUT ROWID for a key that is not an integer and
        // rows that are small: one search finds the row.
        connection.execute_batch(
            "CREATE TABLE keys (
                digest BLOB PRIMARY KEY NOT NULL,
                expires_at_ms INTEGER NOT NULL,
                revoked INTEGER NOT NULL,
                owner TEXT NOT NULL
            ) WITHOUT ROWID",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)")?;
            for seed in &world.seeds {
                let Record {
                    expires_at_ms,
                    revoked,
                    owner,
                } = &seed.record;
                insert.execute((&seed.digest, *expires_at_ms as i64, revoked, owner))?;
            }
        }
        transaction.commit()?;
        settle(&connection)?;
        Ok(Self { path })
    }

    pub(crate) fn rows(&self) -> Result<Rows> {
        Ok(Rows(connect(&self.path)?))
    }
}

/// A connection as a server would have it. 256 MiB of pages hold all of a
/// million keys.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -(256 << 10))?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}

/// Empties the log that the load left behind, and gathers what the planner wants.
pub(crate) fn settle(connection: &Connection) -> Result<()> {
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize")?;
    Ok(())
}

/// The rows of the table, by digest.
pub(crate) struct Rows(Connection);

impl Rows {
    pub(crate) fn find(&self, digest: &[u8; 32]) -> Result<Option<Record>> {
        let mut select = self.0.prepare_cached(SELECT)?;
        let row = select.query_row([digest], |row| {
            Ok(Record {
                expires_at_ms: row.get::<_, i64>(0)? as u64,
                revoked: row.get(1)?,
                owner: row.get(2)?,
            })
        });
        Ok(row.optional()?)
    }

    pub(crate) fn revoke(&self, digest: &[u8; 32]) -> Result<()> {
        let changed = self.0.prepare_cached(REVOKE)?.execute([digest])?;
        ensure!(changed == 1, "no such key");
        Ok(())
    }
}

impl Peer for Sqlite {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        Self::create(place.dir.join("keys.sqlite"), world)
    }

    fn about(&self) -> About {
        About {
            name: "SQLite",
            how: "SHA-256, prepared select by it (WITHOUT ROWID); 256 MiB of page cache",
            memory: "256 MiB of pages for each connection",
            constant_time: "no: index search",
            durable: DURABLE,
            lacks: "policy, limits on input, audit, tamper checks: the user's code",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self.rows()?))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }
}

impl Session for Rows {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let record = self.find(&digest(token))?;
        Ok(record.is_some_and(|record| record.grants()))
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        Rows::revoke(self, &digest(token))
    }
}
