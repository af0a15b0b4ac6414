//! What is left of a key's limits, for an answer to the key's holder alone.

use crate::engine::shared::Core;
use crate::memory::registry::Once;
use crate::model::id::KeyId;
use crate::model::verdict::Standing;
use crate::store::hot::HotCopy;

impl Core {
    /// What is left of the limits of a key's plan, with nothing charged; `None` where
    /// the key has no plan, or its counters cannot be read.
    pub(crate) fn standing(&self, key: KeyId) -> Option<Standing> {
        let mut copy = HotCopy::new();
        self.snapshot().ok()?.hot(key, &mut copy).ok()?;
        let view = copy.view().filter(|view| view.plan() != 0)?;
        let keyspace = Once::new(self.registry.get(view.keyspace())?);
        let charged = self.charge_plan(&view, keyspace.get(), 0, self.now());
        Some(charged.ok()?.ok()??.standing)
    }
}
