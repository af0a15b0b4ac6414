//! What is counted of limits, at every level that a request is charged to.
//!
//! A *meter* counts the limits of one level: of an owner, or of a key with those that it
//! is rotated to. Meters live in shards, each a map under a lock. A request locks the
//! shards of all its levels, in their order, asks every limit, and counts only where
//! none refuses. So a request that one level refuses is never seen by another level, and
//! at no instant is any level over its limit. How a limit counts is
//! [`counter`](crate::model::counter)'s matter; which meters make room where there are
//! too many is [`room`]'s.

mod room;
#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::memory::hash::IdHasher;
use crate::memory::levels::LEVELS_MAX;
use crate::memory::owner_names::{Name, OwnerNames};
use crate::memory::process::{Home, lock_at_home};
use crate::model::allowances::LimitAllowance;
use crate::model::bounds::LIMITS_PER_PLAN_MAX;
use crate::model::clock::Timestamp;
use crate::model::counter::{Counted, Counter};
use crate::model::error::Error;
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::time::When;
use crate::model::verdict::Standing;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use room::{Room, Wanted};

/// How many shards there are. A request holds its locks for some tens of nanoseconds.
const SHARDS: usize = 256;
/// The most shards of a request: of its limits, and of its quotas.
const SHARDS_MAX: usize = 2 * LEVELS_MAX;

type Shard = HashMap<Name, Meter, BuildHasherDefault<IdHasher>>;

/// The shard of a name. All names of one key have the same.
fn shard_of(name: Name) -> usize {
    // Ids are in the order of time, and end in random bits; hashes are random.
    let mixed = name.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % SHARDS
}

/// The limits that hold at a level.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) limits: Box<[Limit]>,
}

impl Terms {
    /// A number of the kinds of its limits: what is counted of one is counted of another
    /// only where they have the same.
    pub(crate) fn kinds(&self) -> u64 {
        let kind = |limit: &Limit| (limit.algorithm() as u64) << 32 | u64::from(limit.window_s());
        let mix = |mixed: u64, kind: u64| (mixed ^ kind).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.limits.iter().map(kind).fold(1, mix)
    }
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
}

struct Meter {
    terms: Arc<Terms>,
    /// That of its terms.
    stamp: u64,
    counters: [Counter; LIMITS_PER_PLAN_MAX],
    /// How many counters were begun before each of them, in all meters.
    begun: [u64; LIMITS_PER_PLAN_MAX],
    /// The hash of the owner's first segment.
    organisation: u64,
    level: Level,
}

/// Why a request is not admitted.
#[derive(Debug)]
pub(crate) struct OverLimit {
    pub(crate) status: LimitStatus,
    pub(crate) retry_after: Option<Duration>,
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
    shards: Box<[Mutex<Shard>]>,
    /// How many meters there are.
    len: AtomicUsize,
    room: Room,
}

/// The locks that a request holds, of each shard once, in the order of the shards.
///
/// Large, so that it is filled where it is and not moved.
#[derive(Default)]
struct Held<'a>(ArrayVec<(usize, MutexGuard<'a, Shard>), SHARDS_MAX>);

impl Limiter {
    pub(crate) fn new(meters_max: usize) -> Self {
        Self {
            names: OwnerNames::new(),
            begun: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
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
            Asked::LacksRoom(ask) => {
                let refused = OverLimit::for_want_of_room(ask, now);
                return Ok(Charged::OverLimit(refused));
            }
        }
        if let Err(failed) = also() {
            return Ok(Charged::Failed(failed));
        }
        for ask in asks {
            if let Some(meter) = held.meter(ask.name) {
                meter.count_into(ask.level, cost, now, standing);
            }
        }
        Ok(Charged::Admitted)
    }

    /// Charges a request that has one level, as [`charge`](Self::charge) does, where that
    /// has its meter and admits it, at whichever of some instants it is, and `also` does not
    /// fail; else charges nothing, and gives `false`: `charge` then says what there is to say.
    /// One lock and one look-up.
    #[inline(always)]
    pub(crate) fn charge_one(
        &self,
        ask: &Ask<'_>,
        cost: u32,
        (when, home): (When, &Home),
        standing: &mut Option<Standing<Counted>>,
        also: impl FnOnce() -> bool,
    ) -> Result<bool, Error> {
        let Some(shard) = self.shards.get(shard_of(ask.name)) else {
            return Ok(false);
        };
        let mut shard = lock_at_home(shard, home)?;
        let Some(meter) = shard.get_mut(&ask.name) else {
            return Ok(false);
        };
        if !meter.is_steady(ask, when) {
            return Ok(false);
        }
        let now = when.first;
        meter.move_to(ask, now, &self.begun);
        let is_admitted = meter.admits(cost, now) && also();
        if is_admitted {
            meter.count_into(ask.level, cost, now, standing);
        }
        Ok(is_admitted)
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
        if let Asked::LacksRoom(_) = self.hold_meters(&mut held, names, None, now, home)? {
            self.hold(&mut held, names, home)?;
            for ask in asks {
                if let Some(meter) = held.meter(ask.name) {
                    meter.move_to(ask, now, &self.begun);
                }
            }
        }
        if let Err(failed) = also() {
            return Ok(Err(failed));
        }
        for ask in asks {
            if let Some(meter) = held.meter(ask.name) {
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
        let Some(shard) = self.shards.get(shard_of(name)) else {
            return Ok(());
        };
        if let Some(meter) = lock_at_home(shard, home)?.get_mut(&name) {
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

    /// Where a request of a cost stands, with nothing charged. What was never counted gets
    /// no meter.
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
        for ask in asks {
            let mut unused = Meter::unused(ask);
            let meter = match held.meter(ask.name) {
                Some(meter) => {
                    meter.move_to(ask, now, &self.begun);
                    meter
                }
                None => &mut unused,
            };
            let each = meter.terms.limits.iter().zip(meter.counters);
            found.extend(
                each.map(|(limit, counter)| {
                    LimitAllowance::of(counter, *limit, ask.level, cost, now)
                }),
            );
        }
        Ok(found)
    }

    /// Begins all windows anew, as a restart does.
    pub(crate) fn forget(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.len.fetch_sub(shard.len(), Ordering::Relaxed);
            shard.clear();
        }
    }

    pub(crate) fn names(&self) -> &OwnerNames {
        &self.names
    }

    /// How many meters there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Locks the shards of all levels, in their order, each once, and no others.
    fn hold<'s>(
        &'s self,
        held: &mut Held<'s>,
        (asks, locked_too): (&[Ask<'_>], &[Name]),
        home: &Home,
    ) -> Result<(), Error> {
        held.0.clear();
        let mut wanted = ArrayVec::<usize, SHARDS_MAX>::new();
        let names = asks.iter().map(|ask| ask.name);
        for name in names.chain(locked_too.iter().copied()) {
            let _: Result<(), _> = wanted.try_push(shard_of(name));
        }
        wanted.sort_unstable();
        let mut last = usize::MAX;
        for at in wanted {
            if at == last {
                continue;
            }
            if let Some(shard) = self.shards.get(at) {
                let _: Result<(), _> = held.0.try_push((at, lock_at_home(shard, home)?));
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
            self.hold(held, names, home)?;
            match self.ask(held, names.0, cost, now, has_made_room) {
                Asked::LacksRoom(ask) => {
                    // Room for one at a time would never do: the meter of one level counts
                    // nothing yet, and makes room for that of the next.
                    let mut wanted = Wanted::default();
                    for ask in names.0 {
                        match held.meter(ask.name) {
                            None => wanted.missing += 1,
                            Some(meter) if meter.is_idle(now) => wanted.idle += 1,
                            Some(_) => {}
                        }
                    }
                    held.0.clear();
                    if !self.make_room(ask, wanted, now, home)? {
                        return Ok(Asked::LacksRoom(ask));
                    }
                    has_made_room = true;
                }
                asked => return Ok(asked),
            }
        }
    }

    /// Asks the meters of all levels, whose shards are held.
    #[inline(always)]
    fn ask<'a>(
        &self,
        held: &mut Held<'_>,
        asks: &'a [Ask<'a>],
        cost: Option<u32>,
        now: Timestamp,
        has_made_room: bool,
    ) -> Asked<'a> {
        let mut refused: Option<OverLimit> = None;
        for ask in asks {
            let Some(shard) = held.shard(ask.name) else {
                return Asked::LacksRoom(ask);
            };
            let meter = match shard.get_mut(&ask.name) {
                Some(meter) => meter,
                None => match self.add(shard, ask, has_made_room) {
                    Some(meter) => meter,
                    None => return Asked::LacksRoom(ask),
                },
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

    /// Makes a level's meter where there is room.
    #[cold]
    fn add<'m>(
        &self,
        shard: &'m mut Shard,
        ask: &Ask<'_>,
        has_made_room: bool,
    ) -> Option<&'m mut Meter> {
        let len = self.len.fetch_add(1, Ordering::Relaxed);
        if !self.room.has_room(len, 1) || !has_made_room && self.room.is_sweep_due(len) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let meter = Meter::new(ask, self.names.organisation(ask.owner), &self.begun);
        Some(shard.entry(ask.name).or_insert(meter))
    }
}

/// What the limits of all levels say of a request.
enum Asked<'a> {
    Admits,
    Refuses(OverLimit),
    /// The level has no meter, and there is no room for one.
    LacksRoom(&'a Ask<'a>),
}

impl Held<'_> {
    fn shard(&mut self, name: Name) -> Option<&mut Shard> {
        let wanted = shard_of(name);
        let mut held = self.0.iter_mut();
        held.find(|(at, _)| *at == wanted)
            .map(|(_, shard)| &mut **shard)
    }

    fn meter(&mut self, name: Name) -> Option<&mut Meter> {
        self.shard(name)?.get_mut(&name)
    }
}

impl OverLimit {
    fn for_want_of_room(ask: &Ask<'_>, now: Timestamp) -> Self {
        // Within the longest of its windows, others are idle.
        let longest = ask.terms.limits.iter().max_by_key(|limit| limit.window());
        let limit = longest.copied().unwrap_or(Limit::per_hour(1));
        let retry_after = limit.window();
        Self {
            status: LimitStatus {
                limit,
                level: ask.level,
                remaining: 0,
                resets_at: now.saturating_add(retry_after),
            },
            retry_after: Some(retry_after),
        }
    }

    fn or_longer(self, other: Self) -> Self {
        let wait = |refused: &Self| refused.retry_after.unwrap_or(Duration::MAX);
        match wait(&other) > wait(&self) {
            true => other,
            false => self,
        }
    }
}

impl Meter {
    fn new(ask: &Ask<'_>, organisation: u64, begun: &AtomicU64) -> Self {
        Self {
            begun: [begun.fetch_add(1, Ordering::AcqRel); LIMITS_PER_PLAN_MAX],
            organisation,
            ..Self::unused(ask)
        }
    }

    /// One that counts nothing, to look at.
    fn unused(ask: &Ask<'_>) -> Self {
        Self {
            terms: ask.terms.clone(),
            stamp: ask.stamp,
            counters: Default::default(),
            begun: [0; LIMITS_PER_PLAN_MAX],
            organisation: 0,
            level: ask.level,
        }
    }

    /// Brings it to an instant, and to the terms of a request unless it knows newer ones.
    /// What was counted of a limit is counted of the one of its kind that takes its place.
    fn move_to(&mut self, ask: &Ask<'_>, now: Timestamp, begun: &AtomicU64) {
        let is_newer = ask.stamp > self.stamp || ask.stamp == Ask::IS_OF_ONE_KIND;
        if is_newer && !Arc::ptr_eq(&self.terms, ask.terms) {
            let begins_now = begun.fetch_add(1, Ordering::AcqRel);
            let (counters, since) = (self.counters, self.begun);
            let places = self.counters.iter_mut().zip(&mut self.begun);
            for ((counter, begun), limit) in places.zip(&ask.terms.limits) {
                let old = counters.into_iter().zip(since);
                let of_kind = self.terms.limits.iter().zip(old);
                let mut of_kind = of_kind.filter(|(known, _)| known.counts_as(*limit));
                let new = (Counter::default(), begins_now);
                (*counter, *begun) = of_kind.next().map_or(new, |(_, old)| old);
            }
            self.terms = ask.terms.clone();
        }
        self.stamp = self.stamp.max(ask.stamp);
        self.advance(now);
    }

    /// Whether a request comes to the same at all instants that may be its own.
    #[inline(always)]
    fn is_steady(&self, ask: &Ask<'_>, When { first, last }: When) -> bool {
        let Some(last) = last else { return true };
        let mut each = self.terms.limits.iter().zip(self.counters);
        Arc::ptr_eq(&self.terms, ask.terms)
            && each.all(|(limit, counter)| counter.is_steady(*limit, first, last))
    }

    fn advance(&mut self, now: Timestamp) {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            *counter = counter.moved_to(*limit, now);
        }
    }

    /// Of the limits that refuse a request, the one to wait longest for.
    fn longest_wait(&self, level: Level, cost: u32, now: Timestamp) -> Option<OverLimit> {
        let mut longest: Option<OverLimit> = None;
        for (limit, counter) in self.terms.limits.iter().zip(self.counters) {
            if cost <= counter.room(*limit, now) {
                continue;
            }
            let status = counter.status(*limit, level, now);
            let admits_at = counter.admits_at(*limit, cost.into(), now);
            let refused = OverLimit {
                status: LimitStatus {
                    resets_at: admits_at.unwrap_or(status.resets_at),
                    ..status
                },
                retry_after: admits_at.map(|at| at.saturating_since(now)),
            };
            longest = Some(match longest {
                Some(first) => first.or_longer(refused),
                None => refused,
            });
        }
        longest
    }

    /// Whether all its limits admit a request.
    fn admits(&self, cost: u32, now: Timestamp) -> bool {
        let mut each = self.terms.limits.iter().zip(self.counters);
        each.all(|(limit, counter)| counter.admits(*limit, cost, now))
    }

    fn count(&mut self, cost: u32, now: Timestamp) {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            counter.add(*limit, cost.into(), now);
        }
    }

    /// Counts a request, and takes in where that leaves its limits.
    #[inline(always)]
    fn count_into(
        &mut self,
        level: Level,
        cost: u32,
        now: Timestamp,
        standing: &mut Option<Standing<Counted>>,
    ) {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            counter.add(*limit, cost.into(), now);
            let left = counter.counted(*limit, level, now);
            match standing {
                Some(standing) => standing.take_in(left),
                None => *standing = Some(Standing::of(left)),
            }
        }
    }

    /// Of counters that were begun since it was counted, nothing is taken back.
    fn take_back(&mut self, cost: u32, counted_at: Timestamp, begun: u64) {
        let counters = self.counters.iter_mut().zip(self.begun);
        for (limit, (counter, begun_at)) in self.terms.limits.iter().zip(counters) {
            if begun_at < begun {
                counter.take_back(*limit, cost.into(), counted_at);
            }
        }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        let each = self.terms.limits.iter().zip(self.counters);
        each.into_iter()
            .all(|(limit, counter)| counter.is_idle(*limit, now))
    }
}
