//! How long the server takes for the first page of each kind, over a file with many keys.
//!
//! ```sh
//! cargo run --release -p gatekey-example-console --bin first_pages [-- KEYS]
//! ```
//! Each page is asked for once, and then 20 times more, without a network between. What is
//! printed is the first time, and the least and the median of the rest, in milliseconds: on a
//! machine that others use too, the least is nearest to what the page takes. The last line
//! names the slowest page; the program fails where its least is over 50 ms.
//!
//! docs/console/first_pages.txt has what it printed.

use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use gatekey::{Engine, KeyFilter, KeyState, Options, Timestamp};
use gatekey_admin::Operator;
use gatekey_console::{Console, SelfService};
use gatekey_example_console::{Host, PastClock, fill, member};
use tower::ServiceExt as _;

const ROUNDS: usize = 20;
const GOAL: Duration = Duration::from_millis(50);

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
    let day = Timestamp::try_from(SystemTime::now())?.to_string();
    let cores = std::thread::available_parallelism()?;
    writeln!(
        out,
        "# cargo run --release -p gatekey-example-console --bin first_pages -- {keys}, {}, {}, {cores} cores",
        day.split('T').next().unwrap_or_default(),
        processor()
    )?;
    let begun = Instant::now();
    let filled = fill(host.engine(), &clock, keys.div_ceil(20), keys)?;
    writeln!(
        out,
        "# {} keys of {} owners, made in {} s; in ms: the first time, the least, the median",
        filled.keys,
        filled.owners,
        begun.elapsed().as_secs()
    )?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut slowest = (Duration::ZERO, String::new());
    for (name, router, path) in pages(host.engine())? {
        let mut times = Vec::new();
        for _ in 0..=ROUNDS {
            times.push(runtime.block_on(ask(&router, &path))?);
        }
        let first = times.remove(0);
        times.sort_unstable();
        let least = times.first().copied().unwrap_or_default();
        slowest = slowest.max((least, name.clone()));
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
    let (least, name) = slowest;
    writeln!(
        out,
        "# the slowest: {name}, {:.1}",
        least.as_secs_f64() * 1e3
    )?;
    match least < GOAL {
        true => Ok(()),
        false => Err(format!("{name} takes longer than {} ms", GOAL.as_millis()).into()),
    }
}

/// What the machine calls its processor, where it says so.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("processor unknown", |(_, name)| name.trim())
        .to_owned()
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
    let (id, owner) = (key.id.to_string(), key.owner.to_string());
    let second = engine.keys_page(&KeyFilter::new(), None, 50)?.next;
    let second = second.ok_or("there is no second page")?.to_string();
    let mut pages = Vec::new();
    for path in [
        "/",
        "/keys",
        "/keys?after=PLACE",
        "/keys?owner=OWNER",
        "/keys?owner=OWNER&state=active",
        "/keys?keyspace=tiered",
        "/keys?keyspace=tiered&state=revoked",
        "/keys?state=active",
        "/keys?state=retiring",
        "/keys?state=later",
        "/keys?state=disabled",
        "/keys?state=suspended",
        "/keys?state=expired",
        "/keys?state=revoked",
        "/keys?ends=7",
        "/keys?ends=90&state=disabled",
        "/keys?label=environment%3Dprod",
        "/keys?label=nothing",
        "/keys/new?keyspace=tiered",
        "/keys/ID",
        "/keys/ID/edit",
        "/keys/ID/limits",
        "/keys/ID/rotate",
        "/keys/ID/revoke",
        "/owners",
        "/owners/one?owner=OWNER",
        "/owners/suspend?owner=OWNER",
        "/owners/revoke?owner=OWNER",
        "/owners/settings?owner=OWNER&keyspace=tiered",
        "/keyspaces",
        "/keyspaces/tiered",
        "/keyspaces/tiered/edit",
        "/keyspaces/tiered/revoke",
        "/hints",
        "/metrics",
        "/trail",
        "/store",
    ] {
        let at = path
            .replace("ID", &id)
            .replace("OWNER", &owner)
            .replace("PLACE", &second);
        pages.push((format!("operator {path}"), console.clone(), at));
    }
    for (product, prefix) in [
        ("aurorax", "aurorax"),
        ("pixxel", "pixxel"),
        ("tiered", "tiered"),
        ("one-codex", "onecodex"),
        ("ai", "ai_live"),
    ] {
        let filter = KeyFilter::new().keyspace(prefix.parse()?);
        let held = engine.keys_page(&filter, None, 1)?;
        let owner = held.keys.first().map_or(owner.parse(), |key| {
            // The organisation, above its projects.
            let whole = key.owner.as_str();
            whole.split('/').next().unwrap_or(whole).parse()
        })?;
        let customer = SelfService::new(engine.clone())
            .router()
            .layer(Extension(member(product, owner)?));
        let mut paths = vec![
            "/",
            "/?show=all",
            "/usage?keyspace=PREFIX",
            "/new?keyspace=PREFIX",
        ];
        let key = held.keys.first().map(|key| key.id.to_string());
        if key.is_some() {
            paths.push("/keys/ID");
        }
        for path in paths {
            let at = path
                .replace("PREFIX", prefix)
                .replace("ID", &key.clone().unwrap_or_default());
            pages.push((format!("customer {product} {path}"), customer.clone(), at));
        }
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
