//! Restoring a backup takes away what was taken away since, and never gives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use gatekey::{
    AuditEvent, Conflict, Credential, Engine, Error, Expiry, ForeignHash, ForeignKey, ImportedKey,
    Invalid, KeyId, KeyState, KeyUpdate, KeyspaceUpdate, NewImport, NewKey, NewKeyspace, OpenError,
    Options, Pepper, Reason, Requirements, Restore, Restored, Revocation, Rotation,
};

use crate::common::{DAY, Store, code};
use crate::durability::tampering::{damage, edit};
use crate::opening::small;

struct World {
    store: Store,
    tokens: BTreeMap<&'static str, (KeyId, String)>,
    backup: PathBuf,
    audit_seq: u64,
}

impl World {
    /// A store with a key for each name, below an owner of that name, and its backup.
    fn new(names: &[&'static str], before: impl FnOnce(&Self)) -> Self {
        let store = Store::on_file();
        store.keyspace("acme");
        store.keyspace("other");
        let mut world = Self {
            backup: store.dir().join("backup.redb"),
            store,
            tokens: BTreeMap::new(),
            audit_seq: 0,
        };
        for name in names {
            let new = NewKey::new("acme", format!("{name}/bot"))
                .unwrap()
                .permissions(["read", "write"]);
            let issued = world.engine().issue(new).unwrap();
            let token = issued.token.expose().to_owned();
            world.tokens.insert(name, (issued.key.id, token));
        }
        before(&world);
        world.audit_seq = world.engine().backup(&world.backup).unwrap().audit_seq;
        world
    }

    fn engine(&self) -> &Engine {
        &self.store.engine
    }

    fn id(&self, name: &str) -> KeyId {
        self.tokens[name].0
    }

    fn export(&self, from: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.engine().export_audit(from, &mut out).unwrap();
        out
    }

    fn options(&self) -> Options {
        small().clock(self.store.clock.clone())
    }

    fn target(&self) -> PathBuf {
        self.store.dir().join("restored.redb")
    }

    fn restore<'a>(&self) -> Restore<'a> {
        Restore::new(&self.backup, self.options()).acting_as("restorer")
    }

    /// Restores with the whole trail, and opens what that made.
    fn restored(&self) -> (Restored, Engine) {
        let trail = self.export(self.audit_seq + 1);
        let restored = self
            .restore()
            .trail(trail.as_slice())
            .to(self.target())
            .unwrap();
        assert!(restored.report.is_sound(), "{:#?}", restored.report);
        let engine = self.options().open(self.target()).unwrap();
        assert!(engine.check().unwrap().is_sound());
        (restored, engine)
    }

    fn verdict(&self, engine: &Engine, name: &str) -> &'static str {
        let read = Requirements::new()
            .permissions(&["read"])
            .source("10.1.2.3".parse().unwrap());
        code(&engine.verify_with(&self.tokens[name].1, &read).unwrap())
    }
}

fn leaked() -> Revocation {
    Revocation::new(Reason::KeyCompromise).note("seen in public")
}

#[test]
fn what_was_taken_away_since_the_backup_is_taken_away_before_the_store_has_its_name() {
    let names = [
        "untouched",
        "revoked",
        "token",
        "owner",
        "rotated",
        "once",
        "disabled",
        "reenabled",
        "suspended",
        "resumed",
        "expiring",
        "expired",
        "narrowed",
        "networks",
        "nowhere",
        "elsewhere",
        "listed",
    ];
    let world = World::new(&names, |world| {
        let update = KeyUpdate::new().networks(["10.0.0.0/8".parse().unwrap()]);
        for name in ["nowhere", "networks"] {
            world
                .engine()
                .update(world.id(name), update.clone())
                .unwrap();
        }
    });
    let alice = world.engine().acting_as("alice").unwrap();
    let update = |name: &str, update: KeyUpdate| {
        alice.update(world.id(name), update).unwrap();
    };
    alice.revoke(world.id("revoked"), leaked()).unwrap();
    alice
        .revoke_token(&world.tokens["token"].1, Reason::Cessation)
        .unwrap();
    alice.revoke_owner("owner", leaked()).unwrap();
    let rotated = alice
        .rotate(world.id("rotated"), Rotation::with_grace(2 * DAY))
        .unwrap();
    let once = alice.rotate(world.id("once"), Rotation::at_once()).unwrap();
    alice.disable(world.id("disabled")).unwrap();
    alice.disable(world.id("reenabled")).unwrap();
    alice.enable(world.id("reenabled")).unwrap();
    alice.suspend("suspended", Some("unpaid")).unwrap();
    alice.suspend("resumed", None).unwrap();
    alice.resume("resumed").unwrap();
    update("expiring", KeyUpdate::new().expires_in(3 * DAY));
    update("expired", KeyUpdate::new().expires_in(DAY / 2));
    update(
        "narrowed",
        KeyUpdate::new().remove_permissions(["read"]).name("n"),
    );
    update(
        "networks",
        KeyUpdate::new().networks(["10.1.0.0/16".parse().unwrap()]),
    );
    update(
        "nowhere",
        KeyUpdate::new().networks(["192.0.2.0/24".parse().unwrap()]),
    );
    update(
        "elsewhere",
        KeyUpdate::new().networks(["192.0.2.0/24".parse().unwrap()]),
    );
    world.store.clock.advance(DAY);
    let purged = world.store.issue("acme", "purged").key.id;
    alice.revoke(purged, Reason::Cessation).unwrap();
    world.store.clock.advance(DAY / 2);
    assert_eq!(alice.purge(DAY / 4).unwrap().keys, 6);
    let end = world.engine().audit_span().unwrap().last;

    let (restored, engine) = world.restored();
    assert_eq!(
        (restored.backup.seq, restored.trail),
        (world.audit_seq, end)
    );
    assert_eq!(restored.revoked, 5, "revoked, token, owner, once, expired");
    assert_eq!(restored.disabled, 2, "disabled, nowhere");
    assert_eq!(
        restored.narrowed, 5,
        "rotated, expiring, narrowed, networks, elsewhere"
    );
    assert_eq!((restored.suspended, restored.damaged), (1, 0));
    let mut lost = [rotated.key.id, once.key.id];
    lost.sort_unstable();
    assert_eq!(restored.lost, lost);
    for (name, expected) in [
        ("untouched", "granted"),
        ("revoked", "revoked"),
        ("token", "revoked"),
        ("owner", "revoked"),
        ("rotated", "granted"),
        ("once", "revoked"),
        ("disabled", "disabled"),
        ("reenabled", "granted"),
        ("suspended", "suspended"),
        ("resumed", "granted"),
        ("expiring", "granted"),
        ("expired", "revoked"),
        ("narrowed", "permission_missing"),
        ("networks", "granted"),
        ("nowhere", "disabled"),
        ("elsewhere", "network_not_allowed"),
        ("listed", "granted"),
    ] {
        assert_eq!(world.verdict(&engine, name), expected, "{name}");
    }
    for token in [&rotated.token, &once.token] {
        assert_eq!(code(&engine.verify(token.expose()).unwrap()), "unknown");
    }
    let networks = engine.key(world.id("networks")).unwrap().networks;
    assert_eq!(networks, ["10.1.0.0/16".parse().unwrap()]);
    let revoked = engine.key(world.id("revoked")).unwrap().revoked.unwrap();
    assert_eq!(revoked.reason, Reason::KeyCompromise);
    assert_eq!(
        (revoked.note.as_deref(), revoked.by.as_deref()),
        (Some("seen in public"), Some("alice"))
    );
    let owner = engine.owner("suspended").unwrap().suspended.unwrap();
    assert_eq!(
        (owner.note.as_deref(), owner.by.as_deref()),
        (Some("unpaid"), Some("alice"))
    );
    assert!(engine.audit_span().unwrap().last.seq > restored.backup.seq);
    let first = &engine.audit_page(world.audit_seq + 1, 1).unwrap().entries[0];
    assert_eq!(first.actor.as_deref(), Some("restorer"));
    assert_eq!(
        first.event,
        AuditEvent::StoreRestored {
            backup: restored.backup,
            trail: restored.trail
        }
    );
    // The old key of a rotation ends with its grace, and can be rotated again.
    let key = engine.key(world.id("rotated")).unwrap();
    assert_eq!((key.state, key.successor), (KeyState::Active, None));
    world.store.clock.advance(DAY / 2);
    assert_eq!(world.verdict(&engine, "rotated"), "expired");
}

#[test]
fn what_was_given_since_the_backup_is_not_given_again() {
    let world = World::new(
        &["disabled", "short", "few", "near", "halted", "retired"],
        |world| {
            let engine = world.engine();
            engine.disable(world.id("disabled")).unwrap();
            engine
                .update(world.id("short"), KeyUpdate::new().expires_in(DAY))
                .unwrap();
            let few = KeyUpdate::new().set_permissions(["write"]);
            engine.update(world.id("few"), few).unwrap();
            let near = KeyUpdate::new().networks(["192.0.2.1".parse().unwrap()]);
            engine.update(world.id("near"), near).unwrap();
            engine.suspend("halted", None).unwrap();
        },
    );
    let engine = world.engine();
    engine.enable(world.id("disabled")).unwrap();
    engine
        .update(world.id("short"), KeyUpdate::new().expiry(Expiry::Never))
        .unwrap();
    let all = KeyUpdate::new().add_permissions(["read"]);
    engine.update(world.id("few"), all).unwrap();
    engine
        .update(world.id("near"), KeyUpdate::new().networks([]))
        .unwrap();
    engine.resume("halted").unwrap();
    let keyspace = KeyspaceUpdate::new()
        .add_permissions(["admin"])
        .retire_permissions(["write"]);
    engine.update_keyspace("acme", keyspace).unwrap();
    for name in ["disabled", "short", "few", "near", "halted"] {
        assert_eq!(world.verdict(engine, name), "granted", "{name}");
    }
    let (restored, engine) = world.restored();
    assert_eq!(
        (restored.revoked, restored.disabled, restored.suspended),
        (0, 0, 0)
    );
    assert_eq!(restored.narrowed, 0, "what was wider is as it was before");
    for (name, expected) in [
        ("disabled", "disabled"),
        ("short", "granted"),
        ("few", "permission_missing"),
        ("near", "network_not_allowed"),
        ("halted", "suspended"),
    ] {
        assert_eq!(world.verdict(&engine, name), expected, "{name}");
    }
    let acme = engine.keyspace("acme").unwrap();
    let retired: Vec<_> = acme
        .permissions
        .iter()
        .map(|known| (known.name.as_str(), known.retired))
        .collect();
    assert_eq!(retired, [("read", false), ("write", true)]);
    world.store.clock.advance(DAY);
    assert_eq!(world.verdict(&engine, "short"), "expired");
}

#[test]
fn keys_of_a_list_are_revoked_whether_there_is_a_trail_or_not() {
    let world = World::new(&["good", "listed", "again", "over"], |world| {
        world.engine().revoke(world.id("over"), leaked()).unwrap();
    });
    let later = world.store.issue("acme", "later").key.id;
    world.engine().revoke(world.id("again"), leaked()).unwrap();
    let list = ["listed", "again", "over"].map(|name| world.id(name));
    let list = [list.as_slice(), &[later]].concat();
    let cause = Revocation::new(Reason::KeyCompromise).note("on the list");
    let restored = world
        .restore()
        .revoke(list, cause)
        .to(world.target())
        .unwrap();
    assert_eq!((restored.revoked, restored.trail), (2, restored.backup));
    let engine = world.options().open(world.target()).unwrap();
    assert_eq!(world.verdict(&engine, "good"), "granted");
    for name in ["listed", "again"] {
        assert_eq!(world.verdict(&engine, name), "revoked");
        let revoked = engine.key(world.id(name)).unwrap().revoked.unwrap();
        assert_eq!(
            (revoked.note.as_deref(), revoked.by.as_deref()),
            (Some("on the list"), Some("restorer"))
        );
    }
}

/// A single-active keyspace revokes by its issues and rotations.
#[test]
fn what_took_the_place_of_keys_since_the_backup_takes_it_again() {
    let single = |world: &World| {
        let one = NewKeyspace::new("one").unwrap();
        let one = one.keys_per_owner(gatekey::KeysPerOwner::SingleSuperseding);
        world.engine().create_keyspace(one).unwrap();
    };
    let issue = |world: &World, owner: &str| {
        let issued = world
            .engine()
            .issue(NewKey::new("one", owner).unwrap())
            .unwrap();
        (issued.key.id, issued.token.expose().to_owned())
    };
    let first = std::cell::RefCell::new(Vec::new());
    let world = World::new(&[], |world| {
        single(world);
        let keys = ["issued", "rotated", "good"].map(|owner| issue(world, owner));
        // In the grace of one, another is rotated.
        let grace = Rotation::with_grace(10 * DAY);
        let next = world.engine().rotate(keys[1].0, grace).unwrap();
        first.borrow_mut().extend(keys);
        let token = next.token.expose().to_owned();
        first.borrow_mut().push((next.key.id, token));
    });
    let first = first.into_inner();
    let alice = world.engine().acting_as("alice").unwrap();
    let new = NewKey::new("one", "issued").unwrap();
    let issued = alice.issue(new).unwrap();
    let grace = Rotation::with_grace(5 * DAY);
    let rotated = alice.rotate(first[3].0, grace).unwrap();
    let of_old = world.engine().key(first[1].0).unwrap();
    assert_eq!(of_old.state, KeyState::Revoked, "by the second rotation");

    let (restored, engine) = world.restored();
    let mut lost = [issued.key.id, rotated.key.id];
    lost.sort_unstable();
    assert_eq!(restored.lost, lost, "which the backup does not have");
    let states = [0, 1, 2, 3].map(|at: usize| engine.key(first[at].0).unwrap());
    assert_eq!(
        states.each_ref().map(|key| key.state),
        [
            KeyState::Revoked,
            KeyState::Revoked,
            KeyState::Active,
            KeyState::Active
        ]
    );
    for key in &states[..2] {
        let revoked = key.revoked.as_ref().unwrap();
        assert_eq!(revoked.reason, Reason::Superseded);
        assert_eq!(revoked.by.as_deref(), Some("alice"));
    }
    assert_eq!((restored.revoked, restored.narrowed), (2, 1));
}

#[test]
fn a_grace_that_ended_since_and_a_keyspace_that_came_since_are_over() {
    let world = World::new(
        &["graced", "ended", "early", "shorter", "mine", "others"],
        |world| {
            let begin = crate::common::at(5 * 86_400_000);
            let new = NewKey::new("acme", "late/bot").unwrap().not_before(begin);
            world.engine().issue(new).unwrap();
        },
    );
    let engine = world.engine();
    let late = gatekey::KeyFilter::new().owner("late/bot".parse().unwrap());
    let late = engine.keys(late).next().unwrap().unwrap().id;
    // A grace that ends before the key begins: what is left of it is nothing.
    let rotated = engine.rotate(late, Rotation::with_grace(3 * DAY)).unwrap();
    assert_eq!(rotated.old.state, KeyState::NotYetValid);
    engine
        .rotate(world.id("graced"), Rotation::with_grace(DAY / 2))
        .unwrap();
    // It is disabled, and over by its expiry too.
    engine.disable(world.id("ended")).unwrap();
    let soon = KeyUpdate::new().expires_in(DAY / 2);
    engine.update(world.id("ended"), soon).unwrap();
    // The last change of an expiry counts.
    let soon = KeyUpdate::new().expires_in(DAY / 4);
    engine.update(world.id("early"), soon).unwrap();
    let never = KeyUpdate::new().expiry(Expiry::Never);
    engine.update(world.id("early"), never).unwrap();
    let sooner = KeyUpdate::new().expires_in(3 * DAY);
    engine.update(world.id("shorter"), sooner).unwrap();
    // Sweeps of several scopes, one of which the backup does not have.
    engine
        .create_keyspace(NewKeyspace::new("later").unwrap())
        .unwrap();
    engine.revoke_keyspace("later", leaked()).unwrap();
    engine.revoke_owner("mine", leaked()).unwrap();
    engine.revoke_owner("others", leaked()).unwrap();
    world.store.clock.advance(DAY);

    let (restored, engine) = world.restored();
    let graced = engine.key(world.id("graced")).unwrap().revoked.unwrap();
    assert_eq!(graced.reason, Reason::Superseded);
    for (name, expected) in [
        ("graced", "revoked"),
        ("ended", "revoked"),
        ("early", "granted"),
        ("shorter", "granted"),
        ("mine", "revoked"),
        ("others", "revoked"),
    ] {
        assert_eq!(world.verdict(&engine, name), expected, "{name}");
    }
    assert!(engine.key(late).unwrap().disabled);
    assert_eq!(
        (restored.revoked, restored.disabled, restored.narrowed),
        (4, 1, 1),
        "graced, ended, mine, others; late; shorter"
    );
}

/// More than one transaction narrows, each revoked by itself, by several exports.
/// docs/RESTORE.md exports each minute, whether anything was changed or not.
#[test]
fn exports_of_minutes_without_a_change_are_taken_as_any_others() {
    let world = World::new(&["one"], |_| {});
    let mut from = world.audit_seq + 1;
    let exports = [0, 1, 0, 0].map(|revoked| {
        if revoked == 1 {
            world.engine().revoke(world.id("one"), leaked()).unwrap();
        }
        let export = world.export(from);
        from = world.engine().audit_span().unwrap().last.seq + 1;
        export
    });
    let mut restore = world.restore();
    for export in &exports {
        restore = restore.trail(export.as_slice());
    }
    let restored = restore.to(world.target()).unwrap();
    assert_eq!((restored.revoked, restored.disabled), (1, 0));
}

#[test]
fn thousands_of_revocations_in_several_exports_are_all_applied() {
    let world = World::new(&["good"], |world| {
        let batch = vec![NewKey::new("acme", "many").unwrap(); 2001];
        world.engine().issue_batch(batch).unwrap();
    });
    let many = gatekey::KeyFilter::new().owner("many".parse().unwrap());
    let ids: Vec<_> = world
        .engine()
        .keys(many.clone())
        .map(|key| key.unwrap().id)
        .collect();
    let engine = world.engine();
    std::thread::scope(|scope| {
        for some in ids.chunks(40) {
            scope.spawn(move || {
                some.iter()
                    .for_each(|id| drop(engine.revoke(*id, leaked()).unwrap()));
            });
        }
    });
    let whole = world.export(0);
    let from = |seq: u64| world.export(world.audit_seq + seq);
    // The second is whole; the first is one of an earlier end.
    let first = {
        let text = String::from_utf8(whole.clone()).unwrap();
        let upto = world.audit_seq + 500;
        let cut: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with(&format!("{} ", upto + 1)))
            .collect();
        let last = cut.last().unwrap();
        format!(
            "{}\nlast {upto}:{}\n",
            cut.join("\n"),
            &last[last.len() - 64..]
        )
    };
    let second = from(490);
    let refused = world
        .restore()
        .trail(second.as_slice())
        .trail(first.as_bytes())
        .to(world.target());
    assert!(matches!(
        refused,
        Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError {
            what: "audit export",
            ..
        })))
    ));
    let restored = world
        .restore()
        .trail(first.as_bytes())
        .trail(second.as_slice())
        .to(world.target())
        .unwrap();
    assert_eq!(
        (restored.revoked, restored.trail.seq),
        (2001, world.audit_seq + 2001)
    );
    let restored = world.options().open(world.target()).unwrap();
    let revoked = restored.keys(many.state(KeyState::Revoked)).count();
    assert_eq!(revoked, 2001);
    assert_eq!(world.verdict(&restored, "good"), "granted");
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_trail_that_does_not_continue_the_backup_is_refused_and_nothing_is_made() {
    let world = World::new(&["key", "other"], |_| {});
    let fork = world.store.dir().join("fork.redb");
    fs::copy(&world.backup, &fork).unwrap();
    let fork = world.options().open(&fork).unwrap();
    fork.revoke(world.id("other"), leaked()).unwrap();
    fork.revoke(world.id("key"), leaked()).unwrap();
    let before = world.export(0);
    world.engine().revoke(world.id("key"), leaked()).unwrap();
    world.engine().revoke(world.id("other"), leaked()).unwrap();
    let good = world.export(world.audit_seq + 1);

    let stranger = World::new(&["key"], |_| {}).export(0);
    let late = world.export(world.audit_seq + 2);
    // A backup of the fork, and the trail of the other history.
    let ahead = world.store.dir().join("ahead.redb");
    fork.backup(&ahead).unwrap();
    let held = names_in(world.store.dir());
    let target = world.target();
    let refused = |what: &str, backup: &Path, trail: &[u8]| {
        let restore = Restore::new(backup, world.options()).trail(trail);
        let error = restore.to(&target).expect_err(what);
        assert_eq!(names_in(world.store.dir()), held, "{what}: {error}");
        error
    };
    for (what, backup, trail) in [
        ("of another store", &world.backup, stranger.as_slice()),
        ("of another history", &ahead, world.export(0).as_slice()),
        (
            "of another history, from after the backup",
            &ahead,
            world.export(world.audit_seq + 2).as_slice(),
        ),
    ] {
        let error = refused(what, backup, trail);
        assert!(matches!(error, Error::Corrupted(_)), "{what}: {error}");
    }
    for (what, backup, trail) in [
        ("too late", &world.backup, late.as_slice()),
        ("ends before", &ahead, before.as_slice()),
        ("cut off", &world.backup, &good[..good.len() - 1]),
        ("empty", &world.backup, b"".as_slice()),
    ] {
        let error = refused(what, backup, trail);
        assert!(
            matches!(
                error,
                Error::Invalid(Invalid::Malformed(gatekey::ParseError {
                    what: "audit export",
                    ..
                }))
            ),
            "{what}: {error}"
        );
    }
    // From the beginning, and exactly from the backup on.
    for trail in [world.export(0), good] {
        let restored = world.restore().trail(trail.as_slice()).to(&target).unwrap();
        assert_eq!(restored.revoked, 2);
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_target_that_exists_and_a_backup_that_cannot_be_read_are_refused() {
    let world = World::new(&["key"], |_| {});
    let (target, partial) = (
        world.target(),
        world.store.dir().join("restored.redb.restore"),
    );
    fs::write(&target, "a file").unwrap();
    assert!(matches!(
        world.restore().to(&target),
        Err(Error::Conflict(Conflict::TargetExists(named))) if named == target
    ));
    fs::remove_file(&target).unwrap();
    fs::write(&partial, "half of one").unwrap();
    assert!(matches!(
        world.restore().to(&target),
        Err(Error::Conflict(Conflict::RestoreUnderWay(named))) if named == partial
    ));
    assert_eq!(fs::read(&partial).unwrap(), b"half of one");
    fs::remove_file(&partial).unwrap();

    let held = names_in(world.store.dir());
    let path = world.store.path.clone().unwrap();
    let opening = |backup: &Path, options: Options| match Restore::new(backup, options).to(&target)
    {
        Err(Error::Open { path, reason }) => {
            assert_eq!(path, backup);
            assert_eq!(names_in(world.store.dir()), held);
            reason
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(opening(&path, world.options()), OpenError::InUse));
    let missing = world.store.dir().join("missing.redb");
    assert!(matches!(
        opening(&missing, world.options()),
        OpenError::Missing
    ));
    let pepper = world.options().pepper(Pepper::new(1, [7; 32]).unwrap());
    assert!(matches!(
        opening(&world.backup, pepper),
        OpenError::PepperNotExpected
    ));
    assert!(world.restore().acting_as("").to(&target).is_err());
    world.restore().to(&target).unwrap();
}

/// Looks, each time that it is read, whether the target has its name already.
struct Watching<'a> {
    bytes: &'a [u8],
    target: PathBuf,
    reads: &'a std::cell::Cell<u32>,
}

impl Read for Watching<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(out)
    }
}

impl BufRead for Watching<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        assert!(
            !self.target.exists(),
            "it has its name before all is applied"
        );
        self.reads.set(self.reads.get() + 1);
        Ok(self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes = &self.bytes[count..];
    }
}

#[test]
fn a_store_that_is_restored_has_its_name_when_all_is_applied_and_runs_in_the_time_of_the_trail() {
    let world = World::new(&["key"], |_| {});
    world.store.clock.advance(3 * DAY);
    world.engine().revoke(world.id("key"), leaked()).unwrap();
    let at = world.engine().now();
    let trail = world.export(0);
    world.store.clock.step_back(3 * DAY);
    let reads = std::cell::Cell::new(0);
    let watching = Watching {
        bytes: &trail,
        target: world.target(),
        reads: &reads,
    };
    world.restore().trail(watching).to(world.target()).unwrap();
    assert!(reads.get() > 3);
    let engine = world.options().open(world.target()).unwrap();
    assert_eq!(engine.now(), at);
    assert_eq!(world.verdict(&engine, "key"), "revoked");
    assert_eq!(names_in(world.store.dir()).len(), 3);
}

/// Whatever was done since: what the restored store grants, the lost one granted, and
/// granted before.
#[test]
fn after_any_changes_a_restored_store_grants_nothing_that_the_lost_one_did_not() {
    const OWNERS: [&str; 4] = ["a", "b", "c", "d"];
    let nets: [&[&str]; 4] = [&[], &["10.0.0.0/8"], &["10.1.0.0/16"], &["192.0.2.0/24"]];
    let mut narrowed = 0;
    for seed in 1_u64..=6 {
        let world = World::new(&OWNERS, |_| {});
        let mut ids: Vec<_> = OWNERS.iter().map(|name| world.id(name)).collect();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % end as u64).unwrap()
        };
        for _ in 0..14 {
            let engine = world.engine();
            let (key, owner) = (ids[below(ids.len())], OWNERS[below(4)]);
            // What is refused, since the key is over, is as well.
            match below(12) {
                0 => drop(engine.revoke(key, leaked())),
                1 => drop(engine.disable(key)),
                2 | 3 => drop(engine.enable(key)),
                4 => drop(engine.suspend(owner, None)),
                5 => drop(engine.resume(owner)),
                6 => {
                    let grace = DAY * u32::try_from(below(3)).unwrap();
                    if let Ok(rotated) = engine.rotate(key, Rotation::with_grace(grace)) {
                        ids.push(rotated.key.id);
                    }
                }
                7 => drop(engine.update(key, KeyUpdate::new().remove_permissions(["read"]))),
                8 => drop(engine.update(key, KeyUpdate::new().add_permissions(["read"]).name("x"))),
                9 => {
                    let end = DAY * u32::try_from(1 + below(4)).unwrap();
                    drop(engine.update(key, KeyUpdate::new().expires_in(end)));
                }
                10 => {
                    let nets = nets[below(4)].iter().map(|net| net.parse().unwrap());
                    drop(engine.update(key, KeyUpdate::new().networks(nets)));
                }
                _ => world.store.clock.advance(DAY / 4),
            }
        }
        let (_, restored) = world.restored();
        for day in 0..4 {
            for name in OWNERS {
                let lost = world.verdict(world.engine(), name);
                let verdict = world.verdict(&restored, name);
                assert!(
                    verdict != "granted" || lost == "granted",
                    "seed {seed}, day {day}: {name} was {lost}: {:#?}",
                    world.engine().audit_page(0, 100)
                );
                narrowed += u32::from(lost != "granted");
            }
            world.store.clock.advance(DAY);
        }
    }
    assert!(narrowed > 25, "{narrowed}");
}

/// A key that has expired grants nothing, but an extension may go on from it to another key.
#[test]
fn a_key_that_has_expired_is_revoked_where_the_trail_took_from_it() {
    let names = [
        "untouched",
        "renamed",
        "longer",
        "revoked",
        "disabled",
        "reenabled",
        "narrowed",
        "networks",
        "rotated",
        "once",
        "listed",
    ];
    let world = World::new(&names, |world| {
        for name in names {
            let update = KeyUpdate::new().expires_in(2 * DAY);
            world.engine().update(world.id(name), update).unwrap();
        }
    });
    let engine = world.engine();
    let devices = engine.extension("devices").unwrap();
    for subject in ["1", "2"] {
        devices
            .change(|tx| tx.audit("device_stolen", subject, None))
            .unwrap();
    }
    let update = |name: &str, update: KeyUpdate| {
        engine.update(world.id(name), update).unwrap();
    };
    update("renamed", KeyUpdate::new().name("renamed"));
    update("longer", KeyUpdate::new().expires_in(9 * DAY));
    engine.revoke(world.id("revoked"), leaked()).unwrap();
    engine.disable(world.id("disabled")).unwrap();
    engine.disable(world.id("reenabled")).unwrap();
    engine.enable(world.id("reenabled")).unwrap();
    update("narrowed", KeyUpdate::new().remove_permissions(["read"]));
    let network = "10.0.0.0/8".parse().unwrap();
    update("networks", KeyUpdate::new().networks([network]));
    let grace = Rotation::with_grace(DAY);
    engine.rotate(world.id("rotated"), grace).unwrap();
    engine
        .rotate(world.id("once"), Rotation::at_once())
        .unwrap();
    world.store.clock.advance(3 * DAY);
    let trail = world.export(world.audit_seq + 1);
    let restored = (world.restore())
        .trail(trail.as_slice())
        .revoke([world.id("listed")], leaked())
        .to(world.target())
        .unwrap();
    assert!(restored.report.is_sound(), "{:#?}", restored.report);
    assert_eq!(
        (restored.revoked, restored.disabled, restored.narrowed),
        (7, 0, 0)
    );
    assert_eq!(restored.extensions, [("devices".to_owned(), 2)].into());
    let engine = world.options().open(world.target()).unwrap();
    for name in names {
        let kept = ["untouched", "renamed", "longer", "reenabled"].contains(&name);
        let expected = match kept {
            true => KeyState::Expired,
            false => KeyState::Revoked,
        };
        assert_eq!(
            engine.key(world.id(name)).unwrap().state,
            expected,
            "{name}"
        );
    }
}

#[test]
fn what_the_backup_does_not_have_is_left_out_and_what_it_has_damaged_is_counted() {
    let mut world = World::new(&["damaged", "both"], |_| ());
    let engine = world.engine();
    // A keyspace, and keys of an import, that came after the backup.
    engine
        .create_keyspace(NewKeyspace::new("late").unwrap())
        .unwrap();
    let late = engine.issue(NewKey::new("late", "acme").unwrap()).unwrap();
    engine.revoke_keyspace("late", leaked()).unwrap();
    let import = NewImport::new("old", ForeignHash::Plain);
    engine.begin_import(import).unwrap();
    let credential = Credential::token("a-token-of-the-old-system");
    let key = ForeignKey::new(NewKey::new("acme", "acme").unwrap(), credential);
    let told = engine.import_keys("old", vec![key]).unwrap();
    let [ImportedKey::Imported(imported)] = told[..] else {
        panic!("{told:?}");
    };
    engine.revoke(world.id("damaged"), leaked()).unwrap();
    let grace = Rotation::with_grace(DAY);
    let new = engine.rotate(world.id("both"), grace).unwrap().key.id;
    // It was over before the grace was: not the rotation ended it.
    let update = KeyUpdate::new().expires_in(DAY / 2);
    engine.update(world.id("both"), update).unwrap();
    world.store.clock.advance(2 * DAY);
    let trail = world.export(world.audit_seq + 1);
    edit(&world.backup, |txn| damage(txn, world.id("damaged")));
    let restored = (world.restore())
        .trail(trail.as_slice())
        .to(world.target())
        .unwrap();
    assert_eq!((restored.damaged, restored.revoked), (1, 1));
    let mut lost = [late.key.id, imported, new];
    lost.sort_unstable();
    assert_eq!(restored.lost, lost);
    world.store.engine = world.options().open(world.target()).unwrap();
    let ended = world.engine().key(world.id("both")).unwrap();
    assert_ne!(ended.revoked.unwrap().reason, Reason::Superseded);
}
