//! Issuing: what a key is given, how long it lives, how many an owner may hold.

mod caps;
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatekey::{
    Error, Expiry, Invalid, Issued, Key, KeyFilter, KeyId, KeyState, KeysPerOwner, Limit, NewKey,
    NewKeyspace, NotFound, Permissions, Quota, Timestamp, Usage, bounds,
};

use crate::audit::assert_unwritten;
use crate::common::{DAY, START_MS, Store, at, everywhere};

pub(crate) const DAY_MS: u64 = 86_400_000;

/// A keyspace that holds each owner to a number of keys.
pub(crate) fn limited(store: &Store, prefix: &str, policy: KeysPerOwner) {
    let keyspace = NewKeyspace::new(prefix)
        .unwrap()
        .permissions(["read", "write"])
        .keys_per_owner(policy);
    store.engine.create_keyspace(keyspace).unwrap();
}

/// The key as if it had never been used: what a flush notes, and when, is not
/// what most tests are about.
pub(crate) fn unused(mut key: Key) -> Key {
    key.usage = Usage::default();
    key
}

fn new(prefix: &str, owner: &str) -> NewKey {
    NewKey::new(prefix, owner).unwrap()
}

fn try_issue(store: &Store, prefix: &str, owner: &str) -> Result<Issued, Error> {
    store.engine.issue(new(prefix, owner))
}

#[test]
fn a_key_has_all_that_was_asked_for_also_after_a_reopen() {
    everywhere(|store| {
        store.keyspace("acme");
        let networks = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let asked = new("acme", "acme/ingest/etl-bot")
            .permissions(["write"])
            .permission_mask(Permissions::from_bits(0b01))
            .name("nightly import")
            .description("reads the whole lake")
            .label("env", "prod")
            .label("team", "")
            .not_before(at(5))
            .expires_in(DAY)
            .allow_networks(networks);
        let issued = store
            .engine
            .acting_as("alice")
            .unwrap()
            .issue(asked)
            .unwrap();
        let id = issued.key.id;
        assert_eq!(issued.token.key_id(), id);

        let expect = |key: Key| {
            assert_eq!(key.id, id);
            assert_eq!(key.keyspace.as_str(), "acme");
            assert_eq!(key.owner.as_str(), "acme/ingest/etl-bot");
            assert_eq!(key.state, KeyState::NotYetValid);
            assert_eq!(key.permissions, Permissions::from_bits(0b11));
            assert_eq!(key.name.as_deref(), Some("nightly import"));
            assert_eq!(key.description.as_deref(), Some("reads the whole lake"));
            let labels = [("env", "prod"), ("team", "")];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(key.labels, BTreeMap::from(labels));
            assert_eq!(key.networks, networks);
            assert_eq!(key.not_before, Some(at(5)));
            assert_eq!(key.expires_at, Some(at(DAY_MS)));
            assert_eq!(key.retiring_until, None);
            assert_eq!(key.created_at, at(0));
            assert_eq!(key.created_by.as_deref(), Some("alice"));
            assert_eq!((key.predecessor, key.successor), (None, None));
            assert_eq!(key.revoked, None);
            assert_eq!((key.usage.last_used, key.usage.count), (None, 0));
        };
        expect(issued.key);
        expect(store.engine.key(id).unwrap());
        if store.reopen() {
            expect(store.engine.key(id).unwrap());
        }
    });
}

#[test]
fn a_token_has_the_form_that_scanners_look_for() {
    everywhere(|store| {
        store.keyspace("acme_live");
        let issued = store.issue("acme_live", "acme");
        let token = issued.token.expose();
        let rest = token.strip_prefix("acme_live_").unwrap();
        let (id, secret) = rest.split_once('_').unwrap();
        assert_eq!(id, issued.key.id.to_string());
        assert_eq!((id.len(), secret.len()), (10, 43 + 6));
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(token.parse::<KeyId>().ok(), None);
        assert_eq!(id.parse::<KeyId>().unwrap(), issued.key.id);
    });
}

#[test]
fn an_expiry_is_an_instant_a_duration_or_never() {
    everywhere(|store| {
        store.keyspace("acme");
        for (expiry, expires_at) in [
            (Expiry::Default, None),
            (Expiry::Never, None),
            (Expiry::At(at(1)), Some(at(1))),
            (Expiry::At(Timestamp::MAX), Some(Timestamp::MAX)),
            (Expiry::After(Duration::from_millis(1)), Some(at(1))),
            (Expiry::After(DAY), Some(at(DAY_MS))),
        ] {
            let issued = store
                .engine
                .issue(new("acme", "acme").expiry(expiry))
                .unwrap();
            assert_eq!(issued.key.expires_at, expires_at, "{expiry:?}");
            assert_eq!(
                store.verdict(issued.token.expose()),
                "granted",
                "{expiry:?}"
            );
        }
    });
}

#[test]
fn a_lifetime_is_the_keyspaces_where_the_issue_does_not_say() {
    let day = Some(DAY);
    let week = Some(DAY * 7);
    let never: Option<u64> = None;
    everywhere(|store| {
        for (at_case, (default, max, asked, lives)) in [
            (None, None, Expiry::Default, Ok(never)),
            (day, None, Expiry::Default, Ok(Some(1))),
            (None, week, Expiry::Default, Ok(Some(7))),
            (day, week, Expiry::Default, Ok(Some(1))),
            (day, None, Expiry::Never, Ok(never)),
            (day, week, Expiry::After(DAY * 7), Ok(Some(7))),
            (None, week, Expiry::At(at(7 * DAY_MS)), Ok(Some(7))),
            (None, week, Expiry::At(at(7 * DAY_MS + 1)), Err(())),
            (None, week, Expiry::After(DAY * 8), Err(())),
            (None, week, Expiry::Never, Err(())),
            (day, week, Expiry::Never, Err(())),
        ]
        .into_iter()
        .enumerate()
        {
            let prefix = format!("case_{at_case}");
            let mut keyspace = NewKeyspace::new(prefix.as_str()).unwrap();
            if let Some(default) = default {
                keyspace = keyspace.default_lifetime(default);
            }
            if let Some(max) = max {
                keyspace = keyspace.max_lifetime(max);
            }
            store.engine.create_keyspace(keyspace).unwrap();
            let issued = store.engine.issue(new(&prefix, "acme").expiry(asked));
            match lives {
                Ok(days) => assert_eq!(
                    issued.unwrap().key.expires_at,
                    days.map(|days| at(days * DAY_MS)),
                    "{prefix}"
                ),
                Err(()) => assert!(
                    matches!(
                        issued,
                        Err(Error::Invalid(Invalid::LifetimeTooLong { max, .. })) if max == DAY * 7
                    ),
                    "{prefix}"
                ),
            }
        }
    });
}

#[test]
fn a_key_needs_a_keyspace_that_exists() {
    everywhere(|store| {
        let refused = try_issue(store, "acme", "acme");
        assert!(matches!(
            refused,
            Err(Error::NotFound(NotFound::Keyspace(prefix))) if prefix.as_str() == "acme"
        ));
    });
}

#[test]
fn of_a_batch_with_a_bad_item_nothing_is_applied_and_the_item_is_named() {
    type Bad = (&'static str, fn() -> NewKey, fn(&Error) -> bool);
    let bad: [Bad; 6] = [
        (
            "keyspace",
            || new("none", "a"),
            |error| matches!(error, Error::NotFound(NotFound::Keyspace(_))),
        ),
        (
            "permission",
            || new("acme", "a").permissions(["fly"]),
            |error| {
                matches!(error, Error::Invalid(Invalid::UnknownPermission { .. }))
                    && error.to_string().contains("no permission \"fly\"")
            },
        ),
        (
            "expiry",
            || new("acme", "a").expires_at(at(0)),
            |error| matches!(error, Error::Invalid(Invalid::ExpiryInPast { .. })),
        ),
        (
            "life",
            || new("acme", "a").expires_in(DAY).not_before(at(DAY_MS)),
            |error| matches!(error, Error::Invalid(Invalid::NotBeforeAfterExpiry { .. })),
        ),
        (
            "name",
            || new("acme", "a").name("a\nb"),
            |error| {
                matches!(
                    error,
                    Error::Invalid(Invalid::Malformed(gatekey::ParseError { what: "name", .. }))
                )
            },
        ),
        (
            "labels",
            || {
                (0..=bounds::LABELS_MAX).fold(new("acme", "a"), |key, label| {
                    key.label(format!("l{label}"), "")
                })
            },
            |error| {
                matches!(
                    error,
                    Error::Invalid(Invalid::TooMany { what: "labels", .. })
                )
            },
        ),
    ];
    everywhere(|store| {
        store.keyspace("acme");
        limited(store, "single", KeysPerOwner::SingleSuperseding);
        let held = store.issue("single", "a");
        for (what, make, is_right) in bad {
            for index in [0, 2] {
                let mut batch = vec![new("acme", "a"), new("single", "a")];
                batch.insert(index, make());
                match assert_unwritten(&store.engine, || store.engine.issue_batch(batch)) {
                    Err(Error::Batch {
                        index: named,
                        source,
                    }) => {
                        assert_eq!(named, index, "{what}");
                        assert!(is_right(&source), "{what}: {source:?}");
                    }
                    other => panic!("{what}: {other:?}"),
                }
            }
            // Alone, it is refused for the same reason, without an item.
            let alone = store.engine.issue(make()).unwrap_err();
            assert!(is_right(&alone), "{what}: {alone:?}");
        }
        let page = store.engine.keys_page(&KeyFilter::new(), None, 10).unwrap();
        assert!(page.keys.iter().map(|key| key.id).eq([held.key.id]));
        assert_eq!(store.verdict(held.token.expose()), "granted");
    });
}

#[test]
fn a_batch_answers_in_the_order_of_its_items() {
    everywhere(|store| {
        store.keyspace("acme");
        store.keyspace("other");
        let specs: Vec<_> = (0..40)
            .map(|at| (["acme", "other"][at % 2], format!("owner/{at}")))
            .collect();
        let batch = specs.iter().map(|(prefix, owner)| new(prefix, owner));
        let issued = store.engine.issue_batch(batch.collect()).unwrap();
        assert_eq!(issued.len(), specs.len());
        for (issued, (prefix, owner)) in issued.iter().zip(&specs) {
            let verdict = store.engine.verify(issued.token.expose()).unwrap();
            let grant = verdict.grant().unwrap();
            assert_eq!(grant.key_id(), issued.key.id);
            assert_eq!(
                (grant.keyspace().as_str(), grant.owner()),
                (*prefix, owner.as_str())
            );
            assert_eq!(store.engine.key(issued.key.id).unwrap(), issued.key);
        }
        let empty = assert_unwritten(&store.engine, || store.engine.issue_batch(vec![]));
        assert_eq!(empty.unwrap().len(), 0);
    });
}

#[test]
fn ten_thousand_keys_are_issued_in_one_batch_and_no_more() {
    let mut store = Store::on_file();
    store.keyspace("acme");
    let batch = |count: usize| -> Vec<_> {
        (0..count)
            .map(|at| new("acme", &format!("u/{at}")))
            .collect()
    };
    let over = store.engine.issue_batch(batch(bounds::BATCH_MAX + 1));
    assert!(matches!(
        over,
        Err(Error::Invalid(Invalid::TooMany {
            count: 10_001,
            max: 10_000,
            ..
        }))
    ));
    let issued = store.engine.issue_batch(batch(bounds::BATCH_MAX)).unwrap();
    store.reopen();
    let ids: BTreeSet<_> = issued.iter().map(|issued| issued.key.id).collect();
    assert_eq!(ids.len(), 10_000);
    let stats = store.engine.stats().unwrap();
    assert_eq!(stats.keyspaces[&"acme".parse().unwrap()].active, 10_000);
    for issued in issued.iter().step_by(97) {
        assert_eq!(store.verdict(issued.token.expose()), "granted");
    }
    store.assert_sound();
}

#[test]
fn ids_sort_by_age_and_tell_no_two_keys_apart_wrongly() {
    everywhere(|store| {
        store.keyspace("acme");
        let ids: Vec<_> = (0..50)
            .map(|ms| {
                store
                    .clock
                    .set(Timestamp::from_unix_ms(START_MS + ms).unwrap());
                store.issue("acme", "acme").key.id
            })
            .collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    });
}

#[test]
fn each_key_of_a_batch_names_who_issued_it() {
    everywhere(|store| {
        store.keyspace("acme");
        for actor in [None, Some("alice")] {
            let engine = match actor {
                Some(actor) => store.engine.acting_as(actor).unwrap(),
                None => store.engine.clone(),
            };
            let before = engine.stats().unwrap().audit_entries;
            let issued = engine.issue_batch(vec![new("acme", "acme"); 3]).unwrap();
            for issued in &issued {
                assert_eq!(issued.key.created_by.as_deref(), actor);
                let stored = store.engine.key(issued.key.id).unwrap();
                assert_eq!(stored.created_by.as_deref(), actor);
            }
            let entries = engine.audit_page(before + 1, 10).unwrap().entries;
            assert_eq!(entries.len(), 3);
            assert!(entries.iter().all(|entry| entry.actor.as_deref() == actor));
        }
    });
}

/// Keys whose rows stand between those of others, at the ends of tables and beside each other.
#[test]
fn batches_among_the_keys_of_others_leave_a_sound_store() {
    let store = Store::on_file();
    limited(&store, "beta", KeysPerOwner::Many { cap: None });
    limited(&store, "acme", KeysPerOwner::SingleSuperseding);
    limited(&store, "gamma", KeysPerOwner::Many { cap: Some(3) });
    let spec = |prefix: &str, number: u64| {
        // Owners of one letter stand together, those of a number apart.
        let owner = match number % 2 {
            0 => format!("a/{number:04}"),
            _ => format!("{}/{number}", number * 7919 % 1000),
        };
        let spec = new(prefix, &owner).permissions(["read"]);
        match number % 5 {
            0 => spec.expires_in(DAY),
            1 => spec.not_before(at(0)).quota(Quota::new(9)),
            2 => spec.limits([Limit::new(9, Duration::from_secs(3600)).unwrap()]),
            _ => spec,
        }
    };
    let mut good = BTreeMap::new();
    for round in 0..3 {
        for prefix in ["acme", "beta", "gamma"] {
            for number in [3, 300, 901] {
                let issued = store.engine.issue(spec(prefix, number)).unwrap();
                good.insert((prefix, round, number), issued.token);
            }
            let batch = (0..800).filter(|number| number % 2 == 0 || number % 10 == 1);
            let batch: Vec<u64> = batch.filter(|number| *number != 300).collect();
            let specs = batch.iter().map(|number| spec(prefix, *number)).collect();
            let issued = store.engine.issue_batch(specs).unwrap();
            for (number, issued) in batch.iter().zip(issued) {
                good.insert((prefix, round, *number), issued.token);
            }
        }
        let report = store.engine.check().unwrap();
        assert!(report.is_sound(), "round {round}: {report:#?}");
    }
    for ((prefix, round, number), token) in &good {
        let is_granted = store.engine.verify(token.expose()).unwrap().is_granted();
        let is_superseded = *prefix == "acme" && *round < 2;
        assert_eq!(is_granted, !is_superseded, "{prefix} {round} {number}");
    }
    let found: Vec<KeyId> = (store.engine.keys(KeyFilter::new()))
        .map(|key| key.unwrap().id)
        .collect();
    assert_eq!(found.len(), good.len());
    // The cap of three keys is full everywhere.
    let more = store.engine.issue_batch(vec![spec("gamma", 300)]);
    assert!(matches!(more, Err(Error::Batch { .. })), "{more:?}");
}
