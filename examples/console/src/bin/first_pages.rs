//! How long the server takes for the first page of each kind, over a file with many keys.
//!
//! ```sh
//! cargo run --release -p gatekey-example-console --bin first_pages [-- KEYS]
//! ```
//! Each page is asked for once, and then 20 times more, without a network between. What is
//! printed is the first time, and the least and the median of the rest, in milliseconds: on a
//! machine that others use too, the least is nearest to what the page takes.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use gatekey::{Engine, KeyFilter, KeyState, Options};
use gatekey_admin::Operator;
use gatekey_console::{Console, SelfService};
use gatekey_example_console::{Host, PastClock, fill, member};
use tower::ServiceExt as _;

const ROUNDS: usize = 20;

type Failed = Box<dyn std::error::Error>;

/// What is measured: its name, the pages, and which of them.
type Measured = (String, Router, String);

fn main() -> Result<(), Failed> {
    let keys = match std::env::args().nth(1) {
        Some(keys) => keys.parse()?,
        None => 200_000,
    };
    let mut out = std::io::stdout();
    let folder = std::env::temp_dir().join(format!("gatekey-first-pages-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&folder, keys, &mut out);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(
    folder: &std::path::Path,
    keys: u64,
    out: &mut impl std::io::Write,
) -> Result<(), Failed> {
    let clock = PastClock::behind(90);
    let options = Options::new().clock(clock.clone());
    let host = Host::new(options.open_or_create(folder.join("keys.redb"))?)?;
    let begun = Instant::now();
    let filled = fill(host.engine(), &clock, keys.div_ceil(20), keys)?;
    writeln!(
        out,
        "{} keys of {} owners, made in {} s",
        filled.keys,
        filled.owners,
        begun.elapsed().as_secs()
    )?;
    let runtime = tokio::runtime::Runtime::new()?;
    for (name, router, path) in pages(host.engine())? {
        let mut times = Vec::new();
        for _ in 0..=ROUNDS {
            times.push(runtime.block_on(ask(&router, &path))?);
        }
        let first = times.remove(0);
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        writeln!(
            out,
            "{name:<44} {:>8.1} {:>8.1} {:>8.1}",
            first.as_secs_f64() * 1e3,
            ms(times.first()),
            ms(times.get(ROUNDS / 2))
        )?;
    }
    host.engine().clone().close()?;
    Ok(())
}

/// The pages: what is measured, by whom it is asked for, and where.
fn pages(engine: &Engine) -> Result<Vec<Measured>, Failed> {
    let operator = Operator::with_all_rights("measured");
    let console = Console::new(engine.clone())
        .router()
        .layer(Extension(operator));
    let of = |state| KeyFilter::new().state(state);
    let active = engine.keys_page(&of(KeyState::Active), None, 1)?;
    let key = active.keys.first().ok_or("no key is active")?;
    let mut pages = Vec::new();
    for path in [
        "/".to_owned(),
        "/keys".to_owned(),
        format!("/keys?owner={}", key.owner),
        "/keys?keyspace=tiered".to_owned(),
        "/keys?state=active".to_owned(),
        "/keys?state=retiring".to_owned(),
        "/keys?state=disabled".to_owned(),
        "/keys?state=suspended".to_owned(),
        "/keys?state=revoked".to_owned(),
        "/keys?ends=7".to_owned(),
        "/keys?label=environment%3Dprod".to_owned(),
        "/keys?label=nothing".to_owned(),
        format!("/keys/{}", key.id),
        "/owners".to_owned(),
        format!("/owners/one?owner={}", key.owner),
        "/keyspaces".to_owned(),
        "/keyspaces/tiered".to_owned(),
        "/hints".to_owned(),
        "/metrics".to_owned(),
        "/trail".to_owned(),
        "/store".to_owned(),
    ] {
        pages.push((format!("operator {path}"), console.clone(), path));
    }
    let filter = KeyFilter::new().keyspace("tiered".parse()?);
    let held = engine.keys_page(&filter, None, 1)?;
    let key = held.keys.first().ok_or("no key is of the keyspace")?;
    let member = member("tiered", key.owner.clone())?;
    let customer = SelfService::new(engine.clone())
        .router()
        .layer(Extension(member));
    for path in [
        "/".to_owned(),
        "/usage?keyspace=tiered".to_owned(),
        "/new?keyspace=tiered".to_owned(),
        format!("/keys/{}", key.id),
    ] {
        pages.push((format!("customer {path}"), customer.clone(), path));
    }
    Ok(pages)
}

async fn ask(router: &Router, path: &str) -> Result<Duration, Failed> {
    let request = Request::get(path).body(Body::empty())?;
    let begun = Instant::now();
    let answer = router.clone().oneshot(request).await?;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await?;
    let time = begun.elapsed();
    match status.is_success() && !body.is_empty() {
        true => Ok(time),
        false => Err(format!("{path}: {status}").into()),
    }
}
