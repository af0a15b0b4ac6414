//! Invariants checked, for any sequence of verbs on a few keys and owners:
//! - no verb panics, and none fails but for its input or the store's state;
//! - a token is granted exactly while its key is active or retiring;
//! - a single-active owner has at most one active and one retiring key;
//! - the store is sound at the end.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use gatekey::{
    Engine, Error, KeyFilter, KeyState, KeyUpdate, ManualClock, NewKey, NewKeyspace, NotFound,
    Options, OwnerPath, Reason, Rotation, Timestamp, Token,
};
use libfuzzer_sys::fuzz_target;

const OWNERS: [&str; 4] = ["a", "a/b", "a/b/c", "ab"];
const KEYSPACES: [&str; 2] = ["one", "many"];

#[derive(Debug, Clone, Copy, Arbitrary)]
#[rustfmt::skip]
enum Verb {
    Issue, IssueLater, IssueShort, Verify, Rotate, RotateAtOnce, Revoke, RevokeToken, RevokeOwner,
    RevokeKeyspace, Disable, Enable, Suspend, Resume, Add, Withdraw, Expire, Purge, Advance,
    StepBack, Flush,
}

fuzz_target!(|plan: (bool, Vec<(Verb, u8, u16)>)| {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_767_225_600_000).unwrap());
    let resident_bytes = if plan.0 { 4096 } else { 0 };
    let options = Options::new().resident_bytes(resident_bytes);
    let engine = options.clock(clock.clone()).open_in_memory().unwrap();
    let [one, many] = KEYSPACES.map(|prefix| NewKeyspace::new(prefix).unwrap());
    engine.create_keyspace(one.single_active()).unwrap();
    engine.create_keyspace(many.permissions(["p"])).unwrap();
    let mut tokens = Vec::new();
    for (verb, at, ms) in plan.1.into_iter().take(32) {
        match step(&engine, &clock, &mut tokens, verb, at.into(), ms) {
            Ok(()) | Err(Error::Invalid(_) | Error::NotFound(_) | Error::Refused(_)) => {}
            Err(error) => panic!("{verb:?}: {error:?}"),
        }
        check_single_active(&engine);
    }
    tokens
        .iter()
        .for_each(|token| check_verdict(&engine, token));
    let report = engine.check().unwrap();
    assert!(report.is_sound(), "{report:#?}");
});

fn step(
    engine: &Engine,
    clock: &ManualClock,
    tokens: &mut Vec<Token>,
    verb: Verb,
    at: usize,
    ms: u16,
) -> Result<(), Error> {
    let time = Duration::from_millis(ms.into());
    let (owner, keyspace) = (OWNERS[at % 4], KEYSPACES[at / 4 % 2]);
    let token = match tokens.len() {
        0 => Err(NotFound::Token),
        count => Ok(&tokens[at % count]),
    };
    let key = || token.clone().map(Token::key_id);
    let new = NewKey::new(keyspace, owner)?;
    match verb {
        Verb::Issue => tokens.push(engine.issue(new)?.token),
        Verb::IssueLater => {
            let later = new.not_before(engine.now().saturating_add(time));
            tokens.push(engine.issue(later)?.token);
        }
        Verb::IssueShort => tokens.push(engine.issue(new.expires_in(time))?.token),
        Verb::Verify => check_verdict(engine, token?),
        Verb::Rotate => tokens.push(engine.rotate(key()?, Rotation::with_grace(time))?.token),
        Verb::RotateAtOnce => tokens.push(engine.rotate(key()?, Rotation::at_once())?.token),
        Verb::Revoke => drop(engine.revoke(key()?, Reason::KeyCompromise)?),
        Verb::RevokeToken => drop(engine.revoke_token(token?.expose(), Reason::Cessation)?),
        Verb::RevokeOwner => _ = engine.revoke_owner(owner, Reason::Superseded)?,
        Verb::RevokeKeyspace => _ = engine.revoke_keyspace(keyspace, Reason::Unspecified)?,
        Verb::Disable => drop(engine.disable(key()?)?),
        Verb::Enable => drop(engine.enable(key()?)?),
        Verb::Suspend => drop(engine.suspend(owner, Some("note"))?),
        Verb::Resume => drop(engine.resume(owner)?),
        Verb::Add => drop(engine.update(key()?, KeyUpdate::new().add_permissions(["p"]))?),
        Verb::Withdraw => {
            drop(engine.update(key()?, KeyUpdate::new().withdraw_permissions(["p"]))?)
        }
        Verb::Expire => drop(engine.update(key()?, KeyUpdate::new().expires_in(time))?),
        Verb::Purge => drop(engine.purge(time)?),
        Verb::Advance => clock.advance(time),
        Verb::StepBack => clock.step_back(time),
        Verb::Flush => engine.flush()?,
    }
    Ok(())
}

fn check_verdict(engine: &Engine, token: &Token) {
    let granted = engine.verify(token.expose()).unwrap().is_granted();
    let state = engine.key(token.key_id()).map(|key| key.state);
    let good = matches!(state, Ok(KeyState::Active | KeyState::Retiring));
    assert_eq!(granted, good, "{state:?}");
}

fn check_single_active(engine: &Engine) {
    let [single, _] = KEYSPACES;
    for owner in OWNERS {
        let owner: OwnerPath = owner.parse().unwrap();
        let filter = KeyFilter::new()
            .keyspace(single.parse().unwrap())
            .owner(owner);
        let keys: Vec<_> = engine.keys(filter).map(|key| key.unwrap().state).collect();
        for state in [KeyState::Active, KeyState::Retiring] {
            assert!(
                keys.iter().filter(|key| **key == state).count() <= 1,
                "{keys:?}"
            );
        }
    }
}
