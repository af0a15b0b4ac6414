//! The endpoints of an [`AuthorizationServer`] as an axum router.
//!
//! It serves what [`AuthorizationServer::metadata`] names, and the page for consent. Your
//! application brings a login: see [`OauthRouter::new`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gatekey::{Error, OwnerPath, Result};

use crate::page::{self, Answer, ConsentPage};
use crate::params::{PARAMS_LEN_MAX, Params, encoded};
use crate::server::{AuthorizationServer, Authorize, Reply, TokenRequest};

/// A person who is logged in to your application. `Debug` does not show her session.
#[derive(Clone)]
pub struct Person {
    session: Vec<u8>,
    owner: OwnerPath,
    name: Option<String>,
    may: Option<Vec<String>>,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("owner", &self.owner)
            .field("name", &self.name)
            .field("may", &self.may)
            .finish_non_exhaustive()
    }
}

impl Person {
    /// A person, by the id of the session that her browser has, which nobody else knows, and by
    /// the owner that she is in the engine.
    #[must_use]
    pub fn new(session: impl AsRef<[u8]>, owner: OwnerPath) -> Self {
        Self {
            session: session.as_ref().to_vec(),
            owner,
            name: None,
            may: None,
        }
    }

    /// Her name on the page.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What she may do herself: she can agree to no more. Without it, to all that a client may
    /// ask for.
    #[must_use]
    pub fn may<N: Into<String>>(mut self, permissions: impl IntoIterator<Item = N>) -> Self {
        self.may = Some(permissions.into_iter().map(Into::into).collect());
        self
    }

    /// What a ticket is bound to: a session in which another person logs in is another.
    fn bond(&self) -> Vec<u8> {
        [&self.session, &[0][..], self.owner.as_str().as_bytes()].concat()
    }
}

type Told = Arc<dyn Fn(&Error) + Send + Sync>;

/// Makes a router of an [`AuthorizationServer`] and a login.
pub struct OauthRouter<L> {
    server: AuthorizationServer,
    login: L,
    described: BTreeMap<String, String>,
    told: Told,
}

impl<L, F> OauthRouter<L>
where
    L: Fn(Parts) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::result::Result<Person, Response>> + Send + 'static,
{
    /// A router of a server. `login` says who a browser's request comes from, by its cookies or
    /// by what a layer of yours has put into its extensions. Where nobody is logged in, it gives
    /// the response to send instead: [`to_login`] makes one.
    ///
    /// Merge the router at the root of your application: its paths begin with that of the issuer.
    ///
    /// ```
    /// use axum::Router;
    /// use gatekey::{Engine, NewKeyspace};
    /// use gatekey_oauth::router::{OauthRouter, Person, to_login};
    /// use gatekey_oauth::server::{AuthorizationServer, ServerOptions};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let options = ServerOptions::new("https://api.example.com");
    /// let server = AuthorizationServer::open(&engine, options)?;
    /// let oauth = OauthRouter::new(server, |request| async move {
    ///     // A session of your application's; here, one that a proxy in front vouches for.
    ///     let user = request.headers.get("x-user").and_then(|user| user.to_str().ok());
    ///     match user.and_then(|user| Some((user, user.parse().ok()?))) {
    ///         Some((user, owner)) => Ok(Person::new(user, owner).named(user)),
    ///         None => Err(to_login("/login", &request)),
    ///     }
    /// });
    /// let app: Router = Router::new().merge(oauth.describe("read", "See your reports").build());
    /// # let _ = app;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn new(server: AuthorizationServer, login: L) -> Self {
        Self {
            server,
            login,
            described: BTreeMap::new(),
            told: Arc::new(|_| ()),
        }
    }

    /// What a permission lets a client do, in words for the page.
    #[must_use]
    pub fn describe(mut self, permission: impl Into<String>, words: impl Into<String>) -> Self {
        self.described.insert(permission.into(), words.into());
        self
    }

    /// Calls `told` with each error of the store, which the caller learns of as a 503 alone.
    #[must_use]
    pub fn on_error(mut self, told: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.told = Arc::new(told);
        self
    }

    /// The router.
    pub fn build(self) -> Router {
        let (issuer, base) = self.server.issuer_parts();
        let base = base.to_owned();
        let metadata = self.server.metadata_path();
        let resource = self.server.resource_metadata_url();
        // Another origin's is another server's to tell.
        let resource = resource
            .strip_prefix(issuer)
            .filter(|path| path.starts_with('/'));
        let resource = resource.map(str::to_owned);
        let at = |path: &str| format!("{base}/oauth/{path}");
        let authorize = get(authorize::<L, F>).post(consented::<L, F>);
        let mut router = Router::new()
            .route(&at("authorize"), authorize)
            .route(&at("token"), post(token::<L>).options(preflight))
            .route(&at("revoke"), post(revoke::<L>).options(preflight))
            .route(&at("introspect"), post(introspect::<L>))
            .route(&metadata, get(tell_metadata::<L>).options(preflight));
        if self.server.jwts().is_some() {
            router = router.route(&at("jwks.json"), get(tell_keys::<L>).options(preflight));
        }
        if let Some(path) = resource {
            router = router.route(&path, get(tell_resource::<L>).options(preflight));
        }
        router
            .layer(DefaultBodyLimit::max(PARAMS_LEN_MAX))
            .with_state(Arc::new(self))
    }

    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&AuthorizationServer) -> Result<T> + Send + 'static,
    ) -> Option<T> {
        let of = self.clone();
        // It may wait for the disk.
        match tokio::task::spawn_blocking(move || work(&of.server)).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                (self.told)(&error);
                None
            }
            Err(_) => None,
        }
    }
}

/// Sends a browser to the page of your login (303), with the path and query to come back to in
/// the parameter `next`. There, follow it through [`local`].
///
/// ```
/// use axum::http::Request;
/// let (request, ()) = Request::get("/oauth/authorize?client_id=7").body(()).unwrap().into_parts();
/// let response = gatekey_oauth::router::to_login("/login", &request);
/// let to = "/login?next=%2Foauth%2Fauthorize%3Fclient_id%3D7";
/// assert_eq!(response.headers()["location"], to);
/// ```
#[must_use]
pub fn to_login(login: &str, request: &Parts) -> Response {
    let here = request.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let joint = if login.contains('?') { '&' } else { '?' };
    respond(Reply::redirect(&format!(
        "{login}{joint}next={}",
        encoded(here)
    )))
}

/// A path that a browser may be sent to after a login: this one if it is of the same origin,
/// else `/`.
///
/// ```
/// use gatekey_oauth::router::local;
/// assert_eq!(local("/oauth/authorize?client_id=7"), "/oauth/authorize?client_id=7");
/// for elsewhere in ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example"] {
///     assert_eq!(local(elsewhere), "/");
/// }
/// ```
#[must_use]
pub fn local(next: &str) -> &str {
    let is_plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_path = next.starts_with('/') && !next.starts_with("//");
    if is_plain && is_path { next } else { "/" }
}

type Shared<L> = State<Arc<OauthRouter<L>>>;

async fn authorize<L, F>(State(of): Shared<L>, request: Request) -> Response
where
    L: Fn(Parts) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::result::Result<Person, Response>> + Send + 'static,
{
    let (request, _) = request.into_parts();
    let query = request.uri.query().unwrap_or("");
    let Some(params) = Params::form(query.as_bytes()) else {
        return respond(page::message(
            400,
            "The application's request is malformed.",
        ));
    };
    // Whoever made up a client learns so without a login; all others log in before they are
    // sent anywhere (RFC 9700, 4.11.2).
    let asked = params.clone();
    let first = of
        .clone()
        .blocking(move |server| server.authorize(&asked, b""))
        .await;
    match first {
        None => return unavailable(),
        Some(Authorize::Page(why)) => return respond(page::message(400, why)),
        Some(_) => {}
    }
    let path = request.uri.path().to_owned();
    let person = match (of.login)(request).await {
        Ok(person) => person,
        Err(response) => return response,
    };
    let bond = person.bond();
    let judged = of
        .clone()
        .blocking(move |server| server.authorize(&params, &bond));
    match judged.await {
        Some(Authorize::Consent(consent)) => {
            let mut page = ConsentPage::new(&consent, &path);
            for (permission, words) in &of.described {
                page = page.describe(permission, words);
            }
            if let Some(name) = &person.name {
                page = page.person(name);
            }
            if let Some(may) = &person.may {
                page = page.may(may.iter().map(String::as_str));
            }
            respond(page.reply())
        }
        Some(Authorize::Redirect(url)) => respond(Reply::redirect(&url)),
        Some(Authorize::Page(why)) => respond(page::message(400, why)),
        None => unavailable(),
    }
}

async fn consented<L, F>(State(of): Shared<L>, request: Request) -> Response
where
    L: Fn(Parts) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::result::Result<Person, Response>> + Send + 'static,
{
    let over = || {
        let why = "This page is too old. Go back to the application, and begin anew.";
        respond(page::message(400, why))
    };
    let (parts, body) = request.into_parts();
    // A browser says where a form comes from, if it is not this page.
    let from = parts
        .headers
        .get("sec-fetch-site")
        .map(HeaderValue::as_bytes);
    if matches!(from, Some(b"cross-site" | b"same-site")) {
        return over();
    }
    let Ok(body) = axum::body::to_bytes(body, PARAMS_LEN_MAX).await else {
        return over();
    };
    let Some(params) = Params::form(&body) else {
        return over();
    };
    let person = match (of.login)(parts).await {
        Ok(person) => person,
        Err(_) => return over(),
    };
    let answered = of.blocking(move |server| {
        let bond = person.bond();
        let ticket = params.get("ticket").unwrap_or("");
        let Some(consent) = server.consent(ticket, &bond)? else {
            return Ok(None);
        };
        match Answer::read(&params, &consent) {
            Answer::Allow(mut scope) => {
                let may = person.may.as_ref();
                scope.retain(|name| may.is_none_or(|may| may.iter().any(|it| it == name)));
                if scope.is_empty() && !consent.scope.is_empty() {
                    return server.deny(ticket, &bond);
                }
                server.approve(ticket, &bond, &person.owner, &scope)
            }
            Answer::Deny => server.deny(ticket, &bond),
        }
    });
    match answered.await {
        Some(Some(url)) => respond(Reply::redirect(&url)),
        Some(None) => over(),
        None => unavailable(),
    }
}

async fn token<L: Send + Sync + 'static>(
    State(of): Shared<L>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared(answer(of, headers, body, AuthorizationServer::token).await)
}

async fn revoke<L: Send + Sync + 'static>(
    State(of): Shared<L>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared(answer(of, headers, body, AuthorizationServer::revoke).await)
}

async fn introspect<L: Send + Sync + 'static>(
    State(of): Shared<L>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(of, headers, body, AuthorizationServer::introspect).await
}

/// Answers a client, whose request is a form or JSON.
async fn answer<L: Send + Sync + 'static>(
    of: Arc<OauthRouter<L>>,
    headers: HeaderMap,
    body: Bytes,
    ask: impl FnOnce(&AuthorizationServer, TokenRequest<'_>) -> Result<Reply> + Send + 'static,
) -> Response {
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or("", |kind| kind.to_str().unwrap_or(""));
    let kind = kind.split(';').next().unwrap_or("").trim();
    let params = match kind.to_ascii_lowercase().as_str() {
        "application/json" => Params::json(&body),
        "application/x-www-form-urlencoded" => Params::form(&body),
        _ => None,
    };
    // A header that stands twice could be read as either.
    let mut presented = headers.get_all(AUTHORIZATION).iter();
    let authorization = match (presented.next(), presented.next()) {
        (None, _) => Some(None),
        (Some(header), None) => header.to_str().ok().map(|text| Some(text.to_owned())),
        (Some(_), Some(_)) => None,
    };
    let (Some(params), Some(authorization)) = (params, authorization) else {
        return respond(Reply::malformed());
    };
    let told = of.told.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let authorization = authorization.as_deref();
        let request = TokenRequest {
            params: &params,
            authorization,
        };
        ask(&of.server, request)
    });
    match asked.await {
        Ok(Ok(reply)) => respond(reply),
        Ok(Err(error)) => {
            told(&error);
            respond(Reply::unavailable())
        }
        Err(_) => respond(Reply::unavailable()),
    }
}

async fn tell_metadata<L>(State(of): Shared<L>) -> Response {
    published("application/json", of.server.metadata())
}

async fn tell_resource<L>(State(of): Shared<L>) -> Response {
    published("application/json", of.server.resource_metadata())
}

async fn tell_keys<L>(State(of): Shared<L>) -> Response {
    let keys = of.server.jwts().map(crate::Jwts::jwks).unwrap_or_default();
    published("application/jwk-set+json", keys)
}

fn published(kind: &'static str, body: String) -> Response {
    let kept = HeaderName::from_static("cache-control");
    shared(([(CONTENT_TYPE, kind), (kept, "public, max-age=300")], body).into_response())
}

/// Lets pages of any origin read an answer: clients in browsers have no cookie here.
fn shared(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert("access-control-allow-origin", any);
    response
}

async fn preflight() -> Response {
    let headers = [
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-headers", "*, authorization"),
        ("access-control-max-age", "600"),
    ];
    shared((StatusCode::NO_CONTENT, headers).into_response())
}

fn unavailable() -> Response {
    respond(page::message(
        503,
        "The server cannot answer now. Try again later.",
    ))
}

/// An answer as a response.
///
/// ```
/// let reply = gatekey_oauth::page::message(400, "No.");
/// assert_eq!(gatekey_oauth::router::respond(reply).status(), 400);
/// ```
#[must_use]
pub fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(reply.body.into());
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}
