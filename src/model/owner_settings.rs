//! What an owner has in a keyspace besides its keys: a plan, limits, a quota, a cap.

mod setting;

pub use setting::Setting;
pub(crate) use setting::UNLIMITED;

use crate::model::clock::Timestamp;
use crate::model::error::{Corruption, Error};
use crate::model::filter::Cursor;
use crate::model::id::Prefix;
use crate::model::level::validate_cap;
use crate::model::limit::Limit;
use crate::model::owner::OwnerPath;
use crate::model::plan::validate_limits;
use crate::model::quota::{Quota, QuotaStatus};

/// What an owner has of its own in one keyspace: a customer's tier.
///
/// An owner at any level can have settings, and no key need exist below it. Plans are
/// those of the keyspace, so that settings are of one keyspace: an owner has others in
/// another. What an owner does not have of its own, [`LevelDefaults`](crate::LevelDefaults) may say for its
/// level. [`Engine::update_owner`](crate::Engine::update_owner) changes settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OwnerSettings {
    /// The keyspace.
    pub keyspace: Prefix,
    /// The owner.
    pub owner: OwnerPath,
    /// Its plan; `None`: as the defaults of its level say.
    pub plan: Option<String>,
    /// Limits in the place of the plan's; `None`: the plan's. An empty list is no limit.
    pub limits: Option<Vec<Limit>>,
    /// Its quota, and what is left of it.
    pub quota: Setting<QuotaStatus>,
    /// The most keys that may be held at the owner and below it.
    pub cap: Setting<u32>,
    /// When these settings were last changed; `None`: there are none.
    pub updated_at: Option<Timestamp>,
    /// Who changed them last.
    pub updated_by: Option<String>,
}

impl OwnerSettings {
    /// Whether the owner has nothing of its own in the keyspace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.is_none()
            && self.limits.is_none()
            && self.quota.is_default()
            && self.cap.is_default()
    }
}

/// A page of owners with settings: see
/// [`Engine::owner_settings_page`](crate::Engine::owner_settings_page).
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OwnerSettingsPage {
    /// The settings, in the order of the paths as text.
    pub owners: Vec<OwnerSettings>,
    /// What on the way could not be read.
    /// [`Engine::repair`](crate::Engine::repair) removes or rebuilds it.
    pub damaged: Vec<Corruption>,
    /// Where to go on; `None`: there is no more.
    pub next: Option<Cursor>,
}

/// Changes to the settings of an owner. What is not named stays as it is.
///
/// ```
/// use gatekey::{Engine, Limit, NewKeyspace, OwnerUpdate, Plan, Quota, Refill};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(
///     NewKeyspace::new("acme_live")?.plan(Plan::new("pro").limit(Limit::per_second(50))),
/// )?;
/// // A customer buys the tier, with a quota of its own:
/// let monthly = Quota::new(1_000_000).refilled(Refill::Monthly);
/// let acme = engine.update_owner("acme_live", "acme", OwnerUpdate::new().plan("pro").quota(monthly))?;
/// assert_eq!(acme.plan.as_deref(), Some("pro"));
/// // Later it gets a number of its own, without a new plan:
/// let faster = OwnerUpdate::new().limits([Limit::per_second(80)]);
/// let acme = engine.update_owner("acme_live", "acme", faster)?;
/// assert_eq!(acme.limits, Some(vec![Limit::per_second(80)]));
/// assert_eq!(acme.quota.own().map(|status| status.quota), Some(monthly));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct OwnerUpdate {
    pub(crate) plan: Option<Option<String>>,
    pub(crate) limits: Option<Option<Vec<Limit>>>,
    pub(crate) quota: Option<Setting<Quota>>,
    pub(crate) cap: Option<Setting<u32>>,
}

impl OwnerUpdate {
    /// No change yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes away everything that the owner has of its own.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKeyspace, OwnerUpdate};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.update_owner("acme_live", "acme", OwnerUpdate::new().cap(5))?;
    /// let left = engine.update_owner("acme_live", "acme", OwnerUpdate::nothing())?;
    /// assert!(left.is_empty());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            plan: Some(None),
            limits: Some(None),
            quota: Some(Setting::Default),
            cap: Some(Setting::Default),
        }
    }

    /// A plan of the keyspace, by name, or `None` for the default of the level.
    #[must_use]
    pub fn plan<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.plan = Some(name.into().map(str::to_owned));
        self
    }

    /// Limits in the place of the plan's, at most
    /// [`bounds::LIMITS_PER_PLAN_MAX`](crate::bounds::LIMITS_PER_PLAN_MAX). None of them is
    /// no limit. The rest of the plan holds.
    #[must_use]
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits = Some(Some(limits.into_iter().collect()));
        self
    }

    /// The limits of the plan again.
    ///
    /// ```
    /// # use gatekey::{Engine, Limit, NewKeyspace, OwnerUpdate};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let own = OwnerUpdate::new().limits([Limit::per_second(5)]);
    /// engine.update_owner("acme_live", "acme", own)?;
    /// let acme = engine.update_owner("acme_live", "acme", OwnerUpdate::new().limits_of_plan())?;
    /// assert_eq!(acme.limits, None);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn limits_of_plan(mut self) -> Self {
        self.limits = Some(None);
        self
    }

    /// A quota, full, or [`Setting::Unlimited`], or `None` for the default of the level. The
    /// same quota again is a full one.
    ///
    /// ```
    /// use gatekey::{Engine, LevelDefaults, NewKey, NewKeyspace, OwnerUpdate, Quota, Setting};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// let free = LevelDefaults::new().quota(Quota::new(1_000)).cap(5);
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.owner_defaults(1, free))?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/web")?)?;
    /// assert_eq!(engine.quotas_left(issued.key.id)?.len(), 1);
    /// // A contract without a quota:
    /// let as_many_as_it_likes = OwnerUpdate::new().quota(Setting::Unlimited);
    /// engine.update_owner("acme_live", "acme", as_many_as_it_likes)?;
    /// assert!(engine.quotas_left(issued.key.id)?.is_empty());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn quota(mut self, quota: impl Into<Setting<Quota>>) -> Self {
        self.quota = Some(quota.into());
        self
    }

    /// The most keys that may be held at the owner and below it, or [`Setting::Unlimited`],
    /// or `None` for the default of the level.
    #[must_use]
    pub fn cap(mut self, cap: impl Into<Setting<u32>>) -> Self {
        self.cap = Some(cap.into());
        self
    }

    /// What can be checked without the store.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let Some(Some(limits)) = &self.limits {
            validate_limits("limits of an owner", limits)?;
        }
        let quota = self.quota.and_then(Setting::own);
        quota.map_or(Ok(()), Quota::validate)?;
        validate_cap(self.cap.and_then(Setting::own))
    }
}
