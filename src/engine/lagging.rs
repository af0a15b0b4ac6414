//! Bringing up keys that lag behind their owners: see [`crate::store::lags`].

use crate::engine::shared::Core;
use crate::memory::lagging::Heeded;
use crate::model::error::Error;
use crate::sync::atomic::Ordering;
use crate::sync::lock;

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

    /// How many keys of an owner change with it.
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
    /// failure, a flush goes on.
    pub(super) fn bring_wanted_up(&self) -> bool {
        if !self.lagging.is_wanted.load(Ordering::Acquire) {
            return false;
        }
        let goes_on = matches!(self.bring_some_up(), Ok(true));
        if !goes_on {
            self.lagging.is_wanted.store(false, Ordering::Release);
        }
        goes_on
    }

    /// Brings up, for a flush, all keys that lag. In a fleet, another server may be at it:
    /// only what stands where the flush before this one found it.
    pub(super) fn bring_left_up(&self) -> Result<(), Error> {
        if !self.lagging.is_any.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.fleet.is_some() {
            let lags = self.read(|snapshot| Ok(snapshot.lags().clone()))?;
            let stands = *lock(&self.lagging.found) == lags;
            *lock(&self.lagging.found) = lags;
            if !stands {
                return Ok(());
            }
        }
        self.bring_all_up()
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
