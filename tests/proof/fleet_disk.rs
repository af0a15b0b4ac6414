//! The file of a server of a fleet, whose commits follow to the disk: what a loss of power
//! or a failing disk takes of it comes back from the log.
//!
//! Invariants checked:
//! - 2, 3: what was acknowledged holds, whatever of it the disk had;
//! - 10: until the file has it again, a verification is right, or an error;
//! - 6, 8: records, indexes and the chain of the audit trail agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatekey::extension::{Changed, ExtensionView, Follower};
use gatekey::fleet::{Entries, Freshness, Log, MemoryLog, Settings};
use gatekey::proof::open_on;
use gatekey::{Engine, Error, Issued, NewKey, NewKeyspace, Options, Pepper, Reason};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::{Call, Disk, Fault, How, Step};
use crate::power::{crashes, each_point};
use crate::recovery::until;
use crate::rounds;
use crate::workload::assert_sound;

/// Longer than a commit may not be on the disk yet.
const SYNCED_WITHIN: Duration = Duration::from_millis(1_500);

struct Server {
    log: Arc<MemoryLog>,
    disk: Disk,
    engine: Engine,
    keys: Vec<Issued>,
}

fn options() -> Options {
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    let options = Options::new().pepper(pepper).resident_bytes(1 << 16);
    options.usage_interval(None)
}

fn of_fleet(log: &Arc<MemoryLog>) -> Options {
    let settings = Settings::new(log.clone(), "one");
    let lease = Freshness::FailClosed(Duration::from_secs(120));
    options().fleet(settings.freshness(lease))
}

impl Server {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.redb");
        options().create(&path).unwrap().close().unwrap();
        let log = Arc::new(MemoryLog::new());
        let engine = of_fleet(&log).found_fleet(&path).unwrap();
        let keyspace = NewKeyspace::new("acme").unwrap();
        engine.create_keyspace(keyspace).unwrap();
        let keys = vec![NewKey::new("acme", "acme").unwrap(); 40];
        let keys = engine.issue_batch(keys).unwrap();
        engine.close().unwrap();
        let disk = Disk::of(std::fs::read(&path).unwrap());
        Self {
            engine: open_on(of_fleet(&log), disk.clone()).unwrap(),
            log,
            disk,
            keys,
        }
    }

    fn revoke(&self, at: usize) {
        let revoked = (self.engine).revoke(self.keys[at].key.id, Reason::KeyCompromise);
        revoked.unwrap();
    }

    /// Verifies each key on an engine: those before `revoked` are granted by none.
    fn verify(&self, engine: &Engine, revoked: usize) -> Result<(), Error> {
        for (at, key) in self.keys.iter().enumerate() {
            let verdict = engine.verify(key.token.expose())?;
            assert_eq!(verdict.is_granted(), at >= revoked, "key {at}");
        }
        Ok(())
    }

    fn head(&self) -> u64 {
        let mut at = 0;
        while let Entries::Found(entries) = self.log.read(at, 1_000).unwrap() {
            match entries.len() {
                0 => break,
                count => at += count as u64,
            }
        }
        at
    }
}

/// Opens what a loss of power left, without the log.
fn alone(image: &[u8]) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    std::fs::write(&path, image).unwrap();
    options().leave_fleet(&path).unwrap()
}

#[test]
fn what_the_disk_did_not_have_comes_back_from_the_log() {
    let server = Server::begin();
    // On a machine that is busy, a commit may be the one that waits for the disk.
    let mut revoked = 0;
    let image = loop {
        server.disk.set_fault(None);
        server.revoke(revoked);
        revoked += 1;
        let image = server.disk.durable();
        if server.disk.calls(Call::Sync) == 0 {
            break image;
        }
    };
    let lost = server.keys[revoked - 1].token.expose();
    let granted = alone(&image).verify(lost).unwrap();
    assert!(granted.is_granted(), "the disk had it");
    server.verify(&server.engine, revoked).unwrap();

    let again = open_on(of_fleet(&server.log), Disk::of(image)).unwrap();
    server.verify(&again, revoked).unwrap();
    assert_sound(&again, "again");
    assert_eq!(again.fleet_status().unwrap().position, server.head());
}

#[test]
fn what_is_applied_is_soon_on_the_disk_and_at_once_where_the_engine_closes() {
    let server = Server::begin();
    server.revoke(0);
    let is_denied = |image: &[u8], at: usize| {
        let token = server.keys[at].token.expose();
        !alone(image).verify(token).unwrap().is_granted()
    };
    until("the disk has it", || is_denied(&server.disk.durable(), 0));
    server.revoke(1);
    server.engine.clone().close().unwrap();
    assert!(is_denied(&server.disk.durable(), 1));
}

#[test]
fn a_server_of_a_fleet_loses_nothing_as_it_loses_power_at_any_call() {
    let server = Server::begin();
    let image = server.disk.durable();
    server.disk.keep_journal();
    for at in 0..3 {
        server.revoke(at);
        // Until the thread has synced what there is; the last changes are not waited for.
        std::thread::sleep(SYNCED_WITHIN);
        server.revoke(10 + at);
    }
    let revoked = [0, 1, 2, 10, 11, 12];
    let journal = server.disk.take_journal();
    let syncs = journal.iter().filter(|step| matches!(step, Step::Sync));
    assert!(syncs.count() >= 4, "{} calls", journal.len());
    let head = server.head();
    let mut random = StdRng::seed_from_u64(1);
    let subsets = usize::try_from(rounds(1, 20)).unwrap();
    let mut images = 0;
    each_point(image, &journal, |at, durable, since| {
        for crash in crashes(since, subsets) {
            let image = crash.image(durable, since, &mut random);
            assert_sound(&alone(&image), "alone");
            let again = open_on(of_fleet(&server.log), Disk::of(image)).unwrap();
            assert_eq!(again.fleet_status().unwrap().position, head, "call {at}");
            for (number, key) in server.keys.iter().enumerate() {
                let verdict = again.verify(key.token.expose()).unwrap();
                let is_revoked = revoked.contains(&number);
                assert_eq!(verdict.is_granted(), !is_revoked, "call {at}, key {number}");
            }
            assert_sound(&again, "again");
            images += 1;
        }
    });
    println!("{} calls, {images} images", journal.len());
    assert!(images > 20, "{images}");
}

/// Counts what it is told.
#[derive(Default)]
struct Counts(AtomicU32);

impl Follower for Counts {
    fn begin(&self, _: &ExtensionView<'_>) -> gatekey::Result<()> {
        Ok(())
    }

    fn follow(&self, changes: &[Changed<'_>]) {
        let count = u32::try_from(changes.len()).unwrap();
        self.0.fetch_add(count, Ordering::SeqCst);
    }
}

/// Panics so often as it is told of a change.
#[derive(Default)]
struct Panics(AtomicU32);

impl Follower for Panics {
    fn begin(&self, _: &ExtensionView<'_>) -> gatekey::Result<()> {
        Ok(())
    }

    fn follow(&self, _: &[Changed<'_>]) {
        let left = |left: u32| left.checked_sub(1);
        let told = (self.0).fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        assert!(told.is_err(), "a fault");
    }
}

/// A commit that was made, is not on the disk, and cannot be published.
#[test]
fn what_cannot_be_published_is_applied_once_more_and_nothing_is_answered_before() {
    let server = Server::begin();
    let panics = Arc::new(Panics::default());
    let extension = server.engine.extension("devices").unwrap();
    extension.follow(&panics).unwrap();
    for (at, times) in [(0_u8, 0_u32), (1, 1), (2, 2), (3, u32::MAX)] {
        panics.0.store(times, Ordering::SeqCst);
        // It is in the log.
        let put = extension.change(move |tx| tx.put("devices", &[at], 1, b"here"));
        put.unwrap();
        if times == u32::MAX {
            for _ in 0..100 {
                server.verify(&server.engine, 0).unwrap_err();
                std::thread::sleep(Duration::from_millis(5));
            }
            panics.0.store(0, Ordering::SeqCst);
            until("it answers", || server.verify(&server.engine, 0).is_ok());
        }
        server.verify(&server.engine, 0).unwrap();
        let found = extension.read(|view| view.get("devices", &[at])).unwrap();
        assert!(found.is_some(), "{at}");
    }
    assert_eq!(
        server.engine.fleet_status().unwrap().position,
        server.head()
    );
}

#[test]
fn a_disk_that_fails_takes_nothing_that_is_in_the_log() {
    let faults = [
        (Call::Write, How::Broken),
        (Call::Write, How::Short),
        (Call::Sync, How::Broken),
        (Call::Sync, How::Dropped),
    ];
    let mut went_back = 0;
    for ((call, how), nth) in faults.into_iter().flat_map(|it| [(it, 0), (it, 1)]) {
        let server = Server::begin();
        let counts = Arc::new(Counts::default());
        let extension = server.engine.extension("devices").unwrap();
        extension.follow(&counts).unwrap();
        let put = extension.change(|tx| tx.put("devices", b"7", 1, b"here"));
        put.unwrap();
        server.revoke(0);
        let image = server.disk.durable();
        server.disk.set_fault(Some(Fault {
            call,
            nth,
            how,
            lasts: true,
        }));
        let name = format!("{call:?} {nth} {how:?}");
        let mut revoked = 1;
        until(&name, || {
            // In the log, so acknowledged, whether or not the file has it.
            match server
                .engine
                .revoke(server.keys[revoked].key.id, Reason::Cessation)
            {
                Ok(_) => revoked += 1,
                Err(error) => assert!(matches!(error, Error::Store(_)), "{name}: {error}"),
            }
            // What is answered is right.
            let _ = server.verify(&server.engine, revoked);
            std::thread::sleep(Duration::from_millis(50));
            server.disk.failed() > 3 && !server.engine.health().is_well()
        });
        let at_fault = alone(&image).verify(server.keys[0].token.expose());
        went_back += u32::from(at_fault.unwrap().is_granted());

        server.disk.set_fault(None);
        until(&name, || server.engine.health().is_well());
        until(&name, || server.verify(&server.engine, revoked).is_ok());
        server.revoke(revoked);
        server.verify(&server.engine, revoked + 1).unwrap();
        // Also where its file has got it twice.
        assert_eq!(counts.0.load(Ordering::SeqCst), 1, "{name}");
        assert_sound(&server.engine, &name);
        assert_eq!(
            server.engine.fleet_status().unwrap().position,
            server.head()
        );
        server.engine.clone().close().unwrap();
        let left = alone(&server.disk.found().durable());
        server.verify(&left, revoked + 1).unwrap();
    }
    assert!(went_back > 0, "each was on the disk before the fault");
}
