//! Hot records in memory, in front of the file: bounded, and read without a
//! lock.
//!
//! A set-associative table. Of each of the eight keys of a set a *fingerprint* of
//! one byte stands in an array of its own, and the set's version in another, both small enough
//! for the processor's caches; so that a hit waits for memory once, and a miss as a rule not at
//! all. The key's slot, on two cache lines at most, holds its id and its record, with its token's
//! MAC for the digest, as plain atomic words under the version (a seqlock): odd while the set is
//! written, and changed by every write, so that a reader that was overtaken goes to the file. A
//! key has a second set, for when its own is full. A record that is longer than a slot goes on in
//! up to three others of the key's sets, its *parts*, all written under the versions of both.
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

pub(crate) mod packed;

use std::collections::TryReserveError;
use std::sync::PoisonError;

use arrayvec::ArrayVec;

use crate::crypto::mac::{Mac, MacKey};
use crate::crypto::token::Signed;
use crate::memory::resident::packed::{
    Copied, CopiedLong, KEPT, PARTS, PARTS_AT, PARTS_MAX, Packed, WORDS, copy_plain, fill_id_in,
    unpack,
};
use crate::model::id::KeyId;
use crate::sync::table::{self, AtomicU64, Mutex, Ordering, fence};

/// How many keys share a set: their fingerprints are one word. A model checker has small ones.
const WAYS: usize = if cfg!(gatekey_loom) { 2 } else { 8 };
/// The words of a slot: its key's id, and those. Slots of 96 bytes are never on three cache lines.
const SLOT_WORDS: usize = WORDS + 1;
/// How many sets a key's second is looked for among: their fingerprints are one cache line.
const GROUP: usize = 8;
/// How many sets are used at first: for about a thousand keys.
const SETS_MIN: usize = 128;
/// How many locks the sets share; readers take none of them.
const LOCKS: usize = if cfg!(gatekey_loom) { 1 } else { 64 };
/// In an id's word, whose four highest bits are free: used since the mark was taken away.
const USED: u64 = 1 << 63;
/// Set in every id's word that is taken, so that the id 0 is not [`EMPTY`].
const TAKEN: u64 = 1 << 62;
/// Where in an id's word it says which part of the record this is; 0: the key's slot.
const PART_AT: u32 = 60;
const PART: u64 = 3 << PART_AT;
/// An id's word that names no key.
const EMPTY: u64 = 0;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGH: u64 = ONES << 7;

/// The bytes of memory that a set takes up: its slots, its fingerprints and its version.
const SET_BYTES: usize = (WAYS * SLOT_WORDS + 2) * 8;
// As the documentation of `Options::resident_bytes` says.
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(SET_BYTES == WAYS * 98);

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copying {
    Done,
    /// The record has parts: [`copy_long`](Resident::copy_long) copies them.
    Long,
    /// It is not there, or was written meanwhile.
    Missed,
}

type SlotWords = [AtomicU64; SLOT_WORDS];

struct Slot<'a> {
    id: &'a AtomicU64,
    words: &'a [AtomicU64; WORDS],
}

pub(crate) struct Resident {
    /// A byte a way, 0 where it is free. Only a hint: the slot's id counts.
    fingerprints: Box<[AtomicU64]>,
    /// A word a set: odd while it is written.
    versions: Box<[AtomicU64]>,
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
    /// Of the tokens whose records are here.
    mac_key: MacKey,
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

/// A way that is chosen for a part of a record.
struct Way {
    /// A set and a way of it.
    place: (usize, usize),
    /// The id's word that it gets.
    tag: u64,
    was: Was,
}

/// What a way was before.
#[derive(Clone, Copy)]
enum Was {
    /// The same part's of the same key.
    Its,
    Free,
    Anothers,
}

/// Whether an id's word is a key's, in any part.
fn is_of(word: u64, id: KeyId) -> bool {
    word & !(USED | PART) == id.raw() | TAKEN
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
    #[cfg(not(gatekey_loom))]
    return Ok(crate::sync::zeros(count));
    #[cfg(gatekey_loom)]
    return Ok((0..count).map(|_| AtomicU64::new(0)).collect());
}

impl Resident {
    /// A table of at most `bytes`, or `None` where not one set fits.
    pub(crate) fn new(bytes: usize, mac_key: MacKey) -> Result<Option<Self>, TryReserveError> {
        let count = bytes / SET_BYTES;
        let mut sets = count;
        while sets / 2 >= SETS_MIN {
            sets /= 2;
        }
        match count {
            0 => Ok(None),
            _ => Self::with_sets(sets, count, mac_key).map(Some),
        }
    }

    /// A table of so many sets, which grows to so many.
    fn with_sets(sets: usize, sets_max: usize, mac_key: MacKey) -> Result<Self, TryReserveError> {
        /// A cache line, with which a set begins.
        const ALIGNED: usize = 64;
        let words = zeros(sets_max * WAYS * SLOT_WORDS + ALIGNED / 8)?;
        let first = words.as_ptr().align_offset(ALIGNED).min(ALIGNED / 8);
        Ok(Self {
            fingerprints: zeros(sets_max)?,
            versions: zeros(sets_max)?,
            words,
            first,
            sets: AtomicU64::new(sets as u64),
            sets_max,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            generation: AtomicU64::new(0),
            publishing: Mutex::new(()),
            crowded: AtomicU64::new(0),
            mac_key,
        })
    }

    /// The MAC that a token has here.
    #[inline]
    pub(crate) fn mac(&self, signed: &Signed) -> Mac {
        self.mac_key.mac(signed)
    }

    /// Where a key may stand, or `None` where it is not in the table. Between
    /// this and [`copy`](Self::copy) the caller does what does not depend on the
    /// record, so that the wait for the memory overlaps it.
    #[inline]
    pub(crate) fn find(&self, id: KeyId) -> Option<Candidates> {
        let Place { sets, fingerprint } = self.place_of(id);
        let ways_of = |set: usize| {
            let fingerprints = self.fingerprints.get(set);
            // Whoever saw a fingerprint sees the odd version before it, once behind the fence of
            // `is_still`: a copy is never of an earlier time than what led to it.
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
        if let Some((set, way)) = found.next()
            && let Some(slot) = self.slot(set, way)
        {
            let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
            // A word of each of the slot's cache lines.
            let of_slot = (word(slot.id), slot.words.last().map(word));
            std::hint::black_box((of_slot, self.versions.get(set).map(word)));
        }
    }

    /// Copies a key's record out, if it is there and has no parts.
    ///
    /// Takes no lock, and writes only the key's mark of use, and only when that
    /// was taken away.
    #[inline(always)]
    pub(crate) fn copy(&self, mut found: Candidates, id: KeyId, into: &mut Copied) -> Copying {
        while let Some((set, way)) = found.next() {
            let (Some(slot), Some(version)) = (self.slot(set, way), self.versions.get(set)) else {
                return Copying::Missed;
            };
            let before = version.load(Ordering::Acquire);
            let tag = slot.id.load(Ordering::Relaxed);
            if tag & !USED != id.raw() | TAKEN {
                continue;
            }
            let [head, ..] = slot.words;
            let head = head.load(Ordering::Relaxed);
            if head & KEPT == 0 {
                copy_plain(head, slot.words, into);
            } else if head & PARTS == 0 {
                unpack(head, slot.loaded(), into);
            } else {
                return Copying::Long;
            }
            if !is_still(version, before) {
                return Copying::Missed;
            }
            fill_id_in(id, into);
            slot.use_it(tag);
            return Copying::Done;
        }
        Copying::Missed
    }

    /// Copies a key's record out with its parts, if all of them are there.
    #[cold]
    pub(crate) fn copy_long(&self, found: Candidates, id: KeyId, into: &mut CopiedLong) -> bool {
        let versions = found.sets.map(|set| self.versions.get(set));
        let [Some(first), Some(second)] = versions else {
            return false;
        };
        let before = [first, second].map(|version| version.load(Ordering::Acquire));
        if self.place_of(id).sets != found.sets {
            // The table has grown, and what is there may be left from before, in part.
            return false;
        }
        let mut words = [0; WORDS * (1 + PARTS_MAX)];
        let (mut part, mut parts) = (0, 0);
        for into in words.chunks_exact_mut(WORDS) {
            let tag = id.raw() | TAKEN | part << PART_AT;
            let Some(slot) = self.slot_with(found, tag) else {
                return false;
            };
            into.iter_mut()
                .zip(slot.loaded())
                .for_each(|(into, word)| *into = word);
            slot.use_it(slot.id.load(Ordering::Relaxed));
            if part == 0 {
                parts = (into.first().map_or(0, |head| head & PARTS)) >> PARTS_AT;
            }
            if part == parts {
                break;
            }
            part += 1;
        }
        if !is_still(first, before[0]) || !is_still(second, before[1]) {
            return false;
        }
        unpack(words[0], words.into_iter(), into);
        fill_id_in(id, into);
        true
    }

    /// Of the places where a key may stand, the slot with an id's word.
    fn slot_with(&self, mut found: Candidates, tag: u64) -> Option<Slot<'_>> {
        while let Some((set, way)) = found.next() {
            let slot = self.slot(set, way)?;
            if slot.id.load(Ordering::Relaxed) & !USED == tag {
                return Some(slot);
            }
        }
        None
    }

    /// Call it before the snapshot is loaded.
    pub(crate) fn leave_to_fill(&self) -> Option<FillLeave> {
        let generation = self.generation.load(Ordering::Acquire);
        generation
            .is_multiple_of(2)
            .then_some(FillLeave(generation))
    }

    /// Puts a record in, unless a writer has published since the permit was taken, the
    /// record is too long, or the set is busy. With the MAC of its token, which the caller has
    /// proven, or with none.
    pub(crate) fn fill(&self, leave: FillLeave, id: KeyId, record: &[u8], mac: Option<&Mac>) {
        let Some(packed) = Packed::new(record, mac) else {
            return;
        };
        let Place { sets, fingerprint } = self.place_of(id);
        let Ok(guard) = self.lock_of(sets[0]).try_lock() else {
            return;
        };
        if self.generation.load(Ordering::Acquire) != leave.0 {
            return;
        }
        // All that is looked for is found before the sets are written: readers of all their keys go
        // to the file meanwhile.
        let mut ways = ArrayVec::<Way, { 1 + PARTS_MAX }>::new();
        for part in 0..=packed.parts() {
            ways.push(self.way_for(id, part, sets, &ways));
        }
        if self.holds(&ways, &packed) {
            return;
        }
        let stale: ArrayVec<_, PARTS_MAX> = self
            .ways_of(id, sets)
            .filter(|(_, tag)| (tag & PART) >> PART_AT > packed.parts())
            .map(|(place, _)| place)
            .take(PARTS_MAX)
            .collect();
        self.writing(sets, || {
            stale.iter().for_each(|(set, way)| self.empty(*set, *way));
            for (way, words) in ways.iter().zip(packed.words.as_chunks().0) {
                let (set, at) = way.place;
                self.put(set, at, way.tag | USED, words);
                self.mark(set, at, fingerprint);
            }
        });
        drop(guard);
        let is_crowded = ways.iter().any(|way| matches!(way.was, Was::Anothers));
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
            self.writing([set, set], || {
                (0..WAYS).for_each(|way| self.empty(set, way));
            });
        }
    }

    fn clear(&self, id: KeyId) {
        let Place { sets, .. } = self.place_of(id);
        let _guard = table::lock(self.lock_of(sets[0]));
        let ways: ArrayVec<_, { 2 * WAYS }> = self.ways_of(id, sets).collect();
        self.writing(sets, || {
            ways.iter()
                .for_each(|((set, way), _)| self.empty(*set, *way));
        });
    }

    /// Lets two sets, or one, be written: no reader takes what it finds in them meanwhile. Their
    /// lock is held.
    fn writing(&self, [first, second]: [usize; 2], write: impl FnOnce()) {
        let second = (first != second).then_some(second);
        let sets = || [Some(first), second].into_iter().flatten();
        let versions = || sets().filter_map(|set| self.versions.get(set));
        let step = |order: Ordering| {
            for version in versions() {
                version.store(version.load(Ordering::Relaxed).wrapping_add(1), order);
            }
        };
        step(Ordering::Relaxed);
        fence(Ordering::Release);
        write();
        step(Ordering::Release);
    }

    /// The ways of a key, and of the parts of its record, with their ids' words. The sets' lock is
    /// held.
    fn ways_of(
        &self,
        id: KeyId,
        [first, second]: [usize; 2],
    ) -> impl Iterator<Item = ((usize, usize), u64)> {
        let second = (first != second).then_some(second);
        let sets = [Some(first), second].into_iter().flatten();
        let ways = sets.flat_map(|set| {
            let ids = self
                .set(set)
                .into_iter()
                .flatten()
                .map(|words| Slot::of(words).id);
            let ids = ids.map(|id| id.load(Ordering::Relaxed)).enumerate();
            ids.map(move |(way, word)| ((set, way), word))
        });
        ways.filter(move |(_, word)| is_of(*word, id))
    }

    /// Whether a record stands in ways as it is to be put there, with the same MAC, or with any
    /// where it has none. The sets' lock is held.
    fn holds(&self, ways: &[Way], packed: &Packed) -> bool {
        let mut parts = ways.iter().zip(packed.words.as_chunks::<WORDS>().0);
        let mut at = 0..;
        parts.all(|(way, words)| {
            let (set, place) = way.place;
            let (Was::Its, Some(slot)) = (way.was, self.slot(set, place)) else {
                return false;
            };
            let mut pairs = slot.loaded().zip(words).zip(&mut at);
            pairs.all(|((there, word), at)| there == *word || packed.may_differ(at))
        })
    }

    fn empty(&self, set: usize, way: usize) {
        self.put(set, way, EMPTY, &[0; WORDS]);
        self.mark(set, way, 0);
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
    fn set(&self, set: usize) -> Option<&[SlotWords; WAYS]> {
        let from = self.first + set * WAYS * SLOT_WORDS;
        let words = self.words.get(from..from + WAYS * SLOT_WORDS)?;
        words.as_chunks().0.first_chunk()
    }

    #[inline]
    fn slot(&self, set: usize, way: usize) -> Option<Slot<'_>> {
        let from = self.first + (set * WAYS + way) * SLOT_WORDS;
        let words: &SlotWords = self.words.get(from..from + SLOT_WORDS)?.first_chunk()?;
        Some(Slot::of(words))
    }

    /// The way for a part of a key's record in two sets, beside those that are chosen for other
    /// parts: its own, else a free one, else one of another key that was not used since the marks
    /// were last taken away. The lock is held.
    fn way_for(&self, id: KeyId, part: u64, sets: [usize; 2], chosen: &[Way]) -> Way {
        let tag = id.raw() | TAKEN | part << PART_AT;
        let is_free = |(set, way): (usize, usize)| {
            let word = self.fingerprints.get(set);
            word.is_some_and(|word| word.load(Ordering::Relaxed) >> (way * 8) & 0xff == 0)
        };
        let is_left = |place| chosen.iter().all(|way| way.place != place);
        let places = || {
            let all = sets.into_iter();
            let all = all.flat_map(|set| (0..WAYS).map(move |way| (set, way)));
            all.filter(|place| is_left(*place))
        };
        // What growing left of a part may stand where a place was free for another.
        let mut own = self.ways_of(id, sets);
        let own = own.find(|(place, word)| word & !USED == tag && is_left(*place));
        let free = || places().find(|place| is_free(*place));
        if let Some(place) = own.map(|(place, _)| place).or_else(free) {
            let was = match is_free(place) {
                true => Was::Free,
                false => Was::Its,
            };
            return Way { place, tag, was };
        }
        let word_of = |(set, way): (usize, usize)| {
            let slot = self.slot(set, way);
            slot.map_or(EMPTY, |slot| slot.id.load(Ordering::Relaxed))
        };
        let unused = places().find(|place| {
            let word = word_of(*place);
            word & USED == 0 && !is_of(word, id)
        });
        let place = unused.unwrap_or_else(|| {
            for slot in places().filter_map(|(set, way)| self.slot(set, way)) {
                slot.id.fetch_and(!USED, Ordering::Relaxed);
            }
            let from = usize::try_from(id.raw() % WAYS as u64).unwrap_or(0);
            let mut others = places().cycle().skip(from).take(2 * WAYS);
            let other = others.find(|place| !is_of(word_of(*place), id));
            other.unwrap_or((sets[0], from))
        });
        let was = Was::Anothers;
        Way { place, tag, was }
    }

    /// Gives a way to an id's word and what goes with it, or to none. The set is being
    /// [written](Self::writing).
    fn put(&self, set: usize, way: usize, tag: u64, words: &[u64; WORDS]) {
        let Some(slot) = self.slot(set, way) else {
            return;
        };
        slot.id.store(tag, Ordering::Relaxed);
        for (place, word) in slot.words.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
    }

    /// How many keys are in the table, each part of a record as one more, and how many fit.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        let words = self.fingerprints.iter().take(self.sets_in_use());
        let ways =
            words.map(|word| bytes_taken(word.load(Ordering::Relaxed)).count_ones() as usize);
        (ways.sum(), self.sets_max * WAYS)
    }
}

impl<'a> Slot<'a> {
    #[inline]
    fn of(words: &'a SlotWords) -> Self {
        let [id, words @ ..] = words;
        Self { id, words }
    }

    /// Its words, which are of account if [`is_still`] says so after.
    fn loaded(&self) -> impl Iterator<Item = u64> {
        let words = self.words.iter();
        words.map(|word| word.load(Ordering::Relaxed))
    }

    /// Marks it as used, unless its id's word says so.
    #[inline(always)]
    fn use_it(&self, tag: u64) {
        if tag & USED == 0 {
            self.id.fetch_or(USED, Ordering::Relaxed);
        }
    }
}

/// Whether a set was not written since it had a version, nor as it had it.
#[inline(always)]
fn is_still(version: &AtomicU64, before: u64) -> bool {
    fence(Ordering::Acquire);
    before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before
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
