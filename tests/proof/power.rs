//! Loss of power at every call that changes the disk, and at every call of the recovery
//! after it.
//!
//! Invariants checked:
//! - 3: what was acknowledged is there, and the change in flight whole or not at all;
//! - 2: nothing that was revoked, and acknowledged, verifies;
//! - 4: no owner of a single-active keyspace has two active keys;
//! - 6, 8: records, indexes and the chain of the audit trail agree;
//! - what was spent of a quota, and noted as flushed, stays so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::{Crash, Disk, Step};
use crate::rounds;
use crate::workload::{
    Look, QUOTA, SCRIPT, Verb, World, assert_sound, instant, look, open, open_unrepaired,
};
use gatekey::{Engine, Error, KeyId, OpenError};

/// The script as it ran once: every call, and what was known after each verb.
struct Run {
    script: &'static [Verb],
    journal: Vec<Step>,
    /// After creation, and after each verb.
    acks: Vec<Ack>,
    tokens: Vec<(KeyId, String)>,
}

struct Ack {
    /// How many calls had been made.
    calls: usize,
    look: Look,
    spent: u64,
    uses: u64,
}

fn uses(engine: &Engine) -> u64 {
    let keys = engine.keys(gatekey::KeyFilter::new());
    keys.map(|key| key.unwrap().usage.count).sum()
}

fn run(script: &'static [Verb]) -> Run {
    let disk = Disk::default();
    disk.keep_journal();
    let mut world = World::begin(disk.clone()).unwrap();
    let mut states = vec![(disk.journal_len(), 0, uses(&world.engine))];
    // What it says after each verb is asked of a copy: a question on the way might write.
    let mut images = vec![disk.live()];
    for (at, verb) in script.iter().enumerate() {
        let name = verb.0;
        let before = disk.journal_len();
        if let Err(error) = world.run(at, *verb) {
            panic!("{name}: {error}");
        }
        assert!(disk.journal_len() > before, "{name} wrote nothing");
        states.push((disk.journal_len(), world.spent, uses(&world.engine)));
        images.push(disk.live());
    }
    let tokens = world.tokens.clone();
    let acks = states.into_iter().zip(images).enumerate();
    let acks = acks.map(|(at, ((calls, spent, uses), image))| {
        let engine = open(&Disk::of(image), at).unwrap();
        Ack {
            calls,
            spent,
            uses,
            look: look(&engine, &tokens).unwrap(),
        }
    });
    Run {
        script,
        acks: acks.collect(),
        journal: disk.take_journal(),
        tokens,
    }
}

/// A place in a journal at which the power goes.
struct Point<'a> {
    durable: Vec<u8>,
    since: &'a [Step],
    /// How many verbs had been acknowledged; `None`: the store was being created.
    acknowledged: Option<usize>,
    name: String,
}

/// Calls `each` with every point of a journal, from an image on.
pub(crate) fn each_point<'a>(
    image: Vec<u8>,
    journal: &'a [Step],
    mut each: impl FnMut(usize, &[u8], &'a [Step]),
) {
    let mut durable = image;
    let mut synced = 0;
    for at in 1..=journal.len() {
        if let Step::Sync = journal[at - 1] {
            for step in &journal[synced..at] {
                step.apply(&mut durable);
            }
            synced = at;
        }
        each(at, &durable, &journal[synced..at]);
    }
}

/// The ways to lose power at a point: after a sync there is one.
pub(crate) fn crashes(since: &[Step], subsets: usize) -> Vec<Crash> {
    if since.is_empty() {
        return vec![Crash::Nothing];
    }
    let mut crashes = vec![Crash::Nothing, Crash::All, Crash::Torn, Crash::Scattered];
    crashes.extend((0..subsets).map(|_| Crash::Some));
    crashes
}

struct Tally {
    points: AtomicUsize,
    images: AtomicUsize,
    recoveries: AtomicUsize,
}

impl Run {
    /// Asserts that an image holds what was acknowledged, and gives the journal of its
    /// opening.
    fn assert_holds(&self, image: &[u8], point: &Point<'_>) -> Vec<Step> {
        let name = &point.name;
        let first = point.acknowledged.unwrap_or(0);
        let disk = Disk::of(image.to_vec());
        disk.keep_journal();
        let engine = match open(&disk, first) {
            Ok(engine) => engine,
            // A file does not have its name yet then: what is left has another, and is
            // made anew. See `opening` among the behaviour tests.
            Err(Error::Open {
                reason: OpenError::NotAStore(_),
                ..
            }) if point.acknowledged.is_none() && !image.starts_with(b"redb") => {
                return Vec::new();
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let recovery = disk.take_journal();
        let seen = look(&engine, &self.tokens).unwrap();
        let allowed = &self.acks[first..self.acks.len().min(first + 2)];
        let found = allowed
            .iter()
            .find(|ack| seen.difference(&ack.look).is_none());
        let Some(found) = found else {
            let difference = seen.difference(&allowed[0].look);
            panic!("{name}: neither before nor after the change in flight: {difference:?}");
        };
        assert_sound(&engine, name);
        let uses = uses(&engine);
        let acknowledged = &allowed[0];
        assert!(
            uses >= acknowledged.uses,
            "{name}: uses that were flushed are lost"
        );
        assert!(
            uses <= allowed.last().unwrap().uses,
            "{name}: uses that never were"
        );
        if let Some(key) = self.tokens.get(2)
            && let Ok(key) = engine.key(key.0)
        {
            let left = key.quota.unwrap().remaining;
            assert!(left <= QUOTA - acknowledged.spent, "{name}: spent twice");
            assert!(
                left + 10 >= QUOTA - found.spent,
                "{name}: more than a slice is lost"
            );
        }
        // Read before it is repaired it is the same, and is repaired for the first change.
        // At every fourth verb, for the time that it takes.
        if first.is_multiple_of(4) {
            let disk = Disk::of(image.to_vec());
            let unrepaired = open_unrepaired(&disk, first).expect(name);
            let read = look(&unrepaired, &self.tokens).unwrap();
            if let Some(difference) = read.difference(&found.look) {
                panic!("{name}: before its repair: {difference}");
            }
            let well = gatekey::NewKeyspace::new("well").unwrap();
            unrepaired.create_keyspace(well).expect(name);
            assert_sound(&unrepaired, name);
        }
        // It goes on from there; after every tenth verb, for the time that it takes.
        if first.is_multiple_of(10) {
            let well = gatekey::NewKeyspace::new("well").unwrap();
            engine.create_keyspace(well).expect(name);
            assert_sound(&engine, name);
        }
        recovery
    }
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power_at_any_call() {
    let [points, images, recoveries] = lose_power_everywhere(SCRIPT);
    assert!(points > 300 && images > 2000 && recoveries > 100);
}

/// Loses power at every call of a script, and says at how many points, how many images
/// that left, and how many of these a loss of power in the recovery of another.
pub(crate) fn lose_power_everywhere(script: &'static [Verb]) -> [usize; 3] {
    let run = run(script);
    let subsets = usize::try_from(rounds(3, 24)).unwrap();
    // In the short form, every so manieth image is crashed again in its recovery.
    let stride = usize::try_from(rounds(40, 1)).unwrap();
    let tally = Tally {
        points: AtomicUsize::new(0),
        images: AtomicUsize::new(0),
        recoveries: AtomicUsize::new(0),
    };
    let mut points = Vec::new();
    each_point(Vec::new(), &run.journal, |at, durable, since| {
        let acknowledged = run.acks.iter().rposition(|ack| ack.calls <= at);
        let verb = match acknowledged {
            None => "creation",
            Some(count) => run.script.get(count).map_or("the end", |verb| verb.0),
        };
        points.push(Point {
            durable: durable.to_vec(),
            since,
            acknowledged,
            name: format!("call {at} of {}, in {verb}", run.journal.len()),
        });
    });
    let count = points.len();
    let points = Mutex::new(points.into_iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = points.lock().unwrap().next();
                    let Some((number, point)) = next else { return };
                    look_at(&run, &point, number as u64, subsets, stride, &tally);
                }
            });
        }
    });
    let [points, images, recoveries] = [&tally.points, &tally.images, &tally.recoveries]
        .map(|count| count.load(Ordering::Relaxed));
    println!("{points} points, {images} images, of them {recoveries} in a recovery");
    assert_eq!(points, count);
    [points, images, recoveries]
}

fn look_at(run: &Run, point: &Point<'_>, seed: u64, subsets: usize, stride: usize, tally: &Tally) {
    let mut random = StdRng::seed_from_u64(seed);
    tally.points.fetch_add(1, Ordering::Relaxed);
    for crash in crashes(point.since, subsets) {
        let image = crash.image(&point.durable, point.since, &mut random);
        let recovery = run.assert_holds(&image, point);
        let number = tally.images.fetch_add(1, Ordering::Relaxed);
        if recovery.is_empty() || !number.is_multiple_of(stride) {
            continue;
        }
        each_point(image, &recovery, |at, durable, since| {
            for crash in crashes(since, 1) {
                let again = Point {
                    durable: durable.to_vec(),
                    since,
                    acknowledged: point.acknowledged,
                    name: format!("{}, call {at} of the recovery", point.name),
                };
                let image = crash.image(durable, since, &mut random);
                run.assert_holds(&image, &again);
                tally.images.fetch_add(1, Ordering::Relaxed);
                tally.recoveries.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The instants of the script are before the expiry of what expires in it.
#[test]
fn the_script_ends_before_its_keys_do() {
    let hour = std::time::Duration::from_secs(3600);
    assert!(instant(SCRIPT.len()) < instant(0).saturating_add(hour));
}
