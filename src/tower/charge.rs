//! What outer layers have charged a request's key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::id::KeyId;

/// The charges for a request, the last first, in its extensions for inner layers. Clones of
/// a request share them.
#[derive(Clone)]
pub(super) struct Charges(Arc<Charge>);

struct Charge {
    /// The engine's identity. A reference would have a count on which all threads contend,
    /// on every request.
    engine: usize,
    key: KeyId,
    cost: u32,
    /// Whether an inner layer has used it. Only one of a request and its clones is paid
    /// for.
    taken: AtomicBool,
    before: Option<Charges>,
}

impl Charges {
    /// The charge of an outer layer for this key of this engine, for one layer to use.
    pub(super) fn take(&self, engine: usize, key: KeyId) -> Option<u32> {
        let mut at = Some(self);
        while let Some(Self(charge)) = at {
            if charge.engine == engine && charge.key == key {
                let was_taken = charge.taken.swap(true, Ordering::Relaxed);
                return (!was_taken).then_some(charge.cost);
            }
            at = charge.before.as_ref();
        }
        None
    }

    pub(super) fn new(engine: usize, key: KeyId, cost: u32, before: Option<Self>) -> Self {
        Self(Arc::new(Charge {
            engine,
            key,
            cost,
            taken: AtomicBool::new(false),
            before,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_taken_once_by_its_own_engine_and_key() {
        let (a, b) = (KeyId::from_raw(1), KeyId::from_raw(2));
        let charges = Charges::new(1, a, 5, None);
        let charges = Charges::new(1, b, 7, Some(charges));
        let clone = charges.clone();
        assert_eq!(charges.take(2, a), None);
        assert_eq!(charges.take(1, a), Some(5));
        assert_eq!(clone.take(1, a), None);
        assert_eq!(clone.take(1, b), Some(7));
        assert_eq!(charges.take(1, b), None);
        // What was charged since is another.
        let charges = Charges::new(1, a, 9, Some(charges));
        assert_eq!(charges.take(1, a), Some(9));
    }
}
