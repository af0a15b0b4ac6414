//! Notes of the networks that keys are used from, where the options want them. Nothing
//! here touches the file; a flush writes them.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::IpAddr;

use thread_local::ThreadLocal;

use crate::memory::hash::IdHasher;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::model::used_from::{NETWORKS_MAX, SourceNet};
use crate::store::tx::usage_networks::UsedNets;
use crate::store::tx::uses::Hour;
use crate::store::usage_networks::UsedNet;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// How many keys and networks a thread knows to be noted on this day.
const KNOWN_LEN: usize = 4096;
/// Notes are taken under as many locks, so that two threads rarely meet at one.
const SHARDS: usize = 64;
/// How many wait for a flush at most; others wait for another use.
const WAITING_MAX: usize = 65_536;
/// In a word of what is known: the day, above the number of the network. The highest bit
/// tells it from one that is empty.
const DAY_SHIFT: u32 = 49;
const IS_KNOWN: u64 = 1 << 63;

/// What one thread has noted: pairs of a key, and a network with a day. Each has one
/// place, from which the next that falls there pushes it out: it is noted again then.
struct Known(Box<[[AtomicU64; 2]]>);

impl Known {
    fn new() -> Self {
        let empty = || [AtomicU64::new(0), AtomicU64::new(0)];
        Self((0..KNOWN_LEN).map(|_| empty()).collect())
    }

    #[inline]
    fn place(&self, id: u64, word: u64) -> Option<&[AtomicU64; 2]> {
        let mixed = (id ^ word.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let at = usize::try_from(mixed >> 32).unwrap_or(0) % KNOWN_LEN;
        self.0.get(at)
    }

    /// Only this thread writes: what it reads belongs together.
    #[inline]
    fn has(&self, id: u64, word: u64) -> bool {
        self.place(id, word).is_some_and(|[key, known]| {
            key.load(Ordering::Relaxed) == id && known.load(Ordering::Relaxed) == word
        })
    }

    fn put(&self, id: u64, word: u64) {
        if let Some([key, known]) = self.place(id, word) {
            key.store(id, Ordering::Relaxed);
            known.store(word, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Waiting {
    of_keys: HashMap<u64, Vec<UsedNet>, BuildHasherDefault<IdHasher>>,
    nets: usize,
}

impl Waiting {
    /// Adds a note, and says whether it had room.
    fn add(&mut self, id: KeyId, used: UsedNet) -> bool {
        let nets = self.of_keys.entry(id.raw()).or_default();
        if let Some(known) = nets.iter_mut().find(|known| known.net == used.net) {
            known.first = known.first.min(used.first);
            known.last_day = known.last_day.max(used.last_day);
            return true;
        }
        let has_room = nets.len() < NETWORKS_MAX && self.nets < WAITING_MAX / SHARDS;
        if has_room {
            nets.push(used);
            self.nets += 1;
        } else if nets.is_empty() {
            self.of_keys.remove(&id.raw());
        }
        has_room
    }
}

/// The notes of an engine.
pub(crate) struct Networks {
    is_on: bool,
    known: ThreadLocal<Known>,
    waiting: Box<[Mutex<Waiting>]>,
    /// From where to look on for those that are too old.
    pub(crate) looked_to: AtomicU64,
}

impl Networks {
    pub(crate) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            known: ThreadLocal::new(),
            waiting: (0..SHARDS).map(|_| Mutex::default()).collect(),
            looked_to: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes from where a key is used. A thread that has noted it on this day does nothing.
    pub(crate) fn used(&self, id: KeyId, source: IpAddr, at: Timestamp) {
        let net = SourceNet::of(source);
        let last_day = Hour::of(at).day();
        let word = (u64::from(last_day) << DAY_SHIFT | net.raw()) | IS_KNOWN;
        let known = self.known.get_or(Known::new);
        if known.has(id.raw(), word) {
            return;
        }
        let first = at;
        let used = UsedNet {
            net,
            first,
            last_day,
        };
        // Never waited for: a process that was forked may have a lock that nobody gives back.
        let noted = match self.shard(id).map(Mutex::try_lock) {
            Some(Ok(mut waiting)) => waiting.add(id, used),
            _ => false,
        };
        if noted {
            known.put(id.raw(), word);
        }
    }

    /// The random bits of an id are its last.
    fn shard(&self, id: KeyId) -> Option<&Mutex<Waiting>> {
        let at = usize::try_from(id.raw() % SHARDS as u64).ok()?;
        self.waiting.get(at)
    }

    /// Takes what was noted since the last call, in the order of the ids.
    pub(crate) fn take(&self) -> Vec<UsedNets> {
        let mut taken = Vec::new();
        for shard in &self.waiting {
            let waiting = std::mem::take(&mut *lock(shard));
            let of_keys = waiting.of_keys.into_iter();
            taken.extend(of_keys.map(|(id, nets)| UsedNets {
                key: KeyId::from_raw(id),
                nets,
            }));
        }
        taken.sort_unstable_by_key(|used| used.key);
        taken
    }

    /// Puts back what could not be written, or perhaps was: to write it again adds nothing.
    pub(crate) fn put_back(&self, used: &[UsedNets]) {
        for used in used {
            if let Some(shard) = self.shard(used.key) {
                let mut waiting = lock(shard);
                for net in &used.nets {
                    waiting.add(used.key, *net);
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn address(third: u8, last: u8) -> IpAddr {
        [10, 0, third, last].into()
    }

    fn key(raw: u64) -> KeyId {
        KeyId::from_raw(raw)
    }

    /// The name of a network, the instant of its first use, the day of its last.
    type Told = (String, u64, u32);

    fn taken(networks: &Networks) -> Vec<(u64, Vec<Told>)> {
        let told = |net: &UsedNet| {
            let network = net.net.network().to_string();
            (network, net.first.unix_ms(), net.last_day)
        };
        let of_key = |used: UsedNets| (used.key.raw(), used.nets.iter().map(told).collect());
        networks.take().into_iter().map(of_key).collect()
    }

    #[test]
    fn a_network_is_noted_once_a_day_and_again_on_the_next() {
        let networks = Networks::new(true);
        let note = |last, ms| networks.used(key(7), address(1, last), Timestamp::from_raw(ms));
        note(1, 5);
        note(2, 6);
        let net = || "10.0.1.0/24".to_owned();
        assert_eq!(taken(&networks), [(7, vec![(net(), 5, 0)])]);
        note(1, DAY - 1);
        assert_eq!(taken(&networks), []);
        note(1, DAY);
        assert_eq!(taken(&networks), [(7, vec![(net(), DAY, 1)])]);
        networks.used(key(8), address(1, 1), Timestamp::from_raw(DAY));
        assert_eq!(taken(&networks).len(), 1, "another key has its own");
    }

    #[test]
    fn what_is_put_back_is_taken_once_with_what_came_meanwhile() {
        let networks = Networks::new(true);
        networks.used(key(7), address(1, 1), Timestamp::from_raw(5));
        let first = networks.take();
        networks.used(key(7), address(1, 1), Timestamp::from_raw(DAY));
        networks.put_back(&first);
        let net = ("10.0.1.0/24".to_owned(), 5, 1);
        assert_eq!(taken(&networks), [(7, vec![net])]);
    }

    #[test]
    fn notes_are_bounded_for_a_key_and_for_all_and_what_had_no_room_is_noted_later() {
        let networks = Networks::new(true);
        let at = Timestamp::from_raw(5);
        for third in 0..=255 {
            networks.used(key(7), address(third, 1), at);
        }
        let found = taken(&networks);
        assert_eq!(found[0].1.len(), NETWORKS_MAX);
        networks.used(key(7), address(200, 1), at);
        assert_eq!(taken(&networks).len(), 1);
        for raw in 0..2 * WAITING_MAX as u64 {
            networks.used(key(raw), address(1, 1), at);
        }
        assert_eq!(taken(&networks).len(), WAITING_MAX);
        networks.used(key(2 * WAITING_MAX as u64 - 1), address(1, 1), at);
        assert_eq!(taken(&networks).len(), 1);
    }
}
