//! A damaged record stops nobody but whom it is of, and nothing from being taken away.

use gatekey::{Error, KeyFilter};
use gatekey_oauth::{KeyUse, LIFETIME_MAX};
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::{DAY, HOUR, READ, World, both, error, open_jwts, walk, world};

const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");

/// Flips a bit of the last byte, which is of the tag.
fn flip(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    *record.last_mut().unwrap() ^= 1;
    record
}

/// Damages records of a table of the extension: those of one key, or all.
pub(super) fn damage(txn: &WriteTransaction, table: &str, key: Option<&str>) {
    let name = format!("ext/oauth/{table}");
    let definition = TableDefinition::<&[u8], &[u8]>::new(&name);
    let mut table = txn.open_table(definition).unwrap();
    let found: Vec<(Vec<u8>, Vec<u8>)> = table
        .iter()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
        .filter(|(found, _)| key.is_none_or(|key| found == key.as_bytes()))
        .collect();
    assert!(!found.is_empty());
    for (key, value) in found {
        table
            .insert(key.as_slice(), flip(&value).as_slice())
            .unwrap();
    }
}

/// Damages the record of a key, which is at a place in the order of ids.
fn damage_key(txn: &WriteTransaction, place: usize) {
    let mut table = txn.open_table(KEYS).unwrap();
    let (number, record) = {
        let (number, record) = table.iter().unwrap().nth(place).unwrap().unwrap();
        (number.value(), flip(record.value()))
    };
    table.insert(number, record.as_slice()).unwrap();
}

/// The place of a key in the order of ids.
fn place(w: &World, access: &str) -> usize {
    let key = w.key(access).id;
    let ids = w.engine.keys(KeyFilter::new()).map(|key| key.unwrap().id);
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.iter().position(|id| *id == key).unwrap()
}

/// All that makes records, for another authorization than the damaged one.
fn all_goes_on(w: &World, why: &str) {
    for _ in 0..3 {
        let (access, refresh) = w.tokens();
        assert_eq!(w.verdict(&access), "granted", "{why}");
        w.clock.advance(2 * HOUR);
        let (access, refresh) = both(&w.refresh(&refresh));
        assert_eq!(w.verdict(&access), "granted", "{why}");
        w.clock.advance(2 * HOUR);
        both(&w.refresh(&refresh));
    }
    let service = w.service();
    assert_eq!(w.verdict(&w.serve(&service)), "granted", "{why}");
    let ticket = walk::ticket(&w.server, &w.client);
    assert!(w.server.deny(&ticket, walk::SESSION).unwrap().is_some());
    assert!(w.server.disable_client(&w.client).unwrap().is_some());
}

#[test]
fn a_damaged_record_that_has_ended_stops_nobody() {
    for (number, why) in ["authorization", "key", "form", "ends"].iter().enumerate() {
        let mut w = world();
        let (access, _) = w.tokens();
        let (id, key) = (w.authorization(&access), place(&w, &access));
        match number {
            0 => w.edit(|txn| damage(txn, "authorizations", Some(&id))),
            1 => w.edit(|txn| damage_key(txn, key)),
            2 => {
                // As a newer release would write it.
                let (extension, id) = (w.engine.extension("oauth").unwrap(), id.clone());
                extension
                    .change(move |tx| tx.put("authorizations", id.as_bytes(), 9, b"new"))
                    .unwrap();
            }
            _ => w.edit(|txn| damage(txn, "ends", None)),
        }
        w.clock.advance(40 * DAY);
        all_goes_on(&w, why);
        if number == 2 {
            // It is there still, for the release that knows it.
            let extension = w.engine.extension("oauth").unwrap();
            let found = extension.read(|view| view.get("authorizations", id.as_bytes()));
            assert_eq!(found.unwrap().unwrap().bytes, b"new");
        }
    }
}

#[test]
fn a_client_is_disabled_whatever_is_damaged_of_it() {
    let mut w = world();
    let (one, _) = w.tokens();
    let (other, _) = w.tokens();
    let (third, _) = w.tokens();
    let (id, key) = (w.authorization(&one), place(&w, &other));
    w.edit(|txn| {
        damage(txn, "authorizations", Some(&id));
        damage(txn, "by_client", None);
        damage_key(txn, key);
    });
    assert_eq!(w.verdict(&one), "granted");
    assert!(
        w.server
            .disable_client(&w.client)
            .unwrap()
            .unwrap()
            .disabled
    );
    assert_eq!(
        (w.verdict(&one), w.verdict(&third)),
        ("revoked", "disabled")
    );
    assert_ne!(w.verdict(&other), "granted");
    w.server.enable_client(&w.client).unwrap();
    assert_eq!((w.verdict(&one), w.verdict(&third)), ("revoked", "granted"));
}

#[test]
fn an_authorization_is_revoked_though_its_key_is_damaged() {
    let mut w = world();
    let (access, refresh) = w.tokens();
    let (id, key) = (w.authorization(&access), place(&w, &access));
    w.edit(|txn| damage_key(txn, key));
    assert!(w.server.revoke_authorization(&id).unwrap());
    assert_eq!(error(&w.refresh(&refresh)), "invalid_grant");
}

#[test]
fn a_service_whose_key_is_damaged_gets_another_token() {
    let mut w = world();
    let service = w.service();
    let access = w.serve(&service);
    let key = place(&w, &access);
    w.edit(|txn| damage_key(txn, key));
    let next = w.serve(&service);
    assert_ne!(next, access);
    assert_eq!(w.verdict(&next), "granted");
}

/// Of whichever signing key: the others sign and verify, a rotation makes good what is missing,
/// and a revocation removes the damaged one.
#[test]
fn a_damaged_signing_key_stops_no_other() {
    for usage in [KeyUse::Retired, KeyUse::Next, KeyUse::Current] {
        let mut w = world();
        let jwts = open_jwts(&w.engine);
        jwts.rotate_signing_keys().unwrap();
        let keys = jwts.signing_keys();
        let kid = keys.iter().find(|key| key.usage == usage).unwrap();
        let kid = kid.kid.clone();
        drop(jwts);
        w.edit(|txn| damage(txn, "signing_keys", Some(&kid)));
        let jwts = open_jwts(&w.engine);
        let (access, _) = w.tokens();
        let signs = || {
            let jwt = jwts.exchange(&access, &READ, None).ok()?.unwrap();
            assert!(jwts.verify(jwt.expose(), &READ).unwrap().is_granted());
            Some(jwt)
        };
        assert_eq!(signs().is_some(), usage != KeyUse::Current, "{usage:?}");
        let published = jwts.jwks();
        let signs_now = jwts.rotate_signing_keys().unwrap();
        assert!(signs().is_some(), "{usage:?}");
        // Whoever keeps the keys for a while knows the one that signs now.
        assert!(published.contains(&signs_now), "{usage:?}");
        assert!(jwts.revoke_signing_key(&kid).unwrap());
        assert!(!jwts.revoke_signing_key(&kid).unwrap());
        w.assert_sound();
        assert!(signs().is_some());
    }
}

#[test]
fn rotations_beyond_what_is_published_are_refused_until_retired_keys_go() {
    let w = world();
    let jwts = open_jwts(&w.engine);
    let mut made = 2;
    let refused = loop {
        match jwts.rotate_signing_keys() {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        assert!(made <= 40, "no rotation is refused");
    };
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    assert_eq!((made, jwts.signing_keys().len()), (32, 32));
    w.assert_sound();
    let (access, _) = w.tokens();
    assert!(jwts.exchange(&access, &READ, None).unwrap().is_ok());
    w.clock.advance(LIFETIME_MAX);
    jwts.rotate_signing_keys().unwrap();
    assert_eq!(jwts.signing_keys().len(), 3);
    w.assert_sound();
}

/// However many records stand before it.
#[test]
fn each_signing_key_is_read() {
    let w = world();
    let jwts = open_jwts(&w.engine);
    let kids: Vec<String> = jwts.signing_keys().into_iter().map(|key| key.kid).collect();
    let extension = w.engine.extension("oauth").unwrap();
    extension
        .change(|tx| {
            (0..1200).try_for_each(|number: u32| {
                let name = format!("!{number:04}");
                tx.put("signing_keys", name.as_bytes(), 1, b"{}")
            })
        })
        .unwrap();
    let anew = open_jwts(&w.engine);
    let found: Vec<String> = anew.signing_keys().into_iter().map(|key| key.kid).collect();
    assert_eq!(found, kids);
}
