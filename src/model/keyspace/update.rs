//! Changes to a keyspace.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::keyspace::{KeysPerOwner, Keyspace, validate_description};
use crate::model::level::LevelDefaults;
use crate::model::plan::Plan;

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
    /// [`NewKeyspace::count_retiring`](crate::NewKeyspace::count_retiring).
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
            validate_description(description)?;
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
