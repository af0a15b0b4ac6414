//! `gatekey import`: keys of other systems, whose holders go on with the tokens that they have.

pub(crate) mod args;
mod formats;
mod kong;
mod source;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use gatekey_admin::wire::{
    ClaimRequest, ForeignKeyRequest, ImportDryRunRequest, ImportKeysRequest, ImportRequest, Patch,
    SunsetRequest,
};
use serde_json::{Value, json};

use crate::args::Global;
use crate::ask;
use crate::door::{Ask, Door, Progress};
use crate::failure::{Exit, Failure, Result};
use crate::local::{print, tell};
use crate::remote::list;
use crate::table;
use args::{Command, Import, Run};
use formats::Read;

/// How many keys one request has, and about how many bytes: the admin API takes 8 MiB.
const PER_REQUEST: usize = 10_000;
const BYTES_PER_REQUEST: usize = 6 << 20;
/// How many items are read ahead.
const AHEAD: usize = 2;
/// How many rows of a report are shown to a person.
const SHOWN_MAX: u64 = 100;

/// The token that a command takes from stdin or a file.
pub(crate) fn token_of(asked: &Import) -> Result<String> {
    match &asked.command {
        Some(Command::Claim { token, .. }) => ask::token(token.token_file.as_deref()),
        _ => Ok(String::new()),
    }
}

pub(crate) fn run(door: &Door, global: &Global, asked: Import, token: String) -> Result<()> {
    match (asked.command, asked.run) {
        (Some(Command::Status), _) => {
            let answer = door.ask(&Ask::get("/v1/imports"))?;
            let columns = ["name", "hash", "keys", "unseen", "sunset", "created_at"];
            list(global, &answer["imports"], &columns)
        }
        (
            Some(Command::Sunset {
                name,
                instant,
                sure,
            }),
            _,
        ) => {
            ask::sure(sure.yes, "change when unused keys end")?;
            let body = SunsetRequest {
                import: name,
                sunset: match instant.0 {
                    Some(instant) => Patch::Set(instant),
                    None => Patch::Clear,
                },
            };
            print(global, &door.ask(&Ask::post("/v1/imports/sunset", &body)?)?)
        }
        (Some(Command::Claim { name, id, .. }), _) => {
            let body = ClaimRequest {
                import: name,
                id,
                token,
            };
            print(global, &door.ask(&Ask::post("/v1/imports/claim", &body)?)?)
        }
        (None, Some(asked)) => import(door, global, &Arc::new(asked)),
        (None, None) => Err(Failure::usage("what to import? give --format and a file")),
    }
}

/// What became of the rows.
#[derive(Default)]
struct Report {
    rows: u64,
    imported: u64,
    present: u64,
    passed: u64,
    refused: u64,
    shown: u64,
}

impl Report {
    /// Notes a row, and shows it where somebody must look at it.
    fn row(&mut self, global: &Global, row: u64, outcome: &str, told: &Value) -> Result<()> {
        self.rows += 1;
        *match outcome {
            "imported" => &mut self.imported,
            "present" => &mut self.present,
            "passed" => &mut self.passed,
            _ => &mut self.refused,
        } += 1;
        let is_quiet = matches!(outcome, "imported" | "present");
        if global.json {
            let mut line = json!({"row": row, "outcome": outcome});
            for name in ["id", "source_id", "code", "detail"] {
                if !told[name].is_null() {
                    line[name] = told[name].clone();
                }
            }
            return table::print_json(&line);
        }
        if !is_quiet && self.shown < SHOWN_MAX {
            self.shown += 1;
            let detail = table::shown(&told["detail"]);
            tell(&gatekey::withheld(&format!(
                "row {row}: {outcome}: {detail}"
            )));
        }
        Ok(())
    }

    fn totals(&self, name: &str, dry_run: bool) -> Value {
        json!({
            "import": name,
            "rows": self.rows,
            "imported": self.imported,
            "present": self.present,
            "passed": self.passed,
            "refused": self.refused,
            "dry_run": dry_run,
        })
    }
}

/// Rows of a dry run that have the same token, since each request knows its own alone.
#[derive(Default)]
struct Seen(HashMap<[u64; 2], u64>);

impl Seen {
    /// The row that had the token before.
    fn before(&mut self, row: u64, key: &ForeignKeyRequest) -> Option<u64> {
        let secret = key.token.as_ref().or(key.digest.as_ref())?;
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, secret).hash(&mut hasher);
            hasher.finish()
        };
        match self.0.entry([hash(0), hash(1)]) {
            std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(row);
                None
            }
        }
    }
}

/// What the reader of the rows hands on, in their order.
enum Item {
    /// The source can be read.
    Begun,
    Row(u64, &'static str, String),
    Batch(Batch),
}

/// Keys as one request has them.
struct Batch {
    rows: Vec<(u64, Option<String>)>,
    body: Vec<u8>,
}

impl Batch {
    /// The beginning of the request: its list of keys is the last of its members.
    fn new(asked: &Run, new: &ImportRequest) -> Result<Self> {
        let keys = Vec::new();
        let body = match asked.dry_run {
            true => {
                let import = new.clone();
                serde_json::to_vec(&ImportDryRunRequest { import, keys })
            }
            false => {
                let import = new.name.clone();
                serde_json::to_vec(&ImportKeysRequest { import, keys })
            }
        };
        let mut body = body.map_err(Failure::fault)?;
        let is_list = body.ends_with(b"[]}");
        body.truncate(body.len().saturating_sub(2));
        match is_list {
            true => Ok(Self {
                rows: Vec::new(),
                body,
            }),
            false => Err(Failure::fault("the request does not end with its keys")),
        }
    }

    fn add(&mut self, row: u64, key: ForeignKeyRequest) -> Result<()> {
        if !self.rows.is_empty() {
            self.body.push(b',');
        }
        serde_json::to_writer(&mut self.body, &key).map_err(Failure::fault)?;
        self.rows.push((row, key.id));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= PER_REQUEST || self.body.len() >= BYTES_PER_REQUEST
    }

    fn finish(&mut self) {
        self.body.extend_from_slice(b"]}");
    }
}

/// Reads the rows, and makes requests of them, while those before are under way. Says how many
/// tokens begin as those of the keyspace do.
fn read(asked: &Run, new: &ImportRequest, to: &SyncSender<Item>) -> Result<u64> {
    let rows = source::rows(&asked.file, asked.format.bare())?;
    // Where nobody takes an item any more, it has failed, and says why.
    if to.send(Item::Begun).is_err() {
        return Ok(0);
    }
    let begins = format!("{}_", asked.keyspace);
    let mut seen = Seen::default();
    let mut batch = Batch::new(asked, new)?;
    let mut begins_alike = 0_u64;
    for row in rows {
        let (number, row) = row?;
        let item = match asked.read(&row) {
            Read::Key(key) => match seen_before(asked, &mut seen, number, &key) {
                Some(first) => {
                    let detail = format!("it has the token of row {first}");
                    Item::Row(number, "refused", detail)
                }
                None => {
                    let start = ["start", "prefix"]
                        .iter()
                        .find_map(|name| row.get(*name)?.as_str());
                    let start = key.token.as_deref().or(start).unwrap_or("");
                    begins_alike += u64::from(start.starts_with(&begins));
                    batch.add(number, *key)?;
                    if !batch.is_full() {
                        continue;
                    }
                    let next = Batch::new(asked, new)?;
                    Item::Batch(std::mem::replace(&mut batch, next))
                }
            },
            Read::Passed(why) => Item::Row(number, "passed", why.to_owned()),
            Read::Bad(why) => Item::Row(number, "refused", why),
        };
        if to.send(item).is_err() {
            return Ok(begins_alike);
        }
    }
    if !batch.rows.is_empty() {
        let _ = to.send(Item::Batch(batch));
    }
    Ok(begins_alike)
}

fn import(door: &Door, global: &Global, asked: &Arc<Run>) -> Result<()> {
    let new = asked.import();
    let mut report = Report::default();
    let (to, items) = std::sync::mpsc::sync_channel(AHEAD);
    // Not waited for where this fails: it may be reading a terminal.
    let reader = std::thread::spawn({
        let (asked, new) = (asked.clone(), new.clone());
        move || read(&asked, &new, &to)
    });
    let mut progress = Progress::default();
    for item in items {
        match item {
            Item::Begun if asked.dry_run => {}
            Item::Begun => drop(door.ask(&Ask::post("/v1/imports", &new)?)?),
            Item::Row(number, outcome, detail) => {
                report.row(global, number, outcome, &json!({"detail": detail}))?;
            }
            Item::Batch(batch) => {
                send(door, global, asked, batch, &mut report)?;
                progress.tell(&format!("{} rows", report.rows));
            }
        }
    }
    drop(progress);
    let read = reader.join();
    let begins_alike = read.map_err(|_| Failure::fault("reading the rows panicked"))??;
    if begins_alike > 0 {
        tell(&format!(
            "{begins_alike} tokens begin as those of keyspace {} do: their text does not say \
             which system issued them",
            asked.keyspace
        ));
    }
    if report.shown == SHOWN_MAX {
        tell("more rows were refused or passed over; --json names all");
    }
    print(global, &report.totals(&new.name, asked.dry_run))?;
    match report.refused {
        0 => Ok(()),
        refused => Err(Failure::new(
            Exit::Refused,
            format!("{refused} rows were refused"),
        )),
    }
}

fn send(
    door: &Door,
    global: &Global,
    asked: &Run,
    mut batch: Batch,
    report: &mut Report,
) -> Result<()> {
    batch.finish();
    let path = match asked.dry_run {
        true => "/v1/imports/dry-run",
        false => "/v1/imports/keys",
    };
    let mut answer = door.ask(&Ask::post_bytes(path, batch.body))?;
    let told = answer["keys"].as_array_mut();
    let told = told.map_or(&mut [][..], Vec::as_mut_slice);
    for ((number, id), told) in batch.rows.into_iter().zip(told) {
        told["source_id"] = json!(id);
        if asked.dry_run {
            // It was drawn for the answer alone.
            told["id"] = Value::Null;
        }
        let outcome = told["outcome"].as_str().unwrap_or("refused").to_owned();
        report.row(global, number, &outcome, told)?;
    }
    Ok(())
}

fn seen_before(asked: &Run, seen: &mut Seen, row: u64, key: &ForeignKeyRequest) -> Option<u64> {
    match asked.dry_run {
        true => seen.before(row, key),
        false => None,
    }
}
