//! JWTs that stand for keys: made, verified, and taken away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use gatekey::Clock as _;
use gatekey::{
    Denial, Engine, Issued, KeyUpdate, KeyspaceUpdate, Limit, ManualClock, NewKey, NewKeyspace,
    Options, Pepper, Plan, Reason, Requirements, Rotation, SystemClock, Timestamp,
};
use gatekey_oauth::{JwtOptions, Jwts, KeyUse, LIFETIME_MAX};
use serde_json::{Value, json};

const ISSUER: &str = "https://api.example.com";
const READ: Requirements<'_> = Requirements::new().permissions(&["read"]);
const WRITE: Requirements<'_> = Requirements::new().permissions(&["write"]);

struct World {
    engine: Engine,
    clock: ManualClock,
    jwts: Jwts,
    key: Issued,
}

fn options() -> JwtOptions {
    JwtOptions::new(ISSUER, ISSUER)
}

fn keyspace(engine: &Engine) {
    let slow = Plan::new("slow").limit(Limit::per_minute(2));
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    let keyspace = keyspace.permissions(["read", "write", "admin"]).plan(slow);
    engine.create_keyspace(keyspace).unwrap();
}

fn new_key() -> NewKey {
    let new = NewKey::new("acme_live", "acme/etl").unwrap();
    new.permissions(["read", "write"])
}

fn world() -> World {
    let clock = ManualClock::at(SystemClock.now());
    let engine = Options::new()
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    keyspace(&engine);
    World {
        jwts: Jwts::open(&engine, options()).unwrap(),
        key: engine.issue(new_key()).unwrap(),
        engine,
        clock,
    }
}

impl World {
    fn jwt_of(&self, key: &Issued, scope: Option<&[&str]>) -> String {
        let issued = self
            .jwts
            .exchange(key.token.expose(), &Requirements::new(), scope);
        issued.unwrap().unwrap().expose().to_owned()
    }

    fn jwt(&self) -> String {
        self.jwt_of(&self.key, None)
    }

    fn denial(&self, jwt: &str) -> Option<&'static str> {
        let verdict = self.jwts.verify(jwt, &READ).unwrap();
        verdict.denial().map(Denial::code)
    }
}

fn part(jwt: &str, at: usize) -> Value {
    let part = jwt.split('.').nth(at).unwrap();
    serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
}

#[test]
fn a_key_is_exchanged_for_a_jwt_that_may_do_no_more() {
    let w = world();
    let jwt = w.jwt();
    let verdict = w.jwts.verify(&jwt, &READ).unwrap();
    let grant = verdict.grant().unwrap();
    assert_eq!((grant.owner(), grant.key_id()), ("acme/etl", w.key.key.id));
    assert!(w.jwts.verify(&jwt, &WRITE).unwrap().is_granted());

    let claims = part(&jwt, 1);
    let now = w.engine.now().unix_seconds();
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], ISSUER);
    assert_eq!(claims["sub"], "acme/etl");
    assert_eq!(claims["client_id"], w.key.key.id.to_string());
    assert_eq!(
        (&claims["iat"], &claims["exp"]),
        (&json!(now), &json!(now + 600))
    );
    assert_eq!(claims["scope"], "read write");
    assert_ne!(claims["jti"], part(&w.jwt(), 1)["jti"]);
    let header = part(&jwt, 0);
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("EdDSA"), &json!("at+jwt"))
    );

    // A narrower one is narrower, also where its key is not, on first sight and after.
    let narrow = w.jwt_of(&w.key, Some(&["read"]));
    for _ in 0..3 {
        let verdict = w.jwts.verify(&narrow, &READ).unwrap();
        let keyspace = w.engine.keyspace("acme_live").unwrap();
        let permissions = verdict.grant().unwrap().permissions();
        assert_eq!(keyspace.names(permissions), ["read"]);
        let verdict = w.jwts.verify(&narrow, &WRITE).unwrap();
        assert!(matches!(
            verdict.denial(),
            Some(Denial::PermissionMissing { .. })
        ));
    }
    // None is wider than its key.
    for wider in [["admin"], ["nothing"]] {
        let token = w.key.token.expose();
        assert!(
            w.jwts
                .exchange(token, &Requirements::new(), Some(&wider))
                .is_err()
        );
    }
    w.engine
        .update(w.key.key.id, KeyUpdate::new().add_permissions(["admin"]))
        .unwrap();
    let admin = Requirements::new().permissions(&["admin"]);
    assert!(!w.jwts.verify(&jwt, &admin).unwrap().is_granted());

    // What is not granted is exchanged for nothing.
    let denied = w.jwts.exchange("acme_live_no", &READ, None).unwrap();
    assert!(matches!(denied, Err(Denial::Malformed)));
    let denied = w.jwts.exchange(&jwt, &READ, None).unwrap();
    assert!(matches!(denied, Err(Denial::Malformed)), "a JWT is no key");
    assert!(Jwts::is_jwt(&jwt) && !Jwts::is_jwt(w.key.token.expose()));
    assert!(!format!("{:?}", w.jwts.exchange(w.key.token.expose(), &READ, None)).contains("eyJ"));
}

/// Whatever takes the key away takes its JWT away at the return of the call, seen before
/// or not.
#[test]
fn what_takes_a_key_away_takes_its_jwt_away() {
    type Takes = fn(&World);
    let all: [(Takes, &str); 7] = [
        (
            |w| drop(w.engine.revoke(w.key.key.id, Reason::KeyCompromise)),
            "revoked",
        ),
        (
            |w| drop(w.engine.revoke_owner("acme", Reason::Cessation)),
            "revoked",
        ),
        (|w| drop(w.engine.disable(w.key.key.id)), "disabled"),
        (|w| drop(w.engine.suspend("acme", None)), "suspended"),
        (
            |w| drop(w.engine.rotate(w.key.key.id, Rotation::at_once())),
            "revoked",
        ),
        (
            |w| {
                let narrow = KeyUpdate::new().remove_permissions(["read"]);
                drop(w.engine.update(w.key.key.id, narrow));
            },
            "permission_missing",
        ),
        (
            |w| {
                w.engine.revoke(w.key.key.id, Reason::Cessation).unwrap();
                w.clock.advance(Duration::from_secs(1));
                w.engine.purge(Duration::ZERO).unwrap();
            },
            "unknown",
        ),
    ];
    for (takes, code) in all {
        for is_seen in [false, true] {
            let w = world();
            let jwt = w.jwt();
            if is_seen {
                assert_eq!(w.denial(&jwt), None);
            }
            takes(&w);
            assert_eq!(w.denial(&jwt), Some(code));
            assert_eq!(w.denial(&jwt), Some(code));
        }
    }
    let w = world();
    let jwt = w.jwt();
    w.engine.suspend("acme", None).unwrap();
    w.engine.resume("acme").unwrap();
    assert_eq!(w.denial(&jwt), None);
}

/// As with keys: the rest of the scope stays, whether the JWT was seen before or not.
#[test]
fn a_permission_that_is_retired_is_taken_from_a_jwt_and_no_more() {
    let w = world();
    let seen = w.jwt();
    assert_eq!(w.denial(&seen), None);
    let first = w.jwt();
    let retired = KeyspaceUpdate::new().retire_permissions(["write"]);
    w.engine.update_keyspace("acme_live", retired).unwrap();
    for jwt in [seen, first] {
        for _ in 0..2 {
            assert_eq!(w.denial(&jwt), None);
            assert!(!w.jwts.verify(&jwt, &WRITE).unwrap().is_granted());
        }
    }
}

/// With eight threads that verify all the time, and a cache that is warm.
#[test]
fn nothing_that_starts_after_a_revocation_is_granted() {
    let w = world();
    let mut granted_after = 0;
    let verified = AtomicU64::new(0);
    for round in 0..60 {
        let key = w.engine.issue(new_key()).unwrap();
        let jwt = w.jwt_of(&key, None);
        assert_eq!(w.denial(&jwt), None);
        let revoked = AtomicBool::new(false);
        let granted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut granted = 0;
                        let mut after = 0;
                        while after < 100 {
                            let was_revoked = revoked.load(Ordering::SeqCst);
                            let is_granted = w.jwts.verify(&jwt, &READ).unwrap().is_granted();
                            verified.fetch_add(1, Ordering::Relaxed);
                            granted += u64::from(was_revoked && is_granted);
                            after += u64::from(was_revoked);
                        }
                        granted
                    })
                })
                .collect();
            match round % 3 {
                0 => drop(w.engine.revoke(key.key.id, Reason::KeyCompromise).unwrap()),
                1 => drop(w.engine.disable(key.key.id).unwrap()),
                _ => {
                    let kid = part(&jwt, 0)["kid"].as_str().unwrap().to_owned();
                    assert!(w.jwts.revoke_signing_key(&kid).unwrap());
                }
            }
            revoked.store(true, Ordering::SeqCst);
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<u64>()
        });
        granted_after += granted;
    }
    assert_eq!(granted_after, 0);
    assert!(verified.load(Ordering::Relaxed) > 48_000);
}

#[test]
fn a_jwt_is_good_while_now_is_before_its_end_and_stays_over() {
    let w = world();
    w.clock
        .set(Timestamp::from_unix_ms(w.clock.now().unix_ms() / 1000 * 1000 + 1500).unwrap());
    let jwt = w.jwt();
    let end = part(&jwt, 1)["exp"].as_u64().unwrap();
    for is_seen in [false, true] {
        if is_seen {
            assert_eq!(w.denial(&jwt), None);
        }
        w.clock
            .set(Timestamp::from_unix_ms(end * 1000 - 1).unwrap());
        assert_eq!(w.denial(&jwt), None);
    }
    w.clock.advance(Duration::from_millis(1));
    let denied = w.jwts.verify(&jwt, &READ).unwrap();
    let Some(Denial::Expired { key, expired_at }) = denied.denial() else {
        panic!("{denied:?}");
    };
    assert_eq!((*key, expired_at.unix_seconds()), (w.key.key.id, end));
    // A clock that steps back revives nothing.
    w.clock.step_back(Duration::from_secs(3600));
    assert_eq!(w.denial(&jwt), Some("expired"));
}

#[test]
fn a_jwt_ends_with_its_key_where_that_is_sooner() {
    let w = world();
    let minute = Duration::from_secs(60);
    let key = w.engine.issue(new_key().expires_in(minute)).unwrap();
    let jwt = w.jwt_of(&key, None);
    let end = w.clock.now().saturating_add(minute).unix_seconds();
    assert_eq!(part(&jwt, 1)["exp"], end);
    // Also in a grace.
    let key = w.engine.issue(new_key()).unwrap();
    w.engine
        .rotate(key.key.id, Rotation::with_grace(minute))
        .unwrap();
    assert_eq!(part(&w.jwt_of(&key, None), 1)["exp"], end);
}

#[test]
fn a_jwt_is_charged_to_the_limits_of_its_key() {
    let w = world();
    let key = w.engine.issue(new_key().plan("slow")).unwrap();
    // The exchange is a request too.
    let jwt = w.jwt_of(&key, None);
    assert_eq!(w.denial(&jwt), None);
    assert_eq!(w.denial(&jwt), Some("rate_limited"));
    assert!(!w.engine.verify(key.token.expose()).unwrap().is_granted());
    assert!(w.jwts.verify(&jwt, &READ.cost(0)).unwrap().is_granted());
}

/// Signs claims with the key of a store of its own, whose `kid` is then unknown elsewhere;
/// and the same claims by the store itself, in whose place a wrong one is put.
#[test]
fn a_jwt_of_another_issuer_audience_or_store_is_refused() {
    let w = world();
    let jwt = w.jwt();
    for options in [
        JwtOptions::new("https://other.example", ISSUER),
        JwtOptions::new(ISSUER, "https://other.example"),
        JwtOptions::new(format!("{ISSUER}/"), ISSUER),
    ] {
        // The same signing keys.
        let others = Jwts::open(&w.engine, options).unwrap();
        let theirs = others
            .exchange(w.key.token.expose(), &READ, None)
            .unwrap()
            .unwrap();
        assert_eq!(w.denial(theirs.expose()), Some("unknown"));
        let denied = others.verify(&jwt, &READ).unwrap();
        assert!(matches!(denied.denial(), Some(Denial::Unknown)));
        assert!(others.verify(theirs.expose(), &READ).unwrap().is_granted());
    }
    let other = world();
    assert_eq!(other.denial(&jwt), Some("unknown"));
}

#[test]
fn what_is_no_jwt_is_malformed_and_nothing_panics() {
    let w = world();
    let jwt = w.jwt();
    let long = format!("{jwt}{}", "A".repeat(4096));
    let dots = ".".repeat(4096);
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        &long,
        &dots,
        "a.b",
        w.key.token.expose(),
    ] {
        assert_eq!(w.denial(text), Some("malformed"), "{text}");
    }
    assert!(
        !w.jwts
            .verify(b"\xff.\xff.\xff", &READ)
            .unwrap()
            .is_granted()
    );
    let unsigned = json!({"alg": "none", "kid": part(&jwt, 0)["kid"], "typ": "at+jwt"});
    let rest = jwt.split_once('.').unwrap().1;
    let payload = rest.split_once('.').unwrap().0;
    let header = BASE64.encode(unsigned.to_string());
    for bad in [format!("{header}.{rest}"), format!("{header}.{payload}.")] {
        assert_eq!(w.denial(&bad), Some("unknown"), "{bad}");
    }
    // A `kid` names an entry of a map, and nothing else.
    for kid in ["", "../../etc/passwd", "' OR 1=1", "\0", &"a".repeat(500)] {
        let header = json!({"alg": "EdDSA", "kid": kid, "typ": "at+jwt"}).to_string();
        let bad = format!("{}.{rest}", BASE64.encode(header));
        assert_eq!(w.denial(&bad), Some("unknown"), "{kid}");
    }
}

#[test]
fn an_engine_that_answers_nothing_denies_no_jwt() {
    let w = world();
    let seen = w.jwt();
    assert_eq!(w.denial(&seen), None);
    let unseen = w.jwt();
    w.engine.close().unwrap();
    let long = "a".repeat(100_000);
    for jwt in [&*seen, &unseen, "a.b.c", "no jwt", &long] {
        let error = w.jwts.verify(jwt, &READ).unwrap_err();
        assert!(matches!(error, gatekey::Error::Closed), "{jwt:.9}: {error}");
    }
}

#[test]
fn signing_keys_rotate_without_an_outage() {
    let w = world();
    let kids = |w: &World| {
        let set: Value = serde_json::from_str(&w.jwts.jwks()).unwrap();
        let keys = set["keys"].as_array().unwrap().clone();
        for key in &keys {
            assert_eq!((&key["use"], &key["kty"]), (&json!("sig"), &json!("OKP")));
            assert_eq!(key.as_object().unwrap().len(), 6, "nothing private: {key}");
        }
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let old = w.jwt();
    let before = kids(&w);
    assert_eq!(before.len(), 2);
    let signs = w.jwts.rotate_signing_keys().unwrap();
    // It was published before it signs.
    assert!(before.contains(&signs));
    let new = w.jwt();
    assert_eq!(part(&new, 0)["kid"], signs);
    assert_ne!(part(&old, 0)["kid"], signs);
    assert_eq!((w.denial(&old), w.denial(&new)), (None, None));
    assert_eq!(kids(&w).len(), 3);
    let usages: Vec<KeyUse> = w.jwts.signing_keys().iter().map(|key| key.usage).collect();
    for usage in [KeyUse::Next, KeyUse::Current, KeyUse::Retired] {
        assert_eq!(usages.iter().filter(|known| **known == usage).count(), 1);
    }
    // Once all that it signed has ended, a retired key goes.
    w.clock.advance(LIFETIME_MAX);
    assert_eq!(kids(&w).len(), 2);
    for _ in 0..50 {
        w.jwts.rotate_signing_keys().unwrap();
        w.clock.advance(LIFETIME_MAX);
    }
    assert!(w.jwts.signing_keys().len() <= 4);
    assert!(w.engine.check().unwrap().is_sound());
    let report: Vec<String> = w
        .engine
        .audit_page(0, 1000)
        .unwrap()
        .entries
        .iter()
        .map(|entry| entry.event.to_string())
        .filter(|text| text.starts_with("oauth "))
        .collect();
    assert!(report[0].starts_with("oauth signing_keys_made"));
    assert_eq!(report.len(), 52);
}

#[test]
fn a_signing_key_that_is_revoked_takes_its_jwts_with_it() {
    let w = world();
    let jwt = w.jwt();
    assert_eq!(w.denial(&jwt), None);
    let kid = part(&jwt, 0)["kid"].as_str().unwrap().to_owned();
    let next = w
        .jwts
        .signing_keys()
        .into_iter()
        .find(|key| key.usage == KeyUse::Next)
        .unwrap();
    assert!(w.jwts.revoke_signing_key(&kid).unwrap());
    assert!(!w.jwts.revoke_signing_key(&kid).unwrap());
    assert_eq!(w.denial(&jwt), Some("unknown"));
    assert_eq!(part(&w.jwt(), 0)["kid"], next.kid);
    let next = w
        .jwts
        .signing_keys()
        .into_iter()
        .find(|key| key.usage == KeyUse::Next)
        .unwrap();
    assert!(w.jwts.revoke_signing_key(&next.kid).unwrap());
    assert!(w.engine.check().unwrap().is_sound());
    assert_eq!(w.jwts.signing_keys().len(), 2);
}

/// The last letter of a signature has four bits that say nothing: they must be 0.
#[test]
fn a_second_text_of_a_jwt_is_refused() {
    let w = world();
    let jwt = w.jwt();
    let (all_but_one, last) = jwt.split_at(jwt.len() - 1);
    assert!("AQgw".contains(last), "{last}");
    for more in 1..=15 {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = letters
            .iter()
            .position(|letter| last.as_bytes() == [*letter]);
        let other = char::from(letters[at.unwrap() + more]);
        assert!(w.denial(&format!("{all_but_one}{other}")).is_some());
    }
    assert_eq!(w.denial(&jwt), None);
}

/// Two handles of one store have the same keys, at once.
#[test]
fn handles_of_one_store_share_their_signing_keys() {
    let w = world();
    let other = Jwts::open(&w.engine, options()).unwrap();
    assert_eq!(w.jwts.jwks(), other.jwks());
    w.jwts.rotate_signing_keys().unwrap();
    assert_eq!(w.jwts.jwks(), other.jwks());
    assert!(other.verify(w.jwt(), &READ).unwrap().is_granted());
}

#[test]
fn signing_keys_survive_and_are_in_no_file_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let opened = || Options::new().pepper(Pepper::new(1, [1; 32]).unwrap());
    let engine = opened().create(&path).unwrap();
    keyspace(&engine);
    let key = engine.issue(new_key()).unwrap();
    let jwts = Jwts::open(&engine, options()).unwrap();
    let jwt = jwts
        .exchange(key.token.expose(), &READ, None)
        .unwrap()
        .unwrap();
    let set = jwts.jwks();
    drop(jwts);
    engine.close().unwrap();
    let file = std::fs::read(&path).unwrap();
    let payload = jwt.expose().split('.').nth(1).unwrap();
    assert!(
        !file
            .windows(payload.len())
            .any(|window| window == payload.as_bytes())
    );

    let engine = opened().open(&path).unwrap();
    let jwts = Jwts::open(&engine, options()).unwrap();
    assert_eq!(jwts.jwks(), set);
    assert!(jwts.verify(jwt.expose(), &READ).unwrap().is_granted());
    engine.close().unwrap();
    assert!(jwts.verify(jwt.expose(), &READ).is_err());
}

#[test]
fn a_flood_of_jwts_leaves_memory_and_file_bounded() {
    let clock = ManualClock::at(SystemClock.now());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    let engine = Options::new().clock(clock).create(&path).unwrap();
    keyspace(&engine);
    let key = engine.issue(new_key()).unwrap();
    let jwts = Jwts::open(&engine, options().remembered(100)).unwrap();
    let grant = engine
        .verify(key.token.expose())
        .unwrap()
        .into_result()
        .unwrap();
    let len = || std::fs::metadata(&path).unwrap().len();
    let before = len();
    let first = jwts.issue(&grant, None).unwrap();
    for _ in 0..2_000 {
        let jwt = jwts.issue(&grant, None).unwrap();
        assert!(jwts.verify(jwt.expose(), &READ).unwrap().is_granted());
        let (all_but_one, last) = jwt.expose().split_at(jwt.expose().len() - 1);
        let other = if last == "A" { "Q" } else { "A" };
        for unknown in [
            format!("{}A", jwt.expose()),
            format!("{all_but_one}{other}"),
        ] {
            assert!(!jwts.verify(unknown, &READ).unwrap().is_granted());
        }
        assert!(jwts.remembered() <= 100);
    }
    assert!(jwts.remembered() > 90);
    // What was pushed out is verified anew.
    assert!(jwts.verify(first.expose(), &READ).unwrap().is_granted());
    assert_eq!(len(), before);
    // Without any memory, too.
    let cold = Jwts::open(&engine, options().remembered(0)).unwrap();
    assert!(cold.verify(first.expose(), &READ).unwrap().is_granted());
    assert_eq!(cold.remembered(), 0);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let engine = Engine::open_in_memory().unwrap();
    for options in [
        JwtOptions::new("", ISSUER),
        JwtOptions::new(ISSUER, ""),
        JwtOptions::new("https://a b", ISSUER),
        JwtOptions::new("a".repeat(513), ISSUER),
        options().lifetime(Duration::ZERO),
        options().lifetime(LIFETIME_MAX + Duration::from_secs(1)),
    ] {
        assert!(Jwts::open(&engine, options).is_err());
    }
}

#[cfg(feature = "aws-lc")]
#[test]
fn each_algorithm_signs_what_it_verifies_and_a_change_is_a_rotation() {
    use gatekey_oauth::Algorithm;
    let w = world();
    let first = w.jwt();
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
        let jwts = Jwts::open(&w.engine, options().algorithm(algorithm)).unwrap();
        jwts.rotate_signing_keys().unwrap();
        jwts.rotate_signing_keys().unwrap();
        let jwt = jwts
            .exchange(w.key.token.expose(), &READ, None)
            .unwrap()
            .unwrap();
        assert_eq!(part(jwt.expose(), 0)["alg"], algorithm.name());
        assert!(jwts.verify(jwt.expose(), &READ).unwrap().is_granted());
        // The header of one algorithm with the key of another.
        let header = part(jwt.expose(), 0);
        for alg in ["EdDSA", "ES256", "RS256", "HS256", "none"] {
            let mut header = header.clone();
            header["alg"] = alg.into();
            let rest = jwt.expose().split_once('.').unwrap().1;
            let bad = format!("{}.{rest}", BASE64.encode(header.to_string()));
            let is_own = alg == algorithm.name();
            assert_eq!(w.denial(&bad).is_none(), is_own, "{alg} for {algorithm}");
        }
    }
    assert_eq!(w.denial(&first), None);
    assert!(w.engine.check().unwrap().is_sound());
}

#[test]
fn a_damaged_signing_key_signs_and_verifies_nothing_and_is_found() {
    let w = world();
    let jwt = w.jwt();
    let extension = w.engine.extension("oauth").unwrap();
    let kid = Arc::new(part(&jwt, 0)["kid"].as_str().unwrap().to_owned());
    let name = kid.clone();
    extension
        .change(move |tx| tx.put("signing_keys", name.as_bytes(), 1, b"{}"))
        .unwrap();
    let report = w.engine.check().unwrap();
    assert!(
        report.findings[0].record.contains(kid.as_str()),
        "{report:?}"
    );
    assert!(w.jwts.exchange(w.key.token.expose(), &READ, None).is_err());
    let anew = Jwts::open(&w.engine, options()).unwrap();
    assert!(!anew.verify(&jwt, &READ).unwrap().is_granted());
    // A key that is taken for another's.
    assert!(w.jwts.revoke_signing_key(&kid).unwrap());
    assert!(w.engine.check().unwrap().is_sound());
    assert!(
        w.jwts
            .exchange(w.key.token.expose(), &READ, None)
            .unwrap()
            .is_ok()
    );
}
