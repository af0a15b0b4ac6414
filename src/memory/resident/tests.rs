//! The table, one step after the other; the orders of steps are in `interleavings`.

use super::*;
use crate::memory::resident::packed::{COPIED_LEN, RECORD_LEN_MAX};
use crate::store::record::{RARE, RESIDENT_MAC, TABLE};

fn id(raw: u64) -> KeyId {
    KeyId::from_raw(raw)
}

fn table(bytes: usize) -> Resident {
    let table = Resident::new(bytes, MacKey::draw().unwrap());
    table.unwrap().unwrap()
}

fn with_sets(sets: usize, sets_max: usize) -> Resident {
    Resident::with_sets(sets, sets_max, MacKey::draw().unwrap()).unwrap()
}

fn get(table: &Resident, raw: u64) -> Option<u8> {
    let mut copied = [0; COPIED_LEN];
    let found = table.find(id(raw))?;
    let is_done = table.copy(found, id(raw), &mut copied) == Copying::Done;
    is_done.then_some(copied[4])
}

/// A key's record, whether or not it has parts.
fn whole(table: &Resident, raw: u64) -> Option<Vec<u8>> {
    let (mut copied, mut long) = ([0; COPIED_LEN], [0; RECORD_LEN_MAX]);
    let found = table.find(id(raw))?;
    match table.copy(found, id(raw), &mut copied) {
        Copying::Done => Some(copied.to_vec()),
        Copying::Long => (table.copy_long(found, id(raw), &mut long)).then(|| long.to_vec()),
        Copying::Missed => None,
    }
}

/// A record of one byte again and again, behind the table's number.
fn uniform(byte: u8, len: usize) -> Vec<u8> {
    let mut record = vec![byte; len];
    record[0] = TABLE;
    record
}

/// Puts a record in, with what it has in its place as the MAC.
fn put(table: &Resident, leave: FillLeave, raw: u64, record: &[u8]) {
    let mac = record.get(RESIDENT_MAC).map(|mac| mac.try_into().unwrap());
    table.fill(leave, id(raw), record, mac);
}

fn fill(table: &Resident, raw: u64, byte: u8) {
    let leave = table.leave_to_fill().unwrap();
    put(table, leave, raw, &uniform(byte, 100));
}

#[test]
fn what_is_filled_is_found_and_the_id_zero_too() {
    let table = table(1 << 16);
    for raw in [0, 1, 839_299_365_868_340_223] {
        assert_eq!(get(&table, raw), None);
        fill(&table, raw, 7);
        assert_eq!(get(&table, raw), Some(7));
    }
    assert_eq!(table.occupancy().0, 3);
}

#[test]
fn the_table_keeps_to_its_bytes_and_evicts_what_is_not_used() {
    let table = table(12 * SET_BYTES + SET_BYTES / 2);
    assert_eq!(table.occupancy().1, 96);
    fill(&table, 1, 1);
    for raw in 100..10_100 {
        assert_eq!(get(&table, 1), Some(1), "a key in use is kept");
        fill(&table, raw, 2);
        if get(&table, 1).is_none() {
            // All eight of its set were in use: it may go, and comes back.
            fill(&table, 1, 1);
        }
    }
    assert!(table.occupancy().0 <= 96);
    assert!(
        Resident::new(SET_BYTES - 1, MacKey::draw().unwrap())
            .unwrap()
            .is_none()
    );
    assert!(Resident::new(usize::MAX, MacKey::draw().unwrap()).is_err());
}

#[test]
fn a_fill_from_before_a_publication_is_dropped() {
    let table = table(1 << 16);
    let before = table.leave_to_fill().unwrap();
    let mut during = None;
    fill(&table, 5, 1);
    table.publish(&[id(5)], || {
        during = table.leave_to_fill();
        put(&table, before, 5, &uniform(9, 100));
    });
    assert!(during.is_none());
    put(&table, before, 5, &uniform(9, 100));
    assert_eq!(get(&table, 5), None);
    fill(&table, 5, 2);
    assert_eq!(get(&table, 5), Some(2));
}

#[test]
fn what_is_shut_takes_nothing_in() {
    let table = table(1 << 16);
    fill(&table, 5, 1);
    let leave = table.leave_to_fill().unwrap();
    table.shut();
    put(&table, leave, 5, &uniform(1, 100));
    assert_eq!(get(&table, 5), None);
    assert!(table.leave_to_fill().is_none());
}

#[test]
fn a_record_that_is_too_long_is_not_kept() {
    let table = table(1 << 16);
    let leave = table.leave_to_fill().unwrap();
    put(&table, leave, 5, &uniform(1, RECORD_LEN_MAX + 1));
    assert_eq!(whole(&table, 5), None);
}

/// Fills a table with records of one length after the other, each of one byte again and again,
/// and looks at what a reader finds meanwhile.
fn readers_see_no_half(lens: &[usize]) {
    let table = table(SET_BYTES);
    let mut seen = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (round, len) in (0..20_000_u32).zip(lens.iter().cycle()) {
                let leave = table.leave_to_fill().unwrap();
                put(&table, leave, 1, &uniform(round.to_le_bytes()[0] | 1, *len));
            }
        });
        loop {
            let is_over = writer.is_finished();
            let Some(copied) = whole(&table, 1) else {
                // Once nobody writes, it is there.
                assert!(!is_over);
                continue;
            };
            seen += 1;
            let byte = copied[1];
            let len = copied.iter().rposition(|it| *it != 0).unwrap() + 1;
            assert!(lens.contains(&len), "{len}");
            assert_eq!(copied[0], TABLE);
            let kept = copied[1..8].iter().chain(&copied[24..88]);
            assert!(kept.chain(&copied[104..len]).all(|it| *it == byte));
            assert_eq!(copied[8..24], [1_u64.to_le_bytes(), [0; 8]].concat());
            if is_over {
                break;
            }
        }
    });
    assert!(seen > 0);
}

#[test]
fn readers_never_see_half_of_a_record() {
    readers_see_no_half(&[112]);
}

#[test]
fn readers_never_see_half_of_a_record_with_parts_nor_parts_of_two() {
    readers_see_no_half(&[380, 300, 112, 384, 200]);
}

#[test]
fn nothing_is_left_of_a_record_with_parts() {
    let table = one_set();
    for (len, ways) in [
        (408, 4),
        (144, 1),
        (300, 3),
        (200, 2),
        (408, 4),
        (104, 1),
        (145, 2),
    ] {
        let leave = table.leave_to_fill().unwrap();
        put(&table, leave, 5, &record(len, &[]));
        assert_eq!(table.occupancy().0, ways, "{len}");
        assert_eq!(whole(&table, 5).unwrap()[104..len], record(len, &[])[104..]);
    }
    table.publish(&[id(5)], || {});
    assert_eq!((table.occupancy().0, whole(&table, 5)), (0, None));
}

#[test]
fn a_key_of_which_a_part_was_crowded_out_is_not_there() {
    for first in 0..32 {
        let table = one_set();
        let leave = || table.leave_to_fill().unwrap();
        put(&table, leave(), 5, &record(408, &[]));
        assert!(whole(&table, 5).is_some());
        let mut raws = 100 + first * 101..;
        while let Some(copied) = whole(&table, 5) {
            assert_eq!(copied[104..408], record(408, &[])[104..]);
            // Few marks, so that all but one are soon taken away.
            fill(&table, raws.next().unwrap(), 7);
        }
        put(&table, leave(), 5, &record(300, &[]));
        assert_eq!(whole(&table, 5).unwrap()[104..300], record(300, &[])[104..]);
    }
}

#[test]
fn what_a_key_is_known_by_is_kept_where_it_is_not_told_anew() {
    let table = one_set();
    let leave = || table.leave_to_fill().unwrap();
    for len in [120, 300] {
        let known = record(len, &[]);
        put(&table, leave(), 5, &known);
        table.fill(leave(), id(5), &known, None);
        assert_eq!(whole(&table, 5).unwrap()[72..88], known[72..88]);
        // Of another record, nothing is kept.
        let mut other = known.clone();
        other[30] ^= 1;
        table.fill(leave(), id(5), &other, None);
        let copied = whole(&table, 5).unwrap();
        assert_eq!((copied[30], &copied[72..88]), (other[30], &[0xff; 16][..]));
        // And whatever is told is.
        put(&table, leave(), 5, &other);
        assert_eq!(whole(&table, 5).unwrap()[72..88], other[72..88]);
    }
}

#[test]
fn parts_stand_in_both_sets_of_a_key_and_leave_with_it() {
    let table = with_sets(8, 8);
    let leave = || table.leave_to_fill().unwrap();
    let raws: Vec<u64> = of_set(&table, 3).take(8).collect();
    let (long, short) = raws.split_first().unwrap();
    for raw in &short[1..] {
        fill(&table, *raw, 7);
    }
    let sets = table.place_of(id(*long)).sets;
    let sets_of = || -> Vec<usize> {
        let ways = table.ways_of(id(*long), sets);
        ways.map(|((set, _), _)| set).collect()
    };
    put(&table, leave(), *long, &record(408, &[]));
    assert_eq!(sets_of(), [sets[0], sets[0], sets[1], sets[1]]);
    assert_eq!(
        whole(&table, *long).unwrap()[104..],
        record(408, &[])[104..]
    );
    table.publish(&[id(*long)], || {});
    assert_eq!((sets_of(), whole(&table, *long)), (vec![], None));
    assert_eq!(table.occupancy().0, short.len() - 1);
    put(&table, leave(), *long, &record(408, &[]));
    table.shut();
    assert_eq!((sets_of(), table.occupancy().0), (vec![], 0));
}

/// A table of one set, so that all keys meet in it.
fn one_set() -> Resident {
    table(SET_BYTES)
}

#[test]
fn a_set_holds_eight_keys_and_gives_each_its_own_record() {
    let table = one_set();
    for raw in 0..8 {
        fill(&table, raw, raw.to_le_bytes()[0] + 1);
    }
    assert_eq!(table.occupancy(), (8, 8));
    for raw in 0..8 {
        assert_eq!(get(&table, raw), Some(raw.to_le_bytes()[0] + 1));
    }
    // Cleared one by one, the others stay.
    for raw in 0..8 {
        table.publish(&[id(raw)], || {});
        assert_eq!(get(&table, raw), None);
        assert_eq!(table.occupancy().0, 7 - usize::try_from(raw).unwrap());
    }
}

#[test]
fn keys_with_the_same_fingerprint_do_not_hide_each_other() {
    let table = one_set();
    let Place { fingerprint, .. } = table.place_of(id(1));
    let alike: Vec<u64> = (1..)
        .filter(|raw| table.place_of(id(*raw)).fingerprint == fingerprint)
        .take(8)
        .collect();
    for (byte, raw) in (1..).zip(&alike) {
        fill(&table, *raw, byte);
    }
    for (byte, raw) in (1..).zip(&alike) {
        assert_eq!(get(&table, *raw), Some(byte));
    }
}

#[test]
fn of_a_full_set_a_key_goes_that_was_not_used_since_the_marks_were_taken() {
    let table = one_set();
    for raw in 0..8 {
        fill(&table, raw, 1);
    }
    // All marks are set: they are taken away, and one goes.
    fill(&table, 100, 2);
    let kept: Vec<u64> = (0..8).filter(|raw| get(&table, *raw).is_some()).collect();
    assert_eq!(kept.len(), 7);
    // `get` has marked them again; of the two that come now, one finds no way that
    // is not in use, and takes the marks away once more.
    fill(&table, 101, 2);
    let used = (0..8).find(|raw| get(&table, *raw).is_some()).unwrap();
    for raw in 200..204 {
        assert_eq!(get(&table, used), Some(1), "it is in use, and stays");
        fill(&table, raw, 3);
    }
}

/// The keys of a table of one set, by a look that marks none as used.
fn held(table: &Resident, raws: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let is_held = |raw: &u64| {
        table.find(id(*raw)).is_some() && table.ways_of(id(*raw), [0, 0]).next().is_some()
    };
    raws.into_iter().filter(is_held).collect()
}

/// A full set in which key 100 has just come, and no other is marked.
fn with_marks_taken() -> Resident {
    let table = one_set();
    for raw in 0..8 {
        fill(&table, raw, 1);
    }
    fill(&table, 100, 2);
    table
}

#[test]
fn of_a_full_set_the_one_key_goes_that_was_not_used() {
    for unused in 0..7 {
        let table = with_marks_taken();
        let mut others = held(&table, 0..8);
        assert_eq!(others.len(), 7);
        let unused = others.remove(unused);
        for raw in &others {
            assert_eq!(get(&table, *raw), Some(1));
        }
        fill(&table, 101, 3);
        assert_eq!(held(&table, 0..8), others, "without {unused}");
        assert_eq!(held(&table, [100, 101]), [100, 101]);
    }
}

#[test]
fn a_free_way_is_taken_before_one_that_was_not_used() {
    for cleared in held(&with_marks_taken(), 0..8) {
        let table = with_marks_taken();
        table.publish(&[id(cleared)], || {});
        let before = held(&table, 0..101);
        fill(&table, 101, 3);
        assert_eq!(held(&table, 0..101), before);
        assert_eq!(held(&table, [101]), [101]);
    }
}

#[test]
fn a_key_with_no_fingerprint_of_its_own_in_the_set_is_not_looked_for() {
    let table = one_set();
    assert!(table.find(id(1)).is_none());
    fill(&table, 1, 1);
    let Place { fingerprint, .. } = table.place_of(id(1));
    for raw in 2..1000 {
        let alike = table.place_of(id(raw)).fingerprint == fingerprint;
        assert_eq!(table.find(id(raw)).is_some(), alike, "{raw}");
    }
}

/// Bytes of which none is 0, but for the rare words that are not asked for.
fn record(len: usize, rare: &[usize]) -> Vec<u8> {
    let mut record: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0] | 1).collect();
    record[0] = TABLE;
    for word in RARE.into_iter().filter(|word| !rare.contains(word)) {
        record[word..word + 8].fill(0);
    }
    record
}

#[test]
fn records_are_kept_whole_up_to_the_longest_whatever_rare_words_they_have() {
    /// Of a record without parts.
    const PLAIN_MAX: usize = 104 + 40;
    for set in 0..8_usize {
        let rare: Vec<usize> = (0..3)
            .filter(|at| set >> at & 1 == 1)
            .map(|at| RARE[at])
            .collect();
        let less = rare.len() * 8;
        let mut copied = [0xff; COPIED_LEN];
        for never_written in [16..24, 88..104, PLAIN_MAX..COPIED_LEN] {
            copied[never_written].fill(0);
        }
        for len in (104..=RECORD_LEN_MAX + 1).rev() {
            let table = one_set();
            let record = record(len, &rare);
            put(&table, table.leave_to_fill().unwrap(), 5, &record);
            let found = table.find(id(5));
            let is_kept = len <= RECORD_LEN_MAX - less;
            assert_eq!(found.is_some(), is_kept, "{len} bytes, {rare:?}");
            let Some(found) = found else { continue };
            let copying = table.copy(found, id(5), &mut copied);
            let mut long = [0; RECORD_LEN_MAX];
            let copied: &[u8] = match len <= PLAIN_MAX - less {
                true => {
                    assert_eq!(copying, Copying::Done);
                    &copied
                }
                false => {
                    assert_eq!(copying, Copying::Long);
                    assert!(table.copy_long(found, id(5), &mut long));
                    &long
                }
            };
            assert_eq!(copied[..8], record[..8]);
            assert_eq!(copied[8..16], 5_u64.to_le_bytes());
            assert_eq!(copied[16..24], [0; 8]);
            assert_eq!(copied[24..88], record[24..88]);
            assert_eq!(copied[88..104], [0; 16]);
            assert_eq!(copied[104..len], record[104..]);
            assert!(copied[len..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_record_with_a_lineage_is_copied_to_its_end() {
    let table = one_set();
    let mut record = record(104 + 32 + 8, &[]);
    // The flag of a lineage, and the lengths.
    (record[2], record[6], record[7]) = (16, 32, 0);
    put(&table, table.leave_to_fill().unwrap(), 5, &record);
    assert_eq!(whole(&table, 5).unwrap()[104..record.len()], record[104..]);
}

/// A key whose first set is this one.
fn of_set(table: &Resident, set: usize) -> impl Iterator<Item = u64> {
    (0..).filter(move |raw| table.place_of(id(*raw)).sets[0] == set)
}

#[test]
fn a_key_whose_set_is_full_stands_in_its_second() {
    let table = with_sets(8, 8);
    let raws: Vec<u64> = of_set(&table, 3).take(20).collect();
    for (byte, raw) in (1..).zip(&raws) {
        fill(&table, *raw, byte);
    }
    assert_eq!(table.occupancy().0, 20);
    for (byte, raw) in (1..).zip(&raws) {
        assert_eq!(get(&table, *raw), Some(byte));
    }
    for raw in &raws {
        // Filled again, also where its first set has room by now, it stands once.
        fill(&table, *raw, 99);
        assert_eq!(get(&table, *raw), Some(99));
        table.publish(&[id(*raw)], || {});
        assert_eq!(get(&table, *raw), None);
    }
    assert_eq!(table.occupancy().0, 0);
}

#[test]
fn two_sets_of_a_key_are_under_one_lock_and_in_the_table() {
    for sets in [1, 2, 7, 8, 9, 1000, 1003] {
        let table = with_sets(sets, sets);
        let mut same = 0;
        for raw in 0..4000 {
            let [first, second] = table.place_of(id(raw << 17)).sets;
            assert!(first < sets && second < sets);
            assert!(std::ptr::eq(table.lock_of(first), table.lock_of(second)));
            same += u32::from(first == second);
        }
        assert_eq!(same == 0, sets.is_multiple_of(8), "{sets} sets, {same}");
    }
}

#[test]
fn the_table_grows_while_keys_are_crowded_out_and_to_all_of_it_at_most() {
    let table = with_sets(8, 100);
    let mut sizes = vec![8];
    for _ in 0..20 {
        for raw in 0..500_u64 {
            if get(&table, raw << 17).is_none() {
                fill(&table, raw << 17, 1);
            }
            if sizes.last() != Some(&table.sets_in_use()) {
                sizes.push(table.sets_in_use());
            }
        }
    }
    // 500 keys do not fit into 256 places, and fit into 800.
    assert_eq!(sizes, [8, 16, 32, 64, 100]);
    let kept = (0..500_u64).filter(|raw| get(&table, raw << 17).is_some());
    assert_eq!(kept.count(), 500);
    assert_eq!(table.occupancy(), (500, 800));
    for raw in 500..10_000_u64 {
        fill(&table, raw << 17, 1);
    }
    assert_eq!(table.sets_in_use(), 100);
}

#[test]
fn a_table_that_keys_fit_into_stays_as_small_as_it_is() {
    let table = table(64 << 20);
    let sets = table.sets_in_use();
    assert!((SETS_MIN..2 * SETS_MIN).contains(&sets));
    for raw in 0..600_u64 {
        fill(&table, raw << 17, 1);
    }
    assert_eq!(table.sets_in_use(), sets);
    assert_eq!(table.occupancy(), (600, (64 << 20) / SET_BYTES * 8));
}

#[test]
fn a_fill_from_before_the_table_grew_is_dropped() {
    let table = with_sets(8, 64);
    let before = table.leave_to_fill().unwrap();
    table.grow(before);
    assert_eq!(table.sets_in_use(), 16);
    put(&table, before, 5, &uniform(1, 100));
    assert_eq!((get(&table, 5), table.occupancy().0), (None, 0));
    // Nor does it grow again by a leave from before, or once it is shut.
    table.grow(before);
    let leave = table.leave_to_fill().unwrap();
    table.shut();
    table.grow(leave);
    assert_eq!(table.sets_in_use(), 16);
    assert!(table.leave_to_fill().is_none());
}

/// As the table grows on, a key may come to have a set again that was its second two
/// sizes before, and from which nothing was cleared since.
#[test]
fn what_was_in_the_table_before_it_grew_is_never_found_again() {
    let sizes = [8, 16, 32, 64];
    let tables = sizes.map(|sets| with_sets(sets, sets));
    let mut returned = 0;
    for raw in 0..100_000_u64 {
        let sets = tables.each_ref().map(|table| table.place_of(id(raw)).sets);
        let is_left = sets[0]
            .iter()
            .any(|set| !sets[1].contains(set) && sets[2].contains(set));
        if !is_left {
            continue;
        }
        returned += 1;
        let table = with_sets(8, 64);
        let grow = || table.grow(table.leave_to_fill().unwrap());
        // In its second set, too.
        let [first, _] = sets[0];
        for other in of_set(&table, first).filter(|other| *other != raw).take(8) {
            fill(&table, other, 1);
        }
        fill(&table, raw, 1);
        grow();
        table.publish(&[id(raw)], || {});
        grow();
        assert_eq!(get(&table, raw), None, "{raw}");
        // Also where a key with the next fingerprint comes to stand beside it.
        for other in 0..200 {
            fill(&table, other << 17, 2);
            assert_ne!(get(&table, raw), Some(1), "{raw}");
        }
    }
    assert!(returned > 10, "{returned} keys came back");
}

#[test]
fn what_was_in_the_table_before_it_grew_is_there_once_it_is_put_back() {
    for raw in 0..200 {
        let table = with_sets(8, 64);
        fill(&table, raw, 1);
        table.grow(table.leave_to_fill().unwrap());
        assert_eq!(get(&table, raw), None, "{raw}");
        // The same record, which may still stand in the place that it gets.
        fill(&table, raw, 1);
        assert_eq!(get(&table, raw), Some(1), "{raw}");
    }
}

/// What is free for one part of a record may be where growing left another of its parts.
#[test]
fn a_record_with_parts_is_there_once_it_is_put_back_although_its_slot_was_given_away() {
    let record = uniform(1, RECORD_LEN_MAX - RARE.len() * 8);
    let mut seen = 0;
    for raw in 0..200 {
        let table = with_sets(8, 64);
        let set_of = |raw| table.place_of(id(raw)).sets[0];
        let put = || put(&table, table.leave_to_fill().unwrap(), raw, &record);
        let before = set_of(raw);
        put();
        table.grow(table.leave_to_fill().unwrap());
        if set_of(raw) == before {
            let other = (200..).find(|other| set_of(*other) == before);
            fill(&table, other.unwrap(), 2);
            put();
            assert!(whole(&table, raw).is_some(), "{raw}");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} keys have the set that they had");
}

#[test]
fn keys_are_spread_over_the_sets_and_the_fingerprints() {
    let table = with_sets(1000, 1000);
    let (mut sets, mut fingerprints) = (vec![0_u32; 1000], vec![0_u32; 256]);
    // As they are issued: a millisecond after each other, with 18 bits drawn.
    for ms in 0..8000_u64 {
        let drawn = ms.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 46;
        let Place {
            sets: [set, _],
            fingerprint,
        } = table.place_of(id(ms << 18 | drawn));
        sets[set] += 1;
        fingerprints[usize::try_from(fingerprint).unwrap()] += 1;
    }
    let most = sets.iter().max().unwrap();
    assert!(*most <= 24, "{most} of 8,000 keys in one of 1,000 sets");
    let used = fingerprints.iter().filter(|count| **count > 0).count();
    assert!(used > 240 && fingerprints[0] == 0, "{used} fingerprints");
}
