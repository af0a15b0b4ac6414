//! Bringing up keys that lag behind their owner or keyspace: see [`crate::store::lags`].

use crate::engine::handle::Engine;
use crate::engine::shared::Core;
use crate::memory::lagging::Heeded;
use crate::model::audit::Scope;
use crate::model::error::Error;
use crate::store::snapshot::Snapshot;
use crate::store::tx::Tx;
use crate::sync::atomic::Ordering;
use crate::sync::lock;

impl Engine {
    /// Runs a change of many keys, whose records may follow it. A suspension takes the place
    /// of another of its owner.
    pub(super) fn change_many<T: Send + 'static>(
        &self,
        scope: &Scope,
        suspends: bool,
        change: impl Fn(&mut Tx<'_>, Option<&str>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        self.core.make_room_for_lag(scope, suspends)?;
        let done = self.take_away(change)?;
        self.core.want_brought_up();
        Ok(done)
    }
}

impl Core {
    /// The lags that a look in memory has to heed: to be asked before it. At rest that is
    /// one load.
    #[inline(always)]
    pub(super) fn heeded(&self) -> Option<Heeded> {
        match self.lagging.is_any.load(Ordering::Acquire) {
            true => Some(self.published.load_full()),
            false => None,
        }
    }

    /// How many keys change together with their owner or keyspace.
    pub(super) fn keys_at_once(&self) -> usize {
        self.lagging.at_once
    }

    /// Lets the engine's thread bring up the keys that lag, if there are any; without one,
    /// does so. What cannot be done now is done by a later call, flush or opening.
    pub(super) fn want_brought_up(&self) {
        if !self.lagging.is_any.load(Ordering::Acquire) || !self.lagging.brings_up {
            return;
        }
        match self.lagging.has_thread.load(Ordering::Acquire) {
            true => {
                self.lagging.is_wanted.store(true, Ordering::Release);
                self.alarm().wake();
            }
            false => drop(self.bring_all_up()),
        }
    }

    /// Notes that the engine has a thread, and lets it go on with what an opening found.
    pub(super) fn note_thread(&self) {
        self.lagging.has_thread.store(true, Ordering::Release);
        self.want_brought_up();
    }

    /// Brings some keys up if that is wanted, and says whether there are more. After a
    /// failure of the store it stays wanted, and the thread goes on once that has recovered;
    /// after any other, the next flush wants it again.
    pub(super) fn bring_wanted_up(&self) -> Result<bool, Error> {
        if !self.is_bringing_up_wanted() {
            return Ok(false);
        }
        // Before the step: who wants more meanwhile, is heard.
        self.lagging.is_wanted.store(false, Ordering::Release);
        let brought = self.bring_some_up();
        let goes_on = match &brought {
            Ok(is_more) => *is_more,
            Err(_) => !self.health().is_well(),
        };
        if goes_on {
            self.lagging.is_wanted.store(true, Ordering::Release);
        }
        brought
    }

    pub(super) fn is_bringing_up_wanted(&self) -> bool {
        self.lagging.is_wanted.load(Ordering::Acquire)
    }

    /// Makes room for a change that keys are to lag behind, where there is none: in
    /// transactions of their own, so that its own need not bring up all keys of another. It
    /// brings up those of the one that it finds, and not what others put in its place; where
    /// nothing can be read now, the change itself finds out why.
    fn make_room_for_lag(&self, scope: &Scope, suspends: bool) -> Result<(), Error> {
        let at_once = self.lagging.at_once;
        let in_the_way = || {
            let look =
                |snapshot: &Snapshot| match snapshot.lacks_room_for(scope, suspends, at_once)? {
                    true => Ok(snapshot.lags().first().map(|lag| lag.seq)),
                    false => Ok(None),
                };
            self.read(look).ok().flatten()
        };
        let found = in_the_way();
        while found.is_some() && in_the_way() == found {
            self.bring_some_up()?;
        }
        Ok(())
    }

    /// Brings all keys up where some lag behind a revocation, for those who go by when keys
    /// end: the index of that is of the records as they stand.
    pub(super) fn bring_ends_up(&self) -> Result<(), Error> {
        if !self.lagging.is_any.load(Ordering::Acquire) {
            return Ok(());
        }
        while self.read(|snapshot| Ok(snapshot.lags().has_revocation()))? {
            self.bring_some_up()?;
        }
        Ok(())
    }

    /// Brings up, for a flush, all keys that lag. In a fleet, another server may be at it:
    /// only what stands where the flush before this one found it.
    pub(super) fn bring_left_up(&self) -> Result<(), Error> {
        match self.has_left()? {
            true => self.bring_all_up(),
            false => Ok(()),
        }
    }

    /// The same, for a flush of the engine's own thread: it brings them up in steps, behind
    /// what else it has to do.
    pub(super) fn want_left_brought_up(&self) -> Result<(), Error> {
        if self.has_left()? {
            self.want_brought_up();
        }
        Ok(())
    }

    /// Whether there are keys that lag for a flush to bring up.
    fn has_left(&self) -> Result<bool, Error> {
        if !self.lagging.is_any.load(Ordering::Acquire) {
            return Ok(false);
        }
        if self.fleet.is_none() {
            return Ok(true);
        }
        let lags = self.read(|snapshot| Ok(snapshot.lags().clone()))?;
        let stands = *lock(&self.lagging.found) == lags;
        *lock(&self.lagging.found) = lags;
        Ok(stands)
    }

    fn bring_all_up(&self) -> Result<(), Error> {
        while self.bring_some_up()? {
            self.gather_uses();
        }
        Ok(())
    }

    /// Brings some keys up that lag, and says whether there are more.
    fn bring_some_up(&self) -> Result<bool, Error> {
        if !self.lagging.is_any.load(Ordering::Acquire) {
            return Ok(false);
        }
        let count = self.lagging.per_step;
        self.mutate(move |tx| tx.bring_up(count))
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;
