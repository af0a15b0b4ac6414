//! Every limit of [`gatekey::bounds`]: what is at it is taken and given back
//! whole, what is over it is refused.

use std::collections::BTreeMap;

use gatekey::{
    Conflict, Error, Invalid, Issued, KeyFilter, KeyUpdate, KeyspaceUpdate, Network, NewKey,
    NewKeyspace, OwnerPath, Permissions, Reason, Requirements, Revocation, Rotation, bounds,
};

use super::{assert_malformed, audit_len, new_key};
use crate::common::{Store, code, everywhere};

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given what a call gave"
)]
fn assert_too_many<T: std::fmt::Debug>(result: Result<T, Error>, over: usize) {
    assert!(
        matches!(
            &result,
            Err(Error::Invalid(Invalid::TooMany { count, max, .. }))
                if *count == over && *max == over - 1
        ),
        "{over}: {result:?}"
    );
}

fn networks(count: usize) -> Vec<Network> {
    (0..count)
        .map(|at| format!("2001:db8:{at:x}::/48").parse().unwrap())
        .collect()
}

fn labels(count: usize) -> BTreeMap<String, String> {
    (0..count)
        .map(|at| {
            let name = format!("{at:0>width$}", width = bounds::LABEL_NAME_LEN_MAX);
            (name, "v".repeat(bounds::LABEL_VALUE_LEN_MAX))
        })
        .collect()
}

/// A key with everything as long and as many as it may be.
fn fullest() -> NewKey {
    let segment = "s".repeat(OwnerPath::SEGMENT_LEN_MAX);
    let owner = format!("{segment}/{segment}/{segment}/{}/a/b/c/d", "t".repeat(52));
    assert_eq!(owner.len(), OwnerPath::LEN_MAX);
    assert_eq!(owner.split('/').count(), OwnerPath::DEPTH_MAX);
    let key = NewKey::new("acme_live", owner)
        .unwrap()
        // In bytes, not in characters.
        .name("\u{e9}".repeat(bounds::NAME_LEN_MAX / 2))
        .description("d".repeat(bounds::DESCRIPTION_LEN_MAX))
        .allow_networks(networks(bounds::NETWORKS_MAX))
        .permission_mask(Permissions::from_bits(u128::MAX));
    labels(bounds::LABELS_MAX)
        .into_iter()
        .fold(key, |key, (name, value)| key.label(name, value))
}

fn full_keyspace(store: &Store) {
    let name = |at: usize| format!("{at:0>width$}", width = bounds::IDENTIFIER_LEN_MAX);
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .description("d".repeat(bounds::DESCRIPTION_LEN_MAX))
        .permissions((0..Permissions::COUNT_MAX).map(name));
    store.engine.create_keyspace(keyspace).unwrap();
}

/// As many as may be of what the entry escapes, before and after.
#[test]
fn a_key_whose_every_text_is_escaped_in_the_trail_is_changed() {
    everywhere(|store| {
        full_keyspace(store);
        let key = store.engine.issue(fullest()).unwrap().key.id;
        let empty = labels(bounds::LABELS_MAX)
            .into_keys()
            .fold(KeyUpdate::new(), KeyUpdate::remove_label);
        store.engine.update(key, empty).unwrap();
        for char in ['"', '\\'] {
            let text = |len| char.to_string().repeat(len);
            let name = |at: usize| format!("{}{at:02}", text(bounds::LABEL_NAME_LEN_MAX - 2));
            let update = KeyUpdate::new()
                .name(&*text(bounds::NAME_LEN_MAX))
                .description(&*text(bounds::DESCRIPTION_LEN_MAX))
                .set_permission_mask(Permissions::from_bits(u128::MAX))
                .networks(networks(bounds::NETWORKS_MAX));
            let update = (0..bounds::LABELS_MAX).fold(update, |update, at| {
                update.label(name(at), text(bounds::LABEL_VALUE_LEN_MAX))
            });
            store.engine.update(key, update).unwrap();
            let update = (0..bounds::LABELS_MAX)
                .fold(KeyUpdate::new(), |update, at| update.remove_label(name(at)));
            store.engine.update(key, update).unwrap();
        }
    });
}

#[test]
fn a_key_at_every_limit_is_kept_whole_and_verified() {
    everywhere(|store| {
        full_keyspace(store);
        let actor = "x".repeat(bounds::ACTOR_LEN_MAX);
        let issued = store
            .engine
            .acting_as(&actor)
            .unwrap()
            .issue(fullest())
            .unwrap();
        let mut expected = issued.key.clone();
        assert_eq!(expected.labels, labels(bounds::LABELS_MAX));
        assert_eq!(expected.created_by.as_deref(), Some(actor.as_str()));
        for _ in 0..2 {
            assert_eq!(store.engine.key(expected.id).unwrap(), expected);
            let here = Requirements::new()
                .source("2001:db8:f::1".parse().unwrap())
                .permission_mask(Permissions::from_bits(u128::MAX));
            let verdict = store
                .engine
                .verify_with(issued.token.expose(), &here)
                .unwrap();
            let grant = verdict.grant().unwrap();
            assert_eq!(grant.owner(), expected.owner.as_str());
            assert_eq!(grant.permissions(), expected.permissions);
            store.reopen();
            expected.usage = store.engine.key(expected.id).unwrap().usage;
        }
        let emptied = labels(bounds::LABELS_MAX)
            .into_keys()
            .fold(KeyUpdate::new(), KeyUpdate::remove_label)
            .name(None)
            .description(None)
            .networks([])
            .set_permission_mask(Permissions::NONE);
        // The audit entry holds all of it, before and after.
        store.engine.update(expected.id, emptied).unwrap();
        let rotated = store
            .engine
            .rotate(expected.id, Rotation::at_once())
            .unwrap();
        assert_eq!(rotated.key.owner, expected.owner);
        assert_eq!(store.verdict(rotated.token.expose()), "granted");
    });
}

#[test]
fn a_key_over_a_limit_is_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let key = store.issue("acme_live", "acme").key.id;
        let before = audit_len(store);
        let issue = |new: NewKey| store.engine.issue(new).map(|issued: Issued| issued.key);
        let update = |update: KeyUpdate| store.engine.update(key, update);

        let name = "\u{e9}".repeat(bounds::NAME_LEN_MAX / 2) + "x";
        assert_malformed(issue(new_key().name(&name)), "name");
        assert_malformed(update(KeyUpdate::new().name(name.as_str())), "name");
        let text = "d".repeat(bounds::DESCRIPTION_LEN_MAX + 1);
        assert_malformed(issue(new_key().description(&text)), "description");
        assert_malformed(
            update(KeyUpdate::new().description(text.as_str())),
            "description",
        );

        let name = "n".repeat(bounds::LABEL_NAME_LEN_MAX + 1);
        let value = "v".repeat(bounds::LABEL_VALUE_LEN_MAX + 1);
        for (name, value, what) in [
            ("", "v", "label name"),
            (&name, "v", "label name"),
            ("n\n", "v", "label name"),
            ("n", &value, "label value"),
            ("n", "v\u{85}", "label value"),
        ] {
            assert_malformed(issue(new_key().label(name, value)), what);
            assert_malformed(update(KeyUpdate::new().label(name, value)), what);
            let rotation = Rotation::at_once().changing(KeyUpdate::new().label(name, value));
            assert_malformed(store.engine.rotate(key, rotation), what);
        }
        for forged in ["a\nb", "a\rb", "a\0b", "\u{1b}[2J"] {
            assert_malformed(issue(new_key().name(forged)), "name");
            assert_malformed(issue(new_key().description(forged)), "description");
        }

        let over = bounds::LABELS_MAX + 1;
        let mut new = new_key();
        let mut change = KeyUpdate::new();
        for (name, value) in labels(over) {
            new = new.label(&name, &value);
            change = change.label(name, value);
        }
        assert_too_many(issue(new), over);
        assert_too_many(update(change), over);
        let over = bounds::NETWORKS_MAX + 1;
        assert_too_many(issue(new_key().allow_networks(networks(over))), over);
        assert_too_many(update(KeyUpdate::new().networks(networks(over))), over);
        let twice = [networks(2), networks(1)].concat();
        for result in [
            issue(new_key().allow_networks(twice.clone())),
            update(KeyUpdate::new().networks(twice)),
        ] {
            assert!(
                matches!(
                    result,
                    Err(Error::Invalid(Invalid::Duplicate {
                        what: "network",
                        ..
                    }))
                ),
                "{result:?}"
            );
        }
        assert_eq!(audit_len(store), before);
    });
}

#[test]
fn notes_and_actors_over_their_limits_are_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let (key, token) = (issued.key.id, issued.token.expose());
        let before = audit_len(store);
        let over = "n".repeat(bounds::NOTE_LEN_MAX + 1);
        for note in [over.as_str(), "two\nlines"] {
            let why = Revocation::new(Reason::KeyCompromise).note(note);
            assert_malformed(store.engine.revoke(key, why.clone()), "note");
            assert_malformed(store.engine.revoke_token(token, why.clone()), "note");
            assert_malformed(store.engine.revoke_owner("acme", why.clone()), "note");
            assert_malformed(store.engine.revoke_keyspace("acme_live", why), "note");
            assert_malformed(store.engine.suspend("acme", Some(note)), "note");
        }
        let over = "x".repeat(bounds::ACTOR_LEN_MAX + 1);
        for actor in ["", over.as_str(), "alice\n2026-01-01 bob", "\0"] {
            assert_malformed(store.engine.acting_as(actor), "actor");
        }
        assert_eq!(audit_len(store), before);
        assert_eq!(store.verdict(token), "granted");

        let note = "n".repeat(bounds::NOTE_LEN_MAX);
        let suspended = store.engine.suspend("acme", note.as_str()).unwrap();
        assert_eq!(suspended.suspended.unwrap().note.as_ref(), Some(&note));
        let why = Revocation::new(Reason::KeyCompromise).note(&note);
        let revoked = store.engine.revoke(key, why).unwrap();
        assert_eq!(revoked.note, Some(note));
    });
}

#[test]
fn keyspaces_over_their_limits_are_refused() {
    everywhere(|store| {
        full_keyspace(store);
        let before = audit_len(store);
        let create = |new: NewKeyspace| store.engine.create_keyspace(new);
        let new = || NewKeyspace::new("other").unwrap();
        let update = |update: KeyspaceUpdate| store.engine.update_keyspace("acme_live", update);

        let over = Permissions::COUNT_MAX + 1;
        let names = (0..over).map(|at| format!("p{at}"));
        assert_too_many(create(new().permissions(names)), over);
        let more = KeyspaceUpdate::new().add_permissions(["one-more"]);
        assert_too_many(update(more), over);
        let text = "d".repeat(bounds::DESCRIPTION_LEN_MAX + 1);
        assert_malformed(create(new().description(&text)), "description");
        assert_malformed(
            update(KeyspaceUpdate::new().description(&text)),
            "description",
        );
        let long = "p".repeat(bounds::IDENTIFIER_LEN_MAX + 1);
        for name in ["", "a b", "a,b", "a\nb", "r\u{e9}ad", "*", long.as_str()] {
            assert_malformed(create(new().permissions([name])), "permission name");
        }
        let twice = create(new().permissions(["read", "write", "read"]));
        assert!(matches!(
            twice,
            Err(Error::Invalid(Invalid::Duplicate { .. }))
        ));
        assert_eq!(audit_len(store), before);
        assert_eq!(store.engine.keyspaces().unwrap().len(), 1);
    });
}

#[test]
fn a_store_holds_as_many_keyspaces_as_it_says_and_no_more() {
    let store = Store::new(0, false);
    for at in 0..bounds::KEYSPACES_MAX {
        store.keyspace(&format!("k{at}"));
    }
    let over = store
        .engine
        .create_keyspace(NewKeyspace::new("one_more").unwrap());
    assert!(
        matches!(
            over,
            Err(Error::Conflict(Conflict::TooManyKeyspaces(
                bounds::KEYSPACES_MAX
            )))
        ),
        "{over:?}"
    );
    let last = store.issue(&format!("k{}", bounds::KEYSPACES_MAX - 1), "acme");
    assert_eq!(store.verdict(last.token.expose()), "granted");
    store.assert_sound();
}

#[test]
fn a_page_of_none_or_of_too_many_is_refused() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        assert_eq!(
            code(&store.engine.verify(issued.token.expose()).unwrap()),
            "granted"
        );
        let all = KeyFilter::new();
        assert_malformed(store.engine.keys_page(&all, None, 0), "limit");
        assert_malformed(store.engine.audit_page(1, 0), "limit");
        let over = bounds::PAGE_MAX + 1;
        assert_too_many(store.engine.keys_page(&all, None, over), over);
        assert_too_many(store.engine.audit_page(1, over), over);
        let full = store
            .engine
            .keys_page(&all, None, bounds::PAGE_MAX)
            .unwrap();
        assert_eq!(full.keys.len(), 1);
        assert_eq!(
            store
                .engine
                .audit_page(1, bounds::PAGE_MAX)
                .unwrap()
                .entries
                .len(),
            2
        );
        assert_eq!(
            store.engine.audit_page(u64::MAX, 1).unwrap().entries.len(),
            0
        );
    });
}
