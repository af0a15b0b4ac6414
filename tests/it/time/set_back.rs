//! What becomes of keys, quotas and limits when time is set back.

use super::{DAY, MINUTE, Store, at};
use crate::common::{everywhere, granted};
use gatekey::{
    AuditEvent, Conflict, Denial, Error, Issued, KeyState, KeyUpdate, KeysPerOwner, Limit, NewKey,
    NewKeyspace, Plan, Quota, Reason, Refill, Rotation, Timestamp,
};

const HOUR_MS: u64 = 3_600_000;

fn far() -> Timestamp {
    "2099-01-01T00:00:00Z".parse().unwrap()
}

fn expiring(store: &Store, owner: &str, in_minutes: u32) -> Issued {
    let new = NewKey::new("acme", owner).unwrap();
    store
        .engine
        .issue(new.expires_in(in_minutes * MINUTE))
        .unwrap()
}

/// A commit, by which the present becomes durable.
fn commit(store: &Store) {
    store.issue("other", "witness");
}

fn begin(store: &Store, keyspace: NewKeyspace) {
    store.keyspace("other");
    store.engine.create_keyspace(keyspace).unwrap();
}

fn plain() -> NewKeyspace {
    NewKeyspace::new("acme").unwrap()
}

/// Lets the clock be right again, a minute after the start, and sets time back to it.
fn correct(store: &Store) -> gatekey::TimeSetBack {
    store.clock.set(at(60_000));
    let set_back = store
        .engine
        .acting_as("ops")
        .unwrap()
        .set_time_back(at(0))
        .unwrap();
    assert_eq!(set_back.to, at(60_000), "the clock's, which is later");
    store.assert_sound();
    set_back
}

#[test]
fn keys_that_a_wrong_instant_ended_are_good_again_also_after_a_reopen() {
    for leap in [at(HOUR_MS), far()] {
        for resident_bytes in [0, 1 << 16] {
            let store = &mut Store::new(resident_bytes, true);
            begin(store, plain());
            let expires = expiring(store, "acme", 30);
            let rotated = store.issue("other", "rotated");
            let rotation = Rotation::with_grace(30 * MINUTE);
            store.engine.rotate(rotated.key.id, rotation).unwrap();
            let never = store.issue("other", "never");
            let tokens = [&expires.token, &rotated.token].map(|token| token.expose());

            store.clock.set(leap);
            assert_eq!(
                tokens.map(|token| store.verdict(token)),
                ["expired", "revoked"]
            );
            commit(store);
            store.clock.set(at(60_000));
            store.reopen();
            assert_eq!(
                tokens.map(|token| store.verdict(token)),
                ["expired", "revoked"]
            );

            let set_back = correct(store);
            assert_eq!((set_back.from, set_back.revived), (leap, 2));
            assert_eq!((set_back.superseded, set_back.shortened), (0, 0));
            for _ in 0..2 {
                assert_eq!(store.engine.now(), at(60_000));
                assert_eq!(tokens.map(|token| store.verdict(token)), ["granted"; 2]);
                assert_eq!(store.verdict(never.token.expose()), "granted");
                store.reopen();
            }
            let last = store
                .engine
                .audit_page(1, 100)
                .unwrap()
                .entries
                .pop()
                .unwrap();
            assert_eq!((last.at, last.actor.as_deref()), (at(60_000), Some("ops")));
            assert_eq!(
                last.event,
                AuditEvent::TimeSetBack {
                    from: leap,
                    to: at(60_000),
                    revived: 2
                }
            );
            // They end when they always would have.
            store.clock.set(at(30 * 60_000));
            assert_eq!(
                tokens.map(|token| store.verdict(token)),
                ["expired", "revoked"]
            );
        }
    }
}

#[test]
fn time_that_was_only_held_in_memory_is_set_back_too() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain());
    let issued = expiring(&store, "acme", 30);
    store.clock.set(far());
    assert_eq!(store.verdict(issued.token.expose()), "expired");
    store.clock.set(at(60_000));
    assert_eq!(store.verdict(issued.token.expose()), "expired");
    assert_eq!(correct(&store).revived, 1);
    assert_eq!(store.verdict(issued.token.expose()), "granted");
}

#[test]
fn time_is_not_set_back_to_where_it_is_nor_past_what_the_caller_says() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain());
    let short = expiring(&store, "acme", 30);
    let refused = |to| {
        matches!(
            store.engine.set_time_back(to),
            Err(Error::Conflict(Conflict::TimeNotAhead { now, to }))
                if now == store.engine.now() && to >= now
        )
    };
    assert!(refused(at(0)));
    store.clock.set(at(2 * HOUR_MS));
    commit(&store);
    assert!(refused(at(0)), "the clock is not right yet");
    assert!(refused(at(2 * HOUR_MS)) && refused(at(3 * HOUR_MS)));
    // A clock that stands at 1970 revives no more than the caller says.
    store.clock.set(Timestamp::MIN);
    assert!(refused(at(2 * HOUR_MS)));
    let set_back = store.engine.set_time_back(at(HOUR_MS)).unwrap();
    assert_eq!((set_back.to, set_back.revived), (at(HOUR_MS), 0));
    assert_eq!(store.engine.now(), at(HOUR_MS));
    assert_eq!(store.verdict(short.token.expose()), "expired");
    store.assert_sound();
}

/// A key that an issue found to be over is marked so in the index of its owner.
#[test]
fn a_key_that_is_good_again_counts_among_what_its_owner_holds() {
    let store = Store::new(1 << 16, false);
    let cap = KeysPerOwner::Many { cap: Some(1) };
    begin(&store, plain().keys_per_owner(cap));
    let old = expiring(&store, "acme", 30);
    store.clock.set(at(HOUR_MS));
    let new = store
        .engine
        .issue(NewKey::new("acme", "acme").unwrap())
        .unwrap();
    assert_eq!(correct(&store).revived, 1);
    // Over its cap, which only an issue looks at.
    assert_eq!(store.verdict(old.token.expose()), "granted");
    assert_eq!(store.verdict(new.token.expose()), "granted");
    assert!(matches!(
        store.engine.issue(NewKey::new("acme", "acme").unwrap()),
        Err(Error::Conflict(Conflict::OwnerAtCap { held: 2, .. }))
    ));
}

#[test]
fn of_two_keys_in_a_single_active_keyspace_the_newer_stays() {
    for keys_per_owner in [
        KeysPerOwner::SingleSuperseding,
        KeysPerOwner::SingleRefusing,
    ] {
        everywhere(|store| {
            begin(store, plain().keys_per_owner(keys_per_owner));
            let old = expiring(store, "acme", 30);
            let alone = expiring(store, "alone", 30);
            store.clock.set(at(HOUR_MS));
            // In use when time is set back, or over by then as well.
            let second = expiring(store, "acme", 30);
            store.clock.set(at(2 * HOUR_MS));
            let third = expiring(store, "acme", 600);
            let set_back = correct(store);
            assert_eq!((set_back.revived, set_back.superseded), (3, 2));
            for (issued, state) in [(&old, "revoked"), (&second, "revoked"), (&third, "granted")] {
                assert_eq!(store.verdict(issued.token.expose()), state);
            }
            assert_eq!(store.verdict(alone.token.expose()), "granted");
            let denial = store.denial(old.token.expose());
            assert!(matches!(
                denial,
                Denial::Revoked { reason: Reason::Superseded, at: when, .. } if when == at(60_000)
            ));
            let revoked = store.engine.key(old.key.id).unwrap().revoked.unwrap();
            assert!(revoked.note.is_some() && revoked.by.as_deref() == Some("ops"));
            store.reopen();
            store.assert_sound();
        });
    }
}

#[test]
fn of_keys_that_all_come_back_in_a_single_active_keyspace_the_newest_stays() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain().single_active());
    let keys: Vec<Issued> = (0..3)
        .map(|hour| {
            store.clock.set(at(hour * HOUR_MS));
            expiring(&store, "acme", 30)
        })
        .collect();
    store.clock.set(at(3 * HOUR_MS));
    commit(&store);
    let set_back = correct(&store);
    assert_eq!((set_back.revived, set_back.superseded), (3, 2));
    let verdicts: Vec<_> = keys
        .iter()
        .map(|issued| store.verdict(issued.token.expose()))
        .collect();
    assert_eq!(verdicts, ["revoked", "revoked", "granted"]);
}

#[test]
fn of_two_keys_in_their_grace_the_newer_stays() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain().single_active());
    let first = store
        .engine
        .issue(NewKey::new("acme", "acme").unwrap())
        .unwrap();
    let rotation = || Rotation::with_grace(30 * MINUTE);
    let second = store.engine.rotate(first.key.id, rotation()).unwrap();
    store.clock.set(at(HOUR_MS));
    let third = store.engine.rotate(second.key.id, rotation()).unwrap();
    let set_back = correct(&store);
    assert_eq!((set_back.revived, set_back.superseded), (1, 1));
    assert_eq!(store.verdict(first.token.expose()), "revoked");
    assert_eq!(store.verdict(second.token.expose()), "granted");
    assert_eq!(store.verdict(third.token.expose()), "granted");
}

/// Else a grace of a day that was given in 2099 would last for 73 years.
#[test]
fn what_the_wrong_time_gave_an_end_ends_as_long_after_the_present() {
    everywhere(|store| {
        begin(store, plain().max_lifetime(400 * DAY));
        let engine = store.engine.clone();
        let new = || NewKey::new("acme", "acme").unwrap();
        let before = engine.issue(new().expires_in(300 * DAY)).unwrap();
        let lasting = engine.issue(new().expires_in(300 * DAY)).unwrap();
        let named = engine.issue(new().expires_in(300 * DAY)).unwrap();
        store.clock.set(at(HOUR_MS));
        let issued = engine.issue(new().expires_in(30 * DAY)).unwrap();
        let rotated = engine
            .rotate(before.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let twice = engine.rotate(issued.key.id, Rotation::at_once()).unwrap();
        let update = KeyUpdate::new().expires_in(20 * DAY);
        engine.update(lasting.key.id, update).unwrap();
        let update = KeyUpdate::new().name("what says nothing of its end");
        engine.update(named.key.id, update).unwrap();
        let revoked = engine.issue(new().expires_in(30 * DAY)).unwrap();
        engine
            .revoke(revoked.key.id, Reason::KeyCompromise)
            .unwrap();

        let set_back = correct(store);
        // The one that was rotated with a grace, the successor of the other, and the
        // one that was updated.
        assert_eq!((set_back.revived, set_back.shortened), (0, 3));
        let now = at(60_000);
        let key = |id| engine.key(id).unwrap();
        assert_eq!(
            key(before.key.id).retiring_until,
            Some(now.saturating_add(DAY))
        );
        assert_eq!(key(before.key.id).expires_at, before.key.expires_at);
        assert_eq!(
            key(rotated.key.id).expires_at,
            before.key.expires_at,
            "it was inherited from before"
        );
        let in_30_days = Some(now.saturating_add(30 * DAY));
        assert_eq!(key(twice.key.id).expires_at, in_30_days);
        assert_eq!(
            key(lasting.key.id).expires_at,
            Some(now.saturating_add(20 * DAY))
        );
        assert_eq!(key(named.key.id).expires_at, named.key.expires_at);
        for made in [&issued, &revoked] {
            assert_eq!(key(made.key.id).created_at, now);
        }
        assert_eq!(key(twice.key.id).created_at, now);
        assert_eq!(store.verdict(revoked.token.expose()), "revoked");
        // No update can make of a life that began in the future a longer one.
        let longer = KeyUpdate::new().expires_at(now.saturating_add(400 * DAY + MINUTE));
        assert!(matches!(
            engine.update(twice.key.id, longer),
            Err(Error::Invalid(_))
        ));
        store.clock.set(now.saturating_add(DAY));
        assert_eq!(store.verdict(before.token.expose()), "revoked");
        assert_eq!(store.verdict(rotated.token.expose()), "granted");
    });
}

#[test]
fn what_was_purged_by_the_wrong_time_is_gone() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain());
    let issued = expiring(&store, "acme", 30);
    store.clock.set(far());
    assert_eq!(store.engine.purge(DAY).unwrap().keys, 1);
    assert_eq!(correct(&store).revived, 0);
    assert_eq!(store.verdict(issued.token.expose()), "unknown");
}

#[test]
fn a_quota_that_the_wrong_time_refilled_is_refilled_next_when_it_would_be() {
    let mut store = Store::new(1 << 16, true);
    begin(&store, plain());
    let quota = Quota::new(20).refilled(Refill::Daily);
    let new = NewKey::new("acme", "acme").unwrap().quota(quota);
    let issued = store.engine.issue(new).unwrap();
    let token = issued.token.expose();
    assert_eq!(granted(&store.engine, token, 5), 5);
    store.clock.set(far());
    // Refilled, until the 2nd of January of 2099.
    assert_eq!(granted(&store.engine, token, 25), 20);
    correct(&store);
    let status = store.engine.key(issued.key.id).unwrap().quota.unwrap();
    assert_eq!(status.refills_at, Some(at(24 * HOUR_MS)));
    assert_eq!(granted(&store.engine, token, 5), 0);
    for _ in 0..2 {
        store.clock.advance(DAY);
        assert_eq!(granted(&store.engine, token, 25), 20);
        store.reopen();
    }
}

#[test]
fn limits_begin_anew() {
    let store = Store::new(1 << 16, false);
    let limit = Limit::new(3, MINUTE).unwrap();
    begin(&store, plain().plan(Plan::new("free").limit(limit)));
    let new = NewKey::new("acme", "acme").unwrap().plan("free");
    let issued = store.engine.issue(new).unwrap();
    store.clock.set(at(20 * 60_000));
    assert_eq!(granted(&store.engine, issued.token.expose(), 5), 3);
    commit(&store);
    correct(&store);
    assert_eq!(granted(&store.engine, issued.token.expose(), 5), 3);
}

#[test]
fn a_last_use_in_the_future_gives_way_to_the_next() {
    let store = Store::new(1 << 16, false);
    begin(&store, plain());
    let issued = store.issue("other", "acme");
    store.clock.set(far());
    assert_eq!(store.verdict(issued.token.expose()), "granted");
    store.engine.flush().unwrap();
    correct(&store);
    assert_eq!(store.verdict(issued.token.expose()), "granted");
    store.engine.flush().unwrap();
    let key = store.engine.key(issued.key.id).unwrap();
    assert_eq!(key.usage.last_used, Some(at(60_000)));
    assert_eq!((key.usage.count, key.state), (4, KeyState::Active));
}

#[test]
fn failed_attempts_are_counted_anew() {
    let clock = gatekey::ManualClock::at(at(0));
    let limit = Limit::new(3, MINUTE).unwrap();
    let options = gatekey::Options::new().clock(clock.clone());
    let engine = options.failed_attempts(limit).open_in_memory().unwrap();
    let source = "192.0.2.7".parse().unwrap();
    let from = gatekey::Requirements::new().source(source);
    let fail = || {
        let failed = (0..5).map(|_| engine.verify_with("nothing", &from).unwrap());
        let of = |verdict: gatekey::Verdict| crate::common::code(&verdict).to_owned();
        failed.map(of).filter(|code| code == "malformed").count()
    };
    clock.set(at(20 * 60_000));
    engine.create_keyspace(plain()).unwrap();
    assert_eq!(fail(), 3);
    clock.set(at(60_000));
    assert_eq!(fail(), 0);
    engine.set_time_back(at(0)).unwrap();
    assert_eq!(fail(), 3);
}

#[test]
fn a_request_from_the_future_is_forgotten_and_one_from_before_is_not() {
    everywhere(|store| {
        begin(store, plain());
        let issue = |store: &Store, key: &str| {
            let new = NewKey::new("acme", "acme").unwrap();
            store.engine.idempotent(key).unwrap().issue(new).unwrap()
        };
        let before = issue(store, "before");
        // Within the window of the first.
        store.clock.set(at(HOUR_MS));
        let future = issue(store, "future");
        correct(store);
        store.reopen();
        let again = issue(store, "future");
        assert_eq!(again.key.predecessor, None, "it is a new one");
        assert_eq!(store.verdict(future.token.expose()), "granted");
        let third = issue(store, "future");
        assert_eq!(third.key.predecessor, Some(again.key.id));
        let again = issue(store, "before");
        assert_eq!(again.key.predecessor, Some(before.key.id));
        store.assert_sound();
    });
}
