//! Loss of power around requests that are asked again, time that is set back, and repairs.
//! Beside what [`crate::power`] checks: a repair is there whole or not at all, grants
//! nothing, and can be made again.

use std::time::Duration;

use gatekey::{Engine, NewKey, NewKeyspace, Quota, Rotation, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use redb::{ReadableTable, TableDefinition};

use crate::disk::Disk;
use crate::power::{crashes, each_point, lose_power_everywhere};
use crate::rounds;
use crate::workload::{QUOTA, Verb, World, open, verdict};

const HOUR: Duration = Duration::from_secs(3600);

fn far() -> Timestamp {
    "2099-01-01T00:00:00Z".parse().unwrap()
}

fn new(owner: &str) -> NewKey {
    NewKey::new("many", owner).unwrap()
}

/// Asks for a key under an idempotency key.
fn once(world: &mut World, key: &str, new: NewKey) -> Result<(), gatekey::Error> {
    let issued = world
        .engine
        .acting_as("alice")?
        .idempotent(key)?
        .issue(new)?;
    world.keep(&issued);
    Ok(())
}

fn rotate_once(world: &mut World) -> Result<(), gatekey::Error> {
    let request = world.engine.idempotent("rotation")?;
    let rotated = request.rotate(world.key(0), Rotation::with_grace(HOUR))?;
    let token = rotated.token.expose().to_owned();
    world.tokens.push((rotated.key.id, token));
    Ok(())
}

const MENDING: &[Verb] = &[
    ("create a keyspace", |w| {
        w.engine
            .create_keyspace(NewKeyspace::new("many")?)
            .map(drop)
    }),
    ("issue", |w| w.issue(new("acme/ingest"))),
    ("issue once", |w| {
        once(w, "one", new("acme/etl").expires_in(HOUR))
    }),
    ("issue once with a quota", |w| {
        once(w, "two", new("metered").quota(Quota::new(QUOTA)))
    }),
    ("ask again", |w| {
        once(w, "one", new("acme/etl").expires_in(HOUR))
    }),
    ("ask again with a quota", |w| {
        once(w, "two", new("metered").quota(Quota::new(QUOTA)))
    }),
    ("rotate once", rotate_once),
    ("ask for the rotation again", rotate_once),
    ("issue by a wrong clock", |w| {
        w.clock.set(far());
        w.issue(new("acme").expires_in(HOUR))
    }),
    ("issue once by a wrong clock", |w| {
        w.clock.set(far());
        once(w, "three", new("acme"))
    }),
    ("set time back", |w| {
        let to = gatekey::Clock::now(&w.clock);
        w.engine.acting_as("bob")?.set_time_back(to).map(drop)
    }),
    ("ask for what the wrong clock has issued", |w| {
        once(w, "three", new("acme"))
    }),
    ("ask again after time was set back", |w| {
        once(w, "one", new("acme/etl").expires_in(HOUR))
    }),
];

#[test]
fn requests_asked_again_and_time_set_back_survive_a_loss_of_power_at_any_call() {
    let [points, images, _] = lose_power_everywhere(MENDING);
    assert!(points > 100 && images > 500, "{points} {images}");
}

/// A store with every verb of the script done and one record of each kind damaged, and
/// its tokens.
fn damaged() -> (Vec<u8>, Vec<String>) {
    let mut world = World::begin(Disk::default()).unwrap();
    for (at, verb) in MENDING.iter().enumerate() {
        world.run(at, *verb).unwrap();
    }
    world.engine.suspend("acme/etl", None).unwrap();
    for (_, token) in &world.tokens {
        let _ = verdict(&world.engine, token).unwrap();
    }
    world.engine.clone().close().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.redb");
    std::fs::write(&path, world.disk.live()).unwrap();
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    for name in ["keys", "cold", "quotas", "audit"] {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(name);
        let mut table = txn.open_table(table).unwrap();
        let key = table.iter().unwrap().nth(usize::from(name != "quotas"));
        let key = key.unwrap().unwrap().0.value();
        table.insert(key, b"?".as_slice()).unwrap();
    }
    {
        let owners: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("owners");
        let mut owners = txn.open_table(owners).unwrap();
        owners.insert("acme/etl", b"?".as_slice()).unwrap();
        let requests: TableDefinition<'_, (&[u8; 32], u16), &[u8]> =
            TableDefinition::new("requests");
        let mut requests = txn.open_table(requests).unwrap();
        let name = *requests.first().unwrap().unwrap().0.value().0;
        requests.insert((&name, 0), b"?".as_slice()).unwrap();
        let by_keyspace: TableDefinition<'_, (u32, u64), ()> = TableDefinition::new("by_keyspace");
        let mut by_keyspace = txn.open_table(by_keyspace).unwrap();
        assert!(by_keyspace.pop_last().unwrap().is_some());
    }
    txn.commit().unwrap();
    drop(db);
    let tokens = world.tokens.into_iter().map(|(_, token)| token).collect();
    (std::fs::read(path).unwrap(), tokens)
}

#[test]
fn a_repair_is_whole_or_not_at_all_after_a_loss_of_power() {
    let (image, tokens) = damaged();
    let at = MENDING.len();
    // What is damaged is not granted, whichever error says so.
    let verdicts = |engine: &Engine| -> Vec<bool> {
        let is_granted = |token: &String| matches!(verdict(engine, token), Ok("granted"));
        tokens.iter().map(is_granted).collect()
    };
    let disk = Disk::of(image.clone());
    disk.keep_journal();
    let engine = open(&disk, at).unwrap();
    let found = engine.check().unwrap().findings;
    let before = verdicts(&engine);
    assert!(found.len() >= 7 && before.contains(&true), "{found:#?}");
    let report = engine.repair().unwrap();
    assert!(report.left.is_sound(), "{report:#?}");
    let after = verdicts(&engine);
    let repaired = disk.journal_len();
    let journal = disk.take_journal();
    assert_eq!(journal.len(), repaired);

    let subsets = usize::try_from(rounds(2, 24)).unwrap();
    let mut random = StdRng::seed_from_u64(13);
    let (mut whole, mut none) = (0, 0);
    each_point(image, &journal, |call, durable, since| {
        for crash in crashes(since, subsets) {
            let place = format!("call {call} of {repaired}");
            let image = crash.image(durable, since, &mut random);
            let engine = open(&Disk::of(image), at).unwrap();
            let left = engine.check().unwrap();
            if left.is_sound() {
                whole += 1;
                assert_eq!(verdicts(&engine), after, "{place}");
            } else {
                none += 1;
                assert!(call < repaired, "{place}: it was acknowledged");
                assert_eq!(left.findings, found, "{place}");
                assert_eq!(verdicts(&engine), before, "{place}");
                let again = engine.repair().unwrap();
                assert_eq!(again.repairs_total, report.repairs_total, "{place}");
                assert!(again.left.is_sound(), "{place}: {again:#?}");
                assert_eq!(verdicts(&engine), after, "{place}");
            }
            assert_eq!(engine.repair().unwrap().repairs_total, 0, "{place}");
        }
    });
    println!("{none} images before the repair, {whole} after it");
    assert!(none > 20 && whole > 0);
    for (before, after) in before.iter().zip(&after) {
        assert!(before >= after, "nothing is granted that was not");
    }
}
