//! What is refused, in which order, and what the refusal tells.

use std::net::IpAddr;

use gatekey::{Denial, KeyId, NewKey, Permissions, Reason, Requirements, Verdict};
use gatekey_testkit::forge::{resealed, with_wrong_secret};

use super::ask;
use crate::common::{DAY, Store, at, code, everywhere};
use crate::issue::DAY_MS;

/// The token with an id that no key has.
fn wrong_id(token: &str) -> String {
    let id_at = token.len() - 60;
    resealed(token, |body| {
        body.replace_range(id_at..id_at + KeyId::LEN, "zzzzzzzzz0");
    })
}

#[test]
fn every_denial_carries_what_a_caller_can_act_on() {
    everywhere(|store| {
        store.keyspace("acme");
        let engine = &store.engine;
        let new = |owner: &str| NewKey::new("acme", owner).unwrap().permissions(["read"]);

        assert_eq!(store.denial("acme_nonsense"), Denial::Malformed);

        let revoked = store.issue("acme", "acme");
        engine
            .revoke(revoked.key.id, Reason::KeyCompromise)
            .unwrap();
        assert_eq!(
            store.denial(revoked.token.expose()),
            Denial::Revoked {
                key: revoked.key.id,
                at: at(0),
                reason: Reason::KeyCompromise,
            }
        );

        let suspended = store.issue("acme", "bad/company/robot");
        engine.suspend("bad/company", None).unwrap();
        assert_eq!(
            store.denial(suspended.token.expose()),
            Denial::Suspended {
                key: suspended.key.id,
                owner: "bad/company".parse().unwrap(),
            }
        );

        let disabled = store.issue("acme", "acme");
        engine.disable(disabled.key.id).unwrap();
        assert_eq!(
            store.denial(disabled.token.expose()),
            Denial::Disabled {
                key: disabled.key.id,
            }
        );

        let early = engine.issue(new("acme").not_before(at(DAY_MS))).unwrap();
        assert_eq!(
            store.denial(early.token.expose()),
            Denial::NotYetValid {
                key: early.key.id,
                not_before: at(DAY_MS),
            }
        );

        let bound = new("acme").allow_network("10.0.0.0/8".parse().unwrap());
        let bound = engine.issue(bound).unwrap();
        let elsewhere: IpAddr = "192.0.2.7".parse().unwrap();
        let from = Requirements::new().source(elsewhere);
        assert_eq!(
            ask(store, bound.token.expose(), &from),
            Verdict::Denied(Denial::NetworkNotAllowed {
                key: bound.key.id,
                source: Some(elsewhere),
            })
        );
        assert_eq!(
            store.denial(bound.token.expose()),
            Denial::NetworkNotAllowed {
                key: bound.key.id,
                source: None,
            }
        );

        let reader = store.issue("acme", "acme");
        let both = Requirements::new().permissions(&["read", "write"]);
        assert_eq!(
            ask(store, reader.token.expose(), &both),
            Verdict::Denied(Denial::PermissionMissing {
                key: reader.key.id,
                missing: Permissions::from_bits(0b10),
                names: vec!["write".to_owned()],
                undefined: 0,
            })
        );

        let mortal = engine.issue(new("acme").expires_in(DAY)).unwrap();
        store.clock.advance(DAY * 2);
        assert_eq!(
            store.denial(mortal.token.expose()),
            Denial::Expired {
                key: mortal.key.id,
                expired_at: at(DAY_MS),
            }
        );
    });
}

#[test]
fn an_unknown_id_and_a_wrong_secret_get_the_same_answer() {
    everywhere(|store| {
        store.keyspace("acme");
        let issued = store.issue("acme", "acme");
        let revoked = store.issue("acme", "acme");
        store
            .engine
            .revoke(revoked.key.id, Reason::Cessation)
            .unwrap();
        // Twice, and with the key resident too.
        for _ in 0..2 {
            for token in [&issued.token, &revoked.token] {
                for forged in [wrong_id(token.expose()), with_wrong_secret(token.expose())] {
                    let denial = store.denial(&forged);
                    assert_eq!(denial, Denial::Unknown);
                    assert_eq!(denial.key_id(), None);
                    assert_eq!(denial.to_string(), "the token is unknown");
                }
            }
            assert_eq!(store.verdict(issued.token.expose()), "granted");
        }
        assert_eq!(
            resealed(issued.token.expose(), |_| {}),
            issued.token.expose()
        );
    });
}

#[test]
fn the_prefix_of_another_keyspace_makes_a_token_unknown() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("acme_live");
        let issued = store.issue("acme", "acme");
        let token = issued.token.expose();
        let moved = resealed(token, |body| {
            body.replace_range(.."acme".len(), "acme_live");
        });
        assert_eq!(store.verdict(token), "granted");
        assert_eq!(store.verdict(&moved), "unknown");
        let nowhere = resealed(token, |body| body.replace_range(.."acme".len(), "other"));
        assert_eq!(store.verdict(&nowhere), "unknown");
        // Without a check that fits, it is not even a token.
        let clumsy = token.replacen("acme", "acme_live", 1);
        assert_eq!(store.verdict(&clumsy), "malformed");
    });
}

#[test]
fn a_token_of_another_store_is_unknown() {
    everywhere(|store| {
        store.keyspace("acme");
        let other = Store::new(0, false);
        other.keyspace("acme");
        let stranger = other.issue("acme", "acme");
        assert_eq!(other.verdict(stranger.token.expose()), "granted");
        assert_eq!(store.verdict(stranger.token.expose()), "unknown");
    });
}

#[test]
fn a_token_of_a_keyspace_that_was_not_asked_for_is_unknown() {
    everywhere(|store| {
        store.keyspace("live");
        store.keyspace("test");
        let issued = store.issue("test", "acme");
        let of = |prefix: &str| Requirements::new().keyspace(prefix.parse().unwrap());
        let token = issued.token.expose();
        assert_eq!(code(&ask(store, token, &of("test"))), "granted");
        assert_eq!(
            ask(store, token, &of("live")),
            Verdict::Denied(Denial::Unknown)
        );
        assert_eq!(
            ask(store, token, &of("none")),
            Verdict::Denied(Denial::Unknown)
        );
        // Also where more is wrong with it, which would tell of the key.
        store.engine.disable(issued.key.id).unwrap();
        assert_eq!(
            ask(store, token, &of("live")),
            Verdict::Denied(Denial::Unknown)
        );
    });
}

#[test]
fn of_every_two_faults_the_first_in_the_order_of_precedence_is_told() {
    const FAULTS: [&str; 7] = [
        "revoked",
        "suspended",
        "disabled",
        "not_yet_valid",
        "expired",
        "network_not_allowed",
        "permission_missing",
    ];
    everywhere(|store| {
        store.keyspace("acme");
        store.clock.set(at(0));
        let mut keys = Vec::new();
        for (first, fault) in FAULTS.into_iter().enumerate() {
            for other in FAULTS.into_iter().skip(first) {
                // A life that is over before it begins cannot be issued.
                if (fault, other) == ("not_yet_valid", "expired") {
                    continue;
                }
                let has = |name| fault == name || other == name;
                let owner = format!("{fault}/{other}");
                let mut new = NewKey::new("acme", owner.as_str()).unwrap();
                if has("not_yet_valid") {
                    new = new.not_before(at(3 * DAY_MS));
                }
                if has("expired") {
                    new = new.expires_in(DAY);
                }
                if has("network_not_allowed") {
                    new = new.allow_network("10.0.0.0/8".parse().unwrap());
                }
                if !has("permission_missing") {
                    new = new.permissions(["read"]);
                }
                let issued = store.engine.issue(new).unwrap();
                if has("disabled") {
                    store.engine.disable(issued.key.id).unwrap();
                }
                if has("suspended") {
                    store.engine.suspend(owner.as_str(), None).unwrap();
                }
                if has("revoked") {
                    store
                        .engine
                        .revoke(issued.key.id, Reason::default())
                        .unwrap();
                }
                keys.push((issued, fault, other));
            }
        }
        assert_eq!(keys.len(), 27);
        store.clock.set(at(2 * DAY_MS));
        let asked = Requirements::new()
            .permissions(&["read"])
            .source("192.0.2.7".parse().unwrap());
        for (issued, fault, other) in &keys {
            let verdict = ask(store, issued.token.expose(), &asked);
            assert_eq!(code(&verdict), *fault, "{fault} and {other}");
            let Verdict::Denied(denial) = verdict else {
                panic!("granted");
            };
            assert_eq!(denial.key_id(), Some(issued.key.id));
        }
    });
}
