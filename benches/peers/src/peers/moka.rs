//! moka in front of SQLite: a bounded cache with a time to live.

use anyhow::{Result, anyhow};
use moka::sync::Cache;

use super::sqlite::{self, Rows, Sqlite};
use crate::measure::TTL;
use crate::peer::{About, Peer, Place, Session};
use crate::record::{Record, digest};
use crate::world::World;

/// As many entries as gatekey's default of 64 MiB holds.
const ENTRIES: u64 = 400_000;

type Entries = Cache<[u8; 32], Record>;

pub(crate) struct Moka {
    sqlite: Sqlite,
    cache: Entries,
    /// The cache of another process, for the measure of staleness.
    cache_elsewhere: Entries,
}

fn cache() -> Entries {
    Cache::builder()
        .max_capacity(ENTRIES)
        .time_to_live(TTL)
        .build()
}

impl Peer for Moka {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        Ok(Self {
            sqlite: Sqlite::create(place.dir.join("moka.sqlite"), world)?,
            cache: cache(),
            cache_elsewhere: cache(),
        })
    }

    fn about(&self) -> About {
        About {
            name: "moka before SQLite",
            how: "SHA-256, try_get_with by it, time_to_live of 1 s, 400,000 entries, \
                else as SQLite; a revoke invalidates the entry",
            memory: "400,000 entries, beside SQLite's pages",
            constant_time: "no: map probe",
            durable: sqlite::DURABLE,
            lacks: "revocation at once (see stale); policy, limits on input, audit, tamper checks",
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Cached {
            rows: self.sqlite.rows()?,
            cache: self.cache.clone(),
        }))
    }

    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(Some(Box::new(Cached {
            rows: self.sqlite.rows()?,
            cache: self.cache_elsewhere.clone(),
        })))
    }
}

struct Cached {
    rows: Rows,
    cache: Entries,
}

/// Why an entry was not filled. Neither is cached.
enum NoEntry {
    Unknown,
    Failed(anyhow::Error),
}

impl Session for Cached {
    fn verify(&mut self, token: &str) -> Result<bool> {
        let digest = digest(token);
        let fill = || match self.rows.find(&digest) {
            Ok(Some(record)) => Ok(record),
            Ok(None) => Err(NoEntry::Unknown),
            Err(error) => Err(NoEntry::Failed(error)),
        };
        match self.cache.try_get_with(digest, fill) {
            Ok(record) => Ok(record.grants()),
            Err(error) => match &*error {
                NoEntry::Unknown => Ok(false),
                NoEntry::Failed(error) => Err(anyhow!("{error:#}")),
            },
        }
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let digest = digest(token);
        self.rows.revoke(&digest)?;
        self.cache.invalidate(&digest);
        Ok(())
    }
}
