//! Keys: what a caller asks for, and what the store returns. Never the digest.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::{KeyId, Prefix};
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::plan::check_limits;
use crate::model::quota::{Quota, QuotaStatus};
use crate::model::reason::Reason;
use crate::model::secret::Token;

/// When a key stops being good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Expiry {
    /// As the keyspace says: its default lifetime from now, at most its maximum from
    /// the issue. Never, if the keyspace has neither.
    #[default]
    Default,
    /// Never. An error if the keyspace has a maximum lifetime.
    Never,
    /// At an instant: the last good millisecond is the one before.
    At(Timestamp),
    /// A time after the issue, or after the change.
    After(
        #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))] Duration,
    ),
}

impl Expiry {
    /// Computes the instant for a keyspace and a key issued at `issued_at`.
    pub(crate) fn resolve(
        self,
        keyspace: &Keyspace,
        issued_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let after = |lifetime: Duration| {
            now.checked_add(lifetime)
                .ok_or_else(|| Error::from(Invalid::TimeOutOfRange(format!("now + {lifetime:?}"))))
        };
        let expires_at = match self {
            Self::Default => {
                let default = keyspace.default_lifetime.map(after).transpose()?;
                let latest = keyspace
                    .max_lifetime
                    .map(|max| issued_at.saturating_add(max));
                [default, latest].into_iter().flatten().min()
            }
            Self::Never => None,
            Self::At(instant) => Some(instant),
            Self::After(lifetime) => Some(after(lifetime)?),
        };
        if let Some(expires_at) = expires_at
            && expires_at <= now
        {
            return Err(Invalid::ExpiryInPast { expires_at, now }.into());
        }
        if let Some(max) = keyspace.max_lifetime {
            let latest = issued_at.saturating_add(max);
            if expires_at.is_none_or(|expires_at| expires_at > latest) {
                return Err(Invalid::LifetimeTooLong {
                    keyspace: keyspace.prefix,
                    max,
                    asked: expires_at.map_or("never".to_owned(), |at| at.to_string()),
                }
                .into());
            }
        }
        Ok(expires_at)
    }
}

/// Checks that a key's life begins before it ends.
pub(crate) fn check_life(
    not_before: Timestamp,
    expires_at: Option<Timestamp>,
) -> Result<(), Error> {
    match expires_at {
        Some(expires_at) if not_before >= expires_at => Err(Invalid::NotBeforeAfterExpiry {
            not_before,
            expires_at,
        }
        .into()),
        _ => Ok(()),
    }
}

pub(crate) fn check_networks(networks: &[Network]) -> Result<(), Error> {
    bounds::check_count("networks", networks.len(), bounds::NETWORKS_MAX)?;
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
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_descriptive(self.name.as_deref(), self.description.as_deref())?;
        bounds::check_labels(&self.labels)?;
        check_own_limits(self.limits.as_deref())?;
        self.quota.map_or(Ok(()), Quota::validate)?;
        check_networks(&self.networks)
    }
}

/// Limits of a key's own, where there are any.
pub(crate) fn check_own_limits(limits: Option<&[Limit]>) -> Result<(), Error> {
    limits.map_or(Ok(()), |limits| check_limits("limits of a key", limits))
}

pub(crate) fn check_descriptive(
    name: Option<&str>,
    description: Option<&str>,
) -> Result<(), Error> {
    bounds::check_text("name", name.unwrap_or(""), bounds::NAME_LEN_MAX)?;
    bounds::check_text(
        "description",
        description.unwrap_or(""),
        bounds::DESCRIPTION_LEN_MAX,
    )
}

/// Changes to a key. Fields that are not set stay as they are.
///
/// ```
/// # use gatekey::{Engine, NewKey, NewKeyspace};
/// use gatekey::KeyUpdate;
///
/// # let engine = Engine::open_in_memory()?;
/// # engine.create_keyspace(NewKeyspace::new("acme_live")?.permissions(["read", "write"]))?;
/// # let issued = engine.issue(NewKey::new("acme_live", "acme")?.permissions(["read", "write"]))?;
/// let key = engine.update(
///     issued.key.id,
///     KeyUpdate::new().name("read only from now on").remove_permissions(["write"]),
/// )?;
/// assert_eq!(key.permissions.bits(), 0b01);
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct KeyUpdate {
    pub(crate) name: Option<Option<String>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) labels: BTreeMap<String, Option<String>>,
    pub(crate) replace: Option<(Vec<String>, Permissions)>,
    pub(crate) add: Vec<String>,
    pub(crate) withdraw: Vec<String>,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) networks: Option<Vec<Network>>,
    pub(crate) plan: Option<Option<String>>,
    pub(crate) limits: Option<Option<Vec<Limit>>>,
    pub(crate) quota: Option<Option<Quota>>,
}

impl KeyUpdate {
    /// No change yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a new name, or removes it with `None`.
    #[must_use]
    pub fn name<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.name = Some(name.into().map(str::to_owned));
        self
    }

    /// Sets a new description, or removes it with `None`.
    #[must_use]
    pub fn description<'a>(mut self, text: impl Into<Option<&'a str>>) -> Self {
        self.description = Some(text.into().map(str::to_owned));
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a label, if the key has it.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyUpdate, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.label("env", "prod"))?;
    /// let key = engine.update(issued.key.id, KeyUpdate::new().remove_label("env"))?;
    /// assert!(key.labels.is_empty());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn remove_label(mut self, name: impl Into<String>) -> Self {
        self.labels.insert(name.into(), None);
        self
    }

    /// Replaces the permissions, by name.
    #[must_use]
    pub fn set_permissions<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.replace = Some((names, Permissions::NONE));
        self
    }

    /// Replaces the permissions, by mask.
    #[must_use]
    pub fn set_permission_mask(mut self, mask: Permissions) -> Self {
        self.replace = Some((Vec::new(), mask));
        self
    }

    /// Adds permissions, by name.
    #[must_use]
    pub fn add_permissions<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.add.extend(names.into_iter().map(Into::into));
        self
    }

    /// Removes permissions, by name; retired names too.
    #[must_use]
    pub fn remove_permissions<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.withdraw.extend(names.into_iter().map(Into::into));
        self
    }

    /// When the key stops being good. A maximum lifetime counts from its issue.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// The key is good until `instant`, exclusive.
    #[must_use]
    pub fn expires_at(self, instant: Timestamp) -> Self {
        self.expiry(Expiry::At(instant))
    }

    /// The key is good for `lifetime` from now.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.expiry(Expiry::After(lifetime))
    }

    /// Replaces the networks that the key may be used from; none allows all.
    #[must_use]
    pub fn networks(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.networks = Some(networks.into_iter().collect());
        self
    }

    /// Sets another plan by name, or no limits with `None`. It applies from the next
    /// request on, which is counted under that plan.
    #[must_use]
    pub fn plan<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.plan = Some(name.into().map(str::to_owned));
        self
    }

    /// Limits of its own in the place of its plan's, at most
    /// [`bounds::LIMITS_PER_PLAN_MAX`]. None of them is no limit. The rest of the plan
    /// holds.
    #[must_use]
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits = Some(Some(limits.into_iter().collect()));
        self
    }

    /// The limits of its plan again.
    ///
    /// ```
    /// # use gatekey::{Engine, KeyUpdate, Limit, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let own = NewKey::new("acme_live", "acme")?.limits([Limit::per_second(5)]);
    /// let issued = engine.issue(own)?;
    /// let key = engine.update(issued.key.id, KeyUpdate::new().limits_of_plan())?;
    /// assert_eq!(key.limits, None);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn limits_of_plan(mut self) -> Self {
        self.limits = Some(None);
        self
    }

    /// Sets another quota, full, for this key and all that share it; `None` removes the
    /// quota of this key. In a rotation, the quota belongs to the new key alone.
    #[must_use]
    pub fn quota(mut self, quota: impl Into<Option<Quota>>) -> Self {
        self.quota = Some(quota.into());
        self
    }
}

/// How to replace a key with a new one of the same owner.
///
/// The new key inherits owner, permissions, name, description, labels, networks,
/// plan, limits of its own, expiry and the rest of the quota, unless [`changing`](Rotation::changing) says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    pub(crate) grace: Duration,
    pub(crate) changes: KeyUpdate,
}

impl Rotation {
    /// The old key is revoked at once.
    #[must_use]
    pub fn at_once() -> Self {
        Self::default()
    }

    /// The old key is accepted for `grace` longer, and never past its expiry. A keyspace
    /// may bound it: see [`NewKeyspace::max_grace`](crate::NewKeyspace::max_grace).
    #[must_use]
    pub fn with_grace(grace: Duration) -> Self {
        Self {
            grace,
            changes: KeyUpdate::new(),
        }
    }

    /// Sets what the new key has differently from the old one.
    #[must_use]
    pub fn changing(mut self, changes: KeyUpdate) -> Self {
        self.changes = changes;
        self
    }

    /// Refuses a grace that a keyspace does not allow.
    pub(crate) fn check_grace(&self, keyspace: &Keyspace) -> Result<(), Error> {
        match keyspace.max_grace {
            Some(max) if self.grace > max => Err(Invalid::GraceTooLong {
                keyspace: keyspace.prefix,
                max,
                asked: self.grace,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Why a key is revoked, and a note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    pub(crate) reason: Reason,
    pub(crate) note: Option<String>,
}

impl Revocation {
    /// A revocation for a reason.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, note: None }
    }

    /// A note, at most [`bounds::NOTE_LEN_MAX`] bytes.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        bounds::check_text(
            "note",
            self.note.as_deref().unwrap_or(""),
            bounds::NOTE_LEN_MAX,
        )
    }
}

impl From<Reason> for Revocation {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

/// A key's state at an instant: the first of these that is true. Several may be true at
/// once; the fields of [`Key`] say which, and [`KeyFilter`](crate::KeyFilter) can
/// select by each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum KeyState {
    /// Revoked, or past the grace of its rotation. Final.
    Revoked,
    /// The owner, or a path above it, is suspended.
    Suspended,
    /// Disabled; it can be enabled again.
    Disabled,
    /// Its not-before is in the future.
    NotYetValid,
    /// Expired. Final.
    Expired,
    /// Replaced by a rotation, and still accepted until its grace ends.
    Retiring,
    /// Good.
    Active,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Disabled => "disabled",
            Self::NotYetValid => "not yet valid",
            Self::Expired => "expired",
            Self::Retiring => "retiring",
            Self::Active => "active",
        })
    }
}

/// A key, as of the instant of the answer. Never its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The prefix of its keyspace.
    pub keyspace: Prefix,
    /// Who holds it.
    pub owner: OwnerPath,
    /// Its state at the instant of the answer: the first that is true of it.
    pub state: KeyState,
    /// Whether it is disabled, whatever its state; a revoked key is not.
    pub disabled: bool,
    /// Whether it is suspended with its owner, whatever its state; a revoked key is not.
    pub suspended: bool,
    /// Whether it is past its expiry, whatever its state; `false` for a revoked key.
    pub expired: bool,
    /// What it may do.
    pub permissions: Permissions,
    /// A name for people.
    pub name: Option<String>,
    /// A description.
    pub description: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The networks it may be used from; none: all.
    pub networks: Vec<Network>,
    /// The plan that it follows; `None`: no limits, but for those of its own.
    pub plan: Option<String>,
    /// Limits of its own in the place of its plan's; `None`: the plan's. An empty list is
    /// no limit.
    pub limits: Option<Vec<Limit>>,
    /// How many requests it is good for, and how many are left; `None` for any number.
    pub quota: Option<QuotaStatus>,
    /// The first instant at which it is good; `None`: its issue.
    pub not_before: Option<Timestamp>,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When its grace ends, if it was rotated with a grace.
    pub retiring_until: Option<Timestamp>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// Who issued it.
    pub created_by: Option<String>,
    /// The key that it replaced, which may have been purged since.
    pub predecessor: Option<KeyId>,
    /// The key that replaced it.
    pub successor: Option<KeyId>,
    /// When, why and by whom it was revoked, if it was.
    pub revoked: Option<Revoked>,
    /// When it was last used, and how often, as of the last flush.
    pub usage: Usage,
}

/// A revocation that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Revoked {
    /// The key.
    pub key: KeyId,
    /// When the key was revoked: the instant of the call, or the end of a grace.
    pub at: Timestamp,
    /// The reason.
    pub reason: Reason,
    /// The note of the first call that revoked it.
    pub note: Option<String>,
    /// The actor.
    pub by: Option<String>,
}

/// The result of revoking the keys of an owner or of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RevokedMany {
    /// How many keys were in scope; all of them are revoked now.
    pub keys: u64,
    /// How many of them this call revoked.
    pub newly: u64,
    /// How many keys in scope have a damaged record. They grant nothing;
    /// [`Engine::check`](crate::Engine::check) names them.
    pub damaged: u64,
}

/// The result of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Purged {
    /// How many keys were removed.
    pub keys: u64,
    /// How many keys the purge could not read, since their records or index entries are
    /// damaged. They remain, and grant nothing:
    /// [`Engine::repair`](crate::Engine::repair) removes them.
    pub damaged: u64,
}

/// How a key was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Usage {
    /// When it was last granted, rounded down to the minute; `None` if never.
    pub last_used: Option<Timestamp>,
    /// How often it was granted.
    pub count: u64,
}

/// A key just issued, with its token.
#[derive(Debug)]
#[non_exhaustive]
pub struct Issued {
    /// The key.
    pub key: Key,
    /// Its token. This is the only time that it can be read.
    pub token: Token,
}

/// A key just rotated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rotated {
    /// The new key.
    pub key: Key,
    /// The token of the new key.
    pub token: Token,
    /// The old key: retiring, or revoked where there was no grace.
    pub old: Key,
}

/// The cold record: the part of a key that a verification does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColdRecord {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: Option<String>,
    pub(crate) predecessor: Option<KeyId>,
    pub(crate) successor: Option<KeyId>,
    /// The number of its quota.
    pub(crate) quota: Option<u64>,
    /// Limits of its own in the place of its plan's.
    pub(crate) limits: Option<Vec<Limit>>,
}
