//! Writing what verifications have noted (uses, digests under a new pepper), and the
//! counts and indexes that lag behind the changes.

use std::sync::Arc;

use crate::change::import;
use crate::change::update::renew_digests;
use crate::engine::shared::Core;
use crate::model::audit::NAMED_MAX;
use crate::model::error::Error;
use crate::store::failure::guarded;
use crate::store::tx::uses::{Hour, OnTheWay};
use crate::store::{counts, history};
use crate::sync::atomic::Ordering;
use crate::sync::lock;

/// The most keys whose usage one transaction writes.
const USAGE_PER_TRANSACTION: usize = 4096;
/// Of how many keys a flush looks for networks that are too old: each is looked at in turn.
const NETWORKS_LOOKED_AT: usize = 512;
/// The most digests that one transaction renews: its audit entry names them all.
const RENEWALS_PER_TRANSACTION: usize = NAMED_MAX;

impl Core {
    /// Adds up the uses that threads have noted, before their logs are full. What keeps the
    /// engine's thread long does so after each of its transactions.
    pub(super) fn gather_uses(&self) {
        self.notes.gather();
    }

    /// Writes what verifications have noted. Every use noted before the call is in the
    /// file, or the fleet's log, when it returns, even if another flush had taken the note.
    ///
    /// Tells of keys that end soon, too, where the host wants to know.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.write_notes()?;
        self.bring_left_up()?;
        self.tell_expiring()
    }

    /// The same, of the engine's own thread: keys that lag are brought up after it, in steps.
    pub(super) fn flush_by_thread(&self) -> Result<(), Error> {
        self.write_notes()?;
        self.want_left_brought_up()?;
        self.tell_expiring()
    }

    /// A flush that tells the host of nothing.
    pub(super) fn write_notes(&self) -> Result<(), Error> {
        self.home.refuse_fork()?;
        self.watch.look(&*self.clock);
        self.recover()?;
        let mut doubtful = lock(&self.flushing);
        let mut renewals = self.notes.take_renewals();
        while !renewals.is_empty() {
            let rest = renewals.split_off(renewals.len().min(RENEWALS_PER_TRANSACTION));
            let chunk = Arc::new(renewals);
            let renewed = self.mutate({
                let chunk = chunk.clone();
                move |tx| renew_digests(tx, &chunk)
            });
            if let Err(error) = renewed {
                let unwritten = chunk.iter().chain(&rest);
                unwritten.for_each(|renewal| self.notes.renew(*renewal));
                return Err(error);
            }
            renewals = rest;
            self.gather_uses();
        }
        // The store takes changes, so the outcome of that commit is known by now.
        if let Some(before) = doubtful.take()
            && !before.is_written.load(Ordering::Acquire)
        {
            self.notes.put_back(&before.notes);
        }
        let mut used = self.notes.take_notes(self.now());
        while !used.is_empty() {
            let rest = used.split_off(used.len().min(USAGE_PER_TRANSACTION));
            let chunk = Arc::new(OnTheWay::new(used));
            let result = self.mutate({
                let chunk = chunk.clone();
                let bytes_max = self.usage_history_bytes;
                move |tx| tx.add_uses(&chunk, bytes_max)
            });
            if let Err(error) = result {
                match error {
                    Error::OutcomeUnknown(_) => *doubtful = Some(chunk),
                    _ => self.notes.put_back(&chunk.notes),
                }
                self.notes.put_back(&rest);
                return Err(error);
            }
            used = rest;
            self.gather_uses();
        }
        self.write_networks()?;
        self.end_imports()?;
        self.index_trail()?;
        self.follow_time()
    }

    /// Writes from where keys were used, and drops some of what is too old.
    fn write_networks(&self) -> Result<(), Error> {
        let mut used = self.networks.take();
        while !used.is_empty() {
            let rest = used.split_off(used.len().min(USAGE_PER_TRANSACTION));
            let chunk = Arc::new(used);
            let written = self.mutate({
                let chunk = chunk.clone();
                move |tx| tx.add_networks(&chunk)
            });
            if let Err(error) = written {
                self.networks.put_back(&chunk);
                self.networks.put_back(&rest);
                return Err(error);
            }
            used = rest;
            self.gather_uses();
        }
        let looked_to = &self.networks.looked_to;
        let (from, today) = (
            looked_to.load(Ordering::Relaxed),
            Hour::of(self.now()).day(),
        );
        let (outdated, next) =
            self.read(|snapshot| snapshot.outdated_networks(from, today, NETWORKS_LOOKED_AT))?;
        if !outdated.is_empty() {
            self.mutate(move |tx| tx.drop_old_networks(&outdated))?;
        }
        looked_to.store(next.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Revokes keys of imports that were never used before the sunset.
    fn end_imports(&self) -> Result<(), Error> {
        loop {
            let now = self.now();
            let is_due = self.read(|snapshot| {
                let mut imports = snapshot.imports()?.values();
                Ok(imports.any(|import| import.counts.unseen > 0 && import.is_past(now)))
            })?;
            if !is_due || !self.mutate(import::end)? {
                return Ok(());
            }
        }
    }

    /// Counts keys whose state time has changed, where many wait for it.
    fn follow_time(&self) -> Result<(), Error> {
        loop {
            // The caller's clock is read outside the guarded call: a panic in it is not
            // damage.
            let now = self.now();
            if !self.read(|snapshot| snapshot.reach_lags(now, counts::LAG))? {
                return Ok(());
            }
            self.mutate(|tx| tx.follow_time())?;
        }
    }

    /// Adds rows to the index of the audit trail, where many entries wait for them.
    fn index_trail(&self) -> Result<(), Error> {
        while guarded(|| self.snapshot()?.unindexed())? >= history::LAG {
            self.mutate(|tx| tx.follow_trail())?;
        }
        Ok(())
    }
}
