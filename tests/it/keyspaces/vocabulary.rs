//! The names of permissions, and the bits that they keep.

use gatekey::{
    Denial, Error, Invalid, KeyUpdate, KeyspaceUpdate, NewKey, NewKeyspace, Permissions,
    Requirements, Rotation, Verdict,
};

use super::{names, update};
use crate::audit::assert_unwritten;
use crate::common::{DAY, Store, at, code, everywhere};
use crate::issue::DAY_MS;

/// The verdict where a permission is required.
fn asked(store: &Store, token: &str, permission: &str) -> &'static str {
    let names = [permission];
    let requirements = Requirements::new().permissions(&names);
    code(&store.engine.verify_with(token, &requirements).unwrap())
}

#[test]
fn appended_permissions_get_the_next_bits() {
    everywhere(|store| {
        store.keyspace("acme");
        let reader = store.issue("acme", "acme");
        store.clock.advance(DAY);
        let change = KeyspaceUpdate::new().add_permissions(["admin", "billing:read"]);
        let keyspace = update(store, change);
        assert_eq!(keyspace.mask(["admin"]).unwrap().bits(), 0b0100);
        assert_eq!(keyspace.mask(["billing:read"]).unwrap().bits(), 0b1000);
        assert_eq!(keyspace.mask(["read", "write"]).unwrap().bits(), 0b0011);
        assert_eq!(
            (keyspace.created_at, keyspace.updated_at),
            (at(0), at(DAY_MS))
        );
        store.reopen();
        assert_eq!(store.engine.keyspace("acme").unwrap(), keyspace);

        assert_eq!(
            asked(store, reader.token.expose(), "admin"),
            "permission_missing"
        );
        let admin = NewKey::new("acme", "acme").unwrap().permissions(["admin"]);
        let admin = store.engine.issue(admin).unwrap();
        assert_eq!(asked(store, admin.token.expose(), "admin"), "granted");
    });
}

#[test]
fn a_retired_name_can_be_neither_given_nor_required() {
    everywhere(|store| {
        store.keyspace("acme");
        let both = || {
            NewKey::new("acme", "acme")
                .unwrap()
                .permissions(["read", "write"])
        };
        let held = store.engine.issue(both()).unwrap();
        let token = held.token.expose();
        assert_eq!(asked(store, token, "write"), "granted");
        let keyspace = update(store, KeyspaceUpdate::new().retire_permissions(["write"]));
        assert_eq!(names(&keyspace), [("read", false), ("write", true)]);
        assert_eq!(keyspace.active_mask(), Permissions::from_bits(0b01));
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            assert_eq!(asked(store, token, "write"), "permission_missing");
            assert_eq!(asked(store, token, "read"), "granted");
            let given = store.engine.issue(both());
            assert!(matches!(
                given,
                Err(Error::Invalid(Invalid::RetiredPermission { name, .. })) if name == "write"
            ));
            let mask = NewKey::new("acme", "acme").unwrap();
            let mask = mask.permission_mask(Permissions::from_bits(0b10));
            assert!(matches!(
                store.engine.issue(mask),
                Err(Error::Invalid(Invalid::UnknownBits { bits, .. })) if bits.bits() == 0b10
            ));
            let reader = store.issue("acme", "acme").key.id;
            let add = KeyUpdate::new().add_permissions(["write"]);
            assert!(matches!(
                store.engine.update(reader, add),
                Err(Error::Invalid(Invalid::RetiredPermission { .. }))
            ));
        }
        // A rotation does not pass it on, and it can be taken away.
        let rotated = store
            .engine
            .rotate(held.key.id, Rotation::with_grace(DAY))
            .unwrap();
        assert_eq!(rotated.key.permissions, Permissions::from_bits(0b01));
        assert_eq!(rotated.old.permissions, Permissions::from_bits(0b11));
        let without = KeyUpdate::new().remove_permissions(["write"]);
        let narrowed = store.engine.update(held.key.id, without).unwrap();
        assert_eq!(narrowed.permissions, Permissions::from_bits(0b01));
    });
}

#[test]
fn a_retired_permission_is_held_by_nobody_also_where_it_is_required_by_its_bit() {
    everywhere(|store| {
        store.keyspace("acme");
        let both = NewKey::new("acme", "acme")
            .unwrap()
            .permissions(["read", "write"]);
        let issued = store.engine.issue(both).unwrap();
        let write = Permissions::from_bits(0b10);
        update(store, KeyspaceUpdate::new().retire_permissions(["write"]));
        let asked = Requirements::new().permission_mask(write);
        let verdict = store
            .engine
            .verify_with(issued.token.expose(), &asked)
            .unwrap();
        assert!(
            matches!(
                &verdict,
                Verdict::Denied(Denial::PermissionMissing { missing, .. }) if *missing == write
            ),
            "{verdict:?}"
        );
    });
}

#[test]
fn a_bit_once_given_is_never_given_to_another_name() {
    everywhere(|store| {
        store.keyspace("acme");
        let change = KeyspaceUpdate::new().retire_permissions(["write"]);
        update(store, change);
        store.reopen();
        // Nor is a name given a second bit.
        for change in [
            KeyspaceUpdate::new().add_permissions(["write"]),
            KeyspaceUpdate::new().add_permissions(["read"]),
            KeyspaceUpdate::new().add_permissions(["new", "new"]),
        ] {
            let refused = assert_unwritten(&store.engine, || {
                store.engine.update_keyspace("acme", change)
            });
            assert!(matches!(
                refused,
                Err(Error::Invalid(Invalid::Duplicate {
                    what: "permission",
                    ..
                }))
            ));
        }
        let change = KeyspaceUpdate::new()
            .add_permissions(["brief", "write2"])
            .retire_permissions(["brief"]);
        let keyspace = update(store, change);
        assert_eq!(
            names(&keyspace),
            [
                ("read", false),
                ("write", true),
                ("brief", true),
                ("write2", false)
            ]
        );
        assert_eq!(keyspace.mask(["write2"]).unwrap().bits(), 0b1000);
        for (name, retired) in [("write", true), ("brief", true), ("nothing", false)] {
            let change = KeyspaceUpdate::new().retire_permissions([name]);
            match store.engine.update_keyspace("acme", change) {
                Err(Error::Invalid(Invalid::RetiredPermission { .. })) => assert!(retired),
                Err(Error::Invalid(Invalid::UnknownPermission { .. })) => assert!(!retired),
                other => panic!("{name}: {other:?}"),
            }
        }
    });
}

#[test]
fn retired_names_count_among_the_128() {
    everywhere(|store| {
        let all = (0..Permissions::COUNT_MAX).map(|at| format!("p{at}"));
        let new = NewKeyspace::new("acme").unwrap().permissions(all);
        let keyspace = store.engine.create_keyspace(new).unwrap();
        assert_eq!(keyspace.active_mask().bits(), u128::MAX);
        let last = NewKey::new("acme", "acme").unwrap().permissions(["p127"]);
        let last = store.engine.issue(last).unwrap();
        assert_eq!(asked(store, last.token.expose(), "p127"), "granted");
        assert_eq!(
            asked(store, last.token.expose(), "p126"),
            "permission_missing"
        );

        let change = KeyspaceUpdate::new()
            .retire_permissions(["p0"])
            .add_permissions(["one more"]);
        let refused = store.engine.update_keyspace("acme", change);
        assert!(matches!(
            refused,
            Err(Error::Invalid(Invalid::Malformed(_)))
        ));
        let change = KeyspaceUpdate::new()
            .retire_permissions(["p0"])
            .add_permissions(["one-more"]);
        assert!(matches!(
            store.engine.update_keyspace("acme", change),
            Err(Error::Invalid(Invalid::TooMany {
                count: 129,
                max: 128,
                ..
            }))
        ));
        assert_eq!(store.engine.keyspace("acme").unwrap(), keyspace);
    });
}

#[test]
fn a_permission_that_is_retired_is_granted_no_more_from_memory_either() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme").unwrap();
        let issued = store
            .engine
            .issue(new.permissions(["read", "write"]))
            .unwrap();
        let token = issued.token.expose();
        let (read, write) = (Permissions::from_bits(1), Permissions::from_bits(2));
        let held = || match store.engine.verify(token).unwrap() {
            Verdict::Granted(grant) => grant.permissions(),
            Verdict::Denied(denial) => panic!("{denial}"),
        };
        // From now on it is in memory, where there is room for it.
        assert_eq!((held(), held()), (read | write, read | write));
        let retire = KeyspaceUpdate::new().retire_permissions(["write"]);
        store.engine.update_keyspace("acme", retire).unwrap();
        assert_eq!((held(), held()), (read, read));
        for needs in [
            Requirements::new().permission_mask(write),
            Requirements::new().permissions(&["write"]),
        ] {
            let mut many = store.engine.verify_many(&[token], &needs);
            for verdict in [
                store.engine.verify_with(token, &needs).unwrap(),
                many.remove(0).unwrap(),
            ] {
                let denial = verdict.denial().map(Denial::code);
                assert_eq!(denial, Some("permission_missing"));
            }
        }
        assert!(
            store
                .engine
                .verify_with(token, &Requirements::new().permission_mask(read))
                .unwrap()
                .is_granted()
        );
    });
}
