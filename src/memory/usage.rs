//! Notes of verifications: that a key was used, and that its digest can be renewed.
//! Nothing here touches the file; the engine's thread writes the notes in batches.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::Duration;

use thread_local::ThreadLocal;

use crate::crypto::digest::Digest;
use crate::memory::hash::IdHasher;
use crate::memory::process::{Asked, Step};
use crate::memory::tally::{Answered, Tallied, Tally};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::outcome::{Outcome, OutcomeCounts};
use crate::store::tx::uses::{Hour, Note, Used};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// How many uses a thread takes down before it must add them up itself.
const LOG_LEN: usize = 4096;
/// With how many it calls for another to add them up.
const CALL_LEN: usize = LOG_LEN / 2;
/// How many keys are added up between two flushes. Past that, the uses of keys
/// that are not among them yet are counted as lost.
const KEYS_MAX: usize = 262_144;
/// How many kinds of denials of keys are added up beside them, for the usage history.
const DENIALS_MAX: usize = 65_536;
/// In a log, what a verification came to stands above the id. A grant adds nothing.
const OUTCOME_SHIFT: u32 = 60;
const ID_MASK: u64 = (1 << OUTCOME_SHIFT) - 1;
/// How many digests wait to be renewed at most; others wait for another use.
const RENEWALS_MAX: usize = 262_144;
/// Renewals are noted under as many locks, so that two threads rarely meet at one.
const SHARDS: usize = 64;
const MINUTE_MS: u64 = 60_000;

type Map = HashMap<u64, Used, BuildHasherDefault<IdHasher>>;

/// The uses that one thread has noted and that are not added up yet: a ring that only
/// this thread writes to, without a locked instruction, which would make the processor
/// wait for everything before it. It has its cache lines to itself, since the logs of
/// two threads may be neighbours.
#[repr(align(128))]
struct Log {
    ids: Box<[AtomicU64]>,
    /// How many were written, ever; the thread's own.
    written: AtomicUsize,
    /// How many were added up; changed under the lock of the sums.
    read: AtomicUsize,
    /// The minute of all that is in the log; changed under that lock too.
    minute: AtomicU64,
    /// When the thread last asked whether it is in the engine's process.
    asked: Asked,
    tally: Tally,
    /// What the alignment leaves over. It is written: a log that is made during the first
    /// verification of its thread would else carry what was on the stack, which is a token,
    /// to where it stays.
    _rest: [AtomicU64; REST],
}

const FIELDS: usize = size_of::<Box<[AtomicU64]>>()
    + 2 * size_of::<AtomicUsize>()
    + size_of::<AtomicU64>()
    + size_of::<Asked>()
    + size_of::<Tally>();
const REST: usize = (128 - FIELDS % 128) % 128 / size_of::<AtomicU64>();
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
const _: () = assert!(size_of::<Log>() == FIELDS + REST * size_of::<AtomicU64>());

impl Log {
    fn new() -> Self {
        Self {
            _rest: [const { AtomicU64::new(0) }; REST],
            ids: (0..LOG_LEN).map(|_| AtomicU64::new(0)).collect(),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            minute: AtomicU64::new(0),
            asked: Asked::never(),
            tally: Tally::new(),
        }
    }

    /// How many uses are taken down, ever, and how many of them wait.
    fn waiting(&self) -> (usize, usize) {
        let written = self.written.load(Ordering::Relaxed);
        // Acquire: what is overwritten has been read.
        let waiting = written.wrapping_sub(self.read.load(Ordering::Acquire));
        (written, waiting)
    }

    /// Whether the log takes no use of this minute before it is added up.
    fn is_full(&self, waiting: usize, minute: u64) -> bool {
        waiting >= LOG_LEN || self.minute.load(Ordering::Relaxed) != minute
    }

    /// Takes a use down and says how many wait with it; or `None` where it must be asked
    /// first whose process this is, or the log be added up.
    #[inline(always)]
    fn push(&self, word: u64, minute: u64, step: Step) -> Option<usize> {
        let (written, waiting) = self.waiting();
        if self.is_full(waiting, minute) || !self.asked.is_recent(step) {
            return None;
        }
        let slot = self.ids.get(written % LOG_LEN)?;
        slot.store(word, Ordering::Relaxed);
        self.written
            .store(written.wrapping_add(1), Ordering::Release);
        Some(waiting + 1)
    }

    /// Adds up what is in the log. The lock of the sums is held.
    fn add_up(&self, sums: &mut Sums) -> Lost {
        let written = self.written.load(Ordering::Acquire);
        let mut at = self.read.load(Ordering::Relaxed);
        let minute = self.minute.load(Ordering::Relaxed);
        let used = Used {
            last_used: Timestamp::from_raw(minute * MINUTE_MS),
            count: 1,
        };
        let mut lost = Lost::default();
        // All that is in the log is of one hour.
        let mut room = sums.room(Hour::of(used.last_used));
        while at != written {
            if let Some(slot) = self.ids.get(at % LOG_LEN) {
                room.add(slot.load(Ordering::Relaxed), used, &mut lost);
            }
            at = at.wrapping_add(1);
        }
        self.read.store(written, Ordering::Release);
        lost
    }

    /// The minute of the notes that wait, if some do. The lock of the sums is held.
    fn waits_since(&self) -> Option<u64> {
        let (_, waiting) = self.waiting();
        (waiting > 0).then(|| self.minute.load(Ordering::Relaxed))
    }
}

/// How many notes found no room.
#[derive(Default)]
struct Lost {
    uses: u64,
    denials: u64,
}

/// What is added up, by the hour: the history tells them apart.
#[derive(Default)]
struct Sums {
    /// Nearly always one.
    hours: BTreeMap<Hour, Map>,
    uses: usize,
    denials: usize,
    /// What belongs to no key: how much of it was taken, ever, and what was put back.
    unattributed_taken: OutcomeCounts,
    unattributed: Vec<(Hour, Outcome, u64)>,
}

impl Sums {
    /// Where the notes of an hour are added up.
    fn room(&mut self, hour: Hour) -> Room<'_> {
        Room {
            map: self.hours.entry(hour).or_default(),
            uses: &mut self.uses,
            denials: &mut self.denials,
        }
    }

    /// The minute of the oldest note.
    fn since(&self) -> Option<Timestamp> {
        let oldest = |map: &Map| map.values().map(|used| used.last_used).min();
        let unattributed = self.unattributed.iter().map(|(hour, ..)| hour.begins_at());
        self.hours
            .values()
            .filter_map(oldest)
            .chain(unattributed)
            .min()
    }
}

/// Where the notes of an hour are added up, and how many there are of all hours.
struct Room<'a> {
    map: &'a mut Map,
    uses: &'a mut usize,
    denials: &'a mut usize,
}

impl Room<'_> {
    /// Adds notes of a key, by the word that a log has, and counts those without room.
    #[inline]
    fn add(&mut self, word: u64, used: Used, lost: &mut Lost) {
        match self.map.get_mut(&word) {
            Some(sum) => {
                sum.count += used.count;
                sum.last_used = sum.last_used.max(used.last_used);
            }
            None => self.insert(word, used, lost),
        }
    }

    #[cold]
    fn insert(&mut self, word: u64, used: Used, lost: &mut Lost) {
        let (taken, max, lost) = match word >> OUTCOME_SHIFT {
            0 => (&mut *self.uses, KEYS_MAX, &mut lost.uses),
            _ => (&mut *self.denials, DENIALS_MAX, &mut lost.denials),
        };
        if *taken < max {
            *taken += 1;
            self.map.insert(word, used);
        } else {
            *lost += used.count;
        }
    }
}

/// A note as a log has it.
fn word_of(id: KeyId, outcome: Outcome) -> u64 {
    id.raw() | u64::from(outcome.number()) << OUTCOME_SHIFT
}

/// A digest to be renewed under the pepper that signed then, if it is still `old`.
#[derive(Clone, Copy)]
pub(crate) struct Renewal {
    pub(crate) id: KeyId,
    pub(crate) old: Digest,
    /// The pepper of the new digest.
    pub(crate) pepper: u8,
    pub(crate) new: Digest,
}

/// The notes of an engine.
pub(crate) struct Notes {
    logs: ThreadLocal<Log>,
    sums: Mutex<Sums>,
    lost: AtomicU64,
    denials_lost: AtomicU64,
    renewals: Box<[Mutex<Renewals>]>,
}

type Renewals = HashMap<u64, Renewal, BuildHasherDefault<IdHasher>>;

impl Notes {
    pub(crate) fn new() -> Self {
        Self {
            logs: ThreadLocal::new(),
            sums: Mutex::default(),
            lost: AtomicU64::new(0),
            denials_lost: AtomicU64::new(0),
            renewals: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The log of this thread.
    #[inline(always)]
    fn log(&self) -> &Log {
        match self.logs.get() {
            Some(log) => log,
            None => self.logs.get_or(Log::new),
        }
    }

    /// Notes what a verification of a key came to at an instant. Once in a while, and before
    /// it takes a lock, it lets `ask` find out whether this is the engine's process: an
    /// error of that is given back, with nothing noted. It calls `call` once the thread's
    /// log is half full: where somebody [gathers](Self::gather) the notes before it is full,
    /// this never adds them up itself.
    #[inline(always)]
    pub(crate) fn answered(
        &self,
        id: KeyId,
        answered: Answered,
        (now, step): (Timestamp, Step),
        ask: impl FnOnce() -> Result<(), Error>,
        call: impl FnOnce(),
    ) -> Result<(), Error> {
        let word = word_of(id, answered.outcome);
        let minute = now.unix_ms() / MINUTE_MS;
        let log = self.log();
        let mut waiting = log.push(word, minute, step);
        if waiting.is_none() {
            ask()?;
            self.make_room(log, minute, step);
            waiting = log.push(word, minute, step);
        }
        log.tally.count(answered);
        if waiting == Some(CALL_LEN) {
            call();
        }
        Ok(())
    }

    /// Adds up what the threads have noted.
    pub(crate) fn gather(&self) {
        let mut sums = lock(&self.sums);
        for log in &self.logs {
            self.note_lost(&log.add_up(&mut sums));
        }
    }

    /// As [`answered`](Self::answered), for a verification that is counted, if it is, and
    /// not noted.
    pub(crate) fn look(
        &self,
        answered: Option<Answered>,
        step: Step,
        ask: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let log = self.log();
        if !log.asked.is_recent(step) {
            ask()?;
            log.asked.note(step);
        }
        if let Some(answered) = answered {
            log.tally.count(answered);
        }
        Ok(())
    }

    /// Counts a verification that belongs to no keyspace.
    pub(crate) fn count_unattributed(&self, outcome: Outcome) {
        let log = self.log();
        log.tally.count_unattributed(outcome);
    }

    /// Begins to time a verification.
    pub(crate) fn begin_timed(&self) {
        self.log().tally.begin_timed();
    }

    /// Notes how long it took: see [`Tally::timed`].
    pub(crate) fn timed(&self, took: Duration) {
        self.log().tally.timed(took);
    }

    /// Notes how long one took that has read the file.
    pub(crate) fn read_file(&self, took: Duration) {
        self.log().tally.read_file(took);
    }

    /// What all threads have answered.
    pub(crate) fn tallied(&self) -> Tallied {
        let mut all = Tallied::default();
        self.logs.iter().for_each(|log| log.tally.add_to(&mut all));
        let mut keyspaces: BTreeMap<u32, OutcomeCounts> = BTreeMap::new();
        for (number, counts) in &all.keyspaces {
            keyspaces.entry(*number).or_default().add_all(counts);
        }
        all.keyspaces = keyspaces.into_iter().collect();
        all
    }

    /// The minute of the oldest note that waits, if some do.
    pub(crate) fn waits_since(&self) -> Option<Timestamp> {
        let sums = lock(&self.sums);
        let logs = self.logs.iter().filter_map(Log::waits_since);
        let logs = logs.map(|minute| Timestamp::from_raw(minute * MINUTE_MS));
        logs.chain(sums.since()).min()
    }

    #[cold]
    fn make_room(&self, log: &Log, minute: u64, step: Step) {
        log.asked.note(step);
        if !log.is_full(log.waiting().1, minute) {
            return;
        }
        let mut sums = lock(&self.sums);
        self.note_lost(&log.add_up(&mut sums));
        log.minute.store(minute, Ordering::Relaxed);
    }

    fn note_lost(&self, lost: &Lost) {
        for (total, lost) in [(&self.lost, lost.uses), (&self.denials_lost, lost.denials)] {
            if lost > 0 {
                total.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    /// Notes that a digest can be renewed. Where too many wait, or another thread
    /// notes one at the same lock, the key waits for another use.
    pub(crate) fn renew(&self, renewal: Renewal) {
        if let Some(shard) = self.shard(renewal.id)
            && let Ok(mut renewals) = shard.try_lock()
            && renewals.len() < RENEWALS_MAX / SHARDS
        {
            renewals.insert(renewal.id.raw(), renewal);
        }
    }

    /// Whether there is nothing to note: the key is noted already, or it must
    /// wait for another use.
    pub(crate) fn awaits_renewal(&self, id: KeyId) -> bool {
        match self.shard(id).map(Mutex::try_lock) {
            Some(Ok(renewals)) => {
                renewals.len() >= RENEWALS_MAX / SHARDS || renewals.contains_key(&id.raw())
            }
            _ => true,
        }
    }

    /// The random bits of an id are its last.
    fn shard(&self, id: KeyId) -> Option<&Mutex<Renewals>> {
        let at = usize::try_from(id.raw() % SHARDS as u64).ok()?;
        self.renewals.get(at)
    }

    /// Takes what was noted since the last call: of keys, in the order of the ids; then
    /// what belongs to none, as of `now`.
    pub(crate) fn take_notes(&self, now: Timestamp) -> Vec<Note> {
        self.gather();
        let mut sums = lock(&self.sums);
        let mut unattributed = std::mem::take(&mut sums.unattributed);
        let mut total = OutcomeCounts::default();
        for log in &self.logs {
            total.add_all(&log.tally.unattributed());
        }
        for (outcome, count) in total.iter() {
            let new = count.saturating_sub(sums.unattributed_taken.get(outcome));
            if new > 0 {
                unattributed.push((Hour::of(now), outcome, new));
            }
        }
        let kept = Sums {
            unattributed_taken: total,
            ..Sums::default()
        };
        let hours = std::mem::replace(&mut *sums, kept).hours;
        drop(sums);
        let of_keys = hours.into_values().flatten();
        let mut notes: Vec<_> = of_keys
            .map(|(word, used)| Note {
                key: Some(KeyId::from_raw(word & ID_MASK)),
                outcome: u8::try_from(word >> OUTCOME_SHIFT)
                    .ok()
                    .and_then(Outcome::numbered)
                    .unwrap_or(Outcome::Granted),
                used,
            })
            .collect();
        notes.sort_unstable_by_key(|note| (note.key, note.outcome, note.used.last_used));
        notes.extend(unattributed.into_iter().map(|(hour, outcome, count)| Note {
            key: None,
            outcome,
            used: Used {
                last_used: hour.begins_at(),
                count,
            },
        }));
        notes
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, notes: &[Note]) {
        let mut sums = lock(&self.sums);
        let mut lost = Lost::default();
        for note in notes {
            match note.key {
                Some(id) => {
                    let mut room = sums.room(Hour::of(note.used.last_used));
                    room.add(word_of(id, note.outcome), note.used, &mut lost);
                }
                None => {
                    let (hour, outcome) = (Hour::of(note.used.last_used), note.outcome);
                    let same =
                        |(at, of, _): &&mut (Hour, Outcome, u64)| (*at, *of) == (hour, outcome);
                    match sums.unattributed.iter_mut().find(same) {
                        Some((.., count)) => *count += note.used.count,
                        None => sums.unattributed.push((hour, outcome, note.used.count)),
                    }
                }
            }
        }
        drop(sums);
        self.note_lost(&lost);
    }

    /// Takes what is to be renewed, in the order of the ids.
    pub(crate) fn take_renewals(&self) -> Vec<Renewal> {
        let mut taken = Vec::new();
        for shard in &self.renewals {
            taken.extend(std::mem::take(&mut *lock(shard)).into_values());
        }
        taken.sort_unstable_by_key(|renewal| renewal.id);
        taken
    }

    /// How many uses were not counted, since there was no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many denials of keys were not, for the same reason.
    pub(crate) fn denials_lost(&self) -> u64 {
        self.denials_lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
