//! Owners.

use std::fmt;

use gatekey::{Limit, OwnerUpdate, Quota, Reason, Setting};
use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Patch;
use crate::schema;

/// The suspension of an owner, and of all below it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendRequest {
    /// The owner's path.
    #[schemars(with = "schema::Owner")]
    pub owner: String,
    /// A note, which the audit trail keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Only count the keys that it would reach.
    #[serde(default)]
    pub dry_run: bool,
}

/// The end of an owner's suspension.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The owner's path.
    #[schemars(with = "schema::Owner")]
    pub owner: String,
}

/// The revocation of all keys of an owner, and of all below it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeOwnerRequest {
    /// The owner's path.
    #[schemars(with = "schema::Owner")]
    pub owner: String,
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

/// Changes to what an owner has of its own in a keyspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerChanges {
    /// The prefix of the keyspace.
    #[schemars(with = "schema::Prefix")]
    pub keyspace: String,
    /// The owner's path.
    #[schemars(with = "schema::Owner")]
    pub owner: String,
    /// A plan; `null` for the default of the level.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    pub plan: Patch<String>,
    /// Limits in the place of the plan's; `null` for the plan's again.
    #[serde(default, skip_serializing_if = "Patch::is_kept")]
    #[schemars(with = "Option<Vec<schema::Limit>>")]
    pub limits: Patch<Vec<Limit>>,
    /// A quota, full; `"unlimited"` for none; `null` for the default of the level.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schemars(with = "schema::Setting<schema::Quota>")]
    pub quota: Option<Setting<Quota>>,
    /// The most keys that may be held; `"unlimited"` for no cap; `null` for the default of
    /// the level.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "cap"
    )]
    #[schemars(with = "schema::Setting<schema::Cap>")]
    pub cap: Option<Setting<u32>>,
}

/// A member that is there, be it `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A cap, of which an error says which numbers there may be.
fn cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Setting<u32>>, D::Error> {
    let cap = Setting::deserialize(deserializer)?;
    Ok(Some(cap.map(|Cap(cap)| cap)))
}

struct Cap(u32);

impl<'de> Deserialize<'de> for Cap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u32(Numbers).map(Self)
    }
}

struct Numbers;

impl Visitor<'_> for Numbers {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, 1 to 4,294,967,295")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        let read = number.try_into();
        read.map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

impl OwnerChanges {
    pub(crate) fn update(self) -> OwnerUpdate {
        let mut update = OwnerUpdate::new();
        if let Some(plan) = self.plan.change() {
            update = update.plan(plan.as_deref());
        }
        update = match self.limits.change() {
            Some(Some(limits)) => update.limits(limits),
            Some(None) => update.limits_of_plan(),
            None => update,
        };
        if let Some(quota) = self.quota {
            update = update.quota(quota);
        }
        if let Some(cap) = self.cap {
            update = update.cap(cap);
        }
        update
    }
}
