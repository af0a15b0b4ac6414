//! The way of a change: through the line of writers into one transaction, and from its
//! commit to all verifications.

use std::sync::Arc;

use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::store::backup::OnProgress;
use crate::store::queue::{Ended, Progress};
use crate::store::snapshot::Snapshot;
use crate::store::tx::{Touched, Tx};
use crate::store::writer::Outcome;
use crate::sync::atomic::Ordering;

impl Core {
    /// Runs a change in a durable transaction, alone or with others, and gives
    /// its result once all can see it.
    pub(crate) fn mutate<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.home.check()?;
        self.queue.submit(work, |run| self.commit(run))
    }

    fn commit(&self, run: &mut dyn FnMut(&mut Tx<'_>) -> Progress) -> Ended {
        self.watch.look(&*self.clock);
        let present = self.present();
        let mut run = |tx: &mut Tx<'_>| {
            // What became of those before this one is known by now.
            self.quotas.undo();
            let progress = run(tx);
            let unreadable = tx.take_unreadable();
            if let (Some(resident), false) = (&self.resident, unreadable.is_empty()) {
                // Whoever was told so can rely on it that no copy grants.
                resident.forget(&unreadable);
            }
            if matches!(progress, Progress::Done) {
                self.quotas.publish(&tx.unwritten_quotas());
            }
            // Also where nothing is committed, and before a caller is answered.
            self.hold(present.moved_to(tx.told_over()));
            progress
        };
        match self.store.write(present.at, &mut run, &self.publication()) {
            Outcome::Unchanged | Outcome::Committed => Ended::Well,
            Outcome::Failed(error) => Ended::Failed(error),
            Outcome::Unknown(failure) => Ended::Unknown(failure),
            // Durable, but what it took away cannot be seen to be gone.
            Outcome::Unreadable => {
                self.go_dark();
                Ended::Well
            }
        }
    }

    fn publication(&self) -> impl Fn(&Touched, Arc<Snapshot>) -> Result<(), Error> {
        |touched, snapshot| self.publish(touched, snapshot)
    }

    /// Lets a commit take effect for all verifications, at one instant: the
    /// swap of the snapshot.
    fn publish(&self, touched: &Touched, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        for keyspace in &touched.keyspaces {
            self.registry.publish(keyspace.clone())?;
        }
        self.quotas.publish(&touched.quotas);
        for is_written in &touched.uses {
            is_written.store(true, Ordering::Release);
        }
        match touched.sets_time_back {
            true => {
                self.time.set_back(touched.at);
                // Their windows are those of the time that was wrong.
                self.limiter.forget();
                if let Some(attempts) = &self.attempts {
                    attempts.forget();
                }
            }
            false => self.time.hold_commit(touched.at),
        }
        let swap = || self.show(Some(snapshot));
        match &self.resident {
            Some(resident) => resident.publish(&touched.keys, swap),
            None => swap(),
        }
        Ok(())
    }

    /// Recovers where the store has failed: `Ok` where it takes changes.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        self.home.check()?;
        self.store.recover_now(&self.publication())
    }

    /// Writes the store to a new file, which takes its place.
    pub(crate) fn compact(&self, on_progress: OnProgress<'_>) -> Result<(), Error> {
        self.home.check()?;
        self.store.compact(&self.publication(), on_progress)
    }
}
