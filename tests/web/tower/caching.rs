//! What caches in between are told.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use gatekey::http::{Dialect, no_store, presets};
use gatekey::tower::AuthLayer;
use http::{HeaderMap, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::store;

async fn ask(app: &Router, path: &str, token: Option<&str>) -> (StatusCode, HeaderMap) {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("x-api-key", token);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    (response.status(), response.headers().clone())
}

fn all(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
    values.join(" | ")
}

/// Answers with what it is given in its path: `Cache-Control`, and a `Vary` of its own.
fn app(auth: AuthLayer) -> Router {
    let says = |cache: &'static str| {
        get(move || async move { ([("cache-control", cache), ("vary", "accept")], "ok") })
    };
    Router::new()
        .route("/silent", get(|| async { "ok" }))
        .route("/aged", says("max-age=60"))
        .route("/public", says("public, max-age=60"))
        .route("/none", says("no-store"))
        .route(
            "/issue",
            get(|| async { (no_store(), Json("token")).into_response() }),
        )
        .layer(auth)
}

#[tokio::test]
async fn every_answer_varies_and_what_is_a_callers_own_is_private() {
    let (engine, issued) = store();
    let auth = AuthLayer::new(engine, presets::one_codex());
    let both = "authorization, x-api-key";
    let merged = "accept, authorization, x-api-key";
    let key = Some(issued.token.expose());
    for (route, app) in [
        ("optional", app(auth.clone().optional())),
        ("required", app(auth.clone().required())),
        // Layers behind each other say it once.
        (
            "both",
            app(auth.clone().optional()).layer(auth.clone().optional()),
        ),
    ] {
        for (path, cache, vary) in [
            ("/silent", "private", both),
            ("/aged", "max-age=60, private", merged),
            ("/public", "public, max-age=60", merged),
            ("/none", "no-store", merged),
            ("/issue", "no-store", both),
        ] {
            let (status, headers) = ask(&app, path, key).await;
            assert_eq!(status, 200);
            assert_eq!(all(&headers, "cache-control"), cache, "{route} {path}");
            assert_eq!(all(&headers, "vary"), vary, "{route} {path}");
            // What nobody in particular is told, caches may give to others like them.
            let (status, headers) = ask(&app, path, None).await;
            if route == "required" {
                assert_eq!(status, 401);
                assert_eq!(all(&headers, "cache-control"), "no-store");
                assert_eq!(all(&headers, "vary"), both);
            } else {
                let cache = match path {
                    "/silent" => "",
                    "/aged" => "max-age=60",
                    other => ["public, max-age=60", "no-store"][usize::from(other != "/public")],
                };
                assert_eq!(all(&headers, "cache-control"), cache, "{route} {path}");
                assert_eq!(all(&headers, "vary"), vary, "{route} {path}");
            }
            let (status, headers) = ask(&app, path, Some("nonsense")).await;
            assert_eq!(status, 401);
            assert_eq!(all(&headers, "cache-control"), "no-store");
            assert_eq!(all(&headers, "vary"), both);
        }
    }
}

#[tokio::test]
async fn a_route_whose_answers_hold_tokens_is_never_stored() {
    let (engine, issued) = store();
    let app = app(AuthLayer::new(engine, presets::one_codex()).no_store());
    for path in ["/silent", "/aged", "/public", "/none", "/issue"] {
        for key in [Some(issued.token.expose()), None] {
            let (status, headers) = ask(&app, path, key).await;
            assert_eq!(status, 200);
            assert_eq!(all(&headers, "cache-control"), "no-store", "{path}");
            assert_eq!(all(&headers, "pragma"), "no-cache");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_a_closure_makes_is_not_stored_either() {
    let (engine, _) = store();
    let inner = service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let silent = |_: &gatekey::http::Rejection| Response::new(Vec::new());
    let layer = AuthLayer::new(engine, Dialect::default()).respond_with(silent);
    let request = Request::new(String::new());
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["vary"], "authorization");
}

#[tokio::test]
async fn a_handler_that_refuses_nobody_in_particular_says_the_same() {
    let (engine, _) = store();
    let needs = |grant: gatekey::Grant| async move { grant.owner().to_owned() };
    let app = Router::new()
        .route("/needs", get(needs))
        .layer(AuthLayer::new(engine, presets::one_codex()));
    let (status, headers) = ask(&app, "/needs", None).await;
    assert_eq!(status, 401);
    assert_eq!(all(&headers, "cache-control"), "no-store");
    assert_eq!(all(&headers, "vary"), "authorization, x-api-key");
}

/// A list may be split into lines (RFC 9110, 5.3). The CORS layer adds its own, and takes
/// nothing away.
#[tokio::test]
async fn a_cors_layer_outside_adds_to_vary_and_keeps_what_is_there() {
    let (engine, issued) = store();
    let app = app(AuthLayer::new(engine, presets::one_codex())).layer(
        tower_http::cors::CorsLayer::new()
            .allow_origin(tower_http::cors::AllowOrigin::mirror_request()),
    );
    for key in [Some(issued.token.expose()), Some("bad"), None] {
        let (_, headers) = ask(&app, "/silent", key).await;
        let lines = headers.get_all("vary").iter();
        let said: Vec<String> = lines
            .flat_map(|line| line.to_str().unwrap().split(',').map(str::trim))
            .map(str::to_ascii_lowercase)
            .collect();
        for name in ["authorization", "x-api-key", "origin"] {
            assert_eq!(
                said.iter().filter(|known| *known == name).count(),
                1,
                "{said:?}"
            );
        }
    }
}
