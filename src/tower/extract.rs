//! The grant as an argument of an axum handler.

use std::fmt;

use ::http::StatusCode;
use ::http::request::Parts;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};

use super::route::Anonymous;
use super::settlement::Settlement;
use crate::http::Rejection;
use crate::model::verdict::Grant;

/// Why axum does not call a handler that takes a [`Grant`] or a [`Settlement`].
///
/// ```
/// use gatekey::Grant;
/// use gatekey::tower::GrantRejection;
///
/// async fn whoami(grant: Result<Grant, GrantRejection>) -> String {
///     match grant {
///         Ok(grant) => grant.owner().to_owned(),
///         Err(GrantRejection::Anonymous(_)) => "anonymous".to_owned(),
///         Err(other) => other.to_string(),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(whoami));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GrantRejection {
    /// The caller is anonymous. The response is the dialect's for a missing key.
    Anonymous(Box<Rejection>),
    /// No [`AuthLayer`](super::AuthLayer) wraps the handler: an error of the server. The
    /// response is a 500.
    LayerMissing,
    /// The handler takes a [`Settlement`], and no layer that wraps it is
    /// [`settled_later`](super::AuthLayer::settled_later): an error of the server. The
    /// response is a 500.
    NotSettledLater,
}

impl fmt::Display for GrantRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous(rejection) => rejection.fmt(f),
            Self::LayerMissing => f.write_str("500: no AuthLayer wraps the handler"),
            Self::NotSettledLater => {
                f.write_str("500: no AuthLayer that wraps the handler is settled later")
            }
        }
    }
}

impl std::error::Error for GrantRejection {}

impl IntoResponse for GrantRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Anonymous(rejection) => rejection.response().map(Into::into),
            Self::LayerMissing | Self::NotSettledLater => {
                (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
            }
        }
    }
}

/// The grant of the request. An anonymous caller gets the dialect's response for a missing
/// key, even where the layer let that caller pass.
impl<S: Send + Sync> FromRequestParts<S> for Grant {
    type Rejection = GrantRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GrantRejection> {
        found(parts)
    }
}

/// The settlement of the request. An anonymous caller gets the dialect's response for a
/// missing key, even where the layer let that caller pass.
impl<S: Send + Sync> FromRequestParts<S> for Settlement {
    type Rejection = GrantRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GrantRejection> {
        let settlement = parts.extensions.get::<Self>().cloned();
        found(parts)?;
        settlement.ok_or(GrantRejection::NotSettledLater)
    }
}

/// The settlement of the request; `None` for an anonymous caller.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Settlement {
    type Rejection = GrantRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        match find(parts)? {
            Ok(_) => match parts.extensions.get::<Self>() {
                Some(settlement) => Ok(Some(settlement.clone())),
                None => Err(GrantRejection::NotSettledLater),
            },
            Err(_) => Ok(None),
        }
    }
}

/// The grant; of an anonymous caller the response for a missing key.
fn found(parts: &Parts) -> Result<Grant, GrantRejection> {
    match find(parts)? {
        Ok(grant) => Ok(grant),
        Err(Anonymous { route }) => {
            let rejection = route.dialect.missing();
            route.report_rejected(&rejection, parts);
            Err(GrantRejection::Anonymous(Box::new(rejection)))
        }
    }
}

/// The grant of the request; `None` for an anonymous caller.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Grant {
    type Rejection = GrantRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        Ok(find(parts)?.ok())
    }
}

/// The grant, or the mark of the layer that let an anonymous caller pass.
fn find(parts: &Parts) -> Result<Result<Grant, &Anonymous>, GrantRejection> {
    if let Some(grant) = parts.extensions.get::<Grant>() {
        return Ok(Ok(grant.clone()));
    }
    match parts.extensions.get::<Anonymous>() {
        Some(anonymous) => Ok(Err(anonymous)),
        None => Err(GrantRejection::LayerMissing),
    }
}
