//! Keyspaces.

use gatekey_admin::wire::{KeyspaceChanges, KeyspaceRequest, Patch, RevokeKeyspaceRequest};

use super::{list, path, planned};
use crate::args::{Global, Keyspace, Policy};
use crate::door::{Ask, Door};
use crate::failure::Result;
use crate::local::print;

pub(super) fn run(door: &Door, global: &Global, command: Keyspace) -> Result<()> {
    match command {
        Keyspace::Create {
            prefix,
            permissions,
            policy,
        } => {
            let body = created(prefix, permissions, policy);
            print(global, &door.ask(&Ask::post("/v1/keyspaces", &body)?)?)
        }
        Keyspace::List => {
            let answer = door.ask(&Ask::get("/v1/keyspaces"))?;
            let columns = [
                "prefix",
                "description",
                "default_lifetime",
                "max_lifetime",
                "default_plan",
            ];
            list(global, &answer["keyspaces"], &columns)
        }
        Keyspace::Show { prefix } => {
            let path = path("/v1/keyspaces/", &prefix, "");
            print(global, &door.ask(&Ask::get(&path))?)
        }
        Keyspace::Update {
            prefix,
            add_permissions,
            retire_permissions,
            policy,
        } => {
            let path = path("/v1/keyspaces/", &prefix, "");
            let body = KeyspaceChanges {
                add_permissions,
                retire_permissions,
                ..changed(policy)
            };
            print(global, &door.ask(&Ask::patch(&path, &body)?)?)
        }
        Keyspace::Revoke { prefix, why, sure } => {
            let path = path("/v1/keyspaces/", &prefix, "/revoke");
            let ask = |dry_run| {
                let body = RevokeKeyspaceRequest {
                    reason: why.reason.0,
                    note: why.note.clone(),
                    dry_run,
                };
                door.ask(&Ask::post(&path, &body)?)
            };
            planned(global, sure, ask, "newly", "revoke for good")
        }
    }
}

fn created(prefix: String, permissions: Vec<String>, policy: Policy) -> KeyspaceRequest {
    let span = |time: Option<crate::values::Time>| {
        time.and_then(|time| time.0).map(gatekey_admin::wire::Span)
    };
    KeyspaceRequest {
        prefix,
        permissions,
        description: policy.description.unwrap_or_default(),
        keys_per_owner: policy.keys_per_owner.map(|policy| policy.0),
        default_lifetime: span(policy.default_lifetime),
        max_lifetime: span(policy.max_lifetime),
        max_grace: span(policy.max_grace),
        plans: policy.plans.into_iter().map(|plan| plan.0).collect(),
        default_plan: policy.default_plan,
        ..KeyspaceRequest::default()
    }
}

fn changed(policy: Policy) -> KeyspaceChanges {
    let span = |time: Option<crate::values::Time>| match time {
        Some(time) => time.patch(),
        None => Patch::Keep,
    };
    KeyspaceChanges {
        description: policy.description,
        keys_per_owner: policy.keys_per_owner.map(|policy| policy.0),
        default_lifetime: span(policy.default_lifetime),
        max_lifetime: span(policy.max_lifetime),
        max_grace: span(policy.max_grace),
        plans: policy.plans.into_iter().map(|plan| plan.0).collect(),
        default_plan: super::owners::or_none(policy.default_plan),
        ..KeyspaceChanges::default()
    }
}
