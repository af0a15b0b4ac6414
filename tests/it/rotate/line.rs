//! From one key to the next, and how many there are of an owner.

use gatekey::{AuditEvent, Conflict, Error, KeyFilter, KeysPerOwner, NewKey, NotFound, Reason};

use super::rotate;
use crate::audit::last_event;
use crate::common::{DAY, Store, at, everywhere};
use crate::issue::{DAY_MS, limited};

/// The states of an owner's keys, in the order of their names.
fn states(store: &Store, owner: &str) -> Vec<String> {
    let filter = KeyFilter::new().owner(owner.parse().unwrap());
    let page = store.engine.keys_page(&filter, None, 100).unwrap();
    let mut states: Vec<_> = page.keys.iter().map(|key| key.state.to_string()).collect();
    states.sort_unstable();
    states
}

#[test]
fn at_most_one_predecessor_retires_and_an_older_one_is_revoked() {
    everywhere(|store| {
        store.keyspace("acme");
        let first = store.issue("acme", "acme");
        let second = rotate(store, first.key.id, DAY * 30);
        store.clock.advance(DAY);
        let third = rotate(store, second.key.id, DAY * 30);
        assert_eq!(
            last_event(&store.engine),
            AuditEvent::KeyRotated {
                old: second.key.id,
                new: third.key.id,
                retiring_until: Some(at(31 * DAY_MS)),
                superseded: vec![first.key.id],
            }
        );
        assert_eq!(store.verdict(first.token.expose()), "revoked");
        assert_eq!(store.verdict(second.token.expose()), "granted");
        assert_eq!(store.verdict(third.token.expose()), "granted");
        let revoked = store.engine.key(first.key.id).unwrap().revoked.unwrap();
        assert_eq!(
            (revoked.at, revoked.reason),
            (at(DAY_MS), Reason::Superseded)
        );
        assert_eq!(states(store, "acme"), ["active", "retiring", "revoked"]);

        // Another key of the owner has a lineage of its own.
        let other = store.issue("acme", "acme");
        rotate(store, other.key.id, DAY);
        assert_eq!(store.verdict(second.token.expose()), "granted");
        assert_eq!(store.verdict(other.token.expose()), "granted");
    });
}

#[test]
fn lineage_is_readable_both_ways_also_after_a_reopen_and_a_purge() {
    everywhere(|store| {
        store.keyspace("acme");
        let mut line = vec![store.issue("acme", "acme").key.id];
        for _ in 0..4 {
            store.clock.advance(DAY);
            line.push(rotate(store, line[line.len() - 1], DAY).key.id);
        }
        let links = |store: &Store, at: usize| {
            let key = store.engine.key(line[at]).unwrap();
            (key.predecessor, key.successor)
        };
        store.reopen();
        assert_eq!(links(store, 0), (None, Some(line[1])));
        for at in 1..4 {
            assert_eq!(links(store, at), (Some(line[at - 1]), Some(line[at + 1])));
        }
        assert_eq!(links(store, 4), (Some(line[3]), None));

        store.clock.advance(DAY * 100);
        assert_eq!(store.engine.purge(DAY).unwrap().keys, 4);
        assert_eq!(links(store, 4), (Some(line[3]), None));
        assert!(matches!(
            store.engine.key(line[3]),
            Err(Error::NotFound(NotFound::Key(_)))
        ));
        // A predecessor that is gone is no hindrance.
        let newest = rotate(store, line[4], DAY).key;
        assert_eq!(newest.predecessor, Some(line[4]));
    });
}

#[test]
fn a_single_active_owner_never_has_two_active_keys_nor_two_retiring() {
    for policy in [
        KeysPerOwner::SingleSuperseding,
        KeysPerOwner::SingleRefusing,
    ] {
        everywhere(|store| {
            limited(store, "acme", policy);
            let first = store.issue("acme", "u");
            let second = rotate(store, first.key.id, DAY);
            assert_eq!(states(store, "u"), ["active", "retiring"]);
            let third = rotate(store, second.key.id, DAY);
            assert_eq!(states(store, "u"), ["active", "retiring", "revoked"]);
            assert_eq!(store.verdict(first.token.expose()), "revoked");

            // A new line of keys beside one that still retires.
            store
                .engine
                .revoke(third.key.id, Reason::Cessation)
                .unwrap();
            assert_eq!(store.verdict(second.token.expose()), "granted");
            let fresh = store.issue("acme", "u");
            let newest = rotate(store, fresh.key.id, DAY);
            assert_eq!(store.verdict(second.token.expose()), "revoked");
            assert_eq!(store.verdict(fresh.token.expose()), "granted");
            assert_eq!(store.verdict(newest.token.expose()), "granted");
            let all = states(store, "u");
            assert_eq!(all, ["active", "retiring", "revoked", "revoked", "revoked"]);
        });
    }
}

#[test]
fn a_key_in_its_grace_leaves_room_for_a_new_one_in_a_refusing_keyspace() {
    everywhere(|store| {
        limited(store, "acme", KeysPerOwner::SingleRefusing);
        let old = store.issue("acme", "u");
        let new = rotate(store, old.key.id, DAY * 9);
        store.engine.revoke(new.key.id, Reason::Cessation).unwrap();
        let fresh = store.issue("acme", "u");
        assert_eq!(store.verdict(old.token.expose()), "granted");
        assert_eq!(store.verdict(fresh.token.expose()), "granted");
        let second = store.engine.issue(NewKey::new("acme", "u").unwrap());
        assert!(matches!(
            second,
            Err(Error::Conflict(Conflict::OwnerHasKey { key, .. })) if key == fresh.key.id
        ));
    });
}
