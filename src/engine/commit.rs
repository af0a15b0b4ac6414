//! The way of a change: through the line of writers into one transaction, and from its
//! commit to all verifications.

use std::sync::Arc;

use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::model::time::Present;
use crate::store::backup::OnProgress;
use crate::store::delta::{Delta, Publish};
use crate::store::queue::{Batch, Progress};
use crate::store::snapshot::Snapshot;
use crate::store::tx::Tx;
use crate::store::writer::Shown;
use crate::sync::atomic::Ordering;

impl Core {
    /// Makes a change in a durable transaction, alone or with others, and gives its
    /// result once all can see it.
    pub(crate) fn mutate<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.home.check()?;
        self.queue.submit(work, |batch| self.drive(batch))
    }

    /// Drives a batch of changes: begin, run each, finish, commit, publish. The line then
    /// answers each: an error is one for all of them.
    fn drive(&self, batch: &mut Batch) -> Result<(), Error> {
        self.watch.look(&*self.clock);
        let present = self.present();
        let mut writer = self.store.writer(self)?;
        let run = &mut |tx: &mut Tx<'_>| self.run_each(batch, tx, present);
        let Some(written) = writer.run(present.at, run)? else {
            return Ok(());
        };
        batch.commits();
        match writer.commit(written)? {
            Shown::Published => {}
            // While nobody else writes, or what a recovery has shown would be hidden.
            Shown::Unreadable => self.go_dark(),
        }
        Ok(())
    }

    /// Runs a batch in a transaction, and has effect what it finds without a commit.
    fn run_each(&self, batch: &mut Batch, tx: &mut Tx<'_>, present: Present) -> Progress {
        // What became of those before this one is known by now.
        self.quotas.undo();
        let progress = batch.run(tx);
        let unreadable = tx.take_unreadable();
        if let (Some(resident), false) = (&self.resident, unreadable.is_empty()) {
            // Whoever was told so can rely on it that no copy grants.
            resident.forget(&unreadable);
        }
        if matches!(progress, Progress::Done) {
            self.quotas.publish(&tx.unwritten_slices());
        }
        // Also where nothing is committed, and before a caller is answered.
        self.hold(present.moved_to(tx.told_over()));
        progress
    }

    /// Recovers where the store has failed: `Ok` where it takes changes.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        self.home.check()?;
        self.store.recover_now(self)
    }

    /// Writes the store to a new file, which takes its place.
    pub(crate) fn compact(&self, on_progress: OnProgress<'_>) -> Result<(), Error> {
        self.home.check()?;
        self.store.compact(self, on_progress)
    }
}

impl Publish for Core {
    /// Lets a delta take effect for all verifications, at one instant: the swap of the
    /// snapshot. Works from the delta alone, whoever made the change.
    fn publish(&self, delta: &Delta, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        for (_, change) in delta.keyspaces.iter() {
            if let Some(keyspace) = &change.new {
                self.registry.publish(keyspace.clone())?;
            }
        }
        self.quotas.publish(&delta.quota_events());
        for is_written in &delta.waiting.flushes {
            is_written.store(true, Ordering::Release);
        }
        match delta.sets_time_back {
            true => {
                self.time.set_back(delta.at);
                // Their windows are those of the time that was wrong.
                self.limiter.forget();
                if let Some(attempts) = &self.attempts {
                    attempts.forget();
                }
            }
            false => self.time.hold_commit(delta.at),
        }
        #[cfg(test)]
        if let (Some(seen), Some(before)) = (
            &mut *crate::sync::lock(&self.published_deltas),
            self.published.load_full(),
        ) {
            seen.push((before, delta.clone(), snapshot.clone()));
        }
        let swap = || self.show(Some(snapshot));
        match &self.resident {
            Some(resident) => resident.publish(&delta.stale_keys(), swap),
            None => swap(),
        }
        Ok(())
    }
}
