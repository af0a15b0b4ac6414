//! Believable data: owners, keys of all states, use over ninety days.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gatekey::{Clock, Engine, Error, KeyId, NewKey, Reason, Rotation, Timestamp, bounds};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// How many days pass.
const DAYS: u32 = 90;

/// The system's clock, some time ago: while data is made, ninety days pass.
#[derive(Debug, Clone, Default)]
pub struct PastClock(Arc<AtomicU64>);

impl PastClock {
    /// A clock that is so far behind.
    #[must_use]
    pub fn behind(days: u64) -> Self {
        Self(Arc::new(AtomicU64::new(days * 86_400_000)))
    }

    /// How far the clock is behind from now on.
    fn set(&self, behind: Duration) {
        let ms = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for PastClock {
    fn now(&self) -> Timestamp {
        let behind = Duration::from_millis(self.0.load(Ordering::SeqCst));
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX);
        now.saturating_sub(behind)
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filled {
    /// How many owners.
    pub owners: u64,
    /// How many keys.
    pub keys: u64,
}

const FIRST: [&str; 20] = [
    "aurora", "baltic", "cedar", "delta", "ember", "fjord", "glacier", "harbor", "indigo",
    "juniper", "kelvin", "lumen", "meridian", "nordic", "orbit", "pioneer", "quartz", "ridge",
    "summit", "tundra",
];
const SECOND: [&str; 10] = [
    "labs",
    "systems",
    "analytics",
    "imaging",
    "robotics",
    "health",
    "energy",
    "maps",
    "media",
    "freight",
];
const ROLES: [&str; 8] = [
    "backend",
    "ci",
    "dashboard",
    "etl",
    "mobile",
    "nightly-report",
    "partner",
    "staging",
];

/// A generator of the same numbers at each start.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.roll(of.len() as u64)).unwrap_or(0);
        of.get(index).copied().unwrap_or("other")
    }
}

/// Makes owners and keys, while the clock goes from ninety days ago to now: by days, and by
/// hours in the last two.
pub fn fill(engine: &Engine, clock: &PastClock, owners: u64, keys: u64) -> Result<Filled, Error> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let ops = engine.acting_as("data of the example")?;
    let mut tokens = Vec::new();
    let mut ids: Vec<KeyId> = Vec::new();
    for day in 0..DAYS {
        clock.set(DAY * (DAYS - day));
        // As many each day; the last takes what is left over.
        let made = ids.len() as u64;
        let count = keys * u64::from(day + 1) / u64::from(DAYS) - made;
        let mut left = usize::try_from(count).unwrap_or(0);
        while left > 0 {
            let batch = left.min(bounds::BATCH_MAX);
            left -= batch;
            let new = (0..batch).map(|_| key(&mut dice, owners));
            for issued in ops.issue_batch(new.collect::<Result<_, _>>()?)? {
                // Each fourth is used now and then.
                if dice.roll(4) == 0 {
                    tokens.push(issued.token);
                }
                ids.push(issued.key.id);
            }
        }
        let hours = if day + 2 < DAYS { 1 } else { 24 };
        for hour in 0..hours {
            clock.set(DAY * (DAYS - day) - HOUR * hour);
            use_some(engine, &tokens, &mut dice, u64::from(hours))?;
            engine.flush()?;
        }
        // Some are rotated, disabled, revoked.
        for _ in 0..count.div_ceil(50) {
            let index = usize::try_from(dice.roll(ids.len() as u64)).unwrap_or(0);
            let Some(id) = ids.get(index).copied() else {
                continue;
            };
            // Those that are over already stay so.
            let _ = match dice.roll(4) {
                0 => ops.revoke(id, Reason::KeyCompromise).map(|_| ()),
                1 => ops.revoke(id, Reason::Cessation).map(|_| ()),
                2 => ops.disable(id).map(|_| ()),
                _ => ops.rotate(id, Rotation::with_grace(7 * DAY)).map(|_| ()),
            };
        }
    }
    clock.set(Duration::ZERO);
    use_some(engine, &tokens, &mut dice, 1)?;
    for number in [3, 14] {
        let owner = organisation(number);
        ops.suspend(owner, "unpaid since October")?;
    }
    engine.flush()?;
    Ok(Filled {
        owners,
        keys: ids.len() as u64,
    })
}

/// Uses some of the keys some times: fewer, where many hours make up a day.
fn use_some(
    engine: &Engine,
    tokens: &[gatekey::Token],
    dice: &mut Dice,
    hours: u64,
) -> Result<(), Error> {
    for token in tokens {
        if dice.roll(3 * hours.min(8)) != 0 {
            continue;
        }
        for _ in 0..=dice.roll(5) {
            let _ = engine.verify(token.expose())?;
        }
    }
    Ok(())
}

/// The name of an organisation.
fn organisation(number: u64) -> String {
    let first = usize::try_from(number).unwrap_or(0) % FIRST.len();
    let second = usize::try_from(number).unwrap_or(0) / FIRST.len() % SECOND.len();
    let name = format!(
        "{}-{}",
        FIRST.get(first).unwrap_or(&"a"),
        SECOND.get(second).unwrap_or(&"b")
    );
    match number / (FIRST.len() as u64 * SECOND.len() as u64) {
        0 => name,
        more => format!("{name}-{more}"),
    }
}

fn key(dice: &mut Dice, owners: u64) -> Result<NewKey, Error> {
    let number = dice.roll(owners);
    let organisation = organisation(number);
    let role = dice.pick(&ROLES);
    let new = match number % 3 {
        0 => {
            let project = dice.pick(&["atlas", "survey", "watch"]);
            let owner = format!("{organisation}/{project}/{role}");
            NewKey::new("pixxel", owner)?.label("environment", dice.pick(&["prod", "test"]))
        }
        1 => NewKey::new("tiered", organisation)?.plan(dice.pick(&["free", "free", "pro"])),
        _ => {
            let purpose = dice.pick(&["Development", "Production", "Read-only"]);
            let days = 7 + dice.roll(83);
            NewKey::new("ai_live", organisation)?
                .label("purpose", purpose)
                .expires_in(DAY * u32::try_from(days).unwrap_or(30))
        }
    };
    Ok(new
        .name(format!("{role} {}", 1 + dice.roll(9)))
        .permissions(["read"]))
}
