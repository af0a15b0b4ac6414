//! What a request was charged, to be settled once its cost is known.

use std::fmt;
use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::quota::Period;
use crate::sync::{Mutex, MutexGuard, lock};

/// The most parts of a charge that can be given back. Of older ones nothing can.
const PARTS_MAX: usize = 64;

/// What a request was charged that is [settled
/// later](crate::Requirements::settled_later). [`Engine::settle`](crate::Engine::settle)
/// takes it.
///
/// It is cheap to clone, and all clones are one charge: it can go with the body of an
/// answer, to be settled when that ends. It is of the engine that granted the request,
/// while that is open. One that is dropped is settled at the cost that was last said.
#[derive(Clone)]
pub struct Charge(Arc<Charged>);

pub(crate) struct Charged {
    /// Of which engine it is.
    pub(crate) engine: u64,
    pub(crate) key: KeyId,
    pub(crate) keyspace: u32,
    pub(crate) owner: Box<[u8]>,
    parts: Mutex<Parts>,
}

/// What was charged at one instant, and what of it was not given back.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) cost: u32,
    pub(crate) at: Timestamp,
    /// How many counters were begun before: what is younger has not counted it.
    pub(crate) counters: u64,
    /// The names of the meters.
    pub(crate) meters: Vec<(u64, u64)>,
    /// The names of the purses, and what they were of.
    pub(crate) quotas: Vec<(u64, Period)>,
}

/// What a request was charged so far, the latest last.
pub(crate) struct Parts(Vec<Part>);

impl Part {
    /// Charged to nothing.
    pub(crate) fn nothing(at: Timestamp) -> Self {
        Self {
            cost: 0,
            at,
            counters: 0,
            meters: Vec::new(),
            quotas: Vec::new(),
        }
    }
}

impl Charge {
    pub(crate) fn new(
        engine: u64,
        key: KeyId,
        (keyspace, owner): (u32, &[u8]),
        first: Part,
    ) -> Self {
        Self(Arc::new(Charged {
            engine,
            key,
            keyspace,
            owner: owner.into(),
            parts: Mutex::new(Parts(vec![first])),
        }))
    }

    /// The key of the request.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.0.key
    }

    /// What the request is charged by now.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.0.parts().cost()
    }

    pub(crate) fn charged(&self) -> &Charged {
        &self.0
    }
}

impl Charged {
    /// Held while it is settled, so that its settlements come one after the other.
    pub(crate) fn parts(&self) -> MutexGuard<'_, Parts> {
        lock(&self.parts)
    }
}

impl Parts {
    pub(crate) fn cost(&self) -> u32 {
        let costs = self.0.iter().map(|part| part.cost);
        costs.fold(0, u32::saturating_add)
    }

    pub(crate) fn push(&mut self, part: Part) {
        if self.0.len() >= PARTS_MAX {
            // What cannot be given back stays charged.
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = Part {
                    cost: next.cost.saturating_add(oldest.cost),
                    ..Part::nothing(next.at)
                };
            }
        }
        self.0.push(part);
    }

    /// Takes a cost out, of the latest parts first. Each with what is to be given back of it.
    pub(crate) fn take(&mut self, cost: u32) -> Vec<(u32, Part)> {
        let mut rest = cost;
        let mut taken = Vec::new();
        for part in self.0.iter_mut().rev() {
            let less = rest.min(part.cost);
            if less > 0 {
                part.cost -= less;
                rest -= less;
                taken.push((less, part.clone()));
            }
        }
        taken
    }
}

impl PartialEq for Charge {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Charge {}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("key_id", &self.0.key)
            .finish_non_exhaustive()
    }
}
