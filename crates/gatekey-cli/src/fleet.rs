//! A fleet: founding it, leaving it, its servers.

use clap::Subcommand;
use gatekey::{Error, OpenError};
use gatekey_admin::wire;
use serde_json::{Value, json};

use crate::args::{Global, Sure};
use crate::ask;
use crate::door::{Ask, Door, alone, store_of};
use crate::failure::{Exit, Failure, Result};
use crate::holder::holder;
use crate::local::{print, tell};
use crate::remote::list;
use crate::table;

#[derive(Debug, Subcommand)]
pub(crate) enum Fleet {
    /// Found a fleet with the store, which becomes its first server's. Its log gets a snapshot
    /// for other servers to begin with.
    #[cfg(feature = "postgres")]
    Create {
        /// First create the tables of logs, where they are not there yet. Takes a role that may.
        #[arg(long)]
        schema: bool,
    },
    /// Take the store out of its fleet, with all that it has. The fleet goes on without it.
    Leave(Sure),
    /// Show the servers, and how far each has come. Exits 6 if this one is not fresh, or if
    /// the log does not answer.
    Status,
    /// Put a snapshot into the log, for new servers to begin with.
    Snapshot {
        /// Remove the entries up to the snapshot before this one. A server that was away
        /// since before then must join anew.
        #[arg(long)]
        trim: bool,
    },
}

/// What needs the file, or the log.
pub(crate) fn run(global: &Global, command: &Fleet) -> Result<()> {
    match command {
        #[cfg(feature = "postgres")]
        Fleet::Create { schema } => postgres::create(global, *schema),
        Fleet::Leave(sure) => leave(global, *sure),
        Fleet::Status => asking(global, |door| status(door, global)),
        Fleet::Snapshot { trim } => asking(global, |door| {
            let body = wire::SnapshotRequest { trim: *trim };
            print(global, &door.ask(&Ask::post("/v1/fleet/snapshot", &body)?)?)
        }),
    }
}

fn asking(global: &Global, ask: impl FnOnce(&Door) -> Result<()>) -> Result<()> {
    let door = Door::open(global, None)?;
    ask(&door).and(door.close())
}

fn leave(global: &Global, sure: Sure) -> Result<()> {
    let store = store_of(global)?;
    let shown = store.display();
    match alone(global)?.open(store) {
        Err(Error::Open {
            reason: OpenError::InFleet,
            ..
        }) => {}
        Err(error) => {
            let held = match &error {
                Error::Open {
                    reason: OpenError::InUse,
                    ..
                } => format!("{}: stop it first", holder(store)),
                _ => String::new(),
            };
            let failure = Failure::from(error);
            return Err(Failure::new(
                failure.exit,
                format!("{}{held}", failure.text),
            ));
        }
        Ok(engine) => {
            engine.close()?;
            return Err(Failure::new(
                Exit::Refused,
                format!("{shown} is of no fleet"),
            ));
        }
    }
    ask::sure(sure.yes, &format!("take {shown} out of its fleet for good"))?;
    alone(global)?.leave_fleet(store)?.close()?;
    match global.json {
        true => table::print_json(&json!({"left": store})),
        false => {
            tell(&format!("{shown} is alone again"));
            Ok(())
        }
    }
}

fn status(door: &Door, global: &Global) -> Result<()> {
    let fleet = door.ask(&Ask::get("/v1/fleet"))?;
    let (server, away) = (&fleet["server"], fleet["servers_error"].as_str());
    match global.json {
        true => table::print_json(&fleet)?,
        false => {
            table::print_object(server)?;
            let columns = [
                "node", "position", "behind", "age", "lease", "is_gone", "peppers",
            ];
            list(global, &fleet["servers"], &columns)?;
        }
    }
    match (server["is_fresh"] == Value::Bool(true), away) {
        (true, None) => Ok(()),
        (_, Some(why)) => Err(Failure::new(Exit::Found, why)),
        (false, None) => Err(Failure::new(
            Exit::Found,
            "this server is not fresh, and verifies nothing",
        )),
    }
}

/// How a store takes part in a fleet whose log is in PostgreSQL.
#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use std::path::PathBuf;
    use std::sync::Arc;

    use clap::{Args, ValueHint};
    use gatekey::fleet::{Freshness, Settings};
    use gatekey_postgres::Config;
    use serde_json::json;

    use super::{Global, Result};
    use crate::door::{options, store_of};
    use crate::failure::Failure;
    use crate::local::tell;
    use crate::table;
    use crate::values::Time;

    #[derive(Debug, Clone, Default, Args)]
    #[command(next_help_heading = "Fleet")]
    pub(crate) struct LogArgs {
        /// The database with the log of the store's fleet: postgres://USER@HOST/DATABASE. Its
        /// password is in GATEKEY_LOG_PASSWORD, or in a file.
        // The environment's may have a password, which --help must not show.
        #[arg(
            long,
            global = true,
            env = "GATEKEY_LOG",
            hide_env_values = true,
            value_name = "URL"
        )]
        pub(crate) log: Option<String>,
        /// The file with the password of the database.
        #[arg(long, global = true, env = "GATEKEY_LOG_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
        pub(crate) log_password_file: Option<PathBuf>,
        /// The name of the log in the database, which can have several; gatekey, if not given.
        #[arg(long, global = true, env = "GATEKEY_LOG_NAME", value_name = "NAME")]
        pub(crate) log_name: Option<String>,
        /// The name of this server, of which the fleet has no other.
        #[arg(long, global = true, env = "GATEKEY_NODE", value_name = "NAME")]
        pub(crate) node: Option<String>,
        /// For how long the server verifies without news of the others; then it fails closed.
        /// The same for all. 10s, if not given.
        #[arg(long, global = true, env = "GATEKEY_FRESHNESS", value_name = "TIME")]
        pub(crate) freshness: Option<Time>,
        /// Go on verifying by what the server knew for this time, in the place of --freshness.
        #[arg(long, global = true, env = "GATEKEY_SERVE_STALE", value_name = "TIME")]
        pub(crate) serve_stale: Option<Time>,
        /// Do not wait for the other servers when access is taken away.
        #[arg(long, global = true)]
        pub(crate) locally: bool,
    }

    impl LogArgs {
        fn name(&self) -> &str {
            self.log_name.as_deref().unwrap_or("gatekey")
        }
    }

    /// The way to the database.
    fn config(global: &Global) -> Result<Config> {
        let missing = || Failure::usage("which log? give --log, or set GATEKEY_LOG");
        let given = &global.log;
        let mut config =
            Config::new(given.log.as_deref().ok_or_else(missing)?).map_err(Failure::usage)?;
        if let Some(file) = &given.log_password_file {
            let read = std::fs::read_to_string(file);
            let text =
                read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            config = config.password(text.trim_end_matches(['\r', '\n']));
        } else if let Ok(password) = std::env::var("GATEKEY_LOG_PASSWORD") {
            config = config.password(&password);
        }
        if let Some(file) = &global.ca_file {
            let named =
                |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|error| named(&error))?;
            config = config
                .root_certificates(&pem)
                .map_err(|error| named(&error))?;
        }
        Ok(config)
    }

    /// How the store takes part, where a log was named.
    pub(crate) fn settings(global: &Global) -> Result<Option<Settings>> {
        let given = &global.log;
        if given.log.is_none() {
            return Ok(None);
        }
        let config = config(global)?;
        let missing = || {
            Failure::usage(
                "which server is this? give --node, or set GATEKEY_NODE: a name of which the fleet has no other",
            )
        };
        let node = given.node.as_deref().ok_or_else(missing)?;
        let log = config.open(given.name()).map_err(Failure::usage)?;
        let time = |time: Time| time.some().map_err(Failure::usage);
        let freshness = match (given.serve_stale, given.freshness) {
            (Some(stale), _) => Freshness::ServeStale(time(stale)?),
            (None, Some(lease)) => Freshness::FailClosed(time(lease)?),
            (None, None) => Freshness::default(),
        };
        let settings = Settings::new(Arc::new(log), node).freshness(freshness);
        Ok(Some(match given.locally {
            true => settings.locally(),
            false => settings,
        }))
    }

    /// Refuses a password among the arguments, which every user of the host can read.
    pub(crate) fn refuse_shown_password(address: &str) -> Result<()> {
        match Config::new(address).is_ok_and(|config| config.has_password()) {
            true => Err(Failure::usage(
                "everybody on this host can read a password in --log: give it in GATEKEY_LOG_PASSWORD, or in a file by --log-password-file",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn create(global: &Global, schema: bool) -> Result<()> {
        let store = store_of(global)?;
        let config = config(global)?;
        let options = options(global)?;
        if schema {
            config.create_schema().map_err(Failure::fault)?;
        }
        let engine = options.found_fleet(store)?;
        let position = engine.fleet_status().map(|status| status.position);
        engine.close()?;
        let (name, shown) = (global.log.name(), store.display());
        match global.json {
            true => {
                table::print_json(&json!({"founded": name, "store": store, "position": position}))
            }
            false => {
                tell(&format!("founded the fleet {name} with {shown}"));
                Ok(())
            }
        }
    }
}
