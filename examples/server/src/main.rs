//! A server whose API keys gatekey keeps: five APIs, each in the dialect of a real
//! system, and a small one to issue, rotate and revoke keys, and to sell tiers.
//!
//! ```sh
//! cargo run --release -p gatekey-example-server [-- FILE [ADDRESS]]
//! ```
//! Without a file it keeps its keys in memory; without an address it takes a free
//! port of the loopback. With `--log` it is one server of a fleet: see `fleet`.
//! The first lines that it prints are its address and the key
//! for `/admin`, which is issued anew at every start. Behind proxies, `TRUSTED_PROXIES`
//! names them, and `PUBLIC_URL` where they are reached: what its tokens are issued as. SIGTERM and SIGINT end it: it
//! answers what is under way, writes what it holds in memory, and closes the file.

mod admin;
mod fleet;
mod forward;
mod jwt;
mod oauth;
mod serve;
mod tenants;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use gatekey::http::{Carrier, Dialect, Peer, Proxies, RejectionLog, SourceHeader, presets};
use gatekey::tower::AuthLayer;
use gatekey::{
    Engine, Error, Grant, LevelDefaults, Limit, Network, NewKey, NewKeyspace, Options, Plan,
    Prefix, Reason,
};
use serde_json::{Value, json};
use tower_http::cors::{Any, CorsLayer};

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
            presets::aurorax(),
        ),
        (
            "pixxel",
            NewKeyspace::new("pixxel")?.permissions(["read", WRITE]),
            presets::pixxel(),
        ),
        (
            "tiered",
            NewKeyspace::new("tiered")?
                .permissions(["read", WRITE])
                .plan(tier("free", 50).limit(Limit::per_hour(1_000).fixed()))
                .plan(tier("pro", 200).limit(Limit::per_hour(10_000).fixed()))
                .plan(tier("enterprise", 1_000))
                // Of every organisation, until it buys another: PUT /admin/owners.
                .owner_defaults(1, LevelDefaults::new().plan("free")),
            presets::tiered_bearer(),
        ),
        (
            "one-codex",
            NewKeyspace::new("onecodex")?
                .permissions(["read", WRITE])
                .single_active(),
            jwt::beside(
                &presets::one_codex(),
                [
                    Carrier::Basic,
                    Carrier::Header(HeaderName::from_static("x-api-key")),
                    Carrier::Bearer,
                ],
            )?,
        ),
        (
            "ai",
            NewKeyspace::new("ai_live")?
                .permissions(["read", WRITE, "admin", "webhook"])
                .max_lifetime(Duration::from_secs(90 * 86_400)),
            presets::ai_platform(),
        ),
    ])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = fleet::Arguments::read(std::env::args().skip(1))?;
    let proxies = proxies()?;
    // Who fails a thousand times a minute waits. Ahead of the lookup, by address.
    let options = Options::new().failed_attempts(Limit::per_minute(1_000));
    let engine = arguments.open(options)?;
    let address = arguments.address.as_deref().unwrap_or("127.0.0.1:0");
    let listener = tokio::net::TcpListener::bind(address).await?;
    let here = format!("http://{}", listener.local_addr()?);
    let url = std::env::var("PUBLIC_URL").unwrap_or_else(|_| here.clone());

    // One for all, so that a flood at one route leaves no more lines than at another.
    let log = Arc::new(RejectionLog::to_stderr());
    let mut app = Router::new();
    let mut oauth = None;
    for (path, keyspace, dialect) in systems()? {
        let prefix = engine.ensure_keyspace(keyspace)?.prefix;
        if path == "tiered" {
            app = app.merge(forward::router(&engine, prefix, &log));
        }
        let base = format!("/{path}");
        let auth = authentication(&engine, prefix, dialect.clone(), &proxies);
        let auth = logged(auth, &base, &log);
        let mut routes = match path {
            "one-codex" => {
                let jwts = jwt::open(&engine, &format!("{url}{base}"))?;
                let routes = api(jwt::accepted(auth.clone(), &jwts), dialect);
                routes.merge(jwt::router(&jwts, auth))
            }
            _ => api(auth, dialect),
        };
        if path == "tiered" {
            let issuer = format!("{url}{base}");
            let oauth = oauth.insert(oauth::Oauth::open(&engine, prefix, &issuer)?);
            // At the root, for `/.well-known`; and with no layer of CORS but its own, since its
            // pages are no other page's to read.
            app = app.merge(oauth.router());
            routes = routes.route("/tiers", get(tiers));
        }
        app = app.nest(&base, routes);
    }
    let admin = NewKeyspace::new("admin")?.permissions(["keys"]);
    let prefix = engine.ensure_keyspace(admin)?.prefix;
    let operator = NewKey::new(prefix, "operator")?.permissions(["keys"]);
    let operator = match arguments.is_of_fleet() {
        // The others' are good, and end by themselves.
        true => operator.expires_in(Duration::from_secs(86_400)),
        false => {
            engine.revoke_keyspace(prefix, Reason::Superseded)?;
            operator
        }
    };
    let admin = engine.issue(operator)?;
    let auth = authentication(&engine, prefix, Dialect::problem_details(), &proxies);
    let auth = logged(auth, "/admin", &log);
    let mut administration = admin::router(&engine, auth.clone());
    if let Some(oauth) = oauth {
        administration = administration.merge(oauth.admin(auth));
    }
    let app = app.nest("/admin", administration);

    // Before anybody can know that it is up: who stops it early is heard too.
    let stop = serve::stop_signal()?;
    // Not `println!`, which panics where stdout is closed.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on {here}");
    let _ = writeln!(stdout, "admin key: {}", admin.token.expose());

    let told = log.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // It waits for a reader of stderr that reads slowly.
            let told = told.clone();
            let _ = tokio::task::spawn_blocking(move || told.flush()).await;
        }
    });
    serve::serve(listener, app, stop).await;
    log.flush();
    engine.close()?;
    Ok(())
}

fn authentication(
    engine: &Engine,
    prefix: Prefix,
    dialect: Dialect,
    proxies: &Proxies,
) -> AuthLayer {
    AuthLayer::new(engine.clone(), dialect)
        .keyspace(prefix)
        .behind(proxies.clone(), |extensions| {
            let peer: &ConnectInfo<SocketAddr> = extensions.get()?;
            Some(Peer::from(peer.0))
        })
}

/// Logs what a layer refuses. In a nested router, a path begins behind the nest's: the log
/// has all of it.
fn logged(auth: AuthLayer, base: &str, log: &Arc<RejectionLog>) -> AuthLayer {
    let (base, log) = (base.to_owned(), log.clone());
    auth.on_rejected(move |refused, request| {
        let mut shown = request.clone();
        if let Ok(whole) = format!("{base}{}", request.uri.path()).parse() {
            shown.uri = whole;
        }
        log.record(refused, &shown);
    })
}

/// The proxies in front, whose `X-Forwarded-For` says where a request comes from: those of
/// the environment's `TRUSTED_PROXIES`, addresses and networks with spaces or commas
/// between. What is no network ends the server: with a proxy that is not trusted, all
/// callers are one source.
fn proxies() -> Result<Proxies, Error> {
    let named = std::env::var("TRUSTED_PROXIES").unwrap_or_default();
    let names = named.split([' ', ',']).filter(|name| !name.is_empty());
    let networks: Vec<Network> = names.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Proxies::new(SourceHeader::XForwardedFor).trust(networks))
}

/// A public route, one for whoever has a key, one that needs a permission, and a
/// thing that belongs to somebody.
fn api(auth: AuthLayer, dialect: Dialect) -> Router {
    Router::new()
        .route("/public", get(public).route_layer(auth.clone().optional()))
        .route(
            "/account",
            get(account).route_layer(auth.clone().required()),
        )
        .route(
            "/items",
            post(create_item).route_layer(auth.clone().permissions([WRITE])),
        )
        .route(
            "/owners/{owner}",
            get(owned).with_state(dialect).route_layer(auth.optional()),
        )
        .fallback(nothing)
        // Outside of the keys: a preflight presents none, and a page must be able to
        // read refusals too.
        .layer(cors())
}

/// Clients read a refusal's body by its type, and fall over an answer without one.
async fn nothing() -> (StatusCode, Json<Value>) {
    let message = "There is no such thing.";
    let body = json!({ "message": message, "error_message": message });
    (StatusCode::NOT_FOUND, Json(body))
}

/// What pages of any origin may do: send a key that they hold themselves, and read what
/// they are told of their limit. `*` does not cover `Authorization`, so that headers
/// are named. No cookies, and nothing of this for `/admin`.
fn cors() -> CorsLayer {
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            name("x-api-key"),
            name("x-aurorax-api-key"),
        ])
        .expose_headers([
            RETRY_AFTER,
            WWW_AUTHENTICATE,
            name("ratelimit"),
            name("ratelimit-policy"),
            name("x-ratelimit-limit"),
            name("x-ratelimit-remaining"),
            name("x-ratelimit-reset"),
        ])
        .max_age(Duration::from_secs(600))
}

/// What customers read of their tiers.
async fn tiers() -> impl IntoResponse {
    let markdown = [(CONTENT_TYPE, "text/markdown; charset=utf-8")];
    (markdown, include_str!("../pages/tiers.md"))
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
