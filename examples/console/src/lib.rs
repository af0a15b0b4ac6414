//! A small server that mounts the pages of gatekey-console, for the program beside it and
//! for the tests that drive a browser.
//!
//! It is the host: it has a log-in of its own (a link that sets a cookie), five products
//! as in docs/DIALECTS.md, whose customers manage their keys, and an API to use keys at.

mod data;
mod fleet;
mod presets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use gatekey::http::presets::ai_platform;
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, Grant, Issued, NewKey, OwnerPath};
use gatekey_console::{Console, Look, Member, SelfService, ShortLived};
use gatekey_oauth::{JwtOptions, Jwts};

pub use data::{Filled, PastClock, fill};
pub use fleet::{NODES, fleet, options};
pub use presets::{PRESETS, keyspaces, member};

/// The name of the keyspace of admin keys.
pub const ADMIN: &str = "ops";

/// Who has logged in: the secret of their link, and which product's customer they are.
type Customers = Arc<Mutex<BTreeMap<String, OwnerPath>>>;

/// The host.
#[derive(Clone)]
pub struct Host {
    engine: Engine,
    customers: Customers,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

impl Host {
    /// A host over an engine. Its keyspaces are created.
    pub fn new(engine: Engine) -> Result<Self, Error> {
        for keyspace in keyspaces()? {
            engine.ensure_keyspace(keyspace)?;
        }
        Ok(Self {
            engine,
            customers: Customers::default(),
        })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// An admin key with all rights, for the log-in of the operators' console.
    pub fn admin_key(&self, owner: &str) -> Result<Issued, Error> {
        let admin = gatekey_admin::ensure_admin_keyspace(&self.engine, ADMIN.parse()?)?;
        let rights = ["read", "issue", "revoke", "administer"];
        let new = NewKey::new(admin, owner)?
            .name("Operator")
            .permissions(rights);
        self.engine.issue(new)
    }

    /// The path of a link that logs a customer in.
    pub fn link(&self, owner: OwnerPath) -> Result<String, Error> {
        use rand::TryRng as _;
        let mut bytes = [0_u8; 16];
        let drawn = rand::rngs::SysRng.try_fill_bytes(&mut bytes);
        drawn.map_err(|error| Error::Entropy(error.to_string()))?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut customers = self
            .customers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        customers.insert(secret.clone(), owner);
        Ok(format!("/enter/{secret}"))
    }

    /// Ends all log-ins.
    pub fn log_all_out(&self) {
        let mut customers = self
            .customers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        customers.clear();
    }

    fn owner(&self, headers: &HeaderMap) -> Option<OwnerPath> {
        let cookies = headers.get(COOKIE)?.to_str().ok()?;
        let mut pairs = cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        let (_, secret) = pairs.find(|(name, _)| *name == "demo")?;
        let customers = self
            .customers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        customers.get(secret).cloned()
    }

    /// The whole application.
    pub fn router(&self) -> Result<Router, Error> {
        let jwts = Jwts::open(
            &self.engine,
            JwtOptions::new("https://app.example.com", "https://app.example.com"),
        )?;
        let mut app = Router::new()
            .route("/", get(index))
            .route("/enter/{secret}", get(enter))
            .with_state(self.clone());
        for preset in PRESETS {
            let look = Look::new().brand(preset.brand).style(preset.style);
            let mut pages = SelfService::new(self.engine.clone()).look(look);
            if preset.path == "one-codex" {
                let jwts = jwts.clone();
                pages = pages.short_lived(move |grant| {
                    let jwt = jwts.issue(grant, None)?;
                    Ok(ShortLived::new(jwt.expose(), jwt.expires_at))
                });
            }
            let state = (self.clone(), preset.path);
            let pages = pages.router().layer(from_fn_with_state(state, name_member));
            app = app.nest(&format!("/{}/keys", preset.path), pages);
        }
        // Operators log in by an admin key; a host with a log-in of its own names them instead.
        let console = Console::new(self.engine.clone()).admin_keyspace(ADMIN.parse()?)?;
        app = app.nest("/console", console.router());
        let auth = AuthLayer::new(self.engine.clone(), ai_platform()).required();
        Ok(app.merge(
            Router::new()
                .route("/api/hello", get(hello))
                .route_layer(auth),
        ))
    }
}

/// The host's own log-in: who has a cookie is that customer.
async fn name_member(
    State((host, path)): State<(Host, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(owner) = host.owner(request.headers())
        && let Ok(member) = member(path, owner)
    {
        request.extensions_mut().insert::<Member>(member);
    }
    next.run(request).await
}

async fn enter(State(host): State<Host>, Path(secret): Path<String>) -> Response {
    let customers = host
        .customers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match customers.contains_key(&secret) {
        true => {
            // A host on HTTPS adds `Secure`, and the name begins with `__Host-`.
            let cookie = format!("demo={secret}; Path=/; HttpOnly; SameSite=Lax");
            let headers = [(SET_COOKIE, cookie), (LOCATION, "/".to_owned())];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn index(State(host): State<Host>, headers: HeaderMap) -> Html<String> {
    let who = match host.owner(&headers) {
        Some(owner) => format!("Logged in as a customer: {}", escaped(owner.as_str())),
        None => "Not logged in: follow the link that the server printed".to_owned(),
    };
    let links: String = PRESETS
        .iter()
        .map(|preset| {
            format!(
                "<li><a href=\"/{}/keys\">{}</a>: {}</li>",
                preset.path, preset.brand, preset.text
            )
        })
        .collect();
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Host</title>\
         <meta name=viewport content=\"width=device-width\"><main><h1>A host</h1><p>{who}.</p>\
         <ul>{links}</ul></main></html>"
    ))
}

/// A text as HTML: what a template would do.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '<' | '>' | '&' | '"' | '\'' => format!("&#{};", u32::from(letter)),
            letter => letter.to_string(),
        })
        .collect()
}

async fn hello(Extension(grant): Extension<Grant>) -> String {
    format!("hello {}\n", grant.owner())
}

/// Serves until the process ends.
pub async fn serve(listener: tokio::net::TcpListener, app: Router) -> std::io::Result<()> {
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await
}
