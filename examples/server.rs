//! A server whose API keys gatekey keeps: five APIs, each in the dialect of a real
//! system, and a small one to issue, rotate and revoke keys.
//!
//! ```sh
//! cargo run --release --features tower --example server [-- FILE [ADDRESS]]
//! ```
//! Without a file it keeps its keys in memory; without an address it takes a free
//! port of the loopback. The first lines that it prints are its address and the key
//! for `/admin`, which is issued anew at every start.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use gatekey::http::Dialect;
use gatekey::tower::AuthLayer;
use gatekey::{
    Engine, Error, Grant, Limit, NewKey, NewKeyspace, Options, Plan, Prefix, Quota, Reason,
    Revocation, Rotation,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A system: the path it is served under, its keyspace, its dialect.
type System = (&'static str, NewKeyspace, Dialect);

/// The permission that the third route of each system needs.
const WRITE: &str = "write";

fn systems() -> Result<Vec<System>, Error> {
    let tier = |name: &str, second| Plan::new(name).limit(Limit::per_second(second));
    Ok(vec![
        (
            "aurorax",
            NewKeyspace::new("aurorax")?
                .permissions(["read", WRITE])
                .single_active(),
            Dialect::aurorax(),
        ),
        (
            "pixxel",
            NewKeyspace::new("pixxel")?.permissions(["read", WRITE]),
            Dialect::pixxel(),
        ),
        (
            "tiered",
            NewKeyspace::new("tiered")?
                .permissions(["read", WRITE])
                .plan(tier("free", 50).limit(Limit::per_hour(1_000)))
                .plan(tier("pro", 200).limit(Limit::per_hour(10_000)))
                .plan(tier("enterprise", 1_000))
                .default_plan("free"),
            Dialect::tiered_bearer(),
        ),
        (
            "one-codex",
            NewKeyspace::new("onecodex")?
                .permissions(["read", WRITE])
                .single_active(),
            Dialect::one_codex(),
        ),
        (
            "ai",
            NewKeyspace::new("ai_live")?
                .permissions(["read", WRITE, "admin", "webhook"])
                .max_lifetime(Duration::from_secs(90 * 86_400)),
            Dialect::ai_platform(),
        ),
    ])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    // Who fails a thousand times a minute waits. Ahead of the lookup, by address.
    let options = Options::new().failed_attempts(Limit::per_minute(1_000));
    let engine = match arguments.next() {
        Some(file) => options.open(file)?,
        None => options.open_in_memory()?,
    };
    let address = arguments.next().unwrap_or("127.0.0.1:0".to_owned());

    let mut app = Router::new();
    for (path, keyspace, dialect) in systems()? {
        let prefix = create(&engine, keyspace)?;
        app = app.nest(&format!("/{path}"), api(&engine, prefix, dialect));
    }
    let prefix = create(&engine, NewKeyspace::new("admin")?.permissions(["keys"]))?;
    engine.revoke_keyspace(prefix, Reason::Superseded)?;
    let admin = engine.issue(NewKey::new(prefix, "operator")?.permissions(["keys"]))?;
    let app = app
        .nest("/admin", administration(&engine, prefix))
        .into_make_service_with_connect_info::<SocketAddr>();

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    println!("admin key: {}", admin.token.expose());
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            // Without it, the server runs until it is killed; no key is lost then.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    engine.close()?;
    Ok(())
}

/// Creates a keyspace, unless the file has it from an earlier start.
fn create(engine: &Engine, keyspace: NewKeyspace) -> Result<Prefix, Error> {
    match engine.create_keyspace(keyspace) {
        Ok(keyspace) => Ok(keyspace.prefix),
        Err(Error::Refused(gatekey::Refusal::PrefixTaken(prefix))) => Ok(prefix),
        Err(error) => Err(error),
    }
}

fn authentication(engine: &Engine, prefix: Prefix, dialect: Dialect) -> AuthLayer {
    AuthLayer::new(engine.clone(), dialect)
        .keyspace(prefix)
        .source(|_, extensions| address_of(extensions.get()))
        .on_refused(|refused, parts| eprintln!("{} {}: {refused}", parts.method, parts.uri.path()))
}

fn address_of(peer: Option<&ConnectInfo<SocketAddr>>) -> Option<IpAddr> {
    peer.map(|peer| peer.0.ip())
}

/// A public route, one for whoever has a key, one that needs a permission, and a
/// thing that belongs to somebody.
fn api(engine: &Engine, prefix: Prefix, dialect: Dialect) -> Router {
    let auth = authentication(engine, prefix, dialect.clone());
    Router::new()
        .route("/public", get(public).route_layer(auth.clone().optional()))
        .route(
            "/account",
            get(account).route_layer(auth.clone().required()),
        )
        .route(
            "/items",
            post(create_item).route_layer(auth.clone().require([WRITE])),
        )
        .route(
            "/owners/{owner}",
            get(owned).with_state(dialect).route_layer(auth.optional()),
        )
}

async fn public(grant: Option<Extension<Grant>>) -> Json<Value> {
    Json(json!({ "public": true, "owner": grant.map(|grant| grant.owner().to_owned()) }))
}

async fn account(Extension(grant): Extension<Grant>) -> Json<Value> {
    Json(json!({
        "owner": grant.owner(),
        "key": grant.key_id().to_string(),
        "expires_at": grant.expires_at().map(|at| at.to_string()),
        "retiring_until": grant.retiring_until().map(|at| at.to_string()),
    }))
}

async fn create_item(Extension(grant): Extension<Grant>) -> (StatusCode, Json<Value>) {
    (
        StatusCode::CREATED,
        Json(json!({ "created_by": grant.owner() })),
    )
}

/// A thing of an owner's. To others, the dialect says that it is forbidden, or hides
/// it, from callers without a key too.
async fn owned(
    State(dialect): State<Dialect>,
    Path(owner): Path<String>,
    grant: Option<Extension<Grant>>,
) -> Response {
    let hides = dialect.foreign().status() == StatusCode::NOT_FOUND;
    match grant {
        Some(grant) if grant.owner() == owner => Json(json!({ "owner": owner })).into_response(),
        None if !hides => dialect.missing().response().map(Into::into),
        _ => dialect.foreign().response().map(Into::into),
    }
}

// Administration

fn administration(engine: &Engine, prefix: Prefix) -> Router {
    let auth = authentication(engine, prefix, Dialect::problem_details()).require(["keys"]);
    Router::new()
        .route("/keys", post(issue))
        .route("/keys/{id}", get(show))
        .route("/keys/{id}/rotate", post(rotate))
        .route("/keys/{id}", delete(revoke))
        .route_layer(auth)
        .with_state(engine.clone())
}

/// What an operator asks for. Times are in seconds.
#[derive(Deserialize)]
struct Asked {
    keyspace: String,
    owner: String,
    #[serde(default)]
    permissions: Vec<String>,
    plan: Option<String>,
    expires_in: Option<u64>,
    quota: Option<u64>,
}

#[derive(Deserialize)]
struct Rotated {
    #[serde(default)]
    grace: u64,
}

/// A change waits for the disk, so it runs where a thread may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

struct Failure(Error);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.0.to_string() }))).into_response()
    }
}

async fn issue(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let issued = blocking(move || {
        let mut key = NewKey::new(asked.keyspace, asked.owner)?.permissions(asked.permissions);
        if let Some(plan) = asked.plan {
            key = key.plan(plan);
        }
        if let Some(seconds) = asked.expires_in {
            key = key.expires_in(Duration::from_secs(seconds));
        }
        if let Some(requests) = asked.quota {
            key = key.quota(Quota::new(requests));
        }
        engine.by(by.owner())?.issue(key)
    })
    .await?;
    let answer = json!({
        "id": issued.key.id.to_string(),
        "token": issued.token.expose(),
        "expires_at": issued.key.expires_at.map(|at| at.to_string()),
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn show(
    State(engine): State<Engine>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let key = blocking(move || {
        engine.flush()?;
        engine.key(id.parse()?)
    })
    .await?;
    Ok(Json(json!({
        "id": key.id.to_string(),
        "owner": key.owner.to_string(),
        "state": key.state.to_string(),
        "plan": key.plan,
        "used": key.usage.count,
        "last_used": key.usage.last_used.map(|at| at.to_string()),
    })))
}

async fn rotate(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Path(id): Path<String>,
    Json(asked): Json<Rotated>,
) -> Result<Json<Value>, Failure> {
    let rotated = blocking(move || {
        let grace = Rotation::with_grace(Duration::from_secs(asked.grace));
        engine.by(by.owner())?.rotate(id.parse()?, grace)
    })
    .await?;
    Ok(Json(json!({
        "id": rotated.key.id.to_string(),
        "token": rotated.token.expose(),
        "old": rotated.old.id.to_string(),
        "old_accepted_until": rotated.old.retiring_until.map(|at| at.to_string()),
    })))
}

async fn revoke(
    State(engine): State<Engine>,
    Extension(by): Extension<Grant>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    blocking(move || {
        let why = Revocation::new(Reason::Cessation).note("over /admin");
        engine.by(by.owner())?.revoke(id.parse()?, why)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
