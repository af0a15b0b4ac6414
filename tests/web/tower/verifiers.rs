//! Other verifiers behind layers that have charged the request: those that ask otherwise than
//! their layer does, of several keys, or another engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use gatekey::http::Dialect;
use gatekey::tower::{AuthLayer, Settlement};
use gatekey::{Denial, Engine, Error, Requirements, Verdict};
use http::{Request, StatusCode};
use tower::util::BoxCloneSyncServiceLayer;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use crate::settling::{QUOTA, another, ask, send, spent, uses, world};

/// Settles at what the request says, where a layer is settled later and it says something.
async fn chat(extensions: http::Extensions, body: String) -> gatekey::Result<()> {
    match (extensions.get::<Settlement>(), body.parse()) {
        (Some(settlement), Ok(cost)) => settlement.settle(cost),
        _ => Ok(()),
    }
}

fn costing(auth: &AuthLayer, cost: u32, is_settled_later: bool) -> AuthLayer {
    let auth = auth.clone().cost(cost);
    match is_settled_later {
        true => auth.settled_later(),
        false => auth,
    }
}

fn route(layer: Option<AuthLayer>) -> MethodRouter {
    match layer {
        Some(layer) => post(chat).route_layer(layer),
        None => post(chat),
    }
}

/// A verifier that asks by requirements of its own, which cost 3 and may be settled later.
fn by_its_own(engine: &Engine, auth: AuthLayer, is_settled_later: bool) -> AuthLayer {
    let engine = engine.clone();
    auth.also_verified_by(move |text, _| {
        let own = Requirements::new().cost(3);
        let own = match is_settled_later {
            true => own.settled_later(),
            false => own,
        };
        engine.verify_many(&[text], &own).pop()
    })
}

#[tokio::test]
async fn what_a_verifier_charges_by_its_own_is_beside_what_the_layers_charge() {
    let (thirds, all) = ([None, Some(false), Some(true)], [false, true]);
    for (third, outer, inner, own) in thirds.into_iter().flat_map(|third| {
        (0..8).map(move |which| (third, all[which & 1], all[which >> 1 & 1], all[which >> 2]))
    }) {
        let (engine, issued, auth) = world();
        let last = third.map(|is_settled_later| costing(&auth, 30, is_settled_later));
        let verified = by_its_own(&engine, costing(&auth, 7, inner), own);
        let app = Router::new()
            .route("/chat", route(last).route_layer(verified))
            .layer(costing(&auth, 20, outer));
        // What the layers charge, and the verifier beside them.
        let estimate = third.map_or(20, |_| 30);
        let beside = if own { 0 } else { 3 };
        let mut before = 0;
        for said in [None, Some(7), Some(25), Some(90)] {
            let cost = match said {
                Some(said) if outer => said + beside,
                // The outer layer has charged its cost for good.
                Some(said) if inner && (own || third.is_some()) => said.max(20) + beside,
                // The verifier's charge is no layer's to settle.
                Some(said) if third == Some(true) => said.max(20) + 3,
                _ => estimate + 3,
            };
            let text = said.map_or(String::new(), |said: u64| said.to_string());
            assert_eq!(ask(&app, Some(&issued), &text).await, 200);
            let now = spent(&engine, &issued);
            let about = format!("{third:?} {outer} {inner} {own} {said:?}");
            assert_eq!(now - before, cost, "{about}");
            before = now;
        }
        assert_eq!(uses(&engine), 8);
    }
}

type Between = BoxCloneSyncServiceLayer<axum::routing::Route, Request<Body>, Response, Infallible>;

/// Sends a request on as clones, one after the other: what each says, and the answer to it.
fn as_clones(clones: &'static [(&'static str, u16)]) -> Between {
    let layer = tower::layer::layer_fn(move |inner: axum::routing::Route| {
        service_fn(move |request: Request<Body>| {
            let inner = inner.clone();
            async move {
                let (parts, _) = request.into_parts();
                let mut last = Response::new(Body::empty());
                for (said, expected) in clones {
                    let clone = Request::from_parts(parts.clone(), Body::from(*said));
                    last = inner.clone().oneshot(clone).await?;
                    assert_eq!(last.status(), *expected, "{said}");
                }
                Ok::<_, Infallible>(last)
            }
        })
    });
    BoxCloneSyncServiceLayer::new(ServiceBuilder::new().layer(layer))
}

#[tokio::test]
async fn of_two_clones_one_has_what_was_charged_before_a_verifier_that_asks_by_its_own() {
    for (is_settled_later, own, cost) in [
        // One settles the outer layer's charge, and the other what can be of its own.
        (true, true, 15 + 25),
        (true, false, 15 + 3 + 3),
        (false, true, 20 + 25),
        (false, false, 20 + 3 + 3),
    ] {
        let (engine, issued, auth) = world();
        let inner = by_its_own(&engine, costing(&auth, 7, true), own);
        let app = Router::new()
            .route("/chat", route(Some(inner)))
            .layer(as_clones(&[("15", 200), ("25", 200)]))
            .layer(costing(&auth, 20, is_settled_later));
        assert_eq!(ask(&app, Some(&issued), "").await, 200);
        assert_eq!(spent(&engine, &issued), cost, "{is_settled_later} {own}");
    }
}

#[tokio::test]
async fn what_a_verifier_did_not_charge_is_charged_by_the_layer_behind() {
    type Asks = for<'a> fn(&Requirements<'a>) -> Requirements<'a>;
    // What the verifier of the first layer asks for; what of it the layer knows, and not.
    let kinds: [(Asks, u64, u64); 4] = [
        (|_| Requirements::new(), 0, 1),
        (|given| given.cost(2), 2, 0),
        (|given| given.cost(50), 50, 0),
        (|given| *given, 40, 0),
    ];
    for (asks, known, beside) in kinds {
        for said in [None, Some(9)] {
            let (engine, issued, auth) = world();
            let inner = costing(&auth, 30, said.is_some());
            let verify = engine.clone();
            let outer = costing(&auth, 40, false)
                .also_verified_by(move |text, given| Some(verify.verify_with(text, &asks(given))));
            let app = Router::new()
                .route("/chat", route(Some(inner)))
                .layer(outer);
            let text = said.map_or(String::new(), |said: u64| said.to_string());
            assert_eq!(ask(&app, Some(&issued), &text).await, 200);
            let cost = said.unwrap_or(30).max(known) + beside;
            assert_eq!(spent(&engine, &issued), cost, "{known} {said:?}");
        }
    }
}

#[tokio::test]
async fn a_verifier_that_tries_several_keys_has_what_each_was_charged() {
    // The keys that it verifies, one after the other; in upper case, for what the key lacks. The
    // last that `k` is granted is its answer.
    for tries in ["xk", "kx", "kxk", "kxxk", "Xk", "Kxk", "kX", "kXK"] {
        for is_last_of_x in [false, true] {
            let (engine, k, auth) = world();
            let (x, of_x) = another(&engine);
            let tokens = [&x, &k].map(|issued| issued.token.expose().to_owned());
            let verify = engine.clone();
            let inner = costing(&auth, 30, true).also_verified_by(move |_, given| {
                let mut answer = None;
                for of in tries.chars() {
                    let token = &tokens[usize::from(of.eq_ignore_ascii_case(&'k'))];
                    let asks = match of.is_uppercase() {
                        true => given.keyspace("other".parse().unwrap()),
                        false => *given,
                    };
                    let verdict = verify.verify_with(token, &asks);
                    if verdict.as_ref().unwrap().is_granted() && of == 'k' {
                        answer = Some(verdict);
                    }
                }
                answer
            });
            let last = is_last_of_x.then(|| costing(&of_x, 30, true));
            let app = Router::new()
                .route("/chat", route(last).route_layer(inner))
                .layer(costing(&auth, 20, true))
                .layer(costing(&of_x, 5, true));
            // What it charges for grants that it does not return.
            let beside = |of, more: usize| (more * tries.matches(of).count()) as u64;
            for said in [None, Some(12)] {
                let before = (spent(&engine, &x), spent(&engine, &k));
                let text = said.map_or("", |_| "12");
                assert_eq!(send(&app, [&x, &k], text).await, 200);
                let cost_x = spent(&engine, &x) - before.0 - beside('x', 25);
                let cost_k = spent(&engine, &k) - before.1 - beside('k', 10) + 10;
                // The handler settles what the last layer found.
                let expected = match (is_last_of_x, said) {
                    (false, said) => (5, said.unwrap_or(30)),
                    (true, said) => (said.unwrap_or(30), 30),
                };
                assert_eq!(
                    (cost_x, cost_k),
                    expected,
                    "{tries} {is_last_of_x} {said:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_clone_that_is_rejected_leaves_what_was_charged_to_the_next() {
    type Rejects = fn(gatekey::Result<Verdict>) -> gatekey::Result<Verdict>;
    // How the first is rejected, and what its verifier has charged by then.
    let kinds: [(&str, Rejects, u16, u64); 3] = [
        ("other", |denied| denied, 401, 0),
        (
            "acme_live",
            |_| Ok(Verdict::Denied(Denial::Unknown)),
            401,
            10,
        ),
        ("acme_live", |_| Err(Error::NeedsReopen), 503, 10),
    ];
    for (keyspace, rejects, status, beside) in kinds {
        let (engine, issued, auth) = world();
        let (verify, calls) = (engine.clone(), Arc::new(AtomicU32::new(0)));
        let inner = costing(&auth, 30, false).also_verified_by(move |text, given| {
            Some(match calls.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    let asks = given.keyspace(keyspace.parse().unwrap());
                    rejects(verify.verify_with(text, &asks))
                }
                _ => verify.verify_with(text, given),
            })
        });
        let clones: &'static [_] = match status {
            401 => &[("", 401), ("12", 200), ("25", 200)],
            _ => &[("", 503), ("12", 200), ("25", 200)],
        };
        let app = Router::new()
            .route("/chat", route(Some(inner)))
            .layer(as_clones(clones))
            .layer(costing(&auth, 20, true));
        assert_eq!(ask(&app, Some(&issued), "").await, 200);
        assert_eq!(
            spent(&engine, &issued),
            12 + 25 + beside,
            "{keyspace} {status}"
        );
    }
}

#[tokio::test]
async fn a_store_and_its_copy_charge_each_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, issued, auth) = world();
    engine.backup(folder.path().join("copy.redb")).unwrap();
    let copy = Engine::open(folder.path().join("copy.redb")).unwrap();
    let by_copy = |auth: AuthLayer| {
        let copy = copy.clone();
        auth.also_verified_by(move |text, given| Some(copy.verify_with(text, given)))
    };
    let of_copy = AuthLayer::new(copy.clone(), Dialect::default());
    // The layers, and what is charged in the store and in the copy where the handler says 12.
    let stacks = [
        // Behind a layer of the store, the copy is asked.
        (
            costing(&auth, 20, true),
            by_copy(costing(&auth, 30, false)),
            (12, 30),
        ),
        (
            costing(&auth, 20, true),
            by_copy(costing(&auth, 30, true)),
            (12, 30),
        ),
        (
            costing(&auth, 20, false),
            by_copy(costing(&auth, 30, false)),
            (20, 30),
        ),
        // Behind a layer of the store that asks the copy.
        (
            by_copy(costing(&auth, 20, false)),
            costing(&auth, 30, false),
            (30, 20),
        ),
        (
            by_copy(costing(&auth, 20, false)),
            costing(&auth, 30, true),
            (12, 20),
        ),
        (
            by_copy(costing(&auth, 20, true)),
            costing(&auth, 30, true),
            (12, 20),
        ),
        // Behind a layer of the copy, and in front of it.
        (of_copy.clone().cost(20), costing(&auth, 30, true), (12, 20)),
        (
            costing(&auth, 20, true),
            of_copy.cost(30).settled_later(),
            (20, 12),
        ),
    ];
    for (number, (outer, inner, costs)) in stacks.into_iter().enumerate() {
        let app = Router::new()
            .route("/chat", route(Some(inner)))
            .layer(outer);
        let before = (spent(&engine, &issued), spent(&copy, &issued));
        assert_eq!(ask(&app, Some(&issued), "12").await, StatusCode::OK);
        let after = (spent(&engine, &issued), spent(&copy, &issued));
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            costs,
            "stack {number}"
        );
    }
    assert!(spent(&copy, &issued) < QUOTA);
}
