//! The world of the figures: keys as applications have them, and the floor of a
//! verification over the same keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatekey::{NewKey, NewKeyspace, Options, Requirements};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use subtle::ConstantTimeEq;

use crate::{BATCH, POOL};

/// A store of `count` keys, and a shuffled pool of their tokens.
pub(crate) struct World {
    pub(crate) path: PathBuf,
    pub(crate) all: Vec<String>,
    /// In one piece of memory, in the order of use, as the floor's pool is: a
    /// request's token is at hand, and finding it is no part of a verification.
    pub(crate) pool: Vec<&'static str>,
}

pub(crate) fn options(resident_bytes: usize) -> Options {
    Options::new().resident_bytes(resident_bytes)
}

/// What every verification asks for, by name.
pub(crate) const READ: Requirements<'static> = Requirements::new().permissions(&["read"]);

/// A key as a customer has it: its own owner, of three segments and 24 to 36 bytes, and an
/// end in the year to come or the next.
pub(crate) fn spec(at: usize) -> NewKey {
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
    let owner = format!("customer-{at}/{project}/{robot}-{:02}", at % 97);
    let days = 365 + at as u64 % 365;
    NewKey::new("acme_live", owner)
        .unwrap()
        .permissions(["read"])
        .expires_in(Duration::from_secs(days * 86_400))
}

pub(crate) fn build(path: &Path, count: usize) -> World {
    let engine = options(0).create(path).unwrap();
    engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .permissions(["read", "write"]),
        )
        .unwrap();
    let mut all = Vec::with_capacity(count);
    for from in (0..count).step_by(BATCH) {
        let batch = (from..count.min(from + BATCH)).map(spec).collect();
        let issued = engine.issue_batch(batch).unwrap();
        all.extend(issued.iter().map(|key| key.token.expose().to_owned()));
    }
    engine.close().unwrap();
    let pool = lay_out(&all, 7);
    World {
        path: path.to_owned(),
        all,
        pool,
    }
}

/// Up to [`POOL`] of the tokens, shuffled, one behind the other.
pub(crate) fn lay_out(tokens: &[String], seed: u64) -> Vec<&'static str> {
    let mut order: Vec<&str> = tokens.iter().map(String::as_str).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    order.truncate(POOL);
    in_one_piece(&order)
}

/// The same tokens, one behind the other.
fn in_one_piece(tokens: &[&str]) -> Vec<&'static str> {
    let mut rest: &'static str = Box::leak(tokens.concat().into_boxed_str());
    tokens
        .iter()
        .map(|token| {
            let (head, tail) = rest.split_at(token.len());
            rest = tail;
            head
        })
        .collect()
}

/// [`POOL`] tokens drawn by Zipf's law: of n keys, the k-th with a weight of 1 / k.
pub(crate) fn zipf(tokens: &[String]) -> Vec<&'static str> {
    let weights = (1..=tokens.len()).map(|rank| 1.0 / rank as f64);
    let ranks = WeightedIndex::new(weights).unwrap();
    let mut random = StdRng::seed_from_u64(11);
    // Which key has which rank has nothing to do with the order of their issue.
    let mut order: Vec<&str> = tokens.iter().map(String::as_str).collect();
    order.shuffle(&mut random);
    let drawn: Vec<&str> = (0..POOL)
        .map(|_| order[ranks.sample(&mut random)])
        .collect();
    in_one_piece(&drawn)
}

#[derive(Default)]
struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are u64");
    }
    fn write_u64(&mut self, id: u64) {
        let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// What no verification by a digest can do without: the hash of 60 bytes, a probe of a hash
/// map that holds the record, and a comparison in constant time. No parsing, no
/// policy, no clock, no answer. (The engine hashes the tokens of keys that are not in memory, and
/// knows the others again by a MAC that costs less.)
pub(crate) struct Floor {
    key: [u8; 32],
    map: HashMap<u64, [u8; 144], BuildHasherDefault<FastHasher>>,
    /// The id and the last 60 characters of each token of the pool.
    pool: Vec<(u64, [u8; 60])>,
}

impl Floor {
    pub(crate) fn new(world: &World) -> Self {
        Self::over(&world.all, &world.pool)
    }

    /// That of so many tokens, in the order of a pool.
    pub(crate) fn over(all: &[String], pool: &[&str]) -> Self {
        let key = [7; 32];
        let mut map: HashMap<u64, [u8; 144], BuildHasherDefault<FastHasher>> = HashMap::default();
        let mut raw = HashMap::new();
        for (at, token) in all.iter().enumerate() {
            let signed: [u8; 60] = token.as_bytes()[token.len() - 60..].try_into().unwrap();
            let mut record = [0; 144];
            record[72..104].copy_from_slice(blake3::keyed_hash(&key, &signed).as_bytes());
            let id = (at as u64).wrapping_mul(0x2545_F491_4F6C_DD1D);
            map.insert(id, record);
            raw.insert(token.as_str(), id);
        }
        let pool = pool
            .iter()
            .map(|token| {
                let signed = token.as_bytes()[token.len() - 60..].try_into().unwrap();
                (raw[*token], signed)
            })
            .collect();
        Self { key, map, pool }
    }

    pub(crate) fn check(&self, at: usize) {
        let (id, signed) = black_box(&self.pool[at % self.pool.len()]);
        let digest = *blake3::keyed_hash(&self.key, signed).as_bytes();
        let record = &self.map[id];
        let (left, _) = digest.as_chunks::<8>();
        let (right, _) = record[72..104].as_chunks::<8>();
        let mut equal = subtle::Choice::from(1);
        for (left, right) in left.iter().zip(right) {
            equal &= u64::from_le_bytes(*left).ct_eq(&u64::from_le_bytes(*right));
        }
        assert!(bool::from(black_box(equal)));
    }
}
