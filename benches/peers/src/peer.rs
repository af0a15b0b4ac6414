//! What a peer is to the run: a store that is loaded once, and sessions on it.

use std::path::Path;

use anyhow::Result;

use crate::services::Services;
use crate::world::{Tokens, World};

/// What stands in the table beside a peer's figures.
pub(crate) struct About {
    pub(crate) name: &'static str,
    /// How a token is hashed and looked up, and with which settings.
    pub(crate) how: &'static str,
    /// What it may hold in memory.
    pub(crate) memory: &'static str,
    /// Whether what is secret is compared in constant time.
    pub(crate) constant_time: &'static str,
    /// What `Ok` from a revoke means.
    pub(crate) durable: &'static str,
    /// What gatekey gives and this does not.
    pub(crate) lacks: &'static str,
}

/// Where a peer may keep its files, and the servers that were started.
pub(crate) struct Place<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) services: &'a Services,
}

/// A store of the world's keys.
pub(crate) trait Peer: Sync {
    /// A store with all keys of the world in it.
    fn load(place: &Place<'_>, world: &World) -> Result<Self>
    where
        Self: Sized;

    fn about(&self) -> About;

    /// What one thread of the server works with: a connection, say.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// A session as another process would have it that serves the same store,
    /// or `None` where only one process may have the store open.
    fn elsewhere(&self) -> Result<Option<Box<dyn Session + '_>>> {
        Ok(None)
    }

    /// The tokens to present: the world's, where the peer can take them.
    fn tokens<'a>(&'a self, world: &'a World) -> &'a Tokens {
        &world.tokens
    }
}

/// One thread's access to a peer.
pub(crate) trait Session: Send {
    /// Hashes the token, looks the key up, compares, and checks that it is not
    /// revoked and not expired.
    fn verify(&mut self, token: &str) -> Result<bool>;

    /// Revokes the key of a token, durably.
    fn revoke(&mut self, token: &str) -> Result<()>;
}
