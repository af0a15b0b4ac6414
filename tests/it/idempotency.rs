//! Requests that are asked again under an idempotency key, since their answer was lost.

use std::sync::Barrier;
use std::time::Duration;

use gatekey::{
    AuditEvent, Conflict, Error, Issued, KeyFilter, KeyId, KeyState, KeyUpdate, KeysPerOwner,
    KeyspaceUpdate, NewKey, Options, Quota, Reason, Result, Rotated, Rotation,
};

use crate::audit::{assert_unwritten, last_event};
use crate::common::{DAY, Store, at, everywhere, granted};
use crate::issue::{DAY_MS, limited};

fn new() -> NewKey {
    NewKey::new("acme", "acme/bot")
        .unwrap()
        .permissions(["read"])
}

fn issue(store: &Store, key: &str, new: NewKey) -> Result<Issued> {
    store.engine.idempotent(key).unwrap().issue(new)
}

fn rotate(store: &Store, key: &str, id: KeyId) -> Result<Rotated> {
    let rotation = Rotation::with_grace(DAY * 10);
    store.engine.idempotent(key).unwrap().rotate(id, rotation)
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Conflict {
    match result {
        Err(Error::Conflict(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_issue_asked_again_replaces_the_key_that_nobody_has() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = store.engine.acting_as("alice").unwrap();
        let quota = Quota::new(30);
        let asked = || {
            new()
                .name("bot")
                .label("env", "prod")
                .expires_in(DAY)
                .quota(quota)
        };
        let once = || engine.idempotent("one").unwrap().issue(asked()).unwrap();
        let lost = once();
        store.clock.advance(Duration::from_secs(3600));
        let again = once();
        let reissued = AuditEvent::KeyReissued {
            old: lost.key.id,
            new: again.key.id,
        };
        assert_eq!(last_event(&engine), reissued);
        // All that the first had, and not a millisecond longer.
        let mut expected = lost.key.clone();
        expected.id = again.key.id;
        expected.created_at = at(3_600_000);
        expected.predecessor = Some(lost.key.id);
        assert_eq!(again.key, expected);
        let old = engine.key(lost.key.id).unwrap();
        assert_eq!(old.successor, Some(again.key.id));
        assert_eq!(old.revoked.unwrap().reason, Reason::Superseded);
        let last = once();
        drop(engine);
        store.reopen();
        for token in [&lost.token, &again.token] {
            assert_eq!(store.verdict(token.expose()), "revoked");
        }
        // One quota, however often it was asked.
        assert_eq!(granted(&store.engine, last.token.expose(), 50), 30);
    });
}

#[test]
fn a_key_of_a_repeat_has_no_permission_that_was_retired_meanwhile() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = new().permissions(["read", "write"]);
        let old = store.engine.issue(old).unwrap().key.id;
        let lost = rotate(store, "one", old).unwrap().key;
        let update = KeyspaceUpdate::new().retire_permissions(["write"]);
        store.engine.update_keyspace("acme", update).unwrap();
        let again = rotate(store, "one", old).unwrap().key;
        let names = store.engine.keyspace("acme").unwrap();
        let read = names.mask(["read"]).unwrap();
        assert_eq!(again.permissions, read);
        assert_ne!(lost.permissions, read);
    });
}

#[test]
fn a_rotation_asked_again_leaves_the_old_key_in_its_first_grace() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.engine.issue(new().quota(Quota::new(40))).unwrap();
        let lost = rotate(store, "one", old.key.id).unwrap();
        store.clock.advance(DAY / 2);
        let again = rotate(store, "one", old.key.id).unwrap();
        assert_eq!(again.old.retiring_until, Some(at(10 * DAY_MS)));
        assert_eq!(again.old.successor, Some(again.key.id));
        assert_eq!(again.key.predecessor, Some(old.key.id));
        let over = store.engine.key(lost.key.id).unwrap();
        assert_eq!(over.predecessor, Some(old.key.id));
        assert_eq!(over.successor, Some(again.key.id));
        store.reopen();
        let last = rotate(store, "one", old.key.id).unwrap();
        assert_eq!(store.verdict(again.token.expose()), "revoked");
        let both = [&old.token, &last.token];
        let all: u32 = both
            .map(|token| granted(&store.engine, token.expose(), 30))
            .iter()
            .sum();
        assert_eq!(all, 40, "they share one quota");
        store.clock.set(at(10 * DAY_MS));
        assert_ne!(store.verdict(old.token.expose()), "granted");
    });
}

#[test]
fn a_key_that_may_be_in_use_is_not_replaced_and_the_refusal_names_it() {
    everywhere(|store| {
        store.keyspace("acme");
        type Act = fn(&Store, KeyId, &str);
        let acts: [(&str, Act); 7] = [
            ("used", |store, _, token| {
                assert!(store.engine.verify(token).unwrap().is_granted());
            }),
            ("used and flushed", |store, _, token| {
                assert!(store.engine.verify(token).unwrap().is_granted());
                store.engine.flush().unwrap();
            }),
            ("changed", |store, id, _| {
                let update = KeyUpdate::new().name("mine");
                store.engine.update(id, update).unwrap();
            }),
            ("disabled", |store, id, _| {
                store.engine.disable(id).unwrap();
            }),
            ("revoked", |store, id, _| {
                store.engine.revoke(id, Reason::Cessation).unwrap();
            }),
            ("rotated", |store, id, _| {
                let rotation = Rotation::with_grace(DAY);
                store.engine.rotate(id, rotation).unwrap();
            }),
            ("purged", |store, id, _| {
                store.engine.revoke(id, Reason::Cessation).unwrap();
                store.clock.advance(Duration::from_millis(1));
                store.engine.purge(Duration::ZERO).unwrap();
            }),
        ];
        for (act, does) in acts {
            let named = |verb: &str| format!("{verb} {act}").replace(' ', "-");
            let issued = issue(store, &named("issue"), new()).unwrap();
            does(store, issued.key.id, issued.token.expose());
            let key = issued.key.id;
            let refused = assert_unwritten(&store.engine, || issue(store, &named("issue"), new()));
            assert_eq!(refusal(refused), Conflict::AlreadyAnswered { key }, "{act}");

            let old = store.issue("acme", "acme/old").key.id;
            let rotated = rotate(store, &named("rotate"), old).unwrap();
            does(store, rotated.key.id, rotated.token.expose());
            let key = rotated.key.id;
            let again = || rotate(store, &named("rotate"), old);
            let refused = assert_unwritten(&store.engine, again);
            assert_eq!(refusal(refused), Conflict::AlreadyAnswered { key }, "{act}");
        }
    });
}

#[test]
fn another_request_under_the_same_key_is_refused_and_another_actor_has_its_own() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = issue(store, "one", new()).unwrap();
        for refused in [
            issue(store, "one", new().name("another")).map(drop),
            rotate(store, "one", issued.key.id).map(drop),
        ] {
            assert_eq!(refusal(refused), Conflict::AnotherRequest);
        }
        let alice = store.engine.acting_as("alice").unwrap();
        let other = alice.idempotent("one").unwrap().issue(new()).unwrap();
        assert_eq!(store.verdict(issued.token.expose()), "granted");
        assert_eq!(store.verdict(other.token.expose()), "granted");
        // One that was refused is not remembered.
        let bad = store.engine.idempotent("two").unwrap();
        assert!(bad.issue(new().permissions(["fly"])).is_err());
        bad.issue(new()).unwrap();
        assert!(store.engine.idempotent("a b").is_err());
    });
}

#[test]
fn after_its_window_a_request_is_a_new_one() {
    everywhere(|store| {
        store.keyspace("acme");
        let first = issue(store, "one", new()).unwrap();
        store.clock.advance(DAY - Duration::from_millis(1));
        // The window is not lengthened by asking.
        let second = issue(store, "one", new()).unwrap();
        assert_eq!(store.verdict(first.token.expose()), "revoked");
        store.clock.advance(Duration::from_millis(1));
        let third = issue(store, "one", new().name("another")).unwrap();
        assert_eq!(store.verdict(second.token.expose()), "granted");
        assert_eq!(store.verdict(third.token.expose()), "granted");
    });
}

#[test]
fn a_batch_is_replaced_whole_or_not_at_all() {
    let store = &Store::on_file();
    store.keyspace("acme");
    let ask = || {
        let once = store.engine.idempotent("one").unwrap();
        once.issue_batch(vec![new(); 300])
    };
    let lost = ask().unwrap();
    let again = ask().unwrap();
    assert_eq!(again.len(), 300);
    for (lost, again) in lost.iter().zip(&again) {
        let old = store.engine.key(lost.key.id).unwrap();
        assert_eq!(
            (old.state, old.successor),
            (KeyState::Revoked, Some(again.key.id))
        );
    }
    let used = &again[257];
    assert!(
        store
            .engine
            .verify(used.token.expose())
            .unwrap()
            .is_granted()
    );
    let refused = assert_unwritten(&store.engine, ask);
    let key = used.key.id;
    match refused {
        Err(Error::Batch { index: 257, source }) => {
            let refusal = Conflict::AlreadyAnswered { key };
            assert!(matches!(*source, Error::Conflict(refused) if refused == refusal));
        }
        other => panic!("{:?}", other.map(|issued| issued.len())),
    }
    store.assert_sound();
}

#[test]
fn caps_and_the_single_active_rule_hold_however_often_it_is_asked() {
    everywhere(|store| {
        for (prefix, policy) in [
            ("one", KeysPerOwner::SingleSuperseding),
            ("other", KeysPerOwner::SingleRefusing),
            ("capped", KeysPerOwner::Many { cap: Some(1) }),
        ] {
            limited(store, prefix, policy);
            for _ in 0..4 {
                issue(store, prefix, NewKey::new(prefix, "u").unwrap()).unwrap();
                let active = KeyFilter::new().state(KeyState::Active);
                let active = active.keyspace(prefix.parse().unwrap());
                assert_eq!(store.engine.keys(active).count(), 1);
            }
        }
    });
}

#[test]
fn threads_that_repeat_one_request_end_with_one_live_key() {
    for rotates in [false, true] {
        let store = Store::on_file();
        store.keyspace("acme");
        let old = store.issue("acme", "acme/old").key.id;
        let threads = 64;
        let barrier = Barrier::new(threads);
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                let token = match rotates {
                    true => rotate(&store, "one", old).unwrap().token,
                    false => issue(&store, "one", new()).unwrap().token,
                };
                token.expose().to_owned()
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let live = tokens.iter().filter(|token| {
            let verdict = store.engine.verify(token.as_str()).unwrap();
            verdict.is_granted()
        });
        assert_eq!(live.count(), 1);
        let active = KeyFilter::new().state(KeyState::Active);
        assert_eq!(
            store.engine.keys(active).count(),
            if rotates { 1 } else { 2 }
        );
        store.assert_sound();
    }
}

#[test]
fn an_engine_that_keeps_no_usage_replaces_nothing() {
    let options = Options::new().usage_interval(None);
    let engine = options.open_in_memory().unwrap();
    engine
        .create_keyspace(gatekey::NewKeyspace::new("acme").unwrap())
        .unwrap();
    let once = engine.idempotent("one").unwrap();
    let new = || NewKey::new("acme", "acme").unwrap();
    let key = once.issue(new()).unwrap().key.id;
    assert_eq!(
        refusal(once.issue(new())),
        Conflict::AlreadyAnswered { key }
    );
}
