//! Tokens whose signature was verified before.
//!
//! A table of fixed size, in sets of four. A token is found by its keyed hash, which nobody
//! outside can aim at a set or make collide ([`SigningKeys::hash`]). What an entry says does
//! not change; all that may change is asked anew at each hit.
//!
//! An entry is one cache line of plain atomic words under a version (a seqlock): of no epoch
//! while it is written, and changed by every write, so that a reader that was overtaken
//! notices. Readers take no lock.
//!
//! [`SigningKeys::hash`]: crate::keys::SigningKeys::hash

#[cfg(gatekey_loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(gatekey_loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, TryLockError};

use gatekey::{KeyId, Permissions};

/// How many entries a set has.
const WAYS: usize = 4;
/// Where in a version the epoch of its entry begins. The bits below count writes.
const EPOCH: u32 = 32;
const COUNT: u64 = (1 << EPOCH) - 1;

/// What a verified JWT proves: what does not change about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) expires_s: u64,
    pub(crate) key: KeyId,
    /// The permissions that it stands for, in its key's keyspace.
    pub(crate) within: Permissions,
}

/// How many signing keys were removed before a token was verified: what was proven in one
/// epoch proves nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// Of an entry that is empty or being written.
    const NONE: Self = Self(0);

    pub(crate) fn after(removals: u64) -> Self {
        Self(removals % COUNT + 1)
    }
}

/// Of a token's hash so much as an entry keeps: 24 bytes, which are too many to be found
/// twice by chance.
type Hash = [u64; 3];

#[repr(align(64))]
#[derive(Default)]
struct Slot {
    version: AtomicU64,
    hash: [AtomicU64; 3],
    expires_s: AtomicU64,
    key: AtomicU64,
    within: [AtomicU64; 2],
}

pub(crate) struct Seen {
    slots: Box<[Slot]>,
    /// Held by whoever writes: which of a full set goes next.
    turn: Mutex<usize>,
}

/// A token by its hash.
pub(crate) struct Token {
    /// Where its set begins.
    set: usize,
    /// The way of its set in which it is looked for first.
    way: usize,
    hash: Hash,
}

impl Slot {
    #[inline]
    fn epoch(&self) -> Epoch {
        Epoch(self.version.load(Ordering::Acquire) >> EPOCH)
    }

    #[inline]
    fn is_of(&self, hash: &Hash) -> bool {
        let words = self.hash.iter().zip(hash);
        let differ = words.fold(0, |differ, (word, other)| {
            differ | (word.load(Ordering::Relaxed) ^ other)
        });
        differ == 0
    }

    #[inline]
    fn read(&self, hash: &Hash, epoch: Epoch) -> Option<Proof> {
        let version = self.version.load(Ordering::Acquire);
        if !self.is_of(hash) {
            return None;
        }
        let expires_s = self.expires_s.load(Ordering::Relaxed);
        let key = self.key.load(Ordering::Relaxed);
        let [low, high] = &self.within;
        let (low, high) = (low.load(Ordering::Relaxed), high.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = self.version.load(Ordering::Relaxed) == version;
        if !is_whole || version >> EPOCH != epoch.0 {
            return None;
        }
        Some(Proof {
            expires_s,
            key: KeyId::try_from(key).ok()?,
            within: Permissions::from_bits((u128::from(high) << 64) | u128::from(low)),
        })
    }

    /// Call it with the lock of writers held.
    fn write(&self, hash: &Hash, proof: &Proof, epoch: Epoch) {
        let count = self.version.load(Ordering::Relaxed) & COUNT;
        self.version.store(count, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, new) in self.hash.iter().zip(hash) {
            word.store(*new, Ordering::Relaxed);
        }
        self.expires_s.store(proof.expires_s, Ordering::Relaxed);
        self.key.store(proof.key.into(), Ordering::Relaxed);
        let bits = proof.within.bits().to_le_bytes();
        for (word, new) in self.within.iter().zip(bits.as_chunks().0) {
            word.store(u64::from_le_bytes(*new), Ordering::Relaxed);
        }
        let version = (epoch.0 << EPOCH) | (count.wrapping_add(1) & COUNT);
        self.version.store(version, Ordering::Release);
    }
}

impl Seen {
    /// Room for so many tokens, rounded up to a multiple of four; 0 for none.
    pub(crate) fn new(tokens: usize) -> Self {
        let count = tokens.div_ceil(WAYS) * WAYS;
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            turn: Mutex::new(0),
        }
    }

    #[inline]
    pub(crate) fn token(&self, hash: &blake3::Hash) -> Token {
        let mut words = hash.as_bytes().as_chunks::<8>().0.iter();
        let mut word = || words.next().map_or(0, |word| u64::from_le_bytes(*word));
        let hash = [(); 3].map(|()| word());
        // By what no entry keeps.
        let place = word();
        let sets = (self.slots.len() / WAYS) as u128;
        let set = usize::try_from((u128::from(place) * sets) >> 64);
        Token {
            set: set.unwrap_or(0) * WAYS,
            way: usize::try_from(place % WAYS as u64).unwrap_or(0),
            hash,
        }
    }

    /// The slots of a token's set, its own way first.
    #[inline]
    fn set(&self, token: &Token) -> impl Iterator<Item = &Slot> {
        let set = self.slots.get(token.set..).unwrap_or_default();
        let way = token.way;
        (0..WAYS).filter_map(move |at| set.get(at ^ way))
    }

    #[inline]
    pub(crate) fn find(&self, token: &Token, epoch: Epoch) -> Option<Proof> {
        self.set(token)
            .find_map(|slot| slot.read(&token.hash, epoch))
    }

    /// Remembers a token that was proven in an epoch: where it stands, or in the place of one
    /// that proves nothing any more, or else of any other in its set.
    pub(crate) fn put(&self, token: &Token, proof: &Proof, epoch: Epoch, now_s: u64) {
        // Whoever finds it held leaves the token to be proven again: a lock that somebody held
        // while the process forked would never be free.
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        *turn = (*turn + 1) % WAYS;
        let is_over =
            |slot: &&Slot| slot.epoch() != epoch || slot.expires_s.load(Ordering::Relaxed) <= now_s;
        let mut set = self.set(token);
        let same = set.find(|slot| slot.is_of(&token.hash));
        let over = || self.set(token).find(is_over);
        let other = || self.set(token).nth(*turn);
        if let Some(slot) = same.or_else(over).or_else(other) {
            slot.write(&token.hash, proof, epoch);
        }
    }

    /// How many tokens it holds, also such as have ended since.
    pub(crate) fn len(&self) -> usize {
        let full = self.slots.iter().filter(|slot| slot.epoch() != Epoch::NONE);
        full.count()
    }
}

#[cfg(all(test, gatekey_loom))]
mod interleavings;

#[cfg(all(test, not(gatekey_loom)))]
mod tests;
