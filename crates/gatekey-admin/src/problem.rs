//! What goes wrong, as problem details (RFC 9457).

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use gatekey::{Conflict, Error, Invalid, withheld};
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request was not served.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// A name of the kind of problem: `urn:gatekey:problem:` and the code.
    r#type: String,
    /// The text of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, in a sentence. It holds no token.
    detail: String,
    /// A stable name of the kind of problem, for programs.
    code: &'static str,
    /// The position of the item of a batch that was refused, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl AsRef<str>) -> Self {
        Self {
            r#type: format!("urn:gatekey:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            // What a caller sent may be in it, and may be a token.
            detail: withheld(detail.as_ref()).into_owned(),
            code,
            index: None,
        }
    }

    pub(crate) fn bad_request(detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(crate) fn forbidden(detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text: Cow<'_, str> = error.to_string().into();
        match &error {
            Error::Batch { index, source } => Self {
                index: Some(*index),
                detail: withheld(&text).into_owned(),
                ..Self::from(source.as_ref().clone())
            },
            Error::Invalid(invalid) => {
                Self::new(StatusCode::BAD_REQUEST, code_of_invalid(invalid), text)
            }
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", text),
            Error::Conflict(conflict) => {
                Self::new(StatusCode::CONFLICT, code_of_conflict(conflict), text)
            }
            Error::OutcomeUnknown(_) => Self::new(error.status(), "outcome_unknown", text),
            Error::Corrupted(_) => Self::new(error.status(), "corrupted", text),
            Error::Closed => Self::new(error.status(), "closed", text),
            _ => Self::new(error.status(), "store_failed", text),
        }
    }
}

fn code_of_invalid(invalid: &Invalid) -> &'static str {
    match invalid {
        Invalid::UnknownPermission { .. } => "unknown_permission",
        Invalid::RetiredPermission { .. } => "retired_permission",
        Invalid::UnknownPlan { .. } => "unknown_plan",
        Invalid::ExpiryInPast { .. } => "expiry_in_past",
        Invalid::LifetimeTooLong { .. } => "lifetime_too_long",
        Invalid::GraceTooLong { .. } => "grace_too_long",
        Invalid::TooMany { .. } => "too_many",
        _ => "invalid",
    }
}

fn code_of_conflict(conflict: &Conflict) -> &'static str {
    match conflict {
        Conflict::Alone => "alone",
        Conflict::PrefixTaken(_) => "prefix_taken",
        Conflict::Revoked { .. } => "revoked",
        Conflict::Expired { .. } => "expired",
        Conflict::Disabled(_) => "disabled",
        Conflict::AlreadyRotated { .. } => "already_rotated",
        Conflict::OwnerHasKey { .. } => "owner_has_key",
        Conflict::OwnerAtCap { .. } => "owner_at_cap",
        Conflict::NoRoomForGrace { .. } => "no_room_for_grace",
        Conflict::OwnerHoldsSeveral { .. } => "owner_holds_several",
        Conflict::ImportDiffers(_) => "import_differs",
        Conflict::TokenTaken { .. } => "token_taken",
        Conflict::ForeignIdTaken { .. } => "foreign_id_taken",
        Conflict::NotClaimable { .. } => "not_claimable",
        Conflict::ImportOver { .. } => "import_over",
        Conflict::AnotherRequest => "another_request",
        Conflict::AlreadyAnswered { .. } => "already_answered",
        _ => "conflict",
    }
}
