//! A new key in the place of one that is there.

use std::time::Duration;

use gatekey::{Key, Keyspace};
use gatekey_admin::Right;
use gatekey_admin::wire::{RotateRequest, Span};

use super::issue::{before, shown};
use super::{DAY, back};
use crate::desk::mark;
use crate::format;
use crate::operator::Ask;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Blocks, Choice, Field, Form, Kind, Lead, Note};

fn rotating(call: &Ask, key: &Key, keyspace: &Keyspace) -> Result<Form, Fault> {
    let texts = &call.site.look.texts;
    let sent = call
        .form
        .one("grace")
        .ok()
        .flatten()
        .unwrap_or("86400")
        .to_owned();
    let graces = [0, 3_600, DAY, 7 * DAY, 30 * DAY].map(Duration::from_secs);
    let choices = graces
        .into_iter()
        .filter(|grace| keyspace.max_grace.is_none_or(|max| *grace <= max))
        .map(|grace| {
            let text = match grace.is_zero() {
                true => call.t("rotate.at_once"),
                false => call.with("rotate.grace", &[&format::span(texts, grace)]),
            };
            let value = grace.as_secs().to_string();
            let chosen = value == sent;
            Choice::new(value, text).chosen(chosen)
        });
    let address = format!("/keys/{}", key.id);
    let form = Form::post(
        call.at(&format!("{address}/rotate")),
        call.t("rotate.submit"),
    )
    .hidden("seen", mark(key))
    .hidden("number", call.number()?)
    .field(
        Field::new(Kind::Radios, "grace", call.t("rotate.when"))
            .hint(call.t("rotate.when_hint"))
            .choices(choices.collect())
            .required(),
    )
    .cancel(call.at(&address), call.t("form.cancel"));
    Ok(call.proving(form))
}

pub(in crate::operator) fn rotate_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let key = call.key()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let lead = Lead {
        text: call.with("rotate.lead", &[&format::name_of(&key)]),
    };
    let blocks = Blocks::new()
        .with(&lead)
        .with(&rotating(call, &key, &keyspace)?);
    Ok(Page::new(call.t("rotate.title"), blocks).into())
}

pub(in crate::operator) fn rotate(call: &Ask) -> Result<Reply, Fault> {
    if let Some(before) = before(call)? {
        return Ok(before);
    }
    let key = call.key()?;
    let _turn = call.who.turns.take(&key.owner);
    let key = call.seen()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let seconds = call
        .form
        .must("grace")?
        .parse()
        .map_err(|_| Fault::Tampered)?;
    let grace = Duration::from_secs(seconds);
    let request = RotateRequest {
        grace: (!grace.is_zero()).then_some(Span(grace)),
        changes: None,
    };
    let number = call.form.must("number")?;
    let made = call.prove().and_then(|()| {
        call.api(
            "POST",
            &format!("/v1/keys/{}/rotate", key.id),
            &request,
            Some(number),
        )
    });
    match made {
        Ok(made) => {
            let note = match grace.is_zero() {
                true => Note::new(
                    "warn",
                    call.t("rotate.over_title"),
                    call.t("rotate.over_text"),
                ),
                false => {
                    let span = format::span(&call.site.look.texts, grace);
                    let text = call.with("rotate.works_on", &[&span]);
                    Note::new("info", call.t("rotate.both"), text)
                }
            };
            shown(call, &made, Some(note))
        }
        Err(fault) if fault.is_for_the_form() => Ok(back(
            call,
            "rotate.title",
            rotating(call, &key, &keyspace)?,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}
