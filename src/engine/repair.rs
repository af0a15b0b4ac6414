//! Removing and rebuilding damaged records.

use crate::engine::handle::Engine;
use crate::model::audit::Repair;
use crate::model::error::{Error, Result};
use crate::model::keyspace::Keyspace;
use crate::model::log::LogError;
use crate::store::check::CheckReport;

/// How many repairs a report lists; the rest is counted.
const LISTED_MAX: usize = 1000;

/// The result of a repair: what it did, and what it could not repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// The records that it removed or rebuilt, the first thousand; the audit trail
    /// names all.
    pub repairs: Vec<Repair>,
    /// How many repairs there were in all.
    pub repairs_total: u64,
    /// What [`Engine::check`] finds afterwards: damage that a repair cannot mend.
    pub left: CheckReport,
}

impl Engine {
    /// Removes or rebuilds every damaged record in one transaction, and names each in
    /// the audit trail. Run [`check`](Engine::check) first to see what is damaged.
    ///
    /// A repair never widens a right:
    ///
    /// - It removes a key whose record cannot be read, or is older than the audit trail
    ///   says, with everything that belongs to it. Its token is unknown from then on.
    /// - An owner whose record cannot be read stays suspended, with the time and note
    ///   that the audit trail has.
    /// - A quota of which it cannot be read what is left is used up; give the key or the
    ///   owner another. That of an owner is refilled when it is due.
    /// - Settings of an owner that cannot be read, or are missing or older than the audit
    ///   trail says, become limits of one request an hour and a cap of one key;
    ///   [`update_owner`](Engine::update_owner) gives it others. Its quota stays. Limits of
    ///   a key's own that are lost become one request an hour.
    /// - Names, labels and usage that cannot be read are lost, and start empty. The
    ///   repair finds the lineage of a rotated key again from its other keys.
    /// - It rebuilds indexes and counts from the records.
    /// - It writes a keyspace that was damaged while the engine was open again from
    ///   memory.
    /// - It cannot mend the chain of the audit trail. Broken entries stay as they are,
    ///   and a new entry names them, so that `check` does not report them again.
    ///
    /// [`RepairReport::left`] has what remains: for example, an owner in a
    /// single-active keyspace whose index had lost a key may hold two. Revoke one.
    ///
    /// O(size of the store). Other changes wait meanwhile; verifications continue. Take
    /// a [`backup`](Engine::backup) first.
    ///
    /// # Errors
    /// See [`Engine`]; [`Error::Corrupted`](crate::Error::Corrupted) where the file
    /// itself cannot be read: then restore a backup. [`Error::Log`](crate::Error::Log) on a
    /// server of a fleet.
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
        if self.core.fleet.is_some() {
            let why = "a server of a fleet does not repair its file, since the others would do what this file needs: remove it, and let this server join again";
            return Err(Error::Log(LogError::new(why)));
        }
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
