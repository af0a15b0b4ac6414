//! What is left of a key's limits, for an answer to the key's holder alone.

use crate::engine::handle::Engine;
#[cfg(feature = "http")]
use crate::engine::shared::Core;
#[cfg(feature = "http")]
use crate::model::allowances::Allowances;
use crate::model::error::{NotFound, Result};
use crate::model::id::KeyId;
use crate::model::limit::LimitStatus;
use crate::store::hot::HotCopy;

/// # Limits
impl Engine {
    /// What is left of every limit that a request of a key would be charged to, with
    /// nothing charged: of the owners above it, the shortest path first, and of the key.
    ///
    /// A request of a cost would be admitted by the limits if each has so much
    /// [`remaining`](LimitStatus::remaining). Of quotas, [`key`](Engine::key) and
    /// [`owner_settings`](Engine::owner_settings) tell what is left.
    ///
    /// # Errors
    /// [`NotFound::Key`](crate::NotFound::Key).
    ///
    /// ```
    /// use gatekey::{Engine, Level, Limit, NewKey, NewKeyspace, OwnerUpdate};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let tier = OwnerUpdate::new().limits([Limit::per_hour(1_000).fixed()]);
    /// engine.update_owner("acme_live", "acme", tier)?;
    /// let issued = engine.issue(NewKey::new("acme_live", "acme/ingest")?)?;
    /// assert!(engine.verify(issued.token.expose())?.is_granted());
    ///
    /// let left = engine.limits_left(issued.key.id)?;
    /// assert_eq!((left[0].level(), left[0].remaining()), (Level::Owner(1), 999));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn limits_left(&self, key: KeyId) -> Result<Vec<LimitStatus>> {
        let mut copy = HotCopy::new();
        self.core.read(|snapshot| snapshot.hot(key, &mut copy))?;
        let view = copy.view().ok_or(NotFound::Key(key))?;
        let entry = self.core.entry_of(&view)?;
        let now = self.core.present().clock;
        self.core.look_at_limits(&view, entry, now)
    }
}

#[cfg(feature = "http")]
impl Core {
    /// What is left of the limits and quotas that a request of a key would be charged to;
    /// `None` where it has none, or that cannot be said.
    pub(crate) fn allowances_of(&self, key: KeyId) -> Option<Allowances> {
        let mut copy = HotCopy::new();
        self.snapshot().ok()?.hot(key, &mut copy).ok()?;
        let view = copy.view()?;
        let entry = self.registry.get(view.keyspace())?;
        let found = self.look_at_levels(&view, entry, self.clock.now()).ok()?;
        let has_any = !found.limits.is_empty() || !found.quotas.is_empty();
        has_any.then_some(found)
    }
}
