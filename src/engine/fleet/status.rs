//! What a server tells of its fleet.

use crate::engine::fleet::reads::Reads;
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

/// The servers as a log has them, with what the one that answers knows better: how far it
/// has come itself, and the newest position.
fn servers(nodes: Vec<Node>, own: &Status) -> Vec<Server> {
    let position = |node: &Node| match node.beat.node == own.node {
        true => own.position.max(node.beat.position),
        false => node.beat.position,
    };
    let newest = nodes.iter().map(position).max();
    let newest = newest.unwrap_or(0).max(own.newest);
    let server = |node: Node| {
        let position = position(&node);
        Server {
            position,
            behind: newest.saturating_sub(position),
            is_gone: node.is_over(),
            age: node.age,
            lease: node.beat.lease,
            peppers: Reads::decode(&node.beat.reads).map(|reads| reads.ids()),
            node: node.beat.node,
        }
    };
    nodes.into_iter().map(server).collect()
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

    /// Asks the log for the servers of the fleet; empty where the engine is alone. Of this
    /// server itself, the position is that of now.
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
        // The log first: what this server knows is then as new as what they said.
        let nodes = fleet.log.nodes().map_err(Error::Log)?;
        Ok(servers(nodes, &fleet.status(&*self.core.clock)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::log::Beat;

    fn node(name: &str, position: u64) -> Node {
        Node {
            beat: Beat {
                node: name.to_owned(),
                position,
                lease: Duration::from_secs(3),
                reads: Vec::new(),
            },
            age: Duration::from_secs(1),
        }
    }

    fn own(position: u64, newest: u64) -> Status {
        Status {
            node: "a".to_owned(),
            position,
            newest,
            age: None,
            lease: Duration::from_secs(3),
            is_fresh: true,
            servers: 2,
            applied: 0,
            appended: 0,
            overtaken: 0,
            unknown: 0,
            failures: 0,
            error: None,
        }
    }

    /// Its last heartbeat said less, and the log has no more of it.
    #[test]
    fn the_server_that_answers_is_told_of_as_it_is_now() {
        for (own, wanted) in [
            (own(7, 7), [(7, 0), (5, 2)]),
            (own(7, 9), [(7, 2), (5, 4)]),
            (own(2, 2), [(3, 2), (5, 0)]),
        ] {
            let told = servers(vec![node("a", 3), node("b", 5)], &own);
            let told: Vec<(u64, u64)> = told.iter().map(|of| (of.position, of.behind)).collect();
            assert_eq!(told, wanted);
        }
    }
}
