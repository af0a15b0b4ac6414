//! OAuth 2.0, as the API with tiers has it. This server has no accounts, so who logs in shows
//! a key of her own; yours has a login.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, KeyId, KeyState, Prefix, Requirements, Verdict};
use gatekey_oauth::Params;
use gatekey_oauth::router::{OauthRouter, Person, local, to_login};
use gatekey_oauth::server::{AuthorizationServer, ClientAuth, NewClient, ServerOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Failure, blocking};

const SCOPE: [&str; 2] = ["read", "write"];
/// The most logins that are remembered; the next one forgets them all.
const LOGINS_MAX: usize = 10_000;

#[derive(Clone)]
pub(crate) struct Oauth {
    server: AuthorizationServer,
    engine: Engine,
    keyspace: Prefix,
    /// The key that each session has logged in with.
    logins: Arc<Mutex<HashMap<String, KeyId>>>,
}

impl Oauth {
    /// An authorization server whose issuer is a URL of this server's.
    pub(crate) fn open(engine: &Engine, keyspace: Prefix, issuer: &str) -> Result<Self, Error> {
        Ok(Self {
            server: AuthorizationServer::open(engine, ServerOptions::new(issuer))?,
            engine: engine.clone(),
            keyspace,
            logins: Arc::default(),
        })
    }

    /// What everybody may ask for: all below the path of the issuer, and `/.well-known`.
    pub(crate) fn router(&self) -> Router {
        let of = self.clone();
        let endpoints = OauthRouter::new(self.server.clone(), move |request: Parts| {
            let of = of.clone();
            async move {
                let refused = to_login("/tiered/login", &request);
                let asked = blocking(move || of.person(&request.headers)).await;
                match asked {
                    Ok(Some(person)) => Ok(person),
                    Ok(None) => Err(refused),
                    Err(failure) => Err(failure.into_response()),
                }
            }
        });
        let endpoints = endpoints
            .describe("read", "See your account")
            .describe("write", "Create items in your name");
        let login = get(form).post(log_in).with_state(self.clone());
        endpoints.build().route("/tiered/login", login)
    }

    /// For operators: registers a client.
    pub(crate) fn admin(&self, auth: AuthLayer) -> Router {
        let register = post(register).route_layer(auth.permissions(["keys"]).no_store());
        Router::new()
            .route("/clients", register)
            .with_state(self.clone())
    }

    /// Who has logged in, while her key is good. She agrees to no more than it may do.
    fn person(&self, headers: &HeaderMap) -> Result<Option<Person>, Error> {
        let Some(session) = session(headers) else {
            return Ok(None);
        };
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = logins.get(session).copied() else {
            return Ok(None);
        };
        drop(logins);
        let key = self.engine.find_key(id)?;
        let is_good = |state| matches!(state, KeyState::Active | KeyState::Retiring);
        let Some(key) = key.filter(|key| is_good(key.state)) else {
            return Ok(None);
        };
        let keyspace = self.engine.keyspace(self.keyspace.as_str())?;
        let may = keyspace.names(key.permissions).into_iter();
        let person = Person::new(session, key.owner.clone()).named(key.owner.as_str());
        Ok(Some(person.may(may.map(str::to_owned))))
    }
}

/// The session of a browser: a random text in a cookie.
fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let mut cookies = cookies
        .split("; ")
        .filter_map(|cookie| cookie.split_once('='));
    let (_, value) = cookies.find(|(name, _)| *name == "session")?;
    Some(value)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: String,
    redirect_uri: Option<String>,
    /// How it authenticates: by its secret in the body, if nothing is said.
    auth: Option<ClientAuth>,
    /// Whether it has no secret, and needs PKCE.
    #[serde(default)]
    public: bool,
    /// The owner of a service, which gets tokens with its secret alone.
    owner: Option<String>,
    /// Whether it may ask about the tokens of others.
    #[serde(default)]
    introspects: bool,
}

async fn register(
    State(oauth): State<Oauth>,
    Json(asked): Json<Registration>,
) -> Result<Json<Value>, Failure> {
    let client = blocking(move || {
        let auth = asked.auth.unwrap_or(ClientAuth::ClientSecretPost);
        let keyspace = oauth.keyspace;
        let mut new = match asked.owner {
            Some(owner) => NewClient::service(asked.name, auth, keyspace, SCOPE, owner.parse()?),
            None if asked.public => NewClient::public(asked.name, keyspace, SCOPE),
            // As in the text, whose client sends no challenge.
            None => NewClient::confidential(asked.name, auth, keyspace, SCOPE).without_pkce(),
        };
        if let Some(uri) = asked.redirect_uri {
            new = new.redirect_uri(uri);
        }
        if asked.introspects {
            new = new.introspecting();
        }
        oauth.server.register(&new)
    })
    .await?;
    Ok(Json(json!({
        "client_id": client.client.id,
        "client_secret": client.expose_secret(),
    })))
}

/// The page of the login. Its form is sent to its own URL, whose query says where to go next.
async fn form() -> Response {
    login_page(StatusCode::OK, "")
}

fn login_page(status: StatusCode, why: &str) -> Response {
    let headers = [
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ];
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Log in</title></head>\
         <body><main><h1>Log in</h1>{why}<form method=\"post\"><p><label>One of your keys \
         <input type=\"password\" name=\"key\" autocomplete=\"off\" required></label></p>\
         <p><button>Log in</button></p></form></main></body></html>"
    );
    (status, headers, Html(page)).into_response()
}

async fn log_in(
    State(oauth): State<Oauth>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response, Failure> {
    blocking(move || {
        let sent = Params::form(&body).unwrap_or_default();
        let asked = Requirements::new().keyspace(oauth.keyspace);
        let key = sent.get("key").unwrap_or("");
        let Verdict::Granted(grant) = oauth.engine.verify_with(key, &asked)? else {
            let why = "<p role=\"alert\">This key is not good.</p>";
            return Ok(login_page(StatusCode::FORBIDDEN, why));
        };
        let random = oauth.engine.extension("server")?.random::<32>()?;
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let cookie = format!("session={session}; HttpOnly; SameSite=Lax; Path=/tiered");
        let mut logins = oauth.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= LOGINS_MAX {
            logins.clear();
        }
        logins.insert(session, grant.key_id());
        let query = Params::form(query.unwrap_or_default().as_bytes()).unwrap_or_default();
        let next = query.get("next").map_or("/", local);
        let mut response = StatusCode::SEE_OTHER.into_response();
        let headers = response.headers_mut();
        for (name, value) in [(SET_COOKIE, cookie.as_str()), (LOCATION, next)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        Ok(response)
    })
    .await
}
