//! How many verifications a thread has answered, by keyspace and outcome, and how long
//! some of them took. Only this thread writes its counts, without a locked instruction.

use std::sync::OnceLock;
use std::time::Duration;

use crate::model::bounds;
use crate::model::outcome::{OUTCOMES, Outcome, OutcomeCounts};
use crate::model::timings::Recorder;

// The standard library's, also under a model checker: nothing is ordered by them.
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of so many keyspaces are made at a time.
const CHUNK: usize = 16;

/// Where a key was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Memory,
    File,
}

/// A verification of a key, to be counted.
#[derive(Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) keyspace: u32,
    pub(crate) outcome: Outcome,
    pub(crate) way: Way,
}

/// Of a keyspace.
#[derive(Default)]
struct Counts {
    memory: [AtomicU64; OUTCOMES],
    file: [AtomicU64; OUTCOMES],
}

/// What a thread has answered.
pub(super) struct Tally {
    /// By the number of the keyspace; made with the first that is counted.
    keyspaces: Box<[OnceLock<Box<[Counts; CHUNK]>>]>,
    unattributed: [AtomicU64; OUTCOMES],
    memory_times: Recorder,
    file_times: Recorder,
    /// 1 where the one that is timed has read the file, where it is timed anyway. A word, so
    /// that nothing is between it and the end: see [`usage`](crate::memory::usage).
    reads_file: AtomicU64,
}

/// What several threads have answered.
#[derive(Default)]
pub(crate) struct Tallied {
    /// By the number of the keyspace, of those that there were.
    pub(crate) keyspaces: Vec<(u32, OutcomeCounts)>,
    pub(crate) unattributed: OutcomeCounts,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) memory_times: crate::model::timings::Timings,
    pub(crate) file_times: crate::model::timings::Timings,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            keyspaces: (0..bounds::KEYSPACES_MAX.div_ceil(CHUNK))
                .map(|_| OnceLock::new())
                .collect(),
            unattributed: Default::default(),
            memory_times: Recorder::default(),
            file_times: Recorder::default(),
            reads_file: AtomicU64::new(0),
        }
    }

    /// Counts a verification. Only the thread itself does.
    #[inline(always)]
    pub(super) fn count(&self, answered: Answered) {
        let Ok(at) = usize::try_from(answered.keyspace) else {
            return;
        };
        let Some(chunk) = self.keyspaces.get(at / CHUNK) else {
            return;
        };
        let counts = match chunk.get() {
            Some(counts) => counts,
            None => Self::make(chunk),
        };
        let of = match (counts.get(at % CHUNK), answered.way) {
            (Some(counts), Way::Memory) => &counts.memory,
            (Some(counts), Way::File) => &counts.file,
            (None, _) => return,
        };
        if let Some(count) = of.get(answered.outcome as usize) {
            add_one(count);
        }
    }

    #[cold]
    fn make(chunk: &OnceLock<Box<[Counts; CHUNK]>>) -> &[Counts; CHUNK] {
        chunk.get_or_init(Box::default)
    }

    /// Counts one that belongs to no keyspace.
    pub(super) fn count_unattributed(&self, outcome: Outcome) {
        if let Some(count) = self.unattributed.get(outcome as usize) {
            add_one(count);
        }
    }

    /// Begins to time a verification.
    pub(super) fn begin_timed(&self) {
        self.reads_file.store(0, Ordering::Relaxed);
    }

    /// Notes how long it took, and says nothing of one that has read the file.
    pub(super) fn timed(&self, took: Duration) {
        if self.reads_file.load(Ordering::Relaxed) == 0 {
            self.memory_times.note(took);
        }
    }

    /// Notes how long one took that has read the file.
    pub(super) fn read_file(&self, took: Duration) {
        self.reads_file.store(1, Ordering::Relaxed);
        self.file_times.note(took);
    }

    pub(super) fn unattributed(&self) -> OutcomeCounts {
        read(&self.unattributed)
    }

    /// Adds it to those of other threads.
    pub(super) fn add_to(&self, all: &mut Tallied) {
        all.unattributed.add_all(&self.unattributed());
        all.memory_times.add(&self.memory_times.read());
        all.file_times.add(&self.file_times.read());
        for (at, chunk) in self.keyspaces.iter().enumerate() {
            let of_chunk = chunk.get().into_iter().flat_map(|chunk| chunk.iter());
            for (within, counts) in of_chunk.enumerate() {
                let (memory, file) = (read(&counts.memory), read(&counts.file));
                all.hits = all.hits.saturating_add(memory.total());
                all.misses = all.misses.saturating_add(file.total());
                let mut both = memory;
                both.add_all(&file);
                if let Ok(number) = u32::try_from(at * CHUNK + within)
                    && both.total() > 0
                {
                    all.keyspaces.push((number, both));
                }
            }
        }
    }
}

fn add_one(count: &AtomicU64) {
    let before = count.load(Ordering::Relaxed);
    count.store(before.wrapping_add(1), Ordering::Relaxed);
}

fn read(counts: &[AtomicU64; OUTCOMES]) -> OutcomeCounts {
    let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
    Outcome::ALL.into_iter().zip(counts).collect()
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use super::*;

    #[test]
    fn each_verification_counts_once_where_it_belongs() {
        let tally = Tally::new();
        let last = u32::try_from(bounds::KEYSPACES_MAX).unwrap() - 1;
        for (keyspace, outcome, way) in [
            (0, Outcome::Granted, Way::Memory),
            (0, Outcome::Granted, Way::File),
            (0, Outcome::QuotaExhausted, Way::Memory),
            (last, Outcome::Unknown, Way::File),
            (last + 1, Outcome::Granted, Way::Memory),
        ] {
            tally.count(Answered {
                keyspace,
                outcome,
                way,
            });
        }
        tally.count_unattributed(Outcome::Malformed);
        let mut all = Tallied::default();
        tally.add_to(&mut all);
        assert_eq!((all.hits, all.misses), (2, 2));
        let [(0, first), (number, other)] = all.keyspaces[..] else {
            panic!("{:?}", all.keyspaces);
        };
        assert_eq!(number, last);
        assert_eq!((first.granted(), first.denied()), (2, 1));
        assert_eq!(first.get(Outcome::QuotaExhausted), 1);
        assert_eq!(other.some().collect::<Vec<_>>(), [(Outcome::Unknown, 1)]);
        assert_eq!(all.unattributed.total(), 1);
    }

    #[test]
    fn one_that_is_timed_and_reads_the_file_counts_once() {
        let tally = Tally::new();
        let counted = || {
            let mut all = Tallied::default();
            tally.add_to(&mut all);
            (all.memory_times.count(), all.file_times.count())
        };
        tally.begin_timed();
        tally.timed(Duration::from_nanos(400));
        assert_eq!(counted(), (1, 0));
        tally.begin_timed();
        tally.read_file(Duration::from_micros(3));
        tally.timed(Duration::from_micros(4));
        assert_eq!(counted(), (1, 1));
        tally.begin_timed();
        tally.timed(Duration::from_nanos(400));
        assert_eq!(counted(), (2, 1));
    }
}
