//! JWTs on the servers of a fleet.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Freshness, MemoryLog, Settings};
use gatekey::{Denial, Engine, NewKey, NewKeyspace, Options, Pepper, Requirements, Verdict};
use gatekey_oauth::{JwtOptions, Jwts, KeyUse};
use gatekey_testkit::until;

const ISSUER: &str = "https://api.example.com";
const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);

fn two_servers(folder: &std::path::Path) -> [Engine; 2] {
    let log = Arc::new(MemoryLog::new());
    let options = || Options::new().pepper(Pepper::new(1, [7; 32]).unwrap());
    let of_fleet = |node: &str| {
        // Long enough that neither is ever late on a busy machine.
        let lease = Freshness::FailClosed(Duration::from_secs(120));
        options().fleet(Settings::new(log.clone(), node).freshness(lease))
    };
    let [one, two] = ["one.redb", "two.redb"].map(|name| folder.join(name));
    options().create(&one).unwrap().close().unwrap();
    let one = of_fleet("one").found_fleet(one).unwrap();
    let new = NewKeyspace::new("acme_live").unwrap().permissions(["read"]);
    one.create_keyspace(new).unwrap();
    [one, of_fleet("two").join_fleet(two).unwrap()]
}

fn granted(jwts: &Jwts, jwt: &str) -> bool {
    match jwts.verify(jwt, &READ).unwrap() {
        Verdict::Granted(_) => true,
        Verdict::Denied(Denial::Unknown) => false,
        Verdict::Denied(denial) => panic!("{denial:?}"),
    }
}

#[test]
fn a_jwt_is_granted_on_every_server_and_on_none_once_its_signing_key_was_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let engines = two_servers(folder.path());
    let jwts = [0, 1].map(|at: usize| {
        let options = JwtOptions::new(ISSUER, ISSUER);
        Jwts::open(&engines[at], options).unwrap()
    });
    let new = NewKey::new("acme_live", "acme").unwrap();
    let key = engines[0].issue(new.permissions(["read"])).unwrap();
    let grant = engines[0].verify(key.token.expose()).unwrap();
    let grant = grant.into_result().unwrap();
    for round in 0..20 {
        // Made and revoked here and there in turns.
        let (here, there) = (&jwts[round % 2], &jwts[(round + 1) % 2]);
        let is_current = |jwts: &Jwts, kid: &str| {
            jwts.signing_keys()
                .iter()
                .any(|key| key.kid == kid && key.usage == KeyUse::Current)
        };
        let current = here
            .signing_keys()
            .into_iter()
            .find(|key| key.usage == KeyUse::Current)
            .unwrap();
        until("both sign with one key", || is_current(there, &current.kid));
        let jwt = here.issue(&grant, None).unwrap();
        until("both grant it", || {
            granted(here, jwt.expose()) && granted(there, jwt.expose())
        });
        // It is remembered now.
        assert!(here.remembered() > 0 && there.remembered() > 0);
        if round % 4 > 1 {
            // One that is retired is removed, and no other record changes.
            there.rotate_signing_keys().unwrap();
        }
        assert!(there.revoke_signing_key(&current.kid).unwrap());
        for jwts in &jwts {
            assert!(!granted(jwts, jwt.expose()), "round {round}");
        }
    }
    for engine in &engines {
        let report = engine.check().unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}
