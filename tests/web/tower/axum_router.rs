//! Routes of axum with different requirements.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use gatekey::http::{Dialect, presets};
use gatekey::tower::AuthLayer;
use gatekey::{Grant, Limit, ManualClock, NewKey, NewKeyspace, Options, Plan};
use tower::ServiceExt as _;

use crate::{issue, store};

async fn who(grant: Grant) -> String {
    grant.owner().to_owned()
}

async fn maybe(grant: Option<Grant>) -> String {
    grant.map_or("nobody".to_owned(), |grant| grant.owner().to_owned())
}

async fn ask(app: &Router, request: Request<Body>) -> (StatusCode, String, Response<()>) {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (parts.status, text, Response::from_parts(parts, ()))
}

fn request(method: &str, path: &str, token: Option<&str>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
    .body(Body::empty())
    .unwrap()
}

#[tokio::test]
async fn each_route_asks_for_its_own_permissions() {
    let (engine, reader) = store();
    let writer = issue(&engine, &["read", "write"]);
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let app = Router::new()
        .route("/open", get(maybe).layer(auth.clone().optional()))
        .route(
            "/things",
            get(who).layer(auth.clone().permissions(["read"])),
        )
        .route(
            "/things",
            post(who).layer(auth.clone().permissions(["write"]).cost(5)),
        )
        .route("/mine", get(who).layer(auth));
    let (reader, writer) = (reader.token.expose(), writer.token.expose());
    for (method, path, token, status) in [
        ("GET", "/open", None, 200),
        ("GET", "/open", Some(reader), 200),
        ("GET", "/open", Some("nonsense"), 401),
        ("GET", "/things", None, 401),
        ("GET", "/things", Some(reader), 200),
        ("POST", "/things", Some(reader), 403),
        ("POST", "/things", Some(writer), 200),
        ("GET", "/mine", Some(reader), 200),
        ("GET", "/mine", None, 401),
    ] {
        let (found, text, response) = ask(&app, request(method, path, token)).await;
        assert_eq!(found, status, "{method} {path} {token:?}: {text}");
        let challenged = response.headers().contains_key("www-authenticate");
        assert_eq!(challenged, status != 200);
    }
    let (_, text, _) = ask(&app, request("GET", "/open", None)).await;
    assert_eq!(text, "nobody");
    let (_, text, _) = ask(&app, request("GET", "/open", Some(reader))).await;
    assert_eq!(text, "acme");
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_handler() {
    let (engine, _) = store();
    let called = Arc::new(Mutex::new(0));
    let count = called.clone();
    let handler = move || async move { *count.lock().unwrap() += 1 };
    let auth = AuthLayer::new(engine, Dialect::default());
    let app = Router::new().route("/", get(handler)).layer(auth);
    let (status, ..) = ask(&app, request("GET", "/", Some("nonsense"))).await;
    assert_eq!(
        (status, *called.lock().unwrap()),
        (StatusCode::UNAUTHORIZED, 0)
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_the_next_request() {
    let (engine, issued) = store();
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let app = Router::new().route("/", get(who)).layer(auth);
    let token = issued.token.expose();
    assert_eq!(ask(&app, request("GET", "/", Some(token))).await.0, 200);
    engine
        .revoke(issued.key.id, gatekey::Reason::KeyCompromise)
        .unwrap();
    assert_eq!(ask(&app, request("GET", "/", Some(token))).await.0, 401);
}

#[tokio::test]
async fn a_handler_that_asks_for_a_grant_refuses_who_is_anonymous_in_the_dialects_words() {
    let (engine, _) = store();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let auth = AuthLayer::new(engine, presets::one_codex()).on_rejected(move |refused, parts| {
        log.lock()
            .unwrap()
            .push(format!("{} {refused}", parts.uri.path()));
    });
    let app = Router::new()
        .route("/account", get(who))
        .route("/samples", get(maybe))
        .layer(auth);
    let (status, text, _) = ask(&app, request("GET", "/samples", None)).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "nobody"));
    let (status, text, response) = ask(&app, request("GET", "/account", None)).await;
    assert_eq!(status, 401);
    assert!(text.contains(r#""status":401"#), "{text}");
    assert!(response.headers().contains_key("www-authenticate"));
    assert_eq!(
        *seen.lock().unwrap(),
        ["/account 401: no credential was presented"]
    );
}

#[tokio::test]
async fn the_server_is_told_of_every_grant_and_of_no_anonymous_caller() {
    let (engine, issued) = store();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let auth = AuthLayer::new(engine, Dialect::default())
        .optional()
        .on_granted(move |grant, parts| {
            let path = parts.uri.path();
            let line = format!("{path} {} {:?}", grant.owner(), parts.headers);
            log.lock().unwrap().push(line);
            panic!("as a log that is closed");
        });
    let app = Router::new().route("/", get(maybe)).layer(auth);
    let token = issued.token.expose();
    for (token, status, text) in [
        (Some(token), StatusCode::OK, "acme"),
        (None, StatusCode::OK, "nobody"),
        (Some("acme_live_x"), StatusCode::UNAUTHORIZED, ""),
    ] {
        let (told, body, _) = ask(&app, request("GET", "/", token)).await;
        assert_eq!(told, status);
        assert!(body.starts_with(text), "{body}");
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].starts_with("/ acme "), "{seen:?}");
    assert!(!seen[0].contains(&token[token.len() - 49..]), "{seen:?}");
}

#[tokio::test]
async fn without_the_layer_nobody_is_let_through() {
    let app = Router::new()
        .route("/who", get(who))
        .route("/maybe", get(maybe));
    for path in ["/who", "/maybe"] {
        let (status, text, _) = ask(&app, request("GET", path, None)).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("no AuthLayer"), "{text}");
    }
}

#[tokio::test]
async fn the_hook_sees_the_reason_and_no_token() {
    let (engine, issued) = store();
    let seen = Arc::new(Mutex::new(String::new()));
    let log = seen.clone();
    let auth = AuthLayer::new(engine, Dialect::default())
        .permissions(["write"])
        .on_rejected(move |refused, parts| {
            *log.lock().unwrap() = format!("{refused} {:?}", parts.headers);
        });
    let app = Router::new().route("/", get(who)).layer(auth);
    let token = issued.token.expose();
    for request in [
        request("GET", "/", Some(token)),
        // Every one of a repeated header is hidden.
        Request::builder()
            .header("authorization", format!("Bearer {token}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap(),
    ] {
        ask(&app, request).await;
        let seen = seen.lock().unwrap();
        assert!(seen.starts_with('4'), "{seen}");
        assert!(!seen.contains(&token[token.len() - 49..]), "{seen}");
    }
}

#[tokio::test]
async fn a_key_bound_to_a_network_is_let_in_from_there_alone() {
    let (engine, _) = store();
    let new = NewKey::new("acme_live", "acme/bound").unwrap();
    let bound = engine
        .issue(new.allow_networks(["192.0.2.0/24".parse().unwrap()]))
        .unwrap();
    let auth = AuthLayer::new(engine, Dialect::default()).source(|_, extensions| {
        let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(address.ip())
    });
    let app = Router::new().route("/", get(who)).layer(auth);
    for (from, status) in [
        (Some("192.0.2.7"), 200),
        (Some("198.51.100.7"), 403),
        (None, 403),
    ] {
        let mut request = request("GET", "/", Some(bound.token.expose()));
        if let Some(from) = from {
            let address = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 1);
            request.extensions_mut().insert(ConnectInfo(address));
        }
        assert_eq!(ask(&app, request).await.0, status, "{from:?}");
    }
}

#[tokio::test]
async fn a_keyspace_that_is_not_the_routes_reads_as_unknown() {
    let (engine, issued) = store();
    engine
        .create_keyspace(NewKeyspace::new("acme_test").unwrap())
        .unwrap();
    let auth = AuthLayer::new(engine, Dialect::default()).keyspace("acme_test".parse().unwrap());
    let app = Router::new().route("/", get(who)).layer(auth);
    let (status, ..) = ask(&app, request("GET", "/", Some(issued.token.expose()))).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_layer_behind_another_asks_for_what_is_its_own() {
    let (engine, reader) = store();
    let writer = issue(&engine, &["write"]);
    let auth = AuthLayer::new(engine, Dialect::default());
    let app = Router::new()
        .route("/", post(who).layer(auth.clone().permissions(["write"])))
        .layer(auth);
    for (token, status) in [
        (Some(reader.token.expose()), 403),
        (Some(writer.token.expose()), 200),
        (None, 401),
    ] {
        assert_eq!(ask(&app, request("POST", "/", token)).await.0, status);
    }
}

#[tokio::test]
async fn a_store_that_fails_is_a_503() {
    let (engine, issued) = store();
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let app = Router::new().route("/", get(who)).layer(auth);
    engine.close().unwrap();
    let (status, ..) = ask(&app, request("GET", "/", Some(issued.token.expose()))).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_grant_of_a_layer_in_front_is_not_that_of_one_that_found_nobody() {
    let (engine, issued) = store();
    let bearer = AuthLayer::new(engine.clone(), Dialect::default());
    let header = AuthLayer::new(engine, presets::aurorax());
    let app = Router::new()
        .route("/", get(maybe).layer(header))
        .layer(bearer);
    let (status, text, _) = ask(&app, request("GET", "/", Some(issued.token.expose()))).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "nobody"));
}

#[tokio::test]
async fn a_request_is_charged_once_for_what_the_dearest_layer_asks() {
    let clock = ManualClock::at("2026-01-01T00:00:10Z".parse().unwrap());
    let engine = Options::new().clock(clock).open_in_memory().unwrap();
    let plan = Plan::new("p").limit(Limit::per_minute(10).fixed());
    engine
        .create_keyspace(
            NewKeyspace::new("acme_live")
                .unwrap()
                .plan(plan)
                .default_plan("p"),
        )
        .unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme").unwrap())
        .unwrap();
    let token = Some(issued.token.expose());
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    let app = Router::new()
        .route("/cheap", get(who))
        .route("/dear", get(who).layer(auth.clone().cost(5)))
        .route("/free", get(who).layer(auth.clone().cost(0)))
        .layer(auth);
    for (path, remaining) in [("/cheap", 9), ("/dear", 4), ("/free", 3), ("/cheap", 2)] {
        let (status, _, response) = ask(&app, request("GET", path, token)).await;
        assert_eq!(status, 200, "{path}");
        let fields = response.headers();
        assert_eq!(fields["ratelimit-policy"], "\"minute\";q=10;w=60");
        assert_eq!(
            fields["ratelimit"],
            format!("\"minute\";r={remaining};t=60")
        );
    }
    let (status, body, response) = ask(&app, request("GET", "/dear", token)).await;
    assert_eq!(status, 429);
    assert!(body.contains("\"code\":\"rate_limit_exceeded\""), "{body}");
    // 9 are counted, until the window resets as a whole.
    assert_eq!(response.headers()["retry-after"], "60");
    assert_eq!(response.headers()["ratelimit"], "\"minute\";r=1;t=60");
    // The layer in front had let it through and charged 1, the one behind had not.
    let (status, _, response) = ask(&app, request("GET", "/cheap", token)).await;
    assert_eq!(status, 200);
    assert_eq!(response.headers()["ratelimit"], "\"minute\";r=0;t=60");
    let (status, ..) = ask(&app, request("GET", "/cheap", token)).await;
    assert_eq!(status, 429);
}

#[tokio::test]
async fn a_method_that_no_handler_takes_is_neither_authenticated_nor_charged() {
    let (engine, reader) = store();
    let auth = AuthLayer::new(engine, Dialect::default());
    let app = Router::new()
        .route("/things", get(maybe).route_layer(auth.clone().optional()))
        .route(
            "/things",
            post(who).route_layer(auth.permissions(["write"])),
        );
    for method in ["DELETE", "OPTIONS"] {
        for token in [None, Some("nonsense"), Some(reader.token.expose())] {
            let (status, ..) = ask(&app, request(method, "/things", token)).await;
            assert_eq!(status, 405, "{method}");
        }
    }
    let (status, ..) = ask(&app, request("POST", "/things", None)).await;
    assert_eq!(status, 401);
}
