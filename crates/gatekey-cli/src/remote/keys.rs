//! Keys.

use std::collections::BTreeMap;
use std::path::Path;

use gatekey_admin::wire::{
    BatchRequest, IssueRequest, KeyChanges, Nothing, Patch, RevokeRequest, RevokeTokenRequest,
    RotateRequest, Span,
};
use serde_json::Value;

use super::owners::{or_none, patch};
use super::trail::{HEAD, row};
use super::{Query, issued, path};
use crate::args::{Changes, Global, Issue, Key, List, Once, Why};
use crate::ask;
use crate::door::{Ask, Door};
use crate::failure::{Failure, Result};
use crate::local::{print, tell};
use crate::table;

/// How many keys one request asks for.
const PAGE: usize = 500;

pub(super) fn run(door: &Door, global: &Global, command: Key, token: String) -> Result<()> {
    match command {
        Key::Issue(asked) => {
            let once = asked.once.idempotency_key.clone();
            let body = new(*asked);
            let ask = Ask::post("/v1/keys", &body)?.once(once.as_deref());
            issued(global, &door.ask(&ask)?)
        }
        Key::Batch { file, once } => batch(door, global, &file, &once),
        Key::List(asked) => list(door, global, &asked),
        Key::Show { id } => print(global, &door.ask(&Ask::get(&path("/v1/keys/", &id, "")))?),
        Key::Update { id, changes } => {
            let path = path("/v1/keys/", &id, "");
            print(global, &door.ask(&Ask::patch(&path, &changed(*changes))?)?)
        }
        Key::Rotate {
            id,
            grace,
            once,
            sure,
        } => rotate(door, global, &id, grace, &once, sure.yes),
        Key::Disable { id } => verb(door, global, &id, "/disable"),
        Key::Enable { id } => verb(door, global, &id, "/enable"),
        Key::Revoke {
            id,
            token_file: _,
            token_stdin: _,
            why,
            sure,
        } => match id {
            Some(id) => revoke(door, global, &id, &why, sure.yes),
            None => revoke_token(door, global, token, &why, sure.yes),
        },
        Key::History { id } => history(door, global, &id),
        Key::Usage { id } => print(
            global,
            &door.ask(&Ask::get(&path("/v1/keys/", &id, "/usage")))?,
        ),
    }
}

fn verb(door: &Door, global: &Global, id: &str, verb: &str) -> Result<()> {
    let path = path("/v1/keys/", id, verb);
    print(global, &door.ask(&Ask::post(&path, &Nothing::default())?)?)
}

fn new(asked: Issue) -> IssueRequest {
    IssueRequest {
        keyspace: asked.keyspace,
        owner: asked.owner,
        permissions: asked.permissions,
        name: asked.name,
        description: asked.description,
        labels: asked
            .labels
            .into_iter()
            .map(|label| (label.0, label.1))
            .collect(),
        not_before: asked.not_before,
        expiry: asked.expires.map(|expiry| expiry.0),
        networks: asked.networks,
        plan: asked.plan,
        limits: asked.limits.and_then(|limits| limits.0),
        quota: asked.quota.and_then(|quota| quota.0),
    }
}

fn text(text: Option<String>) -> Patch<String> {
    match text {
        None => Patch::Keep,
        Some(text) if text.is_empty() => Patch::Clear,
        Some(text) => Patch::Set(text),
    }
}

fn changed(asked: Changes) -> KeyChanges {
    let mut labels: BTreeMap<String, Option<String>> = asked
        .labels
        .into_iter()
        .map(|label| (label.0, Some(label.1)))
        .collect();
    labels.extend(asked.remove_labels.into_iter().map(|name| (name, None)));
    KeyChanges {
        name: text(asked.name),
        description: text(asked.description),
        labels,
        permissions: None,
        add_permissions: asked.add_permissions,
        remove_permissions: asked.remove_permissions,
        expiry: asked.expires.map(|expiry| expiry.0),
        networks: match asked.any_network {
            true => Some(Vec::new()),
            false => Some(asked.networks).filter(|networks| !networks.is_empty()),
        },
        plan: or_none(asked.plan),
        limits: asked.limits.map_or(Patch::Keep, |limits| patch(limits.0)),
        quota: asked.quota.map_or(Patch::Keep, |quota| patch(quota.0)),
    }
}

fn batch(door: &Door, global: &Global, file: &Path, once: &Once) -> Result<()> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin())?,
        false => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?,
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let read = |(at, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Failure::usage(format!("line {}: {error}", at + 1)))
    };
    let keys: Result<Vec<IssueRequest>> = lines.enumerate().map(read).collect();
    let body = BatchRequest { keys: keys? };
    let ask = Ask::post("/v1/keys/batch", &body)?;
    let answer = door.ask(&ask.once(once.idempotency_key.as_deref()))?;
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    // A token alone a line, in the order of the file.
    keys.iter().try_for_each(|key| issued(global, key))
}

/// All pages, as they come with `--json`.
fn list(door: &Door, global: &Global, asked: &List) -> Result<()> {
    let mut left = asked.limit.unwrap_or(usize::MAX);
    let mut after: Option<String> = None;
    let mut rows = Vec::new();
    let mut damaged = 0;
    while left > 0 {
        let mut query = filter(asked)?;
        query.add("limit", Some(&left.min(PAGE).to_string()));
        query.add("after", after.as_deref());
        let page = door.ask(&Ask::get(&query.after("/v1/keys")))?;
        let keys = page["keys"].as_array().cloned().unwrap_or_default();
        left = left.saturating_sub(keys.len());
        damaged += page["damaged"].as_array().map_or(0, Vec::len);
        match global.json {
            true => keys.iter().try_for_each(table::print_json)?,
            false => rows.extend(keys.iter().map(row_of)),
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    if !global.json {
        let head = [
            "id",
            "keyspace",
            "owner",
            "state",
            "permissions",
            "expires_at",
            "last_used",
            "used",
            "name",
        ];
        table::print(&head, &rows)?;
    }
    if damaged > 0 {
        tell(&format!(
            "{damaged} records cannot be read: run `gatekey check`"
        ));
    }
    Ok(())
}

fn filter(asked: &List) -> Result<Query> {
    let mut query = Query::default();
    query.add("keyspace", asked.keyspace.as_deref());
    query.add("owner", asked.owner.as_deref());
    query.add("owner_and_below", asked.below.as_deref());
    let state = asked.state.as_ref().map(|state| state.replace('-', "_"));
    query.add("state", state.as_deref());
    for (name, flag) in [
        ("expired", asked.expired),
        ("disabled", asked.disabled),
        ("suspended", asked.suspended),
    ] {
        query.add(name, flag.map(|flag| flag.to_string()).as_deref());
    }
    let pepper = asked.needing_pepper.map(|id| id.to_string());
    query.add("pepper", pepper.as_deref());
    for label in &asked.labels {
        query.add("label", Some(label));
    }
    query.add("name", asked.name.as_deref());
    if let Some(time) = asked.expiring {
        let time = Span(time.some().map_err(Failure::usage)?);
        let text = serde_json::to_value(time).map_err(Failure::fault)?;
        query.add("expires_within", text.as_str());
    }
    Ok(query)
}

fn row_of(key: &Value) -> Vec<String> {
    let ends = match &key["retiring_until"] {
        Value::Null => &key["expires_at"],
        retiring => retiring,
    };
    vec![
        table::shown(&key["id"]),
        table::shown(&key["keyspace"]),
        table::shown(&key["owner"]),
        table::shown(&key["state"]),
        table::shown(&key["permission_names"]),
        table::shown(ends),
        table::shown(&key["usage"]["last_used"]),
        table::shown(&key["usage"]["count"]),
        table::shown(&key["name"]),
    ]
}

fn rotate(
    door: &Door,
    global: &Global,
    id: &str,
    grace: Option<crate::values::Time>,
    once: &Once,
    yes: bool,
) -> Result<()> {
    let grace = grace
        .map(|time| time.some().map_err(Failure::usage))
        .transpose()?;
    if grace.is_none_or(|grace| grace.is_zero()) {
        ask::sure(yes, &format!("revoke key {id} at once, without a grace"))?;
    }
    let body = RotateRequest {
        grace: grace.map(Span),
        changes: None,
    };
    let path = path("/v1/keys/", id, "/rotate");
    let ask = Ask::post(&path, &body)?.once(once.idempotency_key.as_deref());
    issued(global, &door.ask(&ask)?)
}

fn revoke(door: &Door, global: &Global, id: &str, why: &Why, yes: bool) -> Result<()> {
    if !yes {
        // Whose it is, for the person who is asked.
        let key = door.ask(&Ask::get(&path("/v1/keys/", id, "")))?;
        let owner = table::shown(&key["owner"]);
        ask::sure(false, &format!("revoke key {id} of {owner} for good"))?;
    }
    let body = RevokeRequest {
        reason: why.reason.0,
        note: why.note.clone(),
    };
    print(
        global,
        &door.ask(&Ask::post(&path("/v1/keys/", id, "/revoke"), &body)?)?,
    )
}

fn revoke_token(door: &Door, global: &Global, token: String, why: &Why, yes: bool) -> Result<()> {
    ask::sure(yes, "revoke the key of this token for good")?;
    let body = RevokeTokenRequest {
        token,
        reason: why.reason.0,
        note: why.note.clone(),
    };
    print(global, &door.ask(&Ask::post("/v1/keys/revoke", &body)?)?)
}

fn history(door: &Door, global: &Global, id: &str) -> Result<()> {
    let mut from = Some(0);
    let mut rows = Vec::new();
    while let Some(at) = from {
        let path = path("/v1/keys/", id, &format!("/history?from={at}&limit={PAGE}"));
        let page = door.ask(&Ask::get(&path))?;
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        from = page["next"].as_u64();
        match global.json {
            true => entries.iter().try_for_each(table::print_json)?,
            false => rows.extend(entries.iter().map(row)),
        }
    }
    match global.json {
        true => Ok(()),
        false => table::print(&HEAD, &rows),
    }
}
