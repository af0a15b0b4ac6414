//! `gatekey`: API keys from the command line, on a store's file and while a server holds it.
//!
//! Each command is a request of the admin API (`gatekey-admin`), which goes to a router in
//! this process, to a server's socket, or to a server's address: so what a command does and
//! answers is the same on all ways. docs/CLI.md is the guide.

mod args;
mod ask;
mod complete;
mod door;
mod failure;
mod fleet;
mod holder;
mod import;
mod local;
mod remote;
mod table;
mod tls;
mod values;

use std::io::Write as _;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command, Global};
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let matches = Cli::command().get_matches();
    let done = Cli::from_arg_matches(&matches)
        .map_err(Failure::usage)
        .and_then(|cli| {
            let global = which(cli.global, &matches)?;
            run(&global, cli.command)
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                // Where stderr is closed, the code says enough.
                let _ = writeln!(std::io::stderr(), "gatekey: {}", failure.text);
            }
            failure.exit.into()
        }
    }
}

/// What the command line says goes before what the environment says.
fn which(mut global: Global, matches: &ArgMatches) -> Result<Global> {
    let mut deepest = matches;
    while let Some((_, below)) = deepest.subcommand() {
        deepest = below;
    }
    let is_said = |name: &str| deepest.value_source(name) == Some(ValueSource::CommandLine);
    match (is_said("store"), is_said("url")) {
        (true, true) => return Err(Failure::usage("--store and --url exclude each other")),
        (true, false) => global.url = None,
        (false, true) => global.store = None,
        (false, false) => {}
    }
    #[cfg(feature = "postgres")]
    if let Some(address) = global.log.log.as_deref().filter(|_| is_said("log")) {
        fleet::postgres::refuse_shown_password(address)?;
    }
    Ok(global)
}

fn run(global: &Global, command: Command) -> Result<()> {
    match command {
        Command::Init => local::init(global),
        Command::Inspect(source) => local::inspect(global, &source),
        Command::Restore(asked) => local::restore(global, &asked),
        Command::Serve(asked) => local::serve(global, &asked),
        Command::Fleet(command) => fleet::run(global, &command),
        Command::Pepper(args::Pepper::Rotate { new }) => local::rotate_pepper(global, &new),
        Command::Audit(args::Audit::Verify(asked)) => local::verify_audit(global, &asked),
        Command::Completions { shell } => local::completions(shell),
        Command::Man => local::man(),
        command => remote::run(global, command),
    }
}
