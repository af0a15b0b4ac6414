//! The router: each request is checked here, and then run where a thread may block.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use axum::routing::{MethodFilter, on};
use http_body::Body as _;

use crate::call::{Answer, Call, Endpoint, Shared};
use crate::endpoints;
use crate::operator::Operator;
use crate::problem::Problem;
use crate::query::Query;
use crate::stream;

/// The largest body, in bytes. A batch of 10,000 keys with names and labels is below.
const BODY_MAX: usize = 8 << 20;
/// Of all other requests.
const BODY_MAX_OTHER: usize = 128 << 10;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The name of the variable part of a path.
pub(crate) fn variable_of(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once('{')?;
    rest.split_once('}').map(|(name, _)| name)
}

/// All endpoints. A request needs an [`Operator`] among its extensions.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints::all() {
        let filter = match endpoint.method {
            "POST" => MethodFilter::POST,
            "PATCH" => MethodFilter::PATCH,
            _ => MethodFilter::GET,
        };
        let shared = shared.clone();
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| {
            let shared = shared.clone();
            async move { serve(endpoint, shared, params, request).await }
        };
        router = router.route(endpoint.path, on(filter, handler));
    }
    router
        .fallback(|| {
            refuse(
                StatusCode::NOT_FOUND,
                "no_such_path",
                "there is no such path",
            )
        })
        .method_not_allowed_fallback(|| {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            refuse(status, "method_not_allowed", "the path has no such method")
        })
        .layer(axum::middleware::map_response(finish))
}

async fn refuse(status: StatusCode, code: &'static str, detail: &'static str) -> Response<Body> {
    Problem::new(status, code, detail).response()
}

/// No answer may be kept: some hold tokens, and all are about them.
async fn finish(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

async fn serve(
    endpoint: &'static Endpoint,
    shared: Arc<Shared>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response<Body> {
    let operator = request.extensions().get::<Operator>().cloned();
    let actor = operator
        .as_ref()
        .map(|operator| operator.actor().to_owned());
    let answered = match operator {
        Some(operator) => answer(endpoint, shared, operator, params, request).await,
        None => {
            let why = "nobody has said who asks";
            Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                why,
            ))
        }
    };
    crate::events::served(endpoint, actor.as_deref(), &answered);
    match answered {
        Ok(answer) => respond(answer),
        Err(problem) => problem.response(),
    }
}

async fn answer(
    endpoint: &'static Endpoint,
    shared: Arc<Shared>,
    operator: Operator,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Answer, Problem> {
    if !operator.may(endpoint.right) {
        let why = format!("this takes the right to {}", endpoint.right);
        return Err(Problem::forbidden(why));
    }
    let segment = match params {
        Ok(params) => params.iter().next().map(|(_, value)| value.to_owned()),
        Err(_) => return Err(Problem::bad_request("the path is not UTF-8")),
    };
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or(""))?;
    query.validate(endpoint.query)?;
    let idempotency = match endpoint.is_repeatable {
        true => idempotency_key(&parts.headers)?,
        false => None,
    };
    let body = match endpoint.body {
        None => Bytes::new(),
        Some(_) => {
            let batches = ["/v1/keys/batch", "/v1/imports/keys", "/v1/imports/dry-run"];
            let is_batch = batches.contains(&endpoint.path);
            let bytes_max = if is_batch { BODY_MAX } else { BODY_MAX_OTHER };
            read(&parts.headers, body, bytes_max).await?
        }
    };
    if body.is_empty() && endpoint.body.is_some() && !endpoint.may_be_empty {
        return Err(Problem::bad_request("the body is missing"));
    }
    let run = move || {
        let mut call = Call {
            engine: shared.engine.acting_as(operator.actor())?,
            operator,
            shared,
            segment: segment.unwrap_or_default(),
            query,
            body,
            idempotency,
        };
        (endpoint.run)(&mut call)
    };
    // Changes wait for the disk, and a walk takes its time.
    match tokio::task::spawn_blocking(run).await {
        Ok(answered) => answered,
        Err(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Problem::new(
                status,
                "internal",
                "the request ended in a fault",
            ))
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.to_owned())),
        _ => Err(Problem::bad_request(
            "the request has more than one Idempotency-Key, or one that is not ASCII",
        )),
    }
}

/// Reads a body of JSON, up to a length and a time.
async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let text = format!("the body is longer than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    };
    let hint = body.size_hint();
    if hint.lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let is_empty = hint.upper() == Some(0);
    if !is_empty && !is_json(headers) {
        // Also what keeps a page in a browser from asking: a form cannot say this.
        let text = "the body must be application/json";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            text,
        ));
    }
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let is_long = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit"));
            match is_long {
                true => Err(too_large()),
                false => Err(Problem::bad_request("the body ended before its end")),
            }
        }
        Err(_) => {
            let text = "the body took too long";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let kind = value.to_str().unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn respond(answer: Answer) -> Response<Body> {
    let (status, kind, body) = match answer {
        Answer::Json(status, text) => (status, "application/json", Body::from(text)),
        Answer::Text(kind, text) => (StatusCode::OK, kind, Body::from(text)),
        Answer::File(file, bytes) => {
            let copy = move |out: &mut dyn std::io::Write| Answer::copy(file, out);
            let body = stream::body(Some(bytes), Box::new(copy));
            (StatusCode::OK, "application/octet-stream", body)
        }
        Answer::Stream(kind, write) => (StatusCode::OK, kind, stream::body(None, write)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Whether a method changes nothing.
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) fn is_safe(method: &str) -> bool {
    method == Method::GET.as_str()
}
