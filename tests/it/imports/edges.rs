//! What an import is refused for, what it tells the trail, and what its end leaves alone.

use gatekey::{KeyspaceUpdate, LevelDefaults};

use super::*;
use crate::durability::tampering::damage;

/// The events of the trail from an entry on.
fn events(engine: &Engine, after: usize) -> Vec<AuditEvent> {
    let entries = engine.audit_page(0, 1000).unwrap().entries;
    entries.into_iter().skip(after).map(|e| e.event).collect()
}

#[test]
fn an_import_that_cannot_be_is_not_begun_and_not_tried() {
    let store = store();
    let engine = &store.engine;
    let new = || NewImport::new("unkey", ForeignHash::Sha256);
    for wrong in [
        NewImport::new("two words", ForeignHash::Sha256),
        new().starts_with("u".repeat(65)),
        new().starts_with("u k"),
        new().lengths(0..=9),
        new().lengths(1..=513),
        #[expect(clippy::reversed_empty_ranges, reason = "a caller may be wrong")]
        new().lengths(9..=8),
    ] {
        let begun = engine.begin_import(wrong.clone());
        assert!(matches!(begun, Err(Error::Invalid(_))), "{wrong:?}");
        let tried = engine.import_dry_run(wrong.clone(), Vec::new());
        assert!(matches!(tried, Err(Error::Invalid(_))), "{wrong:?}");
    }
    assert!(engine.imports().unwrap().is_empty());
    // The widest that can be.
    for (name, lengths) in [("most", 1..=512), ("least", 1..=1)] {
        let new = NewImport::new(name, ForeignHash::Sha256).lengths(lengths);
        engine
            .begin_import(new.starts_with("u".repeat(64)))
            .unwrap();
    }
}

#[test]
fn a_dry_run_is_refused_as_the_import_would_be() {
    let store = store();
    let engine = &store.engine;
    let new = || NewImport::new("unkey", ForeignHash::Sha256).sunset(at(DAY_MS));
    engine.begin_import(new()).unwrap();
    let key = || vec![ForeignKey::new(new_key("acme"), sha(TOKEN))];
    let other = engine.import_dry_run(new().starts_with("uk_"), key());
    assert!(
        matches!(other, Err(Error::Conflict(Conflict::ImportDiffers(_)))),
        "{other:?}"
    );
    assert_eq!(engine.import_dry_run(new(), key()).unwrap().len(), 1);
    store.clock.set(at(DAY_MS));
    let late = engine.import_dry_run(new(), key());
    assert!(
        matches!(late, Err(Error::Conflict(Conflict::ImportOver { .. }))),
        "{late:?}"
    );
    let unheard = NewImport::new("unheard", ForeignHash::Sha256).sunset(at(DAY_MS));
    let late = engine.import_dry_run(unheard, key());
    assert!(matches!(
        late,
        Err(Error::Conflict(Conflict::ImportOver { .. }))
    ));
}

#[test]
fn an_import_and_its_sunset_stand_in_the_trail() {
    let store = store();
    let engine = &store.engine;
    let before = events(engine, 0).len();
    begin(engine, "unkey", ForeignHash::Sha256);
    begin(engine, "unkey", ForeignHash::Sha256);
    for sunset in [Some(at(5)), Some(at(5)), None, None] {
        engine.set_sunset("unkey", sunset).unwrap();
    }
    let keys = (0..40).map(|n| {
        let token = format!("uk_token_{n}");
        ForeignKey::new(new_key(&format!("acme/{n}")), sha(&token))
    });
    engine.import_keys("unkey", keys.collect()).unwrap();
    let events = events(engine, before);
    let told: Vec<_> = (events.iter())
        .map(|event| match event {
            AuditEvent::ImportChanged { import, changes } => {
                assert_eq!(import, "unkey");
                changes.iter().map(ToString::to_string).collect()
            }
            AuditEvent::KeysImported { keys, .. } => {
                // As they stand in the file.
                assert!(keys.is_sorted() && keys.len() == 40);
                vec!["keys".to_owned()]
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let sunset = |from: &str, to: &str| vec![format!("sunset [{from}] -> [{to}]")];
    let instant = at(5).to_string();
    let expected = [
        Vec::new(),
        sunset("none", &instant),
        sunset(&instant, "none"),
        vec!["keys".to_owned()],
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_a_key_of_another_system_may_not_be_is_refused_by_itself() {
    let store = store();
    let engine = &store.engine;
    begin(engine, "hashed", ForeignHash::Sha256);
    begin(engine, "other", ForeignHash::Other);
    let key = |n: u8, id: &str| {
        let token = format!("uk_token_{n}");
        ForeignKey::new(new_key(&format!("acme/{n}")), sha(&token)).id(id)
    };
    let told = engine.import_keys(
        "hashed",
        vec![
            key(1, &"i".repeat(129)),
            key(2, "a\u{202e}b"),
            key(3, &"i".repeat(128)),
            key(4, "four"),
        ],
    );
    let told = told.unwrap();
    assert!(matches!(
        told.as_slice(),
        [
            ImportedKey::Refused(Error::Invalid(_)),
            ImportedKey::Refused(Error::Invalid(_)),
            ImportedKey::Imported(_),
            ImportedKey::Imported(_)
        ]
    ));
    let [_, _, ImportedKey::Imported(third), _] = told[..] else {
        panic!("{told:?}");
    };
    // The token of one and the id of another.
    let crossed = import(engine, "hashed", key(3, "four"));
    assert!(
        matches!(crossed, ImportedKey::Refused(Error::Conflict(Conflict::TokenTaken { key })) if key == third),
        "{crossed:?}"
    );
    // Nobody could ever claim it.
    let nameless = ForeignKey::new(new_key("acme/n"), Credential::claimed());
    let ImportedKey::Refused(refused) = import(engine, "other", nameless) else {
        panic!("it has no name");
    };
    assert!(
        refused.to_string().contains("an id of its source"),
        "{refused}"
    );
    let disabled = ForeignKey::new(new_key("acme/off"), sha(TOKEN)).disabled();
    let disabled = imported(engine, "hashed", disabled);
    assert!(matches!(denial(engine, TOKEN), Denial::Disabled { .. }));
    engine.enable(disabled).unwrap();
    assert_eq!(granted(engine, TOKEN), Some(disabled));
    // One more than a call takes: none of them.
    let many = vec![key(5, "five"); 10_001];
    let refused = engine.import_keys("hashed", many);
    assert!(
        matches!(refused, Err(Error::Invalid(Invalid::TooMany { .. }))),
        "{refused:?}"
    );
    assert_eq!(counts(engine).0, 3);
    sound(engine);
}

/// Of a key that cannot be read nobody knows whether it is the same.
#[test]
fn a_damaged_record_stops_an_import_and_is_not_told_as_a_refusal_of_the_key() {
    let mut store = store();
    begin(&store.engine, "hashed", ForeignHash::Sha256);
    let key = |token: &str, id: &str| ForeignKey::new(new_key("acme"), sha(token)).id(id);
    let id = imported(&store.engine, "hashed", key(TOKEN, "1"));
    store.edit(|txn| damage(txn, id));
    let engine = &store.engine;
    let told = engine.import_keys("hashed", vec![key("uk_another_token", "1")]);
    assert!(matches!(told, Err(Error::Corrupted(_))), "{told:?}");
}

#[test]
fn a_key_that_is_over_holds_no_place_against_an_import() {
    let store = store();
    let engine = &store.engine;
    let keyspace = NewKeyspace::new("single").unwrap();
    let keyspace = keyspace.keys_per_owner(KeysPerOwner::SingleRefusing);
    engine.create_keyspace(keyspace).unwrap();
    let new = || NewKey::new("single", "acme").unwrap();
    let old = new().expires_in(Duration::from_secs(1));
    engine.issue(old).unwrap();
    begin(engine, "hashed", ForeignHash::Sha256);
    let key = || ForeignKey::new(new(), sha(TOKEN));
    assert!(matches!(
        import(engine, "hashed", key()),
        ImportedKey::Refused(Error::Conflict(_))
    ));
    store.clock.advance(Duration::from_secs(2));
    let id = imported(engine, "hashed", key());
    assert_eq!(granted(engine, TOKEN), Some(id));
    assert!(engine.issue(new()).is_err());
    sound(engine);
}

#[test]
fn a_key_is_not_claimed_past_the_sunset_whether_it_has_ended_or_not() {
    let store = store();
    let engine = &store.engine;
    let new = NewImport::new("gitea", ForeignHash::Other).sunset(at(DAY_MS));
    engine.begin_import(new).unwrap();
    let waits = ForeignKey::new(new_key("acme"), Credential::claimed()).id("17");
    let id = imported(engine, "gitea", waits);
    store.clock.set(at(DAY_MS));
    for _ in 0..2 {
        let late = engine.claim("gitea", "17", TOKEN);
        assert!(
            matches!(
                late,
                Err(Error::Conflict(
                    Conflict::ImportOver { .. } | Conflict::Revoked { .. }
                ))
            ),
            "{late:?}"
        );
        assert!(granted(engine, TOKEN).is_none());
        engine.flush().unwrap();
    }
    assert_eq!(engine.key(id).unwrap().state, KeyState::Revoked);
}

#[test]
fn a_key_is_claimed_under_the_newest_pepper() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let peppers = |ids: &[u8]| {
        let pepper = |id: &u8| Pepper::new(*id, [*id; 32]).unwrap();
        (ids.iter()).fold(Options::new(), |options, id| options.pepper(pepper(id)))
    };
    let engine = peppers(&[1]).create(&path).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    begin(&engine, "gitea", ForeignHash::Other);
    let waits = ForeignKey::new(new_key("acme"), Credential::claimed()).id("17");
    let id = imported(&engine, "gitea", waits);
    engine.close().unwrap();
    let engine = peppers(&[2, 1]).open(&path).unwrap();
    assert_eq!(engine.claim("gitea", "17", TOKEN).unwrap().id, id);
    assert_eq!(granted(&engine, TOKEN), Some(id));
    engine.close().unwrap();
    let engine = peppers(&[2]).open(&path).unwrap();
    assert_eq!(granted(&engine, TOKEN), Some(id));
    sound(&engine);
}

#[test]
fn a_sunset_ends_the_keys_of_its_own_import_alone() {
    let mut store = store();
    let engine = &store.engine;
    let keys = |name: &str, count: usize| -> Vec<ForeignKey> {
        let key = |n| {
            let key = new_key(&format!("{name}/{n}"));
            ForeignKey::new(key, sha(&format!("{name}_token_{n}")))
        };
        (0..count).map(key).collect()
    };
    // The first is over and has no key, the second goes on, the third is over.
    for (name, sunset, count) in [
        ("empty", DAY_MS, 0),
        ("lives", 9 * DAY_MS, 3),
        ("over", DAY_MS, 3),
    ] {
        let new = NewImport::new(name, ForeignHash::Sha256).sunset(at(sunset));
        engine.begin_import(new).unwrap();
        engine.import_keys(name, keys(name, count)).unwrap();
    }
    let seen = granted(engine, "over_token_0").unwrap();
    engine.flush().unwrap();
    // An index that names keys which were seen, or are of no import.
    let admin = engine.issue(new_key("admin")).unwrap();
    let named = [seen, admin.key.id];
    store.edit(|txn| {
        let mut unseen = txn
            .open_table(redb::TableDefinition::<(u8, u64), ()>::new("unseen"))
            .unwrap();
        for id in named {
            unseen.insert((3, raw(id)), ()).unwrap();
        }
    });
    let engine = &store.engine;
    store.clock.set(at(DAY_MS));
    engine.flush().unwrap();
    assert_eq!(granted(engine, "over_token_0"), Some(seen));
    assert!(granted(engine, admin.token.expose()).is_some());
    for n in 1..3 {
        let ended = format!("over_token_{n}");
        let key = engine.find_by_token(&ended).unwrap().unwrap();
        assert_eq!(key.state, KeyState::Revoked);
    }
    for n in 0..3 {
        assert!(granted(engine, &format!("lives_token_{n}")).is_some());
    }
    engine.flush().unwrap();
    sound(engine);
}

#[test]
fn the_successor_of_an_imported_key_is_no_key_of_the_import() {
    let store = store();
    let engine = &store.engine;
    let id = hashed(engine, TOKEN);
    assert_eq!(granted(engine, TOKEN), Some(id));
    engine.flush().unwrap();
    let new = engine.rotate(id, Rotation::at_once()).unwrap();
    assert_eq!(counts(engine), (1, 0));
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 0);
    store.clock.advance(Duration::from_secs(1));
    assert_eq!(engine.purge(Duration::ZERO).unwrap().keys, 1);
    assert_eq!(counts(engine), (0, 0));
    assert_eq!(granted(engine, new.token.expose()), Some(new.key.id));
    // Of no import with keys any more: nothing is looked for.
    assert!(matches!(denial(engine, TOKEN), Denial::Malformed));
    sound(engine);
}

#[test]
fn each_key_of_one_import_has_a_quota_of_its_own() {
    let store = store();
    let engine = &store.engine;
    begin(engine, "hashed", ForeignHash::Sha256);
    let tokens = ["first", "second", "none", "third"].map(|name| format!("uk_{name}_3ZpX9qLm"));
    let keys = tokens.iter().map(|token| {
        let key = match token.contains("none") {
            true => new_key("acme"),
            false => new_key("acme").quota(Quota::new(3)),
        };
        ForeignKey::new(key, sha(token))
    });
    let before = events(engine, 0).len();
    let told = engine.import_keys("hashed", keys.collect()).unwrap();
    assert!(
        told.iter()
            .all(|key| matches!(key, ImportedKey::Imported(_)))
    );
    for token in &tokens {
        for _ in 0..3 {
            assert!(granted(engine, token).is_some(), "{token}");
        }
        match token.contains("none") {
            true => assert!(granted(engine, token).is_some()),
            false => assert!(matches!(
                denial(engine, token),
                Denial::QuotaExhausted { .. }
            )),
        }
    }
    // The trail names each once.
    let named = events(engine, before).into_iter().map(|event| match event {
        AuditEvent::KeysImported { keys, .. } => keys.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(named.sum::<usize>(), 4);
    assert!(engine.check().unwrap().is_sound());
}

/// Nothing is counted of a key that is refused, nor of what would have gone for it.
#[test]
fn a_key_that_an_import_refuses_makes_no_room_below_a_cap() {
    for counts_retiring in [false, true] {
        let store = store();
        let engine = &store.engine;
        let keyspace = NewKeyspace::new("single").unwrap();
        let keyspace = keyspace.owner_defaults(1, LevelDefaults::new().cap(2));
        engine.create_keyspace(keyspace).unwrap();
        let new = |owner: &str| NewKey::new("single", owner).unwrap();
        // Two tokens of one owner: one that retires, and another.
        let first = engine.issue(new("acme/a")).unwrap();
        let grace = Rotation::with_grace(Duration::from_secs(3_600));
        let next = engine.rotate(first.key.id, grace).unwrap();
        if !counts_retiring {
            engine.revoke(next.key.id, Reason::Cessation).unwrap();
            engine.issue(new("acme/a")).unwrap();
        }
        let single = KeyspaceUpdate::new()
            .keys_per_owner(KeysPerOwner::SingleSuperseding)
            .count_retiring(counts_retiring);
        engine.update_keyspace("single", single).unwrap();
        assert!(engine.issue(new("acme/b")).is_err());
        begin(engine, "hashed", ForeignHash::Sha256);
        let key = |owner: &str| ForeignKey::new(new(owner), sha(&format!("uk_of_{owner}")));
        let keys = vec![key("acme/a"), key("acme/b"), key("acme/c"), key("other")];
        let told = engine.import_keys("hashed", keys).unwrap();
        assert!(
            matches!(
                told.as_slice(),
                [
                    ImportedKey::Refused(Error::Conflict(Conflict::OwnerHasKey { .. })),
                    ImportedKey::Refused(Error::Conflict(Conflict::OwnerAtCap { held: 2, .. })),
                    ImportedKey::Refused(Error::Conflict(Conflict::OwnerAtCap { held: 2, .. })),
                    ImportedKey::Imported(_),
                ]
            ),
            "{told:?}"
        );
        sound(engine);
    }
}
