//! Verdicts: a grant or a denial.

mod standing;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
#[cfg(feature = "http")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::charge::Charge;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, Prefix};
use crate::model::limit::{Level, LimitStatus};
use crate::model::owner::OwnerPath;
use crate::model::permissions::Permissions;
use crate::model::reason::Reason;
pub(crate) use standing::{Few, Standing, Stands};

/// The answer of a verification that ran well. A failure of the store is an
/// [`Error`](crate::Error), never a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[must_use = "a verdict that is not looked at protects nothing"]
pub enum Verdict {
    /// The token is good and fulfils the requirements.
    Granted(Grant),
    /// The token is denied, with the reason.
    Denied(Denial),
}

impl Verdict {
    /// Whether the token was granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }

    /// Converts into a `Result`, for `?`.
    ///
    /// # Errors
    /// The denial.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// fn who(engine: &Engine, token: &str) -> Result<String, Box<dyn std::error::Error>> {
    ///     let grant = engine.verify(token)?.into_result()?;
    ///     Ok(grant.owner().to_owned())
    /// }
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// assert_eq!(who(&engine, issued.token.expose()).unwrap(), "acme");
    /// assert_eq!(who(&engine, "nonsense").unwrap_err().to_string(), "the token is malformed");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn into_result(self) -> Result<Grant, Denial> {
        match self {
            Self::Granted(grant) => Ok(grant),
            Self::Denied(denial) => Err(denial),
        }
    }

    /// The grant, if there is one.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Denied(_) => None,
        }
    }

    /// The denial, if there is one.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Granted(_) => None,
            Self::Denied(denial) => Some(denial),
        }
    }
}

/// Proof that a token was good at the instant of its verification: only the
/// engine can make one. It holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    pub(crate) key: KeyId,
    pub(crate) keyspace: Prefix,
    pub(crate) owner: InlinePath,
    pub(crate) permissions: Permissions,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) retiring_until: Option<Timestamp>,
    pub(crate) limits: Stands,
    /// All that it was charged to, where the request asked for it.
    #[cfg(feature = "http")]
    pub(crate) allowances: Option<Arc<Allowances>>,
    pub(crate) charge: Option<Charge>,
    pub(crate) age: Age,
}

/// How old the knowledge of a server of a fleet is, in milliseconds and rounded up; nothing
/// where the engine is alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Age(Option<NonZeroU32>);

impl Age {
    pub(crate) fn of(age: Duration) -> Self {
        let ms = age.as_nanos().div_ceil(1_000_000).max(1);
        Self(NonZeroU32::new(u32::try_from(ms).unwrap_or(u32::MAX)))
    }

    fn duration(self) -> Option<Duration> {
        self.0.map(|ms| Duration::from_millis(ms.get().into()))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Age {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::model::serialized::maybe_duration(&self.duration(), serializer)
    }
}

impl Grant {
    /// The id of the key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key
    }

    /// The prefix of the key's keyspace.
    #[must_use]
    pub fn keyspace(&self) -> Prefix {
        self.keyspace
    }

    /// The owner's path as text.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_str()
    }

    /// The key's permissions, in the bits of its keyspace, without retired ones.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// When the key expires; `None` for never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// When the key's grace ends, if the key was rotated. A server can tell its caller
    /// to move to the new key.
    #[must_use]
    pub fn retiring_until(&self) -> Option<Timestamp> {
        self.retiring_until
    }

    /// What the request was charged, where its cost is [settled
    /// later](crate::Requirements::settled_later); else `None`.
    #[must_use]
    pub fn charge(&self) -> Option<&Charge> {
        self.charge.as_ref()
    }

    /// How old the knowledge was by which a server of a [fleet](crate::fleet) granted, in whole
    /// milliseconds, rounded up; `None` where the engine is in none. What was revoked on another
    /// server since may have been granted. Under [`Freshness::ServeStale`] a handler can refuse
    /// by it what is dear, and go on with what is cheap.
    ///
    /// [`Freshness::ServeStale`]: crate::fleet::Freshness::ServeStale
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use gatekey::fleet::{Freshness, MemoryLog, Settings};
    /// # use gatekey::{NewKey, NewKeyspace, Options, Pepper};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("keys.redb");
    /// # let options = || Ok::<_, gatekey::Error>(Options::new()
    /// #     .pepper(Pepper::new(1, b"32 bytes from a secret manager..")?));
    /// # options()?.create(&path)?.close()?;
    /// let settings = Settings::new(Arc::new(MemoryLog::new()), "eu-1")
    ///     .freshness(Freshness::ServeStale(Duration::from_secs(3_600)));
    /// # let engine = options()?.fleet(settings).found_fleet(&path)?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # let issued = engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let verdict = engine.verify(issued.token.expose())?;
    /// let age = verdict.grant().and_then(|grant| grant.knowledge_age());
    /// let may_pay = age.is_none_or(|age| age < Duration::from_secs(60));
    /// assert!(age.is_some() && may_pay);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn knowledge_age(&self) -> Option<Duration> {
        self.age.duration()
    }

    /// Of all limits that the request was charged to, the key's and its owners', the one with
    /// the least left after it; `None` if there is none.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// use gatekey::Limit;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let limits = [Limit::per_hour(1_000), Limit::per_second(50)];
    /// let issued = engine.issue(NewKey::new("acme_live", "acme")?.limits(limits))?;
    /// let verdict = engine.verify(issued.token.expose())?;
    /// let left = verdict.grant().and_then(|grant| grant.tightest_limit());
    /// assert_eq!(left.map(|left| left.remaining()), Some(49));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn tightest_limit(&self) -> Option<LimitStatus> {
        self.limits.told().map(|limits| limits.tightest)
    }

    /// Of all limits that the request was charged to, the one with the longest window. It usually
    /// names a subscription: "1,000 an hour", although 50 a second apply too.
    #[must_use]
    pub fn longest_limit(&self) -> Option<LimitStatus> {
        self.limits.told().map(|limits| limits.longest)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Grant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut grant = serializer.serialize_struct("Grant", 9)?;
        grant.serialize_field("key_id", &self.key)?;
        grant.serialize_field("keyspace", &self.keyspace)?;
        grant.serialize_field("owner", self.owner())?;
        grant.serialize_field("permissions", &self.permissions)?;
        grant.serialize_field("expires_at", &self.expires_at)?;
        grant.serialize_field("retiring_until", &self.retiring_until)?;
        grant.serialize_field("tightest_limit", &self.tightest_limit())?;
        grant.serialize_field("longest_limit", &self.longest_limit())?;
        grant.serialize_field("knowledge_age", &self.age)?;
        grant.end()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("key_id", &self.key)
            .field("keyspace", &self.keyspace)
            .field("owner", &self.owner())
            .field("permissions", &self.permissions)
            .field("expires_at", &self.expires_at)
            .field("retiring_until", &self.retiring_until)
            .field("tightest_limit", &self.tightest_limit())
            .finish()
    }
}

/// The longest owner's path that a grant holds without an allocation, in bytes.
pub(crate) const SHORT_OWNER_LEN: usize = 48;

/// An owner's path, without an allocation unless it is long.
#[derive(Clone)]
pub(crate) enum InlinePath {
    Short(ShortPath),
    Long(Box<[u8]>),
}

/// What is behind the first `len` bytes is of no account. It is aligned, so that it is
/// moved in whole words: reading back half of a word just written costs more than all
/// the rest of a grant.
#[derive(Clone)]
#[repr(align(8))]
pub(crate) struct ShortPath {
    bytes: [u8; SHORT_OWNER_LEN],
    len: u8,
}

impl InlinePath {
    /// What is behind the first `len` of `bytes` is of no account.
    #[inline(always)]
    pub(crate) fn short(bytes: &[u8; SHORT_OWNER_LEN], len: u8) -> Self {
        Self::Short(ShortPath { bytes: *bytes, len })
    }

    pub(crate) fn new(path: &[u8]) -> Self {
        let mut bytes = [0; SHORT_OWNER_LEN];
        match (bytes.get_mut(..path.len()), u8::try_from(path.len())) {
            (Some(head), Ok(len)) => {
                head.copy_from_slice(path);
                Self::Short(ShortPath { bytes, len })
            }
            _ => Self::Long(path.into()),
        }
    }

    fn as_str(&self) -> &str {
        let path = match self {
            Self::Short(path) => path.bytes.get(..usize::from(path.len)).unwrap_or(&[]),
            Self::Long(path) => path,
        };
        // It was ASCII when it was issued, and the record's tag was right.
        std::str::from_utf8(path).unwrap_or("")
    }
}

impl PartialEq for InlinePath {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for InlinePath {}

/// Why a token was not granted: the first of these that is true, in this order.
///
/// The engine returns the variants from [`Revoked`](Denial::Revoked) on only for a
/// right secret, so they carry the key's id. The server decides how much of it its
/// caller learns; usually unknown, revoked, disabled and suspended keys get the same
/// answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "code", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Denial {
    /// Too many attempts from the request's address have failed, and the engine did not
    /// look at this token. Only with [`Options::failed_attempts`].
    ///
    /// [`Options::failed_attempts`]: crate::Options::failed_attempts
    TooManyAttempts {
        /// How long to wait.
        #[cfg_attr(feature = "serde", serde(with = "crate::model::serialized::duration"))]
        retry_after: Duration,
    },
    /// The text does not have the form of a token, or its checksum is wrong.
    Malformed,
    /// No key of this store, or of the required keyspace, has this token: the id is
    /// unknown, or the secret is wrong. The denial does not say which.
    Unknown,
    /// The key was revoked, or the grace of its rotation is over.
    Revoked {
        /// The key.
        key: KeyId,
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// The key's owner, or a path above it, is suspended.
    Suspended {
        /// The key.
        key: KeyId,
        /// The suspended path; the shortest where there are several.
        owner: OwnerPath,
    },
    /// The key is disabled.
    Disabled {
        /// The key.
        key: KeyId,
    },
    /// The key is not good yet.
    NotYetValid {
        /// The key.
        key: KeyId,
        /// When the key becomes good.
        not_before: Timestamp,
    },
    /// The key has expired.
    Expired {
        /// The key.
        key: KeyId,
        /// When.
        expired_at: Timestamp,
    },
    /// The key may not be used from this address.
    NetworkNotAllowed {
        /// The key.
        key: KeyId,
        /// The address; `None` if the request had none, and the key is bound to
        /// networks.
        source: Option<IpAddr>,
    },
    /// The key lacks a permission that was required.
    PermissionMissing {
        /// The key.
        key: KeyId,
        /// The bits it lacks.
        missing: Permissions,
        /// The names it lacks.
        names: Vec<String>,
        /// How many of the names, the last ones, its keyspace does not have or has retired. No
        /// key holds them: the fault is in what was required, and not the caller's.
        undefined: usize,
    },
    /// A limit of the key's plan is reached.
    RateLimited {
        /// The key.
        key: KeyId,
        /// The limit; if several are reached, the one with the longest wait.
        status: LimitStatus,
        /// How long to wait until the request would be granted if no other came: also
        /// for a quota that does not cover it either. `None` if no waiting helps: it
        /// costs more than a limit or quota ever allows, or than is left of a quota that
        /// is never refilled.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::model::serialized::maybe_duration")
        )]
        retry_after: Option<Duration>,
    },
    /// A quota that the request is charged to is used up, or has less left than the
    /// request costs.
    QuotaExhausted {
        /// The key.
        key: KeyId,
        /// Whose quota it is; if several do not cover the request, of the one that is
        /// refilled last.
        level: Level,
        /// When it is refilled; `None`: never, or the request costs more than the whole
        /// quota.
        refills_at: Option<Timestamp>,
    },
}

impl Denial {
    /// The key, if the secret was right.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::TooManyAttempts { .. } | Self::Malformed | Self::Unknown => None,
            Self::Revoked { key, .. }
            | Self::Suspended { key, .. }
            | Self::Disabled { key }
            | Self::NotYetValid { key, .. }
            | Self::Expired { key, .. }
            | Self::NetworkNotAllowed { key, .. }
            | Self::PermissionMissing { key, .. }
            | Self::RateLimited { key, .. }
            | Self::QuotaExhausted { key, .. } => Some(*key),
        }
    }

    /// A stable name of the variant, for logs and counters.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Revoked { .. } => "revoked",
            Self::Suspended { .. } => "suspended",
            Self::Disabled { .. } => "disabled",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::NetworkNotAllowed { .. } => "network_not_allowed",
            Self::PermissionMissing { .. } => "permission_missing",
            Self::RateLimited { .. } => "rate_limited",
            Self::QuotaExhausted { .. } => "quota_exhausted",
            Self::TooManyAttempts { .. } => "too_many_attempts",
        }
    }
}

/// Whose limit or quota it is: "its", or that of the owner's path of so many segments.
fn whose(level: Level) -> String {
    match level {
        Level::Key => "its".to_owned(),
        Level::Owner(depth) => format!("its owner's (level {depth})"),
    }
}

/// For the server's own log: precise, and without a secret.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the token is malformed"),
            Self::Unknown => f.write_str("the token is unknown"),
            Self::Revoked { key, at, reason } => {
                write!(f, "key {key} was revoked at {at} ({reason})")
            }
            Self::Suspended { key, owner } => {
                write!(f, "key {key} is suspended with {owner}")
            }
            Self::Disabled { key } => write!(f, "key {key} is disabled"),
            Self::NotYetValid { key, not_before } => {
                write!(f, "key {key} is not valid before {not_before}")
            }
            Self::Expired { key, expired_at } => write!(f, "key {key} expired at {expired_at}"),
            Self::NetworkNotAllowed {
                key,
                source: Some(source),
            } => write!(f, "key {key} may not be used from {source}"),
            Self::NetworkNotAllowed { key, source: None } => {
                write!(
                    f,
                    "key {key} is bound to networks, and the source is unknown"
                )
            }
            Self::PermissionMissing {
                key,
                missing,
                names,
                undefined,
            } => {
                let s = if names.len() == 1 { "" } else { "s" };
                write!(f, "key {key} lacks the permission{s} ")?;
                if names.is_empty() {
                    write!(f, "{missing}")
                } else {
                    f.write_str(&names.join(", "))?;
                    let (_, undefined) = names.split_at(names.len().saturating_sub(*undefined));
                    match undefined {
                        [] => Ok(()),
                        _ => write!(f, "; its keyspace does not have {}", undefined.join(", ")),
                    }
                }
            }
            Self::RateLimited {
                key,
                status,
                retry_after: None,
            } => write!(
                f,
                "key {key} is over {} limit of {}, and no waiting helps",
                whose(status.level()),
                status.limit()
            ),
            Self::RateLimited {
                key,
                status,
                retry_after: Some(wait),
            } => write!(
                f,
                "key {key} is over {} limit of {}; it waits for {wait:?}",
                whose(status.level()),
                status.limit()
            ),
            Self::QuotaExhausted {
                key,
                level,
                refills_at: Some(at),
            } => write!(
                f,
                "key {key} has used up {} quota until {at}",
                whose(*level)
            ),
            Self::QuotaExhausted { key, level, .. } => {
                write!(f, "key {key} has used up {} quota", whose(*level))
            }
            Self::TooManyAttempts { retry_after } => write!(
                f,
                "too many attempts from this address have failed; it waits for {retry_after:?}"
            ),
        }
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod texts;
