//! A new key, whose token is shown once.

use std::time::Duration;

use gatekey::{Error, Expiry, KeyId, Keyspace, OwnerPath, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::IssueRequest;
use serde_json::Value;

use super::edit::plans;
use super::{DAY, back, of};
use crate::fields::query;
use crate::format;
use crate::operator::Ask;
use crate::reply::{Fault, Page, Reply};
use crate::site::Before;
use crate::view::{Actions, Blocks, Choice, Field, Form, Kind, Link, Note};

/// A page with the token that the API made.
pub(super) fn shown(call: &Ask, made: &Value, note: Option<Note>) -> Result<Reply, Fault> {
    let broken = || Fault::Engine(Error::Internal("an answer of the admin API has no token"));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let token = zeroize::Zeroizing::new(text(made.get("token")).ok_or_else(broken)?);
    let id = text(made.pointer("/key/id")).ok_or_else(broken)?;
    let number = call.form.must("number")?;
    call.site.sent(call.who.actor(), number, id.clone());
    let id: KeyId = id.parse().map_err(|_| broken())?;
    let key = call.engine().key(id)?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let stored = call.at(&format!("/keys/{id}"));
    let blocks = of(call, &key, &keyspace).token_page(&token, stored, note);
    Ok(Page::new(call.t("token.title"), blocks).into())
}

/// What a form with this number made before, as a page.
pub(super) fn before(call: &Ask) -> Result<Option<Reply>, Fault> {
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
    let usual = match keyspace.default_lifetime {
        Some(life) => format::span(&call.site.look.texts, life),
        None => call.t("key.never_expires"),
    };
    let sent = value("life");
    let lives = [
        ("default".to_owned(), call.with("life.default", &[&usual])),
        ("never".to_owned(), call.t("life.never")),
    ];
    let days = [1, 7, 30, 90, 365].map(|days| {
        let span = Duration::from_secs(days * DAY);
        (days.to_string(), format::span(&call.site.look.texts, span))
    });
    let lives = lives.into_iter().chain(days).map(|(value, text)| {
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
            Field::new(Kind::Checks, "permission", call.t("new.permissions"))
                .hint(call.t("new.permissions_hint"))
                .choices(permissions),
        );
    }
    if is_bare(call, keyspace) {
        let none = Choice::new("yes", call.t("new.bare")).chosen(call.form.has("bare", "yes"));
        let field = Field::new(Kind::Checks, "bare", call.t("new.bare_label"));
        form = form.field(field.choices(vec![none]));
    }
    form =
        form.field(Field::new(Kind::Select, "life", call.t("new.life")).choices(lives.collect()));
    if !keyspace.plans.is_empty() {
        let sent = value("plan");
        let mut choices = plans(call, keyspace, &sent);
        if let Some(first) = choices.first_mut() {
            let usual = keyspace.default_plan.clone();
            let usual = usual.unwrap_or_else(|| call.t("key.no_plan"));
            first.text = call.with("life.default", &[&usual]);
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

/// Whether a form that came asks for a key without any permission, where there are some.
fn is_bare(call: &Ask, keyspace: &Keyspace) -> bool {
    let asked = call.form.all("permission").next();
    !call.form.is_empty() && asked.is_none() && keyspace.permissions.iter().any(|of| !of.retired)
}

/// Looks at what a form has before the API does, to say at which field it is wrong.
fn validate(call: &Ask, keyspace: &Keyspace, owner: &str) -> Result<(), Fault> {
    let at = |name: &str, text: String| Fault::Field {
        name: name.to_owned(),
        text,
    };
    if let Err(error) = owner.parse::<OwnerPath>() {
        return Err(at("owner", error.to_string()));
    }
    match is_bare(call, keyspace) && !call.form.has("bare", "yes") {
        true => Err(at("permission", call.t("new.bare_problem"))),
        false => Ok(()),
    }
}

pub(in crate::operator) fn new_form(call: &Ask) -> Result<Reply, Fault> {
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

pub(in crate::operator) fn issue(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
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
        owner: owned("owner")?.unwrap_or_default().trim().to_owned(),
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
        .and_then(|()| validate(call, &keyspace, &request.owner))
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
pub(in crate::operator) fn new_for(call: &Ask, owner: &str) -> String {
    call.at(&format!("/keys/new{}", query([("owner", owner)])))
}
