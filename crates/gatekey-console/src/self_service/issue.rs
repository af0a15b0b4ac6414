//! A new key.

use std::collections::BTreeSet;
use std::time::Duration;

use gatekey::{Conflict, Error, Keyspace, OwnerPath, bounds};

use super::list::{self, Asked};
use super::{Ask, draw, key};
use crate::desk::{Life, Wish, has_one, may_rotate};
use crate::facts;
use crate::format;
use crate::member::Ceiling;
use crate::reply::{Fault, Page, Reply};
use crate::view::{Actions, Blocks, Choice, Field, Form, Kind, Lead, Link, Note};

/// The most names that a field suggests.
const SUGGESTIONS_MAX: usize = 100;

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
    let (ceiling, keyspace) = match list::asked(call, "/new", "new.title")? {
        Asked::One(of) => *of,
        Asked::Choice(page) => return Ok(page),
    };
    let form = blank(call, &ceiling, &keyspace)?;
    let blocks = Blocks::new().with(&lead(call)).with(&form);
    Ok(Page::new(title(call, &ceiling, &keyspace), blocks).into())
}

fn title(call: &Ask, ceiling: &Ceiling, keyspace: &Keyspace) -> String {
    match has_one(ceiling, keyspace) {
        true => call.t("one.request"),
        false => call.t("new.title"),
    }
}

fn lead(call: &Ask) -> Lead {
    Lead {
        text: call.t("new.lead"),
    }
}

/// The form, filled in with what was sent, if it comes back.
fn blank(call: &Ask, ceiling: &Ceiling, keyspace: &Keyspace) -> Result<Form, Fault> {
    let prefix = ceiling.keyspace.as_str();
    let sent = |name: &str| call.form.one(name).ok().flatten().map(str::to_owned);
    let value = |name: &str| sent(name).unwrap_or_default();
    let submit = match has_one(ceiling, keyspace) {
        true => call.t("one.submit"),
        false => call.t("new.submit"),
    };
    let mut form = Form::post(call.at("/new"), submit)
        .hidden("keyspace", prefix)
        .hidden("number", draw()?)
        .cancel(list::address(call, prefix), call.t("form.cancel"));
    let mut known = known_levels(call, ceiling)?.into_iter();
    for (index, level) in ceiling.levels.iter().enumerate() {
        let name = format!("level{index}");
        form = form.field(
            Field::new(Kind::Text, name.clone(), level)
                .hint(call.t("new.level_hint"))
                .value(value(&name))
                .suggestions(known.next().unwrap_or_default())
                .required()
                .max(OwnerPath::SEGMENT_LEN_MAX),
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
        if is_bare(call, ceiling) {
            let none = Choice::new("yes", call.t("new.bare")).chosen(call.form.has("bare", "yes"));
            let field = Field::new(Kind::Checks, "bare", call.t("new.bare_label"));
            form = form.field(field.choices(vec![none]));
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
    let lives = lifetimes(call, ceiling, sent("life").as_deref());
    if !lives.is_empty() {
        let field = match ceiling.lifetimes.is_empty() {
            // It ends after nothing.
            true => Field::new(Kind::Select, "life", call.t("key.ends")),
            false => {
                Field::new(Kind::Select, "life", call.t("new.life")).hint(call.t("new.life_hint"))
            }
        };
        form = form.field(field.choices(lives));
    }
    if !ceiling.plans.is_empty() {
        let plans = ceiling.plans.iter();
        let mut choices: Vec<Choice> = plans
            .map(|name| {
                let known = keyspace.plans.iter().find(|plan| plan.name == *name);
                let gives = known.map(|plan| facts::plan(call, plan));
                Choice::new(name, name).hint(gives.unwrap_or_default())
            })
            .collect();
        mark_chosen(&mut choices, sent("plan").as_deref());
        let field = Field::new(Kind::Radios, "plan", call.t("key.plan"));
        form = form.field(field.choices(choices).required());
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

/// Whether a form that came asks for a key without any permission, where there are some.
fn is_bare(call: &Ask, ceiling: &Ceiling) -> bool {
    let asked = call.form.all("permission").next();
    !call.form.is_empty()
        && asked.is_none()
        && ceiling.purposes.is_empty()
        && !ceiling.permissions.is_empty()
}

/// The names that owners below the member have at each level, to choose from.
fn known_levels(call: &Ask, ceiling: &Ceiling) -> Result<Vec<Vec<String>>, Fault> {
    if ceiling.levels.is_empty() {
        return Ok(Vec::new());
    }
    let (keys, _) = call.desk().list(ceiling.keyspace)?;
    let depth = call.desk().member.owner.depth();
    let mut known = vec![BTreeSet::new(); ceiling.levels.len()];
    for key in &keys {
        let below = key.owner.as_str().split('/').skip(depth);
        for (names, name) in known.iter_mut().zip(below) {
            names.insert(name.to_owned());
        }
    }
    let first = |names: BTreeSet<String>| names.into_iter().take(SUGGESTIONS_MAX).collect();
    Ok(known.into_iter().map(first).collect())
}

/// Looks at what a form has before the engine does, to say at which field it is wrong.
fn validate(call: &Ask, ceiling: &Ceiling, wish: &Wish) -> Result<(), Fault> {
    let at = |name: String, text: &str| Fault::Field {
        name,
        text: call.t(text),
    };
    for (index, name) in wish.below.iter().enumerate() {
        let is_name = name.parse::<OwnerPath>().is_ok_and(|of| of.depth() == 1);
        if !is_name {
            return Err(at(format!("level{index}"), "new.level_problem"));
        }
    }
    match is_bare(call, ceiling) && !call.form.has("bare", "yes") {
        true => Err(at("permission".to_owned(), "new.bare_problem")),
        false => Ok(()),
    }
}

pub(super) fn issue(call: &Ask) -> Result<Reply, Fault> {
    let prefix = call.form.must("keyspace")?;
    let number = call.form.must("number")?;
    if let Some(before) = call.before(number) {
        return before;
    }
    let (ceiling, keyspace) = call.desk().ceiling(prefix)?;
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
        let name = owned(&name)?.unwrap_or_default();
        wish.below.push(name.trim().to_owned());
    }
    for label in &ceiling.labels {
        if let Some(value) = owned(&format!("label.{label}"))? {
            wish.labels.push((label.clone(), value));
        }
    }
    let made =
        validate(call, &ceiling, &wish).and_then(|()| call.desk().issue(prefix, wish, number));
    match made {
        Ok(issued) => {
            let id = issued.key.id.to_string();
            let actor = &call.desk().member.actor;
            call.site.sent(actor, number, id.clone());
            let stored = call.at(&format!("/keys/{id}"));
            let of = key::of(call, &issued.key, &keyspace);
            let blocks = of.token_page(issued.token.expose(), stored, None);
            Ok(Page::new(call.t("token.title"), blocks).into())
        }
        Err(fault) if fault.is_for_the_form() => {
            if let Fault::Engine(Error::Conflict(Conflict::AlreadyAnswered { key })) = &fault {
                return already(call, &key.to_string());
            }
            let form = blank(call, &ceiling, &keyspace)?;
            let form = match &fault {
                Fault::Full(max) => {
                    form.problem(call.t("fault_title.full"), call.with("new.full", &[max]))
                }
                fault => call.again(form, fault),
            };
            let blocks = Blocks::new().with(&lead(call)).with(&form);
            Ok(Page::new(title(call, &ceiling, &keyspace), blocks)
                .status(fault.status())
                .into())
        }
        Err(fault) => Err(fault),
    }
}

/// A form that was sent before: by a reload, or by two presses.
pub(super) fn already(call: &Ask, id: &str) -> Result<Reply, Fault> {
    let found = call.desk().find(id)?;
    let at = |page: &str| call.at(&format!("/keys/{id}{page}"));
    let name = format::name_of(&found.key);
    let mut links = vec![Link::new(at(""), call.t("already.show")).class("primary")];
    let text = match (may_rotate(&found.key), found.is_the_only_one()) {
        (true, true) => {
            links.push(Link::new(at("/rotate"), call.t("one.regenerate")));
            call.with("already.text_one", &[&name])
        }
        (true, false) => {
            links.push(Link::new(at("/rotate"), call.t("act.rotate")));
            call.with("already.text", &[&name])
        }
        (false, _) => call.with("already.text_over", &[&name]),
    };
    let blocks = Blocks::new()
        .with(&Note::new("info", call.t("already.title"), text))
        .with(&Actions {
            label: call.t("nav.actions"),
            links,
        });
    Ok(Page::new(call.t("already.title"), blocks)
        .status(axum::http::StatusCode::CONFLICT)
        .into())
}
