//! The threads of a server: one that hears of the log, which waits, reads, applies and beats;
//! and one that takes slices of quotas [ahead].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::crypto::stack::clear_stack;
use crate::engine::fleet::ahead;
use crate::engine::fleet::state::{Fleet, steady};
use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::sync::atomic::Ordering;

/// The longest time between two heartbeats.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// How many heartbeats a lease has time for.
const BEATS_PER_LEASE: u32 = 5;
/// The longest that the log is asked to wait at once, so that closing does not wait longer.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// The least time from one reading to the next. Where much is written, a reading then has several
/// entries, which are applied in one transaction, and leaves the database to those who write.
const READ_EVERY: Duration = Duration::from_millis(5);
/// How long the thread rests after a failure, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_millis(500);

pub(crate) struct FollowerThread {
    fleet: Arc<Fleet>,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl FollowerThread {
    pub(crate) fn start(core: &Arc<Core>, fleet: &Arc<Fleet>) -> Result<Self, Error> {
        let threads = Self {
            fleet: fleet.clone(),
            threads: std::sync::Mutex::default(),
        };
        threads.spawn(core, "gatekey-fleet", run)?;
        let ahead = threads.spawn(core, "gatekey-ahead", ahead::run)?;
        // It is set once.
        let _ = fleet.ahead.set(ahead);
        Ok(threads)
    }

    fn spawn(
        &self,
        core: &Arc<Core>,
        name: &str,
        run: impl FnOnce(&Weak<Core>, &Fleet) + Send + 'static,
    ) -> Result<Thread, Error> {
        let (core, fleet) = (Arc::downgrade(core), self.fleet.clone());
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&core, &fleet))
            .map_err(|error| {
                self.stop();
                Error::Thread(Arc::new(error))
            })?;
        let thread = handle.thread().clone();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(handle);
        Ok(thread)
    }

    /// Stops the threads and waits for them.
    pub(crate) fn stop(&self) {
        self.fleet.stops.store(true, Ordering::Release);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            thread.thread().unpark();
            // If it panicked, it held no lock that matters.
            let _ = thread.join();
        }
    }
}

fn run(core: &Weak<Core>, fleet: &Fleet) {
    let every = (fleet.freshness.lease() / BEATS_PER_LEASE).min(BEAT_MAX);
    let mut rest = FIRST_REST;
    while !fleet.stops.load(Ordering::Acquire) {
        // A panic in a caller's clock, say, must not end this thread: the server would
        // never be fresh again.
        let turn = catch_unwind(AssertUnwindSafe(|| turn(core, fleet, every)));
        clear_stack();
        match turn.unwrap_or(Err(Error::Internal("a turn of the follower panicked"))) {
            Ok(()) => rest = FIRST_REST,
            Err(error) => {
                fleet.failed(&error);
                std::thread::sleep(rest.min(every));
                rest = (rest * 2).min(LONGEST_REST);
            }
        }
    }
}

/// From one heartbeat to the next.
fn turn(core: &Weak<Core>, fleet: &Fleet, every: Duration) -> Result<(), Error> {
    let begun = {
        let Some(core) = core.upgrade() else {
            fleet.stops.store(true, Ordering::Release);
            return Ok(());
        };
        let begun = steady(&*core.clock);
        core.store.recover_now(&*core)?;
        // Whether or not the log answers.
        core.store.sync_if_due(&*core)?;
        core.beat(fleet)?;
        begun
    };
    let mut read_at: Option<Instant> = None;
    while !fleet.owes_beat.load(Ordering::Acquire) {
        let rest = {
            let Some(core) = core.upgrade() else {
                return Ok(());
            };
            every.saturating_sub(steady(&*core.clock).saturating_sub(begun))
        };
        if rest.is_zero() || fleet.stops.load(Ordering::Acquire) {
            return Ok(());
        }
        let waited_for = fleet.own_under_way();
        let after = fleet.place().position.max(waited_for.unwrap_or(0));
        (fleet.log.wait(after, rest.min(WAIT_MAX))).map_err(Error::Log)?;
        let own = fleet.own_under_way();
        if own.is_some() && own != waited_for {
            // Whoever appends it applies it, or what was there before it; unless that hangs.
            continue;
        }
        if let Some(read_at) = read_at {
            std::thread::sleep(READ_EVERY.saturating_sub(read_at.elapsed()));
        }
        let Some(core) = core.upgrade() else {
            return Ok(());
        };
        core.catch_up(fleet, None)?;
        read_at = Some(Instant::now());
    }
    Ok(())
}
