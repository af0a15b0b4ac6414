//! Keyspaces: what they say of their keys, and what may change.

mod vocabulary;

use std::time::Duration;

use gatekey::{
    Conflict, Error, Invalid, KeysPerOwner, Keyspace, KeyspaceUpdate, Limit, NewKey, NewKeyspace,
    NotFound, Permissions, Plan, Rotation, bounds,
};

use crate::audit::{assert_unwritten, trail};
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::{DAY_MS, limited};

const SEVERAL: KeysPerOwner = KeysPerOwner::Many { cap: None };

fn update(store: &Store, change: KeyspaceUpdate) -> Keyspace {
    store.engine.update_keyspace("acme", change).unwrap()
}

/// The names of a keyspace's permissions, in the order of their bits.
fn names(keyspace: &Keyspace) -> Vec<(&str, bool)> {
    keyspace
        .permissions
        .iter()
        .map(|known| (known.name.as_str(), known.retired))
        .collect()
}

#[test]
fn a_keyspace_is_read_as_it_was_created() {
    everywhere(|store| {
        let new = NewKeyspace::new("acme_live")
            .unwrap()
            .description("production")
            .permissions(["read", "write"])
            .keys_per_owner(KeysPerOwner::Many { cap: Some(5) })
            .default_lifetime(DAY)
            .max_lifetime(DAY * 90);
        let created = store.engine.create_keyspace(new).unwrap();
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            let read = store.engine.keyspace("acme_live").unwrap();
            assert_eq!(read, created);
            assert_eq!(read.prefix.as_str(), "acme_live");
            assert_eq!(read.description, "production");
            assert_eq!(names(&read), [("read", false), ("write", false)]);
            assert_eq!(read.keys_per_owner, KeysPerOwner::Many { cap: Some(5) });
            assert_eq!(read.default_lifetime, Some(DAY));
            assert_eq!(read.max_lifetime, Some(DAY * 90));
            assert_eq!((read.created_at, read.updated_at), (at(0), at(0)));
        }
    });
}

#[test]
fn a_keyspace_that_says_nothing_allows_several_keys_that_do_not_expire() {
    everywhere(|store| {
        let new = NewKeyspace::new("acme").unwrap();
        let created = store.engine.create_keyspace(new).unwrap();
        assert_eq!(created.description, "");
        assert_eq!(names(&created), []);
        assert_eq!(created.keys_per_owner, SEVERAL);
        assert_eq!(
            (created.default_lifetime, created.max_lifetime),
            (None, None)
        );
        let single = NewKeyspace::new("single").unwrap().single_active();
        let single = store.engine.create_keyspace(single).unwrap();
        assert_eq!(single.keys_per_owner, KeysPerOwner::SingleSuperseding);
    });
}

#[test]
fn keyspaces_are_listed_from_the_oldest_on() {
    everywhere(|store| {
        assert_eq!(store.engine.keyspaces().unwrap(), []);
        for prefix in ["zeta", "alpha", "mid"] {
            store.keyspace(prefix);
        }
        store.reopen();
        store.keyspace("beta");
        let listed = store.engine.keyspaces().unwrap();
        let prefixes: Vec<_> = listed
            .iter()
            .map(|keyspace| keyspace.prefix.as_str())
            .collect();
        assert_eq!(prefixes, ["zeta", "alpha", "mid", "beta"]);
        for keyspace in &listed {
            assert_eq!(&store.engine.keyspace(keyspace.prefix).unwrap(), keyspace);
        }
    });
}

#[test]
fn a_prefix_belongs_to_one_keyspace() {
    everywhere(|store| {
        store.keyspace("acme");
        let before = store.engine.keyspace("acme").unwrap();
        store.reopen();
        let again = NewKeyspace::new("acme").unwrap().description("mine");
        let refused = assert_unwritten(&store.engine, || store.engine.create_keyspace(again));
        assert!(matches!(
            refused,
            Err(Error::Conflict(Conflict::PrefixTaken(prefix))) if prefix.as_str() == "acme"
        ));
        assert_eq!(store.engine.keyspaces().unwrap(), [before]);
    });
}

fn plan(name: &str) -> Plan {
    Plan::new(name).limit(Limit::per_second(5))
}

/// As several servers ask for it at their start, one after another or at once.
#[test]
fn a_keyspace_that_is_ensured_again_is_given_and_nothing_is_written() {
    everywhere(|store| {
        let new = |plans: [&str; 2]| {
            let new = NewKeyspace::new("acme").unwrap().description("production");
            let new = new.permissions(["read", "write"]).max_lifetime(DAY);
            plans.iter().fold(new, |new, name| new.plan(plan(name)))
        };
        let rivals: Vec<_> = std::thread::scope(|scope| {
            let ensure = || store.engine.ensure_keyspace(new(["free", "paid"])).unwrap();
            let rivals = [(); 4].map(|()| scope.spawn(ensure));
            rivals.map(|rival| rival.join().unwrap()).into()
        });
        assert!(rivals.iter().all(|keyspace| *keyspace == rivals[0]));
        assert_eq!(store.engine.keyspace("acme").unwrap(), rivals[0]);
        assert_eq!(trail(&store.engine).len(), 1);
        let bytes = |store: &Store| store.path.as_ref().map(|path| std::fs::read(path).unwrap());
        let before = bytes(store);
        // The order of plans says nothing.
        for plans in [["free", "paid"], ["paid", "free"]] {
            assert_eq!(store.engine.ensure_keyspace(new(plans)).unwrap(), rivals[0]);
        }
        assert_eq!(trail(&store.engine).len(), 1);
        assert!(bytes(store) == before, "something was written");
    });
}

#[test]
fn a_keyspace_that_differs_from_what_is_ensured_is_left_and_the_points_are_told() {
    everywhere(|store| {
        let new = || {
            NewKeyspace::new("acme")
                .unwrap()
                .permissions(["read", "write"])
        };
        let created = store.engine.ensure_keyspace(new()).unwrap();
        let told = |asked: NewKeyspace| match store.engine.ensure_keyspace(asked) {
            Err(Error::Conflict(Conflict::KeyspaceDiffers {
                keyspace,
                differences,
            })) => {
                assert_eq!(keyspace.as_str(), "acme");
                let told = differences.iter().map(ToString::to_string);
                told.collect::<Vec<_>>().join("; ")
            }
            other => panic!("{other:?}"),
        };
        let bare = || NewKeyspace::new("acme").unwrap();
        let asked_for = "permissions: it has read, write, you ask for none";
        assert_eq!(told(bare()), asked_for);
        assert_eq!(
            told(bare().permissions(["write", "read"])),
            "permissions: it has read, write, you ask for write, read",
            "each has another bit"
        );
        assert!(told(new().permissions(["admin"])).contains("you ask for read, write, admin"));
        assert!(told(new().description("test")).starts_with("description: it has"));
        assert!(told(new().single_active()).starts_with("keys per owner: it has"));
        assert!(told(new().max_lifetime(DAY)).starts_with("maximum lifetime: it has none"));
        assert!(told(new().default_lifetime(DAY)).starts_with("default lifetime: it has none"));
        let planned = told(new().plan(plan("free")).default_plan("free"));
        assert!(planned.starts_with("plans: it has none"), "{planned}");
        assert!(
            planned.contains("; default plan: it has none, you ask for \"free\""),
            "{planned}"
        );
        // What cannot be is refused as that, also where the keyspace exists.
        let impossible = store.engine.ensure_keyspace(new().default_plan("none"));
        assert!(
            matches!(impossible, Err(Error::Invalid(_))),
            "{impossible:?}"
        );
        assert_eq!(store.engine.keyspace("acme").unwrap(), created);
        assert_eq!(trail(&store.engine).len(), 1);

        // A name that was retired cannot be asked for, and one that was added must be.
        let retired = KeyspaceUpdate::new().retire_permissions(["write"]);
        update(store, retired.add_permissions(["admin"]));
        assert!(told(new()).starts_with("permissions: it has read, admin"));
        let as_it_is = bare().permissions(["read", "admin"]);
        let found = store.engine.ensure_keyspace(as_it_is).unwrap();
        assert_eq!(found, store.engine.keyspace("acme").unwrap());
    });
}

#[test]
fn a_keyspace_that_is_looked_for_is_there_or_none_and_a_failure_is_neither() {
    everywhere(|store| {
        assert_eq!(store.engine.find_keyspace("acme").unwrap(), None);
        store.keyspace("acme");
        let keyspace = store.engine.keyspace("acme").unwrap();
        assert_eq!(store.engine.find_keyspace("acme").unwrap(), Some(keyspace));
        let malformed = store.engine.find_keyspace("Acme");
        assert!(matches!(malformed, Err(Error::Invalid(_))), "{malformed:?}");
        let issued = store.issue("acme", "acme");
        assert_eq!(
            store.engine.find_key(issued.key.id).unwrap(),
            Some(store.engine.key(issued.key.id).unwrap())
        );
        let other = Store::new(0, false);
        assert_eq!(other.engine.find_key(issued.key.id).unwrap(), None);
    });
    for on_file in [false, true] {
        let store = Store::new(0, on_file);
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        store.engine.clone().close().unwrap();
        let found = store.engine.find_keyspace("acme");
        assert!(matches!(found, Err(Error::Closed)), "{found:?}");
        let found = store.engine.find_key(issued.key.id);
        assert!(matches!(found, Err(Error::Closed)), "{found:?}");
    }
}

#[test]
fn a_keyspace_that_does_not_exist_is_not_found() {
    everywhere(|store| {
        store.keyspace("acme");
        let none = |result: Result<Keyspace, Error>| {
            assert!(matches!(
                result,
                Err(Error::NotFound(NotFound::Keyspace(prefix))) if prefix.as_str() == "acm"
            ));
        };
        none(store.engine.keyspace("acm"));
        none(store.engine.update_keyspace("acm", KeyspaceUpdate::new()));
    });
}

#[test]
fn a_keyspace_that_contradicts_itself_is_not_created() {
    everywhere(|store| {
        let new = || NewKeyspace::new("acme").unwrap();
        let many = (0..=Permissions::COUNT_MAX).map(|at| format!("p{at}"));
        let tiny = Duration::from_nanos(1);
        for (what, bad) in [
            (
                "a cap of 0",
                new().keys_per_owner(KeysPerOwner::Many { cap: Some(0) }),
            ),
            ("a lifetime of 0", new().default_lifetime(Duration::ZERO)),
            ("a lifetime below a millisecond", new().max_lifetime(tiny)),
            (
                "a lifetime past the last instant",
                new().max_lifetime(Duration::MAX),
            ),
            (
                "a default over the maximum",
                new().default_lifetime(DAY * 2).max_lifetime(DAY),
            ),
            ("a name twice", new().permissions(["read", "read"])),
            ("an empty name", new().permissions([""])),
            ("a name with a space", new().permissions(["re ad"])),
            ("129 names", new().permissions(many)),
            (
                "a long text",
                new().description("x".repeat(bounds::DESCRIPTION_LEN_MAX + 1)),
            ),
        ] {
            let refused = store.engine.create_keyspace(bad);
            assert!(
                matches!(refused, Err(Error::Invalid(_))),
                "{what}: {refused:?}"
            );
        }
        assert_eq!(store.engine.keyspaces().unwrap(), []);
        assert_eq!(trail(&store.engine), []);
    });
}

#[test]
fn a_keyspace_becomes_single_active_only_where_no_owner_holds_several() {
    for policy in [
        KeysPerOwner::SingleSuperseding,
        KeysPerOwner::SingleRefusing,
    ] {
        everywhere(|store| {
            store.keyspace("acme");
            store.keyspace("other");
            let change = || KeyspaceUpdate::new().keys_per_owner(policy);
            for owner in ["a", "a/b", "ab"] {
                store.issue("acme", owner);
                store.issue("other", owner);
            }
            let second = store.issue("acme", "a/b");
            let refused = assert_unwritten(&store.engine, || {
                store.engine.update_keyspace("acme", change())
            });
            assert!(matches!(
                refused,
                Err(Error::Conflict(Conflict::OwnerHoldsSeveral { owner, .. }))
                    if owner.as_str() == "a/b"
            ));
            // A disabled key could be enabled.
            store.engine.disable(second.key.id).unwrap();
            let refused = store.engine.update_keyspace("acme", change());
            assert!(matches!(
                refused,
                Err(Error::Conflict(Conflict::OwnerHoldsSeveral { .. }))
            ));
            store
                .engine
                .revoke(second.key.id, gatekey::Reason::Cessation)
                .unwrap();
            assert_eq!(update(store, change()).keys_per_owner, policy);
            store.assert_sound();
            let third = store.engine.issue(NewKey::new("acme", "a").unwrap());
            match policy {
                KeysPerOwner::SingleSuperseding => assert!(third.is_ok()),
                _ => assert!(matches!(
                    third,
                    Err(Error::Conflict(Conflict::OwnerHasKey { .. }))
                )),
            }
        });
    }
}

#[test]
fn two_keys_in_their_grace_keep_a_keyspace_from_becoming_single_active() {
    everywhere(|store| {
        store.keyspace("acme");
        for _ in 0..2 {
            let old = store.issue("acme", "u").key.id;
            let new = store.engine.rotate(old, Rotation::with_grace(DAY)).unwrap();
            store
                .engine
                .revoke(new.key.id, gatekey::Reason::Cessation)
                .unwrap();
        }
        let change = || KeyspaceUpdate::new().keys_per_owner(KeysPerOwner::SingleRefusing);
        assert!(matches!(
            store.engine.update_keyspace("acme", change()),
            Err(Error::Conflict(Conflict::OwnerHoldsSeveral { .. }))
        ));
        store.clock.advance(DAY);
        assert!(update(store, change()).keys_per_owner.is_single());
    });
}

#[test]
fn a_lowered_cap_leaves_keys_as_they_are_and_refuses_new_ones() {
    everywhere(|store| {
        store.keyspace("acme");
        let keys = [0, 1, 2].map(|_| store.issue("acme", "u"));
        update(
            store,
            KeyspaceUpdate::new().keys_per_owner(KeysPerOwner::Many { cap: Some(2) }),
        );
        for key in &keys {
            assert_eq!(store.verdict(key.token.expose()), "granted");
        }
        let try_issue = || store.engine.issue(NewKey::new("acme", "u").unwrap());
        assert!(matches!(
            try_issue(),
            Err(Error::Conflict(Conflict::OwnerAtCap {
                held: 3,
                cap: 2,
                ..
            }))
        ));
        update(store, KeyspaceUpdate::new().keys_per_owner(SEVERAL));
        assert!(try_issue().is_ok());
    });
}

#[test]
fn a_single_active_keyspace_can_be_opened_to_several_keys() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::SingleSuperseding);
        let first = store.issue("acme", "u");
        update(store, KeyspaceUpdate::new().keys_per_owner(SEVERAL));
        let second = store.issue("acme", "u");
        assert_eq!(store.verdict(first.token.expose()), "granted");
        assert_eq!(store.verdict(second.token.expose()), "granted");
    });
}

#[test]
fn changed_lifetimes_hold_for_later_keys_only() {
    everywhere(|store| {
        store.keyspace("acme");
        let before = store.issue("acme", "u").key;
        update(
            store,
            KeyspaceUpdate::new()
                .default_lifetime(DAY)
                .max_lifetime(DAY * 2),
        );
        let during = store.issue("acme", "u").key;
        let none: Option<Duration> = None;
        update(store, KeyspaceUpdate::new().default_lifetime(none));
        let longest = store.issue("acme", "u").key;
        update(store, KeyspaceUpdate::new().max_lifetime(none));
        let after = store.issue("acme", "u").key;
        let ends = [before, during, longest, after].map(|key| {
            assert_eq!(store.engine.key(key.id).unwrap(), key);
            key.expires_at
        });
        assert_eq!(ends, [None, Some(at(DAY_MS)), Some(at(2 * DAY_MS)), None]);
        let wrong = KeyspaceUpdate::new()
            .default_lifetime(DAY * 2)
            .max_lifetime(DAY);
        assert!(matches!(
            store.engine.update_keyspace("acme", wrong),
            Err(Error::Invalid(Invalid::LifetimeTooLong { .. }))
        ));
    });
}

#[test]
fn an_update_that_changes_nothing_is_not_written() {
    everywhere(|store| {
        store.keyspace("acme");
        let before = store.engine.keyspace("acme").unwrap();
        store.clock.advance(DAY);
        for change in [
            KeyspaceUpdate::new(),
            KeyspaceUpdate::new()
                .description("")
                .keys_per_owner(SEVERAL),
            KeyspaceUpdate::new().default_lifetime(None),
        ] {
            let after = assert_unwritten(&store.engine, || update(store, change));
            assert_eq!(after, before);
        }
    });
}

#[test]
fn a_store_holds_1024_keyspaces_and_no_more() {
    let store = Store::new(0, false);
    for at in 0..bounds::KEYSPACES_MAX {
        let new = NewKeyspace::new(format!("k{at}")).unwrap();
        store.engine.create_keyspace(new).unwrap();
    }
    let one_more = store
        .engine
        .create_keyspace(NewKeyspace::new("last").unwrap());
    assert!(matches!(
        one_more,
        Err(Error::Conflict(Conflict::TooManyKeyspaces(1024)))
    ));
    assert_eq!(store.engine.keyspaces().unwrap().len(), 1024);
    let issued = store
        .engine
        .issue(NewKey::new("k1023", "acme").unwrap())
        .unwrap();
    assert_eq!(store.verdict(issued.token.expose()), "granted");
    store.assert_sound();
}
