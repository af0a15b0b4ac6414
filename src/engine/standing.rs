//! What is left of a key's limits, for an answer to the key's holder alone.

use crate::engine::shared::Core;
use crate::model::id::KeyId;
use crate::model::verdict::Standing;
use crate::store::hot::HotCopy;

impl Core {
    /// Where a key stands in the limits of its levels, with nothing charged; `None` where
    /// it has none, or that cannot be said.
    pub(crate) fn standing(&self, key: KeyId) -> Option<Standing> {
        let mut copy = HotCopy::new();
        self.snapshot().ok()?.hot(key, &mut copy).ok()?;
        let view = copy.view()?;
        let entry = self.registry.get(view.keyspace())?;
        let statuses = self.look_at_limits(&view, entry, self.clock.now());
        Standing::of_all(statuses.ok()?)
    }
}
