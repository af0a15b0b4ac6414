//! Waiting until every server has applied what takes access away.

use std::time::Duration;

use crate::engine::fleet::state::{Fleet, Taken, steady};
use crate::engine::shared::Core;
use crate::model::log::{Node, with_margin};
use crate::sync::lock;

/// How long an answer about the servers is used by others who wait.
const ASKED_MIN: Duration = Duration::from_millis(2);

impl Core {
    /// Waits until every other server that beats has applied all that takes access away, or can
    /// grant nothing any more. Where the log does not answer, or a server does not apply it,
    /// waits until the longest lease that is known is over since the log had it.
    pub(in crate::engine) fn wait_everywhere(&self, fleet: &Fleet) {
        if !fleet.waits_everywhere {
            return;
        }
        let Taken { position, at } = fleet.taken(&*self.clock);
        let mut longest = fleet.freshness.lease();
        let mut rest = ASKED_MIN;
        loop {
            let nodes = self.nodes(fleet);
            if let Some(nodes) = &nodes {
                longest = nodes
                    .iter()
                    .map(|it| it.beat.lease)
                    .max()
                    .unwrap_or(longest)
                    .max(longest);
                let others = nodes.iter().filter(|node| node.beat.node != fleet.node);
                if others
                    .into_iter()
                    .all(|node| knows(node, position) || node.is_over())
                {
                    return;
                }
            }
            if steady(&*self.clock).saturating_sub(at) > with_margin(longest) {
                return;
            }
            std::thread::sleep(rest);
            rest = (rest * 2).min(Duration::from_millis(20));
        }
    }

    /// The servers, as of a moment after the call. Callers that wait together ask once.
    fn nodes(&self, fleet: &Fleet) -> Option<Vec<Node>> {
        let asked = steady(&*self.clock);
        let mut nodes = lock(&fleet.nodes);
        if let Some((at, nodes)) = &*nodes
            && *at >= asked
        {
            return Some(nodes.clone());
        }
        let at = steady(&*self.clock);
        let found = fleet.log.nodes().ok()?;
        *nodes = Some((at, found.clone()));
        Some(found)
    }
}

fn knows(node: &Node, position: u64) -> bool {
    node.beat.position >= position
}
