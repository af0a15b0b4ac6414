//! The delta of a transaction: what it changed, and all that the engine needs to
//! publish it.
//!
//! A delta is complete. Anything in memory that depends on the file can follow the file
//! by deltas alone: the records of these tables in which two snapshots differ are those
//! that the deltas between them name, with their old and new values. It is by value,
//! and each entry is of bounded size.
//!
//! | table | an entry holds | what in memory depends on it |
//! |---|---|---|
//! | `keys` | the tags of the record, which name its content | the resident table |
//! | `keyspaces` | the keyspace | the registry |
//! | `quotas` | the quota | the purses |
//! | `cold` | of a key, the number of its quota | the names of the purses |
//! | `cold` | of a key, the limits of its own | the limits of the key |
//! | `owner_settings` | the settings | the settings of owners |
//! | `owner_quotas` | of an owner, the number of its quota | the names of the purses |
//! | `ext/NAME/TABLE` | the record | what the extension keeps in memory |
//!
//! Only [`Waiting`] belongs to this process: the callers that wait for the commit. A
//! delta from elsewhere has none.

use std::collections::BTreeMap;
#[cfg(feature = "tracing")]
use std::fmt::Write as _;
use std::sync::Arc;

use crate::crypto::digest::{TAG_LEN, Tag};
#[cfg(feature = "tracing")]
use crate::model::audit::AuditEvent;
use crate::model::clock::Timestamp;
use crate::model::error::Error;
use crate::model::id::KeyId;
use crate::model::keyspace::Keyspace;
use crate::model::limit::Limit;
use crate::store::extension::ExtensionRecord;
use crate::store::owner_settings::{OwnerName, OwnerSettingsRecord};
use crate::store::quota::{QuotaEvent, QuotaRecord};
use crate::store::snapshot::Snapshot;
use crate::sync::atomic::AtomicBool;

#[cfg(test)]
#[cfg(not(gatekey_shuttle))]
mod tests;

/// Publishes a delta to all readers, with the snapshot that it leads to.
///
/// This is the only call from the store up into the engine: a recovery beneath the
/// engine may find that the pending commit is durable, and must publish it before the
/// next write.
pub(crate) trait Publish {
    /// The delta is empty where the snapshot only stands on another database than the one
    /// before.
    fn publish(&self, delta: &Delta, snapshot: Arc<Snapshot>) -> Result<(), Error>;

    /// Lets no reader see what was published, or a copy of it, until something is
    /// published again.
    fn withdraw(&self);
}

/// A record before a transaction and after it; `None` where there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<T> {
    pub(crate) old: Option<T>,
    pub(crate) new: Option<T>,
    /// There was a record, and it could not be read.
    pub(crate) was_damaged: bool,
}

impl<T: PartialEq> Change<T> {
    fn is_none(&self) -> bool {
        self.old == self.new && !self.was_damaged
    }
}

/// The changed records of a table, by their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changes<K, T>(BTreeMap<K, Change<T>>);

impl<K: Ord + Clone, T: PartialEq> Changes<K, T> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Notes that a record was put, or removed where `new` is `None`. The first note
    /// has its value before the transaction.
    pub(super) fn note(&mut self, key: K, old: Result<Option<T>, Error>, new: Option<T>) {
        let was_damaged = old.is_err();
        let change = self.0.entry(key).or_insert_with(|| Change {
            old: old.unwrap_or(None),
            new: None,
            was_damaged,
        });
        change.new = new;
    }

    /// Removes entries without a difference.
    fn settle(&mut self) {
        self.0.retain(|_, change| !change.is_none());
    }

    pub(crate) fn get(&self, key: &K) -> Option<&Change<T>> {
        self.0.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`iter`](Self::iter), where keys are not copied.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&K, &Change<T>)> {
        self.0.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &Change<T>)> {
        self.0.iter().map(|(key, change)| (key.clone(), change))
    }
}

/// The callers in this process that wait for a transaction.
#[derive(Clone, Default)]
pub(crate) struct Waiting {
    /// Requests that wait for a slice of a quota, and purses that were called in, in order.
    pub(crate) slices: Vec<QuotaEvent>,
    /// Flushes that wait until their uses are written.
    pub(crate) flushes: Vec<Arc<AtomicBool>>,
    /// What is told of each audit entry.
    #[cfg(feature = "tracing")]
    pub(crate) audited: Vec<Audited>,
}

/// What an event tells of an audit entry.
#[cfg(feature = "tracing")]
#[derive(Clone)]
pub(crate) struct Audited {
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) actor: Option<String>,
    /// The first key that it is about, and of how many it tells.
    pub(crate) key: Option<KeyId>,
    pub(crate) keys: usize,
}

#[cfg(feature = "tracing")]
impl Audited {
    pub(crate) fn of(seq: u64, actor: Option<&str>, event: &AuditEvent) -> Self {
        let keys = event.keys();
        // The name of the variant alone, and nothing that it holds: no more is written out.
        let mut kind = FirstWord(String::new());
        let _ = write!(kind, "{event:?}");
        Self {
            seq,
            kind: kind.0,
            actor: actor.map(str::to_owned),
            key: keys.first().copied(),
            keys: keys.len(),
        }
    }
}

/// Takes letters and digits, and fails at anything else.
#[cfg(feature = "tracing")]
struct FirstWord(String);

#[cfg(feature = "tracing")]
impl std::fmt::Write for FirstWord {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = text.find(|char: char| !char.is_alphanumeric());
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0.push_str(word);
        match rest {
            "" => Ok(()),
            _ => Err(std::fmt::Error),
        }
    }
}

/// What a transaction changed.
#[derive(Clone)]
pub(crate) struct Delta {
    pub(crate) keys: Changes<KeyId, Tag>,
    pub(crate) keyspaces: Changes<u32, Keyspace>,
    pub(crate) quotas: Changes<u64, QuotaRecord>,
    /// The number of the quota that a key has.
    pub(crate) quota_of: Changes<KeyId, u64>,
    /// The limits that a key has in the place of its plan's.
    pub(crate) limits_of: Changes<KeyId, Vec<Limit>>,
    pub(crate) owner_settings: Changes<OwnerName, OwnerSettingsRecord>,
    /// The number of the quota that an owner has in a keyspace.
    pub(crate) owner_quota_of: Changes<OwnerName, u64>,
    /// Of extensions, by the names of their tables.
    pub(crate) extensions: Changes<(String, Vec<u8>), ExtensionRecord>,
    /// Keys whose records are damaged or missing: copies in memory must not grant any
    /// more.
    pub(crate) unreadable: Vec<KeyId>,
    /// The instant of the commit, behind which time never runs again.
    pub(crate) at: Timestamp,
    /// Whether the transaction set time back to that instant.
    pub(crate) sets_time_back: bool,
    /// How many commits there are with this one.
    pub(crate) commits: u64,
    pub(crate) waiting: Waiting,
}

impl Delta {
    /// Nothing: where a snapshot shows what the one before shows.
    pub(super) fn nothing(commits: u64) -> Self {
        Self {
            keys: Changes::new(),
            keyspaces: Changes::new(),
            quotas: Changes::new(),
            quota_of: Changes::new(),
            limits_of: Changes::new(),
            owner_settings: Changes::new(),
            owner_quota_of: Changes::new(),
            extensions: Changes::new(),
            unreadable: Vec::new(),
            at: Timestamp::MIN,
            sets_time_back: false,
            commits,
            waiting: Waiting::default(),
        }
    }

    /// As the transaction ends: leaves out what is as it was before.
    pub(super) fn settle(&mut self) {
        self.keys.settle();
        self.keyspaces.settle();
        self.quotas.settle();
        self.quota_of.settle();
        self.limits_of.settle();
        self.owner_settings.settle();
        self.owner_quota_of.settle();
        self.extensions.settle();
    }

    /// The keys whose copies in memory must go.
    pub(crate) fn stale_keys(&self) -> Vec<KeyId> {
        let changed = self.keys.iter().map(|(id, _)| id);
        changed.chain(self.unreadable.iter().copied()).collect()
    }

    /// What this does to the purses of quotas, in order.
    pub(crate) fn quota_events(&self) -> Vec<QuotaEvent> {
        let mut events = Vec::new();
        for (number, change) in self.quotas.iter() {
            let is_same = match (&change.old, &change.new) {
                (Some(old), Some(new)) => old.is_same_as(new),
                _ => false,
            };
            if !is_same && !change.is_none() {
                events.push(QuotaEvent::Changed(number));
            }
        }
        for event in &self.waiting.slices {
            // Whoever took a slice of what the quota is no more, takes another.
            if let QuotaEvent::Taken { slice, .. } | QuotaEvent::Ahead(slice) = event
                && let Some(change) = self.quotas.get(&slice.number)
                && !change.new.as_ref().is_some_and(|new| new.has(slice))
            {
                continue;
            }
            events.push(event.clone());
        }
        // Behind the slices: what other servers did after this one may be in the same commit.
        for (number, change) in self.quotas.iter() {
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && old.is_same_as(new)
            {
                let left = new.left();
                events.push(QuotaEvent::Left { number, left });
            }
        }
        // Of each key, where its last slice was taken.
        let taken: BTreeMap<u64, u64> = (self.waiting.slices.iter())
            .filter_map(|event| match event {
                QuotaEvent::Taken { name, slice, .. } => Some((*name, slice.number)),
                _ => None,
            })
            .collect();
        for (key, change) in self.quota_of.iter() {
            let taken = taken.get(&key.raw()).copied();
            let is_found_there = taken.is_some() && taken == change.new;
            if !is_found_there && !change.is_none() {
                events.push(QuotaEvent::Moved(key.raw()));
            }
        }
        events
    }
}

/// The tag of a hot record, which names its content. One that is too short is damaged.
pub(super) fn tag_of(record: &[u8]) -> Tag {
    record.last_chunk::<TAG_LEN>().copied().unwrap_or_default()
}
