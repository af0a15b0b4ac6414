//! The leader's step: a batch of changes becomes the next entry of the log, or runs again
//! behind what others have appended.

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::token::fill_random;
use crate::engine::fleet::bodies::{Left, others_were_quicker};
use crate::engine::fleet::state::{CLOCKS_APART_MAX, Fleet, Own, steady};
use crate::engine::shared::Core;
use crate::model::clock::Timestamp;
use crate::model::error::{Error, StoreFailure};
use crate::model::log::{Appended, Head, LogError, Seal};
use crate::steps::reached;
use crate::store::entry::{self, Encoded, Header, Place};
use crate::store::queue::Batch;
use crate::store::tx::Tx;
use crate::store::writer::fleet::Proposed;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::lock;

/// How often a batch is run before its callers are told that others were always quicker.
const ATTEMPTS_MAX: u32 = 1_000;
/// For how long the outcome of an append is asked for before callers are told that it is
/// not known.
const DOUBT_MAX: Duration = Duration::from_secs(10);
/// How long the log is left alone between such questions.
const DOUBT_REST: Duration = Duration::from_millis(50);
/// How often an entry that is in the log is applied anew before callers are answered
/// without it, and the engine is dark until it is.
const APPLIES_MAX: u32 = 3;

/// What became of one attempt.
enum Attempt {
    Done,
    /// Others have appended meanwhile.
    Again,
}

impl Core {
    /// Makes a change as [`mutate`](Core::mutate) does. What takes access away then waits for
    /// the other servers, while others make their changes.
    pub(in crate::engine) fn mutate_by_log<T: Send + 'static>(
        &self,
        fleet: &Fleet,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let takes_away = Arc::new(AtomicBool::new(false));
        let noted = takes_away.clone();
        let noting = move |tx: &mut Tx<'_>| {
            let before = tx.taken();
            let done = work(tx)?;
            noted.store(tx.taken() > before, Ordering::Release);
            Ok(done)
        };
        let done = (self.queue).submit(noting, |batch| self.drive_by_log(fleet, batch))?;
        if takes_away.load(Ordering::Acquire) {
            reached("answered");
            self.wait_everywhere(fleet);
        }
        Ok(done)
    }

    /// Drives a batch through the log: run it, append its delta, apply it.
    fn drive_by_log(&self, fleet: &Fleet, batch: &mut Batch) -> Result<(), Error> {
        self.watch.look(&*self.clock);
        let mut left = Left::for_batch(fleet);
        for _ in 0..ATTEMPTS_MAX {
            self.settle_doubt(fleet)?;
            self.require_pepper(fleet)?;
            self.require_format(fleet)?;
            // What callers were told of is applied before anything runs on the file.
            self.catch_up(fleet, Some(fleet.decided()))?;
            let present = self.present();
            let (after, proposed) = {
                let mut writer = self.store.writer(self)?;
                let run = &mut |tx: &mut Tx<'_>| self.run_each(batch, tx, present);
                writer.propose(present, run)?
            };
            let attempt = match proposed {
                // That nothing is to be written, is an answer too: it holds if this server
                // knew of everything.
                None => self.confirm(fleet, &after)?,
                Some(proposed) => {
                    batch.commits();
                    self.append(fleet, proposed, &mut left)?
                }
            };
            if let Attempt::Done = attempt {
                return Ok(());
            }
        }
        Err(others_were_quicker())
    }

    fn confirm(&self, fleet: &Fleet, after: &Place) -> Result<Attempt, Error> {
        let beaten = self.ask_head(fleet)?;
        match beaten == (after.position, after.seal) {
            true => Ok(Attempt::Done),
            // To catch up would find nothing.
            false if beaten.0 == after.position => Err(fleet.has_another_history(beaten.0)),
            false => {
                self.catch_up(fleet, Some(beaten.0))?;
                Ok(Attempt::Again)
            }
        }
    }

    fn append(
        &self,
        fleet: &Fleet,
        mut proposed: Proposed,
        left: &mut Left,
    ) -> Result<Attempt, Error> {
        let after = proposed.after;
        if proposed.met_damage {
            let why = "this server's file has records that cannot be read, so what it left out would differ on others: make the change on another server, and let this one join again";
            return Err(Error::Log(LogError::new(why)));
        }
        let fence = lock(&fleet.known).fence;
        let fence = fence.ok_or(Error::Internal("an append before a heartbeat"))?;
        self.require_clock(fleet, &proposed)?;
        let mut nonce = [0; 16];
        fill_random(&mut nonce)?;
        let header = Header {
            nonce,
            at: proposed.at,
            sets_time_back: proposed.sets_time_back,
            takes_away: proposed.takes_away,
            pepper: proposed.pepper,
        };
        let ring = self.store.ring_of_log();
        let records = std::mem::take(&mut proposed.records);
        let encoded = entry::encode(ring, &after, header, &records, fleet.log.body_len_max())?;
        drop(records);
        let Encoded { entry, body } = encoded;
        if let Some(body) = &body
            && let Some(newest) = fleet.put_body(after.position, &nonce, body, left)?
        {
            fleet.overtaken.fetch_add(1, Ordering::Relaxed);
            self.catch_up(fleet, Some(newest))?;
            return Ok(Attempt::Again);
        }
        let head = Head {
            position: after.position,
            seal: after.seal,
            fence,
        };
        let seal = Seal::of(&entry);
        lock(&fleet.known).own = Some(Own {
            position: after.position + 1,
            seal,
            waiting: Some(std::mem::take(&mut proposed.waiting)),
            body: body.map(Arc::new),
            is_applied: false,
        });
        reached("collected");
        match fleet.log.append(&head, &entry) {
            Appended::Done => {
                reached("appended");
                lock(&fleet.known).has_written = true;
                self.apply_own(fleet, after, entry);
                Ok(Attempt::Done)
            }
            Appended::Overtaken(head) => {
                fleet.overtaken.fetch_add(1, Ordering::Relaxed);
                lock(&fleet.known).own = None;
                fleet.saw(&head);
                if head.position < after.position {
                    // The next heartbeat says more.
                    return Err(Error::Log(LogError::new("it went back")));
                }
                if head.position == after.position && head.seal != after.seal {
                    return Err(fleet.has_another_history(head.position));
                }
                self.catch_up(fleet, Some(head.position))?;
                Ok(Attempt::Again)
            }
            Appended::Failed(error) => {
                lock(&fleet.known).own = None;
                Err(Error::Log(error))
            }
            Appended::Unknown(error) => {
                fleet.unknown.fetch_add(1, Ordering::Relaxed);
                lock(&fleet.known).is_in_doubt = true;
                self.find_out(fleet, seal, &error)
            }
        }
    }

    /// Applies the entry that this server has appended. It is decided: where the file fails,
    /// nothing is granted until the entry was applied after all, and the callers are
    /// answered as if it were.
    fn apply_own(&self, fleet: &Fleet, after: Place, entry: Vec<u8>) {
        let position = after.position + 1;
        fleet.appended.fetch_add(1, Ordering::Relaxed);
        let mut applied = self.apply(fleet, after, &[entry]);
        for _ in 1..APPLIES_MAX {
            let Err(error) = &applied else {
                break;
            };
            fleet.failed(error);
            // The file may have lost what came before, too.
            applied = self.catch_up(fleet, Some(position));
        }
        match applied {
            Ok(_) => {
                lock(&fleet.known).own = None;
                return;
            }
            Err(error) => fleet.failed(&error),
        }
        let is_behind = {
            let mut known = lock(&fleet.known);
            known.owed = known.owed.max(position);
            known.place.position < position
        };
        if is_behind {
            self.go_dark_until_applied(fleet);
        }
    }

    fn go_dark_until_applied(&self, fleet: &Fleet) {
        // While nobody publishes: a recovery could show the state before.
        self.store.exclusively(|| {
            let known = lock(&fleet.known);
            if known.place.position < known.owed {
                drop(known);
                self.go_dark();
            }
        });
    }

    /// Finds out what became of an append, as long as callers can wait for it.
    fn find_out(&self, fleet: &Fleet, own: Seal, error: &LogError) -> Result<Attempt, Error> {
        let begun = steady(&*self.clock);
        loop {
            match self.resolve(fleet, Some(own)) {
                Ok(true) => return Ok(Attempt::Done),
                Ok(false) => return Ok(Attempt::Again),
                Err(failed) => fleet.failed(&failed),
            }
            let doubt_max = fleet.freshness.lease().min(DOUBT_MAX);
            let is_over = steady(&*self.clock).saturating_sub(begun) >= doubt_max;
            if is_over || fleet.stops.load(Ordering::Acquire) {
                let failure = StoreFailure::new(format!("the fleet's log: {error}"), None);
                return Err(Error::OutcomeUnknown(failure));
            }
            std::thread::sleep(DOUBT_REST);
        }
    }

    /// Fences an append off whose outcome is unknown, and says whether it is in the log:
    /// then it is applied. Only a write can tell: what a read does not find may land later.
    ///
    /// Another thread may have found out meanwhile what became of `asked`.
    fn resolve(&self, fleet: &Fleet, asked: Option<Seal>) -> Result<bool, Error> {
        let _alone = lock(&fleet.resolving);
        {
            let known = lock(&fleet.known);
            if !known.is_in_doubt {
                let found = known.resolved.filter(|(of, _)| Some(*of) == asked);
                return Ok(found.is_some_and(|(_, is_applied)| is_applied));
            }
        }
        let head = fleet.log.fence().map_err(Error::Log)?;
        fleet.saw(&head);
        self.catch_up(fleet, Some(head.position))?;
        let mut known = lock(&fleet.known);
        known.is_in_doubt = false;
        let own = known.own.take();
        known.resolved = own.as_ref().map(|own| (own.seal, own.is_applied));
        Ok(own.is_some_and(|own| own.is_applied))
    }

    /// Finds out what became of an append before, whose callers were told that this is not
    /// known. No other is made before.
    pub(in crate::engine) fn settle_doubt(&self, fleet: &Fleet) -> Result<(), Error> {
        let is_in_doubt = lock(&fleet.known).is_in_doubt;
        match is_in_doubt {
            true => self.resolve(fleet, None).map(drop),
            false => Ok(()),
        }
    }

    /// Refuses to write an instant that is not the log's: it would hold for all servers.
    fn require_clock(&self, fleet: &Fleet, proposed: &Proposed) -> Result<(), Error> {
        let Some(now) = fleet.log_now(&*self.clock) else {
            return Err(Error::Log(LogError::new("its clock is not known yet")));
        };
        let is_ahead = |at| at > now.saturating_add(CLOCKS_APART_MAX);
        let is_behind = self.clock_now().saturating_add(CLOCKS_APART_MAX) < now;
        if is_ahead(self.clock_now()) || is_behind {
            return Err(Error::Log(clocks_apart(self.clock_now(), now)));
        }
        match is_ahead(proposed.at) {
            true => Err(Error::Log(held_ahead(proposed.at, now))),
            false => Ok(()),
        }
    }
}

fn clocks_apart(own: Timestamp, log: Timestamp) -> LogError {
    LogError::new(format!(
        "this server's time is {own} and the log's {log}: they may be 5 s apart; set the clock right"
    ))
}

/// What was called over by a clock that was ahead stays over while the engine is open.
fn held_ahead(own: Timestamp, log: Timestamp) -> LogError {
    LogError::new(format!(
        "this server's clock was ahead, and it has called keys expired at {own}, where the log's is {log}: close it and open it anew"
    ))
}
