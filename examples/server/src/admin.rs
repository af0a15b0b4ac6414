//! `/admin`: what an operator does with keys. With owners: `tenants`.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, Grant, NewKey, Quota, Reason, Revocation, Rotation};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::tenants;

/// The routes, for whoever has the permission `keys`.
pub(crate) fn router(engine: &Engine, auth: AuthLayer) -> Router {
    let no_store = HeaderValue::from_static("no-store");
    Router::new()
        .route("/keys", post(issue))
        .route("/keys/{id}", get(show))
        .route("/keys/{id}/rotate", post(rotate))
        .route("/keys/{id}", delete(revoke))
        .merge(tenants::router())
        .route_layer(auth.permissions(["keys"]))
        // The answers to these hold tokens.
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            no_store,
        ))
        .with_state(engine.clone())
}

/// What an operator asks for. Times are in seconds. A member that is not known is
/// refused: a misspelt `expires_in` must not make a key that never expires.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    keyspace: String,
    owner: String,
    #[serde(default)]
    permissions: Vec<String>,
    expires_in: Option<u64>,
    quota: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotated {
    #[serde(default)]
    grace: u64,
}

/// A change waits for the disk, so it runs where a thread may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

pub(crate) struct Failure(Error);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Conflict(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.0.to_string() }))).into_response()
    }
}

async fn issue(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let issued = blocking(move || {
        let mut key = NewKey::new(asked.keyspace, asked.owner)?.permissions(asked.permissions);
        if let Some(seconds) = asked.expires_in {
            key = key.expires_in(Duration::from_secs(seconds));
        }
        if let Some(requests) = asked.quota {
            key = key.quota(Quota::new(requests));
        }
        engine.acting_as(by.owner())?.issue(key)
    })
    .await?;
    let answer = json!({
        "id": issued.key.id.to_string(),
        "token": issued.token.expose(),
        "expires_at": issued.key.expires_at.map(|at| at.to_string()),
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn show(
    State(engine): State<Engine>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let key = blocking(move || {
        engine.flush()?;
        engine.key(id.parse()?)
    })
    .await?;
    Ok(Json(json!({
        "id": key.id.to_string(),
        "owner": key.owner.to_string(),
        "state": key.state.to_string(),
        "quota_remaining": key.quota.map(|quota| quota.remaining),
        "used": key.usage.count,
        "last_used": key.usage.last_used.map(|at| at.to_string()),
    })))
}

async fn rotate(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Path(id): Path<String>,
    Json(asked): Json<Rotated>,
) -> Result<Json<Value>, Failure> {
    let rotated = blocking(move || {
        let grace = Rotation::with_grace(Duration::from_secs(asked.grace));
        engine.acting_as(by.owner())?.rotate(id.parse()?, grace)
    })
    .await?;
    Ok(Json(json!({
        "id": rotated.key.id.to_string(),
        "token": rotated.token.expose(),
        "old": rotated.old.id.to_string(),
        "old_accepted_until": rotated.old.retiring_until.map(|at| at.to_string()),
    })))
}

async fn revoke(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    blocking(move || {
        let why = Revocation::new(Reason::Cessation).note("over /admin");
        engine.acting_as(by.owner())?.revoke(id.parse()?, why)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
