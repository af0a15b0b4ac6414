//! Requests that are settled at what they cost, by their handlers.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use gatekey::http::Dialect;
use gatekey::tower::{AuthLayer, GrantRejection, Settlement};
use gatekey::{Engine, Issued, NewKey, NewKeyspace, OwnerUpdate, Quota};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

const QUOTA: u64 = 100_000;

/// A key whose owner has a quota of tokens, and a layer.
fn world() -> (Engine, Issued, AuthLayer) {
    let engine = Engine::open_in_memory().unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let quota = OwnerUpdate::new().quota(Quota::new(QUOTA));
    engine.update_owner("acme_live", "acme", quota).unwrap();
    let issued = engine
        .issue(NewKey::new("acme_live", "acme/chat").unwrap())
        .unwrap();
    let auth = AuthLayer::new(engine.clone(), Dialect::default());
    (engine, issued, auth)
}

fn spent(engine: &Engine, issued: &Issued) -> u64 {
    let left = engine.quotas_left(issued.key.id).unwrap();
    QUOTA - left[0].status().remaining
}

async fn ask(app: &Router, token: Option<&Issued>, body: &str) -> StatusCode {
    let request = Request::post("/chat");
    let request = match token {
        Some(issued) => {
            request.header("authorization", format!("Bearer {}", issued.token.expose()))
        }
        None => request,
    };
    let request = request.body(Body::from(body.to_owned())).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

/// The request says what it costs, a number after the other.
async fn chat(settlement: Settlement, body: String) -> gatekey::Result<()> {
    for cost in body.split_whitespace() {
        settlement.settle(cost.parse().unwrap())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_costs_what_its_handler_says_and_else_the_estimate() {
    let (engine, issued, auth) = world();
    let auth = auth.cost(4_000).settled_later();
    let app = Router::new().route("/chat", post(chat).route_layer(auth));
    let mut before = 0;
    for (said, cost) in [
        ("730", 730),
        ("", 4_000),
        ("0", 0),
        ("9000", 9_000),
        ("100 200 200 5000 300", 300),
    ] {
        assert_eq!(ask(&app, Some(&issued), said).await, 200);
        let now = spent(&engine, &issued);
        assert_eq!(now - before, cost, "{said:?}");
        before = now;
    }
}

#[tokio::test]
async fn a_settlement_outlives_its_handler() {
    async fn later(State(kept): State<Arc<Mutex<Vec<Settlement>>>>, settlement: Settlement) {
        kept.lock().unwrap().push(settlement);
    }
    let (engine, issued, auth) = world();
    let kept = Arc::default();
    let app = Router::new()
        .route("/chat", post(later))
        .route_layer(auth.cost(4_000).settled_later())
        .with_state(Arc::clone(&kept));
    for _ in 0..2 {
        assert_eq!(ask(&app, Some(&issued), "").await, 200);
    }
    assert_eq!(spent(&engine, &issued), 8_000);
    let kept = kept.lock().unwrap();
    kept[1].settle(7).unwrap();
    kept[0].clone().settle(730).unwrap();
    assert_eq!(spent(&engine, &issued), 737);
    assert!(!format!("{:?}", kept[0]).contains(issued.token.expose()));
    engine.close().unwrap();
    assert!(kept[0].settle(1).is_err());
}

#[tokio::test]
async fn a_request_is_settled_through_all_layers_of_a_stack() {
    // Whether each layer is settled later, its cost, and what is charged where its handler
    // says 730, 4,500 and 10.
    let stacks = [
        ([(false, 5), (true, 4_000)], [730, 4_500, 10]),
        ([(true, 4_000), (false, 1)], [730, 4_500, 10]),
        ([(true, 4_000), (false, 5_000)], [730, 4_500, 10]),
        ([(true, 4_000), (true, 5_000)], [730, 4_500, 10]),
        ([(true, 4_000), (true, 1)], [730, 4_500, 10]),
        // What is not settled stays.
        ([(false, 800), (true, 4_000)], [800, 4_500, 800]),
        ([(false, 4_000), (true, 20)], [4_000, 4_500, 4_000]),
    ];
    for (layers, costs) in stacks {
        let (engine, issued, auth) = world();
        let [outer, inner] = layers.map(|(settled, cost)| {
            let auth = auth.clone().cost(cost);
            if settled { auth.settled_later() } else { auth }
        });
        let app = Router::new()
            .route("/chat", post(chat).route_layer(inner))
            .layer(outer);
        let mut before = 0;
        for (said, cost) in ["730", "4500", "10"].into_iter().zip(costs) {
            assert_eq!(ask(&app, Some(&issued), said).await, 200);
            let now = spent(&engine, &issued);
            assert_eq!(now - before, cost, "{layers:?} {said}");
            before = now;
        }
    }
}

#[tokio::test]
async fn a_settlement_is_of_the_key_that_the_innermost_layer_found() {
    let (engine, issued, auth) = world();
    let other = Engine::open_in_memory().unwrap();
    let keyspace = NewKeyspace::new("acme_live").unwrap();
    other.create_keyspace(keyspace).unwrap();
    let inner = AuthLayer::new(other, Dialect::default()).optional();
    let settled = auth.cost(9).settled_later();
    let find = |settlement: Result<Settlement, GrantRejection>| async move {
        match settlement {
            Ok(settlement) => settlement.settle(1).unwrap(),
            Err(refused) => panic!("{refused}"),
        }
    };
    let app = Router::new()
        .route("/chat", post(find))
        .layer(settled.clone());
    assert_eq!(ask(&app, Some(&issued), "").await, 200);
    assert_eq!(spent(&engine, &issued), 1);
    // That one found nobody: the settlement of the outer layer is not its own.
    let find = |settlement: Option<Settlement>| async move { assert!(settlement.is_none()) };
    let inner = inner.pass_foreign();
    let app = Router::new()
        .route("/chat", post(find).route_layer(inner))
        .layer(settled.optional());
    assert_eq!(ask(&app, None, "").await, 200);
}

#[tokio::test]
async fn a_handler_without_a_settlement_says_why() {
    let (_engine, issued, auth) = world();
    let refused = |auth: AuthLayer| Router::new().route("/chat", post(chat).route_layer(auth));
    // An anonymous caller gets the dialect's words.
    let anyone = refused(auth.clone().optional().settled_later());
    assert_eq!(ask(&anyone, None, "1").await, 401);
    assert_eq!(ask(&anyone, Some(&issued), "1").await, 200);
    assert_eq!(ask(&refused(auth), Some(&issued), "1").await, 500);
    let bare = Router::new().route("/chat", post(chat));
    assert_eq!(ask(&bare, Some(&issued), "1").await, 500);
    let text = GrantRejection::NotSettledLater.to_string();
    assert_eq!(
        text,
        "500: no AuthLayer that wraps the handler is settled later"
    );
}
