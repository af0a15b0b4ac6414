//! What the server answers with.

use serde_json::{Value, json};

/// An answer, for your HTTP library to send.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, in lower case. A body is never to be cached where one says so.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// Shows no body, which may hold tokens, and no header, which may hold a code.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// A redirect with status 303, after which a browser sends nothing of what it sent here.
    #[must_use]
    pub fn redirect(url: &str) -> Self {
        Self {
            status: 303,
            headers: vec![
                ("location", url.to_owned()),
                ("cache-control", "no-store".to_owned()),
                ("referrer-policy", "no-referrer".to_owned()),
            ],
            body: String::new(),
        }
    }

    /// The answer to a body that [`Params`](crate::Params) cannot read: 400, `invalid_request`.
    #[must_use]
    pub fn malformed() -> Self {
        Self::refuse(Refusal::InvalidRequest)
    }

    /// The answer to an error of the store: 503, which says nothing more.
    #[must_use]
    pub fn unavailable() -> Self {
        let body = json!({
            "error": "temporarily_unavailable",
            "error_description": "Try again later.",
            "message": "Try again later.",
        });
        Self::json(503, &body)
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::of_json(status, body.to_string())
    }

    pub(super) fn of_json(status: u16, body: String) -> Self {
        Self {
            status,
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("cache-control", "no-store".to_owned()),
                ("pragma", "no-cache".to_owned()),
            ],
            body,
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: vec![("cache-control", "no-store".to_owned())],
            body: String::new(),
        }
    }

    pub(super) fn refuse(refusal: Refusal) -> Self {
        let body = json!({
            "error": refusal.code(),
            "error_description": refusal.description(),
            "message": refusal.description(),
        });
        let status = if refusal == Refusal::InvalidClient {
            401
        } else {
            400
        };
        let mut reply = Self::json(status, &body);
        if refusal == Refusal::InvalidClient {
            let challenge = "Basic realm=\"oauth\", charset=\"UTF-8\"".to_owned();
            reply.headers.push(("www-authenticate", challenge));
        }
        reply
    }
}

/// Why a request to the token endpoint is refused (RFC 6749, 5.2; RFC 8707, 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
        }
    }

    /// The same for all that an attacker could tell apart by it.
    fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is malformed, or lacks a parameter.",
            Self::InvalidClient => "The client is unknown, or did not authenticate as registered.",
            Self::InvalidGrant => "The code or the refresh token is not good for this request.",
            Self::UnauthorizedClient => "The client may not use this grant type now.",
            Self::UnsupportedGrantType => "This grant type is not supported.",
            Self::InvalidScope => "The scope is more than was agreed, or cannot be had now.",
            Self::InvalidTarget => "The resource is none of this server's.",
        }
    }
}
