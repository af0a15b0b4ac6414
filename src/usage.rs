//! What a verification notes for later: that a key was used, and that its
//! digest can be renewed. Nothing here touches the file; a thread of the
//! engine's writes what is gathered in batches.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::id::KeyId;

/// How many parts the notes have. A thread always writes to the same one, so
/// that threads that use the same key do not share a cache line.
const SHARDS: usize = 16;
/// How many keys each part holds between two flushes. Past that, the uses of
/// keys that are not in it yet are counted as lost.
const KEYS_PER_SHARD: usize = 16_384;
/// How many digests wait to be renewed at most; others wait for another use.
const RENEWALS_MAX: usize = 1024;
const MINUTE_MS: u64 = 60_000;

/// The use of a key since the last flush.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) last_used: Timestamp,
    pub(crate) count: u64,
}

/// A digest to be renewed under the newest pepper, if it is still `old`.
pub(crate) struct Renewal {
    pub(crate) id: KeyId,
    pub(crate) old: Digest,
    pub(crate) new: Digest,
}

#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    // Ids are the engine's own, not an attacker's.
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type Map = HashMap<u64, Used, BuildHasherDefault<IdHasher>>;

#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Map>);

/// The notes of an engine.
pub(crate) struct Notes {
    shards: [Shard; SHARDS],
    lost: AtomicU64,
    renewals: Mutex<Vec<Renewal>>,
}

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self {
            shards: Default::default(),
            lost: AtomicU64::new(0),
            renewals: Mutex::new(Vec::new()),
        }
    }

    /// Notes that a key was granted at an instant.
    pub(crate) fn used(&self, id: KeyId, now: Timestamp) {
        let minute = Timestamp::from_raw(now.unix_ms() / MINUTE_MS * MINUTE_MS);
        let Some(Shard(map)) = self.shards.get(shard_of_this_thread()) else {
            return;
        };
        let mut map = lock(map);
        if let Some(used) = map.get_mut(&id.raw()) {
            used.count += 1;
            used.last_used = used.last_used.max(minute);
        } else if map.len() < KEYS_PER_SHARD {
            let used = Used {
                last_used: minute,
                count: 1,
            };
            map.insert(id.raw(), used);
        } else {
            drop(map);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a digest can be renewed. Where too many wait, the key waits
    /// for another use.
    pub(crate) fn renew(&self, renewal: Renewal) {
        if let Ok(mut renewals) = self.renewals.try_lock()
            && renewals.len() < RENEWALS_MAX
        {
            renewals.push(renewal);
        }
    }

    /// Takes what was used since the last call, in the order of the ids.
    pub(crate) fn take_used(&self) -> Vec<(KeyId, Used)> {
        let mut all: HashMap<u64, Used> = HashMap::new();
        for Shard(map) in &self.shards {
            // The memory stays with the shard, so that uses do not allocate.
            for (id, used) in lock(map).drain() {
                all.entry(id)
                    .and_modify(|sum| {
                        sum.count += used.count;
                        sum.last_used = sum.last_used.max(used.last_used);
                    })
                    .or_insert(used);
            }
        }
        let mut all: Vec<_> = all
            .into_iter()
            .map(|(id, used)| (KeyId::from_raw(id), used))
            .collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, used: Vec<(KeyId, Used)>) {
        let Some(Shard(map)) = self.shards.first() else {
            return;
        };
        let mut map = lock(map);
        for (id, used) in used {
            if map.len() < KEYS_PER_SHARD {
                let sum = map.entry(id.raw()).or_insert(Used { count: 0, ..used });
                sum.count += used.count;
                sum.last_used = sum.last_used.max(used.last_used);
            } else {
                self.lost.fetch_add(used.count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn take_renewals(&self) -> Vec<Renewal> {
        std::mem::take(&mut *lock(&self.renewals))
    }

    /// How many uses were not counted, for want of room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_of_all_threads_add_up() {
        let notes = Notes::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        notes.used(KeyId::from_raw(7), Timestamp::from_raw(61_000));
                    }
                });
            }
        });
        let used = notes.take_used();
        assert_eq!(used.len(), 1);
        assert_eq!(used[0].1.count, 4000);
        assert_eq!(used[0].1.last_used, Timestamp::from_raw(60_000));
        assert!(notes.take_used().is_empty());
        notes.put_back(used);
        assert_eq!(notes.take_used()[0].1.count, 4000);
    }

    #[test]
    fn memory_is_bounded_and_what_is_lost_is_counted() {
        let notes = Notes::new();
        for raw in 0..KEYS_PER_SHARD as u64 + 10 {
            notes.used(KeyId::from_raw(raw), Timestamp::MIN);
        }
        assert_eq!(notes.lost(), 10);
        assert_eq!(notes.take_used().len(), KEYS_PER_SHARD);
    }
}
