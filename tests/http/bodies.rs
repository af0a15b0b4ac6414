//! What each system's text shows or says, as its dialect answers it.

use std::collections::BTreeSet;

use gatekey::http::{AnswerKind, Authenticated, Dialect, presets};
use gatekey::{Denial, Error, Requirements};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::common::{World, body, carry, header, headers};

const READ: Requirements = Requirements::new().permissions(&["read"]);
const WRITE: Requirements = Requirements::new().permissions(&["write"]);

/// A token of the right form whose id no key has.
const UNKNOWN: &str = "acme_live_7Hk2Pq9ZxW_00000000000000000000000000000000000000000002jqUlG";

#[test]
fn aurorax_takes_its_header_and_lets_anonymous_callers_through() {
    let world = World::new();
    let dialect = presets::aurorax();
    let granted = world.ask(&dialect, &headers(&[("X-AuroraX-API-Key", world.token())]));
    assert!(matches!(granted, Ok(Authenticated::Granted(grant)) if grant.owner() == "acme"));
    let anonymous = world.ask(&dialect, &HeaderMap::new());
    assert!(matches!(anonymous, Ok(Authenticated::Anonymous)));

    // Managing what an organization owns needs a key.
    let refused = dialect
        .authenticate(&world.engine, &HeaderMap::new(), &WRITE)
        .unwrap_err();
    let response = refused.response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        header(&response, "www-authenticate"),
        Some(r#"ApiKey header="x-aurorax-api-key""#)
    );
    // Its own client reads this member, and takes a body for JSON by its type alone.
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(
        std::str::from_utf8(response.body()).unwrap(),
        r#"{"error_code":"missing_api_key","error_message":"An API key is required."}"#
    );
    assert_eq!(world.refused(&dialect, UNKNOWN).status(), 401);
}

#[test]
fn pixxel_answers_403_to_missing_incorrect_expired_revoked_and_not_permitted() {
    let world = World::new();
    let dialect = presets::pixxel();
    let revoked = world.issue("acme/revoked");
    world
        .engine
        .revoke(revoked.key.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    let missing = world.ask(&dialect, &HeaderMap::new()).unwrap_err();
    let with_scheme = format!("Bearer {}", world.token());
    let not_permitted = dialect
        .authenticate(&world.engine, &carry(&dialect, world.token()), &WRITE)
        .unwrap_err();
    for refused in [
        missing,
        not_permitted,
        world.refused(&dialect, "nonsense"),
        world.refused(&dialect, UNKNOWN),
        world.refused(&dialect, &with_scheme),
        world.refused(&dialect, world.expired.token.expose()),
        world.refused(&dialect, revoked.token.expose()),
    ] {
        let response = refused.response();
        assert_eq!(response.status(), 403, "{refused}");
        assert_eq!(
            body(&response),
            json!({"message": "The API key is missing, not valid, or not permitted to do this."})
        );
        assert_eq!(header(&response, "www-authenticate"), None);
    }
    let granted = world.ask(&dialect, &headers(&[("authorization", world.token())]));
    assert!(matches!(granted, Ok(Authenticated::Granted(_))));
}

#[test]
fn the_tiers_missing_key_reads_as_in_its_text() {
    let world = World::new();
    let dialect = presets::tiered_bearer();
    let response = world
        .ask(&dialect, &HeaderMap::new())
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({
            "error": "missing_api_key",
            "message": "No API key provided in the Authorization header.",
        })
    );
    assert_eq!(header(&response, "www-authenticate"), Some("Bearer"));
    assert_eq!(header(&response, "content-type"), Some("application/json"));
}

#[test]
fn the_tiers_invalid_key_reads_as_in_its_text() {
    let world = World::new();
    let response = world
        .refused(&presets::tiered_bearer(), "INVALID_KEY")
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({"error": "invalid_api_key", "message": "The API key provided is invalid."})
    );
    assert_eq!(
        header(&response, "www-authenticate"),
        Some(r#"Bearer error="invalid_token""#)
    );
}

#[test]
fn the_tiers_expired_key_reads_as_in_its_text() {
    let world = World::new();
    let response = world
        .refused(&presets::tiered_bearer(), world.expired.token.expose())
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({"error": "token_expired", "message": "The access token has expired."})
    );
}

#[test]
fn the_tiers_missing_permission_is_a_403_in_the_same_shape() {
    let world = World::new();
    let dialect = presets::tiered_bearer();
    let response = dialect
        .authenticate(&world.engine, &carry(&dialect, world.token()), &WRITE)
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 403);
    assert_eq!(
        body(&response),
        json!({
            "error": "insufficient_scope",
            "message": "The API key lacks a permission that is required.",
        })
    );
    assert_eq!(
        header(&response, "www-authenticate"),
        Some(r#"Bearer error="insufficient_scope", scope="write""#)
    );
}

#[test]
fn one_codex_takes_basic_or_its_header_alike() {
    let world = World::new();
    let dialect = presets::one_codex();
    let basic = {
        use base64::Engine as _;
        let text = format!("{}:", world.token());
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(text)
        )
    };
    for fields in [
        headers(&[("authorization", &basic)]),
        headers(&[("x-api-key", world.token())]),
    ] {
        let granted = dialect.authenticate(&world.engine, &fields, &READ);
        assert!(matches!(granted, Ok(Authenticated::Granted(grant)) if grant.owner() == "acme"));
    }
}

#[test]
fn one_codex_answers_401_403_and_404_as_in_its_text() {
    let world = World::new();
    let dialect = presets::one_codex();
    let anonymous = world.ask(&dialect, &HeaderMap::new());
    assert!(matches!(anonymous, Ok(Authenticated::Anonymous)));

    // A protected route, whose permission nobody in particular has.
    let response = dialect
        .authenticate(&world.engine, &HeaderMap::new(), &READ)
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({
            "message": "The server could not verify that you are authorized to access the URL requested.  You either supplied the wrong credentials (e.g. a bad password), or your browser doesn't understand how to supply the credentials required.",
            "status": 401,
        })
    );
    let challenges: Vec<_> = response
        .headers()
        .get_all("www-authenticate")
        .iter()
        .collect();
    assert_eq!(
        challenges,
        [r#"Basic realm="api""#, r#"ApiKey header="x-api-key""#]
    );

    let response = dialect
        .authenticate(&world.engine, &carry(&dialect, world.token()), &WRITE)
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 403);
    assert_eq!(body(&response)["status"], 403);

    let response = dialect.foreign().response();
    assert_eq!(response.status(), 404);
    assert_eq!(
        body(&response),
        json!({"message": "There is no such thing.", "status": 404})
    );
    assert_eq!(header(&response, "www-authenticate"), None);
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
}

#[test]
fn a_route_can_be_hidden_from_whoever_may_not_use_it() {
    let world = World::new();
    let hidden = [
        AnswerKind::Missing,
        AnswerKind::Invalid,
        AnswerKind::PermissionMissing,
    ]
    .into_iter()
    .fold(presets::one_codex().to_builder(), |builder, kind| {
        builder.status(kind, http::StatusCode::NOT_FOUND)
    })
    .build()
    .unwrap();
    let there_is_none = hidden.foreign().response();
    for fields in [
        HeaderMap::new(),
        carry(&hidden, UNKNOWN),
        carry(&hidden, world.token()),
    ] {
        let refused = hidden
            .authenticate(&world.engine, &fields, &WRITE)
            .unwrap_err();
        let response = refused.response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.body(), there_is_none.body());
        assert_eq!(response.headers(), there_is_none.headers());
    }
}

#[test]
fn the_ai_platforms_invalid_key_reads_as_in_its_text() {
    let world = World::new();
    let dialect = presets::ai_platform();
    let expected = |id: &str| {
        json!({
            "success": false,
            "error": {
                "code": "INVALID_API_KEY",
                "message": "The provided API key is invalid",
                "details": {"key_id": format!("key_{id}")},
            },
        })
    };
    // The same whether there is such a key or not.
    let response = world.refused(&dialect, UNKNOWN).response();
    assert_eq!(response.status(), 401);
    assert_eq!(body(&response), expected("7Hk2Pq9ZxW"));
    let wrong_secret = UNKNOWN.replace("7Hk2Pq9ZxW", &world.good.key.id.to_string());
    let there_is = world.refused(&dialect, &wrong_secret).response();
    assert_eq!(body(&there_is), expected(&world.good.key.id.to_string()));
    assert_eq!(response.headers(), there_is.headers());

    // What has no id is not given one.
    let response = world.refused(&dialect, "INVALID_KEY").response();
    assert_eq!(body(&response)["error"]["details"], json!({}));
}

#[test]
fn the_ai_platforms_expired_key_reads_as_in_its_text() {
    let world = World::new();
    let dialect = presets::ai_platform();
    let response = world
        .refused(&dialect, world.expired.token.expose())
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({
            "success": false,
            "error": {
                "code": "EXPIRED_API_KEY",
                "message": "The API key has expired",
                "details": {"expired_at": "2024-01-01T00:00:00Z"},
            },
        })
    );
    // Only to whom the secret was right.
    let id = world.expired.key.id.to_string();
    let wrong_secret = UNKNOWN.replace("7Hk2Pq9ZxW", &id);
    let response = world.refused(&dialect, &wrong_secret).response();
    assert_eq!(body(&response)["error"]["code"], "INVALID_API_KEY");
}

#[test]
fn the_ai_platforms_missing_key_reads_as_in_its_text() {
    let world = World::new();
    let response = world
        .ask(&presets::ai_platform(), &HeaderMap::new())
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(&response),
        json!({
            "success": false,
            "error": {
                "code": "MISSING_API_KEY",
                "message": "API key is required",
                "details": {"header": "Authorization"},
            },
        })
    );
}

#[test]
fn the_ai_platforms_missing_permission_is_a_403_that_names_it() {
    let world = World::new();
    let dialect = presets::ai_platform();
    let response = dialect
        .authenticate(&world.engine, &carry(&dialect, world.token()), &WRITE)
        .unwrap_err()
        .response();
    assert_eq!(response.status(), 403);
    assert_eq!(
        body(&response),
        json!({
            "success": false,
            "error": {
                "code": "PERMISSION_DENIED",
                "message": "The API key lacks a permission that is required.",
                "details": {"permissions": ["write"]},
            },
        })
    );
}

#[test]
fn problem_details_are_those_of_rfc_9457() {
    let world = World::new();
    let dialect = Dialect::default();
    let response = world.refused(&dialect, UNKNOWN).response();
    assert_eq!(
        header(&response, "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        body(&response),
        json!({
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "The API key is invalid.",
            "code": "invalid_api_key",
        })
    );
    let response = dialect
        .denied(Denial::TooManyAttempts {
            retry_after: std::time::Duration::from_millis(1_001),
        })
        .response();
    assert_eq!(response.status(), 429);
    assert_eq!(header(&response, "retry-after"), Some("2"));
    assert_eq!(body(&response)["code"], "too_many_attempts");
    let lacking = |dialect: &Dialect| {
        let headers = carry(dialect, world.token());
        let refused = dialect.authenticate(&world.engine, &headers, &WRITE);
        body(&refused.unwrap_err().response())
    };
    assert_eq!(lacking(&dialect)["required-permissions"], json!(["write"]));
    let hides = dialect
        .to_builder()
        .status(AnswerKind::PermissionMissing, http::StatusCode::NOT_FOUND);
    let hidden = lacking(&hides.build().unwrap());
    assert_eq!(hidden["status"], 404);
    assert_eq!(hidden["required-permissions"], json!(null));
}

/// The members that the bodies of a dialect may have, and those of the member `error`.
type Shape = (&'static [&'static str], &'static [&'static str]);

#[test]
fn whatever_a_request_lacks_or_the_server_fails_at_the_body_has_its_dialects_shape() {
    let problem: Shape = (
        &[
            "type",
            "title",
            "status",
            "detail",
            "code",
            "required-permissions",
        ],
        &[],
    );
    let shapes: [(Dialect, Shape); 6] = [
        (Dialect::problem_details(), problem),
        (presets::aurorax(), (&["error_code", "error_message"], &[])),
        (presets::pixxel(), (&["message"], &[])),
        (presets::tiered_bearer(), (&["error", "message"], &[])),
        (presets::one_codex(), (&["message", "status"], &[])),
        (
            presets::ai_platform(),
            (&["success", "error"], &["code", "message", "details"]),
        ),
    ];
    let mut codes = BTreeSet::new();
    for (dialect, (members, of_error)) in shapes {
        let mut rejections = vec![
            dialect.missing(),
            dialect.foreign(),
            dialect.denied(Denial::Malformed),
            dialect.denied(Denial::Unknown),
            dialect.unavailable(Error::Closed),
            dialect.failed(Error::Closed),
            dialect.failed(Error::Internal("a fault")),
        ];
        // What of a credential cannot be read: not ASCII, repeated, of another scheme, not base64.
        for carrier in ["authorization", "x-api-key", "x-aurorax-api-key"] {
            for value in ["Bearer \u{e9}", "Basic ???", "Digest x", ""] {
                let mut headers = HeaderMap::new();
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append(carrier, value.clone());
                rejections.extend(dialect.credential(&headers).err());
                headers.append(carrier, value);
                rejections.extend(dialect.credential(&headers).err());
            }
        }
        let content_type = dialect.missing().response().headers()["content-type"].clone();
        for rejection in rejections {
            let response = rejection.response();
            assert_eq!(response.headers()["content-type"], content_type);
            let body: Value = serde_json::from_slice(response.body()).unwrap();
            let has = |body: &Value, allowed: &[&str]| {
                let members = body.as_object().unwrap();
                assert!(!members.is_empty(), "{rejection}");
                for name in members.keys() {
                    assert!(allowed.contains(&name.as_str()), "{name} of {rejection}");
                }
            };
            has(&body, members);
            if !of_error.is_empty() {
                has(&body["error"], of_error);
            }
            codes.insert(rejection.answer().code());
        }
    }
    let all = [
        "forbidden",
        "internal_error",
        "invalid_api_key",
        "invalid_request",
        "missing_api_key",
        "not_found",
        "service_unavailable",
    ];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), all);
}
