//! Where the counters of limits live: in memory, bounded, by key.
//!
//! A counter is one atomic word a limit, changed by compare-and-swap: no lock is
//! taken for a key that is known. A request is charged limit by limit; one that a
//! later limit refuses is taken back from those before. So no limit is ever
//! passed. While a dear request is being refused, a cheap one may be refused with
//! it; requests of equal cost that fit are never refused.
//!
//! Counters are not durable: a restart begins all windows anew.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::hash::IdHasher;
use crate::memory::sweep::Sweeps;
use crate::model::bounds::LIMITS_PER_PLAN_MAX;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::limit::{Charged, Counter, Limit, LimitStatus};
use crate::model::plan::Plan;
use crate::model::verdict::Standing;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// In the first word of counters that were dropped for being idle. No counter
/// reads so: [`Limit::REQUESTS_MAX`] is too small.
const DEAD: u64 = u64::MAX;

/// A keyspace, a plan's number and an owner.
type SharedBy = (u32, u16, Vec<u8>);
/// By key and plan: a request that was judged by an older plan of its key does not
/// meet the counters of the newer.
type Map = papaya::HashMap<(u64, u16), Arc<Counters>, BuildHasherDefault<IdHasher>>;

/// Why a request is not admitted.
pub(crate) struct OverLimit {
    pub(crate) status: LimitStatus,
    pub(crate) retry_after: Option<Duration>,
}

/// Who is counted, and under what.
pub(crate) struct Subject<'a> {
    pub(crate) key: KeyId,
    pub(crate) keyspace: u32,
    /// The keyspace's, by which an older state of a plan is told from a newer.
    pub(crate) revision: u64,
    pub(crate) owner: &'a [u8],
    pub(crate) plan_number: u16,
    pub(crate) plan: &'a Plan,
}

impl Subject<'_> {
    fn place(&self) -> (u64, u16) {
        (self.key.raw(), self.plan_number)
    }
}

/// A charge that may be taken back.
pub(crate) struct Receipt {
    counters: Arc<Counters>,
    cost: u32,
    charged: [Counter; LIMITS_PER_PLAN_MAX],
}

/// What a request was charged to, and where that leaves its key.
pub(crate) struct Admitted {
    pub(crate) standing: Standing,
    pub(crate) receipt: Option<Receipt>,
}

impl Receipt {
    /// Takes the charge back: the request was refused for another reason.
    pub(crate) fn give_back(self) {
        self.counters.give_back(&self.charged, self.cost);
    }
}

pub(crate) struct Limiter {
    counters: Map,
    /// The counters that the keys of an owner share. Its lock is held whenever
    /// `counters` gets or loses a key.
    shared: Mutex<HashMap<SharedBy, Arc<Counters>>>,
    /// The most keys that are counted at a time.
    keys_max: usize,
    sweeps: Sweeps,
}

struct Counters {
    limits: Box<[Limit]>,
    shared: bool,
    /// The revision of the keyspace in which the plan read so.
    revision: u64,
    words: [AtomicU64; LIMITS_PER_PLAN_MAX],
}

impl Limiter {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            counters: papaya::HashMap::with_hasher(BuildHasherDefault::default()),
            shared: Mutex::default(),
            keys_max,
            sweeps: Sweeps::new(keys_max),
        }
    }

    /// Charges a request to all limits of a plan, or to none. With a receipt, where
    /// it is asked for.
    pub(crate) fn charge(
        &self,
        subject: &Subject<'_>,
        cost: u32,
        now: Timestamp,
        with_receipt: bool,
    ) -> Result<Option<Admitted>, OverLimit> {
        let Some(first) = subject.plan.limits.first() else {
            return Ok(None);
        };
        let counters = self.counters.pin();
        loop {
            let known = counters.get(&subject.place());
            let Some(found) = known.filter(|known| known.count_for(subject)) else {
                if !self.admit(subject, now) {
                    // Fail closed: what cannot be counted is not let through.
                    return Err(OverLimit::for_want_of_room(*first, now));
                }
                continue;
            };
            let mut charged = [Counter::default(); LIMITS_PER_PLAN_MAX];
            if let Some(result) = found.charge(cost, now, &mut charged) {
                return result.map(|standing| {
                    Some(Admitted {
                        standing,
                        receipt: with_receipt.then(|| Receipt {
                            counters: found.clone(),
                            cost,
                            charged,
                        }),
                    })
                });
            }
        }
    }

    /// Begins all windows anew, as a restart does.
    pub(crate) fn forget(&self) {
        let mut shared = lock(&self.shared);
        self.counters.pin().clear();
        shared.clear();
    }

    /// How many keys are counted.
    pub(crate) fn len(&self) -> usize {
        self.counters.len()
    }

    /// Gives a key counters, or those that it shares, unless it has them; says
    /// whether there was room. One at a time, so that no two of a key's requests
    /// are counted apart.
    fn admit(&self, subject: &Subject<'_>, now: Timestamp) -> bool {
        let mut shared = lock(&self.shared);
        let counters = self.counters.pin();
        let known = counters.get(&subject.place());
        if known.is_some_and(|known| known.count_for(subject)) {
            return true;
        }
        if known.is_none() && self.sweeps.is_due(counters.len()) {
            self.sweep(&mut shared, now);
            if counters.len() >= self.keys_max {
                return false;
            }
        }
        let admitted = if subject.plan.shared_by_owner {
            let name = (
                subject.keyspace,
                subject.plan_number,
                subject.owner.to_vec(),
            );
            let found = shared.get(&name).filter(|found| found.count_for(subject));
            match found {
                Some(found) => found.clone(),
                None => {
                    let new = Arc::new(Counters::new(subject));
                    if let Some(old) = shared.insert(name, new.clone()) {
                        // Else those who share it would go on with the old ones.
                        old.die();
                    }
                    new
                }
            }
        } else {
            Arc::new(Counters::new(subject))
        };
        counters.insert(subject.place(), admitted);
        true
    }

    /// Drops what is idle.
    fn sweep(&self, shared: &mut HashMap<SharedBy, Arc<Counters>>, now: Timestamp) {
        // Where nothing was idle a moment ago, nothing is.
        if self.sweeps.is_paused(now) {
            return;
        }
        let before = self.counters.len();
        self.counters
            .pin()
            .retain(|_, counters| !counters.die_if_idle(now));
        shared.retain(|_, counters| !counters.is_dead() && !counters.die_if_idle(now));
        let len = self.counters.len();
        if len == before {
            self.sweeps.pause(now);
        }
        self.sweeps.left(len);
    }
}

impl OverLimit {
    fn for_want_of_room(limit: Limit, now: Timestamp) -> Self {
        let status = match Counter::default().charge(limit, 0, now) {
            Charged::Admitted(_, status) | Charged::Refused(status, _) => status.exhausted(),
        };
        Self {
            status,
            retry_after: Some(Duration::from_secs(1)),
        }
    }
}

impl Counters {
    fn new(subject: &Subject<'_>) -> Self {
        Self {
            limits: subject.plan.limits.clone().into_boxed_slice(),
            shared: subject.plan.shared_by_owner,
            revision: subject.revision,
            words: std::array::from_fn(|_| AtomicU64::new(Counter::default().0)),
        }
    }

    /// Whether they still count, and under the plan as it is now: a changed one
    /// counts anew. A request that knows only an older state of the plan is counted
    /// under the newer.
    fn count_for(&self, subject: &Subject<'_>) -> bool {
        let plan = subject.plan;
        let is_same = *self.limits == *plan.limits && self.shared == plan.shared_by_owner;
        !self.is_dead() && (is_same || self.revision > subject.revision)
    }

    fn each(&self) -> impl Iterator<Item = (Limit, &AtomicU64)> {
        self.limits.iter().copied().zip(&self.words)
    }

    /// `None` where the counters were dropped meanwhile.
    fn charge(
        &self,
        cost: u32,
        now: Timestamp,
        charged: &mut [Counter; LIMITS_PER_PLAN_MAX],
    ) -> Option<Result<Standing, OverLimit>> {
        let mut standing: Option<Standing> = None;
        for (at, (limit, word)) in self.each().enumerate() {
            let mut old = word.load(Ordering::Relaxed);
            let status = loop {
                // Only the first word can say so: whoever drops the counters
                // changes that one, and it is charged first.
                if old == DEAD {
                    return None;
                }
                let (new, status) = match Counter(old).charge(limit, cost, now) {
                    Charged::Admitted(new, status) => (new, status),
                    Charged::Refused(status, retry_after) => {
                        self.give_back(charged.get(..at).unwrap_or(&[]), cost);
                        let refused = OverLimit {
                            status,
                            retry_after,
                        };
                        return Some(Err(self.longest_wait(at + 1, refused, cost, now)));
                    }
                };
                match word.compare_exchange_weak(old, new.0, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        if let Some(charged) = charged.get_mut(at) {
                            *charged = new;
                        }
                        break status;
                    }
                    Err(newer) => old = newer,
                }
            };
            standing = Some(match standing {
                None => Standing {
                    tightest: status,
                    longest: status,
                },
                Some(standing) => standing.with(status),
            });
        }
        standing.map(Ok)
    }

    /// Of a refusal and those of the limits from `from` on, the one to wait
    /// longest for.
    fn longest_wait(&self, from: usize, first: OverLimit, cost: u32, now: Timestamp) -> OverLimit {
        let later = self.each().skip(from).filter_map(|(limit, word)| {
            match Counter(word.load(Ordering::Relaxed)).charge(limit, cost, now) {
                Charged::Admitted(..) => None,
                Charged::Refused(status, retry_after) => Some(OverLimit {
                    status,
                    retry_after,
                }),
            }
        });
        let wait = |refused: &OverLimit| refused.retry_after.unwrap_or(Duration::MAX);
        later.fold(first, |longest, other| {
            match wait(&other) > wait(&longest) {
                true => other,
                false => longest,
            }
        })
    }

    /// Takes a charge back from the first limits, given what their counters were
    /// right after it.
    fn give_back(&self, charged: &[Counter], cost: u32) {
        for ((_, word), charged) in self.each().zip(charged) {
            // An error: the counters were dropped, and nothing is owed.
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                (old != DEAD).then(|| Counter(old).give_back(cost, *charged).0)
            });
        }
    }

    /// Makes whoever is counted here be admitted anew.
    fn die(&self) {
        if let Some(first) = self.words.first() {
            first.store(DEAD, Ordering::Release);
        }
    }

    fn is_dead(&self) -> bool {
        self.words
            .first()
            .is_none_or(|word| word.load(Ordering::Relaxed) == DEAD)
    }

    /// Marks them as dropped where nothing in them counts any more, and says
    /// whether they are.
    fn die_if_idle(&self, now: Timestamp) -> bool {
        let Some(first) = self.words.first() else {
            return true;
        };
        // Before the others are looked at: a request that is charged meanwhile
        // changes the first word.
        let seen = first.load(Ordering::Acquire);
        if seen == DEAD {
            return true;
        }
        let is_idle = self
            .each()
            .all(|(limit, word)| Counter(word.load(Ordering::Acquire)).is_idle(limit, now));
        is_idle
            && first
                .compare_exchange(seen, DEAD, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_goes_back_to_the_plan_that_it_was_made_in() {
        let now = Timestamp::from_raw(1_767_225_600_000);
        let limiter = Limiter::new(10);
        let plans = ["a", "b"].map(|name| Plan::new(name).limit(Limit::per_hour(6)));
        let charge = |number: u16| {
            let subject = Subject {
                key: KeyId::from_raw(1),
                keyspace: 0,
                revision: 1,
                owner: b"acme",
                plan_number: number,
                plan: &plans[usize::from(number) - 1],
            };
            limiter.charge(&subject, 1, now, true)
        };
        let in_a = charge(1)
            .ok()
            .flatten()
            .and_then(|admitted| admitted.receipt);
        assert!((0..6).all(|_| charge(2).is_ok()));
        in_a.unwrap().give_back();
        assert!(charge(2).is_err(), "nothing of it is b's");
        assert!((0..6).all(|_| charge(1).is_ok()));
        assert!(charge(1).is_err());
    }

    fn counted<'a>(owner: &'a [u8], key: u64, plan: &'a Plan) -> Subject<'a> {
        Subject {
            key: KeyId::from_raw(key),
            keyspace: 0,
            revision: 1,
            owner,
            plan_number: 1,
            plan,
        }
    }

    #[test]
    fn counters_that_an_owner_shares_are_dropped_with_those_of_its_keys() {
        let plan = Plan::new("team")
            .limit(Limit::per_minute(5))
            .shared_by_owner();
        let limiter = Limiter::new(100);
        let mut now = Timestamp::from_raw(1_767_225_600_000);
        for round in 0..20 {
            for at in 0..100_u64 {
                let owner = (round * 100 + at / 2).to_be_bytes();
                let key = round * 100 + at;
                let charged = limiter.charge(&counted(&owner, key, &plan), 1, now, false);
                assert!(charged.is_ok());
            }
            assert_eq!(limiter.len(), 100);
            let shared = lock(&limiter.shared).len();
            assert_eq!(shared, 50, "round {round}");
            now = now.saturating_add(Duration::from_secs(120));
        }
    }

    #[test]
    fn a_charge_that_races_the_end_of_idle_counters_is_kept_or_made_anew() {
        let plan = Plan::new("p").limit(Limit::per_minute(1_000_000));
        let limiter = Limiter::new(1);
        let now = Timestamp::from_raw(1_767_225_600_000);
        let subject = counted(b"acme", 1, &plan);
        for _ in 0..200 {
            limiter.forget();
            limiter.admit(&subject, now);
            let found = limiter.counters.pin().get(&subject.place()).cloned();
            let found = found.unwrap();
            let mut charged = [Counter::default(); LIMITS_PER_PLAN_MAX];
            let (is_charged, is_dropped) = std::thread::scope(|scope| {
                let dropper = scope.spawn(|| found.die_if_idle(now));
                let is_charged = found.charge(1, now, &mut charged).is_some();
                (is_charged, dropper.join().unwrap())
            });
            assert_ne!(is_charged, is_dropped);
            assert_eq!(found.is_dead(), is_dropped);
        }
    }
}
