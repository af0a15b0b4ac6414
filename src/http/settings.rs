//! The settings that a dialect consists of.

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::answer::{Answer, AnswerKind};
use super::caching::vary_of;
use super::challenge::Challenge;
use super::credential::Carrier;
use super::limit_fields::{LimitFields, ReportedLimit};

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) carriers: Vec<Carrier>,
    /// The value of `Vary` for these carriers.
    pub(super) vary: HeaderValue,
    pub(super) anonymous: bool,
    pub(super) hide_foreign: bool,
    pub(super) reveal_expiry: bool,
    pub(super) reveal_network: bool,
    pub(super) statuses: Vec<(AnswerKind, StatusCode)>,
    pub(super) challenges: Vec<Challenge>,
    pub(super) bodies: Option<Bodies>,
    pub(super) limit_fields: LimitFields,
    pub(super) reported_limit: ReportedLimit,
}

impl Settings {
    /// The settings that dialects begin with.
    pub(super) fn new(carriers: Vec<Carrier>, bodies: Bodies) -> Self {
        Self {
            vary: vary_of(&carriers),
            challenges: carriers.iter().map(challenge_of).collect(),
            carriers,
            anonymous: false,
            hide_foreign: false,
            reveal_expiry: false,
            reveal_network: true,
            statuses: Vec::new(),
            bodies: Some(bodies),
            limit_fields: LimitFields::RateLimit,
            reported_limit: ReportedLimit::Tightest,
        }
    }

    pub(super) fn status(&self, kind: AnswerKind) -> StatusCode {
        let chosen = self.statuses.iter().rev().find(|(of, _)| *of == kind);
        chosen.map_or_else(|| kind.status(self.hide_foreign), |(_, status)| *status)
    }

    /// The header that a client should send, as documentation writes it.
    pub(super) fn header(&self) -> &str {
        match self.carriers.first() {
            Some(Carrier::Header(name)) => name.as_str(),
            _ => "Authorization",
        }
    }

    pub(super) fn vary(&self, headers: &mut HeaderMap) {
        super::caching::add_vary(headers, &self.vary);
    }

    /// The challenges of an answer.
    pub(super) fn challenges(&self, answer: &Answer<'_>) -> impl Iterator<Item = HeaderValue> {
        let error = answer.kind.bearer_error();
        let scope = answer.scope.filter(|_| error == Some("insufficient_scope"));
        let unauthorized = answer.status == StatusCode::UNAUTHORIZED;
        // RFC 6750 asks for a challenge beside a 401 where it has a code for the error.
        // A 404 that hides something must not have one.
        let has_code = error.is_some()
            && matches!(
                answer.status,
                StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN
            );
        self.challenges
            .iter()
            .filter(move |challenge| unauthorized || (has_code && challenge.is_bearer()))
            .filter_map(move |challenge| challenge.value(error, scope))
    }
}

/// The challenge that belongs to a carrier.
pub(super) fn challenge_of(carrier: &Carrier) -> Challenge {
    match carrier {
        Carrier::Bearer => Challenge::bearer(),
        Carrier::Basic => Challenge::basic_of("api"),
        Carrier::RawAuthorization | Carrier::Header(_) => Challenge::api_key(carrier.name()),
    }
}

/// What writes the body of an answer.
#[derive(Clone)]
pub(super) struct Bodies {
    pub(super) content_type: HeaderValue,
    pub(super) write: Arc<WriteBody>,
}

type WriteBody = dyn Fn(&Answer<'_>) -> Vec<u8> + Send + Sync;

impl Bodies {
    pub(super) fn json<T: Serialize>(
        content_type: &'static str,
        body: impl Fn(&Answer<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            // A body that cannot be serialized is left out. The status says enough, and
            // a rejection must stay a rejection.
            write: Arc::new(move |answer| serde_json::to_vec(&body(answer)).unwrap_or_default()),
        }
    }

    /// Problem details (RFC 9457).
    pub(super) fn problem() -> Self {
        Self::json("application/problem+json", |answer| {
            let violated = answer.violated_policies();
            let (r#type, title) = match violated.is_empty() {
                true => {
                    let phrase = answer.status().canonical_reason();
                    ("about:blank", phrase.unwrap_or("Refused"))
                }
                false => QUOTA_EXCEEDED,
            };
            Problem {
                r#type,
                title,
                status: answer.status().as_u16(),
                detail: answer.message(),
                code: answer.code(),
                violated,
                required: answer.permissions().map(str::to_owned).collect(),
            }
        })
    }
}

/// The problem type of draft-ietf-httpapi-ratelimit-headers for a request that a policy
/// refuses, be it a limit or a quota, and its title.
const QUOTA_EXCEEDED: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "Request cannot be satisfied as assigned quota has been exceeded",
);

/// Where the type is `about:blank`, the title is the status's phrase.
#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    violated: Vec<String>,
    #[serde(rename = "required-permissions", skip_serializing_if = "Vec::is_empty")]
    required: Vec<String>,
}
