//! Requests that are settled at what they cost, by their handlers.

use std::convert::Infallible;
use std::sync::{Arc, Barrier, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use gatekey::http::{Carrier, Dialect};
use gatekey::tower::{AuthLayer, GrantRejection, Settlement};
use gatekey::{
    Credential, Engine, ForeignHash, ForeignKey, Grant, Issued, NewImport, NewKey, NewKeyspace,
    OwnerUpdate, Permissions, Quota, Verdict,
};
use http::{HeaderName, Request, StatusCode};
use tower::{ServiceExt as _, service_fn};

pub(crate) const QUOTA: u64 = 100_000;

/// A key whose owner has a quota of tokens, and a layer.
pub(crate) fn world() -> (Engine, Issued, AuthLayer) {
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

pub(crate) fn spent(engine: &Engine, issued: &Issued) -> u64 {
    let left = engine.quotas_left(issued.key.id).unwrap();
    QUOTA - left[0].status().remaining
}

pub(crate) async fn ask(app: &Router, token: Option<&Issued>, body: &str) -> StatusCode {
    ask_with(app, token.map(|issued| issued.token.expose()), body).await
}

async fn ask_with(app: &Router, credential: Option<&str>, body: &str) -> StatusCode {
    let request = Request::post("/chat");
    let request = match credential {
        Some(text) => request.header("authorization", format!("Bearer {text}")),
        None => request,
    };
    let request = request.body(Body::from(body.to_owned())).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

/// What a key of `acme` is known by.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Token,
    /// A token that another system issued.
    Imported,
    /// Another proof, for which an extension vouches, such as a JWT.
    Vouched,
    /// A text that another verifier changes for the key's token.
    Exchanged,
    /// A text with several tokens, of which one is good.
    Many,
}

const IMPORTED: &str = "op-4f1c9a30b7d2e856";

impl Shown {
    const ALL: [Self; 5] = [
        Self::Token,
        Self::Imported,
        Self::Vouched,
        Self::Exchanged,
        Self::Many,
    ];

    /// Its text, and a layer that knows it.
    fn of(self, engine: &Engine, issued: &Issued, auth: AuthLayer) -> (String, AuthLayer) {
        let (key, token) = (issued.key.id, issued.token.expose().to_owned());
        match self {
            Self::Token => (token, auth),
            Self::Imported => {
                let import = NewImport::new("old", ForeignHash::Plain);
                engine.begin_import(import).unwrap();
                let spec = NewKey::new("acme_live", "acme/moved").unwrap();
                let moved = ForeignKey::new(spec, Credential::token(IMPORTED));
                engine.import_keys("old", vec![moved]).unwrap();
                (IMPORTED.to_owned(), auth)
            }
            Self::Vouched => {
                let jwts = engine.extension("jwts").unwrap();
                let auth = auth.also_verified_by(move |text, requirements| {
                    let vouch = || jwts.vouch(key, Permissions::ALL, requirements);
                    (text == b"header.claims.signature").then(vouch)
                });
                ("header.claims.signature".to_owned(), auth)
            }
            Self::Exchanged => {
                let engine = engine.clone();
                let auth = auth.also_verified_by(move |text, requirements| {
                    let verify = || engine.verify_with(&token, requirements);
                    (text == b"session").then(verify)
                });
                ("session".to_owned(), auth)
            }
            Self::Many => {
                let engine = engine.clone();
                let auth = auth.also_verified_by(move |text, requirements| {
                    let text = std::str::from_utf8(text).unwrap();
                    let tokens: Vec<&str> = text.split(';').collect();
                    let verdicts = engine.verify_many(&tokens, requirements);
                    let mut verdicts: Vec<_> = verdicts.into_iter().map(Result::unwrap).collect();
                    let good = verdicts.iter().position(Verdict::is_granted);
                    Some(Ok(verdicts.swap_remove(good.unwrap_or(1))))
                });
                (format!("old;{token}"), auth)
            }
        }
    }
}

/// How often the keys of `acme` were used.
pub(crate) fn uses(engine: &Engine) -> u64 {
    engine.flush().unwrap();
    let keys = engine.keys(gatekey::KeyFilter::new());
    keys.map(|key| key.unwrap().usage.count).sum()
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
    for shown in Shown::ALL {
        for (layers, costs) in stacks {
            let (engine, issued, auth) = world();
            let (text, auth) = shown.of(&engine, &issued, auth);
            let [outer, inner] = layers.map(|(settled, cost)| {
                let auth = auth.clone().cost(cost);
                if settled { auth.settled_later() } else { auth }
            });
            let app = Router::new()
                .route("/chat", post(chat).route_layer(inner))
                .layer(outer);
            let mut before = 0;
            for (said, cost) in ["730", "4500", "10"].into_iter().zip(costs) {
                assert_eq!(ask_with(&app, Some(&text), said).await, 200);
                let now = spent(&engine, &issued);
                assert_eq!(now - before, cost, "{shown:?} {layers:?} {said}");
                before = now;
            }
            assert_eq!(uses(&engine), 3, "{shown:?} {layers:?}");
        }
    }
}

#[tokio::test]
async fn a_request_is_charged_once_by_a_stack_whatever_its_key_is_known_by() {
    for shown in Shown::ALL {
        for costs in [[5, 3], [3, 5], [0, 4], [4, 0]] {
            let (engine, issued, auth) = world();
            let (text, auth) = shown.of(&engine, &issued, auth);
            let [outer, middle, inner] =
                [costs[0], 1, costs[1]].map(|cost| auth.clone().cost(cost));
            let app = Router::new()
                .route("/chat", post(|_: Grant| async {}).route_layer(inner))
                .layer(middle)
                .layer(outer);
            assert_eq!(ask_with(&app, Some(&text), "").await, 200);
            let dearest = costs.into_iter().max().map_or(0, u64::from);
            assert_eq!(spent(&engine, &issued), dearest, "{shown:?} {costs:?}");
            assert_eq!(uses(&engine), 1, "{shown:?} {costs:?}");
            // It need not be admitted twice, either.
            let quota = OwnerUpdate::new().quota(Quota::new(dearest));
            engine.update_owner("acme_live", "acme", quota).unwrap();
            assert_eq!(ask_with(&app, Some(&text), "").await, 200);
            assert_eq!(ask_with(&app, Some(&text), "").await, 429);
        }
    }
}

/// A key of another owner, and a layer that has keys in a header of their own.
pub(crate) fn another(engine: &Engine) -> (Issued, AuthLayer) {
    let quota = OwnerUpdate::new().quota(Quota::new(QUOTA));
    engine.update_owner("acme_live", "umbrella", quota).unwrap();
    let spec = NewKey::new("acme_live", "umbrella").unwrap();
    let header = Carrier::Header(HeaderName::from_static("x-key"));
    let dialect = Dialect::builder().carriers([header]).build().unwrap();
    let layer = AuthLayer::new(engine.clone(), dialect);
    (engine.issue(spec).unwrap(), layer)
}

/// The status of a request with the token of one key in that header, and of one as a bearer.
pub(crate) async fn send(
    app: &Router,
    [other, bearer]: [&Issued; 2],
    said: &'static str,
) -> StatusCode {
    let request = Request::post("/chat")
        .header("x-key", other.token.expose())
        .header("authorization", format!("Bearer {}", bearer.token.expose()))
        .body(Body::from(said))
        .unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn a_request_is_settled_as_one_through_a_layer_of_another_key() {
    let (engine, issued, auth) = world();
    let (other, middle) = another(&engine);
    let app = Router::new()
        .route("/chat", post(chat).route_layer(auth.clone().cost(30)))
        .layer(middle.cost(5))
        .layer(auth.cost(20).settled_later());
    for (said, cost) in [("", 30), ("3", 3), ("40", 40)] {
        let before = (spent(&engine, &issued), spent(&engine, &other));
        assert_eq!(send(&app, [&other, &issued], said).await, 200);
        let after = (spent(&engine, &issued), spent(&engine, &other));
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (cost, 5),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn what_one_key_was_charged_is_not_charged_less_to_another() {
    let (engine, issued, auth) = world();
    let (other, outer) = another(&engine);
    let outer = outer.cost(5);
    // The inner layer takes the text of the first key for a proof of the second.
    let (proofs, key) = (engine.extension("proofs").unwrap(), other.key.id);
    let inner = auth
        .cost(7)
        .settled_later()
        .also_verified_by(move |_, requirements| {
            Some(proofs.vouch(key, Permissions::ALL, requirements))
        });
    let app = Router::new()
        .route("/chat", post(chat).route_layer(inner))
        .layer(outer.settled_later());
    for (said, costs) in [("", (5, 7)), ("2", (5, 2))] {
        let before = (spent(&engine, &issued), spent(&engine, &other));
        assert_eq!(send(&app, [&issued, &issued], said).await, 200);
        let after = (spent(&engine, &issued), spent(&engine, &other));
        assert_eq!((after.0 - before.0, after.1 - before.1), costs, "{said:?}");
    }
}

#[tokio::test]
async fn of_a_request_that_is_cloned_between_layers_each_settles_its_own() {
    for shown in Shown::ALL {
        for (layers, unsettled) in [
            ([(true, 40), (false, 7)], 0),
            ([(true, 40), (true, 70)], 0),
            ([(true, 7), (true, 40)], 0),
            // What the outer layer has charged for good is of the first that gets to the inner.
            ([(false, 8), (true, 40)], 0),
            ([(false, 30), (true, 40)], 15),
        ] {
            let (engine, issued, auth) = world();
            let (text, auth) = shown.of(&engine, &issued, auth);
            let [outer, inner] = layers.map(|(settled, cost)| {
                let auth = auth.clone().cost(cost);
                if settled { auth.settled_later() } else { auth }
            });
            // The clone costs 15, the request itself 20.
            let twice = tower::layer::layer_fn(|inner: axum::routing::Route| {
                service_fn(move |request: Request<Body>| {
                    let inner = inner.clone();
                    async move {
                        let (parts, _) = request.into_parts();
                        let mut status = Vec::new();
                        for body in ["15", "20"] {
                            let clone = Request::from_parts(parts.clone(), Body::from(body));
                            status.push(inner.clone().oneshot(clone).await?.status());
                        }
                        assert_eq!(status, [200, 200]);
                        Ok::<_, Infallible>(Response::new(Body::empty()))
                    }
                })
            });
            let app = Router::new()
                .route("/chat", post(chat).route_layer(inner))
                .layer(twice)
                .layer(outer);
            assert_eq!(ask_with(&app, Some(&text), "").await, 200);
            let said = 15 + 20;
            assert_eq!(
                spent(&engine, &issued),
                said + unsettled,
                "{shown:?} {layers:?}"
            );
            assert_eq!(uses(&engine), 2, "{shown:?} {layers:?}");
        }
    }
}

#[tokio::test]
async fn clones_that_settle_a_stack_at_once_leave_it_at_what_one_of_them_said() {
    async fn later(State(kept): State<Arc<Mutex<Vec<Settlement>>>>, settlement: Settlement) {
        kept.lock().unwrap().push(settlement);
    }
    let (engine, issued, auth) = world();
    let kept = Arc::<Mutex<Vec<Settlement>>>::default();
    let layer = |cost| auth.clone().cost(cost).settled_later();
    let app = Router::new()
        .route("/chat", post(later).route_layer(layer(40)))
        .layer(layer(20))
        .with_state(Arc::clone(&kept));
    let mut before = 0;
    for round in 0..400 {
        assert_eq!(ask(&app, Some(&issued), "").await, 200);
        let settlement = kept.lock().unwrap().pop().unwrap();
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for cost in [10, 30] {
                let (settlement, barrier) = (settlement.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    settlement.settle(cost).unwrap();
                });
            }
        });
        let now = spent(&engine, &issued);
        let cost = now - before;
        assert!([10, 30].contains(&cost), "{cost} in round {round}");
        settlement.settle(10).unwrap();
        before = spent(&engine, &issued);
        assert_eq!(before, 10 * (round + 1));
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
