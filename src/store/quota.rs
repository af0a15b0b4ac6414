//! The stored part of a quota.

use std::sync::{Arc, Weak};

use crate::model::clock::Timestamp;
use crate::model::quota::{Period, Quota, QuotaStatus};
use crate::sync::table::{Mutex, lock};

/// A quota in the store, under its number: the position of the audit entry about
/// the change that first made it, which no other has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuotaRecord {
    pub(crate) quota: Quota,
    pub(crate) remaining: u64,
    /// What was used beyond the quota; then nothing remains.
    pub(crate) owed: u64,
    /// [`Timestamp::MAX`] for never.
    pub(crate) refills_at: Timestamp,
    /// Until when what is left was given, where a clock that said something much earlier has
    /// brought the refill near: that one was wrong, or the one before.
    pub(crate) given_until: Option<Timestamp>,
    /// How many keys share it.
    pub(crate) keys: u32,
    /// The position of the last audit entry about it: another quota in its place
    /// has another.
    pub(crate) revision: u64,
}

/// A slice that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) number: u64,
    pub(crate) requests: u64,
    /// Until when it may be spent.
    pub(crate) refills_at: Timestamp,
    /// The whole quota.
    pub(crate) quota: Quota,
    /// The revision of the quota that it is of.
    pub(crate) revision: u64,
    /// What the store has left.
    pub(crate) left: Left,
}

/// What the store has left of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Left {
    pub(crate) remaining: u64,
    /// What was used beyond the quota.
    pub(crate) owed: u64,
}

/// Where what was taken for a request is given back, if the request is refused.
pub(crate) trait Decide: Send + Sync {
    fn decide(&self, cost: u64, is_spent: bool);

    /// What it was taken of.
    fn period(&self) -> Period;
}

/// A request that waits for a commit.
pub(crate) struct Asked {
    pub(crate) cost: u64,
    /// Whether it is to have the cost as its own, or only to be told that it is there: a
    /// request that needs several quotas holds none while it waits for another.
    pub(crate) takes: bool,
    answer: Mutex<Option<Answer>>,
}

/// What a request that waited is told.
pub(crate) struct Answer {
    pub(crate) spent: Spent,
    /// Where the cost was taken, if it was.
    pub(crate) taken_from: Option<Arc<dyn Decide>>,
}

impl Asked {
    pub(crate) fn new(cost: u64, takes: bool) -> Self {
        Self {
            cost,
            takes,
            answer: Mutex::new(None),
        }
    }

    /// Answers the request. A batch can run again that has found all in memory, so that it
    /// is answered anew: what the answer before held goes back.
    pub(crate) fn tell(&self, answer: Option<Answer>) {
        let before = std::mem::replace(&mut *lock(&self.answer), answer);
        if let Some(purse) = before.and_then(|before| before.taken_from) {
            purse.decide(self.cost, false);
        }
    }

    /// `None`: the quota was changed meanwhile, or others spent what this request would
    /// have needed.
    pub(crate) fn take_answer(&self) -> Option<Answer> {
        lock(&self.answer).take()
    }
}

impl Drop for Asked {
    /// What was taken for a request that is gone is given back.
    fn drop(&mut self) {
        if let Some(purse) = self.take_answer().and_then(|answer| answer.taken_from) {
            purse.decide(self.cost, false);
        }
    }
}

/// What spending came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Covered,
    Exhausted { refills_at: Option<Timestamp> },
}

/// What a commit did to a quota, in the order of its mutations.
#[derive(Debug, Clone)]
pub(crate) enum QuotaEvent {
    /// The quota of this number is another, or is gone: what is in memory of it is void.
    Changed(u64),
    /// A name leads to another quota than before, or to none.
    Moved(u64),
    /// A slice was taken, perhaps of nothing, for a request that came under a name.
    Taken {
        name: u64,
        slice: Slice,
        asked: Weak<Asked>,
    },
    /// A slice was taken before a request needs it, of what memory has some of.
    Ahead(Slice),
    /// The store has so many left, by all that was taken and put back, here and elsewhere.
    Left { number: u64, left: Left },
    /// What was in memory was put back, and the store has so many left.
    Returned { number: u64, left: Left },
}

impl Slice {
    pub(crate) fn period(&self) -> Period {
        Period {
            number: self.number,
            revision: self.revision,
            refills_at: self.refills_at,
        }
    }
}

impl QuotaRecord {
    pub(crate) fn new(quota: Quota, keys: u32, revision: u64, now: Timestamp) -> Self {
        Self {
            quota,
            remaining: quota.requests,
            owed: 0,
            refills_at: quota
                .refill
                .map_or(Timestamp::MAX, |refill| refill.after(now)),
            given_until: None,
            keys,
            revision,
        }
    }

    /// Whether what was taken of one counts of the other: the same quota, in the same
    /// period of it.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (self.revision, self.refills_at) == (other.revision, other.refills_at)
    }

    /// Whether a slice is of this quota, in this period of it.
    pub(crate) fn has(&self, slice: &Slice) -> bool {
        (self.revision, self.refills_at) == (slice.revision, slice.refills_at)
    }

    /// The same, as it is known under its number.
    pub(crate) fn period(&self, number: u64) -> Period {
        Period {
            number,
            revision: self.revision,
            refills_at: self.refills_at,
        }
    }

    pub(crate) fn left(&self) -> Left {
        Left {
            remaining: self.remaining,
            owed: self.owed,
        }
    }

    /// As it reads at an instant of the clock: refilled, where that is due. Where the
    /// clock was ahead and is corrected, the refill is brought near again: to the one
    /// after the next, since the next was given early. Where the clock was behind and is
    /// corrected, what was given before is not given again.
    pub(crate) fn at(&self, clock: Timestamp) -> Self {
        if let Some((refills_at, given_until)) = self.moved_refill(clock) {
            return Self {
                refills_at,
                given_until,
                ..self.clone()
            };
        }
        if !is_due(self.refills_at, clock) {
            return self.clone();
        }
        let mut new = Self::new(self.quota, self.keys, self.revision, clock);
        // Each refill pays what is owed by then, and nothing else is carried over.
        let refills = (self.quota.refill).map_or(1, |it| it.count(self.refills_at, clock));
        let paid_before = self
            .quota
            .requests
            .saturating_mul(refills.saturating_sub(1));
        new.use_up(self.owed.saturating_sub(paid_before));
        new
    }

    /// Whether the refill is where a clock that was wrong has put it.
    pub(crate) fn has_misplaced_refill(&self, clock: Timestamp) -> bool {
        self.moved_refill(clock).is_some()
    }

    /// Where the refill comes that a wrong clock has put elsewhere, and until when what is left
    /// was given, if that is later.
    fn moved_refill(&self, clock: Timestamp) -> Option<(Timestamp, Option<Timestamp>)> {
        let refill = self.quota.refill?;
        let next = refill.after(clock);
        if is_due(self.refills_at, clock) {
            // A clock that was behind has brought it near.
            let given_until = self.given_until.filter(|until| *until == next)?;
            return Some((given_until, None));
        }
        let near = refill.after(next);
        // Not where it is the next after that: then it would be found to be given.
        let is_far = self.refills_at > refill.after(near);
        // Of several such clocks, the first has found what was given.
        is_far.then(|| (near, self.given_until.max(Some(self.refills_at))))
    }

    /// Takes a slice for a request of a cost, of which so much is in memory: enough for
    /// the whole request where there is as much, else for what memory lacks; nothing
    /// where memory lacks nothing, or more than there is. Beyond that, no more than
    /// [`ahead_max`].
    pub(crate) fn take_slice(
        &mut self,
        number: u64,
        cost: u64,
        in_memory: u64,
        servers: u64,
    ) -> Slice {
        let wanted = match cost <= self.remaining {
            true => cost,
            false => cost.saturating_sub(in_memory),
        };
        let requests = match in_memory >= cost || wanted > self.remaining {
            true => 0,
            false => {
                let slice = slice_of(self.quota, self.remaining, servers);
                slice.max(wanted).min(self.remaining)
            }
        };
        self.take(number, requests)
    }

    /// Takes a slice that nobody has asked for yet.
    pub(crate) fn take_ahead(&mut self, number: u64, servers: u64) -> Slice {
        let requests = slice_of(self.quota, self.remaining, servers);
        self.take(number, requests.min(self.remaining))
    }

    fn take(&mut self, number: u64, requests: u64) -> Slice {
        self.remaining -= requests;
        Slice {
            number,
            requests,
            refills_at: self.refills_at,
            quota: self.quota,
            revision: self.revision,
            left: self.left(),
        }
    }

    /// Takes what was used, and owes what it has not.
    pub(crate) fn use_up(&mut self, requests: u64) {
        let covered = requests.min(self.remaining);
        self.remaining -= covered;
        self.owed = self.owed.saturating_add(requests - covered);
    }

    /// Puts back what was taken in a period, unless it was refilled or replaced since.
    pub(crate) fn put_back(&mut self, period: Period, requests: u64) {
        if self.period(period.number) != period {
            return;
        }
        let paid = requests.min(self.owed);
        self.owed -= paid;
        let sum = self.remaining.saturating_add(requests - paid);
        self.remaining = sum.min(self.quota.requests);
    }

    /// Whether no more is left than there can be, and nothing where something is owed.
    pub(crate) fn adds_up(&self) -> bool {
        self.remaining <= self.quota.requests && (self.owed == 0 || self.remaining == 0)
    }

    pub(crate) fn status(&self, now: Timestamp) -> QuotaStatus {
        let record = self.at(now);
        QuotaStatus {
            quota: record.quota,
            remaining: record.remaining,
            owed: record.owed,
            refills_at: (record.refills_at < Timestamp::MAX).then_some(record.refills_at),
        }
    }
}

/// The most that one of so many servers of a fleet takes of what is left before it is asked
/// for: so none has most of a small quota, while requests reach others. 0 servers: it is in
/// no fleet.
pub(crate) fn ahead_max(remaining: u64, servers: u64) -> u64 {
    match servers {
        0 => u64::MAX,
        servers => (remaining / servers.saturating_mul(4)).max(1),
    }
}

/// How much of a quota of which so much is left is taken at a time.
pub(crate) fn slice_of(quota: Quota, remaining: u64, servers: u64) -> u64 {
    quota.slice().min(ahead_max(remaining, servers))
}

pub(crate) fn is_due(refills_at: Timestamp, now: Timestamp) -> bool {
    refills_at < Timestamp::MAX && now >= refills_at
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::quota::Refill;
    use crate::model::quota::tests::refills;

    const DAY_MS: u64 = 86_400_000;

    fn used_up(refill: Refill, now: Timestamp) -> QuotaRecord {
        QuotaRecord {
            remaining: 0,
            ..QuotaRecord::new(Quota::new(5).refilled(refill), 1, 7, now)
        }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_raw(1_000_000_000_000 + ms)
    }

    proptest! {
        /// However far a clock was ahead, and by whichever a wait is told.
        #[test]
        fn the_refill_that_is_told_is_given(
            refill in refills(),
            now in 0..400 * DAY_MS,
            ahead in prop_oneof![0..8 * DAY_MS, 0..200 * DAY_MS],
        ) {
            let told = used_up(refill, at(now + ahead)).at(at(now));
            let refills_at = told.refills_at;
            let before = refills_at.saturating_sub(std::time::Duration::from_millis(1));
            prop_assert_eq!(told.at(before).remaining, 0);
            prop_assert_eq!(told.at(refills_at).remaining, 5);
        }

        /// However far a clock was behind, and by which of two it was found.
        #[test]
        fn what_was_given_is_not_given_again_after_a_clock_was_behind(
            refill in refills(),
            now in 300 * DAY_MS..700 * DAY_MS,
            behind in 1..300 * DAY_MS,
            more in 0..100 * DAY_MS,
        ) {
            let given = used_up(refill, at(now));
            let then = now - behind;
            let found = given.at(at(then)).at(at(then.saturating_sub(more)));
            prop_assert_eq!(found.remaining, 0);
            let corrected = found.at(at(now));
            prop_assert_eq!(corrected.remaining, 0);
            prop_assert_eq!(corrected.at(given.refills_at).remaining, 5);
        }
    }
}
