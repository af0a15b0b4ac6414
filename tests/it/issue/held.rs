//! How many keys an owner may hold.

use gatekey::{AuditEvent, Conflict, Error, Invalid, KeyState, KeysPerOwner, Reason, Rotation};

use super::{DAY_MS, limited, new, try_issue};
use crate::audit::{assert_unwritten, last_event};
use crate::common::{DAY, Store, at, everywhere};

#[test]
fn a_new_key_of_a_single_active_owner_makes_the_old_one_invalid() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::SingleSuperseding);
        let first = store.issue("acme", "user/1");
        let neighbour = store.issue("acme", "user/10");
        let below = store.issue("acme", "user/1/laptop");
        store.clock.advance(DAY);
        let second = store.issue("acme", "user/1");
        assert_eq!(
            last_event(&store.engine),
            AuditEvent::KeyIssued {
                key: second.key.id,
                keyspace: "acme".parse().unwrap(),
                owner: "user/1".parse().unwrap(),
                superseded: vec![first.key.id],
            }
        );
        let expect = |store: &Store| {
            assert_eq!(store.verdict(first.token.expose()), "revoked");
            for good in [&second, &neighbour, &below] {
                assert_eq!(store.verdict(good.token.expose()), "granted");
            }
            let revoked = store.engine.key(first.key.id).unwrap().revoked.unwrap();
            assert_eq!(revoked.reason, Reason::Superseded);
            assert_eq!(revoked.at, at(DAY_MS));
        };
        expect(store);
        if store.reopen() {
            expect(store);
        }
    });
}

#[test]
fn a_new_key_supersedes_also_what_is_disabled_suspended_or_in_its_grace() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::SingleSuperseding);
        let engine = &store.engine;
        let disabled = store.issue("acme", "a");
        engine.disable(disabled.key.id).unwrap();
        store.issue("acme", "a");
        let over = engine.enable(disabled.key.id);
        assert!(matches!(
            over,
            Err(Error::Conflict(Conflict::Revoked { .. }))
        ));

        let suspended = store.issue("acme", "b");
        engine.suspend("b", None).unwrap();
        store.issue("acme", "b");
        engine.resume("b").unwrap();
        assert_eq!(store.verdict(suspended.token.expose()), "revoked");

        let old = store.issue("acme", "c");
        let rotated = engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let newest = store.issue("acme", "c");
        assert_eq!(store.verdict(old.token.expose()), "revoked");
        assert_eq!(store.verdict(rotated.token.expose()), "revoked");
        assert_eq!(store.verdict(newest.token.expose()), "granted");
    });
}

#[test]
fn a_keyspace_that_refuses_a_second_key_says_which_is_held() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::SingleRefusing);
        let first = store.issue("acme", "user");
        let assert_refused = |held: gatekey::KeyId| {
            let refused = assert_unwritten(&store.engine, || try_issue(store, "acme", "user"));
            match refused {
                Err(Error::Conflict(Conflict::OwnerHasKey { owner, key })) => {
                    assert_eq!((owner.as_str(), key), ("user", held));
                }
                other => panic!("{other:?}"),
            }
        };
        assert_refused(first.key.id);
        // What may be good again is held still.
        store.engine.disable(first.key.id).unwrap();
        assert_refused(first.key.id);
        store.engine.enable(first.key.id).unwrap();
        store.engine.suspend("user", None).unwrap();
        assert_refused(first.key.id);
        store.engine.resume("user").unwrap();
        assert_eq!(store.verdict(first.token.expose()), "granted");

        // What is over for good is not.
        store
            .engine
            .revoke(first.key.id, Reason::Cessation)
            .unwrap();
        let mortal = new("acme", "user").expires_in(DAY);
        let second = store.engine.issue(mortal).unwrap();
        assert_refused(second.key.id);
        store.clock.advance(DAY);
        let third = store.issue("acme", "user");
        assert_refused(third.key.id);
        assert_eq!(store.verdict(second.token.expose()), "expired");
        assert_eq!(store.verdict(third.token.expose()), "granted");
        assert_eq!(store.issue("acme", "user/2").key.state, KeyState::Active);
    });
}

#[test]
fn an_owner_does_not_stand_twice_in_a_batch_for_a_single_active_keyspace() {
    everywhere(|store| {
        for (prefix, policy) in [
            ("superseding", KeysPerOwner::SingleSuperseding),
            ("refusing", KeysPerOwner::SingleRefusing),
        ] {
            limited(store, prefix, policy);
            let held = store.issue(prefix, "b");
            let batch = vec![new(prefix, "a"), new(prefix, "c"), new(prefix, "a")];
            match assert_unwritten(&store.engine, || store.engine.issue_batch(batch)) {
                Err(Error::Batch { index: 2, source }) => {
                    assert!(matches!(*source, Error::Invalid(Invalid::Duplicate { .. })));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(store.verdict(held.token.expose()), "granted");
        }
        // The same owner in two keyspaces is another matter.
        let batch = vec![new("superseding", "a"), new("refusing", "a")];
        assert_eq!(store.engine.issue_batch(batch).unwrap().len(), 2);
    });
}

#[test]
fn a_cap_counts_what_an_owner_holds_and_nothing_else() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::Many { cap: Some(2) });
        let assert_full = || {
            let refused = assert_unwritten(&store.engine, || try_issue(store, "acme", "a"));
            match refused {
                Err(Error::Conflict(Conflict::OwnerAtCap { owner, held, cap })) => {
                    assert_eq!((owner.as_str(), held, cap), ("a", 2, 2));
                }
                other => panic!("{other:?}"),
            }
        };
        let first = store.issue("acme", "a");
        let mortal = new("acme", "a").expires_in(DAY);
        store.engine.issue(mortal).unwrap();
        assert_full();
        store.issue("acme", "a/b");
        store.issue("acme", "ab");
        store.engine.disable(first.key.id).unwrap();
        assert_full();
        store.engine.enable(first.key.id).unwrap();
        store.engine.suspend("a", None).unwrap();
        assert_full();
        store.engine.resume("a").unwrap();

        // A rotation adds none: a key in its grace counts as one with its successor, and
        // for itself where that is revoked.
        let grace = Rotation::with_grace(DAY * 9);
        let rotated = store.engine.rotate(first.key.id, grace).unwrap();
        assert_full();
        store
            .engine
            .revoke(rotated.key.id, Reason::Cessation)
            .unwrap();
        assert_eq!(store.verdict(first.token.expose()), "granted");
        assert_full();
        store
            .engine
            .revoke(first.key.id, Reason::Cessation)
            .unwrap();
        store.issue("acme", "a");
        assert_full();
        // What has expired does not count.
        store.clock.advance(DAY);
        store.issue("acme", "a");
        assert_full();
    });
}

#[test]
fn a_cap_holds_within_a_batch() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::Many { cap: Some(3) });
        store.issue("acme", "a");
        let batch =
            |owners: &[&str]| -> Vec<_> { owners.iter().map(|owner| new("acme", owner)).collect() };
        let over = batch(&["a", "b", "a", "b", "a"]);
        match assert_unwritten(&store.engine, || store.engine.issue_batch(over)) {
            Err(Error::Batch { index: 4, source }) => assert!(matches!(
                *source,
                Error::Conflict(Conflict::OwnerAtCap {
                    held: 3,
                    cap: 3,
                    ..
                })
            )),
            other => panic!("{other:?}"),
        }
        let fits = batch(&["a", "b", "a", "b", "b"]);
        assert_eq!(store.engine.issue_batch(fits).unwrap().len(), 5);
        for owner in ["a", "b"] {
            assert!(matches!(
                try_issue(store, "acme", owner),
                Err(Error::Conflict(Conflict::OwnerAtCap { held: 3, .. }))
            ));
        }
    });
}
