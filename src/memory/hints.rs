//! Hints where something stands that is found by a number: small enough for the
//! processor's caches, so that what they lead to can be fetched before it is needed.
//!
//! A hint may be wrong, or gone: whoever follows it looks whether what stands there is
//! what was looked for, and else asks what knows.

use std::sync::OnceLock;

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::table::Mutex;

/// How many hints share a group, a part of a cache line.
const WAYS: usize = 4;
/// The first table has two to the power of so many groups. A model checker takes few.
const BITS_MIN: u32 = if cfg!(gatekey_shuttle) { 2 } else { 9 };
const TABLES: usize = 18;
/// The bits of a hint that say where: one more than the place, so that 0 is no hint. Above
/// them is a mark of the number.
const PLACE_BITS: u32 = 24;
const PLACE: u32 = (1 << PLACE_BITS) - 1;

type Group = [AtomicU32; WAYS];

/// Tables of which each has twice as many hints as the one before. The last is in use; as
/// it comes, all hints are forgotten, and soon known again.
pub(crate) struct Hints {
    tables: [OnceLock<Box<[Group]>>; TABLES],
    /// How many tables there are.
    count: AtomicUsize,
    growing: Mutex<()>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self {
            tables: [const { OnceLock::new() }; TABLES],
            count: AtomicUsize::new(0),
            growing: Mutex::new(()),
        }
    }

    /// Where a number's thing may stand.
    #[inline(always)]
    pub(crate) fn get(&self, number: u64) -> Option<usize> {
        let (group, mark) = self.group(number)?;
        let mut hints = group.iter().map(|hint| hint.load(Ordering::Relaxed));
        let hint = hints.find(|hint| hint & !PLACE == mark && hint & PLACE != 0)?;
        usize::try_from((hint & PLACE) - 1).ok()
    }

    /// Notes where a number's thing stands, one of so many.
    pub(crate) fn set(&self, number: u64, place: usize, of: usize) {
        let count = self.count.load(Ordering::Relaxed);
        let has_room = count > 0 && of <= Self::groups(count - 1) * WAYS / 2;
        if !has_room && count < TABLES {
            self.grow(count);
        }
        let Some((group, mark)) = self.group(number) else {
            return;
        };
        // Where all are others', one of them goes.
        let one = (mark >> PLACE_BITS) as usize % WAYS;
        let chosen = Self::room_in(group, mark).or_else(|| group.get(one));
        Self::put(chosen, mark, place);
    }

    /// Notes where a number's thing stands too, where there is room beside those that are
    /// [`set`](Self::set).
    pub(crate) fn add(&self, number: u64, place: usize) {
        if let Some((group, mark)) = self.group(number) {
            Self::put(Self::room_in(group, mark), mark, place);
        }
    }

    /// The hint of a mark, or a free one.
    fn room_in(group: &Group, mark: u32) -> Option<&AtomicU32> {
        group.iter().find(|hint| {
            let hint = hint.load(Ordering::Relaxed);
            hint & !PLACE == mark || hint == 0
        })
    }

    fn put(chosen: Option<&AtomicU32>, mark: u32, place: usize) {
        let place = u32::try_from(place).ok().filter(|place| *place < PLACE);
        if let (Some(chosen), Some(place)) = (chosen, place) {
            chosen.store(mark | (place + 1), Ordering::Relaxed);
        }
    }

    /// Makes the next table, unless somebody is at it, who in a child of a fork is not there.
    #[cold]
    fn grow(&self, count: usize) {
        let Ok(_growing) = self.growing.try_lock() else {
            return;
        };
        if let Some(next) = self.tables.get(count) {
            let group = || std::array::from_fn(|_| AtomicU32::new(0));
            next.get_or_init(|| (0..Self::groups(count)).map(|_| group()).collect());
            self.count.fetch_max(count + 1, Ordering::Release);
        }
    }

    fn groups(table: usize) -> usize {
        (1 << BITS_MIN) << table
    }

    /// The group of a number, and its mark there.
    #[inline(always)]
    fn group(&self, number: u64) -> Option<(&Group, u32)> {
        let table = self.count.load(Ordering::Acquire).checked_sub(1)?;
        let groups = self.tables.get(table)?.get()?;
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bits = groups.len().trailing_zeros();
        let group = groups.get(usize::try_from(mixed >> (64 - bits)).ok()?)?;
        // What comes after the bits that chose the group.
        let mark = u32::try_from((mixed << bits) >> 32).unwrap_or(0) & !PLACE;
        Some((group, mark))
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_takes_no_room_of_what_is_set() {
        let hints = Hints::new();
        let number = |at: usize| (1 << 58) + 4_096 * at as u64;
        (0..100).for_each(|at| hints.set(number(at), at, 100));
        let found = || (0..100).filter(|at| hints.get(number(*at)) == Some(*at));
        let before = found().count();
        (100..100_000).for_each(|at| hints.add(number(at), 7));
        assert_eq!(found().count(), before);
        assert!((100..100_000).any(|at| hints.get(number(at)) == Some(7)));
    }

    #[test]
    fn most_of_many_are_found_where_they_were_noted() {
        let hints = Hints::new();
        assert_eq!(hints.get(7), None);
        // Ids are in the order of time: what differs is at their lower end.
        let number = |at: usize| (1 << 58) + 4_096 * at as u64;
        let len = 20_000;
        for _ in 0..2 {
            for at in 0..len {
                hints.set(number(at), at, len);
            }
        }
        let found = (0..len).filter(|at| hints.get(number(*at)) == Some(*at));
        assert!(found.count() > len * 95 / 100);
        let groups = Hints::groups(hints.count.load(Ordering::Relaxed) - 1);
        assert!(groups * WAYS * 4 <= len * 16, "{groups}");
    }
}
