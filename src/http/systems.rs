//! The ready-made dialects. What their texts state is in `docs/DIALECTS.md`, with
//! what they leave open and how it was settled.

use ::http::{HeaderName, StatusCode};
use serde::Serialize;

use super::caching::vary_of;
use super::credential::Carrier;
use super::dialect::{Bodies, Dialect, Settings, challenge_of};
use super::limit_fields::{LimitFields, LimitTold};
use super::refused::{Answer, AnswerKind};
use crate::model::clock::Timestamp;

impl AnswerKind {
    /// A stable name, as the bodies of [`Dialect::tiered_bearer`] have it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_api_key",
            Self::Ambiguous | Self::Unreadable | Self::SourceUnknown | Self::BadRequest => {
                "invalid_request"
            }
            Self::Invalid => "invalid_api_key",
            Self::Expired => "token_expired",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::PermissionMissing => "insufficient_scope",
            Self::Foreign | Self::NotForYou => "forbidden",
            Self::RateLimited => "rate_limit_exceeded",
            Self::QuotaExhausted => "quota_exceeded",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Unavailable => "service_unavailable",
        }
    }
}

impl Answer<'_> {
    /// A stable name of what the caller is told, as in [`AnswerKind::code`]; of
    /// what is hidden, `not_found`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND => "not_found",
            _ => self.kind().code(),
        }
    }

    /// A sentence for what the caller is told.
    #[must_use]
    pub fn message(&self) -> &'static str {
        if self.status() == StatusCode::NOT_FOUND {
            return "There is no such thing.";
        }
        match self.kind() {
            AnswerKind::Missing => "An API key is required.",
            AnswerKind::Ambiguous => "The request has more than one credential.",
            AnswerKind::Unreadable => {
                "The credential is not in the format that its header asks for."
            }
            AnswerKind::SourceUnknown => "Where the request comes from is not known.",
            AnswerKind::Invalid => "The API key is invalid.",
            AnswerKind::Expired => "The API key has expired.",
            AnswerKind::NetworkNotAllowed => "The API key may not be used from this network.",
            AnswerKind::PermissionMissing => "The API key lacks a permission that is required.",
            AnswerKind::Foreign => "The API key may not be used for this.",
            AnswerKind::BadRequest => "The request has a header or a path that is not passed on.",
            AnswerKind::NotForYou => "Only trusted proxies are answered here.",
            AnswerKind::RateLimited => "The rate limit is exceeded.",
            AnswerKind::QuotaExhausted => "The quota is used up.",
            AnswerKind::TooManyAttempts => "Too many attempts have failed.",
            AnswerKind::Unavailable => "The service cannot verify API keys now.",
        }
    }
}

/// # Ready-made
impl Dialect {
    /// For a new API: Bearer (RFC 6750), problem details (RFC 9457), and the fields
    /// `RateLimit` and `RateLimit-Policy`.
    ///
    /// ```
    /// use gatekey::http::Dialect;
    ///
    /// let response = Dialect::problem_details().missing().response();
    /// assert_eq!(response.headers()["content-type"], "application/problem+json");
    /// let body = std::str::from_utf8(response.body()).unwrap();
    /// assert!(body.contains(r#""title":"Unauthorized","status":401"#));
    /// ```
    #[must_use]
    pub fn problem_details() -> Self {
        Self::of(settings(vec![Carrier::Bearer], problem_bodies()))
    }

    /// AuroraX: the header `x-aurorax-api-key`; who presents none is let through as
    /// anonymous, as on most of its routes. Bodies of `error_code` and `error_message`,
    /// which its own client (`pyaurorax`) shows.
    ///
    /// ```
    /// let dialect = gatekey::http::Dialect::aurorax();
    /// assert!(dialect.lets_anonymous_through());
    /// let response = dialect.missing().response();
    /// assert_eq!(
    ///     std::str::from_utf8(response.body()).unwrap(),
    ///     r#"{"error_code":"missing_api_key","error_message":"An API key is required."}"#,
    /// );
    /// ```
    #[must_use]
    pub fn aurorax() -> Self {
        let header = Carrier::Header(HeaderName::from_static("x-aurorax-api-key"));
        Self::of(Settings {
            anonymous: true,
            ..settings(vec![header], Bodies::json("application/json", aurorax_body))
        })
    }

    /// Pixxel: `Authorization` holds the token without a scheme, and a key that is
    /// missing, incorrect, expired, revoked or not permitted is a 403, with one body
    /// for all.
    ///
    /// ```
    /// assert_eq!(gatekey::http::Dialect::pixxel().missing().status(), 403);
    /// ```
    #[must_use]
    pub fn pixxel() -> Self {
        let forbidden = [
            AnswerKind::Missing,
            AnswerKind::Unreadable,
            AnswerKind::Invalid,
            AnswerKind::Expired,
        ];
        Self::of(Settings {
            tell_network: false,
            statuses: forbidden.map(|kind| (kind, StatusCode::FORBIDDEN)).to_vec(),
            ..settings(
                vec![Carrier::RawAuthorization],
                Bodies::json("application/json", pixxel_body),
            )
        })
    }

    /// An API with tiers: Bearer, bodies of `error` and `message`, `X-RateLimit-*` for
    /// the limit with the longest window; that a key has expired is told.
    ///
    /// ```
    /// let response = gatekey::http::Dialect::tiered_bearer().missing().response();
    /// assert_eq!(
    ///     std::str::from_utf8(response.body()).unwrap(),
    ///     r#"{"error":"missing_api_key","message":"No API key provided in the Authorization header."}"#,
    /// );
    /// ```
    #[must_use]
    pub fn tiered_bearer() -> Self {
        Self::of(Settings {
            tell_expiry: true,
            limit_fields: LimitFields::XRateLimit,
            limit_told: LimitTold::Longest,
            ..settings(
                vec![Carrier::Bearer],
                Bodies::json("application/json", tiered_body),
            )
        })
    }

    /// One Codex: Basic with the token as user name, or `X-API-Key`; who presents
    /// neither is let through as anonymous; what is somebody else's is hidden.
    ///
    /// ```
    /// let dialect = gatekey::http::Dialect::one_codex();
    /// assert_eq!(dialect.missing().status(), 401);
    /// assert_eq!(dialect.foreign().status(), 404);
    /// ```
    #[must_use]
    pub fn one_codex() -> Self {
        let header = Carrier::Header(HeaderName::from_static("x-api-key"));
        Self::of(Settings {
            anonymous: true,
            hide_foreign: true,
            ..settings(
                vec![Carrier::Basic, header],
                Bodies::json("application/json", one_codex_body),
            )
        })
    }

    /// An AI API: Bearer; bodies of `success` and `error`, with the key's id as the
    /// caller wrote it; that a key has expired, and when, is told.
    ///
    /// ```
    /// use gatekey::Denial;
    /// use gatekey::http::Dialect;
    ///
    /// let response = Dialect::ai_platform().denied(Denial::Malformed).response();
    /// let body = std::str::from_utf8(response.body()).unwrap();
    /// assert!(body.contains(r#""code":"INVALID_API_KEY""#));
    /// ```
    #[must_use]
    pub fn ai_platform() -> Self {
        Self::of(Settings {
            tell_expiry: true,
            ..settings(
                vec![Carrier::Bearer],
                Bodies::json("application/json", ai_body),
            )
        })
    }
}

fn settings(carriers: Vec<Carrier>, bodies: Bodies) -> Settings {
    Settings {
        vary: vary_of(&carriers),
        challenges: carriers.iter().map(challenge_of).collect(),
        carriers,
        anonymous: false,
        hide_foreign: false,
        tell_expiry: false,
        tell_network: true,
        statuses: Vec::new(),
        bodies: Some(bodies),
        limit_fields: LimitFields::RateLimit,
        limit_told: LimitTold::Tightest,
    }
}

/// RFC 9457. The type is `about:blank`, so that the title is the status's phrase.
#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
}

pub(super) fn problem_bodies() -> Bodies {
    Bodies::json("application/problem+json", |answer| Problem {
        r#type: "about:blank",
        title: answer.status().canonical_reason().unwrap_or("Refused"),
        status: answer.status().as_u16(),
        detail: answer.message(),
        code: answer.code(),
    })
}

#[derive(Serialize)]
struct AuroraX {
    error_code: &'static str,
    error_message: &'static str,
}

fn aurorax_body(answer: &Answer<'_>) -> AuroraX {
    AuroraX {
        error_code: answer.code(),
        error_message: answer.message(),
    }
}

#[derive(Serialize)]
struct Message {
    message: String,
}

/// All that is a 403 reads the same: missing, incorrect, not permitted.
fn pixxel_body(answer: &Answer<'_>) -> Message {
    Message {
        message: match answer.status() {
            StatusCode::FORBIDDEN => {
                "The API key is missing, not valid, or not permitted to do this."
            }
            _ => answer.message(),
        }
        .to_owned(),
    }
}

#[derive(Serialize)]
struct Tiered {
    error: &'static str,
    message: String,
}

fn tiered_body(answer: &Answer<'_>) -> Tiered {
    let message = match answer.kind() {
        AnswerKind::Missing => "No API key provided in the Authorization header.",
        AnswerKind::Invalid => "The API key provided is invalid.",
        AnswerKind::Expired => "The access token has expired.",
        AnswerKind::RateLimited => "Rate limit exceeded.",
        _ => answer.message(),
    };
    Tiered {
        error: answer.code(),
        message: match answer.retry_after_s() {
            Some(seconds) => format!("{message} Try again in {seconds} seconds."),
            None => message.to_owned(),
        },
    }
}

#[derive(Serialize)]
struct OneCodex {
    message: &'static str,
    status: u16,
}

fn one_codex_body(answer: &Answer<'_>) -> OneCodex {
    OneCodex {
        message: match answer.status() {
            StatusCode::UNAUTHORIZED => {
                "The server could not verify that you are authorized to access the URL requested.  \
                 You either supplied the wrong credentials (e.g. a bad password), or your browser \
                 doesn't understand how to supply the credentials required."
            }
            _ => answer.message(),
        },
        status: answer.status().as_u16(),
    }
}

#[derive(Serialize)]
struct Ai {
    success: bool,
    error: AiError,
}

#[derive(Serialize)]
struct AiError {
    code: &'static str,
    message: &'static str,
    details: AiDetails,
}

#[derive(Serialize, Default)]
struct AiDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// RFC 3339 without a fraction, as the text has it: the second in which it was.
fn whole_seconds(at: Timestamp) -> String {
    let ms = at.unix_ms();
    Timestamp::from_raw(ms - ms % 1000).to_string()
}

fn ai_body(answer: &Answer<'_>) -> Ai {
    let (code, message) = match answer.kind() {
        _ if answer.status() == StatusCode::NOT_FOUND => ("NOT_FOUND", answer.message()),
        AnswerKind::Missing => ("MISSING_API_KEY", "API key is required"),
        AnswerKind::Invalid => ("INVALID_API_KEY", "The provided API key is invalid"),
        AnswerKind::Expired => ("EXPIRED_API_KEY", "The API key has expired"),
        AnswerKind::Ambiguous
        | AnswerKind::Unreadable
        | AnswerKind::SourceUnknown
        | AnswerKind::BadRequest => ("INVALID_REQUEST", answer.message()),
        AnswerKind::NetworkNotAllowed => ("NETWORK_NOT_ALLOWED", answer.message()),
        AnswerKind::PermissionMissing => ("PERMISSION_DENIED", answer.message()),
        AnswerKind::Foreign | AnswerKind::NotForYou => ("ACCESS_DENIED", answer.message()),
        AnswerKind::RateLimited => ("RATE_LIMIT_EXCEEDED", answer.message()),
        AnswerKind::QuotaExhausted => ("QUOTA_EXCEEDED", answer.message()),
        AnswerKind::TooManyAttempts => ("TOO_MANY_ATTEMPTS", answer.message()),
        AnswerKind::Unavailable => ("SERVICE_UNAVAILABLE", answer.message()),
    };
    let details = match answer.kind() {
        AnswerKind::Missing => AiDetails {
            header: Some(answer.header().to_owned()),
            ..AiDetails::default()
        },
        AnswerKind::Invalid => AiDetails {
            key_id: answer.key_id().map(|id| format!("key_{id}")),
            ..AiDetails::default()
        },
        AnswerKind::PermissionMissing if answer.status() != StatusCode::NOT_FOUND => AiDetails {
            permissions: Some(answer.permissions().map(str::to_owned).collect()),
            ..AiDetails::default()
        },
        _ => AiDetails {
            expired_at: answer.expired_at().map(whole_seconds),
            retry_after: answer.retry_after_s(),
            ..AiDetails::default()
        },
    };
    Ai {
        success: false,
        error: AiError {
            code,
            message,
            details,
        },
    }
}
