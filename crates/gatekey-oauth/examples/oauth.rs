//! An application with a login of its own, whose API others use by OAuth 2.0.
//!
//! ```sh
//! cargo run --release -p gatekey-oauth --features axum --example oauth
//! ```
//! Log in as `alice` with the password `open sesame`.

#![allow(clippy::print_stdout, reason = "it is a program with a terminal")]

use axum::Router;
use axum::routing::get;
use gatekey::http::{Challenge, Dialect};
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Error, Grant, NewKeyspace};
use gatekey_oauth::router::{OauthRouter, Person, to_login};
use gatekey_oauth::server::{AuthorizationServer, NewClient, ServerOptions};
use login::Sessions;

// Beyond the login, this is all of it.
pub(crate) fn app(engine: &Engine, url: &str) -> Result<(Router, AuthorizationServer), Error> {
    let keyspace = NewKeyspace::new("acme_at")?.permissions(["read", "write"]);
    let keyspace = engine.ensure_keyspace(keyspace)?.prefix;
    let server = AuthorizationServer::open(engine, ServerOptions::new(url))?;
    let sessions = Sessions::new(engine)?;
    let known = sessions.clone();
    let oauth = OauthRouter::new(server.clone(), move |request| {
        let user = known.user(&request.headers);
        async move {
            let (session, user) = user.ok_or_else(|| to_login("/login", &request))?;
            let owner = user.parse().map_err(|_| to_login("/login", &request))?;
            Ok(Person::new(session, owner).named(user))
        }
    });
    let oauth = oauth
        .describe("read", "See your reports")
        .describe("write", "Change your reports");
    let challenge = Challenge::bearer_of(&server.resource_metadata_url())?;
    let dialect = Dialect::builder().challenges([challenge]).build()?;
    let auth = AuthLayer::new(engine.clone(), dialect).keyspace(keyspace);
    let reports = get(reports).route_layer(auth.permissions(["read"]));
    let app = Router::new()
        .route("/reports", reports)
        .merge(oauth.build())
        .merge(sessions.router());
    Ok((app, server))
}

async fn reports(grant: Grant) -> String {
    format!("the reports of {}", grant.owner())
}
// The end of it.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::open_in_memory()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (app, server) = app(&engine, &url)?;
    let new = NewClient::public("Reader", "acme_at".parse()?, ["read", "write"]);
    let client = server.register(&new.redirect_uri("http://127.0.0.1/callback"))?;
    println!("{url}/.well-known/oauth-authorization-server");
    println!("client: {}", client.client.id);
    axum::serve(listener, app).await?;
    Ok(())
}

/// The login that an application has anyway. This one is a sketch: it knows one user, and
/// forgets its sessions when it ends.
mod login {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use axum::Router;
    use axum::extract::{Form, Query, State};
    use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{Html, IntoResponse, Response};
    use axum::routing::get;
    use gatekey::extension::Extension;
    use gatekey::{Engine, Error};
    use gatekey_oauth::router::local;

    const FORM: &str = "<!doctype html><html lang=\"en\"><title>Log in</title><main>\
        <h1>Log in</h1><form method=\"post\"><p><label>Name <input name=\"user\"></label></p>\
        <p><label>Password <input name=\"password\" type=\"password\"></label></p>\
        <button>Log in</button></form></main></html>";

    /// The user of each session, by what is in the browser's cookie.
    #[derive(Clone)]
    pub(crate) struct Sessions {
        known: Arc<Mutex<HashMap<String, String>>>,
        random: Extension,
    }

    impl Sessions {
        pub(crate) fn new(engine: &Engine) -> Result<Self, Error> {
            Ok(Self {
                known: Arc::default(),
                random: engine.extension("sessions")?,
            })
        }

        pub(crate) fn user(&self, headers: &HeaderMap) -> Option<(String, String)> {
            let cookies = headers.get(COOKIE)?.to_str().ok()?;
            let mut cookies = cookies
                .split("; ")
                .filter_map(|cookie| cookie.split_once('='));
            let (_, session) = cookies.find(|(name, _)| *name == "session")?;
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Some((session.to_owned(), known.get(session)?.clone()))
        }

        pub(crate) fn router(&self) -> Router {
            let login = get(|| async { Html(FORM) }).post(log_in);
            Router::new()
                .route("/login", login)
                .with_state(self.clone())
        }
    }

    /// The form is sent to its page's own URL, whose query says where to go next.
    async fn log_in(
        State(sessions): State<Sessions>,
        Query(asked): Query<HashMap<String, String>>,
        Form(sent): Form<HashMap<String, String>>,
    ) -> Response {
        let is = |name: &str, value: &str| sent.get(name).is_some_and(|sent| sent == value);
        if !is("user", "alice") || !is("password", "open sesame") {
            return (StatusCode::FORBIDDEN, Html("Wrong.")).into_response();
        }
        let Ok(random) = sessions.random.random::<32>() else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let cookie = format!("session={session}; HttpOnly; SameSite=Lax; Path=/");
        let mut known = sessions
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(session, "alice".to_owned());
        let next = asked.get("next").map_or("/", |next| local(next));
        let headers = [(SET_COOKIE, cookie), (LOCATION, next.to_owned())];
        (StatusCode::SEE_OTHER, headers).into_response()
    }
}
