//! gatekey beside what a user would pick instead, in one run.
//!
//! The same keys, a million by default, stand in every store, and the same
//! shuffled pool of 65,536 of their tokens is verified in each: hash, lookup,
//! comparison, revoked flag and expiry, and the owner read. The stores are all
//! open at once; they take turns over rounds, and a figure is the median over
//! the rounds. Where a key is revoked, that is durable when the call returns.
//!
//! # Running it
//! ```text
//! apt-get install postgresql redis-server    # without them, their rows are left out
//! cd benches/peers
//! cargo run --release -- --csv peers.csv
//! ```
//!
//! | option | is | default |
//! |---|---|---|
//! | `--keys N` | how many keys, at least 1,000 | 1,000,000 |
//! | `--rounds N` | turns of each peer, 4.5 s of reads and 1 s of writes each | 5 |
//! | `--only A,B` | the peers to run, by the names in `src/peers/mod.rs` | all |
//! | `--csv PATH` | where the table goes as CSV | nowhere |
//! | `--dir PATH` | a directory on the disk to measure; a new one is made in it | the system's temporary one |
//!
//! A run takes about 10 minutes at the default, some 3 GB of disk and 4 GB of
//! memory, and wants the machine for itself. The table goes to stdout, what is
//! going on to stderr. A run that is killed leaves its directory behind, and in
//! it the servers: `services.sh stop DIR` stops them.
//!
//! # Reading the table
//! - `revokes 1/s`: by one thread, each of another key, each durable before the
//!   next; the notes say what durable is for each.
//! - `stale, own`: a key is revoked by one thread while another verifies it; the
//!   longest time that it was still granted after the revoke had returned.
//! - `stale, other`: the same, revoked in another process on the same store, for
//!   which a second connection with caches of its own stands. `one process`
//!   where the store can be open in one only, as gatekey's.
//! - `constant time`: whether the comparison of what is secret is. Where a digest
//!   is the index, the search of it is not; what that tells is of the digest,
//!   not of the token.
//! - A latency includes reading the clock twice; the header says how long that is.
//!
//! # Adding a peer
//! A file in `src/peers/` that implements [`peer::Peer`], and a line in
//! `src/peers/mod.rs`.

mod measure;
mod peer;
mod peers;
mod record;
mod services;
mod table;
mod world;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::measure::Lane;
use crate::peer::{Peer, Place};
use crate::services::Services;
use crate::table::Row;
use crate::world::World;

struct Arguments {
    keys: usize,
    rounds: usize,
    only: Option<Vec<String>>,
    csv: Option<PathBuf>,
    dir: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self {
            keys: 1_000_000,
            rounds: 5,
            only: None,
            csv: None,
            dir: std::env::temp_dir(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{name}: no value"))
            };
            match name.as_str() {
                "--keys" => parsed.keys = value()?.parse()?,
                "--rounds" => parsed.rounds = value()?.parse()?,
                "--only" => parsed.only = Some(value()?.split(',').map(str::to_owned).collect()),
                "--csv" => parsed.csv = Some(value()?.into()),
                "--dir" => parsed.dir = value()?.into(),
                _ => bail!("{name}: not an option; they stand at the top of src/main.rs"),
            }
        }
        ensure!(parsed.keys >= 1_000, "--keys: at least 1,000");
        ensure!(parsed.rounds >= 1, "--rounds: at least 1");
        for name in parsed.only.iter().flatten() {
            let known = peers::ALL.iter().any(|(known, _)| known == name);
            ensure!(known, "--only: no peer is named {name}");
        }
        Ok(parsed)
    }

    fn wants(&self, name: &str) -> bool {
        match &self.only {
            Some(only) => only.iter().any(|wanted| wanted == name),
            None => true,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let dir = tempfile::Builder::new()
        .prefix("gatekey-peers-")
        .tempdir_in(&arguments.dir)?;
    let header = header(&arguments, dir.path())?;
    let start = Instant::now();
    let world = World::build(&dir.path().join("world.redb"), arguments.keys)?;
    eprintln!("{} keys in {:.1} s", arguments.keys, seconds(start));

    let services = if arguments.wants("postgres") || arguments.wants("redis") {
        Services::start(dir.path())?
    } else {
        Services::none()
    };
    let place = Place {
        dir: dir.path(),
        services: &services,
    };
    let loaded = load(&arguments, &place, &world);
    let rows = measure(&arguments, &loaded, &world)?;
    // The stores before the servers and the files of theirs.
    drop(loaded);
    drop(services);

    for line in &header {
        println!("{line}");
    }
    println!("\n{}\n{}", table::text(&rows), table::notes(&rows));
    if let Some(path) = &arguments.csv {
        std::fs::write(path, table::csv(&header, &rows))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    eprintln!("took {:.1} s", seconds(start));
    Ok(())
}

type Loaded = (&'static str, Result<Box<dyn Peer>>);

fn load(arguments: &Arguments, place: &Place<'_>, world: &World) -> Vec<Loaded> {
    let wanted = peers::ALL.iter().filter(|(name, _)| arguments.wants(name));
    wanted
        .map(|(name, load)| {
            let start = Instant::now();
            let peer = load(place, world);
            match &peer {
                Ok(_) => eprintln!("{name}: loaded in {:.1} s", seconds(start)),
                Err(why) => eprintln!("{name}: not available: {why:#}"),
            }
            (*name, peer)
        })
        .collect()
}

fn measure(arguments: &Arguments, loaded: &[Loaded], world: &World) -> Result<Vec<Row>> {
    let mut lanes = Vec::new();
    for (name, peer) in loaded {
        if let Ok(peer) = peer {
            let lane = Lane::open(peer.as_ref(), world).with_context(|| (*name).to_owned())?;
            lanes.push((*name, lane));
        }
    }
    // All reads before the first write: a log that grows is not their doing.
    turns("reads", arguments.rounds, &mut lanes, Lane::read)?;
    turns("writes", arguments.rounds, &mut lanes, Lane::write)?;
    eprintln!("staleness");
    let mut lanes = lanes.into_iter();
    let mut rows = Vec::new();
    for (name, peer) in loaded {
        rows.push(match peer {
            Ok(peer) => {
                let (_, lane) = lanes.next().context("a peer without a lane")?;
                let figures = lane.finish().with_context(|| (*name).to_owned())?;
                Row::Measured(peer.about(), figures)
            }
            Err(why) => Row::Missing(name, format!("{why:#}")),
        });
    }
    Ok(rows)
}

/// Each peer has its turn in each round, every time another one first.
fn turns<'p>(
    what: &str,
    rounds: usize,
    lanes: &mut [(&'static str, Lane<'p>)],
    turn: fn(&mut Lane<'p>) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        eprintln!("{what}, round {} of {rounds}", round + 1);
        for at in 0..lanes.len() {
            let at = (at + round) % lanes.len();
            let (name, lane) = &mut lanes[at];
            turn(lane).with_context(|| (*name).to_owned())?;
        }
    }
    Ok(())
}

/// What the figures depend on.
fn header(arguments: &Arguments, dir: &Path) -> Result<Vec<String>> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let values = |field: &str| -> Vec<&str> {
        let lines = cpu.lines().filter(|line| line.starts_with(field));
        lines.filter_map(|line| line.split(": ").nth(1)).collect()
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    Ok(vec![
        format!("date: {}", jiff::Timestamp::now().strftime("%F %H:%M UTC")),
        format!(
            "machine: {}, {} cores, {}; files on {}",
            values("model name").first().unwrap_or(&"unknown"),
            values("processor").len(),
            memory()?,
            file_system(dir)?,
        ),
        format!("command: cargo run --release -- {}", words.join(" ")),
        format!(
            "keys: {}; rounds: {}; TTL of the caches: {} s; two clock reads: {:.3} us",
            arguments.keys,
            arguments.rounds,
            measure::TTL.as_secs(),
            measure::clock_us(),
        ),
    ])
}

fn memory() -> Result<String> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib = text.split_whitespace().nth(1).context("no MemTotal")?;
    Ok(format!("{} GiB", kib.parse::<u64>()?.div_ceil(1 << 20)))
}

/// The type of the file system that a directory is on: an fsync on a tmpfs
/// does nothing.
fn file_system(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    Ok(found
        .map_or("an unknown file system", |(_, kind)| kind)
        .to_owned())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
