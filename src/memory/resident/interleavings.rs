//! The table's protocol under loom: every order of the steps of a few threads, with as
//! many preemptions as are said, and every value that the memory model allows a read.
//!
//! The published snapshot is one atomic word here, whose value is the record.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::memory::resident::packed::{COPIED_LEN, RECORD_LEN_MAX};
use crate::store::record::{NOT_RESIDENT, TABLE};

const KEY: u64 = 9;
/// A key with a fingerprint that is the same.
const ALIKE: u64 = 190;
/// A key of two sets, where a table has two, and keys of one of them alone. Which place of a full
/// set a key gets depends on whether it is odd: those named by a place get that of `OF_TWO`.
const OF_TWO: u64 = 7;
const OF_FIRST: u64 = 2;
const OF_FIRST_IN_PLACE: u64 = 5;
const OF_SECOND: u64 = 1;
const OF_SECOND_IN_PLACE: u64 = 6;
const OLD: u8 = 1;
const NEW: u8 = 2;

fn id(raw: u64) -> KeyId {
    KeyId::from_raw(raw)
}

/// A table of one set and the snapshot behind it.
struct Store {
    table: Resident,
    key: u64,
    /// Of its records: with a part where it is the longest.
    len: usize,
    published: AtomicU64,
    /// Set by the writer once its call would have returned.
    returned: AtomicBool,
}

impl Store {
    fn new() -> Arc<Self> {
        Self::with_sets(1, 1)
    }

    /// With records that have a part, which take up all of the table.
    fn long() -> Arc<Self> {
        Self::with((1, 1), KEY, RECORD_LEN_MAX)
    }

    /// The same of a key whose record is in one set, and its part in another.
    fn apart() -> Arc<Self> {
        let store = Self::with((2, 2), OF_TWO, RECORD_LEN_MAX);
        let leave = store.table.leave_to_fill().unwrap();
        store.fill_with(leave, OF_FIRST, OLD, COPIED_LEN);
        store
    }

    fn with_sets(sets: usize, sets_max: usize) -> Arc<Self> {
        Self::with((sets, sets_max), KEY, COPIED_LEN)
    }

    fn with((sets, sets_max): (usize, usize), key: u64, len: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Resident::with_sets(sets, sets_max, MacKey::of(&[1; 16])).unwrap(),
            key,
            len,
            published: AtomicU64::new(u64::from(OLD)),
            returned: AtomicBool::new(false),
        })
    }

    /// The record of a key as the table has it. Half of one, or one of another key, is
    /// an error at once.
    fn resident(&self, raw: u64) -> Option<u8> {
        let found = self.table.find(id(raw))?;
        let (mut copied, mut long) = ([0; COPIED_LEN], [0; RECORD_LEN_MAX]);
        let copied: &[u8] = match self.table.copy(found, id(raw), &mut copied) {
            Copying::Done => &copied,
            Copying::Long if self.table.copy_long(found, id(raw), &mut long) => &long,
            Copying::Long | Copying::Missed => return None,
        };
        Some(byte_of(copied))
    }

    /// The same of a record with a part, once it is known to have one: the engine looks again then.
    fn resident_with_part(&self) -> Option<u8> {
        let found = self.table.find(id(self.key))?;
        let mut long = [0; RECORD_LEN_MAX];
        let is_there = self.table.copy_long(found, id(self.key), &mut long);
        is_there.then(|| byte_of(&long))
    }

    /// How many ways have a key's fingerprint, in each of its sets. What is in the slots is no answer:
    /// in loom a mark of use that was set before a slot was given away may come last.
    fn ways_of(&self, raw: u64) -> [u32; 2] {
        let found = self.table.find(id(raw));
        found.map_or([0; 2], |found| found.ways.map(u64::count_ones))
    }

    fn fill(&self, leave: FillLeave, raw: u64, byte: u8) {
        self.fill_with(leave, raw, byte, self.len);
    }

    fn fill_with(&self, leave: FillLeave, raw: u64, byte: u8, len: usize) {
        let mut record = [byte; RECORD_LEN_MAX];
        record[0] = TABLE;
        self.table.fill(leave, id(raw), &record[..len], None);
    }

    /// A verification: from the table, or from the snapshot, which fills the table.
    fn verify(&self) -> u8 {
        if let Some(found) = self.resident(self.key) {
            return found;
        }
        let leave = self.table.leave_to_fill();
        let read = self.published.load(Ordering::Acquire).to_le_bytes()[0];
        if let Some(leave) = leave {
            self.fill(leave, self.key, read);
        }
        read
    }

    /// The table grows, if it may.
    fn grow(&self) {
        if let Some(leave) = self.table.leave_to_fill() {
            self.table.grow(leave);
        }
    }

    /// A commit that changes the key.
    fn revoke(&self) {
        self.table.publish(&[id(self.key)], || {
            self.published.store(u64::from(NEW), Ordering::Release);
        });
        self.returned.store(true, Ordering::Release);
    }

    /// A verification that starts after the commit has returned, where it has.
    fn verify_after(&self) {
        let has_returned = self.returned.load(Ordering::Acquire);
        let found = self.verify();
        assert!(!has_returned || found == NEW, "a stale grant");
    }
}

/// The byte that all of a copy is of. Half of one record and half of another is an error.
fn byte_of(copied: &[u8]) -> u8 {
    let [place, _] = NOT_RESIDENT;
    let (head, rest) = copied.split_at(place.start);
    let rest = &rest[place.len()..];
    let [table, head @ ..] = head else {
        panic!("it is empty");
    };
    assert_eq!(*table, TABLE);
    let first = head[0];
    assert!(
        head.iter().chain(rest).all(|byte| *byte == first),
        "half of a record"
    );
    first
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

#[test]
fn a_fill_that_races_a_publication_never_outlives_it() {
    explore(3, || {
        let store = Store::new();
        let reader = thread::spawn({
            let store = store.clone();
            move || store.verify_after()
        });
        store.revoke();
        assert_eq!(store.verify(), NEW, "a stale grant after the call returned");
        reader.join().unwrap();
        assert!(store.resident(KEY).is_none_or(|found| found == NEW));
    });
}

#[test]
fn two_readers_that_race_a_publication_never_find_the_old_record_after_it() {
    explore(2, || {
        let store = Store::new();
        let readers = [(); 2].map(|()| {
            thread::spawn({
                let store = store.clone();
                move || store.verify_after()
            })
        });
        store.revoke();
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(store.verify(), NEW);
    });
}

fn hit_that_races_a_publication(preemptions: usize, store: fn() -> Arc<Store>) {
    explore(preemptions, move || {
        let store = store();
        store.verify();
        let reader = thread::spawn({
            let store = store.clone();
            move || store.verify_after()
        });
        store.revoke();
        reader.join().unwrap();
        assert_eq!(store.verify(), NEW);
    });
}

#[test]
fn a_hit_that_races_a_publication_is_old_or_new_and_never_half() {
    hit_that_races_a_publication(3, Store::new);
}

#[test]
fn a_hit_on_a_record_with_a_part_is_old_or_new_and_never_of_two() {
    hit_that_races_a_publication(2, Store::long);
}

#[test]
fn a_hit_on_a_record_in_two_sets_is_old_or_new_and_never_of_two() {
    hit_that_races_a_publication(1, Store::apart);
}

fn record_that_is_filled_anew(store: fn() -> Arc<Store>) {
    explore(2, move || {
        let store = store();
        let leave = || store.table.leave_to_fill().unwrap();
        store.fill(leave(), store.key, OLD);
        let reader = thread::spawn({
            let store = store.clone();
            // It fails where bytes of both are in one copy.
            move || store.resident_with_part()
        });
        store.fill(leave(), store.key, NEW);
        reader.join().unwrap();
        assert_eq!(store.resident(store.key), Some(NEW));
    });
}

/// A reader meets the old record's slot and the new one's part, or the other way about.
#[test]
fn a_record_with_a_part_that_is_filled_anew_is_never_of_two() {
    record_that_is_filled_anew(Store::long);
}

#[test]
fn a_record_in_two_sets_that_is_filled_anew_is_never_of_two() {
    record_that_is_filled_anew(Store::apart);
}

/// The set of the key that takes the place is written alone: the version of the record's other
/// set tells nothing.
fn record_that_loses_a_place_to(another: u64) {
    explore(3, move || {
        let store = Store::apart();
        let leave = || store.table.leave_to_fill().unwrap();
        store.fill(leave(), OF_TWO, OLD);
        store.fill_with(leave(), OF_SECOND, OLD, COPIED_LEN);
        let reader = thread::spawn({
            let store = store.clone();
            move || assert!(store.resident(OF_TWO).is_none_or(|found| found == OLD))
        });
        store.fill_with(leave(), another, NEW, COPIED_LEN);
        reader.join().unwrap();
        let left: u32 = store.ways_of(OF_TWO).iter().sum();
        assert_eq!(left, 1, "it has not lost one place");
    });
}

#[test]
fn a_record_in_two_sets_that_loses_its_slot_is_whole_or_not_found() {
    record_that_loses_a_place_to(OF_FIRST_IN_PLACE);
}

#[test]
fn a_record_in_two_sets_that_loses_its_part_is_whole_or_not_found() {
    record_that_loses_a_place_to(OF_SECOND_IN_PLACE);
}

/// The reader knows of that record's second set alone, and the writer writes both.
#[test]
fn a_hit_on_a_slot_that_becomes_a_part_of_another_s_record_is_old_or_missed() {
    explore(3, || {
        let store = Store::apart();
        let leave = || store.table.leave_to_fill().unwrap();
        store.fill_with(leave(), OF_SECOND_IN_PLACE, OLD, COPIED_LEN);
        store.fill_with(leave(), OF_SECOND, OLD, COPIED_LEN);
        let reader = thread::spawn({
            let store = store.clone();
            move || {
                let found = store.resident(OF_SECOND_IN_PLACE);
                assert!(found.is_none_or(|found| found == OLD));
            }
        });
        store.fill(leave(), OF_TWO, NEW);
        reader.join().unwrap();
        assert_eq!(store.ways_of(OF_SECOND_IN_PLACE), [0, 0], "it has its slot");
        assert_eq!(store.ways_of(OF_TWO), [1, 1]);
    });
}

/// What growing leaves of a key in a slot is not found by the fingerprint of the one that gets it,
/// which is read without an order of its own: the fences have to do.
#[test]
fn what_is_left_of_a_key_is_not_found_while_another_of_its_fingerprint_takes_its_place() {
    explore(3, || {
        let store = Store::new();
        let leave = || store.table.leave_to_fill().unwrap();
        store.fill(leave(), KEY, OLD);
        let fingerprints = store.table.fingerprints.iter();
        fingerprints.for_each(|word| word.store(0, Ordering::Relaxed));
        let reader = thread::spawn({
            let store = store.clone();
            move || assert_eq!(store.resident(KEY), None)
        });
        store.fill(leave(), ALIKE, NEW);
        assert!(store.table.find(id(KEY)).is_some(), "they are alike");
        reader.join().unwrap();
    });
}

#[test]
fn a_reader_of_a_slot_that_is_given_to_another_key_sees_one_of_the_two() {
    explore(3, || {
        let store = Store::new();
        let leave = || store.table.leave_to_fill().unwrap();
        // Both ways are taken.
        store.fill(leave(), KEY, OLD);
        store.fill(leave(), KEY + 1, OLD);
        let reader = thread::spawn({
            let store = store.clone();
            move || {
                assert!(store.resident(KEY).is_none_or(|found| found == OLD));
                assert!(store.resident(KEY + 2).is_none_or(|found| found == NEW));
            }
        });
        store.fill(leave(), KEY + 2, NEW);
        reader.join().unwrap();
    });
}

/// A commit of two keys, of which one is in the table and one is not, as a suspension
/// changes them: no reader sees the one as it became and then the other as it was.
#[test]
fn a_commit_of_two_keys_is_never_seen_of_one_alone() {
    explore(3, || {
        let store = Store::new();
        store.fill(store.table.leave_to_fill().unwrap(), KEY, OLD);
        let published = |store: &Store| store.published.load(Ordering::Acquire).to_le_bytes()[0];
        let reader = thread::spawn({
            let store = store.clone();
            move || {
                let of_other = store.resident(KEY + 1).unwrap_or_else(|| published(&store));
                let of_key = store.resident(KEY).unwrap_or_else(|| published(&store));
                assert!(of_other == OLD || of_key == NEW, "half of a commit");
            }
        });
        store.table.publish(&[id(KEY + 1), id(KEY)], || {
            store.published.store(u64::from(NEW), Ordering::Release);
        });
        reader.join().unwrap();
    });
}

/// The key moves to another set as the table grows.
#[test]
fn a_publication_that_races_the_growth_of_the_table_clears_the_key_wherever_it_is() {
    explore(2, || {
        let store = Store::with_sets(1, 2);
        store.verify();
        let grower = thread::spawn({
            let store = store.clone();
            move || {
                store.grow();
                store.verify_after();
            }
        });
        store.revoke();
        assert_eq!(store.verify(), NEW, "a stale grant after the call returned");
        grower.join().unwrap();
        assert!(store.resident(KEY).is_none_or(|found| found == NEW));
        let sets = [1, 2].map(|sets| {
            Resident::with_sets(sets, 2, MacKey::of(&[1; 16]))
                .unwrap()
                .place_of(id(KEY))
                .sets
        });
        assert_ne!(sets[0][0], sets[1][0]);
    });
}

#[test]
fn a_fill_that_races_the_growth_of_the_table_is_cleared_by_the_next_publication() {
    explore(3, || {
        let store = Store::with_sets(1, 2);
        let reader = thread::spawn({
            let store = store.clone();
            move || store.verify_after()
        });
        store.grow();
        store.revoke();
        assert_eq!(store.verify(), NEW, "a stale grant after the call returned");
        reader.join().unwrap();
        assert!(store.resident(KEY).is_none_or(|found| found == NEW));
    });
}

#[test]
fn a_fill_that_races_the_end_leaves_nothing() {
    explore(3, || {
        let store = Store::new();
        let reader = thread::spawn({
            let store = store.clone();
            move || {
                store.verify();
            }
        });
        store.table.shut();
        assert_eq!(store.resident(KEY), None);
        reader.join().unwrap();
        assert_eq!(store.resident(KEY), None);
    });
}
