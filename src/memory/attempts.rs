//! Failed attempts, by source: a limiter ahead of the lookup.
//!
//! Malformed and unknown tokens count, wrong secrets included. A success changes
//! nothing: otherwise an attacker with one good key could use it to continue guessing
//! others.
//!
//! # Who is one source
//! An IPv4 address, and a network of 64 bits of IPv6. A *site* is a network of 48 bits:
//! of one site, at most [`OWN_MAX`] networks of 64 bits are counted by themselves at a
//! time, and the rest together, as one source. So a site that changes its address for
//! each attempt has `OWN_MAX + 1` times the limit. Only callers of the same site whose
//! own network is not counted wait with it.
//!
//! # What is forgotten
//! The table never grows: [`BUCKETS`] of [`PLACES`] each. The bucket of a source
//! follows from its site by a keyed hash, so that a site can fill one bucket and no
//! more. If a bucket is full of sources that still count, a network whose site has a
//! rest there joins that rest, or else the source with the lowest count makes room. So
//! the next failure is counted, and the sources with the most failures are kept.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::memory::process::{Home, lock_at_home};
use crate::model::clock::Timestamp;
use crate::model::counter::Counter;
use crate::model::error::Error;
use crate::model::limit::Limit;
use crate::model::network;
use crate::sync::{Mutex, lock};

/// How many buckets, of how many places: 65,536 sources, in 2.1 MiB.
const BUCKETS: usize = 4_096;
const PLACES: usize = 16;
/// The most networks of 64 bits that are counted by themselves in one of 48.
const OWN_MAX: usize = 8;

pub(crate) struct Attempts {
    limit: Limit,
    /// Sources are an attacker's to choose: the hash is keyed.
    hasher: RandomState,
    buckets: Box<[Mutex<Bucket>]>,
}

type Bucket = [Place; PLACES];

/// A source's counter, and of which site it is. The name is a hash of the source, and 0
/// that of nobody.
#[derive(Default)]
struct Place {
    name: u64,
    site: u64,
    counter: Counter,
}

/// A source, by hashes.
struct Source {
    site: u64,
    own: u64,
    /// Under which name the rest of the site is counted; an IPv4 address has none.
    rest: Option<u64>,
}

impl Attempts {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            hasher: RandomState::new(),
            buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(),
        }
    }

    /// How long a source has to wait, where too many of its attempts have failed. `now`
    /// is the clock's: one that is corrected must not block a source until it has
    /// caught up.
    pub(crate) fn wait(
        &self,
        source: IpAddr,
        now: Timestamp,
        home: &Home,
    ) -> Result<Option<Duration>, Error> {
        let source = self.name(source);
        let Some(bucket) = self.bucket(&source) else {
            return Ok(None);
        };
        let mut places = lock_at_home(bucket, home)?;
        let found = find(&places, source.own).or_else(|| find(&places, source.rest?));
        let Some(place) = found.and_then(|at| places.get_mut(at)) else {
            return Ok(None);
        };
        place.counter = place.counter.moved_to(self.limit, now);
        let admits_at = place.counter.admits_at(self.limit, 1, now);
        let wait = admits_at.map(|at| at.saturating_since(now));
        Ok(wait.filter(|wait| !wait.is_zero()))
    }

    /// Counts an attempt that has failed.
    pub(crate) fn failed(&self, source: IpAddr, now: Timestamp, home: &Home) -> Result<(), Error> {
        let source = self.name(source);
        let Some(bucket) = self.bucket(&source) else {
            return Ok(());
        };
        let mut places = lock_at_home(bucket, home)?;
        let (name, at) = place_for(&places, &source, self.limit, now);
        let Some(place) = at.and_then(|at| places.get_mut(at)) else {
            return Ok(());
        };
        let old = match place.name == name {
            true => place.counter,
            false => Counter::default(),
        };
        let mut counter = old.moved_to(self.limit, now);
        // Else it is at its limit already.
        if counter.room(self.limit, now) > 0 {
            counter.add(self.limit, 1, now);
            *place = Place {
                name,
                site: source.site,
                counter,
            };
        }
        Ok(())
    }

    /// Resets all counters, as a restart does.
    pub(crate) fn forget(&self) {
        for bucket in &self.buckets {
            *lock(bucket) = Bucket::default();
        }
    }

    fn bucket(&self, source: &Source) -> Option<&Mutex<Bucket>> {
        let count = u64::try_from(self.buckets.len()).ok()?;
        let at = source.site.checked_rem(count)?;
        self.buckets.get(usize::try_from(at).ok()?)
    }

    fn name(&self, source: IpAddr) -> Source {
        // The length keeps networks of different lengths apart; 0 is nobody's name.
        let hash = |len: u8, bits: u128| self.hasher.hash_one((len, bits)).max(1);
        match counted_as(source) {
            IpAddr::V4(address) => {
                let own = hash(32, address.to_bits().into());
                Source {
                    site: own,
                    own,
                    rest: None,
                }
            }
            IpAddr::V6(address) => {
                let site = hash(48, address.to_bits() >> 80);
                Source {
                    site,
                    own: hash(64, address.to_bits() >> 64),
                    rest: Some(site),
                }
            }
        }
    }
}

fn find(places: &Bucket, name: u64) -> Option<usize> {
    places.iter().position(|place| place.name == name)
}

/// Under which name a failure counts, and where.
fn place_for(
    places: &Bucket,
    source: &Source,
    limit: Limit,
    now: Timestamp,
) -> (u64, Option<usize>) {
    if let Some(own) = find(places, source.own) {
        return (source.own, Some(own));
    }
    let counts = |place: &Place| !place.is_free(limit, now);
    let free = places.iter().position(|place| !counts(place));
    let Some(rest) = source.rest else {
        return (source.own, free.or_else(|| least(places, limit, now)));
    };
    let own_count = (places.iter())
        .filter(|place| place.site == source.site && place.name != rest && counts(place))
        .count();
    if own_count < OWN_MAX && free.is_some() {
        return (source.own, free);
    }
    if let Some(found) = find(places, rest) {
        return (rest, Some(found));
    }
    // With nothing of its site counted here, it is not the rest of anything.
    let name = match own_count {
        0 => source.own,
        _ => rest,
    };
    (name, free.or_else(|| least(places, limit, now)))
}

/// The place that makes room: one whose site's rest is counted here too, under which
/// it falls then; else that of the source of which the least counts now.
fn least(places: &Bucket, limit: Limit, now: Timestamp) -> Option<usize> {
    let left = |place: &Place| place.counter.moved_to(limit, now).room(limit, now);
    // The rest of a site has the site's name.
    let has_rest = |place: &Place| place.name != place.site && find(places, place.site).is_some();
    let each = places.iter().enumerate();
    each.max_by_key(|(_, place)| (has_rest(place), left(place)))
        .map(|(at, _)| at)
}

impl Place {
    fn is_free(&self, limit: Limit, now: Timestamp) -> bool {
        self.name == 0 || self.counter.is_idle(limit, now)
    }
}

/// The address that a source counts as. Where IPv4 is carried in IPv6, one network of 64
/// bits may be many hosts (mapped addresses, NAT64, Teredo), or one host 65,536 networks
/// (6to4): each counts as its IPv4 address.
fn counted_as(source: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = source.to_canonical() else {
        return source.to_canonical();
    };
    let [first, second, third, .., last] = address.segments();
    let bits = address.to_bits();
    let low = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or(0));
    if network::is_nat64(address) {
        return low(bits).into();
    }
    match (first, second) {
        // RFC 3056, 2: the site's address stands after 2002.
        (0x2002, _) => Ipv4Addr::from_bits(u32::from(second) << 16 | u32::from(third)).into(),
        // RFC 4380, 4: the client's address stands last, each bit the other way round.
        (0x2001, 0) if last != 0 || third != 0 => low(!bits).into(),
        _ => address.into(),
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "random numbers are cut down"
)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::net::Ipv6Addr;

    const LIMIT: u32 = 5;

    fn attempts() -> Attempts {
        Attempts::new(Limit::new(LIMIT, Duration::from_secs(60)).unwrap())
    }

    fn now() -> Timestamp {
        Timestamp::from_raw(1_000_000)
    }

    fn wait(attempts: &Attempts, source: IpAddr, now: Timestamp) -> Option<Duration> {
        attempts.wait(source, now, &Home::new()).unwrap()
    }

    fn note_failed(attempts: &Attempts, source: IpAddr) {
        attempts.failed(source, now(), &Home::new()).unwrap();
    }

    /// The network number `subnet` of 64 bits of a site.
    fn of_site(site: u64, subnet: u16) -> IpAddr {
        let bits = u128::from(0x2001_0db8_0000 + site) << 80 | u128::from(subnet) << 64 | 1;
        Ipv6Addr::from_bits(bits).into()
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Fails until it has to wait, and tells how often.
    fn fail(attempts: &Attempts, source: IpAddr, times_max: u32) -> u32 {
        let mut failed = 0;
        while failed < times_max && wait(attempts, source, now()).is_none() {
            note_failed(attempts, source);
            failed += 1;
        }
        failed
    }

    #[test]
    fn a_site_with_all_its_networks_fills_one_bucket_and_has_few_times_the_limit() {
        let attempts = attempts();
        let mut failed = 0;
        for round in 0..2 {
            for subnet in 0..=u16::MAX {
                failed += fail(&attempts, of_site(7, subnet), 1 + round * 99);
            }
        }
        assert_eq!(failed, (OWN_MAX as u32 + 1) * LIMIT);
        let is_used = |bucket: &&Mutex<Bucket>| lock(bucket).iter().any(|place| place.name != 0);
        assert_eq!(attempts.buckets.iter().filter(is_used).count(), 1);
        // Everybody else is counted as ever.
        for number in 0..1_000 {
            assert_eq!(fail(&attempts, v4(number), 100), LIMIT);
            assert_eq!(
                fail(&attempts, of_site(8 + u64::from(number), 1), 100),
                LIMIT
            );
        }
    }

    #[test]
    fn no_more_sources_are_counted_than_there_is_room_for_and_the_newest_always_is() {
        let attempts = attempts();
        let known = of_site(0, 0);
        assert_eq!(fail(&attempts, known, 100), LIMIT);
        for number in 0..150_000 {
            note_failed(&attempts, v4(number));
        }
        assert!(
            wait(&attempts, known, now()).is_some(),
            "it is still counted"
        );
        let bytes = size_of_val(&*attempts.buckets);
        assert!(bytes <= 2_200_000, "{bytes}");
        // All are full of others; each that fails next is counted, to its limit.
        for number in 150_000..150_100 {
            assert_eq!(fail(&attempts, v4(number), 100), LIMIT);
            assert!(wait(&attempts, v4(number), now()).is_some());
        }
        assert!(
            wait(&attempts, known, now()).is_some(),
            "it is still counted"
        );
        // Once they are idle, nothing is counted any more.
        let later = now().saturating_add(Duration::from_secs(3600));
        assert_eq!(wait(&attempts, known, later), None);
    }

    /// Under which of two names, and whether there is a place for it.
    #[test]
    fn a_source_counts_by_itself_while_no_other_of_its_site_counts_and_none_is_free() {
        let limit = attempts().limit;
        let mut counting = Counter::default();
        counting.add(limit, 1, now());
        let place = |name, site, counter| Place {
            name,
            site,
            counter,
        };
        let source = Source {
            site: 7,
            own: 8,
            rest: Some(7),
        };
        let name = |places: &Bucket| {
            let (name, at) = place_for(places, &source, limit, now());
            assert!(at.is_some());
            name
        };
        let others: Bucket = std::array::from_fn(|at| place(100 + at as u64, 200, counting));
        assert_eq!(name(&others), 8, "all count, and none is of its site");
        let mut one = others;
        one[0] = place(9, 7, counting);
        assert_eq!(name(&one), 7, "another of its site counts");
        let idle: Bucket = std::array::from_fn(|at| place(100 + at as u64, 7, Counter::default()));
        assert_eq!(name(&idle), 8, "those of its site count no more");
    }

    #[test]
    fn what_is_forgotten_is_counted_anew() {
        let attempts = attempts();
        for source in [v4(7), of_site(3, 1)] {
            assert_eq!(fail(&attempts, source, 100), LIMIT);
            assert!(wait(&attempts, source, now()).is_some());
            attempts.forget();
            assert_eq!(wait(&attempts, source, now()), None);
            assert_eq!(fail(&attempts, source, 100), LIMIT);
        }
    }

    #[test]
    fn whoever_is_at_its_limit_waits_no_longer_for_failing_more() {
        for source in [v4(7), of_site(3, 1)] {
            let attempts = attempts();
            assert_eq!(fail(&attempts, source, 100), LIMIT);
            let told = wait(&attempts, source, now()).unwrap();
            for _ in 0..50 {
                note_failed(&attempts, source);
            }
            assert_eq!(wait(&attempts, source, now()), Some(told));
        }
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_corrected_keeps_no_source_waiting_for_it() {
        let attempts = attempts();
        let ahead = now().saturating_add(Duration::from_secs(3600));
        for _ in 0..LIMIT {
            attempts.failed(v4(7), ahead, &Home::new()).unwrap();
        }
        let told = wait(&attempts, v4(7), now()).unwrap();
        assert!(told <= Duration::from_secs(120), "{told:?}");
    }

    #[test]
    fn a_bucket_of_sites_that_are_at_their_limits_gives_none_of_them_more() {
        let attempts = attempts();
        // Two sites of one bucket want 18 places of 16.
        let bucket = |site| attempts.bucket(&attempts.name(of_site(site, 0))).unwrap();
        let other = (2..)
            .find(|site| std::ptr::eq(bucket(*site), bucket(1)))
            .unwrap();
        let mut failed = 0;
        for _ in 0..20 {
            for subnet in 0..200 {
                failed += fail(&attempts, of_site(1, subnet), 100);
                failed += fail(&attempts, of_site(other, subnet), 100);
            }
        }
        // A network that makes room falls under the rest of its site.
        assert!(failed <= 2 * (OWN_MAX as u32 + 1) * LIMIT, "{failed}");
    }

    #[test]
    fn nobody_waits_for_what_others_failed_but_the_rest_of_a_site() {
        let attempts = attempts();
        // In buckets of their own, which nobody else fills.
        let mut used: HashSet<*const Mutex<Bucket>> = HashSet::new();
        let mut is_alone = |source: &IpAddr| {
            let bucket = attempts.bucket(&attempts.name(*source));
            used.insert(std::ptr::from_ref(bucket.unwrap()))
        };
        assert!(is_alone(&of_site(1, 0)));
        let sites: Vec<u64> = (2..1_000_u64)
            .filter(|site| is_alone(&of_site(*site, 0)))
            .take(100)
            .collect();
        let addresses: Vec<IpAddr> = (0..2_000).map(v4).filter(is_alone).take(500).collect();
        let mut exact: HashMap<IpAddr, u32> = HashMap::new();
        let mut of_sites: HashMap<u64, u32> = HashMap::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (source, site) = match random % 4 {
                0 => (addresses[(random >> 8) as usize % addresses.len()], None),
                1 => (of_site(1, (random >> 8) as u16), Some(1)),
                _ => {
                    let site = sites[(random >> 8) as usize % sites.len()];
                    (of_site(site, (random >> 40) as u16 % 6), Some(site))
                }
            };
            let count = exact.entry(source).or_default();
            let of_site = site.map(|site| of_sites.entry(site).or_default());
            if wait(&attempts, source, now()).is_some() {
                let of_site = of_site.map_or(0, |count| *count);
                assert!(*count == LIMIT || of_site > LIMIT, "{source} {count}");
                continue;
            }
            note_failed(&attempts, source);
            *count += 1;
            assert!(*count <= LIMIT, "{source} failed {count} times");
            if let Some(of_site) = of_site {
                *of_site += 1;
            }
        }
    }

    #[test]
    fn an_address_that_carries_one_of_ipv4_counts_as_that() {
        for (text, counted) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("64:ff9b::192.0.2.7", "192.0.2.7"),
            ("64:ff9b::10.0.0.7", "10.0.0.7"),
            ("2002:c000:207:1:2:3:4:5", "192.0.2.7"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdf8", "192.0.2.7"),
            // A part of a Teredo address is enough; of none, it is the bare prefix.
            ("2001:0:4136::", "255.255.255.255"),
            ("2001::fdf8", "255.255.2.7"),
            ("2001::", "2001::"),
            ("64:ff9b:1::192.0.2.7", "64:ff9b:1::c000:207"),
            ("64:ff9b::1:192.0.2.7", "64:ff9b::1:c000:207"),
            ("2001:db8::7", "2001:db8::7"),
            ("::1", "::1"),
        ] {
            let expected: IpAddr = counted.parse().unwrap();
            assert_eq!(counted_as(text.parse().unwrap()), expected, "{text}");
        }
        let attempts = attempts();
        assert_eq!(
            fail(&attempts, "64:ff9b::192.0.2.7".parse().unwrap(), 9),
            LIMIT
        );
        assert_eq!(
            fail(&attempts, "64:ff9b::192.0.2.8".parse().unwrap(), 9),
            LIMIT
        );
        assert_eq!(fail(&attempts, "192.0.2.8".parse().unwrap(), 9), 0);
    }

    #[test]
    fn a_source_at_its_limit_waits_whatever_threads_do_beside() {
        let attempts = attempts();
        let known = v4(1);
        assert_eq!(fail(&attempts, known, 100), LIMIT);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let attempts = &attempts;
                scope.spawn(move || {
                    for number in 0..20_000 {
                        note_failed(attempts, v4(2 + thread * 20_000 + number));
                    }
                });
            }
            for _ in 0..50_000 {
                assert!(wait(&attempts, known, now()).is_some());
            }
        });
    }

    #[test]
    fn a_source_whose_window_before_still_counts_makes_room_for_nobody() {
        let attempts = attempts();
        let bucket = |number| attempts.bucket(&attempts.name(v4(number))).unwrap();
        let ours: Vec<u32> = (0..)
            .filter(|number| std::ptr::eq(bucket(*number), bucket(0)))
            .take(40)
            .collect();
        let known = v4(ours[0]);
        assert_eq!(fail(&attempts, known, 100), LIMIT);
        // A bucket of sources that failed once, and again in the next window, at whose
        // beginning all of the one before counts.
        let edge = Timestamp::from_raw((now().unix_ms() / 60_000 + 1) * 60_000);
        for instant in [now(), edge, edge.saturating_add(Duration::from_secs(1))] {
            for number in &ours[1..] {
                attempts.failed(v4(*number), instant, &Home::new()).unwrap();
            }
            assert!(wait(&attempts, known, instant).is_some(), "still counted");
        }
    }
}
