//! Keys: what a caller asks for, and what the store returns. Never the digest.

mod change;
mod new;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::error::{Error, Invalid};
use crate::model::id::{KeyId, Prefix};
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::model::network::Network;
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::quota::QuotaStatus;
use crate::model::reason::Reason;
use crate::model::secret::Token;

pub use change::{KeyUpdate, Revocation, Rotation};
pub use new::NewKey;
pub(crate) use new::{validate_descriptive, validate_networks, validate_own_limits};

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
pub(crate) fn validate_life(
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
///
/// Where there are more than 256, the call counts none: `keys` and `newly` are one more than
/// [`AuditEvent::KEYS_COUNTED_MAX`](crate::AuditEvent::KEYS_COUNTED_MAX), which stands for any
/// number above it, also where some of them or all were revoked before, and `damaged` is 0.
/// [`AuditEvent::keys_counted`](crate::AuditEvent::keys_counted) tells these apart.
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
    /// The id that the system has for it that issued its token.
    pub(crate) foreign_id: Option<String>,
}
