//! What a server tells of its fleet.

use crate::engine::fleet::everywhere::is_over;
use crate::engine::fleet::state::{Fleet, steady};
use crate::engine::handle::Engine;
use crate::model::clock::Clock;
use crate::model::error::{Error, Result};
use crate::model::fleet::{Server, Status};
use crate::model::log::Node;
use crate::sync::atomic::Ordering;
use crate::sync::lock;

impl Fleet {
    pub(in crate::engine) fn status(&self, clock: &dyn Clock) -> Status {
        let is_fresh = self.require_fresh(clock).is_ok();
        let known = lock(&self.known);
        let count = |count: &crate::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Status {
            node: self.node.clone(),
            position: known.place.position,
            newest: known.newest.max(known.place.position),
            age: known.fresh_at.map(|at| steady(clock).saturating_sub(at)),
            lease: self.freshness.lease(),
            is_fresh,
            servers: known.servers,
            applied: count(&self.applied),
            appended: count(&self.appended),
            overtaken: count(&self.overtaken),
            unknown: count(&self.unknown),
            failures: count(&self.failures),
            error: known.why.clone(),
        }
    }
}

impl From<Node> for Server {
    fn from(node: Node) -> Self {
        let is_gone = is_over(&node);
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
        let fleet = self.core.fleet.as_deref()?;
        Some(fleet.status(&*self.core.clock))
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
