//! Hostile tokens on 64 threads.
//!
//! Invariants checked:
//! - 9: memory stays flat, and within what the options allow, whatever is presented;
//! - 9: keys in use stay in memory: not one verification of theirs reads the disk;
//! - 1 MB of text, and ids and secrets drawn at random, grant nothing.
//!
//! The flood has a process of its own, so that its memory is told from that of other
//! tests. `benches/flood.rs` has the times of those who are honest meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gatekey::proof::{open_on, print_token};
use gatekey::{Engine, KeyId, Limit, NewKey, NewKeyspace, Options, Plan, Requirements};
use gatekey_testkit::forge::BASE62;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::{Call, Disk};
use crate::rounds;

const CHILD: &str = "GATEKEY_PROOF_FLOOD";
const THREADS: u64 = 64;
const PHASES: u64 = 4;
const HOT: usize = 100;
const COLD: usize = 5000;
const LIMITED: usize = 300;
/// The most keys whose requests are counted.
const LIMITED_MAX: usize = 64;

#[test]
fn a_flood_of_hostile_tokens_leaves_memory_flat_and_hot_keys_in_it() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "flood::the_child"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let told: String = told.lines().filter(|line| line.contains("phase")).collect();
    println!("{told}");
    assert!(
        output.status.success() && told.contains("phase 4"),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The flood itself. Without its variable this is no test.
#[test]
fn the_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let disk = Disk::default();
    let options = Options::new()
        // Room for those who are honest, and not for all others.
        .resident_bytes(512 << 10)
        // None, so that what is not resident must come from the disk.
        .cache_bytes(0)
        .limited_keys(LIMITED_MAX)
        .failed_attempts(Limit::new(10, Duration::from_secs(60)).unwrap());
    let engine = open_on(options, disk.clone()).unwrap();
    let plan = Plan::new("free").limit(Limit::new(1000, Duration::from_secs(3600)).unwrap());
    let keyspace = NewKeyspace::new("acme").unwrap().plan(plan);
    engine.create_keyspace(keyspace).unwrap();
    let issue = |count: usize, plan: Option<&str>| {
        let mut new = NewKey::new("acme", "acme").unwrap();
        if let Some(plan) = plan {
            new = new.plan(plan);
        }
        let issued = engine.issue_batch(vec![new; count]).unwrap();
        let tokens = issued.iter().map(|issued| {
            let token = issued.token.expose().to_owned();
            (issued.key.id, token)
        });
        tokens.collect::<Vec<_>>()
    };
    let (hot, cold, limited) = (
        issue(HOT, None),
        issue(COLD, None),
        issue(LIMITED, Some("free")),
    );
    let giant = "a".repeat(1 << 20);
    let granted = AtomicU64::new(0);
    let count = rounds(1000, 40_000);
    let mut resident_set = Vec::new();
    for phase in 1..=PHASES {
        // Twice: what is asked for again in between is what stays.
        for _ in 0..2 {
            assert_all_granted(&engine, &hot);
        }
        // All are alive at once from the first phase on: each brings what belongs to a thread.
        let all = Barrier::new(usize::try_from(THREADS).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let seed = phase * THREADS + thread;
                let hostile = Hostile {
                    engine: &engine,
                    cold: &cold,
                    limited: &limited,
                    hot: &hot,
                    giant: &giant,
                };
                let (all, granted) = (&all, &granted);
                scope.spawn(move || {
                    all.wait();
                    hostile.flood(seed, count, granted);
                });
            }
        });
        // Now nobody else asks: whatever is read, a hot key caused.
        disk.set_fault(None);
        assert_all_granted(&engine, &hot);
        let reads = disk.calls(Call::Read);
        assert_eq!(reads, 0, "phase {phase}: hot keys were pushed out");
        let stats = engine.stats().unwrap();
        assert!(stats.resident_keys <= stats.resident_capacity);
        assert!(stats.limited_keys <= LIMITED_MAX, "{}", stats.limited_keys);
        resident_set.push(resident_set_kib());
        println!(
            "phase {phase}: {} hostile, {} KiB resident; ",
            phase * THREADS * count,
            resident_set.last().unwrap()
        );
    }
    assert_eq!(granted.into_inner(), 0, "a hostile token was granted");
    // The first phase brings the threads' stacks and the counters; after it, nothing.
    let growth = resident_set.last().unwrap().saturating_sub(resident_set[0]);
    assert!(growth < 8 << 10, "{growth} KiB more after the first phase");
}

fn assert_all_granted(engine: &Engine, tokens: &[(KeyId, String)]) {
    for (_, token) in tokens {
        assert!(engine.verify(token).unwrap().is_granted());
    }
}

/// What the process holds of memory, as Linux tells it; elsewhere 0.
fn resident_set_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.map_or(0, |number| number.parse().unwrap())
}

struct Hostile<'a> {
    engine: &'a Engine,
    hot: &'a [(KeyId, String)],
    cold: &'a [(KeyId, String)],
    limited: &'a [(KeyId, String)],
    giant: &'a str,
}

impl Hostile<'_> {
    fn flood(&self, seed: u64, count: u64, granted: &AtomicU64) {
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..count {
            let mut secret = [0; 43];
            for digit in &mut secret {
                *digit = BASE62[random.random_range(0..62)];
            }
            let id = match random.random_range(0..10) {
                0 => None,
                1 | 2 => Some(self.cold[random.random_range(0..COLD)].0),
                3 => Some(self.hot[random.random_range(0..HOT)].0),
                4 => {
                    // Not hostile by itself; many of them are more than are counted.
                    let (_, token) = &self.limited[random.random_range(0..LIMITED)];
                    let _ = self.engine.verify(token).unwrap();
                    continue;
                }
                _ => Some(random_id(&mut random)),
            };
            let text = id.map(|id| print_token("acme", id, &secret).unwrap());
            let asked = match random.random_range(0..2) {
                // From anywhere: more sources than are counted.
                0 => {
                    let from = IpAddr::V4(Ipv4Addr::from_bits(random.random_range(0..u32::MAX)));
                    Requirements::new().source(from)
                }
                _ => Requirements::new(),
            };
            let text = text.as_deref().unwrap_or(self.giant);
            let verdict = self.engine.verify_with(text, &asked).unwrap();
            granted.fetch_add(u64::from(verdict.is_granted()), Ordering::Relaxed);
        }
    }
}

fn random_id(random: &mut StdRng) -> KeyId {
    let mut id = String::new();
    for _ in 0..10 {
        id.push(char::from(BASE62[random.random_range(0..62)]));
    }
    id.parse().unwrap()
}
