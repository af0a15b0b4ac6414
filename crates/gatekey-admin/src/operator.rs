//! Who asks, and what they may do.

use std::fmt;
use std::sync::Arc;

use gatekey::{Engine, Error, NewKeyspace, Prefix};

/// What an operator may do. The text of a right is the name of a permission of the
/// keyspace of admin keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Right {
    /// See keyspaces, owners, keys, usage and the audit trail, and verify tokens.
    Read,
    /// Issue and rotate keys, change them, enable them, resume owners.
    Issue,
    /// Take access away: disable and revoke keys, suspend owners.
    Revoke,
    /// Care for the store, change keyspaces and settings of owners, and touch admin keys.
    Administer,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Issue, Self::Revoke, Self::Administer];

    /// The name of the permission.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Issue => "issue",
            Self::Revoke => "revoke",
            Self::Administer => "administer",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Issue => 2,
            Self::Revoke => 4,
            Self::Administer => 8,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An operator: the name under which the audit trail has their changes, and their rights.
///
/// A host that authenticates its operators itself makes one for each request: see
/// [`Admin::router`](crate::Admin::router).
///
/// ```
/// use gatekey_admin::{Operator, Right};
///
/// let support = Operator::new("alice@example.com", [Right::Read, Right::Revoke]);
/// assert!(support.may(Right::Revoke) && !support.may(Right::Issue));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    actor: Arc<str>,
    rights: u8,
}

impl Operator {
    /// An operator with these rights. The name is checked when a request is served: see
    /// [`Engine::acting_as`].
    #[must_use]
    pub fn new(actor: impl Into<Arc<str>>, rights: impl IntoIterator<Item = Right>) -> Self {
        let rights = rights.into_iter().fold(0, |all, right| all | right.bit());
        Self {
            actor: actor.into(),
            rights,
        }
    }

    /// An operator with every right.
    #[must_use]
    pub fn with_all_rights(actor: impl Into<Arc<str>>) -> Self {
        Self::new(actor, Right::ALL)
    }

    /// The name.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether the operator has a right.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.rights & right.bit() != 0
    }
}

/// Creates the keyspace of admin keys, with the four permissions that are rights and no
/// others, or finds that it is one.
///
/// # Errors
/// [`Conflict::KeyspaceDiffers`](gatekey::Conflict::KeyspaceDiffers) where there is a
/// keyspace of another kind, so that keys of customers never become admin keys.
///
/// ```
/// use gatekey::{Engine, NewKey};
///
/// let engine = Engine::open_in_memory()?;
/// let admin = gatekey_admin::ensure_admin_keyspace(&engine, "acme_admin".parse()?)?;
/// let reader = NewKey::new(admin, "ops/dashboard")?.permissions(["read"]);
/// let issued = engine.issue(reader)?;
/// assert_eq!(issued.key.permissions.bits(), 1);
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
pub fn ensure_admin_keyspace(engine: &Engine, prefix: Prefix) -> Result<Prefix, Error> {
    let new = NewKeyspace::new(prefix)?
        .description("Keys of operators, for the admin API")
        .permissions(Right::ALL.map(Right::name));
    if let Some(found) = engine.find_keyspace(prefix)? {
        let mut names: Vec<&str> = found
            .permissions
            .iter()
            .map(|of| of.name.as_str())
            .collect();
        names.sort_unstable();
        let mut rights = Right::ALL.map(Right::name);
        rights.sort_unstable();
        let is_admin = names == rights && found.permissions.iter().all(|of| !of.retired);
        // Lifetimes, plans and the like are the operators' to change.
        return match is_admin {
            true => Ok(prefix),
            false => engine.ensure_keyspace(new).map(|found| found.prefix),
        };
    }
    engine.ensure_keyspace(new).map(|found| found.prefix)
}
