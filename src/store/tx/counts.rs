//! Keeping the counts of keys by state: see [`crate::store::counts`].

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::Tx;
use crate::model::error::Error;
use crate::store::counts::{self, Counted, PER_STEP};
use crate::store::failure::OrStore;
use crate::store::reach::Reach;
use crate::store::record::KeyRecord;
use crate::store::tables::{self, Tagged};

/// How many rows of each index the reach passes over with a change, at most.
const PER_CHANGE: usize = 256;

/// The counts that a transaction has asked for, by keyspace.
#[derive(Default)]
pub(super) struct Kept {
    of: BTreeMap<u32, Of>,
    /// Whether the reach was moved to the present, as far as a change moves it.
    is_near: bool,
}

/// The counts of a keyspace, as they are stored and as they are now; `None` where they
/// cannot be read, and are left as they are until a repair.
#[derive(Default)]
struct Of {
    stored: Option<Counted>,
    now: Option<Counted>,
}

impl Tx<'_> {
    /// Takes a key out of the counts as it was, and puts it in as it is. To be called
    /// before anything is written of it.
    pub(super) fn recount(
        &mut self,
        old: Option<&KeyRecord>,
        new: Option<&KeyRecord>,
    ) -> Result<(), Error> {
        if !self.kept.is_near {
            self.kept.is_near = true;
            self.move_reach(PER_CHANGE)?;
        }
        let reach = self.state.reach;
        for (key, by) in [(old, -1), (new, 1)] {
            if let Some(key) = key
                && let Some(counted) = self.counted(key.keyspace)?
            {
                counted.count(key, reach.instant_of(key.id), by);
            }
        }
        Ok(())
    }

    /// Moves a key in the index by turn, where most keys have no row.
    pub(super) fn move_turns(
        &mut self,
        old: Option<&KeyRecord>,
        new: Option<&KeyRecord>,
    ) -> Result<(), Error> {
        let turns = |key: Option<&KeyRecord>| key.map_or([None; 2], KeyRecord::turns_at);
        if turns(old) == turns(new) {
            return Ok(());
        }
        for row in old.into_iter().flat_map(counts::turn_rows) {
            self.by_turn.remove(row).or_store()?;
        }
        for row in new.into_iter().flat_map(counts::turn_rows) {
            self.by_turn.insert(row, ()).or_store()?;
        }
        Ok(())
    }

    /// A new keyspace has no keys.
    pub(super) fn begin_counts(&mut self, keyspace: u32) {
        let none = Of {
            stored: None,
            now: Some(Counted::default()),
        };
        self.kept.of.insert(keyspace, none);
    }

    /// The counts of a keyspace, unless they cannot be read.
    fn counted(&mut self, keyspace: u32) -> Result<Option<&mut Counted>, Error> {
        if !self.kept.of.contains_key(&keyspace) {
            let stored = Error::or_damaged(counts::stored(&self.meta, self.ring, keyspace))?.ok();
            let of = Of {
                stored,
                now: stored,
            };
            self.kept.of.insert(keyspace, of);
        }
        Ok(self
            .kept
            .of
            .get_mut(&keyspace)
            .and_then(|of| of.now.as_mut()))
    }

    /// Moves the reach towards the present, over up to so many rows of each index.
    fn move_reach(&mut self, rows_max: usize) -> Result<(), Error> {
        let (reach, present) = (self.state.reach, Reach::through(self.now));
        if reach < present {
            self.state.reach = self.pass_over(reach, present, rows_max, 1)?;
        }
        Ok(())
    }

    /// Moves the reach towards the present, for a flush, which writes nothing else with it.
    pub(crate) fn follow_time(&mut self) -> Result<(), Error> {
        self.writing();
        self.move_reach(PER_STEP)
    }

    /// Moves the reach back to the present where that was set back. What is counted does
    /// not depend on it; without it, whoever asks would have as much to read.
    pub(crate) fn set_reach_back(&mut self) -> Result<(), Error> {
        let (reach, present) = (self.state.reach, Reach::through(self.now));
        let mut from = present;
        while from < reach {
            from = self.pass_over(from, reach, PER_STEP, -1)?;
        }
        self.state.reach = reach.min(present);
        Ok(())
    }

    /// Counts the keys that have an instant between two reaches as of the later one, or
    /// where `by` is -1 as of the earlier one, and gives how far it came.
    fn pass_over(
        &mut self,
        from: Reach,
        to: Reach,
        rows_max: usize,
        by: i64,
    ) -> Result<Reach, Error> {
        let step = counts::step(&self.by_end, &self.by_turn, from, to, rows_max)?;
        for id in step.keys {
            // What is damaged stays counted as it was, until a repair.
            let Some(key) = counts::turning_key(&self.keys, self.ring, id)? else {
                continue;
            };
            if let Some(counted) = self.counted(key.keyspace)? {
                counted.count(&key, from.instant_of(id), -by);
                counted.count(&key, step.to.instant_of(id), by);
            }
        }
        Ok(step.to)
    }

    /// Writes the counts that have changed.
    pub(super) fn write_counts(&mut self) -> Result<(), Error> {
        for (keyspace, of) in &self.kept.of {
            let Some(now) = of.now.filter(|_| of.now != of.stored) else {
                continue;
            };
            let name = counts::name_of(*keyspace);
            let sealed = tables::seal(self.ring, Tagged::Counts, name.as_bytes(), &now)?;
            self.meta
                .insert(name.as_str(), sealed.as_slice())
                .or_store()?;
        }
        Ok(())
    }

    /// Counts all keys again, and gives the keyspaces whose counts were others.
    pub(super) fn count_again(&mut self) -> Result<Vec<u32>, Error> {
        let reach = self.state.reach;
        let mut found =
            counts::count_all(&self.keys, self.ring, reach, &self.state.lags, |_| Ok(()))?;
        for entry in self.keyspaces.iter().or_store()? {
            found.entry(entry.or_store()?.0.value()).or_default();
        }
        let mut wrong = Vec::new();
        for (keyspace, found) in found {
            let kept = self.counted(keyspace)?.copied();
            if kept != Some(found) {
                wrong.push(keyspace);
                self.kept.of.entry(keyspace).or_default().now = Some(found);
            }
        }
        Ok(wrong)
    }
}
