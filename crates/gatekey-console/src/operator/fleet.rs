//! The servers of the fleet, and what this one knows.

use std::time::Duration;

use gatekey::fleet::{Server, Status};

use super::Ask;
use super::metrics::short;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Blocks, Cell, Facts, Lead, Note, Row, Table};

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let asked = call.engine().fleet_servers();
    let mut blocks = Blocks::new();
    let Some(status) = call.engine().fleet_status() else {
        blocks.push(&Lead {
            text: call.t("fleet.alone"),
        });
        return Ok(Page::new(call.t("nav.fleet"), blocks).into());
    };
    if !status.is_fresh {
        let why = status.error.as_ref().map(ToString::to_string);
        let text = why.unwrap_or_else(|| call.t("fleet.no_news"));
        blocks.push(&Note::new("bad", call.t("fleet.stale"), text));
    }
    match asked {
        Ok(servers) => blocks.push(&table(call, &status, &servers)),
        Err(error) => blocks.push(&Note::new("warn", call.t("fleet.away"), error.to_string())),
    }
    blocks.push(&facts(call, &status));
    Ok(Page::new(call.t("nav.fleet"), blocks).into())
}

fn table(call: &Ask, status: &Status, servers: &[Server]) -> Table {
    let row = |server: &Server| -> Row {
        let (class, word) = match server.is_gone {
            true => ("revoked", call.t("fleet.gone")),
            false => ("active", call.t("fleet.beats")),
        };
        let name = match server.node == status.node {
            true => call.with("fleet.this_one", &[&server.node]),
            false => server.node.clone(),
        };
        vec![
            Cell::Text(name),
            Cell::State { class, word },
            number(server.position),
            number(server.behind),
            time(call, server.age),
            time(call, server.lease),
            Cell::Text(peppers(server)),
        ]
        .into()
    };
    Table {
        caption: call.t("fleet.servers"),
        columns: [
            "fleet.node",
            "fleet.state",
            "fleet.position",
            "fleet.behind",
            "fleet.last_beat",
            "fleet.lease",
            "fleet.peppers",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows: servers.iter().map(row).collect(),
        empty: call.t("fleet.none"),
        ..Table::default()
    }
}

fn facts(call: &Ask, status: &Status) -> Facts {
    let (class, word) = match status.is_fresh {
        true => ("active", call.t("fleet.fresh")),
        false => ("revoked", call.t("fleet.stale")),
    };
    let age = match status.age {
        Some(age) => time(call, age),
        None => Cell::Text(call.t("fleet.never")),
    };
    Facts {
        heading: call.with("fleet.facts", &[&status.node]),
        rows: vec![
            (call.t("fleet.state"), Cell::State { class, word }),
            (call.t("fleet.age"), age),
            (call.t("fleet.lease"), time(call, status.lease)),
            (call.t("fleet.position"), number(status.position)),
            (call.t("fleet.behind"), number(status.behind())),
            (call.t("fleet.applied"), number(status.applied)),
            (call.t("fleet.appended"), number(status.appended)),
            (call.t("fleet.overtaken"), number(status.overtaken)),
            (call.t("fleet.unknown"), number(status.unknown)),
            (call.t("fleet.failures"), number(status.failures)),
        ],
    }
}

fn number(value: u64) -> Cell {
    Cell::Number(format::number(value))
}

/// `230 ms`, `10 seconds`, `3 days`.
fn time(call: &Ask, time: Duration) -> Cell {
    match time < Duration::from_secs(1) {
        true => Cell::Text(short(time)),
        false => Cell::Text(format::about(&call.site.look.texts, time)),
    }
}

/// `2, 1`: the newest first.
fn peppers(server: &Server) -> String {
    let peppers = server.peppers.iter().flatten();
    peppers.map(u8::to_string).collect::<Vec<_>>().join(", ")
}
