//! Failed attempts, by source: a limiter ahead of the lookup.
//!
//! Counted are tokens that are malformed or unknown, a wrong secret included. A
//! success changes nothing, so that who has one good key cannot use it to go on
//! guessing others. An IPv6 source counts by its network of 64 bits, which is what
//! a site is given.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::hash::RandomState;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::limit::{Charged, Counter, Limit};
use crate::sweep::Sweeps;

/// The most sources that are counted at a time: about 6 MiB. Where more fail at
/// once, the rest are not counted; every token is still verified.
const SOURCES_MAX: usize = 65_536;

pub(crate) struct Attempts {
    limit: Limit,
    /// Sources are an attacker's to choose: the hash is keyed.
    counters: papaya::HashMap<u64, AtomicU64, RandomState>,
    sweeps: Sweeps,
}

impl Attempts {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            counters: papaya::HashMap::new(),
            sweeps: Sweeps::new(SOURCES_MAX),
        }
    }

    /// How long a source has to wait, where too many of its attempts have failed.
    pub(crate) fn wait(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        let counters = self.counters.pin();
        let counter = counters.get(&network_of(source))?;
        match Counter(counter.load(Ordering::Relaxed)).charge(self.limit, 1, now) {
            Charged::Admitted(..) => None,
            Charged::Refused(_, wait) => wait,
        }
    }

    /// Counts an attempt that has failed.
    pub(crate) fn failed(&self, source: IpAddr, now: Timestamp) {
        let counters = self.counters.pin();
        let network = network_of(source);
        let counter = match counters.get(&network) {
            Some(counter) => counter,
            None if self.has_room(now) => {
                counters.get_or_insert_with(network, || AtomicU64::new(Counter::default().0))
            }
            None => return,
        };
        // Refused: it is at its limit already.
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            match Counter(old).charge(self.limit, 1, now) {
                Charged::Admitted(new, _) => Some(new.0),
                Charged::Refused(..) => None,
            }
        });
    }

    /// Whether one more source can be counted; drops idle ones where it is time.
    fn has_room(&self, now: Timestamp) -> bool {
        if self.sweeps.is_due(self.counters.len()) && !self.sweeps.is_paused(now) {
            self.sweeps.pause(now);
            self.counters.pin().retain(|_, counter| {
                !Counter(counter.load(Ordering::Relaxed)).is_idle(self.limit, now)
            });
            self.sweeps.left(self.counters.len());
        }
        self.counters.len() < SOURCES_MAX
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 one. The two do not meet: no
/// network of IPv6 in use begins with 32 bits of zero.
fn network_of(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn no_more_sources_are_counted_than_there_is_room_for() {
        let attempts = Attempts::new(Limit::new(1, Duration::from_secs(60)).unwrap());
        let now = Timestamp::from_raw(1_000_000);
        let known = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96));
        attempts.failed(known, now);
        for number in 0..100_000 {
            attempts.failed(IpAddr::V4(Ipv4Addr::from_bits(number)), now);
        }
        assert_eq!(attempts.counters.len(), SOURCES_MAX);
        assert!(attempts.wait(known, now).is_some(), "it is still counted");
        // The rest are not, and are let through to be verified.
        let last = IpAddr::V4(Ipv4Addr::from_bits(99_999));
        assert_eq!(attempts.wait(last, now), None);
        // Once they are idle, there is room again.
        let later = now.saturating_add(Duration::from_secs(3600));
        attempts.failed(last, later);
        assert!(attempts.wait(last, later).is_some());
    }
}
