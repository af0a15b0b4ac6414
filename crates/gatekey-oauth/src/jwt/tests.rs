#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::{JwtOptions, Read};
use crate::json::Json;

const NOW_S: u64 = 1_000_000;

fn claims() -> Value {
    json!({
        "iss": "https://a.example", "aud": "https://b.example", "sub": "acme", "iat": NOW_S,
        "exp": NOW_S + 600, "key": "01ABcdEFgh", "keyspace": "acme_live", "scope": "read",
    })
}

/// When a JWT of such claims ends, if it is read.
fn read(claims: &Value) -> Option<u64> {
    let options = JwtOptions::new("https://a.example", "https://b.example");
    let claims = claims.to_string();
    let claims = Json::object(claims.as_bytes()).unwrap();
    Read::of(&claims, &options, NOW_S).map(|read| read.expires_s)
}

/// With other claims in the place of those.
fn with(more: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn a_claim_that_is_missing_or_of_another_type_is_refused() {
    assert_eq!(read(&claims()), Some(NOW_S + 600));
    for name in [
        "iss", "aud", "sub", "iat", "exp", "key", "keyspace", "scope",
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(read(&claims), None, "without {name}");
    }
    for wrong in [
        json!({"iss": "https://b.example"}),
        json!({"iss": ["https://a.example"]}),
        json!({"iss": 7}),
        json!({"aud": "https://a.example"}),
        json!({"aud": ["https://a.example"]}),
        json!({"aud": []}),
        json!({"aud": {"https://b.example": 1}}),
        json!({"aud": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"exp": "1000600"}),
        json!({"exp": 1_000_600.5}),
        json!({"exp": -1}),
        json!({"exp": null}),
        json!({"iat": "1000000"}),
        json!({"iat": 1_000_000.5}),
        json!({"nbf": NOW_S + 1}),
        json!({"nbf": "0"}),
        json!({"nbf": 0.5}),
        json!({"nbf": null}),
        json!({"key": "no key"}),
        json!({"scope": ["read"]}),
    ] {
        assert_eq!(read(&with(&wrong)), None, "{wrong}");
    }
    for right in [
        json!({"aud": ["https://c.example", "https://b.example"]}),
        json!({"nbf": NOW_S}),
        json!({"nbf": 0}),
        json!({"more": {"of": ["any", "kind"]}}),
    ] {
        assert_eq!(read(&with(&right)), Some(NOW_S + 600), "{right}");
    }
}
