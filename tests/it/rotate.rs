//! Rotation: what the new key inherits, how long the old one is accepted, and
//! what leads from one to the other.

mod again;
mod line;

use std::time::Duration;

use gatekey::{
    Conflict, Error, Expiry, Invalid, Issued, KeyId, KeyState, KeyUpdate, NewKey, NewKeyspace,
    NotFound, Permissions, Reason, Rotated, Rotation,
};

use crate::audit::assert_unwritten;
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::DAY_MS;

fn rotate(store: &Store, key: KeyId, grace: Duration) -> Rotated {
    let rotation = Rotation::with_grace(grace);
    store.engine.rotate(key, rotation).unwrap()
}

/// A key with everything that a rotation can inherit.
fn furnished(store: &Store) -> Issued {
    let new = NewKey::new("acme", "acme/bot")
        .unwrap()
        .permissions(["read"])
        .name("nightly")
        .description("reads")
        .label("env", "prod")
        .label("team", "etl")
        .allow_network("10.0.0.0/8".parse().unwrap())
        .expires_in(DAY * 30);
    store.engine.issue(new).unwrap()
}

#[test]
fn the_new_key_inherits_all_but_its_id_its_token_and_its_birth() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = furnished(store);
        store.clock.advance(DAY);
        let engine = store.engine.acting_as("rotator").unwrap();
        let rotated = engine.rotate(old.key.id, Rotation::at_once()).unwrap();
        assert_ne!(rotated.key.id, old.key.id);
        assert_ne!(rotated.token.expose(), old.token.expose());
        assert_eq!(rotated.token.key_id(), rotated.key.id);

        let mut expected = old.key.clone();
        expected.id = rotated.key.id;
        expected.created_at = at(DAY_MS);
        expected.created_by = Some("rotator".to_owned());
        expected.predecessor = Some(old.key.id);
        assert_eq!(rotated.key, expected);
        assert_eq!(store.engine.key(rotated.key.id).unwrap(), expected);
        assert_eq!(store.engine.key(old.key.id).unwrap(), rotated.old);
    });
}

#[test]
fn the_new_key_differs_where_it_is_told_to() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = furnished(store);
        let changes = KeyUpdate::new()
            .name("hourly")
            .description(None)
            .label("env", "test")
            .remove_label("team")
            .set_permissions(["write"])
            .networks([])
            .expires_in(DAY * 60);
        let rotation = Rotation::with_grace(DAY).changing(changes);
        let Rotated {
            key, old: before, ..
        } = store.engine.rotate(old.key.id, rotation).unwrap();
        assert_eq!(key.name.as_deref(), Some("hourly"));
        assert_eq!(key.description, None);
        assert_eq!(key.labels.len(), 1);
        assert_eq!(key.labels["env"], "test");
        assert_eq!(key.permissions, Permissions::from_bits(0b10));
        assert_eq!(key.networks, []);
        assert_eq!(key.expires_at, Some(at(60 * DAY_MS)));
        // The old key keeps what it has.
        let mut expected = old.key.clone();
        expected.state = KeyState::Retiring;
        expected.retiring_until = Some(at(DAY_MS));
        expected.successor = Some(key.id);
        assert_eq!(before, expected);
    });
}

#[test]
fn both_keys_are_good_until_the_grace_ends_and_then_only_the_new_one() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme");
        let new = rotate(store, old.key.id, DAY);
        assert_eq!(new.old.state, KeyState::Retiring);
        assert_eq!(new.old.retiring_until, Some(at(DAY_MS)));
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            assert_eq!(store.verdict(old.token.expose()), "granted");
            assert_eq!(store.verdict(new.token.expose()), "granted");
        }
        store.clock.set(at(DAY_MS - 1));
        assert_eq!(store.verdict(old.token.expose()), "granted");
        store.clock.set(at(DAY_MS));
        assert_eq!(
            store.denial(old.token.expose()),
            gatekey::Denial::Revoked {
                key: old.key.id,
                at: at(DAY_MS),
                reason: Reason::Superseded,
            }
        );
        assert_eq!(store.verdict(new.token.expose()), "granted");
        let over = store.engine.key(old.key.id).unwrap();
        assert_eq!(over.state, KeyState::Revoked);
        let revoked = over.revoked.unwrap();
        assert_eq!(
            (revoked.at, revoked.reason),
            (at(DAY_MS), Reason::Superseded)
        );
    });
}

#[test]
fn without_a_grace_the_old_key_is_revoked_at_once() {
    everywhere(|store| {
        store.keyspace("acme");
        for rotation in [
            Rotation::at_once(),
            Rotation::with_grace(Duration::ZERO),
            // A part of a millisecond is none.
            Rotation::with_grace(Duration::from_nanos(999_999)),
        ] {
            let old = store.issue("acme", "acme");
            assert_eq!(store.verdict(old.token.expose()), "granted");
            let new = store.engine.rotate(old.key.id, rotation).unwrap();
            assert_eq!(store.verdict(old.token.expose()), "revoked");
            assert_eq!(store.verdict(new.token.expose()), "granted");
            assert_eq!(new.old.state, KeyState::Revoked);
            assert_eq!(new.old.retiring_until, None);
            let revoked = new.old.revoked.unwrap();
            assert_eq!((revoked.at, revoked.reason), (at(0), Reason::Superseded));
        }
    });
}

#[test]
fn a_grace_never_outlives_the_old_keys_expiry() {
    everywhere(|store| {
        store.keyspace("acme");
        let mortal = || {
            let new = NewKey::new("acme", "acme").unwrap().expires_in(DAY);
            store.engine.issue(new).unwrap()
        };
        for grace in [DAY, DAY + Duration::from_millis(1), DAY * 30, Duration::MAX] {
            let old = mortal();
            let longer = KeyUpdate::new().expiry(Expiry::Never);
            let rotation = Rotation::with_grace(grace).changing(longer);
            let rotated = store.engine.rotate(old.key.id, rotation).unwrap();
            assert_eq!(rotated.old.retiring_until, old.key.expires_at, "{grace:?}");
            store.clock.advance(DAY - Duration::from_millis(1));
            assert_eq!(store.verdict(old.token.expose()), "granted");
            store.clock.advance(Duration::from_millis(1));
            assert_ne!(store.verdict(old.token.expose()), "granted");
            assert_eq!(store.verdict(rotated.token.expose()), "granted");
        }
        // A longer life given to the old key afterwards does not lengthen it.
        let old = mortal();
        let until = old.key.expires_at;
        rotate(store, old.key.id, DAY * 30);
        let longer = KeyUpdate::new().expiry(Expiry::Never);
        let updated = store.engine.update(old.key.id, longer).unwrap();
        assert_eq!(updated.retiring_until, until);
        store.clock.advance(DAY);
        assert_eq!(store.verdict(old.token.expose()), "revoked");
    });
}

#[test]
fn a_grace_of_any_length_is_taken_where_the_old_key_does_not_expire() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme");
        let rotated = rotate(store, old.key.id, Duration::MAX);
        assert_eq!(rotated.old.retiring_until, Some(gatekey::Timestamp::MAX));
        store.clock.advance(DAY * 365_000);
        assert_eq!(store.verdict(old.token.expose()), "granted");
    });
}

#[test]
fn a_trial_key_does_not_become_permanent() {
    everywhere(|store| {
        let keyspace = NewKeyspace::new("trial").unwrap().max_lifetime(DAY * 14);
        store.engine.create_keyspace(keyspace).unwrap();
        let old = store
            .engine
            .issue(NewKey::new("trial", "acme").unwrap())
            .unwrap();
        assert_eq!(old.key.expires_at, Some(at(14 * DAY_MS)));
        store.clock.advance(DAY * 10);
        let changing = |update| Rotation::at_once().changing(update);
        for expiry in [Expiry::Never, Expiry::After(DAY * 15)] {
            let refused = store
                .engine
                .rotate(old.key.id, changing(KeyUpdate::new().expiry(expiry)));
            assert!(matches!(
                refused,
                Err(Error::Invalid(Invalid::LifetimeTooLong { .. }))
            ));
        }
        // Untold, it ends when the old one did; told to, it may live as a new key.
        let same = rotate(store, old.key.id, Duration::ZERO);
        assert_eq!(same.key.expires_at, Some(at(14 * DAY_MS)));
        let renewed = changing(KeyUpdate::new().expiry(Expiry::Default));
        let renewed = store.engine.rotate(same.key.id, renewed).unwrap();
        assert_eq!(renewed.key.expires_at, Some(at(24 * DAY_MS)));
    });
}

#[test]
fn what_is_revoked_expired_disabled_or_rotated_cannot_rotate() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = store.engine.clone();
        let refusal = |key: KeyId| {
            let rotation = || Rotation::with_grace(DAY);
            let refused = assert_unwritten(&engine, || engine.rotate(key, rotation()));
            match refused {
                Err(Error::Conflict(refusal)) => refusal,
                other => panic!("{other:?}"),
            }
        };

        let key = store.issue("acme", "acme").key.id;
        engine.revoke(key, Reason::Cessation).unwrap();
        assert_eq!(refusal(key), Conflict::Revoked { key, at: at(0) });

        let key = store.issue("acme", "acme").key.id;
        engine.disable(key).unwrap();
        assert_eq!(refusal(key), Conflict::Disabled(key));
        engine.enable(key).unwrap();
        assert!(engine.rotate(key, Rotation::at_once()).is_ok());
        assert_eq!(refusal(key), Conflict::Revoked { key, at: at(0) });

        let key = store.issue("acme", "acme").key.id;
        let successor = rotate(store, key, DAY).key.id;
        assert_eq!(refusal(key), Conflict::AlreadyRotated { key, successor });
        let lapsed = key;

        let mortal = NewKey::new("acme", "acme").unwrap().expires_in(DAY);
        let key = engine.issue(mortal).unwrap().key.id;
        store.clock.advance(DAY);
        let day = at(DAY_MS);
        assert_eq!(
            refusal(key),
            Conflict::Expired {
                key,
                expired_at: day
            }
        );
        assert_eq!(
            refusal(lapsed),
            Conflict::Revoked {
                key: lapsed,
                at: day
            }
        );

        engine.purge(Duration::ZERO).unwrap();
        store.clock.advance(DAY);
        engine.purge(Duration::ZERO).unwrap();
        let gone = engine.rotate(key, Rotation::at_once());
        assert!(matches!(gone, Err(Error::NotFound(NotFound::Key(named))) if named == key));
    });
}

#[test]
fn a_rotation_that_is_refused_leaves_the_old_key_as_it_was() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = furnished(store);
        let changing = |update| Rotation::at_once().changing(update);
        for update in [
            KeyUpdate::new().set_permissions(["fly"]),
            KeyUpdate::new().set_permission_mask(Permissions::from_bits(1 << 9)),
            KeyUpdate::new().expires_at(at(0)),
            KeyUpdate::new().name("a\nb"),
            KeyUpdate::new().label("", "empty"),
        ] {
            let shown = format!("{update:?}");
            let refused = assert_unwritten(&store.engine, || {
                store.engine.rotate(old.key.id, changing(update))
            });
            assert!(matches!(refused, Err(Error::Invalid(_))), "{shown}");
        }
        assert_eq!(store.engine.key(old.key.id).unwrap(), old.key);
    });
}

#[test]
fn a_rotated_key_of_a_suspended_owner_is_suspended_too() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme/bot");
        store.engine.suspend("acme", None).unwrap();
        let new = rotate(store, old.key.id, DAY);
        assert_eq!(new.key.state, KeyState::Suspended);
        assert_eq!(store.verdict(old.token.expose()), "suspended");
        assert_eq!(store.verdict(new.token.expose()), "suspended");
        store.engine.resume("acme").unwrap();
        assert_eq!(store.verdict(old.token.expose()), "granted");
        assert_eq!(store.verdict(new.token.expose()), "granted");
    });
}

#[test]
fn a_key_that_is_not_valid_yet_rotates_into_one_that_is_not_either() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme").unwrap().not_before(at(DAY_MS));
        let old = store.engine.issue(new).unwrap();
        let new = rotate(store, old.key.id, Duration::ZERO);
        assert_eq!(new.key.not_before, Some(at(DAY_MS)));
        assert_eq!(store.verdict(new.token.expose()), "not_yet_valid");
        store.clock.advance(DAY);
        assert_eq!(store.verdict(new.token.expose()), "granted");
        assert_eq!(store.verdict(old.token.expose()), "revoked");
    });
}
