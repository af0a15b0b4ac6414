//! What a store does after a call has failed, so that it takes changes again without a
//! restart: docs/INTERNALS.md argues case by case why nothing is lost by it, and nothing
//! is granted that was taken away.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::{Inner, Recovery, Store};
use crate::model::error::Error;
use crate::store::backup::OnProgress;
use crate::store::base::{Base, reopen, reopen_apart};
use crate::store::delta::{Delta, Publish};
use crate::store::failure::{failure_of, guarded, io_failure};
use crate::store::rewrite::{Rewritten, rewrite};
use crate::store::snapshot::Snapshot;
use crate::sync::lock;

/// After a failed attempt, this many times its duration passes before the next.
const REST: u32 = 4;

/// An error of a repair. Of a file that was only viewed so far, it is damage that a page does
/// not hold together, or that the file ends before it: such a file stays as it is.
fn of_view(base: &Base, error: Error) -> Error {
    let damage = match &error {
        Error::Corrupted(damage) => damage.to_string(),
        Error::Store(failure) if failure.io_kind() == Some(io::ErrorKind::UnexpectedEof) => {
            "the file ends before its last page".to_owned()
        }
        _ => return error,
    };
    match base.is_view() {
        true => Error::corrupted(
            "file",
            "-",
            format!(
                "{damage}; if the file is a copy made while the store was open, it mixes pages of \
                 several commits: make copies with Engine::backup"
            ),
        ),
        false => error,
    }
}

impl Inner {
    /// Whether it is not known if a commit is durable.
    fn pends(&self, commits: u64) -> bool {
        let pending = self.recovery.pending.as_ref();
        pending.is_some_and(|delta| delta.commits == commits)
    }
}

impl Store {
    /// Recovers where a call has failed, and not only just in vain. `Ok` where the
    /// store takes changes.
    pub(crate) fn recover_now(&self, publish: &dyn Publish) -> Result<(), Error> {
        self.recover_if_due(&mut self.inner(), publish)
    }

    pub(super) fn recover_if_due(
        &self,
        inner: &mut Inner,
        publish: &dyn Publish,
    ) -> Result<(), Error> {
        let Some(base) = &inner.base else {
            return Err(Error::Closed);
        };
        inner.recovery.is_due |= base.access().fault().is_some();
        if !inner.recovery.is_due {
            return Ok(());
        }
        self.require_name()?;
        if let (Some(until), Some(last)) = (inner.recovery.rests_until, &inner.recovery.last)
            && Instant::now() < until
        {
            return Err(Error::Store(last.clone()));
        }
        self.recover(inner, publish).map(drop)
    }

    /// Recovers, and says whether the commit that was pending is durable and published.
    pub(super) fn recover(&self, inner: &mut Inner, publish: &dyn Publish) -> Result<bool, Error> {
        let begun = Instant::now();
        let recovered = guarded(|| self.try_to_recover(inner, publish));
        match recovered {
            Ok(is_applied) => {
                inner.recovery = Recovery::default();
                self.alarm.clear();
                // A reader may have met the next failure already.
                if let Some(fault) = inner.base.as_ref().and_then(|base| base.access().fault()) {
                    self.alarm.raise(&fault.failure);
                }
                Ok(is_applied)
            }
            Err(error) => {
                let failure = failure_of(&error);
                inner.recovery.rests_until = Some(Instant::now() + begun.elapsed() * REST);
                inner.recovery.last = Some(failure.clone());
                self.alarm.attempted(&failure);
                let is_view = inner.base.as_ref().is_some_and(|base| base.is_view());
                if is_view && matches!(error, Error::Corrupted(_)) {
                    // What was shown of it so far is not as a commit left it.
                    publish.withdraw();
                }
                Err(error)
            }
        }
    }

    fn try_to_recover(&self, inner: &mut Inner, publish: &dyn Publish) -> Result<bool, Error> {
        let Some(base) = inner.base.clone() else {
            return Err(Error::Closed);
        };
        self.require_name()?;
        let ground = base.access().ground();
        if ground.is_doubtful() {
            return self.rewrite_in_doubt(inner, &base, publish);
        }
        let room = base.access().redo();
        room.map_err(|error| Error::Store(io_failure(&error)))?;
        match self.reopen(&base).map_err(|error| of_view(&base, error)) {
            Ok((new, snapshot, commits)) => self.settle(inner, new, snapshot, commits, publish),
            Err(error) => {
                self.stand_by(inner, &base, publish);
                Err(error)
            }
        }
    }

    fn require_name(&self) -> Result<(), Error> {
        match self.is_lost() {
            true => Err(Error::NeedsReopen),
            false => Ok(()),
        }
    }

    /// Opens another database where the one is that failed. What it finds is durable.
    fn reopen(&self, base: &Base) -> Result<(Arc<Base>, Snapshot, u64), Error> {
        let ground = base.access().ground();
        let new = Arc::new(reopen(ground, self.cache_bytes)?);
        let synced = ground.sync();
        synced.map_err(|error| Error::Store(io_failure(&error)))?;
        let snapshot = Snapshot::new(&new, &self.ring)?;
        let commits = snapshot.state()?.commits;
        Ok((new, snapshot, commits))
    }

    /// Where nothing can be read through the database that failed, and none can be
    /// opened for writing: reads on, through one that writes nothing.
    fn stand_by(&self, inner: &mut Inner, base: &Arc<Base>, publish: &dyn Publish) {
        if !base.access().reads_fail() {
            return;
        }
        let _ = guarded(|| {
            let new = Arc::new(reopen_apart(base.access().ground(), self.cache_bytes)?);
            let snapshot = Snapshot::new(&new, &self.ring)?;
            if snapshot.state()?.commits != inner.commits {
                return Ok(());
            }
            inner.show(&Delta::nothing(inner.commits), snapshot, publish)?;
            inner.base = Some(new);
            Ok(())
        });
    }

    /// Writes what was acknowledged to another file, where a sync has failed.
    fn rewrite_in_doubt(
        &self,
        inner: &mut Inner,
        base: &Arc<Base>,
        publish: &dyn Publish,
    ) -> Result<bool, Error> {
        // The database that failed may take for durable what is not, and is not asked. Nor is
        // a view written on, of whose pages nobody has verified the checksums.
        // Nor what was to follow to the disk: it may have gone with the sync that failed.
        let is_fit = |it: &Arc<Snapshot>| !it.is_view() && !it.base().access().reads_fail();
        let is_synced = inner.synced == inner.commits;
        let source = match inner.published.clone().filter(|it| is_synced && is_fit(it)) {
            Some(published) => published,
            None => {
                let apart = reopen_apart(base.access().ground(), self.cache_bytes);
                let apart = Arc::new(apart.map_err(|error| of_view(base, error))?);
                Arc::new(Snapshot::new(&apart, &self.ring)?)
            }
        };
        self.require_known(inner, source.state()?.commits)?;
        self.rewrite(inner, &source, publish, &mut |_| ControlFlow::Continue(()))
    }

    /// Writes a snapshot to another file, which takes the place of the store's.
    pub(super) fn rewrite(
        &self,
        inner: &mut Inner,
        source: &Snapshot,
        publish: &dyn Publish,
        on_progress: OnProgress<'_>,
    ) -> Result<bool, Error> {
        let commits = source.state()?.commits;
        let Rewritten {
            base,
            home,
            is_not_durable,
        } = rewrite(&self.home(), source, self.cache_bytes, on_progress)?;
        let base = Arc::new(base);
        *lock(&self.home) = home;
        let settled = match is_not_durable {
            None => guarded(|| {
                let snapshot = Snapshot::new(&base, &self.ring)?;
                self.settle(inner, base.clone(), snapshot, commits, publish)
            }),
            Some(failure) => {
                // What is written to it must not be acknowledged before its name is
                // durable, and a second sync of a directory is not trusted either.
                base.access().ground().doubt();
                Err(Error::Store(failure))
            }
        };
        if let Err(error) = &settled {
            // Nothing that is written to the former file would be found any more.
            base.access().absorb(&self.alarm);
            inner.base = Some(base);
            inner.recovery.is_due = true;
            self.alarm.raise(&failure_of(error));
        }
        settled
    }

    /// Writes the store to a new file, which takes its place. Changes wait meanwhile.
    pub(crate) fn compact(
        &self,
        publish: &dyn Publish,
        on_progress: OnProgress<'_>,
    ) -> Result<(), Error> {
        let mut inner = self.inner();
        self.recover_if_due(&mut inner, publish)?;
        self.require_name()?;
        let source = inner.published.clone().ok_or(Error::Closed)?;
        let rewritten = self.rewrite(&mut inner, &source, publish, on_progress);
        rewritten.map(drop)
    }

    /// Whether a store that was opened again is at the last commit that was published, or
    /// that was on the disk for certain, or at the one that is pending.
    fn require_known(&self, inner: &Inner, commits: u64) -> Result<(), Error> {
        match commits == inner.commits || commits == inner.synced || inner.pends(commits) {
            true => Ok(()),
            false => Err(Error::corrupted(
                "gatekey",
                "state",
                "the file has lost commits, or was changed by another program",
            )),
        }
    }

    /// Lets another database take the place of the one that failed: first for readers,
    /// and only then for writing.
    fn settle(
        &self,
        inner: &mut Inner,
        new: Arc<Base>,
        snapshot: Snapshot,
        commits: u64,
        publish: &dyn Publish,
    ) -> Result<bool, Error> {
        self.require_known(inner, commits)?;
        let is_applied = inner.pends(commits);
        if commits < inner.commits {
            // What is in the log and has not followed to the disk. Nothing is granted until it
            // was applied anew.
            publish.withdraw();
        }
        let delta = match &inner.recovery.pending {
            Some(pending) if is_applied => pending.clone(),
            _ => Delta::nothing(commits),
        };
        inner.show(&delta, snapshot, publish)?;
        inner.note_synced(commits);
        new.access().absorb(&self.alarm);
        let ground = new.access().ground().clone();
        if let Some(old) = inner.base.replace(new)
            && Arc::ptr_eq(old.access().ground(), &ground)
        {
            // The new one may write where snapshots of the old one read.
            old.access().end();
        }
        Ok(is_applied)
    }
}
