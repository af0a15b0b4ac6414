//! Changing keys: wider and narrower, and at once.

use gatekey::{
    Conflict, Error, Expiry, Invalid, Key, KeyId, KeyState, KeyUpdate, NewKey, NewKeyspace,
    NotFound, Permissions, Reason, Requirements, Rotation, bounds,
};

use crate::audit::assert_unwritten;
use crate::common::{DAY, Store, at, code, everywhere};
use crate::issue::DAY_MS;

fn update(store: &Store, key: KeyId, change: KeyUpdate) -> Key {
    let changed = store.engine.update(key, change).unwrap();
    assert_eq!(store.engine.key(key).unwrap(), changed, "as told, so held");
    changed
}

fn asked(store: &Store, token: &str, requirements: &Requirements<'_>) -> &'static str {
    code(&store.engine.verify_with(token, requirements).unwrap())
}

const WRITE: Requirements<'_> = Requirements::new().permissions(&["write"]);
const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);

#[test]
fn what_describes_a_key_is_set_and_taken_away_again() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme").key;
        let change = KeyUpdate::new()
            .name("nightly")
            .description("reads")
            .label("env", "prod")
            .label("team", "etl");
        let changed = update(store, issued.id, change);
        assert_eq!(changed.name.as_deref(), Some("nightly"));
        assert_eq!(changed.description.as_deref(), Some("reads"));
        assert_eq!(changed.labels.len(), 2);

        store.reopen();
        let change = KeyUpdate::new().label("env", "test").remove_label("none");
        let changed = update(store, issued.id, change);
        assert_eq!(changed.name.as_deref(), Some("nightly"));
        assert_eq!(changed.labels["env"], "test");
        assert_eq!(changed.labels["team"], "etl");

        let change = KeyUpdate::new()
            .name(None)
            .description(None)
            .remove_label("env")
            .remove_label("team");
        assert_eq!(update(store, issued.id, change), issued);
    });
}

#[test]
fn permissions_are_widened_and_narrowed_from_the_return_of_the_call_on() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let (id, token) = (issued.key.id, issued.token.expose());
        for (change, bits, read, write) in [
            (KeyUpdate::new(), 0b01, "granted", "permission_missing"),
            (
                KeyUpdate::new().add_permissions(["write"]),
                0b11,
                "granted",
                "granted",
            ),
            (
                KeyUpdate::new().remove_permissions(["read"]),
                0b10,
                "permission_missing",
                "granted",
            ),
            (
                KeyUpdate::new().set_permissions(["read"]),
                0b01,
                "granted",
                "permission_missing",
            ),
            (
                KeyUpdate::new().set_permission_mask(Permissions::from_bits(0b11)),
                0b11,
                "granted",
                "granted",
            ),
            // Withdrawing wins.
            (
                KeyUpdate::new()
                    .set_permissions(["read"])
                    .add_permissions(["write"])
                    .remove_permissions(["read"]),
                0b10,
                "permission_missing",
                "granted",
            ),
            (
                KeyUpdate::new().set_permission_mask(Permissions::NONE),
                0,
                "permission_missing",
                "permission_missing",
            ),
        ] {
            let shown = format!("{change:?}");
            assert_eq!(
                update(store, id, change).permissions.bits(),
                bits,
                "{shown}"
            );
            assert_eq!(asked(store, token, &READ), read, "{shown}");
            assert_eq!(asked(store, token, &WRITE), write, "{shown}");
            assert_eq!(store.verdict(token), "granted", "{shown}");
        }
        store.reopen();
        assert_eq!(asked(store, token, &READ), "permission_missing");
    });
}

#[test]
fn a_life_is_shortened_and_lengthened_from_the_return_of_the_call_on() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let (id, token) = (issued.key.id, issued.token.expose());
        assert_eq!(store.verdict(token), "granted");
        let day = at(DAY_MS);
        let changed = update(store, id, KeyUpdate::new().expires_at(day));
        assert_eq!(changed.expires_at, Some(day));
        let changed = update(store, id, KeyUpdate::new().expires_in(DAY * 2));
        assert_eq!(changed.expires_at, Some(at(2 * DAY_MS)));
        store.clock.set(day);
        assert_eq!(store.verdict(token), "granted");
        // From now, not from its issue.
        let changed = update(store, id, KeyUpdate::new().expires_in(DAY * 2));
        assert_eq!(changed.expires_at, Some(at(3 * DAY_MS)));
        let changed = update(store, id, KeyUpdate::new().expiry(Expiry::Never));
        assert_eq!(changed.expires_at, None);
        update(store, id, KeyUpdate::new().expires_at(at(DAY_MS + 1)));
        assert_eq!(store.verdict(token), "granted");
        store.clock.set(at(DAY_MS + 1));
        assert_eq!(store.verdict(token), "expired");
    });
}

#[test]
fn a_life_is_changed_within_what_the_keyspace_allows_from_the_keys_issue_on() {
    everywhere(|store| {
        let new = NewKeyspace::new("acme").unwrap().max_lifetime(DAY * 10);
        store.engine.create_keyspace(new).unwrap();
        let new = NewKey::new("acme", "acme").unwrap().expires_in(DAY * 5);
        let id = store.engine.issue(new).unwrap().key.id;
        store.clock.advance(DAY * 4);
        for expiry in [
            Expiry::Never,
            Expiry::At(at(10 * DAY_MS + 1)),
            Expiry::After(DAY * 7),
        ] {
            let refused = store.engine.update(id, KeyUpdate::new().expiry(expiry));
            assert!(
                matches!(
                    refused,
                    Err(Error::Invalid(Invalid::LifetimeTooLong { .. }))
                ),
                "{expiry:?}"
            );
        }
        let changed = update(store, id, KeyUpdate::new().expires_in(DAY * 6));
        assert_eq!(changed.expires_at, Some(at(10 * DAY_MS)));
    });
}

#[test]
fn a_life_that_would_be_over_or_never_begin_is_refused() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme")
            .unwrap()
            .not_before(at(9 * DAY_MS));
        let id = store.engine.issue(new).unwrap().key.id;
        let refused = |change| store.engine.update(id, change).unwrap_err();
        assert!(matches!(
            refused(KeyUpdate::new().expires_at(at(0))),
            Error::Invalid(Invalid::ExpiryInPast { .. })
        ));
        assert!(matches!(
            refused(KeyUpdate::new().expires_in(std::time::Duration::ZERO)),
            Error::Invalid(Invalid::ExpiryInPast { .. })
        ));
        assert!(matches!(
            refused(KeyUpdate::new().expires_in(std::time::Duration::MAX)),
            Error::Invalid(Invalid::TimeOutOfRange(_))
        ));
        assert!(matches!(
            refused(KeyUpdate::new().expires_at(at(9 * DAY_MS))),
            Error::Invalid(Invalid::NotBeforeAfterExpiry { .. })
        ));
        let least = KeyUpdate::new().expires_at(at(9 * DAY_MS + 1));
        assert_eq!(update(store, id, least).state, KeyState::NotYetValid);
    });
}

#[test]
fn networks_are_narrowed_and_widened_from_the_return_of_the_call_on() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let (id, token) = (issued.key.id, issued.token.expose());
        let from = |source: &str| {
            let requirements = Requirements::new().source(source.parse().unwrap());
            asked(store, token, &requirements)
        };
        assert_eq!((from("10.0.0.1"), from("::1")), ("granted", "granted"));
        update(
            store,
            id,
            KeyUpdate::new().networks(["10.0.0.0/8".parse().unwrap()]),
        );
        assert_eq!(
            (from("10.0.0.1"), from("::1")),
            ("granted", "network_not_allowed")
        );
        update(
            store,
            id,
            KeyUpdate::new().networks(["::1".parse().unwrap()]),
        );
        assert_eq!(
            (from("10.0.0.1"), from("::1")),
            ("network_not_allowed", "granted")
        );
        assert_eq!(store.verdict(token), "network_not_allowed");
        update(store, id, KeyUpdate::new().networks([]));
        assert_eq!((from("10.0.0.1"), from("::1")), ("granted", "granted"));
    });
}

#[test]
fn an_update_that_changes_nothing_is_not_written() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme")
            .unwrap()
            .permissions(["read"])
            .label("env", "prod")
            .expires_in(DAY);
        let key = store.engine.issue(new).unwrap().key;
        for change in [
            KeyUpdate::new(),
            KeyUpdate::new()
                .name(None)
                .label("env", "prod")
                .remove_label("team"),
            KeyUpdate::new()
                .set_permissions(["read"])
                .expires_in(DAY)
                .networks([]),
            KeyUpdate::new()
                .add_permissions(["read"])
                .remove_permissions(["write"]),
        ] {
            let shown = format!("{change:?}");
            let same = assert_unwritten(&store.engine, || update(store, key.id, change));
            assert_eq!(same, key, "{shown}");
        }
    });
}

#[test]
fn of_an_update_with_one_bad_field_nothing_is_applied() {
    everywhere(|store| {
        store.keyspace("acme");
        let full = (0..bounds::LABELS_MAX).fold(
            NewKey::new("acme", "acme").unwrap().permissions(["read"]),
            |key, label| key.label(format!("l{label}"), ""),
        );
        let key = store.engine.issue(full).unwrap().key;
        let good = || KeyUpdate::new().name("new").add_permissions(["write"]);
        let network = "10.0.0.0/8".parse().unwrap();
        let long = "x".repeat(bounds::DESCRIPTION_LEN_MAX + 1);
        for change in [
            good().label("one too many", ""),
            good().description(long.as_str()),
            good().add_permissions(["fly"]),
            good().remove_permissions(["fly"]),
            good().set_permission_mask(Permissions::from_bits(0b100)),
            good().networks([network, network]),
            good().expires_at(at(0)),
        ] {
            let shown = format!("{change:?}");
            let refused = assert_unwritten(&store.engine, || store.engine.update(key.id, change));
            assert!(matches!(refused, Err(Error::Invalid(_))), "{shown}");
            assert_eq!(store.engine.key(key.id).unwrap(), key, "{shown}");
        }
        // One out, one in.
        let swap = good().remove_label("l0").label("fits now", "");
        assert_eq!(update(store, key.id, swap).labels.len(), bounds::LABELS_MAX);
    });
}

#[test]
fn what_is_over_for_good_cannot_be_changed() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = &store.engine;
        let revoked = store.issue("acme", "acme").key.id;
        engine.revoke(revoked, Reason::Cessation).unwrap();
        let mortal = NewKey::new("acme", "acme").unwrap().expires_in(DAY);
        let expired = engine.issue(mortal).unwrap().key.id;
        let lapsed = store.issue("acme", "acme").key.id;
        engine.rotate(lapsed, Rotation::with_grace(DAY)).unwrap();
        store.clock.advance(DAY);
        let longer = || KeyUpdate::new().expiry(Expiry::Never);
        let refusal = |key| match engine.update(key, longer()) {
            Err(Error::Conflict(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        assert_unwritten(engine, || {
            let day = at(DAY_MS);
            assert_eq!(
                refusal(revoked),
                Conflict::Revoked {
                    key: revoked,
                    at: at(0)
                }
            );
            assert_eq!(
                refusal(lapsed),
                Conflict::Revoked {
                    key: lapsed,
                    at: day
                }
            );
            let over = Conflict::Expired {
                key: expired,
                expired_at: day,
            };
            assert_eq!(refusal(expired), over);
        });
        let unknown = engine.update("zzzzzzzzz0".parse().unwrap(), longer());
        assert!(matches!(unknown, Err(Error::NotFound(NotFound::Key(_)))));
    });
}

#[test]
fn a_key_that_is_disabled_suspended_or_in_its_grace_can_be_changed() {
    everywhere(|store| {
        store.keyspace("acme");
        let disabled = store.issue("acme", "a");
        store.engine.disable(disabled.key.id).unwrap();
        let suspended = store.issue("acme", "b");
        store.engine.suspend("b", None).unwrap();
        let retiring = store.issue("acme", "c");
        store
            .engine
            .rotate(retiring.key.id, Rotation::with_grace(DAY))
            .unwrap();
        for (issued, state, told) in [
            (&disabled, KeyState::Disabled, "disabled"),
            (&suspended, KeyState::Suspended, "suspended"),
            (&retiring, KeyState::Retiring, "granted"),
        ] {
            let change = KeyUpdate::new().name("x").remove_permissions(["read"]);
            let changed = update(store, issued.key.id, change);
            assert_eq!(
                (changed.state, changed.permissions),
                (state, Permissions::NONE)
            );
            assert_eq!(store.verdict(issued.token.expose()), told);
        }
        // An end before the end of the grace comes first.
        let sooner = KeyUpdate::new().expires_at(at(5));
        update(store, retiring.key.id, sooner);
        store.clock.set(at(5));
        assert_eq!(store.verdict(retiring.token.expose()), "expired");
        store.clock.advance(DAY);
        assert_eq!(store.verdict(retiring.token.expose()), "revoked");
    });
}
