//! Dialects of real systems.
//!
//! Each follows what its system documents; `docs/DIALECTS.md` has the statements one by
//! one, what they leave open, and what gatekey chose there. Use them as they are, or
//! start from one: [`Dialect::to_builder`].
//!
//! ```
//! use gatekey::http::presets;
//!
//! let dialect = presets::one_codex();
//! assert_eq!(dialect.foreign().status(), 404);
//! ```

use ::http::{HeaderName, StatusCode};
use serde::Serialize;

use super::answer::{Answer, AnswerKind};
use super::credential::Carrier;
use super::dialect::Dialect;
use super::limit_fields::{LimitFields, ReportedLimit};
use super::settings::{Bodies, Settings};
use crate::model::clock::Timestamp;

/// AuroraX: the header `x-aurorax-api-key`. Anonymous clients pass, as on most of its
/// routes. Bodies have `error_code` and `error_message`, which its own client
/// (`pyaurorax`) shows.
///
/// ```
/// let dialect = gatekey::http::presets::aurorax();
/// assert!(dialect.accepts_anonymous());
/// let response = dialect.missing().response();
/// assert_eq!(
///     std::str::from_utf8(response.body()).unwrap(),
///     r#"{"error_code":"missing_api_key","error_message":"An API key is required."}"#,
/// );
/// ```
#[must_use]
pub fn aurorax() -> Dialect {
    let header = Carrier::Header(HeaderName::from_static("x-aurorax-api-key"));
    Dialect::of(Settings {
        anonymous: true,
        ..json(vec![header], aurorax_body)
    })
}

/// Pixxel: `Authorization` holds the token without a scheme. A key that is missing,
/// incorrect, expired, revoked or not permitted gets 403, with one body for all.
///
/// ```
/// assert_eq!(gatekey::http::presets::pixxel().missing().status(), 403);
/// ```
#[must_use]
pub fn pixxel() -> Dialect {
    let forbidden = [
        AnswerKind::Missing,
        AnswerKind::Unreadable,
        AnswerKind::Invalid,
        AnswerKind::Expired,
    ];
    Dialect::of(Settings {
        reveal_network: false,
        statuses: forbidden.map(|kind| (kind, StatusCode::FORBIDDEN)).to_vec(),
        ..json(vec![Carrier::RawAuthorization], pixxel_body)
    })
}

/// An API with tiers: Bearer, bodies of `error` and `message`, and `X-RateLimit-*` for
/// the limit with the longest window. The holder of an expired key learns that.
///
/// ```
/// let response = gatekey::http::presets::tiered_bearer().missing().response();
/// assert_eq!(
///     std::str::from_utf8(response.body()).unwrap(),
///     r#"{"error":"missing_api_key","message":"No API key provided in the Authorization header."}"#,
/// );
/// ```
#[must_use]
pub fn tiered_bearer() -> Dialect {
    Dialect::of(Settings {
        reveal_expiry: true,
        limit_fields: LimitFields::XRateLimit,
        reported_limit: ReportedLimit::Longest,
        ..json(vec![Carrier::Bearer], tiered_body)
    })
}

/// One Codex: Basic with the token as user name, or `X-API-Key`. Clients that present
/// neither pass as anonymous. A thing of another owner is hidden behind 404.
///
/// ```
/// let dialect = gatekey::http::presets::one_codex();
/// assert_eq!(dialect.missing().status(), 401);
/// assert_eq!(dialect.foreign().status(), 404);
/// ```
#[must_use]
pub fn one_codex() -> Dialect {
    let header = Carrier::Header(HeaderName::from_static("x-api-key"));
    Dialect::of(Settings {
        anonymous: true,
        hide_foreign: true,
        ..json(vec![Carrier::Basic, header], one_codex_body)
    })
}

/// An AI API: Bearer, and bodies of `success` and `error`, with the key id that the
/// client wrote. The holder of an expired key learns since when.
///
/// ```
/// use gatekey::Denial;
/// use gatekey::http::presets;
///
/// let response = presets::ai_platform().denied(Denial::Malformed).response();
/// let body = std::str::from_utf8(response.body()).unwrap();
/// assert!(body.contains(r#""code":"INVALID_API_KEY""#));
/// ```
#[must_use]
pub fn ai_platform() -> Dialect {
    Dialect::of(Settings {
        reveal_expiry: true,
        ..json(vec![Carrier::Bearer], ai_body)
    })
}

fn json<T: Serialize + 'static>(carriers: Vec<Carrier>, body: fn(&Answer<'_>) -> T) -> Settings {
    Settings::new(carriers, Bodies::json("application/json", body))
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

/// Every 403 reads the same: missing, incorrect, not permitted.
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

/// RFC 3339 without a fraction, as the system documents it.
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
        AnswerKind::Failed => ("INTERNAL_ERROR", answer.message()),
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
