//! `gatekey import`: keys of other systems, whose holders go on with the tokens that they have.

pub(crate) mod args;
mod formats;
mod kong;
mod source;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gatekey_admin::wire::{
    ClaimRequest, ForeignKeyRequest, ImportDryRunRequest, ImportKeysRequest, Patch, SunsetRequest,
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

/// How many keys one request has.
const PER_REQUEST: usize = 5_000;
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
        (None, Some(asked)) => import(door, global, &asked),
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

fn import(door: &Door, global: &Global, asked: &Run) -> Result<()> {
    let new = asked.import();
    let name = new.name.clone();
    let rows = source::rows(&asked.file, asked.format.bare())?;
    if !asked.dry_run {
        door.ask(&Ask::post("/v1/imports", &new)?)?;
    }
    let (mut report, mut seen) = (Report::default(), Seen::default());
    let mut progress = Progress::default();
    let mut batch: Vec<(u64, ForeignKeyRequest)> = Vec::new();
    let mut begins_alike = 0_u64;
    let send = |batch: &mut Vec<(u64, ForeignKeyRequest)>, report: &mut Report| {
        let (numbers, keys): (Vec<u64>, Vec<ForeignKeyRequest>) = batch.drain(..).unzip();
        let ids: Vec<Option<String>> = keys.iter().map(|key| key.id.clone()).collect();
        let answer = match asked.dry_run {
            true => {
                let import = new.clone();
                let body = ImportDryRunRequest { import, keys };
                door.ask(&Ask::post("/v1/imports/dry-run", &body)?)?
            }
            false => {
                let import = name.clone();
                let body = ImportKeysRequest { import, keys };
                door.ask(&Ask::post("/v1/imports/keys", &body)?)?
            }
        };
        let told = answer["keys"].as_array().map_or(&[][..], Vec::as_slice);
        for ((number, id), told) in numbers.into_iter().zip(ids).zip(told) {
            let mut told = told.clone();
            told["source_id"] = json!(id);
            if asked.dry_run {
                // It was drawn for the answer alone.
                told["id"] = Value::Null;
            }
            let outcome = told["outcome"].as_str().unwrap_or("refused").to_owned();
            report.row(global, number, &outcome, &told)?;
        }
        Ok::<(), Failure>(())
    };
    for row in rows {
        let (number, row) = row?;
        match asked.read(&row) {
            Read::Key(key) => {
                if let Some(first) = seen_before(asked, &mut seen, number, &key) {
                    let detail = format!("it has the token of row {first}");
                    report.row(global, number, "refused", &json!({"detail": detail}))?;
                    continue;
                }
                let begins = format!("{}_", asked.keyspace);
                let start = ["start", "prefix"]
                    .iter()
                    .find_map(|name| row.get(*name)?.as_str());
                let start = key.token.as_deref().or(start).unwrap_or("");
                begins_alike += u64::from(start.starts_with(&begins));
                batch.push((number, *key));
                if batch.len() == PER_REQUEST {
                    send(&mut batch, &mut report)?;
                    progress.tell(&format!("{} rows", report.rows));
                }
            }
            Read::Passed(why) => report.row(global, number, "passed", &json!({"detail": why}))?,
            Read::Bad(why) => report.row(global, number, "refused", &json!({"detail": why}))?,
        }
    }
    if !batch.is_empty() {
        send(&mut batch, &mut report)?;
    }
    drop(progress);
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
    print(global, &report.totals(&name, asked.dry_run))?;
    match report.refused {
        0 => Ok(()),
        refused => Err(Failure::new(
            Exit::Refused,
            format!("{refused} rows were refused"),
        )),
    }
}

fn seen_before(asked: &Run, seen: &mut Seen, row: u64, key: &ForeignKeyRequest) -> Option<u64> {
    match asked.dry_run {
        true => seen.before(row, key),
        false => None,
    }
}
