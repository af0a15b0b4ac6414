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
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::quota::Quota;
use crate::store::quota::{Answer, Asked, Decide, QuotaEvent, QuotaRecord, Slice, Spent, is_due};
use crate::sync::table::{AtomicU64, Ordering};

/// The most purses that one request's transaction calls in, and the most names that it
/// takes from a purse which has many.
const AT_ONCE: usize = 16;
/// The most purses that one request looks at to find those.
const LOOKED_AT: usize = 64;

/// The store had nothing left when it was last written.
const STORE_IS_EMPTY: u64 = 1 << 63;
/// What is here counts no more.
const IS_VOID: u64 = 1 << 62;
/// It was asked since the hand last came by.
const IS_USED: u64 = 1 << 61;
const REQUESTS: u64 = IS_USED - 1;

/// What is in memory of a quota, in one period of it.
#[derive(Debug)]
pub(crate) struct Purse {
    number: u64,
    revision: u64,
    refills_at: Timestamp,
    /// How far ahead that can be.
    reach: Duration,
    quota: Quota,
    /// What the store had left when a slice was last taken: lowered before that is in the
    /// word, so that who reads the word first never finds a request in both.
    left: AtomicU64,
    /// How many requests are here, with the flags above. One word, so that who finds too
    /// little here and who finds the store empty find both at one instant.
    word: AtomicU64,
    /// What was taken for requests that waited for it, and that may still be refused by
    /// another level, which gives it back. While there is any, the quota is not exhausted.
    undecided: AtomicU64,
}

impl Decide for Purse {
    fn decide(&self, cost: u64, is_spent: bool) {
        if !is_spent {
            self.put_in(cost);
        }
        self.undecided.fetch_sub(cost, Ordering::AcqRel);
    }
}

impl Purse {
    fn new(slice: &Slice) -> Self {
        Self {
            number: slice.number,
            revision: slice.revision,
            refills_at: slice.refills_at,
            reach: slice.reach,
            quota: slice.quota,
            left: AtomicU64::new(0),
            word: AtomicU64::new(0),
            undecided: AtomicU64::new(0),
        }
    }

    pub(super) fn is_of(&self, revision: u64, refills_at: Timestamp) -> bool {
        (self.revision, self.refills_at) == (revision, refills_at)
    }

    fn requests(&self) -> u64 {
        self.word.load(Ordering::Acquire) & REQUESTS
    }

    /// The quota, what is left of it, here and in the store, and when it is refilled; `None`
    /// where the store must be asked.
    pub(super) fn left(&self, now: Timestamp) -> Option<(Quota, u64, Timestamp)> {
        if is_due(self.refills_at, now) || self.is_too_far_ahead(now) {
            return None;
        }
        let word = self.word.load(Ordering::Acquire);
        let left = (word & REQUESTS) + self.left.load(Ordering::Acquire);
        (word & IS_VOID == 0).then_some((self.quota, left, self.refills_at))
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

    /// What spending would come to, without spending.
    pub(super) fn look(&self, cost: u64, now: Timestamp) -> Option<Spent> {
        self.read(cost, now).map(|(_, spent)| spent)
    }

    /// What spending comes to, and the word that says so; `None` where the store must be
    /// asked.
    fn read(&self, cost: u64, now: Timestamp) -> Option<(u64, Spent)> {
        if is_due(self.refills_at, now) || self.is_too_far_ahead(now) {
            return None;
        }
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & IS_VOID != 0 {
                return None;
            }
            if word & REQUESTS >= cost {
                return Some((word, Spent::Covered));
            }
            // After the word: what is undecided was noted before it left the word.
            if word & STORE_IS_EMPTY == 0 || self.undecided.load(Ordering::Acquire) > 0 {
                return None;
            }
            // What was given back before that is seen now.
            let again = self.word.fetch_or(IS_USED, Ordering::AcqRel);
            if again & !IS_USED == word & !IS_USED {
                let spent = Spent::exhausted(self.refills_at, cost, self.quota.requests);
                return Some((word, spent));
            }
            word = again;
        }
    }

    /// Whether the refill is further away than it can be by a clock that is right: the
    /// clock was ahead when it was set, and the store knows what is due.
    fn is_too_far_ahead(&self, now: Timestamp) -> bool {
        self.refills_at < Timestamp::MAX && self.refills_at > now.saturating_add(self.reach)
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        if old == new {
            return Ok(());
        }
        self.word
            .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Adds what was taken, answers who waited for it, in their order, and notes what the
    /// store has left: all at one instant.
    fn settle(self: &Arc<Self>, added: u64, left: u64, asked: &[Arc<Asked>]) {
        // Before anybody can see that it is gone from here.
        let taking = asked.iter().filter(|asked| asked.takes);
        let at_most: u64 = taking.map(|asked| asked.cost).sum();
        let before = self.undecided.fetch_add(at_most, Ordering::AcqRel);
        self.left.store(left, Ordering::Release);
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let mut requests = (word & REQUESTS) + added;
            let mut undecided = before;
            let answers: Vec<Option<Spent>> = asked
                .iter()
                .map(|asked| match requests.checked_sub(asked.cost) {
                    Some(rest) => {
                        if asked.takes {
                            requests = rest;
                            undecided += asked.cost;
                        }
                        Some(Spent::Covered)
                    }
                    // What is undecided may come back.
                    None if requests + left + undecided < asked.cost => Some(Spent::exhausted(
                        self.refills_at,
                        asked.cost,
                        self.quota.requests,
                    )),
                    None => None,
                })
                .collect();
            let new = requests | IS_USED | if left == 0 { STORE_IS_EMPTY } else { 0 };
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
    /// asked.
    fn take_out(&self) -> u64 {
        let flags = IS_VOID | IS_USED;
        self.word.fetch_and(flags, Ordering::AcqRel) & REQUESTS
    }

    /// Puts in what was taken out, or spent, and is not after all.
    pub(super) fn put_in(&self, requests: u64) {
        self.word.fetch_add(requests, Ordering::AcqRel);
    }

    fn void(&self) {
        self.word.store(IS_VOID, Ordering::Release);
    }

    /// Voids it if there is nothing in it, and else notes whether the store is empty.
    fn void_if_empty(&self, store_is_empty: bool) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let is_empty = word & REQUESTS == 0 && self.undecided.load(Ordering::Acquire) == 0;
            let new = match (is_empty, store_is_empty) {
                (true, _) => IS_VOID,
                (false, true) => word | STORE_IS_EMPTY,
                (false, false) => word & !STORE_IS_EMPTY,
            };
            match self.replace(word, new) {
                Ok(()) => return is_empty,
                Err(newer) => word = newer,
            }
        }
    }

    /// Whether it was asked since this was last called.
    fn was_used(&self) -> bool {
        self.word.fetch_and(!IS_USED, Ordering::AcqRel) & IS_USED != 0
    }
}

/// What finds a purse by name, without a lock. Changed only under the lock of the purses.
pub(super) trait Index {
    fn find(&self, name: u64) -> Option<Arc<Purse>>;
    fn insert(&self, name: u64, purse: Arc<Purse>);
    fn remove(&self, name: u64);
}

/// The purses. Changed by whoever leads a transaction, between its beginning and its
/// publication, and by nobody else.
#[derive(Default)]
pub(super) struct Purses {
    by_number: BTreeMap<u64, Held>,
    /// The number up to which purses were looked at to be called in.
    hand: u64,
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
    /// The last slice that was taken, and the sum of all.
    slice: Option<Slice>,
    added: u64,
    /// What the store has left.
    left: u64,
    asked: Vec<Arc<Asked>>,
}

impl Purses {
    /// How many there are, without those that are being put back.
    pub(super) fn len(&self) -> usize {
        self.by_number.len().saturating_sub(self.outgoing.len())
    }

    /// As [`Purse::left`], by the quota's number.
    pub(super) fn left(&self, number: u64, now: Timestamp) -> Option<(Quota, u64, Timestamp)> {
        self.by_number.get(&number)?.purse.left(now)
    }

    /// What is in memory of a quota as it now is.
    pub(super) fn in_memory(&self, number: u64, record: &QuotaRecord) -> u64 {
        let held = self.by_number.get(&number);
        held.filter(|held| held.purse.is_of(record.revision, record.refills_at))
            .map_or(0, |held| held.purse.requests())
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
    pub(super) fn call_in(&mut self, number: u64) -> Option<Slice> {
        let purse = self.by_number.get(&number)?.purse.clone();
        let requests = purse.take_out();
        let slice = Slice {
            number,
            requests,
            refills_at: purse.refills_at,
            reach: purse.reach,
            quota: purse.quota,
            revision: purse.revision,
            left: 0,
        };
        self.outgoing.push((purse, requests));
        Some(slice)
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
                    effect.slice = Some(*slice);
                    effect.added += slice.requests;
                    effect.left = slice.left;
                    // Where nobody waits any more, what was taken is for others.
                    effect.asked.extend(asked.upgrade());
                    names.insert(*name, Some(slice.number));
                }
                QuotaEvent::Returned { number, left } => {
                    effects.entry(*number).or_default().left = *left;
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
            if held.is_some_and(|held| held.purse.void_if_empty(effect.left == 0)) {
                self.drop_purse(number, index);
            }
            return;
        };
        let held = self.by_number.get(&number);
        let known = held.filter(|held| held.purse.is_of(slice.revision, slice.refills_at));
        let purse = match known {
            Some(known) => known.purse.clone(),
            None => {
                // Of an earlier period: it was refilled since.
                self.drop_purse(number, index);
                let purse = Arc::new(Purse::new(slice));
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
            if Some(old.number) == number {
                return;
            }
            index.remove(name);
            if let Some(held) = self.by_number.get_mut(&old.number)
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
