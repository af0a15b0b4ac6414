//! What is counted of limits, at every level that a request is charged to.
//!
//! A *meter* counts the limits of one level: of an owner, or of a key with those that it
//! is rotated to. Meters stand in a slab, each under a lock. A request locks the meters of
//! all its levels, asks every limit from the shortest path to the key, and counts only where
//! none refuses. So a request that one level refuses is never seen by another level, and
//! at no instant is any level over its limit. How a limit counts is
//! [`counter`](crate::model::counter)'s matter; which meters make room where there are
//! too many is [`room`]'s.
//!
//! Which place a name has is known to shards, each a map under a lock, and as a rule to a
//! hint. A place may be another's by the time that it is locked, so that whoever locks it
//! looks whether its name is still there. Locks are taken in this order: a shard, then
//! gates, then places in the order in which they stand, whatever stands there by then.

mod meter;
mod room;
#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod shares;
mod terms;
#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::memory::hash::IdHasher;
use crate::memory::hints::Hints;
use crate::memory::levels::LEVELS_MAX;
use crate::memory::owner_names::{Name, OwnerNames};
use crate::memory::process::{Home, lock_at_home};
use crate::memory::slab::Slab;
use crate::memory::sweep::Sweeps;
use crate::model::allowances::LimitAllowance;
use crate::model::clock::Timestamp;
use crate::model::counter::Counted;
use crate::model::error::Error;
use crate::model::limit::Level;
use crate::model::time::When;
use crate::model::verdict::{Standing, Stands};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
pub(crate) use meter::OverLimit;
use meter::{Line, Meter};
use room::{Room, Wanted};
pub(crate) use terms::Terms;

/// How many shards there are, and how many gates.
const SHARDS: usize = 256;

type Shard = HashMap<Name, Entry, BuildHasherDefault<IdHasher>>;

/// A meter, as its shard knows it.
struct Entry {
    place: usize,
    /// The hash of the owner's first segment.
    organisation: u64,
    level: Level,
}

/// The shard of a name. All names of one key have the same.
fn shard_of(name: Name) -> usize {
    // Ids are in the order of time, and end in random bits; hashes are random.
    let mixed = name.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % SHARDS
}

/// One level of a request.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) name: Name,
    pub(crate) level: Level,
    pub(crate) terms: &'a Arc<Terms>,
    /// Of two terms of a level the later ones have the higher. A request that knows only
    /// older terms is counted under the newer, so that no change of terms is followed by a
    /// change back, which would lose what was counted in between.
    pub(crate) stamp: u64,
    /// Whose first segment says whose share of the meters it takes.
    pub(crate) owner: &'a [u8],
}

impl Ask<'_> {
    /// The stamp where all terms of a meter are of the same kinds, so that no change of
    /// them loses a count, and each request is counted under those that it knows.
    pub(crate) const IS_OF_ONE_KIND: u64 = u64::MAX;

    /// The same, as a meter knows it that has counted for these terms.
    pub(crate) fn known(&self) -> Known<'_> {
        Known {
            name: self.name,
            level: self.level,
            stamp: self.stamp,
            terms: Some(self.terms),
        }
    }
}

/// A level of a request, where its terms need not be asked for: they are those that its meter
/// counts for, if it has the stamp, or counts for just these.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) name: Name,
    pub(crate) level: Level,
    pub(crate) stamp: u64,
    /// Where the stamp does not say which.
    pub(crate) terms: Option<&'a Arc<Terms>>,
}

/// What charging a request came to.
pub(crate) enum Charged<E> {
    Admitted,
    /// Charged to nothing.
    OverLimit(OverLimit),
    /// Charged to nothing: what was to be done with it failed.
    Failed(E),
}

pub(crate) struct Limiter {
    names: OwnerNames,
    /// How many counters were begun.
    begun: AtomicU64,
    lines: Slab<Line>,
    hints: Hints,
    shards: Box<[Mutex<Shard>]>,
    /// For levels that have something else than limits.
    gates: Box<[Mutex<()>]>,
    /// How many meters there are.
    len: AtomicUsize,
    room: Room,
}

/// The locks that a request holds, in their order.
///
/// Large, so that it is filled where it is and not moved.
#[derive(Default)]
struct Held<'a> {
    gates: ArrayVec<MutexGuard<'a, ()>, LEVELS_MAX>,
    /// Of each of its levels the meter, if it has one.
    lines: ArrayVec<Option<MutexGuard<'a, Option<Meter>>>, LEVELS_MAX>,
}

/// Where the meters of a request's levels stand.
type Found<'a> = ArrayVec<Option<&'a Line>, LEVELS_MAX>;

/// Where a place stands among all.
fn stands_at(line: &Line) -> usize {
    std::ptr::from_ref(line).addr()
}

impl Limiter {
    pub(crate) fn new(meters_max: usize) -> Self {
        Self {
            names: OwnerNames::new(),
            begun: AtomicU64::new(0),
            lines: Slab::new(meters_max),
            hints: Hints::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            gates: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            room: Room::new(meters_max),
        }
    }

    /// Charges a request to the limits of all its levels, or to none. Where all admit it,
    /// `also` is called, and where that fails nothing is charged. `now` is the clock's.
    /// `standing` is where that leaves its limits, if it has any.
    ///
    /// The levels are those of one owner's path, the shortest first, and the key.
    /// `locked_too`: levels that have something else, which `also` changes: two requests
    /// that have one of them call it one after the other.
    pub(crate) fn charge<E>(
        &self,
        (asks, locked_too): (&[Ask<'_>], &[Name]),
        cost: u32,
        (now, home): (Timestamp, &Home),
        standing: &mut Option<Standing<Counted>>,
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Charged<E>, Error> {
        let mut held = Held::default();
        let names = (asks, locked_too);
        match self.hold_meters(&mut held, names, Some(cost), now, home)? {
            Asked::Admits => {}
            Asked::Refuses(refused) => return Ok(Charged::OverLimit(refused)),
            // Fail closed: what cannot be counted is not let through.
            Asked::LacksRoom(ask, opens_at) => {
                let refused = OverLimit::for_want_of_room(ask, opens_at, now);
                return Ok(Charged::OverLimit(refused));
            }
        }
        if let Err(failed) = also() {
            return Ok(Charged::Failed(failed));
        }
        for (at, ask) in asks.iter().enumerate() {
            if let Some(meter) = held.meter(at) {
                meter.count_into(ask.level, cost, now, standing);
            }
        }
        Ok(Charged::Admitted)
    }

    /// Has what [`charge_one`](Self::charge_one) will need of a name fetched from memory, and
    /// does not wait for it.
    #[inline(always)]
    pub(crate) fn touch(&self, first: u64) {
        if let Some(line) = self.hints.get(first).and_then(|at| self.lines.get(at)) {
            line.touch();
        }
    }

    /// Charges a request that has one level, as [`charge`](Self::charge) does, where a hint
    /// leads to its meter, and that admits it, at whichever of some instants it is, and
    /// `also` does not fail; else charges nothing, and gives `false`: `charge` then says what
    /// there is to say. One lock. `None`: no hint leads there, or what counts there is not what
    /// the request is known to be counted under.
    #[inline(always)]
    pub(crate) fn charge_one(
        &self,
        known: &Known<'_>,
        cost: u32,
        (when, home): (When, &Home),
        stands: &mut Stands,
        also: impl FnOnce() -> bool,
    ) -> Result<Option<bool>, Error> {
        let Some(line) = self.hinted(known.name) else {
            return Ok(None);
        };
        let mut meter = lock_at_home(&line.meter, home)?;
        let Some(meter) = meter.as_mut().filter(|_| line.is(known.name)) else {
            return Ok(None);
        };
        if !meter.is_for(known) {
            return Ok(None);
        }
        let Some(charged) = meter.charged(cost, when).filter(|_| also()) else {
            return Ok(Some(false));
        };
        meter.put(charged);
        meter.note_stamp_of(known);
        *stands = meter.stands(known.level, when.first);
        Ok(Some(true))
    }

    /// Charges a request to all its levels, or to none, where hints lead to the meters of all,
    /// which admit it at whichever of some instants it is, and `also` does not fail; else
    /// gives `false`, as [`charge_one`](Self::charge_one) does. Lets [`touch`](Self::touch) of
    /// a number fetch the meter of the last.
    #[inline(always)]
    pub(crate) fn charge_steadily(
        &self,
        levels: &[Known<'_>],
        cost: u32,
        (when, home): (When, &Home),
        (stands, number): (&mut Stands, u64),
        also: impl FnOnce() -> bool,
    ) -> Result<bool, Error> {
        let mut found: ArrayVec<(&Known<'_>, &Line), LEVELS_MAX> = ArrayVec::new();
        let mut place = None;
        for known in levels {
            place = self.hints.get(known.name.0);
            // Before any of them is locked: what is fetched then waits for the lock.
            match self.line_of(known.name, place) {
                Some(line) => found.push((known, line)),
                None => return Ok(false),
            }
        }
        found.sort_unstable_by_key(|(_, line)| stands_at(line));
        let places = found.iter().map(|(_, line)| stands_at(line));
        if !places.is_sorted_by(|one, next| one < next) {
            return Ok(false);
        }
        let mut standing = None;
        if !Self::charge_rest(&found, cost, (when, home), &mut standing, also)? {
            return Ok(false);
        }
        *stands = standing.into();
        if let Some(place) = place
            && self.hints.get(number) != Some(place)
        {
            self.hints.add(number, place);
        }
        Ok(true)
    }

    /// The same, of the meters that are left to lock, in the order in which they stand.
    fn charge_rest(
        found: &[(&Known<'_>, &Line)],
        cost: u32,
        (when, home): (When, &Home),
        standing: &mut Option<Standing<Counted>>,
        also: impl FnOnce() -> bool,
    ) -> Result<bool, Error> {
        let [(known, line), rest @ ..] = found else {
            return Ok(also());
        };
        let mut guard = lock_at_home(&line.meter, home)?;
        let Some(meter) = guard.as_mut().filter(|_| line.is(known.name)) else {
            return Ok(false);
        };
        if !meter.is_for(known) {
            return Ok(false);
        }
        let Some(charged) = meter.charged(cost, when) else {
            return Ok(false);
        };
        if !Self::charge_rest(rest, cost, (when, home), standing, also)? {
            return Ok(false);
        }
        meter.put(charged);
        meter.note_stamp_of(known);
        meter.stand_into(known.level, when.first, standing);
        Ok(true)
    }

    /// Counts what an earlier request cost beyond what it was charged. Asks no limit: what
    /// was used was used. Where there is no room to count it at a level, it is not counted
    /// there. Where `also` fails, nothing is charged.
    pub(crate) fn charge_beyond<E>(
        &self,
        (asks, locked_too): (&[Ask<'_>], &[Name]),
        cost: u32,
        (now, home): (Timestamp, &Home),
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let mut held = Held::default();
        let names = (asks, locked_too);
        if let Asked::LacksRoom(..) = self.hold_meters(&mut held, names, None, now, home)? {
            self.hold(&mut held, names, home)?;
            for (at, ask) in asks.iter().enumerate() {
                if let Some(meter) = held.meter(at) {
                    meter.move_to(ask, now, &self.begun);
                }
            }
        }
        if let Err(failed) = also() {
            return Ok(Err(failed));
        }
        for at in 0..asks.len() {
            if let Some(meter) = held.meter(at) {
                meter.count(cost, now);
            }
        }
        Ok(Ok(()))
    }

    /// Takes back what a meter counted at an instant, before which so many counters were
    /// [begun](Self::begun), as far as it still counts.
    pub(crate) fn take_back(
        &self,
        name: Name,
        cost: u32,
        (counted_at, begun): (Timestamp, u64),
        now: Timestamp,
        home: &Home,
    ) -> Result<(), Error> {
        let Some(line) = self.find(name, home)? else {
            return Ok(());
        };
        let mut meter = lock_at_home(&line.meter, home)?;
        if let Some(meter) = meter.as_mut().filter(|_| line.is(name)) {
            meter.advance(now);
            meter.take_back(cost, counted_at, begun);
        }
        Ok(())
    }

    /// How many counters were begun so far: to be asked where a request is charged, while
    /// its meters are held, for [`take_back`](Self::take_back).
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Where a request of a cost stands, with nothing changed.
    pub(crate) fn look(
        &self,
        asks: &[Ask<'_>],
        cost: u32,
        now: Timestamp,
        home: &Home,
    ) -> Result<Vec<LimitAllowance>, Error> {
        let mut held = Held::default();
        self.hold(&mut held, (asks, &[]), home)?;
        let mut found = Vec::new();
        for (at, ask) in asks.iter().enumerate() {
            let known = held.meter(at).map(|meter| meter.clone());
            let mut meter = known.unwrap_or_else(|| Meter::unused(ask));
            meter.move_to(ask, now, &self.begun);
            found.extend(
                (meter.each()).map(|(limit, counter)| {
                    LimitAllowance::of(counter, *limit, ask.level, cost, now)
                }),
            );
        }
        Ok(found)
    }

    /// Begins all windows anew, as a restart does.
    pub(crate) fn forget(&self) {
        for shard in &self.shards {
            for (_, entry) in lock(shard).drain() {
                if let Some(line) = self.lines.get(entry.place) {
                    line.clear(&mut lock(&line.meter));
                    self.lines.give_back(entry.place);
                    self.len.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    pub(crate) fn names(&self) -> &OwnerNames {
        &self.names
    }

    /// How many meters there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Where the meter of a name stands, if a hint leads there.
    #[inline(always)]
    fn hinted(&self, name: Name) -> Option<&Line> {
        self.line_of(name, self.hints.get(name.0))
    }

    /// What stands at a place, if that is the meter of a name.
    #[inline(always)]
    fn line_of(&self, name: Name, place: Option<usize>) -> Option<&Line> {
        let line = self.lines.get(place?)?;
        line.is(name).then_some(line)
    }

    /// Where the meter of a name stands. Takes no lock while a place is held.
    #[inline]
    fn find(&self, name: Name, home: &Home) -> Result<Option<&Line>, Error> {
        match self.hinted(name) {
            Some(line) => Ok(Some(line)),
            None => self.find_in_shard(name, home),
        }
    }

    /// Whether a name has a meter.
    pub(crate) fn has(&self, name: Name, home: &Home) -> Result<bool, Error> {
        Ok(self.find(name, home)?.is_some())
    }

    #[cold]
    fn find_in_shard(&self, name: Name, home: &Home) -> Result<Option<&Line>, Error> {
        let Some(shard) = self.shards.get(shard_of(name)) else {
            return Ok(None);
        };
        let place = lock_at_home(shard, home)?
            .get(&name)
            .map(|entry| entry.place);
        if let Some(place) = place {
            self.hints.set(name.0, place, self.len());
        }
        Ok(place.and_then(|place| self.lines.get(place)))
    }

    /// Locks the gates and the meters of all levels, in their order, and no others.
    fn hold<'s>(
        &'s self,
        held: &mut Held<'s>,
        (asks, locked_too): (&[Ask<'_>], &[Name]),
        home: &Home,
    ) -> Result<(), Error> {
        loop {
            let mut found = Found::new();
            for ask in asks {
                found.push(self.find(ask.name, home)?);
            }
            if self.lock_found(held, &found, (asks, locked_too), home)? {
                return Ok(());
            }
        }
    }

    /// Locks the meters that were found; `false`, and none, where one is another's by now.
    fn lock_found<'s>(
        &'s self,
        held: &mut Held<'s>,
        found: &Found<'s>,
        (asks, locked_too): (&[Ask<'_>], &[Name]),
        home: &Home,
    ) -> Result<bool, Error> {
        if !locked_too.is_empty() {
            self.lock_gates(held, locked_too, home)?;
        }
        held.lines.extend(found.iter().map(|_| None));
        let there = found.iter().enumerate();
        let mut order: ArrayVec<_, LEVELS_MAX> = there
            .filter_map(|(at, line)| Some((stands_at((*line)?), at)))
            .collect();
        order.sort_unstable();
        let mut last = None;
        for (stands, at) in order {
            let (Some(Some(line)), Some(ask)) = (found.get(at), asks.get(at)) else {
                continue;
            };
            let is_free = last.replace(stands) != Some(stands);
            if is_free && let Some(place) = held.lines.get_mut(at) {
                *place = Some(lock_at_home(&line.meter, home)?);
            }
            if !is_free || !line.is(ask.name) {
                held.clear();
                // Whoever asks looks again, and in a child of a fork that may never end.
                home.refuse_fork()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lock_gates<'s>(
        &'s self,
        held: &mut Held<'s>,
        names: &[Name],
        home: &Home,
    ) -> Result<(), Error> {
        let mut wanted: ArrayVec<usize, LEVELS_MAX> = ArrayVec::new();
        for name in names {
            let _: Result<(), _> = wanted.try_push(shard_of(*name));
        }
        wanted.sort_unstable();
        let mut last = usize::MAX;
        for at in wanted {
            if let Some(gate) = self.gates.get(at).filter(|_| at != last) {
                let _: Result<(), _> = held.gates.try_push(lock_at_home(gate, home)?);
            }
            last = at;
        }
        Ok(())
    }

    /// The same, where each level has its meter then, which is made where there is room, and
    /// is moved to the instant and to the level's terms. Says whether all admit a cost, if one
    /// is given.
    fn hold_meters<'s, 'a>(
        &'s self,
        held: &mut Held<'s>,
        names: (&'a [Ask<'a>], &[Name]),
        cost: Option<u32>,
        now: Timestamp,
        home: &Home,
    ) -> Result<Asked<'a>, Error> {
        let mut has_made_room = false;
        loop {
            let mut found = Found::new();
            match self.find_or_make(&mut found, names.0, has_made_room, home)? {
                None if self.lock_found(held, &found, names, home)? => {
                    return Ok(self.ask(held, names.0, cost, now));
                }
                None => {}
                Some(ask) => {
                    if !self.room.has_room(0, names.0.len()) {
                        self.room.refuse();
                        return Ok(Asked::LacksRoom(ask, None));
                    }
                    // Room for one at a time would never do: the meter of one level counts
                    // nothing yet, and makes room for that of the next.
                    let mut wanted = Wanted::default();
                    for ask in names.0 {
                        match self.find(ask.name, home)? {
                            None => wanted.missing += 1,
                            Some(line) => {
                                let meter = lock_at_home(&line.meter, home)?;
                                let is_idle = meter.as_ref().is_none_or(|meter| meter.is_idle(now));
                                wanted.idle += usize::from(is_idle);
                            }
                        }
                    }
                    if let Some(opens_at) = self.make_room((ask, names.0), wanted, now, home)? {
                        return Ok(Asked::LacksRoom(ask, Some(opens_at)));
                    }
                    has_made_room = true;
                }
            }
        }
    }

    /// Finds where the meters of all levels stand, and makes those that are missing; gives the
    /// first for which there is no room.
    fn find_or_make<'s, 'a>(
        &'s self,
        found: &mut Found<'s>,
        asks: &'a [Ask<'a>],
        has_made_room: bool,
        home: &Home,
    ) -> Result<Option<&'a Ask<'a>>, Error> {
        for ask in asks {
            let line = match self.find(ask.name, home)? {
                Some(line) => Some(line),
                None => self.make(ask, has_made_room, home)?,
            };
            if line.is_none() {
                return Ok(Some(ask));
            }
            found.push(line);
        }
        Ok(None)
    }

    /// Asks the meters of all levels, which are held.
    #[inline(always)]
    fn ask<'a>(
        &self,
        held: &mut Held<'_>,
        asks: &'a [Ask<'a>],
        cost: Option<u32>,
        now: Timestamp,
    ) -> Asked<'a> {
        let mut refused: Option<OverLimit> = None;
        for (at, ask) in asks.iter().enumerate() {
            let Some(meter) = held.meter(at) else {
                return Asked::LacksRoom(ask, Some(now.saturating_add(Sweeps::PAUSE)));
            };
            meter.move_to(ask, now, &self.begun);
            let Some(cost) = cost else { continue };
            if !meter.admits(cost, now) {
                let longest = meter.longest_wait(ask.level, cost, now);
                refused = match (refused, longest) {
                    (Some(first), Some(other)) => Some(first.or_longer(other)),
                    (first, other) => first.or(other),
                };
            }
        }
        refused.map_or(Asked::Admits, Asked::Refuses)
    }

    /// Makes a level's meter where there is room, unless another just has.
    #[cold]
    fn make(
        &self,
        ask: &Ask<'_>,
        has_made_room: bool,
        home: &Home,
    ) -> Result<Option<&Line>, Error> {
        let Some(shard) = self.shards.get(shard_of(ask.name)) else {
            return Ok(None);
        };
        let mut shard = lock_at_home(shard, home)?;
        if let Some(known) = shard.get(&ask.name) {
            return Ok(self.lines.get(known.place));
        }
        let may_be_made = |len| {
            let is_sweep_due = !has_made_room && self.room.is_sweep_due(len);
            (self.room.has_room(len, 1) && !is_sweep_due).then_some(len + 1)
        };
        // Never more than there may be, not for a moment: whoever looks would find them.
        let counted = (self.len).fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_be_made);
        let Ok(len) = counted else {
            return Ok(None);
        };
        let Some(place) = self.lines.take_at_home(home)? else {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        };
        let line = place.get();
        let mut meter = lock_at_home(&line.meter, home)?;
        *meter = Some(Meter::new(ask, &self.begun));
        line.name(ask.name);
        drop(meter);
        let entry = Entry {
            place: place.number,
            organisation: self.names.organisation(ask.owner),
            level: ask.level,
        };
        shard.insert(ask.name, entry);
        self.hints.set(ask.name.0, place.number, len);
        Ok(self.lines.get(place.number))
    }
}

/// What the limits of all levels say of a request.
enum Asked<'a> {
    Admits,
    Refuses(OverLimit),
    /// The level has no meter, and there is no room for one before an instant, or never.
    LacksRoom(&'a Ask<'a>, Option<Timestamp>),
}

impl Held<'_> {
    fn clear(&mut self) {
        self.lines.clear();
        self.gates.clear();
    }

    /// The meter of the level at a place of the request's.
    #[inline(always)]
    fn meter(&mut self, level: usize) -> Option<&mut Meter> {
        self.lines.get_mut(level)?.as_mut()?.as_mut()
    }
}
