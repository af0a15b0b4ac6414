//! `/auth`: what reverse proxies ask, in front of an application that knows no keys.
//! docs/FORWARD_AUTH.md has the configuration of each.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::any;
use gatekey::http::{ForwardAuth, RejectionLog, presets};
use gatekey::{Engine, Prefix};

/// A route for each proxy, at the exact path that it asks. They trust the loopback. Not to
/// be nested: a nested handler sees a path without the nest's, which is not Envoy's.
pub(crate) fn router(engine: &Engine, prefix: Prefix, log: &Arc<RejectionLog>) -> Router {
    let dialect = presets::tiered_bearer;
    let of = |forward: ForwardAuth| {
        let log = log.clone();
        forward
            .keyspace(prefix)
            .permissions_for(|original| match original.method() {
                "GET" | "HEAD" => &[],
                _ => &["write"],
            })
            .on_rejected(move |refused, request| log.record(refused, request))
    };
    let nginx = of(ForwardAuth::nginx(engine.clone(), dialect()));
    let forwarded = of(ForwardAuth::forwarded(engine.clone(), dialect()));
    let envoy = of(ForwardAuth::envoy(engine.clone(), dialect(), "/auth/envoy"));
    let envoy_root = envoy.clone();
    Router::new()
        .route(
            "/auth/nginx",
            any(|peer, request| answer(nginx, peer, request)),
        )
        .route(
            "/auth/forwarded",
            any(|peer, request| answer(forwarded, peer, request)),
        )
        // The only one that asks by a path of the client's. `{*path}` is never empty, and the
        // path of a site's first page is.
        .route(
            "/auth/envoy/",
            any(|peer, request| answer(envoy_root, peer, request)),
        )
        .route(
            "/auth/envoy/{*path}",
            any(|peer, request| answer(envoy, peer, request)),
        )
}

async fn answer(
    forward: ForwardAuth,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> axum::response::Response {
    let (parts, _body) = request.into_parts();
    forward.answer(peer.ip(), &parts).map(Into::into)
}
