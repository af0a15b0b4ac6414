//! Notes of verifications: that a key was used, and that its digest can be renewed.
//! Nothing here touches the file; the engine's thread writes the notes in batches.

mod log;
mod sums;

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::Duration;

use thread_local::ThreadLocal;

use self::log::{LOG_LEN, Log, PIECE_LEN, PLACES};
use self::sums::{Lost, MINUTE_MS, Sums, note_of, word_of};
use crate::crypto::digest::Digest;
use crate::memory::hash::IdHasher;
use crate::memory::process::Step;
use crate::memory::tally::{Answered, Tallied};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::outcome::{Outcome, OutcomeCounts};
use crate::store::tx::uses::{Hour, Note, Used};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// Each time that a thread has noted so many, it calls for another to add them up.
const CALL_LEN: usize = 2048;
/// How many it adds up itself where nobody has, and its log is full: no verification is to wait
/// for all of them.
const PART_LEN: usize = 64;
/// How many digests wait to be renewed at most; others wait for another use.
const RENEWALS_MAX: usize = 262_144;
/// Renewals are noted under as many locks, so that two threads rarely meet at one.
const SHARDS: usize = 64;

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
    /// error of that is given back, with nothing noted. It calls `call` each time that the
    /// thread has noted two thousand: where somebody [gathers](Self::gather) the notes before
    /// its log is full, this adds none up itself, but where the minute changes.
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
        let mut written = log.push(word, minute, step);
        if written.is_none() {
            ask()?;
            self.make_room(log, minute, step);
            written = log.push(word, minute, step);
        }
        log.tally.count(answered);
        // By what was noted, and not by what waits: a call may be missed, and is made again.
        if written.is_some_and(|written| written % CALL_LEN == 0) {
            call();
        }
        Ok(())
    }

    /// Adds up what the threads had noted at the call.
    pub(crate) fn gather(&self) {
        for log in &self.logs {
            // The lock is let go after each piece: a thread whose log is full waits for it.
            for _ in 0..PLACES {
                let mut sums = lock(&self.sums);
                self.note_lost(&log.add_up(PIECE_LEN, &mut sums));
                if log.waiting().1 == 0 {
                    break;
                }
            }
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

    /// Adds up so much that another use finds room.
    #[cold]
    fn make_room(&self, log: &Log, minute: u64, step: Step) {
        log.asked.note(step);
        if !log.is_full(log.waiting().1, minute) {
            return;
        }
        let count = if log.is_of(minute) { PART_LEN } else { LOG_LEN };
        let mut sums = lock(&self.sums);
        self.note_lost(&log.add_up(count, &mut sums));
        log.begin_minute(minute);
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
        let hours = std::mem::take(&mut *sums).hours;
        sums.unattributed_taken = total;
        drop(sums);
        let of_keys = hours.into_values().flatten();
        let mut notes: Vec<_> = of_keys.map(|(word, used)| note_of(word, used)).collect();
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
