//! The thread of a server that hears of the log: it waits, reads, applies and beats.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::crypto::stack::clear_stack;
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
/// How long the thread rests after a failure, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_millis(500);

pub(crate) struct FollowerThread {
    fleet: Arc<Fleet>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl FollowerThread {
    pub(crate) fn start(core: &Arc<Core>, fleet: &Arc<Fleet>) -> Result<Self, Error> {
        let thread = std::thread::Builder::new()
            .name("gatekey-fleet".to_owned())
            .spawn({
                let (core, fleet) = (Arc::downgrade(core), fleet.clone());
                move || run(&core, &fleet)
            })
            .map_err(|error| Error::Thread(Arc::new(error)))?;
        Ok(Self {
            fleet: fleet.clone(),
            thread: std::sync::Mutex::new(Some(thread)),
        })
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.fleet.stops.store(true, Ordering::Release);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
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
        core.beat(fleet)?;
        begun
    };
    loop {
        let rest = {
            let Some(core) = core.upgrade() else {
                return Ok(());
            };
            every.saturating_sub(steady(&*core.clock).saturating_sub(begun))
        };
        if rest.is_zero() || fleet.stops.load(Ordering::Acquire) {
            return Ok(());
        }
        fleet
            .log
            .wait(fleet.place().position, rest.min(WAIT_MAX))
            .map_err(Error::Log)?;
        let Some(core) = core.upgrade() else {
            return Ok(());
        };
        if core.catch_up(fleet, None)?.takes_away {
            // Callers wait until they hear that this server has it.
            return Ok(());
        }
    }
}
