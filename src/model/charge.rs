//! What a request was charged, to be settled once its cost is known.

use std::fmt;
use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::quota::Period;
use crate::sync::{Mutex, MutexGuard, lock};

/// The most parts of a charge. Where there are more, those near each other become one.
const PARTS_MAX: usize = 64;
/// Parts are near each other within such a share of the time of the charge: so fewer than half
/// of them are left. What became one part is given back as if all of it had been charged when
/// its first was: at the edge of a window, what was charged within that share may stay charged,
/// and nothing is given back that was not charged there.
const STRETCHES: u64 = 16;

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

/// What was charged at one instant, or shortly after, and what of it was not given back.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) cost: u32,
    pub(crate) at: Timestamp,
    /// When the last of it was charged.
    pub(crate) until: Timestamp,
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
            until: at,
            counters: 0,
            meters: Vec::new(),
            quotas: Vec::new(),
        }
    }

    /// Whether the next part was charged in the same places, all of both within a stretch.
    fn is_beside(&self, next: &Self, stretch: u64) -> bool {
        let (first, last) = (self.at.min(next.at), self.until.max(next.until));
        let took = last.unix_ms() - first.unix_ms();
        took <= stretch && self.meters == next.meters && self.quotas == next.quotas
    }

    /// Takes in a part that is [beside](Self::is_beside) it.
    fn take_in(&mut self, next: &Self) {
        self.cost = self.cost.saturating_add(next.cost);
        // What was begun between the two has not counted all of it.
        self.at = self.at.min(next.at);
        self.until = self.until.max(next.until);
        self.counters = self.counters.min(next.counters);
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

    /// Whether it is of an engine, which alone can settle it.
    #[cfg(feature = "tower")]
    pub(crate) fn is_of(&self, engine: u64) -> bool {
        self.0.engine == engine
    }

    /// Takes in what another layer has charged the same request, so that both are settled as
    /// one. What another engine has charged stays there: no engine settles it with its own.
    #[cfg(feature = "tower")]
    pub(crate) fn take_in(&self, other: &Self) {
        let of = |charge: &Self| (charge.0.engine, charge.0.key);
        if self == other || of(self) != of(other) {
            return;
        }
        // Never both locks at once.
        let parts = std::mem::take(&mut other.0.parts().0);
        let mut own = self.0.parts();
        let charged = parts.into_iter().filter(|part| part.cost > 0);
        charged.for_each(|part| own.push(part));
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
        self.0.push(part);
        if self.0.len() > PARTS_MAX {
            self.put_together();
        }
    }

    fn put_together(&mut self) {
        let parts = std::mem::take(&mut self.0);
        let first = parts.iter().map(|part| part.at.unix_ms()).min();
        let last = parts.iter().map(|part| part.until.unix_ms()).max();
        let stretch = (last.unwrap_or(0) - first.unwrap_or(0)) / STRETCHES;
        for part in parts {
            match self.0.last_mut() {
                Some(before) if before.is_beside(&part, stretch) => before.take_in(&part),
                _ => self.0.push(part),
            }
        }
        // The levels or their quotas were changed that often.
        if self.0.len() > PARTS_MAX {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                // What cannot be given back stays charged.
                *next = Part {
                    cost: next.cost.saturating_add(oldest.cost),
                    ..Part::nothing(next.at)
                };
            }
        }
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
        self.0.retain(|part| part.cost > 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn part(at: u64, place: u64) -> Part {
        Part {
            cost: 1,
            counters: at,
            meters: vec![(place, 1)],
            ..Part::nothing(Timestamp::from_raw(at))
        }
    }

    #[test]
    fn parts_that_are_put_together_give_back_no_more_and_little_less() {
        // One each 10 ms, for 100 s.
        const TIME: u64 = 100_000;
        let mut parts = Parts(vec![part(0, 7)]);
        for at in (10..TIME).step_by(10) {
            parts.push(part(at, 7));
            assert!(parts.0.len() <= PARTS_MAX);
        }
        let all = u32::try_from(TIME / 10).unwrap();
        assert_eq!(parts.cost(), all);
        let taken = parts.take(all);
        assert_eq!(parts.cost(), 0);
        assert!(parts.0.is_empty());
        // What a window that begins at an instant, or a counter that does, is given back.
        for begins in (0..TIME).step_by(999) {
            let of = |is_in: &dyn Fn(&Part) -> bool| {
                let given = taken.iter().filter(|(_, part)| is_in(part));
                given.map(|(less, _)| u64::from(*less)).sum::<u64>()
            };
            let charged = (TIME - begins) / 10;
            for given in [
                of(&|part| part.at.unix_ms() >= begins),
                of(&|part| part.counters >= begins),
            ] {
                assert!(given <= charged, "{given} of {charged}");
                assert!(given + TIME / 10 / 16 >= charged, "{given} of {charged}");
            }
        }
    }

    #[test]
    fn what_is_given_back_in_full_is_no_part_and_other_places_are_kept_apart() {
        let mut parts = Parts(vec![part(0, 0)]);
        for at in 1..1_000 {
            parts.push(part(at, at));
            assert_eq!(parts.take(1).len(), 1);
        }
        let first = parts.take(1);
        assert_eq!(first[0].1.meters, [(0, 1)]);
        // Each to another level than the one before: of the oldest, nothing is given back.
        for at in 1..1_000 {
            parts.push(part(at, at % 2));
            assert!(parts.0.len() <= PARTS_MAX);
        }
        assert_eq!(parts.cost(), 999);
        for (less, part) in parts.take(999) {
            let at = part.at.unix_ms();
            assert!(part.meters.is_empty() || (less, part.meters) == (1, vec![(at % 2, 1)]));
        }
    }
}
