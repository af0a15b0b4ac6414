//! A rotation, guided: create, update, test, delete.

use std::time::Duration;

use gatekey::{Conflict, Error, Key, KeyState};

use super::issue::{already, life_of, lifetimes, mark_chosen};
use super::{Ask, draw, key, list};
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
    // Who has one key and regenerates it has lost it, most often. Elsewhere, the third of
    // the host's choices is one with a grace, if there is one.
    let usual = match found.is_the_only_one() {
        true => choices
            .iter()
            .find(|of| of.value == "0")
            .or(choices.first()),
        false => choices.get(2).or(choices.last()),
    };
    let usual = usual.map(|of| of.value.clone());
    let sent = call.form.one("grace").ok().flatten().map(str::to_owned);
    mark_chosen(&mut choices, sent.or(usual).as_deref());
    let address = format!("/keys/{}", key.id);
    let mut form = Form::post(
        call.at(&format!("{address}/rotate")),
        words(call, found).submit,
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
            None => {
                // It would stand there twice.
                lives.retain(|choice| choice.value != "never");
                call.t("rotate.same_never")
            }
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

/// What a rotation is called: by one word all over the pages of one key at a time.
struct Words {
    title: String,
    lead: String,
    submit: String,
}

fn words(call: &Ask, found: &Found) -> Words {
    let name = format::name_of(&found.key);
    match found.is_the_only_one() {
        true => Words {
            title: call.t("one.regenerate"),
            lead: call.with("one.regenerate_lead", &[&name]),
            submit: call.t("one.regenerate"),
        },
        false => Words {
            title: call.t("rotate.title"),
            lead: call.with("rotate.lead", &[&name]),
            submit: call.t("rotate.submit"),
        },
    }
}

pub(super) fn form(call: &Ask) -> Result<Reply, Fault> {
    let found = call.desk().find(&call.segment)?;
    if is_over(&found.key) || found.key.successor.is_some() {
        return Err(Fault::Changed);
    }
    let words = words(call, &found);
    let blocks = Blocks::new()
        .with(&Lead { text: words.lead })
        .with(&rotate_form(call, &found)?);
    Ok(Page::new(words.title, blocks).into())
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
            let (_, keyspace) = call.desk().ceiling(rotated.key.keyspace.as_str())?;
            let of = key::of(call, &rotated.key, &keyspace);
            let blocks = of.token_page(rotated.token.expose(), stored, Some(note));
            Ok(Page::new(call.t("token.title"), blocks).into())
        }
        Err(fault) if fault.is_for_the_form() => {
            if let Fault::Engine(Error::Conflict(Conflict::AlreadyAnswered { key })) = &fault {
                return already(call, &key.to_string());
            }
            let found = call.desk().find(&call.segment)?;
            let form = call.again(rotate_form(call, &found)?, &fault);
            let page = Page::new(words(call, &found).title, Blocks::new().with(&form));
            Ok(page.status(fault.status()).into())
        }
        Err(fault) => Err(fault),
    }
}

/// The old key and the one that has its place, if both are within reach.
fn pair(call: &Ask) -> Result<(Found, Found), Fault> {
    let old = call.desk().find(&call.segment)?;
    let new = call.desk().replacement(&old.key)?;
    Ok((old, new.ok_or(Fault::NotFound)?))
}

/// The new key has ended before the old one was replaced by it: there are no steps to go on
/// with.
fn lost(call: &Ask, old: &Found, new: &Found) -> Page {
    let at = |id: gatekey::KeyId| call.at(&format!("/keys/{id}"));
    let text = match (is_over(&old.key), format::end_of(&old.key)) {
        (false, Some(until)) => call.with("steps.lost_until", &[&format::instant(until)]),
        (false, None) => call.t("steps.lost_still"),
        (true, _) => call.t("steps.lost_both"),
    };
    let blocks = Blocks::new()
        .with(&Note::new("bad", call.t("steps.lost_title"), text))
        .with(&Actions {
            label: call.t("nav.actions"),
            links: vec![
                list::new_link(call, old),
                Link::new(at(new.key.id), call.t("steps.new_key")),
                Link::new(at(old.key.id), call.t("steps.old_key")),
            ],
        });
    let title = call.with("steps.title", &[&format::name_of(&old.key)]);
    Page::new(title, blocks)
}

/// Why the old key should not go yet, if the new one was not used, or is good for nothing
/// now.
pub(super) fn not_ready(call: &Ask, new: &Key) -> Option<Note> {
    if !matches!(new.state, KeyState::Active | KeyState::Retiring) {
        let word = format::state_word(&call.site.look.texts, new.state);
        let text = call.with("steps.halted_text", &[&word]);
        return Some(Note::new("warn", call.t("steps.halted_title"), text));
    }
    let (title, text) = (call.t("delete.unused_title"), call.t("delete.unused_text"));
    (new.usage.count == 0).then(|| Note::new("warn", title, text))
}

/// What is to be done yet. It is all read from the two keys: the page can be left and
/// come back to. Once the old key has ended, nothing is: what was not done is left out.
pub(super) fn steps(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let (old, new) = pair(call)?;
    if is_over(&new.key) {
        return Ok(lost(call, &old, &new).into());
    }
    let is_used = new.key.usage.count > 0;
    let is_over = is_over(&old.key);
    let class = |done: bool, now: bool| match (done, now) {
        (true, _) => "done",
        (false, _) if is_over => "left",
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
        _ if is_over => call.t("steps.untested"),
        _ => call.t("steps.test"),
    };
    let mut tested = step(class(is_used, false), "test", tested_text);
    if !is_used && !is_over {
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
    // Nobody here can change that it is disabled, or its owner suspended.
    let is_good = matches!(new.key.state, KeyState::Active | KeyState::Retiring);
    if let Some(note) = not_ready(call, &new.key).filter(|_| !is_good) {
        blocks.push(&note);
    }
    if is_over {
        blocks.push(&match is_used {
            true => Note::new("good", call.t("steps.all_done"), ""),
            false => Note::new("warn", call.t("steps.unused"), call.t("steps.unused_text")),
        });
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

/// Whether the page of the steps has news, for the script: the new key was used, or ended.
pub(super) fn used(call: &Ask) -> Result<Reply, Fault> {
    call.desk().write_usage();
    let (_, new) = pair(call)?;
    let is_news = new.key.usage.count > 0 || is_over(&new.key);
    Ok(Body::Plain(if is_news { "yes" } else { "no" }).into())
}
