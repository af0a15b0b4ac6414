use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::quota::Quota;
use crate::model::time::When;
use crate::store::quota::{Asked, QuotaEvent, QuotaRecord, Spent};

fn at(ms: u64) -> Timestamp {
    Timestamp::from_raw(1_767_225_600_000 + ms)
}

/// A store in which the quota of a key stands under the key's number, but for keys from
/// [`SHARED`] on, which all share the quota of that number.
struct Store {
    records: RefCell<BTreeMap<u64, QuotaRecord>>,
    quotas: Quotas,
    commits: Cell<u32>,
    /// How many slices were put back.
    returned: Cell<usize>,
}

const SHARED: u64 = 1_000_000;

/// What a request is told, which it spends if it was taken for it.
fn answer_of(asked: &Asked) -> Option<Spent> {
    let answer = asked.take_answer()?;
    answer
        .taken_from
        .inspect(|purse| purse.decide(asked.cost, true));
    Some(answer.spent)
}

/// Spends of what is in memory; `None`: the store must be asked.
fn from_memory(quotas: &Quotas, name: u64, cost: u64) -> Option<Spent> {
    match quotas.spend(&[name], cost, at(0), |_, _| ()) {
        Ok(()) => Some(Spent::Covered),
        Err((_, spent)) => spent,
    }
}

/// Spends as a request does that no other level refuses; `None`: there is no quota.
fn spend(
    quotas: &Quotas,
    name: u64,
    cost: u64,
    take: impl Fn(&Arc<Asked>) -> Result<bool, Error>,
) -> Result<Option<Spent>, Error> {
    loop {
        if let Some(spent) = from_memory(quotas, name, cost) {
            return Ok(Some(spent));
        }
        match quotas.fetch(name, cost, true, at(0), &take)? {
            Fetched::InMemory => {}
            Fetched::Taken(taken) => {
                taken.decide(true);
                return Ok(Some(Spent::Covered));
            }
            Fetched::Exhausted { refills_at } => return Ok(Some(Spent::Exhausted { refills_at })),
            Fetched::Gone => return Ok(None),
        }
    }
}

impl Store {
    fn new(keys_max: usize, quotas: &[(u64, u64)]) -> Self {
        let record = |requests| QuotaRecord::new(Quota::new(requests), 1, 7, at(0));
        let records = quotas
            .iter()
            .map(|(number, requests)| (*number, record(*requests)));
        Self {
            records: RefCell::new(records.collect()),
            quotas: Quotas::new(keys_max),
            commits: Cell::new(0),
            returned: Cell::new(0),
        }
    }

    fn number_of(key: u64) -> u64 {
        key.min(SHARED)
    }

    /// What [`crate::change::quota::put_back`] does.
    fn put_back(&self, numbers: &[u64]) -> Vec<QuotaEvent> {
        let mut events = Vec::new();
        for number in numbers.iter().copied() {
            let Some((period, requests)) = self.quotas.call_in(number) else {
                continue;
            };
            let mut records = self.records.borrow_mut();
            let record = records.get_mut(&number).unwrap();
            record.put_back(period, requests);
            self.returned.set(self.returned.get() + 1);
            events.push(QuotaEvent::Returned {
                number,
                left: record.left(),
            });
        }
        events
    }

    /// What [`crate::change::quota::take_slice`] does.
    fn take(&self, key: u64, cost: u64, asked: &Arc<Asked>) -> Vec<QuotaEvent> {
        let number = Self::number_of(key);
        let mut events = self.put_back(&self.quotas.make_room(key, number));
        let mut records = self.records.borrow_mut();
        let record = records.get_mut(&number).unwrap();
        let in_memory = self.quotas.in_memory(number, record);
        events.push(QuotaEvent::Taken {
            name: key,
            slice: record.take_slice(number, cost, in_memory, 0),
            asked: Arc::downgrade(asked),
        });
        events
    }

    fn change(&self, number: u64, requests: u64) -> QuotaEvent {
        let mut records = self.records.borrow_mut();
        let record = records.get_mut(&number).unwrap();
        *record = QuotaRecord::new(Quota::new(requests), 1, record.revision + 1, at(0));
        QuotaEvent::Changed(number)
    }

    fn publish(&self, events: &[QuotaEvent]) {
        self.commits.set(self.commits.get() + 1);
        self.quotas.publish(events);
    }

    /// Spends; `meanwhile` runs after the transaction and before it is published, and
    /// does more in the same commit.
    fn spend_beside(&self, key: u64, cost: u64, meanwhile: &dyn Fn() -> Vec<QuotaEvent>) -> bool {
        let take = |asked: &Arc<Asked>| {
            let mut events = self.take(key, cost, asked);
            events.extend(meanwhile());
            self.publish(&events);
            Ok(true)
        };
        spend(&self.quotas, key, cost, take).unwrap() == Some(Spent::Covered)
    }

    fn spend(&self, key: u64, cost: u64) -> bool {
        self.spend_beside(key, cost, &Vec::new)
    }

    fn granted(&self, key: u64, times: u32) -> usize {
        (0..times).filter(|_| self.spend(key, 1)).count()
    }

    fn in_memory(&self, number: u64) -> u64 {
        let records = self.records.borrow();
        self.quotas.in_memory(number, &records[&number])
    }

    fn in_store(&self, number: u64) -> u64 {
        self.records.borrow()[&number].remaining
    }
}

#[test]
fn a_request_waits_for_one_commit_whatever_is_done_to_other_quotas() {
    let store = Store::new(10, &[(1, 30), (2, 30), (3, 30), (4, 30)]);
    assert!(store.spend(2, 1) && store.spend(3, 1) && store.spend(4, 1));
    store.commits.set(0);
    // As it is about to settle, one is changed and one is called in.
    let meanwhile = || {
        let mut events = store.put_back(&[3]);
        events.push(store.change(2, 5));
        events
    };
    assert!(store.spend_beside(1, 1, &meanwhile));
    assert_eq!(store.commits.get(), 1);
    assert_eq!((store.in_memory(1), store.in_store(1)), (9, 20));
    // What was in memory of another is there still.
    assert!(store.spend(4, 1));
    assert_eq!(store.commits.get(), 1);
}

/// However many come between the commit and the request that waited for it: or it would ask
/// the store again and again.
#[test]
fn what_was_taken_for_a_request_is_its_own_though_others_come_first() {
    let store = Store::new(10, &[(SHARED, 100)]);
    let take = |asked: &Arc<Asked>| {
        let events = store.take(SHARED, 1, asked);
        store.publish(&events);
        while from_memory(&store.quotas, SHARED + 1, 1) == Some(Spent::Covered)
            || from_memory(&store.quotas, SHARED, 1) == Some(Spent::Covered)
        {}
        Ok(true)
    };
    let spent = spend(&store.quotas, SHARED, 1, take).unwrap();
    assert_eq!((spent, store.commits.get()), (Some(Spent::Covered), 1));
}

#[test]
fn what_is_taken_for_a_request_covers_it_though_others_spend_meanwhile() {
    let store = Store::new(10, &[(SHARED, 100)]);
    let (first, second) = (SHARED, SHARED + 1);
    assert!(store.spend(first, 1));
    store.commits.set(0);
    // 9 are in memory, and are gone before the slice is settled.
    let meanwhile = || {
        assert!(store.spend(first, 9));
        Vec::new()
    };
    assert!(store.spend_beside(second, 12, &meanwhile));
    assert_eq!(store.commits.get(), 1);
    assert_eq!((store.in_memory(SHARED), store.in_store(SHARED)), (0, 78));
}

#[test]
fn a_slice_of_a_quota_that_is_changed_in_the_same_commit_is_not_spent() {
    let store = Store::new(10, &[(1, 30)]);
    let is_changed = Cell::new(false);
    let meanwhile = || match is_changed.replace(true) {
        true => Vec::new(),
        false => vec![store.change(1, 2)],
    };
    let granted = (0..50)
        .filter(|_| store.spend_beside(1, 1, &meanwhile))
        .count();
    assert_eq!(granted, 2, "those of the new quota");
}

#[test]
fn a_changed_quota_voids_what_is_in_memory_for_all_that_share_it() {
    let store = Store::new(10, &[(SHARED, 100)]);
    assert!(store.spend(SHARED, 1) && store.spend(SHARED + 1, 1));
    store.publish(&[store.change(SHARED, 3)]);
    assert_eq!(store.granted(SHARED + 1, 2), 2);
    assert_eq!(store.granted(SHARED, 9), 1);
}

#[test]
fn a_key_that_leaves_a_quota_does_not_spend_it_and_one_that_stays_does() {
    let store = Store::new(10, &[(SHARED, 100)]);
    assert!(store.spend(SHARED, 1) && store.spend(SHARED + 1, 1));
    // The first takes a slice, and then leaves, in one commit; the other way round, it
    // leads to what it took.
    let moved = || vec![QuotaEvent::Moved(SHARED)];
    assert!(store.spend_beside(SHARED, 20, &moved));
    let gone = |_: &Arc<Asked>| Ok(false);
    let spend = |key| spend(&store.quotas, key, 1, gone).unwrap();
    assert_eq!(spend(SHARED), None, "it is gone");
    assert_eq!(spend(SHARED + 1), Some(Spent::Covered));
    let asked = Arc::new(Asked::new(1, true));
    let mut events = moved();
    events.extend(store.take(SHARED, 1, &asked));
    store.publish(&events);
    assert_eq!(answer_of(&asked), Some(Spent::Covered));
    assert_eq!(spend(SHARED), Some(Spent::Covered));
}

#[test]
fn the_successor_of_a_key_is_granted_what_memory_and_store_have_together() {
    let store = Store::new(10, &[(SHARED, 20)]);
    assert!(store.spend(SHARED, 6));
    assert_eq!((store.in_memory(SHARED), store.in_store(SHARED)), (4, 10));
    let asked = Arc::new(Asked::new(15, true));
    store.publish(&store.take(SHARED + 1, 15, &asked));
    let refused = Spent::Exhausted { refills_at: None };
    assert_eq!(answer_of(&asked), Some(refused), "there are 14");
    assert_eq!(store.in_store(SHARED), 10, "which takes nothing");
    store.commits.set(0);
    assert!(store.spend(SHARED + 2, 12));
    assert_eq!(store.commits.get(), 1);
    assert_eq!(store.granted(SHARED + 3, 9), 2);
}

/// As in a fleet, where a batch in which all was found in memory may run again.
#[test]
fn a_request_that_is_answered_twice_holds_its_cost_once() {
    let store = Store::new(10, &[(1, 10)]);
    assert!(store.spend(1, 4));
    let before = store.in_memory(1) + store.in_store(1);
    let asked = Arc::new(Asked::new(1, true));
    for _ in 0..2 {
        let events = store.take(1, 1, &asked);
        store.publish(&events);
    }
    assert_eq!(answer_of(&asked), Some(Spent::Covered));
    assert_eq!(store.in_memory(1) + store.in_store(1), before - 1);
    // Nothing is held back: what is left is granted, and the end of it is known.
    assert_eq!(store.granted(1, 20) as u64, before - 1);
}

#[test]
fn that_the_store_is_empty_is_known_until_something_is_put_back() {
    let store = Store::new(10, &[(1, 10), (SHARED, 10)]);
    assert!(store.spend(1, 10));
    store.commits.set(0);
    assert_eq!(store.granted(1, 9), 0);
    assert_eq!(store.commits.get(), 0, "nobody asked the store");

    // Called in by a commit in which another takes of it: who asks finds it either way.
    assert!(store.spend(SHARED, 4));
    let asked = Arc::new(Asked::new(8, true));
    let mut events = store.take(SHARED + 1, 8, &asked);
    events.extend(store.put_back(&[SHARED]));
    store.publish(&events);
    let refused = Spent::Exhausted { refills_at: None };
    assert_eq!(answer_of(&asked), Some(refused), "6 are left");
    assert_eq!((store.in_memory(SHARED), store.in_store(SHARED)), (0, 6));
    assert_eq!(store.granted(SHARED, 9), 6);
}

#[test]
fn what_is_taken_out_in_a_commit_in_which_a_slice_is_taken_is_not_lost() {
    let store = Store::new(10, &[(SHARED, 40)]);
    assert!(store.spend(SHARED, 7));
    let asked = Arc::new(Asked::new(5, true));
    let mut events = store.take(SHARED + 1, 5, &asked);
    events.extend(store.put_back(&[SHARED]));
    store.publish(&events);
    assert_eq!(answer_of(&asked), Some(Spent::Covered));
    assert_eq!((store.in_memory(SHARED), store.in_store(SHARED)), (5, 23));
}

#[test]
fn what_a_transaction_took_out_that_was_not_committed_is_in_memory_again() {
    let store = Store::new(10, &[(1, 10)]);
    assert!(store.spend(1, 3));
    assert_eq!(store.quotas.call_in(1).unwrap().1, 7);
    store.quotas.undo();
    // Nothing of it was put back: it was run again, and taken out a second time.
    assert_eq!(store.quotas.call_in(1).unwrap().1, 7);
    store.quotas.undo();
    assert_eq!(store.in_memory(1), 7);
    assert_eq!(store.granted(1, 20), 7);
}

#[test]
fn a_slice_for_which_nobody_waits_any_more_is_for_the_next() {
    let store = Store::new(10, &[(1, 10)]);
    let asked = Arc::new(Asked::new(4, true));
    let events = store.take(1, 4, &asked);
    drop(asked);
    store.publish(&events);
    assert_eq!((store.in_memory(1), store.in_store(1)), (10, 0));
}

#[test]
fn a_request_makes_room_by_a_few_that_were_not_used_lately() {
    let quotas: Vec<_> = (1..=1_000).map(|number| (number, 100)).collect();
    let store = Store::new(500, &quotas);
    for number in 1..=500 {
        assert!(store.spend(number, 1));
    }
    assert_eq!(store.returned.get(), 0);
    // All were used when they came. The first that needs room takes the marks of those
    // that it looks at, and of those some have to go.
    assert!(store.spend(501, 1));
    assert_eq!(store.returned.get(), 16);
    assert_eq!(store.in_store(1), 99, "what it had is back");
    assert_eq!(store.in_store(17), 90);
    // The others of those go next, but for those that were used since.
    for number in 17..=40 {
        assert!(store.spend(number, 1));
    }
    for number in 502..=700 {
        let before = store.returned.get();
        assert!(store.spend(number, 1));
        assert!(store.returned.get() - before <= 16);
        let len = (1..=1_000).filter(|number| store.in_memory(*number) > 0);
        assert!(len.count() <= 500);
    }
    let is_out = |number: &u64| store.in_memory(*number) > 0;
    assert_eq!((17..=40).filter(is_out).count(), 24, "they are in use");
    // Nothing was lost on the way.
    for number in 1..=1_000 {
        let spent = match number {
            17..=40 => 2,
            1..=700 => 1,
            _ => 0,
        };
        let left = store.in_memory(number) + store.in_store(number);
        assert_eq!(left, 100 - spent, "{number}");
    }
}

#[test]
fn a_quota_of_many_keys_gives_up_some_of_them_and_stays() {
    // With room for fewer keys than it gives up at a time: all go, and what they spend stays.
    let store = Store::new(10, &[(SHARED, 100)]);
    for key in SHARED..SHARED + 30 {
        assert!(store.spend(key, 1));
    }
    assert_eq!(store.returned.get(), 0, "it is about to be used");
    let mut quotas: Vec<_> = (1..=120).map(|number| (number, 100)).collect();
    quotas.push((SHARED, 100_000));
    let store = Store::new(50, &quotas);
    for key in SHARED..SHARED + 300 {
        assert!(store.spend(key, 1));
        let found = (SHARED..SHARED + 300).filter(|key| store.quotas.finds(*key));
        assert!(found.count() <= 50);
    }
    assert_eq!(store.returned.get(), 0, "its slice was not called in");
    let left = store.in_memory(SHARED) + store.in_store(SHARED);
    assert_eq!(left, 100_000 - 300);
    // With no name left it is called in like others.
    for number in 1..=120 {
        assert!(store.spend(number, 1));
    }
    assert_eq!((store.in_memory(SHARED), store.in_memory(120)), (0, 9));
    assert_eq!(store.in_store(SHARED), 100_000 - 300);
}

#[test]
fn closing_puts_all_back_in_parts_and_takes_none_any_more() {
    let quotas: Vec<_> = (1..=2_500).map(|number| (number, 100)).collect();
    let store = Store::new(5_000, &quotas);
    for number in 1..=2_500 {
        assert!(store.spend(number, 1 + number % 10));
    }
    let parts = RefCell::new(Vec::new());
    let put_back = |numbers: Vec<u64>| {
        parts.borrow_mut().push(numbers.len());
        store.publish(&store.put_back(&numbers));
        Ok(())
    };
    store.quotas.close(put_back).unwrap();
    // Of every tenth, nothing was left to put back.
    assert_eq!(parts.into_inner(), [1_000, 1_000, 250]);
    for number in 1..=2_500 {
        assert_eq!(store.in_store(number), 100 - (1 + number % 10), "{number}");
    }
    let take = |_: &Arc<Asked>| panic!("it is closed");
    let spent = spend(&store.quotas, 1, 1, take);
    assert!(matches!(spent, Err(Error::Closed)));
}

#[test]
fn what_a_request_gives_back_is_there_for_others() {
    let store = Store::new(10, &[(1, 1)]);
    let take = |asked: &Arc<Asked>| {
        store.publish(&store.take(1, 1, asked));
        Ok(true)
    };
    let Ok(Fetched::Taken(taken)) = store.quotas.fetch(1, 1, true, at(0), take) else {
        panic!("there is one");
    };
    // Another level may refuse it yet: so far nobody can be told that none is left.
    assert_eq!(from_memory(&store.quotas, 1, 1), None);
    let asked = Arc::new(Asked::new(1, true));
    store.publish(&store.take(1, 1, &asked));
    assert_eq!(answer_of(&asked), None);
    taken.decide(false);
    assert!(store.spend(1, 1));
    assert!(!store.spend(1, 1));
}

/// What is given back as a debt is made pays that, and is nobody's.
#[test]
fn who_waits_while_a_debt_is_made_is_told_to_ask_again() {
    let store = Store::new(10, &[(1, 20)]);
    assert!(store.spend(1, 4));
    let mut events = store.put_back(&[1]);
    let purse = store.quotas.by_name_of(1);
    assert!(purse.give_back(4));
    let asked = Arc::new(Asked::new(3, true));
    {
        let mut records = store.records.borrow_mut();
        let record = records.get_mut(&1).unwrap();
        record.use_up(26);
        events.push(QuotaEvent::Taken {
            name: 1,
            slice: record.take_slice(1, 3, 0, 0),
            asked: Arc::downgrade(&asked),
        });
    }
    store.publish(&events);
    assert_eq!(answer_of(&asked), None);
    assert_eq!(store.in_memory(1), 4);
    assert_eq!(from_memory(&store.quotas, 1, 3), None);
}

#[test]
fn a_slice_that_another_took_is_spent_and_the_store_is_not_asked() {
    let store = Store::new(10, &[(1, 100)]);
    assert!(store.spend(1, 1));
    let in_memory = store.in_memory(1);
    assert!(in_memory > 1);
    let take = |_: &Arc<Asked>| panic!("there is enough in memory");
    let fetched = store.quotas.fetch(1, in_memory, true, at(0), take);
    assert!(matches!(fetched, Ok(Fetched::InMemory)));
    // Also while it closes: what is out may still be spent.
    store.quotas.close(|_| Ok(())).unwrap();
    let fetched = store.quotas.fetch(1, in_memory, true, at(0), take);
    assert!(matches!(fetched, Ok(Fetched::InMemory)));
}

/// One that was enough when it was looked at, and is called in before it is spent.
#[test]
fn of_several_quotas_of_which_one_is_gone_meanwhile_none_is_spent() {
    let store = Store::new(10, &[(1, 100), (2, 100)]);
    assert!(store.spend(1, 1) && store.spend(2, 1));
    let (one, other) = (store.in_memory(1), store.in_memory(2));
    // The same twice: the second finds what the first has left. Before and after another.
    for (names, at_fault) in [([2, 1, 1], 2), ([1, 1, 2], 1)] {
        let spent = store
            .quotas
            .spend(&names, one, at(0), |_, _| panic!("nothing is spent"));
        assert_eq!(spent, Err((at_fault, None)));
        assert_eq!((store.in_memory(1), store.in_memory(2)), (one, other));
    }
    // What is undecided would keep the store from being empty.
    store.publish(&store.put_back(&[1, 2]));
    assert_eq!((store.in_store(1), store.in_store(2)), (99, 99));
    assert_eq!((store.granted(1, 100), store.granted(2, 100)), (99, 99));
}

#[test]
fn a_quota_of_several_that_comes_back_is_not_voided_meanwhile() {
    let store = Store::new(10, &[(1, 10), (2, 10)]);
    assert!(store.spend(1, 3));
    let known = store.quotas.by_name_of(1);
    // Spent of with others, of which one refuses; called in and published between.
    known.begin_several(7);
    assert_eq!(known.spend(7, at(0)), Some(Spent::Covered));
    store.publish(&store.put_back(&[1]));
    known.put_in(7);
    known.end_several(7);
    let left = store.in_memory(1) + store.in_store(1);
    assert_eq!(left, 7, "3 of 10 are spent");
    assert_eq!(store.granted(1, 9), 7);
}

#[test]
fn what_is_given_back_to_a_purse_is_spent_but_for_what_is_owed() {
    let store = Store::new(10, &[(1, 20)]);
    assert!(store.spend(1, 4));
    let period = store.quotas.by_name_of(1).period();
    assert!(store.quotas.give_back(1, period, 3));
    // Another period, or another quota, is given nothing.
    let other = crate::model::quota::Period {
        revision: period.revision + 1,
        ..period
    };
    assert!(!store.quotas.give_back(1, other, 3));
    assert!(!store.quotas.give_back(2, period, 3));
    assert_eq!((store.in_memory(1), store.in_store(1)), (9, 10));
    // What is owed is paid by the store alone.
    let use_up = |requests| {
        let mut events = store.put_back(&[1]);
        let mut records = store.records.borrow_mut();
        let record = records.get_mut(&1).unwrap();
        record.use_up(requests);
        events.push(QuotaEvent::Taken {
            name: 1,
            slice: record.take_slice(1, requests, 0, 0),
            asked: std::sync::Weak::new(),
        });
        events
    };
    let events = use_up(30);
    store.publish(&events);
    assert!(!store.quotas.give_back(1, period, 3));
    assert_eq!(
        from_memory(&store.quotas, 1, 1),
        Some(Spent::Exhausted { refills_at: None })
    );
    assert_eq!(store.quotas.status(1, at(0)).unwrap().owed, 11);
    // What comes between, as a debt is made, is not spent while it is owed.
    let store = Store::new(10, &[(1, 20)]);
    assert!(store.spend(1, 4));
    let mut events = store.put_back(&[1]);
    let purse = store.quotas.by_name_of(1);
    assert!(purse.give_back(4));
    let mut records = store.records.borrow_mut();
    records.get_mut(&1).unwrap().use_up(26);
    let left = records[&1].left();
    drop(records);
    events.push(QuotaEvent::Returned { number: 1, left });
    store.publish(&events);
    assert_eq!(
        from_memory(&store.quotas, 1, 1),
        None,
        "the store is asked, and is paid"
    );
    store.publish(&store.put_back(&[1]));
    assert_eq!(store.records.borrow()[&1].owed, 6);
}

/// While a transaction has called it in, and after one that was not committed.
#[test]
fn a_quota_that_owes_takes_nothing_back_while_it_is_called_in() {
    let store = Store::new(10, &[(1, 20)]);
    assert!(store.spend(1, 4));
    let period = store.quotas.by_name_of(1).period();
    let mut events = store.put_back(&[1]);
    {
        let mut records = store.records.borrow_mut();
        let record = records.get_mut(&1).unwrap();
        record.use_up(30);
        events.push(QuotaEvent::Taken {
            name: 1,
            slice: record.take_slice(1, 30, 0, 0),
            asked: std::sync::Weak::new(),
        });
    }
    store.publish(&events);
    store.put_back(&[1]);
    assert!(!store.quotas.give_back(1, period, 3));
    assert_eq!(from_memory(&store.quotas, 1, 1), None);
    store.quotas.undo();
    assert!(!store.quotas.give_back(1, period, 3));
}

/// A key that leads to another quota spends nothing of the one before, which others have yet.
#[test]
fn a_name_that_moves_is_found_no_more_where_it_was() {
    let store = Store::new(10, &[(SHARED, 1_000)]);
    let when = When::coarse(at(0));
    assert!(store.spend(SHARED, 1) && store.spend(SHARED + 1, 1));
    let spends = |name| store.quotas.spend_one(name, 1, when);
    // Under the last name by a hint, and under the other without.
    assert!(spends(SHARED) && spends(SHARED + 1) && spends(SHARED));
    let left = store.in_memory(SHARED);
    store.publish(&[QuotaEvent::Moved(SHARED + 1)]);
    assert!(!spends(SHARED + 1));
    assert!(spends(SHARED));
    assert_eq!(store.in_memory(SHARED), left - 1);
}

/// Places are used again: what a request read of one purse is spent of no other.
#[test]
fn a_purse_in_the_place_of_another_is_not_found_by_its_name() {
    let store = Store::new(10, &[(1, 1_000), (2, 1_000), (3, 1_000)]);
    let when = When::coarse(at(0));
    for round in 0..200 {
        let (old, new) = (1 + round % 3, 1 + (round + 1) % 3);
        assert!(store.spend(old, 1) || round > 0);
        store.publish(&[store.change(old, 1_000)]);
        assert!(store.spend(new, 1));
        assert!(!store.quotas.spend_one(old, 1, when), "{round}");
        assert!(store.quotas.spend_one(new, 1, when));
    }
}
