//! Group commit: writers that wait together share one transaction.
//!
//! Whoever comes first leads: takes all that wait, runs each mutation in the
//! order of arrival inside one transaction, commits once, publishes, and
//! answers all. Those that came meanwhile are led by the first of them.
//!
//! A mutation sees what those before it in the batch have written, so that two
//! rivals cannot both win. One that is refused has written nothing (it
//! validates first); should one fail after it has written, the transaction is
//! thrown away and run again without it, so that it fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use crate::model::error::{Error, StoreFailure};
use crate::store::tx::Tx;
use crate::sync::{Condvar, Mutex, lock};

/// Whether a batch is to be run again from the start, in a new transaction.
pub(crate) enum Progress {
    Done,
    Again,
}

/// The most mutations in one transaction.
const BATCH_MAX: usize = 1024;

/// A mutation that waits. It may run more than once; the last run counts.
trait Job: Send {
    /// Runs it, and says whether it succeeded.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Replaces its result by an error.
    fn fail(&mut self, error: Error);
}

/// Where a mutation leaves its result for the thread that submitted it.
type Slot<T> = Arc<Mutex<Option<Result<T, Error>>>>;

struct Mutation<F, T> {
    work: F,
    result: Slot<T>,
}

impl<F, T> Job for Mutation<F, T>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, Error> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let result = (self.work)(tx);
        let succeeded = result.is_ok();
        *lock(&self.result) = Some(result);
        succeeded
    }

    fn fail(&mut self, error: Error) {
        *lock(&self.result) = Some(Err(error));
    }
}

/// Where a waiting mutation stands.
enum Stage {
    Waiting(Box<dyn Job>),
    /// Not taken by a leader, and told to lead.
    Lead(Box<dyn Job>),
    /// Taken by a leader.
    Taken,
    Done,
}

struct Ticket {
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Ticket {
    fn set(&self, stage: Stage) {
        *lock(&self.stage) = stage;
        self.changed.notify_one();
    }

    /// Takes the job out, for a leader.
    fn take(&self) -> Option<Box<dyn Job>> {
        match std::mem::replace(&mut *lock(&self.stage), Stage::Taken) {
            Stage::Waiting(job) | Stage::Lead(job) => Some(job),
            Stage::Taken | Stage::Done => None,
        }
    }
}

#[derive(Default)]
struct Line {
    waiting: Vec<Arc<Ticket>>,
    led: bool,
}

/// The line in which mutations wait.
#[derive(Default)]
pub(crate) struct Queue {
    line: Mutex<Line>,
}

impl Queue {
    /// Runs a mutation in a transaction, alone or with others, and gives its
    /// result once it is durable.
    ///
    /// `commit` runs a batch in a transaction and publishes it; it is called
    /// only while this thread leads.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
        commit: impl Fn(&mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended,
    ) -> Result<T, Error> {
        let result: Slot<T> = Arc::default();
        let job = Box::new(Mutation {
            work,
            result: result.clone(),
        });
        self.run(job, &commit);
        let result = lock(&result).take();
        result.unwrap_or(Err(Error::Internal("a mutation lost its result")))
    }

    /// Puts a job into the line and waits, or leads, until it is done.
    fn run(
        &self,
        job: Box<dyn Job>,
        commit: &impl Fn(&mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended,
    ) {
        let ticket = Arc::new(Ticket {
            stage: Mutex::new(Stage::Waiting(job)),
            changed: Condvar::new(),
        });
        let lead = {
            let mut line = lock(&self.line);
            line.waiting.push(ticket.clone());
            !std::mem::replace(&mut line.led, true)
        };
        if lead {
            self.lead(commit);
        }
        let mut stage = lock(&ticket.stage);
        loop {
            match &*stage {
                Stage::Done => return,
                Stage::Lead(_) => {
                    drop(stage);
                    self.lead(commit);
                    stage = lock(&ticket.stage);
                }
                Stage::Waiting(_) | Stage::Taken => {
                    stage = ticket
                        .changed
                        .wait(stage)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// How many wait for a leader.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.line).waiting.len()
    }

    /// Leads one batch, and passes the lead on.
    fn lead(&self, commit: &impl Fn(&mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended) {
        let tickets: Vec<Arc<Ticket>> = {
            let mut line = lock(&self.line);
            let count = line.waiting.len().min(BATCH_MAX);
            line.waiting.drain(..count).collect()
        };
        let mut jobs: Vec<Option<Box<dyn Job>>> =
            tickets.iter().map(|ticket| ticket.take()).collect();
        run_batch(&mut jobs, commit);
        for ticket in &tickets {
            ticket.set(Stage::Done);
        }
        let mut line = lock(&self.line);
        match line.waiting.first() {
            Some(next) => {
                let mut stage = lock(&next.stage);
                if let Stage::Waiting(job) = std::mem::replace(&mut *stage, Stage::Taken) {
                    *stage = Stage::Lead(job);
                }
                next.changed.notify_one();
            }
            None => line.led = false,
        }
    }
}

/// How a batch ended, for its jobs.
pub(crate) enum Ended {
    /// Their results stand.
    Well,
    /// None of them is applied.
    Failed(Error),
    /// It is not known whether they are applied.
    Unknown(StoreFailure),
}

fn run_batch(
    jobs: &mut [Option<Box<dyn Job>>],
    commit: &impl Fn(&mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended,
) {
    // Set for a job that failed after it had written, and is left out since.
    let mut excluded = vec![false; jobs.len()];
    let ended = catch_unwind(AssertUnwindSafe(|| {
        commit(&mut |tx| {
            for (job, excluded) in jobs.iter_mut().zip(&mut excluded) {
                let Some(job) = job.as_mut().filter(|_| !*excluded) else {
                    continue;
                };
                tx.begin_mutation();
                if !job.run(tx) && tx.wrote() {
                    *excluded = true;
                    return Progress::Again;
                }
            }
            Progress::Done
        })
    }));
    let errors: Box<dyn Fn() -> Error> = match ended {
        Ok(Ended::Well) => return,
        Ok(Ended::Failed(error)) => Box::new(move || error.clone()),
        Ok(Ended::Unknown(failure)) => Box::new(move || Error::OutcomeUnknown(failure.clone())),
        Err(_) => {
            Box::new(|| Error::OutcomeUnknown(StoreFailure::new("the transaction panicked", None)))
        }
    };
    for (job, excluded) in jobs.iter_mut().zip(excluded) {
        if let Some(job) = job.as_mut().filter(|_| !excluded) {
            job.fail(errors());
        }
    }
}
