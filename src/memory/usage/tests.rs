use super::sums::{DENIALS_MAX, KEYS_MAX};
use super::*;
use crate::memory::tally::Way;

fn answered(outcome: Outcome) -> Answered {
    Answered {
        keyspace: 0,
        outcome,
        way: Way::Memory,
    }
}

fn noted(notes: &Notes, key: KeyId, outcome: Outcome, now: Timestamp) {
    let at = (now, Step::of(now));
    notes
        .answered(key, answered(outcome), at, || Ok(()), || ())
        .unwrap();
}

fn take_used(notes: &Notes) -> Vec<Used> {
    let taken = notes.take_notes(Timestamp::MIN);
    assert!(taken.iter().all(|note| note.outcome == Outcome::Granted));
    taken.into_iter().map(|note| note.used).collect()
}

fn used(notes: &Notes, key: KeyId, now: Timestamp) {
    noted(notes, key, Outcome::Granted, now);
}

#[test]
fn uses_of_all_threads_add_up() {
    let notes = Notes::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    used(&notes, KeyId::from_raw(7), Timestamp::from_raw(61_000));
                }
            });
        }
    });
    let taken = notes.take_notes(Timestamp::MIN);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].used.count, 4000);
    assert_eq!(taken[0].used.last_used, Timestamp::from_raw(60_000));
    assert!(take_used(&notes).is_empty());
    notes.put_back(&taken);
    assert_eq!(take_used(&notes)[0].count, 4000);
}

#[test]
fn each_use_counts_in_its_own_minute() {
    let notes = Notes::new();
    let key = KeyId::from_raw(7);
    for minute in [3, 3, 4, 2] {
        used(
            &notes,
            key,
            Timestamp::from_raw(minute * MINUTE_MS + 59_999),
        );
    }
    used(&notes, KeyId::from_raw(8), Timestamp::from_raw(MINUTE_MS));
    let used = take_used(&notes);
    assert_eq!(used[0].last_used, Timestamp::from_raw(4 * MINUTE_MS));
    assert_eq!(used[0].count, 4);
    assert_eq!(used[1].last_used, Timestamp::from_raw(MINUTE_MS));
}

#[test]
fn nothing_is_lost_while_others_add_up() {
    let notes = &Notes::new();
    let uses = 100_000;
    // A key for each use: what is taken twice, or not at all, has a name.
    let take = |taken: &mut Vec<u64>| {
        let notes = notes.take_notes(Timestamp::MIN).into_iter();
        taken.extend(notes.map(|note| note.key.unwrap().raw()));
    };
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        let threads = [0, uses].map(|first| {
            scope.spawn(move || {
                for at in 0..uses {
                    used(notes, KeyId::from_raw(first + at), Timestamp::from_raw(at));
                }
            })
        });
        while !threads.iter().all(|thread| thread.is_finished()) {
            take(&mut taken);
        }
    });
    take(&mut taken);
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..2 * uses));
}

#[test]
fn who_gathers_when_called_leaves_nothing_to_add_up_to_the_thread() {
    let notes = Notes::new();
    let (now, mut calls) = (Timestamp::MIN, 0);
    for raw in 0..20 * CALL_LEN as u64 {
        let gather = || {
            calls += 1;
            notes.gather();
        };
        let (at, granted) = ((now, Step::of(now)), answered(Outcome::Granted));
        notes
            .answered(KeyId::from_raw(raw), granted, at, || Ok(()), gather)
            .unwrap();
        let (_, waiting) = notes.logs.get().unwrap().waiting();
        assert!(waiting < CALL_LEN);
    }
    assert_eq!(calls, 20);
    // Which is what a thread takes of memory, and not the 64 that it may.
    assert_eq!(notes.logs.get().unwrap().pieces(), 2);
    assert_eq!(take_used(&notes).len(), 20 * CALL_LEN);
}

/// Whoever adds up takes them while pieces begin in places that are free again, in any order.
#[test]
fn what_is_taken_at_any_time_is_each_use_once() {
    let notes = Notes::new();
    let mut random = 7u64;
    let mut taken: Vec<u64> = Vec::new();
    for raw in 0..300_000 {
        used(&notes, KeyId::from_raw(raw), Timestamp::MIN);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let log = notes.logs.get().unwrap();
        match random >> 52 {
            0 => {
                let taken_now = notes.take_notes(Timestamp::MIN).into_iter();
                taken.extend(taken_now.map(|note| note.key.unwrap().raw()));
            }
            1 => drop(log.add_up(999, &mut lock(&notes.sums))),
            _ => {}
        }
    }
    let rest = notes.take_notes(Timestamp::MIN).into_iter();
    taken.extend(rest.map(|note| note.key.unwrap().raw()));
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..300_000));
    let pieces = notes.logs.get().unwrap().pieces();
    assert!((3..63).contains(&pieces), "{pieces}");
}

#[test]
fn a_full_log_of_which_nobody_takes_is_added_up_by_its_thread_a_part_at_a_time() {
    let notes = Notes::new();
    let (now, mut calls, mut asked, mut waited) = (Timestamp::MIN, 0, 0, 0);
    for raw in 0..3 * LOG_LEN as u64 {
        let ask = || {
            asked += 1;
            Ok(())
        };
        let (at, granted) = ((now, Step::of(now)), answered(Outcome::Granted));
        notes
            .answered(KeyId::from_raw(raw), granted, at, ask, || calls += 1)
            .unwrap();
        let (_, waiting) = notes.logs.get().unwrap().waiting();
        let added_up = (waited + 1usize).saturating_sub(waiting);
        assert!(added_up == 0 || added_up == PART_LEN, "{added_up}");
        waited = waiting;
    }
    let parts = 2 * LOG_LEN / PART_LEN;
    assert_eq!(calls, 3 * LOG_LEN / CALL_LEN);
    // Whose process this is, once in 1,024, and before each part.
    assert_eq!(asked, LOG_LEN / 1024 + parts);
    assert_eq!(take_used(&notes).len(), 3 * LOG_LEN);
}

#[test]
fn memory_is_bounded_and_what_is_lost_is_counted() {
    let notes = Notes::new();
    for raw in 0..KEYS_MAX as u64 + 10 {
        used(&notes, KeyId::from_raw(raw), Timestamp::MIN);
    }
    assert_eq!(take_used(&notes).len(), KEYS_MAX);
    assert_eq!(notes.lost(), 10);
}

#[test]
fn uses_that_are_put_back_where_there_is_no_room_are_counted_as_lost() {
    let notes = Notes::new();
    let key = KeyId::from_raw;
    for raw in [1 << 40, 1 << 40, 7] {
        used(&notes, key(raw), Timestamp::from_raw(3 * MINUTE_MS));
    }
    let taken = notes.take_notes(Timestamp::MIN);
    for raw in 0..KEYS_MAX as u64 {
        used(&notes, key(raw), Timestamp::MIN);
    }
    notes.gather();
    notes.put_back(&taken);
    assert_eq!(notes.lost(), 2);
    let taken = take_used(&notes);
    assert_eq!(taken.len(), KEYS_MAX);
    assert_eq!(taken[7].count, 2, "it is among them, and goes on");
    assert_eq!(taken[7].last_used, Timestamp::from_raw(3 * MINUTE_MS));
}

#[test]
fn denials_are_added_up_by_reason_and_hour_and_are_no_uses() {
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    let notes = Notes::new();
    let key = KeyId::from_raw(62_u64.pow(10) - 1);
    for (outcome, at) in [
        (Outcome::Granted, 5 * HOUR_MS),
        (Outcome::QuotaExhausted, 5 * HOUR_MS),
        (Outcome::QuotaExhausted, 6 * HOUR_MS - 1),
        (Outcome::QuotaExhausted, 6 * HOUR_MS),
        (Outcome::Revoked, 6 * HOUR_MS),
    ] {
        noted(&notes, key, outcome, Timestamp::from_raw(at));
    }
    notes.count_unattributed(Outcome::Malformed);
    assert_eq!(notes.waits_since(), Some(Timestamp::from_raw(5 * HOUR_MS)));
    let now = Timestamp::from_raw(6 * HOUR_MS + 7);
    let taken = notes.take_notes(now);
    let shown = |notes: &[Note]| -> Vec<(bool, Outcome, u64, u64)> {
        let hour = |note: &Note| note.used.last_used.unix_ms() / HOUR_MS;
        notes
            .iter()
            .map(|note| {
                (
                    note.key == Some(key),
                    note.outcome,
                    hour(note),
                    note.used.count,
                )
            })
            .collect()
    };
    let expected = [
        (true, Outcome::Granted, 5, 1),
        (true, Outcome::Revoked, 6, 1),
        (true, Outcome::QuotaExhausted, 5, 2),
        (true, Outcome::QuotaExhausted, 6, 1),
        (false, Outcome::Malformed, 6, 1),
    ];
    assert_eq!(shown(&taken), expected);
    assert_eq!(notes.waits_since(), None);
    notes.put_back(&taken);
    assert_eq!(notes.waits_since(), Some(Timestamp::from_raw(5 * HOUR_MS)));
    notes.count_unattributed(Outcome::Malformed);
    let again = notes.take_notes(now);
    assert_eq!(shown(&again)[..4], expected[..4]);
    let malformed = again[4..].iter().map(|note| note.used.count).sum::<u64>();
    assert_eq!(malformed, 2);
    assert!(notes.take_notes(now).is_empty());
}

#[test]
fn what_belongs_to_no_key_is_added_up_where_it_is_put_back_again() {
    let notes = Notes::new();
    let note = |outcome, hour_ms, count| Note {
        key: None,
        outcome,
        used: Used {
            last_used: Timestamp::from_raw(hour_ms),
            count,
        },
    };
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    let parts = [
        note(Outcome::Malformed, HOUR_MS, 2),
        note(Outcome::Unknown, HOUR_MS, 3),
        note(Outcome::Malformed, 2 * HOUR_MS, 5),
    ];
    notes.put_back(&parts);
    notes.put_back(&parts[..2]);
    let taken = notes.take_notes(Timestamp::MIN);
    let counts: Vec<_> = (taken.iter())
        .map(|note| (note.outcome, note.used.last_used.unix_ms(), note.used.count))
        .collect();
    let expected = [
        (Outcome::Malformed, HOUR_MS, 4),
        (Outcome::Unknown, HOUR_MS, 6),
        (Outcome::Malformed, 2 * HOUR_MS, 5),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn denials_take_no_room_of_uses_and_those_without_room_are_counted() {
    let notes = Notes::new();
    for raw in 0..DENIALS_MAX as u64 + 3 {
        noted(
            &notes,
            KeyId::from_raw(raw),
            Outcome::Revoked,
            Timestamp::MIN,
        );
    }
    used(&notes, KeyId::from_raw(1 << 40), Timestamp::MIN);
    let taken = notes.take_notes(Timestamp::MIN);
    assert_eq!(taken.len(), DENIALS_MAX + 1);
    assert_eq!((notes.denials_lost(), notes.lost()), (3, 0));
}

#[test]
fn digests_to_renew_are_noted_once_and_up_to_a_bound() {
    let notes = Notes::new();
    let per_shard = (RENEWALS_MAX / SHARDS) as u64;
    let renewal = |at: u64| Renewal {
        id: KeyId::from_raw(at * SHARDS as u64 + 5),
        old: [0; 32],
        pepper: 1,
        new: [1; 32],
    };
    for at in 0..per_shard {
        assert!(!notes.awaits_renewal(renewal(at).id));
        for _ in 0..2 {
            notes.renew(renewal(at));
            assert!(notes.awaits_renewal(renewal(at).id));
        }
    }
    let beyond = renewal(per_shard);
    assert!(notes.awaits_renewal(beyond.id), "there is no room for it");
    notes.renew(beyond);
    let other = KeyId::from_raw(6);
    assert!(!notes.awaits_renewal(other), "others have theirs");
    let ids: Vec<_> = (notes.take_renewals().iter())
        .map(|renewal| renewal.id)
        .collect();
    assert_eq!(
        ids,
        (0..per_shard).map(|at| renewal(at).id).collect::<Vec<_>>()
    );
    assert!(notes.take_renewals().is_empty());
    assert!(!notes.awaits_renewal(beyond.id));
}
