//! Where a key stands in its limits, for an answer that is told to nobody but its
//! holder.

use crate::engine::shared::Core;
use crate::memory::registry::Once;
use crate::model::id::KeyId;
use crate::model::verdict::Standing;
use crate::store::hot::HotCopy;

impl Core {
    /// Where a key stands in the limits of its plan, with nothing charged; `None` where
    /// it has no plan, or that cannot be said.
    pub(crate) fn standing(&self, key: KeyId) -> Option<Standing> {
        let mut copy = HotCopy::new();
        self.snapshot().ok()?.hot(key, &mut copy).ok()?;
        let view = copy.view().filter(|view| view.plan() != 0)?;
        let keyspace = Once::new(self.registry.get(view.keyspace())?);
        let charged = self.charge_plan(&view, keyspace.get(), 0, self.now());
        Some(charged.ok()?.ok()??.standing)
    }
}
