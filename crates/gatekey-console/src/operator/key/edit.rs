//! A key's name, description, permissions and plan.

use gatekey::{Key, Keyspace, Plan, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::{KeyChanges, Patch};

use super::back;
use crate::desk::mark;
use crate::facts;
use crate::operator::Ask;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Choice, Field, Form, Kind};

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

/// A plan in a list: its name, and what it gives.
pub(in crate::operator) fn plan_text(call: &Ask, plan: &Plan) -> String {
    call.with("plan.named", &[&plan.name, &facts::plan(call, plan)])
}

pub(super) fn plans(call: &Ask, keyspace: &Keyspace, now: &str) -> Vec<Choice> {
    let none = std::iter::once(Choice::new("", call.t("key.no_plan")));
    none.chain(
        keyspace
            .plans
            .iter()
            .map(|plan| Choice::new(&plan.name, plan_text(call, plan))),
    )
    .map(|choice| {
        let chosen = choice.value == now;
        choice.chosen(chosen)
    })
    .collect()
}

pub(in crate::operator) fn edit(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Issue)?;
    let key = call.key()?;
    let keyspace = call.engine().keyspace(key.keyspace)?;
    let blocks = Blocks::new().with(&edit_form(call, &key, &keyspace));
    Ok(Page::new(call.t("edit.title"), blocks).into())
}

pub(in crate::operator) fn update(call: &Ask) -> Result<Reply, Fault> {
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
