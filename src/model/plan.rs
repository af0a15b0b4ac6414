//! Plans: named lists of limits, which a keyspace defines and a key follows.

use crate::model::bounds;
use crate::model::error::Error;
use crate::model::limit::Limit;
#[cfg(feature = "serde")]
use crate::model::serialized::Object;

/// A named list of limits. A request is charged to all of them or to none.
///
/// ```
/// use gatekey::{Engine, Limit, NewKey, NewKeyspace, Plan};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(
///     NewKeyspace::new("acme_live")?
///         .plan(Plan::new("free").limit(Limit::per_hour(1_000)).limit(Limit::per_second(50)))
///         .plan(Plan::new("enterprise").limit(Limit::per_second(1_000)))
///         .default_plan("free"),
/// )?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
/// let verdict = engine.verify(issued.token.expose())?;
/// let left = verdict.grant().and_then(|grant| grant.longest_limit());
/// assert_eq!(left.map(|left| left.remaining()), Some(999));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Object<Given>")
)]
#[non_exhaustive]
pub struct Plan {
    /// Its name, unique in the keyspace.
    pub name: String,
    /// Its limits; an empty list means no limit.
    pub limits: Vec<Limit>,
    /// Whether the keys of an owner in the keyspace that follow the plan share their
    /// counters.
    pub shared_by_owner: bool,
    /// Whether a request that is counted under the plan is not charged to the limits of
    /// the levels above the one that has the plan.
    pub replaces_levels_above: bool,
}

/// A plan as it is deserialised, before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    #[serde(default)]
    limits: Vec<Limit>,
    #[serde(default)]
    shared_by_owner: bool,
    #[serde(default)]
    replaces_levels_above: bool,
}

#[cfg(feature = "serde")]
impl TryFrom<Object<Given>> for Plan {
    type Error = Error;

    fn try_from(Object(given): Object<Given>) -> Result<Self, Error> {
        let plan = Self {
            name: given.name,
            limits: given.limits,
            shared_by_owner: given.shared_by_owner,
            replaces_levels_above: given.replaces_levels_above,
        };
        plan.validate()?;
        Ok(plan)
    }
}

impl Plan {
    /// A plan without limits, counted by key. The engine checks it when it is used: the
    /// name has the form of a permission's, and there are at most
    /// [`bounds::LIMITS_PER_PLAN_MAX`] limits.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            limits: Vec::new(),
            shared_by_owner: false,
            replaces_levels_above: false,
        }
    }

    /// Adds a limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Makes the keys of an owner in the keyspace share their counters.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::{Limit, Plan};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let team = Plan::new("team").limit(Limit::per_hour(2)).shared_by_owner();
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.plan(team).default_plan("team"))?;
    /// for granted in [true, true, false] {
    ///     let issued = engine.issue(NewKey::new("acme_live", "acme")?)?; // another key each time
    ///     assert_eq!(engine.verify(issued.token.expose())?.is_granted(), granted);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn shared_by_owner(mut self) -> Self {
        self.shared_by_owner = true;
        self
    }

    /// Lets the plan stand for the plans of the levels above: a request that is counted
    /// under it is not charged to the limits above the level that has the plan. Without
    /// this, it is charged to those as well.
    ///
    /// ```
    /// use gatekey::{Limit, Plan};
    ///
    /// let batch = Plan::new("batch").limit(Limit::per_hour(9_000)).replaces_levels_above();
    /// assert!(batch.replaces_levels_above);
    /// assert!(!Plan::new("free").replaces_levels_above);
    /// ```
    #[must_use]
    pub fn replaces_levels_above(mut self) -> Self {
        self.replaces_levels_above = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        bounds::validate_identifier("plan name", &self.name)?;
        validate_limits("limits of a plan", &self.limits)
    }
}

/// Limits of a plan, or in the place of a plan's.
pub(crate) fn validate_limits(what: &'static str, limits: &[Limit]) -> Result<(), Error> {
    bounds::validate_count(what, limits.len(), bounds::LIMITS_PER_PLAN_MAX)?;
    for limit in limits {
        limit.validate()?;
    }
    Ok(())
}

/// Limits in the place of a plan's, if there are any, as text.
pub(crate) fn own_limits_text(limits: Option<&[Limit]>) -> String {
    match limits {
        None => "none".to_owned(),
        Some([]) => "no limit".to_owned(),
        Some(limits) => {
            let limits: Vec<_> = limits.iter().map(ToString::to_string).collect();
            limits.join(", ")
        }
    }
}

/// As `free: 1000 an hour, 50 a second`.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.name)?;
        for (at, limit) in self.limits.iter().enumerate() {
            write!(f, "{} {limit}", if at > 0 { "," } else { "" })?;
        }
        if self.limits.is_empty() {
            f.write_str(" no limit")?;
        }
        let shared = self.shared_by_owner.then_some("shared by an owner's keys");
        let replaces = (self.replaces_levels_above).then_some("replaces the levels above");
        match (shared, replaces) {
            (Some(shared), Some(replaces)) => write!(f, " ({shared}; {replaces})"),
            (Some(said), None) | (None, Some(said)) => write!(f, " ({said})"),
            (None, None) => Ok(()),
        }
    }
}
