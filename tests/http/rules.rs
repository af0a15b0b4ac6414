//! What holds in every dialect.

use std::time::Duration;

use gatekey::http::{AnswerKind, Carrier, Challenge, Dialect, RejectionReason, presets};
use gatekey::{Denial, Error, Level, NewKey, Reason};
use http::{HeaderMap, StatusCode};

use crate::common::{DIALECTS, World, carry, dialect, header};

#[test]
fn what_is_nobodys_business_reads_the_same() {
    let world = World::new();
    let unknown = "acme_live_7Hk2Pq9ZxW_00000000000000000000000000000000000000000002jqUlG";
    let issue = |owner| world.issue(owner);
    let (revoked, disabled, suspended) = (issue("acme/a"), issue("acme/b"), issue("acme/c"));
    world
        .engine
        .revoke(revoked.key.id, Reason::KeyCompromise)
        .unwrap();
    world.engine.disable(disabled.key.id).unwrap();
    world.engine.suspend("acme/c", None).unwrap();
    let early = NewKey::new("acme_live", "acme/d").unwrap();
    let early = early.not_before(world.later(Duration::from_secs(60)));
    let early = world.engine.issue(early).unwrap();
    for name in DIALECTS {
        let dialect = dialect(name);
        let reference = world.refused(&dialect, unknown).response();
        let mut tokens = vec![&revoked, &disabled, &suspended, &early];
        if !matches!(name, "tiered_bearer" | "ai_platform") {
            tokens.push(&world.expired);
        }
        for issued in tokens {
            let refused = world.refused(&dialect, issued.token.expose());
            assert_eq!(refused.key_id(), Some(issued.key.id));
            assert_eq!(refused.answer().kind(), AnswerKind::Invalid);
            let response = refused.response();
            assert_eq!(response.status(), reference.status());
            assert_eq!(response.headers(), reference.headers());
            // But for the caller's own text.
            let text = String::from_utf8(response.body().clone()).unwrap();
            let text = text.replace(&issued.key.id.to_string(), "7Hk2Pq9ZxW");
            assert_eq!(text.as_bytes(), reference.body());
        }
    }
}

#[test]
fn an_engine_that_fails_is_a_503_without_detail_and_never_a_denial() {
    for name in DIALECTS {
        let world = World::new();
        let dialect = dialect(name);
        let headers = carry(&dialect, world.token());
        world.engine.clone().close().unwrap();
        let refused = world.ask(&dialect, &headers).unwrap_err();
        assert!(matches!(
            refused.reason(),
            RejectionReason::Unavailable(error) if matches!(**error, Error::Closed)
        ));
        assert!(refused.to_string().contains("the engine is closed"));
        let response = refused.response();
        assert_eq!(response.status(), 503);
        assert_eq!(header(&response, "www-authenticate"), None);
        let text = String::from_utf8(response.body().clone()).unwrap();
        assert!(!text.contains("closed"), "{text}");
    }
}

#[test]
fn every_401_has_a_challenge_and_nothing_is_cached() {
    let world = World::new();
    let denials = || {
        let key = world.good.key.id;
        [
            Denial::Malformed,
            Denial::Unknown,
            Denial::Disabled { key },
            Denial::Expired {
                key,
                expired_at: world.engine.now(),
            },
            Denial::NetworkNotAllowed { key, source: None },
            Denial::QuotaExhausted {
                key,
                level: Level::Key,
                refills_at: None,
            },
            Denial::TooManyAttempts {
                retry_after: Duration::ZERO,
            },
        ]
    };
    for name in DIALECTS {
        let dialect = dialect(name);
        let refusals = denials().map(|denial| dialect.denied(denial));
        for refused in refusals
            .into_iter()
            .chain([dialect.missing(), dialect.foreign()])
        {
            let response = refused.response();
            assert!(response.status().is_client_error());
            assert_eq!(header(&response, "cache-control"), Some("no-store"));
            if response.status() == 401 {
                assert!(header(&response, "www-authenticate").is_some(), "{refused}");
            }
            assert!(
                serde_json::from_slice::<serde_json::Value>(response.body()).is_ok(),
                "{name}: {refused}"
            );
        }
    }
}

#[test]
fn a_quota_says_when_it_is_refilled_where_it_is() {
    let key = World::new().good.key.id;
    let from_now = gatekey::Timestamp::try_from(std::time::SystemTime::now())
        .unwrap()
        .checked_add(Duration::from_secs(100));
    let quota = |refills_at| {
        Dialect::default()
            .denied(Denial::QuotaExhausted {
                key,
                level: Level::Key,
                refills_at,
            })
            .response()
    };
    let response = quota(from_now);
    assert_eq!(response.status(), 429);
    let seconds: u64 = header(&response, "retry-after").unwrap().parse().unwrap();
    assert!((99..=100).contains(&seconds));
    assert_eq!(header(&quota(None), "retry-after"), None);
}

#[test]
fn a_network_is_told_apart_only_where_the_dialect_says_so() {
    let key = World::new().good.key.id;
    let elsewhere = || Denial::NetworkNotAllowed { key, source: None };
    let told = Dialect::default();
    assert_eq!(told.denied(elsewhere()).status(), 403);
    let untold = told.to_builder().reveal_network(false).build().unwrap();
    let refused = untold.denied(elsewhere());
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.answer().kind(), AnswerKind::Invalid);
}

#[test]
fn no_text_of_a_refusal_holds_the_token() {
    let world = World::new();
    for name in DIALECTS {
        let dialect = dialect(name);
        let token = world.expired.token.expose();
        let secret = &token[token.len() - 49..];
        let headers = carry(&dialect, token);
        let presented = dialect.credential(&headers).unwrap().unwrap();
        let refused = world.ask(&dialect, &headers).unwrap_err();
        let response = refused.response();
        for text in [
            format!("{presented:?}"),
            format!("{refused:?} {refused}"),
            format!("{:?}", refused.answer()),
            format!("{response:?}"),
            String::from_utf8_lossy(response.body()).into_owned(),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn the_log_names_the_key_and_says_what_is_proven() {
    let world = World::new();
    let dialect = Dialect::default();
    let id = world.expired.key.id;
    let refused = world.refused(&dialect, world.expired.token.expose());
    assert_eq!(
        refused.to_string(),
        format!("401: key {id} expired at 2024-01-01T00:00:00Z")
    );
    let unknown = "acme_live_7Hk2Pq9ZxW_00000000000000000000000000000000000000000002jqUlG";
    let refused = world.refused(&dialect, unknown);
    assert_eq!(
        refused.to_string(),
        "401: the token is unknown (the token names key 7Hk2Pq9ZxW)"
    );
    assert_eq!(refused.key_id(), None);
    assert_eq!(
        refused.presented_key_id(),
        Some("7Hk2Pq9ZxW".parse().unwrap())
    );
}

#[test]
fn a_dialect_that_cannot_work_is_refused_when_it_is_built() {
    let header = || Carrier::Header(http::HeaderName::from_static("x-api-key"));
    let raw = Carrier::RawAuthorization;
    for carriers in [
        vec![],
        vec![header(), header()],
        vec![raw, Carrier::Basic],
        vec![Carrier::Header(http::header::AUTHORIZATION)],
        vec![Carrier::Header(http::header::COOKIE)],
        vec![Carrier::Header(http::header::HOST)],
    ] {
        assert!(Dialect::builder().carriers(carriers).build().is_err());
    }
    let status = |kind, status| Dialect::builder().status(kind, status).build();
    assert!(status(AnswerKind::Missing, StatusCode::OK).is_err());
    assert!(status(AnswerKind::Invalid, StatusCode::FOUND).is_err());
    assert!(status(AnswerKind::Unavailable, StatusCode::UNAUTHORIZED).is_err());
    assert!(status(AnswerKind::Unavailable, StatusCode::INTERNAL_SERVER_ERROR).is_ok());
    assert!(Dialect::builder().challenges([]).build().is_err());
    assert!(Challenge::basic("a \"quote\"").is_err());
    assert!(Challenge::bearer_in("line\nbreak").is_err());
}

#[test]
fn a_realm_stands_in_the_challenge() {
    let dialect = Dialect::builder()
        .challenges([Challenge::bearer_in("reports").unwrap()])
        .build()
        .unwrap();
    let bare = dialect.missing().response();
    assert_eq!(
        header(&bare, "www-authenticate"),
        Some(r#"Bearer realm="reports""#)
    );
    let told = dialect.denied(Denial::Unknown).response();
    assert_eq!(
        header(&told, "www-authenticate"),
        Some(r#"Bearer realm="reports", error="invalid_token""#)
    );
}

#[test]
fn a_caller_whose_credential_is_not_good_is_not_taken_for_anonymous() {
    let world = World::new();
    for name in ["aurorax", "one_codex"] {
        let dialect = dialect(name);
        assert!(world.ask(&dialect, &HeaderMap::new()).is_ok());
        assert_eq!(world.refused(&dialect, "nonsense").status(), 401);
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", http::HeaderValue::from_static(""));
    let refused = world.ask(&presets::one_codex(), &headers).unwrap_err();
    assert!(matches!(refused.reason(), RejectionReason::Empty));
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        http::HeaderValue::from_static("Bearer abc"),
    );
    let refused = world.ask(&presets::one_codex(), &headers).unwrap_err();
    assert!(matches!(refused.reason(), RejectionReason::UnknownScheme));
    assert_eq!(refused.status(), 401);
}

/// Of a key's own limit, whoever holds it may know; of whether a key is good, nobody but
/// whom the status tells.
#[test]
fn a_refusal_tells_of_a_limit_only_where_it_shows_the_key_to_be_good() {
    let engine = gatekey::Engine::open_in_memory().unwrap();
    let new = gatekey::NewKeyspace::new("acme_live").unwrap();
    let plan = gatekey::Plan::new("free").limit(gatekey::Limit::per_hour(100));
    engine
        .create_keyspace(new.permissions(["read", "write"]).plan(plan))
        .unwrap();
    let new = NewKey::new("acme_live", "acme").unwrap();
    let issued = engine
        .issue(new.permissions(["read"]).plan("free"))
        .unwrap();
    let write = gatekey::Requirements::new().permissions(&["write"]);
    for name in DIALECTS {
        let dialect = dialect(name);
        let hidden = dialect
            .to_builder()
            .status(AnswerKind::PermissionMissing, StatusCode::NOT_FOUND)
            .build()
            .unwrap();
        let told = |dialect: &Dialect, token: &str| {
            let headers = carry(dialect, token);
            let refused = dialect.authenticate(&engine, &headers, &write).unwrap_err();
            let response = refused.response();
            let names = ["ratelimit", "x-ratelimit-remaining"];
            names
                .iter()
                .find_map(|name| header(&response, name).map(str::to_owned))
        };
        let token = issued.token.expose();
        let expected = match name {
            // All that is a 403 reads the same.
            "pixxel" => None,
            "tiered_bearer" => Some("100".to_owned()),
            // There is all of it, and there will not be more.
            _ => Some(r#""hour";r=100"#.to_owned()),
        };
        let shown = told(&dialect, token);
        assert_eq!(shown, expected, "{name}");
        assert_eq!(told(&hidden, token), None, "{name}: a route that is hidden");
        engine.disable(issued.key.id).unwrap();
        assert_eq!(told(&dialect, token), None, "{name}");
        assert_eq!(told(&dialect, "nonsense"), None, "{name}");
        engine.enable(issued.key.id).unwrap();
    }
}
