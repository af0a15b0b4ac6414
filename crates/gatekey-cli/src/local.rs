//! What needs no server, or no store: creating one, reading a text's form, restoring,
//! serving.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::CommandFactory as _;
use gatekey::{AuditKey, Engine, Error, OpenError, Reason, Restore, inspect_token};
use serde_json::{Value, json};

use crate::args::{self, Cli, Global, TokenSource};
use crate::ask;
use crate::door::{actor, alone, names_log, options, store_of};
use crate::failure::{Exit, Failure, Result};
use crate::holder::holder;
use crate::table;
use crate::values::PepperFile;

/// Tells a person what was done. Whoever does not read it misses nothing.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn print(global: &Global, value: &Value) -> Result<()> {
    match global.json {
        true => table::print_json(value),
        false => table::print_object(value),
    }
}

/// A value that serialises.
pub(crate) fn value_of(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(Failure::fault)
}

pub(crate) fn init(global: &Global) -> Result<()> {
    let store = store_of(global)?;
    alone(global)?.create(store)?.close()?;
    match global.json {
        true => table::print_json(&json!({"created": store})),
        false => {
            tell(&format!("created {}", store.display()));
            Ok(())
        }
    }
}

pub(crate) fn inspect(global: &Global, source: &TokenSource) -> Result<()> {
    let text = ask::token(source.token_file.as_deref())?;
    match inspect_token(&text) {
        Some(form) => print(
            global,
            &json!({
                "form": "token",
                "keyspace": form.prefix.as_str(),
                "id": form.key.to_string(),
            }),
        ),
        None => {
            print(global, &json!({"form": "malformed"}))?;
            Err(Failure::silent(Exit::Denied))
        }
    }
}

pub(crate) fn restore(global: &Global, asked: &args::Restore) -> Result<()> {
    if asked.trails.is_empty() {
        ask::sure(
            asked.sure.yes,
            "restore without --trail, which makes keys good again that were revoked after the backup",
        )?;
    }
    let mut restore = Restore::new(&asked.backup, alone(global)?)
        .acting_as(actor())
        .revoke(asked.revoke.iter().copied(), Reason::Unspecified);
    for path in &asked.trails {
        let failed = |error| Failure::usage(format!("{}: {error}", path.display()));
        restore = restore.trail(BufReader::new(File::open(path).map_err(failed)?));
    }
    let restored = restore.to(&asked.target)?;
    print(global, &value_of(&restored)?)?;
    match restored.report.is_sound() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Found, "the restored store is not sound")),
    }
}

/// The store signs with the new pepper once it was opened with it.
pub(crate) fn rotate_pepper(global: &Global, new: &PepperFile) -> Result<()> {
    let store = store_of(global)?;
    let pepper = new.read().map_err(Failure::usage)?;
    let id = pepper.id();
    let engine = match options(global)?.pepper(pepper).open(store) {
        Err(
            error @ Error::Open {
                reason: OpenError::InUse,
                ..
            },
        ) => {
            let text = format!(
                "{error}{}: stop the server, and start it with both peppers; that rotates",
                holder(store)
            );
            return Err(Failure::new(Exit::Locked, text));
        }
        opened => opened?,
    };
    let peppers = engine.peppers()?;
    engine.close()?;
    let signs = peppers.iter().any(|of| of.is_signing && of.pepper == id);
    print(global, &json!({"peppers": peppers}))?;
    match signs {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Refused,
            format!("pepper {id} is not the one with the highest id, and does not sign"),
        )),
    }
}

pub(crate) fn verify_audit(global: &Global, asked: &args::VerifyAudit) -> Result<()> {
    let (file, key_file) = (&asked.file, &asked.key_file);
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error| Failure::usage(format!("{path}: {error}"))
    };
    let text = std::fs::read_to_string(key_file).map_err(named(key_file))?;
    let refuse = || Failure::usage("the key is 64 hexadecimal digits, as `audit key` prints them");
    let key: [u8; 32] = hex(text.trim())
        .and_then(|key| key.try_into().ok())
        .ok_or_else(refuse)?;
    let export = BufReader::new(File::open(file).map_err(named(file))?);
    let mut entries = 0_u64;
    let mut printed = Ok(());
    let verified = gatekey::verify_audit_export(export, &AuditKey::new(key), |entry| {
        entries += 1;
        if asked.entries && printed.is_ok() {
            printed = value_of(&entry).and_then(|entry| table::print_json(&entry));
        }
        Ok(())
    });
    let span = verified.map_err(|error| Failure::new(Exit::Found, error))?;
    printed?;
    match asked.entries {
        true => {
            tell(&format!("{entries} entries, all sound"));
            Ok(())
        }
        false => print(
            global,
            &json!({"is_sound": true, "entries": entries, "after": span.after, "last": span.last}),
        ),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
        let pair = std::str::from_utf8(pair).ok().filter(|_| is_hex)?;
        u8::from_str_radix(pair, 16).ok()
    };
    match rest.is_empty() {
        true => pairs.iter().map(byte).collect(),
        false => None,
    }
}

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<()> {
    // The script asks this program, which asks the store.
    let name = shell.to_string();
    let shells = clap_complete::env::Shells::builtins();
    let shell = shells
        .completer(&name)
        .ok_or_else(|| Failure::usage(format!("no completions for {name}")))?;
    let mut script = Vec::new();
    shell.write_registration("COMPLETE", "gatekey", "gatekey", "gatekey", &mut script)?;
    Ok(std::io::stdout().write_all(&script)?)
}

pub(crate) fn man() -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    Ok(std::io::stdout().write_all(&page)?)
}

pub(crate) fn serve(global: &Global, asked: &args::Serve) -> Result<()> {
    let store = store_of(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before the store is open, so that no signal is lost.
    let stop = {
        let _inside = runtime.enter();
        stop_signal()?
    };
    let mut stop = std::pin::pin!(stop);
    let told = |time| {
        // A timer is made inside the runtime.
        let stopped = async { tokio::time::timeout(time, stop.as_mut()).await };
        runtime.block_on(stopped).is_ok()
    };
    let Some(engine) = open_or_wait(global, asked, store, told)? else {
        return Ok(());
    };
    let served = doors(global, asked, store, &engine).map(|doors| {
        runtime.block_on(stop);
        drop(doors);
    });
    // Writes usage, and gives quota slices back, also where a door could not be opened.
    engine.close()?;
    served
}

/// Opens the store, or waits for another process that holds it. `told` waits for some time, and
/// says whether the process was told to stop meanwhile; `None` where it was.
fn open_or_wait(
    global: &Global,
    asked: &args::Serve,
    store: &Path,
    mut told: impl FnMut(Duration) -> bool,
) -> Result<Option<Engine>> {
    let wait = asked.wait.some().map_err(Failure::usage)?;
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let options = options(global)?.note_networks(asked.note_networks);
        let opened = match (asked.create, names_log(global)) {
            (true, true) => options.join_fleet(store),
            (true, false) => options.open_or_create(store),
            (false, _) => options.open(store),
        };
        match opened {
            Err(
                error @ Error::Open {
                    reason: OpenError::InUse,
                    ..
                },
            ) => {
                if began.elapsed() >= wait {
                    let text = format!("{error}{}", holder(store));
                    return Err(Failure::new(Exit::Locked, text));
                }
                if !std::mem::replace(&mut is_told, true) {
                    tell(&format!("waiting for {}{}", store.display(), holder(store)));
                }
                if told(Duration::from_millis(200)) {
                    return Ok(None);
                }
            }
            opened => return Ok(Some(opened?)),
        }
    }
}

fn doors(
    global: &Global,
    asked: &args::Serve,
    store: &Path,
    engine: &Engine,
) -> Result<Vec<gatekey_admin::Door>> {
    let mut admin = gatekey_admin::Admin::new(engine.clone());
    if let Some(prefix) = asked.admin_keyspace {
        admin = admin.admin_keyspace(prefix)?;
    }
    let mut doors = Vec::new();
    #[cfg(unix)]
    {
        let beside = || gatekey_admin::socket_beside(store);
        let path = global.socket.clone().unwrap_or_else(beside);
        doors.push(admin.open_socket(&path)?);
        tell(&format!(
            "serving {} at {}",
            store.display(),
            path.display()
        ));
    }
    if let Some(address) = asked.tcp {
        let door = admin.open_tcp(std::net::TcpListener::bind(address)?)?;
        if let Some(address) = door.address() {
            tell(&format!("serving {} at http://{address}", store.display()));
        }
        doors.push(door);
    }
    let _ = (global, store);
    Ok(doors)
}

/// Resolves when the process is told to stop. Signals count from the call on.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut signals = {
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    Ok(async move {
        #[cfg(unix)]
        {
            let (terminated, interrupted) = &mut signals;
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}
