//! What a server of a fleet does in the place of a commit of its own: it proposes the
//! delta of a transaction to the log, and applies what the log has.

use redb::Durability;

use super::{Ended, Inner, SYNC_EVERY, Store, Writer, Written};
use crate::crypto::digest::Keyring;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::time::Present;
use crate::store::delta::{Delta, Publish, Waiting};
use crate::store::entry::{Entry, Place};
use crate::store::failure::{OrStore, guarded_any, panicked};
use crate::store::journal::{Journal, Records};
use crate::store::queue::Progress;
use crate::store::tx::Tx;

/// What a transaction would change, of which nothing was committed.
pub(crate) struct Proposed {
    /// The place of the file that it ran on.
    pub(crate) after: Place,
    /// The pepper that its digests were made with.
    pub(crate) pepper: u8,
    pub(crate) records: Records,
    pub(crate) at: Timestamp,
    pub(crate) sets_time_back: bool,
    /// Whether it changes what grants: callers then wait for other servers.
    pub(crate) takes_away: bool,
    /// Whether it met records that cannot be read.
    pub(crate) met_damage: bool,
    pub(crate) waiting: Waiting,
}

impl Writer<'_> {
    /// Runs as [`run`](Writer::run) does, and throws the transaction away, so that no lock
    /// is held while the log is asked. `None`: nothing was written.
    pub(crate) fn propose(
        &mut self,
        present: Present,
        run: &mut dyn FnMut(&mut Tx<'_>) -> Progress,
    ) -> Result<(Place, Option<Proposed>), Error> {
        let (base, ring) = (&self.base, &self.store.ring);
        let ran = guarded_any(|| {
            loop {
                let txn = base.with(|db| db.begin_write().or_store())?;
                let journal = Journal::on();
                let mut tx = Tx::open(&txn, &journal, ring, present)?;
                let after = tx.place()?;
                let after = after.ok_or(Error::Internal("a file of a fleet has no place"))?;
                if let Progress::Again = run(&mut tx) {
                    continue;
                }
                let takes_away = tx.taken() > 0;
                let delta = tx.finish()?;
                // Nothing of it may reach the disk.
                txn.abort().or_store()?;
                if let Some(fault) = base.access().fault() {
                    return Err(Error::Store(fault.failure.clone()));
                }
                let proposed = delta.map(|delta| Proposed {
                    after,
                    pepper: ring.signing_pepper(),
                    records: journal.into_records(),
                    at: delta.at,
                    sets_time_back: delta.sets_time_back,
                    takes_away,
                    met_damage: !delta.unreadable.is_empty(),
                    waiting: delta.waiting,
                });
                return Ok((after, proposed));
            }
        });
        self.ended(ran)
    }

    /// Begins a transaction in which entries are applied, each behind the one before.
    /// `take_waiting` finds the callers that wait for one. As a rule its commit does not wait
    /// for the disk: the log has the entries.
    pub(crate) fn apply(
        &mut self,
        present: Present,
        entries: &[Entry],
        mut take_waiting: impl FnMut(&Entry) -> Option<Waiting>,
    ) -> Result<Option<Written>, Error> {
        let (base, ring) = (&self.base, &self.store.ring);
        let is_synced = self.inner.is_sync_due();
        let ran = guarded_any(|| {
            let mut txn = base.with(|db| db.begin_write().or_store())?;
            match is_synced {
                true => txn.set_two_phase_commit(true),
                false => txn.set_durability(Durability::None).or_store()?,
            }
            let journal = Journal::off();
            let mut tx = Tx::open(&txn, &journal, ring, present.moved_to(Timestamp::MIN))?;
            let place = tx.place()?;
            let mut place = place.ok_or(Error::Internal("a file of a fleet has no place"))?;
            let before = place;
            let mut waiting = Waiting::default();
            for entry in entries {
                if entry.place.position <= place.position {
                    continue;
                }
                if entry.place.position != place.position + 1 || entry.previous != place.seal {
                    return Err(Error::Internal("an entry does not follow on the file"));
                }
                tx.apply(entry)?;
                place = entry.place;
                if let Some(more) = take_waiting(entry) {
                    waiting.slices.extend(more.slices);
                    waiting.flushes.extend(more.flushes);
                }
            }
            if place == before {
                return Ok(None);
            }
            let mut delta = tx.finish_applied(&place)?;
            delta.waiting = waiting;
            if let Some(fault) = base.access().fault() {
                return Err(Error::Store(fault.failure.clone()));
            }
            Ok(Some(Written {
                txn,
                delta,
                is_synced,
            }))
        });
        self.ended(ran)
    }

    /// Lets all commits be on the disk.
    fn sync(&mut self) -> Result<(), Error> {
        let base = &self.base;
        let begun = guarded_any(|| {
            let mut txn = base.with(|db| db.begin_write().or_store())?;
            txn.set_two_phase_commit(true);
            Ok(txn)
        });
        let txn = self.ended(begun)?;
        let commits = self.inner.commits;
        match self.end(txn) {
            Ended::Made => {
                self.inner.note_synced(commits);
                Ok(())
            }
            Ended::NotMade(error) => Err(error),
            Ended::InDoubt(failure) => self.resolve(Delta::nothing(commits), failure).map(drop),
        }
    }

    /// Notes how a transaction ended, before its commit.
    pub(super) fn ended<T>(&mut self, ran: Result<Result<T, Error>, ()>) -> Result<T, Error> {
        let fault = self.fault();
        // What a panic or a failure leaves of a database, is not written to again.
        self.inner.recovery.is_due = ran.is_err() || fault.is_some();
        match ran {
            // The storage engine knows of failures only that there was one.
            Ok(Err(error)) => Err(fault.map_or(error, Error::Store)),
            Ok(ran) => ran,
            Err(()) => {
                self.store.alarm.raise(&panicked());
                Err(Error::Store(panicked()))
            }
        }
    }
}

impl Inner {
    fn is_sync_due(&self) -> bool {
        (self.unsynced_since).is_some_and(|since| since.elapsed() >= SYNC_EVERY)
    }
}

impl Store {
    /// Lets commits be on the disk that have not been for [`SYNC_EVERY`].
    pub(crate) fn sync_if_due(&self, publish: &dyn Publish) -> Result<(), Error> {
        let is_due = self.inner().is_sync_due();
        match is_due {
            true => self.writer(publish)?.sync(),
            false => Ok(()),
        }
    }

    /// Runs while nobody writes or publishes.
    pub(crate) fn exclusively<T>(&self, run: impl FnOnce() -> T) -> T {
        let _inner = self.inner();
        run()
    }

    pub(crate) fn ring_of_log(&self) -> &Keyring {
        &self.ring
    }

    /// Makes a local change that no log knows of: founding, joining, leaving a fleet.
    pub(crate) fn set_place(
        &self,
        place: Option<&Place>,
        present: Present,
        publish: &dyn Publish,
    ) -> Result<(), Error> {
        let mut writer = self.writer(publish)?;
        let mut outcome = Ok(());
        let run = &mut |tx: &mut Tx<'_>| {
            outcome = tx.set_place(place);
            Progress::Done
        };
        let written = writer.run(present, run)?;
        outcome?;
        match written {
            Some(written) => writer.commit(written).map(drop),
            None => Ok(()),
        }
    }
}
