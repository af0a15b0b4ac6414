//! Notices before a key ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::key::Key;
use crate::sync::{Mutex, lock};

type Call = dyn Fn(&Key, Duration) + Send + Sync;

/// Called with a key, and how long before its end it is told.
#[derive(Clone)]
pub(crate) struct OnExpiring {
    /// The shortest first.
    pub(crate) ahead: Vec<Duration>,
    pub(crate) hook: Arc<Call>,
}

impl fmt::Debug for OnExpiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnExpiring({:?})", self.ahead)
    }
}

/// The notices of an engine.
pub(crate) struct Notices {
    pub(crate) on: OnExpiring,
    /// Up to when all was told.
    told: Mutex<Timestamp>,
}

impl Notices {
    /// `committed`: the newest instant in the store, up to which an engine before this one
    /// has told.
    pub(crate) fn new(on: &OnExpiring, committed: Timestamp) -> Self {
        Self {
            on: on.clone(),
            told: Mutex::new(committed),
        }
    }

    /// Up to when all was told; from now on, up to an instant.
    pub(crate) fn take(&self, now: Timestamp) -> Timestamp {
        std::mem::replace(&mut *lock(&self.told), now)
    }
}
