//! Group commit: writers that wait together share one transaction.
//!
//! The first caller leads: it takes all waiting changes as a [`Batch`], lets the engine
//! drive it, and gives every change its result. The first of those that arrived
//! meanwhile leads the next batch.
//!
//! A change sees what those before it in the batch have written, so that two rivals
//! cannot both win. One that is refused has written nothing (it validates first); should
//! one fail after it has written, the transaction is thrown away and run again without
//! it, so that it fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::model::error::{Error, StoreFailure};
use crate::model::timings::{Recorder, Timings};
use crate::store::tx::Tx;
use crate::sync::{Condvar, Mutex, lock};

/// Whether a batch is to be run again from the start, in a new transaction.
pub(crate) enum Progress {
    Done,
    Again,
}

/// The most changes in one transaction.
const BATCH_MAX: usize = 1024;

type Work<T> = Box<dyn FnMut(&mut Tx<'_>) -> Result<T, Error> + Send>;

/// Where a change stands.
enum Stage<T> {
    Waiting(Work<T>),
    /// Not taken by a leader, and told to lead.
    Lead(Work<T>),
    /// Taken by a leader.
    Taken,
    Done(Result<T, Error>),
}

/// The place of a change in the queue, where its caller waits.
struct Place<T> {
    stage: Mutex<Stage<T>>,
    changed: Condvar,
    since: Instant,
}

impl<T> Place<T> {
    fn set(&self, stage: Stage<T>) {
        *lock(&self.stage) = stage;
        self.changed.notify_one();
    }
}

/// A place in the line, whatever its change gives.
trait Waits: Send + Sync {
    /// For how long it has waited.
    fn waits_for(&self) -> Duration;
    /// Hands the change to a leader.
    fn take(self: Arc<Self>) -> Option<Box<dyn Job>>;
    /// Makes the caller that waits there the leader.
    fn pass_lead(&self);
}

impl<T: Send + 'static> Waits for Place<T> {
    fn waits_for(&self) -> Duration {
        self.since.elapsed()
    }

    fn take(self: Arc<Self>) -> Option<Box<dyn Job>> {
        let work = match std::mem::replace(&mut *lock(&self.stage), Stage::Taken) {
            Stage::Waiting(work) | Stage::Lead(work) => work,
            Stage::Taken | Stage::Done(_) => return None,
        };
        Some(Box::new(Taken {
            place: self,
            work,
            result: Err(Error::Internal("a change was not run")),
        }))
    }

    fn pass_lead(&self) {
        let mut stage = lock(&self.stage);
        if let Stage::Waiting(work) = std::mem::replace(&mut *stage, Stage::Taken) {
            *stage = Stage::Lead(work);
        }
        self.changed.notify_one();
    }
}

/// A change that a leader has taken, and its result so far. It may run more than once;
/// the last run counts.
struct Taken<T> {
    place: Arc<Place<T>>,
    work: Work<T>,
    result: Result<T, Error>,
}

trait Job: Send {
    /// Runs it, and says whether it succeeded.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Gives whoever waits its result, or an error in its place.
    fn answer(self: Box<Self>, instead: Option<Error>);
}

impl<T: Send> Job for Taken<T> {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = (self.work)(tx);
        self.result.is_ok()
    }

    fn answer(self: Box<Self>, instead: Option<Error>) {
        let Self {
            place,
            work,
            result,
        } = *self;
        // What it holds goes before whoever waits is told.
        drop(work);
        place.set(Stage::Done(instead.map_or(result, Err)));
    }
}

/// The changes that share a transaction, in the order of the line.
pub(crate) struct Batch {
    /// Each with whether it failed after it had written, and is left out since.
    jobs: Vec<(Box<dyn Job>, bool)>,
    may_be_durable: bool,
}

impl Batch {
    /// How many changes there are.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Runs all in a transaction.
    pub(crate) fn run(&mut self, tx: &mut Tx<'_>) -> Progress {
        let jobs = self.jobs.iter_mut();
        for (job, is_left_out) in jobs.filter(|(_, is_left_out)| !*is_left_out) {
            tx.begin_mutation();
            if !job.run(tx) && tx.wrote() {
                *is_left_out = true;
                return Progress::Again;
            }
        }
        Progress::Done
    }

    /// Notes that its commit begins: from here on, a panic leaves its outcome unknown.
    pub(crate) fn commits(&mut self) {
        self.may_be_durable = true;
    }

    /// Gives each its result. Where the batch has failed, its error is that of all but
    /// those that were left out.
    fn answer(self, ended: &Result<(), Error>) {
        for (job, is_left_out) in self.jobs {
            job.answer(match ended {
                Err(error) if !is_left_out => Some(error.clone()),
                _ => None,
            });
        }
    }
}

#[derive(Default)]
struct Line {
    waiting: Vec<Arc<dyn Waits>>,
    led: bool,
}

/// The queue in which changes wait.
#[derive(Default)]
pub(crate) struct Queue {
    line: Mutex<Line>,
    waits: Recorder,
}

impl Queue {
    /// Has a change made in a transaction, alone or with others, and gives its result
    /// once it is durable.
    ///
    /// `drive` takes a batch through a transaction to all readers; it is called only
    /// while this thread leads. Its error is one for the whole batch.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
        drive: impl Fn(&mut Batch) -> Result<(), Error>,
    ) -> Result<T, Error> {
        let place = Arc::new(Place {
            stage: Mutex::new(Stage::Waiting(Box::new(work))),
            changed: Condvar::new(),
            since: Instant::now(),
        });
        let lead = {
            let mut line = lock(&self.line);
            line.waiting.push(place.clone());
            !std::mem::replace(&mut line.led, true)
        };
        if lead {
            self.lead(&drive);
        }
        let mut stage = lock(&place.stage);
        loop {
            match std::mem::replace(&mut *stage, Stage::Taken) {
                Stage::Done(result) => return result,
                Stage::Lead(work) => {
                    *stage = Stage::Waiting(work);
                    drop(stage);
                    self.lead(&drive);
                    stage = lock(&place.stage);
                }
                waits => {
                    *stage = waits;
                    stage = place
                        .changed
                        .wait(stage)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// How long changes have waited for a leader.
    pub(crate) fn waits(&self) -> Timings {
        self.waits.read()
    }

    /// How many wait for a leader.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.line).waiting.len()
    }

    /// Leads one batch, and passes the lead on.
    fn lead(&self, drive: &impl Fn(&mut Batch) -> Result<(), Error>) {
        let places: Vec<Arc<dyn Waits>> = {
            let mut line = lock(&self.line);
            let count = line.waiting.len().min(BATCH_MAX);
            line.waiting.drain(..count).collect()
        };
        for place in &places {
            self.waits.note(place.waits_for());
        }
        let jobs = places.into_iter().filter_map(|place| place.take());
        let mut batch = Batch {
            jobs: jobs.map(|job| (job, false)).collect(),
            may_be_durable: false,
        };
        let ended = catch_unwind(AssertUnwindSafe(|| drive(&mut batch)));
        // The caller's clock has panicked, say. The others must not wait for ever.
        let ended = ended.unwrap_or_else(|_| {
            let failure = StoreFailure::new("the transaction panicked", None);
            Err(match batch.may_be_durable {
                true => Error::OutcomeUnknown(failure),
                false => Error::Store(failure),
            })
        });
        batch.answer(&ended);
        let mut line = lock(&self.line);
        match line.waiting.first() {
            Some(next) => next.pass_lead(),
            None => line.led = false,
        }
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn more_changes_than_a_batch_takes_are_led_by_one_of_those_that_are_left() {
        const CALLERS: usize = BATCH_MAX + 100;
        let queue = Queue::default();
        let sizes = Mutex::new(Vec::new());
        let drive = |batch: &mut Batch| {
            let is_first = lock(&sizes).is_empty();
            lock(&sizes).push(batch.jobs.len());
            while is_first && batch.jobs.len() + queue.waiting() < CALLERS {
                std::thread::yield_now();
            }
            Err(Error::Closed)
        };
        let call = || queue.submit(|_| Ok(()), drive);
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                let thread = std::thread::Builder::new().stack_size(1 << 16);
                let caller = || assert!(matches!(call(), Err(Error::Closed)));
                thread.spawn_scoped(scope, caller).unwrap();
            }
        });
        // The first was alone, or nearly so.
        let sizes = lock(&sizes).split_off(0);
        assert_eq!((sizes.len(), sizes[1]), (3, BATCH_MAX), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), CALLERS);
    }
}
