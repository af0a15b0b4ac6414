//! The table, one step after the other; the orders of steps are in `interleavings`.

use super::*;

fn id(raw: u64) -> KeyId {
    KeyId::from_raw(raw)
}

fn get(table: &Resident, raw: u64) -> Option<u8> {
    let mut copied = [0; RECORD_LEN_MAX];
    let found = table.find(id(raw))?;
    table.copy(found, id(raw), &mut copied).then_some(copied[0])
}

fn fill(table: &Resident, raw: u64, byte: u8) {
    let leave = table.leave_to_fill().unwrap();
    table.fill(leave, id(raw), &[byte; 100]);
}

#[test]
fn what_is_filled_is_found_and_the_id_zero_too() {
    let table = Resident::new(1 << 16).unwrap().unwrap();
    for raw in [0, 1, 839_299_365_868_340_223] {
        assert_eq!(get(&table, raw), None);
        fill(&table, raw, 7);
        assert_eq!(get(&table, raw), Some(7));
    }
    assert_eq!(table.occupancy().0, 3);
}

#[test]
fn the_table_keeps_to_its_bytes_and_evicts_what_is_not_used() {
    let table = Resident::new(12 * SET_BYTES + SET_BYTES / 2)
        .unwrap()
        .unwrap();
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
    assert!(Resident::new(SET_BYTES - 1).unwrap().is_none());
    assert!(Resident::new(usize::MAX).is_err());
}

#[test]
fn a_fill_from_before_a_publication_is_dropped() {
    let table = Resident::new(1 << 16).unwrap().unwrap();
    let before = table.leave_to_fill().unwrap();
    let mut during = None;
    fill(&table, 5, 1);
    table.publish(&[id(5)], || {
        during = table.leave_to_fill();
        table.fill(before, id(5), &[9; 100]);
    });
    assert!(during.is_none());
    table.fill(before, id(5), &[9; 100]);
    assert_eq!(get(&table, 5), None);
    fill(&table, 5, 2);
    assert_eq!(get(&table, 5), Some(2));
}

#[test]
fn what_is_shut_takes_nothing_in() {
    let table = Resident::new(1 << 16).unwrap().unwrap();
    fill(&table, 5, 1);
    let leave = table.leave_to_fill().unwrap();
    table.shut();
    table.fill(leave, id(5), &[1; 100]);
    assert_eq!(get(&table, 5), None);
    assert!(table.leave_to_fill().is_none());
}

#[test]
fn a_record_that_is_too_long_is_not_kept() {
    let table = Resident::new(1 << 16).unwrap().unwrap();
    let leave = table.leave_to_fill().unwrap();
    table.fill(leave, id(5), &[1; RECORD_LEN_MAX + 1]);
    assert_eq!(get(&table, 5), None);
}

#[test]
fn readers_never_see_half_of_a_record() {
    let table = Resident::new(SET_BYTES).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20_000_u32 {
                let leave = table.leave_to_fill().unwrap();
                table.fill(leave, id(1), &[round.to_le_bytes()[0]; 128]);
            }
        });
        let mut copied = [0; RECORD_LEN_MAX];
        for _ in 0..200_000 {
            let found = table.find(id(1));
            if found.is_some_and(|found| table.copy(found, id(1), &mut copied)) {
                let kept = copied[..8].iter().chain(&copied[24..104]);
                assert!(kept.copied().all(|byte| byte == copied[0]));
                assert_eq!(copied[8..24], [1_u64.to_le_bytes(), [0; 8]].concat());
            }
        }
    });
}

/// A table of one set, so that all keys meet in it.
fn one_set() -> Resident {
    Resident::new(SET_BYTES).unwrap().unwrap()
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
    let is_held = |raw: &u64| table.find(id(*raw)).is_some() && table.way_of(id(*raw), 0).is_some();
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
    for word in RARE.into_iter().filter(|word| !rare.contains(word)) {
        record[word..word + 8].fill(0);
    }
    record
}

#[test]
fn records_are_kept_whole_up_to_the_longest_whatever_rare_words_they_have() {
    assert_eq!(RECORD_LEN_MAX, 104 + 48);
    for set in 0..8_usize {
        let rare: Vec<usize> = (0..3)
            .filter(|at| set >> at & 1 == 1)
            .map(|at| RARE[at])
            .collect();
        let longest = RECORD_LEN_MAX - rare.len() * 8;
        let mut copied = [0xff; RECORD_LEN_MAX];
        copied[16..24].fill(0);
        for len in (104..=RECORD_LEN_MAX + 1).rev() {
            let table = one_set();
            let record = record(len, &rare);
            table.fill(table.leave_to_fill().unwrap(), id(5), &record);
            let found = table.find(id(5));
            assert_eq!(found.is_some(), len <= longest, "{len} bytes, {rare:?}");
            let Some(found) = found else { continue };
            assert!(table.copy(found, id(5), &mut copied));
            assert_eq!(copied[..8], record[..8]);
            assert_eq!(copied[8..16], 5_u64.to_le_bytes());
            assert_eq!(copied[16..24], [0; 8]);
            assert_eq!(copied[24..len], record[24..]);
            assert!(copied[len..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_record_with_a_lineage_is_copied_to_its_end() {
    let table = one_set();
    let mut record = record(104 + 40 + 8, &[]);
    // The flag of a lineage, and the lengths.
    (record[2], record[6], record[7]) = (16, 40, 0);
    table.fill(table.leave_to_fill().unwrap(), id(5), &record);
    let mut copied = [0; RECORD_LEN_MAX];
    assert!(table.copy(table.find(id(5)).unwrap(), id(5), &mut copied));
    assert_eq!(copied[24..], record[24..]);
}

/// A key whose first set is this one.
fn of_set(table: &Resident, set: usize) -> impl Iterator<Item = u64> {
    (0..).filter(move |raw| table.place_of(id(*raw)).sets[0] == set)
}

#[test]
fn a_key_whose_set_is_full_stands_in_its_second() {
    let table = Resident::with_sets(8, 8).unwrap();
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
        let table = Resident::with_sets(sets, sets).unwrap();
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
    let table = Resident::with_sets(8, 100).unwrap();
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
    let table = Resident::new(64 << 20).unwrap().unwrap();
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
    let table = Resident::with_sets(8, 64).unwrap();
    let before = table.leave_to_fill().unwrap();
    table.grow(before);
    assert_eq!(table.sets_in_use(), 16);
    table.fill(before, id(5), &[1; 100]);
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
    let tables = sizes.map(|sets| Resident::with_sets(sets, sets).unwrap());
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
        let table = Resident::with_sets(8, 64).unwrap();
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
fn keys_are_spread_over_the_sets_and_the_fingerprints() {
    let table = Resident::with_sets(1000, 1000).unwrap();
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
