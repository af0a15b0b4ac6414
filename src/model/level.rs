//! What the owners of one level have that do not have it of their own.

use std::fmt;

use crate::model::audit::quoted;
use crate::model::error::{Error, Invalid};
use crate::model::owner::OwnerPath;
use crate::model::quota::Quota;
#[cfg(feature = "serde")]
use crate::model::serialized::Object;

/// What each owner of one level has that it does not have of its own: see
/// [`NewKeyspace::owner_defaults`](crate::NewKeyspace::owner_defaults).
///
/// What an owner has of its own wins, field by field: limits of its own, its plan, then
/// the plan of the defaults; its quota, then that of the defaults; and so with the cap.
///
/// Each owner has a quota of the defaults for itself. It begins with the owner's first
/// request, full. One that is changed here begins anew, full, with the owner's first
/// request after the change; one that is changed back before that goes on as it was.
///
/// ```
/// use gatekey::{LevelDefaults, Quota, Refill};
///
/// let defaults = LevelDefaults::new()
///     .plan("free")
///     .quota(Quota::new(10_000).refilled(Refill::Monthly))
///     .cap(5);
/// assert_eq!(defaults.to_string(), r#"plan "free", quota 10000 monthly, cap 5"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "Object<Given>")
)]
#[non_exhaustive]
pub struct LevelDefaults {
    /// The plan, by name.
    pub plan: Option<String>,
    /// The quota.
    pub quota: Option<Quota>,
    /// The most keys that may be held at the owner and below it.
    pub cap: Option<u32>,
}

/// Defaults as they are deserialised.
#[cfg(feature = "serde")]
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    plan: Option<String>,
    quota: Option<Quota>,
    #[serde(deserialize_with = "crate::model::serialized::cap")]
    cap: Option<u32>,
}

#[cfg(feature = "serde")]
impl From<Object<Given>> for LevelDefaults {
    fn from(Object(given): Object<Given>) -> Self {
        Self {
            plan: given.plan,
            quota: given.quota,
            cap: given.cap,
        }
    }
}

impl LevelDefaults {
    /// Nothing: no plan, no quota, no cap.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A plan of the keyspace, by name.
    #[must_use]
    pub fn plan(mut self, name: impl Into<String>) -> Self {
        self.plan = Some(name.into());
        self
    }

    /// A quota, which each owner has for itself.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// The most keys that may be held at each owner and below it.
    #[must_use]
    pub fn cap(mut self, cap: u32) -> Self {
        self.cap = Some(cap);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What can be checked without the keyspace.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        self.quota.map_or(Ok(()), Quota::validate)?;
        validate_cap(self.cap)
    }
}

/// As `plan "free", quota 10000 monthly, cap 5`; `none` where there is nothing.
impl fmt::Display for LevelDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan.as_deref().map(quoted);
        let said = [
            plan.map(|plan| format!("plan {plan}")),
            self.quota.map(|quota| format!("quota {quota}")),
            self.cap.map(|cap| format!("cap {cap}")),
        ];
        let said: Vec<_> = said.into_iter().flatten().collect();
        match said.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&said.join(", ")),
        }
    }
}

/// Refuses a level that no owner can be of.
pub(crate) fn validate_depth(depth: usize) -> Result<(), Error> {
    match (1..=OwnerPath::DEPTH_MAX).contains(&depth) {
        true => Ok(()),
        false => {
            let why = "a path has 1 to 8 segments";
            Err(Invalid::malformed("depth", &depth.to_string(), why).into())
        }
    }
}

/// A cap of 0 is no cap: suspend an owner that is to have no key.
pub(crate) fn validate_cap(cap: Option<u32>) -> Result<(), Error> {
    match cap {
        Some(0) => {
            let why = "an owner could hold no key; suspend it instead";
            Err(Invalid::malformed("cap", "0", why).into())
        }
        _ => Ok(()),
    }
}
