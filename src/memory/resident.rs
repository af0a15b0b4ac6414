//! Hot records in memory, in front of the file: bounded, and read without a
//! lock.
//!
//! A set-associative table. Of each of the eight keys of a set a *fingerprint* of
//! one byte stands in an array of its own, small enough for the processor's
//! caches, which tells where to look; so that a hit waits for memory once, and a
//! miss as a rule not at all. The key's slot, two cache lines, holds its id and its
//! record as plain atomic words under a version word (a seqlock): odd while it is
//! written, and changed by every write, so that a reader that was overtaken notices
//! and goes to the file instead. A key has a second set, for when its own is full.
//!
//! The memory is zeros that the system gives when they are first touched. The keys use
//! a part of it, which doubles while keys are crowded out: what is in use stays
//! together, however much is allowed. To grow, the table forgets all: it is a cache.
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
//! So a fill from before is either refused or cleared, and the swap of the
//! snapshot is the one instant at which a commit takes effect for all.
//!
//! Growing is a publication of nothing, which a lock keeps apart from those of writers:
//! whoever has leave to fill from after it knows the new size. The records stay where they
//! were, and their fingerprints become 0, which no key's is: none is found any more.

use std::collections::TryReserveError;
use std::sync::PoisonError;

use crate::model::id::KeyId;
use crate::store::record::{NOT_RESIDENT, RARE};
use crate::sync::table::{self, AtomicU64, Mutex, Ordering, fence};

/// How many keys share a set: the fingerprints of so many are one word. A model
/// checker takes small sets of small slots.
const WAYS: usize = if cfg!(gatekey_loom) { 2 } else { 8 };
/// The words of a record that a slot has room for: two cache lines, with the two words
/// before them.
const WORDS: usize = if cfg!(gatekey_loom) { 2 } else { 14 };
/// The words of a slot: its version, its key's id, and those.
const SLOT_WORDS: usize = WORDS + 2;
/// The longest record that is kept, without its tag: with an owner of up to 48
/// bytes, 8 fewer for a key that came of a rotation and for each of the rare words, or a
/// shorter one and networks. Longer ones are read from the file.
pub(crate) const RECORD_LEN_MAX: usize = if cfg!(gatekey_loom) { 32 } else { 152 };
/// How many sets a key's second is looked for among, with its first: the fingerprints of
/// so many are one cache line.
const GROUP: usize = 8;
/// How many sets are used at first: for about a thousand keys.
const SETS_MIN: usize = 128;
/// How many locks the sets share; readers take none of them.
const LOCKS: usize = if cfg!(gatekey_loom) { 1 } else { 64 };
/// In an id's word: used since the mark was last taken away. Ids leave the four
/// highest bits free.
const USED: u64 = 1 << 63;
/// Set in every id's word that is taken, so that the id 0 is not [`EMPTY`].
const TAKEN: u64 = 1 << 62;
/// An id's word that names no key.
const EMPTY: u64 = 0;
/// In a version: of the record's words that are [`RARE`], the first is kept. The next
/// bits stand for the others. What is not kept is zero.
const FIRST_RARE: u64 = 1 << 61;
/// The bits of a version that count writes.
const COUNT: u64 = FIRST_RARE - 1;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGH: u64 = ONES << 7;

/// The bytes of memory that a set takes up: its slots and its fingerprints.
const SET_BYTES: usize = (WAYS * SLOT_WORDS + 1) * 8;
// As the documentation of `Options::resident_bytes` says.
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(SET_BYTES == WAYS * 129);

/// A record copied out of the table, padded with zeros. Its revision is not
/// kept, and reads as 0.
pub(crate) type Copied = [u8; RECORD_LEN_MAX];

/// Where in a record the words stand that a slot holds as a rule.
const PLAIN: [usize; WORDS] = {
    let mut plain = [0; WORDS];
    let (mut at, mut next) = (0, 0);
    while next < WORDS {
        let byte = at * 8;
        let is_kept = byte < NOT_RESIDENT.start || byte >= NOT_RESIDENT.end;
        if is_kept && byte != RARE[0] && byte != RARE[1] && byte != RARE[2] {
            plain[next] = at;
            next += 1;
        }
        at += 1;
    }
    plain
};
const _: () = assert!((PLAIN[WORDS - 1] + 1) * 8 == RECORD_LEN_MAX);

type SlotWords = [AtomicU64; SLOT_WORDS];

struct Set<'a>(&'a [SlotWords; WAYS]);

struct Slot<'a> {
    version: &'a AtomicU64,
    id: &'a AtomicU64,
    words: &'a [AtomicU64; WORDS],
}

pub(crate) struct Resident {
    /// A byte a way, 0 where it is free. Only a hint: the slot's id counts.
    fingerprints: Box<[AtomicU64]>,
    /// All slots, from `first` on.
    words: Box<[AtomicU64]>,
    /// Where the first cache line begins.
    first: usize,
    /// How many sets are in use.
    sets: AtomicU64,
    sets_max: usize,
    locks: Box<[Mutex<()>]>,
    /// Even: the table may be filled from the published snapshot. Odd: a
    /// writer is publishing.
    generation: AtomicU64,
    /// Held by whoever makes the generation odd.
    publishing: Mutex<()>,
    /// How many keys were crowded out since the table grew.
    crowded: AtomicU64,
}

/// A permit to fill the table from a snapshot loaded after the permit was taken.
#[derive(Clone, Copy)]
pub(crate) struct FillLeave(u64);

/// The places where a key may stand: of its two sets, the ways with the key's
/// fingerprint, as the highest bits of the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Candidates {
    sets: [usize; 2],
    ways: [u64; 2],
}

impl Candidates {
    /// Takes the next place out: a set and a way.
    fn next(&mut self) -> Option<(usize, usize)> {
        let of = usize::from(self.ways[0] == 0);
        let ways = self.ways[of];
        self.ways[of] = ways & ways.wrapping_sub(1);
        (ways != 0).then_some((self.sets[of], ways.trailing_zeros() as usize / 8))
    }
}

/// Where a key belongs: its own set, and the one for when that is full, which is the same
/// where there is no other.
struct Place {
    sets: [usize; 2],
    /// Not 0.
    fingerprint: u64,
}

/// The highest bit of each byte of a word that is not 0.
#[inline]
const fn bytes_taken(word: u64) -> u64 {
    (((word & !HIGH) + !HIGH) | word) & HIGH
}

/// So many zeros, which take up memory once they are touched.
fn zeros(count: usize) -> Result<Box<[AtomicU64]>, TryReserveError> {
    // For the error: the other call has one that says nothing.
    Vec::<u64>::new().try_reserve_exact(count)?;
    #[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
    return Ok(bytemuck::zeroed_slice_box(count));
    #[cfg(any(gatekey_loom, gatekey_shuttle))]
    return Ok((0..count).map(|_| AtomicU64::new(0)).collect());
}

impl Resident {
    /// A table of at most `bytes`, or `None` where not one set fits.
    pub(crate) fn new(bytes: usize) -> Result<Option<Self>, TryReserveError> {
        let count = bytes / SET_BYTES;
        let mut sets = count;
        while sets / 2 >= SETS_MIN {
            sets /= 2;
        }
        match count {
            0 => Ok(None),
            _ => Self::with_sets(sets, count).map(Some),
        }
    }

    /// A table of so many sets, which grows to so many.
    fn with_sets(sets: usize, sets_max: usize) -> Result<Self, TryReserveError> {
        /// A slot's two cache lines.
        const ALIGNED: usize = 128;
        let words = zeros(sets_max * WAYS * SLOT_WORDS + ALIGNED / 8)?;
        let first = words.as_ptr().align_offset(ALIGNED).min(ALIGNED / 8);
        Ok(Self {
            fingerprints: zeros(sets_max)?,
            words,
            first,
            sets: AtomicU64::new(sets as u64),
            sets_max,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            generation: AtomicU64::new(0),
            publishing: Mutex::new(()),
            crowded: AtomicU64::new(0),
        })
    }

    /// Where a key may stand, or `None` where it is not in the table. Between
    /// this and [`copy`](Self::copy) the caller does what does not depend on the
    /// record, so that the wait for the memory overlaps it.
    #[inline]
    pub(crate) fn find(&self, id: KeyId) -> Option<Candidates> {
        let Place { sets, fingerprint } = self.place_of(id);
        let ways_of = |set: usize| {
            let fingerprints = self.fingerprints.get(set);
            let fingerprints = fingerprints.map_or(0, |word| word.load(Ordering::Relaxed));
            !bytes_taken(fingerprints ^ (fingerprint * ONES)) & HIGH
        };
        let [first, second] = sets;
        let has_second = first != second;
        let ways = [ways_of(first), if has_second { ways_of(second) } else { 0 }];
        (ways != [0; 2]).then_some(Candidates { sets, ways })
    }

    /// Fetches what [`copy`](Self::copy) will read from memory, and does not wait
    /// for it.
    pub(crate) fn touch(&self, mut found: Candidates) {
        if let Some(slot) = found.next().and_then(|(set, way)| self.slot(set, way)) {
            let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
            // A word of each of the slot's cache lines.
            std::hint::black_box((word(slot.version), slot.words.last().map(word)));
        }
    }

    /// Copies a key's record out, if it is there.
    ///
    /// Takes no lock, and writes only the key's mark of use, and only when that
    /// was taken away.
    #[inline(always)]
    pub(crate) fn copy(&self, mut found: Candidates, id: KeyId, into: &mut Copied) -> bool {
        while let Some((set, way)) = found.next() {
            let Some(slot) = self.slot(set, way) else {
                return false;
            };
            let before = slot.version.load(Ordering::Acquire);
            let tag = slot.id.load(Ordering::Relaxed);
            if tag & !USED != id.raw() | TAKEN {
                continue;
            }
            slot.copy(before, into);
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
        let Some(packed) = Packed::new(record) else {
            return;
        };
        let Place { sets, fingerprint } = self.place_of(id);
        let Ok(guard) = self.lock_of(sets[0]).try_lock() else {
            return;
        };
        if self.generation.load(Ordering::Acquire) != leave.0 {
            return;
        }
        let (set, way, is_crowded) = self.way_for(id, sets);
        self.write(set, way, id.raw() | TAKEN | USED, &packed);
        self.mark(set, way, fingerprint);
        drop(guard);
        if is_crowded {
            self.note_crowded(leave);
        }
    }

    /// Notes that a key was crowded out, and lets the table grow where many were.
    #[cold]
    fn note_crowded(&self, leave: FillLeave) {
        let sets = self.sets.load(Ordering::Relaxed);
        let crowded = self.crowded.fetch_add(1, Ordering::Relaxed);
        if sets < self.sets_max as u64 && crowded >= sets / 16 {
            self.grow(leave);
        }
    }

    /// Doubles the sets in use, all of them free, unless a writer has published since the
    /// leave was given, or is about to.
    fn grow(&self, leave: FillLeave) {
        let Ok(_publishing) = self.publishing.try_lock() else {
            return;
        };
        let is_given = self.generation.load(Ordering::Acquire) == leave.0;
        if !is_given {
            return;
        }
        self.generation.fetch_or(1, Ordering::AcqRel);
        let sets = self.sets_in_use();
        for (at, lock) in self.locks.iter().enumerate() {
            // A fill that was let in before has ended once its lock is free.
            let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
            for group in (at * GROUP..sets).step_by(LOCKS * GROUP) {
                let words = self.fingerprints.iter().take(sets).skip(group).take(GROUP);
                words.for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
        // The last step is to all that there may be, and no small one is left after it.
        let grown = match sets * 3 > self.sets_max {
            true => self.sets_max,
            false => sets * 2,
        };
        self.sets.store(grown as u64, Ordering::Relaxed);
        self.crowded.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Lets a commit take effect: clears the keys that it changed and calls
    /// `swap`, which publishes its snapshot. One writer at a time.
    pub(crate) fn publish(&self, changed: &[KeyId], swap: impl FnOnce()) {
        let _publishing = table::lock(&self.publishing);
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
        let _publishing = table::lock(&self.publishing);
        self.generation.fetch_or(1, Ordering::AcqRel);
        for set in 0..self.sets_in_use() {
            let _guard = table::lock(self.lock_of(set));
            for way in 0..WAYS {
                self.write(set, way, EMPTY, &Packed::EMPTY);
                self.mark(set, way, 0);
            }
        }
    }

    fn clear(&self, id: KeyId) {
        let Place { sets, .. } = self.place_of(id);
        let _guard = table::lock(self.lock_of(sets[0]));
        for set in sets {
            if let Some(way) = self.way_of(id, set) {
                self.write(set, way, EMPTY, &Packed::EMPTY);
                self.mark(set, way, 0);
            }
        }
    }

    /// Sets a way's fingerprint. The set's lock is held.
    fn mark(&self, set: usize, way: usize, fingerprint: u64) {
        if let Some(word) = self.fingerprints.get(set) {
            let others = word.load(Ordering::Relaxed) & !(0xff << (way * 8));
            word.store(others | fingerprint << (way * 8), Ordering::Relaxed);
        }
    }

    fn sets_in_use(&self) -> usize {
        usize::try_from(self.sets.load(Ordering::Relaxed)).unwrap_or(0)
    }

    #[inline]
    fn place_of(&self, id: KeyId) -> Place {
        // Fibonacci hashing, then a multiplication in place of a remainder: ids
        // that were issued together are spread. The fingerprint and the second set are
        // taken from below the bits that choose the first.
        let hash = id.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let in_use = self.sets_in_use();
        let set = (u128::from(hash) * in_use as u128) >> 64;
        let set = usize::try_from(set).unwrap_or(0);
        // Another of the group, whose fingerprints are in the same cache line.
        let step = 1 + (hash >> 16 & 0xff) * (GROUP as u64 - 1) / 0x100;
        let second = set ^ usize::try_from(step).unwrap_or(0);
        Place {
            sets: [set, if second < in_use { second } else { set }],
            fingerprint: (hash >> 24 & 0xff).max(1),
        }
    }

    /// One lock for a group of sets.
    fn lock_of(&self, set: usize) -> &Mutex<()> {
        // The remainder is below the number of locks.
        &self.locks[set / GROUP % LOCKS]
    }

    #[inline]
    fn set(&self, set: usize) -> Option<Set<'_>> {
        let from = self.first + set * WAYS * SLOT_WORDS;
        let words = self.words.get(from..from + WAYS * SLOT_WORDS)?;
        words.as_chunks().0.first_chunk().map(Set)
    }

    #[inline]
    fn slot(&self, set: usize, way: usize) -> Option<Slot<'_>> {
        let from = self.first + (set * WAYS + way) * SLOT_WORDS;
        let words: &SlotWords = self.words.get(from..from + SLOT_WORDS)?.first_chunk()?;
        Some(Slot::of(words))
    }

    /// The way of a key that is in a set.
    fn way_of(&self, id: KeyId, set: usize) -> Option<usize> {
        let tag = id.raw() | TAKEN;
        self.set(set)?.ids().position(|word| word & !USED == tag)
    }

    /// The place for a key of two sets: its own, else a free one, else one that was not
    /// used since the marks were last taken away; and whether another key goes for it.
    /// The lock is held.
    fn way_for(&self, id: KeyId, sets: [usize; 2]) -> (usize, usize, bool) {
        let is_free = |set: usize, way: usize| {
            let word = self.fingerprints.get(set);
            word.is_some_and(|word| word.load(Ordering::Relaxed) >> (way * 8) & 0xff == 0)
        };
        let is_unused = |set: usize, way: usize| {
            let slot = self.slot(set, way);
            slot.is_some_and(|slot| slot.id.load(Ordering::Relaxed) & USED == 0)
        };
        let places = || {
            sets.into_iter()
                .flat_map(|set| (0..WAYS).map(move |way| (set, way)))
        };
        let own = sets
            .into_iter()
            .find_map(|set| Some((set, self.way_of(id, set)?)));
        let free = own.or_else(|| places().find(|(set, way)| is_free(*set, *way)));
        if let Some((set, way)) = free {
            return (set, way, false);
        }
        let (set, way) = places()
            .find(|(set, way)| is_unused(*set, *way))
            .unwrap_or_else(|| {
                for (set, way) in places() {
                    if let Some(slot) = self.slot(set, way) {
                        slot.id.fetch_and(!USED, Ordering::Relaxed);
                    }
                }
                (
                    sets[0],
                    usize::try_from(id.raw() % WAYS as u64).unwrap_or(0),
                )
            });
        (set, way, true)
    }

    /// Gives a way to a key and its record, or to none. The set's lock is held.
    fn write(&self, set: usize, way: usize, tag: u64, record: &Packed) {
        let Some(slot) = self.slot(set, way) else {
            return;
        };
        let before = slot.version.load(Ordering::Relaxed) & COUNT;
        slot.version.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.id.store(tag, Ordering::Relaxed);
        for (word, kept) in slot.words.iter().zip(record.words) {
            word.store(kept, Ordering::Relaxed);
        }
        slot.version
            .store((before + 2) | record.rare, Ordering::Release);
    }

    /// How many keys are in the table, and how many fit.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        let words = self.fingerprints.iter().take(self.sets_in_use());
        let ways =
            words.map(|word| bytes_taken(word.load(Ordering::Relaxed)).count_ones() as usize);
        (ways.sum(), self.sets_max * WAYS)
    }
}

impl Set<'_> {
    fn ids(&self) -> impl Iterator<Item = u64> {
        let ids = self.0.iter().map(|slot| Slot::of(slot).id);
        ids.map(|id| id.load(Ordering::Relaxed))
    }
}

/// A record as a slot holds it.
struct Packed {
    words: [u64; WORDS],
    /// Which of its rare words are among them, as in a version.
    rare: u64,
}

impl Packed {
    const EMPTY: Self = Self {
        words: [0; WORDS],
        rare: 0,
    };

    /// `None` where it is too long.
    fn new(record: &[u8]) -> Option<Self> {
        let mut padded: Copied = [0; RECORD_LEN_MAX];
        padded.get_mut(..record.len())?.copy_from_slice(record);
        let mut packed = Self::EMPTY;
        let mut next = 0;
        for (at, chunk) in padded.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*chunk);
            match kind_of(at) {
                Kind::NotKept => continue,
                Kind::Rare(_) if word == 0 => continue,
                Kind::Rare(bit) => packed.rare |= bit,
                Kind::Plain => {}
            }
            match packed.words.get_mut(next) {
                Some(place) => *place = word,
                // Behind the end of a record whose owner leaves room.
                None if word == 0 => {}
                None => return None,
            }
            next += 1;
        }
        Some(packed)
    }
}

/// How a word of a record is kept.
enum Kind {
    NotKept,
    Plain,
    /// Where it is not zero; with its bit in a version.
    Rare(u64),
}

fn kind_of(word: usize) -> Kind {
    if NOT_RESIDENT.contains(&(word * 8)) {
        return Kind::NotKept;
    }
    match RARE.iter().position(|rare| *rare == word * 8) {
        Some(at) => Kind::Rare(FIRST_RARE << at),
        None => Kind::Plain,
    }
}

impl<'a> Slot<'a> {
    #[inline]
    fn of(words: &'a SlotWords) -> Self {
        let [version, id, words @ ..] = words;
        Self { version, id, words }
    }

    /// Copies the record out. The caller looks at the version before and after.
    #[inline]
    fn copy(&self, version: u64, into: &mut Copied) {
        let (chunks, _) = into.as_chunks_mut::<8>();
        if version & !COUNT != 0 {
            return self.copy_rare(version, chunks);
        }
        for rare in RARE {
            if let Some(chunk) = chunks.get_mut(rare / 8) {
                *chunk = [0; 8];
            }
        }
        for (at, word) in PLAIN.into_iter().zip(self.words) {
            if let Some(chunk) = chunks.get_mut(at) {
                *chunk = word.load(Ordering::Relaxed).to_le_bytes();
            }
        }
    }

    #[cold]
    fn copy_rare(&self, version: u64, into: &mut [[u8; 8]]) {
        let mut words = self.words.iter();
        for (at, chunk) in into.iter_mut().enumerate() {
            let is_kept = match kind_of(at) {
                Kind::NotKept => continue,
                Kind::Plain => true,
                Kind::Rare(bit) => version & bit != 0,
            };
            let word = if is_kept { words.next() } else { None };
            let word = word.map_or(0, |word| word.load(Ordering::Relaxed));
            *chunk = word.to_le_bytes();
        }
    }
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resident({} sets)", self.sets_max)
    }
}

#[cfg(test)]
#[cfg(gatekey_loom)]
mod interleavings;

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests;
