//! Keyspaces.

use std::collections::BTreeMap;

use gatekey::{Invalid, KeysPerOwner, KeyspaceUpdate, LevelDefaults, NewKeyspace, Plan, Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Patch, Span};
use crate::schema;

/// A keyspace to be created.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceRequest {
    /// The prefix of its tokens: 1 to 32 of `a-z`, `0-9` and `_`.
    #[schemars(with = "schema::Prefix")]
    pub prefix: String,
    /// A description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The names of its permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// How many keys an owner may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::KeysPerOwner>")]
    pub keys_per_owner: Option<KeysPerOwner>,
    /// Whether a key in its grace counts at a cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_retiring: Option<bool>,
    /// The life of a key whose issue does not say one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_lifetime: Option<Span>,
    /// The longest life of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// The longest grace of a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_grace: Option<Span>,
    /// Its plans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::Plan>")]
    pub plans: Vec<Plan>,
    /// The plan of a key whose issue does not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_plan: Option<String>,
    /// What owners get whose paths have so many segments.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::unique"
    )]
    #[schemars(with = "BTreeMap<String, schema::LevelDefaults>")]
    pub owner_defaults: BTreeMap<String, LevelDefaults>,
}

/// One digit alone: of "1" and "01" in one object, either would be lost.
fn depth(text: &str) -> gatekey::Result<usize> {
    match text.as_bytes() {
        [digit @ b'1'..=b'8'] => Ok(usize::from(digit - b'0')),
        _ => Err(Invalid::malformed("depth", text, "it is one digit, 1 to 8").into()),
    }
}

impl KeyspaceRequest {
    pub(crate) fn keyspace(self) -> gatekey::Result<NewKeyspace> {
        let mut new = NewKeyspace::new(self.prefix)?
            .description(self.description)
            .permissions(self.permissions);
        if let Some(policy) = self.keys_per_owner {
            new = new.keys_per_owner(policy);
        }
        if let Some(counts) = self.count_retiring {
            new = new.count_retiring(counts);
        }
        if let Some(Span(lifetime)) = self.default_lifetime {
            new = new.default_lifetime(lifetime);
        }
        if let Some(Span(lifetime)) = self.max_lifetime {
            new = new.max_lifetime(lifetime);
        }
        if let Some(Span(grace)) = self.max_grace {
            new = new.max_grace(grace);
        }
        for plan in self.plans {
            new = new.plan(plan);
        }
        if let Some(name) = self.default_plan {
            new = new.default_plan(name);
        }
        for (at, defaults) in self.owner_defaults {
            new = new.owner_defaults(depth(&at)?, defaults);
        }
        Ok(new)
    }
}

/// Changes to a keyspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceChanges {
    /// A description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names of permissions to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_permissions: Vec<String>,
    /// Names of permissions to retire, for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retire_permissions: Vec<String>,
    /// How many keys an owner may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::KeysPerOwner>")]
    pub keys_per_owner: Option<KeysPerOwner>,
    /// Whether a key in its grace counts at a cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_retiring: Option<bool>,
    /// The life of a key whose issue does not say one.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub default_lifetime: Patch<Span>,
    /// The longest life of a key.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub max_lifetime: Patch<Span>,
    /// The longest grace of a rotation.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub max_grace: Patch<Span>,
    /// Plans to add, or to replace by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<schema::Plan>")]
    pub plans: Vec<Plan>,
    /// The plan of a key whose issue does not name one.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub default_plan: Patch<String>,
    /// What owners get whose paths have so many segments; `null` for nothing.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::unique"
    )]
    #[schemars(with = "BTreeMap<String, Option<schema::LevelDefaults>>")]
    pub owner_defaults: BTreeMap<String, Option<LevelDefaults>>,
}

impl KeyspaceChanges {
    pub(crate) fn update(self) -> gatekey::Result<KeyspaceUpdate> {
        let mut update = KeyspaceUpdate::new()
            .add_permissions(self.add_permissions)
            .retire_permissions(self.retire_permissions);
        if let Some(text) = self.description {
            update = update.description(text);
        }
        if let Some(policy) = self.keys_per_owner {
            update = update.keys_per_owner(policy);
        }
        if let Some(counts) = self.count_retiring {
            update = update.count_retiring(counts);
        }
        let time = |span: Patch<Span>| span.change().map(|span| span.map(|Span(time)| time));
        if let Some(lifetime) = time(self.default_lifetime) {
            update = update.default_lifetime(lifetime);
        }
        if let Some(lifetime) = time(self.max_lifetime) {
            update = update.max_lifetime(lifetime);
        }
        if let Some(grace) = time(self.max_grace) {
            update = update.max_grace(grace);
        }
        for plan in self.plans {
            update = update.plan(plan);
        }
        if let Some(name) = self.default_plan.change() {
            update = update.default_plan(name.as_deref());
        }
        for (at, defaults) in self.owner_defaults {
            update = update.owner_defaults(depth(&at)?, defaults);
        }
        Ok(update)
    }
}

/// The revocation of all keys of a keyspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeKeyspaceRequest {
    /// Why.
    #[serde(default)]
    #[schemars(with = "schema::Reason")]
    pub reason: Reason,
    /// A note, which the audit trail keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Only count the keys that would be revoked.
    #[serde(default)]
    pub dry_run: bool,
}
