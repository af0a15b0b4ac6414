//! Keys that lag behind a revocation of their owner or their keyspace.

use std::time::Duration;

use gatekey::{
    AuditEntry, Conflict, Credential, Error, ForeignHash, ForeignKey, ImportedKey, Key, KeyUpdate,
    NewImport, Restore, Revocation, Revoked, Usage,
};

use super::*;
use crate::audit::trail;

/// Whose revocation it is, and why.
fn revoke(engine: &Engine, owner: &str, note: &str) -> u64 {
    let why = Revocation::new(Reason::PrivilegeWithdrawn).note(note);
    let many = engine.acting_as("alice").unwrap().revoke_owner(owner, why);
    many.unwrap().newly
}

fn is_by(revoked: &Revoked, note: &str) -> bool {
    let told = (
        revoked.reason,
        revoked.note.as_deref(),
        revoked.by.as_deref(),
    );
    told == (Reason::PrivilegeWithdrawn, Some(note), Some("alice"))
}

fn issue(engine: &Engine, prefix: &str, owner: &str) -> Issued {
    engine.issue(NewKey::new(prefix, owner).unwrap()).unwrap()
}

fn verdict(engine: &Engine, issued: &Issued) -> &'static str {
    code(&engine.verify(issued.token.expose()).unwrap())
}

/// The state's version in the file that has a backup of an engine.
fn state_version(world: &World, engine: &Engine) -> u8 {
    let copy = world.dir.path().join("state.redb");
    let _ = std::fs::remove_file(&copy);
    engine.backup(&copy).unwrap();
    let db = redb::Database::open(&copy).unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("gatekey");
    let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
    let state = txn.open_table(meta).unwrap();
    let state = state.get("state").unwrap().unwrap();
    state.value()[0]
}

impl World {
    /// How many of the owner's records in the file do not say that they are revoked.
    fn not_revoked(&self, engine: &Engine) -> usize {
        self.count_records(engine, |record| record[2] & 4 == 0)
    }

    fn all_keys(&self, engine: &Engine) -> Vec<Key> {
        let mut keys: Vec<Key> = engine.keys(KeyFilter::new()).map(Result::unwrap).collect();
        // What is known of their use is as of the last flush.
        keys.iter_mut().for_each(|key| key.usage = Usage::default());
        keys
    }

    /// Asserts that all of the owner's keys are revoked by a call, and `lag` are behind.
    fn assert_revoked(&self, engine: &Engine, note: &str, lag: usize) {
        let mut wanted = vec!["revoked"; KEYS];
        wanted.push("granted");
        assert_eq!(self.verdicts(engine), wanted);
        for issued in &self.issued[..KEYS] {
            let key = engine.key(issued.key.id).unwrap();
            assert_eq!(key.state, KeyState::Revoked);
            assert!(!key.suspended && !key.disabled);
            let revoked = key.revoked.clone().unwrap();
            assert!(is_by(&revoked, note), "{revoked:?}");
            let (looked, id) = (engine.extension("vouching").unwrap(), key.id);
            let looked = looked.change(move |tx: &mut ExtensionTx<'_, '_>| tx.find_key(id));
            assert_eq!(looked.unwrap().unwrap(), key);
        }
        let filter = KeyFilter::new().state(KeyState::Revoked);
        assert_eq!(engine.keys(filter).map(Result::unwrap).count(), KEYS);
        assert_eq!(counts(engine).revoked, KEYS as u64);
        let report = engine.check().unwrap();
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!(self.not_revoked(engine), lag);
    }
}

/// The keys that the trail names from a position on, and by which entry it says that they
/// were revoked.
fn named(engine: &Engine, from: usize) -> Vec<(u64, gatekey::KeyId)> {
    let named = |entry: AuditEntry| match entry.event {
        AuditEvent::RevokedKeysNamed { entry, keys, .. } => {
            keys.into_iter().map(|key| (entry, key)).collect()
        }
        _ => Vec::new(),
    };
    let entries = trail(engine).split_off(from);
    let mut all: Vec<_> = entries.into_iter().flat_map(named).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_revocation_is_seen_by_all_before_the_records_follow() {
    everywhere(|world| {
        let engine = &world.engine;
        // From memory, where there is some.
        world.assert_told(engine, KeyState::Active, 0);
        let entries = trail(engine).len();
        assert_eq!(state_version(&world, engine), 3);
        assert_eq!(
            revoke(engine, "acme", "gone"),
            AuditEvent::KEYS_COUNTED_MAX + 1
        );
        // Versions that know no such lag refuse the store.
        assert_eq!(state_version(&world, engine), 5);
        world.assert_revoked(engine, "gone", KEYS);
        assert_eq!(trail(engine).len(), entries + 1);
        let told = last_event(engine).to_string();
        let wanted = "more than 256 keys of owner acme revoked for privilege withdrawn";
        assert!(told.starts_with(wanted), "{told}");
        let keys = world.all_keys(engine);
        let histories = || {
            let of = |issued: &Issued| engine.history(issued.key.id, 0, 100).unwrap();
            let unnamed =
                |entry: &AuditEntry| !matches!(entry.event, AuditEvent::RevokedKeysNamed { .. });
            let all = world.issued.iter().map(of);
            let all = all.map(|of| of.into_iter().filter(unnamed).collect::<Vec<_>>());
            all.collect::<Vec<_>>()
        };
        // What comes later reaches no key that is revoked.
        engine.suspend("acme", None).unwrap();
        engine.resume("acme").unwrap();
        let before = histories();
        assert!(before[0].last().unwrap().seq == entries as u64 + 1);
        engine.flush().unwrap();
        world.assert_revoked(engine, "gone", 0);
        assert_eq!(state_version(&world, engine), 3);
        assert_eq!((world.all_keys(engine), histories()), (keys, before));
        let mut wanted: Vec<_> = world.issued[..KEYS].iter().map(|it| it.key.id).collect();
        wanted.sort_unstable();
        let revoked_by = entries as u64 + 1;
        let wanted: Vec<_> = wanted.into_iter().map(|key| (revoked_by, key)).collect();
        assert_eq!(named(engine, entries), wanted);
    });
}

#[test]
fn a_keyspace_that_is_revoked_is_so_before_its_records_follow() {
    everywhere(|world| {
        let engine = &world.engine;
        engine
            .create_keyspace(NewKeyspace::new("other").unwrap())
            .unwrap();
        world.assert_told(engine, KeyState::Active, 0);
        let beside = issue(engine, "other", "acme/etl");
        let alice = engine.acting_as("alice").unwrap();
        let why = Revocation::new(Reason::KeyCompromise).note("leaked");
        alice.revoke_keyspace("acme_live", why).unwrap();
        let later = issue(engine, "acme_live", "acme/etl");
        let told = || {
            let all = world.verdicts(engine);
            assert_eq!(all, vec!["revoked"; KEYS + 1]);
            assert_eq!(
                [verdict(engine, &beside), verdict(engine, &later)],
                ["granted"; 2]
            );
            let counts = counts(engine);
            assert_eq!((counts.revoked, counts.active), (KEYS as u64 + 1, 1));
            assert!(engine.check().unwrap().is_sound());
            world.all_keys(engine)
        };
        let before = told();
        assert_eq!(world.not_revoked(engine), KEYS);
        engine.flush().unwrap();
        assert_eq!(told(), before);
        assert_eq!(world.not_revoked(engine), 0);
        assert_eq!(named(engine, 0).len(), KEYS + 1);
    });
}

/// A revocation stays what it is, whatever comes before and after it.
#[test]
fn each_key_keeps_the_revocation_that_was_the_first() {
    everywhere(|world| {
        let engine = &world.engine;
        world.assert_told(engine, KeyState::Active, 0);
        let id = |number: usize| world.issued[number].key.id;
        engine.revoke(id(1), Reason::KeyCompromise).unwrap();
        engine.suspend("acme", None).unwrap();
        // "acme/etl" first, then all.
        revoke(engine, "acme/etl", "first");
        world.clock.advance(Duration::from_millis(5));
        revoke(engine, "acme", "second");
        engine.resume("acme").unwrap();
        let between = issue(engine, "acme_live", "acme/etl");
        let again = engine.revoke(id(2), Reason::Cessation).unwrap();
        world.clock.advance(Duration::from_millis(5));
        revoke(engine, "acme", "third");
        engine.suspend("acme", "unpaid").unwrap();
        let later = issue(engine, "acme_live", "acme/etl");
        let told = || {
            let revoked = |id| engine.key(id).unwrap().revoked.unwrap();
            assert_eq!(revoked(id(1)).reason, Reason::KeyCompromise);
            for number in [0, 2, 3, 4, 5, 6] {
                // The owners take turns: see `World::new`.
                let note = match number % 4 {
                    1 | 2 => "first",
                    _ => "second",
                };
                assert!(is_by(&revoked(id(number)), note), "{number}");
            }
            assert_eq!(revoked(id(2)), again);
            assert!(is_by(&revoked(between.key.id), "third"));
            assert_eq!(verdict(engine, &between), "revoked");
            assert_eq!(verdict(engine, &later), "suspended");
            assert!(engine.check().unwrap().is_sound());
            (world.all_keys(engine), counts(engine))
        };
        let before = told();
        engine.flush().unwrap();
        assert_eq!(told(), before);
        engine.resume("acme").unwrap();
        assert_eq!(verdict(engine, &later), "granted");
        engine.flush().unwrap();
        assert_eq!(verdict(engine, &later), "granted");
        assert_eq!(verdict(engine, &world.issued[0]), "revoked");
        // All but the one that was revoked before, each once.
        let mut keys: Vec<_> = named(engine, 0).into_iter().map(|(_, key)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), KEYS);
        assert_eq!(named(engine, 0).len(), KEYS);
    });
}

#[test]
fn a_key_that_lags_behind_a_revocation_is_refused_as_one_that_is_revoked() {
    everywhere(|world| {
        let engine = &world.engine;
        world.assert_told(engine, KeyState::Active, 0);
        let id = |number: usize| world.issued[number].key.id;
        let grace = || Rotation::with_grace(Duration::from_secs(60));
        let rotated = engine.rotate(id(3), grace()).unwrap();
        // Over by its expiry, over by its grace, and in its grace.
        let second = || KeyUpdate::new().expires_in(Duration::from_secs(1));
        engine.update(id(5), second()).unwrap();
        let short = Rotation::with_grace(Duration::from_secs(1));
        engine.rotate(id(6), short).unwrap();
        world.clock.advance(Duration::from_secs(2));
        let over = engine.key(id(6)).unwrap().revoked.unwrap();
        revoke(engine, "acme", "gone");
        let is_refused = |error: Error| {
            let Error::Conflict(Conflict::Revoked { at, .. }) = error else {
                panic!("{error:?}");
            };
            assert_eq!(at, engine.now());
        };
        is_refused(engine.rotate(id(0), grace()).map(drop).unwrap_err());
        is_refused(
            engine
                .rotate(rotated.key.id, grace())
                .map(drop)
                .unwrap_err(),
        );
        is_refused(
            engine
                .update(id(0), KeyUpdate::new().name("x"))
                .unwrap_err(),
        );
        is_refused(engine.disable(id(0)).unwrap_err());
        is_refused(engine.enable(id(5)).unwrap_err());
        let renewed = engine.extension("renewing").unwrap().change({
            let (id, rotation) = (id(5), Rotation::at_once().changing(second()));
            move |tx: &mut ExtensionTx<'_, '_>| tx.renew(id, &rotation).map(drop)
        });
        is_refused(renewed.unwrap_err());
        let told = || {
            assert_eq!(engine.key(id(6)).unwrap().revoked.unwrap(), over);
            for number in [0, 3, 5] {
                assert!(is_by(
                    &engine.key(id(number)).unwrap().revoked.unwrap(),
                    "gone"
                ));
            }
            assert!(engine.check().unwrap().is_sound());
            (world.all_keys(engine), counts(engine))
        };
        let before = told();
        engine.flush().unwrap();
        assert_eq!(told(), before);
        // Nothing is over for a millisecond, but for what was so before.
        revoke(engine, "acme2", "gone");
        assert_eq!(engine.purge(Duration::ZERO).unwrap().damaged, 0);
        world.clock.advance(Duration::from_millis(2));
        let purged = engine.purge(Duration::ZERO).unwrap();
        assert_eq!(purged.damaged, 0);
        assert_eq!(counts(engine).total(), 0);
    });
}

/// The index by end is of the records as they stand: a purge brings them up first.
#[test]
fn a_purge_removes_keys_that_lag_as_those_that_do_not() {
    everywhere(|world| {
        let engine = &world.engine;
        let id = |number: usize| world.issued[number].key.id;
        let second = || KeyUpdate::new().expires_in(Duration::from_secs(1));
        engine.update(id(5), second()).unwrap();
        world.clock.advance(Duration::from_secs(2));
        revoke(engine, "acme", "gone");
        // Expired for long, it is revoked for no time.
        let purged = engine.purge(Duration::ZERO).unwrap();
        assert_eq!((purged.keys, purged.damaged), (0, 0));
        revoke(engine, "acme", "again");
        world.clock.advance(Duration::from_millis(2));
        let purged = engine.purge(Duration::ZERO).unwrap();
        assert_eq!((purged.keys, purged.damaged), (KEYS as u64, 0));
        engine.flush().unwrap();
        assert!(engine.check().unwrap().is_sound());
    });
}

#[test]
fn keys_that_lag_behind_a_revocation_take_no_place_of_a_new_key() {
    everywhere(|world| {
        let engine = &world.engine;
        let single = NewKeyspace::new("single").unwrap();
        engine.create_keyspace(single.single_active()).unwrap();
        let capped = NewKeyspace::new("capped").unwrap();
        let policy = gatekey::KeysPerOwner::Many { cap: Some(2) };
        engine
            .create_keyspace(capped.keys_per_owner(policy))
            .unwrap();
        let old: Vec<Issued> = ["single", "capped", "capped"]
            .iter()
            .map(|prefix| issue(engine, prefix, "acme/etl"))
            .collect();
        old.iter()
            .for_each(|it| assert_eq!(verdict(engine, it), "granted"));
        let roomy = NewKeyspace::new("roomy").unwrap();
        engine.create_keyspace(roomy).unwrap();
        issue(engine, "roomy", "acme/etl");
        issue(engine, "roomy", "acme/etl");
        revoke(engine, "acme", "gone");
        // An owner without a good key fits a keyspace of one.
        let single = || {
            let update = gatekey::KeyspaceUpdate::new();
            update.keys_per_owner(gatekey::KeysPerOwner::SingleSuperseding)
        };
        engine.update_keyspace("roomy", single()).unwrap();
        let new: Vec<Issued> = ["single", "capped", "capped"]
            .iter()
            .map(|prefix| issue(engine, prefix, "acme/etl"))
            .collect();
        let told = || {
            old.iter()
                .for_each(|it| assert_eq!(verdict(engine, it), "revoked"));
            new.iter()
                .for_each(|it| assert_eq!(verdict(engine, it), "granted"));
            let one_more = NewKey::new("capped", "acme/etl").unwrap();
            let refused = engine.issue(one_more).unwrap_err();
            assert!(matches!(
                refused,
                Error::Conflict(Conflict::OwnerAtCap { held: 2, .. })
            ));
            // That one was not superseded: it was revoked before.
            let first = engine.key(old[0].key.id).unwrap().revoked.unwrap();
            assert!(is_by(&first, "gone"));
            assert!(engine.check().unwrap().is_sound());
        };
        told();
        // And one with one.
        engine.revoke(new[2].key.id, Reason::Cessation).unwrap();
        engine.update_keyspace("capped", single()).unwrap();
        let third = issue(engine, "single", "acme/etl");
        assert_eq!(verdict(engine, &new[0]), "revoked");
        engine.flush().unwrap();
        assert_eq!(verdict(engine, &third), "granted");
        assert_eq!(verdict(engine, &new[1]), "granted");
        assert!(engine.check().unwrap().is_sound());
    });
}

#[test]
fn imported_keys_lag_as_others_and_keep_their_revocation_at_the_sunset() {
    everywhere(|world| {
        let engine = &world.engine;
        let sunset = at(0).saturating_add(Duration::from_secs(60));
        let import = NewImport::new("old", ForeignHash::Plain).sunset(sunset);
        engine.begin_import(import).unwrap();
        let token = |number: usize| format!("uk_{number:0>30}");
        let import = |numbers: std::ops::Range<usize>| {
            let key = |number| {
                let new = NewKey::new("acme_live", "acme/etl").unwrap();
                ForeignKey::new(new, Credential::token(token(number)))
            };
            let told = engine.import_keys("old", numbers.map(key).collect());
            let id = |told: &ImportedKey| match told {
                ImportedKey::Imported(id) => *id,
                other => panic!("{other:?}"),
            };
            told.unwrap().iter().map(id).collect::<Vec<_>>()
        };
        let code = |number: usize| code(&engine.verify(token(number)).unwrap());
        let ids = import(0..3);
        assert_eq!(code(0), "granted");
        revoke(engine, "acme", "gone");
        let later = import(3..5);
        assert_eq!(
            [0, 1, 2, 3].map(code),
            ["revoked", "revoked", "revoked", "granted"]
        );
        world.clock.advance(Duration::from_secs(120));
        engine.flush().unwrap();
        let reason = |id| engine.key(id).unwrap().revoked.unwrap();
        for id in &ids {
            assert!(is_by(&reason(*id), "gone"), "{:?}", reason(*id));
        }
        // It was used. The other is revoked by the sunset, with an entry of its own.
        assert_eq!(engine.key(later[0]).unwrap().state, KeyState::Active);
        let ended = reason(later[1]);
        assert_eq!((ended.reason, ended.by), (Reason::Cessation, None));
        assert_eq!(engine.imports().unwrap()[0].unseen, 0);
        assert!(engine.check().unwrap().is_sound());
        let keys = named(engine, 0)
            .into_iter()
            .filter(|(_, key)| ids.contains(key));
        assert_eq!(keys.count(), 3);
    });
}

#[test]
fn a_grace_that_was_over_as_all_were_revoked_is_sound_where_time_is_set_back() {
    everywhere(|world| {
        let engine = &world.engine;
        let before = engine.now();
        let grace = Rotation::with_grace(Duration::from_secs(60));
        engine.rotate(world.issued[0].key.id, grace).unwrap();
        // A clock that leapt.
        world.clock.advance(Duration::from_secs(3_600));
        revoke(engine, "acme", "gone");
        let is_sound = || {
            let report = engine.check().unwrap();
            assert!(report.is_sound(), "{report:?}");
        };
        is_sound();
        world.clock.set(before);
        engine.set_time_back(before).unwrap();
        is_sound();
        engine.flush().unwrap();
        is_sound();
        assert_eq!(engine.repair().unwrap().repairs_total, 0);
        is_sound();
    });
}

#[test]
fn what_lags_behind_a_revocation_when_the_process_ends_is_brought_up_later() {
    everywhere(|world| {
        world.assert_told(&world.engine, KeyState::Active, 0);
        revoke(&world.engine, "acme", "gone");
        let (file, killed) = (world.dir.path().join("keys.redb"), "killed.redb");
        let [killed, backup] = [killed, "backup.redb"].map(|name| world.dir.path().join(name));
        std::fs::copy(&file, &killed).unwrap();
        world.engine.backup(&backup).unwrap();
        for path in [&killed, &backup] {
            let engine = world.open(path, false);
            world.assert_revoked(&engine, "gone", KEYS);
            engine.close().unwrap();
            let engine = world.open(path, true);
            assert_eq!(world.verdicts(&engine)[..KEYS], ["revoked"; KEYS]);
            let begun = std::time::Instant::now();
            while world.not_revoked(&engine) > 0 {
                assert!(begun.elapsed() < PATIENCE, "nobody brings them up");
            }
            world.assert_revoked(&engine, "gone", 0);
            assert_eq!(named(&engine, 0).len(), KEYS);
            engine.close().unwrap();
        }
    });
}

#[test]
fn a_repair_brings_up_keys_that_lag_behind_a_revocation_and_names_them() {
    let world = World::new(4096);
    revoke(&world.engine, "acme", "gone");
    let report = world.engine.repair().unwrap();
    assert_eq!(report.repairs, []);
    assert!(report.left.is_sound());
    world.assert_revoked(&world.engine, "gone", 0);
    assert_eq!(named(&world.engine, 0).len(), KEYS);
}

/// The entry of a revocation that records have yet to point at is not lost.
#[test]
fn a_trim_keeps_the_entry_that_keys_lag_behind() {
    everywhere(|world| {
        let engine = &world.engine;
        revoke(engine, "acme", "gone");
        let last = engine.audit_span().unwrap().last;
        engine.trim_audit(last.seq).unwrap();
        world.assert_revoked(engine, "gone", KEYS);
        engine.flush().unwrap();
        world.assert_revoked(engine, "gone", 0);
        engine
            .trim_audit(engine.audit_span().unwrap().last.seq)
            .unwrap();
        world.assert_revoked(engine, "gone", 0);
    });
}

/// A key that was issued after the revocation is not taken for revoked by a restore, whether
/// the backup was made before the revocation, or while its keys lag.
#[test]
fn a_restore_revokes_what_was_revoked_and_not_what_came_later() {
    for lags in [false, true] {
        let world = World::new(4096);
        let engine = &world.engine;
        let backup = world.dir.path().join("backup.redb");
        if !lags {
            engine.backup(&backup).unwrap();
        }
        revoke(engine, "acme", "gone");
        let later = issue(engine, "acme_live", "acme/etl");
        if lags {
            engine.backup(&backup).unwrap();
        }
        engine.flush().unwrap();
        let mut exported = Vec::new();
        engine.export_audit(1, &mut exported).unwrap();
        let options = Options::new().clock(world.clock.clone());
        let target = world.dir.path().join("restored.redb");
        let restored = Restore::new(&backup, options).trail(exported.as_slice());
        let restored = restored.to(&target).unwrap();
        assert!(restored.report.is_sound(), "{:#?}", restored.report);
        assert_eq!(restored.revoked, if lags { 0 } else { KEYS as u64 });
        let engine = world.open(&target, false);
        world.assert_revoked(&engine, "gone", 0);
        let wanted = if lags { "granted" } else { "unknown" };
        assert_eq!(verdict(&engine, &later), wanted);
        engine.close().unwrap();
    }
}
