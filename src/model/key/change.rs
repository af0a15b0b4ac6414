//! What may be done with a key: a change of its fields, a rotation, a revocation.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::bounds;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::key::Expiry;
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::network::Network;
use crate::model::permissions::Permissions;
use crate::model::quota::Quota;
use crate::model::reason::Reason;

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
    pub(crate) fn validate_grace(&self, keyspace: &Keyspace) -> Result<(), Error> {
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

    pub(crate) fn validate(&self) -> Result<(), Error> {
        bounds::validate_text(
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
