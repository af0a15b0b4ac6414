//! An engine's error as an axum response.

use std::sync::Arc;

use axum_core::response::{IntoResponse, Response};

use crate::model::error::Error;

/// A response with the error's [`status`](Error::status): the client learns nothing else.
/// Its body is empty, and an [`AuthLayer`](super::AuthLayer) writes the one that its dialect
/// has for a server that failed. The response's extensions hold the error, as an
/// `Arc<gatekey::Error>`, for a layer that logs.
///
/// ```
/// use axum::{Router, routing::post};
/// use gatekey::{Engine, Grant, NewKey};
///
/// # let engine = Engine::open_in_memory()?;
/// async fn create(engine: Engine, grant: Grant) -> gatekey::Result<String> {
///     let issued = engine.issue(NewKey::new(grant.keyspace(), grant.owner())?)?;
///     Ok(issued.token.expose().to_owned())
/// }
/// let app: Router = Router::new().route("/keys", post(move |grant| create(engine, grant)));
/// # let _ = app;
/// # Ok::<(), gatekey::Error>(())
/// ```
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
