//! A rotation, guided: create, update, test, delete.

use std::time::Duration;

use gatekey::{Conflict, Error};

use super::issue::{already, life_of, lifetimes, mark_chosen, token_page};
use super::{Ask, draw};
use crate::desk::{Found, is_over, mark};
use crate::format;
use crate::reply::{Body, Fault, Page, Reply};
use crate::view::{Actions, Blocks, Choice, Field, Form, Kind, Lead, Link, Note, Step, Steps};

fn rotate_form(call: &Ask, found: &Found) -> Result<Form, Fault> {
    let (key, texts) = (&found.key, &call.site.look.texts);
    let longest = found.keyspace.max_grace;
    let graces = found.ceiling.graces.iter();
    let mut choices: Vec<Choice> = graces
        .filter(|grace| longest.is_none_or(|longest| **grace <= longest))
        .map(|grace| {
            let text = match grace.is_zero() {
                true => call.t("rotate.at_once"),
                false => call.with("rotate.grace", &[&format::span(texts, *grace)]),
            };
            Choice::new(grace.as_secs().to_string(), text)
        })
        .collect();
    // The host's second choice is one with a grace, if there is one.
    let usual = choices.get(2).or(choices.last()).map(|of| of.value.clone());
    let sent = call.form.one("grace").ok().flatten().map(str::to_owned);
    mark_chosen(&mut choices, sent.or(usual).as_deref());
    let address = format!("/keys/{}", key.id);
    let mut form = Form::post(
        call.at(&format!("{address}/rotate")),
        call.t("rotate.submit"),
    )
    .hidden("seen", mark(key))
    .hidden("number", draw()?)
    .field(
        Field::new(Kind::Radios, "grace", call.t("rotate.when"))
            .hint(call.t("rotate.when_hint"))
            .choices(choices)
            .required(),
    )
    .cancel(call.at(&address), call.t("form.cancel"));
    let sent = call.form.one("life").ok().flatten().map(str::to_owned);
    let mut lives = lifetimes(call, &found.ceiling, sent.as_deref());
    if !lives.is_empty() {
        let same = match format::end_of(key) {
            Some(at) => call.with("rotate.same_end", &[&format::instant(at)]),
            None => call.t("rotate.same_never"),
        };
        let outlasts = key.expires_at.is_none() && !found.ceiling.may_never_end;
        if !outlasts {
            lives.insert(0, Choice::new("same", same));
        }
        lives.iter_mut().for_each(|choice| choice.chosen = false);
        mark_chosen(&mut lives, sent.as_deref());
        form = form.field(Field::new(Kind::Select, "life", call.t("rotate.life")).choices(lives));
    }
    Ok(form)
}

pub(super) fn form(call: &Ask) -> Result<Reply, Fault> {
    let found = call.desk().find(&call.segment)?;
    if is_over(&found.key) || found.key.successor.is_some() {
        return Err(Fault::Changed);
    }
    let blocks = Blocks::new()
        .with(&Lead {
            text: call.with("rotate.lead", &[&format::name_of(&found.key)]),
        })
        .with(&rotate_form(call, &found)?);
    Ok(Page::new(call.t("rotate.title"), blocks).into())
}

pub(super) fn rotate(call: &Ask) -> Result<Reply, Fault> {
    let number = call.form.must("number")?;
    if let Some(before) = call.before(number) {
        return before;
    }
    let seconds: u64 = call
        .form
        .must("grace")?
        .parse()
        .map_err(|_| Fault::Tampered)?;
    let grace = Duration::from_secs(seconds);
    let seen = call.form.must("seen")?;
    let life = life_of(call)?;
    match call.desk().rotate(&call.segment, seen, grace, life, number) {
        Ok(rotated) => {
            let id = rotated.key.id.to_string();
            let actor = &call.desk().member.actor;
            call.site.sent(actor, number, id.clone());
            let stored = match grace.is_zero() {
                true => call.at(&format!("/keys/{id}")),
                false => call.at(&format!("/keys/{}/steps", rotated.old.id)),
            };
            let note = match rotated.old.retiring_until {
                Some(until) => {
                    let text = call.with("rotate.until", &[&format::instant(until)]);
                    Note::new("info", call.t("rotate.next"), text)
                }
                None => Note::new(
                    "warn",
                    call.t("rotate.over_title"),
                    call.t("rotate.over_text"),
                ),
            };
            let title = call.t("token.title");
            Ok(token_page(call, title, rotated.token.expose(), stored, Some(note)).into())
        }
        Err(fault) if fault.is_for_the_form() => {
            if let Fault::Engine(Error::Conflict(Conflict::AlreadyAnswered { key })) = &fault {
                return already(call, &key.to_string());
            }
            let found = call.desk().find(&call.segment)?;
            let (title, text) = call.problem(&fault);
            let form = rotate_form(call, &found)?.problem(title, text);
            let page = Page::new(call.t("rotate.title"), Blocks::new().with(&form));
            Ok(page.status(fault.status()).into())
        }
        Err(fault) => Err(fault),
    }
}

/// The old key and the one that replaces it, if both are within reach.
fn pair(call: &Ask) -> Result<(Found, Found), Fault> {
    let old = call.desk().find(&call.segment)?;
    let new = old.key.successor.ok_or(Fault::NotFound)?;
    let new = call.desk().find(&new.to_string())?;
    Ok((old, new))
}

/// What is to be done yet. It is all read from the two keys: the page can be left and
/// come back to.
pub(super) fn steps(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let (old, new) = pair(call)?;
    let is_used = new.key.usage.count > 0;
    let is_over = is_over(&old.key);
    let class = |done: bool, now: bool| match (done, now) {
        (true, _) => "done",
        (false, true) => "now",
        (false, false) => "later",
    };
    let step = |class: &'static str, name: &str, text: String| Step {
        class,
        word: call.t(&format!("step.{class}")),
        title: call.t(&format!("steps.{name}_title")),
        text,
        poll: String::new(),
        polling: String::new(),
        link: None,
    };
    let at = |id: gatekey::KeyId, page: &str| call.at(&format!("/keys/{id}{page}"));
    let created = step("done", "create", call.with("steps.create", &[&new.key.id]));
    let updated = step(class(is_used, true), "update", call.t("steps.update"));
    let tested_text = match new.key.usage.last_used {
        Some(used) if is_used => call.with("steps.tested", &[&format::instant(used)]),
        _ => call.t("steps.test"),
    };
    let mut tested = step(class(is_used, false), "test", tested_text);
    if !is_used {
        tested.poll = at(old.key.id, "/used");
        tested.polling = call.t("steps.polling");
        tested.link = Some(Link::new(at(old.key.id, "/steps"), call.t("steps.look")));
    }
    let delete_text = match (is_over, old.key.retiring_until) {
        (true, _) => call.t("steps.deleted"),
        (false, Some(until)) => {
            let last = old.key.usage.last_used.map(format::instant);
            let last = last.unwrap_or_else(|| call.t("key.never_used"));
            call.with("steps.delete", &[&format::instant(until), &last])
        }
        (false, None) => call.t("steps.delete_now"),
    };
    let mut deleted = step(class(is_over, is_used), "delete", delete_text);
    if !is_over {
        let link = Link::new(at(old.key.id, "/revoke"), call.t("steps.delete_act"));
        deleted.link = Some(match is_used {
            true => link.class("danger"),
            false => link,
        });
    }
    let mut blocks = Blocks::new();
    if is_over && is_used {
        blocks.push(&Note::new("good", call.t("steps.all_done"), ""));
    }
    blocks.push(&Steps {
        label: call.t("steps.label"),
        steps: vec![created, updated, tested, deleted],
    });
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links: vec![
            Link::new(at(new.key.id, ""), call.t("steps.new_key")),
            Link::new(at(old.key.id, ""), call.t("steps.old_key")),
        ],
    });
    let title = call.with("steps.title", &[&format::name_of(&old.key)]);
    Ok(Page::new(title, blocks).into())
}

/// Whether the new key was used, for the script.
pub(super) fn used(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let (_, new) = pair(call)?;
    Ok(Body::Plain(if new.key.usage.count > 0 { "yes" } else { "no" }).into())
}
