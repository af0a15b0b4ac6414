//! Keys.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gatekey::{
    Expiry, KeyUpdate, Limit, Network, NewKey, Quota, Reason, Revocation, Rotation, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Patch, Span};
use crate::schema;

/// No members: for requests that say all by their path.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A key to be issued.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// The prefix of its keyspace.
    #[schemars(with = "schema::Prefix")]
    pub keyspace: String,
    /// Who holds it: a path of 1 to 8 segments.
    #[schemars(with = "schema::Owner")]
    pub owner: String,
    /// The names of its permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::unique"
    )]
    pub labels: BTreeMap<String, String>,
    /// The first instant at which it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Timestamp>")]
    pub not_before: Option<Timestamp>,
    /// When it stops being good; as the keyspace says, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Expiry>")]
    pub expiry: Option<Expiry>,
    /// The networks that it may be used from; none allows all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::Network>")]
    pub networks: Vec<Network>,
    /// The plan that it follows; the default of its keyspace, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Limits in the place of its plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<schema::Limit>>")]
    pub limits: Option<Vec<Limit>>,
    /// How many requests it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Quota>")]
    pub quota: Option<Quota>,
}

impl IssueRequest {
    pub(crate) fn key(self) -> gatekey::Result<NewKey> {
        let mut new = NewKey::new(self.keyspace, self.owner)?
            .permissions(self.permissions)
            .expiry(self.expiry.unwrap_or_default())
            .allow_networks(self.networks);
        if let Some(name) = self.name {
            new = new.name(name);
        }
        if let Some(text) = self.description {
            new = new.description(text);
        }
        for (name, value) in self.labels {
            new = new.label(name, value);
        }
        if let Some(instant) = self.not_before {
            new = new.not_before(instant);
        }
        if let Some(plan) = self.plan {
            new = new.plan(plan);
        }
        if let Some(limits) = self.limits {
            new = new.limits(limits);
        }
        if let Some(quota) = self.quota {
            new = new.quota(quota);
        }
        Ok(new)
    }
}

/// Keys to be issued together, or not at all.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The keys, at most 10,000.
    #[serde(deserialize_with = "super::objects")]
    pub keys: Vec<IssueRequest>,
}

/// Changes to a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyChanges {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub name: Patch<String>,
    /// A description.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub description: Patch<String>,
    /// Labels to set; `null` removes one.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::unique"
    )]
    pub labels: BTreeMap<String, Option<String>>,
    /// The names of all its permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// Permissions to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_permissions: Vec<String>,
    /// Permissions to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_permissions: Vec<String>,
    /// When it stops being good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Expiry>")]
    pub expiry: Option<Expiry>,
    /// The networks that it may be used from; none allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<schema::Network>>")]
    pub networks: Option<Vec<Network>>,
    /// The plan that it follows; `null` for none.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub plan: Patch<String>,
    /// Limits in the place of its plan's; `null` for the plan's again.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    #[schemars(with = "Option<Vec<schema::Limit>>")]
    pub limits: Patch<Vec<Limit>>,
    /// How many requests it is good for, from now on; `null` for any number.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    #[schemars(with = "Option<schema::Quota>")]
    pub quota: Patch<Quota>,
}

impl KeyChanges {
    pub(crate) fn update(self) -> KeyUpdate {
        let mut update = KeyUpdate::new()
            .add_permissions(self.add_permissions)
            .remove_permissions(self.remove_permissions);
        if let Some(name) = self.name.change() {
            update = update.name(name.as_deref());
        }
        if let Some(text) = self.description.change() {
            update = update.description(text.as_deref());
        }
        for (name, value) in self.labels {
            update = match value {
                Some(value) => update.label(name, value),
                None => update.remove_label(name),
            };
        }
        if let Some(names) = self.permissions {
            update = update.set_permissions(names);
        }
        if let Some(expiry) = self.expiry {
            update = update.expiry(expiry);
        }
        if let Some(networks) = self.networks {
            update = update.networks(networks);
        }
        if let Some(plan) = self.plan.change() {
            update = update.plan(plan.as_deref());
        }
        update = match self.limits.change() {
            Some(Some(limits)) => update.limits(limits),
            Some(None) => update.limits_of_plan(),
            None => update,
        };
        if let Some(quota) = self.quota.change() {
            update = update.quota(quota);
        }
        update
    }
}

/// The rotation of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// How long the old key is still accepted; not at all, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// What the new key has differently.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::maybe_object"
    )]
    pub changes: Option<KeyChanges>,
}

impl RotateRequest {
    pub(crate) fn rotation(self) -> Rotation {
        let rotation = match self.grace {
            Some(Span(grace)) => Rotation::with_grace(grace),
            None => Rotation::at_once(),
        };
        match self.changes {
            Some(changes) => rotation.changing(changes.update()),
            None => rotation,
        }
    }
}

/// Why a key is revoked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Why.
    #[serde(default)]
    #[schemars(with = "schema::Reason")]
    pub reason: Reason,
    /// A note, which the audit trail keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The revocation of the key of a token.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeTokenRequest {
    /// The token.
    pub token: String,
    /// Why.
    #[serde(default)]
    #[schemars(with = "schema::Reason")]
    pub reason: Reason,
    /// A note, which the audit trail keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A token whose key is looked for.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The token, alone or in the text that it was found in: a header, a line of a log,
    /// credentials of `Basic`.
    pub token: String,
}

/// A token to be verified, as the server that it is for verifies it.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The token.
    pub token: String,
    /// The keyspace that it must be of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
    /// The names of permissions that it must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// The address that the request comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Address>")]
    pub source: Option<IpAddr>,
    /// What the request costs limits and quotas; 1, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
}

pub(crate) fn revocation(reason: Reason, note: Option<String>) -> Revocation {
    let revocation = Revocation::new(reason);
    match note {
        Some(note) => revocation.note(note),
        None => revocation,
    }
}
