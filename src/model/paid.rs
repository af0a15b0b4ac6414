//! What layers in front have charged a request, of which those behind charge the rest.

use std::sync::Arc;

use crate::model::charge::Charge;
use crate::model::id::KeyId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

/// The charges for a request, the last first, in its extensions for inner layers. Clones of
/// a request share them.
#[derive(Debug, Clone)]
pub(crate) struct Paid(Arc<Payment>);

#[derive(Debug)]
pub(crate) struct Payment {
    /// The engine's identity. A reference would have a count on which all threads contend,
    /// on every request.
    engine: usize,
    key: KeyId,
    /// What the request has cost by then, in all.
    pub(crate) cost: u32,
    /// Of that, what is settled later.
    pub(crate) settled: Option<Settled>,
    /// Whether an inner layer has used it. Only one of a request and its clones is paid
    /// for.
    taken: AtomicBool,
    before: Option<Paid>,
}

/// What is settled later of what a request was charged.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    /// What all layers have charged that can be settled. `None`: another verifier knew the
    /// credential, and charged nothing that can be.
    pub(crate) charge: Option<Charge>,
    /// What layers outside of them have charged for good.
    pub(crate) before: u32,
}

impl Paid {
    pub(crate) fn new(
        engine: usize,
        key: KeyId,
        cost: u32,
        settled: Option<Settled>,
        before: Option<Self>,
    ) -> Self {
        Self(Arc::new(Payment {
            engine,
            key,
            cost,
            settled,
            taken: AtomicBool::new(false),
            before,
        }))
    }

    /// The last charge for this key of this engine.
    fn find(&self, engine: usize, key: KeyId) -> Option<&Payment> {
        let mut at = Some(self);
        while let Some(Self(payment)) = at {
            if payment.engine == engine && payment.key == key {
                return Some(payment);
            }
            at = payment.before.as_ref();
        }
        None
    }
}

impl Payment {
    /// Whether it is for one layer to use: for the first that asks.
    fn take(&self) -> bool {
        let was_taken = self.taken.swap(true, Ordering::Relaxed);
        !was_taken
    }
}

impl Settled {
    /// With what an inner layer has charged the same request, for which `before` was charged
    /// in all: one charge, of which no clone settles a part alone.
    pub(crate) fn with(&self, charge: Option<Charge>, before: u32) -> Self {
        match (&self.charge, charge) {
            (Some(own), Some(charge)) => {
                own.take_in(&charge);
                self.clone()
            }
            (None, Some(charge)) => Self {
                charge: Some(charge),
                before,
            },
            (_, None) => self.clone(),
        }
    }
}

/// What one layer may use of what others have charged: that of the key which it finds. Which
/// key that is may be known to another verifier alone, or only once the token is proven.
#[derive(Debug)]
pub(crate) struct Credit<'a> {
    paid: &'a Paid,
    engine: usize,
    /// The key for which it was used.
    used_for: Mutex<Option<KeyId>>,
}

impl<'a> Credit<'a> {
    pub(crate) fn new(paid: &'a Paid, engine: usize) -> Self {
        Self {
            paid,
            engine,
            used_for: Mutex::new(None),
        }
    }

    /// What was charged a key before; `None`: nothing.
    pub(crate) fn find(&self, key: KeyId) -> Option<&'a Payment> {
        self.paid.find(self.engine, key)
    }

    /// Whether its verification has used what a key was charged before. A clone of the request
    /// may have.
    pub(crate) fn is_used(&self, key: KeyId) -> bool {
        *lock(&self.used_for) == Some(key)
    }

    /// Uses what a key was charged before, if no clone of the request has.
    pub(crate) fn take(&self, key: KeyId) -> Option<u32> {
        let payment = self.find(key)?;
        let mut used_for = lock(&self.used_for);
        // The key may be read again, or be tried again for something else.
        if *used_for != Some(key) {
            if !payment.take() {
                return None;
            }
            *used_for = Some(key);
        }
        Some(payment.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_taken_once_by_its_own_engine_and_key() {
        let (a, b) = (KeyId::from_raw(1), KeyId::from_raw(2));
        let take = |paid: &Paid, engine, key| {
            let payment = paid.find(engine, key)?;
            payment.take().then_some(payment.cost)
        };
        let paid = Paid::new(1, a, 5, None, None);
        let paid = Paid::new(1, b, 7, None, Some(paid));
        let clone = paid.clone();
        assert_eq!(take(&paid, 2, a), None);
        assert_eq!(take(&paid, 1, a), Some(5));
        assert_eq!(take(&clone, 1, a), None);
        assert_eq!(take(&clone, 1, b), Some(7));
        assert_eq!(take(&paid, 1, b), None);
        // What was charged since is another.
        let paid = Paid::new(1, a, 9, None, Some(paid));
        assert_eq!(take(&paid, 1, a), Some(9));
    }
}
