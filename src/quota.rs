//! Quotas: a key good for so many requests, perhaps refilled each day or month.
//!
//! What is left stands in the store. The engine takes a *slice* of it in one
//! durable commit, spends that from memory, and puts the rest back when it closes.
//! So a quota is never overspent, not even after a crash, which loses at most the
//! slices that were out: one hundredth of a quota each, or ten requests, whichever
//! is more, and at most 1,000.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Invalid};
use crate::id::KeyId;
use crate::sync::lock;
use crate::usage::IdHasher;

/// When a quota is refilled, in UTC. A refill replaces what is left; nothing is
/// carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refill {
    /// At midnight.
    Daily,
    /// At midnight before the first of a month.
    Monthly,
}

impl Refill {
    /// The first refill after an instant; never, past the end of time.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        self.checked_after(now).unwrap_or(Timestamp::MAX)
    }

    fn checked_after(self, now: Timestamp) -> Option<Timestamp> {
        let ms = i64::try_from(now.unix_ms()).ok()?;
        let now = jiff::Timestamp::from_millisecond(ms).ok()?;
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let next = match self {
            Self::Daily => today.tomorrow().ok()?,
            Self::Monthly => today.last_of_month().tomorrow().ok()?,
        };
        let next = next.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Timestamp::from_raw(
            u64::try_from(next.as_millisecond()).ok()?,
        ))
    }
}

impl std::fmt::Display for Refill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Daily => "daily",
            Self::Monthly => "monthly",
        })
    }
}

/// How many requests a key is good for. A key and those that it is rotated to
/// share one.
///
/// ```
/// use gatekey::{Denial, Engine, NewKey, NewKeyspace, Quota, Verdict};
///
/// let engine = Engine::open_in_memory()?;
/// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
/// let issued = engine.issue(NewKey::new("acme_live", "acme")?.quota(Quota::new(2)))?;
/// let token = issued.token.expose();
/// assert!(engine.verify(token)?.is_granted());
/// assert!(engine.verify(token)?.is_granted());
/// let third = engine.verify(token)?;
/// assert!(matches!(third, Verdict::Denied(Denial::QuotaExhausted { .. })));
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quota {
    requests: u64,
    refill: Option<Refill>,
}

impl Quota {
    /// The most requests of a quota.
    pub const REQUESTS_MAX: u64 = 1 << 53;

    /// So many requests, once. Checked where it is used: 1 to
    /// [`REQUESTS_MAX`](Self::REQUESTS_MAX).
    #[must_use]
    pub const fn new(requests: u64) -> Self {
        Self {
            requests,
            refill: None,
        }
    }

    /// So many requests a day or a month.
    #[must_use]
    pub const fn refilled(mut self, refill: Refill) -> Self {
        self.refill = Some(refill);
        self
    }

    /// How many requests.
    #[must_use]
    pub const fn requests(self) -> u64 {
        self.requests
    }

    /// When it is refilled; `None`: never.
    #[must_use]
    pub const fn refill(self) -> Option<Refill> {
        self.refill
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            let why = "the requests are not 1 to 2^53";
            return Err(Invalid::malformed("quota", &self.to_string(), why).into());
        }
        Ok(())
    }

    fn slice(self) -> u64 {
        (self.requests / 100).clamp(10, 1000)
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.refill {
            Some(refill) => write!(f, "{} {refill}", self.requests),
            None => write!(f, "{} in all", self.requests),
        }
    }
}

/// How much of a quota is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// What is left in the store. The engine may hold a little more in memory,
    /// which it puts back when it closes.
    pub remaining: u64,
    /// When it is refilled next; `None`: never.
    pub refills_at: Option<Timestamp>,
}

/// A quota in the store, under the id of the key that it was first given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuotaRecord {
    pub(crate) quota: Quota,
    pub(crate) remaining: u64,
    /// [`Timestamp::MAX`] for never.
    pub(crate) refills_at: Timestamp,
    /// How many keys share it.
    pub(crate) keys: u32,
    /// The position of the audit entry about its making: another quota in its
    /// place has another.
    pub(crate) revision: u64,
}

/// A slice that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    /// The key that the quota stands under.
    pub(crate) root: KeyId,
    pub(crate) requests: u64,
    /// Until when it may be spent.
    pub(crate) refills_at: Timestamp,
    /// The revision of the quota that it is of.
    pub(crate) revision: u64,
}

impl QuotaRecord {
    pub(crate) fn new(quota: Quota, keys: u32, revision: u64, now: Timestamp) -> Self {
        Self {
            quota,
            remaining: quota.requests,
            refills_at: quota
                .refill
                .map_or(Timestamp::MAX, |refill| refill.after(now)),
            keys,
            revision,
        }
    }

    /// As it reads at an instant: refilled, where that is due.
    pub(crate) fn at(&self, now: Timestamp) -> Self {
        match now >= self.refills_at {
            true => Self::new(self.quota, self.keys, self.revision, now),
            false => self.clone(),
        }
    }

    pub(crate) fn take_slice(&mut self, root: KeyId) -> Slice {
        let requests = self.quota.slice().min(self.remaining);
        self.remaining -= requests;
        Slice {
            root,
            requests,
            refills_at: self.refills_at,
            revision: self.revision,
        }
    }

    /// Puts the rest of a slice back, unless it was refilled or replaced since.
    pub(crate) fn put_back(&mut self, slice: Slice) {
        if (slice.refills_at, slice.revision) == (self.refills_at, self.revision) {
            let sum = self.remaining.saturating_add(slice.requests);
            self.remaining = sum.min(self.quota.requests);
        }
    }

    pub(crate) fn status(&self, now: Timestamp) -> QuotaStatus {
        let record = self.at(now);
        QuotaStatus {
            quota: record.quota,
            remaining: record.remaining,
            refills_at: (record.refills_at < Timestamp::MAX).then_some(record.refills_at),
        }
    }
}

/// What is in memory of a quota.
struct Purse {
    root: KeyId,
    revision: u64,
    requests: AtomicU64,
    refills_at: AtomicU64,
    /// The store had nothing left.
    store_is_empty: AtomicBool,
    /// The quota was changed, or its slices are called in: what is here counts
    /// no more.
    is_stale: AtomicBool,
    /// Held while a slice is taken.
    taking: Mutex<()>,
}

/// A quota that does not cover a request.
pub(crate) struct Exhausted {
    pub(crate) refills_at: Option<Timestamp>,
}

/// The slices that are out.
pub(crate) struct Quotas {
    by_key: papaya::HashMap<u64, Arc<Purse>, BuildHasherDefault<IdHasher>>,
    by_root: Mutex<HashMap<KeyId, Arc<Purse>>>,
    /// The most keys with a slice at a time.
    keys_max: usize,
}

impl Quotas {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            by_key: papaya::HashMap::with_hasher(BuildHasherDefault::default()),
            by_root: Mutex::default(),
            keys_max: keys_max.max(1),
        }
    }

    /// Spends `cost` of a key's quota, taking slices where need be: `take` gets
    /// one from the store, and `put_back` returns some to it.
    pub(crate) fn spend(
        &self,
        key: KeyId,
        cost: u64,
        now: Timestamp,
        take: impl Fn() -> Result<Slice, Error>,
        put_back: impl Fn(Vec<Slice>) -> Result<(), Error>,
    ) -> Result<Result<(), Exhausted>, Error> {
        let purses = self.by_key.pin();
        loop {
            let Some(purse) = purses.get(&key.raw()) else {
                if self.by_key.len() >= self.keys_max {
                    put_back(self.call_in())?;
                }
                let purse = self.admit(take()?);
                purses.insert(key.raw(), purse);
                continue;
            };
            if let Some(result) = purse.spend(cost, now) {
                return Ok(result);
            }
            let _taking = lock(&purse.taking);
            // Another may have taken one meanwhile.
            if let Some(result) = purse.spend(cost, now) {
                return Ok(result);
            }
            if purse.is_stale.load(Ordering::Acquire) {
                self.forget(purse);
                purses.remove(&key.raw());
                continue;
            }
            purse.put(take()?);
        }
    }

    /// The purse of a slice's quota, with the slice in it.
    fn admit(&self, slice: Slice) -> Arc<Purse> {
        let mut by_root = lock(&self.by_root);
        let known = by_root.get(&slice.root).filter(|purse| {
            purse.revision == slice.revision && !purse.is_stale.load(Ordering::Acquire)
        });
        if let Some(purse) = known {
            purse.put(slice);
            return purse.clone();
        }
        let purse = Arc::new(Purse {
            root: slice.root,
            revision: slice.revision,
            requests: AtomicU64::new(slice.requests),
            refills_at: AtomicU64::new(slice.refills_at.unix_ms()),
            store_is_empty: AtomicBool::new(slice.requests == 0),
            is_stale: AtomicBool::new(false),
            taking: Mutex::default(),
        });
        by_root.insert(slice.root, purse.clone());
        purse
    }

    fn forget(&self, purse: &Arc<Purse>) {
        let mut by_root = lock(&self.by_root);
        if by_root
            .get(&purse.root)
            .is_some_and(|known| Arc::ptr_eq(known, purse))
        {
            by_root.remove(&purse.root);
        }
    }

    /// Lets a change of quotas take effect: slices of what they were are void.
    pub(crate) fn publish(&self, changed: &[KeyId]) {
        if changed.is_empty() {
            return;
        }
        let mut by_root = lock(&self.by_root);
        for root in changed {
            if let Some(purse) = by_root.remove(root) {
                purse.void();
            }
        }
    }

    /// Takes all slices out of memory.
    pub(crate) fn call_in(&self) -> Vec<Slice> {
        let purses = std::mem::take(&mut *lock(&self.by_root));
        self.by_key.pin().clear();
        purses.into_values().map(|purse| purse.void()).collect()
    }
}

impl Purse {
    /// `None` where a slice must be taken.
    fn spend(&self, cost: u64, now: Timestamp) -> Option<Result<(), Exhausted>> {
        let refills_at = self.refills_at.load(Ordering::Acquire);
        if now.unix_ms() >= refills_at || self.is_stale.load(Ordering::Acquire) {
            return None;
        }
        let spent = self
            .requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(cost)
            });
        match spent {
            Ok(_) => Some(Ok(())),
            Err(_) if self.store_is_empty.load(Ordering::Acquire) => Some(Err(Exhausted {
                refills_at: (refills_at < Timestamp::MAX.unix_ms())
                    .then_some(Timestamp::from_raw(refills_at)),
            })),
            Err(_) => None,
        }
    }

    /// Puts a slice in. A slice of a later period replaces what is there.
    fn put(&self, slice: Slice) {
        let refills_at = slice.refills_at.unix_ms();
        if self.refills_at.load(Ordering::Acquire) == refills_at {
            self.requests.fetch_add(slice.requests, Ordering::AcqRel);
        } else {
            self.requests.store(slice.requests, Ordering::Release);
            self.refills_at.store(refills_at, Ordering::Release);
        }
        self.store_is_empty
            .store(slice.requests == 0, Ordering::Release);
    }

    /// Makes it worth nothing, and gives what was in it.
    fn void(&self) -> Slice {
        self.is_stale.store(true, Ordering::Release);
        Slice {
            root: self.root,
            requests: self.requests.swap(0, Ordering::AcqRel),
            refills_at: Timestamp::from_raw(self.refills_at.load(Ordering::Acquire)),
            revision: self.revision,
        }
    }
}
