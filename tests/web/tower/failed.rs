//! Errors of handlers as responses.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::IntoResponse as _;
use axum::routing::get;
use gatekey::http::{Dialect, presets};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, KeyId, NewKey, NewKeyspace, Prefix};
use serde_json::{Value, json};
use tower::ServiceExt as _;

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

/// The dialects, and what of their bodies says that the server failed.
fn dialects() -> [(Dialect, Value); 6] {
    let text = "The service failed to do this.";
    [
        (
            Dialect::problem_details(),
            json!({
                "type": "about:blank",
                "title": "Internal Server Error",
                "status": 500,
                "detail": text,
                "code": "internal_error",
            }),
        ),
        (
            presets::aurorax(),
            json!({ "error_code": "internal_error", "error_message": text }),
        ),
        (presets::pixxel(), json!({ "message": text })),
        (
            presets::tiered_bearer(),
            json!({ "error": "internal_error", "message": text }),
        ),
        (
            presets::one_codex(),
            json!({ "message": text, "status": 500 }),
        ),
        (
            presets::ai_platform(),
            json!({
                "success": false,
                "error": { "code": "INTERNAL_ERROR", "message": text, "details": {} },
            }),
        ),
    ]
}

async fn ask(app: &Router, path: &str) -> (u16, HeaderMap, Vec<u8>) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    assert!(parts.extensions.get::<Arc<Error>>().is_some(), "for a log");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (parts.status.as_u16(), parts.headers, body.to_vec())
}

#[tokio::test]
async fn a_layer_words_an_error_of_a_handler_as_its_dialect_does() {
    let engine = Engine::open_in_memory().unwrap();
    for (dialect, expected) in dialects() {
        let handler = engine.clone();
        let unknown: KeyId = "zzzzzzzzz0".parse().unwrap();
        let own = "an answer of the handler's own";
        let app = Router::new()
            .route("/failed", get(async move || handler.key(unknown).map(drop)))
            .route("/closed", get(async || Err::<(), _>(Error::Closed)))
            .route(
                "/own",
                get(async move || {
                    let mut response = Error::Closed.into_response();
                    let plain = HeaderValue::from_static("text/plain");
                    response.headers_mut().insert("content-type", plain);
                    *response.body_mut() = Body::from(own);
                    response
                }),
            )
            .layer(AuthLayer::new(engine.clone(), dialect.clone()).optional());
        let rejected = dialect.missing().response();

        let (status, headers, body) = ask(&app, "/failed").await;
        assert_eq!(status, 500, "{dialect:?}");
        assert_eq!(headers["content-type"], rejected.headers()["content-type"]);
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["vary"], rejected.headers()["vary"]);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);

        let (status, _, body) = ask(&app, "/closed").await;
        assert_eq!(status, 503);
        assert_eq!(body, *dialect.failed(Error::Closed).response().body());
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("The service cannot do this now."), "{text}");

        let (status, headers, body) = ask(&app, "/own").await;
        assert_eq!((status, body.as_slice()), (503, own.as_bytes()));
        assert_eq!(headers["content-type"], "text/plain");
    }
}
