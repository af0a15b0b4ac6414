//! Applying what the log has: entries in one transaction, published as a commit of one's
//! own.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::fleet::state::{CLOCKS_APART_MAX, Fleet};
use crate::engine::shared::Core;
use crate::model::error::Error;
use crate::model::log::{BodyId, Entries, LogError, Seal};
use crate::steps::reached;
use crate::store::body::Source;
use crate::store::delta::Waiting;
use crate::store::entry::{self, Entry, Place};
use crate::store::writer::Shown;
use crate::sync::atomic::Ordering;
use crate::sync::lock;

/// The most entries that are asked for at once.
const READ_MAX: usize = 256;
/// How many bytes of entries one transaction applies, but for its last entry.
const BYTES_PER_TRANSACTION: usize = 8 << 20;

/// What catching up has met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Met {
    /// Whether callers elsewhere wait for this server.
    pub(super) takes_away: bool,
}

impl Core {
    /// Applies entries until the file has the one at a position, or, with `None`, all that
    /// there are.
    pub(super) fn catch_up(&self, fleet: &Fleet, to: Option<u64>) -> Result<Met, Error> {
        let mut met = Met::default();
        loop {
            let place = fleet.place();
            if to.is_some_and(|to| to <= place.position) {
                return Ok(met);
            }
            match fleet
                .log
                .read(place.position, READ_MAX)
                .map_err(Error::Log)?
            {
                Entries::Found(entries) if entries.is_empty() => {
                    return match to {
                        None => Ok(met),
                        Some(to) => {
                            let at = place.position;
                            let why = format!("it ends with {to}, and has nothing behind {at}");
                            Err(Error::Log(LogError::new(why)))
                        }
                    };
                }
                Entries::Found(entries) => {
                    reached("read");
                    met.takes_away |= self.apply(fleet, place, &entries)?.takes_away;
                }
                Entries::Trimmed { floor } => {
                    let why = format!(
                        "this server has applied {}, and the log begins behind {floor}: remove its file, and join the fleet again",
                        place.position
                    );
                    return Err(Error::Log(LogError::new(why)));
                }
            }
        }
    }

    /// Applies the entries that follow on a place. Those that another thread has applied
    /// meanwhile are passed over.
    pub(super) fn apply(
        &self,
        fleet: &Fleet,
        mut after: Place,
        entries: &[Vec<u8>],
    ) -> Result<Met, Error> {
        let mut met = Met::default();
        let mut group: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for stored in entries {
            let entry = match self.read_entry(fleet, &after, stored) {
                Ok(entry) => entry,
                Err(error) => {
                    // What came before it is good.
                    self.apply_group(fleet, &group)?;
                    return Err(error);
                }
            };
            after = entry.place;
            met.takes_away |= entry.takes_away;
            bytes += entry.len;
            // Time is set back in a transaction of its own, whose delta says to when.
            let is_cut = entry.sets_time_back || group.last().is_some_and(|it| it.sets_time_back);
            if is_cut {
                self.apply_group(fleet, &group)?;
                group.clear();
                bytes = entry.len;
            }
            group.push(entry);
            // Before the next is read, which may have a body as large.
            if bytes > BYTES_PER_TRANSACTION {
                self.apply_group(fleet, &group)?;
                group.clear();
                bytes = 0;
            }
        }
        self.apply_group(fleet, &group)?;
        Ok(met)
    }

    /// Reads the entry right behind a place, with its body, of which this server has its own.
    fn read_entry(&self, fleet: &Fleet, after: &Place, stored: &[u8]) -> Result<Entry, Error> {
        let ask = &mut |id: &BodyId, part| fleet.log.body(after.position, id, part);
        let own = fleet.own_body(Seal::of(stored));
        let at_hand = own.as_deref().map(|body| Source::Here(body));
        let source = &mut at_hand.unwrap_or(Source::Asked(ask));
        let entry = entry::decode(self.store.ring_of_log(), after, stored, source)?;
        self.require_time(fleet, &entry)?;
        Ok(entry)
    }

    /// The newest instant travels in entries: one from a clock that is far ahead would end
    /// every key, on every server.
    fn require_time(&self, fleet: &Fleet, entry: &Entry) -> Result<(), Error> {
        let Some(now) = fleet.log_now(&*self.clock) else {
            return Ok(());
        };
        match entry.at <= now.saturating_add(CLOCKS_APART_MAX) {
            true => Ok(()),
            false => {
                let why = format!(
                    "entry {} is of {}, which is ahead of the log's clock ({now})",
                    entry.place.position, entry.at
                );
                Err(Error::Log(LogError::new(why)))
            }
        }
    }

    fn apply_group(&self, fleet: &Fleet, group: &[Entry]) -> Result<(), Error> {
        if group.is_empty() {
            return Ok(());
        }
        let present = self.present();
        let mut writer = self.store.writer(self)?;
        let (mut count, mut has_own) = (0, false);
        let written = writer.apply(present, group, |entry| {
            count += 1;
            let waiting = fleet.waiting_for(entry.place.seal);
            has_own |= waiting.is_some();
            waiting
        })?;
        if !has_own {
            // Another server's alone: what a transaction of this one took out of memory was
            // not committed, and never will be.
            self.quotas.undo();
        }
        if let Some(written) = written {
            let begun = Instant::now();
            let committed = writer.commit(written);
            self.counters.commits.note(begun.elapsed());
            match committed? {
                Shown::Published => {}
                Shown::Unreadable => self.go_dark(),
            }
        }
        fleet.applied.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

impl Fleet {
    fn own_body(&self, seal: Seal) -> Option<Arc<Vec<u8>>> {
        let known = lock(&self.known);
        let own = known.own.as_ref().filter(|own| own.seal == seal)?;
        own.body.clone()
    }

    /// The callers in this process that wait for an entry, if it is this server's own.
    fn waiting_for(&self, seal: Seal) -> Option<Waiting> {
        let mut known = lock(&self.known);
        let own = known.own.as_mut().filter(|own| own.seal == seal)?;
        own.is_applied = true;
        Some(own.waiting.clone().unwrap_or_default())
    }
}
