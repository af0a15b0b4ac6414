//! The grant as an argument of an axum handler.

use std::fmt;

use ::http::StatusCode;
use ::http::request::Parts;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};

use super::layer::Anonymous;
use crate::http::Refused;
use crate::model::verdict::Grant;

/// Why a handler that asks for a [`Grant`] is not called.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NoGrant {
    /// The caller is anonymous, and gets the dialect's answer to that.
    Anonymous(Box<Refused>),
    /// There is no [`AuthLayer`](super::AuthLayer) in front of the handler: a fault of
    /// the server, a 500. Nobody is let through for it.
    LayerMissing,
}

impl fmt::Display for NoGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous(refused) => refused.fmt(f),
            Self::LayerMissing => f.write_str("500: there is no AuthLayer in front of the handler"),
        }
    }
}

impl std::error::Error for NoGrant {}

impl IntoResponse for NoGrant {
    fn into_response(self) -> Response {
        match self {
            Self::Anonymous(refused) => refused.response().map(Into::into),
            Self::LayerMissing => {
                (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
            }
        }
    }
}

/// The grant of the request, for a handler of axum. Who is anonymous gets the
/// dialect's answer to a missing key, even where the layer lets them through.
impl<S: Send + Sync> FromRequestParts<S> for Grant {
    type Rejection = NoGrant;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NoGrant> {
        match find(parts)? {
            Ok(grant) => Ok(grant),
            Err(Anonymous { route }) => {
                let refused = route.dialect.missing();
                route.refused(&refused, parts);
                Err(NoGrant::Anonymous(Box::new(refused)))
            }
        }
    }
}

/// The grant of the request, or `None` for who is anonymous.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Grant {
    type Rejection = NoGrant;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        Ok(find(parts)?.ok())
    }
}

/// The grant, or the layer that let an anonymous caller through.
fn find(parts: &Parts) -> Result<Result<Grant, &Anonymous>, NoGrant> {
    if let Some(grant) = parts.extensions.get::<Grant>() {
        return Ok(Ok(grant.clone()));
    }
    match parts.extensions.get::<Anonymous>() {
        Some(anonymous) => Ok(Err(anonymous)),
        None => Err(NoGrant::LayerMissing),
    }
}
