//! Hot records in memory, in front of the file: bounded, and read without a
//! lock.
//!
//! A set-associative table. An array of its own, small enough for the processor's
//! caches, has a *fingerprint* of one byte for each of the eight keys of a set, and
//! tells where to look. So a hit waits for memory once, and a miss usually not at all.
//! The key's slot holds its id and its record as plain atomic words under a version
//! word (a seqlock): odd during a write, and changed by every write, so that a reader
//! that was overtaken notices it and reads the file instead.
//!
//! # Consistency
//! What is in the table is what the newest published snapshot holds, by this
//! protocol, which docs/INTERNALS.md argues case by case:
//!
//! - a reader that misses notes the *generation*, reads the snapshot, and fills
//!   the slot only if the generation is still the same and even, looked at
//!   under the set's lock;
//! - a writer, after its commit, makes the generation odd, clears what it
//!   changed under the sets' locks, publishes its snapshot, and makes the
//!   generation even.
//!
//! So a fill from before the commit is either refused or cleared, and the commit takes
//! effect for all readers at one instant, the swap of the snapshot.

use std::collections::TryReserveError;
use std::sync::PoisonError;

use crate::model::id::KeyId;
use crate::store::record::{NOT_RESIDENT, body_len};
use crate::sync::table::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// How many keys share a set: the fingerprints of so many are one word. A model
/// checker takes small sets of small slots.
const WAYS: usize = if cfg!(gatekey_loom) { 2 } else { 8 };
/// The words of a slot: the record's first, and those from behind what is not
/// kept.
const WORDS: usize = if cfg!(gatekey_loom) { 2 } else { 17 };
/// The longest record that is kept, without its tag: with an owner of up to 48
/// bytes, 8 fewer for a key that came of a rotation, or a shorter one and networks.
/// Longer ones are read from the file.
pub(crate) const RECORD_LEN_MAX: usize = WORDS * 8 + NOT_RESIDENT.end - NOT_RESIDENT.start;
/// How many locks the sets share; readers take none of them.
const LOCKS: usize = if cfg!(gatekey_loom) { 1 } else { 64 };
/// In an id's word: used since the mark was last taken away. Ids leave the four
/// highest bits free.
const USED: u64 = 1 << 63;
/// Set in every id's word that is taken, so that the id 0 is not [`EMPTY`].
const TAKEN: u64 = 1 << 62;
/// An id's word that names no key.
const EMPTY: u64 = 0;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The bytes of memory that a set takes up: its slots and its fingerprints.
const SET_BYTES: usize = size_of::<Set>() + size_of::<AtomicU64>();
// As the documentation of `Options::resident_bytes` says.
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(SET_BYTES == WAYS * 153);

/// A record copied out of the table, padded with zeros. Its revision is not
/// kept, and reads as 0.
pub(crate) type Copied = [u8; RECORD_LEN_MAX];

#[repr(align(64))]
struct Set([Slot; WAYS]);

struct Slot {
    version: AtomicU64,
    id: AtomicU64,
    words: [AtomicU64; WORDS],
}

pub(crate) struct Resident {
    /// A byte a way, 0 where it is free. Only a hint: the slot's id counts.
    fingerprints: Box<[AtomicU64]>,
    sets: Box<[Set]>,
    locks: Box<[Mutex<()>]>,
    /// Even: the table may be filled from the published snapshot. Odd: a
    /// writer is publishing.
    generation: AtomicU64,
}

/// A permit to fill the table from a snapshot loaded after the permit was taken.
#[derive(Clone, Copy)]
pub(crate) struct FillLeave(u64);

/// The places where a key may stand: a set, and of its ways those with the
/// key's fingerprint, as the highest bits of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Candidates {
    set: usize,
    ways: u64,
}

impl Candidates {
    /// Takes the next way out.
    fn next_way(&mut self) -> Option<usize> {
        let way = self.ways.trailing_zeros() / 8;
        self.ways &= self.ways.wrapping_sub(1);
        (way < 8).then_some(way as usize)
    }
}

impl Resident {
    /// A table of at most `bytes`, or `None` where not one set fits.
    pub(crate) fn new(bytes: usize) -> Result<Option<Self>, TryReserveError> {
        let count = bytes / SET_BYTES;
        if count == 0 {
            return Ok(None);
        }
        let zero = || AtomicU64::new(0);
        let set = || {
            Set(std::array::from_fn(|_| Slot {
                version: zero(),
                id: zero(),
                words: std::array::from_fn(|_| zero()),
            }))
        };
        let (mut sets, mut fingerprints) = (Vec::new(), Vec::new());
        sets.try_reserve_exact(count)?;
        sets.extend((0..count).map(|_| set()));
        fingerprints.try_reserve_exact(count)?;
        fingerprints.extend((0..count).map(|_| zero()));
        Ok(Some(Self {
            fingerprints: fingerprints.into_boxed_slice(),
            sets: sets.into_boxed_slice(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            generation: zero(),
        }))
    }

    /// Where a key may be, or `None` if it is not in the table. Between this and
    /// [`copy`](Self::copy), the caller does work that does not depend on the record,
    /// so that the wait for memory overlaps it.
    pub(crate) fn find(&self, id: KeyId) -> Option<Candidates> {
        let (set, fingerprint) = self.place_of(id);
        let fingerprints = self.fingerprints.get(set)?.load(Ordering::Relaxed);
        // The bytes that are equal have become 0, and the subtraction borrows
        // into their highest bits. It may borrow into that of the byte after
        // one, too: the slot's id will tell.
        let differences = fingerprints ^ (fingerprint * ONES);
        let ways = differences.wrapping_sub(ONES) & !differences & (0x80 * ONES);
        (ways != 0).then_some(Candidates { set, ways })
    }

    /// Fetches what [`copy`](Self::copy) will read from memory, and does not wait
    /// for it.
    pub(crate) fn touch(&self, mut found: Candidates) {
        if let Some(Set(slots)) = self.sets.get(found.set)
            && let Some(slot) = found.next_way().and_then(|way| slots.get(way))
        {
            let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
            // A word of each of the cache lines that a short record takes up.
            std::hint::black_box((
                word(&slot.version),
                slot.words.get(5).map(word),
                slot.words.last().map(word),
            ));
        }
    }

    /// Copies a key's record out, if it is there.
    ///
    /// Takes no lock, and writes only the key's mark of use, and only if it is not set.
    pub(crate) fn copy(&self, mut found: Candidates, id: KeyId, into: &mut Copied) -> bool {
        let Some(Set(slots)) = self.sets.get(found.set) else {
            return false;
        };
        while let Some(slot) = found.next_way().and_then(|way| slots.get(way)) {
            let before = slot.version.load(Ordering::Acquire);
            let tag = slot.id.load(Ordering::Relaxed);
            if tag & !USED != id.raw() | TAKEN {
                continue;
            }
            slot.copy(into);
            fence(Ordering::Acquire);
            if !before.is_multiple_of(2) || slot.version.load(Ordering::Relaxed) != before {
                return false;
            }
            if let Some(place) = into.get_mut(NOT_RESIDENT).and_then(<[u8]>::first_chunk_mut) {
                *place = id.raw().to_le_bytes();
            }
            if tag & USED == 0 {
                slot.id.fetch_or(USED, Ordering::Relaxed);
            }
            return true;
        }
        false
    }

    /// Call it before the snapshot is loaded.
    pub(crate) fn leave_to_fill(&self) -> Option<FillLeave> {
        let generation = self.generation.load(Ordering::Acquire);
        generation
            .is_multiple_of(2)
            .then_some(FillLeave(generation))
    }

    /// Puts a record in, unless a writer has published since the permit was taken, the
    /// record is too long, or the set is busy.
    pub(crate) fn fill(&self, leave: FillLeave, id: KeyId, record: &[u8]) {
        if record.len() > RECORD_LEN_MAX {
            return;
        }
        let (at, fingerprint) = self.place_of(id);
        let Ok(_guard) = self.lock_of(at).try_lock() else {
            return;
        };
        if self.generation.load(Ordering::Acquire) != leave.0 {
            return;
        }
        if let Some(set) = self.sets.get(at) {
            let way = set.way_for(id);
            set.write(way, id.raw() | TAKEN | USED, record);
            self.mark(at, way, fingerprint);
        }
    }

    /// Lets a commit take effect: clears the keys that it changed and calls
    /// `swap`, which publishes its snapshot. One writer at a time.
    pub(crate) fn publish(&self, changed: &[KeyId], swap: impl FnOnce()) {
        // Odd already where the table was shut.
        self.generation.fetch_or(1, Ordering::AcqRel);
        for id in changed {
            self.clear(*id);
        }
        swap();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets keys whose records cannot be read any more. One writer at a time.
    pub(crate) fn forget(&self, keys: &[KeyId]) {
        let is_shut = self.generation.load(Ordering::Acquire) & 1 == 1;
        if !is_shut {
            self.publish(keys, || ());
        }
    }

    /// Clears the table, and refuses fills until the next publication.
    pub(crate) fn shut(&self) {
        self.generation.fetch_or(1, Ordering::AcqRel);
        for (at, set) in self.sets.iter().enumerate() {
            let _guard = self.lock(at);
            for way in 0..WAYS {
                set.write(way, EMPTY, &[]);
                self.mark(at, way, 0);
            }
        }
    }

    fn clear(&self, id: KeyId) {
        let (at, _) = self.place_of(id);
        let _guard = self.lock(at);
        if let Some(set) = self.sets.get(at)
            && let Some(way) = set.way_of(id)
        {
            set.write(way, EMPTY, &[]);
            self.mark(at, way, 0);
        }
    }

    /// Sets a way's fingerprint. The set's lock is held.
    fn mark(&self, set: usize, way: usize, fingerprint: u64) {
        if let Some(word) = self.fingerprints.get(set) {
            let others = word.load(Ordering::Relaxed) & !(0xff << (way * 8));
            word.store(others | fingerprint << (way * 8), Ordering::Relaxed);
        }
    }

    /// The set of a key, and its fingerprint, which is not 0.
    fn place_of(&self, id: KeyId) -> (usize, u64) {
        // Fibonacci hashing, then a multiplication in place of a remainder: ids
        // that were issued together are spread. The fingerprint is taken from
        // below the bits that choose the set.
        let hash = id.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let set = (u128::from(hash) * self.sets.len() as u128) >> 64;
        (
            usize::try_from(set).unwrap_or(0),
            (hash >> 24 & 0xff).max(1),
        )
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
        // The highest bit of each byte of a word that is not 0.
        const HIGH: u64 = ONES << 7;
        let taken = |word: u64| (((word & !HIGH) + !HIGH) | word) & HIGH;
        let words = self.fingerprints.iter();
        let ways = words.map(|word| taken(word.load(Ordering::Relaxed)).count_ones() as usize);
        (ways.sum(), self.sets.len() * WAYS)
    }
}

impl Set {
    fn ids(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|slot| slot.id.load(Ordering::Relaxed))
    }

    /// The way of a key that is there.
    fn way_of(&self, id: KeyId) -> Option<usize> {
        let tag = id.raw() | TAKEN;
        self.ids().position(|word| word & !USED == tag)
    }

    /// The way for a key: its own, else a free one, else one that was not used
    /// since the marks were last taken away.
    fn way_for(&self, id: KeyId) -> usize {
        self.way_of(id)
            .or_else(|| self.ids().position(|word| word & TAKEN == 0))
            .or_else(|| self.ids().position(|word| word & USED == 0))
            .unwrap_or_else(|| {
                for slot in &self.0 {
                    slot.id.fetch_and(!USED, Ordering::Relaxed);
                }
                usize::try_from(id.raw() % WAYS as u64).unwrap_or(0)
            })
    }

    /// Gives a way to a key and its record, padded with zeros, or to none. The
    /// set's lock is held.
    fn write(&self, way: usize, tag: u64, record: &[u8]) {
        let Some(slot) = self.0.get(way) else {
            return;
        };
        let before = slot.version.load(Ordering::Relaxed);
        slot.version.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.id.store(tag, Ordering::Relaxed);
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
        for (word, chunk) in slot.words.iter().zip(kept) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        slot.version.store(before + 2, Ordering::Release);
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
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resident({} sets)", self.sets.len())
    }
}

#[cfg(test)]
#[cfg(gatekey_loom)]
mod interleavings;

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
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
                    table.fill(leave, id(1), &[round.to_le_bytes()[0]; RECORD_LEN_MAX]);
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
        let (_, fingerprint) = table.place_of(id(1));
        let alike: Vec<u64> = (1..)
            .filter(|raw| table.place_of(id(*raw)).1 == fingerprint)
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
        let is_held = |raw: &u64| table.sets[0].way_of(id(*raw)).is_some();
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
        let (_, fingerprint) = table.place_of(id(1));
        for raw in 2..1000 {
            let alike = table.place_of(id(raw)).1 == fingerprint;
            assert_eq!(table.find(id(raw)).is_some(), alike, "{raw}");
        }
    }

    #[test]
    fn the_longest_record_that_is_kept_is_kept_whole() {
        let table = one_set();
        let record: Vec<u8> = (0..RECORD_LEN_MAX)
            .map(|at| at.to_le_bytes()[0] | 1)
            .collect();
        let mut record = record;
        // The lengths of owner and networks, by which the copy knows where it ends.
        (record[6], record[7]) = (48, 0);
        assert_eq!(RECORD_LEN_MAX, 104 + 48);
        table.fill(table.leave_to_fill().unwrap(), id(5), &record);
        let mut copied = [0; RECORD_LEN_MAX];
        assert!(table.copy(table.find(id(5)).unwrap(), id(5), &mut copied));
        assert_eq!(copied[..8], record[..8]);
        assert_eq!(copied[24..], record[24..]);
        assert_eq!(copied[8..16], 5_u64.to_le_bytes());
    }

    #[test]
    fn a_record_with_a_lineage_is_copied_to_its_end() {
        let table = one_set();
        let mut record = vec![7; 104 + 40 + 8];
        // The flag of a lineage, and the lengths.
        (record[2], record[6], record[7]) = (16, 40, 0);
        table.fill(table.leave_to_fill().unwrap(), id(5), &record);
        let mut copied = [0; RECORD_LEN_MAX];
        assert!(table.copy(table.find(id(5)).unwrap(), id(5), &mut copied));
        assert_eq!(copied[24..], record[24..]);
    }

    #[test]
    fn keys_are_spread_over_the_sets_and_the_fingerprints() {
        let table = Resident::new(1000 * SET_BYTES).unwrap().unwrap();
        let (mut sets, mut fingerprints) = (vec![0_u32; 1000], vec![0_u32; 256]);
        // As they are issued: a millisecond after each other, with 18 bits drawn.
        for ms in 0..8000_u64 {
            let drawn = ms.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 46;
            let (set, fingerprint) = table.place_of(id(ms << 18 | drawn));
            sets[set] += 1;
            fingerprints[usize::try_from(fingerprint).unwrap()] += 1;
        }
        let most = sets.iter().max().unwrap();
        assert!(*most <= 24, "{most} of 8,000 keys in one of 1,000 sets");
        let used = fingerprints.iter().filter(|count| **count > 0).count();
        assert!(used > 240 && fingerprints[0] == 0, "{used} fingerprints");
    }
}
