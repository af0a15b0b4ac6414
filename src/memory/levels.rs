//! Something for each level of a request, without an allocation.

use crate::model::owner::OwnerPath;

/// The most levels of a request: of an owner's path, and the key.
pub(crate) const LEVELS_MAX: usize = OwnerPath::DEPTH_MAX + 1;

/// Up to one of each level, in their order: the shortest path first, the key last.
pub(crate) struct PerLevel<T> {
    items: [Option<T>; LEVELS_MAX],
    len: usize,
}

impl<T> Default for PerLevel<T> {
    fn default() -> Self {
        Self {
            items: [const { None }; LEVELS_MAX],
            len: 0,
        }
    }
}

impl<T: Copy> PerLevel<T> {
    /// Adds one. There are never more than levels.
    pub(crate) fn push(&mut self, item: T) {
        if let Some(place) = self.items.get_mut(self.len) {
            *place = Some(item);
            self.len += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, at: usize) -> Option<T> {
        self.items.get(at).copied().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items.iter().take(self.len).copied().flatten()
    }

    /// Leaves out what came so far.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}
