//! What a request asks of a token.

use std::net::IpAddr;

use crate::model::id::Prefix;
use crate::model::permissions::Permissions;

/// What a caller of [`Engine::verify_with`](crate::Engine::verify_with) asks of
/// a token. Cheap to make and to copy; it can be a constant.
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
    /// That this request's use of its key is counted already.
    pub(crate) is_counted: bool,
}

impl Default for Requirements<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Requirements<'a> {
    /// Nothing but a good token.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keyspace: None,
            permissions: Permissions::NONE,
            permission_names: &[],
            source: None,
            cost: 1,
            is_counted: false,
        }
    }

    /// Only tokens of this keyspace; those of others read as unknown.
    #[must_use]
    pub const fn keyspace(mut self, prefix: Prefix) -> Self {
        self.keyspace = Some(prefix);
        self
    }

    /// All of these permissions, by mask. A bit means something else in every
    /// keyspace: ask for the [`keyspace`](Self::keyspace) too, or by name.
    #[must_use]
    pub const fn permission_mask(mut self, mask: Permissions) -> Self {
        self.permissions = mask;
        self
    }

    /// All of these permissions, by name, in the key's keyspace. A name that
    /// the keyspace does not have, or has retired, is always missing: misspelt,
    /// it denies every key. [`Keyspace::mask`](crate::Keyspace::mask) tells, at start.
    #[must_use]
    pub const fn permissions(mut self, names: &'a [&'a str]) -> Self {
        self.permission_names = names;
        self
    }

    /// The address that the request comes from. Without it, a key that is
    /// bound to networks is refused.
    #[must_use]
    pub const fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// What the request is charged to the limits of the key's plan and to its
    /// quota; 1 if not said. 0 charges nothing and passes every limit.
    #[must_use]
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }
}
