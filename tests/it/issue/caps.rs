//! Caps count every token that is accepted, at every level of an owner's path.

use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    Conflict, Error, Invalid, Issued, KeyFilter, KeyId, KeyState, KeysPerOwner, KeyspaceUpdate,
    LevelDefaults, NewKey, NewKeyspace, OwnerUpdate, Reason, Rotation,
};

use super::new;
use crate::audit::assert_unwritten;
use crate::common::{DAY, Store, everywhere};

fn capped(cap: u32) -> NewKeyspace {
    let policy = KeysPerOwner::Many { cap: Some(cap) };
    NewKeyspace::new("acme").unwrap().keys_per_owner(policy)
}

fn begin(store: &Store, keyspace: NewKeyspace) {
    store.engine.create_keyspace(keyspace).unwrap();
}

fn issue(store: &Store, owner: &str) -> Result<Issued, Error> {
    store.engine.issue(NewKey::new("acme", owner).unwrap())
}

/// Whose cap refused, what was held, and the cap.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (String, u64, u32) {
    let error = match result.unwrap_err() {
        Error::Batch { source, .. } => *source,
        error => error,
    };
    match error {
        Error::Conflict(Conflict::OwnerAtCap { owner, held, cap }) => {
            (owner.to_string(), held, cap)
        }
        other => panic!("{other:?}"),
    }
}

fn at(owner: &str, held: u64, cap: u32) -> (String, u64, u32) {
    (owner.to_owned(), held, cap)
}

/// How many keys of an owner and of all below it are accepted.
fn accepted(store: &Store, owner: &str) -> usize {
    let of = |state| {
        let filter = KeyFilter::new()
            .owner_and_below(owner.parse().unwrap())
            .state(state);
        store.engine.keys(filter).count()
    };
    of(KeyState::Active) + of(KeyState::Retiring)
}

#[test]
fn issuing_rotating_and_revoking_in_turn_gains_no_tokens() {
    for cap in [1, 2] {
        for strict in [false, true] {
            everywhere(|store| {
                begin(store, capped(cap).count_retiring(strict));
                let most = match strict {
                    true => cap,
                    false => 2 * cap,
                };
                let mut keys: Vec<KeyId> = Vec::new();
                for round in 0..20 {
                    if let Ok(issued) = issue(store, "a") {
                        keys.push(issued.key.id);
                    }
                    for key in keys.clone() {
                        let rotation = Rotation::with_grace(DAY * 300);
                        if let Ok(rotated) = store.engine.rotate(key, rotation) {
                            keys.push(rotated.key.id);
                            let _ = store.engine.revoke(rotated.key.id, Reason::Cessation);
                        }
                    }
                    let accepted = accepted(store, "a");
                    assert!(accepted <= most as usize, "round {round}: {accepted}");
                    store.clock.advance(DAY);
                }
                store.assert_sound();
            });
        }
    }
}

#[test]
fn at_its_cap_an_owner_rotates_with_a_grace_unless_the_keyspace_counts_it() {
    everywhere(|store| {
        begin(store, capped(1));
        let first = issue(store, "a").unwrap();
        let grace = || Rotation::with_grace(DAY);
        let second = store.engine.rotate(first.key.id, grace()).unwrap();
        assert_eq!(refused(issue(store, "a")), at("a", 1, 1));
        assert_eq!(accepted(store, "a"), 2);

        let count = KeyspaceUpdate::new().count_retiring(true);
        store.engine.update_keyspace("acme", count).unwrap();
        // The rotation ends the grace of the first: no more are accepted than before.
        let third = store.engine.rotate(second.key.id, grace()).unwrap();
        assert_eq!(accepted(store, "a"), 2);
        store.clock.advance(DAY);
        let again = || store.engine.rotate(third.key.id, grace());
        match assert_unwritten(&store.engine, again) {
            Err(Error::Conflict(Conflict::NoRoomForGrace {
                key,
                owner,
                held,
                cap,
            })) => {
                assert_eq!((key, owner.as_str()), (third.key.id, "a"));
                assert_eq!((held, cap), (1, 1));
            }
            other => panic!("{other:?}"),
        }
        let at_once = Rotation::at_once();
        store.engine.rotate(third.key.id, at_once).unwrap();
        assert_eq!(accepted(store, "a"), 1);
        // Where there is room for both, both are counted.
        let wider = KeysPerOwner::Many { cap: Some(3) };
        let wider = KeyspaceUpdate::new().keys_per_owner(wider);
        store.engine.update_keyspace("acme", wider).unwrap();
        let other = issue(store, "a").unwrap();
        store.engine.rotate(other.key.id, grace()).unwrap();
        assert_eq!(refused(issue(store, "a")), at("a", 3, 3));
    });
}

#[test]
fn a_single_active_keyspace_that_counts_retiring_keys_has_one_token_an_owner() {
    for policy in [
        KeysPerOwner::SingleSuperseding,
        KeysPerOwner::SingleRefusing,
    ] {
        everywhere(|store| {
            let keyspace = NewKeyspace::new("acme").unwrap().keys_per_owner(policy);
            begin(store, keyspace.count_retiring(true));
            let first = issue(store, "a").unwrap();
            let grace = store.engine.rotate(first.key.id, Rotation::with_grace(DAY));
            assert!(matches!(
                grace,
                Err(Error::Conflict(Conflict::NoRoomForGrace { .. }))
            ));
            store
                .engine
                .rotate(first.key.id, Rotation::at_once())
                .unwrap();
            assert_eq!(
                issue(store, "a").is_ok(),
                policy == KeysPerOwner::SingleSuperseding
            );
            assert_eq!(accepted(store, "a"), 1);
        });
    }
}

#[test]
fn a_grace_longer_than_the_keyspace_allows_is_refused() {
    everywhere(|store| {
        begin(store, NewKeyspace::new("acme").unwrap().max_grace(DAY));
        let key = issue(store, "a").unwrap().key.id;
        let rotate = |grace| store.engine.rotate(key, Rotation::with_grace(grace));
        let long = DAY + Duration::from_millis(1);
        let refused = assert_unwritten(&store.engine, || rotate(long));
        assert!(matches!(
            refused,
            Err(Error::Invalid(Invalid::GraceTooLong { max: DAY, asked, .. })) if asked == long
        ));
        rotate(DAY).unwrap();
        store.reopen();
        let keyspace = store.engine.keyspace("acme").unwrap();
        assert_eq!(
            (keyspace.max_grace, keyspace.count_retiring),
            (Some(DAY), false)
        );
        let free = KeyspaceUpdate::new().max_grace(None);
        assert_eq!(
            store
                .engine
                .update_keyspace("acme", free)
                .unwrap()
                .max_grace,
            None
        );
        let key = issue(store, "b").unwrap().key.id;
        store
            .engine
            .rotate(key, Rotation::with_grace(long))
            .unwrap();
    });
}

#[test]
fn an_owners_cap_bounds_the_keys_of_all_below_it_and_the_lowest_that_refuses_is_told() {
    everywhere(|store| {
        let levels = LevelDefaults::new().cap(2);
        begin(
            store,
            NewKeyspace::new("acme").unwrap().owner_defaults(2, levels),
        );
        let org = || OwnerUpdate::new().cap(5);
        store.engine.update_owner("acme", "org", org()).unwrap();
        for owner in ["org/a/1", "org/a", "org/b/2/3", "org/b"] {
            issue(store, owner).unwrap();
        }
        // Neither another keyspace nor another owner is concerned.
        begin(store, NewKeyspace::new("other").unwrap());
        store.engine.issue(new("other", "org/a")).unwrap();
        issue(store, "organ/a").unwrap();
        assert_eq!(refused(issue(store, "org/a/9")), at("org/a", 2, 2));
        issue(store, "org").unwrap();
        assert_eq!(refused(issue(store, "org/c")), at("org", 5, 5));
        // The lower of two that refuse.
        assert_eq!(refused(issue(store, "org/b/2")), at("org/b", 2, 2));
        // What is disabled or suspended counts, and what is revoked does not.
        store.engine.suspend("org/b", None).unwrap();
        assert_eq!(refused(issue(store, "org")), at("org", 5, 5));
        store
            .engine
            .revoke_owner("org/b", Reason::Cessation)
            .unwrap();
        issue(store, "org").unwrap();
        store.reopen();
        issue(store, "org/c").unwrap();
        assert_eq!(refused(issue(store, "org/c")), at("org", 5, 5));
        // An owner with a cap of its own has that instead of its level's.
        let own = OwnerUpdate::new().cap(3);
        store.engine.update_owner("acme", "org/a", own).unwrap();
        let wider = OwnerUpdate::new().cap(50);
        store.engine.update_owner("acme", "org", wider).unwrap();
        issue(store, "org/a/x").unwrap();
        assert_eq!(refused(issue(store, "org/a/x")), at("org/a", 3, 3));
        store.assert_sound();
    });
}

/// What was revoked counts no more, also where nobody has looked since.
#[test]
fn a_batch_fills_the_room_that_revoked_keys_have_left_and_no_more() {
    everywhere(|store| {
        let levels = LevelDefaults::new().cap(3);
        let keyspace = NewKeyspace::new("acme").unwrap();
        begin(store, keyspace.owner_defaults(1, levels));
        for owner in ["org/a", "org/b"] {
            let key = issue(store, owner).unwrap().key.id;
            store.engine.revoke(key, Reason::Cessation).unwrap();
        }
        let batch = |of: usize| (0..of).map(|_| new("acme", "org/c")).collect::<Vec<_>>();
        let over = || store.engine.issue_batch(batch(4));
        assert_eq!(
            refused(assert_unwritten(&store.engine, over)),
            at("org", 3, 3)
        );
        let issued = store.engine.issue_batch(batch(3)).unwrap();
        assert_eq!(refused(issue(store, "org")), at("org", 3, 3));
        // A line of three keys of which two are over.
        let grace = Rotation::with_grace(DAY);
        let second = store
            .engine
            .rotate(issued[0].key.id, grace.clone())
            .unwrap();
        let third = store.engine.rotate(second.key.id, grace).unwrap();
        for old in [issued[0].key.id, second.key.id, issued[1].key.id] {
            store.engine.revoke(old, Reason::Cessation).unwrap();
        }
        assert_eq!(refused(store.engine.issue_batch(batch(2))), at("org", 3, 3));
        store.engine.issue_batch(batch(1)).unwrap();
        assert_eq!(accepted(store, "org"), 3);
        assert_eq!(store.verdict(third.token.expose()), "granted");
    });
}

/// Keys that a batch supersedes make room only as far as the owner above was not over its
/// cap before.
#[test]
fn a_batch_that_supersedes_keys_of_an_owner_far_over_its_cap_gains_no_room() {
    everywhere(|store| {
        let single = NewKeyspace::new("acme")
            .unwrap()
            .keys_per_owner(KeysPerOwner::SingleSuperseding);
        begin(store, single);
        let owners = ["org/a", "org/b", "org/c", "org/d", "org/e", "org/f"];
        for owner in owners {
            let key = issue(store, owner).unwrap().key.id;
            let grace = Rotation::with_grace(DAY);
            store.engine.rotate(key, grace).unwrap();
        }
        let counts = KeyspaceUpdate::new().count_retiring(true);
        store.engine.update_keyspace("acme", counts).unwrap();
        let held = accepted(store, "org");
        let low = OwnerUpdate::new().cap(3);
        store.engine.update_owner("acme", "org", low).unwrap();
        let batch = owners[..3].iter().copied().chain(["org/new"]);
        let over = batch.map(|owner| new("acme", owner)).collect();
        let refused = refused(store.engine.issue_batch(over));
        assert_eq!((refused.0.as_str(), refused.2), ("org", 3), "{held}");
        assert_eq!(accepted(store, "org"), held);
    });
}

#[test]
fn a_cap_of_an_owner_takes_the_place_of_the_keyspaces() {
    everywhere(|store| {
        begin(store, capped(1));
        issue(store, "a/b").unwrap();
        assert_eq!(refused(issue(store, "a/b")), at("a/b", 1, 1));
        let own = OwnerUpdate::new().cap(2);
        store.engine.update_owner("acme", "a/b", own).unwrap();
        issue(store, "a/b").unwrap();
        assert_eq!(refused(issue(store, "a/b")), at("a/b", 2, 2));
        // What is below counts for it, and has the keyspace's cap as well.
        assert_eq!(refused(issue(store, "a/b/c")), at("a/b", 2, 2));
        issue(store, "a/c").unwrap();
        assert_eq!(refused(issue(store, "a/c")), at("a/c", 1, 1));
    });
}

#[test]
fn a_batch_counts_its_own_keys_at_every_level() {
    everywhere(|store| {
        begin(store, NewKeyspace::new("acme").unwrap());
        let org = OwnerUpdate::new().cap(3);
        store.engine.update_owner("acme", "org", org).unwrap();
        let batch = |owners: &[&str]| -> Vec<NewKey> {
            let new = owners.iter().map(|owner| NewKey::new("acme", *owner));
            new.map(Result::unwrap).collect()
        };
        let many = batch(&["org/a", "x", "org/b/c", "org", "org/d"]);
        let all = assert_unwritten(&store.engine, || store.engine.issue_batch(many));
        assert!(matches!(all, Err(Error::Batch { index: 4, .. })));
        assert_eq!(refused(all), at("org", 3, 3));
        let fits = batch(&["org/a", "x", "org/b/c", "org", "y/z"]);
        store.engine.issue_batch(fits).unwrap();
        assert_eq!(refused(issue(store, "org/a")), at("org", 3, 3));
    });
}

#[test]
fn what_takes_the_place_of_a_key_needs_no_room() {
    everywhere(|store| {
        begin(store, NewKeyspace::new("acme").unwrap().single_active());
        let org = OwnerUpdate::new().cap(2);
        store.engine.update_owner("acme", "org", org).unwrap();
        for owner in ["org/a", "org/b"] {
            issue(store, owner).unwrap();
        }
        assert_eq!(refused(issue(store, "org/c")), at("org", 2, 2));
        for owner in ["org/a", "org/b", "org/a"] {
            issue(store, owner).unwrap();
        }
        // In a batch, too, of which each key replaces one.
        let batch = ["org/a", "org/b"].map(|owner| new("acme", owner));
        store.engine.issue_batch(batch.into()).unwrap();
        assert_eq!(accepted(store, "org"), 2);
        let lower = OwnerUpdate::new().cap(1);
        store.engine.update_owner("acme", "org", lower).unwrap();
        issue(store, "org/a").unwrap();
        assert_eq!(refused(issue(store, "org/c")), at("org", 2, 1));
    });
}

#[test]
fn many_threads_below_one_capped_organisation_end_at_exactly_its_cap() {
    const CAP: u32 = 100;
    let store = Store::new(1 << 20, false);
    begin(&store, NewKeyspace::new("acme").unwrap());
    let org = OwnerUpdate::new().cap(CAP);
    store.engine.update_owner("acme", "org", org).unwrap();
    let start = Barrier::new(64);
    let won: usize = std::thread::scope(|scope| {
        let racer = |thread: usize| {
            let store = &store;
            let start = &start;
            move || {
                start.wait();
                let owner = format!("org/team-{}/bot-{thread}", thread % 7);
                let results = (0..4).map(|_| issue(store, &owner));
                let won = results.filter(|result| match result {
                    Err(Error::Conflict(Conflict::OwnerAtCap { owner, held, cap })) => {
                        assert_eq!((owner.as_str(), *held, *cap), ("org", 100, CAP));
                        false
                    }
                    other => {
                        assert!(other.is_ok(), "{other:?}");
                        true
                    }
                });
                won.count()
            }
        };
        let racers: Vec<_> = (0..64).map(|thread| scope.spawn(racer(thread))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!((won, accepted(&store, "org")), (100, 100));
    store.assert_sound();
}
