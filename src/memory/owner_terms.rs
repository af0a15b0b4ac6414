//! What owners have of their own, and keys of limits of their own: in memory, to be read
//! without a lock by every verification that is charged.
//!
//! Settings of owners are all here; there are at most
//! [`OWNER_SETTINGS_MAX`](crate::bounds::OWNER_SETTINGS_MAX). Limits of keys come here as
//! they are first used, and go as they change.

use std::collections::hash_map::RandomState;
use std::sync::Arc;

use crate::memory::limiter::Terms;
use crate::memory::owner_names::{Name, OwnerNames};
use crate::memory::process::{Home, lock_at_home};
use crate::memory::registry::Registry;
use crate::model::error::{Corruption, Error};
use crate::model::id::KeyId;
use crate::model::limit::Limit;
use crate::model::owner_settings::Setting;
use crate::store::owner_settings::{OwnerName, OwnerSettingsRecord};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// The most keys whose own limits are kept. Where there are more, all are read anew.
const OWN_LIMITS_MAX: usize = 65_536;

/// What of an owner's settings a verification needs.
pub(crate) enum Own {
    Settings {
        /// Higher than that of any earlier settings of the owner.
        stamp: u64,
        /// The number of its plan; 0: as the defaults of its level say.
        plan: u16,
        /// Limits in the place of the plan's.
        limits: Option<Arc<Terms>>,
        /// Whether it has a quota of its own, or none whatever the defaults say.
        quota: Setting<()>,
    },
    /// They cannot be read: nothing below the owner can be charged.
    Damaged(Corruption),
}

pub(crate) struct OwnerTerms {
    by_name: papaya::HashMap<Name, Own, RandomState>,
    /// By how many servers limits of the fleet are divided. Held while settings are published.
    servers: Mutex<u64>,
    /// How often settings were published, of whatever owner.
    published: AtomicU64,
    /// Of the times that those of some owner went, the last.
    removed: AtomicU64,
    /// How often settings that had been published were there for all.
    shown: AtomicU64,
}

/// The settings of owners, as one verification reads them.
pub(crate) type Pinned<'a> = papaya::HashMapRef<'a, Name, Own, RandomState, papaya::LocalGuard<'a>>;

impl Default for OwnerTerms {
    fn default() -> Self {
        Self {
            by_name: papaya::HashMap::default(),
            servers: Mutex::new(1),
            published: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        }
    }
}

impl OwnerTerms {
    pub(crate) fn pin(&self) -> Pinned<'_> {
        self.by_name.pin()
    }

    /// The stamp of an owner that has no settings: to be asked before they are looked up.
    /// So it is not above that of settings which the owner gets later.
    pub(crate) fn stamp_of_none(&self) -> u64 {
        self.removed.load(Ordering::Acquire)
    }

    /// How often settings came, changed or went. Where that is the same before they are looked
    /// up and after a keyspace is loaded, they were so when the keyspace was.
    pub(crate) fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    /// Lets the settings of an owner be as they are in the store: a record, none, or what is
    /// wrong with theirs, where nothing below the owner can be charged. Called by whoever
    /// publishes a change, one at a time, and after the keyspace, whose plans they name.
    pub(crate) fn publish(
        &self,
        registry: &Registry,
        names: &OwnerNames,
        (keyspace, owner): &OwnerName,
        read: Result<Option<&OwnerSettingsRecord>, Corruption>,
    ) {
        let name = names.of_owner(*keyspace, owner);
        let known = self.by_name.pin();
        let servers = lock(&self.servers);
        let stamp = 1 + self.published.fetch_add(1, Ordering::AcqRel);
        let new = match read {
            Ok(record) => record.map(|record| Own::of(record, stamp, *servers)),
            Err(damage) => Some(Own::Damaged(damage)),
        };
        let has_settings = new.is_some();
        let had_settings = match new {
            Some(own) => known.insert(name, own).is_some(),
            None => {
                self.removed.store(stamp, Ordering::Release);
                known.remove(&name).is_some()
            }
        };
        if let Some(entry) = registry.get(*keyspace) {
            entry.count_owners(isize::from(has_settings) - isize::from(had_settings));
        }
        // Before whoever published them publishes anything else.
        self.shown.fetch_add(1, Ordering::AcqRel);
    }

    /// Divides the limits of the fleet by so many servers from now on.
    pub(crate) fn divide(&self, servers: u64) {
        let mut of = lock(&self.servers);
        *of = servers;
        let known = self.by_name.pin();
        for (name, own) in &known {
            let Own::Settings {
                plan,
                limits: Some(limits),
                quota,
                ..
            } = own
            else {
                continue;
            };
            if let Some(divided) = limits.divided(servers) {
                let divided = Own::Settings {
                    stamp: 1 + self.published.fetch_add(1, Ordering::AcqRel),
                    plan: *plan,
                    limits: Some(divided),
                    quota: *quota,
                };
                known.insert(*name, divided);
                self.shown.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

impl Own {
    fn of(record: &OwnerSettingsRecord, stamp: u64, servers: u64) -> Self {
        let terms = |limits: &Vec<Limit>| Terms::new(limits, servers);
        Self::Settings {
            stamp,
            plan: record.plan,
            limits: record.limits.as_ref().map(terms),
            quota: record.quota.map(drop),
        }
    }
}

/// Limits that keys have of their own.
pub(crate) struct OwnLimits {
    by_key: papaya::HashMap<u64, Arc<Terms>, RandomState>,
    /// How often limits of keys were changed. What was read before a change is not kept
    /// after it.
    changes: AtomicU64,
    /// Held while limits are kept or forgotten: by how many servers those of the fleet are
    /// divided.
    keeping: Mutex<u64>,
}

impl Default for OwnLimits {
    fn default() -> Self {
        Self {
            by_key: papaya::HashMap::default(),
            changes: AtomicU64::new(0),
            keeping: Mutex::new(1),
        }
    }
}

impl OwnLimits {
    pub(crate) fn get(&self, key: KeyId) -> Option<Arc<Terms>> {
        self.by_key.pin().get(&key.raw()).cloned()
    }

    /// How often limits were changed so far: to be asked before they are read.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Keeps what was read of a key, unless limits were changed since.
    pub(crate) fn keep(
        &self,
        key: KeyId,
        limits: &[Limit],
        changes: u64,
        home: &Home,
    ) -> Result<Arc<Terms>, Error> {
        let servers = lock_at_home(&self.keeping, home)?;
        let terms = Terms::new(limits, *servers);
        if self.changes() == changes {
            let known = self.by_key.pin();
            if known.len() >= OWN_LIMITS_MAX {
                known.clear();
            }
            known.insert(key.raw(), terms.clone());
        }
        Ok(terms)
    }

    /// Forgets what was read of keys whose limits are others now. After their change can
    /// be read.
    pub(crate) fn forget(&self, keys: impl Iterator<Item = KeyId>) {
        let _keeping = lock(&self.keeping);
        self.changes.fetch_add(1, Ordering::AcqRel);
        let known = self.by_key.pin();
        keys.for_each(|key| {
            known.remove(&key.raw());
        });
    }

    /// Divides the limits of the fleet by so many servers from now on.
    pub(crate) fn divide(&self, servers: u64) {
        let mut keeping = lock(&self.keeping);
        *keeping = servers;
        let known = self.by_key.pin();
        for (key, terms) in &known {
            if let Some(divided) = terms.divided(servers) {
                known.insert(*key, divided);
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(any(gatekey_loom, gatekey_shuttle)))]
mod tests {
    use super::*;

    fn key(number: usize) -> KeyId {
        KeyId::from_raw(u64::try_from(number).unwrap())
    }

    fn keep(limits: &OwnLimits, key: KeyId, changes: u64) {
        let read = vec![Limit::per_minute(5)];
        let kept = limits.keep(key, &read, changes, &Home::new()).unwrap();
        assert_eq!(*kept.limits, *read, "it is told whether it is kept or not");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let limits = OwnLimits::default();
        let before = limits.changes();
        keep(&limits, key(1), before);
        assert!(limits.get(key(1)).is_some());
        // Of any key: who reads asks but once.
        limits.forget([key(1)].into_iter());
        assert!(limits.get(key(1)).is_none());
        keep(&limits, key(1), before);
        keep(&limits, key(2), before);
        assert!(limits.get(key(1)).is_none() && limits.get(key(2)).is_none());
        keep(&limits, key(1), limits.changes());
        keep(&limits, key(2), limits.changes());
        limits.forget([key(2)].into_iter());
        assert!(limits.get(key(1)).is_some() && limits.get(key(2)).is_none());
    }

    #[test]
    fn no_more_is_kept_than_there_may_be() {
        let limits = OwnLimits::default();
        for number in 1..=OWN_LIMITS_MAX + 1 {
            keep(&limits, key(number), 0);
            let known = limits.by_key.len();
            assert!(0 < known && known <= OWN_LIMITS_MAX, "{known}");
        }
        assert_eq!(limits.by_key.len(), 1, "all are read anew");
    }
}
