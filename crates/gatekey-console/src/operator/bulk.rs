//! Several keys at once, with a result for each.

use gatekey::{Key, KeyId};
use gatekey_admin::Right;
use gatekey_admin::wire::{Nothing, RevokeRequest};

use super::{Ask, key};
use crate::desk::mark;
use crate::format;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Cell, Field, Form, Kind, Lead, Link, Note, Row, Table};

/// The most keys of one form: a page has fewer.
const KEYS_MAX: usize = 100;

fn verb(call: &Ask) -> Result<&'static str, Fault> {
    let (verb, right) = match call.form.must("what")? {
        "disable" => ("disable", Right::Revoke),
        "enable" => ("enable", Right::Issue),
        "revoke" => ("revoke", Right::Revoke),
        _ => return Err(Fault::Tampered),
    };
    call.need(right)?;
    Ok(verb)
}

fn picked(call: &Ask) -> Result<Vec<KeyId>, Fault> {
    let mut ids = Vec::new();
    for id in call.form.all("pick") {
        let id: KeyId = id.parse().map_err(|_| Fault::Tampered)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    match ids.len() > KEYS_MAX {
        true => Err(Fault::Tampered),
        false => Ok(ids),
    }
}

/// What must be typed: the verb and the number of keys.
fn typed(call: &Ask, verb: &str, keys: usize) -> String {
    call.with(&format!("bulk.type_{verb}"), &[&keys])
}

fn confirming(call: &Ask, verb: &'static str, keys: &[Key]) -> Form {
    let mut form = Form::post(call.at("/keys/bulk/do"), call.t(&format!("bulk.{verb}")))
        .hidden("what", verb)
        .cancel(call.at("/keys"), call.t("form.cancel"));
    for key in keys {
        form = form
            .hidden("pick", key.id.to_string())
            .hidden(format!("seen.{}", key.id), mark(key));
    }
    if verb == "revoke" {
        let wanted = typed(call, verb, keys.len());
        form = form
            .danger()
            .field(key::reasons(call))
            .field(key::note(call));
        form = form.field(
            Field::new(Kind::Text, "typed", call.with("bulk.typed", &[&wanted]))
                .required()
                .expect(wanted),
        );
        form = call.proving(form);
    }
    form
}

fn found(call: &Ask, ids: &[KeyId]) -> Result<Vec<Key>, Fault> {
    let mut keys = Vec::new();
    for id in ids {
        keys.push(call.engine().find_key(*id)?.ok_or(Fault::NotFound)?);
    }
    Ok(keys)
}

fn page(call: &Ask, verb: &'static str, keys: &[Key], fault: Option<&Fault>) -> Page {
    let mut form = confirming(call, verb, keys);
    if let Some(fault) = fault {
        let (title, text) = call.problem(fault);
        form = form.problem(title, text);
    }
    let lead = call.with("bulk.lead", &[&keys.len()]);
    let caption = call.t("bulk.caption");
    let mut table = super::keys::table(call, caption, keys);
    table.empty = call.t("bulk.none");
    let blocks = Blocks::new()
        .with(&Lead { text: lead })
        .with(&table)
        .with(&form);
    Page::new(call.t(&format!("bulk.title_{verb}")), blocks)
}

pub(super) fn confirm(call: &Ask) -> Result<Reply, Fault> {
    let verb = verb(call)?;
    let keys = found(call, &picked(call)?)?;
    if keys.is_empty() {
        let blocks = Blocks::new()
            .with(&Note::new(
                "warn",
                call.t("bulk.none"),
                call.t("bulk.none_text"),
            ))
            .with(&Actions {
                label: call.t("nav.actions"),
                links: vec![Link::new(call.at("/keys"), call.t("nav.back_to_keys"))],
            });
        return Ok(Page::new(call.t(&format!("bulk.title_{verb}")), blocks).into());
    }
    Ok(page(call, verb, &keys, None).into())
}

pub(super) fn run(call: &Ask) -> Result<Reply, Fault> {
    let verb = verb(call)?;
    let ids = picked(call)?;
    let mut request = RevokeRequest::default();
    if verb == "revoke" {
        request.reason = key::reason_of(call)?;
        request.note = call.form.one("note")?.map(str::to_owned);
        let wanted = typed(call, verb, ids.len());
        let proven = match call.form.one("typed")? == Some(wanted.as_str()) {
            true => call.prove(),
            false => Err(Fault::Mistyped),
        };
        if let Err(fault) = proven {
            let page = page(call, verb, &found(call, &ids)?, Some(&fault));
            return Ok(page.status(fault.status()).into());
        }
    }
    let mut rows = Vec::new();
    for id in ids {
        let done = one(call, verb, id, &request);
        let (class, word) = match &done {
            Ok(_) => ("active", call.t("bulk.done")),
            Err(_) => ("revoked", call.t("bulk.failed")),
        };
        let (name, text) = match done {
            Ok(key) => (format::name_of(&key), call.t(&format!("bulk.{verb}_done"))),
            Err(fault) => (id.to_string(), call.problem(&fault).1),
        };
        let row: Row = vec![
            Cell::Entry {
                href: call.at(&format!("/keys/{id}")),
                text: name,
                below: id.to_string(),
            },
            Cell::State { class, word },
            Cell::Text(text),
        ]
        .into();
        rows.push(row);
    }
    let table = Table {
        caption: call.t("bulk.results"),
        columns: ["key.name", "bulk.result", "bulk.detail"]
            .map(|name| call.t(name))
            .to_vec(),
        rows,
        empty: call.t("bulk.none"),
        ..Table::default()
    };
    let blocks = Blocks::new().with(&table).with(&Actions {
        label: call.t("nav.actions"),
        links: vec![Link::new(call.at("/keys"), call.t("nav.back_to_keys"))],
    });
    Ok(Page::new(call.t(&format!("bulk.title_{verb}")), blocks).into())
}

fn one(call: &Ask, verb: &str, id: KeyId, request: &RevokeRequest) -> Result<Key, Fault> {
    let key = call.engine().find_key(id)?.ok_or(Fault::NotFound)?;
    let _turn = call.who.turns.take(&key.owner);
    let key = call.engine().find_key(id)?.ok_or(Fault::NotFound)?;
    if call.form.one(&format!("seen.{id}"))? != Some(mark(&key).as_str()) {
        return Err(Fault::Changed);
    }
    let path = format!("/v1/keys/{id}/{verb}");
    match verb {
        "revoke" => call.api("POST", &path, request, None)?,
        _ => call.api("POST", &path, &Nothing {}, None)?,
    };
    Ok(key)
}
