//! What layers in front have charged a request, of which those behind charge the rest.

use std::sync::Arc;

use arrayvec::ArrayVec;

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
    /// Whether an inner layer uses it. Only one of a request and its clones is paid for.
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

    /// Leaves it to others, after it was taken.
    fn give_back(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }
}

impl Settled {
    /// With what an inner layer has charged the same request, for which `before` was charged
    /// in all: one charge, of which no clone settles a part alone. The layer's engine settles it,
    /// and not what an outer layer's verifier has had another engine charge.
    pub(crate) fn with(&self, charge: Option<Charge>, before: u32, engine: u64) -> Self {
        let own = self.charge.as_ref().filter(|own| own.is_of(engine));
        match (own, charge) {
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

/// Of so many keys of one request, what a verifier asks of each is kept apart. Those beyond are
/// charged as if nothing had been.
const KEYS_MAX: usize = 8;

/// What one layer may use of what others have charged: that of the key which it finds. Which
/// key that is may be known to another verifier alone, or only once the token is proven.
///
/// It is of the layer's engine, which says here what it charges: another verifier may have asked
/// another engine, or with requirements of its own, and its grant says neither.
#[derive(Debug)]
pub(crate) struct Credit<'a> {
    /// `None`: it is the first layer.
    paid: Option<&'a Paid>,
    engine: usize,
    keys: Mutex<ArrayVec<Asked, KEYS_MAX>>,
}

/// A key for which a verification has asked.
#[derive(Debug)]
struct Asked {
    key: KeyId,
    /// What the request was charged for it before is used by this layer.
    is_paid: bool,
    /// What the request has cost the key, in all: as far as this layer knows of it.
    cost: u32,
}

/// What of the charges for the key that was granted is this layer's to go on with.
pub(crate) struct Kept<'a> {
    /// The last charge for it before.
    pub(crate) payment: Option<&'a Payment>,
    /// Whether this layer has that one, and no clone of the request.
    pub(crate) is_paid: bool,
    /// What it was of, where this layer has it.
    pub(crate) before: u32,
    /// What the request has cost the key by now, in all: no more than the engine has charged.
    pub(crate) cost: u32,
}

impl<'a> Credit<'a> {
    pub(crate) fn new(paid: Option<&'a Paid>, engine: usize) -> Self {
        Self {
            paid,
            engine,
            keys: Mutex::new(ArrayVec::new()),
        }
    }

    /// Whether it is of an engine. A store and its copy have the same keys, and each charges its
    /// own.
    pub(crate) fn is_of(&self, engine: usize) -> bool {
        self.engine == engine
    }

    /// What was charged a key before; `None`: nothing.
    pub(crate) fn find(&self, key: KeyId) -> Option<&'a Payment> {
        self.paid?.find(self.engine, key)
    }

    /// Uses what a key was charged before, if no clone of the request has: for all verifications
    /// of the key until it is dropped. A key may be read again, or be tried again for something
    /// else.
    pub(crate) fn take(&self, key: KeyId) -> Option<u32> {
        let payment = self.find(key)?;
        let mut keys = lock(&self.keys);
        let is_paid = match keys.iter().find(|asked| asked.key == key) {
            Some(asked) => asked.is_paid,
            None if keys.is_full() => false,
            None => {
                let is_paid = payment.take();
                keys.push(Asked {
                    key,
                    is_paid,
                    cost: 0,
                });
                is_paid
            }
        };
        is_paid.then_some(payment.cost)
    }

    /// Notes that the engine has granted a key, and has charged it what it was not charged before
    /// of a cost.
    pub(crate) fn granted(&self, key: KeyId, cost: u32) {
        let mut keys = lock(&self.keys);
        match keys.iter_mut().find(|asked| asked.key == key) {
            Some(asked) => asked.cost = asked.cost.max(cost),
            None => {
                let is_paid = false;
                // Beyond the last, what it was charged is not known to layers behind.
                let _ = keys.try_push(Asked { key, is_paid, cost });
            }
        }
    }

    /// Uses what the key of the grant was charged before, also where its verification has not.
    /// What others were is left to layers behind, and to clones of the request.
    pub(crate) fn keep(self, key: KeyId) -> Kept<'a> {
        let payment = self.find(key);
        let mut keys = lock(&self.keys);
        let at = keys.iter().position(|asked| asked.key == key);
        let asked = at.map(|at| keys.swap_remove(at));
        let is_paid =
            asked.as_ref().is_some_and(|asked| asked.is_paid) || payment.is_some_and(Payment::take);
        let before = payment
            .filter(|_| is_paid)
            .map_or(0, |payment| payment.cost);
        Kept {
            payment,
            is_paid,
            before,
            cost: asked.map_or(0, |asked| asked.cost).max(before),
        }
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        for Asked { key, is_paid, .. } in lock(&self.keys).iter() {
            if *is_paid && let Some(payment) = self.find(*key) {
                payment.give_back();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::charge::Part;
    use crate::model::clock::Timestamp;

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
    #[test]
    fn a_credit_leaves_what_it_does_not_keep_and_knows_what_was_granted() {
        let keys = (1..=10).map(KeyId::from_raw).collect::<Vec<_>>();
        let paid = keys.iter().fold(None, |before, key| {
            Some(Paid::new(1, *key, 5, None, before))
        });
        let kept = |credit: Credit<'_>, key: usize| {
            let kept = credit.keep(keys[key]);
            (kept.is_paid, kept.before, kept.cost)
        };
        let tries = |credit: &Credit<'_>| {
            let taken = keys.iter().map(|key| credit.take(*key));
            taken.collect::<Vec<_>>()
        };
        let credit = Credit::new(paid.as_ref(), 1);
        // Each as often as it is asked for, and no more of them than it keeps apart.
        let mut expected = vec![Some(5); KEYS_MAX];
        expected.resize(keys.len(), None);
        assert_eq!(tries(&credit), expected);
        assert_eq!(tries(&credit), expected);
        // Meanwhile a clone of the request has none of them.
        let clone = Credit::new(paid.as_ref(), 1);
        assert_eq!(clone.take(keys[0]), None);
        clone.granted(keys[0], 3);
        assert_eq!(kept(clone, 0), (false, 0, 3));
        credit.granted(keys[0], 9);
        credit.granted(keys[0], 7);
        credit.granted(keys[1], 20);
        assert_eq!(kept(credit, 0), (true, 5, 9));
        // What the first did not keep; and what was granted by nobody is not charged yet.
        let credit = Credit::new(paid.as_ref(), 1);
        assert_eq!(credit.take(keys[0]), None);
        assert_eq!(credit.take(keys[1]), Some(5));
        assert_eq!(kept(credit, 1), (true, 5, 5));
        // One that was not asked for, and one beyond those that are kept apart.
        assert_eq!(kept(Credit::new(paid.as_ref(), 1), 2), (true, 5, 5));
        let credit = Credit::new(paid.as_ref(), 1);
        tries(&credit);
        credit.granted(keys[9], 20);
        assert_eq!(kept(credit, 9), (true, 5, 5));
        let credit = Credit::new(paid.as_ref(), 1);
        assert_eq!(kept(credit, 9), (false, 0, 0));
        // The first layer.
        let credit = Credit::new(None, 1);
        credit.granted(keys[0], 9);
        assert_eq!(kept(credit, 0), (false, 0, 9));
        assert_eq!(kept(Credit::new(None, 1), 0), (false, 0, 0));
    }

    #[test]
    fn a_charge_takes_in_what_its_own_engine_has_charged_the_same_key() {
        let charge = |engine, key| {
            let part = Part {
                cost: 7,
                ..Part::nothing(Timestamp::from_raw(1))
            };
            Charge::new(engine, KeyId::from_raw(key), (1, b"acme"), part)
        };
        let settled = |charge| Settled { charge, before: 0 };
        for (other, costs) in [((1, 1), (14, 0)), ((2, 1), (7, 7)), ((1, 2), (7, 7))] {
            let (own, other) = (charge(1, 1), charge(other.0, other.1));
            let both = settled(Some(own.clone())).with(Some(other.clone()), 3, 1);
            assert_eq!(both.charge, Some(own.clone()));
            own.take_in(&other);
            assert_eq!((own.cost(), other.cost()), costs);
        }
        // It is that of both.
        let own = charge(1, 1);
        settled(Some(own.clone())).with(Some(own.clone()), 3, 1);
        assert_eq!(own.cost(), 7);
        // Outside of it is none, or one that only another engine can settle.
        for outer in [None, Some(charge(2, 1))] {
            let alone = settled(outer).with(Some(own.clone()), 3, 1);
            assert_eq!((alone.charge, alone.before), (Some(own.clone()), 3));
        }
    }
}
