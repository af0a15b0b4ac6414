//! What has gone wrong in other systems: a test for each that could go wrong
//! here, named by where it did. What races is in `threads.rs` at large.

mod names;
mod source;

use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    Conflict, Denial, Error, Expiry, Invalid, KeyFilter, KeyState, KeyUpdate, KeysPerOwner,
    KeyspaceUpdate, NewKey, NewKeyspace, NotFound, Options, Pepper, Reason, Revocation, Rotation,
    Timestamp,
};

use crate::common::{DAY, Store, at, everywhere};
use crate::vectors::{Parts, another};

/// A token that was deleted was served from a cache for days: CVE-2026-46554.
#[test]
fn a_key_that_is_in_memory_is_refused_as_soon_as_it_is_gone() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let (revoked, purged) = (store.issue("acme_live", "a"), store.issue("acme_live", "b"));
        for _ in 0..10 {
            assert_eq!(store.verdict(revoked.token.expose()), "granted");
            assert_eq!(store.verdict(purged.token.expose()), "granted");
        }
        for issued in [&revoked, &purged] {
            store
                .engine
                .revoke(issued.key.id, Reason::KeyCompromise)
                .unwrap();
            assert_eq!(store.verdict(issued.token.expose()), "revoked");
        }
        store.clock.advance(Duration::from_millis(1));
        assert_eq!(store.engine.purge(Duration::ZERO).unwrap().keys, 2);
        assert_eq!(store.verdict(revoked.token.expose()), "unknown");
        assert_eq!(store.verdict(purged.token.expose()), "unknown");
    });
}

/// A request that was under way restored what was deleted meanwhile:
/// CVE-2025-46336. What a verification notes for later must not.
#[test]
fn what_was_noted_of_a_key_before_it_was_purged_does_not_bring_it_back() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        store
            .engine
            .revoke(issued.key.id, Reason::KeyCompromise)
            .unwrap();
        store.clock.advance(Duration::from_millis(1));
        assert_eq!(store.engine.purge(Duration::ZERO).unwrap().keys, 1);
        store.engine.flush().unwrap();
        store.reopen();
        assert_eq!(store.verdict(issued.token.expose()), "unknown");
        assert!(matches!(
            store.engine.key(issued.key.id),
            Err(Error::NotFound(NotFound::Key(_)))
        ));
    });
}

/// The same, for a digest that is to be renewed under a new pepper.
#[test]
fn a_digest_noted_for_renewal_does_not_revive_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let open = |ids: &[u8]| {
        let options = Options::new().resident_bytes(1 << 20).usage_interval(None);
        let pepper = |id: &u8| Pepper::new(*id, [*id; 32]).unwrap();
        let options = ids.iter().map(pepper).fold(options, Options::pepper);
        options.open_or_create(&path).unwrap()
    };
    let engine = open(&[1]);
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let issue = || {
        engine
            .issue(NewKey::new("acme_live", "acme").unwrap())
            .unwrap()
    };
    let (revoked, disabled) = (issue(), issue());
    engine.close().unwrap();

    let engine = open(&[1, 2]);
    for issued in [&revoked, &disabled] {
        assert!(engine.verify(issued.token.expose()).unwrap().is_granted());
    }
    let why = Revocation::new(Reason::KeyCompromise).note("seen in public");
    let revocation = engine.revoke(revoked.key.id, why).unwrap();
    engine.disable(disabled.key.id).unwrap();
    engine.flush().unwrap();
    let kept = engine.key(revoked.key.id).unwrap().revoked;
    assert_eq!(kept, Some(revocation), "with its note");
    let denial = |token: &str| engine.verify(token).unwrap().into_result().unwrap_err();
    assert!(matches!(
        denial(revoked.token.expose()),
        Denial::Revoked { .. }
    ));
    assert!(matches!(
        denial(disabled.token.expose()),
        Denial::Disabled { .. }
    ));
    assert!(engine.check().unwrap().is_sound());
}

/// Random delays, which were to hide it, leaked whether a key was valid:
/// CVE-2026-23996. The answers to an unknown id and to a wrong secret are the
/// same, whatever the state of the key.
#[test]
fn an_unknown_id_and_a_wrong_secret_give_the_same_answer() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let good = store.issue("acme_live", "acme");
        let revoked = store.issue("acme_live", "acme");
        let disabled = store.issue("acme_live", "acme");
        let suspended = store.issue("acme_live", "other");
        store
            .engine
            .revoke(revoked.key.id, Reason::Cessation)
            .unwrap();
        store.engine.disable(disabled.key.id).unwrap();
        store.engine.suspend("other", None).unwrap();
        for issued in [&good, &revoked, &disabled, &suspended] {
            store.verdict(issued.token.expose());
            let right = Parts::of(issued.token.expose());
            let mut wrong_secret = right.clone();
            let first = wrong_secret.secret.remove(0);
            wrong_secret.secret.insert(0, another(first));
            let mut unknown_id = right.clone();
            unknown_id.id = "zzzzzzzzzz".to_owned();
            for parts in [wrong_secret, unknown_id] {
                let denial = store.denial(&parts.join());
                assert_eq!(denial, Denial::Unknown);
                assert_eq!(denial.key_id(), None);
            }
        }
    });
}

/// What may be used once was used twice by two at a time, since it was looked
/// at first and taken after: CVE-2026-22751.
#[test]
fn a_key_rotated_by_many_at_a_time_is_replaced_once() {
    for grace in [Duration::ZERO, DAY] {
        let store = Store::new(1 << 20, true);
        store.keyspace("acme_live");
        let key = store.issue("acme_live", "acme").key.id;
        let start = Barrier::new(8);
        let results: Vec<_> = std::thread::scope(|scope| {
            let rotate = || {
                start.wait();
                store.engine.rotate(key, Rotation::with_grace(grace))
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(rotate)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for error in results.into_iter().filter_map(Result::err) {
            assert!(
                matches!(
                    error,
                    Error::Conflict(Conflict::Revoked { .. } | Conflict::AlreadyRotated { .. })
                ),
                "{error:?}"
            );
        }
        let successors = store.engine.keys(KeyFilter::new());
        let successors =
            successors.filter(|found| found.as_ref().unwrap().predecessor == Some(key));
        assert_eq!(successors.count(), 1);
        store.assert_sound();
    }
}

/// A cap on keys was raced past: pterodactyl#5620. Here by the ways that do not
/// look like an issue: a rotation, an enabling, a resumption, a batch.
#[test]
fn no_way_around_an_issue_leads_past_the_cap() {
    everywhere(|store| {
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        let keyspace = keyspace.keys_per_owner(KeysPerOwner::Many { cap: Some(2) });
        store.engine.create_keyspace(keyspace).unwrap();
        let new = || NewKey::new("acme_live", "acme").unwrap();
        let at_cap = |result: Result<(), Error>| {
            let error = match result.unwrap_err() {
                Error::Batch { source, .. } => *source,
                error => error,
            };
            assert!(
                matches!(
                    error,
                    Error::Conflict(Conflict::OwnerAtCap {
                        held: 2,
                        cap: 2,
                        ..
                    })
                ),
                "{error:?}"
            );
        };
        at_cap(store.engine.issue_batch(vec![new(); 3]).map(drop));
        let first = store.engine.issue(new()).unwrap().key.id;
        at_cap(store.engine.issue_batch(vec![new(); 2]).map(drop));
        let second = store.engine.issue(new()).unwrap().key.id;
        // Neither a disabled nor a suspended key makes room for another, which
        // would be one too many when it comes back.
        store.engine.disable(first).unwrap();
        at_cap(store.engine.issue(new()).map(drop));
        store.engine.enable(first).unwrap();
        store.engine.suspend("acme", None).unwrap();
        at_cap(store.engine.issue(new()).map(drop));
        store.engine.resume("acme").unwrap();
        let rotated = store
            .engine
            .rotate(second, Rotation::with_grace(DAY))
            .unwrap();
        at_cap(store.engine.issue(new()).map(drop));
        store
            .engine
            .revoke(rotated.key.id, Reason::Cessation)
            .unwrap();
        // The key in its grace is accepted still, and counts.
        at_cap(store.engine.issue(new()).map(drop));
        store.engine.revoke(second, Reason::Cessation).unwrap();
        store.engine.issue(new()).unwrap();
        at_cap(store.engine.issue(new()).map(drop));
        let active = KeyFilter::new().state(KeyState::Active);
        assert_eq!(store.engine.keys(active).count(), 2);
    });
}

/// Keys that never expired and could not be revoked: GHSA-fpw6-hrg5-q5x5.
#[test]
fn a_maximum_lifetime_has_no_way_around_and_every_key_can_be_revoked() {
    everywhere(|store| {
        let keyspace = NewKeyspace::new("acme_live").unwrap().max_lifetime(DAY);
        store.engine.create_keyspace(keyspace).unwrap();
        let new = || NewKey::new("acme_live", "acme").unwrap();
        let issued = store.engine.issue(new()).unwrap();
        assert_eq!(issued.key.expires_at, Some(at(86_400_000)));
        let longer = Expiry::After(DAY + Duration::from_millis(1));
        for expiry in [Expiry::Never, longer, Expiry::At(Timestamp::MAX)] {
            let update = KeyUpdate::new().expiry(expiry);
            let rotation = Rotation::with_grace(DAY).changing(update.clone());
            for result in [
                store
                    .engine
                    .issue(new().expiry(expiry))
                    .map(|issued| issued.key),
                store.engine.update(issued.key.id, update),
                store
                    .engine
                    .rotate(issued.key.id, rotation)
                    .map(|rotated| rotated.key),
            ] {
                assert!(
                    matches!(result, Err(Error::Invalid(Invalid::LifetimeTooLong { .. }))),
                    "{result:?}"
                );
            }
        }
        // It counts from the issue: an update does not begin it anew.
        store.clock.advance(DAY / 2);
        let again = KeyUpdate::new().expires_in(DAY);
        assert!(matches!(
            store.engine.update(issued.key.id, again),
            Err(Error::Invalid(Invalid::LifetimeTooLong { .. }))
        ));

        let forever = NewKeyspace::new("forever").unwrap();
        store.engine.create_keyspace(forever).unwrap();
        let key = NewKey::new("forever", "acme").unwrap().never_expires();
        let disabled = store.engine.issue(key.clone()).unwrap();
        store.engine.disable(disabled.key.id).unwrap();
        let suspended = store.engine.issue(key.clone()).unwrap();
        store.engine.suspend("acme", None).unwrap();
        let early = store.engine.issue(key.not_before(Timestamp::MAX)).unwrap();
        for issued in [&disabled, &suspended, &early, &issued] {
            store
                .engine
                .revoke(issued.key.id, Reason::Cessation)
                .unwrap();
            assert_eq!(store.verdict(issued.token.expose()), "revoked");
        }
    });
}

/// An expiry of 0, or a negative one, was taken for none: CVE-2026-44459.
#[test]
fn an_expiry_of_zero_is_never_taken_for_none() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let key = store.issue("acme_live", "acme").key.id;
        assert!(Timestamp::from_unix_seconds(-1).is_err());
        assert!("NaN".parse::<Timestamp>().is_err());
        for expiry in [Expiry::At(Timestamp::MIN), Expiry::After(Duration::ZERO)] {
            let new = NewKey::new("acme_live", "acme").unwrap().expiry(expiry);
            assert!(matches!(
                store.engine.issue(new),
                Err(Error::Invalid(Invalid::ExpiryInPast { .. }))
            ));
            assert!(matches!(
                store.engine.update(key, KeyUpdate::new().expiry(expiry)),
                Err(Error::Invalid(Invalid::ExpiryInPast { .. }))
            ));
        }
        for zero in [Duration::ZERO, Duration::from_nanos(1)] {
            let new = || NewKeyspace::new("zero").unwrap();
            for refused in [
                store.engine.create_keyspace(new().default_lifetime(zero)),
                store.engine.create_keyspace(new().max_lifetime(zero)),
                store
                    .engine
                    .update_keyspace("acme_live", KeyspaceUpdate::new().max_lifetime(zero)),
            ] {
                assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
            }
        }
    });
}
