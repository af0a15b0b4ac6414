//! Errors of handlers as responses.

use std::sync::Arc;

use axum::response::IntoResponse as _;
use gatekey::{Engine, Error, KeyId, NewKey, NewKeyspace, Prefix};

async fn answer(error: Error) -> (u16, String, Option<Arc<Error>>) {
    let (parts, body) = error.into_response().into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let kept = parts.extensions.get::<Arc<Error>>().cloned();
    (
        parts.status.as_u16(),
        String::from_utf8(body.to_vec()).unwrap(),
        kept,
    )
}

#[tokio::test]
async fn an_error_is_a_500_or_a_503_and_tells_a_client_nothing() {
    let engine = Engine::open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap();
    let unknown: KeyId = "zzzzzzzzz0".parse().unwrap();
    let missing = engine.key(unknown).unwrap_err();
    let taken = engine
        .create_keyspace(NewKeyspace::new("acme").unwrap())
        .unwrap_err();
    let malformed = "A B".parse::<Prefix>().unwrap_err();
    let batch = engine
        .issue_batch(vec![NewKey::new("none", "acme").unwrap()])
        .unwrap_err();
    engine.clone().close().unwrap();
    let closed = engine.verify("?").unwrap_err();
    let open = Engine::open("no such directory/x").unwrap_err();
    for (error, status) in [
        (missing, 500),
        (taken, 500),
        (malformed.into(), 500),
        (batch, 500),
        (closed, 503),
        (open, 503),
        (Error::NeedsReopen, 503),
    ] {
        let text = error.to_string();
        let (told, body, kept) = answer(error).await;
        assert_eq!((told, body.as_str()), (status, ""), "{text}");
        assert_eq!(kept.unwrap().to_string(), text, "it is there for a log");
    }
}
