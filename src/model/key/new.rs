//! A key to be issued.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::Prefix;
use crate::model::key::Expiry;
use crate::model::limit::Limit;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::plan::validate_limits;
use crate::model::quota::Quota;

/// A key to be issued.
///
/// ```
/// use std::time::Duration;
/// use gatekey::{Engine, NewKey, NewKeyspace};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// let issued = engine.issue(
///     NewKey::new("acme_live", "acme/ingest/etl-bot")?
///         .permissions(["read"])
///         .name("nightly import")
///         .label("env", "prod")
///         .expires_in(Duration::from_secs(30 * 86_400))
///         .allow_network("10.0.0.0/8".parse()?),
/// )?;
/// assert!(issued.token.expose().starts_with("acme_live_"));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NewKey {
    pub(crate) keyspace: Prefix,
    pub(crate) owner: OwnerPath,
    pub(crate) permission_names: Vec<String>,
    pub(crate) permission_bits: Permissions,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) expiry: Expiry,
    pub(crate) networks: Vec<Network>,
    pub(crate) plan: Option<String>,
    pub(crate) limits: Option<Vec<Limit>>,
    pub(crate) quota: Option<Quota>,
}

impl NewKey {
    /// A key for an owner, with no permissions and the keyspace's lifetime.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a malformed prefix or owner path.
    /// [`Engine::issue`](crate::Engine::issue) checks what the setters are given.
    pub fn new(
        keyspace: impl TryInto<Prefix, Error: Into<Error>>,
        owner: impl TryInto<OwnerPath, Error: Into<Error>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            keyspace: keyspace.try_into().map_err(Into::into)?,
            owner: owner.try_into().map_err(Into::into)?,
            permission_names: Vec::new(),
            permission_bits: Permissions::NONE,
            name: None,
            description: None,
            labels: BTreeMap::new(),
            not_before: None,
            expiry: Expiry::Default,
            networks: Vec::new(),
            plan: None,
            limits: None,
            quota: None,
        })
    }

    /// Adds permissions by name; the keyspace must have the names when the key is
    /// issued.
    #[must_use]
    pub fn permissions<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.permission_names
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds permissions by mask; every bit needs an active name in the keyspace.
    #[must_use]
    pub fn permission_mask(mut self, mask: Permissions) -> Self {
        self.permission_bits = self.permission_bits | mask;
        self
    }

    /// Sets a name for people, at most [`bounds::NAME_LEN_MAX`] bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A description, at most [`bounds::DESCRIPTION_LEN_MAX`] bytes.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds a label, which listings can ask for; at most [`bounds::LABELS_MAX`].
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The first instant at which the key is good.
    #[must_use]
    pub fn not_before(mut self, instant: Timestamp) -> Self {
        self.not_before = Some(instant);
        self
    }

    /// When the key stops being good.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// The key is good until `instant`, exclusive.
    #[must_use]
    pub fn expires_at(self, instant: Timestamp) -> Self {
        self.expiry(Expiry::At(instant))
    }

    /// The key is good for `lifetime` from its issue.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.expiry(Expiry::After(lifetime))
    }

    /// The key does not expire.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # use std::time::Duration;
    /// # let engine = Engine::open_in_memory()?;
    /// let day = Duration::from_secs(86_400);
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?.default_lifetime(day))?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.never_expires())?;
    /// assert_eq!(issued.key.expires_at, None);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn never_expires(self) -> Self {
        self.expiry(Expiry::Never)
    }

    /// Adds a network that the key may be used from; without one, all are
    /// allowed. At most [`bounds::NETWORKS_MAX`].
    #[must_use]
    pub fn allow_network(mut self, network: Network) -> Self {
        self.networks.push(network);
        self
    }

    /// Adds networks that the key may be used from.
    #[must_use]
    pub fn allow_networks(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.networks.extend(networks);
        self
    }

    /// Sets the plan that the key follows, by name; the keyspace's default plan if not
    /// called.
    #[must_use]
    pub fn plan(mut self, name: impl Into<String>) -> Self {
        self.plan = Some(name.into());
        self
    }

    /// Limits of its own in the place of its plan's, at most
    /// [`bounds::LIMITS_PER_PLAN_MAX`]. None of them is no limit. The rest of the plan
    /// holds.
    ///
    /// ```
    /// use gatekey::{Engine, Limit, NewKey, NewKeyspace, Plan};
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(
    ///     NewKeyspace::new("acme_live")?
    ///         .plan(Plan::new("free").limit(Limit::per_minute(60)))
    ///         .default_plan("free"),
    /// )?;
    /// let new = NewKey::new("acme_live", "acme")?.limits([Limit::per_minute(90)]);
    /// let issued = engine.issue(new)?;
    /// assert_eq!(issued.key.limits, Some(vec![Limit::per_minute(90)]));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits = Some(limits.into_iter().collect());
        self
    }

    /// Sets how many requests the key is good for; any number if not called.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// What can be checked without the store.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        validate_descriptive(self.name.as_deref(), self.description.as_deref())?;
        bounds::validate_labels(&self.labels)?;
        validate_own_limits(self.limits.as_deref())?;
        self.quota.map_or(Ok(()), Quota::validate)?;
        validate_networks(&self.networks)
    }
}

/// Limits of a key's own, where there are any.
pub(crate) fn validate_own_limits(limits: Option<&[Limit]>) -> Result<(), Error> {
    limits.map_or(Ok(()), |limits| validate_limits("limits of a key", limits))
}

pub(crate) fn validate_descriptive(
    name: Option<&str>,
    description: Option<&str>,
) -> Result<(), Error> {
    bounds::validate_text("name", name.unwrap_or(""), bounds::NAME_LEN_MAX)?;
    bounds::validate_text(
        "description",
        description.unwrap_or(""),
        bounds::DESCRIPTION_LEN_MAX,
    )
}

pub(crate) fn validate_networks(networks: &[Network]) -> Result<(), Error> {
    bounds::validate_count("networks", networks.len(), bounds::NETWORKS_MAX)?;
    for (at, network) in networks.iter().enumerate() {
        if networks.iter().take(at).any(|other| other == network) {
            return Err(Invalid::Duplicate {
                what: "network",
                value: network.to_string(),
            }
            .into());
        }
    }
    Ok(())
}
