//! JWTs beside keys, as One Codex has them: a key is exchanged for one, which is then
//! presented as a bearer token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use gatekey::http::{Carrier, Dialect};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, Grant};
use gatekey_oauth::{JwtOptions, Jwts};
use serde_json::{Value, json};

/// JWTs that name this API as their issuer and as whom they are for, by its URL.
pub(crate) fn open(engine: &Engine, url: &str) -> Result<Jwts, Error> {
    Jwts::open(engine, JwtOptions::new(url, url))
}

/// A dialect in which a JWT may stand, too.
pub(crate) fn beside(dialect: &Dialect, carriers: [Carrier; 3]) -> Result<Dialect, Error> {
    dialect.to_builder().carriers(carriers).build()
}

/// A layer that takes JWTs beside keys.
pub(crate) fn accepted(auth: AuthLayer, jwts: &Jwts) -> AuthLayer {
    let jwts = jwts.clone();
    auth.also_verified_by(move |credential, requirements| {
        let text = std::str::from_utf8(credential).ok()?;
        Jwts::is_jwt(text).then(|| jwts.verify(text, requirements))
    })
}

/// The exchange, for whoever has a key, and the key set. `auth` takes keys alone: who has
/// no more than a JWT cannot make it last.
pub(crate) fn router(jwts: &Jwts, auth: AuthLayer) -> Router {
    let exchange = post(exchange).route_layer(auth.required().no_store());
    Router::new()
        .route("/jwt", exchange)
        .route("/jwks.json", get(key_set))
        .with_state(jwts.clone())
}

async fn exchange(
    State(jwts): State<Jwts>,
    Extension(grant): Extension<Grant>,
) -> Result<Json<Value>, StatusCode> {
    // It reads the file.
    let issued = tokio::task::spawn_blocking(move || jwts.issue(&grant, None)).await;
    match issued {
        Ok(Ok(jwt)) => Ok(Json(json!({
            "token": jwt.expose(),
            "expires_at": jwt.expires_at.to_string(),
        }))),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn key_set(State(jwts): State<Jwts>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "application/jwk-set+json"),
        (CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, jwts.jwks())
}
