//! The purses' protocol under loom: every order of the steps of a few threads, with as
//! many preemptions as are said, and every value that the memory model allows a read.
//!
//! The store is one record here, and its lock the lead of a transaction: it is held until
//! what was done is published, as the queue and the lock of the file hold it in the engine.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::front::{Front, REQUESTS};
use super::purses::{Index, Purse, Purses};
use crate::memory::slab::Slab;
use crate::model::clock::Timestamp;
use crate::model::quota::Quota;
use crate::model::time::When;
use crate::store::quota::{Asked, QuotaEvent, QuotaRecord, Spent};
use crate::sync::table::{Mutex, Ordering, lock};

const NUMBER: u64 = 5;
/// A key and its successor, which share the quota.
const FIRST: u64 = 0;
const SECOND: u64 = 1;

fn now() -> Timestamp {
    Timestamp::from_raw(1_767_225_600_000)
}

#[derive(Default)]
struct Names([Mutex<Option<Arc<Purse>>>; 2]);

impl Names {
    fn of(&self, name: u64) -> &Mutex<Option<Arc<Purse>>> {
        &self.0[usize::try_from(name).unwrap()]
    }
}

impl Index for Names {
    fn find(&self, name: u64) -> Option<Arc<Purse>> {
        lock(self.of(name)).clone()
    }

    fn insert(&self, name: u64, purse: Arc<Purse>) {
        *lock(self.of(name)) = Some(purse);
    }

    fn remove(&self, name: u64) {
        *lock(self.of(name)) = None;
    }
}

struct Store {
    record: Mutex<QuotaRecord>,
    purses: Mutex<Purses>,
    names: Names,
    /// Set by the writer once its call would have returned.
    returned: AtomicBool,
}

impl Store {
    fn new(requests: u64) -> Arc<Self> {
        Arc::new(Self {
            record: Mutex::new(QuotaRecord::new(Quota::new(requests), 1, 7, now())),
            purses: Mutex::new(Purses::new(Arc::new(Slab::new(2)))),
            names: Names::default(),
            returned: AtomicBool::new(false),
        })
    }

    fn publish(&self, event: QuotaEvent) {
        lock(&self.purses).publish(&[event], &self.names);
    }

    /// A request: from memory, or from the store, which adds to memory.
    fn spend(&self, name: u64, cost: u64) -> bool {
        loop {
            let found = self.names.find(name);
            if let Some(spent) = found.and_then(|purse| purse.spend(cost, now())) {
                return spent == Spent::Covered;
            }
            let asked = Arc::new(Asked::new(cost, true));
            {
                let mut record = lock(&self.record);
                let in_memory = lock(&self.purses).in_memory(NUMBER, &record);
                let slice = record.take_slice(NUMBER, cost, in_memory, 0);
                let asked = Arc::downgrade(&asked);
                self.publish(QuotaEvent::Taken { name, slice, asked });
            }
            if let Some(answer) = asked.take_answer() {
                // No other level refuses it.
                answer.taken_from.inspect(|purse| purse.decide(cost, true));
                return answer.spent == Spent::Covered;
            }
            // What another has not decided on may come back: it is its turn.
            thread::yield_now();
        }
    }

    /// What takes a slice before a request needs it, if it finds that there is little.
    fn take_ahead(&self) {
        let numbers = lock(&self.purses).low(0, now());
        for number in numbers {
            let mut record = lock(&self.record);
            if lock(&self.purses).is_low((number, &record), 0, now()) {
                let slice = record.take_ahead(number, 0);
                self.publish(QuotaEvent::Ahead(slice));
            }
        }
    }

    /// A transaction that calls in what is in memory, and is committed or not.
    fn put_back(&self, is_committed: bool) {
        let mut record = lock(&self.record);
        let Some((period, requests)) = lock(&self.purses).call_in(NUMBER) else {
            return;
        };
        if is_committed {
            record.put_back(period, requests);
            let left = record.left();
            self.publish(QuotaEvent::Returned {
                number: NUMBER,
                left,
            });
        } else {
            lock(&self.purses).undo();
        }
    }

    /// A commit that puts another quota in its place.
    fn change(&self, requests: u64) {
        let mut record = lock(&self.record);
        *record = QuotaRecord::new(Quota::new(requests), 1, 8, now());
        self.publish(QuotaEvent::Changed(NUMBER));
        drop(record);
        self.returned.store(true, Ordering::Release);
    }

    /// What is left, in the store and in memory.
    fn left(&self) -> u64 {
        let record = lock(&self.record);
        record.remaining + lock(&self.purses).in_memory(NUMBER, &record)
    }
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Spawns a thread that does something to a store.
fn beside<T: 'static>(
    store: &Arc<Store>,
    run: impl FnOnce(&Store) -> T + 'static,
) -> thread::JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || run(&store))
}

#[test]
fn three_requests_for_two_that_are_left_are_two_grants() {
    explore(3, || {
        let store = Store::new(2);
        let rivals = [FIRST, SECOND].map(|name| beside(&store, move |store| store.spend(name, 1)));
        let mut granted = u32::from(store.spend(FIRST, 1));
        for rival in rivals {
            granted += u32::from(rival.join().unwrap());
        }
        assert_eq!((granted, store.left()), (2, 0));
    });
}

#[test]
fn a_request_for_what_memory_and_store_have_together_is_granted() {
    explore(3, || {
        let store = Store::new(15);
        assert!(store.spend(FIRST, 1));
        // 9 in memory and 5 in the store: together enough for both.
        let dear = beside(&store, |store| store.spend(SECOND, 12));
        assert!(
            store.spend(FIRST, 2),
            "2 of 14, 12 of which are for another"
        );
        assert!(dear.join().unwrap(), "12 of 14, 2 of which are for another");
        assert_eq!(store.left(), 0);
    });
}

#[test]
fn what_is_taken_ahead_is_spent_once_whoever_else_takes_or_returns_it() {
    explore(3, || {
        let store = Store::new(13);
        // 10 in memory, of which 9 are left, and 3 in the store; then 1 and 3.
        assert!(store.spend(FIRST, 1) && store.spend(FIRST, 8));
        let ahead = beside(&store, |store| store.take_ahead());
        let other = beside(&store, |store| store.put_back(true));
        assert!(store.spend(SECOND, 2), "4 are left");
        ahead.join().unwrap();
        other.join().unwrap();
        assert_eq!(store.left(), 2);
        assert!(store.spend(FIRST, 2), "2 are left");
        assert!(!store.spend(FIRST, 1) && store.left() == 0);
    });
}

/// What a request does that spends of several quotas, of which another refuses it.
fn spend_and_give_back(store: &Store, name: u64) {
    let Some(purse) = store.names.find(name) else {
        return;
    };
    purse.begin_several(1);
    if purse.spend(1, now()) == Some(Spent::Covered) {
        purse.put_in(1);
    }
    purse.end_several(1);
}

#[test]
fn a_request_beside_one_of_several_quotas_that_gives_back_is_granted() {
    explore(3, || {
        let store = Store::new(2);
        assert!(store.spend(FIRST, 1));
        // 1 in memory and none in the store.
        let other = beside(&store, |store| spend_and_give_back(store, FIRST));
        assert!(store.spend(FIRST, 1), "1 is left, and is for nobody else");
        other.join().unwrap();
        assert_eq!(store.left(), 0);
        assert!(!store.spend(FIRST, 1));
    });
}

#[test]
fn requests_beside_a_return_find_what_is_left_on_either_side_of_it() {
    for is_committed in [true, false] {
        explore(3, move || {
            let store = Store::new(10);
            assert!(store.spend(FIRST, 7));
            // 3 in memory and none in the store.
            let other = beside(&store, move |store| store.put_back(is_committed));
            assert!(store.spend(FIRST, 1), "3 are left");
            assert!(store.spend(SECOND, 2), "2 are left");
            assert!(!store.spend(FIRST, 1), "none is left");
            other.join().unwrap();
            assert_eq!(store.left(), 0);
            assert!(!store.spend(FIRST, 1));
        });
    }
}

#[test]
fn a_request_that_takes_a_slice_beside_a_return_is_granted() {
    for is_committed in [true, false] {
        explore(3, move || {
            let store = Store::new(15);
            assert!(store.spend(FIRST, 1));
            let other = beside(&store, move |store| store.put_back(is_committed));
            let dear = beside(&store, |store| store.spend(SECOND, 13));
            assert!(store.spend(FIRST, 1), "14 are left, and 13 are for another");
            assert!(dear.join().unwrap(), "14 are left, and 1 is for another");
            other.join().unwrap();
            assert_eq!(store.left(), 0);
        });
    }
}

#[test]
fn after_a_change_has_returned_the_new_quota_is_spent_and_all_of_it() {
    explore(3, || {
        let store = Store::new(30);
        assert!(store.spend(FIRST, 1));
        let changer = beside(&store, |store| store.change(2));
        let mut after = 0;
        for name in [FIRST, SECOND] {
            let has_returned = store.returned.load(Ordering::Acquire);
            let is_granted = store.spend(name, 1);
            assert!(is_granted, "29 are left, or 2");
            after += u64::from(has_returned);
        }
        changer.join().unwrap();
        let left = store.left();
        assert!(left + after <= 2, "more than the new quota");
        for _ in 0..left {
            assert!(store.spend(FIRST, 1));
        }
        assert!(!store.spend(SECOND, 1), "{left} were left");
    });
}

/// Another purse takes the place that a request has found by a hint, and holds as much.
#[test]
fn a_request_by_a_hint_spends_of_the_purse_that_it_read_or_of_none() {
    explore(3, || {
        let front = Arc::new(Front::default());
        let begin = |front: &Front, name| {
            front.begin(
                &QuotaRecord::new(Quota::new(9), 1, 7, now()).period(NUMBER),
                Quota::new(9),
            );
            front.name(name);
            front.word.fetch_add(3, Ordering::AcqRel);
        };
        begin(&front, FIRST);
        let place = front.clone();
        let request = thread::spawn(move || place.spends(FIRST, 1, When::exact(now())));
        front.end();
        begin(&front, SECOND);
        request.join().unwrap();
        assert_eq!(front.word.load(Ordering::Acquire) & REQUESTS, 3);
        assert!(!front.spends(FIRST, 1, When::exact(now())));
        assert!(front.spends(SECOND, 3, When::exact(now())));
    });
}
