//! Invariants checked, for any bytes alone and in the place of a token's parts:
//! - verifying them does not panic and gives no error, grants them only if they
//!   are the one token there is, and says the same whether the key is resident;
//! - what parses prints, and what it prints parses to the same.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::LazyLock;

use super::image::Image;
use crate::proof::open_on;
use crate::{
    Cursor, Engine, KeyFilter, KeyId, Network, NewKey, NewKeyspace, Options, OwnerPath, Prefix,
    Reason, Timestamp,
};

/// Two engines with the same key, resident in the first, and the key's token.
static STORE: LazyLock<(Engine, Engine, String)> = LazyLock::new(|| {
    let image = Image::default();
    let engine = open_on(Options::new(), image.clone()).unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let token = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap()
        .token;
    let copy = Options::new().resident_bytes(0);
    let copy = open_on(copy, Image::of(image.bytes())).unwrap();
    assert!(engine.verify(token.expose()).unwrap().is_granted());
    (engine, copy, token.expose().to_owned())
});

/// Takes bytes for a token, for each part of one, and for whatever else a client
/// may present as text.
pub fn token(bytes: &[u8]) {
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
    let _ = STORE.0.keys_page(&KeyFilter::new(), cursor.as_ref(), 10);
    let of_owner = KeyFilter::new().owner("a".parse().unwrap());
    let _ = STORE.0.keys_page(&of_owner, cursor.as_ref(), 10);
}

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
