//! Pages on which operators manage all keys.

mod bulk;
mod find;
mod fleet;
mod given;
mod hints;
mod key;
mod keys;
mod keyspaces;
mod login;
mod metrics;
mod owners;
mod plans;
mod rules;
mod session;
mod store;
mod trail;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response, StatusCode};
use gatekey::{Engine, Error, Key, KeyState, Prefix, Requirements};
use gatekey_admin::{Admin, Operator, Right, ensure_admin_keyspace};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::desk::{Turns, mark};
use crate::fields::query;
use crate::look::Look;
use crate::reply::{Body as Answer, Fault, Reply};
use crate::site::{self, Asked, Call, Enter, Instead, Route, Site, Who};
use crate::view::{Field, Form, Kind, Link};

use session::{Running, Sessions};

/// The operators' console: a router for the host to mount where it likes.
///
/// Who asks is the [`Operator`] that the host's own log-in puts into the extensions of a
/// request; or, with [`admin_keyspace`](Self::admin_keyspace), whoever logs in by an admin
/// key. A request of nobody is answered with 401, or sent to the log-in.
///
/// Each change goes through the admin API, which checks the operator's rights and writes
/// their name into the audit trail.
///
/// ```
/// use axum::body::Body;
/// use axum::http::Request;
/// use axum::{Extension, Router};
/// use gatekey::Engine;
/// use gatekey_admin::{Operator, Right};
/// use gatekey_console::Console;
/// use tower::ServiceExt as _;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::open_in_memory()?;
/// // A host has a layer here that knows which of its staff has logged in.
/// let alice = Operator::new("alice", [Right::Read, Right::Revoke]);
/// let console = Console::new(engine.clone()).router().layer(Extension(alice));
/// let app = Router::new().nest("/console", console);
/// let page = app.oneshot(Request::get("/console").body(Body::empty())?).await?;
/// assert_eq!(page.status(), 200);
/// # engine.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Console {
    engine: Engine,
    admin: Admin,
    keyspace: Option<Prefix>,
    look: Look,
    origins: Vec<String>,
    sessions: Arc<Sessions>,
}

impl Console {
    /// The console of an engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            admin: Admin::new(engine.clone()),
            engine,
            keyspace: None,
            look: Look::new().brand("Keys: operators"),
            origins: Vec::new(),
            sessions: Arc::default(),
        }
    }

    /// Lets operators log in by an admin key of this keyspace, where the host names no
    /// operator. Browsers keep the session on HTTPS and on the loopback alone.
    ///
    /// # Errors
    /// As [`ensure_admin_keyspace`].
    pub fn admin_keyspace(mut self, prefix: Prefix) -> Result<Self, Error> {
        self.keyspace = Some(ensure_admin_keyspace(&self.engine, prefix)?);
        self.admin = self.admin.admin_keyspace(prefix)?;
        Ok(self)
    }

    /// How the pages look.
    pub fn look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }

    /// As [`SelfService::origin`](crate::SelfService::origin).
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// The router. Nest it under any path.
    pub fn router(&self) -> Router {
        let site = Site::new(self.look.clone(), self.origins.clone(), true);
        let console = self.clone();
        let api = self.admin.router();
        let turns = Arc::new(Turns::default());
        let enter: Enter<Clerk> = Arc::new(move |parts, path| {
            let source = parts.extensions.get::<ConnectInfo<SocketAddr>>();
            let mut clerk = Clerk {
                engine: console.engine.clone(),
                api: api.clone(),
                operator: None,
                shown: String::new(),
                running: None,
                name: session::name_of(&parts.headers),
                is_plain: session::is_plain(&parts.headers),
                sessions: console.sessions.clone(),
                keyspace: console.keyspace,
                source: source.map(|ConnectInfo(address)| address.ip()),
                turns: turns.clone(),
            };
            let is_login = path == "/login";
            if let Some(operator) = parts.extensions.get::<Operator>() {
                // Then the host has a log-in of its own.
                if is_login {
                    return Err(Fault::NotFound);
                }
                clerk.shown = operator.actor().to_owned();
                clerk.operator = Some(operator.clone());
            } else if console.keyspace.is_some() {
                clerk.resume()?;
                if clerk.operator.is_none() && !is_login {
                    return Err(Fault::LogIn);
                }
            } else {
                return Err(Fault::Nobody);
            }
            let may_read = clerk.operator.as_ref().is_none_or(|of| of.may(Right::Read));
            match may_read || path == "/logout" || is_login {
                true => Ok(clerk),
                false => Err(Fault::Forbidden),
            }
        });
        let instead: Instead = Arc::new(|fault, asked| match fault {
            Fault::LogIn => Some(to_login(asked)),
            _ => None,
        });
        site::router(&site, routes(), &enter, &instead)
    }
}

/// The log-in, with the way back to what was asked for. What a form has sent is lost.
fn to_login(asked: &Asked) -> Reply {
    let path = match asked.method == Method::GET && asked.path != "/" {
        true => format!("/login{}", query([("next", asked.path.as_str())])),
        false => "/login".to_owned(),
    };
    Answer::See(path).into()
}

/// Who asks for a page of the console.
pub(crate) struct Clerk {
    pub(crate) engine: Engine,
    api: Router,
    /// Nobody, on the page of the log-in alone.
    operator: Option<Operator>,
    /// What the pages call the operator: the actor, or the owner of their admin key.
    shown: String,
    running: Option<Running>,
    name: Option<[u8; 32]>,
    /// Whether the browser will not keep a session: see [`session::is_plain`].
    is_plain: bool,
    sessions: Arc<Sessions>,
    keyspace: Option<Prefix>,
    source: Option<std::net::IpAddr>,
    pub(crate) turns: Arc<Turns>,
}

impl Clerk {
    /// Who a session is of, as their admin key is now: one that was revoked, disabled or
    /// has expired ends the session.
    fn resume(&mut self) -> Result<(), Fault> {
        let Some(name) = self.name else { return Ok(()) };
        let Some(running) = self.sessions.running(&name) else {
            return Ok(());
        };
        match self.engine.find_key(running.key)? {
            Some(key) if is_admin(&key, self.keyspace) => {
                self.operator = Some(operator_of(&self.engine, &key)?);
                self.shown = key.owner.to_string();
                self.running = Some(running);
            }
            _ => self.sessions.end(&name),
        }
        Ok(())
    }

    /// The admin key that a token is of, if it is good.
    fn key_of(&self, token: &str) -> Result<Option<Key>, Fault> {
        let Some(keyspace) = self.keyspace else {
            return Ok(None);
        };
        let mut requirements = Requirements::new().keyspace(keyspace);
        if let Some(source) = self.source {
            requirements = requirements.source(source);
        }
        match self.engine.verify_with(token, &requirements)?.into_result() {
            Ok(grant) => Ok(self.engine.find_key(grant.key_id())?),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn may(&self, right: Right) -> bool {
        self.operator
            .as_ref()
            .is_some_and(|operator| operator.may(right))
    }

    fn actor(&self) -> &str {
        self.operator.as_ref().map_or("", Operator::actor)
    }
}

fn is_admin(key: &Key, keyspace: Option<Prefix>) -> bool {
    Some(key.keyspace) == keyspace && matches!(key.state, KeyState::Active | KeyState::Retiring)
}

/// The operator that an admin key is, as at the door of TCP.
fn operator_of(engine: &Engine, key: &Key) -> Result<Operator, Error> {
    let keyspace = engine.keyspace(key.keyspace)?;
    let names = keyspace.names(key.permissions);
    let rights = Right::ALL
        .into_iter()
        .filter(|right| names.contains(&right.name()));
    Ok(Operator::new(format!("key:{}", key.id), rights))
}

pub(crate) type Ask = Call<Clerk>;

impl Who for Clerk {
    fn name(&self) -> String {
        self.shown.clone()
    }

    fn nav(call: &Call<Self>, path: &str) -> Vec<Link> {
        if call.who.operator.is_none() {
            return Vec::new();
        }
        let pages = [
            ("/", "nav.overview"),
            ("/keys", "nav.keys"),
            ("/owners", "nav.owners"),
            ("/keyspaces", "nav.keyspaces"),
            ("/hints", "nav.hints"),
            ("/metrics", "nav.metrics"),
            ("/fleet", "nav.fleet"),
            ("/trail", "nav.trail"),
            ("/store", "nav.store"),
        ];
        let is_below = |page: &str| match page {
            "/" => path == "/",
            page => path == page || path.starts_with(&format!("{page}/")),
        };
        let is_alone = call.engine().fleet_status().is_none();
        pages
            .into_iter()
            .filter(|(page, _)| !(is_alone && *page == "/fleet"))
            .map(|(page, name)| Link::new(call.at(page), call.t(name)).current(is_below(page)))
            .collect()
    }

    fn out(call: &Call<Self>) -> Option<(String, String)> {
        call.who
            .running
            .map(|_| (call.at("/logout"), call.t("nav.log_out")))
    }
}

fn routes() -> Vec<Route<Clerk>> {
    let route = |method, path, run| Route { method, path, run };
    let (get, post) = (Method::GET, Method::POST);
    vec![
        route(get.clone(), "/", store::overview),
        route(get.clone(), "/login", login::form),
        route(post.clone(), "/login", login::log_in),
        route(post.clone(), "/logout", login::log_out),
        route(post.clone(), "/find", find::find),
        route(get.clone(), "/keys", keys::list),
        route(get.clone(), "/keys.csv", keys::csv),
        route(get.clone(), "/keys/new", key::new_form),
        route(post.clone(), "/keys/new", key::issue),
        route(post.clone(), "/keys/bulk", bulk::confirm),
        route(post.clone(), "/keys/bulk/do", bulk::run),
        route(get.clone(), "/keys/{id}", key::show),
        route(get.clone(), "/keys/{id}/edit", key::edit),
        route(post.clone(), "/keys/{id}/edit", key::update),
        route(get.clone(), "/keys/{id}/limits", key::limits_form),
        route(post.clone(), "/keys/{id}/limits", key::limits),
        route(get.clone(), "/keys/{id}/rotate", key::rotate_form),
        route(post.clone(), "/keys/{id}/rotate", key::rotate),
        route(post.clone(), "/keys/{id}/disable", key::disable),
        route(post.clone(), "/keys/{id}/enable", key::enable),
        route(get.clone(), "/keys/{id}/revoke", key::revoke_form),
        route(post.clone(), "/keys/{id}/revoke", key::revoke),
        route(get.clone(), "/owners", owners::list),
        route(get.clone(), "/owners/one", owners::show),
        route(get.clone(), "/owners/suspend", owners::suspend_form),
        route(post.clone(), "/owners/suspend", owners::suspend),
        route(post.clone(), "/owners/resume", owners::resume),
        route(get.clone(), "/owners/revoke", owners::revoke_form),
        route(post.clone(), "/owners/revoke", owners::revoke),
        route(get.clone(), "/owners/settings", owners::settings_form),
        route(post.clone(), "/owners/settings", owners::settings),
        route(get.clone(), "/keyspaces", keyspaces::list),
        route(get.clone(), "/keyspaces/new", rules::new_form),
        route(post.clone(), "/keyspaces/new", rules::create),
        route(get.clone(), "/keyspaces/{prefix}", keyspaces::show),
        route(get.clone(), "/keyspaces/{prefix}/edit", rules::edit_form),
        route(post.clone(), "/keyspaces/{prefix}/edit", rules::edit),
        route(
            get.clone(),
            "/keyspaces/{prefix}/retire",
            rules::retire_form,
        ),
        route(post.clone(), "/keyspaces/{prefix}/retire", rules::retire),
        route(
            get.clone(),
            "/keyspaces/{prefix}/revoke",
            rules::revoke_form,
        ),
        route(post.clone(), "/keyspaces/{prefix}/revoke", rules::revoke),
        route(get.clone(), "/keyspaces/{prefix}/plan", plans::plan_form),
        route(post.clone(), "/keyspaces/{prefix}/plan", plans::plan),
        route(get.clone(), "/keyspaces/{prefix}/level", plans::level_form),
        route(post.clone(), "/keyspaces/{prefix}/level", plans::level),
        route(get.clone(), "/hints", hints::list),
        route(get.clone(), "/metrics", metrics::show),
        route(get.clone(), "/fleet", fleet::show),
        route(get.clone(), "/trail", trail::list),
        route(get, "/store", store::show),
        route(post.clone(), "/store/check", store::check),
        route(post, "/store/backup", store::backup),
    ]
}

/// The methods and paths of all pages, for the tests that attack each.
#[cfg(test)]
pub(crate) fn paths() -> Vec<(String, &'static str)> {
    let of = |route: Route<Clerk>| (route.method.to_string(), route.path);
    routes().into_iter().map(of).collect()
}

#[cfg(test)]
impl Console {
    pub(crate) fn age(&self, by: std::time::Duration) {
        self.sessions.age(by);
    }
}

impl Ask {
    pub(crate) fn engine(&self) -> &Engine {
        &self.who.engine
    }

    /// Asks the admin API, in the operator's name.
    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        number: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        let operator = self.who.operator.clone().ok_or(Fault::Nobody)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .extension(operator);
        if let Some(number) = number {
            request = request.header("idempotency-key", number);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|_| Fault::NotFound)?;
        let runtime = tokio::runtime::Handle::current();
        // The page's thread is one that may block.
        match runtime.block_on(self.who.api.clone().oneshot(request)) {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    /// Asks the admin API, and reads the answer.
    pub(crate) fn api(
        &self,
        method: &str,
        path: &str,
        body: &impl serde::Serialize,
        number: Option<&str>,
    ) -> Result<Value, Fault> {
        let broken = || Fault::Engine(Error::Internal("an answer of the admin API is not JSON"));
        let body = serde_json::to_value(body).map_err(|_| broken())?;
        let response = self.ask(method, path, Some(body), number)?;
        let status = response.status();
        let read = axum::body::to_bytes(response.into_body(), 64 << 20);
        let bytes = tokio::runtime::Handle::current().block_on(read);
        let bytes = zeroize::Zeroizing::new(bytes.map_err(|_| broken())?.to_vec());
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| broken())?;
        if status.is_success() {
            return Ok(value);
        }
        let detail = value
            .get("detail")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match (status, value.get("code").and_then(Value::as_str)) {
            (StatusCode::NOT_FOUND, _) => Err(Fault::NotFound),
            (_, Some("already_answered")) => Err(Fault::Repeated),
            (status, code) if status.is_server_error() => Err(Fault::Failed {
                status,
                is_unknown: code == Some("outcome_unknown"),
                detail: detail.to_owned(),
            }),
            _ => Err(Fault::Refused(status, detail.to_owned())),
        }
    }

    /// A number for a form, so that it is sent once.
    fn number(&self) -> Result<String, Fault> {
        Ok(crate::number::draw::<16>()?.to_string())
    }

    /// Adds the field for the admin key to a form, where it was not given lately. A host
    /// that names its operators asks them by itself.
    fn proving(&self, form: Form) -> Form {
        match self.who.running {
            Some(running) if !running.fresh => form.field(
                Field::new(Kind::Secret, "admin_key", self.t("prove.label"))
                    .hint(self.t("prove.hint"))
                    .required(),
            ),
            _ => form,
        }
    }

    /// Refuses what takes the admin key again, if it was not given lately.
    fn prove(&self) -> Result<(), Fault> {
        let (Some(running), Some(name)) = (self.who.running, self.who.name) else {
            return Ok(());
        };
        if running.fresh {
            return Ok(());
        }
        let given = self.form.one("admin_key")?.unwrap_or_default();
        match self.who.key_of(given)? {
            Some(key) if key.id == running.key => {
                self.who.sessions.prove(&name);
                Ok(())
            }
            _ => Err(Fault::Confirm),
        }
    }

    /// A key by the path's id.
    fn key(&self) -> Result<Key, Fault> {
        let id = self.segment.parse().map_err(|_| Fault::NotFound)?;
        self.engine().find_key(id)?.ok_or(Fault::NotFound)
    }

    /// A key that is still as the form showed it.
    fn seen(&self) -> Result<Key, Fault> {
        let key = self.key()?;
        match mark(&key) == self.form.must("seen")? {
            true => Ok(key),
            false => Err(Fault::Changed),
        }
    }

    /// Refuses a page whose changes the operator may not make.
    fn need(&self, right: Right) -> Result<(), Fault> {
        match self.who.may(right) {
            true => Ok(()),
            false => Err(Fault::Forbidden),
        }
    }
}
