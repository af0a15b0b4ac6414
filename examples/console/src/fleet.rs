//! A fleet in one process: what its page shows, without a database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gatekey::fleet::{Freshness, Log, Settings};
use gatekey::{Engine, Error, Options, Pepper};

/// The servers' names. Each has a file of its own, and the first serves the pages.
pub const NODES: [&str; 3] = ["eu-1", "eu-2", "us-1"];

/// The options of a store that becomes a fleet's: all servers need its pepper.
pub fn options() -> Result<Options, Error> {
    let pepper = Pepper::new(1, b"of a secret manager: 32 bytes...")?;
    Ok(Options::new().pepper(pepper))
}

/// Founds a fleet with the store `eu-1.redb` of a folder, and has the others join it. Each
/// server reaches the log its own way.
pub fn fleet(
    folder: &Path,
    lease: Duration,
    logs: [Arc<dyn Log>; 3],
) -> Result<Vec<Engine>, Error> {
    let server = |(node, log): (&str, Arc<dyn Log>)| {
        let settings = Settings::new(log, node).freshness(Freshness::FailClosed(lease));
        let path = folder.join(format!("{node}.redb"));
        let options = options()?.fleet(settings);
        match node == NODES[0] {
            true => options.found_fleet(path),
            false => options.join_fleet(path),
        }
    };
    NODES.into_iter().zip(logs).map(server).collect()
}
