//! The audit trail.

use std::io::Write as _;

use gatekey_admin::wire::{Nothing, TrimRequest};
use serde_json::Value;

use crate::args::{Audit, Global};
use crate::ask;
use crate::door::{Ask, Door};
use crate::failure::{Exit, Failure, Result};
use crate::local::print;
use crate::table;

/// How many entries one request asks for.
const PAGE: usize = 500;

pub(super) fn run(door: &Door, global: &Global, command: &Audit) -> Result<()> {
    match command {
        Audit::List { from, limit, last } => {
            let from = match last {
                Some(last) => newest(door, *last)?,
                None => *from,
            };
            list(door, global, from, *limit)
        }
        Audit::Export { from } => {
            let path = format!("/v1/audit/export?from={from}");
            door.copy(&Ask::get(&path), &mut std::io::stdout())?;
            Ok(())
        }
        Audit::Key => {
            let answer = door.ask(&Ask::post("/v1/audit/key", &Nothing::default())?)?;
            match global.json {
                true => table::print_json(&answer),
                false => Ok(writeln!(
                    std::io::stdout(),
                    "{}",
                    table::shown(&answer["key"])
                )?),
            }
        }
        Audit::Span => print(global, &door.ask(&Ask::get("/v1/audit/span"))?),
        Audit::Trim { through, sure } => {
            ask::sure(
                sure.yes,
                &format!("remove the audit entries up to {through} for good"),
            )?;
            print(
                global,
                &door.ask(&Ask::post(
                    "/v1/audit/trim",
                    &TrimRequest { through: *through },
                )?)?,
            )
        }
        // Served without a store.
        Audit::Verify { .. } => Ok(()),
    }
}

/// The position from which on the trail has so many entries.
fn newest(door: &Door, count: u64) -> Result<u64> {
    let span = door.ask(&Ask::get("/v1/audit/span"))?;
    let link = span["last"].as_str().unwrap_or_default();
    let link: gatekey::Link = (link.parse())
        .map_err(|error: gatekey::ParseError| Failure::new(Exit::Fault, error.to_string()))?;
    Ok(link.seq.saturating_sub(count).saturating_add(1))
}

fn list(door: &Door, global: &Global, from: u64, limit: Option<usize>) -> Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut from = Some(from);
    let mut shown = Vec::new();
    while let (Some(at), true) = (from, left > 0) {
        let path = format!("/v1/audit?from={at}&limit={}", left.min(PAGE));
        let page = door.ask(&Ask::get(&path))?;
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        left = left.saturating_sub(entries.len());
        from = page["next"].as_u64();
        match global.json {
            true => entries.iter().try_for_each(table::print_json)?,
            false => shown.extend(entries.iter().map(row)),
        }
    }
    match global.json {
        true => Ok(()),
        false => table::print(&HEAD, &shown),
    }
}

pub(super) const HEAD: [&str; 5] = ["seq", "at", "actor", "event", "about"];

pub(super) fn row(entry: &Value) -> Vec<String> {
    let mut about = entry["event"].clone();
    if let Some(members) = about.as_object_mut() {
        members.retain(|name, value| name != "type" && !value.is_null());
    }
    vec![
        table::shown(&entry["seq"]),
        table::shown(&entry["at"]),
        table::shown(&entry["actor"]),
        table::shown(&entry["event"]["type"]),
        table::shown(&about),
    ]
}
