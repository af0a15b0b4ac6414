//! Invariants checked, for any bytes alone and in the place of a token's parts:
//! - verifying them does not panic and gives no error, grants them only if they
//!   are the one token there is, and says the same whether the key is resident;
//! - what parses prints, and what it prints parses to the same.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;
use std::sync::LazyLock;

use gatekey::{
    Cursor, Engine, KeyFilter, KeyId, Network, NewKey, NewKeyspace, Options, OwnerPath, Prefix,
    Reason, Timestamp,
};
use libfuzzer_sys::fuzz_target;

/// Two engines with the same key, resident in the first, and the key's token.
static STORE: LazyLock<(Engine, Engine, String)> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("gatekey-fuzz-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let engine = Engine::open(dir.join("store")).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let token = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap()
        .token;
    engine.backup(dir.join("copy")).unwrap();
    let copy = Options::new()
        .resident_bytes(0)
        .open(dir.join("copy"))
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(engine.verify(token.expose()).unwrap().is_granted());
    (engine, copy, token.expose().to_owned())
});

fuzz_target!(|bytes: &[u8]| {
    let token = STORE.2.as_bytes();
    let (head, secret) = token.split_at(token.len() - 49);
    let (prefix, rest) = token.split_at("acme_live".len());
    verify(bytes);
    verify(&[head, bytes].concat());
    verify(&[bytes, rest].concat());
    verify(&[prefix, bytes, secret].concat());
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    round_trip::<Prefix>(text);
    round_trip::<KeyId>(text);
    round_trip::<OwnerPath>(text);
    round_trip::<Network>(text);
    assert!(round_trip::<Timestamp>(text).is_none_or(|instant| instant <= Timestamp::MAX));
    // A cursor that comes back from a client may be any.
    let cursor = round_trip::<Cursor>(text);
    let _ = STORE.0.list(&KeyFilter::new(), cursor.as_ref(), 10);
    let _ = STORE.0.list(
        &KeyFilter::new().owner("a".parse().unwrap()),
        cursor.as_ref(),
        10,
    );
});

fn verify(presented: &[u8]) {
    let (engine, copy, token) = &*STORE;
    let verdict = engine.verify(presented).unwrap();
    assert_eq!(verdict.is_granted(), presented == token.as_bytes());
    assert_eq!(verdict, copy.verify(presented).unwrap());
    assert!(verdict.is_granted() || engine.revoke_token(presented, Reason::Cessation).is_err());
}

fn round_trip<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let again = value.to_string().parse().ok();
    assert!(
        again.is_some_and(|again: T| again == value),
        "{text:?} prints as {value}"
    );
    Some(value)
}
