//! Room for meters: how many there may be, and who makes way.
//!
//! Meters in which nothing counts any more go first; a window is an hour at most, so that
//! all others go within two, but for buckets, which go once they have drained: one that a
//! settlement has filled far beyond its burst takes as long as that. Where there are still
//! too many, each organisation (the first segment of an owner's path) has an equal share:
//! one that is below its share gets a place, for which those that are above theirs lose a
//! few meters, but never the organisation's own: those of keys before those of owners, of
//! owners the longest paths first, and of one level those that would be idle first, in which
//! the least counts on. One that is above its share is refused. A request that needs several
//! gets all of them or none. So no owner can crowd out another, however many keys it has, and
//! what is refused or counted anew is told ([`Limiter::crowding`]). The meter of a key goes
//! with the last key of its lineage ([`Limiter::free`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use arrayvec::ArrayVec;

use super::{Ask, Entry, Limiter, Meter, Name, shard_of};
use crate::memory::levels::LEVELS_MAX;
use crate::memory::process::{Home, lock_at_home};
use crate::memory::sweep::Sweeps;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::limit::Level;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Room {
    meters_max: usize,
    sweeps: Sweeps,
    /// Held by who makes room, so that one does.
    making: Mutex<Shares>,
    refused: AtomicU64,
    evicted: AtomicU64,
}

/// How many meters each organisation had when they were last counted, and its share.
#[derive(Default)]
struct Shares {
    counted_at_ms: u64,
    counts: HashMap<u64, usize>,
    share: usize,
    /// Of those that were refused since then, the meters that are idle first.
    openings: HashMap<u64, OpeningsOf>,
}

/// Of an organisation's own meters, and of all.
#[derive(Default)]
struct OpeningsOf {
    own: Openings,
    all: Openings,
}

/// Those of some meters that are idle first, in their order: as many as a request can lack, and
/// as many again that may be its own.
type Openings = ArrayVec<(Timestamp, Name), { 2 * LEVELS_MAX }>;

/// The meters that a request lacks, and those of its own that it would lose with the idle
/// ones.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) missing: usize,
    pub(super) idle: usize,
}

/// Of how many organisations it is known which meters are idle first.
const OPENINGS_MAX: usize = 1_024;

/// For how long a count serves to refuse those who were above their share.
const RECOUNT_MS: u64 = 1_000;

/// Adds a meter to those that are idle first.
fn keep_first(first: &mut Openings, idle_at: Timestamp, name: Name) {
    let place = first.partition_point(|other| *other <= (idle_at, name));
    if place < first.capacity() {
        if first.is_full() {
            first.pop();
        }
        first.insert(place, (idle_at, name));
    }
}

impl Room {
    pub(super) fn new(meters_max: usize) -> Self {
        Self {
            meters_max,
            sweeps: Sweeps::new(meters_max),
            making: Mutex::default(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Whether there may be so many more.
    pub(super) fn has_room(&self, len: usize, wanted: usize) -> bool {
        len + wanted <= self.meters_max
    }

    /// Counts a request that is refused since there is no room to count it.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there are so many more than lately that those which are idle are to go.
    pub(super) fn is_sweep_due(&self, len: usize) -> bool {
        self.sweeps.is_due(len)
    }
}

impl Limiter {
    /// How many requests were refused since there was no room to count them, and how many
    /// meters made way that still counted.
    pub(crate) fn crowding(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.room.refused), read(&self.room.evicted))
    }

    /// Gives the place of a meter back that nothing is charged to any more, if there is one.
    pub(crate) fn free(&self, name: Name, home: &Home) -> Result<(), Error> {
        let Some(shard) = self.shards.get(shard_of(name)) else {
            return Ok(());
        };
        let mut shard = lock_at_home(shard, home)?;
        if let Some(entry) = shard.get(&name)
            && !self.keeps(entry, home, &mut |_, _| false)?
        {
            shard.remove(&name);
        }
        Ok(())
    }

    /// Makes room for the meters of a level and of others of its request, of all of which the
    /// levels are given. Where there is none for all of them, gives the instant from which on
    /// there is, unless others take it.
    pub(super) fn make_room(
        &self,
        (ask, asks): (&Ask<'_>, &[Ask<'_>]),
        wanted: Wanted,
        now: Timestamp,
        home: &Home,
    ) -> Result<Option<Timestamp>, Error> {
        let mut shares = lock_at_home(&self.room.making, home)?;
        let room = &self.room;
        let mut places = wanted.missing;
        if room.has_room(self.len(), places) && !room.is_sweep_due(self.len()) {
            return Ok(None);
        }
        // Where nothing was idle a moment ago, nothing is.
        if !room.sweeps.is_paused(now) {
            let before = self.len();
            self.retain(home, |_, meter| !meter.is_idle(now))?;
            places += wanted.idle;
            if self.len() == before {
                room.sweeps.pause(now);
            }
        }
        room.sweeps.left(self.len());
        let has_room = || room.has_room(self.len(), places);
        if has_room() || self.evict(ask, &mut shares, now, home)? && has_room() {
            return Ok(None);
        }
        room.refuse();
        let opens_at = self.opens_at((ask, asks), places, &mut shares, now, home);
        opens_at.map(Some)
    }

    /// When so many places are free for an asker: as its organisation's own meters are idle, or
    /// whosever, where it has too few. Those of the request itself free no place for it.
    fn opens_at(
        &self,
        (ask, asks): (&Ask<'_>, &[Ask<'_>]),
        places: usize,
        shares: &mut Shares,
        now: Timestamp,
        home: &Home,
    ) -> Result<Timestamp, Error> {
        let organisation = self.names.organisation(ask.owner);
        let is_own = |name: Name| asks.iter().any(|ask| ask.name == name);
        let of_others = |openings: &Openings| openings.iter().filter(|at| !is_own(at.1)).count();
        let choose = |known: &OpeningsOf| match of_others(&known.own) >= places {
            true => known.own.clone(),
            false => known.all.clone(),
        };
        let is_ahead = |known: &Openings| known.first().is_some_and(|(first, _)| *first > now);
        let known = shares.openings.get(&organisation).map(choose);
        let openings = match known.filter(is_ahead) {
            Some(known) => known,
            None => {
                let mut found = OpeningsOf::default();
                self.each_idle_at((now, home), |entry, idle_at, name| {
                    let idle_at = idle_at()?;
                    keep_first(&mut found.all, idle_at, name);
                    if entry.organisation == organisation {
                        keep_first(&mut found.own, idle_at, name);
                    }
                    Ok(())
                })?;
                if shares.openings.len() >= OPENINGS_MAX {
                    shares.openings.clear();
                }
                let chosen = choose(&found);
                shares.openings.insert(organisation, found);
                chosen
            }
        };
        // What was counted since then may have put it off: another may be idle before, and none
        // of these is idle later than what is told.
        let mut opens_at: ArrayVec<Timestamp, { 2 * LEVELS_MAX }> = ArrayVec::new();
        for (idle_at, name) in openings {
            if !is_own(name) {
                let known = self.idle_at(name, now, home)?;
                opens_at.push(known.map_or(idle_at, |known| known.max(idle_at)));
            }
        }
        opens_at.sort_unstable();
        let last = places.clamp(1, opens_at.len().max(1)) - 1;
        let idle_at = opens_at.get(last).copied().unwrap_or(now);
        // Those that look for idle ones may just have found none.
        Ok(idle_at.saturating_add(Sweeps::PAUSE))
    }

    /// When the meter of a name is idle, if it has one.
    fn idle_at(&self, name: Name, now: Timestamp, home: &Home) -> Result<Option<Timestamp>, Error> {
        let Some(line) = self.find(name, home)? else {
            return Ok(None);
        };
        let meter = lock_at_home(&line.meter, home)?;
        let meter = meter.as_ref().filter(|_| line.is(name));
        Ok(meter.map(|meter| meter.idle_at(now)))
    }

    fn retain(
        &self,
        home: &Home,
        mut keep: impl FnMut(&Entry, &Meter) -> bool,
    ) -> Result<(), Error> {
        for shard in &self.shards {
            let mut shard = lock_at_home(shard, home)?;
            let mut walked = Ok(());
            shard.retain(|_, entry| match self.keeps(entry, home, &mut keep) {
                Ok(is_kept) => is_kept,
                Err(error) => {
                    walked = Err(error);
                    true
                }
            });
            walked?;
        }
        Ok(())
    }

    /// Whether a meter is to be kept, whose shard is held. Else its place is free then.
    fn keeps(
        &self,
        entry: &Entry,
        home: &Home,
        keep: &mut impl FnMut(&Entry, &Meter) -> bool,
    ) -> Result<bool, Error> {
        let Some(line) = self.lines.get(entry.place) else {
            return Ok(true);
        };
        let mut meter = lock_at_home(&line.meter, home)?;
        let is_kept = meter.as_ref().is_some_and(|meter| keep(entry, meter));
        if !is_kept {
            line.clear(&mut meter);
            // In this order: where there are fewer than there may be, there is a place.
            self.lines.give_back_at_home(entry.place, home)?;
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(is_kept)
    }

    /// Lets organisations that have more than their share lose some meters; `false` where
    /// that is the asker's own.
    fn evict(
        &self,
        ask: &Ask<'_>,
        shares: &mut Shares,
        now: Timestamp,
        home: &Home,
    ) -> Result<bool, Error> {
        let organisation = self.names.organisation(ask.owner);
        let own = |shares: &Shares| shares.counts.get(&organisation).copied().unwrap_or(0);
        // Else each refusal would walk all meters.
        if now.unix_ms().abs_diff(shares.counted_at_ms) < RECOUNT_MS && own(shares) >= shares.share
        {
            return Ok(false);
        }
        shares.counts.clear();
        shares.openings.clear();
        for shard in &self.shards {
            for entry in lock_at_home(shard, home)?.values() {
                *shares.counts.entry(entry.organisation).or_default() += 1;
            }
        }
        let target = self.room.meters_max - (self.room.meters_max / 16).clamp(1, 4_096);
        let counts = shares.counts.values().copied().collect();
        shares.share = share_of(counts, target, own(shares) == 0);
        shares.counted_at_ms = now.unix_ms();
        if own(shares) >= shares.share {
            return Ok(false);
        }
        // Of each that has more, what is beyond its share.
        let share = shares.share;
        let beyond = (shares.counts.iter()).filter(|(_, count)| **count > share);
        let mut going: HashMap<u64, (usize, BinaryHeap<_>)> = beyond
            .map(|(organisation, count)| (*organisation, (count - share, BinaryHeap::new())))
            .collect();
        self.each_idle_at((now, home), |entry, idle_at, name| {
            if let Some((beyond, first)) = going.get_mut(&entry.organisation)
                && entry.level != Level::Owner(1)
            {
                first.push((Reverse(entry.level), idle_at()?, name));
                if first.len() > *beyond {
                    first.pop();
                }
            }
            Ok(())
        })?;
        let before = self.len();
        for (.., name) in going.into_values().flat_map(|(_, first)| first) {
            self.free(name, home)?;
        }
        let evicted = before.saturating_sub(self.len());
        let counted = u64::try_from(evicted).unwrap_or(u64::MAX);
        self.room.evicted.fetch_add(counted, Ordering::Relaxed);
        Ok(evicted > 0)
    }

    /// Lends each meter's entry and name, and when it is idle, to be worked out.
    fn each_idle_at(
        &self,
        (now, home): (Timestamp, &Home),
        mut each: impl FnMut(&Entry, &dyn Fn() -> Result<Timestamp, Error>, Name) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for shard in &self.shards {
            for (name, entry) in lock_at_home(shard, home)?.iter() {
                if let Some(line) = self.lines.get(entry.place) {
                    let idle_at = || {
                        let meter = lock_at_home(&line.meter, home)?;
                        Ok(meter.as_ref().map_or(now, |meter| meter.idle_at(now)))
                    };
                    each(entry, &idle_at, *name)?;
                }
            }
        }
        Ok(())
    }
}

/// The share of each organisation, given how many meters each has, for all together to
/// have at most `target`; of one more organisation than there are, where one is new.
pub(super) fn share_of(mut counts: Vec<usize>, target: usize, is_one_new: bool) -> usize {
    if is_one_new {
        counts.push(1);
    }
    counts.sort_unstable();
    let mut left = target;
    let mut others = counts.len();
    for count in counts {
        let share = left / others.max(1);
        if count >= share {
            return share.max(1);
        }
        left -= count;
        others -= 1;
    }
    usize::MAX
}
