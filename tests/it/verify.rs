//! What a verification says, and of what.

mod denials;

use gatekey::{Denial, NewKey, Permissions, Reason, Requirements, Rotation, Timestamp, Verdict};
use gatekey_testkit::forge::with_wrong_secret;

use crate::audit::assert_unwritten;
use crate::common::{DAY, Store, at, code, everywhere};
use crate::issue::DAY_MS;

fn ask(store: &Store, token: &str, requirements: &Requirements<'_>) -> Verdict {
    let first = store.engine.verify_with(token, requirements).unwrap();
    let second = store.engine.verify_with(token, requirements).unwrap();
    assert_eq!(first, second, "the same question, the same answer");
    first
}

#[test]
fn a_grant_says_whose_key_it_is_and_what_it_may_do() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let new = NewKey::new("acme_live", "acme/ingest/etl-bot")
            .unwrap()
            .permissions(["write"])
            .expires_in(DAY);
        let issued = store.engine.issue(new).unwrap();
        for _ in 0..2 {
            let Verdict::Granted(grant) = store.engine.verify(issued.token.expose()).unwrap()
            else {
                panic!("denied");
            };
            assert_eq!(grant.key_id(), issued.key.id);
            assert_eq!(grant.keyspace().as_str(), "acme_live");
            assert_eq!(grant.owner(), "acme/ingest/etl-bot");
            assert_eq!(grant.permissions(), Permissions::from_bits(0b10));
            assert_eq!(grant.expires_at(), Some(at(DAY_MS)));
            assert_eq!(grant.retiring_until(), None);
        }
        let text = store.engine.verify(issued.token.expose()).unwrap();
        let bytes = store
            .engine
            .verify(issued.token.expose().as_bytes())
            .unwrap();
        assert_eq!(text, bytes);
    });
}

#[test]
fn a_grant_in_its_grace_says_until_when() {
    everywhere(|store| {
        store.keyspace("acme");
        let old = store.issue("acme", "acme");
        let new = store
            .engine
            .rotate(old.key.id, Rotation::with_grace(DAY))
            .unwrap();
        let retiring_until = |token: &str| match store.engine.verify(token).unwrap() {
            Verdict::Granted(grant) => grant.retiring_until(),
            Verdict::Denied(denial) => panic!("{denial}"),
        };
        assert_eq!(retiring_until(old.token.expose()), Some(at(DAY_MS)));
        assert_eq!(retiring_until(new.token.expose()), None);
    });
}

#[test]
fn a_key_is_good_from_its_first_to_before_its_last_instant() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme")
            .unwrap()
            .not_before(at(1_000))
            .expires_at(at(2_000));
        let issued = store.engine.issue(new).unwrap();
        for (ms, verdict) in [
            (0, "not_yet_valid"),
            (999, "not_yet_valid"),
            (1_000, "granted"),
            (1_999, "granted"),
            (2_000, "expired"),
            (2_001, "expired"),
        ] {
            store.clock.set(at(ms));
            assert_eq!(store.verdict(issued.token.expose()), verdict, "at {ms}");
        }
        store.clock.set(Timestamp::MAX);
        assert_eq!(store.verdict(issued.token.expose()), "expired");
    });
}

#[test]
fn a_clock_that_steps_back_behind_a_commit_revives_nothing() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme").unwrap().expires_in(DAY);
        let mortal = store.engine.issue(new).unwrap();
        let old = store.issue("acme", "acme");
        let grace = Rotation::with_grace(DAY);
        store.engine.rotate(old.key.id, grace).unwrap();
        store.clock.advance(DAY);
        // Any commit will do.
        let witness = store.issue("acme", "acme");
        store.clock.step_back(DAY * 300);
        let assert_over = |store: &Store| {
            assert_eq!(store.verdict(mortal.token.expose()), "expired");
            assert_eq!(store.verdict(old.token.expose()), "revoked");
            assert_eq!(store.verdict(witness.token.expose()), "granted");
            assert_eq!(store.engine.now(), at(DAY_MS));
        };
        assert_over(store);
        if store.reopen() {
            assert_over(store);
        }
    });
}

#[test]
fn a_key_bound_to_networks_is_good_from_inside_them_only() {
    everywhere(|store| {
        store.keyspace("acme");
        let new = NewKey::new("acme", "acme").unwrap().allow_networks([
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
            "192.0.2.7".parse().unwrap(),
        ]);
        let issued = store.engine.issue(new).unwrap();
        for (source, verdict) in [
            ("10.0.0.0", "granted"),
            ("10.255.255.255", "granted"),
            ("::ffff:10.1.2.3", "granted"),
            ("2001:db8:ffff::1", "granted"),
            ("192.0.2.7", "granted"),
            ("192.0.2.8", "network_not_allowed"),
            ("11.0.0.0", "network_not_allowed"),
            ("2001:db9::", "network_not_allowed"),
            ("::10.1.2.3", "network_not_allowed"),
        ] {
            let from = Requirements::new().source(source.parse().unwrap());
            let found = ask(store, issued.token.expose(), &from);
            assert_eq!(code(&found), verdict, "{source}");
        }
        assert_eq!(store.verdict(issued.token.expose()), "network_not_allowed");
        let free = store.issue("acme", "acme");
        let from = Requirements::new().source("11.0.0.0".parse().unwrap());
        assert_eq!(code(&ask(store, free.token.expose(), &from)), "granted");
    });
}

#[test]
fn all_permissions_that_are_required_must_be_held() {
    everywhere(|store| {
        store.keyspace("acme");
        let reader = store.issue("acme", "acme");
        let lacking = |asked: &Requirements<'_>| match ask(store, reader.token.expose(), asked) {
            Verdict::Granted(_) => (vec![], 0),
            Verdict::Denied(Denial::PermissionMissing {
                names, undefined, ..
            }) => (names, undefined),
            Verdict::Denied(denial) => panic!("{denial}"),
        };
        let missing = |asked: &Requirements<'_>| lacking(asked).0;
        let none: [&str; 0] = [];
        let asked = Requirements::new();
        assert_eq!(missing(&asked.permissions(&["read"])), none);
        assert_eq!(missing(&asked.permissions(&["write"])), ["write"]);
        assert_eq!(missing(&asked.permissions(&["read", "write"])), ["write"]);
        assert_eq!(
            missing(&asked.permission_mask(Permissions::from_bits(1))),
            none
        );
        assert_eq!(
            missing(&asked.permission_mask(Permissions::from_bits(3))),
            ["write"]
        );
        // Both ways at once, told once.
        let both = asked.permission_mask(Permissions::from_bits(2));
        assert_eq!(missing(&both.permissions(&["write"])), ["write"]);
        // What the keyspace does not have, nobody holds.
        assert_eq!(missing(&asked.permissions(&["fly"])), ["fly"]);
        assert_eq!(missing(&asked.permissions(&["READ"])), ["READ"]);
        let (names, undefined) = lacking(&asked.permissions(&["fly", "write", "fly"]));
        assert_eq!(names, ["write", "fly"]);
        assert_eq!(undefined, 1);
        assert_eq!(lacking(&asked.permissions(&["write"])).1, 0);
        let nameless = Requirements::new().permission_mask(Permissions::from_bits(1 << 127));
        assert_eq!(
            ask(store, reader.token.expose(), &nameless),
            Verdict::Denied(Denial::PermissionMissing {
                key: reader.key.id,
                missing: Permissions::from_bits(1 << 127),
                names: vec![],
                undefined: 0,
            })
        );
    });
}

#[test]
fn many_tokens_at_once_get_the_answers_that_each_would_get_alone() {
    everywhere(|store| {
        store.keyspace("acme");
        let batch = (0..100).map(|_| NewKey::new("acme", "acme").unwrap());
        let issued = store.engine.issue_batch(batch.collect()).unwrap();
        let mut tokens = vec![String::new(), "acme_nonsense".to_owned()];
        for (at, issued) in issued.iter().enumerate() {
            let id = issued.key.id;
            match at % 4 {
                1 => drop(store.engine.revoke(id, Reason::Cessation).unwrap()),
                2 => drop(store.engine.disable(id).unwrap()),
                _ => {}
            }
            let token = issued.token.expose();
            tokens.push(match at % 5 {
                4 => with_wrong_secret(token),
                _ => token.to_owned(),
            });
        }
        let asked = Requirements::new();
        // Twice, so that the keys that may be resident are.
        for _ in 0..2 {
            let many = store.engine.verify_many(&tokens, &asked);
            let many: Vec<_> = many.into_iter().map(Result::unwrap).collect();
            let each: Vec<_> = tokens
                .iter()
                .map(|token| store.engine.verify(token).unwrap())
                .collect();
            assert_eq!(many, each);
            let count = |of: &str| many.iter().filter(|verdict| code(verdict) == of).count();
            let counts = ["granted", "revoked", "disabled", "unknown", "malformed"].map(count);
            assert_eq!(counts, [40, 20, 20, 20, 2]);
        }
        let none: [&str; 0] = [];
        assert!(store.engine.verify_many(&none, &asked).is_empty());
    });
}

#[test]
fn a_verification_writes_nothing_to_the_trail() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        assert_unwritten(&store.engine, || {
            assert_eq!(store.verdict(issued.token.expose()), "granted");
            assert_eq!(
                store.verdict(&with_wrong_secret(issued.token.expose())),
                "unknown"
            );
            store.engine.flush().unwrap();
        });
    });
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let token = issued.token.expose();
        let secret = &token[token.len() - 49..token.len() - 6];
        let key = store.engine.key(issued.key.id).unwrap();
        let verdict = store.engine.verify(token).unwrap();
        let forged = with_wrong_secret(token);
        let failed = store.engine.revoke_token(&forged, Reason::Cessation);
        let misplaced = NewKey::new("acme", token);
        for text in [
            format!("{issued:?}"),
            format!("{key:?}"),
            format!("{verdict:?}"),
            format!("{failed:?}"),
            format!("{misplaced:?}"),
            format!("{:?}", store.engine),
            format!("{:?}", crate::audit::trail(&store.engine)),
        ] {
            // A piece of it is as bad as the whole.
            assert!(!text.contains(&secret[..12]), "{text}");
        }
        assert!(format!("{issued:?}").contains(&issued.key.id.to_string()));
    });
}
