//! Stores, headers and bodies for the tests of the dialects.

use std::time::Duration;

use gatekey::http::{Authenticated, Dialect, Rejection, presets};
use gatekey::{
    Engine, Expiry, Issued, ManualClock, NewKey, NewKeyspace, Options, Requirements, Timestamp,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde_json::Value;

/// 2024-01-01T00:00:00Z, when what expires expires.
pub(crate) const EXPIRED_AT_MS: u64 = 1_704_067_200_000;

pub(crate) struct World {
    pub(crate) engine: Engine,
    /// Has `read`.
    pub(crate) good: Issued,
    pub(crate) expired: Issued,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::at(at(EXPIRED_AT_MS - 86_400_000));
        let engine = Options::new()
            .clock(clock.clone())
            .open_in_memory()
            .unwrap();
        let keyspace = NewKeyspace::new("acme_live").unwrap();
        engine
            .create_keyspace(keyspace.permissions(["read", "write"]))
            .unwrap();
        let new = |owner: &str| {
            NewKey::new("acme_live", owner)
                .unwrap()
                .permissions(["read"])
        };
        let good = engine.issue(new("acme")).unwrap();
        let expired = engine
            .issue(new("acme/old").expiry(Expiry::At(at(EXPIRED_AT_MS))))
            .unwrap();
        clock.set(at(EXPIRED_AT_MS + 3_600_000));
        Self {
            engine,
            good,
            expired,
        }
    }

    pub(crate) fn token(&self) -> &str {
        self.good.token.expose()
    }

    pub(crate) fn ask(
        &self,
        dialect: &Dialect,
        headers: &HeaderMap,
    ) -> Result<Authenticated, Rejection> {
        dialect.authenticate(&self.engine, headers, &Requirements::new())
    }

    /// The refusal of a token that is presented as the dialect wants it.
    pub(crate) fn refused(&self, dialect: &Dialect, token: &str) -> Rejection {
        self.ask(dialect, &carry(dialect, token)).unwrap_err()
    }

    pub(crate) fn issue(&self, owner: &str) -> Issued {
        let new = NewKey::new("acme_live", owner).unwrap();
        self.engine.issue(new.permissions(["read"])).unwrap()
    }

    pub(crate) fn later(&self, by: Duration) -> Timestamp {
        self.engine.now().checked_add(by).unwrap()
    }
}

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

pub(crate) const DIALECTS: [&str; 6] = [
    "problem_details",
    "aurorax",
    "pixxel",
    "tiered_bearer",
    "one_codex",
    "ai_platform",
];

pub(crate) fn dialect(name: &str) -> Dialect {
    match name {
        "problem_details" => Dialect::problem_details(),
        "aurorax" => presets::aurorax(),
        "pixxel" => presets::pixxel(),
        "tiered_bearer" => presets::tiered_bearer(),
        "one_codex" => presets::one_codex(),
        "ai_platform" => presets::ai_platform(),
        other => panic!("no dialect {other}"),
    }
}

/// Headers that carry a token in the way of a dialect.
pub(crate) fn carry(dialect: &Dialect, token: &str) -> HeaderMap {
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("x-aurorax-api-key", token.to_owned()),
        ("x-api-key", token.to_owned()),
        ("authorization", token.to_owned()),
    ] {
        let headers = headers(&[(name, &value)]);
        let found = dialect.credential(&headers);
        if matches!(found, Ok(Some(presented)) if presented.expose() == token.as_bytes()) {
            return headers;
        }
    }
    panic!("{dialect:?} takes none of these");
}

pub(crate) fn body(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

pub(crate) fn header<'r>(response: &'r Response<Vec<u8>>, name: &str) -> Option<&'r str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}
