//! The commands that are requests of the admin API.

mod backup;
mod keys;
mod keyspaces;
mod owners;
mod trail;

use gatekey_admin::wire;
use serde_json::{Value, json};

use crate::args::{Command, DryRun, Global, Key, Pepper, UsageOf, Verify};
use crate::ask;
use crate::door::{Ask, Door};
use crate::failure::{Exit, Failure, Result};
use crate::local::{print, tell};
use crate::table;

/// Opens a door, does the work, and closes the store where it is open here.
pub(crate) fn run(global: &Global, command: Command) -> Result<()> {
    if let Command::Backup { target } = &command {
        return backup::backup(global, target);
    }
    // Before the store is open: a person who types holds up nobody.
    let token = token_of(&command)?;
    let door = Door::open(global, None)?;
    let done = serve(&door, global, command, token);
    // What is written at the end is reported only where nothing else is.
    done.and(door.close())
}

/// The token that a command takes from stdin or a file.
fn token_of(command: &Command) -> Result<String> {
    let file = match command {
        Command::Verify(asked) => &asked.token.token_file,
        Command::Find(source) => &source.token_file,
        Command::Key(Key::Revoke {
            id: None,
            token_file,
            ..
        }) => token_file,
        Command::Import(asked) => return crate::import::token_of(asked),
        _ => return Ok(String::new()),
    };
    ask::token(file.as_deref())
}

fn serve(door: &Door, global: &Global, command: Command, token: String) -> Result<()> {
    match command {
        Command::Keyspace(command) => keyspaces::run(door, global, command),
        Command::Key(command) => keys::run(door, global, command, token),
        Command::Owner(command) => owners::run(door, global, command),
        Command::Audit(command) => trail::run(door, global, &command),
        Command::Import(asked) => crate::import::run(door, global, *asked, token),
        Command::Verify(asked) => verify(door, global, &asked, token),
        Command::Find(_) => {
            let body = wire::TokenRequest { token };
            print(global, &door.ask(&Ask::post("/v1/keys/find", &body)?)?)
        }
        Command::Usage(asked) => usage(door, global, &asked),
        Command::Hints => hints(door, global),
        Command::Stats => print(global, &door.ask(&Ask::get("/v1/stats"))?),
        Command::Clock => print(global, &door.ask(&Ask::get("/v1/clock"))?),
        Command::Health => {
            let health = door.ask(&Ask::get("/v1/health"))?;
            print(global, &health)?;
            match health["is_well"] == true && health["is_fresh"] != false {
                true => Ok(()),
                false => Err(Failure::silent(Exit::Found)),
            }
        }
        Command::Metrics => {
            door.copy(&Ask::get("/metrics"), &mut std::io::stdout())?;
            Ok(())
        }
        Command::Check => check(door, global),
        Command::Repair(sure) => {
            ask::sure(sure.yes, "repair the store")?;
            let body = wire::Nothing::default();
            print(global, &door.ask(&Ask::post("/v1/repair", &body)?)?)
        }
        Command::Purge { age, sure } => {
            let age = wire::Span(age.some().map_err(Failure::usage)?);
            let ask = |dry_run| {
                door.ask(&Ask::post(
                    "/v1/purge",
                    &wire::PurgeRequest { age, dry_run },
                )?)
            };
            planned(global, sure, ask, "keys", "remove for good")
        }
        Command::Compact => {
            let body = wire::Nothing::default();
            print(global, &door.ask(&Ask::post("/v1/compact", &body)?)?)
        }
        Command::Pepper(Pepper::Status) => {
            let answer = door.ask(&Ask::get("/v1/peppers"))?;
            list(
                global,
                &answer["peppers"],
                &["pepper", "keys", "is_signing"],
            )
        }
        Command::Api { method, path, body } => {
            let body = match body {
                Some(file) if file.as_os_str() == "-" => {
                    Some(std::io::read_to_string(std::io::stdin())?)
                }
                Some(file) => Some(
                    std::fs::read_to_string(&file)
                        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?,
                ),
                None => None,
            };
            let ask = Ask {
                method: &method.to_ascii_uppercase(),
                path: &path,
                body: body.map(Into::into),
                idempotency_key: None,
            };
            door.copy(&ask, &mut std::io::stdout())?;
            Ok(())
        }
        // The others were served before.
        _ => Err(Failure::fault("there is no such command")),
    }
}

/// Something that reaches many keys: says how many, asks, and does it. `ask` takes whether
/// it is a dry run.
fn planned(
    global: &Global,
    sure: DryRun,
    ask: impl Fn(bool) -> Result<Value>,
    count: &str,
    verb: &str,
) -> Result<()> {
    if sure.dry_run {
        return print(global, &ask(true)?);
    }
    if !sure.sure.yes {
        let plan = ask(true)?;
        let keys = plan[count].as_u64().unwrap_or(0);
        ask::sure(false, &format!("{verb} {keys} keys"))?;
    }
    print(global, &ask(false)?)
}

/// Objects: one a line, or a table of some members.
pub(crate) fn list(global: &Global, items: &Value, columns: &[&str]) -> Result<()> {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if global.json {
        return items.iter().try_for_each(table::print_json);
    }
    let row = |item: &Value| -> Vec<String> {
        columns
            .iter()
            .map(|column| table::shown(&item[*column]))
            .collect()
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    table::print(columns, &rows)
}

fn check(door: &Door, global: &Global) -> Result<()> {
    let report = door.ask(&Ask::post("/v1/check", &wire::Nothing::default())?)?;
    match global.json {
        true => table::print_json(&report)?,
        false => {
            if report["is_sound"] != true {
                list(global, &report["findings"], &["table", "record", "problem"])?;
            }
            let count = |name: &str| report[name].as_u64().unwrap_or(0);
            tell(&format!(
                "{} keys, {} audit entries, {} findings",
                count("keys"),
                count("audit_entries"),
                count("findings_total"),
            ));
        }
    }
    match report["is_sound"] == true {
        true => Ok(()),
        false => Err(Failure::silent(Exit::Found)),
    }
}

fn verify(door: &Door, global: &Global, asked: &Verify, token: String) -> Result<()> {
    let body = wire::VerifyRequest {
        token,
        keyspace: asked.keyspace.clone(),
        permissions: asked.permissions.clone(),
        source: asked.source,
        cost: asked.cost,
    };
    let verdict = door.ask(&Ask::post("/v1/verify", &body)?)?;
    print(global, &verdict)?;
    match verdict.get("granted").is_some() {
        true => Ok(()),
        false => Err(Failure::silent(Exit::Denied)),
    }
}

fn usage(door: &Door, global: &Global, asked: &UsageOf) -> Result<()> {
    let mut query = Query::default();
    query.add("keyspace", asked.keyspace.as_deref());
    query.add("owner_and_below", asked.owner.as_deref());
    let is_of_days = asked.last.is_some() || asked.hourly || asked.svg;
    if is_of_days || asked.key.is_some() || asked.unattributed {
        return days(door, global, asked, query);
    }
    print(global, &door.ask(&Ask::get(&query.after("/v1/usage")))?)
}

/// All pages of hints.
fn hints(door: &Door, global: &Global) -> Result<()> {
    let mut found: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = Query::default();
        query.add("after", after.as_deref());
        let page = door.ask(&Ask::get(&query.after("/v1/hints")))?;
        found.extend(page["hints"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let columns = [
        "rule", "key", "owner", "since", "count", "usual", "network", "text",
    ];
    list(global, &Value::Array(found), &columns)
}

/// The usage history: a table, or a chart.
fn days(door: &Door, global: &Global, asked: &UsageOf, mut query: Query) -> Result<()> {
    query.add("key", asked.key.as_deref());
    query.add("unattributed", asked.unattributed.then_some("true"));
    query.add("by", asked.hourly.then_some("hour"));
    if let Some(last) = asked.last {
        let clock = door.ask(&Ask::get("/v1/clock"))?;
        let now: gatekey::Timestamp =
            serde_json::from_value(clock["now"].clone()).map_err(Failure::fault)?;
        let from = now.saturating_sub(last.some().map_err(Failure::usage)?);
        query.add("from", Some(&from.to_string()));
    }
    if asked.svg && global.json {
        return Err(Failure::usage("--svg and --json exclude each other"));
    }
    if asked.svg {
        let ask = query.after("/v1/usage/chart");
        door.copy(&Ask::get(&ask), &mut std::io::stdout())?;
        return Ok(());
    }
    let answer = door.ask(&Ask::get(&query.after("/v1/usage/history")))?;
    if global.json {
        return table::print_json(&answer);
    }
    let bins = answer["bins"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let row = |bin: &Value| {
        let counts = bin["counts"].as_object();
        let denied = counts
            .into_iter()
            .flatten()
            .filter(|(code, _)| *code != "granted");
        let reasons: Vec<String> = denied
            .clone()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        let sum: u64 = denied.filter_map(|(_, count)| count.as_u64()).sum();
        vec![
            table::shown(&bin["begins_at"]),
            table::shown(&bin["counts"]["granted"]),
            sum.to_string(),
            table::shown(&Value::String(reasons.join(", "))),
        ]
    };
    let rows: Vec<Vec<String>> = bins.iter().map(row).collect();
    table::print(&["begins", "granted", "denied", "reasons"], &rows)
}

/// A query, encoded.
#[derive(Default)]
struct Query(Vec<String>);

impl Query {
    fn add(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push(format!("{name}={}", encoded(value)));
        }
    }

    fn after(&self, path: &str) -> String {
        match self.0.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", self.0.join("&")),
        }
    }
}

/// Everything but letters, digits and `-._~` as its code.
fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                safe.push(char::from(byte));
            }
            byte => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

/// A path with a name that a person gave in it.
fn path(before: &str, name: &str, after: &str) -> String {
    format!("{before}{}{after}", encoded(name))
}

/// A token for a program, and the rest for a person. With `--json`, all in one object.
fn issued(global: &Global, answer: &Value) -> Result<()> {
    use std::io::Write as _;
    if global.json {
        return table::print_json(answer);
    }
    let token = answer["token"].as_str().unwrap_or_default();
    writeln!(std::io::stdout(), "{token}")?;
    let key = &answer["key"];
    let ends = match &key["expires_at"] {
        Value::Null => "never expires".to_owned(),
        at => format!("expires at {}", table::shown(at)),
    };
    tell(&format!(
        "key {} of {}, {ends}; its token is shown this once",
        table::shown(&key["id"]),
        table::shown(&key["owner"]),
    ));
    if answer.get("old").is_some() {
        let old = json!({
            "old key": answer["old"]["id"],
            "accepted until": answer["old"]["retiring_until"],
        });
        tell(&table::shown(&old));
    }
    Ok(())
}
