//! Where a key stands in its limits, for an answer that is told to nobody but its
//! holder.

use super::Core;
use crate::model::id::KeyId;
use crate::model::verdict::Standing;

impl Core {
    /// Where a key stands in the limits of its plan, with nothing charged; `None` where
    /// it has no plan, or that cannot be said.
    pub(crate) fn standing(&self, key: KeyId) -> Option<Standing> {
        let snapshot = self.snapshot().ok()?;
        let standing = snapshot.hot(key, |found| {
            let (view, _) = found?;
            let entry = self.registry.get(view.keyspace())?;
            let charged = self.charge_plan(&view, entry, 0, self.now()).ok()?;
            Some(charged.ok()??.standing)
        });
        standing.ok()?
    }
}
