//! What a request requires of a token.

use std::net::IpAddr;
#[cfg(feature = "http")]
use std::sync::OnceLock;

#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::id::Prefix;
use crate::model::permissions::Permissions;

/// What a caller of [`Engine::verify_with`](crate::Engine::verify_with) requires of a
/// token. It is cheap to build and to copy, and can be a constant.
///
/// ```
/// use gatekey::Requirements;
///
/// const WRITE: Requirements = Requirements::new().permissions(&["write"]);
/// let here = WRITE.source("192.0.2.7".parse().unwrap());
/// # let _ = here;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Requirements<'a> {
    pub(crate) keyspace: Option<Prefix>,
    pub(crate) permissions: Permissions,
    pub(crate) permission_names: &'a [&'a str],
    pub(crate) source: Option<IpAddr>,
    pub(crate) cost: u32,
    pub(crate) is_settled_later: bool,
    /// Says that this request's use of its key is counted already.
    pub(crate) is_counted: bool,
    /// Where to tell what the request was charged to.
    #[cfg(feature = "http")]
    pub(crate) told: Option<&'a Told>,
}

/// What a request was charged to, or what refused it, for an answer to the key's holder.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(crate) struct Told {
    /// Of a grant too, and not only of a denial.
    pub(crate) of_grants: bool,
    /// Empty where the key's levels have no limit and no quota.
    pub(crate) found: OnceLock<Allowances>,
}

impl Default for Requirements<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Requirements<'a> {
    /// No requirement beyond a good token.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keyspace: None,
            permissions: Permissions::NONE,
            permission_names: &[],
            source: None,
            cost: 1,
            is_settled_later: false,
            is_counted: false,
            #[cfg(feature = "http")]
            told: None,
        }
    }

    /// Requires a token of this keyspace; tokens of others are denied as unknown.
    #[must_use]
    pub const fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// Requires all of these permissions, by mask. A bit has a different meaning in
    /// each keyspace: set the [`keyspace`](Self::keyspace) too, or use names.
    #[must_use]
    pub const fn permission_mask(mut self, mask: Permissions) -> Self {
        self.permissions = mask;
        self
    }

    /// Requires all of these permissions, by name, in the key's keyspace. No key has a
    /// name that the keyspace does not have or has retired: a misspelt name denies
    /// every key. [`Keyspace::mask`](crate::Keyspace::mask) finds such a name when the
    /// server starts.
    #[must_use]
    pub const fn permissions(mut self, names: &'a [&'a str]) -> Self {
        self.permission_names = names;
        self
    }

    /// Sets the address that the request comes from. Without it, a key that is bound to
    /// networks is denied.
    #[must_use]
    pub const fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// Sets how much the request costs, in the limits of the key's plan and in its
    /// quota; 1 by default. A cost of 0 charges nothing and passes every limit.
    #[must_use]
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// Says that the cost is an estimate, since it is known only once the request is
    /// answered: the grant then has a [`charge`](crate::Grant::charge), which
    /// [`Engine::settle`](crate::Engine::settle) takes. It costs the grant an allocation.
    #[must_use]
    pub const fn settled_later(mut self) -> Self {
        self.is_settled_later = true;
        self
    }

    /// Whether what it is charged is told, or noted for it to be settled.
    pub(crate) fn asks_for_more(&self) -> bool {
        #[cfg(feature = "http")]
        if self.told.is_some_and(|told| told.of_grants) {
            return true;
        }
        self.is_settled_later
    }
}
