//! Looking a key up by its token; what a listing, and options, may outlive.

use std::time::Duration;

use gatekey::{
    Engine, Error, KeyFilter, KeyState, NewKey, NewKeyspace, OpenError, Options, Pepper, Reason,
};
use gatekey_testkit::forge::with_wrong_secret;

use crate::common::{DAY, everywhere};

#[test]
fn a_token_finds_its_key_in_every_state_and_nothing_else_does() {
    everywhere(|store| {
        let engine = store.engine.clone();
        store.keyspace("acme");
        store.keyspace("other");
        let issue = |owner: &str| {
            let new = NewKey::new("acme", owner).unwrap().expires_in(DAY);
            engine.issue(new).unwrap()
        };
        let keys = ["a", "b", "c", "d"].map(issue);
        engine.disable(keys[1].key.id).unwrap();
        engine.suspend("c", None).unwrap();
        engine
            .revoke(keys[3].key.id, Reason::KeyCompromise)
            .unwrap();
        let found = |token: &str| engine.find_by_token(token).unwrap();
        let states = || {
            keys.each_ref().map(|issued| {
                let key = found(issued.token.expose()).unwrap();
                assert_eq!(key, engine.key(issued.key.id).unwrap());
                key.state
            })
        };
        let expected = [
            KeyState::Active,
            KeyState::Disabled,
            KeyState::Suspended,
            KeyState::Revoked,
        ];
        assert_eq!(states(), expected);
        store.clock.advance(DAY);
        assert_eq!(states()[0], KeyState::Expired);

        let token = keys[0].token.expose();
        for bad in [
            with_wrong_secret(token),
            with_wrong_secret(keys[3].token.expose()),
            token.replacen(&keys[0].key.id.to_string(), "zzzzzzzzz0", 1),
            token.to_uppercase(),
            format!("{token} "),
            String::new(),
        ] {
            assert_eq!(found(&bad), None, "{bad}");
        }
        // It charges nothing and notes no use.
        engine.flush().unwrap();
        assert_eq!(engine.key(keys[0].key.id).unwrap().usage.count, 0);
        store.clock.advance(DAY);
        engine.purge(Duration::ZERO).unwrap();
        assert_eq!(found(token), None, "it is purged");
    });
}

#[test]
fn a_listing_outlives_the_handle_and_the_thread_that_began_it() {
    let engine = Engine::open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let new = vec![NewKey::new("acme", "acme").unwrap(); 600];
    engine.issue_batch(new).unwrap();
    let keys: Box<dyn Iterator<Item = gatekey::Result<gatekey::Key>> + Send + 'static> = {
        let handle = engine;
        Box::new(handle.keys(KeyFilter::new()))
    };
    let counted = std::thread::spawn(move || keys.map(Result::unwrap).count());
    assert_eq!(counted.join().unwrap(), 600);
}

#[test]
fn options_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let pepper = Pepper::new(1, b"32 bytes from a secret manager..").unwrap();
    let options = Options::new()
        .pepper(pepper)
        .usage_interval(None)
        .resident_bytes(0);
    let first = options.clone().create(&path).unwrap();
    first
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let issued = first.issue(NewKey::new("acme", "acme").unwrap()).unwrap();
    let second = options.clone().open(&path);
    assert!(matches!(
        second,
        Err(Error::Open {
            reason: OpenError::InUse,
            ..
        })
    ));
    first.close().unwrap();
    let again = options.open(&path).unwrap();
    assert!(again.verify(issued.token.expose()).unwrap().is_granted());
}
