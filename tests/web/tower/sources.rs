//! Where requests come from, behind proxies.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::routing::get;
use gatekey::http::{Dialect, Peer, Proxies, RejectionReason, SourceFault, SourceHeader};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Limit, NewKey, NewKeyspace, Options};
use tower::ServiceExt as _;

const FAILED_MAX: u32 = 5;

fn store() -> (Engine, String, String) {
    let limit = Limit::per_hour(FAILED_MAX);
    let engine = Options::new()
        .failed_attempts(limit)
        .open_in_memory()
        .unwrap();
    engine
        .create_keyspace(NewKeyspace::new("acme_live").unwrap())
        .unwrap();
    let new = || NewKey::new("acme_live", "acme").unwrap();
    let good = engine.issue(new()).unwrap();
    let bound = new().allow_networks(["192.0.2.0/24".parse().unwrap()]);
    let bound = engine.issue(bound).unwrap();
    let text = |issued: gatekey::Issued| issued.token.expose().to_owned();
    (engine, text(good), text(bound))
}

fn app(engine: &Engine, header: SourceHeader) -> Router {
    let proxies = Proxies::new(header).trust(["10.0.0.1".parse().unwrap()]);
    let auth = AuthLayer::new(engine.clone(), Dialect::default())
        .optional()
        .behind(proxies, |extensions| {
            let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
            Some(Peer::from(*peer))
        })
        .on_rejected(|refused, _| {
            if let RejectionReason::SourceUnknown(fault) = refused.reason() {
                assert!(matches!(
                    fault,
                    SourceFault::Missing | SourceFault::NotAnAddress
                ));
            }
        });
    Router::new().route("/", get(|| async { "ok" })).layer(auth)
}

/// Asks from a peer, with the header `X-Forwarded-For`.
async fn ask(app: &Router, peer: &str, forwarded: Option<&str>, token: Option<&str>) -> u16 {
    let mut request = Request::builder();
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer = SocketAddr::new(peer.parse::<IpAddr>().unwrap(), 4711);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.clone()
        .oneshot(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn bad_keys_through_a_proxy_lock_out_their_sender_alone() {
    let (engine, good, _) = store();
    let app = app(&engine, SourceHeader::XForwardedFor);
    for attempt in 0..20 {
        // What the sender wrote before the proxy's word is nobody's address.
        let forwarded = format!("203.0.113.{attempt}, 198.51.100.7");
        let status = ask(&app, "10.0.0.1", Some(&forwarded), Some("bad")).await;
        assert_eq!(status, if attempt < 5 { 401 } else { 429 });
    }
    assert_eq!(
        ask(&app, "10.0.0.1", Some("198.51.100.7"), Some(&good)).await,
        429
    );
    for other in ["198.51.100.8", "203.0.113.3", "10.0.0.1"] {
        assert_eq!(
            ask(&app, "10.0.0.1", Some(other), Some(&good)).await,
            200,
            "{other}"
        );
    }
    // Whoever is no proxy cannot have others locked out, nor pass for them.
    for _ in 0..20 {
        ask(&app, "198.51.100.9", Some("192.0.2.1"), Some("bad")).await;
    }
    assert_eq!(
        ask(&app, "10.0.0.1", Some("192.0.2.1"), Some(&good)).await,
        200
    );
    assert_eq!(
        ask(&app, "198.51.100.9", Some("192.0.2.1"), Some(&good)).await,
        429
    );
}

#[tokio::test]
async fn a_key_bound_to_a_network_is_let_in_from_there_alone_behind_a_proxy() {
    let (engine, _, bound) = store();
    let app = app(&engine, SourceHeader::XForwardedFor);
    for (peer, forwarded, status) in [
        ("10.0.0.1", Some("192.0.2.7"), 200),
        ("10.0.0.1", Some("192.0.2.7, 198.51.100.7"), 403),
        ("10.0.0.1", Some("64:ff9b::192.0.2.7"), 200),
        ("198.51.100.7", Some("192.0.2.7"), 403),
        ("192.0.2.7", Some("198.51.100.7"), 200),
        ("::ffff:10.0.0.1", Some("192.0.2.7"), 200),
    ] {
        let found = ask(&app, peer, forwarded, Some(&bound)).await;
        assert_eq!(found, status, "{peer} {forwarded:?}");
    }
}

#[tokio::test]
async fn where_a_proxy_does_not_say_who_asks_no_credential_is_looked_at() {
    let (engine, good, bound) = store();
    let app = app(&engine, SourceHeader::XForwardedFor);
    for forwarded in [None, Some(""), Some("unknown"), Some("192.0.2.7, unix:")] {
        for token in [good.as_str(), bound.as_str(), "bad"] {
            let found = ask(&app, "10.0.0.1", forwarded, Some(token)).await;
            assert_eq!(found, 400, "{forwarded:?}");
        }
        // Nobody in particular needs no address.
        assert_eq!(ask(&app, "10.0.0.1", forwarded, None).await, 200);
    }
    assert_eq!(
        ask(&app, "10.0.0.1", Some("192.0.2.7"), Some(&good)).await,
        200
    );
}
