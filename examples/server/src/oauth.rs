//! OAuth 2.0, as the API with tiers has it. Who logs in here shows a key of her own, since this
//! server has no accounts; yours has a login.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, Prefix, Requirements, Verdict};
use gatekey_oauth::Params;
use gatekey_oauth::server::{
    AuthorizationServer, Authorize, ClientAuth, Consent, NewClient, Reply, ServerOptions,
    TokenRequest,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Failure, blocking};

/// Where this server is reached.
const ISSUER: &str = "https://api.example.com/tiered";
const SCOPE: [&str; 2] = ["read", "write"];

#[derive(Clone)]
pub(crate) struct Oauth {
    server: AuthorizationServer,
    engine: Engine,
    keyspace: Prefix,
}

impl Oauth {
    pub(crate) fn open(engine: &Engine, keyspace: Prefix) -> Result<Self, Error> {
        Ok(Self {
            server: AuthorizationServer::open(engine, ServerOptions::new(ISSUER))?,
            engine: engine.clone(),
            keyspace,
        })
    }

    /// What everybody may ask for.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/oauth/authorize", get(authorize).post(consent))
            .route("/oauth/token", post(token))
            .route("/oauth/revoke", post(revoke))
            .route("/oauth/metadata", get(metadata))
            .with_state(self.clone())
    }

    /// For operators: registers a client.
    pub(crate) fn admin(&self, auth: AuthLayer) -> Router {
        let register = post(register).route_layer(auth.permissions(["keys"]).no_store());
        Router::new()
            .route("/clients", register)
            .with_state(self.clone())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: String,
    redirect_uri: String,
    /// Whether it has no secret, and needs PKCE.
    #[serde(default)]
    public: bool,
}

async fn register(
    State(oauth): State<Oauth>,
    Json(asked): Json<Registration>,
) -> Result<Json<Value>, Failure> {
    let by_post = ClientAuth::ClientSecretPost;
    let new = match asked.public {
        true => NewClient::public(asked.name, oauth.keyspace, SCOPE),
        // As in the text of the API, whose clients know nothing of PKCE.
        false => NewClient::confidential(asked.name, by_post, oauth.keyspace, SCOPE).without_pkce(),
    };
    let new = new.redirect_uri(asked.redirect_uri);
    let client = blocking(move || oauth.server.register(&new)).await?;
    Ok(Json(json!({
        "client_id": client.client.id,
        "client_secret": client.expose_secret(),
    })))
}

/// The session of a browser: a random text in a cookie. A login of yours has its own.
fn session(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let mut cookies = cookies
        .split("; ")
        .filter_map(|cookie| cookie.split_once('='));
    let (_, value) = cookies.find(|(name, _)| *name == "session")?;
    Some(value.to_owned())
}

async fn authorize(
    State(oauth): State<Oauth>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Some(params) = Params::form(query.unwrap_or_default().as_bytes()) else {
        return Ok(page(
            StatusCode::BAD_REQUEST,
            "<p>The request is malformed.</p>",
        ));
    };
    blocking(move || {
        let session = match session(&headers) {
            Some(session) => session,
            None => {
                let random = oauth.engine.extension("server")?.random::<16>()?;
                random.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        };
        Ok(match oauth.server.authorize(&params, session.as_bytes())? {
            Authorize::Consent(consent) => {
                let cookie = format!("session={session}; HttpOnly; SameSite=Lax; Path=/");
                (
                    [(SET_COOKIE, cookie)],
                    page(StatusCode::OK, &form(&consent)),
                )
                    .into_response()
            }
            Authorize::Redirect(url) => redirect(&url),
            Authorize::Page(why) => page(StatusCode::BAD_REQUEST, &format!("<p>{why}</p>")),
            _ => page(StatusCode::BAD_REQUEST, ""),
        })
    })
    .await
}

/// The form of the page: the ticket, a key in the place of a login, and the answer.
async fn consent(
    State(oauth): State<Oauth>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let params = Params::form(&body).unwrap_or_default();
    blocking(move || {
        let session = session(&headers).unwrap_or_default();
        let ticket = params.get("ticket").unwrap_or("");
        let url = match params.get("answer") {
            Some("approve") => {
                let asked = Requirements::new().keyspace(oauth.keyspace);
                let key = params.get("key").unwrap_or("");
                let Verdict::Granted(grant) = oauth.engine.verify_with(key, &asked)? else {
                    return Ok(page(StatusCode::FORBIDDEN, "<p>This key is not good.</p>"));
                };
                // No more than the key itself may do.
                let keyspace = oauth.engine.keyspace(oauth.keyspace.as_str())?;
                let scope = keyspace.names(grant.permissions());
                let scope: Vec<&str> = scope
                    .into_iter()
                    .filter(|name| SCOPE.contains(name))
                    .collect();
                let owner = grant.owner().parse()?;
                oauth
                    .server
                    .approve(ticket, session.as_bytes(), &owner, &scope)?
            }
            _ => oauth.server.deny(ticket, session.as_bytes())?,
        };
        let over = "<p>This page is too old. Go back to the application, and begin anew.</p>";
        Ok(url.map_or_else(|| page(StatusCode::BAD_REQUEST, over), |url| redirect(&url)))
    })
    .await
}

async fn token(
    State(oauth): State<Oauth>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    answer(headers, body, move |request| oauth.server.token(request)).await
}

async fn revoke(
    State(oauth): State<Oauth>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    answer(headers, body, move |request| oauth.server.revoke(request)).await
}

async fn metadata(State(oauth): State<Oauth>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        oauth.server.metadata(),
    )
}

/// Answers a client's request, whose body is a form or JSON.
async fn answer(
    headers: HeaderMap,
    body: Bytes,
    ask: impl FnOnce(TokenRequest<'_>) -> Result<Reply, Error> + Send + 'static,
) -> Result<Response, Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let params = if is_json {
        Params::json(&body)
    } else {
        Params::form(&body)
    };
    let authorization = text(AUTHORIZATION).map(str::to_owned);
    let reply = blocking(move || {
        // What cannot be read names no client.
        let params = params.unwrap_or_default();
        let authorization = authorization.as_deref();
        ask(TokenRequest {
            params: &params,
            authorization,
        })
    });
    let reply = reply.await?;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, reply.body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

fn redirect(url: &str) -> Response {
    let headers = [
        ("location", url),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn page(status: StatusCode, body: &str) -> Response {
    let headers = [
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'; form-action *",
        ),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ];
    let head = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Access</title>";
    (
        status,
        headers,
        Html(format!(
            "{head}<main><h1>Access to your data</h1>{body}</main>"
        )),
    )
        .into_response()
}

/// It works by keyboard and without a script. The client chose its name, and not the host.
fn form(consent: &Consent) -> String {
    let scope: String = consent
        .scope
        .iter()
        .map(|name| format!("<li>{}</li>", escaped(name)))
        .collect();
    format!(
        "<p><strong>{}</strong> asks for access to your data. Your answer goes to <strong>{}</strong>.</p>\
         <ul>{scope}</ul><form method=\"post\">\
         <input type=\"hidden\" name=\"ticket\" value=\"{}\">\
         <p><label>One of your keys <input type=\"password\" name=\"key\" autocomplete=\"off\"></label></p>\
         <p><button name=\"answer\" value=\"approve\">Allow</button> \
         <button name=\"answer\" value=\"deny\">Deny</button></p></form>",
        escaped(&consent.client),
        escaped(&consent.redirect_host),
        escaped(&consent.ticket),
    )
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#39;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
