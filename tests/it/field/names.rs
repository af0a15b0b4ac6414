//! Names that begin alike, names that come back, and names that are printed.

use gatekey::{
    Error, KeyFilter, NewKey, NewKeyspace, NotFound, OwnerPath, Pepper, Reason, Requirements,
    Revocation, Rotation,
};

use crate::common::{DAY, Store, everywhere};
use crate::opening::small;
use crate::vectors::Parts;

/// A right to `/john` was one to `/johnny`: CVE-2026-32716.
#[test]
fn what_is_done_to_an_owner_does_not_reach_one_whose_name_begins_alike() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let inside = ["john", "john/a", "john/a/b"];
        let outside = [
            "johnny", "john.", "john!", "john-a", "john0", "joh", "John", "a/john", "jo/hn",
            "john~/a",
        ];
        let issue = |owner: &&str| store.issue("acme_live", owner);
        let inside: Vec<_> = inside.iter().map(issue).collect();
        let outside: Vec<_> = outside.iter().map(issue).collect();
        let john: OwnerPath = "john".parse().unwrap();
        let assert_states = |expected: &str| {
            for issued in &inside {
                assert_eq!(store.verdict(issued.token.expose()), expected);
            }
            for issued in &outside {
                assert_eq!(store.verdict(issued.token.expose()), "granted");
                let owner = store.engine.owner(issued.key.owner.clone()).unwrap();
                assert!(owner.suspended.is_none() && owner.suspended_above.is_none());
            }
        };
        let below = KeyFilter::new().owner_and_below(john.clone());
        assert_eq!(store.engine.keys(below).count(), 3);
        let exactly = KeyFilter::new().owner(john.clone());
        assert_eq!(store.engine.keys(exactly).count(), 1);
        store.engine.suspend("john", None).unwrap();
        assert_states("suspended");
        let new = store.issue("acme_live", "johnny");
        assert_eq!(store.verdict(new.token.expose()), "granted");
        store.engine.resume("john").unwrap();
        assert_states("granted");
        let many = store.engine.revoke_owner(john, Reason::Cessation).unwrap();
        assert_eq!((many.keys, many.newly), (3, 3));
        assert_states("revoked");
    });
}

/// The same for keyspaces: the prefix of one begins that of another.
#[test]
fn what_is_done_to_a_keyspace_does_not_reach_one_whose_prefix_begins_alike() {
    everywhere(|store| {
        let prefixes = ["acme", "acme_live", "acme_", "acme_live_1", "acme2"];
        let issued: Vec<_> = prefixes
            .iter()
            .map(|prefix| {
                store.keyspace(prefix);
                store.issue(prefix, "owner")
            })
            .collect();
        for issued in &issued {
            for prefix in prefixes {
                let asked = Requirements::new().keyspace(prefix.parse().unwrap());
                let verdict = store
                    .engine
                    .verify_with(issued.token.expose(), &asked)
                    .unwrap();
                let is_its_own = prefix == issued.key.keyspace.as_str();
                assert_eq!(verdict.is_granted(), is_its_own, "{prefix}");
            }
        }
        store
            .engine
            .revoke_keyspace("acme", Reason::Cessation)
            .unwrap();
        for issued in &issued {
            let is_gone = issued.key.keyspace.as_str() == "acme";
            let verdict = store.verdict(issued.token.expose());
            assert_eq!(verdict == "revoked", is_gone, "{:?}", issued.key.keyspace);
        }
    });
}

/// Tidying up dropped revocations, and what was revoked was good again:
/// CVE-2021-29653.
#[test]
fn a_purge_never_makes_a_revoked_token_good_again() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let old = store.issue("acme_live", "acme");
        let new = store
            .engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let by_owner = store.issue("acme_live", "acme/gone");
        store
            .engine
            .revoke_owner("acme/gone", Reason::Cessation)
            .unwrap();
        store.clock.advance(2 * DAY);
        let recent = store.issue("acme_live", "acme");
        store
            .engine
            .revoke(recent.key.id, Reason::KeyCompromise)
            .unwrap();

        assert_eq!(store.engine.purge(DAY / 2).unwrap().keys, 2);
        for _ in 0..2 {
            assert_eq!(store.verdict(old.token.expose()), "unknown");
            assert_eq!(store.verdict(by_owner.token.expose()), "unknown");
            assert_eq!(store.verdict(recent.token.expose()), "revoked");
            assert_eq!(store.verdict(new.token.expose()), "granted");
            store.reopen();
        }
        for issued in [&old, &by_owner] {
            let again = store
                .engine
                .revoke_token(issued.token.expose(), Reason::Cessation);
            assert!(matches!(again, Err(Error::NotFound(NotFound::Token))));
        }
        // The successor still names the key that it replaced.
        let successor = store.engine.key(new.key.id).unwrap();
        assert_eq!(successor.predecessor, Some(old.key.id));
        assert_eq!(store.engine.purge(DAY / 2).unwrap().keys, 0);
    });
}

/// A derived `Debug` put keys into logs: RUSTSEC-2023-0125.
#[test]
fn nothing_that_can_be_printed_shows_a_secret() {
    const PEPPER: &str = "a pepper that nobody may read";
    let pepper = Pepper::new(1, PEPPER).unwrap();
    let mut shown = vec![format!("{pepper:?}")];
    let options = small().pepper(pepper);
    shown.push(format!("{options:?}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = options.create(&path).unwrap();
    shown.push(format!("{engine:?}"));
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    shown.push(format!("{keyspace:?}"));
    shown.push(format!("{:?}", engine.create_keyspace(keyspace).unwrap()));
    let new = NewKey::new("acme_live", "acme").unwrap();
    shown.push(format!("{new:?}"));
    let issued = engine.issue(new).unwrap();
    shown.push(format!(
        "{issued:?} {issued:#?} {:?} {:?}",
        issued.token, issued.key
    ));
    let verdict = engine.verify(issued.token.expose()).unwrap();
    shown.push(format!("{verdict:?} {:?}", verdict.grant()));
    let rotated = engine.rotate(issued.key.id, Rotation::at_once()).unwrap();
    shown.push(format!("{rotated:?} {rotated:#?}"));
    let denied = engine.verify(issued.token.expose()).unwrap();
    shown.push(format!("{denied:?} {}", denied.denial().unwrap()));
    let why = Revocation::new(Reason::KeyCompromise).note("a leak");
    shown.push(format!("{why:?}"));
    shown.push(format!(
        "{:?}",
        engine.revoke_token(rotated.token.expose(), why).unwrap()
    ));
    shown.push(format!(
        "{:?}",
        engine.keys(KeyFilter::new()).collect::<Vec<_>>()
    ));
    shown.push(format!(
        "{:?}",
        engine.keys_page(&KeyFilter::new(), None, 1).unwrap()
    ));
    shown.push(format!("{:?}", engine.audit_page(1, 100).unwrap().entries));
    shown.push(format!(
        "{:?} {:?}",
        engine.stats().unwrap(),
        engine.check().unwrap()
    ));
    engine.close().unwrap();

    let secrets = [Parts::of(issued.token.expose()).secret];
    let new_secret = Parts::of(rotated.token.expose()).secret;
    for text in &shown {
        for secret in secrets.iter().chain([&new_secret]) {
            assert!(!text.contains(&secret[..12]), "{text}");
            assert!(!text.contains(&secret[31..]), "{text}");
        }
        assert!(!text.contains("nobody may read"), "{text}");
        // A digest in decimal, as a derived `Debug` would print its bytes.
        let run = text
            .split(", ")
            .map(|part| part.trim().parse::<u8>().is_ok());
        let longest = run.fold((0, 0), |(run, longest): (usize, usize), is_byte| {
            let run = if is_byte { run + 1 } else { 0 };
            (run, longest.max(run))
        });
        assert!(longest.1 < 8, "{text}");
    }
    // Nor does the file hold what would open a door.
    let file = std::fs::read(&path).unwrap();
    let holds = |text: &str| {
        file.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("acme"), "this is the file");
    for secret in secrets.iter().chain([&new_secret]) {
        assert!(!holds(&secret[..12]) && !holds(&secret[31..]));
    }
    assert!(!holds("nobody may read"));
}

/// An id is public, and guards nothing: it is not half of the secret.
#[test]
fn tokens_of_keys_issued_together_share_nothing_but_their_prefix() {
    let store = Store::new(0, false);
    store.keyspace("acme_live");
    let batch = vec![NewKey::new("acme_live", "acme").unwrap(); 2000];
    let issued = store.engine.issue_batch(batch).unwrap();
    let parts: Vec<_> = issued
        .iter()
        .map(|issued| Parts::of(issued.token.expose()))
        .collect();
    let count = |part: &dyn Fn(&Parts) -> String| {
        parts
            .iter()
            .map(part)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!(count(&|parts| parts.id.clone()), 2000);
    // Of 2,000 draws from 62 to the power of 8, none is likely to come twice.
    assert_eq!(count(&|parts| parts.secret[..8].to_owned()), 2000);
    assert_eq!(count(&|parts| parts.secret[35..].to_owned()), 2000);
}
