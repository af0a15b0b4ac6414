//! With which pepper a server signs ([`Choice`](super::reads::Choice)), and whether all can read
//! what it writes.

use crate::engine::fleet::reads::{Reads, reads_no, shared_pepper};
use crate::engine::fleet::state::{Fleet, steady};
use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::model::log::{Entries, LogError};
use crate::store::entry;
use crate::store::snapshot::Snapshot;
use crate::store::tables::FORMAT;
use crate::sync::lock;

impl Core {
    /// What this server says that it can read.
    pub(super) fn reads(&self) -> Vec<u8> {
        Reads::of(self.ring()).encode()
    }

    /// Fails where it is not known which pepper may sign, and cannot be found out. After it,
    /// the log has answered a heartbeat.
    pub(super) fn require_pepper(&self, fleet: &Fleet) -> Result<(), Error> {
        let is_made = || lock(&fleet.known).pepper.is_made;
        if !is_made() {
            // What keys are signed with is known once everything is applied.
            self.beat(fleet)?;
        }
        match is_made() {
            true => Ok(()),
            false => Err(Error::Log(LogError::new(
                "it does not say which peppers the other servers have",
            ))),
        }
    }

    /// Fails while a server beats that could not read what this one would write: it would not be
    /// fresh any more. Once such an entry was written, it is not asked again.
    pub(super) fn require_format(&self, fleet: &Fleet) -> Result<(), Error> {
        if lock(&fleet.known).has_written {
            return Ok(());
        }
        if self.has_format(fleet)? {
            // An older server is not fresh any more, whatever this one writes.
            lock(&fleet.known).has_written = true;
            return Ok(());
        }
        let nodes = fleet.log.nodes().map_err(Error::Log)?;
        if let Some(older) = reads_no(FORMAT, &nodes) {
            let why = format!(
                "server {:?} does not read format {FORMAT}, which this one writes: use this version \
                 of gatekey there too, or make changes on a server of its version",
                older.beat.node
            );
            return Err(Error::Log(LogError::new(why)));
        }
        Ok(())
    }

    /// Whether the entry that was applied last is of the format that this server writes.
    fn has_format(&self, fleet: &Fleet) -> Result<bool, Error> {
        let Some(before) = fleet.place().position.checked_sub(1) else {
            return Ok(false);
        };
        let read = fleet.log.read(before, 1).map_err(Error::Log)?;
        Ok(match read {
            Entries::Found(entries) => {
                let last = entries.first().and_then(|entry| entry::format_of(entry));
                last == Some(FORMAT)
            }
            Entries::Trimmed { .. } => false,
        })
    }

    /// Lets a newer pepper sign that all servers have, after a heartbeat. Once this server's
    /// newest signs, it stays so while the server runs: one that comes without it says so of
    /// itself. Asks the log only where there is a choice.
    pub(super) fn choose_pepper(&self, fleet: &Fleet) -> Result<(), Error> {
        let ring = self.ring();
        let own = Reads::of(ring);
        let (Some((newest, _)), Some((oldest, _))) = (own.peppers.first(), own.peppers.last())
        else {
            return Ok(());
        };
        let is_made = lock(&fleet.known).pepper.is_made;
        if is_made && ring.signing_pepper() == *newest {
            return Ok(());
        }
        let at = steady(&*self.clock);
        let shared = match newest == oldest {
            true => Some(*newest),
            false => {
                let nodes = fleet.log.nodes().map_err(Error::Log)?;
                match shared_pepper(&own, &fleet.node, &nodes) {
                    Some(shared) => shared,
                    None => return Ok(()),
                }
            }
        };
        let state = self.read(Snapshot::state)?;
        let is_used = |id: &u8| state.digests.iter().any(|(of, keys)| of == id && *keys > 0);
        let used = own.peppers.iter().map(|(id, _)| *id).find(is_used);
        // Nobody writes meanwhile, so that a transaction has one pepper.
        self.store.exclusively(|| {
            let mut known = lock(&fleet.known);
            let signing = ring.signing_pepper();
            let lease = fleet.freshness.lease();
            let choice = (known.pepper).take((shared, at), lease, (signing, used, *oldest));
            if choice != signing {
                ring.sign_with(choice);
            }
        });
        Ok(())
    }
}
