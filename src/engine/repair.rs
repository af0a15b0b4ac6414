//! Removing and rebuilding what is damaged.

use crate::engine::handle::Engine;
use crate::model::audit::Repair;
use crate::model::error::Result;
use crate::model::keyspace::Keyspace;
use crate::store::check::CheckReport;

/// How many repairs a report lists; the rest is counted.
const LISTED_MAX: usize = 1000;

/// What a repair did, and what it left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// What was removed or rebuilt, the first thousand; the audit trail names all.
    pub repairs: Vec<Repair>,
    /// How many repairs there were in all.
    pub repairs_total: u64,
    /// What [`Engine::check`] finds afterwards: what a repair cannot mend.
    pub left: CheckReport,
}

impl Engine {
    /// Removes or rebuilds every record that is damaged, in one transaction, and names
    /// each in the audit trail. [`check`](Engine::check) says beforehand what there is.
    ///
    /// Nothing is granted after it that was not granted before:
    ///
    /// - A key whose record cannot be read, or is an older copy than the audit trail says,
    ///   is removed with all that belongs to it. Its token is unknown from then on.
    /// - An owner whose record cannot be read stays suspended, since when and why as the
    ///   audit trail says.
    /// - A quota of which it cannot be read what is left is used up; give the key or the
    ///   owner another. That of an owner is refilled when it is due.
    /// - Settings of an owner that cannot be read, or are missing or older than the audit
    ///   trail says, become limits of one request an hour and a cap of one key;
    ///   [`update_owner`](Engine::update_owner) gives it others. Its quota stays. Limits of
    ///   a key's own that are lost become one request an hour.
    /// - Names, labels and usage that cannot be read begin anew, without what they said.
    ///   The line of a rotated key is found again from the other keys of it.
    /// - Indexes and counts are made again from the records.
    /// - A keyspace that is damaged since the engine was opened is written again from
    ///   memory.
    /// - The chain of the audit trail cannot be mended. Entries that are missing or do not
    ///   follow stay as they are, and an entry says which: `check` does not tell of them
    ///   again.
    ///
    /// What remains is in [`RepairReport::left`]: a single-active owner whose index had
    /// lost a key may hold two, of which you revoke one.
    ///
    /// Takes a time that goes with the size of the store, in which other changes wait;
    /// verifications go on. Take a [`backup`](Engine::backup) first.
    ///
    /// # Errors
    /// See [`Engine`]; [`Error::Corrupted`](crate::Error::Corrupted) where it is the file
    /// itself that cannot be read: restore a backup then.
    ///
    /// ```
    /// # use gatekey::{Engine, NewKey, NewKeyspace};
    /// # let engine = Engine::open_in_memory()?;
    /// # engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// # engine.issue(NewKey::new("acme_live", "acme")?)?;
    /// let report = engine.acting_as("alice")?.repair()?;
    /// assert_eq!(report.repairs_total, 0, "there was nothing to do");
    /// assert!(report.left.is_sound());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn repair(&self) -> Result<RepairReport> {
        let known: Vec<Keyspace> = self.core.registry().all();
        let mut repairs = self.change(move |tx, actor| tx.repair(&known, actor))?;
        let repairs_total = repairs.len() as u64;
        repairs.truncate(LISTED_MAX);
        Ok(RepairReport {
            repairs,
            repairs_total,
            left: self.check()?,
        })
    }
}
