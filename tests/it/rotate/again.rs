//! A key in its grace whose successor is over: it is no dead end, and can be rotated
//! again.

use gatekey::{
    AuditEvent, Conflict, Error, KeyFilter, KeyId, KeyState, KeyUpdate, KeysPerOwner, NewKey,
    Reason, Rotation,
};

use super::rotate;
use crate::audit::{assert_unwritten, last_event};
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::{DAY_MS, limited};

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Conflict {
    match result {
        Err(Error::Conflict(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn lineage(store: &Store, key: KeyId) -> (Option<KeyId>, Option<KeyId>) {
    let key = store.engine.key(key).unwrap();
    (key.predecessor, key.successor)
}

#[test]
fn a_key_whose_successor_is_over_rotates_again_until_its_grace_ends() {
    everywhere(|store| {
        store.keyspace("acme");
        let first = store.issue("acme", "acme");
        let lost = rotate(store, first.key.id, DAY * 10);
        let again = |store: &Store| {
            let rotation = Rotation::with_grace(DAY * 30);
            store.engine.rotate(first.key.id, rotation)
        };
        let refused = assert_unwritten(&store.engine, || again(store));
        assert_eq!(
            refusal(refused),
            Conflict::AlreadyRotated {
                key: first.key.id,
                successor: lost.key.id
            }
        );
        store
            .engine
            .revoke(lost.key.id, Reason::KeyCompromise)
            .unwrap();
        store.clock.advance(DAY);
        let second = again(store).unwrap();
        // A grace that runs already is not lengthened.
        assert_eq!(second.old.retiring_until, Some(at(10 * DAY_MS)));
        assert_eq!(
            last_event(&store.engine),
            AuditEvent::KeyRotated {
                old: first.key.id,
                new: second.key.id,
                retiring_until: Some(at(10 * DAY_MS)),
                superseded: vec![],
            }
        );
        store.reopen();
        // Each line can be read both ways, that of the key which is over too.
        let (first_id, lost_id, second_id) = (first.key.id, lost.key.id, second.key.id);
        assert_eq!(lineage(store, first_id), (None, Some(second_id)));
        assert_eq!(lineage(store, second_id), (Some(first_id), None));
        assert_eq!(lineage(store, lost_id), (Some(first_id), Some(second_id)));
        assert_eq!(store.verdict(first.token.expose()), "granted");
        assert_eq!(store.verdict(lost.token.expose()), "revoked");
        assert_eq!(store.verdict(second.token.expose()), "granted");
        // As with any rotation, the next one ends the grace.
        let third = rotate(store, second.key.id, DAY);
        assert_eq!(store.verdict(first.token.expose()), "revoked");
        assert_eq!(store.verdict(third.token.expose()), "granted");
    });
}

#[test]
fn a_shorter_grace_is_taken_and_none_ends_it_at_once() {
    everywhere(|store| {
        store.keyspace("acme");
        let first = store.issue("acme", "acme");
        for grace in [DAY * 4, DAY * 2] {
            let next = rotate(store, first.key.id, grace);
            assert_eq!(next.old.state, KeyState::Retiring);
            assert_eq!(next.old.retiring_until, Some(at(0).saturating_add(grace)));
            store.engine.revoke(next.key.id, Reason::Cessation).unwrap();
        }
        let last = store
            .engine
            .rotate(first.key.id, Rotation::at_once())
            .unwrap();
        assert_eq!(store.verdict(first.token.expose()), "revoked");
        assert_eq!(store.verdict(last.token.expose()), "granted");
    });
}

#[test]
fn a_key_whose_successor_has_expired_or_is_purged_rotates_again() {
    everywhere(|store| {
        store.keyspace("acme");
        for purged in [false, true] {
            let first = store.issue("acme", "acme");
            let changes = KeyUpdate::new().expires_in(DAY);
            let rotation = Rotation::with_grace(DAY * 10).changing(changes);
            let short = store.engine.rotate(first.key.id, rotation).unwrap();
            store.clock.advance(DAY * 2);
            if purged {
                store.engine.purge(DAY / 2).unwrap();
                assert!(store.engine.key(short.key.id).is_err());
            }
            let second = rotate(store, first.key.id, DAY * 10);
            assert_eq!(lineage(store, first.key.id), (None, Some(second.key.id)));
            assert_eq!(lineage(store, second.key.id), (Some(first.key.id), None));
            assert_eq!(store.verdict(second.token.expose()), "granted");
        }
    });
}

#[test]
fn what_its_owner_holds_meanwhile_is_counted_when_a_key_rotates_again() {
    everywhere(|store| {
        for (prefix, policy) in [
            ("one", KeysPerOwner::SingleSuperseding),
            ("other", KeysPerOwner::SingleRefusing),
            ("capped", KeysPerOwner::Many { cap: Some(1) }),
        ] {
            limited(store, prefix, policy);
            let first = store.issue(prefix, "u");
            let lost = rotate(store, first.key.id, DAY * 10);
            let cessation = Reason::Cessation;
            store.engine.revoke(lost.key.id, cessation).unwrap();
            let held = match policy {
                // It would end the grace.
                KeysPerOwner::SingleSuperseding => None,
                KeysPerOwner::SingleRefusing => Some(store.issue(prefix, "u")),
                // The key in its grace is what its owner may hold.
                _ => {
                    let another = store.engine.issue(NewKey::new(prefix, "u").unwrap());
                    let at_cap = Conflict::OwnerAtCap {
                        owner: "u".parse().unwrap(),
                        held: 1,
                        cap: 1,
                    };
                    assert_eq!(refusal(another), at_cap);
                    None
                }
            };
            if let Some(held) = held {
                let refused = assert_unwritten(&store.engine, || {
                    let rotation = Rotation::with_grace(DAY);
                    store.engine.rotate(first.key.id, rotation)
                });
                match refusal(refused) {
                    Conflict::OwnerHasKey { key, .. } => assert_eq!(key, held.key.id),
                    other => panic!("{other:?}"),
                }
                store.engine.revoke(held.key.id, cessation).unwrap();
            }
            let second = rotate(store, first.key.id, DAY * 5);
            assert_eq!(store.verdict(first.token.expose()), "granted");
            assert_eq!(store.verdict(second.token.expose()), "granted");
            let prefix = prefix.parse().unwrap();
            for state in [KeyState::Active, KeyState::Retiring] {
                let filter = KeyFilter::new().keyspace(prefix).state(state);
                assert_eq!(store.engine.keys(filter).count(), 1, "{policy:?}");
            }
        }
    });
}

#[test]
fn a_key_that_is_disabled_or_out_of_its_grace_does_not_rotate_again() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme").unwrap();
        let key = store.engine.issue(new).unwrap().key.id;
        let lost = rotate(store, key, DAY);
        store.engine.revoke(lost.key.id, Reason::Cessation).unwrap();
        let again = |store: &Store| {
            let rotation = Rotation::with_grace(DAY);
            assert_unwritten(&store.engine, || store.engine.rotate(key, rotation))
        };
        store.engine.disable(key).unwrap();
        assert_eq!(refusal(again(store)), Conflict::Disabled(key));
        store.engine.enable(key).unwrap();
        store.clock.advance(DAY);
        let day = at(DAY_MS);
        assert_eq!(refusal(again(store)), Conflict::Revoked { key, at: day });
    });
}
