//! Checks of the whole store.

use std::ops::ControlFlow;

use crate::engine::backup::telling;
use crate::engine::handle::Engine;
use crate::model::error::Result;
use crate::store::check::{self, CheckProgress, CheckReport};

/// # Checks
impl Engine {
    /// Walks the whole store and reports every inconsistency: in tags, indexes,
    /// lineage, suspensions, the single-active rule and the audit chain, and records
    /// older than the audit trail says. Changes continue meanwhile. A thread of its own
    /// reads records while another compares them.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) where the file cannot be read. A damaged
    /// record is a finding in the report, not an error.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # let engine = Engine::open_in_memory()?;
    /// let report = engine.check()?;
    /// for finding in &report.findings {
    ///     eprintln!("{} {}: {}", finding.table, finding.record, finding.problem);
    /// }
    /// assert!(report.is_sound());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn check(&self) -> Result<CheckReport> {
        self.check_with(|_| ControlFlow::Continue(()))
    }

    /// As [`check`](Engine::check), and calls `progress` every thousand keys or entries of
    /// the audit trail. `Break` stops the check. What is left to do once all of them were
    /// looked at is short. Where the store is opened again meanwhile, the check begins again,
    /// and so do the numbers.
    ///
    /// # Errors
    /// As [`check`](Engine::check); [`Conflict::CheckStopped`](crate::Conflict::CheckStopped)
    /// after a `Break`.
    ///
    /// # Panics
    /// Where `progress` panics.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// use std::ops::ControlFlow;
    ///
    /// # let engine = Engine::open_in_memory()?;
    /// let report = engine.check_with(|progress| {
    ///     println!("{} of {}", progress.records, progress.records_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.is_sound());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn check_with(
        &self,
        mut progress: impl FnMut(CheckProgress) -> ControlFlow<()>,
    ) -> Result<CheckReport> {
        drop(self.core.lasting_snapshot()?);
        telling(&mut progress, |on_progress| {
            self.core.tell(|snapshot, now| {
                let mut report = check::check_with(snapshot, now, on_progress)?;
                self.core.followers().check(snapshot, now, &mut report)?;
                Ok(report)
            })
        })
    }
}
