//! Redis over loopback: a hash a key, by SHA-256 of the token.

use anyhow::{Result, anyhow};
use redis::{Client, Connection, ConnectionInfo, IntoConnectionInfo};

use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest};
use crate::world::World;

const BATCH: usize = 10_000;

pub(crate) struct Redis {
    client: Client,
}

impl Peer for Redis {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let port = place.services.redis.clone().map_err(|why| anyhow!(why))?;
        let info: ConnectionInfo = ("127.0.0.1", port).into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let mut connection = client.get_connection()?;
        for seeds in world.seeds.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for seed in seeds {
                let Record {
                    expires_at_ms,
                    revoked,
                    owner,
                } = &seed.record;
                let command = pipe.cmd("HSET").arg(&name(&seed.digest));
                let command = command.arg("expires_at_ms").arg(expires_at_ms);
                let command = command.arg("revoked").arg(u8::from(*revoked));
                command.arg("owner").arg(owner).ignore();
            }
            pipe.exec(&mut connection)?;
        }
        Ok(Self { client })
    }

    fn about(&self) -> About {
        About {
            name: "Redis, loopback TCP",
            how: "SHA-256, HMGET of the hash by it; a connection a thread",
            memory: "all keys",
            constant_time: "no: map probe",
            durable: "appendonly with appendfsync always: fsync before the reply",
            lacks: "policy, limits on input, audit, tamper checks; a server to run, \
                all keys in its memory",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Loopback(self.client.get_connection()?)))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(self.session()?))
    }
}

fn name(digest: &[u8; 32]) -> [u8; 36] {
    let mut name = *b"key:................................";
    name[4..].copy_from_slice(digest);
    name
}

struct Loopback(Connection);

impl Session for Loopback {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let (expires_at_ms, revoked, owner): (Option<u64>, Option<u8>, Option<String>) =
            redis::cmd("HMGET")
                .arg(&name(&digest(token)))
                .arg(&["expires_at_ms", "revoked", "owner"])
                .query(&mut self.0)?;
        let (Some(expires_at_ms), Some(revoked), Some(owner)) = (expires_at_ms, revoked, owner)
        else {
            return Ok(false);
        };
        let record = Record {
            expires_at_ms,
            revoked: revoked != 0,
            owner,
        };
        Ok(record.grants())
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        redis::cmd("HSET")
            .arg(&name(&digest(token)))
            .arg("revoked")
            .arg(1)
            .exec(&mut self.0)?;
        Ok(())
    }
}
