//! All keys, by filters that stand in the address.

use std::time::Duration;

use gatekey::{Cursor, Error, Key, KeyFilter, KeyState, OwnerPath, Prefix};
use gatekey_admin::Right;

use super::{Ask, find};
use crate::fields::query;
use crate::format;
use crate::reply::{Body, Fault, Page, Reply};
use crate::view::{
    Actions, Blocks, Cell, Choice, Field, Form, Kind, Link, Note, Pick, Row, Select, Table,
    class_of,
};

const PAGE: usize = 50;
/// How many keys are looked at for one page, so that it comes soon where few keys match its
/// filters. Less in tests, which have fewer keys.
pub(super) const LOOKED_AT_MAX: usize = if cfg!(test) { 60 } else { 10_000 };
/// The most rows of a file.
const ROWS_MAX: usize = 100_000;

pub(super) const STATES: [KeyState; 7] = [
    KeyState::Active,
    KeyState::Retiring,
    KeyState::NotYetValid,
    KeyState::Disabled,
    KeyState::Suspended,
    KeyState::Expired,
    KeyState::Revoked,
];

/// The names of the filters in an address, in their order.
const FILTERS: [&str; 6] = ["keyspace", "owner", "name", "state", "label", "ends"];

/// The filters of an address. One that cannot be read finds nothing, and says so.
///
/// The newest keys come first, since a person looks for those most often; those of an owner
/// in the order of the owners below it, and those that end soon by their ends.
fn filter(call: &Ask) -> Result<KeyFilter, Fault> {
    let mut filter = KeyFilter::new();
    if call.query.one("owner")?.is_none() && call.query.one("ends")?.is_none() {
        filter = filter.newest_first();
    }
    if let Some(prefix) = call.query.one("keyspace")? {
        let prefix: Prefix = prefix.parse().map_err(Error::from)?;
        filter = filter.keyspace(prefix);
    }
    if let Some(owner) = call.query.one("owner")? {
        let owner: OwnerPath = owner.trim().parse().map_err(Error::from)?;
        filter = filter.owner_and_below(owner);
    }
    if let Some(part) = call.query.one("name")? {
        filter = filter.name_contains(part);
    }
    if let Some(state) = call.query.one("state")? {
        let mut states = STATES.into_iter();
        let state = states.find(|of| class_of(*of) == state);
        filter = filter.state(state.ok_or(Fault::Tampered)?);
    }
    if let Some(label) = call.query.one("label")? {
        filter = match label.split_once('=') {
            Some((name, value)) => filter.label(name, value),
            None => filter.has_label(label),
        };
    }
    if let Some(days) = call.query.one("ends")? {
        let days: u32 = days.parse().map_err(|_| Fault::Tampered)?;
        filter = filter.expires_within(Duration::from_secs(86_400) * days);
    }
    Ok(filter)
}

/// The filters again, for another address. No text of a token is kept.
fn kept(call: &Ask) -> Result<Vec<(&'static str, String)>, Fault> {
    let mut kept = Vec::new();
    for name in FILTERS {
        if let Some(value) = call.query.one(name)? {
            kept.push((name, gatekey::withheld(value).into_owned()));
        }
    }
    Ok(kept)
}

fn address(path: &str, kept: &[(&'static str, String)], more: &[(&str, &str)]) -> String {
    let pairs = kept.iter().map(|(name, value)| (*name, value.as_str()));
    format!("{path}{}", query(pairs.chain(more.iter().copied())))
}

fn filter_form(call: &Ask, kept: &[(&'static str, String)]) -> Result<Form, Fault> {
    let value = |name: &str| {
        let found = kept.iter().find(|(of, _)| *of == name);
        found.map_or("", |(_, value)| value.as_str()).to_owned()
    };
    let choose = |choices: Vec<(String, String)>, name: &str| -> Vec<Choice> {
        let chosen = value(name);
        let any = std::iter::once((String::new(), call.t("filter.any")));
        any.chain(choices)
            .map(|(value, text)| Choice::new(&value, text).chosen(value == chosen))
            .collect()
    };
    let keyspaces = call.engine().keyspaces()?;
    let keyspaces = keyspaces
        .iter()
        .map(|of| (of.prefix.to_string(), of.prefix.to_string()));
    let states = STATES.iter().map(|state| {
        let class = class_of(*state);
        (class.to_owned(), call.t(&format!("state.{class}")))
    });
    let days = [1, 7, 30, 90].map(|days: u32| {
        let span = Duration::from_secs(86_400) * days;
        (days.to_string(), format::span(&call.site.look.texts, span))
    });
    let select = |name: &str, label: &str, choices| {
        Field::new(Kind::Select, name, call.t(label)).choices(choices)
    };
    Ok(Form::get(call.at("/keys"), call.t("filter.submit"))
        .inline()
        .heading(call.t("filter.title"))
        .field(select(
            "keyspace",
            "filter.keyspace",
            choose(keyspaces.collect(), "keyspace"),
        ))
        .field(Field::new(Kind::Text, "owner", call.t("filter.owner")).value(value("owner")))
        .field(Field::new(Kind::Text, "name", call.t("filter.name")).value(value("name")))
        .field(select(
            "state",
            "key.state",
            choose(states.collect(), "state"),
        ))
        .field(Field::new(Kind::Text, "label", call.t("filter.label")).value(value("label")))
        .field(select("ends", "filter.ends", choose(days.to_vec(), "ends"))))
}

pub(super) fn list(call: &Ask) -> Result<Reply, Fault> {
    let kept = kept(call)?;
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    blocks.push(&find::form(call));
    blocks.push(&filter_form(call, &kept)?);
    let filter = match filter(call) {
        Ok(filter) => filter,
        Err(fault) => {
            let (title, text) = call.problem(&fault);
            blocks.push(&Note::new("bad", title, text));
            let page = Page::new(call.t("allkeys.title"), blocks);
            return Ok(page.status(fault.status()).into());
        }
    };
    let after: Option<Cursor> = match call.query.one("after")? {
        Some(after) => Some(after.parse().map_err(|_| Fault::Tampered)?),
        None => None,
    };
    let _ = call.engine().flush();
    let filter = filter.looking_at_most(LOOKED_AT_MAX);
    let page = call.engine().keys_page(&filter, after.as_ref(), PAGE)?;
    let is_short = page.next.is_some() && page.keys.len() + page.damaged.len() < PAGE;
    let looked_at = format::number(LOOKED_AT_MAX as u64);
    let mut links = Vec::new();
    if call.who.may(Right::Issue) {
        links.push(Link::new(call.at("/keys/new"), call.t("keys.new")).class("primary"));
    }
    let csv = address(&call.at("/keys.csv"), &kept, &[]);
    links.push(Link::new(csv, call.t("allkeys.csv")));
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links,
    });
    if !page.damaged.is_empty() {
        let text = call.with("allkeys.damaged", &[&page.damaged.len()]);
        blocks.push(&Note::new("bad", call.t("allkeys.damaged_title"), text));
    }
    let next = page.next.as_ref().map(|next| {
        let next = next.to_string();
        let href = address(&call.at("/keys"), &kept, &[("after", &next)]);
        let text = match is_short {
            true => call.with("allkeys.go_on", &[&looked_at]),
            false => call.t("allkeys.next"),
        };
        Link::new(href, text)
    });
    if is_short {
        let text = call.with("allkeys.short", &[&looked_at]);
        blocks.push(&Note::new("info", call.t("allkeys.short_title"), text));
    }
    let mut table = table(call, call.t("allkeys.caption"), &page.keys);
    table.empty = match is_short {
        true => call.t("allkeys.empty_here"),
        false => call.t("allkeys.empty"),
    };
    table.next = next;
    table.pick = pick(call);
    blocks.push(&table);
    Ok(Page::new(call.t("allkeys.title"), blocks).into())
}

/// What may be done with several keys at once.
fn pick(call: &Ask) -> Option<Pick> {
    let mut options = Vec::new();
    if call.who.may(Right::Revoke) {
        options.push(Choice::new("disable", call.t("bulk.disable")));
    }
    if call.who.may(Right::Issue) {
        options.push(Choice::new("enable", call.t("bulk.enable")));
    }
    if call.who.may(Right::Revoke) {
        options.push(Choice::new("revoke", call.t("bulk.revoke")));
    }
    (!options.is_empty()).then(|| Pick {
        action: call.at("/keys/bulk"),
        label: call.t("bulk.pick"),
        all: call.t("bulk.all"),
        what: Select {
            name: "what",
            label: call.t("bulk.what"),
            options,
        },
        submit: call.t("bulk.go"),
    })
}

pub(super) fn table(call: &Ask, caption: String, keys: &[Key]) -> Table {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let row = |key: &Key| Row {
        cells: vec![
            Cell::Entry {
                href: call.at(&format!("/keys/{}", key.id)),
                text: format::name_of(key),
                below: match key.name {
                    Some(_) => key.id.to_string(),
                    None => String::new(),
                },
            },
            Cell::Link {
                href: owner_address(call, key.owner.as_str()),
                text: key.owner.to_string(),
            },
            Cell::Text(key.keyspace.to_string()),
            format::state(texts, key.state),
            format::used(texts, key, now),
            format::expiry(texts, key, now),
        ],
        id: key.id.to_string(),
        name: call.with("bulk.pick_one", &[&format::name_of(key), &key.owner]),
    };
    Table {
        caption,
        columns: [
            "key.name",
            "key.owner",
            "key.keyspace",
            "key.state",
            "key.last_used",
            "key.ends",
        ]
        .map(|name| call.t(name))
        .to_vec(),
        rows: keys.iter().map(row).collect(),
        ..Table::default()
    }
}

pub(super) fn owner_address(call: &Ask, owner: &str) -> String {
    call.at(&format!("/owners/one{}", query([("owner", owner)])))
}

/// A cell of a file. One that a spreadsheet would take for a formula gets a quote before.
fn cell(out: &mut String, text: &str) {
    out.push('"');
    if text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]) {
        out.push('\'');
    }
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

pub(super) fn csv(call: &Ask) -> Result<Reply, Fault> {
    let filter = filter(call)?;
    let _ = call.engine().flush();
    let mut out =
        "id,name,owner,keyspace,state,plan,created,created_by,last_used,requests,ends\r\n"
            .to_owned();
    for key in call.engine().keys(filter).take(ROWS_MAX) {
        let key = match key {
            Ok(key) => key,
            Err(Error::Corrupted(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let instant =
            |at: Option<gatekey::Timestamp>| at.map_or(String::new(), |at| at.to_string());
        let cells = [
            key.id.to_string(),
            key.name.clone().unwrap_or_default(),
            key.owner.to_string(),
            key.keyspace.to_string(),
            key.state.to_string(),
            key.plan.clone().unwrap_or_default(),
            key.created_at.to_string(),
            key.created_by.clone().unwrap_or_default(),
            instant(key.usage.last_used),
            key.usage.count.to_string(),
            instant(format::end_of(&key)),
        ];
        for (index, text) in cells.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            cell(&mut out, text);
        }
        out.push_str("\r\n");
    }
    Ok(Body::File {
        name: "keys.csv".to_owned(),
        media: "text/csv; charset=utf-8",
        body: axum::body::Body::from(out),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn no_cell_of_a_file_is_a_formula_or_two_cells() {
        for (text, wanted) in [
            ("plain", "\"plain\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("a\",=b", "\"a\"\",=b\""),
        ] {
            let mut out = String::new();
            cell(&mut out, text);
            assert_eq!(out, wanted);
        }
    }
}
