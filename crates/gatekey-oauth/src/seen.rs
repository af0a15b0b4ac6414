//! Tokens whose signature was verified before.
//!
//! A table of fixed size, in sets of four. A token is found by a keyed hash over all of
//! its text, which nobody outside can aim at a set or make collide. What an entry says
//! does not change; all that may change is asked anew at each hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use zeroize::Zeroizing;

use crate::jwt::Proof;

/// How many entries a set has.
const WAYS: usize = 4;

pub(crate) struct Seen {
    /// Of the hash; of this store alone.
    key: Zeroizing<[u8; 32]>,
    slots: Box<[ArcSwapOption<Entry>]>,
    /// Which of a full set goes next.
    turn: AtomicU32,
}

/// A token. The proof stands in it, so that a hit waits for one place in memory less.
pub(crate) struct Entry {
    pub(crate) hash: [u8; 32],
    pub(crate) proof: Proof,
}

/// A token that was found.
pub(crate) struct Found(Guard<Option<Arc<Entry>>>);

impl Found {
    pub(crate) fn proof(&self) -> Option<&Proof> {
        self.0.as_ref().map(|entry| &entry.proof)
    }
}

impl Seen {
    /// Room for so many tokens, rounded up to a multiple of four; 0 for none.
    pub(crate) fn new(tokens: usize, key: [u8; 32]) -> Self {
        let count = tokens.div_ceil(WAYS) * WAYS;
        Self {
            key: Zeroizing::new(key),
            slots: (0..count).map(|_| ArcSwapOption::empty()).collect(),
            turn: AtomicU32::new(0),
        }
    }

    /// All of a token at once: an extension's `mac`, of parts with their lengths, takes longer.
    pub(crate) fn hash(&self, token: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, token).as_bytes()
    }

    fn set(&self, hash: &[u8; 32]) -> &[ArcSwapOption<Entry>] {
        let (head, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let sets = (self.slots.len() / WAYS).max(1) as u64;
        let at = usize::try_from(u64::from_le_bytes(*head) % sets).unwrap_or(0) * WAYS;
        self.slots.get(at..at + WAYS).unwrap_or(&[])
    }

    pub(crate) fn find(&self, hash: &[u8; 32]) -> Option<Found> {
        for slot in self.set(hash) {
            let entry = slot.load();
            if entry.as_ref().is_some_and(|entry| entry.hash == *hash) {
                return Some(Found(entry));
            }
        }
        None
    }

    /// Remembers a token in the place of one that has ended, or else of any other in its set.
    pub(crate) fn put(&self, new: &Arc<Entry>, now_s: u64) {
        let set = self.set(&new.hash);
        let is_free = |slot: &&ArcSwapOption<Entry>| match &*slot.load() {
            None => true,
            Some(entry) => {
                entry.hash == new.hash
                    || entry.proof.expires_s <= now_s
                    || !entry.proof.signer.is_good()
            }
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize % WAYS;
        let slot = set.iter().find(is_free).or_else(|| set.get(turn));
        if let Some(slot) = slot {
            slot.store(Some(new.clone()));
        }
    }

    /// How many tokens it holds.
    pub(crate) fn len(&self) -> usize {
        let full = self.slots.iter().filter(|slot| slot.load().is_some());
        full.count()
    }
}
