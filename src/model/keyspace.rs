//! Keyspaces: families of keys under one policy.

mod new;
mod update;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::Prefix;
use crate::model::level::{LevelDefaults, validate_cap, validate_depth};
use crate::model::permissions::Permissions;
use crate::model::plan::Plan;
use crate::model::quota::Quota;

pub use new::NewKeyspace;
pub use update::KeyspaceUpdate;

/// How many keys an owner may hold in a keyspace.
///
/// Counted are all keys that are accepted or may be again: a disabled, suspended or not
/// yet valid key counts, a revoked or expired one does not. A key in the grace of a rotation
/// counts as one with the key that it was rotated to, as long as that is accepted, or beside
/// it: see [`NewKeyspace::count_retiring`]. A cap refuses new tokens; it takes none away,
/// where it is lowered, or where a change of the time makes expired keys good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum KeysPerOwner {
    /// One. A new issue revokes the owner's keys in the same transaction, also those in
    /// the grace of a rotation: the old tokens are denied from the instant that the new
    /// one exists.
    SingleSuperseding,
    /// One. A new issue fails while the owner holds a key.
    SingleRefusing,
    /// Several, with an optional cap.
    Many {
        /// The most keys that an owner may hold: those of exactly this owner, and none
        /// below it. A cap for all at an owner and below it is a setting of the owner
        /// ([`OwnerUpdate::cap`](crate::OwnerUpdate::cap)) or of its level
        /// ([`LevelDefaults::cap`]).
        #[cfg_attr(
            feature = "serde",
            serde(default, deserialize_with = "crate::model::serialized::cap")
        )]
        cap: Option<u32>,
    },
}

impl KeysPerOwner {
    /// Whether an owner may hold one active key only.
    #[must_use]
    pub fn is_single(self) -> bool {
        matches!(self, Self::SingleSuperseding | Self::SingleRefusing)
    }
}

/// The name that a keyspace gives to one permission bit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PermissionName {
    /// The name.
    pub name: String,
    /// Whether the name is retired: no key can get it any more, no verification can
    /// require it, and no other name gets its bit.
    pub retired: bool,
}

/// A keyspace, as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Keyspace {
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) id: u32,
    /// The position of the last audit entry about it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) revision: u64,
    /// The prefix of its tokens, which is also its name and never changes.
    /// [`Prefix::scanner_pattern`] is a regular expression that finds them.
    pub prefix: Prefix,
    /// What the keyspace is for.
    pub description: String,
    /// Its permission names; the position of a name is its bit.
    pub permissions: Vec<PermissionName>,
    /// How many keys an owner may hold.
    pub keys_per_owner: KeysPerOwner,
    /// How long a key lives where its issue does not say.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialized::maybe_duration")
    )]
    pub default_lifetime: Option<Duration>,
    /// The longest lifetime of a key, from its issue.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialized::maybe_duration")
    )]
    pub max_lifetime: Option<Duration>,
    /// Its plans.
    pub plans: Vec<Plan>,
    /// The plan of a key whose issue does not name one.
    pub default_plan: Option<String>,
    /// What owners have that do not have it of their own, by the number of segments of
    /// their paths.
    pub owner_defaults: BTreeMap<usize, LevelDefaults>,
    /// The longest grace of a rotation.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialized::maybe_duration")
    )]
    pub max_grace: Option<Duration>,
    /// Whether a key in its grace counts beside the key that it was rotated to.
    pub count_retiring: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Keyspace {
    /// The mask of some of its permissions.
    ///
    /// # Errors
    /// [`Invalid::UnknownPermission`] or [`Invalid::RetiredPermission`] for an unknown
    /// or retired name.
    pub fn mask<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Permissions, Error> {
        let mut mask = Permissions::NONE;
        for name in names {
            mask = mask | self.bit_of(name.as_ref())?;
        }
        Ok(mask)
    }

    fn bit_of(&self, name: &str) -> Result<Permissions, Error> {
        let found = self.permissions.iter().position(|known| known.name == name);
        match found.map(|at| (at, self.permissions.get(at).is_some_and(|p| p.retired))) {
            Some((at, false)) => Ok(Permissions::bit(at)),
            Some((_, true)) => Err(Invalid::RetiredPermission {
                name: name.to_owned(),
                keyspace: self.prefix,
            }
            .into()),
            None => Err(Invalid::UnknownPermission {
                name: match crate::model::withheld::holds_a_secret(name) {
                    true => "(withheld)".to_owned(),
                    false => name.to_owned(),
                },
                keyspace: self.prefix,
                known: self.names(self.active_mask()).join(", "),
            }
            .into()),
        }
    }

    /// The bit of a name that is not retired, without an allocation.
    pub(crate) fn required_bit(&self, name: &str) -> Option<Permissions> {
        self.permissions
            .iter()
            .position(|known| !known.retired && known.name == name)
            .map(Permissions::bit)
    }

    /// The names of the bits in a mask, in the order of the bits. A bit without a name
    /// is left out; retired names are included.
    #[must_use]
    pub fn names(&self, mask: Permissions) -> Vec<&str> {
        self.permissions
            .iter()
            .enumerate()
            .filter(|(at, _)| mask.contains(Permissions::bit(*at)))
            .map(|(_, known)| known.name.as_str())
            .collect()
    }

    /// The mask of all names that are not retired.
    #[must_use]
    pub fn active_mask(&self) -> Permissions {
        self.permissions
            .iter()
            .enumerate()
            .filter(|(_, known)| !known.retired)
            .fold(Permissions::NONE, |mask, (at, _)| {
                mask | Permissions::bit(at)
            })
    }

    /// Resolves the names and bits that a caller asks for.
    pub(crate) fn resolve(
        &self,
        names: &[String],
        bits: Permissions,
    ) -> Result<Permissions, Error> {
        let unknown = bits - self.active_mask();
        if !unknown.is_empty() {
            return Err(Invalid::UnknownBits {
                bits: unknown,
                keyspace: self.prefix,
            }
            .into());
        }
        Ok(bits | self.mask(names)?)
    }

    /// Appends names. Each gets the next bit.
    pub(crate) fn add_permissions(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            bounds::validate_identifier("permission name", name)?;
            if self.permissions.iter().any(|known| known.name == *name) {
                return Err(Invalid::Duplicate {
                    what: "permission",
                    value: crate::model::parse::shown(name),
                }
                .into());
            }
            self.permissions.push(PermissionName {
                name: name.clone(),
                retired: false,
            });
        }
        bounds::validate_count(
            "permission names",
            self.permissions.len(),
            Permissions::COUNT_MAX,
        )
    }

    pub(crate) fn retire_permissions(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            let mask = self.mask([name])?;
            for (at, known) in self.permissions.iter_mut().enumerate() {
                known.retired |= mask.contains(Permissions::bit(at));
            }
        }
        Ok(())
    }

    /// The number of a plan, counted from 1.
    pub(crate) fn plan_number(&self, name: &str) -> Result<u16, Error> {
        let at = self.plans.iter().position(|plan| plan.name == name);
        at.and_then(|at| u16::try_from(at + 1).ok()).ok_or_else(|| {
            let known: Vec<&str> = self.plans.iter().map(|plan| plan.name.as_str()).collect();
            Invalid::UnknownPlan {
                name: match crate::model::withheld::holds_a_secret(name) {
                    true => "(withheld)".to_owned(),
                    false => name.to_owned(),
                },
                keyspace: self.prefix,
                known: known.join(", "),
            }
            .into()
        })
    }

    /// The number of the plan of a new key.
    pub(crate) fn plan_for(&self, asked: Option<&str>) -> Result<u16, Error> {
        match asked.or(self.default_plan.as_deref()) {
            Some(name) => self.plan_number(name),
            None => Ok(0),
        }
    }

    /// The plan of a number, which a key has; `None` for 0.
    pub(crate) fn plan_numbered(&self, number: u16) -> Option<&Plan> {
        self.plans.get(usize::from(number).checked_sub(1)?)
    }

    /// The quota that the owners whose paths have `depth` segments have by default.
    pub(crate) fn default_quota(&self, depth: usize) -> Option<Quota> {
        self.owner_defaults.get(&depth)?.quota
    }

    /// Leaves out the levels of which nothing is said, once it is clear that they are levels.
    fn tidy_owner_defaults(&mut self) -> Result<(), Error> {
        self.owner_defaults
            .keys()
            .copied()
            .try_for_each(validate_depth)?;
        self.owner_defaults
            .retain(|_, defaults| !defaults.is_empty());
        Ok(())
    }

    /// Adds plans, or replaces those of the same name.
    fn put_plans(&mut self, plans: &[Plan]) {
        for plan in plans {
            match self.plans.iter_mut().find(|known| known.name == plan.name) {
                Some(known) => known.clone_from(plan),
                None => self.plans.push(plan.clone()),
            }
        }
    }

    /// Checks the fields of a new or changed keyspace.
    ///
    /// Not its description: see [`validate_description`].
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let KeysPerOwner::Many { cap } = self.keys_per_owner {
            validate_cap(cap)?;
        }
        for (what, lifetime) in [
            ("default lifetime", self.default_lifetime),
            ("maximum lifetime", self.max_lifetime),
        ] {
            if lifetime.is_some_and(|lifetime| lifetime.as_millis() == 0) {
                let value = format!("{:?}", lifetime.unwrap_or_default());
                let why = "it is less than a millisecond, and a key would be born expired";
                return Err(Invalid::malformed(what, &value, why).into());
            }
            if let Some(lifetime) = lifetime
                && Timestamp::MIN.checked_add(lifetime).is_none()
            {
                return Err(Invalid::TimeOutOfRange(format!("a {what} of {lifetime:?}")).into());
            }
        }
        bounds::validate_count("plans", self.plans.len(), bounds::PLANS_MAX)?;
        for (at, plan) in self.plans.iter().enumerate() {
            plan.validate()?;
            if self
                .plans
                .iter()
                .take(at)
                .any(|other| other.name == plan.name)
            {
                return Err(Invalid::Duplicate {
                    what: "plan",
                    value: crate::model::parse::shown(&plan.name),
                }
                .into());
            }
        }
        if let Some(name) = &self.default_plan {
            self.plan_number(name)?;
        }
        for (depth, defaults) in &self.owner_defaults {
            validate_depth(*depth)?;
            defaults.validate()?;
            if let Some(name) = &defaults.plan {
                self.plan_number(name)?;
            }
        }
        if let (Some(default), Some(max)) = (self.default_lifetime, self.max_lifetime)
            && default > max
        {
            return Err(Invalid::LifetimeTooLong {
                keyspace: self.prefix,
                max,
                asked: format!("a default of {default:?}"),
            }
            .into());
        }
        Ok(())
    }
}

/// Checks a description that a caller gives. A stored one is not checked again: the
/// rule for text may have become stricter, and must not prevent other changes.
fn validate_description(text: &str) -> Result<(), Error> {
    bounds::validate_text("description", text, bounds::DESCRIPTION_LEN_MAX)
}
