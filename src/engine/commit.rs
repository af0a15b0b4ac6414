//! The way of a change: through the queue of writers into one transaction, and from its
//! commit to all verifications.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::engine::events;
use crate::engine::shared::Core;
use crate::memory::limiter::Terms;
use crate::memory::owner_names;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::time::Present;
use crate::store::backup::OnProgress;
use crate::store::delta::{Delta, Publish};
use crate::store::failure::guarded;
use crate::store::queue::{Batch, Progress};
use crate::store::snapshot::Snapshot;
use crate::store::tx::Tx;
use crate::store::writer::Shown;
use crate::sync::atomic::Ordering;

impl Core {
    /// Makes a change in a durable transaction, alone or with others, and returns its
    /// result once every reader sees the change.
    pub(crate) fn mutate<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.home.refuse_fork()?;
        match self.fleet.as_deref() {
            None => self.queue.submit(work, |batch| self.drive(batch)),
            Some(fleet) => self.mutate_by_log(fleet, work),
        }
    }

    /// Drives a batch of changes: begin, run each, finish, commit, publish. The queue
    /// then answers each caller: an error goes to all of them.
    fn drive(&self, batch: &mut Batch) -> Result<(), Error> {
        let mut took = None;
        let driven = self.drive_to_its_end(batch, &mut took);
        if driven.is_err() {
            self.counters.commits_failed.fetch_add(1, Relaxed);
        }
        events::driven(batch.len(), took, driven.as_ref().err());
        driven
    }

    fn drive_to_its_end(
        &self,
        batch: &mut Batch,
        took: &mut Option<Duration>,
    ) -> Result<(), Error> {
        self.watch.look(&*self.clock);
        let present = self.present();
        let mut writer = self.store.writer(self)?;
        let run = &mut |tx: &mut Tx<'_>| self.run_each(batch, tx, present);
        let Some(written) = writer.run(present, run)? else {
            return Ok(());
        };
        batch.commits();
        let begun = Instant::now();
        let committed = writer.commit(written);
        let elapsed = begun.elapsed();
        self.counters.commits.note(elapsed);
        *took = Some(elapsed);
        match committed? {
            Shown::Published => {}
            // Under the writers' lock: otherwise this could hide what a recovery has
            // published.
            Shown::Unreadable => self.go_dark(),
        }
        Ok(())
    }

    /// Runs a batch in a transaction, and applies what it finds even where nothing is
    /// committed.
    pub(super) fn run_each(
        &self,
        batch: &mut Batch,
        tx: &mut Tx<'_>,
        present: Present,
    ) -> Progress {
        // The outcome of the commits before this one is known by now.
        self.quotas.undo();
        let progress = batch.run(tx);
        let unreadable = tx.take_unreadable();
        if let (Some(resident), false) = (&self.resident, unreadable.is_empty()) {
            // A caller that gets this answer can rely on it: no copy grants any more.
            resident.forget(&unreadable);
        }
        if matches!(progress, Progress::Done) {
            self.quotas.publish(&tx.unwritten_slices());
        }
        // Also where nothing is committed, and before a caller is answered.
        self.hold(present.moved_to(tx.told_over()));
        progress
    }

    /// Runs while nobody writes, with the newest snapshot.
    pub(crate) fn while_nobody_writes<T>(
        &self,
        run: impl FnOnce(&Snapshot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let writer = self.store.writer(self)?;
        let done = run(&*self.snapshot()?);
        drop(writer);
        done
    }

    /// Repairs a file that was not closed, and is only read so far.
    pub(super) fn repair_opened(&self) -> Result<(), Error> {
        self.home.refuse_fork()?;
        self.store.recover_now(self)
    }

    /// Recovers the store if it has failed. `Ok`: the store takes changes.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        self.home.refuse_fork()?;
        self.store.recover_now(self)?;
        match self.fleet.as_deref() {
            Some(fleet) => self.settle_doubt(fleet),
            None => Ok(()),
        }
    }

    /// Writes the store to a new file, which replaces the old one.
    pub(crate) fn compact(&self, on_progress: OnProgress<'_>) -> Result<(), Error> {
        self.home.refuse_fork()?;
        self.store.compact(self, on_progress)
    }
}

impl Publish for Core {
    /// Publishes a delta: all verifications see it from one instant on, the swap of the
    /// snapshot. It works from the delta alone, also where another engine made the
    /// change.
    fn publish(&self, delta: &Delta, snapshot: Arc<Snapshot>) -> Result<(), Error> {
        let place = match &self.fleet {
            Some(_) => snapshot.place()?,
            None => None,
        };
        let is_known = (self.fleet.as_ref()).is_some_and(|fleet| fleet.had_published(place));
        if !is_known {
            self.note(delta)?;
        }
        #[cfg(test)]
        if let (Some(seen), Some(before)) = (
            &mut *crate::sync::lock(&self.published_deltas),
            self.published.load_full(),
        ) {
            seen.push((before, delta.clone(), snapshot.clone()));
        }
        let is_behind = (self.fleet.as_ref()).is_some_and(|fleet| !fleet.may_show(place));
        let shown = snapshot.clone();
        let swap = || self.show((!is_behind).then_some(snapshot));
        match &self.resident {
            Some(resident) => resident.publish(&delta.stale_keys(), swap),
            None => swap(),
        }
        if !delta.limits_of.is_empty() {
            // What is read of them from now on is read of the new snapshot.
            self.own_limits
                .forget(delta.limits_of.iter().map(|(key, _)| key));
        }
        if !is_behind {
            self.free_meters(delta, &shown);
        }
        if let Some(fleet) = &self.fleet {
            fleet.published(place);
        }
        Ok(())
    }

    fn withdraw(&self) {
        self.go_dark();
    }
}

impl Core {
    /// Gives the places of meters back that count for no key any more: those of lineages of
    /// which a delta has ended the last, once its snapshot is shown. A request that is under
    /// way by an older snapshot may make one again, which goes when its windows have passed.
    fn free_meters(&self, delta: &Delta, shown: &Snapshot) {
        for (id, change) in delta.keys.each() {
            if self.limiter.len() == 0 {
                break;
            }
            // Most changes issue keys.
            if change.old.is_some() {
                // What fails keeps its place until its windows have passed.
                let _: Result<(), Error> = self.free_meters_of(*id, delta.at, shown);
            }
        }
    }

    /// The same, of the lineage of a key that was changed.
    fn free_meters_of(&self, id: KeyId, at: Timestamp, shown: &Snapshot) -> Result<(), Error> {
        let Some(key) = guarded(|| shown.record(id))? else {
            return Ok(());
        };
        let name = owner_names::of_key(key.lineage, key.plan);
        if !key.has_own_limits && !self.limiter.has(name, &self.home)? {
            return Ok(());
        }
        let over = guarded(|| shown.lineage_over(key, at))?;
        for key in over.into_iter().flatten() {
            let own = match key.has_own_limits {
                true => guarded(|| shown.own_limits(key.id))?,
                false => None,
            };
            let name = match own {
                Some(own) => owner_names::of_own_limits(key.lineage, Terms::new(&own, 1).kinds()),
                None => owner_names::of_key(key.lineage, key.plan),
            };
            self.limiter.free(name, &self.home)?;
        }
        Ok(())
    }

    /// Lets memory follow a delta, before its snapshot is shown. What the file of a server of a
    /// fleet lost and gets once more, memory has.
    fn note(&self, delta: &Delta) -> Result<(), Error> {
        events::changed(delta);
        self.followers().publish(delta);
        for (_, change) in delta.keyspaces.iter() {
            if let Some(keyspace) = &change.new {
                self.registry.publish(keyspace.clone())?;
            }
        }
        for (owner, change) in delta.owner_settings.iter() {
            let (names, new) = (self.limiter.names(), Ok(change.new.as_ref()));
            self.owner_terms.publish(&self.registry, names, &owner, new);
        }
        self.quotas.publish(&delta.quota_events());
        for is_written in &delta.waiting.flushes {
            is_written.store(true, Ordering::Release);
        }
        match delta.sets_time_back {
            true => {
                self.time.set_back(delta.at);
                // Their windows were computed from the wrong time.
                self.limiter.forget();
                if let Some(attempts) = &self.attempts {
                    attempts.forget();
                }
            }
            false => self.time.hold_commit(delta.at),
        }
        Ok(())
    }
}
