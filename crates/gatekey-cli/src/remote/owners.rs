//! Owners.

use gatekey_admin::wire::{OwnerChanges, Patch, ResumeRequest, RevokeOwnerRequest, SuspendRequest};

use super::{Query, planned};
use crate::args::{Global, Owner};
use crate::door::{Ask, Door};
use crate::failure::Result;
use crate::local::print;

/// A name; `none` removes it.
pub(super) fn or_none(name: Option<String>) -> Patch<String> {
    match name {
        None => Patch::Keep,
        Some(name) if name == "none" => Patch::Clear,
        Some(name) => Patch::Set(name),
    }
}

pub(super) fn run(door: &Door, global: &Global, command: Owner) -> Result<()> {
    let mut query = Query::default();
    match command {
        Owner::Show { owner } => {
            query.add("owner", Some(&owner));
            print(global, &door.ask(&Ask::get(&query.after("/v1/owners")))?)
        }
        Owner::Suspend { owner, note, sure } => {
            let ask = |dry_run| {
                let body = SuspendRequest {
                    owner: owner.clone(),
                    note: note.clone(),
                    dry_run,
                };
                door.ask(&Ask::post("/v1/owners/suspend", &body)?)
            };
            planned(global, sure, ask, "keys", "suspend")
        }
        Owner::Resume { owner } => {
            let body = ResumeRequest { owner };
            print(global, &door.ask(&Ask::post("/v1/owners/resume", &body)?)?)
        }
        Owner::Revoke { owner, why, sure } => {
            let ask = |dry_run| {
                let body = RevokeOwnerRequest {
                    owner: owner.clone(),
                    reason: why.reason.0,
                    note: why.note.clone(),
                    dry_run,
                };
                door.ask(&Ask::post("/v1/owners/revoke", &body)?)
            };
            planned(global, sure, ask, "newly", "revoke for good")
        }
        Owner::Settings { owner, keyspace } => {
            query.add("keyspace", Some(&keyspace));
            query.add("owner", Some(&owner));
            print(
                global,
                &door.ask(&Ask::get(&query.after("/v1/owners/settings")))?,
            )
        }
        Owner::Update {
            owner,
            keyspace,
            plan,
            limits,
            quota,
            cap,
        } => {
            let body = OwnerChanges {
                keyspace,
                owner,
                plan: or_none(plan),
                limits: limits.map_or(Patch::Keep, |limits| patch(limits.0)),
                quota: quota.map(|quota| quota.0),
                cap: cap.map(|cap| cap.0),
            };
            print(
                global,
                &door.ask(&Ask::patch("/v1/owners/settings", &body)?)?,
            )
        }
    }
}

pub(super) fn patch<T>(value: Option<T>) -> Patch<T> {
    match value {
        Some(value) => Patch::Set(value),
        None => Patch::Clear,
    }
}
