//! Taking access away: revoking, disabling, purging.

mod named;
mod purge;

use std::time::Duration;

use gatekey::{
    AuditEvent, Conflict, Denial, Error, Issued, KeyState, NewKey, NotFound, Reason, Revocation,
    Rotation,
};
use gatekey_testkit::forge::{resealed, with_wrong_secret};

use crate::audit::{assert_unwritten, last_event, trail};
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::{DAY_MS, unused};

const MS: Duration = Duration::from_millis(1);

fn mortal(store: &Store, lifetime: Duration) -> Issued {
    let new = NewKey::new("acme", "acme").unwrap().expires_in(lifetime);
    store.engine.issue(new).unwrap()
}

/// The verdicts on some tokens, in their order.
fn verdicts<'a>(store: &Store, issued: impl IntoIterator<Item = &'a Issued>) -> Vec<&'static str> {
    issued
        .into_iter()
        .map(|issued| store.verdict(issued.token.expose()))
        .collect()
}

#[test]
fn a_revoked_key_says_when_why_and_by_whom() {
    everywhere(|store| {
        store.keyspace("acme");
        let mut revoked = Vec::new();
        for (ms, reason) in [
            (1, Reason::KeyCompromise),
            (2, Reason::Superseded),
            (3, Reason::AffiliationChanged),
            (4, Reason::PrivilegeWithdrawn),
            (5, Reason::Cessation),
            (6, Reason::Unspecified),
        ] {
            store.clock.set(at(ms));
            let issued = store.issue("acme", "acme");
            assert_eq!(store.verdict(issued.token.expose()), "granted");
            let engine = store.engine.acting_as("ops").unwrap();
            let revocation = Revocation::new(reason).note(format!("note {ms}"));
            let answer = engine.revoke(issued.key.id, revocation).unwrap();
            assert_eq!(answer.key, issued.key.id);
            assert_eq!((answer.at, answer.reason), (at(ms), reason));
            assert_eq!(answer.note, Some(format!("note {ms}")));
            assert_eq!(answer.by.as_deref(), Some("ops"));
            revoked.push((issued, answer));
        }
        store.reopen();
        for (issued, answer) in revoked {
            let key = store.engine.key(issued.key.id).unwrap();
            assert_eq!(key.state, KeyState::Revoked);
            let denial = store.denial(issued.token.expose());
            assert_eq!(
                denial,
                Denial::Revoked {
                    key: answer.key,
                    at: answer.at,
                    reason: answer.reason,
                }
            );
            assert_eq!(key.revoked, Some(answer));
        }
    });
}

#[test]
fn a_second_revocation_gives_the_first_answer_and_writes_nothing() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let leaked = Revocation::new(Reason::KeyCompromise).note("found");
        let alice = store.engine.acting_as("alice").unwrap();
        let first = alice.revoke(issued.key.id, leaked).unwrap();
        store.clock.advance(DAY);
        store.reopen();
        let bob = store.engine.acting_as("bob").unwrap();
        assert_unwritten(&bob, || {
            let other = Revocation::new(Reason::Cessation).note("again");
            assert_eq!(bob.revoke(issued.key.id, other.clone()).unwrap(), first);
            let by_token = bob.revoke_token(issued.token.expose(), other).unwrap();
            assert_eq!(by_token, first);
            let many = bob.revoke_owner("acme", Reason::Cessation).unwrap();
            assert_eq!((many.keys, many.newly), (1, 0));
            let many = bob.revoke_keyspace("acme", Reason::Cessation).unwrap();
            assert_eq!((many.keys, many.newly), (1, 0));
        });
        assert_eq!(
            store.engine.key(issued.key.id).unwrap().revoked,
            Some(first)
        );
    });
}

#[test]
fn a_key_that_does_not_exist_cannot_be_revoked() {
    everywhere(|store| {
        let id = "zzzzzzzzz0".parse().unwrap();
        assert!(matches!(
            store.engine.revoke(id, Reason::Cessation),
            Err(Error::NotFound(NotFound::Key(named))) if named == id
        ));
        assert!(matches!(
            store.engine.revoke_keyspace("acme", Reason::Cessation),
            Err(Error::NotFound(NotFound::Keyspace(_)))
        ));
        let none = store
            .engine
            .revoke_owner("nobody", Reason::Cessation)
            .unwrap();
        assert_eq!((none.keys, none.newly), (0, 0));
        assert_eq!(trail(&store.engine), []);
    });
}

#[test]
fn a_token_in_hand_is_revoked_whatever_the_state_of_its_key() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = &store.engine;
        let active = store.issue("acme", "acme");
        let disabled = store.issue("acme", "acme");
        engine.disable(disabled.key.id).unwrap();
        let suspended = store.issue("acme", "other");
        engine.suspend("other", None).unwrap();
        let retiring = store.issue("acme", "acme");
        let grace = Rotation::with_grace(DAY * 9);
        engine.rotate(retiring.key.id, grace).unwrap();
        let expired = mortal(store, DAY);
        store.clock.advance(DAY);
        for issued in [&active, &disabled, &suspended, &retiring, &expired] {
            let revoked = engine
                .revoke_token(issued.token.expose(), Reason::KeyCompromise)
                .unwrap();
            assert_eq!((revoked.key, revoked.at), (issued.key.id, at(DAY_MS)));
            assert_eq!(
                last_event(engine),
                AuditEvent::KeyRevoked {
                    key: issued.key.id,
                    reason: Reason::KeyCompromise,
                    note: None,
                }
            );
            assert_eq!(store.verdict(issued.token.expose()), "revoked");
        }
    });
}

#[test]
fn a_token_whose_secret_is_wrong_revokes_nothing() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("other");
        let issued = store.issue("acme", "acme");
        let token = issued.token.expose();
        let moved = resealed(token, |body| body.replace_range(..4, "other"));
        let longer = format!("{token} ");
        assert_unwritten(&store.engine, || {
            for token in ["", "acme", &with_wrong_secret(token), &moved, &longer] {
                let refused = store.engine.revoke_token(token, Reason::KeyCompromise);
                assert!(
                    matches!(refused, Err(Error::NotFound(NotFound::Token))),
                    "{token}"
                );
            }
        });
        assert_eq!(store.verdict(token), "granted");
    });
}

#[test]
fn an_owners_keys_are_revoked_with_all_below_it_segment_by_segment() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("other");
        let reached = [
            store.issue("acme", "john"),
            store.issue("other", "john"),
            store.issue("acme", "john/laptop"),
            store.issue("acme", "john/laptop/cron"),
        ];
        let spared: Vec<_> = ["johnny", "john.doe", "john-2/x", "Johnny", "joh", "john!"]
            .map(|owner| store.issue("acme", owner))
            .into();
        store
            .engine
            .revoke(reached[0].key.id, Reason::Cessation)
            .unwrap();
        let gone = Revocation::new(Reason::AffiliationChanged).note("left");
        let many = store.engine.revoke_owner("john", gone).unwrap();
        assert_eq!((many.keys, many.newly), (4, 3));
        let later = store.issue("acme", "john");
        for reopened in [false, true] {
            if reopened && !store.reopen() {
                break;
            }
            assert_eq!(verdicts(store, &reached), ["revoked"; 4]);
            assert_eq!(verdicts(store, &spared), ["granted"; 6]);
            assert_eq!(verdicts(store, [&later]), ["granted"]);
        }
        let revoked = |at: usize| {
            store
                .engine
                .key(reached[at].key.id)
                .unwrap()
                .revoked
                .unwrap()
        };
        assert_eq!(revoked(0).reason, Reason::Cessation);
        assert_eq!(revoked(3).reason, Reason::AffiliationChanged);
        assert_eq!(revoked(3).note.as_deref(), Some("left"));
    });
}

#[test]
fn a_keyspaces_keys_are_revoked_and_no_others() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("acme_live");
        let reached = ["a", "b", "b/c"].map(|owner| store.issue("acme", owner));
        let spared = store.issue("acme_live", "a");
        let old = store.issue("acme", "d");
        store
            .engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let many = store
            .engine
            .revoke_keyspace("acme", Reason::KeyCompromise)
            .unwrap();
        assert_eq!((many.keys, many.newly), (5, 5));
        assert_eq!(verdicts(store, &reached), ["revoked"; 3]);
        assert_eq!(store.verdict(old.token.expose()), "revoked");
        assert_eq!(store.verdict(spared.token.expose()), "granted");
        let later = store.issue("acme", "a");
        assert_eq!(store.verdict(later.token.expose()), "granted");
    });
}

#[test]
fn a_key_in_its_grace_can_be_revoked_and_its_successor_stays_good() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme");
        let new = store
            .engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        assert_eq!(store.verdict(old.token.expose()), "granted");
        let revoked = store
            .engine
            .revoke(old.key.id, Reason::KeyCompromise)
            .unwrap();
        assert_eq!((revoked.at, revoked.reason), (at(0), Reason::KeyCompromise));
        assert_eq!(store.verdict(old.token.expose()), "revoked");
        assert_eq!(store.verdict(new.token.expose()), "granted");
        assert_eq!(
            store.engine.key(old.key.id).unwrap().successor,
            Some(new.key.id)
        );
    });
}

#[test]
fn a_key_whose_grace_is_over_was_revoked_by_its_rotation() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme").key.id;
        store.engine.rotate(old, Rotation::with_grace(DAY)).unwrap();
        store.clock.advance(DAY * 2);
        let answer = assert_unwritten(&store.engine, || {
            store.engine.revoke(old, Reason::KeyCompromise).unwrap()
        });
        assert_eq!((answer.at, answer.reason), (at(DAY_MS), Reason::Superseded));
    });
}

#[test]
fn a_disabled_key_is_refused_until_it_is_enabled() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let id = issued.key.id;
        for _ in 0..2 {
            assert_eq!(store.verdict(issued.token.expose()), "granted");
            assert_eq!(store.engine.disable(id).unwrap().state, KeyState::Disabled);
            assert_eq!(store.verdict(issued.token.expose()), "disabled");
            let again = assert_unwritten(&store.engine, || store.engine.disable(id).unwrap());
            assert_eq!(again.state, KeyState::Disabled);
            store.reopen();
            assert_eq!(store.verdict(issued.token.expose()), "disabled");
            assert_eq!(unused(store.engine.enable(id).unwrap()), issued.key);
            let again = assert_unwritten(&store.engine, || store.engine.enable(id).unwrap());
            assert_eq!(unused(again), issued.key);
        }
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    });
}

#[test]
fn what_is_over_for_good_can_be_neither_disabled_nor_enabled() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = store.engine.clone();
        let revoked = store.issue("acme", "acme").key.id;
        engine.disable(revoked).unwrap();
        engine.revoke(revoked, Reason::Cessation).unwrap();
        let expired = mortal(store, DAY).key.id;
        engine.disable(expired).unwrap();
        store.clock.advance(DAY);
        assert_unwritten(&engine, || {
            for change in [gatekey::Engine::enable, gatekey::Engine::disable] {
                assert!(matches!(
                    change(&engine, revoked),
                    Err(Error::Conflict(Conflict::Revoked { key, .. })) if key == revoked
                ));
                assert!(matches!(
                    change(&engine, expired),
                    Err(Error::Conflict(Conflict::Expired { key, .. })) if key == expired
                ));
            }
        });
        let unknown = engine.enable("zzzzzzzzz0".parse().unwrap());
        assert!(matches!(unknown, Err(Error::NotFound(NotFound::Key(_)))));
    });
}
