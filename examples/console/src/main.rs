//! The pages on which people manage keys, with believable data.
//!
//! ```sh
//! cargo run --release -p gatekey-example-console [-- ADDRESS]
//! ```
//! It keeps everything in memory, and prints links to open in a browser.

use std::io::Write as _;

use gatekey::Options;
use gatekey_example_console::{Host, PRESETS, PastClock, fill, serve};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let mut out = std::io::stdout();
    let clock = PastClock::behind(90);
    // Ninety days pass in a second: that is no leap to warn of.
    let options = Options::new().clock(clock.clone());
    let host = Host::new(options.open_in_memory()?)?;
    writeln!(out, "making 1,000 owners and 20,000 keys ...")?;
    let filled = fill(host.engine(), &clock, 1_000, 20_000)?;
    writeln!(out, "made {} keys of {} owners", filled.keys, filled.owners)?;
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
