//! Keys whose tokens another system issued.

use std::time::Duration;

use gatekey::{
    AuditEvent, Conflict, Credential, Denial, Engine, Error, ForeignHash, ForeignKey, Import,
    ImportedKey, Invalid, KeyId, KeyState, KeyUpdate, KeysPerOwner, Limit, NewImport, NewKey,
    NewKeyspace, NotFound, Options, Outcome, OwnerUpdate, Pepper, Plan, Quota, Reason,
    Requirements, Restore, Rotation, Verdict,
};
use sha2::{Digest as _, Sha256, Sha512};

use crate::common::{DAY, Store, at};
use crate::durability::tampering::raw;

mod edges;

const DAY_MS: u64 = 86_400_000;

fn new_key(owner: &str) -> NewKey {
    let key = NewKey::new("acme_live", owner).unwrap();
    key.permissions(["read"])
}

fn store() -> Store {
    let store = Store::on_file();
    let keyspace = NewKeyspace::new("acme_live")
        .unwrap()
        .permissions(["read", "write"])
        .plan(Plan::new("slow").limit(Limit::per_minute(2)));
    store.engine.create_keyspace(keyspace).unwrap();
    store
}

fn sha(token: &str) -> Credential {
    Credential::digest(Sha256::digest(token).to_vec())
}

fn begin(engine: &Engine, name: &str, hash: ForeignHash) -> Import {
    engine.begin_import(NewImport::new(name, hash)).unwrap()
}

fn import(engine: &Engine, name: &str, key: ForeignKey) -> ImportedKey {
    engine.import_keys(name, vec![key]).unwrap().remove(0)
}

fn imported(engine: &Engine, name: &str, key: ForeignKey) -> KeyId {
    match import(engine, name, key) {
        ImportedKey::Imported(id) => id,
        other => panic!("{other:?}"),
    }
}

/// A key with a token that SHA-256 is kept of.
fn hashed(engine: &Engine, token: &str) -> KeyId {
    begin(engine, "hashed", ForeignHash::Sha256);
    imported(
        engine,
        "hashed",
        ForeignKey::new(new_key("acme"), sha(token)),
    )
}

fn granted(engine: &Engine, token: &str) -> Option<KeyId> {
    engine
        .verify(token)
        .unwrap()
        .grant()
        .map(|grant| grant.key_id())
}

fn denial(engine: &Engine, token: &str) -> Denial {
    match engine.verify(token).unwrap() {
        Verdict::Denied(denial) => denial,
        granted => panic!("{granted:?}"),
    }
}

fn counts(engine: &Engine) -> (u64, u64) {
    let imports = engine.imports().unwrap();
    let sum = |of: fn(&Import) -> u64| imports.iter().map(of).sum();
    (sum(|import| import.keys), sum(|import| import.unseen))
}

fn sound(engine: &Engine) {
    let report = engine.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

fn holds(path: &std::path::Path, needle: &[u8]) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(needle.len()).any(|found| found == needle)
}

const TOKEN: &str = "uk_3ZpX9qLmN4vR7sT1";

#[test]
fn a_token_is_good_by_what_the_source_keeps_of_it_and_by_nothing_near_it() {
    let mut store = store();
    let engine = &store.engine;
    let sha256 = hashed(engine, TOKEN);
    begin(engine, "long", ForeignHash::Sha512);
    let drf = "Ab3dE6gH.0123456789abcdef0123456789abcdef";
    let digest = Credential::digest(Sha512::digest(drf).to_vec());
    let sha512 = imported(engine, "long", ForeignKey::new(new_key("acme/drf"), digest));
    begin(engine, "plain", ForeignHash::Plain);
    let kong = ForeignKey::new(
        new_key("acme/kong"),
        Credential::token("kong key/with=signs"),
    );
    assert!(matches!(
        import(engine, "plain", kong),
        ImportedKey::Refused(_)
    ));
    let kong = ForeignKey::new(
        new_key("acme/kong"),
        Credential::token("kong+key/with=signs"),
    );
    let plain = imported(engine, "plain", kong);
    let bar = NewImport::new("sanctum", ForeignHash::Sha256)
        .after_bar()
        .lengths(40..=48);
    engine.begin_import(bar).unwrap();
    let secret = "s".repeat(40);
    let sanctum = ForeignKey::new(new_key("acme/sanctum"), sha(&secret));
    let sanctum = imported(engine, "sanctum", sanctum);

    // Before a use is written, after it, and after the store was opened again.
    for round in 0..3 {
        let engine = &store.engine;
        assert_eq!(granted(engine, TOKEN), Some(sha256), "{round}");
        assert_eq!(granted(engine, drf), Some(sha512), "{round}");
        assert_eq!(
            granted(engine, "kong+key/with=signs"),
            Some(plain),
            "{round}"
        );
        for text in [
            format!("17|{secret}"),
            format!("18|{secret}"),
            secret.clone(),
        ] {
            assert_eq!(granted(engine, &text), Some(sanctum), "{round}: {text}");
        }
        let hex: String = Sha256::digest(TOKEN)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let wrong = [
            "uk_3ZpX9qLmN4vR7sT2",
            " uk_3ZpX9qLmN4vR7sT1",
            "uk_3ZpX9qLmN4vR7sT1 ",
            "17|uk_3ZpX9qLmN4vR7sT1",
            &hex,
            &secret[1..],
            &"x".repeat(513),
            "",
        ];
        for text in wrong {
            let denial = denial(engine, text);
            assert!(
                matches!(denial, Denial::Unknown | Denial::Malformed),
                "{round}: {text}"
            );
        }
        let many = engine.verify_many(&[TOKEN, "nobody_has_this", drf], &Requirements::new());
        let is_granted = many.iter().map(|one| one.as_ref().unwrap().is_granted());
        assert_eq!(is_granted.collect::<Vec<_>>(), [true, false, true]);
        let found = engine.find_by_token(TOKEN).unwrap();
        assert_eq!(found.map(|key| key.id), Some(sha256));
        assert!(engine.find_by_token("nobody_has_this").unwrap().is_none());
        assert!(
            engine
                .dry_run(drf, &Requirements::new())
                .unwrap()
                .is_granted()
        );
        assert_eq!(counts(engine), (4, if round == 0 { 4 } else { 0 }));
        sound(engine);
        match round {
            0 => engine.flush().unwrap(),
            _ => assert!(store.reopen()),
        }
    }
    assert_eq!(store.engine.key(sha256).unwrap().usage.count, 6);
}

#[test]
fn verifications_of_foreign_tokens_are_counted_and_timed() {
    let store = store();
    let engine = &store.engine;
    let id = hashed(engine, TOKEN);
    let before = engine.metrics().unwrap();
    assert_eq!(granted(engine, TOKEN), Some(id));
    assert_eq!(denial(engine, "uk_of_nobody"), Denial::Unknown);
    // Of no import's shape: nothing is looked for.
    assert_eq!(denial(engine, "short"), Denial::Malformed);
    engine.revoke(id, Reason::KeyCompromise).unwrap();
    assert!(matches!(denial(engine, TOKEN), Denial::Revoked { .. }));
    let after = engine.metrics().unwrap();
    let acme = after.verifications[&"acme_live".parse().unwrap()];
    assert_eq!((acme.granted(), acme.get(Outcome::Revoked)), (1, 1));
    let nobody = after.unattributed;
    assert_eq!(nobody.get(Outcome::Unknown), 1);
    assert_eq!(nobody.get(Outcome::Malformed), 1);
    assert_eq!(after.resident_misses - before.resident_misses, 2);
    assert_eq!(after.file_times.count() - before.file_times.count(), 3);
}

#[test]
fn a_text_is_looked_for_only_where_an_import_with_keys_has_its_shape() {
    let store = store();
    let engine = &store.engine;
    assert!(matches!(denial(engine, TOKEN), Denial::Malformed));
    let narrow = NewImport::new("narrow", ForeignHash::Sha256).starts_with("uk_");
    engine.begin_import(narrow).unwrap();
    // There is no key yet.
    assert!(matches!(denial(engine, TOKEN), Denial::Malformed));
    let key = ForeignKey::new(new_key("acme"), sha("uk_another_token"));
    imported(engine, "narrow", key);
    assert!(matches!(denial(engine, TOKEN), Denial::Unknown));
    assert!(matches!(
        denial(engine, "pk_3ZpX9qLmN4vR7sT1"),
        Denial::Malformed
    ));
    // Nor is a key found by the shape of another import.
    let wide = NewImport::new("wide", ForeignHash::Sha256).after_bar();
    engine.begin_import(wide).unwrap();
    let key = ForeignKey::new(new_key("acme/b"), sha("wide_token_of_old"));
    imported(engine, "wide", key);
    assert!(granted(engine, "1|wide_token_of_old").is_some());
    assert!(granted(engine, "uk_another_token").is_some());
    assert!(matches!(
        denial(engine, "1|uk_another_token"),
        Denial::Unknown
    ));
}

#[test]
fn the_file_holds_neither_a_token_nor_what_the_source_keeps_of_it() {
    let mut store = store();
    let plain = "plain-token-of-the-old-gateway";
    begin(&store.engine, "plain", ForeignHash::Plain);
    let key = ForeignKey::new(new_key("acme/plain"), Credential::token(plain));
    imported(&store.engine, "plain", key.id("row-of-the-old-gateway"));
    let id = hashed(&store.engine, TOKEN);
    assert_eq!(granted(&store.engine, TOKEN), Some(id));
    let path = store.path.clone().unwrap();
    for _ in 0..2 {
        store.reopen();
        assert!(holds(&path, b"row-of-the-old-gateway"));
        assert!(!holds(&path, plain.as_bytes()) && !holds(&path, TOKEN.as_bytes()));
        assert!(!holds(&path, Sha256::digest(TOKEN).as_slice()));
        assert!(!holds(&path, Sha256::digest(plain).as_slice()));
    }
}

#[test]
fn whatever_takes_a_right_away_takes_it_from_an_imported_key() {
    let store = store();
    let engine = &store.engine;
    begin(engine, "hashed", ForeignHash::Sha256);
    let give = |name: &str, key: NewKey| {
        let token = format!("uk_{name}_3ZpX9qLmN4vR7sT1");
        let id = imported(engine, "hashed", ForeignKey::new(key, sha(&token)));
        (token, id)
    };
    let owned = |name: &str| give(name, new_key(&format!("acme/{name}")));
    // Each both before its first use was written and after.
    for round in ["unseen", "seen"] {
        let name = |what: &str| format!("{round}-{what}");
        let keys = [
            "revoked",
            "by_token",
            "disabled",
            "owner",
            "suspended",
            "expired",
            "rotated",
        ];
        let keys = keys.map(|what| owned(&name(what)));
        let limited = give(
            &name("limited"),
            new_key(&format!("l/{round}")).plan("slow"),
        );
        let quota = new_key(&format!("q/{round}")).quota(Quota::new(1));
        let quota = give(&name("quota"), quota);
        if round == "seen" {
            for (token, id) in &keys {
                assert_eq!(granted(engine, token), Some(*id));
            }
            engine.flush().unwrap();
        }
        let [
            revoked,
            by_token,
            disabled,
            owner,
            suspended,
            expired,
            rotated,
        ] = &keys;
        engine.revoke(revoked.1, Reason::KeyCompromise).unwrap();
        assert!(matches!(denial(engine, &revoked.0), Denial::Revoked { .. }));
        engine
            .revoke_token(&by_token.0, Reason::KeyCompromise)
            .unwrap();
        assert!(matches!(
            denial(engine, &by_token.0),
            Denial::Revoked { .. }
        ));
        engine.disable(disabled.1).unwrap();
        assert!(matches!(
            denial(engine, &disabled.0),
            Denial::Disabled { .. }
        ));
        let path = |what: &str| format!("acme/{}", name(what));
        engine
            .revoke_owner(path("owner"), Reason::Cessation)
            .unwrap();
        assert!(matches!(denial(engine, &owner.0), Denial::Revoked { .. }));
        engine.suspend(path("suspended"), None).unwrap();
        assert!(matches!(
            denial(engine, &suspended.0),
            Denial::Suspended { .. }
        ));
        let soon = KeyUpdate::new().expires_in(Duration::from_secs(1));
        engine.update(expired.1, soon).unwrap();
        assert!(granted(engine, &expired.0).is_some());
        let new = engine.rotate(rotated.1, Rotation::with_grace(DAY)).unwrap();
        assert!(granted(engine, &rotated.0).is_some());
        assert_eq!(granted(engine, new.token.expose()), Some(new.key.id));
        store.clock.advance(Duration::from_secs(2));
        assert!(matches!(denial(engine, &expired.0), Denial::Expired { .. }));
        store.clock.advance(DAY);
        assert!(matches!(denial(engine, &rotated.0), Denial::Revoked { .. }));
        assert_eq!(granted(engine, new.token.expose()), Some(new.key.id));
        for _ in 0..2 {
            assert!(granted(engine, &limited.0).is_some());
        }
        assert!(matches!(
            denial(engine, &limited.0),
            Denial::RateLimited { .. }
        ));
        assert!(granted(engine, &quota.0).is_some());
        assert!(matches!(
            denial(engine, &quota.0),
            Denial::QuotaExhausted { .. }
        ));
        let write = Requirements::new().permissions(&["write"]);
        let missing = engine.verify_with(&limited.0, &write).unwrap();
        assert!(matches!(
            missing.denial(),
            Some(Denial::PermissionMissing { .. })
        ));
        let elsewhere = Requirements::new().keyspace("other".parse().unwrap());
        let elsewhere = engine.verify_with(&limited.0, &elsewhere).unwrap();
        assert!(matches!(elsewhere.denial(), Some(Denial::Unknown)));
        sound(engine);
    }
    engine.flush().unwrap();
    let before = counts(engine);
    let purged = engine.purge(Duration::ZERO).unwrap();
    assert_eq!(counts(engine).0, before.0 - purged.keys);
    assert!(purged.keys >= 8);
    sound(engine);
    let token = "uk_seen-revoked_3ZpX9qLmN4vR7sT1";
    assert!(matches!(denial(engine, token), Denial::Unknown));
}

#[test]
fn an_import_runs_again_from_its_beginning_and_tells_what_it_has() {
    let mut store = store();
    let engine = &store.engine;
    let new = || NewImport::new("unkey", ForeignHash::Sha256);
    let first = engine.begin_import(new()).unwrap();
    assert_eq!(engine.begin_import(new()).unwrap(), first);
    let other = engine.begin_import(new().starts_with("uk_"));
    assert!(matches!(
        other,
        Err(Error::Conflict(Conflict::ImportDiffers(_)))
    ));
    let keys = |from: usize, to: usize| -> Vec<ForeignKey> {
        let key = |n: usize| {
            let key = ForeignKey::new(new_key(&format!("acme/{n}")), sha(&format!("uk_token_{n}")));
            // Not every source has ids.
            match n % 2 {
                0 => key.id(format!("row-{n}")),
                _ => key,
            }
        };
        (from..to).map(key).collect()
    };
    let tell = |told: &[ImportedKey]| {
        let mut told_of = [0; 3];
        for one in told {
            told_of[match one {
                ImportedKey::Imported(_) => 0,
                ImportedKey::Present(_) => 1,
                _ => 2,
            }] += 1;
        }
        told_of
    };
    let dry = engine.import_dry_run(new(), keys(0, 30)).unwrap();
    assert_eq!(tell(&dry), [30, 0, 0]);
    assert_eq!(counts(engine), (0, 0));
    // Cut off after twenty.
    assert_eq!(
        tell(&engine.import_keys("unkey", keys(0, 20)).unwrap()),
        [20, 0, 0]
    );
    assert_eq!(
        tell(&engine.import_keys("unkey", keys(0, 30)).unwrap()),
        [10, 20, 0]
    );
    assert_eq!(counts(engine), (30, 30));
    for n in 0..10 {
        assert!(granted(engine, &format!("uk_token_{n}")).is_some());
    }
    store.reopen();
    let engine = &store.engine;
    assert_eq!(counts(engine), (30, 20));
    let told = engine.import_keys("unkey", keys(0, 30)).unwrap();
    assert_eq!(tell(&told), [0, 30, 0]);
    sound(engine);
}

#[test]
fn a_token_or_an_id_that_another_key_has_is_refused_and_told() {
    let store = store();
    let engine = &store.engine;
    let first = hashed(engine, TOKEN);
    begin(engine, "other", ForeignHash::Sha256);
    let again = ForeignKey::new(new_key("acme/b"), sha(TOKEN));
    assert!(matches!(
        import(engine, "other", again.clone()),
        ImportedKey::Refused(Error::Conflict(Conflict::TokenTaken { key })) if key == first
    ));
    let twice = |id: &str| ForeignKey::new(new_key("acme/c"), sha("uk_twice")).id(id);
    let told = engine
        .import_keys("other", vec![twice("a"), twice("b"), twice("a")])
        .unwrap();
    assert!(matches!(
        told.as_slice(),
        [
            ImportedKey::Imported(key),
            ImportedKey::Refused(Error::Conflict(Conflict::TokenTaken { key: other })),
            ImportedKey::Present(same)
        ] if key == other && key == same
    ));
    let other_token = ForeignKey::new(new_key("acme/c"), sha("uk_thrice")).id("a");
    assert!(matches!(
        import(engine, "other", other_token),
        ImportedKey::Refused(Error::Conflict(Conflict::ForeignIdTaken { .. }))
    ));
    let own = engine.issue(new_key("acme/own")).unwrap();
    begin(engine, "plain", ForeignHash::Plain);
    let own = ForeignKey::new(new_key("acme/d"), Credential::token(own.token.expose()));
    let refused = import(engine, "plain", own);
    assert!(
        matches!(
            &refused,
            ImportedKey::Refused(Error::Invalid(Invalid::Malformed(_)))
        ),
        "{refused:?}"
    );
    for (name, credential) in [
        ("plain", sha("x")),
        ("other", Credential::token("a-token-of-old")),
        ("other", Credential::digest([0; 31])),
        ("other", Credential::claimed()),
    ] {
        let key = ForeignKey::new(new_key("acme/e"), credential);
        assert!(matches!(import(engine, name, key), ImportedKey::Refused(_)));
    }
    let nowhere = engine.import_keys("nowhere", vec![again]);
    assert!(matches!(nowhere, Err(Error::NotFound(NotFound::Import(_)))));
    assert_eq!(counts(engine), (2, 2));
    sound(engine);
}

#[test]
fn an_import_keeps_to_caps_and_takes_no_key_of_an_owner_away() {
    let store = store();
    let engine = &store.engine;
    for (prefix, keys) in [
        ("single", KeysPerOwner::SingleSuperseding),
        ("refusing", KeysPerOwner::SingleRefusing),
        ("capped", KeysPerOwner::Many { cap: Some(1) }),
    ] {
        let keyspace = NewKeyspace::new(prefix).unwrap().keys_per_owner(keys);
        engine.create_keyspace(keyspace).unwrap();
        let own = engine.issue(NewKey::new(prefix, "acme").unwrap()).unwrap();
        begin(engine, prefix, ForeignHash::Sha256);
        let key = |owner: &str, token: &str| {
            let key = NewKey::new(prefix, owner).unwrap();
            ForeignKey::new(key, sha(&format!("{prefix}-{token}")))
        };
        let told = engine
            .import_keys(prefix, vec![key("acme", "a"), key("b", "b"), key("b", "c")])
            .unwrap();
        assert!(matches!(
            told.as_slice(),
            [
                ImportedKey::Refused(_),
                ImportedKey::Imported(_),
                ImportedKey::Refused(_)
            ]
        ));
        assert!(granted(engine, own.token.expose()).is_some());
        assert!(granted(engine, &format!("{prefix}-b")).is_some());
        // An imported key counts for what is issued after it.
        let next = engine.issue(NewKey::new(prefix, "b").unwrap());
        assert_eq!(next.is_ok(), prefix == "single");
        assert_eq!(
            granted(engine, &format!("{prefix}-b")).is_none(),
            prefix == "single"
        );
    }
    engine
        .update_owner("acme_live", "tree", OwnerUpdate::new().cap(1))
        .unwrap();
    begin(engine, "tree", ForeignHash::Sha256);
    let keys = ["tree/a", "tree/b"].map(|owner| ForeignKey::new(new_key(owner), sha(owner)));
    let told = engine.import_keys("tree", keys.into()).unwrap();
    assert!(matches!(
        told[1],
        ImportedKey::Refused(Error::Conflict(Conflict::OwnerAtCap { .. }))
    ));
    sound(engine);
}

#[test]
fn a_sunset_ends_the_keys_that_were_never_used_and_no_others() {
    let mut store = store();
    let engine = &store.engine;
    let sunset = at(DAY_MS);
    let new = NewImport::new("unkey", ForeignHash::Sha256).sunset(sunset);
    engine.begin_import(new).unwrap();
    let keys =
        |n: usize| ForeignKey::new(new_key(&format!("acme/{n}")), sha(&format!("uk_tok_{n}")));
    let told = engine
        .import_keys("unkey", (0..1500).map(keys).collect())
        .unwrap();
    let [ImportedKey::Imported(used), ImportedKey::Imported(late), ..] = told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(granted(engine, "uk_tok_0"), Some(used));
    engine.flush().unwrap();
    store.clock.set(at(DAY_MS - 1));
    assert!(granted(engine, "uk_tok_2").is_some());
    store.clock.set(sunset);
    // Before a flush has ended them.
    let ended = denial(engine, "uk_tok_1");
    assert!(
        matches!(ended, Denial::Revoked { key, at, reason: Reason::Cessation } if key == late && at == sunset),
        "{ended:?}"
    );
    // The clock steps back, and it stays over.
    store.clock.set(at(1000));
    assert!(matches!(denial(engine, "uk_tok_1"), Denial::Revoked { .. }));
    let dry = engine.dry_run("uk_tok_1", &Requirements::new()).unwrap();
    assert!(!dry.is_granted());
    assert!(granted(engine, "uk_tok_0").is_some());
    let more = engine.import_keys("unkey", vec![keys(2000)]);
    assert!(matches!(
        more,
        Err(Error::Conflict(Conflict::ImportOver { .. }))
    ));
    engine.flush().unwrap();
    assert_eq!(counts(engine), (1500, 0));
    sound(engine);
    for round in 0..2 {
        let engine = &store.engine;
        let key = engine.key(late).unwrap();
        assert_eq!(key.state, KeyState::Revoked, "{round}");
        assert!(matches!(denial(engine, "uk_tok_1"), Denial::Revoked { .. }));
        assert_eq!(granted(engine, "uk_tok_0"), Some(used));
        // Used the millisecond before, and written with the flush.
        assert!(granted(engine, "uk_tok_2").is_some());
        store.reopen();
    }
    let engine = &store.engine;
    let page = engine.audit_page(0, 1000).unwrap();
    let ended = page.entries.iter().filter_map(|entry| match &entry.event {
        AuditEvent::ImportEnded { keys, .. } => Some(keys.len()),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [1000, 498]);
    // What has ended stays ended.
    engine.set_sunset("unkey", None).unwrap();
    assert!(matches!(denial(engine, "uk_tok_1"), Denial::Revoked { .. }));
}

#[test]
fn a_sunset_that_is_moved_or_taken_away_ends_nothing_before_it() {
    let store = store();
    let engine = &store.engine;
    hashed(engine, TOKEN);
    let [soon, later] = [1, 2].map(|days| at(days * DAY_MS));
    engine.set_sunset("hashed", Some(soon)).unwrap();
    engine.set_sunset("hashed", Some(later)).unwrap();
    store.clock.set(soon);
    engine.flush().unwrap();
    let dry = |engine: &Engine| engine.dry_run(TOKEN, &Requirements::new()).unwrap();
    assert!(dry(engine).is_granted());
    store.clock.set(later);
    assert!(!dry(engine).is_granted());
    let unknown = engine.set_sunset("nowhere", None);
    assert!(matches!(unknown, Err(Error::NotFound(NotFound::Import(_)))));
}

#[test]
fn a_key_without_a_hash_that_is_computed_waits_to_be_claimed() {
    let mut store = store();
    let engine = &store.engine;
    let new = NewImport::new("gitea", ForeignHash::Other).lengths(40..=40);
    engine.begin_import(new).unwrap();
    let [token, other] = ["a", "b"].map(|letter| letter.repeat(40));
    let waiting =
        |id: &str| ForeignKey::new(new_key(&format!("acme/{id}")), Credential::claimed()).id(id);
    let ids = ["17", "18", "19"].map(|id| imported(engine, "gitea", waiting(id)));
    assert!(matches!(
        import(engine, "gitea", waiting("17")),
        ImportedKey::Present(_)
    ));
    assert!(granted(engine, &token).is_none());
    assert_eq!(counts(engine), (3, 3));
    assert!(matches!(
        engine.claim("gitea", "20", &token),
        Err(Error::NotFound(NotFound::ForeignId { .. }))
    ));
    assert!(matches!(
        engine.claim("gitea", "17", "too short"),
        Err(Error::Invalid(Invalid::Malformed(_)))
    ));
    assert_eq!(engine.claim("gitea", "17", &token).unwrap().id, ids[0]);
    assert_eq!(granted(engine, &token), Some(ids[0]));
    // Again, as after an answer that was lost.
    assert_eq!(engine.claim("gitea", "17", &token).unwrap().id, ids[0]);
    assert!(matches!(
        engine.claim("gitea", "17", &other),
        Err(Error::Conflict(Conflict::NotClaimable { .. }))
    ));
    assert!(matches!(
        engine.claim("gitea", "18", &token),
        Err(Error::Conflict(Conflict::TokenTaken { .. }))
    ));
    engine.revoke(ids[2], Reason::Cessation).unwrap();
    assert!(matches!(
        engine.claim("gitea", "19", &other),
        Err(Error::Conflict(Conflict::Revoked { .. }))
    ));
    begin(engine, "hashed", ForeignHash::Sha256);
    imported(
        engine,
        "hashed",
        ForeignKey::new(new_key("h"), sha(TOKEN)).id("1"),
    );
    assert!(matches!(
        engine.claim("hashed", "1", TOKEN),
        Err(Error::Conflict(Conflict::NotClaimable { .. }))
    ));
    store.reopen();
    assert_eq!(granted(&store.engine, &token), Some(ids[0]));
    assert_eq!(counts(&store.engine), (4, 2));
    sound(&store.engine);
}

#[test]
fn an_imported_key_goes_with_a_backup_and_a_restore_takes_from_it_what_was_taken() {
    let store = store();
    let engine = &store.engine;
    let id = hashed(engine, TOKEN);
    let key = ForeignKey::new(new_key("acme/b"), sha("uk_second_token"));
    let second = imported(engine, "hashed", key);
    let backup = store.dir().join("backup.redb");
    let end = engine.audit_span().unwrap().last.seq;
    engine.backup(&backup).unwrap();
    // Whoever uses a copy changes it.
    let used = store.dir().join("used.redb");
    engine.backup(&used).unwrap();
    let copy = Engine::open(&used).unwrap();
    assert_eq!(granted(&copy, TOKEN), Some(id));
    sound(&copy);
    copy.close().unwrap();
    engine.set_sunset("hashed", Some(at(1000))).unwrap();
    assert!(granted(engine, TOKEN).is_some());
    store.clock.set(at(1000));
    engine.flush().unwrap();
    let mut trail = Vec::new();
    engine.export_audit(end + 1, &mut trail).unwrap();
    let target = store.dir().join("restored.redb");
    let options = Options::new().clock(store.clock.clone());
    let restored = Restore::new(&backup, options).trail(&trail[..]);
    restored.to(&target).unwrap();
    let options = Options::new().clock(store.clock.clone());
    let engine = options.open(&target).unwrap();
    assert!(granted(&engine, TOKEN).is_some());
    assert_eq!(engine.key(second).unwrap().state, KeyState::Revoked);
    sound(&engine);
}

#[test]
fn a_new_pepper_is_taken_up_by_imported_keys_and_the_old_one_can_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let open = |ids: &[u8], create: bool| {
        let options = ids.iter().fold(Options::new(), |options, id| {
            options.pepper(Pepper::new(*id, [*id; 32]).unwrap())
        });
        match create {
            true => options.create(&path),
            false => options.open(&path),
        }
    };
    let engine = open(&[1], true).unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap().permissions(["read"]);
    engine.create_keyspace(keyspace).unwrap();
    let id = hashed(&engine, TOKEN);
    let other = ForeignKey::new(new_key("acme/b"), sha("uk_second_token"));
    imported(&engine, "hashed", other.clone());
    assert_eq!(granted(&engine, TOKEN), Some(id));
    engine.close().unwrap();
    let engine = open(&[2, 1], false).unwrap();
    // Seen under the old pepper, and not seen under it.
    assert_eq!(granted(&engine, TOKEN), Some(id));
    assert!(matches!(
        import(&engine, "hashed", other),
        ImportedKey::Present(_)
    ));
    assert!(granted(&engine, "uk_second_token").is_some());
    sound(&engine);
    engine.close().unwrap();
    let engine = open(&[2], false).unwrap();
    assert_eq!(granted(&engine, TOKEN), Some(id));
    assert!(granted(&engine, "uk_second_token").is_some());
    sound(&engine);
}

/// Whoever can write the file cannot give a token a key by the indexes alone.
#[test]
fn an_index_that_was_tampered_with_grants_nothing() {
    let mut store = store();
    let digest: [u8; 32] = {
        hashed(&store.engine, TOKEN);
        store.edit(|txn| {
            let foreign = redb::TableDefinition::<&[u8; 32], u64>::new("foreign");
            let table = txn.open_table(foreign).unwrap();
            let first = redb::ReadableTable::first(&table).unwrap().unwrap();
            *first.0.value()
        })
    };
    let engine = &store.engine;
    let admin = engine.issue(new_key("acme/admin")).unwrap();
    let new = NewImport::new("gitea", ForeignHash::Other).lengths(40..=40);
    engine.begin_import(new).unwrap();
    let key =
        |id: &str| ForeignKey::new(new_key(&format!("acme/{id}")), Credential::claimed()).id(id);
    let [rich, poor] = ["rich", "poor"].map(|id| imported(engine, "gitea", key(id)));
    assert_ne!(rich, poor);
    // Another's key, of a token of the same kind.
    let other = ForeignKey::new(new_key("acme"), sha("uk_anothers_3ZpX9qLmN4vR7sT1"));
    let other = raw(imported(engine, "hashed", other));
    store.edit(|txn| {
        let foreign = redb::TableDefinition::<&[u8; 32], u64>::new("foreign");
        let mut table = txn.open_table(foreign).unwrap();
        table.insert(&digest, other).unwrap();
    });
    assert!(matches!(denial(&store.engine, TOKEN), Denial::Unknown));
    store.edit(|txn| {
        let foreign = redb::TableDefinition::<&[u8; 32], u64>::new("foreign");
        let mut table = txn.open_table(foreign).unwrap();
        table.insert(&digest, raw(admin.key.id)).unwrap();
        let ids = redb::TableDefinition::<(u8, &str), u64>::new("foreign_ids");
        let mut ids = txn.open_table(ids).unwrap();
        ids.insert((2, "poor"), raw(rich)).unwrap();
    });
    let engine = &store.engine;
    assert!(matches!(denial(engine, TOKEN), Denial::Unknown));
    let claimed = engine.claim("gitea", "poor", "a".repeat(40));
    assert!(matches!(claimed, Err(Error::Corrupted(_))), "{claimed:?}");
    assert!(!engine.check().unwrap().is_sound());
    let repaired = engine.repair().unwrap();
    assert!(!repaired.repairs.is_empty());
    sound(engine);
    assert!(granted(engine, TOKEN).is_some());
    assert_eq!(
        engine.claim("gitea", "poor", "a".repeat(40)).unwrap().id,
        poor
    );
}

/// A lost import takes the tokens of its keys with it, and no repair guesses them.
#[test]
fn tables_of_imports_that_lost_their_records_are_made_again_from_the_keys() {
    let mut store = store();
    hashed(&store.engine, TOKEN);
    let key = ForeignKey::new(new_key("acme/b"), sha("uk_second_token"));
    imported(&store.engine, "hashed", key.id("row-2"));
    for name in ["unseen", "foreign", "foreign_ids", "imports"] {
        store.edit(|txn| match name {
            "unseen" => {
                let table = redb::TableDefinition::<(u8, u64), ()>::new(name);
                txn.open_table(table)
                    .unwrap()
                    .retain(|_, ()| false)
                    .unwrap();
            }
            "foreign" => {
                let table = redb::TableDefinition::<&[u8; 32], u64>::new(name);
                txn.open_table(table).unwrap().retain(|_, _| false).unwrap();
            }
            "foreign_ids" => {
                let table = redb::TableDefinition::<(u8, &str), u64>::new(name);
                txn.open_table(table).unwrap().retain(|_, _| false).unwrap();
            }
            _ => {
                let table = redb::TableDefinition::<u8, &[u8]>::new(name);
                txn.open_table(table).unwrap().retain(|_, _| false).unwrap();
            }
        });
        let engine = &store.engine;
        assert!(!engine.check().unwrap().is_sound(), "{name}");
        engine.repair().unwrap();
        sound(engine);
        assert_eq!(counts(engine), (2, 2), "{name}");
        let dry = engine.dry_run(TOKEN, &Requirements::new()).unwrap();
        assert_eq!(dry.is_granted(), name != "imports", "{name}");
    }
    let name = &store.engine.imports().unwrap()[0].name;
    assert_eq!(name, "lost-1");
}
