//! Invariants checked, for any header lines in every ready-made dialect:
//! - finding the credential and authenticating do not panic;
//! - nobody is granted, since the token is drawn anew in every process;
//! - a refusal's answer is a status of 400 or more, its body is the dialect's, and
//!   neither it nor the log's line holds what was presented as a secret.

use std::sync::LazyLock;

use ::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http::{Dialect, presets};
use crate::{Engine, NewKey, NewKeyspace, Requirements};

/// An engine with one key, and the dialects.
static STORE: LazyLock<(Engine, [Dialect; 6])> = LazyLock::new(|| {
    let engine = Engine::open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let dialects = [
        Dialect::problem_details(),
        presets::aurorax(),
        presets::pixxel(),
        presets::tiered_bearer(),
        presets::one_codex(),
        presets::ai_platform(),
    ];
    (engine, dialects)
});

const NAMES: [&str; 4] = ["authorization", "x-api-key", "x-aurorax-api-key", "cookie"];

/// Each line: a byte that chooses the name, then the value.
fn lines(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = line.split_first()
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            let name = NAMES[usize::from(*name) % NAMES.len()];
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Takes bytes for the headers of a request.
pub fn headers(bytes: &[u8]) {
    let (engine, dialects) = &*STORE;
    let headers = lines(bytes);
    for dialect in dialects {
        match dialect.authenticate(engine, &headers, &Requirements::new()) {
            Ok(found) => assert!(found.grant().is_none(), "no input knows the token"),
            Err(refused) => {
                let response = refused.response();
                assert!(response.status().as_u16() >= 400);
                let log = refused.to_string();
                for value in headers.values().filter(|value| value.len() > 43) {
                    if let Ok(value) = value.to_str() {
                        let secret = &value[value.len() - 43..];
                        assert!(!log.contains(secret));
                        assert!(!String::from_utf8_lossy(response.body()).contains(secret));
                    }
                }
            }
        }
    }
}
