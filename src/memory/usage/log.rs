//! What one thread has noted, and nobody has added up yet.

use std::sync::OnceLock;

use super::sums::{Lost, MINUTE_MS, Sums};
use crate::memory::process::{Asked, Step};
use crate::memory::tally::Tally;
use crate::model::clock::Timestamp;
use crate::store::tx::uses::{Hour, Used};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A log is written a piece at a time, in the first place that is free: while others add up
/// in time, it stays within a few pieces, which the processor has at hand.
pub(super) const PIECE_LEN: usize = 1024;
pub(super) const PLACES: usize = if cfg!(gatekey_shuttle) { 4 } else { 64 };
/// How many uses a thread takes down before it must add some of them up itself: one piece
/// may be added up in part.
pub(super) const LOG_LEN: usize = (PLACES - 1) * PIECE_LEN;

/// The ids of one piece.
type Piece = [AtomicU64; PIECE_LEN];

/// The uses that one thread has noted: a log that only this thread writes to, without a
/// locked instruction, which would make the processor wait for everything before it. It has
/// its cache lines to itself, since the logs of two threads may be neighbours.
#[repr(align(128))]
pub(super) struct Log {
    /// The piece of each place. Each is made when it is first needed, by the thread: one
    /// allocation of all would be touched whole where it does not come from the system itself.
    pieces: Box<[OnceLock<Box<Piece>>; PLACES]>,
    /// In which place each of the last pieces is.
    places: Box<[AtomicUsize]>,
    /// The place of the piece that is written; the thread's own.
    place: AtomicUsize,
    /// How many were written, ever; the thread's own.
    written: AtomicUsize,
    /// How many were added up; changed under the lock of the sums.
    read: AtomicUsize,
    /// The minute of all that is in the log; changed under that lock too.
    minute: AtomicU64,
    /// When the thread last asked whether it is in the engine's process.
    pub(super) asked: Asked,
    pub(super) tally: Tally,
    /// What the alignment leaves over. It is written: a log that is made during the first
    /// verification of its thread would else carry what was on the stack, which is a token,
    /// to where it stays.
    _rest: [AtomicU64; REST],
}

const FIELDS: usize = size_of::<Box<[OnceLock<Box<Piece>>; PLACES]>>()
    + size_of::<Box<[AtomicUsize]>>()
    + 3 * size_of::<AtomicUsize>()
    + size_of::<AtomicU64>()
    + size_of::<Asked>()
    + size_of::<Tally>();
const REST: usize = (128 - FIELDS % 128) % 128 / size_of::<AtomicU64>();
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(size_of::<Log>() == FIELDS + REST * size_of::<AtomicU64>());

impl Log {
    pub(super) fn new() -> Self {
        Self {
            _rest: [const { AtomicU64::new(0) }; REST],
            pieces: Box::new([const { OnceLock::new() }; PLACES]),
            places: (0..PLACES).map(|_| AtomicUsize::new(0)).collect(),
            place: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            minute: AtomicU64::new(0),
            asked: Asked::never(),
            tally: Tally::new(),
        }
    }

    /// How many uses are taken down, ever, and how many of them wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let written = self.written.load(Ordering::Relaxed);
        // Acquire: what is overwritten has been read.
        let waiting = written.wrapping_sub(self.read.load(Ordering::Acquire));
        (written, waiting)
    }

    pub(super) fn is_of(&self, minute: u64) -> bool {
        self.minute.load(Ordering::Relaxed) == minute
    }

    /// Whether the log takes no use of this minute before it is added up.
    pub(super) fn is_full(&self, waiting: usize, minute: u64) -> bool {
        waiting >= LOG_LEN || !self.is_of(minute)
    }

    /// The minute of what is taken down from now on. All before is added up, and the lock of
    /// the sums is held.
    pub(super) fn begin_minute(&self, minute: u64) {
        self.minute.store(minute, Ordering::Relaxed);
    }

    /// Takes a use down and says how many were, ever; or `None` where it must be asked
    /// first whose process this is, or the log be added up.
    #[inline(always)]
    pub(super) fn push(&self, word: u64, minute: u64, step: Step) -> Option<usize> {
        let (written, waiting) = self.waiting();
        if self.is_full(waiting, minute) || !self.asked.is_recent(step) {
            return None;
        }
        let at = written % PIECE_LEN;
        if at == 0 {
            self.begin_piece(written, waiting);
        }
        let place = self.place.load(Ordering::Relaxed) % PLACES;
        self.pieces[place].get()?[at].store(word, Ordering::Relaxed);
        let written = written.wrapping_add(1);
        self.written.store(written, Ordering::Release);
        Some(written)
    }

    /// Begins a piece in the first place of which all is added up.
    #[cold]
    fn begin_piece(&self, written: usize, waiting: usize) {
        let pieces =
            (1..=waiting.div_ceil(PIECE_LEN)).map(|back| written.wrapping_sub(back * PIECE_LEN));
        let taken = pieces.fold(0u64, |taken, from| taken | 1 << self.place_of(from));
        let free = taken.trailing_ones() as usize % PLACES;
        if let Some(place) = self.places.get(written / PIECE_LEN % PLACES) {
            place.store(free, Ordering::Relaxed);
        }
        self.pieces[free].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PIECE_LEN]));
        self.place.store(free, Ordering::Relaxed);
    }

    /// How many pieces were made.
    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.pieces
            .iter()
            .filter(|piece| piece.get().is_some())
            .count()
    }

    /// The place of the piece that the nth use is in.
    fn place_of(&self, at: usize) -> usize {
        let place = self.places.get(at / PIECE_LEN % PLACES);
        place.map_or(0, |place| place.load(Ordering::Relaxed)) % PLACES
    }

    /// Adds up the oldest of what is in the log. The lock of the sums is held.
    pub(super) fn add_up(&self, count_max: usize, sums: &mut Sums) -> Lost {
        let written = self.written.load(Ordering::Acquire);
        let mut at = self.read.load(Ordering::Relaxed);
        let end = at.wrapping_add(written.wrapping_sub(at).min(count_max));
        let minute = self.minute.load(Ordering::Relaxed);
        let used = Used {
            last_used: Timestamp::from_raw(minute * MINUTE_MS),
            count: 1,
        };
        let mut lost = Lost::default();
        // All that is in the log is of one hour.
        let mut room = sums.room(Hour::of(used.last_used));
        while at != end {
            if let Some(piece) = self.pieces[self.place_of(at)].get() {
                let word = piece[at % PIECE_LEN].load(Ordering::Relaxed);
                room.add(word, used, &mut lost);
            }
            at = at.wrapping_add(1);
        }
        self.read.store(end, Ordering::Release);
        lost
    }

    /// The minute of the notes that wait, if some do. The lock of the sums is held.
    pub(super) fn waits_since(&self) -> Option<u64> {
        let (_, waiting) = self.waiting();
        (waiting > 0).then(|| self.minute.load(Ordering::Relaxed))
    }
}
