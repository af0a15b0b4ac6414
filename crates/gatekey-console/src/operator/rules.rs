//! Creating and changing keyspaces: their rules, their permissions, and the end of all
//! their keys.

use gatekey::{KeysPerOwner, Keyspace, OwnerPath, Prefix, bounds};
use gatekey_admin::Right;
use gatekey_admin::wire::{KeyspaceChanges, KeyspaceRequest, Patch, RevokeKeyspaceRequest, Span};
use serde_json::Value;

use super::{Ask, given, key};
use crate::format;
use crate::reply::{Fault, Page, Reply, see};
use crate::view::{Blocks, Choice, Field, Form, Kind, Lead, Note};

/// The keyspace of the path.
pub(super) fn keyspace(call: &Ask) -> Result<Keyspace, Fault> {
    let prefix: Prefix = call.segment.parse().map_err(|_| Fault::NotFound)?;
    Ok(call.engine().keyspace(prefix)?)
}

/// What a form was made of, so that another's change is noticed. Not a secret.
pub(super) fn mark(of: &Keyspace) -> String {
    let hash = blake3::hash(format!("{of:?}").as_bytes()).to_hex();
    hash.get(..32).unwrap_or_default().to_owned()
}

/// Changes a keyspace that is still as the form showed it.
pub(super) fn change(
    call: &Ask,
    changes: impl FnOnce(&Keyspace) -> Result<KeyspaceChanges, Fault>,
) -> Result<(), Fault> {
    let prefix = keyspace(call)?.prefix;
    let turn: OwnerPath = prefix.as_str().parse().map_err(gatekey::Error::from)?;
    let _turn = call.who.turns.take(&turn);
    let of = keyspace(call)?;
    if mark(&of) != call.form.must("seen")? {
        return Err(Fault::Changed);
    }
    let changes = changes(&of)?;
    call.api("PATCH", &format!("/v1/keyspaces/{prefix}"), &changes, None)?;
    Ok(())
}

/// How many keys of a keyspace have not ended.
pub(super) fn keys_of(call: &Ask, prefix: Prefix) -> Result<u64, Fault> {
    let stats = call.engine().stats()?;
    let counts = stats.keyspaces.get(&prefix).copied().unwrap_or_default();
    let over = counts.revoked.saturating_add(counts.over_by_expiry);
    Ok(counts.total().saturating_sub(over))
}

/// Refuses what was not typed as asked for.
pub(super) fn typed(call: &Ask, wanted: &str) -> Result<(), Fault> {
    match call.form.one("typed")? == Some(wanted) {
        true => Ok(()),
        false => Err(Fault::Mistyped),
    }
}

/// The field to type a name into.
pub(super) fn typing(call: &Ask, wanted: &str) -> Field {
    Field::new(Kind::Text, "typed", call.with("owner.typed", &[&wanted]))
        .required()
        .expect(wanted)
}

fn address(prefix: Prefix) -> String {
    format!("/keyspaces/{prefix}")
}

/// A form again, with what was wrong.
pub(super) fn again(title: String, blocks: Blocks, form: Form, call: &Ask, fault: &Fault) -> Reply {
    let (heading, text) = call.problem(fault);
    let page = Page::new(title, blocks.with(&form.problem(heading, text)));
    page.status(fault.status()).into()
}

const POLICIES: [&str; 3] = ["many", "superseding", "refusing"];

/// The rules of a keyspace, of one that is there or is to be.
fn rules(call: &Ask, mut form: Form, now: Option<&Keyspace>) -> Form {
    let policy = now.map_or(KeysPerOwner::Many { cap: None }, |now| now.keys_per_owner);
    let (policy, cap) = match policy {
        KeysPerOwner::SingleSuperseding => ("superseding", None),
        KeysPerOwner::SingleRefusing => ("refusing", None),
        KeysPerOwner::Many { cap } => ("many", cap),
        _ => ("many", None),
    };
    let policy = given::sent(call, "per_owner", policy);
    let policies = POLICIES.map(|of| {
        let text = call.t(&format!("per_owner.{of}"));
        Choice::new(of, text).chosen(of == policy)
    });
    let counts = given::ticked(
        call,
        "count_retiring",
        "yes",
        now.is_some_and(|now| now.count_retiring),
    );
    let description = now.map_or("", |now| now.description.as_str());
    let permissions = match now {
        None => "rules.permissions",
        Some(_) => "rules.add_permissions",
    };
    form = form
        .field(
            Field::new(Kind::Text, "description", call.t("key.description"))
                .value(given::sent(call, "description", description))
                .max(bounds::DESCRIPTION_LEN_MAX),
        )
        .field(
            Field::new(Kind::Area, "permissions", call.t(permissions))
                .hint(call.t("rules.permissions_hint"))
                .value(given::sent(call, "permissions", "")),
        )
        .field(
            Field::new(Kind::Radios, "per_owner", call.t("keyspaces.per_owner"))
                .choices(policies.to_vec())
                .required(),
        )
        .field(given::cap(call, cap).hint(call.t("rules.cap_hint")))
        .field(
            Field::new(Kind::Checks, "count_retiring", call.t("rules.grace")).choices(vec![
                Choice::new("yes", call.t("rules.count_retiring")).chosen(counts),
            ]),
        );
    for (name, label, span) in [
        (
            "default_life",
            "keyspaces.default_life",
            now.and_then(|now| now.default_lifetime),
        ),
        (
            "max_life",
            "keyspaces.max_life",
            now.and_then(|now| now.max_lifetime),
        ),
        (
            "max_grace",
            "keyspaces.max_grace",
            now.and_then(|now| now.max_grace),
        ),
    ] {
        form = form.field(given::span(call, name, label, span));
    }
    if let Some(now) = now.filter(|now| !now.plans.is_empty()) {
        let chosen = given::sent(
            call,
            "default_plan",
            now.default_plan.clone().unwrap_or_default(),
        );
        let none = std::iter::once(Choice::new("", call.t("key.no_plan")));
        let plans = now.plans.iter().map(|of| Choice::new(&of.name, &of.name));
        let label = call.t("keyspaces.default_plan");
        form = form.field(given::select(
            "default_plan",
            label,
            none.chain(plans).collect(),
            &chosen,
        ));
    }
    form
}

/// What a form says of the rules.
struct Rules {
    description: String,
    permissions: Vec<String>,
    keys_per_owner: KeysPerOwner,
    count_retiring: bool,
    spans: [Option<Span>; 3],
}

fn rules_in(call: &Ask) -> Result<Rules, Fault> {
    let cap = given::number(call, "cap", "owner.cap")?;
    let keys_per_owner = match (call.form.must("per_owner")?, cap) {
        ("many", cap) => KeysPerOwner::Many { cap },
        ("superseding", None) => KeysPerOwner::SingleSuperseding,
        ("refusing", None) => KeysPerOwner::SingleRefusing,
        ("superseding" | "refusing", Some(_)) => {
            return Err(given::refuse(call, "given.of_many", "owner.cap"));
        }
        _ => return Err(Fault::Tampered),
    };
    let words = call.form.one("permissions")?.unwrap_or_default();
    let words = words.split(|letter: char| letter.is_whitespace() || letter == ',');
    let span = |name: &str, label: &str| -> Result<Option<Span>, Fault> {
        Ok(given::span_in(call, name, label)?.map(Span))
    };
    Ok(Rules {
        description: call.form.one("description")?.unwrap_or_default().to_owned(),
        permissions: words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        keys_per_owner,
        count_retiring: call.form.has("count_retiring", "yes"),
        spans: [
            span("default_life", "keyspaces.default_life")?,
            span("max_life", "keyspaces.max_life")?,
            span("max_grace", "keyspaces.max_grace")?,
        ],
    })
}

fn creating(call: &Ask) -> Form {
    let form = Form::post(call.at("/keyspaces/new"), call.t("rules.create"))
        .cancel(call.at("/keyspaces"), call.t("form.cancel"))
        .field(
            Field::new(Kind::Text, "prefix", call.t("rules.prefix"))
                .hint(call.t("rules.prefix_hint"))
                .value(given::sent(call, "prefix", ""))
                .required()
                .max(32),
        );
    rules(call, form, None)
}

pub(super) fn new_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let blocks = Blocks::new().with(&creating(call));
    Ok(Page::new(call.t("rules.create"), blocks).into())
}

pub(super) fn create(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let made = rules_in(call).and_then(|rules| {
        let [default_lifetime, max_lifetime, max_grace] = rules.spans;
        let request = KeyspaceRequest {
            prefix: call
                .form
                .one("prefix")?
                .unwrap_or_default()
                .trim()
                .to_owned(),
            description: rules.description,
            permissions: rules.permissions,
            keys_per_owner: Some(rules.keys_per_owner),
            count_retiring: Some(rules.count_retiring),
            default_lifetime,
            max_lifetime,
            max_grace,
            ..KeyspaceRequest::default()
        };
        call.api("POST", "/v1/keyspaces", &request, None)
    });
    match made {
        Ok(made) => {
            let prefix = made.get("prefix").and_then(Value::as_str);
            see(format!(
                "/keyspaces/{}?done=created",
                prefix.unwrap_or_default()
            ))
        }
        Err(fault) if fault.is_for_the_form() => Ok(again(
            call.t("rules.create"),
            Blocks::new(),
            creating(call),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

fn editing(call: &Ask, of: &Keyspace) -> Form {
    let at = address(of.prefix);
    let form = Form::post(call.at(&format!("{at}/edit")), call.t("form.save"))
        .hidden("seen", mark(of))
        .cancel(call.at(&at), call.t("form.cancel"));
    rules(call, form, Some(of))
}

/// What a change of a keyspace reaches.
pub(super) fn reaching(call: &Ask, prefix: Prefix, text: &str) -> Result<Lead, Fault> {
    let keys = format::number(keys_of(call, prefix)?);
    Ok(Lead {
        text: call.with(text, &[&keys]),
    })
}

pub(super) fn edit_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let blocks = Blocks::new()
        .with(&reaching(call, of.prefix, "rules.reaches")?)
        .with(&editing(call, &of));
    Ok(Page::new(call.with("rules.edit", &[&of.prefix]), blocks).into())
}

pub(super) fn edit(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let done = change(call, |of| {
        let rules = rules_in(call)?;
        let patch = |span: Option<Span>| span.map_or(Patch::Clear, Patch::Set);
        let [default_lifetime, max_lifetime, max_grace] = rules.spans.map(patch);
        let default_plan = match (of.plans.is_empty(), call.form.one("default_plan")?) {
            (true, _) => Patch::Keep,
            (false, None) => Patch::Clear,
            (false, Some(plan)) => Patch::Set(plan.to_owned()),
        };
        Ok(KeyspaceChanges {
            description: Some(rules.description),
            add_permissions: rules.permissions,
            keys_per_owner: Some(rules.keys_per_owner),
            count_retiring: Some(rules.count_retiring),
            default_lifetime,
            max_lifetime,
            max_grace,
            default_plan,
            ..KeyspaceChanges::default()
        })
    });
    match done {
        Ok(()) => see(format!("{}?done=saved", address(of.prefix))),
        Err(fault) if fault.is_for_the_form() => Ok(again(
            call.with("rules.edit", &[&of.prefix]),
            Blocks::new().with(&reaching(call, of.prefix, "rules.reaches")?),
            editing(call, &of),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

/// How many keys a form reaches.
fn reached(call: &Ask, prefix: Prefix) -> Result<Note, Fault> {
    let keys = format::number(keys_of(call, prefix)?);
    Ok(Note::new("warn", call.with("owner.reaches", &[&keys]), ""))
}

fn retiring(call: &Ask, of: &Keyspace) -> Form {
    let at = address(of.prefix);
    let names = of.permissions.iter().filter(|name| !name.retired);
    let choices = names.map(|of| {
        let chosen = call.form.has("permission", &of.name);
        Choice::new(&of.name, &of.name).chosen(chosen)
    });
    Form::post(call.at(&format!("{at}/retire")), call.t("retire.submit"))
        .danger()
        .hidden("seen", mark(of))
        .field(
            Field::new(Kind::Checks, "permission", call.t("key.permissions"))
                .choices(choices.collect()),
        )
        .field(typing(call, of.prefix.as_str()))
        .cancel(call.at(&at), call.t("form.cancel"))
}

pub(super) fn retire_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let blocks = Blocks::new()
        .with(&Lead {
            text: call.t("retire.lead"),
        })
        .with(&reached(call, of.prefix)?)
        .with(&retiring(call, &of));
    Ok(Page::new(call.t("retire.title"), blocks).into())
}

pub(super) fn retire(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Administer)?;
    let of = keyspace(call)?;
    let done = typed(call, of.prefix.as_str()).and_then(|()| {
        let names: Vec<String> = call.form.all("permission").map(str::to_owned).collect();
        if names.is_empty() {
            return Err(given::refuse(call, "given.missing", "key.permissions"));
        }
        change(call, |_| {
            Ok(KeyspaceChanges {
                retire_permissions: names,
                ..KeyspaceChanges::default()
            })
        })
    });
    match done {
        Ok(()) => see(format!("{}?done=saved", address(of.prefix))),
        Err(fault) if fault.is_for_the_form() => Ok(again(
            call.t("retire.title"),
            Blocks::new().with(&reached(call, of.prefix)?),
            retiring(call, &of),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}

fn revoking(call: &Ask, prefix: Prefix) -> Form {
    let at = address(prefix);
    let form = Form::post(call.at(&format!("{at}/revoke")), call.t("owner.revoke"))
        .danger()
        .field(key::reasons(call))
        .field(key::note(call))
        .field(typing(call, prefix.as_str()))
        .cancel(call.at(&at), call.t("form.cancel"));
    call.proving(form)
}

pub(super) fn revoke_form(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    let of = keyspace(call)?;
    let blocks = Blocks::new()
        .with(&Lead {
            text: call.t("rules.revoke_lead"),
        })
        .with(&reached(call, of.prefix)?)
        .with(&revoking(call, of.prefix));
    Ok(Page::new(call.t("rules.revoke_title"), blocks).into())
}

pub(super) fn revoke(call: &Ask) -> Result<Reply, Fault> {
    call.need(Right::Revoke)?;
    let of = keyspace(call)?;
    let request = RevokeKeyspaceRequest {
        reason: key::reason_of(call)?,
        note: call.form.one("note")?.map(str::to_owned),
        dry_run: false,
    };
    let done = typed(call, of.prefix.as_str())
        .and_then(|()| call.prove())
        .and_then(|()| {
            let path = format!("/v1/keyspaces/{}/revoke", of.prefix);
            call.api("POST", &path, &request, None)
        });
    match done {
        Ok(_) => see(format!("{}?done=keyspace_revoke", address(of.prefix))),
        Err(fault) if fault.is_for_the_form() => Ok(again(
            call.t("rules.revoke_title"),
            Blocks::new().with(&reached(call, of.prefix)?),
            revoking(call, of.prefix),
            call,
            &fault,
        )),
        Err(fault) => Err(fault),
    }
}
