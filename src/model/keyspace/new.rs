//! A keyspace to be created.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::Prefix;
use crate::model::keyspace::{KeysPerOwner, Keyspace, validate_description};
use crate::model::level::LevelDefaults;
use crate::model::plan::Plan;

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
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a prefix that is not 1 to 32 of `a-z 0-9 _`.
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

    /// What it is for, at most [`bounds::DESCRIPTION_LEN_MAX`](crate::bounds::DESCRIPTION_LEN_MAX) bytes.
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
    /// rotation that asks for more is refused with [`Invalid::GraceTooLong`](crate::Invalid::GraceTooLong).
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

    /// Adds a plan, which its keys can follow; at most [`bounds::PLANS_MAX`](crate::bounds::PLANS_MAX).
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
        validate_description(&self.description)?;
        keyspace.add_permissions(&self.permissions)?;
        keyspace.validate()?;
        Ok(keyspace)
    }
}
