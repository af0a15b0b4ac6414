//! DashMap in front of SQLite: what was read is believed for a while.

use std::time::Instant;

use anyhow::Result;
use dashmap::DashMap;

use super::sqlite::{self, Rows, Sqlite};
use crate::measure::TTL;
use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest};
use crate::world::World;

type Cache = DashMap<[u8; 32], Entry>;

struct Entry {
    record: Record,
    read_at: Instant,
}

pub(crate) struct Dash {
    sqlite: Sqlite,
    cache: Cache,
    /// The cache of another process, for the measure of staleness.
    cache_elsewhere: Cache,
}

impl Peer for Dash {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        Ok(Self {
            sqlite: Sqlite::create(place.dir.join("dashmap.sqlite"), world)?,
            cache: Cache::new(),
            cache_elsewhere: Cache::new(),
        })
    }

    fn about(&self) -> About {
        About {
            name: "DashMap before SQLite",
            how: "SHA-256, map by it with a TTL of 1 s, else as SQLite; a revoke removes the entry",
            memory: "the entries of all keys that were asked for, without a bound, beside SQLite's pages",
            constant_time: "no: map probe",
            durable: sqlite::DURABLE,
            lacks: "revocation at once (see stale); a bound on memory; \
                policy, limits on input, audit, tamper checks",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Cached {
            rows: self.sqlite.rows()?,
            cache: &self.cache,
        }))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(Box::new(Cached {
            rows: self.sqlite.rows()?,
            cache: &self.cache_elsewhere,
        })))
    }
}

struct Cached<'a> {
    rows: Rows,
    cache: &'a Cache,
}

impl Session for Cached<'_> {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let digest = digest(token);
        if let Some(entry) = self.cache.get(&digest)
            && entry.read_at.elapsed() < TTL
        {
            return Ok(entry.record.grants());
        }
        let read_at = Instant::now();
        let Some(record) = self.rows.find(&digest)? else {
            return Ok(false);
        };
        let granted = record.grants();
        self.cache.insert(digest, Entry { record, read_at });
        Ok(granted)
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let digest = digest(token);
        self.rows.revoke(&digest)?;
        self.cache.remove(&digest);
        Ok(())
    }
}
