//! Keyspaces: families of keys under one policy.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::Prefix;
use crate::model::level::{LevelDefaults, check_cap, check_depth};
use crate::model::permissions::Permissions;
use crate::model::plan::Plan;
use crate::model::quota::Quota;

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
            bounds::check_identifier("permission name", name)?;
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
        bounds::check_count(
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
            .try_for_each(check_depth)?;
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
    /// Not its description: see [`check_description`].
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let KeysPerOwner::Many { cap } = self.keys_per_owner {
            check_cap(cap)?;
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
        bounds::check_count("plans", self.plans.len(), bounds::PLANS_MAX)?;
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
            check_depth(*depth)?;
            defaults.check()?;
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
fn check_description(text: &str) -> Result<(), Error> {
    bounds::check_text("description", text, bounds::DESCRIPTION_LEN_MAX)
}

/// A keyspace to be created.
///
/// ```
/// use std::time::Duration;
/// use gatekey::{Engine, NewKeyspace};
///
/// let engine = Engine::open_in_memory()?;
/// let live = engine.create_keyspace(
///     NewKeyspace::new("acme_live")?
///         .description("production")
///         .permissions(["read", "write"])
///         .max_lifetime(Duration::from_secs(90 * 86_400)),
/// )?;
/// assert_eq!(live.mask(["write"])?.bits(), 0b10);
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NewKeyspace {
    pub(crate) prefix: Prefix,
    pub(crate) description: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) keys_per_owner: KeysPerOwner,
    pub(crate) default_lifetime: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) default_plan: Option<String>,
    pub(crate) owner_defaults: BTreeMap<usize, LevelDefaults>,
    pub(crate) max_grace: Option<Duration>,
    pub(crate) count_retiring: bool,
}

impl NewKeyspace {
    /// A keyspace with no permissions, any number of keys an owner, and keys
    /// that do not expire unless their issue says so.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a prefix that is not 1 to 32 of `a-z 0-9 _`.
    pub fn new(prefix: impl TryInto<Prefix, Error: Into<Error>>) -> Result<Self, Error> {
        Ok(Self {
            prefix: prefix.try_into().map_err(Into::into)?,
            description: String::new(),
            permissions: Vec::new(),
            keys_per_owner: KeysPerOwner::Many { cap: None },
            default_lifetime: None,
            max_lifetime: None,
            plans: Vec::new(),
            default_plan: None,
            owner_defaults: BTreeMap::new(),
            max_grace: None,
            count_retiring: false,
        })
    }

    /// What it is for, at most [`bounds::DESCRIPTION_LEN_MAX`] bytes.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Its permission names, in the order of their bits; at most 128.
    #[must_use]
    pub fn permissions<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.permissions.extend(names.into_iter().map(Into::into));
        self
    }

    /// How many keys an owner may hold.
    #[must_use]
    pub fn keys_per_owner(mut self, policy: KeysPerOwner) -> Self {
        self.keys_per_owner = policy;
        self
    }

    /// One active key an owner; a new issue makes the old one invalid.
    #[must_use]
    pub fn single_active(self) -> Self {
        self.keys_per_owner(KeysPerOwner::SingleSuperseding)
    }

    /// How long a key lives where its issue does not say.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # use std::time::Duration;
    /// # let engine = Engine::open_in_memory()?;
    /// let day = Duration::from_secs(86_400);
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.default_lifetime(day))?;
    /// let key = engine.issue(NewKey::new("acme_live", "acme")?)?.key;
    /// assert_eq!(key.expires_at, key.created_at.checked_add(day));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = Some(lifetime);
        self
    }

    /// Sets the longest lifetime of a key. In a keyspace without a default lifetime, it
    /// is also that of keys whose issue does not set an expiry.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// The longest grace of a rotation; zero allows rotations without a grace alone. A
    /// rotation that asks for more is refused with [`Invalid::GraceTooLong`].
    ///
    /// ```
    /// # use gatekey::{Engine, Error, Invalid, NewKey, NewKeyspace, Rotation};
    /// # use std::time::Duration;
    /// # let engine = Engine::open_in_memory()?;
    /// let hour = Duration::from_secs(3_600);
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.max_grace(hour))?;
    /// let key = engine.issue(NewKey::new("acme_live", "acme")?)?.key;
    /// let error = engine.rotate(key.id, Rotation::with_grace(24 * hour)).unwrap_err();
    /// assert!(matches!(error, Error::Invalid(Invalid::GraceTooLong { .. })));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn max_grace(mut self, grace: Duration) -> Self {
        self.max_grace = Some(grace);
        self
    }

    /// Whether a key in the grace of a rotation counts towards caps beside the key that it
    /// was rotated to.
    ///
    /// It does not by default: the two count as one, so that an owner at its cap can change
    /// its key without an interruption, and at most twice as many tokens as its cap are
    /// accepted at an instant. Where it does, never more than the cap are, and a rotation
    /// with a grace at the cap is refused with
    /// [`Conflict::NoRoomForGrace`](crate::Conflict::NoRoomForGrace); in a single-active
    /// keyspace that is every rotation with a grace.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gatekey::{Conflict, Engine, Error, KeysPerOwner, NewKey, NewKeyspace, Rotation};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// let one = KeysPerOwner::Many { cap: Some(1) };
    /// engine.create_keyspace(NewKeyspace::new("strict")?.keys_per_owner(one).count_retiring(true))?;
    /// let key = engine.issue(NewKey::new("strict", "acme")?)?.key.id;
    /// let hour = Duration::from_secs(3600);
    /// let refused = engine.rotate(key, Rotation::with_grace(hour));
    /// assert!(matches!(refused, Err(Error::Conflict(Conflict::NoRoomForGrace { .. }))));
    /// engine.rotate(key, Rotation::at_once())?;
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn count_retiring(mut self, counts: bool) -> Self {
        self.count_retiring = counts;
        self
    }

    /// Adds a plan, which its keys can follow; at most [`bounds::PLANS_MAX`].
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plans.push(plan);
        self
    }

    /// Sets the plan of keys whose issue does not name one. Without it, such keys have
    /// no limits.
    #[must_use]
    pub fn default_plan(mut self, name: impl Into<String>) -> Self {
        self.default_plan = Some(name.into());
        self
    }

    /// What each owner whose path has `depth` segments has, where it does not have it of
    /// its own; 1 is the first segment, such as an organisation. Said again for a depth,
    /// it replaces what was said.
    ///
    /// ```
    /// use gatekey::{Engine, LevelDefaults, Limit, NewKeyspace, Plan};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// let live = engine.create_keyspace(
    ///     NewKeyspace::new("acme_live")?
    ///         .plan(Plan::new("free").limit(Limit::per_minute(60)))
    ///         // Each organisation, until it buys another plan:
    ///         .owner_defaults(1, LevelDefaults::new().plan("free").cap(20)),
    /// )?;
    /// assert_eq!(live.owner_defaults[&1].cap, Some(20));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn owner_defaults(mut self, depth: usize, defaults: LevelDefaults) -> Self {
        self.owner_defaults.insert(depth, defaults);
        self
    }

    /// The keyspace that it asks for.
    pub(crate) fn build(&self, id: u32, revision: u64, now: Timestamp) -> Result<Keyspace, Error> {
        let mut keyspace = Keyspace {
            id,
            revision,
            prefix: self.prefix,
            description: self.description.clone(),
            permissions: Vec::new(),
            keys_per_owner: self.keys_per_owner,
            default_lifetime: self.default_lifetime,
            max_lifetime: self.max_lifetime,
            plans: self.plans.clone(),
            default_plan: self.default_plan.clone(),
            owner_defaults: self.owner_defaults.clone(),
            max_grace: self.max_grace,
            count_retiring: self.count_retiring,
            created_at: now,
            updated_at: now,
        };
        keyspace.tidy_owner_defaults()?;
        check_description(&self.description)?;
        keyspace.add_permissions(&self.permissions)?;
        keyspace.validate()?;
        Ok(keyspace)
    }
}

/// Changes to a keyspace. The prefix never changes: it stands in every token.
///
/// Changed lifetimes, caps and default plans apply to keys issued or changed from then
/// on; existing keys stay as they are. A changed plan applies at once to all keys that
/// follow it.
#[derive(Debug, Clone, Default)]
pub struct KeyspaceUpdate {
    pub(crate) description: Option<String>,
    pub(crate) append: Vec<String>,
    pub(crate) retire: Vec<String>,
    pub(crate) keys_per_owner: Option<KeysPerOwner>,
    pub(crate) default_lifetime: Option<Option<Duration>>,
    pub(crate) max_lifetime: Option<Option<Duration>>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) default_plan: Option<Option<String>>,
    pub(crate) owner_defaults: BTreeMap<usize, Option<LevelDefaults>>,
    pub(crate) max_grace: Option<Option<Duration>>,
    pub(crate) count_retiring: Option<bool>,
}

impl KeyspaceUpdate {
    /// No change yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new description.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// More permission names, which get the next bits.
    #[must_use]
    pub fn add_permissions<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.append.extend(names.into_iter().map(Into::into));
        self
    }

    /// Retires names: from then on no key can get them, and no verification can require
    /// them.
    #[must_use]
    pub fn retire_permissions<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.retire.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets how many keys an owner may hold. The update fails if the keyspace would
    /// become single-active while an owner holds several.
    #[must_use]
    pub fn keys_per_owner(mut self, policy: KeysPerOwner) -> Self {
        self.keys_per_owner = Some(policy);
        self
    }

    /// Sets a default lifetime, or removes it with `None`.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyspaceUpdate, NewKeyspace};
    /// # use std::time::Duration;
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let day = Duration::from_secs(86_400);
    /// let update = KeyspaceUpdate::new().default_lifetime(day);
    /// assert_eq!(engine.update_keyspace("acme_live", update)?.default_lifetime, Some(day));
    /// let update = KeyspaceUpdate::new().default_lifetime(None);
    /// assert_eq!(engine.update_keyspace("acme_live", update)?.default_lifetime, None);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.default_lifetime = Some(lifetime.into());
        self
    }

    /// Sets a maximum lifetime, or removes it with `None`.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = Some(lifetime.into());
        self
    }

    /// A longest grace of rotations, or `None` to take it away. Graces that run already are
    /// left as they are.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyspaceUpdate, NewKeyspace};
    /// # use std::time::Duration;
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let hour = Duration::from_secs(3_600);
    /// let update = KeyspaceUpdate::new().max_grace(hour);
    /// assert_eq!(engine.update_keyspace("acme_live", update)?.max_grace, Some(hour));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn max_grace(mut self, grace: impl Into<Option<Duration>>) -> Self {
        self.max_grace = Some(grace.into());
        self
    }

    /// Whether a key in its grace counts beside the key that it was rotated to: see
    /// [`NewKeyspace::count_retiring`].
    #[must_use]
    pub fn count_retiring(mut self, counts: bool) -> Self {
        self.count_retiring = Some(counts);
        self
    }

    /// Adds a plan, or replaces the one with its name and resets its counters. A plan
    /// cannot be removed.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plans.push(plan);
        self
    }

    /// The plan of a key whose issue does not name one, or `None`.
    #[must_use]
    pub fn default_plan<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.default_plan = Some(name.into().map(str::to_owned));
        self
    }

    /// What each owner whose path has `depth` segments has, where it does not have it of
    /// its own, or `None` for nothing. It holds from the next request or issue on, also
    /// for owners that are there.
    #[must_use]
    pub fn owner_defaults(
        mut self,
        depth: usize,
        defaults: impl Into<Option<LevelDefaults>>,
    ) -> Self {
        self.owner_defaults.insert(depth, defaults.into());
        self
    }

    /// The keyspace as it would be after the change.
    pub(crate) fn apply(&self, old: &Keyspace, now: Timestamp) -> Result<Keyspace, Error> {
        let mut new = old.clone();
        if let Some(description) = &self.description {
            check_description(description)?;
            new.description.clone_from(description);
        }
        new.add_permissions(&self.append)?;
        new.retire_permissions(&self.retire)?;
        new.keys_per_owner = self.keys_per_owner.unwrap_or(old.keys_per_owner);
        new.default_lifetime = self.default_lifetime.unwrap_or(old.default_lifetime);
        new.max_lifetime = self.max_lifetime.unwrap_or(old.max_lifetime);
        new.max_grace = self.max_grace.unwrap_or(old.max_grace);
        new.count_retiring = self.count_retiring.unwrap_or(old.count_retiring);
        new.put_plans(&self.plans);
        if let Some(name) = &self.default_plan {
            new.default_plan.clone_from(name);
        }
        for (depth, defaults) in &self.owner_defaults {
            let defaults = defaults.clone().unwrap_or_default();
            new.owner_defaults.insert(*depth, defaults);
        }
        new.tidy_owner_defaults()?;
        new.validate()?;
        if new != *old {
            new.updated_at = now;
        }
        Ok(new)
    }
}
