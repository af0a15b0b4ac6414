//! One key, as operators see and change it.

use std::time::Duration;

use gatekey::{Error, Expiry, Key, KeyState, Keyspace, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::{
    IssueRequest, KeyChanges, Nothing, Patch, RevokeRequest, RotateRequest, Span,
};
use serde_json::Value;

use super::{Ask, hints, keys, trail};
use crate::chart;
use crate::desk::{counts, is_over, mark};
use crate::fields::query;
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::site::Before;
use crate::view::{
    Actions, Blocks, Cell, Choice, Facts, Field, Form, Kind, Lead, Link, Note, Shown,
};

const DAY: u64 = 86_400;

pub(super) fn show(call: &Ask) -> Result<Reply, Fault> {
    let _ = call.engine().flush();
    let key = call.key()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let at = |page: &str| call.at(&format!("/keys/{}{page}", key.id));
    let mut blocks = Blocks::new();
    if let Some(done) = call.done() {
        blocks.push(&done);
    }
    let (may_issue, may_revoke) = (call.who.may(Right::Issue), call.who.may(Right::Revoke));
    let mut links = Vec::new();
    if may_issue && counts(&key) && key.state != KeyState::Disabled {
        links.push(Link::new(at("/rotate"), call.t("act.rotate")));
    }
    if may_issue && !is_over(&key) {
        links.push(Link::new(at("/edit"), call.t("act.edit")));
    }
    if may_revoke && key.revoked.is_none() {
        links.push(Link::new(at("/revoke"), call.t("act.revoke")));
    }
    links.push(Link::new(
        keys::owner_address(call, key.owner.as_str()),
        call.t("key.to_owner"),
    ));
    // What can be undone stands before what cannot.
    if !is_over(&key) {
        if key.disabled && may_issue {
            let form = Form::post(at("/enable"), call.t("key.enable"));
            blocks.push(&form.inline().hidden("seen", mark(&key)));
        } else if !key.disabled && may_revoke {
            let form = Form::post(at("/disable"), call.t("key.disable")).plain();
            blocks.push(&form.inline().hidden("seen", mark(&key)));
        }
    }
    blocks.push(&Actions {
        label: call.t("nav.actions"),
        links,
    });
    if let Some(note) = hints::note(call, &key)? {
        blocks.push(&note);
    }
    blocks.push(&facts(call, &key, &keyspace)?);
    blocks.push(&usage(call, &key)?);
    let now = call.engine().now();
    let days = call
        .engine()
        .usage_of_key(key.id, chart::since_days(now), now)?;
    blocks.push(&chart::of_days(&call.site.look.texts, "usage", days, now));
    let entries = call.engine().history(key.id, 0, 200)?;
    blocks.push(&trail::table(
        call,
        call.t("history.title"),
        entries.iter().rev(),
    ));
    Ok(Page::new(format::name_of(&key), blocks).into())
}

fn facts(call: &Ask, key: &Key, keyspace: &Keyspace) -> Result<Facts, Fault> {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let names: Vec<String> = keyspace
        .names(key.permissions)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let permissions = match names.is_empty() {
        true => Cell::Text(call.t("key.no_permissions")),
        false => Cell::Chips(names),
    };
    let owner = call.engine().owner(key.owner.clone())?;
    let mut rows = vec![
        (call.t("key.state"), format::state(texts, key.state)),
        (call.t("key.id"), Cell::Code(key.id.to_string())),
        (
            call.t("key.owner"),
            Cell::Link {
                href: keys::owner_address(call, key.owner.as_str()),
                text: key.owner.to_string(),
            },
        ),
        (
            call.t("key.keyspace"),
            Cell::Link {
                href: call.at(&format!("/keyspaces/{}", key.keyspace)),
                text: key.keyspace.to_string(),
            },
        ),
        (call.t("key.permissions"), permissions),
        (
            call.t("key.created"),
            format::time(texts, key.created_at, now),
        ),
        (call.t("key.ends"), format::expiry(texts, key, now)),
    ];
    if let Some(by) = &key.created_by {
        rows.push((call.t("key.created_by"), Cell::Text(by.clone())));
    }
    if owner.is_suspended() {
        rows.push((
            call.t("key.owner_state"),
            Cell::State {
                class: "suspended",
                word: call.t("state.suspended"),
            },
        ));
    }
    if let Some(revoked) = &key.revoked {
        let by = revoked.by.clone().unwrap_or_default();
        let note = revoked.note.clone().unwrap_or_default();
        let text = call.with("key.revoked_text", &[&revoked.reason, &by, &note]);
        rows.push((call.t("key.revoked"), Cell::Text(text)));
    }
    let plan = key.plan.clone().unwrap_or_else(|| call.t("key.no_plan"));
    rows.push((call.t("key.plan"), Cell::Text(plan)));
    if !key.networks.is_empty() {
        let networks = key.networks.iter().map(ToString::to_string).collect();
        rows.push((call.t("key.networks"), Cell::Chips(networks)));
    }
    if !key.labels.is_empty() {
        let labels = key
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        rows.push((call.t("key.labels"), Cell::Chips(labels)));
    }
    if let Some(text) = &key.description {
        rows.push((call.t("key.description"), Cell::Text(text.clone())));
    }
    for (id, name) in [
        (key.successor, "key.successor"),
        (key.predecessor, "key.predecessor"),
    ] {
        if let Some(id) = id {
            let href = call.at(&format!("/keys/{id}"));
            let text = id.to_string();
            rows.push((call.t(name), Cell::Link { href, text }));
        }
    }
    Ok(Facts {
        heading: call.t("key.facts"),
        rows,
    })
}

fn usage(call: &Ask, key: &Key) -> Result<Facts, Fault> {
    let (texts, now) = (&call.site.look.texts, call.engine().now());
    let mut rows = vec![
        (
            call.t("key.last_used"),
            format::time_or(texts, key.usage.last_used, now, "key.never_used"),
        ),
        (
            call.t("key.requests"),
            Cell::Number(format::number(key.usage.count)),
        ),
    ];
    if !is_over(key) {
        let quotas = call.engine().quotas_left(key.id)?;
        let limits = call.engine().limits_left(key.id)?;
        rows.extend(quotas.iter().map(|left| format::quota(texts, left)));
        rows.extend(limits.iter().map(|status| format::limit(texts, status)));
    }
    Ok(Facts {
        heading: call.t("key.usage"),
        rows,
    })
}

/// A form that comes back with what was wrong.
pub(super) fn back(call: &Ask, title: &str, form: Form, fault: &Fault) -> Reply {
    let (heading, text) = call.problem(fault);
    let page = Page::new(
        call.t(title),
        Blocks::new().with(&form.problem(heading, text)),
    );
    page.status(fault.status()).into()
}

fn edit_form(call: &Ask, key: &Key, keyspace: &Keyspace) -> Form {
    let sent = |name: &str, now: &str| call.form.all(name).next().unwrap_or(now).to_owned();
    let is_back = !call.form.is_empty();
    let held = keyspace.names(key.permissions);
    let permissions = keyspace.permissions.iter().filter(|of| !of.retired);
    let permissions: Vec<Choice> = permissions
        .map(|of| {
            let chosen = match is_back {
                true => call.form.has("permission", &of.name),
                false => held.contains(&of.name.as_str()),
            };
            Choice::new(&of.name, &of.name).chosen(chosen)
        })
        .collect();
    let address = format!("/keys/{}", key.id);
    let mut form = Form::post(call.at(&format!("{address}/edit")), call.t("form.save"))
        .hidden("seen", mark(key))
        .cancel(call.at(&address), call.t("form.cancel"))
        .field(
            Field::new(Kind::Text, "name", call.t("new.name"))
                .value(sent("name", key.name.as_deref().unwrap_or("")))
                .max(bounds::NAME_LEN_MAX),
        )
        .field(
            Field::new(Kind::Area, "description", call.t("key.description"))
                .value(sent(
                    "description",
                    key.description.as_deref().unwrap_or(""),
                ))
                .max(bounds::DESCRIPTION_LEN_MAX),
        );
    if !permissions.is_empty() {
        form = form.field(
            Field::new(Kind::Checks, "permission", call.t("key.permissions")).choices(permissions),
        );
    }
    if !keyspace.plans.is_empty() {
        let now = sent("plan", key.plan.as_deref().unwrap_or(""));
        form = form.field(
            Field::new(Kind::Select, "plan", call.t("key.plan"))
                .choices(plans(call, keyspace, &now)),
        );
    }
    form
}

fn plans(call: &Ask, keyspace: &Keyspace, now: &str) -> Vec<Choice> {
    let none = std::iter::once(Choice::new("", call.t("key.no_plan")));
    none.chain(
        keyspace
            .plans
            .iter()
            .map(|plan| Choice::new(&plan.name, &plan.name)),
    )
    .map(|choice| {
        let chosen = choice.value == now;
        choice.chosen(chosen)
    })
    .collect()
}

pub(super) fn edit(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let key = call.key()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let blocks = Blocks::new().with(&edit_form(call, &key, &keyspace));
    Ok(Page::new(call.t("edit.title"), blocks).into())
}

pub(super) fn update(call: &Ask) -> Result<Reply, Fault> {
    let turn = call.key()?;
    let _turn = call.who.turns.take(&turn.owner);
    let key = call.seen()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let patch = |text: Option<&str>| text.map_or(Patch::Clear, |text| Patch::Set(text.to_owned()));
    let mut changes = KeyChanges {
        name: patch(call.form.one("name")?),
        description: patch(call.form.one("description")?),
        ..KeyChanges::default()
    };
    // What a key has of names that are retired is not the form's to take away.
    let wanted: Vec<String> = call.form.all("permission").map(str::to_owned).collect();
    let held = keyspace.names(key.permissions & keyspace.active_mask());
    changes.remove_permissions = held
        .iter()
        .filter(|name| !wanted.iter().any(|of| of == *name))
        .map(|name| (*name).to_owned())
        .collect();
    changes.add_permissions = wanted
        .into_iter()
        .filter(|name| !held.contains(&name.as_str()))
        .collect();
    if !keyspace.plans.is_empty() {
        let plan = call.form.one("plan")?;
        if plan != key.plan.as_deref() {
            changes.plan = patch(plan);
        }
    }
    match call.api("PATCH", &format!("/v1/keys/{}", key.id), &changes, None) {
        Ok(_) => see(format!("/keys/{}?done=saved", key.id)),
        Err(fault) if fault.is_for_the_form() => Ok(back(
            call,
            "edit.title",
            edit_form(call, &key, &keyspace),
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

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

pub(super) fn disable(call: &Ask) -> Result<Reply, Fault> {
    switch(call, "disable")
}

pub(super) fn enable(call: &Ask) -> Result<Reply, Fault> {
    switch(call, "enable")
}

/// The reasons that a form offers, by the names that the API has for them.
pub(super) fn reasons(call: &Ask) -> Field {
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

pub(super) fn reason_of(call: &Ask) -> Result<gatekey::Reason, Fault> {
    match call.form.must("reason")? {
        "key_compromise" => Ok(gatekey::Reason::KeyCompromise),
        "cessation" => Ok(gatekey::Reason::Cessation),
        "superseded" => Ok(gatekey::Reason::Superseded),
        "privilege_withdrawn" => Ok(gatekey::Reason::PrivilegeWithdrawn),
        _ => Err(Fault::Tampered),
    }
}

pub(super) fn note(call: &Ask) -> Field {
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

pub(super) fn revoke_form(call: &Ask) -> Result<Reply, Fault> {
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
            (
                call.t("key.last_used"),
                format::time_or(texts, key.usage.last_used, now, "key.never_used"),
            ),
        ],
    });
    blocks.push(&revoking(call, &key));
    Ok(Page::new(call.t("revoke.title"), blocks).into())
}

pub(super) fn revoke(call: &Ask) -> Result<Reply, Fault> {
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

fn shown(call: &Ask, made: &Value, note: Option<Note>) -> Result<Reply, Fault> {
    let broken = || Fault::Engine(Error::Internal("an answer of the admin API has no token"));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let token = text(made.get("token")).ok_or_else(broken)?;
    let id = text(made.pointer("/key/id")).ok_or_else(broken)?;
    let number = call.form.must("number")?;
    call.site.sent(call.who.actor(), number, id.clone());
    let block = Shown {
        token: zeroize::Zeroizing::new(token),
        label: call.t("token.label"),
        once: call.t("token.once"),
        copy: call.t("token.copy"),
        copied: call.t("token.copied"),
        by_hand: call.t("token.by_hand"),
        stored: Link::new(call.at(&format!("/keys/{id}")), call.t("token.stored")),
    };
    let mut blocks = Blocks::new();
    if let Some(note) = note {
        blocks.push(&note);
    }
    blocks.push(&block);
    Ok(Page::new(call.t("token.title"), blocks).into())
}

/// What a form with this number made before, as a page.
fn before(call: &Ask) -> Result<Option<Reply>, Fault> {
    let Before::Yes(id) = call
        .site
        .was_sent(call.who.actor(), call.form.must("number")?)
    else {
        return Ok(None);
    };
    let text = call.with("already.text", &[&id]);
    let blocks = Blocks::new()
        .with(&Note::new("info", call.t("already.title"), text))
        .with(&Actions {
            label: call.t("nav.actions"),
            links: vec![Link::new(
                call.at(&format!("/keys/{id}")),
                call.t("already.show"),
            )],
        });
    let page = Page::new(call.t("already.title"), blocks);
    Ok(Some(page.status(axum::http::StatusCode::CONFLICT).into()))
}

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

pub(super) fn rotate_form(call: &Ask) -> Result<Reply, Fault> {
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

pub(super) fn rotate(call: &Ask) -> Result<Reply, Fault> {
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

fn issuing(call: &Ask, keyspace: &Keyspace) -> Result<Form, Fault> {
    let value = |name: &str| {
        let sent = call.form.one(name).ok().flatten();
        let asked = call.query.one(name).ok().flatten();
        sent.or(asked).unwrap_or_default().to_owned()
    };
    let permissions = keyspace.permissions.iter().filter(|of| !of.retired);
    let permissions: Vec<Choice> = permissions
        .map(|of| Choice::new(&of.name, &of.name).chosen(call.form.has("permission", &of.name)))
        .collect();
    let lives = [("default", "life.default"), ("never", "life.never")];
    let sent = value("life");
    let lives = lives
        .into_iter()
        .map(|(value, name)| (value.to_owned(), call.t(name)));
    let days = [1, 7, 30, 90, 365].map(|days| {
        let span = Duration::from_secs(days * DAY);
        (days.to_string(), format::span(&call.site.look.texts, span))
    });
    let lives = lives.chain(days).map(|(value, text)| {
        let chosen = value == sent;
        Choice::new(value, text).chosen(chosen)
    });
    let mut form = Form::post(call.at("/keys/new"), call.t("new.submit"))
        .hidden("keyspace", keyspace.prefix.as_str())
        .hidden("number", call.number()?)
        .field(
            Field::new(Kind::Text, "owner", call.t("key.owner"))
                .hint(call.t("new.owner_hint"))
                .value(value("owner"))
                .max(255)
                .required(),
        )
        .field(
            Field::new(Kind::Text, "name", call.t("new.name"))
                .value(value("name"))
                .max(bounds::NAME_LEN_MAX),
        );
    if !permissions.is_empty() {
        form = form.field(
            Field::new(Kind::Checks, "permission", call.t("new.permissions")).choices(permissions),
        );
    }
    form =
        form.field(Field::new(Kind::Select, "life", call.t("new.life")).choices(lives.collect()));
    if !keyspace.plans.is_empty() {
        let sent = value("plan");
        let mut choices = plans(call, keyspace, &sent);
        if let Some(first) = choices.first_mut() {
            first.text = call.t("life.default");
        }
        form = form.field(Field::new(Kind::Select, "plan", call.t("key.plan")).choices(choices));
    }
    form = form
        .field(
            Field::new(Kind::Area, "description", call.t("key.description"))
                .value(value("description"))
                .max(bounds::DESCRIPTION_LEN_MAX),
        )
        .cancel(call.at("/keys"), call.t("form.cancel"));
    Ok(call.proving(form))
}

pub(super) fn new_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let blocks = match call.query.one("keyspace")? {
        Some(prefix) => {
            let prefix = prefix
                .parse::<gatekey::Prefix>()
                .map_err(|_| Fault::NotFound)?;
            let keyspace = call.engine().keyspace(prefix)?;
            Blocks::new().with(&issuing(call, &keyspace)?)
        }
        None => {
            let keyspaces = call.engine().keyspaces()?;
            let choices = keyspaces.iter().map(|of| {
                let text = match of.description.as_str() {
                    "" => of.prefix.to_string(),
                    text => format!("{} - {text}", of.prefix),
                };
                Choice::new(of.prefix.as_str(), text)
            });
            let field = Field::new(Kind::Select, "keyspace", call.t("key.keyspace"));
            let mut form = Form::get(call.at("/keys/new"), call.t("new.next"));
            if let Some(owner) = call.query.one("owner")? {
                form = form.hidden("owner", owner);
            }
            Blocks::new().with(&form.field(field.choices(choices.collect())))
        }
    };
    Ok(Page::new(call.t("new.title"), blocks).into())
}

pub(super) fn issue(call: &Ask) -> Result<Reply, Fault> {
    if let Some(before) = before(call)? {
        return Ok(before);
    }
    let prefix = call.form.must("keyspace")?;
    let prefix = prefix
        .parse::<gatekey::Prefix>()
        .map_err(|_| Fault::NotFound)?;
    let keyspace = call.engine().keyspace(prefix)?;
    let owned = |name: &str| -> Result<Option<String>, Fault> {
        Ok(call.form.one(name)?.map(str::to_owned))
    };
    let expiry = match call.form.must("life")? {
        "default" => None,
        "never" => Some(Expiry::Never),
        days => {
            let days: u64 = days.parse().map_err(|_| Fault::Tampered)?;
            let seconds = days.checked_mul(DAY).ok_or(Fault::Tampered)?;
            Some(Expiry::After(Duration::from_secs(seconds)))
        }
    };
    let request = IssueRequest {
        keyspace: keyspace.prefix.to_string(),
        owner: owned("owner")?.unwrap_or_default(),
        permissions: call.form.all("permission").map(str::to_owned).collect(),
        name: owned("name")?,
        description: owned("description")?,
        plan: owned("plan")?,
        expiry,
        ..IssueRequest::default()
    };
    let number = call.form.must("number")?;
    let made = call
        .prove()
        .and_then(|()| call.api("POST", "/v1/keys", &request, Some(number)));
    match made {
        Ok(made) => shown(call, &made, None),
        Err(fault) if fault.is_for_the_form() => {
            Ok(back(call, "new.title", issuing(call, &keyspace)?, &fault))
        }
        Err(fault) => Err(fault),
    }
}

/// The address of the form for a new key of an owner.
pub(super) fn new_for(call: &Ask, owner: &str) -> String {
    call.at(&format!("/keys/new{}", query([("owner", owner)])))
}
