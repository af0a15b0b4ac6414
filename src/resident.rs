//! Hot records in memory, in front of the file: bounded, and read without a
//! lock.
//!
//! A set-associative table. The ids of one set, eight of them, share a cache
//! line; behind each stands a slot of plain atomic words under a version word
//! (a seqlock): odd while it is written, and changed by every write, so that a
//! reader that was overtaken notices and goes to the file instead.
//!
//! # Consistency
//! What is in the table is what the newest published snapshot holds, by this
//! protocol, which docs/DESIGN.md argues case by case:
//!
//! - a reader that misses notes the *generation*, reads the snapshot, and fills
//!   the slot only if the generation is still the same and even, looked at
//!   under the set's lock;
//! - a writer, after its commit, makes the generation odd, clears what it
//!   changed under the sets' locks, publishes its snapshot, and makes the
//!   generation even.
//!
//! So a fill from before is either refused or cleared, and the swap of the
//! snapshot is the one instant at which a commit takes effect for all.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::KeyId;
use crate::record::{NOT_RESIDENT, body_len};

/// How many keys share a set.
const WAYS: usize = 8;
/// The words of a slot: the record's first, and those from behind what is not
/// kept.
const WORDS: usize = 18;
/// The longest record that is kept, without its tag: with an owner of up to 56
/// bytes, or a shorter one and networks. Longer ones are read from the file.
pub(crate) const RECORD_LEN_MAX: usize = WORDS * 8 + NOT_RESIDENT.end - NOT_RESIDENT.start;
/// How many locks the sets share; readers take none of them.
const LOCKS: usize = 64;
/// In an id's word: used since the mark was last taken away. Ids leave the four
/// highest bits free.
const USED: u64 = 1 << 63;
/// Set in every id's word that is taken, so that the id 0 is not [`EMPTY`].
const TAKEN: u64 = 1 << 62;
/// An id's word that names no key.
const EMPTY: u64 = 0;

/// The bytes of memory that one key takes up: as the documentation of
/// [`crate::Options::resident_bytes`] says.
const BYTES_PER_KEY: usize = size_of::<Set>() / WAYS;
const _: () = assert!(BYTES_PER_KEY == 160);

/// A record copied out of the table, padded with zeros. Its revision is not
/// kept, and reads as 0.
pub(crate) type Copied = [u8; RECORD_LEN_MAX];

/// The ids share a cache line, and the slots are on the same page as a rule.
#[repr(align(64))]
struct Set {
    ids: [AtomicU64; WAYS],
    slots: [Slot; WAYS],
}

struct Slot {
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

pub(crate) struct Resident {
    sets: Box<[Set]>,
    locks: Box<[Mutex<()>]>,
    /// Even: the table may be filled from the published snapshot. Odd: a
    /// writer is publishing.
    generation: AtomicU64,
}

/// Leave to fill the table from a snapshot loaded after it was given.
#[derive(Clone, Copy)]
pub(crate) struct FillLeave(u64);

impl Resident {
    /// A table of at most `bytes`, or `None` where not one set fits.
    pub(crate) fn new(bytes: usize) -> Result<Option<Self>, TryReserveError> {
        let count = bytes / size_of::<Set>();
        if count == 0 {
            return Ok(None);
        }
        let mut sets = Vec::new();
        sets.try_reserve_exact(count)?;
        let zero = || AtomicU64::new(0);
        let set = || Set {
            ids: std::array::from_fn(|_| zero()),
            slots: std::array::from_fn(|_| Slot {
                version: zero(),
                words: std::array::from_fn(|_| zero()),
            }),
        };
        sets.extend((0..count).map(|_| set()));
        Ok(Some(Self {
            sets: sets.into_boxed_slice(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            generation: zero(),
        }))
    }

    /// Copies a key's record out, if it is there.
    ///
    /// Takes no lock, and writes only the key's mark of use, and only when that
    /// was taken away.
    pub(crate) fn get(&self, id: KeyId, into: &mut Copied) -> bool {
        self.find(id)
            .is_some_and(|found| self.copy(found, id, into))
    }

    /// Where a key stands. Between this and [`copy`](Self::copy) a batch looks
    /// for its other keys, so that their cache misses overlap.
    pub(crate) fn find(&self, id: KeyId) -> Option<Found> {
        let (at, set) = self.set_of(id);
        let tag = id.raw() | TAKEN;
        let mut ids = set.ids.iter().zip(0..);
        ids.find(|(word, _)| word.load(Ordering::Relaxed) & !USED == tag)
            .map(|(_, way)| Found { set: at, way })
    }

    /// Copies out the record of a key found, unless it has left its slot since.
    pub(crate) fn copy(&self, found: Found, id: KeyId, into: &mut Copied) -> bool {
        let Some(set) = self.sets.get(found.set) else {
            return false;
        };
        let (Some(word), Some(slot)) = (set.ids.get(found.way), set.slots.get(found.way)) else {
            return false;
        };
        let before = slot.version.load(Ordering::Acquire);
        // After the version: whoever gives the slot to another key takes the id
        // away first, and changes the version after.
        let tag = word.load(Ordering::Relaxed);
        if !before.is_multiple_of(2) || tag & !USED != id.raw() | TAKEN {
            return false;
        }
        slot.copy(into);
        fence(Ordering::Acquire);
        if slot.version.load(Ordering::Relaxed) != before {
            return false;
        }
        if let Some(place) = into.get_mut(NOT_RESIDENT).and_then(<[u8]>::first_chunk_mut) {
            *place = id.raw().to_le_bytes();
        }
        if tag & USED == 0 {
            word.fetch_or(USED, Ordering::Relaxed);
        }
        true
    }

    /// To be asked for before the snapshot is loaded.
    pub(crate) fn leave_to_fill(&self) -> Option<FillLeave> {
        let generation = self.generation.load(Ordering::Acquire);
        generation
            .is_multiple_of(2)
            .then_some(FillLeave(generation))
    }

    /// Puts a record in, unless a writer has published since the leave was
    /// given, the record is too long, or the set is busy.
    pub(crate) fn fill(&self, leave: FillLeave, id: KeyId, record: &[u8]) {
        if record.len() > RECORD_LEN_MAX {
            return;
        }
        let (at, set) = self.set_of(id);
        let Ok(_guard) = self.lock_of(at).try_lock() else {
            return;
        };
        if self.generation.load(Ordering::Acquire) != leave.0 {
            return;
        }
        let tag = id.raw() | TAKEN;
        let way = set.way_for(tag);
        let (Some(word), Some(slot)) = (set.ids.get(way), set.slots.get(way)) else {
            return;
        };
        word.store(EMPTY, Ordering::Release);
        slot.write(record);
        word.store(tag | USED, Ordering::Release);
    }

    /// Lets a commit take effect: clears the keys that it changed and calls
    /// `swap`, which publishes its snapshot. One writer at a time.
    pub(crate) fn publish(&self, changed: &[KeyId], swap: impl FnOnce()) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for id in changed {
            self.clear(*id);
        }
        swap();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everything, and lets nothing in again.
    pub(crate) fn shut(&self) {
        self.generation.fetch_or(1, Ordering::AcqRel);
        for (at, set) in self.sets.iter().enumerate() {
            let _guard = self.lock(at);
            for word in &set.ids {
                word.store(EMPTY, Ordering::Release);
            }
        }
    }

    fn clear(&self, id: KeyId) {
        let (at, set) = self.set_of(id);
        let tag = id.raw() | TAKEN;
        let _guard = self.lock(at);
        for (word, slot) in set.ids.iter().zip(&set.slots) {
            if word.load(Ordering::Relaxed) & !USED == tag {
                word.store(EMPTY, Ordering::Release);
                slot.write(&[]);
            }
        }
    }

    fn set_of(&self, id: KeyId) -> (usize, &Set) {
        // Fibonacci hashing, then a multiplication in place of a remainder: ids
        // that were issued together are spread.
        let hash = id.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let set = (u128::from(hash) * self.sets.len() as u128) >> 64;
        let set = usize::try_from(set).unwrap_or(0);
        // `set` is below the number of sets, and there is at least one.
        (set, &self.sets[set])
    }

    fn lock_of(&self, set: usize) -> &Mutex<()> {
        // The remainder is below the number of locks.
        &self.locks[set % LOCKS]
    }

    fn lock(&self, set: usize) -> MutexGuard<'_, ()> {
        self.lock_of(set)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys are in the table, and how many fit.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        let taken = self
            .sets
            .iter()
            .flat_map(|set| &set.ids)
            .filter(|word| word.load(Ordering::Relaxed) != EMPTY)
            .count();
        (taken, self.sets.len() * WAYS)
    }
}

/// Where a key stands in the table.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    set: usize,
    way: usize,
}

impl Set {
    /// The way for a key: its own, else a free one, else one that was not used
    /// since the marks were last taken away.
    fn way_for(&self, tag: u64) -> usize {
        let find = |wanted: &dyn Fn(u64) -> bool| {
            self.ids
                .iter()
                .position(|word| wanted(word.load(Ordering::Relaxed)))
        };
        find(&|word| word & !USED == tag)
            .or_else(|| find(&|word| word == EMPTY))
            .or_else(|| find(&|word| word & USED == 0))
            .unwrap_or_else(|| {
                for word in &self.ids {
                    word.fetch_and(!USED, Ordering::Relaxed);
                }
                usize::try_from(tag % WAYS as u64).unwrap_or(0)
            })
    }
}

impl Slot {
    /// Copies out as much as the record is long. The caller looks at the
    /// version before and after.
    fn copy(&self, into: &mut Copied) {
        let (head, rest) = into.split_at_mut(NOT_RESIDENT.start);
        let [first, words @ ..] = &self.words;
        let first = first.load(Ordering::Relaxed);
        head.copy_from_slice(&first.to_le_bytes());
        let len = body_len(first).saturating_sub(NOT_RESIDENT.end);
        let (_, rest) = rest.split_at_mut(NOT_RESIDENT.end - NOT_RESIDENT.start);
        let (chunks, _) = rest.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(words).take(len.div_ceil(8)) {
            *chunk = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }

    /// Writes a record, padded with zeros. The set's lock is held.
    fn write(&self, record: &[u8]) {
        let before = self.version.load(Ordering::Relaxed);
        self.version.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let mut padded: Copied = [0; RECORD_LEN_MAX];
        for (to, from) in padded.iter_mut().zip(record) {
            *to = *from;
        }
        let (head, rest) = padded.split_at(NOT_RESIDENT.start);
        let (_, rest) = rest.split_at(NOT_RESIDENT.end - NOT_RESIDENT.start);
        let kept = head
            .as_chunks::<8>()
            .0
            .iter()
            .chain(rest.as_chunks::<8>().0);
        for (word, chunk) in self.words.iter().zip(kept) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        self.version.store(before + 2, Ordering::Release);
    }
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resident({} sets)", self.sets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(raw: u64) -> KeyId {
        KeyId::from_raw(raw)
    }

    fn get(table: &Resident, raw: u64) -> Option<u8> {
        let mut copied = [0; RECORD_LEN_MAX];
        table.get(id(raw), &mut copied).then_some(copied[0])
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
        let table = Resident::new(100 * BYTES_PER_KEY).unwrap().unwrap();
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
        assert!(Resident::new(WAYS * BYTES_PER_KEY - 1).unwrap().is_none());
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
        let table = Resident::new(BYTES_PER_KEY * WAYS).unwrap().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000_u32 {
                    let leave = table.leave_to_fill().unwrap();
                    table.fill(leave, id(1), &[round.to_le_bytes()[0]; RECORD_LEN_MAX]);
                }
            });
            let mut copied = [0; RECORD_LEN_MAX];
            for _ in 0..200_000 {
                if table.get(id(1), &mut copied) {
                    let kept = copied[..8].iter().chain(&copied[24..104]);
                    assert!(kept.copied().all(|byte| byte == copied[0]));
                    assert_eq!(copied[8..24], [1_u64.to_le_bytes(), [0; 8]].concat());
                }
            }
        });
    }
}
