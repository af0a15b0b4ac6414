//! What a server knows of its fleet.

use std::time::Duration;

use crate::engine::fleet::everywhere::with_margin;
use crate::engine::fleet::state::steady;
use crate::engine::handle::Engine;
use crate::model::error::{Error, Result};
use crate::model::log::{LogError, Node};
use crate::sync::atomic::Ordering;
use crate::sync::lock;

/// What a server knows of its fleet, from [`Engine::fleet_status`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The name of this server.
    pub node: String,
    /// The position of the entry that it has applied last.
    pub position: u64,
    /// How old its knowledge is: the time since before the last heartbeat that found nothing
    /// which it had not applied. `None` before the first.
    pub age: Option<Duration>,
    /// Whether it verifies tokens.
    pub is_fresh: bool,
    /// How many entries it has applied since it was opened, its own included.
    pub applied: u64,
    /// How many entries it has appended since.
    pub appended: u64,
    /// The last error, until a heartbeat succeeds.
    pub error: Option<LogError>,
}

/// A server of a fleet, from [`Engine::fleet_servers`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Its name.
    pub node: String,
    /// The position that it had applied at its last heartbeat.
    pub position: u64,
    /// How long ago that was, by the log's clock.
    pub age: Duration,
    /// For how long after a heartbeat it grants.
    pub lease: Duration,
    /// Whether that time is over, so that it grants nothing.
    pub is_gone: bool,
}

impl From<Node> for Server {
    fn from(node: Node) -> Self {
        let is_gone = node.age > with_margin(node.beat.lease);
        Self {
            node: node.beat.node,
            position: node.beat.position,
            age: node.age,
            lease: node.beat.lease,
            is_gone,
        }
    }
}

/// # A fleet
impl Engine {
    /// What this server knows of its fleet, without asking the log; `None` where the
    /// engine is alone.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// let engine = Engine::open_in_memory()?;
    /// assert!(engine.fleet_status().is_none()); // see gatekey::fleet for one that is not
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn fleet_status(&self) -> Option<Status> {
        let core = &self.core;
        let fleet = core.fleet.as_deref()?;
        let is_fresh = fleet.require_fresh(&*core.clock).is_ok();
        let known = lock(&fleet.known);
        let now = steady(&*core.clock);
        Some(Status {
            node: fleet.node.clone(),
            position: known.place.position,
            age: known.fresh_at.map(|at| now.saturating_sub(at)),
            is_fresh,
            applied: fleet.applied.load(Ordering::Relaxed),
            appended: fleet.appended.load(Ordering::Relaxed),
            error: known.why.clone(),
        })
    }

    /// Asks the log for the servers of the fleet; empty where the engine is alone.
    ///
    /// # Errors
    /// [`Error::Log`] where the log does not answer.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// let engine = Engine::open_in_memory()?;
    /// for server in engine.fleet_servers()? {
    ///     println!("{} has applied {}, {:?} ago", server.node, server.position, server.age);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn fleet_servers(&self) -> Result<Vec<Server>> {
        let Some(fleet) = self.core.fleet.as_deref() else {
            return Ok(Vec::new());
        };
        let nodes = fleet.log.nodes().map_err(Error::Log)?;
        Ok(nodes.into_iter().map(Server::from).collect())
    }
}
