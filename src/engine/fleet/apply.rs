//! Applying what the log has: entries in one transaction, published as a commit of one's
//! own.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::fleet::state::{CLOCKS_APART_MAX, Fleet, steady};
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

impl Core {
    /// Applies entries until the file has the one at a position, or, with `None`, all that
    /// there are.
    pub(super) fn catch_up(&self, fleet: &Fleet, to: Option<u64>) -> Result<(), Error> {
        let mut went_back = false;
        loop {
            let place = fleet.place();
            if to.is_some_and(|to| to <= place.position) {
                return Ok(());
            }
            match fleet
                .log
                .read(place.position, READ_MAX)
                .map_err(Error::Log)?
            {
                Entries::Found(entries) if entries.is_empty() => {
                    return match to {
                        None => Ok(()),
                        Some(to) => {
                            let at = place.position;
                            let why = format!("it ends with {to}, and has nothing behind {at}");
                            Err(Error::Log(LogError::new(why)))
                        }
                    };
                }
                Entries::Found(entries) => {
                    reached("read");
                    match self.apply(fleet, place, &entries) {
                        Ok(()) => {}
                        // The store has recovered meanwhile, at an earlier entry, and another
                        // thread may have caught up already.
                        Err(_) if !went_back && fleet.place() != place => {
                            went_back = true;
                        }
                        Err(error) => return Err(error),
                    }
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

    /// Catches up with what was published before, where the file has lost it.
    pub(in crate::engine) fn try_to_catch_up(&self, fleet: &Fleet) {
        if let Err(error) = self.catch_up(fleet, Some(fleet.decided())) {
            fleet.failed(&error);
        }
    }

    /// Applies the entries that follow on a place. Those that another thread has applied
    /// meanwhile are passed over.
    pub(super) fn apply(
        &self,
        fleet: &Fleet,
        mut after: Place,
        entries: &[Vec<u8>],
    ) -> Result<(), Error> {
        let mut group: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        // Nor are entries that are applied once more mixed with others.
        let had = lock(&fleet.known).had.position;
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
            bytes += entry.len;
            // Time is set back in a transaction of its own, whose delta says to when.
            let is_cut = entry.sets_time_back
                || group
                    .last()
                    .is_some_and(|it| it.sets_time_back || it.place.position == had);
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
        self.apply_group(fleet, &group)
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
        let (mut count, mut has_own, mut takes_away) = (0, false, false);
        let is_anew = fleet.had(group)?;
        let written = writer.apply(present, group, |entry| {
            count += 1;
            let waiting = fleet.waiting_for(entry.place);
            has_own |= waiting.is_some();
            takes_away |= waiting.is_none() && entry.takes_away;
            waiting
        })?;
        if !has_own && !is_anew {
            // Another server's alone, and new: what a transaction of this one took out of memory
            // was not committed, and never will be.
            self.quotas.undo();
        }
        if let Some(taker) = group.iter().rfind(|entry| entry.takes_away) {
            // Before anybody can find it done.
            fleet.takes_away(taker.place.position, steady(&*self.clock));
        }
        if let Some(written) = written {
            let begun = Instant::now();
            let committed = writer.commit(written);
            self.counters.commits.note(begun.elapsed());
            match committed? {
                Shown::Published => {}
                Shown::Unreadable => {
                    self.go_dark();
                    let why = "what was applied cannot be read";
                    return Err(Error::Log(LogError::new(why)));
                }
            }
        }
        fleet.applied.fetch_add(count, Ordering::Relaxed);
        if takes_away {
            fleet.owes_beat.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Fleet {
    /// Whether entries are applied once more, since the file had lost them. Fails where the log
    /// has another entry in the place of the last that was published.
    fn had(&self, group: &[Entry]) -> Result<bool, Error> {
        let had = lock(&self.known).had;
        let is_other = |it: &Entry| it.place.position == had.position && it.place.seal != had.seal;
        if group.iter().any(is_other) {
            return Err(self.has_another_history(had.position));
        }
        let last = group.last().map(|entry| entry.place.position);
        Ok(last.is_some_and(|last| last <= had.position))
    }

    fn own_body(&self, seal: Seal) -> Option<Arc<Vec<u8>>> {
        let known = lock(&self.known);
        let own = known.own.as_ref().filter(|own| own.seal == seal)?;
        own.body.clone()
    }

    /// The callers in this process that wait for an entry, if it is this server's own, and was
    /// not published before.
    fn waiting_for(&self, place: Place) -> Option<Waiting> {
        let mut known = lock(&self.known);
        let had = known.had.position;
        let own = known.own.as_mut().filter(|own| own.seal == place.seal)?;
        own.is_applied = true;
        if place.position <= had {
            return None;
        }
        Some(own.waiting.clone().unwrap_or_default())
    }
}

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::fleet::memory_log::MemoryLog;
    use crate::engine::fleet::settings::{Freshness, Settings};
    use crate::engine::fleet::state::Own;
    use crate::model::clock::{SystemClock, Timestamp};
    use crate::store::journal::Records;

    fn entry(position: u64, seal: u8) -> Entry {
        Entry {
            place: place(position, seal),
            previous: Seal::new([0; 32]),
            at: Timestamp::MIN,
            sets_time_back: false,
            takes_away: false,
            len: 0,
            records: Records::new(),
        }
    }

    fn place(position: u64, seal: u8) -> Place {
        Place {
            fleet: [0; 16],
            position,
            seal: Seal::new([seal; 32]),
        }
    }

    #[test]
    fn entries_that_were_published_before_are_known_and_others_in_their_place_refused() {
        let lease = Freshness::FailClosed(Duration::from_secs(60));
        let settings = Settings::new(Arc::new(MemoryLog::new()), "one").freshness(lease);
        let fleet = Fleet::new(&settings, place(3, 3), &SystemClock);
        fleet.published(Some(place(7, 7)));
        // The file lost the last four.
        fleet.published(Some(place(3, 3)));
        assert_eq!((fleet.place(), fleet.decided()), (place(3, 3), 7));
        assert!(!fleet.may_show(Some(place(6, 6))));
        assert!(fleet.may_show(Some(place(7, 7))));

        // Who waited has got it.
        let own = |seal: u8| Own {
            position: seal.into(),
            seal: Seal::new([seal; 32]),
            waiting: Some(Waiting::default()),
            body: None,
            is_applied: false,
        };
        for (position, is_waited_for) in [(7, false), (8, true)] {
            lock(&fleet.known).own = Some(own(position));
            let waiting = fleet.waiting_for(place(position.into(), position));
            assert_eq!(waiting.is_some(), is_waited_for, "{position}");
            let own = lock(&fleet.known).own.take();
            assert!(own.is_some_and(|own| own.is_applied));
        }
        assert!(fleet.had_published(Some(place(7, 7))));
        assert!(!fleet.had_published(Some(place(8, 8))));

        assert!(fleet.had(&[entry(4, 4), entry(5, 5)]).unwrap());
        assert!(fleet.had(&[entry(6, 6), entry(7, 7)]).unwrap());
        assert!(!fleet.had(&[entry(7, 7), entry(8, 8)]).unwrap());
        assert!(!fleet.had(&[entry(8, 8)]).unwrap());

        fleet.renew(steady(&SystemClock));
        fleet.require_fresh(&SystemClock).unwrap();
        let other = fleet.had(&[entry(6, 6), entry(7, 9)]).unwrap_err();
        assert!(other.to_string().contains("another history"), "{other}");
        fleet.require_fresh(&SystemClock).unwrap_err();
    }
}
