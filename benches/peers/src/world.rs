//! The keys of the run: issued by gatekey, and given to every peer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use gatekey::{NewKey, NewKeyspace, Options};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::record::{Record, digest, now_ms};

/// The keyspace: without an underscore, so that `prefixed-api-key` takes the
/// tokens for its own and can be given the very same ones.
const KEYSPACE: &str = "acme";
const POOL: usize = 65_536;
const TRIALS: usize = 1_000;
const BATCH: usize = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Tokens to present, shuffled; no token stands in two of the lists.
pub(crate) struct Tokens {
    /// Verified over and over, never revoked.
    pub(crate) pool: Vec<String>,
    /// Revoked while they are verified.
    pub(crate) trials: Vec<String>,
    /// Revoked as fast as it goes.
    pub(crate) victims: Vec<String>,
}

/// What a peer is to store of one token.
pub(crate) struct Seed {
    pub(crate) digest: [u8; 32],
    pub(crate) record: Record,
    /// The token itself, for the peers with a hash of their own.
    pub(crate) token: String,
}

pub(crate) struct World {
    /// A gatekey store of all keys.
    pub(crate) path: PathBuf,
    pub(crate) tokens: Tokens,
    /// All keys in the order of their digests: stores load faster and denser so.
    pub(crate) seeds: Vec<Seed>,
}

impl World {
    /// Issues `count` keys into a store at `path`, as customers have them: each has an owner
    /// of its own and ends in the year to come or the next.
    pub(crate) fn build(path: &Path, count: usize) -> Result<Self> {
        let engine = Options::new().create(path)?;
        engine.create_keyspace(NewKeyspace::new(KEYSPACE)?.permissions(["read", "write"]))?;
        let begun_ms = now_ms();
        let mut seeds = Vec::with_capacity(count);
        for from in (0..count).step_by(BATCH) {
            let batch = from..count.min(from + BATCH);
            let new = batch.clone().map(spec).collect::<Result<_>>()?;
            let issued = engine.issue_batch(new)?;
            for (key, at) in issued.into_iter().zip(batch) {
                let token = key.token.expose().to_owned();
                seeds.push(Seed {
                    digest: digest(&token),
                    record: Record {
                        expires_at_ms: begun_ms + lasts(at).as_millis() as u64,
                        revoked: false,
                        owner: owner(at),
                    },
                    token,
                });
            }
        }
        engine.close()?;
        let mut all: Vec<String> = seeds.iter().map(|seed| seed.token.clone()).collect();
        all.shuffle(&mut StdRng::seed_from_u64(7));
        seeds.sort_unstable_by_key(|seed| seed.digest);
        Ok(Self {
            path: path.to_owned(),
            tokens: Tokens::split(all),
            seeds,
        })
    }
}

impl Tokens {
    /// Half of the tokens at most are the pool, so that some are left to revoke.
    fn split(mut all: Vec<String>) -> Self {
        let mut pool = all.split_off(all.len() - POOL.min(all.len() / 2));
        pool.shrink_to_fit();
        let trials = all.split_off(all.len() - TRIALS.min(all.len() / 2));
        Self {
            pool,
            trials,
            victims: all,
        }
    }
}

/// Three segments, 24 to 36 bytes.
fn owner(at: usize) -> String {
    const PROJECTS: [&str; 6] = [
        "api",
        "billing",
        "ingest",
        "analytics",
        "search",
        "web-shop",
    ];
    const ROBOTS: [&str; 5] = ["ci", "etl-bot", "exporter", "webhooks", "sync"];
    let (project, robot) = (PROJECTS[at % 6], ROBOTS[at / 6 % 5]);
    format!("customer-{at}/{project}/{robot}-{:02}", at % 97)
}

fn lasts(at: usize) -> Duration {
    DAY * (365 + at as u32 % 365)
}

fn spec(at: usize) -> Result<NewKey> {
    let key = NewKey::new(KEYSPACE, owner(at))?;
    Ok(key.permissions(["read"]).expires_in(lasts(at)))
}
