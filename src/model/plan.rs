//! Plans: named lists of limits, which a keyspace defines and a key follows.

use crate::model::bounds;
use crate::model::error::{Error, Invalid};
use crate::model::limit::Limit;

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
    serde(try_from = "Given")
)]
#[non_exhaustive]
pub struct Plan {
    /// Its name, unique in the keyspace.
    pub name: String,
    /// Its limits; none of them: no limit.
    pub limits: Vec<Limit>,
    /// Whether all keys of an owner in the keyspace that follow the plan are
    /// counted together.
    pub shared_by_owner: bool,
}

/// A plan as it is read, which need not be one.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    #[serde(default)]
    limits: Vec<Limit>,
    #[serde(default)]
    shared_by_owner: bool,
}

#[cfg(feature = "serde")]
impl TryFrom<Given> for Plan {
    type Error = Error;

    fn try_from(given: Given) -> Result<Self, Error> {
        let plan = Self {
            name: given.name,
            limits: given.limits,
            shared_by_owner: given.shared_by_owner,
        };
        plan.validate()?;
        Ok(plan)
    }
}

impl Plan {
    /// A plan without limits, counted by key. Checked where it is used: a name
    /// as a permission's, at most [`bounds::LIMITS_PER_PLAN_MAX`] limits.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            limits: Vec::new(),
            shared_by_owner: false,
        }
    }

    /// Adds a limit.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Counts all keys of an owner in the keyspace together.
    #[must_use]
    pub fn shared_by_owner(mut self) -> Self {
        self.shared_by_owner = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        bounds::check_identifier("plan name", &self.name)?;
        bounds::check_count(
            "limits of a plan",
            self.limits.len(),
            bounds::LIMITS_PER_PLAN_MAX,
        )?;
        for limit in &self.limits {
            limit
                .validate()
                .map_err(|why| Invalid::malformed("limit", &limit.to_string(), why))?;
        }
        Ok(())
    }
}

/// As `free: 1000 an hour, 50 a second`.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.name)?;
        for (at, limit) in self.limits.iter().enumerate() {
            write!(f, "{} {limit}", if at > 0 { "," } else { "" })?;
        }
        match (self.limits.is_empty(), self.shared_by_owner) {
            (true, true) => f.write_str(" no limit (shared by an owner's keys)"),
            (true, false) => f.write_str(" no limit"),
            (false, true) => f.write_str(" (shared by an owner's keys)"),
            (false, false) => Ok(()),
        }
    }
}
