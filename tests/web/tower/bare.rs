//! A service without a framework, and bodies that no bytes can be made into.

use std::convert::Infallible;

use gatekey::Grant;
use gatekey::http::{AnswerKind, Dialect, presets};
use gatekey::tower::AuthLayer;
use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::store;

/// The body of some protocol: no text, no bytes.
#[derive(Debug, PartialEq)]
enum Frame {
    Ok,
    Code(u8),
}

#[tokio::test]
async fn a_body_that_is_not_made_of_bytes_is_a_closures_matter() {
    let (engine, issued) = store();
    let respond = |refused: &gatekey::http::Rejection| {
        Response::new(Frame::Code(match refused.answer().kind() {
            AnswerKind::PermissionMissing => 7,
            _ => 16,
        }))
    };
    let inner = service_fn(|request: Request<String>| async move {
        assert!(request.extensions().get::<Grant>().is_some());
        Ok::<_, Infallible>(Response::new(Frame::Ok))
    });
    let auth = AuthLayer::new(engine, Dialect::default());
    let token = format!("bearer {}", issued.token.expose());
    for (layer, header, expected) in [
        (auth.clone(), Some(&token), Frame::Ok),
        (auth.clone(), None, Frame::Code(16)),
        (auth.permissions(["write"]), Some(&token), Frame::Code(7)),
    ] {
        let mut request = Request::builder();
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let service = layer.respond_with(respond).layer(inner);
        let response = service
            .oneshot(request.body(String::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(*response.body(), expected);
    }
}

#[tokio::test]
async fn a_body_of_bytes_is_the_dialects() {
    let (engine, _) = store();
    let inner = service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let service = AuthLayer::new(engine, presets::tiered_bearer()).layer(inner);
    let request = Request::new(String::new());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(
        response
            .body()
            .starts_with(br#"{"error":"missing_api_key""#)
    );
}

/// A hook's fault is the server's, and not the caller's.
#[tokio::test]
async fn a_hook_that_panics_costs_the_caller_no_answer() {
    let (engine, issued) = store();
    let inner = service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Vec::<u8>::new()))
    });
    let dialect = Dialect::builder()
        .json_bodies(|answer| -> String { panic!("no words for {answer:?}") })
        .build()
        .unwrap();
    for dialect in [Dialect::default(), dialect] {
        let layer = AuthLayer::new(engine.clone(), dialect)
            .on_rejected(|refused, _| panic!("closed: {refused}"));
        let response = layer
            .layer(inner)
            .oneshot(Request::new(String::new()))
            .await
            .unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let token = format!("bearer {}", issued.token.expose());
        let request = Request::builder().header("authorization", token);
        let response = layer
            .layer(inner)
            .oneshot(request.body(String::new()).unwrap())
            .await;
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[test]
fn the_layer_and_its_parts_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<AuthLayer>();
    crosses::<gatekey::tower::AuthService<()>>();
    crosses::<gatekey::tower::AuthFuture<(), gatekey::tower::ByDialect, Vec<u8>, String>>();
    crosses::<gatekey::http::Rejection>();
}
