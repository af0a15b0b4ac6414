//! PostgreSQL over a unix socket: a prepared select on an indexed SHA-256.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use postgres::{Client, Config, NoTls, Statement};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest};
use crate::world::World;

pub(crate) struct Postgres {
    socket_dir: PathBuf,
}

impl Postgres {
    fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(&self.socket_dir);
        Ok(config.user("bench").dbname("postgres").connect(NoTls)?)
    }
}

impl Peer for Postgres {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let socket_dir = place
            .services
            .postgres
            .clone()
            .map_err(|why| anyhow!(why))?;
        let peer = Self { socket_dir };
        let mut client = peer.connect()?;
        client.batch_execute(
            "CREATE TABLE keys (
                digest bytea NOT NULL,
                expires_at_ms bigint NOT NULL,
                revoked boolean NOT NULL,
                owner text NOT NULL
            )",
        )?;
        // COPY first and the index after, as its manual has it for a first load.
        let mut rows = client.copy_in("COPY keys FROM STDIN")?;
        for seed in &world.seeds {
            rows.write_all(b"\\\\x")?;
            for byte in &seed.digest {
                write!(rows, "{byte:02x}")?;
            }
            let Record {
                expires_at_ms,
                revoked,
                owner,
            } = &seed.record;
            writeln!(rows, "\t{expires_at_ms}\t{revoked}\t{owner}")?;
        }
        rows.finish()?;
        client.batch_execute("ALTER TABLE keys ADD PRIMARY KEY (digest)")?;
        client.batch_execute("VACUUM (FREEZE, ANALYZE) keys")?;
        client.batch_execute("CHECKPOINT")?;
        Ok(peer)
    }

    fn about(&self) -> About {
        About {
            name: "PostgreSQL, unix socket",
            how: "SHA-256, prepared select by it (primary key); shared_buffers 1 GB",
            memory: "1 GB of shared buffers, beside the system's page cache",
            constant_time: "no: index search",
            durable: "fsync=on, synchronous_commit=on: fsync of the log at each commit",
            lacks: "policy, limits on input, audit, tamper checks; a server to run",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let mut client = self.connect()?;
        Ok(Box::new(Connection {
            select: client
                .prepare("SELECT expires_at_ms, revoked, owner FROM keys WHERE digest = $1")?,
            revoke: client.prepare("UPDATE keys SET revoked = true WHERE digest = $1")?,
            client,
        }))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }
}

struct Connection {
    client: Client,
    select: Statement,
    revoke: Statement,
}

impl Session for Connection {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let digest = digest(token);
        let row = self.client.query_opt(&self.select, &[&digest.as_slice()])?;
        let Some(row) = row else { return Ok(false) };
        let record: Record<&str> = Record {
            expires_at_ms: row.try_get::<_, i64>(0)? as u64,
            revoked: row.try_get(1)?,
            owner: row.try_get(2)?,
        };
        Ok(record.grants())
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let digest = digest(token);
        let changed = self.client.execute(&self.revoke, &[&digest.as_slice()])?;
        ensure!(changed == 1, "no such key");
        Ok(())
    }
}
