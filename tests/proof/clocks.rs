//! Clocks that are wrong: at 0, at the end of time, an hour back, a year ahead.
//!
//! Invariants checked:
//! - 7: what has expired, or is out of grace, and was followed by a commit, is never
//!   accepted again, whatever the clock says and however often the store is opened;
//! - that ends where time is set back by the call for it, which leaves the store sound;
//! - nothing panics or hangs, at the extremes too; an error is one of the input's or of
//!   the store's state.

use std::collections::BTreeMap;
use std::time::Duration;

use gatekey::{
    Clock, Engine, Error, KeyId, KeyUpdate, Limit, ManualClock, NewKey, NewKeyspace, Options, Plan,
    Quota, Reason, Refill, Rotation, Timestamp, Verdict,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Disk;
use crate::rounds;
use crate::workload::assert_sound;
use gatekey::proof::open_on;

const START_MS: u64 = 1_767_225_600_000;
const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

/// The instants that a clock jumps between.
fn instants() -> Vec<Timestamp> {
    let mut instants = vec![0, 1, Timestamp::MAX.unix_ms() - 1, Timestamp::MAX.unix_ms()];
    for edge in [START_MS, START_MS + HOUR_MS, START_MS + YEAR_MS] {
        for at in [edge - HOUR_MS, edge - 1, edge, edge + 1, edge + HOUR_MS] {
            instants.push(at);
        }
    }
    // Where ids begin, in 2024.
    instants.extend([1_704_067_199_999, 1_704_067_200_000]);
    let instant = |ms| Timestamp::from_unix_ms(ms).unwrap();
    instants.into_iter().map(instant).collect()
}

struct World {
    engine: Engine,
    disk: Disk,
    clock: ManualClock,
    tokens: Vec<(KeyId, String)>,
    /// Tokens that were told to be over, and whether a commit came after.
    over: BTreeMap<usize, bool>,
}

fn open(disk: &Disk, clock: &ManualClock) -> Engine {
    let options = Options::new()
        .clock(clock.clone())
        .resident_bytes(1 << 14)
        .usage_interval(Duration::from_secs(86_400));
    open_on(options, disk.clone()).unwrap()
}

impl World {
    fn begin() -> Self {
        let disk = Disk::default();
        let clock = ManualClock::at(Timestamp::from_unix_ms(START_MS).unwrap());
        let engine = open(&disk, &clock);
        let limit = Limit::new(3, Duration::from_secs(3600)).unwrap();
        let keyspace = NewKeyspace::new("acme").unwrap();
        engine
            .create_keyspace(keyspace.plan(Plan::new("free").limit(limit)))
            .unwrap();
        engine
            .create_keyspace(NewKeyspace::new("one").unwrap().single_active())
            .unwrap();
        Self {
            engine,
            disk,
            clock,
            tokens: Vec::new(),
            over: BTreeMap::new(),
        }
    }

    fn keep(&mut self, key: KeyId, token: &gatekey::Token) {
        self.tokens.push((key, token.expose().to_owned()));
    }

    /// A change drawn at random; what it is refused for is not looked at here.
    fn change(&mut self, random: &mut StdRng) -> Result<(), Error> {
        let hour = Duration::from_secs(3600);
        let engine = self.engine.clone();
        let new = NewKey::new("acme", "acme/etl")?;
        let kind = random.random_range(0..20);
        if kind >= 18 {
            let new = NewKey::new("one", "acme/etl")?;
            let issued = engine.issue(new.expires_in(if kind == 18 { hour } else { 3 * hour }))?;
            self.keep(issued.key.id, &issued.token);
            return Ok(());
        }
        if kind < 6 {
            let new = match kind {
                0 => new,
                1 => new.expires_in(hour),
                2 => new.expires_at(Timestamp::from_unix_ms(START_MS + YEAR_MS)?),
                3 => new.not_before(Timestamp::from_unix_ms(START_MS + HOUR_MS)?),
                4 => new.quota(Quota::new(50).refilled(Refill::Daily)),
                _ => new.plan("free"),
            };
            let issued = engine.issue(new)?;
            self.keep(issued.key.id, &issued.token);
            return Ok(());
        }
        let Some((key, token)) = self
            .tokens
            .get(random.random_range(0..self.tokens.len().max(1)))
        else {
            return Ok(());
        };
        let (key, token) = (*key, token.clone());
        match kind {
            6 => {
                let rotated = engine.rotate(key, Rotation::with_grace(hour))?;
                self.keep(rotated.key.id, &rotated.token);
            }
            7 => drop(engine.update(key, KeyUpdate::new().expires_in(2 * hour))?),
            8 => drop(engine.disable(key)?),
            9 => drop(engine.enable(key)?),
            10 => drop(engine.suspend("acme", None)?),
            11 => drop(engine.resume("acme")?),
            12 => drop(engine.revoke_token(token, Reason::Cessation)?),
            13 => _ = engine.purge(hour)?,
            14 => engine.flush()?,
            17 => {
                let set_back = engine.set_time_back(self.clock.now())?;
                assert_eq!(engine.now(), set_back.to);
                assert_sound(&engine, "once time was set back");
                self.over.clear();
            }
            15 => {
                engine.close()?;
                self.engine = open(&self.disk, &self.clock);
            }
            // A crash: opened again from what was synced.
            _ => {
                let disk = Disk::of(self.disk.durable());
                self.engine = open(&disk, &self.clock);
                self.disk = disk;
            }
        }
        Ok(())
    }

    /// Asks for every token; what was over for good must still be.
    fn look(&mut self, place: &str) {
        for (at, (_, token)) in self.tokens.iter().enumerate() {
            let verdict = self.engine.verify(token).unwrap();
            let code = match &verdict {
                Verdict::Granted(_) => "granted",
                Verdict::Denied(denial) => denial.code(),
            };
            match code {
                "expired" | "revoked" => {
                    self.over.entry(at).or_insert(false);
                }
                // The answers that only a token gets which is not over.
                "granted" | "rate_limited" | "quota_exhausted" => assert_ne!(
                    self.over.get(&at),
                    Some(&true),
                    "{place}: token {at} was over, and is {code}"
                ),
                // Purged; or told first of all that is wrong with it.
                _ => {}
            }
        }
    }
}

#[test]
fn no_clock_revives_what_was_over_or_makes_anything_panic() {
    let instants = instants();
    let mut revived_without_commit = 0;
    for walk in 0..rounds(60, 3000) {
        let mut random = StdRng::seed_from_u64(walk);
        let mut world = World::begin();
        for step in 0..40 {
            let now = instants[random.random_range(0..instants.len())];
            world.clock.set(now);
            let place = format!("walk {walk}, step {step}, at {now:?}");
            world.look(&place);
            let before = world.engine.audit_page(1, 1000).unwrap().entries.len();
            let held: Vec<usize> = world.over.keys().copied().collect();
            match world.change(&mut random) {
                Ok(()) | Err(Error::Invalid(_) | Error::NotFound(_) | Error::Conflict(_)) => {}
                Err(error) => panic!("{place}: {error:?}"),
            }
            match world.engine.audit_page(1, 1000).unwrap().entries.len() > before {
                // The commit holds the time at which they were seen to be over.
                true => held.iter().for_each(|at| {
                    // Not where time was set back, which forgets them.
                    world
                        .over
                        .entry(*at)
                        .and_modify(|committed| *committed = true);
                }),
                // What was only seen, an opening may forget.
                false => world.over.retain(|_, committed| {
                    revived_without_commit += u64::from(!*committed);
                    *committed
                }),
            }
            world.look(&place);
        }
        assert_sound(&world.engine, &format!("walk {walk}"));
    }
    println!("{revived_without_commit} times that nothing was committed after");
}
