//! A new key.

use std::time::Duration;

use gatekey::{Conflict, Error, bounds};

use super::{Ask, draw, list};
use crate::desk::{Life, Wish};
use crate::format;
use crate::member::Ceiling;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Choice, Field, Form, Kind, Lead, Link, Note, Shown};

/// What may be chosen as a lifetime, and what the form sends for it.
pub(super) fn lifetimes(call: &Ask, ceiling: &Ceiling, chosen: Option<&str>) -> Vec<Choice> {
    let texts = &call.site.look.texts;
    let mut choices: Vec<Choice> = ceiling
        .lifetimes
        .iter()
        .map(|time| Choice::new(time.as_secs().to_string(), format::span(texts, *time)))
        .collect();
    if ceiling.may_never_end {
        choices.push(Choice::new("never", call.t("key.never_expires")));
    }
    mark_chosen(&mut choices, chosen);
    choices
}

/// Marks the choice that was made, or else the first.
pub(super) fn mark_chosen(choices: &mut [Choice], chosen: Option<&str>) {
    let index = chosen
        .and_then(|chosen| choices.iter().position(|of| of.value == chosen))
        .unwrap_or(0);
    if let Some(choice) = choices.get_mut(index) {
        choice.chosen = true;
    }
}

/// What a form says of a lifetime.
pub(super) fn life_of(call: &Ask) -> Result<Option<Life>, Fault> {
    match call.form.one("life")? {
        None | Some("same") => Ok(None),
        Some("never") => Ok(Some(Life::Never)),
        Some(seconds) => {
            let seconds = seconds.parse().map_err(|_| Fault::Tampered)?;
            Ok(Some(Life::For(Duration::from_secs(seconds))))
        }
    }
}

pub(super) fn form(call: &Ask) -> Result<Reply, Fault> {
    let (ceiling, _) = call.desk().ceiling(call.query.must("keyspace")?)?;
    let form = blank(call, &ceiling)?;
    let blocks = Blocks::new().with(&lead(call)).with(&form);
    Ok(Page::new(call.t("new.title"), blocks).into())
}

fn lead(call: &Ask) -> Lead {
    Lead {
        text: call.t("new.lead"),
    }
}

/// The form, filled in with what was sent, if it comes back.
fn blank(call: &Ask, ceiling: &Ceiling) -> Result<Form, Fault> {
    let prefix = ceiling.keyspace.as_str();
    let sent = |name: &str| call.form.one(name).ok().flatten().map(str::to_owned);
    let value = |name: &str| sent(name).unwrap_or_default();
    let mut form = Form::post(call.at("/new"), call.t("new.submit"))
        .hidden("keyspace", prefix)
        .hidden("number", draw()?)
        .cancel(list::address(call, prefix), call.t("form.cancel"));
    for (index, level) in ceiling.levels.iter().enumerate() {
        let name = format!("level{index}");
        form = form.field(
            Field::new(Kind::Text, name.clone(), level)
                .hint(call.t("new.level_hint"))
                .value(value(&name))
                .required()
                .max(64),
        );
    }
    let name = Field::new(Kind::Text, "name", call.t("new.name"))
        .hint(call.t("new.name_hint"))
        .value(value("name"))
        .max(bounds::NAME_LEN_MAX);
    form = form.field(name.required());
    if ceiling.purposes.is_empty() {
        let choices: Vec<Choice> = ceiling
            .permissions
            .iter()
            .map(|(name, text)| {
                Choice::new(name, name)
                    .hint(text)
                    .chosen(call.form.has("permission", name))
            })
            .collect();
        if !choices.is_empty() {
            let field = Field::new(Kind::Checks, "permission", call.t("new.permissions"));
            form = form.field(field.hint(call.t("new.permissions_hint")).choices(choices));
        }
    } else {
        let mut choices: Vec<Choice> = ceiling
            .purposes
            .iter()
            .map(|purpose| {
                let names = purpose.permissions.join(", ");
                let hint = call.with("new.purpose_hint", &[&purpose.text, &names]);
                Choice::new(&purpose.name, &purpose.name).hint(hint)
            })
            .collect();
        mark_chosen(&mut choices, sent("purpose").as_deref());
        let field = Field::new(Kind::Radios, "purpose", call.t("new.purpose"));
        form = form.field(field.choices(choices).required());
    }
    let lifetimes = lifetimes(call, ceiling, sent("life").as_deref());
    if !lifetimes.is_empty() {
        let field = Field::new(Kind::Select, "life", call.t("new.life"));
        form = form.field(field.hint(call.t("new.life_hint")).choices(lifetimes));
    }
    if !ceiling.plans.is_empty() {
        let plans = ceiling.plans.iter();
        let mut choices: Vec<Choice> = plans.map(|plan| Choice::new(plan, plan)).collect();
        mark_chosen(&mut choices, sent("plan").as_deref());
        let field = Field::new(Kind::Select, "plan", call.t("key.plan"));
        form = form.field(field.choices(choices));
    }
    for label in &ceiling.labels {
        let name = format!("label.{label}");
        let field = Field::new(Kind::Text, name.clone(), label).value(value(&name));
        form = form.field(field.max(bounds::LABEL_VALUE_LEN_MAX));
    }
    let description = Field::new(Kind::Area, "description", call.t("key.description"))
        .hint(call.t("new.description_hint"))
        .value(value("description"))
        .max(bounds::DESCRIPTION_LEN_MAX);
    Ok(form.field(description))
}

pub(super) fn issue(call: &Ask) -> Result<Reply, Fault> {
    let prefix = call.form.must("keyspace")?;
    let number = call.form.must("number")?;
    if let Some(before) = call.before(number) {
        return before;
    }
    let (ceiling, _) = call.desk().ceiling(prefix)?;
    let owned = |name: &str| -> Result<Option<String>, Fault> {
        Ok(call.form.one(name)?.map(str::to_owned))
    };
    let mut wish = Wish {
        name: owned("name")?,
        description: owned("description")?,
        purpose: owned("purpose")?,
        permissions: call.form.all("permission").map(str::to_owned).collect(),
        lifetime: life_of(call)?,
        plan: owned("plan")?,
        ..Wish::default()
    };
    for index in 0..ceiling.levels.len() {
        let name = format!("level{index}");
        wish.below.push(owned(&name)?.unwrap_or_default());
    }
    for label in &ceiling.labels {
        if let Some(value) = owned(&format!("label.{label}"))? {
            wish.labels.push((label.clone(), value));
        }
    }
    match call.desk().issue(prefix, wish, number) {
        Ok(issued) => {
            let id = issued.key.id.to_string();
            let actor = &call.desk().member.actor;
            call.site.sent(actor, number, id.clone());
            let stored = call.at(&format!("/keys/{id}"));
            let title = call.t("token.title");
            Ok(token_page(call, title, issued.token.expose(), stored, None).into())
        }
        Err(fault) if fault.is_for_the_form() => {
            if let Fault::Engine(Error::Conflict(Conflict::AlreadyAnswered { key })) = &fault {
                return already(call, &key.to_string());
            }
            let (title, text) = match &fault {
                Fault::Full(max) => (call.t("fault_title.full"), call.with("new.full", &[max])),
                fault => call.problem(fault),
            };
            let form = blank(call, &ceiling)?.problem(title, text);
            let blocks = Blocks::new().with(&lead(call)).with(&form);
            Ok(Page::new(call.t("new.title"), blocks)
                .status(fault.status())
                .into())
        }
        Err(fault) => Err(fault),
    }
}

/// A page with a token, which is shown this once.
pub(super) fn token_page(
    call: &Ask,
    title: String,
    token: &str,
    stored: String,
    note: Option<Note>,
) -> Page {
    let shown = Shown {
        token: zeroize::Zeroizing::new(token.to_owned()),
        label: call.t("token.label"),
        once: call.t("token.once"),
        copy: call.t("token.copy"),
        copied: call.t("token.copied"),
        by_hand: call.t("token.by_hand"),
        stored: Link::new(stored, call.t("token.stored")),
    };
    let mut blocks = Blocks::new();
    if let Some(note) = note {
        blocks.push(&note);
    }
    blocks.push(&shown);
    blocks.push(&Note::new(
        "info",
        call.t("token.keep_title"),
        call.t("token.keep_text"),
    ));
    Page::new(title, blocks)
}

/// A form that was sent before: by a reload, or by two presses.
pub(super) fn already(call: &Ask, id: &str) -> Result<Reply, Fault> {
    let found = call.desk().find(id)?;
    let at = |page: &str| call.at(&format!("/keys/{id}{page}"));
    let text = call.with("already.text", &[&format::name_of(&found.key)]);
    let blocks = Blocks::new()
        .with(&Note::new("info", call.t("already.title"), text))
        .with(&Actions {
            label: call.t("nav.actions"),
            links: vec![
                Link::new(at(""), call.t("already.show")).class("primary"),
                Link::new(at("/rotate"), call.t("act.rotate")),
            ],
        });
    Ok(Page::new(call.t("already.title"), blocks)
        .status(axum::http::StatusCode::CONFLICT)
        .into())
}
