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

use crate::memory::hash::IdHasher;
use crate::memory::levels::{LEVELS_MAX, PerLevel};
use crate::memory::owner_names::{Name, OwnerNames};
use crate::memory::process::{Home, lock_at_home};
use crate::model::allowances::LimitAllowance;
use crate::model::bounds::LIMITS_PER_PLAN_MAX;
use crate::model::clock::Timestamp;
use crate::model::counter::Counter;
use crate::model::error::Error;
use crate::model::limit::{Level, Limit, LimitStatus};
use crate::model::verdict::Standing;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use room::Room;

/// How many shards there are. A request holds its locks for some tens of nanoseconds.
const SHARDS: usize = 256;
/// The most shards of a request: of its limits, and of its quotas.
const SHARDS_MAX: usize = 2 * LEVELS_MAX;

type Shard = HashMap<Name, Meter, BuildHasherDefault<IdHasher>>;

/// The shard of a name.
fn shard_of(name: Name) -> usize {
    // Ids are in the order of time, and end in random bits; hashes are random.
    let mixed = (name.0 ^ name.1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
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
    /// With where that leaves its limits, if it has any.
    Admitted(Option<Standing>),
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
struct Held<'a> {
    guards: [Option<(usize, MutexGuard<'a, Shard>)>; SHARDS_MAX],
    len: usize,
}

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
    ///
    /// The levels are those of one owner's path, the shortest first, and the key.
    /// `locked_too`: levels that have something else, which `also` changes: two requests
    /// that have one of them call it one after the other.
    pub(crate) fn charge<E>(
        &self,
        asks: &PerLevel<Ask<'_>>,
        locked_too: &PerLevel<Name>,
        cost: u32,
        now: Timestamp,
        home: &Home,
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Charged<E>, Error> {
        let mut held = Held::none();
        if let Err(missing) = self.hold_all(&mut held, asks, locked_too, now, home)? {
            // Fail closed: what cannot be counted is not let through.
            let refused = OverLimit::for_want_of_room(&missing, now);
            return Ok(Charged::OverLimit(refused));
        }
        let mut refused: Option<OverLimit> = None;
        for ask in asks.iter() {
            let Some(meter) = held.meter(&ask) else {
                continue;
            };
            meter.move_to(&ask, now, &self.begun);
            let longest = meter.longest_wait(ask.level, cost, now);
            refused = match (refused, longest) {
                (Some(first), Some(other)) => Some(first.or_longer(other)),
                (first, other) => first.or(other),
            };
        }
        if let Some(refused) = refused {
            return Ok(Charged::OverLimit(refused));
        }
        if let Err(failed) = also() {
            return Ok(Charged::Failed(failed));
        }
        let mut standing: Option<Standing> = None;
        for ask in asks.iter() {
            if let Some(meter) = held.meter(&ask) {
                standing = meter.count(ask.level, cost, now, standing);
            }
        }
        Ok(Charged::Admitted(standing))
    }

    /// Counts what an earlier request cost beyond what it was charged. Asks no limit: what
    /// was used was used. Where there is no room to count it at a level, it is not counted
    /// there. Where `also` fails, nothing is charged.
    pub(crate) fn charge_beyond<E>(
        &self,
        asks: &PerLevel<Ask<'_>>,
        locked_too: &PerLevel<Name>,
        cost: u32,
        now: Timestamp,
        home: &Home,
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let mut held = Held::none();
        if (self.hold_all(&mut held, asks, locked_too, now, home)?).is_err() {
            self.hold(&mut held, asks, locked_too, home)?;
        }
        for ask in asks.iter() {
            if let Some(meter) = held.meter(&ask) {
                meter.move_to(&ask, now, &self.begun);
            }
        }
        if let Err(failed) = also() {
            return Ok(Err(failed));
        }
        for ask in asks.iter() {
            if let Some(meter) = held.meter(&ask) {
                meter.count(ask.level, cost, now, None);
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
        asks: &PerLevel<Ask<'_>>,
        cost: u32,
        now: Timestamp,
        home: &Home,
    ) -> Result<Vec<LimitAllowance>, Error> {
        let mut held = Held::none();
        self.hold(&mut held, asks, &PerLevel::default(), home)?;
        let mut found = Vec::new();
        for ask in asks.iter() {
            let mut unused = Meter::unused(&ask);
            let meter = match held.meter(&ask) {
                Some(meter) => {
                    meter.move_to(&ask, now, &self.begun);
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
        asks: &PerLevel<Ask<'_>>,
        locked_too: &PerLevel<Name>,
        home: &Home,
    ) -> Result<(), Error> {
        held.release();
        let mut wanted = [0; SHARDS_MAX];
        let names = asks.iter().map(|ask| ask.name).chain(locked_too.iter());
        for (wanted, name) in wanted.iter_mut().zip(names) {
            *wanted = shard_of(name);
        }
        let len = asks.len() + locked_too.len();
        let wanted = wanted.get_mut(..len).unwrap_or_default();
        wanted.sort_unstable();
        let mut last = usize::MAX;
        for at in wanted.iter().copied() {
            if at == last {
                continue;
            }
            if let Some(shard) = self.shards.get(at) {
                held.push(at, lock_at_home(shard, home)?);
            }
            last = at;
        }
        Ok(())
    }

    /// The same, where each level has its meter then, which is made where there is room.
    /// Else gives a level for which there is none.
    fn hold_all<'s, 'a>(
        &'s self,
        held: &mut Held<'s>,
        asks: &PerLevel<Ask<'a>>,
        locked_too: &PerLevel<Name>,
        now: Timestamp,
        home: &Home,
    ) -> Result<Result<(), Ask<'a>>, Error> {
        let mut has_made_room = false;
        loop {
            self.hold(held, asks, locked_too, home)?;
            let mut all = asks.iter();
            let Some(missing) = all.find(|ask| !self.find(held, ask, has_made_room)) else {
                return Ok(Ok(()));
            };
            held.release();
            if !self.make_room(&missing, now, home)? {
                return Ok(Err(missing));
            }
            has_made_room = true;
        }
    }

    /// Whether a level has its meter, which is made where there is room.
    fn find(&self, held: &mut Held<'_>, ask: &Ask<'_>, has_made_room: bool) -> bool {
        let Some(shard) = held.shard(ask.name) else {
            return false;
        };
        if shard.contains_key(&ask.name) {
            return true;
        }
        let len = self.len.fetch_add(1, Ordering::Relaxed);
        if self.room.is_full(len) || !has_made_room && self.room.is_sweep_due(len) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        shard.insert(
            ask.name,
            Meter::new(ask, self.names.organisation(ask.owner), &self.begun),
        );
        true
    }
}

impl<'a> Held<'a> {
    fn none() -> Self {
        Self {
            guards: [const { None }; SHARDS_MAX],
            len: 0,
        }
    }

    /// Adds one. There are never more than two for each level.
    fn push(&mut self, at: usize, shard: MutexGuard<'a, Shard>) {
        if let Some(place) = self.guards.get_mut(self.len) {
            *place = Some((at, shard));
            self.len += 1;
        }
    }

    fn release(&mut self) {
        self.guards
            .iter_mut()
            .take(self.len)
            .for_each(|held| *held = None);
        self.len = 0;
    }

    fn shard(&mut self, name: Name) -> Option<&mut Shard> {
        let wanted = shard_of(name);
        let mut held = self.guards.iter_mut().take(self.len).flatten();
        held.find(|(at, _)| *at == wanted)
            .map(|(_, shard)| &mut **shard)
    }

    fn meter(&mut self, ask: &Ask<'_>) -> Option<&mut Meter> {
        self.shard(ask.name)?.get_mut(&ask.name)
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

    fn count(
        &mut self,
        level: Level,
        cost: u32,
        now: Timestamp,
        mut standing: Option<Standing>,
    ) -> Option<Standing> {
        for (limit, counter) in self.terms.limits.iter().zip(&mut self.counters) {
            counter.add(*limit, cost.into(), now);
            let status = counter.status(*limit, level, now);
            standing = Some(match standing {
                None => Standing::of(status),
                Some(standing) => standing.with(status),
            });
        }
        standing
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
