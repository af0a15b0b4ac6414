//! Notes of verifications: that a key was used, and that its digest can be renewed.
//! Nothing here touches the file; the engine's thread writes the notes in batches.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use thread_local::ThreadLocal;

use crate::crypto::digest::Digest;
use crate::memory::hash::IdHasher;
use crate::memory::process::{Asked, Step};
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::store::tx::uses::Used;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// How many uses a thread takes down before it must add them up itself.
const LOG_LEN: usize = 4096;
/// With how many it calls for another to add them up.
const CALL_LEN: usize = LOG_LEN / 2;
/// How many keys are added up between two flushes. Past that, the uses of keys
/// that are not among them yet are counted as lost.
const KEYS_MAX: usize = 262_144;
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
}

impl Log {
    fn new() -> Self {
        Self {
            ids: (0..LOG_LEN).map(|_| AtomicU64::new(0)).collect(),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            minute: AtomicU64::new(0),
            asked: Asked::never(),
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
    fn push(&self, id: KeyId, minute: u64, step: Step) -> Option<usize> {
        let (written, waiting) = self.waiting();
        if self.is_full(waiting, minute) || !self.asked.is_recent(step) {
            return None;
        }
        let slot = self.ids.get(written % LOG_LEN)?;
        slot.store(id.raw(), Ordering::Relaxed);
        self.written
            .store(written.wrapping_add(1), Ordering::Release);
        Some(waiting + 1)
    }

    /// Adds up what is in the log, and says how many uses found no room. The
    /// lock of the sums is held.
    fn add_up(&self, sums: &mut Map) -> u64 {
        let written = self.written.load(Ordering::Acquire);
        let mut at = self.read.load(Ordering::Relaxed);
        let minute = self.minute.load(Ordering::Relaxed);
        let used = Used {
            last_used: Timestamp::from_raw(minute * MINUTE_MS),
            count: 1,
        };
        let mut lost = 0;
        while at != written {
            if let Some(slot) = self.ids.get(at % LOG_LEN) {
                lost += add(sums, slot.load(Ordering::Relaxed), used);
            }
            at = at.wrapping_add(1);
        }
        self.read.store(written, Ordering::Release);
        lost
    }
}

/// Adds uses of a key, and says how many found no room.
fn add(map: &mut Map, id: u64, used: Used) -> u64 {
    if let Some(sum) = map.get_mut(&id) {
        sum.count += used.count;
        sum.last_used = sum.last_used.max(used.last_used);
    } else if map.len() < KEYS_MAX {
        map.insert(id, used);
    } else {
        return used.count;
    }
    0
}

/// A digest to be renewed under the newest pepper, if it is still `old`.
#[derive(Clone, Copy)]
pub(crate) struct Renewal {
    pub(crate) id: KeyId,
    pub(crate) old: Digest,
    pub(crate) new: Digest,
}

/// The notes of an engine.
pub(crate) struct Notes {
    logs: ThreadLocal<Log>,
    sums: Mutex<Map>,
    lost: AtomicU64,
    renewals: Box<[Mutex<Renewals>]>,
}

type Renewals = HashMap<u64, Renewal, BuildHasherDefault<IdHasher>>;

impl Notes {
    pub(crate) fn new() -> Self {
        Self {
            logs: ThreadLocal::new(),
            sums: Mutex::new(Map::default()),
            lost: AtomicU64::new(0),
            renewals: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Notes that a key was granted at an instant. Once in a while, and before it
    /// takes a lock, it lets `ask` find out whether this is the engine's process: an
    /// error of that is given back, with nothing noted. It calls `call` once the thread's
    /// log is half full: where somebody [gathers](Self::gather) the notes before it is full,
    /// this never adds them up itself.
    pub(crate) fn used(
        &self,
        id: KeyId,
        now: Timestamp,
        step: Step,
        ask: impl FnOnce() -> Result<(), Error>,
        call: impl FnOnce(),
    ) -> Result<(), Error> {
        let minute = now.unix_ms() / MINUTE_MS;
        let log = self.logs.get_or(Log::new);
        let mut waiting = log.push(id, minute, step);
        if waiting.is_none() {
            ask()?;
            self.make_room(log, minute, step);
            waiting = log.push(id, minute, step);
        }
        if waiting == Some(CALL_LEN) {
            call();
        }
        Ok(())
    }

    /// Adds up what the threads have noted.
    pub(crate) fn gather(&self) {
        let mut sums = lock(&self.sums);
        for log in &self.logs {
            self.note_lost(log.add_up(&mut sums));
        }
    }

    /// As [`used`](Self::used), for a verification that notes no use.
    pub(crate) fn look(
        &self,
        step: Step,
        ask: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let log = self.logs.get_or(Log::new);
        if !log.asked.is_recent(step) {
            ask()?;
            log.asked.note(step);
        }
        Ok(())
    }

    #[cold]
    fn make_room(&self, log: &Log, minute: u64, step: Step) {
        log.asked.note(step);
        if !log.is_full(log.waiting().1, minute) {
            return;
        }
        let mut sums = lock(&self.sums);
        self.note_lost(log.add_up(&mut sums));
        log.minute.store(minute, Ordering::Relaxed);
    }

    fn note_lost(&self, uses: u64) {
        if uses > 0 {
            self.lost.fetch_add(uses, Ordering::Relaxed);
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

    /// Takes what was used since the last call, in the order of the ids.
    pub(crate) fn take_used(&self) -> Vec<(KeyId, Used)> {
        self.gather();
        let sums = std::mem::take(&mut *lock(&self.sums));
        let mut used: Vec<_> = sums
            .into_iter()
            .map(|(id, used)| (KeyId::from_raw(id), used))
            .collect();
        used.sort_unstable_by_key(|(id, _)| *id);
        used
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, used: &[(KeyId, Used)]) {
        let mut sums = lock(&self.sums);
        for (id, used) in used {
            self.note_lost(add(&mut sums, id.raw(), *used));
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(notes: &Notes, key: KeyId, now: Timestamp) {
        notes
            .used(key, now, Step::of(now), || Ok(()), || ())
            .unwrap();
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
        let used = notes.take_used();
        assert_eq!(used.len(), 1);
        assert_eq!(used[0].1.count, 4000);
        assert_eq!(used[0].1.last_used, Timestamp::from_raw(60_000));
        assert!(notes.take_used().is_empty());
        notes.put_back(&used);
        assert_eq!(notes.take_used()[0].1.count, 4000);
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
        let used = notes.take_used();
        assert_eq!(used[0].1.last_used, Timestamp::from_raw(4 * MINUTE_MS));
        assert_eq!(used[0].1.count, 4);
        assert_eq!(used[1].1.last_used, Timestamp::from_raw(MINUTE_MS));
    }

    #[test]
    fn nothing_is_lost_while_others_add_up() {
        let notes = Notes::new();
        let uses = 200_000;
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for at in 0..uses {
                            used(&notes, KeyId::from_raw(at % 5), Timestamp::from_raw(at));
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            while !threads.iter().all(|thread| thread.is_finished()) {
                taken += notes
                    .take_used()
                    .iter()
                    .map(|(_, used)| used.count)
                    .sum::<u64>();
            }
            taken
        });
        let rest: u64 = notes.take_used().iter().map(|(_, used)| used.count).sum();
        assert_eq!(taken + rest, 2 * uses);
    }

    #[test]
    fn who_gathers_when_called_leaves_nothing_to_add_up_to_the_thread() {
        let notes = Notes::new();
        let (now, mut calls) = (Timestamp::MIN, 0);
        for raw in 0..10 * LOG_LEN as u64 {
            let gather = || {
                calls += 1;
                notes.gather();
            };
            let step = Step::of(now);
            notes
                .used(KeyId::from_raw(raw), now, step, || Ok(()), gather)
                .unwrap();
            let (_, waiting) = notes.logs.get().unwrap().waiting();
            assert!(waiting < CALL_LEN);
        }
        assert_eq!(calls, 20);
        assert_eq!(notes.take_used().len(), 10 * LOG_LEN);
    }

    #[test]
    fn a_log_of_which_nobody_takes_is_added_up_by_its_thread_and_calls_each_time() {
        let notes = Notes::new();
        let (now, mut calls, mut asked) = (Timestamp::MIN, 0, 0);
        for raw in 0..10 * LOG_LEN as u64 {
            let ask = || {
                asked += 1;
                Ok(())
            };
            let step = Step::of(now);
            notes
                .used(KeyId::from_raw(raw), now, step, ask, || calls += 1)
                .unwrap();
        }
        assert_eq!(calls, 10);
        // Whose process this is, once in 1,024, whether the log is full or not.
        assert_eq!(asked, 10 * LOG_LEN / 1024);
        assert_eq!(notes.take_used().len(), 10 * LOG_LEN);
    }

    #[test]
    fn memory_is_bounded_and_what_is_lost_is_counted() {
        let notes = Notes::new();
        for raw in 0..KEYS_MAX as u64 + 10 {
            used(&notes, KeyId::from_raw(raw), Timestamp::MIN);
        }
        assert_eq!(notes.take_used().len(), KEYS_MAX);
        assert_eq!(notes.lost(), 10);
    }

    #[test]
    fn uses_that_are_put_back_where_there_is_no_room_are_counted_as_lost() {
        let notes = Notes::new();
        let key = KeyId::from_raw;
        for raw in [1 << 40, 1 << 40, 7] {
            used(&notes, key(raw), Timestamp::from_raw(3 * MINUTE_MS));
        }
        let taken = notes.take_used();
        for raw in 0..KEYS_MAX as u64 {
            used(&notes, key(raw), Timestamp::MIN);
        }
        let log = notes.logs.get_or(Log::new);
        notes.make_room(log, 0, Step::of(Timestamp::MIN));
        notes.put_back(&taken);
        assert_eq!(notes.lost(), 2);
        let taken = notes.take_used();
        assert_eq!(taken.len(), KEYS_MAX);
        assert_eq!(taken[7].1.count, 2, "it is among them, and goes on");
        assert_eq!(taken[7].1.last_used, Timestamp::from_raw(3 * MINUTE_MS));
    }

    #[test]
    fn digests_to_renew_are_noted_once_and_up_to_a_bound() {
        let notes = Notes::new();
        let per_shard = (RENEWALS_MAX / SHARDS) as u64;
        let renewal = |at: u64| Renewal {
            id: KeyId::from_raw(at * SHARDS as u64 + 5),
            old: [0; 32],
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
}
