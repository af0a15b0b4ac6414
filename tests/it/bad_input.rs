//! What a caller can get wrong: each has a named error or denial, nothing of it
//! is applied, and no answer repeats a secret.

mod limits_kept;
mod secrets_kept;
mod text;
mod tokens;

use std::time::Duration;

use gatekey::{
    Error, Expiry, Invalid, KeyFilter, KeyUpdate, KeyspaceUpdate, NewKey, NewKeyspace, OwnerPath,
    Permissions, Prefix, Reason, Rotation, Timestamp, bounds,
};

use crate::common::{DAY, Store, at, everywhere};

fn new_key() -> NewKey {
    NewKey::new("acme_live", "acme").unwrap()
}

/// Asserts that a result is refused as malformed input of a kind.
fn assert_malformed<T: std::fmt::Debug>(result: Result<T, impl Into<Error>>, kind: &str) {
    let result = result.map_err(Into::into);
    assert!(
        matches!(&result, Err(Error::Invalid(Invalid::Malformed(gatekey::ParseError { what, .. }))) if *what == kind),
        "{kind}: {result:?}"
    );
}

/// The length of the audit trail: what is refused leaves it as it is.
fn audit_len(store: &Store) -> u64 {
    store.engine.stats().unwrap().audit_entries
}

#[test]
fn permissions_that_the_keyspace_does_not_have_are_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let key = store.issue("acme_live", "acme").key.id;
        let retire = KeyspaceUpdate::new()
            .add_permissions(["old"])
            .retire_permissions(["old"]);
        let keyspace = store.engine.update_keyspace("acme_live", retire);
        assert!(keyspace.unwrap().permissions[2].retired);
        let before = audit_len(store);

        for name in [
            "admin",
            "Read",
            "read ",
            "",
            "read\0",
            "r\u{435}ad",
            &"x".repeat(1 << 20),
        ] {
            let update = KeyUpdate::new();
            for result in [
                store
                    .engine
                    .issue(new_key().permissions(["read", name]))
                    .map(|i| i.key),
                store
                    .engine
                    .update(key, update.clone().set_permissions([name])),
                store
                    .engine
                    .update(key, update.clone().add_permissions([name])),
                store
                    .engine
                    .update(key, update.clone().remove_permissions([name])),
                store
                    .engine
                    .rotate(
                        key,
                        Rotation::at_once().changing(update.add_permissions([name])),
                    )
                    .map(|rotated| rotated.key),
            ] {
                assert!(
                    matches!(
                        result,
                        Err(Error::Invalid(Invalid::UnknownPermission { .. }))
                    ),
                    "{name:.20}: {result:?}"
                );
            }
        }
        let retired = store.engine.issue(new_key().permissions(["old"]));
        assert!(matches!(
            retired,
            Err(Error::Invalid(Invalid::RetiredPermission { .. }))
        ));
        for bits in [0b100, 0b1000, 1 << 127, u128::MAX] {
            let mask = Permissions::from_bits(bits);
            for result in [
                store
                    .engine
                    .issue(new_key().permission_mask(mask))
                    .map(|i| i.key),
                store
                    .engine
                    .update(key, KeyUpdate::new().set_permission_mask(mask)),
            ] {
                assert!(
                    matches!(
                        &result,
                        Err(Error::Invalid(Invalid::UnknownBits { bits, .. }))
                            if *bits == mask - Permissions::from_bits(0b11)
                    ),
                    "{bits:#x}: {result:?}"
                );
            }
        }
        assert_eq!(audit_len(store), before);
        assert_eq!(store.engine.key(key).unwrap().permissions.bits(), 0b01);
    });
}

#[test]
fn an_unknown_permission_is_named_as_it_was_given() {
    let store = Store::new(0, false);
    store.keyspace("acme_live");
    let error = store
        .engine
        .issue(new_key().permissions(["fly"]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"keyspace acme_live has no permission "fly"; it has: read, write"#
    );
    assert!(matches!(
        error,
        Error::Invalid(Invalid::UnknownPermission { name, .. }) if name == "fly"
    ));
}

#[test]
fn an_expiry_that_is_no_future_instant_is_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        store.clock.advance(DAY);
        let now = store.engine.now();
        let key = store.issue("acme_live", "acme").key.id;
        let ms = Duration::from_millis;
        let before = audit_len(store);
        for (expiry, in_past) in [
            (Expiry::At(Timestamp::MIN), true),
            (Expiry::At(at(0)), true),
            (Expiry::At(now.saturating_sub(ms(1))), true),
            (Expiry::At(now), true),
            (Expiry::After(Duration::ZERO), true),
            (Expiry::After(Duration::from_nanos(999_999)), true),
            (Expiry::After(Duration::MAX), false),
            (Expiry::After(ms(u64::MAX)), false),
            (
                Expiry::After(Timestamp::MAX.saturating_since(now) + ms(1)),
                false,
            ),
        ] {
            let update = KeyUpdate::new().expiry(expiry);
            for result in [
                store
                    .engine
                    .issue(new_key().expiry(expiry))
                    .map(|issued| issued.key),
                store.engine.update(key, update.clone()),
                store
                    .engine
                    .rotate(key, Rotation::with_grace(DAY).changing(update))
                    .map(|rotated| rotated.key),
            ] {
                let named = match &result {
                    Err(Error::Invalid(Invalid::ExpiryInPast { .. })) => in_past,
                    Err(Error::Invalid(Invalid::TimeOutOfRange(_))) => !in_past,
                    _ => false,
                };
                assert!(named, "{expiry:?}: {result:?}");
            }
        }
        assert_eq!(audit_len(store), before);

        for (expiry, expires_at) in [
            (
                Expiry::At(now.saturating_add(ms(1))),
                now.saturating_add(ms(1)),
            ),
            (Expiry::After(ms(1)), now.saturating_add(ms(1))),
            (Expiry::At(Timestamp::MAX), Timestamp::MAX),
            (
                Expiry::After(Timestamp::MAX.saturating_since(now)),
                Timestamp::MAX,
            ),
        ] {
            let issued = store.engine.issue(new_key().expiry(expiry)).unwrap();
            assert_eq!(issued.key.expires_at, Some(expires_at));
            assert_eq!(store.verdict(issued.token.expose()), "granted");
        }
    });
}

#[test]
fn an_instant_outside_the_years_that_can_be_represented_is_refused() {
    for seconds in [-1, i64::MIN, i64::MAX, 253_402_207_201] {
        let instant = Timestamp::from_unix_seconds(seconds);
        assert!(
            matches!(&instant, Err(error) if error.what == "time" && error.why.contains("1970 to 9999")),
            "{instant:?}"
        );
    }
    for ms in [u64::MAX, Timestamp::MAX.unix_ms() + 1] {
        let instant = Timestamp::from_unix_ms(ms);
        assert!(
            matches!(&instant, Err(error) if error.what == "time" && error.why.contains("1970 to 9999")),
            "{instant:?}"
        );
    }
    for text in [
        "1969-12-31T23:59:59Z",
        "-009999-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01",
        "0",
        "NaN",
        "",
    ] {
        let instant = text.parse::<Timestamp>();
        assert!(
            matches!(&instant, Err(error) if error.what == "time"),
            "{text}: {instant:?}"
        );
    }
}

#[test]
fn the_limits_of_time_hold_to_the_fraction_of_a_second() {
    for text in ["1969-12-31T23:59:59.9999Z", "9999-12-30T22:00:00.001Z"] {
        let instant = text.parse::<Timestamp>();
        assert!(
            matches!(&instant, Err(error) if error.what == "time"),
            "{text}: {instant:?}, {:?} ms",
            instant.as_ref().map(|instant| instant.unix_ms())
        );
    }
}

#[test]
fn a_life_that_ends_before_it_begins_is_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let day = 86_400_000;
        let bad = |result: Result<gatekey::Key, Error>| {
            assert!(
                matches!(
                    result,
                    Err(Error::Invalid(Invalid::NotBeforeAfterExpiry { .. }))
                ),
                "{result:?}"
            );
        };
        let issue = |not_before, expires_at| {
            let key = new_key().not_before(not_before).expires_at(expires_at);
            store.engine.issue(key)
        };
        bad(issue(at(day), at(day)).map(|issued| issued.key));
        bad(issue(at(day), at(1)).map(|issued| issued.key));
        bad(issue(Timestamp::MAX, Timestamp::MAX).map(|issued| issued.key));
        let key = issue(at(day), at(day + 1)).unwrap();
        assert_eq!(store.verdict(key.token.expose()), "not_yet_valid");
        let shorter = KeyUpdate::new().expires_at(at(day));
        bad(store.engine.update(key.key.id, shorter.clone()));
        let rotation = Rotation::at_once().changing(shorter);
        bad(store
            .engine
            .rotate(key.key.id, rotation)
            .map(|rotated| rotated.key));
        let kept = store.engine.key(key.key.id).unwrap();
        assert_eq!(kept.expires_at, Some(at(day + 1)));
    });
}

#[test]
fn an_owner_that_is_no_path_is_refused_wherever_it_is_given() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let long = "x".repeat(OwnerPath::SEGMENT_LEN_MAX + 1);
        let over = format!("{}/{0}/{0}/{0}", "y".repeat(OwnerPath::SEGMENT_LEN_MAX));
        assert!(over.len() > OwnerPath::LEN_MAX);
        let before = audit_len(store);
        for path in [
            "",
            "/",
            "/acme",
            "acme/",
            "acme//bot",
            ".",
            "..",
            "../acme",
            "acme/..",
            "acme/../other",
            "acme/./bot",
            "acme bot",
            "acme\\\n",
            "acme\0",
            "acm\u{e9}",
            "\u{430}cme",
            "a/b/c/d/e/f/g/h/i",
            &long,
            &over,
            &"a/".repeat(1 << 19),
        ] {
            assert_malformed(NewKey::new("acme_live", path), "owner");
            assert_malformed(path.parse::<OwnerPath>(), "owner");
            assert_malformed(store.engine.suspend(path, None), "owner");
            assert_malformed(store.engine.resume(path), "owner");
            assert_malformed(store.engine.owner(path), "owner");
            assert_malformed(store.engine.revoke_owner(path, Reason::Cessation), "owner");
        }
        assert_eq!(audit_len(store), before);
    });
}

#[test]
fn a_prefix_that_is_none_is_refused_wherever_it_is_given() {
    everywhere(|store| {
        let before = audit_len(store);
        for prefix in [
            "",
            "Acme",
            "acme-live",
            "acme.live",
            "acme ",
            " acme",
            "acm\u{e9}",
            "acme\0",
            "acme/live",
            &"a".repeat(Prefix::LEN_MAX + 1),
            &"a".repeat(1 << 20),
        ] {
            assert_malformed(NewKeyspace::new(prefix), "prefix");
            assert_malformed(NewKey::new(prefix, "acme"), "prefix");
            assert_malformed(store.engine.keyspace(prefix), "prefix");
            let update = KeyspaceUpdate::new().description("x");
            assert_malformed(store.engine.update_keyspace(prefix, update), "prefix");
            let revoked = store.engine.revoke_keyspace(prefix, Reason::Cessation);
            assert_malformed(revoked, "prefix");
        }
        assert_eq!(audit_len(store), before);
    });
}

#[test]
fn a_batch_with_one_bad_item_applies_nothing_and_names_it() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let before = audit_len(store);
        let bad: [NewKey; 5] = [
            new_key().permissions(["fly"]),
            new_key().name("x".repeat(bounds::NAME_LEN_MAX + 1)),
            new_key().expires_at(at(0)),
            new_key().label("", "x"),
            NewKey::new("nowhere", "acme").unwrap(),
        ];
        for (bad, index) in bad.into_iter().zip([0, 1, 25, 48, 49]) {
            let mut batch = vec![new_key(); 50];
            batch[index] = bad;
            let error = store.engine.issue_batch(batch).unwrap_err();
            assert!(
                matches!(&error, Error::Batch { index: named, .. } if *named == index),
                "{error:?}"
            );
            assert!(
                error.to_string().contains(&format!("item {index} ")),
                "{error}"
            );
        }
        let count = bounds::BATCH_MAX + 1;
        let over = store.engine.issue_batch(vec![new_key(); count]);
        assert!(matches!(
            over,
            Err(Error::Invalid(Invalid::TooMany {
                count: 10_001,
                max: 10_000,
                ..
            }))
        ));
        assert_eq!(audit_len(store), before);
        assert_eq!(store.engine.keys(KeyFilter::new()).count(), 0);
    });
}
