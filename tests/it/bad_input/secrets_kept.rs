//! A token that somebody put where it does not belong is not repeated in the
//! answer: answers end in logs.

use std::fmt::{Debug, Display};

use gatekey::{
    Cursor, KeyId, KeyUpdate, KeyspaceUpdate, Network, NewKey, NewKeyspace, OwnerPath, Reason,
    Rotation, Timestamp,
};

use super::new_key;
use crate::common::{Store, everywhere};
use crate::vectors::Parts;

/// Asserts that neither the error nor its `Debug` has a part of the secret.
fn assert_withheld<T: Debug, E: Debug + Display>(what: &str, secret: &str, result: Result<T, E>) {
    let error = result.expect_err(what);
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{error:#?}"),
    ] {
        for part in secret.as_bytes().windows(8) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!text.contains(part), "{what}: {text}");
        }
    }
}

#[test]
fn no_error_repeats_a_token_that_was_put_in_the_wrong_place() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let (key, token) = (issued.key.id, issued.token.expose());
        let secret = &Parts::of(token).secret;
        let engine = &store.engine;

        assert_withheld("prefix", secret, NewKeyspace::new(token));
        assert_withheld("prefix", secret, engine.keyspace(token));
        assert_withheld(
            "prefix",
            secret,
            engine.revoke_keyspace(token, Reason::Cessation),
        );
        assert_withheld("owner", secret, NewKey::new("acme_live", token));
        assert_withheld("owner", secret, token.parse::<OwnerPath>());
        assert_withheld("owner", secret, engine.suspend(token, None));
        assert_withheld(
            "owner",
            secret,
            engine.revoke_owner(token, Reason::Cessation),
        );
        assert_withheld("id", secret, token.parse::<KeyId>());
        assert_withheld("cursor", secret, token.parse::<Cursor>());
        assert_withheld("time", secret, token.parse::<Timestamp>());
        assert_withheld("network", secret, token.parse::<Network>());
        assert_withheld(
            "permission",
            secret,
            engine.issue(new_key().permissions([token])),
        );
        assert_withheld("label", secret, engine.issue(new_key().label(token, "x")));
        let lines = format!("Authorization: Bearer {token}\n");
        assert_withheld("name", secret, engine.issue(new_key().name(&lines)));
        assert_withheld("value", secret, engine.issue(new_key().label("x", &lines)));
        assert_withheld("actor", secret, engine.acting_as(&lines));
        assert_withheld("note", secret, engine.suspend("acme", lines.as_str()));
        for update in [
            KeyUpdate::new().set_permissions([token]),
            KeyUpdate::new().add_permissions([token]),
            KeyUpdate::new().remove_permissions([token]),
            KeyUpdate::new().name(lines.as_str()),
            KeyUpdate::new().description(lines.as_str()),
        ] {
            assert_withheld("update", secret, engine.update(key, update.clone()));
            let rotation = Rotation::at_once().changing(update);
            assert_withheld("rotation", secret, engine.rotate(key, rotation));
        }
        for update in [
            KeyspaceUpdate::new().add_permissions([token]),
            KeyspaceUpdate::new().retire_permissions([token]),
            KeyspaceUpdate::new().description(lines.as_str()),
        ] {
            assert_withheld(
                "keyspace",
                secret,
                engine.update_keyspace("acme_live", update),
            );
        }
        let batch = vec![new_key(), new_key().permissions([token])];
        assert_withheld("batch", secret, engine.issue_batch(batch));
        let unknown = token.replace("acme_live", "acme_test");
        assert_withheld(
            "token",
            secret,
            engine.revoke_token(unknown, Reason::Cessation),
        );
    });
}

#[test]
fn a_secret_alone_is_withheld_too() {
    let store = Store::new(0, false);
    store.keyspace("acme_live");
    let issued = store.issue("acme_live", "acme");
    let secret = Parts::of(issued.token.expose()).secret;
    assert_withheld("prefix", &secret, NewKeyspace::new(&secret));
    assert_withheld("id", &secret, secret.parse::<KeyId>());
    let named = store.engine.issue(new_key().permissions([secret.as_str()]));
    assert_withheld("permission", &secret, named);
    let owner: Result<OwnerPath, _> = format!("acme/{secret}/..").parse();
    assert_withheld("owner", &secret, owner);
}
