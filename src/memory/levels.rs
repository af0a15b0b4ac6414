//! Something for each level of a request, without an allocation.

use std::ops::Deref;

use arrayvec::ArrayVec;

use crate::model::owner::OwnerPath;

/// The most levels of a request: of an owner's path, and the key.
pub(crate) const LEVELS_MAX: usize = OwnerPath::DEPTH_MAX + 1;

/// Up to one of each level, in their order: the shortest path first, the key last.
pub(crate) struct PerLevel<T>(ArrayVec<T, LEVELS_MAX>);

impl<T> PerLevel<T> {
    /// Adds one. There are never more than levels.
    pub(crate) fn push(&mut self, item: T) {
        let added = self.0.try_push(item);
        debug_assert!(added.is_ok(), "more than there are levels");
    }

    /// Leaves out what came so far.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T> Default for PerLevel<T> {
    fn default() -> Self {
        Self(ArrayVec::new_const())
    }
}

impl<T> Deref for PerLevel<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}
