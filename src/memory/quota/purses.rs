//! What is in memory of quotas, by their numbers: the slices that are out.
//!
//! One rule carries the protocol: **the purses follow the commits**. What a commit does
//! to a quota ([`QuotaEvent`]) is applied to its purse as the commit is published, before
//! another can begin, and in one step: what was taken is added, who waited for it is
//! answered, and whether the store is empty is noted. So there is never a slice of which
//! it is doubtful whether it still counts, and nobody has to try again because another
//! was quicker to commit. docs/INTERNALS.md has the cases; `interleavings` has them under loom.
//!
//! Nothing here knows of keys, but as names under which an [`Index`] finds a purse.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::front::{
    AGE, Front, GIVEN_BACK_MAX, IS_OWING, IS_USED, IS_VOID, REQUESTS, STORE_IS_EMPTY,
};
use crate::memory::slab::{Place, Slab};
use crate::model::clock::Timestamp;
use crate::model::quota::{Period, Quota, QuotaStatus};
use crate::model::time::When;
use crate::store::quota::{
    Answer, Asked, Decide, Left, QuotaEvent, QuotaRecord, Slice, Spent, is_due, slice_of,
};
use crate::sync::table::{AtomicU64, Ordering};

/// The most purses that one request's transaction calls in, and the most names that it
/// takes from a purse which has many.
const AT_ONCE: usize = 16;
/// The most purses that one request looks at to find those.
const LOOKED_AT: usize = 64;
/// The most purses that are looked at together to find those that have little.
const LOOKED_AT_AHEAD: usize = 1_024;

/// What is in memory of a quota, in one period of it.
pub(crate) struct Purse {
    /// How many requests are here, with flags. One word, so that who finds too little here
    /// and who finds the store empty find both at one instant.
    front: Place<Front>,
    /// Where its place goes in the end.
    fronts: Option<Arc<Slab<Front>>>,
    period: Period,
    /// The whole quota.
    quota: Quota,
    /// What was taken for requests that waited for it, and that may still be refused by
    /// another level, which gives it back. While there is any, the quota is not exhausted.
    undecided: AtomicU64,
    /// What the store had left when it was last written, and what was owed.
    left: AtomicU64,
    owed: AtomicU64,
}

impl Decide for Purse {
    fn decide(&self, cost: u64, is_spent: bool) {
        if !is_spent {
            self.put_in(cost);
        }
        self.undecided.fetch_sub(cost, Ordering::AcqRel);
    }

    fn period(&self) -> Period {
        self.period
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.front().end();
        if let Some(fronts) = &self.fronts {
            fronts.give_back(self.front.number);
        }
    }
}

impl Purse {
    fn new(slice: &Slice, fronts: &Arc<Slab<Front>>) -> Self {
        let taken = fronts.take();
        let fronts = taken.is_some().then(|| fronts.clone());
        // Where too many have a purse of which memory knows nothing any more.
        let front = taken.unwrap_or_else(Slab::apart);
        front.get().begin(&slice.period(), slice.quota);
        Self {
            front,
            fronts,
            period: slice.period(),
            quota: slice.quota,
            undecided: AtomicU64::new(0),
            left: AtomicU64::new(0),
            owed: AtomicU64::new(0),
        }
    }

    fn front(&self) -> &Front {
        self.front.get()
    }

    fn word(&self) -> &AtomicU64 {
        &self.front().word
    }

    /// Lets requests find it by a hint under a name, and by no other.
    pub(super) fn name(&self, name: u64) {
        self.front().name(name);
    }

    /// Where a hint may lead for it to be found under a name.
    pub(super) fn place_of(&self, name: u64) -> Option<usize> {
        let place = self.fronts.as_ref().map(|_| self.front.number);
        place.filter(|_| self.front().is_named(name))
    }

    pub(super) fn unname(&self, name: u64) {
        self.front().unname(name);
    }

    pub(super) fn is_of(&self, period: Period) -> bool {
        self.period == period
    }

    pub(super) fn period(&self) -> Period {
        self.period
    }

    fn requests(&self) -> u64 {
        self.word().load(Ordering::Acquire) & REQUESTS
    }

    /// Whether half of a slice, or less, is left of its period, and the store has more.
    fn is_low(&self, servers: u64, now: Timestamp) -> bool {
        let word = self.word().load(Ordering::Acquire);
        let left = self.left.load(Ordering::Acquire);
        let slice = slice_of(self.quota, left, servers).min(left);
        let has_little = left > 0 && (word & REQUESTS) * 2 <= slice;
        has_little && word & (IS_VOID | IS_OWING) == 0 && !self.is_over(now)
    }

    /// `None` where the store must be asked.
    pub(crate) fn spend(&self, cost: u64, now: Timestamp) -> Option<Spent> {
        loop {
            let (word, spent) = self.read(cost, now)?;
            if spent != Spent::Covered || self.replace(word, (word - cost) | IS_USED).is_ok() {
                return Some(spent);
            }
        }
    }

    /// Whether it covers a cost at whichever of some instants, and spends it then.
    pub(super) fn spends(&self, cost: u64, When { first, last }: When) -> bool {
        let is_steady = last.is_none_or(|last| !self.is_over(last));
        is_steady && self.spend(cost, first) == Some(Spent::Covered)
    }

    /// What spending would come to, without spending.
    pub(super) fn look(&self, cost: u64, now: Timestamp) -> Option<Spent> {
        self.read(cost, now).map(|(_, spent)| spent)
    }

    /// What spending comes to, and the word that says so; `None` where the store must be
    /// asked.
    fn read(&self, cost: u64, now: Timestamp) -> Option<(u64, Spent)> {
        if self.is_over(now) {
            return None;
        }
        let mut word = self.word().load(Ordering::Acquire);
        loop {
            if word & IS_VOID != 0 {
                return None;
            }
            let is_owing = word & IS_OWING != 0;
            if word & REQUESTS >= cost && !is_owing {
                return Some((word, Spent::Covered));
            }
            // What is here pays what is owed, which the store does.
            if is_owing && word & REQUESTS > 0 {
                return None;
            }
            // After the word: what is undecided was noted before it left the word.
            if word & STORE_IS_EMPTY == 0 || self.undecided.load(Ordering::Acquire) > 0 {
                return None;
            }
            // What was given back before that is seen now.
            let again = self.word().fetch_or(IS_USED, Ordering::AcqRel);
            if again & !IS_USED == word & !IS_USED {
                return Some((word, self.exhausted(cost)));
            }
            word = again;
        }
    }

    fn exhausted(&self, cost: u64) -> Spent {
        let owed = self.owed.load(Ordering::Acquire);
        let refills_at = self.quota.covers_at(self.period.refills_at, owed, cost);
        Spent::Exhausted { refills_at }
    }

    /// Whether the store knows better: a refill is due, or is further away than it can be
    /// by a clock that is right, since the clock was ahead when it was set.
    fn is_over(&self, now: Timestamp) -> bool {
        let refills_at = self.period.refills_at;
        is_due(refills_at, now)
            || refills_at < Timestamp::MAX && refills_at > now.saturating_add(self.quota.reach())
    }

    /// How much is left, here and in the store; `None` where the store must be asked.
    pub(super) fn status(&self, now: Timestamp) -> Option<QuotaStatus> {
        let word = self.word().load(Ordering::Acquire);
        if self.is_over(now) || word & IS_VOID != 0 {
            return None;
        }
        let refills_at = self.period.refills_at;
        let left = self.left.load(Ordering::Acquire) + (word & REQUESTS);
        Some(QuotaStatus {
            quota: self.quota,
            remaining: left.min(self.quota.requests),
            owed: self.owed.load(Ordering::Acquire),
            refills_at: (refills_at < Timestamp::MAX).then_some(refills_at),
        })
    }

    /// Puts in what was spent in this period, and was not used; `false` where that is for
    /// the store to do.
    pub(super) fn give_back(&self, requests: u64) -> bool {
        let mut word = self.word().load(Ordering::Acquire);
        loop {
            let is_too_much = (word & REQUESTS) + requests > GIVEN_BACK_MAX;
            if word & (IS_VOID | IS_OWING) != 0 || is_too_much {
                return false;
            }
            match self.replace(word, word + requests) {
                Ok(()) => return true,
                Err(newer) => word = newer,
            }
        }
    }

    /// Notes that a request spends of several quotas: what it spends of this may come back.
    pub(super) fn begin_several(&self, cost: u64) {
        self.undecided.fetch_add(cost, Ordering::AcqRel);
    }

    pub(super) fn end_several(&self, cost: u64) {
        self.undecided.fetch_sub(cost, Ordering::AcqRel);
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        if old == new {
            return Ok(());
        }
        self.word()
            .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Adds what was taken, answers who waited for it, in their order, and notes what the
    /// store has left: all at one instant.
    fn settle(self: &Arc<Self>, added: u64, left: Left, asked: &[Arc<Asked>]) {
        // Before anybody can see that it is gone from here.
        let taking = asked.iter().filter(|asked| asked.takes);
        let at_most: u64 = taking.map(|asked| asked.cost).sum();
        let before = self.undecided.fetch_add(at_most, Ordering::AcqRel);
        self.note(left);
        let is_owing = left.owed > 0;
        let mut word = self.word().load(Ordering::Acquire);
        loop {
            let mut requests = (word & REQUESTS) + added;
            let mut undecided = before;
            let answers: Vec<Option<Spent>> = asked
                .iter()
                .map(|asked| match requests.checked_sub(asked.cost) {
                    // Given back meanwhile: it pays what is owed, which the store does.
                    _ if is_owing && requests > 0 => None,
                    Some(rest) => {
                        if asked.takes {
                            requests = rest;
                            undecided += asked.cost;
                        }
                        Some(Spent::Covered)
                    }
                    // What is undecided may come back.
                    None if requests + left.remaining + undecided < asked.cost => {
                        Some(self.exhausted(asked.cost))
                    }
                    None => None,
                })
                .collect();
            let new = requests | word & AGE | IS_USED | flags_of(left);
            match self.replace(word, new) {
                Ok(()) => {
                    self.undecided
                        .fetch_sub(at_most - (undecided - before), Ordering::AcqRel);
                    for (asked, answer) in asked.iter().zip(answers) {
                        let takes = asked.takes && answer == Some(Spent::Covered);
                        asked.tell(answer.map(|spent| Answer {
                            spent,
                            taken_from: takes.then(|| self.clone() as Arc<dyn Decide>),
                        }));
                    }
                    return;
                }
                Err(newer) => word = newer,
            }
        }
    }

    /// Takes everything out, before it is in the store: from now on the store must be
    /// asked. Of a quota that owes it stays known: what is given back meanwhile is nobody's
    /// to spend.
    fn take_out(&self) -> u64 {
        let flags = AGE | IS_VOID | IS_USED | IS_OWING;
        self.word().fetch_and(flags, Ordering::AcqRel) & REQUESTS
    }

    /// Puts in what was taken out, or spent, and is not after all.
    pub(super) fn put_in(&self, requests: u64) {
        self.word().fetch_add(requests, Ordering::AcqRel);
    }

    fn void(&self) {
        let age = self.word().load(Ordering::Acquire) & AGE;
        self.word().store(age | IS_VOID, Ordering::Release);
    }

    fn note(&self, left: Left) {
        self.left.store(left.remaining, Ordering::Release);
        self.owed.store(left.owed, Ordering::Release);
    }

    /// Notes what the store has left; says whether it is void then, which it is if nothing is in
    /// it and it may be.
    fn follow(&self, left: Left, may_void: bool) -> bool {
        self.note(left);
        let mut word = self.word().load(Ordering::Acquire);
        loop {
            let is_empty =
                may_void && word & REQUESTS == 0 && self.undecided.load(Ordering::Acquire) == 0;
            let new = match is_empty {
                true => word & AGE | IS_VOID,
                false => word & !(STORE_IS_EMPTY | IS_OWING) | flags_of(left),
            };
            match self.replace(word, new) {
                Ok(()) => return is_empty,
                Err(newer) => word = newer,
            }
        }
    }

    /// Whether it was asked since this was last called.
    fn was_used(&self) -> bool {
        self.word().fetch_and(!IS_USED, Ordering::AcqRel) & IS_USED != 0
    }
}

/// The flags that say what the store has left.
fn flags_of(left: Left) -> u64 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(left.remaining == 0, STORE_IS_EMPTY) | flag(left.owed > 0, IS_OWING)
}

/// What finds a purse by name, without a lock. Changed only under the lock of the purses.
pub(super) trait Index {
    fn find(&self, name: u64) -> Option<Arc<Purse>>;
    fn insert(&self, name: u64, purse: Arc<Purse>);
    fn remove(&self, name: u64);
}

/// The purses. Changed by whoever leads a transaction, between its beginning and its
/// publication, and by nobody else.
pub(super) struct Purses {
    by_number: BTreeMap<u64, Held>,
    fronts: Arc<Slab<Front>>,
    /// The number up to which purses were looked at to be called in.
    hand: u64,
    /// The number up to which purses were looked at for those that have little.
    ahead: u64,
    /// What a transaction has taken out to put it back into the store, until it is
    /// published, or another begins.
    outgoing: Vec<(Arc<Purse>, u64)>,
}

/// A purse, and the names under which the index finds it, in order.
struct Held {
    purse: Arc<Purse>,
    names: Vec<u64>,
}

/// What a commit did to one quota, all in all.
#[derive(Default)]
struct Effect {
    is_changed: bool,
    is_returned: bool,
    /// The last slice that was taken, and the sum of all.
    slice: Option<Slice>,
    added: u64,
    /// What the store has left.
    left: Left,
    asked: Vec<Arc<Asked>>,
}

impl Effect {
    fn take(&mut self, slice: &Slice) {
        self.slice = Some(*slice);
        self.added += slice.requests;
        self.left = slice.left;
    }
}

impl Purses {
    pub(super) fn new(fronts: Arc<Slab<Front>>) -> Self {
        Self {
            by_number: BTreeMap::new(),
            fronts,
            hand: 0,
            ahead: 0,
            outgoing: Vec::new(),
        }
    }

    /// How many there are, without those that are being put back.
    pub(super) fn len(&self) -> usize {
        self.by_number.len().saturating_sub(self.outgoing.len())
    }

    /// What is in memory of a quota as it now is.
    pub(super) fn in_memory(&self, number: u64, record: &QuotaRecord) -> u64 {
        let held = self.by_number.get(&number);
        held.filter(|held| held.purse.is_of(record.period(number)))
            .map_or(0, |held| held.purse.requests())
    }

    /// Whether a quota as it now is has a purse, with little in it.
    pub(super) fn is_low(
        &self,
        (number, record): (u64, &QuotaRecord),
        servers: u64,
        now: Timestamp,
    ) -> bool {
        let held = self.by_number.get(&number);
        let held = held.filter(|held| held.purse.is_of(record.period(number)));
        held.is_some_and(|held| held.purse.is_low(servers, now))
    }

    /// Some that have little.
    pub(super) fn low(&mut self, servers: u64, now: Timestamp) -> Vec<u64> {
        let beyond = (Bound::Excluded(self.ahead), Bound::Unbounded);
        let mut low = Vec::new();
        let mut last = 0;
        for (looked, (number, held)) in (1..).zip(self.by_number.range(beyond)) {
            if held.purse.is_low(servers, now) {
                low.push(*number);
            }
            if looked == LOOKED_AT_AHEAD {
                last = *number;
                break;
            }
        }
        // From the first again once all had their turn.
        self.ahead = last;
        low
    }

    /// What is left of a quota, here and in the store.
    pub(super) fn status(&self, number: u64, now: Timestamp) -> Option<QuotaStatus> {
        self.by_number.get(&number)?.purse.status(now)
    }

    /// The numbers of all in which there is something.
    pub(super) fn filled(&self) -> Vec<u64> {
        let filled = self.by_number.iter();
        filled
            .filter(|(_, held)| held.purse.requests() > 0)
            .map(|(number, _)| *number)
            .collect()
    }

    /// Chooses a few purses to be called in, and takes their names from the index: those
    /// that were not used for longest, about. A purse with many names loses some of them
    /// and stays. Never the one that is excepted: it is about to be used.
    pub(super) fn choose(&mut self, except: u64, index: &impl Index) -> Vec<u64> {
        let beyond = (Bound::Excluded(self.hand), Bound::Unbounded);
        let beyond = self.by_number.range(beyond);
        let next: Vec<u64> = beyond
            .chain(self.by_number.range(..=self.hand))
            .map(|(number, _)| *number)
            .take(LOOKED_AT)
            .collect();
        let mut chosen = Vec::new();
        let mut names = 0;
        // Where all were used, the first of them.
        for is_last_look in [false, true] {
            for number in &next {
                if names + chosen.len() >= AT_ONCE {
                    break;
                }
                self.hand = *number;
                let Some(held) = self.by_number.get_mut(number) else {
                    continue;
                };
                if !is_last_look && held.purse.was_used() {
                    continue;
                }
                let rest = held.names.len().saturating_sub(AT_ONCE);
                let lost = held.names.split_off(rest);
                lost.iter().for_each(|name| index.remove(*name));
                match rest == 0 && *number != except {
                    true => chosen.push(*number),
                    false => names += lost.len(),
                }
            }
            if names + chosen.len() > 0 {
                break;
            }
        }
        chosen
    }

    /// Takes out what is in memory of a quota, for the transaction that runs to put it
    /// back.
    pub(super) fn call_in(&mut self, number: u64) -> Option<(Period, u64)> {
        let purse = self.by_number.get(&number)?.purse.clone();
        let requests = purse.take_out();
        let period = purse.period;
        self.outgoing.push((purse, requests));
        Some((period, requests))
    }

    /// Puts into the purses again what transactions took out that were not committed.
    /// Called as another begins, when it is known what became of those before.
    pub(super) fn undo(&mut self) {
        for (purse, requests) in self.outgoing.drain(..) {
            purse.put_in(requests);
        }
    }

    /// Lets a commit take effect.
    pub(super) fn publish(&mut self, events: &[QuotaEvent], index: &impl Index) {
        self.outgoing.clear();
        let mut effects: BTreeMap<u64, Effect> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for event in events {
            match event {
                QuotaEvent::Changed(number) => {
                    // Who took a slice of it before, in this commit, takes another.
                    let effect = Effect {
                        is_changed: true,
                        ..Effect::default()
                    };
                    effects.insert(*number, effect);
                }
                QuotaEvent::Moved(name) => {
                    names.insert(*name, None);
                }
                QuotaEvent::Taken { name, slice, asked } => {
                    let effect = effects.entry(slice.number).or_default();
                    effect.take(slice);
                    // Where nobody waits any more, what was taken is for others.
                    effect.asked.extend(asked.upgrade());
                    names.insert(*name, Some(slice.number));
                }
                QuotaEvent::Ahead(slice) => effects.entry(slice.number).or_default().take(slice),
                QuotaEvent::Left { number, left } => {
                    effects.entry(*number).or_default().left = *left;
                }
                QuotaEvent::Returned { number, left } => {
                    let effect = effects.entry(*number).or_default();
                    (effect.is_returned, effect.left) = (true, *left);
                }
            }
        }
        for (number, effect) in effects {
            self.apply(number, &effect, index);
        }
        for (name, number) in names {
            self.rename(name, number, index);
        }
    }

    fn apply(&mut self, number: u64, effect: &Effect, index: &impl Index) {
        if effect.is_changed {
            self.drop_purse(number, index);
        }
        let Some(slice) = &effect.slice else {
            let held = self.by_number.get(&number);
            let follows = |held: &Held| held.purse.follow(effect.left, effect.is_returned);
            if held.is_some_and(follows) {
                self.drop_purse(number, index);
            }
            return;
        };
        let held = self.by_number.get(&number);
        let known = held.filter(|held| held.purse.is_of(slice.period()));
        let purse = match known {
            Some(known) => known.purse.clone(),
            None => {
                // Of an earlier period: it was refilled since.
                self.drop_purse(number, index);
                let purse = Arc::new(Purse::new(slice, &self.fronts));
                let held = Held {
                    purse: purse.clone(),
                    names: Vec::new(),
                };
                self.by_number.insert(number, held);
                purse
            }
        };
        purse.settle(effect.added, effect.left, &effect.asked);
    }

    fn drop_purse(&mut self, number: u64, index: &impl Index) {
        if let Some(held) = self.by_number.remove(&number) {
            held.purse.void();
            held.names.iter().for_each(|name| index.remove(*name));
        }
    }

    /// Lets a name lead to the purse of a number, or to none.
    fn rename(&mut self, name: u64, number: Option<u64>, index: &impl Index) {
        if let Some(old) = index.find(name) {
            if Some(old.period.number) == number {
                return;
            }
            index.remove(name);
            if let Some(held) = self.by_number.get_mut(&old.period.number)
                && let Ok(at) = held.names.binary_search(&name)
            {
                held.names.remove(at);
            }
        }
        if let Some(held) = number.and_then(|number| self.by_number.get_mut(&number))
            && let Err(at) = held.names.binary_search(&name)
        {
            held.names.insert(at, name);
            index.insert(name, held.purse.clone());
        }
    }
}
