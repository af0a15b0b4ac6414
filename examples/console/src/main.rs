//! The pages on which people manage keys, with believable data.
//!
//! ```sh
//! cargo run --release -p gatekey-example-console [-- [--fleet] [ADDRESS]]
//! ```
//! It prints links to open in a browser. It keeps everything in memory, or with `--fleet` in a
//! temporary folder: then three servers in this process share the keys.

use std::io::Write as _;

use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Log, MemoryLog};
use gatekey::{Engine, Options};
use gatekey_example_console::{Host, NODES, PRESETS, PastClock, fill, fleet, options, serve};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, addresses): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with('-'));
    let address = addresses.first().map_or("127.0.0.1:0", String::as_str);
    let mut out = std::io::stdout();
    let clock = PastClock::behind(90);
    let folder = tempfile::tempdir()?;
    let is_fleet = flags == ["--fleet"];
    let engine = match is_fleet {
        true => {
            let options = options()?.clock(clock.clone());
            options.create(folder.path().join(format!("{}.redb", NODES[0])))?
        }
        // Ninety days pass in a second: that is no leap to warn of.
        false => Options::new().clock(clock.clone()).open_in_memory()?,
    };
    let host = Host::new(engine)?;
    writeln!(out, "making 1,000 owners and 20,000 keys ...")?;
    let filled = fill(host.engine(), &clock, 1_000, 20_000)?;
    writeln!(out, "made {} keys of {} owners", filled.keys, filled.owners)?;
    let (host, _others) = match is_fleet {
        true => share(&host, folder.path())?,
        false => (host, Vec::new()),
    };
    let operator = host.admin_key("ops/alice")?;
    // One of the owners that were made: it has keys of the AI platform, and none yet of the
    // others.
    let link = host.link("cedar-labs".parse()?)?;
    let app = host.router()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let at = format!("http://{}", listener.local_addr()?);
        writeln!(out, "\na customer:  {at}{link}")?;
        for preset in PRESETS {
            writeln!(
                out,
                "             {at}/{}/keys  {}",
                preset.path, preset.text
            )?;
        }
        writeln!(out, "\nan operator: {at}/console")?;
        // This is the only time that it is shown.
        writeln!(out, "             log in by {}", operator.token.expose())?;
        out.flush()?;
        serve(listener, app).await?;
        Ok(())
    })
}

/// A fleet of what a host has so far.
fn share(
    host: &Host,
    folder: &std::path::Path,
) -> Result<(Host, Vec<Engine>), Box<dyn std::error::Error>> {
    host.engine().clone().close()?;
    let log = Arc::new(MemoryLog::new());
    let logs = [(); 3].map(|()| log.clone() as Arc<dyn Log>);
    let servers = fleet(folder, Duration::from_secs(10), logs)?;
    Ok((Host::new(servers[0].clone())?, servers))
}
