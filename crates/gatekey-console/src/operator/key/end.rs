//! Taking a key's access away: for a while, or for good.

use gatekey::{Key, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::{Nothing, RevokeRequest};

use super::back;
use crate::desk::{is_over, mark};
use crate::format;
use crate::operator::Ask;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Cell, Choice, Facts, Field, Form, Kind, Lead, Note};

fn switch(call: &Ask, verb: &str) -> Result<Reply, Fault> {
    let key = call.key()?;
    let _turn = call.who.turns.take(&key.owner);
    let key = call.seen()?;
    call.api(
        "POST",
        &format!("/v1/keys/{}/{verb}", key.id),
        &Nothing {},
        None,
    )?;
    see(format!("/keys/{}?done={verb}d", key.id))
}

pub(in crate::operator) fn disable(call: &Ask) -> Result<Reply, Fault> {
    switch(call, "disable")
}

pub(in crate::operator) fn enable(call: &Ask) -> Result<Reply, Fault> {
    switch(call, "enable")
}

/// The reasons that a form offers, by the names that the API has for them.
pub(in crate::operator) fn reasons(call: &Ask) -> Field {
    let sent = call
        .form
        .one("reason")
        .ok()
        .flatten()
        .unwrap_or("key_compromise")
        .to_owned();
    let choices = [
        "key_compromise",
        "cessation",
        "superseded",
        "privilege_withdrawn",
    ];
    let choices = choices.map(|reason| {
        Choice::new(reason, call.t(&format!("reason.{reason}"))).chosen(reason == sent)
    });
    Field::new(Kind::Radios, "reason", call.t("revoke.reason"))
        .choices(choices.to_vec())
        .required()
}

/// A reason, as people read it.
pub(in crate::operator) fn reason_text(call: &Ask, reason: gatekey::Reason) -> String {
    let text = reason.to_string();
    let name = format!("reason.{}", text.replace(' ', "_"));
    // One of a later version has no text.
    match call.t(&name) {
        known if known != name => known,
        _ => text,
    }
}

pub(in crate::operator) fn reason_of(call: &Ask) -> Result<gatekey::Reason, Fault> {
    match call.form.must("reason")? {
        "key_compromise" => Ok(gatekey::Reason::KeyCompromise),
        "cessation" => Ok(gatekey::Reason::Cessation),
        "superseded" => Ok(gatekey::Reason::Superseded),
        "privilege_withdrawn" => Ok(gatekey::Reason::PrivilegeWithdrawn),
        _ => Err(Fault::Tampered),
    }
}

pub(in crate::operator) fn note(call: &Ask) -> Field {
    let sent = call
        .form
        .one("note")
        .ok()
        .flatten()
        .unwrap_or_default()
        .to_owned();
    Field::new(Kind::Text, "note", call.t("revoke.note"))
        .hint(call.t("revoke.note_hint"))
        .value(sent)
        .max(bounds::NOTE_LEN_MAX)
}

fn revoking(call: &Ask, key: &Key) -> Form {
    let address = format!("/keys/{}", key.id);
    Form::post(
        call.at(&format!("{address}/revoke")),
        call.t("revoke.submit"),
    )
    .danger()
    .hidden("seen", mark(key))
    .field(reasons(call))
    .field(note(call))
    .cancel(call.at(&address), call.t("form.cancel"))
}

pub(in crate::operator) fn revoke_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    let key = call.key()?;
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let mut blocks = Blocks::new().with(&Lead {
        text: call.t("revoke.lead"),
    });
    if !key.disabled && !is_over(&key) {
        blocks.push(&Note::new(
            "info",
            call.t("revoke.disable_title"),
            call.t("revoke.disable_text"),
        ));
        let disable = call.at(&format!("/keys/{}/disable", key.id));
        let form = Form::post(disable, call.t("key.disable")).plain().inline();
        blocks.push(&form.hidden("seen", mark(&key)));
    }
    blocks.push(&Facts {
        heading: format::name_of(&key),
        rows: vec![
            (call.t("key.id"), Cell::Code(key.id.to_string())),
            (call.t("key.owner"), Cell::Text(key.owner.to_string())),
            (call.t("key.state"), format::state(texts, key.state)),
            (call.t("key.last_used"), format::used(texts, &key, now)),
        ],
    });
    blocks.push(&revoking(call, &key));
    Ok(Page::new(call.t("revoke.title"), blocks).into())
}

pub(in crate::operator) fn revoke(call: &Ask) -> Result<Reply, Fault> {
    let key = call.key()?;
    let _turn = call.who.turns.take(&key.owner);
    let key = call.seen()?;
    let request = RevokeRequest {
        reason: reason_of(call)?,
        note: call.form.one("note")?.map(str::to_owned),
    };
    match call.api(
        "POST",
        &format!("/v1/keys/{}/revoke", key.id),
        &request,
        None,
    ) {
        Ok(_) => see(format!("/keys/{}?done=revoked", key.id)),
        Err(fault) if fault.is_for_the_form() => {
            Ok(back(call, "revoke.title", revoking(call, &key), &fault))
        }
        Err(fault) => Err(fault),
    }
}
