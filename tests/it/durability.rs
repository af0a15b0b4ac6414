//! What was acknowledged holds: after a reopening, after a crash, and when the
//! clock steps back. What the file was made to say from outside grants nothing.

mod damage;
mod forging;
mod mending;
mod repair;
pub(crate) mod tampering;

use std::fs;
use std::time::Duration;

use gatekey::{
    Conflict, Engine, Error, Expiry, Invalid, Key, KeyFilter, KeyState, KeyUpdate, KeyspaceUpdate,
    NewKey, Reason, Requirements, Revocation, Rotation,
};

use crate::common::{DAY, Store, at, code, everywhere};
use crate::opening::small;

/// All that a store says of itself, but for the usage, which a reopening writes.
fn all_of(engine: &Engine) -> (Vec<Key>, Vec<gatekey::Keyspace>, Vec<gatekey::AuditEntry>) {
    let keys = engine.keys(KeyFilter::new()).map(|key| {
        let mut key = key.unwrap();
        key.usage = gatekey::Usage::default();
        key
    });
    let audit = engine.audit_page(1, 1000).unwrap().entries;
    (keys.collect(), engine.keyspaces().unwrap(), audit)
}

/// One key in each state, and the verdict on each token, in this order.
const STATES: [&str; 9] = [
    "granted",
    "granted",
    "granted",
    "revoked",
    "revoked",
    "suspended",
    "disabled",
    "not_yet_valid",
    "expired",
];

fn one_in_each_state(store: &Store) -> Vec<String> {
    store.keyspace("acme_live");
    let engine = store.engine.acting_as("alice").unwrap();
    let issue = |owner: &str| store.issue("acme_live", owner);
    let good = issue("acme");
    let rotated = issue("acme/rotated");
    let new = engine
        .rotate(rotated.key.id, Rotation::with_grace(10 * DAY))
        .unwrap();
    let revoked = issue("acme/revoked");
    let leaked = Revocation::new(Reason::KeyCompromise).note("seen in public");
    engine.revoke(revoked.key.id, leaked).unwrap();
    let out_of_grace = issue("acme/graceless");
    let grace = Duration::from_secs(1);
    engine
        .rotate(out_of_grace.key.id, Rotation::with_grace(grace))
        .unwrap();
    let suspended = issue("other/suspended");
    engine.suspend("other", Some("unpaid")).unwrap();
    let disabled = issue("acme/disabled");
    engine.disable(disabled.key.id).unwrap();
    let new_key = || NewKey::new("acme_live", "acme/timed").unwrap();
    let later = engine.issue(new_key().not_before(at(86_400_000))).unwrap();
    let over = engine.issue(new_key().expires_in(grace)).unwrap();
    store.clock.advance(grace);
    [
        good.token,
        rotated.token,
        new.token,
        revoked.token,
        out_of_grace.token,
        suspended.token,
        disabled.token,
        later.token,
        over.token,
    ]
    .map(|token| token.expose().to_owned())
    .to_vec()
}

fn verdicts(engine: &Engine, tokens: &[String]) -> Vec<&'static str> {
    let verdict = |token: &String| code(&engine.verify(token).unwrap());
    tokens.iter().map(verdict).collect()
}

#[test]
fn a_key_in_each_state_is_the_same_after_a_reopening() {
    everywhere(|store| {
        let tokens = one_in_each_state(store);
        assert_eq!(verdicts(&store.engine, &tokens), STATES);
        let before = all_of(&store.engine);
        for _ in 0..3 {
            store.reopen();
            assert_eq!(verdicts(&store.engine, &tokens), STATES);
            assert!(all_of(&store.engine) == before);
            store.assert_sound();
        }
    });
}

#[test]
fn every_change_is_durable_when_its_call_returns() {
    let store = Store::new(1 << 20, true);
    let mut tokens = Vec::new();
    let engine = &store.engine;
    let path = store.path.as_ref().unwrap();
    let crash = store.dir().join("crashed.redb");
    // What a crash at this instant would leave is what a copy holds.
    let assert_durable = |what: &str, tokens: &[String]| {
        fs::copy(path, &crash).unwrap();
        let options = small().clock(store.clock.clone());
        let after = options.open(&crash).unwrap();
        assert!(all_of(&after) == all_of(engine), "{what}");
        assert_eq!(verdicts(&after, tokens), verdicts(engine, tokens), "{what}");
        let report = after.check().unwrap();
        assert!(report.is_sound(), "{what}: {report:#?}");
    };
    let keep = |tokens: &mut Vec<String>, token: &gatekey::Token| {
        tokens.push(token.expose().to_owned());
    };
    store.keyspace("acme_live");
    assert_durable("create_keyspace", &tokens);
    let update = KeyspaceUpdate::new().add_permissions(["admin"]);
    engine.update_keyspace("acme_live", update).unwrap();
    assert_durable("update_keyspace", &tokens);
    let issued = store.issue("acme_live", "acme");
    keep(&mut tokens, &issued.token);
    assert_durable("issue", &tokens);
    let batch = vec![NewKey::new("acme_live", "acme/batch").unwrap(); 100];
    for issued in engine.issue_batch(batch).unwrap() {
        keep(&mut tokens, &issued.token);
    }
    assert_durable("issue_batch", &tokens);
    let rotated = engine
        .rotate(issued.key.id, Rotation::with_grace(DAY))
        .unwrap();
    keep(&mut tokens, &rotated.token);
    assert_durable("rotate", &tokens);
    engine
        .update(rotated.key.id, KeyUpdate::new().set_permissions(["admin"]))
        .unwrap();
    assert_durable("update", &tokens);
    engine.disable(rotated.key.id).unwrap();
    assert_durable("disable", &tokens);
    engine.enable(rotated.key.id).unwrap();
    assert_durable("enable", &tokens);
    engine.suspend("acme", None).unwrap();
    assert_durable("suspend", &tokens);
    engine.resume("acme").unwrap();
    assert_durable("resume", &tokens);
    engine
        .revoke(rotated.key.id, Reason::KeyCompromise)
        .unwrap();
    assert_durable("revoke", &tokens);
    engine
        .revoke_token(&tokens[5], Reason::KeyCompromise)
        .unwrap();
    assert_durable("revoke_token", &tokens);
    engine
        .revoke_owner("acme/batch", Reason::Cessation)
        .unwrap();
    assert_durable("revoke_owner", &tokens);
    engine
        .revoke_keyspace("acme_live", Reason::Cessation)
        .unwrap();
    assert_durable("revoke_keyspace", &tokens);
    store.clock.advance(DAY);
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 102);
    assert_durable("purge", &tokens);
}

#[test]
fn a_clock_that_steps_back_revives_nothing() {
    everywhere(|store| {
        let tokens = one_in_each_state(store);
        // Any change makes the present durable.
        let witness = store.issue("acme_live", "witness");
        let committed = store.engine.now();
        for _ in 0..2 {
            store.clock.set(at(0));
            assert_eq!(verdicts(&store.engine, &tokens), STATES);
            store.clock.step_back(1000 * DAY);
            assert_eq!(verdicts(&store.engine, &tokens), STATES);
            assert_eq!(store.engine.now(), committed);
            assert_eq!(store.verdict(witness.token.expose()), "granted");
            store.reopen();
        }
        // Changes count from the same present.
        let stale = NewKey::new("acme_live", "acme")
            .unwrap()
            .expires_at(committed);
        assert!(matches!(
            store.engine.issue(stale),
            Err(Error::Invalid(Invalid::ExpiryInPast { now, .. })) if now == committed
        ));
        let fresh = store.issue("acme_live", "acme");
        assert_eq!(fresh.key.created_at, committed);
        let expired = store.engine.keys(KeyFilter::new().state(KeyState::Expired));
        let expired: Vec<_> = expired.map(|key| key.unwrap().id).collect();
        assert_eq!(expired.len(), 1);
        assert!(matches!(
            store
                .engine
                .update(expired[0], KeyUpdate::new().expiry(Expiry::Never)),
            Err(Error::Conflict(Conflict::Expired { .. }))
        ));
        assert_eq!(store.engine.purge(DAY).unwrap().keys, 0);
        let last = store.engine.audit_page(1, 1000).unwrap().entries;
        assert!(last.is_sorted_by_key(|entry| entry.at));
    });
}

#[test]
fn usage_that_is_written_makes_the_present_durable_too() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let short = NewKey::new("acme_live", "acme").unwrap().expires_in(DAY);
        let short = store.engine.issue(short).unwrap();
        let long = store.issue("acme_live", "acme");
        store.clock.advance(DAY);
        assert_eq!(store.verdict(short.token.expose()), "expired");
        assert_eq!(store.verdict(long.token.expose()), "granted");
        store.engine.flush().unwrap();
        store.clock.step_back(DAY);
        assert_eq!(store.verdict(short.token.expose()), "expired");
        store.reopen();
        assert_eq!(store.verdict(short.token.expose()), "expired");
    });
}

#[test]
fn what_was_seen_to_be_expired_stays_expired_while_the_engine_is_open() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let new = NewKey::new("acme_live", "acme").unwrap().expires_in(DAY);
        let issued = store.engine.issue(new).unwrap();
        store.clock.advance(DAY);
        assert_eq!(store.verdict(issued.token.expose()), "expired");
        // Nothing was committed since.
        store.clock.step_back(Duration::from_millis(1));
        assert_eq!(store.verdict(issued.token.expose()), "expired");
    });
}

#[test]
fn a_token_of_a_keyspace_is_still_bound_to_it_after_a_reopening() {
    everywhere(|store| {
        for at in 0..20 {
            store.keyspace(&format!("space_{at}"));
        }
        let issued = store.issue("space_13", "acme");
        store.reopen();
        for at in 0..20 {
            let prefix = format!("space_{at}").parse().unwrap();
            let asked = Requirements::new().keyspace(prefix);
            let verdict = store
                .engine
                .verify_with(issued.token.expose(), &asked)
                .unwrap();
            assert_eq!(verdict.is_granted(), at == 13, "space_{at}");
        }
        let grant = store.engine.verify(issued.token.expose()).unwrap();
        assert_eq!(grant.grant().unwrap().keyspace().as_str(), "space_13");
    });
}
