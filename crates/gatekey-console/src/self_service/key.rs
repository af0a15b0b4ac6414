//! One key.

use gatekey::{AuditEvent, Key, KeyId, KeyState, Keyspace, Reason, bounds};

use super::{Ask, Customer, cannot_reveal, list, rotate};
use crate::chart;
use crate::desk::{Found, counts, is_over, is_retiring, mark, may_rotate};
use crate::facts;
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{
    Actions, Blocks, Cell, Choice, Facts, Field, Form, Kind, Lead, Link, Note, Row, Table,
};

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let found = call.desk().find(&call.segment)?;
    let key = &found.key;
    let at = |page: &str| call.at(&format!("/keys/{}{page}", key.id));
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    let replacement = call.desk().replacement(key)?;
    let is_lost = replacement.as_ref().is_some_and(|new| is_over(&new.key));
    if is_retiring(key) {
        let text = match is_lost {
            true => call.t("key.lost_text"),
            false => call.t("key.retiring_text"),
        };
        blocks.push(&Note::new("warn", call.t("key.retiring_title"), text));
    }
    // Nobody here can change it: but whose requests fail has to hear why.
    if !is_over(key) && matches!(key.state, KeyState::Disabled | KeyState::Suspended) {
        let word = format::state_word(&call.site.look.texts, key.state);
        let text = call.with("key.halted_text", &[&word]);
        blocks.push(&Note::new("warn", call.t("key.halted_title"), text));
    }
    let mut links = Vec::new();
    if !is_over(key)
        && let Some(old) = call.desk().replaced_by(key)?
    {
        let until = old.key.retiring_until.map(format::instant);
        let text = call.with("key.replacing_text", &[&until.unwrap_or_default()]);
        blocks.push(&Note::new("info", call.t("key.replacing_title"), text));
        let steps = call.at(&format!("/keys/{}/steps", old.key.id));
        links.push(Link::new(steps, call.t("act.steps")).class("primary"));
    }
    if may_rotate(key) {
        let rotate = match found.is_the_only_one() {
            true => call.t("one.regenerate"),
            false => call.t("act.rotate"),
        };
        let class = if links.is_empty() { "primary" } else { "" };
        links.push(Link::new(at("/rotate"), rotate).class(class));
    }
    if counts(key) {
        links.push(Link::new(at("/edit"), call.t("act.edit")));
        if call.who.maker.is_some() {
            links.push(Link::new(at("/short-lived"), call.t("act.short_lived")));
        }
    } else if is_retiring(key) && is_lost {
        links.push(list::new_link(call, &found));
    } else if is_retiring(key) && replacement.is_some() {
        links.push(Link::new(at("/steps"), call.t("act.steps")).class("primary"));
    }
    if !is_over(key) {
        let takes_over = replacement.filter(|_| is_retiring(key) && !is_lost);
        let text = list::end_text(call, takes_over.as_ref());
        links.push(Link::new(at("/revoke"), text));
    }
    let back = list::address(call, key.keyspace.as_str());
    links.push(Link::new(back, call.t("nav.back_to_keys")));
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links,
    });
    blocks.push(&facts(call, &found));
    usage(call, &found, &mut blocks)?;
    if may_rotate(key) {
        blocks.push(&cannot_reveal(call, found.is_the_only_one()));
    }
    blocks.push(&history(call, &found)?);
    Ok(Page::new(format::name_of(key), blocks).into())
}

/// A key, as pages tell of it.
pub(super) fn of<'a>(
    call: &'a Ask,
    key: &'a Key,
    keyspace: &'a Keyspace,
) -> facts::Of<'a, Customer> {
    let now = call.desk().now();
    facts::Of {
        call,
        key,
        keyspace,
        now,
    }
}

fn facts(call: &Ask, found: &Found) -> Facts {
    let key = &found.key;
    let of = of(call, key, &found.keyspace);
    let owner = (call.t("key.owner"), Cell::Text(key.owner.to_string()));
    let mut rows = of.first([owner]);
    if let Some(plan) = &key.plan {
        rows.push((call.t("key.plan"), Cell::Text(plan.clone())));
    }
    rows.extend(of.last());
    Facts {
        heading: call.t("key.facts"),
        rows,
    }
}

fn usage(call: &Ask, found: &Found, blocks: &mut Blocks) -> Result<(), Fault> {
    let (key, texts, now) = (&found.key, &call.site.look.texts, call.desk().now());
    let (limits, quotas) = call.desk().left(key)?;
    blocks.push(&of(call, key, &found.keyspace).used(&limits, &quotas));
    let days = call.desk().days(key)?;
    blocks.push(&chart::of_days(texts, "usage", days, now));
    Ok(())
}

/// What happened to the key. Who did it is told of the member's own changes alone.
fn history(call: &Ask, found: &Found) -> Result<Table, Fault> {
    let (texts, now) = (&call.site.look.texts, call.desk().now());
    let entries = call.desk().history(found)?;
    // What such an entry names, another one has revoked.
    let is_told =
        |entry: &&gatekey::AuditEntry| !matches!(entry.event, AuditEvent::RevokedKeysNamed { .. });
    let row = |entry: &gatekey::AuditEntry| -> Row {
        let who = match &entry.actor {
            Some(actor) if *actor == call.desk().member.actor => call.t("history.you"),
            _ => call.t("history.others"),
        };
        vec![
            Cell::Text(happened(call, &entry.event, found.key.id)),
            format::time(texts, entry.at, now),
            Cell::Text(who),
        ]
        .into()
    };
    Ok(Table {
        caption: call.t("history.title"),
        columns: ["history.what", "history.when", "history.who"]
            .map(|name| call.t(name))
            .to_vec(),
        rows: entries.iter().rev().filter(is_told).map(row).collect(),
        empty: call.t("history.empty"),
        ..Table::default()
    })
}

/// What an event was for a key that it names.
fn happened(call: &Ask, event: &AuditEvent, key: KeyId) -> String {
    match event {
        AuditEvent::KeyRotated { old, new, .. } if *new == key => {
            call.with("event.made_by_rotation", &[old])
        }
        AuditEvent::KeyIssued { superseded, .. } | AuditEvent::KeyRotated { superseded, .. }
            if superseded.contains(&key) =>
        {
            call.t("event.superseded")
        }
        event => call.t(&format!("event.{}", name_of(event))),
    }
}

/// The name of an event's text.
fn name_of(event: &AuditEvent) -> &'static str {
    match event {
        AuditEvent::KeyIssued { .. } => "issued",
        AuditEvent::KeyReissued { .. } => "reissued",
        AuditEvent::KeyUpdated { .. } => "updated",
        AuditEvent::KeyRotated { .. } => "rotated",
        AuditEvent::KeyRevoked { .. }
        | AuditEvent::KeysRevoked { .. }
        | AuditEvent::KeysRevokedUnnamed { .. } => "revoked",
        AuditEvent::KeyDisabled { .. } => "disabled",
        AuditEvent::KeyEnabled { .. } => "enabled",
        _ => "other",
    }
}

fn edit_form(call: &Ask, found: &Found) -> Form {
    let key = &found.key;
    let sent = |name: &str, now: &str| {
        let sent = call.form.all(name).next();
        sent.unwrap_or(now).to_owned()
    };
    let name = Field::new(Kind::Text, "name", call.t("new.name"))
        .hint(call.t("new.name_hint"))
        .value(sent("name", key.name.as_deref().unwrap_or("")))
        .max(bounds::NAME_LEN_MAX);
    let description = Field::new(Kind::Area, "description", call.t("key.description"))
        .value(sent(
            "description",
            key.description.as_deref().unwrap_or(""),
        ))
        .max(bounds::DESCRIPTION_LEN_MAX);
    let mut form = Form::post(
        call.at(&format!("/keys/{}/edit", key.id)),
        call.t("form.save"),
    )
    .hidden("seen", mark(key))
    .cancel(call.at(&format!("/keys/{}", key.id)), call.t("form.cancel"))
    .field(name)
    .field(description);
    for label in &found.ceiling.labels {
        let name = format!("label.{label}");
        let now = key.labels.get(label).map_or("", String::as_str);
        let field = Field::new(Kind::Text, name.clone(), label).value(sent(&name, now));
        form = form.field(field.max(bounds::LABEL_VALUE_LEN_MAX));
    }
    form
}

pub(super) fn edit(call: &Ask) -> Result<Reply, Fault> {
    let found = call.desk().find(&call.segment)?;
    if is_over(&found.key) {
        return Err(Fault::Changed);
    }
    let blocks = Blocks::new().with(&edit_form(call, &found));
    Ok(Page::new(call.t("edit.title"), blocks).into())
}

pub(super) fn update(call: &Ask) -> Result<Reply, Fault> {
    let found = call.desk().find(&call.segment)?;
    let seen = call.form.must("seen")?;
    let (name, description) = (call.form.one("name")?, call.form.one("description")?);
    let mut labels = Vec::new();
    for label in &found.ceiling.labels {
        let value = call.form.one(&format!("label.{label}"))?;
        labels.push((label.clone(), value.map(str::to_owned)));
    }
    match call
        .desk()
        .update(&call.segment, seen, name, description, &labels)
    {
        Ok(key) => see(format!("/keys/{}?done=saved", key.id)),
        Err(fault) if fault.is_for_the_form() => {
            let form = call.again(edit_form(call, &found), &fault);
            let page = Page::new(call.t("edit.title"), Blocks::new().with(&form));
            Ok(page.status(fault.status()).into())
        }
        Err(fault) => Err(fault),
    }
}

/// The texts of the end of a key: of one whose place another has, by the word of the steps.
struct Ending {
    title: String,
    lead: String,
    submit: String,
}

pub(super) fn confirm(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let found = call.desk().find(&call.segment)?;
    let key = &found.key;
    let takes_over = call.desk().takes_over(key)?;
    let (texts, now) = (&call.site.look.texts, call.desk().now());
    let reasons = [
        ("cessation", "revoke.cessation"),
        ("compromise", "revoke.compromise"),
        ("superseded", "revoke.superseded"),
    ];
    let usual = match key.successor {
        Some(_) => "superseded",
        None => "cessation",
    };
    let choices = reasons
        .iter()
        .map(|(value, name)| Choice::new(*value, call.t(name)).chosen(*value == usual));
    let ending = match &takes_over {
        Some(new) => Ending {
            title: call.t("delete.title"),
            lead: call.with("delete.lead", &[&format::name_and_id(&new.key)]),
            submit: call.t("steps.delete_act"),
        },
        None => Ending {
            title: call.t("revoke.title"),
            lead: call.t("revoke.lead"),
            submit: call.t("revoke.submit"),
        },
    };
    let form = Form::post(call.at(&format!("/keys/{}/revoke", key.id)), ending.submit)
        .danger()
        .field(
            Field::new(Kind::Radios, "reason", call.t("revoke.reason"))
                .choices(choices.collect())
                .required(),
        )
        .cancel(call.at(&format!("/keys/{}", key.id)), call.t("form.cancel"));
    let form = match &takes_over {
        Some(new) => form.hidden("instead", new.key.id.to_string()),
        None => form,
    };
    let mut blocks = Blocks::new().with(&Lead { text: ending.lead });
    if let Some(note) = takes_over.and_then(|new| rotate::not_ready(call, &new.key)) {
        blocks.push(&note);
        let steps = call.at(&format!("/keys/{}/steps", key.id));
        blocks.push(&Actions {
            label: call.t("nav.actions"),
            links: vec![Link::new(steps, call.t("act.steps")).class("primary")],
        });
    }
    let blocks = blocks
        .with(&Facts {
            heading: format::name_of(key),
            rows: vec![
                (call.t("key.id"), Cell::Code(key.id.to_string())),
                (call.t("key.state"), format::state(texts, key.state)),
                (call.t("key.last_used"), format::used(texts, key, now)),
            ],
        })
        .with(&form);
    Ok(Page::new(ending.title, blocks).into())
}

pub(super) fn revoke(call: &Ask) -> Result<Reply, Fault> {
    let reason = match call.form.must("reason")? {
        "cessation" => Reason::Cessation,
        "compromise" => Reason::KeyCompromise,
        "superseded" => Reason::Superseded,
        _ => return Err(Fault::Tampered),
    };
    let found = call.desk().find(&call.segment)?;
    let takes_over = call.desk().takes_over(&found.key)?;
    // The page said that another key has its place, which may have been taken from that since.
    let instead = takes_over.as_ref().map(|new| new.key.id.to_string());
    let is_as_shown = call
        .form
        .one("instead")?
        .is_none_or(|shown| instead.as_deref() == Some(shown));
    if !is_as_shown {
        return Err(Fault::Changed);
    }
    let revoked = call.desk().revoke(&call.segment, reason)?;
    // The person goes on with the key that works.
    match takes_over {
        Some(new) => see(format!("/keys/{}?done=old_deleted", new.key.id)),
        None => see(format!("/keys/{}?done=revoked", revoked.key)),
    }
}

pub(super) fn short_lived_form(call: &Ask) -> Result<Reply, Fault> {
    if call.who.maker.is_none() {
        return Err(Fault::NotFound);
    }
    let found = call.desk().find(&call.segment)?;
    let address = format!("/keys/{}", found.key.id);
    let form = Form::post(
        call.at(&format!("{address}/short-lived")),
        call.t("short.submit"),
    )
    .cancel(call.at(&address), call.t("form.cancel"));
    let blocks = Blocks::new()
        .with(&Lead {
            text: call.t("short.lead"),
        })
        .with(&form);
    Ok(Page::new(call.t("short.title"), blocks).into())
}

/// Each press makes another, which ends by itself: a reload does no harm.
pub(super) fn short_lived(call: &Ask) -> Result<Reply, Fault> {
    let Some(make) = &call.who.maker else {
        return Err(Fault::NotFound);
    };
    let found = call.desk().find(&call.segment)?;
    let stored = call.at(&format!("/keys/{}", found.key.id));
    match call.desk().vouch(&found)?.into_result() {
        Ok(grant) => {
            let made = make(&grant)?;
            let of = of(call, &found.key, &found.keyspace);
            let blocks = of.short_lived_page(&made.token, stored, made.expires_at);
            Ok(Page::new(call.t("short.made"), blocks).into())
        }
        Err(denial) => {
            let note = Note::new("bad", call.t("short.denied"), denial.to_string());
            let page = Page::new(call.t("short.title"), Blocks::new().with(&note));
            Ok(page.status(axum::http::StatusCode::CONFLICT).into())
        }
    }
}
